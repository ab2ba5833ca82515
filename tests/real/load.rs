//! 200 clients of 100 tenants on 5 servers: nobody sees another's rows, no statement runs unscoped.
//!
//! Every statement carries its sender's tenant to `probe()`, a recorder inside the server that compares it
//! with the setting and counts in sequences, which no rollback undoes. Every client checks that all it
//! reads is its own. Choices are seeded; `TENANTGATE_SEED` repeats them, `TENANTGATE_LOAD_TRANSACTIONS`
//! scales the run.

use crate::acts::Actor;
use crate::sealed;
use crate::support::cluster::{self, Cluster};
use crate::support::proxy::{Proxy, Wish};
use crate::support::raw::Target;
use crate::support::{alone, number};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const DATABASE: &str = "load";
const SCHEMA: &str = include_str!("load.sql");
const SERVERS: u32 = 5;
/// The whole run is on one release and one kind of login; the others were run whole once and are kept
/// short, so that all tests together stay within CI's time.
const SHORT_TRANSACTIONS: u64 = 25_000;

/// How large a run is.
struct Size {
    clients: u64,
    tenants: u64,
    transactions: u64,
}

/// What a run has shown.
#[derive(Debug, Default)]
struct Outcome {
    transactions: u64,
    /// What clients found wrong.
    complaints: Vec<String>,
    probes: u64,
    unscoped: u64,
    wrong: u64,
    /// Rows whose tenant is not their writer.
    foreign_rows: u64,
    /// Servers left in a transaction, or more than the pool may have.
    stuck: String,
}

impl Outcome {
    fn is_clean(&self) -> bool {
        self.complaints.is_empty()
            && self.unscoped == 0
            && self.wrong == 0
            && self.foreign_rows == 0
            && self.stuck.is_empty()
    }
}

pub fn tenant(index: u64) -> String {
    format!("00000000-0000-0000-0000-{index:012x}")
}

fn prepare(cluster: &Cluster, tenants: u64) {
    cluster.create_database(DATABASE);
    let mut admin = cluster.admin(DATABASE);
    admin.run(SCHEMA);
    for index in 1..=tenants {
        let tenant = tenant(index);
        admin.run(&format!(
            "INSERT INTO rows (tenant_id, writer) SELECT '{tenant}', '{tenant}' FROM generate_series(1, 3)"
        ));
    }
    admin.run("ANALYZE");
    admin.bye();
}

/// Runs the clients against `target` and says what they and the recorder saw.
fn run(cluster: &Cluster, size: &Size, seed: u64, target: &(dyn Fn(&str) -> Target + Sync)) -> Outcome {
    let done = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let complaints = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for index in 0..size.clients {
            let (done, stop, complaints) = (&done, &stop, &complaints);
            scope.spawn(move || {
                let own = tenant(index % size.tenants + 1);
                let quota = size.transactions / size.clients;
                let seed = seed.wrapping_mul(1_000_003).wrapping_add(index);
                let mut actor = Actor::new(target(&own), &own, seed);
                let mut count = 0;
                while count < quota && !stop.load(Ordering::Relaxed) {
                    match actor.act() {
                        Ok(transactions) => {
                            count += transactions;
                            done.fetch_add(transactions, Ordering::Relaxed);
                        }
                        Err(complaint) => {
                            let mut all = complaints.lock().unwrap();
                            all.push(format!("client {index}, after {count}: {complaint}"));
                            if all.len() >= 20 {
                                stop.store(true, Ordering::Relaxed);
                            }
                            return;
                        }
                    }
                }
            });
        }
    });
    let complaints = complaints.into_inner().unwrap();
    judge(cluster, Outcome { transactions: done.into_inner(), complaints, ..Outcome::default() })
}

/// Adds what the server itself knows.
fn judge(cluster: &Cluster, mut outcome: Outcome) -> Outcome {
    let mut admin = cluster.admin(DATABASE);
    let deadline = Instant::now() + Duration::from_secs(10);
    // Other tests have servers of that role, too, in their own databases; and a closed one takes a moment to go.
    loop {
        outcome.stuck = admin.value(
            "SELECT coalesce(string_agg(concat_ws(' ', pid, state, wait_event, left(query, 60)), '; '), '') FROM \
             pg_stat_activity WHERE usename = 'app_user' AND datname = current_database() AND state <> 'idle'",
        );
        let servers =
            "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app_user' AND datname = current_database()";
        let servers: u32 = admin.value(servers).parse().unwrap();
        if servers > SERVERS {
            outcome.stuck.push_str(&format!("{servers} servers, {SERVERS} allowed"));
        }
        if outcome.stuck.is_empty() || Instant::now() > deadline {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut counted = |sql: &str| -> u64 { admin.value(sql).parse().unwrap() };
    outcome.probes = counted("SELECT last_value - 1 FROM watch.probes");
    outcome.unscoped = counted("SELECT last_value - 1 FROM watch.unscoped");
    outcome.wrong = counted("SELECT last_value - 1 FROM watch.wrong");
    outcome.foreign_rows = counted(
        "SELECT (SELECT count(*) FROM rows WHERE tenant_id::text IS DISTINCT FROM writer) + \
         (SELECT count(*) FROM copies WHERE seen IS DISTINCT FROM writer)",
    );
    admin.bye();
    outcome
}

/// After the storm all servers of the pool must serve at once.
fn the_pool_still_works(proxy: &Proxy) {
    let own = tenant(1);
    let mut clients: Vec<_> = (0..SERVERS).map(|_| crate::support::raw::Client::connect(&proxy.target(&own))).collect();
    clients.iter_mut().for_each(|client| drop(client.run("BEGIN; SELECT 1")));
    clients.iter_mut().for_each(|client| drop(client.run("COMMIT")));
}

fn seed() -> u64 {
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |since| since.as_secs());
    let seed = number("TENANTGATE_SEED", clock);
    eprintln!("TENANTGATE_SEED={seed}");
    seed
}

fn storm(cluster: &Cluster, transactions: u64, more: &str) {
    let size = Size { clients: 200, tenants: 100, transactions };
    prepare(cluster, size.tenants);
    let proxy = Proxy::start(&Wish { cluster, database: DATABASE, pool_size: SERVERS, mutant: None, more });
    blow(cluster, size, proxy);
}

/// The same over a sealed database, with sealed policies.
fn sealed_storm(cluster: &Cluster, transactions: u64) {
    let size = Size { clients: 200, tenants: 100, transactions };
    prepare(cluster, size.tenants);
    let mut admin = cluster.admin(DATABASE);
    sealed::seal(&mut admin, DATABASE);
    admin.run("SELECT tenantgate.protect('rows', 'tenant_id', ARRAY['own'])");
    let wish = Wish { cluster, database: DATABASE, pool_size: SERVERS, mutant: None, more: "" };
    blow(cluster, size, sealed::start_sealing(&wish));
}

fn blow(cluster: &Cluster, size: Size, mut proxy: Proxy) {
    let transactions = size.transactions;
    let start = Instant::now();
    let outcome = run(cluster, &size, seed(), &|tenant| proxy.target(tenant));
    let took = start.elapsed().as_secs_f64();
    eprintln!(
        "PostgreSQL {}: {} transactions of {} clients in {took:.0} s, {} probes, {} unscoped, {} wrong, {} foreign rows",
        cluster.version,
        outcome.transactions,
        size.clients,
        outcome.probes,
        outcome.unscoped,
        outcome.wrong,
        outcome.foreign_rows
    );
    assert!(outcome.is_clean(), "{outcome:#?}\nthe proxy's last words:\n{}", proxy.log_tail());
    assert!(proxy.is_alive(), "the proxy has ended:\n{}", proxy.log_tail());
    assert!(outcome.transactions >= transactions / size.clients * size.clients, "clients ended early");
    assert!(outcome.probes >= transactions, "the recorder saw only {} probes", outcome.probes);
    the_pool_still_works(&proxy);
}

#[test]
fn two_hundred_clients_of_a_hundred_tenants_share_five_servers() {
    let _turn = alone();
    storm(cluster::fifteen(), number("TENANTGATE_LOAD_TRANSACTIONS", 200_000), "");
}

#[test]
fn the_storm_holds_on_18_too() {
    let _turn = alone();
    if let Some(cluster) = cluster::eighteen() {
        storm(cluster, number("TENANTGATE_LOAD_TRANSACTIONS", SHORT_TRANSACTIONS), "");
    }
}

/// A tenant that stays is another's when the server is.
#[test]
fn the_storm_holds_where_tenants_stay() {
    let _turn = alone();
    for cluster in cluster::every() {
        storm(cluster, number("TENANTGATE_LOAD_TRANSACTIONS", SHORT_TRANSACTIONS), "[scope]\nlifetime = \"lease\"\n");
    }
}

#[test]
fn the_storm_holds_where_tickets_are_shown() {
    let _turn = alone();
    for cluster in cluster::every() {
        sealed_storm(cluster, number("TENANTGATE_LOAD_TRANSACTIONS", SHORT_TRANSACTIONS));
    }
}

/// Without a proxy: the acts themselves are right, so a complaint is the proxy's.
#[test]
fn the_acts_hold_against_postgresql_itself() {
    let _turn = alone();
    for cluster in cluster::every() {
        let size = Size { clients: 20, tenants: 10, transactions: 4_000 };
        prepare(cluster, size.tenants);
        let outcome = run(cluster, &size, 7, &|tenant| {
            let options = format!("-c app.tenant_id={tenant}");
            Target::new(cluster.address, "app_user", DATABASE).with("options", &options).with("tenantless.direct", "on")
        });
        assert!(
            outcome.complaints.is_empty() && outcome.unscoped + outcome.wrong + outcome.foreign_rows == 0,
            "{outcome:#?}"
        );
    }
}

/// A planted defect must be found, or the storm proves nothing.
#[cfg(feature = "mutants")]
mod mutants {
    use super::*;

    fn outcome_with(mutant: &str) -> Outcome {
        let _turn = alone();
        let cluster = cluster::fifteen();
        let size = Size { clients: 40, tenants: 20, transactions: 8_000 };
        prepare(cluster, size.tenants);
        let wish = Wish { cluster, database: DATABASE, pool_size: SERVERS, mutant: Some(mutant), more: "" };
        let proxy = Proxy::start(&wish);
        let outcome = run(cluster, &size, seed(), &|tenant| proxy.target(tenant));
        eprintln!("{mutant}: {outcome:#?}");
        outcome
    }

    #[test]
    fn injection_switched_off_is_found() {
        assert!(outcome_with("no_injection").unscoped > 0);
    }

    #[test]
    fn the_previous_tenant_injected_is_found() {
        assert!(outcome_with("previous_tenant").wrong > 0);
    }

    #[test]
    fn no_injection_again_after_commit_is_found() {
        assert!(outcome_with("no_reinjection_after_commit").unscoped > 0);
    }

    #[test]
    fn a_server_checked_in_while_replies_are_owed_is_found() {
        assert!(!outcome_with("checkin_while_owed").is_clean());
    }
}
