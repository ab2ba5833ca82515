//! Looking at a database: does its schema keep tenants apart?
//!
//! ```text
//! queries ── (driver::inspect) ──► rows ── Catalogue ──► judge ──► Report ──► exceptions ──► render
//!                                                 policy texts ── guard::policy_expression ──┘
//! ```
//!
//! Owns: the catalogue's SQL, facts, rules, findings, how a report is written. Does not own: connections, files, and
//! what is done about a report (`cli::check`, `driver`).

mod exceptions;
pub mod facts;
mod finding;
mod judge;
mod policies;
mod probe;
pub mod queries;
mod reach;
mod releases;
mod render;
mod rule;
mod schema;
mod settings;
mod tables;

pub use exceptions::{Exceptions, ExceptionsFault};
pub use finding::{Coverage, CoveredTable, Excused, Finding, Report, TableName};
pub use judge::{Asked, judge};
pub use probe::{Outcome, Probe, ProbeStep, judge_outcomes, steps};
pub use render::{Format, as_json, as_sarif, as_text};
pub use rule::{Rule, RuleRow, Severity};
pub use settings::{CheckSettings, OnGap};
