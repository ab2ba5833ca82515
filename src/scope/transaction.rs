//! What is known of the tenant context of one server's current transaction.
//!
//! ```text
//!            needs scope: inject                 confirmed
//! Unscoped ─────────────────────▶ scoped (sent) ───────────▶ scoped (confirmed)
//!     ▲                                │                            │
//!     └── Sync outside a block, COMMIT, ROLLBACK, AND CHAIN ────────┘
//! ```
//!
//! Two views are kept: *predicted* (after everything that was sent so far succeeds) decides what to send,
//! *confirmed* (after the last reply) is what the prediction falls back to once nothing is owed. While a
//! segment with transaction control is unanswered nothing behind it is sent, so the prediction differs
//! from the truth only by errors, and in a failed block the server refuses all by itself.

use crate::wire::TransactionStatus;

/// The tenant context of a server's current transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionScope {
    predicted: TransactionStatus,
    /// The predicted transaction has its tenant.
    scoped: bool,
    /// The transaction of the last reply has its tenant.
    confirmed: bool,
    /// The server carries the tenant beyond its transactions: every one has it, and none can take it away.
    carried: bool,
}

impl Default for TransactionScope {
    fn default() -> Self {
        Self { predicted: TransactionStatus::Idle, scoped: false, confirmed: false, carried: false }
    }
}

impl TransactionScope {
    /// The predicted status.
    #[must_use]
    pub const fn predicted(&self) -> TransactionStatus {
        self.predicted
    }

    /// Whether a statement that needs scope needs an injection in front of it. In a failed block it does
    /// not: the server refuses the statement, and would refuse the injection and then skip what is behind.
    #[must_use]
    pub fn needs_injection(&self) -> bool {
        !self.carried && !self.scoped && self.predicted != TransactionStatus::Failed
    }

    /// Whether no transaction is open or predicted, and none has a tenant of its own.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        let Self { predicted, scoped, confirmed, carried: _ } = *self;
        predicted == TransactionStatus::Idle && !scoped && !confirmed
    }

    /// The server carries the tenant (or will, before it runs anything that is sent from now on).
    pub(super) fn on_carried(&mut self) {
        self.carried = true;
    }

    /// It does not.
    pub(super) fn on_not_carried(&mut self) {
        self.carried = false;
    }

    /// Whether a statement that needs scope may be sent now.
    #[must_use]
    pub fn may_send_scoped(&self) -> bool {
        !self.needs_injection()
    }

    /// Whether the transaction has a tenant of its own, sent or about to be confirmed.
    #[must_use]
    pub const fn is_scoped(&self) -> bool {
        self.scoped
    }

    /// An injection was sent.
    pub fn on_injected(&mut self) {
        self.scoped = true;
    }

    /// There is no setting to inject: the transaction has all it needs.
    pub fn on_nothing_to_inject(&mut self) {
        self.scoped = true;
        self.confirmed = true;
    }

    /// The server has answered an injection.
    pub fn on_confirmed(&mut self) {
        self.confirmed = true;
    }

    /// BEGIN was sent.
    pub fn on_begin(&mut self) {
        if self.predicted == TransactionStatus::Idle {
            self.predicted = TransactionStatus::InBlock;
        }
    }

    /// COMMIT or ROLLBACK was sent.
    pub fn on_end(&mut self, chain: bool) {
        self.scoped = false;
        self.predicted = if chain { TransactionStatus::InBlock } else { TransactionStatus::Idle };
    }

    /// ROLLBACK TO was sent: the block works again, and the scope, set before the first savepoint, stays.
    pub fn on_rollback_to(&mut self) {
        if self.predicted == TransactionStatus::Failed {
            self.predicted = TransactionStatus::InBlock;
        }
    }

    /// What was sent undoes the injection: a ROLLBACK TO a savepoint in front of it.
    pub fn on_undone(&mut self) {
        self.scoped = false;
    }

    /// A Sync, or the end of a Query, was sent: outside a block that ends the transaction.
    pub fn on_segment_end(&mut self) {
        if self.predicted == TransactionStatus::Idle {
            self.scoped = false;
        }
    }

    /// The server has answered a COMMIT or ROLLBACK.
    pub fn on_ended(&mut self) {
        self.confirmed = false;
    }

    /// ReadyForQuery outside a block: the transaction of the last reply is over, and its tenant with it.
    pub fn on_ready(&mut self, status: TransactionStatus) {
        if status == TransactionStatus::Idle {
            self.confirmed = false;
        }
    }

    /// ReadyForQuery, and nothing else is owed: the truth.
    pub fn settle(&mut self, status: TransactionStatus) {
        self.on_ready(status);
        self.predicted = status;
        self.scoped = self.confirmed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scope_is_lost_at_every_end_of_a_transaction() {
        let mut scope = TransactionScope::default();
        assert!(scope.needs_injection());
        scope.on_injected();
        assert!(scope.may_send_scoped());
        scope.on_segment_end();
        assert!(scope.needs_injection());
        scope.on_begin();
        scope.on_injected();
        scope.on_segment_end();
        assert!(scope.may_send_scoped());
        scope.on_end(true);
        assert!(scope.needs_injection());
        assert_eq!(scope.predicted(), TransactionStatus::InBlock);
    }

    #[test]
    fn what_the_server_carries_outlives_every_transaction() {
        let mut scope = TransactionScope::default();
        scope.on_carried();
        scope.on_begin();
        scope.on_end(true);
        assert!(scope.may_send_scoped() && !scope.is_at_rest());
        scope.on_end(false);
        scope.settle(TransactionStatus::Idle);
        assert!(scope.may_send_scoped() && scope.is_at_rest());
        scope.on_not_carried();
        assert!(scope.needs_injection());
    }

    #[test]
    fn a_confirmation_ends_with_its_transaction_even_while_more_is_owed() {
        let mut scope = TransactionScope::default();
        scope.on_injected();
        scope.on_segment_end();
        scope.on_begin();
        scope.on_confirmed();
        scope.on_ready(TransactionStatus::Idle);
        scope.settle(TransactionStatus::InBlock);
        assert!(scope.needs_injection());
    }

    #[test]
    fn a_failed_block_is_left_alone_and_an_unconfirmed_scope_is_not_believed() {
        let mut scope = TransactionScope::default();
        scope.on_begin();
        scope.on_injected();
        scope.settle(TransactionStatus::Failed);
        assert!(scope.may_send_scoped());
        scope.on_rollback_to();
        assert!(scope.needs_injection());
        scope.on_injected();
        scope.on_confirmed();
        scope.settle(TransactionStatus::InBlock);
        assert!(scope.may_send_scoped());
        scope.settle(TransactionStatus::Idle);
        assert!(scope.needs_injection());
    }
}
