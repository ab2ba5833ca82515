//! Transactions whose end the ledger does not know, and how it is found out.
//!
//! | the ledger has | then |
//! |---|---|
//! | an intent, and no pre-commit record | its COMMIT was never sent: rolled back |
//! | a pre-commit record without a transaction id | it had written nothing: there is nothing that could be committed |
//! | one with an id | the database knows: by the row of a sealed bypass, else by `pg_xact_status` |
//! | one of what commits by itself | nobody knows |
//!
//! A crash of PostgreSQL may give the id of a transaction that it lost to another one; `standing` says when it cannot have.
//!
//! Owns: which transactions those are, what follows from the database's answers. Does not own: asking (`driver`).

use std::collections::HashMap;

use jiff::Timestamp;
use serde::Deserialize;
use uuid::Uuid;

use super::act::{Act, Fields};
use super::record::{Conclusion, Xid};
use super::standing::{Crash, Standing, WalPlace};

/// The first version whose COMMITs are announced.
const ANNOUNCED_SINCE: u64 = 3;

/// Logins whose transactions go past the tenants on a role of their own: those that leave rows in sealed databases.
const BYPASS_PRESET: &str = "bypass";

/// What is known of the end of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Its COMMIT was never sent.
    NotAnnounced,
    /// It had no id: it had written nothing.
    NothingWritten,
    /// The database knows, by this id.
    Announced(Xid, Standing),
    /// It committed by itself, or its record is of a version that does not tell.
    Nothing,
}

/// A transaction whose end is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unresolved {
    /// Its name.
    pub id: Uuid,
    /// The database, by the name that clients use.
    pub database: String,
    /// The role on the server.
    pub role: String,
    /// What is known.
    pub known: Known,
}

/// How an end was found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Evidence {
    /// There is no pre-commit record.
    NoPrecommit,
    /// It had no transaction id.
    NoXid,
    /// What `pg_xact_status` says, or that its id was never given.
    XactStatus,
    /// The row that a sealed bypass leaves, or that there is none.
    Row,
    /// Nothing tells.
    Nothing,
}

impl Evidence {
    /// The word in the ledger.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Evidence::NoPrecommit => "no_precommit",
            Evidence::NoXid => "no_xid",
            Evidence::XactStatus => "xact_status",
            Evidence::Row => "row",
            Evidence::Nothing => "nothing",
        }
    }
}

/// The record of an end that was found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reconciled {
    /// The transaction.
    pub id: Uuid,
    /// How it ended.
    pub conclusion: Conclusion,
    /// How that is known.
    pub evidence: Evidence,
    /// Its id on the server.
    pub xid: Option<Xid>,
}

impl Act for Reconciled {
    fn kind(&self) -> &'static str {
        "reconciled"
    }

    fn id(&self) -> Uuid {
        self.id
    }

    fn is_ahead(&self) -> bool {
        // Where it cannot be written, it is found out again.
        true
    }

    fn put(&self, fields: &mut Fields<'_>) {
        fields.put("result", self.conclusion.word());
        fields.put("evidence", self.evidence.word());
        fields.put("xid", self.xid.map(|xid| xid.to_string()));
    }
}

/// What a database says of one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Testimony {
    /// Of `pg_xact_status`; `None` where it is too old for that.
    pub status: Status,
    /// Whether there is a row of it; `None` where rows cannot be read.
    pub has_row: Option<bool>,
    /// What a crash since would have done.
    pub crash: Crash,
}

/// The answer of `pg_xact_status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It runs, or its COMMIT does.
    InProgress,
    /// It is committed.
    Committed,
    /// It is not.
    Aborted,
    /// No such id was given yet: the server has lost it in a crash.
    NeverGiven,
    /// It is too old, or something else was said.
    Forgotten,
}

/// What follows from a database's testimony; `None`: it has to be asked again.
#[must_use]
pub fn judge(testimony: &Testimony) -> Option<(Conclusion, Evidence)> {
    let Testimony { status, has_row, crash } = testimony;
    let by_status = |conclusion| Some((conclusion, Evidence::XactStatus));
    let by_row = |conclusion| Some((conclusion, Evidence::Row));
    match (status, has_row, crash) {
        // Its COMMIT may be under way.
        (Status::InProgress, _, Crash::Harmless | Crash::Possible) => None,
        (_, Some(true), _) => by_row(Conclusion::Committed),
        // Whoever has removed the row has not undone the COMMIT.
        (Status::Committed, None | Some(false), Crash::Harmless) => by_status(Conclusion::Committed),
        // Nobody has committed under that id.
        (Status::Aborted | Status::NeverGiven, None, _) => by_status(Conclusion::RolledBack),
        (_, Some(false), _) => by_row(Conclusion::RolledBack),
        (_, None, Crash::Lost) => by_status(Conclusion::RolledBack),
        (Status::Committed, None, Crash::Possible) | (Status::Forgotten, None, Crash::Harmless | Crash::Possible) => {
            Some((Conclusion::Unknown, Evidence::Nothing))
        }
    }
}

/// What ledgers say of transactions that leave a row in sealed databases.
#[derive(Debug, Default)]
pub struct Ledgers {
    known: HashMap<Uuid, Row>,
    /// The time of the first record whose name a row has.
    since: Option<String>,
    /// No row is missed of what began before that, as records write times.
    from: String,
}

/// What is known of the row of a transaction.
#[derive(Debug)]
struct Row {
    database: String,
    /// Whether its kind leaves one: what keeps to a tenant does not.
    is_left: bool,
    /// Whether it has to be there.
    is_due: bool,
}

impl Ledgers {
    /// Misses no row of what began before a time.
    #[must_use]
    pub fn since_time(from: Option<Timestamp>) -> Self {
        Self { from: from.map_or_else(String::new, |from| format!("{from:.6}")), ..Self::default() }
    }

    /// The next line of one of them.
    pub fn take(&mut self, line: &[u8]) {
        let Ok(read) = serde_json::from_slice::<Read>(line) else { return };
        let Ok(id) = read.id.parse::<Uuid>() else { return };
        if read.v < ANNOUNCED_SINCE {
            return;
        }
        match read.kind.as_str() {
            "intent" => {
                let is_asked_for = read.at >= self.from;
                let is_left = read.preset == BYPASS_PRESET && is_asked_for;
                self.known.insert(id, Row { database: read.database, is_left, is_due: false });
                if is_asked_for && self.since.as_ref().is_none_or(|since| *since > read.at) {
                    self.since = Some(read.at);
                }
            }
            "outcome" | "reconciled" => {
                if let Some(row) = self.known.get_mut(&id) {
                    let is_committed = read.result.as_deref() == Some(Conclusion::Committed.word());
                    row.is_due = row.is_left && is_committed && read.xid.is_some();
                }
            }
            _ => {}
        }
    }

    /// Since when rows have names that a ledger knows; RFC 3339.
    #[must_use]
    pub fn since(&self) -> Option<&str> {
        self.since.as_deref()
    }

    /// A row of this name is there. Whether a record is, too.
    pub fn take_row(&mut self, id: &Uuid) -> bool {
        match self.known.get_mut(id) {
            Some(row) => {
                row.is_due = false;
                true
            }
            None => false,
        }
    }

    /// Whether there are transactions of this database that may have left rows.
    #[must_use]
    pub fn may_have_rows(&self, database: &str) -> bool {
        self.known.values().any(|row| row.is_left && row.database == database)
    }

    /// The committed transactions of a database whose rows were not there.
    #[must_use]
    pub fn without_row(&self, database: &str) -> Vec<Uuid> {
        let missing = self.known.iter().filter(|(_, row)| row.is_due && row.database == database);
        let mut missing: Vec<_> = missing.map(|(id, _)| *id).collect();
        missing.sort();
        missing
    }
}

/// What is read of a line.
#[derive(Deserialize)]
struct Read {
    #[serde(default)]
    at: String,
    #[serde(default)]
    v: u64,
    kind: String,
    id: String,
    #[serde(default)]
    database: String,
    #[serde(default)]
    role: String,
    #[serde(default)]
    preset: String,
    result: Option<String>,
    xid: Option<String>,
    wal: Option<String>,
    era: Option<u64>,
    timeline: Option<u32>,
    system: Option<String>,
    #[serde(default)]
    flushed: bool,
    #[serde(default)]
    self_committing: bool,
}

/// A transaction while the ledger is read.
struct Pending {
    unresolved: Unresolved,
    /// A process that has ended since has left it, or its outcome is not known.
    is_left: bool,
}

/// Finds the transactions whose end is not known, line by line.
#[derive(Default)]
pub struct Search {
    pending: HashMap<Uuid, Pending>,
}

impl Search {
    /// The next line. Those that are no records are passed over: whether any was changed is `verify`'s question.
    pub fn take(&mut self, line: &[u8]) {
        let Ok(read) = serde_json::from_slice::<Read>(line) else { return };
        if read.kind == "boot" {
            // Whatever runs now has begun behind it.
            self.pending.values_mut().for_each(|pending| pending.is_left = true);
        }
        let Ok(id) = read.id.parse::<Uuid>() else { return };
        match read.kind.as_str() {
            "intent" => {
                let known = if read.v < ANNOUNCED_SINCE { Known::Nothing } else { Known::NotAnnounced };
                let unresolved = Unresolved { id, database: read.database, role: read.role, known };
                self.pending.insert(id, Pending { unresolved, is_left: false });
            }
            "precommit" => {
                if let Some(pending) = self.pending.get_mut(&id) {
                    pending.unresolved.known = announced(&read);
                }
            }
            "outcome" if read.result.as_deref() == Some(Conclusion::Unknown.word()) => {
                if let Some(pending) = self.pending.get_mut(&id) {
                    pending.is_left = true;
                }
            }
            "outcome" | "reconciled" => drop(self.pending.remove(&id)),
            _ => {}
        }
    }

    /// The transactions that nobody works on any more, in the order of their names.
    #[must_use]
    pub fn end(self) -> Vec<Unresolved> {
        let left = self.pending.into_values().filter(|pending| pending.is_left);
        let mut left: Vec<_> = left.map(|pending| pending.unresolved).collect();
        left.sort_by_key(|unresolved| unresolved.id);
        left
    }
}

fn announced(read: &Read) -> Known {
    if read.self_committing {
        return Known::Nothing;
    }
    let Some(xid) = &read.xid else { return Known::NothingWritten };
    match xid.parse() {
        Ok(xid) => {
            let standing = Standing {
                xid: Some(Xid(xid)),
                wal: read.wal.as_deref().and_then(WalPlace::parse),
                era: read.era,
                timeline: read.timeline,
                system: read.system.as_deref().and_then(|system| system.parse().ok()),
                is_flushed: read.flushed,
            };
            Known::Announced(Xid(xid), standing)
        }
        Err(_) => Known::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(kind: &str, id: u128, more: &str) -> String {
        let id = Uuid::from_u128(id);
        format!(
            "{{\"v\":3,\"kind\":\"{kind}\",\"id\":\"{id}\",\"at\":\"2026-11-23T09:00:00Z\",\"database\":\"d\",\"role\":\"r\"{more}}}"
        )
    }

    fn found(lines: &[String]) -> Vec<(u128, Known)> {
        let mut search = Search::default();
        lines.iter().for_each(|line| search.take(line.as_bytes()));
        search.end().into_iter().map(|it| (it.id.as_u128(), it.known)).collect()
    }

    #[test]
    fn what_has_no_outcome_is_found_once_its_process_is_gone() {
        let mut lines = vec![
            line("intent", 1, ""),
            line("outcome", 1, ",\"result\":\"committed\""),
            line("intent", 2, ""),
            line("intent", 3, ""),
            line("precommit", 3, ",\"xid\":null"),
            line("intent", 4, ""),
            line("precommit", 4, ",\"xid\":\"731\",\"wal\":\"0/15A3B48\",\"era\":7"),
            line("outcome", 4, ",\"result\":\"unknown\""),
            "no record".to_owned(),
            line("intent", 5, ""),
            line("precommit", 5, ",\"xid\":null,\"self_committing\":true"),
            line("intent", 6, "").replace(":3", ":2"),
        ];
        let old =
            Standing { xid: Some(Xid(731)), wal: WalPlace::parse("0/15A3B48"), era: Some(7), ..Standing::default() };
        let of_four = Known::Announced(Xid(731), old);
        assert_eq!(found(&lines), [(4, of_four)]);
        lines.push(line("boot", 99, ""));
        lines.push(line("intent", 7, ""));
        let all = [
            (2, Known::NotAnnounced),
            (3, Known::NothingWritten),
            (4, of_four),
            (5, Known::Nothing),
            (6, Known::Nothing),
        ];
        assert_eq!(found(&lines), all);
        lines.push(line("reconciled", 4, ",\"result\":\"committed\""));
        lines.push(line("reconciled", 5, ",\"result\":\"unknown\""));
        assert_eq!(found(&lines), [all[0], all[1], all[4]]);
    }

    #[test]
    fn a_precommit_record_says_how_the_transaction_stood() {
        let more = ",\"xid\":\"731\",\"wal\":\"0/15A3B48\",\"era\":7,\"timeline\":2,\"system\":\"18446744073709551615\",\"flushed\":true";
        let lines = [line("intent", 4, ""), line("precommit", 4, more), line("boot", 99, "")];
        let standing = Standing {
            xid: Some(Xid(731)),
            wal: WalPlace::parse("0/15A3B48"),
            era: Some(7),
            timeline: Some(2),
            system: Some(u64::MAX),
            is_flushed: true,
        };
        assert_eq!(found(&lines), [(4, Known::Announced(Xid(731), standing))]);
    }

    /// Every testimony there is.
    #[test]
    fn an_id_that_was_given_anew_is_nobody_s_proof() {
        use Crash::{Harmless, Lost, Possible};
        use Status::{Aborted, Committed, Forgotten, InProgress, NeverGiven};
        const COMMITTED: Option<(Conclusion, Evidence)> = Some((Conclusion::Committed, Evidence::XactStatus));
        const ROLLED_BACK: Option<(Conclusion, Evidence)> = Some((Conclusion::RolledBack, Evidence::XactStatus));
        const UNKNOWN: Option<(Conclusion, Evidence)> = Some((Conclusion::Unknown, Evidence::Nothing));
        const ROW: Option<(Conclusion, Evidence)> = Some((Conclusion::Committed, Evidence::Row));
        const NO_ROW: Option<(Conclusion, Evidence)> = Some((Conclusion::RolledBack, Evidence::Row));
        const LATER: Option<(Conclusion, Evidence)> = None;
        // What follows where rows cannot be read, where there is none, and where there is one.
        let table = [
            (InProgress, Harmless, [LATER, LATER, LATER]),
            (InProgress, Possible, [LATER, LATER, LATER]),
            (InProgress, Lost, [ROLLED_BACK, NO_ROW, ROW]),
            (Committed, Harmless, [COMMITTED, COMMITTED, ROW]),
            (Committed, Possible, [UNKNOWN, NO_ROW, ROW]),
            (Committed, Lost, [ROLLED_BACK, NO_ROW, ROW]),
            (Aborted, Harmless, [ROLLED_BACK, NO_ROW, ROW]),
            (Aborted, Possible, [ROLLED_BACK, NO_ROW, ROW]),
            (Aborted, Lost, [ROLLED_BACK, NO_ROW, ROW]),
            (NeverGiven, Harmless, [ROLLED_BACK, NO_ROW, ROW]),
            (NeverGiven, Possible, [ROLLED_BACK, NO_ROW, ROW]),
            (NeverGiven, Lost, [ROLLED_BACK, NO_ROW, ROW]),
            (Forgotten, Harmless, [UNKNOWN, NO_ROW, ROW]),
            (Forgotten, Possible, [UNKNOWN, NO_ROW, ROW]),
            (Forgotten, Lost, [ROLLED_BACK, NO_ROW, ROW]),
        ];
        for (status, crash, expected) in table {
            let rows = [None, Some(false), Some(true)];
            let judged = rows.map(|has_row| judge(&Testimony { status, has_row, crash }));
            assert_eq!(judged, expected, "{status:?} {crash:?}");
        }
    }

    #[test]
    fn rows_are_missed_where_a_bypass_has_committed_and_nowhere_else() {
        let bypass = ",\"preset\":\"bypass\"";
        let committed = ",\"result\":\"committed\",\"xid\":\"731\"";
        let lines = [
            line("intent", 1, bypass),
            line("outcome", 1, committed),
            line("intent", 2, ",\"preset\":\"migration\""),
            line("outcome", 2, committed),
            line("intent", 3, bypass),
            line("outcome", 3, ",\"result\":\"committed\",\"xid\":null"),
            line("intent", 4, bypass),
            line("outcome", 4, ",\"result\":\"rolled_back\",\"xid\":\"732\""),
            line("intent", 5, bypass),
            line("outcome", 5, ",\"result\":\"unknown\",\"xid\":\"733\""),
            line("reconciled", 5, committed),
            line("intent", 6, bypass),
            line("outcome", 6, committed),
        ];
        let read = |from: Option<&str>| {
            let mut ledgers = Ledgers::since_time(from.map(|from| from.parse().unwrap()));
            lines.iter().for_each(|line| ledgers.take(line.as_bytes()));
            ledgers
        };
        let mut ledgers = read(None);
        assert!(ledgers.take_row(&Uuid::from_u128(6)) && ledgers.take_row(&Uuid::from_u128(2)));
        assert!(!ledgers.take_row(&Uuid::from_u128(7)));
        assert_eq!(ledgers.without_row("d"), [Uuid::from_u128(1), Uuid::from_u128(5)]);
        assert!(ledgers.without_row("another").is_empty());
        assert!(ledgers.may_have_rows("d") && !ledgers.may_have_rows("another"));
        // All began at nine.
        let mut ledgers = read(Some("2026-11-23T09:00:01Z"));
        assert_eq!((ledgers.without_row("d"), ledgers.since()), (vec![], None));
        assert!(ledgers.take_row(&Uuid::from_u128(1)), "its record is known all the same");
        assert_eq!(read(Some("2026-11-23T09:00:00Z")).since(), Some("2026-11-23T09:00:00Z"));
    }
}
