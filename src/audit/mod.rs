//! Records of bypass and migration transactions, and of tenants frozen and thawed: what is said of each, and how it is written.
//!
//! A transaction has two records, an *intent* (durable before it begins) and an *outcome* (after it ended). Each is
//! one line of JSON. Values never enter a record: statements are written without literals.
//!
//! Owns: the records, their lines, reading lines back, joining intents with outcomes. Does not own: files, clocks,
//! when a record has to be durable (`session`), or who writes it (`driver`).

mod account;
mod line;
mod reason;
mod record;
mod review;

pub use account::Account;
pub use line::{Line, SCHEMA_VERSION};
pub use reason::Reason;
pub use record::{
    Actor, Conclusion, Entry, Intent, Outcome, Record, StatementNote, TenantAct, TenantRecord, TransactionId,
};
pub use review::{Reviewed, review};
