//! The client's messages of the extended protocol: Parse, Bind, Describe, Execute, Close.
//!
//! A client's statement names are its own; on a server a statement is known by its text, types and
//! parse-time settings, prepared where it is missing, in front of what needs it and in the same packet.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::cause::{BindNote, Cause, ParseNote};
use super::claims::{Claims, injection_in};
use super::configure;
use super::query::{follow, is_followed};
use super::recording::{Bound, Readiness, changes_said};
use super::release::{self, Substitute};
use super::requests::BIND_WHOLE_BYTES_MAX;
use super::settings::adds_to_journal;
use super::statements::{ClientStatement, ClientStatements, Portal};
use super::{CopyIn, Passing, Session};
use crate::fault::{Code, Fault};
use crate::guard::{Control, Facts, Statement};
use crate::metrics::Count;
use crate::scope::{LeasedServer, NeedsNoScope, Part, ScopedFrame, commit};
use crate::upstream::outdated::{Change, Epoch};
use crate::upstream::{Expect, StatementKey, StatementNumber};
use crate::wire::frame::{HEAD_BYTES, Head};
use crate::wire::frontend::{self, BindNames, Parse, Target};
use crate::wire::limits::NAME_BYTES_MAX;
use crate::wire::{TransactionStatus, backend};

/// How the context of a key begins that nobody else's equals.
const PRIVATE: &str = "private ";

impl Session {
    pub(super) fn on_parse(&mut self, frame: &[u8], body: &[u8]) -> Option<bool> {
        let parse = match Parse::read(body) {
            Ok(parse) => parse,
            Err(fault) => return self.violate(fault.to_string()).map(|_| true),
        };
        if parse.sql.len() > self.text_bytes_max() {
            return Some(self.refuse_parse(self.too_long(parse.sql.len())));
        }
        if self.statements.is_in_doubt(parse.name, self.segment) {
            // Whether the name is taken is decided by an answer that has not come.
            return Some(false);
        }
        let Some(inspected) = self.inspect(parse.sql) else { return Some(false) };
        let judged = self.judge(&inspected);
        let facts = match judged {
            Ok(facts) => facts,
            Err(fault) => return Some(self.refuse_named_parse(parse.name, fault)),
        };
        if self.lease.is_none() && only(&facts).is_some_and(|statement| is_transaction_control(&statement.control)) {
            return Some(self.keep_parse(parse, &facts));
        }
        let is_sent = self.ensure_lease() && self.send_parse(frame, parse, &facts);
        if !is_sent {
            self.inspected = Some((Bytes::copy_from_slice(parse.sql), inspected));
        }
        Some(is_sent)
    }

    /// A Parse of transaction control needs no server: its grammar is all there is to it, and that has been
    /// read. A client that prepares BEGIN and waits for the answer, while others of its thread hold all
    /// servers, would else wait for ever.
    fn keep_parse(&mut self, parse: Parse<'_>, facts: &Arc<Facts>) -> bool {
        if !parse.name.is_empty() && self.statements.find(parse.name).is_some() {
            return self.refuse_parse(release::duplicate_statement(parse.name));
        }
        if parse.name.len() > NAME_BYTES_MAX || !self.statements.has_room(parse.name, parse.sql.len()) {
            return self.refuse_parse(Fault::of(Code::TooManyNames));
        }
        let key = self.key(parse.sql, parse.types);
        let serial = self.statements.begin(parse.name, self.segment);
        self.statements.end(serial);
        let name = parse.name.into();
        // Nothing in a schema concerns it.
        let epoch = Epoch::NEVER;
        self.statements.insert(ClientStatement {
            name,
            key,
            facts: Arc::clone(facts),
            serial,
            keyed: serial,
            epoch,
            tag: None,
        });
        self.tally.add(Count::ClientParses, 1);
        backend::put_parse_complete(&mut self.client_out);
        true
    }

    /// Sends an allowed Parse, or an answer in its place where the server has the statement; `false` if it has to wait.
    fn send_parse(&mut self, frame: &[u8], parse: Parse<'_>, facts: &Arc<Facts>) -> bool {
        if parse.name.len() > NAME_BYTES_MAX || !self.statements.has_room(parse.name, parse.sql.len()) {
            return self.refuse_parse(Fault::of(Code::TooManyNames));
        }
        let stand_in = only(facts).and_then(|statement| {
            let text = std::str::from_utf8(parse.sql).unwrap_or_default();
            if self.is_sql_prepared(&statement.control) {
                return None;
            }
            release::substitute(&statement.control, text, &self.settings, self.keeps_state())
        });
        let (sql, tag, is_rewritten) = match &stand_in {
            Some(Substitute { sql, tag }) => (sql.as_bytes(), *tag, true),
            None => (parse.sql, None, false),
        };
        let key = self.key(sql, parse.types);
        if !parse.name.is_empty() && self.is_preparing(&key, false) {
            return false;
        }
        if !parse.name.is_empty() && self.statements.find(parse.name).is_some() {
            return self.refuse_duplicate(parse.name, &key, facts);
        }
        let serial = self.statements.begin(parse.name, self.segment);
        let Some(lease) = self.lease.as_mut() else { return false };
        let known = &mut lease.server_mut().statements;
        let epoch = known.outdated().now();
        let (name, key) = (parse.name.into(), known.shared(key));
        let statement = ClientStatement { name, key, facts: Arc::clone(facts), serial, keyed: serial, epoch, tag };
        self.scope_lookup(facts);
        let Some(lease) = self.lease.as_mut() else { return false };
        if parse.name.is_empty() {
            let replaced = self.statements.remove(b"");
            send_unnamed_parse(lease, &statement, (!is_rewritten).then_some(frame), replaced);
        } else {
            send_named_parse(lease, &statement);
        }
        self.tally.add(Count::ClientParses, 1);
        self.statements.insert(statement);
        true
    }

    /// The statement as this server has it or can have it. Where it has to be prepared again after the client has changed
    /// what texts are read under, it is another statement than the one of before: under that one's key, others would
    /// take it for theirs.
    fn as_here(&mut self, mut statement: ClientStatement) -> ClientStatement {
        let Some(lease) = self.lease.as_mut() else { return statement };
        // A server that has had a temporary table before, of somebody else's, would not look names up anew.
        let is_stale = self.temporary.is_behind(statement.keyed) && lease.may_have_temporary();
        let known = &mut lease.server_mut().statements;
        let is_here = match statement.name.is_empty() {
            true => known.unnamed_is(&statement.key),
            false => known.find(&statement.key).is_some(),
        };
        let is_same = || self.shared_context().is_some_and(|context| context == statement.key.context());
        if !is_stale && (is_here || is_same()) {
            return statement;
        }
        statement.key = self.key(statement.key.sql(), statement.key.types());
        self.statements.rekey(&statement.name, statement.serial, &statement.key);
        statement
    }

    /// Under which a statement prepared now is the same as others'. None is where the client may have temporary objects:
    /// PostgreSQL looks among them first, and the types that it then gives to parameters outlive them.
    pub(super) fn shared_context(&self) -> Option<&Arc<str>> {
        let has_temporary = self.lease.as_ref().is_some_and(LeasedServer::may_have_temporary);
        self.settings.parse_context().filter(|_| !has_temporary)
    }

    /// What makes a statement the same on a server.
    fn key(&mut self, sql: &[u8], types: &[u8]) -> Arc<StatementKey> {
        let definitions =
            self.lease.as_ref().map_or(0, |lease| lease.server().statements.outdated().definitions().count());
        let key = StatementKey::new(sql, types, self.statement_context()).behind(definitions);
        #[cfg(feature = "mutants")]
        let key = super::mutant::key(self.rules.mutant, key);
        Arc::new(key)
    }

    /// Whether it is not known yet if the server has the statement.
    fn is_preparing(&mut self, key: &Arc<StatementKey>, is_unnamed: bool) -> bool {
        let Some(lease) = self.lease.as_mut() else { return false };
        let server = lease.server_mut();
        let number = if is_unnamed { None } else { server.statements.find(key) };
        (is_unnamed || number.is_some()) && server.preparing.is_in_doubt(number)
    }

    /// What divides equal texts: parse-time settings; and everything, while this transaction has changed one or the client
    /// may have temporary objects.
    fn statement_context(&mut self) -> Arc<str> {
        if let Some(context) = self.shared_context() {
            return Arc::clone(context);
        }
        self.serial_salt = self.serial_salt.wrapping_add(1);
        // A server's number and how often it was leased name this lease among all: nobody else's text is equal.
        let (id, leases) = self.lease.as_ref().map_or((0, 0), |lease| (lease.server().id.0, lease.server().leases));
        format!("{PRIVATE}{id} {leases} {}", self.serial_salt).into()
    }

    /// PostgreSQL looks at the statement first and at its name last: the statement is prepared under a name
    /// of the server's, where its own error may come, and then the name is refused.
    fn refuse_duplicate(&mut self, name: &[u8], key: &Arc<StatementKey>, facts: &Facts) -> bool {
        if let Some(lease) = self.lease.as_mut() {
            prepare_named(lease, key);
        }
        let fault = release::duplicate_statement(name);
        let is_fit_for_failed = facts.statements.is_empty() || only(facts).is_some_and(release::ends_failed_block);
        if is_fit_for_failed { self.refuse_parse(fault) } else { self.refuse_working_parse(fault) }
    }

    pub(super) fn take_bind(&mut self, head: Head, rest: &[u8]) -> Option<usize> {
        let frame = rest.get(..head.frame_bytes());
        if frame.is_none() && head.frame_bytes() <= BIND_WHOLE_BYTES_MAX {
            return None;
        }
        let front = rest.get(HEAD_BYTES..head.frame_bytes().min(rest.len())).unwrap_or_default();
        let names = match BindNames::read(front) {
            Ok(names) => names,
            Err(_) if frame.is_none() && front.len() <= 2 * NAME_BYTES_MAX + 2 => return None,
            Err(fault) => return self.violate(fault.to_string()),
        };
        if self.copy == CopyIn::Active {
            return self.violate("Bind during COPY FROM STDIN".to_owned());
        }
        if !self.on_bind(head, front, names) {
            return None;
        }
        if self.is_closed() {
            return None;
        }
        let used = HEAD_BYTES + front.len();
        let left = head.frame_bytes().saturating_sub(used);
        // A Bind that was refused is replaced as a whole; one that was sent goes on as it comes.
        self.client_passing = match (left, self.bind_goes_on) {
            (0, _) => Passing::Nothing,
            (left, true) => Passing::Forward(left),
            (left, false) => Passing::Drop(left),
        };
        Some(used)
    }

    /// Takes a Bind whose names are there; `false` while a server has to be waited for.
    fn on_bind(&mut self, head: Head, front: &[u8], names: BindNames<'_>) -> bool {
        self.bind_goes_on = false;
        if self.statements.is_in_doubt(names.statement, self.segment) {
            return false;
        }
        let Some(statement) = self.statements.find(names.statement).cloned() else {
            let fault = release::unknown_statement(names.statement);
            return self.refuse_bind(fault);
        };
        let values = front.get(names.prefix_bytes..).filter(|_| front.len() == head.body_bytes);
        let facts = match configure::facts_as_bound(&statement, values) {
            Ok(facts) => facts,
            Err(fault) => return self.refuse_bind(*fault),
        };
        if let Err(fault) = self.vet_claims(&facts) {
            return self.refuse_bind(fault);
        }
        // Facts are of the text; the policy may have changed since the Parse.
        self.note_judged(&facts);
        match self.weigh(&facts) {
            Ok(observed) => self.count_observed(observed, statement.key.sql()),
            Err(fault) => return self.refuse_bind(fault),
        }
        if !names.portal.is_empty() && (!self.portals.has_room() || names.portal.len() > NAME_BYTES_MAX) {
            return self.refuse_bind(Fault::of(Code::TooManyNames));
        }
        if names.portal.starts_with(OWN_PORTALS) {
            let detail = "Portals whose names begin with \"tg_\" are the proxy's own.";
            return self.refuse_bind(Fault::of(Code::StatementRefused).with_detail(detail));
        }
        if let Some(fault) = self.lacks_claim(&facts.statements) {
            return self.refuse_bind(fault);
        }
        if !self.ensure_lease() {
            return false;
        }
        if facts.only_claim().is_none() {
            match self.ready_for_claims(&facts.statements) {
                Readiness::Ready => {}
                Readiness::Held => return false,
                Readiness::Refused(fault) => return self.refuse_bind(fault),
            }
        }
        if let Some(fault) = self.change_under(&statement) {
            return self.refuse_bind(fault);
        }
        let statement = self.as_here(ClientStatement { facts, ..statement });
        if self.is_preparing(&statement.key, statement.name.is_empty()) {
            return false;
        }
        match self.ready_for_state(&statement.facts.statements) {
            Readiness::Ready => {}
            Readiness::Held => return false,
            Readiness::Refused(fault) => return self.refuse_bind(fault),
        }
        // How much of a longer one is there already is chance.
        let bound = values.filter(|_| head.frame_bytes() <= BIND_WHOLE_BYTES_MAX).map_or(Bound::Unread, Bound::Values);
        match self.ready_for_bind(&statement, bound) {
            Readiness::Ready => {}
            Readiness::Held => return false,
            Readiness::Refused(fault) => return self.refuse_bind(fault),
        }
        self.send_bind(head, front, names, &statement);
        true
    }

    /// PostgreSQL's own error where the statement would return other columns than the client was told when it prepared it:
    /// until it prepares it anew, as there.
    fn change_under(&mut self, statement: &ClientStatement) -> Option<Fault> {
        let lease = self.lease.as_ref()?;
        let outdated = lease.server().statements.outdated();
        let now = outdated.now();
        // In a failed block the server refuses all by itself.
        if statement.epoch >= now || lease.scope().predicted() == TransactionStatus::Failed {
            return None;
        }
        match outdated.change_since(&statement.key, statement.epoch) {
            Some(Change::Result) => Some(release::result_type_changed()),
            Some(Change::Parts) | None => {
                self.statements.renew(&statement.name, now);
                None
            }
        }
    }

    /// With a schema per tenant a text's names are looked up by what is injected: it stands in front of a Parse, too.
    fn scope_lookup(&mut self, facts: &Facts) {
        if !self.injection().is_looked_up_by() || !self.needs_scope(facts) || self.runs_without_block() {
            return;
        }
        // In front of one that runs only outside of transactions nothing may stand.
        let is_fit = facts.statements.iter().all(|statement| !statement.outside_block);
        let keep_portal = self.portals.has_unnamed();
        let needs_injection = self.needs_injection();
        if let Some(lease) = self.lease.as_mut().filter(|_| is_fit && needs_injection) {
            inject(lease, &self.rules, self.claims.as_deref_mut(), keep_portal);
        }
    }

    fn send_bind(&mut self, head: Head, front: &[u8], names: BindNames<'_>, statement: &ClientStatement) {
        let needs_scope =
            self.needs_scope(&statement.facts) && !self.runs_without_block() && !self.is_bare(&statement.facts);
        self.scope_lookup(&statement.facts);
        #[cfg(feature = "mutants")]
        if let Some(lease) = self.lease.as_mut() {
            super::mutant::before_bind(&self.rules, lease, statement);
        }
        let needs_injection = needs_scope && self.needs_injection();
        let Some(lease) = self.lease.as_mut() else { return };
        prepare_again(lease, statement);
        if needs_injection {
            let keep_portal = !names.portal.is_empty() && self.portals.has_unnamed();
            inject(lease, &self.rules, self.claims.as_deref_mut(), keep_portal);
        }
        let mut start = BytesMut::with_capacity(64);
        let values = front.get(names.prefix_bytes..).unwrap_or_default();
        let number = lease.server_mut().statements.find(&statement.key).filter(|_| !statement.name.is_empty());
        let name = number.map(|number| number.name());
        let server_name = name.as_ref().map_or(&b""[..], |name| name.as_bytes());
        let body_bytes = head.body_bytes - names.prefix_bytes + names.portal.len() + server_name.len() + 2;
        start.put_u8(b'B');
        start.put_u32(u32::try_from(body_bytes + 4).unwrap_or(u32::MAX));
        frontend::put_cstr(&mut start, names.portal);
        frontend::put_cstr(&mut start, server_name);
        let parts = [&start[..], values, b""];
        let frame = if needs_scope {
            ScopedFrame::scoped(lease.scope(), parts, Expect::Bind)
        } else {
            Some(ScopedFrame::unscoped(NeedsNoScope::Statement, parts, Some(Expect::Bind)))
        };
        let Some(frame) = frame else {
            self.end_with(
                Fault::of(Code::Internal),
                crate::scope::DiscardReason::ScopeUnconfirmed,
                super::CloseReason::ServerFailed,
            );
            return;
        };
        let serial = self.portals.next_serial();
        let portal =
            Portal { facts: Arc::clone(&statement.facts), tag: statement.tag, key: Arc::clone(&statement.key), serial };
        let replaced = self.portals.insert(names.portal, portal);
        let known_as = (!statement.name.is_empty()).then(|| Arc::clone(&statement.name));
        let cause = if names.portal.is_empty() {
            Cause::Bind(known_as, serial)
        } else {
            Cause::BindNamed(Box::new(BindNote { statement: known_as, portal: names.portal.into(), serial, replaced }))
        };
        drop(lease.send(frame, cause));
        self.note_state_sent(&statement.facts.statements);
        self.note_definitions_sent(&statement.facts.statements);
        self.tally.add(Count::Binds, 1);
        self.bind_goes_on = true;
    }

    /// Whether a statement that needs scope needs something in front of it.
    fn needs_injection(&self) -> bool {
        let Some(lease) = &self.lease else { return false };
        let lacks_tenant = self.claims.as_ref().is_some_and(|claims| claims.needs_injection(lease.scope()));
        lease.scope().needs_injection() || lacks_tenant
    }

    /// A SAVEPOINT of nobody's transaction: there is nothing yet that ROLLBACK TO could take away.
    fn is_bare(&self, facts: &Facts) -> bool {
        let is_savepoint = matches!(&*facts.statements, [Statement { control: Control::Savepoint(_), .. }]);
        is_savepoint && self.injection().is_vacant()
    }

    pub(super) fn needs_scope(&self, facts: &Facts) -> bool {
        #[cfg(feature = "mutants")]
        if super::mutant::needs_scope(self.rules.mutant, facts) {
            return true;
        }
        facts.statements.iter().any(|statement| self.rules.policy.needs_scope(statement))
    }

    pub(super) fn on_describe(&mut self, frame: &[u8], body: &[u8]) -> Option<bool> {
        let (target, name) = match frontend::read_target(body) {
            Ok(target) => target,
            Err(fault) => return self.violate(fault.to_string()).map(|_| true),
        };
        Some(match target {
            Target::Statement => self.describe_statement(name),
            Target::Portal => self.describe_portal(frame, name),
        })
    }

    fn describe_statement(&mut self, name: &[u8]) -> bool {
        if self.statements.is_in_doubt(name, self.segment) {
            return false;
        }
        let Some(statement) = self.statements.find(name).cloned() else {
            let fault = release::unknown_statement(name);
            return self.refuse_bind(fault);
        };
        if !self.ensure_lease() {
            return false;
        }
        if let Some(fault) = self.change_under(&statement) {
            return self.refuse_bind(fault);
        }
        let statement = self.as_here(statement);
        if self.is_preparing(&statement.key, statement.name.is_empty()) {
            return false;
        }
        self.scope_lookup(&statement.facts);
        let Some(lease) = self.lease.as_mut() else { return false };
        prepare_again(lease, &statement);
        let number = lease.server_mut().statements.find(&statement.key).filter(|_| !name.is_empty());
        let server_name = number.map(|number| number.name());
        let mut bytes = BytesMut::with_capacity(32);
        let server_name = server_name.as_ref().map_or(&b""[..], |name| name.as_bytes());
        frontend::put_describe(&mut bytes, Target::Statement, server_name);
        let frame = ScopedFrame::unscoped(NeedsNoScope::Preparation, [&bytes, b"", b""], Some(Expect::Describe));
        let cause = if name.is_empty() { Cause::Client } else { Cause::Named(statement.name) };
        drop(lease.send(frame, cause));
        true
    }

    fn describe_portal(&mut self, frame: &[u8], name: &[u8]) -> bool {
        if !self.may_use_portal(name) {
            let fault = release::unknown_portal(name);
            return self.refuse_bind(fault);
        }
        let Some(lease) = self.lease.as_mut() else { return false };
        let frame = ScopedFrame::unscoped(NeedsNoScope::Preparation, [frame, b"", b""], Some(Expect::Describe));
        drop(lease.send(frame, Cause::Client));
        true
    }

    /// A portal is the client's own Bind's, or a cursor declared in a transaction that has its tenant.
    /// (PostgreSQL 18.6 crashes on Execute of an unnamed portal that a failed simple Query left behind.)
    fn may_use_portal(&self, name: &[u8]) -> bool {
        let is_cursor_possible = !name.is_empty()
            && !self.portals.is_doubtful()
            && self.lease.as_ref().is_some_and(|lease| {
                // From 18 on a cursor may also be declared behind another Execute.
                let is_in_block = lease.scope().predicted() != TransactionStatus::Idle || self.has_executed;
                lease.scope().may_send_scoped() && is_in_block
            });
        self.portals.find(name).is_some() || is_cursor_possible
    }

    pub(super) fn on_execute(&mut self, frame: &[u8], body: &[u8]) -> Option<bool> {
        let name = match frontend::read_execute(body) {
            Ok((name, _)) => name,
            Err(fault) => return self.violate(fault.to_string()).map(|_| true),
        };
        if !self.may_use_portal(name) {
            return Some(self.refuse_bind(release::unknown_portal(name)));
        }
        let portal = self.portals.find(name).cloned();
        if portal.as_ref().is_some_and(|portal| self.is_deallocation_in_doubt(&portal.facts)) {
            return Some(false);
        }
        if let Some(facts) = portal.as_ref().map(|portal| &portal.facts).filter(|facts| facts.only_claim().is_some()) {
            match self.ready_for_claims(&facts.statements) {
                Readiness::Ready => {}
                Readiness::Held => return Some(false),
                Readiness::Refused(fault) => return Some(self.refuse_bind(fault)),
            }
            match facts.statements.first().map_or(Readiness::Ready, |statement| self.ready_for_bypass(statement)) {
                Readiness::Ready => {}
                Readiness::Held => return Some(false),
                Readiness::Refused(fault) => return Some(self.refuse_bind(fault)),
            }
        }
        if let Some(control) = portal.as_ref().and_then(|portal| only(&portal.facts)).map(|it| it.control.clone())
            && self.recorder.is_some()
        {
            match self.ready_for_execute(&control) {
                Readiness::Ready => {}
                Readiness::Held => return Some(false),
                Readiness::Refused(fault) => return Some(self.refuse_bind(fault)),
            }
        }
        Some(self.send_execute(frame, portal))
    }

    /// Whether it is open if a statement that is deallocated exists.
    #[expect(clippy::wildcard_enum_match_arm, reason = "every other statement deallocates nothing")]
    pub(super) fn is_deallocation_in_doubt(&self, facts: &Facts) -> bool {
        let is_in_doubt = |name: &str| self.statements.is_in_doubt(name.as_bytes(), self.segment);
        let is_any_in_doubt = self.statements.is_any_in_doubt(self.segment);
        facts.statements.iter().any(|statement| match &statement.control {
            Control::Deallocate(name) => is_in_doubt(name),
            // What it takes comes back where it is skipped: no more than there is.
            Control::DeallocateAll | Control::DiscardAll => is_any_in_doubt,
            _ => false,
        })
    }

    fn send_execute(&mut self, frame: &[u8], portal: Option<Portal>) -> bool {
        let statement = portal.as_ref().and_then(|portal| only(&portal.facts));
        let control = statement.map_or(&Control::None, |statement| &statement.control);
        if let Some(fault) = self.refusal_at_execute(statement, control) {
            return self.refuse_bind(fault);
        }
        if let Control::Claim(claim) = control
            && let Err(fault) = self.execute_claim(claim)
        {
            return self.refuse_bind(fault);
        }
        if let Some(portal) = &portal {
            self.note_bound_earlier(portal);
        }
        self.note_execute(control, portal.as_ref());
        self.restore_settings(control);
        let is_followed = statement.is_some_and(is_followed) || (self.recorder.is_some() && changes_said(control));
        let Some(lease) = self.lease.as_mut() else { return false };
        let cause = match &portal {
            Some(portal) if is_followed || portal.tag.is_some() => {
                let deallocated = deallocate(&mut self.statements, control);
                let is_bare = is_idle(lease) && !(self.has_executed && lease.server().version >= 180_000);
                Cause::Execute { facts: Arc::clone(&portal.facts), tag: portal.tag, deallocated, is_bare }
            }
            Some(_) | None => Cause::Client,
        };
        let frame = ScopedFrame::unscoped(NeedsNoScope::Statement, [frame, b"", b""], Some(Expect::Execute));
        drop(lease.send(frame, cause));
        self.release_left(statement);
        if let Some(statement) = statement {
            self.note_prepared_ahead(statement);
        }
        let Some(lease) = self.lease.as_mut() else { return false };
        // Behind the end of a transaction PostgreSQL begins anew; an empty statement it does not count.
        if portal.as_ref().is_none_or(|portal| !portal.facts.statements.is_empty()) {
            self.has_executed = !matches!(control, Control::Commit { .. } | Control::Rollback { .. });
        }
        let was = lease.scope().predicted();
        follow(lease.scope_mut(), control);
        #[cfg(feature = "mutants")]
        super::mutant::after_sent(self.rules.mutant, lease.scope_mut(), control);
        let now = lease.scope().predicted();
        self.claims_follow(control, was);
        if was != TransactionStatus::Idle && now == TransactionStatus::Idle {
            // Only predicted: the named ones are still there if this is skipped.
            self.portals.remove_unnamed();
        }
        if *control == Control::DiscardAll {
            self.commit_at_once();
        }
        self.control_in_flight |= is_followed;
        if let Some(statement) = statement {
            self.settings.on_sent(statement.class, control);
        }
        if statement.is_some_and(|statement| statement.copy_in) {
            self.copy = CopyIn::Awaited;
        }
        true
    }

    /// PostgreSQL commits a DISCARD ALL at once: what fails behind it takes nothing of it back. Portals end with it.
    fn commit_at_once(&mut self) {
        self.portals.clear();
        let is_recorded = self.recorder.as_ref().is_some_and(|recorder| recorder.is_open());
        if let Some(lease) = self.lease.as_mut().filter(|lease| !is_recorded && is_idle(lease)) {
            commit(lease, &|part| Cause::Restore(part == Part::Commit));
            self.has_executed = false;
        }
    }

    /// RESET ALL and DISCARD ALL have a stand-in that does nothing: in front of it each of the client's settings goes
    /// back where it was.
    fn restore_settings(&mut self, control: &Control) {
        if matches!(control, Control::ResetAll | Control::DiscardAll) {
            let steps = self.settings.reset_all_steps(self.settings.touched());
            self.send_restoring(steps.iter().map(release::step_statement));
        }
    }

    /// DISCARD ALL and DEALLOCATE ALL have one, too: behind it goes what the client has left on the server. (CLOSE ALL in
    /// front would close the stand-in's portal.)
    fn release_left(&mut self, statement: Option<&Statement>) {
        if let Some(statement) = statement
            && matches!(statement.control, Control::DeallocateAll | Control::DiscardAll)
        {
            let texts = self.releases_behind(statement);
            self.send_restoring(texts.into_iter());
        }
    }

    /// Sends utility statements, which take no snapshot, over a portal of the proxy's own.
    fn send_restoring(&mut self, texts: impl Iterator<Item = impl AsRef<str>>) {
        let Some(lease) = self.lease.as_mut() else { return };
        if lease.scope().predicted() == TransactionStatus::Failed {
            return;
        }
        for text in texts {
            let mut bytes = BytesMut::with_capacity(128);
            frontend::put_parse(&mut bytes, b"", text.as_ref().as_bytes(), &[]);
            push_restore(lease, &mut bytes, Expect::Parse);
            lease.server_mut().statements.set_unnamed(None);
            frontend::put_bind_text(&mut bytes, RESTORE_PORTAL, b"", &[]);
            push_restore(lease, &mut bytes, Expect::Bind);
            frontend::put_execute(&mut bytes, RESTORE_PORTAL);
            push_restore(lease, &mut bytes, Expect::Execute);
            frontend::put_close(&mut bytes, Target::Portal, RESTORE_PORTAL);
            push_restore(lease, &mut bytes, Expect::Close);
        }
    }

    /// What PostgreSQL refuses when the statement runs, not when it is prepared.
    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else cannot run, PostgreSQL itself refuses")]
    fn refusal_at_execute(&self, statement: Option<&Statement>, control: &Control) -> Option<Fault> {
        let is_idle = self.lease.as_ref().is_none_or(|lease| lease.scope().predicted() == TransactionStatus::Idle);
        if is_idle && statement.is_some_and(release::needs_block) && !self.has_executed {
            return Some(release::declare_outside_block());
        }
        if let Some(fault) = statement.and_then(|statement| self.refusal_in_own_block(statement)) {
            return Some(fault);
        }
        if let Some(fault) = self.refusal_behind_absent(control) {
            return Some(fault);
        }
        if self.settings.is_full() && adds_to_journal(control) {
            return Some(Fault::of(Code::TooManyNames));
        }
        match control {
            Control::DiscardAll if !is_idle => Some(release::discard_all_in_block()),
            Control::DiscardAll if self.has_executed => Some(match self.lease.as_ref() {
                // From 18 on what stands behind an Execute is in a block.
                Some(lease) if lease.server().version >= 180_000 => release::discard_all_in_block(),
                Some(_) | None => release::discard_all_in_pipeline(),
            }),
            Control::Deallocate(name)
                if !self.is_sql_prepared(control) && self.statements.find(name.as_bytes()).is_none() =>
            {
                Some(release::unknown_statement(name.as_bytes()))
            }
            _ => None,
        }
    }

    pub(super) fn on_close(&mut self, frame: &[u8], body: &[u8]) -> Option<bool> {
        let (target, name) = match frontend::read_target(body) {
            Ok(target) => target,
            Err(fault) => return self.violate(fault.to_string()).map(|_| true),
        };
        if target == Target::Statement && self.statements.is_in_doubt(name, self.segment) {
            return Some(false);
        }
        // A server at rest may have a cursor of that name.
        if target == Target::Portal && self.is_resting() && !self.ensure_lease() {
            return Some(false);
        }
        let mut nothing = BytesMut::with_capacity(32);
        let mut cause = Cause::Client;
        let sent = match target {
            Target::Statement => {
                let closed = self.statements.remove(name).map(Box::new);
                if self.lease.is_some() {
                    let serial = self.statements.begin(name, self.segment);
                    cause = Cause::CloseStatement { serial, closed };
                }
                // The server's statement stays for others; closing what is not there is no error.
                frontend::put_close(&mut nothing, Target::Statement, NO_STATEMENT);
                &nothing[..]
            }
            Target::Portal => {
                self.note_cursor_closed();
                if let Some(closed) = self.portals.remove(name) {
                    cause = Cause::ClosePortal(Box::new((name.into(), closed)));
                }
                frame
            }
        };
        match self.lease.as_mut() {
            Some(lease) => {
                let frame = ScopedFrame::unscoped(NeedsNoScope::Preparation, [sent, b"", b""], Some(Expect::Close));
                drop(lease.send(frame, cause));
            }
            None => backend::put_close_complete(&mut self.client_out),
        }
        Some(true)
    }
}

fn is_idle(lease: &LeasedServer<Cause>) -> bool {
    lease.scope().predicted() == TransactionStatus::Idle
}

/// Whether the statement only moves a transaction, whatever it refers to.
const fn is_transaction_control(control: &Control) -> bool {
    matches!(control, Control::Begin | Control::Commit { .. } | Control::Rollback { .. })
}

/// What the names of the proxy's own portals begin with (those here, in `precommit`, `bypassing`, `scope`): a client's would be in
/// their way. The guard refuses cursors of such names.
const OWN_PORTALS: &[u8] = b"tg_";

/// Portal of what brings settings back, while the client's own portals must survive.
const RESTORE_PORTAL: &[u8] = b"tg_restore";

fn push_restore(lease: &mut LeasedServer<Cause>, bytes: &mut BytesMut, expect: Expect) {
    let frame = ScopedFrame::unscoped(NeedsNoScope::Housekeeping, [bytes, b"", b""], Some(expect));
    drop(lease.send(frame, Cause::Restore(false)));
    bytes.clear();
}

/// A statement that no server has.
pub(super) const NO_STATEMENT: &[u8] = b"tg_none";

/// The one statement of a text prepared by protocol; `None` for an empty text (several are the server's
/// error).
fn only(facts: &Facts) -> Option<&Statement> {
    match &*facts.statements {
        [statement] => Some(statement),
        _ => None,
    }
}

pub(super) fn inject(
    lease: &mut LeasedServer<Cause>,
    rules: &super::SessionRules,
    claims: Option<&mut Claims>,
    keep_portal: bool,
) {
    #[cfg(feature = "mutants")]
    if super::mutant::inject(lease, rules) {
        return;
    }
    lease.inject(injection_in(claims.as_deref(), rules), keep_portal, Cause::Scope);
    if let Some(claims) = claims {
        claims.on_injected();
    }
}

/// The client's unnamed Parse goes as it is; the server's unnamed statement is now this client's.
fn send_unnamed_parse(
    lease: &mut LeasedServer<Cause>,
    statement: &ClientStatement,
    frame: Option<&[u8]>,
    replaced: Option<ClientStatement>,
) {
    let mut bytes = BytesMut::new();
    let frame = frame.unwrap_or_else(|| {
        frontend::put_parse(&mut bytes, b"", statement.key.sql(), statement.key.types());
        &bytes
    });
    let key = Arc::clone(&statement.key);
    let replaced_on_server = lease.server_mut().statements.replace_unnamed(key);
    let note = ParseNote {
        name: Box::default(),
        serial: statement.serial,
        placed: None,
        replaced,
        replaced_on_server: Some(replaced_on_server),
    };
    let frame = ScopedFrame::unscoped(NeedsNoScope::Preparation, [frame, b"", b""], Some(Expect::Parse));
    drop(lease.send(frame, Cause::Parse(Box::new(note))));
}

/// A named Parse: prepared under the server's own name, or, where the server has it, a Close of nothing
/// keeps the place of its answer.
fn send_named_parse(lease: &mut LeasedServer<Cause>, statement: &ClientStatement) {
    let is_sure = match lease.scope().predicted() {
        TransactionStatus::Idle => true,
        // An error that is still on its way would make the server refuse this Parse, and so would one that has come while
        // something else was owed.
        TransactionStatus::InBlock => {
            !lease.replies().owes_ready() && lease.replies().status() != TransactionStatus::Failed
        }
        TransactionStatus::Failed => false,
    };
    let known = lease.server_mut().statements.find(&statement.key);
    if known.is_some() && is_sure {
        let mut bytes = BytesMut::with_capacity(32);
        frontend::put_close(&mut bytes, Target::Statement, NO_STATEMENT);
        let frame = ScopedFrame::unscoped(NeedsNoScope::Preparation, [&bytes, b"", b""], Some(Expect::Close));
        let note = named_note(statement, None);
        drop(lease.send(frame, Cause::ParseKnown(Box::new(note))));
        return;
    }
    let (number, evicted) = lease.server_mut().statements.insert(&statement.key);
    evict(lease, evicted);
    let mut bytes = BytesMut::new();
    frontend::put_parse(&mut bytes, number.name().as_bytes(), statement.key.sql(), statement.key.types());
    let frame = ScopedFrame::unscoped(NeedsNoScope::Preparation, [&bytes, b"", b""], Some(Expect::Parse));
    let placed = Some((Arc::clone(&statement.key), number));
    let note = named_note(statement, placed);
    lease.server_mut().preparing.begin(Some(number));
    drop(lease.send(frame, Cause::Parse(Box::new(note))));
}

fn named_note(statement: &ClientStatement, placed: Option<(Arc<StatementKey>, StatementNumber)>) -> ParseNote {
    ParseNote {
        name: (*statement.name).into(),
        serial: statement.serial,
        placed,
        replaced: None,
        replaced_on_server: None,
    }
}

fn evict(lease: &mut LeasedServer<Cause>, evicted: Vec<StatementNumber>) {
    for number in evicted {
        let mut bytes = BytesMut::with_capacity(32);
        frontend::put_close(&mut bytes, Target::Statement, number.name().as_bytes());
        let frame = ScopedFrame::unscoped(NeedsNoScope::Preparation, [&bytes, b"", b""], Some(Expect::Close));
        if lease.send(frame, Cause::Evict(number)).is_some() {
            lease.server_mut().statements.note_unclosed(number);
        }
    }
}

/// Makes sure that the leased server has a statement which its client believes to be there.
fn prepare_again(lease: &mut LeasedServer<Cause>, statement: &ClientStatement) {
    if statement.name.is_empty() {
        if !lease.server_mut().statements.unnamed_is(&statement.key) {
            lease.server_mut().preparing.begin(None);
            send_again(lease, &statement.key, b"", Cause::ReprepareUnnamed);
            lease.server_mut().statements.set_unnamed(Some(Arc::clone(&statement.key)));
        }
        return;
    }
    prepare_named(lease, &statement.key);
}

/// Makes sure that the leased server has a named statement of this key.
fn prepare_named(lease: &mut LeasedServer<Cause>, key: &Arc<StatementKey>) {
    if lease.server_mut().statements.find(key).is_none() {
        let (number, evicted) = lease.server_mut().statements.insert(key);
        evict(lease, evicted);
        lease.server_mut().preparing.begin(Some(number));
        send_again(lease, key, number.name().as_bytes(), Cause::Reprepare(Arc::clone(key), number));
    }
}

/// What an Execute of DEALLOCATE or DISCARD ALL takes from the client's statements; what stands behind it in
/// its segment meets the names free.
#[expect(clippy::wildcard_enum_match_arm, reason = "every other statement deallocates nothing")]
fn deallocate(statements: &mut ClientStatements, control: &Control) -> Vec<ClientStatement> {
    match control {
        Control::DiscardAll | Control::DeallocateAll => statements.take_named(),
        Control::Deallocate(name) => statements.remove(name.as_bytes()).into_iter().collect(),
        _ => Vec::new(),
    }
}

fn send_again(lease: &mut LeasedServer<Cause>, key: &StatementKey, name: &[u8], cause: Cause) {
    let mut bytes = BytesMut::new();
    frontend::put_parse(&mut bytes, name, key.sql(), key.types());
    let frame = ScopedFrame::unscoped(NeedsNoScope::Preparation, [&bytes, b"", b""], Some(Expect::Parse));
    drop(lease.send(frame, cause));
}
