//! Probes: does the database behave as its catalogue promises?
//!
//! As the application's role and in transactions that are rolled back, whatever comes of them. Row-level security is
//! checked before NOT NULL and all other constraints, so that a row with nothing but a tenant tells enough: 42501 is a
//! refusal by a policy (or for want of a privilege), any other constraint's error means that policies let it through.
//!
//! Owns: the statements, and what their outcomes mean. Does not own: sending them (`driver::inspect`).

use super::facts::{literal, quoted};
use super::finding::{CoveredTable, Finding};
use super::rule::Rule;

/// What a probe asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeStep {
    /// Rows of anybody, without a tenant.
    UnscopedRows,
    /// Rows of others, as one tenant.
    ForeignRows,
    /// Writing another's row, as one tenant.
    ForeignWrite,
}

/// One statement to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The table.
    pub table: String,
    /// What it asks.
    pub step: ProbeStep,
    /// The statement; a count comes back, or nothing.
    pub sql: String,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The rows counted (0 or 1), or written.
    Rows(u64),
    /// An error: SQLSTATE and message.
    Error(String, String),
}

/// The probes of covered tables: what is tried without a tenant, and what as `tenants[0]`.
#[must_use]
pub fn steps(tables: &[CoveredTable], tenants: [&str; 2]) -> (Vec<Probe>, Vec<Probe>) {
    let probe =
        |table: &CoveredTable, step, sql| Probe { table: format!("{}.{}", table.name.0, table.name.1), step, sql };
    let name = |table: &CoveredTable| format!("{}.{}", quoted(&table.name.0), quoted(&table.name.1));
    let unscoped = tables.iter().map(|table| {
        let sql = format!("SELECT pg_catalog.count(*) FROM (SELECT FROM {} LIMIT 1) q", name(table));
        probe(table, ProbeStep::UnscopedRows, sql)
    });
    let scoped = tables.iter().flat_map(|table| {
        let (name, column) = (name(table), quoted(&table.column));
        let (own, other) = (literal(tenants[0]), literal(tenants[1]));
        let read = format!(
            "SELECT pg_catalog.count(*) FROM (SELECT FROM {name} WHERE {column}::pg_catalog.text <> {own} LIMIT 1) q"
        );
        let write = format!("INSERT INTO {name} ({column}) VALUES ({other})");
        [probe(table, ProbeStep::ForeignRows, read), probe(table, ProbeStep::ForeignWrite, write)]
    });
    (unscoped.collect(), scoped.collect())
}

/// SQLSTATE of refusals by policies and for want of privileges.
const REFUSED: &str = "42501";
/// Classes of errors that come after policies have let a row through: integrity constraints.
const CONSTRAINT_CLASS: &str = "23";
/// The statement took too long.
const CANCELLED: &str = "57014";

/// What outcomes mean.
pub fn judge_outcomes(outcomes: &[(Probe, Outcome)], found: &mut Vec<Finding>) {
    for (probe, outcome) in outcomes {
        let finding = match (probe.step, outcome) {
            (ProbeStep::ForeignRows, Outcome::Rows(1..)) => Some((Rule::ProbeForeignRows, String::new())),
            (ProbeStep::UnscopedRows, Outcome::Rows(1..)) => Some((Rule::ProbeUnscopedRows, String::new())),
            (ProbeStep::ForeignWrite, Outcome::Rows(_)) => {
                Some((Rule::ProbeForeignWrite, "The row was written, and rolled back.".to_owned()))
            }
            (ProbeStep::ForeignWrite, Outcome::Error(state, message)) if state.starts_with(CONSTRAINT_CLASS) => {
                Some((Rule::ProbeForeignWrite, format!("Only a constraint refused it: {message}")))
            }
            (_, Outcome::Error(state, _)) if state == REFUSED => None,
            // Without a tenant an error is what is wanted.
            (ProbeStep::UnscopedRows, Outcome::Error(state, _)) if state != CANCELLED => None,
            (_, Outcome::Error(state, message)) => Some((Rule::ProbeFailed, format!("{state}: {message}"))),
            (ProbeStep::ForeignRows | ProbeStep::UnscopedRows, Outcome::Rows(0)) => None,
        };
        if let Some((rule, detail)) = finding {
            found.push(
                Finding::of(rule, probe.table.clone())
                    .with_detail(detail)
                    .mended_by(format!("-- tried: {}", probe.sql)),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_means_what_postgresql_means_by_it() {
        let judged = |step, outcome: Outcome| {
            let mut found = Vec::new();
            let probe = Probe { table: "public.t".into(), step, sql: String::new() };
            judge_outcomes(&[(probe, outcome)], &mut found);
            found.first().map(|finding| finding.rule)
        };
        let error = |state: &str| Outcome::Error(state.into(), String::new());
        use ProbeStep::{ForeignRows, ForeignWrite, UnscopedRows};
        for (step, outcome, rule) in [
            (ForeignRows, Outcome::Rows(0), None),
            (ForeignRows, Outcome::Rows(1), Some(Rule::ProbeForeignRows)),
            (ForeignRows, error("57014"), Some(Rule::ProbeFailed)),
            (UnscopedRows, Outcome::Rows(1), Some(Rule::ProbeUnscopedRows)),
            (UnscopedRows, error("22P02"), None),
            (UnscopedRows, error("57014"), Some(Rule::ProbeFailed)),
            (ForeignWrite, error("42501"), None),
            (ForeignWrite, error("23502"), Some(Rule::ProbeForeignWrite)),
            (ForeignWrite, Outcome::Rows(1), Some(Rule::ProbeForeignWrite)),
            (ForeignWrite, error("P0001"), Some(Rule::ProbeFailed)),
        ] {
            assert_eq!(judged(step, outcome.clone()), rule, "{step:?} {outcome:?}");
        }
    }
}
