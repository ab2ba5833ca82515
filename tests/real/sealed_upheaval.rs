//! A sealed database under load while proxies and servers are restarted, replaced and fail over: which transactions fail, with
//! what; none where none has to.
//!
//! Eight clients of four tenants leave a mark in each transaction, in three forms: a block of several Queries, one Query of two
//! statements, the extended protocol. What they were told is compared with what the server has. A client whose connection is
//! closed connects again, to whichever proxy takes it.
//!
//! `TENANTGATE_UPHEAVAL_ROUNDS` repeats each act that leaves all as it was (1).

use crate::sealed;
use crate::support::cluster::{self, Cluster};
use crate::support::message::Message;
use crate::support::proxy::{Proxy, Wish};
use crate::support::raw::{Client, Target};
use crate::support::reply::Reply;
use crate::support::{alone, eventually, number};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const DATABASE: &str = "sealed_upheaval";
const CLIENTS: usize = 8;
const TENANTS: usize = 4;
const POOL: u32 = 4;

const TABLES: &str = "
CREATE TABLE marks (tenant uuid NOT NULL, client int NOT NULL, n bigint NOT NULL);
GRANT SELECT, INSERT ON marks TO app_user;
SELECT tenantgate.protect('marks', 'tenant');
";

/// Commands go to the proxy as an operator's do.
const CONSOLE: &str = "
[console]
admins = [\"ops\"]
[logins.ops]
password = \"demo\"
preset = \"console\"
";

/// Where clients find a proxy.
type Door = Box<dyn Fn(&str) -> Target + Send + Sync>;

/// What came of one transaction.
enum Told {
    /// It is done.
    Done,
    /// The session had ended before it began.
    Moved,
    /// In whatever words.
    Failed(String),
}

/// What clients share.
#[derive(Default)]
struct Books {
    is_over: AtomicBool,
    done: [AtomicU64; CLIENTS],
    /// Sessions that were ended between transactions.
    moved: AtomicU64,
    acknowledged: Mutex<BTreeSet<(usize, u64)>>,
    failures: Mutex<BTreeMap<String, u64>>,
}

impl Books {
    fn fail(&self, words: String) {
        *self.failures.lock().expect("nobody fails with it").entry(words).or_default() += 1;
    }

    /// Waits until every client has done more.
    fn wait_for_more(&self) {
        let now = || self.done.each_ref().map(|done| done.load(Ordering::Relaxed));
        let before = now();
        eventually("every client goes on", || now().iter().zip(&before).all(|(now, before)| *now > before + 3));
    }
}

fn tenant(client: usize) -> String {
    format!("00000000-0000-0000-0000-{:012x}", client % TENANTS + 1)
}

/// Goes on until it is over; a lost connection is made again.
fn work(books: &Books, index: usize, doors: &[Door]) {
    let own = tenant(index);
    let (mut client, mut next, mut n) = (None::<Client>, 0, 0);
    while !books.is_over.load(Ordering::Relaxed) {
        let Some(connected) = client.as_mut() else {
            // The last one that was tried stays, until it does not take it any more.
            match Client::try_connect(&doors[next % doors.len()](&own)) {
                Ok(new) => match refusal(&new.startup) {
                    None => client = Some(new),
                    Some(words) if words.starts_with("TG054") => next += 1,
                    Some(words) => {
                        books.fail(format!("at login: {words}"));
                        next += 1;
                    }
                },
                // Nobody is there.
                Err(_) => next += 1,
            }
            if client.is_none() {
                std::thread::sleep(Duration::from_millis(20));
            }
            continue;
        };
        n += 1;
        match transaction(connected, index, n, &own) {
            Told::Done => {
                books.acknowledged.lock().expect("nobody fails with it").insert((index, n));
                books.done[index].fetch_add(1, Ordering::Relaxed);
                continue;
            }
            Told::Moved => drop(books.moved.fetch_add(1, Ordering::Relaxed)),
            Told::Failed(words) => books.fail(words),
        }
        client = None;
    }
}

fn refusal(replies: &[Reply]) -> Option<String> {
    let error = replies.iter().find(|reply| reply.tag == b'E')?.fields();
    let words = &error[&'M'];
    // Ours begin with their code, PostgreSQL's do not.
    Some(if words.starts_with("TG") { words.clone() } else { format!("{} {words}", error[&'C']) })
}

/// What was said to one message; `Err`: it failed.
fn say(client: &mut Client, messages: &[Message]) -> Result<Vec<Reply>, String> {
    client.send_all(messages);
    // A connection that has ended says so when it is read.
    drop(client.flush());
    let (replies, silence) = client.replies_to(b'Z');
    match (refusal(&replies), silence) {
        (Some(words), _) => Err(words),
        (None, Some(silence)) => Err(format!("{silence:?} without a word")),
        (None, None) => Ok(replies),
    }
}

fn transaction(client: &mut Client, index: usize, n: u64, own: &str) -> Told {
    let insert = format!("INSERT INTO marks VALUES ('{own}', {index}, {n})");
    let look = "SELECT count(DISTINCT tenant) || ' ' || min(tenant::text) FROM marks";
    let query = |sql: &str| vec![Message::Query(sql.to_owned())];
    let messages = match n % 3 {
        0 => vec![query("BEGIN"), query(&insert), query(look), query("COMMIT")],
        1 => vec![query(&format!("{insert}; {look}"))],
        _ => {
            let extended = |sql: &str| [Message::parse("", sql), Message::bind("", &[]), Message::execute()];
            let mut all = Vec::from(extended(&insert));
            all.extend(extended(look));
            all.push(Message::Sync);
            vec![all]
        }
    };
    for (step, message) in messages.iter().enumerate() {
        match say(client, message) {
            Ok(replies) => {
                let rows = replies.iter().filter(|reply| reply.tag == b'D').map(Reply::row);
                let seen: Vec<_> = rows.flatten().flatten().collect();
                assert!(seen.iter().all(|seen| *seen == format!("1 {own}")), "{own} sees {seen:?}");
            }
            Err(words) if step == 0 && words.starts_with("TG054") => return Told::Moved,
            Err(words) => return Told::Failed(words),
        }
    }
    Told::Done
}

/// What an act did to the load.
struct Outcome {
    act: &'static str,
    done: usize,
    moved: u64,
    failures: BTreeMap<String, u64>,
    /// Marks that clients were told of and the server has not.
    lost: usize,
    /// Marks that the server has and nobody was told of.
    unsure: usize,
}

/// Runs the load through these doors while `act` happens.
fn under_load<T>(
    name: &'static str,
    doors: &[Door],
    outcomes: &mut Vec<Outcome>,
    act: impl FnOnce(&Books) -> T,
    who_has_it: impl FnOnce(&T) -> Client,
) -> T {
    let books = Books::default();
    let acted = std::thread::scope(|scope| {
        for index in 0..CLIENTS {
            let books = &books;
            scope.spawn(move || work(books, index, doors));
        }
        books.wait_for_more();
        let acted = act(&books);
        books.wait_for_more();
        books.is_over.store(true, Ordering::Relaxed);
        acted
    });
    let mut admin = who_has_it(&acted);
    let kept: Vec<(usize, u64)> = admin
        .rows("SELECT client, n FROM marks")
        .iter()
        .map(|row| [0, 1].map(|at| row[at].as_deref().expect("a number")))
        .map(|[client, n]| (client.parse().expect("a client"), n.parse().expect("a mark")))
        .collect();
    admin.run("TRUNCATE marks");
    let set: BTreeSet<_> = kept.iter().copied().collect();
    assert_eq!(set.len(), kept.len(), "{name}: a mark is there twice");
    let acknowledged = books.acknowledged.into_inner().expect("nobody failed with it");
    outcomes.push(Outcome {
        act: name,
        done: acknowledged.len(),
        moved: books.moved.into_inner(),
        failures: books.failures.into_inner().expect("nobody failed with it"),
        lost: acknowledged.difference(&set).count(),
        unsure: set.difference(&acknowledged).count(),
    });
    acted
}

impl Outcome {
    /// Nothing that was promised is lost, and what nobody was told of is no more than what failed.
    fn assert_kept(&self) {
        let failed: u64 = self.failures.values().sum();
        assert_eq!(self.lost, 0, "{}: {:?}", self.act, self.failures);
        assert!(self.unsure as u64 <= failed, "{}: {} unsure, {:?}", self.act, self.unsure, self.failures);
    }

    fn assert_clean(&self) {
        self.assert_kept();
        assert!(self.failures.is_empty(), "{}: {:?}", self.act, self.failures);
    }

    /// Errors that are said of this in docs/operations.md, and no other.
    fn assert_documented(&self) {
        self.assert_kept();
        // A server that ends says 57P01, and 57P03 while it ends or begins.
        let known = ["57P01", "57P02", "57P03", "TG052", "TG053", "TG094"];
        let is_known = |words: &String| {
            let words = words.strip_prefix("at login: ").unwrap_or(words);
            known.iter().any(|code| words.starts_with(code))
        };
        assert!(self.failures.keys().all(is_known), "{}: {:?}", self.act, self.failures);
    }
}

fn print(version: u32, outcomes: &[Outcome]) {
    eprintln!(
        "PostgreSQL {version}\n| act | done | ended between transactions | failed | lost | with |\n|---|---|---|---|---|---|"
    );
    for Outcome { act, done, moved, failures, lost, .. } in outcomes {
        let with: Vec<String> = failures.iter().map(|(what, count)| format!("{count} × {what}")).collect();
        let failed: u64 = failures.values().sum();
        eprintln!("| {act} | {done} | {moved} | {failed} | {lost} | {} |", with.join("; "));
    }
}

fn prepare(cluster: &Cluster) {
    cluster.create_database(DATABASE);
    let mut admin = cluster.admin(DATABASE);
    sealed::seal(&mut admin, DATABASE);
    admin.run(TABLES);
    // Off in the tests' clusters: what dies at once would have promised too much.
    admin.run("ALTER SYSTEM SET synchronous_commit = on");
    admin.run("SELECT pg_reload_conf()");
}

fn start(cluster: &Cluster, more: &str) -> Proxy {
    let more = format!("{CONSOLE}{more}");
    sealed::start_sealing(&Wish { cluster, database: DATABASE, pool_size: POOL, mutant: None, more: &more })
}

fn door(proxy: &Proxy) -> Door {
    let address = proxy.address;
    Box::new(move |tenant| Target::new(address, &format!("app_user.{tenant}"), DATABASE))
}

fn console(proxy: &Proxy) -> Client {
    Client::connect(&Target::new(proxy.address, "ops", "tenantgate").password("demo"))
}

/// What leaves all as it was.
fn restarts(cluster: &mut Cluster, outcomes: &mut Vec<Outcome>) {
    let proxy = start(cluster, "");
    let doors = [door(&proxy)];
    let address = cluster.address;
    let has_it = |(): &()| admin(address);
    for _ in 0..number("TENANTGATE_UPHEAVAL_ROUNDS", 1) {
        let reconnect = |books: &Books| {
            for _ in 0..3 {
                console(&proxy).run("RECONNECT");
                books.wait_for_more();
            }
        };
        under_load("RECONNECT, three times", &doors, outcomes, reconnect, has_it);
        let restart = |_: &Books| {
            let mut console = console(&proxy);
            console.run("PAUSE");
            cluster.restart();
            console.run("RESUME");
        };
        under_load("PAUSE, PostgreSQL restarts, RESUME", &doors, outcomes, restart, has_it);
        under_load("PostgreSQL restarts", &doors, outcomes, |_| cluster.restart(), has_it);
        one_proxy_behind_another(cluster, outcomes);
    }
}

fn admin(address: SocketAddr) -> Client {
    Client::connect(&Target::new(address, "postgres", DATABASE))
}

/// The old proxy lets nobody in and ends; its clients find the new one.
fn one_proxy_behind_another(cluster: &Cluster, outcomes: &mut Vec<Outcome>) {
    let has_it = |(): &()| admin(cluster.address);
    let (mut old, new) = (start(cluster, ""), start(cluster, ""));
    let doors = [door(&old), door(&new)];
    let hand_over = |_: &Books| {
        old.signal("TERM");
        let status = old.wait_until_it_ends(Duration::from_secs(30));
        assert!(status.is_some_and(|status| status.success()), "{}", old.log_tail());
    };
    under_load("SIGTERM, another proxy takes over", &doors, outcomes, hand_over, has_it);
}

fn replayed(primary: &Cluster, standby: &Cluster) {
    let written = primary.admin("postgres").value("SELECT pg_current_wal_flush_lsn()");
    let mut there = standby.admin("postgres");
    let question = format!("SELECT pg_last_wal_replay_lsn() >= '{written}'");
    eventually("the standby has it all", || there.value(&question) == "t");
}

/// The primary is replaced on purpose: nobody is told.
fn switch_over(mut primary: Cluster, outcomes: &mut Vec<Outcome>) -> Cluster {
    let standby = primary.standby(&format!("upheaval-second-{}", primary.version));
    let proxy = start(&primary, "");
    let doors = [door(&proxy)];
    let port = |cluster: &Cluster| format!("port = {}", cluster.address.port());
    let act = |_: &Books| {
        let mut console = console(&proxy);
        console.run("PAUSE");
        replayed(&primary, &standby);
        let from = port(&primary);
        primary.stop_at_once();
        standby.admin("postgres").run("SELECT pg_promote()");
        proxy.edit(&from, &port(&standby));
        assert!(proxy.reload(), "{}", proxy.log_tail());
        console.run("RESUME");
    };
    let address = standby.address;
    under_load("PAUSE, fail-over to the standby, RELOAD, RESUME", &doors, outcomes, act, |()| admin(address));
    standby
}

/// The primary is lost; its hosts are listed, and commits wait for the standby.
fn fail_over(mut primary: Cluster, outcomes: &mut Vec<Outcome>) {
    let standby = primary.standby(&format!("upheaval-third-{}", primary.version));
    let mut owner = primary.admin("postgres");
    owner.run("ALTER SYSTEM SET synchronous_standby_names = '*'");
    owner.run("SELECT pg_reload_conf()");
    eventually("commits wait for the standby", || {
        owner.value("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == "1"
    });
    let proxy = start(&primary, "");
    let one = format!("host = \"127.0.0.1\"\nport = {}", primary.address.port());
    let both =
        format!("hosts = [\"{}\", \"{}\"]\ntarget_session_attrs = \"read-write\"", primary.address, standby.address);
    proxy.edit(&one, &both);
    proxy.edit("wait_timeout = \"20s\"", "wait_timeout = \"20s\"\nconnect_backoff_max = \"1s\"");
    assert!(proxy.reload(), "{}", proxy.log_tail());
    let doors = [door(&proxy)];
    let act = |_: &Books| {
        primary.stop_at_once();
        standby.admin("postgres").run("SELECT pg_promote()");
    };
    let address = standby.address;
    under_load("the primary dies, hosts are listed", &doors, outcomes, act, |()| admin(address));
}

fn what_fails(mut cluster: Cluster) {
    let version = cluster.version;
    prepare(&cluster);
    let mut outcomes = Vec::new();
    restarts(&mut cluster, &mut outcomes);
    let second = switch_over(cluster, &mut outcomes);
    fail_over(second, &mut outcomes);
    print(version, &outcomes);
    for outcome in &outcomes {
        match outcome.act {
            "PostgreSQL restarts" | "the primary dies, hosts are listed" => outcome.assert_documented(),
            "SIGTERM, another proxy takes over" => {
                outcome.assert_clean();
                assert!(outcome.moved > 0, "nobody was on the proxy that ended");
            }
            _ => {
                outcome.assert_clean();
                assert_eq!(outcome.moved, 0, "{}", outcome.act);
            }
        }
    }
}

#[test]
fn what_fails_on_a_sealed_database_on_15() {
    let _turn = alone();
    what_fails(cluster::private("sealed-upheaval"));
}

#[test]
fn what_fails_on_a_sealed_database_on_18() {
    let _turn = alone();
    if let Some(cluster) = cluster::private_eighteen("sealed-upheaval-18") {
        what_fails(cluster);
    }
}
