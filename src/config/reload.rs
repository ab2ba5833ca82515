//! What a reload can change, and what it cannot.
//!
//! Owns: the list of keys that need a restart. Does not own: how anything is changed.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;

use super::settings::{Config, LedgerSettings, UnixSocketSettings};

/// A key that counts from the process's start to its end.
struct FixedKey {
    pattern: &'static str,
    differs: fn(&Config, &Config) -> bool,
    /// Puts the second's back to the first's.
    keep: fn(&Config, &mut Config),
}

/// Compares and keeps one place of a configuration; several keys may be parts of it.
macro_rules! fixed {
    ($pattern:literal, $($field:ident).+) => { fixed!($pattern, $($field).+, |value| value) };
    ($pattern:literal, $($field:ident).+, $part:expr) => {
        FixedKey {
            pattern: $pattern,
            differs: |one, another| {
                let part = $part;
                part(&one.$($field).+) != part(&another.$($field).+)
            },
            keep: |in_force, next| next.$($field).+.clone_from(&in_force.$($field).+),
        }
    };
}

/// A part of `[ledger]`; the first ledger may come with a reload, and then stays as it is.
macro_rules! fixed_ledger {
    ($pattern:literal, $part:expr) => {
        FixedKey {
            pattern: $pattern,
            differs: |in_force, next| {
                let part: fn(&LedgerSettings) -> _ = $part;
                in_force.ledger.is_some() && in_force.ledger.as_ref().map(part) != next.ledger.as_ref().map(part)
            },
            keep: |in_force, next| next.ledger.clone_from(&in_force.ledger),
        }
    };
}

const FIXED: &[FixedKey] = &[
    fixed_ledger!("ledger.path", |ledger| ledger.path.clone()),
    fixed_ledger!("ledger.node", |ledger| ledger.node.clone()),
    fixed_ledger!("ledger.write_timeout", |ledger| ledger.write_timeout),
    fixed_ledger!("ledger.group_commit", |ledger| ledger.is_group_commit),
    fixed_ledger!("ledger.parameter_key_file", |ledger| ledger.parameter_key.clone()),
    fixed_ledger!("ledger.signing_key_file", |ledger| ledger.signing_key.clone()),
    fixed_ledger!("ledger.checkpoint_records", |ledger| ledger.checkpoint_records),
    fixed_ledger!("ledger.checkpoint_interval", |ledger| ledger.checkpoint_interval),
    fixed_ledger!("ledger.heartbeat_interval", |ledger| ledger.heartbeat_interval),
    fixed_ledger!("ledger.rotate_bytes", |ledger| ledger.rotate_bytes),
    fixed_ledger!("ledger.compress", |ledger| ledger.compress),
    fixed!("listen.addresses", listen.addresses),
    fixed!("listen.unix_folder", listen.unix, |unix: &Option<UnixSocketSettings>| {
        unix.as_ref().and_then(|unix| unix.path.parent().map(Path::to_path_buf))
    }),
    fixed!("listen.unix_port", listen.unix, |unix: &Option<UnixSocketSettings>| {
        unix.as_ref().and_then(|unix| unix.path.file_name().map(OsStr::to_os_string))
    }),
    fixed!("listen.unix_mode", listen.unix, |unix: &Option<UnixSocketSettings>| unix.as_ref().map(|unix| unix.mode)),
    fixed!("log.format", log.format),
    fixed!("metrics.address", metrics.address),
    fixed!("metrics.tenants_max", metrics.counted),
    fixed!("review.address", review.address),
    fixed!("runtime.threads", runtime.threads),
    fixed!("state.folder", state_folder),
];

/// Whether a reload can change a key.
#[must_use]
pub fn is_changeable(pattern: &str) -> bool {
    FIXED.iter().all(|key| key.pattern != pattern)
}

/// Sections that give nobody a right: sizes, limits, addresses, what is told.
const NO_RIGHTS: [&str; 7] = ["listen", "limits", "log", "metrics", "pool", "runtime", "state"];

/// The keys by which one configuration gives other rights than the other, in order; those of secrets are not among them, as
/// their values are not shown.
#[must_use]
pub fn rights_changed(before: &Config, after: &Config) -> Vec<String> {
    let is_right = |path: &str| path.split('.').next().is_some_and(|section| !NO_RIGHTS.contains(&section));
    let lines = |config: &Config| {
        let rights = config.shown.iter().filter(|line| is_right(&line.path));
        rights.map(|line| (line.path.clone(), line.value.clone())).collect::<BTreeSet<_>>()
    };
    let differing =
        lines(before).symmetric_difference(&lines(after)).map(|(path, _)| path.clone()).collect::<BTreeSet<_>>();
    differing.into_iter().collect()
}

/// Puts what needs a restart back to what is in force, and says which keys that concerns: a new value is
/// never dropped in silence.
#[must_use]
pub fn keep_fixed(in_force: &Config, next: &mut Config) -> Vec<&'static str> {
    let differing: Vec<&FixedKey> = FIXED.iter().filter(|key| (key.differs)(in_force, next)).collect();
    for key in &differing {
        (key.keep)(in_force, next);
        next.shown.retain(|line| line.pattern != key.pattern);
        next.shown.extend(in_force.shown.iter().find(|line| line.pattern == key.pattern).cloned());
    }
    differing.into_iter().map(|key| key.pattern).collect()
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
    fn what_gives_rights_is_named_where_it_differs() {
        let login =
            "[logins.a]\npassword = \"x\"\n[logins.a.tenant]\nfixed = \"acme\"\n[scope]\ntenant_type = \"text\"\n";
        let before = config(&format!("{login}[pool]\nsize = 3\n"));
        let after = config(&format!("{}[pool]\nsize = 4\n", login.replace("acme", "globex")));
        assert_eq!(rights_changed(&before, &after), ["logins.a.tenant.fixed"]);
        assert!(rights_changed(&before, &before).is_empty());
        assert!(rights_changed(&before, &config("")).contains(&"logins.a.password".to_owned()), "a login has gone");
    }

    #[test]
    fn each_of_them_is_named_and_kept() {
        let before = "[listen]\naddresses = [\"127.0.0.1:1\"]\nunix_folder = \"/a\"\nunix_port = 1\nunix_mode = \"0700\"\n\
                      [log]\nformat = \"text\"\n[metrics]\naddress = \"127.0.0.1:3\"\ntenants_max = 1\n\
                      [review]\naddress = \"127.0.0.1:5\"\n[review.reviewers.r]\npassword = \"x\"\n\
                      [runtime]\nthreads = 1\n[state]\nfolder = \"/a\"\n[ledger]\npath = \"/a\"\n\
                      checkpoint_records = 1\ncheckpoint_interval = \"1s\"\nheartbeat_interval = \"1s\"\nrotate_bytes = 1\n\
                      compress = \"none\"\n\
                      node = \"one\"\nwrite_timeout = \"1s\"\ngroup_commit = true\n";
        let after = before.replace("\"/a\"", "\"/b\"").replace("= 1\n", "= 2\n").replace(":1\"", ":2\"");
        let after = after
            .replace("0700", "0750")
            .replace("text", "json")
            .replace(":3\"", ":4\"")
            .replace(":5\"", ":6\"")
            .replace("\"1s\"", "\"2s\"")
            .replace("\"one\"", "\"two\"")
            .replace("\"none\"", "\"gzip\"")
            .replace("= true", "= false");
        let (in_force, mut next) = (config(before), config(&after));
        // A key is a file, and there are none here.
        let is_file = |pattern: &&str| matches!(*pattern, "ledger.signing_key_file" | "ledger.parameter_key_file");
        let named: Vec<&str> = FIXED.iter().map(|key| key.pattern).filter(|pattern| !is_file(pattern)).collect();
        assert_eq!(keep_fixed(&in_force, &mut next), named);
        assert!(keep_fixed(&in_force, &mut next).is_empty(), "all are kept now");
        let lines = |config: &Config| {
            let fixed = config.shown.iter().filter(|line| !is_changeable(line.pattern));
            let mut lines: Vec<String> = fixed.map(|line| format!("{} {}", line.path, line.value)).collect();
            lines.sort();
            lines
        };
        assert_eq!(lines(&in_force), lines(&next));
    }

    #[test]
    fn the_first_ledger_may_come_with_a_reload_and_goes_with_none() {
        let (without, with) = (config(""), config("[ledger]\npath = \"/a\"\n"));
        assert!(without.shown.iter().all(|line| line.pattern != "ledger.path"), "there is none");
        let mut next = with.clone();
        assert!(keep_fixed(&without, &mut next).is_empty());
        assert!(next.shown.iter().any(|line| line.pattern == "ledger.path" && line.value == "/a"));
        let mut next = without;
        assert_eq!(keep_fixed(&with, &mut next)[0], "ledger.path");
        assert_eq!(next.ledger, with.ledger);
        let mut next = config("[ledger]\npath = \"/a\"\ncheckpoint_records = 7\n");
        assert_eq!(keep_fixed(&with, &mut next), ["ledger.checkpoint_records"]);
        assert_eq!(next.ledger, with.ledger);
    }

    #[test]
    fn keys_that_need_a_restart_exist() {
        for key in FIXED {
            assert!(reference::find(key.pattern).is_some(), "{}", key.pattern);
        }
    }
}
