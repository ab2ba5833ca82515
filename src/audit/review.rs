//! Reading a ledger: intents joined with their outcomes, and what was done to tenants.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// One transaction, or one act on a tenant, as a reviewer sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reviewed {
    /// `transaction`, `freeze` or `thaw`.
    pub kind: String,
    /// The transaction.
    pub id: String,
    /// When its intent was written, RFC 3339 in UTC.
    pub at: String,
    /// The login.
    pub login: String,
    /// Where the client was.
    pub address: String,
    /// The client's number, as in SHOW CLIENTS; `None` for what was done to a tenant.
    pub client: Option<i64>,
    /// The database.
    pub database: String,
    /// The role on the server.
    pub role: String,
    /// `bypass`, `migration`, or `claimed_bypass`.
    pub preset: String,
    /// The tenant: of a migration login's transaction, or the one that was frozen or thawed.
    pub tenant: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// How it ended; `None` while there is no outcome.
    pub result: Option<String>,
    /// The error that ended it.
    pub sqlstate: Option<String>,
    /// Its statements, without literals.
    pub statements: Vec<String>,
    /// How many there were.
    pub statements_total: u64,
    /// Its tables.
    pub tables: Vec<String>,
    /// Rows the client was sent.
    pub rows_delivered: u64,
    /// Rows written.
    pub rows_affected: u64,
    /// When its outcome was written.
    pub ended_at: Option<String>,
}

/// What is read of a line; fields of later versions are ignored.
#[derive(Deserialize)]
struct Read {
    kind: String,
    id: String,
    at: String,
    #[serde(default)]
    login: String,
    #[serde(default)]
    address: String,
    client: Option<i64>,
    #[serde(default)]
    database: String,
    #[serde(default)]
    role: String,
    #[serde(default)]
    preset: String,
    tenant: Option<String>,
    reason: Option<String>,
    result: Option<String>,
    sqlstate: Option<String>,
    #[serde(default)]
    statements: Vec<ReadStatement>,
    #[serde(default)]
    statements_total: u64,
    #[serde(default)]
    tables: Vec<String>,
    #[serde(default)]
    rows_delivered: u64,
    #[serde(default)]
    rows_affected: u64,
}

#[derive(Deserialize)]
struct ReadStatement {
    class: String,
    text: Option<String>,
}

/// Kinds of records of transactions.
const OF_TRANSACTIONS: [&str; 4] = ["intent", "precommit", "outcome", "reconciled"];

/// Joins the lines of a ledger, in its order; also says how many lines could not be read (a torn one after a crash).
pub fn review<'l>(lines: impl Iterator<Item = &'l str>) -> (Vec<Reviewed>, usize) {
    let mut rows: Vec<Reviewed> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut broken = 0;
    for line in lines.filter(|line| !line.trim().is_empty()) {
        if is_of_the_ledger(line) {
            continue;
        }
        let Ok(read) = serde_json::from_str::<Read>(line) else {
            broken += 1;
            continue;
        };
        if let Some(acted) = acted_on_tenant(&read) {
            rows.push(acted);
            continue;
        }
        if !OF_TRANSACTIONS.contains(&read.kind.as_str()) {
            rows.push(Reviewed { kind: read.kind.clone(), ..row(&read) });
            continue;
        }
        let is_outcome = read.kind != "intent";
        let place = places.get(&read.id).copied().unwrap_or_else(|| {
            rows.push(row(&read));
            rows.len() - 1
        });
        places.insert(read.id.clone(), place);
        if let Some(row) = rows.get_mut(place).filter(|_| is_outcome) {
            finish(row, read);
        }
    }
    (rows, broken)
}

/// Whether a line is about the ledger itself: its starts, heartbeats and checkpoints are nobody's acts.
fn is_of_the_ledger(line: &str) -> bool {
    #[derive(Deserialize)]
    struct Kind {
        kind: String,
    }
    let kind = serde_json::from_str::<Kind>(line).map(|read| read.kind);
    kind.is_ok_and(|kind| matches!(kind.as_str(), "boot" | "reopen" | "heartbeat" | "checkpoint"))
}

/// A row of its own: nothing is joined with it.
fn acted_on_tenant(read: &Read) -> Option<Reviewed> {
    let (result, verb) = match read.kind.as_str() {
        "freeze" => ("frozen", "FREEZE"),
        "thaw" => ("thawed", "THAW"),
        _ => return None,
    };
    let tenant = read.tenant.as_deref().unwrap_or_default();
    Some(Reviewed {
        kind: read.kind.clone(),
        result: Some(result.to_owned()),
        statements: vec![format!("{verb} TENANT '{}'", tenant.replace('\'', "''"))],
        statements_total: 1,
        ended_at: Some(read.at.clone()),
        ..row(read)
    })
}

fn row(read: &Read) -> Reviewed {
    Reviewed {
        kind: "transaction".to_owned(),
        tenant: read.tenant.clone(),
        id: read.id.clone(),
        at: read.at.clone(),
        login: read.login.clone(),
        address: read.address.clone(),
        client: read.client,
        database: read.database.clone(),
        role: read.role.clone(),
        preset: read.preset.clone(),
        reason: read.reason.clone(),
        result: None,
        sqlstate: None,
        statements: Vec::new(),
        statements_total: 0,
        tables: Vec::new(),
        rows_delivered: 0,
        rows_affected: 0,
        ended_at: None,
    }
}

fn finish(row: &mut Reviewed, read: Read) {
    if read.kind == "reconciled" {
        // What was found out afterwards, of how it ended and of nothing else.
        row.result = read.result;
        return;
    }
    row.result = read.result;
    row.sqlstate = read.sqlstate;
    let text = |statement: ReadStatement| statement.text.unwrap_or_else(|| format!("({})", statement.class));
    row.statements = read.statements.into_iter().map(text).collect();
    row.statements_total = read.statements_total;
    row.tables = read.tables;
    row.rows_delivered = read.rows_delivered;
    row.rows_affected = read.rows_affected;
    // The pre-commit record tells what was done, not that it is over.
    row.ended_at = (read.kind == "outcome").then_some(read.at);
}
