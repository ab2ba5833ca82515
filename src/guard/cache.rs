//! Facts by text, shared by all threads.
//!
//! Owns: the bound in bytes and the comparison of full texts. Does not own: how facts are found.

use quick_cache::sync::Cache;
use quick_cache::{OptionsBuilder, Weighter};

use super::facts::Facts;
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

/// Facts and faults by text. The key is the whole text, compared byte by byte.
pub struct FactsCache {
    texts: Texts,
}

impl FactsCache {
    /// A cache of at most so many bytes.
    #[must_use]
    pub fn new(bytes_max: u64) -> Self {
        Self { texts: texts(bytes_max) }
    }

    /// What is known of a text.
    #[must_use]
    pub fn lookup(&self, sql: &[u8]) -> Option<Inspected> {
        self.texts.get(sql)
    }

    /// Keeps what was found out about a text.
    pub fn insert(&self, sql: &[u8], inspected: &Inspected) {
        self.texts.insert(sql.into(), inspected.clone());
    }

    /// How many texts it holds, and how many bytes they occupy.
    #[must_use]
    pub fn size(&self) -> (usize, u64) {
        (self.texts.len(), self.texts.weight())
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
