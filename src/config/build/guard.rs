//! `[guard]`: what is allowed beside the built-in lists, and what never is.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::names::is_identifier;
use super::{Builder, pick};
use crate::config::problem::Place;
use crate::config::raw::{Placed, Section};
use crate::config::settings::{GuardSettings, LoginGuard, ScopeSettings};
use crate::guard::{Definition, Keeping, Lists, Mode, PolicySettings, Preset, Sides, StatementClass};
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

const MODES: [(&str, Mode); 2] = [("enforce", Mode::Enforce), ("observe", Mode::Observe)];
/// What a list may allow beside a preset: what stays within the transaction and needs no record.
const STATEMENTS_ALLOWABLE: [StatementClass; 6] = [
    StatementClass::Explain,
    StatementClass::Notify,
    StatementClass::Lock,
    StatementClass::Truncate,
    StatementClass::Maintenance,
    StatementClass::Refresh,
];
/// What a list may leave to migration logins.
const DEFINITIONS: [(&str, Definition); 2] =
    [("owner_views", Definition::OwnersView), ("partitions", Definition::Partition)];
/// What every client and its pool send.
const STATEMENTS_NEEDED: [StatementClass; 2] = [StatementClass::Transaction, StatementClass::Discard];

pub(super) fn is_scope(scope: Option<&ScopeSettings>, name: &str) -> bool {
    scope.is_some_and(|scope| scope.template.names().any(|known| known == name))
}

fn texts(names: BTreeSet<Arc<str>>) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

impl Builder<'_> {
    /// `[guard]`
    pub fn guard(&mut self, section: &Section, scope: Option<&ScopeSettings>) -> Option<GuardSettings> {
        let lists = self.lists(section, scope);
        let ignored = self.lower_names(section, "startup_parameters_ignored", |name| {
            let is_own = PARAMETERS_OWN.contains(&name) || is_scope(scope, name);
            is_own.then_some("means something to the proxy and cannot be ignored")
        });
        let mode = pick(section, "mode", &MODES)?;
        if mode == Mode::Observe {
            self.warn_of_observing(&section.place_of("mode"));
        }
        Some(GuardSettings {
            policy: PolicySettings {
                keeping: Keeping::default(),
                preset: Preset::Tenant,
                lists: lists?,
                login_lists: Lists::default(),
                mode,
                claiming: Claiming::None,
                claim_settings: Vec::new(),
                bypass_setting: None,
                bypass_needs_reason: false,
                scope_settings: scope?.template.names().map(str::to_owned).collect(),
                scope_outlives_transactions: scope?.lifetime == Lifetime::Lease,
                text_bytes_max: section.number("text_bytes_max")?,
                gaps: Arc::default(),
            },
            startup_parameters_ignored: ignored?,
        })
    }

    /// `[logins.*.guard]`
    pub fn login_guard(&mut self, section: &Section, scope: Option<&ScopeSettings>) -> Option<LoginGuard> {
        let lists = self.lists(section, scope);
        let mode = if section.has("mode") { Some(pick(section, "mode", &MODES)?) } else { None };
        if mode == Some(Mode::Observe) {
            self.warn_of_observing(&section.place_of("mode"));
        }
        Some(LoginGuard { lists: lists?, mode })
    }

    fn warn_of_observing(&mut self, place: &Place) {
        let message = "refusals are only counted: hostile SQL is not held off";
        self.problems.warn(place, message, "look at SHOW OBSERVED and go back to \"enforce\" soon");
    }

    /// The lists that `[guard]` and logins have in common.
    fn lists(&mut self, section: &Section, scope: Option<&ScopeSettings>) -> Option<Lists> {
        let settings_allowed = self.lower_names(section, "settings_allowed", |name| {
            if is_scope(scope, name) {
                return Some("is a scope setting: only the proxy sets it");
            }
            if name.starts_with("tenantgate.") {
                return Some("belongs to the proxy");
            }
            SETTINGS_PINNED.contains(&name).then_some("can never be allowed: it would undo the isolation")
        });
        let functions_allowed = self.lower_names(section, "functions_allowed", |name| {
            let bare = name.strip_prefix("pg_catalog.").unwrap_or(name);
            FUNCTIONS_PINNED.contains(&bare).then_some("can never be allowed: it would undo the isolation")
        });
        let settings_denied = self.lower_names(section, "settings_denied", |_| None);
        let functions_denied = self.lower_names(section, "functions_denied", |_| None);
        let statements_allowed = self.classes(section, "statements_allowed", |class| {
            let words = "can be allowed by no list: its preset decides (explain, notify, lock, truncate, maintenance, refresh can)";
            (!STATEMENTS_ALLOWABLE.contains(&class)).then_some(words)
        });
        let statements_denied = self.classes(section, "statements_denied", |class| {
            STATEMENTS_NEEDED.contains(&class).then_some("cannot be denied: no client works without it")
        });
        let definitions_allowed = self.definitions(section);
        Some(Lists {
            settings: Sides { allowed: texts(settings_allowed?), denied: texts(settings_denied?) },
            functions: Sides { allowed: texts(functions_allowed?), denied: texts(functions_denied?) },
            statements: Sides { allowed: statements_allowed?, denied: statements_denied? },
            definitions_allowed: definitions_allowed?,
        })
    }

    fn definitions(&mut self, section: &Section) -> Option<Vec<Definition>> {
        let mut definitions = Vec::new();
        for text in section.texts("definitions_allowed")? {
            match DEFINITIONS.iter().find(|(name, _)| *name == text.value) {
                Some((_, definition)) => definitions.push(*definition),
                None => {
                    let message = format!("{:?} is none that a list can allow (owner_views, partitions)", text.value);
                    self.problems.error(&text.place, message);
                }
            }
        }
        Some(definitions)
    }

    fn classes(
        &mut self,
        section: &Section,
        key: &str,
        refuse: impl Fn(StatementClass) -> Option<&'static str>,
    ) -> Option<Vec<StatementClass>> {
        let mut classes = Vec::new();
        for text in section.texts(key)? {
            let found = StatementClass::of_name(&text.value)
                .ok_or("is no class of statements, as tenantgate explain names them");
            match found.and_then(|class| refuse(class).map_or(Ok(class), Err)) {
                Ok(class) => classes.push(class),
                Err(reason) => self.problems.error(&text.place, format!("{:?} {reason}", text.value)),
            }
        }
        Some(classes)
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
