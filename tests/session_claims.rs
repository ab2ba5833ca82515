//! Claims: whom a session asks to act for, when, and what becomes of it when somebody vanishes or says no.
#![expect(clippy::expect_used, reason = "a test says why it failed by panicking")]

mod session_support;

use session_support::{error, query, reply, server, written};
use std::sync::Arc;
use tenantgate::fault::{Code, Fault, Severity};
use tenantgate::guard::{FactsCache, Limits, Policy, PolicySettings, inspect};
use tenantgate::scope::{CleanServer, DiscardReason, Injection, ScopeTemplate, SealKey};
use tenantgate::session::{ClaimRules, Claimant, Effect, Input, Recording, Session, SessionRules};
use tenantgate::tenant::{AllowedTenants, Claiming, Separator, TenantKind, TenantPolicy, TenantSource};
use tenantgate::upstream::{Parameters, Settings};
use tenantgate::wire::{TransactionStatus, backend, frontend};

/// A session with its driver played by the test, which answers claims when it is told to.
struct Played {
    session: Session,
    shelf: Vec<CleanServer>,
    discards: Vec<DiscardReason>,
    is_closed: bool,
    /// Tenants that are asked for, and `-` where nobody is acted for any more.
    asked: Vec<String>,
}

fn rules() -> Arc<SessionRules> {
    rules_of(None)
}

/// With a key: of a sealed database.
fn rules_of(seal: Option<Arc<SealKey>>) -> Arc<SessionRules> {
    let names = || vec!["app.tenant_id".to_owned()];
    let settings = PolicySettings {
        scope_settings: names(),
        claim_settings: names(),
        claiming: Claiming::Session,
        ..PolicySettings::default()
    };
    let tenants = TenantPolicy {
        source: TenantSource::Named { from: vec![], separator: Separator::default() },
        allowed: AllowedTenants::Any,
        claiming: Claiming::Session,
    };
    let rules = ClaimRules { template: ScopeTemplate::default(), kind: TenantKind::Text, tenants, bypass: None };
    Arc::new(SessionRules {
        recording: seal.is_some().then_some(Recording { needs_reason: false, is_written: false, parameter_key: None }),
        claims: Some(Claimant { rules: Arc::new(rules), base: None, seal }),
        bypass: None,
        injection: Injection::vacant(),
        policy: Arc::new(Policy::new(&settings)),
        facts: Arc::new(FactsCache::default()),
        #[cfg(feature = "mutants")]
        mutant: None,
    })
}

impl Played {
    fn new() -> Self {
        Self::under(rules())
    }

    fn sealed() -> Self {
        Self::under(rules_of(SealKey::parse(&"1".repeat(64)).map(Arc::new)))
    }

    fn under(rules: Arc<SessionRules>) -> Self {
        let session = Session::new(rules, Settings::default(), &Arc::new(Parameters::default()), 7, b"abcd");
        let mut played = Self { session, shelf: vec![], discards: vec![], is_closed: false, asked: vec![] };
        played.told();
        played
    }

    fn give(&mut self, input: Input<'_>) {
        self.session.handle(input);
        while let Some(effect) = self.session.poll_effect() {
            match effect {
                Effect::Lease => {
                    let clean = self.shelf.pop().unwrap_or_else(server);
                    self.session.handle(Input::Leased(clean));
                }
                Effect::Inspect(sql) => self.session.handle(Input::Inspected(inspect(&sql, &Limits::default()))),
                Effect::Close(_) => self.is_closed = true,
                Effect::CheckIn(clean) => self.shelf.push(clean),
                Effect::Discard(reason) => self.discards.push(reason),
                Effect::Claim(tenant) => self.asked.push(tenant.as_str().to_owned()),
                Effect::Unclaim => self.asked.push("-".to_owned()),
                Effect::Cancel
                | Effect::Refused(_)
                | Effect::Observed(..)
                | Effect::Record(_)
                | Effect::Pin
                | Effect::Rest
                | Effect::Limit(_) => {}
            }
        }
    }

    fn says(&mut self, sql: &str) {
        self.give(Input::ClientBytes(&query(sql)));
    }

    fn granted(&mut self) {
        self.give(Input::Claimed(Ok(())));
    }

    fn server_says(&mut self, parts: &[Vec<u8>]) {
        drop(self.sent());
        self.give(Input::ServerWritten);
        self.give(Input::ServerBytes(&parts.concat()));
    }

    /// What is on its way to the server, as far as it is text.
    fn sent(&mut self) -> String {
        let bytes = self.session.server_out().map(|out| out.split().to_vec()).unwrap_or_default();
        bytes
            .iter()
            .map(|byte| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' })
            .collect()
    }

    fn told(&mut self) -> Vec<u8> {
        self.session.client_out().split().to_vec()
    }

    fn told_text(&mut self) -> String {
        String::from_utf8_lossy(&self.told()).into_owned()
    }
}

fn complete(tag: &str) -> Vec<u8> {
    written(|out| backend::put_command_complete(out, tag.as_bytes()))
}

fn ready(status: TransactionStatus) -> Vec<u8> {
    written(|out| backend::put_ready(out, status))
}

const IN_BLOCK: TransactionStatus = TransactionStatus::InBlock;

fn in_a_block() -> Played {
    let mut played = Played::new();
    played.says("BEGIN");
    assert_eq!(played.asked, Vec::<String>::new(), "nobody is asked for yet");
    played.server_says(&[complete("BEGIN"), ready(IN_BLOCK)]);
    played.told();
    played
}

const CLAIM: &str = "SET LOCAL app.tenant_id = 'acme'";
const SCOPE: &str = "SET LOCAL app.tenant_id='acme';";

#[test]
fn nothing_is_sent_before_the_tenant_is_granted_nor_behind_a_claim_that_is_not_answered() {
    let mut played = in_a_block();
    played.says(CLAIM);
    played.says("SELECT 1");
    assert_eq!((played.sent().as_str(), &played.asked[..]), ("", &["acme".to_owned()][..]));
    played.granted();
    let sent = played.sent();
    assert!(sent.contains(SCOPE) && !sent.contains("SELECT 1"), "{sent}");
    played.server_says(&[complete("SET"), complete("SET"), ready(IN_BLOCK)]);
    let sent = played.sent();
    assert!(sent.contains("SELECT 1") && !sent.contains("SET LOCAL"), "{sent}");
    played.server_says(&[complete("SELECT 1"), ready(IN_BLOCK)]);
    assert_eq!(played.told(), [complete("SET"), ready(IN_BLOCK), complete("SELECT 1"), ready(IN_BLOCK)].concat());
}

#[test]
fn the_end_of_its_transaction_is_told_to_whoever_counts() {
    let mut played = in_a_block();
    played.says(CLAIM);
    played.granted();
    played.server_says(&[complete("SET"), complete("SET"), ready(IN_BLOCK)]);
    played.says("COMMIT");
    played.server_says(&[complete("COMMIT"), ready(TransactionStatus::Idle)]);
    assert_eq!((played.asked.join(" ").as_str(), played.shelf.len()), ("acme -", 1));
    // The same again asks again: it may be frozen by now.
    played.says(&format!("BEGIN; {CLAIM}; SELECT 1; COMMIT"));
    assert_eq!(played.asked.join(" "), "acme - acme");
}

#[test]
fn a_tenant_that_is_not_granted_fails_the_claim_in_its_place() {
    let mut played = in_a_block();
    played.says(CLAIM);
    let frozen = Fault { severity: Severity::Error, ..Fault::of(Code::TenantFrozen) };
    played.give(Input::Claimed(Err(frozen)));
    assert!(!played.sent().contains("SET LOCAL"));
    played.server_says(&[error("42601"), ready(TransactionStatus::Failed)]);
    let told = played.told_text();
    assert!(told.contains("TG072") && !played.is_closed, "{told}");
    played.says("ROLLBACK");
    played.server_says(&[complete("ROLLBACK"), ready(TransactionStatus::Idle)]);
    assert_eq!(played.shelf.len(), 1);
}

#[test]
fn a_client_that_vanishes_while_its_tenant_is_asked_for_leaves_a_server_at_rest() {
    for answer in [Ok(()), Err(Fault::of(Code::TenantFrozen))] {
        let mut played = in_a_block();
        played.says(CLAIM);
        played.give(Input::ClientGone);
        played.give(Input::Claimed(answer));
        assert!(played.sent().contains("ROLLBACK"));
        played.server_says(&[complete("ROLLBACK"), ready(TransactionStatus::Idle)]);
        assert_eq!((played.shelf.len(), played.is_closed), (1, true));
    }
    let mut played = in_a_block();
    played.says(CLAIM);
    played.give(Input::ServerGone);
    played.granted();
    assert!(played.is_closed && played.told_text().contains("TG053"));
}

#[test]
fn a_scope_that_fails_in_a_claim_s_place_ends_the_session_and_the_server() {
    let mut played = in_a_block();
    played.says(CLAIM);
    played.granted();
    played.server_says(&[error("42704"), ready(TransactionStatus::Failed)]);
    assert!(played.told_text().contains("TG055"));
    assert_eq!((&played.discards[..], played.is_closed), (&[DiscardReason::ScopeUnconfirmed][..], true));
}

#[test]
fn a_cancel_in_a_claim_s_place_is_the_client_s_own_error() {
    let mut played = in_a_block();
    played.says(CLAIM);
    played.granted();
    played.server_says(&[error("57014"), ready(TransactionStatus::Failed)]);
    assert!(played.told_text().contains("57014") && !played.is_closed);
    played.says("ROLLBACK");
    played.server_says(&[complete("ROLLBACK"), ready(TransactionStatus::Idle)]);
    // What was not confirmed is not believed.
    played.says("SELECT 1");
    assert!(played.told_text().contains("TG130") && played.sent().is_empty());
}

#[test]
fn a_session_s_claim_needs_no_server_and_is_put_on_each_transaction() {
    let mut played = Played::new();
    played.says("SET app.tenant_id = 'acme'");
    played.granted();
    assert_eq!(played.told(), [complete("SET"), ready(TransactionStatus::Idle)].concat());
    played.says("SELECT 1");
    assert!(played.sent().contains(&format!("{SCOPE}SELECT 1")));
    played.server_says(&[complete("SET"), complete("SELECT 1"), ready(TransactionStatus::Idle)]);
    assert_eq!((played.asked.join(" ").as_str(), played.shelf.len()), ("acme", 1), "it acts for it all the time");
    played.says("DISCARD ALL");
    assert_eq!(played.asked.join(" "), "acme -");
    played.told();
    played.says("SELECT 1");
    assert!(played.told_text().contains("TG130") && played.sent().is_empty());
}

#[test]
fn a_server_that_confirms_nothing_is_not_believed() {
    // The claim's own tag alone: one answer too few.
    let mut played = in_a_block();
    played.says(CLAIM);
    played.granted();
    played.server_says(&[complete("SET"), ready(IN_BLOCK)]);
    assert!(played.is_closed || !played.told_text().contains("SET"), "the client is told what has not happened");
}

#[test]
fn a_claim_in_front_of_a_failed_one_is_taken_back_with_its_segment() {
    let mut played = Played::new();
    let mut messages = written(|out| frontend::put_parse(out, b"", b"SET app.tenant_id = 'acme'", &[]));
    messages.extend(written(|out| frontend::put_bind_text(out, b"", b"", &[])));
    messages.extend(written(|out| frontend::put_execute(out, b"")));
    messages.extend(written(|out| frontend::put_parse(out, b"", b"SELECT nonsense", &[])));
    messages.extend(written(frontend::put_sync));
    played.give(Input::ClientBytes(&messages));
    played.granted();
    let scope = [reply(b'2', b""), complete("SELECT 0"), reply(b'3', b"")];
    let claim = [reply(b'1', b""), reply(b'2', b"")];
    let answers =
        [&claim[..], &scope[..], &[complete("UNLISTEN"), error("42703"), ready(TransactionStatus::Idle)]].concat();
    played.server_says(&answers);
    assert!(played.told_text().contains("42703"));
    played.says("SELECT 1");
    assert!(played.told_text().contains("TG130"), "the session's claim was rolled back");
    assert_eq!(played.asked.join(" "), "acme -");
}

/// What the server answers to a ticket.
fn let_in() -> Vec<u8> {
    [vec![b'2', 0, 0, 0, 4], complete("SELECT 0")].concat()
}

#[test]
fn each_transaction_of_a_query_on_a_sealed_database_gets_its_own_ticket() {
    let mut played = Played::sealed();
    played.says("BEGIN; SET LOCAL app.tenant_id = 'a'; SELECT 1; COMMIT; BEGIN; SET LOCAL app.tenant_id = 'b'; COMMIT");
    for _ in 0..2 {
        assert_eq!(played.sent(), "");
        played.granted();
    }
    let sent = played.sent();
    assert!(sent.contains("BEGIN") && !sent.contains("tg_scope"), "{sent}");
    played.server_says(&[complete("BEGIN"), ready(IN_BLOCK)]);
    assert_eq!(played.asked.join(" "), "a b a", "who is acted for is known to whoever counts");
    played.granted();
    let sent = played.sent();
    assert!(sent.contains("tg_scope") && sent.contains("SELECT 1; COMMIT") && !sent.contains("'b'"), "{sent}");
    let done = [complete("SET"), complete("SELECT 1"), complete("COMMIT"), ready(TransactionStatus::Idle)];
    played.server_says(&[&[let_in()][..], &done].concat());
    let sent = played.sent();
    assert!(sent.contains("BEGIN") && !sent.contains("tg_scope"), "{sent}");
    played.server_says(&[complete("BEGIN"), ready(IN_BLOCK)]);
    played.granted();
    let sent = played.sent();
    assert!(sent.contains("tg_scope") && sent.contains("'b'; COMMIT"), "{sent}");
    played.server_says(&[let_in(), complete("SET"), complete("COMMIT"), ready(TransactionStatus::Idle)]);
    assert_eq!(played.told_text().matches("COMMIT").count(), 2);
    assert_eq!((played.asked.last().map(String::as_str), played.shelf.len()), (Some("-"), 1));
}

/// A ticket in front of the SAVEPOINT would stay where the claim behind it is taken back.
#[test]
fn a_ticket_stands_behind_the_savepoint_that_takes_it_back() {
    let mut played = Played::sealed();
    played.says("BEGIN; SAVEPOINT s; SET LOCAL app.tenant_id = 'a'; ROLLBACK TO s; SET LOCAL app.tenant_id = 'b'");
    played.granted();
    played.granted();
    let sent = played.sent();
    assert!(sent.contains("SAVEPOINT s") && !sent.contains("tg_scope"), "{sent}");
    played.server_says(&[complete("BEGIN"), complete("SAVEPOINT"), ready(IN_BLOCK)]);
    played.granted();
    let sent = played.sent();
    assert!(sent.contains("tg_scope") && sent.contains("ROLLBACK TO s") && !sent.contains("'b'"), "{sent}");
    played.server_says(&[let_in(), complete("SET"), complete("ROLLBACK"), ready(IN_BLOCK)]);
    played.granted();
    let sent = played.sent();
    assert!(sent.contains("tg_scope") && sent.contains("'b'"), "{sent}");
}
