//! What a session may have left on its server beyond a transaction, and the proof that it is gone.
//!
//! ```text
//!            a statement that leaves something is sent          COMMIT of the inquiry answered
//!   nothing ─────────────────────────────────────────▶ suspected ─────────────────────────────▶ what was found
//! ```
//!
//! A server of which anything is suspected is no [`CleanServer`](super::CleanServer): it stays with its client (as a
//! [`PinnedServer`], between transactions), or it is asked by an [`Inquiry`], or it is closed.
//!
//! The inquiry is one Query of the proxy's own: a transaction that releases what is to be released, and one that asks
//! for each suspected kind whether there is any. Its answers are command tags (`SELECT 0`: none), so that no row has to
//! be read. All names are qualified, operators too: the client's `search_path` is in force. The levels are explicit, so
//! that it never waits for a safe snapshot.
//!
//! Owns: suspicion, the inquiry, what proves what. Does not own: when to ask (the session's).

use std::borrow::Cow;
use std::collections::VecDeque;

use bytes::Bytes;

use super::clean::DiscardReason;
use crate::upstream::{Quiet, Server};

/// Kinds of state: those that the guard tells statements to leave.
pub use crate::guard::State as Residue;

/// For each kind that can be asked for: a query that gives a row if there is any. `pg_depend` knows every object of a
/// schema, of whatever kind; DISCARD TEMP goes by it, too.
const QUESTIONS: [(Residue, &str); 5] = [
    (
        Residue::TEMPORARY,
        "SELECT WHERE EXISTS (SELECT FROM pg_catalog.pg_depend WHERE refclassid OPERATOR(pg_catalog.=) \
         'pg_catalog.pg_namespace'::pg_catalog.regclass AND refobjid OPERATOR(pg_catalog.=) \
         pg_catalog.pg_my_temp_schema())",
    ),
    (Residue::CHANNELS, "SELECT WHERE EXISTS (SELECT FROM pg_catalog.pg_listening_channels())"),
    (Residue::CURSORS, "SELECT WHERE EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable)"),
    (Residue::PREPARED, "SELECT WHERE EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql)"),
    (
        Residue::LOCKS,
        "SELECT WHERE EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype OPERATOR(pg_catalog.=) 'advisory' \
         AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid())",
    ),
];

/// What releases a kind. Cursors first: a temporary table may be open in one.
const RELEASES: [(Residue, &str, &str); 5] = [
    (Residue::CURSORS, "CLOSE ALL", "CLOSE CURSOR ALL"),
    (Residue::CHANNELS, "UNLISTEN *", "UNLISTEN"),
    (
        Residue::LOCKS,
        // Without a row: in the extended protocol there is nobody to read it.
        "SELECT WHERE pg_catalog.pg_advisory_unlock_all() IS NULL",
        "SELECT 0",
    ),
    (Residue::TEMPORARY, "DISCARD TEMP", "DISCARD TEMP"),
    (Residue::SEQUENCES, "DISCARD SEQUENCES", "DISCARD SEQUENCES"),
];

/// The statements that release these kinds. `names`: what SQL's PREPARE has named.
#[must_use]
pub fn releases<'n>(kinds: Residue, names: impl Iterator<Item = &'n str>) -> Vec<Cow<'static, str>> {
    let kept = RELEASES.iter().filter(|(kind, _, _)| kinds.has(*kind)).map(|(_, sql, _)| Cow::Borrowed(*sql));
    let named = names
        .filter(|_| kinds.has(Residue::PREPARED))
        .map(|name| Cow::Owned(format!("DEALLOCATE \"{}\"", name.replace('"', "\"\""))));
    kept.chain(named).collect()
}

/// The same for a Query; and how many they are.
#[must_use]
pub fn releasing<'n>(kinds: Residue, names: impl Iterator<Item = &'n str>) -> (String, usize) {
    let all = releases(kinds, names);
    let mut sql = all.join(";");
    if !all.is_empty() {
        sql.push(';');
    }
    (sql, all.len())
}

/// One statement of an inquiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Answered by this tag.
    Done(&'static str),
    /// `SELECT 0` or `SELECT 1`.
    Question(Residue),
}

/// A Query that releases what a session has left and asks what of it is still there.
#[derive(Debug)]
pub struct Inquiry {
    steps: VecDeque<Step>,
    released: Residue,
    deallocated: usize,
    left: Residue,
}

/// What an inquiry has found: only of a server that has answered all of it.
#[must_use]
#[derive(Debug)]
pub struct Found {
    left: Residue,
}

/// Begins both transactions: the client's `statement_timeout` is not meant for them.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED;SET LOCAL statement_timeout=0;";

impl Inquiry {
    /// Releases some kinds (`names`: what SQL's PREPARE has named), and asks for all that are suspected; with its text.
    #[must_use]
    pub fn new<'n>(
        release: Residue,
        names: impl Iterator<Item = &'n str> + Clone,
        suspected: Residue,
    ) -> (Self, String) {
        let mut sql = BEGIN.to_owned();
        let mut steps = VecDeque::from([Step::Done("BEGIN"), Step::Done("SET")]);
        sql.push_str(&releasing(release, names.clone()).0);
        steps.extend(RELEASES.iter().filter(|(kind, _, _)| release.has(*kind)).map(|(_, _, tag)| Step::Done(tag)));
        steps.extend(names.filter(|_| release.has(Residue::PREPARED)).map(|_| Step::Done("DEALLOCATE")));
        sql.push_str("COMMIT;");
        sql.push_str(BEGIN);
        steps.extend([Step::Done("COMMIT"), Step::Done("BEGIN"), Step::Done("SET")]);
        for (kind, question) in QUESTIONS.iter().filter(|(kind, _)| suspected.has(*kind)) {
            sql.push_str(question);
            sql.push(';');
            steps.push_back(Step::Question(*kind));
        }
        sql.push_str("COMMIT");
        steps.push_back(Step::Done("COMMIT"));
        // There is nothing to ask of a sequence's last value: DISCARD SEQUENCES forgets them all.
        let left = suspected.without(release.common(Residue::SEQUENCES));
        (Self { steps, released: release, deallocated: 0, left }, sql)
    }

    /// Takes a command tag; `false` if it answers nothing that was asked.
    #[must_use]
    pub fn take(&mut self, tag: &[u8]) -> bool {
        match self.steps.pop_front() {
            Some(Step::Done(wanted)) => {
                self.deallocated += usize::from(tag == b"DEALLOCATE");
                tag == wanted.as_bytes()
            }
            Some(Step::Question(kind)) if tag == b"SELECT 0" => {
                self.left = self.left.without(kind);
                true
            }
            Some(Step::Question(_)) => tag == b"SELECT 1",
            None => false,
        }
    }

    /// How many of the names were deallocated, the first first: no ROLLBACK brings them back.
    #[must_use]
    pub const fn deallocated(&self) -> usize {
        self.deallocated
    }

    /// What was released, if all was answered.
    #[must_use]
    pub fn released(&self) -> Residue {
        if self.steps.is_empty() { self.released } else { Residue::NONE }
    }

    /// What was found; `None` if not all was answered.
    #[must_use]
    pub fn found(&self) -> Option<Found> {
        self.steps.is_empty().then_some(Found { left: self.left })
    }
}

impl Found {
    pub(super) const fn left(&self) -> Residue {
        self.left
    }
}

/// A server that owes nothing and is in no transaction, but carries what its client has left on it: between transactions
/// it waits with that client.
#[must_use]
#[derive(Debug)]
pub struct PinnedServer {
    server: Box<Server>,
    /// As a clean server's: the tenant that it has beyond its transactions.
    carried: Option<Bytes>,
    residue: Residue,
}

impl PinnedServer {
    /// The number of its process.
    #[must_use]
    pub fn process_id(&self) -> i32 {
        self.server.key.process_id
    }

    pub(super) const fn proven(server: Box<Server>, carried: Option<Bytes>, residue: Residue, _proof: Quiet) -> Self {
        Self { server, carried, residue }
    }

    pub(super) fn into_parts(self) -> (Box<Server>, Option<Bytes>, Residue) {
        (self.server, self.carried, self.residue)
    }

    /// What is suspected of it.
    #[must_use]
    pub const fn residue(&self) -> Residue {
        self.residue
    }

    /// Takes a ParameterStatus.
    ///
    /// # Errors
    /// It breaks a pin that the guard relies on.
    pub fn take_parameter(&mut self, name: &str, value: &str) -> Result<(), DiscardReason> {
        if self.server.take_parameter(name, value) { Ok(()) } else { Err(DiscardReason::PinBroken) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(release: Residue, suspected: Residue, tags: &[&str]) -> Option<Residue> {
        let (mut inquiry, sql) = Inquiry::new(release, ["a\"b"].into_iter(), suspected);
        assert_eq!(sql.split(';').count(), inquiry.steps.len(), "{sql}");
        tags.iter().all(|tag| inquiry.take(tag.as_bytes())).then_some(())?;
        inquiry.found().map(|found| found.left())
    }

    #[test]
    fn only_a_complete_answer_proves_anything() {
        let suspected = Residue::TEMPORARY.and(Residue::CHANNELS);
        let front = ["BEGIN", "SET", "COMMIT", "BEGIN", "SET"];
        let tags = |rest: &[&'static str]| [&front[..], rest].concat();
        assert_eq!(found(Residue::NONE, suspected, &tags(&["SELECT 0", "SELECT 0", "COMMIT"])), Some(Residue::NONE));
        assert_eq!(
            found(Residue::NONE, suspected, &tags(&["SELECT 1", "SELECT 0", "COMMIT"])),
            Some(Residue::TEMPORARY)
        );
        for wrong in [
            &["SELECT 0", "SELECT 0"][..],
            &["SELECT 0", "SELECT 0", "ROLLBACK"],
            &["SELECT 0", "COMMIT"],
            &["SELECT 0", "SELECT 2", "COMMIT"],
            &["SELECT 0", "SELECT 0", "COMMIT", "COMMIT"],
        ] {
            assert_eq!(found(Residue::NONE, suspected, &tags(wrong)), None, "{wrong:?}");
        }
    }

    #[test]
    fn what_is_released_is_asked_for_all_the_same_but_for_sequences() {
        let all = Residue::PROVABLE.and(Residue::SEED);
        let mut tags = vec!["BEGIN", "SET", "CLOSE CURSOR ALL", "UNLISTEN", "SELECT 0", "DISCARD TEMP"];
        tags.extend(["DISCARD SEQUENCES", "DEALLOCATE", "COMMIT", "BEGIN", "SET"]);
        tags.extend(["SELECT 0"; 5]);
        tags.push("COMMIT");
        assert_eq!(found(Residue::PROVABLE, all, &tags), Some(Residue::SEED), "nothing takes a seed back");
        let (mut half, _) = Inquiry::new(Residue::PREPARED, ["a", "b"].into_iter(), Residue::PREPARED);
        assert!(["BEGIN", "SET", "DEALLOCATE"].iter().all(|tag| half.take(tag.as_bytes())));
        assert_eq!((half.deallocated(), half.released()), (1, Residue::NONE), "the second is still there");
        let (text, count) = releasing(Residue::PREPARED, ["a\"b"].into_iter());
        assert_eq!((text.as_str(), count), ("DEALLOCATE \"a\"\"b\";", 1));
    }
}
