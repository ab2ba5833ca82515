//! A configuration as ready values: what these types hold has been checked, so nobody checks again.
//!
//! Owns: the settings that belong to no domain folder; those of a domain are its own types, built here. Does not own: keys, their spelling or defaults.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::SecretString;

use crate::auth::scram::Verifier;
use crate::auth::{DatabaseList, Rules};
use crate::guard::{PolicySettings, Preset};
use crate::pool::PoolLimits;
pub use crate::scope::ScopeTemplate;
use crate::tenant::{TenantKind, TenantPolicy};

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
    /// What bypass logins get.
    pub bypass: BypassSettings,
    /// Logging.
    pub log: LogSettings,
    /// Threads and shutdown.
    pub runtime: RuntimeSettings,
}

/// Where clients connect and how many may.
#[derive(Clone, Debug)]
pub struct ListenSettings {
    /// At least one; no two overlap.
    pub addresses: Vec<SocketAddr>,
    /// Logged-in clients at most.
    pub client_connections_max: usize,
    /// Connections that have not logged in yet at most.
    pub login_connections_max: usize,
    /// From accept to the end of login.
    pub login_timeout: Duration,
}

/// TLS towards clients. The modes that offer TLS have an identity.
#[derive(Clone, Debug)]
pub enum ClientTls {
    /// SSLRequest is answered with `N`.
    Disable,
    /// TLS for clients that ask for it. `allow` and `prefer` are the same on the server's side.
    Offer(TlsIdentity),
    /// Clients without TLS are refused.
    Require(TlsIdentity),
}

/// A certificate chain and its private key.
#[derive(Clone)]
pub struct TlsIdentity {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key.
    pub key: Arc<PrivateKeyDer<'static>>,
}

/// Says how long the chain is and nothing of the key.
impl std::fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsIdentity").field("certificates", &self.chain.len()).finish_non_exhaustive()
    }
}

/// PostgreSQL servers that are the same to us.
#[derive(Clone, Debug)]
pub struct ServerGroup {
    /// Where it is.
    pub host: ServerHost,
    /// TCP port, or the number in the unix socket's file name.
    pub port: u16,
    /// For TCP, TLS and login together.
    pub connect_timeout: Duration,
    /// TLS towards it.
    pub tls: ServerTls,
}

/// How a server group is reached.
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
#[derive(Clone, Debug)]
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
#[derive(Clone, Debug)]
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
    pub prepared_statements_max: usize,
}

/// How a tenant is put on a server.
#[derive(Clone, Debug)]
pub struct ScopeSettings {
    /// The type of tenant identities.
    pub tenant_kind: TenantKind,
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
    /// How its tenant is found and which ones it may act for; `None` for bypass logins alone.
    pub tenant: Option<TenantPolicy>,
}

/// Where transactions are recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerSettings {
    /// The file.
    pub path: PathBuf,
}

/// What bypass logins get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BypassSettings {
    /// Settings that are put on their transactions, possibly none.
    pub template: ScopeTemplate,
}

/// What a login's password is checked against.
#[derive(Clone, Debug)]
pub enum LoginSecret {
    /// The password.
    Plain(SecretString),
    /// A verifier as PostgreSQL stores it.
    Scram(Verifier),
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
