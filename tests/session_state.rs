//! What a client's settings cost on the way to a server.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test says why it failed by panicking")]

mod session_support;

use session_support::{error, query, reply, server, written};
use std::sync::Arc;
use tenantgate::guard::{FactsCache, Limits, Policy, PolicySettings, inspect};
use tenantgate::scope::{CleanServer, DiscardReason, Injection, Lifetime, ScopeTemplate};
use tenantgate::session::{Effect, Input, Session, SessionRules};
use tenantgate::tenant::{TenantId, TenantKind};
use tenantgate::upstream::{Parameters, Settings};
use tenantgate::wire::TransactionStatus;
use tenantgate::wire::{backend, frontend};

/// A session with its driver played by the test: servers come from a shelf, and go back to it.
struct Played {
    session: Session,
    shelf: Vec<CleanServer>,
    discards: Vec<DiscardReason>,
    is_closed: bool,
}

fn rules() -> Arc<SessionRules> {
    let settings = PolicySettings { scope_settings: vec!["app.tenant_id".to_owned()], ..PolicySettings::default() };
    let tenant = TenantId::parse(TenantKind::Text, "acme").unwrap();
    Arc::new(SessionRules {
        recording: None,
        claims: None,
        bypass: None,
        injection: Injection::new(&ScopeTemplate::default(), &tenant, Lifetime::Transaction),
        policy: Arc::new(Policy::new(&settings)),
        facts: Arc::new(FactsCache::default()),
        #[cfg(feature = "mutants")]
        mutant: None,
    })
}

impl Played {
    /// With startup parameters.
    fn new(base: &[(&str, &str)]) -> Self {
        let base: Settings = Arc::new(base.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect());
        let session = Session::new(rules(), base, &Arc::new(Parameters::default()), 7, b"abcd");
        let mut played = Self { session, shelf: Vec::new(), discards: Vec::new(), is_closed: false };
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
                Effect::Cancel
                | Effect::Refused(_)
                | Effect::Observed(..)
                | Effect::Record(_)
                | Effect::Pin
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

    fn server_says(&mut self, parts: &[Vec<u8>]) {
        drop(self.sent());
        self.give(Input::ServerBytes(&parts.concat()));
    }

    fn sent(&mut self) -> Vec<u8> {
        self.session.server_out().map(|out| out.split().to_vec()).unwrap_or_default()
    }

    fn told(&mut self) -> Vec<u8> {
        self.session.client_out().split().to_vec()
    }
}

fn complete(tag: &str) -> Vec<u8> {
    written(|out| backend::put_command_complete(out, tag.as_bytes()))
}

fn ready() -> Vec<u8> {
    written(|out| backend::put_ready(out, TransactionStatus::Idle))
}

/// The messages' types, in order; an error with its SQLSTATE.
fn types(mut bytes: &[u8]) -> String {
    let mut types = String::new();
    while let [tag, a, b, c, d, ..] = bytes {
        let size = 1 + usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).unwrap();
        // The last one may have been sent in part.
        let (frame, rest) = bytes.split_at(size.min(bytes.len()));
        types.push(char::from(*tag));
        if *tag == b'E' && frame.len() > 6 && frame[5] == b'S' {
            types.push_str(backend::Fields::new(&frame[5..]).sqlstate().map_or("", |_| "!"));
        }
        bytes = rest;
    }
    types
}

fn prefixed_select() -> [Vec<u8>; 3] {
    [complete("SET"), complete("SELECT 1"), ready()]
}

/// The answers to a replay of one setting.
fn replayed() -> Vec<u8> {
    [complete("BEGIN"), complete("SELECT 0"), complete("COMMIT")]
        .into_iter()
        .flat_map(|tag| [reply(b'2', b""), tag])
        .collect::<Vec<_>>()
        .concat()
}

#[test]
fn a_replay_goes_in_the_client_s_own_packet_and_only_where_the_server_differs() {
    let mut played = Played::new(&[("timezone", "Asia/Tokyo")]);
    played.says(&query("SELECT 1"));
    assert_eq!(types(&played.sent()), "BEBEBEQ", "one packet");
    played.server_says(&[replayed(), prefixed_select().concat()]);
    assert_eq!(types(&played.told()), "CZ");
    // The same server again: it has them.
    played.says(&query("SELECT 1"));
    assert_eq!(types(&played.sent()), "Q");
    played.server_says(&prefixed_select());
    // A client without settings on that server takes them back, in its packet too.
    let mut plain = Played::new(&[]);
    plain.shelf = std::mem::take(&mut played.shelf);
    plain.says(&query("SELECT 1"));
    let sent = plain.sent();
    assert!(types(&sent).ends_with('Q') && types(&sent).len() > 1, "{}", types(&sent));
    let back = [reply(b'2', b""), complete("BEGIN"), reply(b'1', b""), reply(b'2', b""), complete("RESET")];
    plain.server_says(&[back.concat(), reply(b'2', b""), complete("COMMIT"), prefixed_select().concat()]);
    plain.says(&query("SELECT 1"));
    assert_eq!(types(&plain.sent()), "Q");
}

#[test]
fn a_time_limit_of_the_client_before_is_taken_back_first() {
    let mut one = Played::new(&[("statement_timeout", "1"), ("application_name", "one"), ("timezone", "UTC")]);
    one.says(&query("SELECT 1"));
    let sent = String::from_utf8_lossy(&one.sent()).into_owned();
    assert!(sent.find("timezone").unwrap() < sent.find("statement_timeout").unwrap(), "its own counts for no other");
    let steps =
        [complete("BEGIN"), complete("SELECT 0"), complete("SELECT 0"), complete("SELECT 0"), complete("COMMIT")];
    let steps: Vec<Vec<u8>> = steps.into_iter().flat_map(|tag| [reply(b'2', b""), tag]).collect();
    one.server_says(&[steps.concat(), prefixed_select().concat()]);
    let mut other = Played::new(&[("intervalstyle", "iso_8601")]);
    other.shelf = std::mem::take(&mut one.shelf);
    other.says(&query("SELECT 1"));
    let sent = String::from_utf8_lossy(&other.sent()).into_owned();
    let at = |what: &str| sent.find(what).unwrap_or_else(|| panic!("{what} in {sent:?}"));
    assert!(at("statement_timeout") < at("application_name") && at("statement_timeout") < at("intervalstyle"));
}

#[test]
fn a_reset_all_that_is_cancelled_half_way_resets_nothing() {
    let mut played = Played::new(&[]);
    played.says(&query("SET timezone = 'Asia/Tokyo'"));
    played.server_says(&[complete("SET"), ready()]);
    let prepared = |name: &str, sql: &str| {
        written(|out| {
            frontend::put_parse(out, name.as_bytes(), sql.as_bytes(), &[]);
            frontend::put_bind_text(out, b"", name.as_bytes(), &[]);
            frontend::put_execute(out, b"");
            frontend::put_sync(out);
        })
    };
    played.told();
    played.says(&prepared("", "RESET ALL"));
    assert_eq!(types(&played.sent()), "PBPBECES", "the step goes in front of what stands in for RESET ALL");
    let step = [reply(b'1', b""), reply(b'2', b""), error("57014"), ready()];
    played.server_says(&[reply(b'1', b""), reply(b'2', b""), step.concat()]);
    assert_eq!(types(&played.told()), "12E!Z");
    // The same again, and it works.
    played.says(&prepared("", "RESET ALL"));
    assert_eq!(types(&played.sent()), "PBPBECES");
    let step = [reply(b'1', b""), reply(b'2', b""), complete("RESET"), reply(b'3', b"")];
    played.server_says(&[reply(b'1', b""), reply(b'2', b""), step.concat(), complete("UNLISTEN"), ready()]);
    assert_eq!(types(&played.told()), "12CZ");
    played.says(&prepared("", "RESET ALL"));
    assert_eq!(types(&played.sent()), "PBES");
    assert!(!played.is_closed && played.discards.is_empty());
}

/// Bytes of the longest message of PostgreSQL's.
const GIGABYTE: usize = 1 << 30;

/// A frame's head with a body of that length.
fn head(tag: u8, body_bytes: usize) -> Vec<u8> {
    let length = u32::try_from(body_bytes + 4).unwrap().to_be_bytes();
    [&[tag][..], &length].concat()
}

#[test]
fn a_gigabyte_passes_in_pieces_and_nothing_of_it_is_kept() {
    let piece = vec![b'x'; 1 << 16];
    let most = |buffered: usize| assert!(buffered <= 2 * piece.len(), "{buffered} bytes are kept");
    let mut played = Played::new(&[]);
    // A row.
    played.says(&query("SELECT 1"));
    played.server_says(&[complete("SET"), head(b'D', GIGABYTE - 8)]);
    let mut passed = played.told().len();
    for _ in 0..GIGABYTE / piece.len() {
        played.give(Input::ServerBytes(&piece[..piece.len().min(GIGABYTE - 3 - passed)]));
        most(played.session.client_backlog());
        passed += played.told().len();
    }
    assert_eq!(passed, GIGABYTE - 3);
    played.server_says(&[complete("SELECT 1"), ready()]);
    assert_eq!(types(&played.told()), "CZ");
    // A parameter.
    let front = b"\0\0\0\0\0\x01\x3f\xff\xff\x00";
    played.says(&written(|out| frontend::put_parse(out, b"", b"SELECT length($1)", &[])));
    played.says(&[&head(b'B', GIGABYTE - 8)[..], front].concat());
    let (mut said, mut sent) = (front.len(), 0);
    drop(played.sent());
    while said < GIGABYTE - 8 {
        let count = piece.len().min(GIGABYTE - 8 - said);
        played.says(&piece[..count]);
        said += count;
        let out = played.sent().len();
        most(out);
        sent += out;
    }
    assert_eq!(sent, said - front.len());
    assert!(!played.is_closed && played.session.wants_client_bytes());
}

/// How many errors end the session.
fn fatals(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let [tag, a, b, c, d, ..] = bytes {
        let size = 1 + usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).unwrap();
        let (frame, rest) = bytes.split_at(size.min(bytes.len()));
        count += usize::from(*tag == b'E' && backend::Fields::new(&frame[5..]).is_fatal());
        bytes = rest;
    }
    count
}

/// Sessions in the states in which a server may say something.
fn states() -> Vec<(&'static str, Played)> {
    let after = |first: &[u8], answers: &[Vec<u8>], then: &[u8]| {
        let mut played = Played::new(&[]);
        played.says(first);
        played.server_says(answers);
        played.says(then);
        played.told();
        played
    };
    let block = || [complete("BEGIN"), written(|out| backend::put_ready(out, TransactionStatus::InBlock))].concat();
    let parse = written(|out| frontend::put_parse(out, b"", b"SELECT 1", &[]));
    let sync = written(frontend::put_sync);
    let mut setting = Played::new(&[("timezone", "Asia/Tokyo")]);
    setting.says(&query("SELECT 1"));
    vec![
        ("a Query is owed", after(&query("SELECT 1"), &[], b"")),
        ("its rows come", after(&query("SELECT 1"), &[complete("SET"), reply(b'T', b"\0\0")], b"")),
        ("it has failed", after(&query("SELECT 1"), &[complete("SET"), error("42P01")], b"")),
        ("a block waits", after(&query("BEGIN"), &[block()], b"")),
        ("a Parse is owed", after(&query("BEGIN"), &[block()], &parse)),
        ("a segment is owed", after(&query("BEGIN"), &[block()], &[parse.clone(), sync.clone()].concat())),
        ("all is skipped", after(&parse, &[error("42P01")], b"")),
        ("COPY takes data", after(&query("COPY notes FROM STDIN"), &[complete("SET"), reply(b'G', &[0; 3])], b"")),
        ("settings are on their way", setting),
    ]
}

#[test]
fn whatever_a_server_says_is_an_answer_or_the_end_of_both_connections() {
    let bodies =
        [&b""[..], b"\0", b"I", b"SELECT 1\0", b"SFATAL\0VFATAL\0C57P01\0Mgone\0\0", b"client_encoding\0LATIN1\0"];
    let (mut ends, mut answers) = (0, 0);
    for tag in 0..=255_u8 {
        for body in bodies {
            for (state, mut played) in states() {
                played.server_says(&[reply(tag, body)]);
                let told = played.told();
                let what = format!("{:?} {body:?} while {state}: {:?}", char::from(tag), types(&told));
                assert!(fatals(&told) <= 1, "{what}");
                assert_eq!(played.is_closed, !played.discards.is_empty(), "{what}");
                assert!(played.shelf.is_empty() || !played.is_closed, "{what}");
                // The encoding and the way literals end are pinned: nobody goes on under others.
                assert!(tag != b'S' || !body.starts_with(b"client_") || played.is_closed, "{what}");
                *(if played.is_closed { &mut ends } else { &mut answers }) += 1;
                // The other side goes as well, and nobody is told twice.
                played.give(Input::ServerGone);
                let told = [told, played.told()].concat();
                assert!(fatals(&told) <= 1, "{what}");
                assert!(played.is_closed || !played.shelf.is_empty(), "{what}");
            }
        }
    }
    assert!(ends > 12_000 && answers > 100, "{ends} ends, {answers} answers");
}
