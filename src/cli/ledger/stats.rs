//! `tenantgate ledger stats`: sums by reason, actor, table and day.
//!
//! Exit status: 0 if the ledger could be read, 2 if not.

use clap::{Args, ValueEnum};
use serde_json::json;

use super::Source;
use super::filter::{FilterArguments, Format};
use super::lines;
use super::sheet::{Out, csv_cell, table};
use crate::audit::{Sum, Totals, escaped, legible, ranked};

/// By what is summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// The reason, as it was given.
    Reason,
    /// The login.
    Actor,
    /// The table.
    Table,
    /// The day, in UTC.
    Day,
}

impl By {
    const fn word(self) -> &'static str {
        match self {
            By::Reason => "reason",
            By::Actor => "actor",
            By::Table => "table",
            By::Day => "day",
        }
    }
}

/// What is summed.
#[derive(Debug, Args)]
pub struct StatsArguments {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    filter: FilterArguments,
    /// By what; without it by all four.
    #[arg(long, value_enum)]
    by: Option<By>,
    /// How it is written.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

const COLUMNS: [&str; 10] = [
    "by",
    "value",
    "acts",
    "committed",
    "failed",
    "unknown",
    "unreviewed",
    "rows_delivered",
    "rows_affected",
    "last_at",
];

/// Shows the sums.
pub fn run(arguments: &StatsArguments) -> Result<(), String> {
    let mut totals = Totals::default();
    lines::acts(&arguments.source.files()?, &arguments.filter.filter()?, &mut |act| {
        totals.add(&act);
        Ok(())
    })?;
    let mut rows: Vec<[String; COLUMNS.len()]> = vec![row("all", "", &totals.all)];
    for (group, sums) in totals.groups() {
        if arguments.by.is_none_or(|by| by.word() == group) {
            rows.extend(ranked(group, sums).into_iter().map(|(value, sum)| row(group, value, sum)));
        }
    }
    let mut out = Out::new(Box::new(std::io::stdout()));
    match arguments.format {
        Format::Table => {
            let mut shown = table(&COLUMNS);
            for row in &rows {
                shown.add_row(row.iter().map(|cell| legible(cell)));
            }
            out.line(&shown.to_string())?;
        }
        Format::Csv => {
            out.line(&COLUMNS.join(","))?;
            rows.iter().try_for_each(|row| out.line(&row.each_ref().map(|cell| csv_cell(cell)).join(",")))?;
        }
        Format::Json => {
            out.line(&json!({"by": "all", "value": null, "sum": totals.all}).to_string())?;
            for (group, sums) in totals.groups() {
                if arguments.by.is_none_or(|by| by.word() == group) {
                    ranked(group, sums).into_iter().try_for_each(|(value, sum)| {
                        out.line(&escaped(&json!({"by": group, "value": value, "sum": sum}).to_string()))
                    })?;
                }
            }
        }
    }
    out.flush()
}

fn row(group: &str, value: &str, sum: &Sum) -> [String; COLUMNS.len()] {
    [
        group.to_owned(),
        value.to_owned(),
        sum.acts.to_string(),
        sum.committed.to_string(),
        sum.failed.to_string(),
        sum.unknown.to_string(),
        sum.unreviewed.to_string(),
        sum.rows_delivered.to_string(),
        sum.rows_affected.to_string(),
        sum.last_at.clone(),
    ]
}
