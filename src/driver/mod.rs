//! The only async and the only I/O: sockets, clocks, threads, signals.
//!
//! Owns: carrying out what the pure folders decide. Does not own: any decision about bytes.

pub mod connect;
pub mod handshake;
pub mod listener;
pub mod parser;
pub mod stream;
pub mod tls;
