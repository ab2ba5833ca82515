//! Prepared statements that a change of the schema has made obsolete.
//!
//! PostgreSQL fixes what a statement returns, and the types of its parameters, when it is prepared. If a table or type
//! changes under it, the statement fails from then on ("cached plan must not change result type", "cache lookup failed
//! for type …") until its client prepares it anew. Servers are shared here, and one that already has a text is not asked
//! again: so the first such error tells all servers of the pool that what they prepared before it is to be prepared
//! again, as it would be for a client that reconnects.
//!
//! A definition that a client of this proxy makes is known before any statement fails: what is prepared behind it is
//! prepared anew everywhere in its database.
//!
//! Owns: which texts that is, and since when; how many definitions there were. Does not own: recognising the error or the
//! definition (the session).

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lru::LruCache;
use parking_lot::Mutex;

use super::statement::StatementKey;

/// Texts remembered: a change of the schema touches some hundred of a large application's at once.
const TEXTS_MAX: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

/// A moment in a pool's life; only their order means anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(u64);

impl Epoch {
    /// Of what never becomes obsolete.
    pub const NEVER: Self = Self(u64::MAX);
}

/// How often the definitions of one database have changed, as far as this proxy has made them change. Its pools share it.
#[derive(Debug, Default)]
pub struct Definitions(AtomicU64);

impl Definitions {
    /// They may have changed.
    pub fn note(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }

    /// How often.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// What has changed under a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It would return other columns than its client was told: the client must prepare it anew.
    Result,
    /// Something that it was prepared with is gone; prepared again it may work.
    Parts,
}

#[derive(Clone, Copy, Debug)]
struct Noted {
    /// Statements prepared before are to be prepared again.
    at: Epoch,
    /// Clients that prepared it before have to do so themselves.
    result_at: Epoch,
}

/// The obsolete statements of one pool.
#[derive(Debug)]
pub struct Outdated {
    now: AtomicU64,
    texts: Mutex<Texts>,
    definitions: Arc<Definitions>,
}

#[derive(Debug)]
struct Texts {
    noted: LruCache<Arc<StatementKey>, Noted, foldhash::fast::FixedState>,
    /// What was forgotten concerns statements prepared before this.
    forgotten: Epoch,
}

impl Default for Outdated {
    fn default() -> Self {
        Self::of(Arc::default())
    }
}

impl Outdated {
    /// None yet, in a database of these definitions.
    #[must_use]
    pub fn of(definitions: Arc<Definitions>) -> Self {
        let noted = LruCache::with_hasher(TEXTS_MAX, foldhash::fast::FixedState::default());
        Self { now: AtomicU64::new(0), texts: Mutex::new(Texts { noted, forgotten: Epoch::default() }), definitions }
    }

    /// The definitions of the database.
    #[must_use]
    pub const fn definitions(&self) -> &Arc<Definitions> {
        &self.definitions
    }

    /// What is prepared from here on has seen every change that was noted.
    #[must_use]
    pub fn now(&self) -> Epoch {
        Epoch(self.now.load(Ordering::Acquire))
    }

    /// A statement has failed because of a change: everything prepared from its text until now is obsolete.
    pub fn note(&self, key: &Arc<StatementKey>, change: Change) {
        let mut texts = self.texts.lock();
        let at = Epoch(self.now.fetch_add(1, Ordering::AcqRel).saturating_add(1));
        let before = texts.noted.peek(key).map_or(Epoch::default(), |noted| noted.result_at);
        let result_at = if change == Change::Result { at } else { before };
        let pushed_out = texts.noted.push(Arc::clone(key), Noted { at, result_at });
        if let Some((_, other)) = pushed_out.filter(|(other, _)| other != key) {
            texts.forgotten = texts.forgotten.max(other.at);
        }
    }

    /// What has changed under a statement prepared from this text at that time, if anything.
    #[must_use]
    pub fn change_since(&self, key: &Arc<StatementKey>, prepared: Epoch) -> Option<Change> {
        if prepared >= self.now() {
            return None;
        }
        let texts = self.texts.lock();
        match texts.noted.peek(key) {
            Some(noted) if prepared < noted.result_at => Some(Change::Result),
            Some(noted) if prepared < noted.at => Some(Change::Parts),
            Some(_) | None => (prepared < texts.forgotten).then_some(Change::Parts),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(sql: &str) -> Arc<StatementKey> {
        Arc::new(StatementKey::new(sql.as_bytes(), &[0, 0], "".into()))
    }

    #[test]
    fn what_was_prepared_before_a_change_is_obsolete_and_what_comes_behind_it_is_not() {
        let outdated = Outdated::default();
        let (one, other) = (key("one"), key("other"));
        let before = outdated.now();
        assert_eq!(outdated.change_since(&one, before), None);
        outdated.note(&one, Change::Result);
        assert_eq!(outdated.change_since(&one, before), Some(Change::Result));
        assert_eq!(outdated.change_since(&other, before), None);
        let after = outdated.now();
        assert_eq!(outdated.change_since(&one, after), None);
        outdated.note(&one, Change::Parts);
        assert_eq!(outdated.change_since(&one, after), Some(Change::Parts));
        assert_eq!(outdated.change_since(&one, before), Some(Change::Result), "it was told something else");
        assert_eq!(outdated.change_since(&one, Epoch::NEVER), None);
    }

    #[test]
    fn what_is_forgotten_is_prepared_again() {
        let outdated = Outdated::default();
        let before = outdated.now();
        (0..2_000).for_each(|number| outdated.note(&key(&format!("{number}")), Change::Result));
        assert_eq!(outdated.change_since(&key("0"), before), Some(Change::Parts));
        assert_eq!(outdated.change_since(&key("1999"), before), Some(Change::Result));
        assert_eq!(outdated.change_since(&key("0"), outdated.now()), None);
    }
}
