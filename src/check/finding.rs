//! One finding, and the report that holds all of them.
//!
//! Owns: what a finding says, order, thresholds. Does not own: how it is written (`render`), who may excuse it
//! (`exceptions`).

use std::collections::BTreeSet;

use serde::Serialize;

use super::rule::{Rule, Severity};

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which rule it breaks.
    pub rule: Rule,
    /// How bad it is here.
    pub severity: Severity,
    /// What it is about: `schema.table`, `schema.table/policy`, `role name` …
    pub object: String,
    /// What is wrong, in one sentence.
    pub message: String,
    /// More about it; may be empty.
    pub detail: String,
    /// SQL that mends it, or a first step that a person has to fill in (then a comment says so).
    pub mend: String,
}

impl Finding {
    /// With the rule's own severity and sentence.
    #[must_use]
    pub fn of(rule: Rule, object: impl Into<String>) -> Self {
        let row = rule.row();
        Self {
            rule,
            severity: row.severity,
            object: object.into(),
            message: row.what.to_owned(),
            detail: String::new(),
            mend: String::new(),
        }
    }

    /// With a sentence of its own.
    #[must_use]
    pub fn saying(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    /// With more about it.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// With what mends it.
    #[must_use]
    pub fn mended_by(mut self, sql: impl Into<String>) -> Self {
        self.mend = sql.into();
        self
    }

    /// With another severity.
    #[must_use]
    pub const fn at(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }
}

/// A table by schema and name.
pub type TableName = (String, String);

/// How many tenant tables are safe.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// Tables with a tenant column on which policies hold for every examined role.
    pub covered: usize,
    /// Tables with a tenant column.
    pub total: usize,
}

impl std::fmt::Display for Coverage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} tenant tables covered", self.covered, self.total)
    }
}

/// A finding that somebody has justified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excused {
    /// It.
    pub finding: Finding,
    /// Why it may stay.
    pub reason: String,
    /// Until when (a date); empty: for ever.
    pub until: String,
}

/// What was found in one database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The database, by its name on the server.
    pub database: String,
    /// `15.20`
    pub version: String,
    /// The examined roles.
    pub roles: Vec<String>,
    /// How many tables are safe.
    pub coverage: Coverage,
    /// Findings, the worst first.
    pub findings: Vec<Finding>,
    /// Those that are justified.
    pub excused: Vec<Excused>,
    /// Tables that hold tenants' rows and keep nobody out.
    pub uncovered: BTreeSet<TableName>,
    /// Functions that run strings, or run with others' rights: schema and name.
    pub executors: BTreeSet<TableName>,
    /// The covered tables with their tenant columns, for probes.
    pub covered: Vec<CoveredTable>,
    /// All tables that hold tenants' rows, but partitions; without a column those that belong to tenants by a reference.
    pub tenant_tables: Vec<(TableName, Option<String>)>,
}

/// A table that policies protect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoveredTable {
    /// Its name.
    pub name: TableName,
    /// Its tenant column.
    pub column: String,
}

impl Report {
    /// Puts findings into their order: the worst first, then by code and object; none twice.
    pub fn sort(&mut self) {
        let key = |finding: &Finding| {
            (std::cmp::Reverse(finding.severity), finding.rule, finding.object.clone(), finding.detail.clone())
        };
        self.findings.sort_by_key(key);
        self.findings.dedup();
    }

    /// The worst that was found.
    #[must_use]
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.severity).max()
    }

    /// Findings of a severity.
    pub fn of_severity(&self, severity: Severity) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(move |finding| finding.severity == severity)
    }
}
