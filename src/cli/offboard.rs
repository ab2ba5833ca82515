//! `tenantgate offboard`: a tenant leaves. Its rows are counted, exported and erased by recorded bypass transactions through
//! the proxy, and a proof says so.
//!
//! ```text
//!  --plan      count, order, obstacles                                            (nothing changes)
//!  --export D  freeze the tenant, one file for each table, the manifest last      (again: from the beginning)
//!  --erase     freeze, compare with the export, erase in one transaction, count again, proof
//! ```
//!
//! Each step can be repeated, whatever ended it. Exit status: 0 done, 1 refused or not proven, 2 nothing could be tried.
//!
//! Owns: connections, files, the order of steps. Does not own: what is a tenant table (`check`), order and statements (`offboard`).

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256, digest};
use futures_util::StreamExt as _;
use secrecy::ExposeSecret as _;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::emergency::{of_configuration, words};
use super::environment::{LoadFailure, load_file};
use super::{EXIT_UNUSABLE, EXIT_WRONG};
use crate::check::{Exceptions, TableName};
use crate::config::{Config, LoginSecret};
use crate::driver::inspect::{Examiner, Order};
use crate::offboard::{Action, Exported, Key, Manifest, Plan, Proof, ProvenTable, Table, quoted_literal};
use crate::tenant::TenantId;

/// The manifest's name in an export's folder.
const MANIFEST: &str = "manifest.json";
/// The proof's.
const PROOF: &str = "proof.json";

/// Foreign keys, each once, and how their rows fit together.
const KEYS: &str = "SELECT k.conname, cn.nspname, c.relname, pn.nspname, p.relname, k.confdeltype::text,
  (SELECT string_agg(format('c.%I = p.%I', ca.attname, pa.attname), ' AND ')
     FROM generate_subscripts(k.conkey, 1) n
     JOIN pg_catalog.pg_attribute ca ON ca.attrelid = k.conrelid AND ca.attnum = k.conkey[n]
     JOIN pg_catalog.pg_attribute pa ON pa.attrelid = k.confrelid AND pa.attnum = k.confkey[n])
  FROM pg_catalog.pg_constraint k
  JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace cn ON cn.oid = c.relnamespace
  JOIN pg_catalog.pg_class p ON p.oid = k.confrelid JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
  WHERE k.contype = 'f' AND k.conparentid = 0 ORDER BY 1, 2, 3";

/// Tables whose policies are not known to show this login all rows.
const HIDDEN: &str = "SELECT n.nspname, c.relname
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p') AND row_security_active(c.oid) AND (
    NOT EXISTS (SELECT FROM pg_catalog.pg_policy y WHERE y.polrelid = c.oid AND y.polpermissive AND y.polcmd = '*'
      AND pg_get_expr(y.polqual, y.polrelid) = 'true'
      AND EXISTS (SELECT FROM unnest(y.polroles) r WHERE r = 0 OR pg_has_role(current_user, r, 'USAGE')))
    OR EXISTS (SELECT FROM pg_catalog.pg_policy y WHERE y.polrelid = c.oid AND NOT y.polpermissive))";

/// Arguments of `offboard`.
#[derive(Debug, clap::Args)]
pub struct OffboardArguments {
    /// The running proxy's configuration. Its first address, the first of [console] admins and the login are used, with the
    /// passwords that are in it, or PGPASSWORD.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Who leaves.
    #[arg(long, value_name = "TENANT")]
    tenant: String,
    /// The database, as clients name it.
    #[arg(long, value_name = "NAME")]
    database: String,
    /// The bypass login that does it.
    #[arg(long, value_name = "LOGIN")]
    login: String,
    /// Why; each transaction's reason begins with it.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Only say what would be done.
    #[arg(long, conflicts_with_all = ["export", "erase"])]
    plan: bool,
    /// Write the rows to this folder; with --erase: the export that was made before.
    #[arg(long, value_name = "FOLDER", required_unless_present_any = ["plan", "erase"])]
    export: Option<PathBuf>,
    /// Erase them.
    #[arg(long)]
    erase: bool,
    /// Erase them without an export. The proof then goes to --proof.
    #[arg(long, requires_all = ["erase", "proof"], conflicts_with = "export")]
    without_export: bool,
    /// Where the proof is written, if not to the export's folder.
    #[arg(long, value_name = "FILE", requires = "erase")]
    proof: Option<PathBuf>,
    /// Policies of all tables show this login all rows: somebody has looked.
    #[arg(long)]
    trust_policies: bool,
}

/// Why it was not done.
enum Failure {
    Unusable(String),
    Refused(String),
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Failure::Refused(words(&error))
    }
}

/// Runs the command.
pub fn run(arguments: &OffboardArguments) -> ExitCode {
    let (words, status) = match offboard(arguments) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Refused(words)) => (words, EXIT_WRONG),
        Err(Failure::Unusable(words)) => (words, EXIT_UNUSABLE),
    };
    eprintln!("tenantgate: {words}");
    ExitCode::from(status)
}

fn offboard(arguments: &OffboardArguments) -> Result<(), Failure> {
    if arguments.erase && arguments.export.is_none() && !arguments.without_export {
        return Err(Failure::Unusable("--erase needs the export (--export FOLDER), or --without-export".to_owned()));
    }
    let config = match load_file(&arguments.config) {
        Ok(loaded) => loaded.config,
        Err(LoadFailure::Unreadable(reason)) => {
            return Err(Failure::Unusable(format!("{} cannot be read: {reason}", arguments.config.display())));
        }
        Err(LoadFailure::Wrong(problems)) => {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            return Err(Failure::Unusable(problems.join("\n")));
        }
    };
    let tenant = TenantId::parse(config.scope.tenant_kind, &arguments.tenant);
    let tenant = tenant.map_err(|fault| Failure::Unusable(format!("--tenant: {fault}")))?;
    let tables = tenant_tables(&config, &arguments.database)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Unusable(error.to_string()))?;
    runtime.block_on(async {
        let work = Work::begin(arguments, &config, tenant.as_str()).await?;
        if !arguments.plan {
            work.freeze().await?;
        }
        let plan = work.plan(&tables).await?;
        match (&arguments.export, arguments.erase) {
            (_, true) => work.erase(&plan).await,
            (Some(folder), false) => work.export(&plan, folder).await,
            (None, false) => Ok(()),
        }
    })
}

/// What `check` takes for tenant tables.
fn tenant_tables(config: &Config, database: &str) -> Result<Vec<(TableName, Option<String>)>, Failure> {
    let order = Order {
        config: Arc::new(config.clone()),
        database: Some(database.into()),
        looker: None,
        roles: Vec::new(),
        exceptions: Exceptions::default(),
        probes: false,
        today: jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date(),
    };
    let examiner = Examiner::start().map_err(|error| Failure::Unusable(error.to_string()))?;
    let examined = examiner.examine(order).map_err(|fault| Failure::Unusable(fault.to_string()))?;
    let mut tables: Vec<_> = examined.into_iter().flat_map(|it| it.report.tenant_tables).collect();
    tables.sort();
    tables.dedup();
    match tables.is_empty() {
        true => Err(Failure::Unusable(format!("tenantgate check finds no tenant table in {database}"))),
        false => Ok(tables),
    }
}

/// The tenant, and the connections that work on it.
struct Work<'a> {
    arguments: &'a OffboardArguments,
    tenant: String,
    console: tokio_postgres::Config,
    client: Client,
}

impl<'a> Work<'a> {
    /// If dropped: the connection is closed.
    async fn begin(arguments: &'a OffboardArguments, config: &Config, tenant: &str) -> Result<Self, Failure> {
        let mut console = of_configuration(&arguments.config).map_err(Failure::Unusable)?;
        console.dbname("pgbouncer").application_name("tenantgate offboard");
        let mut settings = console.clone();
        settings.user(&arguments.login).dbname(&arguments.database);
        match config.logins.get(&*arguments.login).and_then(|entry| entry.secret.as_ref()) {
            Some(LoginSecret::Plain(password)) => drop(settings.password(password.expose_secret())),
            Some(LoginSecret::Scram(_)) | None => {
                settings.password(std::env::var("PGPASSWORD").unwrap_or_default());
            }
        }
        let client = connect(&settings).await?;
        Ok(Self { arguments, tenant: tenant.to_owned(), console, client })
    }

    /// Nobody works for the tenant any more. If dropped: it may be frozen or not.
    async fn freeze(&self) -> Result<(), Failure> {
        let console = connect(&self.console).await?;
        let frozen = rows(&console.simple_query("SHOW FROZEN").await?);
        if frozen.iter().any(|row| row.first() == Some(&self.tenant)) {
            return Ok(());
        }
        let (tenant, reason) = (quoted_literal(&self.tenant), quoted_literal(&self.arguments.reason));
        console.simple_query(&format!("FREEZE TENANT {tenant} REASON {reason}")).await?;
        Ok(())
    }

    /// What the next transactions are for.
    async fn set_reason(&self, step: &str) -> Result<(), Failure> {
        let reason = format!("{} (offboard {}: {step})", self.arguments.reason, self.tenant);
        self.client.simple_query(&format!("SET tenantgate.reason = {}", quoted_literal(&reason))).await?;
        Ok(())
    }

    /// Counts, and says what stands in the way.
    async fn plan(&self, tables: &[(TableName, Option<String>)]) -> Result<Plan, Failure> {
        self.set_reason("plan").await?;
        self.client.simple_query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let hidden = rows(&self.client.simple_query(HIDDEN).await?);
        let keys: Vec<Key> = rows(&self.client.simple_query(KEYS).await?).iter().filter_map(|row| key(row)).collect();
        let mut found: Vec<Table> = tables
            .iter()
            .map(|(name, column)| {
                let is_hidden = hidden.iter().any(|row| row.first() == Some(&name.0) && row.get(1) == Some(&name.1));
                Table { schema: name.0.clone(), name: name.1.clone(), column: column.clone(), is_hidden, rows: 0 }
            })
            .collect();
        let counting = Plan::new(&self.tenant, found.clone(), &keys, true);
        for table in found.iter_mut().filter(|table| table.column.is_some()) {
            table.rows = self.count(&counting.count(table)).await?;
        }
        let mut plan = Plan::new(&self.tenant, found, &keys, self.arguments.trust_policies);
        for key in &keys {
            let Some(sql) = key.count_strays(&self.tenant, &plan.tables) else { continue };
            match self.count(&sql).await? {
                0 => {}
                strays => plan.obstacles.push(crate::offboard::Obstacle(format!(
                    "{strays} rows of other tenants in {}.{} refer to rows of this one ({})",
                    key.child.0, key.child.1, key.name
                ))),
            }
        }
        self.client.simple_query("COMMIT").await?;
        tell(&plan);
        Ok(plan)
    }

    async fn count(&self, sql: &str) -> Result<u64, Failure> {
        let answer = rows(&self.client.simple_query(sql).await?);
        let count = answer.first().and_then(|row| row.first()).and_then(|text| text.parse().ok());
        count.ok_or_else(|| Failure::Refused(format!("no count came for {sql}")))
    }

    /// Writes all tables from one snapshot. If dropped: there is no manifest, and so no export.
    async fn export(&self, plan: &Plan, folder: &Path) -> Result<(), Failure> {
        let unwritten = |error: std::io::Error| Failure::Unusable(format!("{}: {error}", folder.display()));
        std::fs::create_dir_all(folder).map_err(unwritten)?;
        match std::fs::remove_file(folder.join(MANIFEST)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(unwritten(error)),
            Ok(()) | Err(_) => {}
        }
        self.set_reason("export").await?;
        self.client.simple_query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let mut tables = Vec::new();
        for (at, table) in plan.tables.iter().enumerate().filter(|(_, table)| table.column.is_some()) {
            let rows = self.count(&plan.count(table)).await?;
            let file = format!("{:04}-{}.csv", at + 1, plain(&table.full_name()));
            let (bytes, sha256) = self.copy(&plan.copy(table), &folder.join(&file)).await?;
            tables.push(Exported { table: Table { rows, ..table.clone() }, file, bytes, sha256 });
        }
        self.client.simple_query("COMMIT").await?;
        let (tenant, database) = (self.tenant.clone(), self.arguments.database.clone());
        let manifest = Manifest { version: 1, tenant, database, at: now(), tables };
        let text = serde_json::to_vec_pretty(&manifest).map_err(|error| Failure::Unusable(error.to_string()))?;
        write(&folder.join(MANIFEST), &text).map_err(unwritten)?;
        println!("exported {} rows of {} tables to {}", plan.rows(), manifest.tables.len(), folder.display());
        Ok(())
    }

    /// One table's rows, as they come. If dropped: half a file is left, which no manifest names.
    async fn copy(&self, sql: &str, path: &Path) -> Result<(u64, String), Failure> {
        let unwritten = |error: std::io::Error| Failure::Unusable(format!("{}: {error}", path.display()));
        let mut file = create(path).map_err(unwritten)?;
        let (mut length, mut sha) = (0_u64, Context::new(&SHA256));
        let mut stream = pin!(self.client.copy_out(sql).await?);
        while let Some(chunk) = stream.next().await {
            let chunk = chunk?;
            file.write_all(&chunk).map_err(unwritten)?;
            sha.update(&chunk);
            length = length.saturating_add(chunk.len() as u64);
        }
        file.sync_all().map_err(unwritten)?;
        Ok((length, hex(sha.finish().as_ref())))
    }

    /// Erases in one transaction, and proves it by others.
    async fn erase(&self, plan: &Plan) -> Result<(), Failure> {
        if !plan.obstacles.is_empty() {
            return Err(Failure::Refused("nothing was erased: see what stands in the way".to_owned()));
        }
        let manifest_sha256 = match &self.arguments.export {
            Some(folder) => Some(self.compare(plan, folder)?),
            None => None,
        };
        self.set_reason("erase").await?;
        let (xid, erased) = self.erase_at_once(plan).await?;
        self.prove(plan, xid, &erased, manifest_sha256).await
    }

    /// Whether the export is of what there is. Where an earlier run has erased it all, the export's own counts are proof enough of
    /// what there was.
    fn compare(&self, plan: &Plan, folder: &Path) -> Result<String, Failure> {
        let unread = |what: String| Failure::Refused(format!("{}: {what}", folder.display()));
        let text = std::fs::read(folder.join(MANIFEST)).map_err(|error| unread(format!("{MANIFEST}: {error}")))?;
        let manifest: Manifest =
            serde_json::from_slice(&text).map_err(|error| unread(format!("{MANIFEST}: {error}")))?;
        for exported in &manifest.tables {
            let found = digest_of(&folder.join(&exported.file))
                .map_err(|error| unread(format!("{}: {error}", exported.file)))?;
            if found != exported.sha256 {
                return Err(unread(format!("{} is not what was exported", exported.file)));
            }
        }
        let is_erased =
            plan.rows() == 0 && manifest.tenant == self.tenant && manifest.database == self.arguments.database;
        match manifest.difference(plan, &self.arguments.database).filter(|_| !is_erased) {
            Some(difference) => Err(unread(format!("{difference}: export again"))),
            None => Ok(hex(digest(&SHA256, &text).as_ref())),
        }
    }

    /// If dropped: all is erased, or nothing.
    async fn erase_at_once(&self, plan: &Plan) -> Result<(Option<String>, Vec<u64>), Failure> {
        let mut erased = vec![0; plan.tables.len()];
        if plan.rows() == 0 {
            return Ok((None, erased));
        }
        self.client.simple_query("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
        self.client.simple_query("SET CONSTRAINTS ALL DEFERRED").await?;
        for (sql, group) in plan.erasures() {
            let answer = rows(&self.client.simple_query(&sql).await?);
            let counts = answer.first().into_iter().flatten().map(|text| text.parse::<u64>().unwrap_or(0));
            for (at, count) in group.into_iter().zip(counts) {
                if let Some(erased) = erased.get_mut(at) {
                    *erased = count;
                }
            }
        }
        let counted: Vec<u64> = plan.tables.iter().map(|table| table.rows).collect();
        if erased != counted {
            self.client.simple_query("ROLLBACK").await?;
            let message = format!("rolled back: {erased:?} rows were erased, and {counted:?} counted before");
            return Err(Failure::Refused(message));
        }
        let xid = rows(&self.client.simple_query("SELECT pg_current_xact_id()::text").await?);
        self.client.simple_query("COMMIT").await?;
        Ok((xid.into_iter().flatten().next(), erased))
    }

    /// Counts again, writes the proof, and has its digest recorded.
    async fn prove(
        &self,
        plan: &Plan,
        xid: Option<String>,
        erased: &[u64],
        manifest_sha256: Option<String>,
    ) -> Result<(), Failure> {
        self.set_reason("verify").await?;
        let mut tables = Vec::new();
        for (table, erased) in plan.tables.iter().zip(erased) {
            let left = self.count(&plan.count(table)).await?;
            tables.push(ProvenTable { table: table.full_name(), column: table.column.clone(), erased: *erased, left });
        }
        let (tenant, database) = (self.tenant.clone(), self.arguments.database.clone());
        let proof = Proof { version: 1, tenant, database, at: now(), xid, manifest_sha256, tables };
        let text = serde_json::to_vec_pretty(&proof).map_err(|error| Failure::Unusable(error.to_string()))?;
        let path = match (&self.arguments.proof, &self.arguments.export) {
            (Some(path), _) => path.clone(),
            (None, Some(folder)) => folder.join(PROOF),
            (None, None) => return Err(Failure::Unusable("--proof is needed".to_owned())),
        };
        write(&path, &text).map_err(|error| Failure::Unusable(format!("{}: {error}", path.display())))?;
        let sha256 = hex(digest(&SHA256, &text).as_ref());
        self.set_reason(&format!("proof sha256:{sha256}")).await?;
        self.client.simple_query("SELECT 1").await?;
        println!("{}: sha256:{sha256}, in the ledger", path.display());
        match proof.holds() {
            true => Ok(()),
            false => Err(Failure::Refused("rows are left: see the proof, and erase again".to_owned())),
        }
    }
}

fn tell(plan: &Plan) {
    for table in plan.groups.iter().flatten().filter_map(|at| plan.tables.get(*at)) {
        println!("{:>12} {}", table.rows, table.full_name());
    }
    println!("{:>12} rows of tenant {}", plan.rows(), plan.tenant);
    plan.obstacles.iter().for_each(|obstacle| println!("in the way: {}", obstacle.0));
}

fn key(row: &[String]) -> Option<Key> {
    let [name, child_schema, child, parent_schema, parent, action, join] = row else { return None };
    Some(Key {
        name: name.clone(),
        child: (child_schema.clone(), child.clone()),
        parent: (parent_schema.clone(), parent.clone()),
        action: Action::of(action),
        join: join.clone(),
    })
}

async fn connect(settings: &tokio_postgres::Config) -> Result<Client, Failure> {
    let connected = settings.connect(NoTls).await;
    let (client, connection) = connected.map_err(|error| Failure::Unusable(format!("the proxy: {}", words(&error))))?;
    tokio::spawn(async move {
        // What ends it, the client hears with its next question.
        drop(connection.await);
    });
    Ok(client)
}

/// The rows of an answer; NULL as an empty text.
fn rows(answer: &[SimpleQueryMessage]) -> Vec<Vec<String>> {
    let row = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|at| row.get(at).unwrap_or_default().to_owned()).collect())
        }
        _ => None,
    };
    answer.iter().filter_map(row).collect()
}

/// As part of a file's name.
fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' }).collect()
}

fn create(path: &Path) -> std::io::Result<std::fs::File> {
    std::fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// All of it or nothing.
fn write(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = create(&temporary)?;
    file.write_all(text)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}

fn digest_of(path: &Path) -> std::io::Result<String> {
    let (mut file, mut sha) = (std::fs::File::open(path)?, Context::new(&SHA256));
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match std::io::Read::read(&mut file, &mut buffer)? {
            0 => return Ok(hex(sha.finish().as_ref())),
            count => sha.update(buffer.get(..count).unwrap_or_default()),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
