//! Where clients connect, and TLS towards them.

use std::net::SocketAddr;
use std::path::Path;

use super::Builder;
use crate::config::raw::{Placed, Section};
use crate::config::settings::{
    ClientAuthority, ClientTls, ClientTlsSettings, Config, ListenSettings, TlsIdentity, UnixSocketSettings,
};

/// Longest path of a unix socket (`sun_path` without its last zero byte), less what the listener appends to it
/// while it makes the socket (`.new`).
const SOCKET_PATH_BYTES_MAX: usize = 107 - 4;

impl Builder<'_> {
    /// `[listen]`
    pub fn listen(&mut self, section: &Section) -> Option<ListenSettings> {
        let texts = section.texts("addresses")?;
        if texts.is_empty() && !section.has("unix_folder") {
            self.problems.error(&section.place_of("addresses"), "at least one address or a unix_folder is needed");
        }
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for text in &texts {
            if let Some(address) = self.listen_address(text, &addresses) {
                addresses.push(address);
            }
        }
        let unix = match section.has("unix_folder") {
            true => Some(self.unix_socket(section, addresses.first().map(SocketAddr::port))?),
            false => None,
        };
        Some(ListenSettings {
            addresses,
            unix,
            client_connections_max: section.number("client_connections_max")?,
            login_connections_max: section.number("login_connections_max")?,
            login_timeout: section.duration("login_timeout")?,
        })
    }

    fn unix_socket(&mut self, section: &Section, first_port: Option<u16>) -> Option<UnixSocketSettings> {
        let (folder, mode) = (section.text("unix_folder")?, section.text("unix_mode")?);
        let place = section.place_of("unix_folder");
        if !folder.starts_with('/') {
            self.problems.error(&place, format!("{folder:?} is no absolute path"));
            return None;
        }
        let given = section.number("unix_port").and_then(|port| u16::try_from(port).ok());
        let Some(port) = given.or(first_port).filter(|port| *port != 0) else {
            self.problems.error(&section.place.key("unix_port"), "is missing, and no address has a port to take");
            return None;
        };
        let path = Path::new(&folder).join(format!(".s.PGSQL.{port}"));
        let bytes = path.as_os_str().len();
        if bytes > SOCKET_PATH_BYTES_MAX {
            let message =
                format!("the socket's path would have {bytes} bytes, and {SOCKET_PATH_BYTES_MAX} at most work");
            self.problems.error(&place, message);
            return None;
        }
        let is_octal = (3..=4).contains(&mode.len()) && mode.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
        match u32::from_str_radix(&mode, 8) {
            Ok(mode) if is_octal && mode <= 0o777 => Some(UnixSocketSettings { path, mode }),
            Ok(_) | Err(_) => {
                let message = format!("{mode:?} are no permissions; write them like \"0777\" or \"0770\"");
                self.problems.error(&section.place_of("unix_mode"), message);
                None
            }
        }
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
            if section.has("client_ca") {
                self.problems.error(&section.place_of("client_ca"), "no client can show a certificate without TLS");
            }
            return Some(ClientTls::Disable);
        }
        for key in ["certificate", "key"] {
            if !section.has(key) {
                self.problems.error(&section.place.key(key), format!("is missing, and tls.mode = {mode:?} needs it"));
            }
        }
        let identity = self.tls_identity(section);
        let authority = self.client_authority(section);
        let settings = ClientTlsSettings { identity: identity?, authority: authority? };
        Some(if mode == "require" { ClientTls::Require(settings) } else { ClientTls::Offer(settings) })
    }

    /// `certificate` and `key`, where both are given.
    pub fn tls_identity(&mut self, section: &Section) -> Option<TlsIdentity> {
        let chain = section.text("certificate").map(|path| self.certificates(&section.place_of("certificate"), &path));
        let key = section.text("key").map(|path| self.private_key(&section.place_of("key"), &path));
        self.identity(&section.place_of("key"), TlsIdentity { chain: chain??, key: key?? })
    }

    /// `Some(None)`: clients are asked for no certificate.
    fn client_authority(&mut self, section: &Section) -> Option<Option<ClientAuthority>> {
        if !section.has("client_ca") {
            for key in ["client_crl", "client_certificates"] {
                if section.has(key) {
                    self.problems.error(&section.place_of(key), "has no meaning without client_ca");
                }
            }
            return Some(None);
        }
        let path = section.text("client_ca")?;
        let roots = self.root_certificates(&section.place_of("client_ca"), &path);
        let revocations = match section.text("client_crl") {
            Some(path) => self.revocation_lists(&section.place_of("client_crl"), &path),
            None => Some(Vec::new()),
        };
        let is_required = section.text("client_certificates")? == "require";
        Some(Some(ClientAuthority { roots: roots?, revocations: revocations?, is_required }))
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
