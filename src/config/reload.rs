//! What a reload can change, and what it cannot.
//!
//! Owns: the list of keys that need a restart. Does not own: how anything is changed.

use super::settings::Config;

/// Keys that count from the process's start to its end. Who adds one here adds it to [`keep_fixed`], too.
pub const NEEDS_RESTART: &[&str] = &[
    "ledger.path",
    "listen.addresses",
    "listen.unix_folder",
    "listen.unix_port",
    "listen.unix_mode",
    "log.format",
    "metrics.address",
    "metrics.tenants_max",
    "runtime.threads",
    "state.folder",
];

/// Whether a reload can change a key.
#[must_use]
pub fn is_changeable(pattern: &str) -> bool {
    !NEEDS_RESTART.contains(&pattern)
}

/// Puts what needs a restart back to what is in force, and says which keys that concerns: a new value is
/// never dropped in silence.
#[must_use]
pub fn keep_fixed(in_force: &Config, next: &mut Config) -> Vec<&'static str> {
    let mut kept = Vec::new();
    for pattern in NEEDS_RESTART {
        let line = |config: &Config| config.shown.iter().find(|key| key.pattern == *pattern).cloned();
        let (before, after) = (line(in_force), line(next));
        if before.as_ref().map(|key| &key.value) == after.as_ref().map(|key| &key.value) {
            continue;
        }
        kept.push(*pattern);
        next.shown.retain(|key| key.pattern != *pattern);
        next.shown.extend(before);
    }
    next.listen.addresses.clone_from(&in_force.listen.addresses);
    next.listen.unix.clone_from(&in_force.listen.unix);
    next.log.format = in_force.log.format;
    next.runtime.threads = in_force.runtime.threads;
    next.metrics = in_force.metrics;
    next.state_folder.clone_from(&in_force.state_folder);
    // The first one may come with a reload.
    if in_force.ledger.is_some() {
        next.ledger.clone_from(&in_force.ledger);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::super::{EmptyEnvironment, load, reference};
    use super::*;

    const FILE: &str = "[servers.main]\nhost = \"/tmp\"\n[roles.app]\nuser = \"app\"\npassword = \"hush\"\n\
                        [databases.demo]\nserver = \"main\"\nrole = \"app\"\n[databases.demo.pool]\nsize = 7\n\
                        [logins.\"a b\"]\npassword = \"hush\"\ntenant.from = [\"suffix\"]\n";

    fn config(more: &str) -> Config {
        load(&format!("{FILE}{more}"), &EmptyEnvironment).unwrap().config
    }

    #[test]
    fn every_key_in_force_is_shown_and_no_secret() {
        let shown = config("[[rules]]\nmethod = \"reject\"\n").shown;
        let value = |path: &str| shown.iter().find(|key| key.path == path).map(|key| (&*key.value, &*key.default));
        assert_eq!(value("pool.size"), Some(("20", "20")));
        assert_eq!(value("databases.demo.pool.size"), Some(("7", "")));
        assert_eq!(value("databases.demo.pool.size_min"), None);
        assert_eq!(value("logins.\"a b\".password"), Some(("<masked>", "")));
        assert_eq!(value("logins.\"a b\".tenant.from"), Some(("[\"suffix\"]", "")));
        assert_eq!(value("rules[0].method"), Some(("reject", "")));
        assert_eq!(value("rules[0].login"), Some(("*", "*")));
        assert_eq!(value("listen.addresses").map(|(value, _)| value), Some("[\"127.0.0.1:6432\"]"));
        assert!(!format!("{shown:?}").contains("hush"));
    }

    #[test]
    fn what_needs_a_restart_is_named_and_stays() {
        let in_force = config("[listen]\naddresses = [\"127.0.0.1:1\"]\n");
        let mut next = config("[listen]\naddresses = [\"127.0.0.1:2\"]\n[runtime]\nthreads = 3\n[pool]\nsize = 3\n");
        assert_eq!(keep_fixed(&in_force, &mut next), ["listen.addresses", "runtime.threads"]);
        assert_eq!((&next.listen.addresses, next.runtime.threads), (&in_force.listen.addresses, None));
        let shown: Vec<&str> =
            next.shown.iter().filter(|key| !is_changeable(key.pattern)).map(|key| &*key.value).collect();
        assert!(shown.contains(&"[\"127.0.0.1:1\"]") && !shown.contains(&"3"), "{shown:?}");
        let mut same = config("[listen]\naddresses = [\"127.0.0.1:1\"]\n");
        assert!(keep_fixed(&in_force, &mut same).is_empty());
    }

    #[test]
    fn keys_that_need_a_restart_exist() {
        for pattern in NEEDS_RESTART {
            assert!(reference::find(pattern).is_some(), "{pattern}");
        }
    }
}
