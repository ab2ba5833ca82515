//! kill -9 of the proxy and of servers during bypass transactions: whatever was committed has its intent and its pre-commit
//! record in the
//! ledger, and behind the next start every record has its true outcome. `TENANTGATE_CRASHES` is the number of rounds.
//!
//! Each transaction writes a row with a token of its own and gives the same token as its reason, so that rows and
//! records can be compared without a literal in the ledger.

use super::support::cluster::{Cluster, eighteen};
use super::support::dice::Dice;
use super::support::message::Message;
use super::support::proxy::{self, Proxy, Wish, login_of_its_own};
use super::support::raw::{Client, Silence, Target};
use super::support::{alone, eventually, number};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const CLIENTS: u64 = 4;

/// The one of them that has a migration login.
const MIGRATION: u64 = 3;

/// A bypass and a migration login, whose reasons are recorded alike.
fn logins() -> String {
    let tenant = "[logins.deploy.tenant]\nfixed = \"00000000-0000-0000-0000-00000000000a\"\n";
    login_of_its_own("ops", "bypass", "app_bypass") + &login_of_its_own("deploy", "migration", "app_deploy") + tenant
}

/// One run of clients until proxy or server is gone.
struct Run<'r> {
    address: SocketAddr,
    round: u64,
    steps: &'r AtomicU64,
    is_over: &'r AtomicBool,
}

impl Run<'_> {
    /// Transactions in all forms until something ends them.
    fn client(&self, number: u64) {
        let login = if number == MIGRATION { "deploy" } else { "ops" };
        let target = Target::new(self.address, login, "crash").password("demo");
        let Ok(mut client) = Client::try_connect(&target) else { return };
        if client.startup.iter().any(|reply| reply.tag == b'E') {
            // The server was killed before it could be greeted.
            return;
        }
        client.patience(Duration::from_secs(30));
        for count in 0_u64.. {
            if self.is_over.load(Ordering::Acquire) {
                return client.bye();
            }
            let token = format!("{}-{number}-{count}", self.round);
            if self.transaction(&mut client, count % 5, &token).is_none() {
                return;
            }
        }
    }

    /// One transaction; `None` once the connection is gone.
    fn transaction(&self, client: &mut Client, form: u64, token: &str) -> Option<()> {
        let set = format!("SET tenantgate.reason = '{token}'");
        let insert = format!("INSERT INTO work VALUES ('{token}')");
        match form {
            0 => {
                self.query(client, &set)?;
                self.query(client, &insert)
            }
            1 => {
                self.query(client, "BEGIN")?;
                self.query(client, &set)?;
                self.query(client, &insert)?;
                self.query(client, "COMMIT")
            }
            2 => {
                self.query(client, &set)?;
                let insert = Message::parse("", "INSERT INTO work VALUES ($1)");
                client.send_all(&[insert, Message::bind("", &[token]), Message::execute(), Message::Sync]);
                self.answer(client)
            }
            3 => self.query(
                client,
                &format!("BEGIN; SET LOCAL tenantgate.reason = '{token}'; {insert}; COMMIT; SHOW timezone"),
            ),
            _ => {
                self.query(client, &set)?;
                self.query(client, "BEGIN")?;
                self.query(client, &insert)?;
                self.query(client, "ROLLBACK")
            }
        }
    }

    fn query(&self, client: &mut Client, sql: &str) -> Option<()> {
        client.send(&Message::Query(sql.to_owned()));
        self.answer(client)
    }

    fn answer(&self, client: &mut Client) -> Option<()> {
        client.flush().ok()?;
        self.steps.fetch_add(1, Ordering::AcqRel);
        let answer = client.replies_to(b'Z');
        self.steps.fetch_add(1, Ordering::AcqRel);
        answer.1.is_none().then_some(())
    }
}

/// What is killed in a round.
#[derive(Clone, Copy)]
enum Victim {
    Proxy,
    Server,
}

/// Whether there was such a process.
fn kill(pid: &str) -> bool {
    let status = Command::new("kill").args(["-9", pid]).stderr(std::process::Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn crashes(version: u32, rounds: u64) {
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::own(version, &format!("crash-pg{version}"))));
    for role in ["app_bypass", "app_deploy"] {
        cluster.admin("postgres").run(&format!("CREATE ROLE {role} LOGIN"));
        cluster.admin("postgres").run(&format!("ALTER ROLE {role} SET synchronous_commit = on"));
    }
    cluster.create_database("crash");
    cluster.admin("crash").run("CREATE TABLE work (token text); GRANT ALL ON work TO app_bypass, app_deploy");
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("ledger.jsonl");
    let more = logins() + &proxy::ledger(&ledger);
    let wish = Wish { cluster, database: "crash", pool_size: 4, mutant: None, more: &more };
    let mut dice = Dice::new(number("TENANTGATE_SEED", 4711));
    let mut proxy = Proxy::start(&wish);
    for round in 0..rounds {
        let victim = if round % 2 == 0 { Victim::Proxy } else { Victim::Server };
        let point = 1 + dice.below(200);
        one_round(&proxy, cluster.admin("crash"), round, victim, point);
        match victim {
            Victim::Proxy => {
                drop(proxy);
                proxy = Proxy::start(&wish);
            }
            Victim::Server => wait_for_server(cluster),
        }
    }
    // One that was killed last leaves what the next finds out.
    assert!(kill(&proxy.pid.to_string()));
    drop(proxy);
    let proxy = Proxy::start(&wish);
    eventually("every outcome is found out", || {
        tenantgate::driver::reconcile::unresolved(&ledger).is_ok_and(|left| left.is_empty())
    });
    drop(proxy);
    compare(cluster, &ledger, version, rounds);
}

fn one_round(proxy: &Proxy, mut admin: Client, round: u64, victim: Victim, point: u64) {
    let (steps, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let run = Run { address: proxy.address, round, steps: &steps, is_over: &is_over };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                scope.spawn({
                    let run = &run;
                    move || run.client(number)
                })
            })
            .collect();
        let deadline = Instant::now() + Duration::from_secs(20);
        while steps.load(Ordering::Acquire) < point && Instant::now() < deadline {
            std::thread::yield_now();
        }
        let reached = steps.load(Ordering::Acquire);
        let is_killed = match victim {
            Victim::Proxy => kill(&proxy.pid.to_string()),
            Victim::Server => kill_server(&mut admin, deadline),
        };
        is_over.store(true, Ordering::Release);
        for client in clients {
            client.join().unwrap();
        }
        // Asked only now that nobody is left who would be waited for.
        assert!(is_killed, "round {round}: nothing was killed\n{}", proxy.log_tail());
        assert!(reached >= point, "round {round}: only {reached} of {point} steps\n{}", proxy.log_tail());
    });
}

const KILLABLE: &str =
    "SELECT pid FROM pg_stat_activity WHERE usename IN ('app_bypass', 'app_deploy') ORDER BY random() LIMIT 1";

/// Ends one of the proxy's servers: PostgreSQL then restarts all of them. Whether one was there in time.
fn kill_server(admin: &mut Client, deadline: Instant) -> bool {
    while Instant::now() < deadline {
        let pids = admin.rows(KILLABLE);
        if pids.first().and_then(|row| row[0].as_deref()).is_some_and(kill) {
            // Until PostgreSQL has noticed, it still lets clients in.
            return matches!(admin.replies_to(0).1, Some(Silence::Closed));
        }
    }
    false
}

fn wait_for_server(cluster: &Cluster) {
    let target = Target::new(cluster.address, "postgres", "crash");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !Client::try_connect(&target).is_ok_and(|client| client.startup.iter().all(|reply| reply.tag != b'E')) {
        assert!(Instant::now() < deadline, "the server does not come back:\n{}", cluster.log());
        std::thread::yield_now();
    }
}

fn compare(cluster: &Cluster, ledger: &std::path::Path, version: u32, rounds: u64) {
    let mut admin = cluster.admin("crash");
    let deadline = Instant::now() + Duration::from_secs(60);
    while admin.value("SELECT count(*) FROM pg_stat_activity WHERE usename IN ('app_bypass', 'app_deploy')") != "0" {
        assert!(Instant::now() < deadline, "servers of a dead proxy stay");
    }
    let rows: BTreeSet<String> =
        admin.rows("SELECT token FROM work").into_iter().filter_map(|row| row[0].clone()).collect();
    let text = std::fs::read_to_string(ledger).unwrap();
    let (mut intents, mut announced, mut results) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
    let (mut torn, mut found_out): (u64, BTreeMap<String, u64>) = (0, BTreeMap::new());
    for line in text.lines() {
        let Ok(record) = serde_json::from_str::<Value>(line) else {
            torn += 1;
            continue;
        };
        let word = |name: &str| record[name].as_str().unwrap().to_owned();
        match record["kind"].as_str() {
            Some("intent") => drop(intents.insert(word("reason"), word("id"))),
            Some("precommit") => drop(announced.insert(word("id"))),
            Some("outcome") => drop(results.insert(word("id"), word("result"))),
            Some("reconciled") => {
                let known = results.insert(word("id"), word("result"));
                assert!(known.is_none_or(|known| known == "unknown"), "{record}");
                let what = format!("{} by {}", word("result"), word("evidence"));
                *found_out.entry(what).or_default() += 1;
            }
            _ => {}
        }
    }
    let without: Vec<_> =
        rows.iter().filter(|row| intents.get(*row).is_none_or(|id| !announced.contains(id))).collect();
    assert!(without.is_empty(), "committed without intent and pre-commit record: {without:?}");
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for (token, id) in &intents {
        let result = results.get(id).map_or("none", String::as_str);
        *counts.entry(result).or_default() += 1;
        match result {
            "committed" => assert!(rows.contains(token), "{token} is committed in the ledger alone"),
            "rolled_back" | "failed" => {
                assert!(!rows.contains(token), "{token} is {result} in the ledger, and committed")
            }
            // A crash of PostgreSQL hides whether the id was given anew; without a crash everything is known.
            "unknown" => {}
            other => panic!("{token} is {other} in the ledger"),
        }
    }
    let unknown = counts.get("unknown").copied().unwrap_or_default();
    assert!(unknown <= rounds.div_ceil(2) * CLIENTS / 2, "too many stay unknown: {counts:?}");
    println!(
        "PostgreSQL {version}: {rounds} kills, {} rows, {} intents, outcomes {counts:?}, found out {found_out:?}, {torn} torn lines",
        rows.len(),
        intents.len()
    );
    assert!(rows.len() as u64 > rounds, "too few transactions to prove anything");
    let migrations = rows.iter().filter(|token| token.split('-').nth(1) == Some(&MIGRATION.to_string())).count();
    assert!(migrations as u64 > rounds / 10, "too few of migration logins: {migrations}");
}

#[test]
fn every_committed_bypass_transaction_has_its_record_and_every_record_its_true_outcome() {
    let _turn = alone();
    let rounds = number("TENANTGATE_CRASHES", 30);
    crashes(15, rounds);
    if eighteen().is_some() {
        crashes(18, rounds / 5);
    }
}
