//! The lines of a ledger's files, in memory of one line, and the acts they tell.

use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;

use crate::audit::{Deed, Filter, Joiner, Late};
use crate::driver::ledger::Lines;

/// What is met on the way.
pub enum Met<'l> {
    /// A line, without its line break.
    Line(&'l [u8]),
    /// The next file begins.
    NextFile,
}

/// Reads all files; whoever is told may end it.
pub fn each(files: &[PathBuf], on: &mut dyn FnMut(Met<'_>) -> ControlFlow<()>) -> Result<(), String> {
    for (index, path) in files.iter().enumerate() {
        if index > 0 && on(Met::NextFile).is_break() {
            return Ok(());
        }
        let failed = |error: io::Error| format!("{} cannot be read: {error}", path.display());
        let mut lines = Lines::open(path).map_err(failed)?;
        while let Some(line) = lines.next_line().map_err(|fault| failed(fault.into()))? {
            if on(Met::Line(line.bytes)).is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The acts that are wanted, in the order in which they ended; says on standard error how many lines are no records.
pub fn acts(files: &[PathBuf], filter: &Filter, on: &mut dyn FnMut(Deed) -> Result<(), String>) -> Result<(), String> {
    let mut late = Late::default();
    each(files, &mut |met| {
        if let Met::Line(line) = met {
            late.take(line);
        }
        ControlFlow::Continue(())
    })?;
    if late.left_out > 0 {
        eprintln!("tenantgate: reviews of {} transactions are not shown: there are too many", late.left_out);
    }
    let mut joiner = Joiner::new(late);
    let mut told = Ok(());
    each(files, &mut |met| {
        let Met::Line(line) = met else { return ControlFlow::Continue(()) };
        joiner.take(line, &mut |act| give(act, filter, on, &mut told));
        if told.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    let broken = if told.is_ok() { joiner.end(&mut |act| give(act, filter, on, &mut told)) } else { 0 };
    if broken > 0 {
        eprintln!("tenantgate: {broken} lines cannot be read");
    }
    told
}

fn give(act: Deed, filter: &Filter, on: &mut dyn FnMut(Deed) -> Result<(), String>, told: &mut Result<(), String>) {
    if told.is_ok() && filter.fits(&act) {
        *told = on(act);
    }
}
