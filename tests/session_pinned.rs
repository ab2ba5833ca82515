//! A session whose server stays with it, input by input: what happens when either side vanishes, fails or says
//! something else at each step.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test says why it failed by panicking")]

mod session_support;

use session_support::{error, query, reply, server, written};
use std::sync::Arc;
use std::time::Duration;
use tenantgate::fault::{Code, Fault};
use tenantgate::guard::{FactsCache, Keeping, Limits, Policy, PolicySettings, Preset, inspect};
use tenantgate::scope::{CleanServer, DiscardReason, Injection, Lifetime, ScopeTemplate};
use tenantgate::session::{Effect, Input, Overrun, Session, SessionRules, Standing};
use tenantgate::tenant::{TenantId, TenantKind};
use tenantgate::upstream::{Parameters, Settings};
use tenantgate::wire::{TransactionStatus, backend, frontend};

/// A session with its driver played by the test.
struct Played {
    session: Session,
    has_server: bool,
    /// What the pool says when a server is to stay.
    answer: Result<(), Fault>,
    is_closed: bool,
    given_back: usize,
    discarded: Option<DiscardReason>,
    rests: usize,
    /// What was given back last: the next lease is of it.
    shelf: Option<CleanServer>,
}

impl Played {
    fn new(keeping: Keeping) -> Self {
        let settings = PolicySettings {
            preset: Preset::Application,
            keeping,
            scope_settings: vec!["app.tenant_id".to_owned()],
            ..PolicySettings::default()
        };
        let tenant = TenantId::parse(TenantKind::Text, "acme").unwrap();
        let rules = Arc::new(SessionRules {
            recording: None,
            claims: None,
            bypass: None,
            injection: Injection::new(&ScopeTemplate::default(), &tenant, Lifetime::Transaction),
            policy: Arc::new(Policy::new(&settings)),
            facts: Arc::new(FactsCache::default()),
            #[cfg(feature = "mutants")]
            mutant: mutants::planted(),
        });
        let session = Session::new(rules, Settings::default(), &Arc::new(Parameters::default()), 7, b"abcd");
        let mut played = Self {
            session,
            has_server: false,
            answer: Ok(()),
            is_closed: false,
            given_back: 0,
            discarded: None,
            rests: 0,
            shelf: None,
        };
        played.told();
        played
    }

    fn give(&mut self, input: Input<'_>) {
        self.session.handle(input);
        while let Some(effect) = self.session.poll_effect() {
            match effect {
                Effect::Lease if self.has_server => self.session.handle(Input::Resumed),
                Effect::Lease => {
                    self.has_server = true;
                    let clean = self.shelf.take().unwrap_or_else(server);
                    self.session.handle(Input::Leased(clean));
                }
                Effect::Pin => self.session.handle(Input::Pinned(self.answer.clone())),
                Effect::Claim(_) | Effect::Unclaim => {}
                Effect::Rest => self.rests += 1,
                Effect::Limit(_) => {}
                Effect::Inspect(sql) => self.session.handle(Input::Inspected(inspect(&sql, &Limits::default()))),
                Effect::Close(_) => self.is_closed = true,
                Effect::CheckIn(clean) => {
                    self.shelf = Some(clean);
                    self.given_back += 1;
                    self.has_server = false;
                }
                Effect::Discard(reason) => {
                    assert!(self.has_server, "discarded what was not there");
                    self.discarded = Some(reason);
                    self.has_server = false;
                }
                Effect::Refused(_) | Effect::Observed(..) | Effect::Record(_) | Effect::Cancel => {}
            }
        }
        assert!(!self.is_closed || !self.has_server, "ended with a server");
    }

    fn says(&mut self, bytes: &[u8]) {
        self.give(Input::ClientBytes(bytes));
    }

    /// The server has read all it was sent, and answers.
    fn server_says(&mut self, bytes: &[u8]) {
        drop(self.sent());
        self.give(Input::ServerWritten);
        self.give(Input::ServerBytes(bytes));
    }

    fn sent(&mut self) -> Vec<u8> {
        self.session.server_out().map(|out| out.split().to_vec()).unwrap_or_default()
    }

    fn told(&mut self) -> Vec<u8> {
        self.session.client_out().split().to_vec()
    }

    /// With LISTEN done and known to the proxy, at rest.
    fn listening() -> Self {
        let mut played = Self::asking();
        played.server_says(&found(&["SELECT 1"]));
        assert_eq!((played.rests, played.given_back), (1, 0));
        assert!(played.session.is_pinned() && played.session.is_resting());
        played
    }

    /// With LISTEN done, and the inquiry with the server.
    fn asking() -> Self {
        let mut played = Self::new(Keeping::Pin);
        played.says(&query("LISTEN jobs"));
        played.server_says(&[complete("LISTEN"), ready(TransactionStatus::Idle)].concat());
        assert!(holds(&played.sent(), "pg_listening_channels"));
        assert_eq!(tags(&played.told()), "CZ", "the client does not wait for it");
        assert_eq!((played.rests, played.given_back), (0, 0));
        played
    }
}

fn complete(tag: &str) -> Vec<u8> {
    written(|out| backend::put_command_complete(out, tag.as_bytes()))
}

fn ready(status: TransactionStatus) -> Vec<u8> {
    written(|out| backend::put_ready(out, status))
}

fn completes(tags: &[&str]) -> Vec<u8> {
    tags.iter().flat_map(|tag| complete(tag)).collect()
}

/// The answer to an inquiry that releases nothing.
fn found(answers: &[&str]) -> Vec<u8> {
    let front = completes(&["BEGIN", "SET", "COMMIT", "BEGIN", "SET"]);
    [front, completes(answers), complete("COMMIT"), ready(TransactionStatus::Idle)].concat()
}

/// The answer to one that releases channels.
fn released(answer: &str) -> Vec<u8> {
    let tags = completes(&["BEGIN", "SET", "UNLISTEN", "COMMIT", "BEGIN", "SET", answer, "COMMIT"]);
    [tags, ready(TransactionStatus::Idle)].concat()
}

fn notification() -> Vec<u8> {
    reply(b'A', b"\0\0\0\x01jobs\0one\0")
}

fn fatal() -> Vec<u8> {
    reply(b'E', b"SFATAL\0VFATAL\0C57P01\0Mbye\0\0")
}

fn holds(bytes: &[u8], part: &str) -> bool {
    bytes.windows(part.len()).any(|window| window == part.as_bytes())
}

/// The types of the messages in these bytes.
fn tags(mut bytes: &[u8]) -> String {
    let mut tags = String::new();
    while let [tag, a, b, c, d, ..] = *bytes {
        tags.push(char::from(tag));
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap();
        bytes = bytes.get(length + 1..).unwrap_or_default();
    }
    tags
}

#[test]
fn messages_wait_for_the_inquiry_and_the_next_transaction_is_scoped() {
    let mut played = Played::asking();
    played.says(&query("SELECT 1"));
    assert!(played.sent().is_empty(), "nothing goes behind an inquiry");
    played.server_says(&found(&["SELECT 1"]));
    assert_eq!(played.rests, 1);
    let sent = played.sent();
    assert!(holds(&sent, "SET LOCAL app.tenant_id='acme'") && holds(&sent, "SELECT 1"));
    played.server_says(&[completes(&["SET", "SELECT 1"]), ready(TransactionStatus::Idle)].concat());
    assert_eq!((tags(&played.told()).as_str(), played.rests), ("CZ", 2), "and nothing is asked behind it");
}

#[test]
fn a_server_on_which_nothing_is_left_goes_back() {
    let mut played = Played::asking();
    played.server_says(&found(&["SELECT 0"]));
    assert_eq!((played.rests, played.given_back), (0, 1));
    assert!(!played.session.is_pinned());
}

#[test]
fn an_inquiry_without_an_answer_proves_nothing() {
    let mut played = Played::asking();
    // A cancel hits it.
    played.server_says(&[completes(&["BEGIN", "SET"]), error("57014"), ready(TransactionStatus::Failed)].concat());
    assert!(holds(&played.sent(), "ROLLBACK"));
    played.server_says(&[complete("ROLLBACK"), ready(TransactionStatus::Idle)].concat());
    assert_eq!((played.rests, played.given_back, tags(&played.told()).as_str()), (1, 0, ""));
    // It is asked again behind the next transaction.
    played.says(&query("UNLISTEN jobs"));
    played.server_says(&[complete("UNLISTEN"), ready(TransactionStatus::Idle)].concat());
    assert!(holds(&played.sent(), "pg_listening_channels"));
    played.server_says(&found(&["SELECT 0"]));
    assert_eq!(played.given_back, 1);
}

#[test]
fn an_answer_of_another_form_ends_the_session_and_the_server() {
    for answer in [
        found(&["SELECT 2"]),
        found(&["INSERT 0 0"]),
        found(&["SELECT 0", "SELECT 0"]),
        [
            completes(&["BEGIN", "SET", "COMMIT", "BEGIN", "SET", "SELECT 0", "ROLLBACK"]),
            ready(TransactionStatus::Idle),
        ]
        .concat(),
    ] {
        let mut played = Played::asking();
        played.server_says(&answer);
        assert!(played.is_closed && played.discarded.is_some() && played.given_back == 0, "{answer:?}");
        assert!(holds(&played.told(), "TG056"));
    }
}

#[test]
fn an_inquiry_that_ends_too_early_keeps_the_server() {
    let mut played = Played::asking();
    played.server_says(&[completes(&["BEGIN", "SET", "COMMIT"]), ready(TransactionStatus::Idle)].concat());
    assert_eq!((played.rests, played.given_back), (1, 0));
}

#[test]
fn a_client_that_leaves_while_its_server_is_asked_leaves_nothing() {
    for input in [Input::ClientGone, Input::ClientDone] {
        let mut played = Played::asking();
        played.give(input);
        played.server_says(&found(&["SELECT 1"]));
        assert!(holds(&played.sent(), "UNLISTEN *"));
        played.server_says(&released("SELECT 0"));
        assert!(played.is_closed && played.given_back == 1);
    }
}

#[test]
fn a_client_that_leaves_at_rest_leaves_nothing_or_no_server() {
    for (answer, is_clean) in [(released("SELECT 0"), true), (released("SELECT 1"), false), (fatal(), false)] {
        let mut played = Played::listening();
        played.says(&written(frontend::put_terminate));
        assert!(!played.is_closed);
        assert_eq!(played.session.pulse().standing, Standing::Leaving);
        assert!(holds(&played.sent(), "UNLISTEN *"));
        played.server_says(&answer);
        played.give(Input::ServerGone);
        assert!(played.is_closed);
        assert_eq!((played.given_back, played.discarded.is_some()), (usize::from(is_clean), !is_clean));
    }
    let mut played = Played::listening();
    played.give(Input::ClientGone);
    played.server_says(&[completes(&["BEGIN", "SET"]), error("42501"), ready(TransactionStatus::Failed)].concat());
    played.server_says(&[complete("ROLLBACK"), ready(TransactionStatus::Idle)].concat());
    assert_eq!((played.given_back, played.discarded), (0, Some(DiscardReason::StateLeft)));
}

#[test]
fn a_client_that_leaves_in_a_block_is_rolled_back_before_its_state_is_released() {
    let mut played = Played::listening();
    played.says(&query("BEGIN"));
    played.server_says(&[complete("BEGIN"), ready(TransactionStatus::InBlock)].concat());
    played.give(Input::ClientGone);
    assert!(holds(&played.sent(), "ROLLBACK"));
    played.server_says(&[complete("ROLLBACK"), ready(TransactionStatus::Idle)].concat());
    assert!(holds(&played.sent(), "UNLISTEN *"));
    played.server_says(&released("SELECT 0"));
    assert_eq!((played.is_closed, played.given_back), (true, 1));
}

#[test]
fn a_cleaning_that_takes_too_long_ends_with_the_server() {
    let mut played = Played::listening();
    played.give(Input::ClientGone);
    played.give(Input::Overrun(Overrun::Leaving));
    assert_eq!((played.is_closed, played.discarded), (true, Some(DiscardReason::TimeLimit)));
}

#[test]
fn a_resting_server_may_notify_in_pieces_and_nothing_else() {
    let mut played = Played::listening();
    let whole = notification();
    let (front, rest) = whole.split_at(7);
    played.give(Input::ServerBytes(front));
    assert!(played.told().is_empty());
    played.give(Input::ServerBytes(&[rest, &notification(), &reply(b'N', b"SNOTICE\0\0")].concat()));
    assert_eq!(tags(&played.told()), "AAN");
    played.give(Input::ServerBytes(&reply(b'S', b"TimeZone\0UTC\0")));
    assert_eq!(tags(&played.told()), "", "told at the next ReadyForQuery");
    for hostile in [reply(b'D', b"\0\0"), ready(TransactionStatus::Idle), complete("SELECT 1"), error("42P01")] {
        let mut played = Played::listening();
        played.give(Input::ServerBytes(&hostile));
        assert!(played.is_closed && played.discarded == Some(DiscardReason::Unexpected));
        assert!(holds(&played.told(), "TG056"));
    }
    let mut played = Played::listening();
    played.give(Input::ServerBytes(&reply(b'S', b"client_encoding\0SJIS\0")));
    assert_eq!((played.is_closed, played.discarded), (true, Some(DiscardReason::PinBroken)));
}

#[test]
fn a_notification_comes_between_any_two_replies() {
    let mut played = Played::listening();
    played.says(&query("SELECT 1"));
    let answers =
        [complete("SET"), notification(), complete("SELECT 1"), notification(), ready(TransactionStatus::Idle)];
    played.server_says(&answers.concat());
    assert_eq!(tags(&played.told()), "ACAZ");
}

#[test]
fn nobody_is_notified_who_does_not_listen() {
    let mut played = Played::new(Keeping::Pin);
    played.says(&query("SELECT 1"));
    played
        .server_says(&[complete("SET"), notification(), complete("SELECT 1"), ready(TransactionStatus::Idle)].concat());
    assert_eq!((tags(&played.told()).as_str(), played.given_back), ("CZ", 1));
}

#[test]
fn the_end_of_a_resting_server_is_told_once() {
    let mut played = Played::listening();
    played.give(Input::ServerBytes(&fatal()));
    assert!(played.is_closed && played.discarded == Some(DiscardReason::ServerGone));
    assert!(holds(&played.told(), "bye"));
    played.give(Input::ServerGone);
    assert!(played.told().is_empty());
    let mut played = Played::listening();
    played.give(Input::ServerGone);
    assert!(played.is_closed && holds(&played.told(), "TG053"));
}

#[test]
fn a_pin_that_is_not_granted_refuses_the_statement_and_leaves_the_server_free() {
    let mut played = Played::new(Keeping::Pin);
    played.answer = Err(Fault::of(Code::PoolPins));
    played.says(&query("LISTEN jobs"));
    assert!(!holds(&played.sent(), "LISTEN jobs"));
    played.server_says(&[error("42601"), ready(TransactionStatus::Idle)].concat());
    assert!(holds(&played.told(), "TG112"));
    assert_eq!((played.rests, played.given_back), (0, 1));
    // The next one asks again.
    played.answer = Ok(());
    played.says(&query("LISTEN jobs"));
    assert!(holds(&played.sent(), "LISTEN jobs"));
}

#[test]
fn a_pause_that_is_too_long_ends_the_session_and_frees_its_server() {
    let mut played = Played::listening();
    assert_eq!(played.session.pulse().standing, Standing::Pinned);
    played.give(Input::Overrun(Overrun::Pinned(Duration::from_secs(1))));
    assert!(holds(&played.told(), "TG113") && !played.is_closed);
    played.server_says(&released("SELECT 0"));
    assert_eq!((played.is_closed, played.given_back), (true, 1));
}

#[test]
fn orders_end_a_resting_session_at_once() {
    let mut played = Played::listening();
    played.give(Input::Drain);
    assert!(played.is_closed && played.discarded.is_some() && holds(&played.told(), "TG054"));
    let mut played = Played::listening();
    played.give(Input::Expel(Fault::of(Code::Killed)));
    assert!(played.is_closed && played.discarded == Some(DiscardReason::Expelled));
    // In a transaction the end waits for its end.
    let mut played = Played::listening();
    played.says(&query("BEGIN"));
    played.server_says(&[complete("BEGIN"), ready(TransactionStatus::InBlock)].concat());
    played.give(Input::Drain);
    assert!(!played.is_closed);
    played.says(&query("COMMIT"));
    played.server_says(&[complete("COMMIT"), ready(TransactionStatus::Idle)].concat());
    assert!(played.is_closed && played.discarded.is_some());
}

#[test]
fn session_pooling_keeps_the_server_and_cleans_all_of_it_in_the_end() {
    let mut played = Played::new(Keeping::Session);
    played.says(&query("SELECT 1"));
    assert!(holds(&played.sent(), "DISCARD SEQUENCES"), "what the one before has left of sequences");
    let replay = [
        [reply(b'2', b""), complete("BEGIN"), reply(b'1', b""), reply(b'2', b"")].concat(),
        [complete("DISCARD SEQUENCES"), reply(b'2', b""), complete("COMMIT")].concat(),
    ];
    played.server_says(&replay.concat());
    played.server_says(&[completes(&["SET", "SELECT 1"]), ready(TransactionStatus::Idle)].concat());
    assert_eq!((played.rests, tags(&played.told()).as_str()), (1, "CZ"));
    played.says(&query("SELECT 1"));
    assert!(!holds(&played.sent(), "DISCARD"));
    played.server_says(&[completes(&["SET", "SELECT 1"]), ready(TransactionStatus::Idle)].concat());
    played.give(Input::ClientGone);
    let sent = played.sent();
    for release in ["CLOSE ALL", "UNLISTEN *", "pg_advisory_unlock_all", "DISCARD TEMP", "DISCARD SEQUENCES"] {
        assert!(holds(&sent, release), "{release}");
    }
}

#[test]
fn names_of_the_proxy_reach_no_server() {
    let mut played = Played::listening();
    for sql in
        ["EXECUTE tg_set('app.tenant_id', 'globex')", "PREPARE tg_scope AS SELECT 1", "EXECUTE tg_scope('globex')"]
    {
        played.says(&query(sql));
        assert!(played.sent().is_empty(), "{sql}");
        assert!(holds(&played.told(), "TG010"));
    }
}

const TEXT: &str = "INSERT INTO foo (amount) VALUES ($1)";

fn parse(name: &str, sql: &str) -> Vec<u8> {
    written(|out| frontend::put_parse(out, name.as_bytes(), sql.as_bytes(), &[]))
}

fn sync() -> Vec<u8> {
    written(frontend::put_sync)
}

fn run(name: &str) -> Vec<u8> {
    written(|out| {
        frontend::put_bind_text(out, b"", name.as_bytes(), &[b"1.5"]);
        frontend::put_execute(out, b"");
        frontend::put_sync(out);
    })
}

/// Another client gets the server.
fn other_client_of(mut played: Played) -> Played {
    let mut other = Played::new(Keeping::Pin);
    other.shelf = played.shelf.take();
    assert!(other.shelf.is_some(), "it was given back");
    other
}

/// PostgreSQL fixes the types of parameters when a statement is prepared, and keeps them when its table is another: a
/// numeric of the next tenant would go through the float4 of a temporary table that is long gone.
#[test]
fn what_was_prepared_beside_a_temporary_table_is_nobody_elses() {
    for (create, is_left) in [
        ("CREATE TEMP TABLE foo (amount float4)", true),
        ("BEGIN; CREATE TEMP TABLE foo (amount float4) ON COMMIT DROP", false),
    ] {
        let mut played = Played::new(Keeping::Pin);
        // The statement of before is prepared again where its server does not have it: then it is private, too.
        played.says(&[parse("old", TEXT), sync()].concat());
        played.server_says(&[reply(b'1', b""), ready(TransactionStatus::Idle)].concat());
        played.shelf = None;
        played.says(&query(create));
        if is_left {
            played.server_says(&[completes(&["SET", "CREATE TABLE"]), ready(TransactionStatus::Idle)].concat());
            played.server_says(&found(&["SELECT 1"]));
            assert_eq!((played.rests, played.given_back), (1, 1));
        } else {
            let tags = completes(&["BEGIN", "SET", "CREATE TABLE"]);
            played.server_says(&[tags, ready(TransactionStatus::InBlock)].concat());
        }
        played.says(&[parse("new", TEXT), run("old"), run("old")].concat());
        let sent = played.sent();
        let texts = sent.windows(TEXT.len()).filter(|window| *window == TEXT.as_bytes()).count();
        assert_eq!(texts, 2, "each is prepared once, and neither for the other");
        let (scope, done) = match is_left {
            true => ([reply(b'2', b""), complete("SELECT 0")].concat(), TransactionStatus::Idle),
            false => (Vec::new(), TransactionStatus::InBlock),
        };
        let insert = || [reply(b'2', b""), complete("INSERT 0 1"), ready(done)].concat();
        let prepared = [reply(b'1', b""), reply(b'1', b"")].concat();
        played.server_says(&[prepared, scope.clone(), insert()].concat());
        // It waited until its statement was there for certain.
        let sent = played.sent();
        assert!(!sent.is_empty() && !holds(&sent, TEXT), "prepared once");
        played.server_says(&[scope, insert()].concat());
        assert!(!played.is_closed, "{:?}", played.told());
        played.says(&query(if is_left { "DROP TABLE pg_temp.foo" } else { "COMMIT" }));
        if is_left {
            played.server_says(&[completes(&["SET", "DROP TABLE"]), ready(TransactionStatus::Idle)].concat());
            played.server_says(&found(&["SELECT 0"]));
        } else {
            played.server_says(&[complete("COMMIT"), ready(TransactionStatus::Idle)].concat());
        }
        assert_eq!(played.given_back, 2);
        let mut other = other_client_of(played);
        other.says(&[parse("s", TEXT), sync()].concat());
        assert!(holds(&other.sent(), TEXT), "{create}");
    }
}

/// A name that means another table to one client alone is no change of the schema.
#[test]
fn a_client_s_own_search_path_tells_nobody_to_prepare_anew() {
    let changed = || {
        let error = reply(b'E', b"SERROR\0VERROR\0C0A000\0Mno\0RRevalidateCachedQuery\0\0");
        [error, ready(TransactionStatus::Idle)].concat()
    };
    for (is_own, wanted) in [(true, true), (false, false)] {
        let mut played = Played::new(Keeping::Pin);
        played.says(&[parse("s", TEXT), sync()].concat());
        played.server_says(&[reply(b'1', b""), ready(TransactionStatus::Idle)].concat());
        if is_own {
            played.says(&query("SET search_path TO elsewhere"));
            played.server_says(&[complete("SET"), ready(TransactionStatus::Idle)].concat());
        }
        played.says(&run("s"));
        assert!(!holds(&played.sent(), TEXT), "the server has it");
        played.server_says(&[reply(b'2', b""), complete("SELECT 0"), changed()].concat());
        assert!(holds(&played.told(), "0A000"));
        let mut other = other_client_of(played);
        other.says(&[parse("s", TEXT), sync()].concat());
        assert_ne!(holds(&other.sent(), TEXT), wanted, "{is_own}");
    }
}

/// What `lastval` gives is another tenant's until it is forgotten.
#[test]
fn a_cancelled_beginning_of_session_pooling_forgets_sequences_all_the_same() {
    let mut played = Played::new(Keeping::Session);
    played.says(&query("SELECT 1"));
    assert!(holds(&played.sent(), "DISCARD SEQUENCES"));
    played.server_says(&error("57014"));
    played.server_says(&ready(TransactionStatus::Idle));
    assert_eq!((tags(&played.told()).as_str(), played.rests), ("EZ", 1));
    played.says(&query("SELECT lastval()"));
    assert!(holds(&played.sent(), "DISCARD SEQUENCES"));
}

/// Planted defects must be found by the tests above.
#[cfg(feature = "mutants")]
mod mutants {
    use std::cell::Cell;
    use tenantgate::session::Mutant;

    thread_local! {
        static PLANTED: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    pub fn planted() -> Option<Mutant> {
        PLANTED.get()
    }

    fn is_found(mutant: Mutant, test: fn()) {
        test();
        PLANTED.set(Some(mutant));
        let outcome = std::panic::catch_unwind(test);
        PLANTED.set(None);
        assert!(outcome.is_err(), "{} is not found", mutant.name());
    }

    #[test]
    fn mutants_that_forget_what_a_statement_leaves_are_found() {
        is_found(Mutant::StateForgotten, super::messages_wait_for_the_inquiry_and_the_next_transaction_is_scoped);
    }

    #[test]
    fn mutants_that_believe_an_inquiry_without_an_answer_are_found() {
        is_found(Mutant::InquiryBelieved, super::an_inquiry_without_an_answer_proves_nothing);
    }

    #[test]
    fn mutants_that_clean_nothing_are_found() {
        is_found(Mutant::CleaningSkipped, super::a_client_that_leaves_at_rest_leaves_nothing_or_no_server);
    }
}
