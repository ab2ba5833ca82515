//! The only async and the only I/O: sockets, clocks, threads, signals.
//!
//! Owns: carrying out what the pure folders decide. Does not own: any decision about bytes.

pub mod build;
pub mod cancel;
pub mod client;
pub mod clock;
pub mod connect;
pub mod handshake;
pub mod ledger;
pub mod listener;
pub mod parser;
pub mod pool;
pub mod proxy;
pub mod stream;
pub mod tls;

pub use build::check;
pub use proxy::{RunningServer, StartFault, serve, start};
