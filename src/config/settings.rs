//! A configuration as ready values: what these types hold has been checked, so nobody checks again.
//!
//! Owns: the settings that belong to no domain folder. Does not own: keys, their spelling or defaults.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::SecretString;

pub use crate::scope::ScopeTemplate;
use crate::tenant::{TenantId, TenantKind};

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
    /// First match decides; `None` means SCRAM-SHA-256 for everyone.
    pub rules: Option<Vec<RuleEntry>>,
    /// What the guard allows beside its built-in lists.
    pub guard: GuardSettings,
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
    pub pool: PoolSettings,
}

/// The limits of one pool: the servers of one (server group, database, server role).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// Servers at most; at least 1.
    pub size: usize,
    /// Servers kept even when idle; at most `size`.
    pub size_min: usize,
    /// A client waits so long for a server.
    pub wait_timeout: Duration,
    /// So many clients may wait.
    pub waiting_max: usize,
    /// A server older than this is closed at check-in.
    pub server_lifetime: Duration,
    /// A server idle for longer is closed, down to `size_min`.
    pub server_idle_timeout: Duration,
    /// A server idle for longer is asked for a sign of life before use.
    pub server_check_delay: Duration,
    /// Longest pause between attempts to connect.
    pub connect_backoff_max: Duration,
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
    pub databases: LoginDatabases,
    /// Key of [`Config::roles`]: overrides the database's.
    pub role: Option<Arc<str>>,
    /// How its tenant is found and which ones it may act for.
    pub tenant: TenantPolicy,
}

/// What a login's password is checked against.
#[derive(Clone, Debug)]
pub enum LoginSecret {
    /// The password.
    Plain(SecretString),
    /// A verifier as PostgreSQL stores it, checked for form: `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`.
    Scram(SecretString),
}

/// Which databases a login may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginDatabases {
    /// Every configured one.
    All,
    /// These keys of [`Config::databases`].
    Listed(BTreeSet<Arc<str>>),
}

impl LoginDatabases {
    /// Whether the login may ask for this one.
    #[must_use]
    pub fn includes(&self, database: &str) -> bool {
        match self {
            LoginDatabases::All => true,
            LoginDatabases::Listed(names) => names.contains(database),
        }
    }
}

/// How a login's tenant is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TenantPolicy {
    /// Always this one.
    Fixed(TenantId),
    /// From what the client says, within limits.
    Named {
        /// The first source that gives one decides; at least one.
        sources: Vec<TenantSource>,
        /// Between login and tenant in a user name.
        separator: Arc<str>,
        /// Which tenants the login may act for.
        allowed: AllowedTenants,
    },
}

/// Where a client names its tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TenantSource {
    /// `login<separator>tenant` as user name.
    Suffix,
    /// A scope setting as startup parameter or in `options`.
    Startup,
}

/// Which tenants a login may act for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedTenants {
    /// Any well-formed one.
    Any,
    /// These.
    Listed(BTreeSet<TenantId>),
    /// Those that match.
    Pattern(TenantPattern),
}

impl AllowedTenants {
    /// Whether `tenant` is among them.
    #[must_use]
    pub fn includes(&self, tenant: &TenantId) -> bool {
        match self {
            AllowedTenants::Any => true,
            AllowedTenants::Listed(tenants) => tenants.contains(tenant),
            AllowedTenants::Pattern(pattern) => pattern.matches(tenant.as_str()),
        }
    }
}

/// A text in which each `*` stands for any characters, none included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantPattern(pub(super) Arc<str>);

impl TenantPattern {
    /// The pattern's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether all of `text` fits. Linear: after a `*` the leftmost fit of each piece is as good as any.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let mut pieces = self.0.split('*');
        let Some(mut rest) = pieces.next().and_then(|first| text.strip_prefix(first)) else {
            return false;
        };
        let Some(last) = pieces.next_back() else {
            return rest.is_empty();
        };
        for piece in pieces {
            match rest.find(piece).and_then(|at| rest.get(at + piece.len()..)) {
                Some(after) => rest = after,
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

/// One line of `[[rules]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleEntry {
    /// Which logins it is about.
    pub login: NameMatch,
    /// Which databases it is about.
    pub database: NameMatch,
    /// Which client addresses it is about.
    pub address: AddressMatch,
    /// Whether it is about TLS connections only.
    pub tls: TlsMatch,
    /// What happens to whom it is about.
    pub method: RuleMethod,
}

/// One name or all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameMatch {
    /// `*`
    Any,
    /// This one.
    Exact(Arc<str>),
}

/// One network or all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressMatch {
    /// `*`
    Any,
    /// Addresses that share the first `prefix_bits` bits.
    Network {
        /// Bits beyond the prefix are zero.
        address: IpAddr,
        /// At most 32 or 128.
        prefix_bits: u8,
    },
}

/// Whether a rule is about TLS connections only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMatch {
    /// With and without.
    Any,
    /// Only with.
    Required,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleMethod {
    /// SCRAM-SHA-256.
    ScramSha256,
    /// In without a password.
    Trust,
    /// Not in.
    Reject,
}

/// What the guard allows beside its built-in lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuardSettings {
    /// Setting names, lower case; never a scope setting or one the proxy pins.
    pub settings_allowed: BTreeSet<Arc<str>>,
    /// Function names, lower case, with or without schema.
    pub functions_allowed: BTreeSet<Arc<str>>,
    /// Longest statement that is parsed.
    pub text_bytes_max: usize,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_cover_the_whole_text() {
        let fits = |pattern: &str, text: &str| TenantPattern(pattern.into()).matches(text);
        assert!(fits("acme-*", "acme-") && fits("acme-*", "acme-x"));
        assert!(!fits("acme-*", "acme") && !fits("acme-*", "xacme-1"));
        assert!(fits("*", "") && fits("*", "x") && fits("a*b*c", "a1bb2c") && fits("a*a", "aa"));
        assert!(!fits("a*a", "a") && !fits("a*b*c", "acb") && fits("exact", "exact") && !fits("exact", "exact1"));
    }
}
