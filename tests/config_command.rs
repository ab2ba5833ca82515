//! `check-config` and `serve` as a shell sees them: what they print, and their exit status.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

const GOOD: &str = "[servers.main]\nhost = \"/tmp\"\n[roles.app]\nuser = \"app\"\npassword_file = \"app.password\"\n\
                    [databases.demo]\nserver = \"main\"\nrole = \"app\"\n\
                    [logins.a]\npassword_env = \"TENANTGATE_TEST_PASSWORD\"\ntenant.from = [\"suffix\"]\n";

fn run(arguments: &[&str], file: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenantgate"));
    command.args(arguments).arg(file).env("TENANTGATE_TEST_PASSWORD", "secret word").current_dir("/").output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_good_file_is_usable_and_its_references_start_at_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tenantgate.toml");
    std::fs::write(&file, GOOD).unwrap();
    std::fs::write(folder.path().join("app.password"), "pass\n").unwrap();
    std::fs::set_permissions(folder.path().join("app.password"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let output = run(&["check-config"], &file);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("usable (1 server group, 1 database, 1 login)"), "{said}");
    assert!(said.contains("warning: roles.app.password_file (line 5): every user may read"), "{said}");
    std::fs::set_permissions(folder.path().join("app.password"), std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(!text(&run(&["check-config"], &file).stdout).contains("warning"));
}

#[test]
fn problems_are_status_1_and_all_of_them_are_printed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tenantgate.toml");
    std::fs::write(&file, format!("{GOOD}[pool]\nsize = 0\nsise = 3\n")).unwrap();
    for (arguments, is_serve) in [(&["check-config"][..], false), (&["serve", "--config"][..], true)] {
        let output = run(arguments, &file);
        let said = text(if is_serve { &output.stderr } else { &output.stdout });
        assert_eq!(output.status.code(), Some(1), "{said}");
        for wanted in [
            "roles.app.password_file (line 5): cannot read \"app.password\": No such file or directory",
            "pool.size (line 13): must be a whole number from 1 to 10000",
            "pool.sise (line 14): there is no such key; did you mean \"size\"?",
            "tenantgate.toml: 3 problems",
        ] {
            assert!(said.contains(wanted), "{wanted:?} is not in {said}");
        }
        assert!(!said.contains("secret word"));
    }
}

/// What `serve` would stumble over on this machine.
#[test]
fn a_machine_without_trusted_roots_is_a_problem() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tenantgate.toml");
    let good = GOOD.replace("/tmp", "db.example.com").replace("password_file = \"app.password\"\n", "");
    std::fs::write(&file, format!("{good}[listen]\naddresses = [\"127.0.0.1:0\"]\n")).unwrap();
    for arguments in [&["check-config"][..], &["serve", "--config"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_tenantgate"))
            .args(arguments)
            .arg(&file)
            .env("TENANTGATE_TEST_PASSWORD", "secret word")
            .envs([("SSL_CERT_FILE", "/dev/null"), ("SSL_CERT_DIR", "/nonexistent")])
            .output()
            .unwrap();
        let said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("there are no root certificates to verify the other side with"), "{said}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_status_2() {
    for arguments in [&["check-config"][..], &["serve", "--config"]] {
        let output = run(arguments, Path::new("/nonexistent/tenantgate.toml"));
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains("cannot be read: No such file or directory"));
    }
}
