//! What a ledger tells, read back: one act each, a transaction with all its records joined, or a record that stands for itself.
//!
//! Owns: reading a line of any version, what later records add to an act. Does not own: which lines there are (`joining`),
//! which acts are wanted (`query`), whether any of it was changed (`chain`).

use serde::{Deserialize, Serialize};

/// The kinds of acts: transactions, and records that stand for themselves. Kinds of later versions are shown as well.
pub const KINDS: [&str; 10] = [
    "transaction",
    "refused",
    "emergency_open",
    "emergency_close",
    "bypass_freeze",
    "bypass_thaw",
    "freeze",
    "thaw",
    "config",
    "review",
];

/// One transaction, or one act of another kind, as a reviewer sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Deed {
    /// `transaction`, or the kind of its only record: `freeze`, `refused`, `review` …
    pub kind: String,
    /// The transaction's id, or the record's own.
    pub id: String,
    /// The number of its first record.
    pub seq: u64,
    /// When that was written, RFC 3339 in UTC.
    pub at: String,
    /// The login; of a review the reviewer.
    pub login: String,
    /// How it authenticated.
    pub method: Option<String>,
    /// For whom, as the application said.
    pub on_behalf_of: Option<String>,
    /// Where the client was.
    pub address: String,
    /// `application_name`.
    pub application: Option<String>,
    /// The client's number, as in SHOW CLIENTS.
    pub client: Option<i64>,
    /// The database.
    pub database: String,
    /// The role on the server.
    pub role: String,
    /// `bypass` or `migration`.
    pub preset: String,
    /// The tenant: of a migration login's transaction, or the one that something was done to.
    pub tenant: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// The ticket in it.
    pub ticket: Option<String>,
    /// The emergency it ran under.
    pub emergency: Option<String>,
    /// How it ended; `None` while there is no outcome.
    pub result: Option<String>,
    /// The error that ended it.
    pub sqlstate: Option<String>,
    /// The fault's code: of what was refused, of the limit that has ended a bypass.
    pub code: Option<String>,
    /// How the result was found out afterwards, where it was.
    pub reconciled: Option<String>,
    /// The transaction's number on the server, if it wrote anything.
    pub xid: Option<String>,
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
    /// More was done than there was room for.
    pub truncated: bool,
    /// When its outcome was written.
    pub ended_at: Option<String>,
    /// How long it took.
    pub duration_us: Option<u64>,
    /// How often it was reviewed.
    pub reviews: u64,
    /// Who reviewed it last.
    pub reviewer: Option<String>,
    /// What they found: `ok` or `question`.
    pub verdict: Option<String>,
    /// What they noted.
    pub note: Option<String>,
    /// Of a review: the transaction it is about.
    pub about: Option<String>,
}

impl Deed {
    /// Rows delivered and written.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.rows_delivered.saturating_add(self.rows_affected)
    }

    /// How it ended, in words.
    #[must_use]
    pub fn outcome(&self) -> String {
        let Some(result) = &self.result else { return "no outcome".to_owned() };
        let mut text = result.clone();
        if let Some(code) = self.code.as_ref().or(self.sqlstate.as_ref()) {
            text.push_str(&format!(" ({code})"));
        }
        if let Some(evidence) = &self.reconciled {
            text.push_str(&format!(" (found out later: {evidence})"));
        }
        text
    }

    /// What a later record says of it.
    pub(super) fn add(&mut self, told: &Told) {
        match told {
            Told::Outcome(act) => self.finish(act),
            // As far as it had come, should nothing more be known.
            Told::Precommit(act) if self.result.is_none() => self.take_work(act),
            Told::Reconciled { result, evidence, xid, .. } => {
                self.result = Some(result.clone());
                self.reconciled = Some(evidence.clone());
                self.xid = xid.clone().or(self.xid.take());
            }
            Told::Review(mark) => {
                self.reviews += 1;
                self.reviewer = Some(mark.login.clone());
                self.verdict.clone_from(&mark.verdict);
                self.note.clone_from(&mark.note);
            }
            Told::Precommit(_) | Told::Intent(_) | Told::Alone(_) | Told::Boot | Told::OfLedger => {}
        }
    }

    fn finish(&mut self, end: &Deed) {
        self.take_work(end);
        self.result.clone_from(&end.result);
        self.sqlstate.clone_from(&end.sqlstate);
        self.code.clone_from(&end.code);
        self.duration_us = end.duration_us;
        self.ended_at = Some(end.at.clone());
    }

    fn take_work(&mut self, other: &Deed) {
        self.statements.clone_from(&other.statements);
        self.tables.clone_from(&other.tables);
        self.statements_total = other.statements_total;
        (self.rows_delivered, self.rows_affected) = (other.rows_delivered, other.rows_affected);
        self.truncated = other.truncated;
        self.xid = other.xid.clone().or(self.xid.take());
    }
}

/// What one line says.
#[derive(Clone, Debug)]
pub(super) enum Told {
    /// A transaction begins.
    Intent(Box<Deed>),
    /// It is about to commit.
    Precommit(Box<Deed>),
    /// It has ended.
    Outcome(Box<Deed>),
    /// How a transaction had ended was found out.
    Reconciled { id: String, result: String, evidence: String, xid: Option<String> },
    /// Somebody has looked at a transaction.
    Review(Box<Deed>),
    /// It stands for itself.
    Alone(Box<Deed>),
    /// The proxy has started: what was open before has no outcome any more.
    Boot,
    /// A sign of life, a checkpoint.
    OfLedger,
}

/// What is read of a line; fields of later versions are ignored.
#[derive(Deserialize)]
struct Fields {
    kind: String,
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    id: String,
    #[serde(default)]
    at: String,
    login: Option<String>,
    method: Option<String>,
    on_behalf_of: Option<String>,
    address: Option<String>,
    application: Option<String>,
    client: Option<i64>,
    database: Option<String>,
    role: Option<String>,
    preset: Option<String>,
    tenant: Option<String>,
    reason: Option<String>,
    ticket: Option<String>,
    emergency: Option<String>,
    result: Option<String>,
    sqlstate: Option<String>,
    code: Option<String>,
    evidence: Option<String>,
    xid: Option<String>,
    #[serde(default)]
    statements: Vec<Statement>,
    /// Of a refused one: its own class and text.
    class: Option<String>,
    text: Option<String>,
    #[serde(default)]
    statements_total: u64,
    #[serde(default)]
    tables: Vec<serde_json::Value>,
    #[serde(default)]
    rows_delivered: u64,
    #[serde(default)]
    rows_affected: u64,
    #[serde(default)]
    truncated: bool,
    duration_us: Option<u64>,
    reviewer: Option<String>,
    verdict: Option<String>,
    note: Option<String>,
    transaction: Option<String>,
    by: Option<String>,
    #[serde(default)]
    changes: Vec<String>,
}

#[derive(Deserialize)]
struct Statement {
    class: Option<String>,
    text: Option<String>,
}

/// What a line says; `None` if it is no record.
pub(super) fn read(line: &[u8]) -> Option<Told> {
    let fields: Fields = serde_json::from_slice(line).ok()?;
    let kind = fields.kind.clone();
    Some(match kind.as_str() {
        "intent" => Told::Intent(Box::new(act(fields))),
        "precommit" => Told::Precommit(Box::new(act(fields))),
        "outcome" => Told::Outcome(Box::new(act(fields))),
        "reconciled" => Told::Reconciled {
            id: fields.id,
            result: fields.result.unwrap_or_default(),
            evidence: fields.evidence.unwrap_or_default(),
            xid: fields.xid,
        },
        "review" => Told::Review(Box::new(alone(fields))),
        "boot" => Told::Boot,
        "reopen" | "heartbeat" | "checkpoint" => Told::OfLedger,
        // What later versions bring is shown rather than hidden.
        _ => Told::Alone(Box::new(alone(fields))),
    })
}

/// A record of a transaction.
fn act(fields: Fields) -> Deed {
    Deed { kind: "transaction".to_owned(), ..of(fields) }
}

/// A record that is all of its act.
fn alone(fields: Fields) -> Deed {
    let words = act_in_words(&fields);
    let result = match fields.kind.as_str() {
        "freeze" | "bypass_freeze" => Some("frozen".to_owned()),
        "thaw" | "bypass_thaw" => Some("thawed".to_owned()),
        "refused" => Some("refused".to_owned()),
        "emergency_open" => Some("opened".to_owned()),
        "emergency_close" => Some("closed".to_owned()),
        "config" => Some("in force".to_owned()),
        "review" => fields.verdict.clone(),
        _ => fields.result.clone(),
    };
    // It stands for itself: no outcome is missing.
    let result = result.or_else(|| Some("recorded".to_owned()));
    let mut act = of(fields);
    act.ended_at = Some(act.at.clone());
    act.result = result;
    if let Some(words) = words {
        act.statements = vec![words];
        act.statements_total = 1;
    }
    act
}

/// What was done, where the record has no statement.
fn act_in_words(fields: &Fields) -> Option<String> {
    let tenant = || format!("'{}'", fields.tenant.as_deref().unwrap_or_default().replace('\'', "''"));
    match fields.kind.as_str() {
        "freeze" => Some(format!("FREEZE TENANT {}", tenant())),
        "thaw" => Some(format!("THAW TENANT {}", tenant())),
        "bypass_freeze" => Some("FREEZE BYPASS".to_owned()),
        "bypass_thaw" => Some("THAW BYPASS".to_owned()),
        "emergency_open" | "emergency_close" => {
            let by = fields.by.as_deref().map(|by| format!(", by {by}")).unwrap_or_default();
            Some(format!("{}{by}", fields.kind.replace('_', " ")))
        }
        "config" => Some(format!("RELOAD: {}", fields.changes.join(", "))),
        "review" => fields.note.clone(),
        "refused" => fields.text.clone().or_else(|| fields.class.as_ref().map(|class| format!("({class})"))),
        _ => None,
    }
}

fn of(fields: Fields) -> Deed {
    let name = |table: serde_json::Value| match table {
        serde_json::Value::String(name) => name,
        // Later versions may say more of each.
        other => other.get("table").and_then(serde_json::Value::as_str).unwrap_or("?").to_owned(),
    };
    let text = |it: Statement| it.text.unwrap_or_else(|| format!("({})", it.class.as_deref().unwrap_or("?")));
    Deed {
        kind: fields.kind,
        id: fields.id,
        seq: fields.seq,
        at: fields.at,
        login: fields.login.or(fields.reviewer).unwrap_or_default(),
        method: fields.method,
        on_behalf_of: fields.on_behalf_of,
        address: fields.address.unwrap_or_default(),
        application: fields.application,
        client: fields.client,
        database: fields.database.unwrap_or_default(),
        role: fields.role.unwrap_or_default(),
        preset: fields.preset.unwrap_or_default(),
        tenant: fields.tenant,
        reason: fields.reason,
        ticket: fields.ticket,
        emergency: fields.emergency,
        result: fields.result,
        sqlstate: fields.sqlstate,
        code: fields.code,
        xid: fields.xid,
        statements: fields.statements.into_iter().map(text).collect(),
        statements_total: fields.statements_total,
        tables: fields.tables.into_iter().map(name).collect(),
        rows_delivered: fields.rows_delivered,
        rows_affected: fields.rows_affected,
        truncated: fields.truncated,
        duration_us: fields.duration_us,
        verdict: fields.verdict,
        note: fields.note,
        about: fields.transaction,
        ..Deed::default()
    }
}
