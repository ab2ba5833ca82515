//! All records of one transaction, each with its place in the chain.
//!
//! Owns: finding them line by line, and whether each fits its neighbours. Does not own: files, the whole chain (`chain`).

use memchr::memmem::Finder;
use serde_json::{Map, Value};

use super::chain::Digest;
use super::deed::{Deed, read};
use super::joining::Shelf;

/// Most records that are kept of one transaction: it has four, and a review now and then.
const RECORDS_MAX: usize = 1_000;

/// Which transaction, or which record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// By its id.
    Id(String),
    /// By the number of one of its records.
    Sequence(u64),
}

impl Wanted {
    /// Digits are a number, all else is an id.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Id(text.to_owned()), Self::Sequence)
    }
}

/// What a record's neighbour says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// There is none.
    Alone,
    /// They fit.
    Fits,
    /// One of them was changed.
    Differs,
}

/// One record as it stands in the ledger.
#[derive(Clone, Debug, PartialEq)]
pub struct Leaf {
    /// Which of the files, from 0.
    pub file: usize,
    /// Its line there, from 1.
    pub line: u64,
    /// SHA-256 of its line.
    pub digest: Digest,
    /// Whether its `prev` is the digest of the line before it.
    pub before: Fit,
    /// Whether the `prev` of the line behind it is its digest.
    pub behind: Fit,
    /// All its fields.
    pub fields: Map<String, Value>,
}

impl Leaf {
    /// A field that is text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.fields.get(name).and_then(Value::as_str)
    }
}

/// The records of one transaction.
#[derive(Debug)]
pub struct Dossier {
    id: Option<String>,
    sequence: Option<u64>,
    /// What no line of theirs is without.
    needle: Finder<'static>,
    leaves: Vec<Leaf>,
    shelf: Shelf,
    /// The line before, where it may be needed.
    previous: Vec<u8>,
    is_behind: bool,
    file: usize,
    line: u64,
}

impl Dossier {
    /// For one.
    #[must_use]
    pub fn new(wanted: &Wanted) -> Self {
        let (id, sequence, needle) = match wanted {
            Wanted::Id(id) => (Some(id.clone()), None, id.clone()),
            Wanted::Sequence(number) => (None, Some(*number), format!("\"seq\":{number}")),
        };
        Self {
            id,
            sequence,
            needle: Finder::new(needle.as_bytes()).into_owned(),
            leaves: Vec::new(),
            shelf: Shelf::new(RECORDS_MAX),
            previous: Vec::new(),
            is_behind: false,
            file: 0,
            line: 0,
        }
    }

    /// The next file begins.
    pub const fn next_file(&mut self) {
        self.file += 1;
        self.line = 0;
    }

    /// A line without its line break.
    pub fn take(&mut self, line: &[u8]) {
        self.line += 1;
        if self.is_behind {
            self.is_behind = false;
            let fit = self.leaves.last().map(|leaf| fit(prev_of(line), leaf.digest));
            if let (Some(leaf), Some(fit)) = (self.leaves.last_mut(), fit) {
                leaf.behind = fit;
            }
        }
        if !self.needle.needle().is_empty() && self.needle.find(line).is_some() {
            self.look(line);
        }
        self.previous.clear();
        self.previous.extend_from_slice(line);
    }

    /// The transaction's id, once a record of it was found: a number leads to it.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.leaves.first().and(self.id.as_deref())
    }

    /// What was found: the act, and its records in the ledger's order.
    #[must_use]
    pub fn end(self) -> Option<(Deed, Vec<Leaf>)> {
        let act = self.shelf.find(self.id.as_deref()?)?.clone();
        Some((act, self.leaves))
    }

    fn look(&mut self, line: &[u8]) {
        let Ok(Value::Object(fields)) = serde_json::from_slice(line) else { return };
        let text = |name: &str| fields.get(name).and_then(Value::as_str);
        let is_wanted = match (&self.id, self.sequence) {
            (_, Some(number)) => fields.get("seq").and_then(Value::as_u64) == Some(number),
            (Some(id), None) => text("id") == Some(id) || text("transaction") == Some(id),
            (None, None) => false,
        };
        if !is_wanted || self.leaves.len() >= RECORDS_MAX || text("kind") == Some("checkpoint") {
            return;
        }
        if self.sequence.is_some() {
            self.id = text("transaction").or_else(|| text("id")).map(str::to_owned);
        }
        let digest = Digest::of(line);
        let before = match self.previous.as_slice() {
            [] => Fit::Alone,
            previous => fit(text("prev").and_then(Digest::parse), Digest::of(previous)),
        };
        let (file, number) = (self.file, self.line);
        if read(line).is_some() {
            self.shelf.take(line);
        }
        self.leaves.push(Leaf { file, line: number, digest, before, behind: Fit::Alone, fields });
        self.is_behind = true;
    }
}

fn fit(prev: Option<Digest>, digest: Digest) -> Fit {
    if prev == Some(digest) { Fit::Fits } else { Fit::Differs }
}

fn prev_of(line: &[u8]) -> Option<Digest> {
    let value: Value = serde_json::from_slice(line).ok()?;
    value.get("prev").and_then(Value::as_str).and_then(Digest::parse)
}
