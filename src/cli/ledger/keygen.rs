//! `tenantgate ledger keygen`: a key that signs checkpoints.
//!
//! Exit status: 0 if it is written, 2 if not. A file that is there already is never overwritten.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use clap::Args;
use secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use crate::audit::SigningKey;

/// Where the key goes.
#[derive(Debug, Args)]
pub struct KeygenArguments {
    /// The key's file: made anew, mode 0600.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Whose key it is: stands in signatures and in the public key.
    #[arg(long, value_name = "NAME", default_value = "tenantgate")]
    name: String,
}

/// Makes a key, writes it, prints its public half.
pub fn run(arguments: &KeygenArguments) -> Result<(), String> {
    let mut seed = Zeroizing::new([0_u8; 32]);
    aws_lc_rs::rand::fill(seed.as_mut_slice()).map_err(|_| "the system gives no randomness".to_owned())?;
    let key = SigningKey::from_seed(&arguments.name, &seed).map_err(ToOwned::to_owned)?;
    let text = SigningKey::file_text(&arguments.name, &seed).ok_or("the key cannot be made")?;
    let failed = |error| format!("{} cannot be written: {error}", arguments.file.display());
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&arguments.file).map_err(failed)?;
    file.write_all(text.expose_secret().as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    writeln!(std::io::stdout().lock(), "{}", key.public()).map_err(|error| format!("cannot write: {error}"))
}
