//! `[[rules]]`: who may log in how.

use std::net::IpAddr;

use super::{Builder, pick};
use crate::config::problem::Place;
use crate::config::raw::{Placed, Section};
use crate::config::settings::{AddressMatch, NameMatch, RuleEntry, RuleMethod, TlsMatch};

impl Builder<'_> {
    /// `None` where the file has no rules.
    pub fn rules(&mut self, root: &Section) -> Option<Vec<RuleEntry>> {
        let list = root.table("rules");
        if !list.is_present || list.elements().is_empty() {
            return None;
        }
        let has_tls = root.table("tls").text("mode").is_none_or(|mode| mode != "disable");
        Some(list.elements().iter().filter_map(|section| self.rule(root, section, has_tls)).collect())
    }

    fn rule(&mut self, root: &Section, section: &Section, has_tls: bool) -> Option<RuleEntry> {
        if !section.has("method") {
            self.problems.error(&section.place.key("method"), "is missing");
        }
        let login = self.name_match(root, section, "login", "logins");
        let database = self.name_match(root, section, "database", "databases");
        let address = section.text("address").and_then(|text| self.address(&section.place_of("address"), &text));
        let tls = pick(section, "tls", &[("any", TlsMatch::Any), ("required", TlsMatch::Required)]);
        if tls == Some(TlsMatch::Required) && !has_tls {
            self.problems.error(&section.place_of("tls"), "no client can have TLS while tls.mode is \"disable\"");
        }
        let methods =
            [("scram-sha-256", RuleMethod::ScramSha256), ("trust", RuleMethod::Trust), ("reject", RuleMethod::Reject)];
        let method = pick(section, "method", &methods);
        Some(RuleEntry { login: login?, database: database?, address: address?, tls: tls?, method: method? })
    }

    fn name_match(&mut self, root: &Section, section: &Section, key: &str, kind: &str) -> Option<NameMatch> {
        let value = section.text(key)?;
        if value == "*" {
            return Some(NameMatch::Any);
        }
        let place = section.place_of(key);
        self.reference(root, kind, &Placed { place, value }).map(NameMatch::Exact)
    }

    fn address(&mut self, place: &Place, text: &str) -> Option<AddressMatch> {
        if text == "*" {
            return Some(AddressMatch::Any);
        }
        match parse_network(text) {
            Ok(network) => Some(network),
            Err(reason) => {
                let hint = "write \"10.0.0.0/8\", \"::1/128\", a single address or \"*\"";
                self.problems.error_with_hint(place, format!("{text:?} {reason}"), hint);
                None
            }
        }
    }
}

fn parse_network(text: &str) -> Result<AddressMatch, &'static str> {
    let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
    let address: IpAddr = address.parse().map_err(|_| "is no address or network")?;
    let bits_max = if address.is_ipv4() { 32 } else { 128 };
    let prefix_bits = match prefix {
        Some(prefix) if !prefix.starts_with('+') => prefix.parse().map_err(|_| "has no valid prefix length")?,
        Some(_) => return Err("has no valid prefix length"),
        None => bits_max,
    };
    if prefix_bits > bits_max {
        return Err("has a prefix longer than the address");
    }
    if has_bits_beyond(address, prefix_bits) {
        return Err("has bits set beyond its prefix");
    }
    Ok(AddressMatch::Network { address, prefix_bits })
}

fn has_bits_beyond(address: IpAddr, prefix_bits: u8) -> bool {
    let host_bits = match address {
        IpAddr::V4(address) => u128::from(address.to_bits()).checked_shl(96 + u32::from(prefix_bits)),
        IpAddr::V6(address) => address.to_bits().checked_shl(u32::from(prefix_bits)),
    };
    host_bits.is_some_and(|bits| bits != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_no_bits_beyond_their_prefix() {
        for good in ["127.0.0.1/32", "10.0.0.0/8", "0.0.0.0/0", "::/0", "::1/128", "fe80::/10", "192.168.1.4"] {
            assert!(parse_network(good).is_ok(), "{good}");
        }
        for bad in ["10.0.0.1/8", "10.0.0.0/33", "::1/127", "::1/129", "10.0.0.0/", "10.0.0.0/+8", "10.0.0/8", "x", ""]
        {
            assert!(parse_network(bad).is_err(), "{bad}");
        }
    }
}
