//! The packaged files, held against the programs that read them.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test says why it failed by panicking")]

#[path = "support/skips.rs"]
mod skips;

use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

const UNIT: &str = include_str!("../config/tenantgate.service");

/// What systemd says of a unit; `None` without systemd.
fn complaints(unit: &str) -> Option<(bool, String)> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tenantgate.service");
    // The program is not installed where it is tested.
    std::fs::write(&file, unit.replace("/usr/local/bin/tenantgate", env!("CARGO_BIN_EXE_tenantgate"))).unwrap();
    let output = match Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&file).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        output => output.unwrap_or_else(|error| panic!("systemd-analyze: {error}")),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("tenantgate")).collect();
    Some((output.status.success(), ours.join("\n")))
}

#[test]
fn systemd_understands_the_unit() {
    assert!(Path::new(env!("CARGO_BIN_EXE_tenantgate")).is_absolute());
    let Some((is_good, said)) = complaints(UNIT) else {
        skips::note("systemd_understands_the_unit: systemd-analyze is not installed");
        return;
    };
    assert!(is_good && said.is_empty(), "{said}");
    // It is noticed if it does not.
    for (from, to) in [("WatchdogSec=30s", "WatchdogSec=soon"), ("[Service]\n", "[Service]\nProtectEverything=yes\n")] {
        let (_, said) = complaints(&UNIT.replace(from, to)).unwrap();
        assert!(!said.is_empty(), "{to}");
    }
    assert!(!complaints(&UNIT.replace("/usr/local/bin/tenantgate serve", "/nowhere/tenantgate serve")).unwrap().0);
}
