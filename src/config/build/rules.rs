//! `[[rules]]`: who may log in how.

use super::{Builder, pick};
use crate::auth::{AddressPattern, CertificateNeed, Cidr, Method, Rule, Rules, TlsNeed};
use crate::config::problem::Place;
use crate::config::raw::{Placed, Section};
use crate::tenant::Glob;

impl Builder<'_> {
    /// The rules of the file, or those that count where it has none.
    pub fn rules(&mut self, root: &Section) -> Rules {
        let list = root.table("rules");
        if !list.is_present || list.elements().is_empty() {
            return Rules::default();
        }
        let has_tls = root.table("tls").text("mode").is_none_or(|mode| mode != "disable");
        Rules::new(list.elements().iter().filter_map(|section| self.rule(root, section, has_tls)).collect())
    }

    fn rule(&mut self, root: &Section, section: &Section, has_tls: bool) -> Option<Rule> {
        if !section.has("method") {
            self.problems.error(&section.place.key("method"), "is missing");
        }
        let login = self.name_pattern(root, section, "login", "logins");
        let database = self.name_pattern(root, section, "database", "databases");
        let address = section.text("address").and_then(|text| self.address(&section.place_of("address"), &text));
        let tls = pick(section, "tls", &[("any", TlsNeed::Any), ("required", TlsNeed::Required)]);
        if tls == Some(TlsNeed::Required) && !has_tls {
            self.problems.error(&section.place_of("tls"), "no client can have TLS while tls.mode is \"disable\"");
        }
        let methods = [
            ("scram-sha-256", Method::ScramSha256),
            ("cert", Method::Certificate),
            ("trust", Method::Trust),
            ("reject", Method::Reject),
        ];
        let method = pick(section, "method", &methods);
        let certificate = self.certificate_need(root, section, method);
        let (login, database, address) = (login?, database?, address?);
        Some(Rule { login, database, address, tls: tls?, certificate: certificate?, method: method? })
    }

    /// A rule that wants certificates nobody is asked for would refuse everyone it fits.
    fn certificate_need(
        &mut self,
        root: &Section,
        section: &Section,
        method: Option<Method>,
    ) -> Option<CertificateNeed> {
        let needs = [
            ("none", CertificateNeed::None),
            ("verify-ca", CertificateNeed::VerifyCa),
            ("verify-full", CertificateNeed::VerifyFull),
        ];
        let need = pick(section, "certificate", &needs)?;
        let wanting = match (method, need) {
            (Some(Method::Certificate), _) => "method",
            (_, CertificateNeed::VerifyCa | CertificateNeed::VerifyFull) => "certificate",
            (_, CertificateNeed::None) => return Some(need),
        };
        if !root.table("tls").has("client_ca") {
            let message = "clients are asked for no certificate";
            self.problems.error_with_hint(&section.place_of(wanting), message, "set [tls] client_ca");
        }
        if section.text("address").is_some_and(|address| address == "local") {
            self.problems.error(&section.place_of(wanting), "there are no certificates on unix sockets");
        }
        Some(need)
    }

    fn name_pattern(&mut self, root: &Section, section: &Section, key: &str, kind: &str) -> Option<Glob> {
        let value = section.text(key)?;
        if value == "*" {
            return Some(Glob::any());
        }
        let place = section.place_of(key);
        self.reference(root, kind, &Placed { place, value }).map(|name| Glob::exact(&name))
    }

    /// Where from.
    pub fn address(&mut self, place: &Place, text: &str) -> Option<AddressPattern> {
        match text {
            "*" => return Some(AddressPattern::Any),
            "local" => return Some(AddressPattern::Local),
            _ => {}
        }
        match Cidr::parse(text) {
            Ok(block) => Some(AddressPattern::Block(block)),
            Err(fault) => {
                let hint = "write \"10.0.0.0/8\", \"::1/128\", a single address, \"local\" or \"*\"";
                self.problems.error_with_hint(place, format!("{text:?}: {fault}"), hint);
                None
            }
        }
    }
}
