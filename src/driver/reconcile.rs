//! Asks databases how transactions ended of which the ledger does not know it, and writes down what they say.
//!
//! At the start, and whenever an outcome is unknown; one that cannot be found out now is asked for again. The questions go
//! over connections of their own, as the role that the transaction had. `pg_xact_status` and what tells of a crash may be
//! asked by every role; rows of sealed bypasses are looked at where that role may read `tenantgate.bypass`.
//!
//! Owns: reading the ledger's files for it, the questions. Does not own: what follows from the answers (`audit`).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};

use super::build;
use super::clock::Clock;
use super::connect::{Connected, ServerTarget, connect};
use super::ledger::{Ledger, closed_files};
use super::proxy::Proxy;
use super::stream::Stream;
use crate::audit::{
    Conclusion, Crash, Evidence, Known, Reconciled, Search, Status, Testimony, Unresolved, WalPlace, Xid, judge,
};
use crate::config::Config;
use crate::fault::SqlState;
use crate::upstream::login::Identity;
use crate::wire::backend::Fields;
use crate::wire::frame::{HEAD_BYTES, Head};
use crate::wire::frontend::put_query;
use crate::wire::limits::INSPECTED_BYTES_MAX;
use crate::wire::reader::Reader;

/// A line of a ledger has less than 256 KiB; what is far longer is none, and is not taken into memory.
const LINE_BYTES_MAX: u64 = 4 << 20;

/// How often it is looked whether something is to be found out.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long all questions to one database may take.
const ASKING: Duration = Duration::from_secs(60);

/// Rows of an answer: each question has one.
const ROWS_MAX: usize = 16;

/// The transactions of a ledger whose end is not known.
///
/// # Errors
/// A file cannot be read.
pub fn unresolved(path: &Path) -> io::Result<Vec<Unresolved>> {
    let mut search = Search::default();
    let mut files = closed_files(path)?;
    files.push(path.to_path_buf());
    for file in files {
        let file = match File::open(file) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let mut reader = BufReader::new(file);
        let mut line = Vec::new();
        loop {
            line.clear();
            if io::Read::take(&mut reader, LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
                break;
            }
            search.take(&line);
        }
    }
    Ok(search.end())
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
            Known::Announced { .. } => {
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
        Known::Announced { xid, .. } => Some(xid),
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
    let mut left = Vec::new();
    let mut waiting = open.into_iter();
    let asking = async {
        let Connected { mut stream, leftover: mut input, .. } = connect(&target, identity).await.ok()?;
        let mut court = Court { stream: &mut stream, input: &mut input };
        let era = court.era().await.ok()?;
        let has_rows = court.has_rows().await.ok()?;
        for one in waiting.by_ref() {
            let Known::Announced { xid, wal, era: then } = one.known else { continue };
            let Ok(testimony) = court.testimony(&era, &one, (xid, wal, then), has_rows).await else {
                left.push(one);
                return None;
            };
            let is_written = match judge(&testimony) {
                Some(found) => write(ledger, &one, found).await,
                None => false,
            };
            if !is_written {
                left.push(one);
            }
        }
        Some(())
    };
    if !matches!(timeout(ASKING, asking).await, Ok(Some(()))) {
        tracing::debug!(database, role, "the database cannot be asked now");
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

/// A server that is asked.
struct Court<'s> {
    stream: &'s mut Stream,
    input: &'s mut BytesMut,
}

/// What tells whether a crash may have given ids anew.
struct Era {
    /// When its statistics began, in microseconds: a crash discards them.
    since: u64,
    /// Checkpoints since.
    checkpoints: i64,
    /// Where the last one is.
    checkpoint: Option<WalPlace>,
    /// Whether it was made before the statistics began.
    is_older: bool,
}

/// Why there is no answer.
enum Silence {
    /// The connection has failed, or said what is no answer.
    Lost,
    /// The question was refused.
    Refused(Option<SqlState>),
}

type Row = Vec<Option<String>>;

impl Court<'_> {
    async fn era(&mut self) -> Result<Era, Silence> {
        let version = self.one("SHOW server_version_num").await?;
        let version: u32 = number(&version, 0).ok_or(Silence::Lost)?;
        let (counts, view) = match version {
            170_000.. => ("num_timed + num_requested", "pg_stat_checkpointer"),
            _ => ("checkpoints_timed + checkpoints_req", "pg_stat_bgwriter"),
        };
        let sql = format!(
            "SELECT (pg_catalog.date_part('epoch', since) * 1000000)::pg_catalog.int8, {counts}, checkpoint_lsn, \
             checkpoint_time < pg_catalog.date_trunc('second', since) \
             FROM pg_catalog.{view}, pg_catalog.pg_control_checkpoint(), \
             pg_catalog.pg_stat_get_bgwriter_stat_reset_time() since"
        );
        let row = self.one(&sql).await?;
        Ok(Era {
            since: number(&row, 0).ok_or(Silence::Lost)?,
            checkpoints: number(&row, 1).ok_or(Silence::Lost)?,
            checkpoint: row.get(2).and_then(|place| WalPlace::parse(place.as_deref()?)),
            is_older: row.get(3).is_some_and(|value| value.as_deref() == Some("t")),
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
        era: &Era,
        one: &Unresolved,
        (xid, wal, then): (Xid, Option<WalPlace>, Option<u64>),
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
        let has_row = match has_rows {
            true => {
                let sql = format!("SELECT EXISTS (SELECT FROM tenantgate.bypass WHERE audit = '{}')", one.id);
                Some(self.one(&sql).await?.first().is_some_and(|value| value.as_deref() == Some("t")))
            }
            false => None,
        };
        Ok(Testimony { status, has_row, crash: era.crash_since(then, wal) })
    }

    async fn one(&mut self, sql: &str) -> Result<Row, Silence> {
        let mut rows = self.rows(sql).await?;
        rows.pop().filter(|_| rows.is_empty()).ok_or(Silence::Lost)
    }

    /// The rows of an answer, as texts.
    async fn rows(&mut self, sql: &str) -> Result<Vec<Row>, Silence> {
        let mut query = BytesMut::new();
        put_query(&mut query, sql.as_bytes());
        self.stream.write_all(&query).await.map_err(|_| Silence::Lost)?;
        self.stream.flush().await.map_err(|_| Silence::Lost)?;
        let (mut rows, mut refused) = (Vec::new(), None);
        loop {
            let head = Head::read(self.input).map_err(|_| Silence::Lost)?;
            if head.is_some_and(|head| head.body_bytes > INSPECTED_BYTES_MAX) || rows.len() > ROWS_MAX {
                return Err(Silence::Lost);
            }
            let Some((head, body)) =
                head.and_then(|head| Some((head, self.input.get(HEAD_BYTES..head.frame_bytes())?)))
            else {
                if self.stream.read_buf(self.input).await.map_err(|_| Silence::Lost)? == 0 {
                    return Err(Silence::Lost);
                }
                continue;
            };
            match head.tag {
                b'D' => rows.push(row(body).ok_or(Silence::Lost)?),
                b'E' => refused = Some(Silence::Refused(Fields::new(body).sqlstate())),
                _ => {}
            }
            self.input.advance(head.frame_bytes());
            if head.tag == b'Z' {
                return refused.map_or(Ok(rows), Err);
            }
        }
    }
}

impl Era {
    /// Statistics that began later than those of then tell of a crash, unless somebody has reset them. Behind a crash the
    /// first checkpoint is where the write-ahead log had ended: what was to be committed behind that place is lost, and
    /// what was to be in front of it is known by its own id. Later checkpoints hide that place.
    fn crash_since(&self, then: Option<u64>, wal: Option<WalPlace>) -> Crash {
        if then == Some(self.since) {
            return Crash::Harmless;
        }
        match (wal, self.checkpoint) {
            // Nothing was recovered: they were reset.
            (Some(_), Some(_)) if self.is_older => Crash::Harmless,
            (Some(wal), Some(checkpoint)) if checkpoint < wal => Crash::Lost,
            (Some(_), Some(_)) if self.checkpoints <= 1 => Crash::Harmless,
            _ => Crash::Possible,
        }
    }
}

/// DataRow.
fn row(body: &[u8]) -> Option<Row> {
    let mut reader = Reader::new(body);
    let columns = reader.i16("columns").ok()?;
    let mut row = Row::new();
    for _ in 0..columns {
        row.push(match usize::try_from(reader.i32("length").ok()?) {
            Ok(bytes) => Some(String::from_utf8_lossy(reader.bytes(bytes, "value").ok()?).into_owned()),
            Err(_) => None,
        });
    }
    Some(row)
}

fn number<N: std::str::FromStr>(row: &Row, column: usize) -> Option<N> {
    row.get(column)?.as_deref()?.parse().ok()
}

/// Finds out outcomes as long as the proxy lives.
///
/// If dropped: outcomes stay unknown until the next start.
pub(super) async fn keep_reconciling(proxy: Weak<Proxy>) {
    let mut open: Vec<Unresolved> = Vec::new();
    loop {
        let Some(proxy) = proxy.upgrade() else { return };
        if let Some(ledger) = proxy.ledger() {
            // The record of the start divides what runs from what was left.
            ledger.settle().await;
            if ledger.is_writable() && ledger.take_unknown() {
                let path = ledger.path().to_path_buf();
                match tokio::task::spawn_blocking(move || unresolved(&path)).await {
                    Ok(Ok(found)) => open = found,
                    Ok(Err(error)) => tracing::warn!(%error, "the ledger cannot be read for unknown outcomes"),
                    Err(_) => return,
                }
            }
            if !open.is_empty() {
                let generation = Arc::clone(&proxy.generation.load());
                open = reconcile(&generation.config, &ledger, std::mem::take(&mut open)).await;
            }
        }
        drop(proxy);
        sleep(INTERVAL).await;
    }
}
