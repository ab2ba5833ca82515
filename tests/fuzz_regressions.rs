//! Inputs that fuzzing kept, replayed: every file of `tests/fuzz_regressions/` through every target's entry.
//!
//! The entries are those of `fuzz/` (docs/fuzzing.md). A file's name is the target that found it and what it was.
//! `FUZZ_INPUT=file` replays another one, without a fuzzer's build.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says why it failed by panicking")]

#[path = "../fuzz/entries/mod.rs"]
mod entries;

use std::path::Path;

/// As the parser's threads have, and more: entries are not optimised here.
const STACK_BYTES: usize = 256 * 1024 * 1024;

/// Runs on a stack as deep as a parser's thread has.
fn deep(work: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(STACK_BYTES).spawn(work).unwrap().join().unwrap();
}

#[test]
fn kept_inputs_find_nothing_again() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz_regressions");
    let mut files: Vec<_> = match std::env::var_os("FUZZ_INPUT") {
        Some(file) => vec![file.into()],
        None => std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect(),
    };
    files.sort();
    assert!(!files.is_empty());
    deep(move || {
        for path in files {
            let data = std::fs::read(&path).unwrap();
            for (name, run) in entries::ALL {
                eprintln!("{} through {name}", path.display());
                run(&data);
            }
        }
    });
}

/// Without coverage to guide them, but in every run of the tests: `FUZZ_SEEDS` of them for each target, 200 by default.
#[test]
fn drawn_inputs_find_nothing() {
    let count: u64 = std::env::var("FUZZ_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(200);
    let from: u64 = std::env::var("FUZZ_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    deep(move || {
        for seed in from..from + count {
            for (name, run) in entries::ALL {
                let _said = Said(name, seed);
                run(&drawn(seed));
            }
        }
    });
}

/// Says which input it was if that fails.
struct Said(&'static str, u64);

impl Drop for Said {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("target {}: FUZZ_SEED={} FUZZ_SEEDS=1", self.0, self.1);
        }
    }
}

fn drawn(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let bytes = (0..48).flat_map(|_| {
        // splitmix64
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)).to_le_bytes()
    });
    bytes.collect()
}
