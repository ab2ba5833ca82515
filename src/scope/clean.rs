//! The proof that a server carries nothing of its last client, or only what is known.

use bytes::Bytes;

use super::injection::Injection;
use crate::upstream::{Quiet, Server};

/// Why a server is closed instead of being used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DiscardReason {
    /// The client left in the middle of something.
    ClientLeft,
    /// The server owed answers, or was inside a transaction, at a moment when it must not.
    NotQuiet,
    /// A Query came behind an Execute without Sync outside a block, which PostgreSQL 18 mishandles.
    QueryBehindExecute,
    /// The server sent what answers nothing.
    Unexpected,
    /// The scope could not be confirmed.
    ScopeUnconfirmed,
    /// client_encoding or standard_conforming_strings changed.
    PinBroken,
    /// A reported setting has a value that no client is known to have set.
    SettingsUnexplained,
    /// The server closed its side or failed.
    ServerGone,
    /// Too old, idle for too long, or surplus.
    Retired,
    /// The check before use failed.
    CheckFailed,
    /// A time limit was reached and the server could not be brought to rest.
    TimeLimit,
    /// The proxy is shutting down, or the configuration has no place for it any more.
    Shutdown,
    /// An administrator or a reload ended its session: what it is doing is cancelled.
    Expelled,
    /// It carries what its client has left, or may carry it.
    StateLeft,
    /// It ran a statement that would be refused if refusals were not only observed.
    Observed,
}

impl DiscardReason {
    /// Whether what the server is doing is cancelled first. PostgreSQL reads a good-bye only when its statement is done:
    /// it would commit what somebody has ended on purpose.
    #[must_use]
    pub const fn is_cancelled_first(self) -> bool {
        match self {
            DiscardReason::Expelled => true,
            DiscardReason::ClientLeft
            | DiscardReason::NotQuiet
            | DiscardReason::QueryBehindExecute
            | DiscardReason::Unexpected
            | DiscardReason::ScopeUnconfirmed
            | DiscardReason::PinBroken
            | DiscardReason::SettingsUnexplained
            | DiscardReason::ServerGone
            | DiscardReason::Retired
            | DiscardReason::CheckFailed
            | DiscardReason::StateLeft
            | DiscardReason::Observed
            // Its statement has been cancelled already, or the client that left gave it its time.
            | DiscardReason::TimeLimit
            | DiscardReason::Shutdown => false,
        }
    }

    /// The reason in words, for logs.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            DiscardReason::ClientLeft => "client left in mid-transaction",
            DiscardReason::NotQuiet => "replies owed or transaction open",
            DiscardReason::QueryBehindExecute => "Query behind an Execute without Sync",
            DiscardReason::Unexpected => "unexpected server message",
            DiscardReason::ScopeUnconfirmed => "scope not confirmed",
            DiscardReason::PinBroken => "client_encoding or standard_conforming_strings changed",
            DiscardReason::SettingsUnexplained => "a setting changed behind the proxy's back",
            DiscardReason::ServerGone => "server closed the connection",
            DiscardReason::Retired => "lifetime, idle time or pool size",
            DiscardReason::CheckFailed => "server check failed",
            DiscardReason::TimeLimit => "time limit",
            DiscardReason::Shutdown => "shutdown",
            DiscardReason::Expelled => "session ended by the operator",
            DiscardReason::StateLeft => "session state not proven gone",
            DiscardReason::Observed => "ran what would be refused",
        }
    }
}

/// A server that owes nothing and is in no transaction; so it has no tenant, or (under
/// [`Lifetime::Lease`](super::Lifetime)) one that its next client's is compared with. Only this goes back to a pool.
#[must_use]
#[derive(Debug)]
pub struct CleanServer {
    /// Boxed: it moves between pool and session with every transaction.
    server: Box<Server>,
    /// What was put on it for its session, confirmed by a COMMIT; `None` where that is nothing or not known.
    carried: Option<Bytes>,
}

impl CleanServer {
    /// A server that has just been logged in and has answered its prelude.
    pub fn fresh(server: Server, _proof: Quiet) -> Self {
        Self { server: Box::new(server), carried: None }
    }

    pub(super) const fn proven(server: Box<Server>, carried: Option<Bytes>, _proof: Quiet) -> Self {
        Self { server, carried }
    }

    #[cfg(feature = "mutants")]
    pub(super) fn unproven(server: Box<Server>) -> Self {
        Self { server, carried: None }
    }

    pub(super) fn into_parts(self) -> (Box<Server>, Option<Bytes>) {
        (self.server, self.carried)
    }

    /// Whether it carries what this session's transactions need, so that nothing has to be sent. A hint for the choice
    /// among idle servers; what counts is what [`super::install`] finds.
    #[must_use]
    pub fn suits(&self, injection: &Injection) -> bool {
        is_carried(self.carried.as_ref(), injection.carried())
    }

    /// The server's facts.
    #[must_use]
    pub const fn server(&self) -> &Server {
        &self.server
    }

    /// Another reference to equal reported settings, so that later comparisons are by pointer.
    pub fn share_parameters(&mut self, known: &std::sync::Arc<crate::upstream::Parameters>) {
        if self.server.parameters == *known {
            self.server.parameters = std::sync::Arc::clone(known);
        }
    }
}

/// Whether what a server has to carry is what it carries; not where it is not known.
pub(super) fn is_carried(carried: Option<&Bytes>, wanted: Option<&Bytes>) -> bool {
    match (carried, wanted) {
        (Some(one), Some(other)) => (one.as_ptr() == other.as_ptr() && one.len() == other.len()) || one == other,
        (Some(_) | None, None) | (None, Some(_)) => false,
    }
}
