//! `tenantgate ledger reconcile`: how transactions ended of which the ledger does not know it.
//!
//! A proxy that runs does this by itself; this is for one that does not, and for holding the ledger against the rows that
//! bypasses leave in sealed databases. Exit status: 0 if everything is known and agrees, 1 if not, 2 if that cannot be found
//! out.

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;

use super::configured;
use crate::audit::{Edge, parse_time};
use crate::cli::environment::load_file;
use crate::cli::serve::runtime;
use crate::cli::{EXIT_UNUSABLE, EXIT_WRONG};
use crate::config::{Compress, Config, LedgerSettings};
use crate::driver::ledger::Ledger;
use crate::driver::reconcile::{Differences, differences, reconcile, unresolved};

/// How often a transaction that is still under way is asked for.
const TRIES: usize = 30;

/// How long between.
const PAUSE: Duration = Duration::from_secs(1);

/// Of each kind of difference, so many are named.
const NAMED_MAX: usize = 20;

/// Whose ledger.
#[derive(Debug, Args)]
pub struct ReconcileArguments {
    /// The configuration whose [ledger] and databases are meant.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The ledger of another proxy in front of the same databases; once more for each. Its rows are then known, too.
    #[arg(long, value_name = "FILE")]
    other: Vec<PathBuf>,
    /// Rows are held against records from this time on: 2026-11-23, 2026-11-23T09:00 (UTC) or 2026-11-23T09:00:00Z. For a
    /// database that was sealed then, or whose rows from before were forgotten.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
}

/// Reconciles.
pub fn run(arguments: &ReconcileArguments) -> Result<ExitCode, String> {
    // Files are compressed by whoever stays.
    let settings = LedgerSettings { compress: Compress::None, ..configured(&arguments.config)? };
    let since = arguments.since.as_deref().map(|text| parse_time(text, Edge::Since)).transpose()?;
    let config = match load_file(&arguments.config) {
        Ok(loaded) => loaded.config,
        Err(_) => return Err(format!("{} cannot be read any more", arguments.config.display())),
    };
    let runtime = runtime(config.runtime).map_err(|error| format!("the system refuses: {error}"))?;
    runtime.block_on(found_out(&config, settings, &arguments.other, since))
}

async fn found_out(
    config: &Config,
    settings: LedgerSettings,
    others: &[PathBuf],
    since: Option<Timestamp>,
) -> Result<ExitCode, String> {
    let path = settings.path.clone();
    let unreadable = |error| format!("{} cannot be read: {error}", path.display());
    let ledger = Ledger::start(settings, Arc::new(File::sync_data)).map_err(|error| format!("no thread: {error}"))?;
    let is_ours = ledger.is_writable();
    let mut left = Vec::new();
    if is_ours {
        ledger.settle().await;
        let open = unresolved(&path).map_err(unreadable)?;
        let count = open.len();
        left = open;
        for _ in 0..TRIES {
            left = reconcile(config, &ledger, left).await;
            if left.is_empty() {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        println!("{count} outcomes were unknown, {} of them still are", left.len());
    } else {
        println!("the ledger is in use, or cannot be written: a proxy that runs finds out unknown outcomes by itself");
    }
    ledger.settle().await;
    let mut files = vec![path.clone()];
    files.extend_from_slice(others);
    let differences = differences(config, &path, &files, since).await.map_err(unreadable)?;
    tell(&differences);
    Ok(match left.is_empty() && differences.are_none() {
        false => ExitCode::from(EXIT_WRONG),
        // What could not be looked at agrees with nothing.
        true if !differences.unread.is_empty() => ExitCode::from(EXIT_UNUSABLE),
        true => ExitCode::SUCCESS,
    })
}

fn tell(differences: &Differences) {
    for database in &differences.unread {
        println!(
            "{database}: sealed, and its rows cannot be read, so that nothing is known of them (GRANT SELECT ON tenantgate.bypass to a bypass role)"
        );
    }
    for (what, ids) in [
        ("committed without a record", &differences.without_record),
        ("recorded as committed, without a row", &differences.without_row),
    ] {
        println!("{what}: {}", ids.len());
        ids.iter().take(NAMED_MAX).for_each(|(database, id)| println!("  {database} {id}"));
    }
}
