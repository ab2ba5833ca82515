//! The ledger as the review page shows it: read on as it grows, verified on the way, and from its beginning now and then.
//!
//! Owns: when all of it is read anew, what is remembered between two readings. Does not own: what lines mean (`audit`),
//! files (`ledger`). All of it blocks: it runs beside the threads that serve clients.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use uuid::Uuid;

use crate::audit::{Broken, Checkpoint, Deed, Dossier, Expectations, Head, Leaf, PublicKey, Shelf, Verifier, Wanted};
use crate::config::LedgerSettings;
use crate::driver::ledger::{Followed, Follower, Lines, closed_files};
use crate::review::Checked;

/// Acts in memory: some ten MiB. Older ones are shown by the command line.
const ACTS_MAX: usize = 20_000;

/// After this time all of it is read again, when somebody looks: a change far in front is found then at the latest.
const WHOLE_INTERVAL: Duration = Duration::from_secs(600);

/// The reader.
pub struct Reader {
    path: PathBuf,
    keys: Vec<PublicKey>,
    walk: Option<Walk>,
    /// The last record but one that was seen, and good: it can never be gone or another again.
    known: Option<Head>,
    checked: Checked,
}

/// One way through the ledger, from its beginning.
struct Walk {
    follower: Follower,
    shelf: Shelf,
    verifier: Verifier,
    is_wrong: bool,
    begun: Instant,
    begun_at: Timestamp,
    last: Option<Head>,
    before_last: Option<Head>,
}

impl Walk {
    fn new(path: &Path, keys: &[PublicKey], known: Option<Head>) -> Self {
        let begun_at = Timestamp::now();
        let kept = known.map(|head| Checkpoint { ledger: Uuid::nil(), head, at: begun_at });
        let expectations =
            Expectations { keys: keys.to_vec(), kept: kept.into_iter().collect(), ..Expectations::default() };
        Self {
            follower: Follower::new(path),
            shelf: Shelf::new(ACTS_MAX),
            verifier: Verifier::new(expectations),
            is_wrong: false,
            begun: Instant::now(),
            begun_at,
            last: None,
            before_last: None,
        }
    }
}

impl Reader {
    /// For a ledger. Nothing is read yet.
    pub fn new(settings: &LedgerSettings) -> Self {
        let keys = settings.signing_key.iter().map(|key| key.public().clone()).collect();
        Self { path: settings.path.clone(), keys, walk: None, known: None, checked: Checked::NotYet }
    }

    /// Reads what is new.
    pub fn refresh(&mut self) {
        if self.walk.as_ref().is_none_or(|walk| walk.begun.elapsed() >= WHOLE_INTERVAL) {
            self.walk = None;
        }
        let mut walk = self.walk.take().unwrap_or_else(|| Walk::new(&self.path, &self.keys, self.known));
        let mut read = self.read_on(&mut walk);
        if matches!(read, Ok(false)) {
            // Another file is in its place: from the beginning, once.
            walk = Walk::new(&self.path, &self.keys, self.known);
            read = self.read_on(&mut walk);
        }
        match read {
            Ok(_) => self.conclude(&walk),
            Err(error) => self.checked = Checked::Unreadable(format!("{}: {error}", self.path.display())),
        }
        self.walk = Some(walk);
    }

    /// Everything from the beginning on.
    pub fn begin_anew(&mut self) {
        self.walk = None;
        self.refresh();
    }

    /// What is shown; nothing before the first reading.
    pub fn seen(&self) -> Option<(&Shelf, &Checked)> {
        self.walk.as_ref().map(|walk| (&walk.shelf, &self.checked))
    }

    /// `false`: the file is another than before.
    fn read_on(&mut self, walk: &mut Walk) -> io::Result<bool> {
        let Walk { follower, shelf, verifier, is_wrong, last, before_last, .. } = walk;
        let (mut is_same, checked, path) = (true, &mut self.checked, &self.path);
        follower.poll(&mut |met| match met {
            Followed::Line(line) => {
                shelf.take(line);
                if *is_wrong {
                    return;
                }
                if let Err(broken) = verifier.take(line, true) {
                    *is_wrong = true;
                    *checked = wrong(path, broken);
                } else if verifier.head() != *last {
                    *before_last = std::mem::replace(last, verifier.head());
                }
            }
            Followed::Damaged(_) => {
                if !std::mem::replace(is_wrong, true) {
                    *checked = wrong(path, verifier.undecompressable());
                }
            }
            Followed::NextFile => verifier.next_file(),
            Followed::Anew => is_same = false,
        })?;
        Ok(is_same)
    }

    fn conclude(&mut self, walk: &Walk) {
        if walk.is_wrong {
            return;
        }
        let at = Timestamp::now();
        self.checked = match walk.verifier.clone().end() {
            Ok(verified) => {
                self.known = walk.before_last.or(self.known);
                Checked::Good { verified, at, whole_at: walk.begun_at }
            }
            Err(broken) => wrong(&self.path, broken),
        };
    }
}

fn wrong(path: &Path, broken: Broken) -> Checked {
    let file = file_of(path, broken.spot.file);
    Checked::Wrong { broken, file, at: Timestamp::now() }
}

/// The name of a file by its number: rotations only put more behind it.
fn file_of(path: &Path, number: usize) -> String {
    let closed = closed_files(path).unwrap_or_default();
    let file = closed.get(number).map_or(path, PathBuf::as_path);
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// All records of one transaction, or `None` if there are none.
///
/// # Errors
/// The ledger cannot be read.
pub fn dossier(path: &Path, id: &str) -> io::Result<Option<(Deed, Vec<Leaf>)>> {
    let mut dossier = Dossier::new(&Wanted::Id(id.to_owned()));
    let mut files = closed_files(path)?;
    files.push(path.to_path_buf());
    for (index, file) in files.iter().enumerate() {
        if index > 0 {
            dossier.next_file();
        }
        let mut lines = Lines::open(file)?;
        while let Some(line) = lines.next_line()? {
            // One that is just being written has no end yet.
            if line.is_closed {
                dossier.take(line.bytes);
            }
        }
    }
    Ok(dossier.end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Digest, Judgement, Line, Mark, Place};

    fn lines(count: u64, note: &str) -> Vec<String> {
        let mut prev = Digest::NONE;
        (1..=count)
            .map(|sequence| {
                let mark = Mark {
                    id: Uuid::from_u128(u128::from(sequence)),
                    transaction: Uuid::nil(),
                    reviewer: "rita".into(),
                    judgement: Judgement::Ok,
                    note: note.into(),
                };
                let at = Timestamp::from_second(1_700_000_000).unwrap();
                let line = Line::of_act(&mark, &Place { node: "here", sequence, at, prev });
                prev = line.head(sequence).digest;
                String::from_utf8(line.as_bytes().to_vec()).unwrap()
            })
            .collect()
    }

    struct Desk {
        folder: tempfile::TempDir,
        reader: Reader,
    }

    fn desk() -> Desk {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.jsonl");
        Desk { reader: Reader { path, keys: Vec::new(), walk: None, known: None, checked: Checked::NotYet }, folder }
    }

    impl Desk {
        fn write(&self, lines: &[String]) {
            std::fs::write(self.folder.path().join("ledger.jsonl"), lines.concat()).unwrap();
        }

        /// The last record, or what is wrong.
        fn look(&mut self) -> Result<u64, String> {
            self.reader.refresh();
            match self.reader.seen().unwrap().1 {
                Checked::Good { verified, .. } => Ok(verified.last.map_or(0, |head| head.sequence)),
                Checked::Wrong { broken, .. } => Err(broken.breach.to_string()),
                other => Err(format!("{other:?}")),
            }
        }
    }

    #[test]
    fn what_comes_is_verified_and_shown() {
        let mut desk = desk();
        let lines = lines(5, "good");
        for count in [0, 2, 3, 5] {
            desk.write(&lines[..count]);
            assert_eq!(desk.look(), Ok(count as u64));
            assert_eq!(desk.reader.seen().unwrap().0.latest().count(), count);
        }
    }

    #[test]
    fn a_ledger_that_has_become_shorter_or_another_is_noticed() {
        for bad in [lines(3, "good"), lines(9, "bad"), lines(5, "bad")] {
            let mut desk = desk();
            desk.write(&lines(5, "good"));
            assert_eq!(desk.look(), Ok(5));
            desk.write(&bad);
            desk.reader.begin_anew();
            assert!(desk.look().is_err(), "{} lines", bad.len());
        }
    }

    #[test]
    fn compressed_files_are_read_and_their_damage_is_named() {
        use std::io::Write as _;
        let mut desk = desk();
        let path = desk.folder.path().join("ledger.jsonl");
        let lines = lines(2_000, "good");
        let gzip = desk.folder.path().join("ledger.jsonl.00000000000000001500.gz");
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(lines[..1_500].concat().as_bytes()).unwrap();
        let packed = encoder.finish().unwrap();
        // It is closed and compressed while somebody looks.
        desk.write(&lines[..1_500]);
        assert_eq!(desk.look(), Ok(1_500));
        std::fs::write(&gzip, &packed).unwrap();
        desk.write(&lines[1_500..]);
        desk.reader.begin_anew();
        assert_eq!(desk.look(), Ok(2_000));
        let (_, leaves) = dossier(&path, &Uuid::from_u128(7).to_string()).unwrap().unwrap();
        assert_eq!((leaves[0].file, leaves[0].line), (0, 7));
        std::fs::write(&gzip, &packed[..packed.len() / 2]).unwrap();
        desk.reader.begin_anew();
        assert!(desk.look().unwrap_err().contains("cannot be decompressed"));
        let Some((shelf, Checked::Wrong { broken, file, .. })) = desk.reader.seen() else { panic!("not wrong") };
        assert_eq!((broken.spot.file, file.as_str()), (0, "ledger.jsonl.00000000000000001500.gz"));
        assert!(broken.spot.line > 100, "{broken:?}");
        // What stands behind it is shown all the same.
        assert!(shelf.latest().count() > 600);
        assert!(desk.look().is_err());
    }

    #[test]
    fn a_change_far_in_front_is_found_when_all_is_read() {
        let mut desk = desk();
        let mut good = lines(6, "good");
        desk.write(&good);
        assert_eq!(desk.look(), Ok(6));
        good[1] = good[1].replace("good", "evil");
        desk.write(&good);
        assert_eq!(desk.look(), Ok(6), "what was read is not read again");
        desk.reader.begin_anew();
        assert!(desk.look().unwrap_err().contains("was changed"));
        // And it stays so.
        assert!(desk.look().is_err());
    }
}
