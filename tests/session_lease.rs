//! Sessions whose tenant stays on the server (`scope.lifetime = "lease"`), input by input.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test says why it failed by panicking")]

mod session_support;

use session_support::{error, query, reply, server, written};
use std::sync::Arc;
use tenantgate::guard::{FactsCache, Limits, Policy, PolicySettings, inspect};
use tenantgate::scope::{CleanServer, DiscardReason, Injection, Lifetime, ScopeTemplate};
use tenantgate::session::{Effect, Input, Session, SessionRules};
use tenantgate::tenant::{TenantId, TenantKind};
use tenantgate::upstream::{Parameters, Settings};
use tenantgate::wire::TransactionStatus::{self, Failed, Idle, InBlock};
use tenantgate::wire::{backend, frontend};

fn injection(tenant: &str) -> Injection {
    let tenant = TenantId::parse(TenantKind::Text, tenant).unwrap();
    Injection::new(&ScopeTemplate::default(), &tenant, Lifetime::Lease)
}

/// A session with its driver played by the test, on a server that the test keeps between sessions.
struct Played {
    session: Session,
    /// What the next lease gives; what a check-in has brought.
    server: Option<CleanServer>,
    discarded: Option<DiscardReason>,
    leases: usize,
    is_closed: bool,
}

impl Played {
    fn new(tenant: &str, server: CleanServer) -> Self {
        let settings = PolicySettings { scope_settings: vec!["app.tenant_id".to_owned()], ..PolicySettings::default() };
        let rules = Arc::new(SessionRules {
            recording: None,
            claims: None,
            bypass: None,
            injection: injection(tenant),
            policy: Arc::new(Policy::new(&settings)),
            facts: Arc::new(FactsCache::default()),
            #[cfg(feature = "mutants")]
            mutant: None,
        });
        let session = Session::new(rules, Settings::default(), &Arc::new(Parameters::default()), 7, b"abcd");
        let mut played = Self { session, server: Some(server), discarded: None, leases: 0, is_closed: false };
        played.told();
        played
    }

    fn give(&mut self, input: Input<'_>) {
        self.session.handle(input);
        while let Some(effect) = self.session.poll_effect() {
            match effect {
                Effect::Lease => {
                    if let Some(server) = self.server.take() {
                        self.leases += 1;
                        self.session.handle(Input::Leased(server));
                    }
                }
                Effect::Inspect(sql) => self.session.handle(Input::Inspected(inspect(&sql, &Limits::default()))),
                Effect::Close(_) => self.is_closed = true,
                Effect::CheckIn(clean) => self.server = Some(clean),
                Effect::Discard(reason) => self.discarded = Some(reason),
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

    fn server_says(&mut self, bytes: &[u8]) {
        self.give(Input::ServerBytes(bytes));
    }

    /// What the server is sent; it has read it.
    fn sent(&mut self) -> Vec<u8> {
        let sent = self.session.server_out().map(|out| out.split().to_vec()).unwrap_or_default();
        self.give(Input::ServerWritten);
        sent
    }

    fn told(&mut self) -> Vec<u8> {
        self.session.client_out().split().to_vec()
    }

    /// Whether a server came back that has the tenant of this name.
    fn carries(&self, tenant: &str) -> bool {
        self.server.as_ref().is_some_and(|clean| clean.suits(&injection(tenant)))
    }
}

fn complete(tag: &str) -> Vec<u8> {
    written(|out| backend::put_command_complete(out, tag.as_bytes()))
}

fn ready(status: TransactionStatus) -> Vec<u8> {
    written(|out| backend::put_ready(out, status))
}

fn bound() -> Vec<u8> {
    reply(b'2', b"")
}

/// What a server answers to the proxy's own transaction.
fn installed() -> Vec<Vec<u8>> {
    vec![bound(), complete("BEGIN"), bound(), complete("SELECT 0"), bound(), complete("COMMIT")]
}

/// What the proxy sends in front.
fn install(tenant: &str) -> Vec<u8> {
    written(|out| {
        for (statement, values) in
            [("tg_begin", &[][..]), ("tg_scope", &[tenant.as_bytes()][..]), ("tg_commit", &[][..])]
        {
            frontend::put_bind_text(out, b"", statement.as_bytes(), values);
            frontend::put_execute(out, b"");
        }
    })
}

fn extended(sql: &str) -> Vec<u8> {
    written(|out| {
        frontend::put_parse(out, b"", sql.as_bytes(), &[]);
        frontend::put_bind_text(out, b"", b"", &[]);
        frontend::put_execute(out, b"");
    })
}

fn named(sql: &str) -> Vec<u8> {
    written(|out| frontend::put_parse(out, b"s", sql.as_bytes(), &[]))
}

fn sync() -> Vec<u8> {
    written(frontend::put_sync)
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// A server that has this tenant.
fn carrying(tenant: &str) -> CleanServer {
    let mut played = Played::new(tenant, server());
    played.says(&query("SELECT 1"));
    played.sent();
    played.server_says(&[installed().concat(), complete("SELECT 0"), ready(Idle)].concat());
    assert!(played.carries(tenant));
    played.server.take().unwrap()
}

#[test]
fn a_tenant_is_put_on_in_front_of_untouched_bytes_and_once() {
    let mut played = Played::new("acme", server());
    let asked = query("SELECT 1; COMMIT; SELECT 2");
    played.says(&asked);
    assert_eq!(played.sent(), [install("acme"), asked].concat());
    let answer = [complete("SELECT 1"), complete("COMMIT"), complete("SELECT 1"), ready(Idle)].concat();
    played.server_says(&[installed().concat(), answer.clone()].concat());
    assert_eq!(played.told(), answer);
    assert!(played.carries("acme") && !played.carries("globex"));
    // The same tenant: nothing but what it says.
    played.says(&query("SELECT 3"));
    assert_eq!(played.sent(), query("SELECT 3"));
    played.server_says(&[complete("SELECT 1"), ready(Idle)].concat());
    assert_eq!(played.leases, 2);
    // Another one.
    let mut other = Played::new("globex", played.server.take().unwrap());
    other.says(&[extended("SELECT 1"), sync()].concat());
    assert_eq!(other.sent(), [install("globex"), extended("SELECT 1"), sync()].concat());
}

#[test]
fn nothing_of_a_second_segment_is_sent_before_the_answer() {
    let then_a_query = query("ROLLBACK; SELECT 2");
    for (first, second) in [
        (query("SELECT 1"), then_a_query.clone()),
        (query("SELECT 1"), sync()),
        ([extended("SELECT 1"), sync()].concat(), then_a_query.clone()),
        ([extended("SELECT 1"), sync()].concat(), [named("ROLLBACK"), sync()].concat()),
        (sync(), then_a_query),
    ] {
        let mut played = Played::new("acme", carrying("globex"));
        // A lone Sync needs no server: a Parse in front makes it the end of a segment.
        let first = if first == sync() { [extended("SELECT 1"), first].concat() } else { first };
        played.says(&[first.clone(), second.clone()].concat());
        let sent = played.sent();
        assert!(sent.ends_with(&first), "only the first segment is sent");
        let mut answers = installed();
        let last = answers.pop().unwrap();
        for answer in answers {
            played.server_says(&answer);
            assert_eq!(played.sent(), b"");
        }
        played.server_says(&last);
        assert!(!played.sent().is_empty(), "and then the next");
    }
}

/// Which answers come before the error, and what state the server then is in.
fn cancelled_at(answered: usize) -> (Vec<u8>, TransactionStatus) {
    let status = if (2..5).contains(&answered) { Failed } else { Idle };
    (installed()[..answered].concat(), status)
}

#[test]
fn a_cancel_in_front_of_a_query_is_the_query_s_error_and_the_server_is_asked_again() {
    for answered in 0..6 {
        let mut played = Played::new("acme", carrying("globex"));
        played.says(&[query("SELECT 1"), query("ROLLBACK; SELECT 2")].concat());
        played.sent();
        let (before, status) = cancelled_at(answered);
        played.server_says(&[before, error("57014")].concat());
        assert_eq!(played.told(), error("57014"));
        assert_eq!(played.sent(), sync(), "none is coming");
        played.server_says(&ready(status));
        if status == Failed {
            assert_eq!(played.told(), b"");
            assert_eq!(played.sent(), query("ROLLBACK"));
            played.server_says(&[complete("ROLLBACK"), ready(Idle)].concat());
        }
        assert!(played.told().starts_with(&ready(Idle)), "{answered}");
        // COMMIT may have been done: that server is not used again.
        assert_eq!(played.discarded, (answered == 5).then_some(DiscardReason::ScopeUnconfirmed));
        if answered < 5 {
            assert_eq!(played.leases, 2, "the second Query has asked for a server of its own");
            assert_eq!(played.sent(), [install("acme"), query("ROLLBACK; SELECT 2")].concat());
        }
        assert!(!played.is_closed);
    }
}

#[test]
fn a_cancel_in_front_of_a_segment_skips_it_to_its_sync() {
    for answered in 0..5 {
        for is_sync_there in [true, false] {
            let mut played = Played::new("acme", carrying("globex"));
            played.says(&extended("SELECT 1"));
            if is_sync_there {
                played.says(&sync());
            }
            played.sent();
            let (before, status) = cancelled_at(answered);
            played.server_says(&[before, error("57014")].concat());
            assert_eq!(played.told(), error("57014"));
            if !is_sync_there {
                played.says(&[extended("SELECT 2"), sync()].concat());
                assert_eq!(played.sent(), sync(), "what stands before it is ignored");
            }
            played.server_says(&ready(status));
            if status == Failed {
                assert_eq!(played.sent(), query("ROLLBACK"));
                // A cancel that comes late means nobody.
                played.server_says(&[error("57014"), ready(Failed)].concat());
                assert_eq!(played.sent(), query("ROLLBACK"));
                played.server_says(&[complete("ROLLBACK"), ready(Idle)].concat());
            }
            assert_eq!(played.told(), ready(Idle));
            assert!(!played.carries("acme") && !played.carries("globex") && played.server.is_some());
        }
    }
}

#[test]
fn any_other_failure_is_one_error_and_the_end() {
    for answered in 0..6 {
        let mut played = Played::new("acme", carrying("globex"));
        played.says(&[query("SELECT 1"), query("SELECT 2")].concat());
        played.sent();
        let (before, _) = cancelled_at(answered);
        played.server_says(&[before, error("42704")].concat());
        let told = played.told();
        assert!(holds(&told, b"TG055") && told.iter().filter(|byte| **byte == b'E').count() > 0);
        assert!(!holds(&told, b"42704"), "the server's own words are a detail");
        assert_eq!(played.discarded, Some(DiscardReason::ScopeUnconfirmed));
        assert!(played.is_closed && played.server.is_none());
    }
}

#[test]
fn answers_that_were_not_asked_for_end_server_and_session() {
    for (at, tag) in
        [(1, "COMMIT"), (3, "SELECT 1"), (3, "SET"), (5, "ROLLBACK"), (5, "BEGIN"), (1, "SELECT 0"), (5, "SELECT 0")]
    {
        let mut played = Played::new("acme", carrying("globex"));
        played.says(&query("SELECT 1"));
        played.sent();
        let mut answers = installed();
        answers[at] = complete(tag);
        played.server_says(&[answers.concat(), complete("SELECT 1"), ready(Idle)].concat());
        assert!(holds(&played.told(), b"TG056"), "{tag} at {at}");
        assert!(played.is_closed && played.server.is_none() && played.discarded.is_some());
    }
}

/// A row of the scope statement is none of the client's.
#[test]
fn a_row_in_front_of_the_client_s_answer_never_reaches_it() {
    let mut played = Played::new("acme", server());
    played.says(&query("SELECT 1"));
    played.sent();
    let mut answers = installed();
    answers.insert(3, reply(b'D', &[0, 0]));
    played.server_says(&[answers.concat(), complete("SELECT 1"), ready(Idle)].concat());
    assert_eq!(played.told(), [complete("SELECT 1"), ready(Idle)].concat());
}

/// Wherever the client stops: a server that comes back has this tenant, or counts as one that has none.
#[test]
fn a_client_that_vanishes_at_any_byte_leaves_no_doubt() {
    let scripts: Vec<(Vec<u8>, Vec<u8>)> = vec![
        (query("SELECT 1"), [complete("SELECT 1"), ready(Idle)].concat()),
        (
            [extended("SELECT 1"), sync()].concat(),
            [reply(b'1', b""), bound(), complete("SELECT 1"), ready(Idle)].concat(),
        ),
        (query("BEGIN"), [complete("BEGIN"), ready(InBlock)].concat()),
    ];
    let mut came_back = 0;
    for (asked, answered) in scripts {
        let answered = [installed().concat(), answered].concat();
        // At each byte of what it says, the server having said nothing; then at each byte of the answer.
        for heard in 1..=asked.len() + answered.len() {
            let mut played = Played::new("acme", carrying("globex"));
            played.says(&asked[..heard.min(asked.len())]);
            played.sent();
            let said = heard.saturating_sub(asked.len());
            played.server_says(&answered[..said]);
            played.give(Input::ClientGone);
            // The server goes on.
            let mut rollback = played.sent();
            if played.session.owes_replies() && rollback.is_empty() {
                played.server_says(&answered[said..]);
                rollback = played.sent();
            }
            if !rollback.is_empty() {
                assert_eq!(rollback, query("ROLLBACK"));
                played.server_says(&[complete("ROLLBACK"), ready(Idle)].concat());
            }
            assert!(played.is_closed, "{heard} of {} and {}", asked.len(), answered.len());
            let has_come_back = played.server.is_some();
            came_back += usize::from(has_come_back);
            assert!(has_come_back != played.discarded.is_some(), "given back or closed");
            let is_untouched = played.leases == 0 && played.carries("globex");
            assert!(is_untouched || !has_come_back || played.carries("acme"), "{heard}");
            assert!(is_untouched || !played.carries("globex"), "{heard}");
        }
    }
    assert!(came_back > 20, "most servers are kept");
}

/// The same while the server fails: what it had is not believed any more, and what it gets is not either.
#[test]
fn a_client_that_vanishes_while_a_cancel_is_undone_leaves_no_tenant() {
    for steps in 0..4 {
        let mut played = Played::new("acme", carrying("globex"));
        played.says(&query("SELECT 1"));
        played.sent();
        let (before, _) = cancelled_at(3);
        let answers = [[before, error("57014")].concat(), ready(Failed), complete("ROLLBACK"), ready(Idle)];
        let mut answers = answers.into_iter();
        for answer in answers.by_ref().take(steps) {
            played.server_says(&answer);
            played.sent();
        }
        played.give(Input::ClientGone);
        played.sent();
        for answer in answers {
            if played.session.owes_replies() {
                played.server_says(&answer);
                played.sent();
            }
        }
        assert!(played.is_closed, "{steps}");
        assert!(!played.carries("acme") && !played.carries("globex"), "{steps}");
    }
}
