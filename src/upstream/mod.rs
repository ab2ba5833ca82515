//! (being built)
pub mod login;
