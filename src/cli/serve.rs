//! `tenantgate serve`: from a configuration file to a running proxy.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use parking_lot::Mutex;

use super::check::StartCheck;
use super::check_config::count;
use super::environment::{LoadFailure, load_file};
use super::log::{self, LogTarget};
use super::{EXIT_UNUSABLE, EXIT_WRONG};
use crate::config::{Gravity, Loaded, Problem, RuntimeSettings};
use crate::driver::{self, Hooks};

/// Runs until the proxy ends.
pub fn run(path: &Path) -> ExitCode {
    let loaded = match load_file(path) {
        Ok(loaded) => loaded,
        Err(LoadFailure::Unreadable(reason)) => {
            eprintln!("tenantgate: {} cannot be read: {reason}", path.display());
            return ExitCode::from(EXIT_UNUSABLE);
        }
        Err(LoadFailure::Wrong(problems)) => {
            for problem in &problems {
                eprintln!("{problem}");
            }
            eprintln!("tenantgate: {}: {}", path.display(), count(&problems));
            return ExitCode::from(EXIT_WRONG);
        }
    };
    match serve(path, loaded) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tenantgate: {error:#}");
            ExitCode::from(EXIT_WRONG)
        }
    }
}

fn serve(path: &Path, mut loaded: Loaded) -> anyhow::Result<()> {
    let switch = log::start(loaded.config.log, LogTarget::StandardError)?;
    for warning in &loaded.warnings {
        tracing::warn!(key = %warning.key_path, "configuration: {warning}");
    }
    let mut check = StartCheck::default();
    check.look(&mut loaded).map_err(|lines| anyhow::anyhow!("{}", lines.join("\n")))?;
    let (path, check) = (path.to_path_buf(), Mutex::new(check));
    let load = move || {
        let mut loaded = load_again(&path)?;
        check.lock().look(&mut loaded).map_err(|lines| lines.into_iter().map(problem).collect::<Vec<_>>())?;
        Ok(loaded)
    };
    let hooks = Hooks { load: Some(Arc::new(load)), log: Some(switch), ..Hooks::default() };
    Ok(runtime(loaded.config.runtime)?.block_on(driver::serve(loaded.config, hooks))?)
}

/// As at the start; a file that cannot be read is a problem like others.
///
/// # Errors
/// What is wrong with it.
pub(super) fn load_again(path: &Path) -> Result<Loaded, Vec<Problem>> {
    load_file(path).map_err(|failure| match failure {
        LoadFailure::Wrong(problems) => problems,
        LoadFailure::Unreadable(reason) => vec![problem(format!("{} cannot be read: {reason}", path.display()))],
    })
}

/// One that no key is to blame for.
fn problem(message: String) -> Problem {
    Problem { gravity: Gravity::Error, key_path: String::new(), line: None, message, hint: None }
}

/// The runtime of `[runtime]`.
///
/// # Errors
/// If threads cannot be started.
pub fn runtime(settings: RuntimeSettings) -> std::io::Result<tokio::runtime::Runtime> {
    // A second thread on two cores cost a fifth more CPU per transaction (wake-ups across cores) and gave
    // nothing, since PostgreSQL or the application needs the other core.
    let cpus = || std::thread::available_parallelism().map_or(1, usize::from).div_ceil(2);
    match settings.threads.unwrap_or_else(cpus) {
        // Nothing is shared between threads then: tokio's queue and wake-ups need no atomics.
        1 => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        threads => tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("tenantgate")
            .enable_all()
            .build(),
    }
}
