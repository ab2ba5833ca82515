//! A client's prepared statements and portals, by its own names.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::guard::Facts;
use crate::upstream::outdated::Epoch;
use crate::upstream::{StatementKey, StatementLimits};

/// Named statements of one client, unless the configuration says otherwise: drivers keep hundreds, a leak keeps millions.
const LIMITS: StatementLimits = StatementLimits { entries_max: 10_000, bytes_max: 16 * 1024 * 1024 };

/// Most named portals of one transaction.
pub const PORTALS_MAX: usize = 10_000;

/// A statement as its client knows it.
#[derive(Clone, Debug)]
pub struct ClientStatement {
    /// The client's name.
    pub name: Arc<[u8]>,
    /// What it is on any server.
    pub key: Arc<StatementKey>,
    /// What the guard knows of the client's own text.
    pub facts: Arc<Facts>,
    /// Which preparation of the name it is.
    pub serial: u64,
    /// The number of the preparation behind which its key was made: names were looked up then.
    pub keyed: u64,
    /// When it was prepared, as the pool counts.
    pub epoch: Epoch,
    /// The command tag that the client expects where another statement stands in for its own.
    pub tag: Option<&'static str>,
}

/// A client's prepared statements.
#[derive(Debug)]
pub struct ClientStatements {
    limits: StatementLimits,
    unnamed: Option<ClientStatement>,
    named: HashMap<Arc<[u8]>, ClientStatement, foldhash::fast::RandomState>,
    bytes: usize,
    serial: u64,
    /// The last number given when a Query destroyed the unnamed statement.
    destroyed: u64,
    /// Parses and Closes that are not answered yet, in order.
    unanswered: VecDeque<Unanswered>,
}

impl Default for ClientStatements {
    fn default() -> Self {
        Self {
            limits: LIMITS,
            unnamed: None,
            named: HashMap::default(),
            bytes: 0,
            serial: 0,
            destroyed: 0,
            unanswered: VecDeque::new(),
        }
    }
}

/// A Parse or Close of a name. Until it is answered it may still fail or be skipped.
#[derive(Debug)]
struct Unanswered {
    serial: u64,
    name: Box<[u8]>,
    segment: u64,
}

impl ClientStatements {
    /// The statement of that name.
    #[must_use]
    pub fn find(&self, name: &[u8]) -> Option<&ClientStatement> {
        if name.is_empty() { self.unnamed.as_ref() } else { self.named.get(name) }
    }

    /// Notes a Parse or Close that is about to be sent in a segment; gives its number.
    pub fn begin(&mut self, name: &[u8], segment: u64) -> u64 {
        self.serial = self.serial.saturating_add(1);
        self.unanswered.push_back(Unanswered { serial: self.serial, name: name.into(), segment });
        self.serial
    }

    /// The number given last.
    #[must_use]
    pub const fn latest(&self) -> u64 {
        self.serial
    }

    /// A Parse or Close was answered, failed or was skipped.
    pub fn end(&mut self, serial: u64) {
        if let Some(at) = self.unanswered.iter().position(|unanswered| unanswered.serial == serial) {
            drop(self.unanswered.remove(at));
        }
    }

    /// Whether it is open what a name stands for: a Parse or Close of an earlier segment may still turn
    /// out to have failed or to have been skipped. (In its own segment that cannot matter: what comes
    /// behind it would be skipped, too.)
    #[must_use]
    pub fn is_in_doubt(&self, name: &[u8], segment: u64) -> bool {
        self.unanswered.iter().any(|unanswered| unanswered.segment != segment && *unanswered.name == *name)
    }

    /// Whether that is open of any name.
    #[must_use]
    pub fn is_any_in_doubt(&self, segment: u64) -> bool {
        self.unanswered.iter().any(|unanswered| unanswered.segment != segment)
    }

    /// How many have a name.
    #[must_use]
    pub fn named_count(&self) -> usize {
        self.named.len()
    }

    /// Other limits; what is there stays.
    pub const fn set_limits(&mut self, limits: StatementLimits) {
        self.limits = limits;
    }

    /// Whether one more statement of that name, with a text of that many bytes, fits. The unnamed one has room always.
    #[must_use]
    pub fn has_room(&self, name: &[u8], bytes: usize) -> bool {
        let is_within =
            self.named.len() < self.limits.entries_max && self.bytes.saturating_add(bytes) <= self.limits.bytes_max;
        name.is_empty() || is_within
    }

    /// No change noted until now concerns the statement of that name.
    pub fn renew(&mut self, name: &[u8], epoch: Epoch) {
        let statement = if name.is_empty() { self.unnamed.as_mut() } else { self.named.get_mut(name) };
        if let Some(statement) = statement {
            statement.epoch = epoch;
        }
    }

    /// The statement of that name is another one on servers from now on, of the same text.
    pub fn rekey(&mut self, name: &[u8], serial: u64, key: &Arc<StatementKey>) {
        self.serial = self.serial.saturating_add(1);
        let keyed = self.serial;
        let statement = if name.is_empty() { self.unnamed.as_mut() } else { self.named.get_mut(name) };
        if let Some(statement) = statement.filter(|statement| statement.serial == serial) {
            statement.key = Arc::clone(key);
            statement.keyed = keyed;
        }
    }

    /// Puts a statement under its name.
    pub fn insert(&mut self, statement: ClientStatement) {
        if statement.name.is_empty() {
            self.unnamed = Some(statement);
            return;
        }
        self.bytes = self.bytes.saturating_add(statement.key.bytes());
        if let Some(old) = self.named.insert(Arc::clone(&statement.name), statement) {
            self.bytes = self.bytes.saturating_sub(old.key.bytes());
        }
    }

    /// A preparation failed or was skipped: the name is free, unless it was prepared again since.
    pub fn forget(&mut self, name: &[u8], serial: u64) {
        if self.find(name).is_some_and(|statement| statement.serial == serial) {
            drop(self.remove(name));
        }
    }

    /// Close or DEALLOCATE: the statement that was there.
    pub fn remove(&mut self, name: &[u8]) -> Option<ClientStatement> {
        if name.is_empty() {
            return self.unnamed.take();
        }
        let old = self.named.remove(name)?;
        self.bytes = self.bytes.saturating_sub(old.key.bytes());
        Some(old)
    }

    /// A simple Query destroys the unnamed statement.
    pub fn destroy_unnamed(&mut self) {
        self.unnamed = None;
        self.destroyed = self.serial;
    }

    /// A Close, or a Parse of the unnamed statement, was skipped: the statement is there as before, unless its
    /// name was taken since.
    pub fn restore(&mut self, statement: ClientStatement) {
        if statement.name.is_empty() && statement.serial <= self.destroyed {
            return;
        }
        if self.find(&statement.name).is_none() {
            self.insert(statement);
        }
    }

    /// DEALLOCATE ALL or DISCARD ALL: PostgreSQL drops the named ones; the unnamed statement stays.
    pub fn take_named(&mut self) -> Vec<ClientStatement> {
        self.bytes = 0;
        std::mem::take(&mut self.named).into_values().collect()
    }
}

/// A bound portal.
#[derive(Clone, Debug)]
pub struct Portal {
    /// What the guard knows of its statement.
    pub facts: Arc<Facts>,
    /// As in [`ClientStatement::tag`].
    pub tag: Option<&'static str>,
    /// The statement's text.
    pub key: Arc<StatementKey>,
    /// Which Bind of the session it was.
    pub serial: u64,
}

/// The portals a client has bound in its current transaction.
#[derive(Debug, Default)]
pub struct Portals {
    unnamed: Option<Portal>,
    named: HashMap<Box<[u8]>, Portal, foldhash::fast::RandomState>,
    serial: u64,
    /// The last Bind of a transaction that is over for certain, whatever of it was done.
    serial_over: u64,
    /// A Bind or Close was not done and what its name stands for now is not known: none is executed by name.
    is_doubtful: bool,
}

impl Portals {
    /// The portal of that name.
    #[must_use]
    pub fn find(&self, name: &[u8]) -> Option<&Portal> {
        if name.is_empty() { self.unnamed.as_ref() } else { self.named.get(name).filter(|_| !self.is_doubtful) }
    }

    /// Whether it is not known what the names stand for.
    #[must_use]
    pub const fn is_doubtful(&self) -> bool {
        self.is_doubtful
    }

    /// A number for the next Bind.
    pub fn next_serial(&mut self) -> u64 {
        self.serial = self.serial.saturating_add(1);
        self.serial
    }

    /// The number of the last Bind.
    #[must_use]
    pub const fn serial(&self) -> u64 {
        self.serial
    }

    /// Whether the unnamed portal exists.
    #[must_use]
    pub const fn has_unnamed(&self) -> bool {
        self.unnamed.is_some()
    }

    /// Whether one more named portal fits.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.named.len() < PORTALS_MAX
    }

    /// Bind. Whether the name stood for another portal.
    pub fn insert(&mut self, name: &[u8], portal: Portal) -> bool {
        if name.is_empty() { self.unnamed.replace(portal) } else { self.named.insert(name.into(), portal) }.is_some()
    }

    /// A Bind failed or was skipped. PostgreSQL keeps an older portal of that name, which may be any statement:
    /// then (and where the name was bound again since) nothing is executed by name until all are gone. Where it was only
    /// closed since, nothing is left to be in doubt.
    pub fn unbind(&mut self, name: &[u8], serial: u64, replaced: bool) {
        if serial <= self.serial_over {
            return;
        }
        if name.is_empty() {
            // The unnamed one is simply forgotten.
            self.unnamed.take_if(|portal| portal.serial == serial);
        } else if replaced || self.named.get(name).is_some_and(|portal| portal.serial != serial) {
            self.is_doubtful = true;
        } else {
            self.named.remove(name);
        }
    }

    /// Close.
    pub fn remove(&mut self, name: &[u8]) -> Option<Portal> {
        if name.is_empty() { self.unnamed.take() } else { self.named.remove(name) }
    }

    /// A Close was skipped: the portal is there as before.
    pub fn restore(&mut self, name: &[u8], portal: Portal) {
        if !name.is_empty() && portal.serial > self.serial_over {
            self.is_doubtful |= self.named.insert(name.into(), portal).is_some();
        }
    }

    /// A simple Query destroys the unnamed portal.
    pub fn remove_unnamed(&mut self) {
        self.unnamed = None;
    }

    /// The transaction ends for certain, errors or not: answers that still come about its portals mean nothing.
    pub fn clear(&mut self) {
        self.serial_over = self.serial;
        self.unnamed = None;
        self.is_doubtful = false;
        if !self.named.is_empty() {
            self.named = HashMap::default();
        }
    }
}
