//! Compressing closed files: a crash or a failure at every step, and a seeded corruptor of what comes of it.

use std::cell::Cell;
use std::collections::BTreeMap;

use super::super::found::{closed_files, closed_twice};
use super::super::lines::{likeness, verify};
use super::*;
use crate::audit::{
    Breach, Checkpoint, Damage, Digest, Expectations, Head, Line, Opening, OpeningCause, Place, SigningKey,
};
use jiff::Timestamp;
use uuid::Uuid;

const CHECKPOINT_EVERY: u64 = 8;

/// A ledger in several files, whose last checkpoint somebody keeps.
struct Book {
    folder: tempfile::TempDir,
    path: PathBuf,
    key: SigningKey,
    kept: Checkpoint,
}

impl Book {
    /// `closed` files and the last one.
    fn new(closed: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.jsonl");
        let key = SigningKey::from_seed("test", &[7; 32]).unwrap();
        let ledger = Uuid::from_u128(5);
        let at = Timestamp::from_second(1_795_424_400).unwrap();
        let mut head = Head::NONE;
        let mut kept = None;
        for file in 0..=closed {
            let mut text = Vec::new();
            let mut put = |line: &dyn Fn(&Place<'_>) -> Line| {
                let sequence = head.sequence + 1;
                let line = line(&Place { node: "one", sequence, at, prev: head.digest });
                text.extend_from_slice(line.as_bytes());
                head = line.head(sequence);
                head
            };
            if file == 0 {
                let opening = Opening {
                    id: Uuid::nil(),
                    cause: OpeningCause::Boot,
                    ledger,
                    version: "0",
                    checkpoint_records: Some(CHECKPOINT_EVERY),
                    public_key: Some(key.public().clone()),
                    damage: None::<Damage>,
                    expected: None,
                };
                put(&|place| Line::of_opening(&opening, place));
            }
            for round in 0..4 {
                let mut last = Head::NONE;
                for number in 0..5 {
                    let id = Uuid::from_u128(u128::from(file * 100 + round * 10 + number));
                    last = put(&|place| Line::of_heartbeat(&id, place));
                }
                let note = key.sign(Checkpoint { ledger, head: last, at });
                put(&|place| Line::of_checkpoint(&note, place));
                kept = Some(note.checkpoint.clone());
            }
            let name =
                if file == closed { path.clone() } else { super::super::found::closed_name(&path, head.sequence) };
            std::fs::write(name, text).unwrap();
        }
        Self { folder, path, key, kept: kept.unwrap() }
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files = closed_files(&self.path).unwrap();
        files.push(self.path.clone());
        files
    }

    fn verified(&self) -> Result<u64, Broken> {
        let keys = vec![self.key.public().clone()];
        let expectations = Expectations { keys, kept: vec![self.kept.clone()], ..Expectations::default() };
        verify(&self.files(), expectations).unwrap().map(|found| found.records)
    }

    fn pack_all(&self) {
        for closed in closed_files(&self.path).unwrap() {
            pack(&closed, &System, &mut || ControlFlow::Continue(())).unwrap();
        }
    }

    /// All files and what they hold.
    fn state(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let names = std::fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().path());
        names.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
    }

    fn restore(&self, state: &BTreeMap<PathBuf, Vec<u8>>) {
        self.state().keys().for_each(|path| std::fs::remove_file(path).unwrap());
        state.iter().for_each(|(path, bytes)| std::fs::write(path, bytes).unwrap());
    }
}

fn packed(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn unpacked(path: &Path) -> Vec<u8> {
    let mut text = Vec::new();
    flate2::read::MultiGzDecoder::new(File::open(path).unwrap()).read_to_end(&mut text).unwrap();
    text
}

fn always() -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
fn a_compressed_ledger_is_the_same_ledger() {
    let book = Book::new(3);
    let (before, plain) = (book.state(), closed_files(&book.path).unwrap());
    let records = book.verified().unwrap();
    book.pack_all();
    let files = closed_files(&book.path).unwrap();
    assert_eq!(files, plain.iter().map(|path| gzip_name(path)).collect::<Vec<_>>());
    assert_eq!(book.state().len(), before.len(), "nothing else is left");
    for (file, plain) in files.iter().zip(&plain) {
        assert_eq!(unpacked(file), before[plain]);
        assert!(std::fs::metadata(file).unwrap().len() < before[plain].len() as u64 / 2);
    }
    assert_eq!(book.verified(), Ok(records));
    // Names that were looked up before lead to the same.
    let expectations = Expectations { kept: vec![book.kept.clone()], ..Expectations::default() };
    assert_eq!(verify(&[plain, vec![book.path.clone()]].concat(), expectations).unwrap().unwrap().records, records);
}

#[test]
fn time_and_mode_stay_those_of_the_plain_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let book = Book::new(1);
    let closed = closed_files(&book.path).unwrap().remove(0);
    let file = File::options().write(true).open(&closed).unwrap();
    let then = std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    file.set_modified(then).unwrap();
    file.set_permissions(std::fs::Permissions::from_mode(0o600)).unwrap();
    pack(&closed, &System, &mut always).unwrap();
    let now = std::fs::metadata(gzip_name(&closed)).unwrap();
    assert_eq!((now.modified().unwrap(), now.mode() & 0o777), (then, 0o600));
}

/// After so many operations nothing works any more: what it leaves is what a crash leaves.
struct Crashing {
    left: Cell<usize>,
}

impl Crashing {
    fn step(&self) -> io::Result<()> {
        match self.left.get().checked_sub(1) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => Err(io::Error::other("crashed")),
        }
    }
}

impl Disk for Crashing {
    fn create(&self, path: &Path, mode: u32) -> io::Result<File> {
        self.step()?;
        System.create(path, mode)
    }

    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<usize> {
        // A part of it may be there.
        match self.step() {
            Ok(()) => System.write(file, &bytes[..bytes.len().min(100)]),
            Err(error) => {
                file.write_all(&bytes[..bytes.len() / 2])?;
                Err(error)
            }
        }
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.step()?;
        System.sync(file)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        System.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        System.remove(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.step()?;
        System.sync_folder(folder)
    }

    fn free(&self, folder: &Path) -> io::Result<u64> {
        self.step()?;
        System.free(folder)
    }
}

#[test]
fn a_crash_at_any_step_leaves_the_ledger_whole_and_the_next_round_ends_it() {
    let book = Book::new(2);
    let (whole, records) = (book.state(), book.verified().unwrap());
    let (mut states, mut steps) = (std::collections::BTreeSet::new(), 0);
    for left in 0.. {
        book.restore(&whole);
        let closed = closed_files(&book.path).unwrap().remove(0);
        let disk = Crashing { left: Cell::new(left) };
        let result = pack(&closed, &disk, &mut always);
        let exists = |path: &Path| path.exists();
        let gzip = gzip_name(&closed);
        states.insert((exists(&closed), exists(&gzip), exists(&fresh_name(&closed))));
        // One whole file at each moment, and no reader takes half a file for one.
        assert_eq!(book.verified(), Ok(records), "step {left}: {result:?}");
        if exists(&gzip) {
            assert_eq!(unpacked(&gzip), whole[&closed], "step {left}");
        } else {
            assert!(exists(&closed), "step {left}");
        }
        // The next process makes good.
        clear(&closed);
        if exists(&closed) {
            pack(&closed, &System, &mut always).unwrap();
        }
        assert_eq!((exists(&closed), exists(&gzip), exists(&fresh_name(&closed))), (false, true, false), "step {left}");
        assert_eq!(book.verified(), Ok(records), "step {left}");
        if result.is_ok() {
            steps = left;
            break;
        }
    }
    let (plain, part, both, done) =
        ((true, false, false), (true, false, true), (true, true, false), (false, true, false));
    assert_eq!(states, [done, plain, part, both].into(), "{steps} steps");
    assert!(steps > 8, "{steps}");
}

#[test]
fn of_two_forms_the_plain_one_counts_where_the_other_is_not_whole() {
    let book = Book::new(1);
    let closed = closed_files(&book.path).unwrap().remove(0);
    let (text, gzip, records) = (std::fs::read(&closed).unwrap(), gzip_name(&closed), book.verified().unwrap());
    let good = packed(&text);
    for bad in [&good[..0], &good[..1], &good[..good.len() / 2], &good[..good.len() - 1], b"no gzip at all"] {
        std::fs::write(&closed, &text).unwrap();
        std::fs::write(&gzip, bad).unwrap();
        assert_eq!(likeness(&closed, &gzip).unwrap(), Likeness::Damaged, "{} bytes", bad.len());
        assert_eq!(book.verified(), Ok(records));
        pack(&closed, &System, &mut always).unwrap();
        assert_eq!((closed.exists(), unpacked(&gzip)), (false, text.clone()));
    }
    // One that is whole is only an end of what was begun; one that holds something else is left to look at.
    std::fs::write(&closed, &text).unwrap();
    std::fs::write(&gzip, &good).unwrap();
    assert_eq!(closed_twice(&book.path).unwrap(), [(closed.clone(), gzip.clone())]);
    pack(&closed, &System, &mut always).unwrap();
    assert_eq!((closed.exists(), std::fs::read(&gzip).unwrap()), (false, good.clone()));
    for other in [packed(&text[..text.len() / 2]), packed(&[&text[..], b"{}\n"].concat()), [&good[..], &good].concat()]
    {
        std::fs::write(&closed, &text).unwrap();
        std::fs::write(&gzip, &other).unwrap();
        assert_eq!(likeness(&closed, &gzip).unwrap(), Likeness::Other);
        let fault = pack(&closed, &System, &mut always).unwrap_err();
        assert!(matches!(fault, PackFault::Twin) && fault.is_lasting(), "{fault}");
        assert_eq!((std::fs::read(&closed).unwrap(), std::fs::read(&gzip).unwrap()), (text.clone(), other));
    }
}

#[test]
fn what_is_no_sound_part_of_a_chain_stays_as_it_is() {
    let book = Book::new(1);
    let closed = closed_files(&book.path).unwrap().remove(0);
    let text = std::fs::read_to_string(&closed).unwrap();
    std::fs::write(&closed, text.replacen("2026", "2025", 1)).unwrap();
    let before = book.state();
    let fault = pack(&closed, &System, &mut always).unwrap_err();
    assert!(matches!(&fault, PackFault::Unsound(_)) && fault.is_lasting(), "{fault}");
    assert_eq!(book.state(), before);
    std::fs::remove_file(&closed).unwrap();
    std::fs::create_dir(&closed).unwrap();
    assert!(matches!(pack(&closed, &System, &mut always), Err(PackFault::NotAFile)));
    std::fs::remove_dir(&closed).unwrap();
    std::os::unix::fs::symlink(&book.path, &closed).unwrap();
    assert!(matches!(pack(&closed, &System, &mut always), Err(PackFault::NotAFile)));
}

/// A disk that has only so much left.
struct Narrow(u64);

impl Disk for Narrow {
    fn create(&self, path: &Path, mode: u32) -> io::Result<File> {
        System.create(path, mode)
    }

    fn write(&self, _: &mut File, _: &[u8]) -> io::Result<usize> {
        Err(io::Error::from(io::ErrorKind::StorageFull))
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        System.sync(file)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        System.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        System.remove(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        System.sync_folder(folder)
    }

    fn free(&self, _: &Path) -> io::Result<u64> {
        Ok(self.0)
    }
}

#[test]
fn a_disk_that_is_nearly_full_is_left_to_the_ledger() {
    let book = Book::new(1);
    let (closed, before) = (closed_files(&book.path).unwrap().remove(0), book.state());
    let length = std::fs::metadata(&closed).unwrap().len();
    let fault = pack(&closed, &Narrow(FREE_BYTES_MIN + length - 1), &mut always).unwrap_err();
    assert!(matches!(fault, PackFault::NoRoom { .. }) && !fault.is_lasting(), "{fault}");
    // What was begun gives its room back.
    let fault = pack(&closed, &Narrow(FREE_BYTES_MIN + length), &mut always).unwrap_err();
    assert!(matches!(fault, PackFault::System(_)), "{fault}");
    assert_eq!(book.state(), before);
}

#[test]
fn whoever_ends_the_proxy_does_not_wait_for_it() {
    let book = Book::new(1);
    let closed = closed_files(&book.path).unwrap().remove(0);
    let before = book.state();
    let stopped = pack(&closed, &System, &mut || ControlFlow::Break(()));
    assert!(matches!(stopped, Err(PackFault::Stopped)), "{stopped:?}");
    assert_eq!(book.state(), before);
}

#[test]
fn one_file_is_compressed_by_one_process_at_a_time() {
    let book = Book::new(1);
    let closed = closed_files(&book.path).unwrap().remove(0);
    let other = System.create(&fresh_name(&closed), 0o600).unwrap();
    assert!(matches!(pack(&closed, &System, &mut always), Err(PackFault::System(_))));
    clear(&closed);
    assert!(closed.exists() && fresh_name(&closed).exists(), "it is the other's");
    drop(other);
    pack(&closed, &System, &mut always).unwrap();
    assert_eq!(book.files(), [gzip_name(&closed), book.path.clone()]);
}

/// xorshift64*
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33).unwrap() % bound
    }

    fn of<'l, T>(&mut self, list: &'l [T]) -> &'l T {
        &list[self.below(list.len())]
    }
}

/// What somebody with the files and without the key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Flip,
    Cut,
    Append,
    AppendMember,
    Swap,
    Remove,
    EditInside,
    DropInside,
    RehashInside,
    ReplayOther,
    ReplayOlder,
    PutPlainBeside,
    PlainInGzipName,
}

const DEEDS: [Deed; 13] = [
    Deed::Flip,
    Deed::Cut,
    Deed::Append,
    Deed::AppendMember,
    Deed::Swap,
    Deed::Remove,
    Deed::EditInside,
    Deed::DropInside,
    Deed::RehashInside,
    Deed::ReplayOther,
    Deed::ReplayOlder,
    Deed::PutPlainBeside,
    Deed::PlainInGzipName,
];

/// Does it to one of the compressed files, and tells which.
fn do_it(deed: Deed, book: &Book, dice: &mut Dice) -> usize {
    let files = closed_files(&book.path).unwrap();
    let which = dice.below(files.len());
    let file = &files[which];
    let (mut bytes, text) = (std::fs::read(file).unwrap(), unpacked(file));
    let mut lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    let at = dice.below(lines.len());
    let edited = |dice: &mut Dice| {
        let mut text = text.clone();
        let place = dice.below(text.len());
        text[place] = text[place].wrapping_add(1 + u8::try_from(dice.below(255)).unwrap());
        text
    };
    match deed {
        Deed::Flip => {
            let place = dice.below(bytes.len());
            bytes[place] ^= 1 << dice.below(8);
        }
        Deed::Cut => bytes.truncate(dice.below(bytes.len())),
        Deed::Append => bytes.extend((0..=dice.below(20)).map(|_| u8::try_from(dice.below(256)).unwrap())),
        Deed::AppendMember => bytes.extend(packed(lines[at])),
        Deed::Swap => {
            let other = dice.of(&files);
            std::fs::write(file, std::fs::read(other).unwrap()).unwrap();
            return std::fs::write(other, &bytes).map(|()| which).unwrap();
        }
        Deed::Remove => return std::fs::remove_file(file).map(|()| which).unwrap(),
        Deed::EditInside => bytes = packed(&edited(dice)),
        Deed::DropInside => {
            lines.remove(at);
            bytes = packed(&lines.concat());
        }
        Deed::RehashInside => bytes = packed(&rehashed(&lines, at)),
        Deed::ReplayOther => bytes = std::fs::read(dice.of(&files)).unwrap(),
        Deed::ReplayOlder => {
            // The ledger as it was when this was its last file, and not long yet.
            files[which + 1..].iter().for_each(|file| std::fs::remove_file(file).unwrap());
            std::fs::write(&book.path, lines[..at].concat()).unwrap();
            return std::fs::remove_file(file).map(|()| which).unwrap();
        }
        Deed::PutPlainBeside => {
            let plain = super::super::lines::plain_name(file);
            return std::fs::write(plain, edited(dice)).map(|()| which).unwrap();
        }
        Deed::PlainInGzipName => bytes = text.clone(),
    }
    std::fs::write(file, bytes).unwrap();
    which
}

/// Changes a record and makes the links behind it good, as far as this file goes.
fn rehashed(lines: &[&[u8]], changed: usize) -> Vec<u8> {
    let (mut out, mut digest) = (Vec::new(), None::<Digest>);
    for (index, line) in lines.iter().enumerate() {
        let mut record: serde_json::Value = serde_json::from_slice(line).unwrap();
        if index == changed {
            record["at"] = "2020-01-01T00:00:00.000000Z".into();
        }
        if let Some(digest) = digest {
            record["prev"] = digest.to_string().into();
        }
        let text = record.to_string();
        digest = Some(Digest::of(text.as_bytes()));
        out.extend_from_slice(text.as_bytes());
        out.push(b'\n');
    }
    out
}

#[test]
fn every_change_of_compressed_files_is_found() {
    let seed = std::env::var("TENANTGATE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(4711);
    println!("TENANTGATE_SEED={seed}");
    let book = Book::new(4);
    let plain: Vec<_> = closed_files(&book.path).unwrap().iter().map(|path| std::fs::read(path).unwrap()).collect();
    book.pack_all();
    let (whole, records) = (book.state(), book.verified().unwrap());
    let mut dice = Dice(seed);
    let (mut damaged, mut harmless) = (0, 0);
    for round in 0..40 {
        for deed in DEEDS {
            book.restore(&whole);
            let which = do_it(deed, &book, &mut dice);
            if book.state() == whole {
                continue;
            }
            let result = book.verified();
            match result {
                // A gzip file has bits that say nothing of what it holds: its own time, the system it was made on.
                Ok(found) => {
                    let now: Vec<_> = book.files().iter().map(|path| unpacked_if(path)).collect();
                    assert_eq!((deed, found), (Deed::Flip, records), "seed {seed}, round {round}");
                    assert_eq!(now[..plain.len()], plain, "seed {seed}, round {round}");
                    harmless += 1;
                }
                Err(broken) => {
                    damaged += usize::from(broken.breach == Breach::Undecompressable);
                    let near = broken.spot.file.abs_diff(which);
                    let is_of_one_file = !matches!(deed, Deed::Swap | Deed::ReplayOlder);
                    assert!(!is_of_one_file || near <= 1, "seed {seed}: {deed:?} in file {which}: {broken:?}");
                }
            }
        }
    }
    assert!(damaged > 100 && harmless < 20, "{damaged} {harmless}");
}

fn unpacked_if(path: &Path) -> Vec<u8> {
    match super::super::lines::Form::of(path) {
        super::super::lines::Form::Gzip => unpacked(path),
        super::super::lines::Form::Plain => std::fs::read(path).unwrap(),
    }
}

/// A small file that holds a line without end takes no memory without end.
#[test]
fn a_bomb_is_read_in_bounded_parts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.jsonl.00000000000000000001.gz");
    let mut encoder = GzEncoder::new(File::create(&path).unwrap(), Compression::best());
    let piece = vec![b'x'; 1 << 20];
    (0..64).for_each(|_| encoder.write_all(&piece).unwrap());
    encoder.finish().unwrap();
    assert!(std::fs::metadata(&path).unwrap().len() < 1 << 18);
    let mut lines = super::super::lines::Lines::open(&path).unwrap();
    let mut parts = 0;
    while let Some(line) = lines.next_line().unwrap() {
        assert!(line.bytes.len() <= super::super::lines::LINE_BYTES_MAX && !line.is_closed);
        parts += 1;
    }
    assert_eq!(parts, 16);
    let broken = verify(&[path], Expectations::default()).unwrap().unwrap_err();
    assert_eq!((broken.breach, broken.spot.line), (Breach::Torn, 1));
}
