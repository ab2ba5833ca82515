//! Inputs that fuzzing kept, replayed: every file of `tests/fuzz_regressions/` through every target's entry.
//!
//! The entries are those of `fuzz/` (docs/fuzzing.md). A file's name is the target that found it and what it was.

#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "../fuzz/entries/mod.rs"]
mod entries;

use std::path::Path;

/// As the parser's threads have, and more: entries are not optimised here.
const STACK_BYTES: usize = 256 * 1024 * 1024;

#[test]
fn kept_inputs_find_nothing_again() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz_regressions");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    let replay = move || {
        for path in files {
            let data = std::fs::read(&path).unwrap();
            for (name, run) in entries::ALL {
                eprintln!("{} through {name}", path.display());
                run(&data);
            }
        }
    };
    std::thread::Builder::new().stack_size(STACK_BYTES).spawn(replay).unwrap().join().unwrap();
}
