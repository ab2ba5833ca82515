//! The chain that ties each record to the one before it, and what breaks it.
//!
//! A record's digest is the SHA-256 of its line's bytes, without the line break; every line carries the digest of the
//! line before it as `prev`, so that the digest of the last one stands for all of them. `sha256sum` can follow it.
//!
//! Owns: digests, the walk along a ledger, every way in which a ledger can be broken. Does not own: files, keys
//! (`checkpoint`), what records say (`line`).

use std::fmt;

use aws_lc_rs::digest::{self, SHA256, SHA256_OUTPUT_LEN};
use serde::Deserialize;

use super::checkpoint::{Checkpoint, NoteFault, PublicKey, SignedNote};
use super::line::{CHAINED_SINCE, Line, Place, SCHEMA_VERSION};

/// SHA-256 of a line.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; SHA256_OUTPUT_LEN]);

impl Digest {
    /// What stands in front of the first record.
    pub const NONE: Self = Self([0; SHA256_OUTPUT_LEN]);

    /// Of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut out = [0; SHA256_OUTPUT_LEN];
        out.copy_from_slice(digest::digest(&SHA256, bytes).as_ref());
        Self(out)
    }

    /// From its bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// From 64 lower-case hexadecimal digits; another spelling of the same is another text, and no digest.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.as_bytes();
        if text.len() != 2 * SHA256_OUTPUT_LEN {
            return None;
        }
        let nibble = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let mut out = [0; SHA256_OUTPUT_LEN];
        for (out, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
            *out = (nibble(*pair.first()?)? << 4) | nibble(*pair.last()?)?;
        }
        Some(Self(out))
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; SHA256_OUTPUT_LEN] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The last record of a ledger, or of a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its number.
    pub sequence: u64,
    /// Its digest.
    pub digest: Digest,
}

impl Head {
    /// In front of the first record.
    pub const NONE: Self = Self { sequence: 0, digest: Digest::NONE };
}

/// Text between two records that is none, as a crash leaves it: an `opening` record says what was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// How much, with its line breaks.
    pub bytes: u64,
    /// SHA-256 of all of it.
    pub digest: Digest,
}

/// What a reviewer holds a ledger against.
#[derive(Clone, Debug, Default)]
pub struct Expectations {
    /// Whose signatures count; none: signatures are not looked at.
    pub keys: Vec<PublicKey>,
    /// Checkpoints that were kept elsewhere.
    pub kept: Vec<Checkpoint>,
    /// Older files were moved away: the ledger need not begin with its first record.
    pub is_partial: bool,
    /// Nothing may stand behind the last checkpoint.
    pub is_signed_to_end: bool,
}

/// A ledger that nothing is wrong with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Records.
    pub records: u64,
    /// Those of them, at the beginning, that were written before there was a chain: only the last is tied to the rest.
    pub unchained: u64,
    /// The first record's number, if there is one.
    pub first: Option<u64>,
    /// The last record.
    pub last: Option<Head>,
    /// Starts of the proxy.
    pub boots: u64,
    /// Checkpoints in the ledger.
    pub checkpoints: u64,
    /// Whether their signatures were looked at.
    pub are_signatures_checked: bool,
    /// Records behind the last checkpoint, whose wording no signature vouches for yet.
    pub unsigned: u64,
    /// Damaged text that the proxy has found, kept and recorded.
    pub damaged_bytes: u64,
}

/// What is wrong with a ledger.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Breach {
    /// A line that is no record, and that no start of the proxy has found either.
    #[error("is no record, and no start of the proxy tells of it")]
    NoRecord,
    /// The file ends in the middle of a line.
    #[error(
        "is cut off in its middle: a crash, somebody who shortened the file, or a record that was just being written"
    )]
    Torn,
    /// The file is compressed, and cannot be decompressed from here on.
    #[error("cannot be decompressed: the file's gzip stream is damaged or cut off")]
    Undecompressable,
    /// A number is missing, comes twice or out of turn.
    #[error("follows record {before}: records were removed, put in or moved")]
    OutOfTurn {
        /// The record in front of it.
        before: u64,
    },
    /// The record's bytes are not what the next record was tied to.
    #[error("was changed (or the link to it, `prev`, in the record behind it was): they no longer fit")]
    Changed,
    /// A chained ledger goes on without a chain.
    #[error("has no `prev`, but the record before it is part of a chain")]
    Unchained,
    /// The beginning is missing.
    #[error("is the first here: the records before it are missing")]
    BeginsLate,
    /// Another chain begins behind this one.
    #[error("begins a new chain: what came between it and record {before} is not known")]
    BeginsAnew {
        /// The record in front of it.
        before: u64,
    },
    /// The proxy itself found fewer records than it had signed.
    #[error(
        "was written by a start of the proxy that knew of records up to {expected}, and found them only up to {found}"
    )]
    LostBeforeStart {
        /// The last record that it knew of.
        expected: u64,
        /// The last that it found.
        found: u64,
    },
    /// A checkpoint record is not what its signed note makes it.
    #[error("is a checkpoint that does not fit the record before it")]
    CheckpointDiffers,
    /// A checkpoint that nobody who may has signed.
    #[error("is a checkpoint without a valid signature: {0}")]
    Signature(NoteFault),
    /// Fewer checkpoints than the ledger promises.
    #[error("is more than {limit} records behind the last checkpoint: checkpoints were removed")]
    TooFewCheckpoints {
        /// How many records there are at most between two of them.
        limit: u64,
    },
    /// The record is another than the one that was signed.
    #[error("is not the record that the kept checkpoint was signed for")]
    KeptDiffers,
    /// The ledger ends before a checkpoint that was kept.
    #[error("is the last, but the kept checkpoint tells of records up to {kept}: the end was cut off")]
    Truncated {
        /// The last record that the checkpoint covers.
        kept: u64,
    },
    /// There is a key, and nothing that it has signed.
    #[error("is the last, and the ledger holds no checkpoint that the public key vouches for")]
    NoCheckpoint,
    /// Nothing of it is tied to anything.
    #[error(
        "is the last, and no record has `prev`: this ledger was written before there was a chain, so changes cannot be found"
    )]
    NoChain,
    /// Records that no signature covers, where none may be.
    #[error("is the first of {count} behind the last checkpoint, which no signature vouches for")]
    UnsignedEnd {
        /// How many.
        count: u64,
    },
}

/// Where a line stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spot {
    /// Which of the files, from 0.
    pub file: usize,
    /// Its line there, from 1.
    pub line: u64,
    /// The number it says, if it is a record.
    pub sequence: Option<u64>,
}

/// The first thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Where.
    pub spot: Spot,
    /// What.
    pub breach: Breach,
}

/// What the walk reads of a line.
#[derive(Deserialize)]
struct Link<'l> {
    #[serde(default)]
    v: u64,
    seq: u64,
    #[serde(default)]
    kind: &'l str,
    prev: Option<&'l str>,
    note: Option<String>,
    checkpoint_records: Option<u64>,
    damaged: Option<DamageText<'l>>,
    expected: Option<u64>,
}

#[derive(Deserialize)]
struct DamageText<'l> {
    bytes: u64,
    sha256: &'l str,
}

/// The walk along a ledger, line by line. It ends at the first breach.
#[derive(Clone)]
pub struct Verifier {
    expectations: Expectations,
    found: Verified,
    spot: Spot,
    /// The last record and where it stands.
    head: Option<(Head, Spot)>,
    /// What stands behind it and is no record, and where that begins.
    stray: Option<(digest::Context, u64, Spot)>,
    /// Records at most between two checkpoints, as the last start of the proxy said.
    limit: Option<u64>,
    /// Records of transactions and the like behind the last checkpoint.
    since_checkpoint: u64,
    /// The first record behind the last checkpoint.
    first_unsigned: Option<Spot>,
}

impl Verifier {
    /// At the beginning of the first file.
    #[must_use]
    pub fn new(mut expectations: Expectations) -> Self {
        expectations.kept.sort_by_key(|checkpoint| checkpoint.head.sequence);
        let found = Verified { are_signatures_checked: !expectations.keys.is_empty(), ..Verified::default() };
        Self {
            expectations,
            found,
            spot: Spot::default(),
            head: None,
            stray: None,
            limit: None,
            since_checkpoint: 0,
            first_unsigned: None,
        }
    }

    /// The next file begins.
    pub const fn next_file(&mut self) {
        self.spot = Spot { file: self.spot.file + 1, line: 0, sequence: None };
    }

    /// The last record so far.
    #[must_use]
    pub fn head(&self) -> Option<Head> {
        self.head.map(|(head, _)| head)
    }

    /// A line without its line break; `is_closed` says that it had one.
    ///
    /// # Errors
    /// The first breach.
    pub fn take(&mut self, line: &[u8], is_closed: bool) -> Result<(), Broken> {
        self.spot = Spot { line: self.spot.line + 1, sequence: None, ..self.spot };
        let Ok(link) = serde_json::from_slice::<Link<'_>>(line) else {
            return self.on_stray(line, is_closed);
        };
        self.spot.sequence = Some(link.seq);
        if !is_closed {
            return self.broken(Breach::Torn);
        }
        let head = Head { sequence: link.seq, digest: Digest::of(line) };
        self.check_stray(&link)?;
        self.check_link(&link)?;
        self.check_kept(head)?;
        self.check_kind(&link, line)?;
        self.found.records += 1;
        self.found.first.get_or_insert(link.seq);
        self.head = Some((head, self.spot));
        Ok(())
    }

    /// The rest of the file cannot be decompressed.
    #[must_use]
    pub const fn undecompressable(&self) -> Broken {
        let spot = Spot { line: self.spot.line + 1, sequence: None, ..self.spot };
        Broken { spot, breach: Breach::Undecompressable }
    }

    /// The end of the last file.
    ///
    /// # Errors
    /// What is missing there.
    pub fn end(mut self) -> Result<Verified, Broken> {
        if let Some((.., spot)) = self.stray.take() {
            return Err(Broken { spot, breach: Breach::NoRecord });
        }
        let head = self.head.map_or(Head::NONE, |(head, _)| head);
        self.spot = self.head.map_or(self.spot, |(_, spot)| spot);
        // A checkpoint is in the ledger, too, behind what it covers, before anybody can keep it.
        if let Some(kept) = self.expectations.kept.last().filter(|kept| kept.head.sequence >= head.sequence) {
            let kept = kept.head.sequence;
            return Err(Broken { spot: self.spot, breach: Breach::Truncated { kept } });
        }
        if self.found.records > 0 && self.found.unchained == self.found.records {
            return self.broken(Breach::NoChain);
        }
        if self.found.records > 0 && self.found.are_signatures_checked && self.found.checkpoints == 0 {
            return self.broken(Breach::NoCheckpoint);
        }
        if let Some(spot) = self.first_unsigned.filter(|_| self.expectations.is_signed_to_end) {
            return Err(Broken { spot, breach: Breach::UnsignedEnd { count: self.found.unsigned } });
        }
        self.found.last = self.head.map(|(head, _)| head);
        Ok(self.found)
    }

    const fn broken<T>(&self, breach: Breach) -> Result<T, Broken> {
        Err(Broken { spot: self.spot, breach })
    }

    fn on_stray(&mut self, line: &[u8], is_closed: bool) -> Result<(), Broken> {
        if !is_closed {
            return self.broken(Breach::Torn);
        }
        let spot = self.spot;
        let (context, bytes, _) = self.stray.get_or_insert_with(|| (digest::Context::new(&SHA256), 0, spot));
        context.update(line);
        context.update(b"\n");
        *bytes += line.len() as u64 + 1;
        Ok(())
    }

    /// Damaged text is what the record behind it says, and only there.
    fn check_stray(&mut self, link: &Link<'_>) -> Result<(), Broken> {
        let Some((context, bytes, spot)) = self.stray.take() else { return Ok(()) };
        let is_told = link.damaged.as_ref().is_some_and(|told| {
            Digest::from_bytes(context.finish().as_ref())
                .is_some_and(|digest| Some(digest) == Digest::parse(told.sha256))
                && told.bytes == bytes
        });
        if !is_told && link.prev.is_some() {
            return Err(Broken { spot, breach: Breach::NoRecord });
        }
        // Before there was a chain nobody told of it.
        self.found.damaged_bytes += bytes;
        Ok(())
    }

    fn check_link(&mut self, link: &Link<'_>) -> Result<(), Broken> {
        let Some(prev) = link.prev else { return self.check_unchained() };
        let Some(prev) = Digest::parse(prev) else { return self.broken(Breach::Changed) };
        let Some((head, spot)) = self.head else { return self.check_first(link.seq, prev) };
        if let Some(expected) = link.expected {
            return self.broken(Breach::LostBeforeStart { expected, found: head.sequence });
        }
        if prev == Digest::NONE {
            return self.broken(Breach::BeginsAnew { before: head.sequence });
        }
        if Some(link.seq) != head.sequence.checked_add(1) {
            return self.broken(Breach::OutOfTurn { before: head.sequence });
        }
        if prev != head.digest {
            return Err(Broken { spot, breach: Breach::Changed });
        }
        Ok(())
    }

    /// Numbers of such ledgers begin anew where a start found an empty file, so they prove nothing.
    fn check_unchained(&mut self) -> Result<(), Broken> {
        if self.found.records > self.found.unchained {
            return self.broken(Breach::Unchained);
        }
        self.found.unchained += 1;
        Ok(())
    }

    fn check_first(&self, sequence: u64, prev: Digest) -> Result<(), Broken> {
        let is_genesis = sequence == 1 && prev == Digest::NONE;
        if is_genesis || (self.expectations.is_partial && sequence > 1 && prev != Digest::NONE) {
            let front = Head { sequence: sequence.saturating_sub(1), digest: prev };
            return if self
                .expectations
                .kept
                .iter()
                .any(|kept| kept.head.sequence == front.sequence && kept.head != front)
            {
                self.broken(Breach::KeptDiffers)
            } else {
                Ok(())
            };
        }
        self.broken(Breach::BeginsLate)
    }

    fn check_kept(&self, head: Head) -> Result<(), Broken> {
        let same_number = |kept: &&Checkpoint| kept.head.sequence == head.sequence;
        if self.expectations.kept.iter().filter(same_number).any(|kept| kept.head != head) {
            return self.broken(Breach::KeptDiffers);
        }
        Ok(())
    }

    fn check_kind(&mut self, link: &Link<'_>, line: &[u8]) -> Result<(), Broken> {
        match link.kind {
            "checkpoint" => return self.check_checkpoint(link, line),
            "boot" | "reopen" => {
                if let Some(expected) = link.expected {
                    let found = self.head.map_or(0, |(head, _)| head.sequence);
                    return self.broken(Breach::LostBeforeStart { expected, found });
                }
                self.found.boots += u64::from(link.kind == "boot");
                self.limit = link.checkpoint_records;
            }
            _ => {
                self.since_checkpoint += 1;
                if let Some(limit) = self.limit.filter(|limit| self.since_checkpoint > *limit) {
                    return self.broken(Breach::TooFewCheckpoints { limit });
                }
            }
        }
        self.found.unsigned += 1;
        self.first_unsigned.get_or_insert(self.spot);
        Ok(())
    }

    /// Its note is about the record in front of it, signed, and all that the record says.
    fn check_checkpoint(&mut self, link: &Link<'_>, line: &[u8]) -> Result<(), Broken> {
        let front = match (self.head, link.prev.and_then(Digest::parse)) {
            (Some((head, _)), _) => head,
            (None, prev) => Head { sequence: link.seq.saturating_sub(1), digest: prev.unwrap_or(Digest::NONE) },
        };
        let note = match link.note.as_deref().map(SignedNote::parse) {
            Some(Ok(note)) => note,
            Some(Err(fault)) => return self.broken(Breach::Signature(fault)),
            None => return self.broken(Breach::CheckpointDiffers),
        };
        let place = Place { node: "", sequence: link.seq, at: note.checkpoint.at, prev: front.digest };
        let version = link.v.clamp(CHAINED_SINCE, SCHEMA_VERSION);
        let expected = Line::of_checkpoint_in(version, &note, &place);
        if note.checkpoint.head != front || expected.without_break() != line {
            return self.broken(Breach::CheckpointDiffers);
        }
        if self.found.are_signatures_checked
            && let Err(fault) = note.check(&self.expectations.keys)
        {
            return self.broken(Breach::Signature(fault));
        }
        self.found.checkpoints += 1;
        self.found.unsigned = 0;
        self.since_checkpoint = 0;
        self.first_unsigned = None;
        Ok(())
    }
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod tests;
