//! Simple Queries on a sealed database, whose tickets must be bound.
//!
//! ```text
//!                BEGIN, ticket, Query, COMMIT     Query answered          COMMIT answered
//!  None (idle) ───────────────────────────▶ Own ───────────────▶ Ending ────────────────▶ None
//!                                            │ COMMIT goes here where the Query has a say in it ──▲
//!                                            └ the client's BEGIN in it: the block is the client's
//! ```
//!
//! A ticket is no part of a text, so where a Query begins a transaction the proxy opens a block around it, in the extended
//! protocol and without a Sync, and ends it, in the Query's own packet; the last CommandComplete waits for the COMMIT. The
//! machine is that of recorded sessions (`recording`), and nothing is written. In the extended protocol no block is needed.
//!
//! Owns: what stands in front of a part of a Query, and where parts end for its sake. Does not own: the end of a block that waits for
//! the Query.

use std::ops::Range;

use bytes::BytesMut;

use super::Session;
use super::cause::Cause;
use super::query::Block;
use super::recording::Readiness;
use super::release;
use crate::audit::TransactionId;
use crate::guard::{Control, Facts, Statement};
use crate::scope::{NeedsNoScope, ScopedFrame};
use crate::time::TimeOfDay;
use crate::upstream::Expect;
use crate::wire::{TransactionStatus, frontend};

impl Session {
    /// Whether its transactions need tickets, and so the time of day.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.rules.injection.is_sealed() || self.claims.as_ref().is_some_and(|claims| claims.is_sealed())
    }

    /// What time it is, for tickets made from now on.
    pub const fn tell_time(&mut self, now: TimeOfDay) {
        self.time_of_day = now;
        if let Some(lease) = self.lease.as_mut() {
            lease.tell_time(now);
        }
    }

    /// Under which name the ledger knows the transaction whose intent it has answered for: the database has it under the
    /// same one.
    pub const fn tell_transaction(&mut self, id: TransactionId) {
        if let Some(lease) = self.lease.as_mut() {
            lease.tell_transaction(id.0.into_bytes());
        }
    }

    /// Where a part has to end so that what stands behind it can be given a ticket: a ticket takes a snapshot, and in front
    /// of these none may be taken.
    pub(super) fn sealed_part_end(&self, statements: &[Statement]) -> Option<usize> {
        if self.claims.is_some() {
            return self.entries(statements, false).end;
        }
        let due = statements.iter().position(|statement| self.rules.policy.needs_scope(statement))?;
        let is_before = |statement: &Statement| matches!(statement.control, Control::Begin | Control::SetTransaction);
        let has_before = statements.get(..due)?.iter().any(is_before);
        (self.is_sealed() && has_before).then_some(due)
    }

    /// What a part of a Query has to wait for on a sealed database, where nothing is recorded.
    pub(super) fn ready_for_sealed_part(&mut self, facts: &Facts, part: &Range<usize>) -> Readiness {
        let statements = facts.statements.get(part.clone()).unwrap_or_default();
        let is_due = self.is_due(facts, part);
        // Alone it would be a transaction of its own, and have no effect.
        let leads = part.end < facts.statements.len() && leads_transaction(statements);
        let Some(lease) = self.lease.as_ref() else { return Readiness::Ready };
        let opens = lease.scope().predicted() == TransactionStatus::Idle && (is_due || leads);
        // The next ReadyForQuery is to be the block's, or the part's.
        if lease.replies().owes_ready() && (opens || part.end < facts.statements.len()) {
            return Readiness::Held;
        }
        if !opens {
            return Readiness::Ready;
        }
        if let [statement] = &*facts.statements
            && let Some(fault) = release::outside_block(statement)
        {
            return Readiness::Refused(fault);
        }
        self.open_own_block();
        Readiness::Ready
    }

    /// Puts the tenant on the transaction that a part of a Query is about to run in.
    pub(super) fn seal_part(&mut self, facts: &Facts, part: &Range<usize>) {
        if !self.is_sealed() || self.runs_without_block() || !self.is_due(facts, part) {
            return;
        }
        if self.claims.is_some() {
            return self.seal_claimed_part(facts, part);
        }
        let rules = std::sync::Arc::clone(&self.rules);
        if let Some(lease) = self.lease.as_mut().filter(|lease| lease.scope().needs_injection()) {
            super::extended::inject(lease, &rules, None, false);
        }
    }

    /// Ends the proxy's block in the Query's own packet, where nothing in the Query has a say in that: no COPY data is still
    /// to come, no statement moves a transaction, no part is left.
    pub(super) fn end_early(&mut self, facts: &Facts, part: &Range<usize>) {
        let statements = facts.statements.get(part.clone()).unwrap_or_default();
        let has_say = |statement: &Statement| statement.copy_in || moves_transaction(&statement.control);
        let is_recorded = self.rules.recording.as_ref().is_none_or(|recording| recording.is_written);
        if is_recorded || part.end < facts.statements.len() || statements.iter().any(has_say) {
            return;
        }
        self.commit_early();
    }

    /// The Query in front of an end that was sent with it is answered: in a failed block COMMIT rolls back.
    pub(super) fn note_early_end(&mut self, status: TransactionStatus) {
        let front = self.lease.as_mut().and_then(|lease| lease.front_mut());
        if let Some(Cause::OwnEnd(is_commit)) = front {
            *is_commit = status != TransactionStatus::Failed;
        }
    }

    fn is_due(&self, facts: &Facts, part: &Range<usize>) -> bool {
        if self.claims.is_some() {
            return self.entry(facts, part).is_some();
        }
        self.record_due(facts, part).is_some()
    }

    /// What failed stood in front of a Query, which the server skips up to a Sync: the client waits for a ReadyForQuery.
    pub(super) fn close_skipped_query(&mut self) {
        self.forget_early_end();
        let Some(lease) = self.lease.as_mut() else { return };
        let mut sync = BytesMut::new();
        frontend::put_sync(&mut sync);
        let frame = ScopedFrame::unscoped(NeedsNoScope::Housekeeping, [&sync, b"", b""], Some(Expect::Sync));
        lease.scope_mut().on_segment_end();
        // A Sync is never skipped.
        let is_skipped = lease.send(frame, Cause::Client).is_some();
        debug_assert!(!is_skipped);
    }
}

/// Whether a statement begins, ends or divides transactions.
const fn moves_transaction(control: &Control) -> bool {
    matches!(
        control,
        Control::Begin
            | Control::Commit { .. }
            | Control::Rollback { .. }
            | Control::RollbackTo(_)
            | Control::Savepoint(_)
            | Control::Release(_)
            | Control::DiscardAll
    )
}

/// Whether it says how the transaction behind it is to be, and does not begin one.
fn leads_transaction(statements: &[Statement]) -> bool {
    let has = |control: &Control| statements.iter().any(|statement| statement.control == *control);
    has(&Control::SetTransaction) && !has(&Control::Begin)
}

/// In whose block what runs in the proxy's own runs when the client begins one in it.
pub(super) const fn behind_begin(is_written: bool) -> Option<Block> {
    // Only a record has to know of the client's.
    if is_written { Some(Block::Clients) } else { None }
}
