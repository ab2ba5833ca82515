//! The only form in which bytes reach a server.

use super::transaction::TransactionScope;
use crate::upstream::Expect;

/// Why a message may be sent without a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeedsNoScope {
    /// Parse, Describe, Close: plan and read nothing of a tenant's.
    Preparation,
    /// Sync: ends a segment.
    SegmentEnd,
    /// The guard found nothing in it that reads or writes data or calls a function.
    Statement,
    /// COPY data of a statement that was sent with its tenant.
    CopyData,
    /// The rest of a message whose front was sent.
    Continuation,
    /// A replacement that the server must refuse.
    Refusal,
    /// The proxy's own: settings replay, roll-back of a client that left.
    Housekeeping,
}

/// A message on its way to a server, and the answer it makes the server owe.
#[must_use]
#[derive(Debug)]
pub struct ScopedFrame<'a> {
    pub(super) parts: [&'a [u8]; 3],
    pub(super) expect: Option<Expect>,
}

impl<'a> ScopedFrame<'a> {
    /// A message that needs scope; `None` where the transaction it would run in has no tenant.
    pub fn scoped(scope: &TransactionScope, parts: [&'a [u8]; 3], expect: Expect) -> Option<Self> {
        scope.may_send_scoped().then_some(Self { parts, expect: Some(expect) })
    }

    /// A simple Query whose text carries its own `SET LOCAL` in front of everything that needs scope, as
    /// the session's plan proves.
    pub fn self_scoped(parts: [&'a [u8]; 3]) -> Self {
        Self { parts, expect: Some(Expect::Query) }
    }

    /// A message that needs no scope.
    pub fn unscoped(why: NeedsNoScope, parts: [&'a [u8]; 3], expect: Option<Expect>) -> Self {
        debug_assert!(why != NeedsNoScope::CopyData || expect.is_none());
        Self { parts, expect }
    }
}
