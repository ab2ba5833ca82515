//! `[ledger]` and `[bypass]`, and what logins whose transactions are recorded need.

use std::collections::BTreeSet;

use super::Builder;
use super::scope::SETTINGS_MAX;
use crate::config::raw::Section;
use crate::config::settings::{BypassSettings, Config, LedgerSettings};
use crate::guard::Preset;
use crate::scope::ScopeTemplate;

impl Builder<'_> {
    /// `[ledger]`
    pub fn ledger(&mut self, section: &Section) -> Option<LedgerSettings> {
        let path = section.text("path")?;
        Some(LedgerSettings { path: self.environment.locate(&path) })
    }

    /// `[bypass]`
    pub fn bypass(&mut self, section: &Section) -> Option<BypassSettings> {
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
            Ok(template) => Some(BypassSettings { template }),
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
