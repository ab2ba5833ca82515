//! Connecting to a server: address, TLS, login; and cancel requests on a connection of their own.
//!
//! Owns: one attempt. Does not own: when to try again, how many servers there may be, what they serve.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use bytes::BytesMut;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::cancel::CancelTarget;
use super::stream::{Stream, tune};
use crate::auth::scram::NONCE_BYTES;
use crate::config::ServerHost;
use crate::fault::{Code, Fault};
use crate::upstream::login::{Identity, LoggedIn, ServerLogin, ServerLoginFault, ServerRefusal};
use crate::wire::frontend::{put_cancel_request, put_ssl_request};

/// Bytes of the read buffer during login; grows to one message at most.
const LOGIN_READ_BYTES: usize = 4 * 1024;

/// Addresses tried per attempt: a name that resolves to more is most likely a mistake.
const ADDRESSES_MAX: usize = 16;

/// TLS towards a server. Unix sockets never have any.
#[derive(Clone, Debug)]
pub enum TargetTls {
    /// Never.
    Disable,
    /// If the server has it. Unlike libpq, a handshake that fails is not followed by an attempt in the
    /// clear.
    Prefer(Arc<ClientConfig>),
    /// Always.
    Require(Arc<ClientConfig>),
}

/// Where servers are, and how they are reached.
#[derive(Clone, Debug)]
pub struct ServerTarget {
    /// Where.
    pub host: ServerHost,
    /// TCP port, or the number in the unix socket's name.
    pub port: u16,
    /// Encrypted or not.
    pub tls: TargetTls,
    /// For everything from name resolution to ReadyForQuery.
    pub connect_timeout: Duration,
}

/// The one server of a target that was reached: where its cancel requests have to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReachedServer {
    address: ReachedAddress,
    is_tls: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum ReachedAddress {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl ReachedServer {
    /// Its address, unless it is behind a unix socket.
    #[must_use]
    pub const fn socket_address(&self) -> Option<SocketAddr> {
        match &self.address {
            ReachedAddress::Tcp(address) => Some(*address),
            ReachedAddress::Unix(_) => None,
        }
    }
}

impl std::fmt::Display for ReachedServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.address {
            ReachedAddress::Tcp(address) => write!(f, "{address}"),
            ReachedAddress::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A server that is logged in and idle.
#[must_use]
#[derive(Debug)]
pub struct Connected {
    /// Its connection.
    pub stream: Stream,
    /// What is known about it.
    pub logged_in: LoggedIn,
    /// Bytes that came behind ReadyForQuery (a notice or ParameterStatus may).
    pub leftover: BytesMut,
    /// Where it is.
    pub reached: ReachedServer,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ConnectFault {
    /// It took too long.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The name has no address.
    #[error("the host name cannot be resolved: {0}")]
    Resolve(io::Error),
    /// Nobody listens, or the network does not carry.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// The connection broke.
    #[error("the connection failed during login: {0}")]
    Io(io::Error),
    /// The server closed it.
    #[error("the server closed the connection during login")]
    Closed,
    /// TLS is required and the server has none.
    #[error("the server does not support TLS, which is required")]
    TlsMissing,
    /// Something else than `S` or `N`, or more than that.
    #[error("unexpected answer to SSLRequest")]
    TlsAnswer,
    /// The handshake failed: the certificate, most likely.
    #[error("TLS with the server failed: {0}")]
    Tls(io::Error),
    /// The host is no name a certificate could be made out to.
    #[error("the host is no valid name for TLS")]
    TlsName,
    /// No randomness for a nonce.
    #[error("the system gives no random bytes")]
    Random,
    /// The login itself.
    #[error(transparent)]
    Login(#[from] ServerLoginFault),
}

impl ConnectFault {
    /// What a waiting client is told. Addresses and the server's words stay in the log, but for what a
    /// client has to know to act.
    #[must_use]
    pub fn fault(&self) -> Fault {
        let fault = Fault::of(Code::ServerUnreachable);
        match self {
            ConnectFault::Timeout(_) => fault.with_detail("The server did not answer in time."),
            ConnectFault::Resolve(_) | ConnectFault::Connect(_) | ConnectFault::Io(_) | ConnectFault::Closed => {
                fault.with_detail("The connection to the server failed.")
            }
            ConnectFault::TlsMissing
            | ConnectFault::TlsAnswer
            | ConnectFault::Tls(_)
            | ConnectFault::TlsName
            | ConnectFault::Random => fault.with_detail("No secure connection to the server could be made."),
            ConnectFault::Login(ServerLoginFault::Refused { refusal, .. }) => {
                fault.with_detail(refusal_detail(*refusal))
            }
            ConnectFault::Login(_) => fault.with_detail("The proxy could not log in to the server."),
        }
    }
}

const fn refusal_detail(refusal: ServerRefusal) -> &'static str {
    match refusal {
        ServerRefusal::Authentication | ServerRefusal::Error => "The proxy could not log in to the server.",
        ServerRefusal::TooManyConnections => "The server has too many connections.",
        ServerRefusal::NotNow => "The server is starting up, shutting down or recovering.",
        ServerRefusal::DatabaseMissing => "The database does not exist on the server.",
    }
}

/// If dropped: the attempt ends, the server sees a closed connection.
///
/// Connects and logs in, within the target's time limit.
///
/// # Errors
/// Says which step failed; nothing is tried twice.
pub async fn connect(target: &ServerTarget, identity: Identity) -> Result<Connected, ConnectFault> {
    let attempt = async {
        let (socket, address) = open(target).await?;
        let stream = secure(socket, target).await?;
        let reached = ReachedServer { address, is_tls: stream.is_tls() };
        log_in(stream, reached, identity).await
    };
    within(target.connect_timeout, attempt).await
}

/// If dropped: the request may or may not have been sent.
///
/// Asks a server to cancel what a process is doing, and waits until it closes the connection: only then
/// has it sent the signal, and the process may serve the next client. TLS as that process has it.
///
/// # Errors
/// The request could not be sent, or the server did not close within the target's time limit.
pub async fn send_cancel(
    target: &ServerTarget,
    reached: &ReachedServer,
    process_id: i32,
    secret: &[u8],
) -> Result<(), ConnectFault> {
    let attempt = async {
        let socket = match &reached.address {
            ReachedAddress::Tcp(address) => open_tcp(&[*address]).await?.0,
            ReachedAddress::Unix(path) => open_unix(path).await?,
        };
        let mut stream = match socket {
            Socket::Tcp(tcp) if reached.is_tls => require_tls(tcp, target).await?,
            socket => socket.plain(),
        };
        let mut request = BytesMut::new();
        put_cancel_request(&mut request, process_id, secret);
        stream.write_all(&request).await.map_err(ConnectFault::Io)?;
        stream.flush().await.map_err(ConnectFault::Io)?;
        wait_for_close(&mut stream).await;
        Ok(())
    };
    within(target.connect_timeout, attempt).await
}

/// If dropped: the request may or may not have been sent.
///
/// Asks for what a client's server is doing to be cancelled; that it could not be asked is logged.
pub async fn send_cancel_to(target: &CancelTarget) {
    let sent = send_cancel(&target.target, &target.reached, target.key.process_id, &target.key.secret).await;
    if let Err(fault) = sent {
        tracing::warn!(%fault, "a cancel request could not be passed on");
    }
}

async fn within<T>(limit: Duration, attempt: impl Future<Output = Result<T, ConnectFault>>) -> Result<T, ConnectFault> {
    timeout(limit, attempt).await.unwrap_or(Err(ConnectFault::Timeout(limit)))
}

/// The server answers nothing; whatever it does send, and however it closes, it is done.
async fn wait_for_close(stream: &mut Stream) {
    let mut ignored = [0_u8; 256];
    while matches!(stream.read(&mut ignored).await, Ok(1..)) {}
}

// -- address

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    fn plain(self) -> Stream {
        match self {
            Socket::Tcp(tcp) => Stream::Tcp(tcp),
            Socket::Unix(unix) => Stream::Unix(unix),
        }
    }
}

async fn open(target: &ServerTarget) -> Result<(Socket, ReachedAddress), ConnectFault> {
    match &target.host {
        ServerHost::Name(name) => {
            let found = lookup_host((&**name, target.port)).await.map_err(ConnectFault::Resolve)?;
            let addresses: Vec<_> = found.take(ADDRESSES_MAX).collect();
            open_reached(&addresses).await
        }
        ServerHost::Address(address) => open_reached(&[SocketAddr::new(*address, target.port)]).await,
        ServerHost::UnixFolder(folder) => {
            let path = folder.join(format!(".s.PGSQL.{}", target.port));
            Ok((open_unix(&path).await?, ReachedAddress::Unix(path)))
        }
    }
}

async fn open_reached(addresses: &[SocketAddr]) -> Result<(Socket, ReachedAddress), ConnectFault> {
    let (socket, address) = open_tcp(addresses).await?;
    Ok((socket, ReachedAddress::Tcp(address)))
}

async fn open_tcp(addresses: &[SocketAddr]) -> Result<(Socket, SocketAddr), ConnectFault> {
    let tcp = TcpStream::connect(addresses).await.map_err(ConnectFault::Connect)?;
    tune(&tcp).map_err(ConnectFault::Connect)?;
    let address = tcp.peer_addr().map_err(ConnectFault::Connect)?;
    Ok((Socket::Tcp(tcp), address))
}

async fn open_unix(path: &Path) -> Result<Socket, ConnectFault> {
    UnixStream::connect(path).await.map(Socket::Unix).map_err(ConnectFault::Connect)
}

// -- TLS

async fn secure(socket: Socket, target: &ServerTarget) -> Result<Stream, ConnectFault> {
    let tcp = match socket {
        Socket::Tcp(tcp) => tcp,
        unix @ Socket::Unix(_) => return Ok(unix.plain()),
    };
    match &target.tls {
        TargetTls::Disable => Ok(Stream::Tcp(tcp)),
        TargetTls::Prefer(config) => match ask_for_tls(tcp).await? {
            (tcp, HasTls::Yes) => shake_hands(tcp, target, config).await,
            (tcp, HasTls::No) => Ok(Stream::Tcp(tcp)),
        },
        TargetTls::Require(_) => require_tls(tcp, target).await,
    }
}

async fn require_tls(tcp: TcpStream, target: &ServerTarget) -> Result<Stream, ConnectFault> {
    let config = match &target.tls {
        TargetTls::Disable => return Err(ConnectFault::TlsMissing),
        TargetTls::Prefer(config) | TargetTls::Require(config) => config,
    };
    match ask_for_tls(tcp).await? {
        (tcp, HasTls::Yes) => shake_hands(tcp, target, config).await,
        (_, HasTls::No) => Err(ConnectFault::TlsMissing),
    }
}

enum HasTls {
    Yes,
    No,
}

/// Exactly one byte may come: more of them, in the clear, would be somebody between us and the server
/// putting words into its mouth.
async fn ask_for_tls(mut tcp: TcpStream) -> Result<(TcpStream, HasTls), ConnectFault> {
    let mut request = BytesMut::new();
    put_ssl_request(&mut request);
    tcp.write_all(&request).await.map_err(ConnectFault::Io)?;
    let mut answer = [0_u8; 16];
    let count = tcp.read(&mut answer).await.map_err(ConnectFault::Io)?;
    match answer.get(..count) {
        Some(b"S") => Ok((tcp, HasTls::Yes)),
        Some(b"N") => Ok((tcp, HasTls::No)),
        Some(b"") => Err(ConnectFault::Closed),
        Some(_) | None => Err(ConnectFault::TlsAnswer),
    }
}

async fn shake_hands(
    tcp: TcpStream,
    target: &ServerTarget,
    config: &Arc<ClientConfig>,
) -> Result<Stream, ConnectFault> {
    let name = match &target.host {
        ServerHost::Name(name) => ServerName::try_from(name.to_string()).map_err(|_| ConnectFault::TlsName)?,
        ServerHost::Address(address) => ServerName::from(*address),
        ServerHost::UnixFolder(_) => return Err(ConnectFault::TlsName),
    };
    let connector = TlsConnector::from(Arc::clone(config));
    let tls = connector.connect(name, tcp).await.map_err(ConnectFault::Tls)?;
    Ok(Stream::ServerTls(Box::new(tls)))
}

// -- login

async fn log_in(mut stream: Stream, reached: ReachedServer, identity: Identity) -> Result<Connected, ConnectFault> {
    let mut nonce = [0_u8; NONCE_BYTES];
    rand::fill(&mut nonce).map_err(|_| ConnectFault::Random)?;
    let (mut input, mut out) = (BytesMut::with_capacity(LOGIN_READ_BYTES), BytesMut::new());
    let mut login = ServerLogin::start(identity, nonce, &mut out);
    loop {
        if !out.is_empty() {
            stream.write_all(&out.split()).await.map_err(ConnectFault::Io)?;
            stream.flush().await.map_err(ConnectFault::Io)?;
        }
        input.reserve(LOGIN_READ_BYTES);
        if stream.read_buf(&mut input).await.map_err(ConnectFault::Io)? == 0 {
            return Err(ConnectFault::Closed);
        }
        if let Some(logged_in) = login.handle_bytes(&mut input, &mut out)? {
            return Ok(Connected { stream, logged_in, leftover: input, reached });
        }
    }
}
