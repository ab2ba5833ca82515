//! docs/ledger-record.schema.json against lines of every kind, as the proxy writes them: neither may have a field that the
//! other does not know.
//!
//! Checked are the words that the schema uses: `oneOf`, `$ref`, `type`, `const`, `enum`, `properties`, `required`,
//! `additionalProperties`, `items`, `minimum`, `maxItems`; a word that is none of these and no remark fails the test. Patterns
//! are only looked at for lengths.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test says why it failed by panicking")]

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;
use tenantgate::audit::{
    Account, Act, Actor, BypassAct, BypassRecord, Conclusion, Digest, Entry, Evidence, Head, Intent, Judgement, Line,
    Mark, Opening, OpeningCause, Place, PreCommit, Reason, Reconciled, Record, Refusal, RightsChange, SigningKey,
    Standing, TenantAct, TenantRecord, TransactionId, WalPlace, Xid,
};
use tenantgate::fault::{Code, SqlState};
use tenantgate::guard::{Limits, inspect};
use tenantgate::tenant::{TenantId, TenantKind};
use uuid::Uuid;

fn schema() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ledger-record.schema.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn is_type(value: &Value, name: &str) -> bool {
    match name {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        other => panic!("no such type: {other}"),
    }
}

/// What is wrong with a value.
fn check(root: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    for (word, rule) in schema.as_object().unwrap() {
        let is_kept = match word.as_str() {
            "$schema" | "title" | "description" | "$defs" | "pattern" | "required" | "additionalProperties" => true,
            "oneOf" => {
                let fits = |one: &&Value| check(root, one, value, at).is_ok();
                rule.as_array().unwrap().iter().filter(fits).count() == 1
            }
            "$ref" => {
                let path = rule.as_str().unwrap().trim_start_matches('#');
                return check(root, root.pointer(path).unwrap(), value, at);
            }
            "type" if rule.is_array() => rule.as_array().unwrap().iter().any(|it| is_type(value, it.as_str().unwrap())),
            "type" => is_type(value, rule.as_str().unwrap()),
            "const" => value == rule,
            "enum" => rule.as_array().unwrap().contains(value),
            "minimum" => value.as_u64() >= rule.as_u64(),
            "maxItems" => value.as_array().is_none_or(|items| items.len() as u64 <= rule.as_u64().unwrap()),
            "items" => {
                let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
                items.iter().try_for_each(|item| check(root, rule, item, &format!("{at}[]")))?;
                true
            }
            "properties" => return check_object(root, schema, value, at),
            other => panic!("a word that this test does not know: {other}"),
        };
        if !is_kept {
            return Err(format!("{at}: {value} against {word} {rule}"));
        }
    }
    Ok(())
}

fn check_object(root: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let names = |value: &Value| value.as_object().map(|it| it.keys().cloned().collect::<BTreeSet<_>>());
    let (known, there) = (names(&schema["properties"]), names(value));
    if known != there {
        return Err(format!("{at}: the schema has {known:?}, the line {there:?}"));
    }
    let properties = schema["properties"].as_object().unwrap();
    properties.iter().try_for_each(|(name, rule)| check(root, rule, &value[name], &format!("{at}.{name}")))
}

fn actor() -> Arc<Actor> {
    Arc::new(Actor { login: "ops".into(), method: "cert", config: "0".repeat(32).into(), ..Actor::default() })
}

/// A transaction with a statement that was answered and one that has failed.
fn account() -> Account {
    let mut account = Account::default();
    let sql = "UPDATE s.t SET a = 'x'; SELECT 1";
    for statement in &inspect(sql.as_bytes(), &Limits::default()).unwrap().statements {
        let parameters = Some(vec![None, Some("0".repeat(32).into())]);
        account.note_statement(statement, &sql[statement.range(sql.len())], parameters);
    }
    account.note_tag(b"UPDATE 3", false);
    account.note_failure(SqlState(*b"22012"));
    account.note_xid(Some(Xid(731)));
    account
}

/// What is done to bypasses as such.
fn bypass_acts() -> Vec<Box<dyn Act>> {
    let (login, until) = (Arc::from("carol"), Arc::from("2026-11-23T10:00:00Z"));
    let (of_login, is_until) = (Arc::clone(&login), Arc::clone(&until));
    let acts = [
        BypassAct::Freeze,
        BypassAct::Thaw,
        BypassAct::EmergencyOpen { login, until },
        BypassAct::EmergencyClose { login: of_login, until: is_until },
    ];
    let record = |act| BypassRecord {
        id: Uuid::now_v7(),
        act,
        by: "ops".into(),
        address: "::1".into(),
        reason: "a test".into(),
    };
    acts.into_iter().map(|act| Box::new(record(act)) as Box<dyn Act>).collect()
}

/// What a reviewer says of a transaction.
fn marks() -> Vec<Box<dyn Act>> {
    let mark = |judgement| Mark {
        id: Uuid::now_v7(),
        transaction: Uuid::now_v7(),
        reviewer: "mallory".into(),
        judgement,
        note: "as asked for".into(),
    };
    [Judgement::Ok, Judgement::Question].into_iter().map(|one| Box::new(mark(one)) as Box<dyn Act>).collect()
}

/// One line of each kind and form.
fn lines() -> Vec<Line> {
    let at = "2026-11-23T09:00:00.5Z".parse().unwrap();
    let place = Place { node: "one", sequence: 1, at, prev: Digest::NONE };
    let record =
        |entry| Line::new(&Record { transaction: TransactionId(Uuid::now_v7()), actor: actor(), entry }, &place);
    let reason = Reason::parse("ticket 1").ok();
    let done = account().done().clone();
    let announced = PreCommit {
        standing: Standing {
            xid: Some(Xid(731)),
            wal: WalPlace::parse("0/15A3B48"),
            era: Some(1),
            timeline: Some(1),
            system: Some(u64::MAX),
            is_flushed: true,
        },
        is_self_committing: false,
        done: done.clone(),
    };
    let bare = PreCommit { standing: Standing::default(), is_self_committing: true, done };
    let mut outcome = account().conclude(Conclusion::Failed, Some(SqlState(*b"22012")));
    outcome.duration_micros = Some(7);
    let tenant = |act| TenantRecord {
        id: Uuid::now_v7(),
        act,
        login: "ops".into(),
        address: "::1".into(),
        tenant: TenantId::parse(TenantKind::Text, "acme").unwrap(),
        reason: "a test".into(),
    };
    let (id, conclusion) = (Uuid::now_v7(), Conclusion::Committed);
    let reconciled = Reconciled { id, conclusion, evidence: Evidence::XactStatus, xid: Some(Xid(731)) };
    let mut acts: Vec<Box<dyn Act>> =
        vec![Box::new(tenant(TenantAct::Freeze)), Box::new(tenant(TenantAct::Thaw)), Box::new(reconciled)];
    acts.extend(bypass_acts());
    acts.extend(marks());
    let refusal = Refusal::new(Uuid::now_v7(), actor(), Code::ReasonMissing, "select", Some("because"));
    let rights = RightsChange {
        id,
        login: "SIGHUP".into(),
        address: "signal".into(),
        before: "0".repeat(32).into(),
        after: "1".repeat(32).into(),
        changes: vec!["logins.a.preset".to_owned()],
    };
    acts.push(Box::new(refusal));
    acts.push(Box::new(rights));
    let key = SigningKey::from_seed("test", &[7; 32]).unwrap();
    let opening = |cause| Opening {
        id,
        cause,
        ledger: id,
        version: "1",
        checkpoint_records: Some(7),
        public_key: Some(key.public().clone()),
        damage: None,
        expected: None,
    };
    let note =
        key.sign(tenantgate::audit::Checkpoint { ledger: id, head: Head { sequence: 1, digest: Digest::NONE }, at });
    let mut lines = vec![
        record(Entry::Intent(Intent { reason, on_behalf_of: Some("carol".into()), ..Intent::default() })),
        record(Entry::Intent(Intent::default())),
        record(Entry::PreCommit(Box::new(announced))),
        record(Entry::PreCommit(Box::new(bare))),
        record(Entry::Outcome(Box::new(outcome))),
        Line::of_opening(&opening(OpeningCause::Boot), &place),
        Line::of_opening(&opening(OpeningCause::Reopen), &place),
        Line::of_heartbeat(&id, &place),
        Line::of_checkpoint(&note, &place),
    ];
    lines.extend(acts.iter().map(|act| Line::of_act(&**act, &place)));
    lines
}

#[test]
fn lines_of_every_kind_are_what_the_schema_says() {
    let schema = schema();
    let mut seen = BTreeSet::new();
    for line in lines() {
        let value: Value = serde_json::from_slice(line.as_bytes()).unwrap();
        let kind = value["kind"].as_str().unwrap().to_owned();
        let of_kind = &schema["$defs"][&kind];
        check(&schema, of_kind, &value, &kind).unwrap();
        check(&schema, &schema, &value, "line").unwrap();
        seen.insert(kind);
    }
    let known: BTreeSet<String> = schema["$defs"].as_object().unwrap().keys().cloned().collect();
    let known: BTreeSet<String> = known.into_iter().filter(|name| name != "statement").collect();
    assert_eq!(known, seen);
}

#[test]
fn a_line_with_more_or_less_is_none() {
    let schema = schema();
    let value: Value = serde_json::from_slice(lines()[0].as_bytes()).unwrap();
    for name in value.as_object().unwrap().keys() {
        let mut less = value.clone();
        less.as_object_mut().unwrap().remove(name);
        assert!(check(&schema, &schema, &less, "line").is_err(), "{name}");
    }
    let mut more = value;
    more["password"] = Value::Null;
    assert!(check(&schema, &schema, &more, "line").is_err());
}
