//! The lines of a ledger's files, compressed or not.
//!
//! A compressed file is read as a stream, never held whole. All members of its gzip stream count, as for `zcat`, and
//! nothing may stand behind them: text that one reader sees and another does not would be a ledger of two minds.
//!
//! Owns: opening a file in whichever form it is there, the bound of a line, the walk of a verifier, whether two forms are
//! one file. Does not own: which files there are (`found`), files that grow (`follow`), what lines say (`audit`).

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use crate::audit::{Broken, Expectations, Verified, Verifier};

/// A line of a ledger has less than 256 KiB; what is far longer is none, and is given out in parts.
pub(super) const LINE_BYTES_MAX: usize = 4 << 20;

/// What is read of a file at once.
const READ_BYTES: usize = 1 << 18;

/// What the name of a compressed file ends with.
const GZIP: &str = "gz";

/// How a file is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Plain,
    Gzip,
}

impl Form {
    /// As its name says.
    pub(super) fn of(path: &Path) -> Self {
        match path.extension() {
            Some(end) if end == OsStr::new(GZIP) => Self::Gzip,
            _ => Self::Plain,
        }
    }

    /// The bytes that were written, in whichever form they are stored.
    pub(super) fn reader(self, file: File) -> Box<dyn Read + Send> {
        match self {
            Self::Plain => Box::new(file),
            Self::Gzip => Box::new(MultiGzDecoder::new(BufReader::with_capacity(READ_BYTES, file))),
        }
    }

    /// What an error of such a reader means: one of the system has its number, one without is the stream's own.
    pub(super) fn is_damage(self, error: &io::Error) -> bool {
        self == Self::Gzip && error.raw_os_error().is_none()
    }
}

/// The name of the same file in compressed form.
pub(super) fn gzip_name(plain: &Path) -> PathBuf {
    let mut name = plain.as_os_str().to_owned();
    name.push(".");
    name.push(GZIP);
    PathBuf::from(name)
}

/// The name of the same file in plain form.
pub(super) fn plain_name(path: &Path) -> PathBuf {
    match Form::of(path) {
        Form::Plain => path.to_path_buf(),
        Form::Gzip => path.with_extension(""),
    }
}

/// Why a line cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LineFault {
    /// The system refuses.
    #[error(transparent)]
    System(#[from] io::Error),
    /// The file is compressed, and cannot be decompressed.
    #[error("its gzip stream is damaged or cut off behind line {0}")]
    Damaged(u64),
}

impl From<LineFault> for io::Error {
    fn from(fault: LineFault) -> Self {
        match fault {
            LineFault::System(error) => error,
            LineFault::Damaged(_) => Self::new(io::ErrorKind::InvalidData, fault),
        }
    }
}

/// A line, or a part of one that is too long to be a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileLine<'l> {
    /// Its bytes, without the line break.
    pub bytes: &'l [u8],
    /// Whether it had one.
    pub is_closed: bool,
}

/// The lines of one file, in memory of one line.
pub struct Lines {
    reader: BufReader<Box<dyn Read + Send>>,
    form: Form,
    line: Vec<u8>,
    count: u64,
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").field("form", &self.form).field("count", &self.count).finish_non_exhaustive()
    }
}

impl Lines {
    /// Of a file that is there in this form or the other: it may be compressed while somebody has its name.
    ///
    /// # Errors
    /// There is none, or it cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let form = Form::of(path);
        let missing = match Self::open_as(path, form) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => error,
            opened => return opened,
        };
        let (other, form) = match form {
            Form::Plain => (gzip_name(path), Form::Gzip),
            Form::Gzip => (plain_name(path), Form::Plain),
        };
        Self::open_as(&other, form).map_err(|_| missing)
    }

    /// Whatever its name says.
    pub(super) fn open_as(path: &Path, form: Form) -> io::Result<Self> {
        let reader = BufReader::with_capacity(READ_BYTES, form.reader(File::open(path)?));
        Ok(Self { reader, form, line: Vec::new(), count: 0 })
    }

    /// The next line; `None` behind the last. Behind an error nothing is told of the rest.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn next_line(&mut self) -> Result<Option<FileLine<'_>>, LineFault> {
        self.line.clear();
        let read = self.reader.by_ref().take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut self.line);
        match read {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(error) if self.form.is_damage(&error) => return Err(LineFault::Damaged(self.count)),
            Err(error) => return Err(error.into()),
        }
        self.count += 1;
        let closed = self.line.strip_suffix(b"\n");
        Ok(Some(FileLine { bytes: closed.unwrap_or(&self.line), is_closed: closed.is_some() }))
    }
}

/// A file that a walk cannot read.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be read: {error}", path.display())]
pub struct Unreadable {
    path: PathBuf,
    error: io::Error,
}

/// Walks along a ledger's files. One that cannot be decompressed is a breach like another.
///
/// # Errors
/// The system does not let it be found out.
pub fn verify(files: &[PathBuf], expectations: Expectations) -> Result<Result<Verified, Broken>, Unreadable> {
    let mut verifier = Verifier::new(expectations);
    for (index, path) in files.iter().enumerate() {
        if index > 0 {
            verifier.next_file();
        }
        let unreadable = |error| Unreadable { path: path.clone(), error };
        let mut lines = Lines::open(path).map_err(unreadable)?;
        loop {
            match lines.next_line() {
                Ok(None) => break,
                Ok(Some(line)) => {
                    if let Err(broken) = verifier.take(line.bytes, line.is_closed) {
                        return Ok(Err(broken));
                    }
                }
                Err(LineFault::Damaged(_)) => return Ok(Err(verifier.undecompressable())),
                Err(LineFault::System(error)) => return Err(unreadable(error)),
            }
        }
    }
    Ok(verifier.end())
}

/// How a compressed file relates to the plain one of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Likeness {
    /// They hold the same bytes, and the chain in them holds.
    Same,
    /// They hold the same bytes, and the chain in them is broken.
    Unsound(Broken),
    /// The compressed one is whole, and holds other bytes.
    Other,
    /// The compressed one cannot be decompressed.
    Damaged,
    /// One of them is not there.
    Missing,
}

/// Compares the two forms of a file.
///
/// # Errors
/// One cannot be read.
pub fn likeness(plain: &Path, gzip: &Path) -> io::Result<Likeness> {
    let likeness = compare(plain, gzip, &mut |_| ControlFlow::Continue(()))?;
    Ok(likeness.unwrap_or(Likeness::Missing))
}

/// The same; whoever is told of the bytes that were read may end it: `None`.
pub(super) fn compare(
    plain: &Path,
    gzip: &Path,
    on_read: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> io::Result<Option<Likeness>> {
    let (Some(mut plain), Some(mut gzip)) = (open_there(plain, Form::Plain)?, open_there(gzip, Form::Gzip)?) else {
        return Ok(Some(Likeness::Missing));
    };
    // It begins in the middle of a ledger.
    let mut verifier = Verifier::new(Expectations { is_partial: true, ..Expectations::default() });
    let (mut unsound, mut is_same) = (None, true);
    loop {
        let packed = match gzip.next_line() {
            Ok(line) => line,
            Err(LineFault::Damaged(_)) => return Ok(Some(Likeness::Damaged)),
            Err(LineFault::System(error)) => return Err(error),
        };
        // Also where they differ it is read to its end: only then it is known to be whole.
        if is_same {
            is_same = plain.next_line()? == packed;
        }
        let Some(line) = packed else { break };
        if is_same && unsound.is_none() {
            unsound = verifier.take(line.bytes, line.is_closed).err();
        }
        if on_read(line.bytes.len()).is_break() {
            return Ok(None);
        }
    }
    Ok(Some(match (is_same, unsound.or_else(|| verifier.end().err())) {
        (false, _) => Likeness::Other,
        (true, Some(broken)) => Likeness::Unsound(broken),
        (true, None) => Likeness::Same,
    }))
}

fn open_there(path: &Path, form: Form) -> io::Result<Option<Lines>> {
    match Lines::open_as(path, form) {
        Ok(lines) => Ok(Some(lines)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
