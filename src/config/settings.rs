//! A configuration as ready values: what these types hold has been checked, so nobody checks again.
//!
//! Owns: the settings that belong to no domain folder; those of a domain are its own types, built here. Does not own: keys, their spelling or defaults.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use secrecy::{ExposeSecret as _, SecretString};

use crate::audit::{ParameterKey, SigningKey};
use crate::auth::scram::Verifier;
use crate::auth::{Access, DatabaseList, Rules};
use crate::bypass::Rule;
pub use crate::check::{CheckSettings, OnGap};
use crate::guard::{Gaps, Keeping, Lists, Mode, PolicySettings, Preset};
use crate::metrics::MetricsSettings;
use crate::pool::{Limits, PoolLimits};
use crate::scope::SealKey;
pub use crate::scope::{Lifetime, ScopeTemplate};
use crate::tenant::{ClaimedBypass, Glob, TenantKind, TenantPolicy};
use crate::upstream::StatementLimits;
use crate::upstream::hosts::{HostChoice, SessionAttributes};
use crate::upstream::login::{AllowedMethods, BindingPolicy};

/// A whole configuration. References between its parts hold: every `server`, `role` and database named
/// anywhere is present in its map.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients connect.
    pub listen: ListenSettings,
    /// TLS towards clients.
    pub tls: ClientTls,
    /// Server groups by name.
    pub servers: BTreeMap<Arc<str>, ServerGroup>,
    /// Server roles by name.
    pub roles: BTreeMap<Arc<str>, ServerRole>,
    /// What clients may ask for, by the name they use.
    pub databases: BTreeMap<Arc<str>, DatabaseEntry>,
    /// How a tenant is put on a server.
    pub scope: ScopeSettings,
    /// Who may log in, by login name.
    pub logins: BTreeMap<Arc<str>, LoginEntry>,
    /// Who may log in from where, and how.
    pub rules: Rules,
    /// What the guard allows beside its built-in lists.
    pub guard: GuardSettings,
    /// Where transactions of bypass and migration logins are recorded.
    pub ledger: Option<LedgerSettings>,
    /// The first 16 bytes of the SHA-256 of its text, in hexadecimal.
    pub digest: Arc<str>,
    /// What bypass logins get.
    pub bypass: BypassSettings,
    /// What is looked at in databases.
    pub check: CheckSettings,
    /// What that has found, by database: not from the file, but from the servers.
    pub gaps: BTreeMap<Arc<str>, Arc<Gaps>>,
    /// What tenants and logins may take.
    pub limits: Limits,
    /// Prepared statements that one client may keep.
    pub client_statements: StatementLimits,
    /// Logging.
    pub log: LogSettings,
    /// Metrics and health over HTTP.
    pub metrics: HttpSettings,
    /// The review page.
    pub review: ReviewSettings,
    /// Who may enter the console.
    pub console: ConsoleSettings,
    /// Threads and shutdown.
    pub runtime: RuntimeSettings,
    /// Where what has to survive a restart is kept: which tenants are frozen.
    pub state_folder: Option<PathBuf>,
    /// The same for people: every key with its value in force.
    pub shown: Vec<ShownKey>,
}

/// A key and its value, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownKey {
    /// Dotted path in the file.
    pub path: String,
    /// The reference table's row.
    pub pattern: &'static str,
    /// Its value in force; `<masked>` for secrets.
    pub value: String,
    /// Its default; empty where it has none.
    pub default: String,
}

/// Metrics and health over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpSettings {
    /// Where; `None`: nowhere.
    pub address: Option<SocketAddr>,
    /// What is counted by itself.
    pub counted: MetricsSettings,
}

/// The review page.
#[derive(Clone, Debug, Default)]
pub struct ReviewSettings {
    /// Where; `None`: nowhere.
    pub address: Option<SocketAddr>,
    /// What browsers see: scheme, host and port.
    pub origin: Option<String>,
    /// After such a time without a request a session ends.
    pub idle_timeout: Duration,
    /// Who may see it, and what their passwords are checked against.
    pub reviewers: BTreeMap<Arc<str>, LoginSecret>,
}

/// Who may enter the console: keys of [`Config::logins`], none of them in both sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsoleSettings {
    /// Who may give every command.
    pub admins: BTreeSet<Arc<str>>,
    /// Who may look.
    pub stats: BTreeSet<Arc<str>>,
}

impl ConsoleSettings {
    /// What a login may do; `None`: not even enter.
    #[must_use]
    pub fn right_of(&self, login: &str) -> Option<ConsoleRight> {
        if self.admins.contains(login) {
            Some(ConsoleRight::Admin)
        } else {
            self.stats.contains(login).then_some(ConsoleRight::Stats)
        }
    }
}

/// What a login may do on the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConsoleRight {
    /// Look.
    Stats,
    /// Everything.
    Admin,
}

/// Where clients connect and how many may.
#[derive(Clone, Debug)]
pub struct ListenSettings {
    /// No two overlap. Empty only where there is a unix socket.
    pub addresses: Vec<SocketAddr>,
    /// A socket for clients on this machine.
    pub unix: Option<UnixSocketSettings>,
    /// Logged-in clients at most.
    pub client_connections_max: usize,
    /// Connections that have not logged in yet at most.
    pub login_connections_max: usize,
    /// From accept to the end of login.
    pub login_timeout: Duration,
}

/// A unix socket for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixSocketSettings {
    /// The socket file, named as clients look for it: `.s.PGSQL.<port>` in its folder.
    pub path: PathBuf,
    /// Its permissions; who may write to it may connect.
    pub mode: u32,
}

/// TLS towards clients. The modes that offer TLS have an identity.
#[derive(Clone, Debug)]
pub enum ClientTls {
    /// SSLRequest is answered with `N`.
    Disable,
    /// TLS for clients that ask for it. `allow` and `prefer` are the same on the server's side.
    Offer(ClientTlsSettings),
    /// Clients without TLS are refused, but for those on a unix socket.
    Require(ClientTlsSettings),
}

impl ClientTls {
    /// Whose certificates clients may show, if they may any.
    #[must_use]
    pub const fn authority(&self) -> Option<&ClientAuthority> {
        match self {
            ClientTls::Disable => None,
            ClientTls::Offer(settings) | ClientTls::Require(settings) => settings.authority.as_ref(),
        }
    }
}

/// What TLS towards clients is made of.
#[derive(Clone, Debug)]
pub struct ClientTlsSettings {
    /// What clients are shown.
    pub identity: TlsIdentity,
    /// Whose certificates clients may show; without it they are not asked for any.
    pub authority: Option<ClientAuthority>,
}

/// Who vouches for clients.
#[derive(Clone, Debug)]
pub struct ClientAuthority {
    /// Trusted roots (at least one).
    pub roots: Vec<CertificateDer<'static>>,
    /// Lists of certificates that have been revoked; none: nothing is looked up.
    pub revocations: Vec<CertificateRevocationListDer<'static>>,
    /// No TLS without a certificate, whatever the rules say.
    pub is_required: bool,
}

impl ClientAuthority {
    /// Whether it vouches for the same certificates.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.roots == other.roots && self.revocations == other.revocations
    }
}

/// A certificate chain and its private key.
#[derive(Clone)]
pub struct TlsIdentity {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key.
    pub key: Arc<PrivateKeyDer<'static>>,
}

impl PartialEq for TlsIdentity {
    fn eq(&self, other: &Self) -> bool {
        self.chain == other.chain && self.key.secret_der() == other.key.secret_der()
    }
}

impl Eq for TlsIdentity {}

/// Says how long the chain is and nothing of the key.
impl std::fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsIdentity").field("certificates", &self.chain.len()).finish_non_exhaustive()
    }
}

/// PostgreSQL servers that are the same to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerGroup {
    /// Where they are (at least one, none twice).
    pub hosts: Vec<ServerAddress>,
    /// Which of them will do.
    pub session_attributes: SessionAttributes,
    /// Where a search begins.
    pub choice: HostChoice,
    /// For TCP, TLS and login together, at each address.
    pub connect_timeout: Duration,
    /// TLS towards them.
    pub tls: ServerTls,
    /// How TLS begins.
    pub negotiation: TlsNegotiation,
    /// Whether logins are bound to TLS.
    pub channel_binding: BindingPolicy,
    /// What servers are shown that ask for a certificate.
    pub identity: Option<TlsIdentity>,
}

/// One host of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAddress {
    /// Where it is.
    pub host: ServerHost,
    /// TCP port, or the number in the unix socket's file name.
    pub port: u16,
}

impl std::fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { host, port } = self;
        match host {
            ServerHost::Name(name) => write!(f, "{name}:{port}"),
            ServerHost::Address(address) => SocketAddr::new(*address, *port).fmt(f),
            ServerHost::UnixFolder(folder) => write!(f, "{}:{port}", folder.display()),
        }
    }
}

/// How TLS with a server begins (`sslnegotiation`, as in libpq).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsNegotiation {
    /// By asking in the clear.
    #[default]
    Postgres,
    /// At once (PostgreSQL 17 and later).
    Direct,
}

/// How a server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerHost {
    /// A name to be resolved at each connection.
    Name(Arc<str>),
    /// An IP address.
    Address(IpAddr),
    /// The folder of a unix socket (absolute).
    UnixFolder(PathBuf),
}

/// TLS towards a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerTls {
    /// Never.
    Disable,
    /// If the server has it, unverified: protects against listening only, and not against anyone active.
    Prefer,
    /// Always, unverified.
    Require,
    /// Always; the certificate must be signed by a trusted root.
    VerifyCa(TrustedRoots),
    /// Always; signed by a trusted root and made out to the host.
    VerifyFull(TrustedRoots),
}

/// Which certificate authorities are trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrustedRoots {
    /// The system's.
    System,
    /// These (at least one).
    Given(Vec<CertificateDer<'static>>),
}

/// Who the proxy is on a server.
#[derive(Clone, Debug)]
pub struct ServerRole {
    /// The role's name on the server.
    pub user: Arc<str>,
    /// Its password; `None` where the server trusts us.
    pub password: Option<SecretString>,
    /// In which forms it may be proven.
    pub methods: AllowedMethods,
}

/// What a client may ask for by `database`.
#[derive(Clone, Debug)]
pub struct DatabaseEntry {
    /// Key of [`Config::servers`].
    pub server: Arc<str>,
    /// The database's name on the server.
    pub name: Arc<str>,
    /// Key of [`Config::roles`], unless the login says another.
    pub role: Arc<str>,
    /// The limits of its pools.
    pub pool: PoolLimits,
    /// Prepared statements kept on one server.
    pub prepared_statements: StatementLimits,
    /// The key of its tickets, if it is sealed.
    pub seal: Option<Arc<SealKey>>,
}

/// How a tenant is put on a server.
#[derive(Clone, Debug)]
pub struct ScopeSettings {
    /// The type of tenant identities.
    pub tenant_kind: TenantKind,
    /// For how long it stays there.
    pub lifetime: Lifetime,
    /// What is set, in the file's order.
    pub template: ScopeTemplate,
}

/// An identity a client may authenticate as.
#[derive(Clone, Debug)]
pub struct LoginEntry {
    /// What it proves itself with; `None` only where a rule trusts it.
    pub secret: Option<LoginSecret>,
    /// Which databases it may ask for.
    pub databases: DatabaseList,
    /// Key of [`Config::roles`]: overrides the database's.
    pub role: Option<Arc<str>>,
    /// What it may do, and whether its transactions are recorded.
    pub preset: Preset,
    /// Whether its clients may leave state on a server, which then stays with them.
    pub keeping: Keeping,
    /// Whether emergencies are for it: of bypass logins alone.
    pub emergencies: EmergencyUse,
    /// What it may do beside its preset, and what not.
    pub guard: LoginGuard,
    /// How its tenant is found and which ones it may act for; `None` for bypass logins, and for those that are for the
    /// console only.
    pub tenant: Option<TenantPolicy>,
    /// Whether it may claim a bypass inside its transactions.
    pub claimed_bypass: Option<ClaimedBypass>,
}

/// What a login may do beside its preset, and what not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoginGuard {
    /// Its own lists, beside those for everybody.
    pub lists: Lists,
    /// Whether refusals are carried out, if that is said for this login.
    pub mode: Option<Mode>,
}

impl LoginEntry {
    /// Whose rows it may see. A login without a tenant sees none, unless it may bypass.
    #[must_use]
    pub fn access(&self) -> Access {
        match (&self.tenant, self.preset) {
            (Some(tenant), Preset::Tenant | Preset::Application | Preset::Migration) => Access::Tenant(tenant.clone()),
            (None, Preset::Bypass) => Access::Bypass,
            (None, Preset::Tenant | Preset::Application | Preset::Migration) | (Some(_), Preset::Bypass) => {
                Access::Console
            }
        }
    }

    /// When its servers go to the next client, in the file's words.
    #[must_use]
    pub const fn pool_mode(&self) -> &'static str {
        match self.keeping {
            Keeping::Refuse | Keeping::Pin => "transaction",
            Keeping::Session => "session",
        }
    }

    /// The preset's name, as in the file.
    #[must_use]
    pub fn preset_name(&self) -> &'static str {
        if self.access() == Access::Console { "console" } else { self.preset.name() }
    }
}

/// Where transactions are recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerSettings {
    /// The file.
    pub path: PathBuf,
    /// What the proxy is called in records; empty: as its machine.
    pub node: Arc<str>,
    /// How long a session waits for a record.
    pub write_timeout: Duration,
    /// Whether records that wait together are made durable together.
    pub is_group_commit: bool,
    /// What digests values of parameters; without it they are not recorded.
    pub parameter_key: Option<Arc<ParameterKey>>,
    /// What signs checkpoints; without it there are none.
    pub signing_key: Option<Arc<SigningKey>>,
    /// Most records between two checkpoints.
    pub checkpoint_records: u64,
    /// Longest time that a record waits for one.
    pub checkpoint_interval: Duration,
    /// After this time without a record one says that the proxy lives.
    pub heartbeat_interval: Duration,
    /// The size from which on a file is closed and the next one begun.
    pub rotate_bytes: Option<u64>,
    /// What becomes of closed files.
    pub compress: Compress,
}

/// What becomes of a ledger's closed files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compress {
    /// They stay as they were written.
    #[default]
    None,
    /// They are compressed.
    Gzip,
}

/// What bypass logins get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BypassSettings {
    /// Settings that are put on their transactions, possibly none.
    pub template: ScopeTemplate,
    /// What may be done for which reason, in the file's order.
    pub rules: Vec<BypassRule>,
    /// Least visible characters of a reason.
    pub reason_chars_min: usize,
    /// Longest time of an emergency.
    pub emergency_max: Duration,
}

/// A rule, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BypassRule {
    /// Which logins it is for.
    pub login: Glob,
    /// What they may do.
    pub rule: Rule,
}

impl BypassSettings {
    /// A login's own rules.
    #[must_use]
    pub fn rules_of(&self, login: &str) -> Arc<[Rule]> {
        self.rules.iter().filter(|it| it.login.matches(login)).map(|it| it.rule.clone()).collect()
    }
}

/// Whether emergencies are for a login.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EmergencyUse {
    /// They go beyond its rules.
    #[default]
    Allowed,
    /// Without one it may do nothing.
    Only,
    /// None is opened for it.
    Never,
}

/// What a login's password is checked against.
#[derive(Clone, Debug)]
pub enum LoginSecret {
    /// The password.
    Plain(SecretString),
    /// A verifier as PostgreSQL stores it.
    Scram(Verifier),
}

impl ServerRole {
    /// Whether both are the same to a server.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let own = self.password.as_ref().map(|password| password.expose_secret());
        let others = other.password.as_ref().map(|password| password.expose_secret());
        self.user == other.user && self.methods == other.methods && own == others
    }
}

impl LoginSecret {
    /// Whether both let the same client in. A password and a verifier made of it count as different.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (LoginSecret::Plain(one), LoginSecret::Plain(another)) => one.expose_secret() == another.expose_secret(),
            (LoginSecret::Scram(one), LoginSecret::Scram(another)) => one.is_same(another),
            (LoginSecret::Plain(_) | LoginSecret::Scram(_), _) => false,
        }
    }
}

/// What the guard allows beside its built-in lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardSettings {
    /// Of statements. The names are lower case; never a scope setting or one the proxy pins.
    pub policy: PolicySettings,
    /// Startup parameters that are accepted and dropped, lower case.
    pub startup_parameters_ignored: BTreeSet<Arc<str>>,
}

/// Logging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// How a line looks.
    pub format: LogFormat,
    /// What is logged.
    pub level: LogLevel,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// What failed.
    Error,
    /// What somebody should look at, too.
    Warn,
    /// What an operator wants to know, too.
    Info,
    /// What happens inside, too.
    Debug,
    /// Every message, too; never values or secrets.
    Trace,
}

impl LogLevel {
    /// The word used in configuration and log lines.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

/// Threads and shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuntimeSettings {
    /// Worker threads; `None` = half as many as CPUs.
    pub threads: Option<usize>,
    /// How long SIGTERM lets transactions finish.
    pub shutdown_timeout: Duration,
}
