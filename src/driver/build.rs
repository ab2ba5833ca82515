//! From the configuration's ready values to what the parts of the proxy take.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use aws_lc_rs::rand;
use tokio_rustls::TlsAcceptor;

use super::clock::Clock;
use super::connect::{self, ServerTarget, TargetTls};
use super::handshake::HandshakeSettings;
use super::pool::{PoolParts, ServerPool};
use super::proxy::StartFault;
use super::tls::{self, Roots, Verification};
use crate::auth::{self, scram::Verifier};
use crate::config::{self, Config, DatabaseEntry};
use crate::guard::{Policy, PolicySettings};
use crate::pool::PoolLimits;
use crate::scope::Prelude;
use crate::startup::{Judged, StartupSettings, TlsOffer};
use crate::tenant;
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

/// The guard's policy.
#[must_use]
pub fn policy(config: &Config) -> Policy {
    let texts = |names: &std::collections::BTreeSet<Arc<str>>| names.iter().map(ToString::to_string).collect();
    Policy::new(&PolicySettings {
        settings_allowed: texts(&config.guard.settings_allowed),
        functions_allowed: texts(&config.guard.functions_allowed),
        scope_settings: config.scope.template.names().map(str::to_owned).collect(),
        text_bytes_max: config.guard.text_bytes_max,
    })
}

/// What the dialogue with clients needs.
///
/// # Errors
/// Certificates, verifiers or logins that cannot be used.
pub fn handshake(config: &Config, policy: Arc<Policy>) -> Result<HandshakeSettings, StartFault> {
    let (offer, acceptor) = match &config.tls {
        config::ClientTls::Disable => (TlsOffer::Never, None),
        config::ClientTls::Offer(identity) => (TlsOffer::Offered, Some(self::acceptor(identity)?)),
        config::ClientTls::Require(identity) => (TlsOffer::Required, Some(self::acceptor(identity)?)),
    };
    let mut random = [0_u8; 32];
    rand::fill(&mut random).map_err(|_| std::io::Error::other("no random bytes"))?;
    let ignored = config.guard.startup_parameters_ignored.clone();
    let judge = move |_login: &str, name: &str, value: &str| {
        if ignored.contains(&*name.to_ascii_lowercase()) {
            return Ok(Judged::Ignore);
        }
        let allowed = policy.setting_verdict(name, value)?;
        Ok(Judged::Keep(allowed.name.into(), allowed.value.into()))
    };
    let startup = StartupSettings {
        tls: offer,
        rules: rules(config),
        logins: logins(config, auth::ProcessSecret::new(&random))?,
        databases: config.databases.keys().cloned().collect(),
        tenant_kind: config.scope.tenant_kind,
        tenant_settings: config.scope.template.tenant_settings().map(Arc::from).collect(),
        judge: Box::new(judge),
    };
    Ok(HandshakeSettings { startup: Arc::new(startup), tls: acceptor, login_timeout: config.listen.login_timeout })
}

fn acceptor(identity: &config::TlsIdentity) -> Result<TlsAcceptor, StartFault> {
    let server = tls::client_side(identity.chain.clone(), identity.key.clone_key())?;
    Ok(TlsAcceptor::from(server))
}

fn rules(config: &Config) -> auth::Rules {
    let Some(entries) = &config.rules else { return auth::Rules::default() };
    auth::Rules::new(entries.iter().map(rule).collect())
}

fn rule(entry: &config::RuleEntry) -> auth::Rule {
    auth::Rule {
        login: name(&entry.login),
        database: name(&entry.database),
        address: match entry.address {
            config::AddressMatch::Any => auth::AddressPattern::Any,
            config::AddressMatch::Network { address, prefix_bits } => {
                auth::AddressPattern::Block(auth::Cidr::new(address, prefix_bits))
            }
        },
        tls: match entry.tls {
            config::TlsMatch::Any => auth::TlsNeed::Any,
            config::TlsMatch::Required => auth::TlsNeed::Required,
        },
        method: match entry.method {
            config::RuleMethod::ScramSha256 => auth::Method::ScramSha256,
            config::RuleMethod::Trust => auth::Method::Trust,
            config::RuleMethod::Reject => auth::Method::Reject,
        },
    }
}

fn name(pattern: &config::NameMatch) -> tenant::Glob {
    match pattern {
        config::NameMatch::Any => tenant::Glob::any(),
        config::NameMatch::Exact(name) => tenant::Glob::exact(name),
    }
}

fn logins(config: &Config, secret: auth::ProcessSecret) -> Result<auth::Logins, StartFault> {
    let logins =
        config.logins.iter().map(|(name, entry)| login(name, entry, &secret)).collect::<Result<Vec<_>, _>>()?;
    auth::Logins::new(logins, secret).map_err(|fault| StartFault::Configuration(fault.to_string()))
}

fn login(name: &Arc<str>, entry: &config::LoginEntry, secret: &auth::ProcessSecret) -> Result<auth::Login, StartFault> {
    use secrecy::ExposeSecret as _;
    let verifier = match &entry.secret {
        None => None,
        Some(config::LoginSecret::Plain(password)) => Some(secret.verifier(name, password)),
        Some(config::LoginSecret::Scram(text)) => {
            let parsed = Verifier::parse(text.expose_secret());
            Some(parsed.map_err(|fault| StartFault::Configuration(format!("logins.{name}.scram: {fault}")))?)
        }
    };
    let databases = match &entry.databases {
        config::LoginDatabases::All => auth::DatabaseList::All,
        config::LoginDatabases::Listed(names) => {
            auth::DatabaseList::Only(names.iter().map(ToString::to_string).collect())
        }
    };
    Ok(auth::Login { name: Arc::clone(name), verifier, databases, tenant: tenant_policy(name, &entry.tenant)? })
}

fn tenant_policy(login: &str, from: &config::TenantPolicy) -> Result<tenant::TenantPolicy, StartFault> {
    let wrong = |what: String| StartFault::Configuration(format!("logins.{login}.tenant: {what}"));
    let (sources, separator, allowed) = match from {
        config::TenantPolicy::Fixed(tenant) => {
            return Ok(tenant::TenantPolicy {
                source: tenant::TenantSource::Fixed(tenant.clone()),
                allowed: tenant::AllowedTenants::Any,
            });
        }
        config::TenantPolicy::Named { sources, separator, allowed } => (sources, separator, allowed),
    };
    let origin = |source: &config::TenantSource| match source {
        config::TenantSource::Suffix => tenant::Origin::Suffix,
        config::TenantSource::Startup => tenant::Origin::Startup,
    };
    let allowed = match allowed {
        config::AllowedTenants::Any => tenant::AllowedTenants::Any,
        config::AllowedTenants::Listed(list) => tenant::AllowedTenants::List(list.clone()),
        config::AllowedTenants::Pattern(pattern) => tenant::AllowedTenants::Pattern(
            tenant::Glob::parse(pattern.as_str()).map_err(|fault| wrong(fault.to_string()))?,
        ),
    };
    let separator = tenant::Separator::parse(separator).map_err(|fault| wrong(fault.to_string()))?;
    Ok(tenant::TenantPolicy {
        source: tenant::TenantSource::Named { from: sources.iter().map(origin).collect(), separator },
        allowed,
    })
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
    let missing = |what: &str| StartFault::Configuration(format!("no [{what}]"));
    let group = config.servers.get(&key.server).ok_or_else(|| missing(&format!("servers.{}", key.server)))?;
    let role = config.roles.get(&key.role).ok_or_else(|| missing(&format!("roles.{}", key.role)))?;
    let target = ServerTarget {
        host: host(&group.host),
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
        limits: limits(&entry.pool),
        target,
        identity,
        prelude: prelude.clone(),
        statements_max: entry.pool.prepared_statements_max,
        clock,
        next_server: Arc::clone(next_server),
    }))
}

fn host(host: &config::ServerHost) -> connect::ServerHost {
    match host {
        config::ServerHost::Name(name) => connect::ServerHost::Name(Arc::clone(name)),
        config::ServerHost::Address(address) => connect::ServerHost::Address(*address),
        config::ServerHost::UnixFolder(folder) => connect::ServerHost::UnixFolder(folder.clone()),
    }
}

fn target_tls(from: &config::ServerTls) -> Result<TargetTls, StartFault> {
    let roots = |roots: &config::TrustedRoots| match roots {
        config::TrustedRoots::System => Roots::System,
        config::TrustedRoots::Given(given) => Roots::Given(given.clone()),
    };
    Ok(match from {
        config::ServerTls::Disable => TargetTls::Disable,
        config::ServerTls::Prefer => TargetTls::Prefer(tls::server_side(&Verification::Unverified)?),
        config::ServerTls::Require => TargetTls::Require(tls::server_side(&Verification::Unverified)?),
        config::ServerTls::VerifyCa(given) => {
            TargetTls::Require(tls::server_side(&Verification::Authority(roots(given)))?)
        }
        config::ServerTls::VerifyFull(given) => {
            TargetTls::Require(tls::server_side(&Verification::Full(roots(given)))?)
        }
    })
}

fn limits(from: &config::PoolSettings) -> PoolLimits {
    PoolLimits {
        size: from.size,
        size_min: from.size_min,
        wait_timeout: from.wait_timeout,
        waiting_max: from.waiting_max,
        server_lifetime: from.server_lifetime,
        server_idle_timeout: from.server_idle_timeout,
        server_check_delay: from.server_check_delay,
        connect_backoff_max: from.connect_backoff_max,
    }
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
