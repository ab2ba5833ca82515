//! kill -9 of the proxy, of servers, and of both during bypass transactions: behind the next start every committed one has
//! its intent and its pre-commit record, and every record its true outcome; none stays unknown. Once in front of a guarded
//! database, where `pg_xact_status` tells, and once in front of a sealed one, where the row does that the transaction leaves.
//!
//! `TENANTGATE_CRASHES` is the number of rounds on 15; there are a fifth as many on 18. `make test` runs the short form.
//!
//! Each transaction writes a row with a token of its own and gives the same token as its reason, so that rows and
//! records can be compared without a literal in the ledger. Servers lose what they have not flushed: their log's writer
//! sleeps, and behind each crash others commit under the ids that were lost.

use super::sealed::{configured, owner, prepare};
use super::support::cluster::{Cluster, eighteen};
use super::support::dice::Dice;
use super::support::message::Message;
use super::support::proxy::{self, Proxy, Wish, login_of_its_own};
use super::support::raw::{Client, Target};
use super::support::{alone, eventually, number};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const DATABASE: &str = "crash";

const CLIENTS: u64 = 4;

/// The one of them that has a migration login, in front of a guarded database.
const MIGRATION: u64 = 3;

/// How a client's transactions look, in turn.
const FORMS: u64 = 6;

/// The one that writes nothing.
const READS: u64 = 5;

/// A machine that does not get so far is no machine to test on.
const PATIENCE: Duration = Duration::from_secs(120);

/// How many transactions of others follow a crash, at the least as many as it can have lost.
const OTHERS: u64 = 20;

/// What holds tenants apart in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Guarded,
    Sealed,
}

/// A server, a ledger, and what proxies are started with.
struct Setting {
    cluster: Cluster,
    mode: Mode,
    folder: TempDir,
}

impl Setting {
    fn new(version: u32, mode: Mode) -> Self {
        let cluster = Cluster::own(version, &format!("crash-pg{version}-{mode:?}").to_lowercase());
        let mut admin = cluster.admin("postgres");
        // Nothing is flushed that nobody waits for; and COMMITs wait for nothing.
        admin.run("ALTER SYSTEM SET wal_writer_delay = '10s'");
        admin.run("SELECT pg_reload_conf()");
        assert_eq!(admin.value("SHOW synchronous_commit"), "off");
        admin.run("CREATE ROLE app_bypass LOGIN; CREATE ROLE app_deploy LOGIN");
        match mode {
            Mode::Guarded => {
                cluster.create_database(DATABASE);
                let work = "CREATE TABLE work (token text); GRANT ALL ON work TO app_bypass, app_deploy";
                cluster.admin(DATABASE).run(work);
            }
            Mode::Sealed => {
                prepare(&cluster, DATABASE);
                let rights =
                    "GRANT SELECT, INSERT ON notes TO app_bypass; GRANT SELECT ON tenantgate.bypass TO app_bypass";
                cluster.admin(DATABASE).run(rights);
                let seal = "SELECT tenantgate.allow('app_bypass', 'bypass'), tenantgate.protect('notes', 'tenant')";
                owner(&cluster, DATABASE).run(seal);
            }
        }
        Self { cluster, mode, folder: tempfile::tempdir().unwrap() }
    }

    fn ledger(&self) -> PathBuf {
        self.folder.path().join("ledger.jsonl")
    }

    fn configuration(&self) -> PathBuf {
        self.folder.path().join("tenantgate.toml")
    }

    /// Starts a proxy, whose configuration is left for commands.
    fn proxy(&self) -> Proxy {
        let bypass = login_of_its_own("ops", "bypass", "app_bypass");
        let ledger = proxy::ledger(&self.ledger());
        Proxy::start_with(DATABASE, None, |address, _| {
            let text = match self.mode {
                Mode::Guarded => {
                    // A bypass and a migration login, whose reasons are recorded alike.
                    let migration = login_of_its_own("deploy", "migration", "app_deploy");
                    let tenant = "[logins.deploy.tenant]\nfixed = \"00000000-0000-0000-0000-00000000000a\"\n";
                    let more = format!("{bypass}{migration}{tenant}{ledger}");
                    let wish =
                        Wish { cluster: &self.cluster, database: DATABASE, pool_size: 4, mutant: None, more: &more };
                    proxy::configuration(&wish, address)
                }
                Mode::Sealed => {
                    let sealed = configured(&self.cluster, DATABASE, 4, address);
                    format!("{sealed}\n{bypass}databases = [\"{DATABASE}\"]\n{ledger}")
                }
            };
            std::fs::write(self.configuration(), &text).unwrap();
            text
        })
    }

    /// What inserts a token.
    fn insert(&self, token: &str) -> String {
        match self.mode {
            Mode::Guarded => format!("INSERT INTO work VALUES ({token})"),
            Mode::Sealed => format!("INSERT INTO notes (tenant, note) VALUES ('a', {token})"),
        }
    }

    fn select(&self) -> &'static str {
        match self.mode {
            Mode::Guarded => "SELECT token FROM work LIMIT 1",
            Mode::Sealed => "SELECT note FROM notes LIMIT 1",
        }
    }

    /// The tokens that were committed.
    fn tokens(&self) -> BTreeSet<String> {
        let sql = match self.mode {
            Mode::Guarded => "SELECT token FROM work",
            Mode::Sealed => "SELECT note FROM notes WHERE note ~ '^[0-9]'",
        };
        self.cluster.admin(DATABASE).rows(sql).into_iter().filter_map(|row| row[0].clone()).collect()
    }

    /// The names of the bypass transactions that a sealed database knows to be committed.
    fn names(&self) -> Option<BTreeSet<String>> {
        let mut admin = (self.mode == Mode::Sealed).then(|| self.cluster.admin(DATABASE))?;
        let rows = admin.rows("SELECT audit FROM tenantgate.bypass");
        Some(rows.into_iter().filter_map(|row| row[0].clone()).collect())
    }

    /// Waits until the server is back, and has others commit under the ids that it has lost.
    fn wait_for_server(&self) {
        let target = Target::new(self.cluster.address, "postgres", DATABASE);
        let deadline = Instant::now() + PATIENCE;
        while !Client::try_connect(&target).is_ok_and(|client| client.startup.iter().all(|reply| reply.tag != b'E')) {
            assert!(Instant::now() < deadline, "the server does not come back:\n{}", self.cluster.log());
            std::thread::yield_now();
        }
        let mut admin = self.cluster.admin(DATABASE);
        (0..OTHERS).for_each(|_| drop(admin.run("SELECT pg_current_xact_id()")));
    }

    /// Whether a command of `tenantgate ledger` finds everything well, and what it says.
    fn command(&self, arguments: &[&str]) -> (bool, String) {
        let mut command = Command::new(proxy::binary());
        let output = command.arg("ledger").args(arguments).arg("--config").arg(self.configuration()).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.success(), said)
    }
}

/// One run of clients until proxy or server is gone.
struct Run<'r> {
    setting: &'r Setting,
    address: SocketAddr,
    round: u64,
    is_over: &'r AtomicBool,
}

impl Run<'_> {
    /// Transactions in all forms until it is over, on as many connections as that takes. Each message sent and each answer
    /// is a step.
    fn client(&self, number: u64, steps: &mpsc::Sender<()>) {
        let login = if number == MIGRATION && self.setting.mode == Mode::Guarded { "deploy" } else { "ops" };
        let target = Target::new(self.address, login, DATABASE).password("demo");
        let mut count = 0;
        while !self.is_over.load(Ordering::Acquire) {
            let Ok(mut client) = Client::try_connect(&target) else { continue };
            if client.startup.iter().any(|reply| reply.tag == b'E') {
                // The server is not back for the proxy yet.
                continue;
            }
            client.patience(PATIENCE);
            let mut talk = Talk { client, steps };
            while !self.is_over.load(Ordering::Acquire) {
                count += 1;
                let form = count % FORMS;
                let kind = if form == READS { "r" } else { "w" };
                let token = format!("{}-{number}-{count}{kind}", self.round);
                if self.transaction(&mut talk, form, &token).is_none() {
                    break;
                }
            }
        }
    }

    /// One transaction; `None` once the connection is gone.
    fn transaction(&self, talk: &mut Talk<'_>, form: u64, token: &str) -> Option<()> {
        let set = format!("SET tenantgate.reason = '{token}'");
        let insert = self.setting.insert(&format!("'{token}'"));
        match form {
            0 => {
                talk.query(&set)?;
                talk.query(&insert)
            }
            1 => {
                talk.query("BEGIN")?;
                talk.query(&set)?;
                talk.query(&insert)?;
                talk.query("COMMIT")
            }
            2 => {
                talk.query(&set)?;
                let insert = Message::parse("", &self.setting.insert("$1"));
                talk.client.send_all(&[insert, Message::bind("", &[token]), Message::execute(), Message::Sync]);
                talk.answer()
            }
            3 => {
                talk.query(&format!("BEGIN; SET LOCAL tenantgate.reason = '{token}'; {insert}; COMMIT; SHOW timezone"))
            }
            READS => {
                talk.query(&set)?;
                talk.query(self.setting.select())
            }
            _ => {
                talk.query(&set)?;
                talk.query("BEGIN")?;
                talk.query(&insert)?;
                talk.query("ROLLBACK")
            }
        }
    }
}

/// A client whose steps are counted.
struct Talk<'t> {
    client: Client,
    steps: &'t mpsc::Sender<()>,
}

impl Talk<'_> {
    fn query(&mut self, sql: &str) -> Option<()> {
        self.client.send(&Message::Query(sql.to_owned()));
        self.answer()
    }

    fn answer(&mut self) -> Option<()> {
        self.client.flush().ok()?;
        self.step();
        let answer = self.client.replies_to(b'Z');
        self.step();
        answer.1.is_none().then_some(())
    }

    fn step(&self) {
        // Nobody counts any more once it is over.
        self.steps.send(()).ok();
    }
}

/// What is killed in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Proxy,
    Server,
    Both,
}

/// Whether there was such a process.
fn kill(pid: &str) -> bool {
    let status = Command::new("kill").args(["-9", pid]).stderr(std::process::Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn crashes(version: u32, mode: Mode, rounds: u64) {
    let setting = Setting::new(version, mode);
    let mut dice = Dice::new(number("TENANTGATE_SEED", 4711));
    let mut proxy = setting.proxy();
    for round in 0..rounds {
        let victim = [Victim::Proxy, Victim::Server, Victim::Both][usize::try_from(round % 3).unwrap()];
        one_round(&setting, &proxy, round, victim, 1 + dice.below(150));
        if victim != Victim::Proxy {
            setting.wait_for_server();
        }
        if victim != Victim::Server {
            drop(proxy);
            proxy = setting.proxy();
        }
    }
    // One that was killed last leaves what the next finds out.
    assert!(kill(&proxy.pid.to_string()));
    drop(proxy);
    let proxy = setting.proxy();
    eventually("every outcome is found out", || {
        tenantgate::driver::reconcile::unresolved(&setting.ledger()).is_ok_and(|left| left.is_empty())
    });
    drop(proxy);
    compare(&setting, rounds);
}

fn one_round(setting: &Setting, proxy: &Proxy, round: u64, victim: Victim, point: u64) {
    let is_over = AtomicBool::new(false);
    let (mut admin, decoy) = (setting.cluster.admin(DATABASE), setting.cluster.admin(DATABASE));
    let run = Run { setting, address: proxy.address, round, is_over: &is_over };
    std::thread::scope(|scope| {
        let (sender, steps) = mpsc::channel();
        for number in 0..CLIENTS {
            let (run, sender) = (&run, sender.clone());
            scope.spawn(move || run.client(number, &sender));
        }
        let reached = (0..point).all(|_| steps.recv_timeout(PATIENCE).is_ok());
        let is_server_killed = victim == Victim::Proxy || kill_server(&mut admin, &decoy, victim, proxy);
        let is_proxy_killed = victim != Victim::Proxy || kill(&proxy.pid.to_string());
        is_over.store(true, Ordering::Release);
        // Said only now that nobody is left who would be waited for.
        assert!(reached, "round {round}: {point} steps are not reached\n{}", proxy.log_tail());
        assert!(is_server_killed && is_proxy_killed, "round {round}: nothing was killed\n{}", proxy.log_tail());
    });
}

const KILLABLE: &str =
    "SELECT pid FROM pg_stat_activity WHERE usename IN ('app_bypass', 'app_deploy') ORDER BY random() LIMIT 1";

/// Ends one of the proxy's servers: PostgreSQL then restarts all of them. With it the proxy, if both are to go.
///
/// A process that was just ending by itself takes the signal, and no harm: then it is another's turn, and in the end, when
/// the proxy's servers have gone with it, one of our own.
fn kill_server(admin: &mut Client, decoy: &Client, victim: Victim, proxy: &Proxy) -> bool {
    let deadline = Instant::now() + PATIENCE;
    let mut is_proxy_due = victim == Victim::Both;
    while Instant::now() < deadline {
        let is_sent = admin.send(&Message::Query(KILLABLE.to_owned())).flush().is_ok();
        let (replies, silence) = admin.replies_to(b'Z');
        if !is_sent || silence.is_some() || replies.iter().any(|reply| reply.tag == b'E') {
            // PostgreSQL has noticed.
            return !is_proxy_due;
        }
        let found = replies.iter().find(|reply| reply.tag == b'D').and_then(|reply| reply.row().remove(0));
        if kill(&found.unwrap_or_else(|| decoy.process_id().to_string())) && is_proxy_due {
            is_proxy_due = !kill(&proxy.pid.to_string());
        }
    }
    false
}

/// What the ledger says.
#[derive(Default)]
struct Said {
    /// The transactions' names, by their reasons.
    intents: BTreeMap<String, String>,
    announced: BTreeSet<String>,
    results: BTreeMap<String, String>,
    found_out: BTreeMap<String, u64>,
    /// Pre-commit records of transactions whose ids a crash could have lost.
    unflushed: u64,
    torn: u64,
}

impl Said {
    fn read(setting: &Setting) -> Self {
        let mut said = Self::default();
        for line in std::fs::read_to_string(setting.ledger()).unwrap().lines() {
            let Ok(record) = serde_json::from_str::<Value>(line) else {
                said.torn += 1;
                continue;
            };
            let word = |name: &str| record[name].as_str().unwrap().to_owned();
            match record["kind"].as_str() {
                Some("intent") => drop(said.intents.insert(word("reason"), word("id"))),
                Some("precommit") => {
                    said.announced.insert(word("id"));
                    said.unflushed += u64::from(record["xid"].is_string() && record["flushed"] == false);
                }
                Some("outcome") => drop(said.results.insert(word("id"), word("result"))),
                Some("reconciled") => {
                    let known = said.results.insert(word("id"), word("result"));
                    assert!(known.is_none_or(|known| known == "unknown"), "{record}");
                    let what = format!("{} by {}", word("result"), word("evidence"));
                    *said.found_out.entry(what).or_default() += 1;
                }
                _ => {}
            }
        }
        said
    }

    /// Whether a transaction is committed.
    fn is_committed(&self, token: &str, id: &str) -> bool {
        match self.results.get(id).map(String::as_str) {
            Some("committed") => true,
            Some("rolled_back" | "failed") => false,
            other => panic!("{token} is {other:?} in the ledger"),
        }
    }
}

fn compare(setting: &Setting, rounds: u64) {
    let mut admin = setting.cluster.admin(DATABASE);
    let deadline = Instant::now() + PATIENCE;
    while admin.value("SELECT count(*) FROM pg_stat_activity WHERE usename IN ('app_bypass', 'app_deploy')") != "0" {
        assert!(Instant::now() < deadline, "servers of a dead proxy stay");
    }
    let (said, tokens) = (Said::read(setting), setting.tokens());
    let is_recorded = |token: &&String| said.intents.get(*token).is_some_and(|id| said.announced.contains(id));
    let without: Vec<_> = tokens.iter().filter(|token| !is_recorded(token)).collect();
    assert!(without.is_empty(), "committed without intent and pre-commit record: {without:?}");
    let mut committed = BTreeSet::new();
    for (token, id) in &said.intents {
        let is_committed = said.is_committed(token, id);
        if token.ends_with('w') {
            assert_eq!(
                is_committed,
                tokens.contains(token),
                "{token}: the ledger says one thing, the database another"
            );
        }
        if is_committed {
            committed.insert(id.clone());
        }
    }
    if let Some(names) = setting.names() {
        // In a sealed database reading leaves a row, too.
        assert_eq!(names, committed);
    }
    assert_eq!(said.unflushed, 0, "COMMITs were sent in front of what a crash may lose");
    let (is_well, words) = setting.command(&["verify"]);
    assert!(is_well, "{words}");
    let (is_well, words) = setting.command(&["reconcile"]);
    assert!(is_well && words.contains("0 outcomes were unknown"), "{words}");
    println!(
        "PostgreSQL {} {:?}: {rounds} kills, {} rows, {} intents, {} committed, found out {:?}, {} torn lines",
        setting.cluster.version,
        setting.mode,
        tokens.len(),
        said.intents.len(),
        committed.len(),
        said.found_out,
        said.torn
    );
    assert!(tokens.len() as u64 > rounds, "too few transactions to prove anything");
    if setting.mode == Mode::Guarded {
        let migrations = tokens.iter().filter(|token| token.split('-').nth(1) == Some(&MIGRATION.to_string())).count();
        assert!(migrations as u64 > rounds / 10, "too few of migration logins: {migrations}");
    }
}

fn crashes_everywhere(mode: Mode) {
    let _turn = alone();
    let rounds = number("TENANTGATE_CRASHES", 12);
    crashes(15, mode, rounds);
    if eighteen().is_some() {
        crashes(18, mode, rounds / 5);
    }
}

#[test]
fn every_committed_bypass_transaction_has_its_record_and_every_record_its_true_outcome() {
    crashes_everywhere(Mode::Guarded);
}

#[test]
fn so_it_is_in_front_of_a_sealed_database() {
    crashes_everywhere(Mode::Sealed);
}
