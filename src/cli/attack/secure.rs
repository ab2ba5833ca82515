//! TLS of the tool's connections.
//!
//! Where the other side offers it, it is used; its certificate is looked at only where roots are given (`--ca`), as in libpq.
//!
//! Owns: putting rustls under tokio-postgres. Does not own: how certificates are looked at (`driver::tls`).

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;

use crate::cli::environment::read_text;
use crate::config::TrustedRoots;
use crate::driver::tls::{Verification, server_side};

/// How connections are made secure.
#[derive(Clone)]
pub struct Secure {
    config: Arc<ClientConfig>,
}

impl Secure {
    /// With roots (PEM) that the other side's certificate has to be signed by, made out to its host; else it is not looked at.
    ///
    /// # Errors
    /// The roots cannot be used.
    pub fn new(ca: Option<&Path>) -> Result<Self, String> {
        let verification = match ca {
            None => Verification::Unverified,
            Some(path) => Verification::Full(TrustedRoots::Given(roots(path)?)),
        };
        let config = server_side(&verification, None).map_err(|fault| format!("--ca: {fault}"))?;
        Ok(Self { config })
    }
}

fn roots(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let told = |reason: String| format!("--ca: {}: {reason}", path.display());
    let text = read_text(path).map_err(told)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match all {
        Ok(roots) if !roots.is_empty() => Ok(roots),
        Ok(_) => Err(told("it holds no certificate".to_owned())),
        Err(error) => Err(told(error.to_string())),
    }
}

impl<S> MakeTlsConnect<S> for Secure
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Stream<S>;
    type TlsConnect = Connect;
    type Error = io::Error;

    fn make_tls_connect(&mut self, domain: &str) -> io::Result<Connect> {
        let name = ServerName::try_from(domain.to_owned()).map_err(io::Error::other)?;
        Ok(Connect { connector: TlsConnector::from(Arc::clone(&self.config)), name })
    }
}

/// One connection's handshake.
pub struct Connect {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl<S> TlsConnect<S> for Connect
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Stream<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move { self.connector.connect(self.name, stream).await.map(Stream) })
    }
}

/// A connection under TLS. Nobody's password is bound to it.
pub struct Stream<S>(tokio_rustls::client::TlsStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, out)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Stream<S> {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}
