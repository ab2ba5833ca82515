//! Session settings as values: what is set beyond a server's own defaults.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Setting name (canonical, lower case) → value as `set_config` takes it. What is absent is at the
/// server's default. Shared between a client and the servers that carry its settings, so that
/// "nothing to do" is one pointer comparison.
pub type Settings = Arc<BTreeMap<Box<str>, Box<str>>>;

/// Settings whose value is used while a statement is *parsed* (literals of time types are folded then),
/// so that a prepared statement may only be shared under equal values.
const PARSE_TIME: &[&str] = &[
    "array_nulls",
    "datestyle",
    "default_text_search_config",
    "intervalstyle",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "search_path",
    "timezone",
    "xmloption",
];

/// Whether statements parsed under other values of this setting may differ.
#[must_use]
pub fn is_parse_time(name: &str) -> bool {
    PARSE_TIME.binary_search(&name).is_ok()
}

/// The parse-time settings as one comparable text; empty where all are at their default.
#[must_use]
pub fn parse_context(settings: &Settings) -> Arc<str> {
    let mut context = String::new();
    for (name, value) in settings.iter().filter(|(name, _)| is_parse_time(name)) {
        context.push_str(name);
        context.push('\0');
        context.push_str(value);
        context.push('\0');
    }
    context.into()
}

/// One step from a server's settings to a client's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingStep {
    /// Set to a value.
    Set(Box<str>, Box<str>),
    /// Back to the server's default.
    Reset(Box<str>),
}

/// What has to be done to a server that has `from` so that it has `to`.
#[must_use]
pub fn steps(from: &Settings, to: &Settings) -> Vec<SettingStep> {
    if Arc::ptr_eq(from, to) {
        return Vec::new();
    }
    let resets = from.keys().filter(|name| !to.contains_key(*name)).cloned().map(SettingStep::Reset);
    let sets = to
        .iter()
        .filter(|(name, value)| from.get(*name) != Some(value))
        .map(|(name, value)| SettingStep::Set(name.clone(), value.clone()));
    let mut steps: Vec<SettingStep> = resets.chain(sets).collect();
    // A short time limit of the client before counts until it is taken back, so that goes first; one of the client
    // that comes would count for what is still to be set, so that goes last.
    steps.sort_by_key(|step| match step {
        SettingStep::Reset(name) if is_time_limit(name) => 0,
        SettingStep::Reset(_) => 1,
        SettingStep::Set(name, _) if !is_time_limit(name) => 1,
        SettingStep::Set(name, _) => {
            if from.contains_key(name) {
                0
            } else {
                2
            }
        }
    });
    steps
}

/// Whether a setting ends statements or transactions by time.
fn is_time_limit(name: &str) -> bool {
    matches!(name, "statement_timeout" | "transaction_timeout" | "lock_timeout")
}

/// Makes two equal values one: both sides take the one at the lower address, so that clients and servers
/// that meet often end up with the same, and later comparisons are of two pointers. Whether they are equal.
pub fn converge<T: PartialEq>(one: &mut Arc<T>, other: &mut Arc<T>) -> bool {
    if Arc::ptr_eq(one, other) {
        return true;
    }
    if **one != **other {
        return false;
    }
    if Arc::as_ptr(one) < Arc::as_ptr(other) {
        *other = Arc::clone(one);
    } else {
        *one = Arc::clone(other);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        Arc::new(pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
    }

    #[test]
    fn steps_are_the_difference() {
        let a = settings(&[("timezone", "UTC"), ("work_mem", "1MB")]);
        let b = settings(&[("timezone", "CET"), ("datestyle", "ISO")]);
        assert!(steps(&a, &a.clone()).is_empty());
        assert_eq!(
            steps(&a, &b),
            [
                SettingStep::Reset("work_mem".into()),
                SettingStep::Set("datestyle".into(), "ISO".into()),
                SettingStep::Set("timezone".into(), "CET".into())
            ]
        );
    }

    #[test]
    fn equal_values_become_one() {
        let (mut a, mut b) = (settings(&[("timezone", "UTC")]), settings(&[("timezone", "UTC")]));
        assert!(converge(&mut a, &mut b) && Arc::ptr_eq(&a, &b));
        let mut c = settings(&[("timezone", "CET")]);
        assert!(!converge(&mut a, &mut c) && !Arc::ptr_eq(&a, &c));
    }

    #[test]
    fn only_parse_time_settings_divide_prepared_statements() {
        assert!(PARSE_TIME.is_sorted());
        let name = settings(&[("application_name", "x")]);
        assert_eq!(&*parse_context(&name), "");
        assert_ne!(parse_context(&settings(&[("timezone", "UTC")])), parse_context(&name));
    }
}
