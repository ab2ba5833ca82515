//! From a catalogue to a report.
//!
//! Owns: the order in which everything is looked at. Needs a deep stack: policies are parsed.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;

use super::facts::{Catalogue, Oid};
use super::finding::{Coverage, CoveredTable, Finding, Report};
use super::policies::{Expressions, Frame};
use super::reach::{self, Reach};
use super::releases;
use super::rule::Rule;
use super::schema::{self, Ground};
use super::tables::{self, Subject, TenantColumns, TenantTable};
use crate::guard::{Policy, policy_expression};

/// What is asked about a database.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Roles that tenants' statements run as.
    pub roles: Vec<String>,
    /// Columns that hold a tenant.
    pub tenant_columns: Vec<String>,
    /// Settings that the proxy sets to the tenant, lower case.
    pub scope_settings: BTreeSet<String>,
    /// The one of them that is the tenant and nothing else; empty where there is none.
    pub tenant_setting: String,
    /// Settings that bypasses set, lower case.
    pub bypass_settings: BTreeSet<String>,
    /// What tenants' logins may do.
    pub policies: Vec<Policy>,
    /// The day.
    pub today: Date,
}

/// Judges a database.
#[must_use]
pub fn judge(catalogue: &Catalogue, asked: &Asked) -> Report {
    let mut found = Vec::new();
    for (section, reason) in &catalogue.unread {
        found.push(Finding::of(Rule::Unread, section.words()).with_detail(reason.clone()));
    }
    let subjects = subjects(catalogue, asked, &mut found);
    let expressions = expressions(catalogue);
    let no_tables = BTreeSet::new();
    let mut frame = Frame {
        catalogue,
        scope: &asked.scope_settings,
        setting: &asked.tenant_setting,
        guarded: &no_tables,
        roles: &asked.roles,
        policies: &asked.policies,
        expressions: &expressions,
    };
    let tenant_tables = tables::find(catalogue, &TenantColumns::find(&frame, &asked.tenant_columns));
    let guarded = tenant_tables.iter().filter(|table| table.relation.rls);
    let guarded = guarded.map(|table| (table.relation.schema.clone(), table.relation.name.clone())).collect();
    frame.guarded = &guarded;
    let mut report = Report {
        database: catalogue.server.database.clone(),
        version: format!("{}.{}", catalogue.server.major(), catalogue.server.minor()),
        roles: asked.roles.clone(),
        ..Report::default()
    };
    cover(&frame, &subjects, &tenant_tables, &mut report, &mut found);
    let columns = catalogue.columns_by_relation();
    let by_oid: BTreeMap<Oid, TenantTable<'_>> =
        tenant_tables.into_iter().map(|table| (table.relation.oid, table)).collect();
    let ground = Ground { catalogue, subjects: &subjects, tables: &by_oid, columns: &columns };
    examine(&ground, asked, &mut report, &mut found);
    report.findings = found;
    report.sort();
    report
}

fn subjects<'a>(catalogue: &'a Catalogue, asked: &Asked, found: &mut Vec<Finding>) -> Vec<Subject<'a>> {
    let mut subjects = Vec::new();
    for name in &asked.roles {
        match catalogue.role(name) {
            Some(role) => subjects.push(Subject { role, reach: Reach::of(catalogue, role.oid) }),
            None => found.push(Finding::of(Rule::RoleMissing, format!("role {name}"))),
        }
    }
    subjects
}

fn expressions(catalogue: &Catalogue) -> Expressions {
    let texts = catalogue.policies.iter().flat_map(|policy| [&policy.using, &policy.check]).flatten();
    let distinct: BTreeSet<&String> = texts.collect();
    distinct.into_iter().map(|text| (text.clone(), policy_expression(text))).collect()
}

fn cover(
    frame: &Frame<'_>,
    subjects: &[Subject<'_>],
    tenant_tables: &[TenantTable<'_>],
    report: &mut Report,
    found: &mut Vec<Finding>,
) {
    let mut coverage = Coverage::default();
    for table in tenant_tables {
        let is_covered = tables::judge(frame, subjects, table, found) && !subjects.is_empty();
        let name = (table.relation.schema.clone(), table.relation.name.clone());
        if !table.relation.partition {
            report.tenant_tables.push((name.clone(), table.column.map(|column| column.name.clone())));
        }
        if table.is_counted {
            coverage.total += 1;
            coverage.covered += usize::from(is_covered);
        }
        if !is_covered {
            report.uncovered.insert(name);
        } else if let Some(column) = table.column.filter(|_| table.relation.rls) {
            report.covered.push(CoveredTable { name, column: column.name.clone() });
        }
    }
    report.coverage = coverage;
}

fn examine(ground: &Ground<'_>, asked: &Asked, report: &mut Report, found: &mut Vec<Finding>) {
    let owners: BTreeSet<Oid> = ground.tables.values().map(|table| table.relation.owner).collect();
    for subject in ground.subjects {
        reach::judge(ground.catalogue, subject.role, &subject.reach, &owners, found);
    }
    for table in ground.tables.values() {
        schema::keys(ground, table, found);
        schema::privileges(ground, table.relation, found);
    }
    schema::ownership(ground, found);
    schema::views(ground, found);
    report.executors = schema::functions(ground, found);
    schema::creation(ground, found);
    schema::publications(ground, found);
    let own = asked.scope_settings.union(&asked.bypass_settings).cloned().collect();
    schema::settings(ground, &own, found);
    releases::judge(&ground.catalogue.server, asked.today, found);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::facts::{Column, Grant, Membership, Policy, Relation, Role, Server};
    use crate::check::queries::Section;
    use crate::check::rule::Severity;
    use jiff::civil::date;

    const APP: Oid = 10;
    const OWNER: Oid = 11;
    const OTHER: Oid = 12;
    const OWN: &str = "(tenant_id = current_setting('app.tenant_id'::text, true))";

    fn table(oid: Oid, name: &str) -> Relation {
        let privileges = ["SELECT", "INSERT"].map(str::to_owned).to_vec();
        Relation {
            oid,
            schema: "public".into(),
            name: name.into(),
            kind: "r".into(),
            owner: OWNER,
            rls: true,
            force: true,
            grants: vec![Grant { role: APP, privileges }],
            ..Relation::default()
        }
    }

    fn column(relation: Oid) -> Column {
        Column { relation, number: 1, name: "tenant_id".into(), kind: "text".into(), not_null: true, made: false }
    }

    fn policy(relation: Oid, command: &str, using: &str) -> Policy {
        let (name, command, using) = ("p".to_owned(), command.to_owned(), Some(using.to_owned()));
        Policy { relation, name, permissive: true, roles: vec![0], command, using, check: None }
    }

    /// One table that is as it should be.
    fn good() -> Catalogue {
        let role = |oid, name: &str| Role { oid, name: name.into(), ..Role::default() };
        Catalogue {
            server: Server { version: 180_099, database: "d".into(), ..Server::default() },
            roles: vec![role(APP, "app"), role(OWNER, "owner"), role(OTHER, "other")],
            relations: vec![table(1, "t")],
            columns: vec![column(1)],
            policies: vec![policy(1, "*", OWN)],
            indexes: vec![crate::check::facts::Index {
                relation: 1,
                valid: true,
                columns: vec![1],
                ..crate::check::facts::Index::default()
            }],
            ..Catalogue::default()
        }
    }

    fn report(change: impl FnOnce(&mut Catalogue)) -> Report {
        let mut catalogue = good();
        change(&mut catalogue);
        let asked = Asked {
            roles: vec!["app".into()],
            tenant_columns: vec!["tenant_id".into()],
            scope_settings: BTreeSet::from(["app.tenant_id".to_owned()]),
            tenant_setting: "app.tenant_id".into(),
            bypass_settings: BTreeSet::new(),
            policies: Vec::new(),
            today: date(2026, 11, 23),
        };
        judge(&catalogue, &asked)
    }

    /// Codes in their order, and whether the one table is covered.
    fn judged(change: impl FnOnce(&mut Catalogue)) -> (Vec<(Rule, Severity)>, bool) {
        let report = report(change);
        let found = report.findings.iter().map(|finding| (finding.rule, finding.severity)).collect();
        assert_eq!(report.coverage.total, 1, "{:?}", report.findings);
        assert_eq!(report.uncovered.is_empty(), report.coverage.covered == 1);
        (found, report.coverage.covered == 1)
    }

    #[test]
    fn what_is_as_it_should_be_has_no_finding() {
        assert_eq!(judged(|_| {}), (vec![], true));
    }

    #[test]
    fn row_level_security_has_to_be_on_and_in_force_for_the_role() {
        let on = (Rule::RlsMissing, Severity::Critical);
        assert_eq!(judged(|it| it.relations[0].rls = false), (vec![on], false));
        let weak = (Rule::RlsNotForced, Severity::Medium);
        assert_eq!(judged(|it| it.relations[0].force = false), (vec![weak], true));
        // The owner's rights come by membership, too, and then nothing holds.
        let inherit = Membership { role: OWNER, member: APP, inherit: true, admin: false, set: false };
        let (found, is_covered) = judged(|it| {
            it.relations[0].force = false;
            it.memberships.push(inherit.clone());
        });
        assert!(found.contains(&(Rule::RlsNotForced, Severity::Critical)) && !is_covered, "{found:?}");
        // Forced, it holds; that the owner may turn it off is told.
        let (found, is_covered) = judged(|it| it.memberships.push(inherit));
        assert_eq!((found, is_covered), (vec![(Rule::RoleOwnsTable, Severity::High)], true));
        for change in [|role: &mut Role| role.superuser = true, |role: &mut Role| role.bypassrls = true] {
            assert!(!judged(|it| change(&mut it.roles[0])).1);
        }
    }

    #[test]
    fn only_policies_that_apply_to_the_role_count() {
        let missing = (Rule::PolicyMissing, Severity::Medium);
        assert_eq!(judged(|it| it.policies[0].roles = vec![OTHER]), (vec![missing], false));
        assert!(!judged(|it| it.policies[0].command = "a".into()).1, "nothing to read by");
        assert_eq!(judged(|it| it.policies[0].permissive = false), (vec![missing], false));
        let open = (Rule::PolicyOpen, Severity::Critical);
        assert_eq!(judged(|it| it.policies.push(policy(1, "*", "true"))), (vec![open], false));
        let others = |it: &mut Catalogue| it.policies.push(Policy { roles: vec![OTHER], ..policy(1, "*", "true") });
        assert_eq!(judged(others), (vec![], true));
        let inherit = Membership { role: OTHER, member: APP, inherit: true, admin: false, set: false };
        let mine = |it: &mut Catalogue| {
            others(it);
            it.memberships.push(inherit);
        };
        assert_eq!(judged(mine), (vec![open], false));
    }

    #[test]
    fn a_restrictive_policy_that_asks_for_the_tenant_closes_what_permissive_ones_open() {
        let restrict = |it: &mut Catalogue, command: &str| {
            it.policies[0] = policy(1, "*", "true");
            it.policies.push(Policy { permissive: false, ..policy(1, command, OWN) });
        };
        assert_eq!(judged(|it| restrict(it, "*")), (vec![], true));
        // For reading alone it does not stop a DELETE.
        assert_eq!(judged(|it| restrict(it, "r")), (vec![(Rule::PolicyOpen, Severity::Critical)], false));
    }

    #[test]
    fn what_may_be_written_is_judged_by_itself() {
        let open = (Rule::CheckMissing, Severity::Critical);
        assert_eq!(judged(|it| it.policies[0].check = Some("true".into())), (vec![open], false));
        let insert = Policy { using: None, check: Some("true".into()), ..policy(1, "a", "") };
        assert_eq!(judged(|it| it.policies.push(insert)), (vec![open], false));
        let unreadable = (Rule::PolicyUnreadable, Severity::High);
        assert_eq!(judged(|it| it.policies[0].check = Some("((".into())), (vec![unreadable], false));
    }

    #[test]
    fn a_table_that_the_role_cannot_touch_is_covered_and_told() {
        let change = |it: &mut Catalogue| {
            it.relations[0].rls = false;
            it.relations[0].grants.clear();
        };
        assert_eq!(judged(change), (vec![(Rule::RlsMissing, Severity::Low)], true));
    }

    #[test]
    fn partitions_matter_only_where_the_role_may_use_them() {
        let part = |granted: bool| {
            report(|it| {
                let mut part = Relation { rls: false, partition: true, ..table(2, "part") };
                if !granted {
                    part.grants.clear();
                }
                it.relations.push(part);
                it.columns.push(column(2));
            })
        };
        assert!(part(false).findings.is_empty() && part(false).uncovered.is_empty());
        let used = part(true);
        assert_eq!(used.findings[0].rule, Rule::PartUncovered);
        assert_eq!((used.coverage.covered, used.coverage.total, used.uncovered.len()), (1, 1, 1));
    }

    #[test]
    fn what_was_not_read_and_who_is_not_there_is_said() {
        let found = judged(|it| it.unread.push((Section::Functions, "42501".into())));
        assert_eq!(found.0, [(Rule::Unread, Severity::High)]);
        let (found, is_covered) = judged(|it| it.roles[0].name = "somebody".into());
        assert!(found.contains(&(Rule::RoleMissing, Severity::High)) && !is_covered, "{found:?}");
    }
}
