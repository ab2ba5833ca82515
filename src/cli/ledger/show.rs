//! `tenantgate ledger show`: one transaction in full, each of its records with its place in the chain.
//!
//! Exit status: 0 if it is there, 1 if not or if a record does not fit the chain, 2 if the ledger cannot be read.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::Source;
use super::lines::{self, Met};
use super::sheet::{Out, known};
use crate::audit::{Deed, Dossier, Fit, Leaf, Wanted, escaped, legible};
use crate::cli::EXIT_WRONG;

/// Which transaction.
#[derive(Debug, Args)]
pub struct ShowArguments {
    #[command(flatten)]
    source: Source,
    /// The transaction's id, or the number (`seq`) of one of its records.
    #[arg(value_name = "ID")]
    id: String,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Shows it.
pub fn run(arguments: &ShowArguments) -> Result<ExitCode, String> {
    let files = arguments.source.files()?;
    let mut found = read(&files, &Wanted::parse(&arguments.id))?;
    if let (Wanted::Sequence(_), Some(id)) = (Wanted::parse(&arguments.id), found.id().map(str::to_owned)) {
        found = read(&files, &Wanted::Id(id))?;
    }
    let Some((act, leaves)) = found.end() else {
        eprintln!("tenantgate: the ledger has no record of {}", legible(&arguments.id));
        return Ok(ExitCode::from(EXIT_WRONG));
    };
    let mut out = Out::new(Box::new(std::io::stdout()));
    if arguments.json {
        let records: Vec<Value> = leaves.iter().map(|leaf| record(leaf, &files)).collect();
        out.line(&escaped(&json!({"act": act, "records": records}).to_string()))?;
    } else {
        tell_act(&mut out, &act)?;
        leaves.iter().try_for_each(|leaf| tell_leaf(&mut out, leaf, &files))?;
        out.line("\nWhether all of the ledger is what was written: tenantgate ledger verify")?;
    }
    out.flush()?;
    let fits = leaves.iter().all(|leaf| leaf.before != Fit::Differs && leaf.behind != Fit::Differs);
    Ok(if fits { ExitCode::SUCCESS } else { ExitCode::from(EXIT_WRONG) })
}

fn read(files: &[PathBuf], wanted: &Wanted) -> Result<Dossier, String> {
    let mut dossier = Dossier::new(wanted);
    lines::each(files, &mut |met| {
        match met {
            Met::Line(line) => dossier.take(line),
            Met::NextFile => dossier.next_file(),
        }
        ControlFlow::Continue(())
    })?;
    Ok(dossier)
}

fn record(leaf: &Leaf, files: &[PathBuf]) -> Value {
    json!({
        "file": files.get(leaf.file).map(|file| file.display().to_string()),
        "line": leaf.line,
        "sha256": leaf.digest.to_string(),
        "fits_before": word(leaf.before),
        "fits_behind": word(leaf.behind),
        "record": leaf.fields,
    })
}

const fn word(fit: Fit) -> Option<bool> {
    match fit {
        Fit::Alone => None,
        Fit::Fits => Some(true),
        Fit::Differs => Some(false),
    }
}

fn tell_act(out: &mut Out, act: &Deed) -> Result<(), String> {
    let text = |text: &Option<String>| known(text.as_deref().unwrap_or_default());
    let took = act.duration_us.map(|it| format!(", {}.{:03} ms", it / 1_000, it % 1_000)).unwrap_or_default();
    for (name, value) in [
        ("kind", known(&act.kind)),
        ("id", known(&act.id)),
        ("began", known(&act.at)),
        ("ended", format!("{}{took}", text(&act.ended_at))),
        ("login", format!("{} ({})", known(&act.login), text(&act.method))),
        ("on behalf of", text(&act.on_behalf_of)),
        ("from", format!("{}, application {}", known(&act.address), text(&act.application))),
        ("database", format!("{}, as {} ({})", known(&act.database), known(&act.role), known(&act.preset))),
        ("tenant", text(&act.tenant)),
        ("reason", text(&act.reason)),
        ("ticket", text(&act.ticket)),
        ("emergency", text(&act.emergency)),
        ("outcome", legible(&act.outcome())),
        ("xid", text(&act.xid)),
        ("rows", format!("{} delivered, {} written", act.rows_delivered, act.rows_affected)),
        ("tables", known(&act.tables.join(", "))),
        ("reviewed", reviewed(act)),
    ] {
        out.line(&format!("{name:<14} {value}"))?;
    }
    out.line(&format!("{:<14} {}", "statements", act.statements_total))?;
    act.statements.iter().try_for_each(|text| out.line(&format!("    {}", legible(text))))?;
    if act.truncated {
        out.line("    (more than there was room for: see the totals)")?;
    }
    Ok(())
}

fn reviewed(act: &Deed) -> String {
    let Some(reviewer) = &act.reviewer else { return "no".to_owned() };
    let text = |text: &Option<String>| known(text.as_deref().unwrap_or_default());
    format!("{} times, last by {}: {}, {}", act.reviews, legible(reviewer), text(&act.verdict), text(&act.note))
}

fn tell_leaf(out: &mut Out, leaf: &Leaf, files: &[PathBuf]) -> Result<(), String> {
    let file = files.get(leaf.file).map(|file| file.display().to_string()).unwrap_or_default();
    let text = |name: &str| known(leaf.text(name).unwrap_or_default());
    let seq = leaf.fields.get("seq").map(ToString::to_string).unwrap_or_default();
    out.line(&format!("\nrecord {seq}: {} at {}", text("kind"), text("at")))?;
    out.line(&format!("    {}:{}", legible(&file), leaf.line))?;
    out.line(&format!("    sha256 {}  (prev {})", leaf.digest, text("prev")))?;
    let before = match leaf.before {
        Fit::Alone => "there is no line before it in these files",
        Fit::Fits => "fits the record before it",
        Fit::Differs => "DOES NOT FIT the record before it",
    };
    let behind = match leaf.behind {
        Fit::Alone => "nothing stands behind it yet",
        Fit::Fits => "the record behind it fits",
        Fit::Differs => "the record behind it DOES NOT FIT: one of them was changed",
    };
    out.line(&format!("    {before}; {behind}"))?;
    for (name, value) in &leaf.fields {
        if !matches!(name.as_str(), "v" | "seq" | "kind" | "id" | "at" | "prev") && !value.is_null() {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            out.line(&format!("    {:<18} {}", legible(name), legible(&value)))?;
        }
    }
    Ok(())
}
