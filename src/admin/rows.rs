//! The rows of SHOW's tables.
//!
//! Owns: which fact stands in which column. Does not own: the facts.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::command::COMMANDS;
use super::denials::Denials;
use super::observations::{ObservationRow, Observations};
use super::operations::Operations;
use super::snapshot::{ClientRow, ClientState, DatabaseRow, PoolRow, ServerRow, ServerState};
use super::table::{Shown, Table, Value};
use crate::metrics::{Averages, Count, DatabaseStatistics, Metrics, Totals};
use crate::time::Moment;

/// The name under which PgBouncer lists its own console.
const CONSOLE_DATABASE: &str = "pgbouncer";

/// What the tables are made from.
#[derive(Clone, Copy)]
pub struct View<'v, O> {
    /// The proxy.
    pub operations: &'v O,
    /// What it counts.
    pub metrics: &'v Metrics,
    /// What it refused lately.
    pub denials: &'v Denials,
    /// What it would have refused.
    pub observations: &'v Observations,
    /// Now.
    pub now: Moment,
    /// Microseconds from 1970 to [`Moment::START`].
    pub epoch_micros: i64,
    /// Connections that have not logged in yet.
    pub logging_in: usize,
    /// The names under which clients ask for the console.
    pub console_databases: &'v [&'v str],
}

impl<O: Operations> View<'_, O> {
    /// A table as it is now.
    #[must_use]
    pub fn show(&self, table: Table) -> Shown {
        let rows = match table {
            Table::Pools => self.pools(),
            Table::Clients => self.clients(),
            Table::Servers => self.servers(),
            Table::Databases => self.databases(),
            Table::Users => self.users(),
            Table::Stats => self.statistics(stats_row),
            Table::StatsTotals => self.statistics(totals_row),
            Table::StatsAverages => self.statistics(averages_row),
            Table::Totals => self.totals(),
            Table::Lists => self.lists(),
            Table::Config => self.config(),
            Table::State => self.state(),
            Table::Version => vec![vec![version().as_str().into()]],
            Table::Help => Vec::new(),
            Table::Tenants => self.tenants(),
            Table::Denials => self.denials(),
            Table::Observed => self.observed(),
            Table::Bypasses => self.bypasses(),
            Table::Frozen => self.frozen(),
            Table::Emergencies => self.emergencies(),
        };
        Shown { columns: table.columns().to_vec(), rows }
    }

    fn pools(&self) -> Vec<Vec<Value>> {
        let mut rows: Vec<_> = self.operations.pools().iter().map(pool_row).collect();
        rows.push(console_pool_row(self.consoles()));
        rows
    }

    fn clients(&self) -> Vec<Vec<Value>> {
        self.operations.clients().iter().map(|client| self.client_row(client)).collect()
    }

    fn client_row(&self, client: &ClientRow) -> Vec<Value> {
        let wait = client.waiting_since.map_or(0, |since| self.now.as_micros().saturating_sub(since.as_micros()));
        vec![
            "C".into(),
            client.login.as_ref().into(),
            client.database.as_ref().into(),
            "none".into(),
            client_state(client.state).into(),
            client.address.as_ref().into(),
            Value::Number(client.port.into()),
            client.local_address.as_ref().into(),
            Value::Number(client.local_port.into()),
            self.time(client.connected_at),
            self.time(client.requested_at),
            Value::Number(wait / 1_000_000),
            Value::Number(wait % 1_000_000),
            Value::Number(0),
            client_pointer(client.process_id).into(),
            client.server.map_or_else(String::new, server_pointer).into(),
            Value::Number(0),
            client.tls.as_ref().into(),
            client.application_name.as_ref().into(),
            client.prepared_statements.into(),
            Value::Number(u64::try_from(client.process_id).unwrap_or_default()),
            client.tenant.as_ref().map(|tenant| tenant.as_str()).into(),
            client.pinned.as_deref().into(),
        ]
    }

    fn servers(&self) -> Vec<Vec<Value>> {
        let clients: BTreeMap<i32, ClientRow> =
            self.operations.clients().into_iter().map(|client| (client.process_id, client)).collect();
        self.operations.servers().iter().map(|server| self.server_row(server, &clients)).collect()
    }

    fn server_row(&self, server: &ServerRow, clients: &BTreeMap<i32, ClientRow>) -> Vec<Value> {
        let client = server.client.and_then(|client| clients.get(&client));
        let name = client.map_or("", |client| &client.application_name);
        vec![
            "S".into(),
            server.user.as_ref().into(),
            server.database.as_ref().into(),
            "none".into(),
            server_state(server.state).into(),
            server.address.as_ref().into(),
            Value::Number(server.port.into()),
            // The driver does not ask for the local end of a server's connection.
            "".into(),
            Value::Number(0),
            self.time(server.connected_at),
            self.time(server.requested_at),
            Value::Number(0),
            Value::Number(0),
            server.close_needed.into(),
            server_pointer(server.id).into(),
            server.client.map_or_else(String::new, client_pointer).into(),
            Value::Number(u64::try_from(server.process_id).unwrap_or_default()),
            server.tls.as_ref().into(),
            name.into(),
            server.prepared_statements.into(),
            server.id.into(),
            server.group.as_ref().into(),
            client.and_then(|client| client.pinned.as_deref()).into(),
        ]
    }

    fn databases(&self) -> Vec<Vec<Value>> {
        let mut rows: Vec<_> = self.operations.databases().iter().map(database_row).collect();
        rows.push(console_database_row(self.consoles()));
        rows
    }

    /// Clients of the console, the one that asks included.
    fn consoles(&self) -> usize {
        let is_console = |client: &&ClientRow| self.console_databases.contains(&client.database.as_ref());
        self.operations.clients().iter().filter(is_console).count()
    }

    fn users(&self) -> Vec<Vec<Value>> {
        let mut active: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        for client in self.operations.clients().into_iter().filter(|client| client.state == ClientState::Active) {
            *active.entry(client.login).or_default() += 1;
        }
        let row = |user: super::snapshot::UserRow| {
            vec![
                user.name.as_ref().into(),
                "".into(),
                "".into(),
                user.pool_mode.into(),
                user.leases_max.into(),
                active.get(&user.name).copied().unwrap_or_default().into(),
                user.clients_max.into(),
                user.clients.into(),
                user.preset.into(),
            ]
        };
        self.operations.users().into_iter().map(row).collect()
    }

    fn statistics(&self, row: fn(&DatabaseStatistics) -> Vec<Value>) -> Vec<Vec<Value>> {
        self.metrics.statistics(self.now).iter().map(row).collect()
    }

    fn totals(&self) -> Vec<Vec<Value>> {
        let all = self.metrics.overall(self.now);
        let names = [
            "server_assignment_count",
            "xact_count",
            "query_count",
            "client_bytes",
            "server_bytes",
            "xact_time",
            "query_time",
            "wait_time",
            "ps_client_parse_count",
            "ps_server_parse_count",
            "ps_bind_count",
        ];
        let rows = |prefix: &str, values: [u64; 11]| -> Vec<Vec<Value>> {
            let row = |(name, value): (&str, u64)| vec![Value::Text(format!("{prefix}_{name}")), value.into()];
            names.into_iter().zip(values).map(row).collect()
        };
        let mut shown = rows("total", totals_values(&all.totals));
        shown.extend(rows("avg", averages_values(&all.averages)));
        shown
    }

    fn lists(&self) -> Vec<Vec<Value>> {
        let operations = self.operations;
        let databases = operations.databases().len() + 1;
        let counts = [
            ("databases", databases),
            ("users", operations.users().len()),
            ("peers", 0),
            ("pools", operations.pools().len() + 1),
            ("peer_pools", 0),
            ("free_clients", 0),
            ("used_clients", operations.clients().len()),
            ("login_clients", self.logging_in),
            ("free_servers", 0),
            ("used_servers", operations.servers().len()),
            ("dns_names", 0),
            ("dns_zones", 0),
            ("dns_queries", 0),
            ("dns_pending", 0),
            ("tenants", operations.tenants().len()),
            ("frozen_tenants", operations.frozen().len()),
        ];
        counts.into_iter().map(|(list, items)| vec![list.into(), items.into()]).collect()
    }

    fn config(&self) -> Vec<Vec<Value>> {
        let row = |row: super::snapshot::ConfigRow| {
            let changeable = if row.is_changeable { "yes" } else { "no" };
            vec![row.key.as_ref().into(), row.value.as_ref().into(), row.default.as_ref().into(), changeable.into()]
        };
        self.operations.config().into_iter().map(row).collect()
    }

    fn state(&self) -> Vec<Vec<Value>> {
        let now = self.operations.state();
        let row = |state: &str| vec![state.into(), if state == now { "yes" } else { "no" }.into()];
        ["active", "paused", "suspended", "draining"].into_iter().map(row).collect()
    }

    fn tenants(&self) -> Vec<Vec<Value>> {
        let row = |row: super::snapshot::TenantRow| {
            vec![
                row.tenant.as_str().into(),
                row.clients.into(),
                row.active.into(),
                row.waiting.into(),
                row.is_frozen.into(),
                row.pinned.into(),
            ]
        };
        self.operations.tenants().into_iter().map(row).collect()
    }

    fn denials(&self) -> Vec<Vec<Value>> {
        let row = |row: super::denials::DenialRow| {
            vec![
                self.time(row.at),
                row.who.login.as_ref().into(),
                row.who.tenant.as_ref().map(|tenant| tenant.as_str()).into(),
                row.who.address.as_ref().into(),
                row.code.row().name.into(),
                row.class.into(),
            ]
        };
        self.denials.recent().into_iter().map(row).collect()
    }

    fn observed(&self) -> Vec<Vec<Value>> {
        let row = |row: ObservationRow| {
            vec![
                row.login.as_ref().into(),
                row.observed.code.row().name.into(),
                row.observed.class.name().into(),
                format!("{:016x}", row.fingerprint).into(),
                Value::Number(row.count),
                self.time(row.first_at),
                self.time(row.last_at),
                row.statement.as_ref().into(),
            ]
        };
        self.observations.rows().into_iter().map(row).collect()
    }

    fn bypasses(&self) -> Vec<Vec<Value>> {
        let row = |row: super::snapshot::BypassRow| {
            vec![
                row.at.as_ref().into(),
                row.login.as_ref().into(),
                row.address.as_ref().into(),
                row.database.as_ref().into(),
                row.role.as_ref().into(),
                row.preset.as_ref().into(),
                row.reason.as_ref().into(),
                row.outcome.as_ref().into(),
                row.statements.into(),
                row.rows.into(),
                row.tables.as_ref().into(),
                row.duration_micros.into(),
                row.id.as_ref().into(),
            ]
        };
        self.operations.bypasses().into_iter().map(row).collect()
    }

    fn frozen(&self) -> Vec<Vec<Value>> {
        let row = |row: super::snapshot::FrozenRow| {
            vec![row.tenant.as_str().into(), row.reason.as_ref().into(), row.by.as_ref().into(), row.at.as_ref().into()]
        };
        let bypasses = self
            .operations
            .bypass_freeze()
            .map(|[reason, by, at]| vec![Value::Null, reason.as_ref().into(), by.as_ref().into(), at.as_ref().into()]);
        bypasses.into_iter().chain(self.operations.frozen().into_iter().map(row)).collect()
    }

    fn emergencies(&self) -> Vec<Vec<Value>> {
        let row = |row: super::snapshot::EmergencyRow| {
            let words = [row.id, row.login, row.until, row.reason, row.by, row.address, row.at];
            words.iter().map(|word| word.as_ref().into()).collect()
        };
        self.operations.emergencies().into_iter().map(row).collect()
    }

    /// As PgBouncer writes times, always in UTC.
    fn time(&self, at: Moment) -> Value {
        let micros = i64::try_from(at.as_micros()).unwrap_or(i64::MAX).saturating_add(self.epoch_micros);
        let time = jiff::Timestamp::from_microsecond(micros).unwrap_or_default();
        Value::Text(time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Text(text)
    }
}

/// The text of SHOW VERSION. Tools look for the number of the PgBouncer whose tables they read.
#[must_use]
pub(super) fn version() -> String {
    format!("TenantGate {} (console as PgBouncer 1.25)", env!("CARGO_PKG_VERSION"))
}

/// The text of SHOW HELP.
#[must_use]
pub(super) fn help() -> String {
    let tables: Vec<_> = Table::ALL.iter().map(|table| table.name()).collect();
    let commands = COMMANDS.iter().map(|row| format!("\n\t{}", row.syntax));
    let commands: String = commands.filter(|syntax| syntax != "\n\tSHOW <table>").collect();
    format!("\n\tSHOW {}{commands}", tables.join("|"))
}

fn client_pointer(process_id: i32) -> String {
    format!("c{process_id}")
}

fn server_pointer(id: u64) -> String {
    format!("s{id}")
}

const fn client_state(state: ClientState) -> &'static str {
    match state {
        ClientState::Active => "active",
        ClientState::Waiting => "waiting",
        ClientState::Idle => "idle",
    }
}

const fn server_state(state: ServerState) -> &'static str {
    match state {
        ServerState::Active => "active",
        ServerState::Idle => "idle",
        ServerState::Connecting => "new",
    }
}

fn pool_row(pool: &PoolRow) -> Vec<Value> {
    vec![
        pool.database.as_ref().into(),
        pool.login.as_ref().into(),
        // PgBouncer counts idle clients as active here.
        (pool.clients_active + pool.clients_idle).into(),
        pool.clients_waiting.into(),
        pool.cancels.into(),
        Value::Number(0),
        pool.servers.leased.into(),
        Value::Number(0),
        Value::Number(0),
        pool.servers.idle.into(),
        Value::Number(0),
        Value::Number(0),
        pool.servers.connecting.into(),
        Value::Number(pool.wait_longest_micros / 1_000_000),
        Value::Number(pool.wait_longest_micros % 1_000_000),
        pool.pool_mode.into(),
        Value::Null,
        pool.is_paused.into(),
        pool.clients_pinned.into(),
    ]
}

fn console_pool_row(consoles: usize) -> Vec<Value> {
    let mut row = vec![CONSOLE_DATABASE.into(), CONSOLE_DATABASE.into(), consoles.into()];
    row.resize(15, Value::Number(0));
    row.extend(["statement".into(), Value::Null, Value::Number(0), Value::Number(0)]);
    row
}

fn database_row(database: &DatabaseRow) -> Vec<Value> {
    vec![
        database.name.as_ref().into(),
        database.host.as_ref().into(),
        Value::Number(database.port.into()),
        database.server_database.as_ref().into(),
        database.user.as_ref().into(),
        database.pool_size.into(),
        database.pool_size_min.into(),
        Value::Number(0),
        database.server_lifetime_seconds.into(),
        Value::Null,
        Value::Null,
        database.pool_size.into(),
        database.servers.into(),
        database.clients_max.into(),
        database.clients.into(),
        database.is_paused.into(),
        database.is_disabled.into(),
        Value::Number(0),
    ]
}

fn console_database_row(consoles: usize) -> Vec<Value> {
    let zero = || Value::Number(0);
    vec![
        CONSOLE_DATABASE.into(),
        Value::Null,
        zero(),
        CONSOLE_DATABASE.into(),
        CONSOLE_DATABASE.into(),
        zero(),
        zero(),
        zero(),
        zero(),
        "statement".into(),
        Value::Null,
        zero(),
        zero(),
        zero(),
        consoles.into(),
        zero(),
        zero(),
        zero(),
    ]
}

fn totals_values(totals: &Totals) -> [u64; 11] {
    [
        totals.leases(),
        totals.read(Count::Transactions),
        totals.read(Count::Statements),
        totals.read(Count::Received),
        totals.read(Count::Sent),
        totals.transaction.sum_micros,
        totals.read(Count::BusyMicros),
        totals.wait.sum_micros,
        totals.read(Count::ClientParses),
        totals.read(Count::ServerParses),
        totals.read(Count::Binds),
    ]
}

const fn averages_values(averages: &Averages) -> [u64; 11] {
    [
        averages.leases,
        averages.transactions,
        averages.statements,
        averages.received,
        averages.sent,
        averages.transaction_micros,
        averages.statement_micros,
        averages.wait_micros,
        averages.client_parses,
        averages.server_parses,
        averages.binds,
    ]
}

fn named(row: &DatabaseStatistics, values: impl IntoIterator<Item = u64>) -> Vec<Value> {
    std::iter::once(row.database.as_ref().into()).chain(values.into_iter().map(Value::Number)).collect()
}

fn stats_row(row: &DatabaseStatistics) -> Vec<Value> {
    let ours = [row.totals.read(Count::Statements), row.totals.read(Count::Scopes)];
    named(row, totals_values(&row.totals).into_iter().chain(averages_values(&row.averages)).chain(ours))
}

fn totals_row(row: &DatabaseStatistics) -> Vec<Value> {
    named(row, totals_values(&row.totals).into_iter().chain([row.totals.read(Count::Scopes)]))
}

fn averages_row(row: &DatabaseStatistics) -> Vec<Value> {
    named(row, averages_values(&row.averages))
}
