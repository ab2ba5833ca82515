//! `tenantgate ledger verify`: whether the ledger is what was written.
//!
//! Exit status: 0 if nothing is wrong, 1 if something is (the first of it is named), 2 if that cannot be found out.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::Source;
use crate::audit::{Checkpoint, Expectations, PublicKey, SignedNote, Verified};
use crate::cli::EXIT_WRONG;
use crate::driver::ledger::{Likeness, closed_twice, likeness, verify};

/// What the ledger is held against.
#[derive(Debug, Args)]
pub struct VerifyArguments {
    #[command(flatten)]
    source: Source,
    /// A checkpoint that was kept elsewhere: a copy of <ledger>.checkpoint. Without one a ledger whose end was cut off looks whole.
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
    /// Whose signatures count, as `keygen` printed it. With --config and without this: the key that the configuration names.
    #[arg(long, value_name = "KEY")]
    public_key: Vec<String>,
    /// Older files were moved away: the first one given need not begin the chain.
    #[arg(long)]
    partial: bool,
    /// Records behind the last checkpoint count as wrong, too.
    #[arg(long)]
    signed_to_end: bool,
}

/// Verifies.
pub fn run(arguments: &VerifyArguments) -> Result<ExitCode, String> {
    let files = arguments.source.files()?;
    let expectations = expectations(arguments)?;
    let kept = expectations.kept.len();
    match verify(&files, expectations).map_err(|unreadable| unreadable.to_string())? {
        Ok(verified) => {
            if let Some(gzip) = unlike(arguments)? {
                let gzip = gzip.display();
                say(&format!(
                    "WRONG: {gzip}: is not the file of the same name without .gz, which nothing is wrong with"
                ))?;
                return Ok(ExitCode::from(EXIT_WRONG));
            }
            tell(&verified, kept)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(broken) => {
            let file = files.get(broken.spot.file).map_or_else(String::new, |file| file.display().to_string());
            let record = broken.spot.sequence.map_or("this line".to_owned(), |sequence| format!("record {sequence}"));
            say(&format!("WRONG: {file}:{}: {record} {}", broken.spot.line, broken.breach))?;
            Ok(ExitCode::from(EXIT_WRONG))
        }
    }
}

fn expectations(arguments: &VerifyArguments) -> Result<Expectations, String> {
    let read_key = |text: &String| PublicKey::parse(text).map_err(|reason| format!("--public-key: {reason}"));
    let mut keys = arguments.public_key.iter().map(read_key).collect::<Result<Vec<_>, _>>()?;
    if keys.is_empty() {
        let configured = arguments.source.settings()?.and_then(|settings| settings.signing_key);
        keys.extend(configured.map(|key| key.public().clone()));
    }
    let kept = arguments.checkpoint.iter().map(|file| kept(file, &keys)).collect::<Result<Vec<_>, _>>()?;
    Ok(Expectations { keys, kept, is_partial: arguments.partial, is_signed_to_end: arguments.signed_to_end })
}

/// A checkpoint that does not count tells nothing about a ledger: that cannot be verified against it.
fn kept(file: &Path, keys: &[PublicKey]) -> Result<Checkpoint, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
    let note = SignedNote::parse(&text).map_err(|fault| format!("{}: {fault}", file.display()))?;
    if !keys.is_empty() {
        note.check(keys).map_err(|fault| format!("{}: {fault}", file.display()))?;
    }
    Ok(note.checkpoint)
}

/// Files that are there in two forms, which are not the same.
fn unlike(arguments: &VerifyArguments) -> Result<Option<PathBuf>, String> {
    let Some(ledger) = arguments.source.alone()? else { return Ok(None) };
    let twice = closed_twice(&ledger).map_err(|error| format!("its folder cannot be read: {error}"))?;
    for (plain, gzip) in twice {
        match likeness(&plain, &gzip).map_err(|error| format!("{} cannot be read: {error}", gzip.display()))? {
            // What is wrong in both was found in the plain one, which is part of the ledger.
            Likeness::Same | Likeness::Unsound(_) | Likeness::Missing => {}
            Likeness::Other | Likeness::Damaged => return Ok(Some(gzip)),
        }
    }
    Ok(None)
}

fn tell(verified: &Verified, kept: usize) -> Result<(), String> {
    let Verified { records, unchained, first, last, boots, checkpoints, unsigned, .. } = verified;
    let (Some(first), Some(last)) = (first, last) else { return say("nothing is wrong: the ledger is empty") };
    say(&format!("nothing is wrong: {records} records, {first} to {}", last.sequence))?;
    say(&format!("last record    {}", last.digest))?;
    let signatures =
        if verified.are_signatures_checked { "signatures good" } else { "signatures NOT checked: no --public-key" };
    say(&format!("checkpoints    {checkpoints} ({signatures}); {unsigned} records behind the last one"))?;
    say(&format!("starts         {boots}"))?;
    if verified.damaged_bytes > 0 {
        say(&format!("damaged text   {} bytes, found and recorded by the proxy", verified.damaged_bytes))?;
    }
    if *unchained > 0 {
        say(&format!(
            "not protected  the first {unchained} records are older than the chain: only the last of them is tied to it"
        ))?;
    }
    if kept == 0 {
        say("not looked for whether the end was cut off: give a checkpoint that was kept elsewhere (--checkpoint)")?;
    }
    Ok(())
}

fn say(text: &str) -> Result<(), String> {
    writeln!(std::io::stdout().lock(), "{text}").map_err(|error| format!("cannot write: {error}"))
}
