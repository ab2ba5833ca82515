//! From the configuration's ready values to what the parts of the proxy take.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio_rustls::TlsAcceptor;

use super::clock::Clock;
use super::connect::{ServerTarget, TargetTls};
use super::handshake::HandshakeSettings;
use super::pool::{PoolParts, ServerPool};
use super::proxy::StartFault;
use super::tls::{self, Verification};
use crate::auth;
use crate::config::{ClientTls, Config, DatabaseEntry, LoginEntry, LoginSecret, ServerGroup, ServerTls, TlsIdentity};
use crate::guard::{Policy, Preset};
use crate::scope::Prelude;
use crate::startup::{ConsoleAccess, Judged, StartupSettings, TlsOffer};
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

/// The guard's policy for logins of a preset.
#[must_use]
pub fn policy(config: &Config, preset: Preset) -> Policy {
    let mut settings = config.guard.policy.clone();
    settings.preset = preset;
    settings.scope_settings.extend(config.bypass.template.names().map(str::to_owned));
    Policy::new(&settings)
}

/// The policies of all presets.
#[derive(Clone, Debug)]
pub struct Policies {
    tenant: Arc<Policy>,
    migration: Arc<Policy>,
    bypass: Arc<Policy>,
}

impl Policies {
    /// Of a configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let policy = |preset| Arc::new(policy(config, preset));
        Self { tenant: policy(Preset::Tenant), migration: policy(Preset::Migration), bypass: policy(Preset::Bypass) }
    }

    /// Of logins of a preset.
    #[must_use]
    pub const fn of(&self, preset: Preset) -> &Arc<Policy> {
        match preset {
            Preset::Tenant => &self.tenant,
            Preset::Migration => &self.migration,
            Preset::Bypass => &self.bypass,
        }
    }
}

/// What servers of a role are sent after their login.
#[must_use]
pub fn prelude(config: &Config, role: &str) -> Prelude {
    let is_bypass = |login: &&LoginEntry| login.preset == Preset::Bypass && login.role.as_deref() == Some(role);
    match config.logins.values().find(is_bypass) {
        Some(_) => Prelude::new(&config.bypass.template),
        None => Prelude::new(&config.scope.template),
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
        target_tls(&server_group(config, &entry.server)?.tls)?;
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
        rules: config.rules.clone(),
        logins: logins(config, secret)?,
        databases: config.databases.keys().cloned().collect(),
        console: ConsoleAccess::default(),
        tenant_kind: config.scope.tenant_kind,
        tenant_settings: config.scope.template.tenant_settings().map(Arc::from).collect(),
        judge: Box::new(judge),
    };
    Ok(HandshakeSettings { startup: Arc::new(startup), tls: acceptor, login_timeout: config.listen.login_timeout })
}

fn offer(from: &ClientTls) -> Result<(TlsOffer, Option<TlsAcceptor>), StartFault> {
    Ok(match from {
        ClientTls::Disable => (TlsOffer::Never, None),
        ClientTls::Offer(identity) => (TlsOffer::Offered, Some(acceptor(identity)?)),
        ClientTls::Require(identity) => (TlsOffer::Required, Some(acceptor(identity)?)),
    })
}

fn acceptor(identity: &TlsIdentity) -> Result<TlsAcceptor, StartFault> {
    let server = tls::client_side(identity.chain.clone(), identity.key.clone_key())?;
    Ok(TlsAcceptor::from(server))
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
    let access = match &entry.tenant {
        Some(tenant) => auth::Access::Tenant(tenant.clone()),
        None => auth::Access::Bypass,
    };
    auth::Login { name: Arc::clone(name), verifier, databases: entry.databases.clone(), access }
}

/// A pool with its way to the server.
///
/// # Errors
/// Certificates that cannot be used, or a key that leads nowhere.
pub fn pool(
    config: &Config,
    key: &PoolKey,
    entry: &DatabaseEntry,
    prelude: &Prelude,
    clock: Clock,
    next_server: &Arc<AtomicU64>,
) -> Result<Arc<ServerPool>, StartFault> {
    let group = server_group(config, &key.server)?;
    let role = config.roles.get(&key.role).ok_or_else(|| missing("roles", &key.role))?;
    let target = ServerTarget {
        host: group.host.clone(),
        port: group.port,
        tls: target_tls(&group.tls)?,
        connect_timeout: group.connect_timeout,
    };
    let identity = Identity {
        user: role.user.to_string(),
        database: key.database.to_string(),
        password: role.password.clone(),
        cleartext_allowed: false,
    };
    Ok(ServerPool::new(PoolParts {
        name: format!("{}/{}/{}", key.server, key.database, key.role),
        limits: entry.pool.clone(),
        target,
        identity,
        prelude: prelude.clone(),
        statements_max: entry.prepared_statements_max,
        clock,
        next_server: Arc::clone(next_server),
    }))
}

fn server_group<'c>(config: &'c Config, name: &str) -> Result<&'c ServerGroup, StartFault> {
    config.servers.get(name).ok_or_else(|| missing("servers", name))
}

fn missing(kind: &str, name: &str) -> StartFault {
    StartFault::Configuration(format!("no [{kind}.{name}]"))
}

fn target_tls(from: &ServerTls) -> Result<TargetTls, StartFault> {
    Ok(match from {
        ServerTls::Disable => TargetTls::Disable,
        ServerTls::Prefer => TargetTls::Prefer(tls::server_side(&Verification::Unverified)?),
        ServerTls::Require => TargetTls::Require(tls::server_side(&Verification::Unverified)?),
        ServerTls::VerifyCa(roots) => TargetTls::Require(tls::server_side(&Verification::Authority(roots.clone()))?),
        ServerTls::VerifyFull(roots) => TargetTls::Require(tls::server_side(&Verification::Full(roots.clone()))?),
    })
}

/// The planted defect that a test asks for.
#[cfg(feature = "mutants")]
#[must_use]
pub fn mutant() -> Option<crate::session::Mutant> {
    use crate::session::Mutant;
    match std::env::var("TENANTGATE_MUTANT").ok()?.as_str() {
        "no_injection" => Some(Mutant::NoInjection),
        "previous_tenant" => Some(Mutant::PreviousTenant),
        "no_reinjection_after_commit" => Some(Mutant::NoReinjectionAfterCommit),
        "checkin_while_owed" => Some(Mutant::CheckinWhileOwed),
        _ => None,
    }
}
