//! What the demo prints: statements, replies as they came, and why.

use std::net::SocketAddr;

use tokio_postgres::{Error, SimpleQueryMessage};

use super::operator::Outlook;
use super::reviewer::REVIEWER;
use super::tour::{ACME, GLOBEX, INITECH};

const TENANTS: [(&str, &str); 3] = [("acme", ACME), ("globex", GLOBEX), ("initech", INITECH)];
const WIDTH: usize = 96;

/// One reply to one statement, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Rows with their column names.
    Rows {
        /// Column names.
        columns: Vec<String>,
        /// Values as text; `NULL` as the word.
        rows: Vec<Vec<String>>,
    },
    /// The number of rows a command was about.
    Done(u64),
    /// An error.
    Refused {
        /// ERROR or FATAL.
        severity: String,
        /// Five characters.
        sqlstate: String,
        /// The message.
        message: String,
        /// The hint, if there is one.
        hint: Option<String>,
    },
    /// The connection failed without a word of the other side.
    Broken(String),
}

impl Reply {
    /// The reply to a simple query of one statement.
    pub fn of(result: Result<Vec<SimpleQueryMessage>, Error>) -> Self {
        let messages = match result {
            Ok(messages) => messages,
            Err(error) => return Self::of_error(&error),
        };
        let mut columns = Vec::new();
        let mut rows = Vec::new();
        let mut count = 0;
        for message in &messages {
            match message {
                SimpleQueryMessage::RowDescription(described) => {
                    columns = described.iter().map(|column| column.name().to_owned()).collect();
                }
                SimpleQueryMessage::Row(row) => {
                    rows.push((0..row.len()).map(|at| row.get(at).unwrap_or("NULL").to_owned()).collect());
                }
                SimpleQueryMessage::CommandComplete(rows) => count = *rows,
                _ => {}
            }
        }
        if columns.is_empty() { Self::Done(count) } else { Self::Rows { columns, rows } }
    }

    /// An error as it came.
    pub fn of_error(error: &Error) -> Self {
        match error.as_db_error() {
            Some(error) => Self::Refused {
                severity: error.severity().to_owned(),
                sqlstate: error.code().code().to_owned(),
                message: error.message().to_owned(),
                hint: error.hint().map(ToOwned::to_owned),
            },
            None => Self::Broken(error.to_string()),
        }
    }

    /// The lines as printed.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Reply::Rows { columns, rows } => table(columns, rows),
            Reply::Done(count) => vec![format!("done, {count} rows")],
            Reply::Refused { severity, sqlstate, message, hint } => {
                let hint = hint.iter().map(|hint| format!("HINT:  {hint}"));
                std::iter::once(format!("{severity} {sqlstate}:  {message}")).chain(hint).collect()
            }
            Reply::Broken(reason) => vec![format!("connection failed: {reason}")],
        }
    }
}

fn table(columns: &[String], rows: &[Vec<String>]) -> Vec<String> {
    let width = |at: usize| {
        let values = rows.iter().filter_map(|row| row.get(at)).chain(columns.get(at));
        values.map(|value| value.chars().count()).max().unwrap_or_default()
    };
    let line = |cells: &[String]| {
        let padded: Vec<String> = cells.iter().enumerate().map(|(at, cell)| format!("{cell:<0$}", width(at))).collect();
        padded.join(" | ").trim_end().to_owned()
    };
    let rule = columns.iter().enumerate().map(|(at, _)| "-".repeat(width(at))).collect::<Vec<_>>().join("-+-");
    let body = rows.iter().map(|row| line(row));
    let count = format!("({} row{})", rows.len(), if rows.len() == 1 { "" } else { "s" });
    [line(columns), rule].into_iter().chain(body).chain([count]).collect()
}

/// The head of a step.
pub fn title(number: usize, title: &str) {
    println!("\n── {number}. {title}");
}

/// A statement, who sent it, and what came back.
pub fn exchange(who: &str, sql: &str, reply: &Reply) {
    println!("   {who}> {sql}");
    for line in reply.lines() {
        println!("      {line}");
    }
}

/// A line about something that was counted.
pub fn note(text: &str) {
    println!("      {text}");
}

/// Why, and whether it held.
pub fn verdict(why: &str, failures: &[String]) {
    for (at, line) in wrapped(why).iter().enumerate() {
        println!("   {} {line}", if at == 0 { "Why:" } else { "    " });
    }
    if failures.is_empty() {
        println!("   Held.");
    }
    for failure in failures {
        println!("   DID NOT HOLD: {failure}");
    }
}

fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let is_full = lines.last().is_some_and(|line| line.chars().count() + word.chars().count() >= WIDTH);
        if is_full {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(if line.is_empty() { "" } else { " " });
            line.push_str(word);
        }
    }
    lines
}

/// Who is who in the prompts.
pub fn legend() {
    println!("\nTenants, each logged in as app_user.<tenant>:");
    for (name, tenant) in TENANTS {
        println!("   {name:<8} {tenant}");
    }
}

/// A tenant's name.
pub fn name_of(tenant: &str) -> String {
    let known = TENANTS.iter().find(|(_, id)| *id == tenant);
    known.map_or(tenant, |(name, _)| name).to_owned()
}

/// What to try by hand.
pub fn connection_strings(address: SocketAddr, outlook: &Outlook) {
    let base = format!("host={} port={} dbname=demo password=demo", address.ip(), address.port());
    let console = base.replace("dbname=demo", "dbname=tenantgate");
    println!("\nThe proxy stays up until Ctrl-C. To try it:\n");
    for (name, tenant) in TENANTS {
        println!("  {name:<22} psql \"{base} user=app_user.{tenant}\"");
    }
    println!("  {:<22} psql \"{base} user=app_user options='-c app.tenant_id={GLOBEX}'\"", "globex, by options");
    println!("  {:<22} psql \"{base} user=acme_app\"", "acme, fixed");
    println!("  {:<22} psql \"{base} user=app_user\"", "no tenant (refused)");
    println!("  {:<22} psql \"{base} user=ops options='-c tenantgate.reason=looking-around'\"", "all tenants (bypass)");
    println!("  {:<22} psql \"{console} user=admin\"      (SHOW HELP)", "console");
    println!("  {:<22} psql \"{console} user=admin\" -c RELOAD      (after a change of its configuration)", "reload");
    println!("  {:<22} curl http://{}/metrics", "metrics", outlook.metrics);
    println!("  {:<22} tenantgate ledger list --ledger {}", "ledger", outlook.ledger.display());
    let (name, password) = REVIEWER;
    println!("  {:<22} http://{}/      (name {name}, password {password})", "review of it", outlook.review);
    println!("\nand in it: SELECT pg_backend_pid(), * FROM invoices;");
}
