//! FunctionCall, input by input: what stands in front of it, what may answer it, and when either side goes.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test says why it failed by panicking")]

mod session_support;

use std::sync::Arc;

use session_support::{error, query, reply, server, written};
use tenantgate::guard::{FactsCache, Limits, Lists, Policy, PolicySettings, Preset, Sides, inspect};
use tenantgate::scope::{Injection, ScopeTemplate};
use tenantgate::session::{Effect, Input, Recording, Session, SessionRules};
use tenantgate::upstream::{Parameters, Settings};
use tenantgate::wire::frontend;

/// A migration session with its driver played by the test, whose ledger always answers.
struct Played {
    session: Session,
    is_closed: bool,
    is_discarded: bool,
}

impl Played {
    /// In a block, nothing scoped yet.
    fn in_block() -> Self {
        let lists =
            Lists { functions: Sides { allowed: vec!["lo_open".to_owned()], denied: Vec::new() }, ..Lists::default() };
        let policy = PolicySettings { preset: Preset::Migration, lists, ..PolicySettings::default() };
        let rules = SessionRules {
            recording: Some(Recording { needs_reason: false, is_written: true, parameter_key: None }),
            claims: None,
            bypass: None,
            injection: Injection::fixed(&ScopeTemplate::fixed(&[("app.tenant_id".into(), "acme".into())]).unwrap()),
            policy: Arc::new(Policy::new(&policy)),
            facts: Arc::new(FactsCache::default()),
            #[cfg(feature = "mutants")]
            mutant: None,
        };
        let greeting = Arc::new(Parameters::default());
        let session = Session::new(Arc::new(rules), Settings::default(), &greeting, 7, b"abcd");
        let mut played = Self { session, is_closed: false, is_discarded: false };
        drop(played.told());
        played.says(&query("BEGIN"));
        played.server_says(&[reply(b'C', b"BEGIN\0"), ready(b'T')].concat());
        assert_eq!(tags(&played.told()), "CZ");
        played
    }

    /// A call is with the server, behind the tenant.
    fn calling() -> Self {
        let mut played = Self::in_block();
        played.says(&call(952));
        assert_eq!(tags(&played.sent()), "BEF");
        played
    }

    fn give(&mut self, input: Input<'_>) {
        self.session.handle(input);
        while let Some(effect) = self.session.poll_effect() {
            match effect {
                Effect::Lease => self.session.handle(Input::Leased(server())),
                Effect::Inspect(sql) => self.session.handle(Input::Inspected(inspect(&sql, &Limits::default()))),
                Effect::Record(_) => self.session.handle(Input::Recorded(Ok(()))),
                Effect::Close(_) => self.is_closed = true,
                Effect::Discard(_) => self.is_discarded = true,
                Effect::Pin => self.session.handle(Input::Pinned(Ok(()))),
                Effect::CheckIn(_)
                | Effect::Cancel
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
}

/// With two values in binary.
fn call(number: u32) -> Vec<u8> {
    written(|out| {
        frontend::put_message(out, b'F', |out| {
            out.extend_from_slice(&number.to_be_bytes());
            out.extend_from_slice(b"\0\x01\0\x01\0\x02\0\0\0\x04\0\0\0\x01\0\0\0\x04\0\x06\0\0\0\x01");
        });
    })
}

fn ready(status: u8) -> Vec<u8> {
    reply(b'Z', &[status])
}

/// The answer to what stands in front.
fn scoped() -> Vec<u8> {
    [reply(b'2', b""), reply(b'C', b"SELECT 0\0")].concat()
}

fn result() -> Vec<u8> {
    reply(b'V', b"\0\0\0\x04\0\0\0\0")
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

#[test]
fn the_tenant_stands_in_front_of_a_call_and_only_its_answer_reaches_the_client() {
    let mut played = Played::calling();
    played.server_says(&[scoped(), result(), ready(b'T')].concat());
    assert_eq!(played.told(), [result(), ready(b'T')].concat());
    // The tenant is there: the next goes alone.
    played.says(&call(952));
    assert_eq!(played.sent(), call(952));
    played.server_says(&[error("42704"), ready(b'E')].concat());
    assert_eq!(tags(&played.told()), "EZ");
    assert!(!played.is_closed);
}

#[test]
fn a_call_is_decided_by_its_number_and_goes_on_as_it_comes() {
    let whole = call(952);
    for cut in 1..whole.len() {
        let mut played = Played::in_block();
        played.says(&whole[..cut]);
        let mut sent = played.sent();
        assert_eq!(sent.is_empty(), cut < 9, "the head and the number are known from byte 9 on, not {cut}");
        played.says(&whole[cut..]);
        sent.extend(played.sent());
        assert!(sent.ends_with(&whole));
        played.server_says(&[scoped(), result(), ready(b'T')].concat());
        assert_eq!(played.told(), [result(), ready(b'T')].concat());
    }
    // What is refused is dropped as it comes, and what stands behind it is read.
    let mut played = Played::in_block();
    played.says(&call(953)[..12]);
    assert_eq!(tags(&played.sent()), "Q", "a Query that must fail");
    played.says(&[&call(953)[12..], &query("ROLLBACK")].concat());
    played.server_says(&[error("42601"), ready(b'E')].concat());
    assert_eq!(tags(&played.told()), "EZ");
    assert_eq!(tags(&played.sent()), "Q");
    played.server_says(&[reply(b'C', b"ROLLBACK\0"), ready(b'I')].concat());
    assert_eq!(tags(&played.told()), "CZ");
}

#[test]
fn a_call_behind_an_error_of_what_stands_in_front_is_closed_by_a_sync() {
    for front in [Vec::new(), reply(b'2', b"")] {
        let mut played = Played::calling();
        played.server_says(&[front, error("57014")].concat());
        assert_eq!(tags(&played.sent()), "S", "the server skips the call, and would never be ready again");
        played.server_says(&ready(b'E'));
        assert_eq!(tags(&played.told()), "EZ");
        assert!(!played.is_closed && !played.is_discarded);
    }
}

#[test]
fn a_server_that_answers_a_call_as_a_query_or_a_query_as_a_call_is_given_up() {
    let row = [reply(b'T', b"\0\0"), reply(b'D', b"\0\0")].concat();
    for answer in [row, reply(b'C', b"SELECT 1\0"), reply(b'I', b""), [result(), result()].concat()] {
        let mut played = Played::calling();
        played.server_says(&[scoped(), answer.clone()].concat());
        assert!(played.is_closed && played.is_discarded, "{}", tags(&answer));
    }
    let mut played = Played::in_block();
    played.says(&query("SELECT 1"));
    played.server_says(&result());
    assert!(played.is_closed && played.is_discarded);
}

#[test]
fn a_client_or_server_that_goes_in_the_middle_of_a_call_leaves_nothing() {
    let mut played = Played::in_block();
    played.says(&call(952)[..14]);
    played.give(Input::ClientGone);
    assert!(played.is_closed && played.is_discarded, "half a message is with the server");
    // One that says it sends nothing more is served what it has said as a whole.
    let mut played = Played::in_block();
    played.says(&call(952)[..14]);
    played.give(Input::ClientDone);
    assert!(played.is_closed && played.is_discarded, "the server waits for the rest, and answers nothing before");
    let mut played = Played::calling();
    played.give(Input::ClientDone);
    assert!(!played.is_closed);
    played.server_says(&[scoped(), result(), ready(b'T')].concat());
    assert_eq!(tags(&played.told()), "VZ");
    let mut played = Played::calling();
    played.server_says(&scoped());
    played.give(Input::ServerGone);
    assert!(played.is_closed && played.is_discarded);
    assert_eq!(tags(&played.told()), "E");
}

#[test]
fn a_call_outside_of_a_block_or_behind_an_open_segment_is_refused() {
    let mut played = Played::in_block();
    played.says(&query("COMMIT"));
    played.server_says(&[reply(b'C', b"COMMIT\0"), ready(b'I')].concat());
    drop(played.told());
    played.says(&call(952));
    assert_eq!(tags(&played.told()), "EZ");
    assert!(!played.is_closed);
    let mut played = Played::in_block();
    played.says(&written(|out| frontend::put_parse(out, b"a", b"SELECT 1", &[])));
    played.says(&call(952));
    assert!(played.is_closed);
}
