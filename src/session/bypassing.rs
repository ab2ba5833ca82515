//! A bypass that is claimed: `SELECT set_config('app.bypass_rls', 'true', true)` where the login's configuration has a right
//! for it.
//!
//! ```text
//!                  claim in a block          intent durable, setting sent        COMMIT or ROLLBACK answered
//!  not recorded ──────────────────▶ Intending ─────────────────────▶ Running ─────────────────────────────▶ Concluding
//!                                      │ refused: the claim fails         └ ROLLBACK TO in front of it: the bypass is over,
//!                                                                           the record stays open
//! ```
//!
//! The claim is never forwarded: in its place goes the proxy's own `SET LOCAL` of the configured value, which ends with the
//! transaction. The machine of records is that of bypass logins (`recording`); it rests until such a claim comes, and the
//! block is always the client's own. Outside of a block a claim has no effect; what stands behind it in its segment is
//! refused.
//!
//! Owns: what such a claim says, what stands in its place, when its record is due. Does not own: the record (`recording`),
//! tenants (`claims`).

use std::borrow::Cow;

use bytes::BytesMut;

use super::claims::{ClaimRules, Plan, Standing, Token, claim_in, identifier, literal, put_answer};
use super::recording::Readiness;
use super::release::NOTHING;
use super::{Cause, Session};
use crate::fault::{Code, Fault};
use crate::guard::{Claim, ClaimForm, ClaimSpan, ClaimSubject, ClaimedValue, Control, Facts, State, Statement};
use crate::scope::{LeasedServer, NeedsNoScope, ScopedFrame, TransactionScope};
use crate::upstream::Expect;
use crate::wire::frontend::{self, Target};
use crate::wire::{TransactionStatus, backend};

/// What a claim of a bypass says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Switch {
    /// What the setting is to be.
    pub(super) value: Box<str>,
    /// Whether that is a bypass.
    pub(super) is_on: bool,
}

impl ClaimRules {
    /// Reads a claim whose value is known.
    pub(super) fn switch_of(&self, claim: &Claim) -> Result<Switch, Fault> {
        let malformed = |detail: String| Fault::of(Code::BypassMalformed).with_detail(detail);
        let bypass = self.bypass.as_ref().ok_or_else(|| Fault::of(Code::ScopeChange))?;
        let value = match &claim.value {
            ClaimedValue::Text(text) => text.clone(),
            ClaimedValue::Default => Box::default(),
            ClaimedValue::Null => return Err(malformed("It is NULL.".to_owned())),
            ClaimedValue::Parameter { number, .. } => {
                return Err(malformed(format!("Parameter ${number} has no value.")));
            }
        };
        let is_on = bypass.means(&value).ok_or_else(|| malformed(format!("The setting is {}.", claim.setting)))?;
        match (is_on, claim.span) {
            (true, ClaimSpan::Session) => {
                Err(Fault::of(Code::BypassOutsideBlock).with_detail("It was claimed for the session."))
            }
            (true, ClaimSpan::Parameter(_)) => Err(malformed("How long it counts is not known.".to_owned())),
            (true, ClaimSpan::Transaction) | (false, _) => Ok(Switch { value, is_on }),
        }
    }

    /// Whether a claim would begin a bypass.
    pub(super) fn is_bypass(&self, claim: &Claim) -> bool {
        claim.subject == ClaimSubject::Bypass && self.switch_of(claim).is_ok_and(|switch| switch.is_on)
    }

    /// The statement that puts a value on the transaction.
    fn set_local(&self, value: &str) -> String {
        let setting = self.bypass.as_ref().map_or("", |bypass| &bypass.setting);
        format!("SET LOCAL {setting} TO {}", literal(value))
    }
}

/// What keeps rows beyond their transaction, where they would be read without a record.
const KEEPS_ROWS: State = State::TEMPORARY.and(State::CURSORS);

/// Refuses what would leave a bypass's rows behind it, or take them up.
fn refuse_kept(what: &str) -> Fault {
    Fault::of(Code::LedgerEscape)
        .with_detail(format!("{what} would keep rows of the bypass beyond its record."))
        .with_hint("Drop temporary tables and close cursors WITH HOLD in front of the transaction; temporary tables ON COMMIT DROP may be made in it.")
}

/// Refuses what would run without the bypass that was claimed in front of it.
pub(super) fn lost() -> Fault {
    Fault::of(Code::BypassOutsideBlock).with_detail("It was claimed outside of a block, where it has no effect.")
}

impl<'a> Plan<'a> {
    /// What goes in the place of a claim of a bypass; `is_alone`: outside of any block, with nothing behind it.
    pub(super) fn claim_bypass(
        &mut self,
        claim: &Claim,
        scope: &mut TransactionScope,
        is_alone: bool,
    ) -> Result<Standing<'a>, Fault> {
        let rules = &self.claims.rules;
        let switch = rules.switch_of(claim)?;
        let mut fronts = Vec::new();
        match scope.predicted() {
            TransactionStatus::Idle if switch.is_on && !is_alone => return Err(lost()),
            // It ends at once.
            TransactionStatus::Idle if is_alone => {}
            // The server refuses it by itself.
            TransactionStatus::Failed => {}
            TransactionStatus::Idle | TransactionStatus::InBlock => {
                if switch.is_on
                    && self.view.lacks_tenant()
                    && let Some(tenant) = self.view.tenant().cloned()
                {
                    fronts.push(self.front_of(&tenant, scope)?);
                }
                fronts.push((Cow::Owned(rules.set_local(&switch.value) + ";"), 1));
                self.scopes.push(Token::Bypass(switch.is_on));
                self.view.set_bypass(switch.is_on);
                if switch.is_on {
                    scope.on_injected();
                }
            }
        }
        let (text, tag) = said_of(rules, claim, &switch, is_alone);
        Ok(Standing { fronts, text, tag })
    }
}

/// What stands in a Query for the claim itself.
fn said_of(rules: &ClaimRules, claim: &Claim, switch: &Switch, is_alone: bool) -> (String, Option<&'static str>) {
    match &claim.form {
        // PostgreSQL's own warning outside of blocks comes with it.
        ClaimForm::Set if is_alone && claim.span != ClaimSpan::Session => (rules.set_local(""), None),
        ClaimForm::Set => (NOTHING.to_owned(), Some("SET")),
        ClaimForm::Reset => (NOTHING.to_owned(), Some("RESET")),
        ClaimForm::Select(column) => {
            (format!("SELECT {}::pg_catalog.text AS {}", literal(&switch.value), identifier(column)), None)
        }
    }
}

/// Portal of the proxy's own statement, while the client's portals must survive.
const PORTAL: &[u8] = b"tg_bypass";

/// Sends a utility statement of the proxy's own in front of the client's Execute; its last answer confirms it.
fn send_setting(lease: &mut LeasedServer<Cause>, sql: &str) {
    let mut bytes = BytesMut::with_capacity(128);
    let push = |lease: &mut LeasedServer<Cause>, bytes: &mut BytesMut, expect, confirms| {
        let frame = ScopedFrame::unscoped(NeedsNoScope::Housekeeping, [bytes, b"", b""], Some(expect));
        drop(lease.send(frame, Cause::Scope(confirms)));
        bytes.clear();
    };
    frontend::put_parse(&mut bytes, b"", sql.as_bytes(), &[]);
    push(lease, &mut bytes, Expect::Parse, false);
    lease.server_mut().statements.set_unnamed(None);
    frontend::put_bind_text(&mut bytes, PORTAL, b"", &[]);
    push(lease, &mut bytes, Expect::Bind, false);
    frontend::put_execute(&mut bytes, PORTAL);
    push(lease, &mut bytes, Expect::Execute, true);
    frontend::put_close(&mut bytes, Target::Portal, PORTAL);
    push(lease, &mut bytes, Expect::Close, false);
}

impl Session {
    /// Whether a statement has to be recorded, or is what makes its transaction be, at this point.
    pub(super) fn is_record_due(&self, statement: &Statement, predicted: TransactionStatus) -> bool {
        match self.records_claims_only() {
            true => predicted == TransactionStatus::InBlock && self.claims_bypass(statement),
            false => predicted != TransactionStatus::Failed && self.rules.policy.needs_scope(statement),
        }
    }

    /// Whether a Query's answers have to be followed one by one though nothing of it is recorded.
    pub(super) fn is_query_followed(&self, statements: &[Statement], is_whole: bool) -> bool {
        let is_said = || statements.iter().any(|statement| super::recording::changes_said(&statement.control));
        self.recorder.is_some() && (!is_whole || is_said())
    }

    /// Whether such a claim is made.
    pub(super) fn claims_bypass(&self, statement: &Statement) -> bool {
        let Some(claims) = &self.claims else { return false };
        claim_in(statement).is_some_and(|claim| claims.rules.is_bypass(claim))
    }

    /// Whether records are of claimed bypasses alone. (On a sealed database there are none: what is not written is its blocks.)
    pub(super) fn records_claims_only(&self) -> bool {
        self.claims.as_ref().is_some_and(|claims| !claims.is_sealed())
    }

    /// The reason that is written for every claimed bypass, whatever the client says.
    pub(super) fn fixed_reason(&self) -> Option<&str> {
        self.claims.as_ref()?.rules.bypass.as_ref()?.reason.as_deref()
    }

    /// Whether a Query goes the way of recorded ones.
    pub(super) fn is_query_recorded(&self, facts: &Facts) -> bool {
        let Some(recorder) = &self.recorder else { return false };
        let has_bypass = || facts.statements.iter().any(|statement| self.claims_bypass(statement));
        !self.records_claims_only() || recorder.is_open() || has_bypass()
    }

    /// Refuses statements by which rows of a claimed bypass would outlive its transaction: temporary tables and cursors WITH
    /// HOLD that are made under it, or that the client keeps already. (What a cursor of this transaction shows is run when
    /// that commits, under the bypass.)
    pub(super) fn refuse_rows_kept(&self, statements: &[Statement]) -> Option<Fault> {
        let recorder = self.recorder.as_ref().filter(|_| self.records_claims_only())?;
        let mut is_bypass = recorder.is_open()
            && self.lease.as_ref().is_some_and(|lease| lease.scope().predicted() != TransactionStatus::Idle);
        let mut kept = self.kept_state().common(KEEPS_ROWS);
        for statement in statements {
            if matches!(statement.control, Control::Commit { .. } | Control::Rollback { .. }) {
                is_bypass = false;
            }
            if self.claims_bypass(statement) {
                is_bypass = true;
                if !kept.is_none() {
                    return Some(refuse_kept("A temporary table or a cursor WITH HOLD that this session has"));
                }
            }
            let leaves = statement.state.leaves.common(KEEPS_ROWS);
            if is_bypass && !leaves.is_none() {
                return Some(refuse_kept("It"));
            }
            kept = kept.and(leaves);
        }
        None
    }

    /// What the Execute of a claim has to wait for.
    pub(super) fn ready_for_bypass(&mut self, statement: &Statement) -> Readiness {
        let is_in_block =
            self.lease.as_ref().is_some_and(|lease| lease.scope().predicted() == TransactionStatus::InBlock);
        if self.recorder.is_none() || !self.claims_bypass(statement) {
            return Readiness::Ready;
        }
        if let Some(fault) = self.take_refusal() {
            return Readiness::Refused(fault);
        }
        if let Some(fault) = self.refuse_rows_kept(std::slice::from_ref(statement)) {
            return Readiness::Refused(fault);
        }
        let said = self.said();
        if is_in_block { self.ready_for_claimed(&said) } else { Readiness::Ready }
    }

    /// A claim of a bypass is about to be executed by the extended protocol, in a block that has not failed or in none.
    pub(super) fn execute_bypass(&mut self, claim: &Claim) -> Result<(), Fault> {
        let is_recorded = self.is_record_running();
        let (Some(claims), Some(lease)) = (self.claims.as_mut(), self.lease.as_mut()) else { return Ok(()) };
        let switch = claims.rules.switch_of(claim)?;
        if lease.scope().predicted() == TransactionStatus::Idle {
            claims.has_lost_bypass |= switch.is_on;
            return Ok(());
        }
        if switch.is_on && !is_recorded {
            return Err(Fault::of(Code::Internal));
        }
        if switch.is_on
            && claims.ahead.lacks_tenant()
            && let Some(injection) = claims.injection().cloned()
        {
            lease.inject(&injection, true, Cause::Scope);
            claims.on_injected();
        }
        send_setting(lease, &claims.rules.set_local(&switch.value));
        claims.unconfirmed.push_back(Token::Bypass(switch.is_on));
        claims.ahead.set_bypass(switch.is_on);
        if switch.is_on {
            lease.scope_mut().on_injected();
        }
        Ok(())
    }

    /// A Query of one such claim, without a server: it has no effect.
    pub(super) fn answer_bypass(&mut self, claim: &Claim) -> bool {
        let Some(claims) = self.claims.as_ref() else { return true };
        let switch = match claims.rules.switch_of(claim) {
            Ok(switch) => switch,
            Err(fault) => return self.refuse_query(fault),
        };
        self.statements.destroy_unnamed();
        put_answer(&mut self.client_out, claim, &switch.value);
        backend::put_ready(&mut self.client_out, TransactionStatus::Idle);
        true
    }
}
