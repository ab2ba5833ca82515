//! The only async and the only I/O: sockets, clocks, threads, signals.
//!
//! Owns: carrying out what the pure folders decide. Does not own: any decision about bytes.

pub mod build;
mod bypass_orders;
pub mod bypasses;
pub mod cancel;
pub mod client;
pub mod clock;
pub mod connect;
pub mod console;
pub mod control;
mod court;
pub mod deadlines;
mod flusher;
pub mod freeze;
pub mod gauge;
pub mod generation;
pub mod handshake;
pub mod http;
mod http_socket;
pub mod inspect;
pub mod law;
pub mod ledger;
pub mod listener;
pub mod notify;
pub mod parser;
pub mod pool;
pub mod proxy;
pub mod quota;
pub mod reconcile;
pub mod registry;
pub mod reload;
pub mod review;
pub mod sealing;
pub mod shutdown;
pub mod signal;
pub mod stream;
pub mod surfaces;
pub mod tls;
pub mod unix_socket;

pub use build::check;
pub use ledger::{Followed, Follower, LedgerSync, checkpoint_path, closed_files};
pub use proxy::{Proxy, RunningServer, StartFault, start, start_with};
pub use reload::Hooks;
pub use shutdown::serve;
