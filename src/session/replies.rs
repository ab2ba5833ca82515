//! The server's messages: whose answer each is, and what of it the client sees.
//!
//! Bulk is forwarded in runs without a look at its body; only messages that decide are read whole.

use bytes::{Buf, BufMut, BytesMut};

use super::cause::{Cause, ParseNote};
use super::claims::put_no_block;
use super::query::PlanStep;
use super::settings::Change;
use super::statements::ClientStatement;
use super::{CloseReason, CopyIn, Passing, Phase, Session, Waiting};
use crate::fault::{Code, Fault, SqlState};
use crate::guard::{Claim, ClaimForm, ClaimSpan, Configuration, ConfiguredValue, Control, Facts, Statement};
use crate::metrics::Count;
use crate::scope::{DiscardReason, LeasedServer, Part};
use crate::upstream::outdated::Change as SchemaChange;
use crate::upstream::{Received, Server, StatementNumber};
use crate::wire::TransactionStatus;
use crate::wire::backend::{self, Fields};
use crate::wire::frame::{HEAD_BYTES, Head};
use crate::wire::frontend::put_message;
use crate::wire::limits::INSPECTED_BYTES_MAX;

/// What is done with one server message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    Forward,
    Swallow,
}

/// The session ended while the message was taken.
pub(super) struct Ended;

impl Session {
    pub(super) fn on_server_bytes(&mut self, bytes: &[u8]) {
        if self.lease.is_none() {
            return self.on_resting_bytes(bytes);
        }
        let said = self.client_out.len();
        if self.server_in.is_empty() {
            let used = self.take_replies(bytes);
            if self.lease.is_some() {
                self.server_in.extend_from_slice(bytes.get(used..).unwrap_or_default());
            }
        } else {
            self.server_in.extend_from_slice(bytes);
            let mut input = std::mem::take(&mut self.server_in);
            let used = self.take_replies(&input);
            input.advance(used);
            if self.lease.is_some() && !input.is_empty() {
                self.server_in = input;
            }
        }
        // A part of a message that waits for its end is not to be lost with the lease.
        if self.server_in.is_empty() {
            self.after_replies();
        }
        if let Phase::Leaving(reason) = self.phase {
            match reason {
                CloseReason::ClientGone => self.client_out = BytesMut::new(),
                // It has had its last words.
                CloseReason::Limit => self.client_out.truncate(said),
                CloseReason::Terminated
                | CloseReason::ClientDone
                | CloseReason::ClientViolation
                | CloseReason::ServerFailed
                | CloseReason::NoServer
                | CloseReason::Shutdown
                | CloseReason::Expelled => {}
            }
            self.bring_to_rest();
        }
        self.advance();
    }

    /// What owes no answer (COPY data behind its failure), once dropped or written, may be the last that a server at
    /// rest waited for: no reply will come to give it back.
    pub(super) fn give_back_if_quiet(&mut self) {
        // Whose tenant is asked for goes on with the server it has.
        let is_asking = self.waiting == super::Waiting::Claim && !self.is_leaving();
        if !is_asking && self.server_in.is_empty() && self.lease.as_ref().is_some_and(LeasedServer::is_quiet) {
            self.after_replies();
            self.advance();
        }
    }

    /// Takes whole messages (and parts of bulk) from the front of `input`; gives the bytes used.
    fn take_replies(&mut self, input: &[u8]) -> usize {
        let mut used = 0;
        self.written = self.client_out.len();
        // The forwarded messages in front of `used` that have not been copied yet.
        let mut run = 0;
        while let Some(rest) = input.get(used..).filter(|rest| !rest.is_empty()) {
            if self.lease.is_none() {
                break;
            }
            let at = used;
            match self.take_reply(rest) {
                Ok(Some((count, Delivery::Forward))) => used += count,
                Ok(Some((count, Delivery::Swallow))) => {
                    // What the message wrote itself comes behind the run in front of it.
                    self.insert_run(input.get(run..at).unwrap_or_default());
                    self.begin_hold();
                    used += count;
                    run = used;
                }
                Ok(None) => break,
                Err(Ended) => {
                    // Where the client waited for a record, the run waited with it.
                    if !self.drop_held() {
                        self.insert_run(input.get(run..at).unwrap_or_default());
                    }
                    return used;
                }
            }
        }
        self.client_out.extend_from_slice(input.get(run..used).unwrap_or_default());
        used
    }

    /// Copies a run of forwarded messages in front of what the current message has written.
    fn insert_run(&mut self, run: &[u8]) {
        if !run.is_empty() {
            let own = self.client_out.split_off(self.written.min(self.client_out.len()));
            self.client_out.extend_from_slice(run);
            self.client_out.extend_from_slice(&own);
        }
        self.written = self.client_out.len();
    }

    /// One message from the front of `rest`: bytes used and what is done with them.
    fn take_reply(&mut self, rest: &[u8]) -> Result<Option<(usize, Delivery)>, Ended> {
        if let Passing::Forward(left) | Passing::Drop(left) = self.server_passing {
            return Ok(Some(self.pass_reply_on(rest, left)));
        }
        let head = match Head::read(rest) {
            Ok(Some(head)) => head,
            Ok(None) => return Ok(None),
            Err(fault) => return Err(self.distrust(fault.to_string())),
        };
        if head.tag == b'D' && self.expects_standing() && head.body_bytes <= INSPECTED_BYTES_MAX {
            return self.take_standing_row(head, rest);
        }
        if is_bulk(head.tag) {
            return self.take_bulk(head, rest).map(Some);
        }
        let is_long = head.body_bytes > INSPECTED_BYTES_MAX;
        if is_long && !matches!(head.tag, b'E' | b'N') {
            return Err(self.distrust(format!("message {:?} of {} bytes", char::from(head.tag), head.body_bytes)));
        }
        if is_long {
            return self.take_long_text(head, rest).map(Some);
        }
        let Some(body) = rest.get(HEAD_BYTES..head.frame_bytes()) else { return Ok(None) };
        let delivery = match head.tag {
            b'N' => Ok(self.on_notice()),
            b'A' if self.is_notified() => Ok(self.on_notification(rest.get(..head.frame_bytes()).unwrap_or_default())),
            b'A' => Ok(Delivery::Swallow),
            b'S' => self.on_parameter(body),
            b'Z' => self.on_ready(body),
            b'E' => self.on_error(body),
            b'C' => self.on_complete(body),
            b'1' | b'2' | b'3' | b'n' | b's' | b'I' | b'c' if !body.is_empty() => {
                Err(self.distrust(format!("message {:?} with a body", char::from(head.tag))))
            }
            _ => self.on_small(head.tag),
        }?;
        Ok(Some((head.frame_bytes(), delivery)))
    }

    /// The row that answers how the transaction stands.
    fn take_standing_row(&mut self, head: Head, rest: &[u8]) -> Result<Option<(usize, Delivery)>, Ended> {
        let Some(body) = rest.get(HEAD_BYTES..head.frame_bytes()) else { return Ok(None) };
        if !self.take_standing(body) {
            return Err(self.distrust("another answer than the transaction's id".to_owned()));
        }
        let delivery = self.on_small(head.tag)?;
        Ok(Some((head.frame_bytes(), delivery)))
    }

    fn pass_reply_on(&mut self, rest: &[u8], left: usize) -> (usize, Delivery) {
        let count = left.min(rest.len());
        let (passing, delivery) = match self.server_passing {
            Passing::Drop(_) => (Passing::Drop(left - count), Delivery::Swallow),
            Passing::Forward(_) | Passing::Nothing => (Passing::Forward(left - count), Delivery::Forward),
        };
        self.server_passing = if left == count { Passing::Nothing } else { passing };
        (count, delivery)
    }

    /// Rows, row descriptions and COPY data: decided on the head, forwarded as they come.
    fn take_bulk(&mut self, head: Head, rest: &[u8]) -> Result<(usize, Delivery), Ended> {
        let delivery = self.on_small(head.tag)?;
        if self.recorder.is_some() && delivery == Delivery::Forward && matches!(head.tag, b'D' | b'd' | b'V') {
            self.check_rows(1)?;
            self.note_row();
        }
        self.server_passing = match delivery {
            Delivery::Forward => Passing::Forward(head.frame_bytes()),
            Delivery::Swallow => Passing::Drop(head.frame_bytes()),
        };
        Ok(self.pass_reply_on(rest, head.frame_bytes()))
    }

    /// An error or notice too long to be rewritten: forwarded as it comes.
    fn take_long_text(&mut self, head: Head, rest: &[u8]) -> Result<(usize, Delivery), Ended> {
        let delivery = match head.tag {
            b'N' => self.on_notice(),
            _ => match self.on_error(b"")? {
                Delivery::Swallow => return Err(self.distrust("an endless error".to_owned())),
                Delivery::Forward => Delivery::Forward,
            },
        };
        self.server_passing = match delivery {
            Delivery::Forward => Passing::Forward(head.frame_bytes()),
            Delivery::Swallow => Passing::Drop(head.frame_bytes()),
        };
        Ok(self.pass_reply_on(rest, head.frame_bytes()))
    }

    /// The server said what answers nothing: it is hostile or lost, and the client cannot be served on.
    fn distrust(&mut self, detail: String) -> Ended {
        let fault = Fault::of(Code::ServerProtocol).with_detail(detail);
        self.end_with(fault, DiscardReason::Unexpected, CloseReason::ServerFailed);
        Ended
    }

    /// Messages without a body that matters.
    fn on_small(&mut self, tag: u8) -> Result<Delivery, Ended> {
        let Some(lease) = self.lease.as_mut() else { return Err(Ended) };
        let received = lease.receive(tag);
        if !matches!(received, Ok(Received::Partial)) {
            self.steps = self.steps.wrapping_add(1);
        }
        match received {
            Ok(Received::Partial) => {
                if tag == b'G' {
                    self.copy = CopyIn::Active;
                }
                if matches!(lease.replies().front(), Some(Cause::OwnEnd(_))) {
                    return Err(self.distrust(format!("message {:?} for a COMMIT", char::from(tag))));
                }
                let is_result = tag == b'V';
                if is_result != self.owes_result() || (is_result && !self.takes_result()) {
                    return Err(
                        self.distrust(format!("message {:?} for a Query, or for a FunctionCall", char::from(tag)))
                    );
                }
                if is_result {
                    // To the record it is the SELECT that calls the function.
                    self.note_tag(b"SELECT 1");
                }
                let front = self.lease.as_ref().and_then(|lease| lease.replies().front());
                if front.is_some_and(Cause::is_own) {
                    return Ok(Delivery::Swallow);
                }
                self.count_statement(matches!(tag, b'I' | b'V'));
                Ok(Delivery::Forward)
            }
            Ok(Received::Complete(cause)) => self.on_answered(cause, tag),
            Ok(Received::Asynchronous | Received::Failed { .. } | Received::PartialFailed | Received::Ready(_)) => {
                Err(self.distrust(format!("message {:?}", char::from(tag))))
            }
            Err(unexpected) => Err(self.distrust(unexpected.to_string())),
        }
    }

    /// A statement of the client's was answered, if it is one: whatever becomes of the answer, and once.
    fn count_statement(&mut self, is_one: bool) {
        self.tally.add(Count::Statements, u64::from(is_one));
    }

    /// An answer without a command tag is complete.
    fn on_answered(&mut self, cause: Cause, tag: u8) -> Result<Delivery, Ended> {
        // An Execute's: the statement was empty, or is suspended.
        self.count_statement(matches!(cause, Cause::Client | Cause::Execute { .. }) && matches!(tag, b'I' | b's'));
        match cause {
            Cause::Client | Cause::Named(_) | Cause::Bind(..) | Cause::BindNamed(_) | Cause::ClosePortal(_) => {
                Ok(Delivery::Forward)
            }
            Cause::Execute { facts, .. } => {
                // PortalSuspended, behind its only row: it has run all the same.
                if let ([Statement { control, .. }], b's') = (&*facts.statements, tag) {
                    self.on_suspended(control);
                }
                Ok(Delivery::Forward)
            }
            Cause::CloseStatement { serial, .. } => {
                self.statements.end(serial);
                Ok(Delivery::Forward)
            }
            Cause::Parse(note) => {
                self.statements.end(note.serial);
                if let Some((_, number)) = note.placed {
                    self.has_prepared(Some(number));
                }
                self.tally.add(Count::ServerParses, 1);
                Ok(Delivery::Forward)
            }
            Cause::ParseKnown(note) => {
                self.statements.end(note.serial);
                backend::put_parse_complete(&mut self.client_out);
                Ok(Delivery::Swallow)
            }
            cause @ (Cause::Reprepare(..) | Cause::ReprepareUnnamed) => {
                self.has_prepared(if let Cause::Reprepare(_, number) = cause { Some(number) } else { None });
                self.tally.add(Count::ServerParses, 1);
                Ok(Delivery::Swallow)
            }
            Cause::Standing(false) => Ok(Delivery::Swallow),
            Cause::Standing(true) if tag == b'3' => {
                let answered = self.on_standing_answered();
                answered.map(|()| Delivery::Swallow).map_err(|what| self.distrust(what.to_owned()))
            }
            Cause::Scope(_)
            | Cause::Evict(_)
            | Cause::Install(Part::Preparation)
            | Cause::Restore(_)
            | Cause::OwnBegin
            | Cause::Recovery => Ok(Delivery::Swallow),
            Cause::Install(Part::Begin | Part::Sequences | Part::Set | Part::Reset | Part::Scope | Part::Commit)
            | Cause::Inquiry(_)
            | Cause::Standing(true)
            | Cause::OwnEnd(_)
            | Cause::Refused(_)
            | Cause::Single(_)
            | Cause::Prefixed { .. }
            | Cause::Plan(_) => Err(self.distrust(format!("message {:?} for what must be refused", char::from(tag)))),
        }
    }

    /// A preparation was answered.
    fn has_prepared(&mut self, statement: Option<StatementNumber>) {
        if let Some(lease) = self.lease.as_mut() {
            lease.server_mut().preparing.end(statement);
        }
    }

    /// CommandComplete.
    fn on_complete(&mut self, body: &[u8]) -> Result<Delivery, Ended> {
        let Ok(tag) = backend::read_command_tag(body) else {
            return Err(self.distrust("a malformed CommandComplete".to_owned()));
        };
        if self.recorder.is_some() {
            self.note_tag(tag);
            self.check_rows(0)?;
        }
        self.steps = self.steps.wrapping_add(1);
        let Some(lease) = self.lease.as_mut() else { return Err(Ended) };
        match lease.receive(b'C') {
            Ok(Received::Partial) => self.on_query_step(tag),
            Ok(Received::Complete(cause)) => self.on_executed(cause, tag),
            Ok(Received::Asynchronous | Received::Failed { .. } | Received::PartialFailed | Received::Ready(_)) => {
                Err(self.distrust("CommandComplete".to_owned()))
            }
            Err(unexpected) => Err(self.distrust(unexpected.to_string())),
        }
    }

    /// One statement of a simple Query is complete.
    fn on_query_step(&mut self, tag: &[u8]) -> Result<Delivery, Ended> {
        let Some(mut lease) = self.lease.take() else { return Err(Ended) };
        let mut out = Ok(Delivery::Forward);
        match lease.front_mut() {
            Some(Cause::Prefixed { scopes, .. }) if *scopes > 0 => {
                *scopes -= 1;
                if *scopes == 0 {
                    self.on_scope_confirmed(&mut lease);
                }
                out = Ok(Delivery::Swallow);
            }
            Some(Cause::Single(facts)) => {
                let facts = std::sync::Arc::clone(facts);
                self.count_statement(true);
                if let Some(statement) = facts.statements.first() {
                    self.on_effect(&mut lease, statement, tag, false);
                    self.note_state_done(statement, false);
                }
            }
            Some(Cause::Plan(_)) => {
                self.lease = Some(lease);
                return self.on_plan_step(tag);
            }
            Some(Cause::Recovery) if tag == b"ROLLBACK" => {
                // What the client set in its transaction is gone with it: the server has what it had before.
                self.end_transaction(&mut lease, false);
                out = Ok(Delivery::Swallow);
            }
            Some(Cause::Inquiry(inquiry)) => {
                out = if inquiry.take(tag) { Ok(Delivery::Swallow) } else { Err("another tag than was asked for") };
            }
            Some(Cause::Standing(_)) if tag == b"SELECT 1" => out = Ok(Delivery::Swallow),
            Some(Cause::OwnBegin) if tag == b"BEGIN" => out = Ok(Delivery::Swallow),
            Some(Cause::OwnEnd(is_commit)) if (tag == b"COMMIT") == *is_commit => {
                let is_commit = *is_commit;
                lease.scope_mut().on_ended();
                self.end_transaction(&mut lease, is_commit);
                self.on_own_end(is_commit);
                out = Ok(Delivery::Swallow);
            }
            Some(Cause::Client | Cause::Prefixed { .. }) => self.count_statement(true),
            Some(_) | None => out = Err("CommandComplete for what must be refused"),
        }
        self.lease = Some(lease);
        out.map_err(|what| self.distrust(what.to_owned()))
    }

    fn on_plan_step(&mut self, tag: &[u8]) -> Result<Delivery, Ended> {
        let Some(mut lease) = self.lease.take() else { return Err(Ended) };
        let Some(Cause::Plan(plan)) = lease.front_mut() else { return Err(Ended) };
        let is_last = plan.is_at_last_step();
        let (statement, own_tag) = match plan.complete() {
            PlanStep::Own(confirms) => {
                if tag == b"DEALLOCATE" {
                    self.note_deallocated(1);
                }
                if confirms {
                    self.on_scope_confirmed(&mut lease);
                }
                self.lease = Some(lease);
                return Ok(Delivery::Swallow);
            }
            PlanStep::Client(statement, own_tag) => (statement.clone(), own_tag),
            PlanStep::Impossible => {
                self.lease = Some(lease);
                return Err(self.distrust("more answers than statements".to_owned()));
            }
        };
        self.count_statement(true);
        let is_warned = self.recorder.is_some() && self.warn_of_no_block(&statement.control);
        self.on_effect(&mut lease, &statement, tag, false);
        self.note_state_done(&statement, false);
        self.lease = Some(lease);
        if self.hold_end(tag) {
            return Ok(Delivery::Swallow);
        }
        if is_warned {
            backend::put_command_complete(&mut self.client_out, tag);
            return Ok(Delivery::Swallow);
        }
        if is_last && self.hold_complete(own_tag.map_or(tag, str::as_bytes)) {
            return Ok(Delivery::Swallow);
        }
        Ok(self.deliver_tag(own_tag))
    }

    fn deliver_tag(&mut self, tag: Option<&'static str>) -> Delivery {
        match tag {
            None => Delivery::Forward,
            Some(tag) => {
                backend::put_command_complete(&mut self.client_out, tag.as_bytes());
                Delivery::Swallow
            }
        }
    }

    /// A client's own statement has run: the tag that its Execute shows.
    fn on_statement_executed(
        &mut self,
        lease: &mut LeasedServer<Cause>,
        facts: &Facts,
        tag: &[u8],
        own_tag: Option<&'static str>,
    ) -> Delivery {
        self.count_statement(true);
        let mut is_warned = false;
        if let Some(statement) = facts.statements.first() {
            is_warned = self.recorder.is_some() && self.warn_of_no_block(&statement.control);
            self.on_effect(lease, statement, tag, true);
            self.note_state_done(statement, own_tag.is_some());
        }
        if self.hold_end(tag) {
            Delivery::Swallow
        } else if is_warned {
            backend::put_command_complete(&mut self.client_out, tag);
            Delivery::Swallow
        } else {
            self.deliver_tag(own_tag)
        }
    }

    /// An Execute is complete.
    fn on_executed(&mut self, cause: Cause, tag: &[u8]) -> Result<Delivery, Ended> {
        let Some(mut lease) = self.lease.take() else { return Err(Ended) };
        let delivery = match cause {
            // A portal that is not what it was taken for: the tenant that was sent is not the one that ran.
            Cause::Client if is_transaction_tag(tag) => Err("transaction control that was not asked for"),
            Cause::Client => {
                self.count_statement(true);
                Ok(Delivery::Forward)
            }
            Cause::Execute { facts, .. } if !facts.statements.first().is_some_and(|it| is_tag_of(&it.control, tag)) => {
                Err("another statement than was asked for")
            }
            Cause::Execute { facts, tag: own_tag, is_bare, .. } => {
                if is_bare && facts.only_claim().is_some_and(is_set_local) {
                    put_no_block(&mut self.client_out);
                }
                Ok(self.on_statement_executed(&mut lease, &facts, tag, own_tag))
            }
            Cause::Scope(confirms) => {
                if confirms {
                    self.on_scope_confirmed(&mut lease);
                }
                Ok(Delivery::Swallow)
            }
            Cause::Install(part) if part.tag() == Some(tag) => {
                if part == Part::Commit {
                    self.on_installed(&mut lease);
                }
                Ok(Delivery::Swallow)
            }
            Cause::Install(_) => Err("the proxy's own transaction was not done as asked"),
            Cause::Restore(false) => Ok(Delivery::Swallow),
            Cause::Restore(true) if tag == b"COMMIT" => {
                self.on_ended(&mut lease, true);
                Ok(Delivery::Swallow)
            }
            Cause::Restore(true) => Err("a DISCARD ALL that was not committed"),
            Cause::OwnBegin if tag == b"BEGIN" => Ok(Delivery::Swallow),
            Cause::OwnBegin => Err("a block that was not opened"),
            Cause::Standing(_) if tag == b"SELECT 1" => Ok(Delivery::Swallow),
            Cause::Standing(_) => Err("another answer than the transaction's id"),
            Cause::Named(_)
            | Cause::Bind(..)
            | Cause::BindNamed(_)
            | Cause::ClosePortal(_)
            | Cause::CloseStatement { .. }
            | Cause::Parse(_)
            | Cause::ParseKnown(_)
            | Cause::Single(_)
            | Cause::Prefixed { .. }
            | Cause::Plan(_)
            | Cause::Refused(_)
            | Cause::Reprepare(..)
            | Cause::ReprepareUnnamed
            | Cause::Evict(_)
            | Cause::OwnEnd(_)
            | Cause::Inquiry(_)
            | Cause::Recovery => Err("CommandComplete for something else than Execute"),
        };
        self.lease = Some(lease);
        delivery.map_err(|what| self.distrust(what.to_owned()))
    }

    /// A client's statement has succeeded: what that means for transaction and client state.
    /// `is_extended`: what it takes of the client's statements went when it was sent.
    fn on_effect(&mut self, lease: &mut LeasedServer<Cause>, statement: &Statement, tag: &[u8], is_extended: bool) {
        self.on_recorded_effect(&statement.control, tag);
        self.claims_done(lease, &statement.control, tag);
        match &statement.control {
            Control::Commit { .. } | Control::Rollback { .. } => {
                self.on_ended(lease, tag == b"COMMIT");
            }
            Control::Savepoint(name) => self.settings.savepoint(name),
            Control::Release(name) => self.settings.release(name),
            Control::RollbackTo(name) => self.settings.rollback_to(name),
            Control::Set { name, value, local: false } => {
                self.settings.record(Change::Set(name.clone(), value.clone()));
            }
            // A portal executed again has nothing more to run: SELECT 0.
            Control::Configure(list) if tag == b"SELECT 1" => self.record_configured(list),
            Control::Configure(_) => {}
            Control::SetCharacteristics(list) => {
                for (name, value) in list {
                    self.settings.record(Change::Set(name.clone(), value.clone()));
                }
            }
            Control::Reset { name, local: false } => self.settings.record(Change::Reset(name.clone())),
            Control::ResetAll
            | Control::DiscardAll
            | Control::DeallocateAll
            | Control::Deallocate(_)
            | Control::DiscardPlans
            | Control::DiscardSequences
            | Control::DiscardTemp
            | Control::UnlistenAll
            | Control::Unlisten(_)
            | Control::CloseAll
            | Control::AdvisoryUnlockAll => {
                if is_extended && matches!(statement.control, Control::DiscardAll) {
                    // Its statements went when it was sent.
                    self.settings.record(Change::ResetAll);
                } else if !(is_extended && deallocates(&statement.control)) {
                    self.apply_release(&statement.control);
                }
            }
            Control::None
            | Control::Begin
            | Control::SetTransaction
            | Control::Set { local: true, .. }
            | Control::Reset { local: true, .. }
            | Control::Claim(_)
            | Control::CloseCursor(_)
            | Control::Show(_) => {}
        }
    }

    /// An Execute of so many rows is done: it has had its only one, and its effect.
    fn on_suspended(&mut self, control: &Control) {
        if let Control::Configure(list) = control {
            self.record_configured(list);
        }
        if let Some(mut lease) = self.lease.take() {
            self.claims_done(&mut lease, control, b"SELECT 1");
            self.lease = Some(lease);
        }
    }

    /// `set_config` has run: as good as a SET.
    fn record_configured(&mut self, list: &[Configuration]) {
        for configuration in list.iter().filter(|configuration| !configuration.local) {
            if let ConfiguredValue::Text(value) = &configuration.value {
                self.settings.record(Change::Set(configuration.name.clone(), value.clone()));
            }
        }
    }

    /// A transaction has ended inside a segment or a Query.
    fn on_ended(&mut self, lease: &mut LeasedServer<Cause>, is_committed: bool) {
        #[cfg(feature = "mutants")]
        if self.rules.mutant == Some(super::Mutant::NoReinjectionAfterCommit) {
            return self.end_transaction(lease, is_committed);
        }
        lease.scope_mut().on_ended();
        self.transactions = self.transactions.wrapping_add(1);
        self.end_transaction(lease, is_committed);
    }

    fn end_transaction(&mut self, lease: &mut LeasedServer<Cause>, is_committed: bool) {
        #[cfg(feature = "mutants")]
        let is_committed = is_committed || self.rules.mutant == Some(super::Mutant::SettingsSurviveRollback);
        self.temporary.end(is_committed);
        self.defining.end();
        self.claims_over(is_committed);
        if !is_committed {
            self.settings.roll_back();
        } else if let Some(settings) = self.settings.commit(&lease.server().settings) {
            lease.server_mut().settings = settings;
        }
    }

    /// ReadyForQuery.
    fn on_ready(&mut self, body: &[u8]) -> Result<Delivery, Ended> {
        let Ok(status) = backend::read_ready(body) else {
            return Err(self.distrust("a malformed ReadyForQuery".to_owned()));
        };
        let Some(mut lease) = self.lease.take() else { return Err(Ended) };
        let received = lease.receive_ready(status);
        self.steps = self.steps.wrapping_add(1);
        if status == TransactionStatus::Idle {
            self.transactions = self.transactions.wrapping_add(1);
            let is_committed = !self.segment_failed;
            self.tally.add(Count::Transactions, u64::from(!matches!(received, Ok(Received::Ready(Cause::Inquiry(_))))));
            self.end_transaction(&mut lease, is_committed);
        }
        self.segment_failed = false;
        if lease.replies().is_empty() {
            self.control_in_flight = false;
            self.claims_settle();
            self.settle_prepared();
            if status == TransactionStatus::Idle {
                self.forget_unrecorded();
                self.settings.on_settled();
            }
        }
        self.lease = Some(lease);
        self.forget_cancel();
        match received {
            Ok(Received::Ready(Cause::Inquiry(inquiry))) => {
                self.on_inquired(&inquiry, status);
                Ok(Delivery::Swallow)
            }
            Ok(Received::Ready(cause)) if self.is_undoing_installation() => Ok(self.on_undone(&cause, status)),
            Ok(Received::Ready(Cause::Recovery)) => {
                self.conclude_rolled_back();
                Ok(Delivery::Swallow)
            }
            Ok(Received::Ready(cause)) if self.recorder.is_some() => {
                let delivery = self.on_recorded_ready(&cause, status);
                delivery.ok_or_else(|| self.distrust("a transaction block that was not asked for".to_owned()))
            }
            Ok(Received::Ready(_)) if self.tells_nothing() => Ok(Delivery::Forward),
            Ok(Received::Ready(_)) => {
                self.tell_parameters();
                backend::put_ready(&mut self.client_out, status);
                Ok(Delivery::Swallow)
            }
            Ok(
                Received::Asynchronous
                | Received::Partial
                | Received::Complete(_)
                | Received::Failed { .. }
                | Received::PartialFailed,
            ) => Err(self.distrust("ReadyForQuery".to_owned())),
            Err(unexpected) => Err(self.distrust(unexpected.to_string())),
        }
    }

    /// ParameterStatus. PostgreSQL reports right before ReadyForQuery, and so does the proxy: there the client
    /// is told what differs from what it was last told.
    fn on_parameter(&mut self, body: &[u8]) -> Result<Delivery, Ended> {
        let pair = backend::read_parameter_status(body)
            .ok()
            .and_then(|(name, value)| Some((std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?)));
        let Some((name, value)) = pair else {
            return Err(self.distrust("a malformed ParameterStatus".to_owned()));
        };
        let Some(lease) = self.lease.as_mut() else { return Err(Ended) };
        if !lease.server_mut().take_parameter(name, value) {
            let fault = Fault::of(Code::ServerProtocol).with_detail(format!("{name} changed on the server"));
            self.end_with(fault, DiscardReason::PinBroken, CloseReason::ServerFailed);
            return Err(Ended);
        }
        Ok(Delivery::Swallow)
    }

    /// A notice of an injected statement is not the client's.
    fn on_notice(&mut self) -> Delivery {
        if self.recorder.is_some() && self.is_about_own_block() {
            return Delivery::Swallow;
        }
        let front = self.lease.as_ref().and_then(|lease| lease.replies().front());
        // A Query is parsed as a whole, and the proxy's own SET LOCAL in front of it says nothing.
        let is_of_parsing = matches!(front, Some(Cause::Prefixed { .. } | Cause::Plan(_)));
        if front.is_some_and(Cause::is_own) && !is_of_parsing { Delivery::Swallow } else { Delivery::Forward }
    }

    /// ErrorResponse. One that the session's own cancel has made says so.
    fn on_error(&mut self, body: &[u8]) -> Result<Delivery, Ended> {
        self.steps = self.steps.wrapping_add(1);
        let Some(own) = self.own_words(Fields::new(body)) else { return self.attribute(body) };
        let delivery = self.attribute(&own)?;
        if delivery == Delivery::Forward {
            put_with_position(&mut self.client_out, &own, |_| None);
        }
        Ok(Delivery::Swallow)
    }

    /// An ErrorResponse, attributed by its cause.
    fn attribute(&mut self, body: &[u8]) -> Result<Delivery, Ended> {
        self.segment_failed = true;
        let fields = Fields::new(body);
        self.note_failure(fields.sqlstate());
        let Some(lease) = self.lease.as_mut() else { return Err(Ended) };
        // A server may end the connection behind an error, too: in place of its ReadyForQuery.
        if lease.replies().is_empty() || (fields.is_fatal() && lease.replies().has_front_failed()) {
            return self.on_unasked_error(fields);
        }
        match lease.receive(b'E') {
            Ok(Received::PartialFailed) => {
                let fails = |cause: &Cause| cause.fails_statement(fields.sqlstate());
                let is_statement = lease.replies().front().is_some_and(fails);
                let delivery = self.on_query_error(body, fields)?;
                self.count_statement(is_statement);
                Ok(delivery)
            }
            Ok(Received::Failed { cause, skipped }) => {
                let is_injected = matches!(cause, Cause::Scope(_) | Cause::OwnBegin);
                let has_query = skipped.iter().any(|cause| matches!(cause, Cause::Plan(_)));
                let has_call = skipped.iter().any(|cause| matches!(cause, Cause::Plan(plan) if plan.is_at_call()));
                let delivery = self.on_extended_error(&cause, body, fields)?;
                if is_injected && (has_call || (has_query && self.is_sealed())) {
                    self.close_skipped_query();
                }
                self.count_statement(cause.fails_statement(fields.sqlstate()));
                // Backwards, so that a name closed and prepared again is the old statement's again.
                skipped.into_iter().rev().for_each(|cause| self.undo(cause, false));
                self.undo(cause, true);
                Ok(delivery)
            }
            Ok(Received::Asynchronous | Received::Partial | Received::Complete(_) | Received::Ready(_)) => {
                Err(self.distrust("ErrorResponse".to_owned()))
            }
            Err(unexpected) => Err(self.distrust(unexpected.to_string())),
        }
    }

    /// The server ends the connection by itself (shutdown, time-out, termination): the client is told, unless it is
    /// between transactions and so has nothing to do with this server any more.
    fn on_unasked_error(&mut self, fields: Fields<'_>) -> Result<Delivery, Ended> {
        if !fields.is_fatal() {
            return Err(self.distrust("an ErrorResponse that answers nothing".to_owned()));
        }
        let Some(lease) = self.lease.as_mut() else { return Err(Ended) };
        lease.set_doubt(DiscardReason::ServerGone);
        if lease.is_quiet() && !self.rests_on_server() {
            return Ok(Delivery::Swallow);
        }
        self.server_said_goodbye = true;
        Ok(Delivery::Forward)
    }

    fn on_query_error(&mut self, body: &[u8], fields: Fields<'_>) -> Result<Delivery, Ended> {
        self.note_goodbye(fields);
        if self.recorder.is_some() {
            self.warn_of_failing_end();
        }
        let Some(lease) = self.lease.as_mut() else { return Err(Ended) };
        let sqlstate = fields.sqlstate();
        match lease.front_mut() {
            Some(Cause::Refused(refused)) if sqlstate == Some(refused.expected) => {
                let fault = refused.fault.clone();
                self.note_failure(Some(fault.sqlstate));
                backend::put_error(&mut self.client_out, &fault);
                Ok(Delivery::Swallow)
            }
            Some(Cause::Prefixed { scopes, prefix_chars }) => {
                let (is_own, shift) = (*scopes > 0, *prefix_chars);
                #[cfg(feature = "mutants")]
                let shift = if self.rules.mutant == Some(super::Mutant::PositionNotMoved) { 0 } else { shift };
                let moved = |position: u32| position.checked_sub(shift).filter(|moved| *moved > 0);
                if is_own && !is_of_clients_text(fields, moved) {
                    return self.on_scope_error(body, fields);
                }
                Ok(self.put_moved(body, moved))
            }
            Some(Cause::Plan(plan)) => {
                if let Some(fault) = plan.refusal_of(sqlstate) {
                    let fault = fault.clone();
                    self.note_failure(Some(fault.sqlstate));
                    backend::put_error(&mut self.client_out, &fault);
                    return Ok(Delivery::Swallow);
                }
                if plan.is_own_step() && !is_of_clients_text(fields, |position| plan.original_position(position)) {
                    return self.on_scope_error(body, fields);
                }
                let out = &mut self.client_out;
                put_with_position(out, body, |position| plan.original_position(position));
                Ok(Delivery::Swallow)
            }
            Some(Cause::OwnBegin) => self.on_scope_error(body, fields),
            // The client has its error; a cancel that comes late means nothing of its own.
            Some(Cause::Recovery | Cause::OwnEnd(false)) if !fields.is_fatal() => Ok(Delivery::Swallow),
            Some(Cause::Inquiry(_)) if !fields.is_fatal() => Ok(Delivery::Swallow),
            Some(_) => Ok(Delivery::Forward),
            None => Err(Ended),
        }
    }

    fn put_moved(&mut self, body: &[u8], map: impl Fn(u32) -> Option<u32>) -> Delivery {
        if Fields::new(body).find(b'P').is_none() {
            return Delivery::Forward;
        }
        put_with_position(&mut self.client_out, body, map);
        Delivery::Swallow
    }

    fn on_extended_error(&mut self, cause: &Cause, body: &[u8], fields: Fields<'_>) -> Result<Delivery, Ended> {
        self.note_goodbye(fields);
        self.note_change(cause, fields);
        match cause {
            Cause::Refused(refused) if fields.sqlstate() == Some(refused.expected) => {
                backend::put_error(&mut self.client_out, &refused.fault);
                self.note_failure(Some(refused.fault.sqlstate));
                Ok(Delivery::Swallow)
            }
            Cause::Scope(_) | Cause::OwnBegin => self.on_scope_error(body, fields),
            Cause::Install(part) => self.on_installation_failed(*part, body, fields),
            Cause::Named(name) | Cause::Bind(Some(name), _) => Ok(self.put_named(name, body, fields)),
            Cause::BindNamed(note) => match &note.statement {
                Some(name) => Ok(self.put_named(name, body, fields)),
                None => Ok(Delivery::Forward),
            },
            Cause::Client
            | Cause::Bind(None, _)
            | Cause::ClosePortal(_)
            | Cause::CloseStatement { .. }
            | Cause::Parse(_)
            | Cause::ParseKnown(_)
            | Cause::Execute { .. }
            | Cause::Single(_)
            | Cause::Prefixed { .. }
            | Cause::Plan(_)
            | Cause::Refused(_)
            | Cause::Reprepare(..)
            | Cause::ReprepareUnnamed
            | Cause::Evict(_)
            | Cause::Restore(_)
            | Cause::OwnEnd(_)
            | Cause::Standing(_)
            | Cause::Inquiry(_)
            | Cause::Recovery => Ok(Delivery::Forward),
        }
    }

    /// The schema has changed under a statement that was prepared before: it is prepared again where it is used next.
    fn note_change(&mut self, cause: &Cause, fields: Fields<'_>) {
        let name: &[u8] = match cause {
            Cause::Named(name) | Cause::Bind(Some(name), _) => name,
            Cause::BindNamed(note) => note.statement.as_deref().unwrap_or_default(),
            Cause::Client | Cause::Bind(None, _) | Cause::Execute { .. } => b"",
            Cause::ClosePortal(_)
            | Cause::CloseStatement { .. }
            | Cause::Parse(_)
            | Cause::ParseKnown(_)
            | Cause::Single(_)
            | Cause::Prefixed { .. }
            | Cause::Plan(_)
            | Cause::Refused(_)
            | Cause::Scope(_)
            | Cause::Reprepare(..)
            | Cause::ReprepareUnnamed
            | Cause::Evict(_)
            | Cause::Install(_)
            | Cause::Restore(_)
            | Cause::OwnBegin
            | Cause::OwnEnd(_)
            | Cause::Standing(_)
            | Cause::Inquiry(_)
            | Cause::Recovery => return,
        };
        let (Some(change), Some(statement)) = (schema_change(fields), self.statements.find(name)) else { return };
        // Names that mean something else to this client alone, by its search_path or its temporary tables, say nothing
        // about the schema: every client with this text would be told to prepare it anew.
        if self.shared_context().is_none_or(|context| context != statement.key.context()) {
            return;
        }
        let Some(lease) = self.lease.as_mut() else { return };
        lease.server().statements.outdated().note(&statement.key, change);
        if name.is_empty() {
            lease.server_mut().statements.set_unnamed(None);
        }
    }

    /// An error that may tell a statement's name on the server.
    fn put_named(&mut self, name: &[u8], body: &[u8], fields: Fields<'_>) -> Delivery {
        if !fields.sqlstate().is_some_and(|state| matches!(&state.0, b"26000" | b"08P01")) {
            return Delivery::Forward;
        }
        put_with_message(&mut self.client_out, body, |message| with_clients_name(message, name));
        Delivery::Swallow
    }

    /// The injection failed. A cancel or time-out meant the client's statement and came early; in a failed
    /// block the statement would have failed the same way; anything else means that the scope is in doubt.
    fn on_scope_error(&mut self, body: &[u8], fields: Fields<'_>) -> Result<Delivery, Ended> {
        let is_clients =
            fields.sqlstate().is_some_and(|state| state == SqlState::QUERY_CANCELED || state.0 == *b"25P02");
        if is_clients || fields.is_fatal() {
            put_with_position(&mut self.client_out, body, |_| None);
            return Ok(Delivery::Swallow);
        }
        let said = String::from_utf8_lossy(fields.find(b'M').unwrap_or_default()).into_owned();
        let fault = Fault::of(Code::ScopeFailed).with_detail(format!("The server said: {said}"));
        self.end_with(fault, DiscardReason::ScopeUnconfirmed, CloseReason::ServerFailed);
        Err(Ended)
    }

    pub(super) fn note_goodbye(&mut self, fields: Fields<'_>) {
        if fields.is_fatal() {
            self.server_said_goodbye = true;
            if let Some(lease) = self.lease.as_mut() {
                lease.set_doubt(DiscardReason::ServerGone);
            }
        }
    }

    /// What a message changed in advance and was not done. `was_run`: the message itself failed, it was not
    /// only skipped.
    pub(super) fn undo(&mut self, cause: Cause, was_run: bool) {
        let Some(lease) = self.lease.as_mut() else { return };
        let Server { statements, preparing, .. } = lease.server_mut();
        match cause {
            Cause::Parse(note) => {
                let ParseNote { name, serial, placed, replaced, replaced_on_server } = *note;
                match placed {
                    Some((key, number)) => {
                        preparing.end(Some(number));
                        statements.forget(&key, number);
                    }
                    // PostgreSQL drops the unnamed statement before it looks at the new one.
                    None if was_run => statements.set_unnamed(None),
                    None => {
                        if let Some(replaced) = replaced_on_server {
                            statements.restore_unnamed(replaced);
                        }
                    }
                }
                self.forget_parse(&name, serial, replaced.filter(|_| !was_run));
            }
            Cause::ParseKnown(note) => self.forget_parse(&note.name, note.serial, None),
            Cause::CloseStatement { serial, closed } => {
                self.statements.end(serial);
                if let Some(closed) = closed {
                    self.statements.restore(*closed);
                }
            }
            Cause::Bind(_, serial) => self.portals.unbind(b"", serial, false),
            Cause::BindNamed(note) => self.portals.unbind(&note.portal, note.serial, note.replaced),
            Cause::ClosePortal(closed) => {
                let (name, portal) = *closed;
                self.portals.restore(&name, portal);
            }
            Cause::Refused(refused) => {
                if let Some(dropped) = refused.dropped.filter(|_| !was_run) {
                    self.statements.restore(dropped);
                }
            }
            Cause::Execute { deallocated, .. } => {
                deallocated.into_iter().for_each(|statement| self.statements.restore(statement));
            }
            Cause::Reprepare(key, number) => {
                preparing.end(Some(number));
                statements.forget(&key, number);
            }
            Cause::ReprepareUnnamed => {
                preparing.end(None);
                statements.set_unnamed(None);
            }
            Cause::Restore(_) | Cause::Standing(_) => statements.set_unnamed(None),
            Cause::Evict(number) => statements.note_unclosed(number),
            Cause::Client
            | Cause::Named(_)
            | Cause::Single(_)
            | Cause::Prefixed { .. }
            | Cause::Plan(_)
            | Cause::Scope(_)
            | Cause::Install(_)
            | Cause::OwnBegin
            | Cause::OwnEnd(_)
            | Cause::Inquiry(_)
            | Cause::Recovery => {}
        }
    }

    fn forget_parse(&mut self, name: &[u8], serial: u64, replaced: Option<ClientStatement>) {
        self.statements.end(serial);
        #[cfg(feature = "mutants")]
        if self.rules.mutant == Some(super::Mutant::SkippedParseKept) {
            return;
        }
        self.statements.forget(name, serial);
        if let Some(replaced) = replaced {
            self.statements.restore(replaced);
        }
    }

    /// Between bursts of replies: a COPY that is over, a server that has come to rest.
    fn after_replies(&mut self) {
        let Some(lease) = &self.lease else { return };
        if self.copy != CopyIn::None && !lease.replies().owes_statement() {
            self.copy = CopyIn::None;
        }
        // The message that asked whether the server may stay is about to be sent.
        let is_held = self.record_holds_server() || self.waiting == Waiting::Pin;
        // What is dropped is not the server's.
        let is_half_said = matches!(self.client_passing, Passing::Forward(_));
        let may_check_in = lease.is_quiet() && !is_half_said && self.copy == CopyIn::None && !is_held;
        #[cfg(feature = "mutants")]
        let may_check_in = may_check_in
            || self.copy == CopyIn::None
                && super::mutant::checks_in(self.rules.mutant, lease, self.client_passing != Passing::Nothing);
        if may_check_in && self.server_passing == Passing::Nothing {
            self.check_in();
        }
    }
}

/// What an error says about the schema that a statement was prepared under. The first is told by the function that
/// raises it, which no client can name.
fn schema_change(fields: Fields<'_>) -> Option<SchemaChange> {
    let (routine, said) = (fields.find(b'R').unwrap_or_default(), fields.find(b'M').unwrap_or_default());
    match &fields.sqlstate()?.0 {
        b"0A000" if routine == b"RevalidateCachedQuery" => Some(SchemaChange::Result),
        b"XX000" if said.starts_with(b"cache lookup failed") => Some(SchemaChange::Parts),
        b"42704" if said.starts_with(b"type with OID") => Some(SchemaChange::Parts),
        _ => None,
    }
}

/// Whether a command tag is one of transaction control.
fn is_transaction_tag(tag: &[u8]) -> bool {
    matches!(tag, b"BEGIN" | b"START TRANSACTION" | b"COMMIT" | b"ROLLBACK")
}

/// Whether a statement whose effect is followed may have this command tag.
fn is_tag_of(control: &Control, tag: &[u8]) -> bool {
    match control {
        Control::Commit { .. } | Control::Rollback { .. } => matches!(tag, b"COMMIT" | b"ROLLBACK"),
        Control::Begin => matches!(tag, b"BEGIN" | b"START TRANSACTION"),
        Control::Set { .. } | Control::SetCharacteristics(_) => tag == b"SET",
        Control::Reset { .. } => matches!(tag, b"SET" | b"RESET"),
        Control::Configure(_) => matches!(tag, b"SELECT 0" | b"SELECT 1"),
        Control::Claim(_) => matches!(tag, b"SET" | b"UNLISTEN" | b"SELECT 0" | b"SELECT 1"),
        Control::RollbackTo(_) => tag == b"ROLLBACK",
        Control::Savepoint(_) => tag == b"SAVEPOINT",
        Control::Release(_) => tag == b"RELEASE",
        Control::None
        | Control::SetTransaction
        | Control::ResetAll
        | Control::DiscardAll
        | Control::DiscardPlans
        | Control::DiscardSequences
        | Control::DiscardTemp
        | Control::UnlistenAll
        | Control::Unlisten(_)
        | Control::CloseAll
        | Control::CloseCursor(_)
        | Control::DeallocateAll
        | Control::Deallocate(_)
        | Control::AdvisoryUnlockAll
        | Control::Show(_) => !is_transaction_tag(tag),
    }
}

/// Whether a claim is a `SET LOCAL`, of which PostgreSQL warns outside of transaction blocks.
fn is_set_local(claim: &Claim) -> bool {
    claim.form == ClaimForm::Set && claim.span == ClaimSpan::Transaction
}

/// Whether a statement only takes prepared statements away, which an Execute has done when it was sent.
const fn deallocates(control: &Control) -> bool {
    matches!(control, Control::DeallocateAll | Control::Deallocate(_))
}

/// Messages whose body is never looked at and may be long.
const fn is_bulk(tag: u8) -> bool {
    matches!(tag, b'D' | b'd' | b'T' | b't' | b'V')
}

/// Whether an error in front of everything that a Query does is about the client's part of its text: PostgreSQL reads the
/// whole text before it runs any of it, and an older one does not know what the proxy's parser knows. What the proxy's
/// own statements meet when they run has no position there.
fn is_of_clients_text(fields: Fields<'_>, map: impl Fn(u32) -> Option<u32>) -> bool {
    let position = fields.find(b'P').and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
    position.and_then(map).is_some()
}

/// An ErrorResponse with its position mapped, or without one.
pub(super) fn put_with_position(out: &mut BytesMut, body: &[u8], map: impl Fn(u32) -> Option<u32>) {
    put_mapped(out, body, b'P', |value| {
        let position = std::str::from_utf8(value).ok().and_then(|value| value.parse().ok());
        Some(position.and_then(&map)?.to_string().into_bytes())
    });
}

/// An ErrorResponse with another message.
fn put_with_message(out: &mut BytesMut, body: &[u8], map: impl Fn(&[u8]) -> Vec<u8>) {
    put_mapped(out, body, b'M', |value| Some(map(value)));
}

fn put_mapped(out: &mut BytesMut, body: &[u8], mapped: u8, map: impl Fn(&[u8]) -> Option<Vec<u8>>) {
    put_message(out, b'E', |out| {
        for (kind, value) in Fields::new(body).iter() {
            let own = if kind == mapped { map(value) } else { Some(value.to_vec()) };
            let Some(own) = own else { continue };
            out.put_u8(kind);
            out.put_slice(&own);
            out.put_u8(0);
        }
        out.put_u8(0);
    });
}

/// The message with the client's name of a statement in place of the server's (`"tg12"`).
fn with_clients_name(message: &[u8], name: &[u8]) -> Vec<u8> {
    let starts = message.windows(3).enumerate().filter(|(_, window)| *window == b"\"tg").map(|(at, _)| at);
    for at in starts {
        let behind = message.get(at + 3..).unwrap_or_default();
        let digits = behind.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits > 0 && behind.get(digits) == Some(&b'"') {
            let front = message.get(..=at).unwrap_or_default();
            return [front, name, behind.get(digits..).unwrap_or_default()].concat();
        }
    }
    message.to_vec()
}
