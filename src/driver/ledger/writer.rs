//! The ledger's file: one thread that writes records and makes them durable.
//!
//! Records that wait together share one `fdatasync`. After a failed write the file goes back to its last good length
//! and is opened anew at the next record; until that works every intent is refused, and outcomes are kept in memory.
//!
//! Each line carries the digest of the one before it. The first record of a process, and of a file that takes the place
//! of another, says what was found (`boot`, `reopen`). With a key, checkpoints are signed between records, at the latest
//! after `checkpoint_records` of them and `checkpoint_interval`; the last one is kept in a file beside the ledger, so that
//! a start notices a ledger that has become shorter meanwhile.
//!
//! Owns: the files, their lock, their order, the chain's end. Does not own: what a record says (`audit`), who asks for it.

use std::collections::{HashSet, VecDeque};
use std::fs::{File, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use uuid::Uuid;

use super::found::{self, End, TAIL_BYTES, read_at};
use super::lines::gzip_name;
use super::pack::Packer;
use super::{Item, Job, LedgerSync, RECENT_MAX, Recent, Shared, reply, row_of_past, unavailable};
use crate::admin::BypassRow;
use crate::audit::{
    Checkpoint, Conclusion, Damage, Deed, Digest, Entry, Head, Line, Opening, OpeningCause, Place, Shelf, SignedNote,
    TransactionId,
};
use crate::config::LedgerSettings;

/// Most records written by one `fdatasync`.
const BATCH_MAX: usize = 1024;

/// Most outcomes that are kept while the file cannot be written: as many as there can be open transactions.
const UNWRITTEN_MAX: usize = 10_000;

/// How long the thread waits for records when nothing else is due.
const IDLE: Duration = Duration::from_secs(3_600);

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

/// What is written beside the records that were asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wish {
    Records,
    /// A checkpoint, if a record is without one.
    Checkpoint,
    /// A sign of life, and a checkpoint.
    Heartbeat,
}

/// Where the ledger ends.
#[derive(Clone, Copy)]
struct Tip {
    /// The last record.
    head: Head,
    /// Records behind the last checkpoint.
    unsigned: u64,
    /// Since when there are some.
    unsigned_since: Option<Instant>,
}

/// The first record of a process or a file, while it is not written yet.
struct Due {
    cause: OpeningCause,
    damage: Option<Damage>,
    expected: Option<u64>,
}

pub(super) struct Writer {
    settings: LedgerSettings,
    sync: Arc<LedgerSync>,
    shared: Arc<Shared>,
    /// Whoever compresses closed files.
    packer: Option<Packer>,
    file: Option<OpenFile>,
    /// The ledger's name, once a file was opened.
    ledger: Option<Uuid>,
    tip: Tip,
    /// Whether this process has written its first record.
    has_booted: bool,
    due: Option<Due>,
    /// The last attempt to close a file that has become long has failed.
    is_rotation_late: bool,
    /// When something was last written.
    last_written: Instant,
    /// Transactions whose intent is durable and whose outcome is not.
    open: HashSet<TransactionId>,
    /// What has happened and could not be written yet: outcomes, freezes.
    unwritten: VecDeque<Item>,
}

/// A batch while it is put together.
struct Draft<'w> {
    settings: &'w LedgerSettings,
    ledger: Uuid,
    at: Timestamp,
    tip: Tip,
    bytes: Vec<u8>,
    note: Option<SignedNote>,
}

impl Draft<'_> {
    /// Puts a line behind the last one, and a checkpoint behind it if one is due.
    fn put(&mut self, line: impl FnOnce(&Place<'_>) -> Line) {
        self.put_line(line);
        self.tip.unsigned += 1;
        self.tip.unsigned_since.get_or_insert_with(Instant::now);
        if self.tip.unsigned >= self.settings.checkpoint_records {
            self.sign();
        }
    }

    fn put_line(&mut self, line: impl FnOnce(&Place<'_>) -> Line) {
        let sequence = self.tip.head.sequence.saturating_add(1);
        let line = line(&Place { node: &self.settings.node, sequence, at: self.at, prev: self.tip.head.digest });
        self.bytes.extend_from_slice(line.as_bytes());
        self.tip.head = line.head(sequence);
    }

    /// A checkpoint over all that is there, if there is a key.
    fn sign(&mut self) {
        let Some(key) = &self.settings.signing_key else { return };
        if self.tip.unsigned == 0 {
            return;
        }
        let note = key.sign(Checkpoint { ledger: self.ledger, head: self.tip.head, at: self.at });
        self.put_line(|place| Line::of_checkpoint(&note, place));
        self.tip.unsigned = 0;
        self.tip.unsigned_since = None;
        self.note = Some(note);
    }
}

impl Writer {
    pub(super) fn new(
        settings: LedgerSettings,
        sync: Arc<LedgerSync>,
        shared: Arc<Shared>,
        packer: Option<Packer>,
    ) -> Self {
        Self {
            settings,
            sync,
            shared,
            packer,
            file: None,
            ledger: None,
            tip: Tip { head: Head::NONE, unsigned: 0, unsigned_since: None },
            has_booted: false,
            due: None,
            is_rotation_late: false,
            last_written: Instant::now(),
            open: HashSet::new(),
            unwritten: VecDeque::new(),
        }
    }

    /// Opens the file, if that is possible now, and reads what the console shows of it.
    pub(super) fn begin(&mut self) {
        if let Err(error) = self.open().and_then(|()| self.remember()) {
            let path = self.settings.path.display();
            tracing::warn!(%path, %error, "the ledger cannot be opened: bypass and migration logins are refused until it can");
        }
    }

    /// Until the last handle is gone.
    pub(super) fn run(mut self, queue: &mpsc::Receiver<Job>) {
        if self.file.is_some() {
            self.write_alone(Wish::Records);
        }
        loop {
            let first = match queue.recv_timeout(self.patience()) {
                Ok(first) => first,
                Err(RecvTimeoutError::Timeout) => {
                    self.on_silence();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return self.write_alone(Wish::Checkpoint),
            };
            let mut batch = vec![first];
            let batch_max = if self.settings.is_group_commit { BATCH_MAX } else { 1 };
            while batch.len() < batch_max
                && let Ok(job) = queue.try_recv()
            {
                batch.push(job);
            }
            self.take(batch);
        }
    }

    /// How long to wait for records until a checkpoint or a sign of life is due.
    fn patience(&self) -> Duration {
        if self.settings.signing_key.is_none() || self.file.is_none() {
            return IDLE;
        }
        let heartbeat = self.settings.heartbeat_interval.saturating_sub(self.last_written.elapsed());
        let checkpoint = self
            .tip
            .unsigned_since
            .map_or(IDLE, |since| self.settings.checkpoint_interval.saturating_sub(since.elapsed()));
        heartbeat.min(checkpoint).min(IDLE)
    }

    fn on_silence(&mut self) {
        if self.settings.signing_key.is_none() || self.file.is_none() {
            return;
        }
        if self.last_written.elapsed() >= self.settings.heartbeat_interval {
            self.write_alone(Wish::Heartbeat);
        } else {
            self.write_alone(Wish::Records);
        }
    }

    /// Writes what nobody has asked for.
    fn write_alone(&mut self, wish: Wish) {
        if self.wants_more(wish)
            && let Err(error) = self.write(&[], wish)
        {
            self.on_failed(Vec::new(), 0, &error);
        }
    }

    /// Whether something is to be written beside records.
    fn wants_more(&self, wish: Wish) -> bool {
        self.due.is_some()
            || match wish {
                Wish::Records => self.is_checkpoint_late(),
                Wish::Checkpoint => self.settings.signing_key.is_some() && self.tip.unsigned > 0,
                Wish::Heartbeat => true,
            }
    }

    fn is_checkpoint_late(&self) -> bool {
        self.settings.signing_key.is_some()
            && self.tip.unsigned_since.is_some_and(|since| since.elapsed() >= self.settings.checkpoint_interval)
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
        let wish = if settled.is_empty() { Wish::Records } else { Wish::Checkpoint };
        let is_durable = (items.is_empty() && !self.wants_more(wish))
            || match self.write(&items, wish) {
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
                Entry::PreCommit(_) => {}
                Entry::Outcome(outcome) => {
                    self.open.remove(&record.transaction);
                    if outcome.conclusion == Conclusion::Unknown {
                        self.shared.has_unknown.store(true, Ordering::Release);
                    }
                }
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
        tracing::error!(path = %self.settings.path.display(), %error, "the ledger cannot be written");
        for (index, item) in items.into_iter().enumerate() {
            let is_kept = !item.is_ahead()
                && match &item {
                    Item::OfTransaction(record) => index < old || self.open.contains(&record.transaction),
                    Item::OfAct(_) => true,
                };
            if is_kept && self.unwritten.len() < UNWRITTEN_MAX {
                self.unwritten.push_back(item);
            } else if is_kept {
                let line = String::from_utf8_lossy(
                    item.line(&Place {
                        node: &self.settings.node,
                        sequence: 0,
                        at: Timestamp::now(),
                        prev: Digest::NONE,
                    })
                    .as_bytes(),
                )
                .into_owned();
                tracing::error!(line = line.trim_end(), "a record is lost: too many cannot be written");
            }
        }
    }

    fn write(&mut self, items: &[Item], wish: Wish) -> io::Result<Written> {
        if !self.is_in_place() {
            self.file = None;
            self.open()?;
        }
        self.rotate()?;
        let (bytes, tip, note, written) = self.draft(items, wish);
        let Some(open) = self.file.as_mut() else { return Err(io::Error::other("no file")) };
        let length = open.length + bytes.len() as u64;
        match open.file.write_all(&bytes).and_then(|()| (self.sync)(&open.file)) {
            Ok(()) => {
                open.length = length;
                self.tip = tip;
                self.has_booted = true;
                self.due = None;
                self.last_written = Instant::now();
                if let Some(note) = note {
                    self.keep_checkpoint(&note);
                }
                Ok(written)
            }
            Err(error) => {
                self.take_back();
                Err(error)
            }
        }
    }

    /// The bytes of a batch, and where the ledger ends with them.
    fn draft(&mut self, items: &[Item], wish: Wish) -> (Vec<u8>, Tip, Option<SignedNote>, Written) {
        let at = Timestamp::now();
        let ledger = *self.ledger.get_or_insert_with(Uuid::new_v4);
        let mut draft = Draft { settings: &self.settings, ledger, at, tip: self.tip, bytes: Vec::new(), note: None };
        if let Some(due) = &self.due {
            let opening = opening(due, &self.settings, ledger);
            draft.put(|place| Line::of_opening(&opening, place));
            // Whatever an earlier process has left without one is covered now.
            draft.sign();
        }
        let mut begun: HashSet<TransactionId> = HashSet::new();
        let mut skipped = HashSet::new();
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
                    Entry::PreCommit(_) | Entry::Outcome(_) => {}
                }
            }
            draft.put(|place| item.line(place));
        }
        if wish == Wish::Heartbeat {
            draft.put(|place| Line::of_heartbeat(&Uuid::now_v7(), place));
        }
        if wish != Wish::Records || self.is_checkpoint_late() {
            draft.sign();
        }
        (draft.bytes, draft.tip, draft.note, Written { at, skipped })
    }

    /// The last checkpoint, where somebody can take it from and a start finds it. The ledger itself has it, too.
    fn keep_checkpoint(&self, note: &SignedNote) {
        let path = found::checkpoint_path(&self.settings.path);
        let mut fresh = path.as_os_str().to_owned();
        fresh.push(".new");
        let fresh = Path::new(&fresh);
        let write = || {
            let mut options = File::options();
            let mut file = options.write(true).create(true).truncate(true).mode(0o644).open(fresh)?;
            file.write_all(note.as_str().as_bytes())?;
            file.sync_all()?;
            std::fs::rename(fresh, &path)
        };
        if let Err(error) = write() {
            tracing::warn!(path = %path.display(), %error, "the ledger's last checkpoint cannot be kept beside it");
        }
    }

    /// Closes a file that has become long, and begins the next one.
    fn rotate(&mut self) -> io::Result<()> {
        let is_long = |open: &OpenFile| self.settings.rotate_bytes.is_some_and(|bytes| open.length >= bytes);
        if !self.file.as_ref().is_some_and(is_long) {
            return Ok(());
        }
        let closed = found::closed_name(&self.settings.path, self.tip.head.sequence);
        if let Err(error) = close_as(&self.settings.path, &closed) {
            // The file is as good as before, only long: it is written on, and closed as soon as that works.
            if !std::mem::replace(&mut self.is_rotation_late, true) {
                tracing::error!(path = %self.settings.path.display(), closed = %closed.display(), %error, "the ledger cannot be rotated: it is written on");
            }
            return Ok(());
        }
        self.is_rotation_late = false;
        self.file = None;
        self.open()
    }

    /// Back to the last good length; whatever that leaves is looked at when the file is opened anew.
    fn take_back(&mut self) {
        let Some(open) = self.file.take() else { return };
        if let Err(error) = open.file.set_len(open.length).and_then(|()| (self.sync)(&open.file)) {
            tracing::error!(path = %self.settings.path.display(), %error, "the ledger cannot be taken back to its last good length");
        }
    }

    /// Whether the path still leads to the open file: one that was moved away or removed is nobody's to read.
    fn is_in_place(&self) -> bool {
        let identity = std::fs::metadata(&self.settings.path).map(|found| (found.dev(), found.ino()));
        self.file.as_ref().is_some_and(|open| identity.is_ok_and(|identity| identity == open.identity))
    }

    fn open(&mut self) -> io::Result<()> {
        let path = self.settings.path.clone();
        let mut options = File::options();
        let mut file = options.read(true).append(true).create(true).mode(0o600).open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(io::Error::other("another process has it open")),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let found = file.metadata()?;
        let identity = (found.dev(), found.ino());
        if found.permissions().mode() & 0o077 != 0 {
            tracing::warn!(path = %path.display(), "others than its owner may read the ledger");
        }
        if found.is_file() {
            self.mend(&mut file, found.len())?;
            sync_folder(&path)?;
        } else if !self.has_booted {
            self.due = Some(Due { cause: OpeningCause::Boot, damage: None, expected: None });
        }
        let length = file.metadata()?.len();
        self.file = Some(OpenFile { file, length, identity });
        self.shared.is_writable.store(true, Ordering::Release);
        if let Some(packer) = &self.packer {
            packer.wake();
        }
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
        // As many as the tail may hold: other acts are no rows.
        let mut shelf = Shelf::new(usize::try_from(TAIL_BYTES).unwrap_or(usize::MAX));
        lines.for_each(|line| shelf.take(line.as_bytes()));
        // One whose intent is further in front began at a time that is not known here.
        let is_whole = |act: &&Deed| act.kind == "transaction" && act.ended_at.as_ref() != Some(&act.at);
        let mut past: Vec<BypassRow> = shelf.latest().filter(is_whole).take(RECENT_MAX).map(row_of_past).collect();
        past.reverse();
        *self.shared.past.lock() = past;
        Ok(())
    }

    /// Closes a line that a crash has torn (it is never deleted), and goes on behind the last record.
    fn mend(&mut self, file: &mut File, mut length: u64) -> io::Result<()> {
        let path = self.settings.path.display();
        if length > 0 && read_at(file, length - 1, length)? != b"\n" {
            tracing::warn!(%path, "the ledger's last line is torn: it is kept and closed");
            file.write_all(b"\n")?;
            (self.sync)(file)?;
            length += 1;
        }
        let end = found::end_of(file, length)?;
        if end.head.is_none() && length > 0 {
            tracing::error!(%path, "the ledger's file holds no record");
        }
        if self.has_booted {
            self.go_on(end, length)
        } else {
            self.go_on_from_before(file, end, length)?
        }
        Ok(())
    }

    /// Another file, or the same one after a failure: behind what this process has written.
    fn go_on(&mut self, end: End, length: u64) {
        let known = self.tip.head;
        if end == (End { head: Some(known), damage: None }) {
            return;
        }
        let is_shorter = end.head.map_or(length > 0, |head| head.sequence < known.sequence);
        let is_other = end.head.is_some_and(|head| head.sequence == known.sequence && head != known);
        let expected = (is_shorter || is_other).then_some(known.sequence);
        if let Some(expected) = expected {
            let path = self.settings.path.display();
            tracing::error!(%path, expected, "the ledger's file is not the one that was written: records are missing or changed");
        }
        if let Some(head) = end.head {
            self.tip.head = Head { sequence: head.sequence.max(known.sequence), digest: head.digest };
        }
        self.due = Some(Due { cause: OpeningCause::Reopen, damage: end.damage, expected });
    }

    /// The first file of this process.
    fn go_on_from_before(&mut self, file: &mut File, end: End, length: u64) -> io::Result<()> {
        let path = self.settings.path.clone();
        let mut head = end.head;
        self.ledger = found::ledger_in(file)?;
        if length == 0
            && let Some(last) = found::closed_files(&path)?.pop()
        {
            (head, self.ledger) = found::closed_end(&last)?;
        }
        let found = head.unwrap_or(Head::NONE);
        let kept = match found::checkpoint_beside(&path) {
            Ok(kept) => kept.map(|note| note.checkpoint.head.sequence),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the checkpoint beside the ledger cannot be read");
                None
            }
        };
        let expected = kept.filter(|kept| *kept > found.sequence);
        if let Some(expected) = expected {
            let found = found.sequence;
            tracing::error!(path = %path.display(), expected, found, "the ledger's file ends before its last checkpoint: records are missing");
        }
        let sequence = found.sequence.max(expected.unwrap_or(0)).max(self.tip.head.sequence);
        self.tip.head = Head { sequence, digest: found.digest };
        self.due = Some(Due { cause: OpeningCause::Boot, damage: end.damage, expected });
        Ok(())
    }
}

fn opening(due: &Due, settings: &LedgerSettings, ledger: Uuid) -> Opening {
    let key = settings.signing_key.as_ref();
    Opening {
        id: Uuid::now_v7(),
        cause: due.cause,
        ledger,
        version: env!("CARGO_PKG_VERSION"),
        checkpoint_records: key.map(|_| settings.checkpoint_records),
        public_key: key.map(|key| key.public().clone()),
        damage: due.damage,
        expected: due.expected,
    }
}

/// Gives a file the name of a closed one, which no other has.
fn close_as(path: &Path, closed: &Path) -> io::Result<()> {
    match closed.try_exists()? || gzip_name(closed).try_exists()? {
        true => Err(io::Error::from(io::ErrorKind::AlreadyExists)),
        false => std::fs::rename(path, closed),
    }
}

/// A file that was just made is durable only with its folder.
fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(found::folder_of(path))?.sync_all()
}
