//! Logging: text or JSON, to standard error or a file.
//!
//! Standard error is written through a descriptor of our own: libpg_query points descriptor 2 elsewhere while it parses
//! (`guard::parser`), and lines written to it meanwhile would be lost.
//!
//! Owns: where lines go and which. Does not own: what is logged; secrets and values never are.

use std::fs::File;
use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::sync::Mutex;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::config::{LogFormat, LogSettings};

/// Where lines go.
#[derive(Debug)]
pub enum LogTarget {
    /// Standard error.
    StandardError,
    /// A file.
    File(File),
}

/// Starts logging for this process. `RUST_LOG` overrides the configured level.
///
/// # Errors
/// If `RUST_LOG` is no filter, or logging has been started before.
pub fn start(settings: LogSettings, target: LogTarget) -> anyhow::Result<()> {
    let filter = match std::env::var(EnvFilter::DEFAULT_ENV) {
        Ok(text) if !text.is_empty() => {
            EnvFilter::try_new(&text).map_err(|error| anyhow::anyhow!("RUST_LOG: {error}"))?
        }
        Ok(_) | Err(_) => EnvFilter::try_new(settings.level.word())?,
    };
    let (writer, is_terminal) = match target {
        LogTarget::StandardError => {
            let own = File::from(std::io::stderr().as_fd().try_clone_to_owned()?);
            (BoxMakeWriter::new(Mutex::new(own)), std::io::stderr().is_terminal())
        }
        LogTarget::File(file) => (BoxMakeWriter::new(Mutex::new(file)), false),
    };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(is_terminal);
    let started = match settings.format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("logging cannot start: {error}"))
}
