//! A bypass that is claimed inside a transaction: when its record is due, what reaches the server and when, and what
//! becomes of it when somebody vanishes, fails or says no.
#![expect(clippy::expect_used, reason = "a test says why it failed by panicking")]

mod session_support;

use bytes::BytesMut;
use session_support::{error, query, reply, server, written};
use std::sync::Arc;
use tenantgate::audit::{Conclusion, Entry};
use tenantgate::fault::{Code, Fault};
use tenantgate::guard::{FactsCache, Limits, Policy, PolicySettings, inspect};
use tenantgate::scope::{DiscardReason, Injection, ScopeTemplate};
use tenantgate::session::{ClaimRules, Claimant, Effect, Input, Recording, Session, SessionRules};
use tenantgate::tenant::{AllowedTenants, ClaimedBypass, Claiming, Separator, TenantKind, TenantPolicy, TenantSource};
use tenantgate::upstream::{Parameters, Settings};
use tenantgate::wire::{TransactionStatus, backend, frontend};

/// A session with its driver played by the test: tenants are granted at once, the ledger answers when it is told to.
struct Played {
    session: Session,
    records: Vec<Entry>,
    discards: Vec<DiscardReason>,
    given_back: usize,
    is_closed: bool,
}

const SETTING: &str = "app.bypass_rls";
const ON: &str = "SELECT set_config('app.bypass_rls', 'true', true)";
const PUT: &str = "SET LOCAL app.bypass_rls TO 'true';";
const IN_BLOCK: TransactionStatus = TransactionStatus::InBlock;
const IDLE: TransactionStatus = TransactionStatus::Idle;
const FAILED: TransactionStatus = TransactionStatus::Failed;

fn rules(claiming: Claiming, reason: Option<&str>) -> SessionRules {
    let names = || vec!["app.tenant_id".to_owned()];
    let settings = PolicySettings {
        scope_settings: vec!["app.tenant_id".to_owned(), SETTING.to_owned()],
        claim_settings: names(),
        bypass_setting: Some(SETTING.to_owned()),
        bypass_needs_reason: reason.is_none(),
        claiming,
        ..PolicySettings::default()
    };
    let source = TenantSource::Named { from: vec![], separator: Separator::default() };
    let tenants = TenantPolicy { source, allowed: AllowedTenants::Any, claiming };
    let bypass = ClaimedBypass { setting: SETTING.into(), value: "true".into(), reason: reason.map(Into::into) };
    let rules =
        ClaimRules { template: ScopeTemplate::default(), kind: TenantKind::Text, tenants, bypass: Some(bypass) };
    SessionRules {
        bypass: None,
        recording: Some(Recording { needs_reason: reason.is_none(), is_written: true, parameter_key: None }),
        claims: Some(Claimant { rules: Arc::new(rules), base: None, seal: None }),
        injection: Injection::vacant(),
        policy: Arc::new(Policy::new(&settings)),
        facts: Arc::new(FactsCache::default()),
        #[cfg(feature = "mutants")]
        mutant: None,
    }
}

impl Played {
    fn of(rules: SessionRules) -> Self {
        let session = Session::new(Arc::new(rules), Settings::default(), &Arc::new(Parameters::default()), 7, b"abcd");
        let mut played = Self { session, records: vec![], discards: vec![], given_back: 0, is_closed: false };
        played.told();
        played
    }

    fn new() -> Self {
        Self::of(rules(Claiming::Session, Some("a report")))
    }

    fn in_a_block() -> Self {
        let mut played = Self::new();
        played.says("BEGIN");
        played.server_says(&[complete("BEGIN"), ready(IN_BLOCK)]);
        played.told();
        played
    }

    /// Up to the bypass being in force.
    fn bypassing() -> Self {
        let mut played = Self::in_a_block();
        played.says(ON);
        played.recorded();
        played.server_says(&[complete("SET"), complete("SELECT 1"), ready(IN_BLOCK)]);
        played.told();
        played
    }

    fn give(&mut self, input: Input<'_>) {
        self.session.handle(input);
        while let Some(effect) = self.session.poll_effect() {
            match effect {
                Effect::Lease => self.session.handle(Input::Leased(server())),
                Effect::Inspect(sql) => self.session.handle(Input::Inspected(inspect(&sql, &Limits::default()))),
                Effect::Record(Entry::PreCommit(_)) => self.session.handle(Input::Recorded(Ok(()))),
                Effect::Record(entry) => self.records.push(entry),
                Effect::Close(_) => self.is_closed = true,
                Effect::CheckIn(_) => self.given_back += 1,
                Effect::Discard(reason) => self.discards.push(reason),
                Effect::Claim(_) => self.session.handle(Input::Claimed(Ok(()))),
                Effect::Pin => self.session.handle(Input::Pinned(Ok(()))),
                Effect::Unclaim
                | Effect::Cancel
                | Effect::Refused(_)
                | Effect::Observed(..)
                | Effect::Limit(_)
                | Effect::Rest => {}
            }
        }
        self.answer_standing();
    }

    /// Answers the question in front of a COMMIT (tests/session_recorded.rs is about that), as if it had not been asked.
    fn answer_standing(&mut self) {
        let Some(answer) = self.session.server_out().and_then(without_question) else { return };
        self.give(Input::ServerWritten);
        self.give(Input::ServerBytes(&answer));
    }

    fn says(&mut self, sql: &str) {
        self.give(Input::ClientBytes(&query(sql)));
    }

    fn recorded(&mut self) {
        self.give(Input::Recorded(Ok(())));
    }

    fn server_says(&mut self, parts: &[Vec<u8>]) {
        drop(self.sent());
        self.give(Input::ServerWritten);
        self.give(Input::ServerBytes(&parts.concat()));
    }

    fn sent(&mut self) -> String {
        let bytes = self.session.server_out().map(|out| out.split().to_vec()).unwrap_or_default();
        let text = |byte: &u8| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' };
        bytes.iter().map(text).collect()
    }

    fn told(&mut self) -> Vec<u8> {
        self.session.client_out().split().to_vec()
    }

    fn told_text(&mut self) -> String {
        String::from_utf8_lossy(&self.told()).into_owned()
    }

    /// `i` for an intent, `p` for a pre-commit, else the outcome's first letter.
    fn ledger(&self) -> String {
        let letter = |entry: &Entry| match entry {
            Entry::Intent(_) => 'i',
            Entry::PreCommit(_) => 'p',
            Entry::Outcome(outcome) => match outcome.conclusion {
                Conclusion::Committed => 'c',
                Conclusion::RolledBack => 'r',
                Conclusion::Failed => 'f',
                Conclusion::Unknown => 'u',
            },
        };
        self.records.iter().map(letter).collect()
    }

    fn ends(&mut self, tag: &str) {
        self.says(tag);
        self.server_says(&[complete(tag), ready(IDLE)]);
    }
}

fn complete(tag: &str) -> Vec<u8> {
    written(|out| backend::put_command_complete(out, tag.as_bytes()))
}

fn ready(status: TransactionStatus) -> Vec<u8> {
    written(|out| backend::put_ready(out, status))
}

/// Parse, Bind, Execute of the unnamed statement.
fn extended(sql: &str) -> Vec<u8> {
    let mut bytes = written(|out| frontend::put_parse(out, b"", sql.as_bytes(), &[]));
    bytes.extend(written(|out| frontend::put_bind_text(out, b"", b"", &[])));
    bytes.extend(written(|out| frontend::put_execute(out, b"")));
    bytes
}

/// The server's answers to it.
fn answered(tag: &str) -> Vec<u8> {
    [reply(b'1', b""), reply(b'2', b""), complete(tag)].concat()
}

/// Its answers to the proxy's own statement in front of a claim.
fn setting_answered() -> Vec<u8> {
    [answered("SET"), reply(b'3', b"")].concat()
}

fn sync() -> Vec<u8> {
    written(frontend::put_sync)
}

#[test]
fn nothing_of_a_bypass_is_sent_before_its_intent_is_durable_nor_its_end_told_before_its_outcome_is() {
    let mut played = Played::in_a_block();
    played.says(ON);
    assert_eq!((played.ledger().as_str(), played.sent().as_str()), ("i", ""));
    let Entry::Intent(intent) = &played.records[0] else { panic!("no intent") };
    assert_eq!((intent.reason.as_ref().unwrap().as_str(), intent.server_process), ("a report", 99));
    played.recorded();
    let sent = played.sent();
    assert!(sent.contains(&format!("{PUT}SELECT 'true'::pg_catalog.text AS \"set_config\"")), "{sent}");
    assert!(!sent.contains("set_config("), "the client's own is never sent");
    played.server_says(&[complete("SET"), complete("SELECT 1"), ready(IN_BLOCK)]);
    assert_eq!(played.told(), [complete("SELECT 1"), ready(IN_BLOCK)].concat());
    played.says("SELECT * FROM things");
    let sent = played.sent();
    assert!(sent.contains("SELECT * FROM things") && !sent.contains("SET LOCAL"), "{sent}");
    played.server_says(&[reply(b'D', b"\0\0"), reply(b'D', b"\0\0"), complete("SELECT 2"), ready(IN_BLOCK)]);
    played.told();
    played.ends("COMMIT");
    assert_eq!((played.ledger().as_str(), played.told()), ("ic", vec![]));
    let Entry::Outcome(outcome) = &played.records[1] else { panic!("no outcome") };
    assert_eq!((outcome.done.rows_delivered, outcome.done.tables.join(" ").as_str()), (2, "things"));
    assert_eq!(played.given_back, 1);
    played.recorded();
    assert_eq!(played.told(), [complete("COMMIT"), ready(IDLE)].concat());
    // Nothing is left.
    played.says("SELECT * FROM things");
    assert!(played.told_text().contains("TG130"));
    assert_eq!(played.ledger(), "ic");
}

#[test]
fn work_without_such_a_claim_is_neither_recorded_nor_slowed_down() {
    let mut played = Played::new();
    played.says("BEGIN");
    played.server_says(&[complete("BEGIN"), ready(IN_BLOCK)]);
    played.says("SET LOCAL app.tenant_id = 'acme'");
    played.server_says(&[complete("SET"), complete("SET"), ready(IN_BLOCK)]);
    played.says("SELECT 1");
    played.says("SELECT 2");
    let sent = played.sent();
    assert!(sent.contains("SELECT 1") && sent.contains("SELECT 2"), "a pipeline is sent at once: {sent}");
    played.server_says(&[complete("SELECT 1"), ready(IN_BLOCK), complete("SELECT 1"), ready(IN_BLOCK)]);
    played.told();
    played.ends("COMMIT");
    assert_eq!((played.told(), played.ledger().as_str()), ([complete("COMMIT"), ready(IDLE)].concat(), ""));
}

#[test]
fn a_ledger_that_cannot_be_written_fails_the_claim_and_nothing_else() {
    let mut played = Played::in_a_block();
    played.says(ON);
    played.give(Input::Recorded(Err(Fault::of(Code::LedgerUnavailable))));
    let sent = played.sent();
    assert!(!sent.contains("app.bypass_rls"), "{sent}");
    played.server_says(&[error("42601"), ready(FAILED)]);
    assert!(played.told_text().contains("TG062") && !played.is_closed);
    played.ends("ROLLBACK");
    played.told();
    played.says("BEGIN; SET LOCAL app.tenant_id = 'acme'; SELECT 1; COMMIT");
    assert!(played.sent().contains("SELECT 1"), "tenants go on");
    assert_eq!(played.ledger(), "i");
}

#[test]
fn a_bypass_without_a_reason_is_refused_and_one_of_the_client_s_is_recorded() {
    let mut played = Played::of(rules(Claiming::Transaction, None));
    played.says("BEGIN");
    played.server_says(&[complete("BEGIN"), ready(IN_BLOCK)]);
    played.says(ON);
    assert!(!played.sent().contains("app.bypass_rls"));
    played.server_says(&[error("42601"), ready(FAILED)]);
    assert!(played.told_text().contains("TG060"));
    played.ends("ROLLBACK");
    played.says("BEGIN");
    played.server_says(&[complete("BEGIN"), ready(IN_BLOCK)]);
    played.says("SET LOCAL tenantgate.reason = 'ticket 4711'");
    played.server_says(&[complete("SET"), ready(IN_BLOCK)]);
    played.says(ON);
    assert_eq!(played.ledger(), "i");
    let Entry::Intent(intent) = &played.records[0] else { panic!("no intent") };
    assert_eq!(intent.reason.as_ref().unwrap().as_str(), "ticket 4711");
    // With a reason in the configuration the client gives none.
    let mut played = Played::new();
    played.says("SET tenantgate.reason = 'mine'");
    assert!(played.told_text().contains("TG013"));
}

#[test]
fn whoever_vanishes_leaves_an_outcome_and_a_server_at_rest() {
    // While the intent is written.
    let mut played = Played::in_a_block();
    played.says(ON);
    played.give(Input::ClientGone);
    let sent = played.sent();
    assert!(sent.contains("ROLLBACK") && !sent.contains("app.bypass_rls"), "{sent}");
    played.recorded();
    assert!(!played.sent().contains("app.bypass_rls"));
    played.server_says(&[complete("ROLLBACK"), ready(IDLE)]);
    assert_eq!((played.ledger().as_str(), played.given_back, played.is_closed), ("ir", 1, true));
    // While the claim is with the server.
    let mut played = Played::in_a_block();
    played.says(ON);
    played.recorded();
    played.give(Input::ClientGone);
    played.server_says(&[complete("SET"), complete("SELECT 1"), ready(IN_BLOCK)]);
    assert!(played.sent().contains("ROLLBACK"));
    played.server_says(&[complete("ROLLBACK"), ready(IDLE)]);
    assert_eq!((played.ledger().as_str(), played.given_back), ("ir", 1));
    // The server, while its COMMIT is unanswered.
    let mut played = Played::bypassing();
    played.says("COMMIT");
    played.give(Input::ServerGone);
    assert_eq!((played.ledger().as_str(), played.is_closed), ("iu", true));
    // The client, while the outcome is written.
    let mut played = Played::bypassing();
    played.ends("COMMIT");
    played.give(Input::ClientGone);
    played.recorded();
    assert_eq!((played.ledger().as_str(), played.told(), played.is_closed), ("ic", vec![], true));
}

#[test]
fn a_bypass_ends_with_a_savepoint_in_front_of_it_and_its_record_with_the_transaction() {
    let mut played = Played::in_a_block();
    for (sql, answers) in
        [("SAVEPOINT a", vec![complete("SAVEPOINT")]), (ON, vec![complete("SET"), complete("SELECT 1")])]
    {
        played.says(sql);
        if sql == ON {
            played.recorded();
        }
        played.server_says(&[answers.concat(), ready(IN_BLOCK)]);
    }
    played.says("SELECT 1");
    played.server_says(&[complete("SELECT 1"), ready(IN_BLOCK)]);
    played.says("ROLLBACK TO a");
    played.server_says(&[complete("ROLLBACK"), ready(IN_BLOCK)]);
    played.told();
    played.says("SELECT * FROM things");
    assert!(!played.sent().contains("things"));
    played.server_says(&[error("42704"), ready(FAILED)]);
    assert!(played.told_text().contains("TG130"));
    played.says("ROLLBACK TO a");
    played.server_says(&[complete("ROLLBACK"), ready(IN_BLOCK)]);
    // The record is still open: no second intent.
    played.says(ON);
    assert!(played.sent().contains(PUT));
    played.server_says(&[complete("SET"), complete("SELECT 1"), ready(IN_BLOCK)]);
    played.says("SELECT * FROM things");
    assert!(played.sent().contains("things"));
    played.server_says(&[complete("SELECT 0"), ready(IN_BLOCK)]);
    played.ends("COMMIT");
    assert_eq!(played.ledger(), "ic");
}

#[test]
fn outside_of_a_block_a_bypass_has_no_effect_and_what_stands_behind_it_is_refused() {
    let mut played = Played::new();
    played.says(ON);
    let told = played.told_text();
    assert!(told.contains("true") && played.ledger().is_empty() && played.sent().is_empty(), "{told}");
    played.says("SET LOCAL app.bypass_rls = 'true'");
    assert!(played.told_text().contains("25P01"));
    played.says(&format!("{ON}; SELECT * FROM things"));
    assert!(!played.sent().contains("SET LOCAL"));
    played.server_says(&[error("42704"), ready(IDLE)]);
    assert!(played.told_text().contains("TG136"));
    played.says("SET app.bypass_rls = 'true'");
    assert!(played.told_text().contains("TG136"));
    // By the extended protocol, with something behind it in its segment.
    let bytes = [extended(ON), extended("SELECT * FROM things"), sync()].concat();
    played.give(Input::ClientBytes(&bytes));
    let sent = played.sent();
    assert!(sent.contains("tg_none") && !sent.contains("SET LOCAL"), "its Bind is refused: {sent}");
    played.server_says(&[answered("SELECT 1"), reply(b'1', b""), error("26000"), ready(IDLE)]);
    let told = played.told_text();
    assert!(told.contains("TG136"), "{told}");
    assert_eq!((played.ledger().as_str(), played.given_back), ("", 2));
}

#[test]
fn what_stands_for_no_bypass_is_no_record_and_anything_else_is_refused() {
    let mut played = Played::in_a_block();
    played.says("SELECT set_config('app.bypass_rls', 'false', true)");
    assert!(played.sent().contains("SET LOCAL app.bypass_rls TO 'false';SELECT 'false'"));
    played.server_says(&[complete("SET"), complete("SELECT 1"), ready(IN_BLOCK)]);
    assert_eq!(played.told(), [complete("SELECT 1"), ready(IN_BLOCK)].concat());
    played.says("SELECT * FROM things");
    assert!(!played.sent().contains("things"), "it is no tenant either");
    played.server_says(&[error("42704"), ready(FAILED)]);
    assert!(played.told_text().contains("TG130"));
    played.ends("ROLLBACK");
    played.told();
    for other in ["on", "TRUE", "1", "t", "true "] {
        played.says(&format!("SET LOCAL app.bypass_rls = '{other}'"));
        assert!(played.told_text().contains("TG135"), "{other}");
    }
    assert_eq!(played.ledger(), "");
    let mut played = Played::bypassing();
    played.says("SET LOCAL app.bypass_rls = ''");
    played.server_says(&[complete("SET"), complete("UNLISTEN"), ready(IN_BLOCK)]);
    assert_eq!(played.told(), [complete("SET"), ready(IN_BLOCK)].concat());
    played.says("SELECT * FROM things");
    assert!(!played.sent().contains("things"), "it has been taken back");
}

#[test]
fn in_a_pipeline_everything_in_front_is_answered_before_the_intent() {
    let mut played = Played::new();
    let bytes =
        [extended("BEGIN"), extended(ON), extended("SELECT * FROM things"), extended("COMMIT"), sync()].concat();
    played.give(Input::ClientBytes(&bytes));
    assert_eq!(played.ledger(), "", "it is not known yet that there is a block");
    let sent = played.sent();
    assert!(sent.ends_with("H....") && !sent.contains("SET LOCAL"), "the server is asked for its answers: {sent}");
    played.server_says(&[answered("BEGIN"), reply(b'1', b""), reply(b'2', b"")]);
    assert_eq!((played.ledger().as_str(), played.sent().as_str()), ("i", ""));
    played.recorded();
    let sent = played.sent();
    assert!(sent.contains("SET LOCAL app.bypass_rls TO 'true'") && sent.contains("things"), "{sent}");
    assert!(sent.contains("COMMIT"), "{sent}");
    played.server_says(&[
        setting_answered(),
        complete("SELECT 1"),
        answered("SELECT 5"),
        reply(b'1', b""),
        reply(b'2', b""),
    ]);
    // Behind its pre-commit record.
    played.server_says(&[complete("COMMIT"), ready(IDLE)]);
    assert_eq!(played.ledger(), "ic");
    let told = played.told_text();
    assert!(told.contains("SELECT 5") && !told.contains("COMMIT"), "{told}");
    played.recorded();
    assert_eq!(played.told(), [complete("COMMIT"), ready(IDLE)].concat());
    let Entry::Outcome(outcome) = &played.records[1] else { panic!("no outcome") };
    assert_eq!(outcome.done.tables.join(" "), "things");
}

#[test]
fn behind_a_commit_in_its_segment_nothing_is_in_the_record() {
    let mut played = Played::new();
    played.says("SET app.tenant_id = 'acme'");
    let bytes =
        [extended("BEGIN"), extended(ON), extended("COMMIT"), extended("SELECT * FROM things"), sync()].concat();
    played.give(Input::ClientBytes(&bytes));
    played.server_says(&[answered("BEGIN"), reply(b'1', b""), reply(b'2', b"")]);
    played.recorded();
    let sent = played.sent();
    // The tenant in force is put in front of the bypass.
    assert!(sent.find("acme").unwrap() < sent.find("SET LOCAL app.bypass_rls").unwrap(), "{sent}");
    assert!(!sent.contains("Ithings") && sent.ends_with("H...."), "{sent}");
    let scope = [reply(b'2', b""), complete("SELECT 0"), reply(b'3', b"")].concat();
    let bound = [reply(b'1', b""), reply(b'2', b"")].concat();
    played.server_says(&[scope, setting_answered(), complete("SELECT 1"), bound]);
    played.server_says(&[complete("COMMIT"), reply(b'1', b"")]);
    assert_eq!(played.ledger(), "ic");
    played.recorded();
    let sent = played.sent();
    assert!(sent.contains("acme"), "the next transaction has its tenant put on again: {sent}");
    let Entry::Outcome(outcome) = &played.records[1] else { panic!("no outcome") };
    assert_eq!(outcome.done.tables.join(" "), "");
}

#[test]
fn two_bypasses_in_one_query_are_two_records() {
    let mut played = Played::new();
    played.says(&format!("BEGIN; {ON}; SELECT 1; COMMIT; BEGIN; {ON}; DELETE FROM things; COMMIT; SELECT 7"));
    assert_eq!((played.ledger().as_str(), played.sent().as_str()), ("i", ""));
    played.recorded();
    let sent = played.sent();
    assert!(sent.contains("SELECT 1") && !sent.contains("DELETE"), "{sent}");
    let bypass = [complete("BEGIN"), complete("SET"), complete("SELECT 1")].concat();
    played.server_says(&[bypass.clone(), complete("SELECT 1"), ready(IN_BLOCK)]);
    played.server_says(&[complete("COMMIT"), ready(IDLE)]);
    assert_eq!((played.ledger().as_str(), played.sent().as_str()), ("ic", ""));
    let told = played.told_text();
    assert!(told.contains("BEGIN") && !told.contains("COMMIT"), "{told}");
    assert!(!told.contains('Z'), "{told}");
    played.recorded();
    assert_eq!(played.told(), complete("COMMIT"), "one ReadyForQuery for all of it");
    assert_eq!((played.ledger().as_str(), played.sent().as_str()), ("ici", ""));
    played.recorded();
    let sent = played.sent();
    assert!(sent.contains("DELETE FROM things") && !sent.contains("SELECT NULL::pg_catalog"), "{sent}");
    played.server_says(&[bypass, complete("DELETE 3"), ready(IN_BLOCK)]);
    let sent = played.sent();
    assert!(sent.contains("COMMIT") && !sent.contains("SELECT NULL::pg_catalog"), "{sent}");
    played.server_says(&[complete("COMMIT"), ready(IDLE)]);
    assert_eq!((played.ledger().as_str(), played.sent().as_str()), ("icic", ""));
    played.recorded();
    let sent = played.sent();
    assert!(sent.contains("SELECT NULL::pg_catalog"), "what is in no record goes behind it: {sent}");
    played.server_says(&[error("42704"), ready(IDLE)]);
    let told = played.told_text();
    assert!(told.contains("DELETE 3") && told.contains("TG130"), "{told}");
    let Entry::Outcome(outcome) = &played.records[3] else { panic!("no outcome") };
    assert_eq!((outcome.done.rows_affected, played.session.owes_replies()), (3, false));
}

#[test]
fn a_query_that_begins_with_a_reason_is_recorded_under_it() {
    let mut played = Played::of(rules(Claiming::Transaction, None));
    played.says(&format!("BEGIN; SET LOCAL tenantgate.reason = 'ticket 1'; {ON}; SELECT 1"));
    let Entry::Intent(intent) = &played.records[0] else { panic!("no intent") };
    assert_eq!(intent.reason.as_ref().unwrap().as_str(), "ticket 1");
}

#[test]
fn a_tenant_and_bypasses_in_the_parts_of_one_query_are_granted_for_each_part() {
    let mut played = Played::new();
    let tenant = "SET LOCAL app.tenant_id = 'acme'";
    played.says(&format!("BEGIN; {tenant}; {ON}; SELECT 1; COMMIT; BEGIN; {tenant}; {ON}; SELECT 2; COMMIT"));
    for _ in 0..2 {
        played.recorded();
        let sent = played.sent();
        assert!(sent.contains("app.tenant_id='acme'") && sent.contains(PUT), "{sent}");
        let claims = [complete("BEGIN"), complete("SET"), complete("SET"), complete("SET"), complete("SELECT 1")];
        played.server_says(&[claims.concat(), complete("SELECT 1"), ready(IN_BLOCK)]);
        played.server_says(&[complete("COMMIT"), ready(IDLE)]);
        played.recorded();
    }
    assert_eq!((played.ledger().as_str(), played.is_closed), ("icic", false));
    assert!(played.told().ends_with(&ready(IDLE)));
}

#[test]
fn a_cancel_while_the_intent_is_written_fails_the_claim() {
    let mut played = Played::in_a_block();
    played.says(ON);
    played.give(Input::Cancelled);
    played.recorded();
    assert_eq!(played.ledger(), "if");
    played.recorded();
    assert!(!played.sent().contains("app.bypass_rls"));
    played.server_says(&[error("42601"), ready(FAILED)]);
    assert!(played.told_text().contains("57014"));
    played.ends("ROLLBACK");
    assert_eq!((played.ledger().as_str(), played.given_back), ("if", 1));
}

#[test]
fn a_setting_that_fails_ends_the_session_and_its_server() {
    let mut played = Played::in_a_block();
    played.says(ON);
    played.recorded();
    played.server_says(&[error("42704"), ready(FAILED)]);
    assert!(played.told_text().contains("TG055"));
    assert_eq!((&played.discards[..], played.ledger().as_str()), (&[DiscardReason::ScopeUnconfirmed][..], "if"));
    let mut played = Played::in_a_block();
    played.give(Input::ClientBytes(&[extended(ON), sync()].concat()));
    played.server_says(&[reply(b'1', b""), reply(b'2', b"")]);
    played.recorded();
    played.server_says(&[reply(b'1', b""), error("42704"), ready(FAILED)]);
    assert!(played.told_text().contains("TG055"));
    assert_eq!((&played.discards[..], played.ledger().as_str()), (&[DiscardReason::ScopeUnconfirmed][..], "if"));
    // A server that confirms too little is not believed.
    let mut played = Played::in_a_block();
    played.says(ON);
    played.recorded();
    played.server_says(&[complete("SELECT 1"), ready(IN_BLOCK)]);
    assert!(played.is_closed || !played.told_text().contains("SELECT 1"));
}

#[test]
fn a_tenant_and_a_bypass_in_one_transaction_go_in_both_orders() {
    let tenant = "SET LOCAL app.tenant_id = 'acme'";
    let mut played = Played::bypassing();
    played.says(tenant);
    let sent = played.sent();
    assert!(sent.contains("SET LOCAL app.tenant_id='acme';"), "{sent}");
    played.server_says(&[complete("SET"), complete("SET"), ready(IN_BLOCK)]);
    played.says("SELECT * FROM things");
    assert!(played.sent().contains("things"));
    played.server_says(&[complete("SELECT 1"), ready(IN_BLOCK)]);
    played.told();
    played.says("SET LOCAL app.tenant_id = 'globex'");
    assert!(!played.sent().contains("globex"));
    played.server_says(&[error("42704"), ready(FAILED)]);
    assert!(played.told_text().contains("TG133"));
    let mut played = Played::in_a_block();
    played.says(tenant);
    played.server_says(&[complete("SET"), complete("SET"), ready(IN_BLOCK)]);
    played.says("SAVEPOINT a");
    played.server_says(&[complete("SAVEPOINT"), ready(IN_BLOCK)]);
    played.says(ON);
    played.recorded();
    assert!(played.sent().contains(PUT));
    played.server_says(&[complete("SET"), complete("SELECT 1"), ready(IN_BLOCK)]);
    played.says("ROLLBACK TO a");
    played.server_says(&[complete("ROLLBACK"), ready(IN_BLOCK)]);
    played.told();
    // The tenant is there as before.
    played.says("SELECT * FROM things");
    assert!(played.sent().contains("things"));
    played.server_says(&[complete("SELECT 1"), ready(IN_BLOCK)]);
    played.ends("COMMIT");
    assert_eq!(played.ledger(), "ic");
}

#[test]
fn a_bypass_does_not_chain() {
    let mut played = Played::bypassing();
    played.says("COMMIT AND CHAIN");
    assert!(!played.sent().contains("CHAIN"));
    played.server_says(&[error("42601"), ready(FAILED)]);
    assert!(played.told_text().contains("TG064"));
}

/// DataRow: a transaction has this id, and the write-ahead log ends here.
fn standing_row() -> Vec<u8> {
    reply(b'D', b"\0\x07\0\0\0\x03731\0\0\0\x090/15A3B48\0\0\0\x017\0\0\0\x090/15A3B48\0\0\0\x0800000001\0\0\0\x0299\xff\xff\xff\xff")
}

/// Takes the question how a transaction stands out of what a server is sent; gives its answer, if it was there.
fn without_question(out: &mut BytesMut) -> Option<Vec<u8>> {
    let sent = out.split();
    let (mut rest, mut answer, mut was_question) = (&sent[..], Vec::new(), false);
    while let [tag, a, b, c, d, ..] = *rest {
        let (frame, behind) = rest.split_at(1 + u32::from_be_bytes([a, b, c, d]) as usize);
        rest = behind;
        let has = |part: &[u8]| frame.windows(part.len()).any(|window| window == part);
        let is_question = has(b"pg_current_xact_id_if_assigned") || has(b"tg_xact") || (was_question && tag == b'H');
        let done = reply(b'C', b"SELECT 1\0");
        match (is_question, tag) {
            (false, _) => out.extend_from_slice(frame),
            (true, b'Q') => answer.extend([reply(b'T', b"\0\0"), standing_row(), done, reply(b'Z', b"T")].concat()),
            (true, b'P') => answer.extend(reply(b'1', b"")),
            (true, b'B') => answer.extend(reply(b'2', b"")),
            (true, b'E') => answer.extend([standing_row(), done].concat()),
            (true, b'C') => answer.extend(reply(b'3', b"")),
            (true, _) => {}
        }
        was_question = is_question;
    }
    (!answer.is_empty()).then_some(answer)
}
