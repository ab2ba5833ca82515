//! Limits of pools: those of `[pool]`, with those of a database over them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Builder;
use crate::config::raw::Section;
use crate::config::settings::{Config, DatabaseEntry};
use crate::pool::PoolLimits;
use crate::upstream::StatementLimits;

/// The two tables a key may stand in.
struct Layers<'l> {
    general: &'l Section,
    own: &'l Section,
}

impl Layers<'_> {
    fn holder(&self, key: &str) -> &Section {
        if self.own.has(key) { self.own } else { self.general }
    }

    fn number(&self, key: &str) -> Option<usize> {
        self.holder(key).number(key)
    }

    fn duration(&self, key: &str) -> Option<Duration> {
        self.holder(key).duration(key)
    }
}

impl Builder<'_> {
    /// The limits of one database's pools, and which prepared statements a server of theirs keeps.
    pub fn pool(&mut self, general: &Section, own: &Section) -> Option<(PoolLimits, StatementLimits)> {
        let layers = Layers { general, own };
        let limits = PoolLimits {
            size: layers.number("size")?,
            size_min: layers.number("size_min")?,
            wait_timeout: layers.duration("wait_timeout")?,
            waiting_max: layers.number("waiting_max")?,
            server_lifetime: layers.duration("server_lifetime")?,
            server_idle_timeout: layers.duration("server_idle_timeout")?,
            server_check_delay: layers.duration("server_check_delay")?,
            pins_max: Some(layers.number("pins_max")?).filter(|most| *most > 0),
            connect_backoff_max: layers.duration("connect_backoff_max")?,
        };
        if limits.size_min > limits.size {
            let key = if own.has("size_min") || !own.has("size") { "size_min" } else { "size" };
            let message = format!("size_min {} is larger than size {}", limits.size_min, limits.size);
            self.problems.error(&layers.holder(key).place_of(key), message);
            return None;
        }
        let statements = StatementLimits {
            entries_max: layers.number("prepared_statements_max")?,
            bytes_max: layers.number("prepared_statement_bytes_max")?,
        };
        Some((limits, statements))
    }

    /// Databases that are the same one on the server share its pools, which can have one limit only.
    pub fn check_pools_agree(&mut self, root: &Section, config: &Config) {
        let mut seen: BTreeMap<(&str, &str, &str), (&str, &DatabaseEntry)> = BTreeMap::new();
        for (key, database) in &config.databases {
            let disagrees = roles_of(config, key, database).find_map(|role| {
                let pool = (&*database.server, &*database.name, role);
                let (first, other) = *seen.entry(pool).or_insert((key, database));
                let agrees = other.pool == database.pool
                    && other.prepared_statements == database.prepared_statements
                    && other.seal == database.seal;
                (!agrees).then_some((first, role))
            });
            if let Some((first, role)) = disagrees {
                let message = format!(
                    "shares its pool of role {role:?} with databases.{first}, but their pool settings differ, or their seals"
                );
                self.problems.error(&root.table("databases").table(key).table("pool").place, message);
            }
        }
    }
}

/// The database's own role and those of logins that bring theirs.
fn roles_of<'c>(config: &'c Config, key: &'c str, database: &'c DatabaseEntry) -> impl Iterator<Item = &'c str> {
    let of_logins = config.logins.values().filter(|login| login.databases.has(key)).filter_map(|l| l.role.as_deref());
    std::iter::once(&*database.role).chain(of_logins)
}
