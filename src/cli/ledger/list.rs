//! `tenantgate ledger list`: the transactions of bypass and migration logins, as a table.
//!
//! Exit status: 0 if the ledger could be read, 2 if not.

use std::io::Write as _;

use clap::Args;
use comfy_table::{ContentArrangement, Table, presets};

use super::Source;
use crate::audit::{Reviewed, review};

/// Which transactions are shown.
#[derive(Debug, Args)]
pub struct ListArguments {
    #[command(flatten)]
    source: Source,
    /// Only those whose intent was written at or after this time (RFC 3339, 2026-11-23T09:00:00Z).
    #[arg(long, value_name = "TIME")]
    since: Option<jiff::Timestamp>,
    /// Only those of this login.
    #[arg(long, value_name = "LOGIN")]
    login: Option<String>,
    /// One JSON object a line instead of a table.
    #[arg(long)]
    json: bool,
}

/// Shows them.
pub fn list(arguments: &ListArguments) -> Result<(), String> {
    let mut text = String::new();
    for path in arguments.source.files()? {
        let bytes = std::fs::read(&path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        text.push_str(&String::from_utf8_lossy(&bytes));
    }
    let (rows, broken) = review(text.lines());
    let rows: Vec<Reviewed> = rows.into_iter().filter(|row| is_wanted(row, arguments)).collect();
    let shown = if arguments.json { as_json(&rows) } else { as_table(&rows) };
    writeln!(std::io::stdout().lock(), "{shown}").map_err(|error| format!("cannot write: {error}"))?;
    if broken > 0 {
        eprintln!("tenantgate: {broken} lines cannot be read");
    }
    Ok(())
}

fn is_wanted(row: &Reviewed, arguments: &ListArguments) -> bool {
    let is_late_enough = arguments.since.is_none_or(|since| {
        // A time that cannot be read is shown rather than hidden.
        row.at.parse::<jiff::Timestamp>().map_or(true, |at| at >= since)
    });
    is_late_enough && arguments.login.as_ref().is_none_or(|login| *login == row.login)
}

fn as_json(rows: &[Reviewed]) -> String {
    let line = |row: &Reviewed| serde_json::to_string(row).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"));
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn as_table(rows: &[Reviewed]) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(width());
    table.set_header([
        "time",
        "ended",
        "login",
        "address",
        "database",
        "preset",
        "role",
        "tenant",
        "reason",
        "result",
        "rows",
        "written",
        "tables",
        "statements",
    ]);
    for row in rows {
        let result = match (&row.result, &row.sqlstate) {
            (None, _) => "no outcome".to_owned(),
            (Some(result), None) => result.clone(),
            (Some(result), Some(sqlstate)) => format!("{result} ({sqlstate})"),
        };
        table.add_row([
            printable(&row.at),
            printable(row.ended_at.as_deref().unwrap_or("-")),
            printable(&row.login),
            printable(&row.address),
            // What was done to a tenant was done in no database, by no role.
            known(&row.database),
            known(&row.preset),
            known(&row.role),
            printable(row.tenant.as_deref().unwrap_or("-")),
            printable(row.reason.as_deref().unwrap_or("-")),
            printable(&result),
            row.rows_delivered.to_string(),
            row.rows_affected.to_string(),
            printable(&row.tables.join(", ")),
            printable(&statements(row)),
        ]);
    }
    table.to_string()
}

/// The terminal's, as the shell tells it.
fn width() -> u16 {
    const DEFAULT: u16 = 180;
    std::env::var("COLUMNS")
        .ok()
        .and_then(|columns| columns.parse().ok())
        .filter(|width| *width >= 80)
        .unwrap_or(DEFAULT)
}

/// The first few; the rest is counted.
fn statements(row: &Reviewed) -> String {
    const SHOWN_MAX: usize = 3;
    let mut text = row.statements.iter().take(SHOWN_MAX).cloned().collect::<Vec<_>>().join("; ");
    let more = row.statements_total.saturating_sub(SHOWN_MAX.min(row.statements.len()) as u64);
    if more > 0 {
        text.push_str(&format!("; and {more} more"));
    }
    text
}

/// What not every row has.
fn known(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { printable(text) }
}

/// A terminal must not be told what to do by a record.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
