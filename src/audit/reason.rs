//! The reason a client gives for crossing tenants.

use std::sync::Arc;

use crate::guard::check_reason;

/// A reason: not blank, one line, at most 1 KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason(Arc<str>);

impl Reason {
    /// Checks a text.
    ///
    /// # Errors
    /// Says in a sentence what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        check_reason(text)?;
        Ok(Self(text.into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_says_something_in_one_line() {
        assert_eq!(Reason::parse("ticket 4711").unwrap().as_str(), "ticket 4711");
        for bad in ["", "  ", "\t", "\u{a0}", "a\nb", "a\0b", &"x".repeat(1025)] {
            assert!(Reason::parse(bad).is_err(), "{bad:?}");
        }
    }
}
