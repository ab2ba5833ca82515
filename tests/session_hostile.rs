//! Attacks on one session, input by input, against a server whose answers are written down here.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test says why it failed by panicking")]

mod session_support;

use session_support::{error, query, reply, server, written};
use std::sync::Arc;
use std::time::Duration;
use tenantgate::fault::{Code, Fault};
use tenantgate::guard::{FactsCache, Limits, Lists, Policy, PolicySettings, Sides, inspect};
use tenantgate::metrics::Count;
use tenantgate::scope::{Injection, Lifetime, ScopeTemplate};
use tenantgate::session::{Effect, Input, Overrun, Session, SessionRules, Standing};
use tenantgate::tenant::{TenantId, TenantKind};
use tenantgate::upstream::{Parameters, Settings};
use tenantgate::wire::TransactionStatus;
use tenantgate::wire::{backend, frontend};

/// A session with its driver played by the test.
struct Played {
    session: Session,
    /// Texts whose inspection was asked for and not answered.
    asked: Vec<Vec<u8>>,
    is_closed: bool,
    is_given_back: bool,
    /// Cancels that were asked for.
    cancels: usize,
}

/// Rules under which these settings may be set.
fn rules(settings_allowed: &[&str]) -> Arc<SessionRules> {
    let settings = PolicySettings {
        scope_settings: vec!["app.tenant_id".to_owned()],
        lists: Lists {
            settings: Sides {
                allowed: settings_allowed.iter().map(|name| (*name).to_owned()).collect(),
                denied: Vec::new(),
            },
            ..Lists::default()
        },
        ..PolicySettings::default()
    };
    let tenant = TenantId::parse(TenantKind::Text, "acme").unwrap();
    let policy = Arc::new(Policy::new(&settings));
    Arc::new(SessionRules {
        recording: None,
        claims: None,
        bypass: None,
        injection: Injection::new(&ScopeTemplate::default(), &tenant, Lifetime::Transaction),
        policy,
        facts: Arc::new(FactsCache::default()),
        #[cfg(feature = "mutants")]
        mutant: None,
    })
}

impl Played {
    fn new() -> Self {
        let rules = rules(&[]);
        let session = Session::new(rules, Settings::default(), &Arc::new(Parameters::default()), 7, b"abcd");
        let mut played = Self { session, asked: Vec::new(), is_closed: false, is_given_back: false, cancels: 0 };
        played.told();
        played
    }

    /// Gives an input and carries out everything but inspections.
    fn give(&mut self, input: Input<'_>) {
        self.session.handle(input);
        while let Some(effect) = self.session.poll_effect() {
            match effect {
                Effect::Lease => self.session.handle(Input::Leased(server())),
                Effect::Inspect(sql) => self.asked.push(sql.to_vec()),
                Effect::Close(_) => self.is_closed = true,
                Effect::CheckIn(_) => self.is_given_back = true,
                Effect::Pin => self.session.handle(Input::Pinned(Ok(()))),
                Effect::Rest | Effect::Limit(_) | Effect::Claim(_) | Effect::Unclaim => {}
                Effect::Cancel => self.cancels += 1,
                Effect::Discard(_) | Effect::Refused(_) | Effect::Observed(..) | Effect::Record(_) => {}
            }
        }
    }

    /// Client bytes, with every inspection answered at once.
    fn says(&mut self, bytes: &[u8]) {
        self.give(Input::ClientBytes(bytes));
        while let Some(sql) = self.asked.pop() {
            self.give(Input::Inspected(inspect(&sql, &Limits::default())));
        }
    }

    fn server_says(&mut self, bytes: &[u8]) {
        // What it answers it has read.
        drop(self.sent());
        self.give(Input::ServerBytes(bytes));
    }

    /// What the server has been sent since the last look.
    fn sent(&mut self) -> Vec<u8> {
        self.session.server_out().map(|out| out.split().to_vec()).unwrap_or_default()
    }

    /// What the client has been told since the last look.
    fn told(&mut self) -> Vec<u8> {
        self.session.client_out().split().to_vec()
    }
}

fn parse(sql: &str) -> Vec<u8> {
    written(|out| frontend::put_parse(out, b"", sql.as_bytes(), &[]))
}

fn bind(portal: &str) -> Vec<u8> {
    written(|out| frontend::put_bind_text(out, portal.as_bytes(), b"", &[]))
}

fn execute(portal: &str) -> Vec<u8> {
    written(|out| frontend::put_execute(out, portal.as_bytes()))
}

fn sync() -> Vec<u8> {
    written(frontend::put_sync)
}

fn complete(tag: &str) -> Vec<u8> {
    written(|out| backend::put_command_complete(out, tag.as_bytes()))
}

fn ready(status: TransactionStatus) -> Vec<u8> {
    written(|out| backend::put_ready(out, status))
}

fn holds(bytes: &[u8], part: &str) -> bool {
    bytes.windows(part.len()).any(|window| window == part.as_bytes())
}

#[test]
fn facts_of_a_message_that_is_skipped_judge_no_other() {
    let mut played = Played::new();
    played.says(&[parse("SELECT * FROM nowhere"), reply(b'H', b"")].concat());
    // A harmless text is being inspected when the server's error comes: the message is skipped.
    played.give(Input::ClientBytes(&parse("SHOW server_version")));
    assert_eq!(played.asked.len(), 1);
    played.server_says(&error("42P01"));
    let sql = played.asked.pop().unwrap();
    played.give(Input::Inspected(inspect(&sql, &Limits::default())));
    played.says(&sync());
    played.server_says(&ready(TransactionStatus::Idle));
    played.told();
    played.sent();
    played.says(&query("SET app.tenant_id = 'globex'; SELECT v FROM invoices"));
    assert!(!holds(&played.sent(), "globex"), "a refused text reached the server");
    assert!(holds(&played.told(), "TG011"));
}

/// A block in which portal `p` is a COMMIT and a savepoint is set.
fn block_with_a_commit_portal() -> Played {
    let mut played = Played::new();
    played.says(&query("BEGIN"));
    played.server_says(&[complete("BEGIN"), ready(TransactionStatus::InBlock)].concat());
    played.says(&[parse("COMMIT"), bind("p"), sync()].concat());
    played.server_says(&[reply(b'1', b""), reply(b'2', b""), ready(TransactionStatus::InBlock)].concat());
    played.says(&query("SAVEPOINT s"));
    played.server_says(&[complete("SET"), complete("SAVEPOINT"), ready(TransactionStatus::InBlock)].concat());
    played
}

/// What is sent for `p` and a SELECT behind it, once the savepoint is gone back to.
fn executed_after_rollback(played: &mut Played) -> Vec<u8> {
    played.says(&query("ROLLBACK TO s"));
    played.server_says(&[complete("ROLLBACK"), ready(TransactionStatus::InBlock)].concat());
    played.sent();
    played.says(&[execute("p"), parse("SELECT 1"), bind(""), execute(""), sync()].concat());
    played.sent()
}

fn assert_no_unscoped_select(sent: &[u8]) {
    let is_commit = holds(sent, "E\0\0\0\x0ap\0");
    assert!(!is_commit || holds(sent, "tg_scope"), "SELECT behind COMMIT without a tenant");
}

#[test]
fn a_bind_that_failed_does_not_hide_an_older_portal() {
    let mut played = block_with_a_commit_portal();
    played.says(&[parse("SELECT 1"), bind("p"), sync()].concat());
    played.server_says(&[reply(b'1', b""), error("42P03"), ready(TransactionStatus::Failed)].concat());
    let sent = executed_after_rollback(&mut played);
    assert_no_unscoped_select(&sent);
}

#[test]
fn a_close_that_was_skipped_does_not_hide_a_portal() {
    let mut played = block_with_a_commit_portal();
    let close = written(|out| frontend::put_close(out, frontend::Target::Portal, b"p"));
    played.says(&[parse("SELECT nope"), close, sync()].concat());
    played.server_says(&[error("42703"), ready(TransactionStatus::Failed)].concat());
    let sent = executed_after_rollback(&mut played);
    assert!(holds(&sent, "tg_scope"), "SELECT behind COMMIT without a tenant");
}

#[test]
fn a_commit_that_was_skipped_leaves_its_portal() {
    let mut played = block_with_a_commit_portal();
    played.says(&[parse("SELECT nope"), execute("p"), sync()].concat());
    played.server_says(&[error("42703"), ready(TransactionStatus::Failed)].concat());
    let sent = executed_after_rollback(&mut played);
    assert!(holds(&sent, "tg_scope"), "SELECT behind COMMIT without a tenant");
}

#[test]
fn a_command_tag_of_transaction_control_that_nobody_asked_for_ends_the_session() {
    let mut played = Played::new();
    played.says(&[parse("SELECT 1"), bind(""), execute(""), sync()].concat());
    let injected = [reply(b'1', b""), reply(b'2', b""), complete("SELECT 0")].concat();
    played.server_says(&[injected, reply(b'2', b""), complete("COMMIT")].concat());
    assert!(played.is_closed);
}

#[test]
fn messages_that_wait_for_transaction_control_are_kept_within_bounds() {
    let mut played = Played::new();
    played.says(&query("BEGIN; SELECT 1"));
    let piece = query("SELECT 1").repeat(1_000);
    let mut kept = 0;
    while played.session.wants_client_bytes() {
        played.give(Input::ClientBytes(&piece));
        kept += piece.len();
        assert!(kept < 1 << 20, "a megabyte is kept");
    }
}

#[test]
fn terminate_behind_messages_without_sync_does_not_wait() {
    let mut played = Played::new();
    played.says(&[parse("SELECT 1"), written(frontend::put_terminate)].concat());
    assert!(played.is_closed);
}

#[test]
fn data_behind_a_failed_copy_does_not_keep_the_server() {
    let mut played = Played::new();
    played.says(&query("COPY notes FROM STDIN"));
    played.server_says(&[complete("SET"), reply(b'G', &[0, 0, 0])].concat());
    let data = reply(b'd', &[b'x'; 100]);
    let (front, rest) = data.split_at(50);
    played.says(&data);
    played.says(front);
    played.give(Input::ServerWritten);
    played.server_says(&[error("22P04"), ready(TransactionStatus::Idle)].concat());
    assert!(!played.is_given_back, "half a message is on its way");
    played.says(rest);
    drop(played.sent());
    played.give(Input::ServerWritten);
    assert!(played.is_given_back);
}

#[test]
fn what_came_before_the_end_of_the_stream_is_served_one_query_after_the_other() {
    let mut played = Played::new();
    played.says(&[query("BEGIN; COMMIT"), query("SELECT 1")].concat());
    played.give(Input::ClientDone);
    played.server_says(&[complete("BEGIN"), complete("COMMIT"), ready(TransactionStatus::Idle)].concat());
    while let Some(sql) = played.asked.pop() {
        played.give(Input::Inspected(inspect(&sql, &Limits::default())));
    }
    assert!(holds(&played.sent(), "SELECT 1"));
    assert!(!played.is_closed);
    played.server_says(&[complete("SET"), complete("SELECT 1"), ready(TransactionStatus::Idle)].concat());
    assert!(played.is_closed && played.is_given_back);
}

const LIMIT: Duration = Duration::from_millis(100);

/// A session whose statement runs.
fn running() -> Played {
    let mut played = Played::new();
    played.says(&query("SELECT v FROM invoices"));
    assert_eq!(played.session.pulse().standing, Standing::Busy);
    played
}

/// A session in a block that waits for its client.
fn in_a_block() -> Played {
    let mut played = Played::new();
    played.says(&query("BEGIN"));
    played.server_says(&[complete("BEGIN"), ready(TransactionStatus::InBlock)].concat());
    assert_eq!(played.session.pulse().standing, Standing::Idle);
    played.told();
    played
}

#[test]
fn a_statement_that_lasts_too_long_is_cancelled_in_the_limit_s_name() {
    let mut played = running();
    played.give(Input::Overrun(Overrun::Statement(LIMIT)));
    assert_eq!(played.cancels, 1);
    played.server_says(&[error("57014"), ready(TransactionStatus::Idle)].concat());
    let told = played.told();
    assert!(holds(&told, "C57014\0") && holds(&told, "TG088: ") && holds(&told, "100 ms") && !holds(&told, "Mno"));
    // The next message could still be hit: it waits.
    played.says(&query("SELECT 1"));
    assert_eq!(played.session.pulse().standing, Standing::Free);
    played.give(Input::CancelSettled);
    played.says(b"");
    assert!(holds(&played.sent(), "SELECT 1"));
    // A cancel of the client's own is its own.
    played.server_says(&[complete("SET"), error("57014"), ready(TransactionStatus::Idle)].concat());
    assert!(holds(&played.told(), "Mno\0"));
}

/// One that is told of an end which is not its own takes the next error for a second one.
#[test]
fn a_server_that_ends_between_transactions_is_given_up_without_a_word() {
    let mut played = running();
    let end = reply(b'E', b"SFATAL\0VFATAL\0C57P01\0Mno\0\0");
    let replies = [complete("SET"), complete("SELECT 1"), ready(TransactionStatus::Idle), end.clone()].concat();
    played.server_says(&replies);
    assert!(!holds(&played.told(), "57P01") && !played.is_closed && !played.is_given_back);
    // In a block it is the client's end, too.
    let mut played = in_a_block();
    played.server_says(&end);
    played.give(Input::ServerGone);
    assert!(holds(&played.told(), "57P01") && played.is_closed);
}

#[test]
fn a_cancel_that_came_too_late_blames_no_other_statement() {
    let mut played = in_a_block();
    played.says(&query("SELECT 1"));
    played.give(Input::Overrun(Overrun::Statement(LIMIT)));
    played.server_says(&[complete("SET"), complete("SELECT 1"), ready(TransactionStatus::InBlock)].concat());
    played.give(Input::CancelSettled);
    played.says(&query("SELECT 2"));
    played.server_says(&[error("57014"), ready(TransactionStatus::Failed)].concat());
    assert!(holds(&played.told(), "Mno\0"));
}

#[test]
fn a_cancel_in_the_injection_is_told_in_the_limit_s_name_too() {
    let mut played = running();
    played.give(Input::Overrun(Overrun::Statement(LIMIT)));
    played.give(Input::CancelSettled);
    played.server_says(&[error("57014"), ready(TransactionStatus::Idle)].concat());
    assert!(holds(&played.told(), "TG088: ") && played.is_given_back && !played.is_closed);
}

#[test]
fn a_server_that_ignores_its_cancel_is_given_up() {
    let mut played = running();
    played.give(Input::Overrun(Overrun::Statement(LIMIT)));
    played.give(Input::Overrun(Overrun::Unending(LIMIT)));
    assert!(played.is_closed && !played.is_given_back);
    assert!(holds(&played.told(), "SFATAL\0VFATAL\0C57014\0MTG088: "));
}

#[test]
fn a_pause_in_a_block_ends_with_last_words_and_a_clean_server() {
    let mut played = in_a_block();
    played.give(Input::Overrun(Overrun::Idle(LIMIT)));
    assert!(holds(&played.told(), "SFATAL\0VFATAL\0C25P03\0MTG087: "));
    assert_eq!(played.cancels, 0);
    assert!(holds(&played.sent(), "ROLLBACK"));
    played.server_says(&[complete("ROLLBACK"), ready(TransactionStatus::Idle)].concat());
    assert!(played.is_closed && played.is_given_back);
    assert_eq!(played.told(), b"");
}

#[test]
fn a_transaction_that_lasts_too_long_ends_with_last_words_and_nothing_behind_them() {
    let mut played = in_a_block();
    played.says(&query("SELECT v FROM invoices"));
    played.server_says(&[complete("SET"), reply(b'T', &[0, 0])].concat());
    played.told();
    played.give(Input::Overrun(Overrun::Transaction(LIMIT)));
    assert!(holds(&played.told(), "SFATAL\0VFATAL\0C53400\0MTG086: "));
    assert_eq!(played.cancels, 1);
    played.server_says(&[reply(b'D', &[0, 0]), error("57014"), ready(TransactionStatus::Failed)].concat());
    assert!(holds(&played.sent(), "ROLLBACK"));
    played.server_says(&[complete("ROLLBACK"), ready(TransactionStatus::Idle)].concat());
    assert!(played.is_closed && played.is_given_back);
    assert_eq!(played.told(), b"");
}

#[test]
fn last_words_never_come_in_the_middle_of_a_message() {
    let mut played = running();
    let row = reply(b'D', &[b'x'; 100]);
    let (front, _) = row.split_at(50);
    played.server_says(&[complete("SET"), reply(b'T', &[0, 0]), front.to_vec()].concat());
    played.give(Input::Overrun(Overrun::Transaction(LIMIT)));
    assert!(played.is_closed && !played.is_given_back);
    assert!(played.told().ends_with(front));
}

#[test]
fn an_open_segment_that_nobody_flushes_counts_as_the_client_s_pause() {
    let mut played = Played::new();
    played.says(&[parse("SELECT 1"), bind(""), execute("")].concat());
    assert_eq!(played.session.pulse().standing, Standing::Idle);
    played.says(&reply(b'H', b""));
    assert_eq!(played.session.pulse().standing, Standing::Busy);
    let injected = [reply(b'1', b""), reply(b'2', b""), complete("SELECT 0")].concat();
    played.server_says(&[injected, reply(b'2', b""), complete("SELECT 1")].concat());
    assert_eq!(played.session.pulse().standing, Standing::Idle);
    played.give(Input::Overrun(Overrun::Idle(LIMIT)));
    assert!(played.is_closed && !played.is_given_back && holds(&played.told(), "TG087: "));
}

#[test]
fn what_lasted_too_long_and_is_over_ends_nothing() {
    let mut played = running();
    played.server_says(&[complete("SET"), complete("SELECT 1"), ready(TransactionStatus::Idle)].concat());
    for late in [Overrun::Transaction(LIMIT), Overrun::Idle(LIMIT), Overrun::Statement(LIMIT), Overrun::Unending(LIMIT)]
    {
        played.give(Input::Overrun(late));
    }
    played.give(Input::CancelSettled);
    assert!(!played.is_closed && played.cancels == 0);
}

/// A client would take the error for the rest of the row.
#[test]
fn no_error_goes_into_the_middle_of_a_row() {
    let row = reply(b'D', &[b'x'; 600]);
    for end in [Input::Expel(Fault::of(Code::Killed)), Input::Abort(Fault::of(Code::ShuttingDown)), Input::ServerGone] {
        let mut played = Played::new();
        played.says(&query("SELECT v FROM invoices"));
        played.server_says(&[complete("SET"), reply(b'T', b"\0\0"), row[..300].to_vec()].concat());
        played.give(end);
        assert!(played.is_closed);
        let told = played.told();
        assert!(holds(&told, "xxx") && !holds(&told, "TG0"), "{}", String::from_utf8_lossy(&told));
    }
    let mut played = Played::new();
    played.says(&query("SELECT v FROM invoices"));
    played.server_says(&[complete("SET"), reply(b'T', b"\0\0"), row].concat());
    played.give(Input::Expel(Fault::of(Code::Killed)));
    assert!(holds(&played.told(), "TG071"));
}

#[test]
fn rules_that_change_judge_what_was_prepared_and_what_waits() {
    let mut played = Played::new();
    played.give(Input::Rules(rules(&["work_mem"])));
    played.says(&[parse("SET work_mem = '7MB'"), sync()].concat());
    played.server_says(&[reply(b'1', b""), ready(TransactionStatus::Idle)].concat());
    assert!(played.is_given_back);
    played.told();
    played.sent();
    played.give(Input::Rules(rules(&[])));
    played.says(&[bind(""), execute(""), sync()].concat());
    assert!(holds(&played.told(), "TG013"), "prepared under other rules");

    // A Query that was allowed when it came waits for a server while the rules change.
    let mut played = Played::new();
    played.session.handle(Input::Rules(rules(&["work_mem"])));
    played.session.handle(Input::ClientBytes(&query("SET work_mem = '7MB'")));
    let Some(Effect::Inspect(sql)) = played.session.poll_effect() else { panic!("no inspection") };
    played.session.handle(Input::Inspected(inspect(&sql, &Limits::default())));
    let Some(Effect::Lease) = played.session.poll_effect() else { panic!("no lease") };
    played.session.handle(Input::Rules(rules(&[])));
    played.give(Input::Leased(server()));
    assert!(!holds(&played.sent(), "work_mem"), "refused by the rules in force");
    played.server_says(&[error("42601"), ready(TransactionStatus::Idle)].concat());
    assert!(holds(&played.told(), "TG013"));
}

#[test]
fn rules_that_change_in_a_transaction_end_the_session() {
    let mut played = in_a_block();
    played.give(Input::Rules(rules(&["work_mem"])));
    assert!(played.is_closed && !played.is_given_back && holds(&played.told(), "TG059"));
}

#[test]
fn what_a_client_left_behind_is_given_up_in_the_end() {
    let mut played = running();
    played.give(Input::ServerWritten);
    played.give(Input::ClientGone);
    assert_eq!(played.session.pulse().standing, Standing::Leaving);
    played.give(Input::Overrun(Overrun::Transaction(LIMIT)));
    assert!(!played.is_closed, "no other limit is a leaving session's");
    played.give(Input::Overrun(Overrun::Leaving));
    assert!(played.is_closed && !played.is_given_back);
    let mut played = running();
    played.give(Input::Overrun(Overrun::Leaving));
    assert!(!played.is_closed, "one that stays has no such limit");
}

/// Every message that answers a statement of the client's, whatever the client is told of it.
#[test]
fn a_statement_is_counted_once_when_it_is_answered() {
    let (scoped, parsed, bound) = (complete("SET"), reply(b'1', b""), reply(b'2', b""));
    let selected = || complete("SELECT 1");
    let injected = [parsed.clone(), bound.clone(), complete("SELECT 0"), bound.clone()].concat();
    let pipeline = |text: &str| [parse(text), bind(""), execute(""), sync()].concat();
    let named = |name: &str, text: &str| written(|out| frontend::put_parse(out, name.as_bytes(), text.as_bytes(), &[]));
    let describe = written(|out| frontend::put_describe(out, frontend::Target::Statement, b"s"));
    let failed = |state: &str| error(state);
    let at = |position: u32| reply(b'E', format!("SERROR\0VERROR\0C42601\0Mno\0P{position}\0\0").as_bytes());
    let long = reply(b'E', format!("SERROR\0VERROR\0C22000\0M{}\0\0", "x".repeat(1 << 20)).as_bytes());
    for (what, said, answer, count) in [
        ("as it is", query("BEGIN"), complete("BEGIN"), 1),
        ("an empty text", query(""), reply(b'I', b""), 1),
        ("behind a prefix", query("SELECT 1"), [scoped.clone(), selected()].concat(), 1),
        ("two", query("SELECT 1; SELECT 2"), [scoped.clone(), selected(), selected()].concat(), 2),
        ("behind BEGIN", query("BEGIN; SELECT 1"), [complete("BEGIN"), scoped.clone(), selected()].concat(), 2),
        ("under another tag", query("BEGIN; UNLISTEN a"), [complete("BEGIN"), complete("UNLISTEN")].concat(), 2),
        ("an Execute", pipeline("SELECT 1"), [injected.clone(), selected()].concat(), 1),
        ("an Execute's part", pipeline("SELECT 1"), [injected.clone(), reply(b's', b"")].concat(), 1),
        ("an Execute of nothing", pipeline(""), [parsed.clone(), bound.clone(), reply(b'I', b"")].concat(), 1),
        ("a failure", query("BEGIN"), failed("22000"), 1),
        ("one with a position", query("SELECT 1"), [scoped.clone(), at(60)].concat(), 1),
        ("one in a rewritten text", query("BEGIN; SELECT 1"), [complete("BEGIN"), scoped.clone(), at(99)].concat(), 2),
        ("one in the prefix", query("SELECT 1"), failed("57014"), 1),
        ("a long one", query("BEGIN"), long, 1),
        ("a Parse's", pipeline("SELECT nope"), failed("42703"), 1),
        ("one with a name", [named("s", "SELECT 1"), describe, sync()].concat(), [parsed, failed("26000")].concat(), 1),
    ] {
        let mut played = Played::new();
        played.says(&said);
        played.server_says(&[answer, ready(TransactionStatus::Idle)].concat());
        assert!(!played.is_closed && !played.session.owes_replies(), "{what}");
        assert_eq!(played.session.tally_mut().read(Count::Statements), count, "{what}");
    }
}

#[test]
fn a_refusal_and_what_ends_a_session_are_no_statements() {
    let mut played = in_a_block();
    let before = played.session.tally_mut().read(Count::Statements);
    played.says(&query("SET app.tenant_id = 'x'"));
    played.server_says(&[error("42601"), ready(TransactionStatus::Failed)].concat());
    assert!(holds(&played.told(), "TG011"));
    assert_eq!(played.session.tally_mut().read(Count::Statements), before);
    let fatal = reply(b'E', b"SFATAL\0VFATAL\0C57P01\0Mno\0\0");
    let mut played = in_a_block();
    let before = played.session.tally_mut().read(Count::Statements);
    played.server_says(&fatal);
    played.give(Input::ServerGone);
    assert!(played.is_closed && holds(&played.told(), "57P01"));
    assert_eq!(played.session.tally_mut().read(Count::Statements), before);
}

/// An older server does not know all the syntax that the proxy's parser knows, and reads a text before it runs any of it.
#[test]
fn a_syntax_error_in_the_clients_text_is_no_failure_of_the_injection() {
    let refused = |position: &str| reply(b'E', format!("SERROR\0VERROR\0C42601\0Mno\0P{position}\0\0").as_bytes());
    let prefix = "SET LOCAL app.tenant_id='acme';".len();
    // Each transaction in a text has the prefix in front.
    for (sql, at, prefixes) in
        [("SELECT 1", 3, 1), ("SELECT 1; COMMIT; SELECT 2", 3, 1), ("SELECT 1; COMMIT; SELECT 2", 22, 2)]
    {
        let mut played = Played::new();
        played.says(&query(sql));
        assert!(holds(&played.sent(), "SET LOCAL"));
        played.server_says(&[refused(&(prefix * prefixes + at).to_string()), ready(TransactionStatus::Idle)].concat());
        assert!(holds(&played.told(), &format!("P{at}\0")) && played.is_given_back && !played.is_closed, "{sql}");
        // One about the proxy's own words is.
        for own in ["1", "7", "31"] {
            let mut played = Played::new();
            played.says(&query(sql));
            played.server_says(&[refused(own), ready(TransactionStatus::Idle)].concat());
            assert!(holds(&played.told(), "TG055") && played.is_closed && !played.is_given_back, "{sql} {own}");
        }
    }
}

/// A notice of the server's own has come in part when the client leaves: its rest must not be the next client's.
#[test]
fn a_server_is_not_given_back_in_the_middle_of_its_message() {
    let mut played = in_a_block();
    played.says(&query("COMMIT"));
    let notice = reply(b'N', b"SNOTICE\0VNOTICE\0C00000\0Mby the way\0\0");
    let (front, rest) = notice.split_at(7);
    played.server_says(&[complete("COMMIT"), ready(TransactionStatus::Idle), front.to_vec()].concat());
    played.says(&written(frontend::put_terminate));
    assert!(!played.is_given_back && !played.is_closed);
    played.server_says(rest);
    assert!(played.is_given_back && played.is_closed);
}

/// A statement is prepared again in front of a Bind; an error in that segment would skip it.
#[test]
fn a_later_segment_does_not_rely_on_a_statement_that_may_be_skipped() {
    let named = |name: &[u8]| written(|out| frontend::put_bind_text(out, b"", name, &[]));
    let mut played = Played::new();
    played.says(&[written(|out| frontend::put_parse(out, b"s", b"SELECT 1", &[])), sync()].concat());
    played.server_says(&[reply(b'1', b""), ready(TransactionStatus::Idle)].concat());
    assert!(played.is_given_back);
    // Another server, and a mistake in front of the first use.
    played.says(&[parse("SELECT nope"), named(b"s"), execute(""), sync()].concat());
    played.says(&[named(b"s"), execute(""), sync()].concat());
    let sent = played.sent();
    assert_eq!(sent.windows(8).filter(|part| part == b"SELECT 1").count(), 1);
    assert!(
        sent.ends_with(&sync()) && sent.windows(5).filter(|part| **part == sync()).count() == 1,
        "the second waits"
    );
    played.server_says(&[error("42703"), ready(TransactionStatus::Idle)].concat());
    assert!(holds(&played.sent(), "SELECT 1"), "it is prepared again");
}
