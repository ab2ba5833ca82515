//! What goes into a session and what it wants done.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::SessionRules;
use super::stopwatch::Overrun;
use crate::audit::Entry;
use crate::bypass::LimitName;
use crate::fault::{Code, Fault};
use crate::guard::{Inspected, Observed};
use crate::scope::{CleanServer, DiscardReason};
use crate::tenant::TenantId;

/// Something that happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// The client sent bytes.
    ClientBytes(&'a [u8]),
    /// The client closed its sending side.
    ClientDone,
    /// The client's connection failed.
    ClientGone,
    /// The leased server sent bytes.
    ServerBytes(&'a [u8]),
    /// Everything for the leased server was written.
    ServerWritten,
    /// The leased server closed its side, or its connection failed.
    ServerGone,
    /// A server was leased, as asked for.
    Leased(CleanServer),
    /// The server that has stayed with the client may be used again, as asked for.
    Resumed,
    /// Whether the leased server may stay with the client beyond its transaction, as asked for.
    Pinned(Result<(), Fault>),
    /// Whether the session may act for the tenant, as asked for.
    Claimed(Result<(), Fault>),
    /// No server could be leased.
    LeaseRefused(Fault),
    /// A text was inspected, as asked for.
    Inspected(Inspected),
    /// The last record was written and is durable, or could not be.
    Recorded(Result<(), Fault>),
    /// The client asked for a cancel; the leased server, if there is one, is told as well.
    Cancelled,
    /// Something has lasted too long.
    Overrun(Overrun),
    /// How bypasses stand has changed, and the session has been told.
    Standing,
    /// The cancel that was asked for has reached the server, or never will.
    CancelSettled,
    /// The proxy shuts down: end at the next moment without a transaction.
    Drain,
    /// End now.
    Abort(Fault),
    /// End now, by an administrator's order or because a reload took away what the session rests on.
    Expel(Fault),
    /// Other rules count from now on. Only while no server is leased: a transaction keeps its rules, and a session that
    /// gets others in one ends.
    Rules(Arc<SessionRules>),
}

/// Something the driver has to do.
#[derive(Debug)]
pub enum Effect {
    /// Lease a server; answer with [`Input::Leased`] or [`Input::LeaseRefused`]. Where a server has stayed with the client:
    /// answer with [`Input::Resumed`].
    Lease,
    /// The session is about to act for this tenant: count its work, and the server it may have, as the tenant's; answer
    /// with [`Input::Claimed`].
    Claim(TenantId),
    /// The session, which has no server, acts for nobody any more.
    Unclaim,
    /// Count the leased server among those that stay with their clients, until it is given back or closed; answer with
    /// [`Input::Pinned`].
    Pin,
    /// The transaction is over, and the server stays with the client. What it sends still belongs to the session.
    Rest,
    /// Inspect a text; answer with [`Input::Inspected`].
    Inspect(Bytes),
    /// Write a record of the running transaction; answer with [`Input::Recorded`] once it is durable.
    Record(Entry),
    /// Answer with [`Overrun::Bypass`] when so much time has passed; `None`: not any more.
    Limit(Option<(Duration, LimitName)>),
    /// Give the server back.
    CheckIn(CleanServer),
    /// Cancel what the server is doing; answer with [`Input::CancelSettled`].
    Cancel,
    /// Close the server's connection.
    Discard(DiscardReason),
    /// Count and log a refusal.
    Refused(Code),
    /// Count a statement that was sent although it would be refused if refusals were not only observed.
    Observed(Observed, Bytes),
    /// Write what is left for the client, then close.
    Close(CloseReason),
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The client said Terminate.
    Terminated,
    /// The client closed its sending side.
    ClientDone,
    /// The client's connection failed.
    ClientGone,
    /// The client broke the protocol.
    ClientViolation,
    /// The server ended or failed.
    ServerFailed,
    /// No server could be had.
    NoServer,
    /// The proxy shuts down.
    Shutdown,
    /// An administrator or a reload ended it.
    Expelled,
    /// A limit was reached.
    Limit,
}

impl CloseReason {
    /// The reason in words, for logs.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            CloseReason::Terminated => "terminated by client",
            CloseReason::ClientDone => "client closed the connection",
            CloseReason::ClientGone => "connection to client failed",
            CloseReason::ClientViolation => "client broke the protocol",
            CloseReason::ServerFailed => "server failed",
            CloseReason::NoServer => "no server",
            CloseReason::Shutdown => "shutdown",
            CloseReason::Expelled => "ended by the operator",
            CloseReason::Limit => "limit",
        }
    }
}
