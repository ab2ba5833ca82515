//! `[logins.*.claimed_bypass]`: a bypass by a claim of the application's.

use super::Builder;
use super::guard::is_scope;
use crate::audit::Reason;
use crate::config::problem::Place;
use crate::config::raw::Section;
use crate::config::settings::{Config, ScopeSettings};
use crate::scope::is_setting_name;
use crate::tenant::ClaimedBypass;

impl Builder<'_> {
    /// `[logins.*.claimed_bypass]`; `Some(None)` where the login has none, or one without a key.
    pub fn claimed_bypass(&mut self, login: &Section, scope: Option<&ScopeSettings>) -> Option<Option<ClaimedBypass>> {
        let section = &login.table("claimed_bypass");
        if !["setting", "value", "reason"].iter().any(|key| section.has(key)) {
            return Some(None);
        }
        if login.text("claims").is_none_or(|claims| claims == "none") {
            let hint = "set claims = \"transaction\" (docs/claims.md)";
            self.problems.error_with_hint(&section.place, "is only for logins that may claim", hint);
            return None;
        }
        if !section.has("setting") {
            let hint = "name the setting that policies look at: setting = \"app.bypass_rls\"";
            self.problems.error_with_hint(&section.place, "does not say by which setting", hint);
            return None;
        }
        let setting = self.bypass_setting(&section.place_of("setting"), &section.text("setting")?, scope);
        let value = self.bypass_value(&section.place_of("value"), section.text("value")?);
        let reason = match section.has("reason") {
            true => self.bypass_reason(&section.place_of("reason"), &section.text("reason")?).map(Some),
            false => Some(None),
        };
        Some(Some(ClaimedBypass { setting: setting?, value: value?, reason: reason? }))
    }

    fn bypass_setting(&mut self, place: &Place, text: &str, scope: Option<&ScopeSettings>) -> Option<Box<str>> {
        let name = text.to_ascii_lowercase();
        let fault = match () {
            () if !is_setting_name(&name) || !name.contains('.') => Some("is no custom setting (prefix.name)"),
            () if is_scope(scope, &name) => Some("is a scope setting: it names the tenant"),
            () if name.starts_with("tenantgate.") => Some("belongs to the proxy"),
            () => None,
        };
        if let Some(fault) = fault {
            self.problems.error(place, format!("{text:?} {fault}"));
            return None;
        }
        Some(name.into())
    }

    fn bypass_value(&mut self, place: &Place, value: String) -> Option<Box<str>> {
        if ClaimedBypass::is_none(&value) {
            self.problems.error(place, format!("{value:?} stands for no bypass"));
            return None;
        }
        if value.len() > 64 || value.contains(|c: char| c.is_control() || matches!(c, '\\' | '{' | '}')) {
            let message =
                "must be a plain value of 64 bytes at most, without control characters, backslashes or braces";
            self.problems.error(place, message);
            return None;
        }
        Some(value.into())
    }

    fn bypass_reason(&mut self, place: &Place, text: &str) -> Option<Box<str>> {
        match Reason::parse(text) {
            Ok(reason) => Some(reason.as_str().into()),
            Err(fault) => {
                self.problems.error(place, fault);
                None
            }
        }
    }

    /// Each needs a ledger, and its setting is nobody's own.
    pub fn check_claimed_bypasses(&mut self, root: &Section, config: &Config) {
        let table = root.table("logins");
        let sealed = config.databases.iter().filter(|(_, database)| database.seal.is_some());
        for (name, login, bypass) in
            config.logins.iter().filter_map(|(name, login)| Some((name, login, login.claimed_bypass.as_ref()?)))
        {
            let section = table.table(name).table("claimed_bypass");
            if config.ledger.is_none() {
                let hint = "give [ledger] path = \"ledger.jsonl\"";
                self.problems.error_with_hint(&section.place, "needs a ledger, and there is none", hint);
            }
            let lists = config.logins.values().map(|login| &login.guard.lists);
            if let Some((database, _)) = sealed.clone().find(|(database, _)| login.databases.has(database)) {
                let hint = "use a bypass login there, or list the login's other databases";
                let message = format!(
                    "does not go with databases.{database}, which is sealed: its roles cannot go past the seal"
                );
                self.problems.error_with_hint(&section.place, message, hint);
            }
            let mut lists = lists.chain([&config.guard.policy.lists]);
            if lists.any(|lists| lists.settings.allowed.iter().any(|allowed| **allowed == *bypass.setting)) {
                let message = format!("{:?} is allowed as a setting, too: without a record", bypass.setting);
                self.problems.error_with_hint(&section.place_of("setting"), message, "take it out of settings_allowed");
            }
        }
    }
}
