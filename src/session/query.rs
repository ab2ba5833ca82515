//! How a simple Query is sent: as it is, behind a prefix, or rewritten statement by statement.
//!
//! The tenant goes into the Query's own text: `SET LOCAL …;` in front of the first statement of each of
//! its transactions that needs scope. PostgreSQL parses the whole text before it runs any of it and stops
//! at the first error, so either the injection has run or the statement behind it does not; a COMMIT in
//! the middle needs no second message and no waiting; and a utility statement takes no snapshot.
//! Statements that pools send on release are replaced by harmless ones that keep order and state.
//!
//! Owns: the edits, the plan of expected answers, error positions. Does not own: sending or receiving.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use super::claims::{Plan as ClaimPlan, Standing};
use super::release::{self, Substitute};
use super::settings::{ClientSettings, Touched};
use crate::fault::{Code, Fault, SqlState};
use crate::guard::{Claim, Control, Facts, Policy, Statement};
use crate::scope::{Injection, Residue, SET_READ_ONLY, TransactionScope, releasing};
use crate::upstream::settings::SettingStep;
use crate::wire::TransactionStatus;

/// What is expected of one statement of a rewritten Query.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// The proxy's own: swallowed. `true` where it is the last one of an injection.
    Own(bool),
    /// The client's statement of that index.
    Client(usize),
    /// A stand-in for the client's statement of that index, answered under its tag.
    StandIn(usize, Option<&'static str>),
    /// A statement that must fail; its error makes place for this one.
    Refused(Box<Fault>),
    /// No text but a FunctionCall, which is the client's statement of that index.
    Call(usize),
}

/// What the answer to a rewritten Query means.
#[derive(Debug)]
pub struct QueryPlan {
    facts: Arc<Facts>,
    steps: Vec<Step>,
    next: usize,
    positions: Vec<Stretch>,
}

/// A stretch of the sent text, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    /// Where it begins in the sent text (0-based).
    sent: u32,
    /// Where it begins in the client's text; `None` for the proxy's own words.
    original: Option<u32>,
}

/// What a completed statement of a plan means.
#[derive(Debug, PartialEq, Eq)]
pub enum PlanStep<'a> {
    /// The proxy's own: swallow; `true` confirms the scope.
    Own(bool),
    /// Forward under this tag, or the server's; the statement has had its effect.
    Client(&'a Statement, Option<&'static str>),
    /// The server completed what it must refuse, or more than was asked.
    Impossible,
}

impl QueryPlan {
    /// Of a FunctionCall, as the statement that calls the same function.
    #[must_use]
    pub fn of_call(facts: Arc<Facts>) -> Self {
        Self { facts, steps: vec![Step::Call(0)], next: 0, positions: Vec::new() }
    }

    /// Whether a FunctionCall is being answered and its result has not come.
    #[must_use]
    pub fn is_at_call(&self) -> bool {
        matches!(self.steps.get(self.next), Some(Step::Call(_)))
    }

    /// Takes a FunctionCallResponse, if one is due.
    pub fn complete_call(&mut self) -> bool {
        let is_due = self.is_at_call();
        self.next = self.next.saturating_add(usize::from(is_due));
        is_due
    }

    /// Whether the statement being answered is the proxy's own.
    #[must_use]
    pub fn is_own_step(&self) -> bool {
        matches!(self.steps.get(self.next), Some(Step::Own(_)))
    }

    /// What the client's statement being answered does.
    #[must_use]
    pub fn control(&self) -> Option<&Control> {
        match self.steps.get(self.next)? {
            Step::Client(index) | Step::StandIn(index, _) | Step::Call(index) => {
                self.facts.statements.get(*index).map(|statement| &statement.control)
            }
            Step::Own(_) | Step::Refused(_) => None,
        }
    }

    /// Whether the statement being answered is the last one.
    #[must_use]
    pub fn is_at_last_step(&self) -> bool {
        self.next.saturating_add(1) == self.steps.len()
    }

    /// Takes a CommandComplete (or EmptyQueryResponse).
    pub fn complete(&mut self) -> PlanStep<'_> {
        let step = self.steps.get(self.next);
        self.next = self.next.saturating_add(1);
        match step {
            Some(Step::Own(confirms)) => PlanStep::Own(*confirms),
            Some(Step::Client(index)) => self.client_step(*index, None),
            Some(Step::StandIn(index, tag)) => self.client_step(*index, *tag),
            Some(Step::Refused(_) | Step::Call(_)) | None => PlanStep::Impossible,
        }
    }

    fn client_step(&self, index: usize, tag: Option<&'static str>) -> PlanStep<'_> {
        match self.facts.statements.get(index) {
            Some(statement) => PlanStep::Client(statement, tag),
            None => PlanStep::Impossible,
        }
    }

    /// The proxy's own error in place of this one, if the statement being answered is one that must fail so.
    #[must_use]
    pub fn refusal_of(&self, sqlstate: Option<SqlState>) -> Option<&Fault> {
        match self.steps.get(self.next) {
            Some(Step::Refused(fault)) if sqlstate == Some(MUST_FAIL_SQLSTATE) => Some(fault),
            Some(Step::Own(_) | Step::Client(_) | Step::StandIn(..) | Step::Refused(_) | Step::Call(_)) | None => None,
        }
    }

    /// The client's character position (1-based) for one in the sent text; `None` inside the proxy's words.
    #[must_use]
    pub fn original_position(&self, sent: u32) -> Option<u32> {
        let index = sent.checked_sub(1)?;
        let stretch = self.positions.iter().rev().find(|stretch| stretch.sent <= index)?;
        Some(stretch.original?.saturating_add(index - stretch.sent).saturating_add(1))
    }
}

/// How to send a Query.
#[derive(Debug)]
pub enum Sending {
    /// As it is; nothing in it has an effect to follow.
    Plain,
    /// As it is; its one statement has an effect.
    Single,
    /// Behind the session's prefix.
    Prefixed,
    /// This text instead, under this plan.
    Rewritten(Box<QueryPlan>, Vec<u8>),
    /// Not at all.
    Refuse(Box<Fault>),
}

/// Whose transaction block a recorded transaction runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// The proxy's, around one segment; the client does not know of it.
    Own,
    /// The client's.
    Clients,
    /// None, so that there can be no scope: a statement that runs only outside of blocks and commits by itself.
    Absent,
}

/// What planning needs to know of the session.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// The login's policy.
    pub policy: &'a Policy,
    /// The session's injection.
    pub injection: &'a Injection,
    /// The client's settings.
    pub settings: &'a ClientSettings,
    /// Answers whether the client has a prepared statement of that name.
    pub statements: &'a super::statements::ClientStatements,
    /// Whether the login may leave state on a server, so that what releases it is sent.
    pub keeps_state: bool,
    /// Names of SQL's PREPARE, where a server stays with the client.
    pub sql_prepared: Option<&'a BTreeSet<Box<str>>>,
    /// Whether un-Synced messages of the extended protocol stand before this Query.
    pub is_segment_open: bool,
    /// Whether its transactions are to be such that cannot write.
    pub is_read_only: bool,
    /// In whose block it begins, where transactions are recorded and so every statement's answer is followed.
    pub recorded_in: Option<Block>,
    /// A planted defect.
    #[cfg(feature = "mutants")]
    pub mutant: Option<super::Mutant>,
}

/// Plans the statements `part` of a Query; `scope` is moved on as if all of it succeeds.
pub fn plan(
    sql: &str,
    facts: &Arc<Facts>,
    part: Range<usize>,
    scope: &mut TransactionScope,
    with: Circumstances<'_>,
    mut claims: Option<&mut ClaimPlan<'_>>,
) -> Sending {
    let mut writer = Writer::new(sql, text_start(sql, facts, part.start));
    let text_end = text_end(sql, facts, part.end);
    let is_recorded = with.recorded_in.is_some();
    let mut plan_needed = is_recorded && !part.is_empty();
    let mut prefix_only = true;
    let mut touched = with.settings.touched().clone();
    let mut with = with;
    for (index, statement) in facts.statements.iter().enumerate().take(part.end).skip(part.start) {
        // Behind the client's BEGIN it is the client's.
        if with.recorded_in == Some(Block::Own) && statement.control == Control::Begin {
            with.recorded_in = Some(Block::Clients);
        }
        let range = statement.range(sql.len());
        let front = Front { index, statement, range: range.clone(), facts, with };
        match front.put(&mut writer, scope, claims.as_deref_mut()) {
            Put::Nothing => {}
            Put::Scope => prefix_only &= range.start == 0 && index == 0,
            Put::Instead => {
                plan_needed = true;
                continue;
            }
            Put::Refused(fault) => return Sending::Refuse(fault),
        }
        match substitute(sql, index, facts, scope, with, &touched) {
            Some(Substitution::Text(text, own, tag)) => {
                writer.replace(range, &text, own, Step::StandIn(index, tag));
                plan_needed = true;
            }
            Some(Substitution::Failing(fault)) => {
                writer.replace(range, MUST_FAIL, 0, Step::Refused(fault));
                plan_needed = true;
            }
            Some(Substitution::Refuse(fault)) => return Sending::Refuse(fault),
            None => writer.steps.push(Step::Client(index)),
        }
        plan_needed |= is_followed(statement);
        touched.note(&statement.control);
        let before = scope.predicted();
        follow(scope, &statement.control);
        if let Some(claims) = claims.as_deref_mut() {
            claims.follow(&statement.control, before, scope);
        }
        #[cfg(feature = "mutants")]
        super::mutant::after_sent(with.mutant, scope, &statement.control);
    }
    scope.on_segment_end();
    if let Some(claims) = claims {
        claims.end(scope);
    }
    match (plan_needed, writer.is_edited()) {
        (false, false) => Sending::Plain,
        (false, true) if prefix_only => Sending::Prefixed,
        (true, false) if facts.statements.len() == 1 && !is_recorded => Sending::Single,
        _ => {
            let (text, steps, positions) = writer.finish(text_end);
            Sending::Rewritten(Box::new(QueryPlan { facts: Arc::clone(facts), steps, next: 0, positions }), text)
        }
    }
}

/// What stands in front of a statement, or in its place.
enum Put {
    /// Nothing is needed.
    Nothing,
    /// The tenant was put in front of it.
    Scope,
    /// It was replaced: it is a claim, or lacks one.
    Instead,
    /// The whole Query cannot be sent.
    Refused(Box<Fault>),
}

/// A statement whose turn has come.
struct Front<'a> {
    index: usize,
    statement: &'a Statement,
    range: Range<usize>,
    facts: &'a Facts,
    with: Circumstances<'a>,
}

impl Front<'_> {
    fn put(
        &self,
        writer: &mut Writer<'_>,
        scope: &mut TransactionScope,
        mut claims: Option<&mut ClaimPlan<'_>>,
    ) -> Put {
        if let (Control::Claim(claim), Some(claims)) = (&self.statement.control, claims.as_deref_mut()) {
            self.put_claim(claim, writer, scope, claims);
            return Put::Instead;
        }
        let is_bare = matches!(self.statement.control, Control::Savepoint(_));
        let mut needs_scope = self.with.policy.needs_scope(self.statement);
        #[cfg(feature = "mutants")]
        if needs_scope && claims.is_some() && super::mutant::bleed(self.with.mutant, scope) {
            return Put::Nothing;
        }
        if let Some(claims) = claims.as_deref().filter(|claims| needs_scope && !claims.has_tenant()) {
            if !is_bare && scope.predicted() != TransactionStatus::Failed {
                self.fail(writer, claims.missing(self.statement));
                return Put::Instead;
            }
            // Of nobody's transaction a ROLLBACK TO takes nothing away.
            needs_scope = false;
        }
        // Where there are claims the session's own holds nothing, and lets nothing through.
        let injection = claims.as_deref().and_then(ClaimPlan::injection).unwrap_or(self.with.injection);
        if needs_scope && scope.needs_injection() && injection.is_empty() && !self.with.is_read_only {
            scope.on_nothing_to_inject();
        }
        let lacks_tenant = claims.as_deref().is_some_and(|claims| claims.needs_injection(scope));
        if !needs_scope || !(scope.needs_injection() || lacks_tenant) {
            return Put::Nothing;
        }
        if injection.carried().is_some() || injection.is_vacant() {
            // What should be there is put on a server in front of its lease and at no other time.
            return Put::Refused(Box::new(Fault::of(Code::ScopeFailed)));
        }
        if self.with.recorded_in == Some(Block::Absent) {
            return Put::Nothing;
        }
        if injection.is_sealed() {
            // The ticket is put in front of the Query and at no other time.
            return Put::Refused(Box::new(Fault::of(Code::ScopeFailed)));
        }
        match self.with.is_read_only {
            false => writer.insert(self.range.start, injection.set_local(), injection.set_local_statements()),
            true => {
                let text = format!("{SET_READ_ONLY}{}", injection.set_local());
                writer.insert(self.range.start, &text, injection.set_local_statements().saturating_add(1));
            }
        }
        scope.on_injected();
        if let Some(claims) = claims {
            claims.on_injected();
        }
        Put::Scope
    }

    /// What stands in for a claim, behind the scope statement.
    fn put_claim(
        &self,
        claim: &Claim,
        writer: &mut Writer<'_>,
        scope: &mut TransactionScope,
        claims: &mut ClaimPlan<'_>,
    ) {
        let is_idle = scope.predicted() == TransactionStatus::Idle;
        let is_alone = self.facts.statements.len() == 1 && !self.with.is_segment_open && is_idle;
        match claims.claim(claim, scope, is_alone) {
            #[cfg(feature = "mutants")]
            Ok(_) if super::mutant::bleed(self.with.mutant, scope) => {
                writer.steps.push(Step::Client(self.index));
            }
            Ok(Standing { fronts, text, tag }) => {
                for (front, statements) in fronts {
                    writer.insert(self.range.start, &front, statements);
                }
                writer.replace(self.range.clone(), &text, 0, Step::StandIn(self.index, tag));
            }
            Err(fault) => self.fail(writer, fault),
        }
    }

    /// Refused in its place, so that what is in front of it is done.
    fn fail(&self, writer: &mut Writer<'_>, fault: Fault) {
        writer.replace(self.range.clone(), MUST_FAIL, 0, Step::Refused(Box::new(fault)));
    }
}

/// Where the text of a part begins.
fn text_start(sql: &str, facts: &Facts, first: usize) -> usize {
    match facts.statements.get(first) {
        Some(statement) if first > 0 => statement.range(sql.len()).start,
        Some(_) | None => 0,
    }
}

/// Where it ends.
fn text_end(sql: &str, facts: &Facts, end: usize) -> usize {
    match end.checked_sub(1).and_then(|last| facts.statements.get(last)) {
        Some(statement) if end < facts.statements.len() => statement.range(sql.len()).end,
        Some(_) | None => sql.len(),
    }
}

/// Parses everywhere and fails in analysis, on every version: nobody can create this type.
pub const MUST_FAIL: &str = "SELECT NULL::pg_catalog.\"tenantgate: refused\"";

/// The SQLSTATE with which [`MUST_FAIL`] fails: undefined_object.
pub const MUST_FAIL_SQLSTATE: SqlState = SqlState(*b"42704");

/// Moves the predicted transaction on by one statement.
pub fn follow(scope: &mut TransactionScope, control: &Control) {
    match control {
        Control::Begin => scope.on_begin(),
        Control::Commit { chain } | Control::Rollback { chain } => scope.on_end(*chain),
        Control::RollbackTo(_) => scope.on_rollback_to(),
        Control::None
        | Control::SetTransaction
        | Control::Savepoint(_)
        | Control::Release(_)
        | Control::Set { .. }
        | Control::Configure(_)
        | Control::SetCharacteristics(_)
        | Control::Reset { .. }
        | Control::Claim(_)
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
        | Control::Show(_) => {}
    }
}

/// Whether a statement's success matters to the session: what it knows of transaction and client, or what is left on
/// the server.
#[must_use]
pub fn is_followed(statement: &Statement) -> bool {
    has_effect(&statement.control) || !statement.state.is_none()
}

/// Whether a statement's success changes what the session knows of transaction or client state.
#[must_use]
fn has_effect(control: &Control) -> bool {
    match control {
        Control::None
        | Control::SetTransaction
        | Control::Show(_)
        | Control::CloseCursor(_)
        | Control::CloseAll
        | Control::Set { local: true, .. }
        | Control::Reset { local: true, .. } => false,
        Control::Begin
        | Control::Commit { .. }
        | Control::Rollback { .. }
        | Control::Savepoint(_)
        | Control::Release(_)
        | Control::RollbackTo(_)
        | Control::Set { local: false, .. }
        | Control::Configure(_)
        | Control::SetCharacteristics(_)
        | Control::Reset { local: false, .. }
        | Control::Claim(_)
        | Control::ResetAll
        | Control::DiscardAll
        | Control::DiscardPlans
        | Control::DiscardSequences
        | Control::DiscardTemp
        | Control::UnlistenAll
        | Control::Unlisten(_)
        | Control::DeallocateAll
        | Control::Deallocate(_)
        | Control::AdvisoryUnlockAll => true,
    }
}

enum Substitution {
    /// This text, with so many own statements in front of the stand-in, answered under this tag.
    Text(String, usize, Option<&'static str>),
    /// A statement that fails when it is reached.
    Failing(Box<Fault>),
    /// The whole Query fails at once.
    Refuse(Box<Fault>),
}

/// What goes in a statement's place.
#[expect(clippy::wildcard_enum_match_arm, reason = "the last arm is a binding: release::substitute is exhaustive")]
fn substitute(
    sql: &str,
    index: usize,
    facts: &Facts,
    scope: &TransactionScope,
    with: Circumstances<'_>,
    touched: &Touched,
) -> Option<Substitution> {
    let statement = facts.statements.get(index)?;
    if facts.statements.len() == 1 && scope.predicted() == TransactionStatus::Idle && release::needs_block(statement) {
        return Some(Substitution::Refuse(Box::new(release::declare_outside_block())));
    }
    if let Some(fault) = release::outside_any_block(statement).filter(|_| with.recorded_in == Some(Block::Own)) {
        return Some(Substitution::Failing(Box::new(fault)));
    }
    let is_alone = facts.statements.len() == 1 && !with.is_segment_open;
    let is_idle = scope.predicted() == TransactionStatus::Idle;
    match &statement.control {
        Control::DiscardAll if !(is_alone && is_idle) => {
            Some(Substitution::Failing(Box::new(release::discard_all_in_block())))
        }
        Control::ResetAll => Some(reset_all(with.settings, touched, "RESET")),
        Control::DiscardAll if with.sql_prepared.is_some() => {
            let steps = with.settings.reset_all_steps(touched);
            Some(release_all(&prepared_at(index, facts, with), Residue::PROVABLE, &steps, "DISCARD ALL"))
        }
        Control::DiscardAll => Some(reset_all(with.settings, touched, "DISCARD ALL")),
        Control::DeallocateAll if with.sql_prepared.is_some() => {
            Some(release_all(&prepared_at(index, facts, with), Residue::PREPARED, &[], "DEALLOCATE ALL"))
        }
        Control::Deallocate(name) if prepared_at(index, facts, with).contains(name) => None,
        Control::CloseAll if !is_idle => None,
        Control::Deallocate(name) if with.statements.find(name.as_bytes()).is_none() => {
            Some(Substitution::Failing(Box::new(release::unknown_statement(name.as_bytes()))))
        }
        control => {
            let text = sql.get(statement.range(sql.len())).unwrap_or_default();
            let Substitute { sql, tag } = release::substitute(control, text, with.settings, with.keeps_state)?;
            Some(Substitution::Text(sql.into_owned(), 0, tag))
        }
    }
}

/// The names of SQL's PREPARE when that statement is reached.
#[expect(clippy::wildcard_enum_match_arm, reason = "every other statement deallocates nothing")]
fn prepared_at(index: usize, facts: &Facts, with: Circumstances<'_>) -> BTreeSet<Box<str>> {
    let mut names = with.sql_prepared.cloned().unwrap_or_default();
    for statement in facts.statements.iter().take(index) {
        names.extend(statement.state.prepares.clone());
        match &statement.control {
            Control::Deallocate(name) => drop(names.remove(name)),
            Control::DeallocateAll | Control::DiscardAll => names.clear(),
            _ => {}
        }
    }
    names
}

/// DISCARD ALL or DEALLOCATE ALL on a server that stays with the client: what is the client's is released, and nothing of
/// the proxy's own; the steps bring its settings back.
fn release_all(
    prepared: &BTreeSet<Box<str>>,
    kinds: Residue,
    steps: &[SettingStep],
    tag: &'static str,
) -> Substitution {
    let (mut text, own) = releasing(kinds, prepared.iter().map(|name| &**name));
    put_steps(&mut text, steps);
    text.push_str(release::NOTHING);
    Substitution::Text(text, own + steps.len(), Some(tag))
}

/// RESET ALL as the statements that bring a server back to this client's startup parameters.
fn reset_all(settings: &ClientSettings, touched: &Touched, tag: &'static str) -> Substitution {
    let steps = settings.reset_all_steps(touched);
    let mut text = String::new();
    put_steps(&mut text, &steps);
    text.push_str(release::NOTHING);
    Substitution::Text(text, steps.len(), Some(tag))
}

fn put_steps(text: &mut String, steps: &[SettingStep]) {
    for step in steps {
        text.push_str(&release::step_statement(step));
        text.push(';');
    }
}

/// Builds the sent text and remembers where each stretch of it comes from.
struct Writer<'a> {
    sql: &'a str,
    /// Bytes of the client's text already taken.
    taken: usize,
    taken_chars: u32,
    text: String,
    text_chars: u32,
    steps: Vec<Step>,
    positions: Vec<Stretch>,
}

impl<'a> Writer<'a> {
    fn new(sql: &'a str, start: usize) -> Self {
        Self {
            sql,
            taken: start,
            taken_chars: chars(sql.get(..start).unwrap_or_default()),
            text: String::new(),
            text_chars: 0,
            steps: Vec::new(),
            positions: Vec::new(),
        }
    }

    fn is_edited(&self) -> bool {
        self.positions.iter().any(|stretch| stretch.original.is_none())
    }

    /// Puts the proxy's own statements in front of byte `at`.
    fn insert(&mut self, at: usize, text: &str, statements: usize) {
        self.take_until(at);
        self.own_words(text);
        for number in 1..=statements {
            self.steps.push(Step::Own(number == statements));
        }
    }

    /// Replaces a stretch of the client's text.
    fn replace(&mut self, range: std::ops::Range<usize>, text: &str, own: usize, step: Step) {
        self.take_until(range.start);
        self.own_words(text);
        let skipped = self.sql.get(range.start..range.end).unwrap_or_default();
        self.taken = range.end.max(self.taken);
        self.taken_chars = self.taken_chars.saturating_add(chars(skipped));
        self.steps.extend(std::iter::repeat_n(Step::Own(false), own));
        self.steps.push(step);
    }

    fn take_until(&mut self, at: usize) {
        let stretch = self.sql.get(self.taken..at).unwrap_or_default();
        if stretch.is_empty() {
            return;
        }
        self.positions.push(Stretch { sent: self.text_chars, original: Some(self.taken_chars) });
        self.text.push_str(stretch);
        let count = chars(stretch);
        self.text_chars = self.text_chars.saturating_add(count);
        self.taken_chars = self.taken_chars.saturating_add(count);
        self.taken = at;
    }

    fn own_words(&mut self, text: &str) {
        self.positions.push(Stretch { sent: self.text_chars, original: None });
        self.text.push_str(text);
        self.text_chars = self.text_chars.saturating_add(chars(text));
    }

    fn finish(mut self, end: usize) -> (Vec<u8>, Vec<Step>, Vec<Stretch>) {
        self.take_until(end);
        (self.text.into_bytes(), self.steps, self.positions)
    }
}

/// Characters, as PostgreSQL counts error positions.
#[must_use]
pub fn chars(text: &str) -> u32 {
    u32::try_from(text.chars().count()).unwrap_or(u32::MAX)
}
