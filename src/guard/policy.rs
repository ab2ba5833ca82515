//! What a login may do: facts in, verdict out.
//!
//! Owns: the allow-lists and the code of every refusal. Does not own: finding facts, the tenant itself, or the
//! emulation of what is allowed (the session).

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use super::claim::{Claim, ClaimForm, ClaimSpan, ClaimSubject, ClaimedValue};
use super::configured::{Definition, Listed, Lists};
use super::facts::{
    Access, ConfiguredValue, Control, Demand, DemandKind, Facts, FunctionUse, RelationUse, Statement, StatementClass,
};
use super::functions::FunctionClass;
use super::gaps::Gaps;
use super::relations::RelationClass;
use super::settings;
use super::state::{self, Keeping, State};
use super::text::Limits;
use crate::fault::{Code, Fault};
use crate::tenant::Claiming;

/// What kind of login a policy is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Preset {
    /// SQL may be hostile: the rows of its tenant and nothing else.
    #[default]
    Tenant,
    /// Trusted code for all tenants: EXPLAIN and notifications, too. Still scoped.
    Application,
    /// Data definition too, but nothing that changes who may see what; still scoped, and recorded.
    Migration,
    /// Every row, and what changes who may see what; recorded, with a reason.
    Bypass,
}

impl Preset {
    /// The word used in configuration and records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Preset::Tenant => "tenant",
            Preset::Application => "application",
            Preset::Migration => "migration",
            Preset::Bypass => "bypass",
        }
    }

    /// Whether its clients may leave state on a server where nothing else is configured.
    #[must_use]
    pub const fn default_keeping(self) -> Keeping {
        match self {
            Preset::Application => Keeping::Pin,
            Preset::Tenant | Preset::Migration | Preset::Bypass => Keeping::Refuse,
        }
    }

    /// Whether its transactions are in the ledger.
    #[must_use]
    pub const fn is_recorded(self) -> bool {
        matches!(self, Preset::Migration | Preset::Bypass)
    }
}

/// Whether refusals are carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Yes.
    #[default]
    Enforce,
    /// Those that [`Policy::verdict`] tolerates are counted only.
    Observe,
}

/// A policy as configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicySettings {
    /// What kind of login it is for.
    pub preset: Preset,
    /// Whether its clients may leave state on a server.
    pub keeping: Keeping,
    /// What is allowed and denied beside the preset's own rules, for everybody.
    pub lists: Lists,
    /// The same for this login alone.
    pub login_lists: Lists,
    /// Whether refusals are carried out.
    pub mode: Mode,
    /// The names of the scope settings.
    pub scope_settings: Vec<String>,
    /// Whether its clients may name their tenant by SQL.
    pub claiming: Claiming,
    /// The names of those scope settings whose value is the tenant itself: where they may.
    pub claim_settings: Vec<String>,
    /// The setting by which its clients may claim a bypass, if they may: where they may claim at all.
    pub bypass_setting: Option<String>,
    /// Whether such a bypass needs a reason of the client's.
    pub bypass_needs_reason: bool,
    /// The tenant stays on a server beyond its transactions, so that a procedure may end them.
    pub scope_outlives_transactions: bool,
    /// Longest text that is checked; 0 for the default.
    pub text_bytes_max: usize,
    /// Tables and functions of the database that `check` has found: nobody but bypass logins may use them.
    pub gaps: Arc<Gaps>,
}

/// What a login may do.
#[derive(Clone, Debug)]
pub struct Policy {
    preset: Preset,
    keeping: Keeping,
    listed: Listed,
    mode: Mode,
    scope_settings: HashSet<Box<str>>,
    claiming: Claiming,
    claim_settings: HashSet<Box<str>>,
    bypass_setting: Option<Box<str>>,
    bypass_needs_reason: bool,
    scope_outlives_transactions: bool,
    limits: Limits,
    gaps: Arc<Gaps>,
}

/// A setting that may be set, with the value in the server's spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedSetting {
    /// The canonical name.
    pub name: Box<str>,
    /// The value to put on a server.
    pub value: Box<str>,
}

impl Policy {
    /// The policy of a configuration.
    #[must_use]
    pub fn new(from: &PolicySettings) -> Self {
        let canonical = |names: &[String]| -> HashSet<Box<str>> {
            names.iter().map(|name| settings::canonical_name(name)).collect()
        };
        let mut limits = Limits::default();
        if from.text_bytes_max > 0 {
            limits.text_bytes_max = from.text_bytes_max;
        }
        Self {
            preset: from.preset,
            keeping: from.keeping,
            listed: Listed::new(&[&from.lists, &from.login_lists]),
            mode: from.mode,
            scope_settings: canonical(&from.scope_settings),
            claiming: from.claiming,
            claim_settings: canonical(&from.claim_settings),
            bypass_setting: from.bypass_setting.as_deref().map(settings::canonical_name),
            bypass_needs_reason: from.bypass_needs_reason,
            scope_outlives_transactions: from.scope_outlives_transactions,
            limits,
            gaps: Arc::clone(&from.gaps),
        }
    }

    /// What kind of login it is for.
    #[must_use]
    pub const fn preset(&self) -> Preset {
        self.preset
    }

    /// Whether its clients may leave state on a server.
    #[must_use]
    pub const fn keeping(&self) -> Keeping {
        self.keeping
    }

    /// What a text may cost.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether refusals are counted instead of carried out, where they can be.
    #[must_use]
    pub const fn is_observing(&self) -> bool {
        matches!(self.mode, Mode::Observe)
    }

    /// Judges a whole text: its first refused statement decides.
    ///
    /// # Errors
    /// The fault that the client would see if nothing were tolerated.
    pub fn judge(&self, facts: &Facts) -> Result<(), Fault> {
        facts.statements.iter().try_for_each(|statement| self.judge_statement(statement))
    }

    /// The facts as they are to this login: where it may claim its tenant, the statements that do are claims.
    #[must_use]
    pub fn with_claims(&self, facts: &Arc<Facts>) -> Arc<Facts> {
        let may_claim = self.claiming.is_allowed() && facts.statements.iter().any(|it| self.claim_of(it).is_some());
        if !may_claim {
            return Arc::clone(facts);
        }
        let mut facts = Facts::clone(facts);
        for statement in &mut facts.statements {
            if let Some(claim) = self.claim_of(statement) {
                statement.control = Control::Claim(claim);
                statement.class = StatementClass::Claim;
                statement.needs_scope = false;
            }
        }
        Arc::new(facts)
    }

    /// The claim that a statement makes.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "fails closed: in any other form the setting is refused by its name"
    )]
    fn claim_of(&self, statement: &Statement) -> Option<Box<Claim>> {
        if statement.is_ordinary || !statement.demands.is_empty() {
            return None;
        }
        let span = |local: bool| if local { ClaimSpan::Transaction } else { ClaimSpan::Session };
        let subject = ClaimSubject::Tenant;
        let mut claim = match &statement.control {
            Control::Set { name, value, local } => Box::new(Claim {
                subject,
                setting: name.clone(),
                value: ClaimedValue::Text(value.clone()),
                span: span(*local),
                form: ClaimForm::Set,
            }),
            Control::Reset { name, local } => Box::new(Claim {
                subject,
                setting: name.clone(),
                value: ClaimedValue::Default,
                span: span(*local),
                form: if statement.is_reset { ClaimForm::Reset } else { ClaimForm::Set },
            }),
            Control::None | Control::Configure(_) => statement.claim.clone()?,
            _ => return None,
        };
        claim.subject = self.claim_subject(&claim.setting)?;
        Some(claim)
    }

    /// What a claim by this setting is about.
    fn claim_subject(&self, setting: &str) -> Option<ClaimSubject> {
        if self.claim_settings.contains(setting) {
            return Some(ClaimSubject::Tenant);
        }
        let is_bypass = self.bypass_setting.as_deref() == Some(setting);
        is_bypass.then_some(ClaimSubject::Bypass)
    }

    /// Whether a transaction may become one that is recorded.
    const fn may_bypass(&self) -> bool {
        self.claiming.is_allowed() && self.bypass_setting.is_some()
    }

    /// Facts that were found under other rules may hold what is no claim any more.
    fn judge_claim(&self, claim: &Claim) -> Result<(), Fault> {
        if !(self.claiming.is_allowed() && self.claim_subject(&claim.setting) == Some(claim.subject)) {
            return Err(Fault::of(Code::ScopeChange).with_detail(format!("The setting is {:?}.", claim.setting)));
        }
        // What a bypass is claimed for depends on its value, which may be bound.
        let is_free = claim.value == ClaimedValue::Default || claim.subject == ClaimSubject::Bypass;
        if self.claiming == Claiming::Transaction && claim.span == ClaimSpan::Session && !is_free {
            return Err(Fault::of(Code::ClaimOfSession));
        }
        Ok(())
    }

    /// Whether its clients may name their tenant by SQL.
    #[must_use]
    pub const fn claiming(&self) -> Claiming {
        self.claiming
    }

    /// Judges one statement.
    ///
    /// # Errors
    /// As [`Policy::judge`].
    pub fn judge_statement(&self, statement: &Statement) -> Result<(), Fault> {
        self.review(statement, &mut Err)
    }

    /// Judges a whole text as the mode has it: while refusals are only observed, the first one that was tolerated.
    ///
    /// # Errors
    /// The fault that the client is to see.
    pub fn verdict(&self, facts: &Facts) -> Result<Option<Observed>, Fault> {
        let mut observed = None;
        for statement in &facts.statements {
            let mut weigh = |fault: Fault| match tolerated(&fault).filter(|_| self.is_observing()) {
                Some(code) => {
                    observed.get_or_insert(Observed { code, class: statement.class });
                    Ok(())
                }
                None => Err(fault),
            };
            self.review(statement, &mut weigh)?;
        }
        Ok(observed)
    }

    /// Looks at everything in a statement that may be refused; `weigh` says of each refusal whether it stands.
    fn review(&self, statement: &Statement, weigh: &mut Weigh<'_>) -> Result<(), Fault> {
        if self.preset.is_recorded() || self.may_bypass() {
            judge_escape(statement).or_else(&mut *weigh)?;
        }
        if self.listed.has_denied() {
            self.listed.judge(statement).or_else(&mut *weigh)?;
        }
        if self.preset != Preset::Bypass && !self.gaps.is_empty() {
            self.gaps.judge(statement).or_else(&mut *weigh)?;
        }
        if statement.is_ordinary {
            return Ok(());
        }
        if let Control::Claim(claim) = &statement.control {
            // Whom it acts for is no matter of observing.
            return self.judge_claim(claim);
        }
        let weigh: &mut Weigh<'_> = &mut |fault| weigh(self.hinting_at_claims(fault));
        for function in &statement.functions {
            self.judge_function(function, statement.class).or_else(&mut *weigh)?;
        }
        for relation in &statement.relations {
            judge_relation(self.preset, relation).or_else(&mut *weigh)?;
        }
        self.judge_class(statement).or_else(&mut *weigh)?;
        self.judge_control(&statement.control).or_else(&mut *weigh)?;
        for demand in &statement.demands {
            let judged = self.judge_demand(demand);
            if is_tolerable(demand.kind) { judged.or_else(&mut *weigh)? } else { judged? }
        }
        Ok(())
    }

    fn judge_class(&self, statement: &Statement) -> Result<(), Fault> {
        let code = self.refusal_of_class(statement.class).filter(|_| !self.lets_end_transactions(statement));
        code.map_or(Ok(()), |code| {
            let fault =
                Fault::of(code).with_detail(format!("The statement is of the class {}.", statement.class.name()));
            Err(self.hinting(fault))
        })
    }

    /// Where the tenant may be claimed, a refusal of its setting says how.
    fn hinting_at_claims(&self, fault: Fault) -> Fault {
        match (self.claiming, fault.code) {
            (Claiming::Transaction | Claiming::Session, Some(Code::ScopeChange)) => fault.with_hint(CLAIM_HINT),
            (_, _) => fault,
        }
    }

    /// Whether it is refused only because it may end transactions in its middle or runs in none, and the tenant outlives
    /// them. (Not where transactions are recorded: that is judged before.)
    fn lets_end_transactions(&self, statement: &Statement) -> bool {
        self.scope_outlives_transactions && permits_without_transaction(self, statement)
    }

    fn judge_demand(&self, demand: &Demand) -> Result<(), Fault> {
        match demand.kind {
            DemandKind::NeedsBypass | DemandKind::OwnersView | DemandKind::Partition
                if self.preset == Preset::Bypass =>
            {
                Ok(())
            }
            DemandKind::OwnersView if self.lets_define(Definition::OwnersView) => Ok(()),
            DemandKind::Partition if self.lets_define(Definition::Partition) => Ok(()),
            DemandKind::FunctionSetting => self.judge_function_setting(&demand.detail),
            // Trusted code may show its own estimates.
            DemandKind::Estimates if self.preset != Preset::Tenant => Ok(()),
            DemandKind::HoldCursor if self.keeps(State::CURSORS) => Ok(()),
            DemandKind::TemporaryRelation if self.keeps(State::TEMPORARY) => Ok(()),
            DemandKind::SelectInto
            | DemandKind::HoldCursor
            | DemandKind::StrangeNode
            | DemandKind::SettingForm
            | DemandKind::Snapshot
            | DemandKind::TemporarySchema
            | DemandKind::TemporaryRelation
            | DemandKind::ReservedName
            | DemandKind::Estimates
            | DemandKind::OwnersView
            | DemandKind::Partition
            | DemandKind::NeedsBypass => Err(refusal_of_demand(demand)),
        }
    }

    /// Whether its configuration lets it define what others may read more by: what `check` looks for afterwards.
    fn lets_define(&self, what: Definition) -> bool {
        self.preset == Preset::Migration && self.listed.allows_definition(what)
    }

    /// A setting that a function has while it runs is as good as a SET; a reason is nobody's but the client's.
    fn judge_function_setting(&self, name: &str) -> Result<(), Fault> {
        if settings::is_for_the_ledger(name) {
            return Err(Fault::of(Code::SettingRefused).with_detail(format!("The setting is {name:?}.")));
        }
        self.judge_setting_name(name)
    }

    /// Whether the tenant must be on the server before the statement runs: SHOW of a scope setting is
    /// answered by the server, which then must know it.
    #[must_use]
    pub fn needs_scope(&self, statement: &Statement) -> bool {
        if let Control::Show(name) = &statement.control {
            // SHOW ALL over a bypass login shows no tenant.
            return (&**name == "all" && self.preset != Preset::Bypass) || self.is_scope_setting(name);
        }
        if statement.class == StatementClass::Lock {
            // Behind a record; what it locks is every tenant's.
            return self.preset.is_recorded();
        }
        if let Control::Configure(list) = &statement.control
            && list.iter().all(|configuration| settings::is_for_the_ledger(&configuration.name))
        {
            // A reason comes before what it is for.
            return false;
        }
        // Names have no say in any other: the statement's own kind decided.
        statement.needs_scope
    }

    /// Whether a setting (canonical name) holds the tenant.
    #[must_use]
    pub fn is_scope_setting(&self, name: &str) -> bool {
        self.scope_settings.contains(name)
    }

    /// Judges a startup parameter or a SET, and normalises it.
    ///
    /// # Errors
    /// The fault that the client is to see.
    pub fn setting_verdict(&self, name: &str, value: &str) -> Result<AllowedSetting, Fault> {
        let name = settings::canonical_name(name);
        self.judge_setting_name(&name)?;
        if &*name == settings::REASON_SETTING {
            if let Err(fault) = settings::check_reason(value) {
                return Err(Fault::of(Code::ReasonRefused).with_detail(fault));
            }
            return Ok(AllowedSetting { value: value.into(), name });
        }
        if &*name == settings::ON_BEHALF_SETTING {
            if let Err(fault) = settings::check_on_behalf(value) {
                return Err(Fault::of(Code::SettingValueRefused).with_detail(fault));
            }
            return Ok(AllowedSetting { value: value.into(), name });
        }
        match settings::check_value(&name, value) {
            Ok(value) => Ok(AllowedSetting { value: value.as_ref().into(), name }),
            Err(fault) => Err(Fault::of(Code::SettingValueRefused).with_detail(format!("{fault}."))),
        }
    }

    /// Whether clients may set a setting (canonical name), or are only watched when they do.
    #[must_use]
    pub fn lets_set(&self, name: &str) -> bool {
        self.mode == Mode::Observe || self.judge_setting_name(name).is_ok()
    }

    fn judge_setting_name(&self, name: &str) -> Result<(), Fault> {
        let refused = |code: Code| Err(Fault::of(code).with_detail(format!("The setting is {name:?}.")));
        if self.is_scope_setting(name) {
            return refused(Code::ScopeChange);
        }
        if settings::is_identity(name) {
            return refused(Code::RoleChange);
        }
        if settings::is_for_the_ledger(name) {
            // Why may be configured, for whom never is.
            let is_asked = self.bypass_needs_reason || name != settings::REASON_SETTING;
            let is_given = self.preset.is_recorded() || (self.may_bypass() && is_asked);
            return if is_given { Ok(()) } else { refused(Code::SettingRefused) };
        }
        if self.listed.denies_setting(name) {
            return refused(Code::ConfiguredDenial);
        }
        let is_allowed = settings::BUILT_IN_ALLOWED.binary_search(&name).is_ok()
            || (self.preset.is_recorded() && settings::DEFINITION_ALLOWED.binary_search(&name).is_ok())
            || self.listed.allows_setting(name);
        if is_allowed { Ok(()) } else { refused(Code::SettingRefused) }
    }

    fn judge_control(&self, control: &Control) -> Result<(), Fault> {
        match control {
            Control::Set { name, value, local: _ } => self.setting_verdict(name, value).map(drop),
            Control::Reset { name, local: _ } => self.judge_setting_name(name),
            Control::Configure(list) => list.iter().try_for_each(|configuration| match &configuration.value {
                ConfiguredValue::Text(value) => self.setting_verdict(&configuration.name, value).map(drop),
                // The value is judged when it is bound.
                ConfiguredValue::Parameter(_) => self.judge_setting_name(&configuration.name),
            }),
            Control::Claim(claim) => self.judge_claim(claim),
            Control::SetCharacteristics(options) => {
                options.iter().try_for_each(|(name, value)| self.setting_verdict(name, value).map(drop))
            }
            Control::None
            | Control::Begin
            | Control::SetTransaction
            | Control::Commit { chain: _ }
            | Control::Rollback { chain: _ }
            | Control::Savepoint(_)
            | Control::Release(_)
            | Control::RollbackTo(_)
            | Control::ResetAll
            | Control::DiscardAll
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
            | Control::Show(_) => Ok(()),
        }
    }

    /// Whether its clients may leave state of this kind on a server.
    fn keeps(&self, kind: State) -> bool {
        kind.is_within(state::keepable(self.preset, self.keeping))
    }

    /// The code that refuses a class, or `None` where it is allowed.
    fn refusal_of_class(&self, class: StatementClass) -> Option<Code> {
        if self.listed.allows_class(class) {
            return None;
        }
        state_of_class(class)
            .filter(|kind| self.keeps(*kind))
            .map_or_else(|| refusal_of_class(self.preset, class), |_| None)
    }

    /// A refusal of session state says what would allow it.
    fn hinting(&self, fault: Fault) -> Fault {
        match (fault.code, self.preset, self.keeping) {
            (Some(Code::SessionState), Preset::Tenant, Keeping::Pin | Keeping::Session) => fault.with_hint(SHARED_HINT),
            (Some(Code::SessionState), _, Keeping::Pin) => fault.with_hint(SESSION_HINT),
            (Some(_) | None, _, _) => fault,
        }
    }

    /// Whether a function may leave or read state that stays with its client. What runs later does so where nobody
    /// reads it again, and on other servers.
    fn keeps_function(&self, function: &FunctionUse, class: StatementClass) -> bool {
        let kind = Some(function).filter(|it| it.class == FunctionClass::SessionState && !runs_later(class));
        kind.and_then(|function| state::kind_of_function(&function.name)).is_some_and(|kind| self.keeps(kind))
    }

    fn judge_function(&self, function: &FunctionUse, of: StatementClass) -> Result<(), Fault> {
        if self.keeps_function(function, of) {
            return Ok(());
        }
        let Some(code) = refusal_of_function(self.preset, function.class) else { return Ok(()) };
        // No configuration lets a tenant change its scope.
        if function.class != FunctionClass::Scope && self.listed.allows_function(function) {
            return Ok(());
        }
        let name = qualified(function.schema.as_deref(), &function.name);
        let class = function.class.name();
        let fault = Fault::of(code).with_detail(format!("The function is {name}, of the class {class}."));
        Err(at(self.hinting(fault), function.position))
    }
}

/// What a tenant that stays on its server permits beside what is permitted anyway: CALL, of any user's procedure to
/// trusted code and of those on the configured list to tenants; VACUUM and the like to trusted code. DO never: its
/// body is a string.
fn permits_without_transaction(policy: &Policy, statement: &Statement) -> bool {
    use StatementClass as Class;
    let is_trusted = policy.preset == Preset::Application;
    let procedures = || statement.functions.iter().filter(|function| function.class == FunctionClass::User);
    match statement.class {
        Class::Call => {
            procedures().next().is_some()
                && procedures().all(|function| is_trusted || policy.listed.allows_function(function))
        }
        Class::Maintenance => is_trusted,
        // Every other is judged as where a tenant ends with its transaction. REFRESH would store one tenant's rows, or all
        // tenants', for everybody.
        Class::Refresh | Class::Checkpoint | Class::Administration | Class::NotAStatement => false,
        Class::Select | Class::Insert | Class::Update | Class::Delete | Class::Merge => false,
        Class::CopyIn | Class::CopyOut | Class::CopyServer => false,
        Class::DeclareCursor | Class::Fetch | Class::CloseCursor => false,
        Class::Transaction | Class::TwoPhase | Class::SetConstraints | Class::Setting | Class::Claim | Class::Show => {
            false
        }
        Class::Discard | Class::Deallocate | Class::Listen | Class::Unlisten | Class::Notify => false,
        Class::AdvisoryUnlockAll | Class::Prepare | Class::Execute | Class::Explain | Class::Lock => false,
        Class::Truncate | Class::Do | Class::Load => false,
        Class::CreateTableAs | Class::CreateTemporary | Class::DropTemporary => false,
        Class::Definition | Class::Privileges | Class::Roles | Class::Policies => false,
    }
}

/// What would let a transaction go on or end where its record does not see it.
fn judge_escape(statement: &Statement) -> Result<(), Fault> {
    let what = if chains(&statement.control) { Some("AND CHAIN") } else { escape_of_class(statement.class) };
    what.map_or(Ok(()), |what| {
        let detail = format!("{what} may end a transaction that its record does not see.");
        Err(Fault::of(Code::LedgerEscape).with_detail(detail))
    })
}

/// Whether a transaction's end begins the next one.
fn chains(control: &Control) -> bool {
    matches!(control, Control::Commit { chain: true } | Control::Rollback { chain: true })
}

/// The classes whose statements may end transactions by themselves, in words.
fn escape_of_class(class: StatementClass) -> Option<&'static str> {
    use StatementClass as Class;
    match class {
        Class::TwoPhase => Some("Two-phase commit"),
        Class::Do => Some("DO"),
        Class::Call => Some("CALL"),
        Class::Select | Class::Insert | Class::Update | Class::Delete | Class::Merge => None,
        Class::CopyIn | Class::CopyOut | Class::CopyServer => None,
        Class::DeclareCursor | Class::Fetch | Class::CloseCursor => None,
        // COMMIT and ROLLBACK are what the record follows.
        Class::Transaction | Class::SetConstraints | Class::Setting | Class::Claim | Class::Show => None,
        Class::Discard | Class::Deallocate | Class::Listen | Class::Unlisten | Class::Notify => None,
        Class::AdvisoryUnlockAll | Class::Prepare | Class::Execute | Class::Explain | Class::Lock => None,
        Class::Truncate | Class::CreateTableAs | Class::CreateTemporary | Class::DropTemporary => None,
        Class::Definition | Class::Privileges | Class::Roles | Class::Policies => None,
        // VACUUM and the like run outside of blocks, where each is refused or recorded by itself.
        Class::Maintenance | Class::Refresh | Class::Checkpoint => None,
        // Refused by their class.
        Class::Load | Class::Administration | Class::NotAStatement => None,
    }
}

/// Whether what a statement of a class says is kept and run later, where nobody reads it again.
fn runs_later(class: StatementClass) -> bool {
    use StatementClass as Class;
    match class {
        Class::Prepare | Class::CreateTemporary => true,
        // Views, defaults, constraints, rules, bodies, policies; materialized views, which are refreshed.
        Class::Definition | Class::Policies | Class::CreateTableAs => true,
        // Nothing allowed says anything there that could run.
        Class::Privileges | Class::Roles | Class::Administration | Class::NotAStatement | Class::Load => true,
        Class::Select | Class::Insert | Class::Update | Class::Delete | Class::Merge => false,
        Class::CopyIn | Class::CopyOut | Class::CopyServer => false,
        // A cursor's query runs in its own transaction or, WITH HOLD, at that transaction's end.
        Class::DeclareCursor | Class::Fetch | Class::CloseCursor => false,
        Class::Transaction | Class::TwoPhase | Class::SetConstraints | Class::Setting | Class::Claim | Class::Show => {
            false
        }
        Class::Discard | Class::Deallocate | Class::Listen | Class::Unlisten | Class::Notify => false,
        Class::AdvisoryUnlockAll | Class::Execute | Class::Explain | Class::Lock | Class::Truncate => false,
        Class::Call | Class::Do | Class::DropTemporary => false,
        Class::Maintenance | Class::Refresh | Class::Checkpoint => false,
    }
}

/// Says of a refusal whether it stands.
type Weigh<'w> = dyn FnMut(Fault) -> Result<(), Fault> + 'w;

/// A refusal that was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Which.
    pub code: Code,
    /// Of what.
    pub class: StatementClass,
}

/// The code of a refusal that may be observed instead of carried out. Never: what names the tenant or a role, pins how a
/// text is read, escapes a record, or cannot be followed by the proxy.
fn tolerated(fault: &Fault) -> Option<Code> {
    fault.code.filter(|code| {
        matches!(
            code,
            Code::StatementRefused
                | Code::SettingRefused
                | Code::FunctionRefused
                | Code::StringExecutor
                | Code::SessionState
                | Code::CatalogRefused
                | Code::DefinitionRefused
                | Code::CopyRefused
                | Code::ExplainRefused
                | Code::ConfiguredDenial
                | Code::ExecutorDenied
        )
    })
}

/// Whether a refusal for a demand may be tolerated at all, if its code may.
const fn is_tolerable(kind: DemandKind) -> bool {
    match kind {
        DemandKind::SelectInto
        | DemandKind::HoldCursor
        | DemandKind::TemporarySchema
        | DemandKind::TemporaryRelation
        | DemandKind::Estimates => true,
        // What the proxy cannot read, follow or share, and what decides who sees what.
        DemandKind::StrangeNode
        | DemandKind::SettingForm
        | DemandKind::Snapshot
        | DemandKind::ReservedName
        | DemandKind::FunctionSetting
        | DemandKind::OwnersView
        | DemandKind::Partition
        | DemandKind::NeedsBypass => false,
    }
}

fn judge_relation(preset: Preset, relation: &RelationUse) -> Result<(), Fault> {
    use RelationClass as Class;
    let code = match (relation.class, relation.access) {
        (Class::User, _) | (Class::Readable | Class::Settings, Access::Read) => return Ok(()),
        (Class::OtherSessions | Class::Statistics | Class::Unknown, Access::Read) if preset == Preset::Bypass => {
            return Ok(());
        }
        (Class::Sequences, Access::Read) if preset != Preset::Tenant => return Ok(()),
        // UPDATE pg_settings is a SET in disguise.
        (Class::Settings, Access::Write) => Code::ScopeChange,
        (Class::Readable, Access::Write) => Code::DefinitionRefused,
        (Class::Sequences | Class::OtherSessions | Class::Statistics | Class::Secret | Class::Unknown, _) => {
            Code::CatalogRefused
        }
    };
    let name = qualified(relation.schema.as_deref(), &relation.name);
    Err(at(Fault::of(code).with_detail(format!("The relation is {name}.")), relation.position))
}

/// What is told to a client that may claim its tenant and has done so in a form that is none.
const CLAIM_HINT: &str = "Name the tenant in a statement of its own: SET LOCAL <setting> = '<tenant>', or SELECT set_config('<setting>', $1, true); docs/claims.md has the forms.";

/// What a tenant's client is told that may keep some state and wanted other.
const SHARED_HINT: &str = "Channels, lock numbers and the last values of sequences are not kept apart between tenants on a shared server: use a login with preset = \"application\", or pool_mode = \"session\".";

/// What others are told that may keep most state.
const SESSION_HINT: &str = "This is kept only with pool_mode = \"session\", if at all.";

/// The kind of state that a class is about: who may keep that may send it.
fn state_of_class(class: StatementClass) -> Option<State> {
    use StatementClass as Class;
    match class {
        Class::Listen => Some(State::CHANNELS),
        Class::Prepare | Class::Execute => Some(State::PREPARED),
        Class::CreateTemporary | Class::DropTemporary => Some(State::TEMPORARY),
        // Every other is judged as in transaction pooling.
        Class::Select | Class::Insert | Class::Update | Class::Delete | Class::Merge => None,
        Class::CopyIn | Class::CopyOut | Class::CopyServer => None,
        Class::DeclareCursor | Class::Fetch | Class::CloseCursor => None,
        Class::Transaction | Class::TwoPhase | Class::SetConstraints | Class::Setting | Class::Claim | Class::Show => {
            None
        }
        Class::Discard | Class::Deallocate | Class::Unlisten | Class::Notify | Class::AdvisoryUnlockAll => None,
        Class::Explain | Class::Lock | Class::Truncate | Class::Call | Class::Do | Class::Load => None,
        Class::CreateTableAs | Class::Definition | Class::Privileges | Class::Roles | Class::Policies => None,
        Class::Maintenance | Class::Refresh | Class::Checkpoint => None,
        Class::Administration | Class::NotAStatement => None,
    }
}

/// The code that refuses a class, or `None` where it is allowed.
fn refusal_of_class(preset: Preset, class: StatementClass) -> Option<Code> {
    use StatementClass as Class;
    match preset {
        Preset::Application if matches!(class, Class::Explain | Class::Notify) => None,
        Preset::Tenant | Preset::Application => refusal_to_tenants(class),
        Preset::Migration if matches!(class, Class::Privileges | Class::Roles | Class::Policies) => {
            Some(Code::NeedsBypass)
        }
        Preset::Migration | Preset::Bypass if is_work_across_tenants(class) => None,
        Preset::Migration | Preset::Bypass => refusal_to_tenants(class),
    }
}

/// What only logins may do whose transactions are recorded.
fn is_work_across_tenants(class: StatementClass) -> bool {
    use StatementClass as Class;
    matches!(
        class,
        Class::CreateTableAs
            | Class::Definition
            | Class::Maintenance
            | Class::Refresh
            | Class::Checkpoint
            | Class::Privileges
            | Class::Roles
            | Class::Policies
            | Class::Explain
            | Class::Lock
            | Class::Truncate
    )
}

/// The code that refuses a class to a tenant, or `None` where it is allowed.
fn refusal_to_tenants(class: StatementClass) -> Option<Code> {
    use StatementClass as Class;
    match class {
        Class::Select | Class::Insert | Class::Update | Class::Delete | Class::Merge => None,
        Class::CopyIn | Class::CopyOut | Class::DeclareCursor | Class::Fetch | Class::CloseCursor => None,
        Class::Transaction | Class::SetConstraints | Class::Setting | Class::Claim | Class::Show => None,
        Class::Discard | Class::Deallocate | Class::Unlisten | Class::AdvisoryUnlockAll => None,
        Class::CopyServer => Some(Code::CopyRefused),
        Class::TwoPhase => Some(Code::TransactionRefused),
        Class::Listen | Class::Prepare | Class::Execute | Class::CreateTemporary => Some(Code::SessionState),
        Class::DropTemporary => Some(Code::DefinitionRefused),
        Class::Explain => Some(Code::ExplainRefused),
        Class::Do => Some(Code::StringExecutor),
        Class::Notify | Class::Lock | Class::Truncate | Class::Call | Class::Load => Some(Code::StatementRefused),
        Class::NotAStatement => Some(Code::StatementRefused),
        Class::CreateTableAs | Class::Definition | Class::Privileges | Class::Roles | Class::Policies => {
            Some(Code::DefinitionRefused)
        }
        Class::Maintenance | Class::Refresh | Class::Checkpoint => Some(Code::DefinitionRefused),
        Class::Administration => Some(Code::DefinitionRefused),
    }
}

/// The code that refuses a class of functions, or `None` where it is allowed.
fn refusal_of_function(preset: Preset, class: FunctionClass) -> Option<Code> {
    use FunctionClass as Class;
    match class {
        Class::Plain | Class::User => None,
        Class::OtherSessions | Class::Statistics | Class::Sleep if preset == Preset::Bypass => None,
        Class::Notify if preset == Preset::Application => None,
        // Fixtures and migrations put sequences behind the keys they have inserted.
        Class::Sequence if preset != Preset::Tenant => None,
        Class::Scope => Some(Code::ScopeChange),
        Class::StringExecutor => Some(Code::StringExecutor),
        Class::SessionState => Some(Code::SessionState),
        Class::OtherSessions | Class::Statistics | Class::Signal | Class::Files | Class::LargeObject => {
            Some(Code::FunctionRefused)
        }
        Class::Replication | Class::Sequence | Class::Sleep | Class::Notify | Class::Administration => {
            Some(Code::FunctionRefused)
        }
        Class::Internal | Class::Unknown => Some(Code::FunctionRefused),
    }
}

fn refusal_of_demand(demand: &Demand) -> Fault {
    let code = match demand.kind {
        DemandKind::SelectInto => Code::DefinitionRefused,
        DemandKind::HoldCursor | DemandKind::TemporarySchema | DemandKind::TemporaryRelation => Code::SessionState,
        DemandKind::ReservedName => Code::StatementRefused,
        DemandKind::Estimates => Code::CatalogRefused,
        DemandKind::StrangeNode => Code::StatementRefused,
        DemandKind::SettingForm => Code::SettingValueRefused,
        DemandKind::Snapshot => Code::TransactionRefused,
        DemandKind::FunctionSetting => Code::SettingRefused,
        DemandKind::NeedsBypass | DemandKind::OwnersView | DemandKind::Partition => Code::NeedsBypass,
    };
    let detail = match demand.kind {
        DemandKind::SelectInto => "SELECT … INTO creates a table.".into(),
        DemandKind::HoldCursor => format!("The cursor {} is declared WITH HOLD.", demand.detail),
        DemandKind::ReservedName => format!("The name {:?} is one of the proxy's own.", demand.detail),
        DemandKind::TemporarySchema | DemandKind::TemporaryRelation => {
            format!("{} is a temporary schema, or lies in one.", demand.detail)
        }
        DemandKind::StrangeNode => format!("It holds {}, which is not on the allow-list.", demand.detail),
        DemandKind::SettingForm => format!("The form {} cannot be followed.", demand.detail),
        DemandKind::FunctionSetting => format!("The setting is {:?}.", demand.detail),
        DemandKind::Estimates => format!("{} of pg_class holds estimates over all tenants' rows.", demand.detail),
        DemandKind::NeedsBypass | DemandKind::OwnersView | DemandKind::Partition => {
            format!("{} changes who may see what.", demand.detail)
        }
        DemandKind::Snapshot => "An imported snapshot is another session's.".into(),
    };
    at(Fault::of(code).with_detail(detail), demand.position)
}

pub(super) fn qualified<'n>(schema: Option<&str>, name: &'n str) -> Cow<'n, str> {
    match schema {
        Some(schema) => Cow::Owned(format!("{schema}.{name}")),
        None => Cow::Borrowed(name),
    }
}

pub(super) fn at(fault: Fault, position: u32) -> Fault {
    if position > 0 { fault.at(position) } else { fault }
}
