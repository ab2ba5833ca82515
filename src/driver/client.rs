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
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead as _, AsyncWrite as _, AsyncWriteExt as _, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::cancel::{CancelRegistration, CancelTarget};
use super::ledger::{Answer, SessionLedger};
use super::parser::Parsers;
use super::pool::{Granted, Leased, PooledServer, ServerLink, ServerPool, Wait, close_politely, poll_is_silent};
use super::stream::Stream;
use crate::audit::Entry;
use crate::fault::{Code, Fault};
use crate::guard::{Inspected, Limits};
use crate::pool::Pooled;
use crate::scope::DiscardReason;
use crate::session::{CloseReason, Effect, Input, Session};
use crate::time::Moment;

/// Bytes read at once: PostgreSQL itself writes 8 KiB at a time; more than 32 KiB saves nothing.
const SCRATCH_BYTES: usize = 32 * 1024;

/// While so much waits to be written to one side, nothing more is read from the other.
const BACKLOG_BYTES_MAX: usize = 64 * 1024;

/// An empty buffer larger than this is freed.
const KEPT_BYTES_MAX: usize = 16 * 1024;

/// How long a client that is gone may keep its server until the statement it left behind is done.
const LEAVING_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the last words to a client may take.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

/// How many turns a task takes before others get theirs.
const TURNS_MAX: usize = 64;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice());
}

/// What the proxy as a whole is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Serving.
    Serving,
    /// Sessions end when they are between transactions.
    Draining,
    /// Sessions end now.
    Stopping,
}

/// The stage, shared by all tasks: read at every wake-up, so a plain atomic.
#[derive(Debug, Default)]
pub struct SharedStage(AtomicU8);

impl SharedStage {
    /// The stage now.
    #[must_use]
    pub fn read(&self) -> Stage {
        match self.0.load(Ordering::Acquire) {
            0 => Stage::Serving,
            1 => Stage::Draining,
            _ => Stage::Stopping,
        }
    }

    /// Moves on; whoever sleeps has to be woken to see it.
    pub fn set(&self, stage: Stage) {
        let number = match stage {
            Stage::Serving => 0,
            Stage::Draining => 1,
            Stage::Stopping => 2,
        };
        self.0.store(number, Ordering::Release);
    }
}

/// What a session uses of the proxy.
pub struct Surroundings {
    /// Where its servers come from.
    pub pool: Arc<ServerPool>,
    /// Where texts are parsed.
    pub parsers: Parsers,
    /// What a text may cost.
    pub limits: Limits,
    /// What the proxy is doing.
    pub stage: Arc<SharedStage>,
    /// Where its transactions are recorded, if they are.
    pub ledger: Option<SessionLedger>,
}

/// A server that is leased.
struct Link {
    link: ServerLink,
    connected_at: Moment,
}

/// Something that is on its way to the session.
enum Pending {
    Nothing,
    Lease(Wait),
    /// A granted server, to be looked at before use.
    Granted(Box<Granted>),
    /// A granted server that is being checked.
    Check(Pin<Box<dyn Future<Output = Option<Granted>> + Send>>),
    Inspection(oneshot::Receiver<Inspected>),
    /// The parsers' queue is full.
    Submission(Pin<Box<dyn Future<Output = ()> + Send>>, oneshot::Receiver<Inspected>),
}

/// One client's task.
pub struct ClientTask {
    stream: Stream,
    session: Session,
    server: Option<Link>,
    pending: Pending,
    /// A record that is being written.
    record: Option<Answer>,
    around: Surroundings,
    cancel: CancelRegistration,
    stage: Stage,
    leaving: Option<Pin<Box<Sleep>>>,
    closing: Option<CloseReason>,
    needs_flush: (bool, bool),
    is_registered: bool,
}

impl ClientTask {
    /// A task for a session that has just begun; `unsent` goes in front of what the session says first.
    #[must_use]
    pub fn new(
        stream: Stream,
        mut session: Session,
        around: Surroundings,
        cancel: CancelRegistration,
        unsent: BytesMut,
    ) -> Self {
        let greeting = session.client_out().split();
        session.client_out().extend_from_slice(&unsent);
        session.client_out().extend_from_slice(&greeting);
        Self {
            stream,
            session,
            server: None,
            pending: Pending::Nothing,
            record: None,
            around,
            cancel,
            stage: Stage::Serving,
            leaving: None,
            closing: None,
            needs_flush: (false, false),
            is_registered: false,
        }
    }

    /// Serves the client until its session ends; `input` is what it has sent already. If dropped: both
    /// connections are closed, and the pool is not told of its server (only at the runtime's end).
    pub async fn run(mut self, input: BytesMut) -> CloseReason {
        if !input.is_empty() {
            self.session.handle(Input::ClientBytes(&input));
        }
        drop(input);
        std::future::poll_fn(|context| self.poll_turns(context)).await;
        let reason = self.closing.unwrap_or(CloseReason::ClientGone);
        self.say_farewell().await;
        reason
    }

    /// Takes turns until nothing moves; ready when the session is over.
    fn poll_turns(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.is_registered {
            self.is_registered = true;
            self.cancel.slot().set_waker(context.waker().clone());
        }
        self.look_at_stage();
        for _ in 0..TURNS_MAX {
            self.carry_out();
            if self.closing.is_some() {
                return Poll::Ready(());
            }
            if !self.poll_turn(context) {
                self.free_buffers();
                return Poll::Pending;
            }
        }
        // Others are waiting for this thread, too.
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// One turn: whether anything moved.
    fn poll_turn(&mut self, context: &mut Context<'_>) -> bool {
        let mut moved = self.poll_write_server(context);
        moved |= self.poll_write_client(context);
        moved |= self.poll_pending(context);
        moved |= self.poll_record(context);
        moved |= self.poll_read_server(context);
        if !moved {
            moved = self.poll_read_client(context);
        }
        moved | self.poll_leaving(context)
    }

    /// Carries out what the session wants done.
    fn carry_out(&mut self) {
        while let Some(effect) = self.session.poll_effect() {
            match effect {
                Effect::Lease => self.lease(),
                Effect::Inspect(sql) => self.inspect(sql),
                Effect::Record(entry) => self.write_record(entry),
                Effect::CheckIn(clean) => self.check_in(clean),
                Effect::Discard(reason) => self.discard(reason),
                Effect::Refused(code) => {
                    tracing::info!(client = self.cancel.process_id(), code = code.row().name, "refused");
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
            Pending::Granted(granted) => pool.check_in(*granted),
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
        match self.around.ledger.as_mut() {
            Some(ledger) => self.record = Some(ledger.record(entry)),
            None => self.session.handle(Input::Recorded(Err(Fault::of(Code::LedgerUnavailable)))),
        }
    }

    fn poll_record(&mut self, context: &mut Context<'_>) -> bool {
        let Some(answer) = self.record.as_mut() else { return false };
        let Poll::Ready(answer) = Pin::new(answer).poll(context) else { return false };
        self.record = None;
        self.session.handle(Input::Recorded(answer.unwrap_or_else(|_| Err(Fault::of(Code::LedgerUnavailable)))));
        true
    }

    fn lease(&mut self) {
        self.pending = match self.around.pool.lease() {
            Leased::Now(granted, needs_check) => return self.take_granted(granted, needs_check),
            // Nobody waits in a queue for a client that may be dead.
            Leased::Later(_) if self.session.is_client_done() => return self.session.handle(Input::ClientDone),
            Leased::Later(wait) => Pending::Lease(wait),
            Leased::Refused(fault) => return self.session.handle(Input::LeaseRefused(fault)),
        };
    }

    /// A server came: looked at before use if it was idle.
    fn take_granted(&mut self, granted: Granted, needs_check: bool) {
        if !needs_check {
            self.pending = Pending::Granted(Box::new(granted));
            return;
        }
        let pool = Arc::clone(&self.around.pool);
        self.pending = Pending::Check(Box::pin(async move { pool.proven(granted).await }));
    }

    fn take_server(&mut self, granted: Granted) {
        let Pooled { server: PooledServer { clean, link }, connected_at } = granted;
        let key = clean.server().key.clone();
        self.cancel.slot().set(CancelTarget {
            key,
            reached: Arc::clone(&link.reached),
            target: Arc::clone(self.around.pool.target()),
        });
        self.server = Some(Link { link, connected_at });
        self.session.handle(Input::Leased(clean));
    }

    fn inspect(&mut self, sql: bytes::Bytes) {
        let (reply, answer) = oneshot::channel();
        let (parsers, limits) = (self.around.parsers.clone(), self.around.limits);
        let submission = Box::pin(async move { parsers.submit(sql, limits, reply).await });
        self.pending = Pending::Submission(submission, answer);
    }

    /// Gives a server back; not before every cancel for it has been carried out.
    fn check_in(&mut self, clean: crate::scope::CleanServer) {
        let in_flight = self.cancel.slot().clear();
        let Some(Link { link, connected_at }) = self.server.take() else { return };
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

    fn discard(&mut self, reason: DiscardReason) {
        drop_target(&self.cancel);
        if let Some(Link { link, .. }) = self.server.take() {
            close_politely(link.stream);
            self.around.pool.discarded(reason);
        }
    }

    fn poll_pending(&mut self, context: &mut Context<'_>) -> bool {
        match &mut self.pending {
            Pending::Nothing => false,
            Pending::Lease(wait) => {
                let Poll::Ready(answer) = wait.poll(context) else { return false };
                self.pending = Pending::Nothing;
                match answer {
                    Ok(granted) => self.take_server(granted),
                    Err(fault) => self.session.handle(Input::LeaseRefused(fault)),
                }
                true
            }
            Pending::Granted(_) => {
                let Pending::Granted(mut granted) = std::mem::replace(&mut self.pending, Pending::Nothing) else {
                    return false;
                };
                if poll_is_silent(&mut granted.server.link.stream, context) {
                    self.take_server(*granted);
                } else {
                    drop(granted);
                    self.around.pool.discarded(DiscardReason::ServerGone);
                    self.lease();
                }
                true
            }
            Pending::Check(check) => {
                let Poll::Ready(proven) = check.as_mut().poll(context) else { return false };
                self.pending = Pending::Nothing;
                match proven {
                    Some(granted) => self.take_server(granted),
                    None => self.lease(),
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
        if self.session.client_out().len() > BACKLOG_BYTES_MAX {
            return false;
        }
        let Some(server) = self.server.as_mut() else { return false };
        let session = &mut self.session;
        poll_read(&mut server.link.stream, context, |read| match read {
            Some(bytes) => session.handle(Input::ServerBytes(bytes)),
            None => session.handle(Input::ServerGone),
        })
    }

    fn poll_read_client(&mut self, context: &mut Context<'_>) -> bool {
        let backlog = self.session.server_out().map_or(0, |out| out.len());
        if backlog > BACKLOG_BYTES_MAX || !self.session.wants_client_bytes() {
            return false;
        }
        let session = &mut self.session;
        poll_read(&mut self.stream, context, |read| match read {
            Some(bytes) => session.handle(Input::ClientBytes(bytes)),
            None => session.handle(Input::ClientDone),
        })
    }

    fn poll_write_server(&mut self, context: &mut Context<'_>) -> bool {
        let (Some(server), Some(out)) = (self.server.as_mut(), self.session.server_out()) else { return false };
        match poll_write(&mut server.link.stream, out, &mut self.needs_flush.1, context) {
            Written::Moved => {
                if out.is_empty() {
                    self.session.handle(Input::ServerWritten);
                }
                true
            }
            Written::Nothing => false,
            Written::Failed => {
                self.session.handle(Input::ServerGone);
                true
            }
        }
    }

    fn poll_write_client(&mut self, context: &mut Context<'_>) -> bool {
        match poll_write(&mut self.stream, self.session.client_out(), &mut self.needs_flush.0, context) {
            Written::Moved => true,
            Written::Nothing => false,
            Written::Failed => {
                self.session.handle(Input::ClientGone);
                true
            }
        }
    }

    fn look_at_stage(&mut self) {
        // A cancel of a client that waits for a server ends its wait; of one that waits for nothing, nothing.
        if self.cancel.slot().take_cancel() {
            if matches!(self.pending, Pending::Lease(_)) {
                self.pending = Pending::Nothing;
                let fault = Fault::native(b"57014", "canceling statement due to user request");
                self.session.handle(Input::LeaseRefused(fault));
            } else {
                self.session.handle(Input::Cancelled);
            }
        }
        let stage = self.around.stage.read();
        if stage == self.stage {
            return;
        }
        self.stage = stage;
        match stage {
            Stage::Serving => {}
            Stage::Draining => self.session.handle(Input::Drain),
            Stage::Stopping => self.session.handle(Input::Abort(Fault::of(Code::ShuttingDown))),
        }
    }

    /// The client is gone and its server still works for it: not for ever.
    fn poll_leaving(&mut self, context: &mut Context<'_>) -> bool {
        if !self.session.is_leaving() {
            return false;
        }
        let deadline = || Box::pin(sleep_until(Instant::now() + LEAVING_TIMEOUT));
        if self.leaving.get_or_insert_with(deadline).as_mut().poll(context).is_pending() {
            return false;
        }
        self.session.handle(Input::Abort(Fault::of(Code::ShuttingDown)));
        true
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
        let said = timeout(FAREWELL_TIMEOUT, async {
            self.stream.write_all(&words).await?;
            self.stream.shutdown().await
        });
        if !matches!(said.await, Ok(Ok(()))) {
            tracing::trace!("a client was gone before its last words");
        }
    }
}

fn drop_target(cancel: &CancelRegistration) {
    // A discarded server is used by nobody after this client, so nobody waits for its cancels.
    if cancel.slot().clear().is_some() {
        tracing::trace!("a cancel is on its way to a discarded server");
    }
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
