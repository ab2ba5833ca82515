//! The table of every configuration key: its type, default and meaning.
//!
//! Owns: what keys there are. `raw` checks a file against this table and takes defaults from it;
//! `config/reference.toml` and `docs/configuration.md` are printed from it, and a test compares them.
//! Does not own: what keys mean together (see `build`).

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct KeyRow {
    /// `databases.*.pool.size`; `*` stands for a name the operator chooses or an element of a list of tables.
    pub path: &'static str,
    /// Its type.
    pub kind: Kind,
    /// What the reference configuration shows.
    pub shown: Shown,
    /// One sentence.
    pub meaning: &'static str,
}

/// The type of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A table with the keys below it.
    Table,
    /// A table of tables (or values) whose names the operator chooses.
    Named,
    /// A list of tables.
    TableList,
    /// Text that is not empty.
    Text,
    /// Text that is never echoed.
    Secret,
    /// `true` or `false`.
    Flag,
    /// One of a few words.
    Choice(&'static [&'static str]),
    /// A whole number within limits.
    Number {
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
    },
    /// A number of bytes: a whole number, or text with a unit (`"64KiB"`).
    Bytes {
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
    },
    /// A length of time: `"250ms"`, `"15s"`, `"10m"`, `"1h"`, `"1h30m"`, `"2d"`; limits in milliseconds.
    Duration {
        /// Shortest.
        min_ms: u64,
        /// Longest.
        max_ms: u64,
    },
    /// A list of texts.
    TextList,
    /// A list of some of a few words.
    ChoiceList(&'static [&'static str]),
    /// `"any"`, a list of tenants, or `{ pattern = "…" }`.
    Tenants,
}

/// How the reference configuration shows a key; values are TOML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// A default: shown commented out, and used where the key is absent.
    Default(&'static str),
    /// No default: shown with this example.
    Example(&'static str),
    /// No default, and an alternative to another key: shown commented out.
    Alternative(&'static str),
    /// A table header.
    Header,
}

const MINUTE: u64 = 60_000;
const DAY: u64 = 24 * 60 * MINUTE;
/// Long enough for any lifetime, short enough that sums of times never overflow.
const DURATION_MS_MAX: u64 = 365 * DAY;
/// Lists and queues are arrays in memory: nobody means more.
const COUNT_MAX: u64 = 1_000_000;
/// More rows than any transaction has.
const ROWS_MAX: u64 = 1_000_000_000_000;
/// Parsing time and memory grow with text: 800 KB of `AND`s cost 4 s and 700 MB.
const TEXT_BYTES_MAX: u64 = 1 << 20;

/// As many as the counters can hold ([`crate::metrics::TENANTS_SHOWN_MAX`]): each is six series.
const TENANTS_SHOWN_MAX: u64 = crate::metrics::TENANTS_SHOWN_MAX as u64;

const LONG: Kind = Kind::Duration { min_ms: 1, max_ms: DURATION_MS_MAX };
const LONG_OR_NONE: Kind = Kind::Duration { min_ms: 0, max_ms: DURATION_MS_MAX };
const COUNT: Kind = Kind::Number { min: 1, max: COUNT_MAX };
const COUNT_OR_NONE: Kind = Kind::Number { min: 0, max: COUNT_MAX };
const POOL_SIZE: Kind = Kind::Number { min: 1, max: 10_000 };

const fn row(path: &'static str, kind: Kind, shown: Shown, meaning: &'static str) -> KeyRow {
    KeyRow { path, kind, shown, meaning }
}

/// A [`Shown::Default`] key of `[pool]`, and the same key of `[databases.*.pool]` whose default it is.
macro_rules! pool_rows {
    ($first:expr; $( $name:literal, $kind:expr, $default:literal, $meaning:literal; )*) => {
        /// The keys of `[pool]`.
        const POOL: &[KeyRow] = &[ $first, $( row(concat!("pool.", $name), $kind, Shown::Default($default), $meaning), )* ];
        /// The same keys where a database overrides them.
        const DATABASE_POOL: &[KeyRow] =
            &[ $( row(concat!("databases.*.pool.", $name), $kind, Shown::Alternative($default), $meaning), )* ];
    };
}

pool_rows! {
    row("pool", Kind::Table, Shown::Header, "Limits of every pool (the servers of one server group, database and role), unless a database overrides them.");
    "size", POOL_SIZE, "20", "Servers at most.";
    "size_min", Kind::Number { min: 0, max: 10_000 }, "0", "Servers kept open even when idle.";
    "wait_timeout", LONG, "\"30s\"", "A client waits at most so long for a server (TG050).";
    "waiting_max", COUNT_OR_NONE, "10000", "Clients that may wait at the same time (TG051).";
    "server_lifetime", LONG, "\"1h\"", "A server connection older than this is closed when it comes back.";
    "server_idle_timeout", LONG, "\"10m\"", "A server connection idle for longer is closed, down to size_min.";
    "server_check_delay", LONG, "\"30s\"", "A server connection idle for longer is checked before use.";
    "pins_max", COUNT_OR_NONE, "0", "Servers that may stay with their clients beyond a transaction (TG112); 0 = all.";
    "connect_backoff_max", LONG, "\"15s\"", "Longest pause between attempts to connect to a server that cannot be reached.";
    "prepared_statements_max", Kind::Number { min: 1, max: 100_000 }, "200", "Prepared statements kept on one server connection; the least recently used one goes first.";
    "prepared_statement_bytes_max", Kind::Bytes { min: 1024, max: 1 << 30 }, "\"16MiB\"", "Bytes of their texts kept on one server connection.";
}

/// The same keys in four places: the general limits of tenants and of logins with their defaults, and those of single
/// ones over them.
macro_rules! limit_rows {
    ($( $name:literal, $kind:expr, $default:literal, $meaning:literal; )*) => {
        /// `[limits.tenant]`
        const TENANT_LIMITS: &[KeyRow] =
            &[ $( row(concat!("limits.tenant.", $name), $kind, Shown::Default($default), $meaning), )* ];
        /// `[limits.login]`
        const LOGIN_LIMITS: &[KeyRow] =
            &[ $( row(concat!("limits.login.", $name), $kind, Shown::Default($default), $meaning), )* ];
        /// `[[limits.tenants]]`
        const ONE_TENANT_LIMITS: &[KeyRow] =
            &[ $( row(concat!("limits.tenants.*.", $name), $kind, Shown::Alternative($default), $meaning), )* ];
        /// `[logins.*.limits]`
        const ONE_LOGIN_LIMITS: &[KeyRow] =
            &[ $( row(concat!("logins.*.limits.", $name), $kind, Shown::Alternative($default), $meaning), )* ];
    };
}

limit_rows! {
    "connections_max", COUNT_OR_NONE, "0", "Clients logged in at most (TG080, TG081); 0: no limit.";
    "leases_max", COUNT_OR_NONE, "0", "Servers in use at once at most, over all pools; more transactions wait (TG084, TG085); 0: no limit.";
    "waiting_max", COUNT_OR_NONE, "0", "Clients that wait for a server at most, over all pools (TG082, TG083); 0: no limit.";
    "pins_max", COUNT_OR_NONE, "0", "Servers that stay with their clients beyond a transaction at most, over all pools (TG110, TG111); 0: no limit.";
    "idle_pinned_timeout", LONG_OR_NONE, "\"0s\"", "A client may keep a server between its transactions for so long, then its session ends (TG113); \"0s\": no limit.";
    "transaction_timeout", LONG_OR_NONE, "\"0s\"", "A transaction may take so long, then it is rolled back and its session ends (TG086); \"0s\": no limit.";
    "idle_in_transaction_timeout", LONG_OR_NONE, "\"0s\"", "A client may keep a server without asking anything of it for so long, then its session ends (TG087); \"0s\": no limit.";
    "statement_timeout", LONG_OR_NONE, "\"0s\"", "A statement may take so long, then it is cancelled (TG088), whatever the client has set; \"0s\": no limit.";
}

/// `[limits]` and its tables that share their keys.
const LIMITS: &[KeyRow] = &[
    row("limits", Kind::Table, Shown::Header, "What tenants and logins may take of the proxy and its pools."),
    row(
        "limits.fairness",
        Kind::Choice(&["tenants", "off"]),
        Shown::Default("\"tenants\""),
        "tenants: a free server goes to the tenant that has the fewest, and a tenant beyond its share of a pool (its size divided by the tenants active in the last ten seconds) leaves as many free as the others have just needed; a tenant alone may take all. off: first come, first served.",
    ),
    row(
        "limits.client_prepared_statements_max",
        Kind::Number { min: 1, max: 1_000_000 },
        Shown::Default("10000"),
        "Prepared statements one client may keep by name (TG035).",
    ),
    row(
        "limits.client_prepared_statement_bytes_max",
        Kind::Bytes { min: 1024, max: 1 << 30 },
        Shown::Default("\"16MiB\""),
        "Bytes of their texts (TG035).",
    ),
];

const ONE_TENANT: &[KeyRow] = &[
    row(
        "limits.tenants",
        Kind::TableList,
        Shown::Header,
        "Limits of single tenants, over those of [limits.tenant] key by key.",
    ),
    row("limits.tenants.*.tenant", Kind::Text, Shown::Example("\"00000000-0000-0000-0000-00000000000b\""), "Whose."),
];

const TENANT_HEADER: &[KeyRow] = &[row("limits.tenant", Kind::Table, Shown::Header, "Limits of every tenant.")];
const LOGIN_HEADER: &[KeyRow] =
    &[row("limits.login", Kind::Table, Shown::Header, "Limits of every login, all its tenants together.")];
const ONE_LOGIN_HEADER: &[KeyRow] =
    &[row("logins.*.limits", Kind::Table, Shown::Header, "Overrides [limits.login] for this login, key by key.")];

/// Up to `[databases.*.pool]`.
const BEFORE_POOL: &[KeyRow] = &[
    row("listen", Kind::Table, Shown::Header, "Where clients connect, and how many may."),
    row(
        "listen.addresses",
        Kind::TextList,
        Shown::Default("[\"127.0.0.1:6432\"]"),
        "Address and port of each listener; 0.0.0.0 or [::] for all interfaces.",
    ),
    row(
        "listen.unix_folder",
        Kind::Text,
        Shown::Alternative("\"/run/tenantgate\""),
        "Folder of a unix socket for clients on this machine, named .s.PGSQL.<port>; default: none.",
    ),
    row(
        "listen.unix_port",
        Kind::Number { min: 1, max: 65_535 },
        Shown::Alternative("6432"),
        "The number in its name; default: the port of the first address.",
    ),
    row(
        "listen.unix_mode",
        Kind::Text,
        Shown::Default("\"0777\""),
        "Its permissions, in octal: who may write to it may connect.",
    ),
    row("listen.client_connections_max", COUNT, Shown::Default("1000"), "Logged-in clients at most (TG043)."),
    row(
        "listen.login_connections_max",
        COUNT,
        Shown::Default("200"),
        "Connections that have not logged in yet at most (TG043).",
    ),
    row(
        "listen.login_timeout",
        Kind::Duration { min_ms: 1, max_ms: 10 * MINUTE },
        Shown::Default("\"15s\""),
        "From accepting a connection to the end of its login (TG044).",
    ),
    row("tls", Kind::Table, Shown::Header, "TLS towards clients."),
    row(
        "tls.mode",
        Kind::Choice(&["disable", "allow", "prefer", "require"]),
        Shown::Default("\"disable\""),
        "disable: no TLS; allow and prefer: TLS for clients that ask for it; require: clients without TLS are refused (TG042).",
    ),
    row(
        "tls.certificate",
        Kind::Text,
        Shown::Alternative("\"server.crt\""),
        "Certificate chain in PEM, leaf first; relative to this file's folder.",
    ),
    row("tls.key", Kind::Text, Shown::Alternative("\"server.key\""), "The certificate's private key in PEM."),
    row(
        "tls.client_ca",
        Kind::Text,
        Shown::Alternative("\"clients.crt\""),
        "Roots in PEM that vouch for clients' certificates; without it clients are not asked for one.",
    ),
    row(
        "tls.client_crl",
        Kind::Text,
        Shown::Alternative("\"clients.crl\""),
        "Revocation lists in PEM, one for every authority of a chain; an expired list refuses everyone.",
    ),
    row(
        "tls.client_certificates",
        Kind::Choice(&["request", "require"]),
        Shown::Default("\"request\""),
        "With client_ca. request: the rules say who needs a certificate; require: no TLS without one.",
    ),
    row("servers", Kind::Named, Shown::Header, "Server groups: PostgreSQL servers by a name of your choice."),
    row("servers.*", Kind::Table, Shown::Header, "One server group."),
    row(
        "servers.*.host",
        Kind::Text,
        Shown::Example("\"127.0.0.1\""),
        "Host name, IP address, or absolute path of the folder of a unix socket.",
    ),
    row("servers.*.port", Kind::Number { min: 1, max: 65_535 }, Shown::Default("5432"), "Port."),
    row(
        "servers.*.hosts",
        Kind::TextList,
        Shown::Alternative("[\"db1.example.com\", \"db2.example.com:5433\"]"),
        "Several hosts in place of host, each with its port if it is not the group's.",
    ),
    row(
        "servers.*.target_session_attrs",
        Kind::Choice(&["any", "read-write", "read-only", "primary", "standby", "prefer-standby"]),
        Shown::Default("\"any\""),
        "Which of the hosts will do, as in libpq (TG094).",
    ),
    row(
        "servers.*.choice",
        Kind::Choice(&["ordered", "round-robin"]),
        Shown::Default("\"ordered\""),
        "ordered: always the first host that will do; round-robin: each new connection begins with the next host.",
    ),
    row(
        "servers.*.connect_timeout",
        Kind::Duration { min_ms: 1, max_ms: 10 * MINUTE },
        Shown::Default("\"5s\""),
        "For connecting, TLS and logging in together, at each address of each host.",
    ),
    row("servers.*.tls", Kind::Table, Shown::Header, "TLS towards these servers."),
    row(
        "servers.*.tls.mode",
        Kind::Choice(&["disable", "prefer", "require", "verify-ca", "verify-full"]),
        Shown::Example("\"disable\""),
        "Default verify-full; disable for a unix socket. prefer and require verify nothing.",
    ),
    row(
        "servers.*.tls.ca",
        Kind::Text,
        Shown::Alternative("\"root.crt\""),
        "Trusted roots in PEM for verify-ca and verify-full; default: the system's.",
    ),
    row(
        "servers.*.tls.certificate",
        Kind::Text,
        Shown::Alternative("\"proxy.crt\""),
        "Certificate chain in PEM for servers that ask the proxy for one (clientcert, cert in pg_hba.conf).",
    ),
    row("servers.*.tls.key", Kind::Text, Shown::Alternative("\"proxy.key\""), "That certificate's private key in PEM."),
    row(
        "servers.*.tls.negotiation",
        Kind::Choice(&["postgres", "direct"]),
        Shown::Default("\"postgres\""),
        "postgres: ask for TLS first; direct: begin with it, as PostgreSQL 17 and later can.",
    ),
    row(
        "servers.*.tls.channel_binding",
        Kind::Choice(&["disable", "prefer", "require"]),
        Shown::Default("\"prefer\""),
        "Whether logins are bound to the TLS connection (SCRAM-SHA-256-PLUS).",
    ),
    row("roles", Kind::Named, Shown::Header, "Server roles: who the proxy is on a server, by a name of your choice."),
    row(
        "roles.*",
        Kind::Table,
        Shown::Header,
        "One server role. It must not own the tables, be a superuser or have BYPASSRLS.",
    ),
    row("roles.*.user", Kind::Text, Shown::Example("\"app_user\""), "The role's name on the server."),
    row(
        "roles.*.password",
        Kind::Secret,
        Shown::Alternative("\"secret\""),
        "Its password; none of the three forms where the server trusts the proxy.",
    ),
    row(
        "roles.*.password_env",
        Kind::Text,
        Shown::Alternative("\"APP_USER_PASSWORD\""),
        "Environment variable that holds the password.",
    ),
    row(
        "roles.*.password_file",
        Kind::Text,
        Shown::Alternative("\"app_user.password\""),
        "File that holds the password; one trailing newline is dropped.",
    ),
    row(
        "roles.*.auth_allowed",
        Kind::ChoiceList(&["scram-sha-256", "md5", "password", "password-unencrypted"]),
        Shown::Default("[\"scram-sha-256\"]"),
        "Forms in which the password may be proven (TG093); password: as it is, over TLS or a unix socket.",
    ),
    row("databases", Kind::Named, Shown::Header, "Databases by the name clients ask for."),
    row("databases.*", Kind::Table, Shown::Header, "One database."),
    row("databases.*.server", Kind::Text, Shown::Example("\"main\""), "Its server group."),
    row("databases.*.name", Kind::Text, Shown::Alternative("\"demo\""), "Its name on the server; default: the key."),
    row("databases.*.role", Kind::Text, Shown::Example("\"app\""), "Its server role, unless a login says another."),
    row(
        "databases.*.seal",
        Kind::Flag,
        Shown::Default("false"),
        "Whether its policies are sealed (docs/sealed.md): every transaction then shows a ticket.",
    ),
    row(
        "databases.*.seal_key",
        Kind::Secret,
        Shown::Alternative("\"…\""),
        "The key of the tickets, 64 hexadecimal digits; in this or another form with seal = true.",
    ),
    row(
        "databases.*.seal_key_env",
        Kind::Text,
        Shown::Alternative("\"TENANTGATE_SEAL_KEY\""),
        "An environment variable with the key.",
    ),
    row(
        "databases.*.seal_key_file",
        Kind::Text,
        Shown::Alternative("\"/etc/tenantgate/seal.key\""),
        "A file with the key.",
    ),
    row("databases.*.pool", Kind::Table, Shown::Header, "Overrides [pool] for this database, key by key."),
];

/// From `[scope]` to `[logins]`.
const AFTER_POOL: &[KeyRow] = &[
    row("scope", Kind::Table, Shown::Header, "How a tenant is put on a server."),
    row(
        "scope.tenant_type",
        Kind::Choice(&["uuid", "text"]),
        Shown::Default("\"uuid\""),
        "What tenants look like; text is up to 200 bytes of printable UTF-8, compared byte by byte.",
    ),
    row(
        "scope.lifetime",
        Kind::Choice(&["transaction", "lease"]),
        Shown::Default("\"transaction\""),
        "How long a tenant stays on a server: for one transaction, or (lease) until another tenant's client gets the server; see docs/tuning.md.",
    ),
    row(
        "scope.settings",
        Kind::Named,
        Shown::Header,
        "What is set in every transaction; default: \"app.tenant_id\" = \"{tenant}\".",
    ),
    row(
        "scope.settings.*",
        Kind::Text,
        Shown::Example("\"{tenant}\""),
        "A custom setting (prefix.name), or search_path for a schema per tenant (routing, not isolation), and its value with {tenant} in it.",
    ),
    row("logins", Kind::Named, Shown::Header, "Logins: identities clients may authenticate as, by user name."),
    row("logins.*", Kind::Table, Shown::Header, "One login. It needs exactly one of the four secrets."),
    row("logins.*.password", Kind::Secret, Shown::Example("\"secret\""), "Its password."),
    row(
        "logins.*.password_env",
        Kind::Text,
        Shown::Alternative("\"LOGIN_PASSWORD\""),
        "Environment variable that holds the password.",
    ),
    row(
        "logins.*.password_file",
        Kind::Text,
        Shown::Alternative("\"login.password\""),
        "File that holds the password; one trailing newline is dropped.",
    ),
    row(
        "logins.*.scram",
        Kind::Secret,
        Shown::Alternative("\"SCRAM-SHA-256$4096:…\""),
        "SCRAM verifier as in pg_authid.rolpassword, in place of the password.",
    ),
    row(
        "logins.*.databases",
        Kind::TextList,
        Shown::Alternative("[\"demo\"]"),
        "Databases it may ask for; default: all.",
    ),
    row("logins.*.role", Kind::Text, Shown::Alternative("\"app\""), "Server role in place of the database's."),
    row(
        "logins.*.preset",
        Kind::Choice(&["tenant", "application", "migration", "bypass", "console"]),
        Shown::Default("\"tenant\""),
        "What it may do. application: trusted code for all tenants, with EXPLAIN, NOTIFY and session state too; migration: data definition too; bypass: every row, without a tenant. The last two need a role of their own and a [ledger]; every transaction of theirs is recorded. console: no database at all, only the console ([console]).",
    ),
    row(
        "logins.*.pool_mode",
        Kind::Choice(&["transaction", "session"]),
        Shown::Default("\"transaction\""),
        "When a server goes to the next client: when its transaction is over, or when its client leaves. Transactions are scoped the same way.",
    ),
    row(
        "logins.*.session_state",
        Kind::Choice(&["refuse", "pin"]),
        Shown::Alternative("\"pin\""),
        "Statements that leave something in a server's session (temporary tables, LISTEN, cursors WITH HOLD, PREPARE, advisory locks): refused (TG017), or the server stays with its client until that is gone; default: pin for preset application, else refuse.",
    ),
    row(
        "logins.*.emergencies",
        Kind::Choice(&["allowed", "only", "never"]),
        Shown::Default("\"allowed\""),
        "Whether tenantgate emergency lifts the rules of a bypass login for a while. only: without one it bypasses nothing (TG175).",
    ),
    row(
        "logins.*.claims",
        Kind::Choice(&["none", "transaction", "session"]),
        Shown::Default("\"none\""),
        "Whether its clients name their tenant by SQL (docs/claims.md): of one transaction (SET LOCAL, set_config(…, true)), or of the session, too (SET, set_config(…, false)). Which tenants: as tenant says, where from may be left out. Not with scope.lifetime = \"lease\".",
    ),
    row(
        "logins.*.claimed_bypass",
        Kind::Table,
        Shown::Header,
        "That a transaction of its may claim a bypass (docs/claims.md), recorded from there on; off unless a setting is given. Weaker than a login with preset = \"bypass\": it has the tenants' role.",
    ),
    row(
        "logins.*.claimed_bypass.setting",
        Kind::Text,
        Shown::Alternative("\"app.bypass_rls\""),
        "The custom setting (prefix.name) by which it does, and which policies look at. Nobody else may set it (TG011).",
    ),
    row(
        "logins.*.claimed_bypass.value",
        Kind::Text,
        Shown::Default("\"true\""),
        "The value that stands for a bypass. '', 'false', 'off', 'no' and '0' stand for none, every other is refused (TG135).",
    ),
    row(
        "logins.*.claimed_bypass.reason",
        Kind::Text,
        Shown::Alternative("\"nightly report\""),
        "The reason that every record gets; default: the client gives it (SET tenantgate.reason), and is refused without (TG060).",
    ),
    row("logins.*.guard", Kind::Table, Shown::Header, "What this login may do beside its preset, and what not."),
    row(
        "logins.*.guard.settings_allowed",
        Kind::TextList,
        Shown::Default("[]"),
        "Settings clients may SET for themselves (TG013), for this login beside those of [guard].",
    ),
    row(
        "logins.*.guard.functions_allowed",
        Kind::TextList,
        Shown::Default("[]"),
        "Functions clients may call (TG015), for this login beside those of [guard].",
    ),
    row(
        "logins.*.guard.settings_denied",
        Kind::TextList,
        Shown::Default("[]"),
        "Settings clients may not SET (TG140), whatever allows them, for this login beside those of [guard].",
    ),
    row(
        "logins.*.guard.functions_denied",
        Kind::TextList,
        Shown::Default("[]"),
        "Functions clients may not call (TG140), with or without schema, whatever allows them, for this login beside those of [guard]: the database's own that run strings, say.",
    ),
    row(
        "logins.*.guard.statements_allowed",
        Kind::TextList,
        Shown::Default("[]"),
        "Classes of statements allowed beside those of the preset, for this login beside those of [guard]: of explain, notify, lock, truncate, maintenance, refresh.",
    ),
    row(
        "logins.*.guard.statements_denied",
        Kind::TextList,
        Shown::Default("[]"),
        "Classes of statements refused (TG140), whatever allows them, for this login beside those of [guard], as tenantgate explain names them; insert, update, delete and merge also where they stand inside of another statement.",
    ),
    row(
        "logins.*.guard.definitions_allowed",
        Kind::TextList,
        Shown::Default("[]"),
        "Definitions that logins of preset migration may make beside what they may anyway, for this login beside those of [guard]: owner_views (views that read with their owner's rights), partitions (PARTITION OF). tenantgate check tells which of them show rows of other tenants.",
    ),
    row(
        "logins.*.guard.mode",
        Kind::Choice(&["enforce", "observe"]),
        Shown::Alternative("\"observe\""),
        "The same for this login alone; default: that of [guard].",
    ),
    row("logins.*.tenant", Kind::Table, Shown::Header, "Its tenant: either fixed or from."),
    row(
        "logins.*.tenant.fixed",
        Kind::Text,
        Shown::Alternative("\"00000000-0000-0000-0000-00000000000a\""),
        "The one tenant of this login.",
    ),
    row(
        "logins.*.tenant.from",
        Kind::ChoiceList(&["suffix", "startup"]),
        Shown::Example("[\"suffix\", \"startup\"]"),
        "Where the client names its tenant: user name suffix, startup parameter or options; the first that is there decides.",
    ),
    row("logins.*.tenant.separator", Kind::Text, Shown::Default("\".\""), "Between login and tenant in the user name."),
    row(
        "logins.*.tenant.allowed",
        Kind::Tenants,
        Shown::Default("\"any\""),
        "Tenants it may act for (TG003): \"any\", a list, or { pattern = \"acme-*\" }.",
    ),
];

/// From `[bypass]` on.
const AFTER_LOGINS: &[KeyRow] = &[
    row("bypass", Kind::Table, Shown::Header, "What logins with preset = \"bypass\" get beside their role."),
    row(
        "bypass.reason_chars_min",
        Kind::Number { min: 1, max: 200 },
        Shown::Default("8"),
        "Least visible characters of a bypass's reason (TG061); above 1 one that repeats a single character is refused, too.",
    ),
    row(
        "bypass.emergency_max",
        Kind::Duration { min_ms: 1_000, max_ms: 7 * DAY },
        Shown::Default("\"4h\""),
        "Longest time for which tenantgate emergency can be given.",
    ),
    row(
        "bypass.settings",
        Kind::Named,
        Shown::Header,
        "Settings put on each of their transactions, for policies that look at one; weaker than policies for their role.",
    ),
    row(
        "bypass.settings.*",
        Kind::Text,
        Shown::Example("\"true\""),
        "A custom setting (prefix.name) and its plain value.",
    ),
    row(
        "bypass.rules",
        Kind::TableList,
        Shown::Header,
        "What a bypass login may do for which reason: the first rule of its that fits the reason counts, none that fits: refused (TG175); a login without any rule is not limited.",
    ),
    row("bypass.rules.*.login", Kind::Text, Shown::Default("\"*\""), "A bypass login, or * for all."),
    row(
        "bypass.rules.*.reason",
        Kind::Text,
        Shown::Alternative("\"incident .*\""),
        "A regular expression that fits the whole reason; default: every reason.",
    ),
    row(
        "bypass.rules.*.databases",
        Kind::TextList,
        Shown::Alternative("[\"demo\"]"),
        "Databases, as clients name them (TG176); default: all.",
    ),
    row(
        "bypass.rules.*.tables",
        Kind::TextList,
        Shown::Alternative("[\"public.orders\", \"support.*\"]"),
        "Tables that statements may name (TG177): schema.table, schema.*, or a name alone for statements that give no schema; default: all.",
    ),
    row("bypass.rules.*.read_only", Kind::Flag, Shown::Default("false"), "Nothing may be written (TG178)."),
    row(
        "bypass.rules.*.duration",
        LONG,
        Shown::Alternative("\"5m\""),
        "Longest time of a transaction (TG179); default: that of [limits].",
    ),
    row(
        "bypass.rules.*.rows",
        Kind::Number { min: 0, max: ROWS_MAX },
        Shown::Alternative("1000"),
        "Most rows that a transaction delivers and writes together (TG179).",
    ),
    row("bypass.rules.*.statements", COUNT, Shown::Alternative("20"), "Most statements of a transaction (TG179)."),
    row(
        "bypass.rules.*.expires",
        Kind::Text,
        Shown::Alternative("\"2030-12-31\""),
        "Last day (UTC), or a time like 2030-12-31T18:00:00Z (TG176).",
    ),
    row(
        "bypass.rules.*.ticket",
        Kind::Text,
        Shown::Alternative("\"OPS-[0-9]+\""),
        "A regular expression for a ticket that the reason has to name (TG176).",
    ),
    row(
        "bypass.rules.*.addresses",
        Kind::TextList,
        Shown::Alternative("[\"10.0.0.0/8\", \"local\"]"),
        "Where the client has to be (TG176): blocks of addresses, or local for unix sockets.",
    ),
    row(
        "bypass.rules.*.hours",
        Kind::TextList,
        Shown::Alternative("[\"Mon-Fri 08:00-18:00\"]"),
        "When, in UTC (TG176); a transaction that runs into their end is ended (TG179).",
    ),
    row("ledger", Kind::Table, Shown::Header, "The record of every transaction of bypass and migration logins."),
    row(
        "ledger.path",
        Kind::Text,
        Shown::Default("\"ledger.jsonl\""),
        "Its file, JSON Lines, mode 0600; relative to this file's folder. While it cannot be written, those logins are refused (TG062).",
    ),
    row(
        "ledger.node",
        Kind::Text,
        Shown::Alternative("\"proxy-1\""),
        "What this proxy is called in records. Default: the machine's host name.",
    ),
    row(
        "ledger.write_timeout",
        LONG,
        Shown::Default("\"10s\""),
        "How long a transaction waits for one of its records. What then is not on the disk is refused (TG062), and a COMMIT that waited for it is rolled back.",
    ),
    row(
        "ledger.group_commit",
        Kind::Flag,
        Shown::Default("true"),
        "Records that wait together share one fdatasync. false: each has its own, to measure what that costs.",
    ),
    row(
        "ledger.parameter_key_file",
        Kind::Text,
        Shown::Alternative("\"parameters.key\""),
        "A file of 32 to 1024 bytes. With one, values bound to parameters are recorded as digests under it; without one not at all.",
    ),
    row(
        "ledger.signing_key_file",
        Kind::Text,
        Shown::Alternative("\"ledger.key\""),
        "The key that signs checkpoints, from tenantgate ledger keygen. Without one records are chained, but whoever can write the file can chain them anew.",
    ),
    row(
        "ledger.checkpoint_records",
        Kind::Number { min: 1, max: 1_000_000 },
        Shown::Default("1000"),
        "A checkpoint is signed after this many records at the latest.",
    ),
    row(
        "ledger.checkpoint_interval",
        LONG,
        Shown::Default("\"1m\""),
        "A checkpoint is signed when the oldest record without one is this old.",
    ),
    row(
        "ledger.heartbeat_interval",
        LONG,
        Shown::Default("\"5m\""),
        "After this time without a record one is written that says that the proxy lives, and signed; only with a signing key.",
    ),
    row(
        "ledger.rotate_bytes",
        Kind::Bytes { min: 0, max: 1 << 40 },
        Shown::Default("0"),
        "A file of this size is renamed to <path>.<number of its last record> and a new one begun, which goes on with the chain. 0: never.",
    ),
    row(
        "ledger.compress",
        Kind::Choice(&["none", "gzip"]),
        Shown::Default("\"none\""),
        "gzip: closed files are compressed, in the background, to <name>.gz; all commands and the review page read them (docs/ledger.md).",
    ),
    row(
        "rules",
        Kind::TableList,
        Shown::Header,
        "Who may log in how: the first rule that fits decides. No rules at all: scram-sha-256 for everyone; rules, but none that fits: refused (TG041).",
    ),
    row("rules.*.login", Kind::Text, Shown::Default("\"*\""), "A login, or * for all."),
    row("rules.*.database", Kind::Text, Shown::Default("\"*\""), "A database, or * for all."),
    row(
        "rules.*.address",
        Kind::Text,
        Shown::Default("\"*\""),
        "Client address or network (10.0.0.0/8), local for unix sockets, or * for all.",
    ),
    row(
        "rules.*.tls",
        Kind::Choice(&["any", "required"]),
        Shown::Default("\"any\""),
        "required: fits connections with TLS only.",
    ),
    row(
        "rules.*.method",
        Kind::Choice(&["scram-sha-256", "cert", "trust", "reject"]),
        Shown::Example("\"scram-sha-256\""),
        "What happens: password check, a certificate made out to the login in its place, in without a password, or refused.",
    ),
    row(
        "rules.*.certificate",
        Kind::Choice(&["none", "verify-ca", "verify-full"]),
        Shown::Default("\"none\""),
        "Beside the method: verify-ca: a certificate that tls.client_ca vouches for (TG090); verify-full: made out to the login, too (TG091).",
    ),
    row("guard", Kind::Table, Shown::Header, "What SQL is allowed beside the built-in lists."),
    row(
        "guard.settings_allowed",
        Kind::TextList,
        Shown::Default("[]"),
        "Settings clients may SET for themselves (TG013), beside those that only change formats, time-outs and what the planner believes.",
    ),
    row(
        "guard.functions_allowed",
        Kind::TextList,
        Shown::Default("[]"),
        "Functions clients may call (TG015), with or without schema.",
    ),
    row(
        "guard.settings_denied",
        Kind::TextList,
        Shown::Default("[]"),
        "Settings clients may not SET (TG140), whatever allows them.",
    ),
    row(
        "guard.functions_denied",
        Kind::TextList,
        Shown::Default("[]"),
        "Functions clients may not call (TG140), with or without schema, whatever allows them: the database's own that run strings, say.",
    ),
    row(
        "guard.statements_allowed",
        Kind::TextList,
        Shown::Default("[]"),
        "Classes of statements allowed beside those of the preset: of explain, notify, lock, truncate, maintenance, refresh.",
    ),
    row(
        "guard.statements_denied",
        Kind::TextList,
        Shown::Default("[]"),
        "Classes of statements refused (TG140), whatever allows them, as tenantgate explain names them; insert, update, delete and merge also where they stand inside of another statement.",
    ),
    row(
        "guard.definitions_allowed",
        Kind::TextList,
        Shown::Default("[]"),
        "Definitions that logins of preset migration may make beside what they may anyway: owner_views (views that read with their owner's rights), partitions (PARTITION OF). tenantgate check tells which of them show rows of other tenants.",
    ),
    row(
        "guard.mode",
        Kind::Choice(&["enforce", "observe"]),
        Shown::Default("\"enforce\""),
        "observe: most refusals of the guard are only counted (SHOW OBSERVED, docs/tuning.md), for finding out what an application sends. There is no protection against hostile SQL meanwhile.",
    ),
    row(
        "guard.text_bytes_max",
        Kind::Bytes { min: 1024, max: TEXT_BYTES_MAX },
        Shown::Default("65536"),
        "Longest statement that is parsed (TG022).",
    ),
    row(
        "guard.startup_parameters_ignored",
        Kind::TextList,
        Shown::Default("[]"),
        "Startup parameters that are accepted and dropped (TG046).",
    ),
    row(
        "check",
        Kind::Table,
        Shown::Header,
        "What tenantgate check looks at, and what serve does about it (docs/check.md).",
    ),
    row(
        "check.inspector",
        Kind::Text,
        Shown::Alternative("\"inspector\""),
        "The server role that looks, one of [roles.*]; without it each database's own role does.",
    ),
    row(
        "check.tenant_columns",
        Kind::TextList,
        Shown::Default("[\"tenant_id\", \"tenantId\"]"),
        "Columns that hold a tenant, beside those that policies compare with the scope settings.",
    ),
    row(
        "check.on_gap",
        Kind::Choice(&["off", "warn", "refuse"]),
        Shown::Default("\"off\""),
        "What serve does at start-up and RELOAD where tenant tables are not covered or a finding is critical: nothing, a warning, or not start.",
    ),
    row(
        "check.uncovered_tables",
        Kind::Choice(&["allow", "refuse"]),
        Shown::Default("\"allow\""),
        "Whether logins other than bypass logins may use tables that hold tenants' rows without policies (TG150).",
    ),
    row(
        "check.executors",
        Kind::Choice(&["allow", "refuse"]),
        Shown::Default("\"allow\""),
        "Whether they may call functions of the database that run strings as SQL or are SECURITY DEFINER (TG151).",
    ),
    row(
        "check.exceptions",
        Kind::Text,
        Shown::Alternative("\"exceptions.toml\""),
        "A file of justified exceptions, relative to this one.",
    ),
    row(
        "check.probe_tenants",
        Kind::TextList,
        Shown::Alternative("[\"00000000-0000-4000-8000-00000000000a\", \"00000000-0000-4000-8000-00000000000b\"]"),
        "Two tenants for tenantgate check --probe that are nobody's.",
    ),
    row("log", Kind::Table, Shown::Header, "Logging, to standard error."),
    row(
        "log.format",
        Kind::Choice(&["text", "json"]),
        Shown::Default("\"text\""),
        "For people, or one JSON object a line.",
    ),
    row(
        "log.level",
        Kind::Choice(&["error", "warn", "info", "debug", "trace"]),
        Shown::Default("\"info\""),
        "What is logged; the environment variable RUST_LOG overrides it.",
    ),
    row(
        "metrics",
        Kind::Table,
        Shown::Header,
        "Metrics and health over HTTP: /metrics, /healthz, /readyz (docs/metrics.md).",
    ),
    row(
        "metrics.address",
        Kind::Text,
        Shown::Alternative("\"127.0.0.1:9127\""),
        "Where; default: nowhere. There is no password and no TLS, so anything but this machine is warned of.",
    ),
    row(
        "metrics.tenants_max",
        Kind::Number { min: 0, max: TENANTS_SHOWN_MAX },
        Shown::Default("100"),
        "Tenants with series of their own, the busiest; the others share one.",
    ),
    row(
        "review",
        Kind::Table,
        Shown::Header,
        "The review page: the ledger in a browser, for reviewers with a password of their own (docs/review.md). Needs a [ledger].",
    ),
    row(
        "review.address",
        Kind::Text,
        Shown::Alternative("\"127.0.0.1:9128\""),
        "Where; default: nowhere. It has no TLS of its own: on another address than this machine's it needs an origin with https.",
    ),
    row(
        "review.origin",
        Kind::Text,
        Shown::Alternative("\"https://review.example.com\""),
        "What browsers see where a proxy stands in front of it. Forms count only from there; with https the cookie never goes without TLS.",
    ),
    row(
        "review.idle_timeout",
        LONG,
        Shown::Default("\"30m\""),
        "A reviewer who has asked for nothing so long logs in again; after 12 hours in any case.",
    ),
    row("review.reviewers", Kind::Named, Shown::Header, "Reviewers, by the name that stands in their marks."),
    row("review.reviewers.*", Kind::Table, Shown::Header, "One reviewer. It needs exactly one of the four secrets."),
    row("review.reviewers.*.password", Kind::Secret, Shown::Example("\"secret\""), "The password."),
    row(
        "review.reviewers.*.password_env",
        Kind::Text,
        Shown::Alternative("\"REVIEWER_PASSWORD\""),
        "Environment variable that holds the password.",
    ),
    row(
        "review.reviewers.*.password_file",
        Kind::Text,
        Shown::Alternative("\"reviewer.password\""),
        "File that holds the password; one trailing newline is dropped.",
    ),
    row(
        "review.reviewers.*.scram",
        Kind::Secret,
        Shown::Alternative("\"SCRAM-SHA-256$4096:…\""),
        "SCRAM verifier as in pg_authid.rolpassword, in place of the password.",
    ),
    row(
        "console",
        Kind::Table,
        Shown::Header,
        "The console, on the databases tenantgate and pgbouncer (docs/console.md); without a login here there is none.",
    ),
    row("console.admins", Kind::TextList, Shown::Default("[]"), "Logins that may give every command."),
    row("console.stats", Kind::TextList, Shown::Default("[]"), "Logins that may look (SHOW) and nothing else (TG101)."),
    row("runtime", Kind::Table, Shown::Header, "Threads and shutdown."),
    row(
        "runtime.threads",
        Kind::Number { min: 1, max: 1024 },
        Shown::Alternative("2"),
        "Worker threads; default: half the number of CPUs.",
    ),
    row("runtime.shutdown_timeout", LONG, Shown::Default("\"30s\""), "SIGTERM lets transactions finish for so long."),
    row("state", Kind::Table, Shown::Header, "What has to survive a restart."),
    row(
        "state.folder",
        Kind::Text,
        Shown::Alternative("\"/var/lib/tenantgate\""),
        "Folder that the proxy may write to: it keeps which tenants are frozen. Without it FREEZE is refused (TG075).",
    ),
];

/// Every key, tables before their keys, in the order of the reference configuration.
pub fn rows() -> impl Iterator<Item = &'static KeyRow> {
    let limits = [LIMITS, TENANT_HEADER, TENANT_LIMITS, LOGIN_HEADER, LOGIN_LIMITS, ONE_TENANT, ONE_TENANT_LIMITS];
    let before = [BEFORE_POOL, DATABASE_POOL, POOL, AFTER_POOL, ONE_LOGIN_HEADER, ONE_LOGIN_LIMITS, AFTER_LOGINS];
    before.into_iter().chain(limits).flatten()
}

/// The row of a path pattern.
#[must_use]
pub fn find(pattern: &str) -> Option<&'static KeyRow> {
    rows().find(|row| row.path == pattern)
}

/// The rows directly below a path pattern (`""`: the whole file).
pub fn children(pattern: &str) -> impl Iterator<Item = (&'static str, &'static KeyRow)> {
    rows().filter_map(move |row| {
        let (parent, name) = row.path.rsplit_once('.').unwrap_or(("", row.path));
        (parent == pattern && name != "*").then_some((name, row))
    })
}

impl Kind {
    /// The type in words, for documentation and problems.
    #[must_use]
    pub fn words(self) -> String {
        match self {
            Kind::Table => "a table".to_owned(),
            Kind::Named => "a table".to_owned(),
            Kind::TableList => "a list of tables".to_owned(),
            Kind::Text | Kind::Secret => "text".to_owned(),
            Kind::Choice(words) => format!("one of {}", words.join(", ")),
            Kind::Number { min, max } => format!("a whole number from {min} to {max}"),
            Kind::Bytes { min, max } => format!("a number of bytes from {min} to {max}, or text like \"64KiB\""),
            Kind::Duration { .. } => "a duration like \"250ms\", \"15s\", \"10m\" or \"1h\"".to_owned(),
            Kind::Flag => "true or false".to_owned(),
            Kind::TextList => "a list of texts".to_owned(),
            Kind::ChoiceList(words) => format!("a list of some of {}", words.join(", ")),
            Kind::Tenants => "\"any\", a list of tenants, or { pattern = \"…\" }".to_owned(),
        }
    }
}

/// Names that stand for `*` in the reference configuration.
fn example_path(pattern: &str) -> String {
    let name = match pattern.split('.').next() {
        Some("servers") => "main",
        Some("roles") => "app",
        Some("databases") => "demo",
        Some("logins") => "app_user",
        Some("bypass") => "\"app.bypass_rls\"",
        _ => "\"app.tenant_id\"",
    };
    pattern.replace('*', name)
}

/// The text of `config/reference.toml`.
#[must_use]
pub fn render_toml() -> String {
    let mut text = String::from(
        "# Every key of TenantGate's configuration. Keys with a default are commented out and show it;\n\
         # alternatives are commented out too. Printed from src/config/reference.rs; a test compares the two.\n",
    );
    for row in rows() {
        render_toml_row(&mut text, row);
    }
    text
}

/// Whether a table of the operator's own names holds values, not tables.
fn is_of_values(path: &str) -> bool {
    matches!(path, "scope.settings" | "bypass.settings")
}

fn render_toml_row(text: &mut String, row: &KeyRow) {
    let path = example_path(row.path);
    let key = match row.path {
        "scope.settings.*" => "\"app.tenant_id\"",
        "bypass.settings.*" => "\"app.bypass_rls\"",
        _ => path.rsplit('.').next().unwrap_or(""),
    };
    text.push_str(&match (row.kind, row.shown) {
        (Kind::Named, _) if !is_of_values(row.path) => format!("\n# {}\n", row.meaning),
        (Kind::Table | Kind::Named, _) => format!("\n# {}\n[{path}]\n", row.meaning),
        (Kind::TableList, _) => format!("\n# {}\n[[{path}]]\n", row.meaning),
        (_, Shown::Example(value)) => format!("# {}\n{key} = {value}\n", row.meaning),
        (_, Shown::Default(value) | Shown::Alternative(value)) => format!("# {}\n# {key} = {value}\n", row.meaning),
        (_, Shown::Header) => String::new(),
    });
}

/// The text of `docs/configuration.md`.
#[must_use]
pub fn render_markdown() -> String {
    let mut text = String::from(
        "# Configuration\n\n\
         One TOML file. `tenantgate check-config FILE` reports every problem at once, with key path and line; exit\n\
         status 0: usable, 1: problems, 2: the file cannot be read. Paths in it are relative to the file's folder.\n\
         `*` stands for a name of your choice (in `rules`: for each rule). This page is printed from\n\
         `src/config/reference.rs`; `config/reference.toml` shows the same keys as a file.\n\n\
         Durations are texts like `\"250ms\"`, `\"15s\"`, `\"1h30m\"`; sizes are numbers of bytes or texts like `\"64KiB\"`.\n",
    );
    for row in rows() {
        text.push_str(&match (row.kind, row.shown) {
            (Kind::Table | Kind::Named | Kind::TableList, _) => markdown_header(row),
            (_, Shown::Default(value)) => markdown_key(row, &format!("`{value}`")),
            (_, Shown::Example(_) | Shown::Alternative(_) | Shown::Header) => markdown_key(row, "–"),
        });
    }
    text
}

fn markdown_header(row: &KeyRow) -> String {
    let has_keys = children(row.path).any(|(_, child)| !matches!(child.kind, Kind::Table | Kind::Named))
        || row.kind == Kind::TableList
        || is_of_values(row.path);
    let columns = if has_keys { "\n| key | type | default | meaning |\n|---|---|---|---|\n" } else { "" };
    format!("\n## `{}`\n\n{}\n{columns}", row.path, row.meaning)
}

fn markdown_key(row: &KeyRow, default: &str) -> String {
    format!("| `{}` | {} | {default} | {} |\n", row.path, row.kind.words(), row.meaning.replace('|', "\\|"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_unique_and_every_key_has_its_table_before_it() {
        let mut seen = std::collections::BTreeSet::new();
        for row in rows() {
            if let Some((parent, _)) = row.path.rsplit_once('.') {
                let listed = parent.ends_with('*') || seen.contains(parent);
                assert!(listed, "{} has no table", row.path);
            }
            assert!(seen.insert(row.path), "{} twice", row.path);
            assert!(row.meaning.ends_with('.'), "{}", row.path);
        }
    }
}
