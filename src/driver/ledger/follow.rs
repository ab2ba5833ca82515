//! Reading a ledger that is being written: its files one after another, and on where it grows, through rotations.
//!
//! Owns: which file is next, whole lines. Does not own: what lines say, when to look again.

use std::fs::{File, Metadata};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::found::closed_files;

/// A line of a ledger has less than 256 KiB; what is far longer is none, and is given out in parts.
const LINE_BYTES_MAX: usize = 4 << 20;

/// What is read at once.
const READ_BYTES: usize = 1 << 18;

/// What a follower meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Followed<'l> {
    /// A line, without its line break.
    Line(&'l [u8]),
    /// The next file begins.
    NextFile,
    /// The file is another than before: all is read from the beginning.
    Anew,
}

/// A ledger that is followed.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    current: Option<Current>,
    /// The beginning of a line whose end is not written yet.
    part: Vec<u8>,
}

#[derive(Debug)]
struct Current {
    reader: BufReader<File>,
    identity: (u64, u64),
    /// How far it was read.
    at: u64,
}

impl Current {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let identity = identity_of(&file.metadata()?);
        Ok(Self { reader: BufReader::with_capacity(READ_BYTES, file), identity, at: 0 })
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.reader.get_ref().metadata()?.len())
    }
}

fn identity_of(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn identity_at(path: &Path) -> io::Result<Option<(u64, u64)>> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(Some(identity_of(&metadata))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Follower {
    /// From the first line of the oldest file on. Nothing is read yet.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_path_buf(), current: None, part: Vec::new() }
    }

    /// From the first line that begins within the last `bytes` of the ledger's last file on, or of the one before it where
    /// the last is shorter.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn near_end(path: &Path, bytes: u64) -> io::Result<Self> {
        let mut follower = Self::new(path);
        let files = files(path)?;
        let last = files.last().map(std::fs::metadata).transpose()?;
        let is_short = last.is_none_or(|metadata| metadata.len() < bytes);
        let Some(first) = files.iter().rev().nth(usize::from(is_short && files.len() > 1)) else { return Ok(follower) };
        let mut current = Current::open(first)?;
        let start = current.length()?.saturating_sub(bytes);
        if start > 0 {
            // A line that begins here is whole where the byte in front of it ends another.
            current.reader.seek(SeekFrom::Start(start - 1))?;
            let mut skipped = Vec::new();
            current.reader.read_until(b'\n', &mut skipped)?;
            current.at = start - 1 + skipped.len() as u64;
        }
        follower.current = Some(current);
        Ok(follower)
    }

    /// Reads all that is there now.
    ///
    /// # Errors
    /// A file cannot be read; what was read is given out.
    pub fn poll(&mut self, on: &mut dyn FnMut(Followed<'_>)) -> io::Result<()> {
        loop {
            if self.current.is_none() {
                let Some(first) = files(&self.path)?.into_iter().next() else { return Ok(()) };
                self.current = Some(Current::open(&first)?);
            }
            if self.has_shrunk()? {
                self.begin_anew(on);
                continue;
            }
            // Looked up before the end is read: behind that nobody writes to a file that is no more the last.
            let last = identity_at(&self.path)?;
            self.read_on(on)?;
            if self.current.as_ref().map(|current| current.identity) == last || !self.go_to_next(on)? {
                return Ok(());
            }
        }
    }

    fn begin_anew(&mut self, on: &mut dyn FnMut(Followed<'_>)) {
        self.current = None;
        self.part.clear();
        on(Followed::Anew);
    }

    fn has_shrunk(&self) -> io::Result<bool> {
        self.current.as_ref().map_or(Ok(false), |current| Ok(current.length()? < current.at))
    }

    fn read_on(&mut self, on: &mut dyn FnMut(Followed<'_>)) -> io::Result<()> {
        let Some(current) = &mut self.current else { return Ok(()) };
        loop {
            let room = LINE_BYTES_MAX.saturating_sub(self.part.len()).max(1) as u64;
            let read = current.reader.by_ref().take(room).read_until(b'\n', &mut self.part)?;
            if read == 0 {
                return Ok(());
            }
            current.at += read as u64;
            let line = self.part.strip_suffix(b"\n");
            if line.is_some() || self.part.len() >= LINE_BYTES_MAX {
                on(Followed::Line(line.unwrap_or(&self.part)));
                self.part.clear();
            }
        }
    }

    /// Whether there was one.
    fn go_to_next(&mut self, on: &mut dyn FnMut(Followed<'_>)) -> io::Result<bool> {
        let Some(current) = &self.current else { return Ok(false) };
        let files = files(&self.path)?;
        let mut at = None;
        for (index, file) in files.iter().enumerate() {
            if identity_at(file)? == Some(current.identity) {
                at = Some(index);
            }
        }
        match at.map(|at| files.get(at + 1)) {
            // It was moved away: what is there now is read as it is.
            None if files.is_empty() => return Ok(false),
            None => self.begin_anew(on),
            // It was just renamed, and the next one is not there yet.
            Some(None) => return Ok(false),
            Some(Some(next)) => {
                let next = Current::open(next)?;
                if !self.part.is_empty() {
                    on(Followed::Line(&self.part));
                    self.part.clear();
                }
                self.current = Some(next);
                on(Followed::NextFile);
            }
        }
        Ok(true)
    }
}

/// The ledger's files that are there, oldest first.
fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = closed_files(path)?;
    if path.exists() {
        files.push(path.to_path_buf());
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::super::found::closed_name;
    use super::*;

    fn poll(follower: &mut Follower) -> Vec<String> {
        let mut seen = Vec::new();
        follower
            .poll(&mut |met| {
                seen.push(match met {
                    Followed::Line(line) => String::from_utf8_lossy(line).into_owned(),
                    Followed::NextFile => "->".to_owned(),
                    Followed::Anew => "!!".to_owned(),
                });
            })
            .unwrap();
        seen
    }

    fn append(path: &Path, text: &str) {
        File::options().append(true).create(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn lines_are_followed_through_rotations() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.jsonl");
        let mut follower = Follower::new(&path);
        assert_eq!(poll(&mut follower), [""; 0]);
        append(&path, "one\ntw");
        assert_eq!(poll(&mut follower), ["one"]);
        append(&path, "o\nthree\n");
        std::fs::rename(&path, closed_name(&path, 3)).unwrap();
        assert_eq!(poll(&mut follower), ["two", "three"]);
        append(&path, "four\n");
        assert_eq!(poll(&mut follower), ["->", "four"]);
        // Two rotations between two looks.
        append(&path, "five\n");
        std::fs::rename(&path, closed_name(&path, 5)).unwrap();
        append(&path, "six\n");
        std::fs::rename(&path, closed_name(&path, 6)).unwrap();
        append(&path, "seven\n");
        assert_eq!(poll(&mut follower), ["five", "->", "six", "->", "seven"]);
        assert_eq!(poll(&mut follower), [""; 0]);
        // One that comes later reads the same.
        assert_eq!(
            poll(&mut Follower::new(&path)),
            ["one", "two", "three", "->", "four", "five", "->", "six", "->", "seven"]
        );
    }

    #[test]
    fn another_file_is_read_from_its_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.jsonl");
        append(&path, "one\ntwo\n");
        let mut follower = Follower::new(&path);
        poll(&mut follower);
        std::fs::write(&path, "one\n").unwrap();
        assert_eq!(poll(&mut follower), ["!!", "one"]);
        std::fs::rename(&path, folder.path().join("elsewhere")).unwrap();
        append(&path, "new\n");
        assert_eq!(poll(&mut follower), ["!!", "new"]);
    }

    #[test]
    fn near_the_end_only_whole_lines_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.jsonl");
        append(&path, "one\ntwo\nthree\n");
        for (bytes, first) in [(6, "three"), (7, "three"), (9, "three"), (10, "two"), (14, "one"), (99, "one")] {
            let seen = poll(&mut Follower::near_end(&path, bytes).unwrap());
            assert_eq!(seen.first().map(String::as_str), Some(first), "{bytes}: {seen:?}");
        }
        std::fs::rename(&path, closed_name(&path, 3)).unwrap();
        append(&path, "four\n");
        assert_eq!(poll(&mut Follower::near_end(&path, 10).unwrap()), ["two", "three", "->", "four"]);
    }

    #[test]
    fn a_line_without_end_takes_no_memory_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.jsonl");
        append(&path, &"x".repeat(LINE_BYTES_MAX + 10));
        let mut follower = Follower::new(&path);
        assert_eq!(poll(&mut follower).iter().map(String::len).collect::<Vec<_>>(), [LINE_BYTES_MAX]);
        assert_eq!(follower.part.len(), 10);
    }
}
