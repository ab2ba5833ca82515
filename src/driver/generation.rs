//! One configuration in force, and whether a session that began under another may go on under it.
//!
//! A reload makes a new generation as a whole or not at all. Each session takes the newest one up at a
//! moment when it has no server: a transaction keeps the rules it began with.
//!
//! Owns: what sessions derive from a configuration. Does not own: the reload itself (`reload`), pools.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::build::{self, Policies, PoolKey};
use super::registry::ClientFacts;
use crate::auth::{Decision, Facts, PeerAddress};
use crate::config::{ClientTls, Config, LoginEntry};
use crate::fault::{Code, Fault};
use crate::guard::Preset;
use crate::scope::Prelude;
use crate::startup::Purpose;

/// A configuration in force. Nothing in it changes.
#[derive(Debug)]
pub struct Generation {
    /// Counted from 1.
    pub number: u64,
    /// The configuration.
    pub config: Config,
    /// The guard's policies.
    pub policies: Policies,
    /// What tenants' servers are sent after their login.
    prelude: Prelude,
    /// What bypass logins' servers are sent.
    bypass_prelude: Prelude,
    /// Their roles, by their configuration keys.
    bypass_roles: HashSet<Arc<str>>,
    /// Since which generation each login's secret is what it is.
    secrets_since: HashMap<Arc<str>, u64>,
}

impl Generation {
    /// The first one.
    #[must_use]
    pub fn first(config: Config) -> Self {
        Self::new(config, None, 1, |_, _| 1)
    }

    /// The one after this.
    #[must_use]
    pub fn next(&self, config: Config) -> Self {
        let number = self.number.saturating_add(1);
        Self::new(config, Some(self), number, |name, entry| self.secret_since(name, entry).unwrap_or(number))
    }

    fn new(config: Config, before: Option<&Self>, number: u64, since: impl Fn(&str, &LoginEntry) -> u64) -> Self {
        // The same bytes in the same place: compared at every lease.
        let shared = |new: Prelude, old: Option<&Prelude>| old.filter(|old| new.is_same(old)).cloned().unwrap_or(new);
        let prelude = shared(Prelude::new(&config.scope.template), before.map(|before| &before.prelude));
        let bypass_prelude = shared(Prelude::new(&config.bypass.template), before.map(|before| &before.bypass_prelude));
        let bypass = config.logins.values().filter(|login| login.preset == Preset::Bypass);
        let bypass_roles = bypass.filter_map(|login| login.role.clone()).collect();
        let secrets_since = config.logins.iter().map(|(name, entry)| (Arc::clone(name), since(name, entry))).collect();
        let policies = Policies::new(&config);
        Self { number, policies, prelude, bypass_prelude, bypass_roles, secrets_since, config }
    }

    /// Since when the login's secret has been the same as in `entry`; `None` if it is another now.
    fn secret_since(&self, name: &str, entry: &LoginEntry) -> Option<u64> {
        let is_same = match (&self.config.logins.get(name)?.secret, &entry.secret) {
            (None, None) => true,
            (Some(one), Some(another)) => one.is_same(another),
            (Some(_), None) | (None, Some(_)) => false,
        };
        self.secrets_since.get(name).copied().filter(|_| is_same)
    }

    /// What servers of a role are sent after their login.
    #[must_use]
    pub fn prelude_of_role(&self, role: &str) -> &Prelude {
        if self.bypass_roles.contains(role) { &self.bypass_prelude } else { &self.prelude }
    }

    /// What the servers of a client have been sent.
    #[must_use]
    pub fn prelude_of(&self, client: &ClientFacts) -> &Prelude {
        match client.purpose {
            Purpose::Bypass => &self.bypass_prelude,
            Purpose::Tenant(_) | Purpose::Console => &self.prelude,
        }
    }

    /// What kind of login a client has.
    #[must_use]
    pub fn preset_of(&self, client: &ClientFacts) -> Preset {
        self.config.logins.get(&client.login).map(|login| login.preset).unwrap_or_default()
    }

    /// The pool a client's servers come from.
    #[must_use]
    pub fn pool_key(&self, client: &ClientFacts) -> Option<PoolKey> {
        let entry = self.config.databases.get(&client.database)?;
        Some(build::pool_key(entry, self.config.logins.get(&client.login)?))
    }

    /// Whether a client that was admitted under this or an earlier generation may go on.
    ///
    /// # Errors
    /// What has been taken away from it.
    pub fn check(&self, client: &ClientFacts) -> Result<(), Fault> {
        self.loss_of(client).map_or(Ok(()), |loss| Err(Fault::of(Code::NoLongerAdmitted).with_detail(loss)))
    }

    fn loss_of(&self, client: &ClientFacts) -> Option<&'static str> {
        let Some(login) = self.config.logins.get(&client.login) else {
            return Some("The login is not configured any more.");
        };
        if self.secrets_since.get(&client.login).is_none_or(|since| *since > client.generation) {
            return Some("The login's secret has changed.");
        }
        let is_console = client.purpose == Purpose::Console;
        let has_database =
            self.config.databases.contains_key(&client.database) && login.databases.has(&client.database);
        if !is_console && !has_database {
            return Some("The database is not configured for this login any more.");
        }
        let still_admits = |tenant| {
            login.tenant.as_ref().is_some_and(|policy| policy.still_admits(self.config.scope.tenant_kind, tenant))
        };
        if client.tenant().is_some_and(|tenant| !still_admits(tenant)) {
            return Some("The login may not act for this tenant any more.");
        }
        if client.purpose == Purpose::Bypass && login.preset != Preset::Bypass {
            return Some("The login may not bypass any more.");
        }
        let is_bare = client.tls.is_none() && client.address != PeerAddress::Unix;
        if matches!(self.config.tls, ClientTls::Require(_)) && is_bare {
            return Some("Connections need TLS now.");
        }
        let facts = Facts {
            login: &client.login,
            user: client.shown.as_ref().map_or(&*client.login, |shown| &shown.user),
            database: &client.database,
            address: client.address,
            tls: client.tls.is_some(),
            certificate: client.shown.as_ref().map(|shown| &shown.certificate),
        };
        match self.config.rules.decide(&facts) {
            Decision::Trust | Decision::Certificate => None,
            Decision::Password if !client.is_trusted => None,
            Decision::Password => Some("The rules ask for a proof of identity now."),
            Decision::Refuse(_) | Decision::PasswordThenRefuse(_) => Some("The rules refuse this connection now."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{AddressPattern, CertificateNeed, ClientCertificate, Method, Rule, Rules, TlsNeed};
    use crate::config::{EmptyEnvironment, load};
    use crate::driver::registry::Shown;
    use crate::tenant::{Glob, TenantId, TenantKind};
    use crate::time::Moment;

    const ACME: &str = "00000000-0000-0000-0000-00000000000a";

    fn config(logins: &str) -> Config {
        let text = format!(
            "[servers.main]\nhost = \"/tmp\"\n[roles.app]\nuser = \"app\"\n\
             [databases.demo]\nserver = \"main\"\nrole = \"app\"\n{logins}"
        );
        load(&text, &EmptyEnvironment).unwrap().config
    }

    fn login(password: &str, tenant: &str) -> String {
        format!("[logins.a]\npassword = \"{password}\"\n[logins.a.tenant]\n{tenant}\n")
    }

    fn client(generation: u64) -> ClientFacts {
        ClientFacts {
            login: "a".into(),
            database: "demo".into(),
            purpose: Purpose::Tenant(TenantId::parse(TenantKind::Uuid, ACME).unwrap()),
            address: PeerAddress::Tcp(([127, 0, 0, 1], 5).into()),
            local: None,
            tls: None,
            shown: None,
            is_trusted: false,
            generation,
            application_name: "".into(),
            connected_at: Moment::START,
        }
    }

    fn loss(generation: &Generation, client: &ClientFacts) -> Option<String> {
        generation.check(client).err().and_then(|fault| fault.detail).map(|detail| detail.into_owned())
    }

    #[test]
    fn a_session_goes_on_unless_something_it_rests_on_is_gone() {
        let named = "from = [\"suffix\"]";
        let first = Generation::first(config(&login("one", named)));
        assert_eq!(loss(&first, &client(1)), None);
        for (logins, what) in [
            ("[logins.b]\npassword = \"x\"\ntenant.from = [\"suffix\"]\n".to_owned(), Some("login is not configured")),
            (login("two", named), Some("secret has changed")),
            (login("one", "fixed = \"00000000-0000-0000-0000-00000000000b\""), Some("this tenant any more")),
            (login("one", &format!("fixed = \"{ACME}\"")), None),
            (login("one", &format!("{named}\nallowed = [\"{ACME}\"]")), None),
            (login("one", &format!("{named}\nallowed = {{ pattern = \"b*\" }}")), Some("this tenant any more")),
            (format!("{}[[rules]]\nmethod = \"reject\"\n", login("one", named)), Some("rules refuse")),
            (format!("{}[[rules]]\nmethod = \"trust\"\n", login("one", named)), None),
            (format!("{}[scope]\ntenant_type = \"text\"\n", login("one", named)), None),
        ] {
            let next = first.next(config(&logins));
            let found = loss(&next, &client(1));
            assert_eq!(found.is_some(), what.is_some(), "{logins}: {found:?}");
            assert!(found.is_none_or(|found| what.is_some_and(|what| found.contains(what))), "{logins}");
        }
    }

    #[test]
    fn a_secret_that_changes_and_changes_back_is_another_one() {
        let named = "from = [\"suffix\"]";
        let first = Generation::first(config(&login("one", named)));
        let third = first.next(config(&login("two", named))).next(config(&login("one", named)));
        assert_eq!((third.number, loss(&third, &client(3))), (3, None));
        assert!(loss(&third, &client(1)).is_some() && loss(&third, &client(2)).is_some());
        let fourth = third.next(config(&login("one", named)));
        assert_eq!(loss(&fourth, &client(3)), None);
    }

    #[test]
    fn who_was_let_in_without_proof_has_to_prove_itself_when_the_rules_say_so() {
        let text = login("one", "from = [\"suffix\"]");
        let next = Generation::first(config(&text));
        assert!(loss(&next, &ClientFacts { is_trusted: true, ..client(1) }).is_some());
        let trusting = Generation::first(config(&format!("{text}[[rules]]\nmethod = \"trust\"\n")));
        assert_eq!(loss(&trusting, &ClientFacts { is_trusted: true, ..client(1) }), None);
    }

    /// With rules of its own, which a file could only have together with certificates.
    fn with_rules(certificate: CertificateNeed, method: Method) -> Generation {
        let mut config = config(&login("one", "from = [\"suffix\"]"));
        let (login, database, address) = (Glob::any(), Glob::any(), AddressPattern::Any);
        config.rules = Rules::new(vec![Rule { login, database, address, tls: TlsNeed::Any, certificate, method }]);
        Generation::first(config)
    }

    fn shown(name: &str) -> Option<Arc<Shown>> {
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = ClientCertificate::read(params.self_signed(&key).unwrap().der()).unwrap();
        Some(Arc::new(Shown { certificate, user: "a.tenant".into() }))
    }

    #[test]
    fn new_rules_ask_for_the_certificate_that_was_shown() {
        for (name, fits) in [("a", true), ("a.tenant", true), ("b", false)] {
            let client = ClientFacts { shown: shown(name), ..client(1) };
            let by_certificate = with_rules(CertificateNeed::None, Method::Certificate);
            assert_eq!(loss(&by_certificate, &client).is_none(), fits, "{name}");
            let too = with_rules(CertificateNeed::VerifyFull, Method::ScramSha256);
            assert_eq!(loss(&too, &client).is_none(), fits, "{name}");
            let any = with_rules(CertificateNeed::VerifyCa, Method::ScramSha256);
            assert_eq!(loss(&any, &client), None, "{name}");
        }
        let any = with_rules(CertificateNeed::VerifyCa, Method::ScramSha256);
        assert!(loss(&any, &client(1)).is_some());
    }
}
