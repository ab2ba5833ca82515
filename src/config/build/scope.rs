//! `[scope]`: what is set on a server for a tenant.

use super::Builder;
use super::pick;
use crate::config::raw::{Placed, Section};
use crate::config::settings::{Config, ScopeSettings};
use crate::scope::{Lifetime, ScopeTemplate, is_setting_name};
use crate::tenant::TenantKind;

/// Each setting is one more call in front of every transaction.
pub(super) const SETTINGS_MAX: usize = 16;
const PLACEHOLDER: &str = "{tenant}";

impl Builder<'_> {
    /// `[scope]`
    pub fn scope(&mut self, section: &Section) -> Option<ScopeSettings> {
        let tenant_kind = pick(section, "tenant_type", &[("uuid", TenantKind::Uuid), ("text", TenantKind::Text)]);
        let lifetimes = [("transaction", Lifetime::Transaction), ("lease", Lifetime::Lease)];
        let lifetime = pick(section, "lifetime", &lifetimes);
        let template = self.scope_template(&section.table("settings"));
        Some(ScopeSettings { tenant_kind: tenant_kind?, lifetime: lifetime?, template: template? })
    }

    /// What is sealed ends with its transaction.
    pub fn check_seals(&mut self, root: &Section, config: &Config) {
        for (key, _) in config.databases.iter().filter(|(_, database)| database.seal.is_some()) {
            if config.scope.lifetime == Lifetime::Lease {
                let place = root.table("databases").table(key).place_of("seal");
                let hint = "set scope.lifetime = \"transaction\"";
                let message = "a database with scope.lifetime = \"lease\" cannot be sealed";
                self.problems.error_with_hint(&place, message, hint);
            }
        }
    }

    fn scope_template(&mut self, table: &Section) -> Option<ScopeTemplate> {
        if !table.is_present {
            return Some(ScopeTemplate::default());
        }
        let texts = table.named_texts();
        if texts.len() > SETTINGS_MAX {
            self.problems.error(&table.place, format!("{SETTINGS_MAX} settings at most"));
        }
        let checked = texts.iter().map(|(name, text)| self.is_setting_good(name, text)).filter(|good| !good).count();
        if checked > 0 {
            return None;
        }
        let settings: Vec<_> = texts.into_iter().map(|(name, text)| (name, text.value)).collect();
        match ScopeTemplate::new(&settings) {
            Ok(template) => Some(template),
            Err(fault) => {
                self.problems.error(&table.place, fault.to_string());
                None
            }
        }
    }

    /// What can be said of one entry, with its own place.
    fn is_setting_good(&mut self, name: &str, text: &Placed<String>) -> bool {
        let is_name = is_setting_name(&name.to_ascii_lowercase());
        if !is_name {
            let hint = "use a name like \"app.tenant_id\", in quotes";
            self.problems.error_with_hint(&text.place, "is no custom setting (prefix.name)", hint);
        }
        let refusal = refuse_value(&text.value);
        if let Some(reason) = refusal {
            self.problems.error_with_hint(&text.place, reason, "write {tenant} where the tenant goes");
        }
        is_name && refusal.is_none()
    }
}

fn refuse_value(text: &str) -> Option<&'static str> {
    if text.contains(|c: char| c.is_control() || c == '\\') {
        return Some("must not hold control characters or backslashes");
    }
    if !text.contains(PLACEHOLDER) {
        return Some("does not hold {tenant}");
    }
    text.replace(PLACEHOLDER, "").contains(['{', '}']).then_some("has a brace that belongs to no {tenant}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_hold_the_tenant_and_no_other_braces() {
        for good in ["{tenant}", "t-{tenant}:{tenant}", "tenant_{tenant}, public"] {
            assert_eq!(refuse_value(good), None, "{good}");
        }
        for bad in ["", "x", "{tenant", "tenant}", "{other}{tenant}", "{{tenant}}", "a\\{tenant}", "a\n{tenant}"] {
            assert!(refuse_value(bad).is_some(), "{bad}");
        }
    }
}
