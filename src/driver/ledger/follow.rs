//! Reading a ledger that is being written: its files one after another, and on where it grows, through rotations.
//!
//! Owns: which file is next, whole lines. Does not own: what lines say, when to look again.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, BufRead as _, BufReader, Read, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::found::{closed_files, closed_name, end_of};
use super::lines::{Form, LINE_BYTES_MAX, gzip_name, plain_name};

/// What is read at once.
const READ_BYTES: usize = 1 << 18;

/// What a follower meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Followed<'l> {
    /// A line, without its line break.
    Line(&'l [u8]),
    /// The rest of this file, which is compressed, cannot be decompressed.
    Damaged(&'l Path),
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

struct Current {
    path: PathBuf,
    form: Form,
    /// The file itself, which the reader reads.
    file: File,
    reader: BufReader<Box<dyn Read + Send>>,
    identity: (u64, u64),
    /// How far it was read, of what was written.
    at: u64,
    /// It is compressed, and its rest cannot be read.
    is_damaged: bool,
    /// Which was said.
    is_told: bool,
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Current").field("path", &self.path).field("at", &self.at).finish_non_exhaustive()
    }
}

impl Current {
    fn open(path: &Path) -> io::Result<Self> {
        let (file, form) = (File::open(path)?, Form::of(path));
        let identity = identity_of(&file.metadata()?);
        let reader = BufReader::with_capacity(READ_BYTES, form.reader(file.try_clone()?));
        Ok(Self { path: path.to_path_buf(), form, file, reader, identity, at: 0, is_damaged: false, is_told: false })
    }

    /// One that was found by its name: a closed file may have been compressed meanwhile.
    fn open_found(path: &Path, ledger: &Path) -> io::Result<Self> {
        match Self::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && path != ledger => {
                Self::open(&gzip_name(path)).map_err(|_| error)
            }
            opened => opened,
        }
    }

    /// From the first line that begins within the last `bytes` on.
    fn open_near_end(path: &Path, ledger: &Path, bytes: u64) -> io::Result<Self> {
        let mut current = Self::open_found(path, ledger)?;
        let start = current.length_written()?.saturating_sub(bytes);
        if start > 0 {
            // A line that begins here is whole where the byte in front of it ends another.
            current.skip(start - 1)?;
            let mut skipped = Vec::new();
            match current.reader.by_ref().take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut skipped) {
                Ok(_) => {}
                Err(error) => current.on_error(error)?,
            }
            current.at += skipped.len() as u64;
        }
        Ok(current)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// How much was written: of a compressed file, as far as it can be read.
    fn length_written(&self) -> io::Result<u64> {
        match self.form {
            Form::Plain => self.length(),
            Form::Gzip => {
                let mut reader = self.form.reader(File::open(&self.path)?);
                let (mut length, mut piece) = (0, vec![0; READ_BYTES]);
                loop {
                    match reader.read(&mut piece) {
                        Ok(0) => return Ok(length),
                        Ok(read) => length += read as u64,
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) if self.form.is_damage(&error) => return Ok(length),
                        Err(error) => return Err(error),
                    }
                }
            }
        }
    }

    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        match self.form {
            Form::Plain => drop(self.file.seek(SeekFrom::Start(bytes))?),
            Form::Gzip => {
                if let Err(error) = io::copy(&mut self.reader.by_ref().take(bytes), &mut io::sink()) {
                    self.on_error(error)?;
                }
            }
        }
        self.at = bytes;
        Ok(())
    }

    /// What is damaged is told once, and not read again.
    fn on_error(&mut self, error: io::Error) -> io::Result<()> {
        if !self.form.is_damage(&error) {
            return Err(error);
        }
        self.is_damaged = true;
        Ok(())
    }

    /// The name that it has, or has got meanwhile, as a closed file.
    fn closed_as(&mut self, ledger: &Path) -> io::Result<Option<PathBuf>> {
        if self.path != ledger {
            return Ok(Some(self.path.clone()));
        }
        let length = self.length()?;
        // What holds no record has no number.
        let head = end_of(&mut self.file, length).ok().and_then(|end| end.head);
        // Whoever reads on does so where it was.
        self.file.seek(SeekFrom::Start(self.at))?;
        Ok(head.map(|head| closed_name(ledger, head.sequence)))
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
        follower.current = Some(Current::open_near_end(first, path, bytes)?);
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
                self.current = Some(Current::open_found(&first, &self.path)?);
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

    /// A compressed file does not grow, and was read as far as it goes.
    fn has_shrunk(&self) -> io::Result<bool> {
        match &self.current {
            Some(current) if current.form == Form::Plain => Ok(current.length()? < current.at),
            Some(_) | None => Ok(false),
        }
    }

    fn read_on(&mut self, on: &mut dyn FnMut(Followed<'_>)) -> io::Result<()> {
        let Some(current) = &mut self.current else { return Ok(()) };
        while !current.is_damaged {
            let room = LINE_BYTES_MAX.saturating_sub(self.part.len()).max(1) as u64;
            let read = match current.reader.by_ref().take(room).read_until(b'\n', &mut self.part) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(error) => {
                    current.on_error(error)?;
                    break;
                }
            };
            current.at += read as u64;
            let line = self.part.strip_suffix(b"\n");
            if line.is_some() || self.part.len() >= LINE_BYTES_MAX {
                on(Followed::Line(line.unwrap_or(&self.part)));
                self.part.clear();
            }
        }
        if !std::mem::replace(&mut current.is_told, true) {
            // What stands in front of the damage is the beginning of a line whose end nobody knows.
            self.part.clear();
            on(Followed::Damaged(&current.path));
        }
        Ok(())
    }

    /// Whether there was one.
    fn go_to_next(&mut self, on: &mut dyn FnMut(Followed<'_>)) -> io::Result<bool> {
        let files = files(&self.path)?;
        let at = self.place_in(&files)?;
        match at.map(|at| files.get(at + 1)) {
            // It was moved away: what is there now is read as it is.
            None if files.is_empty() => return Ok(false),
            None => self.begin_anew(on),
            // It was just renamed, and the next one is not there yet.
            Some(None) => return Ok(false),
            Some(Some(next)) => {
                let next = Current::open_found(next, &self.path)?;
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

    /// Which of these files was read last. One that was compressed meanwhile has another inode, and the same number.
    fn place_in(&mut self, files: &[PathBuf]) -> io::Result<Option<usize>> {
        let Some(current) = &mut self.current else { return Ok(None) };
        for (index, file) in files.iter().enumerate() {
            if identity_at(file)? == Some(current.identity) {
                return Ok(Some(index));
            }
        }
        if current.form == Form::Gzip {
            return Ok(None);
        }
        let name = current.closed_as(&self.path)?;
        let is_it = |file: &PathBuf| Form::of(file) == Form::Gzip && Some(plain_name(file)) == name;
        Ok(files.iter().position(is_it))
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

    use super::*;

    fn poll(follower: &mut Follower) -> Vec<String> {
        let mut seen = Vec::new();
        follower
            .poll(&mut |met| {
                seen.push(match met {
                    Followed::Line(line) => String::from_utf8_lossy(line).into_owned(),
                    Followed::Damaged(_) => "??".to_owned(),
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

    /// As the compressor does.
    fn pack(plain: &Path) {
        let file = File::create(gzip_name(plain)).unwrap();
        let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::default());
        encoder.write_all(&std::fs::read(plain).unwrap()).unwrap();
        encoder.finish().unwrap();
        std::fs::remove_file(plain).unwrap();
    }

    fn rotate(path: &Path, last: u64) -> PathBuf {
        let closed = closed_name(path, last);
        std::fs::rename(path, &closed).unwrap();
        closed
    }

    #[test]
    fn lines_are_followed_through_files_that_are_compressed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.jsonl");
        let record = |number: u64| format!("{{\"seq\":{number}}}");
        let put = |number: u64| append(&path, &format!("{}\n", record(number)));
        let mut follower = Follower::new(&path);
        put(1);
        assert_eq!(poll(&mut follower), [record(1)]);
        put(2);
        // What it reads is closed and compressed before it comes to its end; it still has it.
        pack(&rotate(&path, 2));
        put(3);
        let second = rotate(&path, 3);
        put(4);
        assert_eq!(poll(&mut follower), [&*record(2), "->", &*record(3), "->", &*record(4)]);
        pack(&second);
        assert_eq!(poll(&mut follower), [""; 0]);
        put(5);
        assert_eq!(poll(&mut follower), [record(5)]);
        pack(&rotate(&path, 5));
        put(6);
        assert_eq!(poll(&mut follower), ["->", &*record(6)]);
        // One that comes later reads the same, from compressed files.
        let all =
            [record(1), record(2), "->".into(), record(3), "->".into(), record(4), record(5), "->".into(), record(6)];
        assert_eq!(poll(&mut Follower::new(&path)), all);
        // Compressed while it is read, and between being found and opened.
        let mut follower = Follower::near_end(&path, 100).unwrap();
        assert_eq!(poll(&mut follower), all[5..]);
    }

    #[test]
    fn a_compressed_file_that_is_another_is_read_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.jsonl");
        append(&path, "{\"seq\":1}\n");
        let mut follower = Follower::new(&path);
        poll(&mut follower);
        pack(&rotate(&path, 7));
        append(&path, "{\"seq\":8}\n");
        assert_eq!(poll(&mut follower), ["!!", "{\"seq\":1}", "->", "{\"seq\":8}"]);
    }

    #[test]
    fn a_damaged_file_is_told_once_and_the_next_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.jsonl");
        let long: String = (0..20_000).map(|number| format!("{{\"seq\":{number}}}\n")).collect();
        append(&path, &long);
        let gzip = gzip_name(&rotate(&path, 20_000));
        pack(&plain_name(&gzip));
        let good = std::fs::read(&gzip).unwrap();
        std::fs::write(&gzip, &good[..good.len() / 2]).unwrap();
        let mut follower = Follower::new(&path);
        let seen = poll(&mut follower);
        assert!(seen.len() > 5_000 && seen.len() < 20_000, "{}", seen.len());
        assert_eq!((seen[0].as_str(), seen[seen.len() - 1].as_str()), ("{\"seq\":0}", "??"));
        assert_eq!(poll(&mut follower), [""; 0]);
        append(&path, "more\n");
        assert_eq!(poll(&mut follower), ["->", "more"]);
        // Near the end: of what can be read.
        let seen = poll(&mut Follower::near_end(&path, 100).unwrap());
        assert!(seen.len() > 3 && seen.len() < 15, "{seen:?}");
        assert_eq!(seen[seen.len() - 3..], ["??", "->", "more"]);
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
