//! A link between the proxy and PostgreSQL that can be cut at any byte, or made to stand still.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    ToServer,
    ToProxy,
}

/// What happens to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Both ends are closed.
    Cut,
    /// These bytes come in place of the rest.
    Babble(&'static [u8]),
    /// Nothing more comes, that way.
    Stall,
}

#[derive(Clone, Copy, Debug)]
struct Armed {
    way: Way,
    left: usize,
    fate: Fate,
}

#[derive(Debug, Default)]
struct Shared {
    armed: Mutex<Option<Armed>>,
    fired: AtomicBool,
    to_server: AtomicU64,
    to_proxy: AtomicU64,
    /// What new connections are answered with instead of being passed on.
    refusal: Mutex<Option<Vec<u8>>>,
}

/// A running relay; its threads end with their connections, its listener with the process.
pub struct Relay {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl Relay {
    /// Listens, and passes on to PostgreSQL.
    pub fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback can be listened on");
        let address = listener.local_addr().expect("a listener has an address");
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for proxy in listener.incoming().flatten() {
                accepting.begin(proxy, server);
            }
        });
        Self { address, shared }
    }

    /// So many bytes from now on, that way, it happens; once, to whichever connection carries that byte.
    pub fn arm(&self, way: Way, after: usize, fate: Fate) {
        self.shared.fired.store(false, Ordering::SeqCst);
        *self.shared.armed() = Some(Armed { way, left: after, fate });
    }

    /// Whether it has happened; it will not any more.
    pub fn disarm(&self) -> bool {
        *self.shared.armed() = None;
        self.shared.fired.load(Ordering::SeqCst)
    }

    /// Bytes that have gone to the server, and to the proxy.
    pub fn carried(&self) -> (u64, u64) {
        (self.shared.to_server.load(Ordering::SeqCst), self.shared.to_proxy.load(Ordering::SeqCst))
    }

    /// New connections are answered with these bytes and closed, until told otherwise.
    pub fn refuse(&self, with: Option<Vec<u8>>) {
        *self.shared.refusal.lock().unwrap_or_else(PoisonError::into_inner) = with;
    }
}

impl Shared {
    fn armed(&self) -> std::sync::MutexGuard<'_, Option<Armed>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(self: &Arc<Self>, mut proxy: TcpStream, server: SocketAddr) {
        let refusal = self.refusal.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(refusal) = refusal {
            // The startup message is read, or closing would take the answer back. Who has gone already wants none.
            drop(proxy.read(&mut [0; 1024]));
            drop(proxy.write_all(&refusal));
            return;
        }
        let Ok(server) = TcpStream::connect(server) else { return };
        server.set_nodelay(true).expect("a socket has this");
        proxy.set_nodelay(true).expect("a socket has this");
        for way in [Way::ToServer, Way::ToProxy] {
            let (proxy, server) = (proxy.try_clone().expect("twice"), server.try_clone().expect("twice"));
            let (from, to) = if way == Way::ToServer { (proxy, server) } else { (server, proxy) };
            let shared = Arc::clone(self);
            std::thread::spawn(move || shared.carry(way, from, to));
        }
    }

    fn carry(&self, way: Way, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = [0_u8; 16 * 1024];
        while let Ok(count) = from.read(&mut buffer) {
            let (piece, fate) = self.judge(way, &buffer[..count]);
            let counter = if way == Way::ToServer { &self.to_server } else { &self.to_proxy };
            counter.fetch_add(piece.len() as u64, Ordering::SeqCst);
            let is_over = to.write_all(piece).is_err() || count == 0;
            match fate {
                Some(Fate::Cut) => break,
                Some(Fate::Babble(words)) => {
                    drop(to.write_all(words));
                    break;
                }
                Some(Fate::Stall) => {
                    // Until the other side gives up.
                    while from.read(&mut buffer).is_ok_and(|count| count > 0) {}
                    break;
                }
                None if is_over => break,
                None => {}
            }
        }
        // Whichever side has gone already, the other is to see it.
        drop(from.shutdown(Shutdown::Both));
        drop(to.shutdown(Shutdown::Both));
    }

    fn judge<'p>(&self, way: Way, piece: &'p [u8]) -> (&'p [u8], Option<Fate>) {
        let mut armed = self.armed();
        match armed.as_mut().filter(|armed| armed.way == way) {
            Some(found) if piece.len() >= found.left && !piece.is_empty() => {
                let (left, fate) = (found.left, found.fate);
                *armed = None;
                self.fired.store(true, Ordering::SeqCst);
                (&piece[..left], Some(fate))
            }
            Some(found) => {
                found.left -= piece.len();
                (piece, None)
            }
            None => (piece, None),
        }
    }
}
