//! `tenantgate offboard`: a tenant leaves. Its rows are counted, exported and erased by recorded bypass transactions through
//! the proxy, and a proof says so.
//!
//! ```text
//!  --plan      count, order, obstacles                                            (nothing changes)
//!  --export D  freeze the tenant, one file for each table, the manifest last      (again: from the beginning)
//!  --erase     freeze, one transaction: compare each row with the export, erase; count again, proof
//! ```
//!
//! Each step can be repeated, whatever ended it: what was committed, the ledger knows. Exit status: 0 done, 1 refused or not proven, 2 nothing could be tried.
//!
//! Owns: the arguments, which steps there are. Does not own: the steps (`work`), files (`files`), what the ledger tells (`book`), what
//! is a tenant table (`check`), order and statements (`offboard`).

mod book;
mod files;
mod work;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use super::emergency::Road;
use super::environment::{LoadFailure, load_file};
use super::secure::words;
use super::{EXIT_UNUSABLE, EXIT_WRONG};
use crate::check::{Exceptions, TableName};
use crate::config::Config;
use crate::driver::inspect::{Examiner, Order};
use crate::tenant::TenantId;
use work::Work;

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
    /// How to reach the proxy.
    #[command(flatten)]
    road: Road,
}

/// Why it was not done.
#[derive(Debug)]
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
