//! Which proofs were skipped, in the file named by `TENANTGATE_SKIPS`, one a line.
#![expect(clippy::expect_used, reason = "a test says why it failed by panicking")]

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

/// Puts a line there, if there is such a file.
pub fn note(what: &str) {
    if let Some(file) = std::env::var_os("TENANTGATE_SKIPS") {
        append(Path::new(&file), what);
    }
}

fn append(file: &Path, what: &str) {
    let mut file = File::options().create(true).append(true).open(file).expect("the list of what is skipped");
    // One write: several test processes use the file.
    file.write_all(format!("skipped: {what}\n").as_bytes()).expect("the list of what is skipped takes a line");
}

#[test]
fn what_is_skipped_is_on_the_list() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("skips");
    append(&file, "one");
    append(&file, "another");
    assert_eq!(std::fs::read_to_string(&file).expect("the list"), "skipped: one\nskipped: another\n");
}
