//! Records of bypass and migration transactions, and of tenants frozen and thawed: what is said of each, and how it is written.
//!
//! A transaction has an *intent* (durable before it begins), a *pre-commit* (durable before a COMMIT goes to the server)
//! and an *outcome* (after it ended). Each is one line of JSON. Values never enter a record: statements are written
//! without literals.
//!
//! Lines are tied to each other by their digests, and a key vouches for the last one now and then: what is changed,
//! removed or put in afterwards is found.
//!
//! Owns: the records, their lines and chain, checkpoints, reading lines back, joining intents with outcomes. Does not own: files, clocks,
//! when a record has to be durable (`session`), or who writes it (`driver`).

mod account;
mod act;
mod bypass_act;
mod chain;
mod checkpoint;
mod deed;
mod dossier;
mod joining;
mod legible;
mod line;
mod mark;
mod parameter;
mod query;
mod reason;
mod reconcile;
mod record;
mod refused;
mod rights;
mod standing;
mod totals;

pub use account::Account;
pub use act::{Act, Fields, TenantAct, TenantRecord};
pub use bypass_act::{BypassAct, BypassRecord};
pub use chain::{Breach, Broken, Damage, Digest, Expectations, Head, Spot, Verified, Verifier};
pub use checkpoint::{Checkpoint, NoteFault, PublicKey, SignedNote, SigningKey, signing_key};
pub use deed::{Deed, KINDS};
pub use dossier::{Dossier, Fit, Leaf, Wanted};
pub use joining::{Joiner, Late, Shelf};
pub use legible::{escaped, is_legible, legible};
pub use line::{Line, Place, SCHEMA_VERSION};
pub use mark::{Judgement, Mark, parse_note};
pub use parameter::{ParameterDigests, ParameterKey};
pub use query::{Edge, Filter, parse_time};
pub use reason::Reason;
pub use reconcile::{Evidence, Known, Ledgers, Reconciled, Search, Status, Testimony, Unresolved, judge};
pub use record::{
    Actor, Conclusion, Done, Entry, Intent, Opening, OpeningCause, Outcome, PreCommit, Record, StatementNote,
    TransactionId, Xid,
};
pub use refused::Refusal;
pub use rights::RightsChange;
pub use standing::{Crash, Flushed, Standing, WalPlace, Witness, parse_timeline};
pub use totals::{Sum, Totals, UNNAMED, ranked};
