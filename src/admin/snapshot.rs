//! Rows of the console's tables, as the proxy knows them.
//!
//! Owns: shapes. Does not own: columns' names and order (PgBouncer's), which the tables do.

use std::sync::Arc;

use crate::pool::PoolCounts;
use crate::tenant::TenantId;
use crate::time::Moment;

/// What a client is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientState {
    /// Has a server.
    Active,
    /// Waits for a server.
    Waiting,
    /// Neither.
    Idle,
}

/// A client.
#[derive(Clone, Debug)]
pub struct ClientRow {
    /// The number in its cancel key: `KILL_CLIENT` takes it.
    pub process_id: i32,
    /// Its login.
    pub login: Arc<str>,
    /// The database it asked for.
    pub database: Arc<str>,
    /// Whose rows it sees; `None` on the console and over bypass logins.
    pub tenant: Option<TenantId>,
    /// What it does.
    pub state: ClientState,
    /// Its address; `unix` over a unix socket.
    pub address: Arc<str>,
    /// Its port; 0 over a unix socket.
    pub port: u16,
    /// Our address it connected to.
    pub local_address: Arc<str>,
    /// Our port.
    pub local_port: u16,
    /// When it connected.
    pub connected_at: Moment,
    /// When it last asked for a server.
    pub requested_at: Moment,
    /// Since when it waits, if it does.
    pub waiting_since: Option<Moment>,
    /// The server it has.
    pub server: Option<u64>,
    /// `application_name`.
    pub application_name: Arc<str>,
    /// TLS protocol and cipher; empty without.
    pub tls: Arc<str>,
    /// Prepared statements it holds.
    pub prepared_statements: usize,
    /// The kinds of state on the server that stays with it, in words; `None` where none does.
    pub pinned: Option<Arc<str>>,
}

/// What a server is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerState {
    /// On loan.
    Active,
    /// Free.
    Idle,
    /// Being connected.
    Connecting,
}

/// A server.
#[derive(Clone, Debug)]
pub struct ServerRow {
    /// Our number for it.
    pub id: u64,
    /// Server group.
    pub group: Arc<str>,
    /// The role's name on the server.
    pub user: Arc<str>,
    /// Its database.
    pub database: Arc<str>,
    /// What it does.
    pub state: ServerState,
    /// Its address.
    pub address: Arc<str>,
    /// Its port.
    pub port: u16,
    /// When it was connected.
    pub connected_at: Moment,
    /// When it was last lent.
    pub requested_at: Moment,
    /// The process behind it.
    pub process_id: i32,
    /// The client it is lent to.
    pub client: Option<i32>,
    /// Whether it is closed as soon as it is free.
    pub close_needed: bool,
    /// TLS protocol and cipher; empty without.
    pub tls: Arc<str>,
    /// Prepared statements on it.
    pub prepared_statements: usize,
}

/// One (database, login) and the pool it uses.
#[derive(Clone, Debug)]
pub struct PoolRow {
    /// The database that clients ask for.
    pub database: Arc<str>,
    /// The login.
    pub login: Arc<str>,
    /// Clients that have a server.
    pub clients_active: usize,
    /// Clients that wait for a server.
    pub clients_waiting: usize,
    /// Clients that do neither.
    pub clients_idle: usize,
    /// Clients with a server that stays with them.
    pub clients_pinned: usize,
    /// `transaction` or `session`.
    pub pool_mode: &'static str,
    /// Cancel requests under way.
    pub cancels: usize,
    /// The servers of the pool. It may be shared by several rows.
    pub servers: PoolCounts,
    /// How long the longest wait lasts already, in microseconds.
    pub wait_longest_micros: u64,
    /// Whether the pool is paused.
    pub is_paused: bool,
}

/// A configured database.
#[derive(Clone, Debug)]
pub struct DatabaseRow {
    /// What clients ask for.
    pub name: Arc<str>,
    /// Its server group's host; several as `host:port`, with commas between.
    pub host: Arc<str>,
    /// Its port.
    pub port: u16,
    /// Its name on the server.
    pub server_database: Arc<str>,
    /// The role's name on the server.
    pub user: Arc<str>,
    /// Servers at most.
    pub pool_size: usize,
    /// Servers at least.
    pub pool_size_min: usize,
    /// Servers now.
    pub servers: usize,
    /// Clients now.
    pub clients: usize,
    /// Clients at most; 0 = no limit of its own.
    pub clients_max: usize,
    /// Paused.
    pub is_paused: bool,
    /// Killed, or gone from the configuration.
    pub is_disabled: bool,
    /// Age in seconds at which a server is replaced.
    pub server_lifetime_seconds: u64,
}

/// A configured login.
#[derive(Clone, Debug)]
pub struct UserRow {
    /// Its name.
    pub name: Arc<str>,
    /// Clients now.
    pub clients: usize,
    /// Clients at most; 0 = no limit of its own.
    pub clients_max: usize,
    /// Leases at once at most; 0 = no limit of its own.
    pub leases_max: usize,
    /// `tenant`, `migration`, `bypass` …
    pub preset: &'static str,
    /// `transaction` or `session`.
    pub pool_mode: &'static str,
}

/// A tenant with a client now.
#[derive(Clone, Debug)]
pub struct TenantRow {
    /// Who.
    pub tenant: TenantId,
    /// Clients now.
    pub clients: usize,
    /// Of these, with a server.
    pub active: usize,
    /// Of these, waiting for one.
    pub waiting: usize,
    /// Of these, with a server that stays with them.
    pub pinned: usize,
    /// Whether it is frozen.
    pub is_frozen: bool,
}

/// A tenant that is frozen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrozenRow {
    /// Who.
    pub tenant: TenantId,
    /// Why.
    pub reason: Arc<str>,
    /// By whom.
    pub by: Arc<str>,
    /// When, as RFC 3339 in UTC.
    pub at: Arc<str>,
}

/// One open emergency.
#[derive(Clone, Debug)]
pub struct EmergencyRow {
    /// Its name in the ledger.
    pub id: Arc<str>,
    /// Whose.
    pub login: Arc<str>,
    /// When it ends, as RFC 3339 in UTC.
    pub until: Arc<str>,
    /// Why.
    pub reason: Arc<str>,
    /// Who has opened it.
    pub by: Arc<str>,
    /// Where from.
    pub address: Arc<str>,
    /// When.
    pub at: Arc<str>,
}

/// A key of the configuration.
#[derive(Clone, Debug)]
pub struct ConfigRow {
    /// Dotted path.
    pub key: Arc<str>,
    /// Its value in force; `<masked>` for secrets.
    pub value: Arc<str>,
    /// Its default.
    pub default: Arc<str>,
    /// Whether a reload can change it.
    pub is_changeable: bool,
}

/// A transaction that crossed tenants, as the ledger has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BypassRow {
    /// Its number in the ledger.
    pub id: Arc<str>,
    /// When it began, as RFC 3339 in UTC.
    pub at: Arc<str>,
    /// Who did it.
    pub login: Arc<str>,
    /// From where.
    pub address: Arc<str>,
    /// In which database, by the name clients use.
    pub database: Arc<str>,
    /// The role's name on the server.
    pub role: Arc<str>,
    /// `bypass`, `migration`, or `claimed_bypass` for a transaction that claimed one.
    pub preset: Arc<str>,
    /// Why, in the client's words.
    pub reason: Arc<str>,
    /// `open`, or how it ended.
    pub outcome: Arc<str>,
    /// Statements in it.
    pub statements: usize,
    /// Rows delivered or changed.
    pub rows: u64,
    /// Tables named, with commas between.
    pub tables: Arc<str>,
    /// How long it took, in microseconds; 0 while it is open.
    pub duration_micros: u64,
}
