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
use crate::guard::policy_expression;

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
