//! A proxy that serves the review page over a ledger made for that, and requests written by hand.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::book::Book;

const ATTACK: &str = r#"x\"><script>window.broken=1</script><img src=x onerror=\"window.broken=1\">"#;

/// The transaction that is looked for.
pub const WANTED: &str = "01900000-0000-7000-8000-000000004711";

/// The reviewer's, who is called rita.
pub const PASSWORD: &str = "correct horse";

/// A form that marks it.
pub const MARK: &str = "id=01900000-0000-7000-8000-000000004711&verdict=ok&note=as+asked";

/// A proxy with the page; ended when dropped.
pub struct Page {
    pub address: SocketAddr,
    pub child: Child,
    pub folder: tempfile::TempDir,
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

pub fn id(number: u64) -> String {
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

pub fn start() -> Page {
    start_with("")
}

/// With more in `[review]`.
pub fn start_with(more: &str) -> Page {
    let folder = tempfile::tempdir().unwrap();
    write_ledger(folder.path());
    start_over(folder, more, "exec \"$@\"")
}

/// Over the ledger in a folder; a shell starts it.
pub fn start_over(folder: tempfile::TempDir, more: &str, shell: &str) -> Page {
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
    let mut serve = Command::new("bash");
    serve.args(["-c", shell, "bash", env!("CARGO_BIN_EXE_tenantgate"), "serve", "--config"]).arg(&file);
    let mut child = serve.stderr(Stdio::piped()).env_remove("RUST_LOG").spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let told = lines.by_ref().map_while(Result::ok).find(|line| line.contains("review page over HTTP"));
    assert!(told.is_some(), "the proxy did not start");
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
    Page { address: page, child, folder }
}

/// What an answer is made of.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

impl Page {
    pub fn ask(&self, request: &str) -> Reply {
        let mut tcp = TcpStream::connect(self.address).unwrap();
        tcp.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        tcp.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        drop(tcp.read_to_string(&mut answer));
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Reply { status, head: head.to_owned(), body: body.to_owned() }
    }

    pub fn read(&self, path: &str, cookie: &str) -> Reply {
        self.ask(&format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n",
            self.address
        ))
    }

    pub fn send(&self, path: &str, cookie: &str, more: &str, body: &str) -> Reply {
        let kind = "application/x-www-form-urlencoded";
        self.ask(&format!("POST {path} HTTP/1.1\r\nHost: {}\r\nCookie: {cookie}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{more}Connection: close\r\n\r\n{body}", self.address, body.len()))
    }

    /// The cookie of a session, and the token of its forms.
    pub fn log_in(&self) -> (String, String) {
        let reply = self.send("/login", "", "", "name=rita&password=correct+horse");
        assert_eq!((reply.status, reply.header("location")), (303, Some("./")), "{reply:?}");
        let cookie = reply.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        let body = self.read("/", &cookie).body;
        let token = body.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        (cookie, token)
    }

    pub fn records(&self, kind: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("ledger.jsonl")).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["kind"] == kind).collect()
    }
}
