//! Acts as a table, as lines of JSON or as comma-separated values.
//!
//! JSON and CSV are written as acts come; a table is of so many at most, the last ones.

use std::collections::VecDeque;
use std::io::{self, BufWriter, Write};

use comfy_table::{ContentArrangement, Table, presets};

use super::filter::Format;
use crate::audit::{Deed, escaped, legible};

/// Rows of a table, unless more are asked for: more than anybody reads, little memory.
const ROWS_DEFAULT: usize = 1_000;

/// Columns of comma-separated values.
const COLUMNS: [&str; 32] = [
    "seq",
    "kind",
    "id",
    "at",
    "ended_at",
    "duration_us",
    "login",
    "method",
    "on_behalf_of",
    "address",
    "application",
    "database",
    "preset",
    "role",
    "tenant",
    "reason",
    "ticket",
    "emergency",
    "result",
    "sqlstate",
    "code",
    "reconciled",
    "xid",
    "rows_delivered",
    "rows_affected",
    "tables",
    "statements_total",
    "statements",
    "truncated",
    "reviews",
    "reviewer",
    "verdict",
];

/// Where acts go.
pub struct Sheet {
    format: Format,
    limit: Option<usize>,
    /// Whether nobody has asked for the limit.
    is_limited_unasked: bool,
    kept: VecDeque<Deed>,
    left_out: u64,
    out: Out,
}

/// Written to, until nobody reads any more.
pub struct Out {
    writer: BufWriter<Box<dyn Write>>,
    /// Whether the reader has gone: then all is done.
    pub is_closed: bool,
}

impl Out {
    /// To somewhere.
    pub fn new(writer: Box<dyn Write>) -> Self {
        Self { writer: BufWriter::new(writer), is_closed: false }
    }

    /// A line.
    pub fn line(&mut self, text: &str) -> Result<(), String> {
        let written = writeln!(self.writer, "{text}");
        self.noted(written)
    }

    /// All so far.
    pub fn flush(&mut self) -> Result<(), String> {
        let flushed = self.writer.flush();
        self.noted(flushed)
    }

    /// Whoever reads the first lines only (`head`) has seen what they wanted.
    fn noted(&mut self, result: io::Result<()>) -> Result<(), String> {
        match result {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.is_closed = true;
                Err(String::new())
            }
            Err(error) => Err(format!("cannot write: {error}")),
        }
    }
}

impl Sheet {
    /// In a form; of the last `limit` acts.
    pub fn new(format: Format, limit: Option<usize>, out: Out) -> Result<Self, String> {
        let is_limited_unasked = limit.is_none();
        let limit = limit.or((format == Format::Table).then_some(ROWS_DEFAULT));
        let mut sheet = Self { format, limit, is_limited_unasked, kept: VecDeque::new(), left_out: 0, out };
        if format == Format::Csv {
            sheet.out.line(&COLUMNS.join(","))?;
        }
        Ok(sheet)
    }

    /// One more act.
    pub fn put(&mut self, act: Deed) -> Result<(), String> {
        let Some(limit) = self.limit else { return self.write(&act) };
        self.kept.push_back(act);
        if self.kept.len() > limit {
            self.kept.pop_front();
            self.left_out += 1;
        }
        Ok(())
    }

    /// That was the last one.
    pub fn end(mut self) -> Result<(), String> {
        let mut kept: Vec<Deed> = std::mem::take(&mut self.kept).into();
        kept.sort_by_key(|act| act.seq);
        if self.format == Format::Table {
            self.out.line(&as_table(&kept))?;
        } else {
            kept.iter().try_for_each(|act| self.write(act))?;
        }
        self.out.flush()?;
        if self.left_out > 0 && self.is_limited_unasked {
            eprintln!("tenantgate: {} older ones are left out: see --limit and the filters", self.left_out);
        }
        Ok(())
    }

    fn write(&mut self, act: &Deed) -> Result<(), String> {
        match self.format {
            Format::Json => self.out.line(&as_json(act)?),
            Format::Csv => self.out.line(&as_csv(act)),
            Format::Table => self.out.line(&as_line(act)),
        }
    }

    /// An act by itself, at once: for those that come one by one.
    pub fn say(&mut self, act: &Deed) -> Result<(), String> {
        self.write(act)?;
        self.out.flush()
    }
}

fn as_json(act: &Deed) -> Result<String, String> {
    let json = serde_json::to_string(act).map_err(|error| format!("{} cannot be written: {error}", act.id))?;
    Ok(escaped(&json))
}

/// One act in a line for people.
fn as_line(act: &Deed) -> String {
    let tables = if act.tables.is_empty() { "-".to_owned() } else { act.tables.join(",") };
    let reason = act.reason.as_deref().unwrap_or("-");
    let who = if act.login.is_empty() { "-" } else { &act.login };
    let text = format!(
        "{}  {:<11}  {who}  {}  {} read, {} written  {tables}  {reason:?}  {}",
        act.at,
        act.kind,
        act.outcome(),
        act.rows_delivered,
        act.rows_affected,
        act.id
    );
    legible(&text)
}

fn as_csv(act: &Deed) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let cells: [String; COLUMNS.len()] = [
        act.seq.to_string(),
        act.kind.clone(),
        act.id.clone(),
        act.at.clone(),
        text(&act.ended_at),
        act.duration_us.map(|it| it.to_string()).unwrap_or_default(),
        act.login.clone(),
        text(&act.method),
        text(&act.on_behalf_of),
        act.address.clone(),
        text(&act.application),
        act.database.clone(),
        act.preset.clone(),
        act.role.clone(),
        text(&act.tenant),
        text(&act.reason),
        text(&act.ticket),
        text(&act.emergency),
        text(&act.result),
        text(&act.sqlstate),
        text(&act.code),
        text(&act.reconciled),
        text(&act.xid),
        act.rows_delivered.to_string(),
        act.rows_affected.to_string(),
        act.tables.join("; "),
        act.statements_total.to_string(),
        act.statements.join("; "),
        act.truncated.to_string(),
        act.reviews.to_string(),
        text(&act.reviewer),
        text(&act.verdict),
    ];
    cells.map(|cell| csv_cell(&cell)).join(",")
}

/// A cell of comma-separated values. Reasons and names are other people's words: what a spreadsheet would take for a formula is
/// marked as text, wherever it would see a cell begin (many take semicolons for the end of one), and what is not legible stands as
/// JSON escapes it, line breaks, too.
pub fn csv_cell(text: &str) -> String {
    let mut cell = String::with_capacity(text.len());
    let (mut is_first, mut is_quoted) = (true, false);
    for c in escaped(text).chars() {
        is_quoted |= matches!(c, '"' | ',' | ';');
        if is_first && begins_formula(c) {
            cell.push('\'');
        }
        is_first = c == ';' || (is_first && c.is_whitespace());
        cell.push(c);
    }
    if is_quoted { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell }
}

/// In any width of letters.
const fn begins_formula(c: char) -> bool {
    matches!(c, '=' | '+' | '-' | '@' | '\u{ff1d}' | '\u{ff0b}' | '\u{ff0d}' | '\u{ff20}' | '\u{2212}')
}

/// A table in the terminal's width.
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(width()).set_header(header);
    table
}

fn as_table(acts: &[Deed]) -> String {
    let mut table = table(&[
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
    for act in acts {
        table.add_row([
            legible(&act.at),
            legible(act.ended_at.as_deref().unwrap_or("-")),
            known(&act.login),
            known(&act.address),
            // What was done to a tenant was done in no database, by no role.
            known(&act.database),
            known(&act.preset),
            known(&act.role),
            legible(act.tenant.as_deref().unwrap_or("-")),
            legible(act.reason.as_deref().unwrap_or("-")),
            legible(&act.outcome()),
            act.rows_delivered.to_string(),
            act.rows_affected.to_string(),
            legible(&act.tables.join(", ")),
            legible(&statements(act)),
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
fn statements(act: &Deed) -> String {
    const SHOWN_MAX: usize = 3;
    let mut text = act.statements.iter().take(SHOWN_MAX).cloned().collect::<Vec<_>>().join("; ");
    let more = act.statements_total.saturating_sub(SHOWN_MAX.min(act.statements.len()) as u64);
    if more > 0 {
        text.push_str(&format!("; and {more} more"));
    }
    text
}

/// What not every act has.
pub fn known(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { legible(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_of_csv_are_quoted_and_no_formulas() {
        for (text, wanted) in [
            ("plain", "plain"),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("=1+1", "'=1+1"),
            ("@x,\"", "\"'@x,\"\"\""),
            ("-3", "'-3"),
            ("  =1", "  '=1"),
            ("\u{ff1d}1", "'\u{ff1d}1"),
            ("a; =b;+c;d", "\"a; '=b;'+c;d\""),
            ("a-b=c", "a-b=c"),
            // Escaped, it begins no cell any more.
            ("\t=1\r\n+2", "\\u0009=1\\u000d\\u000a+2"),
            ("a\u{1b}[31m\u{202e}\u{200b}", "a\\u001b[31m\\u202e\\u200b"),
        ] {
            assert_eq!(csv_cell(text), wanted);
        }
        let act = Deed { reason: Some("=cmd".into()), tables: vec!["a".into(), "b".into()], ..Deed::default() };
        let line = as_csv(&act);
        assert!(line.contains(",'=cmd,") && line.contains(",\"a; b\","), "{line}");
        assert_eq!(line.split(',').count(), COLUMNS.len());
    }

    #[test]
    fn nothing_steers_the_terminal() {
        let act =
            Deed { login: "\u{7}".into(), reason: Some("\u{1b}c\u{9b}\u{202e}\u{200b}".into()), ..Deed::default() };
        let texts = [as_line(&act), as_json(&act).unwrap(), as_csv(&act), as_table(&[act])];
        assert!(
            texts.iter().all(|text| !text.contains(['\u{7}', '\u{1b}', '\u{9b}', '\u{202e}', '\u{200b}'])),
            "{texts:?}"
        );
    }
}
