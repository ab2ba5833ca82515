//! The values of a recorded Bind, on their way to its record.
//!
//! Owns: which values become digests. Does not own: the digests and their bounds (`audit`).

use crate::audit::{Account, ParameterKey};
use crate::guard::Statement;
use crate::wire::frontend;

/// What a statement that is sent has bound. It is never kept: its digests are made when the statement is noted.
#[derive(Clone, Copy)]
pub(in crate::session) enum Bound<'a> {
    /// Nothing can be: the statement stands in a Query.
    Nothing,
    /// A Bind's body behind its names.
    Values(&'a [u8]),
    /// A Bind that is forwarded as it comes.
    Unread,
}

impl Bound<'_> {
    /// Notes the statement with digests of its values, where there is a key and they can be told.
    pub(in crate::session) fn note_in(
        self,
        account: &mut Account,
        key: Option<&ParameterKey>,
        statement: &Statement,
        text: &str,
    ) {
        let Some(key) = key else { return account.note_statement(statement, text, None) };
        let digests = match self {
            Bound::Nothing => return account.note_statement(statement, text, None),
            // One that is malformed is PostgreSQL's to refuse.
            Bound::Values(values) => frontend::bound_values(values).ok().map(|values| key.digests(&values)),
            Bound::Unread => None,
        };
        if digests.is_none() {
            account.note_untold();
        }
        account.note_statement(statement, text, digests);
    }
}
