//! Compressing closed files, by a thread that nobody waits for.
//!
//! ```text
//! N ──write──▶ N, N.gz.new ──sync, read back, compare, follow the chain──▶ rename ──▶ N, N.gz ──sync folder──▶ remove ──▶ N.gz
//! ```
//!
//! Whatever ends it on the way leaves N, or N.gz that is durable and known to be the same, or both. The next round goes on
//! from there: `.gz.new` is thrown away, `.gz` that cannot be decompressed is made anew. A `.gz` that can be, and holds
//! something else, was not made here: both stay for somebody to look at. So does a file whose chain does not hold.
//!
//! It works for at most a quarter of its time, makes durable what it writes in small parts so that the ledger's own
//! `fdatasync` never waits for a lot of it, and does not begin where it could fill the disk.
//!
//! Owns: the steps and their order, the thread and its pace. Does not own: which records there are (`writer`), comparing
//! (`lines`).

use std::collections::HashSet;
use std::fs::{File, Metadata, TryLockError};
use std::io::{self, Read as _, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError, TrySendError};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::Shared;
use super::found::{closed_forms, folder_of};
use super::lines::{Likeness, compare, gzip_name};
use crate::audit::Broken;

/// What is read at once, and how much is worked on between two rests.
const PIECE_BYTES: usize = 1 << 20;

/// So much is written before it is made durable: what the ledger's own `fdatasync` may find in its way.
const SYNC_BYTES: u64 = 1 << 20;

/// How much of the disk stays free at least while a file is compressed, beside the size of that file: room for records.
const FREE_BYTES_MIN: u64 = 64 << 20;

/// Rests are this many times as long as work.
const REST_FACTOR: u32 = 3;

/// When a file that could not be compressed is tried again.
const RETRY: Duration = Duration::from_secs(600);

/// How long the thread waits for closed files when nothing has failed.
const IDLE: Duration = Duration::from_secs(86_400);

/// What compressing does to the disk; a test's disk fails.
pub(super) trait Disk {
    /// A new file with this mode, in place of another of the name that nobody has locked.
    fn create(&self, path: &Path, mode: u32) -> io::Result<File>;
    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<usize>;
    fn sync(&self, file: &File) -> io::Result<()>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
    /// Bytes that may still be written.
    fn free(&self, folder: &Path) -> io::Result<u64>;
}

/// The one that is there.
pub(super) struct System;

impl Disk for System {
    fn create(&self, path: &Path, mode: u32) -> io::Result<File> {
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(false).mode(mode).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(io::Error::other("another process compresses it")),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        file.set_len(0)?;
        Ok(file)
    }

    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<usize> {
        file.write(bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    fn free(&self, folder: &Path) -> io::Result<u64> {
        let found = rustix::fs::statvfs(folder)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }
}

/// Why a file stays as it is.
#[derive(Debug, thiserror::Error)]
pub(super) enum PackFault {
    #[error("the system refuses: {0}")]
    System(#[from] io::Error),
    #[error("the proxy ends")]
    Stopped,
    #[error("{free} bytes are free on its disk, and {needed} have to be")]
    NoRoom { free: u64, needed: u64 },
    #[error("it is not a file")]
    NotAFile,
    #[error("somebody has changed or moved it meanwhile")]
    Changed,
    #[error("what was read back is not what was written")]
    ReadBack,
    #[error("beside it stands a compressed file of its name that holds something else: find out which of them is true")]
    Twin,
    #[error("line {}{}: the chain does not hold: tenantgate ledger verify", .0.spot.line, .0.breach)]
    Unsound(Broken),
}

impl PackFault {
    /// Whether this does not change by waiting: the file is looked at again by the next process.
    const fn is_lasting(&self) -> bool {
        match self {
            Self::NotAFile | Self::Twin | Self::Unsound(_) => true,
            Self::System(_) | Self::Stopped | Self::NoRoom { .. } | Self::Changed | Self::ReadBack => false,
        }
    }
}

/// Whoever is asked between two pieces of work.
pub(super) type Pace<'p> = dyn FnMut() -> ControlFlow<()> + 'p;

/// Compresses one closed file, or ends what was begun.
pub(super) fn pack(closed: &Path, disk: &dyn Disk, pace: &mut Pace<'_>) -> Result<(), PackFault> {
    let before = std::fs::symlink_metadata(closed)?;
    if !before.is_file() {
        return Err(PackFault::NotAFile);
    }
    let gzip = gzip_name(closed);
    match compared(closed, &gzip, pace)? {
        Likeness::Same => {}
        Likeness::Other => return Err(PackFault::Twin),
        Likeness::Unsound(broken) => return Err(PackFault::Unsound(broken)),
        Likeness::Missing | Likeness::Damaged => make(closed, &before, &gzip, disk, pace)?,
    }
    let folder = folder_of(closed);
    // Also where it was made earlier: whether that had come so far is not known.
    disk.sync_folder(folder)?;
    if !std::fs::symlink_metadata(closed).is_ok_and(|now| is_same(&now, &before)) {
        return Err(PackFault::Changed);
    }
    disk.remove(closed)?;
    disk.sync_folder(folder)?;
    Ok(())
}

fn is_same(now: &Metadata, before: &Metadata) -> bool {
    let told = |it: &Metadata| (it.dev(), it.ino(), it.len(), it.mtime(), it.mtime_nsec());
    told(now) == told(before)
}

/// Makes the compressed file; what it has made of it is removed where that fails.
fn make(closed: &Path, before: &Metadata, gzip: &Path, disk: &dyn Disk, pace: &mut Pace<'_>) -> Result<(), PackFault> {
    let needed = before.len().saturating_add(FREE_BYTES_MIN);
    let free = disk.free(folder_of(closed))?;
    if free < needed {
        return Err(PackFault::NoRoom { free, needed });
    }
    let fresh = fresh_name(closed);
    let file = disk.create(&fresh, before.mode() & 0o7777)?;
    let made = fill(closed, before, file, disk, pace)
        .and_then(|file| {
            // Until it has its name nobody else may take it for a leftover.
            let likeness = compared(closed, &fresh, pace)?;
            drop(file);
            Ok(likeness)
        })
        .and_then(|likeness| match likeness {
            Likeness::Same => Ok(disk.rename(&fresh, gzip)?),
            Likeness::Unsound(broken) => Err(PackFault::Unsound(broken)),
            Likeness::Other | Likeness::Damaged | Likeness::Missing => Err(PackFault::ReadBack),
        });
    if made.is_err()
        && let Err(error) = disk.remove(&fresh)
    {
        tracing::warn!(path = %fresh.display(), %error, "what is left of a compression cannot be removed");
    }
    made
}

/// Compresses into a file until that is durable.
fn fill(closed: &Path, before: &Metadata, file: File, disk: &dyn Disk, pace: &mut Pace<'_>) -> Result<File, PackFault> {
    let mut source = File::open(closed)?;
    let mut encoder = GzEncoder::new(Durable { disk, file, waiting: 0 }, Compression::default());
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match source.read(&mut piece)? {
            0 => break,
            read => encoder.write_all(piece.get(..read).unwrap_or_default())?,
        }
        if pace().is_break() {
            return Err(PackFault::Stopped);
        }
    }
    let Durable { file, .. } = encoder.finish()?;
    // Whoever looks for old files finds it where the plain one was.
    file.set_modified(before.modified()?)?;
    disk.sync(&file)?;
    Ok(file)
}

/// A file that is made durable as it grows.
struct Durable<'d> {
    disk: &'d dyn Disk,
    file: File,
    waiting: u64,
}

impl Write for Durable<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.disk.write(&mut self.file, bytes)?;
        self.waiting += written as u64;
        if self.waiting >= SYNC_BYTES {
            self.waiting = 0;
            self.disk.sync(&self.file)?;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn compared(plain: &Path, gzip: &Path, pace: &mut Pace<'_>) -> Result<Likeness, PackFault> {
    let mut read = 0;
    let found = compare(plain, gzip, &mut |bytes| {
        read += bytes;
        if read < PIECE_BYTES {
            return ControlFlow::Continue(());
        }
        read = 0;
        pace()
    })?;
    found.ok_or(PackFault::Stopped)
}

/// What a compressed file is called until it is known to be good.
fn fresh_name(closed: &Path) -> PathBuf {
    let mut name = gzip_name(closed).into_os_string();
    name.push(".new");
    PathBuf::from(name)
}

/// Tells the thread that there may be something to do.
pub(super) struct Packer {
    wake: mpsc::SyncSender<()>,
}

impl Packer {
    /// Starts the thread. It ends, in the middle of a file, when this is dropped.
    ///
    /// # Errors
    /// The system gives none.
    pub(super) fn start(ledger: PathBuf, shared: Arc<Shared>) -> io::Result<Self> {
        // One that waits is enough for all that has happened before it is taken.
        let (wake, woken) = mpsc::sync_channel(1);
        let worker = Worker { ledger, shared, woken, is_woken: false, left: HashSet::new() };
        std::thread::Builder::new().name("ledger-pack".into()).spawn(move || worker.run())?;
        Ok(Self { wake })
    }

    /// Closed files are looked for. Only who has the ledger's lock may say so.
    pub(super) fn wake(&self) {
        match self.wake.try_send(()) {
            Ok(()) | Err(TrySendError::Full(())) => {}
            Err(TrySendError::Disconnected(())) => tracing::debug!("the thread that compresses has ended"),
        }
    }
}

struct Worker {
    ledger: PathBuf,
    shared: Arc<Shared>,
    woken: mpsc::Receiver<()>,
    /// There may be more to do than was looked at.
    is_woken: bool,
    /// Files that stay as they are.
    left: HashSet<PathBuf>,
}

impl Worker {
    fn run(mut self) {
        // Until the ledger is open it may be another process's.
        let mut next = self.woken.recv().map_err(|_| RecvTimeoutError::Disconnected);
        while !matches!(next, Err(RecvTimeoutError::Disconnected)) {
            let patience = match self.round() {
                _ if std::mem::take(&mut self.is_woken) => Duration::ZERO,
                true => IDLE,
                false => RETRY,
            };
            next = self.woken.recv_timeout(patience);
        }
    }

    /// Compresses what is there, oldest first; `false`: something is to be tried again.
    fn round(&mut self) -> bool {
        let forms = match closed_forms(&self.ledger) {
            Ok(forms) => forms,
            Err(error) => {
                tracing::warn!(path = %self.ledger.display(), %error, "closed files of the ledger cannot be looked for");
                return false;
            }
        };
        for (closed, forms) in forms {
            if forms.is_fresh {
                clear(&closed);
            }
            if !forms.is_plain || self.left.contains(&closed) {
                continue;
            }
            if let Err(fault) = self.pack(&closed) {
                return self.on_fault(&closed, &fault);
            }
        }
        true
    }

    /// A file that stays as it is does not keep others from being compressed; what the disk says of one, it says of all.
    fn pack(&mut self, closed: &Path) -> Result<(), PackFault> {
        let woken = &self.woken;
        let mut since = Instant::now();
        let mut is_woken = false;
        let packed = pack(closed, &System, &mut || {
            let rest = since.elapsed().saturating_mul(REST_FACTOR);
            let told = woken.recv_timeout(rest);
            since = Instant::now();
            is_woken |= told.is_ok();
            match told {
                Err(RecvTimeoutError::Disconnected) => ControlFlow::Break(()),
                Ok(()) | Err(RecvTimeoutError::Timeout) => ControlFlow::Continue(()),
            }
        });
        self.is_woken |= is_woken;
        match packed {
            Ok(()) => {
                self.shared.packed.fetch_add(1, Ordering::AcqRel);
                tracing::info!(path = %gzip_name(closed).display(), "a closed file of the ledger is compressed");
                Ok(())
            }
            Err(fault) if fault.is_lasting() => {
                self.on_fault(closed, &fault);
                self.left.insert(closed.to_path_buf());
                Ok(())
            }
            Err(fault) => Err(fault),
        }
    }

    /// Whether nothing is to be tried again.
    fn on_fault(&self, closed: &Path, fault: &PackFault) -> bool {
        if matches!(fault, PackFault::Stopped) {
            return true;
        }
        self.shared.unpacked.fetch_add(1, Ordering::AcqRel);
        tracing::warn!(path = %closed.display(), %fault, "a closed file of the ledger is not compressed");
        false
    }
}

/// Removes what an earlier process has begun, unless another is at it.
fn clear(closed: &Path) {
    let fresh = fresh_name(closed);
    let is_ours = File::open(&fresh).is_ok_and(|file| file.try_lock().is_ok());
    if is_ours && let Err(error) = std::fs::remove_file(&fresh) {
        tracing::warn!(path = %fresh.display(), %error, "what is left of a compression cannot be removed");
    }
}

#[cfg(test)]
#[path = "pack_tests.rs"]
mod tests;
