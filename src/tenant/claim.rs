//! Whether, and for how long, a login may name its tenant behind its login, and whether it may go past the tenants.
//!
//! Owns: the words of configuration. Does not own: the statements (`guard`), what they do (`session`).

/// Which claims a login may make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Claiming {
    /// None: its tenant is known when it has logged in.
    #[default]
    None,
    /// Of the tenant of one transaction.
    Transaction,
    /// Of the tenant of its session, too.
    Session,
}

/// That a login may claim a bypass: its transactions are recorded from there on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimedBypass {
    /// The setting by which it does, which policies look at.
    pub setting: Box<str>,
    /// The value that stands for a bypass.
    pub value: Box<str>,
    /// Why, for every record; `None` where the client gives a reason.
    pub reason: Option<Box<str>>,
}

/// Values of such a setting that stand for no bypass. Every other one but the configured is refused: a policy might take it
/// for true.
const NO_BYPASS: [&str; 5] = ["", "false", "off", "no", "0"];

impl ClaimedBypass {
    /// Whether a value stands for a bypass; `None` for one that stands for nothing.
    #[must_use]
    pub fn means(&self, value: &str) -> Option<bool> {
        match value == &*self.value {
            true => Some(true),
            false => Self::is_none(value).then_some(false),
        }
    }

    /// Whether a value can stand for no bypass alone.
    #[must_use]
    pub fn is_none(value: &str) -> bool {
        NO_BYPASS.contains(&value)
    }
}

impl Claiming {
    /// Whether any.
    #[must_use]
    pub const fn is_allowed(self) -> bool {
        !matches!(self, Claiming::None)
    }
}
