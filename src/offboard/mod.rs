//! A tenant leaves: which of its rows there are, in which order they can be erased, and what proves it.
//!
//! ```text
//!  tables, keys, counts ─▶ Plan (order, obstacles) ─▶ statements ─▶ Manifest (what was exported) ─▶ Proof (what was erased)
//! ```
//!
//! Owns: the order, the statements' texts, the forms of manifest and proof. Does not own: connections, files (`cli::offboard`).

mod order;
mod paper;
mod plan;

pub use order::{Group, order};
pub use paper::{Exported, Manifest, Proof, ProvenTable, Recorded, VERSION};
pub use plan::{Action, FORMS, Key, Obstacle, Plan, Table, quoted_literal, quoted_name};
