//! What is said of one transaction.

use std::sync::Arc;

use uuid::Uuid;

use super::chain::Damage;
use super::checkpoint::PublicKey;
use super::reason::Reason;
use super::standing::Standing;
use crate::fault::{Code, SqlState};
use crate::guard::StatementClass;

/// Most bytes of an `application_name`.
const APPLICATION_BYTES_MAX: usize = 256;

/// A transaction's name in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransactionId(pub Uuid);

impl std::fmt::Display for TransactionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A transaction's id on the server, as `pg_current_xact_id()` writes it; it is used once, unless a crash has lost it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Xid(pub u64);

impl std::fmt::Display for Xid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Who acts: the same for all transactions of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actor {
    /// The login.
    pub login: Arc<str>,
    /// How it has proven who it is: `scram-sha-256`, `cert`, `jwt`, `trust`.
    pub method: &'static str,
    /// Where the client is.
    pub address: Box<str>,
    /// The database, as the client asked for it.
    pub database: Arc<str>,
    /// The role's name on the server.
    pub role: Arc<str>,
    /// `bypass`, `migration`, or `claimed_bypass`.
    pub preset: &'static str,
    /// The tenant, over migration logins.
    pub tenant: Option<Box<str>>,
    /// The process id in the client's cancel key.
    pub client: i32,
    /// The configuration in force: the first 16 bytes of the SHA-256 of its text, in hexadecimal.
    pub config: Arc<str>,
}

/// What a session says before a transaction begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intent {
    /// Why.
    pub reason: Option<Reason>,
    /// The part of the reason that names a ticket, where a pattern for it is configured.
    pub ticket: Option<Box<str>>,
    /// For whom, as the client says.
    pub on_behalf_of: Option<Box<str>>,
    /// The client's `application_name`.
    pub application: Option<Box<str>>,
    /// The emergency under which the login may do this.
    pub emergency: Option<Uuid>,
    /// The proxy's number for the server connection.
    pub server: u64,
    /// The process behind it.
    pub server_process: i32,
    /// `server_version_num`.
    pub server_version: u32,
    /// Whether it leaves a row of its own in the database: a bypass does where that is sealed.
    pub leaves_row: bool,
}

impl Intent {
    /// What is written of a client's `application_name`: PostgreSQL itself keeps 63 bytes, and a line has its bound.
    #[must_use]
    pub fn application_of(name: &str) -> Box<str> {
        (0..=APPLICATION_BYTES_MAX).rev().find_map(|end| name.get(..end)).unwrap_or_default().into()
    }
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Conclusion {
    /// The server confirmed its COMMIT.
    Committed,
    /// It was rolled back, by the client or because the client left.
    RolledBack,
    /// An error ended it.
    Failed,
    /// A COMMIT was sent and never answered.
    Unknown,
}

impl Conclusion {
    /// The word in the ledger.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Conclusion::Committed => "committed",
            Conclusion::RolledBack => "rolled_back",
            Conclusion::Failed => "failed",
            Conclusion::Unknown => "unknown",
        }
    }
}

/// One statement of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementNote {
    /// Its class.
    pub class: StatementClass,
    /// Its first word.
    pub verb: Box<str>,
    /// Its text without literals; `None` where they could not be left out for certain, or where there was no room.
    pub text: Option<Box<str>>,
    /// The same for texts that are the same without their literals: the first 8 bytes of the SHA-256 of that text, where
    /// all of it is known.
    pub fingerprint: Option<u64>,
    /// The tables that it names.
    pub tables: Vec<Box<str>>,
    /// The rows of its command tag; `None` where it has none, or was not answered yet.
    pub rows: Option<u64>,
    /// The error it failed with.
    pub sqlstate: Option<SqlState>,
    /// Digests of its parameters' values under the key of `parameter_key_file`; `None` for NULL.
    pub parameters: Option<Vec<Option<Box<str>>>>,
}

/// What a transaction has done so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// The first statements that were sent.
    pub statements: Vec<StatementNote>,
    /// How many were sent.
    pub statements_total: u64,
    /// The tables that they name.
    pub tables: Vec<Box<str>>,
    /// Rows the client was sent, whatever the outcome.
    pub rows_delivered: u64,
    /// Rows that were written, by the server's count.
    pub rows_affected: u64,
    /// Statements, texts or tables were left out for want of room.
    pub is_truncated: bool,
}

/// What a session says in front of a COMMIT: without this record on the disk no COMMIT goes to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreCommit {
    /// How the transaction stood on the server; nothing is known of what commits by itself.
    pub standing: Standing,
    /// There is no COMMIT: what runs outside of blocks commits by itself.
    pub is_self_committing: bool,
    /// What it has done.
    pub done: Done,
}

/// What a session says after a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub conclusion: Conclusion,
    /// The error that ended it.
    pub sqlstate: Option<SqlState>,
    /// The limit of a bypass that has ended it.
    pub code: Option<Code>,
    /// The transaction's id on the server, where its pre-commit record has one.
    pub xid: Option<Xid>,
    /// How long it took, from its intent on; the writer's clock knows.
    pub duration_micros: Option<u64>,
    /// What it has done.
    pub done: Done,
}

/// One record's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Before the transaction.
    Intent(Intent),
    /// Before its COMMIT.
    PreCommit(Box<PreCommit>),
    /// After it.
    Outcome(Box<Outcome>),
}

impl Entry {
    /// Whether what it is about is not done unless it is written; else it tells of what has happened.
    #[must_use]
    pub const fn is_ahead(&self) -> bool {
        match self {
            Entry::Intent(_) | Entry::PreCommit(_) => true,
            Entry::Outcome(_) => false,
        }
    }
}

/// A record: who, which transaction, what.
#[derive(Clone, Debug)]
pub struct Record {
    /// The transaction.
    pub transaction: TransactionId,
    /// Who acts.
    pub actor: Arc<Actor>,
    /// What is said.
    pub entry: Entry,
}

/// Why a file of the ledger was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OpeningCause {
    /// The proxy has started.
    Boot,
    /// The file before was moved away, or could not be written any more.
    Reopen,
}

impl OpeningCause {
    /// The kind of its record.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            OpeningCause::Boot => "boot",
            OpeningCause::Reopen => "reopen",
        }
    }
}

/// The first record behind the start of the proxy, or of a new file: what was found there.
#[derive(Clone, Debug)]
pub struct Opening {
    /// Its own name in the ledger.
    pub id: Uuid,
    /// Why.
    pub cause: OpeningCause,
    /// The ledger's name.
    pub ledger: Uuid,
    /// The proxy's version.
    pub version: &'static str,
    /// From here on no more records than this stand between two checkpoints; `None`: nothing is signed.
    pub checkpoint_records: Option<u64>,
    /// Whose signatures there will be.
    pub public_key: Option<PublicKey>,
    /// Text behind the last record that is none.
    pub damage: Option<Damage>,
    /// The last record that the proxy knew of, where it is not there any more.
    pub expected: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_application_name_is_cut_between_characters() {
        assert_eq!(&*Intent::application_of("psql"), "psql");
        let long = Intent::application_of(&format!("a{}", "é".repeat(40_000)));
        assert_eq!(long.len(), APPLICATION_BYTES_MAX - 1);
    }
}
