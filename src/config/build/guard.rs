//! `[guard]`: what is allowed beside the built-in lists, and what never is.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Builder;
use super::names::is_identifier;
use crate::config::raw::{Placed, Section};
use crate::config::settings::{GuardSettings, ScopeSettings};
use crate::guard::{Keeping, PolicySettings, Preset};
use crate::scope::Lifetime;
use crate::tenant::Claiming;

/// Settings that would change who or what a statement acts for, or how its text is read.
const SETTINGS_PINNED: [&str; 7] = [
    "role",
    "session_authorization",
    "row_security",
    "session_replication_role",
    "standard_conforming_strings",
    "backslash_quote",
    "client_encoding",
];
/// Functions whose whole purpose is to do what the guard refuses.
const FUNCTIONS_PINNED: [&str; 5] =
    ["set_config", "query_to_xml", "query_to_xmlschema", "cursor_to_xml", "query_to_xml_and_xmlschema"];
/// Startup parameters that mean something to the proxy.
const PARAMETERS_OWN: [&str; 4] = ["user", "database", "options", "replication"];

impl Builder<'_> {
    /// `[guard]`
    pub fn guard(&mut self, section: &Section, scope: Option<&ScopeSettings>) -> Option<GuardSettings> {
        let is_scope = |name: &str| scope.is_some_and(|scope| scope.template.names().any(|known| known == name));
        let settings = self.lower_names(section, "settings_allowed", |name| {
            if is_scope(name) {
                return Some("is a scope setting: only the proxy sets it");
            }
            if name.starts_with("tenantgate.") {
                return Some("belongs to the proxy");
            }
            SETTINGS_PINNED.contains(&name).then_some("can never be allowed: it would undo the isolation")
        });
        let functions = self.lower_names(section, "functions_allowed", |name| {
            let bare = name.strip_prefix("pg_catalog.").unwrap_or(name);
            FUNCTIONS_PINNED.contains(&bare).then_some("can never be allowed: it would undo the isolation")
        });
        let ignored = self.lower_names(section, "startup_parameters_ignored", |name| {
            let is_own = PARAMETERS_OWN.contains(&name) || is_scope(name);
            is_own.then_some("means something to the proxy and cannot be ignored")
        });
        let texts = |names: BTreeSet<Arc<str>>| names.iter().map(ToString::to_string).collect();
        Some(GuardSettings {
            policy: PolicySettings {
                keeping: Keeping::default(),
                preset: Preset::Tenant,
                settings_allowed: texts(settings?),
                functions_allowed: texts(functions?),
                claiming: Claiming::None,
                claim_settings: Vec::new(),
                scope_settings: scope?.template.names().map(str::to_owned).collect(),
                scope_outlives_transactions: scope?.lifetime == Lifetime::Lease,
                text_bytes_max: section.number("text_bytes_max")?,
            },
            startup_parameters_ignored: ignored?,
        })
    }

    fn lower_names(
        &mut self,
        section: &Section,
        key: &str,
        refuse: impl Fn(&str) -> Option<&'static str>,
    ) -> Option<BTreeSet<Arc<str>>> {
        let texts = section.texts(key)?;
        Some(texts.iter().filter_map(|text| self.lower_name(text, &refuse)).collect())
    }

    fn lower_name(
        &mut self,
        text: &Placed<String>,
        refuse: &impl Fn(&str) -> Option<&'static str>,
    ) -> Option<Arc<str>> {
        let lower = text.value.to_ascii_lowercase();
        if !lower.split('.').all(is_identifier) {
            self.problems.error(&text.place, format!("{:?} is no name, or one that needs quotes", text.value));
            return None;
        }
        if let Some(reason) = refuse(&lower) {
            self.problems.error(&text.place, format!("{:?} {reason}", text.value));
            return None;
        }
        Some(lower.into())
    }
}
