//! What an operator sees and does: the console's [`Operations`] on a running proxy.
//!
//! Owns: holds on databases, orders to sessions, freezes, the console's tables. Does not own: who may do it
//! (`admin`), the reload (`reload`), the end (`shutdown`).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::timeout;
use uuid::Uuid;

use super::build::{self, PoolKey};
use super::clock::time_of_day;
use super::generation::Generation;
use super::ledger::Ledger;
use super::pool::ServerPool;
use super::proxy::Proxy;
use super::registry::Order;
use super::signal::Stage;
use crate::admin::{
    Actor, BypassRow, ClientRow, ClientState, Command, ConfigRow, DatabaseRow, EmergencyRow, FrozenRow, Operations,
    PoolRow, ServerRow, ShutdownMode, TenantRow, UserRow,
};
use crate::audit::{TenantAct, TenantRecord};
use crate::config::reload::is_changeable;
use crate::config::{DatabaseEntry, LoginEntry, ServerAddress, ServerHost};
use crate::fault::{Code, Fault, Severity};
use crate::pool::{Hold, PoolCounts};
use crate::tenant::{FreezeReason, Frozen, FrozenTenants, TenantId};
use crate::time::Moment;

/// Which databases are on hold, by the name clients use. A reload that opens a pool finds it here. Its lock is held
/// while pools are put on hold or resumed, and while a reload opens and closes pools: neither sees half of the other.
#[derive(Debug, Default)]
pub struct Holds {
    databases: BTreeMap<Arc<str>, Hold>,
}

/// What a proxy is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It serves.
    Active,
    /// It serves nobody: every pool is on hold.
    Paused,
    /// It ends.
    Draining,
}

impl Activity {
    /// As the console shows it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Activity::Active => "active",
            Activity::Paused => "paused",
            Activity::Draining => "draining",
        }
    }
}

/// Clients of one kind, counted.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    active: usize,
    waiting: usize,
    idle: usize,
    cancels: usize,
    pinned: usize,
    waiting_since: Option<Moment>,
}

impl Count {
    fn add(&mut self, state: ClientState, waiting_since: Option<Moment>, cancels: usize) {
        match state {
            ClientState::Active => self.active += 1,
            ClientState::Waiting => self.waiting += 1,
            ClientState::Idle => self.idle += 1,
        }
        self.cancels += cancels;
        self.waiting_since = match (self.waiting_since, waiting_since) {
            (Some(one), Some(another)) => Some(one.min(another)),
            (one, another) => one.or(another),
        };
    }

    const fn clients(&self) -> usize {
        self.active + self.waiting + self.idle
    }
}

impl Operations for Proxy {
    fn clients(&self) -> Vec<ClientRow> {
        self.clients.rows()
    }

    fn servers(&self) -> Vec<ServerRow> {
        self.servers.rows()
    }

    fn pools(&self) -> Vec<PoolRow> {
        let generation = self.generation.load_full();
        let mut counts: HashMap<(Arc<str>, Arc<str>), Count> = HashMap::new();
        self.clients.for_each(|slot| {
            let facts = slot.facts();
            let count = counts.entry((Arc::clone(&facts.database), Arc::clone(&facts.login))).or_default();
            count.add(slot.state(), slot.waiting_since(), slot.cancel.in_flight());
            count.pinned += usize::from(slot.pinned().is_some());
        });
        let mut rows = Vec::new();
        for (database, entry) in &generation.config.databases {
            for (login, settings) in &generation.config.logins {
                if !settings.databases.has(database) {
                    continue;
                }
                let pool = self.pools.lock().get(&build::pool_key(entry, settings)).cloned();
                let count = counts.remove(&(Arc::clone(database), Arc::clone(login))).unwrap_or_default();
                rows.push(PoolRow {
                    pool_mode: settings.pool_mode(),
                    ..self.pool_row(database, login, pool.as_deref(), count)
                });
            }
        }
        rows
    }

    fn databases(&self) -> Vec<DatabaseRow> {
        let generation = self.generation.load_full();
        let mut clients: HashMap<Arc<str>, usize> = HashMap::new();
        self.clients.for_each(|slot| *clients.entry(Arc::clone(&slot.facts().database)).or_default() += 1);
        let databases = generation.config.databases.iter();
        let row = |(name, entry)| {
            let count = clients.get::<Arc<str>>(name).copied().unwrap_or(0);
            self.database_row(&generation, name, entry, count)
        };
        databases.map(row).collect()
    }

    fn users(&self) -> Vec<UserRow> {
        let generation = self.generation.load_full();
        let mut clients: HashMap<Arc<str>, usize> = HashMap::new();
        self.clients.for_each(|slot| *clients.entry(Arc::clone(&slot.facts().login)).or_default() += 1);
        let row = |name: &Arc<str>| UserRow {
            name: Arc::clone(name),
            clients: clients.get(name).copied().unwrap_or(0),
            clients_max: generation.config.limits.of_login(name).connections_max.unwrap_or(0),
            leases_max: generation.config.limits.of_login(name).leases_max.unwrap_or(0),
            preset: generation.config.logins.get(name).map_or("", LoginEntry::preset_name),
            pool_mode: generation.config.logins.get(name).map_or("", LoginEntry::pool_mode),
        };
        generation.config.logins.keys().map(row).collect()
    }

    fn tenants(&self) -> Vec<TenantRow> {
        let mut counts: BTreeMap<TenantId, Count> = BTreeMap::new();
        self.clients.for_each(|slot| {
            if let Some(tenant) = slot.tenant() {
                let count = counts.entry(tenant).or_default();
                count.add(slot.state(), None, 0);
                count.pinned += usize::from(slot.pinned().is_some());
            }
        });
        let frozen = self.freezer.now();
        let row = |(tenant, count): (TenantId, Count)| TenantRow {
            is_frozen: frozen.has(&tenant),
            clients: count.clients(),
            active: count.active,
            waiting: count.waiting,
            pinned: count.pinned,
            tenant,
        };
        counts.into_iter().map(row).collect()
    }

    fn frozen(&self) -> Vec<FrozenRow> {
        let row = |(tenant, frozen): (&TenantId, &Frozen)| FrozenRow {
            tenant: tenant.clone(),
            reason: Arc::clone(&frozen.reason),
            by: Arc::clone(&frozen.by),
            at: Arc::clone(&frozen.at),
        };
        self.freezer.now().iter().map(row).collect()
    }

    fn bypasses(&self) -> Vec<BypassRow> {
        let open = self.emergency_rows().into_iter().map(|row| BypassRow {
            id: row.id,
            at: row.at,
            login: row.login,
            address: row.address,
            preset: "emergency".into(),
            reason: row.reason,
            outcome: "open".into(),
            ..BypassRow::default()
        });
        open.chain(self.ledger().map(|ledger| ledger.transactions()).unwrap_or_default()).collect()
    }

    fn emergencies(&self) -> Vec<EmergencyRow> {
        self.emergency_rows()
    }

    fn bypass_freeze(&self) -> Option<[Arc<str>; 3]> {
        let freeze = self.bypasses.freeze()?;
        Some([freeze.reason.as_str().into(), freeze.by.as_str().into(), freeze.at.as_str().into()])
    }

    fn config(&self) -> Vec<ConfigRow> {
        let generation = self.generation.load_full();
        let keys = generation.config.shown.iter();
        let row = |key: &crate::config::ShownKey| ConfigRow {
            key: key.path.as_str().into(),
            value: key.value.as_str().into(),
            default: key.default.as_str().into(),
            is_changeable: is_changeable(key.pattern),
        };
        keys.map(row).collect()
    }

    fn state(&self) -> &'static str {
        self.activity().word()
    }

    /// If dropped: the command may or may not have been carried out; a pause that is waited for goes on.
    async fn perform(&self, command: Command, actor: Actor) -> Result<(), Fault> {
        tracing::info!(login = %actor.login, address = %actor.address, ?command, "console command");
        match command {
            Command::Pause(database) => self.pause(database.as_deref()).await,
            Command::Resume(database) => self.resume(database.as_deref()),
            Command::Reconnect(database) => {
                let generation = self.generation.load_full();
                self.pools_of(&generation, database.as_deref())?.iter().for_each(ServerPool::reconnect);
                Ok(())
            }
            Command::Kill(database) => self.kill(database.as_deref()),
            Command::KillClient(process_id) if self.clients.order_one(process_id, Order::Kill) => Ok(()),
            Command::KillClient(process_id) => {
                Err(Fault::of(Code::CommandRefused).with_detail(format!("There is no client {process_id}.")))
            }
            Command::Reload => self.reload(&actor).await,
            Command::Shutdown(mode) => self.order_end(mode),
            Command::Freeze { tenant, reason } => self.freeze(&tenant, &reason, &actor).await,
            Command::FreezeBypass { reason } => self.freeze_bypass(reason.text(), &actor).await,
            Command::ThawBypass { reason } => self.thaw_bypass(reason.text(), &actor).await,
            Command::OpenEmergency { login, duration, reason } => {
                self.open_emergency(&login, duration, reason.text(), &actor).await
            }
            Command::CloseEmergency { name } => self.close_emergency(&name, &actor),
            Command::Thaw { tenant, reason } => self.thaw(&tenant, &reason, &actor).await,
        }
    }
}

impl Proxy {
    /// What the proxy as a whole is doing.
    #[must_use]
    pub fn activity(&self) -> Activity {
        let is_ending = self.alive.lock().is_none();
        let pools = self.all_pools();
        match self.signal().read().0 {
            Stage::Draining | Stage::Stopping => Activity::Draining,
            Stage::Serving if is_ending => Activity::Draining,
            Stage::Serving if pools.iter().all(|pool| pool.hold() != Hold::None) && !pools.is_empty() => {
                Activity::Paused
            }
            Stage::Serving => Activity::Active,
        }
    }

    async fn pause(&self, database: Option<&str>) -> Result<(), Fault> {
        let pools = self.hold(database, Hold::Paused)?;
        for pool in &pools {
            pool.at_rest().await;
        }
        // A RESUME meanwhile: whoever relies on the pause must not be told that it holds.
        if pools.iter().any(|pool| pool.hold() == Hold::None && !pool.is_closed()) {
            return Err(Fault::of(Code::CommandRefused).with_detail("The pause was ended before it was complete."));
        }
        Ok(())
    }

    fn kill(&self, database: Option<&str>) -> Result<(), Fault> {
        let mut holds = self.holds.lock();
        let generation = self.generation.load_full();
        self.hold_under(&mut holds, &generation, database, Hold::Killed)?;
        // Everybody whose servers come from these pools, whatever the name of the database.
        let pools = self.keys_of(&generation, database)?;
        let is_meant =
            |facts: &super::registry::ClientFacts| generation.pool_key(facts).is_some_and(|key| pools.contains(&key));
        let count = self.clients.order_all(Order::Kill, |slot| is_meant(slot.facts()));
        tracing::warn!(count, "clients killed");
        Ok(())
    }

    /// Databases that share a pool are resumed with it: none of them is on hold for the next reload. Pools of theirs
    /// that the command does not mean stay as they are.
    pub(super) fn resume(&self, database: Option<&str>) -> Result<(), Fault> {
        let mut holds = self.holds.lock();
        let generation = self.generation.load_full();
        let pools = self.pools_of(&generation, database)?;
        match database {
            None => holds.databases.clear(),
            Some(_) => {
                let resumed = self.keys_of(&generation, database)?;
                let is_shared = |key: &PoolKey| resumed.contains(key);
                holds.databases.retain(|name, _| {
                    // One that is gone has no pools.
                    !self.keys_of(&generation, Some(name)).is_ok_and(|keys| keys.iter().any(is_shared))
                });
            }
        }
        let resumed = pools.iter().filter(|pool| pool.resume()).count();
        match resumed {
            0 => Err(Fault::of(Code::CommandRefused).with_detail("Nothing is paused or killed.")),
            _ => Ok(()),
        }
    }

    pub(super) fn hold(&self, database: Option<&str>, hold: Hold) -> Result<Vec<Arc<ServerPool>>, Fault> {
        let mut holds = self.holds.lock();
        self.hold_under(&mut holds, &self.generation.load_full(), database, hold)
    }

    fn hold_under(
        &self,
        holds: &mut Holds,
        generation: &Generation,
        database: Option<&str>,
        hold: Hold,
    ) -> Result<Vec<Arc<ServerPool>>, Fault> {
        let pools = self.pools_of(generation, database)?;
        let names = generation.config.databases.keys();
        let meant = names.filter(|name| database.is_none_or(|database| ***name == *database));
        holds.databases.extend(meant.map(|name| (Arc::clone(name), hold)));
        pools.iter().for_each(|pool| put_on_hold(pool, hold));
        Ok(pools)
    }

    /// Pools that a reload has opened for a database on hold are on hold, too.
    pub(super) fn hold_again(&self, holds: &Holds, next: &Generation) {
        for (name, hold) in &holds.databases {
            // A database that is gone has no pools.
            let keys = self.keys_of(next, Some(name)).unwrap_or_default();
            let pools: Vec<_> = keys.iter().filter_map(|key| self.pools.lock().get(key).cloned()).collect();
            for pool in pools.iter().filter(|pool| pool.hold() == Hold::None) {
                put_on_hold(pool, *hold);
            }
        }
    }

    fn keys_of(&self, generation: &Generation, database: Option<&str>) -> Result<Vec<PoolKey>, Fault> {
        let Some(database) = database else {
            return Ok(self.pools.lock().keys().cloned().collect());
        };
        let entry = generation.config.databases.get(database).ok_or_else(|| unknown(database))?;
        Ok(build::keys_of(&generation.config, database, entry).collect())
    }

    /// The pools that a command means, each once.
    fn pools_of(&self, generation: &Generation, database: Option<&str>) -> Result<Vec<Arc<ServerPool>>, Fault> {
        let keys = self.keys_of(generation, database)?;
        let pools = self.pools.lock();
        let mut found: Vec<Arc<ServerPool>> = Vec::new();
        for pool in keys.iter().filter_map(|key| pools.get(key)) {
            if !found.iter().any(|known| Arc::ptr_eq(known, pool)) {
                found.push(Arc::clone(pool));
            }
        }
        Ok(found)
    }

    fn order_end(&self, mode: ShutdownMode) -> Result<(), Fault> {
        self.endings
            .try_send(mode)
            .map_err(|_| Fault::of(Code::CommandRefused).with_detail("The proxy is shutting down already."))
    }

    async fn freeze(&self, tenant: &TenantId, reason: &FreezeReason, actor: &Actor) -> Result<(), Fault> {
        // A console that was opened before a reload may name tenants of a type that there is no more.
        let _no_reload = self.reloading.lock().await;
        let kind = self.generation.load().config.scope.tenant_kind;
        if TenantId::parse(kind, tenant.as_str()).ok().as_ref() != Some(tenant) {
            let detail = "The tenant is not of the type in force; connect to the console again.";
            return Err(Fault::of(Code::CommandRefused).with_detail(detail));
        }
        let frozen = Frozen {
            reason: Arc::clone(reason.text()),
            by: Arc::clone(&actor.login),
            at: time_of_day().as_str().into(),
        };
        let with = |set: &FrozenTenants| set.with(tenant, frozen).ok_or_else(too_many_frozen);
        let (clients, whose, reason, actor) =
            (Arc::clone(&self.clients), tenant.clone(), Arc::clone(reason.text()), actor.clone());
        let record = self.tenant_record(TenantAct::Freeze, tenant, &reason, &actor);
        // First the set, then those who are there: whoever comes between finds itself in the set. The record comes last: it
        // must not keep a tenant from being frozen.
        let then = move |is_frozen: bool| {
            if !is_frozen {
                return;
            }
            let count = clients.order_all(Order::Freeze, |slot| slot.acts_for(&whose));
            tracing::warn!(
                tenant = %whose, %reason, login = %actor.login, address = %actor.address, clients = count, "tenant frozen"
            );
            if record.write().is_err() {
                tracing::warn!(tenant = %whose, "the freeze is in force, but not in the ledger yet: it cannot be written");
            }
        };
        self.freezer.change(with, || Ok(()), then).await
    }

    async fn thaw(&self, tenant: &TenantId, reason: &FreezeReason, actor: &Actor) -> Result<(), Fault> {
        let not_frozen = || Fault::of(Code::CommandRefused).with_detail("The tenant is not frozen.");
        let (whose, reason, actor) = (tenant.clone(), Arc::clone(reason.text()), actor.clone());
        let record = self.tenant_record(TenantAct::Thaw, tenant, &reason, &actor);
        let taken_back =
            self.tenant_record(TenantAct::Freeze, tenant, "the thaw before this could not be kept", &actor);
        let late = taken_back.clone();
        let before = move || {
            let written = record.write();
            let message = "the ledger cannot be written, so the tenant stays frozen";
            if written == Err(NotWritten::InTime) {
                late.submit();
            }
            written.map_err(|_| Fault::saying(Code::LedgerUnavailable, message))
        };
        let then = move |is_thawed: bool| {
            if is_thawed {
                tracing::warn!(tenant = %whose, %reason, login = %actor.login, address = %actor.address, "tenant thawed");
            } else if taken_back.write().is_err() {
                tracing::warn!(tenant = %whose, "the tenant stays frozen, but the ledger says that it was thawed");
            }
        };
        self.freezer.change(|set| set.without(tenant).ok_or_else(not_frozen), before, then).await
    }

    fn tenant_record(&self, act: TenantAct, tenant: &TenantId, reason: &str, actor: &Actor) -> LedgerNote {
        let record = TenantRecord {
            id: Uuid::now_v7(),
            act,
            login: Arc::clone(&actor.login),
            address: Arc::clone(&actor.address),
            tenant: tenant.clone(),
            reason: reason.into(),
        };
        LedgerNote { ledger: self.ledger(), is_wanted: self.generation.load().config.ledger.is_some(), record }
    }

    fn pool_row(&self, database: &Arc<str>, login: &Arc<str>, pool: Option<&ServerPool>, count: Count) -> PoolRow {
        let wait = count.waiting_since.map(|since| self.clock().now().since(since)).unwrap_or_default();
        PoolRow {
            database: Arc::clone(database),
            login: Arc::clone(login),
            clients_active: count.active,
            clients_waiting: count.waiting,
            clients_idle: count.idle,
            clients_pinned: count.pinned,
            pool_mode: "transaction",
            cancels: count.cancels,
            servers: pool.map(ServerPool::counts).unwrap_or_default(),
            wait_longest_micros: u64::try_from(wait.as_micros()).unwrap_or(u64::MAX),
            is_paused: pool.is_some_and(|pool| pool.hold() != Hold::None),
        }
    }

    fn database_row(
        &self,
        generation: &Generation,
        name: &Arc<str>,
        entry: &DatabaseEntry,
        clients: usize,
    ) -> DatabaseRow {
        let group = generation.config.servers.get(&entry.server);
        let host = group.map_or_else(|| "".into(), |group| host_words(&group.hosts));
        let user = generation.config.roles.get(&entry.role).map_or_else(|| "".into(), |role| Arc::clone(&role.user));
        let pools = self.pools_of(generation, Some(name)).unwrap_or_default();
        let servers = |counts: PoolCounts| counts.idle + counts.leased + counts.connecting;
        DatabaseRow {
            name: Arc::clone(name),
            host,
            port: group.and_then(|group| group.hosts.first()).map_or(0, |first| first.port),
            server_database: Arc::clone(&entry.name),
            user,
            pool_size: entry.pool.size,
            pool_size_min: entry.pool.size_min,
            servers: pools.iter().map(|pool| servers(pool.counts())).sum(),
            clients,
            clients_max: 0,
            // One pool on hold is enough for some of its clients to wait.
            is_paused: pools.iter().any(|pool| pool.hold() != Hold::None),
            is_disabled: !pools.is_empty() && pools.iter().all(|pool| pool.hold() == Hold::Killed),
            server_lifetime_seconds: entry.pool.server_lifetime.as_secs(),
        }
    }
}

/// How long a freeze or thaw waits for its record: a disk that hangs must not keep the next tenant from being frozen.
const RECORD_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NotWritten {
    /// The ledger said so.
    AtAll,
    /// It may be written later.
    InTime,
}

/// A record that is to be written, if there is a ledger.
#[derive(Clone)]
struct LedgerNote {
    ledger: Option<Arc<Ledger>>,
    /// Whether the configuration has a ledger, which may have failed to start.
    is_wanted: bool,
    record: TenantRecord,
}

impl LedgerNote {
    /// Writes it, and waits until it is durable. Blocks: only for a thread that may.
    fn write(self) -> Result<(), NotWritten> {
        let answer = match self.ledger {
            Some(ledger) => ledger.record_act(Box::new(self.record)),
            None if self.is_wanted => return Err(NotWritten::AtAll),
            None => return Ok(()),
        };
        // The timer is made where there is a runtime.
        let answered = Handle::current().block_on(async { timeout(RECORD_TIMEOUT, answer).await });
        match answered {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(_)) | Err(_)) => Err(NotWritten::AtAll),
            Err(_) => Err(NotWritten::InTime),
        }
    }

    /// Has it written, behind what waits already.
    fn submit(self) {
        if let Some(ledger) = self.ledger {
            drop(ledger.record_act(Box::new(self.record)));
        }
    }
}

fn put_on_hold(pool: &Arc<ServerPool>, hold: Hold) {
    match hold {
        Hold::None => {}
        Hold::Paused => pool.pause(),
        Hold::Killed => pool.kill(),
    }
}

/// One host by its name; several as a list of names and ports.
fn host_words(hosts: &[ServerAddress]) -> Arc<str> {
    match hosts {
        [ServerAddress { host: ServerHost::Name(name), .. }] => Arc::clone(name),
        [ServerAddress { host: ServerHost::Address(address), .. }] => address.to_string().into(),
        [ServerAddress { host: ServerHost::UnixFolder(folder), .. }] => folder.display().to_string().into(),
        several => several.iter().map(ToString::to_string).collect::<Vec<_>>().join(",").into(),
    }
}

fn unknown(database: &str) -> Fault {
    let message = format!("there is no database \"{database}\"");
    Fault { severity: Severity::Error, ..Fault::saying(Code::DatabaseUnknown, message) }
}

fn too_many_frozen() -> Fault {
    Fault::of(Code::CommandRefused).with_detail("As many tenants are frozen as there may be.")
}
