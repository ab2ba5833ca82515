//! Limits of tenants and logins: each with its SQLSTATE, and none that touches another tenant.

use crate::support::alone;
use crate::support::cluster::{self, Cluster};
use crate::support::message::Message;
use crate::support::proxy::{Proxy, Wish};
use crate::support::raw::{Client, Silence, Target};
use crate::support::reply::Reply;
use std::time::{Duration, Instant};

const DATABASE: &str = "limits";
const ACME: &str = "00000000-0000-0000-0000-00000000000a";
const GLOBEX: &str = "00000000-0000-0000-0000-00000000000b";

/// Runs for minutes unless it is cancelled.
const LONG: &str = "SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100151) b";

fn with_proxy(pool_size: u32, more: &str, proof: impl FnOnce(&Cluster, &mut Proxy)) {
    let _turn = alone();
    let cluster = cluster::fifteen();
    cluster.create_filled_database(DATABASE);
    let mut proxy = Proxy::start(&Wish { cluster, database: DATABASE, pool_size, mutant: None, more });
    proof(cluster, &mut proxy);
}

fn query(sql: &str) -> Message {
    Message::Query(sql.to_owned())
}

fn send(client: &mut Client, sql: &str) {
    client.send(&query(sql)).flush().unwrap();
}

/// Severity, SQLSTATE and code of the error among these replies, which must have a hint.
fn refusal(replies: &[Reply]) -> (String, String, String) {
    let error = replies.iter().find(|reply| reply.tag == b'E').unwrap_or_else(|| panic!("no error in {replies:?}"));
    let fields = error.fields();
    assert!(fields.contains_key(&'H') && fields.contains_key(&'D'), "{fields:?}");
    (fields[&'S'].clone(), fields[&'C'].clone(), fields[&'M'][..5].to_owned())
}

fn is(found: (String, String, String), severity: &str, sqlstate: &str, code: &str) {
    assert_eq!((&*found.0, &*found.1, &*found.2), (severity, sqlstate, code));
}

/// What comes until the other side closes.
fn last_words(client: &mut Client) -> Vec<Reply> {
    let (replies, silence) = client.replies_to(0);
    assert_eq!(silence, Some(Silence::Closed), "{replies:?}");
    replies
}

fn try_login(target: &Target) -> Vec<Reply> {
    Client::try_connect(target).expect("an answer").startup
}

fn is_refused(replies: &[Reply]) -> bool {
    replies.iter().any(|reply| reply.tag == b'E')
}

/// Logs in once somebody's leaving has been noticed.
fn connect_in_the_end(target: &Target) -> Client {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let client = Client::try_connect(target).expect("an answer");
        if !is_refused(&client.startup) {
            return client;
        }
        assert!(Instant::now() < deadline, "nobody is let in any more");
    }
}

#[test]
fn a_tenant_has_so_many_connections_and_others_have_theirs() {
    with_proxy(2, "[limits.tenant]\nconnections_max = 2\n[limits.login]\nconnections_max = 3\n", |_, proxy| {
        let first = Client::connect(&proxy.target(ACME));
        let mut second = Client::connect(&proxy.target(ACME));
        is(refusal(&try_login(&proxy.target(ACME))), "FATAL", "53300", "TG080");
        let mut other = Client::connect(&proxy.target(GLOBEX));
        is(refusal(&try_login(&proxy.target(GLOBEX))), "FATAL", "53300", "TG081");
        assert_eq!((second.value("SELECT 1"), other.value("SELECT 1")), ("1".to_owned(), "1".to_owned()));
        first.bye();
        connect_in_the_end(&proxy.target(ACME)).run("SELECT 1");
    });
}

#[test]
fn a_tenant_has_so_many_servers_and_so_many_waiting_and_blocks_nobody() {
    let more = "[limits.tenant]\nleases_max = 1\nwaiting_max = 1\n[databases.limits.pool]\nwait_timeout = \"2s\"\n";
    with_proxy(2, more, |_, proxy| {
        let mut holder = Client::connect(&proxy.target(ACME));
        let mut rivals: Vec<Client> = (0..2).map(|_| Client::connect(&proxy.target(ACME))).collect();
        let mut other = Client::connect(&proxy.target(GLOBEX));
        holder.run("BEGIN; SELECT 1");
        rivals.iter_mut().for_each(|rival| send(rival, "SELECT count(*) FROM items"));
        // One of them waits, so the other may not; a server is free, and another tenant has it.
        let refused = await_refusal(&mut rivals);
        assert_eq!(refused.1, ("ERROR".to_owned(), "53300".to_owned(), "TG082".to_owned()));
        other.run("BEGIN; SELECT 1");
        other.run("COMMIT");
        holder.run("COMMIT");
        let waited = &mut rivals[1 - refused.0];
        let (replies, silence) = waited.replies_to(b'Z');
        assert!(silence.is_none() && !is_refused(&replies), "{replies:?}");
        // In vain: its tenant keeps its only server.
        holder.run("BEGIN; SELECT 1");
        is(refusal(&waited.query("SELECT 1")), "ERROR", "53400", "TG084");
        holder.run("COMMIT");
        assert_eq!(waited.value("SELECT count(*) FROM items"), "3");
    });
}

/// Which of these clients gets an error, and which error: the first that does.
fn await_refusal(clients: &mut [Client]) -> (usize, (String, String, String)) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        for (at, client) in clients.iter_mut().enumerate() {
            client.patience(Duration::from_millis(20));
            let reply = client.reply();
            client.patience(Duration::from_secs(20));
            if let Ok(reply) = reply {
                let refused = refusal(&[reply]);
                let (_, silence) = client.replies_to(b'Z');
                assert_eq!(silence, None);
                return (at, refused);
            }
        }
        assert!(Instant::now() < deadline, "nobody is refused");
    }
}

/// Who is served in which order when twenty clients of one tenant wait and then one of another comes.
fn order_of_service(proxy: &Proxy, cluster: &Cluster) -> Vec<String> {
    let mut holders: Vec<Client> = (0..2).map(|_| Client::connect(&proxy.target(ACME))).collect();
    holders.iter_mut().for_each(|holder| drop(holder.run("BEGIN; SELECT 1")));
    // One more than may wait: as soon as it is refused the others do wait.
    let mut flood: Vec<Client> = (0..21).map(|_| Client::connect(&proxy.target(ACME))).collect();
    flood.iter_mut().for_each(|client| send(client, "INSERT INTO plain (id) VALUES (1)"));
    let refused = await_refusal(&mut flood).0;
    flood.swap_remove(refused);
    let mut quiet: Vec<Client> = (0..2).map(|_| Client::connect(&proxy.target(GLOBEX))).collect();
    quiet.iter_mut().for_each(|client| send(client, "INSERT INTO plain (id) VALUES (2)"));
    let refused = await_refusal(&mut quiet).0;
    quiet.swap_remove(refused);
    // One server goes round, so that each is served after the other.
    holders[0].run("COMMIT");
    for client in flood.iter_mut().chain(&mut quiet) {
        let (replies, silence) = client.replies_to(b'Z');
        assert!(silence.is_none() && !is_refused(&replies), "{replies:?}");
    }
    let rows = cluster.admin(DATABASE).rows("SELECT writer FROM plain ORDER BY ctid");
    rows.into_iter().map(|row| row[0].clone().unwrap()).collect()
}

const WAITING: &str = "[limits.tenant]\nwaiting_max = 20\n[[limits.tenants]]\ntenant = \"00000000-0000-0000-0000-00000000000b\"\nwaiting_max = 1\n";

#[test]
fn a_flood_of_one_tenant_does_not_delay_the_first_of_another() {
    // The greeting is asked before the servers are held: it needs one, too.
    with_proxy(2, WAITING, |cluster, proxy| {
        Client::connect(&proxy.target(GLOBEX)).bye();
        let order = order_of_service(proxy, cluster);
        assert_eq!((order.len(), &*order[0]), (21, GLOBEX), "{order:?}");
    });
}

#[test]
fn without_fairness_the_first_of_another_tenant_is_the_last() {
    with_proxy(2, &format!("{WAITING}[limits]\nfairness = \"off\"\n"), |cluster, proxy| {
        let order = order_of_service(proxy, cluster);
        assert_eq!((order.len(), &*order[20]), (21, GLOBEX), "{order:?}");
    });
}

#[test]
fn a_statement_is_cancelled_whatever_the_client_has_set_and_its_session_goes_on() {
    with_proxy(1, "[limits.tenant]\nstatement_timeout = \"300ms\"\n", |_, proxy| {
        let mut client = Client::connect(&proxy.target(ACME));
        client.query("SET statement_timeout = 0");
        is(refusal(&client.query(LONG)), "ERROR", "57014", "TG088");
        assert_eq!(client.value("SELECT count(*) FROM items"), "3");
        client.send(&Message::parse("", LONG)).send(&Message::bind("", &[]));
        client.send(&Message::execute()).send(&Message::Sync).flush().unwrap();
        is(refusal(&client.replies_to(b'Z').0), "ERROR", "57014", "TG088");
        client.run("BEGIN; INSERT INTO plain (id) VALUES (1)");
        let replies = client.query(LONG);
        assert_eq!(replies.last().and_then(Reply::status), Some('E'));
        is(refusal(&replies), "ERROR", "57014", "TG088");
        client.run("ROLLBACK");
        // Many short ones are not one long one. The server says how long they have lasted together; each lasts long
        // enough for a cancel to find it.
        client.run("BEGIN");
        let short =
            "SELECT clock_timestamp() - now() > '700 ms' FROM (SELECT count(*) FROM generate_series(1, 150000)) n";
        while client.value(short) == "f" {}
        client.run("COMMIT");
        assert_eq!(client.value("SELECT count(*) FROM plain"), "0");
    });
}

#[test]
fn a_copy_that_its_client_does_not_feed_is_given_up() {
    with_proxy(1, "[limits.login]\nstatement_timeout = \"200ms\"\n", |_, proxy| {
        let mut client = Client::connect(&proxy.target(ACME));
        send(&mut client, "COPY plain (id) FROM STDIN");
        is(refusal(&last_words(&mut client)), "FATAL", "57014", "TG088");
        let mut other = Client::connect(&proxy.target(GLOBEX));
        assert_eq!(other.value("SELECT count(*) FROM plain"), "0");
    });
}

#[test]
fn a_transaction_that_lasts_too_long_is_rolled_back_and_its_session_ends() {
    with_proxy(1, "[limits.tenant]\ntransaction_timeout = \"400ms\"\n", |cluster, proxy| {
        for statement in ["SELECT 1", LONG] {
            let mut client = Client::connect(&proxy.target(ACME));
            client.run("BEGIN; INSERT INTO plain (id) VALUES (1)");
            let mut replies = Vec::new();
            while !is_refused(&replies) {
                send(&mut client, statement);
                replies = client.replies_to(b'Z').0;
            }
            is(refusal(&replies), "FATAL", "53400", "TG086");
        }
        // Outside a block, too.
        let mut client = Client::connect(&proxy.target(ACME));
        send(&mut client, LONG);
        is(refusal(&last_words(&mut client)), "FATAL", "53400", "TG086");
        let mut other = Client::connect(&proxy.target(GLOBEX));
        assert_eq!(other.value("SELECT count(*) FROM plain"), "0");
        let busy = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app_user' AND state = 'active' AND \
                    datname = current_database()";
        assert_eq!(cluster.admin(DATABASE).value(busy), "0", "what was given up goes on");
    });
}

#[test]
fn a_client_that_forgets_its_transaction_loses_it() {
    with_proxy(1, "[limits.login]\nidle_in_transaction_timeout = \"400ms\"\n", |_, proxy| {
        let mut client = Client::connect(&proxy.target(ACME));
        client.run("BEGIN; INSERT INTO plain (id) VALUES (1)");
        is(refusal(&last_words(&mut client)), "FATAL", "25P03", "TG087");
        // Messages without a Sync keep a server as well.
        let mut open = Client::connect(&proxy.target(ACME));
        open.send(&Message::parse("", "SELECT 1")).send(&Message::bind("", &[])).send(&Message::execute());
        open.flush().unwrap();
        is(refusal(&last_words(&mut open)), "FATAL", "25P03", "TG087");
        let mut other = Client::connect(&proxy.target(GLOBEX));
        assert_eq!(other.value("SELECT count(*) FROM plain"), "0");
    });
}

#[test]
fn an_idle_client_without_a_transaction_may_stay() {
    with_proxy(
        1,
        "[limits.tenant]\nidle_in_transaction_timeout = \"50ms\"\ntransaction_timeout = \"100ms\"\n",
        |_, proxy| {
            let mut idle = Client::connect(&proxy.target(ACME));
            idle.run("SELECT 1");
            // Others who begin later reach both limits.
            let mut forgetful = Client::connect(&proxy.target(ACME));
            forgetful.run("BEGIN");
            is(refusal(&last_words(&mut forgetful)), "FATAL", "25P03", "TG087");
            let mut slow = Client::connect(&proxy.target(ACME));
            send(&mut slow, LONG);
            is(refusal(&last_words(&mut slow)), "FATAL", "53400", "TG086");
            idle.run("BEGIN; SELECT 1; COMMIT");
        },
    );
}

#[test]
fn a_reload_changes_limits_under_those_who_are_there() {
    with_proxy(2, "[limits.tenant]\nleases_max = 1\nwaiting_max = 1\nstatement_timeout = \"1h\"\n", |_, proxy| {
        let mut holder = Client::connect(&proxy.target(ACME));
        let mut rivals: Vec<Client> = (0..2).map(|_| Client::connect(&proxy.target(ACME))).collect();
        holder.run("BEGIN; SELECT 1");
        rivals.iter_mut().for_each(|rival| send(rival, "SELECT count(*) FROM items"));
        let refused = await_refusal(&mut rivals).0;
        proxy.edit("leases_max = 1", "leases_max = 2");
        proxy.edit("\"1h\"", "\"300ms\"");
        assert!(proxy.reload());
        // The one that waits is served although no server came back.
        let waited = &mut rivals[1 - refused];
        let (replies, silence) = waited.replies_to(b'Z');
        assert!(silence.is_none() && !is_refused(&replies), "{replies:?}");
        is(refusal(&waited.query(LONG)), "ERROR", "57014", "TG088");
        holder.run("COMMIT");
    });
}

/// Whoever leaves a transaction behind leaves none of its settings: the next client on that server has its own, though they
/// are the same by name and value and so look as if they were there already.
fn leaves_no_setting(more: &str, leave: impl Fn(Client)) {
    with_proxy(1, more, |_, proxy| {
        for (name, value) in [("search_path", "elsewhere"), ("timezone", "Asia/Tokyo")] {
            let set = format!("SET {name} = '{value}'");
            let mut next = Client::connect(&proxy.target(GLOBEX));
            next.run(&set);
            let mut leaver = Client::connect(&proxy.target(ACME));
            // The only server has the leaver's settings now, and then those of its transaction.
            assert_ne!(leaver.value(&format!("SHOW {name}")), value);
            leaver.run(&format!("BEGIN; {set}"));
            assert_eq!(leaver.value(&format!("SHOW {name}")), value);
            leave(leaver);
            assert_eq!(next.value(&format!("SHOW {name}")), value);
            assert_eq!(next.value(&format!("SELECT current_setting('{name}')")), value);
            // And who has none has none.
            let mut other = Client::connect(&proxy.target(ACME));
            assert_ne!(other.value(&format!("SHOW {name}")), value);
        }
    });
}

#[test]
fn a_client_that_leaves_its_transaction_leaves_no_setting() {
    leaves_no_setting("", drop);
    leaves_no_setting("", Client::bye);
}

#[test]
fn a_client_whose_transaction_is_ended_by_a_limit_leaves_no_setting() {
    let ended_by = |sqlstate: &'static str, code: &'static str| {
        move |mut client: Client| is(refusal(&last_words(&mut client)), "FATAL", sqlstate, code)
    };
    leaves_no_setting("[limits.tenant]\nidle_in_transaction_timeout = \"400ms\"\n", ended_by("25P03", "TG087"));
    leaves_no_setting("[limits.tenant]\ntransaction_timeout = \"400ms\"\n", ended_by("53400", "TG086"));
}
