//! The tour: what TenantGate does for two tenants who share a server connection, step by step.
//!
//! Owns: the statements and what must hold of their replies. Nothing is canned: what a tenant should see is
//! asked of PostgreSQL itself, past the proxy, by its superuser.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use tokio_postgres::{Client, Error, NoTls};

use super::operator::Outlook;
use super::show::{self, Reply};

/// The first tenant.
pub const ACME: &str = "00000000-0000-0000-0000-00000000000a";
/// The second tenant.
pub const GLOBEX: &str = "00000000-0000-0000-0000-00000000000b";
/// The third tenant.
pub const INITECH: &str = "00000000-0000-0000-0000-00000000000c";

const STEP_TIMEOUT: Duration = Duration::from_secs(30);
pub(super) const LIST: &str = "SELECT pg_backend_pid() AS server, customer, amount FROM invoices ORDER BY id";
const ROUNDS: usize = 50;

/// What every step needs.
pub(super) struct Tour<'t> {
    pub(super) admin: &'t Client,
    address: SocketAddr,
    pool_size: u16,
}

/// Collects what did not hold in one step.
#[derive(Default)]
pub(super) struct Findings(Vec<String>);

impl Findings {
    pub(super) fn expect(&mut self, holds: bool, otherwise: impl Into<String>) {
        if !holds {
            self.0.push(otherwise.into());
        }
    }

    pub(super) fn expect_refused(
        &mut self,
        reply: &Reply,
        wanted_severity: &str,
        wanted_state: &str,
        wanted_text: &str,
    ) {
        let is_wanted = matches!(reply, Reply::Refused { severity, sqlstate, message, .. }
            if severity == wanted_severity && sqlstate == wanted_state && message.contains(wanted_text));
        self.expect(is_wanted, format!("expected {wanted_severity} {wanted_state} with {wanted_text:?}"));
    }
}

/// Runs all steps; whether every one held. Dropped, its connections close.
///
/// # Errors
/// If a step cannot be carried out at all.
pub async fn run(admin: &Client, address: SocketAddr, pool_size: u16, outlook: &Outlook) -> anyhow::Result<bool> {
    let tour = Tour { admin, address, pool_size };
    show::legend();
    let held = [
        step(1, "Two tenants, one server connection", tour.two_tenants()).await?,
        step(2, "The same, many times over, with prepared statements", tour.interleaved()).await?,
        step(3, "Other ways to say who the tenant is", tour.other_sources()).await?,
        step(4, "A transaction block, and a WHERE that was forgotten", tour.forgotten_where()).await?,
        step(5, "No tenant, no session", tour.missing_tenant()).await?,
        step(6, "The tenant cannot be changed by SQL", tour.changed_tenant()).await?,
        step(7, "Writing into another tenant", tour.foreign_write()).await?,
        step(8, "All tenants, but not without a reason", tour.bypass_needs_a_reason(outlook)).await?,
        step(9, "Freezing a tenant", tour.frozen_tenant(outlook)).await?,
        step(10, "Console and metrics", tour.console_and_metrics(outlook)).await?,
        step(
            11,
            "Who read globex's data since yesterday, why, which tables, did it commit, has the log been changed?",
            tour.review(outlook),
        )
        .await?,
    ];
    let count = held.iter().filter(|held| **held).count();
    println!("\n{count} of {} steps held.", held.len());
    Ok(count == held.len())
}

/// Prints one step around its run. Dropped, the step is given up.
async fn step(
    number: usize,
    title: &str,
    run: impl Future<Output = anyhow::Result<(Findings, &'static str)>>,
) -> anyhow::Result<bool> {
    show::title(number, title);
    let (Findings(failures), why) = tokio::time::timeout(STEP_TIMEOUT, run)
        .await
        .with_context(|| format!("step {number} took longer than {STEP_TIMEOUT:?}"))?
        .with_context(|| format!("step {number}"))?;
    show::verdict(why, &failures);
    Ok(failures.is_empty())
}

impl Tour<'_> {
    async fn two_tenants(&self) -> anyhow::Result<(Findings, &'static str)> {
        let mut findings = Findings::default();
        let (acme, globex) = (self.client(ACME).await?, self.client(GLOBEX).await?);
        let mut servers = BTreeSet::new();
        for (client, tenant) in [(&acme, ACME), (&globex, GLOBEX)] {
            let reply = ask(client, &show::name_of(tenant), LIST).await;
            findings.expect(
                without_server(&reply) == self.rows_of(tenant).await?,
                format!("not exactly the rows of {tenant}"),
            );
            servers.extend(servers_of(&reply));
        }
        findings.expect(!servers.is_empty(), "no rows at all");
        if self.pool_size == 1 {
            findings.expect(servers.len() == 1, format!("{} server connections served them", servers.len()));
        }
        let why = "both clients were served by the server connection in the first column (one each, if --pool-size \
                   allows more); the proxy put the tenant into each transaction, in the same packet, and the policy \
                   did the rest. What each should see was asked of PostgreSQL past the proxy.";
        Ok((findings, why))
    }

    async fn interleaved(&self) -> anyhow::Result<(Findings, &'static str)> {
        const SQL: &str = "SELECT pg_backend_pid(), tenant_id::text FROM invoices";
        let mut findings = Findings::default();
        let mut clients = Vec::new();
        for tenant in [ACME, GLOBEX, INITECH] {
            let client = self.client(tenant).await?;
            let statement = client.prepare(SQL).await?;
            clients.push((tenant, client, statement));
        }
        let (mut servers, mut rows, mut foreign) = (BTreeSet::new(), 0_usize, 0_usize);
        for _round in 0..ROUNDS {
            for (tenant, client, statement) in &clients {
                for row in client.query(statement, &[]).await? {
                    rows += 1;
                    foreign += usize::from(row.try_get::<_, String>(1)? != *tenant);
                    servers.insert(row.try_get::<_, i32>(0)?);
                }
            }
        }
        show::note(&format!("3 clients> {SQL}   -- prepared once, run {ROUNDS} times each, in turns"));
        show::note(&format!("{rows} rows over {} server connection(s), {foreign} of another tenant", servers.len()));
        let wanted = ROUNDS * self.count("SELECT count(*)::text FROM invoices").await?;
        findings.expect(rows == wanted, format!("{wanted} rows expected"));
        findings.expect(foreign == 0, "a tenant saw another one's row");
        findings.expect(servers.len() <= usize::from(self.pool_size), "more servers than the pool's size");
        Ok((
            findings,
            "prepared statements live on a server under names of the proxy's own, without any tenant in them.",
        ))
    }

    async fn other_sources(&self) -> anyhow::Result<(Findings, &'static str)> {
        let mut findings = Findings::default();
        let options = format!("-c app.tenant_id={INITECH}");
        for (user, options, tenant) in [("app_user", Some(options.as_str()), INITECH), ("acme_app", None, ACME)] {
            let client = self.connect(user, options).await?;
            let who = options.map_or(user.to_owned(), |options| format!("{user} with options '{options}'"));
            let reply = ask(&client, &who, LIST).await;
            let is_own = without_server(&reply) == self.rows_of(tenant).await?;
            findings.expect(is_own, format!("not exactly the rows of {tenant}"));
        }
        let why = "a login's configuration says where its tenant comes from: user name, startup options, or fixed.";
        Ok((findings, why))
    }

    async fn forgotten_where(&self) -> anyhow::Result<(Findings, &'static str)> {
        let mut findings = Findings::default();
        let client = self.client(ACME).await?;
        let who = show::name_of(ACME);
        let before = self.fingerprint().await?;
        ask(&client, &who, "BEGIN").await;
        let updated = ask(&client, &who, "UPDATE invoices SET amount = 0").await;
        let own = self.rows_of(ACME).await?.len();
        findings.expect(updated == Reply::Done(own as u64), format!("{own} rows expected"));
        let rest = ask(&client, &who, "SELECT count(*) FROM invoices WHERE amount = 0").await;
        let is_own = matches!(&rest, Reply::Rows { rows, .. } if *rows == [[own.to_string()]]);
        findings.expect(is_own, "the transaction does not see exactly its own work");
        ask(&client, &who, "ROLLBACK").await;
        findings.expect(self.fingerprint().await? == before, "the rollback left something behind");
        Ok((
            findings,
            "the tenant is set once for the whole block; an UPDATE of everything is one of everything one may see.",
        ))
    }

    async fn missing_tenant(&self) -> anyhow::Result<(Findings, &'static str)> {
        let mut findings = Findings::default();
        let reply = match self.connect("app_user", None).await {
            Ok(client) => ask(&client, "app_user", LIST).await,
            Err(error) => {
                let reply = Reply::of_error(&error);
                show::exchange("app_user", "(connect without a tenant)", &reply);
                reply
            }
        };
        findings.expect_refused(&reply, "FATAL", "28000", "TG001: ");
        let why = "without a tenant the policy would hide every row without a word; the proxy says so instead.";
        Ok((findings, why))
    }

    async fn changed_tenant(&self) -> anyhow::Result<(Findings, &'static str)> {
        let mut findings = Findings::default();
        let client = self.client(ACME).await?;
        let who = show::name_of(ACME);
        for sql in [
            format!("SET app.tenant_id = '{GLOBEX}'"),
            format!("SELECT set_config('app.tenant_id', '{GLOBEX}', false)"),
            format!("WITH x AS (SELECT 'app.tenant_id' AS n) SELECT set_config(n, '{GLOBEX}', true) FROM x"),
        ] {
            findings.expect_refused(&ask(&client, &who, &sql).await, "ERROR", "42501", "TG011: ");
        }
        let reply = ask(&client, &who, LIST).await;
        findings.expect(without_server(&reply) == self.rows_of(ACME).await?, "the session is no longer acme's");
        let why = "every statement is parsed by PostgreSQL's own parser before it is sent; what would change the tenant \
                   is refused wherever in the statement it stands, and the session goes on.";
        Ok((findings, why))
    }

    async fn foreign_write(&self) -> anyhow::Result<(Findings, &'static str)> {
        let mut findings = Findings::default();
        let client = self.client(ACME).await?;
        let before = self.fingerprint().await?;
        let sql = format!("INSERT INTO invoices (tenant_id, customer, amount) VALUES ('{GLOBEX}', 'Mallory', 1)");
        let reply = ask(&client, &show::name_of(ACME), &sql).await;
        findings.expect_refused(&reply, "ERROR", "42501", "row-level security");
        findings.expect(self.fingerprint().await? == before, "rows were written all the same");
        let why = "this refusal is PostgreSQL's: the policy's WITH CHECK compares each written row with the tenant \
                   that the proxy put into the transaction.";
        Ok((findings, why))
    }

    /// A client of `app_user` with the tenant in its user name.
    pub(super) async fn client(&self, tenant: &str) -> Result<Client, Error> {
        self.connect(&user_of(tenant), None).await
    }

    /// Dropped, the connection is closed.
    pub(super) async fn connect(&self, user: &str, options: Option<&str>) -> Result<Client, Error> {
        self.connect_to("demo", user, options).await
    }

    /// Dropped, the connection is closed.
    pub(super) async fn connect_to(&self, database: &str, user: &str, options: Option<&str>) -> Result<Client, Error> {
        let mut settings = tokio_postgres::Config::new();
        settings.host(self.address.ip().to_string()).port(self.address.port());
        settings.user(user).password("demo").dbname(database).application_name("tenantgate demo");
        if let Some(options) = options {
            settings.options(options);
        }
        let (client, connection) = settings.connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// What a tenant should see, by PostgreSQL's superuser: customer and amount.
    pub(super) async fn rows_of(&self, tenant: &str) -> anyhow::Result<Vec<Vec<String>>> {
        let sql = format!("SELECT customer, amount FROM invoices WHERE tenant_id = '{tenant}' ORDER BY id");
        match Reply::of(self.admin.simple_query(&sql).await) {
            Reply::Rows { rows, .. } => Ok(rows),
            other => anyhow::bail!("past the proxy: {}", other.lines().join(" ")),
        }
    }

    async fn count(&self, sql: &str) -> anyhow::Result<usize> {
        Ok(self.admin.query_one(sql, &[]).await?.try_get::<_, String>(0)?.parse()?)
    }

    /// All rows of all tenants in one text.
    pub(super) async fn fingerprint(&self) -> anyhow::Result<String> {
        let sql = "SELECT string_agg(i::text, ',' ORDER BY i.tenant_id, i.id) FROM invoices i";
        Ok(self.admin.query_one(sql, &[]).await?.try_get(0)?)
    }
}

fn user_of(tenant: &str) -> String {
    format!("app_user.{tenant}")
}

/// Sends one statement and prints what came back. Dropped, the reply is lost.
pub(super) async fn ask(client: &Client, who: &str, sql: &str) -> Reply {
    let reply = Reply::of(client.simple_query(sql).await);
    show::exchange(who, sql, &reply);
    reply
}

/// The rows of a reply to [`LIST`] without its first column; nothing if it has none.
pub(super) fn without_server(reply: &Reply) -> Vec<Vec<String>> {
    match reply {
        Reply::Rows { rows, .. } => rows.iter().map(|row| row.iter().skip(1).cloned().collect()).collect(),
        Reply::Done(_) | Reply::Refused { .. } | Reply::Broken(_) => Vec::new(),
    }
}

fn servers_of(reply: &Reply) -> Vec<String> {
    match reply {
        Reply::Rows { rows, .. } => rows.iter().filter_map(|row| row.first().cloned()).collect(),
        Reply::Done(_) | Reply::Refused { .. } | Reply::Broken(_) => Vec::new(),
    }
}
