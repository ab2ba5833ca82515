//! Server groups, server roles and databases.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::{Builder, pick};
use crate::config::problem::Place;
use crate::config::raw::{Placed, Section};
use crate::config::settings::{
    Config, DatabaseEntry, ServerAddress, ServerGroup, ServerHost, ServerRole, ServerTls, TlsIdentity, TlsNegotiation,
    TrustedRoots,
};
use crate::upstream::hosts::{HostChoice, SessionAttributes};
use crate::upstream::login::{AllowedMethods, BindingPolicy, PasswordAllowed};

/// What a unix socket's path (`sun_path`) leaves for its folder: 107 bytes less those of `/.s.PGSQL.65535`.
const FOLDER_BYTES_MAX: usize = 107 - 15;

/// Hosts of one group: every new connection may have to try them all.
const HOSTS_MAX: usize = 16;

impl Builder<'_> {
    /// `[servers.*]`
    pub fn servers(&mut self, table: &Section) -> BTreeMap<Arc<str>, ServerGroup> {
        self.at_least_one(table, "servers.main");
        table.named_tables().filter_map(|(name, section)| Some((name.into(), self.server(section)?))).collect()
    }

    fn server(&mut self, section: &Section) -> Option<ServerGroup> {
        let hosts = self.hosts(section);
        let tls_section = section.table("tls");
        let tls = self.server_tls(&tls_section, hosts.as_deref().unwrap_or_default());
        let options = self.tls_options(&tls_section, hosts.as_deref().unwrap_or_default(), tls.as_ref());
        let attributes = [
            SessionAttributes::Any,
            SessionAttributes::ReadWrite,
            SessionAttributes::ReadOnly,
            SessionAttributes::Primary,
            SessionAttributes::Standby,
            SessionAttributes::PreferStandby,
        ];
        let choices = [("ordered", HostChoice::Ordered), ("round-robin", HostChoice::RoundRobin)];
        let options = options?;
        Some(ServerGroup {
            session_attributes: pick(section, "target_session_attrs", &attributes.map(|kind| (kind.word(), kind)))?,
            choice: pick(section, "choice", &choices)?,
            connect_timeout: section.duration("connect_timeout")?,
            hosts: hosts?,
            tls: tls?,
            negotiation: options.negotiation,
            channel_binding: options.channel_binding,
            identity: options.identity,
        })
    }

    /// `host`, or each of `hosts`.
    fn hosts(&mut self, section: &Section) -> Option<Vec<ServerAddress>> {
        let port = u16::try_from(section.number("port")?).ok()?;
        if !section.has("hosts") {
            let text = self.required(section, "host")?;
            return Some(vec![ServerAddress { host: self.host(&section.place_of("host"), &text)?, port }]);
        }
        let place = section.place_of("hosts");
        if section.has("host") {
            self.problems.error(&place, "there is a host already: give either host or hosts");
        }
        let texts = section.texts("hosts")?;
        if texts.is_empty() || texts.len() > HOSTS_MAX {
            self.problems.error(&place, format!("must list 1 to {HOSTS_MAX} hosts"));
            return None;
        }
        let mut hosts: Vec<ServerAddress> = Vec::new();
        for text in &texts {
            let address = self.host_with_port(text, port)?;
            if hosts.contains(&address) {
                self.problems.error(&text.place, format!("{address} is listed twice"));
                return None;
            }
            hosts.push(address);
        }
        Some(hosts)
    }

    /// `name`, `name:5433`, `10.0.0.1:5433`, `::1`, `[::1]:5433`, `/folder`, `/folder:5433`.
    fn host_with_port(&mut self, text: &Placed<String>, port: u16) -> Option<ServerAddress> {
        let is_bare_address = text.value.parse::<IpAddr>().is_ok();
        let split = text.value.rsplit_once(':').filter(|_| !is_bare_address && !text.value.ends_with(']'));
        let Some((host, given)) = split else {
            return Some(ServerAddress { host: self.host(&text.place, &text.value)?, port });
        };
        let is_digits = given.bytes().all(|byte| byte.is_ascii_digit());
        match given.parse::<u16>() {
            Ok(port) if is_digits && port != 0 => Some(ServerAddress { host: self.host(&text.place, host)?, port }),
            Ok(_) | Err(_) => {
                self.problems.error(&text.place, format!("{given:?} is no port"));
                None
            }
        }
    }

    fn host(&mut self, place: &Place, text: &str) -> Option<ServerHost> {
        if text.starts_with('/') {
            if text.len() > FOLDER_BYTES_MAX {
                let message =
                    format!("a socket's folder may have {FOLDER_BYTES_MAX} bytes, and this has {}", text.len());
                self.problems.error(place, message);
                return None;
            }
            return Some(ServerHost::UnixFolder(text.into()));
        }
        if let Ok(address) = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            return Some(ServerHost::Address(address));
        }
        let is_name = text.len() <= 253
            && text.split('.').all(|label| {
                (1..=63).contains(&label.len())
                    && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
            });
        if !is_name {
            let hint = "the port has a key of its own";
            let message = format!("{text:?} is no host name, IP address or absolute path of a folder");
            self.problems.error_with_hint(place, message, hint);
            return None;
        }
        Some(ServerHost::Name(text.into()))
    }

    fn server_tls(&mut self, section: &Section, hosts: &[ServerAddress]) -> Option<ServerTls> {
        let is_unix = !hosts.is_empty() && hosts.iter().all(is_unix);
        let default = if is_unix { "disable" } else { "verify-full" };
        let mode = if section.has("mode") { section.text("mode")? } else { default.to_owned() };
        if is_unix && mode != "disable" {
            self.problems.error(&section.place_of("mode"), "PostgreSQL has no TLS on unix sockets");
            return None;
        }
        if section.has("ca") && !mode.starts_with("verify") {
            let message = format!("is not looked at with mode = {mode:?}");
            self.problems.error_with_hint(&section.place_of("ca"), message, "use verify-full, or remove it");
        }
        match mode.as_str() {
            "disable" => Some(ServerTls::Disable),
            "prefer" => Some(ServerTls::Prefer),
            "require" => Some(ServerTls::Require),
            "verify-ca" => Some(ServerTls::VerifyCa(self.roots(section)?)),
            "verify-full" => Some(ServerTls::VerifyFull(self.roots(section)?)),
            // A word that is none of these has been reported.
            _ => None,
        }
    }

    /// What only goes together with TLS.
    fn tls_options(
        &mut self,
        section: &Section,
        hosts: &[ServerAddress],
        tls: Option<&ServerTls>,
    ) -> Option<TlsOptions> {
        let negotiation =
            pick(section, "negotiation", &[("postgres", TlsNegotiation::Postgres), ("direct", TlsNegotiation::Direct)]);
        let bindings = [
            ("disable", BindingPolicy::Disable),
            ("prefer", BindingPolicy::Prefer),
            ("require", BindingPolicy::Require),
        ];
        let channel_binding = pick(section, "channel_binding", &bindings);
        // Where the mode is wrong, that has been said.
        let is_always = !matches!(tls, Some(ServerTls::Disable | ServerTls::Prefer)) && !hosts.iter().any(is_unix);
        if negotiation == Some(TlsNegotiation::Direct) && !is_always {
            let message = "needs TLS at every host: mode = \"require\" or stronger, and no unix socket";
            self.problems.error(&section.place_of("negotiation"), message);
        }
        if channel_binding == Some(BindingPolicy::Require) && !is_always {
            let message = "needs TLS at every host: mode = \"require\" or stronger, and no unix socket";
            self.problems.error(&section.place_of("channel_binding"), message);
        }
        let identity = self.server_identity(section);
        Some(TlsOptions { negotiation: negotiation?, channel_binding: channel_binding?, identity: identity? })
    }

    /// `Some(None)`: none is given.
    fn server_identity(&mut self, section: &Section) -> Option<Option<TlsIdentity>> {
        match (section.has("certificate"), section.has("key")) {
            (false, false) => Some(None),
            (true, true) => Some(Some(self.tls_identity(section)?)),
            (true, false) | (false, true) => {
                self.problems.error(&section.place, "certificate and key belong together: one of them is missing");
                None
            }
        }
    }

    fn roots(&mut self, section: &Section) -> Option<TrustedRoots> {
        if !section.has("ca") {
            return Some(TrustedRoots::System);
        }
        let path = section.text("ca")?;
        self.root_certificates(&section.place_of("ca"), &path).map(TrustedRoots::Given)
    }

    /// `[roles.*]`
    pub fn roles(&mut self, table: &Section) -> BTreeMap<Arc<str>, ServerRole> {
        self.at_least_one(table, "roles.app");
        table.named_tables().filter_map(|(name, section)| Some((name.into(), self.role(section)?))).collect()
    }

    fn role(&mut self, section: &Section) -> Option<ServerRole> {
        let user = self.required_name(section, "user");
        let password = self.password(section);
        let allowed = section.texts("auth_allowed");
        if allowed.as_ref().is_some_and(Vec::is_empty) {
            self.problems.error(&section.place_of("auth_allowed"), "allows nothing");
        }
        let methods = methods(&allowed?);
        if methods.password == PasswordAllowed::Anywhere {
            let message = "sends the password in the clear where the server asks for it";
            self.problems.warn(&section.place_of("auth_allowed"), message, "use scram-sha-256");
        }
        Some(ServerRole { user: user?, password, methods })
    }

    /// TLS without verification keeps listeners out, and hands the password to whoever answers.
    pub fn check_passwords_reach_their_server(&mut self, root: &Section, config: &Config) {
        for (name, role) in &config.roles {
            if role.methods.password == PasswordAllowed::Never {
                continue;
            }
            let is_used = |entry: &&DatabaseEntry| {
                entry.role == *name || config.logins.values().any(|login| login.role.as_ref() == Some(name))
            };
            let groups =
                config.databases.values().filter(is_used).filter_map(|entry| config.servers.get(&entry.server));
            if groups.into_iter().any(|group| matches!(group.tls, ServerTls::Prefer | ServerTls::Require)) {
                let place = root.table("roles").table(name).place_of("auth_allowed");
                let message = "the password may be sent to a server that nobody has verified";
                self.problems.warn(&place, message, "set tls.mode = \"verify-full\" for its servers");
            }
        }
    }

    /// `[databases.*]`
    pub fn databases(&mut self, root: &Section) -> BTreeMap<Arc<str>, DatabaseEntry> {
        let table = root.table("databases");
        self.at_least_one(&table, "databases.demo");
        table.named_tables().filter_map(|(name, section)| self.database(root, name, section)).collect()
    }

    fn database(&mut self, root: &Section, name: &str, section: &Section) -> Option<(Arc<str>, DatabaseEntry)> {
        let key = self.name(&section.place, name);
        let server = self.required_reference(root, section, "server", "servers");
        let role = self.required_reference(root, section, "role", "roles");
        let server_name = if section.has("name") { self.required_name(section, "name") } else { key.clone() };
        let pool = self.pool(&root.table("pool"), &section.table("pool"));
        let seal = self.seal(section);
        let (pool, prepared_statements) = pool?;
        let entry =
            DatabaseEntry { server: server?, name: server_name?, role: role?, pool, prepared_statements, seal: seal? };
        Some((key?, entry))
    }

    fn required_reference(&mut self, root: &Section, section: &Section, key: &str, kind: &str) -> Option<Arc<str>> {
        let value = self.required(section, key)?;
        self.reference(root, kind, &Placed { place: section.place_of(key), value })
    }

    /// A table that is useless empty.
    pub fn at_least_one(&mut self, table: &Section, example: &str) {
        if table.named_tables().next().is_none() {
            let message = format!("none is configured; at least one is needed, like [{example}]");
            self.problems.error(&table.place, message);
        }
    }
}

struct TlsOptions {
    negotiation: TlsNegotiation,
    channel_binding: BindingPolicy,
    identity: Option<TlsIdentity>,
}

fn is_unix(address: &ServerAddress) -> bool {
    matches!(address.host, ServerHost::UnixFolder(_))
}

fn methods(words: &[Placed<String>]) -> AllowedMethods {
    let has = |word| words.iter().any(|given| given.value == word);
    let password = match (has("password-unencrypted"), has("password")) {
        (true, _) => PasswordAllowed::Anywhere,
        (false, true) => PasswordAllowed::Protected,
        (false, false) => PasswordAllowed::Never,
    };
    AllowedMethods { scram: has("scram-sha-256"), md5: has("md5"), password }
}
