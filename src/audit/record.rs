//! What is said of one transaction.

use std::sync::Arc;

use uuid::Uuid;

use super::chain::Damage;
use super::checkpoint::PublicKey;
use super::reason::Reason;
use crate::fault::SqlState;
use crate::guard::StatementClass;
use crate::tenant::TenantId;

/// A transaction's name in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransactionId(pub Uuid);

impl std::fmt::Display for TransactionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Who acts: the same for all transactions of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The login.
    pub login: Arc<str>,
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
}

/// What a session says before a transaction begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// Why.
    pub reason: Option<Reason>,
    /// The proxy's number for the server connection.
    pub server: u64,
    /// The process behind it.
    pub server_process: i32,
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
    /// Its text without literals; `None` where they could not be left out for certain, or where there was no room.
    pub text: Option<Box<str>>,
}

/// What a session says after a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub conclusion: Conclusion,
    /// The error that ended it.
    pub sqlstate: Option<SqlState>,
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

/// One record's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Before the transaction.
    Intent(Intent),
    /// After it.
    Outcome(Box<Outcome>),
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

/// What an administrator does to a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TenantAct {
    /// Nobody works for it any more.
    Freeze,
    /// The end of that.
    Thaw,
}

impl TenantAct {
    /// The kind of its record.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            TenantAct::Freeze => "freeze",
            TenantAct::Thaw => "thaw",
        }
    }
}

/// A record of what was done to a tenant: it belongs to no transaction.
#[derive(Clone, Debug)]
pub struct TenantRecord {
    /// Its own name in the ledger.
    pub id: Uuid,
    /// What.
    pub act: TenantAct,
    /// Whose login did it.
    pub login: Arc<str>,
    /// Where from.
    pub address: Arc<str>,
    /// To whom.
    pub tenant: TenantId,
    /// Why.
    pub reason: Arc<str>,
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
