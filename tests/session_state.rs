//! What a client's settings cost on the way to a server, and what becomes of it if they do not get there.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test says why it failed by panicking")]

mod session_support;

use session_support::{error, query, reply, server, written};
use std::sync::Arc;
use tenantgate::guard::{FactsCache, Limits, Policy, PolicySettings, inspect};
use tenantgate::scope::{CleanServer, DiscardReason, Injection, ScopeTemplate};
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
        injection: Injection::new(&ScopeTemplate::default(), &tenant),
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
                Effect::Cancel | Effect::Refused(_) | Effect::Record(_) => {}
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

/// A session whose replay is on its way together with these messages.
fn replaying(messages: &[Vec<u8>]) -> Played {
    let mut played = Played::new(&[("timezone", "Asia/Tokyo")]);
    played.says(&messages.concat());
    assert!(types(&played.sent()).starts_with("BEBEBE"));
    played
}

fn cancelled() -> [Vec<u8>; 3] {
    [reply(b'2', b""), complete("BEGIN"), error("57014")]
}

#[test]
fn a_cancel_that_hits_the_replay_is_the_statement_s_error_and_costs_the_server_only() {
    let mut played = replaying(&[query("SELECT 1")]);
    played.server_says(&cancelled());
    assert_eq!(types(&played.told()), "E!Z");
    assert_eq!((played.is_closed, &*played.discards), (false, &[DiscardReason::NotQuiet][..]));
    // On the next server all goes well.
    played.says(&query("SELECT 1"));
    played.server_says(&[replayed(), prefixed_select().concat()]);
    assert_eq!((types(&played.told()).as_str(), played.shelf.len()), ("CZ", 1));
}

#[test]
fn every_segment_behind_a_cancelled_replay_fails_once() {
    let parse = |name: &str| written(|out| frontend::put_parse(out, name.as_bytes(), b"SELECT 1", &[]));
    let bind = written(|out| frontend::put_bind_text(out, b"", b"s", &[]));
    let execute = written(|out| frontend::put_execute(out, b""));
    let sync = written(frontend::put_sync);
    let segment = [parse("s"), bind.clone(), execute.clone(), sync.clone()].concat();
    let mut played = replaying(&[segment, query("SELECT 1"), sync.clone(), query("SELECT 2"), parse("t")]);
    played.server_says(&cancelled());
    assert_eq!(types(&played.told()), "E!ZE!ZZE!ZE!");
    // The last one has no Sync yet: the rest of it is skipped.
    played.says(&[bind.clone(), execute.clone(), sync.clone()].concat());
    assert_eq!((types(&played.told()).as_str(), types(&played.sent()).as_str()), ("Z", ""));
    // Names of what was not prepared are free.
    played.says(&[parse("s"), bind, execute, sync].concat());
    let sent = played.sent();
    assert!(types(&sent).ends_with("S") && types(&sent).contains('P'), "{}", types(&sent));
}

#[test]
fn the_rest_of_a_bind_behind_a_cancelled_replay_is_dropped() {
    let parse = written(|out| frontend::put_parse(out, b"", b"SELECT length($1)", &[]));
    let long = vec![b'x'; 200_000];
    let bind = written(|out| frontend::put_bind_text(out, b"", b"", &[&long]));
    let (front, rest) = bind.split_at(100_000);
    let mut played = replaying(&[parse, front.to_vec()]);
    played.server_says(&cancelled());
    assert_eq!(types(&played.told()), "E!");
    played.says(rest);
    played.says(&written(frontend::put_sync));
    assert_eq!(types(&played.told()), "Z");
    played.says(&query("SELECT 1"));
    played.server_says(&[replayed(), prefixed_select().concat()]);
    assert_eq!(types(&played.told()), "CZ");
}

#[test]
fn any_other_failure_of_a_replay_ends_the_session() {
    let mut played = replaying(&[query("SELECT 1")]);
    played.server_says(&[reply(b'2', b""), complete("BEGIN"), error("22023")]);
    assert!(played.is_closed && played.discards.len() == 1);
}
