//! Asks databases how transactions ended of which the ledger does not know it, and writes down what they say.
//!
//! At the start, and whenever an outcome is unknown; one that cannot be found out now is asked for again. The questions go
//! over connections of their own, as the role that the transaction had. `pg_xact_status` and what tells of a crash may be
//! asked by every role; rows of sealed bypasses are looked at where that role may read `tenantgate.bypass`.
//!
//! Owns: reading the ledger's files for it, the questions. Does not own: what follows from the answers (`audit`).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::build;
use super::clock::Clock;
use super::connect::{Connected, ServerTarget, connect};
use super::court::{Court, Row, Silence, number};
use super::ledger::{Ledger, Lines, closed_files};
use super::proxy::Proxy;
use crate::audit::{
    Conclusion, Crash, Evidence, Known, Ledgers, Reconciled, Search, Status, Testimony, Unresolved, WalPlace, Witness,
    Xid, judge, parse_timeline,
};
use crate::config::Config;
use crate::fault::SqlState;
use crate::upstream::login::Identity;

/// How often it is looked whether something is to be found out.
const INTERVAL: Duration = Duration::from_secs(1);

/// Where nothing could be found out it is asked for again ever more seldom, down to once in so many times.
const ROUNDS_MAX: u32 = 64;

/// How long all questions to one database may take.
const ASKING: Duration = Duration::from_secs(60);

/// What a server says of itself ([`Witness`]). (A checkpoint's time has whole seconds of a clock that may be late by a tick.)
const WITNESS: &str = "SELECT (pg_catalog.date_part('epoch', since) * 1000000)::pg_catalog.int8, checkpoint_lsn, \
    checkpoint_time < since - interval '2 seconds', \
    CASE WHEN pg_catalog.pg_is_in_recovery() THEN NULL \
    ELSE pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_flush_lsn()), 8) END, \
    (SELECT system_identifier FROM pg_catalog.pg_control_system()) \
    FROM pg_catalog.pg_control_checkpoint(), pg_catalog.pg_stat_get_bgwriter_stat_reset_time() since";

/// So often a ledger is read anew when it was rotated meanwhile: rotations are minutes apart.
const READINGS: u32 = 5;

/// The transactions of a ledger whose end is not known.
///
/// # Errors
/// A file cannot be read.
pub fn unresolved(path: &Path) -> io::Result<Vec<Unresolved>> {
    // A file that is rotated away meanwhile would be passed over, and a pre-commit record in it with it.
    for _ in 0..READINGS {
        let before = closed_files(path)?;
        let mut search = Search::default();
        each_line(path, |line| search.take(line))?;
        if closed_files(path)? == before {
            return Ok(search.end());
        }
    }
    Err(io::Error::other("the ledger's files change while they are read"))
}

/// The lines of a ledger, its closed files' first.
fn each_line(path: &Path, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut files = closed_files(path)?;
    files.push(path.to_path_buf());
    for file in files {
        let mut lines = match Lines::open(&file) {
            Ok(lines) => lines,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let named = |fault| io::Error::other(format!("{}: {}", file.display(), io::Error::from(fault)));
        while let Some(line) = lines.next_line().map_err(named)? {
            take(line.bytes);
        }
    }
    Ok(())
}

/// Where ledgers and the rows of sealed databases differ.
#[derive(Debug, Default)]
pub struct Differences {
    /// Sealed databases whose rows cannot be read, though the ledgers tell of bypasses there.
    pub unread: Vec<String>,
    /// Rows without a record: the database and the row's name.
    pub without_record: Vec<(String, Uuid)>,
    /// Records of committed transactions without a row.
    pub without_row: Vec<(String, Uuid)>,
}

impl Differences {
    /// Whether there is none, as far as it could be seen: what is `unread` could not.
    #[must_use]
    pub fn are_none(&self) -> bool {
        self.without_record.is_empty() && self.without_row.is_empty()
    }
}

/// Holds ledgers, the first of which is `path`, against the rows of sealed databases; what began before `since` is not missed.
/// If dropped: nothing is left.
///
/// # Errors
/// A ledger cannot be read.
pub async fn differences(
    config: &Config,
    path: &Path,
    files: &[PathBuf],
    since: Option<Timestamp>,
) -> io::Result<Differences> {
    let mut ledgers = Ledgers::since_time(since);
    for file in files {
        each_line(file, |line| ledgers.take(line))?;
    }
    let mut found = Differences::default();
    let mut own = Ledgers::since_time(since);
    each_line(path, |line| own.take(line))?;
    let Some(since) = ledgers.since().map(str::to_owned) else { return Ok(found) };
    for (database, entry) in config.databases.iter().filter(|(_, entry)| entry.seal.is_some()) {
        let mut rows = None;
        for key in build::keys_of(config, database, entry) {
            let Ok((target, identity)) = build::target(config, &key, Clock::start()) else { continue };
            rows = timeout(ASKING, rows_of(&target, identity, &since)).await.ok().flatten();
            if rows.is_some() {
                break;
            }
        }
        let Some(rows) = rows else {
            if ledgers.may_have_rows(database) {
                found.unread.push(database.to_string());
            }
            continue;
        };
        for id in rows {
            own.take_row(&id);
            if !ledgers.take_row(&id) {
                found.without_record.push((database.to_string(), id));
            }
        }
        found.without_row.extend(own.without_row(database).into_iter().map(|id| (database.to_string(), id)));
    }
    Ok(found)
}

/// The names of all rows of sealed bypasses since a time; `None` where they cannot be read.
async fn rows_of(target: &ServerTarget, identity: Identity, since: &str) -> Option<Vec<Uuid>> {
    let since: Timestamp = since.parse().ok()?;
    let Connected { mut stream, leftover: mut input, .. } = connect(target, identity).await.ok()?;
    let mut court = Court { stream: &mut stream, input: &mut input };
    if !court.has_rows().await.ok()? {
        return None;
    }
    let sql = format!("SELECT audit FROM tenantgate.bypass WHERE at >= '{since}'::pg_catalog.timestamptz");
    let mut ids = Vec::new();
    let take = |row: Row| {
        ids.extend(row.first().and_then(|id| id.as_deref()?.parse::<Uuid>().ok()));
        true
    };
    court.each(&sql, take).await.ok()?;
    Some(ids)
}

/// Finds out what can be found out now, and has it written; gives what is left.
///
/// If dropped: what was found out by then is written.
pub async fn reconcile(config: &Config, ledger: &Ledger, open: Vec<Unresolved>) -> Vec<Unresolved> {
    let mut of: BTreeMap<(String, String), Vec<Unresolved>> = BTreeMap::new();
    let mut left = Vec::new();
    for one in open {
        let found = match one.known {
            Known::NotAnnounced => (Conclusion::RolledBack, Evidence::NoPrecommit),
            Known::NothingWritten => (Conclusion::RolledBack, Evidence::NoXid),
            Known::Nothing => (Conclusion::Unknown, Evidence::Nothing),
            Known::Announced(..) => {
                of.entry((one.database.clone(), one.role.clone())).or_default().push(one);
                continue;
            }
        };
        if !write(ledger, &one, found).await {
            left.push(one);
        }
    }
    for ((database, role), open) in of {
        left.extend(ask_one(config, ledger, &database, &role, open).await);
    }
    left
}

/// Has one end written. Whether it is durable.
async fn write(ledger: &Ledger, one: &Unresolved, (conclusion, evidence): (Conclusion, Evidence)) -> bool {
    let xid = match one.known {
        Known::Announced(xid, _) => Some(xid),
        Known::NotAnnounced | Known::NothingWritten | Known::Nothing => None,
    };
    let record = Reconciled { id: one.id, conclusion, evidence, xid };
    tracing::info!(transaction = %one.id, result = conclusion.word(), evidence = evidence.word(), "an outcome was found out");
    matches!(ledger.record_act(Box::new(record)).await, Ok(Ok(())))
}

/// Asks one database; gives what is left.
async fn ask_one(
    config: &Config,
    ledger: &Ledger,
    database: &str,
    role: &str,
    open: Vec<Unresolved>,
) -> Vec<Unresolved> {
    let Some((target, identity)) = way(config, database, role) else {
        tracing::warn!(
            database,
            role,
            count = open.len(),
            "outcomes stay unknown: the configuration has no such database and role any more"
        );
        return open;
    };
    // Elsewhere the table is anybody's.
    let is_sealed = config.databases.get(database).is_some_and(|entry| entry.seal.is_some());
    let mut left = Vec::new();
    let mut waiting = open.into_iter();
    // Whom the time runs out over is asked about again.
    let mut current = None;
    let asking = async {
        let Connected { mut stream, leftover: mut input, .. } = connect(&target, identity).await.ok()?;
        let mut court = Court { stream: &mut stream, input: &mut input };
        let witness = court.witness().await.ok()?;
        let has_rows = is_sealed && court.has_rows().await.ok()?;
        for one in waiting.by_ref() {
            let Known::Announced(xid, standing) = one.known else { continue };
            current = Some(one.clone());
            if !witness.knows(&standing) {
                left.push(one);
                continue;
            }
            let crash = witness.crash_since(&standing);
            let Ok(testimony) = court.testimony(&one, xid, crash, has_rows).await else {
                left.push(one);
                return None;
            };
            let is_written = match judge(&testimony) {
                Some(found) => write(ledger, &one, found).await,
                None => false,
            };
            if is_written {
                current = None;
            } else {
                left.push(one);
            }
        }
        Some(())
    };
    if !matches!(timeout(ASKING, asking).await, Ok(Some(()))) {
        tracing::debug!(database, role, "the database cannot be asked now");
    }
    if let Some(one) = current
        && !left.contains(&one)
    {
        left.push(one);
    }
    left.extend(waiting);
    left
}

fn way(config: &Config, database: &str, role: &str) -> Option<(ServerTarget, Identity)> {
    let entry = config.databases.get(database)?;
    let is_role = |key: &build::PoolKey| config.roles.get(&key.role).is_some_and(|known| *known.user == *role);
    let key = build::keys_of(config, database, entry).find(is_role)?;
    build::target(config, &key, Clock::start()).ok()
}

impl Court<'_> {
    async fn witness(&mut self) -> Result<Witness, Silence> {
        let row = self.one(WITNESS).await?;
        Ok(Witness {
            era: number(&row, 0).ok_or(Silence::Lost)?,
            checkpoint: row.get(1).and_then(|place| WalPlace::parse(place.as_deref()?)),
            is_older: row.get(2).is_none_or(|value| value.as_deref() != Some("f")),
            timeline: row.get(3).and_then(|name| parse_timeline(name.as_deref()?)),
            system: number(&row, 4),
        })
    }

    /// Whether rows of sealed bypasses can be read.
    async fn has_rows(&mut self) -> Result<bool, Silence> {
        match self.one("SELECT pg_catalog.has_table_privilege('tenantgate.bypass', 'SELECT')").await {
            Ok(row) => Ok(row.first().is_some_and(|value| value.as_deref() == Some("t"))),
            Err(Silence::Refused(_)) => Ok(false),
            Err(lost) => Err(lost),
        }
    }

    async fn testimony(
        &mut self,
        one: &Unresolved,
        xid: Xid,
        crash: Crash,
        has_rows: bool,
    ) -> Result<Testimony, Silence> {
        let status = match self.one(&format!("SELECT pg_catalog.pg_xact_status('{xid}'::pg_catalog.xid8)")).await {
            Ok(row) => match row.first().and_then(Option::as_deref) {
                Some("in progress") => Status::InProgress,
                Some("committed") => Status::Committed,
                Some("aborted") => Status::Aborted,
                Some(_) | None => Status::Forgotten,
            },
            // "transaction ID … is in the future"
            Err(Silence::Refused(Some(SqlState(state)))) if state == *b"22023" => Status::NeverGiven,
            Err(silence) => return Err(silence),
        };
        let has_row = match has_rows && one.leaves_row {
            true => {
                let sql = format!("SELECT EXISTS (SELECT FROM tenantgate.bypass WHERE audit = '{}')", one.id);
                let is_there = self.one(&sql).await?.first().is_some_and(|value| value.as_deref() == Some("t"));
                (is_there || !may_be_forgotten(&one.id, Timestamp::now())).then_some(is_there)
            }
            false => None,
        };
        Ok(Testimony { status, has_row, crash })
    }
}

/// Whether the row of a transaction may have been there and is forgotten: `tenantgate.forget_bypasses` takes none of the last
/// day. An hour of that is for clocks that differ.
fn may_be_forgotten(id: &Uuid, now: Timestamp) -> bool {
    let began = id.get_timestamp().and_then(|at| i64::try_from(at.to_unix().0).ok());
    began.is_none_or(|began| now.as_second().saturating_sub(began) > 23 * 3_600)
}

/// When what could not be found out is asked for again: a server that is not there, or a role that the configuration has no
/// more, is not asked for (and told of in the log) every second for ever.
struct Rounds {
    /// Until the next time.
    left: u32,
    /// Between the last two.
    apart: u32,
}

impl Rounds {
    const fn new() -> Self {
        Self { left: 0, apart: 1 }
    }

    /// Whether this is the time.
    const fn is_due(&mut self) -> bool {
        match self.left.checked_sub(1) {
            None | Some(0) => true,
            Some(left) => {
                self.left = left;
                false
            }
        }
    }

    /// It was asked; whether anything was found out.
    fn note(&mut self, has_found: bool) {
        self.apart = if has_found { 1 } else { self.apart.saturating_mul(2).min(ROUNDS_MAX) };
        self.left = self.apart;
    }
}

/// Finds out outcomes as long as the proxy lives.
///
/// If dropped: outcomes stay unknown until the next start.
pub(super) async fn keep_reconciling(proxy: Weak<Proxy>) {
    let mut open: Vec<Unresolved> = Vec::new();
    let mut rounds = Rounds::new();
    loop {
        let Some(proxy) = proxy.upgrade() else { return };
        if let Some(ledger) = proxy.ledger() {
            // The record of the start divides what runs from what was left.
            ledger.settle().await;
            if ledger.is_writable() && ledger.take_unknown() {
                let path = ledger.path().to_path_buf();
                match tokio::task::spawn_blocking(move || unresolved(&path)).await {
                    Ok(Ok(found)) => (open, rounds) = (found, Rounds::new()),
                    Ok(Err(error)) => tracing::warn!(%error, "the ledger cannot be read for unknown outcomes"),
                    Err(_) => return,
                }
            }
            if !open.is_empty() && rounds.is_due() {
                let (generation, before) = (Arc::clone(&proxy.generation.load()), open.len());
                open = reconcile(&generation.config, &ledger, std::mem::take(&mut open)).await;
                rounds.note(open.len() < before);
            }
        }
        drop(proxy);
        sleep(INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_yesterday_may_be_forgotten() {
        let id = Uuid::from_u128(0x019a_b000_0000_7000_8000_0000_0000_0000);
        let began = i64::try_from(id.get_timestamp().unwrap().to_unix().0).unwrap();
        let after = |hours: i64| Timestamp::from_second(began + hours * 3_600).unwrap();
        assert!(!may_be_forgotten(&id, after(0)) && !may_be_forgotten(&id, after(22)));
        assert!(may_be_forgotten(&id, after(24)) && may_be_forgotten(&Uuid::from_u128(7), after(0)));
    }

    #[test]
    fn what_cannot_be_found_out_is_asked_for_ever_more_seldom() {
        let mut rounds = Rounds::new();
        let mut asked = Vec::new();
        for round in 0_u32..400 {
            if rounds.is_due() {
                asked.push(round);
                rounds.note(false);
            }
        }
        assert_eq!(asked, [0, 2, 6, 14, 30, 62, 126, 190, 254, 318, 382]);
        rounds.note(true);
        assert!(rounds.is_due());
    }
}
