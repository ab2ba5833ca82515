//! How commands connect to the proxy and to databases: over TLS where the other side offers it.
//!
//! Its certificate is looked at only where roots are given (`--ca`), and then TLS is demanded and the certificate has to be made
//! out to the host, as with libpq's `verify-full`.
//!
//! Owns: connecting. Does not own: how certificates are looked at (`driver::tls`), where to connect to (each command).

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::{Client, Config, Connection, NoTls};
use tokio_rustls::TlsConnector;

use super::environment::read_text;
use crate::config::TrustedRoots;
use crate::driver::tls::{Verification, server_side};

/// SSLRequest.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// How connections are made secure.
#[derive(Clone)]
pub struct Secure {
    config: Arc<ClientConfig>,
    /// Roots are given.
    is_demanded: bool,
}

/// A connection, whatever it is made of.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

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
        Ok(Self { config, is_demanded: ca.is_some() })
    }

    /// Connects, with TLS as the settings want it, and always where roots are given. If dropped: the connection is closed.
    ///
    /// # Errors
    /// There is no connection, or not one that is wanted.
    pub async fn open(&self, to: &Config) -> io::Result<Box<dyn Duplex>> {
        let port = to.get_ports().first().copied().unwrap_or(5432);
        match to.get_hosts().first() {
            None => Err(io::Error::other("no host is named")),
            Some(Host::Unix(_)) if self.is_demanded => {
                Err(io::Error::other("a unix socket has no TLS, which --ca demands"))
            }
            Some(Host::Unix(folder)) => {
                Ok(Box::new(UnixStream::connect(folder.join(format!(".s.PGSQL.{port}"))).await?))
            }
            Some(Host::Tcp(host)) => self.over_tcp(TcpStream::connect((host.as_str(), port)).await?, host, to).await,
        }
    }

    async fn over_tcp(&self, mut tcp: TcpStream, host: &str, to: &Config) -> io::Result<Box<dyn Duplex>> {
        tcp.set_nodelay(true)?;
        let mode = if self.is_demanded { SslMode::Require } else { to.get_ssl_mode() };
        if mode == SslMode::Disable {
            return Ok(Box::new(tcp));
        }
        tcp.write_all(&SSL_REQUEST).await?;
        match tcp.read_u8().await? {
            b'S' => {
                let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
                Ok(Box::new(TlsConnector::from(Arc::clone(&self.config)).connect(name, tcp).await?))
            }
            b'N' if mode == SslMode::Prefer => Ok(Box::new(tcp)),
            _ => Err(io::Error::other("the other side offers no TLS")),
        }
    }

    /// Connects and logs in. If dropped: the connection is closed.
    ///
    /// # Errors
    /// There is no connection, or not one that is wanted, or the login is refused, in words.
    pub async fn log_in(&self, to: &Config) -> Result<(Client, Talk), String> {
        let stream = self.open(to).await.map_err(|error| error.to_string())?;
        let mut settings = to.clone();
        // It is done.
        settings.ssl_mode(SslMode::Disable);
        settings.connect_raw(stream, NoTls).await.map_err(|error| words(&error))
    }
}

/// What has to run for a client to be answered.
pub type Talk = Connection<Box<dyn Duplex>, NoTlsStream>;

/// What the other side said.
pub fn words(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => {
            [Some(said.message()), said.detail(), said.hint()].into_iter().flatten().collect::<Vec<_>>().join(" ")
        }
        None => error.to_string(),
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
