//! Whom a session acts for, where its client says so by SQL.
//!
//! ```text
//!               claim, sent: injected in its place         transaction over
//!   unscoped ────────────────────────────────▶ acts for A ──────────────────▶ unscoped, or for the session's tenant
//!      │ needs scope: TG130                     │ A again: answered
//!      ▼                                        │ B: TG133
//!   (refused)                                   └ ROLLBACK TO a savepoint in front of the claim: unscoped
//! ```
//!
//! A claim is never forwarded. In its place goes the proxy's own scope statement, and behind it something harmless that
//! gives the client the answer its form expects. What a session has claimed lives here, never on a server.
//!
//! Two views are kept, as of the transaction itself (`scope::transaction`): *ahead*, after everything that was sent
//! succeeds, decides what to send; *known*, after the last reply, is what it falls back to. Behind a segment with a
//! claim nothing is sent until it is answered.
//!
//! Before a tenant is acted for, the driver is asked: it may be frozen or have all it may have. From then on, until the
//! session acts for somebody else or nobody, its work counts as that tenant's.
//!
//! Owns: what was claimed, for how long, and what stands in a claim's place. Does not own: the forms of claims (`guard`),
//! who may claim whom (`tenant`), freezes and limits (the driver).

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};

use super::claimed::{View, follow};
use super::recording::Readiness;
use super::release::{NOTHING, Substitute};
use super::{Effect, Session, SessionRules, Waiting};
use crate::fault::{Code, Fault};
use crate::guard::{Claim, ClaimForm, ClaimSpan, ClaimSubject, ClaimedValue, Control, Facts, Statement};
use crate::scope::{Injection, LeasedServer, Lifetime, ScopeTemplate, SealKey, TransactionScope};
use crate::tenant::{ClaimedBypass, TenantId, TenantKind, TenantPolicy};
use crate::wire::TransactionStatus;
use crate::wire::backend;
use crate::wire::frontend::{put_cstr, put_message};

/// What the sessions of a login that may claim have in common.
#[derive(Clone, Debug)]
pub struct ClaimRules {
    /// How a tenant gets onto a transaction.
    pub template: ScopeTemplate,
    /// What tenants look like.
    pub kind: TenantKind,
    /// Which ones the login may act for.
    pub tenants: TenantPolicy,
    /// Whether, and by what, it may go past them.
    pub bypass: Option<ClaimedBypass>,
}

/// That a session may claim its tenant.
#[derive(Clone, Debug)]
pub struct Claimant {
    /// Under which rules.
    pub rules: Arc<ClaimRules>,
    /// The tenant that the client named at its start: it counts where none is claimed.
    pub base: Option<TenantId>,
    /// What tickets are signed with, where the database is sealed.
    pub seal: Option<Arc<SealKey>>,
}

impl ClaimRules {
    /// The tenant of a claim whose value is known; `None` where it ends one.
    fn tenant_of(&self, claim: &Claim) -> Result<Option<TenantId>, Fault> {
        let malformed = |detail: String| Fault::of(Code::ClaimMalformed).with_detail(detail);
        let text = match &claim.value {
            ClaimedValue::Text(text) => text,
            ClaimedValue::Null => return Err(malformed("It is NULL.".to_owned())),
            ClaimedValue::Parameter { number, .. } => {
                return Err(malformed(format!("Parameter ${number} has no value.")));
            }
            ClaimedValue::Default => return Ok(None),
        };
        let tenant = TenantId::parse(self.kind, text).map_err(|fault| malformed(format!("In the claim: {fault}.")))?;
        if !self.tenants.may_claim(&tenant) {
            return Err(Fault::of(Code::ClaimForbidden).with_detail("Its configuration does not list the tenant."));
        }
        Ok(Some(tenant))
    }

    /// Whether a statement, if it is a claim whose value is known, could be made at all.
    ///
    /// # Errors
    /// The fault that the client is to see.
    pub fn vet_in(&self, statement: &Statement) -> Result<(), Fault> {
        claim_in(statement).filter(|claim| !claim.is_bound()).map_or(Ok(()), |claim| self.vet(claim))
    }

    /// Whether a claim could be made at all.
    fn vet(&self, claim: &Claim) -> Result<(), Fault> {
        match claim.subject {
            ClaimSubject::Tenant => self.tenant_of(claim).map(drop),
            ClaimSubject::Bypass => self.switch_of(claim).map(drop),
        }
    }

    /// The tenant that a claim names, if it is a good one.
    fn tenant_named(&self, claim: &Claim) -> Option<TenantId> {
        match claim.subject {
            ClaimSubject::Tenant => self.tenant_of(claim).ok().flatten(),
            ClaimSubject::Bypass => None,
        }
    }

    /// Refuses what needs a tenant and has none.
    fn missing(&self, statement: &Statement) -> Fault {
        let setting = self.template.tenant_settings().next().unwrap_or_default();
        let hint = format!(
            "Name it first in the same transaction: SET LOCAL {setting} = '<tenant>', or SELECT set_config('{setting}', $1, true)."
        );
        let class = statement.class.name();
        Fault::of(Code::ClaimMissing)
            .with_detail(format!("The statement is of the class {class}, and would see no rows or anybody's."))
            .with_hint(hint)
    }

    fn injection(&self, tenant: &TenantId, seal: Option<&Arc<SealKey>>) -> Injection {
        match seal {
            None => Injection::new(&self.template, tenant, Lifetime::Transaction),
            Some(key) => Injection::sealed(&self.template, tenant, Arc::clone(key)),
        }
    }
}

/// For what a tenant is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum For {
    /// The message in front, which has what it needs else.
    Statement,
    /// A server for it.
    Lease,
}

/// What was put on a server's transaction in a claim's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Tenant(TenantId),
    Bypass(bool),
}

/// A session's claims.
#[derive(Debug)]
pub(super) struct Claims {
    pub(super) rules: Arc<ClaimRules>,
    base: Option<TenantId>,
    seal: Option<Arc<SealKey>>,
    pub(super) ahead: View,
    known: View,
    /// Whom the driver believes the session to act for.
    acting: Option<TenantId>,
    /// The driver was told of others before that one: something of theirs may run until the server is given back.
    is_several: bool,
    /// Those that the driver has let it act for, for the message in front; behind it the last one alone.
    granted: Vec<(TenantId, Injection)>,
    asked: Option<(TenantId, For)>,
    /// Why the message in front cannot go on.
    refusal: Option<Fault>,
    /// What was put on transactions and is not confirmed yet, in order.
    pub(super) unconfirmed: VecDeque<Token>,
    /// A bypass was claimed outside of any block: what stands behind it in its segment would miss it.
    pub(super) has_lost_bypass: bool,
}

impl Claims {
    pub(super) fn new(from: &Claimant) -> Self {
        let view = View::new(from.base.clone());
        Self {
            rules: Arc::clone(&from.rules),
            base: from.base.clone(),
            seal: from.seal.clone(),
            ahead: view.clone(),
            known: view,
            acting: None,
            is_several: false,
            granted: Vec::new(),
            asked: None,
            refusal: None,
            unconfirmed: VecDeque::new(),
            has_lost_bypass: false,
        }
    }

    pub(super) fn injection_of(&self, tenant: &TenantId) -> Option<&Injection> {
        self.granted.iter().find(|(known, _)| known == tenant).map(|(_, injection)| injection)
    }

    /// What the next statement gets, if it has a tenant that was granted.
    pub(super) fn injection(&self) -> Option<&Injection> {
        self.injection_of(self.ahead.tenant()?)
    }

    /// Whether tickets are shown for whom it acts.
    pub(super) const fn is_sealed(&self) -> bool {
        self.seal.is_some()
    }

    /// A ticket for this tenant is about to be sent in front of a Query; `None` where the driver was not asked.
    pub(super) fn enter(&mut self, tenant: &TenantId) -> Option<Injection> {
        let injection = self.injection_of(tenant)?.clone();
        self.ahead.act_for(tenant);
        self.unconfirmed.push_back(Token::Tenant(tenant.clone()));
        Some(injection)
    }

    /// The transaction is ended by the proxy itself.
    pub(super) fn end_ahead(&mut self, is_committed: bool) {
        self.ahead.end(is_committed);
    }

    /// The injection for the tenant in force was sent.
    pub(super) fn on_injected(&mut self) {
        if let Some(tenant) = self.ahead.tenant().cloned() {
            self.ahead.act_for(&tenant);
            self.unconfirmed.push_back(Token::Tenant(tenant));
        }
    }

    /// Whether what is confirmed lets statements run.
    fn on_confirmed(&mut self) -> bool {
        match self.unconfirmed.pop_front() {
            Some(Token::Tenant(tenant)) => self.known.act_for(&tenant),
            Some(Token::Bypass(is_on)) => {
                self.known.set_bypass(is_on);
                return is_on;
            }
            None => {}
        }
        true
    }

    /// Whether the tenant in force has to be put in front of a statement that needs one, whatever else the transaction has.
    pub(super) fn needs_injection(&self, scope: &TransactionScope) -> bool {
        self.ahead.lacks_tenant() && scope.predicted() != TransactionStatus::Failed
    }

    /// What is ahead of a Query that is being planned.
    pub(super) fn plan(&self) -> Plan<'_> {
        Plan { claims: self, view: self.ahead.clone(), scopes: Vec::new() }
    }

    /// The Query was sent as planned.
    pub(super) fn on_planned(&mut self, planned: Planned) {
        self.ahead = planned.view;
        self.unconfirmed.extend(planned.scopes);
        self.keep_acting();
    }

    /// Behind a message only whom the driver knows of may be acted for without asking.
    fn keep_acting(&mut self) {
        let acting = self.acting.as_ref();
        self.granted.retain(|(known, _)| Some(known) == acting);
    }

    /// Why the claim cannot be made in this transaction.
    fn conflict(&self, view: &View, tenant: &TenantId) -> Option<Fault> {
        view.scope().filter(|scope| *scope != tenant)?;
        Some(Fault::of(Code::ClaimConflict).with_detail("It may act for another one when it has ended."))
    }
}

/// A Query that is being planned: its claims, as if all of it succeeds.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub(super) claims: &'a Claims,
    pub(super) view: View,
    pub(super) scopes: Vec<Token>,
}

/// What a planned Query leaves behind.
#[derive(Debug)]
pub(super) struct Planned {
    view: View,
    scopes: Vec<Token>,
}

/// What goes in a claim's place.
pub(super) struct Standing<'a> {
    /// The scope statements in front of it: texts of so many statements, the last of which confirms.
    pub(super) fronts: Vec<(Cow<'a, str>, usize)>,
    /// The statement itself.
    pub(super) text: String,
    /// The tag it is answered under, if not the server's.
    pub(super) tag: Option<&'static str>,
}

impl<'a> Plan<'a> {
    pub(super) fn done(self) -> Planned {
        Planned { view: self.view, scopes: self.scopes }
    }

    /// Whether a statement has a tenant to run for, as far as it needs one.
    pub(super) fn has_tenant(&self) -> bool {
        self.view.has_scope()
    }

    /// Whether the tenant in force has to be put in front of a statement that needs one.
    pub(super) fn needs_injection(&self, scope: &TransactionScope) -> bool {
        self.view.lacks_tenant() && scope.predicted() != TransactionStatus::Failed
    }

    /// Refuses what has none.
    pub(super) fn missing(&self, statement: &Statement) -> Fault {
        self.claims.rules.missing(statement)
    }

    /// What the next statement gets.
    pub(super) fn injection(&self) -> Option<&'a Injection> {
        self.claims.injection_of(self.view.tenant()?)
    }

    /// For whom the next statement runs.
    pub(super) fn tenant(&self) -> Option<&TenantId> {
        self.view.tenant()
    }

    /// For whom this claim asks; `None` where it ends one, or cannot be made in this transaction.
    pub(super) fn claimed(&self, claim: &Claim) -> Option<TenantId> {
        let tenant = self.claims.rules.tenant_named(claim)?;
        self.claims.conflict(&self.view, &tenant).is_none().then_some(tenant)
    }

    /// A ticket for this tenant stands in front of the next statement.
    pub(super) fn on_entered(&mut self, tenant: &TenantId) {
        self.view.act_for(tenant);
    }

    /// It was put in front of the next statement.
    pub(super) fn on_injected(&mut self) {
        if let Some(tenant) = self.view.tenant().cloned() {
            self.view.act_for(&tenant);
            self.scopes.push(Token::Tenant(tenant));
        }
    }

    /// A claim; `is_alone`: nothing of its transaction comes behind it.
    pub(super) fn claim(
        &mut self,
        claim: &Claim,
        scope: &mut TransactionScope,
        is_alone: bool,
    ) -> Result<Standing<'a>, Fault> {
        if claim.subject == ClaimSubject::Bypass {
            return self.claim_bypass(claim, scope, is_alone);
        }
        let Some(tenant) = self.claims.rules.tenant_of(claim)? else {
            self.view.end_claim(claim.span == ClaimSpan::Session, self.claims.base.as_ref());
            let Substitute { sql, tag } = stand_in(claim);
            return Ok(Standing { fronts: Vec::new(), text: sql.into_owned(), tag });
        };
        if let Some(fault) = self.claims.conflict(&self.view, &tenant) {
            return Err(fault);
        }
        let is_failed = scope.predicted() == TransactionStatus::Failed;
        let is_due = scope.needs_injection() || (self.view.scope().is_none() && !is_failed);
        let mut fronts = Vec::new();
        if is_due && !is_alone {
            fronts.push(self.front_of(&tenant, scope)?);
        } else if self.view.scope().is_some() {
            self.view.act_for(&tenant);
        }
        if claim.span == ClaimSpan::Session {
            self.view.set_session(Some(tenant.clone()));
        }
        let (text, tag) = said_of(claim, &tenant);
        Ok(Standing { fronts, text, tag })
    }

    /// Puts a tenant on the transaction.
    pub(super) fn front_of(
        &mut self,
        tenant: &TenantId,
        scope: &mut TransactionScope,
    ) -> Result<(Cow<'a, str>, usize), Fault> {
        let injection = self.claims.injection_of(tenant).ok_or_else(|| Fault::of(Code::Internal))?;
        if injection.is_sealed() {
            // The ticket is put in front of the Query and at no other time.
            return Err(Fault::of(Code::ScopeFailed));
        }
        self.scopes.push(Token::Tenant(tenant.clone()));
        self.view.act_for(tenant);
        scope.on_injected();
        Ok((Cow::Borrowed(injection.set_local()), injection.set_local_statements()))
    }

    /// Another statement, sent while the transaction was `before`.
    pub(super) fn follow(&mut self, control: &Control, before: TransactionStatus, scope: &mut TransactionScope) {
        follow(&mut self.view, self.claims.base.as_ref(), control, before, scope);
    }

    /// The Query ends.
    pub(super) fn end(&mut self, scope: &TransactionScope) {
        if scope.predicted() == TransactionStatus::Idle {
            self.view.end(true);
        }
    }
}

/// What stands in a Query for a claim of this tenant.
fn said_of(claim: &Claim, tenant: &TenantId) -> (String, Option<&'static str>) {
    match (&claim.form, claim.span) {
        // PostgreSQL's own warning outside of blocks comes with it; in a block it says what is said already.
        (ClaimForm::Set | ClaimForm::Reset, ClaimSpan::Transaction | ClaimSpan::Parameter(_)) => {
            (format!("SET LOCAL {} TO {}", claim.setting, literal(tenant.as_str())), None)
        }
        (ClaimForm::Set | ClaimForm::Reset, ClaimSpan::Session) => (NOTHING.to_owned(), Some("SET")),
        (ClaimForm::Select(column), _) => {
            (format!("SELECT {}::pg_catalog.text AS {}", literal(tenant.as_str()), identifier(column)), None)
        }
    }
}

/// What stands in for a claim where it is prepared: it gives what the client gave, and does nothing.
#[must_use]
pub(super) fn stand_in(claim: &Claim) -> Substitute {
    let column = match &claim.form {
        ClaimForm::Set => return Substitute { sql: NOTHING.into(), tag: Some("SET") },
        ClaimForm::Reset => return Substitute { sql: NOTHING.into(), tag: Some("RESET") },
        ClaimForm::Select(column) => identifier(column),
    };
    let value = match &claim.value {
        ClaimedValue::Text(text) => literal(text),
        ClaimedValue::Parameter { number, .. } => format!("${number}"),
        ClaimedValue::Null | ClaimedValue::Default => "NULL".to_owned(),
    };
    let value = format!("{value}::pg_catalog.text");
    let value = match claim.span {
        // The parameter is there, and is a boolean, as in the client's text.
        ClaimSpan::Parameter(number) => format!("CASE WHEN ${number}::pg_catalog.bool THEN {value} ELSE {value} END"),
        ClaimSpan::Session | ClaimSpan::Transaction => value,
    };
    Substitute { sql: format!("SELECT {value} AS {column}").into(), tag: None }
}

/// `standard_conforming_strings` is pinned on.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

pub(super) fn claim_in(statement: &Statement) -> Option<&Claim> {
    if let Control::Claim(claim) = &statement.control { Some(claim) } else { None }
}

/// The injection of whoever a session acts for.
pub(super) fn injection_in<'a>(claims: Option<&'a Claims>, rules: &'a SessionRules) -> &'a Injection {
    // Without a tenant: the rules' own, which holds none and lets nothing through.
    claims.and_then(Claims::injection).unwrap_or(&rules.injection)
}

impl Session {
    /// Checks the tenants of claims whose values are known.
    pub(super) fn vet_claims(&self, facts: &Facts) -> Result<(), Fault> {
        let Some(claims) = &self.claims else { return Ok(()) };
        facts.statements.iter().try_for_each(|statement| claims.rules.vet_in(statement))
    }

    /// Whether nobody has said for whom a statement is to run that needs a tenant. In a failed block PostgreSQL refuses it
    /// by itself.
    pub(super) fn lacks_claim(&self, statements: &[Statement]) -> Option<Fault> {
        let claims = self.claims.as_ref().filter(|claims| !claims.ahead.has_scope() || claims.has_lost_bypass)?;
        let is_failed = self.lease.as_ref().is_some_and(|lease| lease.scope().predicted() == TransactionStatus::Failed);
        #[cfg(feature = "mutants")]
        let is_failed = is_failed || self.rules.mutant == Some(super::Mutant::ClaimBleeds);
        let needing = statements.iter().find(|statement| self.needs_tenant(statement)).filter(|_| !is_failed);
        needing.map(|statement| match claims.has_lost_bypass {
            true => super::bypassing::lost(),
            false => claims.rules.missing(statement),
        })
    }

    /// SAVEPOINT needs one only so that ROLLBACK TO does not take away what there is.
    fn needs_tenant(&self, statement: &Statement) -> bool {
        self.rules.policy.needs_scope(statement) && !matches!(statement.control, Control::Savepoint(_))
    }

    /// Makes sure that the session may act for whomever these statements need.
    pub(super) fn ready_for_claims(&mut self, statements: &[Statement]) -> Readiness {
        let Some(claims) = self.claims.as_mut() else { return Readiness::Ready };
        if let Some(fault) = claims.refusal.take() {
            return Readiness::Refused(fault);
        }
        // One that is refused for its transaction's tenant changes nothing.
        let is_possible = |tenant: &TenantId| statements.len() > 1 || claims.conflict(&claims.ahead, tenant).is_none();
        let named = statements.iter().filter_map(claim_in);
        let named = named.filter_map(|claim| claims.rules.tenant_named(claim)).filter(is_possible);
        // With a bypass the tenant in force is put on the transaction, too.
        let is_bypass = |statement| claim_in(statement).is_some_and(|claim| claims.rules.is_bypass(claim));
        let needs_any =
            statements.iter().any(|statement| self.rules.policy.needs_scope(statement) || is_bypass(statement));
        // Behind the end of a transaction the session's own counts again.
        let ends = statements.iter().any(|statement| {
            matches!(statement.control, Control::Commit { .. } | Control::Rollback { .. } | Control::RollbackTo(_))
        });
        let mut wanted: Vec<TenantId> = Vec::new();
        wanted.extend(claims.ahead.tenant().filter(|_| needs_any).cloned());
        wanted.extend(claims.ahead.session_now().filter(|_| needs_any && ends).cloned());
        wanted.extend(claims.known.session.clone().filter(|_| needs_any && ends));
        wanted.extend(named);
        match wanted.into_iter().find(|tenant| claims.injection_of(tenant).is_none()) {
            None => Readiness::Ready,
            Some(tenant) => {
                self.ask_for(tenant, For::Statement);
                Readiness::Held
            }
        }
    }

    /// Makes sure of it before a server is asked for; `false` while the answer is awaited.
    pub(super) fn may_lease_for_tenant(&mut self) -> bool {
        let Some(claims) = &self.claims else { return true };
        match claims.ahead.tenant() {
            Some(tenant) if claims.injection_of(tenant).is_none() => {
                let tenant = tenant.clone();
                self.ask_for(tenant, For::Lease);
                false
            }
            Some(_) | None => true,
        }
    }

    fn ask_for(&mut self, tenant: TenantId, what: For) {
        let Some(claims) = self.claims.as_mut() else { return };
        claims.asked = Some((tenant.clone(), what));
        self.waiting = Waiting::Claim;
        self.effects.push_back(Effect::Claim(tenant));
    }

    /// The driver has answered.
    pub(super) fn on_claimed(&mut self, answer: Result<(), Fault>) {
        let Some(claims) = self.claims.as_mut() else { return };
        let Some((tenant, what)) = claims.asked.take() else { return };
        if self.waiting == Waiting::Claim {
            self.waiting = Waiting::Nothing;
        }
        match answer {
            Ok(()) => {
                let injection = claims.rules.injection(&tenant, claims.seal.as_ref());
                claims.granted.push((tenant.clone(), injection));
                let before = claims.acting.replace(tenant);
                claims.is_several |= before.is_some() && before != claims.acting;
            }
            Err(fault) => {
                claims.is_several |= claims.acting.take().is_some();
                claims.granted.clear();
                match what {
                    For::Statement => claims.refusal = Some(fault),
                    For::Lease => self.refuse_waiting_message(fault),
                }
            }
        }
        self.advance();
    }

    /// A Query of one claim, outside of any transaction and without a server, needs none: `Some` with whether it was
    /// answered or has to wait.
    pub(super) fn answer_claim(&mut self, facts: &Facts) -> Option<bool> {
        let claim = facts.only_claim().filter(|_| self.lease.is_none() && !self.is_pinned())?.clone();
        #[cfg(feature = "mutants")]
        if self.rules.mutant == Some(super::Mutant::ClaimBleeds) {
            return None;
        }
        if claim.subject == ClaimSubject::Bypass {
            return Some(self.answer_bypass(&claim));
        }
        let statements = if claim.span == ClaimSpan::Session { &*facts.statements } else { &[] };
        if !statements.is_empty() {
            self.stop_acting_for_others(&claim);
        }
        match self.ready_for_claims(statements) {
            Readiness::Ready => {}
            Readiness::Held => return Some(false),
            Readiness::Refused(fault) => return Some(self.refuse_query(fault)),
        }
        let claims = self.claims.as_mut()?;
        let tenant = match claims.rules.tenant_of(&claim) {
            Ok(tenant) => tenant,
            Err(fault) => return Some(self.refuse_query(fault)),
        };
        if claim.span == ClaimSpan::Session {
            let session = tenant.clone().or_else(|| claims.base.clone());
            claims.ahead.session.clone_from(&session);
            claims.known.session = session;
        }
        self.statements.destroy_unnamed();
        put_answer(&mut self.client_out, &claim, tenant.as_ref().map_or("", TenantId::as_str));
        backend::put_ready(&mut self.client_out, TransactionStatus::Idle);
        self.settle_acting();
        Some(true)
    }

    /// Nothing of the session runs: whoever it acts for is let go before another is asked for.
    fn stop_acting_for_others(&mut self, claim: &Claim) {
        let Some(claims) = self.claims.as_mut() else { return };
        let Ok(Some(tenant)) = claims.rules.tenant_of(claim) else { return };
        if claims.acting.as_ref().is_some_and(|acting| *acting != tenant) {
            claims.acting = None;
            claims.is_several = false;
            claims.granted.clear();
            self.effects.push_back(Effect::Unclaim);
        }
    }

    /// A claim is about to be executed by the extended protocol.
    pub(super) fn execute_claim(&mut self, claim: &Claim) -> Result<(), Fault> {
        let (Some(claims), Some(lease)) = (self.claims.as_mut(), self.lease.as_mut()) else { return Ok(()) };
        if lease.scope().predicted() == TransactionStatus::Failed {
            return Ok(());
        }
        if claim.subject == ClaimSubject::Bypass {
            return self.execute_bypass(claim);
        }
        let Some(tenant) = claims.rules.tenant_of(claim)? else {
            claims.ahead.end_claim(claim.span == ClaimSpan::Session, claims.base.as_ref());
            return Ok(());
        };
        if let Some(fault) = claims.conflict(&claims.ahead, &tenant) {
            return Err(fault);
        }
        if lease.scope().needs_injection() || claims.ahead.scope().is_none() {
            let injection = claims.injection_of(&tenant).ok_or_else(|| Fault::of(Code::Internal))?.clone();
            // The portal that is about to be executed has to survive.
            lease.inject(&injection, true, super::Cause::Scope);
            claims.unconfirmed.push_back(Token::Tenant(tenant.clone()));
        }
        claims.ahead.act_for(&tenant);
        if claim.span == ClaimSpan::Session {
            claims.ahead.set_session(Some(tenant));
        }
        claims.keep_acting();
        Ok(())
    }

    /// Another statement was sent by the extended protocol.
    pub(super) fn claims_follow(&mut self, control: &Control, before: TransactionStatus) {
        let (Some(claims), Some(lease)) = (self.claims.as_mut(), self.lease.as_mut()) else { return };
        follow(&mut claims.ahead, claims.base.as_ref(), control, before, lease.scope_mut());
    }

    /// A segment ends.
    pub(super) fn claims_end_segment(&mut self) {
        let is_idle = self.lease.as_ref().is_some_and(|lease| lease.scope().predicted() == TransactionStatus::Idle);
        if let Some(claims) = self.claims.as_mut() {
            claims.has_lost_bypass = false;
            if is_idle {
                claims.ahead.end(true);
            }
        }
    }

    /// The server has confirmed an injection.
    pub(super) fn on_scope_confirmed(&mut self, lease: &mut LeasedServer<super::Cause>) {
        if self.claims.as_mut().is_some_and(|claims| !claims.on_confirmed()) {
            return;
        }
        lease.scope_mut().on_confirmed();
        self.tally.add(crate::metrics::Count::Scopes, 1);
    }

    /// A statement has succeeded.
    #[expect(clippy::wildcard_enum_match_arm, reason = "no other statement moves a claim")]
    pub(super) fn claims_done(&mut self, lease: &mut LeasedServer<super::Cause>, control: &Control, tag: &[u8]) {
        #[cfg(feature = "mutants")]
        let is_kept = self.rules.mutant == Some(super::Mutant::ClaimSurvivesSavepoint);
        #[cfg(feature = "mutants")]
        if is_kept && matches!(control, Control::RollbackTo(_)) {
            return;
        }
        let Some(claims) = self.claims.as_mut() else { return };
        let known = &mut claims.known;
        match control {
            // A portal executed again has nothing more to run.
            Control::Claim(_) if tag == b"SELECT 0" => {}
            // What the server has is confirmed in front of it.
            Control::Claim(claim) if claim.subject == ClaimSubject::Bypass => {}
            Control::Claim(claim) => match claims.rules.tenant_of(claim) {
                Ok(Some(tenant)) => {
                    if known.scope() == Some(&tenant) {
                        known.act_for(&tenant);
                    }
                    if claim.span == ClaimSpan::Session {
                        known.set_session(Some(tenant));
                    }
                }
                Ok(None) => known.end_claim(claim.span == ClaimSpan::Session, claims.base.as_ref()),
                Err(_) => {}
            },
            Control::ResetAll | Control::DiscardAll => known.end_claim(true, claims.base.as_ref()),
            Control::Savepoint(name) => known.savepoint(name),
            Control::Release(name) => known.release(name),
            Control::RollbackTo(name) => {
                known.rollback_to(name);
                if known.scope().is_none() && !known.is_bypass() {
                    lease.scope_mut().on_ended();
                }
            }
            _ => {}
        }
    }

    /// A transaction is over.
    pub(super) fn claims_over(&mut self, is_committed: bool) {
        if let Some(claims) = self.claims.as_mut() {
            #[cfg(feature = "mutants")]
            let is_committed = is_committed || self.rules.mutant == Some(super::Mutant::ClaimSurvivesRollback);
            #[cfg(feature = "mutants")]
            claims.known.keep_local(self.rules.mutant == Some(super::Mutant::ClaimOutlivesTransaction));
            claims.known.end(is_committed);
        }
    }

    /// Everything is answered: what is known is what there is.
    pub(super) fn claims_settle(&mut self) {
        if let Some(claims) = self.claims.as_mut() {
            claims.unconfirmed.clear();
            if claims.ahead != claims.known {
                claims.ahead.clone_from(&claims.known);
            }
        }
    }

    /// RESET ALL or DISCARD ALL was answered without a server.
    pub(super) fn claims_reset(&mut self) {
        if let Some(claims) = self.claims.as_mut() {
            claims.known = View::new(claims.base.clone());
            claims.ahead = View::new(claims.base.clone());
        }
        self.settle_acting();
    }

    /// There is no server and no transaction: the session acts for whom it has claimed for itself, or for nobody.
    pub(super) fn settle_acting(&mut self) {
        let Some(claims) = self.claims.as_mut() else { return };
        let is_other = claims.acting.is_some() && claims.acting.as_ref() != claims.known.session.as_ref();
        if self.lease.is_none() && (is_other || claims.is_several) {
            claims.acting = None;
            claims.is_several = false;
            claims.granted.clear();
            self.effects.push_back(Effect::Unclaim);
        }
    }

    /// Other rules: whoever is acted for stays, by their words. Whether the session's own tenant is still allowed.
    pub(super) fn take_claim_rules(&mut self, rules: &SessionRules) -> bool {
        let (Some(claims), Some(claimant)) = (self.claims.as_mut(), &rules.claims) else {
            return self.claims.is_none() == rules.claims.is_none();
        };
        claims.rules = Arc::clone(&claimant.rules);
        claims.base.clone_from(&claimant.base);
        claims.seal.clone_from(&claimant.seal);
        for (tenant, injection) in &mut claims.granted {
            *injection = claimant.rules.injection(tenant, claimant.seal.as_ref());
        }
        claims.known.session.as_ref().is_none_or(|tenant| {
            let is_same = TenantId::parse(claims.rules.kind, tenant.as_str()).is_ok_and(|same| same == *tenant);
            is_same && claims.rules.tenants.may_claim(tenant)
        })
    }
}

/// The answer to a claim outside of any transaction.
pub(super) fn put_answer(out: &mut BytesMut, claim: &Claim, value: &str) {
    match &claim.form {
        ClaimForm::Set | ClaimForm::Reset => {
            if claim.span != ClaimSpan::Session {
                put_no_block(out);
            }
            let tag: &[u8] = if claim.form == ClaimForm::Reset { b"RESET" } else { b"SET" };
            backend::put_command_complete(out, tag);
        }
        ClaimForm::Select(column) => {
            put_text_column(out, column);
            put_message(out, b'D', |out| {
                out.put_i16(1);
                out.put_i32(i32::try_from(value.len()).unwrap_or(i32::MAX));
                out.put_slice(value.as_bytes());
            });
            backend::put_command_complete(out, b"SELECT 1");
        }
    }
}

/// RowDescription of one column of type text.
fn put_text_column(out: &mut BytesMut, name: &str) {
    put_message(out, b'T', |out| {
        out.put_i16(1);
        put_cstr(out, name.as_bytes());
        out.put_i32(0);
        out.put_i16(0);
        out.put_i32(25);
        out.put_i16(-1);
        out.put_i32(-1);
        out.put_i16(0);
    });
}

/// PostgreSQL's own warning.
pub(super) fn put_no_block(out: &mut BytesMut) {
    backend::put_warning(out, b"25P01", "SET LOCAL can only be used in transaction blocks");
}
