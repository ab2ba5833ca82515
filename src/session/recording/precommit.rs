//! What stands between a recorded transaction and its COMMIT: its id on the server, and a record that is durable.
//!
//! ```text
//!             a COMMIT's turn comes, all before it answered      answered                  durable
//!  Running ──────────────────────────────────────────▶ Asking ───────────▶ Precommitting ──────────▶ Precommitted
//!     ▲                                                   │ failed               │ not to be had           │
//!     └───────────── (the COMMIT is refused, the block fails) ◀──────────────────┘       the COMMIT goes ◀─┘
//! ```
//!
//! A transaction whose COMMIT no record announces has never been committed: whoever finds an intent without a pre-commit
//! record knows how that ended. What runs outside of blocks commits by itself, and is announced before it is sent.
//!
//! The question is a Query of its own where no segment is open; in one, Parse, Bind, Execute and Close of a portal of the
//! proxy's own, so that the client's portals stay, and a Flush.
//!
//! Owns: the question, its answer, whom a record that cannot be had ends. Does not own: when a COMMIT's turn is (`query`
//! and `extended` ask), the record's content (`audit`).

use std::ops::Range;

use bytes::BytesMut;

use super::{Bound, Readiness, Stage};
use crate::audit::{Entry, PreCommit, Standing, WalPlace, Xid, parse_timeline};
use crate::fault::Fault;
use crate::guard::{Control, Facts, Statement};
use crate::scope::{NeedsNoScope, ScopedFrame};
use crate::session::cause::Cause;
use crate::session::query::Block;
use crate::session::replies::Delivery;
use crate::session::{Effect, Phase, Session};
use crate::upstream::Expect;
use crate::wire::frontend::{self, Target};
use crate::wire::limits::NAME_BYTES_MAX;
use crate::wire::reader::Reader;
use crate::wire::{TransactionStatus, backend};

/// How a transaction stands ([`Standing`]). One that has an id leaves a trace in the write-ahead log, which not all that it
/// writes does (temporary and unlogged tables); without a trace a crash may give its id to another. A COMMIT that a server
/// answers before it is on its disk would be lost by a crash: the transaction waits for the disk. Nothing is looked up by a
/// name that somebody else may have taken.
macro_rules! question {
    ($flush:literal) => {
        concat!(
            "SELECT pg_catalog.pg_current_xact_id_if_assigned()::pg_catalog.text, \
             CASE WHEN pg_catalog.pg_is_in_recovery() THEN NULL \
             WHEN pg_catalog.pg_current_xact_id_if_assigned() IS NULL THEN \
             pg_catalog.pg_current_wal_insert_lsn()::pg_catalog.text \
             ELSE pg_catalog.pg_logical_emit_message(true, 'tenantgate', ''",
            $flush,
            ")::pg_catalog.text END, \
             (pg_catalog.date_part('epoch', pg_catalog.pg_stat_get_bgwriter_stat_reset_time()) \
             OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8::pg_catalog.text, \
             CASE WHEN pg_catalog.pg_is_in_recovery() THEN NULL \
             ELSE pg_catalog.pg_current_wal_flush_lsn()::pg_catalog.text END, \
             CASE WHEN pg_catalog.pg_is_in_recovery() THEN NULL ELSE pg_catalog.left(\
             pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_flush_lsn()), 8) END, \
             (SELECT system_identifier FROM pg_catalog.pg_control_system())::pg_catalog.text, \
             CASE WHEN pg_catalog.current_setting('synchronous_commit') OPERATOR(pg_catalog.=) 'off' \
             THEN pg_catalog.set_config('synchronous_commit', 'local', true) END"
        )
        .as_bytes()
    };
}

/// Up to 16: who flushes is the driver.
const QUESTION: &[u8] = question!("");

/// From 17 on the trace is on the disk before it is answered.
const FLUSHING_QUESTION: &[u8] = question!(", true");

/// The first version with that.
const FLUSHING_SINCE: u32 = 170_000;

/// Portal of the question, while the client's own portals must survive.
const PORTAL: &[u8] = b"tg_xact";

/// Whose COMMIT it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Commit {
    /// The proxy's, of its own block.
    Own,
    /// The client's, which waits in front; in this block.
    Clients(Block),
    /// Nobody's: what waits in front commits by itself.
    Bare,
}

impl Commit {
    /// In whose block the transaction runs.
    const fn block(self) -> Block {
        match self {
            Commit::Own => Block::Own,
            Commit::Clients(block) => block,
            Commit::Bare => Block::Absent,
        }
    }
}

impl Session {
    /// Whether a statement ends the transaction of the open record with a COMMIT that has to be announced.
    fn is_announced(&self, control: &Control) -> bool {
        #[cfg(feature = "mutants")]
        if self.rules.mutant == Some(crate::session::Mutant::CommitNotAnnounced) {
            return false;
        }
        let is_in_block = |session: &Self| {
            session.lease.as_ref().is_some_and(|lease| lease.scope().predicted() == TransactionStatus::InBlock)
        };
        let is_open = self.recorder.as_ref().is_some_and(|recorder| recorder.is_written && recorder.is_open());
        matches!(control, Control::Commit { .. }) && is_open && is_in_block(self)
    }

    /// Where a part of a Query has to end so that its transaction's record can be in front of the COMMIT.
    pub(in crate::session) fn announced_part_end(&self, statements: &[Statement]) -> Option<usize> {
        let recorder = self.recorder.as_ref().filter(|recorder| recorder.is_written)?;
        let commit = statements.iter().position(|statement| matches!(statement.control, Control::Commit { .. }))?;
        let before = statements.get(..commit).filter(|before| !before.is_empty())?;
        let is_due = before.iter().any(|statement| self.begins_record(statement));
        (is_due || recorder.is_open()).then_some(commit)
    }

    /// What a part of a Query that begins with a COMMIT has to wait for; `None` if it begins with something else.
    pub(super) fn ready_for_commit_of(&mut self, facts: &Facts, part: &Range<usize>) -> Option<Readiness> {
        let first = facts.statements.get(part.start)?;
        self.is_announced(&first.control).then(|| self.ready_for_commit())
    }

    /// What an Execute has to wait for.
    pub(in crate::session) fn ready_for_execute(&mut self, control: &Control) -> Readiness {
        if let Some(refusal) = self.recorder.as_mut().and_then(|recorder| recorder.refusal.take()) {
            return Readiness::Refused(refusal);
        }
        if self.is_announced(control) { self.ready_for_commit() } else { Readiness::Ready }
    }

    fn ready_for_commit(&mut self) -> Readiness {
        // An error still to come decides whether there is anything to commit.
        let is_answered = self.lease.as_ref().is_some_and(|lease| lease.replies().is_empty());
        let Some(recorder) = self.recorder.as_mut() else { return Readiness::Ready };
        match recorder.stage {
            Stage::Running(_) | Stage::Intended(_) if !is_answered => self.wait_for_answers(),
            Stage::Running(block) => self.ask(Commit::Clients(block)),
            // Of an intent whose statement was skipped.
            Stage::Intended(_) => self.ask(Commit::Clients(Block::Clients)),
            Stage::Precommitted(block) => {
                recorder.stage = Stage::Running(block);
                Readiness::Ready
            }
            Stage::None
            | Stage::Intending(_)
            | Stage::Opening(_)
            | Stage::Asking(_)
            | Stage::Precommitting(_)
            | Stage::EndDue(_)
            | Stage::Ending
            | Stage::Concluding(_) => Readiness::Held,
        }
    }

    /// Asks the server how the transaction stands, behind all that it was sent.
    pub(super) fn ask(&mut self, commit: Commit) -> Readiness {
        let (Some(recorder), Some(lease)) = (self.recorder.as_mut(), self.lease.as_mut()) else {
            return Readiness::Held;
        };
        recorder.stage = Stage::Asking(commit);
        recorder.standing = None;
        recorder.flush_asked = false;
        let is_segment_open = lease.replies().is_open();
        let question = if lease.server().version >= FLUSHING_SINCE { FLUSHING_QUESTION } else { QUESTION };
        let mut bytes = BytesMut::with_capacity(question.len().saturating_add(16));
        let mut push = |bytes: &mut BytesMut, expect, is_last| {
            let frame = ScopedFrame::unscoped(NeedsNoScope::Housekeeping, [bytes, b"", b""], Some(expect));
            // All before it is answered: nothing is skipped.
            drop(lease.send(frame, Cause::Standing(is_last)));
            bytes.clear();
        };
        if !is_segment_open {
            frontend::put_query(&mut bytes, question);
            push(&mut bytes, Expect::Query, true);
            return Readiness::Held;
        }
        frontend::put_parse(&mut bytes, b"", question, &[]);
        push(&mut bytes, Expect::Parse, false);
        frontend::put_bind_text(&mut bytes, PORTAL, b"", &[]);
        push(&mut bytes, Expect::Bind, false);
        frontend::put_execute(&mut bytes, PORTAL);
        push(&mut bytes, Expect::Execute, false);
        frontend::put_close(&mut bytes, Target::Portal, PORTAL);
        push(&mut bytes, Expect::Close, true);
        lease.server_mut().statements.set_unnamed(None);
        lease.flush();
        Readiness::Held
    }
    /// Announces what commits by itself; `done` is what it will have done.
    pub(super) fn announce_bare(&mut self, statements: &[Statement], text: &str, bound: Bound<'_>) -> Readiness {
        let Some(recorder) = self.recorder.as_mut() else { return Readiness::Ready };
        let mut account = recorder.account.clone();
        for statement in statements {
            let text = text.get(statement.range(text.len())).unwrap_or_default();
            bound.note_in(&mut account, recorder.parameter_key.as_deref(), statement, text);
        }
        recorder.stage = Stage::Precommitting(Commit::Bare);
        let done = account.done().clone();
        let record = PreCommit { standing: Standing::default(), is_self_committing: true, done };
        self.effects.push_back(Effect::Record(Entry::PreCommit(Box::new(record))));
        Readiness::Held
    }

    /// Whether the server is asked now how a transaction stands.
    pub(in crate::session) fn asks_standing(&self) -> bool {
        self.recorder.as_ref().is_some_and(|recorder| matches!(recorder.stage, Stage::Asking(_)))
    }

    /// Whether this message is the row of the answer, which is read whole.
    pub(in crate::session) fn expects_standing(&self) -> bool {
        let front = self.lease.as_ref().and_then(|lease| lease.replies().front());
        matches!(front, Some(Cause::Standing(_)))
    }

    /// The row of the answer; `false` if it is none.
    pub(in crate::session) fn take_standing(&mut self, body: &[u8]) -> bool {
        let Some(recorder) = self.recorder.as_mut().filter(|recorder| recorder.standing.is_none()) else {
            return false;
        };
        recorder.standing = read_standing(body);
        recorder.standing.is_some()
    }

    /// The extended question is answered in full.
    pub(in crate::session) fn on_standing_answered(&mut self) -> Result<(), &'static str> {
        let Some(recorder) = self.recorder.as_mut() else { return Err("an answer to nobody") };
        match (recorder.stage, recorder.standing.take()) {
            (Stage::Asking(commit), Some(standing)) => {
                self.precommit(commit, standing);
                Ok(())
            }
            (Stage::Asking(_), None) => Err("no row for the transaction's id"),
            // The client has left meanwhile.
            (
                Stage::None
                | Stage::Intending(_)
                | Stage::Intended(_)
                | Stage::Opening(_)
                | Stage::Running(_)
                | Stage::Precommitting(_)
                | Stage::Precommitted(_)
                | Stage::EndDue(_)
                | Stage::Ending
                | Stage::Concluding(_),
                _,
            ) => Ok(()),
        }
    }

    fn precommit(&mut self, commit: Commit, standing: Standing) {
        let is_wanted = self.is_wanted(commit);
        let Some(recorder) = self.recorder.as_mut() else { return };
        if !is_wanted {
            recorder.stage = Stage::Running(commit.block());
            return;
        }
        recorder.stage = Stage::Precommitting(commit);
        recorder.account.note_xid(standing.xid);
        let done = recorder.account.done().clone();
        let record = PreCommit { standing, is_self_committing: false, done };
        self.effects.push_back(Effect::Record(Entry::PreCommit(Box::new(record))));
    }

    /// Whether the transaction is still to be committed: a client that has left has sent all of what runs in the proxy's
    /// block, and nothing of what waits in front.
    fn is_wanted(&self, commit: Commit) -> bool {
        match self.phase {
            Phase::Ready | Phase::Skipping => true,
            Phase::Leaving(_) => commit == Commit::Own,
            Phase::Closed => false,
        }
    }

    /// Whether the proxy's block waits for its record.
    pub(in crate::session) fn announces_own_end(&self) -> bool {
        self.recorder.as_ref().is_some_and(|recorder| recorder.stage == Stage::Precommitting(Commit::Own))
    }

    /// ReadyForQuery behind the question.
    pub(super) fn on_standing_ready(&mut self, status: TransactionStatus) -> Result<Delivery, &'static str> {
        let Some(recorder) = self.recorder.as_mut() else { return Err("an answer to nobody") };
        match (recorder.stage, status) {
            (Stage::Asking(_), TransactionStatus::InBlock) => {
                self.on_standing_answered()?;
                Ok(Delivery::Swallow)
            }
            (Stage::Running(_), TransactionStatus::InBlock) if self.is_leaving() => Ok(Delivery::Swallow),
            // It has failed, and the client has been told: what waited in front is answered by that.
            (Stage::Running(Block::Own), TransactionStatus::Failed) => {
                self.forget_parts();
                self.end_own_block(false);
                Ok(Delivery::Swallow)
            }
            (Stage::Running(_), TransactionStatus::Failed) => {
                self.drop_waiting_query();
                Ok(self.deliver_ready(status))
            }
            (
                Stage::None
                | Stage::Intending(_)
                | Stage::Intended(_)
                | Stage::Opening(_)
                | Stage::Asking(_)
                | Stage::Running(_)
                | Stage::Precommitting(_)
                | Stage::Precommitted(_)
                | Stage::EndDue(_)
                | Stage::Ending
                | Stage::Concluding(_),
                _,
            ) => Err("a transaction that is not the one that was asked for"),
        }
    }

    /// The ledger has answered for a pre-commit record.
    pub(super) fn on_precommit_recorded(&mut self, commit: Commit, answer: Result<(), Fault>) {
        let is_wanted = self.is_wanted(commit);
        let is_heard = !self.is_leaving();
        let Some(recorder) = self.recorder.as_mut() else { return };
        recorder.stage = Stage::Running(commit.block());
        if !is_wanted {
            return self.bring_to_rest();
        }
        match (commit, answer) {
            (Commit::Own, Ok(())) => self.send_own_end(true),
            (Commit::Clients(block), Ok(())) => recorder.stage = Stage::Precommitted(block),
            (Commit::Bare, Ok(())) => recorder.stage = Stage::Precommitted(Block::Absent),
            (Commit::Own, Err(fault)) => {
                self.note_refusal(&fault);
                self.note_failure(Some(fault.sqlstate));
                self.forget_parts();
                if is_heard {
                    backend::put_error(&mut self.client_out, &fault);
                }
                self.end_own_block(false);
            }
            (Commit::Clients(_), Err(fault)) => recorder.refusal = Some(fault),
            (Commit::Bare, Err(fault)) => {
                recorder.failure = Some(fault.sqlstate);
                recorder.refusal = Some(fault);
                self.conclude_rolled_back();
            }
        }
    }
}

impl super::Recorder {
    /// An error came: if it is the question's, nothing is asked any more.
    pub(super) fn stop_asking(&mut self) {
        if let Stage::Asking(commit) = self.stage {
            self.stage = Stage::Running(commit.block());
            self.standing = None;
        }
    }
}

/// DataRow of seven texts; the last one has no meaning.
fn read_standing(body: &[u8]) -> Option<Standing> {
    let mut reader = Reader::new(body);
    if reader.i16("columns").ok()? != 7 {
        return None;
    }
    let mut next = || read_text(&mut reader);
    let (xid, wal, era, flushed, timeline, system) = (next()?, next()?, next()?, next()?, next()?, next()?);
    let xid = match xid {
        Some(text) => Some(Xid(text.parse().ok()?)),
        None => None,
    };
    let wal = wal.and_then(WalPlace::parse);
    let flushed = flushed.and_then(WalPlace::parse);
    Some(Standing {
        xid,
        wal,
        era: era.and_then(|text| text.parse().ok()),
        timeline: timeline.and_then(parse_timeline),
        system: system.and_then(|text| text.parse().ok()),
        is_flushed: wal.zip(flushed).is_some_and(|(wal, flushed)| wal <= flushed),
    })
}

/// A column of a few letters, or NULL.
fn read_text<'r>(reader: &mut Reader<'r>) -> Option<Option<&'r str>> {
    let Ok(bytes) = usize::try_from(reader.i32("length").ok()?) else { return Some(None) };
    if bytes > NAME_BYTES_MAX {
        return None;
    }
    std::str::from_utf8(reader.bytes(bytes, "value").ok()?).ok().map(Some)
}
