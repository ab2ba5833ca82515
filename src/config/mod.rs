//! The configuration: one TOML file becomes ready values, or a list of everything that is wrong with it.
//!
//! Owns: keys, defaults, units and what keys mean together; it is the only reader of configuration keys.
//! Does not own: files, environment variables (asked for through [`Environment`]) and what settings do.
//!
//! The way through: `raw` turns text into sections of typed values by the table in [`reference`](mod@reference),
//! `build` turns those into [`Config`], whose values have been checked against each other.

mod build;
mod environment;
mod problem;
mod raw;
pub mod reference;
pub mod reload;
mod settings;
mod units;

pub use environment::{EmptyEnvironment, Environment, NamedFile};
pub use problem::{Gravity, Place, Problem};
pub use settings::*;
pub use units::parse_duration;

use std::sync::Arc;

use problem::Problems;

use crate::audit::Digest;

/// A configuration that can be used, and what somebody should look at all the same.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// In the order of the file; no errors among them.
    pub warnings: Vec<Problem>,
}

/// Reads a configuration.
///
/// # Errors
/// Every problem at once, in the order of the file, errors before warnings; after a syntax error that one alone.
pub fn load(text: &str, environment: &dyn Environment) -> Result<Loaded, Vec<Problem>> {
    let mut problems = Problems::default();
    let built = raw::read(text, &mut problems).and_then(|root| build::build(&root, environment, &mut problems));
    let has_errors = problems.has_errors();
    let problems = problems.into_sorted();
    match built {
        Some(config) if !has_errors => {
            Ok(Loaded { config: Config { digest: digest_of(text), ..config }, warnings: problems })
        }
        _ => Err(problems),
    }
}

/// What records name a configuration by: the first 16 bytes of the SHA-256 of its text.
fn digest_of(text: &str) -> Arc<str> {
    let mut digest = Digest::of(text.as_bytes()).to_string();
    digest.truncate(32);
    digest.into()
}
