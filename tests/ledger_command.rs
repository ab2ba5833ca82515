//! `tenantgate ledger list|show|stats|tail|export` over files that hold what the proxy writes, whole and rotated.
//!
//! Needs no PostgreSQL. `TENANTGATE_LEDGER_RECORDS=1000000` makes the long one as long as that, with its memory bounded.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

#[path = "support/book.rs"]
mod book;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use book::Book;
use serde_json::Value;

/// As the proxy does: the next record goes into another file.
fn rotate(book: &mut Book) {
    book.save();
    std::fs::rename(&book.path, book.path.with_file_name(format!("ledger.jsonl.{:020}", book.seq))).unwrap();
}

/// As the proxy does with `compress = "gzip"`; `how` is a program that others have, too.
fn compress(book: &Book, how: &str) {
    let closed = book.path.with_file_name(format!("ledger.jsonl.{:020}", book.seq));
    assert!(Command::new(how).arg(&closed).status().unwrap().success());
    assert!(!closed.exists() && closed.with_file_name(format!("ledger.jsonl.{:020}.gz", book.seq)).exists());
}

/// Three transactions on two days in three files, one of them reviewed.
fn book(folder: &Path) -> Book {
    let mut book = Book::new(folder);
    book.put(21, r#""kind":"boot","id":"z","ledger":"l","version":"0""#);
    book.transaction(21, "aaaa", "ops", "ticket 1: totals", "public.orders", 3);
    rotate(&mut book);
    // The middle one stays plain: a folder with both is what a proxy that was told lately to compress has.
    compress(&book, "gzip");
    book.transaction(22, "bbbb", "eve", "ticket 2: =cmd", "customers", 40);
    book.put(22, r#""kind":"intent","id":"cccc","login":"ops","address":"::1","reason":"never\u001b[31m ended""#);
    rotate(&mut book);
    book.put(
        23,
        r#""kind":"review","id":"mmmm","transaction":"aaaa","reviewer":"rita","verdict":"ok","note":"as asked""#,
    );
    book.put(23, r#""kind":"freeze","id":"ffff","login":"admin","address":"::1","tenant":"globex","reason":"a leak""#);
    book.save();
    book
}

fn ledger(path: &Path, command: &str, arguments: &[&str]) -> Output {
    let mut tenantgate = Command::new(env!("CARGO_BIN_EXE_tenantgate"));
    tenantgate.args(["ledger", command, "--ledger"]).arg(path).args(arguments).env("COLUMNS", "400").output().unwrap()
}

fn said(path: &Path, command: &str, arguments: &[&str]) -> String {
    let output = ledger(path, command, arguments);
    assert!(output.status.success(), "{command} {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn ids(json: &str) -> Vec<String> {
    let id = |line: &str| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned();
    json.lines().map(id).collect()
}

#[test]
fn filters_choose_over_all_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = book(folder.path()).path;
    for (arguments, wanted) in [
        (&[][..], &["aaaa", "bbbb", "ffff", "cccc"][..]),
        (&["--since", "2026-11-22"], &["bbbb", "ffff", "cccc"]),
        (&["--until", "2026-11-21"], &["aaaa"]),
        (&["--from", "2026-11-22", "--to", "2026-11-22"], &["bbbb", "cccc"]),
        (&["--actor", "EVE"], &["bbbb"]),
        (&["--login", "ops"], &["aaaa", "cccc"]),
        (&["--reason", "Ticket"], &["aaaa", "bbbb"]),
        (&["--table", "orders"], &["aaaa"]),
        (&["--outcome", "none"], &["cccc"]),
        (&["--rows-min", "4"], &["bbbb"]),
        (&["--preset", "bypass", "--reviewed", "no"], &["bbbb"]),
        (&["--reviewed", "yes"], &["aaaa"]),
        (&["--kind", "review"], &["mmmm"]),
        (&["--tenant", "globex"], &["ffff"]),
        (&["--limit", "1"], &["cccc"]),
    ] {
        let arguments = [arguments, &["--format", "json"]].concat();
        let found = ids(&said(&path, "list", &arguments));
        assert_eq!(found, wanted, "{arguments:?}");
        assert!(arguments.contains(&"--limit") || ids(&said(&path, "export", &arguments)) == found);
    }
    for bad in [["--since", "soon"], ["--rows-min", "many"], ["--reviewed", "maybe"]] {
        let output = ledger(&path, "list", &bad);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{output:?}");
    }
}

#[test]
fn what_is_written_cannot_steer_terminals_or_spreadsheets() {
    let folder = tempfile::tempdir().unwrap();
    let mut book = book(folder.path());
    book.transaction(23, "dddd", "ops", "=HYPERLINK(\\\"http://x\\\")", "t", 1);
    book.save();
    for command in ["list", "tail", "stats"] {
        let shown = said(&book.path, command, &[]);
        assert!(shown.contains("never") && !shown.contains('\u{1b}'), "{command}: {shown}");
    }
    assert!(!said(&book.path, "show", &["cccc"]).contains('\u{1b}'));
    let csv = said(&book.path, "export", &["--format", "csv"]);
    assert!(csv.contains(",\"'=HYPERLINK(\"\"http://x\"\")\","), "{csv}");
}

#[test]
fn one_transaction_is_shown_with_its_place_in_the_chain() {
    let folder = tempfile::tempdir().unwrap();
    let path = book(folder.path()).path;
    let shown = said(&path, "show", &["aaaa"]);
    for wanted in
        ["ticket 1: totals", "public.orders", "1 times, last by rita: ok, as asked", ".jsonl.00000000000000000003.gz:2"]
    {
        assert!(shown.contains(wanted), "{wanted:?} in {shown}");
    }
    assert!(!shown.contains("DOES NOT FIT"));
    // By the number of its outcome, and of its review.
    for number in ["3", "7"] {
        let json: Value = serde_json::from_str(&said(&path, "show", &[number, "--json"])).unwrap();
        assert_eq!((&json["act"]["id"], json["records"].as_array().unwrap().len()), (&"aaaa".into(), 3), "{json}");
        assert_eq!(json["records"][0]["fits_behind"], true);
    }
    assert_eq!(ledger(&path, "show", &["nobody"]).status.code(), Some(1));
    // Its reason was changed afterwards.
    let file = folder.path().join("ledger.jsonl.00000000000000000003");
    assert!(Command::new("gunzip").arg(file.with_extension("00000000000000000003.gz")).status().unwrap().success());
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("ticket 1: totals", "ticket 1: nothing")).unwrap();
    let output = ledger(&path, "show", &["aaaa"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("the record behind it DOES NOT FIT"));
}

#[test]
fn sums_are_of_what_fits() {
    let folder = tempfile::tempdir().unwrap();
    let path = book(folder.path()).path;
    let csv = said(&path, "stats", &["--format", "csv", "--by", "actor"]);
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines[1], "all,,4,2,0,1,3,43,0,2026-11-23T09:00:08.000000Z");
    assert_eq!(lines[2], "actor,ops,2,1,0,1,1,3,0,2026-11-22T09:00:06.000000Z");
    assert_eq!(lines.len(), 5);
    let json = said(&path, "stats", &["--format", "json", "--table", "customers"]);
    let reason: Value =
        json.lines().map(|line| serde_json::from_str(line).unwrap()).find(|row: &Value| row["by"] == "reason").unwrap();
    assert_eq!((&reason["value"], &reason["sum"]["rows_delivered"]), (&"ticket 2: =cmd".into(), &40.into()));
}

#[test]
fn an_export_is_a_file_of_ones_own_and_overwrites_nothing() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = book(folder.path()).path;
    let target = folder.path().join("out.csv");
    let target_text = target.to_str().unwrap().to_owned();
    said(&path, "export", &["--format", "csv", "--output", &target_text]);
    assert_eq!(std::fs::read_to_string(&target).unwrap().lines().count(), 5);
    assert_eq!(std::fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(ledger(&path, "export", &["--output", &target_text]).status.code(), Some(2));
    let none = folder.path().join("none.csv");
    let output = ledger(&folder.path().join("no-ledger"), "export", &["--output", none.to_str().unwrap()]);
    assert_eq!((output.status.code(), none.exists()), (Some(2), false));
}

#[test]
fn tail_follows_through_rotations() {
    let folder = tempfile::tempdir().unwrap();
    let mut book = book(folder.path());
    assert_eq!(ids(&said(&book.path, "tail", &["-n", "2", "--format", "json"])), ["ffff", "cccc"]);
    let tail = Command::new(env!("CARGO_BIN_EXE_tenantgate"))
        .args(["ledger", "tail", "--follow", "-n", "1", "--format", "json", "--ledger"])
        .arg(&book.path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let tail = Arc::new(Mutex::new(tail));
    let stdout = tail.lock().unwrap().stdout.take().unwrap();
    // What never comes would be waited for without end.
    std::thread::spawn({
        let tail = Arc::clone(&tail);
        move || {
            std::thread::sleep(Duration::from_secs(120));
            tail.lock().unwrap().kill().unwrap();
        }
    });
    let mut lines = BufReader::new(stdout).lines().map(|line| ids(&line.unwrap()).remove(0));
    assert_eq!(lines.next().unwrap(), "ffff");
    for round in 0..4 {
        let id = format!("r{round}");
        book.transaction(24, &id, "ops", "more", "t", 1);
        if round % 2 == 0 {
            rotate(&mut book);
            compress(&book, "gzip");
        } else {
            book.save()
        }
        assert_eq!(lines.next().unwrap(), id);
    }
    let mut tail = tail.lock().unwrap();
    tail.kill().unwrap();
    tail.wait().unwrap();
}

#[test]
fn damage_of_a_compressed_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let book = book(folder.path());
    let (live, verify) = (&book.path, |path: &Path| ledger(path, "verify", &[]));
    let text = |output: &Output| String::from_utf8([&*output.stdout, &*output.stderr].concat()).unwrap();
    assert!(verify(live).status.success(), "{:?}", verify(live));
    let gzip = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let gzip = gzip.filter(|path| path.extension().is_some_and(|end| end == "gz")).min().unwrap();
    // One of them by its name, and what zcat makes of it.
    let alone = ledger(&gzip, "list", &["--json"]);
    assert_eq!(ids(&String::from_utf8(alone.stdout).unwrap()), ["aaaa"]);
    let zcat = Command::new("zcat").arg(&gzip).output().unwrap().stdout;
    let plain = gzip.with_extension("");
    let good = std::fs::read(&gzip).unwrap();
    // Both forms: only if they are the same.
    std::fs::write(&plain, &zcat).unwrap();
    assert!(verify(live).status.success());
    std::fs::write(&gzip, &good[..good.len() - 9]).unwrap();
    let output = verify(live);
    let name = gzip.display().to_string();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output).contains(&format!("WRONG: {name}: is not the file")), "{output:?}");
    std::fs::remove_file(&plain).unwrap();
    for (bad, line) in [(&good[..good.len() - 9], 4), (&good[..5], 1), (b"{}\n", 1)] {
        std::fs::write(&gzip, bad).unwrap();
        let output = verify(live);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let wanted = format!("WRONG: {name}:{line}: this line cannot be decompressed");
        assert!(text(&output).contains(&wanted), "{wanted}\n{output:?}");
        for (command, arguments) in
            [("list", &[][..]), ("stats", &[]), ("show", &["bbbb"]), ("export", &["--format", "csv"])]
        {
            let output = ledger(live, command, arguments);
            assert_eq!(output.status.code(), Some(2), "{command}: {output:?}");
            assert!(text(&output).contains(&name), "{command}: {output:?}");
        }
        // Whoever looks at the end sees it, and hears of what is missing.
        let output = ledger(live, "tail", &["--format", "json"]);
        assert!(output.status.success() && text(&output).contains("ffff"), "{output:?}");
    }
    // A changed record, packed well.
    let changed = String::from_utf8(zcat).unwrap().replace("ticket 1", "ticket 9");
    std::fs::write(&plain, changed).unwrap();
    std::fs::remove_file(&gzip).unwrap();
    assert!(Command::new("gzip").arg(&plain).status().unwrap().success());
    let output = verify(live);
    assert!(text(&output).contains(&format!("WRONG: {name}:2: record 2 was changed")), "{output:?}");
}

/// Whoever reads the first lines only ends the rest without a complaint.
#[test]
fn a_reader_may_go_early() {
    let folder = tempfile::tempdir().unwrap();
    let mut book = Book::new(folder.path());
    (0..3_000).for_each(|number| book.transaction(21, &format!("t{number}"), "ops", "many", "t", 1));
    book.save();
    let mut list = Command::new(env!("CARGO_BIN_EXE_tenantgate"))
        .args(["ledger", "list", "--json", "--ledger"])
        .arg(&book.path)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(list.stdout.take());
    let output = list.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn a_long_ledger_takes_no_more_memory_than_a_short_one() {
    let records: u64 = std::env::var("TENANTGATE_LEDGER_RECORDS").map_or(20_000, |text| text.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let mut book = Book::new(folder.path());
    for number in 0..records / 2 {
        book.transaction(1 + number % 28, &format!("t{number}"), "ops", &format!("ticket {number}"), "orders", 1);
        if number % 50_000 == 49_999 || number == 2_500 {
            rotate(&mut book);
            compress(&book, "gzip");
        } else if number % 1_000 == 0 {
            book.save();
        }
    }
    book.save();
    for (command, lines) in
        [("list --json", records / 2), ("stats --by actor --format csv", 3), ("list --limit 5 --json", 5)]
    {
        // Address space: the program itself, its threads and a constant share.
        let shell = format!("ulimit -v 400000; exec \"$0\" ledger {command} --ledger \"$1\" | wc -l");
        let mut counted = Command::new("sh");
        counted.args(["-c", &shell, env!("CARGO_BIN_EXE_tenantgate")]).arg(&book.path);
        let output = counted.output().unwrap();
        let count = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        assert_eq!((count, output.stderr.len()), (lines.to_string(), 0), "{command}: {output:?}");
    }
}
