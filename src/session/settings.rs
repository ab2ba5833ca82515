//! A client's session settings: recorded as its statements succeed, undone as its transactions are.
//!
//! Owns: three layers (startup parameters, committed, changed in this transaction) and the savepoints
//! between changes. Does not own: putting them on a server.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::guard::{Control, StatementClass};
use crate::upstream::Settings;
use crate::upstream::settings::{SettingStep, is_parse_time, parse_context};

/// One change made by a statement that succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// SET.
    Set(Box<str>, Box<str>),
    /// RESET: back to the startup parameter or the server's default.
    Reset(Box<str>),
    /// RESET ALL.
    ResetAll,
    /// SET LOCAL of the reason (or back to its default): ends with the transaction.
    Local(Box<str>, Option<Box<str>>),
}

impl Change {
    /// Of which setting; `None` for all.
    fn name(&self) -> Option<&str> {
        match self {
            Change::Set(name, _) | Change::Reset(name) | Change::Local(name, _) => Some(name),
            Change::ResetAll => None,
        }
    }

    fn bytes(&self) -> usize {
        let value = match self {
            Change::Set(_, value) => value.len(),
            Change::Local(_, value) => value.as_deref().map_or(0, str::len),
            Change::Reset(_) | Change::ResetAll => 0,
        };
        size_of::<Self>().saturating_add(self.name().map_or(0, str::len)).saturating_add(value)
    }
}

/// Most bytes that one transaction's changes and savepoints may take: between two savepoints each setting counts once, so
/// that only a client which opens thousands of savepoints, with long values in each, ever meets it.
const JOURNAL_BYTES_MAX: usize = 1024 * 1024;

/// A client's session settings.
#[derive(Debug)]
pub struct ClientSettings {
    base: Settings,
    committed: Settings,
    journal: Vec<Change>,
    /// What journal and savepoints take.
    journal_bytes: usize,
    /// Savepoint names with the journal's length when they were set.
    savepoints: Vec<(Box<str>, usize)>,
    context: Arc<str>,
    /// A statement was sent that changes a parse-time setting or the schema, for good or for its transaction: how it and
    /// the transaction end is not known yet.
    is_parsing_unsettled: bool,
    /// Settings that statements may have changed which were sent since all was settled last: in the journal is only
    /// what was answered.
    touched: Touched,
}

/// Names of settings that statements on their way may change, for good or for their transaction.
#[derive(Clone, Debug, Default)]
pub struct Touched(BTreeSet<Box<str>>);

impl Touched {
    /// A statement is sent.
    pub fn note(&mut self, control: &Control) {
        match control {
            Control::Set { name, .. } | Control::Reset { name, .. } => self.add(name),
            Control::Configure(list) => list.iter().for_each(|configuration| self.add(&configuration.name)),
            Control::SetCharacteristics(list) => list.iter().for_each(|(name, _)| self.add(name)),
            Control::None
            | Control::Begin
            | Control::SetTransaction
            | Control::Commit { .. }
            | Control::Rollback { .. }
            | Control::Savepoint(_)
            | Control::Release(_)
            | Control::RollbackTo(_)
            | Control::Claim(_)
            | Control::ResetAll
            | Control::DiscardAll
            | Control::DiscardPlans
            | Control::DiscardSequences
            | Control::DiscardTemp
            | Control::UnlistenAll
            | Control::Unlisten(_)
            | Control::CloseAll
            | Control::CloseCursor(_)
            | Control::DeallocateAll
            | Control::Deallocate(_)
            | Control::AdvisoryUnlockAll
            | Control::Show(_) => {}
        }
    }

    fn add(&mut self, name: &str) {
        if !self.0.contains(name) {
            self.0.insert(name.into());
        }
    }
}

impl ClientSettings {
    /// From checked startup parameters.
    #[must_use]
    pub fn new(base: Settings) -> Self {
        let context = parse_context(&base);
        let (journal, savepoints) = (Vec::new(), Vec::new());
        let touched = Touched::default();
        let committed = Arc::clone(&base);
        Self { committed, base, journal, journal_bytes: 0, savepoints, context, is_parsing_unsettled: false, touched }
    }

    /// What a server must have before this client's next transaction.
    #[must_use]
    pub const fn committed(&self) -> &Settings {
        &self.committed
    }

    /// The same, to share it with a server that has equal settings.
    pub const fn committed_mut(&mut self) -> &mut Settings {
        &mut self.committed
    }

    /// The startup parameters' value of a setting: what RESET goes back to.
    #[must_use]
    pub fn base(&self, name: &str) -> Option<&str> {
        self.base.get(name).map(|value| &**value)
    }

    /// A setting's value now, as far as answers say.
    #[must_use]
    pub fn current(&self, name: &str) -> Option<&str> {
        for change in self.journal.iter().rev() {
            match change {
                Change::Set(known, value) if **known == *name => return Some(value),
                Change::Local(known, value) if **known == *name => return value.as_deref(),
                Change::Reset(known) if **known == *name => return self.base(name),
                Change::ResetAll => return self.base(name),
                Change::Set(..) | Change::Local(..) | Change::Reset(_) => {}
            }
        }
        self.committed.get(name).map(|value| &**value)
    }

    /// Whether the client has set it, in whatever spelling, by a startup parameter too.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        let is_set = |known: &str| known.eq_ignore_ascii_case(name);
        self.committed.keys().any(|known| is_set(known)) || self.journal.iter().filter_map(Change::name).any(is_set)
    }

    /// Under which a statement parsed now is the same as others'; `None` while this transaction has
    /// changed, or may have changed, a setting that counts at parse time (SET LOCAL, too).
    #[must_use]
    pub fn parse_context(&self) -> Option<&Arc<str>> {
        (!self.is_parsing_unsettled).then_some(&self.context)
    }

    /// A statement is sent. From here on statements may be parsed under another setting or against another schema,
    /// whether the answer has come or not: one that is prepared behind it must not be another client's, nor one of before.
    pub fn on_sent(&mut self, class: StatementClass, control: &Control) {
        self.is_parsing_unsettled |= changes_parsing(control) || changes_schema(class);
        self.touched.note(control);
    }

    /// Everything sent is answered, and no transaction is open: what was set for a transaction is gone, and the
    /// rest is committed here as there.
    pub fn on_settled(&mut self) {
        self.is_parsing_unsettled = false;
        self.touched.0.clear();
    }

    /// What statements on their way may change.
    #[must_use]
    pub const fn touched(&self) -> &Touched {
        &self.touched
    }

    /// What makes a server go back to the startup parameters in the current transaction, behind statements that may
    /// have touched these settings.
    #[must_use]
    pub fn reset_all_steps(&self, touched: &Touched) -> Vec<SettingStep> {
        let mut now = (*self.committed).clone();
        self.journal.iter().for_each(|change| apply(&mut now, &self.base, change));
        let missing = now.keys().chain(&touched.0).filter(|name| !self.base.contains_key(*name));
        let missing: BTreeSet<&Box<str>> = missing.collect();
        let is_other =
            |name: &str, value: &str| now.get(name).is_none_or(|known| **known != *value) || touched.0.contains(name);
        let other = self.base.iter().filter(|(name, value)| is_other(name, value));
        let resets = missing.into_iter().cloned().map(SettingStep::Reset);
        resets.chain(other.map(|(name, value)| SettingStep::Set(name.clone(), value.clone()))).collect()
    }

    /// A statement that changes settings has succeeded: what it makes of no account since the last savepoint is forgotten.
    pub fn record(&mut self, change: Change) {
        let start = self.savepoints.last().map_or(0, |(_, length)| *length);
        let mut behind = self.journal.split_off(start.min(self.journal.len()));
        let bytes = |changes: &[Change]| changes.iter().map(Change::bytes).sum::<usize>();
        let before = bytes(&behind);
        behind.retain(|known| !outdoes(&change, known));
        behind.push(change);
        self.journal_bytes = self.journal_bytes.saturating_sub(before).saturating_add(bytes(&behind));
        self.journal.append(&mut behind);
    }

    fn weigh(&mut self) {
        let savepoints = self.savepoints.iter().map(|(name, _)| savepoint_bytes(name));
        self.journal_bytes = savepoints.chain(self.journal.iter().map(Change::bytes)).sum();
    }

    /// Whether the transaction has changed as much as is kept: then it changes no more.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.journal_bytes > JOURNAL_BYTES_MAX
    }

    /// SAVEPOINT has succeeded.
    pub fn savepoint(&mut self, name: &str) {
        self.savepoints.push((name.into(), self.journal.len()));
        self.journal_bytes = self.journal_bytes.saturating_add(savepoint_bytes(name));
    }

    /// RELEASE has succeeded: the savepoint and those after it are gone, their changes stay.
    pub fn release(&mut self, name: &str) {
        if let Some(at) = self.savepoints.iter().rposition(|(known, _)| **known == *name) {
            self.savepoints.truncate(at);
            self.weigh();
        }
    }

    /// ROLLBACK TO has succeeded: the savepoint stays, what came after it is undone.
    pub fn rollback_to(&mut self, name: &str) {
        if let Some(at) = self.savepoints.iter().rposition(|(known, _)| **known == *name) {
            self.savepoints.truncate(at + 1);
            if let Some((_, length)) = self.savepoints.last() {
                self.journal.truncate(*length);
            }
            self.weigh();
        }
    }

    /// The transaction was committed: its changes are the client's, and the server's. Gives the server's settings if
    /// anything changed.
    pub fn commit(&mut self, server: &Settings) -> Option<Settings> {
        self.savepoints.clear();
        self.journal_bytes = 0;
        if self.journal.is_empty() {
            return None;
        }
        let journal = std::mem::take(&mut self.journal);
        let lags = *server != self.committed;
        let mut theirs = (**server).clone();
        let mut ours = (*self.committed).clone();
        for change in &journal {
            apply(&mut ours, &self.base, change);
            apply(&mut theirs, &self.base, change);
        }
        self.committed = Arc::new(ours);
        self.context = parse_context(&self.committed);
        Some(if lags { Arc::new(theirs) } else { Arc::clone(&self.committed) })
    }

    /// Changes made outside any transaction and without a server are the client's at once.
    pub fn commit_alone(&mut self) {
        let server = Arc::clone(&self.committed);
        // Nobody has these settings yet: the next replay brings them.
        drop(self.commit(&server));
    }

    /// The transaction was rolled back.
    pub fn roll_back(&mut self) {
        self.savepoints.clear();
        self.journal.clear();
        self.journal_bytes = 0;
    }
}

/// Whether a statement adds to what is kept of its transaction's changes.
pub fn adds_to_journal(control: &Control) -> bool {
    match control {
        Control::Set { local, .. } | Control::Reset { local, .. } => !local,
        Control::Configure(_) | Control::SetCharacteristics(_) | Control::Savepoint(_) => true,
        Control::None
        | Control::Begin
        | Control::SetTransaction
        | Control::Commit { .. }
        | Control::Rollback { .. }
        | Control::Release(_)
        | Control::RollbackTo(_)
        | Control::Claim(_)
        | Control::ResetAll
        | Control::DiscardAll
        | Control::DiscardPlans
        | Control::DiscardSequences
        | Control::DiscardTemp
        | Control::UnlistenAll
        | Control::Unlisten(_)
        | Control::CloseAll
        | Control::CloseCursor(_)
        | Control::DeallocateAll
        | Control::Deallocate(_)
        | Control::AdvisoryUnlockAll
        | Control::Show(_) => false,
    }
}

fn savepoint_bytes(name: &str) -> usize {
    size_of::<(Box<str>, usize)>().saturating_add(name.len())
}

/// Whether a change behind another one, with no savepoint between them, leaves nothing of it.
fn outdoes(change: &Change, known: &Change) -> bool {
    let is_local = matches!(change, Change::Local(..));
    match known {
        Change::Local(name, _) => change.name().is_none_or(|own| *own == **name),
        Change::Set(name, _) | Change::Reset(name) => !is_local && change.name().is_none_or(|own| *own == **name),
        Change::ResetAll => !is_local && change.name().is_none(),
    }
}

/// Whether statements parsed behind this one may differ from those in front of it.
fn changes_parsing(control: &Control) -> bool {
    match control {
        Control::Set { name, .. } | Control::Reset { name, .. } => is_parse_time(name),
        Control::Configure(list) => list.iter().any(|configuration| is_parse_time(&configuration.name)),
        Control::ResetAll | Control::DiscardAll => true,
        Control::None
        | Control::Begin
        | Control::SetTransaction
        | Control::Commit { .. }
        | Control::Rollback { .. }
        | Control::Savepoint(_)
        | Control::Release(_)
        | Control::RollbackTo(_)
        | Control::Claim(_)
        | Control::SetCharacteristics(_)
        | Control::DiscardPlans
        | Control::DiscardSequences
        | Control::DiscardTemp
        | Control::UnlistenAll
        | Control::Unlisten(_)
        | Control::CloseAll
        | Control::CloseCursor(_)
        | Control::DeallocateAll
        | Control::Deallocate(_)
        | Control::AdvisoryUnlockAll
        | Control::Show(_) => false,
    }
}

/// Whether statements prepared before this one, of the same text, may know tables or types that are others behind it.
/// (What a function defines is not seen here: its caller hears PostgreSQL's error first.)
fn changes_schema(class: StatementClass) -> bool {
    use StatementClass as Class;
    match class {
        Class::Definition | Class::CreateTableAs | Class::Administration | Class::Do | Class::Roles => true,
        Class::Select | Class::Insert | Class::Update | Class::Delete | Class::Merge => false,
        Class::CopyIn | Class::CopyOut | Class::CopyServer | Class::DeclareCursor | Class::Fetch => false,
        Class::CloseCursor | Class::Transaction | Class::TwoPhase | Class::SetConstraints | Class::Setting => false,
        Class::Claim | Class::Show | Class::Discard | Class::Deallocate | Class::Listen | Class::Unlisten => false,
        Class::Notify | Class::AdvisoryUnlockAll | Class::Prepare | Class::Execute | Class::Explain => false,
        Class::Lock | Class::Truncate | Class::Call | Class::Load | Class::Privileges | Class::Policies => false,
        Class::Maintenance | Class::Refresh | Class::Checkpoint | Class::NotAStatement => false,
        // What is the client's alone is kept apart elsewhere.
        Class::CreateTemporary | Class::DropTemporary => false,
    }
}

fn apply(settings: &mut BTreeMap<Box<str>, Box<str>>, base: &Settings, change: &Change) {
    match change {
        Change::Set(name, value) => {
            settings.insert(name.clone(), value.clone());
        }
        Change::Reset(name) => match base.get(name) {
            Some(value) => {
                settings.insert(name.clone(), value.clone());
            }
            None => {
                settings.remove(name);
            }
        },
        Change::ResetAll => settings.clone_from(base),
        Change::Local(..) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, value: &str) -> Change {
        Change::Set(name.into(), value.into())
    }

    #[test]
    fn changes_live_and_die_with_their_transaction_and_savepoint() {
        let mut settings = ClientSettings::new(Settings::default());
        let server = Settings::default();
        settings.record(set("a", "1"));
        settings.savepoint("s");
        settings.record(set("a", "2"));
        settings.rollback_to("s");
        settings.record(set("b", "3"));
        let server = settings.commit(&server).unwrap();
        assert!(Arc::ptr_eq(&server, settings.committed()));
        assert_eq!(server.get("a").map(|v| &**v), Some("1"));
        assert_eq!(server.get("b").map(|v| &**v), Some("3"));
        settings.record(set("a", "9"));
        settings.roll_back();
        assert_eq!(settings.commit(&server), None);
        assert_eq!(settings.committed().get("a").map(|v| &**v), Some("1"));
    }

    #[test]
    fn a_transaction_s_changes_take_no_more_than_their_bound() {
        let mut settings = ClientSettings::new(Settings::default());
        let long = "x".repeat(1_000);
        for number in 0..10_000 {
            settings.record(set("a", &format!("{number}{long}")));
            settings.record(Change::Reset("b".into()));
        }
        assert!(!settings.is_full() && settings.journal.len() == 2);
        while !settings.is_full() {
            settings.savepoint("s");
            settings.record(set("a", &long));
        }
        assert!(settings.journal.len() < 1_100);
        settings.rollback_to("s");
        assert!(!settings.is_full());
        settings.roll_back();
        assert_eq!(settings.journal_bytes, 0);
        for change in [set("a", "1"), Change::ResetAll, set("a", "2"), Change::Local("a".into(), None), set("b", "1")] {
            settings.record(change);
        }
        assert_eq!(settings.current("a"), None, "its reason is gone for this transaction");
        let server = settings.commit(&Settings::default()).unwrap();
        assert_eq!((server.len(), server.get("a").map(|v| &**v)), (2, Some("2")));
    }

    #[test]
    fn reset_goes_back_to_the_startup_parameter() {
        let base: Settings = Arc::new([("tz".into(), "UTC".into())].into());
        let mut settings = ClientSettings::new(Arc::clone(&base));
        settings.record(set("tz", "CET"));
        settings.record(set("x", "1"));
        let server = settings.commit(&base).unwrap();
        let steps = [SettingStep::Reset("x".into()), SettingStep::Set("tz".into(), "UTC".into())];
        assert_eq!(settings.reset_all_steps(&Touched::default()), steps);
        settings.record(Change::ResetAll);
        let server = settings.commit(&server).unwrap();
        assert_eq!((settings.committed(), &server), (&base, &base));
    }

    #[test]
    fn reset_all_takes_back_what_is_on_its_way_too() {
        let mut settings = ClientSettings::new(Arc::new([("tz".into(), "UTC".into())].into()));
        for (name, local) in [("tz", false), ("x", true)] {
            let control = Control::Set { name: name.into(), value: "1".into(), local };
            settings.on_sent(StatementClass::Setting, &control);
        }
        let steps = [SettingStep::Reset("x".into()), SettingStep::Set("tz".into(), "UTC".into())];
        assert_eq!(settings.reset_all_steps(settings.touched()), steps);
        settings.on_settled();
        assert!(settings.reset_all_steps(settings.touched()).is_empty());
    }

    #[test]
    fn a_parse_time_setting_or_a_schema_changed_in_this_transaction_divides_statements() {
        let mut settings = ClientSettings::new(Settings::default());
        assert!(settings.parse_context().is_some());
        for local in [false, true] {
            let control = Control::Set { name: "timezone".into(), value: "CET".into(), local };
            settings.on_sent(StatementClass::Setting, &control);
            assert!(settings.parse_context().is_none());
            settings.on_settled();
        }
        settings.on_sent(StatementClass::Insert, &Control::None);
        assert!(settings.parse_context().is_some());
        settings.on_sent(StatementClass::Definition, &Control::None);
        assert!(settings.parse_context().is_none());
        settings.on_settled();
        settings.record(set("timezone", "CET"));
        settings.commit(&Settings::default());
        assert!(settings.parse_context().unwrap().contains("CET"));
    }
}
