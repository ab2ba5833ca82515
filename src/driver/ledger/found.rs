//! What the ledger's files hold when one is opened: the last record, and what stands behind it.
//!
//! A closed file is there as it was written, compressed, or both, when a crash came between the two: then the plain one
//! counts, as it is the one that was written.
//!
//! Owns: reading files from their end on, finding closed files, the checkpoint beside them. Does not own: writing
//! (`writer`), compressing (`pack`), what follows from it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use uuid::Uuid;

use super::lines::{Form, LineFault, Lines, gzip_name};
use crate::audit::{Damage, Digest, Head, SignedNote};

/// How much of a file is read at once, from its end on, to find the last record: far more than one line's bound.
pub(super) const TAIL_BYTES: u64 = 1 << 20;

/// How far back it is looked for: where so much holds no record, the file is no ledger.
pub(super) const LOOK_BACK_BYTES_MAX: u64 = 64 << 20;

/// Most bytes of a checkpoint's file that are read; it has some hundred.
const CHECKPOINT_BYTES_MAX: u64 = 64 * 1024;

/// How often the names in a folder are read until two readings agree: each file that is being compressed costs one.
const READINGS_MAX: usize = 1_000;

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
    let mut end = text.len();
    for line in text.rsplit(|byte| *byte == b'\n') {
        if let Some(sequence) = sequence_in(line) {
            let bytes = (end + 1).min(text.len()) as u64;
            return Some((Head { sequence, digest: Digest::of(line) }, bytes));
        }
        end = end.saturating_sub(line.len() + 1);
    }
    None
}

/// The number of a line that is a record.
fn sequence_in(line: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Numbered {
        seq: u64,
    }
    serde_json::from_slice(line).ok().map(|Numbered { seq }| seq)
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
    let start = read_at(file, 0, TAIL_BYTES)?;
    Ok(name_in(start.split(|byte| *byte == b'\n').next().unwrap_or_default()))
}

fn name_in(first: &[u8]) -> Option<Uuid> {
    #[derive(Deserialize)]
    struct First {
        ledger: String,
    }
    serde_json::from_slice::<First>(first).ok().and_then(|first| first.ledger.parse().ok())
}

/// The last record of a closed file, and the ledger's name, if it says it.
///
/// # Errors
/// It cannot be read. A compressed file that is damaged is refused, too: what a chain goes on from must be known.
pub(super) fn closed_end(path: &Path) -> io::Result<(Option<Head>, Option<Uuid>)> {
    let told = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    match Form::of(path) {
        Form::Plain => {
            let mut file = File::open(path).map_err(told)?;
            let length = file.metadata()?.len();
            Ok((end_of(&mut file, length)?.head, ledger_in(&mut file)?))
        }
        Form::Gzip => packed_end(path).map_err(|fault| told(fault.into())),
    }
}

/// A compressed file has no end to begin at: all of it is read.
fn packed_end(path: &Path) -> Result<(Option<Head>, Option<Uuid>), LineFault> {
    let mut lines = Lines::open(path)?;
    let (mut head, mut name, mut is_first) = (None, None, true);
    while let Some(line) = lines.next_line()? {
        if std::mem::take(&mut is_first) {
            name = name_in(line.bytes);
        }
        if let Some(sequence) = sequence_in(line.bytes) {
            head = Some(Head { sequence, digest: Digest::of(line.bytes) });
        }
    }
    Ok((head, name))
}

/// Where a file goes once its last record is this one.
pub(super) fn closed_name(path: &Path, last: u64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{last:0width$}", width = NUMBER_DIGITS));
    PathBuf::from(name)
}

/// The closed files of a ledger, oldest first: as they were written where they are there so, else compressed.
///
/// # Errors
/// Its folder cannot be read.
pub fn closed_files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let as_read = |(plain, forms): (PathBuf, Forms)| match forms {
        Forms { is_plain: true, .. } => Some(plain),
        Forms { is_gzip: true, .. } => Some(gzip_name(&plain)),
        Forms { .. } => None,
    };
    Ok(closed_forms(path)?.into_iter().filter_map(as_read).collect())
}

/// The names of closed files, without what a compressed one has behind it, oldest first, and how they are there.
pub(super) fn closed_forms(path: &Path) -> io::Result<Vec<(PathBuf, Forms)>> {
    // While a folder is read, a file may be compressed whose new name belongs to what was read already, and whose old one to
    // what was not: it would be in neither. It is in the next reading.
    let mut last = read_names(path)?;
    for _ in 0..READINGS_MAX {
        let next = read_names(path)?;
        if readable(&next).eq(readable(&last)) {
            return Ok(next.into_iter().map(|(name, forms)| (folder_of(path).join(name), forms)).collect());
        }
        last = next;
    }
    Err(io::Error::other("its files change too quickly"))
}

fn readable(names: &BTreeMap<OsString, Forms>) -> impl Iterator<Item = &OsString> {
    names.iter().filter(|(_, forms)| forms.is_plain || forms.is_gzip).map(|(name, _)| name)
}

/// In which forms a closed file is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Forms {
    pub is_plain: bool,
    pub is_gzip: bool,
    /// What a compression that ended early has left.
    pub is_fresh: bool,
}

fn read_names(path: &Path) -> io::Result<BTreeMap<OsString, Forms>> {
    let Some(name) = path.file_name() else { return Ok(BTreeMap::new()) };
    let mut found: BTreeMap<OsString, Forms> = BTreeMap::new();
    for entry in std::fs::read_dir(folder_of(path))? {
        let other = entry?.file_name();
        let Some(rest) = other.as_encoded_bytes().strip_prefix(name.as_encoded_bytes()) else { continue };
        let Some((digits, end)) = rest.strip_prefix(b".").and_then(|rest| rest.split_at_checked(NUMBER_DIGITS)) else {
            continue;
        };
        let forms = match end {
            b"" => Forms { is_plain: true, ..Forms::default() },
            b".gz" => Forms { is_gzip: true, ..Forms::default() },
            b".gz.new" => Forms { is_fresh: true, ..Forms::default() },
            _ => continue,
        };
        let Some(digits) =
            std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|it| it.is_ascii_digit()))
        else {
            continue;
        };
        let mut closed = name.to_owned();
        closed.push(".");
        closed.push(digits);
        let known = found.entry(closed).or_default();
        known.is_plain |= forms.is_plain;
        known.is_gzip |= forms.is_gzip;
        known.is_fresh |= forms.is_fresh;
    }
    Ok(found)
}

/// Closed files that are there in both forms: the plain one and the compressed one.
///
/// # Errors
/// The ledger's folder cannot be read.
pub fn closed_twice(path: &Path) -> io::Result<Vec<(PathBuf, PathBuf)>> {
    let both = |(plain, forms): (PathBuf, Forms)| {
        let gzip = gzip_name(&plain);
        (forms.is_plain && forms.is_gzip).then_some((plain, gzip))
    };
    Ok(closed_forms(path)?.into_iter().filter_map(both).collect())
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
