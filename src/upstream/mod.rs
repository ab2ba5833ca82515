//! One server's life: its login, the replies it owes by cause, the facts known about it.
//!
//! Does not own: sockets (the driver's), tenants (`scope`'s), or to whom replies go (the session's).

pub mod hosts;
pub mod login;
pub mod outdated;
pub mod preparing;
pub mod replies;
pub mod server;
pub mod settings;
pub mod statement;

pub use preparing::Preparing;
pub use replies::{Expect, Quiet, Received, Replies, Unexpected};
pub use server::{Parameters, Server, ServerId, ServerKey};
pub use settings::Settings;
pub use statement::{ReplacedUnnamed, ServerStatements, StatementKey, StatementLimits, StatementNumber};
