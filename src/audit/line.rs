//! One record as one line of JSON.
//!
//! This is the one place where lines are made: each carries its number and the digest of the line before it (`chain`).

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::act::{Act, Fields};
use super::chain::{Digest, Head};
use super::checkpoint::SignedNote;
use super::record::{Actor, Done, Entry, Intent, Opening, Outcome, PreCommit, Record, StatementNote};
use super::standing::Standing;
use crate::fault::SqlState;

/// Version of the line's form: 1 had no `prev`, 2 no `node`, no `precommit`, and less of who and what.
pub const SCHEMA_VERSION: u64 = 3;

/// The first version whose lines are chained.
pub(super) const CHAINED_SINCE: u64 = 2;

/// Where in the ledger a line stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'n> {
    /// The name of the proxy that writes it.
    pub node: &'n str,
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
    pub fn new(record: &Record, place: &Place<'_>) -> Self {
        let mut fields = head(kind(&record.entry), &record.transaction.0, place);
        put_actor(&mut fields, &record.actor);
        match &record.entry {
            Entry::Intent(intent) => put_intent(&mut fields, intent),
            Entry::PreCommit(precommit) => put_precommit(&mut fields, precommit),
            Entry::Outcome(outcome) => put_outcome(&mut fields, outcome),
        }
        Self::of(fields)
    }

    /// The line of what was done outside of transactions.
    #[must_use]
    pub fn of_act(act: &dyn Act, place: &Place<'_>) -> Self {
        let mut fields = head(act.kind(), &act.id(), place);
        act.put(&mut Fields(&mut fields));
        Self::of(fields)
    }

    /// The line of a file that was opened.
    #[must_use]
    pub fn of_opening(opening: &Opening, place: &Place<'_>) -> Self {
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

    /// The line of a checkpoint: the note and its place make all of it, so that nothing in it can be changed unseen. (It
    /// has no `node`: the proxy has signed it.)
    #[must_use]
    pub fn of_checkpoint(note: &SignedNote, place: &Place<'_>) -> Self {
        Self::of_checkpoint_in(SCHEMA_VERSION, note, place)
    }

    /// The same as it was written under a version before.
    pub(super) fn of_checkpoint_in(version: u64, note: &SignedNote, place: &Place<'_>) -> Self {
        let mut fields = head("checkpoint", &note.checkpoint.ledger, &Place { at: note.checkpoint.at, ..*place });
        fields.remove("node");
        fields.insert("v".into(), json!(version));
        fields.insert("note".into(), json!(note.as_str()));
        Self::of(fields)
    }

    /// The line that says that the proxy lives and has had nothing to write.
    #[must_use]
    pub fn of_heartbeat(id: &Uuid, place: &Place<'_>) -> Self {
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
fn head(kind: &str, id: &Uuid, place: &Place<'_>) -> Map<String, Value> {
    let Place { node, sequence, at, prev } = place;
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
    put("v", json!(SCHEMA_VERSION));
    put("seq", json!(sequence));
    put("kind", json!(kind));
    put("id", json!(id.to_string()));
    put("at", json!(format!("{at:.6}")));
    put("prev", json!(prev.to_string()));
    put("node", json!(node));
    fields
}

const fn kind(entry: &Entry) -> &'static str {
    match entry {
        Entry::Intent(_) => "intent",
        Entry::PreCommit(_) => "precommit",
        Entry::Outcome(_) => "outcome",
    }
}

pub(super) fn put_actor(fields: &mut Map<String, Value>, actor: &Actor) {
    let Actor { login, method, address, database, role, preset, tenant, client, config } = actor;
    let mut put = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
    put("login", json!(**login));
    put("method", json!(method));
    put("address", json!(**address));
    put("database", json!(**database));
    put("role", json!(**role));
    put("preset", json!(preset));
    put("tenant", json!(tenant));
    put("client", json!(client));
    put("config", json!(**config));
}

fn put_intent(fields: &mut Map<String, Value>, intent: &Intent) {
    let Intent { reason, ticket, on_behalf_of, application, emergency, server, server_process, server_version } =
        intent;
    let mut put = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
    put("reason", json!(reason.as_ref().map(super::Reason::as_str)));
    put("ticket", json!(ticket));
    put("on_behalf_of", json!(on_behalf_of));
    put("application", json!(application));
    put("emergency", json!(emergency.map(|id| id.to_string())));
    put("server", json!(server));
    put("server_process", json!(server_process));
    put("server_version", json!(server_version));
}

fn put_precommit(fields: &mut Map<String, Value>, precommit: &PreCommit) {
    let PreCommit { standing, is_self_committing, done } = precommit;
    let Standing { xid, wal, era, timeline, system, is_flushed } = standing;
    fields.insert("xid".into(), json!(xid.map(|xid| xid.to_string())));
    fields.insert("wal".into(), json!(wal.map(|wal| wal.to_string())));
    fields.insert("era".into(), json!(era));
    fields.insert("timeline".into(), json!(timeline));
    // More than numbers of JSON hold for certain.
    fields.insert("system".into(), json!(system.map(|system| system.to_string())));
    fields.insert("flushed".into(), json!(is_flushed));
    fields.insert("self_committing".into(), json!(is_self_committing));
    put_done(fields, done);
}

fn put_outcome(fields: &mut Map<String, Value>, outcome: &Outcome) {
    let Outcome { conclusion, sqlstate, code, xid, duration_micros, done } = outcome;
    fields.insert("result".into(), json!(conclusion.word()));
    fields.insert("sqlstate".into(), json!(sqlstate.as_ref().map(SqlState::as_str)));
    fields.insert("code".into(), json!(code.map(|code| code.row().name)));
    fields.insert("xid".into(), json!(xid.map(|xid| xid.to_string())));
    fields.insert("duration_us".into(), json!(duration_micros));
    put_done(fields, done);
}

fn put_done(fields: &mut Map<String, Value>, done: &Done) {
    let Done { statements, statements_total, tables, rows_delivered, rows_affected, is_truncated } = done;
    fields.insert("statements".into(), Value::Array(statements.iter().map(statement).collect()));
    fields.insert("statements_total".into(), json!(statements_total));
    fields.insert("tables".into(), json!(tables));
    fields.insert("rows_delivered".into(), json!(rows_delivered));
    fields.insert("rows_affected".into(), json!(rows_affected));
    fields.insert("truncated".into(), json!(is_truncated));
}

fn statement(note: &StatementNote) -> Value {
    let StatementNote { class, verb, text, fingerprint, tables, rows, sqlstate, parameters } = note;
    json!({
        "class": class.name(),
        "verb": verb,
        "text": text,
        "fingerprint": fingerprint.map(|it| format!("{it:016x}")),
        "tables": tables,
        "rows": rows,
        "sqlstate": sqlstate.as_ref().map(SqlState::as_str),
        "parameters": parameters,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Account, Actor, Conclusion, Deed, Reason, Shelf, TenantAct, TenantRecord, TransactionId};
    use super::*;
    use crate::tenant::{TenantId, TenantKind};

    fn place(sequence: u64, at: Timestamp) -> Place<'static> {
        Place { node: "one", sequence, at, prev: Digest::NONE }
    }

    pub fn record(entry: Entry) -> Record {
        Record {
            transaction: TransactionId(Uuid::from_u128(7)),
            actor: Arc::new(Actor {
                login: "ops \"x\"".into(),
                method: "trust",
                address: "127.0.0.1".into(),
                database: "demo".into(),
                role: "app_bypass".into(),
                preset: "bypass",
                tenant: None,
                client: 4711,
                config: "00".into(),
            }),
            entry,
        }
    }

    /// The latest first.
    fn read_back(text: &str) -> Vec<Deed> {
        let mut shelf = Shelf::new(10);
        text.lines().for_each(|line| shelf.take(line.as_bytes()));
        assert_eq!(shelf.broken, 0, "{text}");
        shelf.latest().cloned().collect()
    }

    fn intent_because(reason: Reason) -> Intent {
        Intent {
            reason: Some(reason),
            ticket: None,
            on_behalf_of: Some("carol".into()),
            application: None,
            emergency: None,
            server: 3,
            server_process: 99,
            server_version: 180_006,
        }
    }

    #[test]
    fn a_line_is_one_line_and_can_be_read_back() {
        let reason = Reason::parse("„Auskunft\" \u{2028} #1").unwrap();
        let intent = record(Entry::Intent(intent_because(reason)));
        let at: Timestamp = "2026-11-23T09:00:00.5Z".parse().unwrap();
        let first = Line::new(&intent, &place(1, at));
        let outcome = Account::default().conclude(Conclusion::Failed, Some(crate::fault::SqlState(*b"23505")));
        let second = Line::new(&record(Entry::Outcome(Box::new(outcome))), &place(2, at));
        let text = [first.as_bytes(), second.as_bytes()].concat();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text.lines().count(), 2);
        let rows = read_back(&text);
        assert_eq!(rows.len(), 1);
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
                Line::of_act(&record, &place(1, at))
            })
            .into();
        let text = lines.iter().map(|line| std::str::from_utf8(line.as_bytes()).unwrap()).collect::<String>();
        let [thawed, row] = read_back(&text).try_into().unwrap();
        assert_eq!((row.kind.as_str(), row.result.as_deref()), ("freeze", Some("frozen")));
        assert_eq!((row.tenant.as_deref(), row.reason.as_deref()), (Some("a\"cme"), Some("keys \"leaked\"")));
        assert_eq!(row.statements, ["FREEZE TENANT 'a\"cme'"]);
        assert_eq!((thawed.kind.as_str(), thawed.result.as_deref()), ("thaw", Some("thawed")));
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
            let digests = (0..100).map(|_| Some("x".repeat(32).into())).collect();
            account.note_statement(&facts.statements[0], &sql, Some(digests));
        }
        let outcome = account.conclude(Conclusion::Committed, None);
        assert!(outcome.done.is_truncated);
        let line = Line::new(&record(Entry::Outcome(Box::new(outcome))), &place(u64::MAX, Timestamp::MAX));
        assert!(line.as_bytes().len() < 256 * 1024, "{}", line.as_bytes().len());
    }
}
