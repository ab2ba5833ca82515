//! One connection, to a client or a server, encrypted or not.
//!
//! An enum rather than a trait object: the common case, plain TCP, costs one predictable branch a call.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::{client, server};

use super::registry::TlsFacts;

/// A peer that has said nothing for so long is asked whether it is still there …
const KEEPALIVE_TIME: Duration = Duration::from_secs(60);
/// … so often …
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// … and given up after so many questions.
const KEEPALIVE_RETRIES: u32 = 4;

/// A byte stream. TLS states are boxed: they are a kilobyte, and an idle plain client should not carry
/// that.
#[derive(Debug)]
pub enum Stream {
    /// Plain TCP.
    Tcp(TcpStream),
    /// A unix socket.
    Unix(UnixStream),
    /// A client's TLS over TCP.
    ClientTls(Box<server::TlsStream<TcpStream>>),
    /// TLS over TCP to a server.
    ServerTls(Box<client::TlsStream<TcpStream>>),
}

impl Stream {
    /// Whether the bytes are encrypted.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        match self {
            Stream::Tcp(_) | Stream::Unix(_) => false,
            Stream::ClientTls(_) | Stream::ServerTls(_) => true,
        }
    }

    /// Version and cipher of TLS, if there is any.
    #[must_use]
    pub fn tls_facts(&self) -> Option<TlsFacts> {
        let (version, suite) = match self {
            Stream::Tcp(_) | Stream::Unix(_) => return None,
            Stream::ClientTls(tls) => {
                let connection = tls.get_ref().1;
                (connection.protocol_version()?, connection.negotiated_cipher_suite()?)
            }
            Stream::ServerTls(tls) => {
                let connection = tls.get_ref().1;
                (connection.protocol_version()?, connection.negotiated_cipher_suite()?)
            }
        };
        Some(TlsFacts { version, suite: suite.suite() })
    }

    /// The certificates a client has shown, its own first.
    #[must_use]
    pub fn client_chain(&self) -> Box<[CertificateDer<'static>]> {
        match self {
            Stream::ClientTls(tls) => tls.get_ref().1.peer_certificates().unwrap_or_default().into(),
            Stream::Tcp(_) | Stream::Unix(_) | Stream::ServerTls(_) => Box::default(),
        }
    }

    /// Our own address on this connection; `None` over a unix socket, or where it is gone already.
    #[must_use]
    pub fn local_address(&self) -> Option<SocketAddr> {
        match self {
            Stream::Tcp(tcp) => tcp.local_addr().ok(),
            Stream::Unix(_) => None,
            Stream::ClientTls(tls) => tls.get_ref().0.local_addr().ok(),
            Stream::ServerTls(tls) => tls.get_ref().0.local_addr().ok(),
        }
    }
}

/// Sets what every TCP connection of the proxy has: no delay (packets are complete when written) and
/// keep-alive (a peer whose machine died would hold its server for ever).
///
/// # Errors
/// The socket is gone already.
pub fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_TIME).with_interval(KEEPALIVE_INTERVAL);
    SockRef::from(stream).set_tcp_keepalive(&keepalive.with_retries(KEEPALIVE_RETRIES))
}

/// Calls the same method on whichever stream it is; all of them are `Unpin`.
macro_rules! forward {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Stream::Tcp(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Stream::Unix(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Stream::ClientTls(stream) => {
                let $stream = Pin::new(&mut **stream);
                $call
            }
            Stream::ServerTls(stream) => {
                let $stream = Pin::new(&mut **stream);
                $call
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        forward!(self, stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        forward!(self, stream => stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        forward!(self, stream => stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Tcp(stream) => stream.is_write_vectored(),
            Stream::Unix(stream) => stream.is_write_vectored(),
            Stream::ClientTls(stream) => stream.is_write_vectored(),
            Stream::ServerTls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, stream => stream.poll_shutdown(cx))
    }
}
