//! What a configuration may ask of the world outside its file.
//!
//! Owns: the two questions. Does not own: the answers; `cli` gives them, tests give others.

use std::path::PathBuf;

use secrecy::SecretString;
use zeroize::Zeroizing;

/// A file that a configuration names.
#[derive(Debug)]
pub struct NamedFile {
    /// Its bytes.
    pub bytes: Zeroizing<Vec<u8>>,
    /// Whether users other than the owner and the group may read it.
    pub readable_by_all: bool,
}

/// Environment variables and files, as a configuration may name them.
pub trait Environment {
    /// The value of an environment variable, if it is set and valid UTF-8.
    fn variable(&self, name: &str) -> Option<SecretString>;

    /// The content of a file; a relative path starts at the configuration file's folder.
    ///
    /// # Errors
    /// The reason in words: "No such file or directory".
    fn read_file(&self, path: &str) -> Result<NamedFile, String>;

    /// Where a file or folder is that the proxy writes itself; a relative path as in [`Environment::read_file`].
    fn locate(&self, path: &str) -> PathBuf {
        PathBuf::from(path)
    }
}

/// A world without variables and files.
#[derive(Clone, Copy, Debug, Default)]
pub struct EmptyEnvironment;

impl Environment for EmptyEnvironment {
    fn variable(&self, _name: &str) -> Option<SecretString> {
        None
    }

    fn read_file(&self, _path: &str) -> Result<NamedFile, String> {
        Err("no files here".to_owned())
    }
}
