//! What is known about one server between logins and leases.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::preparing::Preparing;
use super::settings::Settings;
use super::statement::ServerStatements;

/// One server connection, never reused for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(pub u64);

/// Reported settings (ParameterStatus) by name.
pub type Parameters = BTreeMap<Box<str>, Box<str>>;

/// How to cancel what runs on a server.
#[derive(Clone)]
pub struct ServerKey {
    /// Process id of the backend.
    pub process_id: i32,
    /// 4 (protocol 3.0) to 256 bytes (3.2).
    pub secret: Box<[u8]>,
}

/// The secret is what protects a running statement from strangers: it is never printed.
impl std::fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerKey").field("process_id", &self.process_id).finish_non_exhaustive()
    }
}

/// One server's facts: what it has, beside its socket and the replies it owes.
#[derive(Debug)]
pub struct Server {
    /// Which connection.
    pub id: ServerId,
    /// How to cancel.
    pub key: Arc<ServerKey>,
    /// `server_version_num`, e.g. 150018.
    pub version: u32,
    /// What it last reported.
    pub parameters: Arc<Parameters>,
    /// What is set beyond its defaults.
    pub settings: Settings,
    /// What is prepared.
    pub statements: ServerStatements,
    /// What of it is not answered yet.
    pub preparing: Preparing,
    /// How often it was lent.
    pub leases: u64,
    /// Its `search_path` is a tenant's, put there beside the settings: PostgreSQL 18 reports it.
    pub has_scoped_search_path: bool,
    /// Its database takes tickets.
    pub is_sealed: bool,
    /// It may have a temporary schema, whatever is in that.
    pub has_had_temporary: bool,
    /// What it reported at its login: its defaults.
    reset_parameters: Arc<Parameters>,
    /// Reports and settings that were found to agree last.
    agreed: Option<(Arc<Parameters>, Settings)>,
}

impl Server {
    /// A server fresh from its login.
    #[must_use]
    pub fn new(
        id: ServerId,
        key: Arc<ServerKey>,
        version: u32,
        parameters: Arc<Parameters>,
        statements_max: usize,
    ) -> Self {
        Self {
            id,
            key,
            version,
            reset_parameters: Arc::clone(&parameters),
            agreed: None,
            parameters,
            settings: Settings::default(),
            statements: ServerStatements::new(statements_max),
            preparing: Preparing::default(),
            leases: 0,
            has_scoped_search_path: false,
            is_sealed: false,
            has_had_temporary: false,
        }
    }

    /// Whether every reported setting is at its default or is known to be set. One that is neither was
    /// changed behind the proxy's back, and the next client would have it.
    #[must_use]
    pub fn has_explained_settings(&mut self) -> bool {
        let is_known = Arc::ptr_eq(&self.parameters, &self.reset_parameters)
            || self.agreed.as_ref().is_some_and(|(parameters, settings)| {
                Arc::ptr_eq(parameters, &self.parameters) && Arc::ptr_eq(settings, &self.settings)
            });
        if is_known {
            return true;
        }
        let is_scoped = |name: &str| self.has_scoped_search_path && name == "search_path";
        let is_set = |name: &str| is_scoped(name) || self.settings.keys().any(|known| known.eq_ignore_ascii_case(name));
        let is_explained =
            self.parameters.iter().all(|(name, value)| self.reset_parameters.get(name) == Some(value) || is_set(name));
        if is_explained {
            self.agreed = Some((Arc::clone(&self.parameters), Arc::clone(&self.settings)));
        }
        is_explained
    }

    /// Takes a ParameterStatus: `false` if it breaks a pin that the guard relies on (parser and server
    /// read a text alike only under UTF8 and standard-conforming strings).
    #[must_use]
    pub fn take_parameter(&mut self, name: &str, value: &str) -> bool {
        if self.parameters.get(name).is_none_or(|known| **known != *value) {
            Arc::make_mut(&mut self.parameters).insert(name.into(), value.into());
        }
        match name {
            // PostgreSQL keeps that name of UTF8 as it was given, and no other.
            "client_encoding" => matches!(value, "UTF8" | "UNICODE"),
            "standard_conforming_strings" => value == "on",
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// psycopg2's own tests set the second.
    #[test]
    fn utf8_is_utf8_under_both_names_that_servers_report() {
        let key = Arc::new(ServerKey { process_id: 1, secret: Box::from(*b"1234") });
        let mut server = Server::new(ServerId(1), key, 150_000, Arc::new(Parameters::default()), 1);
        for (value, is_fine) in [("UTF8", true), ("UNICODE", true), ("SJIS", false), ("unicode", false)] {
            assert_eq!(server.take_parameter("client_encoding", value), is_fine, "{value}");
        }
    }
}
