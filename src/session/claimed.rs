//! For whom a session acts, as far as it knows: what was claimed in this transaction and before, over savepoints.
//!
//! Owns: the journal of a transaction's claims and its undoing. Does not own: when it moves (`claims`).

use crate::guard::Control;
use crate::scope::TransactionScope;
use crate::tenant::TenantId;
use crate::wire::TransactionStatus;

/// Something that happened in the current transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Mark {
    Savepoint(Box<str>),
    /// The session's tenant is another one, if the transaction is committed.
    Session(Option<TenantId>),
    /// The transaction has this tenant on its server.
    Scope(TenantId),
    /// The claim was taken back: what follows has no tenant, though the server's transaction has.
    Ended,
    /// The server has the setting of a bypass, or has it no more.
    Bypass(bool),
}

/// What a session acts for at one moment. Bounded: between two savepoints there is one mark of each kind, and savepoints
/// are counted with the session's settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    pub(super) session: Option<TenantId>,
    journal: Vec<Mark>,
}

impl View {
    pub(super) fn new(base: Option<TenantId>) -> Self {
        Self { session: base, journal: Vec::new() }
    }

    /// Whose rows a statement sees now.
    pub(super) fn tenant(&self) -> Option<&TenantId> {
        for mark in self.journal.iter().rev() {
            match mark {
                Mark::Scope(tenant) => return Some(tenant),
                Mark::Ended => return None,
                Mark::Savepoint(_) | Mark::Session(_) | Mark::Bypass(_) => {}
            }
        }
        self.session_now()
    }

    /// Whom the transaction has on its server.
    pub(super) fn scope(&self) -> Option<&TenantId> {
        self.journal.iter().rev().find_map(|mark| match mark {
            Mark::Scope(tenant) => Some(tenant),
            Mark::Savepoint(_) | Mark::Session(_) | Mark::Ended | Mark::Bypass(_) => None,
        })
    }

    /// Whether the transaction sees every tenant's rows.
    pub(super) fn is_bypass(&self) -> bool {
        let last = self.journal.iter().rev().find_map(|mark| match mark {
            Mark::Bypass(is_on) => Some(*is_on),
            Mark::Savepoint(_) | Mark::Session(_) | Mark::Scope(_) | Mark::Ended => None,
        });
        last.unwrap_or(false)
    }

    /// Whether a statement has what it needs: a tenant, or a bypass where the server has not another tenant still.
    pub(super) fn has_scope(&self) -> bool {
        self.tenant().is_some() || (self.is_bypass() && self.scope().is_none())
    }

    /// Whether a tenant is in force that the server does not have.
    pub(super) fn lacks_tenant(&self) -> bool {
        self.tenant().is_some() && self.scope().is_none()
    }

    pub(super) fn set_bypass(&mut self, is_on: bool) {
        self.drop_recent(|mark| matches!(mark, Mark::Bypass(_)));
        self.journal.push(Mark::Bypass(is_on));
    }

    pub(super) fn session_now(&self) -> Option<&TenantId> {
        let claimed = self.journal.iter().rev().find_map(|mark| match mark {
            Mark::Session(tenant) => Some(tenant.as_ref()),
            Mark::Savepoint(_) | Mark::Scope(_) | Mark::Ended | Mark::Bypass(_) => None,
        });
        claimed.unwrap_or(self.session.as_ref())
    }

    /// Drops marks since the last savepoint.
    fn drop_recent(&mut self, is_dropped: impl Fn(&Mark) -> bool) {
        let last = self.journal.iter().rposition(|mark| matches!(mark, Mark::Savepoint(_)));
        let start = last.map_or(0, |at| at + 1);
        let recent = self.journal.split_off(start);
        self.journal.extend(recent.into_iter().filter(|mark| !is_dropped(mark)));
    }

    pub(super) fn set_session(&mut self, tenant: Option<TenantId>) {
        self.drop_recent(|mark| matches!(mark, Mark::Session(_)));
        self.journal.push(Mark::Session(tenant));
    }

    /// The transaction acts for this tenant, which its server has.
    pub(super) fn act_for(&mut self, tenant: &TenantId) {
        self.drop_recent(|mark| matches!(mark, Mark::Ended | Mark::Scope(_)));
        self.journal.push(Mark::Scope(tenant.clone()));
    }

    pub(super) fn end_claim(&mut self, is_session: bool, base: Option<&TenantId>) {
        if is_session {
            self.set_session(base.cloned());
        }
        if !is_session || self.scope().is_some() {
            self.drop_recent(|mark| matches!(mark, Mark::Ended));
            self.journal.push(Mark::Ended);
        }
    }

    pub(super) fn savepoint(&mut self, name: &str) {
        self.journal.push(Mark::Savepoint(name.into()));
    }

    fn place_of(&self, name: &str) -> Option<usize> {
        self.journal.iter().rposition(|mark| matches!(mark, Mark::Savepoint(known) if **known == *name))
    }

    /// RELEASE: the savepoint and those behind it are gone, what was claimed stays.
    pub(super) fn release(&mut self, name: &str) {
        let Some(at) = self.place_of(name) else { return };
        let behind = self.journal.split_off(at);
        self.journal.extend(behind.into_iter().filter(|mark| !matches!(mark, Mark::Savepoint(_))));
    }

    pub(super) fn rollback_to(&mut self, name: &str) {
        if let Some(at) = self.place_of(name) {
            self.journal.truncate(at + 1);
        }
    }

    pub(super) fn end(&mut self, is_committed: bool) {
        if is_committed && let Some(session) = self.session_now_marked() {
            self.session = session;
        }
        self.journal.clear();
    }

    /// The defect that a test has to find: what was claimed for the transaction becomes the session's.
    #[cfg(feature = "mutants")]
    pub(super) fn keep_local(&mut self, is_kept: bool) {
        if is_kept && let Some(tenant) = self.scope().cloned() {
            self.session = Some(tenant);
        }
    }

    fn session_now_marked(&self) -> Option<Option<TenantId>> {
        self.journal.iter().rev().find_map(|mark| match mark {
            Mark::Session(tenant) => Some(tenant.clone()),
            Mark::Savepoint(_) | Mark::Scope(_) | Mark::Ended | Mark::Bypass(_) => None,
        })
    }
}

/// Moves what is ahead on by a statement that is no claim.
pub(super) fn follow(
    view: &mut View,
    base: Option<&TenantId>,
    control: &Control,
    before: TransactionStatus,
    scope: &mut TransactionScope,
) {
    match control {
        Control::Commit { .. } => view.end(before != TransactionStatus::Failed),
        Control::Rollback { .. } => view.end(false),
        Control::Savepoint(name) => view.savepoint(name),
        Control::Release(name) => view.release(name),
        Control::RollbackTo(name) => {
            view.rollback_to(name);
            if view.scope().is_none() && !view.is_bypass() {
                scope.on_undone();
            }
        }
        Control::ResetAll | Control::DiscardAll => view.end_claim(true, base),
        Control::None
        | Control::Begin
        | Control::SetTransaction
        | Control::Set { .. }
        | Control::Configure(_)
        | Control::SetCharacteristics(_)
        | Control::Reset { .. }
        | Control::Claim(_)
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
        | Control::Show(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenant::TenantKind;

    fn tenant(name: &str) -> TenantId {
        TenantId::parse(TenantKind::Text, name).unwrap()
    }

    fn who(view: &View) -> Option<&str> {
        view.tenant().map(TenantId::as_str)
    }

    #[test]
    fn a_session_s_claim_lives_and_dies_with_its_transaction_and_savepoint() {
        let mut view = View::new(None);
        view.set_session(Some(tenant("a")));
        view.savepoint("s");
        view.set_session(Some(tenant("b")));
        assert_eq!(who(&view), Some("b"));
        view.rollback_to("s");
        assert_eq!(who(&view), Some("a"));
        view.end(true);
        view.set_session(Some(tenant("c")));
        view.end(false);
        assert_eq!((who(&view), view.scope()), (Some("a"), None));
    }

    #[test]
    fn a_transaction_acts_for_one_tenant_until_the_savepoint_in_front_of_it() {
        let mut view = View::new(Some(tenant("base")));
        view.savepoint("s");
        view.act_for(&tenant("a"));
        assert_eq!((who(&view), view.scope()), (Some("a"), Some(&tenant("a"))));
        view.savepoint("t");
        view.rollback_to("t");
        assert_eq!(view.scope(), Some(&tenant("a")));
        view.rollback_to("s");
        assert_eq!((who(&view), view.scope()), (Some("base"), None));
        view.act_for(&tenant("a"));
        view.release("s");
        view.rollback_to("s");
        assert_eq!(view.scope(), Some(&tenant("a")), "there is no such savepoint any more");
    }

    #[test]
    fn a_bypass_ends_with_the_savepoint_in_front_of_it_and_comes_back_where_it_was_taken_back() {
        let mut view = View::new(None);
        view.savepoint("s");
        view.set_bypass(true);
        assert!(view.is_bypass() && view.has_scope() && view.tenant().is_none());
        view.savepoint("t");
        view.set_bypass(false);
        assert!(!view.has_scope());
        view.rollback_to("t");
        assert!(view.has_scope());
        view.act_for(&tenant("a"));
        view.end_claim(false, None);
        assert!(!view.has_scope(), "its server has the tenant still");
        view.rollback_to("s");
        assert!(!view.is_bypass());
        for _ in 0..1_000 {
            view.set_bypass(true);
            view.set_bypass(false);
        }
        assert!(view.journal.len() < 3);
        view.set_bypass(true);
        view.end(true);
        assert!(!view.is_bypass());
    }

    #[test]
    fn a_claim_that_is_taken_back_leaves_nobody_though_the_server_has_one() {
        let mut view = View::new(None);
        view.set_session(Some(tenant("a")));
        view.act_for(&tenant("a"));
        view.end_claim(true, None);
        assert_eq!((who(&view), view.scope()), (None, Some(&tenant("a"))));
        view.act_for(&tenant("a"));
        assert_eq!(who(&view), Some("a"));
        for _ in 0..1_000 {
            view.end_claim(true, None);
            view.act_for(&tenant("a"));
            view.set_session(Some(tenant("a")));
        }
        assert!(view.journal.len() < 4, "what is said again and again takes no room");
        view.end(true);
        assert_eq!(who(&view), Some("a"));
    }
}
