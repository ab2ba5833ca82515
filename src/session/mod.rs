//! One client's life after startup.
//!
//! ```text
//!            message that needs a server            ReadyForQuery(I), nothing owed
//!   no server ─────────────▶ waiting ──▶ leased ─────────────────────────────────▶ no server
//!       │                                  │ client left              │
//!       │ error before any server          ▼                          │ proof fails      (it may stay: `pin`)
//!       ▼                               leaving ──▶ no server         ▼
//!   skipping to Sync                                               discarded
//! ```
//!
//! [`Session::handle`] runs to completion on one input and queues effects; the driver carries them out.
//! Decisions are made on a message's head; bulk is forwarded as runs of bytes.
//!
//! Owns: what every client message becomes, and to whom every server message goes. Does not own: sockets,
//! waiting for servers, parsing SQL.

mod bypassing;
mod calling;
mod cause;
mod claimed;
mod claims;
mod configure;
mod defining;
mod effect;
mod entering;
mod extended;
mod holding;
mod installing;
mod limiting;
#[cfg(feature = "mutants")]
mod mutant;
mod notified;
mod overrun;
mod pin;
mod query;
mod recording;
mod release;
mod replies;
mod requests;
mod sealing;
mod settings;
mod statements;
mod stopwatch;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};

use crate::bypass::{Standing as BypassStanding, Terms};
use crate::fault::{Code, Fault};
use crate::guard::{Facts, FactsCache, Inspected, Keeping, Policy};
use crate::metrics::Tally;
use crate::scope::{CleanServer, DiscardReason, Injection, LeasedServer, Missing, NeedsNoScope, ScopedFrame, install};
use crate::time::TimeOfDay;
use crate::upstream::settings::{converge, steps};
use crate::upstream::{Expect, Parameters, Settings, StatementLimits};
use crate::wire::{TransactionStatus, backend, frontend};

pub use cause::Cause;
pub use claims::{ClaimRules, Claimant};
pub use effect::{CloseReason, Effect, Input};
#[cfg(feature = "mutants")]
pub use mutant::Mutant;
pub use recording::Recording;
pub use settings::ClientSettings;
pub use stopwatch::{Overrun, Pulse, Standing, Stopwatch};

use claims::{Claims, injection_in};
use defining::Defining;
use installing::Installing;
use overrun::OwnCancel;
use pin::{Pin, Temporary};
use query::chars;
use recording::Recorder;
use statements::{ClientStatements, Portals};

/// Most answers owed at once. A longer pipeline waits: the server's replies to so many messages are more
/// than it buffers, so they come without a Flush and the wait ends.
const OWED_MAX: usize = 4_096;

/// Bytes for a server beyond which the client's messages wait: a short Bind may make the proxy prepare a
/// long statement again, so that one packet of the client's may become many.
const OUTBOX_BYTES_MAX: usize = 256 * 1024;

/// What all sessions of one login and configuration share, and this one's tenant.
#[derive(Debug)]
pub struct SessionRules {
    /// How the tenant gets onto a transaction.
    pub injection: Injection,
    /// What this login may send.
    pub policy: Arc<Policy>,
    /// Facts about texts, shared by everybody.
    pub facts: Arc<FactsCache>,
    /// Whether and how its transactions are recorded.
    pub recording: Option<Recording>,
    /// That the client names its tenant by SQL: then the injection is vacant.
    pub claims: Option<Claimant>,
    /// What its bypasses may do; without it they are not limited.
    pub bypass: Option<Terms>,
    /// A planted defect, for tests that must find it.
    #[cfg(feature = "mutants")]
    pub mutant: Option<Mutant>,
}

/// Where the dialogue with the client stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Messages are served.
    Ready,
    /// An error was answered without a server: what comes before the next Sync is ignored.
    Skipping,
    /// The client is gone; a server that is still leased is brought to rest.
    Leaving(CloseReason),
    /// Over.
    Closed,
}

/// What the session waits for before it goes on with the client's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    Nothing,
    Lease,
    Inspection,
    /// Whether a server may stay with the client.
    Pin,
    /// Whether a tenant may be acted for.
    Claim,
}

/// Where a COPY FROM STDIN stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CopyIn {
    /// None is under way: stray data is dropped.
    None,
    /// One was sent, or one was ended: whether the server takes (more) data is not known yet.
    Awaited,
    /// The server takes data.
    Active,
}

/// A message whose end has not come yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passing {
    /// None.
    Nothing,
    /// So many more bytes are forwarded.
    Forward(usize),
    /// So many more bytes are dropped.
    Drop(usize),
}

/// One client's session.
#[derive(Debug)]
pub struct Session {
    rules: Arc<SessionRules>,
    prefix_chars: u32,
    phase: Phase,
    waiting: Waiting,
    /// The text that is being inspected.
    inspecting: Bytes,
    /// What was found of a text, for the message that waits for it and for no other.
    inspected: Option<(Bytes, Inspected)>,
    lease: Option<LeasedServer<Cause>>,
    installing: Installing,
    /// The last values of sequences on the server are another client's until an installation is done.
    sequences_due: bool,
    is_draining: bool,
    copy: CopyIn,
    /// Transaction control was sent that is not answered yet: what follows in a new segment must wait.
    control_in_flight: bool,
    /// An error came since the last ReadyForQuery.
    segment_failed: bool,
    client_in: BytesMut,
    client_passing: Passing,
    client_out: BytesMut,
    server_in: BytesMut,
    server_passing: Passing,
    /// Where in `client_out` the current burst of replies has got to.
    written: usize,
    /// The server has said that it ends the connection.
    server_said_goodbye: bool,
    /// The Bind whose front was just taken was sent, not refused.
    bind_goes_on: bool,
    statements: ClientStatements,
    temporary: Temporary,
    defining: Defining,
    /// The number of its server process, as the client was told.
    process_id: i32,
    portals: Portals,
    settings: ClientSettings,
    /// What the client was last told of the reported settings.
    told: Arc<Parameters>,
    /// What RESET ALL goes back to: what it was told at login, and of other defaults since.
    defaults: Arc<Parameters>,
    /// The segment has executed something.
    has_executed: bool,
    /// The client sends nothing more: what it has sent is still served.
    is_client_done: bool,
    /// Counts segments: what one Sync or Query ends.
    segment: u64,
    effects: VecDeque<Effect>,
    serial_salt: u64,
    /// Present where transactions are recorded.
    recorder: Option<Box<Recorder>>,
    /// Present where a server stays with the client beyond a transaction.
    pin: Option<Box<Pin>>,
    /// Present where the client names its tenant by SQL.
    claims: Option<Box<Claims>>,
    tally: Tally,
    /// Class of the statement that was judged last.
    judged: &'static str,
    /// A statement was sent that would be refused if refusals were not only observed: the server is nobody else's.
    has_observed: bool,
    /// Counts transactions of servers.
    transactions: u64,
    /// Counts answers of servers: what an overdue statement is recognised by.
    steps: u64,
    own_cancel: Option<OwnCancel>,
    /// What it was told last.
    time_of_day: TimeOfDay,
}

impl Session {
    /// A session whose client has just been authenticated. Greets it: reported settings, cancel key, ready.
    ///
    /// `base` are the checked startup parameters, `greeting` what servers of the pool report under them,
    /// `process_id` and `secret` the proxy's own cancel key.
    #[must_use]
    pub fn new(
        rules: Arc<SessionRules>,
        base: Settings,
        greeting: &Arc<Parameters>,
        process_id: i32,
        secret: &[u8],
    ) -> Self {
        let told = Arc::clone(greeting);
        let mut client_out = BytesMut::new();
        for (name, value) in &*told {
            backend::put_parameter_status(&mut client_out, name.as_bytes(), value.as_bytes());
        }
        backend::put_backend_key(&mut client_out, process_id, secret);
        backend::put_ready(&mut client_out, TransactionStatus::Idle);
        Self {
            prefix_chars: chars(rules.injection.set_local()),
            recorder: rules.recording.as_ref().map(|it| Box::new(Recorder::new(it, records_by_claim(&rules)))),
            claims: rules.claims.as_ref().map(|claimant| Box::new(Claims::new(claimant))),
            rules,
            phase: Phase::Ready,
            waiting: Waiting::Nothing,
            inspecting: Bytes::new(),
            inspected: None,
            lease: None,
            installing: Installing::Done,
            sequences_due: false,
            is_draining: false,
            copy: CopyIn::None,
            control_in_flight: false,
            segment_failed: false,
            client_in: BytesMut::new(),
            client_passing: Passing::Nothing,
            client_out,
            server_in: BytesMut::new(),
            server_passing: Passing::Nothing,
            written: 0,
            server_said_goodbye: false,
            bind_goes_on: false,
            statements: ClientStatements::default(),
            temporary: Temporary::Never,
            defining: Defining::default(),
            process_id,
            portals: Portals::default(),
            settings: ClientSettings::new(base),
            defaults: Arc::clone(&told),
            told,
            has_executed: false,
            is_client_done: false,
            segment: 0,
            effects: VecDeque::new(),
            pin: None,
            serial_salt: 0,
            tally: Tally::default(),
            judged: "session",
            has_observed: false,
            transactions: 0,
            steps: 0,
            own_cancel: None,
            time_of_day: TimeOfDay::default(),
        }
    }

    /// How many prepared statements the client may keep; what it has stays.
    pub const fn limit_statements(&mut self, limits: StatementLimits) {
        self.statements.set_limits(limits);
    }

    /// Takes one input and runs as far as it leads.
    pub fn handle(&mut self, input: Input<'_>) {
        match input {
            Input::ClientBytes(bytes) => {
                self.on_client_bytes(bytes);
                self.give_back_if_quiet();
            }
            Input::ServerBytes(bytes) => self.on_server_bytes(bytes),
            Input::ServerWritten => {
                self.give_back_if_quiet();
                self.advance();
            }
            Input::Leased(clean) => self.on_leased(clean),
            Input::Resumed => self.on_resumed(),
            Input::Pinned(answer) => self.on_pin_answered(answer),
            Input::Claimed(answer) => self.on_claimed(answer),
            Input::LeaseRefused(fault) => self.on_lease_refused(fault),
            Input::Inspected(inspected) => self.on_inspected(inspected),
            Input::Recorded(answer) => self.on_recorded(answer),
            Input::Cancelled => self.on_cancelled(),
            Input::ClientDone => self.on_client_done(),
            Input::ClientGone => self.leave(CloseReason::ClientGone),
            Input::ServerGone => self.on_server_gone(),
            Input::Overrun(overrun) => self.on_overrun(overrun),
            Input::Standing => self.on_standing(),
            Input::CancelSettled => self.on_cancel_settled(),
            Input::Drain => self.drain(),
            Input::Abort(fault) => self.end_with(fault, DiscardReason::Shutdown, CloseReason::Shutdown),
            #[cfg(feature = "mutants")]
            Input::Expel(_) if self.rules.mutant == Some(Mutant::ExpelledAfterwards) && self.lease.is_some() => {
                self.drain();
            }
            Input::Expel(fault) => self.end_with(fault, DiscardReason::Expelled, CloseReason::Expelled),
            Input::Rules(rules) => self.take_rules(rules),
        }
        if self.recorder.is_some() {
            self.send_due_end();
            // What was dropped may be the last that a server at rest waited for.
            self.give_back_if_quiet();
        }
        if self.is_client_done {
            self.leave_when_served();
        }
        self.check_invariants();
    }

    /// The next thing for the driver to do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Bytes for the leased server.
    pub fn server_out(&mut self) -> Option<&mut BytesMut> {
        self.lease.as_mut().map(LeasedServer::out_mut)
    }

    /// Whether there is anything to carry out or to write to the server.
    #[must_use]
    pub fn has_output(&self) -> bool {
        !self.effects.is_empty() || self.lease.as_ref().is_some_and(|lease| lease.out_bytes() > 0)
    }

    /// Whether more of the client's bytes would be of use now: not while whole messages wait already.
    #[must_use]
    pub fn wants_client_bytes(&self) -> bool {
        match self.phase {
            Phase::Ready | Phase::Skipping => {
                !self.is_client_done
                    && (self.client_in.len() < INBOX_BYTES_MAX || !(self.is_held() || self.is_front_waiting()))
            }
            Phase::Leaving(_) | Phase::Closed => false,
        }
    }

    /// Whether the client sends nothing more.
    #[must_use]
    pub const fn is_client_done(&self) -> bool {
        self.is_client_done
    }

    /// Whether the session has ended.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// Whether the client is gone and only the server is left to be brought to rest.
    #[must_use]
    pub const fn is_leaving(&self) -> bool {
        matches!(self.phase, Phase::Leaving(_))
    }

    /// How many prepared statements the client holds by name.
    #[must_use]
    pub fn prepared_statements(&self) -> usize {
        self.statements.named_count()
    }

    /// What has been counted since it was last taken.
    pub const fn tally_mut(&mut self) -> &mut Tally {
        &mut self.tally
    }

    /// What is put on its servers.
    #[must_use]
    pub fn injection(&self) -> &Injection {
        injection_in(self.claims.as_deref(), &self.rules)
    }

    /// Whether the leased server owes answers.
    #[must_use]
    pub fn owes_replies(&self) -> bool {
        self.lease.as_ref().is_some_and(|lease| !lease.replies().is_empty())
    }

    /// The class of the statement that was judged last: what a refusal is about.
    #[must_use]
    pub const fn judged(&self) -> &'static str {
        self.judged
    }

    fn on_client_bytes(&mut self, bytes: &[u8]) {
        if self.client_in.is_empty() {
            let used = self.take_messages(bytes);
            self.client_in.extend_from_slice(bytes.get(used..).unwrap_or_default());
        } else {
            self.client_in.extend_from_slice(bytes);
            self.advance();
        }
    }

    /// The client sends nothing more. PostgreSQL serves what came before the end, and so does the proxy,
    /// except that nobody waits in a queue for a client that may be dead.
    fn on_client_done(&mut self) {
        self.is_client_done = true;
        if self.waiting == Waiting::Lease {
            self.leave(CloseReason::ClientDone);
        }
    }

    fn leave_when_served(&mut self) {
        // Answers behind a Sync will come and move things on; a server in copy-in would wait for ever.
        let is_owed = self.lease.as_ref().is_some_and(|lease| lease.replies().owes_ready());
        let is_moving = is_owed && self.copy != CopyIn::Active && !self.is_call_half_sent();
        let is_moving = is_moving || self.asks_standing();
        if !is_moving && self.waiting == Waiting::Nothing && !self.waits_for_record() {
            self.leave(CloseReason::ClientDone);
        }
    }

    /// Goes on with client messages that wait.
    fn advance(&mut self) {
        if self.recorder.is_some() {
            self.go_on_with_parts();
        }
        if self.client_in.is_empty() {
            return;
        }
        let mut input = std::mem::take(&mut self.client_in);
        let used = self.take_messages(&input);
        input.advance(used);
        // An idle client holds no buffer.
        self.client_in = if input.is_empty() { BytesMut::new() } else { input };
    }

    /// Takes messages from the front of `input` until one has to wait; gives the bytes used.
    fn take_messages(&mut self, input: &[u8]) -> usize {
        let mut used = 0;
        while let Some(rest) = input.get(used..).filter(|rest| !rest.is_empty()) {
            if self.is_held() {
                break;
            }
            match self.take_message(rest) {
                Some(count) => used += count,
                None => break,
            }
        }
        used
    }

    /// Whether the client's messages have to wait.
    fn is_held(&self) -> bool {
        self.waiting != Waiting::Nothing
            || self.waits_for_record()
            || self.is_cancelling()
            || self.is_asking()
            || matches!(self.phase, Phase::Leaving(_) | Phase::Closed)
            || self
                .lease
                .as_ref()
                .is_some_and(|lease| lease.replies().len() > OWED_MAX || lease.out_bytes() > OUTBOX_BYTES_MAX)
    }

    fn on_leased(&mut self, clean: CleanServer) {
        self.waiting = Waiting::Nothing;
        self.sequences_due = self.rules.policy.keeping() == Keeping::Session;
        self.begin_lease(LeasedServer::new(clean));
    }

    /// A server is there for a transaction: the client's settings go onto it, then what the client has sent.
    fn begin_lease(&mut self, mut lease: LeasedServer<Cause>) {
        self.transactions = self.transactions.wrapping_add(1);
        lease.tell_time(self.time_of_day);
        let steps = match converge(&mut lease.server_mut().settings, self.settings.committed_mut()) {
            true => Vec::new(),
            false => steps(&lease.server().settings, self.settings.committed()),
        };
        self.control_in_flight = false;
        self.segment_failed = false;
        #[cfg(feature = "mutants")]
        let steps = mutant::on_leased(self.rules.mutant, &mut lease, steps, self.settings.committed());
        self.installing = match install(
            &mut lease,
            Missing { discards_sequences: self.sequences_due, steps: &steps },
            injection_in(self.claims.as_deref(), &self.rules),
            &Cause::Install,
        ) {
            true => Installing::Sent,
            false => Installing::Done,
        };
        self.lease = Some(lease);
        self.has_executed = false;
        if let Phase::Leaving(_) = self.phase {
            self.bring_to_rest();
        } else {
            self.advance();
        }
    }

    fn on_lease_refused(&mut self, fault: Fault) {
        self.waiting = Waiting::Nothing;
        if fault.severity == crate::fault::Severity::Fatal {
            self.end_with(fault, DiscardReason::Shutdown, CloseReason::NoServer);
            return;
        }
        // The message that asked for a server is answered by the error, as if the server had refused it.
        self.refuse_waiting_message(fault);
        self.advance();
    }

    fn on_inspected(&mut self, inspected: Inspected) {
        self.waiting = Waiting::Nothing;
        self.inspected = Some((std::mem::take(&mut self.inspecting), inspected));
        self.advance();
    }

    fn on_server_gone(&mut self) {
        if self.lease.is_none() {
            return self.on_resting_gone();
        }
        match self.phase {
            Phase::Leaving(reason) => self.close(DiscardReason::ServerGone, reason),
            Phase::Ready | Phase::Skipping if self.server_said_goodbye => {
                self.close(DiscardReason::ServerGone, CloseReason::ServerFailed);
            }
            Phase::Ready | Phase::Skipping => {
                let fault = Fault::of(Code::ServerLost);
                self.end_with(fault, DiscardReason::ServerGone, CloseReason::ServerFailed);
            }
            Phase::Closed => {}
        }
    }

    /// Shutdown: at once where no transaction is open, else when it ends.
    fn drain(&mut self) {
        self.is_draining = true;
        self.end_if_draining();
    }

    fn end_if_draining(&mut self) {
        let is_between = self.lease.is_none() && self.phase == Phase::Ready && self.waiting == Waiting::Nothing;
        if self.is_draining && is_between && !self.waits_for_record() {
            self.end_with(Fault::of(Code::ShuttingDown), DiscardReason::Shutdown, CloseReason::Shutdown);
        }
    }

    /// Facts about texts stay true and verdicts are never kept: a message that waits is judged again when it is
    /// taken, a prepared statement at its Bind. Portals end with the lease.
    fn take_rules(&mut self, rules: Arc<SessionRules>) {
        let expel = |fault| (fault, DiscardReason::Expelled, CloseReason::Expelled);
        let not_admitted = |detail| expel(Fault::of(Code::NoLongerAdmitted).with_detail(detail));
        // What the session has set is put on every server it gets: it has to be allowed now, too.
        let is_lost = |name: &str, value: &str| {
            let was_allowed =
                self.rules.policy.is_observing() || self.rules.policy.setting_verdict(name, value).is_ok();
            was_allowed && rules.policy.setting_verdict(name, value).is_err()
        };
        let end = if self.lease.is_some() {
            // A transaction keeps its rules, and nobody asks whether these were not meant: it ends.
            Some(expel(Fault::of(Code::Internal).with_detail("Other rules came during a transaction.")))
        } else if whole_recording(&self.rules) != whole_recording(&rules) {
            // One that is recorded stays so, and the other way round.
            Some(not_admitted("The login's preset has changed, or whether the database is sealed."))
        } else if self.settings.committed().iter().any(|(name, value)| is_lost(name, value)) {
            Some(not_admitted("A setting of the session is not allowed any more."))
        } else {
            None
        };
        if let Some((fault, discard, close)) = end {
            return self.end_with(fault, discard, close);
        }
        if !self.take_claim_rules(&rules) {
            let (fault, discard, close) = not_admitted("The login may not claim the session's tenant any more.");
            return self.end_with(fault, discard, close);
        }
        self.prefix_chars = chars(rules.injection.set_local());
        let is_session = |rules: &SessionRules| rules.policy.keeping() == Keeping::Session;
        // Of a server that stays with it already, too.
        self.sequences_due |= is_session(&rules) && !is_session(&self.rules);
        if self.recorder.is_none() {
            self.recorder = rules.recording.as_ref().map(|recording| Box::new(Recorder::new(recording, true)));
        }
        self.rules = rules;
    }

    /// Ends the session with one error to the client; a leased server is discarded.
    fn end_with(&mut self, fault: Fault, discard: DiscardReason, close: CloseReason) {
        if matches!(self.phase, Phase::Closed) {
            return;
        }
        let fault = fault.fatal();
        if let Some(code) = fault.code {
            self.effects.push_back(Effect::Refused(code));
        }
        // In the middle of a server's message the client would take the error for the rest of it: of a row, say.
        let is_at_boundary = self.drop_held() || !matches!(self.server_passing, Passing::Forward(_));
        if !self.is_leaving() && is_at_boundary {
            backend::put_error(&mut self.client_out, &fault);
        }
        self.close(discard, close);
    }

    fn close(&mut self, discard: DiscardReason, close: CloseReason) {
        self.phase = Phase::Closed;
        self.drop_held();
        self.conclude_lost();
        let is_resting = self.is_resting();
        self.pin = None;
        self.defining.end();
        if self.lease.take().is_some() || is_resting {
            self.effects.push_back(Effect::Discard(discard));
        }
        self.waiting = Waiting::Nothing;
        self.client_in = BytesMut::new();
        self.server_in = BytesMut::new();
        self.effects.push_back(Effect::Close(close));
    }

    /// The client is gone.
    fn leave(&mut self, reason: CloseReason) {
        self.drop_held();
        if reason == CloseReason::ClientGone {
            self.client_out = BytesMut::new();
        }
        if matches!(self.phase, Phase::Closed | Phase::Leaving(_)) {
            return;
        }
        self.client_in = BytesMut::new();
        if self.lease.is_none() {
            self.lease = self.take_resting();
        }
        if self.lease.is_none() {
            self.close(DiscardReason::ClientLeft, reason);
            return;
        }
        self.phase = Phase::Leaving(reason);
        self.waiting = Waiting::Nothing;
        self.bring_to_rest();
    }

    /// The client is gone but a server is leased: where no message is half sent and no segment open, its
    /// transaction is rolled back and the server given back; everything else is discarded.
    fn bring_to_rest(&mut self) {
        let Phase::Leaving(reason) = self.phase else { return };
        let Some(lease) = self.lease.as_mut() else { return self.close(DiscardReason::ClientLeft, reason) };
        let is_half_said = self.client_passing != Passing::Nothing
            // Without a Sync its answer would never come.
            || (self.installing != Installing::Done && !lease.replies().owes_ready())
            || self.copy != CopyIn::None
            || lease.replies().is_open()
            || lease.replies().is_skipping();
        if is_half_said {
            return self.close(DiscardReason::ClientLeft, reason);
        }
        // A part of a message that came by itself would be lost, and its rest be the next client's.
        let is_half_heard = !self.server_in.is_empty() || self.server_passing != Passing::Nothing;
        if !lease.replies().is_empty() || is_half_heard || self.announces_own_end() {
            return;
        }
        let Some(lease) = self.lease.as_mut() else { return };
        if lease.replies().status() == TransactionStatus::Idle {
            self.check_in();
            return;
        }
        let mut query = BytesMut::new();
        frontend::put_query(&mut query, b"ROLLBACK");
        let frame = ScopedFrame::unscoped(NeedsNoScope::Housekeeping, [&query, b"", b""], Some(Expect::Query));
        lease.scope_mut().on_end(false);
        if lease.send(frame, Cause::Recovery).is_some() {
            self.close(DiscardReason::ClientLeft, reason);
        }
    }

    /// The server has come to rest: it goes back, unless it stays with the client.
    fn check_in(&mut self) {
        if self.is_leaving() {
            // Before the server is given back: the driver may take up a newer ledger then.
            self.conclude_lost();
        }
        self.settle_server();
    }

    /// Gives the server back with proof, or discards it.
    fn give_back(&mut self) {
        self.pin = None;
        let Some(mut lease) = self.lease.take() else { return };
        self.portals.clear();
        self.control_in_flight = false;
        self.server_in = BytesMut::new();
        #[cfg(feature = "mutants")]
        if matches!(self.rules.mutant, Some(Mutant::CheckinWhileOwed | Mutant::CheckinInFailedBlock)) {
            self.effects.push_back(Effect::CheckIn(lease.into_unproven()));
            return;
        }
        if std::mem::take(&mut self.has_observed) {
            lease.set_doubt(DiscardReason::Observed);
        }
        let effect = match lease.into_clean() {
            Ok(clean) => Effect::CheckIn(clean),
            Err(reason) => Effect::Discard(reason),
        };
        self.effects.push_back(effect);
        self.settle_acting();
        if let Phase::Leaving(reason) = self.phase {
            self.close(DiscardReason::ClientLeft, reason);
            return;
        }
        self.end_if_draining();
    }

    /// Notes what a refusal would be about.
    fn note_judged(&mut self, facts: &Facts) {
        self.judged = facts.statements.first().map_or("empty", |statement| statement.class.name());
    }

    /// Whether the client knows what the server reports.
    fn tells_nothing(&mut self) -> bool {
        #[cfg(feature = "mutants")]
        if self.rules.mutant == Some(Mutant::ParameterStatusLost) {
            return true;
        }
        self.lease.as_mut().is_none_or(|lease| converge(&mut lease.server_mut().parameters, &mut self.told))
    }

    /// Settings went back to their defaults without a server: the client is told as a server would.
    fn tell_defaults(&mut self) {
        let changed = self.defaults.iter().filter(|(name, value)| self.told.get(*name) != Some(value));
        for (name, value) in changed {
            backend::put_parameter_status(&mut self.client_out, name.as_bytes(), value.as_bytes());
        }
        self.told = Arc::clone(&self.defaults);
    }

    /// Tells the client reported settings that differ from what it was last told.
    fn tell_parameters(&mut self) {
        let Some(lease) = &self.lease else { return };
        let parameters = &lease.server().parameters;
        if Arc::ptr_eq(parameters, &self.told) {
            return;
        }
        for (name, value) in parameters.iter().filter(|(name, value)| self.told.get(*name) != Some(value)) {
            backend::put_parameter_status(&mut self.client_out, name.as_bytes(), value.as_bytes());
            // Not the client's own doing: servers have another default than when it came.
            if self.defaults.get(name) != Some(value) && !self.settings.has(name) {
                Arc::make_mut(&mut self.defaults).insert(name.clone(), value.clone());
            }
        }
        self.told = Arc::clone(parameters);
    }

    /// What must hold between any two inputs.
    fn check_invariants(&self) {
        debug_assert!(!matches!(self.phase, Phase::Closed) || self.lease.is_none());
        debug_assert!(self.lease.is_some() || self.copy == CopyIn::None || self.is_closed());
        debug_assert!(self.waiting != Waiting::Lease || self.lease.is_none());
        debug_assert!(self.lease.is_none() || !self.is_resting());
        debug_assert!(self.installing == Installing::Done || self.lease.is_some() || self.is_closed());
    }
}

/// How every transaction of a session is recorded. (What is recorded from a claim on comes and goes with the right to claim
/// it.)
fn whole_recording(rules: &SessionRules) -> Option<&Recording> {
    rules.recording.as_ref().filter(|_| !records_by_claim(rules))
}

/// Whether a session's records begin with a claim.
fn records_by_claim(rules: &SessionRules) -> bool {
    rules.claims.as_ref().is_some_and(|claimant| claimant.rules.bypass.is_some())
}

/// Most bytes of whole client messages kept while they have to wait; a single longer message may exceed it.
const INBOX_BYTES_MAX: usize = 64 * 1024;
