//! One pool's sockets: carries out what [`crate::pool::Pool`] decides.
//!
//! Owns: idle servers with their sockets, connecting, the check before use. Does not own: the order of who
//! waits, ages, limits.

use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use lru::LruCache;
use parking_lot::Mutex;
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::clock::Clock;
use super::connect::{ConnectFault, Connected, ReachedServer, ServerTarget, connect};
use super::stream::Stream;
use crate::fault::{Code, Fault};
use crate::pool::{self, Action, Fairness, Membership, Pool, PoolCounts, PoolLimits, Pooled, Requested, Ticket};
use crate::scope::{
    CleanServer, DiscardReason, LeasedServer, NeedsNoScope, PRELUDE_STATEMENTS, Prelude, ScopedFrame, replay,
};
use crate::time::Moment;
use crate::upstream::login::Identity;
use crate::upstream::{Expect, Parameters, Received, Replies, Server, ServerId, ServerKey, Settings, settings};
use crate::wire::backend;
use crate::wire::frame::{HEAD_BYTES, Head};
use crate::wire::frontend;
use crate::wire::limits::INSPECTED_BYTES_MAX;

/// Sets of startup parameters whose greeting is remembered: an application has a few.
const GREETINGS_MAX: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

/// An idle server with its socket.
#[derive(Debug)]
pub struct PooledServer {
    /// What is known and proven about it.
    pub clean: CleanServer,
    /// Its socket.
    pub link: ServerLink,
}

/// The socket of a server and where it leads.
#[derive(Debug)]
pub struct ServerLink {
    /// The socket.
    pub stream: Stream,
    /// Where cancel requests go.
    pub reached: Arc<ReachedServer>,
}

/// A server on loan.
pub type Granted = Pooled<PooledServer>;

/// What someone who waits is sent.
type Answer = Result<Granted, Fault>;

/// Who waits; it keeps the seat, so that a server granted at the last moment has somebody to come back from.
type Waiter = (oneshot::Sender<Answer>, Arc<Seat>);

/// A pool: the servers of one (server group, database, server role).
pub struct ServerPool {
    name: String,
    ledger: Mutex<Pool<PooledServer, Waiter>>,
    target: Arc<ServerTarget>,
    identity: Identity,
    prelude: Prelude,
    statements_max: usize,
    clock: Clock,
    next_server: Arc<AtomicU64>,
    greeting: Mutex<Option<Arc<Parameters>>>,
    greetings: Mutex<LruCache<Settings, Arc<Parameters>>>,
}

/// What a pool is made of.
pub struct PoolParts {
    /// Its name in logs.
    pub name: String,
    /// Its limits.
    pub limits: PoolLimits,
    /// How its servers are shared out.
    pub fairness: Fairness,
    /// How its servers are reached.
    pub target: ServerTarget,
    /// Who the proxy is on them.
    pub identity: Identity,
    /// What they are sent after their login.
    pub prelude: Prelude,
    /// Prepared statements at most on each.
    pub statements_max: usize,
    /// The clock.
    pub clock: Clock,
    /// Numbers for servers, never used twice.
    pub next_server: Arc<AtomicU64>,
}

/// A client's place in a pool, through which it leases servers; left when dropped. Whoever still has a server
/// to give back holds on to it.
pub struct Seat {
    pool: Arc<ServerPool>,
    seat: pool::Seat,
    membership: Arc<Membership>,
}

/// A place in the queue; giving it up when dropped.
pub struct Wait {
    seat: Arc<Seat>,
    ticket: Ticket,
    answer: oneshot::Receiver<Answer>,
}

impl Wait {
    /// The answer, when it has come.
    pub fn poll(&mut self, context: &mut std::task::Context<'_>) -> Poll<Answer> {
        let poll = std::pin::Pin::new(&mut self.answer).poll(context);
        poll.map(|answer| answer.unwrap_or_else(|_| Err(Fault::of(Code::ShuttingDown))))
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        // What comes out is dropped without the lock: with it may go the last hold on a seat.
        let waiter = self.seat.pool.ledger.lock().give_up(self.ticket);
        drop(waiter);
        // A server that was granted at the same moment comes back.
        self.answer.close();
        if let Ok(Ok(granted)) = self.answer.try_recv() {
            self.seat.check_in(granted);
        }
    }
}

/// What became of a request.
pub enum Leased {
    /// A server, perhaps to be checked first.
    Now(Granted, bool),
    /// Wait.
    Later(Wait),
    /// No.
    Refused(Fault),
}

impl ServerPool {
    /// An empty pool.
    #[must_use]
    pub fn new(parts: PoolParts) -> Arc<Self> {
        let PoolParts { name, limits, fairness, target, identity, prelude, statements_max, clock, next_server } = parts;
        Arc::new(Self {
            name,
            ledger: Mutex::new(Pool::new(limits, fairness)),
            target: Arc::new(target),
            identity,
            prelude,
            statements_max,
            clock,
            next_server,
            greeting: Mutex::new(None),
            greetings: Mutex::new(LruCache::new(GREETINGS_MAX)),
        })
    }

    /// Its name in logs: server group, database and role.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it is reached.
    #[must_use]
    pub const fn target(&self) -> &Arc<ServerTarget> {
        &self.target
    }

    /// Counts.
    #[must_use]
    pub fn counts(&self) -> PoolCounts {
        self.ledger.lock().counts()
    }

    /// A client comes, perhaps from another pool.
    #[must_use]
    pub fn join(self: &Arc<Self>, membership: Arc<Membership>) -> Arc<Seat> {
        let seat = self.ledger.lock().join(&membership);
        Arc::new(Seat { pool: Arc::clone(self), seat, membership })
    }

    /// Servers are shared out in another way, or there may be another number of them.
    pub fn set_shares(self: &Arc<Self>, size: usize, fairness: Fairness) {
        self.ledger.lock().set_shares(size, fairness, self.clock.now());
        self.act();
    }

    /// Time has passed.
    pub fn sweep(self: &Arc<Self>) {
        self.ledger.lock().sweep(self.clock.now());
        self.act();
    }

    /// Closes idle servers and lends no more.
    pub fn close(self: &Arc<Self>) {
        self.ledger.lock().close();
        self.act();
    }

    fn known_greeting(&self, base: &Settings) -> Option<Arc<Parameters>> {
        let plain = self.greeting.lock().clone()?;
        if base.is_empty() {
            return Some(plain);
        }
        match base.iter().next() {
            // Reported as it is; anything else has a canonical spelling that only a server knows.
            Some((name, value)) if base.len() == 1 && &**name == "application_name" && is_plain_name(value) => {
                let mut told = (*plain).clone();
                told.insert(name.clone(), value.clone());
                Some(Arc::new(told))
            }
            _ => self.greetings.lock().get(base).cloned(),
        }
    }

    /// Carries out what the ledger has decided; never while its lock is held.
    fn act(self: &Arc<Self>) {
        loop {
            let action = self.ledger.lock().poll_action();
            match action {
                None => return,
                Some(Action::Grant { waiter: (waiter, seat), pooled, .. }) => {
                    if let Err(Ok(refused)) = waiter.send(Ok(pooled)) {
                        self.ledger.lock().check_in(seat.seat, refused, self.clock.now());
                    }
                }
                Some(Action::Refuse { waiter: (waiter, _), fault }) => {
                    if waiter.send(Err(fault)).is_err() {
                        tracing::trace!("nobody waits for this refusal any more");
                    }
                }
                Some(Action::Connect) => {
                    let pool = Arc::clone(self);
                    tokio::spawn(async move { pool.connect_one().await });
                }
                Some(Action::Close(server)) => close_politely(server.link.stream),
            }
        }
    }

    /// Connects one server and tells the ledger. If dropped: the ledger waits for ever for this server
    /// (only at the runtime's end).
    async fn connect_one(self: Arc<Self>) {
        let connected = match connect(&self.target, self.identity.clone()).await {
            Ok(connected) => timeout(self.target.connect_timeout, self.prepare(connected))
                .await
                .unwrap_or(Err(ConnectFault::Timeout(self.target.connect_timeout))),
            Err(fault) => Err(fault),
        };
        match connected {
            Ok(pooled) => {
                tracing::debug!(pool = self.name, server = pooled.clean.server().id.0, "server connected");
                let connected_at = pooled.clean.server().connected_at;
                self.ledger.lock().connected(Pooled { server: pooled, connected_at }, self.clock.now());
            }
            Err(fault) => {
                tracing::warn!(pool = self.name, %fault, "cannot connect to the server");
                self.ledger.lock().connect_failed(&fault.fault(), self.clock.now());
            }
        }
        self.act();
    }

    /// Sends the prelude to a server that is logged in, and checks its answer.
    async fn prepare(&self, connected: Connected) -> Result<PooledServer, ConnectFault> {
        let Connected { mut stream, logged_in, leftover, reached } = connected;
        let mut parameters = Parameters::new();
        for (name, value) in logged_in.parameters() {
            parameters.insert(name.as_str().into(), value.as_str().into());
        }
        let id = ServerId(self.next_server.fetch_add(1, Ordering::Relaxed));
        let key = Arc::new(ServerKey { process_id: logged_in.process_id(), secret: logged_in.secret().into() });
        let mut server =
            Server::new(id, key, logged_in.version_num(), Arc::new(parameters), self.statements_max, self.clock.now());
        let mut replies = Replies::default();
        let parses = std::iter::repeat_n(Expect::Parse, PRELUDE_STATEMENTS);
        let is_skipped = parses.chain([Expect::Sync]).any(|expect| replies.push(expect, ()).is_some());
        debug_assert!(!is_skipped);
        stream.write_all(&self.prelude.bytes).await.map_err(ConnectFault::Io)?;
        stream.flush().await.map_err(ConnectFault::Io)?;
        let mut input = leftover;
        let quiet = loop {
            if let Some(quiet) = replies.quiet().filter(|_| input.is_empty()) {
                break quiet;
            }
            take_housekeeping(&mut input, &mut server, &mut replies).map_err(|()| ConnectFault::Closed)?;
            if replies.quiet().is_none() || !input.is_empty() {
                read_more(&mut stream, &mut input).await?;
            }
        };
        let mut clean = CleanServer::fresh(server, quiet);
        let mut greeting = self.greeting.lock();
        match &*greeting {
            Some(known) => clean.share_parameters(known),
            None => *greeting = Some(Arc::clone(&clean.server().parameters)),
        }
        drop(greeting);
        Ok(PooledServer { clean, link: ServerLink { stream, reached: Arc::new(reached) } })
    }
}

impl Seat {
    /// The pool.
    #[must_use]
    pub const fn pool(&self) -> &Arc<ServerPool> {
        &self.pool
    }

    /// How its servers are reached.
    #[must_use]
    pub fn target(&self) -> &Arc<ServerTarget> {
        self.pool.target()
    }

    /// Whose it is, and what may be taken.
    #[must_use]
    pub const fn membership(&self) -> &Arc<Membership> {
        &self.membership
    }

    /// What time it is.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.pool.clock.now()
    }

    /// Asks for a server.
    #[must_use]
    pub fn lease(self: &Arc<Self>) -> Leased {
        let pool = &self.pool;
        let mut receiver = None;
        let requested = pool.ledger.lock().request(self.seat, pool.clock.now(), || {
            let (sender, answer) = oneshot::channel();
            receiver = Some(answer);
            (sender, Arc::clone(self))
        });
        match (requested, receiver) {
            (Requested::Granted { pooled, needs_check }, _) => Leased::Now(pooled, needs_check),
            (Requested::Queued(ticket), Some(answer)) => {
                pool.act();
                Leased::Later(Wait { seat: Arc::clone(self), ticket, answer })
            }
            (Requested::Queued(_), None) => Leased::Refused(Fault::of(Code::Internal)),
            (Requested::Refused(fault), _) => Leased::Refused(fault),
        }
    }

    /// Takes a clean server back.
    pub fn check_in(&self, granted: Granted) {
        self.pool.ledger.lock().check_in(self.seat, granted, self.pool.clock.now());
        self.pool.act();
    }

    /// A leased server was closed.
    pub fn discarded(&self, reason: DiscardReason) {
        tracing::debug!(pool = self.pool.name, reason = reason.words(), "server discarded");
        self.pool.ledger.lock().discarded(self.seat, self.pool.clock.now());
        self.pool.act();
    }

    /// What a client with these startup parameters is told of the reported settings: what a server says that
    /// has them. Asked once for each set of parameters. If dropped: a server that was just asked is closed.
    ///
    /// # Errors
    /// There is no server, or it refuses a value: as PostgreSQL would at login.
    pub async fn greeting(self: &Arc<Self>, base: &Settings) -> Result<Arc<Parameters>, Fault> {
        if let Some(known) = self.pool.known_greeting(base) {
            return Ok(known);
        }
        loop {
            let granted = match self.lease() {
                Leased::Now(granted, _) => granted,
                Leased::Later(mut wait) => std::future::poll_fn(|context| wait.poll(context)).await?,
                Leased::Refused(fault) => return Err(fault),
            };
            let returning = Returning { seat: Arc::clone(self), is_done: false };
            let Pooled { server, connected_at } = granted;
            let asked = timeout(self.pool.target.connect_timeout, ask_greeting(server, base)).await;
            match asked.unwrap_or(Asked::Gone) {
                Asked::Told(server, greeting) => {
                    returning.done();
                    self.pool.greetings.lock().put(base.clone(), Arc::clone(&greeting));
                    self.check_in(Pooled { server, connected_at });
                    return Ok(greeting);
                }
                Asked::Refused(fault) => return Err(fault),
                // It had been closed while it was idle: the ledger knows now, and gives another.
                Asked::Gone => {}
            }
        }
    }

    /// A server that was idle for long: whether nothing has come from it meanwhile, and whether it
    /// answers. `None` if it was closed. If dropped: the server is closed, but the pool is not told.
    pub async fn proven(self: &Arc<Self>, mut granted: Granted) -> Option<Granted> {
        let stream = &mut granted.server.link.stream;
        if !std::future::poll_fn(|context| Poll::Ready(poll_is_silent(stream, context))).await {
            drop(granted);
            self.discarded(DiscardReason::ServerGone);
            return None;
        }
        let Pooled { server, connected_at } = granted;
        match timeout(self.pool.target.connect_timeout, sign_of_life(server)).await {
            Ok(Some(server)) => Some(Pooled { server, connected_at }),
            Ok(None) | Err(_) => {
                self.discarded(DiscardReason::CheckFailed);
                None
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.pool.ledger.lock().leave(self.seat);
    }
}

async fn read_more(stream: &mut Stream, input: &mut BytesMut) -> Result<(), ConnectFault> {
    match stream.read_buf(input).await.map_err(ConnectFault::Io)? {
        0 => Err(ConnectFault::Closed),
        _ => Ok(()),
    }
}

/// Takes the answers to the proxy's own statements. An error among them makes the server useless.
fn take_housekeeping(input: &mut BytesMut, server: &mut Server, replies: &mut Replies<()>) -> Result<(), ()> {
    loop {
        let Some(head) = Head::read(input).map_err(|_| ())? else { return Ok(()) };
        if head.body_bytes > INSPECTED_BYTES_MAX {
            return Err(());
        }
        let Some(body) = input.get(HEAD_BYTES..head.frame_bytes()) else { return Ok(()) };
        match head.tag {
            b'S' => take_parameter(server, body)?,
            b'Z' => {
                let status = backend::read_ready(body).map_err(|_| ())?;
                replies.receive_ready(status).map_err(|_| ())?;
            }
            tag => match replies.receive(tag).map_err(|_| ())? {
                Received::Asynchronous | Received::Complete(()) => {}
                Received::Partial | Received::Failed { .. } | Received::PartialFailed | Received::Ready(()) => {
                    return Err(());
                }
            },
        }
        input.advance(head.frame_bytes());
    }
}

fn take_parameter(server: &mut Server, body: &[u8]) -> Result<(), ()> {
    let (name, value) = backend::read_parameter_status(body).map_err(|_| ())?;
    let name = std::str::from_utf8(name).map_err(|_| ())?;
    let value = std::str::from_utf8(value).map_err(|_| ())?;
    if server.take_parameter(name, value) { Ok(()) } else { Err(()) }
}

/// Whether an idle server has sent nothing: most often what it sends is that it closes.
pub fn poll_is_silent(stream: &mut Stream, context: &mut Context<'_>) -> bool {
    let mut byte = [0_u8; 1];
    let mut buffer = ReadBuf::new(&mut byte);
    Pin::new(stream).poll_read(context, &mut buffer).is_pending()
}

/// Sees to it that the ledger hears of a server that was asked and did not come back.
struct Returning {
    seat: Arc<Seat>,
    is_done: bool,
}

impl Returning {
    fn done(mut self) {
        self.is_done = true;
    }
}

impl Drop for Returning {
    fn drop(&mut self) {
        if !self.is_done {
            self.seat.discarded(DiscardReason::CheckFailed);
        }
    }
}

/// What came of asking a server for its greeting.
enum Asked {
    /// It has the settings and says this.
    Told(PooledServer, Arc<Parameters>),
    /// It refuses a value.
    Refused(Fault),
    /// It is not there any more.
    Gone,
}

/// Whether PostgreSQL takes an application_name as it is.
fn is_plain_name(name: &str) -> bool {
    name.len() < 64 && name.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

/// Puts settings on a server and hears what it reports.
async fn ask_greeting(pooled: PooledServer, base: &Settings) -> Asked {
    let PooledServer { clean, link: ServerLink { mut stream, reached } } = pooled;
    let mut lease: LeasedServer<()> = LeasedServer::new(clean);
    let steps = settings::steps(&lease.server().settings, base);
    if !steps.is_empty() {
        replay(&mut lease, &steps, &|_| ());
    }
    let fault = match converse(&mut lease, &mut stream).await {
        Some(fault) => fault,
        None => return Asked::Gone,
    };
    if let Some(fault) = fault {
        return Asked::Refused(fault.fatal());
    }
    lease.server_mut().settings = Arc::clone(base);
    let told = Arc::clone(&lease.server().parameters);
    match lease.into_clean() {
        Ok(clean) => Asked::Told(PooledServer { clean, link: ServerLink { stream, reached } }, told),
        Err(_) => Asked::Gone,
    }
}

/// Sends what is queued and a Sync, and takes all answers. `None`: the server is useless; `Some(Some)`: it
/// refused something.
async fn converse(lease: &mut LeasedServer<()>, stream: &mut Stream) -> Option<Option<Fault>> {
    let mut sync = BytesMut::new();
    frontend::put_sync(&mut sync);
    let frame = ScopedFrame::unscoped(NeedsNoScope::Housekeeping, [&sync, b"", b""], Some(Expect::Sync));
    if lease.send(frame, ()).is_some() {
        return None;
    }
    let out = lease.out_mut().split();
    stream.write_all(&out).await.ok()?;
    stream.flush().await.ok()?;
    let mut input = BytesMut::new();
    let mut fault = None;
    while !lease.replies().is_empty() || !input.is_empty() {
        read_more(stream, &mut input).await.ok()?;
        while let Some(head) = Head::read(&input).ok()? {
            if head.body_bytes > INSPECTED_BYTES_MAX {
                return None;
            }
            let Some(body) = input.get(HEAD_BYTES..head.frame_bytes()) else { break };
            match head.tag {
                b'S' => take_parameter(lease.server_mut(), body).ok()?,
                b'Z' => drop(lease.receive_ready(backend::read_ready(body).ok()?).ok()?),
                b'E' => {
                    fault = Some(server_fault(body));
                    lease.receive(b'E').ok()?;
                }
                tag => drop(lease.receive(tag).ok()?),
            }
            input.advance(head.frame_bytes());
        }
    }
    Some(fault)
}

/// A server's refusal as the client's own.
fn server_fault(body: &[u8]) -> Fault {
    let fields = backend::Fields::new(body);
    let message = String::from_utf8_lossy(fields.find(b'M').unwrap_or_default()).into_owned();
    Fault::native(&fields.sqlstate().map_or(*b"XX000", |state| state.0), message)
}

/// Sends Sync and waits for its answer; `None` if the server is useless.
async fn sign_of_life(pooled: PooledServer) -> Option<PooledServer> {
    let PooledServer { clean, link: ServerLink { mut stream, reached } } = pooled;
    let mut lease: LeasedServer<()> = LeasedServer::new(clean);
    if converse(&mut lease, &mut stream).await?.is_some() {
        return None;
    }
    let clean = lease.into_clean().ok()?;
    Some(PooledServer { clean, link: ServerLink { stream, reached } })
}

/// Says Terminate and closes, without making anyone wait.
pub fn close_politely(mut stream: Stream) {
    tokio::spawn(async move {
        let mut terminate = BytesMut::new();
        frontend::put_terminate(&mut terminate);
        let said = timeout(std::time::Duration::from_secs(1), async {
            stream.write_all(&terminate).await?;
            stream.shutdown().await
        });
        if !matches!(said.await, Ok(Ok(()))) {
            tracing::trace!("a server was gone before it could be told good-bye");
        }
    });
}
