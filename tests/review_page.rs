//! The review page as a process of its own serves it: by hand-written requests, and in headless Chromium.
//!
//! Needs no PostgreSQL: the ledger's records are made here, and the proxy's own goes on behind them. Needs Chromium and
//! puppeteer-core (`.ci/setup browser`). `TENANTGATE_SCREENSHOTS=<folder>` keeps what the browser shows.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

#[path = "support/book.rs"]
mod book;
#[path = "review/hostile.rs"]
mod hostile;
#[path = "review/served.rs"]
mod served;

use std::path::Path;
use std::process::Command;

use served::{MARK, PASSWORD, WANTED, id, start, start_with};

#[test]
fn nothing_is_shown_and_nothing_done_without_a_session() {
    let page = start();
    for path in ["/", "/sums", "/transaction?id=1", "/nothing", "/mark", "/login/../"] {
        for cookie in ["", "tenantgate_review=", "tenantgate_review=00", "other=1"] {
            let reply = page.read(path, cookie);
            assert_eq!(
                (reply.status, reply.header("location"), reply.body.as_str()),
                (303, Some("login"), ""),
                "{path}"
            );
        }
    }
    for path in ["/mark", "/verify", "/logout", "/", "/nothing"] {
        assert_eq!(page.send(path, "tenantgate_review=00", "", MARK).status, 403, "{path}");
    }
    assert!(page.records("review").is_empty());
    for wrong in ["name=rita&password=wrong", "name=otto&password=correct+horse", "name=rita", ""] {
        let reply = page.send("/login", "", "", wrong);
        assert_eq!((reply.status, reply.header("set-cookie")), (403, None), "{wrong}");
    }
}

#[test]
fn every_answer_forbids_what_the_page_does_not_need() {
    let page = start();
    let (cookie, token) = page.log_in();
    let csrf = format!("csrf={token}&{MARK}");
    for reply in [
        page.read("/login", ""),
        page.read("/", &cookie),
        page.read("/style.css", ""),
        page.read("/nothing", &cookie),
        page.send("/mark", &cookie, "", &csrf),
        page.send("/mark", &cookie, "", MARK),
    ] {
        let policy = reply.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; style-src 'self'; img-src data:;"), "{policy}");
        assert!(
            !policy.contains("script-src") && !policy.contains("unsafe") && policy.contains("frame-ancestors 'none'")
        );
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        assert!(!reply.body.contains("<script") && !reply.body.contains("style=\"") && !reply.body.contains("http://"));
    }
}

#[test]
fn forms_count_only_from_pages_of_the_session() {
    let page = start();
    let (cookie, token) = page.log_in();
    let own = format!("csrf={token}&{MARK}");
    for (cookie, more, body) in [
        (cookie.as_str(), "", MARK.to_owned()),
        (&cookie, "", format!("csrf=&{MARK}")),
        (&cookie, "", format!("csrf={}&{MARK}", &token[1..])),
        (&cookie, "Origin: http://evil.example\r\n", own.clone()),
        (&cookie, "Origin: null\r\n", own.clone()),
        (&cookie, "Sec-Fetch-Site: cross-site\r\n", own.clone()),
        ("", "", own.clone()),
    ] {
        let reply = page.send("/mark", cookie, more, &body);
        assert_eq!(reply.status, 403, "{more:?} {body:?}: {reply:?}");
    }
    // A token of another session of the same reviewer is another's.
    let (other, _) = page.log_in();
    assert_eq!(page.send("/mark", &other, "", &own).status, 403);
    // Nobody is logged in by another site, and no page reads a body that is no form.
    let login = "name=rita&password=correct+horse";
    assert_eq!(page.send("/login", "", "Origin: http://evil.example\r\n", login).status, 403);
    let request = format!(
        "POST /mark HTTP/1.1\r\nHost: {}\r\nCookie: {cookie}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{own}",
        page.address,
        own.len()
    );
    assert_eq!(page.ask(&request).status, 415);
    assert!(page.records("review").is_empty());
    let reply = page.send(
        "/mark",
        &cookie,
        &format!("Origin: http://{}\r\nSec-Fetch-Site: same-origin\r\n", page.address),
        &own,
    );
    let marks = page.records("review");
    let told = format!("transaction?id={WANTED}&marked={}", marks[0]["id"].as_str().unwrap());
    assert_eq!((reply.status, reply.header("location")), (303, Some(told.as_str())));
    assert!(page.read(&format!("/{told}"), &cookie).body.contains("Your mark is in the ledger"));
    assert_eq!((marks.len(), &marks[0]["reviewer"], &marks[0]["note"]), (1, &"rita".into(), &"as asked".into()));
    assert_eq!((&marks[0]["transaction"], &marks[0]["verdict"]), (&WANTED.into(), &"ok".into()));
    // It ends with the session.
    assert_eq!(page.send("/logout", &cookie, "", &format!("csrf={token}")).status, 303);
    assert_eq!(page.send("/mark", &cookie, "", &own).status, 403);
    assert_eq!(page.records("review").len(), 1);
}

/// A link that somebody sends shows no success.
#[test]
fn only_the_ledger_says_that_something_was_marked() {
    let page = start();
    let (cookie, token) = page.log_in();
    page.send("/mark", &cookie, "", &format!("csrf={token}&{MARK}"));
    let mark = page.records("review")[0]["id"].as_str().unwrap().to_owned();
    for (transaction, marked) in [(WANTED, "1"), (WANTED, ""), (WANTED, WANTED), (&id(7), "1"), (&id(7), &mark)] {
        let body = page.read(&format!("/transaction?id={transaction}&marked={marked}"), &cookie).body;
        assert!(body.contains("Reviews") && !body.contains("Your mark"), "{transaction} {marked}");
    }
}

#[test]
fn marks_that_say_nothing_are_not_written() {
    let page = start();
    let (cookie, token) = page.log_in();
    for body in [
        "id=none&verdict=ok&note=x".to_owned(),
        format!("id={}&verdict=ok&note=x", id(77_777)),
        format!("id={WANTED}&verdict=fine&note=x"),
        format!("id={WANTED}&verdict=ok&note=+"),
        format!("id={WANTED}&verdict=ok&note={}", "x".repeat(501)),
    ] {
        assert_eq!(page.send("/mark", &cookie, "", &format!("csrf={token}&{body}")).status, 400, "{body}");
    }
    assert_eq!(page.send("/mark", &cookie, "", &"x".repeat(20_000)).status, 413);
    assert!(page.records("review").is_empty());
}

#[test]
fn records_are_text_wherever_they_stand() {
    let page = start();
    let (cookie, _) = page.log_in();
    for path in [
        "/".to_owned(),
        "/sums".to_owned(),
        format!("/transaction?id={}", id(9_001)),
        format!("/transaction?id={}", id(9_002)),
        "/?reason=%22%3E%3Cscript%3Ealert(1)%3C/script%3E&since=%3Cimg%3E&page=x".to_owned(),
        "/transaction?id=%3Cscript%3E".to_owned(),
    ] {
        let reply = page.read(&path, &cookie);
        let body = reply.body;
        assert!(body.contains("</html>"), "{path}");
        assert!(!body.contains("<script") && !body.contains("<img") && !body.contains("x\"><"), "{path}");
    }
}

#[test]
fn the_page_says_what_is_wrong_with_the_ledger() {
    let page = start();
    let (cookie, token) = page.log_in();
    assert!(page.read("/", &cookie).body.contains("Nothing is wrong"));
    let path = page.folder.path().join("ledger.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    // In place: the proxy has it open.
    std::fs::write(&path, text.replace("case 7: a customer", "case 7: a visitor.")).unwrap();
    assert_eq!(page.send("/verify", &cookie, "", &format!("csrf={token}")).status, 303);
    let body = page.read("/", &cookie).body;
    assert!(body.contains("The ledger was changed") && body.contains("line 14: record 14"), "{body}");
}

#[test]
fn behind_a_proxy_the_configured_origin_counts() {
    let page = start_with("origin = \"https://review.example.com\"");
    let login = "name=rita&password=correct+horse";
    let from = |origin: &str| format!("Origin: {origin}\r\n");
    assert_eq!(page.send("/login", "", &from(&format!("http://{}", page.address)), login).status, 403);
    let reply = page.send("/login", "", &from("https://review.example.com"), login);
    let cookie = reply.header("set-cookie").unwrap();
    assert!(
        cookie.starts_with("__Host-tenantgate_review=") && cookie.ends_with("; HttpOnly; SameSite=Strict; Secure"),
        "{cookie}"
    );
    // Links hold whatever prefix the proxy takes away.
    let body = page.read("/", cookie.split(';').next().unwrap()).body;
    assert!(!body.contains("=\"/"), "{body}");
}

#[test]
fn a_reload_logs_out_whose_password_it_changes() {
    let page = start();
    let (cookie, _) = page.log_in();
    let file = page.folder.path().join("tenantgate.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace(PASSWORD, "another")).unwrap();
    assert!(Command::new("kill").args(["-HUP", &page.child.id().to_string()]).status().unwrap().success());
    // Until the reload is done the session goes on.
    let is_out = (0..2_000).any(|_| page.read("/sums", &cookie).status == 303);
    assert!(is_out, "the session goes on");
    assert_eq!(page.send("/login", "", "", "name=rita&password=correct+horse").status, 403);
    assert_eq!(page.send("/login", "", "", "name=rita&password=another").status, 303);
}

fn chromium() -> String {
    if let Some(path) = std::env::var_os("TENANTGATE_CHROMIUM") {
        return path.to_string_lossy().into_owned();
    }
    let known = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
    let found = known.into_iter().find(|path| Path::new(path).exists());
    found.unwrap_or_else(|| panic!("Chromium is missing: run .ci/setup browser")).to_owned()
}

#[test]
fn reviewers_work_by_keyboard_wide_and_narrow_dark_and_light() {
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/browser/node_modules");
    assert!(modules.join("puppeteer-core").exists(), "puppeteer-core is missing: run .ci/setup browser");
    let (browser, page) = (chromium(), start());
    let mut node = Command::new("node");
    node.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/review/browser.js"));
    node.args([format!("http://{}/", page.address), "rita".into(), PASSWORD.into(), browser]);
    node.args(std::env::var_os("TENANTGATE_SCREENSHOTS")).env("NODE_PATH", modules);
    let output = node.env("HOME", page.folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    // Four reviews, all by hand of the same reviewer.
    let marks = page.records("review");
    assert!(marks.len() == 4 && marks.iter().all(|mark| mark["transaction"] == WANTED), "{marks:?}");
}
