//! Clients and servers that vanish, that are slow, or too many; large results; an orderly end.

use crate::support::cluster::{self, Cluster};
use crate::support::inside::Inside;
use crate::support::message::Message;
use crate::support::proxy::{Proxy, Wish};
use crate::support::raw::{Client, Silence};
use crate::support::{alone, eventually};
use std::time::{Duration, Instant};
use tenantgate::admin::Operations as _;

const DATABASE: &str = "lifecycle";
const ACME: &str = "00000000-0000-0000-0000-00000000000a";
const GLOBEX: &str = "00000000-0000-0000-0000-00000000000b";

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

/// Ends every server of the proxy; they have gone when this returns, and closed their connections.
fn terminate_servers(cluster: &Cluster) {
    let end = "SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity WHERE usename = 'app_user' AND datname = current_database()";
    let ended = cluster.admin(DATABASE).rows(end);
    assert!(!ended.is_empty() && ended.iter().flatten().all(|is_gone| is_gone.as_deref() == Some("t")), "{ended:?}");
}

#[test]
fn a_large_row_is_streamed_not_buffered() {
    with_proxy(2, "", |_, proxy| {
        let mut client = Client::connect(&proxy.target(ACME));
        client.patience(Duration::from_secs(60));
        client.run("SELECT 1");
        let before = proxy.memory_kib_max();
        let replies = client.run("SELECT repeat('x', 200000000)");
        let row = replies.iter().find(|reply| reply.tag == b'D').expect("a row");
        assert!(row.body.len() > 200_000_000);
        let grown = proxy.memory_kib_max() - before;
        assert!(grown < 32 * 1024, "the proxy grew by {grown} KiB for one row");
    });
}

#[test]
fn a_large_parameter_is_streamed_not_buffered() {
    with_proxy(2, "", |_, proxy| {
        let mut client = Client::connect(&proxy.target(ACME));
        client.patience(Duration::from_secs(60));
        client.run("SELECT 1");
        let before = proxy.memory_kib_max();
        let large = "x".repeat(100_000_000);
        client.send(&Message::parse("", "SELECT length($1)")).send(&Message::bind("", &[&large]));
        client.send(&Message::execute()).send(&Message::Sync).flush().unwrap();
        let (replies, silence) = client.replies_to(b'Z');
        assert_eq!(silence, None);
        let row = replies.iter().find(|reply| reply.tag == b'D').expect("a row").row();
        assert_eq!(row, [Some("100000000".to_owned())]);
        let grown = proxy.memory_kib_max() - before;
        assert!(grown < 32 * 1024, "the proxy grew by {grown} KiB for one parameter");
    });
}

#[test]
fn a_client_that_does_not_read_costs_no_memory_and_stops_nobody() {
    with_proxy(2, "", |cluster, proxy| {
        let mut admin = cluster.admin(DATABASE);
        admin.run("CREATE SEQUENCE progress; GRANT ALL ON progress TO app_user");
        let mut slow = Client::connect(&proxy.target(ACME));
        slow.patience(Duration::from_secs(60));
        slow.run("SELECT 1");
        let before = proxy.memory_kib_max();
        slow.send(&query("SELECT nextval('progress'), repeat('x', 1000) FROM generate_series(1, 100000)"));
        slow.flush().unwrap();
        let mut other = Client::connect(&proxy.target(GLOBEX));
        let serve_another = || assert_eq!(other.value("SELECT count(*) FROM items"), "2");
        let rows = rows_until_it_stands_still(&mut admin, serve_another);
        assert!(rows < 100_000, "the proxy has taken all rows from the server");
        let grown = proxy.memory_kib_max() - before;
        assert!(grown < 32 * 1024, "the proxy grew by {grown} KiB for a client that does not read");
        let (replies, silence) = slow.replies_to(b'Z');
        assert_eq!((silence, replies.len()), (None, 100_003));
    });
}

/// How many rows a server has made when it makes no more, which is when it is done or nobody takes them: nothing
/// changes while somebody else is served a hundred times.
fn rows_until_it_stands_still(admin: &mut Client, mut meanwhile: impl FnMut()) -> u64 {
    let look = "SELECT last_value, (SELECT wait_event IS NOT DISTINCT FROM 'ClientWrite' FROM pg_stat_activity \
                WHERE state = 'active' AND query LIKE '%progress%' AND pid <> pg_backend_pid() AND datname = current_database()) \
                FROM progress WHERE is_called";
    let (mut seen, mut times) = (vec![], 0);
    let deadline = Instant::now() + Duration::from_secs(60);
    while times < 100 {
        assert!(Instant::now() < deadline, "it never stands still: {seen:?}");
        meanwhile();
        // No row: it has not begun. No second value: it is done.
        let now = admin.rows(look);
        let stands = now.first().is_some_and(|row| row[1].as_deref() != Some("f"));
        times = if stands && now == seen { times + 1 } else { 0 };
        seen = now;
    }
    seen[0][0].as_deref().and_then(|rows| rows.parse().ok()).expect("a number of rows")
}

#[test]
fn an_idle_server_that_vanishes_is_replaced() {
    with_proxy(2, "", |cluster, proxy| {
        let mut client = Client::connect(&proxy.target(ACME));
        client.run("SELECT 1");
        terminate_servers(cluster);
        assert_eq!(client.value("SELECT count(*) FROM items"), "3");
    });
}

#[test]
fn a_server_that_vanishes_in_a_block_ends_that_client_only() {
    with_proxy(3, "", |cluster, proxy| {
        let mut idle = Client::connect(&proxy.target(GLOBEX));
        idle.run("SELECT 1");
        let mut client = Client::connect(&proxy.target(ACME));
        client.run("BEGIN; INSERT INTO plain (id) VALUES (1)");
        terminate_servers(cluster);
        client.send(&query("SELECT 1")).flush().ok();
        let (replies, silence) = client.replies_to(0);
        assert_eq!(silence, Some(Silence::Closed));
        let error = replies.iter().find(|reply| reply.tag == b'E').expect("an error before the end");
        assert_eq!(error.fields()[&'S'], "FATAL");
        assert_eq!(idle.value("SELECT count(*) FROM plain"), "0");
    });
}

/// PostgreSQL ends such a connection too, in other words.
#[test]
fn a_query_inside_copy_in_ends_the_connection_and_leaves_nothing() {
    with_proxy(1, "", |_, proxy| {
        let mut client = Client::connect(&proxy.target(ACME));
        client.send(&query("COPY plain (id) FROM STDIN")).send(&Message::CopyData(b"1\n".to_vec()));
        client.send(&query("SELECT 1")).flush().unwrap();
        let (replies, silence) = client.replies_to(0);
        assert_eq!(silence, Some(Silence::Closed));
        let fatal = replies.iter().any(|reply| reply.tag == b'E' && reply.fields()[&'S'] == "FATAL");
        assert!(fatal && replies.iter().all(|reply| reply.tag != b'Z'), "{replies:?}");
        assert_eq!(Client::connect(&proxy.target(GLOBEX)).value("SELECT count(*) FROM plain"), "0");
    });
}

#[test]
fn a_client_waits_for_a_server_only_so_long() {
    with_proxy(1, "[databases.lifecycle.pool]\nwait_timeout = \"1s\"\n", |_, proxy| {
        let mut holder = Client::connect(&proxy.target(ACME));
        holder.run("BEGIN; SELECT 1");
        let mut waiting = Client::connect(&proxy.target(GLOBEX));
        // That it is told so not a moment too early is shown where the clock is an argument: in the pool's own tests.
        let replies = waiting.query("SELECT count(*) FROM items");
        let error = replies.iter().find(|reply| reply.tag == b'E').expect("no server").fields();
        assert!(error[&'M'].starts_with("TG050: "), "{error:?}");
        assert_eq!(error[&'D'], "Waited 1000 ms; 1 of 1 servers are in use.");
        holder.run("COMMIT");
        let mut next = Client::connect(&proxy.target(GLOBEX));
        assert_eq!(next.value("SELECT count(*) FROM items"), "2");
    });
}

#[test]
fn those_who_wait_get_a_server_in_turn() {
    let _turn = alone();
    let cluster = cluster::fifteen();
    cluster.create_filled_database(DATABASE);
    let proxy = Inside::start(&Wish { cluster, database: DATABASE, pool_size: 1, mutant: None, more: "" });
    let waiting = || proxy.operations().pools().iter().map(|row| row.servers.waiting).max();
    let mut clients: Vec<Client> = (0..11).map(|_| Client::connect(&proxy.target(GLOBEX))).collect();
    // Who came first is not who connected first.
    clients.reverse();
    let mut holder = clients.remove(4);
    holder.run("BEGIN; SELECT 1");
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(&query(&format!("INSERT INTO plain (id) VALUES ({number})"))).flush().unwrap();
        eventually("one more client waits", || waiting() == Some(number + 1));
    }
    holder.run("COMMIT");
    for client in &mut clients {
        let (replies, silence) = client.replies_to(b'Z');
        assert!(silence.is_none() && replies.iter().all(|reply| reply.tag != b'E'), "{replies:?}");
    }
    // They had one server one after the other: the rows stand as they came.
    let rows = cluster.admin(DATABASE).rows("SELECT id FROM plain ORDER BY ctid");
    let order: Vec<usize> = rows.iter().map(|row| row[0].as_deref().unwrap().parse().unwrap()).collect();
    assert_eq!(order, (0..10).collect::<Vec<_>>());
}

/// A bare name of a list may hold anything but commas and blanks: it must never become SQL.
#[test]
fn a_hostile_search_path_of_the_startup_stays_a_list_of_names() {
    with_proxy(1, "", |_, proxy| {
        let hostile = format!("public;set/**/app.tenant_id='{GLOBEX}';select/**/1;--");
        let mut client = Client::connect(&proxy.target(ACME).with("search_path", &hostile));
        for reset in ["RESET search_path", "SET search_path TO DEFAULT", "RESET ALL"] {
            client.run("SET search_path = pg_catalog");
            let rows = client.rows(&format!("{reset}; SELECT current_setting('app.tenant_id', true)"));
            assert_eq!(rows, [[Some(ACME.to_owned())]], "{reset}");
        }
    });
}

/// The check-in, the next lease and the end of the session may come at the same moment.
#[test]
fn clients_that_pipeline_and_leave_lose_no_server() {
    // Every server that was idle is checked before use, so that clients leave during the check, too.
    with_proxy(1, "[databases.lifecycle.pool]\nserver_check_delay = \"1ms\"\n", |_, proxy| {
        for round in 0..200 {
            let mut client = Client::connect(&proxy.target(ACME));
            if round % 2 == 0 {
                client.send(&query("BEGIN; COMMIT"));
            }
            client.send(&query("SELECT 1")).flush().unwrap();
            drop(client);
        }
        let mut last = Client::connect(&proxy.target(GLOBEX));
        assert_eq!(last.value("SELECT 1"), "1");
    });
}

#[test]
fn a_cancel_never_meets_the_next_client_of_the_server() {
    with_proxy(1, "", |_, proxy| {
        let mut first = Client::connect(&proxy.target(ACME));
        let mut second = Client::connect(&proxy.target(GLOBEX));
        for _ in 0..200 {
            first.run("SELECT 1");
            let canceller = first.canceller();
            let late = std::thread::spawn(move || canceller.cancel());
            second.run("SELECT count(*) FROM generate_series(1, 20000)");
            late.join().unwrap();
        }
    });
}

#[test]
fn a_forged_cancel_key_cancels_nothing() {
    with_proxy(1, "", |_, proxy| {
        let mut client = Client::connect(&proxy.target(ACME));
        client.canceller().forged().cancel();
        client
            .send(&query("SELECT count(*) FROM generate_series(1, 1500) a, generate_series(1, 1000) b"))
            .flush()
            .unwrap();
        client.canceller().forged().cancel();
        let (replies, _) = client.replies_to(b'Z');
        assert!(replies.iter().all(|reply| reply.tag != b'E'), "{replies:?}");
    });
}

#[test]
fn sigterm_lets_a_transaction_end_and_then_the_process() {
    with_proxy(2, "", |_, proxy| {
        let mut idle = Client::connect(&proxy.target(GLOBEX));
        idle.run("SELECT 1");
        let mut busy = Client::connect(&proxy.target(ACME));
        busy.run("BEGIN; INSERT INTO plain (id) VALUES (1)");
        proxy.signal("TERM");
        // It has begun to end when it ends the sessions that have no transaction.
        assert!(idle.last_words().starts_with("TG054"), "{}", proxy.log_tail());
        assert!(proxy.is_alive(), "it ended although a transaction was open:\n{}", proxy.log_tail());
        assert!(has_been_refused(Client::try_connect(&proxy.target(ACME))), "a new client was let in");
        busy.run("INSERT INTO plain (id) VALUES (2)");
        busy.run("COMMIT");
        let status = proxy.wait_until_it_ends(Duration::from_secs(10));
        assert!(status.is_some_and(|status| status.success()), "{status:?}\n{}", proxy.log_tail());
        assert_eq!(cluster::fifteen().admin(DATABASE).value("SELECT count(*) FROM plain"), "2");
    });
}

/// Refused at the door or after it.
fn has_been_refused(attempt: std::io::Result<Client>) -> bool {
    attempt.map_or(true, |client| client.startup.iter().any(|reply| reply.tag == b'E'))
}
