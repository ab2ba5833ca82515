//! The tables of SHOW: names, columns and their order.
//!
//! PgBouncer's columns come first, in the order, with the types and under the names of its version 1.25
//! (<https://www.pgbouncer.org/usage.html>), because exporters and scripts go by them; ours come behind.
//! `docs/console.md` is compared with this file.

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// `text`
    Text,
    /// `int4`; larger values are cut to its limits.
    Int4,
    /// `numeric`
    Numeric,
}

impl ColumnKind {
    /// PostgreSQL's number for the type.
    #[must_use]
    pub const fn oid(self) -> i32 {
        match self {
            ColumnKind::Text => 25,
            ColumnKind::Int4 => 23,
            ColumnKind::Numeric => 1700,
        }
    }

    /// Bytes of a value; -1 where they vary.
    #[must_use]
    pub const fn size(self) -> i16 {
        match self {
            ColumnKind::Int4 => 4,
            ColumnKind::Text | ColumnKind::Numeric => -1,
        }
    }
}

/// Whose column it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnOrigin {
    /// As in PgBouncer 1.25.
    PgBouncer,
    /// An addition.
    Ours,
}

/// One column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: ColumnKind,
    /// Whose it is.
    pub origin: ColumnOrigin,
}

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// NULL.
    Null,
    /// Text.
    Text(String),
    /// A number.
    Number(u64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.to_owned())
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Value::Number(u64::try_from(number).unwrap_or(u64::MAX))
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Value::Number(number)
    }
}

impl From<bool> for Value {
    fn from(is: bool) -> Self {
        Value::Number(u64::from(is))
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

/// Rows with their columns.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The columns.
    pub columns: Vec<Column>,
    /// The rows, each as long as `columns`.
    pub rows: Vec<Vec<Value>>,
}

/// Declares the tables: variant, name, PgBouncer's columns, ours.
macro_rules! tables {
    ($( $variant:ident = $name:literal, $meaning:literal, [$($theirs:ident: $kind:ident),*], [$($ours:ident: $our_kind:ident),*]; )*) => {
        /// A table of SHOW.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Table {
            $( #[doc = $meaning] $variant, )*
        }

        impl Table {
            /// All tables.
            pub const ALL: &[Table] = &[ $( Table::$variant, )* ];

            /// The word behind SHOW.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( Table::$variant => $name, )* }
            }

            /// What it shows.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $( Table::$variant => $meaning, )* }
            }

            /// Its columns.
            #[must_use]
            pub const fn columns(self) -> &'static [Column] {
                match self { $( Table::$variant => &[
                    $( Column { name: stringify!($theirs), kind: ColumnKind::$kind, origin: ColumnOrigin::PgBouncer }, )*
                    $( Column { name: stringify!($ours), kind: ColumnKind::$our_kind, origin: ColumnOrigin::Ours }, )*
                ], )* }
            }
        }
    };
}

tables! {
    Pools = "POOLS", "Clients and servers, one row for each (database, login).",
        [database: Text, user: Text, cl_active: Int4, cl_waiting: Int4, cl_active_cancel_req: Int4,
         cl_waiting_cancel_req: Int4, sv_active: Int4, sv_active_cancel: Int4, sv_being_canceled: Int4, sv_idle: Int4,
         sv_used: Int4, sv_tested: Int4, sv_login: Int4, maxwait: Int4, maxwait_us: Int4, pool_mode: Text,
         load_balance_hosts: Text],
        [paused: Int4, pinned: Int4];
    Clients = "CLIENTS", "Every client that is logged in.",
        [type: Text, user: Text, database: Text, replication: Text, state: Text, addr: Text, port: Int4,
         local_addr: Text, local_port: Int4, connect_time: Text, request_time: Text, wait: Int4, wait_us: Int4,
         close_needed: Int4, ptr: Text, link: Text, remote_pid: Int4, tls: Text, application_name: Text,
         prepared_statements: Int4, id: Int4],
        [tenant: Text, pinned: Text];
    Servers = "SERVERS", "Every connection to a server.",
        [type: Text, user: Text, database: Text, replication: Text, state: Text, addr: Text, port: Int4,
         local_addr: Text, local_port: Int4, connect_time: Text, request_time: Text, wait: Int4, wait_us: Int4,
         close_needed: Int4, ptr: Text, link: Text, remote_pid: Int4, tls: Text, application_name: Text,
         prepared_statements: Int4, id: Int4],
        [server_group: Text, pinned: Text];
    Databases = "DATABASES", "Every configured database.",
        [name: Text, host: Text, port: Int4, database: Text, force_user: Text, pool_size: Int4, min_pool_size: Int4,
         reserve_pool_size: Int4, server_lifetime: Int4, pool_mode: Text, load_balance_hosts: Text,
         max_connections: Int4, current_connections: Int4, max_client_connections: Int4,
         current_client_connections: Int4, paused: Int4, disabled: Int4],
        [reserve_pool: Int4];
    Users = "USERS", "Every configured login.",
        [name: Text, pool_size: Text, reserve_pool_size: Text, pool_mode: Text, max_user_connections: Int4,
         current_connections: Int4, max_user_client_connections: Int4, current_client_connections: Int4],
        [preset: Text];
    Stats = "STATS", "Counts by database since the start, and averages of the last minute.",
        [database: Text, total_server_assignment_count: Numeric, total_xact_count: Numeric, total_query_count: Numeric,
         total_received: Numeric, total_sent: Numeric, total_xact_time: Numeric, total_query_time: Numeric,
         total_wait_time: Numeric, total_client_parse_count: Numeric, total_server_parse_count: Numeric,
         total_bind_count: Numeric, avg_server_assignment_count: Numeric, avg_xact_count: Numeric,
         avg_query_count: Numeric, avg_recv: Numeric, avg_sent: Numeric, avg_xact_time: Numeric,
         avg_query_time: Numeric, avg_wait_time: Numeric, avg_client_parse_count: Numeric,
         avg_server_parse_count: Numeric, avg_bind_count: Numeric],
        [total_requests: Numeric, total_scope_count: Numeric];
    StatsTotals = "STATS_TOTALS", "The counts of STATS.",
        [database: Text, server_assignment_count: Numeric, xact_count: Numeric, query_count: Numeric,
         bytes_received: Numeric, bytes_sent: Numeric, xact_time: Numeric, query_time: Numeric, wait_time: Numeric,
         client_parse_count: Numeric, server_parse_count: Numeric, bind_count: Numeric],
        [scope_count: Numeric];
    StatsAverages = "STATS_AVERAGES", "The averages of STATS.",
        [database: Text, server_assignment_count: Numeric, xact_count: Numeric, query_count: Numeric,
         bytes_received: Numeric, bytes_sent: Numeric, xact_time: Numeric, query_time: Numeric, wait_time: Numeric,
         avg_client_parse_count: Numeric, avg_server_parse_count: Numeric, avg_bind_count: Numeric],
        [];
    Totals = "TOTALS", "STATS of all databases together, a row for each figure.", [name: Text, value: Numeric], [];
    Lists = "LISTS", "How many there are of everything.", [list: Text, items: Int4], [];
    Config = "CONFIG", "The configuration in force; secrets are masked.",
        [key: Text, value: Text, default: Text, changeable: Text], [];
    State = "STATE", "What the proxy is doing.", [key: Text, value: Text], [];
    Version = "VERSION", "The version.", [version: Text], [];
    Help = "HELP", "The commands, as a notice.", [], [];
    Tenants = "TENANTS", "Every tenant with a client now.", [],
        [tenant: Text, clients: Int4, active: Int4, waiting: Int4, frozen: Int4, pinned: Int4];
    Denials = "DENIALS", "The latest refusals, the latest first; statements are not kept.", [],
        [time: Text, login: Text, tenant: Text, address: Text, code: Text, class: Text];
    Observed = "OBSERVED", "What would have been refused where refusals are only observed, the most frequent first.", [],
        [login: Text, code: Text, class: Text, fingerprint: Text, count: Numeric, first: Text, last: Text,
         statement: Text];
    Bypasses = "BYPASSES", "The latest transactions that crossed tenants, the latest first.", [],
        [time: Text, login: Text, address: Text, database: Text, role: Text, preset: Text, reason: Text, outcome: Text,
         statements: Int4, rows: Numeric, tables: Text, duration_us: Numeric, id: Text];
    Frozen = "FROZEN", "Every tenant that is frozen.", [],
        [tenant: Text, reason: Text, by: Text, since: Text];
    Emergencies = "EMERGENCIES", "Every emergency that is open.", [],
        [id: Text, login: Text, until: Text, reason: Text, by: Text, address: Text, since: Text];
}

impl Table {
    /// The table of that name, in any case.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|table| table.name().eq_ignore_ascii_case(name))
    }
}
