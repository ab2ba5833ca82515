//! One pool's sockets: carries out what [`crate::pool::Pool`] decides.
//!
//! Owns: idle servers with their sockets, connecting, the check before use. Does not own: the order of who
//! waits, ages, limits.

use std::io;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::{Buf, BytesMut};
use lru::LruCache;
use parking_lot::Mutex;
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use super::cancel::CancelTarget;
use super::clock::Clock;
use super::connect::{ConnectFault, Connected, ReachedServer, ServerTarget, connect};
use super::flusher::Flusher;
use super::registry::{ServerFacts, ServerKin, ServerRegistration, Servers};
use super::sealing::verify;
use super::stream::{FAREWELL_TIMEOUT, Stream};
use crate::fault::{Code, Fault};
use crate::metrics::{Metrics, PoolGauge};
use crate::pool::{
    self, Action, Check, Fairness, Hold, Membership, Pool, PoolCounts, PoolLimits, Pooled, Requested, Ticket,
};
use crate::scope::{
    CleanServer, DiscardReason, Injection, LeasedServer, NeedsNoScope, PRELUDE_STATEMENTS, Prelude, ScopedFrame, replay,
};
use crate::time::Moment;
use crate::upstream::login::Identity;
use crate::upstream::outdated::{Definitions, Outdated};
use crate::upstream::{
    Expect, Parameters, Received, Replies, Server, ServerId, ServerKey, ServerStatements, Settings, StatementLimits,
    settings,
};
use crate::wire::TransactionStatus;
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

/// The socket of a server and how to cancel what runs there.
#[derive(Debug)]
pub struct ServerLink {
    /// The socket.
    pub stream: Stream,
    /// Where cancel requests go; made once, since every lease hands it to the client.
    pub cancel: Arc<CancelTarget>,
    /// How it was reached and what it was sent at its login.
    pub way: Arc<Way>,
    /// Its place among all servers.
    pub place: ServerRegistration,
}

/// How the servers of a pool are reached, and what each is sent after its login. A reload may change it:
/// servers that went another way are closed when they are free.
#[derive(Debug)]
pub struct Way {
    /// Where.
    pub target: Arc<ServerTarget>,
    /// Who the proxy is on them.
    pub identity: Identity,
    /// What they are sent after their login.
    pub prelude: Prelude,
    /// Prepared statements at most on each.
    pub statements: StatementLimits,
    /// Brings to their disks what recorded transactions have written.
    pub(super) flusher: Flusher,
}

/// A server on loan.
pub type Granted = Pooled<PooledServer>;

/// What someone who waits is sent.
type Answer = Result<(Granted, Check), Fault>;

/// Who waits; it keeps the seat, so that a server granted at the last moment has somebody to come back from.
type Waiter = (oneshot::Sender<Answer>, Arc<Seat>);

/// A pool: the servers of one (server group, database, server role).
pub struct ServerPool {
    name: String,
    ledger: Mutex<Pool<PooledServer, Waiter>>,
    way: ArcSwap<Way>,
    kin: Arc<ServerKin>,
    servers: Arc<Servers>,
    /// Told whenever the pool is on hold and its last server has gone.
    at_rest: Notify,
    clock: Clock,
    next_server: Arc<AtomicU64>,
    greeting: Mutex<Option<Arc<Parameters>>>,
    greetings: Mutex<LruCache<Settings, Arc<Parameters>>>,
    metrics: Arc<Metrics>,
    /// What its servers know of statements that have become obsolete.
    outdated: Arc<Outdated>,
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
    pub way: Way,
    /// What its servers have in common.
    pub kin: ServerKin,
    /// Where its servers are registered.
    pub servers: Arc<Servers>,
    /// How often the definitions of its database have changed.
    pub definitions: Arc<Definitions>,
    /// The clock.
    pub clock: Clock,
    /// Numbers for servers, never used twice.
    pub next_server: Arc<AtomicU64>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// A client's place in a pool, through which it leases servers; left when dropped. Whoever still has a server
/// to give back holds on to it.
pub struct Seat {
    pool: Arc<ServerPool>,
    seat: pool::Seat,
    membership: Arc<Membership>,
}

/// A leased server that counts among those that stay with their clients, until this is dropped.
pub struct PinPermit(Arc<Seat>);

impl Drop for PinPermit {
    fn drop(&mut self) {
        self.0.pool.ledger.lock().unpin();
        self.0.membership.unpin();
    }
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
        if let Ok(Ok((granted, _))) = self.answer.try_recv() {
            self.seat.check_in(granted);
        }
    }
}

/// What became of a request.
pub enum Leased {
    /// A server, perhaps to be checked first.
    Now(Granted, Check),
    /// Wait.
    Later(Wait),
    /// No.
    Refused(Fault),
}

impl ServerPool {
    /// An empty pool.
    #[must_use]
    pub fn new(parts: PoolParts) -> Arc<Self> {
        let PoolParts { name, limits, fairness, way, kin, servers, definitions, clock, next_server, metrics } = parts;
        Arc::new(Self {
            name,
            ledger: Mutex::new(Pool::new(limits, fairness)),
            way: ArcSwap::from_pointee(way),
            kin: Arc::new(kin),
            servers,
            at_rest: Notify::new(),
            clock,
            next_server,
            greeting: Mutex::new(None),
            greetings: Mutex::new(LruCache::new(GREETINGS_MAX)),
            metrics,
            outdated: Arc::new(Outdated::of(definitions)),
        })
    }

    /// Its name in logs: server group, database and role.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Counts.
    #[must_use]
    pub fn counts(&self) -> PoolCounts {
        self.ledger.lock().counts()
    }

    /// Whether it has no server and nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts() == PoolCounts::default()
    }

    /// Its state, for whoever watches.
    #[must_use]
    pub fn gauge(&self) -> PoolGauge {
        let ledger = self.ledger.lock();
        let PoolCounts { idle, leased, pinned, connecting, waiting } = ledger.counts();
        let (size, is_failing) = (ledger.size(), ledger.is_failing());
        PoolGauge { name: self.name.clone(), idle, leased, pinned, connecting, waiting, size, is_failing }
    }

    /// A client comes, perhaps from another pool.
    #[must_use]
    pub fn join(self: &Arc<Self>, membership: Arc<Membership>) -> Arc<Seat> {
        let seat = self.ledger.lock().join(&membership);
        Arc::new(Seat { pool: Arc::clone(self), seat, membership })
    }

    /// Time has passed.
    pub fn sweep(self: &Arc<Self>) {
        self.ledger.lock().sweep(self.clock.now());
        self.way.load().flusher.sweep();
        self.act();
    }

    /// Closes idle servers and lends no more.
    pub fn close(self: &Arc<Self>) {
        self.ledger.lock().close();
        self.act();
    }

    /// Whether it was closed: the configuration has no place for it any more, or the proxy ends.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.ledger.lock().is_closing()
    }

    /// As [`Pool::pause`].
    pub fn pause(self: &Arc<Self>) {
        self.ledger.lock().pause();
        self.act();
    }

    /// As [`Pool::kill`]; sessions that have servers of it are not its concern.
    pub fn kill(self: &Arc<Self>) {
        self.ledger.lock().kill();
        self.act();
    }

    /// As [`Pool::resume`].
    pub fn resume(self: &Arc<Self>) -> bool {
        let was_held = self.ledger.lock().resume(self.clock.now());
        self.at_rest.notify_waiters();
        self.act();
        was_held
    }

    /// As [`Pool::reconnect`]; what servers say at their login may be another thing afterwards.
    pub fn reconnect(self: &Arc<Self>) {
        self.forget_greetings();
        self.ledger.lock().reconnect(self.clock.now());
        self.act();
    }

    /// Waits until the pool is on hold and has no server, or is not on hold any more. If dropped: nothing happens.
    pub async fn at_rest(&self) {
        loop {
            let notified = self.at_rest.notified();
            let mut notified = std::pin::pin!(notified);
            // Whoever tells after this line is heard.
            notified.as_mut().enable();
            if self.is_done_pausing() {
                return;
            }
            notified.await;
        }
    }

    fn is_done_pausing(&self) -> bool {
        let ledger = self.ledger.lock();
        ledger.is_at_rest() || ledger.hold() == Hold::None
    }

    /// Whether it lends.
    #[must_use]
    pub fn hold(&self) -> Hold {
        self.ledger.lock().hold()
    }

    /// Its limits.
    #[must_use]
    pub fn limits(&self) -> PoolLimits {
        self.ledger.lock().limits().clone()
    }

    /// Whether a server connected then is closed as soon as it is free.
    #[must_use]
    pub fn is_close_needed(&self, connected_at: Moment) -> bool {
        self.ledger.lock().is_close_needed(connected_at, self.clock.now())
    }

    /// Whether its servers are what this way would make of them, apart from where and who they are.
    #[must_use]
    pub fn serves(&self, way: &Way) -> bool {
        let own = self.way.load();
        own.prelude.is_same(&way.prelude) && own.statements == way.statements
    }

    /// Other limits, and another way to its servers; `is_other_way`: those that went the old one are replaced. Else it is
    /// the same way, and what is known of its hosts stays known.
    pub fn reconfigure(self: &Arc<Self>, limits: PoolLimits, fairness: Fairness, mut way: Way, is_other_way: bool) {
        if !is_other_way {
            way.target = Arc::clone(&self.way.load().target);
        }
        // First the way: a server that is connected behind the mark has gone the new one.
        self.way.store(Arc::new(way));
        let now = self.clock.now();
        let mut ledger = self.ledger.lock();
        ledger.set_limits(limits, fairness, now);
        if is_other_way {
            ledger.reconnect(now);
        }
        drop(ledger);
        if is_other_way {
            self.forget_greetings();
        }
        self.act();
    }

    #[cfg(test)]
    pub(super) fn target(&self) -> Arc<ServerTarget> {
        Arc::clone(&self.way.load().target)
    }

    fn forget_greetings(&self) {
        *self.greeting.lock() = None;
        self.greetings.lock().clear();
    }

    /// What a server has just said at its login is what the next client hears: after a reload of the server, an ALTER
    /// ROLE or ALTER DATABASE, that is something else than before.
    fn note_greeting(&self, clean: &mut CleanServer) {
        let mut greetings = self.greetings.lock();
        let mut greeting = self.greeting.lock();
        if let Some(known) = &*greeting {
            clean.share_parameters(known);
            if Arc::ptr_eq(known, &clean.server().parameters) {
                return;
            }
            greetings.clear();
        }
        *greeting = Some(Arc::clone(&clean.server().parameters));
    }

    fn connect_timeout(&self) -> Duration {
        self.way.load().target.connect_timeout
    }

    fn known_greeting(&self, base: &Settings) -> Option<Arc<Parameters>> {
        // Held first: what a reconnect has made untrue is not put back behind it.
        let mut greetings = self.greetings.lock();
        let plain = self.greeting.lock().clone()?;
        if base.is_empty() {
            return Some(plain);
        }
        if let Some(known) = greetings.get(base) {
            return Some(Arc::clone(known));
        }
        match base.iter().next() {
            // Reported as it is; anything else has a canonical spelling that only a server knows.
            Some((name, value)) if base.len() == 1 && &**name == "application_name" && is_plain_name(value) => {
                let mut told = (*plain).clone();
                told.insert(name.clone(), value.clone());
                let told = Arc::new(told);
                greetings.put(Arc::clone(base), Arc::clone(&told));
                Some(told)
            }
            _ => None,
        }
    }

    /// The same startup parameters as others have them: clients of one application share one copy.
    #[must_use]
    pub fn shared(&self, base: Settings) -> Settings {
        self.greetings.lock().get_key_value(&base).map_or(base, |(known, _)| Arc::clone(known))
    }

    /// Carries out what the ledger has decided; never while its lock is held.
    fn act(self: &Arc<Self>) {
        loop {
            let mut ledger = self.ledger.lock();
            let action = ledger.poll_action();
            let has_come_to_rest = action.is_none() && ledger.is_at_rest();
            drop(ledger);
            match action {
                None if has_come_to_rest => return self.at_rest.notify_waiters(),
                None => return,
                Some(Action::Grant { waiter: (waiter, seat), pooled, check }) => {
                    if let Err(Ok((refused, _))) = waiter.send(Ok((pooled, check))) {
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

    /// Connects one server and tells the ledger. If dropped: the attempt has failed.
    async fn connect_one(self: Arc<Self>) {
        let attempt = Attempt { pool: Arc::clone(&self), is_over: false };
        // A server counts from here: what is changed while it is being connected does not count for it.
        let connected_at = self.clock.now();
        let way = self.way.load_full();
        let limit = way.target.connect_timeout;
        let connected = match connect(&way.target, way.identity.clone()).await {
            Ok(connected) => timeout(limit, self.prepare(connected, way, connected_at))
                .await
                .unwrap_or(Err(ConnectFault::Timeout(limit))),
            Err(fault) => Err(fault),
        };
        match connected {
            Ok(pooled) => {
                attempt.over("connected");
                tracing::debug!(pool = self.name, server = pooled.clean.server().id.0, "server connected");
                self.ledger.lock().connected(Pooled { server: pooled, connected_at }, self.clock.now());
            }
            Err(fault) => {
                attempt.over("failed");
                tracing::warn!(pool = self.name, %fault, "cannot connect to the server");
                self.ledger.lock().connect_failed(&fault.fault(), self.clock.now());
            }
        }
        self.act();
    }

    /// Sends the prelude to a server that is logged in, and checks its answer.
    async fn prepare(
        self: &Arc<Self>,
        connected: Connected,
        way: Arc<Way>,
        connected_at: Moment,
    ) -> Result<PooledServer, ConnectFault> {
        let Connected { mut stream, logged_in, leftover, reached } = connected;
        let mut parameters = Parameters::new();
        for (name, value) in logged_in.parameters() {
            parameters.insert(name.as_str().into(), value.as_str().into());
        }
        let id = ServerId(self.next_server.fetch_add(1, Ordering::Relaxed));
        let key = Arc::new(ServerKey { process_id: logged_in.process_id(), secret: logged_in.secret().into() });
        let cancel =
            CancelTarget { key: Arc::clone(&key), reached: Arc::new(reached), target: Arc::clone(&way.target) };
        let (version, statements) = (logged_in.version_num(), way.statements);
        let mut server = Server::new(id, key, version, Arc::new(parameters), statements.entries_max);
        server.statements = ServerStatements::within(statements, Arc::clone(&self.outdated));
        let mut input = leftover;
        if let Some(question) = way.prelude.verification {
            verify(&mut stream, &mut input, question, |body| take_parameter(&mut server, body)).await?;
        }
        let question = way.prelude.question(logged_in.process_id());
        let parses = std::iter::repeat_n(Expect::Parse, PRELUDE_STATEMENTS).chain([Expect::Sync]);
        let asked = [Expect::Parse, Expect::Bind, Expect::Execute, Expect::Sync];
        let asked = asked.into_iter().filter(|_| question.is_some());
        let mut replies = Replies::default();
        let is_skipped = parses.chain(asked).any(|expect| replies.push(expect, ()).is_some());
        debug_assert!(!is_skipped);
        stream.write_all(&way.prelude.bytes).await.map_err(ConnectFault::Io)?;
        stream.write_all(&question.unwrap_or_default()).await.map_err(ConnectFault::Io)?;
        stream.flush().await.map_err(ConnectFault::Io)?;
        let quiet = loop {
            if let Some(quiet) = replies.quiet().filter(|_| input.is_empty()) {
                break quiet;
            }
            if take_housekeeping(&mut input, &mut server, &mut replies).is_err() {
                // The only Execute is the question's, and it has a row: another process answers.
                let is_shared = replies.front_expects() == Some(Expect::Execute) && input.first() == Some(&b'D');
                return Err(if is_shared { ConnectFault::Shared } else { ConnectFault::Closed });
            }
            if replies.quiet().is_none() || !input.is_empty() {
                read_more(&mut stream, &mut input).await?;
            }
        };
        let mut clean = CleanServer::fresh(server, quiet);
        self.note_greeting(&mut clean);
        let place = self.register(&clean, &stream, &cancel.reached, connected_at);
        Ok(PooledServer { clean, link: ServerLink { stream, cancel: Arc::new(cancel), way, place } })
    }

    fn register(
        self: &Arc<Self>,
        clean: &CleanServer,
        stream: &Stream,
        reached: &Arc<ReachedServer>,
        connected_at: Moment,
    ) -> ServerRegistration {
        self.servers.register(ServerFacts {
            id: clean.server().id.0,
            kin: Arc::clone(&self.kin),
            reached: Arc::clone(reached),
            tls: stream.tls_facts(),
            connected_at,
            process_id: clean.server().key.process_id,
            pool: Arc::downgrade(self),
        })
    }
}

impl Seat {
    /// The pool.
    #[must_use]
    pub const fn pool(&self) -> &Arc<ServerPool> {
        &self.pool
    }

    /// The same client's place in this pool, which may be the same.
    #[must_use]
    pub fn in_pool(self: &Arc<Self>, pool: &Arc<ServerPool>) -> Arc<Self> {
        match Arc::ptr_eq(&self.pool, pool) {
            true => Arc::clone(self),
            false => pool.join(Arc::clone(&self.membership)),
        }
    }

    /// Another place of the same client's in the same pool; where it has a server, it has that over the other place
    /// from then on.
    ///
    /// # Errors
    /// Whoever the membership is for has as many servers as it may.
    pub fn moved(self: &Arc<Self>, membership: Arc<Membership>, has_server: bool) -> Result<Arc<Self>, Fault> {
        let other = self.pool.join(membership);
        self.move_to(&other, has_server)?;
        Ok(other)
    }

    /// The same to a place that is there.
    ///
    /// # Errors
    /// As [`Seat::moved`].
    pub fn move_to(&self, other: &Arc<Self>, has_server: bool) -> Result<(), Fault> {
        if !has_server || !Arc::ptr_eq(&self.pool, &other.pool) {
            return Ok(());
        }
        let moved = self.pool.ledger.lock().transfer(self.seat, other.seat, self.pool.clock.now());
        self.pool.act();
        moved
    }

    /// As [`ServerPool::is_closed`].
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.pool.is_closed()
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

    /// Asks for a server, best one that carries already what is to be put on it.
    #[must_use]
    pub fn lease(self: &Arc<Self>, injection: Option<&Injection>) -> Leased {
        let pool = &self.pool;
        let mut receiver = None;
        let injection = injection.filter(|injection| injection.carried().is_some());
        let suits = |server: &PooledServer| injection.is_none_or(|injection| server.clean.suits(injection));
        let requested = pool.ledger.lock().request_one(self.seat, pool.clock.now(), suits, || {
            let (sender, answer) = oneshot::channel();
            receiver = Some(answer);
            (sender, Arc::clone(self))
        });
        match (requested, receiver) {
            (Requested::Granted { pooled, check }, _) => Leased::Now(pooled, check),
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
        self.pool.metrics.discards.count(reason.words());
        self.pool.ledger.lock().discarded(self.seat, self.pool.clock.now());
        self.pool.act();
    }

    /// Its leased server is to stay with it beyond the transaction.
    ///
    /// # Errors
    /// The pool, its tenant or its login has as many such servers as it may.
    pub fn pin(self: &Arc<Self>) -> Result<PinPermit, Fault> {
        self.membership.pin()?;
        if let Err(fault) = self.pool.ledger.lock().pin() {
            self.membership.unpin();
            return Err(fault);
        }
        Ok(PinPermit(Arc::clone(self)))
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
            let granted = match self.lease(None) {
                // It is asked something in any case.
                Leased::Now(granted, _) => granted,
                Leased::Later(mut wait) => std::future::poll_fn(|context| wait.poll(context)).await?.0,
                Leased::Refused(fault) => return Err(fault),
            };
            let returning = Returning { seat: Arc::clone(self), is_done: false };
            let Pooled { server, connected_at } = granted;
            let asked = timeout(self.pool.connect_timeout(), ask_greeting(server, base)).await;
            match asked.unwrap_or(Asked::Gone) {
                Asked::Told(server, greeting) => {
                    returning.done();
                    self.pool.greetings.lock().put(base.clone(), Arc::clone(&greeting));
                    self.check_in(Pooled { server, connected_at });
                    return Ok(greeting);
                }
                Asked::Refused(fault, server) => {
                    if let Some(server) = server {
                        returning.done();
                        self.check_in(Pooled { server, connected_at });
                    }
                    return Err(fault);
                }
                // It had been closed while it was idle: the ledger knows now, and gives another.
                Asked::Gone => {}
            }
        }
    }

    /// A server that was idle for long: whether nothing has come from it meanwhile, and whether it
    /// answers. `None` if it was closed. If dropped: the server is closed, but the pool is not told.
    pub async fn proven(&self, mut granted: Granted) -> Option<Granted> {
        let stream = &mut granted.server.link.stream;
        if !std::future::poll_fn(|context| Poll::Ready(poll_is_silent(stream, context))).await {
            drop(granted);
            self.discarded(DiscardReason::ServerGone);
            return None;
        }
        let Pooled { server, connected_at } = granted;
        match timeout(self.pool.connect_timeout(), sign_of_life(server)).await {
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

/// Whether an idle server has sent nothing: most often what it sends is that it closes. Nothing is awaited: who leases
/// it reads from it next.
pub fn poll_is_silent(stream: &mut Stream, context: &mut Context<'_>) -> bool {
    let mut byte = [0_u8; 1];
    let is_nothing = |read: io::Result<usize>| read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
    match stream {
        Stream::Tcp(tcp) => is_nothing(tcp.try_read(&mut byte)),
        Stream::Unix(unix) => is_nothing(unix.try_read(&mut byte)),
        Stream::ClientTls(_) | Stream::ServerTls(_) => {
            Pin::new(stream).poll_read(context, &mut ReadBuf::new(&mut byte)).is_pending()
        }
    }
}

/// Sees to it that the ledger hears of an attempt to connect that has come to no end of its own: it panicked, or its
/// task was dropped. Its place in the pool would be taken for ever.
struct Attempt {
    pool: Arc<ServerPool>,
    is_over: bool,
}

impl Attempt {
    fn over(mut self, outcome: &'static str) {
        self.is_over = true;
        self.pool.metrics.connects.count(outcome);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        tracing::error!(pool = self.pool.name, "an attempt to connect to the server was given up half-way");
        self.pool.metrics.connects.count("failed");
        self.pool.ledger.lock().connect_failed(&Fault::of(Code::ServerUnreachable), self.pool.clock.now());
        // At the runtime's end nobody is left to be told.
        if tokio::runtime::Handle::try_current().is_ok() {
            self.pool.act();
        }
    }
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
    /// It refuses a value. It is as it was, unless it could not be brought to rest: whoever may log in may say what
    /// no server takes, as often as they like, and that must not cost a server each time.
    Refused(Fault, Option<PooledServer>),
    /// It is not there any more.
    Gone,
}

/// Whether PostgreSQL takes an application_name as it is.
fn is_plain_name(name: &str) -> bool {
    name.len() < 64 && name.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

/// Puts settings on a server and hears what it reports.
async fn ask_greeting(pooled: PooledServer, base: &Settings) -> Asked {
    let PooledServer { clean, mut link } = pooled;
    let mut lease: LeasedServer<()> = LeasedServer::new(clean);
    let steps = settings::steps(&lease.server().settings, base);
    if !steps.is_empty() {
        replay(&mut lease, &steps, &|_| ());
    }
    let fault = match converse(&mut lease, &mut link.stream).await {
        Some(fault) => fault,
        None => return Asked::Gone,
    };
    if let Some(fault) = fault {
        let clean = brought_to_rest(lease, &mut link.stream).await;
        return Asked::Refused(fault.fatal(), clean.map(|clean| PooledServer { clean, link }));
    }
    lease.server_mut().settings = Arc::clone(base);
    let told = Arc::clone(&lease.server().parameters);
    match lease.into_clean() {
        Ok(clean) => Asked::Told(PooledServer { clean, link }, told),
        Err(_) => Asked::Gone,
    }
}

/// Ends the transaction in which something was refused: with it goes what was set before that.
async fn brought_to_rest(mut lease: LeasedServer<()>, stream: &mut Stream) -> Option<CleanServer> {
    if lease.replies().status() != TransactionStatus::Idle {
        let mut rollback = BytesMut::new();
        frontend::put_query(&mut rollback, b"ROLLBACK");
        let frame = ScopedFrame::unscoped(NeedsNoScope::Housekeeping, [&rollback, b"", b""], Some(Expect::Query));
        lease.scope_mut().on_end(false);
        if lease.send(frame, ()).is_some() || exchange(&mut lease, stream).await?.is_some() {
            return None;
        }
    }
    lease.into_clean().ok()
}

/// Sends what is queued and a Sync, and takes all answers; as [`exchange`].
async fn converse(lease: &mut LeasedServer<()>, stream: &mut Stream) -> Option<Option<Fault>> {
    let mut sync = BytesMut::new();
    frontend::put_sync(&mut sync);
    let frame = ScopedFrame::unscoped(NeedsNoScope::Housekeeping, [&sync, b"", b""], Some(Expect::Sync));
    if lease.send(frame, ()).is_some() {
        return None;
    }
    exchange(lease, stream).await
}

/// Sends what is queued and takes all answers. `None`: the server is useless; `Some(Some)`: it refused something.
async fn exchange(lease: &mut LeasedServer<()>, stream: &mut Stream) -> Option<Option<Fault>> {
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
    let PooledServer { clean, mut link } = pooled;
    let mut lease: LeasedServer<()> = LeasedServer::new(clean);
    if converse(&mut lease, &mut link.stream).await?.is_some() {
        return None;
    }
    let clean = lease.into_clean().ok()?;
    Some(PooledServer { clean, link })
}

/// Says Terminate and closes, without making anyone wait.
pub fn close_politely(mut stream: Stream) {
    tokio::spawn(async move {
        let mut terminate = BytesMut::new();
        frontend::put_terminate(&mut terminate);
        if let Err(error) = stream.say_farewell(&terminate, FAREWELL_TIMEOUT).await {
            tracing::trace!(%error, "a server was gone before it could be told good-bye");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{EmptyEnvironment, load};
    use crate::driver::proxy::start;
    use crate::pool::{Admission, Limits};

    #[tokio::test]
    async fn an_attempt_that_is_dropped_takes_no_place() {
        // It accepts, by its backlog, and says nothing.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let text = format!(
            "listen.addresses = [\"127.0.0.1:0\"]\n[servers.main]\nhost = \"127.0.0.1\"\nport = {}\n\
             tls.mode = \"disable\"\n[roles.app]\nuser = \"app\"\n[databases.demo]\nserver = \"main\"\nrole = \"app\"\n\
             [logins.a]\npassword = \"x\"\ntenant.from = [\"suffix\"]\n",
            silent.local_addr().unwrap().port()
        );
        let running = start(load(&text, &EmptyEnvironment).unwrap().config).unwrap();
        let pool = running.proxy.all_pools().remove(0);
        let membership = Admission::new(Limits::default()).admit(None, &"a".into()).unwrap();
        let seat = pool.join(Arc::new(membership));
        let (waiter, mut answer) = oneshot::channel();
        let requested = pool.ledger.lock().request(seat.seat, pool.clock.now(), || (waiter, Arc::clone(&seat)));
        assert!(matches!(requested, Requested::Queued(_)));
        assert!(matches!(pool.ledger.lock().poll_action(), Some(Action::Connect)));
        let mut attempt = Box::pin(Arc::clone(&pool).connect_one());
        let is_under_way = std::future::poll_fn(|context| Poll::Ready(attempt.as_mut().poll(context).is_pending()));
        assert!(is_under_way.await);
        assert_eq!(pool.counts().connecting, 1);
        drop(attempt);
        assert_eq!(pool.counts(), PoolCounts::default());
        let told = answer.try_recv().unwrap().unwrap_err();
        assert_eq!(told.code, Some(Code::ServerUnreachable));
    }
}
