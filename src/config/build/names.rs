//! Names: those of PostgreSQL's objects and those the configuration refers to.
//!
//! Owns: which texts can be one.

use std::sync::Arc;

use super::Builder;
use crate::config::problem::Place;
use crate::config::raw::{Placed, Section};

/// PostgreSQL cuts longer names short, and two names would become one.
pub const NAME_BYTES_MAX: usize = 63;

impl Builder<'_> {
    /// A name that reaches PostgreSQL or comes from a client: bounded, without control characters.
    pub fn name(&mut self, place: &Place, text: &str) -> Option<Arc<str>> {
        if text.is_empty() || text.len() > NAME_BYTES_MAX || text.chars().any(char::is_control) {
            let message = format!("a name has 1 to {NAME_BYTES_MAX} bytes and no control characters");
            self.problems.error(place, message);
            return None;
        }
        Some(text.into())
    }

    /// The name under `key`, which must be there.
    pub fn required_name(&mut self, section: &Section, key: &str) -> Option<Arc<str>> {
        let text = self.required(section, key)?;
        self.name(&section.place_of(key), &text)
    }

    /// The text under `key`, which must be there.
    pub fn required(&mut self, section: &Section, key: &str) -> Option<String> {
        if !section.has(key) {
            self.problems.error(&section.place.key(key), "is missing");
        }
        section.text(key)
    }

    /// A name of something in `[kind.…]`, which must exist.
    pub fn reference(&mut self, root: &Section, kind: &str, name: &Placed<String>) -> Option<Arc<str>> {
        let table = root.table(kind);
        if table.named_tables().any(|(known, _)| known == name.value) {
            return Some(name.value.as_str().into());
        }
        let message = format!("no [{kind}.{}]", spell(&name.value));
        self.problems.error_suggesting(&name.place, message, &name.value, table.named_tables().map(|(known, _)| known));
        None
    }
}

fn spell(name: &str) -> String {
    let is_bare = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if is_bare { name.to_owned() } else { format!("{name:?}") }
}

/// An unquoted SQL identifier in lower case.
pub fn is_identifier(text: &str) -> bool {
    let mut characters = text.chars();
    characters.next().is_some_and(|c| c.is_ascii_lowercase() || c == '_')
        && characters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '$')
        && text.len() <= NAME_BYTES_MAX
}
