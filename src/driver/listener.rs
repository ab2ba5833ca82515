//! Accepts clients, within limits, and greets them.
//!
//! Owns: listening sockets, the limits on connections, one task per client until its session is taken
//! over. Does not own: the session, nor cancel requests: a [`Reception`] does.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::BytesMut;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;

use super::clock::Clock;
use super::handshake::{Arrival, Greeting, HandshakeFault, HandshakeSettings, handshake};
use super::quota::Quota;
use super::stream::{FAREWELL_TIMEOUT, Stream, tune};
use super::unix_socket::UnixSocket;
use crate::auth::PeerAddress;
use crate::config::UnixSocketSettings;
use crate::fault::{Code, Fault};
use crate::wire::backend::put_error;

/// Connections the kernel keeps for us until we accept them.
const BACKLOG: u32 = 1024;

/// Pause after a failed accept: nearly always the process has run out of file descriptors, and asking
/// again at once would burn a CPU.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Administrators at once: a few people and a few tools.
const CONSOLES_MAX: usize = 32;

/// Takes over from the listener.
pub trait Reception: Send + Sync + 'static {
    /// If dropped: the client's connection is closed.
    ///
    /// Runs a client's whole session.
    fn receive(&self, arrival: Box<Arrival>) -> impl Future<Output = ()> + Send;

    /// If dropped: the request may or may not be carried out.
    ///
    /// Carries out a cancel request. The requester's connection is closed afterwards.
    fn cancel(&self, process_id: i32, secret: Vec<u8>) -> impl Future<Output = ()> + Send;

    /// A client got no session; it has been told what it may know.
    fn turned_away(&self, _fault: &HandshakeFault, _address: PeerAddress) {}
}

/// What guards the entrance: settings that a reload replaces, and the counts of who is inside.
pub struct Entrance {
    /// For every client that connects from now on.
    pub settings: ArcSwap<HandshakeSettings>,
    /// Places of clients that are logged in.
    pub clients: Quota,
    /// Places of administrators, who are wanted most when the others are taken.
    pub consoles: Quota,
    /// Places of connections that are on the way there.
    pub logins: Quota,
    /// The clock.
    pub clock: Clock,
}

impl Entrance {
    /// With the most clients that may be logged in, and the most connections that may be on the way there.
    #[must_use]
    pub fn new(
        settings: HandshakeSettings,
        client_connections_max: usize,
        login_connections_max: usize,
        clock: Clock,
    ) -> Self {
        Self {
            settings: ArcSwap::from_pointee(settings),
            clients: Quota::new(client_connections_max),
            consoles: Quota::new(CONSOLES_MAX),
            logins: Quota::new(login_connections_max),
            clock,
        }
    }
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {reason}")]
pub struct ListenFault {
    /// The address, or the path of a unix socket.
    pub address: String,
    /// What the system says.
    pub reason: io::Error,
}

/// Listening sockets.
pub struct Listener {
    sockets: Vec<Door>,
}

/// One of them.
enum Door {
    Tcp(TcpListener),
    Unix(UnixSocket),
}

impl Listener {
    /// Listens on every address, and on the unix socket if there is to be one. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The first one that cannot be listened on.
    pub fn bind(addresses: &[SocketAddr], unix: Option<&UnixSocketSettings>) -> Result<Self, ListenFault> {
        let fault = |address: String| move |reason| ListenFault { address, reason };
        let mut sockets = Vec::with_capacity(addresses.len() + 1);
        for address in addresses {
            sockets.push(Door::Tcp(bind_tcp(*address, BACKLOG).map_err(fault(address.to_string()))?));
        }
        if let Some(settings) = unix {
            let path = settings.path.display().to_string();
            let socket = UnixSocket::bind(settings, BACKLOG).map_err(fault(path))?;
            tracing::info!(path = %socket.path().display(), "listening");
            sockets.push(Door::Unix(socket));
        }
        Ok(Self { sockets })
    }

    /// The TCP addresses listened on; where port 0 was asked for, the one the system chose.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let address = |door: &Door| match door {
            Door::Tcp(socket) => socket.local_addr().ok(),
            Door::Unix(_) => None,
        };
        self.sockets.iter().filter_map(address).collect()
    }

    /// If dropped: nobody is accepted any more and the sockets are closed; who was accepted goes on.
    ///
    /// Accepts clients until dropped.
    pub async fn serve<R: Reception>(self, entrance: Arc<Entrance>, reception: Arc<R>) {
        let mut loops = JoinSet::new();
        for socket in self.sockets {
            loops.spawn(accept_loop(socket, Arc::clone(&entrance), Arc::clone(&reception)));
        }
        while let Some(ended) = loops.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a listening socket's task failed");
            }
        }
    }
}

/// Listens; the kernel keeps `backlog` connections that are not accepted yet.
pub(super) fn bind_tcp(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart must not wait for old connections to time out.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(backlog)
}

impl Door {
    /// If dropped: nobody is lost.
    async fn accept(&self) -> io::Result<(Stream, PeerAddress)> {
        match self {
            Door::Tcp(socket) => {
                let (tcp, address) = socket.accept().await?;
                Ok((Stream::Tcp(tcp), PeerAddress::Tcp(address)))
            }
            Door::Unix(socket) => Ok((Stream::Unix(socket.accept().await?), PeerAddress::Unix)),
        }
    }
}

/// If dropped: the socket is closed; who was accepted goes on.
async fn accept_loop<R: Reception>(door: Door, entrance: Arc<Entrance>, reception: Arc<R>) {
    loop {
        match door.accept().await {
            Ok((stream, address)) => admit(stream, address, &entrance, &reception),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a client");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn admit<R: Reception>(stream: Stream, address: PeerAddress, entrance: &Arc<Entrance>, reception: &Arc<R>) {
    match entrance.logins.take() {
        Some(permit) => {
            let (entrance, reception) = (Arc::clone(entrance), Arc::clone(reception));
            tokio::spawn(async move { greet(stream, address, permit, &entrance, &*reception).await });
        }
        None => turn_away(&stream, address),
    }
}

/// Says why and closes, without waiting: this is the moment when there is no time for anybody.
fn turn_away(stream: &Stream, address: PeerAddress) {
    let mut out = BytesMut::new();
    let detail = "Too many connections are logging in at this moment.";
    put_error(&mut out, &Fault::of(Code::TooManyClients).with_detail(detail));
    // A fresh socket's buffer takes this; if not, the client sees a closed connection.
    let sent = match stream {
        Stream::Tcp(tcp) => tcp.try_write(&out).unwrap_or(0),
        Stream::Unix(unix) => unix.try_write(&out).unwrap_or(0),
        Stream::ClientTls(_) | Stream::ServerTls(_) => 0,
    };
    tracing::info!(%address, sent, "client turned away: too many logins");
}

/// If dropped: the client's connection is closed.
async fn greet<R: Reception>(
    stream: Stream,
    address: PeerAddress,
    permit: OwnedSemaphorePermit,
    entrance: &Entrance,
    reception: &R,
) {
    if let Stream::Tcp(tcp) = &stream
        && let Err(error) = tune(tcp)
    {
        tracing::debug!(%address, %error, "client gone before its login");
        return;
    }
    let settings = entrance.settings.load_full();
    let greeting = Box::pin(handshake(stream, address, &settings, entrance)).await;
    drop(settings);
    if let Err(fault) = &greeting {
        reception.turned_away(fault, address);
    }
    match greeting {
        Ok(Greeting::Client(arrival)) => {
            drop(permit);
            reception.receive(arrival).await;
        }
        Ok(Greeting::Cancel { process_id, secret, mut stream }) => {
            // Boxed, as the handshake: the rest of this task lives as long as its client, one for each.
            Box::pin(reception.cancel(process_id, secret)).await;
            // Its close is the answer, and over TLS libpq takes one without a goodbye for a failed cancel.
            if let Err(error) = stream.say_farewell(b"", FAREWELL_TIMEOUT).await {
                tracing::trace!(%address, %error, "a canceller was gone before its connection was closed");
            }
            drop(permit);
        }
        Err(fault @ (HandshakeFault::Left | HandshakeFault::Io(_))) => {
            tracing::debug!(%address, %fault, "no session");
        }
        Err(fault) => tracing::info!(%address, %fault, "no session"),
    }
}
