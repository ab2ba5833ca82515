//! What is checked of a text before the parser sees it, and where things are in it.
//!
//! Owns: length, encoding and what the scanner stumbles over; byte offsets to character positions. Does not own: grammar.

use super::facts::Facts;
use crate::fault::{Code, Fault};
use std::sync::Arc;

/// What a text may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest text that is parsed: 800 KB of ANDs took the parser 4 s and 700 MB.
    pub text_bytes_max: usize,
    /// Most steps that the scanner may take beyond one a byte: see `rescanned_bytes`. Two million take 20 ms.
    pub rescanned_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { text_bytes_max: 64 * 1024, rescanned_bytes_max: 2_000_000 }
    }
}

/// Why a text has no facts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InspectFault {
    /// Not SQL.
    #[error("{message}")]
    Syntax {
        /// PostgreSQL's own words.
        message: Box<str>,
        /// 1-based character position; 0 where unknown.
        position: u32,
    },
    /// Longer than [`Limits::text_bytes_max`].
    #[error("{bytes} bytes, at most {max} are checked")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Nested too deeply.
    #[error("nested too deeply")]
    TooDeep,
    /// Not UTF-8.
    #[error("not UTF-8 at byte {valid_up_to}")]
    NotUtf8 {
        /// How many bytes were.
        valid_up_to: usize,
    },
    /// A NUL byte inside.
    #[error("a NUL byte inside the text")]
    Nul,
    /// A defect of the guard.
    #[error("the parser's tree could not be read")]
    Defect,
}

impl From<InspectFault> for Fault {
    fn from(fault: InspectFault) -> Self {
        let words = fault.to_string();
        match fault {
            InspectFault::Syntax { message, position } => {
                let fault = Fault::saying(Code::SyntaxError, message);
                if position > 0 { fault.at(position) } else { fault }
            }
            InspectFault::TooLong { .. } => Fault::of(Code::TextTooLong).with_detail(words),
            InspectFault::TooDeep => Fault::of(Code::TooDeep),
            InspectFault::NotUtf8 { .. } | InspectFault::Nul => Fault::of(Code::NotUtf8).with_detail(words),
            InspectFault::Defect => Fault::of(Code::Internal).with_detail(words),
        }
    }
}

/// Facts of a text, or why it has none; both may be kept in a cache.
pub type Inspected = Result<Arc<Facts>, Arc<Fault>>;

/// Proves that a text may be given to the parser.
pub(super) fn check<'t>(sql: &'t [u8], limits: &Limits) -> Result<&'t str, InspectFault> {
    if sql.len() > limits.text_bytes_max {
        return Err(InspectFault::TooLong { bytes: sql.len(), max: limits.text_bytes_max });
    }
    let text = std::str::from_utf8(sql).map_err(|error| InspectFault::NotUtf8 { valid_up_to: error.valid_up_to() })?;
    if sql.contains(&0) {
        return Err(InspectFault::Nul);
    }
    if rescanned_bytes(sql) > limits.rescanned_bytes_max {
        return Err(InspectFault::TooDeep);
    }
    Ok(text)
}

/// How many bytes the scanner may read more than once.
///
/// PostgreSQL's scanner takes a whole run of operator characters, and gives most of it back where a comment begins
/// inside or where the run ends in signs: 64 KB of `/**//**/…` took 10 s in an unoptimised build, of `/*/*…` 5 s, of
/// `+++…` 2 s. Nesting by itself costs nothing. Runs inside of literals count too: no ordinary text comes near.
fn rescanned_bytes(sql: &[u8]) -> usize {
    let runs = sql.split(|byte| !is_operator_byte(*byte));
    runs.map(|run| {
        let comments = run.windows(2).filter(|pair| pair == b"/*").count();
        let signs = run.iter().filter(|&&byte| byte == b'+').count();
        run.len() * (comments + signs)
    })
    .sum()
}

/// `op_chars` of PostgreSQL's scan.l.
fn is_operator_byte(byte: u8) -> bool {
    b"~!@#^&|`?+-*/%<>=".contains(&byte)
}

/// From byte offsets to 1-based character positions.
pub(super) struct Positions<'t> {
    text: &'t str,
    /// Characters before every `STRIDE`th byte; empty if the text is ASCII, where both are the same.
    checkpoints: Vec<u32>,
}

const STRIDE: usize = 256;

impl<'t> Positions<'t> {
    pub fn new(text: &'t str) -> Self {
        let mut checkpoints = Vec::new();
        if !text.is_ascii() {
            let mut characters = 0;
            for chunk in text.as_bytes().chunks(STRIDE) {
                checkpoints.push(characters);
                characters += characters_in(chunk);
            }
        }
        Self { text, checkpoints }
    }

    /// The text itself.
    pub fn text(&self) -> &'t str {
        self.text
    }

    /// The 1-based character position of a byte offset; 0 for the parser's "nowhere", -1.
    pub fn of(&self, location: i32) -> u32 {
        let Ok(byte) = usize::try_from(location) else { return 0 };
        let byte = byte.min(self.text.len());
        let before = match self.checkpoints.get(byte / STRIDE) {
            None if self.checkpoints.is_empty() => byte as u32,
            None => characters_in(self.text.as_bytes()),
            Some(characters) => characters + characters_in(&self.text.as_bytes()[byte / STRIDE * STRIDE..byte]),
        };
        before + 1
    }
}

fn characters_in(bytes: &[u8]) -> u32 {
    bytes.iter().filter(|&&byte| byte & 0xc0 != 0x80).count() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters() {
        let text = "é".repeat(600) + "x";
        let positions = Positions::new(&text);
        assert_eq!(positions.of(0), 1);
        assert_eq!(positions.of(2), 2);
        assert_eq!(positions.of(1200), 601);
        assert_eq!(positions.of(-1), 0);
        assert_eq!(Positions::new("abc").of(2), 3);
    }

    #[test]
    fn text_that_is_no_text_is_refused() {
        let limits = Limits::default();
        assert_eq!(check(b"SELECT '\xff'", &limits), Err(InspectFault::NotUtf8 { valid_up_to: 8 }));
        assert_eq!(check(b"SELECT 1\0", &limits), Err(InspectFault::Nul));
        assert!(matches!(check(&[b' '; 65_537], &limits), Err(InspectFault::TooLong { .. })));
        for costly in ["/*", "/**/", "/***/", "+", "+-", "+/**/"] {
            let text = costly.repeat(60_000 / costly.len());
            assert_eq!(check(text.as_bytes(), &limits), Err(InspectFault::TooDeep), "{costly}");
        }
        let frames = format!("/*{}*/\n/* +-----+------+ */\n'{}'", "*".repeat(78), "/*/5".repeat(20));
        assert!(check(frames.repeat(300).as_bytes(), &limits).is_ok());
    }
}
