//! Facts by text, shared by all threads.
//!
//! Owns: the bound in bytes and the comparison of full texts. Does not own: how facts are found.

use std::cell::RefCell;
use std::sync::Arc;

use quick_cache::sync::Cache;
use quick_cache::{OptionsBuilder, Weighter};

use super::facts::Facts;
use super::shape;
use super::text::Inspected;
use crate::fault::Fault;

/// Default bound of a cache.
pub const CACHE_BYTES_DEFAULT: u64 = 32 * 1024 * 1024;

/// What an entry costs beside its text and facts: map slots, reference counts, list links.
const ENTRY_OVERHEAD_BYTES: u64 = 128;

#[derive(Clone)]
struct WeighBytes;

impl Weighter<Box<[u8]>, Inspected> for WeighBytes {
    fn weight(&self, text: &Box<[u8]>, inspected: &Inspected) -> u64 {
        let bytes = match inspected {
            Ok(facts) => facts.bytes + size_of::<Facts>(),
            Err(fault) => size_of::<Fault>() + fault.message.len(),
        };
        ENTRY_OVERHEAD_BYTES + (text.len() + bytes) as u64
    }
}

type Texts = Cache<Box<[u8]>, Inspected, WeighBytes, foldhash::fast::RandomState>;

/// Facts and faults by text, and ordinary facts by shape. Keys are compared byte by byte.
pub struct FactsCache {
    texts: Texts,
    /// By shape: for texts that differ in literals alone (see [`shape`]).
    shapes: Texts,
}

thread_local! {
    /// Where shapes are written, so that a lookup allocates nothing.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl FactsCache {
    /// A cache of at most so many bytes.
    #[must_use]
    pub fn new(bytes_max: u64) -> Self {
        Self { texts: texts(bytes_max - bytes_max / 4), shapes: texts(bytes_max / 4) }
    }

    /// What is known of a text.
    #[must_use]
    pub fn lookup(&self, sql: &[u8]) -> Option<Inspected> {
        self.texts.get(sql).or_else(|| with_shape(sql, |shape| self.shapes.get(shape)).flatten())
    }

    /// Keeps what was found out about a text.
    pub fn insert(&self, sql: &[u8], inspected: &Inspected) {
        let shared = inspected.as_ref().ok().and_then(|facts| facts.for_the_shape(sql.len()));
        let kept =
            shared.and_then(|facts| with_shape(sql, |shape| self.shapes.insert(shape.into(), Ok(Arc::new(facts)))));
        if kept.is_none() {
            self.texts.insert(sql.into(), inspected.clone());
        }
    }

    /// How many texts it holds, and how many bytes they occupy.
    #[must_use]
    pub fn size(&self) -> (usize, u64) {
        (self.texts.len() + self.shapes.len(), self.texts.weight() + self.shapes.weight())
    }
}

impl Default for FactsCache {
    fn default() -> Self {
        Self::new(CACHE_BYTES_DEFAULT)
    }
}

impl std::fmt::Debug for FactsCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (texts, bytes) = self.size();
        f.debug_struct("FactsCache").field("texts", &texts).field("bytes", &bytes).finish()
    }
}

fn with_shape<T>(sql: &[u8], work: impl FnOnce(&[u8]) -> T) -> Option<T> {
    SCRATCH.with_borrow_mut(|scratch| shape::of(sql, scratch).map(work))
}

fn texts(bytes_max: u64) -> Texts {
    let entries = usize::try_from(bytes_max / 1024).unwrap_or(usize::MAX).max(16);
    let options = OptionsBuilder::new().estimated_items_capacity(entries).weight_capacity(bytes_max).build();
    match options {
        Ok(options) => Cache::with_options(
            options,
            WeighBytes,
            foldhash::fast::RandomState::default(),
            quick_cache::sync::DefaultLifecycle::default(),
        ),
        Err(_) => Cache::with(
            entries,
            bytes_max,
            WeighBytes,
            foldhash::fast::RandomState::default(),
            quick_cache::sync::DefaultLifecycle::default(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Limits, inspect};
    use super::*;

    fn kept(cache: &FactsCache, sql: &str) {
        cache.insert(sql.as_bytes(), &inspect(sql.as_bytes(), &Limits::default()));
    }

    fn range(inspected: &Inspected, sql: &str) -> std::ops::Range<usize> {
        inspected.as_ref().unwrap().statements[0].range(sql.len())
    }

    #[test]
    fn literals_share_facts() {
        let cache = FactsCache::default();
        kept(&cache, "SELECT a FROM t WHERE b = 1 AND c = 'x' ; ");
        let sql = "SELECT a FROM t WHERE b = 4711 AND c = 'it''s' ; ";
        let found = cache.lookup(sql.as_bytes()).unwrap();
        assert_eq!(&sql[range(&found, sql)], "SELECT a FROM t WHERE b = 4711 AND c = 'it''s' ");
        assert!(cache.lookup(b"SELECT a FROM t WHERE b = 1 AND d = 'x' ; ").is_none());
        assert_eq!(cache.size().0, 1);
    }

    #[test]
    fn what_is_not_ordinary_is_kept_by_its_text() {
        let cache = FactsCache::default();
        for (sql, other) in [
            ("SET statement_timeout = 1", "SET statement_timeout = 2"),
            ("SELECT set_config('a', 'b', true)", "SELECT set_config('c', 'b', true)"),
            ("SELECT 1; SELECT 2", "SELECT 1; SELECT 3"),
            ("SELECT 1 FROM", "SELECT 2 FROM"),
            ("SHOW timezone", "SHOW  timezone"),
        ] {
            kept(&cache, sql);
            assert!(cache.lookup(sql.as_bytes()).is_some(), "{sql}");
            assert!(cache.lookup(other.as_bytes()).is_none(), "{other}");
        }
    }

    #[test]
    fn the_bound_holds() {
        let cache = FactsCache::new(256 * 1024);
        for number in 0..5_000 {
            kept(&cache, &format!("SELECT a{number} FROM t; SELECT 2"));
            kept(&cache, &format!("SELECT a{number} FROM t WHERE a = 2"));
        }
        let (_, bytes) = cache.size();
        assert!(bytes <= 256 * 1024, "{bytes}");
    }
}
