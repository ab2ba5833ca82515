//! What a disk does to the ledger: it is full, refuses, loses the file, takes for ever, cannot rename. Whatever is not on it
//! is not committed, tenants go on, and the chain stays whole. `tenantgate ledger verify` as a process says so.

use super::support::cluster::{Cluster, fifteen};
use super::support::inside::Inside;
use super::support::message::Message;
use super::support::proxy::{self, Proxy, Wish, ledger, login_of_its_own};
use super::support::raw::{Client, Target};
use super::support::reply::Reply;
use super::support::{alone, eventually};
use serde_json::Value;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use tenantgate::driver::Hooks;

const ACME: &str = "00000000-0000-0000-0000-00000000000a";
const INSERT: &str = "INSERT INTO work VALUES ('one')";

/// What the disk does with a record of the kind that it is told.
#[derive(Clone, Copy, Default)]
pub(super) enum Mood {
    #[default]
    Well,
    Fails(&'static str, ErrorKind),
    Hangs(&'static str),
}

#[derive(Default)]
pub(super) struct Disk {
    mood: Mutex<Mood>,
    changed: Condvar,
}

impl Disk {
    pub(super) fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
        self.changed.notify_all();
    }

    pub(super) fn sync(&self, file: &File) -> io::Result<()> {
        let last = last_kind(file)?;
        let mood = self.mood.lock().unwrap();
        let is_held = |mood: &mut Mood| matches!(mood, Mood::Hangs(kind) if *kind == last);
        match *self.changed.wait_while(mood, is_held).unwrap() {
            Mood::Fails(kind, error) if kind == last => Err(io::Error::from(error)),
            Mood::Well | Mood::Fails(..) | Mood::Hangs(_) => file.sync_data(),
        }
    }
}

/// Ends a hang however the test ends: the ledger's thread would wait for ever.
pub(super) struct Healed(pub(super) Arc<Disk>);

impl Drop for Healed {
    fn drop(&mut self) {
        self.0.set(Mood::Well);
    }
}

/// The kind of a file's last record.
fn last_kind(file: &File) -> io::Result<String> {
    let length = file.metadata()?.len();
    let count = length.min(64 << 10);
    let mut bytes = vec![0; usize::try_from(count).unwrap()];
    file.read_exact_at(&mut bytes, length - count)?;
    let text = String::from_utf8_lossy(&bytes);
    let last = text.lines().last().and_then(|line| serde_json::from_str::<Value>(line).ok());
    Ok(last.map_or_else(String::new, |record| record["kind"].as_str().unwrap_or_default().to_owned()))
}

/// A database with a bypass login, and where its ledger is.
pub(super) struct Place {
    cluster: &'static Cluster,
    database: String,
    pub(super) folder: tempfile::TempDir,
    path: PathBuf,
}

impl Place {
    pub(super) fn new(name: &str) -> Self {
        let (cluster, database) = (fifteen(), format!("faults_{name}"));
        cluster.create_database(&database);
        cluster.admin(&database).run(
            "DO $$ BEGIN CREATE ROLE app_faults LOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
             CREATE TABLE work (token text); GRANT ALL ON work TO app_faults, app_user",
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.jsonl");
        Self { cluster, database, folder, path }
    }

    pub(super) fn with_wish<T>(&self, more: &str, start: impl FnOnce(&Wish<'_>) -> T) -> T {
        let more = login_of_its_own("ops", "bypass", "app_faults") + &ledger(&self.path) + more;
        start(&Wish { cluster: self.cluster, database: &self.database, pool_size: 2, mutant: None, more: &more })
    }

    fn rows(&self) -> usize {
        self.cluster.admin(&self.database).value("SELECT count(*) FROM work").parse().unwrap()
    }

    pub(super) fn records(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Of transactions, by their results.
    fn outcomes(&self, result: &str) -> usize {
        self.records().iter().filter(|record| record["kind"] == "outcome" && record["result"] == result).count()
    }

    fn is_settled(&self) -> bool {
        let records = self.records();
        let of = |kind: &str| records.iter().filter(|record| record["kind"] == kind).count();
        of("intent") == of("outcome")
    }

    /// Nothing is invented or lost: as many commits in the ledger as rows, and every record in its place.
    fn check(&self, committed: usize) {
        eventually("every intent has its outcome", || self.is_settled());
        assert_eq!((self.rows(), self.outcomes("committed")), (committed, committed), "{:?}", self.records());
        assert_eq!(verify(&self.path, &[]).0, Some(0), "{:?}", verify(&self.path, &[]));
    }
}

fn tenantgate(arguments: &[&str], path: &Path) -> (Option<i32>, String) {
    let output = Command::new(proxy::binary()).args(arguments).arg(path).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

fn verify(path: &Path, more: &[&str]) -> (Option<i32>, String) {
    tenantgate(&[&["ledger", "verify"], more, &["--ledger"]].concat(), path)
}

fn ops(target: &Target) -> Client {
    Client::connect(&target.clone().with("tenantgate.reason", "a test"))
}

pub(super) fn error(replies: &[Reply]) -> String {
    replies.iter().find(|reply| reply.tag == b'E').map(|reply| reply.line(&mut vec![])).unwrap_or_default()
}

fn tenants_go_on(tenant: &mut Client) {
    for _ in 0..50 {
        tenant.run("SELECT count(*) FROM work");
    }
}

/// In the forms in which COMMIT reaches a server: the client's own, the proxy's, and that of a Sync.
fn transaction(client: &mut Client, form: usize) -> Vec<Reply> {
    match form {
        0 => {
            client.run("BEGIN");
            client.run(INSERT);
            client.send(&Message::Query("COMMIT".to_owned()));
        }
        1 => drop(client.send(&Message::Query(INSERT.to_owned()))),
        _ => client.send_all(&[Message::parse("", INSERT), Message::bind("", &[]), Message::execute(), Message::Sync]),
    }
    client.flush().unwrap();
    client.replies_to(b'Z').0
}

#[test]
fn what_a_failing_disk_has_not_is_not_committed() {
    let place = Place::new("failing");
    let disk = Arc::new(Disk::default());
    let _healed = Healed(Arc::clone(&disk));
    let failing = Arc::clone(&disk);
    let hooks = Hooks { sync: Some(Arc::new(move |file: &File| failing.sync(file))), ..Hooks::default() };
    let proxy = place.with_wish("", |wish| Inside::start_hooked(wish, hooks));
    let mut tenant = Client::connect(&proxy.target(ACME));
    let mut client = ops(&proxy.login("ops", "demo"));
    for (count, kind) in ["precommit", "intent"].into_iter().enumerate() {
        for (again, failure) in [ErrorKind::StorageFull, ErrorKind::PermissionDenied].into_iter().enumerate() {
            // A client that is refused at BEGIN has no block.
            for form in usize::from(kind == "intent")..3 {
                eventually("the last one's outcome is written", || place.is_settled());
                disk.set(Mood::Fails(kind, failure));
                let replies = transaction(&mut client, form);
                assert!(error(&replies).contains("TG062"), "{kind} {form}: {replies:?}");
                tenants_go_on(&mut tenant);
                assert_eq!(place.rows(), 2 * count + again, "{kind} {form} is committed");
                disk.set(Mood::Well);
                client.run("ROLLBACK");
            }
            assert_eq!(error(&transaction(&mut client, 0)), "");
        }
    }
    place.check(4);
}

#[test]
fn a_file_that_is_gone_in_front_of_commit_commits_nothing() {
    let place = Place::new("gone");
    let proxy = place.with_wish("", Proxy::start);
    let mut tenant = Client::connect(&proxy.target(ACME));
    let mut client = ops(&Target::new(proxy.address, "ops", &place.database).password("demo"));
    client.run("BEGIN");
    client.run(INSERT);
    // Something is in its place that nobody may write to, root neither.
    let aside = place.folder.path().join("aside");
    std::fs::rename(&place.path, &aside).unwrap();
    std::fs::create_dir(&place.path).unwrap();
    assert!(error(&client.query("COMMIT")).contains("TG062"));
    client.run("ROLLBACK");
    assert!(error(&client.query(INSERT)).contains("TG062"));
    tenants_go_on(&mut tenant);
    assert_eq!(place.rows(), 0);
    std::fs::remove_dir(&place.path).unwrap();
    std::fs::rename(&aside, &place.path).unwrap();
    client.run(INSERT);
    place.check(1);
}

/// A limit on the size of files is a full disk to whoever writes: a part of the record goes in, and the rest does not.
#[test]
fn a_full_disk_stops_bypasses_and_nobody_else() {
    let place = Place::new("full");
    let mut proxy = place.with_wish("", Proxy::start);
    let mut tenant = Client::connect(&proxy.target(ACME));
    let mut client = ops(&Target::new(proxy.address, "ops", &place.database).password("demo"));
    assert_eq!(error(&transaction(&mut client, 0)), "");
    eventually("its outcome is written", || place.is_settled());
    let text = std::fs::read_to_string(&place.path).unwrap();
    let lengths: Vec<usize> = text.lines().skip(1).map(|line| line.len() + 1).collect();
    let [intent, precommit, outcome] = lengths[..] else { panic!("{text}") };
    let mut committed = 1;
    // In the middle of the intent, of the pre-commit record, of the outcome.
    for (room, is_committed) in
        [(intent / 2, false), (intent + precommit / 2, false), (intent + precommit + outcome / 2, true)]
    {
        let length = std::fs::metadata(&place.path).unwrap().len();
        limit(&proxy, &format!("{}:", length + room as u64));
        let replies = transaction(&mut client, 1);
        assert_eq!(error(&replies).contains("TG062"), !is_committed, "{replies:?}");
        committed += usize::from(is_committed);
        tenants_go_on(&mut tenant);
        assert!(proxy.is_alive(), "{}", proxy.log_tail());
        assert_eq!(place.rows(), committed);
        assert!(error(&transaction(&mut client, 1)).contains("TG062"));
        limit(&proxy, "unlimited:");
        // What could not be written is, in front of the next.
        assert_eq!(error(&transaction(&mut client, 0)), "");
        committed += 1;
        eventually("every intent has its outcome", || place.is_settled());
    }
    place.check(committed);
}

/// The size that files of this process may have.
fn limit(proxy: &Proxy, bytes: &str) {
    let (pid, size) = (format!("--pid={}", proxy.pid), format!("--fsize={bytes}"));
    assert!(Command::new("prlimit").args([pid, size]).status().unwrap().success());
}

#[test]
fn a_disk_that_takes_for_ever_is_not_waited_for() {
    let _turn = alone();
    let place = Place::new("hanging");
    let disk = Arc::new(Disk::default());
    let healed = Healed(Arc::clone(&disk));
    let hanging = Arc::clone(&disk);
    let hooks = Hooks { sync: Some(Arc::new(move |file: &File| hanging.sync(file))), ..Hooks::default() };
    let proxy = place.with_wish("write_timeout = \"300ms\"\n", |wish| Inside::start_hooked(wish, hooks));
    let mut tenant = Client::connect(&proxy.target(ACME));
    for kind in ["precommit", "intent"] {
        for form in usize::from(kind == "intent")..3 {
            let mut client = ops(&proxy.login("ops", "demo"));
            eventually("the last one's outcome is written", || place.is_settled());
            disk.set(Mood::Hangs(kind));
            let replies = transaction(&mut client, form);
            assert!(error(&replies).contains("TG062"), "{kind} {form}: {replies:?}");
            // Another one does not get in either, and tenants do.
            let mut other = ops(&proxy.login("ops", "demo"));
            assert!(error(&other.query(INSERT)).contains("TG062"));
            tenants_go_on(&mut tenant);
            assert_eq!(place.rows(), 0, "{kind} {form} is committed");
            disk.set(Mood::Well);
        }
    }
    // A disk that others keep busy may still take longer than is waited for: refused, then, and nothing committed.
    eventually("it goes on", || {
        let mut client = ops(&proxy.login("ops", "demo"));
        client.patience(Duration::from_secs(30));
        error(&transaction(&mut client, 0)).is_empty()
    });
    drop(healed);
    place.check(1);
}

#[test]
fn keys_proxies_and_verification_are_of_one_mind() {
    let place = Place::new("signed");
    let key = place.folder.path().join("ledger.key");
    let (status, public) = tenantgate(&["ledger", "keygen", "--name", "faults"], &key);
    assert_eq!(status, Some(0), "{public}");
    let more = format!("signing_key_file = {key:?}\ncheckpoint_records = 7\n");
    let mut proxy = place.with_wish(&more, Proxy::start);
    let mut client = ops(&Target::new(proxy.address, "ops", &place.database).password("demo"));
    for form in 0..9 {
        assert_eq!(error(&transaction(&mut client, form % 3)), "");
    }
    client.bye();
    proxy.signal("TERM");
    assert!(proxy.wait_until_it_ends(Duration::from_secs(30)).is_some_and(|status| status.success()));
    let by_key = ["--public-key", public.trim(), "--signed-to-end"];
    let (status, said) = verify(&place.path, &by_key);
    assert_eq!(status, Some(0), "{said}");
    place.check(9);
    let good = std::fs::read(&place.path).unwrap();
    for place_of_it in [9, good.len() / 3, good.len() / 2, good.len() - 9] {
        let mut changed = good.clone();
        changed[place_of_it] ^= 1;
        std::fs::write(&place.path, &changed).unwrap();
        let (status, said) = verify(&place.path, &by_key);
        assert!(status == Some(1) && said.contains("WRONG"), "byte {place_of_it}: {status:?} {said}");
    }
    std::fs::write(&place.path, &good).unwrap();
    assert_eq!(verify(&place.path, &by_key).0, Some(0));
    // By another's key nothing is.
    let (_, other) = tenantgate(&["ledger", "keygen", "--name", "faults"], &place.folder.path().join("other.key"));
    assert_eq!(verify(&place.path, &["--public-key", other.trim()]).0, Some(1));
}

#[test]
fn a_file_that_cannot_be_rotated_is_written_on() {
    let mut place = Place::new("rotated");
    // With the number behind it, its name would be too long.
    place.path = place.folder.path().join("l".repeat(240));
    let proxy = place.with_wish("rotate_bytes = 4096\n", Proxy::start);
    let mut client = ops(&Target::new(proxy.address, "ops", &place.database).password("demo"));
    for form in 0..12 {
        assert_eq!(error(&transaction(&mut client, form % 3)), "");
    }
    place.check(12);
    assert!(std::fs::metadata(&place.path).unwrap().len() > 2 * 4096);
    assert_eq!(proxy.log().matches("cannot be rotated").count(), 1, "{}", proxy.log());
}

/// kill -9 while closed files are being compressed: each start finds one chain, and in the end all of them are compressed.
#[test]
fn a_proxy_that_is_killed_while_it_compresses_loses_nothing() {
    let place = Place::new("packed");
    let wish = "rotate_bytes = 4096\ncompress = \"gzip\"\n";
    let mut committed = 0;
    for round in 0..5 {
        let mut proxy = place.with_wish(wish, Proxy::start);
        let mut client = ops(&Target::new(proxy.address, "ops", &place.database).password("demo"));
        for form in 0..8 + round {
            assert_eq!(error(&transaction(&mut client, form % 3)), "");
            committed += 1;
        }
        proxy.signal("KILL");
        proxy.wait_until_it_ends(Duration::from_secs(20)).unwrap();
        assert_eq!(verify(&place.path, &[]).0, Some(0), "round {round}: {:?}", verify(&place.path, &[]));
    }
    let proxy = place.with_wish(wish, Proxy::start);
    let ends = |wanted: &str| {
        let files = std::fs::read_dir(place.folder.path()).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|end| end.to_string_lossy().ends_with(wanted))).count()
    };
    // Of a plain one the name ends with its number.
    eventually("all closed files are compressed", || (0..=9).all(|digit| ends(&digit.to_string()) == 0));
    assert!(ends("gz") >= 10 && ends("new") == 0, "{} {}", ends("gz"), ends("new"));
    eventually("all is found out", || {
        tenantgate::driver::reconcile::unresolved(&place.path).is_ok_and(|left| left.is_empty())
    });
    let (status, said) = verify(&place.path, &[]);
    assert_eq!((status, place.rows()), (Some(0), committed), "{said}\n{}", proxy.log_tail());
}

#[test]
fn a_rotation_that_failed_is_made_up_for() {
    let place = Place::new("late");
    let proxy = place.with_wish("rotate_bytes = 4096\n", Proxy::start);
    let mut client = ops(&Target::new(proxy.address, "ops", &place.database).password("demo"));
    let closed = |number: u64| place.folder.path().join(format!("ledger.jsonl.{number:020}"));
    // The names that it would get are taken.
    (1..=24).for_each(|number| std::fs::create_dir(closed(number)).unwrap());
    for form in 0..24 {
        assert_eq!(error(&transaction(&mut client, form % 3)), "");
    }
    (1..=24).for_each(|number| std::fs::remove_dir(closed(number)).unwrap());
    let names: Vec<_> =
        std::fs::read_dir(place.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.len() > 2, "nothing was rotated: {names:?}");
    assert_eq!((place.rows(), verify(&place.path, &[]).0), (24, Some(0)));
}
