//! Replies still owed by a server, by cause.
//!
//! PostgreSQL answers in order, but *why* an answer is owed decides what an error cancels: after an
//! error in the extended protocol it skips to Sync, so answers owed before that Sync never come; a
//! simple Query ends itself. In copy-in it ignores Sync and Flush, so those owe nothing.
//! <https://www.postgresql.org/docs/current/protocol-flow.html>
//!
//! Owns: the queue and its arithmetic. Does not own: when to send, or to whom a reply goes (the cause,
//! a type of the session's, says that).

use std::collections::VecDeque;

use crate::wire::TransactionStatus;

/// What kind of message the server owes an answer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Parse: `1`.
    Parse,
    /// Bind: `2`.
    Bind,
    /// Describe: (`t`) and `T` or `n`.
    Describe,
    /// Execute: rows, copy data, then `C`, `I` or `s`.
    Execute,
    /// Close: `3`.
    Close,
    /// Sync: `Z`.
    Sync,
    /// Query: any number of results, then `Z`.
    Query,
}

/// One owed answer.
#[derive(Debug)]
struct Owed<C> {
    expect: Expect,
    /// A Query, or a Sync, whose error has come: only its `Z` is left.
    failed: bool,
    cause: C,
}

/// What a server message turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<C> {
    /// Belongs to no request: notice, parameter status, notification.
    Asynchronous,
    /// Part of the front answer (see [`Replies::front_mut`]); more is to come.
    Partial,
    /// The front answer is complete.
    Complete(C),
    /// An error ended the front answer, and everything up to the next Sync is never answered.
    Failed {
        /// Whose answer the error is.
        cause: C,
        /// What the server skips, in order.
        skipped: Vec<C>,
    },
    /// An error inside a Query's or a Sync's answer; its `Z` is still to come.
    PartialFailed,
    /// ReadyForQuery ended the front answer.
    Ready(C),
}

/// A message that fits nothing that was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("server message {tag:?} answers nothing (owed: {owed:?})")]
pub struct Unexpected {
    /// The message type.
    pub tag: char,
    /// What was owed, if anything.
    pub owed: Option<Expect>,
}

/// Proof that a server owed nothing and was idle at one moment.
#[must_use]
#[derive(Debug)]
pub struct Quiet(());

/// The queue of owed answers of one server.
#[derive(Debug)]
pub struct Replies<C> {
    owed: VecDeque<Owed<C>>,
    /// After an error of the extended protocol with no Sync behind it yet: the server ignores all until one comes.
    skipping: bool,
    /// What the last ReadyForQuery said.
    status: TransactionStatus,
    /// Whether anything was asked since the last ReadyForQuery that no Sync or Query has closed.
    open: bool,
}

impl<C> Default for Replies<C> {
    fn default() -> Self {
        Self { owed: VecDeque::new(), skipping: false, status: TransactionStatus::Idle, open: false }
    }
}

impl<C> Replies<C> {
    /// Notes that a message was sent. While the server skips to Sync, what is not a Sync will never be
    /// answered: then its cause comes back.
    #[must_use = "a cause that comes back was skipped"]
    pub fn push(&mut self, expect: Expect, cause: C) -> Option<C> {
        if self.skipping {
            if expect != Expect::Sync {
                return Some(cause);
            }
            self.skipping = false;
        }
        self.open = !matches!(expect, Expect::Sync | Expect::Query);
        self.owed.push_back(Owed { expect, failed: false, cause });
        None
    }

    /// Notes that something was sent that owes no answer of its own (Flush).
    pub fn mark_open(&mut self) {
        self.open = true;
    }

    /// Notes that what was sent last ended its own transaction (an Execute of COMMIT): nothing is open
    /// behind it, though no Sync was sent.
    pub fn mark_closed(&mut self) {
        self.open = false;
    }

    /// The cause of the front answer.
    pub fn front_mut(&mut self) -> Option<&mut C> {
        self.owed.front_mut().map(|owed| &mut owed.cause)
    }

    /// The cause of the front answer.
    #[must_use]
    pub fn front(&self) -> Option<&C> {
        self.owed.front().map(|owed| &owed.cause)
    }

    /// The cause of the last answer that is owed.
    #[must_use]
    pub fn back(&self) -> Option<&C> {
        self.owed.back().map(|owed| &owed.cause)
    }

    /// What the front answer is an answer to.
    #[must_use]
    pub fn front_expects(&self) -> Option<Expect> {
        self.owed.front().map(|owed| owed.expect)
    }

    /// Whether a ReadyForQuery is among what is owed.
    #[must_use]
    pub fn owes_ready(&self) -> bool {
        self.owed.iter().any(|owed| matches!(owed.expect, Expect::Sync | Expect::Query))
    }

    /// Whether the last thing asked, but for Syncs behind it, runs a statement that is not answered yet.
    #[must_use]
    pub fn owes_statement(&self) -> bool {
        let last = self.owed.iter().rev().find(|owed| owed.expect != Expect::Sync);
        last.is_some_and(|owed| matches!(owed.expect, Expect::Execute | Expect::Query))
    }

    /// Whether the front answer has failed, so that only its ReadyForQuery is left.
    #[must_use]
    pub fn has_front_failed(&self) -> bool {
        self.owed.front().is_some_and(|owed| owed.failed)
    }

    /// How many answers are owed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.owed.len()
    }

    /// Whether nothing is owed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.owed.is_empty()
    }

    /// Whether the server ignores everything until a Sync.
    #[must_use]
    pub const fn is_skipping(&self) -> bool {
        self.skipping
    }

    /// Whether messages were sent that no Sync or Query has closed yet.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.open
    }

    /// What the last ReadyForQuery said.
    #[must_use]
    pub const fn status(&self) -> TransactionStatus {
        self.status
    }

    /// Takes one server message by its type.
    ///
    /// # Errors
    /// The message answers nothing that is owed.
    pub fn receive(&mut self, tag: u8) -> Result<Received<C>, Unexpected> {
        if matches!(tag, b'N' | b'S' | b'A') {
            return Ok(Received::Asynchronous);
        }
        let Some(front) = self.owed.front_mut() else { return Err(self.unexpected(tag)) };
        match answer(front.expect, front.failed, tag) {
            Some(Answer::Part) => Ok(Received::Partial),
            Some(Answer::Ignoring) => {
                self.drop_ignored_syncs();
                Ok(Received::Partial)
            }
            Some(Answer::Last) => Ok(Received::Complete(self.pop()?)),
            Some(Answer::Error) if matches!(front.expect, Expect::Query | Expect::Sync) => {
                front.failed = true;
                Ok(Received::PartialFailed)
            }
            Some(Answer::Error) => self.fail(),
            None => Err(self.unexpected(tag)),
        }
    }

    /// Takes a ReadyForQuery.
    ///
    /// # Errors
    /// None is owed now.
    pub fn receive_ready(&mut self, status: TransactionStatus) -> Result<Received<C>, Unexpected> {
        match self.owed.front() {
            Some(front) if matches!(front.expect, Expect::Query | Expect::Sync) => {
                self.status = status;
                Ok(Received::Ready(self.pop()?))
            }
            _ => Err(self.unexpected(b'Z')),
        }
    }

    /// Proof that the server owes nothing, skips nothing and is idle; `None` if any of that is not so.
    pub fn quiet(&self) -> Option<Quiet> {
        let is_quiet = self.owed.is_empty() && !self.skipping && !self.open && self.status == TransactionStatus::Idle;
        is_quiet.then_some(Quiet(()))
    }

    fn pop(&mut self) -> Result<C, Unexpected> {
        self.owed.pop_front().map(|owed| owed.cause).ok_or(Unexpected { tag: '?', owed: None })
    }

    /// The front answer failed in the extended protocol: all before the next Sync is skipped.
    fn fail(&mut self) -> Result<Received<C>, Unexpected> {
        let cause = self.pop()?;
        let mut skipped = Vec::new();
        while self.owed.front().is_some_and(|owed| owed.expect != Expect::Sync) {
            skipped.push(self.pop()?);
        }
        self.skipping = self.owed.is_empty();
        Ok(Received::Failed { cause, skipped })
    }

    /// The server is in copy-in now and ignores the Syncs that were sent behind the COPY.
    fn drop_ignored_syncs(&mut self) {
        while self.owed.len() > 1 && self.owed.back().is_some_and(|owed| owed.expect == Expect::Sync) {
            self.owed.pop_back();
        }
        self.open = self.owed.back().is_some_and(|owed| owed.expect != Expect::Query);
    }

    fn unexpected(&self, tag: u8) -> Unexpected {
        Unexpected { tag: char::from(tag), owed: self.owed.front().map(|owed| owed.expect) }
    }
}

enum Answer {
    /// A part of the answer.
    Part,
    /// CopyInResponse: a part, and Syncs behind it are ignored.
    Ignoring,
    /// The last part.
    Last,
    /// An ErrorResponse.
    Error,
}

/// The grammar of answers.
fn answer(expect: Expect, failed: bool, tag: u8) -> Option<Answer> {
    if failed {
        return None;
    }
    match (expect, tag) {
        (_, b'E') => Some(Answer::Error),
        (Expect::Parse, b'1') | (Expect::Bind, b'2') | (Expect::Close, b'3') => Some(Answer::Last),
        (Expect::Describe, b't') => Some(Answer::Part),
        (Expect::Describe, b'T' | b'n') | (Expect::Execute, b'C' | b'I' | b's') => Some(Answer::Last),
        (Expect::Execute | Expect::Query, b'D' | b'd' | b'H' | b'c') => Some(Answer::Part),
        (Expect::Execute | Expect::Query, b'G') => Some(Answer::Ignoring),
        // The last is a FunctionCall's, which is answered like a Query.
        (Expect::Query, b'T' | b'C' | b'I' | b'V') => Some(Answer::Part),
        (
            Expect::Parse
            | Expect::Bind
            | Expect::Close
            | Expect::Describe
            | Expect::Execute
            | Expect::Query
            | Expect::Sync,
            _,
        ) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owing(list: &[(Expect, &'static str)]) -> Replies<&'static str> {
        let mut replies = Replies::default();
        for &(expect, cause) in list {
            assert_eq!(replies.push(expect, cause), None);
        }
        replies
    }

    #[test]
    fn an_error_cancels_what_stands_before_the_next_sync() {
        let mut replies = owing(&[
            (Expect::Parse, "p1"),
            (Expect::Bind, "b1"),
            (Expect::Execute, "e1"),
            (Expect::Sync, "s1"),
            (Expect::Parse, "p2"),
            (Expect::Sync, "s2"),
        ]);
        assert_eq!(replies.receive(b'1'), Ok(Received::Complete("p1")));
        assert_eq!(replies.receive(b'E'), Ok(Received::Failed { cause: "b1", skipped: vec!["e1"] }));
        assert_eq!(replies.receive_ready(TransactionStatus::Idle), Ok(Received::Ready("s1")));
        assert!(replies.quiet().is_none());
        assert_eq!(replies.receive(b'1'), Ok(Received::Complete("p2")));
        assert_eq!(replies.receive_ready(TransactionStatus::Idle), Ok(Received::Ready("s2")));
        assert!(replies.quiet().is_some());
    }

    #[test]
    fn after_an_error_without_sync_all_is_skipped_until_one_comes() {
        let mut replies = owing(&[(Expect::Parse, "p"), (Expect::Query, "q")]);
        assert_eq!(replies.receive(b'E'), Ok(Received::Failed { cause: "p", skipped: vec!["q"] }));
        assert_eq!(replies.push(Expect::Bind, "late"), Some("late"));
        assert!(replies.quiet().is_none());
        assert_eq!(replies.push(Expect::Sync, "s"), None);
        assert_eq!(replies.receive_ready(TransactionStatus::Idle), Ok(Received::Ready("s")));
        assert!(replies.quiet().is_some());
    }

    #[test]
    fn a_query_ends_with_ready_even_when_it_failed() {
        let mut replies = owing(&[(Expect::Query, "q")]);
        assert_eq!(replies.receive(b'C'), Ok(Received::Partial));
        assert_eq!(replies.receive(b'E'), Ok(Received::PartialFailed));
        assert!(replies.receive(b'C').is_err());
        assert_eq!(replies.receive_ready(TransactionStatus::Failed), Ok(Received::Ready("q")));
        assert!(replies.quiet().is_none());
    }

    #[test]
    fn copy_in_drops_the_syncs_behind_it() {
        let mut replies = owing(&[(Expect::Execute, "copy"), (Expect::Sync, "s")]);
        assert_eq!(replies.receive(b'G'), Ok(Received::Partial));
        assert_eq!(replies.len(), 1);
        assert_eq!(replies.push(Expect::Sync, "s2"), None);
        assert_eq!(replies.receive(b'C'), Ok(Received::Complete("copy")));
        assert_eq!(replies.receive_ready(TransactionStatus::Idle), Ok(Received::Ready("s2")));
    }

    #[test]
    fn what_answers_nothing_is_unexpected() {
        let mut replies = owing(&[(Expect::Bind, "b")]);
        assert!(replies.receive(b'1').is_err());
        assert!(replies.receive_ready(TransactionStatus::Idle).is_err());
        assert_eq!(replies.receive(b'N'), Ok(Received::Asynchronous));
        let mut none = owing(&[]);
        for tag in 0..=255u8 {
            assert_eq!(none.receive(tag).is_ok(), matches!(tag, b'N' | b'S' | b'A'));
        }
    }
}
