//! Connecting to a server: host, address, TLS, login; and cancel requests on a connection of their own.
//!
//! Owns: one search among the hosts of a group, each address with its own time limit. Does not own: when to search
//! again, how many servers there may be, what they serve; nor the order of hosts and what they have to be
//! ([`crate::upstream::hosts`]).

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use bytes::BytesMut;
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::cancel::CancelTarget;
use super::clock::Clock;
use super::stream::{Stream, tune};
use crate::auth::EndPoint;
use crate::auth::scram::NONCE_BYTES;
use crate::config::{ServerAddress, ServerHost};
use crate::fault::{Code, Fault};
use crate::startup::ALPN;
use crate::upstream::hosts::{HostChoice, HostLedger, ServerKind, SessionAttributes};
use crate::upstream::login::{
    BindingPolicy, Channel, Identity, LoggedIn, ServerLogin, ServerLoginFault, ServerRefusal, Way,
};
use crate::wire::frontend::{put_cancel_request, put_ssl_request};

/// Bytes of the read buffer during login; grows to one message at most.
const LOGIN_READ_BYTES: usize = 4 * 1024;

/// Addresses tried of one host: a name that resolves to more is most likely a mistake.
const ADDRESSES_MAX: usize = 16;

/// Addresses tried in one search. Each may take the whole time limit, and clients wait meanwhile.
const ATTEMPTS_MAX: usize = 32;

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
    /// Always, and from the first byte on: nothing is asked in the clear (PostgreSQL 17 and later).
    Direct(Arc<ClientConfig>),
}

/// Where servers are, and how they are reached.
#[derive(Clone, Debug)]
pub struct ServerTarget {
    /// Where; the same to us but for what `wanted` tells apart.
    pub hosts: Vec<ServerAddress>,
    /// Which of them will do.
    pub wanted: SessionAttributes,
    /// Encrypted or not.
    pub tls: TargetTls,
    /// Whether logins are bound to the encryption.
    pub binding: BindingPolicy,
    /// For one address: everything from connecting to ReadyForQuery. And for resolving a name.
    pub connect_timeout: Duration,
    ledger: Arc<Mutex<HostLedger>>,
    clock: Clock,
}

impl ServerTarget {
    /// Any of these hosts, tried in this order.
    #[must_use]
    pub fn new(hosts: Vec<ServerAddress>, tls: TargetTls, connect_timeout: Duration, clock: Clock) -> Self {
        let ledger = Arc::new(Mutex::new(HostLedger::new(hosts.len(), HostChoice::Ordered)));
        let (wanted, binding) = (SessionAttributes::Any, BindingPolicy::Prefer);
        Self { hosts, wanted, tls, binding, connect_timeout, ledger, clock }
    }

    /// The same somewhere else.
    #[must_use]
    pub fn at(mut self, address: ServerAddress) -> Self {
        self.hosts = vec![address];
        self.choosing(HostChoice::Ordered)
    }

    /// The same with another order.
    #[must_use]
    pub fn choosing(mut self, choice: HostChoice) -> Self {
        self.ledger = Arc::new(Mutex::new(HostLedger::new(self.hosts.len(), choice)));
        self
    }
}

/// The one server of a target that was reached: where its cancel requests have to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReachedServer {
    address: ReachedAddress,
    is_tls: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum ReachedAddress {
    /// The address, and the name its certificate has to be made out to, if the host is one.
    Tcp(SocketAddr, Option<ServerName<'static>>),
    Unix(PathBuf),
}

impl ReachedServer {
    /// Its address, unless it is behind a unix socket.
    #[must_use]
    pub const fn socket_address(&self) -> Option<SocketAddr> {
        match &self.address {
            ReachedAddress::Tcp(address, _) => Some(*address),
            ReachedAddress::Unix(_) => None,
        }
    }
}

impl std::fmt::Display for ReachedServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.address {
            ReachedAddress::Tcp(address, _) => write!(f, "{address}"),
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
    /// Direct TLS ended at something that may not be PostgreSQL.
    #[error("the server did not agree on ALPN \"postgresql\"")]
    AlpnMissing,
    /// The server is not of the wanted kind.
    #[error("the server is not {}: {found:?}", .wanted.word())]
    Unsuitable {
        /// What is wanted.
        wanted: SessionAttributes,
        /// What it is.
        found: ServerKind,
    },
    /// What answers is not the process that let the proxy in, and a tenant is to stay there.
    #[error("another pooler stands between: scope.lifetime = \"lease\" needs servers that are reached directly")]
    Shared,
    /// The database is not as it was sealed, and so holds tenants apart no more than others.
    #[error("the database is not sealed as it should be: {}", .0.join("; "))]
    Unsealed(Vec<String>),
    /// There is nowhere to go.
    #[error("the host has no address")]
    NoHost,
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
            ConnectFault::Unsuitable { wanted, .. } => {
                Fault::of(Code::NoServerOfKind).with_detail(format!("No server is {}.", wanted.word()))
            }
            ConnectFault::Login(ServerLoginFault::MethodRefused(method)) => {
                Fault::of(Code::ServerMethodRefused).with_detail(format!("The server asks for {method}."))
            }
            ConnectFault::Shared => Fault::of(Code::ServerShared),
            // What is wrong is for the log: a client could make use of it.
            ConnectFault::Unsealed(_) => Fault::of(Code::SealBroken),
            ConnectFault::NoHost => fault.with_detail("The host has no address."),
            ConnectFault::Timeout(_) => fault.with_detail("The server did not answer in time."),
            ConnectFault::Resolve(_) | ConnectFault::Connect(_) | ConnectFault::Io(_) | ConnectFault::Closed => {
                fault.with_detail("The connection to the server failed.")
            }
            ConnectFault::TlsMissing
            | ConnectFault::TlsAnswer
            | ConnectFault::Tls(_)
            | ConnectFault::TlsName
            | ConnectFault::AlpnMissing
            | ConnectFault::Random => fault.with_detail("No secure connection to the server could be made."),
            ConnectFault::Login(ServerLoginFault::TooOld(_)) => Fault::of(Code::ServerTooOld),
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

impl ConnectFault {
    /// What to report of two failures, the later one given.
    fn or_rather(self, later: Self) -> Self {
        let tells_more = matches!(self, ConnectFault::Unsuitable { .. }) && !later.ends_the_search();
        if tells_more { self } else { later }
    }

    /// Whether the other hosts would say the same, or should not be asked: as in libpq, a refused login ends the search.
    const fn ends_the_search(&self) -> bool {
        match self {
            ConnectFault::Login(ServerLoginFault::Refused { refusal, .. }) => match refusal {
                ServerRefusal::Authentication | ServerRefusal::DatabaseMissing => true,
                ServerRefusal::TooManyConnections | ServerRefusal::NotNow | ServerRefusal::Error => false,
            },
            ConnectFault::Timeout(_)
            | ConnectFault::Resolve(_)
            | ConnectFault::Connect(_)
            | ConnectFault::Io(_)
            | ConnectFault::Closed
            | ConnectFault::TlsMissing
            | ConnectFault::TlsAnswer
            | ConnectFault::Tls(_)
            | ConnectFault::TlsName
            | ConnectFault::AlpnMissing
            | ConnectFault::Unsuitable { .. }
            | ConnectFault::Shared
            | ConnectFault::Unsealed(_)
            | ConnectFault::NoHost
            | ConnectFault::Random
            | ConnectFault::Login(_) => false,
        }
    }
}

/// If dropped: the attempt ends, the server sees a closed connection.
///
/// Connects to the first host that lets the proxy in and is of the wanted kind.
///
/// # Errors
/// Says which step failed at the last address, or that a server was found that is not of the wanted kind: that tells
/// more than that another one is down. Nothing is tried twice, but for prefer-standby.
pub async fn connect(target: &ServerTarget, identity: Identity) -> Result<Connected, ConnectFault> {
    let mut search = target.ledger.lock().search(target.wanted, target.clock.now());
    let mut attempts_left = ATTEMPTS_MAX;
    let mut last = ConnectFault::NoHost;
    while let Some(attempt) = search.next_attempt() {
        let Some(host) = target.hosts.get(attempt.host) else { break };
        match connect_host(target, host, attempt.wanted, &identity, &mut attempts_left).await {
            Ok(connected) => {
                target.ledger.lock().reached(attempt.host);
                return Ok(connected);
            }
            Err(fault) => {
                target.ledger.lock().failed(attempt.host, target.clock.now());
                if !matches!(fault, ConnectFault::Unsuitable { .. }) {
                    search.leave_out(attempt.host);
                }
                if target.hosts.len() > 1 {
                    tracing::info!(%host, %fault, "not this host");
                }
                last = last.or_rather(fault);
            }
        }
        if last.ends_the_search() || attempts_left == 0 {
            break;
        }
    }
    Err(last)
}

/// Tries a host's addresses, one after the other.
async fn connect_host(
    target: &ServerTarget,
    host: &ServerAddress,
    wanted: SessionAttributes,
    identity: &Identity,
    attempts_left: &mut usize,
) -> Result<Connected, ConnectFault> {
    let mut last = ConnectFault::NoHost;
    for address in within(target.connect_timeout, addresses(host)).await? {
        let Some(left) = attempts_left.checked_sub(1) else { break };
        *attempts_left = left;
        let attempt = connect_address(target, address, wanted, identity.clone());
        match within(target.connect_timeout, attempt).await {
            Ok(connected) => return Ok(connected),
            Err(fault) => last = last.or_rather(fault),
        }
        if last.ends_the_search() {
            break;
        }
    }
    Err(last)
}

async fn connect_address(
    target: &ServerTarget,
    address: ReachedAddress,
    wanted: SessionAttributes,
    identity: Identity,
) -> Result<Connected, ConnectFault> {
    let (stream, way) = secure(open(&address).await?, &address, target).await?;
    let reached = ReachedServer { address, is_tls: stream.is_tls() };
    let channel = Channel { way, binding: target.binding };
    let mut connected = log_in(stream, reached, identity, channel).await?;
    let found = ServerKind::of(|name| connected.logged_in.parameter(name));
    if wanted.suits(found) {
        return Ok(connected);
    }
    // It may be gone already; nobody waits for it.
    if let Err(error) = connected.stream.shutdown().await {
        tracing::debug!(%error, "an unsuitable server was gone first");
    }
    Err(ConnectFault::Unsuitable { wanted, found })
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
        let mut stream = match (open(&reached.address).await?, &reached.address) {
            (Stream::Tcp(tcp), ReachedAddress::Tcp(_, name)) if reached.is_tls => {
                require_tls(tcp, name, target).await?
            }
            (stream, _) => stream,
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

async fn addresses(host: &ServerAddress) -> Result<Vec<ReachedAddress>, ConnectFault> {
    match &host.host {
        ServerHost::Name(name) => {
            let certified = ServerName::try_from(name.to_string()).ok();
            let found = lookup_host((&**name, host.port)).await.map_err(ConnectFault::Resolve)?;
            let reached = |address| ReachedAddress::Tcp(address, certified.clone());
            Ok(found.take(ADDRESSES_MAX).map(reached).collect())
        }
        ServerHost::Address(address) => {
            let certified = Some(ServerName::from(*address));
            Ok(vec![ReachedAddress::Tcp(SocketAddr::new(*address, host.port), certified)])
        }
        ServerHost::UnixFolder(folder) => {
            Ok(vec![ReachedAddress::Unix(folder.join(format!(".s.PGSQL.{}", host.port)))])
        }
    }
}

async fn open(address: &ReachedAddress) -> Result<Stream, ConnectFault> {
    match address {
        ReachedAddress::Tcp(address, _) => {
            let tcp = TcpStream::connect(address).await.map_err(ConnectFault::Connect)?;
            tune(&tcp).map_err(ConnectFault::Connect)?;
            Ok(Stream::Tcp(tcp))
        }
        ReachedAddress::Unix(path) => open_unix(path).await,
    }
}

async fn open_unix(path: &Path) -> Result<Stream, ConnectFault> {
    UnixStream::connect(path).await.map(Stream::Unix).map_err(ConnectFault::Connect)
}

// -- TLS

async fn secure(
    stream: Stream,
    address: &ReachedAddress,
    target: &ServerTarget,
) -> Result<(Stream, Way), ConnectFault> {
    let (tcp, name) = match (stream, address) {
        (Stream::Tcp(tcp), ReachedAddress::Tcp(_, name)) => (tcp, name),
        (stream, _) => return Ok((stream, Way::Local)),
    };
    let stream = match &target.tls {
        TargetTls::Disable => Stream::Tcp(tcp),
        TargetTls::Prefer(config) => match ask_for_tls(tcp).await? {
            (tcp, HasTls::Yes) => shake_hands(tcp, name, config).await?,
            (tcp, HasTls::No) => Stream::Tcp(tcp),
        },
        TargetTls::Require(_) | TargetTls::Direct(_) => require_tls(tcp, name, target).await?,
    };
    let way = match &stream {
        Stream::ServerTls(tls) => Way::Tls(tls.get_ref().1.peer_certificates().and_then(end_point)),
        Stream::Tcp(_) | Stream::Unix(_) | Stream::ClientTls(_) => Way::Clear,
    };
    Ok((stream, way))
}

fn end_point(chain: &[rustls::pki_types::CertificateDer<'_>]) -> Option<EndPoint> {
    EndPoint::of(chain.first()?)
}

async fn require_tls(
    tcp: TcpStream,
    name: &Option<ServerName<'static>>,
    target: &ServerTarget,
) -> Result<Stream, ConnectFault> {
    let config = match &target.tls {
        TargetTls::Disable => return Err(ConnectFault::TlsMissing),
        TargetTls::Prefer(config) | TargetTls::Require(config) => config,
        TargetTls::Direct(config) => return shake_hands_directly(tcp, name, config).await,
    };
    match ask_for_tls(tcp).await? {
        (tcp, HasTls::Yes) => shake_hands(tcp, name, config).await,
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
    name: &Option<ServerName<'static>>,
    config: &Arc<ClientConfig>,
) -> Result<Stream, ConnectFault> {
    let name = name.clone().ok_or(ConnectFault::TlsName)?;
    let connector = TlsConnector::from(Arc::clone(config));
    let tls = connector.connect(name, tcp).await.map_err(ConnectFault::Tls)?;
    Ok(Stream::ServerTls(Box::new(tls)))
}

/// Without SSLRequest the protocol's name in ALPN is the only sign that there is a PostgreSQL server.
async fn shake_hands_directly(
    tcp: TcpStream,
    name: &Option<ServerName<'static>>,
    config: &Arc<ClientConfig>,
) -> Result<Stream, ConnectFault> {
    let stream = shake_hands(tcp, name, config).await?;
    match &stream {
        Stream::ServerTls(tls) if tls.get_ref().1.alpn_protocol() == Some(ALPN) => Ok(stream),
        Stream::ServerTls(_) | Stream::Tcp(_) | Stream::Unix(_) | Stream::ClientTls(_) => {
            Err(ConnectFault::AlpnMissing)
        }
    }
}

// -- login

async fn log_in(
    mut stream: Stream,
    reached: ReachedServer,
    identity: Identity,
    channel: Channel,
) -> Result<Connected, ConnectFault> {
    let mut nonce = [0_u8; NONCE_BYTES];
    rand::fill(&mut nonce).map_err(|_| ConnectFault::Random)?;
    let (mut input, mut out) = (BytesMut::with_capacity(LOGIN_READ_BYTES), BytesMut::new());
    let mut login = ServerLogin::start(identity, channel, nonce, &mut out);
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
