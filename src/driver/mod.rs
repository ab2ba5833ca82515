//! (being built)
pub mod connect;
pub mod handshake;
pub mod listener;
pub mod stream;
pub mod tls;
