//! Server groups, server roles and databases.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::Builder;
use crate::config::problem::Place;
use crate::config::raw::{Placed, Section};
use crate::config::settings::{DatabaseEntry, ServerGroup, ServerHost, ServerRole, ServerTls, TrustedRoots};

impl Builder<'_> {
    /// `[servers.*]`
    pub fn servers(&mut self, table: &Section) -> BTreeMap<Arc<str>, ServerGroup> {
        self.at_least_one(table, "servers.main");
        table.named_tables().filter_map(|(name, section)| Some((name.into(), self.server(section)?))).collect()
    }

    fn server(&mut self, section: &Section) -> Option<ServerGroup> {
        let host = self.required(section, "host").and_then(|text| self.host(&section.place_of("host"), &text));
        let tls = self.server_tls(&section.table("tls"), host.as_ref());
        Some(ServerGroup {
            port: u16::try_from(section.number("port")?).ok()?,
            connect_timeout: section.duration("connect_timeout")?,
            host: host?,
            tls: tls?,
        })
    }

    fn host(&mut self, place: &Place, text: &str) -> Option<ServerHost> {
        if text.starts_with('/') {
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

    fn server_tls(&mut self, section: &Section, host: Option<&ServerHost>) -> Option<ServerTls> {
        let is_unix = matches!(host, Some(ServerHost::UnixFolder(_)));
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
            _ => Some(ServerTls::VerifyFull(self.roots(section)?)),
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
        Some(ServerRole { user: user?, password })
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
        let (pool, prepared_statements_max) = pool?;
        let entry = DatabaseEntry { server: server?, name: server_name?, role: role?, pool, prepared_statements_max };
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
