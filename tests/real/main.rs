//! Proofs against real PostgreSQL: what issue 2 says must be shown.
//!
//! One test crate, so that one cluster per version serves all of it. PostgreSQL 15 must be there, 18 is skipped
//! by name if it is not.
//!
//! | variable | says |
//! |---|---|
//! | `TENANTGATE_BIN` | the binary under test, if not the one cargo built (a release build, say) |
//! | `TENANTGATE_PG15_BIN`, `TENANTGATE_PG18_BIN` | where PostgreSQL's programs are |
//! | `TENANTGATE_PG14_BIN`, `…16…`, `…17…` | the same for what is proved on all supported releases |
//! | `TENANTGATE_SCRIPT`, `TENANTGATE_SHOW`, `TENANTGATE_REHEARSAL` | see `tests/scripts/README.md` |
//! | `TENANTGATE_SESSIONS`, `TENANTGATE_SEED` | how many generated sessions, from which seed (see `differential`) |
//! | `TENANTGATE_CRASHES`, `TENANTGATE_SEED` | how often proxy or servers are killed under bypass transactions |
//! | `TENANTGATE_CUT_STRIDE` | links are cut behind every so manieth byte; 1: behind each |
//! | `TENANTGATE_VALUE_BYTES` | how long the longest values are, up to 1000000000 |
//! | `TENANTGATE_LOAD_TRANSACTIONS`, `TENANTGATE_SEED` | size and choices of the storm |
//! | `TENANTGATE_UPHEAVAL_ROUNDS` | how often sealed databases and their proxies are restarted under load |
//!
//! The feature `mutants` adds the proofs that planted defects are found: `cargo test --features mutants --test real
//! mutants`.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says why it failed by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod acts;
mod attack;
mod bounds;
mod bypass;
mod bypass_crash;
mod bypass_durable;
mod bypass_emergency;
mod bypass_limits;
mod bypass_orders;
mod bypass_pipeline;
mod calls;
mod check;
mod claimed_bypass;
mod claimed_kept;
mod claims;
mod console;
mod defined;
mod differential;
mod drivers;
mod faults;
mod guard;
mod lease;
mod ledger_faults;
mod ledger_sealed;
mod lifecycle;
mod limits;
mod load;
mod login;
mod misbehaviour;
mod offboard;
mod operations;
mod pgbench;
mod pins;
mod reload;
mod reported;
mod reused_id;
mod scripts;
mod sealed;
mod sealed_reload;
mod sealed_rows;
mod sealed_upheaval;
mod soak;
mod statements;
mod tokio_session;
mod transport;
mod upheaval;
mod versions;
