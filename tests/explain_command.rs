//! `tenantgate explain` as scripts use it: its lines of JSON, its standard input, its exit statuses.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::io::Write as _;
use std::process::{Command, Stdio};

/// What it says of `input` with these arguments: exit status and lines.
fn explained(arguments: &[&str], input: &[u8]) -> (i32, Vec<String>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenantgate"));
    command.arg("explain").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // It may end without having read it.
    let writer = std::thread::spawn(move || stdin.write_all(&input).is_ok());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    (output.status.code().unwrap(), lines)
}

const JSON: &[&str] = &["--format", "json"];

#[test]
fn each_statement_is_a_line_of_json_with_the_promised_keys() {
    let (status, lines) = explained(&["--format", "json", "SELECT max(a) FROM t; DROP TABLE t"], b"");
    assert_eq!(status, 1);
    assert_eq!(
        lines[0],
        r#"{"verdict":"allow","class":"select","code":null,"reason":"allowed by the preset tenant","tables":["t"],"functions":["max"]}"#
    );
    assert!(lines[1].starts_with(r#"{"verdict":"deny","class":"definition","code":"TG019","reason":""#), "{lines:?}");
    assert_eq!(lines.len(), 2);
}

#[test]
fn the_exit_status_says_allowed_denied_or_unusable() {
    for (arguments, input, wanted) in [
        (&["SELECT 1; SELECT 2"][..], &b""[..], 0),
        (&["SELECT 1; LISTEN a"], b"", 1),
        (&["SELEC 1"], b"", 1),
        (&[" ; -- nothing"], b"", 2),
        (&["--preset", "nobody", "SELECT 1"], b"", 2),
        (&["--config", "/nowhere/x.toml", "SELECT 1"], b"", 2),
        (&[], b"SELECT 1;\nSELECT 2;\n", 0),
        (&["-"], b"SELECT 1;\nLISTEN a;\n", 1),
        (&[], b"", 2),
        (&[], b"SELECT \xff", 1),
        // As the login of that preset may, by its own habit.
        (&["--preset", "application", "LISTEN a"], b"", 0),
        (&["--preset", "application", "--session-state", "refuse", "LISTEN a"], b"", 1),
        (&["--preset", "migration", "CREATE TABLE t (a int)"], b"", 0),
    ] {
        let (status, lines) = explained(arguments, input);
        assert_eq!(status, wanted, "{arguments:?} {input:?}: {lines:?}");
    }
}

#[test]
fn standard_input_is_judged_statement_by_statement() {
    let mut file = b"SELECT 1;\nSELEC 2;\nSELECT ';' AS a;\n".to_vec();
    file.extend(b"SELECT 'long enough to pass the cap of one text' FROM t;\n".repeat(3_000));
    let (status, lines) = explained(JSON, &file);
    let denied: Vec<_> = lines.iter().filter(|line| line.contains("\"deny\"")).collect();
    assert_eq!((status, lines.len(), denied.len()), (1, 3_003, 1));
    assert!(denied[0].contains("\"class\":\"none\",\"code\":\"TG021\""), "{denied:?}");
}

const CONFIGURATION: &str = r#"
[servers.main]
host = "/tmp"
[roles.app]
user = "app"
[roles.ops]
user = "ops"
[databases.demo]
server = "main"
role = "app"
[logins.ops]
password = "x"
preset = "bypass"
role = "ops"
[logins.oncall]
password = "x"
preset = "bypass"
role = "ops"
emergencies = "only"
[logins.web]
password = "x"
claims = "transaction"
[logins.web.claimed_bypass]
setting = "app.bypass_rls"
reason = "nightly report"
[ledger]
path = "l"
[[bypass.rules]]
login = "ops"
reason = "looking at .*"
read_only = true
[[bypass.rules]]
login = "ops"
reason = "orders .*"
tables = ["public.orders"]
rows = 5
addresses = ["10.0.0.0/8"]
"#;

#[test]
fn a_login_of_the_configuration_is_judged_by_the_rules_of_its_bypasses_and_its_claims() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tenantgate.toml");
    std::fs::write(&file, CONFIGURATION).unwrap();
    let file = file.to_str().unwrap();
    let ops = |reason: &'static str| vec!["--login", "ops", "--reason", reason];
    let claim = "SELECT set_config('app.bypass_rls', 'true', true)";
    for (login, sql, wanted) in [
        (ops("looking at all"), "SELECT * FROM secrets", ""),
        (ops("looking at all"), "DELETE FROM secrets", "TG178"),
        (ops("orders of May"), "SELECT * FROM public.orders", ""),
        (ops("orders of May"), "SELECT * FROM secrets", "TG177"),
        (ops("orders of May"), "EXPLAIN ANALYZE DELETE FROM public.orders", "TG179"),
        (ops("orders of May"), "COMMIT", ""),
        (ops("something else"), "SELECT 1", "TG175"),
        (ops("short"), "SELECT 1", "TG061"),
        // What the guard refuses, no rule allows.
        (ops("looking at all"), "SET ROLE postgres", "TG012"),
        (vec!["--login", "oncall", "--reason", "the house is on fire"], "SELECT 1", "TG175"),
        (vec!["--login", "web"], claim, ""),
        (vec!["--login", "web"], "SET LOCAL app.bypass_rls = 'false'", ""),
        (vec!["--login", "web"], "SET app.bypass_rls = 'true'", "TG136"),
        (vec!["--login", "web"], "SET LOCAL app.bypass_rls = 'perhaps'", "TG135"),
        (vec!["--login", "web"], "SET LOCAL app.tenant_id = 'no uuid'", "TG131"),
        (vec!["--login", "web"], "CREATE TABLE t (a int)", "TG019"),
        (vec!["--preset", "tenant"], claim, "TG011"),
    ] {
        let arguments = [JSON, &["--config", file], &login, &[sql]].concat();
        let (status, lines) = explained(&arguments, b"");
        let is_told = if wanted.is_empty() { lines[0].contains("\"code\":null") } else { lines[0].contains(wanted) };
        assert!(is_told && status == i32::from(!wanted.is_empty()), "{login:?} {sql}: {status} {lines:?}");
        // The same from standard input, where each is sent by itself.
        let (again, read) = explained(&arguments[..arguments.len() - 1], sql.as_bytes());
        assert_eq!((again, read), (status, lines), "{login:?} {sql}");
    }
    for arguments in [&["--login", "ops"][..], &["--login", "nobody"], &["--login", "web", "--preset", "tenant"]] {
        let (status, lines) = explained(&[&["--config", file], arguments, &["SELECT 1"]].concat(), b"");
        assert_eq!((status, lines.len()), (2, 0), "{arguments:?}: {lines:?}");
    }
}
