//! Faults under load: what was tried, what failed, and what was lost of what clients were told to be committed.
//!
//! Each client counts: it inserts (its name, 1), (its name, 2) and so on, each in a transaction of its own. Told that one
//! is committed it goes on; not told, it connects again and tries the same number once more, which does nothing if the
//! first attempt had come through. In the end every number up to the last one told has to be there, once.

use crate::support::cluster::{self, Cluster};
use crate::support::inside::Inside;
use crate::support::message::Message;
use crate::support::proxy::Wish;
use crate::support::raw::{Client, Target};
use crate::support::reply::Reply;
use crate::support::{alone, eventually};
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const DATABASE: &str = "faults";
const ACME: &str = "00000000-0000-0000-0000-00000000000a";

/// What a client may be told of a server that was ended: PostgreSQL's own words (it shuts down, has crashed, is starting
/// up), or that it was lost or cannot be reached (TG052, TG053).
const KNOWN: &[&str] = &["57P01", "57P02", "57P03", "08006"];

/// How one number is written.
#[derive(Clone, Copy)]
enum Form {
    Statement,
    Block,
    Pipeline,
}

/// What became of one client's attempts.
#[derive(Default)]
struct Count {
    tried: u64,
    acknowledged: u64,
    /// SQLSTATE, or how the connection ended, by number.
    failures: BTreeMap<String, u64>,
}

impl Count {
    fn add(&mut self, other: &Count) {
        self.tried += other.tried;
        self.acknowledged += other.acknowledged;
        for (what, count) in &other.failures {
            *self.failures.entry(what.clone()).or_default() += count;
        }
    }
}

fn messages(form: Form, name: usize, number: u64) -> Vec<Message> {
    let insert = format!("INSERT INTO counted VALUES ({name}, {number}) ON CONFLICT DO NOTHING");
    let query = |sql: &str| Message::Query(sql.to_owned());
    let step = |sql: &str| [Message::parse("", sql), Message::bind("", &[]), Message::execute(), Message::Sync];
    match form {
        Form::Statement => vec![query(&insert)],
        Form::Block => vec![query("BEGIN"), query(&insert), query("COMMIT")],
        Form::Pipeline => [step("BEGIN"), step(&insert), step("COMMIT")].concat(),
    }
}

/// Whether the client was told that it is committed; else why not.
fn attempt(client: &mut Client, form: Form, name: usize, number: u64) -> Result<(), String> {
    client.send_all(&messages(form, name, number));
    // Who has gone says so when it is read.
    drop(client.flush());
    let readies = if matches!(form, Form::Statement) { 1 } else { 3 };
    let mut all: Vec<Reply> = Vec::new();
    for _ in 0..readies {
        let (replies, silence) = client.replies_to(b'Z');
        all.extend(replies);
        if let Some(error) = all.iter().find(|reply| reply.tag == b'E') {
            return Err(error.fields()[&'C'].clone());
        }
        if let Some(silence) = silence {
            return Err(format!("{silence:?}"));
        }
    }
    let wanted: &[u8] = if matches!(form, Form::Statement) { b"INSERT" } else { b"COMMIT" };
    let is_told = all.iter().any(|reply| reply.tag == b'C' && reply.body.starts_with(wanted));
    if is_told { Ok(()) } else { Err("no tag".to_owned()) }
}

fn connected(target: &Target) -> Result<Client, String> {
    let mut client = Client::try_connect(target).map_err(|error| format!("connect: {}", error.kind()))?;
    if let Some(error) = client.startup.iter().find(|reply| reply.tag == b'E') {
        return Err(format!("login: {}", error.fields()[&'C']));
    }
    client.patience(Duration::from_secs(40));
    Ok(client)
}

/// Counts until told to stop, or to so many.
fn count_up(target: &Target, name: usize, up_to: u64, stop: &AtomicBool, progress: &AtomicU64) -> Count {
    let form = [Form::Statement, Form::Block, Form::Pipeline][name % 3];
    let (mut count, mut client) = (Count::default(), None);
    while count.acknowledged < up_to && !stop.load(Ordering::SeqCst) {
        let mut held = match client.take().map_or_else(|| connected(target), Ok) {
            Ok(client) => client,
            Err(what) => {
                *count.failures.entry(what).or_default() += 1;
                std::thread::yield_now();
                continue;
            }
        };
        count.tried += 1;
        match attempt(&mut held, form, name, count.acknowledged + 1) {
            Ok(()) => {
                count.acknowledged += 1;
                progress.fetch_add(1, Ordering::SeqCst);
                client = Some(held);
            }
            Err(what) => *count.failures.entry(what).or_default() += 1,
        }
    }
    count
}

struct Load {
    stop: Arc<AtomicBool>,
    progress: Arc<AtomicU64>,
    threads: Vec<std::thread::JoinHandle<Count>>,
}

impl Load {
    fn start(target: &Target, clients: usize, up_to: u64) -> Self {
        let (stop, progress): (Arc<AtomicBool>, Arc<AtomicU64>) = Default::default();
        let threads = (0..clients).map(|name| {
            let (target, stop, progress) = (target.clone(), Arc::clone(&stop), Arc::clone(&progress));
            let work = move || count_up(&target, name, up_to, &stop, &progress);
            std::thread::Builder::new().stack_size(256 * 1024).spawn(work).expect("a thread")
        });
        let threads = threads.collect();
        Self { stop, progress, threads }
    }

    /// Waits for so much more to be acknowledged.
    fn wait_for_more(&self, more: u64) {
        let (before, deadline) = (self.progress.load(Ordering::SeqCst), Instant::now() + Duration::from_secs(60));
        while self.progress.load(Ordering::SeqCst) < before + more {
            assert!(Instant::now() < deadline, "the load stands still");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Ends it, and compares what clients were told with what is there.
    fn end(self, cluster: &Cluster, act: &str, is_stopped: bool) -> Count {
        self.stop.store(is_stopped, Ordering::SeqCst);
        let counts: Vec<Count> =
            self.threads.into_iter().map(|thread| thread.join().expect("a client does not panic")).collect();
        let mut sum = Count::default();
        counts.iter().for_each(|count| sum.add(count));
        let mut admin = cluster.admin(DATABASE);
        let mut there = vec![(0, 0); counts.len()];
        for row in admin.rows("SELECT name, count(*), max(number) FROM counted GROUP BY name") {
            let number = |at: usize| row[at].as_deref().and_then(|text| text.parse::<u64>().ok()).expect("a number");
            there[usize::try_from(number(0)).expect("a name")] = (number(1), number(2));
        }
        let mut lost = 0;
        for (name, count) in counts.iter().enumerate() {
            // One more may be there that nobody was told of; none may be missing between.
            let (numbers, last) = there[name];
            assert_eq!(numbers, last, "{act}: client {name} has gaps");
            assert!(last <= count.acknowledged + 1, "{act}: client {name} has {last}");
            lost += count.acknowledged.saturating_sub(last);
        }
        let (tried, acknowledged) = (sum.tried, sum.acknowledged);
        let failed = tried - acknowledged;
        eprintln!(
            "| PostgreSQL {} | {act} | {} clients | {tried} tried | {acknowledged} acknowledged | {failed} failed | {lost} lost | {:?} |",
            cluster.version,
            counts.len(),
            sum.failures
        );
        assert_eq!(lost, 0, "{act}");
        let unknown: Vec<&String> = sum.failures.keys().filter(|what| !KNOWN.contains(&what.as_str())).collect();
        assert!(unknown.is_empty(), "{act}: clients were told {unknown:?}");
        sum
    }
}

fn prepared(cluster: &Cluster) {
    cluster.create_database(DATABASE);
    let mut admin = cluster.admin(DATABASE);
    admin.run(
        "CREATE TABLE counted (name int, number int, PRIMARY KEY (name, number)); GRANT ALL ON counted TO app_user",
    );
    // What is acknowledged must be on its way to the disk: the kernel keeps it when a process is killed.
    admin.run("ALTER SYSTEM SET synchronous_commit = on");
    admin.run("SELECT pg_reload_conf()");
}

fn start(cluster: &Cluster, pool_size: u32) -> (Inside, Target) {
    cluster.admin(DATABASE).run("TRUNCATE counted");
    let proxy = Inside::start(&Wish { cluster, database: DATABASE, pool_size, mutant: None, more: "" });
    let target = proxy.target(ACME);
    (proxy, target)
}

fn a_backend(cluster: &Cluster) -> Option<String> {
    // One that works rather than one that waits, if there is one.
    let one = "SELECT pid FROM pg_stat_activity WHERE usename = 'app_user' AND datname = current_database() \
               ORDER BY state = 'idle' LIMIT 1";
    let rows = cluster.admin(DATABASE).rows(one);
    rows.first().and_then(|row| row[0].clone())
}

/// Kills a backend as the kernel would: PostgreSQL ends all others and recovers, and until then nobody can ask it anything.
fn kill_a_backend(cluster: &Cluster) {
    let recoveries = || cluster.log().matches("all server processes terminated; reinitializing").count();
    let before = recoveries();
    let pid = a_backend(cluster).expect("somebody works");
    let status = Command::new("kill").args(["-KILL", &pid]).status();
    assert!(status.is_ok_and(|status| status.success()), "kill -KILL {pid}");
    eventually("PostgreSQL recovers", || recoveries() > before);
    let target = Target::new(cluster.address, "postgres", "postgres");
    eventually("PostgreSQL is back", || {
        Client::try_connect(&target).is_ok_and(|client| client.startup.iter().all(|reply| reply.tag != b'E'))
    });
}

fn nothing_acknowledged_is_lost(mut cluster: Cluster) {
    const CLIENTS: usize = 24;
    prepared(&cluster);

    let (_proxy, target) = start(&cluster, 6);
    let load = Load::start(&target, CLIENTS, u64::MAX);
    for _ in 0..20 {
        load.wait_for_more(20);
        if let Some(pid) = a_backend(&cluster) {
            cluster.admin(DATABASE).run(&format!("SELECT pg_terminate_backend({pid}, 5000)"));
        }
    }
    load.wait_for_more(50);
    let sum = load.end(&cluster, "pg_terminate_backend, 20 times", true);
    assert!(sum.tried - sum.acknowledged <= 40, "each harms one client");

    let (_proxy, target) = start(&cluster, 6);
    let load = Load::start(&target, CLIENTS, u64::MAX);
    for _ in 0..2 {
        load.wait_for_more(100);
        kill_a_backend(&cluster);
    }
    load.wait_for_more(100);
    load.end(&cluster, "kill -9 of a backend, twice", true);

    let (_proxy, target) = start(&cluster, 6);
    let load = Load::start(&target, CLIENTS, u64::MAX);
    for _ in 0..2 {
        load.wait_for_more(100);
        cluster.restart();
    }
    load.wait_for_more(100);
    load.end(&cluster, "PostgreSQL restarts, twice", true);
}

#[test]
fn nothing_acknowledged_is_lost_on_15() {
    let _turn = alone();
    nothing_acknowledged_is_lost(cluster::private("faults-15"));
}

#[test]
fn nothing_acknowledged_is_lost_on_18() {
    let _turn = alone();
    if let Some(cluster) = cluster::private_eighteen("faults-18") {
        nothing_acknowledged_is_lost(cluster);
    }
}

#[test]
fn a_thousand_clients_share_two_servers_and_none_is_forgotten() {
    let _turn = alone();
    let cluster = cluster::private("faults-crowd");
    prepared(&cluster);
    let (_proxy, target) = start(&cluster, 2);
    let load = Load::start(&target, 1_000, 3);
    let sum = load.end(&cluster, "1,000 clients on 2 servers", false);
    assert_eq!((sum.tried, sum.acknowledged), (3_000, 3_000), "{:?}", sum.failures);
}

#[test]
fn slow_readers_keep_their_servers_and_no_others() {
    let _turn = alone();
    let cluster = cluster::private("faults-slow");
    prepared(&cluster);
    let (_proxy, target) = start(&cluster, 4);
    let ask = "SELECT repeat('x', 1000) FROM generate_series(1, 20000)";
    let mut slow: Vec<Client> = (0..3).map(|_| Client::connect_later(&target, ask)).collect();
    let load = Load::start(&target, 24, 20);
    let sum = load.end(&cluster, "3 of 4 servers taken by slow readers", false);
    assert_eq!((sum.tried, sum.acknowledged), (480, 480), "{:?}", sum.failures);
    for client in &mut slow {
        client.patience(Duration::from_secs(40));
        assert_eq!(client.pass_to(b'Z').iter().filter(|(tag, _)| *tag == b'D').count(), 20_000);
    }
}
