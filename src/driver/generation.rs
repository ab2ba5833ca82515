//! One configuration in force, and whether a session that began under another may go on under it.
//!
//! A reload makes a new generation as a whole or not at all. Each session takes the newest one up at a
//! moment when it has no server: a transaction keeps the rules it began with.
//!
//! Owns: what sessions derive from a configuration. Does not own: the reload itself (`reload`), pools.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;

use super::build::{self, Policies, PoolKey};
use super::registry::{ClientFacts, Shown};
use super::tls;
use crate::auth::{Access, Decision, Facts, PeerAddress, Proof, Refusal};
use crate::bypass::{Rule, Terms};
use crate::config::{ClientTls, Config, DatabaseEntry, EmergencyUse, LoginEntry};
use crate::fault::{Code, Fault};
use crate::guard::Preset;
use crate::scope::{Gate, Lifetime, Prelude, SealKey};
use crate::session::ClaimRules;
use crate::startup::Purpose;
use crate::tenant::{ClaimedBypass, TenantPolicy};

/// What a session is told whose certificate was good only for another authority.
const VOID: &str = "The client's certificate is not good any more.";

/// A configuration in force. Nothing in it changes.
#[derive(Debug)]
pub struct Generation {
    /// Counted from 1.
    pub number: u64,
    /// The configuration.
    pub config: Config,
    /// The guard's policies.
    pub policies: Policies,
    /// Those of databases where `check` has found something.
    policies_of: HashMap<Arc<str>, Policies>,
    /// What tenants' servers are sent after their login.
    prelude: Prelude,
    /// What bypass logins' servers are sent.
    bypass_prelude: Prelude,
    /// The same of both on sealed databases.
    sealed_preludes: [Prelude; 2],
    /// Their roles, by their configuration keys.
    bypass_roles: HashSet<Arc<str>>,
    /// What the sessions of logins that may claim have in common.
    claims: HashMap<Arc<str>, Arc<ClaimRules>>,
    /// The rules of bypass logins.
    bypass_rules: HashMap<Arc<str>, Arc<[Rule]>>,
    /// Since which generation each login's secret is what it is.
    secrets_since: HashMap<Arc<str>, u64>,
    /// Since which generation the same authority vouches for clients' certificates.
    authority_since: u64,
    /// Verifies what was shown to another one; without it nobody vouches.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
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
        let prelude =
            shared(Prelude::new(&config.scope.template, config.scope.lifetime), before.map(|before| &before.prelude));
        // A bypass ends with its transaction.
        let bypass_prelude = Prelude::new(&config.bypass.template, Lifetime::Transaction);
        let bypass_prelude = shared(bypass_prelude, before.map(|before| &before.bypass_prelude));
        let template = |gate: Gate| match gate {
            Gate::Bypass => &config.bypass.template,
            Gate::Tenants | Gate::Open => &config.scope.template,
        };
        let sealed = |gate: Gate, index: usize| {
            let old = before.and_then(|before| before.sealed_preludes.get(index));
            shared(Prelude::sealed(template(gate), gate), old)
        };
        let sealed_preludes = [sealed(Gate::Tenants, 0), sealed(Gate::Bypass, 1)];
        let bypass = config.logins.values().filter(|login| login.access() == Access::Bypass);
        let bypass_roles = bypass.filter_map(|login| login.role.clone()).collect();
        let logins = config.logins.iter().filter(|(_, login)| login.access() == Access::Bypass);
        let bypass_rules = logins.map(|(name, _)| (Arc::clone(name), config.bypass.rules_of(name))).collect();
        let secrets_since = config.logins.iter().map(|(name, entry)| (Arc::clone(name), since(name, entry))).collect();
        let policies = Policies::new(&config);
        let with_gaps = config.gaps.iter().filter(|(_, gaps)| !gaps.is_empty());
        let policies_of =
            with_gaps.map(|(database, gaps)| (Arc::clone(database), Policies::with(&config, gaps))).collect();
        let authority_since = before.and_then(|before| before.authority_since(&config)).unwrap_or(number);
        // One that cannot be used lets nobody log in, and a configuration with it comes into force nowhere.
        let verifier = config.tls.authority().and_then(|authority| tls::client_verifier(authority).ok());
        let claims = claim_rules(&config);
        Self {
            number,
            claims,
            policies,
            policies_of,
            prelude,
            bypass_prelude,
            sealed_preludes,
            bypass_roles,
            bypass_rules,
            secrets_since,
            authority_since,
            verifier,
            config,
        }
    }

    /// Since when the authority has been the same as in `config`; `None` if it is another now.
    fn authority_since(&self, config: &Config) -> Option<u64> {
        let is_same = match (self.config.tls.authority(), config.tls.authority()) {
            (None, None) => true,
            (Some(one), Some(another)) => one.is_same(another),
            (Some(_), None) | (None, Some(_)) => false,
        };
        is_same.then_some(self.authority_since)
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

    /// The guard's policies in a database.
    #[must_use]
    pub fn policies_of(&self, database: &str) -> &Policies {
        self.policies_of.get(database).unwrap_or(&self.policies)
    }

    /// What servers of a role in a database are sent after their login.
    #[must_use]
    pub fn prelude_in(&self, database: &DatabaseEntry, role: &str) -> &Prelude {
        self.prelude_if(self.bypass_roles.contains(role), database.seal.is_some())
    }

    const fn prelude_if(&self, is_bypass: bool, is_sealed: bool) -> &Prelude {
        let [tenants, bypass] = &self.sealed_preludes;
        match (is_bypass, is_sealed) {
            (false, false) => &self.prelude,
            (true, false) => &self.bypass_prelude,
            (false, true) => tenants,
            (true, true) => bypass,
        }
    }

    /// The key of tickets for a client, if its database is sealed.
    #[must_use]
    pub fn seal_of(&self, client: &ClientFacts) -> Option<&Arc<SealKey>> {
        self.config.databases.get(&client.database)?.seal.as_ref()
    }

    /// What the servers of a client have been sent: that of its role, told without a look-up of that, as it is compared at
    /// each lease.
    #[must_use]
    pub fn prelude_of(&self, client: &ClientFacts) -> &Prelude {
        let Some(entry) = self.config.databases.get(&client.database) else { return &self.prelude };
        let prelude = self.prelude_if(client.purpose == Purpose::Bypass, entry.seal.is_some());
        debug_assert!(self.pool_key(client).is_none_or(|key| prelude.is_same(self.prelude_in(entry, &key.role))));
        prelude
    }

    /// What kind of login a client has.
    #[must_use]
    pub fn preset_of(&self, client: &ClientFacts) -> Preset {
        self.config.logins.get(&client.login).map(|login| login.preset).unwrap_or_default()
    }

    /// What a client's bypasses may do; `None` for what is no bypass.
    #[must_use]
    pub fn terms_of(&self, client: &ClientFacts) -> Option<Terms> {
        let login = self.config.logins.get(&client.login)?;
        let rules = match self.bypass_rules.get(&client.login) {
            Some(rules) => Arc::clone(rules),
            // A bypass by a claim: all that counts is its reason, and whether bypasses are frozen.
            None if login.claimed_bypass.is_some() => Arc::default(),
            None => return None,
        };
        // The configuration's own reason is as good as whoever wrote it thinks.
        let is_fixed = login.claimed_bypass.as_ref().is_some_and(|claimed| claimed.reason.is_some());
        Some(Terms {
            rules,
            only_in_emergency: login.emergencies == EmergencyUse::Only,
            reason_chars_min: if is_fixed { 1 } else { self.config.bypass.reason_chars_min },
            database: Arc::clone(&client.database),
            address: client.address,
        })
    }

    /// How a client may claim its tenant.
    #[must_use]
    pub fn claim_rules(&self, client: &ClientFacts) -> Option<&Arc<ClaimRules>> {
        self.claims.get(&client.login)
    }

    /// What a client's records say it was let in as; `None` where nothing of it is recorded.
    #[must_use]
    pub fn recorded_as(&self, client: &ClientFacts) -> Option<&'static str> {
        let preset = self.preset_of(client);
        if preset.is_recorded() {
            return Some(preset.name());
        }
        let is_claimed = self.claim_rules(client).is_some_and(|rules| rules.bypass.is_some());
        is_claimed.then_some(CLAIMED)
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
        // A claimant falls back to the tenant it has named at its start.
        let base = if let Purpose::Claims(base) = &client.purpose { base.as_ref() } else { None };
        if client.tenant().or(base).is_some_and(|tenant| !still_admits(tenant)) {
            return Some("The login may not act for this tenant any more.");
        }
        let may_claim = login.tenant.as_ref().is_some_and(|policy| policy.claiming.is_allowed());
        if may_claim != matches!(client.purpose, Purpose::Claims(_)) && !is_console && login.preset != Preset::Bypass {
            return Some("Whether the login may claim its tenant has changed.");
        }
        if client.purpose == Purpose::Bypass && login.preset != Preset::Bypass {
            return Some("The login may not bypass any more.");
        }
        let is_bare = client.tls.is_none() && client.address != PeerAddress::Unix;
        if matches!(self.config.tls, ClientTls::Require(_)) && is_bare {
            return Some("Connections need TLS now.");
        }
        let shown = self.vouched_for(client);
        let needs_certificate = self.config.tls.authority().is_some_and(|authority| authority.is_required);
        if needs_certificate && client.tls.is_some() && shown.is_none() {
            return Some(client.shown.as_ref().map_or("Connections need a certificate now.", |_| VOID));
        }
        let facts = Facts {
            login: &client.login,
            user: client.shown.as_ref().map_or(&*client.login, |shown| &shown.user),
            database: &client.database,
            address: client.address,
            tls: client.tls.is_some(),
            certificate: shown.map(|shown| &shown.certificate),
        };
        match self.config.rules.decide(&facts) {
            Decision::Trust | Decision::Certificate => None,
            Decision::Password => match client.proof {
                Proof::Password => None,
                Proof::Certificate => Some("The rules ask for a password now."),
                Proof::Trusted => Some("The rules ask for a proof of identity now."),
            },
            Decision::Refuse(Refusal::CertificateMissing)
            | Decision::PasswordThenRefuse(Refusal::CertificateMissing)
                if client.shown.is_some() =>
            {
                Some(VOID)
            }
            Decision::Refuse(_) | Decision::PasswordThenRefuse(_) => Some("The rules refuse this connection now."),
        }
    }

    /// The certificate a client has shown, if it would still be good for a login.
    fn vouched_for<'c>(&self, client: &'c ClientFacts) -> Option<&'c Shown> {
        let shown = client.shown.as_deref()?;
        let is_good = client.generation >= self.authority_since || self.verifies(&shown.chain);
        is_good.then_some(shown)
    }

    fn verifies(&self, chain: &[CertificateDer<'static>]) -> bool {
        match (&self.verifier, chain) {
            (Some(verifier), [leaf, others @ ..]) => verifier.verify_client_cert(leaf, others, UnixTime::now()).is_ok(),
            (Some(_), []) | (None, _) => false,
        }
    }
}

/// The preset of records of claimed bypasses: the login's own says nothing of them.
const CLAIMED: &str = "claimed_bypass";

/// How logins may claim their tenants, where they may.
pub(super) fn claim_rules(config: &Config) -> HashMap<Arc<str>, Arc<ClaimRules>> {
    let rules = |tenants: &TenantPolicy, bypass: &Option<ClaimedBypass>| ClaimRules {
        template: config.scope.template.clone(),
        kind: config.scope.tenant_kind,
        tenants: tenants.clone(),
        bypass: bypass.clone(),
    };
    let may_claim = |login: &LoginEntry| login.tenant.clone().filter(|it| it.claiming.is_allowed());
    let claiming = |login: &LoginEntry| may_claim(login).map(|tenants| rules(&tenants, &login.claimed_bypass));
    let logins = config.logins.iter();
    logins.filter_map(|(name, login)| Some((Arc::clone(name), Arc::new(claiming(login)?)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{AddressPattern, CertificateNeed, ClientCertificate, Method, Rule, Rules, TlsNeed};
    use crate::config::{ClientAuthority, ClientTlsSettings, EmptyEnvironment, TlsIdentity, load};
    use crate::driver::registry::TlsFacts;
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
            proof: Proof::Password,
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
        assert!(loss(&next, &ClientFacts { proof: Proof::Trusted, ..client(1) }).is_some());
        let trusting = Generation::first(config(&format!("{text}[[rules]]\nmethod = \"trust\"\n")));
        assert_eq!(loss(&trusting, &ClientFacts { proof: Proof::Trusted, ..client(1) }), None);
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
        Some(as_shown(params.self_signed(&key).unwrap().der()))
    }

    fn as_shown(der: &CertificateDer<'static>) -> Arc<Shown> {
        let certificate = ClientCertificate::read(der).unwrap();
        Arc::new(Shown { certificate, chain: Box::new([der.clone()]), user: "a.tenant".into() })
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

    /// Who signs clients' certificates, and takes them back.
    struct Authority(rcgen::Issuer<'static, rcgen::KeyPair>, CertificateDer<'static>);

    impl Authority {
        fn new() -> Self {
            let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
            let key = rcgen::KeyPair::generate().unwrap();
            let root = params.self_signed(&key).unwrap().der().clone();
            Self(rcgen::Issuer::new(params, key), root)
        }

        fn shown(&self, number: u64) -> Option<Arc<Shown>> {
            let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(rcgen::DnType::CommonName, "a");
            params.serial_number = Some(number.into());
            let key = rcgen::KeyPair::generate().unwrap();
            Some(as_shown(params.signed_by(&key, &self.0).unwrap().der()))
        }

        fn vouching(&self, revoked: Option<u64>) -> ClientAuthority {
            let revoked = revoked.into_iter().map(|number| rcgen::RevokedCertParams {
                serial_number: number.into(),
                revocation_time: rcgen::date_time_ymd(2020, 1, 1),
                reason_code: None,
                invalidity_date: None,
            });
            let list = rcgen::CertificateRevocationListParams {
                this_update: rcgen::date_time_ymd(2020, 1, 1),
                next_update: rcgen::date_time_ymd(2100, 1, 1),
                crl_number: 1.into(),
                issuing_distribution_point: None,
                revoked_certs: revoked.collect(),
                key_identifier_method: rcgen::KeyIdMethod::Sha256,
            };
            let revocations = vec![list.signed_by(&self.0).unwrap().into()];
            ClientAuthority { roots: vec![self.1.clone()], revocations, is_required: false }
        }
    }

    /// A configuration whose clients show certificates of this authority, with one rule for all.
    fn certified(authority: Option<ClientAuthority>, method: Method) -> Config {
        let mut config = config(&login("one", "from = [\"suffix\"]"));
        let own = rcgen::generate_simple_self_signed(vec!["proxy".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
        let identity = TlsIdentity { chain: vec![own.cert.der().clone()], key: Arc::new(key.into()) };
        config.tls = ClientTls::Require(ClientTlsSettings { identity, authority });
        let (login, database, address) = (Glob::any(), Glob::any(), AddressPattern::Any);
        let certificate = CertificateNeed::None;
        config.rules = Rules::new(vec![Rule { login, database, address, tls: TlsNeed::Any, certificate, method }]);
        config
    }

    fn over_tls(shown: Option<Arc<Shown>>, proof: Proof) -> ClientFacts {
        let (version, suite) = (rustls::ProtocolVersion::TLSv1_3, rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
        ClientFacts { tls: Some(TlsFacts { version, suite }), shown, proof, ..client(1) }
    }

    #[test]
    fn a_session_that_rests_on_a_certificate_ends_when_it_is_not_good_any_more() {
        let (one, another) = (Authority::new(), Authority::new());
        let sessions = [1, 2].map(|number| over_tls(one.shown(number), Proof::Certificate));
        let first = Generation::first(certified(Some(one.vouching(None)), Method::Certificate));
        assert_eq!(sessions.each_ref().map(|session| loss(&first, session)), [None, None]);
        let left = |authority, method| {
            let next = first.next(certified(authority, method));
            sessions.each_ref().map(|session| loss(&next, session).is_none())
        };
        assert_eq!(left(Some(one.vouching(None)), Method::Certificate), [true, true]);
        assert_eq!(left(Some(one.vouching(Some(2))), Method::Certificate), [true, false]);
        assert_eq!(left(Some(another.vouching(None)), Method::Certificate), [false, false]);
        let mut both = one.vouching(None);
        both.roots.push(another.1.clone());
        both.revocations.append(&mut another.vouching(None).revocations);
        assert_eq!(left(Some(both), Method::Certificate), [true, true], "what changed does not concern them");
        // Of no use any more, and not asked for: the login is open to anybody.
        assert_eq!(left(None, Method::Trust), [true, true]);
        // Revoked, and in force again: what counts is what is now.
        let revoked = first.next(certified(Some(one.vouching(Some(1))), Method::Certificate));
        let again = revoked.next(certified(Some(one.vouching(None)), Method::Certificate));
        assert_eq!((loss(&revoked, &sessions[0]).as_deref(), loss(&again, &sessions[0])), (Some(VOID), None));
    }

    #[test]
    fn a_session_that_rests_on_a_password_does_not_ask_for_its_certificate() {
        let (one, another) = (Authority::new(), Authority::new());
        let shown = one.shown(1);
        let by_password = over_tls(shown.clone(), Proof::Password);
        let by_certificate = over_tls(shown, Proof::Certificate);
        let first = Generation::first(certified(Some(one.vouching(None)), Method::ScramSha256));
        for authority in [Some(one.vouching(None)), Some(one.vouching(Some(1))), Some(another.vouching(None)), None] {
            let next = first.next(certified(authority, Method::ScramSha256));
            assert_eq!(loss(&next, &by_password), None);
            let words = loss(&next, &by_certificate);
            assert!(words.is_some_and(|words| words.contains("password")), "a certificate alone is no password");
        }
    }

    #[test]
    fn sessions_without_a_certificate_end_when_every_connection_needs_one() {
        let one = Authority::new();
        let first = Generation::first(certified(Some(one.vouching(None)), Method::ScramSha256));
        let needed = |revoked| ClientAuthority { is_required: true, ..one.vouching(revoked) };
        let next = first.next(certified(Some(needed(None)), Method::ScramSha256));
        let (bare, with) = (over_tls(None, Proof::Password), over_tls(one.shown(1), Proof::Password));
        assert!(loss(&next, &bare).is_some_and(|words| words.contains("need a certificate")));
        assert_eq!(loss(&next, &with), None);
        let next = next.next(certified(Some(needed(Some(1))), Method::ScramSha256));
        assert_eq!(loss(&next, &with).as_deref(), Some(VOID));
        // There is no TLS on a unix socket, and nothing is asked of it.
        let local = ClientFacts { address: PeerAddress::Unix, ..client(1) };
        assert_eq!(loss(&next, &local), None);
    }
}
