//! The world a configuration file refers to: this process's variables, and files beside it.

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::config::{self, Environment, Loaded, NamedFile, Problem};

/// No certificate chain or password is longer; a mistaken path to something huge must not fill memory.
const FILE_BYTES_MAX: u64 = 1 << 20;
const OTHERS_MAY_READ: u32 = 0o004;

/// Why a configuration file gives no configuration.
#[derive(Debug)]
pub enum LoadFailure {
    /// It cannot be read.
    Unreadable(String),
    /// It is wrong.
    Wrong(Vec<Problem>),
}

/// Reads and checks a configuration file.
///
/// # Errors
/// The system's reason, or all problems.
pub fn load_file(path: &Path) -> Result<Loaded, LoadFailure> {
    let file = read_bounded(path).map_err(LoadFailure::Unreadable)?;
    let text = std::str::from_utf8(&file.bytes).map_err(|_| LoadFailure::Unreadable("it is not UTF-8".to_owned()))?;
    let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
    config::load(text, &ProcessEnvironment { folder }).map_err(LoadFailure::Wrong)
}

struct ProcessEnvironment {
    folder: PathBuf,
}

impl Environment for ProcessEnvironment {
    fn variable(&self, name: &str) -> Option<SecretString> {
        // A name with `=` or a zero byte would panic in the standard library.
        let is_name = !name.is_empty() && !name.contains(['=', '\0']);
        is_name.then(|| std::env::var(name).ok()).flatten().map(SecretString::from)
    }

    fn read_file(&self, path: &str) -> Result<NamedFile, String> {
        read_bounded(&self.folder.join(path))
    }

    fn locate(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }
}

/// A file's text.
///
/// # Errors
/// The system's reason.
pub fn read_text(path: &Path) -> Result<String, String> {
    let file = read_bounded(path)?;
    String::from_utf8(file.bytes.to_vec()).map_err(|_| "it is not UTF-8".to_owned())
}

fn read_bounded(path: &Path) -> Result<NamedFile, String> {
    let file = std::fs::File::open(path).map_err(|error| reason(&error))?;
    let metadata = file.metadata().map_err(|error| reason(&error))?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| reason(&error))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("it is larger than {FILE_BYTES_MAX} bytes"));
    }
    Ok(NamedFile { bytes, readable_by_all: metadata.mode() & OTHERS_MAY_READ != 0 })
}

/// The system's words without Rust's `(os error 2)`.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}
