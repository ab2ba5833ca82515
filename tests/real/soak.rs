//! Many active clients on a small pool, round after round: no error, and nothing grows. The long form is `benches/soak`.

use super::pgbench::bounded;
use crate::support::alone;
use crate::support::cluster::{self, Cluster};
use crate::support::proxy::{Proxy, Wish};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

const DATABASE: &str = "soak";
const TENANT: &str = "00000000-0000-0000-0000-00000000000a";

/// Fifteen for each server.
const CLIENTS: u32 = 300;
const SERVERS: u32 = 20;
const TRANSACTIONS_EACH: u32 = 20;

/// The first fills pools, caches and the allocator.
const ROUNDS: usize = 4;

/// More texts than a server keeps statements, so that they are evicted and prepared again all the time.
const TEXTS: usize = 30;
const STATEMENTS_MAX: u32 = 20;

/// What memory may differ by from round to round without being a leak: one page of each client's.
const GROWTH_KIB_MAX: u64 = 4 * CLIENTS as u64;

/// A server process that keeps every statement it ever prepared has several of these more.
const SERVER_GROWTH_KIB_MAX: u64 = 2 * 1024;

/// What a process holds after a round.
#[derive(Debug)]
struct Held {
    resident_kib: u64,
    files: usize,
    /// Of its own that the largest server process has.
    server_kib: u64,
}

/// A figure that Linux has of a process; none of one that has ended.
fn memory_kib(pid: u32, name: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn held(cluster: &Cluster, pid: u32) -> Held {
    let resident_kib = memory_kib(pid, "VmRSS:").expect("the proxy runs");
    let mut admin = cluster.admin(DATABASE);
    let servers =
        admin.rows("SELECT pid FROM pg_stat_activity WHERE usename = 'app_user' AND datname = current_database()");
    admin.bye();
    let pids = servers.iter().filter_map(|row| row.first()?.as_deref()?.parse().ok());
    let server_kib = pids.filter_map(|pid| memory_kib(pid, "RssAnon:")).max().unwrap_or(0);
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the proxy runs").count();
    Held { resident_kib, files, server_kib }
}

/// Waits until the sockets of the clients that left are closed.
fn held_at_rest(cluster: &Cluster, pid: u32) -> Held {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let now = held(cluster, pid);
        if now.files < CLIENTS as usize || Instant::now() > deadline {
            return now;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn round(cluster: &Cluster, proxy: &Proxy, scripts: &[String]) -> Result<(), String> {
    let mut command = cluster.program("pgbench");
    command.args(["-n", "-M", "prepared", "-j", "2", "-h", "127.0.0.1", "-p", &proxy.address.port().to_string()]);
    command.args(["-c", &CLIENTS.to_string(), "-t", &TRANSACTIONS_EACH.to_string()]);
    command.args(scripts.iter().flat_map(|script| ["-f", script]));
    command.args(["-U", &format!("app_user.{TENANT}"), DATABASE]);
    let output = bounded(command, Duration::from_secs(120));
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let all = format!("actually processed: {0}/{0}", CLIENTS * TRANSACTIONS_EACH);
    if output.status.success() && said.contains(&all) { Ok(()) } else { Err(format!("{said}{complained}")) }
}

#[test]
fn three_hundred_busy_clients_leave_nothing_behind() {
    let _turn = alone();
    let cluster = cluster::fifteen();
    cluster.create_database(DATABASE);
    let folder = tempfile::tempdir().unwrap();
    let scripts: Vec<String> = (0..TEXTS)
        .map(|number| {
            let path = folder.path().join(format!("{number}.sql"));
            let mut text = "\\set wanted random(1, 100)\n".to_owned();
            writeln!(text, "SELECT :wanted AS number{number};").unwrap();
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        })
        .collect();
    let more = format!("[databases.{DATABASE}.pool]\nprepared_statements_max = {STATEMENTS_MAX}\n");
    let proxy = Proxy::start(&Wish { cluster, database: DATABASE, pool_size: SERVERS, mutant: None, more: &more });
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        if let Err(said) = round(cluster, &proxy, &scripts) {
            panic!("{said}\nthe proxy's last words:\n{}", proxy.log_tail());
        }
        rounds.push(held_at_rest(cluster, proxy.pid));
    }
    eprintln!("{rounds:?}");
    let (first, last) = (&rounds[0], &rounds[ROUNDS - 1]);
    assert!(last.resident_kib <= first.resident_kib + GROWTH_KIB_MAX, "memory grows: {rounds:?}");
    // The pool may have connected the last of its servers only later.
    assert!(last.files <= first.files + SERVERS as usize, "sockets are left open: {rounds:?}");
    assert!(last.server_kib <= first.server_kib + SERVER_GROWTH_KIB_MAX, "servers keep statements: {rounds:?}");
}
