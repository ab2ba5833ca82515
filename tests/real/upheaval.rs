//! Acts of an operator under load: which transactions fail, with what; none where none has to.
//!
//! pgbench's TPC-B-like transactions run while the act happens. Each leaves one row in `pgbench_history`, so
//! what pgbench believes to be committed can be compared with what is.

use super::pgbench;
use crate::support::alone;
use crate::support::cluster::{self, Cluster};
use crate::support::inside::Inside;
use crate::support::proxy::{Proxy, Wish};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant};
use tenantgate::admin::Command;

const CLIENTS: u64 = 8;
const POOL: u32 = 4;

/// What an act did to the load.
struct Outcome {
    act: &'static str,
    /// What pgbench counts as done.
    done: u64,
    /// What the server has.
    committed: u64,
    /// What clients were told, and how many.
    complaints: BTreeMap<String, u64>,
}

impl Outcome {
    fn failures(&self) -> u64 {
        self.complaints.values().sum()
    }

    /// Nobody was told of an error, and nothing was lost or doubled.
    fn is_clean(&self) -> bool {
        self.complaints.is_empty() && self.done == self.committed
    }
}

/// A running pgbench.
struct Load<'c> {
    cluster: &'c Cluster,
    child: Child,
}

fn start<'c>(cluster: &'c Cluster, address: SocketAddr, seconds: u32, more: &[&str]) -> Load<'c> {
    cluster.admin(pgbench::DATABASE).run("TRUNCATE pgbench_history");
    let mut command: Process = cluster.program("pgbench");
    command
        .args(["-n", "-b", "tpcb-like", "-j", "2", "-h", "127.0.0.1", "-T", &seconds.to_string()])
        .args(["-c", &CLIENTS.to_string(), "-p", &address.port().to_string()])
        .args(["-U", &format!("app_user.{}", pgbench::TENANT)])
        .args(more)
        .arg(pgbench::DATABASE)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let load = Load { cluster, child: command.spawn().expect("pgbench starts") };
    load.wait_for_more();
    load
}

fn committed(cluster: &Cluster) -> u64 {
    cluster.admin(pgbench::DATABASE).value("SELECT count(*) FROM pgbench_history").parse().expect("a count")
}

impl Load<'_> {
    /// Waits until the load has moved on; the limit only bounds a failure.
    fn wait_for_more(&self) {
        let (before, deadline) = (committed(self.cluster), Instant::now() + Duration::from_secs(30));
        while committed(self.cluster) <= before + CLIENTS {
            assert!(Instant::now() < deadline, "the load stands still");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn end(self, act: &'static str) -> Outcome {
        let output = pgbench::bounded_child(self.child, Duration::from_secs(60));
        let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let line = said.lines().find_map(|line| line.strip_prefix("number of transactions actually processed: "));
        let done = line.and_then(|number| number.parse().ok()).unwrap_or(0);
        let mut complaints = BTreeMap::new();
        for line in complained.lines() {
            let words = ["FATAL:  ", "ERROR:  "].iter().find_map(|word| Some(word.len() + line.find(word)?));
            if let Some(at) = words {
                *complaints.entry(line[at..].to_owned()).or_default() += 1;
            }
        }
        let aborted = complained.matches("aborted in command").count() as u64;
        let told = complaints.values().sum::<u64>();
        if aborted > told {
            complaints.insert("connection lost without a word".to_owned(), aborted - told);
        }
        Outcome { act, done, committed: committed(self.cluster), complaints }
    }
}

fn print(outcomes: &[Outcome]) {
    eprintln!("| act | done | committed | failed | with |\n|---|---|---|---|---|");
    for outcome in outcomes {
        let with: Vec<String> = outcome.complaints.iter().map(|(what, count)| format!("{count} × {what}")).collect();
        let (done, committed, failed) = (outcome.done, outcome.committed, outcome.failures());
        eprintln!("| {} | {done} | {committed} | {failed} | {} |", outcome.act, with.join("; "));
    }
}

fn wish<'w>(cluster: &'w Cluster, more: &'w str) -> Wish<'w> {
    Wish { cluster, database: pgbench::DATABASE, pool_size: POOL, mutant: None, more }
}

fn inside(proxy: &Inside, command: Command) {
    proxy.perform(command).unwrap_or_else(|fault| panic!("{fault}"));
}

/// Pause and what belongs to it.
fn acts_on_pools(cluster: &mut Cluster, outcomes: &mut Vec<Outcome>) {
    let proxy = Inside::start(&wish(cluster, ""));
    let load = start(cluster, proxy.address, 3, &[]);
    for _ in 0..3 {
        inside(&proxy, Command::Pause(None));
        inside(&proxy, Command::Resume(None));
        load.wait_for_more();
    }
    outcomes.push(load.end("PAUSE, RESUME, three times"));

    let load = start(cluster, proxy.address, 3, &["-M", "prepared"]);
    for _ in 0..3 {
        inside(&proxy, Command::Reconnect(None));
        load.wait_for_more();
    }
    outcomes.push(load.end("RECONNECT, three times, prepared"));
    drop(proxy);

    let proxy = Inside::start(&wish(cluster, ""));
    let address = proxy.address;
    let load = start(cluster, address, 6, &[]).child;
    inside(&proxy, Command::Pause(None));
    cluster.restart();
    inside(&proxy, Command::Resume(None));
    let load = Load { cluster, child: load };
    load.wait_for_more();
    outcomes.push(load.end("PAUSE, PostgreSQL restarts, RESUME"));

    let load = start(cluster, address, 4, &[]).child;
    cluster.restart();
    outcomes.push(Load { cluster, child: load }.end("PostgreSQL restarts"));

    let load = start(cluster, address, 3, &[]);
    inside(&proxy, Command::Kill(None));
    inside(&proxy, Command::Resume(None));
    outcomes.push(load.end("KILL, RESUME"));
}

/// Pools that come and go with every reload, while sessions begin, wait and end.
fn acts_on_roles(cluster: &Cluster, outcomes: &mut Vec<Outcome>) {
    let proxy = Inside::start(&wish(cluster, ""));
    proxy.edit("[roles.app]", "[roles.second]\nuser = \"app_user\"\n[roles.app]");
    let (one, other) = ("server = \"main\"\nrole = \"app\"", "server = \"main\"\nrole = \"second\"");
    for (act, more) in
        [("RELOAD: another pool, 20 times", &[][..]), ("RELOAD: another pool, 20 times, -C", &["-C"][..])]
    {
        // Twenty reloads are to be over before the load is, on a busy machine, too.
        let load = start(cluster, proxy.address, 10, more);
        for _ in 0..10 {
            proxy.reload_with(one, other);
            proxy.reload_with(other, one);
        }
        load.wait_for_more();
        outcomes.push(load.end(act));
    }
}

/// A certificate for `localhost`, signed by itself.
pub fn certificate(folder: &Path) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    std::fs::write(folder.join("server.crt"), parameters.self_signed(&key).expect("one").pem()).expect("a file");
    std::fs::write(folder.join("server.key"), key.serialize_pem()).expect("a file");
}

/// SIGHUP and SIGTERM.
fn acts_on_the_process(cluster: &Cluster, outcomes: &mut Vec<Outcome>) {
    let folder = tempfile::tempdir().expect("a folder");
    certificate(folder.path());
    let proxy = Proxy::start(&wish(cluster, ""));
    let tls = format!(
        "[tls]\nmode = \"allow\"\ncertificate = \"{0}/server.crt\"\nkey = \"{0}/server.key\"\n",
        folder.path().display()
    );
    proxy.edit("[tls]\nmode = \"disable\"\n", &tls);
    assert!(proxy.reload(), "{}", proxy.log_tail());

    let load = start(cluster, proxy.address, 4, &[]);
    for (from, to) in [("size = 4", "size = 2"), ("\"work_mem\"", "\"work_mem\", \"geqo\""), ("size = 2", "size = 6")] {
        proxy.edit(from, to);
        assert!(proxy.reload(), "{}", proxy.log_tail());
        load.wait_for_more();
    }
    proxy.edit("[guard]", "[scope.settings]\n\"app.tenant_id\" = \"{tenant}\"\n\"app.more\" = \"{tenant}\"\n[guard]");
    assert!(proxy.reload(), "{}", proxy.log_tail());
    load.wait_for_more();
    outcomes.push(load.end("RELOAD: pool, guard, pool, scope"));

    // A connection for each transaction, so that there are logins all the time.
    let load = start(cluster, proxy.address, 4, &["-C"]);
    for _ in 0..3 {
        certificate(folder.path());
        assert!(proxy.reload(), "{}", proxy.log_tail());
        load.wait_for_more();
    }
    outcomes.push(load.end("certificate changes, three times, -C"));

    let load = start(cluster, proxy.address, 30, &[]);
    proxy.signal("TERM");
    outcomes.push(load.end("SIGTERM"));
}

#[test]
fn what_fails_when_an_operator_acts_under_load_on_15() {
    let _turn = alone();
    what_fails_when_an_operator_acts_under_load(cluster::private("upheaval"));
}

#[test]
fn what_fails_when_an_operator_acts_under_load_on_18() {
    let _turn = alone();
    if let Some(cluster) = cluster::private_eighteen("upheaval-18") {
        what_fails_when_an_operator_acts_under_load(cluster);
    }
}

fn what_fails_when_an_operator_acts_under_load(mut cluster: Cluster) {
    pgbench::prepare(&cluster);
    let mut outcomes = Vec::new();
    acts_on_pools(&mut cluster, &mut outcomes);
    acts_on_roles(&cluster, &mut outcomes);
    acts_on_the_process(&cluster, &mut outcomes);
    print(&outcomes);
    for outcome in &outcomes {
        match outcome.act {
            // Sessions that are in a transaction lose it, and the others are told, too.
            "PostgreSQL restarts" | "KILL, RESUME" => {
                assert!(outcome.failures() <= CLIENTS, "{}", outcome.act);
                let unsure = outcome.committed.abs_diff(outcome.done);
                assert!(unsure <= CLIENTS, "{}: {} done, {} committed", outcome.act, outcome.done, outcome.committed);
            }
            // Every session ends, none in the middle of a transaction.
            "SIGTERM" => {
                assert_eq!(outcome.failures(), CLIENTS);
                assert!(outcome.complaints.keys().all(|what| what.starts_with("TG054")), "{:?}", outcome.complaints);
                assert_eq!(outcome.done, outcome.committed);
            }
            act => assert!(outcome.is_clean(), "{act}: {:?}", outcome.complaints),
        }
    }
}
