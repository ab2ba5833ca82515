//! How a transaction stood in front of its COMMIT, and whether its id still means that transaction.
//!
//! PostgreSQL gives an id anew if a crash loses every trace of it: then "committed" is another's. No id whose trace was on the
//! server's disk is lost. The trace is a record of the transaction's own in the write-ahead log, and it is flushed before the
//! COMMIT is sent; on the same timeline of the same system the id then is the transaction's for ever.
//!
//! Owns: what is known of both, and what follows for the id. Does not own: asking (`session`, `driver`), how the transaction
//! ended (`reconcile`).

use std::fmt;

use super::record::Xid;

/// A place in the write-ahead log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WalPlace(u64);

impl WalPlace {
    /// As PostgreSQL writes it: `16/B374D848`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (high, low) = text.split_once('/')?;
        let part = |digits: &str| u64::from(u32::from_str_radix(digits, 16).unwrap_or(u32::MAX));
        let is_plain =
            |digits: &str| (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        (is_plain(high) && is_plain(low)).then(|| Self((part(high) << 32) | part(low)))
    }
}

impl fmt::Display for WalPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & u64::from(u32::MAX))
    }
}

/// A timeline, as the names of files of the write-ahead log begin with it: eight hexadecimal digits.
#[must_use]
pub fn parse_timeline(text: &str) -> Option<u32> {
    let is_plain = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_plain.then(|| u32::from_str_radix(text, 16).ok()).flatten()
}

/// What a server said of a transaction in front of its COMMIT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Its id; `None` while it has written nothing.
    pub xid: Option<Xid>,
    /// Where the write-ahead log has its last trace, or ended then.
    pub wal: Option<WalPlace>,
    /// Since when the server kept statistics then, in microseconds: a crash discards them.
    pub era: Option<u64>,
    /// The timeline that the server wrote.
    pub timeline: Option<u32>,
    /// The system's identifier, made with it.
    pub system: Option<u64>,
    /// The trace was on the server's disk before the COMMIT was sent.
    pub is_flushed: bool,
}

impl Standing {
    /// Whether the id could still be lost.
    #[must_use]
    pub const fn needs_flush(&self) -> bool {
        self.xid.is_some() && self.wal.is_some() && !self.is_flushed
    }

    /// Whether a log that has been flushed up to there in that era has its trace.
    #[must_use]
    pub fn is_covered_by(&self, flushed: &Flushed) -> bool {
        self.era == Some(flushed.era) && self.wal.is_some_and(|wal| wal <= flushed.up_to)
    }
}

/// How far a server's log is on its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flushed {
    /// Since when it keeps statistics: no other server has kept them since then.
    pub era: u64,
    /// How far.
    pub up_to: WalPlace,
}

/// What a server says of itself when it is asked how transactions ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Witness {
    /// Since when it keeps statistics.
    pub era: u64,
    /// Where its last checkpoint is.
    pub checkpoint: Option<WalPlace>,
    /// Whether that was made before the statistics began: then these were reset, and no crash was recovered from.
    pub is_older: bool,
    /// The timeline that it writes; `None` on a standby, which may not know of a transaction yet.
    pub timeline: Option<u32>,
    /// The system's identifier.
    pub system: Option<u64>,
}

/// Whether an id may have been given anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// There was no crash since, or none that lost the transaction.
    Harmless,
    /// A crash has lost it.
    Lost,
    /// There may have been one, and what it lost cannot be seen any more.
    Possible,
}

impl Witness {
    /// Whether it can know of a transaction at all: it is no standby, and no other system.
    #[must_use]
    pub fn knows(&self, standing: &Standing) -> bool {
        let is_other = standing.system.zip(self.system).is_some_and(|(then, now)| then != now);
        self.timeline.is_some() && !is_other
    }

    /// What a crash since has done to the transaction.
    ///
    /// Statistics that began later than those of then tell of a crash, or of several, unless somebody has reset them. What
    /// was flushed survives them, on the same timeline: a standby that took over may not have had it. Else the first
    /// checkpoint behind a crash is where the log had ended, and later ones are behind it: a transaction that had written
    /// behind the last of them is lost. Of others it cannot be seen any more.
    #[must_use]
    pub fn crash_since(&self, standing: &Standing) -> Crash {
        let is_same_line = standing.timeline.is_some() && standing.timeline == self.timeline;
        if standing.era == Some(self.era) || (standing.is_flushed && is_same_line) {
            return Crash::Harmless;
        }
        match (standing.wal, self.checkpoint) {
            (Some(wal), Some(checkpoint)) if checkpoint < wal && !self.is_older => Crash::Lost,
            _ => Crash::Possible,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Option<WalPlace> {
        WalPlace::parse(text)
    }

    #[test]
    fn places_in_the_log_are_ordered() {
        let place = |text| WalPlace::parse(text).unwrap();
        assert!(place("0/FFFFFFFF") < place("1/0") && place("0/15A3B48") < place("0/15A3B49"));
        for text in ["", "0", "/", "0/", "x/1", "0/123456789", "-1/0", "+1/0"] {
            assert_eq!(WalPlace::parse(text), None, "{text}");
        }
        for text in ["0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF"] {
            assert_eq!(place(text).to_string(), text);
        }
        assert_eq!(parse_timeline("0000000A"), Some(10));
        for text in ["", "1", "0000000G", "+0000001", "000000001"] {
            assert_eq!(parse_timeline(text), None, "{text}");
        }
    }

    fn standing(is_flushed: bool) -> Standing {
        Standing {
            xid: Some(Xid(731)),
            wal: place("0/200"),
            era: Some(7),
            timeline: Some(1),
            system: Some(99),
            is_flushed,
        }
    }

    fn witness(era: u64, checkpoint: &str, timeline: u32) -> Witness {
        let (checkpoint, timeline) = (place(checkpoint), Some(timeline));
        Witness { era, checkpoint, is_older: false, timeline, system: Some(99) }
    }

    #[test]
    fn what_a_crash_has_done_to_an_id() {
        let untold = Standing { era: None, timeline: None, system: None, ..standing(true) };
        for (what, standing, witness, expected) in [
            ("no crash", standing(false), witness(7, "0/100", 1), Crash::Harmless),
            ("no crash, flushed", standing(true), witness(7, "0/100", 1), Crash::Harmless),
            ("a crash, flushed", standing(true), witness(8, "0/300", 1), Crash::Harmless),
            ("many, flushed", standing(true), witness(9, "4/300", 1), Crash::Harmless),
            ("recovery ended in front", standing(false), witness(8, "0/100", 1), Crash::Lost),
            ("it ended behind, or a later checkpoint is", standing(false), witness(8, "0/300", 1), Crash::Possible),
            ("it ended there", standing(false), witness(8, "0/200", 1), Crash::Possible),
            ("a standby took over behind", standing(true), witness(8, "0/300", 2), Crash::Possible),
            ("a standby took over in front", standing(true), witness(8, "0/100", 2), Crash::Lost),
            ("an old record", untold, witness(8, "0/300", 1), Crash::Possible),
        ] {
            assert_eq!(witness.crash_since(&standing), expected, "{what}");
        }
        let reset = Witness { is_older: true, ..witness(8, "0/100", 1) };
        assert_eq!(reset.crash_since(&standing(false)), Crash::Possible, "somebody has reset statistics");
        assert_eq!(reset.crash_since(&standing(true)), Crash::Harmless, "and that says nothing");
    }

    #[test]
    fn neither_a_standby_nor_another_system_is_asked() {
        let here = witness(8, "0/300", 1);
        assert!(here.knows(&standing(false)) && here.knows(&Standing::default()));
        assert!(!Witness { timeline: None, ..here }.knows(&standing(true)), "a standby");
        assert!(!Witness { system: Some(98), ..here }.knows(&standing(true)), "another system");
        assert!(Witness { timeline: Some(2), ..here }.knows(&standing(true)), "one that took over");
    }

    #[test]
    fn a_flush_covers_what_was_written_in_front_of_it_in_its_era() {
        let flushed = |era, up_to| Flushed { era, up_to: place(up_to).unwrap() };
        assert!(standing(false).is_covered_by(&flushed(7, "0/200")));
        assert!(!standing(false).is_covered_by(&flushed(7, "0/1FF")));
        assert!(!standing(false).is_covered_by(&flushed(8, "0/300")), "another server, or behind a crash");
        assert!(!Standing { wal: None, ..standing(false) }.is_covered_by(&flushed(7, "0/300")));
        assert!(standing(false).needs_flush() && !standing(true).needs_flush() && !Standing::default().needs_flush());
    }
}
