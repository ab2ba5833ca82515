//! Whether policies keep tenants apart.
//!
//! A policy's condition is a tree of AND, OR and comparisons. It constrains the tenant if no way through it avoids a
//! comparison of the tenant column with the tenant; every way that does is an [`Opening`], and what it asks for instead
//! says what kind of hole it is:
//!
//! ```text
//! tenant_id = setting AND NOT deleted                     no opening
//! tenant_id = setting OR current_user = 'postgres'        an opening for an identity
//! setting('app.bypass') = 'true'                          an opening for a switch
//! true                                                    an opening for everybody
//! ```
//!
//! Owns: openings, and the findings about one policy's expressions. Does not own: which policies apply to whom
//! (`tables`), how an expression is read (`guard::policy_expression`).

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{Catalogue, Column, Function, Policy, Relation, literal, quoted};
use super::finding::Finding;
use super::rule::{Rule, Severity};
use crate::guard::{Condition, Mentions, Operand, OperandKind, Policy as GuardPolicy, PolicyExpression};

/// The texts of all policies, read.
pub type Expressions = BTreeMap<String, Result<PolicyExpression, String>>;

/// What is known when a policy is judged.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// The catalogue.
    pub catalogue: &'a Catalogue,
    /// The settings that the proxy sets to the tenant.
    pub scope: &'a BTreeSet<String>,
    /// The one that is the tenant and nothing else.
    pub setting: &'a str,
    /// Tables that hold tenants' rows and have row-level security on: schema and name.
    pub guarded: &'a BTreeSet<(String, String)>,
    /// The examined roles' names.
    pub roles: &'a [String],
    /// What tenants' logins may do.
    pub policies: &'a [GuardPolicy],
    /// Every expression.
    pub expressions: &'a Expressions,
}

impl Frame<'_> {
    /// The condition that keeps tenants apart, as SQL, with the index in use and the empty setting harmless.
    #[must_use]
    pub fn own_rows(&self, column: &Column) -> String {
        let cast = if column.kind == "text" { String::new() } else { format!("::{}", column.kind) };
        let setting = literal(self.setting);
        format!("{} = (SELECT NULLIF(current_setting({setting}, true), ''){cast})", quoted(&column.name))
    }
}

/// A way through a condition that does not ask for the tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opening {
    /// It asks who somebody is.
    identity: bool,
    /// Names it compares the identity with.
    names: BTreeSet<String>,
    /// Settings it asks for that are not the tenant's.
    switches: BTreeSet<String>,
    /// It asks that the tenant's setting is empty.
    unset: bool,
    /// It asks that the row has no tenant, or a fixed one.
    shared: bool,
    /// It compares the tenant column with something that is not the proxy's tenant.
    foreign: BTreeSet<String>,
}

impl Opening {
    fn and(mut self, other: Opening) -> Opening {
        self.identity |= other.identity;
        self.unset |= other.unset;
        self.shared |= other.shared;
        self.names.extend(other.names);
        self.switches.extend(other.switches);
        self.foreign.extend(other.foreign);
        self
    }

    /// Whether it asks for nothing but being one of these roles.
    #[must_use]
    pub fn lets_in_always(&self, roles: &[String]) -> bool {
        let is_one = self.names.is_empty() || self.names.iter().any(|name| roles.contains(name));
        self.identity && is_one && !self.unset && !self.shared && self.switches.is_empty()
    }

    /// The same once clients have set what they may.
    #[must_use]
    pub fn behind(mut self, policies: &[GuardPolicy]) -> Self {
        self.switches.retain(|name| !policies.iter().any(|policy| policy.lets_set(name)));
        self
    }

    /// The rule it breaks. A row without a tenant is the narrowest opening, one for everybody the widest.
    #[must_use]
    pub fn rule(&self) -> Rule {
        match self {
            Opening { shared: true, .. } => Rule::PolicyShared,
            Opening { identity: true, .. } => Rule::PolicyIdentity,
            Opening { foreign, .. } if !foreign.is_empty() => Rule::PolicyOtherSetting,
            Opening { switches, .. } if !switches.is_empty() => Rule::PolicySwitch,
            Opening { unset: true, .. } => Rule::PolicyUnset,
            Opening { .. } => Rule::PolicyOpen,
        }
    }
}

/// What an expression lets through without the tenant; empty: nothing.
#[must_use]
pub fn openings(frame: &Frame<'_>, columns: &BTreeSet<String>, condition: &Condition) -> Vec<Opening> {
    match condition {
        Condition::Constant(false) => Vec::new(),
        Condition::All(parts) => {
            let parts: Vec<_> = parts.iter().map(|part| openings(frame, columns, part)).collect();
            if parts.iter().any(Vec::is_empty) {
                return Vec::new();
            }
            combined(parts)
        }
        Condition::Any(parts) => parts.iter().flat_map(|part| openings(frame, columns, part)).collect(),
        Condition::Equal(left, right) => equality(frame, columns, left, right),
        Condition::IsNull(operand) => vec![null(frame, columns, operand)],
        Condition::Subquery(mentions) => subquery(frame, mentions),
        Condition::Not(inner) => vec![negated(frame, inner)],
        Condition::Opaque(mentions) => vec![asking(frame, mentions)],
        Condition::Constant(true) => vec![Opening::default()],
    }
}

/// More ways than this are told as one: they multiply.
const WAYS_MAX: usize = 64;

/// Every part has to be passed: one way of each, together.
fn combined(parts: Vec<Vec<Opening>>) -> Vec<Opening> {
    parts.into_iter().fold(vec![Opening::default()], |ways, part| {
        if ways.len().saturating_mul(part.len()) > WAYS_MAX {
            let all = ways.into_iter().chain(part);
            return vec![all.fold(Opening::default(), Opening::and)];
        }
        ways.iter().flat_map(|way| part.iter().map(|other| way.clone().and(other.clone()))).collect()
    })
}

fn equality(frame: &Frame<'_>, columns: &BTreeSet<String>, left: &Operand, right: &Operand) -> Vec<Opening> {
    let is_tenant = |operand: &Operand| matches!(&operand.kind, OperandKind::Column(name) if columns.contains(name));
    let (tenant, other) = match (is_tenant(left), is_tenant(right)) {
        (true, false) => (left, right),
        (false, true) => (right, left),
        (true, true) => return vec![Opening::default()],
        (false, false) => return vec![comparison(frame, left, right)],
    };
    debug_assert!(is_tenant(tenant));
    let asked = &other.mentions;
    if !asked.columns.is_empty() && asked.relations.is_empty() {
        // COALESCE(setting, tenant_id) is its own tenant.
        return vec![Opening::default()];
    }
    if asks_scope(frame, asked) {
        // left(setting, 1), setting || 'x', a table's row found by it: another tenant, perhaps.
        let is_exact = matches!(other.kind, OperandKind::Setting(_) | OperandKind::Wrapped);
        let derived = || Opening {
            foreign: ["something made from the tenant's setting".to_owned()].into(),
            ..asking(frame, asked)
        };
        return if is_exact && asked.relations.is_empty() { Vec::new() } else { vec![derived()] };
    }
    let foreign: BTreeSet<String> =
        asked.settings.iter().cloned().chain(asked.functions.iter().map(|(_, name)| format!("{name}()"))).collect();
    match other.kind {
        OperandKind::Constant(None) => Vec::new(),
        OperandKind::Constant(Some(_)) => vec![Opening { shared: true, ..Opening::default() }],
        OperandKind::Identity => Vec::new(),
        OperandKind::Column(_) | OperandKind::Setting(_) | OperandKind::Wrapped | OperandKind::Expression => {
            vec![Opening { foreign, ..asking(frame, &Mentions::default()) }]
        }
    }
}

/// Whether the tenant's setting is read, or the seal's tenant.
#[must_use]
pub fn asks_scope(frame: &Frame<'_>, asked: &Mentions) -> bool {
    asked.settings.iter().any(|name| frame.scope.contains(name)) || reads_scope(frame, asked)
}

/// Whether a function that is called reads a scope setting, or is the seal's.
fn reads_scope(frame: &Frame<'_>, asked: &Mentions) -> bool {
    asked.functions.iter().any(|name| {
        let is_seal = name.0 == "tenantgate" && matches!(&*name.1, "tenant_id" | "tenant_uuid" | "tenant_bigint");
        is_seal || functions(frame, name).any(|it| it.settings.iter().any(|read| frame.scope.contains(read)))
    })
}

fn functions<'a>(frame: &Frame<'a>, name: &(String, String)) -> impl Iterator<Item = &'a Function> {
    let (schema, name) = name.clone();
    frame.catalogue.functions.iter().filter(move |it| it.name == name && (schema.is_empty() || it.schema == schema))
}

/// Of two things that are not the tenant column.
fn comparison(frame: &Frame<'_>, left: &Operand, right: &Operand) -> Opening {
    let mut opening = asking(frame, &left.mentions).and(asking(frame, &right.mentions));
    for (one, other) in [(left, right), (right, left)] {
        match (&one.kind, &other.kind) {
            (OperandKind::Setting(name), OperandKind::Constant(Some(value)))
                if frame.scope.contains(name) && value.is_empty() =>
            {
                opening.unset = true;
            }
            (OperandKind::Identity, OperandKind::Constant(Some(name))) => {
                opening.names.insert(name.clone());
            }
            _ => {}
        }
    }
    opening
}

fn null(frame: &Frame<'_>, columns: &BTreeSet<String>, operand: &Operand) -> Opening {
    let mut opening = asking(frame, &operand.mentions);
    match &operand.kind {
        OperandKind::Column(name) => opening.shared = columns.contains(name),
        OperandKind::Setting(name) => opening.unset = frame.scope.contains(name),
        OperandKind::Identity | OperandKind::Constant(_) | OperandKind::Wrapped | OperandKind::Expression => {}
    }
    opening
}

/// Rows of a table that policies protect are the tenant's.
fn subquery(frame: &Frame<'_>, mentions: &Mentions) -> Vec<Opening> {
    let is_guarded = mentions.relations.iter().any(|name| frame.guarded.contains(name));
    if is_guarded {
        return Vec::new();
    }
    // What it asks of an unguarded table may have nothing to do with the row: EXISTS (SELECT FROM m WHERE m.v = <setting>).
    vec![asking(frame, mentions)]
}

/// The negation of what asks for the tenant lets everybody else through.
fn negated(frame: &Frame<'_>, inner: &Condition) -> Opening {
    match inner {
        Condition::Constant(_) => Opening::default(),
        Condition::All(parts) | Condition::Any(parts) => {
            parts.iter().map(|part| negated(frame, part)).fold(Opening::default(), Opening::and)
        }
        Condition::Not(inner) => negated(frame, inner),
        Condition::Equal(left, right) => asking(frame, &left.mentions).and(asking(frame, &right.mentions)),
        Condition::IsNull(operand) => asking(frame, &operand.mentions),
        Condition::Subquery(mentions) | Condition::Opaque(mentions) => asking(frame, mentions),
    }
}

/// What it asks for, as far as it is told by what it mentions.
fn asking(frame: &Frame<'_>, mentions: &Mentions) -> Opening {
    let switches = mentions.settings.iter().filter(|name| !frame.scope.contains(*name)).cloned().collect();
    Opening { identity: mentions.identity, switches, ..Opening::default() }
}

/// One expression of a policy and what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clause {
    /// Which rows are there.
    Using,
    /// Which rows may be written.
    Check,
}

/// What a policy's expressions let through.
#[derive(Clone, Debug, Default)]
pub struct Judged {
    /// By USING.
    pub using: Option<Vec<Opening>>,
    /// By WITH CHECK, or by USING where that stands for it.
    pub check: Option<Vec<Opening>>,
    /// Some expression could not be read.
    pub is_unreadable: bool,
}

/// Reads what a policy lets through.
#[must_use]
pub fn judge(frame: &Frame<'_>, columns: &BTreeSet<String>, policy: &Policy) -> Judged {
    let mut judged = Judged::default();
    let mut opened = |text: &Option<String>| match frame.expressions.get(text.as_ref()?)? {
        Ok(expression) => Some(openings(frame, columns, &expression.condition)),
        Err(_) => {
            judged.is_unreadable = true;
            Some(vec![Opening::default()])
        }
    };
    let (using, check) = (opened(&policy.using), opened(&policy.check));
    judged.check = check.or_else(|| using.clone().filter(|_| matches!(&*policy.command, "*" | "w")));
    judged.using = using;
    judged
}

/// Findings about the expressions themselves, whoever they are for.
pub fn examine(
    frame: &Frame<'_>,
    relation: &Relation,
    policy: &Policy,
    column: Option<&Column>,
    found: &mut Vec<Finding>,
) {
    let object = object_of(relation, policy);
    for text in [&policy.using, &policy.check].into_iter().flatten() {
        match frame.expressions.get(text) {
            Some(Ok(expression)) => {
                examine_casts(frame, (relation, policy, column), text, expression, found);
                examine_functions(frame, &object, expression, found);
            }
            Some(Err(reason)) => {
                found.push(Finding::of(Rule::PolicyUnreadable, &object).with_detail(format!("{text}: {reason}")));
            }
            None => found.push(Finding::of(Rule::PolicyUnreadable, &object).with_detail(text.clone())),
        }
    }
}

/// `schema.table/policy`
#[must_use]
pub fn object_of(relation: &Relation, policy: &Policy) -> String {
    format!("{}/{}", relation.full_name(), policy.name)
}

fn examine_casts(
    frame: &Frame<'_>,
    (relation, policy, column): (&Relation, &Policy, Option<&Column>),
    text: &str,
    expression: &PolicyExpression,
    found: &mut Vec<Finding>,
) {
    for (setting, kind) in expression.unsafe_casts.iter().filter(|(setting, _)| frame.scope.contains(setting)) {
        let detail = format!("current_setting('{setting}')::{kind} in {text}");
        let note = format!("NULLIF(current_setting({}, true), '')::{kind}", literal(setting));
        let mend = rewritten(frame, relation, policy, column, &note);
        found.push(Finding::of(Rule::PolicyCast, object_of(relation, policy)).with_detail(detail).mended_by(mend));
    }
}

/// The policy with nothing but the tenant in it; what else it asked has to be added by somebody who knows it.
fn rewritten(frame: &Frame<'_>, relation: &Relation, policy: &Policy, column: Option<&Column>, note: &str) -> String {
    let own = column.map_or_else(|| "<its parent's tenant>".to_owned(), |column| frame.own_rows(column));
    let using = if policy.using.is_some() { format!(" USING ({own})") } else { String::new() };
    let check = if policy.check.is_some() { format!(" WITH CHECK ({own})") } else { String::new() };
    format!("ALTER POLICY {} ON {}{using}{check}; -- {note}", quoted(&policy.name), relation.sql_name())
}

fn examine_functions(frame: &Frame<'_>, object: &str, expression: &PolicyExpression, found: &mut Vec<Finding>) {
    for function in expression.mentions.functions.iter().flat_map(|name| functions(frame, name)) {
        if function.volatility == "i" {
            let mend = format!("ALTER FUNCTION {} STABLE;", function.sql_name());
            let detail = format!("It calls {}.", function.full_name());
            found.push(Finding::of(Rule::PolicyImmutable, object).with_detail(detail).mended_by(mend));
        }
    }
}

/// Whether one of its expressions calls an IMMUTABLE function.
#[must_use]
pub fn is_frozen(frame: &Frame<'_>, policy: &Policy) -> bool {
    let texts = [&policy.using, &policy.check].into_iter().flatten();
    let expressions = texts.filter_map(|text| frame.expressions.get(text)?.as_ref().ok());
    let mut called = expressions.flat_map(|it| &it.mentions.functions).flat_map(|name| functions(frame, name));
    called.any(|function| function.volatility == "i")
}

/// What a policy is on, for its findings.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The table.
    pub relation: &'a Relation,
    /// Its tenant column.
    pub column: Option<&'a Column>,
    /// The policy.
    pub policy: &'a Policy,
    /// Which of its expressions.
    pub clause: Clause,
}

/// The findings about what a policy lets through.
pub fn report(frame: &Frame<'_>, place: Place<'_>, openings: &[Opening], found: &mut Vec<Finding>) {
    let mut told = BTreeSet::new();
    for opening in openings {
        let rule = match (place.clause, opening.rule()) {
            (Clause::Check, Rule::PolicyOpen) => Rule::CheckMissing,
            (_, rule) => rule,
        };
        if told.insert(rule) {
            found.push(finding_of(frame, place, rule, opening));
        }
    }
}

fn finding_of(frame: &Frame<'_>, place: Place<'_>, rule: Rule, opening: &Opening) -> Finding {
    let Place { relation, column, policy, clause } = place;
    let finding = Finding::of(rule, object_of(relation, policy));
    let (word, text) = match clause {
        Clause::Check => ("WITH CHECK", policy.check.as_ref().or(policy.using.as_ref())),
        Clause::Using => ("USING", policy.using.as_ref()),
    };
    let text = format!("{word} {}", text.map_or("(true)", String::as_str));
    let listed = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(", ");
    let dropped = format!("DROP POLICY {} ON {};", quoted(&policy.name), relation.sql_name());
    let altered = |note: &str| rewritten(frame, relation, policy, column, note);
    match rule {
        Rule::PolicyIdentity => {
            let is_own = opening.names.iter().any(|name| frame.roles.contains(name));
            let severity = if is_own || opening.names.is_empty() { Severity::Critical } else { Severity::High };
            let who = if is_own { "The role of the tenants' statements is let through. " } else { "" };
            let note = "give that role a policy of its own, with CREATE POLICY … TO role";
            finding.at(severity).with_detail(format!("{who}{text}")).mended_by(altered(note))
        }
        Rule::PolicySwitch => {
            let detail = format!("The setting {} opens it: {text}", listed(&opening.switches));
            let mend = format!("{dropped} -- and give bypasses a role of their own, with CREATE POLICY … TO that role");
            finding.with_detail(detail).mended_by(mend)
        }
        Rule::PolicyOtherSetting => {
            let detail = format!("It compares with {}: {text}", listed(&opening.foreign));
            finding.with_detail(detail).mended_by(altered("or name the other setting in [scope.settings]"))
        }
        Rule::PolicyShared => finding
            .at(if clause == Clause::Check { Severity::High } else { Severity::Medium })
            .with_detail(text)
            .mended_by(altered("and put shared rows into a table of their own, or justify them in the exceptions")),
        Rule::PolicyUnset => finding.with_detail(text).mended_by(altered("without the part for an empty setting")),
        _ => finding.with_detail(text).mended_by(format!("{dropped} -- or compare the tenant column in it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::policy_expression;
    use crate::guard::{Lists, Mode, PolicySettings, Sides};

    fn rules_of(text: &str) -> Vec<Rule> {
        let function = |name: &str, settings: &[&str]| Function {
            schema: "app".into(),
            name: name.into(),
            settings: settings.iter().map(|name| (*name).to_owned()).collect(),
            ..Function::default()
        };
        let catalogue = Catalogue {
            functions: vec![function("current_tenant", &["app.tenant_id"]), function("whoever", &["app.other"])],
            ..Catalogue::default()
        };
        let (scope, guarded) = (
            BTreeSet::from(["app.tenant_id".to_owned()]),
            BTreeSet::from([("public".to_owned(), "orders".to_owned())]),
        );
        let expressions = Expressions::new();
        let frame = Frame {
            catalogue: &catalogue,
            scope: &scope,
            setting: "app.tenant_id",
            guarded: &guarded,
            roles: &[],
            policies: &[],
            expressions: &expressions,
        };
        let condition = policy_expression(text).unwrap().condition;
        openings(&frame, &BTreeSet::from(["tenant_id".to_owned()]), &condition).iter().map(Opening::rule).collect()
    }

    const OWN: &str = "tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid";

    #[test]
    fn what_compares_with_the_tenant_is_closed() {
        for closed in [
            OWN,
            "tenant_id = (SELECT app.current_tenant())",
            "tenant_id = (SELECT tenantgate.tenant_id())",
            "tenant_id = ANY (string_to_array(current_setting('app.tenant_id'), ',')::uuid[])",
            "EXISTS (SELECT 1 FROM public.orders o WHERE o.id = order_id)",
            "order_id IN (SELECT id FROM public.orders)",
            "false",
            "tenant_id = NULL",
            &format!("deleted_at IS NULL AND {OWN}"),
            &format!("({OWN} AND a) OR ({OWN} AND b)"),
        ] {
            assert_eq!(rules_of(closed), [], "{closed}");
        }
    }

    #[test]
    fn every_way_around_the_tenant_is_told_by_its_kind() {
        for (open, rule) in [
            ("true", Rule::PolicyOpen),
            ("deleted_at IS NULL", Rule::PolicyOpen),
            ("tenant_id IS NOT NULL", Rule::PolicyOpen),
            ("tenant_id = tenant_id", Rule::PolicyOpen),
            ("tenant_id::varchar(1) = current_setting('app.tenant_id')::varchar(1)", Rule::PolicyOpen),
            ("tenant_id = COALESCE(current_setting('app.tenant_id', true)::uuid, tenant_id)", Rule::PolicyOpen),
            ("tenant_id <> current_setting('app.tenant_id')::uuid", Rule::PolicyOpen),
            ("current_setting('app.tenant_id') <> ''", Rule::PolicyOpen),
            ("NOT (tenant_id = current_setting('app.tenant_id')::uuid)", Rule::PolicyOpen),
            ("EXISTS (SELECT 1 FROM public.countries)", Rule::PolicyOpen),
            ("current_user = 'postgres' AND current_setting('app.tenant_id', true) = ''", Rule::PolicyIdentity),
            ("pg_has_role('boss', 'member')", Rule::PolicyIdentity),
            ("current_setting('app.bypass', true) = 'true'", Rule::PolicySwitch),
            ("COALESCE(current_setting('app.bypass', true), 'off')::boolean", Rule::PolicySwitch),
            ("current_setting('app.tenant_id', true) = ''", Rule::PolicyUnset),
            ("NULLIF(current_setting('app.tenant_id', true), '') IS NULL", Rule::PolicyUnset),
            ("tenant_id IS NULL", Rule::PolicyShared),
            ("tenant_id = '00000000-0000-0000-0000-000000000000'::uuid", Rule::PolicyShared),
            ("tenant_id = current_setting('app.other')::uuid", Rule::PolicyOtherSetting),
            ("tenant_id = app.whoever()", Rule::PolicyOtherSetting),
            ("tenant_id = left(current_setting('app.tenant_id'), 1)", Rule::PolicyOtherSetting),
            ("tenant_id = substr(current_setting('app.tenant_id') || 'b', 2)", Rule::PolicyOtherSetting),
            (
                "tenant_id = CASE WHEN current_setting('app.tenant_id') = 'a' THEN 'b' ELSE 'c' END",
                Rule::PolicyOtherSetting,
            ),
            (
                "tenant_id = ANY (string_to_array(current_setting('app.tenant_id') || ',b', ','))",
                Rule::PolicyOtherSetting,
            ),
            (
                "tenant_id = (SELECT v FROM public.countries WHERE v > current_setting('app.tenant_id') LIMIT 1)",
                Rule::PolicyOtherSetting,
            ),
            (
                "tenant_id = COALESCE((SELECT v FROM public.countries m WHERE m.v = tenant_id), \
                 current_setting('app.tenant_id'))",
                Rule::PolicyOtherSetting,
            ),
            (
                "EXISTS (SELECT 1 FROM public.countries m WHERE m.v = current_setting('app.tenant_id'))",
                Rule::PolicyOpen,
            ),
        ] {
            assert_eq!(rules_of(open), [rule], "{open}");
            assert_eq!(rules_of(&format!("{OWN} OR ({open})")), [rule], "{open}");
            assert_eq!(rules_of(&format!("{OWN} AND ({open})")), [], "{open}");
        }
    }

    #[test]
    fn a_setting_that_tenants_may_set_is_no_hindrance() {
        let lists = |allowed: &[&str]| Lists {
            settings: Sides { allowed: allowed.iter().map(|name| (*name).to_owned()).collect(), denied: Vec::new() },
            ..Lists::default()
        };
        let policy = |lists, mode| GuardPolicy::new(&PolicySettings { lists, mode, ..PolicySettings::default() });
        let switch = Opening { switches: BTreeSet::from(["app.bypass".to_owned()]), ..Opening::default() };
        for (policies, rule) in [
            (vec![], Rule::PolicySwitch),
            (vec![policy(lists(&["app.other"]), Mode::Enforce)], Rule::PolicySwitch),
            (vec![policy(lists(&["app.bypass"]), Mode::Enforce)], Rule::PolicyOpen),
            (vec![policy(lists(&["app.*"]), Mode::Enforce)], Rule::PolicyOpen),
            (vec![policy(lists(&[]), Mode::Enforce), policy(lists(&[]), Mode::Observe)], Rule::PolicyOpen),
        ] {
            assert_eq!(switch.clone().behind(&policies).rule(), rule, "{policies:?}");
        }
    }

    #[test]
    fn ways_that_multiply_stay_few() {
        let part = "(a = 1 OR b = 2 OR current_user = 'x')";
        let ways = rules_of(&[part; 12].join(" AND "));
        assert!(!ways.is_empty() && ways.len() <= WAYS_MAX, "{}", ways.len());
    }
}
