//! What a client asks for in its StartupMessage, and what becomes of it once it has proven itself.

use super::Connection;
use super::client::{AuthenticatedClient, Purpose};
use super::fault::StartupFault;
use super::packet::StartupPacket;
use super::{StartupSettings, options};
use crate::auth::{Access, Logins, Match, Proof, Refusal};
use crate::fault::Fault;
use crate::tenant::{TenantClaims, TenantId, TenantPolicy, TenantRefusal};

/// Most settings a client may start with, tenants included. Drivers send under ten; each one has to be
/// judged.
pub(super) const SETTINGS_MAX: usize = 100;

/// Judges a setting a client starts with, by the policy of its login.
pub trait SettingJudge: Send + Sync {
    /// Decides on one setting; `name` and `value` are as sent.
    ///
    /// # Errors
    /// The fault says why the setting is refused.
    fn judge(&self, login: &str, name: &str, value: &str) -> Result<Judged, Fault>;
}

/// What becomes of an allowed setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judged {
    /// The session has it: name and value as the policy writes them.
    Keep(String, String),
    /// It is accepted and dropped.
    Ignore,
}

impl<F> SettingJudge for F
where
    F: Fn(&str, &str, &str) -> Result<Judged, Fault> + Send + Sync,
{
    fn judge(&self, login: &str, name: &str, value: &str) -> Result<Judged, Fault> {
        self(login, name, value)
    }
}

/// What an unproven client asks for.
pub(super) struct Asked {
    pub(super) user: String,
    pub(super) database: String,
    pub(super) protocol: i32,
    /// The rules refuse this client, after it has proven itself.
    pub(super) refusal: Option<Refusal>,
    /// Settings in the order in which PostgreSQL would apply them.
    settings: Vec<(String, String)>,
}

impl Asked {
    pub(super) fn new(logins: &Logins, packet: StartupPacket, protocol: i32) -> Result<Self, StartupFault> {
        let user = packet.user.filter(|user| !user.is_empty()).ok_or(StartupFault::NoUser)?;
        // PostgreSQL's default is the user name; the tenant behind it is no part of a database's.
        let database = packet.database.filter(|database| !database.is_empty());
        let database =
            database.unwrap_or_else(|| logins.find(&user).map_or(&*user, |found| &found.login.name).to_owned());
        let mut settings = options::read(packet.options.as_deref().unwrap_or_default())?;
        settings.extend(packet.settings);
        if settings.len() > SETTINGS_MAX {
            return Err(StartupFault::TooManySettings(settings.len()));
        }
        Ok(Self { user, database, protocol, refusal: None, settings })
    }

    /// Everything a proven client may still be refused for.
    pub(super) fn admit(
        self,
        settings: &StartupSettings,
        connection: Connection,
        proof: Proof,
    ) -> Result<AuthenticatedClient, StartupFault> {
        let Some(found) = settings.logins.find(&self.user) else {
            return Err(StartupFault::LoginUnknown(self.user));
        };
        if let Some(refusal) = self.refusal {
            return Err(StartupFault::Rules { refusal, user: self.user });
        }
        let purpose = self.purpose(settings, &found)?;
        let parameters = self.parameters(settings, &found.login.name)?;
        let login = found.login.name.clone();
        let Self { user, database, protocol, .. } = self;
        let Connection { address, tls, certificate } = connection;
        Ok(AuthenticatedClient {
            login,
            user,
            database,
            purpose,
            parameters,
            protocol,
            tls,
            proof,
            address,
            certificate,
        })
    }

    fn purpose(&self, settings: &StartupSettings, found: &Match<'_, '_>) -> Result<Purpose, StartupFault> {
        let unknown = || StartupFault::DatabaseUnknown(self.database.clone());
        if settings.console.has_database(&self.database) {
            // The name of a login alone: nobody administers on behalf of a tenant.
            let may_enter = found.suffix.is_none() && settings.console.logins.contains(&found.login.name);
            return if may_enter { Ok(Purpose::Console) } else { Err(unknown()) };
        }
        if !settings.databases.contains(&*self.database) || !found.login.databases.has(&self.database) {
            return Err(unknown());
        }
        match &found.login.access {
            Access::Tenant(policy) if policy.claiming.is_allowed() => match self.tenant(policy, settings, found) {
                Ok(tenant) => Ok(Purpose::Claims(Some(tenant))),
                Err(StartupFault::Tenant(TenantRefusal::Missing)) => Ok(Purpose::Claims(None)),
                Err(fault) => Err(fault),
            },
            Access::Tenant(policy) => self.tenant(policy, settings, found).map(Purpose::Tenant),
            Access::Bypass if self.settings.iter().any(|(name, _)| names_tenant(settings, name)) => {
                Err(StartupFault::BypassNamesTenant)
            }
            Access::Bypass => Ok(Purpose::Bypass),
            Access::Console => Err(unknown()),
        }
    }

    fn tenant(
        &self,
        policy: &TenantPolicy,
        settings: &StartupSettings,
        found: &Match<'_, '_>,
    ) -> Result<TenantId, StartupFault> {
        let named = self.settings.iter().filter(|(name, _)| names_tenant(settings, name));
        let claims = TenantClaims { suffix: found.suffix, startup: named.map(|(_, value)| value.as_str()).collect() };
        policy.resolve(settings.tenant_kind, &claims).map_err(StartupFault::Tenant)
    }

    /// All other settings, as judged; of several with one name the last counts, as in PostgreSQL.
    fn parameters(&self, settings: &StartupSettings, login: &str) -> Result<Vec<(String, String)>, StartupFault> {
        let mut kept: Vec<(String, String)> = Vec::new();
        for (name, value) in self.settings.iter().filter(|(name, _)| !names_tenant(settings, name)) {
            let judged = settings.judge.judge(login, name, value);
            let refused = |reason| StartupFault::Setting { name: name.clone(), reason: Box::new(reason) };
            let Judged::Keep(name, value) = judged.map_err(refused)? else { continue };
            match kept.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(&name)) {
                Some(known) => *known = (name, value),
                None => kept.push((name, value)),
            }
        }
        Ok(kept)
    }
}

/// PostgreSQL folds the names of settings in ASCII only (`guc_name_compare`).
fn names_tenant(settings: &StartupSettings, name: &str) -> bool {
    settings.tenant_settings.iter().any(|setting| setting.eq_ignore_ascii_case(name))
}
