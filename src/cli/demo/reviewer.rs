//! The tour's last step: what a reviewer finds out afterwards, by commands and on the review page.
//!
//! Owns: the questions, and what must hold of the answers. Does not own: the page, the commands.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::operator::Outlook;
use super::show;
use super::tour::{Findings, GLOBEX, Tour, ask};
use crate::review::encode;

/// The reviewer's name and password.
pub const REVIEWER: (&str, &str) = ("rita", "demo");

const REASON: &str = "ticket 4712: globex asks what it owes";
const NOTE: &str = "the ticket is there, and asks for it";

impl Tour<'_> {
    /// Dropped, its connections close; a mark may be written.
    pub async fn review(&self, outlook: &Outlook) -> anyhow::Result<(Findings, &'static str)> {
        let mut findings = Findings::default();
        let ops = self.connect("ops", Some(&format!("-c tenantgate.reason={}", REASON.replace(' ', "\\ ")))).await?;
        ask(&ops, "ops", &format!("SELECT customer, amount FROM invoices WHERE tenant_id = '{GLOBEX}' ORDER BY id"))
            .await;
        let rows = self.rows_of(GLOBEX).await?.len();
        let ledger = outlook.ledger.display().to_string();

        let yesterday =
            (jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24)).strftime("%Y-%m-%d").to_string();
        let list = ["ledger", "list", "--since", &yesterday, "--reason", "globex", "--json", "--ledger", &ledger];
        let (_, said) = tenantgate(&list, Shown::No).await?;
        let act: Value = serde_json::from_str(said.lines().next().unwrap_or_default()).unwrap_or_default();
        answers(&act).iter().for_each(|line| show::note(line));
        let told = json!([
            act["login"],
            act["reason"],
            act["tables"],
            act["result"],
            act["rows_delivered"],
            act["rows_affected"]
        ]);
        let wanted = json!(["ops", REASON, ["invoices"], "committed", rows, 0]);
        findings.expect(told == wanted, format!("the ledger says {told}, not {wanted}"));
        let verify = ["ledger", "verify", "--ledger", &ledger, "--public-key", &outlook.public_key];
        let (is_good, _) = tenantgate(&verify, Shown::Yes).await?;
        show::note(&format!(
            "   Has the log been changed?   {}",
            if is_good { "No, as far as it is signed." } else { "Yes." }
        ));
        findings.expect(is_good, "the ledger is not what was written");

        let id = act["id"].as_str().unwrap_or_default();
        self.mark(outlook, id, &mut findings).await?;
        changed_copy(outlook, &mut findings).await?;
        let why = "the ledger says who read globex's rows, why, which tables, and that it committed; every record is chained to \
                   the one before it and signed now and then, so a changed reason is found. A reviewer's mark is a record, too.";
        Ok((findings, why))
    }

    /// On the page, as a browser does. Dropped, the mark may be written.
    async fn mark(&self, outlook: &Outlook, id: &str, findings: &mut Findings) -> anyhow::Result<()> {
        let (name, password) = REVIEWER;
        let (head, _) = http(outlook.review, "POST", "/login", "", &format!("name={name}&password={password}")).await?;
        let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")?.split(';').next());
        let cookie = cookie.context("the reviewer is not let in")?.to_owned();
        let (_, body) = http(outlook.review, "GET", "/?reason=globex&table=invoices", &cookie, "").await?;
        show::note(&format!("http://{}/?reason=globex&table=invoices as {name}:", outlook.review));
        let state = body.split("<strong>Nothing is wrong</strong>").nth(1);
        let state = state.and_then(|rest| rest.split(". Last looked at").next());
        show::note(&format!("Nothing is wrong{}", state.unwrap_or(" – is not what the page says")));
        findings.expect(state.is_some(), "the page does not say that nothing is wrong");
        findings.expect(body.contains(&format!("transaction?id={id}\"")), "the page does not have the transaction");
        let token = body.split("name=\"csrf\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
        let form = format!("csrf={}&id={id}&verdict=ok&note={}", token.unwrap_or_default(), encode(NOTE));
        let (head, _) = http(outlook.review, "POST", "/mark", &cookie, &form).await?;
        findings.expect(head.starts_with("HTTP/1.1 303"), format!("the mark was not taken: {head}"));
        let text = std::fs::read_to_string(&outlook.ledger)?;
        let records = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let marks: Vec<Value> = records.filter(|record| record["kind"] == "review").collect();
        marks.iter().for_each(|mark| show::note(&mark.to_string()));
        let is_marked = matches!(marks.as_slice(), [mark] if mark["transaction"] == id && mark["reviewer"] == name);
        findings.expect(is_marked, "the mark is not in the ledger");
        let (head, _) = http(outlook.review, "GET", "/", "", "").await?;
        findings.expect(head.contains("location: login"), "the page is shown to somebody who is not logged in");
        Ok(())
    }
}

/// What a reviewer asks, and what the ledger says.
fn answers(act: &Value) -> Vec<String> {
    let text = |name: &str| act[name].as_str().unwrap_or("-").to_owned();
    let tables: Vec<&str> = act["tables"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let (read, written) = (&act["rows_delivered"], &act["rows_affected"]);
    let commit = if act["result"] == "committed" { "Yes" } else { "No" };
    [
        ("Who read globex's data?", format!("{}, by {}, from {}", text("login"), text("method"), text("address"))),
        ("When?", text("at")),
        ("Why?", text("reason")),
        ("Which tables?", format!("{}: {read} rows read, {written} written", tables.join(", "))),
        ("Did it commit?", format!("{commit}: {}, at {}", text("result"), text("ended_at"))),
    ]
    .map(|(question, answer)| format!("   {question:<27} {answer}"))
    .into()
}

/// Somebody gives another reason afterwards, in a copy. If dropped: the copy goes with the demo's folder.
async fn changed_copy(outlook: &Outlook, findings: &mut Findings) -> anyhow::Result<()> {
    let copy = outlook.ledger.with_file_name("changed.jsonl");
    let text = std::fs::read_to_string(&outlook.ledger)?;
    std::fs::write(&copy, text.replacen(REASON, "ticket 4712: routine", 1))?;
    show::note("in a copy, somebody has written another reason:");
    let copy = copy.display().to_string();
    let (is_good, said) = tenantgate(&["ledger", "verify", "--ledger", &copy], Shown::Yes).await?;
    findings.expect(!is_good && said.contains("was changed"), "a changed reason is not found");
    Ok(())
}

/// Whether what a command says is shown: JSON is for programs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    Yes,
    No,
}

/// This program again, as somebody types it: whether it ended well, and what it said. If dropped: it goes on to its end.
async fn tenantgate(arguments: &[&str], shown: Shown) -> anyhow::Result<(bool, String)> {
    let program = std::env::current_exe()?;
    let mut command = Command::new(program);
    command.args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    show::note(&format!("$ tenantgate {}", arguments.iter().map(|it| shell_word(it)).collect::<Vec<_>>().join(" ")));
    if shown == Shown::Yes {
        said.lines().for_each(show::note);
    }
    Ok((output.status.success(), said))
}

fn shell_word(word: &str) -> String {
    let name = Path::new(word).file_name().filter(|_| word.starts_with('/'));
    name.map_or_else(|| word.to_owned(), |name| name.to_string_lossy().into_owned())
}

/// The head and the body. Dropped, the connection is closed.
async fn http(
    address: SocketAddr,
    method: &str,
    path: &str,
    cookie: &str,
    form: &str,
) -> anyhow::Result<(String, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let kind = "application/x-www-form-urlencoded";
    let length = form.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nCookie: {cookie}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{form}"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await?;
    let (head, body) = reply.split_once("\r\n\r\n").context("no HTTP reply")?;
    Ok((head.to_owned(), body.to_owned()))
}
