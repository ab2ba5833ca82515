//! A recorded session, input by input: what happens when either side, or the ledger, vanishes at each step.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test says why it failed by panicking")]

mod session_support;

use std::sync::Arc;

use session_support::{error, query, reply, server};
use tenantgate::audit::{Conclusion, Entry};
use tenantgate::fault::{Code, Fault};
use tenantgate::guard::{FactsCache, Limits, Policy, PolicySettings, Preset, inspect};
use tenantgate::scope::{Injection, ScopeTemplate};
use tenantgate::session::{Effect, Input, Recording, Session, SessionRules};
use tenantgate::upstream::{Parameters, Settings};

/// A bypass session with its driver played by the test; the ledger answers when the test says so.
struct Played {
    session: Session,
    records: Vec<Entry>,
    is_closed: bool,
    is_given_back: bool,
    is_discarded: bool,
}

impl Played {
    /// With a reason from the startup.
    fn new() -> Self {
        let settings = PolicySettings { preset: Preset::Bypass, ..PolicySettings::default() };
        let policy = Arc::new(Policy::new(&settings));
        let rules = SessionRules {
            recording: Some(Recording { needs_reason: true }),
            injection: Injection::fixed(&ScopeTemplate::fixed(&[]).unwrap()),
            text_bytes_max: policy.limits().text_bytes_max,
            policy,
            facts: Arc::new(FactsCache::default()),
            #[cfg(feature = "mutants")]
            mutant: None,
        };
        let base: Settings = Arc::new([("tenantgate.reason".into(), "a test".into())].into());
        let session = Session::new(Arc::new(rules), base, &Arc::new(Parameters::default()), 7, b"abcd");
        let mut played =
            Self { session, records: Vec::new(), is_closed: false, is_given_back: false, is_discarded: false };
        played.told();
        played
    }

    fn give(&mut self, input: Input<'_>) {
        self.session.handle(input);
        while let Some(effect) = self.session.poll_effect() {
            match effect {
                Effect::Lease => self.session.handle(Input::Leased(server())),
                Effect::Inspect(sql) => self.session.handle(Input::Inspected(inspect(&sql, &Limits::default()))),
                Effect::Record(entry) => self.records.push(entry),
                Effect::Close(_) => self.is_closed = true,
                Effect::CheckIn(_) => self.is_given_back = true,
                Effect::Discard(_) => self.is_discarded = true,
                Effect::Cancel | Effect::Refused(_) => {}
            }
        }
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

    fn ledger_says(&mut self, answer: Result<(), Fault>) {
        self.give(Input::Recorded(answer));
    }

    fn sent(&mut self) -> Vec<u8> {
        self.session.server_out().map(|out| out.split().to_vec()).unwrap_or_default()
    }

    fn told(&mut self) -> Vec<u8> {
        self.session.client_out().split().to_vec()
    }

    /// `i` for an intent, else the outcome's first letter.
    fn ledger(&self) -> String {
        let letter = |entry: &Entry| match entry {
            Entry::Intent(_) => 'i',
            Entry::Outcome(outcome) => match outcome.conclusion {
                Conclusion::Committed => 'c',
                Conclusion::RolledBack => 'r',
                Conclusion::Failed => 'f',
                Conclusion::Unknown => 'u',
            },
        };
        self.records.iter().map(letter).collect()
    }

    /// The settings replay that brings the reason onto the server.
    fn replay_is_answered(&mut self) {
        let pair = |tag: &str| [reply(b'2', b""), reply(b'C', format!("{tag}\0").as_bytes())].concat();
        self.server_says(&[pair("BEGIN"), pair("SELECT 0"), pair("COMMIT")].concat());
    }

    /// Up to the statement's being with the server, in the proxy's block.
    fn running() -> Self {
        let mut played = Self::new();
        played.says(&query("DELETE FROM t WHERE a = 'secret'"));
        assert_eq!(played.ledger(), "i");
        assert!(!contains(&played.sent(), b"DELETE"), "the statement waits for its record");
        played.replay_is_answered();
        assert!(!played.is_given_back, "the server that the record names stays");
        played.ledger_says(Ok(()));
        assert!(contains(&played.sent(), b"BEGIN"));
        played.server_says(&[reply(b'C', b"BEGIN\0"), ready(b'T')].concat());
        assert!(contains(&played.sent(), b"DELETE"));
        assert!(played.told().is_empty());
        played
    }

    /// Up to the proxy's COMMIT being with the server.
    fn ending() -> Self {
        let mut played = Self::running();
        played.server_says(&[reply(b'C', b"DELETE 3\0"), ready(b'T')].concat());
        assert!(contains(&played.sent(), b"COMMIT"));
        assert!(played.told().is_empty(), "nothing is told before it is committed");
        played
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn ready(status: u8) -> Vec<u8> {
    reply(b'Z', &[status])
}

#[test]
fn the_client_hears_of_its_end_when_the_record_is_durable() {
    let mut played = Played::ending();
    played.server_says(&[reply(b'C', b"COMMIT\0"), ready(b'I')].concat());
    assert_eq!(played.ledger(), "ic");
    assert_eq!(played.told(), reply(b'C', b"DELETE 3\0"));
    assert!(played.is_given_back, "the server need not wait for the ledger");
    played.says(&query("SELECT 1"));
    assert_eq!(played.ledger(), "ic", "the next one waits");
    played.ledger_says(Ok(()));
    assert_eq!(played.told(), ready(b'I'));
    assert_eq!(played.ledger(), "ici");
    let Entry::Outcome(outcome) = &played.records[1] else { unreachable!() };
    assert_eq!((outcome.rows_affected, outcome.statements_total), (3, 1));
    assert_eq!(outcome.statements[0].text.as_deref(), Some("DELETE FROM t WHERE a = ?"));
}

#[test]
fn an_outcome_that_cannot_be_written_changes_nothing_of_what_happened() {
    let mut played = Played::ending();
    played.server_says(&[reply(b'C', b"COMMIT\0"), ready(b'I')].concat());
    played.told();
    played.ledger_says(Err(Fault::of(Code::LedgerUnavailable)));
    assert_eq!(played.told(), ready(b'I'));
    assert!(!played.is_closed);
}

#[test]
fn an_intent_that_cannot_be_written_refuses_the_statement() {
    let mut played = Played::new();
    played.says(&query("DELETE FROM t"));
    played.replay_is_answered();
    played.ledger_says(Err(Fault::of(Code::LedgerUnavailable)));
    assert!(!contains(&played.sent(), b"DELETE"));
    played.server_says(&[error("42601"), ready(b'I')].concat());
    assert!(contains(&played.told(), b"TG062"));
    assert_eq!(played.ledger(), "i");
}

#[test]
fn whoever_vanishes_there_is_an_outcome() {
    type Step = fn() -> Played;
    let intending: Step = || {
        let mut played = Played::new();
        played.says(&query("DELETE FROM t"));
        played.replay_is_answered();
        played
    };
    let opening: Step = || {
        let mut played = Played::new();
        played.says(&query("DELETE FROM t"));
        played.replay_is_answered();
        played.ledger_says(Ok(()));
        played
    };
    for (name, step, of_server, of_client) in [
        ("intending", intending, "ir", "ir"),
        ("opening", opening, "ir", "i"),
        ("running", Played::running as Step, "ir", "i"),
        ("ending", Played::ending as Step, "iu", "i"),
    ] {
        let mut played = step();
        played.give(Input::ServerGone);
        assert_eq!(played.ledger(), of_server, "{name}, the server");
        assert!(played.is_closed, "{name}");
        // A client that is gone leaves its server to what it has sent: a later answer decides.
        let mut played = step();
        played.give(Input::ClientGone);
        assert_eq!(played.ledger(), of_client, "{name}, the client");
        played.ledger_says(Ok(()));
        if !played.is_closed {
            played.give(Input::Abort(Fault::of(Code::ShuttingDown)));
        }
        let of_abort = if of_server == "iu" { "iu" } else { "ir" };
        assert_eq!(played.ledger(), of_abort, "{name}, the client and then the proxy");
    }
}

#[test]
fn what_was_sent_before_the_client_vanished_is_committed() {
    let mut played = Played::running();
    played.give(Input::ClientGone);
    played.server_says(&[reply(b'C', b"DELETE 3\0"), ready(b'T')].concat());
    assert!(contains(&played.sent(), b"COMMIT"));
    played.server_says(&[reply(b'C', b"COMMIT\0"), ready(b'I')].concat());
    assert_eq!(played.ledger(), "ic");
    assert!(played.is_closed && played.is_given_back);
}

#[test]
fn a_failed_statement_is_rolled_back_and_a_failed_commit_is_the_client_s_error() {
    let mut played = Played::running();
    played.server_says(&[error("23505"), ready(b'E')].concat());
    assert!(contains(&played.sent(), b"ROLLBACK"));
    played.server_says(&[reply(b'C', b"ROLLBACK\0"), ready(b'I')].concat());
    assert_eq!(played.ledger(), "if");
    played.ledger_says(Ok(()));
    assert_eq!(played.told(), [error("23505"), ready(b'I')].concat());
    let mut played = Played::ending();
    played.server_says(&[error("23503"), ready(b'I')].concat());
    assert_eq!(played.ledger(), "if");
    played.ledger_says(Ok(()));
    assert_eq!(played.told(), [error("23503"), ready(b'I')].concat());
}

#[test]
fn a_server_that_says_something_else_is_given_up() {
    for (step, said) in [
        (Played::ending as fn() -> Played, [reply(b'C', b"ROLLBACK\0"), ready(b'I')].concat()),
        (Played::ending, ready(b'T')),
        (Played::ending, reply(b'D', b"\0\0")),
        (Played::running, [reply(b'C', b"DELETE 1\0"), reply(b'C', b"DELETE 1\0")].concat()),
    ] {
        let mut played = step();
        played.server_says(&said);
        assert!(played.is_discarded && played.is_closed, "{said:?}");
        assert!(matches!(played.ledger().as_str(), "iu" | "ir"), "{} {said:?}", played.ledger());
    }
}

#[test]
fn a_cancel_finds_what_waits_for_the_ledger() {
    let mut played = Played::new();
    played.says(&query("DELETE FROM t"));
    played.replay_is_answered();
    played.give(Input::Cancelled);
    played.ledger_says(Ok(()));
    assert_eq!(played.ledger(), "if");
    played.ledger_says(Ok(()));
    assert!(!contains(&played.sent(), b"DELETE"));
    assert!(contains(&played.told(), b"57014"));
    // It is forgotten with that statement.
    played.says(&query("DELETE FROM t"));
    played.replay_is_answered();
    played.ledger_says(Ok(()));
    assert_eq!(played.ledger(), "ifi");
    assert!(contains(&played.sent(), b"BEGIN"));
}

#[test]
fn the_proxy_drains_between_transactions_only() {
    let mut played = Played::ending();
    played.give(Input::Drain);
    assert!(!played.is_closed);
    played.server_says(&[reply(b'C', b"COMMIT\0"), ready(b'I')].concat());
    assert!(!played.is_closed, "the client has not heard of the end");
    played.ledger_says(Ok(()));
    assert!(played.is_closed);
    assert!(contains(&played.told(), &ready(b'I')));
}
