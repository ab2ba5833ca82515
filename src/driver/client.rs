//! One client's task: it owns the client's socket and, during a lease, the server's too.
//!
//! Each turn writes what is to be written, then reads what has come, and lets the [`Session`] decide. Reads
//! go into a buffer shared by all clients of a thread, so that an idle client holds none.
//!
//! Owns: the order of reads and writes, back-pressure, carrying out effects. Does not own: any decision
//! about bytes.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};

use super::clock::now_of_day;
use super::connect::send_cancel_to;
use super::deadlines::Deadlines;
use super::flusher::Flush;
use super::gauge::SessionGauge;
use super::generation::Generation;
use super::ledger::{Answer, SessionLedger};
use super::pool::{Granted, Leased, PinPermit, PooledServer, Seat, ServerLink, Wait, close_politely, poll_is_silent};
use super::proxy::{Proxy, Renewed};
use super::registry::{Order, Orders, Registration};
use super::signal::Stage;
use super::stream::Stream;
use crate::audit::{Account, Conclusion, Entry, PreCommit};
use crate::bypass::LimitName;
use crate::fault::{Code, Fault, Severity};
use crate::guard::{Inspected, Preset};
use crate::metrics::Count;
use crate::pool::{Check, Pooled};
use crate::scope::DiscardReason;
use crate::session::{CloseReason, Effect, Input, Overrun, Session};
use crate::tenant::TenantId;
use crate::time::Moment;

/// Bytes read at once: PostgreSQL itself writes 8 KiB at a time; more than 32 KiB saves nothing.
const SCRATCH_BYTES: usize = 32 * 1024;

/// While so much waits to be written to one side, nothing more is read from the other.
const BACKLOG_BYTES_MAX: usize = 64 * 1024;

/// An empty buffer larger than this is freed.
const KEPT_BYTES_MAX: usize = 16 * 1024;

/// How long the last words to a client may take.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

/// How many turns a task takes before others get theirs.
const TURNS_MAX: usize = 64;

/// Why a COMMIT is not sent to a server that may be about to lose its transaction.
const NOT_FLUSHED: &str = "The server could not be asked to bring the transaction's id to its disk.";

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice());
}

/// What a session uses of the proxy.
pub struct Surroundings {
    /// What all sessions share.
    pub proxy: Arc<Proxy>,
    /// The rules that this session has.
    pub generation: Arc<Generation>,
    /// Where its servers come from.
    pub pool: Arc<Seat>,
    /// The client's own place there, while it has another by a claim.
    pub home: Option<Arc<Seat>>,
    /// What is counted.
    pub gauge: SessionGauge,
    /// Where its transactions are recorded, if they are.
    pub ledger: Option<SessionLedger>,
}

/// A server that is leased.
struct Link {
    link: ServerLink,
    connected_at: Moment,
    /// What was written to it is not flushed yet.
    needs_flush: bool,
}

/// Something that is on its way to the session.
enum Pending {
    Nothing,
    Lease(Wait),
    /// A granted server that is being checked.
    Check(Pin<Box<dyn Future<Output = Option<Granted>> + Send>>),
    Inspection(oneshot::Receiver<Inspected>),
    /// The parsers' queue is full.
    Submission(Pin<Box<dyn Future<Output = ()> + Send>>, oneshot::Receiver<Inspected>),
}

/// A record that a session waits for.
struct Awaited {
    what: Due,
    /// Until when; a disk that hangs holds no transaction's locks for ever.
    limit: Pin<Box<Sleep>>,
    is_intent: bool,
}

/// What it waits for.
enum Due {
    /// The server's disk, and then the record: see [`super::flusher`].
    Flush(Pin<Box<dyn Future<Output = Flush> + Send>>, Box<PreCommit>),
    Record(Answer),
}

/// One client's task.
pub struct ClientTask {
    stream: Stream,
    session: Session,
    server: Option<Link>,
    /// That server counts among those that stay with their clients.
    pin: Option<PinPermit>,
    pending: Pending,
    /// A record that is being written.
    record: Option<Awaited>,
    around: Surroundings,
    client: Registration,
    stage: Stage,
    deadlines: Deadlines,
    /// When its bypass is over.
    limit: Option<Box<(LimitName, Pin<Box<Sleep>>)>>,
    /// A cancel of the session's own that is on its way.
    cancelling: Option<oneshot::Receiver<()>>,
    closing: Option<CloseReason>,
    /// What was written to the client is not flushed yet.
    needs_flush: bool,
}

impl ClientTask {
    /// A task for a session that has just begun; `unsent` goes in front of what the session says first. Boxed: a
    /// future that holds a task holds the place it was moved from, too, and there is one for each idle client.
    #[must_use]
    pub fn new(
        stream: Stream,
        mut session: Session,
        around: Surroundings,
        client: Registration,
        unsent: BytesMut,
    ) -> Box<Self> {
        let greeting = session.client_out().split();
        session.client_out().extend_from_slice(&unsent);
        session.client_out().extend_from_slice(&greeting);
        Box::new(Self {
            stream,
            session,
            server: None,
            pin: None,
            pending: Pending::Nothing,
            record: None,
            around,
            client,
            stage: Stage::Serving,
            deadlines: Deadlines::default(),
            limit: None,
            cancelling: None,
            closing: None,
            needs_flush: false,
        })
    }

    /// Serves the client until its session ends; `input` is what it has sent already. If dropped: both connections are
    /// closed, and the pool is told of its server (unless the runtime ends, too).
    pub async fn run(mut self: Box<Self>, input: BytesMut) -> CloseReason {
        if !input.is_empty() {
            self.session.tell_time(now_of_day());
            self.tell();
            self.session.handle(Input::ClientBytes(&input));
        }
        drop(input);
        // Before the first look at orders, so that none comes between.
        let waker = std::future::poll_fn(|context| Poll::Ready(context.waker().clone())).await;
        self.client.slot().set_waker(waker);
        std::future::poll_fn(|context| self.poll_turns(context)).await;
        let reason = self.closing.unwrap_or(CloseReason::ClientGone);
        self.around.gauge.on_end(&self.around.proxy.gauge, reason, self.session.tally_mut());
        Box::pin(self.say_farewell()).await;
        reason
    }

    /// Takes turns until nothing moves; ready when the session is over.
    fn poll_turns(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.tell();
        self.look_at_orders(context);
        for _ in 0..TURNS_MAX {
            self.carry_out(context);
            if self.closing.is_some() {
                return Poll::Ready(());
            }
            if !self.poll_turn(context) {
                self.free_buffers();
                return Poll::Pending;
            }
        }
        // A stream without end has its limits, too.
        self.poll_deadlines(context);
        // Others are waiting for this thread, too.
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// One turn: whether the session has more to say. What was written by then needs no further turn: the reads that
    /// it makes room for come behind it.
    fn poll_turn(&mut self, context: &mut Context<'_>) -> bool {
        let mut moved = self.poll_pending(context);
        moved |= self.poll_record(context);
        moved |= self.poll_write_server(context);
        moved |= self.poll_write_client(context);
        moved |= self.poll_read_server(context);
        if !moved {
            moved = self.poll_read_client(context);
        }
        moved |= self.poll_cancelling(context);
        moved |= self.poll_limit(context);
        moved || self.poll_deadlines(context)
    }

    /// Carries out what the session wants done.
    fn carry_out(&mut self, context: &mut Context<'_>) {
        while let Some(effect) = self.session.poll_effect() {
            match effect {
                Effect::Lease => self.lease(context),
                Effect::Inspect(sql) => self.inspect(sql),
                Effect::Record(entry) => self.write_record(entry),
                Effect::CheckIn(clean) => {
                    self.check_in(clean);
                    self.look_at_generation(context);
                }
                Effect::Limit(limit) => {
                    self.limit = limit.map(|(left, name)| Box::new((name, Box::pin(sleep(left)))));
                }
                Effect::Pin => self.pin_server(),
                Effect::Claim(tenant) => {
                    let answer = self.claim(&tenant);
                    self.session.handle(Input::Claimed(answer));
                }
                Effect::Unclaim => self.unclaim(),
                Effect::Rest => {
                    self.let_rest();
                    self.look_at_generation(context);
                }
                Effect::Cancel => self.cancel_server(),
                Effect::Discard(reason) => {
                    self.discard(reason);
                    self.look_at_generation(context);
                }
                Effect::Refused(code) => {
                    let (proxy, slot) = (&self.around.proxy, self.client.slot());
                    self.around.gauge.on_refused(&proxy.gauge, slot, code, self.session.judged());
                    if let Some(ledger) = &self.around.ledger {
                        ledger.refused(code, self.session.judged(), self.session.reason());
                    }
                    tracing::info!(client = self.client.process_id(), code = code.row().name, "refused");
                }
                Effect::Observed(observed, sql) => {
                    let (proxy, facts) = (&self.around.proxy, self.client.slot().facts());
                    proxy.gauge.observed(facts, observed, &sql);
                    tracing::debug!(client = self.client.process_id(), code = observed.code.row().name, "observed");
                }
                Effect::Close(reason) => {
                    self.give_up_pending();
                    self.closing = Some(reason);
                }
            }
        }
    }

    /// Nothing is waited for any more. A server that was granted goes back, for the pool counts it as leased.
    fn give_up_pending(&mut self) {
        let pool = Arc::clone(&self.around.pool);
        match std::mem::replace(&mut self.pending, Pending::Nothing) {
            Pending::Check(check) => {
                tokio::spawn(async move {
                    if let Some(granted) = check.await {
                        pool.check_in(granted);
                    }
                });
            }
            // A wait gives itself up, and nobody minds an inspection.
            Pending::Nothing | Pending::Lease(_) | Pending::Inspection(_) | Pending::Submission(..) => {}
        }
    }

    /// A record goes to the ledger even if nobody will be here to hear the answer.
    fn write_record(&mut self, entry: Entry) {
        if let Entry::Outcome(outcome) = &entry {
            let metrics = &self.around.proxy.gauge.metrics;
            let word = outcome.conclusion.word();
            match self.around.generation.preset_of(self.client.slot().facts()) {
                // Those of tenants have claimed a bypass.
                Preset::Bypass | Preset::Tenant | Preset::Application => metrics.bypasses.count(word),
                Preset::Migration => metrics.migrations.count(word),
            }
        }
        let is_intent = matches!(entry, Entry::Intent(_));
        match self.around.ledger.as_mut() {
            #[cfg(feature = "mutants")]
            Some(ledger) if is_intent && self.around.proxy.has_mutant(crate::session::Mutant::IntentNotAwaited) => {
                drop(ledger.record(entry));
                self.session.handle(Input::Recorded(Ok(())));
            }
            Some(ledger) => {
                let limit = Box::pin(tokio::time::sleep(ledger.write_timeout()));
                let what = match (entry, &self.server) {
                    (Entry::PreCommit(record), Some(server)) if record.standing.needs_flush() => {
                        let (way, standing) = (Arc::clone(&server.link.way), record.standing);
                        let flush = async move { way.flusher.flush(&way.target, &way.identity, &standing).await };
                        Due::Flush(Box::pin(flush), record)
                    }
                    (entry, _) => Due::Record(ledger.record(entry)),
                };
                self.record = Some(Awaited { what, limit, is_intent });
            }
            None => self.session.handle(Input::Recorded(Err(Fault::of(Code::LedgerUnavailable)))),
        }
    }

    fn poll_record(&mut self, context: &mut Context<'_>) -> bool {
        let Some(awaited) = self.record.as_mut() else { return false };
        let answer = match &mut awaited.what {
            Due::Record(answer) => match Pin::new(answer).poll(context) {
                Poll::Ready(answer) => answer.unwrap_or_else(|_| Err(Fault::of(Code::LedgerUnavailable))),
                Poll::Pending => return self.poll_record_limit(context),
            },
            Due::Flush(flush, _) => match flush.as_mut().poll(context) {
                Poll::Ready(Flush::Gone) => Err(Fault::of(Code::LedgerUnavailable).with_detail(NOT_FLUSHED)),
                Poll::Ready(flush @ (Flush::Done | Flush::Refused)) => {
                    self.record_flushed(flush);
                    return true;
                }
                Poll::Pending => return self.poll_record_limit(context),
            },
        };
        self.record = None;
        if let Some(ledger) = &self.around.ledger {
            self.session.tell_transaction(ledger.transaction());
        }
        self.session.handle(Input::Recorded(answer));
        true
    }

    /// What stands in front of a COMMIT is recorded now that the server's disk has it, or is known not to.
    fn record_flushed(&mut self, flush: Flush) {
        let (Some(awaited), Some(ledger)) = (self.record.as_mut(), self.around.ledger.as_mut()) else {
            self.record = None;
            return self.session.handle(Input::Recorded(Err(Fault::of(Code::LedgerUnavailable))));
        };
        if let Due::Flush(_, record) = &awaited.what {
            let mut record = record.clone();
            record.standing.is_flushed = flush == Flush::Done;
            awaited.what = Due::Record(ledger.record(Entry::PreCommit(record)));
        }
    }

    /// A record that takes too long is none: what it stands in front of is not done.
    fn poll_record_limit(&mut self, context: &mut Context<'_>) -> bool {
        let Some(awaited) = self.record.as_mut() else { return false };
        if awaited.limit.as_mut().poll(context).is_pending() {
            return false;
        }
        let is_intent = awaited.is_intent;
        self.record = None;
        if let Some(ledger) = self.around.ledger.as_mut().filter(|_| is_intent) {
            // It may still be written: then this ends it, and else it is not written either.
            drop(ledger.record(Entry::Outcome(Box::new(Account::default().conclude(Conclusion::RolledBack, None)))));
        }
        let fault = Fault::of(Code::LedgerUnavailable).with_detail("The disk took too long.");
        self.session.handle(Input::Recorded(Err(fault)));
        true
    }

    /// Gets a server, or a place in the queue. One that was idle is looked at before use; the pool is asked again
    /// for each that turns out to be gone.
    fn lease(&mut self, context: &mut Context<'_>) {
        if !self.is_up_to_date() && !self.renew() {
            return;
        }
        let now = self.around.proxy.clock().now();
        self.client.slot().on_request(now);
        self.around.gauge.on_asked(now);
        if let Some(server) = &self.server {
            return self.resume(server.link.place.slot().id(), now);
        }
        loop {
            match self.around.pool.lease(Some(self.session.injection())) {
                Leased::Now(granted, check) => {
                    if self.take_checked(granted, check, context) {
                        return;
                    }
                }
                // Nobody waits in a queue for a client that may be dead.
                Leased::Later(_) if self.session.is_client_done() => return self.session.handle(Input::ClientDone),
                Leased::Later(wait) => {
                    self.pending = Pending::Lease(wait);
                    return;
                }
                Leased::Refused(fault) => return self.on_refused(fault, context),
            }
        }
    }

    /// The server that has stayed with the client is used again.
    fn resume(&mut self, server: u64, now: Moment) {
        self.around.gauge.on_leased();
        if let Some(server) = &self.server {
            server.link.place.slot().on_lease(self.client.process_id(), now);
        }
        self.client.slot().on_lease(server);
        self.session.handle(Input::Resumed);
    }

    /// The session acts for this tenant from now on, unless it is frozen or has all it may have.
    fn claim(&mut self, tenant: &TenantId) -> Result<(), Fault> {
        let proxy = Arc::clone(&self.around.proxy);
        let home = Arc::clone(self.around.home.get_or_insert_with(|| Arc::clone(&self.around.pool)));
        // First whom it acts for, then this look: a freeze that comes between finds the client there.
        self.client.slot().begin_acting(tenant);
        let admitted = match proxy.freezer.has(tenant) {
            true => Err(Fault::of(Code::TenantFrozen)),
            false => proxy.admission.admit_claim(tenant, home.membership()),
        };
        let seated = admitted.and_then(|own| self.around.pool.moved(Arc::new(own), self.server.is_some()));
        match seated {
            Ok(seat) => self.around.pool = seat,
            // What would end a login's session ends a statement here.
            Err(fault) => {
                if self.client.slot().take_back_acting() {
                    self.unclaim();
                }
                return Err(Fault { severity: Severity::Error, ..fault });
            }
        }
        self.around.gauge.on_acting(&proxy.gauge, Some(tenant), self.session.tally_mut());
        Ok(())
    }

    /// It acts for nobody any more.
    fn unclaim(&mut self) {
        self.client.slot().end_acting();
        if let Some(home) = self.around.home.take() {
            match self.around.pool.move_to(&home, self.server.is_some()) {
                Ok(()) => self.around.pool = home,
                // It keeps its place until the next claim.
                Err(_) => self.around.home = Some(home),
            }
        }
        let gauge = self.around.proxy.gauge.clone();
        self.around.gauge.on_acting(&gauge, None, self.session.tally_mut());
    }

    /// Asks whether one more server may stay with its client.
    fn pin_server(&mut self) {
        let answer = match self.around.pool.pin() {
            Ok(permit) => {
                self.pin = Some(permit);
                Ok(())
            }
            Err(fault) => Err(fault),
        };
        self.session.handle(Input::Pinned(answer));
    }

    /// The server stays, and its transaction is over.
    fn let_rest(&mut self) {
        self.around.gauge.on_returned(self.session.tally_mut(), self.around.proxy.clock());
        self.client.slot().on_pinned(self.session.pinned_state(), self.session.prepared_statements());
    }

    /// Takes a server, or begins to check it; `false` if it turned out to be gone.
    fn take_checked(&mut self, mut granted: Granted, check: Check, context: &mut Context<'_>) -> bool {
        match check {
            Check::Nothing => self.take_server(granted, context),
            Check::Silence if poll_is_silent(&mut granted.server.link.stream, context) => {
                self.take_server(granted, context);
            }
            Check::Silence => {
                drop(granted);
                self.around.pool.discarded(DiscardReason::ServerGone);
                return false;
            }
            Check::Life => {
                let pool = Arc::clone(&self.around.pool);
                self.pending = Pending::Check(Box::pin(async move { pool.proven(granted).await }));
            }
        }
        true
    }

    /// There is no server. A pool that a reload has closed may have a successor.
    fn on_refused(&mut self, fault: Fault, context: &mut Context<'_>) {
        if self.stage == Stage::Serving && self.around.pool.is_closed() {
            let closed = Arc::clone(&self.around.pool);
            if !self.renew() {
                return;
            }
            if !Arc::ptr_eq(&closed, &self.around.pool) {
                return self.lease(context);
            }
        }
        self.on_rest();
        self.around.gauge.on_gave_up();
        self.session.handle(Input::LeaseRefused(fault));
    }

    fn is_up_to_date(&self) -> bool {
        self.around.generation.number >= self.around.proxy.signal().read().1
    }

    /// Takes up the newest generation, while no server is leased; whether the session goes on.
    fn renew(&mut self) -> bool {
        debug_assert!(self.server.is_none() || self.session.is_resting(), "a transaction keeps its rules");
        let before = Arc::clone(&self.around.pool);
        match self.around.proxy.renewed(self.client.slot().facts()) {
            Ok(Renewed { generation, pool, rules }) => {
                (self.around.generation, self.around.pool) = (generation, self.around.pool.in_pool(&pool));
                self.around.home = self.around.home.take().map(|home| home.in_pool(&pool));
                let (proxy, client) = (&self.around.proxy, &self.client);
                // A record that is on its way is another transaction's.
                let ledger = proxy.session_ledger(&self.around.generation, client.slot().facts(), client.process_id());
                self.around.ledger = ledger;
                self.session.limit_statements(self.around.generation.config.client_statements);
                self.session.handle(Input::Rules(rules));
                self.keep_server(&before);
                !self.session.is_closed()
            }
            Err(fault) => {
                self.session.handle(Input::Expel(fault));
                false
            }
        }
    }

    /// A server that stays with the client has to be one that its new rules go with: of its pool, and with the scope
    /// statement that they bind to.
    fn keep_server(&mut self, before: &Arc<Seat>) {
        let Some(server) = &self.server else { return };
        let prelude = self.around.generation.prelude_of(self.client.slot().facts());
        if !Arc::ptr_eq(before, &self.around.pool) || !server.link.way.prelude.is_same(prelude) {
            // It goes back to where it came from.
            self.around.pool = Arc::clone(before);
            let detail = "The server that stays with the session is not what it would get now.";
            self.session.handle(Input::Expel(Fault::of(Code::NoLongerAdmitted).with_detail(detail)));
        }
    }

    fn on_rest(&self) {
        self.client.slot().on_rest(self.session.prepared_statements());
    }

    /// A granted server is used, unless a reload came between: the session has to have the newest rules, and
    /// the server the scope statement that these rules bind to.
    fn take_server(&mut self, granted: Granted, context: &mut Context<'_>) {
        if !self.is_up_to_date() {
            self.around.pool.check_in(granted);
            return self.lease(context);
        }
        if !granted.server.link.way.prelude.is_same(self.around.generation.prelude_of(self.client.slot().facts())) {
            drop(granted);
            self.around.pool.discarded(DiscardReason::Retired);
            if self.renew() {
                self.lease(context);
            }
            return;
        }
        let Pooled { server: PooledServer { clean, link }, connected_at } = granted;
        self.around.gauge.on_leased();
        let slot = self.client.slot();
        link.place.slot().on_lease(self.client.process_id(), slot.requested_at());
        slot.on_lease(clean.server().id.0);
        slot.cancel.set(Arc::clone(&link.cancel));
        self.server = Some(Link { link, connected_at, needs_flush: false });
        self.session.handle(Input::Leased(clean));
    }

    fn inspect(&mut self, sql: bytes::Bytes) {
        let (reply, answer) = oneshot::channel();
        let (parsers, generation) = (self.around.proxy.parsers().clone(), &self.around.generation);
        let limits = *generation.policies.of(&self.client.slot().facts().login).limits();
        let submission = Box::pin(async move { parsers.submit(sql, limits, reply).await });
        self.pending = Pending::Submission(submission, answer);
    }

    /// Gives a server back; not before every cancel for it has been carried out.
    fn check_in(&mut self, clean: crate::scope::CleanServer) {
        self.around.gauge.on_returned(self.session.tally_mut(), self.around.proxy.clock());
        let in_flight = self.client.slot().cancel.clear();
        self.pin = None;
        self.on_rest();
        let Some(Link { link, connected_at, needs_flush }) = self.server.take() else { return };
        if needs_flush {
            // What owes no answer (COPY data behind its failure) is still in TLS: it would be the next client's.
            link.place.slot().on_rest(0);
            drop(link);
            return self.around.pool.discarded(DiscardReason::NotQuiet);
        }
        link.place.slot().on_rest(clean.server().statements.len());
        let granted = Pooled { server: PooledServer { clean, link }, connected_at };
        let pool = Arc::clone(&self.around.pool);
        match in_flight {
            None => pool.check_in(granted),
            Some(in_flight) => {
                tokio::spawn(async move {
                    in_flight.settled().await;
                    pool.check_in(granted);
                });
            }
        }
    }

    /// A discarded server is used by nobody after this client, so nobody waits for its cancels.
    fn discard(&mut self, reason: DiscardReason) {
        let target = self.client.slot().cancel.take_target();
        self.pin = None;
        self.on_rest();
        self.around.gauge.on_returned(self.session.tally_mut(), self.around.proxy.clock());
        let Some(Link { link, .. }) = self.server.take() else { return };
        link.place.slot().on_rest(0);
        match target.filter(|_| reason.is_cancelled_first()) {
            Some(target) => drop(tokio::spawn(async move {
                send_cancel_to(&target).await;
                close_politely(link.stream);
            })),
            None => close_politely(link.stream),
        }
        self.around.pool.discarded(reason);
    }

    /// Cancels what the server is doing, in a task of its own: the session's may be gone by then.
    fn cancel_server(&mut self) {
        let Some(cancelling) = self.client.slot().cancel.begin() else {
            return self.session.handle(Input::CancelSettled);
        };
        let (settled, receiver) = oneshot::channel();
        self.cancelling = Some(receiver);
        tokio::spawn(async move {
            send_cancel_to(cancelling.target()).await;
            drop(cancelling);
            if settled.send(()).is_err() {
                tracing::trace!("nobody waits for this cancel any more");
            }
        });
    }

    fn poll_cancelling(&mut self, context: &mut Context<'_>) -> bool {
        let Some(settled) = self.cancelling.as_mut() else { return false };
        if Pin::new(settled).poll(context).is_pending() {
            return false;
        }
        self.cancelling = None;
        self.session.handle(Input::CancelSettled);
        true
    }

    fn poll_limit(&mut self, context: &mut Context<'_>) -> bool {
        let Some(limit) = self.limit.as_mut() else { return false };
        if limit.1.as_mut().poll(context).is_pending() {
            return false;
        }
        let name = limit.0;
        self.limit = None;
        self.session.handle(Input::Overrun(Overrun::Bypass(name)));
        true
    }

    /// What time it is, and how bypasses stand, for a session that depends on either.
    fn tell(&mut self) {
        if self.session.is_sealed() {
            self.session.tell_time(now_of_day());
        }
        if self.session.is_bypass() {
            let login = &self.client.slot().facts().login;
            self.session.tell_standing(self.around.proxy.bypasses.standing(login, now_of_day()));
        }
    }

    /// Where the session stands is noted before the task sleeps, so that nothing is timed that is over already.
    fn poll_deadlines(&mut self, context: &mut Context<'_>) -> bool {
        let Some(overrun) = self.deadlines.poll(self.session.pulse(), &self.around.pool, context) else { return false };
        self.session.handle(Input::Overrun(overrun));
        true
    }

    fn poll_pending(&mut self, context: &mut Context<'_>) -> bool {
        match &mut self.pending {
            Pending::Nothing => false,
            Pending::Lease(wait) => {
                let Poll::Ready(answer) = wait.poll(context) else { return false };
                self.pending = Pending::Nothing;
                self.around.gauge.on_waited(self.around.proxy.clock());
                match answer {
                    Ok((granted, check)) => {
                        if !self.take_checked(granted, check, context) {
                            self.lease(context);
                        }
                    }
                    Err(fault) => self.on_refused(fault, context),
                }
                true
            }
            Pending::Check(check) => {
                let Poll::Ready(proven) = check.as_mut().poll(context) else { return false };
                self.pending = Pending::Nothing;
                self.around.gauge.on_waited(self.around.proxy.clock());
                match proven {
                    Some(granted) => self.take_server(granted, context),
                    None => self.lease(context),
                }
                true
            }
            Pending::Submission(submission, answer) => {
                if submission.as_mut().poll(context).is_pending() {
                    return false;
                }
                let (_, unused) = oneshot::channel();
                self.pending = Pending::Inspection(std::mem::replace(answer, unused));
                true
            }
            Pending::Inspection(answer) => {
                let Poll::Ready(inspected) = Pin::new(answer).poll(context) else { return false };
                self.pending = Pending::Nothing;
                let lost = |_| Err(Arc::new(Fault::of(Code::Internal)));
                self.session.handle(Input::Inspected(inspected.unwrap_or_else(lost)));
                true
            }
        }
    }

    fn poll_read_server(&mut self, context: &mut Context<'_>) -> bool {
        if self.session.client_backlog() > BACKLOG_BYTES_MAX {
            return false;
        }
        let Some(server) = self.server.as_mut() else { return false };
        let session = &mut self.session;
        let moved = poll_read(&mut server.link.stream, context, |read| match read {
            Some(bytes) => session.handle(Input::ServerBytes(bytes)),
            None => session.handle(Input::ServerGone),
        });
        if moved {
            self.around.gauge.on_server_read(&mut self.session, self.around.proxy.clock());
        }
        moved
    }

    fn poll_read_client(&mut self, context: &mut Context<'_>) -> bool {
        let backlog = self.session.server_out().map_or(0, |out| out.len());
        if backlog > BACKLOG_BYTES_MAX || !self.session.wants_client_bytes() {
            return false;
        }
        let session = &mut self.session;
        poll_read(&mut self.stream, context, |read| match read {
            Some(bytes) => {
                session.tally_mut().add(Count::Received, byte_count(bytes.len()));
                session.handle(Input::ClientBytes(bytes));
            }
            None => session.handle(Input::ClientDone),
        })
    }

    fn poll_write_server(&mut self, context: &mut Context<'_>) -> bool {
        let (Some(server), Some(out)) = (self.server.as_mut(), self.session.server_out()) else { return false };
        match poll_write(&mut server.link.stream, out, &mut server.needs_flush, context) {
            Written::Moved => {
                self.around.gauge.on_server_written(self.around.proxy.clock());
                if out.is_empty() {
                    self.session.handle(Input::ServerWritten);
                }
                self.session.has_output()
            }
            Written::Nothing => false,
            Written::Failed => {
                self.session.handle(Input::ServerGone);
                true
            }
        }
    }

    fn poll_write_client(&mut self, context: &mut Context<'_>) -> bool {
        let before = self.session.client_out().len();
        match poll_write(&mut self.stream, self.session.client_out(), &mut self.needs_flush, context) {
            Written::Moved => {
                let sent = before.saturating_sub(self.session.client_out().len());
                self.session.tally_mut().add(Count::Sent, byte_count(sent));
                false
            }
            Written::Nothing => false,
            Written::Failed => {
                self.session.handle(Input::ClientGone);
                true
            }
        }
    }

    fn look_at_orders(&mut self, context: &mut Context<'_>) {
        let orders = self.client.slot().take_orders();
        if !orders.is_empty() {
            self.obey(orders);
        }
        let stage = self.around.proxy.signal().read().0;
        if stage != self.stage {
            self.enter(stage);
        }
        self.look_at_generation(context);
    }

    /// A reload counts as soon as there is no server. With one, or about to get one, it is looked at later: when
    /// the server is given back, or before it is used.
    fn look_at_generation(&mut self, context: &mut Context<'_>) {
        let has_none = self.server.is_none() || self.session.is_resting();
        let may_renew = has_none && !matches!(self.pending, Pending::Check(_));
        if !may_renew || self.is_up_to_date() || self.session.is_closed() {
            return;
        }
        let before = Arc::clone(&self.around.pool);
        let has_moved = self.renew() && !Arc::ptr_eq(&before, &self.around.pool);
        if has_moved && matches!(self.pending, Pending::Lease(_)) {
            // The place in the other pool's queue is given up.
            self.pending = Pending::Nothing;
            self.lease(context);
        }
    }

    fn obey(&mut self, orders: Orders) {
        if orders.has(Order::Freeze) {
            return self.session.handle(Input::Expel(Fault::of(Code::TenantFrozen)));
        }
        if orders.has(Order::Kill) {
            return self.session.handle(Input::Expel(Fault::of(Code::Killed)));
        }
        if orders.has(Order::Standing) {
            self.session.handle(Input::Standing);
        }
        // A cancel of a client that waits for a server ends its wait; of one that waits for nothing, nothing.
        if orders.has(Order::Cancel) && matches!(self.pending, Pending::Lease(_)) {
            self.pending = Pending::Nothing;
            self.on_rest();
            self.around.gauge.on_gave_up();
            self.session.handle(Input::LeaseRefused(Fault::cancelled()));
        } else if orders.has(Order::Cancel) || orders.has(Order::CancelUnsent) {
            self.session.handle(Input::Cancelled);
        }
    }

    fn enter(&mut self, stage: Stage) {
        self.stage = stage;
        match stage {
            Stage::Serving => {}
            Stage::Draining => self.session.handle(Input::Drain),
            Stage::Stopping => self.session.handle(Input::Abort(Fault::of(Code::ShuttingDown))),
        }
    }

    /// An idle client holds no buffer.
    fn free_buffers(&mut self) {
        let out = self.session.client_out();
        if out.is_empty() && (self.server.is_none() || out.capacity() > KEPT_BYTES_MAX) {
            *out = BytesMut::new();
        }
    }

    /// Writes the last words and closes. If dropped: the connection is closed without them.
    async fn say_farewell(&mut self) {
        if self.closing == Some(CloseReason::ClientGone) {
            return;
        }
        let words = self.session.client_out().split();
        if let Err(error) = self.stream.say_farewell(&words, FAREWELL_TIMEOUT).await {
            tracing::trace!(%error, "a client was gone before its last words");
        }
    }
}

fn byte_count(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// A task that ends in any other way than by its session (a panic, the runtime's end) gives back what it holds, too.
impl Drop for ClientTask {
    fn drop(&mut self) {
        if tokio::runtime::Handle::try_current().is_ok() {
            self.give_up_pending();
            self.discard(DiscardReason::ClientLeft);
        }
    }
}

/// Reads once, if anything has come; `None` to `take` means the end.
fn poll_read(stream: &mut Stream, context: &mut Context<'_>, take: impl FnOnce(Option<&[u8]>)) -> bool {
    SCRATCH.with_borrow_mut(|scratch| {
        let mut buffer = ReadBuf::new(scratch);
        match Pin::new(stream).poll_read(context, &mut buffer) {
            Poll::Pending => return false,
            Poll::Ready(Ok(())) if !buffer.filled().is_empty() => take(Some(buffer.filled())),
            Poll::Ready(Ok(()) | Err(_)) => take(None),
        }
        true
    })
}

enum Written {
    Moved,
    Nothing,
    Failed,
}

/// Writes as much as goes; TLS is flushed once everything is written.
fn poll_write(stream: &mut Stream, out: &mut BytesMut, needs_flush: &mut bool, context: &mut Context<'_>) -> Written {
    let mut moved = false;
    while !out.is_empty() {
        match Pin::new(&mut *stream).poll_write(context, out) {
            Poll::Pending => break,
            Poll::Ready(Ok(count)) if count > 0 => {
                out.advance(count);
                moved = true;
                *needs_flush = stream.is_tls();
            }
            Poll::Ready(Ok(_) | Err(_)) => return Written::Failed,
        }
    }
    if *needs_flush {
        match Pin::new(stream).poll_flush(context) {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => *needs_flush = false,
            Poll::Ready(Err(_)) => return Written::Failed,
        }
    }
    if moved { Written::Moved } else { Written::Nothing }
}

#[cfg(test)]
mod tests {
    use super::super::handshake::Arrival;
    use super::super::listener::Reception as _;
    use super::super::proxy::Door;
    use super::*;

    /// The future that a call would give, without a call.
    const fn future_bytes<A, F>(_: &impl FnOnce(A) -> F) -> usize {
        size_of::<F>()
    }

    /// An idle client is to cost no more than 4 KiB, all told. This is the half of it that grows unnoticed: with a
    /// field, or with anything that an async function holds across an await. The other half is the socket's
    /// registration, the cancel key, the tenant's injection and the allocator's own (see docs/benchmarks.md).
    #[test]
    fn an_idle_client_stays_small() {
        let (task, session) = (size_of::<ClientTask>(), size_of::<Session>());
        let serving = future_bytes(&|(proxy, arrival): (&'static Door, Box<Arrival>)| proxy.receive(arrival));
        assert!(task + serving <= 2304, "a task has {task} bytes ({session} its session), serving it takes {serving}");
    }
}
