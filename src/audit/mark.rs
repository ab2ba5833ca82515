//! A reviewer's mark on a transaction: a record of its own.

use std::sync::Arc;

use uuid::Uuid;

use super::act::{Act, Fields};

/// Most characters of a note: a sentence or two.
const NOTE_CHARS_MAX: usize = 500;

/// What a reviewer has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Judgement {
    /// Nothing to object to.
    Ok,
    /// Somebody has to answer for it.
    Question,
}

impl Judgement {
    /// The word in the ledger.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Judgement::Ok => "ok",
            Judgement::Question => "question",
        }
    }

    /// From its word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Ok, Self::Question].into_iter().find(|judgement| judgement.word() == word)
    }
}

/// A mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Its own name in the ledger.
    pub id: Uuid,
    /// What it is about.
    pub transaction: Uuid,
    /// Who has looked.
    pub reviewer: Arc<str>,
    /// What they found.
    pub judgement: Judgement,
    /// In their words.
    pub note: Box<str>,
}

impl Act for Mark {
    fn kind(&self) -> &'static str {
        "review"
    }

    fn id(&self) -> Uuid {
        self.id
    }

    /// Whoever marks is told whether it is written.
    fn is_ahead(&self) -> bool {
        true
    }

    fn put(&self, fields: &mut Fields<'_>) {
        let Self { id: _, transaction, reviewer, judgement, note } = self;
        fields.put("transaction", transaction.to_string());
        fields.put("reviewer", &**reviewer);
        fields.put("verdict", judgement.word());
        fields.put("note", &**note);
    }
}

/// A note on one line.
///
/// # Errors
/// Says in a sentence what is wrong with it.
pub fn parse_note(text: &str) -> Result<Box<str>, &'static str> {
    let note = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if note.is_empty() {
        return Err("a mark needs a note");
    }
    if note.chars().count() > NOTE_CHARS_MAX {
        return Err("a note has at most 500 characters");
    }
    if note.chars().any(char::is_control) {
        return Err("a note has no control characters");
    }
    Ok(note.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_a_line_that_says_something() {
        assert_eq!(&*parse_note("  as\r\nasked  for ").unwrap(), "as asked for");
        for bad in ["", " \n ", "a\0b", &"x".repeat(501)] {
            assert!(parse_note(bad).is_err(), "{bad:?}");
        }
        assert_eq!((Judgement::parse("question"), Judgement::parse("OK")), (Some(Judgement::Question), None));
    }
}
