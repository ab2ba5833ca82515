//! Sums over acts: by reason, by actor, by table, by day.
//!
//! Owns: the sums and their bound. Does not own: which acts are summed.

use std::collections::BTreeMap;

use serde::Serialize;

use super::deed::Deed;

/// Most keys of one sum; what comes beyond them shares one row.
const KEYS_MAX: usize = 2_000;

/// Most characters of a key: a reason has up to 1 KiB.
const KEY_CHARS_MAX: usize = 120;

/// Under what the rest is, what has no reason, and what has no time.
const OTHERS: &str = "(others)";
const NO_REASON: &str = "(none)";
const NO_DAY: &str = "(unknown)";

/// Keys that are no values: no filter leads to them.
pub const UNNAMED: [&str; 3] = [OTHERS, NO_REASON, NO_DAY];

/// What is summed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sum {
    /// Transactions, and acts of other kinds.
    pub acts: u64,
    /// Those of them that committed.
    pub committed: u64,
    /// That an error ended, or that were refused.
    pub failed: u64,
    /// Whose end is not known.
    pub unknown: u64,
    /// That nobody has reviewed.
    pub unreviewed: u64,
    /// Rows the clients were sent.
    pub rows_delivered: u64,
    /// Rows written.
    pub rows_affected: u64,
    /// When the last of them began.
    pub last_at: String,
}

impl Sum {
    fn add(&mut self, act: &Deed) {
        self.acts += 1;
        self.rows_delivered = self.rows_delivered.saturating_add(act.rows_delivered);
        self.rows_affected = self.rows_affected.saturating_add(act.rows_affected);
        self.unreviewed += u64::from(act.kind != "review" && act.reviews == 0);
        match act.result.as_deref() {
            Some("committed") => self.committed += 1,
            Some("failed" | "refused") => self.failed += 1,
            Some("unknown") | None => self.unknown += 1,
            Some(_) => {}
        }
        if act.at > self.last_at {
            self.last_at.clone_from(&act.at);
        }
    }
}

/// All sums.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Of everything.
    pub all: Sum,
    /// By reason, as it was given.
    pub by_reason: BTreeMap<String, Sum>,
    /// By login.
    pub by_actor: BTreeMap<String, Sum>,
    /// By table; an act with several counts for each.
    pub by_table: BTreeMap<String, Sum>,
    /// By day, in UTC.
    pub by_day: BTreeMap<String, Sum>,
}

impl Totals {
    /// Adds an act.
    pub fn add(&mut self, act: &Deed) {
        self.all.add(act);
        put(&mut self.by_reason, act.reason.as_deref().unwrap_or(NO_REASON), act);
        put(&mut self.by_actor, &act.login, act);
        put(&mut self.by_day, act.at.get(..10).unwrap_or(NO_DAY), act);
        for table in &act.tables {
            put(&mut self.by_table, table, act);
        }
    }

    /// By what it is summed, and the sums.
    #[must_use]
    pub const fn groups(&self) -> [(&'static str, &BTreeMap<String, Sum>); 4] {
        [("reason", &self.by_reason), ("actor", &self.by_actor), ("table", &self.by_table), ("day", &self.by_day)]
    }
}

/// The greatest first; days in their order, the latest first.
#[must_use]
pub fn ranked<'t>(group: &str, sums: &'t BTreeMap<String, Sum>) -> Vec<(&'t str, &'t Sum)> {
    let mut rows: Vec<(&str, &Sum)> = sums.iter().map(|(key, sum)| (key.as_str(), sum)).collect();
    if group == "day" {
        rows.reverse();
    } else {
        rows.sort_by_key(|(_, sum)| std::cmp::Reverse(sum.acts));
    }
    rows
}

fn put(sums: &mut BTreeMap<String, Sum>, key: &str, act: &Deed) {
    let short: String = key.chars().take(KEY_CHARS_MAX).collect();
    let key = if sums.len() < KEYS_MAX || sums.contains_key(&short) { short } else { OTHERS.to_owned() };
    sums.entry(key).or_default().add(act);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_bounded_and_count_everything() {
        let mut totals = Totals::default();
        for number in 0..5_000 {
            totals.add(&Deed {
                kind: "transaction".into(),
                reason: Some(format!("ticket {number}")),
                login: "ops".into(),
                at: "2026-11-23T09:00:00Z".into(),
                tables: vec!["orders".into()],
                result: (number % 2 == 0).then(|| "committed".into()),
                rows_delivered: 2,
                ..Deed::default()
            });
        }
        assert_eq!((totals.by_reason.len(), totals.by_reason[OTHERS].acts), (2_001, 3_000));
        let orders = &totals.by_table["orders"];
        assert_eq!(
            (orders.acts, orders.committed, orders.unknown, orders.rows_delivered),
            (5_000, 2_500, 2_500, 10_000)
        );
        assert_eq!(ranked("reason", &totals.by_reason)[0].0, OTHERS);
        assert_eq!(totals.by_day.keys().collect::<Vec<_>>(), ["2026-11-23"]);
    }
}
