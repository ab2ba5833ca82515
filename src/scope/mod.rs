//! Puts a tenant on a server transaction, and proves a server clean afterwards.
//!
//! Owns: what is injected and when, [`ScopedFrame`] (the only form in which bytes reach a server),
//! [`CleanServer`] (the only form in which a server goes back to its pool). Does not own: what a client's
//! statement is (the guard's), or which client is served (the session's).

mod clean;
mod frame;
mod injection;
mod leased;
mod replay;
mod residue;
mod template;
mod ticket;
mod transaction;

pub use clean::{CleanServer, DiscardReason};
pub use frame::{NeedsNoScope, ScopedFrame};
pub use injection::{Gate, Injection, Lifetime, PRELUDE_STATEMENTS, Prelude, SET_READ_ONLY};
pub use leased::LeasedServer;
#[cfg(feature = "mutants")]
pub use replay::replay_inside;
pub use replay::{Missing, Part, commit, install, replay};
pub use residue::{Found, Inquiry, PinnedServer, Residue, releases, releasing};
pub use template::{ScopeTemplate, TemplateFault, is_setting_name};
pub use ticket::{Holder, KEY_BYTES, SealKey, Ticket};
pub use transaction::TransactionScope;
