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
