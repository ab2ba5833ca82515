//! Logging: text or JSON, to standard error or a file.
//!
//! Standard error is written through a descriptor of our own: libpg_query points descriptor 2 elsewhere while it parses
//! (`guard::parser`), and lines written to it meanwhile would be lost.
//!
//! Owns: where lines go and which. Does not own: what is logged; secrets and values never are.

use std::fs::File;
use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::config::{LogFormat, LogSettings};
use crate::driver::reload::LogSwitch;

/// Where lines go.
#[derive(Debug)]
pub enum LogTarget {
    /// Standard error.
    StandardError,
    /// A file.
    File(File),
}

/// Starts logging for this process; gives what changes the level later. `RUST_LOG` overrides the configured level.
///
/// # Errors
/// If `RUST_LOG` is no filter, or logging has been started before.
pub fn start(settings: LogSettings, target: LogTarget) -> anyhow::Result<Arc<LogSwitch>> {
    let (filter, is_overridden) = match std::env::var(EnvFilter::DEFAULT_ENV) {
        Ok(text) if !text.is_empty() => {
            (EnvFilter::try_new(&text).map_err(|error| anyhow::anyhow!("RUST_LOG: {error}"))?, true)
        }
        Ok(_) | Err(_) => (EnvFilter::try_new(settings.level.word())?, false),
    };
    let (writer, is_terminal) = match target {
        LogTarget::StandardError => {
            let own = File::from(std::io::stderr().as_fd().try_clone_to_owned()?);
            (BoxMakeWriter::new(Mutex::new(own)), std::io::stderr().is_terminal())
        }
        LogTarget::File(file) => (BoxMakeWriter::new(Mutex::new(file)), false),
    };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(is_terminal);
    let (started, change): (_, Box<ChangeFilter>) = match settings.format {
        LogFormat::Text => {
            let lines = lines.with_filter_reloading();
            let handle = lines.reload_handle();
            (lines.try_init(), Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string())))
        }
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_filter_reloading();
            let handle = lines.reload_handle();
            (lines.try_init(), Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string())))
        }
    };
    started.map_err(|error| anyhow::anyhow!("logging cannot start: {error}"))?;
    Ok(Arc::new(move |settings: LogSettings| match EnvFilter::try_new(settings.level.word()) {
        Ok(_) if is_overridden => Ok(()),
        Ok(filter) => change(filter),
        Err(error) => Err(error.to_string()),
    }))
}

type ChangeFilter = dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync;
