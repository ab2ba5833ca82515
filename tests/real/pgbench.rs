//! pgbench as it is: select-only and TPC-B-like, every protocol, up to ten clients for each server.

use crate::support::alone;
use crate::support::cluster::{self, Cluster};
use crate::support::proxy::{Proxy, Wish};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub const DATABASE: &str = "bench";
pub const TENANT: &str = "00000000-0000-0000-0000-00000000000a";

/// pgbench's own tables, then a tenant on each row and forced row-level security.
pub fn prepare(cluster: &Cluster) {
    cluster.create_database(DATABASE);
    let output = cluster
        .program("pgbench")
        .args([
            "-i",
            "-q",
            "-s",
            "2",
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
            "-p",
            &cluster.address.port().to_string(),
            DATABASE,
        ])
        .output()
        .expect("pgbench runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut admin = cluster.admin(DATABASE);
    for table in ["accounts", "branches", "tellers", "history"] {
        admin.run(&format!(
            "ALTER TABLE pgbench_{table} ADD COLUMN tenant_id uuid NOT NULL DEFAULT '{TENANT}';
             ALTER TABLE pgbench_{table} ALTER tenant_id SET DEFAULT NULLIF(current_setting('app.tenant_id', true), '')::uuid;
             ALTER TABLE pgbench_{table} ENABLE ROW LEVEL SECURITY;
             ALTER TABLE pgbench_{table} FORCE ROW LEVEL SECURITY;
             CREATE POLICY own ON pgbench_{table}
                USING (tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid);
             GRANT ALL ON pgbench_{table} TO app_user"
        ));
    }
    admin.bye();
}

/// What the command printed; ended if it takes too long.
pub fn bounded(mut command: Command, limit: Duration) -> Output {
    bounded_child(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("pgbench starts"), limit)
}

/// What the process printed; ended if it takes too long.
pub fn bounded_child(mut child: Child, limit: Duration) -> Output {
    let deadline = Instant::now() + limit;
    while child.try_wait().expect("pgbench can be asked").is_none() {
        if Instant::now() > deadline {
            child.kill().expect("pgbench can be ended");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().expect("pgbench has ended")
}

/// One run; what went wrong, if anything.
fn run(cluster: &Cluster, proxy: &Proxy, script: &str, protocol: &str, clients: u32) -> Result<(), String> {
    let each = (600 / clients).max(10);
    let mut command = cluster.program("pgbench");
    command
        .args(["-n", "-b", script, "-M", protocol, "-j", "2", "-h", "127.0.0.1"])
        .args(["-c", &clients.to_string(), "-t", &each.to_string(), "-p", &proxy.address.port().to_string()])
        .args(["-U", &format!("app_user.{TENANT}"), DATABASE]);
    let output = bounded(command, Duration::from_secs(60));
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let all = format!("number of transactions actually processed: {0}/{0}", clients * each);
    let has_errors = ["ERROR", "FATAL", "error:", "aborted"].iter().any(|word| complained.contains(word));
    if output.status.success() && said.contains(&all) && !has_errors {
        return Ok(());
    }
    Err(format!("-b {script} -M {protocol} -c {clients} on {}: {said}{complained}", cluster.version))
}

fn matrix(cluster: &Cluster) {
    let _turn = alone();
    prepare(cluster);
    let proxy = Proxy::start(&Wish { cluster, database: DATABASE, pool_size: 20, mutant: None, more: "" });
    let mut failures = Vec::new();
    for script in ["select-only", "tpcb-like"] {
        for protocol in ["simple", "extended", "prepared"] {
            for clients in [1, 16, 200] {
                failures.extend(run(cluster, &proxy, script, protocol, clients).err());
                eprintln!(
                    "-b {script} -M {protocol} -c {clients} on {}: {} failed so far",
                    cluster.version,
                    failures.len()
                );
            }
        }
    }
    assert!(failures.is_empty(), "{}\nthe proxy's last words:\n{}", failures.join("\n"), proxy.log_tail());
    let mut admin = cluster.admin(DATABASE);
    let sums = admin.rows(
        "SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(bbalance) FROM pgbench_branches), \
         (SELECT sum(tbalance) FROM pgbench_tellers), (SELECT sum(delta) FROM pgbench_history)",
    );
    assert!(sums[0].iter().all(|sum| *sum == sums[0][0]), "money was lost: {sums:?}");
    let foreign = format!("SELECT count(*) FROM pgbench_history WHERE tenant_id <> '{TENANT}'");
    assert_eq!(admin.value(&foreign), "0");
}

#[test]
fn pgbench_runs_without_an_error_on_15() {
    matrix(cluster::fifteen());
}

#[test]
fn pgbench_runs_without_an_error_on_18() {
    if let Some(cluster) = cluster::eighteen() {
        matrix(cluster);
    }
}
