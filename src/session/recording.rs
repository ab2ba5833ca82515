//! Sessions whose every transaction is recorded: bypass and migration logins. (And the block around a Query on a sealed
//! database, without a record.)
//!
//! ```text
//!        first statement that needs it          durable           BEGIN answered
//!  None ─────────────────────────────▶ Intending ──▶ Intended ──▶ Opening ─────▶ Running
//!    ▲                                     │ refused      └── client's own block ──▲  │ ROLLBACK, or COMMIT (`precommit`)
//!    │                                     ▼                                          ▼ (Ending: the proxy's own)
//!    └── durable ── Concluding ◀──────── (the message is refused)      answered ── ◀──┘
//! ```
//!
//! One segment at a time is with the server. Where the client is outside a transaction block, the proxy opens one, so
//! that nothing commits before the proxy says so; a simple Query that ends transactions in its middle is sent part by
//! part, each behind its own intent. The client's ReadyForQuery waits for the outcome's record.
//!
//! Owns: when a record is due, the block, what is held back. Does not own: the record's content (`audit`), writing
//! it (the driver).

mod bound;
mod precommit;
mod said;

use std::ops::Range;
use std::sync::Arc;

use bytes::BytesMut;

pub(super) use self::bound::Bound;
use self::precommit::Commit;
pub(super) use self::said::{Said, changes_said};
use super::cause::Cause;
use super::holding::Hold;
use super::limiting::Limiting;
use super::query::{self, Block};
use super::release;
use super::replies::Delivery;
use super::sealing::behind_begin;
use super::statements::{ClientStatement, Portal};
use super::{CopyIn, Effect, Passing, Phase, Session};
use crate::audit::{Account, Conclusion, Entry, Intent, Outcome, ParameterKey, Reason, Standing};
use crate::fault::{Code, Fault, SqlState};
use crate::guard::{Control, Facts, Statement, StatementClass};
use crate::scope::{NeedsNoScope, ScopedFrame};
use crate::upstream::Expect;
use crate::wire::frame::Head;
use crate::wire::{TransactionStatus, backend, frontend};

/// That, and how, the transactions of a login are recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    /// Whether a transaction needs a reason.
    pub needs_reason: bool,
    /// Whether there are records. Without them a session has the blocks alone: see `sealing`.
    pub is_written: bool,
    /// Under which digests of bound values are; without one there are none.
    pub parameter_key: Option<Arc<ParameterKey>>,
}

/// Where the current transaction's record stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// There is none.
    #[default]
    None,
    /// The intent is being written; the message in front waits.
    Intending(Wish),
    /// The intent is durable; the message in front goes on.
    Intended(Wish),
    /// The proxy's BEGIN in front of a Query is with the server.
    Opening(Wish),
    /// The transaction runs.
    Running(Block),
    /// In front of a COMMIT the server is asked how the transaction stands.
    Asking(Commit),
    /// The pre-commit record is being written.
    Precommitting(Commit),
    /// It is durable: what commits the transaction, in front, goes on.
    Precommitted(Block),
    /// The proxy's block is over: its COMMIT (`true`) or ROLLBACK goes once the client's message that is half sent (COPY
    /// data behind a failure) is there as a whole.
    EndDue(bool),
    /// The proxy's COMMIT or ROLLBACK is with the server.
    Ending,
    /// The outcome is being written; the client's ReadyForQuery, if it has come, waits.
    Concluding(Option<TransactionStatus>),
}

/// What the client wants of a transaction whose message is not with the server yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Go,
    Cancel,
}

/// What a recorded session keeps beside others.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    is_written: bool,
    pub(super) parameter_key: Option<Arc<ParameterKey>>,
    /// Only from a claimed bypass on.
    is_by_claim: bool,
    /// The last Bind in front of that.
    bound_before: u64,
    /// The last Bind is not executed yet.
    is_bind_open: bool,
    /// What is executed now was bound in front of the record, and noted just now.
    is_noted_late: bool,
    stage: Stage,
    /// The COMMIT of the proxy's block was sent right behind the Query.
    is_end_sent: bool,
    pub(super) account: Account,
    /// What it may do, where that is limited.
    pub(super) limiting: Limiting,
    /// A COMMIT was sent for the open record: without its answer the outcome is unknown.
    commit_sent: bool,
    /// The statement that runs outside of blocks is done, whatever fails behind it.
    absent_done: bool,
    /// The last error of the transaction.
    failure: Option<SqlState>,
    /// What the client hears only with the outcome.
    pub(super) hold: Hold,
    /// The tag of the last CommandComplete of a Query in the proxy's block: the COMMIT may still fail.
    held_complete: Option<Vec<u8>>,
    /// Why the message in front cannot go on.
    refusal: Option<Fault>,
    /// What of a Query is still to be sent.
    rest: Option<Rest>,
    /// An error came since the last part of a Query was sent.
    query_failed: bool,
    flush_asked: bool,
    /// What the server has said of the transaction.
    standing: Option<Standing>,
}

/// The parts of a Query that wait for those before them.
#[derive(Debug)]
struct Rest {
    text: Box<str>,
    facts: Arc<Facts>,
    /// Statements that were sent.
    sent: usize,
}

/// Whether the message in front may go on.
pub(super) enum Readiness {
    Ready,
    Held,
    Refused(Fault),
}

impl Recorder {
    pub(super) fn new(recording: &Recording, is_by_claim: bool) -> Self {
        let parameter_key = recording.parameter_key.clone();
        Self { is_written: recording.is_written, parameter_key, is_by_claim, ..Self::default() }
    }

    /// Whether one segment at a time is with the server.
    pub(super) const fn is_in_lockstep(&self) -> bool {
        (self.is_written && !self.is_by_claim) || self.is_open() || self.rest.is_some()
    }

    /// Whether the ledger's answer is awaited.
    pub(super) const fn is_waiting(&self) -> bool {
        matches!(self.stage, Stage::Intending(_) | Stage::Precommitting(_) | Stage::Concluding(_))
    }

    /// Whether an outcome is being written.
    pub(super) const fn is_concluding(&self) -> bool {
        matches!(self.stage, Stage::Concluding(_))
    }

    /// Whether an outcome is still owed to the ledger.
    pub(super) const fn is_open(&self) -> bool {
        match self.stage {
            Stage::Intending(_)
            | Stage::Intended(_)
            | Stage::Opening(_)
            | Stage::Running(_)
            | Stage::Asking(_)
            | Stage::Precommitting(_)
            | Stage::Precommitted(_)
            | Stage::EndDue(_)
            | Stage::Ending => true,
            Stage::None | Stage::Concluding(_) => false,
        }
    }

    /// Whether the transaction runs in the proxy's block.
    fn is_own(&self) -> bool {
        self.stage == Stage::Running(Block::Own)
    }

    /// Whether the transaction runs in a block, the proxy's or the client's.
    const fn is_in_block(&self) -> bool {
        matches!(self.stage, Stage::Running(Block::Own | Block::Clients))
    }

    fn refuse_cancelled(&mut self) {
        let fault = Fault::cancelled();
        self.failure = Some(fault.sqlstate);
        self.refusal = Some(fault);
    }

    fn is_absent(&self) -> bool {
        self.stage == Stage::Running(Block::Absent)
    }

    fn note(&mut self, statement: &Statement, text: &str, bound: Bound<'_>) {
        self.limiting.note_sent(&statement.control);
        if self.is_open() && self.is_written {
            bound.note_in(&mut self.account, self.parameter_key.as_deref(), statement, text);
            self.commit_sent |= self.is_absent();
        } else if self.is_by_claim && statement.class == StatementClass::DeclareCursor {
            // Its rows may be fetched behind a claim.
            self.account.note_earlier(statement, text);
        }
    }
}

impl Session {
    /// Whether the ledger's answer is awaited.
    pub(super) fn waits_for_record(&self) -> bool {
        self.recorder.as_ref().is_some_and(|recorder| recorder.is_waiting())
    }

    /// Whether the server that is leased belongs to an open record, and so stays.
    pub(super) fn record_holds_server(&self) -> bool {
        self.recorder.as_ref().is_some_and(|recorder| recorder.is_open())
    }

    /// Whether what is sent now runs outside of any block, without a scope.
    pub(super) fn runs_without_block(&self) -> bool {
        self.recorder.as_ref().is_some_and(|recorder| recorder.is_absent())
    }

    /// The ledger has answered.
    pub(super) fn on_recorded(&mut self, answer: Result<(), Fault>) {
        let Some(recorder) = self.recorder.as_mut() else { return };
        match (recorder.stage, answer) {
            (Stage::Precommitting(commit), answer) => self.on_precommit_recorded(commit, answer),
            (Stage::Intending(Wish::Cancel), Ok(())) => {
                recorder.refuse_cancelled();
                return self.conclude_rolled_back();
            }
            (Stage::Intending(wish @ Wish::Go), Ok(())) => recorder.stage = Stage::Intended(wish),
            (Stage::Intending(_), Err(fault)) => {
                recorder.stage = Stage::None;
                recorder.refusal = Some(fault);
            }
            // An outcome that cannot be written now is kept by the ledger; what happened has happened.
            (Stage::Concluding(ready), Ok(()) | Err(_)) => {
                recorder.stage = Stage::None;
                self.release_held();
                if let Some(status) = ready.filter(|_| matches!(self.phase, Phase::Ready | Phase::Skipping)) {
                    backend::put_ready(&mut self.client_out, status);
                }
            }
            // The session left while it waited.
            (
                Stage::None
                | Stage::Intended(_)
                | Stage::Opening(_)
                | Stage::Running(_)
                | Stage::Asking(_)
                | Stage::Precommitted(_)
                | Stage::EndDue(_)
                | Stage::Ending,
                _,
            ) => return,
        }
        self.advance();
        self.end_if_draining();
    }

    /// The client asked for a cancel. What is with the server is cancelled there; what is not yet, here.
    pub(super) fn on_cancelled(&mut self) {
        if let Some(recorder) = self.recorder.as_mut() {
            match &mut recorder.stage {
                Stage::Intending(wish) | Stage::Intended(wish) | Stage::Opening(wish) => *wish = Wish::Cancel,
                Stage::None
                | Stage::Running(_)
                | Stage::Asking(_)
                | Stage::Precommitting(_)
                | Stage::Precommitted(_)
                | Stage::EndDue(_)
                | Stage::Ending
                | Stage::Concluding(_) => {}
            }
        }
    }

    /// Why the message in front cannot go on, asked once.
    pub(super) fn take_refusal(&mut self) -> Option<Fault> {
        self.recorder.as_mut().and_then(|recorder| recorder.refusal.take())
    }

    // -- before a transaction

    /// Asks for the intent's record, if the reason allows.
    fn intend(&mut self, said: &Said) -> Readiness {
        // Where the configuration says why, nobody else does.
        let reason = self.fixed_reason().or(said.reason.as_deref()).and_then(|text| Reason::parse(text).ok());
        let needs_reason = self.rules.recording.as_ref().is_some_and(|recording| recording.needs_reason);
        if self.recorder.is_none() {
            return Readiness::Ready;
        }
        if reason.is_none() && needs_reason {
            return Readiness::Refused(Fault::of(Code::ReasonMissing));
        }
        if let Err(fault) = self.admit_bypass(reason.as_ref()) {
            return Readiness::Refused(fault);
        }
        let Some(recorder) = self.recorder.as_mut() else { return Readiness::Ready };
        recorder.stage = Stage::Intending(Wish::Go);
        if !recorder.is_by_claim {
            recorder.account = Account::default();
        }
        recorder.is_bind_open = false;
        recorder.commit_sent = false;
        recorder.absent_done = false;
        recorder.failure = None;
        let intent = self.intent(reason, said);
        self.effects.push_back(Effect::Record(Entry::Intent(intent)));
        Readiness::Held
    }

    fn intent(&self, reason: Option<Reason>, said: &Said) -> Intent {
        let server = self.lease.as_ref().map(|lease| lease.server());
        let application = self.settings.current("application_name").filter(|name| !name.is_empty());
        let (emergency, ticket) = self.bypass_marks(reason.as_ref());
        Intent {
            reason,
            ticket,
            on_behalf_of: said.on_behalf_of.as_deref().filter(|name| !name.is_empty()).map(Box::from),
            application: application.map(Intent::application_of),
            emergency,
            server: server.map_or(0, |server| server.id.0),
            server_process: server.map_or(0, |server| server.key.process_id),
            server_version: server.map_or(0, |server| server.version),
            leaves_row: self.rules.injection.leaves_row(),
        }
    }

    /// Sends the first part of an allowed Query; `false` while it has to wait.
    pub(super) fn send_recorded_query(&mut self, frame: &[u8], text: &str, facts: &Arc<Facts>) -> bool {
        if self.is_server_skipping() {
            // Behind an error without a Sync the server ignores it, and would ignore the proxy's BEGIN for it.
            return true;
        }
        let part = 0..self.part_end(facts, 0);
        match self.ready_for_part(facts, &part, text) {
            Readiness::Ready => {}
            Readiness::Held => return false,
            Readiness::Refused(fault) => return self.refuse_query(fault),
        }
        if let Readiness::Refused(fault) = self.part_within_limits(facts, &part, text) {
            return self.refuse_query(fault);
        }
        self.seal_part(facts, &part);
        let end = part.end;
        let is_sent = self.send_planned(frame, text, facts, part.clone());
        if is_sent {
            self.end_early(facts, &part);
        }
        if is_sent
            && end < facts.statements.len()
            && let Some(recorder) = self.recorder.as_mut()
        {
            recorder.rest = Some(Rest { text: text.into(), facts: Arc::clone(facts), sent: end });
        }
        true
    }

    /// Where the next part of a Query ends: behind the first statement that ends a transaction, if one that has to be
    /// recorded comes after it.
    fn part_end(&self, facts: &Facts, start: usize) -> usize {
        let is_end =
            |statement: &Statement| matches!(statement.control, Control::Commit { .. } | Control::Rollback { .. });
        let rest = facts.statements.get(start..).unwrap_or_default();
        let end = rest.iter().position(is_end).map_or(rest.len(), |at| at + 1);
        let is_due = |statement: &Statement| self.begins_record(statement);
        let (until, behind) = rest.split_at(end.min(rest.len()));
        if let Some(end) = self.announced_part_end(until) {
            return start + end;
        }
        match self.sealed_part_end(until) {
            Some(end) => start + end,
            None if behind.iter().any(is_due) || (!behind.is_empty() && self.is_claim_over(until)) => start + end,
            None => facts.statements.len(),
        }
    }

    /// Whether statements that end a transaction end a claimed bypass: what stands behind them is in no record.
    fn is_claim_over(&self, until: &[Statement]) -> bool {
        let is_open = self.recorder.as_ref().is_some_and(|recorder| recorder.is_open());
        self.records_claims_only() && (is_open || until.iter().any(|statement| self.claims_bypass(statement)))
    }

    /// Whether a statement has to be recorded.
    fn begins_record(&self, statement: &Statement) -> bool {
        match self.records_claims_only() {
            true => self.claims_bypass(statement),
            false => self.rules.policy.needs_scope(statement) || matches!(statement.control, Control::Claim(_)),
        }
    }

    /// Whether a Query is still to be sent in part: nothing behind it but COPY data is taken.
    pub(super) fn has_parts(&self) -> bool {
        self.recorder.as_ref().is_some_and(|recorder| recorder.rest.is_some())
    }

    /// Sends the next part of a Query, if its turn has come.
    pub(super) fn go_on_with_parts(&mut self) {
        let is_busy = self.is_held() || self.lease.as_ref().is_some_and(|lease| lease.replies().owes_ready());
        if is_busy || !self.has_parts() || !self.ensure_lease() {
            return;
        }
        let Some(rest) = self.recorder.as_mut().and_then(|recorder| recorder.rest.take()) else { return };
        if self.is_server_skipping() {
            // With the part in front of it.
            return;
        }
        // The server was given back in between: other rules may be in force.
        let behind = rest.facts.statements.get(rest.sent..).unwrap_or_default();
        if let Err(fault) = behind.iter().try_for_each(|statement| self.rules.policy.judge_statement(statement)) {
            self.refuse_query(fault);
            return;
        }
        let part = rest.sent..self.part_end(&rest.facts, rest.sent);
        match self.ready_for_claims(rest.facts.statements.get(part.clone()).unwrap_or_default()) {
            Readiness::Ready => {}
            Readiness::Held => return self.keep_rest(rest),
            Readiness::Refused(fault) => {
                self.refuse_query(fault);
                return;
            }
        }
        match self.ready_for_state(rest.facts.statements.get(part.clone()).unwrap_or_default()) {
            Readiness::Ready => {}
            Readiness::Held => return self.keep_rest(rest),
            Readiness::Refused(fault) => {
                self.refuse_query(fault);
                return;
            }
        }
        match self.ready_for_part(&rest.facts, &part, &rest.text) {
            Readiness::Ready => {}
            Readiness::Held => return self.keep_rest(rest),
            Readiness::Refused(fault) => {
                self.refuse_query(fault);
                return;
            }
        }
        if let Readiness::Refused(fault) = self.part_within_limits(&rest.facts, &part, &rest.text) {
            self.refuse_query(fault);
            return;
        }
        self.seal_part(&rest.facts, &part);
        let end = part.end;
        let is_sent = self.send_planned(b"", &rest.text, &rest.facts, part.clone());
        if is_sent {
            self.end_early(&rest.facts, &part);
        }
        if is_sent && end < rest.facts.statements.len() {
            self.keep_rest(Rest { sent: end, ..rest });
        }
    }

    fn part_within_limits(&mut self, facts: &Facts, part: &Range<usize>, text: &str) -> Readiness {
        self.within_limits(facts.statements.get(part.clone()).unwrap_or_default(), text, Bound::Nothing)
    }

    fn is_server_skipping(&self) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.replies().is_skipping())
    }

    fn keep_rest(&mut self, rest: Rest) {
        if let Some(recorder) = self.recorder.as_mut() {
            recorder.rest = Some(rest);
        }
    }

    pub(super) fn ready_for_part(&mut self, facts: &Facts, part: &Range<usize>, text: &str) -> Readiness {
        if self.recorder.as_ref().is_some_and(|recorder| !recorder.is_written) {
            return self.ready_for_sealed_part(facts, part);
        }
        if self.records_claims_only() {
            return match self.take_refusal() {
                Some(fault) => Readiness::Refused(fault),
                None => match (self.ready_for_commit_of(facts, part), self.record_due(facts, part)) {
                    (Some(readiness), _) => readiness,
                    (None, Some((said, _))) => self.ready_for_claimed(&said),
                    (None, None) => Readiness::Ready,
                },
            };
        }
        let due = self.record_due(facts, part);
        // An error still to come would skip the proxy's BEGIN with the Query behind it.
        let replies = self.lease.as_ref().map(|lease| lease.replies());
        let is_in_doubt = replies.is_some_and(|replies| replies.is_open() && !replies.is_empty());
        let Some(recorder) = self.recorder.as_mut() else { return Readiness::Ready };
        if let Some(refusal) = recorder.refusal.take() {
            return Readiness::Refused(refusal);
        }
        if recorder.is_absent() {
            let statements = facts.statements.get(part.clone()).unwrap_or_default();
            let opens = statements.iter().any(|statement| statement.control == Control::Begin);
            return if opens || due.is_some() { Readiness::Refused(behind_absent()) } else { Readiness::Ready };
        }
        if is_in_doubt && self.is_behind_end() {
            return self.wait_for_answers();
        }
        if let Some(readiness) = self.ready_for_commit_of(facts, part) {
            return readiness;
        }
        let Some(recorder) = self.recorder.as_mut() else { return Readiness::Ready };
        let Some((said, block)) = due else { return Readiness::Ready };
        match recorder.stage {
            Stage::None | Stage::Intended(_) if is_in_doubt && block == Block::Own => self.wait_for_answers(),
            Stage::None if block == Block::Own && facts.statements.len() == 1 => match outside_block(facts) {
                Some(fault) => Readiness::Refused(fault),
                None => self.intend(&said),
            },
            Stage::None => self.intend(&said),
            Stage::Intended(wish) if block == Block::Own => {
                recorder.stage = Stage::Opening(wish);
                self.send_own_query(b"BEGIN", Cause::OwnBegin);
                Readiness::Held
            }
            Stage::Intended(_) if block == Block::Absent => {
                self.announce_bare(facts.statements.get(part.clone()).unwrap_or_default(), text, Bound::Nothing)
            }
            Stage::Intended(_) => {
                recorder.stage = Stage::Running(block);
                Readiness::Ready
            }
            Stage::Precommitted(block) => {
                recorder.stage = Stage::Running(block);
                Readiness::Ready
            }
            Stage::Running(Block::Own | Block::Clients) => Readiness::Ready,
            // One that is alone in its Query went out when it was intended; nothing goes behind it.
            Stage::Running(Block::Absent) => Readiness::Refused(behind_absent()),
            Stage::Intending(_)
            | Stage::Opening(_)
            | Stage::Asking(_)
            | Stage::Precommitting(_)
            | Stage::EndDue(_)
            | Stage::Ending
            | Stage::Concluding(_) => Readiness::Held,
        }
    }

    /// Whether the end of the recorded transaction stands in front, without a Sync: what comes is of one with a record of its own.
    fn is_behind_end(&self) -> bool {
        let is_idle = self.lease.as_ref().is_some_and(|lease| lease.scope().predicted() == TransactionStatus::Idle);
        is_idle && self.recorder.as_ref().is_some_and(|recorder| recorder.is_in_block())
    }

    /// What a claim of a bypass in the client's block has to wait for: everything in front of it is answered, so that it is
    /// known which transaction it is for, and its intent is durable.
    pub(super) fn ready_for_claimed(&mut self, said: &Said) -> Readiness {
        let is_answered = self.lease.as_ref().is_some_and(|lease| lease.replies().is_empty());
        let Some(recorder) = self.recorder.as_mut() else { return Readiness::Ready };
        match recorder.stage {
            Stage::None | Stage::Running(_) if !is_answered => self.wait_for_answers(),
            Stage::None => self.intend(said),
            Stage::Intended(_) => {
                recorder.stage = Stage::Running(Block::Clients);
                recorder.bound_before = self.portals.serial();
                recorder.flush_asked = false;
                Readiness::Ready
            }
            Stage::Running(_) => {
                recorder.flush_asked = false;
                Readiness::Ready
            }
            Stage::Intending(_)
            | Stage::Opening(_)
            | Stage::Asking(_)
            | Stage::Precommitting(_)
            | Stage::Precommitted(_)
            | Stage::EndDue(_)
            | Stage::Ending
            | Stage::Concluding(_) => Readiness::Held,
        }
    }

    /// Whether what is sent now is in a record.
    pub(super) fn is_record_running(&self) -> bool {
        self.recorder.as_ref().is_some_and(|recorder| matches!(recorder.stage, Stage::Running(_)))
    }

    /// What a Bind behind a claimed bypass has to wait for: whether the transaction is over that is recorded.
    fn ready_for_bind_behind_claim(&mut self) -> Readiness {
        let is_idle = self.lease.as_ref().is_some_and(|lease| lease.scope().predicted() == TransactionStatus::Idle);
        match self.is_record_running() && is_idle {
            true => self.wait_for_answers(),
            false => Readiness::Ready,
        }
    }

    /// Opens the proxy's block in front of a Query, in the same packet.
    pub(super) fn open_own_block(&mut self) {
        let (Some(recorder), Some(lease)) = (self.recorder.as_mut(), self.lease.as_mut()) else { return };
        recorder.stage = Stage::Running(Block::Own);
        recorder.failure = None;
        recorder.held_complete = None;
        recorder.is_end_sent = false;
        // The Query drops the unnamed portal.
        lease.begin_block(false, || Cause::OwnBegin);
    }

    /// Whether a part of a Query holds a statement that has to be recorded: with which reason, in whose block.
    pub(super) fn record_due(&self, facts: &Facts, part: &Range<usize>) -> Option<(Said, Block)> {
        let mut scope = *self.lease.as_ref()?.scope();
        let mut said = self.said();
        for statement in facts.statements.get(part.clone())? {
            if self.is_record_due(statement, scope.predicted()) {
                let is_idle = scope.predicted() == TransactionStatus::Idle;
                let block = match is_idle {
                    true if statement.outside_block && facts.statements.len() == 1 => Block::Absent,
                    true => Block::Own,
                    false => Block::Clients,
                };
                return Some((said, block));
            }
            self.follow_said(&mut said, &statement.control);
            query::follow(&mut scope, &statement.control);
        }
        None
    }

    /// In whose block it is recorded what is sent now, if it is.
    pub(super) fn recorded_in(&self) -> Option<Block> {
        let recorder = self.recorder.as_ref().filter(|recorder| !recorder.is_by_claim || recorder.is_open());
        recorder.map(|recorder| match recorder.stage {
            Stage::Running(block) => block,
            // Nothing that needs a record.
            Stage::None
            | Stage::Intending(_)
            | Stage::Intended(_)
            | Stage::Opening(_)
            | Stage::Asking(_)
            | Stage::Precommitting(_)
            | Stage::Precommitted(_)
            | Stage::EndDue(_)
            | Stage::Ending
            | Stage::Concluding(_) => Block::Clients,
        })
    }

    /// These statements of a text were sent. (A COMMIT goes behind its pre-commit record.)
    pub(super) fn note_sent(&mut self, statements: &[Statement], text: &str) {
        if let Some(recorder) = self.recorder.as_mut() {
            recorder.query_failed = false;
            for statement in statements {
                recorder.note(statement, text.get(statement.range(text.len())).unwrap_or_default(), Bound::Nothing);
                recorder.commit_sent |= recorder.is_open() && matches!(statement.control, Control::Commit { .. });
            }
        }
    }

    /// What a Bind has to wait for.
    pub(super) fn ready_for_bind(&mut self, statement: &ClientStatement, bound: Bound<'_>) -> Readiness {
        if self.recorder.as_ref().is_none_or(|recorder| !recorder.is_written) {
            return Readiness::Ready;
        }
        let text = std::str::from_utf8(statement.key.sql()).unwrap_or_default();
        let readiness = match self.records_claims_only() {
            true => self.ready_for_bind_behind_claim(),
            false => self.ready_for_recorded_bind(statement, bound),
        };
        let readiness = match readiness {
            Readiness::Ready => self.within_limits(&statement.facts.statements, text, bound),
            other @ (Readiness::Held | Readiness::Refused(_)) => other,
        };
        if matches!(readiness, Readiness::Ready)
            && let Some(recorder) = self.recorder.as_mut()
        {
            recorder.flush_asked = false;
            if std::mem::replace(&mut recorder.is_bind_open, true) && recorder.is_open() {
                recorder.account.lose_order();
            }
            // A COMMIT that is bound is not executed yet: see `note_execute`.
            statement.facts.statements.iter().for_each(|one| recorder.note(one, text, bound));
        }
        readiness
    }

    fn ready_for_recorded_bind(&mut self, statement: &ClientStatement, bound: Bound<'_>) -> Readiness {
        let is_due = self.needs_scope(&statement.facts);
        let said = self.said();
        let (Some(recorder), Some(lease)) = (self.recorder.as_mut(), self.lease.as_ref()) else {
            return Readiness::Ready;
        };
        if let Some(refusal) = recorder.refusal.take() {
            return Readiness::Refused(refusal);
        }
        let predicted = lease.scope().predicted();
        let is_idle = predicted == TransactionStatus::Idle;
        if is_idle && recorder.is_in_block() {
            // Its end was sent: whatever comes now, a BEGIN too, is of a transaction with a record of its own.
            return self.wait_for_answers();
        }
        if !is_due || predicted == TransactionStatus::Failed {
            return Readiness::Ready;
        }
        // The reason, or the transaction's end, may still fail: its answer decides.
        let is_in_doubt = self.control_in_flight && !lease.replies().is_empty();
        match recorder.stage {
            // An intent may be left over from a Bind that an error has skipped.
            Stage::None | Stage::Intended(_) if is_in_doubt => self.wait_for_answers(),
            Stage::None => self.intend(&said),
            Stage::Intended(_) => self.enter_block(is_idle, statement, bound),
            Stage::Precommitted(block) => {
                recorder.stage = Stage::Running(block);
                Readiness::Ready
            }
            Stage::Running(Block::Absent) => Readiness::Refused(behind_absent()),
            Stage::Running(_) => Readiness::Ready,
            Stage::Intending(_)
            | Stage::Opening(_)
            | Stage::Asking(_)
            | Stage::Precommitting(_)
            | Stage::EndDue(_)
            | Stage::Ending
            | Stage::Concluding(_) => Readiness::Held,
        }
    }

    /// Makes the server answer what it has been sent of this segment.
    fn wait_for_answers(&mut self) -> Readiness {
        if let (Some(recorder), Some(lease)) = (self.recorder.as_mut(), self.lease.as_mut())
            && lease.replies().is_open()
            && !std::mem::replace(&mut recorder.flush_asked, true)
        {
            lease.flush();
        }
        Readiness::Held
    }

    /// The intent of a Bind's transaction is durable: the block around it.
    fn enter_block(&mut self, is_idle: bool, statement: &ClientStatement, bound: Bound<'_>) -> Readiness {
        let facts = &statement.facts;
        let is_alone = !self.has_executed && facts.statements.iter().all(|statement| statement.outside_block);
        let keep_portal = self.portals.has_unnamed();
        let (Some(recorder), Some(lease)) = (self.recorder.as_mut(), self.lease.as_mut()) else {
            return Readiness::Ready;
        };
        let block = match is_idle {
            true if is_alone => Block::Absent,
            true => Block::Own,
            false => Block::Clients,
        };
        if block == Block::Absent {
            let text = std::str::from_utf8(statement.key.sql()).unwrap_or_default();
            return self.announce_bare(&facts.statements, text, bound);
        }
        if block == Block::Own {
            lease.begin_block(keep_portal, || Cause::OwnBegin);
        }
        recorder.stage = Stage::Running(block);
        Readiness::Ready
    }

    /// An Execute is sent: one of COMMIT decides.
    pub(super) fn note_execute(&mut self, control: &Control, portal: Option<&Portal>) {
        let is_of_last_bind = portal.is_some_and(|portal| portal.serial == self.portals.serial());
        if let Some(recorder) = self.recorder.as_mut() {
            let is_bind_open = std::mem::take(&mut recorder.is_bind_open);
            let is_next = match std::mem::take(&mut recorder.is_noted_late) {
                true => !is_bind_open,
                false => is_bind_open && is_of_last_bind,
            };
            if !is_next && recorder.is_open() {
                recorder.account.lose_order();
            }
            recorder.commit_sent |= recorder.is_open() && matches!(control, Control::Commit { .. });
        }
    }

    /// A portal is executed that was bound before the record began: now its statement belongs into it.
    pub(super) fn note_bound_earlier(&mut self, portal: &Portal) {
        let text = std::str::from_utf8(portal.key.sql()).unwrap_or_default();
        if let Some(recorder) = self.recorder.as_mut()
            && recorder.is_by_claim
            && matches!(recorder.stage, Stage::Running(_))
            && portal.serial <= recorder.bound_before
        {
            portal.facts.statements.iter().for_each(|statement| recorder.note(statement, text, Bound::Unread));
            recorder.is_noted_late = true;
        }
    }

    /// All is answered, and no transaction runs.
    pub(super) fn forget_unrecorded(&mut self) {
        if let Some(recorder) = self.recorder.as_mut().filter(|recorder| recorder.is_by_claim && !recorder.is_open()) {
            recorder.account = Account::default();
        }
    }

    /// Sends the end of the proxy's block behind the Query in it, in the same packet: nothing of the Query can change what
    /// has to end.
    pub(super) fn commit_early(&mut self) {
        let Some(recorder) = self.recorder.as_mut().filter(|recorder| recorder.is_own()) else { return };
        recorder.is_end_sent = true;
        self.portals.clear();
        self.send_own_query(b"COMMIT", Cause::OwnEnd(true));
    }

    /// What stood in front of the Query has failed, and the server has skipped the end with it.
    pub(super) fn forget_early_end(&mut self) {
        if let Some(recorder) = self.recorder.as_mut() {
            recorder.is_end_sent = false;
        }
    }

    fn send_own_query(&mut self, sql: &[u8], cause: Cause) {
        let Some(lease) = self.lease.as_mut() else { return };
        let mut bytes = BytesMut::new();
        frontend::put_query(&mut bytes, sql);
        if matches!(cause, Cause::OwnBegin) {
            lease.scope_mut().on_begin();
        } else {
            lease.scope_mut().on_end(false);
        }
        if let (Cause::OwnEnd(is_commit), Some(claims)) = (&cause, self.claims.as_mut()) {
            claims.end_ahead(*is_commit);
        }
        let frame = ScopedFrame::unscoped(NeedsNoScope::Housekeeping, [&bytes, b"", b""], Some(Expect::Query));
        // Nothing is skipped: the segment before this has been answered.
        drop(lease.send(frame, cause));
    }

    // -- answers

    /// A block that began behind a statement without one would be in nobody's record, and without a tenant.
    pub(super) fn refusal_behind_absent(&self, control: &Control) -> Option<Fault> {
        (self.runs_without_block() && *control == Control::Begin).then(behind_absent)
    }

    /// What a statement that runs only in the client's own block meets in the proxy's.
    pub(super) fn refusal_in_own_block(&self, statement: &Statement) -> Option<Fault> {
        let is_own = self.recorder.as_ref().is_some_and(|recorder| recorder.is_own());
        // From 18 on PostgreSQL takes what stands behind another Execute for one of several.
        let is_modern = self.lease.as_ref().is_some_and(|lease| lease.server().version >= 180_000);
        match self.has_executed && is_modern {
            _ if !is_own => None,
            true => release::outside_any_block(statement),
            false => release::outside_block(statement),
        }
    }

    /// Whether a notice is about the block that the client knows nothing of: its BEGIN is the first, to it.
    pub(super) fn is_about_own_block(&mut self) -> bool {
        if !self.recorder.as_ref().is_some_and(|recorder| recorder.is_own()) {
            return false;
        }
        let front = self.lease.as_mut().and_then(|lease| lease.front_mut());
        let control = match front {
            Some(Cause::Plan(plan)) => plan.control(),
            Some(Cause::Execute { facts, .. }) => facts.statements.first().map(|statement| &statement.control),
            Some(_) | None => None,
        };
        matches!(control, Some(Control::Begin))
    }

    /// COMMIT or ROLLBACK in the proxy's block: PostgreSQL would warn that there is none. Whether it was put.
    pub(super) fn warn_of_no_block(&mut self, control: &Control) -> bool {
        let is_own = self.recorder.as_ref().is_some_and(|recorder| recorder.is_own());
        let is_warned = is_own && matches!(control, Control::Commit { .. } | Control::Rollback { .. });
        if is_warned {
            backend::put_warning(&mut self.client_out, b"25P01", "there is no transaction in progress");
        }
        is_warned
    }

    /// The same where that COMMIT of a Query fails.
    pub(super) fn warn_of_failing_end(&mut self) {
        let front = self.lease.as_mut().and_then(|lease| lease.front_mut());
        if let Some(Cause::Plan(plan)) = front
            && let Some(control) = plan.control().cloned()
        {
            self.warn_of_no_block(&control);
        }
    }

    /// A row is on its way to the client.
    pub(super) fn note_row(&mut self) {
        if let Some(recorder) = self.recorder.as_mut().filter(|recorder| recorder.is_open()) {
            recorder.account.note_row();
        }
    }

    /// A CommandComplete came.
    pub(super) fn note_tag(&mut self, tag: &[u8]) {
        let is_copy_in = self.copy != CopyIn::None;
        let is_own = self.lease.as_ref().and_then(|lease| lease.replies().front()).is_some_and(Cause::is_own);
        if let Some(recorder) = self.recorder.as_mut().filter(|recorder| recorder.is_open() && !is_own) {
            recorder.account.note_tag(tag, is_copy_in);
            recorder.absent_done |= recorder.is_absent() && is_tag_outside_blocks(tag);
        }
    }

    /// An error came.
    pub(super) fn note_failure(&mut self, sqlstate: Option<SqlState>) {
        if let Some(recorder) = self.recorder.as_mut() {
            let sqlstate = sqlstate.unwrap_or(SqlState(*b"XX000"));
            // In a failed block everything is refused: the first error tells why.
            let is_echo = sqlstate == SqlState(*b"25P02") && recorder.failure.is_some();
            recorder.failure = recorder.failure.filter(|_| is_echo).or(Some(sqlstate));
            if recorder.is_open() {
                recorder.account.note_failure(sqlstate);
            }
            recorder.stop_asking();
            recorder.query_failed = true;
            recorder.held_complete = None;
        }
    }

    /// Holds the last CommandComplete of a Query in the proxy's block; `false` if there is none to hold.
    pub(super) fn hold_complete(&mut self, tag: &[u8]) -> bool {
        match self.recorder.as_mut().filter(|recorder| recorder.is_own()) {
            Some(recorder) => {
                recorder.held_complete = Some(tag.to_vec());
                true
            }
            None => false,
        }
    }

    /// What was held is not the last of its Query after all.
    fn release_complete(&mut self) {
        if let Some(tag) = self.recorder.as_mut().and_then(|recorder| recorder.held_complete.take()) {
            backend::put_command_complete(&mut self.client_out, &tag);
        }
    }

    /// What a statement's success means for the record, and for the reason.
    #[expect(clippy::wildcard_enum_match_arm, reason = "only these move a transaction")]
    pub(super) fn on_recorded_effect(&mut self, control: &Control, tag: &[u8]) {
        if self.recorder.is_none() {
            return;
        }
        self.keep_said(control, tag);
        let Some(recorder) = self.recorder.as_mut() else { return };
        match control {
            // The client's BEGIN inside the proxy's block makes it the client's.
            Control::Begin if recorder.is_own() => {
                recorder.stage = behind_begin(recorder.is_written).map_or(Stage::None, Stage::Running);
            }
            Control::RollbackTo(_) => recorder.failure = None,
            Control::Commit { .. } if tag == b"COMMIT" => self.conclude(Conclusion::Committed),
            Control::Commit { .. } | Control::Rollback { .. } => self.conclude_rolled_back(),
            _ => {}
        }
    }

    /// The proxy's COMMIT or ROLLBACK was answered.
    pub(super) fn on_own_end(&mut self, is_commit: bool) {
        if !is_commit {
            return self.conclude_rolled_back();
        }
        let tag = self.recorder.as_mut().and_then(|recorder| recorder.held_complete.take());
        self.conclude(Conclusion::Committed);
        if let Some(tag) = tag
            && !self.hold_end(&tag)
        {
            backend::put_command_complete(&mut self.client_out, &tag);
        }
    }

    pub(super) fn conclude_rolled_back(&mut self) {
        let has_failed = self
            .recorder
            .as_ref()
            .is_some_and(|recorder| recorder.failure.is_some() || recorder.limiting.ended_by.is_some());
        self.conclude(if has_failed { Conclusion::Failed } else { Conclusion::RolledBack });
    }

    /// The transaction is over: its outcome goes to the ledger.
    fn conclude(&mut self, conclusion: Conclusion) {
        let is_served = matches!(self.phase, Phase::Ready | Phase::Skipping);
        let Some(recorder) = self.recorder.as_mut().filter(|recorder| recorder.is_open()) else { return };
        if recorder.limiting.end() {
            self.effects.push_back(Effect::Limit(None));
        }
        if !recorder.is_written {
            recorder.stage = Stage::None;
            return;
        }
        // What the proxy has ended it for, not what that has made of it on the server.
        let has_failed = conclusion != Conclusion::Committed;
        let ended_by = recorder.limiting.ended_by.take().filter(|_| has_failed);
        let of_limit = ended_by.map(|code| SqlState(*code.row().sqlstate));
        let failure = of_limit.or(recorder.failure.take()).filter(|_| has_failed);
        let outcome = std::mem::take(&mut recorder.account).conclude(conclusion, failure);
        let outcome = Outcome { code: ended_by, ..outcome };
        recorder.commit_sent = false;
        recorder.stage = if is_served { Stage::Concluding(None) } else { Stage::None };
        self.effects.push_back(Effect::Record(Entry::Outcome(Box::new(outcome))));
    }

    /// The session ends, and with it what is not answered.
    pub(super) fn conclude_lost(&mut self) {
        #[cfg(feature = "mutants")]
        if self.rules.mutant == Some(super::Mutant::LostCommitRolledBack) {
            return self.conclude_rolled_back();
        }
        match self.recorder.as_ref().map(|recorder| (recorder.absent_done, recorder.commit_sent)) {
            Some((true, _)) => self.conclude(Conclusion::Committed),
            Some((false, true)) => self.conclude(Conclusion::Unknown),
            Some((false, false)) | None => self.conclude_rolled_back(),
        }
    }

    /// ReadyForQuery in a recorded session.
    pub(super) fn on_recorded_ready(&mut self, cause: &Cause, status: TransactionStatus) -> Option<Delivery> {
        let recorder = self.recorder.as_mut()?;
        recorder.flush_asked = false;
        if matches!(cause, Cause::Standing(_)) {
            return self.on_standing_ready(status).ok();
        }
        match (recorder.stage, status) {
            (Stage::Opening(wish), TransactionStatus::InBlock) => {
                recorder.stage = Stage::Running(Block::Own);
                if wish == Wish::Cancel {
                    recorder.refuse_cancelled();
                }
                return Some(Delivery::Swallow);
            }
            (Stage::Opening(_), TransactionStatus::Idle) => {
                self.conclude_rolled_back();
                self.drop_waiting_query();
            }
            (Stage::Running(Block::Own), _) if recorder.is_end_sent => {
                recorder.is_end_sent = false;
                recorder.stage = Stage::Ending;
                self.note_early_end(status);
                return Some(Delivery::Swallow);
            }
            // The rest of the Query runs in it, too.
            (Stage::Running(Block::Own), TransactionStatus::InBlock) if self.has_parts() => {
                self.release_complete();
                return Some(Delivery::Swallow);
            }
            (Stage::Running(Block::Own), TransactionStatus::InBlock) => {
                self.end_own_block(true);
                return Some(Delivery::Swallow);
            }
            (Stage::Running(Block::Own), TransactionStatus::Failed) => {
                self.end_own_block(false);
                return Some(Delivery::Swallow);
            }
            (Stage::Running(Block::Absent), TransactionStatus::InBlock | TransactionStatus::Failed) => return None,
            (Stage::Running(block), TransactionStatus::Idle) => self.conclude_idle(block),
            (Stage::Ending, TransactionStatus::Idle) => self.conclude_rolled_back(),
            // What it was for was skipped behind an error, and the segment is over: the server is not kept for what may come.
            (Stage::Intended(_), TransactionStatus::Idle) => self.conclude_rolled_back(),
            // A cancel has hit the COMMIT before it began, and the client has the error: what is left is the failed block.
            (Stage::Ending, TransactionStatus::Failed) => {
                self.send_own_end(false);
                return Some(Delivery::Swallow);
            }
            (Stage::Opening(_) | Stage::EndDue(_) | Stage::Ending, _) => return None,
            (Stage::Asking(_) | Stage::Precommitting(_) | Stage::Precommitted(_), _) => return None,
            (Stage::None | Stage::Intending(_) | Stage::Intended(_) | Stage::Concluding(_) | Stage::Running(_), _) => {}
        }
        debug_assert!(!matches!(cause, Cause::Recovery));
        Some(self.deliver_ready(status))
    }

    /// The transaction ended without an answer to a COMMIT or ROLLBACK of anybody's.
    fn conclude_idle(&mut self, block: Block) {
        let is_done = self.recorder.as_ref().is_some_and(|recorder| recorder.absent_done);
        let has_failed = self.recorder.as_ref().is_some_and(|recorder| recorder.failure.is_some());
        self.conclude(match (has_failed, block) {
            (true, Block::Absent) if is_done => Conclusion::Committed,
            (true, _) => Conclusion::Failed,
            (false, Block::Absent) => Conclusion::Committed,
            (false, Block::Own | Block::Clients) => Conclusion::Unknown,
        });
    }

    /// Whether the proxy's block is over and its end not sent yet.
    pub(super) fn owes_end(&self) -> bool {
        self.recorder.as_ref().is_some_and(|recorder| matches!(recorder.stage, Stage::EndDue(_)))
    }

    /// Sends an end that had to wait.
    pub(super) fn send_due_end(&mut self) {
        if matches!(self.client_passing, Passing::Forward(_)) {
            return;
        }
        if let Some(Stage::EndDue(is_commit)) = self.recorder.as_ref().map(|recorder| recorder.stage) {
            self.end_own_block(is_commit);
        }
    }

    /// Ends the proxy's block; a COMMIT goes when its record is durable.
    fn end_own_block(&mut self, is_commit: bool) {
        if let Some(recorder) = self.recorder.as_mut() {
            if matches!(self.client_passing, Passing::Forward(_)) {
                recorder.stage = Stage::EndDue(is_commit);
                return;
            }
            if is_commit && recorder.is_written {
                self.portals.clear();
                self.ask(Commit::Own);
                return;
            }
        }
        self.send_own_end(is_commit);
    }

    fn send_own_end(&mut self, is_commit: bool) {
        if let Some(recorder) = self.recorder.as_mut() {
            recorder.stage = Stage::Ending;
            recorder.commit_sent = is_commit;
        }
        self.portals.clear();
        let sql: &[u8] = if is_commit { b"COMMIT" } else { b"ROLLBACK" };
        self.send_own_query(sql, Cause::OwnEnd(is_commit));
    }

    /// The client's ReadyForQuery: now, when the record is there, or not at all where more of its Query is to come.
    fn deliver_ready(&mut self, status: TransactionStatus) -> Delivery {
        let has_failed = self.recorder.as_ref().is_some_and(|recorder| recorder.query_failed);
        if self.has_parts() && !has_failed {
            return Delivery::Swallow;
        }
        self.forget_parts();
        if !self.tells_nothing() {
            self.tell_parameters();
        }
        match self.recorder.as_mut().filter(|recorder| recorder.is_concluding()) {
            Some(recorder) => recorder.stage = Stage::Concluding(Some(status)),
            None => backend::put_ready(&mut self.client_out, status),
        }
        Delivery::Swallow
    }

    /// The Query that waits for its block will not be sent.
    fn drop_waiting_query(&mut self) {
        if self.has_parts() {
            return self.forget_parts();
        }
        self.inspected = None;
        if let Ok(Some(head)) = Head::read(&self.client_in) {
            self.client_passing = Passing::Drop(head.frame_bytes());
        }
    }

    /// A Query is over, whatever of it was sent.
    pub(super) fn forget_parts(&mut self) {
        if let Some(recorder) = self.recorder.as_mut() {
            recorder.rest = None;
        }
    }
}

/// PostgreSQL's own refusal of a statement that runs only in a transaction block, if it is one.
fn outside_block(facts: &Facts) -> Option<Fault> {
    let [statement] = &*facts.statements else { return None };
    release::outside_block(statement)
}

/// Whether a command tag is that of a statement that runs outside of blocks; a segment has one at most.
fn is_tag_outside_blocks(tag: &[u8]) -> bool {
    matches!(tag, b"VACUUM" | b"CREATE INDEX" | b"DROP INDEX" | b"REINDEX")
}

fn behind_absent() -> Fault {
    Fault::of(Code::LedgerEscape)
        .with_detail("It stands behind a statement that runs outside of transactions, without a Sync between them.")
}
