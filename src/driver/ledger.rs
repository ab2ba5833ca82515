//! The ledger's file: one thread that writes records and makes them durable.
//!
//! Records that wait together share one `fdatasync`. After a failed write the file goes back to its last good length
//! and is opened anew at the next record; until that works every intent is refused, and outcomes are kept in memory.
//!
//! Owns: the file, its lock, its order. Does not own: what a record says (`audit`), or who waits for it.

use std::collections::{HashSet, VecDeque};
use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::admin::BypassRow;
use crate::audit::{
    Actor, Conclusion, Entry, Line, Outcome, Reason, Record, Reviewed, TenantAct, TenantRecord, TransactionId, review,
};
use crate::fault::{Code, Fault};

/// Most records written by one `fdatasync`.
const BATCH_MAX: usize = 1024;

/// Most records that wait. Each session waits for one, so this many sessions cross tenants at the same time; intents
/// beyond are refused, as a disk that hangs would else collect those of clients that have left.
const QUEUED_MAX: usize = 10_000;

/// Most outcomes that are kept while the file cannot be written: as many as there can be open transactions.
const UNWRITTEN_MAX: usize = 10_000;

/// How many of the last records are kept in memory for the console.
const RECENT_MAX: usize = 1_000;

/// How much of a file is read at once, from its end on, to find the last record's number: far more than one line's bound.
const TAIL_BYTES: u64 = 1 << 20;

/// How far back it is looked for: where so much holds no record, the file is no ledger.
const LOOK_BACK_BYTES_MAX: u64 = 64 << 20;

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
}

#[derive(Default)]
struct Shared {
    queued: AtomicUsize,
    is_writable: AtomicBool,
    recent: Mutex<VecDeque<Recent>>,
    /// Transactions that the file told of when the process began, oldest first.
    past: Mutex<Vec<BypassRow>>,
}

/// What is written.
enum Item {
    OfTransaction(Record),
    OfTenant(TenantRecord),
}

impl Item {
    /// Whether it comes before what it is about, which then is not done if it cannot be written; else it tells of what has
    /// happened, and is kept until it can.
    fn is_ahead(&self) -> bool {
        match self {
            Item::OfTransaction(record) => matches!(record.entry, Entry::Intent(_)),
            Item::OfTenant(record) => record.act == TenantAct::Thaw,
        }
    }

    fn line(&self, sequence: u64, at: Timestamp) -> Line {
        match self {
            Item::OfTransaction(record) => Line::new(record, sequence, at),
            Item::OfTenant(record) => Line::of_tenant(record, sequence, at),
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
    pub fn start(path: PathBuf, sync: Arc<LedgerSync>) -> io::Result<Arc<Self>> {
        let (jobs, queue) = mpsc::channel();
        let shared = Arc::new(Shared::default());
        let mut writer = Writer::new(path, sync, Arc::clone(&shared));
        if let Err(error) = writer.open().and_then(|()| writer.remember()) {
            tracing::warn!(path = %writer.path.display(), %error, "the ledger cannot be opened: bypass and migration logins are refused until it can");
        }
        std::thread::Builder::new().name("ledger".into()).spawn(move || writer.run(&queue))?;
        Ok(Arc::new(Self { jobs, shared }))
    }

    /// Whether the last attempt to write or open succeeded.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.shared.is_writable.load(Ordering::Acquire)
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

    /// Writes what was, or is to be, done to a tenant.
    pub fn record_tenant(&self, record: TenantRecord) -> Answer {
        self.write(Item::OfTenant(record))
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
fn row_of_past(past: Reviewed) -> BypassRow {
    let time = |text: &str| text.parse::<Timestamp>().ok();
    let ended = past.ended_at.as_deref().and_then(time);
    let took = time(&past.at).zip(ended).map(|(begun, ended)| micros_between(begun, ended));
    BypassRow {
        id: past.id.into(),
        at: past.at.into(),
        login: past.login.into(),
        address: past.address.into(),
        database: past.database.into(),
        role: past.role.into(),
        preset: past.preset.into(),
        reason: past.reason.unwrap_or_default().into(),
        outcome: past.result.as_deref().unwrap_or(Conclusion::Unknown.word()).into(),
        statements: usize::try_from(past.statements_total).unwrap_or(usize::MAX),
        rows: past.rows_delivered.saturating_add(past.rows_affected),
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
    row.statements = usize::try_from(outcome.statements_total).unwrap_or(usize::MAX);
    row.rows = outcome.rows_delivered.saturating_add(outcome.rows_affected);
    row.tables = outcome.tables.join(", ").into();
    row.duration_micros = duration_micros;
}

/// One session's place in the ledger.
pub struct SessionLedger {
    ledger: Arc<Ledger>,
    actor: Arc<Actor>,
    transaction: TransactionId,
}

impl SessionLedger {
    /// For the transactions of one session.
    #[must_use]
    pub fn new(ledger: Arc<Ledger>, actor: Actor) -> Self {
        Self { ledger, actor: Arc::new(actor), transaction: TransactionId(Uuid::nil()) }
    }

    /// Writes a record: an intent begins a transaction, an outcome ends it.
    pub fn record(&mut self, entry: Entry) -> Answer {
        if matches!(entry, Entry::Intent(_)) {
            self.transaction = TransactionId(Uuid::new_v4());
        }
        let record = Record { transaction: self.transaction, actor: Arc::clone(&self.actor), entry };
        self.ledger.write(Item::OfTransaction(record))
    }
}

fn unavailable() -> Fault {
    Fault::of(Code::LedgerUnavailable)
}

fn reply<T>(sender: oneshot::Sender<T>, answer: T) {
    // The session may have ended meanwhile.
    drop(sender.send(answer));
}

/// The file while it is good.
struct OpenFile {
    file: File,
    /// Where the last durable record ends.
    length: u64,
    /// Device and inode: the path must still lead here.
    identity: (u64, u64),
}

/// What a batch has put into the file.
struct Written {
    /// The time that its lines tell.
    at: Timestamp,
    /// Which of its items are not in the file: outcomes of transactions whose intent was refused.
    skipped: HashSet<usize>,
}

struct Writer {
    path: PathBuf,
    sync: Arc<LedgerSync>,
    shared: Arc<Shared>,
    file: Option<OpenFile>,
    next: u64,
    /// Transactions whose intent is durable and whose outcome is not.
    open: HashSet<TransactionId>,
    /// What has happened and could not be written yet: outcomes, freezes.
    unwritten: VecDeque<Item>,
}

impl Writer {
    fn new(path: PathBuf, sync: Arc<LedgerSync>, shared: Arc<Shared>) -> Self {
        Self { path, sync, shared, file: None, next: 1, open: HashSet::new(), unwritten: VecDeque::new() }
    }

    /// Until the last handle is gone.
    fn run(mut self, queue: &mpsc::Receiver<Job>) {
        while let Ok(first) = queue.recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH_MAX
                && let Ok(job) = queue.try_recv()
            {
                batch.push(job);
            }
            self.take(batch);
        }
    }

    fn take(&mut self, batch: Vec<Job>) {
        let mut waiting = Vec::with_capacity(batch.len());
        let mut settled = Vec::new();
        let mut items: Vec<Item> = std::mem::take(&mut self.unwritten).into();
        let old = items.len();
        for job in batch {
            match job {
                Job::Write(item, sender) => {
                    waiting.push(sender);
                    items.push(item);
                }
                Job::Settle(sender) => settled.push(sender),
            }
        }
        self.shared.queued.fetch_sub(waiting.len(), Ordering::AcqRel);
        let is_durable = items.is_empty()
            || match self.write(&items) {
                Ok(written) => {
                    self.on_written(items, &written);
                    true
                }
                Err(error) => {
                    self.on_failed(items, old, &error);
                    false
                }
            };
        for sender in waiting {
            reply(sender, if is_durable { Ok(()) } else { Err(unavailable()) });
        }
        settled.into_iter().for_each(|sender| reply(sender, ()));
    }

    fn on_written(&mut self, items: Vec<Item>, written: &Written) {
        let mut recent = self.shared.recent.lock();
        for (index, item) in items.into_iter().enumerate() {
            // The console shows frozen tenants by themselves.
            let Item::OfTransaction(record) = item else { continue };
            if written.skipped.contains(&index) {
                continue;
            }
            match &record.entry {
                Entry::Intent(_) => drop(self.open.insert(record.transaction)),
                Entry::Outcome(_) => drop(self.open.remove(&record.transaction)),
            }
            if recent.len() >= RECENT_MAX {
                recent.pop_front();
            }
            recent.push_back(Recent { at: written.at, record });
        }
        self.shared.is_writable.store(true, Ordering::Release);
    }

    /// Intents are refused; outcomes of transactions that have one are kept.
    fn on_failed(&mut self, items: Vec<Item>, old: usize, error: &io::Error) {
        self.shared.is_writable.store(false, Ordering::Release);
        tracing::error!(path = %self.path.display(), %error, "the ledger cannot be written");
        for (index, item) in items.into_iter().enumerate() {
            let is_kept = !item.is_ahead()
                && match &item {
                    Item::OfTransaction(record) => index < old || self.open.contains(&record.transaction),
                    Item::OfTenant(_) => true,
                };
            if is_kept && self.unwritten.len() < UNWRITTEN_MAX {
                self.unwritten.push_back(item);
            } else if is_kept {
                let line = String::from_utf8_lossy(item.line(0, Timestamp::now()).as_bytes()).into_owned();
                tracing::error!(line = line.trim_end(), "a record is lost: too many cannot be written");
            }
        }
    }

    fn write(&mut self, items: &[Item]) -> io::Result<Written> {
        if !self.is_in_place() {
            self.file = None;
            self.open()?;
        }
        let at = Timestamp::now();
        let mut begun: HashSet<TransactionId> = HashSet::new();
        let mut skipped = HashSet::new();
        let mut bytes = Vec::new();
        let mut next = self.next;
        for (index, item) in items.iter().enumerate() {
            if let Item::OfTransaction(record) = item {
                match &record.entry {
                    Entry::Intent(_) => drop(begun.insert(record.transaction)),
                    // Its intent was refused: there is nothing to end.
                    Entry::Outcome(_)
                        if !begun.contains(&record.transaction) && !self.open.contains(&record.transaction) =>
                    {
                        skipped.insert(index);
                        continue;
                    }
                    Entry::Outcome(_) => {}
                }
            }
            bytes.extend_from_slice(item.line(next, at).as_bytes());
            next += 1;
        }
        let Some(open) = self.file.as_mut() else { return Err(io::Error::other("no file")) };
        let length = open.length + bytes.len() as u64;
        match open.file.write_all(&bytes).and_then(|()| (self.sync)(&open.file)) {
            Ok(()) => {
                open.length = length;
                self.next = next;
                Ok(Written { at, skipped })
            }
            Err(error) => {
                self.take_back();
                Err(error)
            }
        }
    }

    /// Back to the last good length; whatever that leaves is looked at when the file is opened anew.
    fn take_back(&mut self) {
        let Some(open) = self.file.take() else { return };
        if let Err(error) = open.file.set_len(open.length).and_then(|()| (self.sync)(&open.file)) {
            tracing::error!(path = %self.path.display(), %error, "the ledger cannot be taken back to its last good length");
        }
    }

    /// Whether the path still leads to the open file: one that was moved away or removed is nobody's to read.
    fn is_in_place(&self) -> bool {
        let identity = std::fs::metadata(&self.path).map(|found| (found.dev(), found.ino()));
        self.file.as_ref().is_some_and(|open| identity.is_ok_and(|identity| identity == open.identity))
    }

    fn open(&mut self) -> io::Result<()> {
        let mut options = File::options();
        let mut file = options.read(true).append(true).create(true).mode(0o600).open(&self.path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(io::Error::other("another process has it open")),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let found = file.metadata()?;
        let identity = (found.dev(), found.ino());
        if found.permissions().mode() & 0o077 != 0 {
            tracing::warn!(path = %self.path.display(), "others than its owner may read the ledger");
        }
        if found.is_file() {
            self.mend(&mut file, found.len())?;
            sync_folder(&self.path)?;
        }
        let length = file.metadata()?.len();
        self.file = Some(OpenFile { file, length, identity });
        self.shared.is_writable.store(true, Ordering::Release);
        Ok(())
    }

    /// What the end of the file tells of earlier processes' transactions, for the console.
    fn remember(&mut self) -> io::Result<()> {
        let Some(open) = self.file.as_mut() else { return Ok(()) };
        let start = open.length.saturating_sub(TAIL_BYTES);
        let tail = read_at(&mut open.file, start, open.length)?;
        let text = String::from_utf8_lossy(&tail);
        // The first line is whole only where the file begins.
        let lines = text.lines().skip(usize::from(start > 0));
        let (rows, _) = review(lines);
        // One whose intent is further in front began at a time that is not known here.
        let is_whole = |row: &Reviewed| row.kind == "transaction" && row.ended_at.as_ref() != Some(&row.at);
        let mut past: Vec<BypassRow> = rows.into_iter().filter(is_whole).map(row_of_past).collect();
        past.drain(..past.len().saturating_sub(RECENT_MAX));
        *self.shared.past.lock() = past;
        Ok(())
    }

    /// Closes a line that a crash has torn (it is never deleted), and goes on behind the last number.
    fn mend(&mut self, file: &mut File, length: u64) -> io::Result<()> {
        let path = self.path.display();
        if length > 0 && read_at(file, length - 1, length)? != b"\n" {
            tracing::warn!(%path, "the ledger's last line is torn: it is kept and closed");
            file.write_all(b"\n")?;
            (self.sync)(file)?;
        }
        match last_number(file, length)? {
            Some(last) => self.next = self.next.max(last.saturating_add(1)),
            None if length == 0 => {}
            None => tracing::error!(%path, next = self.next, "the ledger's file holds no record: numbers begin anew"),
        }
        Ok(())
    }
}

/// The number of the last record in a file; `None` if there is none in all of it.
fn last_number(file: &mut File, length: u64) -> io::Result<Option<u64>> {
    let number = |line: &[u8]| serde_json::from_slice::<serde_json::Value>(line).ok()?.get("seq")?.as_u64();
    let mut end = length;
    // What was read of a line that begins further in front.
    let mut rest = Vec::new();
    while end > 0 {
        if length - end >= LOOK_BACK_BYTES_MAX {
            return Err(io::Error::other(format!("its last {LOOK_BACK_BYTES_MAX} bytes hold no record")));
        }
        let start = end.saturating_sub(TAIL_BYTES);
        let mut part = read_at(file, start, end)?;
        part.append(&mut rest);
        let first = match start {
            0 => 0,
            _ => part.iter().position(|byte| *byte == b'\n').map_or(part.len(), |at| at + 1),
        };
        let whole = part.split_off(first);
        if let Some(last) = whole.split(|byte| *byte == b'\n').rev().find_map(number) {
            return Ok(Some(last));
        }
        rest = part;
        end = start;
    }
    Ok(None)
}

/// The bytes of a file between two places.
fn read_at(file: &mut File, start: u64, end: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    io::Read::take(&*file, end - start).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A file that was just made is durable only with its folder.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Account, Intent};
    use std::time::Duration;

    fn start(path: &Path) -> Arc<Ledger> {
        Ledger::start(path.to_path_buf(), Arc::new(File::sync_data)).unwrap()
    }

    fn actor() -> Actor {
        Actor {
            login: "ops".into(),
            address: "127.0.0.1:5".into(),
            database: "demo".into(),
            role: "app_bypass".into(),
            preset: "bypass",
            tenant: None,
            client: 1,
        }
    }

    fn intent() -> Entry {
        Entry::Intent(Intent { reason: Reason::parse("a test").ok(), server: 1, server_process: 2 })
    }

    fn outcome() -> Entry {
        Entry::Outcome(Box::new(Account::default().conclude(Conclusion::Committed, None)))
    }

    fn wait(answer: Answer) -> Result<(), Fault> {
        answer.blocking_recv().unwrap()
    }

    fn lines(path: &Path) -> Vec<String> {
        std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
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
        let (rows, broken) = review(text.lines());
        assert_eq!((rows.len(), broken, rows[0].result.as_deref()), (1, 0, Some("committed")));
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
        let line = std::fs::read_to_string(&path).unwrap().lines().next().unwrap().to_owned();
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
        let ledger = Ledger::start(path.clone(), sync).unwrap();
        let mut session = SessionLedger::new(Arc::clone(&ledger), actor());
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
        let ledger = Ledger::start(path.clone(), sync).unwrap();
        let answer = SessionLedger::new(Arc::clone(&ledger), actor()).record(intent());
        assert!(announced.recv_timeout(Duration::from_secs(20)).unwrap() > 0);
        end.send(Err(io::Error::other("the disk is gone"))).unwrap();
        // It is taken back, which is made durable as well.
        assert_eq!(announced.recv_timeout(Duration::from_secs(20)).unwrap(), 0);
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
        assert!(written[0].contains("\"outcome\"") && written[1].contains("\"seq\":3"), "{written:?}");
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
        let last = written[..written.len() - 1].rsplit(|byte| *byte == b'\n').next().unwrap();
        Ok(serde_json::from_slice::<serde_json::Value>(last).unwrap()["seq"].as_u64().unwrap())
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
        assert!(written[2].contains("\"seq\":42"), "{}", written[2]);
    }
}
