//! A crash of PostgreSQL gives the ids of transactions that it lost to others, which commit: what is found out by such an
//! id is never that the lost one did. And in front of a recorded transaction's COMMIT there is nothing left to lose.

use super::bypass_durable::{Disk, Held};
use super::support::cluster::{self, Cluster, eighteen};
use super::support::inside::Inside;
use super::support::message::Message;
use super::support::proxy::{self, Proxy, Wish, configuration, ledger, login_of_its_own};
use super::support::raw::{Client, Silence, Target};
use super::support::relay::Relay;
use super::support::{alone, eventually};
use serde_json::{Value, json};
use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tenantgate::driver::Hooks;

const DATABASE: &str = "reused";
const LOST: &str = "019ab000-0000-7000-8000-000000000001";

/// A server that flushes nothing that nobody waits for.
fn forgetful(version: u32, name: &str) -> Cluster {
    let cluster = Cluster::own(version, name);
    let mut admin = cluster.admin("postgres");
    admin.run("ALTER SYSTEM SET wal_writer_delay = '10s'");
    admin.run("SELECT pg_reload_conf()");
    admin.run("CREATE ROLE app_reused LOGIN");
    cluster.create_database(DATABASE);
    let work = "CREATE UNLOGGED TABLE work (token text); GRANT ALL ON work TO app_reused; CHECKPOINT";
    cluster.admin(DATABASE).run(work);
    cluster
}

/// Ends a server's process with all that is not on the disk, and waits until it is back.
fn crash(cluster: &Cluster) {
    let (mut admin, mut victim) = (cluster.admin(DATABASE), cluster.admin(DATABASE));
    let pid = victim.process_id().to_string();
    assert!(Command::new("kill").args(["-9", &pid]).status().is_ok_and(|status| status.success()));
    assert!(matches!(victim.replies_to(0).1, Some(Silence::Closed)));
    assert!(matches!(admin.replies_to(0).1, Some(Silence::Closed)));
    let deadline = Instant::now() + Duration::from_secs(120);
    let target = Target::new(cluster.address, "postgres", DATABASE);
    while !Client::try_connect(&target).is_ok_and(|client| client.startup.iter().all(|reply| reply.tag != b'E')) {
        assert!(Instant::now() < deadline, "the server does not come back:\n{}", cluster.log());
        std::thread::yield_now();
    }
}

fn next_xid(client: &mut Client) -> u64 {
    client.value("SELECT pg_current_xact_id()").parse().unwrap()
}

/// What a transaction says of itself in front of its COMMIT; what it has written is on no disk.
fn standing(client: &mut Client) -> Value {
    let sql = "SELECT pg_current_xact_id(), pg_current_wal_insert_lsn(), \
               (date_part('epoch', pg_stat_get_bgwriter_stat_reset_time()) * 1000000)::int8, system_identifier, \
               pg_current_wal_flush_lsn() < pg_current_wal_insert_lsn() FROM pg_control_system()";
    let row = client.rows(sql).remove(0);
    let text = |column: usize| row[column].clone().unwrap();
    assert_eq!(text(4), "t", "nothing flushes it");
    let era: u64 = text(2).parse().unwrap();
    json!({"xid": text(0), "wal": text(1), "era": era, "timeline": 1, "system": text(3), "flushed": false})
}

/// A ledger with one transaction whose outcome was never written.
fn write_ledger(path: &Path, standing: &Value) {
    let line = |kind: &str| json!({"v": 3, "kind": kind, "id": LOST, "database": DATABASE, "role": "app_reused"});
    let mut precommit = line("precommit");
    precommit.as_object_mut().unwrap().extend(standing.as_object().unwrap().clone());
    std::fs::write(path, format!("{}\n{precommit}\n", line("intent"))).unwrap();
}

/// What `tenantgate ledger reconcile` finds out of it.
fn found_out(cluster: &Cluster, standing: &Value) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.jsonl");
    write_ledger(&path, standing);
    let more = login_of_its_own("careful", "bypass", "app_reused") + &ledger(&path);
    let wish = Wish { cluster, database: DATABASE, pool_size: 2, mutant: None, more: &more };
    let file = folder.path().join("tenantgate.toml");
    std::fs::write(&file, configuration(&wish, ([127, 0, 0, 1], 1).into())).unwrap();
    let mut command = Command::new(proxy::binary());
    let output = command.args(["ledger", "reconcile", "--config"]).arg(&file).output().unwrap();
    let found = records(&path, "reconciled").pop();
    let found = found.unwrap_or_else(|| panic!("nothing was found out: {}", String::from_utf8_lossy(&output.stderr)));
    let word = |name: &str| found[name].as_str().unwrap().to_owned();
    (word("result"), word("evidence"))
}

fn lost_and_given_anew(version: u32) {
    let cluster = forgetful(version, &format!("reused-pg{version}"));
    let mut client = Client::connect(&Target::new(cluster.address, "app_reused", DATABASE));
    client.run("BEGIN");
    client.run("INSERT INTO work VALUES ('lost')");
    let lost = standing(&mut client);
    let xid: u64 = lost["xid"].as_str().unwrap().parse().unwrap();
    crash(&cluster);
    let known = |result: &str, evidence: &str| (result.to_owned(), evidence.to_owned());
    // Its id is given to another, who commits.
    let mut other = cluster.admin(DATABASE);
    let is_given = (0..1_000).map(|_| next_xid(&mut other)).take_while(|given| *given <= xid).any(|given| given == xid);
    assert!(is_given, "{version} did not lose {xid}: the proof proves nothing");
    assert_eq!(other.value(&format!("SELECT pg_xact_status('{xid}')")), "committed");
    // As long as the last checkpoint is where recovery ended, that is in front of what the transaction had written.
    assert_eq!(found_out(&cluster, &lost), known("rolled_back", "xact_status"), "on {version}");
    // Later that cannot be seen any more; but nothing is invented.
    while other.value(&format!("SELECT pg_current_wal_insert_lsn() <= '{}'", lost["wal"].as_str().unwrap())) == "t" {
        other.run("SELECT pg_logical_emit_message(true, 'others', repeat('x', 1000))");
    }
    other.run("CHECKPOINT");
    assert_eq!(found_out(&cluster, &lost), known("unknown", "nothing"), "on {version}");
    // The same testimony of one whose trace had been flushed would be the truth.
    let mut flushed = lost.clone();
    flushed["flushed"] = true.into();
    assert_eq!(found_out(&cluster, &flushed), known("committed", "xact_status"), "on {version}");
    // A standby that has taken over may not have had it.
    flushed["timeline"] = 7.into();
    assert_eq!(found_out(&cluster, &flushed), known("unknown", "nothing"), "on {version}");
}

#[test]
fn an_id_that_was_given_to_another_tells_nothing() {
    let _turn = alone();
    lost_and_given_anew(15);
    if eighteen().is_some() {
        lost_and_given_anew(18);
    }
}

fn records(path: &Path, kind: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let records = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    records.filter(|record| record["kind"] == kind).collect()
}

/// The server is ended while a transaction waits for its pre-commit record: from here on its COMMIT could be sent.
fn nothing_to_lose(version: u32) {
    let cluster = forgetful(version, &format!("kept-pg{version}"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.jsonl");
    let more = login_of_its_own("careful", "bypass", "app_reused") + &ledger(&path);
    let disk = Arc::new(Disk::default());
    let slow = Arc::clone(&disk);
    let hooks = Hooks { sync: Some(Arc::new(move |file: &File| slow.sync(file))), ..Hooks::default() };
    let wish = Wish { cluster: &cluster, database: DATABASE, pool_size: 2, mutant: None, more: &more };
    let proxy = Inside::start_hooked(&wish, hooks);
    let mut client = Client::connect(&proxy.login("careful", "demo").with("tenantgate.reason", "a test"));
    client.run("BEGIN");
    client.run("INSERT INTO work VALUES ('kept')");
    let held = Held(Arc::clone(&disk));
    disk.hold(true);
    client.send(&Message::Query("COMMIT".to_owned())).flush().unwrap();
    eventually("the pre-commit record is on its way", || !records(&path, "precommit").is_empty());
    let precommit = records(&path, "precommit").remove(0);
    let xid: u64 = precommit["xid"].as_str().unwrap().parse().unwrap();
    assert_eq!(precommit["flushed"], true, "{precommit}");
    crash(&cluster);
    assert!(next_xid(&mut cluster.admin(DATABASE)) > xid, "{version} has lost {xid} and gives it anew");
    drop(held);
    client.replies_to(b'Z');
    eventually("it is found out", || !records(&path, "reconciled").is_empty() || !records(&path, "outcome").is_empty());
    assert_eq!(cluster.admin(DATABASE).value("SELECT count(*) FROM work"), "0");
    let results: Vec<Value> = ["outcome", "reconciled"].iter().flat_map(|kind| records(&path, kind)).collect();
    assert!(results.iter().all(|record| record["result"] != "committed"), "{results:?}");
}

#[test]
fn what_a_commit_stands_for_is_on_the_server_s_disk_before_it_is_sent() {
    let _turn = alone();
    nothing_to_lose(15);
    if eighteen().is_some() {
        nothing_to_lose(18);
    }
}

/// How a server refuses connections.
fn refusal(state: &str) -> Vec<u8> {
    let body = format!("SFATAL\0VFATAL\0C{state}\0Mnot now\0\0");
    let length = u32::try_from(body.len() + 4).unwrap();
    [b"E", &length.to_be_bytes()[..], body.as_bytes()].concat()
}

/// Up to 16 it takes one more connection. A server that has none to give is alive, and its COMMIT is sent; one that does not
/// answer, or not now, may be losing the transaction: its COMMIT is not.
#[test]
fn a_commit_is_not_sent_to_a_server_that_may_be_dying() {
    let cluster = cluster::fifteen();
    cluster.create_database("unflushed");
    drop(cluster.admin("unflushed").query("CREATE ROLE app_unflushed LOGIN"));
    cluster.admin("unflushed").run("CREATE TABLE work (token text); GRANT ALL ON work TO app_unflushed");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.jsonl");
    let relay = Relay::start(cluster.address);
    let proxy = Proxy::start_with("unflushed", None, |address, _| {
        let more = login_of_its_own("careful", "bypass", "app_unflushed") + &ledger(&path);
        let wish = Wish { cluster, database: "unflushed", pool_size: 1, mutant: None, more: &more };
        let port = |address: SocketAddr| format!("port = {}\n", address.port());
        configuration(&wish, address).replace(&port(cluster.address), &port(relay.address))
    });
    let target = Target::new(proxy.address, "careful", "unflushed").password("demo");
    let mut client = Client::connect(&target.with("tenantgate.reason", "a test"));
    for (with, is_committed, is_flushed) in [
        (Some(refusal("53300")), true, Some(false)),
        (Some(refusal("57P03")), false, None),
        (Some(Vec::new()), false, None),
        (None, true, Some(true)),
    ] {
        let before = records(&path, "precommit").len();
        client.run("BEGIN");
        client.run("INSERT INTO work VALUES ('one')");
        relay.refuse(with.clone());
        let replies = client.query("COMMIT");
        relay.refuse(None);
        let fault = replies.iter().find(|reply| reply.tag == b'E').map(|error| error.fields()[&'M'].clone());
        assert_eq!(fault.is_none(), is_committed, "{with:?}: {replies:?}");
        assert!(fault.as_ref().is_none_or(|words| words.contains("the ledger cannot be written")), "{replies:?}");
        if !is_committed {
            client.run("ROLLBACK");
        }
        let announced = records(&path, "precommit").split_off(before);
        let flushed: Vec<_> = announced.iter().map(|record| record["flushed"].as_bool().unwrap()).collect();
        assert_eq!(flushed, Vec::from_iter(is_flushed), "{with:?}");
    }
    assert_eq!(cluster.admin("unflushed").value("SELECT count(*) FROM work"), "2");
}
