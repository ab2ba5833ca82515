//! docs/ledger-record.schema.json against lines of every kind, as the proxy writes them: neither may have a field that the
//! other does not know.
//!
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test says why it failed by panicking")]

#[path = "support/schema.rs"]
mod schema;

use std::collections::BTreeSet;
use std::sync::Arc;

use schema::{check, expect_records, schema};
use serde_json::Value;
use tenantgate::audit::{
    Account, Act, Actor, BypassAct, BypassRecord, Conclusion, Digest, Entry, Evidence, Head, Intent, Judgement, KINDS,
    Line, Mark, Opening, OpeningCause, Place, PreCommit, Reason, Reconciled, Record, Refusal, RightsChange, SigningKey,
    Standing, TenantAct, TenantRecord, TransactionId, WalPlace, Xid,
};
use tenantgate::fault::{Code, SqlState};
use tenantgate::guard::{Limits, inspect};
use tenantgate::tenant::{TenantId, TenantKind};
use uuid::Uuid;

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
    outcome.code = Some(Code::BypassOverLimit);
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
        expect_records(std::slice::from_ref(&value));
        check(&schema, &schema, &value, "line").unwrap();
        seen.insert(kind);
    }
    let known: BTreeSet<String> = schema["$defs"].as_object().unwrap().keys().cloned().collect();
    let known: BTreeSet<String> = known.into_iter().filter(|name| name != "statement").collect();
    assert_eq!(known, seen);
}

/// Commands and the review page offer the kinds of acts: all that are written, and no others.
#[test]
fn every_kind_of_act_can_be_asked_for() {
    let of_others =
        ["intent", "precommit", "outcome", "reconciled", "boot", "reopen", "heartbeat", "checkpoint", "statement"];
    let schema = schema();
    let written = schema["$defs"].as_object().unwrap().keys().map(String::as_str);
    let written: BTreeSet<&str> = written.filter(|kind| !of_others.contains(kind)).chain(["transaction"]).collect();
    assert_eq!(KINDS.into_iter().collect::<BTreeSet<_>>(), written);
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
    let mut other = value.clone();
    for id in [Uuid::new_v4().to_string(), "1".to_owned()] {
        other["id"] = id.into();
        assert!(check(&schema, &schema, &other, "line").is_err());
    }
    let mut more = value;
    more["password"] = Value::Null;
    assert!(check(&schema, &schema, &more, "line").is_err());
}
