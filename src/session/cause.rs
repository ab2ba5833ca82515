//! Why a server owes an answer, and so to whom the answer goes.

use std::sync::Arc;

use super::query::QueryPlan;
use super::statements::{ClientStatement, Portal};
use crate::fault::{Fault, SqlState};
use crate::guard::Facts;
use crate::scope::{Inquiry, Part};
use crate::upstream::{ReplacedUnnamed, StatementKey, StatementNumber};

/// The cause of one owed answer.
#[derive(Debug)]
pub enum Cause {
    /// The client's own message: forwarded as it is.
    Client,
    /// The client's Describe of a statement that has another name on the server.
    Named(Arc<[u8]>),
    /// The client's Bind to the unnamed portal: the statement's name if it is named, and which Bind it was.
    Bind(Option<Arc<[u8]>>, u64),
    /// The client's Bind to a named portal.
    BindNamed(Box<BindNote>),
    /// The client's Close of a portal, which is there again if the Close is skipped.
    ClosePortal(Box<(Box<[u8]>, Portal)>),
    /// The client's Close of a statement, which is its own again if the Close is skipped.
    CloseStatement {
        /// Which Close it is.
        serial: u64,
        /// What it closes.
        closed: Option<Box<ClientStatement>>,
    },
    /// The client's Parse; on failure the name is free again.
    Parse(Box<ParseNote>),
    /// Close of nothing in place of a Parse whose statement the server already has: `3` becomes `1`.
    ParseKnown(Box<ParseNote>),
    /// The client's Execute of a statement that does something to transaction or session state.
    Execute {
        /// Whose only statement it is.
        facts: Arc<Facts>,
        /// The command tag of the statement that this one stands in for.
        tag: Option<&'static str>,
        /// Statements of the client that it deallocates: there again if the Execute is skipped.
        deallocated: Vec<ClientStatement>,
        /// No transaction block is open around it.
        is_bare: bool,
    },
    /// The client's Query of one statement with an effect, sent as it is.
    Single(Arc<Facts>),
    /// The client's Query behind a `SET LOCAL` prefix.
    Prefixed {
        /// CommandCompletes of the prefix still to come.
        scopes: u16,
        /// Characters of the prefix.
        prefix_chars: u32,
    },
    /// The client's Query, rewritten.
    Plan(Box<QueryPlan>),
    /// A replacement that the server must refuse; its error makes place for the proxy's own.
    Refused(Box<Refused>),
    /// A part of an injection; `true` for the one whose answer confirms the scope.
    Scope(bool),
    /// A statement prepared again for a client that believes it to be there.
    Reprepare(Arc<StatementKey>, StatementNumber),
    /// The unnamed statement prepared again.
    ReprepareUnnamed,
    /// Close of a statement that had to make room (or a left-over of one).
    Evict(StatementNumber),
    /// A part of the proxy's own transaction in front of the client's first segment: settings, and the tenant that the
    /// server is to carry.
    Install(Part),
    /// A part of what brings one setting back in front of the stand-in for RESET ALL or DISCARD ALL, or releases what the
    /// client has left behind that for DISCARD ALL or DEALLOCATE ALL; `true` for the COMMIT that ends a DISCARD ALL. Its
    /// error is the client's.
    Restore(bool),
    /// A part of the BEGIN of the proxy's own block.
    OwnBegin,
    /// The end of the proxy's own block; `true` for COMMIT. Its error is the client's, and so are its notices.
    OwnEnd(bool),
    /// A part of the question how the transaction stands, in front of its COMMIT; `true` for the last.
    Standing(bool),
    /// The proxy's own Query that asks what the client has left on the server.
    Inquiry(Box<Inquiry>),
    /// Sync and ROLLBACK behind an installation that failed, or ROLLBACK for a client that left.
    Recovery,
}

impl Cause {
    /// Whether nothing of the answer, notices included, reaches the client: it is of a message that the client did not
    /// send. The end of the proxy's block is none of these, since what fails there is the client's statement.
    #[must_use]
    pub fn is_own(&self) -> bool {
        match self {
            Cause::Scope(_)
            | Cause::Reprepare(..)
            | Cause::ReprepareUnnamed
            | Cause::Evict(_)
            | Cause::Install(_)
            | Cause::Restore(_)
            | Cause::OwnBegin
            | Cause::Standing(_)
            | Cause::Inquiry(_)
            | Cause::Recovery => true,
            Cause::Prefixed { scopes, .. } => *scopes > 0,
            Cause::Plan(plan) => plan.is_own_step(),
            Cause::Client
            | Cause::Named(_)
            | Cause::Bind(..)
            | Cause::BindNamed(_)
            | Cause::ClosePortal(_)
            | Cause::CloseStatement { .. }
            | Cause::Parse(_)
            | Cause::ParseKnown(_)
            | Cause::Execute { .. }
            | Cause::Single(_)
            | Cause::OwnEnd(_)
            | Cause::Refused(_) => false,
        }
    }

    /// Whether an error in answer to it is a failed statement of the client's. It is not where the error makes place for
    /// the proxy's refusal, nor where only the block around the statements fails: those have been answered.
    #[must_use]
    pub fn fails_statement(&self, sqlstate: Option<SqlState>) -> bool {
        match self {
            Cause::Refused(refused) => sqlstate != Some(refused.expected),
            Cause::Plan(plan) => plan.refusal_of(sqlstate).is_none(),
            Cause::Client
            | Cause::Named(_)
            | Cause::Bind(..)
            | Cause::BindNamed(_)
            | Cause::ClosePortal(_)
            | Cause::CloseStatement { .. }
            | Cause::Parse(_)
            | Cause::ParseKnown(_)
            | Cause::Execute { .. }
            | Cause::Single(_)
            | Cause::Prefixed { .. }
            // What the proxy sends in front of a statement, which then is not run.
            | Cause::Scope(_)
            | Cause::Reprepare(..)
            | Cause::ReprepareUnnamed
            | Cause::Evict(_)
            | Cause::Install(_)
            | Cause::Restore(_)
            | Cause::Standing(_)
            | Cause::OwnBegin => true,
            Cause::OwnEnd(_) | Cause::Inquiry(_) | Cause::Recovery => false,
        }
    }
}

/// What a client's Bind to a named portal changed in advance.
#[derive(Debug)]
pub struct BindNote {
    /// The client's name of the statement, if it has one.
    pub statement: Option<Arc<[u8]>>,
    /// The portal's name.
    pub portal: Box<[u8]>,
    /// Which Bind it was.
    pub serial: u64,
    /// The name stood for another portal.
    pub replaced: bool,
}

/// What a client's Parse changed in advance.
#[derive(Debug)]
pub struct ParseNote {
    /// The client's name, empty for the unnamed statement.
    pub name: Box<[u8]>,
    /// Which preparation of that name it was.
    pub serial: u64,
    /// Its place on the server, if it is a named statement there.
    pub placed: Option<(Arc<StatementKey>, StatementNumber)>,
    /// The unnamed statement of the client that it replaces.
    pub replaced: Option<ClientStatement>,
    /// The unnamed statement of the server that it replaces.
    pub replaced_on_server: Option<ReplacedUnnamed>,
}

/// A replacement's expected failure.
#[derive(Debug)]
pub struct Refused {
    /// What the client is told.
    pub fault: Fault,
    /// Only an error with this SQLSTATE is the replacement's own.
    pub expected: SqlState,
    /// The unnamed statement that the refused Parse drops, unless it is skipped.
    pub dropped: Option<ClientStatement>,
}
