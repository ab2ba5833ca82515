//! A recorded session, input by input: what happens when either side, or the ledger, vanishes at each step.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test says why it failed by panicking")]

mod session_support;

use std::sync::Arc;

use session_support::{error, query, reply, server, written};
use tenantgate::audit::{Conclusion, Entry, ParameterKey, Xid};
use tenantgate::fault::{Code, Fault};
use tenantgate::guard::{FactsCache, Limits, Policy, PolicySettings, Preset, inspect};
use tenantgate::metrics::Count;
use tenantgate::scope::{Injection, ScopeTemplate};
use tenantgate::session::{Effect, Input, Recording, Session, SessionRules, Standing};
use tenantgate::upstream::{Parameters, Settings};
use tenantgate::wire::frontend;

/// A bypass session with its driver played by the test; the ledger answers when the test says so.
struct Played {
    session: Session,
    records: Vec<Entry>,
    is_closed: bool,
    is_given_back: bool,
    is_discarded: bool,
    /// What the ledger had been asked for when the server was given back.
    ledger_at_check_in: String,
    /// A reload that is found when a server is asked for.
    reload: Option<SessionRules>,
}

fn rules(preset: Preset) -> SessionRules {
    let policy = Arc::new(Policy::new(&PolicySettings { preset, ..PolicySettings::default() }));
    SessionRules {
        recording: Some(Recording { needs_reason: true, is_written: true, parameter_key: None }),
        claims: None,
        bypass: None,
        injection: Injection::fixed(&ScopeTemplate::fixed(&[]).unwrap()),
        policy,
        facts: Arc::new(FactsCache::default()),
        #[cfg(feature = "mutants")]
        mutant: None,
    }
}

impl Played {
    /// With a reason from the startup.
    fn new() -> Self {
        Self::of(rules(Preset::Bypass))
    }

    fn of(rules: SessionRules) -> Self {
        let base: Settings = Arc::new([("tenantgate.reason".into(), "a test".into())].into());
        let session = Session::new(Arc::new(rules), base, &Arc::new(Parameters::default()), 7, b"abcd");
        let mut played = Self {
            session,
            records: Vec::new(),
            is_closed: false,
            is_given_back: false,
            is_discarded: false,
            ledger_at_check_in: String::new(),
            reload: None,
        };
        played.told();
        played
    }

    fn give(&mut self, input: Input<'_>) {
        self.session.handle(input);
        while let Some(effect) = self.session.poll_effect() {
            match effect {
                Effect::Lease => {
                    if let Some(rules) = self.reload.take() {
                        self.session.handle(Input::Rules(Arc::new(rules)));
                    }
                    self.session.handle(Input::Leased(server()));
                }
                Effect::Inspect(sql) => self.session.handle(Input::Inspected(inspect(&sql, &Limits::default()))),
                Effect::Record(entry) => self.records.push(entry),
                Effect::Close(_) => self.is_closed = true,
                Effect::CheckIn(_) => {
                    self.is_given_back = true;
                    self.ledger_at_check_in = self.ledger();
                }
                Effect::Discard(_) => self.is_discarded = true,
                Effect::Pin => self.session.handle(Input::Pinned(Ok(()))),
                Effect::Cancel
                | Effect::Refused(_)
                | Effect::Observed(..)
                | Effect::Rest
                | Effect::Limit(_)
                | Effect::Claim(_)
                | Effect::Unclaim => {}
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
        played.announced(&standing_of_a_query());
        assert!(contains(&played.sent(), b"COMMIT"));
        assert!(played.told().is_empty(), "nothing is told before it is committed");
        played
    }

    /// The server is asked how the transaction stands, and the ledger says that it has the pre-commit record.
    fn announced(&mut self, standing: &[u8]) {
        self.is_asked(standing);
        self.ledger_says(Ok(()));
    }

    /// The same up to the record's being on its way.
    fn is_asked(&mut self, standing: &[u8]) {
        let sent = self.sent();
        assert!(contains(&sent, b"pg_current_xact_id_if_assigned") && !contains(&sent, b"COMMIT"), "{sent:?}");
        let records = self.ledger();
        self.give(Input::ServerBytes(standing));
        assert_eq!(self.ledger(), records + "p");
        assert!(!contains(&self.sent(), b"COMMIT"), "it waits for its record");
    }
}

/// DataRow: the transaction has this id.
fn standing_row() -> Vec<u8> {
    written(|out| {
        frontend::put_message(out, b'D', |out| {
            out.extend_from_slice(b"\0\x07\0\0\0\x03731\0\0\0\x090/15A3B48\0\0\0\x017\0\0\0\x090/15A3B48\0\0\0\x0800000001\0\0\0\x0299\xff\xff\xff\xff");
        });
    })
}

fn standing_of_a_query() -> Vec<u8> {
    [reply(b'T', b"\0\0"), standing_row(), reply(b'C', b"SELECT 1\0"), ready(b'T')].concat()
}

fn standing_in_a_segment() -> Vec<u8> {
    let bound = [reply(b'1', b""), reply(b'2', b"")].concat();
    [bound, standing_row(), reply(b'C', b"SELECT 1\0"), reply(b'3', b"")].concat()
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Parse of a named statement, Bind and Execute of a portal of that name.
fn execution(name: &str, sql: &str) -> Vec<u8> {
    written(|out| {
        frontend::put_parse(out, name.as_bytes(), sql.as_bytes(), &[]);
        frontend::put_bind_text(out, name.as_bytes(), name.as_bytes(), &[]);
        frontend::put_message(out, b'E', |out| out.extend_from_slice(format!("{name}\0\0\0\0\0").as_bytes()));
    })
}

/// The types of the messages in these bytes.
fn tags(mut bytes: &[u8]) -> String {
    let mut tags = String::new();
    while let [tag, a, b, c, d, ..] = *bytes {
        tags.push(char::from(tag));
        bytes = &bytes[1 + u32::from_be_bytes([a, b, c, d]) as usize..];
    }
    tags
}

fn sync() -> Vec<u8> {
    reply(b'S', b"")
}

fn ready(status: u8) -> Vec<u8> {
    reply(b'Z', &[status])
}

#[test]
fn the_client_hears_of_its_end_when_the_record_is_durable() {
    let mut played = Played::ending();
    played.server_says(&[reply(b'C', b"COMMIT\0"), ready(b'I')].concat());
    assert_eq!(played.ledger(), "ipc");
    assert!(played.told().is_empty(), "nothing is told before it is durable");
    assert!(played.is_given_back, "the server need not wait for the ledger");
    played.says(&query("SELECT 1"));
    assert_eq!(played.ledger(), "ipc", "the next one waits");
    played.ledger_says(Ok(()));
    assert_eq!(played.told(), [reply(b'C', b"DELETE 3\0"), ready(b'I')].concat());
    assert_eq!(played.ledger(), "ipci");
    let Entry::Outcome(outcome) = &played.records[2] else { unreachable!() };
    assert_eq!((outcome.done.rows_affected, outcome.done.statements_total), (3, 1));
    assert_eq!(outcome.done.statements[0].text.as_deref(), Some("DELETE FROM t WHERE a = ?"));
}

#[test]
fn an_outcome_that_cannot_be_written_changes_nothing_of_what_happened() {
    let mut played = Played::ending();
    played.server_says(&[reply(b'C', b"COMMIT\0"), ready(b'I')].concat());
    played.ledger_says(Err(Fault::of(Code::LedgerUnavailable)));
    assert_eq!(played.told(), [reply(b'C', b"DELETE 3\0"), ready(b'I')].concat());
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
    let asking: Step = || {
        let mut played = Played::running();
        played.server_says(&[reply(b'C', b"DELETE 3\0"), ready(b'T')].concat());
        played
    };
    let announcing: Step = || {
        let mut played = Played::running();
        played.server_says(&[reply(b'C', b"DELETE 3\0"), ready(b'T')].concat());
        played.is_asked(&standing_of_a_query());
        played
    };
    for (name, step, of_server, of_client) in [
        ("intending", intending, "ir", "ir"),
        ("opening", opening, "ir", "i"),
        ("running", Played::running as Step, "ir", "i"),
        ("asking", asking as Step, "ir", "i"),
        ("announcing", announcing as Step, "ipr", "ip"),
        ("ending", Played::ending as Step, "ipu", "ip"),
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
        // A client that left has sent all of it: it is committed, if the ledger knows.
        let of_abort = if name == "announcing" { "ipu" } else { of_server };
        assert_eq!(played.ledger(), of_abort, "{name}, the client and then the proxy");
    }
}

#[test]
fn what_was_sent_before_the_client_vanished_is_committed() {
    let mut played = Played::running();
    played.give(Input::ClientGone);
    played.server_says(&[reply(b'C', b"DELETE 3\0"), ready(b'T')].concat());
    played.announced(&standing_of_a_query());
    assert!(contains(&played.sent(), b"COMMIT"));
    played.server_says(&[reply(b'C', b"COMMIT\0"), ready(b'I')].concat());
    assert_eq!(played.ledger(), "ipc");
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
    assert_eq!(played.ledger(), "ipf");
    played.ledger_says(Ok(()));
    assert_eq!(played.told(), [error("23503"), ready(b'I')].concat());
}

/// PostgreSQL looks for cancels before it begins a statement, a COMMIT too: the block has failed then, and is still open.
#[test]
fn a_cancel_that_hits_the_proxy_s_own_commit_fails_the_transaction() {
    let mut played = Played::ending();
    played.server_says(&[error("57014"), ready(b'E')].concat());
    assert!(contains(&played.sent(), b"ROLLBACK"));
    assert!(!played.is_discarded && !played.is_given_back);
    played.server_says(&[error("57014"), ready(b'E')].concat());
    assert!(contains(&played.sent(), b"ROLLBACK"), "another has hit the ROLLBACK, and means nothing");
    played.server_says(&[reply(b'C', b"ROLLBACK\0"), ready(b'I')].concat());
    assert_eq!((played.ledger().as_str(), played.is_given_back), ("ipf", true));
    played.ledger_says(Ok(()));
    let told = played.told();
    assert!(contains(&told, b"57014") && !contains(&told, b"DELETE 3"), "{told:?}");
    assert_eq!(tags(&told), "EZ");
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
        assert!(matches!(played.ledger().as_str(), "ipu" | "ir"), "{} {said:?}", played.ledger());
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

/// A bypass session with VACUUM executed in an open segment, its intent durable.
fn behind_a_vacuum() -> Played {
    let mut played = Played::new();
    played.says(&execution("v", "VACUUM t"));
    played.replay_is_answered();
    played.ledger_says(Ok(()));
    assert_eq!((tags(&played.sent()).as_str(), played.ledger().as_str()), ("", "ip"), "it commits by itself");
    played.ledger_says(Ok(()));
    assert_eq!(tags(&played.sent()), "BE");
    played
}

#[test]
fn no_block_begins_behind_a_statement_that_has_none() {
    // Pipelined: PostgreSQL would open a block, whose statements were in the record of the VACUUM.
    let mut played = behind_a_vacuum();
    played.says(&[execution("b", "BEGIN"), sync()].concat());
    // A Bind of a statement that no server has stands in place of its Execute.
    assert_eq!(tags(&played.sent()), "PBBS");
    // What is refused behind it changes nothing of what it has done.
    let bound = [reply(b'1', b""), reply(b'2', b"")].concat();
    played.server_says(&[&bound[..], &reply(b'C', b"VACUUM\0"), &bound, &error("26000"), &ready(b'I')].concat());
    assert!(contains(&played.told(), b"TG064"));
    assert_eq!(played.ledger(), "ipc");
    // Neither does a server that is lost then; before, nobody knows.
    for (answers, wanted) in [(&bound[..], "ipu"), (&[&bound[..], &reply(b'C', b"VACUUM\0")].concat(), "ipc")] {
        let mut played = behind_a_vacuum();
        played.server_says(answers);
        played.give(Input::ServerGone);
        assert_eq!(played.ledger(), wanted);
    }
    let mut played = behind_a_vacuum();
    played.says(&sync());
    played.server_says(&[&bound[..], &error("42501"), &ready(b'I')].concat());
    assert_eq!(played.ledger(), "ipf");
    // As one Query without a Sync in front of it.
    for sql in ["BEGIN", "SELECT 1", "SHOW jit; BEGIN"] {
        let mut played = behind_a_vacuum();
        played.says(&query(sql));
        let sent = played.sent();
        assert!(contains(&sent, b"tenantgate: refused") && !contains(&sent, sql.as_bytes()), "{sql}");
    }
    // Whoever says that there is a block all the same is not believed.
    let mut played = behind_a_vacuum();
    played.says(&sync());
    let answers = [reply(b'1', b""), reply(b'2', b""), reply(b'C', b"VACUUM\0"), ready(b'T')].concat();
    played.server_says(&answers);
    assert!(played.is_closed && played.is_discarded);
}

/// Up to the client's own COMMIT, sent in this way, being with the server; `front` answers what stands in front of it.
fn committing(messages: &[u8], front: &[u8]) -> Played {
    let mut played = asked_to_commit(messages, front);
    played.announced(&standing(messages));
    played
}

fn standing(messages: &[u8]) -> Vec<u8> {
    if messages.starts_with(b"Q") { standing_of_a_query() } else { standing_in_a_segment() }
}

/// The same up to the question how its transaction stands.
fn asked_to_commit(messages: &[u8], front: &[u8]) -> Played {
    let mut played = Played::new();
    played.says(&query("BEGIN"));
    played.replay_is_answered();
    played.server_says(&[reply(b'C', b"BEGIN\0"), ready(b'T')].concat());
    played.says(&query("DELETE FROM t"));
    played.ledger_says(Ok(()));
    played.server_says(&[reply(b'C', b"DELETE 3\0"), ready(b'T')].concat());
    assert_eq!(played.told(), [reply(b'C', b"BEGIN\0"), ready(b'T'), reply(b'C', b"DELETE 3\0"), ready(b'T')].concat());
    played.says(messages);
    if !front.is_empty() {
        assert!(!contains(&played.sent(), b"pg_current_xact"), "what is in front may still fail");
        played.give(Input::ServerWritten);
        played.give(Input::ServerBytes(front));
    }
    played
}

#[test]
fn the_client_s_own_commit_is_heard_when_the_record_is_durable() {
    let commit = reply(b'C', b"COMMIT\0");
    let bound = [reply(b'1', b""), reply(b'2', b"")].concat();
    let execution = execution("c", "COMMIT");
    let flush = reply(b'H', b"");
    for (sent, front, behind) in [
        (query("COMMIT"), vec![], ready(b'I')),
        ([&execution[..], &sync()].concat(), bound.clone(), ready(b'I')),
        ([&execution[..], &flush].concat(), bound, vec![]),
    ] {
        let mut played = committing(&sent, &front);
        played.server_says(&[&commit[..], &behind].concat());
        assert_eq!((played.ledger().as_str(), played.told()), ("ipc", front.clone()));
        let Entry::Outcome(outcome) = &played.records[2] else { unreachable!() };
        assert_eq!(outcome.xid, Some(Xid(731)));
        played.ledger_says(Ok(()));
        assert_eq!(played.told(), [&commit[..], &behind].concat());
        // A ledger that fails changes nothing of what has happened.
        let mut played = committing(&sent, &front);
        played.server_says(&[&commit[..], &behind].concat());
        assert_eq!(played.told(), front);
        played.ledger_says(Err(Fault::of(Code::LedgerUnavailable)));
        assert_eq!(played.told(), [&commit[..], &behind].concat());
    }
}

#[test]
fn a_commit_that_cannot_be_recorded_goes_to_no_server() {
    let unavailable = || Err(Fault::of(Code::LedgerUnavailable));
    // The proxy's own.
    let mut played = Played::running();
    played.server_says(&[reply(b'C', b"DELETE 3\0"), ready(b'T')].concat());
    played.is_asked(&standing_of_a_query());
    played.ledger_says(unavailable());
    let sent = played.sent();
    assert!(contains(&sent, b"ROLLBACK") && !contains(&sent, b"COMMIT"));
    played.server_says(&[reply(b'C', b"ROLLBACK\0"), ready(b'I')].concat());
    assert_eq!(played.ledger(), "ipf");
    played.ledger_says(unavailable());
    let told = played.told();
    assert!(contains(&told, b"TG062") && !contains(&told, b"DELETE") && told.ends_with(&ready(b'I')));
    // The client's, in both protocols: its block has failed, as behind any other statement that does.
    let bound = [reply(b'1', b""), reply(b'2', b"")].concat();
    let executed = [&execution("c", "COMMIT")[..], &sync()].concat();
    for (sent, front, refused) in [(query("COMMIT"), vec![], "42601"), (executed, bound, "26000")] {
        let mut played = asked_to_commit(&sent, &front);
        played.is_asked(&standing(&sent));
        played.ledger_says(unavailable());
        assert!(!contains(&played.sent(), b"COMMIT"));
        played.server_says(&[error(refused), ready(b'E')].concat());
        assert!(contains(&played.told(), b"TG062"));
        assert_eq!(played.ledger(), "ip");
        played.says(&query("ROLLBACK"));
        played.server_says(&[reply(b'C', b"ROLLBACK\0"), ready(b'I')].concat());
        assert_eq!(played.ledger(), "ipf");
    }
    // What commits by itself.
    let mut played = Played::new();
    played.says(&query("VACUUM t"));
    played.replay_is_answered();
    played.ledger_says(Ok(()));
    assert_eq!(played.ledger(), "ip");
    played.ledger_says(unavailable());
    played.ledger_says(unavailable());
    assert!(!contains(&played.sent(), b"VACUUM"));
    played.server_says(&[error("42601"), ready(b'I')].concat());
    assert!(contains(&played.told(), b"TG062"));
    assert_eq!(played.ledger(), "ipf");
}

/// A cancel, or a time-out, may hit the question: the COMMIT behind it is not sent.
#[test]
fn a_question_that_fails_fails_the_commit() {
    let bound = [reply(b'1', b""), reply(b'2', b"")].concat();
    let executed = [&execution("c", "COMMIT")[..], &sync()].concat();
    for (sent, front) in [(query("COMMIT"), vec![]), (executed, bound)] {
        let mut played = asked_to_commit(&sent, &front);
        drop(played.told());
        played.server_says(&error("57014"));
        assert!(!contains(&played.sent(), b"COMMIT"));
        played.give(Input::ServerBytes(&ready(b'E')));
        assert_eq!(played.told(), [error("57014"), ready(b'E')].concat());
        played.says(&query("ROLLBACK"));
        played.server_says(&[reply(b'C', b"ROLLBACK\0"), ready(b'I')].concat());
        assert_eq!(played.ledger(), "if");
    }
    let mut played = Played::running();
    played.server_says(&[reply(b'C', b"DELETE 3\0"), ready(b'T')].concat());
    played.server_says(&[error("57014"), ready(b'E')].concat());
    assert!(contains(&played.sent(), b"ROLLBACK"));
    played.server_says(&[reply(b'C', b"ROLLBACK\0"), ready(b'I')].concat());
    assert_eq!(played.ledger(), "if");
    played.ledger_says(Ok(()));
    assert_eq!(played.told(), [error("57014"), ready(b'I')].concat());
    // One that is answered by something else is no server to go on with.
    for row in [
        reply(b'D', b"\0\0"),
        reply(b'D', b"\0\x03\0\0\0\x01x\xff\xff\xff\xff\xff\xff\xff\xff"),
        reply(b'C', b"SELECT 0\0"),
    ] {
        let mut played = asked_to_commit(&query("COMMIT"), b"");
        played.server_says(&[reply(b'T', b"\0\0"), row].concat());
        assert!(played.is_closed && played.is_discarded);
        assert_eq!(played.ledger(), "ir");
    }
}

#[test]
fn what_stands_behind_a_commit_is_not_heard_before_it() {
    let row = [reply(b'T', b"\0\0"), reply(b'D', b"\0\0"), reply(b'C', b"SHOW\0")].concat();
    let commit = reply(b'C', b"COMMIT\0");
    let mut played = committing(&query("COMMIT; SHOW jit"), b"");
    // In pieces, some of them in the middle of a message.
    let said = [&commit[..], &row, &ready(b'I')].concat();
    for piece in said.chunks(7) {
        played.server_says(piece);
        assert!(played.told().is_empty());
    }
    played.ledger_says(Ok(()));
    assert_eq!(played.told(), said);
    // If the session ends before that, nobody hears of it but the ledger.
    for cut in [commit.len(), commit.len() + 3, commit.len() + row.len() - 2] {
        let mut played = committing(&query("COMMIT; SHOW jit"), b"");
        played.server_says(&said[..cut]);
        played.give(Input::ServerGone);
        let told = played.told();
        assert!(told.starts_with(b"E") && contains(&told, b"TG"), "{told:?}");
        assert!(!contains(&told, &commit) && played.is_closed);
        assert_eq!(played.ledger(), "ipc");
    }
    let mut played = committing(&query("COMMIT"), b"");
    played.server_says(&[&commit[..], &reply(b'1', b"")].concat());
    assert!(played.is_closed && !contains(&played.told(), &commit));
}

#[test]
fn an_intent_that_is_awaited_holds_nothing_back() {
    let mut played = Played::new();
    played.says(&execution("s", "SHOW jit"));
    played.says(&execution("d", "DELETE FROM t"));
    played.replay_is_answered();
    assert_eq!(played.ledger(), "i");
    let answers = [reply(b'1', b""), reply(b'2', b""), reply(b'D', b"\0\0"), reply(b'C', b"SHOW\0")].concat();
    played.server_says(&answers);
    assert_eq!(played.told(), answers);
}

/// The driver may take up another ledger's session when the server is given back.
/// The intent of a statement that was skipped is over with its segment: nobody's server is kept for what may come.
#[test]
fn an_intent_whose_statement_was_skipped_keeps_no_server() {
    let mut played = Played::new();
    played.says(&execution("", "SELECT nothing"));
    assert_eq!(played.ledger(), "i");
    played.replay_is_answered();
    played.server_says(&error("42703"));
    played.ledger_says(Ok(()));
    played.says(&sync());
    assert!(!played.is_given_back);
    played.server_says(&ready(b'I'));
    assert_eq!((played.ledger().as_str(), played.is_given_back), ("if", true));
    assert!(!contains(&played.told(), b"Z"), "the client hears of the end when it is recorded");
    played.ledger_says(Ok(()));
    assert!(contains(&played.told(), &ready(b'I')));
}

#[test]
fn the_outcome_goes_before_the_server() {
    let mut played = Played::new();
    played.says(&query("DELETE FROM t"));
    played.replay_is_answered();
    played.give(Input::ClientGone);
    assert!(played.is_given_back && played.is_closed);
    assert_eq!((played.ledger_at_check_in.as_str(), played.ledger().as_str()), ("ir", "ir"));
}

/// Its settings were sent without a Sync: the server would keep their answer for ever.
#[test]
fn a_client_that_left_before_its_first_segment_keeps_no_server() {
    let mut played = Played::new();
    played.says(&query("DELETE FROM t"));
    played.give(Input::ClientGone);
    assert!(!played.is_given_back && played.is_closed);
    assert_eq!(played.ledger(), "ir");
}

#[test]
fn parts_of_a_query_are_judged_by_the_rules_in_force() {
    let mut played = committing(&query("COMMIT; ALTER TABLE t DISABLE ROW LEVEL SECURITY"), b"");
    assert!(!contains(&played.sent(), b"ALTER"));
    played.server_says(&[reply(b'C', b"COMMIT\0"), ready(b'I')].concat());
    assert!(played.is_given_back);
    // A reload meanwhile: the login is one for migrations now.
    played.reload = Some(rules(Preset::Migration));
    played.ledger_says(Ok(()));
    assert!(!contains(&played.sent(), b"ALTER"));
    played.replay_is_answered();
    assert!(!contains(&played.sent(), b"ALTER"));
    played.server_says(&[error("42601"), ready(b'I')].concat());
    assert!(contains(&played.told(), b"TG065"));
    assert_eq!(played.ledger(), "ipc");
}

#[test]
fn a_client_that_waits_for_the_ledger_is_not_idle() {
    let mut played = Played::new();
    played.says(&query("BEGIN"));
    played.replay_is_answered();
    played.server_says(&[reply(b'C', b"BEGIN\0"), ready(b'T')].concat());
    assert_eq!(played.session.pulse().standing, Standing::Idle);
    played.says(&query("DELETE FROM t"));
    assert_eq!((played.ledger().as_str(), played.session.pulse().standing), ("i", Standing::Held));
    played.ledger_says(Ok(()));
    assert_eq!(played.session.pulse().standing, Standing::Busy);
    played.server_says(&[reply(b'C', b"DELETE 3\0"), ready(b'T')].concat());
    assert_eq!(played.session.pulse().standing, Standing::Idle);
}

/// What the client is told of it waits, is rewritten or comes from elsewhere: none of that is one more, or one less.
#[test]
fn a_statement_is_counted_once_whatever_becomes_of_its_answer() {
    let done = |tag: &str| reply(b'C', format!("{tag}\0").as_bytes());
    let in_block = || {
        let mut played = Played::new();
        played.says(&query("BEGIN"));
        played.replay_is_answered();
        played.server_says(&[done("BEGIN"), ready(b'T')].concat());
        played.says(&query("DELETE FROM t"));
        played.ledger_says(Ok(()));
        played.server_says(&[done("DELETE 3"), ready(b'T')].concat());
        played
    };
    let executing = || {
        let mut played = Played::new();
        played.says(&[execution("", "DELETE FROM t"), sync()].concat());
        played.replay_is_answered();
        played.ledger_says(Ok(()));
        played.server_says(&[reply(b'1', b""), reply(b'2', b""), done("BEGIN"), reply(b'2', b"")].concat());
        played
    };
    let expecting = |what: &str, mut played: Played, said: &[u8], count: u64| {
        played.server_says(said);
        played.ledger_says(Ok(()));
        assert!(!played.is_closed && !played.session.owes_replies(), "{what}");
        assert_eq!(played.session.tally_mut().read(Count::Statements), count, "{what}: {:?}", played.told());
    };
    expecting("held behind the proxy's COMMIT", Played::ending(), &[done("COMMIT"), ready(b'I')].concat(), 1);
    expecting("whose COMMIT fails", Played::ending(), &[error("23503"), ready(b'I')].concat(), 1);
    let mut failing = Played::running();
    failing.server_says(&[error("23505"), ready(b'E')].concat());
    expecting("that fails", failing, &[done("ROLLBACK"), ready(b'I')].concat(), 1);
    let mut committing = in_block();
    committing.says(&query("COMMIT"));
    committing.announced(&standing_of_a_query());
    expecting("held COMMIT", committing, &[done("COMMIT"), ready(b'I')].concat(), 3);
    let mut several = Played::new();
    several.says(&query("DELETE FROM t; COMMIT"));
    several.replay_is_answered();
    several.ledger_says(Ok(()));
    several.server_says(&[done("BEGIN"), ready(b'T')].concat());
    several.server_says(&[done("DELETE 3"), ready(b'T')].concat());
    several.announced(&standing_of_a_query());
    expecting("a COMMIT that is warned of", several, &[done("COMMIT"), ready(b'I')].concat(), 2);
    let mut executed = executing();
    executed.server_says(&[done("DELETE 3"), ready(b'T')].concat());
    executed.announced(&standing_of_a_query());
    expecting("an Execute in the proxy's block", executed, &[done("COMMIT"), ready(b'I')].concat(), 1);
    let mut executed = executing();
    executed.server_says(&[done("DELETE 3"), ready(b'T')].concat());
    executed.announced(&standing_of_a_query());
    expecting("one whose COMMIT fails", executed, &[error("23503"), ready(b'I')].concat(), 1);
}

fn parameter_key() -> ParameterKey {
    ParameterKey::new(&[7; 32]).unwrap()
}

/// What the record says of the parameters of a statement with this Bind behind its names, and whether it is truncated.
fn parameters_of(key: Option<ParameterKey>, bound: &[u8], piece: usize) -> (Option<Vec<Option<Box<str>>>>, bool) {
    let mut rules = rules(Preset::Bypass);
    rules.recording = Some(Recording { needs_reason: true, is_written: true, parameter_key: key.map(Arc::new) });
    let mut played = Played::of(rules);
    let parse = written(|out| frontend::put_parse(out, b"", b"DELETE FROM t WHERE a = $1", &[]));
    let bind = written(|out| {
        frontend::put_message(out, b'B', |out| {
            out.extend_from_slice(b"\0\0");
            out.extend_from_slice(bound);
        });
    });
    let rest = [written(|out| frontend::put_message(out, b'E', |out| out.extend_from_slice(b"\0\0\0\0\0"))), sync()];
    for bytes in [parse, bind, rest.concat()].concat().chunks(piece) {
        played.says(bytes);
    }
    played.replay_is_answered();
    played.ledger_says(Ok(()));
    let sent = played.sent();
    assert!(contains(&sent, b"tg_block"), "{}", String::from_utf8_lossy(&sent));
    played.give(Input::ServerGone);
    assert_eq!(played.ledger(), "ir");
    let shown = format!("{:?}", played.records);
    assert!(!shown.contains("carol") && !shown.contains("99, 97, 114, 111, 108"), "{shown}");
    let Some(Entry::Outcome(outcome)) = played.records.pop() else { unreachable!() };
    (outcome.done.statements[0].parameters.clone(), outcome.done.is_truncated)
}

#[test]
fn bound_values_are_in_the_record_as_digests() {
    let digest = |is_binary, value: &[u8]| Some(parameter_key().digest(is_binary, value));
    let (text, null) = (&b"\0\0\0\x05carol"[..], &b"\xff\xff\xff\xff"[..]);
    let three = [b"\0\x03\0\0\0\x01\0\0\0\x03", text, text, null, b"\0\0"].concat();
    let of_three = vec![digest(false, b"carol"), digest(true, b"carol"), None];
    let binary = [b"\0\x01\0\x01\0\x02", text, text, b"\0\0"].concat();
    let all_text = [b"\0\0\0\x01", text, b"\0\0"].concat();
    for piece in [1, usize::MAX] {
        assert_eq!(parameters_of(Some(parameter_key()), &three, piece), (Some(of_three.clone()), false));
        let of_binary = vec![digest(true, b"carol"), digest(true, b"carol")];
        assert_eq!(parameters_of(Some(parameter_key()), &binary, piece), (Some(of_binary), false));
        let of_text = vec![digest(false, b"carol")];
        assert_eq!(parameters_of(Some(parameter_key()), &all_text, piece), (Some(of_text), false));
        assert_eq!(parameters_of(None, &three, piece), (None, false), "no key, no trace");
    }
}

#[test]
fn values_that_cannot_be_told_are_left_out_and_that_is_said() {
    let many = [&b"\0\0\x01\x91"[..], &b"\xff\xff\xff\xff".repeat(401), b"\0\0"].concat();
    assert_eq!(parameters_of(Some(parameter_key()), &many, usize::MAX), (Some(vec![None; 400]), true));
    let cut = b"\0\0\0\x01\0\0\0\x06carol";
    assert_eq!(parameters_of(Some(parameter_key()), cut, usize::MAX), (None, true), "malformed");
    // Whether it came in one piece is chance: it says nothing in either case.
    let long = [b"\0\0\0\x01\0\x01\0\0", &[b'x'; 65_536][..], b"\0\0"].concat();
    for piece in [20_000, usize::MAX] {
        assert_eq!(parameters_of(Some(parameter_key()), &long, piece), (None, true), "too long");
    }
}
