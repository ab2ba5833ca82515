//! A seeded corruptor: whatever is done to a ledger by somebody without its key is found.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::*;
use crate::audit::{
    Account, Actor, Conclusion, Entry, Intent, Opening, OpeningCause, Reason, Record, SigningKey, TransactionId,
};

const CHECKPOINT_EVERY: u64 = 10;

/// A ledger as the driver would write it.
struct Book {
    key: SigningKey,
    ledger: Uuid,
    lines: Vec<String>,
    head: Head,
    unsigned: u64,
    last: Option<SignedNote>,
}

impl Book {
    fn new(ledger: u128) -> Self {
        let key = SigningKey::from_seed("test", &[7; 32]).unwrap();
        let mut book =
            Self { key, ledger: Uuid::from_u128(ledger), lines: vec![], head: Head::NONE, unsigned: 0, last: None };
        book.boot();
        book
    }

    fn at(&self) -> Timestamp {
        Timestamp::from_second(1_795_424_400 + i64::try_from(self.lines.len()).unwrap()).unwrap()
    }

    fn put(&mut self, line: impl FnOnce(&Place<'_>) -> Line) {
        let sequence = self.head.sequence + 1;
        let line = line(&Place { node: "one", sequence, at: self.at(), prev: self.head.digest });
        self.lines.push(String::from_utf8(line.without_break().to_vec()).unwrap());
        self.head = line.head(sequence);
        self.unsigned += 1;
        if self.unsigned >= CHECKPOINT_EVERY {
            self.sign();
        }
    }

    fn sign(&mut self) {
        let note = self.key.sign(Checkpoint { ledger: self.ledger, head: self.head, at: self.at() });
        self.unsigned = 0;
        self.put(|place| Line::of_checkpoint(&note, place));
        self.unsigned = 0;
        self.last = Some(note);
    }

    fn boot(&mut self) {
        let opening = Opening {
            id: Uuid::from_u128(1),
            cause: OpeningCause::Boot,
            ledger: self.ledger,
            version: "0",
            checkpoint_records: Some(CHECKPOINT_EVERY),
            public_key: Some(self.key.public().clone()),
            damage: None,
            expected: None,
        };
        self.put(|place| Line::of_opening(&opening, place));
        self.sign();
    }

    fn transactions(mut self, count: u128) -> Self {
        let actor = Arc::new(Actor {
            login: "ops".into(),
            address: "127.0.0.1:5".into(),
            database: "demo".into(),
            role: "app_bypass".into(),
            preset: "bypass",
            tenant: None,
            client: 1,
            ..Actor::default()
        });
        for number in 0..count {
            let reason = Reason::parse(&format!("ticket {number}")).ok();
            let outcome = Account::default().conclude(Conclusion::Committed, None);
            for entry in [
                Entry::Intent(Intent { reason, server: 1, server_process: 2, ..Intent::default() }),
                Entry::Outcome(Box::new(outcome)),
            ] {
                let transaction = TransactionId(Uuid::from_u128(self.ledger.as_u128() + number));
                let record = Record { transaction, actor: Arc::clone(&actor), entry };
                self.put(|place| Line::new(&record, place));
            }
        }
        self
    }

    fn finished(mut self) -> Self {
        self.sign();
        self
    }

    fn expectations(&self) -> Expectations {
        let kept = self.last.iter().map(|note| note.checkpoint.clone()).collect();
        Expectations { keys: vec![self.key.public().clone()], kept, ..Expectations::default() }
    }
}

fn joined(lines: &[String]) -> Vec<u8> {
    lines.iter().flat_map(|line| [line.as_bytes(), b"\n"].concat()).collect()
}

fn verify(bytes: &[u8], expectations: Expectations) -> Result<Verified, Broken> {
    let mut verifier = Verifier::new(expectations);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let closed = line.strip_suffix(b"\n");
        verifier.take(closed.unwrap_or(line), closed.is_some())?;
    }
    verifier.end()
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
}

/// What somebody with the file and without the key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Edit,
    Drop,
    DropMany,
    Swap,
    Repeat,
    PutIn,
    CutLines,
    CutBytes,
    Splice,
    ReplayOld,
    Rehash(Seals),
}

/// What a re-hashing makes of the checkpoints behind the change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seals {
    /// Only their links are new.
    Kept,
    /// Their text is made to fit, the signature is the old one.
    Reworded,
    /// Signed by another key of the same name.
    Forged,
    /// They are left out, and records numbered anew.
    Removed,
    /// The same, and starts say that there are none.
    Denied,
}

const DEEDS: [Deed; 15] = [
    Deed::Edit,
    Deed::Drop,
    Deed::DropMany,
    Deed::Swap,
    Deed::Repeat,
    Deed::PutIn,
    Deed::CutLines,
    Deed::CutBytes,
    Deed::Splice,
    Deed::ReplayOld,
    Deed::Rehash(Seals::Kept),
    Deed::Rehash(Seals::Reworded),
    Deed::Rehash(Seals::Forged),
    Deed::Rehash(Seals::Removed),
    Deed::Rehash(Seals::Denied),
];

fn done(deed: Deed, book: &Book, other: &Book, dice: &mut Dice) -> Vec<u8> {
    let mut lines = book.lines.clone();
    let count = lines.len();
    let at = dice.below(count);
    match deed {
        Deed::Edit => {
            let mut bytes = joined(&lines);
            let place = dice.below(bytes.len());
            bytes[place] = bytes[place].wrapping_add(1 + u8::try_from(dice.below(255)).unwrap());
            return bytes;
        }
        Deed::Drop => drop(lines.remove(at)),
        Deed::DropMany => drop(lines.drain(at..count.min(at + 2 + dice.below(30)))),
        Deed::Swap => lines.swap(at, (at + 1 + dice.below(count - 1)) % count),
        Deed::Repeat => lines.insert(dice.below(count), lines[at].clone()),
        Deed::PutIn => lines.insert(at, other.lines[dice.below(other.lines.len())].clone()),
        Deed::CutLines => lines.truncate(at),
        Deed::CutBytes => {
            let mut bytes = joined(&lines);
            bytes.truncate(dice.below(bytes.len()));
            return bytes;
        }
        Deed::Splice => {
            lines.truncate(at);
            lines.extend_from_slice(&other.lines[at.min(other.lines.len())..]);
        }
        Deed::ReplayOld => {
            // An older state of the whole: it ends with a checkpoint of its own.
            let ends: Vec<usize> = (0..count - 1).filter(|at| lines[*at].contains("\"checkpoint\"")).collect();
            lines.truncate(ends[dice.below(ends.len())] + 1);
        }
        Deed::Rehash(seals) => lines = rehashed(lines, at, seals),
    }
    joined(&lines)
}

/// Changes one record and makes all links behind it good again.
fn rehashed(lines: Vec<String>, changed: usize, seals: Seals) -> Vec<String> {
    let forger = SigningKey::from_seed("test", &[8; 32]).unwrap();
    let mut head = Head::NONE;
    let mut out: Vec<String> = Vec::new();
    for (index, text) in lines.into_iter().enumerate() {
        let mut record: Value = serde_json::from_str(&text).unwrap();
        let is_seal = record["kind"] == "checkpoint";
        if index > changed && is_seal && matches!(seals, Seals::Removed | Seals::Denied) {
            continue;
        }
        if index == changed {
            record["at"] = "2026-01-01T00:00:00.000000Z".into();
        }
        if index > changed && record["kind"] == "boot" && seals == Seals::Denied {
            record["checkpoint_records"] = Value::Null;
        }
        record["prev"] = head.digest.to_string().into();
        record["seq"] = (head.sequence + 1).into();
        if index > changed && is_seal {
            let note = SignedNote::parse(record["note"].as_str().unwrap()).unwrap();
            let fitting = forger.sign(Checkpoint { head, ..note.checkpoint.clone() });
            match seals {
                Seals::Reworded => {
                    let signed =
                        |note: &SignedNote| note.as_str().split_once("\n\n").map(|(a, b)| (a.to_owned(), b.to_owned()));
                    let (Some((text, _)), Some((_, signature))) = (signed(&fitting), signed(&note)) else { panic!() };
                    record["note"] = format!("{text}\n\n{signature}").into();
                }
                Seals::Forged => record["note"] = fitting.as_str().into(),
                Seals::Kept | Seals::Removed | Seals::Denied => {}
            }
        }
        let text = record.to_string();
        head = Head { sequence: head.sequence + 1, digest: Digest::of(text.as_bytes()) };
        out.push(text);
    }
    out
}

fn seed() -> u64 {
    std::env::var("TENANTGATE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(4711)
}

fn two_books() -> (Book, Book) {
    let mut book = Book::new(1_000).transactions(40);
    book.boot();
    (book.transactions(40).finished(), Book::new(2_000).transactions(70).finished())
}

#[test]
fn every_change_is_found_by_whoever_keeps_a_checkpoint() {
    let seed = seed();
    println!("TENANTGATE_SEED={seed}");
    let (book, other) = two_books();
    let whole = joined(&book.lines);
    let found = verify(&whole, book.expectations()).unwrap();
    assert_eq!((found.records, found.boots, found.unsigned), (book.lines.len() as u64, 2, 0));
    let mut dice = Dice(seed);
    for round in 0..200 {
        for deed in DEEDS {
            let bytes = done(deed, &book, &other, &mut dice);
            if bytes == whole {
                continue;
            }
            let result = verify(&bytes, book.expectations());
            assert!(result.is_err(), "seed {seed}, round {round}: {deed:?} was not found: {result:?}");
            if let Deed::Edit | Deed::Drop | Deed::Swap | Deed::PutIn = deed {
                let first = whole.iter().zip(&bytes).position(|(one, another)| one != another).unwrap_or(whole.len());
                let line = 1 + whole[..first].iter().filter(|byte| **byte == b'\n').count() as u64;
                let named = result.unwrap_err();
                assert!(named.spot.line.abs_diff(line) <= 2, "seed {seed}: {deed:?} in line {line}: {named:?}");
            }
        }
    }
}

/// With the public key alone: only what happened behind the last checkpoint that is left, or cutting off the end, is not seen.
#[test]
fn the_key_alone_finds_what_does_not_take_the_end_away() {
    let (book, other) = two_books();
    let seed = seed();
    println!("TENANTGATE_SEED={seed}");
    let mut dice = Dice(seed);
    let expectations = Expectations { kept: vec![], is_signed_to_end: true, ..book.expectations() };
    let whole = joined(&book.lines);
    for round in 0..100 {
        for deed in DEEDS {
            if matches!(deed, Deed::CutLines | Deed::CutBytes | Deed::ReplayOld | Deed::DropMany | Deed::Drop) {
                continue;
            }
            let bytes = done(deed, &book, &other, &mut dice);
            // Whoever puts the whole of another ledger of this key in its place needs a checkpoint to be found.
            if whole.starts_with(&bytes) || bytes == joined(&other.lines) {
                continue;
            }
            let result = verify(&bytes, expectations.clone());
            assert!(result.is_err(), "seed {seed}, round {round}: {deed:?} was not found: {result:?}");
        }
    }
}

#[test]
fn a_chain_without_a_key_finds_what_is_not_hashed_anew() {
    let (book, other) = two_books();
    let mut dice = Dice(seed());
    let count = book.lines.len();
    for _ in 0..200 {
        for deed in [Deed::Drop, Deed::Swap, Deed::Repeat, Deed::PutIn] {
            let bytes = done(deed, &book, &other, &mut dice);
            if bytes != joined(&book.lines) && bytes != joined(&book.lines[..count - 1]) {
                assert!(verify(&bytes, Expectations::default()).is_err(), "{deed:?}");
            }
        }
    }
}

#[test]
fn what_is_older_than_the_chain_is_said() {
    let old = |number: u64| format!("{{\"v\":1,\"seq\":{number},\"kind\":\"intent\"}}");
    let text = joined(&[old(1), old(2)]);
    assert_eq!(verify(&text, Expectations::default()).unwrap_err().breach, Breach::NoChain);
    let last = Head { sequence: 2, digest: Digest::of(old(2).as_bytes()) };
    let heartbeat = |sequence, prev| {
        Line::of_heartbeat(&Uuid::nil(), &Place { node: "one", sequence, at: Timestamp::UNIX_EPOCH, prev })
            .as_bytes()
            .to_vec()
    };
    let found = verify(&[text.clone(), heartbeat(3, last.digest)].concat(), Expectations::default()).unwrap();
    assert_eq!((found.records, found.unchained), (3, 2));
    // The last of them is tied to it, and the chain does not end again.
    let broken = verify(&[text.clone(), heartbeat(3, Digest::NONE)].concat(), Expectations::default()).unwrap_err();
    assert_eq!(broken.breach, Breach::BeginsAnew { before: 2 });
    let behind = [text, heartbeat(3, last.digest), joined(&[old(4)])].concat();
    assert_eq!(verify(&behind, Expectations::default()).unwrap_err().breach, Breach::Unchained);
}

#[test]
fn damaged_text_counts_only_where_a_start_tells_of_it() {
    let mut book = Book::new(1);
    let torn = b"{\"seq\":3,\"ki\n";
    let before = joined(&book.lines);
    let opening = Opening {
        id: Uuid::nil(),
        cause: OpeningCause::Boot,
        ledger: book.ledger,
        version: "0",
        checkpoint_records: None,
        public_key: None,
        damage: Some(Damage { bytes: torn.len() as u64, digest: Digest::of(torn) }),
        expected: None,
    };
    book.put(|place| Line::of_opening(&opening, place));
    let boot = joined(&book.lines[2..]);
    let text = |damage: &[u8]| [&before, damage, &boot].concat();
    assert_eq!(verify(&text(torn), Expectations::default()).unwrap().damaged_bytes, 13);
    assert_eq!(verify(&text(b"{\"seq\":4,\"ki\n"), Expectations::default()).unwrap_err().breach, Breach::NoRecord);
    assert_eq!(verify(&[&before[..], torn].concat(), Expectations::default()).unwrap_err().breach, Breach::NoRecord);
    assert_eq!(verify(&text(torn)[..before.len() + 5], Expectations::default()).unwrap_err().breach, Breach::Torn);
}

#[test]
fn later_files_alone_are_a_part() {
    let (book, _) = two_books();
    let part = joined(&book.lines[30..]);
    assert_eq!(verify(&part, Expectations::default()).unwrap_err().breach, Breach::BeginsLate);
    let partial = Expectations { is_partial: true, ..book.expectations() };
    assert_eq!(verify(&part, partial).unwrap().first, Some(31));
}
