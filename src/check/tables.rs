//! Which tables hold tenants' rows, and whether policies keep tenants apart there.
//!
//! Owns: what a tenant table is, coverage, and the findings about row-level security of tables. Does not own: what a
//! condition lets through (`policies`), keys and privileges (`schema`).

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{Catalogue, Column, Oid, Policy, Relation, Role, quoted};
use super::finding::Finding;
use super::policies::{self, Clause, Frame, Judged, Opening, Place};
use super::reach::Reach;
use super::rule::{Rule, Severity};
use crate::guard::{Condition, OperandKind};

/// A role whose statements are tenants'.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    /// It.
    pub role: &'a Role,
    /// What it can become.
    pub reach: Reach,
}

impl Subject<'_> {
    /// Row-level security does not apply to it.
    #[must_use]
    pub const fn is_above(&self) -> bool {
        self.role.superuser || self.role.bypassrls
    }
}

/// A table with rows of tenants.
#[derive(Clone, Debug)]
pub struct TenantTable<'a> {
    /// It.
    pub relation: &'a Relation,
    /// Its tenant column; none where its rows belong to tenants by a reference.
    pub column: Option<&'a Column>,
    /// Whether it counts: partitions and children are looked at, and not counted.
    pub is_counted: bool,
}

impl TenantTable<'_> {
    /// The tenant column's name, as a set of one or none.
    #[must_use]
    pub fn columns(&self) -> BTreeSet<String> {
        self.column.iter().map(|column| column.name.clone()).collect()
    }

    /// The tenant column's number.
    #[must_use]
    pub fn number(&self) -> Option<i16> {
        self.column.map(|column| column.number)
    }
}

/// Names of columns that hold a tenant: those that are configured, and per table those that its policies compare with
/// the tenant. A compared column that is no primary key by itself is one wherever it occurs.
#[derive(Clone, Debug, Default)]
pub struct TenantColumns {
    everywhere: BTreeSet<String>,
    of_table: BTreeMap<Oid, BTreeSet<String>>,
}

impl TenantColumns {
    /// From the configuration and the policies.
    #[must_use]
    pub fn find(frame: &Frame<'_>, configured: &[String]) -> Self {
        let mut columns = Self { everywhere: configured.iter().cloned().collect(), of_table: BTreeMap::new() };
        let numbered = frame.catalogue.columns_by_relation();
        for policy in &frame.catalogue.policies {
            for name in compared(frame, policy) {
                let of_table = numbered.get(&policy.relation).map(Vec::as_slice).unwrap_or_default();
                let number = of_table.iter().find(|column| column.name == name).map(|column| column.number);
                let is_key = frame.catalogue.constraints.iter().any(|key| {
                    key.relation == policy.relation && key.kind == "p" && key.columns.iter().copied().eq(number)
                });
                if !is_key {
                    columns.everywhere.insert(name.clone());
                }
                columns.of_table.entry(policy.relation).or_default().insert(name);
            }
        }
        columns
    }

    /// The tenant column of a table: what its policies compare first, then a configured name.
    #[must_use]
    pub fn of<'a>(&self, table: Oid, columns: &[&'a Column]) -> Option<&'a Column> {
        let own = self.of_table.get(&table);
        let is_own = |column: &&&Column| own.is_some_and(|names| names.contains(&column.name));
        let found = columns.iter().find(is_own);
        found.or_else(|| columns.iter().find(|column| self.everywhere.contains(&column.name))).copied()
    }
}

fn compared(frame: &Frame<'_>, policy: &Policy) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let texts = [&policy.using, &policy.check].into_iter().flatten();
    for expression in texts.filter_map(|text| frame.expressions.get(text)?.as_ref().ok()) {
        collect_compared(frame, &expression.condition, &mut found);
    }
    found
}

fn collect_compared(frame: &Frame<'_>, condition: &Condition, found: &mut BTreeSet<String>) {
    match condition {
        Condition::All(parts) | Condition::Any(parts) => {
            parts.iter().for_each(|part| collect_compared(frame, part, found));
        }
        Condition::Equal(left, right) => {
            for (one, other) in [(left, right), (right, left)] {
                if let OperandKind::Column(name) = &one.kind
                    && policies::asks_scope(frame, &other.mentions)
                {
                    found.insert(name.clone());
                }
            }
        }
        Condition::Not(_)
        | Condition::Constant(_)
        | Condition::IsNull(_)
        | Condition::Subquery(_)
        | Condition::Opaque(_) => {}
    }
}

/// Every table with rows of tenants: those with a tenant column, and those that reference one and have none.
#[must_use]
pub fn find<'a>(catalogue: &'a Catalogue, columns: &TenantColumns) -> Vec<TenantTable<'a>> {
    let numbered = catalogue.columns_by_relation();
    let none = Vec::new();
    let mut found: Vec<TenantTable<'a>> = Vec::new();
    let mut known: BTreeSet<Oid> = BTreeSet::new();
    for relation in catalogue.relations.iter().filter(|relation| relation.is_table()) {
        let of_table = numbered.get(&relation.oid).unwrap_or(&none);
        if let Some(column) = columns.of(relation.oid, of_table) {
            known.insert(relation.oid);
            found.push(TenantTable { relation, column: Some(column), is_counted: !relation.partition });
        }
    }
    loop {
        let is_child = |relation: &Relation| {
            let mut references =
                catalogue.constraints.iter().filter(|it| it.kind == "f" && it.relation == relation.oid);
            references.any(|it| it.references != relation.oid && known.contains(&it.references))
        };
        let tables = catalogue.relations.iter().filter(|relation| relation.is_table() && !relation.partition);
        let children: Vec<&Relation> =
            tables.filter(|relation| !known.contains(&relation.oid) && is_child(relation)).collect();
        if children.is_empty() {
            return found;
        }
        known.extend(children.iter().map(|relation| relation.oid));
        found.extend(children.into_iter().map(|relation| TenantTable { relation, column: None, is_counted: false }));
    }
}

/// Judges one table for every role; gives whether it is covered.
pub fn judge(frame: &Frame<'_>, subjects: &[Subject<'_>], table: &TenantTable<'_>, found: &mut Vec<Finding>) -> bool {
    let relation = table.relation;
    let is_reachable = is_reachable(subjects, relation);
    if relation.partition && !is_reachable {
        // As it should be: only its parent is used.
        return true;
    }
    if !relation.rls {
        found.push(without_rls(frame, subjects, table));
        return !is_reachable;
    }
    if !relation.force {
        found.push(without_force(subjects, relation));
    }
    if let Some(column) = table.column.filter(|column| !column.not_null) {
        let detail = format!("The column is {}.", column.name);
        let mend = format!("ALTER TABLE {} ALTER COLUMN {} SET NOT NULL;", relation.sql_name(), quoted(&column.name));
        found.push(Finding::of(Rule::TenantNullable, relation.full_name()).with_detail(detail).mended_by(mend));
    }
    let policies: Vec<(&Policy, Judged)> = frame
        .catalogue
        .policies
        .iter()
        .filter(|policy| policy.relation == relation.oid)
        .map(|policy| (policy, policies::judge(frame, &table.columns(), policy)))
        .collect();
    for (policy, _) in &policies {
        policies::examine(frame, relation, policy, table.column, found);
    }
    let covered = subjects.iter().map(|subject| judge_for(frame, subject, table, &policies, found));
    // Each of them is asked: all findings count.
    covered.filter(|is_covered| !is_covered).count() == 0 || !is_reachable
}

fn is_reachable(subjects: &[Subject<'_>], relation: &Relation) -> bool {
    const ROWS: [&str; 4] = ["SELECT", "INSERT", "UPDATE", "DELETE"];
    let grants = relation.grants.iter().any(|grant| grant.privileges.iter().any(|it| ROWS.contains(&&**it)));
    grants || subjects.iter().any(|subject| subject.reach.has.contains(&relation.owner))
}

fn without_rls(frame: &Frame<'_>, subjects: &[Subject<'_>], table: &TenantTable<'_>) -> Finding {
    let relation = table.relation;
    let name = relation.sql_name();
    let on = format!("ALTER TABLE {name} ENABLE ROW LEVEL SECURITY;\nALTER TABLE {name} FORCE ROW LEVEL SECURITY;");
    let (rule, mend) = match (table.column, relation.partition) {
        (_, true) => {
            let revoke = |subject: &Subject<'_>| format!("\nREVOKE ALL ON {name} FROM {};", quoted(&subject.role.name));
            (Rule::PartUncovered, format!("{on}{}", subjects.iter().map(revoke).collect::<String>()))
        }
        (Some(column), false) => {
            (Rule::RlsMissing, format!("{on}\nCREATE POLICY tenant ON {name} USING ({});", frame.own_rows(column)))
        }
        (None, false) => (
            Rule::ChildUncovered,
            format!("{on}\nCREATE POLICY tenant ON {name} USING ({});", parents_rows(frame.catalogue, relation)),
        ),
    };
    let finding = Finding::of(rule, relation.full_name()).mended_by(mend);
    if is_reachable(subjects, relation) {
        return finding;
    }
    finding.at(Severity::Low).with_detail("The examined roles have no privilege on its rows.")
}

/// The rows whose parent is visible, as SQL.
fn parents_rows(catalogue: &Catalogue, relation: &Relation) -> String {
    let reference = catalogue.constraints.iter().find(|it| it.kind == "f" && it.relation == relation.oid);
    let parent = reference.and_then(|key| catalogue.relations.iter().find(|it| it.oid == key.references));
    let (Some(reference), Some(parent)) = (reference, parent) else { return "<its parent is visible>".to_owned() };
    let name = |table: Oid, number: i16| {
        let found = catalogue.columns.iter().find(|it| it.relation == table && it.number == number);
        quoted(found.map_or("?", |column| &column.name))
    };
    let pairs: Vec<String> = reference
        .columns
        .iter()
        .zip(&reference.referenced)
        .map(|(own, theirs)| {
            let (own, theirs) = (name(relation.oid, *own), name(parent.oid, *theirs));
            format!("p.{theirs} = {}.{own}", quoted(&relation.name))
        })
        .collect();
    format!("EXISTS (SELECT FROM {} p WHERE {})", parent.sql_name(), pairs.join(" AND "))
}

fn without_force(subjects: &[Subject<'_>], relation: &Relation) -> Finding {
    let mend = format!("ALTER TABLE {} FORCE ROW LEVEL SECURITY;", relation.sql_name());
    let finding = Finding::of(Rule::RlsNotForced, relation.full_name()).mended_by(mend);
    match subjects.iter().find(|subject| subject.reach.has.contains(&relation.owner)) {
        Some(owner) => finding
            .at(Severity::Critical)
            .with_detail(format!("{} has the owner's rights: no policy applies to it.", owner.role.name)),
        None => finding,
    }
}

fn judge_for(
    frame: &Frame<'_>,
    subject: &Subject<'_>,
    table: &TenantTable<'_>,
    policies: &[(&Policy, Judged)],
    found: &mut Vec<Finding>,
) -> bool {
    let relation = table.relation;
    let is_for = |policy: &Policy| policy.roles.iter().any(|role| *role == 0 || subject.reach.has.contains(role));
    let mine: Vec<&(&Policy, Judged)> = policies.iter().filter(|(policy, _)| is_for(policy)).collect();
    let has_reading = mine.iter().any(|(policy, _)| policy.permissive && matches!(&*policy.command, "*" | "r"));
    let is_exempt = subject.is_above() || (!relation.force && subject.reach.has.contains(&relation.owner));
    if !has_reading {
        let detail = format!("No permissive policy for SELECT applies to {}.", subject.role.name);
        let own = table.column.map_or_else(|| parents_rows(frame.catalogue, relation), |column| frame.own_rows(column));
        let mend = format!("CREATE POLICY tenant ON {} USING ({own});", relation.sql_name());
        found.push(Finding::of(Rule::PolicyMissing, relation.full_name()).with_detail(detail).mended_by(mend));
    }
    let mut is_covered = has_reading && !is_exempt;
    for (policy, judged) in mine.iter().filter(|(policy, _)| policy.permissive) {
        is_covered &= !judged.is_unreadable && !policies::is_frozen(frame, policy);
        let using = judged.using.as_deref().filter(|_| policy.command != "a");
        let check = judged.check.as_deref().filter(|_| policy.check.is_some());
        for (clause, openings) in [(Clause::Using, using), (Clause::Check, check)] {
            let Some(openings) = openings else { continue };
            if openings.is_empty() || is_restricted(&mine, policy, clause) || judged.is_unreadable {
                continue;
            }
            let place = Place { relation, column: table.column, policy, clause };
            policies::report(frame, place, openings, found);
            is_covered &= !openings.iter().any(|opening| uncovers(frame, opening));
        }
    }
    is_covered
}

/// Whether nothing is left of the protection: the other holes need something that the proxy keeps from tenants, or
/// show rows of nobody.
fn uncovers(frame: &Frame<'_>, opening: &Opening) -> bool {
    let opening = opening.clone().behind(frame.policies);
    match opening.rule() {
        Rule::PolicyIdentity => opening.lets_in_always(frame.roles),
        Rule::PolicyShared | Rule::PolicySwitch | Rule::PolicyUnset => false,
        // `PolicyOpen`, `PolicyOtherSetting`, and whatever an opening may be one day.
        _ => true,
    }
}

/// Whether a restrictive policy asks for the tenant wherever this one counts.
fn is_restricted(mine: &[&(&Policy, Judged)], policy: &Policy, clause: Clause) -> bool {
    mine.iter().filter(|(other, _)| !other.permissive).any(|(other, judged)| {
        let reaches = other.command == "*" || other.command == policy.command;
        let openings = match clause {
            Clause::Using => &judged.using,
            Clause::Check => &judged.check,
        };
        reaches && !judged.is_unreadable && openings.as_ref().is_some_and(Vec::is_empty)
    })
}
