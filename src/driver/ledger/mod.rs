//! The ledger: who asks for records, what the console shows of them, and the thread that writes them (`writer`).
//!
//! Owns: the queue in front of the thread, its bounds, the last records in memory. Does not own: the file (`writer`),
//! what a record says (`audit`), or who waits for it.

mod follow;
mod found;
mod lines;
mod pack;
mod writer;

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use uuid::Uuid;

use self::pack::Packer;
use self::writer::Writer;
use crate::admin::BypassRow;
use crate::audit::{Act, Actor, Conclusion, Deed, Entry, Line, Outcome, Place, Reason, Record, Refusal, TransactionId};
use crate::config::{Compress, LedgerSettings};
use crate::fault::{Code, Fault};

/// Most records that wait. Each session waits for one, so this many sessions cross tenants at the same time; intents
/// beyond are refused, as a disk that hangs would else collect those of clients that have left.
const QUEUED_MAX: usize = 10_000;

/// How many of the last records are kept in memory for the console.
const RECENT_MAX: usize = 1_000;

pub use follow::{Followed, Follower};
pub use found::{checkpoint_path, closed_files, closed_twice};
pub use lines::{FileLine, Likeness, LineFault, Lines, Unreadable, likeness, verify};

/// Makes what was written to a file durable.
pub type LedgerSync = dyn Fn(&File) -> io::Result<()> + Send + Sync;

/// Whoever asked for a record is told when it is durable.
pub type Answer = oneshot::Receiver<Result<(), Fault>>;

/// A record that was written lately.
#[derive(Clone, Debug)]
pub struct Recent {
    /// When it was written.
    pub at: Timestamp,
    /// The record.
    pub record: Record,
}

/// The ledger.
pub struct Ledger {
    jobs: mpsc::Sender<Job>,
    shared: Arc<Shared>,
    path: PathBuf,
    write_timeout: Duration,
    is_compressed: bool,
}

#[derive(Default)]
struct Shared {
    queued: AtomicUsize,
    is_writable: AtomicBool,
    /// An outcome is not known, or nobody has looked yet.
    has_unknown: AtomicBool,
    /// Closed files that were compressed.
    packed: AtomicU64,
    /// Attempts at it that failed.
    unpacked: AtomicU64,
    recent: Mutex<VecDeque<Recent>>,
    /// Transactions that the file told of when the process began, oldest first.
    past: Mutex<Vec<BypassRow>>,
}

/// What is written.
enum Item {
    OfTransaction(Record),
    OfAct(Box<dyn Act>),
}

impl Item {
    /// Whether it comes before what it is about, which then is not done if it cannot be written; else it tells of what has
    /// happened, and is kept until it can.
    fn is_ahead(&self) -> bool {
        match self {
            Item::OfTransaction(record) => record.entry.is_ahead(),
            Item::OfAct(act) => act.is_ahead(),
        }
    }

    fn line(&self, place: &Place<'_>) -> Line {
        match self {
            Item::OfTransaction(record) => Line::new(record, place),
            Item::OfAct(act) => Line::of_act(&**act, place),
        }
    }
}

enum Job {
    Write(Item, oneshot::Sender<Result<(), Fault>>),
    /// Answered when all before it is done.
    Settle(oneshot::Sender<()>),
}

impl Ledger {
    /// Starts the thread. A file that cannot be opened is tried again with every record.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(mut settings: LedgerSettings, sync: Arc<LedgerSync>) -> io::Result<Arc<Self>> {
        if settings.node.is_empty() {
            settings.node = host_name();
        }
        let (jobs, queue) = mpsc::channel();
        let shared = Arc::new(Shared { has_unknown: AtomicBool::new(true), ..Shared::default() });
        let (path, write_timeout) = (settings.path.clone(), settings.write_timeout);
        let is_compressed = settings.compress == Compress::Gzip;
        let packer = if is_compressed { packer(&path, &shared) } else { None };
        let mut writer = Writer::new(settings, sync, Arc::clone(&shared), packer);
        writer.begin();
        std::thread::Builder::new().name("ledger".into()).spawn(move || writer.run(&queue))?;
        Ok(Arc::new(Self { jobs, shared, path, write_timeout, is_compressed }))
    }

    /// Its file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether an outcome that is not known was written since this was asked last; the first time it may have been by an
    /// earlier process.
    pub fn take_unknown(&self) -> bool {
        self.shared.has_unknown.swap(false, Ordering::AcqRel)
    }

    /// Whether the last attempt to write or open succeeded.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.shared.is_writable.load(Ordering::Acquire)
    }

    /// Closed files that this process has compressed, and attempts that failed; `None`: none are compressed.
    #[must_use]
    pub fn compressions(&self) -> Option<(u64, u64)> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        self.is_compressed.then(|| (read(&self.shared.packed), read(&self.shared.unpacked)))
    }

    /// The last records, oldest first.
    #[must_use]
    pub fn recent(&self) -> Vec<Recent> {
        self.shared.recent.lock().iter().cloned().collect()
    }

    /// The last records joined to transactions, the latest first; behind them those of the file that an earlier process wrote.
    #[must_use]
    pub fn transactions(&self) -> Vec<BypassRow> {
        let mut rows: Vec<(TransactionId, Timestamp, BypassRow)> = Vec::new();
        for Recent { at, record } in self.shared.recent.lock().iter() {
            let known = rows.iter().rposition(|(id, ..)| *id == record.transaction);
            let place = known.unwrap_or_else(|| {
                rows.push((record.transaction, *at, row_of(record, *at)));
                rows.len() - 1
            });
            if let Some((_, begun, row)) = rows.get_mut(place) {
                match &record.entry {
                    Entry::Intent(intent) => row.reason = intent.reason.as_ref().map_or("", Reason::as_str).into(),
                    Entry::PreCommit(_) => {}
                    Entry::Outcome(outcome) => put_outcome(row, outcome, micros_between(*begun, *at)),
                }
            }
        }
        let now = rows.into_iter().rev().map(|(.., row)| row);
        now.chain(self.shared.past.lock().iter().rev().cloned()).take(RECENT_MAX).collect()
    }

    /// Waits until everything asked for before is written or has failed. If dropped: nothing is lost.
    pub async fn settle(&self) {
        let (sender, settled) = oneshot::channel();
        if self.jobs.send(Job::Settle(sender)).is_ok() && settled.await.is_err() {
            tracing::debug!("the ledger's thread has ended");
        }
    }

    /// Writes what was, or is to be, done outside of transactions.
    pub fn record_act(&self, act: Box<dyn Act>) -> Answer {
        self.write(Item::OfAct(act))
    }

    fn write(&self, item: Item) -> Answer {
        let (sender, answer) = oneshot::channel();
        if item.is_ahead() && self.shared.queued.load(Ordering::Acquire) >= QUEUED_MAX {
            reply(sender, Err(unavailable()));
            return answer;
        }
        self.shared.queued.fetch_add(1, Ordering::AcqRel);
        if let Err(mpsc::SendError(Job::Write(_, sender))) = self.jobs.send(Job::Write(item, sender)) {
            reply(sender, Err(unavailable()));
        }
        answer
    }
}

/// Without its thread the ledger is what it is without compression.
fn packer(path: &Path, shared: &Arc<Shared>) -> Option<Packer> {
    match Packer::start(path.to_path_buf(), Arc::clone(shared)) {
        Ok(packer) => Some(packer),
        Err(error) => {
            shared.unpacked.fetch_add(1, Ordering::AcqRel);
            tracing::warn!(%error, "there is no thread that compresses the ledger's closed files: they stay as they are");
            None
        }
    }
}

fn row_of(record: &Record, at: Timestamp) -> BypassRow {
    let actor = &record.actor;
    BypassRow {
        id: record.transaction.to_string().into(),
        at: format!("{at:.6}").into(),
        login: Arc::clone(&actor.login),
        address: actor.address.as_ref().into(),
        database: Arc::clone(&actor.database),
        role: Arc::clone(&actor.role),
        preset: actor.preset.into(),
        outcome: "open".into(),
        ..BypassRow::default()
    }
}

/// A transaction that an earlier process has written; whether it committed is unknown where it left no outcome.
fn row_of_past(past: &Deed) -> BypassRow {
    let time = |text: &str| text.parse::<Timestamp>().ok();
    let ended = past.ended_at.as_deref().and_then(time);
    let took = time(&past.at).zip(ended).map(|(begun, ended)| micros_between(begun, ended));
    BypassRow {
        id: past.id.as_str().into(),
        at: past.at.as_str().into(),
        login: past.login.as_str().into(),
        address: past.address.as_str().into(),
        database: past.database.as_str().into(),
        role: past.role.as_str().into(),
        preset: past.preset.as_str().into(),
        reason: past.reason.as_deref().unwrap_or_default().into(),
        outcome: past.result.as_deref().unwrap_or(Conclusion::Unknown.word()).into(),
        statements: usize::try_from(past.statements_total).unwrap_or(usize::MAX),
        rows: past.rows(),
        tables: past.tables.join(", ").into(),
        duration_micros: took.unwrap_or(0),
    }
}

/// Of times to the microsecond, as the file has them: the same before a restart and behind it.
fn micros_between(begun: Timestamp, ended: Timestamp) -> u64 {
    u64::try_from(ended.as_microsecond().saturating_sub(begun.as_microsecond())).unwrap_or(0)
}

fn put_outcome(row: &mut BypassRow, outcome: &Outcome, duration_micros: u64) {
    row.outcome = outcome.conclusion.word().into();
    let done = &outcome.done;
    row.statements = usize::try_from(done.statements_total).unwrap_or(usize::MAX);
    row.rows = done.rows_delivered.saturating_add(done.rows_affected);
    row.tables = done.tables.join(", ").into();
    row.duration_micros = duration_micros;
}

/// One session's place in the ledger.
pub struct SessionLedger {
    ledger: Arc<Ledger>,
    actor: Arc<Actor>,
    transaction: TransactionId,
    /// When its intent was asked for.
    since: Instant,
}

impl SessionLedger {
    /// For the transactions of one session.
    #[must_use]
    pub fn new(ledger: Arc<Ledger>, actor: Actor) -> Self {
        Self { ledger, actor: Arc::new(actor), transaction: TransactionId(Uuid::nil()), since: Instant::now() }
    }

    /// How long a session waits for a record.
    #[must_use]
    pub fn write_timeout(&self) -> Duration {
        self.ledger.write_timeout
    }

    /// The transaction that was intended last.
    #[must_use]
    pub const fn transaction(&self) -> TransactionId {
        self.transaction
    }

    /// Tells of a bypass that was refused, where the session's transactions are bypasses or may claim to be: a statement of
    /// this class, for this reason.
    pub fn refused(&self, code: Code, class: &'static str, reason: Option<&str>) {
        let is_bypass = match self.actor.preset {
            "bypass" => true,
            "claimed_bypass" => is_about_bypass(code),
            _ => false,
        };
        if is_bypass {
            let refusal = Refusal::new(Uuid::now_v7(), Arc::clone(&self.actor), code, class, reason);
            drop(self.ledger.record_act(Box::new(refusal)));
        }
    }

    /// Writes a record: an intent begins a transaction, an outcome ends it.
    pub fn record(&mut self, mut entry: Entry) -> Answer {
        match &mut entry {
            Entry::Intent(_) => {
                self.transaction = TransactionId(Uuid::now_v7());
                self.since = Instant::now();
            }
            Entry::PreCommit(_) => {}
            Entry::Outcome(outcome) => {
                outcome.duration_micros = Some(u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX));
            }
        }
        let record = Record { transaction: self.transaction, actor: Arc::clone(&self.actor), entry };
        self.ledger.write(Item::OfTransaction(record))
    }
}

/// Whether a refusal is one of a bypass, and not of any statement.
const fn is_about_bypass(code: Code) -> bool {
    matches!(
        code,
        Code::ReasonMissing
            | Code::ReasonRefused
            | Code::LedgerUnavailable
            | Code::BypassMalformed
            | Code::BypassOutsideBlock
            | Code::BypassNotCovered
            | Code::BypassOutside
            | Code::BypassTable
            | Code::BypassReadOnly
            | Code::BypassOverLimit
            | Code::BypassFrozen
            | Code::EmergencyOver
    )
}

/// What the machine is called.
fn host_name() -> Arc<str> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "unnamed".into(),
        name => name.into(),
    }
}

fn unavailable() -> Fault {
    Fault::of(Code::LedgerUnavailable)
}

fn reply<T>(sender: oneshot::Sender<T>, answer: T) {
    // The session may have ended meanwhile.
    drop(sender.send(answer));
}

#[cfg(test)]
mod tests {
    use super::found::{LOOK_BACK_BYTES_MAX, TAIL_BYTES};
    use super::*;
    use crate::audit::{Account, Expectations, Intent, Shelf, SigningKey, Verified, Verifier};
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    fn start(path: &Path) -> Arc<Ledger> {
        Ledger::start(settings(path), Arc::new(File::sync_data)).unwrap()
    }

    fn settings(path: &Path) -> LedgerSettings {
        LedgerSettings {
            path: path.to_path_buf(),
            node: "one".into(),
            write_timeout: Duration::from_secs(60),
            is_group_commit: true,
            parameter_key: None,
            signing_key: None,
            checkpoint_records: 1_000,
            checkpoint_interval: Duration::from_secs(3_600),
            heartbeat_interval: Duration::from_secs(3_600),
            rotate_bytes: None,
            compress: Compress::None,
        }
    }

    fn actor() -> Actor {
        Actor {
            login: "ops".into(),
            method: "trust",
            address: "127.0.0.1:5".into(),
            database: "demo".into(),
            role: "app_bypass".into(),
            preset: "bypass",
            tenant: None,
            client: 1,
            config: "00".into(),
        }
    }

    fn intent() -> Entry {
        Entry::Intent(Intent {
            reason: Reason::parse("a test").ok(),
            server: 1,
            server_process: 2,
            ..Intent::default()
        })
    }

    fn outcome() -> Entry {
        Entry::Outcome(Box::new(Account::default().conclude(Conclusion::Committed, None)))
    }

    fn wait(answer: Answer) -> Result<(), Fault> {
        answer.blocking_recv().unwrap()
    }

    /// Without those about the ledger itself.
    fn lines(path: &Path) -> Vec<String> {
        all_lines(path).into_iter().filter(|line| !line.contains("\"version\"")).collect()
    }

    fn all_lines(path: &Path) -> Vec<String> {
        std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    fn verified(paths: &[&Path], expectations: Expectations) -> Verified {
        let mut verifier = Verifier::new(expectations);
        for (index, path) in paths.iter().enumerate() {
            if index > 0 {
                verifier.next_file();
            }
            for line in all_lines(path) {
                verifier.take(line.as_bytes(), true).unwrap();
            }
        }
        verifier.end().unwrap()
    }

    #[test]
    fn records_are_in_the_file_when_they_are_answered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.jsonl");
        let ledger = start(&path);
        let mut session = SessionLedger::new(Arc::clone(&ledger), actor());
        wait(session.record(intent())).unwrap();
        assert_eq!(lines(&path).len(), 1);
        wait(session.record(outcome())).unwrap();
        let text = lines(&path).join("\n");
        let mut shelf = Shelf::new(10);
        text.lines().for_each(|line| shelf.take(line.as_bytes()));
        let acts: Vec<_> = shelf.latest().map(|act| act.result.as_deref()).collect();
        assert_eq!((acts, shelf.broken), (vec![Some("committed")], 0));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(ledger.recent().len(), 2);
        let shown = ledger.transactions();
        assert_eq!((shown.len(), &*shown[0].reason, &*shown[0].outcome), (1, "a test", "committed"));
    }

    #[test]
    fn the_console_knows_what_was_written_before_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.jsonl");
        let ledger = start(&path);
        let mut session = SessionLedger::new(Arc::clone(&ledger), actor());
        for entry in [intent(), outcome(), intent()] {
            wait(session.record(entry)).unwrap();
        }
        let before = ledger.transactions();
        drop((session, ledger));
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        let again = loop {
            assert!(std::time::Instant::now() < deadline, "the file is not given free");
            // The file is free once the thread has ended.
            let again = start(&path);
            if again.is_writable() {
                break again;
            }
        };
        let shown = again.transactions();
        assert_eq!((&*before[0].outcome, &*shown[0].outcome), ("open", "unknown"));
        assert_eq!((shown.len(), &shown[1]), (2, &before[1]));
        let mut session = SessionLedger::new(Arc::clone(&again), actor());
        wait(session.record(intent())).unwrap();
        let now = again.transactions();
        assert_eq!((now.len(), &*now[0].outcome, &now[1..]), (3, "open", &shown[..]));
        // Far more than is read: the first line of the part that is, is none, and the last thousand are shown.
        let line = lines(&path)[0].clone();
        let id = before[1].id.to_string();
        let many: Vec<String> = (0..5_000).map(|number| line.replace(&id, &format!("{number:0>36}"))).collect();
        std::fs::write(&path, many.join("\n") + "\n").unwrap();
        let other = folder.path().join("other.jsonl");
        std::fs::copy(&path, &other).unwrap();
        let shown = start(&other).transactions();
        assert_eq!(
            (shown.len(), &*shown[0].id, &*shown[999].id),
            (1_000, &*format!("{:0>36}", 4_999), &*format!("{:0>36}", 4_000))
        );
    }

    /// A disk that takes its time: each sync is announced, and ends when and how the test says.
    fn slow_disk() -> (Arc<LedgerSync>, mpsc::Receiver<u64>, mpsc::Sender<io::Result<()>>) {
        let (announce, announced) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        let ended = Mutex::new(ended);
        let sync = move |file: &File| {
            announce.send(file.metadata()?.len()).unwrap();
            ended.lock().recv().unwrap_or(Ok(()))
        };
        (Arc::new(sync), announced, end)
    }

    #[test]
    fn nobody_is_answered_before_the_disk_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.jsonl");
        let (sync, announced, end) = slow_disk();
        let ledger = Ledger::start(settings(&path), sync).unwrap();
        let mut session = SessionLedger::new(Arc::clone(&ledger), actor());
        // What it says of its start.
        assert!(announced.recv_timeout(Duration::from_secs(20)).unwrap() > 0);
        end.send(Ok(())).unwrap();
        for (number, entry) in (1..).zip([intent(), outcome()]) {
            let mut answer = session.record(entry);
            // The whole record is with the disk, and nobody has heard of it.
            let length = announced.recv_timeout(Duration::from_secs(20)).unwrap();
            assert_eq!((lines(&path).len(), std::fs::metadata(&path).unwrap().len()), (number, length));
            assert!(answer.try_recv().is_err());
            assert_eq!(ledger.recent().len(), number - 1);
            end.send(Ok(())).unwrap();
            wait(answer).unwrap();
            assert_eq!(ledger.recent().len(), number);
        }
    }

    #[test]
    fn what_the_disk_refuses_is_not_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.jsonl");
        let (sync, announced, end) = slow_disk();
        let ledger = Ledger::start(settings(&path), sync).unwrap();
        let begin = announced.recv_timeout(Duration::from_secs(20)).unwrap();
        end.send(Ok(())).unwrap();
        let answer = SessionLedger::new(Arc::clone(&ledger), actor()).record(intent());
        assert!(announced.recv_timeout(Duration::from_secs(20)).unwrap() > begin);
        end.send(Err(io::Error::other("the disk is gone"))).unwrap();
        // It is taken back, which is made durable as well.
        assert_eq!(announced.recv_timeout(Duration::from_secs(20)).unwrap(), begin);
        end.send(Ok(())).unwrap();
        assert_eq!(wait(answer).unwrap_err().code, Some(Code::LedgerUnavailable));
        assert!(!ledger.is_writable() && ledger.recent().is_empty());
    }

    #[test]
    fn two_processes_never_share_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.jsonl");
        let first = start(&path);
        wait(SessionLedger::new(Arc::clone(&first), actor()).record(intent())).unwrap();
        let second = start(&path);
        assert!(!second.is_writable());
        assert!(wait(SessionLedger::new(second, actor()).record(intent())).is_err());
    }

    #[test]
    fn a_full_disk_refuses_intents() {
        let ledger = start(Path::new("/dev/full"));
        let mut session = SessionLedger::new(Arc::clone(&ledger), actor());
        let fault = wait(session.record(intent())).unwrap_err();
        assert_eq!(fault.code, Some(Code::LedgerUnavailable));
        assert!(!ledger.is_writable());
    }

    #[test]
    fn outcomes_wait_for_a_file_that_comes_back_and_refused_transactions_leave_none() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        let path = inner.join("ledger.jsonl");
        let ledger = start(&path);
        let mut session = SessionLedger::new(Arc::clone(&ledger), actor());
        wait(session.record(intent())).unwrap();
        std::fs::remove_dir_all(&inner).unwrap();
        wait(session.record(outcome())).unwrap_err();
        let mut refused = SessionLedger::new(Arc::clone(&ledger), actor());
        wait(refused.record(intent())).unwrap_err();
        wait(refused.record(outcome())).unwrap_err();
        std::fs::create_dir(&inner).unwrap();
        let mut later = SessionLedger::new(Arc::clone(&ledger), actor());
        wait(later.record(intent())).unwrap();
        wait(refused.record(outcome())).unwrap();
        let written = lines(&path);
        assert_eq!(written.len(), 2, "{written:?}");
        // Behind boot, intent and reopen, and behind these the outcome.
        assert!(written[0].contains("\"outcome\"") && written[1].contains("\"seq\":5"), "{written:?}");
        // What the console shows is what was written, at the time that the file tells.
        let recent = ledger.recent();
        assert_eq!(recent.len(), 3, "{recent:?}");
        for (recent, line) in recent[1..].iter().zip(&written) {
            assert!(line.contains(&recent.record.transaction.to_string()), "{line}");
            assert!(line.contains(&format!("\"at\":\"{:.6}", recent.at)), "{line} {}", recent.at);
        }
    }

    /// The number of the next record in a file that holds this.
    fn next_in(bytes: &[u8]) -> Result<u64, Fault> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.jsonl");
        std::fs::write(&path, bytes).unwrap();
        let ledger = start(&path);
        wait(SessionLedger::new(ledger, actor()).record(intent()))?;
        let written = std::fs::read(&path).unwrap();
        // The record of the start is in front of it.
        let boot = written[..written.len() - 1].rsplit(|byte| *byte == b'\n').nth(1).unwrap();
        Ok(serde_json::from_slice::<serde_json::Value>(boot).unwrap()["seq"].as_u64().unwrap())
    }

    #[test]
    fn numbers_go_on_whatever_stands_behind_the_last_record() {
        let record = b"{\"seq\":41}\n".as_slice();
        let blank_lines = vec![b'\n'; 5_000];
        let long_line = vec![b'x'; 3 << 20];
        let lines = [b"nothing\n".as_slice()].concat().repeat(150_000);
        for garbage in [&b""[..], &blank_lines, &long_line, &lines] {
            assert_eq!(next_in(&[record, garbage].concat()).unwrap(), 42);
        }
        // One that ends or begins where a part that is read at once does.
        let tail = usize::try_from(TAIL_BYTES).unwrap();
        for bytes in (tail - 12..tail + 2).chain([2 * tail, 2 * tail - 11]) {
            assert_eq!(next_in(&[record, &vec![b'\n'; bytes]].concat()).unwrap(), 42, "{bytes}");
        }
        assert_eq!(next_in(b"").unwrap(), 1);
        assert_eq!(next_in(b"{\"seq\":1,\"ki").unwrap(), 1);
        // That is no ledger: nothing is written behind it.
        let bound = usize::try_from(LOOK_BACK_BYTES_MAX).unwrap();
        assert!(next_in(&[record, &vec![0; bound + tail]].concat()).is_err());
    }

    #[test]
    fn a_torn_line_is_closed_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.jsonl");
        std::fs::write(&path, "{\"seq\":41}\n{\"seq\":42,\"ki").unwrap();
        let ledger = start(&path);
        wait(SessionLedger::new(ledger, actor()).record(intent())).unwrap();
        let written = lines(&path);
        assert_eq!(written.len(), 3);
        assert_eq!(written[1], "{\"seq\":42,\"ki");
        assert!(written[2].contains("\"seq\":43"), "{}", written[2]);
        // The start tells of it, and the walk agrees.
        assert_eq!(verified(&[&path], Expectations::default()).damaged_bytes, 14);
    }

    fn key() -> Arc<SigningKey> {
        Arc::new(SigningKey::from_seed("test", &[7; 32]).unwrap())
    }

    fn by_key() -> Expectations {
        Expectations { keys: vec![key().public().clone()], is_signed_to_end: true, ..Expectations::default() }
    }

    fn signed(path: &Path) -> LedgerSettings {
        LedgerSettings { signing_key: Some(key()), checkpoint_records: 4, ..settings(path) }
    }

    /// Ends a ledger: the file is free once its thread has ended.
    fn finish(ledger: Arc<Ledger>, path: &Path) {
        drop(ledger);
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        // Its last checkpoint may go into another file.
        while !File::open(path).is_ok_and(|file| file.try_lock().is_ok()) {
            assert!(std::time::Instant::now() < deadline, "the file is not given free");
            std::thread::yield_now();
        }
    }

    fn transactions(ledger: &Arc<Ledger>, count: usize) {
        let mut session = SessionLedger::new(Arc::clone(ledger), actor());
        for _ in 0..count {
            wait(session.record(intent())).unwrap();
            wait(session.record(outcome())).unwrap();
        }
    }

    #[test]
    fn the_chain_goes_on_behind_starts_and_rotations() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.jsonl");
        let rotating = LedgerSettings { rotate_bytes: Some(6_000), ..signed(&path) };
        for _ in 0..3 {
            let ledger = Ledger::start(rotating.clone(), Arc::new(File::sync_data)).unwrap();
            transactions(&ledger, 20);
            finish(ledger, &path);
        }
        // One whose file was just rotated away when it stopped.
        let last = closed_files(&path).unwrap();
        std::fs::rename(&path, found::closed_name(&path, 999_999)).unwrap();
        let ledger = Ledger::start(rotating, Arc::new(File::sync_data)).unwrap();
        transactions(&ledger, 1);
        finish(ledger, &path);
        let mut files = closed_files(&path).unwrap();
        assert!(last.len() >= 3 && files.len() == last.len() + 1, "{files:?}");
        files.push(path.clone());
        let files: Vec<&Path> = files.iter().map(|path| &**path).collect();
        let found = verified(&files, by_key());
        assert_eq!((found.boots, found.unsigned, found.first), (4, 0, Some(1)));
        assert!(found.checkpoints > 30, "{found:?}");
        // What is kept beside it is the last one.
        let beside = found::checkpoint_beside(&path).unwrap().unwrap();
        assert_eq!(beside.checkpoint.head.sequence + 1, found.last.unwrap().sequence);
        assert_eq!(beside.check(&by_key().keys), Ok(()));
    }

    /// What keeps a test from going on before compression is done.
    fn when_packed(ledger: &Ledger, path: &Path) -> Vec<PathBuf> {
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        loop {
            let closed = closed_files(path).unwrap();
            if closed.iter().all(|file| file.extension().is_some_and(|end| end == "gz")) {
                return closed;
            }
            assert!(std::time::Instant::now() < deadline, "not compressed: {closed:?}, {:?}", ledger.compressions());
            std::thread::yield_now();
        }
    }

    #[test]
    fn the_chain_goes_on_behind_compressed_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.jsonl");
        let rotating = LedgerSettings { rotate_bytes: Some(6_000), ..signed(&path) };
        let ledger = Ledger::start(rotating.clone(), Arc::new(File::sync_data)).unwrap();
        transactions(&ledger, 20);
        assert_eq!(ledger.compressions(), None);
        finish(ledger, &path);
        let plain = closed_files(&path).unwrap();
        // What an earlier process has left of a compression is thrown away, and its files are compressed.
        std::fs::write(
            plain[0].with_extension(format!("{}.gz.new", &plain[0].extension().unwrap().to_string_lossy())),
            "half",
        )
        .unwrap();
        let packing = LedgerSettings { compress: Compress::Gzip, ..rotating };
        for start in 0..3 {
            let ledger = Ledger::start(packing.clone(), Arc::new(File::sync_data)).unwrap();
            transactions(&ledger, 20);
            let closed = when_packed(&ledger, &path);
            assert!(closed.len() > plain.len() + start, "{closed:?}");
            assert_eq!(ledger.compressions().unwrap().1, 0);
            finish(ledger, &path);
        }
        assert!(
            std::fs::read_dir(folder.path()).unwrap().all(|entry| entry
                .unwrap()
                .path()
                .extension()
                .is_none_or(|end| end != "new"))
        );
        // The last one was rotated away and compressed when it stopped: the chain goes on behind what is in there.
        let last = found::closed_end(&path).unwrap();
        let closed = found::closed_name(&path, last.0.unwrap().sequence);
        std::fs::rename(&path, &closed).unwrap();
        let ledger = Ledger::start(packing.clone(), Arc::new(File::sync_data)).unwrap();
        when_packed(&ledger, &path);
        finish(ledger, &path);
        let known = found::closed_end(&lines::gzip_name(&closed)).unwrap();
        assert_eq!((known.0, known.1.is_some()), (last.0, last.1.is_some()));
        std::fs::remove_file(&path).unwrap();
        let ledger = Ledger::start(packing.clone(), Arc::new(File::sync_data)).unwrap();
        transactions(&ledger, 1);
        finish(ledger, &path);
        let mut files = closed_files(&path).unwrap();
        files.push(path.clone());
        let broken = verify(&files, by_key()).unwrap().unwrap_err();
        // Records of the start in between were removed with their file, which the checkpoint beside it tells.
        assert!(matches!(broken.breach, crate::audit::Breach::LostBeforeStart { .. }), "{broken:?}");
        // Nothing is written behind what cannot be read.
        let last = files.iter().rev().nth(1).unwrap().clone();
        let good = std::fs::read(&last).unwrap();
        std::fs::write(&last, &good[..good.len() / 2]).unwrap();
        std::fs::remove_file(&path).unwrap();
        let refused = Ledger::start(packing, Arc::new(File::sync_data)).unwrap();
        assert!(wait(SessionLedger::new(Arc::clone(&refused), actor()).record(intent())).is_err());
        assert!(!refused.is_writable());
        std::fs::write(&last, &good).unwrap();
        wait(SessionLedger::new(refused, actor()).record(intent())).unwrap();
    }

    #[test]
    fn whole_files_that_are_compressed_verify_as_one_chain() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.jsonl");
        let packing = LedgerSettings { rotate_bytes: Some(6_000), compress: Compress::Gzip, ..signed(&path) };
        for _ in 0..3 {
            let ledger = Ledger::start(packing.clone(), Arc::new(File::sync_data)).unwrap();
            transactions(&ledger, 20);
            when_packed(&ledger, &path);
            finish(ledger, &path);
        }
        // One whose file was just rotated away, and compressed, when it stopped.
        let (head, _) = found::closed_end(&path).unwrap();
        let closed = found::closed_name(&path, head.unwrap().sequence);
        std::fs::rename(&path, &closed).unwrap();
        pack::pack(&closed, &pack::System, &mut || std::ops::ControlFlow::Continue(())).unwrap();
        let ledger = Ledger::start(packing, Arc::new(File::sync_data)).unwrap();
        transactions(&ledger, 1);
        finish(ledger, &path);
        let mut files = closed_files(&path).unwrap();
        files.push(path.clone());
        let found = verify(&files, by_key()).unwrap().unwrap();
        assert_eq!((found.boots, found.unsigned, found.first), (4, 0, Some(1)));
        assert!(files.len() > 4 && found.checkpoints > 30, "{files:?} {found:?}");
    }

    #[test]
    fn a_start_tells_of_records_that_are_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.jsonl");
        let ledger = Ledger::start(signed(&path), Arc::new(File::sync_data)).unwrap();
        transactions(&ledger, 5);
        finish(ledger, &path);
        let text = std::fs::read_to_string(&path).unwrap();
        let shorter = text.lines().take(7).map(|line| format!("{line}\n")).collect::<String>();
        std::fs::write(&path, shorter).unwrap();
        let ledger = Ledger::start(signed(&path), Arc::new(File::sync_data)).unwrap();
        transactions(&ledger, 1);
        finish(ledger, &path);
        let mut verifier = Verifier::new(by_key());
        let broken = all_lines(&path).iter().find_map(|line| verifier.take(line.as_bytes(), true).err()).unwrap();
        assert!(matches!(broken.breach, crate::audit::Breach::LostBeforeStart { found: 7, .. }), "{broken:?}");
    }

    #[test]
    fn silence_is_signed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.jsonl");
        let quick = LedgerSettings { heartbeat_interval: Duration::from_millis(1), ..signed(&path) };
        let ledger = Ledger::start(quick, Arc::new(File::sync_data)).unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while all_lines(&path).iter().filter(|line| line.contains("\"heartbeat\"")).count() < 3 {
            assert!(std::time::Instant::now() < deadline, "no sign of life");
            std::thread::yield_now();
        }
        finish(ledger, &path);
        assert_eq!(verified(&[&path], by_key()).boots, 1);
    }
}
