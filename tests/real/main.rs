//! Proofs against real PostgreSQL: what issue 2 says must be shown.
//!
//! One test crate, so that one cluster per version serves all of it.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says why it failed by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod acts;
mod drivers;
mod lifecycle;
mod load;
mod login;
mod pgbench;
mod scripts;
