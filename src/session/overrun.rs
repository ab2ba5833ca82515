//! What happens to a session that lasts too long.
//!
//! ```text
//!   statement:    cancel sent ──▶ 57014 comes: the client is told whose limit it was, and goes on
//!                     └─ nothing comes in time: the server is given up, the session ends
//!   transaction:  FATAL to the client, cancel if the server works, then as if the client had left: rolled
//!   or pause      back and given back, or closed where that cannot be proven clean
//!   leaving:      the server is given up
//! ```
//!
//! While a cancel is on its way no further message of the client's is taken, so that it cannot hit one.

use std::time::Duration;

use bytes::BytesMut;

use super::stopwatch::{Overrun, Pulse, Standing};
use super::{CloseReason, Effect, Passing, Phase, Session};
use crate::fault::{Code, Fault, SqlState};
use crate::scope::DiscardReason;
use crate::wire::backend::{self, Fields};
use crate::wire::frame::HEAD_BYTES;

/// A client for which more than this waits unread does not listen: it gets no last word.
const UNREAD_BYTES_MAX: usize = 16 * 1024;

/// A cancel of the session's own.
#[derive(Debug)]
pub(super) struct OwnCancel {
    /// What the client is told when it takes effect.
    fault: Fault,
    /// Whether it is still on its way.
    is_under_way: bool,
}

impl Session {
    /// What of the session moves on, for its stopwatch.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        let standing = match (&self.lease, self.phase) {
            (None, Phase::Ready | Phase::Skipping) if self.is_resting() => Standing::Pinned,
            (None, _) | (_, Phase::Closed) => Standing::Free,
            (Some(_), Phase::Leaving(_)) => Standing::Leaving,
            (Some(lease), Phase::Ready | Phase::Skipping) if lease.is_awaiting_client() => {
                match self.waits_for_record() {
                    true => Standing::Held,
                    false => Standing::Idle,
                }
            }
            (Some(_), Phase::Ready | Phase::Skipping) => Standing::Busy,
        };
        Pulse { standing, transaction: self.transactions, step: self.steps }
    }

    /// Whether a cancel of the session's own is on its way.
    pub(super) fn is_cancelling(&self) -> bool {
        #[cfg(feature = "mutants")]
        if self.rules.mutant == Some(super::Mutant::CancelHitsNextStatement) {
            return false;
        }
        self.own_cancel.as_ref().is_some_and(|cancel| cancel.is_under_way)
    }

    /// Something has lasted too long.
    pub(super) fn on_overrun(&mut self, overrun: Overrun) {
        if self.pulse().standing == Standing::Free {
            return;
        }
        match overrun {
            Overrun::Leaving => {
                if let Phase::Leaving(reason) = self.phase {
                    self.close(DiscardReason::TimeLimit, reason);
                }
            }
            Overrun::Statement(_)
            | Overrun::Unending(_)
            | Overrun::Transaction(_)
            | Overrun::Idle(_)
            | Overrun::Pinned(_)
            | Overrun::Bypass(_)
                if self.is_leaving() => {}
            Overrun::Statement(limit) => {
                let fault = fault_of(Code::StatementTimeLimit, limit);
                self.note_refusal(&fault);
                self.own_cancel = Some(OwnCancel { fault, is_under_way: true });
                self.effects.push_back(Effect::Cancel);
            }
            Overrun::Unending(limit) => {
                let fault = fault_of(Code::StatementTimeLimit, limit).fatal();
                self.say_last_words(&fault);
                self.close(DiscardReason::TimeLimit, CloseReason::Limit);
            }
            Overrun::Transaction(limit) => self.end_by_limit(&fault_of(Code::TransactionTimeLimit, limit)),
            Overrun::Idle(limit) => self.end_by_limit(&fault_of(Code::IdleTimeLimit, limit)),
            Overrun::Bypass(limit) => self.on_bypass_overrun(limit),
            Overrun::Pinned(limit) => self.end_by_limit(&fault_of(Code::PinTimeLimit, limit)),
        }
    }

    /// The cancel has reached the server, or never will.
    pub(super) fn on_cancel_settled(&mut self) {
        if let Some(cancel) = self.own_cancel.as_mut() {
            cancel.is_under_way = false;
        }
        self.forget_cancel();
        self.advance();
    }

    /// A settled cancel that has hit nothing is forgotten once the server owes nothing.
    pub(super) fn forget_cancel(&mut self) {
        let is_over = self.lease.as_ref().is_none_or(|lease| lease.replies().is_empty());
        if is_over && !self.is_cancelling() {
            self.own_cancel = None;
        }
    }

    /// What an error says in truth: the one that the session's own cancel has made names the limit.
    pub(super) fn own_words(&mut self, fields: Fields<'_>) -> Option<BytesMut> {
        if fields.sqlstate() != Some(SqlState::QUERY_CANCELED) {
            return None;
        }
        let cancel = self.own_cancel.as_mut()?;
        let mut frame = BytesMut::new();
        backend::put_error(&mut frame, &cancel.fault);
        if !cancel.is_under_way {
            self.own_cancel = None;
        }
        Some(frame.split_off(HEAD_BYTES.min(frame.len())))
    }

    /// Ends the session; its server is brought to rest first.
    pub(super) fn end_by_limit(&mut self, fault: &Fault) {
        self.note_refusal(fault);
        if self.lease.as_ref().is_some_and(|lease| !lease.replies().is_empty()) {
            self.effects.push_back(Effect::Cancel);
        }
        if self.say_last_words(fault) {
            self.leave(CloseReason::Limit);
        } else {
            self.close(DiscardReason::TimeLimit, CloseReason::Limit);
        }
    }

    /// Tells the client, unless it is in the middle of a message or does not listen.
    fn say_last_words(&mut self, fault: &Fault) -> bool {
        let is_at_boundary = self.drop_held() || !matches!(self.server_passing, Passing::Forward(_));
        let can_listen = is_at_boundary && self.client_out.len() <= UNREAD_BYTES_MAX;
        if can_listen {
            backend::put_error(&mut self.client_out, fault);
        }
        can_listen
    }
}

fn fault_of(code: Code, limit: Duration) -> Fault {
    Fault::of(code).with_detail(format!("The limit is {} ms.", limit.as_millis()))
}
