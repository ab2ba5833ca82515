//! `tenantgate ledger tail`: the last acts, and with `--follow` those that come, through rotations.
//!
//! Exit status: 0 if the ledger could be read, 2 if not.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use clap::Args;

use super::Source;
use super::filter::{FilterArguments, Format};
use super::sheet::{Out, Sheet};
use crate::audit::{Deed, Filter, Joiner, Late};
use crate::driver::{Followed, Follower};

/// How far back the last acts are looked for: some ten thousand records.
const TAIL_BYTES: u64 = 8 << 20;

/// How often the files are looked at for more.
const INTERVAL: Duration = Duration::from_millis(200);

/// Which acts are shown.
#[derive(Debug, Args)]
pub struct TailArguments {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    filter: FilterArguments,
    /// How they are written: in a table's place one line for each.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// So many of those that are there, of the last 8 MiB.
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 10)]
    lines: usize,
    /// Go on with those that come, until interrupted.
    #[arg(short, long)]
    follow: bool,
}

/// Shows them.
pub fn run(arguments: &TailArguments) -> Result<(), String> {
    let filter = arguments.filter.filter()?;
    let path = arguments.source.last()?;
    let failed = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    if !path.exists() {
        return Err(format!("{} cannot be read: there is no such file", path.display()));
    }
    let mut follower = Follower::near_end(&path, TAIL_BYTES).map_err(failed)?;
    let mut sheet = Sheet::new(arguments.format, Some(arguments.lines), Out::new(Box::new(std::io::stdout())))?;
    let mut joiner = Joiner::new(Late::default());
    let mut last = VecDeque::new();
    look(
        &mut follower,
        &mut joiner,
        &path,
        &mut |act| {
            last.push_back(act);
            if last.len() > arguments.lines {
                last.pop_front();
            }
        },
        &filter,
    )?;
    if !arguments.follow {
        joiner.end(&mut |act| {
            if filter.fits(&act) {
                last.push_back(act);
            }
        });
        let skipped = last.len().saturating_sub(arguments.lines);
        return last.iter().skip(skipped).try_for_each(|act| sheet.say(act));
    }
    loop {
        last.drain(..).try_for_each(|act| sheet.say(&act))?;
        std::thread::sleep(INTERVAL);
        look(&mut follower, &mut joiner, &path, &mut |act| last.push_back(act), &filter)?;
    }
}

/// What has come since.
fn look(
    follower: &mut Follower,
    joiner: &mut Joiner,
    path: &Path,
    on: &mut dyn FnMut(Deed),
    filter: &Filter,
) -> Result<(), String> {
    let mut give = |act: Deed| {
        if filter.fits(&act) {
            on(act);
        }
    };
    let polled = follower.poll(&mut |met| match met {
        Followed::Line(line) => joiner.take(line, &mut give),
        Followed::Damaged(file) => {
            eprintln!(
                "tenantgate: {}: its gzip stream is damaged or cut off: the rest of it is missing here",
                file.display()
            );
        }
        Followed::NextFile => {}
        Followed::Anew => eprintln!("tenantgate: the ledger's file is another than before: all of it follows"),
    });
    polled.map_err(|error| format!("{} cannot be read: {error}", path.display()))
}
