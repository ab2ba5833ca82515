//! The proxy's own transaction in front of the client's first segment: settings, and the tenant a server is to carry.
//!
//! ```text
//!            leased, something is missing          COMMIT answered
//!   Done ─────────────────────────────▶ Sent ─────────────────────▶ Done
//!                                        │ cancelled                 ▲
//!                                        ▼      ROLLBACK answered    │
//!                                      Undoing ──────────────────────┘
//! ```
//!
//! It has no Sync: if it fails, the server skips the client's first segment up to its Sync, and a Query up to a Sync
//! that the proxy adds. Whatever stood behind that would run all the same (a `ROLLBACK` would even end the failed
//! block, and what follows would run for another tenant), so it waits for the answer. A cancel that comes so early is
//! the client's own error; any other failure ends the session and the server.
//!
//! Owns: what failure and success mean for the session. Does not own: the bytes (`scope`).

use bytes::BytesMut;

use super::cause::Cause;
use super::replies::{Delivery, Ended, put_with_position};
use super::{CloseReason, Session};
use crate::fault::{Code, Fault, SqlState};
use crate::metrics::Count;
use crate::scope::{DiscardReason, LeasedServer, NeedsNoScope, Part, ScopedFrame};
use crate::upstream::Expect;
use crate::wire::backend::{self, Fields};
use crate::wire::{TransactionStatus, frontend};

/// Where the proxy's own transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Installing {
    /// There is none, or it was committed.
    Done,
    /// It was sent; what the client sends first comes in the extended protocol, or has not come.
    Sent,
    /// It was sent, and a Query directly behind it.
    SentWithQuery,
    /// It was cancelled. The client has the error; its ReadyForQuery comes when the server is at rest.
    Undoing,
}

impl Installing {
    /// A Query is about to be sent; `is_segment_open`: behind messages of the extended protocol, with which the server
    /// skips it.
    pub(super) fn on_query(&mut self, is_segment_open: bool) {
        if *self == Installing::Sent && !is_segment_open {
            *self = Installing::SentWithQuery;
        }
    }
}

impl Session {
    /// Whether a client's message has to wait for the answer: one segment is with the server.
    pub(super) fn waits_for_installation(&self) -> bool {
        self.installing != Installing::Done && self.lease.as_ref().is_some_and(|lease| lease.replies().owes_ready())
    }

    /// The server has the client's settings and tenant now.
    pub(super) fn on_installed(&mut self, lease: &mut LeasedServer<Cause>) {
        self.installing = Installing::Done;
        self.sequences_due = false;
        lease.server_mut().settings = self.settings.committed().clone();
        if lease.on_installed() {
            self.tally.add(Count::Scopes, 1);
        }
    }

    /// A part of it failed: nothing of the client's first segment is run.
    pub(super) fn on_installation_failed(
        &mut self,
        part: Part,
        body: &[u8],
        fields: Fields<'_>,
    ) -> Result<Delivery, Ended> {
        let Some(lease) = self.lease.as_mut() else { return Err(Ended) };
        lease.on_not_installed();
        let is_cancelled = fields.sqlstate() == Some(SqlState::QUERY_CANCELED);
        // A record's transaction has begun in front of it or behind it: it is given up as a whole.
        let may_go_on = is_cancelled && self.recorder.is_none();
        if !may_go_on && !fields.is_fatal() {
            self.end_installation(part, fields);
            return Err(Ended);
        }
        put_with_position(&mut self.client_out, body, |_| None);
        if fields.is_fatal() {
            return Ok(Delivery::Swallow);
        }
        if part == Part::Commit {
            // Whether it was committed: the next session is not to depend on it.
            lease.set_doubt(DiscardReason::ScopeUnconfirmed);
        }
        if self.installing == Installing::SentWithQuery {
            let mut sync = BytesMut::new();
            frontend::put_sync(&mut sync);
            self.send_recovery(&sync, Expect::Sync);
        }
        self.installing = Installing::Undoing;
        Ok(Delivery::Swallow)
    }

    /// One error to the client, and the server is closed. What most often fails is a startup parameter that is no value.
    fn end_installation(&mut self, part: Part, fields: Fields<'_>) {
        let said = String::from_utf8_lossy(fields.find(b'M').unwrap_or_default()).into_owned();
        let is_scoping = self.rules.injection.carried().is_some();
        let (code, reason) = match part {
            Part::Sequences | Part::Set | Part::Reset => (Code::SettingsFailed, DiscardReason::NotQuiet),
            Part::Scope => (Code::ScopeFailed, DiscardReason::ScopeUnconfirmed),
            Part::Preparation | Part::Begin | Part::Commit if is_scoping => {
                (Code::ScopeFailed, DiscardReason::ScopeUnconfirmed)
            }
            Part::Preparation | Part::Begin | Part::Commit => (Code::SettingsFailed, DiscardReason::NotQuiet),
        };
        let fault = Fault::of(code).with_detail(format!("The server said: {said}"));
        self.end_with(fault, reason, CloseReason::ServerFailed);
    }

    /// Whether the server is being brought to rest behind a cancelled installation.
    pub(super) fn is_undoing_installation(&self) -> bool {
        self.installing == Installing::Undoing
    }

    /// ReadyForQuery on the way to rest: in the failed block it is the client's only behind a ROLLBACK.
    pub(super) fn on_undone(&mut self, cause: &Cause, status: TransactionStatus) -> Delivery {
        if status != TransactionStatus::Idle {
            let mut rollback = BytesMut::new();
            frontend::put_query(&mut rollback, b"ROLLBACK");
            self.send_recovery(&rollback, Expect::Query);
            return Delivery::Swallow;
        }
        debug_assert!(matches!(cause, Cause::Recovery | Cause::Client));
        self.installing = Installing::Done;
        // What the server reports is another client's: of this one's settings none have changed.
        backend::put_ready(&mut self.client_out, TransactionStatus::Idle);
        Delivery::Swallow
    }

    fn send_recovery(&mut self, message: &[u8], expect: Expect) {
        let Some(lease) = self.lease.as_mut() else { return };
        let frame = ScopedFrame::unscoped(NeedsNoScope::Housekeeping, [message, b"", b""], Some(expect));
        lease.scope_mut().on_end(false);
        // A Sync is never skipped, and the ROLLBACK stands behind one.
        let is_skipped = lease.send(frame, Cause::Recovery).is_some();
        debug_assert!(!is_skipped);
    }
}
