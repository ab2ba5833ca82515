//! Metrics and health over HTTP: `/metrics`, `/healthz`, `/readyz`.
//!
//! Owns: three paths, limits. Does not own: what they say, the socket (`http_socket`). Answers are short and nothing is read
//! but a request's head; whoever holds more connections, sends longer heads or sends them slower than anybody needs is
//! cut off.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use super::http_socket::{HttpLimits, HttpSocket};
use super::listener::ListenFault;
use crate::metrics::EncodeFault;

/// A scraper or two, probes of an orchestrator, somebody with curl.
const CONNECTIONS_MAX: usize = 32;

/// Heads longer than this are no scraper's (hyper's least).
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// A head that takes longer is nobody's who wants an answer.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection is closed after so long, whatever it does: scrapers connect again.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(300);

/// What is published.
pub trait Published: Send + Sync + 'static {
    /// The text of `/metrics`.
    ///
    /// # Errors
    /// It cannot be written.
    fn metrics(&self) -> Result<Vec<u8>, EncodeFault>;

    /// Why the proxy should get no clients now; empty: it should.
    fn unready(&self) -> Vec<String>;
}

/// A socket that is listened on.
pub struct HttpListener(HttpSocket);

impl HttpListener {
    /// Listens. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub fn bind(address: SocketAddr) -> Result<Self, ListenFault> {
        let (connections_max, head_bytes_max, head_timeout) = (CONNECTIONS_MAX, HEAD_BYTES_MAX, HEAD_TIMEOUT);
        let limits =
            HttpLimits { connections_max, head_bytes_max, head_timeout, connection_timeout: CONNECTION_TIMEOUT };
        HttpSocket::bind(address, limits).map(Self)
    }

    /// Where it listens; where port 0 was asked for, the one the system chose.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.0.address()
    }

    /// If dropped: nobody is accepted any more; who was accepted is answered.
    ///
    /// Answers until dropped.
    pub async fn serve<P: Published>(self, published: Arc<P>) {
        let answered = move |request: Request<Incoming>, _| {
            std::future::ready(answer(request.method(), request.uri().path(), &*published))
        };
        self.0.serve("metrics", answered).await;
    }
}

fn answer<P: Published>(method: &Method, path: &str, published: &P) -> Response<Full<Bytes>> {
    let is_known = matches!(path, "/metrics" | "/healthz" | "/readyz");
    if is_known && !matches!(*method, Method::GET | Method::HEAD) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/metrics" => match published.metrics() {
            Ok(text) => {
                let mut response = plain(StatusCode::OK, text);
                let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
                response.headers_mut().insert(CONTENT_TYPE, kind);
                response
            }
            Err(fault) => {
                tracing::error!(%fault, "metrics");
                plain(StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be encoded\n")
            }
        },
        // Answering at all is the proof: this runs on the threads that serve clients.
        "/healthz" => plain(StatusCode::OK, "ok\n"),
        "/readyz" => match published.unready() {
            reasons if reasons.is_empty() => plain(StatusCode::OK, "ready\n"),
            reasons => plain(StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", reasons.join("\n"))),
        },
        _ => plain(StatusCode::NOT_FOUND, "/metrics, /healthz, /readyz\n"),
    }
}

fn plain(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    struct Paper(Vec<String>);

    impl Published for Paper {
        fn metrics(&self) -> Result<Vec<u8>, EncodeFault> {
            Ok(b"tenantgate_ready 1\n".to_vec())
        }
        fn unready(&self) -> Vec<String> {
            self.0.clone()
        }
    }

    /// What comes back for these bytes until the server closes.
    async fn said(reasons: &[&str], request: &[u8]) -> String {
        let listener = HttpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.address().unwrap();
        let published = Arc::new(Paper(reasons.iter().map(|reason| (*reason).to_owned()).collect()));
        let serving = tokio::spawn(listener.serve(published));
        let mut tcp = TcpStream::connect(address).await.unwrap();
        tcp.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        drop(tcp.read_to_end(&mut answer).await);
        serving.abort();
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn request(line: &str) -> Vec<u8> {
        format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").into_bytes()
    }

    #[tokio::test]
    async fn three_paths_and_two_methods_are_answered() {
        for (line, status, end) in [
            ("GET /metrics", "HTTP/1.1 200", "\r\n\r\ntenantgate_ready 1\n"),
            ("HEAD /metrics", "HTTP/1.1 200", "\r\n\r\n"),
            ("GET /healthz", "HTTP/1.1 200", "\r\n\r\nok\n"),
            ("GET /readyz?verbose", "HTTP/1.1 200", "\r\n\r\nready\n"),
            ("POST /metrics", "HTTP/1.1 405", "only GET and HEAD\n"),
            ("GET /", "HTTP/1.1 404", "/metrics, /healthz, /readyz\n"),
        ] {
            let answer = said(&[], &request(line)).await;
            assert!(answer.starts_with(status) && answer.ends_with(end), "{line}: {answer}");
        }
        let answer = said(&["draining", "pool a: failing"], &request("GET /readyz")).await;
        assert!(
            answer.starts_with("HTTP/1.1 503") && answer.ends_with("\r\n\r\ndraining\npool a: failing\n"),
            "{answer}"
        );
    }

    /// A request whose head is so long, its end included.
    fn long_request(bytes: usize) -> Vec<u8> {
        let (front, end) = ("GET /healthz HTTP/1.1\r\nConnection: close\r\nX: ", "\r\n\r\n");
        format!("{front}{}{end}", "a".repeat(bytes - front.len() - end.len())).into_bytes()
    }

    #[tokio::test]
    async fn what_is_no_request_is_cut_off() {
        let long = long_request(2 * HEAD_BYTES_MAX);
        for (what, request, status) in [
            ("a head of the greatest length", long_request(HEAD_BYTES_MAX), "HTTP/1.1 200 "),
            ("one that has reached it and goes on", long[..HEAD_BYTES_MAX].to_vec(), "HTTP/1.1 431 "),
            ("one twice as long", long, "HTTP/1.1 431 "),
            ("a TLS record", b"\x16\x03\x01\x02\x00\r\n\r\n".to_vec(), "HTTP/1.1 400 "),
            ("a startup packet", b"\0\0\0\x08\x04\xd2\x16\x2f".to_vec(), "HTTP/1.1 400 "),
        ] {
            let answer = said(&[], &request).await;
            assert!(answer.starts_with(status), "{what}: {answer:?}");
        }
    }

    /// Nothing can be said in a protocol that is not spoken here.
    #[tokio::test]
    async fn http_2_is_closed_without_a_word() {
        assert_eq!(said(&[], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await, "");
    }
}
