//! What fuzz targets do with their bytes, and what must hold whatever the bytes are.
//!
//! Shared by the targets of `fuzz/fuzz_targets` (coverage-guided, `make fuzz`) and by `tests/fuzz_regressions.rs`, which
//! replays every kept input in the normal suite. An entry panics if what must hold does not.

pub mod draw;
pub mod frames;
pub mod guard;
pub mod play;
pub mod scram;
pub mod server;
pub mod session;
pub mod startup;
pub mod world;

/// What a target does with its bytes.
pub type Entry = fn(&[u8]);

/// Name and entry of every target.
pub const ALL: [(&str, Entry); 6] = [
    ("frames", frames::run),
    ("guard", guard::run),
    ("scram", scram::run),
    ("server", server::run),
    ("session", session::run),
    ("startup", startup::run),
];
