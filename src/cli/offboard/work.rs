//! The steps, over connections to the proxy.
//!
//! Rows are erased only as they were exported: the transaction that erases reads them once more in the export's order, from the one
//! snapshot that it has (REPEATABLE READ), and compares digests. A row that somebody changes behind that snapshot fails the
//! transaction (40001); one that somebody inserts is not erased, and found by the count behind it.
//!
//! Owns: connections, the order of steps. Does not own: files (`files`), what the ledger tells (`book`), statements (`offboard`).

use std::io::Write as _;
use std::path::Path;
use std::pin::pin;

use aws_lc_rs::digest::{Context, SHA256, digest};
use futures_util::StreamExt as _;
use secrecy::ExposeSecret as _;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::book::Book;
use super::files::{create, digest_of, hex, now, plain, write};
use super::{Failure, OffboardArguments};
use crate::check::TableName;
use crate::cli::emergency::of_configuration;
use crate::cli::secure::Secure;
use crate::config::{Config, LoginSecret};
use crate::offboard::{
    Action, Exported, FORMS, Key, Manifest, Obstacle, Plan, Proof, ProvenTable, Table, VERSION, quoted_literal,
};

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
  JOIN pg_catalog.pg_class c ON c.oid = coalesce(pg_catalog.pg_partition_root(k.conrelid), k.conrelid) JOIN pg_catalog.pg_namespace cn ON cn.oid = c.relnamespace
  JOIN pg_catalog.pg_class p ON p.oid = coalesce(pg_catalog.pg_partition_root(k.confrelid), k.confrelid) JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
  WHERE k.contype = 'f' AND k.conparentid = 0 ORDER BY 1, 2, 3";

/// Tables whose policies are not known to show this login all rows.
const HIDDEN: &str = "SELECT n.nspname, c.relname
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p') AND row_security_active(c.oid) AND (
    NOT EXISTS (SELECT FROM pg_catalog.pg_policy y WHERE y.polrelid = c.oid AND y.polpermissive AND y.polcmd = '*'
      AND pg_get_expr(y.polqual, y.polrelid) = 'true'
      AND EXISTS (SELECT FROM unnest(y.polroles) r WHERE r = 0 OR pg_has_role(current_user, r, 'USAGE')))
    OR EXISTS (SELECT FROM pg_catalog.pg_policy y WHERE y.polrelid = c.oid AND NOT y.polpermissive))";

/// The tenant, and the connections that work on it.
pub struct Work<'a> {
    arguments: &'a OffboardArguments,
    tenant: String,
    secure: Secure,
    console: tokio_postgres::Config,
    client: Client,
    book: Book,
}

impl<'a> Work<'a> {
    /// If dropped: the connection is closed.
    pub async fn begin(arguments: &'a OffboardArguments, config: &Config, tenant: &str) -> Result<Self, Failure> {
        let mut console = of_configuration(&arguments.config, &arguments.road).map_err(Failure::Unusable)?;
        console.dbname("pgbouncer").application_name("tenantgate offboard");
        let mut settings = console.clone();
        settings.user(&arguments.login).dbname(&arguments.database);
        match config.logins.get(&*arguments.login).and_then(|entry| entry.secret.as_ref()) {
            Some(LoginSecret::Plain(password)) => drop(settings.password(password.expose_secret())),
            Some(LoginSecret::Scram(_)) | None => {
                settings.password(std::env::var("PGPASSWORD").unwrap_or_default());
            }
        }
        let secure = arguments.road.secure().map_err(Failure::Unusable)?;
        let client = connect(&secure, &settings).await?;
        let book = Book::new(config, arguments, tenant);
        Ok(Self { arguments, tenant: tenant.to_owned(), secure, console, client, book })
    }

    /// Nobody works for the tenant any more. If dropped: it may be frozen or not.
    pub async fn freeze(&self) -> Result<(), Failure> {
        let console = connect(&self.secure, &self.console).await?;
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
    pub async fn plan(&self, tables: &[(TableName, Option<String>)]) -> Result<Plan, Failure> {
        self.set_reason("plan").await?;
        self.client.simple_query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let hidden = rows(&self.client.simple_query(HIDDEN).await?);
        let keys = self.keys().await?;
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
        let strays = self.strays(&keys, &plan.tables).await?;
        plan.obstacles.extend(strays);
        self.client.simple_query("COMMIT").await?;
        tell(&plan);
        Ok(plan)
    }

    async fn keys(&self) -> Result<Vec<Key>, Failure> {
        Ok(rows(&self.client.simple_query(KEYS).await?).iter().filter_map(|row| key(row)).collect())
    }

    /// Rows of others that would go with this tenant's, or change.
    async fn strays(&self, keys: &[Key], tables: &[Table]) -> Result<Vec<Obstacle>, Failure> {
        let mut found = Vec::new();
        for key in keys {
            let Some(sql) = key.count_strays(&self.tenant, tables) else { continue };
            match self.count(&sql).await? {
                0 => {}
                strays => found.push(Obstacle(format!(
                    "{strays} rows of other tenants in {}.{} refer to rows of this one ({})",
                    key.child.0, key.child.1, key.name
                ))),
            }
        }
        Ok(found)
    }

    async fn count(&self, sql: &str) -> Result<u64, Failure> {
        let answer = rows(&self.client.simple_query(sql).await?);
        let count = answer.first().and_then(|row| row.first()).and_then(|text| text.parse().ok());
        count.ok_or_else(|| Failure::Refused(format!("no count came for {sql}")))
    }

    /// Writes all tables from one snapshot. If dropped: there is no manifest, and so no export.
    pub async fn export(&self, plan: &Plan, folder: &Path) -> Result<(), Failure> {
        let unwritten = |error: std::io::Error| Failure::Unusable(format!("{}: {error}", folder.display()));
        std::fs::create_dir_all(folder).map_err(unwritten)?;
        match std::fs::remove_file(folder.join(MANIFEST)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(unwritten(error)),
            Ok(()) | Err(_) => {}
        }
        self.set_reason("export").await?;
        self.client.simple_query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        self.client.simple_query(FORMS).await?;
        let mut tables = Vec::new();
        for (at, table) in plan.tables.iter().enumerate().filter(|(_, table)| table.column.is_some()) {
            let rows = self.count(&plan.count(table)).await?;
            let file = format!("{:04}-{}.csv", at + 1, plain(&table.full_name()));
            let (bytes, sha256) = self.copy(&plan.copy(table), Some(&folder.join(&file))).await?;
            tables.push(Exported { table: Table { rows, ..table.clone() }, file, bytes, sha256 });
        }
        self.client.simple_query("COMMIT").await?;
        let (tenant, database) = (self.tenant.clone(), self.arguments.database.clone());
        let transaction = self.book.last("export")?.map(|it| it.id);
        let manifest = Manifest { version: VERSION, tenant, database, at: now(), transaction, tables };
        let text = serde_json::to_vec_pretty(&manifest).map_err(|error| Failure::Unusable(error.to_string()))?;
        write(&folder.join(MANIFEST), &text).map_err(unwritten)?;
        println!("exported {} rows of {} tables to {}", manifest.rows(), manifest.tables.len(), folder.display());
        Ok(())
    }

    /// One table's rows, as they come: their length and digest. If dropped: half a file is left, which no manifest names.
    async fn copy(&self, sql: &str, path: Option<&Path>) -> Result<(u64, String), Failure> {
        let place = path.unwrap_or(Path::new("")).display();
        let unwritten = |error: std::io::Error| Failure::Unusable(format!("{place}: {error}"));
        let mut file = path.map(create).transpose().map_err(unwritten)?;
        let (mut length, mut sha) = (0_u64, Context::new(&SHA256));
        let mut stream = pin!(self.client.copy_out(sql).await?);
        while let Some(chunk) = stream.next().await {
            let chunk = chunk?;
            if let Some(file) = &mut file {
                file.write_all(&chunk).map_err(unwritten)?;
            }
            sha.update(&chunk);
            length = length.saturating_add(chunk.len() as u64);
        }
        if let Some(file) = file {
            file.sync_all().map_err(unwritten)?;
        }
        Ok((length, hex(sha.finish().as_ref())))
    }

    /// Erases in one transaction, and proves it by others.
    pub async fn erase(&self, plan: &Plan) -> Result<(), Failure> {
        if !plan.obstacles.is_empty() {
            return Err(Failure::Refused("nothing was erased: see what stands in the way".to_owned()));
        }
        // It is looked at before anything is erased whether the ledger can be read.
        let known = self.book.all()?;
        let export = match &self.arguments.export {
            Some(folder) => Some(self.compare(plan, folder)?),
            None => None,
        };
        // If it commits, it has erased so many.
        let step = match &export {
            Some((manifest, sha256)) => format!("erase {} rows sha256:{sha256}", manifest.rows()),
            None => format!("erase {} rows without export", plan.rows()),
        };
        if plan.rows() == 0 && export.as_ref().is_some_and(|(manifest, _)| manifest.rows() > 0) {
            let is_it = |it: &crate::offboard::Recorded| it.step == step && it.result.as_deref() == Some("committed");
            if !known.iter().any(is_it) {
                let what = "there are no rows, and the ledger knows of no committed erasure of this export";
                return Err(Failure::Refused(format!(
                    "{what}: who has erased them? Export again, or reconcile the ledger"
                )));
            }
        }
        self.set_reason(&step).await?;
        let (xid, erased) = self.erase_at_once(plan, export.as_ref().map(|(manifest, _)| manifest)).await?;
        self.prove(plan, xid, &erased, export.map(|(_, sha256)| sha256)).await
    }

    /// Whether the export's files are what was exported, and as many rows as there are. Where an earlier run has erased it all, there
    /// are none left. Comes back with the manifest's digest.
    fn compare(&self, plan: &Plan, folder: &Path) -> Result<(Manifest, String), Failure> {
        let unread = |what: String| Failure::Refused(format!("{}: {what}", folder.display()));
        let text = std::fs::read(folder.join(MANIFEST)).map_err(|error| unread(format!("{MANIFEST}: {error}")))?;
        let manifest: Manifest =
            serde_json::from_slice(&text).map_err(|error| unread(format!("{MANIFEST}: {error}: export again")))?;
        for exported in &manifest.tables {
            let found = digest_of(&folder.join(&exported.file))
                .map_err(|error| unread(format!("{}: {error}", exported.file)))?;
            if found != exported.sha256 {
                return Err(unread(format!("{} is not what was exported", exported.file)));
            }
        }
        let is_erased = plan.rows() == 0
            && manifest.version == VERSION
            && manifest.tenant == self.tenant
            && manifest.database == self.arguments.database;
        match manifest.difference(plan, &self.arguments.database).filter(|_| !is_erased) {
            Some(difference) => Err(unread(format!("{difference}: export again"))),
            None => Ok((manifest, hex(digest(&SHA256, &text).as_ref()))),
        }
    }

    /// If dropped: all is erased, or nothing.
    async fn erase_at_once(
        &self,
        plan: &Plan,
        manifest: Option<&Manifest>,
    ) -> Result<(Option<String>, Vec<u64>), Failure> {
        if plan.rows() == 0 {
            return Ok((None, vec![0; plan.tables.len()]));
        }
        self.client.simple_query("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
        self.client.simple_query("SET CONSTRAINTS ALL DEFERRED").await?;
        if let Some(table) = self.changed_table(plan, manifest).await? {
            self.client.simple_query("ROLLBACK").await?;
            let message = format!("rolled back: rows of {table} are not those that were exported: export again");
            return Err(Failure::Refused(message));
        }
        // The others work on: since they were counted, one may have referred to what is erased now.
        let keys = self.keys().await?;
        if let Some(Obstacle(stray)) = self.strays(&keys, &plan.tables).await?.into_iter().next() {
            self.client.simple_query("ROLLBACK").await?;
            return Err(Failure::Refused(format!("rolled back: {stray}")));
        }
        let erased = self.erase_groups(plan).await?;
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

    /// A table whose rows are not, byte by byte, those of the export, in the snapshot of the transaction that erases.
    async fn changed_table(&self, plan: &Plan, manifest: Option<&Manifest>) -> Result<Option<String>, Failure> {
        let Some(manifest) = manifest else { return Ok(None) };
        self.client.simple_query(FORMS).await?;
        for table in plan.tables.iter().filter(|table| table.column.is_some()) {
            let (bytes, sha256) = self.copy(&plan.copy(table), None).await?;
            let exported = manifest.tables.iter().find(|it| it.table.full_name() == table.full_name());
            if exported.is_none_or(|it| (it.bytes, &it.sha256) != (bytes, &sha256)) {
                return Ok(Some(table.full_name()));
            }
        }
        Ok(None)
    }

    /// How many rows of each table were erased.
    async fn erase_groups(&self, plan: &Plan) -> Result<Vec<u64>, Failure> {
        let mut erased = vec![0; plan.tables.len()];
        for (sql, group) in plan.erasures() {
            let answer = self.client.simple_query(&sql).await?;
            let counts: Vec<u64> = if group.len() == 1 {
                answer
                    .iter()
                    .filter_map(
                        |it| if let SimpleQueryMessage::CommandComplete(count) = it { Some(*count) } else { None },
                    )
                    .collect()
            } else {
                rows(&answer).iter().flatten().map(|text| text.parse().unwrap_or(0)).collect()
            };
            for (at, count) in group.into_iter().zip(counts) {
                if let Some(erased) = erased.get_mut(at) {
                    *erased = count;
                }
            }
        }
        Ok(erased)
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
        self.client.simple_query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let mut tables = Vec::new();
        for (table, erased) in plan.tables.iter().zip(erased) {
            let left = self.count(&plan.count(table)).await?;
            tables.push(ProvenTable { table: table.full_name(), column: table.column.clone(), erased: *erased, left });
        }
        self.client.simple_query("COMMIT").await?;
        let (tenant, database) = (self.tenant.clone(), self.arguments.database.clone());
        let transactions = self.book.all()?;
        let proof = Proof { version: VERSION, tenant, database, at: now(), xid, manifest_sha256, transactions, tables };
        let text = serde_json::to_vec_pretty(&proof).map_err(|error| Failure::Unusable(error.to_string()))?;
        let path = match (&self.arguments.proof, &self.arguments.export) {
            (Some(path), _) => path.clone(),
            (None, Some(folder)) => folder.join(PROOF),
            (None, None) => return Err(Failure::Unusable("--proof is needed".to_owned())),
        };
        write(&path, &text).map_err(|error| Failure::Unusable(format!("{}: {error}", path.display())))?;
        let step = format!("proof sha256:{}", hex(digest(&SHA256, &text).as_ref()));
        self.set_reason(&step).await?;
        self.client.simple_query("SELECT 1").await?;
        let id = self.book.last(&step)?.map_or_else(String::new, |it| format!(" as {}", it.id));
        println!("{}: {step}, in the ledger{id}", path.display());
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

async fn connect(secure: &Secure, settings: &tokio_postgres::Config) -> Result<Client, Failure> {
    let connected = secure.log_in(settings).await;
    let (client, connection) = connected.map_err(|error| Failure::Unusable(format!("the proxy: {error}")))?;
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
