//! What a client says of its transactions for the ledger: why, and for whom; two settings.
//!
//! Owns: which statements change it, for good or for their transaction. Does not own: the settings themselves, what a record
//! makes of it.

use crate::guard::{ConfiguredValue, Control, ON_BEHALF_SETTING, REASON_SETTING};
use crate::session::Session;
use crate::session::settings::Change;

/// What was said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::session) struct Said {
    /// Why.
    pub(in crate::session) reason: Option<String>,
    /// For whom.
    pub(in crate::session) on_behalf_of: Option<String>,
}

/// What a statement makes of one of these settings.
enum Word<'c> {
    To(&'c str),
    Back,
}

/// What a statement does to one of these settings.
#[expect(clippy::wildcard_enum_match_arm, reason = "only these name a setting or all of them")]
fn word<'c>(control: &'c Control, setting: &str) -> Option<Word<'c>> {
    match control {
        Control::Set { name, value, .. } if **name == *setting => Some(Word::To(value)),
        Control::Reset { name, .. } if **name == *setting => Some(Word::Back),
        Control::ResetAll => Some(Word::Back),
        Control::Configure(list) => list.iter().rev().find_map(|one| match &one.value {
            ConfiguredValue::Text(value) if *one.name == *setting => Some(Word::To(value)),
            ConfiguredValue::Text(_) | ConfiguredValue::Parameter(_) => None,
        }),
        _ => None,
    }
}

/// Whether a statement changes it for its transaction only, which no other client setting's journal follows.
#[expect(clippy::wildcard_enum_match_arm, reason = "only these have a local form")]
fn is_local(control: &Control, setting: &str) -> bool {
    match control {
        Control::Set { local, .. } | Control::Reset { local, .. } => *local,
        Control::Configure(list) => list.iter().rev().find(|one| *one.name == *setting).is_some_and(|one| one.local),
        _ => false,
    }
}

/// Whether a statement's success changes what is said.
pub(in crate::session) fn changes_said(control: &Control) -> bool {
    [REASON_SETTING, ON_BEHALF_SETTING].into_iter().any(|setting| word(control, setting).is_some())
}

impl Session {
    /// The reason as it stands once everything that was sent is answered.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.settings.current(REASON_SETTING)
    }

    /// The same, and for whom.
    pub(in crate::session) fn said(&self) -> Said {
        Said {
            reason: self.reason().map(str::to_owned),
            on_behalf_of: self.settings.current(ON_BEHALF_SETTING).map(str::to_owned),
        }
    }

    /// What it is behind a statement.
    pub(super) fn follow_said(&self, said: &mut Said, control: &Control) {
        for (setting, value) in [(REASON_SETTING, &mut said.reason), (ON_BEHALF_SETTING, &mut said.on_behalf_of)] {
            match word(control, setting) {
                Some(Word::To(text)) => *value = Some(text.to_owned()),
                Some(Word::Back) => *value = self.settings.base(setting).map(str::to_owned),
                None => {}
            }
        }
    }

    /// A statement has succeeded: what it has said for its transaction counts until that is over.
    pub(super) fn keep_said(&mut self, control: &Control, tag: &[u8]) {
        if matches!(control, Control::Configure(_)) && tag != b"SELECT 1" {
            return;
        }
        for setting in [REASON_SETTING, ON_BEHALF_SETTING] {
            let Some(word) = word(control, setting).filter(|_| is_local(control, setting)) else { continue };
            let value = match word {
                Word::To(value) => Some(value),
                Word::Back => self.settings.base(setting),
            };
            let value = value.map(Box::from);
            self.settings.record(Change::Local(setting.into(), value));
        }
    }
}
