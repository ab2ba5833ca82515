//! Prepared statements on one server, keyed by full text and parameter types.

use std::hash::{BuildHasher, Hash, Hasher};
use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;

use super::outdated::{Epoch, Outdated};

/// What makes two prepared statements the same: text, parameter types, the settings they were parsed
/// under and the definitions in front of them. The hash is computed once; equality compares everything.
#[derive(Debug, Eq)]
pub struct StatementKey {
    hash: u64,
    sql: Box<[u8]>,
    types: Box<[u8]>,
    context: Arc<str>,
    definitions: u64,
}

impl StatementKey {
    /// Of a statement's text, its Parse's types (count and oids as sent) and its parse context.
    #[must_use]
    pub fn new(sql: &[u8], types: &[u8], context: Arc<str>) -> Self {
        let hash = foldhash::fast::FixedState::default().hash_one((sql, types, &*context));
        Self { hash, sql: sql.into(), types: types.into(), context, definitions: 0 }
    }

    /// The same, prepared behind so many definitions.
    #[must_use]
    pub const fn behind(mut self, definitions: u64) -> Self {
        self.hash = self.hash.wrapping_add(definitions);
        self.definitions = definitions;
        self
    }

    /// The text.
    #[must_use]
    pub fn sql(&self) -> &[u8] {
        &self.sql
    }

    /// Parameter count and type oids, as in a Parse message.
    #[must_use]
    pub fn types(&self) -> &[u8] {
        &self.types
    }

    /// The settings it was parsed under.
    #[must_use]
    pub const fn context(&self) -> &Arc<str> {
        &self.context
    }

    /// Bytes this key holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.sql.len() + self.types.len() + size_of::<Self>()
    }
}

/// The context of keys that are compared by their hash alone.
#[cfg(feature = "mutants")]
const BY_HASH: &str = "by hash";

#[cfg(feature = "mutants")]
impl StatementKey {
    /// The same under a weak hash, and compared by it alone: the defect that a test has to find.
    #[must_use]
    pub fn hashed_by_length(mut self) -> Self {
        self.hash = u64::try_from(self.sql.len()).unwrap_or(0);
        self.context = BY_HASH.into();
        self
    }
}

impl PartialEq for StatementKey {
    fn eq(&self, other: &Self) -> bool {
        #[cfg(feature = "mutants")]
        if &*self.context == BY_HASH {
            return self.hash == other.hash;
        }
        let is_as_old = self.hash == other.hash && self.definitions == other.definitions;
        is_as_old && self.sql == other.sql && self.types == other.types && self.context == other.context
    }
}

impl Hash for StatementKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// A prepared statement's number on its server; its name is `tg` and the number. Numbers are never used
/// twice on one server, so a skipped Close cannot hit a later statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StatementNumber(u64);

impl StatementNumber {
    /// The statement's name on the server.
    #[must_use]
    pub fn name(self) -> StatementName {
        let mut name = StatementName { bytes: [0; 22], start: 22 };
        let mut number = self.0;
        loop {
            name.push_front(b'0' + u8::try_from(number % 10).unwrap_or(0));
            number /= 10;
            if number == 0 {
                break;
            }
        }
        name.push_front(b'g');
        name.push_front(b't');
        name
    }
}

/// A statement's name on a server, without allocation.
#[derive(Clone, Copy, Debug)]
pub struct StatementName {
    bytes: [u8; 22],
    start: usize,
}

impl StatementName {
    fn push_front(&mut self, byte: u8) {
        if let Some(start) = self.start.checked_sub(1) {
            self.start = start;
            if let Some(slot) = self.bytes.get_mut(start) {
                *slot = byte;
            }
        }
    }

    /// The name's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }
}

/// What the server's unnamed statement was before a Parse.
#[derive(Debug)]
pub struct ReplacedUnnamed {
    key: Option<Arc<StatementKey>>,
    change: u64,
}

/// How many prepared statements are kept, and how many bytes their texts may take together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatementLimits {
    /// Statements at most.
    pub entries_max: usize,
    /// Bytes of their texts at most; one statement alone may have more.
    pub bytes_max: usize,
}

/// Most statements that are closed in front of one Parse.
const CLOSED_AT_ONCE_MAX: usize = 64;

/// A statement on a server.
#[derive(Clone, Copy, Debug)]
struct Prepared {
    number: StatementNumber,
    /// No change noted before this concerns it.
    epoch: Epoch,
}

/// The prepared statements that a server has (or will have once what was sent is answered).
#[derive(Debug)]
pub struct ServerStatements {
    named: LruCache<Arc<StatementKey>, Prepared, foldhash::fast::FixedState>,
    /// What the named ones' texts take.
    bytes: usize,
    bytes_max: usize,
    /// What the servers of the pool know to be obsolete.
    outdated: Arc<Outdated>,
    /// What the server's unnamed statement is.
    unnamed: Option<Arc<StatementKey>>,
    /// How often the unnamed statement was replaced or destroyed.
    unnamed_changes: u64,
    /// Statements that should have been closed but whose Close was skipped.
    zombies: Vec<StatementNumber>,
    next: u64,
    #[cfg(feature = "mutants")]
    forgets_evictions: bool,
}

impl ServerStatements {
    /// None yet, `max` at most, of any length, on a server that shares nothing.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self::within(StatementLimits { entries_max: max, bytes_max: usize::MAX }, Arc::default())
    }

    /// None yet, within limits, on a server of a pool.
    #[must_use]
    pub fn within(limits: StatementLimits, outdated: Arc<Outdated>) -> Self {
        let max = NonZeroUsize::new(limits.entries_max).unwrap_or(NonZeroUsize::MIN);
        Self {
            named: LruCache::with_hasher(max, foldhash::fast::FixedState::default()),
            bytes: 0,
            bytes_max: limits.bytes_max,
            outdated,
            unnamed: None,
            unnamed_changes: 0,
            zombies: Vec::new(),
            next: 1,
            #[cfg(feature = "mutants")]
            forgets_evictions: false,
        }
    }

    /// The number under which the server has this statement, unless what it has is obsolete; marks it as used.
    pub fn find(&mut self, key: &Arc<StatementKey>) -> Option<StatementNumber> {
        let now = self.outdated.now();
        let prepared = self.named.get_mut(key)?;
        if prepared.epoch < now {
            if self.outdated.change_since(key, prepared.epoch).is_some() {
                let number = prepared.number;
                self.forget(key, number);
                self.zombies.push(number);
                return None;
            }
            prepared.epoch = now;
        }
        Some(prepared.number)
    }

    /// The same key, if the server has it: so that clients with equal texts share one.
    pub fn shared(&mut self, key: Arc<StatementKey>) -> Arc<StatementKey> {
        self.named.get_key_value(&key).map_or(key, |(known, _)| Arc::clone(known))
    }

    /// What the servers of the pool know to be obsolete.
    #[must_use]
    pub const fn outdated(&self) -> &Arc<Outdated> {
        &self.outdated
    }

    /// Takes a new number for a statement that is about to be prepared; also gives what has to be closed
    /// to stay within the bounds.
    pub fn insert(&mut self, key: &Arc<StatementKey>) -> (StatementNumber, Vec<StatementNumber>) {
        let number = StatementNumber(self.next);
        self.next = self.next.saturating_add(1);
        self.bytes = self.bytes.saturating_add(key.bytes());
        let pushed_out = self.named.push(Arc::clone(key), Prepared { number, epoch: self.outdated.now() });
        self.note_pushed_out(pushed_out);
        while self.bytes > self.bytes_max && self.named.len() > 1 {
            let oldest = self.named.pop_lru();
            self.note_pushed_out(oldest);
        }
        let kept = self.zombies.len().saturating_sub(CLOSED_AT_ONCE_MAX);
        (number, self.zombies.split_off(kept))
    }

    fn note_pushed_out(&mut self, statement: Option<(Arc<StatementKey>, Prepared)>) {
        let Some((key, prepared)) = statement else { return };
        self.bytes = self.bytes.saturating_sub(key.bytes());
        #[cfg(feature = "mutants")]
        if self.forgets_evictions {
            return;
        }
        self.zombies.push(prepared.number);
    }

    /// What is evicted is closed no more: the defect that a test has to find.
    #[cfg(feature = "mutants")]
    pub const fn forget_evictions(&mut self) {
        self.forgets_evictions = true;
    }

    /// A Parse failed or was skipped: the server does not have that statement.
    pub fn forget(&mut self, key: &Arc<StatementKey>, number: StatementNumber) {
        if self.named.peek(key).is_some_and(|prepared| prepared.number == number) {
            self.named.pop(key);
            self.bytes = self.bytes.saturating_sub(key.bytes());
        }
    }

    /// A Close was skipped: the server still has that statement.
    pub fn note_unclosed(&mut self, number: StatementNumber) {
        self.zombies.push(number);
    }

    /// Whether the server's unnamed statement is this one.
    #[must_use]
    pub fn unnamed_is(&self, key: &Arc<StatementKey>) -> bool {
        self.unnamed.as_ref().is_some_and(|unnamed| Arc::ptr_eq(unnamed, key) || **unnamed == **key)
    }

    /// The unnamed statement is about to be replaced; gives what undoes it.
    pub fn replace_unnamed(&mut self, key: Arc<StatementKey>) -> ReplacedUnnamed {
        self.unnamed_changes = self.unnamed_changes.wrapping_add(1);
        ReplacedUnnamed { key: self.unnamed.replace(key), change: self.unnamed_changes }
    }

    /// The replacement was skipped: the unnamed statement is what it was, unless something was done to it
    /// since.
    pub fn restore_unnamed(&mut self, replaced: ReplacedUnnamed) {
        if self.unnamed_changes == replaced.change {
            self.unnamed = replaced.key;
            // Skipped ones are undone backwards: the one before this is the last again.
            self.unnamed_changes = replaced.change.wrapping_sub(1);
        }
    }

    /// The unnamed statement was (re)placed, or destroyed.
    pub fn set_unnamed(&mut self, key: Option<Arc<StatementKey>>) {
        self.unnamed_changes = self.unnamed_changes.wrapping_add(1);
        self.unnamed = key;
    }

    /// How many named statements there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.named.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(sql: &str) -> Arc<StatementKey> {
        Arc::new(StatementKey::new(sql.as_bytes(), &[0, 0], "".into()))
    }

    #[test]
    fn the_least_recently_used_is_closed_first_and_numbers_never_return() {
        let mut statements = ServerStatements::new(2);
        let (a, b, c) = (key("a"), key("b"), key("c"));
        assert_eq!(statements.insert(&a), (StatementNumber(1), vec![]));
        assert_eq!(statements.insert(&b), (StatementNumber(2), vec![]));
        assert_eq!(statements.find(&a), Some(StatementNumber(1)));
        assert_eq!(statements.insert(&c), (StatementNumber(3), vec![StatementNumber(2)]));
        assert_eq!(statements.find(&b), None);
        statements.forget(&c, StatementNumber(3));
        statements.note_unclosed(StatementNumber(2));
        assert_eq!(statements.insert(&b), (StatementNumber(4), vec![StatementNumber(2)]));
        assert_eq!(StatementNumber(4).name().as_bytes(), b"tg4");
        assert_eq!(StatementNumber(u64::MAX).name().as_bytes(), b"tg18446744073709551615");
    }

    #[test]
    fn skipped_replacements_are_undone_backwards_but_not_past_a_query() {
        let mut statements = ServerStatements::new(2);
        let (a, b, c) = (key("a"), key("b"), key("c"));
        statements.set_unnamed(Some(Arc::clone(&a)));
        let (first, second) = (statements.replace_unnamed(Arc::clone(&b)), statements.replace_unnamed(c));
        statements.restore_unnamed(second);
        assert!(statements.unnamed_is(&b));
        statements.restore_unnamed(first);
        assert!(statements.unnamed_is(&a));
        let replaced = statements.replace_unnamed(b);
        statements.set_unnamed(None);
        statements.restore_unnamed(replaced);
        assert!(!statements.unnamed_is(&a));
    }

    #[test]
    fn bytes_are_bounded_and_a_long_statement_pushes_out_the_others() {
        let (a, b, long) = (key("a"), key("b"), key(&"x".repeat(5_000)));
        let limits = StatementLimits { entries_max: 100, bytes_max: 1_000 };
        let mut statements = ServerStatements::within(limits, Arc::default());
        assert_eq!((statements.insert(&a).1, statements.insert(&b).1), (vec![], vec![]));
        assert_eq!(statements.insert(&long), (StatementNumber(3), vec![StatementNumber(1), StatementNumber(2)]));
        assert_eq!((statements.len(), statements.find(&long)), (1, Some(StatementNumber(3))));
        assert_eq!(statements.insert(&a), (StatementNumber(4), vec![StatementNumber(3)]));
        statements.forget(&a, StatementNumber(4));
        assert_eq!((statements.len(), statements.bytes), (0, 0));
    }

    #[test]
    fn an_obsolete_statement_is_prepared_again_on_every_server_and_then_closed() {
        use super::super::outdated::Change;
        let outdated = Arc::<Outdated>::default();
        let limits = StatementLimits { entries_max: 10, bytes_max: 10_000 };
        let mut one = ServerStatements::within(limits, Arc::clone(&outdated));
        let mut other = ServerStatements::within(limits, Arc::clone(&outdated));
        let (a, b) = (key("a"), key("b"));
        for server in [&mut one, &mut other] {
            assert_eq!((server.insert(&a).0, server.insert(&b).0), (StatementNumber(1), StatementNumber(2)));
        }
        outdated.note(&a, Change::Result);
        for server in [&mut one, &mut other] {
            assert_eq!((server.find(&a), server.find(&b)), (None, Some(StatementNumber(2))));
            assert_eq!(server.insert(&a), (StatementNumber(3), vec![StatementNumber(1)]));
            assert_eq!(server.find(&a), Some(StatementNumber(3)));
        }
    }

    #[test]
    fn text_types_and_context_all_count() {
        let base = StatementKey::new(b"select $1", &[0, 0], "".into());
        assert_eq!(base, StatementKey::new(b"select $1", &[0, 0], "".into()));
        assert_ne!(base, StatementKey::new(b"select $2", &[0, 0], "".into()));
        assert_ne!(base, StatementKey::new(b"select $1", &[0, 1, 0, 0, 0, 23], "".into()));
        assert_ne!(base, StatementKey::new(b"select $1", &[0, 0], "timezone\0UTC\0".into()));
    }
}
