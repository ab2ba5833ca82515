//! One record as one line of JSON.
//!
//! This is the one place where lines are made: each carries its number and the digest of the line before it (`chain`).

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::chain::{Digest, Head};
use super::checkpoint::SignedNote;
use super::mark::Mark;
use super::record::{Entry, Intent, Opening, Outcome, Record, TenantRecord};

/// Version of the line's form: 1 had no `prev`.
pub const SCHEMA_VERSION: u64 = 2;

/// Where in the ledger a line stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its number.
    pub sequence: u64,
    /// The time of writing.
    pub at: Timestamp,
    /// The digest of the line before it.
    pub prev: Digest,
}

/// A line, with its line break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line(String);

impl Line {
    /// The line of a record of a transaction.
    #[must_use]
    pub fn new(record: &Record, place: &Place) -> Self {
        let actor = &record.actor;
        let mut fields = head(kind(&record.entry), &record.transaction.0, place);
        let mut put = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
        put("login", json!(*actor.login));
        put("address", json!(*actor.address));
        put("database", json!(*actor.database));
        put("role", json!(*actor.role));
        put("preset", json!(actor.preset));
        put("tenant", json!(actor.tenant));
        put("client", json!(actor.client));
        match &record.entry {
            Entry::Intent(intent) => put_intent(&mut fields, intent),
            Entry::Outcome(outcome) => put_outcome(&mut fields, outcome),
        }
        Self::of(fields)
    }

    /// The line of a record of a tenant.
    #[must_use]
    pub fn of_tenant(record: &TenantRecord, place: &Place) -> Self {
        let TenantRecord { id, act, login, address, tenant, reason } = record;
        let mut fields = head(act.kind(), id, place);
        let mut put = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
        put("login", json!(**login));
        put("address", json!(**address));
        put("tenant", json!(tenant.as_str()));
        put("reason", json!(**reason));
        Self::of(fields)
    }

    /// The line of a reviewer's mark.
    #[must_use]
    pub fn of_mark(mark: &Mark, place: &Place) -> Self {
        let Mark { id, transaction, reviewer, judgement, note } = mark;
        let mut fields = head("review", id, place);
        let mut put = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
        put("transaction", json!(transaction.to_string()));
        put("reviewer", json!(**reviewer));
        put("verdict", json!(judgement.word()));
        put("note", json!(**note));
        Self::of(fields)
    }

    /// The line of a file that was opened.
    #[must_use]
    pub fn of_opening(opening: &Opening, place: &Place) -> Self {
        let Opening { id, cause, ledger, version, checkpoint_records, public_key, damage, expected } = opening;
        let mut fields = head(cause.kind(), id, place);
        let mut put = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
        put("ledger", json!(ledger.to_string()));
        put("version", json!(version));
        put("checkpoint_records", json!(checkpoint_records));
        put("public_key", json!(public_key.as_ref().map(ToString::to_string)));
        put("damaged", json!(damage.map(|it| json!({ "bytes": it.bytes, "sha256": it.digest.to_string() }))));
        put("expected", json!(expected));
        Self::of(fields)
    }

    /// The line of a checkpoint: the note and its place make all of it, so that nothing in it can be changed unseen.
    #[must_use]
    pub fn of_checkpoint(note: &SignedNote, place: &Place) -> Self {
        let mut fields = head("checkpoint", &note.checkpoint.ledger, &Place { at: note.checkpoint.at, ..*place });
        fields.insert("note".into(), json!(note.as_str()));
        Self::of(fields)
    }

    /// The line that says that the proxy lives and has had nothing to write.
    #[must_use]
    pub fn of_heartbeat(id: &Uuid, place: &Place) -> Self {
        Self::of(head("heartbeat", id, place))
    }

    /// Its bytes without the line break: what is hashed.
    #[must_use]
    pub fn without_break(&self) -> &[u8] {
        self.0.trim_end_matches('\n').as_bytes()
    }

    /// The record as the last one of a ledger.
    #[must_use]
    pub fn head(&self, sequence: u64) -> Head {
        Head { sequence, digest: Digest::of(self.without_break()) }
    }

    fn of(fields: Map<String, Value>) -> Self {
        let mut text = Value::Object(fields).to_string();
        text.push('\n');
        Self(text)
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// What every line begins with.
fn head(kind: &str, id: &Uuid, place: &Place) -> Map<String, Value> {
    let Place { sequence, at, prev } = place;
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
    put("v", json!(SCHEMA_VERSION));
    put("seq", json!(sequence));
    put("kind", json!(kind));
    put("id", json!(id.to_string()));
    put("at", json!(format!("{at:.6}")));
    put("prev", json!(prev.to_string()));
    fields
}

const fn kind(entry: &Entry) -> &'static str {
    match entry {
        Entry::Intent(_) => "intent",
        Entry::Outcome(_) => "outcome",
    }
}

fn put_intent(fields: &mut Map<String, Value>, intent: &Intent) {
    let Intent { reason, server, server_process } = intent;
    fields.insert("reason".into(), json!(reason.as_ref().map(super::Reason::as_str)));
    fields.insert("server".into(), json!(server));
    fields.insert("server_process".into(), json!(server_process));
}

fn put_outcome(fields: &mut Map<String, Value>, outcome: &Outcome) {
    let Outcome { conclusion, sqlstate, statements, statements_total, tables, .. } = outcome;
    let statements: Vec<Value> =
        statements.iter().map(|note| json!({ "class": note.class.name(), "text": note.text })).collect();
    fields.insert("result".into(), json!(conclusion.word()));
    fields.insert("sqlstate".into(), json!(sqlstate.as_ref().map(crate::fault::SqlState::as_str)));
    fields.insert("statements".into(), Value::Array(statements));
    fields.insert("statements_total".into(), json!(statements_total));
    fields.insert("tables".into(), json!(tables));
    fields.insert("rows_delivered".into(), json!(outcome.rows_delivered));
    fields.insert("rows_affected".into(), json!(outcome.rows_affected));
    fields.insert("truncated".into(), json!(outcome.is_truncated));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Account, Actor, Conclusion, Reason, TenantAct, TransactionId, review};
    use super::*;
    use crate::tenant::{TenantId, TenantKind};

    fn place(sequence: u64, at: Timestamp) -> Place {
        Place { sequence, at, prev: Digest::NONE }
    }

    pub fn record(entry: Entry) -> Record {
        Record {
            transaction: TransactionId(Uuid::from_u128(7)),
            actor: Arc::new(Actor {
                login: "ops \"x\"".into(),
                address: "127.0.0.1".into(),
                database: "demo".into(),
                role: "app_bypass".into(),
                preset: "bypass",
                tenant: None,
                client: 4711,
            }),
            entry,
        }
    }

    #[test]
    fn a_line_is_one_line_and_can_be_read_back() {
        let reason = Reason::parse("„Auskunft\" \u{2028} #1").unwrap();
        let intent = record(Entry::Intent(Intent { reason: Some(reason), server: 3, server_process: 99 }));
        let at: Timestamp = "2026-11-23T09:00:00.5Z".parse().unwrap();
        let first = Line::new(&intent, &place(1, at));
        let outcome = Account::default().conclude(Conclusion::Failed, Some(crate::fault::SqlState(*b"23505")));
        let second = Line::new(&record(Entry::Outcome(Box::new(outcome))), &place(2, at));
        let text = [first.as_bytes(), second.as_bytes()].concat();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text.lines().count(), 2);
        let (rows, broken) = review(text.lines());
        assert_eq!((rows.len(), broken), (1, 0));
        assert_eq!(rows[0].login, "ops \"x\"");
        assert_eq!(rows[0].result.as_deref(), Some("failed"));
        assert_eq!(rows[0].at, "2026-11-23T09:00:00.500000Z");
    }

    #[test]
    fn a_tenant_s_freeze_and_thaw_can_be_read_back() {
        let at: Timestamp = "2026-11-23T09:00:00Z".parse().unwrap();
        let lines: Vec<Line> = [(TenantAct::Freeze, 8), (TenantAct::Thaw, 9)]
            .map(|(act, id)| {
                let record = TenantRecord {
                    id: Uuid::from_u128(id),
                    act,
                    login: "ops".into(),
                    address: "127.0.0.1:5".into(),
                    tenant: TenantId::parse(TenantKind::Text, "a\"cme").unwrap(),
                    reason: "keys \"leaked\"".into(),
                };
                Line::of_tenant(&record, &place(1, at))
            })
            .into();
        let text = lines.iter().map(|line| std::str::from_utf8(line.as_bytes()).unwrap()).collect::<String>();
        let (rows, broken) = review(text.lines());
        assert_eq!((rows.len(), broken), (2, 0));
        let row = &rows[0];
        assert_eq!((row.kind.as_str(), row.result.as_deref()), ("freeze", Some("frozen")));
        assert_eq!((row.tenant.as_deref(), row.reason.as_deref()), (Some("a\"cme"), Some("keys \"leaked\"")));
        assert_eq!(row.statements, ["FREEZE TENANT 'a\"cme'"]);
        assert_eq!((rows[1].kind.as_str(), rows[1].result.as_deref()), ("thaw", Some("thawed")));
    }

    /// What makes the longest line: names that are escaped byte by byte, in as many statements and tables as there may be.
    #[test]
    fn a_line_stays_under_its_bound_whatever_is_sent() {
        let mut account = Account::default();
        let nasty = "\u{1}".repeat(5_000);
        for number in 0..300 {
            let name = format!("{number:03}{}", "\u{1}".repeat(60));
            let columns = format!("\"{nasty}\", \"{}\", ", "\u{1}".repeat(250)).repeat(20);
            let sql = format!("SELECT {columns} 1 FROM \"{name}\".\"{name}\"");
            let facts = crate::guard::inspect(
                sql.as_bytes(),
                &crate::guard::Limits { text_bytes_max: 1 << 24, ..Default::default() },
            )
            .unwrap();
            account.note_statement(&facts.statements[0], &sql);
        }
        let outcome = account.conclude(Conclusion::Committed, None);
        assert!(outcome.is_truncated);
        let line = Line::new(&record(Entry::Outcome(Box::new(outcome))), &place(u64::MAX, Timestamp::MAX));
        assert!(line.as_bytes().len() < 256 * 1024, "{}", line.as_bytes().len());
    }
}
