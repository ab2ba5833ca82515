//! Preparations on their way to one server: until they are answered they may still be skipped.
//!
//! An error makes a server skip what stands behind it up to the Sync, the proxy's own Parse in front of a client's Bind
//! too. What comes in the same segment is skipped with it; what comes in a later one would meet a statement that is not
//! there, or, where it has no name, somebody else's. So it waits for the answer.
//!
//! Owns: which preparations are unanswered, and in which segment they were sent. Does not own: what is prepared
//! (`statement`), or waiting (the session).

use std::collections::VecDeque;

use super::statement::StatementNumber;

/// Unanswered preparations: of a named statement, or (`None`) of the unnamed one.
#[derive(Debug, Default)]
pub struct Preparing {
    unanswered: VecDeque<(Option<StatementNumber>, u64)>,
    segment: u64,
}

impl Preparing {
    /// A preparation is sent.
    pub fn begin(&mut self, statement: Option<StatementNumber>) {
        self.unanswered.push_back((statement, self.segment));
    }

    /// The oldest preparation of it was answered, has failed or was skipped.
    pub fn end(&mut self, statement: Option<StatementNumber>) {
        let at = self.unanswered.iter().position(|(known, _)| *known == statement);
        at.and_then(|at| self.unanswered.remove(at));
    }

    /// A Sync is sent.
    pub const fn end_segment(&mut self) {
        self.segment = self.segment.wrapping_add(1);
    }

    /// Whether a preparation of it in an earlier segment may turn out to have been skipped.
    #[must_use]
    pub fn is_in_doubt(&self, statement: Option<StatementNumber>) -> bool {
        self.unanswered.iter().any(|(known, segment)| *known == statement && *segment != self.segment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_an_earlier_segment_prepares_is_in_doubt() {
        let mut preparing = Preparing::default();
        assert!(!preparing.is_in_doubt(None));
        preparing.begin(None);
        assert!(!preparing.is_in_doubt(None));
        preparing.end_segment();
        assert!(preparing.is_in_doubt(None));
        preparing.begin(None);
        preparing.end(None);
        assert!(!preparing.is_in_doubt(None));
        preparing.end(None);
        preparing.end_segment();
        assert!(!preparing.is_in_doubt(None));
    }
}
