//! Planted defects, for tests that must find them: each is a bug that another pooler has had, or one that a fact about
//! PostgreSQL invites. Only with the feature `mutants`, which is never for production.
//!
//! Owns: their names, and the few that are more than a word at their place. Does not own: where they are planted.

use std::sync::Arc;

use super::SessionRules;
use super::cause::Cause;
use super::statements::ClientStatement;
use crate::guard::{Control, Facts};
use crate::scope::{LeasedServer, TransactionScope, replay_inside};
use crate::upstream::settings::SettingStep;
use crate::upstream::{Settings, StatementKey};
use crate::wire::TransactionStatus;

macro_rules! mutants {
    ($($(#[$doc:meta])+ $variant:ident = $name:literal;)*) => {
        /// A planted defect: each must make a test fail.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mutant {
            $($(#[$doc])+ $variant,)*
        }

        impl Mutant {
            /// All there are.
            pub const ALL: &'static [Mutant] = &[$(Mutant::$variant),*];

            /// Its name in `TENANTGATE_MUTANT`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Mutant::$variant => $name,)*
                }
            }
        }
    };
}

mutants! {
    /// Nothing is injected.
    NoInjection = "no_injection";
    /// The tenant of the session before is injected.
    PreviousTenant = "previous_tenant";
    /// The scope is believed to outlive COMMIT.
    NoReinjectionAfterCommit = "no_reinjection_after_commit";
    /// A server is given back while it owes replies.
    CheckinWhileOwed = "checkin_while_owed";
    /// A transaction begins before its intent is in the ledger.
    IntentNotAwaited = "intent_not_awaited";
    /// The ledger answers before its records are durable.
    RecordsNotSynced = "records_not_synced";
    /// A COMMIT goes without a pre-commit record.
    CommitNotAnnounced = "commit_not_announced";
    /// A COMMIT that was never answered is recorded as rolled back.
    LostCommitRolledBack = "lost_commit_rolled_back";
    /// The scope is put on the transaction again behind ROLLBACK TO.
    ReinjectionAfterRollbackTo = "reinjection_after_rollback_to";
    /// The scope is injected in front of BEGIN and SET TRANSACTION, where it takes a snapshot.
    InjectionBeforeSetTransaction = "injection_before_set_transaction";
    /// Within one Query or segment the scope is believed to outlive COMMIT.
    ScopeSurvivesInnerCommit = "scope_survives_inner_commit";
    /// The scope is injected in front of every Bind, in a failed block too: the client's ROLLBACK is swallowed.
    RollbackSwallowed = "rollback_swallowed";
    /// One entry in the queue for the two answers of an injection.
    OneEntryForTwoAnswers = "one_entry_for_two_answers";
    /// A client's SET and set_config outlive the roll-back of their transaction.
    SettingsSurviveRollback = "settings_survive_rollback";
    /// A claim of the session outlives the roll-back of the transaction it was made in.
    ClaimSurvivesRollback = "claim_survives_rollback";
    /// A claim is forwarded as it is, and what comes without one runs as whatever the server has.
    ClaimBleeds = "claim_bleeds";
    /// A local claim is believed to outlive its transaction.
    ClaimOutlivesTransaction = "claim_outlives_transaction";
    /// A ROLLBACK TO a savepoint in front of a claim is believed to leave it.
    ClaimSurvivesSavepoint = "claim_survives_savepoint";
    /// Settings are put on a server inside the client's transaction, whose roll-back takes them away.
    ReplayInsideTransaction = "replay_inside_transaction";
    /// Prepared statements are told apart by a hash alone.
    StatementsByHash = "statements_by_hash";
    /// A statement that has to make room on the server is not closed there.
    EvictionWithoutClose = "eviction_without_close";
    /// Whatever the server's unnamed statement is, it is taken for the client's.
    AnothersUnnamedStatement = "anothers_unnamed_statement";
    /// A Parse that was skipped is believed to have been done.
    SkippedParseKept = "skipped_parse_kept";
    /// A Sync in copy-in is counted, though the server ignores it.
    SyncCountedInCopyIn = "sync_counted_in_copy_in";
    /// A server is given back in the middle of a message to it: COPY data behind a failed COPY.
    CheckinInMidMessage = "checkin_in_mid_message";
    /// A server is given back in a failed block.
    CheckinInFailedBlock = "checkin_in_failed_block";
    /// A client is not told of reported settings that changed with its server.
    ParameterStatusLost = "parameter_status_lost";
    /// The cancel of one statement may hit the next.
    CancelHitsNextStatement = "cancel_hits_next_statement";
    /// A segment behind transaction control is not held until the state is known.
    SegmentNotHeld = "segment_not_held";
    /// What a statement leaves on its server is not suspected.
    StateForgotten = "state_forgotten";
    /// An inquiry that was not answered is taken to have found nothing.
    InquiryBelieved = "inquiry_believed";
    /// A client's state is taken to be gone when its client is.
    CleaningSkipped = "cleaning_skipped";
    /// A notification that comes while its listener is in a transaction is dropped.
    NotificationDropped = "notification_dropped";
    /// Whoever is ended by the operator goes on until its transaction is over.
    ExpelledAfterwards = "expelled_afterwards";
    /// Other rules come in the middle of a transaction.
    RulesInTransaction = "rules_in_transaction";
    /// All clients are given the same cancel key.
    SharedCancelKey = "shared_cancel_key";
    /// Error positions count the proxy's own words.
    PositionNotMoved = "position_not_moved";
}

/// `control` was sent.
pub(super) fn after_sent(mutant: Option<Mutant>, scope: &mut TransactionScope, control: &Control) {
    let is_end = matches!(control, Control::Commit { .. });
    if mutant == Some(Mutant::ScopeSurvivesInnerCommit) && is_end {
        scope.on_injected();
    }
    let is_back = matches!(control, Control::RollbackTo(_)) && scope.predicted() == TransactionStatus::InBlock;
    if mutant == Some(Mutant::ReinjectionAfterRollbackTo) && is_back {
        scope.on_end(true);
    }
}

/// Whether more than what needs scope gets it.
pub(super) fn needs_scope(mutant: Option<Mutant>, facts: &Facts) -> bool {
    let is_start = |control: &Control| matches!(control, Control::Begin | Control::SetTransaction);
    mutant == Some(Mutant::InjectionBeforeSetTransaction)
        && facts.statements.iter().any(|statement| is_start(&statement.control))
}

/// An injection gone wrong; whether it was one.
pub(super) fn inject(lease: &mut LeasedServer<Cause>, rules: &SessionRules) -> bool {
    match rules.mutant {
        Some(Mutant::NoInjection) => lease.scope_mut().on_injected(),
        Some(Mutant::OneEntryForTwoAnswers) => lease.inject_as_one(&rules.injection, Cause::Scope(true)),
        _ => return false,
    }
    true
}

/// A server was leased, and these settings are missing on it; those that still are.
pub(super) fn on_leased(
    mutant: Option<Mutant>,
    lease: &mut LeasedServer<Cause>,
    steps: Vec<SettingStep>,
    settings: &Settings,
) -> Vec<SettingStep> {
    match mutant {
        Some(Mutant::ReplayInsideTransaction) => {
            replay_inside(lease, &steps, &Cause::Install);
            lease.server_mut().settings = Settings::clone(settings);
            Vec::new()
        }
        Some(Mutant::EvictionWithoutClose) => {
            lease.server_mut().statements.forget_evictions();
            steps
        }
        _ => steps,
    }
}

/// A statement's key, told apart by a hash alone; and by a weak one, as they are so rarely equal.
pub(super) fn key(mutant: Option<Mutant>, key: StatementKey) -> StatementKey {
    if mutant == Some(Mutant::StatementsByHash) { key.hashed_by_length() } else { key }
}

/// A tenant in force is put on the server for good, and where there is none the server's is taken; whether it was done.
pub(super) fn bleed(mutant: Option<Mutant>, scope: &mut TransactionScope) -> bool {
    if mutant == Some(Mutant::ClaimBleeds) {
        scope.on_nothing_to_inject();
    }
    mutant == Some(Mutant::ClaimBleeds)
}

/// Whether a server is given back that should not be.
pub(super) fn checks_in(mutant: Option<Mutant>, lease: &LeasedServer<Cause>, is_in_mid_message: bool) -> bool {
    let status = lease.replies().status();
    match mutant {
        Some(Mutant::CheckinWhileOwed) => status == TransactionStatus::Idle && lease.out_bytes() == 0,
        Some(Mutant::CheckinInMidMessage) => is_in_mid_message && lease.is_quiet(),
        Some(Mutant::CheckinInFailedBlock) => {
            let is_at_rest = lease.replies().is_empty() && !lease.replies().is_open() && lease.out_bytes() == 0;
            is_at_rest && status == TransactionStatus::Failed
        }
        _ => false,
    }
}

/// A client's Bind is about to be sent.
pub(super) fn before_bind(rules: &SessionRules, lease: &mut LeasedServer<Cause>, statement: &ClientStatement) {
    match rules.mutant {
        Some(Mutant::AnothersUnnamedStatement) if statement.name.is_empty() => {
            lease.server_mut().statements.set_unnamed(Some(Arc::clone(&statement.key)));
        }
        Some(Mutant::RollbackSwallowed) if lease.scope().predicted() == TransactionStatus::Failed => {
            lease.inject(&rules.injection, false, Cause::Scope);
        }
        _ => {}
    }
}
