//! `tenantgate ledger list` and `export`: the transactions of bypass and migration logins, and other acts.
//!
//! Exit status: 0 if the ledger could be read, 2 if not.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use clap::Args;

use super::Source;
use super::filter::{FilterArguments, Format};
use super::lines;
use super::sheet::{Out, Sheet};
use crate::driver::ledger::Lines;

/// Which acts are shown.
#[derive(Debug, Args)]
pub struct ListArguments {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    filter: FilterArguments,
    /// How they are written.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The so many that ended last [default: 1000 in a table, otherwise all]; those without an outcome come behind them.
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
    /// As --format json.
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

/// Shows them.
pub fn list(arguments: &ListArguments) -> Result<(), String> {
    let format = if arguments.json { Format::Json } else { arguments.format };
    let out = Out::new(Box::new(std::io::stdout()));
    write(&arguments.source, &arguments.filter, Sheet::new(format, arguments.limit, out)?)
}

/// What is exported.
#[derive(Debug, Args)]
pub struct ExportArguments {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    filter: FilterArguments,
    /// How it is written.
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(["json", "csv"]), default_value = "json")]
    format: String,
    /// Where: made anew, mode 0600; without it standard output.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Writes all of them.
pub fn export(arguments: &ExportArguments) -> Result<(), String> {
    let format = if arguments.format == "csv" { Format::Csv } else { Format::Json };
    // First of all: a ledger that cannot be read leaves no empty file.
    arguments.source.files()?.iter().try_for_each(|path| {
        Lines::open(path).map(drop).map_err(|error| format!("{} cannot be read: {error}", path.display()))
    })?;
    let out = match &arguments.output {
        None => Out::new(Box::new(std::io::stdout())),
        Some(path) => {
            let file = File::options().write(true).create_new(true).mode(0o600).open(path);
            Out::new(Box::new(file.map_err(|error| format!("{} cannot be written: {error}", path.display()))?))
        }
    };
    write(&arguments.source, &arguments.filter, Sheet::new(format, None, out)?)
}

fn write(source: &Source, filter: &FilterArguments, mut sheet: Sheet) -> Result<(), String> {
    lines::acts(&source.files()?, &filter.filter()?, &mut |act| sheet.put(act))?;
    sheet.end()
}
