//! What would have been refused while refusals are only observed, for SHOW OBSERVED.
//!
//! Statements that differ in literals alone count as one: they have one fingerprint. A statement is kept without its
//! literals, or not at all.
//!
//! Owns: the counts by login, code and fingerprint, and their bound. Does not own: what is refused (the guard).

use std::collections::BTreeMap;
use std::hash::BuildHasher as _;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::guard::{Observed, redacted};
use crate::time::Moment;

/// Kinds of statements kept. The 1,001st counts under the fingerprint 0 of its login and code: an application has some
/// hundreds of them.
const KEPT_MAX: usize = 1000;

/// Bytes of a statement that are kept.
const STATEMENT_BYTES_MAX: usize = 300;

/// One kind of statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservationRow {
    /// Who sent it.
    pub login: Arc<str>,
    /// What it would have been refused for, and as what.
    pub observed: Observed,
    /// The same for statements that differ in literals alone; 0 for all that found no place.
    pub fingerprint: u64,
    /// How often.
    pub count: u64,
    /// When first.
    pub first_at: Moment,
    /// When last.
    pub last_at: Moment,
    /// The statement without its literals.
    pub statement: Arc<str>,
}

type Key = (Arc<str>, &'static str, u64);

/// All kinds of statements that would have been refused.
#[derive(Debug, Default)]
pub struct Observations(Mutex<BTreeMap<Key, ObservationRow>>);

impl Observations {
    /// Counts one statement.
    pub fn count(&self, login: &Arc<str>, observed: Observed, sql: &[u8], at: Moment) {
        let (mut fingerprint, mut statement) = fingerprint(observed, sql);
        let code = observed.code.row().name;
        let mut rows = self.0.lock();
        if rows.len() >= KEPT_MAX && !rows.contains_key(&(Arc::clone(login), code, fingerprint)) {
            (fingerprint, statement) = (0, String::new());
        }
        let row = rows.entry((Arc::clone(login), code, fingerprint)).or_insert_with(|| ObservationRow {
            login: Arc::clone(login),
            observed,
            fingerprint,
            count: 0,
            first_at: at,
            last_at: at,
            statement: statement.into(),
        });
        row.count = row.count.saturating_add(1);
        row.last_at = at;
    }

    /// All of them, the most frequent first.
    #[must_use]
    pub fn rows(&self) -> Vec<ObservationRow> {
        let mut rows: Vec<_> = self.0.lock().values().cloned().collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.count));
        rows
    }
}

/// Of the statement without its literals; where these cannot be told for certain, of the code alone.
fn fingerprint(observed: Observed, sql: &[u8]) -> (u64, String) {
    let text = std::str::from_utf8(sql).ok();
    let Some((statement, _)) = text.and_then(|text| redacted(text, observed.class, STATEMENT_BYTES_MAX)) else {
        return (1, String::new());
    };
    (foldhash::fast::FixedState::default().hash_one(&statement) | 2, statement)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Code;
    use crate::guard::StatementClass;

    const SLEEP: Observed = Observed { code: Code::FunctionRefused, class: StatementClass::Select };

    fn counted(texts: impl IntoIterator<Item = String>) -> Vec<ObservationRow> {
        let all = Observations::default();
        for (at, text) in texts.into_iter().enumerate() {
            all.count(&Arc::from("app"), SLEEP, text.as_bytes(), Moment::from_micros(at as u64));
        }
        all.rows()
    }

    #[test]
    fn statements_that_differ_in_literals_alone_are_one_and_literals_are_not_kept() {
        let rows = counted(
            ["SELECT pg_sleep(1), 'a b'", "SELECT pg_sleep(2), 'secret'", "SELECT pg_sleep(1)"].map(String::from),
        );
        assert_eq!(rows.iter().map(|row| row.count).collect::<Vec<_>>(), [2, 1]);
        assert!(rows[0].statement.contains("pg_sleep") && !rows[0].statement.contains('a'), "{}", rows[0].statement);
        assert_eq!((rows[0].first_at.as_micros(), rows[0].last_at.as_micros()), (0, 1));
        assert_ne!(rows[0].fingerprint, rows[1].fingerprint);
    }

    #[test]
    fn there_are_no_more_kinds_than_have_a_place() {
        let rows = counted((0..3 * KEPT_MAX).map(|number| format!("SELECT pg_sleep(a{number})")));
        assert_eq!(rows.len(), KEPT_MAX + 1);
        assert_eq!((rows[0].fingerprint, rows[0].count), (0, 2 * KEPT_MAX as u64));
    }
}
