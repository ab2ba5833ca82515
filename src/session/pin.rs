//! A server that stays with its client beyond a transaction.
//!
//! ```text
//!             statement that leaves state            granted, sent        transaction over
//!   no pin ─────────────────────────────▶ asked ────────────────▶ leased ─────────────────▶ (asking)
//!     ▲                                     │ refused               ▲                          │
//!     │                                     ▼                       │ next message             │ something is left
//!     └── nothing is left: given back ◀─────┴──── (asking) ◀── resting ◀────────────────────────┘
//!                                                                   │ the client leaves
//!                                                                   ▼
//!                                                     state released, asked for: given back, or closed
//! ```
//!
//! Between transactions the server *rests*: it owes nothing and is in no transaction, as one that goes back to its pool,
//! so that the next transaction begins in the same way (settings, scope, rules). *Asking* is an [`Inquiry`] of the
//! proxy's own; the client's messages wait for it. It follows every transaction in which a statement was sent that may
//! leave or release state, so that a ROLLBACK, an error and an UNLISTEN need no rule of their own. With session pooling
//! nothing is asked before the client leaves.
//!
//! Owns: when a server stays, what is asked of it, what it says while it rests. Does not own: what a statement leaves
//! (the guard), what proves it gone (`scope`), how many may stay (the pool).

use std::borrow::Cow;
use std::collections::BTreeSet;

use bytes::{Buf, BytesMut};

use super::cause::Cause;
use super::recording::Readiness;
use super::{CloseReason, Effect, Phase, Session, Waiting};
use crate::fault::{Code, Fault};
use crate::guard::{Control, Keeping, State, Statement, StatementClass};
use crate::scope::{DiscardReason, Inquiry, LeasedServer, NeedsNoScope, PinnedServer, Residue, ScopedFrame, releases};
use crate::upstream::Expect;
use crate::wire::TransactionStatus;
use crate::wire::backend::{self, Fields};
use crate::wire::frame::{HEAD_BYTES, Head};
use crate::wire::frontend;
use crate::wire::limits::INSPECTED_BYTES_MAX;

/// Most statements of SQL's PREPARE in one session: each has to be released by its name.
const PREPARED_MAX: usize = 1_000;

/// Whether this session has had a temporary table. PostgreSQL looks the names of prepared statements up anew when it
/// has its first, and no more behind that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Temporary {
    /// None yet.
    Never,
    /// The transaction that makes the first is under way; with the number of the last preparation in front of it.
    Sent(u64),
    /// It was committed.
    Since(u64),
}

impl Temporary {
    /// Whether the first came behind that preparation.
    pub(super) const fn is_behind(self, serial: u64) -> bool {
        match self {
            Temporary::Never => false,
            Temporary::Sent(latest) | Temporary::Since(latest) => serial <= latest,
        }
    }

    /// A transaction is over.
    pub(super) const fn end(&mut self, is_committed: bool) {
        *self = match *self {
            Temporary::Sent(latest) if is_committed => Temporary::Since(latest),
            Temporary::Sent(_) => Temporary::Never,
            known @ (Temporary::Never | Temporary::Since(_)) => known,
        };
    }
}

/// Whether the server may stay.
#[derive(Debug)]
enum Claim {
    /// The pool is being asked.
    Asked,
    /// It may.
    Granted,
    /// It may not: whoever asked is told.
    Refused(Fault),
}

/// What is known of what is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Knowledge {
    /// What the last inquiry has found; nothing was sent since that changes it.
    Settled,
    /// Something was sent that changes it.
    Due,
    /// The server is being asked.
    Asking,
    /// It gave no answer: a cancel came, say. It is asked again behind the next transaction.
    Unanswered,
}

/// A session's hold on its server.
#[derive(Debug)]
pub(super) struct Pin {
    claim: Claim,
    /// Session pooling: the server stays whether there is state on it or not.
    is_whole: bool,
    knowledge: Knowledge,
    /// The server, between transactions.
    resting: Option<PinnedServer>,
    /// Statements of SQL's PREPARE.
    prepared: BTreeSet<Box<str>>,
    /// The same after everything that was sent succeeds, where that is something else.
    prepared_ahead: Option<BTreeSet<Box<str>>>,
    /// What is left has been released because the client leaves.
    is_cleaned: bool,
}

impl Session {
    /// Whether a server stays with the client, at rest or in a transaction.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.pin.as_ref().is_some_and(|pin| matches!(pin.claim, Claim::Granted))
    }

    /// Whether a server that stays with the client is between transactions.
    #[must_use]
    pub fn is_resting(&self) -> bool {
        self.pin.as_ref().is_some_and(|pin| pin.resting.is_some())
    }

    /// The kinds of state that the pinned server is suspected to carry, a bit for each in the guard's order; `None`
    /// where none is pinned.
    #[must_use]
    pub fn pinned_state(&self) -> Option<u8> {
        let pin = self.pin.as_ref().filter(|pin| matches!(pin.claim, Claim::Granted))?;
        let residue = pin.resting.as_ref().map(PinnedServer::residue);
        let residue = residue.or_else(|| self.lease.as_ref().map(LeasedServer::residue));
        Some(residue.unwrap_or_default().bits())
    }

    /// The same; nothing where none is pinned.
    pub(super) fn kept_state(&self) -> State {
        self.pinned_state().map_or(State::NONE, State::from_bits)
    }

    // -- before a statement

    /// Whether statements may be sent that leave state: the pool has to let the server stay.
    pub(super) fn ready_for_state(&mut self, statements: &[Statement]) -> Readiness {
        let keeping = self.rules.policy.keeping();
        if keeping == Keeping::Refuse && self.pin.is_none() {
            return Readiness::Ready;
        }
        if let Some(fault) = self.refuse_rows_kept(statements) {
            return Readiness::Refused(fault);
        }
        let leaves = statements.iter().fold(State::NONE, |left, statement| left.and(statement.state.leaves));
        let is_wanted = keeping == Keeping::Session || !leaves.is_none();
        match self.pin.as_mut() {
            None if !is_wanted => Readiness::Ready,
            None => {
                self.pin = Some(Box::new(Pin::asked(keeping)));
                self.waiting = Waiting::Pin;
                self.effects.push_back(Effect::Pin);
                Readiness::Held
            }
            Some(pin) => match &pin.claim {
                Claim::Asked => Readiness::Held,
                Claim::Refused(fault) => {
                    let fault = fault.clone();
                    self.pin = None;
                    Readiness::Refused(fault)
                }
                Claim::Granted if is_full(pin, leaves) => Readiness::Refused(Fault::of(Code::TooManyNames)),
                Claim::Granted => Readiness::Ready,
            },
        }
    }

    /// The pool has answered.
    pub(super) fn on_pin_answered(&mut self, answer: Result<(), Fault>) {
        if self.waiting == Waiting::Pin {
            self.waiting = Waiting::Nothing;
        }
        match self.pin.as_mut() {
            Some(pin) if matches!(pin.claim, Claim::Asked) => {
                pin.claim = match answer {
                    Ok(()) => Claim::Granted,
                    Err(fault) => Claim::Refused(fault),
                };
            }
            Some(_) | None => {}
        }
        if self.is_leaving() { self.bring_to_rest() } else { self.advance() }
    }

    /// Statements are sent: what they may leave is suspected from here on.
    pub(super) fn note_state_sent(&mut self, statements: &[Statement]) {
        // One that is dropped with its transaction leaves nothing, and needs no pin.
        let Some(lease) = self.lease.as_mut() else { return };
        if statements.iter().any(|statement| statement.class == StatementClass::CreateTemporary) {
            lease.note_temporary();
            if self.temporary == Temporary::Never {
                self.temporary = Temporary::Sent(self.statements.latest());
            }
        }
        let Some(pin) = self.pin.as_mut() else { return };
        for statement in statements {
            let (leaves, releases) = (statement.state.leaves, statement.state.releases);
            #[cfg(feature = "mutants")]
            let leaves = if self.rules.mutant == Some(super::Mutant::StateForgotten) { Residue::NONE } else { leaves };
            lease.suspect(leaves);
            if !leaves.is_none() || lease.residue().has(releases) {
                pin.knowledge = Knowledge::Due;
            }
        }
    }

    /// So many of what SQL's PREPARE has named were deallocated by the proxy's own statements, the first first: no ROLLBACK
    /// brings them back.
    pub(super) fn note_deallocated(&mut self, count: usize) {
        if let Some(pin) = self.pin.as_mut() {
            pin.forget_prepared(count);
        }
    }

    /// A portal is closed: it may be a cursor WITH HOLD.
    pub(super) fn note_cursor_closed(&mut self) {
        if let (Some(pin), Some(lease)) = (self.pin.as_mut(), self.lease.as_ref())
            && lease.residue().has(Residue::CURSORS)
        {
            pin.knowledge = Knowledge::Due;
        }
    }

    /// What has to run behind a stand-in for DISCARD ALL and DEALLOCATE ALL.
    pub(super) fn releases_behind(&self, statement: &Statement) -> Vec<Cow<'static, str>> {
        let (Some(pin), Some(lease)) = (self.pin.as_ref(), self.lease.as_ref()) else { return Vec::new() };
        let kinds = statement.state.releases.common(lease.residue());
        releases(kinds, pin.prepared().iter().map(|name| &**name))
    }

    /// An Execute of the statement was sent: what comes behind it in its segment meets what it leaves.
    pub(super) fn note_prepared_ahead(&mut self, statement: &Statement) {
        let Some(pin) = self.pin.as_mut() else { return };
        let is_all = matches!(statement.control, Control::DeallocateAll | Control::DiscardAll);
        let deallocated = if let Control::Deallocate(name) = &statement.control { Some(name) } else { None };
        if !is_all && deallocated.is_none() && statement.state.prepares.is_none() {
            return;
        }
        let mut ahead = pin.prepared_ahead.take().unwrap_or_else(|| pin.prepared.clone());
        if is_all {
            ahead.clear();
        }
        if let Some(name) = deallocated {
            ahead.remove(name);
        }
        ahead.extend(statement.state.prepares.clone());
        pin.prepared_ahead = Some(ahead);
    }

    /// Everything is answered: what is known is what there is.
    pub(super) fn settle_prepared(&mut self) {
        if let Some(pin) = self.pin.as_mut() {
            pin.prepared_ahead = None;
        }
    }

    /// A statement has succeeded. `is_stand_in`: another ran in its place.
    pub(super) fn note_state_done(&mut self, statement: &Statement, is_stand_in: bool) {
        let Some(pin) = self.pin.as_mut() else { return };
        if let Some(name) = &statement.state.prepares {
            pin.prepared.insert(name.clone());
        }
        match &statement.control {
            Control::Deallocate(name) if !is_stand_in => drop(pin.prepared.remove(name)),
            Control::Deallocate(_) => {}
            Control::DeallocateAll | Control::DiscardAll => pin.prepared.clear(),
            Control::None
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
            | Control::ResetAll
            | Control::DiscardPlans
            | Control::DiscardSequences
            | Control::DiscardTemp
            | Control::UnlistenAll
            | Control::Unlisten(_)
            | Control::CloseAll
            | Control::CloseCursor(_)
            | Control::AdvisoryUnlockAll
            | Control::Show(_) => {}
        }
    }

    /// Whether a statement deallocates one of SQL's PREPARE.
    pub(super) fn is_sql_prepared(&self, control: &Control) -> bool {
        let Control::Deallocate(name) = control else { return false };
        self.pin.as_ref().is_some_and(|pin| pin.prepared().contains(name))
    }

    /// Whether the login may leave state on a server, so that what releases it is sent.
    pub(super) fn keeps_state(&self) -> bool {
        self.pin.is_some() || self.rules.policy.keeping() != Keeping::Refuse
    }

    // -- behind a transaction

    /// Whether the proxy's own inquiry is with the server.
    pub(super) fn is_asking(&self) -> bool {
        self.pin.as_ref().is_some_and(|pin| pin.knowledge == Knowledge::Asking)
    }

    /// The server has come to rest: it is asked what is left, stays, or goes back.
    pub(super) fn settle_server(&mut self) {
        let is_leaving = self.is_leaving();
        let (Some(pin), Some(lease)) = (self.pin.as_mut(), self.lease.as_mut()) else { return self.give_back() };
        if !matches!(pin.claim, Claim::Granted) {
            return self.give_back();
        }
        #[cfg(feature = "mutants")]
        if is_leaving && self.rules.mutant == Some(super::Mutant::CleaningSkipped) {
            lease.forget_residue();
            return self.give_back();
        }
        if is_leaving {
            if pin.is_whole && !pin.is_cleaned {
                lease.suspect(Residue::PROVABLE);
            }
            let suspected = lease.residue();
            // A seed cannot be proven gone.
            if pin.is_cleaned || suspected.is_none() || suspected.has(Residue::SEED) {
                return self.give_back();
            }
            pin.is_cleaned = true;
            return self.inquire(suspected);
        }
        let is_due = pin.knowledge == Knowledge::Due && !pin.is_whole && !lease.residue().is_none();
        let may_ask = pin.knowledge != Knowledge::Unanswered;
        if may_ask && is_due {
            return self.inquire(Residue::NONE);
        }
        if pin.is_whole || !lease.residue().is_none() { self.rest() } else { self.give_back() }
    }

    /// Sends an inquiry that releases these kinds first.
    fn inquire(&mut self, release: Residue) {
        let (Some(pin), Some(lease)) = (self.pin.as_mut(), self.lease.as_mut()) else { return };
        let names = pin.prepared.iter().map(|name| &**name);
        let (inquiry, sql) = Inquiry::new(release, names, lease.residue());
        pin.knowledge = Knowledge::Asking;
        self.send_housekeeping(&sql, Cause::Inquiry(Box::new(inquiry)));
    }

    /// Sends a Query of the proxy's own to a server that owes nothing.
    pub(super) fn send_housekeeping(&mut self, sql: &str, cause: Cause) {
        let Some(lease) = self.lease.as_mut() else { return };
        let mut bytes = BytesMut::new();
        frontend::put_query(&mut bytes, sql.as_bytes());
        lease.scope_mut().on_end(false);
        let frame = ScopedFrame::unscoped(NeedsNoScope::Housekeeping, [&bytes, b"", b""], Some(Expect::Query));
        if lease.send(frame, cause).is_some() {
            // It skips to a Sync that nobody has sent: it was not at rest.
            lease.set_doubt(DiscardReason::NotQuiet);
        }
    }

    /// The inquiry is over.
    pub(super) fn on_inquired(&mut self, inquiry: &Inquiry, status: TransactionStatus) {
        let (Some(pin), Some(lease)) = (self.pin.as_mut(), self.lease.as_mut()) else { return };
        #[cfg(feature = "mutants")]
        if self.rules.mutant == Some(super::Mutant::InquiryBelieved) && inquiry.found().is_none() {
            lease.forget_residue();
        }
        match (status, inquiry.found()) {
            (TransactionStatus::Idle, Some(found)) => {
                lease.settle(&found);
                pin.knowledge = Knowledge::Settled;
                if inquiry.released().has(Residue::PREPARED) {
                    pin.prepared.clear();
                }
            }
            (TransactionStatus::Idle, None) => pin.give_up_asking(inquiry),
            (TransactionStatus::InBlock | TransactionStatus::Failed, _) => {
                pin.give_up_asking(inquiry);
                self.send_housekeeping("ROLLBACK", Cause::Recovery);
            }
        }
    }

    /// The server waits with its client for the next transaction.
    fn rest(&mut self) {
        let (Some(pin), Some(lease)) = (self.pin.as_mut(), self.lease.take()) else { return };
        self.portals.clear();
        self.control_in_flight = false;
        self.server_in = BytesMut::new();
        match lease.into_pinned() {
            Ok(server) => {
                pin.resting = Some(server);
                self.effects.push_back(Effect::Rest);
                self.settle_acting();
                self.end_if_draining();
            }
            Err(reason) => {
                self.effects.push_back(Effect::Discard(reason));
                if self.server_said_goodbye {
                    // The client has PostgreSQL's own words.
                    return self.close(reason, CloseReason::ServerFailed);
                }
                let detail = format!("The reason is: {}.", reason.words());
                let fault = Fault::of(Code::PinnedServerClosed).with_detail(detail);
                self.end_with(fault, reason, CloseReason::ServerFailed);
            }
        }
    }

    // -- at rest

    /// Takes the resting server for a transaction, or to bring it to rest for good.
    pub(super) fn take_resting(&mut self) -> Option<LeasedServer<Cause>> {
        let pin = self.pin.as_mut()?;
        if pin.knowledge == Knowledge::Unanswered {
            pin.knowledge = Knowledge::Due;
        }
        pin.resting.take().map(LeasedServer::resumed)
    }

    /// The client's next transaction may begin on its server.
    pub(super) fn on_resumed(&mut self) {
        if self.waiting != Waiting::Lease {
            return;
        }
        self.waiting = Waiting::Nothing;
        if let Some(lease) = self.take_resting() {
            self.begin_lease(lease);
        }
    }

    /// What the resting server says: notifications, notices, reports, its end.
    pub(super) fn on_resting_bytes(&mut self, bytes: &[u8]) {
        self.server_in.extend_from_slice(bytes);
        let mut input = std::mem::take(&mut self.server_in);
        while self.is_resting() {
            let head = match Head::read(&input) {
                Ok(Some(head)) if head.body_bytes <= INSPECTED_BYTES_MAX => head,
                Ok(Some(head)) => return self.distrust_resting(&format!("a message of {} bytes", head.body_bytes)),
                Ok(None) => break,
                Err(fault) => return self.distrust_resting(&fault.to_string()),
            };
            let Some(frame) = input.get(..head.frame_bytes()) else { break };
            self.on_resting_message(head.tag, frame);
            input.advance(head.frame_bytes());
        }
        if self.is_resting() && !input.is_empty() {
            self.server_in = input;
        }
    }

    fn on_resting_message(&mut self, tag: u8, frame: &[u8]) {
        let body = frame.get(HEAD_BYTES..).unwrap_or_default();
        match tag {
            b'A' => self.put_notification(frame),
            b'N' => self.client_out.extend_from_slice(frame),
            b'S' => self.on_resting_parameter(body),
            b'E' if Fields::new(body).is_fatal() => {
                // The client hears PostgreSQL's own words, in front of nothing that waits for a record.
                self.drop_held();
                self.client_out.extend_from_slice(frame);
                self.close(DiscardReason::ServerGone, CloseReason::ServerFailed);
            }
            tag => self.distrust_resting(&format!("message {:?} that answers nothing", char::from(tag))),
        }
    }

    /// The client is told at its next ReadyForQuery, as by PostgreSQL.
    fn on_resting_parameter(&mut self, body: &[u8]) {
        let pair = backend::read_parameter_status(body)
            .ok()
            .and_then(|(name, value)| Some((std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?)));
        let Some((name, value)) = pair else { return self.distrust_resting("a malformed ParameterStatus") };
        let resting = self.pin.as_mut().and_then(|pin| pin.resting.as_mut());
        if let Some(Err(reason)) = resting.map(|server| server.take_parameter(name, value)) {
            let fault = Fault::of(Code::ServerProtocol).with_detail(format!("{name} changed on the server"));
            self.end_with(fault, reason, CloseReason::ServerFailed);
        }
    }

    fn distrust_resting(&mut self, detail: &str) {
        let fault = Fault::of(Code::ServerProtocol).with_detail(detail.to_owned());
        self.end_with(fault, DiscardReason::Unexpected, CloseReason::ServerFailed);
    }

    /// The resting server has closed without a word.
    pub(super) fn on_resting_gone(&mut self) {
        if self.is_resting() {
            let fault = Fault::of(Code::ServerLost);
            self.end_with(fault, DiscardReason::ServerGone, CloseReason::ServerFailed);
        }
    }

    /// Whether a notification is the client's: nobody else listens on a server that stays with it.
    pub(super) fn is_notified(&self) -> bool {
        #[cfg(feature = "mutants")]
        if self.rules.mutant == Some(super::Mutant::NotificationDropped) {
            return false;
        }
        let is_heard = self.lease.as_ref().is_some_and(|lease| lease.residue().has(Residue::CHANNELS));
        let is_own = self.pin.as_ref().is_some_and(|pin| pin.is_whole || is_heard);
        is_own && !self.is_leaving()
    }

    /// Whether the end of the server ends the session: what it had left there is lost.
    pub(super) fn rests_on_server(&self) -> bool {
        self.is_pinned() && matches!(self.phase, Phase::Ready | Phase::Skipping)
    }
}

impl Pin {
    /// The server, between transactions.
    pub(super) const fn resting_server(&self) -> Option<&PinnedServer> {
        self.resting.as_ref()
    }

    fn asked(keeping: Keeping) -> Self {
        Self {
            claim: Claim::Asked,
            is_whole: keeping == Keeping::Session,
            knowledge: Knowledge::Settled,
            resting: None,
            prepared: BTreeSet::new(),
            prepared_ahead: None,
            is_cleaned: false,
        }
    }

    /// Names of SQL's PREPARE.
    pub(super) fn prepared(&self) -> &BTreeSet<Box<str>> {
        self.prepared_ahead.as_ref().unwrap_or(&self.prepared)
    }

    /// What is left stays suspected.
    fn give_up_asking(&mut self, inquiry: &Inquiry) {
        self.knowledge = Knowledge::Unanswered;
        self.forget_prepared(inquiry.deallocated());
    }

    fn forget_prepared(&mut self, count: usize) {
        for _ in 0..count {
            drop(self.prepared.pop_first());
        }
    }
}

fn is_full(pin: &Pin, leaves: State) -> bool {
    pin.prepared.len() >= PREPARED_MAX && !leaves.common(State::PREPARED).is_none()
}
