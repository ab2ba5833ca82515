//! Whether, and for how long, a login may name its tenant behind its login.
//!
//! Owns: the two words of configuration. Does not own: the statements (`guard`), what they do (`session`).

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

impl Claiming {
    /// Whether any.
    #[must_use]
    pub const fn is_allowed(self) -> bool {
        !matches!(self, Claiming::None)
    }
}
