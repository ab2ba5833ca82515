//! The tour's second half: what operators and reviewers have: bypass with records, freezing, console, metrics.
//!
//! Owns: the statements and what must hold of their replies. Does not own: the tour's order.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::show::{self, Reply};
use super::tour::{ACME, Findings, GLOBEX, INITECH, LIST, Tour, ask, without_server};

/// Where an operator looks.
#[derive(Clone, Debug)]
pub struct Outlook {
    /// The ledger's file.
    pub ledger: std::path::PathBuf,
    /// Where metrics are served.
    pub metrics: SocketAddr,
    /// Where the review page is.
    pub review: SocketAddr,
    /// Whose signatures the ledger's checkpoints have.
    pub public_key: String,
}

const REASON: &str = "ticket 4711: totals over all customers";
const COUNT: &str = "SELECT count(*), count(DISTINCT tenant_id) FROM invoices WHERE amount > 12.34";

impl Tour<'_> {
    /// Dropped, its connections close.
    pub async fn bypass_needs_a_reason(&self, outlook: &Outlook) -> anyhow::Result<(Findings, &'static str)> {
        let mut findings = Findings::default();
        let client = self.connect("ops", None).await?;
        findings.expect_refused(&ask(&client, "ops", COUNT).await, "ERROR", "42501", "TG060: ");
        let empty = ask(&client, "ops", "SET tenantgate.reason = ''").await;
        findings.expect(matches!(empty, Reply::Refused { .. }), "an empty reason was accepted");
        findings.expect(records(&outlook.ledger)?.is_empty(), "a refused statement left a record of a transaction");
        ask(&client, "ops", &format!("SET tenantgate.reason = '{REASON}'")).await;
        let reply = ask(&client, "ops", COUNT).await;
        let wanted = self.count_pair("SELECT count(*)::text, count(DISTINCT tenant_id)::text FROM invoices").await?;
        findings.expect(matches!(&reply, Reply::Rows { rows, .. } if *rows == [wanted]), "not the rows of all tenants");
        let records = records(&outlook.ledger)?;
        show::note(&format!("{} now holds {} records:", outlook.ledger.display(), records.len()));
        for record in &records {
            show::note(&record.to_string());
        }
        let has_reason = |record: &Value| record.to_string().contains(REASON);
        findings
            .expect(records.len() == 2 && has_reason(&records[0]), "not one intent with the reason and one outcome");
        findings
            .expect(!records.iter().any(|record| record.to_string().contains("12.34")), "a literal is in the ledger");
        let why = "a bypass login has a server role of its own; before its transaction begins the intent is on the disk, \
                   afterwards its outcome, with statements but without their literals.";
        Ok((findings, why))
    }

    /// Dropped, its connections close; the tenant may stay frozen.
    pub async fn frozen_tenant(&self, outlook: &Outlook) -> anyhow::Result<(Findings, &'static str)> {
        let mut findings = Findings::default();
        let (acme, globex) = (self.client(ACME).await?, self.client(GLOBEX).await?);
        let console = self.console().await?;
        ask(&globex, "globex", "BEGIN").await;
        ask(&globex, "globex", "UPDATE invoices SET amount = 0").await;
        let before = self.fingerprint().await?;
        ask(&console, "admin", &format!("FREEZE TENANT '{GLOBEX}' REASON 'its keys have leaked'")).await;
        let reply = ask(&globex, "globex", "COMMIT").await;
        findings.expect(!matches!(reply, Reply::Done(_)), "a frozen tenant's transaction was committed");
        findings.expect(self.fingerprint().await? == before, "a frozen tenant's work was committed");
        match self.client(GLOBEX).await {
            Ok(_) => findings.expect(false, "a frozen tenant could log in"),
            Err(error) => {
                let reply = Reply::of_error(&error);
                show::exchange("globex", "(connect)", &reply);
                findings.expect(matches!(reply, Reply::Refused { .. }), "the refusal has no words");
            }
        }
        let reply = ask(&acme, "acme", LIST).await;
        findings.expect(without_server(&reply) == self.rows_of(ACME).await?, "the others are not served as before");
        ask(&console, "admin", &format!("THAW TENANT '{GLOBEX}' REASON 'new keys'")).await;
        let reply = ask(&self.client(GLOBEX).await?, "globex", LIST).await;
        findings.expect(without_server(&reply) == self.rows_of(GLOBEX).await?, "not as before after the thaw");
        // Not what the ledger says of itself: starts, checkpoints.
        let is_act = |record: &Value| matches!(record["kind"].as_str(), Some("freeze" | "thaw"));
        let acts: Vec<Value> = lines(&outlook.ledger)?.into_iter().filter(is_act).collect();
        for act in &acts {
            show::note(&act.to_string());
        }
        let is = |act: &Value, kind: &str| act["kind"] == kind && act["tenant"] == GLOBEX;
        let are_recorded = matches!(acts.as_slice(), [freeze, thaw] if is(freeze, "freeze") && is(thaw, "thaw"));
        findings.expect(are_recorded, "the freeze and the thaw are not in the ledger");
        let why = "a freeze ends the tenant's sessions at once, rolls back what is open, outlives a restart, \
                   touches nobody else, and is in the ledger.";
        Ok((findings, why))
    }

    /// Dropped, its connections close.
    pub async fn console_and_metrics(&self, outlook: &Outlook) -> anyhow::Result<(Findings, &'static str)> {
        let mut findings = Findings::default();
        let console = self.console().await?;
        let _client = self.client(INITECH).await?;
        for sql in ["SHOW TENANTS", "SHOW BYPASSES", "SHOW DENIALS", "SHOW LISTS"] {
            let reply = ask(&console, "admin", sql).await;
            findings.expect(matches!(&reply, Reply::Rows { rows, .. } if !rows.is_empty()), format!("{sql}: no rows"));
        }
        let reloaded = ask(&console, "admin", "RELOAD").await;
        findings.expect(matches!(reloaded, Reply::Done(_)), "RELOAD does not read the demo's configuration again");
        for path in ["/readyz", "/metrics"] {
            let (head, body) = http(outlook.metrics, path).await?;
            let counts = |line: &&str| line.starts_with("tenantgate_") && line.contains("TG060");
            let shown = body.lines().find(counts).or(body.lines().next()).unwrap_or_default();
            show::note(&format!("http://{}{path}: {head}: … {shown}", outlook.metrics));
            findings.expect(head.contains(" 200 "), format!("{path}: {head}"));
            let is_counted = path != "/metrics" || body.lines().any(|line| counts(&line));
            findings.expect(is_counted, "the refusal of step 8 is not counted");
        }
        let why = "the console speaks PostgreSQL's protocol and PgBouncer's commands; metrics are Prometheus's.";
        Ok((findings, why))
    }

    async fn console(&self) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        self.connect_to("tenantgate", "admin", None).await
    }

    async fn count_pair(&self, sql: &str) -> anyhow::Result<Vec<String>> {
        let row = self.admin.query_one(sql, &[]).await?;
        Ok(vec![row.try_get(0)?, row.try_get(1)?])
    }
}

/// The ledger's lines about transactions.
fn records(path: &Path) -> anyhow::Result<Vec<Value>> {
    Ok(lines(path)?.into_iter().filter(is_of_transaction).collect())
}

/// All of the ledger.
fn lines(path: &Path) -> anyhow::Result<Vec<Value>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    Ok(text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?)
}

fn is_of_transaction(record: &Value) -> bool {
    matches!(record.get("kind").and_then(Value::as_str), Some("intent" | "outcome"))
}

/// The status line and the body. Dropped, the connection is closed.
async fn http(address: SocketAddr, path: &str) -> anyhow::Result<(String, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await?;
    let (head, body) = reply.split_once("\r\n\r\n").context("no HTTP reply")?;
    Ok((head.lines().next().unwrap_or_default().to_owned(), body.to_owned()))
}
