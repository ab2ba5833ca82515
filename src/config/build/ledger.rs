//! `[ledger]` and `[bypass]`, and what logins whose transactions are recorded need.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Builder;
use super::scope::SETTINGS_MAX;
use crate::audit::{ParameterKey, SigningKey};
use crate::config::problem::Place;
use crate::config::raw::Section;
use crate::config::settings::{BypassSettings, Compress, Config, LedgerSettings};
use crate::guard::Preset;
use crate::scope::ScopeTemplate;

/// Longest name of a proxy.
const NODE_BYTES_MAX: usize = 128;

impl Builder<'_> {
    /// `[ledger]`
    pub fn ledger(&mut self, section: &Section) -> Option<LedgerSettings> {
        let path = section.text("path")?;
        if path.ends_with(".gz") {
            self.problems.error(&section.place_of("path"), "must not end in .gz: only compressed files are called so");
        }
        let signing_key = match section.text("signing_key_file") {
            Some(file) => Some(self.signing_key(&section.place_of("signing_key_file"), &file)?),
            None => None,
        };
        let parameter_key = match section.text("parameter_key_file") {
            Some(file) => Some(self.parameter_key(&section.place_of("parameter_key_file"), &file)?),
            None => None,
        };
        let node = section.text("node").unwrap_or_default();
        if node.len() > NODE_BYTES_MAX || node.contains(char::is_control) {
            let message = format!("must be a name of {NODE_BYTES_MAX} bytes at most, without control characters");
            self.problems.error(&section.place_of("node"), message);
        }
        Some(LedgerSettings {
            path: self.environment.locate(&path),
            node: node.into(),
            write_timeout: section.duration("write_timeout")?,
            is_group_commit: section.flag("group_commit")?,
            parameter_key,
            signing_key,
            checkpoint_records: section.number("checkpoint_records")? as u64,
            checkpoint_interval: section.duration("checkpoint_interval")?,
            heartbeat_interval: section.duration("heartbeat_interval")?,
            rotate_bytes: Some(section.number("rotate_bytes")? as u64).filter(|bytes| *bytes > 0),
            compress: match section.text("compress")?.as_str() {
                "gzip" => Compress::Gzip,
                _ => Compress::None,
            },
        })
    }

    fn parameter_key(&mut self, place: &Place, path: &str) -> Option<Arc<ParameterKey>> {
        let file = self.file(place, path)?;
        self.warn_if_public(place, path, &file);
        match ParameterKey::new(&file.bytes) {
            Ok(key) => Some(Arc::new(key)),
            Err(reason) => {
                self.problems.error(place, format!("{path:?} holds no key: {reason}"));
                None
            }
        }
    }

    fn signing_key(&mut self, place: &Place, path: &str) -> Option<Arc<SigningKey>> {
        let file = self.file(place, path)?;
        self.warn_if_public(place, path, &file);
        let key = match std::str::from_utf8(&file.bytes) {
            Ok(text) => SigningKey::parse(text),
            Err(_) => Err("it is not UTF-8"),
        };
        match key {
            Ok(key) => Some(Arc::new(key)),
            Err(reason) => {
                let hint = "make one with `tenantgate ledger keygen`";
                self.problems.error_with_hint(place, format!("{path:?} holds no signing key: {reason}"), hint);
                None
            }
        }
    }

    /// `[bypass]`
    pub fn bypass(&mut self, root: &Section) -> Option<BypassSettings> {
        let section = root.table("bypass");
        let rules = self.bypass_rules(root);
        let template = self.bypass_template(&section);
        Some(BypassSettings {
            template: template?,
            rules: rules?,
            reason_chars_min: section.number("reason_chars_min")?,
            emergency_max: section.duration("emergency_max")?,
        })
    }

    fn bypass_template(&mut self, section: &Section) -> Option<ScopeTemplate> {
        let table = section.table("settings");
        let texts = table.named_texts();
        if texts.len() > SETTINGS_MAX {
            self.problems.error(&table.place, format!("{SETTINGS_MAX} settings at most"));
        }
        for (_, text) in &texts {
            if text.value.contains(|c: char| c.is_control() || matches!(c, '\\' | '{' | '}')) {
                let message = "must be a plain value without control characters, backslashes or braces";
                self.problems.error(&text.place, message);
                return None;
            }
        }
        let settings: Vec<_> = texts.into_iter().map(|(name, text)| (name, text.value)).collect();
        match ScopeTemplate::fixed(&settings) {
            Ok(template) => Some(template),
            Err(fault) => {
                self.problems.error(&table.place, fault.to_string());
                None
            }
        }
    }

    /// A role that sees more than tenants do must be nobody else's: servers are shared by everybody in a pool.
    pub fn check_recorded_logins(&mut self, root: &Section, config: &Config) {
        let table = root.table("logins");
        let recorded = config.logins.iter().filter(|(_, login)| login.preset.is_recorded());
        for (name, login) in recorded {
            let section = table.table(name);
            if config.ledger.is_none() {
                let hint = "give [ledger] path = \"ledger.jsonl\"";
                self.problems.error_with_hint(&section.place_of("preset"), "needs a ledger, and there is none", hint);
            }
            let Some(role) = &login.role else { continue };
            let place = section.place_of("role");
            let users = users_of(config, |other| other != login.preset);
            if config.roles.get(role).is_some_and(|own| users.contains(&*own.user)) {
                let message = format!("{role:?} is a role that logins of another preset use, too");
                let hint = format!("give logins with preset = {:?} a server role of their own", login.preset.name());
                self.problems.error_with_hint(&place, message, hint);
            }
        }
    }
}

/// The roles, by their names on the server, of logins with certain presets. Databases' roles are tenants'.
fn users_of(config: &Config, select: impl Fn(Preset) -> bool) -> BTreeSet<&str> {
    let of_databases = config.databases.values().map(|database| &database.role).filter(|_| select(Preset::Tenant));
    let logins = config.logins.values().filter(|login| select(login.preset));
    let roles = of_databases.chain(logins.filter_map(|login| login.role.as_ref()));
    roles.filter_map(|role| config.roles.get(role)).map(|role| &*role.user).collect()
}
