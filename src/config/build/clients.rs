//! Where clients connect, and TLS towards them.

use std::net::SocketAddr;

use super::Builder;
use crate::config::raw::{Placed, Section};
use crate::config::settings::{ClientTls, Config, ListenSettings, TlsIdentity};

impl Builder<'_> {
    /// `[listen]`
    pub fn listen(&mut self, section: &Section) -> Option<ListenSettings> {
        let texts = section.texts("addresses")?;
        if texts.is_empty() {
            self.problems.error(&section.place_of("addresses"), "at least one address is needed");
        }
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for text in &texts {
            if let Some(address) = self.listen_address(text, &addresses) {
                addresses.push(address);
            }
        }
        Some(ListenSettings {
            addresses,
            client_connections_max: section.number("client_connections_max")?,
            login_connections_max: section.number("login_connections_max")?,
            login_timeout: section.duration("login_timeout")?,
        })
    }

    fn listen_address(&mut self, text: &Placed<String>, before: &[SocketAddr]) -> Option<SocketAddr> {
        let Ok(address) = text.value.parse::<SocketAddr>() else {
            let hint = "write \"127.0.0.1:6432\", \"[::1]:6432\" or \"0.0.0.0:6432\"";
            self.problems.error_with_hint(&text.place, format!("{:?} is no address with port", text.value), hint);
            return None;
        };
        if let Some(other) = before.iter().find(|other| overlap(**other, address)) {
            self.problems.error(&text.place, format!("{address} and {other} cannot both be listened on"));
            return None;
        }
        Some(address)
    }

    /// `[tls]`
    pub fn client_tls(&mut self, section: &Section) -> Option<ClientTls> {
        let mode = section.text("mode")?;
        if mode == "disable" {
            return Some(ClientTls::Disable);
        }
        for key in ["certificate", "key"] {
            if !section.has(key) {
                self.problems.error(&section.place.key(key), format!("is missing, and tls.mode = {mode:?} needs it"));
            }
        }
        let chain = section.text("certificate").map(|path| self.certificates(&section.place_of("certificate"), &path));
        let key = section.text("key").map(|path| self.private_key(&section.place_of("key"), &path));
        let identity = self.identity(&section.place_of("key"), TlsIdentity { chain: chain??, key: key?? })?;
        Some(if mode == "require" { ClientTls::Require(identity) } else { ClientTls::Offer(identity) })
    }

    /// Outside the machine, SCRAM protects the password; without TLS nothing protects the rows.
    pub fn check_listeners_are_private(&mut self, root: &Section, config: &Config) {
        let section = root.table("listen");
        if matches!(config.tls, ClientTls::Disable)
            && config.listen.addresses.iter().any(|address| !address.ip().is_loopback())
        {
            let hint = "set [tls] mode = \"require\" unless the network is trusted";
            self.problems.warn(&section.place_of("addresses"), "clients reach this address without TLS", hint);
        }
    }
}

/// Port 0 is a free port each time.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let is_same_family = a.is_ipv4() == b.is_ipv4();
    let is_same_ip = a.ip() == b.ip() || (is_same_family && (a.ip().is_unspecified() || b.ip().is_unspecified()));
    a.port() != 0 && a.port() == b.port() && is_same_ip
}
