//! Rules: which logins may come from where, to what, and how they prove themselves (PostgreSQL's
//! `pg_hba.conf` in spirit). The first rule that matches decides.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::certificate::ClientCertificate;
use crate::tenant::Glob;

/// Where a client's connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerAddress {
    /// A TCP peer.
    Tcp(SocketAddr),
    /// A process on this machine, by unix socket.
    Unix,
}

impl PeerAddress {
    fn ip(self) -> Option<IpAddr> {
        match self {
            PeerAddress::Tcp(address) => Some(address.ip().to_canonical()),
            PeerAddress::Unix => None,
        }
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerAddress::Tcp(address) => address.fmt(f),
            PeerAddress::Unix => f.write_str("[local]"),
        }
    }
}

/// A block of addresses. IPv4 addresses mapped into IPv6 count as IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    network: IpAddr,
    prefix_bits: u8,
}

/// Why a text is no block of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrFault {
    /// Not an address, or not `address/bits`.
    #[error("expected an address such as 10.0.0.0/8 or ::1")]
    Form,
    /// More bits than the address has.
    #[error("more prefix bits than the address has")]
    Bits,
    /// Bits set behind the prefix: nearly always a mistyped address or prefix.
    #[error("the address has bits set behind its prefix")]
    HostBits,
}

impl Cidr {
    /// From `address/bits`, or an address alone (all of its bits).
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, CidrFault> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let network: IpAddr = address.parse().map_err(|_| CidrFault::Form)?;
        let width = width_bits(network);
        let prefix_bits = match bits {
            None => width,
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                bits.parse().map_err(|_| CidrFault::Bits)?
            }
            Some(_) => return Err(CidrFault::Form),
        };
        if prefix_bits > width {
            return Err(CidrFault::Bits);
        }
        let cidr = Self { network, prefix_bits };
        if as_bits(network) & !cidr.mask() == 0 { Ok(cidr.unmapped()) } else { Err(CidrFault::HostBits) }
    }

    /// A block of mapped addresses is the IPv4 block it stands for: peers are compared unmapped.
    fn unmapped(self) -> Self {
        match (self.network.to_canonical(), self.prefix_bits) {
            (network @ IpAddr::V4(_), bits @ 96..) if self.network.is_ipv6() => {
                Self { network, prefix_bits: bits - 96 }
            }
            _ => self,
        }
    }

    /// Whether the block holds the address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        width_bits(address) == width_bits(self.network) && (as_bits(address) ^ as_bits(self.network)) & self.mask() == 0
    }

    fn mask(&self) -> u128 {
        let host_bits = u32::from(width_bits(self.network) - self.prefix_bits);
        u128::MAX.checked_shl(host_bits).unwrap_or(0)
    }
}

const fn width_bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn as_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// Which addresses a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressPattern {
    /// Every address, unix sockets included.
    Any,
    /// A block of addresses; never a unix socket.
    Block(Cidr),
    /// Unix sockets only (`local`).
    Local,
}

impl AddressPattern {
    /// Whether a peer is one of those.
    #[must_use]
    pub fn holds(&self, peer: PeerAddress) -> bool {
        match (self, peer.ip()) {
            (AddressPattern::Any, _) => true,
            (AddressPattern::Block(block), Some(ip)) => block.contains(ip),
            (AddressPattern::Block(_), None) => false,
            (AddressPattern::Local, _) => peer == PeerAddress::Unix,
        }
    }
}

/// Which connections a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsNeed {
    /// With or without TLS.
    Any,
    /// Only with TLS.
    Required,
}

/// What a rule demands of the client's certificate, beside its method. Unlike address and TLS this does not decide
/// whether the rule fits: where it fits and the certificate is missing, the client is refused and no later rule is
/// asked, as in PostgreSQL (`clientcert`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateNeed {
    /// Nothing.
    None,
    /// That there is one; its chain has been verified.
    VerifyCa,
    /// That it is made out to the login, too.
    VerifyFull,
}

/// How a client proves itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// By its password, which never crosses the wire.
    ScramSha256,
    /// By a certificate that is made out to it.
    Certificate,
    /// Not at all.
    Trust,
    /// It may not connect.
    Reject,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Logins it is about.
    pub login: Glob,
    /// Databases (as clients name them) it is about.
    pub database: Glob,
    /// Addresses it is about.
    pub address: AddressPattern,
    /// Connections it is about.
    pub tls: TlsNeed,
    /// What it demands of the client's certificate.
    pub certificate: CertificateNeed,
    /// What it says.
    pub method: Method,
}

/// What a client's connection shows before it has proven anything.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The configured login the user name means, or the user name if it means none.
    pub login: &'a str,
    /// The user name as sent: the login, perhaps with a tenant behind it.
    pub user: &'a str,
    /// The database asked for.
    pub database: &'a str,
    /// Where it comes from.
    pub address: PeerAddress,
    /// Whether it is encrypted.
    pub tls: bool,
    /// The certificate it has shown, if any.
    pub certificate: Option<&'a ClientCertificate>,
}

/// What the rules say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Ask for a password.
    Password,
    /// Let in without any proof.
    Trust,
    /// Let in: its certificate has proven it.
    Certificate,
    /// Refuse.
    Refuse(Refusal),
    /// Ask for a password and refuse even if it is right. The rules differ by login here: refusing at
    /// once would tell which logins exist.
    PasswordThenRefuse(Refusal),
}

/// How a client that was let in has proven who it is. Rules that a reload brings may ask for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// By its password.
    Password,
    /// By its certificate alone.
    Certificate,
    /// Not at all: the rules trust it.
    Trusted,
}

impl Proof {
    /// The method's name, as in `[[rules]]`.
    #[must_use]
    pub const fn method(self) -> &'static str {
        match self {
            Proof::Password => "scram-sha-256",
            Proof::Certificate => "cert",
            Proof::Trusted => "trust",
        }
    }
}

/// Why a client is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A rule rejects it.
    Rejected,
    /// No rule matches.
    NoRule,
    /// A rule would match if the connection were encrypted.
    TlsRequired,
    /// The rule that matches wants a certificate.
    CertificateMissing,
    /// It wants one that is made out to the login.
    CertificateOfAnother,
}

/// All rules, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    rules: Vec<Rule>,
}

impl Default for Rules {
    /// Passwords for everyone: what counts while no rule is configured.
    fn default() -> Self {
        let rule = Rule {
            login: Glob::any(),
            database: Glob::any(),
            address: AddressPattern::Any,
            tls: TlsNeed::Any,
            certificate: CertificateNeed::None,
            method: Method::ScramSha256,
        };
        Self { rules: vec![rule] }
    }
}

impl Rules {
    /// Rules as configured; an empty list lets nobody in (see [`Rules::default`]).
    #[must_use]
    pub const fn new(rules: Vec<Rule>) -> Self {
        Self { rules }
    }

    /// What the rules say about a client.
    #[must_use]
    pub fn decide(&self, facts: &Facts<'_>) -> Decision {
        let refusal = match self.first_match(facts) {
            Some(rule) => match rule.judge(facts) {
                Ok(Admission::Password) => return Decision::Password,
                Ok(Admission::Trust) => return Decision::Trust,
                Ok(Admission::Certificate) => return Decision::Certificate,
                Err(refusal) => refusal,
            },
            None if !facts.tls && self.would_admit_with_tls(facts) => Refusal::TlsRequired,
            None => Refusal::NoRule,
        };
        if self.asks_some_login(facts) { Decision::PasswordThenRefuse(refusal) } else { Decision::Refuse(refusal) }
    }

    fn first_match(&self, facts: &Facts<'_>) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.matches(facts) && rule.login.matches(facts.login))
    }

    fn would_admit_with_tls(&self, facts: &Facts<'_>) -> bool {
        let is_local = facts.address == PeerAddress::Unix;
        !is_local && self.first_match(&Facts { tls: true, ..*facts }).is_some_and(|rule| rule.method != Method::Reject)
    }

    /// Whether a client like this one, under another login, would be asked for a password.
    fn asks_some_login(&self, facts: &Facts<'_>) -> bool {
        for rule in self.rules.iter().filter(|rule| rule.matches(facts)) {
            // A certificate that is there may be another login's.
            let may_fit = rule.certificate == CertificateNeed::None || facts.certificate.is_some();
            if rule.method == Method::ScramSha256 && may_fit {
                return true;
            }
            if rule.login.is_any() {
                return false;
            }
        }
        false
    }
}

/// How a rule that matches lets a client in.
enum Admission {
    Password,
    Trust,
    Certificate,
}

impl Rule {
    /// Whether everything but the login fits.
    fn matches(&self, facts: &Facts<'_>) -> bool {
        let address_fits = self.address.holds(facts.address);
        let tls_fits = match self.tls {
            TlsNeed::Any => true,
            TlsNeed::Required => facts.tls,
        };
        address_fits && tls_fits && self.database.matches(facts.database)
    }

    /// What it says of a client that it matches.
    fn judge(&self, facts: &Facts<'_>) -> Result<Admission, Refusal> {
        let (admission, need) = match self.method {
            Method::Reject => return Err(Refusal::Rejected),
            Method::ScramSha256 => (Admission::Password, self.certificate),
            Method::Trust => (Admission::Trust, self.certificate),
            // Without a name the certificate would prove any login.
            Method::Certificate => (Admission::Certificate, CertificateNeed::VerifyFull),
        };
        match (need, facts.certificate) {
            (CertificateNeed::None, _) | (CertificateNeed::VerifyCa, Some(_)) => Ok(admission),
            (CertificateNeed::VerifyCa | CertificateNeed::VerifyFull, None) => Err(Refusal::CertificateMissing),
            // One made out to a login with a tenant behind it stands for that tenant alone.
            (CertificateNeed::VerifyFull, Some(certificate)) => {
                let fits = certificate.is_made_out_to(facts.login) || certificate.is_made_out_to(facts.user);
                if fits { Ok(admission) } else { Err(Refusal::CertificateOfAnother) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(login: &str, address: &str, tls: TlsNeed, method: Method) -> Rule {
        let address = match address {
            "*" => AddressPattern::Any,
            "local" => AddressPattern::Local,
            block => AddressPattern::Block(Cidr::parse(block).unwrap()),
        };
        let (login, database) = (Glob::parse(login).unwrap(), Glob::any());
        Rule { login, database, address, tls, certificate: CertificateNeed::None, method }
    }

    fn certificate(name: &str) -> ClientCertificate {
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = rcgen::KeyPair::generate().unwrap();
        ClientCertificate::read(params.self_signed(&key).unwrap().der()).unwrap()
    }

    fn facts(login: &'static str, address: &str, tls: bool) -> Facts<'static> {
        let address = PeerAddress::Tcp(SocketAddr::new(address.parse().unwrap(), 1));
        Facts { login, user: login, database: "demo", address, tls, certificate: None }
    }

    #[test]
    fn blocks_hold_their_addresses() {
        let block = Cidr::parse("10.1.0.0/16").unwrap();
        assert!(block.contains("10.1.255.255".parse().unwrap()));
        assert!(block.contains("::ffff:10.1.2.3".parse().unwrap()));
        assert!(!block.contains("10.2.0.0".parse().unwrap()));
        assert!(!block.contains("::1".parse().unwrap()));
        assert!(Cidr::parse("0.0.0.0/0").unwrap().contains("255.1.2.3".parse().unwrap()));
        assert!(!Cidr::parse("0.0.0.0/0").unwrap().contains("::1".parse().unwrap()));
        assert!(Cidr::parse("::/0").unwrap().contains("fe80::1".parse().unwrap()));
        assert!(Cidr::parse("fe80::/10").unwrap().contains("febf::1".parse().unwrap()));
        assert!(!Cidr::parse("fe80::/10").unwrap().contains("fec0::1".parse().unwrap()));
        assert_eq!(Cidr::parse("::ffff:10.0.0.0/104"), Cidr::parse("10.0.0.0/8"));
        for (bad, fault) in [
            ("", CidrFault::Form),
            ("10.0.0.1/8", CidrFault::HostBits),
            ("10.0.0.0/33", CidrFault::Bits),
            ("10.0.0.0/999", CidrFault::Bits),
            ("10.0.0.0/+8", CidrFault::Form),
            ("10.0.0.0/", CidrFault::Bits),
            ("localhost", CidrFault::Form),
        ] {
            assert_eq!(Cidr::parse(bad).err(), Some(fault), "{bad}");
        }
    }

    #[test]
    fn the_first_match_decides() {
        let rules = Rules::new(vec![
            rule("*", "10.0.0.0/8", TlsNeed::Any, Method::Reject),
            rule("dev", "127.0.0.1", TlsNeed::Any, Method::Trust),
            rule("*", "*", TlsNeed::Required, Method::ScramSha256),
        ]);
        assert_eq!(rules.decide(&facts("dev", "10.1.1.1", true)), Decision::Refuse(Refusal::Rejected));
        assert_eq!(rules.decide(&facts("dev", "127.0.0.1", false)), Decision::Trust);
        assert_eq!(rules.decide(&facts("app", "127.0.0.1", true)), Decision::Password);
        assert_eq!(rules.decide(&facts("app", "127.0.0.1", false)), Decision::Refuse(Refusal::TlsRequired));
    }

    #[test]
    fn no_rules_mean_passwords_and_an_empty_list_means_nobody() {
        assert_eq!(Rules::default().decide(&facts("x", "1.2.3.4", false)), Decision::Password);
        assert_eq!(Rules::new(vec![]).decide(&facts("x", "1.2.3.4", false)), Decision::Refuse(Refusal::NoRule));
    }

    #[test]
    fn a_rule_for_one_login_does_not_tell_who_exists() {
        let rules = Rules::new(vec![rule("app", "*", TlsNeed::Any, Method::ScramSha256)]);
        assert_eq!(rules.decide(&facts("app", "1.2.3.4", false)), Decision::Password);
        assert_eq!(rules.decide(&facts("nobody", "1.2.3.4", false)), Decision::PasswordThenRefuse(Refusal::NoRule));
    }

    #[test]
    fn a_unix_socket_is_in_no_block() {
        let rules = Rules::new(vec![rule("*", "0.0.0.0/0", TlsNeed::Any, Method::Trust)]);
        let facts = Facts { address: PeerAddress::Unix, ..facts("a", "1.1.1.1", false) };
        assert_eq!(rules.decide(&facts), Decision::Refuse(Refusal::NoRule));
    }

    #[test]
    fn local_is_for_unix_sockets_alone() {
        let rules = Rules::new(vec![
            rule("*", "local", TlsNeed::Any, Method::Trust),
            rule("*", "*", TlsNeed::Required, Method::ScramSha256),
        ]);
        let unix = Facts { address: PeerAddress::Unix, ..facts("a", "1.1.1.1", false) };
        assert_eq!(rules.decide(&unix), Decision::Trust);
        assert_eq!(rules.decide(&facts("a", "127.0.0.1", true)), Decision::Password);
        // No TLS will ever be there: telling the client to use it would be no help.
        let tls_only = Rules::new(vec![rule("*", "*", TlsNeed::Required, Method::Trust)]);
        assert_eq!(tls_only.decide(&unix), Decision::Refuse(Refusal::NoRule));
    }

    #[test]
    fn a_rules_certificate_is_demanded_and_does_not_let_the_next_rule_in() {
        let strict = |need| Rule { certificate: need, ..rule("app", "*", TlsNeed::Any, Method::ScramSha256) };
        let (mine, other) = (certificate("app"), certificate("other"));
        for (need, shown, expected) in [
            (CertificateNeed::None, None, Decision::Password),
            (CertificateNeed::VerifyCa, Some(&other), Decision::Password),
            (CertificateNeed::VerifyFull, Some(&mine), Decision::Password),
            (CertificateNeed::VerifyCa, None, Decision::PasswordThenRefuse(Refusal::CertificateMissing)),
            (CertificateNeed::VerifyFull, None, Decision::PasswordThenRefuse(Refusal::CertificateMissing)),
            (CertificateNeed::VerifyFull, Some(&other), Decision::PasswordThenRefuse(Refusal::CertificateOfAnother)),
        ] {
            let rules = Rules::new(vec![strict(need), rule("*", "*", TlsNeed::Any, Method::ScramSha256)]);
            let facts = Facts { certificate: shown, ..facts("app", "1.2.3.4", true) };
            assert_eq!(rules.decide(&facts), expected, "{need:?} {shown:?}");
        }
        // Where no login would be asked for a password, nothing is given away by refusing at once.
        let rules = Rules::new(vec![Rule { login: Glob::any(), ..strict(CertificateNeed::VerifyCa) }]);
        let plain = facts("app", "1.2.3.4", false);
        assert_eq!(rules.decide(&plain), Decision::Refuse(Refusal::CertificateMissing));
    }

    #[test]
    fn a_certificate_proves_the_login_it_is_made_out_to_and_no_other() {
        let rules = Rules::new(vec![rule("*", "*", TlsNeed::Required, Method::Certificate)]);
        let decide = |login, user, shown: &ClientCertificate| {
            rules.decide(&Facts { user, certificate: Some(shown), ..facts(login, "1.2.3.4", true) })
        };
        let login = certificate("app");
        assert_eq!(decide("app", "app", &login), Decision::Certificate);
        assert_eq!(decide("app", "app.acme", &login), Decision::Certificate);
        assert_eq!(decide("admin", "admin", &login), Decision::Refuse(Refusal::CertificateOfAnother));
        let tenant = certificate("app.acme");
        assert_eq!(decide("app", "app.acme", &tenant), Decision::Certificate);
        for user in ["app", "app.globex", "app.acme2"] {
            assert_eq!(decide("app", user, &tenant), Decision::Refuse(Refusal::CertificateOfAnother), "{user}");
        }
        let without = facts("app", "1.2.3.4", true);
        assert_eq!(rules.decide(&without), Decision::Refuse(Refusal::CertificateMissing));
    }
}
