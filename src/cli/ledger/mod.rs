//! `tenantgate ledger`: what bypass and migration logins did, and whether its record is what was written.
//!
//! Owns: which command runs, and where the files are. Does not own: reading records (`audit`), writing them (`driver`).

mod filter;
mod keygen;
mod lines;
mod list;
mod reconcile;
mod sheet;
mod show;
mod stats;
mod tail;
mod verify;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::EXIT_UNUSABLE;
use super::environment::{LoadFailure, load_file};
use crate::audit::{Deed, Filter};
use crate::config::LedgerSettings;

/// What is done with the ledger.
#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Show its transactions, each with its outcome, and other acts.
    List(list::ListArguments),
    /// Show one transaction in full; exit status 0: it is there, 1: it is not, or its records do not fit the chain, 2: unreadable.
    Show(show::ShowArguments),
    /// Sum up by reason, actor, table and day.
    Stats(stats::StatsArguments),
    /// Show the last acts, and those that come.
    Tail(tail::TailArguments),
    /// Write all acts that fit, as JSON or CSV.
    Export(list::ExportArguments),
    /// Find whether records were changed, removed, put in or moved; exit status 0: nothing found, 1: something, 2: unreadable.
    Verify(verify::VerifyArguments),
    /// Find out how transactions ended of which the ledger does not know it, and whether sealed databases agree with it; exit status 0: all known and agreed, 1: not, 2: unreadable.
    Reconcile(reconcile::ReconcileArguments),
    /// Make a key that signs checkpoints ([ledger] signing_key_file), and print its public half.
    Keygen(keygen::KeygenArguments),
}

/// Which ledger.
#[derive(Debug, Args)]
pub struct Source {
    /// The configuration whose [ledger] is meant.
    #[arg(long, value_name = "FILE", required_unless_present = "ledger", conflicts_with = "ledger")]
    config: Option<PathBuf>,
    /// The ledger's file; once more for each of several, oldest first. Closed files beside a single one are found.
    #[arg(long, value_name = "FILE")]
    ledger: Vec<PathBuf>,
}

impl Source {
    /// The ledger's settings, where a configuration is given.
    fn settings(&self) -> Result<Option<LedgerSettings>, String> {
        self.config.as_deref().map(configured).transpose()
    }

    /// The file that is written to.
    fn last(&self) -> Result<PathBuf, String> {
        let configured = self.settings()?.map(|settings| settings.path);
        configured.or_else(|| self.ledger.last().cloned()).ok_or_else(|| "no ledger is given".to_owned())
    }

    /// The one ledger whose closed files are looked for; `None`: all files are given.
    fn alone(&self) -> Result<Option<PathBuf>, String> {
        Ok(match (self.settings()?, self.ledger.as_slice()) {
            (Some(settings), _) => Some(settings.path),
            (None, [one]) => Some(one.clone()),
            (None, _) => None,
        })
    }

    /// Its files, oldest first.
    fn files(&self) -> Result<Vec<PathBuf>, String> {
        match self.alone()? {
            Some(one) => files_of(one),
            None => Ok(self.ledger.clone()),
        }
    }
}

/// A ledger's file and the closed ones beside it, oldest first.
fn files_of(one: PathBuf) -> Result<Vec<PathBuf>, String> {
    let unreadable = |error| format!("the folder of {} cannot be read: {error}", one.display());
    let mut files = crate::driver::closed_files(&one).map_err(unreadable)?;
    files.push(one);
    Ok(files)
}

/// The acts of a configured ledger that are wanted, in the order in which they ended.
///
/// # Errors
/// It cannot be read, in words, or what `on` says.
pub fn acts_of(
    ledger: &LedgerSettings,
    filter: &Filter,
    on: &mut dyn FnMut(Deed) -> Result<(), String>,
) -> Result<(), String> {
    lines::acts(&files_of(ledger.path.clone())?, filter, on)
}

/// Runs a command.
pub fn run(command: &LedgerCommand) -> ExitCode {
    let done = match command {
        LedgerCommand::List(arguments) => list::list(arguments).map(|()| ExitCode::SUCCESS),
        LedgerCommand::Show(arguments) => show::run(arguments),
        LedgerCommand::Stats(arguments) => stats::run(arguments).map(|()| ExitCode::SUCCESS),
        LedgerCommand::Tail(arguments) => tail::run(arguments).map(|()| ExitCode::SUCCESS),
        LedgerCommand::Export(arguments) => list::export(arguments).map(|()| ExitCode::SUCCESS),
        LedgerCommand::Verify(arguments) => verify::run(arguments),
        LedgerCommand::Reconcile(arguments) => reconcile::run(arguments),
        LedgerCommand::Keygen(arguments) => keygen::run(arguments).map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|reason| {
        if reason.is_empty() {
            // Whoever read has gone.
            return ExitCode::SUCCESS;
        }
        eprintln!("tenantgate: {reason}");
        ExitCode::from(EXIT_UNUSABLE)
    })
}

fn configured(config: &Path) -> Result<LedgerSettings, String> {
    match load_file(config) {
        Ok(loaded) => loaded.config.ledger.ok_or_else(|| format!("{} has no [ledger]", config.display())),
        Err(LoadFailure::Unreadable(reason)) => Err(format!("{} cannot be read: {reason}", config.display())),
        Err(LoadFailure::Wrong(problems)) => {
            Err(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        }
    }
}
