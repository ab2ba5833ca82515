//! What the ledger's files hold when one is opened: the last record, and what stands behind it.
//!
//! Owns: reading files from their end on, finding the file before this one, the checkpoint beside it. Does not own:
//! writing (`writer`), what follows from it.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use uuid::Uuid;

use crate::audit::{Damage, Digest, Head, SignedNote};

/// How much of a file is read at once, from its end on, to find the last record: far more than one line's bound.
pub(super) const TAIL_BYTES: u64 = 1 << 20;

/// How far back it is looked for: where so much holds no record, the file is no ledger.
pub(super) const LOOK_BACK_BYTES_MAX: u64 = 64 << 20;

/// Most bytes of a checkpoint's file that are read; it has some hundred.
const CHECKPOINT_BYTES_MAX: u64 = 64 * 1024;

/// Digits of the number behind a closed file's name: names sort as numbers do.
const NUMBER_DIGITS: usize = 20;

/// The end of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct End {
    /// The last record.
    pub head: Option<Head>,
    /// What stands behind it.
    pub damage: Option<Damage>,
}

/// Looks at a file of this length, whose last line is closed.
pub(super) fn end_of(file: &mut File, length: u64) -> io::Result<End> {
    let (head, end) = match last_record(file, length)? {
        Some((head, end)) => (Some(head), end),
        None => (None, 0),
    };
    let behind = read_at(file, end, length)?;
    let damage = (!behind.is_empty()).then(|| Damage { bytes: behind.len() as u64, digest: Digest::of(&behind) });
    Ok(End { head, damage })
}

/// The last record of a file and where its line ends; `None` if there is none in all of it.
fn last_record(file: &mut File, length: u64) -> io::Result<Option<(Head, u64)>> {
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
        if let Some((head, bytes)) = last_in(&whole) {
            return Ok(Some((head, start + first as u64 + bytes)));
        }
        rest = part;
        end = start;
    }
    Ok(None)
}

/// The last line that is a record, and the bytes up to its end with the line break.
fn last_in(text: &[u8]) -> Option<(Head, u64)> {
    #[derive(Deserialize)]
    struct Numbered {
        seq: u64,
    }
    let mut end = text.len();
    for line in text.rsplit(|byte| *byte == b'\n') {
        if let Ok(Numbered { seq }) = serde_json::from_slice(line) {
            let bytes = (end + 1).min(text.len()) as u64;
            return Some((Head { sequence: seq, digest: Digest::of(line) }, bytes));
        }
        end = end.saturating_sub(line.len() + 1);
    }
    None
}

/// The bytes of a file between two places.
pub(super) fn read_at(file: &mut File, start: u64, end: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    io::Read::take(&*file, end.saturating_sub(start)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The name of the ledger, as the first line of its file has it.
pub(super) fn ledger_in(file: &mut File) -> io::Result<Option<Uuid>> {
    #[derive(Deserialize)]
    struct First {
        ledger: String,
    }
    let start = read_at(file, 0, TAIL_BYTES)?;
    let first = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(serde_json::from_slice::<First>(first).ok().and_then(|first| first.ledger.parse().ok()))
}

/// Where a file goes once its last record is this one.
pub(super) fn closed_name(path: &Path, last: u64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{last:0width$}", width = NUMBER_DIGITS));
    PathBuf::from(name)
}

/// The closed files of a ledger, oldest first.
///
/// # Errors
/// Its folder cannot be read.
pub fn closed_files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let Some(name) = path.file_name() else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder_of(path))? {
        let entry = entry?;
        let other = entry.file_name();
        let number = other.as_encoded_bytes().strip_prefix(name.as_encoded_bytes());
        let digits = number.and_then(|rest| rest.strip_prefix(b"."));
        if digits.is_some_and(|digits| digits.len() == NUMBER_DIGITS && digits.iter().all(u8::is_ascii_digit)) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// The folder that a file is in.
pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Where the last checkpoint of a ledger is kept beside it.
#[must_use]
pub fn checkpoint_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".checkpoint");
    PathBuf::from(name)
}

/// The last checkpoint, if there is one.
pub(super) fn checkpoint_beside(path: &Path) -> io::Result<Option<SignedNote>> {
    let file = match File::open(checkpoint_path(path)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    io::Read::take(file, CHECKPOINT_BYTES_MAX).read_to_string(&mut text)?;
    SignedNote::parse(&text).map(Some).map_err(io::Error::other)
}
