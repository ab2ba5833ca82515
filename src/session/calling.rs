//! FunctionCall: a function called by its number.
//!
//! A number says nothing that the guard could judge, so it is refused, except the few that `guard` knows to be the same in
//! every release, over logins whose transactions are recorded, and inside of a transaction block of the client's. There it
//! is judged and recorded as the SELECT that calls the same function by name, the tenant stands in front of it as in front
//! of any, and the message goes as it is:
//!
//! ```text
//!   client                      server
//!   F ───────▶ judged ────────▶ [*Bind *Execute] F
//!     ◀──────────────────────── V Z, or E Z
//! ```
//!
//! An error of what stands in front would have the server skip F as it skips a Query, so both are owed in the same way.
//!
//! Owns: when a call may be sent, and the answer's one message. Does not own: which number is which function (`guard`).

use std::sync::Arc;

use bytes::Bytes;

use super::cause::Cause;
use super::query::QueryPlan;
use super::recording::{Bound, Readiness};

use super::{CloseReason, CopyIn, Passing, Session};
use crate::fault::{Code, Fault};
use crate::guard::{Facts, call_of_number};
use crate::scope::{DiscardReason, ScopedFrame};
use crate::wire::TransactionStatus;
use crate::wire::frame::{HEAD_BYTES, Head};

const UNKNOWN: &str = "It names a function by its number, which cannot be checked.";
const OUTSIDE: &str = "It is available inside of a transaction block only.";

/// What the server was sent for a FunctionCall.
enum Sent {
    /// Its front; the rest is to follow.
    Call,
    /// Something that fails in its place, if anything.
    Refusal,
}

impl Session {
    /// Whether a call by number may be anything but refused.
    fn may_call_by_number(&self) -> bool {
        // Where tenants are claimed a call would name none.
        self.rules.policy.preset().is_recorded() && self.claims.is_none()
    }

    fn refuse_call(&mut self, why: &'static str) -> Option<Sent> {
        let is_open = self.lease.as_ref().is_some_and(|lease| lease.replies().is_open());
        let fault = Fault::of(Code::FunctionCallRefused).with_detail(why);
        if is_open {
            self.end_with(fault, DiscardReason::ClientLeft, CloseReason::ClientViolation);
            return Some(Sent::Refusal);
        }
        self.refuse_as_query(fault)
    }

    /// By a Query that the server must refuse, which is answered in the same way.
    fn refuse_as_query(&mut self, fault: Fault) -> Option<Sent> {
        self.refuse_query(fault).then_some(Sent::Refusal)
    }

    /// A FunctionCall, decided by its number; its values go on as they come. Gives the bytes used, or `None` if it has to
    /// wait, or the session ended.
    pub(super) fn take_function_call(&mut self, head: Head, rest: &[u8]) -> Option<usize> {
        let front = rest.get(..head.frame_bytes()).unwrap_or(rest);
        let number = front.get(HEAD_BYTES..).and_then(<[u8]>::first_chunk).map(|bytes| u32::from_be_bytes(*bytes));
        if number.is_none() && front.len() < head.frame_bytes() {
            return None;
        }
        if self.copy == CopyIn::Active {
            return self.violate("FunctionCall during COPY FROM STDIN".to_owned());
        }
        let sent = self.on_function_call(front, number)?;
        if self.is_closed() {
            return None;
        }
        self.client_passing = match (head.frame_bytes().saturating_sub(front.len()), sent) {
            (0, _) => Passing::Nothing,
            (left, Sent::Call) => Passing::Forward(left),
            (left, Sent::Refusal) => Passing::Drop(left),
        };
        Some(front.len())
    }

    /// `None`: it has to wait.
    fn on_function_call(&mut self, front: &[u8], number: Option<u32>) -> Option<Sent> {
        let Some(text) = number.and_then(call_of_number).filter(|_| self.may_call_by_number()) else {
            return self.refuse_call(UNKNOWN);
        };
        let lease = self.lease.as_ref().filter(|lease| lease.scope().predicted() != TransactionStatus::Idle);
        if lease.is_none_or(|lease| lease.replies().is_open()) {
            return self.refuse_call(OUTSIDE);
        }
        let inspected = self.inspect(text.as_bytes())?;
        // What is only watched in a statement is refused here: it has no name that an operator could look for.
        let judged = self.judge(&inspected).and_then(|facts| self.rules.policy.judge(&facts).map(|()| facts));
        let taken = match judged {
            Ok(facts) => self.send_call(front, text, &facts),
            Err(fault) => self.refuse_as_query(fault),
        };
        if taken.is_none() {
            self.inspected = Some((Bytes::from_static(text.as_bytes()), inspected));
        }
        taken
    }

    fn send_call(&mut self, front: &[u8], text: &str, facts: &Arc<Facts>) -> Option<Sent> {
        match self.ready_for_part(facts, &(0..facts.statements.len()), text) {
            Readiness::Ready => {}
            Readiness::Held => return None,
            Readiness::Refused(fault) => return self.refuse_as_query(fault),
        }
        if let Readiness::Refused(fault) = self.within_limits(&facts.statements, text, Bound::Nothing) {
            return self.refuse_as_query(fault);
        }
        let needs_scope = self.needs_scope(facts);
        let keep_portal = self.portals.has_unnamed();
        let lease = self.lease.as_mut()?;
        // In a failed block the server refuses the call by itself, and nothing else may stand in front.
        if needs_scope && lease.scope().needs_injection() && lease.scope().predicted() != TransactionStatus::Failed {
            super::extended::inject(lease, &self.rules, self.claims.as_deref_mut(), keep_portal);
        }
        lease.scope_mut().on_segment_end();
        let plan = Box::new(QueryPlan::of_call(Arc::clone(facts)));
        drop(lease.send(ScopedFrame::self_scoped([front, b"", b""]), Cause::Plan(plan)));
        self.claims_end_segment();
        self.note_sent(&facts.statements, text);
        Some(Sent::Call)
    }

    /// FunctionCallResponse has come: whether the front of what is owed is a call that had none yet.
    pub(super) fn takes_result(&mut self) -> bool {
        match self.lease.as_mut().and_then(|lease| lease.front_mut()) {
            Some(Cause::Plan(plan)) => plan.complete_call(),
            Some(_) | None => false,
        }
    }

    /// Whether the server waits for the rest of a call.
    pub(super) fn is_call_half_sent(&self) -> bool {
        let last = self.lease.as_ref().and_then(|lease| lease.replies().back());
        matches!(self.client_passing, Passing::Forward(_))
            && matches!(last, Some(Cause::Plan(plan)) if plan.is_at_call())
    }

    /// Whether a call's result is what comes next.
    pub(super) fn owes_result(&self) -> bool {
        let front = self.lease.as_ref().and_then(|lease| lease.replies().front());
        matches!(front, Some(Cause::Plan(plan)) if plan.is_at_call())
    }
}
