//! What somebody sends who means harm to the page, or makes its records say what they like.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::book::Book;
use super::served::{MARK, Page, WANTED, id, start, start_over, start_with};

const LOGIN: &str = "name=rita&password=correct+horse";

impl Page {
    /// All that comes for these bytes, until the other side closes.
    fn raw(&self, bytes: &str) -> String {
        let mut tcp = TcpStream::connect(self.address).unwrap();
        tcp.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        // It may be closed before all is written.
        drop(tcp.write_all(bytes.as_bytes()));
        let mut answer = Vec::new();
        drop(tcp.read_to_end(&mut answer));
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// The status of the first answer, and how many there were.
    fn statuses(&self, bytes: &str) -> (u16, usize) {
        let answer = self.raw(bytes);
        let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
        (status, answer.matches("HTTP/1.1 ").count())
    }
}

#[test]
fn whoever_guesses_learns_no_names_and_locks_out_nobody_else() {
    let page = start_with("origin = \"http://localhost\"");
    let guess = |from: &str, name: &str| {
        let reply =
            page.send("/login", "", &format!("X-Forwarded-For: {from}\r\n"), &format!("name={name}&password=x"));
        (reply.status, reply.body)
    };
    // Somebody's name and nobody's, with attempts left and without: one answer.
    let answers: Vec<_> = thread::scope(|scope| {
        let tries = ["rita", "otto"].into_iter().flat_map(|name| (0..12).map(move |_| name));
        let tries: Vec<_> = tries.map(|name| scope.spawn(move || guess("10.0.0.66", name))).collect();
        let all: Vec<_> =
            (0..40).map(|number| scope.spawn(move || guess("10.0.0.66", &format!("n{number}")))).collect();
        tries.into_iter().chain(all).map(|it| it.join().unwrap()).collect()
    });
    assert!(answers.iter().all(|answer| *answer == answers[0] && answer.0 == 403), "{answers:?}");
    // There rita is kept out, with the same answer; elsewhere she is not.
    let from = |address: &str| page.send("/login", "", &format!("X-Forwarded-For: {address}\r\n"), LOGIN);
    let kept_out = from("10.0.0.66");
    assert_eq!((kept_out.status, &kept_out.body, kept_out.header("retry-after")), (403, &answers[0].1, None));
    assert_eq!(from("10.0.0.7").status, 303);
}

#[test]
fn nobody_makes_another_name_lead_here() {
    let page = start();
    let to = |host: &str, request: &str, body: &str| {
        let kind = "Content-Type: application/x-www-form-urlencoded";
        let length = body.len();
        page.statuses(&format!("{request} HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\n{kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"))
    };
    let port = page.address.port();
    for host in [format!("evil.example:{port}"), format!("127.0.0.1.evil.example:{port}"), "evil.example".into()] {
        assert_eq!(to(&host, "POST /login", LOGIN), (421, 1), "{host}");
        assert_eq!(to(&host, "GET /style.css", ""), (421, 1), "{host}");
    }
    // At the end of a tunnel the port is another.
    for host in [format!("127.0.0.1:{port}"), "localhost:8080".into(), "[::1]:8080".into()] {
        assert_eq!(to(&host, "POST /login", LOGIN), (303, 1), "{host}");
    }
}

#[test]
fn what_can_be_understood_in_two_ways_is_answered_once_and_refused() {
    let page = start();
    let host = format!("Host: {}", page.address);
    let inner = format!("GET /style.css HTTP/1.1\r\n{host}\r\n\r\n");
    let form = "Content-Type: application/x-www-form-urlencoded";
    for head in [
        format!("POST /login HTTP/1.1\r\n{host}\r\n{form}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked"),
        format!("POST /login HTTP/1.1\r\n{host}\r\n{form}\r\nTransfer-Encoding: chunked\r\nContent-Length: 5"),
        format!("POST /login HTTP/1.1\r\n{host}\r\n{form}\r\nContent-Length: 5\r\nContent-Length: 6"),
        format!("POST /login HTTP/1.1\r\n{host}\r\n{form}\r\nContent-Length: +5"),
        format!("POST /login HTTP/1.1\r\n{host}\r\n{form}\r\nContent-Length: 0x5"),
        format!("POST /login HTTP/1.1\r\n{host}\r\n{form}\r\nTransfer-Encoding: chunked, identity"),
        format!("POST /login HTTP/1.1\r\n{host}\r\n{form}\r\nTransfer-Encoding: xchunked"),
        format!("POST /login HTTP/1.1\r\n{host}\r\n{form}\r\nTransfer-Encoding : chunked"),
        format!("POST /login HTTP/1.0\r\n{host}\r\n{form}\r\nTransfer-Encoding: chunked"),
        format!("GET / HTTP/1.1\r\n{host}\r\n{host}\r\nConnection: close"),
        format!("GET / HTTP/1.1\r\n{host}\r\nHost: evil.example\r\nConnection: close"),
        format!("GET http://evil.example/ HTTP/1.1\r\n{host}\r\nConnection: close"),
        format!("GET / HTTP/1.1\r\n{host}\r\nX-A: b\r\n folded: c\r\nConnection: close"),
        format!("GET / HTTP/1.1\r\n{host}\r\nCookie: a=b\r\nCookie: a=c\r\nConnection: close"),
        format!("GET / HTTP/1.1\r\n{host}\r\nX\0: b\r\nConnection: close"),
        format!("GET / HTTP/2.0\r\n{host}\r\nConnection: close"),
        format!("GET  / HTTP/1.1\r\n{host}\r\nConnection: close"),
    ] {
        let (status, answers) = page.statuses(&format!("{head}\r\n\r\n0\r\n\r\n{inner}"));
        // Of two ends of a body `chunked` counts, and nothing behind it is read (RFC 9112, 6.1): that is a form without a password.
        let is_refused = matches!(status, 400 | 403 | 505);
        assert!(is_refused && answers == 1, "{head:?}: {status}, {answers} answers");
    }
    // Two requests at once are two.
    let last = inner.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    assert_eq!(page.statuses(&format!("{inner}{last}")), (200, 2));
}

#[test]
fn heads_and_forms_have_their_bounds() {
    let page = start();
    let host = format!("Host: {}", page.address);
    let long = "x".repeat(20_000);
    let many = "X-A: b\r\n".repeat(300);
    for head in [
        format!("GET /?reason={long} HTTP/1.1\r\n{host}"),
        format!("GET / HTTP/1.1\r\n{host}\r\nX-A: {long}"),
        format!("GET / HTTP/1.1\r\n{host}\r\n{many}X-B: c"),
    ] {
        let (status, answers) = page.statuses(&format!("{head}\r\n\r\n"));
        assert!(matches!(status, 414 | 431) && answers == 1, "{}: {status}", &head[..60]);
    }
    let kind = "Content-Type: application/x-www-form-urlencoded";
    let declared = format!("POST /login HTTP/1.1\r\n{host}\r\n{kind}\r\nContent-Length: 10000000000\r\n\r\nname=rita");
    assert_eq!(page.statuses(&declared).0, 413);
    let chunk = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
    let chunked = format!(
        "POST /login HTTP/1.1\r\n{host}\r\n{kind}\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}{chunk}0\r\n\r\n"
    );
    assert_eq!(page.statuses(&chunked).0, 413);
    assert_eq!(page.send("/login", "", "", LOGIN).status, 303);
}

/// As long as a head may take: ten seconds of nothing.
#[test]
fn whoever_sends_slowly_is_cut_off_and_the_page_goes_on() {
    let page = start();
    let halves = (0..64).map(|_| {
        let mut tcp = TcpStream::connect(page.address).unwrap();
        tcp.write_all(b"GET / HTTP/1.1\r\nHost: 127").unwrap();
        tcp.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        tcp
    });
    let mut halves: Vec<TcpStream> = halves.collect();
    // All places are taken.
    assert_eq!(page.raw(&format!("GET /login HTTP/1.1\r\nHost: {}\r\n\r\n", page.address)), "");
    for tcp in &mut halves {
        let mut answer = String::new();
        drop(tcp.read_to_string(&mut answer));
        assert!(!answer.contains("200 OK"), "{answer}");
    }
    assert_eq!(page.read("/login", "").status, 200);
}

#[test]
fn paths_lead_to_pages_alone() {
    let page = start();
    let (cookie, _) = page.log_in();
    for path in [
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/style.css/../../ledger.jsonl",
        "/ledger.jsonl",
        "/tenantgate.toml",
        "//style.css",
        "/style.css%00.html",
        "/transaction?id=../../../../etc/passwd",
        "/transaction?id=%00",
        "/transaction?id=",
        "/transaction",
    ] {
        let reply = page.read(path, &cookie);
        assert_eq!(reply.status, 404, "{path}");
        assert!(!reply.body.contains("root:") && !reply.body.contains("password ="), "{path}");
    }
}

/// A filter that cannot be read must not look like one that everything fits.
#[test]
fn nothing_is_shown_for_a_filter_that_cannot_be_read() {
    let page = start();
    let (cookie, _) = page.log_in();
    for query in
        ["since=soon", "until=2026-13-01", "rows_min=-1", "reviewed=perhaps", &format!("reason={}", "x".repeat(2_000))]
    {
        for path in ["/", "/sums"] {
            let body = page.read(&format!("{path}?{query}"), &cookie).body;
            assert!(body.contains("Nothing is shown: ") && !body.contains("<table"), "{path} {query}");
        }
    }
}

/// All words of the schema that anybody could have chosen, in every kind of record.
#[test]
fn no_field_of_any_record_becomes_markup() {
    let attack =
        "</dd></code></title><script>window.broken=1</script><img src=x onerror=alert(1)>' onload='x\"\u{202e}\u{200b}";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ledger-record.schema.json");
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut book = Book::new(folder.path());
    let mut pages = vec!["/".to_owned(), "/sums".to_owned()];
    for (number, (kind, record)) in (1_u64..).zip(schema["$defs"].as_object().unwrap()) {
        if record["properties"]["kind"].is_null() {
            continue;
        }
        // A transaction for each of its records: all of them are shown as they are.
        let own = if kind == "checkpoint" { id(0) } else { id(number) };
        let mut fields = format!("\"kind\":\"{kind}\",\"id\":\"{own}\"");
        for (name, rule) in record["properties"].as_object().unwrap() {
            if ["v", "seq", "kind", "id", "at", "prev"].contains(&name.as_str()) {
                continue;
            }
            let value = match (name.as_str(), rule["type"].to_string()) {
                ("statements", _) => statements(attack),
                ("transaction", _) => Value::from(id(1)),
                (_, kind) if kind.contains("array") => Value::from(vec![attack]),
                (_, kind) if kind.contains("integer") => Value::from(7),
                (_, kind) if kind.contains("boolean") => Value::from(false),
                (_, _) => Value::from(attack),
            };
            fields.push_str(&format!(",\"{name}\":{value}"));
        }
        book.put(23, &fields);
        if !["boot", "reopen", "heartbeat", "checkpoint", "reconciled"].contains(&kind.as_str()) {
            pages.push(format!("/transaction?id={own}"));
            pages.push(format!("/?kind={kind}"));
        }
    }
    book.save();
    let page = start_over(folder, "", "exec \"$@\"");
    let (cookie, _) = page.log_in();
    assert!(pages.len() > 20, "{pages:?}");
    for path in pages {
        let reply = page.read(&path, &cookie);
        assert_eq!(reply.status, 200, "{path}");
        let is_shown = reply.body.contains("&lt;script&gt;") || path.starts_with("/?kind");
        assert!(is_shown && reply.body.contains("</html>"), "{path}");
        for markup in ["<script", "<img", "onload='", "\u{202e}", "\u{200b}"] {
            assert!(!reply.body.contains(markup), "{path}: {markup:?}");
        }
    }
}

fn statements(attack: &str) -> Value {
    let mut statement = serde_json::Map::new();
    for name in ["class", "verb", "text", "fingerprint", "sqlstate", "rows"] {
        statement.insert(name.to_owned(), Value::from(attack));
    }
    statement.insert("tables".to_owned(), Value::from(vec![attack]));
    statement.insert("parameters".to_owned(), Value::from(vec![attack]));
    Value::from(vec![Value::from(statement)])
}

/// A limit on the size of files stands for a full disk: there is room for the record of the start, and for no mark.
#[test]
fn a_mark_that_cannot_be_written_is_refused_and_nothing_is_marked() {
    let folder = tempfile::tempdir().unwrap();
    let mut book = Book::new(folder.path());
    book.transaction(22, WANTED, "support", "ticket 4711: which invoices does globex have", "public.invoices", 42);
    book.save();
    let length = std::fs::metadata(&book.path).unwrap().len();
    let filler = 8 * 1024 - 800 - usize::try_from(length).unwrap();
    book.put(
        23,
        &format!(
            r#""kind":"intent","id":"{}","login":"ops","address":"::1","reason":"{}""#,
            id(2),
            "x".repeat(filler - 330)
        ),
    );
    book.save();
    // Another process must not be ended for it: the signal is not taken, and writing fails.
    let page = start_over(folder, "", "trap '' XFSZ; ulimit -f 8; exec \"$@\"");
    let (cookie, token) = page.log_in();
    let before = std::fs::metadata(page.folder.path().join("ledger.jsonl")).unwrap().len();
    assert!((7_000..8 * 1024).contains(&before), "{before}");
    let note = "%C3%A9".repeat(500);
    let reply = page.send("/mark", &cookie, "", &format!("csrf={token}&id={WANTED}&verdict=ok&note={note}"));
    assert_eq!(reply.status, 503, "{reply:?}");
    for words in ["The mark is not written", "cannot be written at the moment", &format!("transaction?id={WANTED}")] {
        assert!(reply.body.contains(words), "{words}: {}", reply.body);
    }
    assert!(page.records_that_are_whole("review").is_empty());
    let body = page.read(&format!("/transaction?id={WANTED}&marked=1"), &cookie).body;
    assert!(body.contains("Nobody has reviewed it.") && !body.contains("Your mark"), "{body}");
    // One that fits goes through again.
    let reply = page.send("/mark", &cookie, "", &format!("csrf={token}&{MARK}"));
    assert!(matches!(reply.status, 303 | 503), "{reply:?}");
    assert_eq!(page.records_that_are_whole("review").len(), usize::from(reply.status == 303));
}

impl Page {
    /// Of a file whose last line may be torn.
    fn records_that_are_whole(&self, kind: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("ledger.jsonl")).unwrap();
        let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        lines.filter_map(|line| serde_json::from_str::<Value>(line).ok()).filter(|line| line["kind"] == kind).collect()
    }
}
