//! A server that is given up before it has done anything for its client.
//!
//! The client's settings are put on a server in front of its first message. If a cancel, or a short time limit of the
//! client before, hits that transaction, nothing of the client's has run: every segment that was sent fails with the
//! error, as if the statement had been cancelled at once, the server is closed, and the session goes on without one.
//!
//! Owns: what the client is told then. Does not own: any other failure of a replay, which ends the session.

use bytes::BytesMut;

use super::cause::Cause;
use super::replies::put_with_position;
use super::{CopyIn, Effect, Passing, Phase, Session};
use crate::fault::SqlState;
use crate::scope::DiscardReason;
use crate::upstream::Expect;
use crate::wire::TransactionStatus;
use crate::wire::backend::{self, Fields};

impl Session {
    /// Whether this error has hit the replay of settings, and the session can go on without this server. One whose
    /// transactions are recorded cannot: there an intent is on its way.
    pub(super) fn may_abandon(&self, fields: Fields<'_>) -> bool {
        let front = self.lease.as_ref().and_then(|lease| lease.replies().front());
        self.recorder.is_none()
            && matches!(self.phase, Phase::Ready | Phase::Skipping)
            && matches!(front, Some(Cause::Replay(_)))
            && fields.sqlstate() == Some(SqlState::QUERY_CANCELED)
            && !fields.is_fatal()
    }

    /// Gives the server up; `body` is the error.
    pub(super) fn abandon_server(&mut self, body: &[u8]) {
        let owed = self.lease.as_mut().map(|lease| lease.abandon_replies().collect::<Vec<_>>()).unwrap_or_default();
        let asked: Vec<(Expect, Cause)> =
            owed.into_iter().filter(|(_, cause)| !matches!(cause, Cause::Replay(_))).collect();
        self.answer_with_error(&asked, body);
        asked.into_iter().rev().for_each(|(_, cause)| self.undo(cause, false));
        self.lease = None;
        self.effects.push_back(Effect::Discard(DiscardReason::NotQuiet));
        self.forget_transaction();
    }

    /// Every Query and every segment fails; one that has no Sync yet is skipped up to it.
    fn answer_with_error(&mut self, asked: &[(Expect, Cause)], body: &[u8]) {
        let mut is_open = false;
        for (expect, _) in asked {
            let is_told = std::mem::replace(&mut is_open, !matches!(expect, Expect::Query | Expect::Sync));
            if !is_told && *expect != Expect::Sync {
                put_with_position(&mut self.client_out, body, |_| None);
            }
            if !is_open {
                backend::put_ready(&mut self.client_out, TransactionStatus::Idle);
            }
        }
        let is_half_sent = matches!(self.client_passing, Passing::Forward(_));
        debug_assert!(!is_half_sent || is_open, "only a Bind is sent in parts");
        self.phase = if is_open { Phase::Skipping } else { Phase::Ready };
    }

    fn forget_transaction(&mut self) {
        if let Passing::Forward(left) = self.client_passing {
            self.client_passing = Passing::Drop(left);
        }
        self.copy = CopyIn::None;
        self.portals.clear();
        self.settings.roll_back();
        self.settings.on_settled();
        self.control_in_flight = false;
        self.segment_failed = false;
        self.is_replaying = false;
        self.server_in = BytesMut::new();
        self.server_passing = Passing::Nothing;
        self.end_if_draining();
    }
}
