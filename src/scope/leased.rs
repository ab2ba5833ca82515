//! A server on loan to a session: what it owes, what is on its way to it, whose tenant it carries.

use bytes::{Bytes, BytesMut};

use super::clean::{CleanServer, DiscardReason, is_carried};
use super::frame::ScopedFrame;
use super::injection::{Injection, Sealing, begin_block, read_only};
use super::residue::{Found, PinnedServer, Residue};
use super::transaction::TransactionScope;
use crate::time::TimeOfDay;
use crate::upstream::{Expect, Received, Replies, Server, Unexpected};
use crate::wire::TransactionStatus;

/// Room for what is sent to a server in most transactions: an injection and a short statement, without growing twice.
const OUT_BYTES: usize = 512;

/// What tenant a server has beyond its transactions.
#[derive(Debug, PartialEq, Eq)]
enum Carried {
    /// None, or it is not known: a session that needs one puts it there.
    Nothing,
    /// This one was sent; the COMMIT's answer is awaited.
    Sent(Bytes),
    /// This one.
    Known(Bytes),
}

impl Carried {
    fn known(self) -> Result<Option<Bytes>, DiscardReason> {
        match self {
            Carried::Nothing => Ok(None),
            Carried::Known(scope) => Ok(Some(scope)),
            Carried::Sent(_) => Err(DiscardReason::ScopeUnconfirmed),
        }
    }
}

/// A server on loan. Dropping it loses the proof: the driver then closes the socket.
#[must_use]
#[derive(Debug)]
pub struct LeasedServer<C> {
    server: Box<Server>,
    replies: Replies<C>,
    scope: TransactionScope,
    carried: Carried,
    out: BytesMut,
    /// Nothing was asked since the last Flush.
    is_flushed: bool,
    doubt: Option<DiscardReason>,
    /// What the client may have left beyond its transactions.
    residue: Residue,
    /// Its transaction may have made a temporary object that goes with it.
    has_made_temporary: bool,
    /// What time it is, for tickets. Before it is told, none is good.
    now: TimeOfDay,
    /// Under which name the ledger knows the transaction, if it is recorded.
    transaction: Option<[u8; 16]>,
    /// What is put on its transactions makes them such that cannot write.
    is_read_only: bool,
}

impl<C> LeasedServer<C> {
    /// Takes a clean server.
    pub fn new(clean: CleanServer) -> Self {
        let (server, carried) = clean.into_parts();
        Self::of(server, carried, Residue::NONE)
    }

    /// The client whose state a server carries goes on with it.
    pub fn resumed(pinned: PinnedServer) -> Self {
        let (server, carried, residue) = pinned.into_parts();
        Self::of(server, carried, residue)
    }

    fn of(mut server: Box<Server>, carried: Option<Bytes>, residue: Residue) -> Self {
        server.leases = server.leases.saturating_add(1);
        Self {
            carried: carried.map_or(Carried::Nothing, Carried::Known),
            residue,
            has_made_temporary: false,
            server,
            replies: Replies::default(),
            scope: TransactionScope::default(),
            out: BytesMut::with_capacity(OUT_BYTES),
            is_flushed: false,
            doubt: None,
            now: TimeOfDay::default(),
            transaction: None,
            is_read_only: false,
        }
    }

    /// What time it is.
    pub const fn tell_time(&mut self, now: TimeOfDay) {
        self.now = now;
    }

    /// Under which name the ledger knows the transaction that begins.
    pub const fn tell_transaction(&mut self, id: [u8; 16]) {
        self.transaction = Some(id);
    }

    /// The server's facts.
    #[must_use]
    pub const fn server(&self) -> &Server {
        &self.server
    }

    /// The server's facts, to be changed.
    pub const fn server_mut(&mut self) -> &mut Server {
        &mut self.server
    }

    /// The tenant context.
    #[must_use]
    pub const fn scope(&self) -> &TransactionScope {
        &self.scope
    }

    /// The tenant context, to be told what was sent and answered.
    pub const fn scope_mut(&mut self) -> &mut TransactionScope {
        &mut self.scope
    }

    /// What is owed.
    #[must_use]
    pub const fn replies(&self) -> &Replies<C> {
        &self.replies
    }

    /// The front answer's cause.
    pub fn front_mut(&mut self) -> Option<&mut C> {
        self.replies.front_mut()
    }

    /// Sends a frame. A cause that comes back was skipped by the server: it will never be answered.
    #[must_use = "a cause that comes back was skipped"]
    pub fn send(&mut self, frame: ScopedFrame<'_>, cause: C) -> Option<C> {
        self.append(&frame);
        let expect = frame.expect?;
        self.is_flushed = false;
        let skipped = self.replies.push(expect, cause);
        if expect == Expect::Query && skipped.is_none() {
            // A Query drops the unnamed statement, whoever it is from.
            self.server.statements.set_unnamed(None);
        }
        skipped
    }

    /// Sends a frame that no answer is owed for: COPY data, or Flush.
    pub fn send_unanswered(&mut self, frame: ScopedFrame<'_>) {
        debug_assert!(frame.expect.is_none());
        self.append(&frame);
    }

    /// The proxy's own transaction in front of the client's bytes was sent with its COMMIT.
    pub(super) fn end_own_transaction(&mut self) {
        self.replies.mark_closed();
    }

    /// What has to be put on the server before this session's first statement, if it is to carry anything and does
    /// not. If nothing is missing, its transactions have their tenant from now on.
    pub(super) fn missing<'i>(&mut self, injection: &'i Injection) -> Option<&'i Bytes> {
        let wanted = injection.carried()?;
        match &self.carried {
            Carried::Known(known) if is_carried(Some(known), Some(wanted)) => {
                self.scope.on_carried();
                None
            }
            Carried::Nothing | Carried::Sent(_) | Carried::Known(_) => Some(wanted),
        }
    }

    /// Sends the tenant that the server is to carry, inside the proxy's own transaction.
    pub(super) fn send_carried(&mut self, scope: Bytes, bind: C, execute: C) {
        self.out.extend_from_slice(&scope);
        drop(self.replies.push(Expect::Bind, bind));
        drop(self.replies.push(Expect::Execute, execute));
        // The server runs what stands behind it only if it succeeds.
        self.scope.on_carried();
        self.carried = Carried::Sent(scope);
    }

    /// The COMMIT of [`super::install`] was answered by `COMMIT`; whether it has put a tenant there.
    pub fn on_installed(&mut self) -> bool {
        match std::mem::replace(&mut self.carried, Carried::Nothing) {
            Carried::Sent(scope) => {
                self.carried = Carried::Known(scope);
                true
            }
            Carried::Known(scope) => {
                self.carried = Carried::Known(scope);
                false
            }
            Carried::Nothing => false,
        }
    }

    /// [`super::install`] failed: what the server carries is not believed any more, and nothing that needs a tenant is
    /// sent on this lease.
    pub fn on_not_installed(&mut self) {
        self.carried = Carried::Nothing;
        self.scope.on_not_carried();
    }

    /// Sends Flush.
    pub fn flush(&mut self) {
        crate::wire::frontend::put_flush(&mut self.out);
        self.replies.mark_open();
        self.is_flushed = true;
    }

    /// Whether nothing more will come before the client says something: all is answered, or what is owed waits for
    /// a Sync or Flush.
    #[must_use]
    pub fn is_awaiting_client(&self) -> bool {
        self.replies.is_empty() || !(self.is_flushed || self.replies.owes_ready())
    }

    /// Puts the session's tenant on the current transaction, in the extended protocol. `keep_portal` says
    /// that the client's unnamed portal must survive; `cause` is made for each part, `true` for the one
    /// whose answer confirms.
    pub fn inject(&mut self, injection: &Injection, keep_portal: bool, cause: impl Fn(bool) -> C) {
        if injection.carried().is_some() || injection.is_vacant() {
            // There is nobody to put on it. Or: it would outlive this transaction, or be undone with it: there is no scoped frame on this lease.
            return;
        }
        if injection.is_empty() && !self.is_read_only {
            self.scope.on_nothing_to_inject();
            return;
        }
        if self.is_read_only {
            self.out.extend_from_slice(&read_only(keep_portal));
            self.owe_injection(keep_portal, injection.is_empty(), &cause);
        }
        if injection.is_empty() {
            self.scope.on_injected();
            return;
        }
        if injection.is_sealed() {
            self.server.is_sealed = true;
            let (process_id, is_pinned) = (self.server.key.process_id, !self.residue.is_none());
            let of = Sealing { process_id, is_pinned, now: self.now, transaction: self.transaction };
            injection.put_sealed(&mut self.out, of, keep_portal);
        } else {
            let bytes = if keep_portal { injection.bind_execute_close() } else { injection.bind_execute() };
            self.out.extend_from_slice(bytes);
        }
        self.owe_injection(keep_portal, true, &cause);
        self.scope.on_injected();
    }

    /// While the server skips to Sync an injection is skipped like the client's own statement behind it.
    fn owe_injection(&mut self, keep_portal: bool, confirms: bool, cause: impl Fn(bool) -> C) {
        drop(self.replies.push(Expect::Bind, cause(false)));
        drop(self.replies.push(Expect::Execute, cause(confirms)));
        if keep_portal {
            drop(self.replies.push(Expect::Close, cause(false)));
        }
    }

    /// Whether what is put on the transactions from now on makes them such that cannot write.
    pub const fn set_read_only(&mut self, is_read_only: bool) {
        self.is_read_only = is_read_only;
    }

    /// Whether it does.
    #[must_use]
    pub const fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    /// The injection with one entry for its two answers: the defect that a test has to find.
    #[cfg(feature = "mutants")]
    pub fn inject_as_one(&mut self, injection: &Injection, cause: C) {
        self.out.extend_from_slice(injection.bind_execute());
        drop(self.replies.push(Expect::Execute, cause));
        self.scope.on_injected();
    }

    /// Opens a transaction block of the proxy's own, in the extended protocol; `keep_portal` as in [`Self::inject`].
    pub fn begin_block(&mut self, keep_portal: bool, cause: impl Fn() -> C) {
        self.out.extend_from_slice(&begin_block(keep_portal));
        // While the server skips to Sync the block is skipped like the client's own statement in it.
        drop(self.replies.push(Expect::Bind, cause()));
        drop(self.replies.push(Expect::Execute, cause()));
        if keep_portal {
            drop(self.replies.push(Expect::Close, cause()));
        }
        self.scope.on_begin();
    }

    /// Takes one server message by its type.
    ///
    /// # Errors
    /// It answers nothing that is owed.
    pub fn receive(&mut self, tag: u8) -> Result<Received<C>, Unexpected> {
        self.replies.receive(tag)
    }

    /// Takes a ReadyForQuery; once nothing more is owed the scope's prediction becomes the truth.
    ///
    /// # Errors
    /// None is owed now.
    pub fn receive_ready(&mut self, status: TransactionStatus) -> Result<Received<C>, Unexpected> {
        let received = self.replies.receive_ready(status)?;
        self.scope.on_ready(status);
        if self.replies.is_empty() && !self.replies.is_open() {
            self.scope.settle(status);
            self.has_made_temporary &= status != TransactionStatus::Idle;
        }
        Ok(received)
    }

    /// Bytes on their way to the server.
    pub const fn out_mut(&mut self) -> &mut BytesMut {
        &mut self.out
    }

    /// How many bytes wait to be written.
    #[must_use]
    pub fn out_bytes(&self) -> usize {
        self.out.len()
    }

    /// A statement is sent that makes a temporary object.
    pub const fn note_temporary(&mut self) {
        self.server.has_had_temporary = true;
        self.has_made_temporary = true;
    }

    /// Whether there may be temporary objects of the client's: PostgreSQL looks names up among them first.
    #[must_use]
    pub const fn may_have_temporary(&self) -> bool {
        self.has_made_temporary || self.residue.has(Residue::TEMPORARY)
    }

    /// Notes that the server must not be used again.
    pub fn set_doubt(&mut self, reason: DiscardReason) {
        self.doubt.get_or_insert(reason);
    }

    /// Whether the server could be given back now.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.replies.quiet().is_some() && self.out.is_empty()
    }

    /// The client may leave this on the server.
    pub fn suspect(&mut self, kinds: Residue) {
        self.residue = self.residue.and(kinds);
        self.server.has_had_temporary |= self.residue.has(Residue::TEMPORARY);
    }

    /// What the client may have left.
    #[must_use]
    pub const fn residue(&self) -> Residue {
        self.residue
    }

    /// What the server itself says is left.
    pub fn settle(&mut self, found: &Found) {
        self.residue = found.left();
    }

    /// Takes all that was left to be gone: the defect that a test has to find.
    #[cfg(feature = "mutants")]
    pub fn forget_residue(&mut self) {
        self.residue = Residue::NONE;
    }

    /// Lets the server wait with its client until the next transaction.
    ///
    /// # Errors
    /// Why it must be closed instead.
    pub fn into_pinned(self) -> Result<PinnedServer, DiscardReason> {
        match (self.doubt, self.replies.quiet()) {
            (Some(reason), _) => Err(reason),
            (None, Some(proof)) if self.out.is_empty() && self.scope.is_at_rest() => {
                Ok(PinnedServer::proven(self.server, self.carried.known()?, self.residue, proof))
            }
            (None, _) => Err(DiscardReason::NotQuiet),
        }
    }

    /// Gives the server back.
    ///
    /// # Errors
    /// Why it must be closed instead.
    pub fn into_clean(mut self) -> Result<CleanServer, DiscardReason> {
        match (self.doubt, self.replies.quiet()) {
            (Some(reason), _) => Err(reason),
            (None, Some(_)) if !self.residue.is_none() => Err(DiscardReason::StateLeft),
            // A temporary schema stays when it is empty, and a sealed database lets no other client in there.
            (None, Some(_)) if self.server.is_sealed && self.server.has_had_temporary => Err(DiscardReason::StateLeft),
            (None, Some(_)) if !self.server.has_explained_settings() => Err(DiscardReason::SettingsUnexplained),
            (None, Some(proof)) if self.out.is_empty() && self.scope.is_at_rest() => {
                Ok(CleanServer::proven(self.server, self.carried.known()?, proof))
            }
            (None, _) => Err(DiscardReason::NotQuiet),
        }
    }

    /// Gives the server back without any proof: the defect that a test has to find.
    #[cfg(feature = "mutants")]
    pub fn into_unproven(self) -> CleanServer {
        CleanServer::unproven(self.server)
    }

    fn append(&mut self, frame: &ScopedFrame<'_>) {
        for part in frame.parts {
            self.out.extend_from_slice(part);
        }
    }
}
