//! Tickets for Queries that name their tenant themselves.
//!
//! A ticket stands in front of a part of a Query, so a part has one at most, and whatever begins or divides a transaction goes
//! in a part before it: a ticket in front of a SAVEPOINT would outlive a ROLLBACK TO that takes the claim back, and one behind
//! it is asked for again.
//!
//! ```text
//!   BEGIN; SAVEPOINT s; │ SET LOCAL app.tenant_id = 'a'; SELECT …; ROLLBACK TO s; │ SELECT set_config('app.tenant_id', 'b', true); …
//!                   ticket for a                                             ticket for b
//! ```
//!
//! Owns: where these tickets go, and for whom. Does not own: what was claimed (`claims`), parts and their blocks (`recording`,
//! `sealing`).

use std::ops::Range;

use super::Session;
use super::cause::Cause;
use super::claims::Plan;
use super::query;
use crate::guard::{Control, Facts, Statement};
use crate::scope::TransactionScope;
use crate::tenant::TenantId;
use crate::wire::TransactionStatus;

/// Where tickets are due in some statements.
#[derive(Debug, Default)]
pub(super) struct Entries {
    /// For whom the one is that stands in front of all of them.
    first: Option<TenantId>,
    /// In front of which statement there has to be another part.
    pub(super) end: Option<usize>,
}

/// What a statement needs in front of it.
enum Need {
    Nothing,
    Ticket(TenantId),
    /// It will be refused in its place, and nothing behind it runs.
    Refused,
}

impl Session {
    /// Where tickets are due in statements that are about to be sent; `is_whole`: they are all of a Query.
    pub(super) fn entries(&self, statements: &[Statement], is_whole: bool) -> Entries {
        let mut found = Entries::default();
        let (Some(claims), Some(lease)) = (self.claims.as_deref(), self.lease.as_ref()) else { return found };
        let (mut plan, mut scope) = (claims.plan(), *lease.scope());
        let is_idle = scope.predicted() == TransactionStatus::Idle;
        let is_alone = is_whole && statements.len() == 1 && is_idle && !lease.replies().is_open();
        let mut is_behind = false;
        for (at, statement) in statements.iter().enumerate() {
            match self.need(&plan, &scope, statement, is_alone) {
                Need::Nothing => {}
                Need::Refused => break,
                Need::Ticket(_) if is_behind || found.first.is_some() => {
                    found.end = Some(at);
                    break;
                }
                Need::Ticket(tenant) => {
                    plan.on_entered(&tenant);
                    scope.on_injected();
                    found.first = Some(tenant);
                }
            }
            if let Control::Claim(claim) = &statement.control
                && plan.claim(claim, &mut scope, is_alone).is_err()
            {
                break;
            }
            let before = scope.predicted();
            query::follow(&mut scope, &statement.control);
            plan.follow(&statement.control, before, &mut scope);
            is_behind |= divides(&statement.control);
        }
        found
    }

    fn need(&self, plan: &Plan<'_>, scope: &TransactionScope, statement: &Statement, is_alone: bool) -> Need {
        if let Control::Claim(claim) = &statement.control {
            return match plan.claimed(claim).filter(|_| scope.needs_injection() && !is_alone) {
                Some(tenant) => Need::Ticket(tenant),
                None => Need::Nothing,
            };
        }
        if !self.rules.policy.needs_scope(statement) || !scope.needs_injection() {
            return Need::Nothing;
        }
        match plan.tenant() {
            Some(tenant) => Need::Ticket(tenant.clone()),
            // Of nobody's transaction a ROLLBACK TO takes nothing away.
            None if matches!(statement.control, Control::Savepoint(_)) => Need::Nothing,
            None => Need::Refused,
        }
    }

    /// For whom a ticket is due in front of a part.
    pub(super) fn entry(&self, facts: &Facts, part: &Range<usize>) -> Option<TenantId> {
        let statements = facts.statements.get(part.clone()).unwrap_or_default();
        self.entries(statements, statements.len() == facts.statements.len()).first
    }

    /// Shows it.
    pub(super) fn seal_claimed_part(&mut self, facts: &Facts, part: &Range<usize>) {
        let Some(tenant) = self.entry(facts, part) else { return };
        let (Some(claims), Some(lease)) = (self.claims.as_mut(), self.lease.as_mut()) else { return };
        // Where it was not asked for, its claim is refused in its place.
        if let Some(injection) = claims.enter(&tenant) {
            lease.inject(&injection, false, Cause::Scope);
        }
    }
}

/// Whether a ticket in front of this statement would not be what one behind it is.
fn divides(control: &Control) -> bool {
    match control {
        Control::Begin
        | Control::SetTransaction
        | Control::Commit { .. }
        | Control::Rollback { .. }
        | Control::Savepoint(_)
        | Control::Release(_)
        | Control::RollbackTo(_)
        | Control::DiscardAll => true,
        Control::None
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
        | Control::DeallocateAll
        | Control::Deallocate(_)
        | Control::AdvisoryUnlockAll
        | Control::Show(_) => false,
    }
}
