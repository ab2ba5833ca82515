//! Looking at databases: the catalogue's rows and the probes, fetched from a server by simple queries.
//!
//! The looker logs in as any server of a pool does, with the group's hosts, TLS and channel binding. Everything happens
//! in transactions that are read-only or rolled back.
//!
//! Owns: those connections, time limits, and one thread with a stack deep enough for parsing policies. Does not own: what
//! is asked and what it means (`check`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use jiff::civil::Date;
use secrecy::SecretString;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::build::{self, PoolKey};
use super::clock::Clock;
use super::connect::{ConnectFault, connect};
use super::proxy::StartFault;
use super::stream::{FAREWELL_TIMEOUT, Stream};
use crate::auth::Access;
use crate::check::facts::Catalogue;
use crate::check::queries::{self, Section};
use crate::check::{Asked, Exceptions, OnGap, Outcome, Probe, Report, Rule, Severity, judge, judge_outcomes, steps};
use crate::config::{Config, DatabaseEntry, LoginEntry, ServerAddress};
use crate::guard::{Gaps, Policy, Preset};
use crate::tenant::{TenantId, TenantKind};
use crate::wire::backend::Fields;
use crate::wire::frame::{HeadFault, cut};
use crate::wire::frontend::{put_query, put_terminate};
use crate::wire::reader::Reader;

/// Policies are parsed as statements are: see `driver::parser`.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// For one answer; the server's own limit (`queries::BEGIN`) is shorter.
const ANSWER_TIME: Duration = Duration::from_secs(90);

/// All rows of one answer: 100,000 rows of a kilobyte and some.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// One probe may read a whole table where no index leads with the tenant.
const PROBE_TIMEOUT: &str = "SET LOCAL statement_timeout = '10s'";

/// Who looks, where it is nobody of the configuration.
#[derive(Clone, Debug)]
pub struct Looker {
    /// The role's name on the server.
    pub user: String,
    /// Its password.
    pub password: Option<SecretString>,
    /// Where, if not at the hosts of the server group.
    pub address: Option<ServerAddress>,
}

/// What is to be looked at.
#[derive(Clone, Debug)]
pub struct Order {
    /// The configuration.
    pub config: Arc<Config>,
    /// One database of it, or all.
    pub database: Option<Arc<str>>,
    /// Who looks, if not the configured inspector or the database's own role.
    pub looker: Option<Looker>,
    /// The roles that are examined, by their names on the server; none: those of the logins.
    pub roles: Vec<String>,
    /// Justified exceptions.
    pub exceptions: Exceptions,
    /// Whether tables are probed, too.
    pub probes: bool,
    /// The day.
    pub today: Date,
}

/// One database on a server, looked at.
#[derive(Clone, Debug)]
pub struct Examined {
    /// The databases of the configuration that lead to it.
    pub databases: Vec<Arc<str>>,
    /// What was found.
    pub report: Report,
}

/// Why nothing was found out.
#[derive(Debug, thiserror::Error)]
pub enum InspectFault {
    /// No server.
    #[error(transparent)]
    Connect(#[from] ConnectFault),
    /// The configuration leads nowhere.
    #[error(transparent)]
    Configuration(#[from] StartFault),
    /// The connection broke.
    #[error("the connection failed: {0}")]
    Io(#[from] std::io::Error),
    /// The server closed it.
    #[error("the server closed the connection")]
    Closed,
    /// It took too long.
    #[error("no answer within {ANSWER_TIME:?}")]
    Timeout,
    /// What came is no answer.
    #[error("the server's answer is not understood")]
    Protocol,
    /// What came is too much.
    #[error("an answer has more than {ANSWER_BYTES_MAX} bytes")]
    TooMuch,
    /// The server refused what nothing works without.
    #[error("{0}: {1}")]
    Refused(String, String),
    /// No such database.
    #[error("no [databases.{0}]")]
    NoDatabase(Arc<str>),
    /// The thread that judges could not be had, or failed.
    #[error("the check itself failed: {0}")]
    Judge(String),
}

impl From<HeadFault> for InspectFault {
    fn from(_: HeadFault) -> Self {
        InspectFault::Protocol
    }
}

// -- one connection

/// A server that is asked.
struct Inspector {
    stream: Stream,
    input: BytesMut,
    version: u32,
}

/// What came back: the first column of every row, how many rows a statement wrote, and the error, if there was one.
#[derive(Debug, Default)]
struct Answer {
    rows: Vec<String>,
    written: u64,
    error: Option<(String, String)>,
}

impl Inspector {
    /// If dropped: the server sees a closed connection.
    async fn connect(config: &Config, key: &PoolKey, looker: Option<&Looker>) -> Result<Self, InspectFault> {
        let (mut target, mut identity) = build::target(config, key, Clock::start())?;
        if let Some(looker) = looker {
            identity.user.clone_from(&looker.user);
            identity.password.clone_from(&looker.password);
            if let Some(address) = &looker.address {
                target = target.at(address.clone());
            }
        }
        let connected = connect(&target, identity).await?;
        let version = connected.logged_in.version_num();
        Ok(Self { stream: connected.stream, input: connected.leftover, version })
    }

    /// If dropped: the connection is of no further use.
    async fn ask(&mut self, sql: &str) -> Result<Answer, InspectFault> {
        timeout(ANSWER_TIME, self.ask_patiently(sql)).await.unwrap_or(Err(InspectFault::Timeout))
    }

    /// If dropped: as `ask`.
    async fn ask_patiently(&mut self, sql: &str) -> Result<Answer, InspectFault> {
        let mut out = BytesMut::new();
        put_query(&mut out, sql.as_bytes());
        self.stream.write_all(&out).await?;
        self.stream.flush().await?;
        let (mut answer, mut bytes) = (Answer::default(), 0_usize);
        loop {
            while let Some((head, body)) = cut(&self.input)? {
                let is_end = head.tag == b'Z';
                answer.take(head.tag, body)?;
                bytes = bytes.saturating_add(head.frame_bytes());
                let taken = self.input.split_to(head.frame_bytes());
                drop(taken);
                if is_end {
                    return Ok(answer);
                }
            }
            if bytes.saturating_add(self.input.len()) > ANSWER_BYTES_MAX {
                return Err(InspectFault::TooMuch);
            }
            self.input.reserve(64 * 1024);
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(InspectFault::Closed);
            }
        }
    }

    /// Asks for something without which nothing works. If dropped: as `ask`.
    async fn must(&mut self, sql: &str) -> Result<Answer, InspectFault> {
        let answer = self.ask(sql).await?;
        match answer.error {
            Some((state, message)) => Err(InspectFault::Refused(state, message)),
            None => Ok(answer),
        }
    }

    /// If dropped: the server sees a closed connection.
    async fn leave(mut self) {
        let mut out = BytesMut::new();
        put_terminate(&mut out);
        if let Err(error) = self.stream.say_farewell(&out, FAREWELL_TIMEOUT).await {
            tracing::debug!(%error, "the server was gone first");
        }
    }
}

impl Answer {
    /// One message. What a simple query does not answer with is not understood; notices and the like are nobody's.
    fn take(&mut self, tag: u8, body: &[u8]) -> Result<(), InspectFault> {
        match tag {
            b'D' => self.rows.push(first_column(body)?),
            b'C' => {
                let tag = String::from_utf8_lossy(body);
                let count = tag.trim_end_matches('\0').rsplit(' ').next().and_then(|word| word.parse().ok());
                self.written = count.unwrap_or(0);
            }
            b'E' => {
                let fields = Fields::new(body);
                let text = |kind| String::from_utf8_lossy(fields.find(kind).unwrap_or_default()).into_owned();
                self.error = Some((text(b'C'), text(b'M')));
            }
            b'T' | b'N' | b'S' | b'A' | b'I' | b'Z' => {}
            _ => return Err(InspectFault::Protocol),
        }
        Ok(())
    }
}

/// NULL is the empty text.
fn first_column(body: &[u8]) -> Result<String, InspectFault> {
    let mut reader = Reader::new(body);
    let malformed = |_| InspectFault::Protocol;
    if reader.i16("columns").map_err(malformed)? < 1 {
        return Err(InspectFault::Protocol);
    }
    let length = reader.i32("length").map_err(malformed)?;
    let Ok(length) = usize::try_from(length) else { return Ok(String::new()) };
    let bytes = reader.bytes(length, "value").map_err(malformed)?;
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

// -- one database

/// A database on a server, with the ways of the configuration that lead there.
#[derive(Debug)]
struct Place {
    databases: Vec<Arc<str>>,
    /// Who looks.
    key: PoolKey,
    /// Roles of tenants' logins: name on the server, and key.
    roles: BTreeMap<String, Arc<str>>,
}

fn places(order: &Order) -> Result<Vec<Place>, InspectFault> {
    let config = &order.config;
    if let Some(name) = &order.database
        && !config.databases.contains_key(name)
    {
        return Err(InspectFault::NoDatabase(Arc::clone(name)));
    }
    let wanted = order.database.as_ref().and_then(|name| config.databases.get(name));
    let is_wanted = |entry: &DatabaseEntry| wanted.is_none_or(|it| it.server == entry.server && it.name == entry.name);
    let mut places: BTreeMap<(Arc<str>, Arc<str>), Place> = BTreeMap::new();
    for (database, entry) in config.databases.iter().filter(|(_, entry)| is_wanted(entry)) {
        let place = places.entry((Arc::clone(&entry.server), Arc::clone(&entry.name))).or_insert_with(|| {
            let role = config.check.inspector.as_ref().unwrap_or(&entry.role);
            Place { databases: Vec::new(), key: PoolKey::of(entry, role), roles: BTreeMap::new() }
        });
        place.databases.push(Arc::clone(database));
        for key in tenant_keys(config, database, entry) {
            if let Some(role) = config.roles.get(&key.role) {
                place.roles.insert(role.user.to_string(), key.role);
            }
        }
    }
    Ok(places.into_values().collect())
}

/// The pools of logins that have a tenant and are not recorded; without any, the database's own.
fn tenant_keys(config: &Config, database: &str, entry: &DatabaseEntry) -> Vec<PoolKey> {
    let is_tenants = |login: &&LoginEntry| {
        let is_data = matches!(login.access(), Access::Tenant(_));
        is_data && matches!(login.preset, Preset::Tenant | Preset::Application) && login.databases.has(database)
    };
    let keys: Vec<_> = config.logins.values().filter(is_tenants).map(|login| build::pool_key(entry, login)).collect();
    if keys.is_empty() { vec![PoolKey::of(entry, &entry.role)] } else { keys }
}

fn asked(order: &Order, place: &Place) -> Asked {
    let names = |template: &crate::config::ScopeTemplate| template.names().map(str::to_owned).collect::<BTreeSet<_>>();
    let roles = if order.roles.is_empty() { place.roles.keys().cloned().collect() } else { order.roles.clone() };
    Asked {
        roles,
        tenant_columns: order.config.check.tenant_columns.clone(),
        scope_settings: names(&order.config.scope.template),
        tenant_setting: order.config.scope.template.tenant_settings().next().unwrap_or_default().to_owned(),
        bypass_settings: names(&order.config.bypass.template),
        policies: tenants_policies(&order.config),
        today: order.today,
    }
}

/// Of every login that is no bypass: what the other side of a policy's OR asks for, they may be able to set.
fn tenants_policies(config: &Config) -> Vec<Policy> {
    let logins = config.logins.values().filter(|login| login.preset != Preset::Bypass);
    logins.map(|login| build::policy_of_login(config, login, &Arc::default())).collect()
}

/// If dropped: the server sees a closed connection.
async fn read_catalogue(order: &Order, place: &Place, roles: &[String]) -> Result<Catalogue, InspectFault> {
    let mut inspector = Inspector::connect(&order.config, &place.key, order.looker.as_ref()).await?;
    for statement in queries::BEGIN {
        inspector.must(statement).await?;
    }
    let mut catalogue = Catalogue::default();
    for section in Section::ALL {
        inspector.must("SAVEPOINT section").await?;
        let answer = inspector.ask(&queries::query(*section, inspector.version, roles)).await?;
        match answer.error {
            None => catalogue.take(*section, &answer.rows),
            Some((state, message)) => {
                catalogue.unread.push((*section, format!("{state}: {message}")));
                inspector.must("ROLLBACK TO section").await?;
            }
        }
    }
    inspector.must("ROLLBACK").await?;
    inspector.leave().await;
    Ok(catalogue)
}

/// If dropped: the server sees a closed connection, and rolls back.
///
/// First without a tenant, as on a fresh connection; then as one tenant; then without again, where the setting is the
/// empty string instead of NULL.
async fn probe(order: &Order, place: &Place, report: &mut Report) -> Result<(), InspectFault> {
    let config = &order.config;
    let tenants = &config.check.probe_tenants;
    let (unscoped, scoped) = steps(&report.covered, [&tenants[0], &tenants[1]]);
    // There a tenant is a ticket, which only the proxy shows: `tenantgate attack` goes through it.
    let is_sealed = place.databases.iter().any(|name| config.databases.get(name).is_some_and(|it| it.seal.is_some()));
    let mut outcomes = Vec::new();
    for role in place.roles.values() {
        let key = PoolKey { role: Arc::clone(role), ..place.key.clone() };
        let mut inspector = Inspector::connect(config, &key, None).await?;
        let own = scope_statement(config, &tenants[0])?;
        let steps = [(&unscoped, None), (&scoped, Some(&own)), (&unscoped, None)];
        for (probes, scope) in steps.into_iter().filter(|(_, scope)| !(is_sealed && scope.is_some())) {
            inspector.must("BEGIN").await?;
            inspector.must(PROBE_TIMEOUT).await?;
            if let Some(statement) = scope {
                inspector.must(statement).await?;
            }
            for probe in probes {
                outcomes.push((probe.clone(), try_probe(&mut inspector, probe).await?));
            }
            inspector.must("ROLLBACK").await?;
        }
        inspector.leave().await;
    }
    judge_outcomes(&outcomes, &mut report.findings);
    report.sort();
    Ok(())
}

/// If dropped: the connection is of no further use.
async fn try_probe(inspector: &mut Inspector, probe: &Probe) -> Result<Outcome, InspectFault> {
    inspector.must("SAVEPOINT probe").await?;
    let answer = inspector.ask(&probe.sql).await?;
    inspector.must("ROLLBACK TO probe").await?;
    Ok(match answer.error {
        Some((state, message)) => Outcome::Error(state, message),
        None => Outcome::Rows(answer.rows.first().and_then(|row| row.parse().ok()).unwrap_or(answer.written)),
    })
}

/// What the proxy puts in front of a tenant's transaction.
fn scope_statement(config: &Config, tenant: &str) -> Result<String, InspectFault> {
    let kind: TenantKind = config.scope.tenant_kind;
    let tenant = TenantId::parse(kind, tenant).map_err(|fault| InspectFault::Judge(fault.to_string()))?;
    let calls: Vec<String> = config
        .scope
        .template
        .values(&tenant)
        .map(|(name, value)| {
            let (name, value) = (crate::check::facts::literal(name), crate::check::facts::literal(&value));
            format!("pg_catalog.set_config({name}, {value}, true)")
        })
        .collect();
    Ok(format!("SELECT {}", calls.join(", ")))
}

/// If dropped: connections are closed.
async fn examine(order: &Order) -> Result<Vec<Examined>, InspectFault> {
    let mut examined = Vec::new();
    for place in places(order)? {
        let asked = asked(order, &place);
        let catalogue = read_catalogue(order, &place, &asked.roles).await?;
        // On the same deep stack: nobody else waits for this thread.
        let mut report = judge(&catalogue, &asked);
        if order.probes {
            probe(order, &place, &mut report).await?;
        }
        order.exceptions.apply(&mut report, order.today);
        examined.push(Examined { databases: place.databases, report });
    }
    Ok(examined)
}

// -- the thread

type Reply = Result<Vec<Examined>, InspectFault>;
type Job = (Order, std::sync::mpsc::SyncSender<Reply>);

/// A handle to the one thread that looks; it ends when the last handle is dropped.
///
/// One thread for good, since each that ever parsed holds a thread-specific key of the process (`driver::parser`).
#[derive(Clone, Debug)]
pub struct Examiner {
    jobs: std::sync::mpsc::Sender<Job>,
}

impl Examiner {
    /// Starts the thread.
    ///
    /// # Errors
    /// The operating system's.
    pub fn start() -> std::io::Result<Self> {
        let (jobs, queue) = std::sync::mpsc::channel::<Job>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let work = move || {
            while let Ok((order, reply)) = queue.recv() {
                if reply.send(runtime.block_on(examine(&order))).is_err() {
                    tracing::debug!("nobody waits for a check any more");
                }
            }
        };
        std::thread::Builder::new().name("check".into()).stack_size(STACK_BYTES).spawn(work)?;
        Ok(Self { jobs })
    }

    /// Looks; blocks the calling thread until it is done.
    ///
    /// # Errors
    /// Why nothing was found out.
    pub fn examine(&self, order: Order) -> Reply {
        let (reply, answer) = std::sync::mpsc::sync_channel(1);
        let gone = |_| InspectFault::Judge("its thread is gone".to_owned());
        self.jobs.send((order, reply)).map_err(|_| InspectFault::Judge("its thread is gone".to_owned()))?;
        answer.recv().map_err(gone)?
    }
}

// -- what comes of it at start-up

/// Puts what was found into a configuration, as `[check]` says: what statements have to keep off, and whether it may be
/// used at all. Gives what somebody should know.
///
/// # Errors
/// Why it may not, where gaps are refused.
pub fn apply(config: &mut Config, examined: &[Examined]) -> Result<Vec<String>, Vec<String>> {
    let check = config.check.clone();
    let none = BTreeSet::new();
    let mut lines = Vec::new();
    let mut has_gaps = false;
    for Examined { databases, report } in examined {
        let tables = if check.refuses_uncovered { &report.uncovered } else { &none };
        let functions = if check.denies_executors { &report.executors } else { &none };
        let gaps = Arc::new(Gaps::new(tables, functions));
        config.gaps.extend(databases.iter().map(|database| (Arc::clone(database), Arc::clone(&gaps))));
        let critical: Vec<_> = report.of_severity(Severity::Critical).collect();
        has_gaps |= !report.uncovered.is_empty() || !critical.is_empty();
        lines.push(format!("database {:?}: {}", report.database, report.coverage));
        lines.extend(critical.iter().take(LINES_MAX).map(|finding| {
            let row: Rule = finding.rule;
            format!("{} {}: {}", row.row().code, finding.object, finding.message)
        }));
        if critical.len() > LINES_MAX {
            lines.push(format!("… and {} more: see tenantgate check", critical.len() - LINES_MAX));
        }
    }
    match (has_gaps, check.on_gap) {
        (true, OnGap::Refuse) => Err(lines),
        (true, OnGap::Warn) => Ok(lines),
        (true | false, OnGap::Off) | (false, OnGap::Warn | OnGap::Refuse) => Ok(Vec::new()),
    }
}

/// Findings that are logged at start-up.
const LINES_MAX: usize = 20;
