//! A socket that speaks HTTP/1.1, within limits.
//!
//! Owns: accepting, how many connections there are, how long heads and connections may take. Does not own: what is answered.
//! Whoever holds more connections, sends longer heads or sends them slower than the limits allow is cut off.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::listener::{ACCEPT_PAUSE, ListenFault, bind_tcp};

/// What a socket takes.
#[derive(Clone, Copy, Debug)]
pub struct HttpLimits {
    /// Connections at the same time; one more is closed without a word.
    pub connections_max: usize,
    /// Bytes of a head, and of what is held of a connection.
    pub head_bytes_max: usize,
    /// How long a head may take.
    pub head_timeout: Duration,
    /// After so long a connection is closed, whatever it does.
    pub connection_timeout: Duration,
}

/// The socket.
pub struct HttpSocket {
    socket: TcpListener,
    limits: HttpLimits,
}

impl HttpSocket {
    /// Listens. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub fn bind(address: SocketAddr, limits: HttpLimits) -> Result<Self, ListenFault> {
        let backlog = u32::try_from(limits.connections_max).unwrap_or(u32::MAX);
        let bound = bind_tcp(address, backlog).map(|socket| Self { socket, limits });
        bound.map_err(|reason| ListenFault { address: address.to_string(), reason })
    }

    /// Where it listens; where port 0 was asked for, the one the system chose.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()
    }

    /// If dropped: nobody is accepted any more; who was accepted is answered.
    ///
    /// Answers until dropped; `what` stands in the log.
    pub async fn serve<A, F>(self, what: &'static str, answer: A)
    where
        A: Fn(Request<Incoming>, SocketAddr) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Full<Bytes>>> + Send,
    {
        let Self { socket, limits } = self;
        let places = Arc::new(Semaphore::new(limits.connections_max));
        loop {
            match socket.accept().await {
                Ok((tcp, address)) => match Arc::clone(&places).try_acquire_owned() {
                    Ok(place) => {
                        let answer = answer.clone();
                        tokio::spawn(async move {
                            answer_all(tcp, address, limits, answer).await;
                            drop(place);
                        });
                    }
                    // Closed without a word: whoever opens so many does not listen.
                    Err(_) => tracing::debug!(%address, what, "too many HTTP connections"),
                },
                Err(error) => {
                    tracing::warn!(%error, what, "cannot accept an HTTP connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// If dropped: the connection is closed.
async fn answer_all<A, F>(tcp: TcpStream, address: SocketAddr, limits: HttpLimits, answer: A)
where
    A: Fn(Request<Incoming>, SocketAddr) -> F,
    F: Future<Output = Response<Full<Bytes>>>,
{
    let service = service_fn(|request: Request<Incoming>| {
        let answered = answer(request, address);
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(limits.head_timeout).max_buf_size(limits.head_bytes_max);
    let connection = server.serve_connection(TokioIo::new(tcp), service);
    match timeout(limits.connection_timeout, connection).await {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(error)) => tracing::debug!(%address, %error, "an HTTP connection failed"),
    }
}
