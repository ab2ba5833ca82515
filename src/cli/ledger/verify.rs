//! `tenantgate ledger verify`: whether the ledger is what was written.
//!
//! Exit status: 0 if nothing is wrong, 1 if something is (the first of it is named), 2 if that cannot be found out.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::Source;
use crate::audit::{Broken, Checkpoint, Expectations, PublicKey, SignedNote, Verified, Verifier};
use crate::cli::EXIT_WRONG;

/// A line of a ledger has less than 256 KiB; what is far longer is none, and is not taken into memory.
const LINE_BYTES_MAX: u64 = 4 << 20;

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
    match walk(&files, expectations)? {
        Ok(verified) => {
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

fn walk(files: &[PathBuf], expectations: Expectations) -> Result<Result<Verified, Broken>, String> {
    let mut verifier = Verifier::new(expectations);
    for (index, path) in files.iter().enumerate() {
        if index > 0 {
            verifier.next_file();
        }
        let failed = |error| format!("{} cannot be read: {error}", path.display());
        let mut reader = BufReader::with_capacity(1 << 20, File::open(path).map_err(failed)?);
        let mut line = Vec::new();
        loop {
            line.clear();
            if reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line).map_err(failed)? == 0 {
                break;
            }
            let closed = line.strip_suffix(b"\n");
            if let Err(broken) = verifier.take(closed.unwrap_or(&line), closed.is_some()) {
                return Ok(Err(broken));
            }
        }
    }
    Ok(verifier.end())
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
