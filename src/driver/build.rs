//! From the configuration's ready values to what the parts of the proxy take.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;

use super::clock::Clock;
use super::connect::{ServerTarget, TargetTls};
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
use crate::guard::{Keeping, Policy, Preset};
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

/// The guard's policy for logins of a preset that keep state or do not.
#[must_use]
pub fn policy(config: &Config, preset: Preset, keeping: Keeping, claiming: Claiming) -> Policy {
    let mut settings = config.guard.policy.clone();
    settings.preset = preset;
    settings.keeping = keeping;
    settings.claiming = claiming;
    settings.claim_settings = config.scope.template.tenant_settings().map(str::to_owned).collect();
    settings.scope_settings.extend(config.bypass.template.names().map(str::to_owned));
    Policy::new(&settings)
}

/// The policies of all presets.
#[derive(Clone, Debug)]
pub struct Policies {
    tenant: ByKeeping,
    application: ByKeeping,
    migration: ByKeeping,
    bypass: ByKeeping,
    /// Of logins that may claim; these two presets can.
    claiming: [ByClaiming; 2],
}

/// The policies of one preset whose logins may claim.
#[derive(Clone, Debug)]
struct ByClaiming {
    transaction: ByKeeping,
    session: ByKeeping,
}

/// The policies of one preset.
#[derive(Clone, Debug)]
struct ByKeeping {
    refuse: Arc<Policy>,
    pin: Arc<Policy>,
    session: Arc<Policy>,
}

impl ByKeeping {
    fn new(config: &Config, preset: Preset, claiming: Claiming) -> Self {
        let policy = |keeping| Arc::new(policy(config, preset, keeping, claiming));
        Self { refuse: policy(Keeping::Refuse), pin: policy(Keeping::Pin), session: policy(Keeping::Session) }
    }

    const fn of(&self, keeping: Keeping) -> &Arc<Policy> {
        match keeping {
            Keeping::Refuse => &self.refuse,
            Keeping::Pin => &self.pin,
            Keeping::Session => &self.session,
        }
    }
}

impl Policies {
    /// Of a configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let of = |preset| ByKeeping::new(config, preset, Claiming::None);
        let claiming = |preset| ByClaiming {
            transaction: ByKeeping::new(config, preset, Claiming::Transaction),
            session: ByKeeping::new(config, preset, Claiming::Session),
        };
        Self {
            tenant: of(Preset::Tenant),
            application: of(Preset::Application),
            migration: of(Preset::Migration),
            bypass: of(Preset::Bypass),
            claiming: [Preset::Tenant, Preset::Application].map(claiming),
        }
    }

    /// Of logins of a preset that may claim, or may not.
    #[must_use]
    pub const fn claiming(&self, preset: Preset, keeping: Keeping, claiming: Claiming) -> &Arc<Policy> {
        let [tenant, application] = &self.claiming;
        let of_preset = match preset {
            Preset::Tenant => tenant,
            Preset::Application => application,
            Preset::Migration | Preset::Bypass => return self.keeping(preset, keeping),
        };
        match claiming {
            Claiming::None => self.keeping(preset, keeping),
            Claiming::Transaction => of_preset.transaction.of(keeping),
            Claiming::Session => of_preset.session.of(keeping),
        }
    }

    /// Of logins of a preset that keep no state: what counts of settings and lengths, which is the same for all.
    #[must_use]
    pub const fn of(&self, preset: Preset) -> &Arc<Policy> {
        self.keeping(preset, Keeping::Refuse)
    }

    /// Of logins of a preset.
    #[must_use]
    pub const fn keeping(&self, preset: Preset, keeping: Keeping) -> &Arc<Policy> {
        let of_preset = match preset {
            Preset::Tenant => &self.tenant,
            Preset::Application => &self.application,
            Preset::Migration => &self.migration,
            Preset::Bypass => &self.bypass,
        };
        of_preset.of(keeping)
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
    let presets: HashMap<Arc<str>, Preset> =
        config.logins.iter().map(|(name, login)| (Arc::clone(name), login.preset)).collect();
    let judge = move |login: &str, name: &str, value: &str| {
        if ignored.contains(&*name.to_ascii_lowercase()) {
            return Ok(Judged::Ignore);
        }
        let preset = presets.get(login).copied().unwrap_or_default();
        let allowed = policies.of(preset).setting_verdict(name, value)?;
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
    Ok(Way { target: Arc::new(target), identity, prelude: prelude.clone(), statements })
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
