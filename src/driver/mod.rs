//! (being built)

pub mod parser;
