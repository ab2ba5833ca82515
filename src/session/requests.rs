//! The client's messages: framing, waiting, the simple protocol, COPY data, refusals.
//!
//! A message is taken when all of it is there, except bulk (Bind, CopyData), which is forwarded as it
//! comes, and texts too long to be inspected, which are dropped as they come.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::cause::{Cause, Refused};
use super::claims::{Claims, Plan as ClaimPlan, injection_in};
use super::extended::NO_STATEMENT;
use super::query::{self, Block, Circumstances, Sending};
use super::recording::Readiness;
use super::release;
use super::statements::ClientStatement;
use super::{CloseReason, CopyIn, Effect, Passing, Phase, Session, Waiting};
use crate::fault::{Code, Fault, Severity, SqlState};
use crate::guard::{Control, Facts, Inspected, Observed};
use crate::scope::{DiscardReason, NeedsNoScope, ScopedFrame};
use crate::session::settings::{Change, adds_to_journal};
use crate::upstream::Expect;
use crate::wire::frame::{HEAD_BYTES, Head};
use crate::wire::limits::{MESSAGE_BYTES_MAX, NAME_BYTES_MAX, SMALL_MESSAGE_BYTES_MAX};
use crate::wire::{TransactionStatus, backend, frontend};

/// A Bind up to this long is awaited whole, so that a slow client does not hold a server meanwhile.
pub(super) const BIND_WHOLE_BYTES_MAX: usize = 64 * 1024;

/// Parameter types and names beside the text of the longest Parse that is inspected.
const PARSE_EXTRA_BYTES_MAX: usize = 4 * 65_536 + NAME_BYTES_MAX + 16;

/// Text that no version of PostgreSQL parses: what is refused is replaced by it.
const NOT_SQL: &[u8] = b"tenantgate: refused";

/// Text that every version parses and none can run.
const NO_COLUMN: &[u8] = b"SELECT \"tenantgate: refused\"";

/// What a message type is to the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Query,
    Parse,
    Bind,
    Describe,
    Execute,
    Close,
    Sync,
    Flush,
    Terminate,
    FunctionCall,
    CopyData,
    CopyDone,
    CopyFail,
}

impl Kind {
    fn of(tag: u8) -> Option<Self> {
        Some(match tag {
            b'Q' => Kind::Query,
            b'P' => Kind::Parse,
            b'B' => Kind::Bind,
            b'D' => Kind::Describe,
            b'E' => Kind::Execute,
            b'C' => Kind::Close,
            b'S' => Kind::Sync,
            b'H' => Kind::Flush,
            b'X' => Kind::Terminate,
            b'F' => Kind::FunctionCall,
            b'd' => Kind::CopyData,
            b'c' => Kind::CopyDone,
            b'f' => Kind::CopyFail,
            _ => return None,
        })
    }

    /// PostgreSQL's own bounds by type.
    const fn body_bytes_max(self) -> usize {
        match self {
            Kind::Query | Kind::Parse | Kind::Bind | Kind::FunctionCall | Kind::CopyData => MESSAGE_BYTES_MAX,
            Kind::Describe
            | Kind::Execute
            | Kind::Close
            | Kind::Sync
            | Kind::Flush
            | Kind::Terminate
            | Kind::CopyDone
            | Kind::CopyFail => SMALL_MESSAGE_BYTES_MAX,
        }
    }
}

impl Session {
    /// Takes the message at the front of `rest`; gives the bytes used, or `None` if it has to wait.
    pub(super) fn take_message(&mut self, rest: &[u8]) -> Option<usize> {
        if let Some(used) = self.pass_on(rest) {
            return Some(used);
        }
        let head = match Head::read(rest) {
            Ok(head) => head?,
            Err(fault) => return self.violate(fault.to_string()),
        };
        let Some(kind) = Kind::of(head.tag) else {
            return self.violate(format!("message type {:#04x} is not a client's", head.tag));
        };
        if head.body_bytes > kind.body_bytes_max() {
            return self.violate(format!("message type {:?} of {} bytes", char::from(head.tag), head.body_bytes));
        }
        if self.is_ignoring() && !matches!(kind, Kind::Sync | Kind::Terminate) {
            // What was found out about this message must never be taken for the next one's.
            self.inspected = None;
            self.client_passing = Passing::Drop(head.frame_bytes());
            return self.pass_on(rest);
        }
        if self.must_wait(kind) {
            return None;
        }
        self.take_kind(kind, head, rest)
    }

    /// Goes on with a message whose end has not come.
    fn pass_on(&mut self, rest: &[u8]) -> Option<usize> {
        let (left, is_forwarded) = match self.client_passing {
            Passing::Nothing => return None,
            Passing::Forward(left) => (left, true),
            Passing::Drop(left) => (left, false),
        };
        let part = rest.get(..left).unwrap_or(rest);
        if is_forwarded && let Some(lease) = self.lease.as_mut() {
            lease.send_unanswered(ScopedFrame::unscoped(NeedsNoScope::Continuation, [part, b"", b""], None));
        }
        self.client_passing = match left.saturating_sub(part.len()) {
            0 => Passing::Nothing,
            left if is_forwarded => Passing::Forward(left),
            left => Passing::Drop(left),
        };
        Some(part.len())
    }

    /// Whether everything up to the next Sync is ignored, here or by the server.
    fn is_ignoring(&self) -> bool {
        self.phase == Phase::Skipping || self.lease.as_ref().is_some_and(|lease| lease.replies().is_skipping())
    }

    /// Whether a message of this kind has to wait for answers.
    fn must_wait(&self, kind: Kind) -> bool {
        let Some(lease) = &self.lease else { return self.has_parts() };
        let replies = lease.replies();
        let is_copy_unknown = self.copy == CopyIn::Awaited && !matches!(kind, Kind::Sync | Kind::Flush);
        // The state after transaction control decides what may be sent, so a new segment waits for it.
        let is_copy = matches!(kind, Kind::CopyData | Kind::CopyDone | Kind::CopyFail);
        // In copy-in the server ignores Sync and Flush, and the data behind them must not wait for its end.
        let is_copy = is_copy || self.copy == CopyIn::Active;
        let is_state_unknown = self.control_in_flight && !replies.is_open() && !replies.is_empty() && !is_copy;
        #[cfg(feature = "mutants")]
        let is_state_unknown = is_state_unknown && self.rules.mutant != Some(super::Mutant::SegmentNotHeld);
        // Where transactions are recorded, one segment at a time is with the server, and a Query part by part: data may be
        // meant for a COPY in a part that has not been sent.
        let is_for_later = self.copy == CopyIn::None && self.has_parts();
        let is_in_lockstep = self.recorder.as_ref().is_some_and(|recorder| recorder.is_in_lockstep())
            && (!is_copy || self.owes_end() || is_for_later)
            && (self.has_parts() || self.owes_end() || (replies.owes_ready() && !replies.is_open()));
        // Without a Sync the answers may never come.
        let is_leaving = kind == Kind::Terminate && replies.owes_ready();
        is_copy_unknown || is_state_unknown || is_in_lockstep || is_leaving || self.waits_for_installation()
    }

    /// Whether the first of the client's messages that were kept has to wait for answers, not for its own end.
    pub(super) fn is_front_waiting(&self) -> bool {
        let Ok(Some(head)) = Head::read(&self.client_in) else { return false };
        self.client_in.len() >= head.frame_bytes() || Kind::of(head.tag).is_some_and(|kind| self.must_wait(kind))
    }

    fn take_kind(&mut self, kind: Kind, head: Head, rest: &[u8]) -> Option<usize> {
        match kind {
            Kind::Bind => return self.take_bind(head, rest),
            Kind::CopyData => return self.take_copy_data(head, rest),
            Kind::Query if head.body_bytes > self.text_bytes_max().saturating_add(1) => {
                return self.drop_long_text(head, rest, Session::refuse_query);
            }
            Kind::Parse if head.body_bytes > self.text_bytes_max().saturating_add(PARSE_EXTRA_BYTES_MAX) => {
                return self.drop_long_text(head, rest, Session::refuse_parse);
            }
            Kind::FunctionCall => return self.take_function_call(head, rest),
            Kind::Query
            | Kind::Parse
            | Kind::Describe
            | Kind::Execute
            | Kind::Close
            | Kind::Sync
            | Kind::Flush
            | Kind::Terminate
            | Kind::CopyDone
            | Kind::CopyFail => {}
        }
        let body = rest.get(HEAD_BYTES..head.frame_bytes())?;
        let frame = rest.get(..head.frame_bytes())?;
        if self.copy == CopyIn::Active
            && !matches!(kind, Kind::CopyDone | Kind::CopyFail | Kind::Sync | Kind::Flush | Kind::Terminate)
        {
            return self.violate("a message other than COPY data during COPY FROM STDIN".to_owned());
        }
        let is_taken = self.take_whole(kind, frame, body)?;
        is_taken.then_some(frame.len())
    }

    /// A message that is all there. `Some(false)`: it has to wait. `None`: the session ended.
    fn take_whole(&mut self, kind: Kind, frame: &[u8], body: &[u8]) -> Option<bool> {
        match kind {
            Kind::Query => self.on_query(frame, body),
            Kind::Parse => self.on_parse(frame, body),
            Kind::Describe => self.on_describe(frame, body),
            Kind::Execute => self.on_execute(frame, body),
            Kind::Close => self.on_close(frame, body),
            Kind::Sync => Some(self.on_sync(frame)),
            Kind::Flush => Some(self.on_flush()),
            Kind::Terminate => {
                self.leave(CloseReason::Terminated);
                None
            }
            Kind::CopyDone | Kind::CopyFail => Some(self.on_copy_end(frame)),
            Kind::Bind | Kind::CopyData | Kind::FunctionCall => None,
        }
    }

    /// A text too long to be inspected: refused at its head, dropped as it comes.
    fn drop_long_text(&mut self, head: Head, rest: &[u8], refuse: fn(&mut Self, Fault) -> bool) -> Option<usize> {
        if !refuse(self, self.too_long(head.body_bytes)) {
            return None;
        }
        if matches!(self.phase, Phase::Closed) {
            return None;
        }
        self.client_passing = Passing::Drop(head.frame_bytes());
        self.pass_on(rest)
    }

    /// The client broke the protocol: one FATAL, and the server is discarded.
    pub(super) fn violate(&mut self, detail: String) -> Option<usize> {
        let fault = Fault::of(Code::ProtocolViolation).with_detail(detail);
        self.end_with(fault, DiscardReason::ClientLeft, CloseReason::ClientViolation);
        None
    }

    /// A text of about so many bytes is too long to be inspected.
    pub(super) fn too_long(&self, bytes: usize) -> Fault {
        let max = self.text_bytes_max();
        Fault::of(Code::TextTooLong).with_detail(format!("The text has {bytes} bytes, {max} are allowed."))
    }

    /// Longest text that is inspected.
    pub(super) fn text_bytes_max(&self) -> usize {
        self.rules.policy.limits().text_bytes_max
    }

    /// Facts about a text, or `None` while they have to be waited for.
    pub(super) fn inspect(&mut self, sql: &[u8]) -> Option<Inspected> {
        if let Some((text, inspected)) = self.inspected.take()
            && text == sql
        {
            return Some(inspected);
        }
        if let Some(inspected) = self.rules.facts.lookup(sql) {
            return Some(inspected);
        }
        self.waiting = Waiting::Inspection;
        self.inspecting = Bytes::copy_from_slice(sql);
        self.effects.push_back(Effect::Inspect(self.inspecting.clone()));
        None
    }

    /// What is found of a text: its facts, if the policy lets it pass.
    pub(super) fn judge(&mut self, inspected: &Inspected) -> Result<Arc<Facts>, Fault> {
        let facts = inspected.as_ref().map_err(|fault| (**fault).clone())?;
        let facts = self.rules.policy.with_claims(facts);
        self.note_judged(&facts);
        self.weigh(&facts)?;
        self.vet_claims(&facts)?;
        Ok(facts)
    }

    /// The policy's verdict. What is only observed is sent, and its server is nobody else's afterwards.
    pub(super) fn weigh(&mut self, facts: &Facts) -> Result<Option<Observed>, Fault> {
        let observed = self.rules.policy.verdict(facts)?;
        self.has_observed |= observed.is_some();
        Ok(observed)
    }

    /// Has an observed statement counted: once a server is there, for it is judged again then.
    pub(super) fn count_observed(&mut self, observed: Option<Observed>, sql: &[u8]) {
        if let Some(observed) = observed.filter(|_| self.lease.is_some()) {
            self.effects.push_back(Effect::Observed(observed, Bytes::copy_from_slice(sql)));
        }
    }

    /// Makes sure that a server is leased; `false` while one has to be waited for.
    pub(super) fn ensure_lease(&mut self) -> bool {
        if self.lease.is_some() {
            return true;
        }
        if !self.may_lease_for_tenant() {
            return false;
        }
        self.waiting = Waiting::Lease;
        self.effects.push_back(Effect::Lease);
        false
    }

    fn on_query(&mut self, frame: &[u8], body: &[u8]) -> Option<bool> {
        let sql = match frontend::read_query(body) {
            Ok(sql) => sql,
            Err(fault) => return self.violate(fault.to_string()).map(|_| true),
        };
        let Some(inspected) = self.inspect(sql) else { return Some(false) };
        let judged = self.judge(&inspected);
        if let Ok(facts) = &judged
            && self.rules.policy.is_observing()
        {
            let observed = self.rules.policy.verdict(facts).ok().flatten();
            self.count_observed(observed, sql);
        }
        let taken = match (judged, std::str::from_utf8(sql)) {
            (Ok(facts), Ok(text)) => self.send_query(frame, text, &facts),
            (Err(fault), _) => self.refuse_query(fault),
            (Ok(_), Err(_)) => self.refuse_query(Fault::of(Code::NotUtf8)),
        };
        if !taken {
            // The facts are wanted again when the server has come.
            self.inspected = Some((Bytes::copy_from_slice(sql), inspected));
        }
        Some(taken)
    }

    /// Sends an allowed Query; `false` while a server has to be waited for.
    fn send_query(&mut self, frame: &[u8], text: &str, facts: &Arc<Facts>) -> bool {
        if self.lease.is_none() && !self.is_pinned() && release::is_release(facts) {
            self.answer_release(facts);
            return true;
        }
        if let Some(answered) = self.answer_claim(facts) {
            return answered;
        }
        if let Some(fault) = self.take_refusal() {
            return self.refuse_query(fault);
        }
        if let Some(fault) =
            self.lacks_claim(&facts.statements).filter(|_| self.lease.is_none() && facts.statements.len() == 1)
        {
            // With a server it is refused in its place: a block that has failed says so first.
            return self.refuse_query(fault);
        }
        if self.settings.is_full() && facts.statements.iter().any(|statement| adds_to_journal(&statement.control)) {
            return self.refuse_query(Fault::of(Code::TooManyNames));
        }
        if self.is_deallocation_in_doubt(facts) || !self.ensure_lease() {
            return false;
        }
        match self.ready_for_claims(&facts.statements) {
            Readiness::Ready => {}
            Readiness::Held => return false,
            Readiness::Refused(fault) => return self.refuse_query(fault),
        }
        match self.ready_for_state(&facts.statements) {
            Readiness::Ready => {}
            Readiness::Held => return false,
            Readiness::Refused(fault) => return self.refuse_query(fault),
        }
        if self.would_lose_query() && (self.recorder.is_none() || self.records_claims_only()) {
            return self.refuse_query(Fault::of(Code::QueryInSegment));
        }
        if self.is_query_recorded(facts) {
            return self.send_recorded_query(frame, text, facts);
        }
        self.send_planned(frame, text, facts, 0..facts.statements.len());
        true
    }

    /// Whether the server would answer a Query and never commit it: PostgreSQL 18 behind an Execute without Sync, which
    /// here is the proxy's own. Behind one of the client's it does so without the proxy, too.
    fn would_lose_query(&self) -> bool {
        let Some(lease) = self.lease.as_ref() else { return false };
        let is_unsynced = lease.replies().is_open() && lease.scope().predicted() == TransactionStatus::Idle;
        is_unsynced && lease.scope().is_scoped() && !self.has_executed && lease.server().version >= 180_000
    }

    /// Sends these statements of an allowed Query; `false` if they were refused after all.
    pub(super) fn send_planned(&mut self, frame: &[u8], text: &str, facts: &Arc<Facts>, part: Range<usize>) -> bool {
        self.statements.destroy_unnamed();
        self.portals.remove_unnamed();
        let is_whole = part == (0..facts.statements.len());
        let is_followed = self.is_query_followed(facts.statements.get(part.clone()).unwrap_or_default(), is_whole);
        let recorded_in = self.recorded_in().or_else(|| is_followed.then_some(Block::Clients));
        let keeps_state = self.keeps_state();
        let Some(lease) = self.lease.as_mut() else { return false };
        let is_open = lease.replies().is_open();
        self.installing.on_query(is_open);
        // Behind Parse, Bind and Describe alone, and by servers up to 17, it is committed like any other.
        let is_mishandled =
            lease.server().version >= 180_000 && (self.has_executed || lease.scope().is_scoped()) && is_open;
        if is_mishandled && lease.scope().predicted() == TransactionStatus::Idle {
            lease.set_doubt(DiscardReason::QueryBehindExecute);
        }
        let circumstances = Circumstances {
            policy: &self.rules.policy,
            injection: &self.rules.injection,
            settings: &self.settings,
            statements: &self.statements,
            keeps_state,
            sql_prepared: self.pin.as_ref().map(|pin| pin.prepared()),
            is_segment_open: is_open,
            is_read_only: lease.is_read_only(),
            recorded_in,
            #[cfg(feature = "mutants")]
            mutant: self.rules.mutant,
        };
        let mut scope = *lease.scope();
        #[cfg(feature = "mutants")]
        if self.rules.mutant == Some(super::Mutant::NoInjection) {
            scope.on_injected();
        }
        let mut claims = self.claims.as_deref().map(Claims::plan);
        let sending = query::plan(text, facts, part.clone(), &mut scope, circumstances, claims.as_mut());
        let planned = claims.map(ClaimPlan::done);
        if let Sending::Refuse(fault) = sending {
            self.refuse_query(*fault);
            return false;
        }
        *lease.scope_mut() = scope;
        self.send_as(sending, frame, text, facts);
        if let (Some(claims), Some(planned)) = (self.claims.as_mut(), planned) {
            claims.on_planned(planned);
        }
        let statements = facts.statements.get(part).unwrap_or_default();
        for statement in statements {
            self.control_in_flight |= query::is_followed(statement);
            self.settings.on_sent(statement.class, &statement.control);
        }
        if statements.iter().any(|statement| statement.copy_in) {
            self.copy = CopyIn::Awaited;
        }
        self.note_sent(statements, text);
        self.note_state_sent(statements);
        self.note_definitions_sent(statements);
        true
    }

    fn send_as(&mut self, sending: Sending, frame: &[u8], text: &str, facts: &Arc<Facts>) {
        let Some(lease) = self.lease.as_mut() else { return };
        let skipped = match sending {
            Sending::Plain => lease.send(ScopedFrame::self_scoped([frame, b"", b""]), Cause::Client),
            Sending::Single => {
                lease.send(ScopedFrame::self_scoped([frame, b"", b""]), Cause::Single(Arc::clone(facts)))
            }
            Sending::Prefixed => {
                let injection = injection_in(self.claims.as_deref(), &self.rules);
                let scopes = u16::try_from(injection.set_local_statements()).unwrap_or(u16::MAX);
                let prefix_chars = match self.claims {
                    Some(_) => query::chars(injection.set_local()),
                    None => self.prefix_chars,
                };
                let cause = Cause::Prefixed { scopes, prefix_chars };
                send_text(lease, injection.set_local().as_bytes(), text.as_bytes(), cause)
            }
            Sending::Rewritten(plan, sent) => send_text(lease, &sent, b"", Cause::Plan(plan)),
            Sending::Refuse(_) => None,
        };
        drop(skipped);
    }

    /// Answers what pools send on release, from the client's own state.
    fn answer_release(&mut self, facts: &Facts) {
        self.statements.destroy_unnamed();
        for statement in &facts.statements {
            release::put_answer(&mut self.client_out, &statement.control, &self.settings);
            self.apply_release(&statement.control);
        }
        self.settings.commit_alone();
        let is_reset = |control: &Control| matches!(control, Control::ResetAll | Control::DiscardAll);
        if facts.statements.iter().any(|statement| is_reset(&statement.control)) {
            self.tell_defaults();
            self.claims_reset();
        }
        backend::put_ready(&mut self.client_out, TransactionStatus::Idle);
    }

    /// What a release statement does to the client's state.
    pub(super) fn apply_release(&mut self, control: &Control) {
        match control {
            Control::DiscardAll => {
                drop(self.statements.take_named());
                self.settings.record(Change::ResetAll);
            }
            Control::ResetAll => self.settings.record(Change::ResetAll),
            Control::DeallocateAll => drop(self.statements.take_named()),
            Control::Deallocate(name) => drop(self.statements.remove(name.as_bytes())),
            Control::DiscardPlans
            | Control::DiscardSequences
            | Control::DiscardTemp
            | Control::UnlistenAll
            | Control::Unlisten(_)
            | Control::CloseAll
            | Control::AdvisoryUnlockAll
            | Control::None
            | Control::Begin
            | Control::SetTransaction
            | Control::Commit { .. }
            | Control::Rollback { .. }
            | Control::Savepoint(_)
            | Control::Release(_)
            | Control::RollbackTo(_)
            | Control::Set { .. }
            | Control::Configure(_)
            | Control::SetCharacteristics(_)
            | Control::Reset { .. }
            | Control::Claim(_)
            | Control::CloseCursor(_)
            | Control::Show(_) => {}
        }
    }

    /// Refuses a Query: at once where no server is leased, else by a Query that the server must refuse.
    pub(super) fn refuse_query(&mut self, fault: Fault) -> bool {
        self.note_refusal(&fault);
        self.forget_parts();
        if fault.severity == Severity::Fatal {
            self.end_with(fault, DiscardReason::ClientLeft, CloseReason::Limit);
            return true;
        }
        self.statements.destroy_unnamed();
        self.portals.remove_unnamed();
        let Some(lease) = self.lease.as_mut() else {
            backend::put_error(&mut self.client_out, &fault);
            backend::put_ready(&mut self.client_out, TransactionStatus::Idle);
            return true;
        };
        self.installing.on_query(lease.replies().is_open());
        lease.scope_mut().on_segment_end();
        let refused = Refused { fault, expected: SqlState(*b"42601"), dropped: None };
        drop(send_text(lease, NOT_SQL, b"", Cause::Refused(Box::new(refused))));
        self.claims_end_segment();
        true
    }

    /// Refuses a Parse by one that the server must refuse.
    pub(super) fn refuse_parse(&mut self, fault: Fault) -> bool {
        let mut bytes = bytes::BytesMut::new();
        frontend::put_parse(&mut bytes, NO_STATEMENT, NOT_SQL, &[]);
        self.refuse_extended(fault, (&bytes, Expect::Parse), *b"42601", None)
    }

    /// The same of a statement that a failed block does not run: there PostgreSQL says so first.
    pub(super) fn refuse_working_parse(&mut self, fault: Fault) -> bool {
        let mut bytes = bytes::BytesMut::new();
        frontend::put_parse(&mut bytes, NO_STATEMENT, NO_COLUMN, &[]);
        self.refuse_extended(fault, (&bytes, Expect::Parse), *b"42703", None)
    }

    /// Refuses a Parse; one of the unnamed statement drops the one that was there, as in PostgreSQL.
    pub(super) fn refuse_named_parse(&mut self, name: &[u8], fault: Fault) -> bool {
        let dropped = if name.is_empty() { self.statements.remove(b"") } else { None };
        let mut bytes = bytes::BytesMut::new();
        frontend::put_parse(&mut bytes, NO_STATEMENT, NOT_SQL, &[]);
        self.refuse_extended(fault, (&bytes, Expect::Parse), *b"42601", dropped)
    }

    /// Refuses a Bind, Describe or Execute by a Bind of a statement that no server has.
    pub(super) fn refuse_bind(&mut self, fault: Fault) -> bool {
        let mut bytes = bytes::BytesMut::new();
        frontend::put_bind_text(&mut bytes, b"", NO_STATEMENT, &[]);
        self.refuse_extended(fault, (&bytes, Expect::Bind), *b"26000", None)
    }

    fn refuse_extended(
        &mut self,
        fault: Fault,
        (bytes, expect): (&[u8], Expect),
        expected: [u8; 5],
        dropped: Option<ClientStatement>,
    ) -> bool {
        self.note_refusal(&fault);
        if fault.severity == Severity::Fatal {
            self.end_with(fault, DiscardReason::ClientLeft, CloseReason::Limit);
            return true;
        }
        let Some(lease) = self.lease.as_mut() else {
            backend::put_error(&mut self.client_out, &fault);
            self.phase = Phase::Skipping;
            return true;
        };
        let frame = ScopedFrame::unscoped(NeedsNoScope::Refusal, [bytes, b"", b""], Some(expect));
        let refused = Refused { fault, expected: SqlState(expected), dropped };
        drop(lease.send(frame, Cause::Refused(Box::new(refused))));
        true
    }

    pub(super) fn note_refusal(&mut self, fault: &Fault) {
        if let Some(code) = fault.code {
            self.effects.push_back(Effect::Refused(code));
        }
    }

    /// No server could be leased for the message at the front: it is answered by the error.
    pub(super) fn refuse_waiting_message(&mut self, fault: Fault) {
        if self.has_parts() {
            self.refuse_query(fault);
            return;
        }
        let Ok(Some(head)) = Head::read(&self.client_in) else { return };
        self.inspected = None;
        self.note_refusal(&fault);
        backend::put_error(&mut self.client_out, &fault);
        if head.tag == b'Q' {
            self.statements.destroy_unnamed();
            backend::put_ready(&mut self.client_out, TransactionStatus::Idle);
        } else {
            if head.tag == b'P' && self.client_in.get(HEAD_BYTES) == Some(&0) {
                // A Parse of the unnamed statement drops the one that was there, whatever becomes of it.
                drop(self.statements.remove(b""));
            }
            self.phase = Phase::Skipping;
        }
        self.client_passing = Passing::Drop(head.frame_bytes());
    }

    fn on_sync(&mut self, frame: &[u8]) -> bool {
        let Some(lease) = self.lease.as_mut() else {
            self.phase = Phase::Ready;
            backend::put_ready(&mut self.client_out, TransactionStatus::Idle);
            self.end_if_draining();
            return true;
        };
        #[cfg(feature = "mutants")]
        let is_counted = self.rules.mutant == Some(super::Mutant::SyncCountedInCopyIn);
        #[cfg(not(feature = "mutants"))]
        let is_counted = false;
        if self.copy == CopyIn::Active && !is_counted {
            // In copy-in the server ignores Sync, and owes no answer for it.
            return true;
        }
        let frame = ScopedFrame::unscoped(NeedsNoScope::SegmentEnd, [frame, b"", b""], Some(Expect::Sync));
        drop(lease.send(frame, Cause::Client));
        self.segment = self.segment.wrapping_add(1);
        lease.server_mut().preparing.end_segment();
        lease.scope_mut().on_segment_end();
        self.has_executed = false;
        let predicted = lease.scope().predicted();
        self.claims_end_segment();
        match predicted {
            // A server that takes COPY data ignores the Sync: portals live on.
            TransactionStatus::Idle if self.copy == CopyIn::Awaited => {}
            // The prediction may be wrong while transaction control is unanswered: named portals may live on.
            TransactionStatus::Idle if self.control_in_flight => self.portals.remove_unnamed(),
            TransactionStatus::Idle => self.portals.clear(),
            TransactionStatus::InBlock | TransactionStatus::Failed => {}
        }
        true
    }

    fn on_flush(&mut self) -> bool {
        if let Some(lease) = self.lease.as_mut().filter(|_| self.copy != CopyIn::Active) {
            lease.flush();
        }
        true
    }

    fn take_copy_data(&mut self, head: Head, rest: &[u8]) -> Option<usize> {
        self.client_passing = match self.copy {
            CopyIn::Active => Passing::Forward(head.frame_bytes()),
            // PostgreSQL ignores COPY data outside a COPY: it is what a client still sends after a failure.
            CopyIn::None => Passing::Drop(head.frame_bytes()),
            CopyIn::Awaited => return None,
        };
        self.pass_on(rest)
    }

    fn on_copy_end(&mut self, frame: &[u8]) -> bool {
        let Some(lease) = self.lease.as_mut().filter(|_| self.copy == CopyIn::Active) else { return true };
        lease.send_unanswered(ScopedFrame::unscoped(NeedsNoScope::CopyData, [frame, b"", b""], None));
        if lease.replies().front_expects() == Some(Expect::Execute) {
            // What follows waits for the COPY's answer, which the server would keep until a Sync.
            lease.flush();
        }
        self.copy = CopyIn::Awaited;
        true
    }
}

/// Sends a Query of two stretches of text.
fn send_text(lease: &mut crate::scope::LeasedServer<Cause>, front: &[u8], text: &[u8], cause: Cause) -> Option<Cause> {
    let length = front.len().saturating_add(text.len()).saturating_add(5);
    let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    let [a, b, c, d] = length;
    let head = [b'Q', a, b, c, d];
    let mut first = Vec::with_capacity(front.len().saturating_add(HEAD_BYTES));
    first.extend_from_slice(&head);
    first.extend_from_slice(front);
    lease.send(ScopedFrame::self_scoped([&first, text, b"\0"]), cause)
}
