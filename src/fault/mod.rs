//! What an error means to others: SQLSTATE, stable code, message, detail, hint.
//!
//! Owns: the one table of every code a user can meet. Does not own: when a fault arises.
//! Each code has a section in `docs/refusals.md`; a test compares the two.

mod code;

pub use code::{Code, CodeRow};

use std::borrow::Cow;

/// How grave: an `Error` ends a statement, a `Fatal` ends the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The statement or batch fails; the session goes on.
    Error,
    /// The session ends.
    Fatal,
}

impl Severity {
    /// The word PostgreSQL puts into the `S` and `V` fields.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Severity::Error => "ERROR",
            Severity::Fatal => "FATAL",
        }
    }
}

/// Five characters of class and condition:
/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SqlState(pub [u8; 5]);

impl SqlState {
    /// `query_canceled`: what PostgreSQL answers to a cancel.
    pub const QUERY_CANCELED: Self = Self(*b"57014");

    /// The code as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XX000")
    }
}

/// One error as a client will see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// How grave.
    pub severity: Severity,
    /// The SQLSTATE.
    pub sqlstate: SqlState,
    /// The stable code, if the proxy itself refuses; `None` for an error worded as PostgreSQL's own.
    pub code: Option<Code>,
    /// The message, beginning with the stable code where there is one.
    pub message: Cow<'static, str>,
    /// What exactly.
    pub detail: Option<Cow<'static, str>>,
    /// What to do about it.
    pub hint: Option<Cow<'static, str>>,
    /// 1-based character position in the client's statement.
    pub position: Option<u32>,
}

impl Fault {
    /// A refusal by the proxy; SQLSTATE, severity, message and hint come from the table.
    #[must_use]
    pub fn of(code: Code) -> Self {
        let row = code.row();
        Self {
            severity: row.severity,
            sqlstate: SqlState(*row.sqlstate),
            code: Some(code),
            message: Cow::Owned(format!("{}: {}", row.name, row.message)),
            detail: None,
            hint: Some(Cow::Borrowed(row.hint)),
            position: None,
        }
    }

    /// The same with a message of its own instead of the table's (the code stays in front).
    #[must_use]
    pub fn saying(code: Code, message: impl AsRef<str>) -> Self {
        Self { message: Cow::Owned(format!("{}: {}", code.row().name, message.as_ref())), ..Self::of(code) }
    }

    /// An error worded exactly as PostgreSQL words it, for conditions that are PostgreSQL's own
    /// (`26000`, `42P05` …) but are known to the proxy first.
    #[must_use]
    pub fn native(sqlstate: &[u8; 5], message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            severity: Severity::Error,
            sqlstate: SqlState(*sqlstate),
            code: None,
            message: message.into(),
            detail: None,
            hint: None,
            position: None,
        }
    }

    /// What PostgreSQL says to whoever has cancelled what they asked for.
    #[must_use]
    pub fn cancelled() -> Self {
        Self::native(&SqlState::QUERY_CANCELED.0, "canceling statement due to user request")
    }

    /// Adds what exactly was the matter.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Replaces the hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds a 1-based character position.
    #[must_use]
    pub fn at(mut self, position: u32) -> Self {
        self.position = Some(position);
        self
    }

    /// Makes the fault end the session.
    #[must_use]
    pub fn fatal(mut self) -> Self {
        self.severity = Severity::Fatal;
        self
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} (SQLSTATE {})", self.severity.word(), self.message, self.sqlstate.as_str())?;
        if let Some(detail) = &self.detail {
            write!(f, "; {detail}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}
