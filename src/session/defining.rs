//! Data definition of this session, of which those who prepare statements have to know.
//!
//! Servers are shared, and one that has a text already is not asked again. Under a definition that has changed, its
//! statement may mean something else, or nothing: PostgreSQL says so when it is described or bound, to a client that has
//! only just prepared it. So what is prepared behind a definition is another statement than what was prepared before, on
//! every server of the database. Who prepared before keeps what he has, as on a connection of his own.
//!
//! Owns: when the others are told. Does not own: what they are told (`upstream::outdated`), or definitions that no session
//! of this proxy makes: of those the first error tells.

use std::sync::Arc;

use super::Session;
use crate::guard::{Statement, StatementClass};
use crate::upstream::outdated::Definitions;

/// The definitions of a transaction that is under way.
#[derive(Debug, Default)]
pub(super) struct Defining(Option<Arc<Definitions>>);

impl Defining {
    /// The transaction is over, or its end will never be heard: from here on everybody may meet what it has defined.
    pub(super) fn end(&mut self) {
        if let Some(definitions) = self.0.take() {
            definitions.note();
        }
    }
}

impl Session {
    /// Statements are sent: what comes behind them in their own transaction meets what they define.
    pub(super) fn note_definitions_sent(&mut self, statements: &[Statement]) {
        let Some(lease) = self.lease.as_ref().filter(|_| statements.iter().any(|it| defines(it.class))) else { return };
        let definitions = lease.server().statements.outdated().definitions();
        definitions.note();
        self.defining = Defining(Some(Arc::clone(definitions)));
    }
}

/// Whether texts may mean something else behind a statement of the class.
fn defines(class: StatementClass) -> bool {
    use StatementClass as Class;
    match class {
        Class::Definition | Class::CreateTableAs => true,
        // Names of temporary objects are their client's alone, whose statements nobody shares.
        Class::CreateTemporary | Class::DropTemporary => false,
        // PostgreSQL itself makes new plans behind these; what statements give back stays.
        Class::Policies | Class::Privileges | Class::Roles | Class::Maintenance | Class::Refresh => false,
        Class::Select | Class::Insert | Class::Update | Class::Delete | Class::Merge => false,
        Class::CopyIn | Class::CopyOut | Class::CopyServer => false,
        Class::DeclareCursor | Class::Fetch | Class::CloseCursor => false,
        Class::Transaction | Class::TwoPhase | Class::SetConstraints | Class::Setting | Class::Claim | Class::Show => {
            false
        }
        Class::Discard | Class::Deallocate | Class::Listen | Class::Unlisten | Class::Notify => false,
        Class::AdvisoryUnlockAll | Class::Prepare | Class::Execute | Class::Explain | Class::Lock => false,
        // What a body does, nobody sees.
        Class::Truncate | Class::Call | Class::Do | Class::Load | Class::Checkpoint => false,
        Class::Administration | Class::NotAStatement => false,
    }
}
