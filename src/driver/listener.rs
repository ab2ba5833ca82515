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
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::handshake::{Arrival, Greeting, HandshakeFault, HandshakeSettings, handshake};
use super::stream::tune;
use crate::fault::{Code, Fault};
use crate::wire::backend::put_error;

/// Connections the kernel keeps for us until we accept them.
const BACKLOG: u32 = 1024;

/// Pause after a failed accept: nearly always the process has run out of file descriptors, and asking
/// again at once would burn a CPU.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
}

/// What guards the entrance: settings that a reload replaces, and the counts of who is inside.
pub struct Entrance {
    /// For every client that connects from now on.
    pub settings: ArcSwap<HandshakeSettings>,
    clients: Arc<Semaphore>,
    logins: Arc<Semaphore>,
}

impl Entrance {
    /// With the most clients that may be logged in, and the most connections that may be on the way there.
    #[must_use]
    pub fn new(settings: HandshakeSettings, client_connections_max: usize, login_connections_max: usize) -> Self {
        Self {
            settings: ArcSwap::from_pointee(settings),
            clients: Arc::new(Semaphore::new(client_connections_max.min(Semaphore::MAX_PERMITS))),
            logins: Arc::new(Semaphore::new(login_connections_max.min(Semaphore::MAX_PERMITS))),
        }
    }
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {reason}")]
pub struct ListenFault {
    /// The address.
    pub address: SocketAddr,
    /// What the system says.
    pub reason: io::Error,
}

/// Listening sockets. Unix sockets would be one more kind of socket here and one more [`super::stream::Stream`].
pub struct Listener {
    sockets: Vec<TcpListener>,
}

impl Listener {
    /// Listens on every address. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The first address that cannot be listened on.
    pub fn bind(addresses: &[SocketAddr]) -> Result<Self, ListenFault> {
        let bind =
            |address: &SocketAddr| bind_one(*address).map_err(|reason| ListenFault { address: *address, reason });
        Ok(Self { sockets: addresses.iter().map(bind).collect::<Result<_, _>>()? })
    }

    /// The addresses listened on; where port 0 was asked for, the one the system chose.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().filter_map(|socket| socket.local_addr().ok()).collect()
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

fn bind_one(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart must not wait for old connections to time out.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// If dropped: the socket is closed; who was accepted goes on.
async fn accept_loop<R: Reception>(socket: TcpListener, entrance: Arc<Entrance>, reception: Arc<R>) {
    loop {
        match socket.accept().await {
            Ok((tcp, address)) => admit(tcp, address, &entrance, &reception),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a client");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn admit<R: Reception>(tcp: TcpStream, address: SocketAddr, entrance: &Arc<Entrance>, reception: &Arc<R>) {
    match Arc::clone(&entrance.logins).try_acquire_owned() {
        Ok(permit) => {
            let (entrance, reception) = (Arc::clone(entrance), Arc::clone(reception));
            tokio::spawn(async move { greet(tcp, address, permit, &entrance, &*reception).await });
        }
        Err(_) => turn_away(&tcp, address),
    }
}

/// Says why and closes, without waiting: this is the moment when there is no time for anybody.
fn turn_away(tcp: &TcpStream, address: SocketAddr) {
    let mut out = BytesMut::new();
    let detail = "Too many connections are logging in at this moment.";
    put_error(&mut out, &Fault::of(Code::TooManyClients).with_detail(detail));
    // A fresh socket's buffer takes this; if not, the client sees a closed connection.
    let sent = tcp.try_write(&out).unwrap_or(0);
    tracing::info!(%address, sent, "client turned away: too many logins");
}

/// If dropped: the client's connection is closed.
async fn greet<R: Reception>(
    tcp: TcpStream,
    address: SocketAddr,
    permit: OwnedSemaphorePermit,
    entrance: &Entrance,
    reception: &R,
) {
    if let Err(error) = tune(&tcp) {
        tracing::debug!(%address, %error, "client gone before its login");
        return;
    }
    let settings = entrance.settings.load_full();
    let greeting = Box::pin(handshake(tcp, address, &settings, &entrance.clients)).await;
    drop(settings);
    match greeting {
        Ok(Greeting::Client(arrival)) => {
            drop(permit);
            reception.receive(arrival).await;
        }
        Ok(Greeting::Cancel { process_id, secret, stream }) => {
            // Boxed, as the handshake: the rest of this task lives as long as its client, one for each.
            Box::pin(reception.cancel(process_id, secret)).await;
            drop(stream);
            drop(permit);
        }
        Err(fault @ (HandshakeFault::Left | HandshakeFault::Io(_))) => {
            tracing::debug!(%address, %fault, "no session");
        }
        Err(fault) => tracing::info!(%address, %fault, "no session"),
    }
}
