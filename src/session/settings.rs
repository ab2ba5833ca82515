//! A client's session settings: recorded as its statements succeed, undone as its transactions are.
//!
//! Owns: three layers (startup parameters, committed, changed in this transaction) and the savepoints
//! between changes. Does not own: putting them on a server.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::guard::Control;
use crate::upstream::Settings;
use crate::upstream::settings::{is_parse_time, parse_context};

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

#[derive(Debug)]
struct Journaled {
    change: Change,
    /// The server has not made this change: its own settings lag until the next replay.
    lags: bool,
}

/// A client's session settings.
#[derive(Debug)]
pub struct ClientSettings {
    base: Settings,
    committed: Settings,
    journal: Vec<Journaled>,
    /// Savepoint names with the journal's length when they were set.
    savepoints: Vec<(Box<str>, usize)>,
    context: Arc<str>,
    /// A statement was sent that changes a parse-time setting, for good or for its transaction: how it and the
    /// transaction end is not known yet.
    is_parsing_unsettled: bool,
}

impl ClientSettings {
    /// From checked startup parameters.
    #[must_use]
    pub fn new(base: Settings) -> Self {
        let context = parse_context(&base);
        let (journal, savepoints) = (Vec::new(), Vec::new());
        Self { committed: Arc::clone(&base), base, journal, savepoints, context, is_parsing_unsettled: false }
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
        for entry in self.journal.iter().rev() {
            match &entry.change {
                Change::Set(known, value) if **known == *name => return Some(value),
                Change::Local(known, value) if **known == *name => return value.as_deref(),
                Change::Reset(known) if **known == *name => return self.base(name),
                Change::ResetAll => return self.base(name),
                Change::Set(..) | Change::Local(..) | Change::Reset(_) => {}
            }
        }
        self.committed.get(name).map(|value| &**value)
    }

    /// Under which a statement parsed now is the same as others'; `None` while this transaction has
    /// changed, or may have changed, a setting that counts at parse time (SET LOCAL, too).
    #[must_use]
    pub fn parse_context(&self) -> Option<&Arc<str>> {
        (!self.is_parsing_unsettled).then_some(&self.context)
    }

    /// A statement is sent. From here on statements may be parsed under another setting, whether the answer has come
    /// or not.
    pub fn on_sent(&mut self, control: &Control) {
        self.is_parsing_unsettled |= changes_parsing(control);
    }

    /// Everything sent is answered, and no transaction is open: what was set for a transaction is gone, and the
    /// rest is committed here as there.
    pub const fn on_settled(&mut self) {
        self.is_parsing_unsettled = false;
    }

    /// The statements that make a server go back to the startup parameters in the current transaction.
    #[must_use]
    pub fn reset_all_steps(&self) -> Vec<Change> {
        let mut now = (*self.committed).clone();
        self.journal.iter().for_each(|entry| apply(&mut now, &self.base, &entry.change));
        let missing = now.keys().filter(|name| !self.base.contains_key(*name)).cloned().map(Change::Reset);
        let other = self.base.iter().filter(|(name, value)| now.get(*name) != Some(value));
        missing.chain(other.map(|(name, value)| Change::Set(name.clone(), value.clone()))).collect()
    }

    /// A statement that changes settings has succeeded. `lags` says that the server did not see it.
    pub fn record(&mut self, change: Change, lags: bool) {
        self.journal.push(Journaled { change, lags });
    }

    /// SAVEPOINT has succeeded.
    pub fn savepoint(&mut self, name: &str) {
        self.savepoints.push((name.into(), self.journal.len()));
    }

    /// RELEASE has succeeded: the savepoint and those after it are gone, their changes stay.
    pub fn release(&mut self, name: &str) {
        if let Some(at) = self.savepoints.iter().rposition(|(known, _)| **known == *name) {
            self.savepoints.truncate(at);
        }
    }

    /// ROLLBACK TO has succeeded: the savepoint stays, what came after it is undone.
    pub fn rollback_to(&mut self, name: &str) {
        if let Some(at) = self.savepoints.iter().rposition(|(known, _)| **known == *name) {
            self.savepoints.truncate(at + 1);
            if let Some((_, length)) = self.savepoints.last() {
                self.journal.truncate(*length);
            }
        }
    }

    /// The transaction was committed: its changes are the client's, and the server's but for those that
    /// lag. Gives the server's settings if anything changed.
    pub fn commit(&mut self, server: &Settings) -> Option<Settings> {
        self.savepoints.clear();
        if self.journal.is_empty() {
            return None;
        }
        let journal = std::mem::take(&mut self.journal);
        let lags = journal.iter().any(|entry| entry.lags) || *server != self.committed;
        let mut theirs = (**server).clone();
        let mut ours = (*self.committed).clone();
        for entry in &journal {
            apply(&mut ours, &self.base, &entry.change);
            if !entry.lags {
                apply(&mut theirs, &self.base, &entry.change);
            }
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
        settings.record(set("a", "1"), false);
        settings.savepoint("s");
        settings.record(set("a", "2"), false);
        settings.rollback_to("s");
        settings.record(set("b", "3"), false);
        let server = settings.commit(&server).unwrap();
        assert!(Arc::ptr_eq(&server, settings.committed()));
        assert_eq!(server.get("a").map(|v| &**v), Some("1"));
        assert_eq!(server.get("b").map(|v| &**v), Some("3"));
        settings.record(set("a", "9"), false);
        settings.roll_back();
        assert_eq!(settings.commit(&server), None);
        assert_eq!(settings.committed().get("a").map(|v| &**v), Some("1"));
    }

    #[test]
    fn reset_goes_back_to_the_startup_parameter() {
        let base: Settings = Arc::new([("tz".into(), "UTC".into())].into());
        let mut settings = ClientSettings::new(Arc::clone(&base));
        settings.record(set("tz", "CET"), false);
        settings.record(set("x", "1"), false);
        let server = settings.commit(&base).unwrap();
        assert_eq!(settings.reset_all_steps(), [Change::Reset("x".into()), set("tz", "UTC")]);
        settings.record(Change::ResetAll, true);
        let server = settings.commit(&server).unwrap();
        assert_eq!(settings.committed(), &base);
        assert_eq!(server.get("tz").map(|v| &**v), Some("CET"));
    }

    #[test]
    fn a_parse_time_setting_changed_in_this_transaction_divides_statements() {
        let mut settings = ClientSettings::new(Settings::default());
        assert!(settings.parse_context().is_some());
        for local in [false, true] {
            let control = Control::Set { name: "timezone".into(), value: "CET".into(), local };
            settings.on_sent(&control);
            assert!(settings.parse_context().is_none());
            settings.on_settled();
        }
        settings.record(set("timezone", "CET"), false);
        settings.commit(&Settings::default());
        assert!(settings.parse_context().unwrap().contains("CET"));
    }
}
