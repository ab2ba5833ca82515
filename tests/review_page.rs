//! The review page as a process of its own serves it: by hand-written requests, and in headless Chromium.
//!
//! Needs no PostgreSQL: the ledger's records are made here, and the proxy's own goes on behind them. Needs Chromium and
//! puppeteer-core (`.ci/setup browser`). `TENANTGATE_SCREENSHOTS=<folder>` keeps what the browser shows.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

#[path = "support/book.rs"]
mod book;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use book::Book;
use serde_json::Value;

const ATTACK: &str = r#"x\"><script>window.broken=1</script><img src=x onerror=\"window.broken=1\">"#;
const WANTED: &str = "01900000-0000-7000-8000-000000004711";
const PASSWORD: &str = "correct horse";

/// A proxy with the page; ended when dropped.
struct Page {
    address: SocketAddr,
    child: Child,
    folder: tempfile::TempDir,
}

impl Drop for Page {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn id(number: u64) -> String {
    format!("01900000-0000-7000-8000-{number:012}")
}

/// Two hundred transactions on twenty days, some of them hostile.
fn write_ledger(folder: &Path) {
    let mut book = Book::new(folder);
    book.put(1, r#""kind":"boot","id":"01900000-0000-7000-8000-000000000000","ledger":"01900000-0000-7000-8000-000000000000","version":"0""#);
    for number in 1..=200 {
        let (login, table) = if number % 3 == 0 { ("ops", "public.orders") } else { ("support", "customers") };
        let reason = format!("case {number}: a customer has asked for the state of an order");
        book.transaction(1 + number / 10, &id(number), login, &reason, table, number % 17);
    }
    book.transaction(22, WANTED, "support", "ticket 4711: which invoices does globex have", "public.invoices", 42);
    book.transaction(23, &id(9_001), ATTACK, ATTACK, ATTACK, 1);
    book.put(
        23,
        &format!(
            r#""kind":"intent","id":"{}","login":"ops","application":"{ATTACK}","address":"::1","reason":"{}""#,
            id(9_002),
            "longword".repeat(120)
        ),
    );
    book.put(
        23,
        &format!(
            r#""kind":"freeze","id":"{}","login":"admin","address":"::1","tenant":"{ATTACK}","reason":"a leak""#,
            id(9_003)
        ),
    );
    book.save();
}

fn start() -> Page {
    start_with("")
}

fn start_with(more: &str) -> Page {
    let folder = tempfile::tempdir().unwrap();
    write_ledger(folder.path());
    let (clients, page, server) = (free_address(), free_address(), free_address());
    let config = format!(
        r#"
[listen]
addresses = ["{clients}"]
[servers.main]
host = "127.0.0.1"
port = {}
tls.mode = "disable"
[roles.app]
user = "app"
[databases.demo]
server = "main"
role = "app"
[logins.app]
password = "x"
tenant.from = ["suffix"]
[ledger]
path = "ledger.jsonl"
[review]
address = "{page}"
{more}
[review.reviewers.rita]
password = "{PASSWORD}"
"#,
        server.port()
    );
    let file = folder.path().join("tenantgate.toml");
    std::fs::write(&file, config).unwrap();
    let mut serve = Command::new(env!("CARGO_BIN_EXE_tenantgate"));
    let mut child =
        serve.args(["serve", "--config"]).arg(&file).stderr(Stdio::piped()).env_remove("RUST_LOG").spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let told = lines.by_ref().map_while(Result::ok).find(|line| line.contains("review page over HTTP"));
    assert!(told.is_some(), "the proxy did not start");
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
    Page { address: page, child, folder }
}

/// What an answer is made of.
#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: String,
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

impl Page {
    fn ask(&self, request: &str) -> Reply {
        let mut tcp = TcpStream::connect(self.address).unwrap();
        tcp.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        tcp.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        drop(tcp.read_to_string(&mut answer));
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Reply { status, head: head.to_owned(), body: body.to_owned() }
    }

    fn read(&self, path: &str, cookie: &str) -> Reply {
        self.ask(&format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n",
            self.address
        ))
    }

    fn send(&self, path: &str, cookie: &str, more: &str, body: &str) -> Reply {
        let kind = "application/x-www-form-urlencoded";
        self.ask(&format!("POST {path} HTTP/1.1\r\nHost: {}\r\nCookie: {cookie}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{more}Connection: close\r\n\r\n{body}", self.address, body.len()))
    }

    /// The cookie of a session, and the token of its forms.
    fn log_in(&self) -> (String, String) {
        let reply = self.send("/login", "", "", "name=rita&password=correct+horse");
        assert_eq!((reply.status, reply.header("location")), (303, Some("./")), "{reply:?}");
        let cookie = reply.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        let body = self.read("/", &cookie).body;
        let token = body.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        (cookie, token)
    }

    fn records(&self, kind: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("ledger.jsonl")).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["kind"] == kind).collect()
    }
}

const MARK: &str = "id=01900000-0000-7000-8000-000000004711&verdict=ok&note=as+asked";

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
    // And now it is too often.
    let tried: Vec<u16> = (0..6).map(|_| page.send("/login", "", "", "name=rita&password=wrong").status).collect();
    assert_eq!(tried.last(), Some(&429), "{tried:?}");
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
    assert_eq!(
        (reply.status, reply.header("location")),
        (303, Some("transaction?id=01900000-0000-7000-8000-000000004711&marked=1"))
    );
    let marks = page.records("review");
    assert_eq!((marks.len(), &marks[0]["reviewer"], &marks[0]["note"]), (1, &"rita".into(), &"as asked".into()));
    assert_eq!((&marks[0]["transaction"], &marks[0]["verdict"]), (&WANTED.into(), &"ok".into()));
    // It ends with the session.
    assert_eq!(page.send("/logout", &cookie, "", &format!("csrf={token}")).status, 303);
    assert_eq!(page.send("/mark", &cookie, "", &own).status, 403);
    assert_eq!(page.records("review").len(), 1);
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
