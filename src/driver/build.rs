//! From the configuration's ready values to what the parts of the proxy take.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;

use super::clock::Clock;
use super::connect::{ServerTarget, TargetTls};
use super::flusher::Flusher;
use super::handshake::HandshakeSettings;
use super::ledger::LedgerSync;
use super::pool::Way;
use super::proxy::StartFault;
use super::reload::Hooks;
use super::tls::{self, Verification};
use crate::auth;
use crate::auth::EndPoint;
use crate::auth::scram::server::BindingOffer;
use crate::config::{
    ClientTls, ClientTlsSettings, Config, DatabaseEntry, LoginEntry, LoginSecret, ServerGroup, ServerTls,
    TlsNegotiation,
};
use crate::guard::{Gaps, Keeping, Policy, PolicySettings, Preset};
use crate::review::Reviewer;
use crate::scope::Prelude;
use crate::startup::{ConsoleAccess, Judged, StartupSettings, TlsOffer};
use crate::tenant::Claiming;
use crate::upstream::StatementLimits;
use crate::upstream::login::Identity;

/// What makes two pools one: the tenant is no part of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PoolKey {
    /// Server group.
    pub server: Arc<str>,
    /// Database on the server.
    pub database: Arc<str>,
    /// Server role, by its configuration key.
    pub role: Arc<str>,
}

impl PoolKey {
    /// The pool of a role in a database.
    #[must_use]
    pub fn of(entry: &DatabaseEntry, role: &Arc<str>) -> Self {
        Self { server: Arc::clone(&entry.server), database: Arc::clone(&entry.name), role: Arc::clone(role) }
    }
}

/// The guard's policy for logins of a preset that keep state or do not, and have no lists of their own.
#[must_use]
pub fn policy(config: &Config, preset: Preset, keeping: Keeping, claiming: Claiming) -> Policy {
    Policy::new(&policy_settings(config, preset, keeping, claiming))
}

/// The guard's policy for a login, in a database where `check` has found `gaps`.
#[must_use]
pub fn policy_of_login(config: &Config, login: &LoginEntry, gaps: &Arc<Gaps>) -> Policy {
    let claiming = login.tenant.as_ref().map(|tenant| tenant.claiming).unwrap_or_default();
    let mut settings = policy_settings(config, login.preset, login.keeping, claiming);
    settings.bypass_setting = login.claimed_bypass.as_ref().map(|bypass| bypass.setting.to_string());
    settings.bypass_needs_reason = login.claimed_bypass.as_ref().is_some_and(|bypass| bypass.reason.is_none());
    settings.login_lists = login.guard.lists.clone();
    settings.mode = login.guard.mode.unwrap_or(settings.mode);
    settings.gaps = Arc::clone(gaps);
    Policy::new(&settings)
}

fn policy_settings(config: &Config, preset: Preset, keeping: Keeping, claiming: Claiming) -> PolicySettings {
    let mut settings = config.guard.policy.clone();
    settings.preset = preset;
    settings.keeping = keeping;
    settings.claiming = claiming;
    settings.claim_settings = config.scope.template.tenant_settings().map(str::to_owned).collect();
    settings.scope_settings.extend(config.bypass.template.names().map(str::to_owned));
    // What goes past the tenants by a claim of one login goes past them whoever sets it.
    let claimed = config.logins.values().filter_map(|login| login.claimed_bypass.as_ref());
    settings.scope_settings.extend(claimed.map(|bypass| bypass.setting.to_string()));
    settings
}

/// The policies of all logins.
#[derive(Clone, Debug)]
pub struct Policies {
    logins: Arc<HashMap<Arc<str>, Arc<Policy>>>,
    /// Of a login that is not configured.
    unknown: Arc<Policy>,
}

impl Policies {
    /// Of a configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self::with(config, &Arc::default())
    }

    /// The same in a database where `check` has found something.
    #[must_use]
    pub fn with(config: &Config, gaps: &Arc<Gaps>) -> Self {
        let of = |(name, login): (&Arc<str>, &LoginEntry)| {
            (Arc::clone(name), Arc::new(policy_of_login(config, login, gaps)))
        };
        Self {
            logins: Arc::new(config.logins.iter().map(of).collect()),
            unknown: Arc::new(policy(config, Preset::Tenant, Keeping::Refuse, Claiming::None)),
        }
    }

    /// Of a login.
    #[must_use]
    pub fn of(&self, login: &str) -> &Arc<Policy> {
        self.logins.get(login).unwrap_or(&self.unknown)
    }

    /// How many logins have their refusals observed only.
    #[must_use]
    pub fn observing(&self) -> usize {
        self.logins.values().filter(|policy| policy.is_observing()).count()
    }
}

/// What of a configuration depends on this machine and so shows only when a proxy is built: certificates, the
/// system's trusted roots.
///
/// # Errors
/// As [`super::start`], without starting anything.
pub fn check(config: &Config) -> Result<(), StartFault> {
    offer(&config.tls)?;
    for entry in config.databases.values() {
        target_tls(server_group(config, &entry.server)?)?;
    }
    Ok(())
}

/// What the dialogue with clients needs. `secret` is the process's: it outlives a configuration.
///
/// # Errors
/// Certificates or logins that cannot be used.
pub fn handshake(
    config: &Config,
    policies: Policies,
    secret: auth::ProcessSecret,
    generation: u64,
) -> Result<HandshakeSettings, StartFault> {
    let (offer, acceptor) = offer(&config.tls)?;
    let ignored = config.guard.startup_parameters_ignored.clone();
    let judge = move |login: &str, name: &str, value: &str| {
        if ignored.contains(&*name.to_ascii_lowercase()) {
            return Ok(Judged::Ignore);
        }
        let allowed = policies.of(login).setting_verdict(name, value)?;
        Ok(Judged::Keep(allowed.name.into(), allowed.value.into()))
    };
    let startup = StartupSettings {
        tls: offer,
        binding: binding(&config.tls),
        rules: config.rules.clone(),
        logins: logins(config, secret)?,
        databases: config.databases.keys().cloned().collect(),
        console: ConsoleAccess { logins: config.console.admins.union(&config.console.stats).cloned().collect() },
        tenant_kind: config.scope.tenant_kind,
        tenant_settings: config.scope.template.tenant_settings().map(Arc::from).collect(),
        judge: Box::new(judge),
    };
    let login_timeout = config.listen.login_timeout;
    Ok(HandshakeSettings { startup: Arc::new(startup), tls: acceptor, login_timeout, generation })
}

fn offer(from: &ClientTls) -> Result<(TlsOffer, Option<TlsAcceptor>), StartFault> {
    Ok(match from {
        ClientTls::Disable => (TlsOffer::Never, None),
        ClientTls::Offer(settings) => (TlsOffer::Offered, Some(acceptor(settings)?)),
        ClientTls::Require(settings) => (TlsOffer::Required, Some(acceptor(settings)?)),
    })
}

fn acceptor(settings: &ClientTlsSettings) -> Result<TlsAcceptor, StartFault> {
    let server = tls::client_side(&settings.identity, settings.authority.as_ref())?;
    Ok(TlsAcceptor::from(server))
}

/// What clients can bind their proofs to: the certificate they are shown.
fn binding(from: &ClientTls) -> BindingOffer {
    let leaf = match from {
        ClientTls::Disable => None,
        ClientTls::Offer(settings) | ClientTls::Require(settings) => settings.identity.chain.first(),
    };
    let end_point = leaf.and_then(|leaf| EndPoint::of(leaf));
    if leaf.is_some() && end_point.is_none() {
        tracing::warn!("tls.certificate: its signature has no hash, so clients are offered no channel binding");
    }
    end_point.map_or(BindingOffer::None, BindingOffer::EndPoint)
}

fn logins(config: &Config, secret: auth::ProcessSecret) -> Result<auth::Logins, StartFault> {
    let logins: Vec<_> = config.logins.iter().map(|(name, entry)| login(name, entry, &secret)).collect();
    auth::Logins::new(logins, secret).map_err(|fault| StartFault::Configuration(fault.to_string()))
}

fn login(name: &Arc<str>, entry: &LoginEntry, secret: &auth::ProcessSecret) -> auth::Login {
    let verifier = entry.secret.as_ref().map(|proof| match proof {
        LoginSecret::Plain(password) => secret.verifier(name, password),
        LoginSecret::Scram(verifier) => verifier.clone(),
    });
    auth::Login { name: Arc::clone(name), verifier, databases: entry.databases.clone(), access: entry.access() }
}

/// Who may see the review page. Their verifiers are the same after a reload, unless their passwords are others.
#[must_use]
pub fn reviewers(config: &Config, secret: &auth::ProcessSecret) -> Vec<Reviewer> {
    let reviewer = |(name, proof): (&Arc<str>, &LoginSecret)| {
        let verifier = match proof {
            LoginSecret::Plain(password) => secret.verifier(&format!("reviewer {name}"), password),
            LoginSecret::Scram(verifier) => verifier.clone(),
        };
        Reviewer { name: Arc::clone(name), verifier }
    };
    config.review.reviewers.iter().map(reviewer).collect()
}

/// A way to the servers of a pool.
///
/// # Errors
/// Certificates that cannot be used, or a key that leads nowhere.
pub fn way(
    config: &Config,
    key: &PoolKey,
    prelude: &Prelude,
    statements: StatementLimits,
    clock: Clock,
) -> Result<Way, StartFault> {
    let (target, identity) = target(config, key, clock)?;
    let flusher = Flusher::default();
    Ok(Way { target: Arc::new(target), identity, prelude: prelude.clone(), statements, flusher })
}

/// Where the servers of a pool are, and who the proxy is there.
///
/// # Errors
/// As [`way`].
pub fn target(config: &Config, key: &PoolKey, clock: Clock) -> Result<(ServerTarget, Identity), StartFault> {
    let group = server_group(config, &key.server)?;
    let role = config.roles.get(&key.role).ok_or_else(|| missing("roles", &key.role))?;
    let target = ServerTarget::new(group.hosts.clone(), target_tls(group)?, group.connect_timeout, clock);
    let mut target = target.choosing(group.choice);
    (target.wanted, target.binding) = (group.session_attributes, group.channel_binding);
    let identity = Identity {
        user: role.user.to_string(),
        database: key.database.to_string(),
        password: role.password.clone(),
        methods: role.methods,
    };
    Ok((target, identity))
}

/// Every pool that a configuration can lead to, with the entry that has its limits.
#[must_use]
pub fn pool_keys(config: &Config) -> HashMap<PoolKey, &DatabaseEntry> {
    let mut keys = HashMap::new();
    for (database, entry) in &config.databases {
        for key in keys_of(config, database, entry) {
            keys.entry(key).or_insert(entry);
        }
    }
    keys
}

/// Every pool that a database can lead to, its own first; those of several logins more than once.
pub fn keys_of<'c>(
    config: &'c Config,
    database: &'c str,
    entry: &'c DatabaseEntry,
) -> impl Iterator<Item = PoolKey> + use<'c> {
    let logins = config.logins.values().filter(|login| login.databases.has(database));
    std::iter::once(PoolKey::of(entry, &entry.role)).chain(logins.map(|login| pool_key(entry, login)))
}

/// The pool of a login in a database.
#[must_use]
pub fn pool_key(entry: &DatabaseEntry, login: &LoginEntry) -> PoolKey {
    PoolKey::of(entry, login.role.as_ref().unwrap_or(&entry.role))
}

fn server_group<'c>(config: &'c Config, name: &str) -> Result<&'c ServerGroup, StartFault> {
    config.servers.get(name).ok_or_else(|| missing("servers", name))
}

fn missing(kind: &str, name: &str) -> StartFault {
    StartFault::Configuration(format!("no [{kind}.{name}]"))
}

fn target_tls(group: &ServerGroup) -> Result<TargetTls, StartFault> {
    let verification = match &group.tls {
        ServerTls::Disable => return Ok(TargetTls::Disable),
        ServerTls::Prefer | ServerTls::Require => Verification::Unverified,
        ServerTls::VerifyCa(roots) => Verification::Authority(roots.clone()),
        ServerTls::VerifyFull(roots) => Verification::Full(roots.clone()),
    };
    let config = tls::server_side(&verification, group.identity.as_ref())?;
    Ok(match (&group.tls, group.negotiation) {
        (ServerTls::Prefer, _) => TargetTls::Prefer(config),
        (_, TlsNegotiation::Direct) => TargetTls::Direct(config),
        (_, TlsNegotiation::Postgres) => TargetTls::Require(config),
    })
}

/// How the ledger's file is made durable.
#[must_use]
pub fn ledger_sync(hooks: &Hooks) -> Arc<LedgerSync> {
    #[cfg(feature = "mutants")]
    if mutant(hooks) == Some(crate::session::Mutant::RecordsNotSynced) {
        return Arc::new(|_: &File| Ok(()));
    }
    hooks.sync.clone().unwrap_or_else(|| Arc::new(File::sync_data))
}

/// The planted defect that a test asks for, here or in the process's environment.
#[cfg(feature = "mutants")]
#[must_use]
pub fn mutant(hooks: &Hooks) -> Option<crate::session::Mutant> {
    use crate::session::Mutant;
    if hooks.mutant.is_some() {
        return hooks.mutant;
    }
    let name = std::env::var("TENANTGATE_MUTANT").ok()?;
    Mutant::ALL.iter().copied().find(|mutant| mutant.name() == name)
}
