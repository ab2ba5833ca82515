//! The PostgreSQL parser: text in, tree out.
//!
//! Owns: the binding to libpg_query and every word of its crate's name; this is the only file that knows
//! it, and the only one with `unsafe`. Does not own: what a tree means (`walk`, `statement`), or on
//! which thread it runs: the C side recurses, so callers need a deep stack (`driver::parser`).
//!
//! The crate's own `parse` is not used: it drops the error's position, and builds summaries
//! whose casts can panic. Its C function is called directly; types and layout are those of the exact version
//! that `Cargo.toml` pins.

#![expect(unsafe_code, reason = "the one reviewed binding to libpg_query")]

use std::ffi::{CStr, CString, c_char, c_int};

use parking_lot::Mutex;
use prost::Message;

pub(super) use pg_query::NodeEnum as Kind;
pub(super) use pg_query::protobuf as tree;

/// Why a text has no tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ParseFault {
    /// The parser refused it.
    Syntax {
        /// PostgreSQL's own message.
        message: Box<str>,
        /// 1-based character position; 0 where the parser gave none.
        position: u32,
    },
    /// The parser ran out of its nesting limits.
    TooDeep,
    /// A NUL byte inside.
    Nul,
    /// The tree could not be read back: a defect.
    Undecodable,
}

#[repr(C)]
struct Buffer {
    bytes: usize,
    data: *mut c_char,
}

#[repr(C)]
struct RawError {
    message: *mut c_char,
    funcname: *mut c_char,
    filename: *mut c_char,
    lineno: c_int,
    cursorpos: c_int,
    context: *mut c_char,
}

#[repr(C)]
struct RawResult {
    parse_tree: Buffer,
    stderr_buffer: *mut c_char,
    error: *mut RawError,
}

unsafe extern "C" {
    fn pg_query_parse_protobuf_opts(input: *const c_char, options: c_int) -> RawResult;
    fn pg_query_free_protobuf_parse_result(result: RawResult);
}

/// `standard_conforming_strings = on` and the ordinary SQL grammar.
const OPTIONS_DEFAULT: c_int = 0;

/// libpg_query redirects file descriptor 2 of the whole process into a pipe while it parses and
/// restores it afterwards; two of them at once would restore each other's pipe. So one at a time.
/// (Whatever else writes to descriptor 2 meanwhile is lost: logs go to a duplicate of it.)
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Parses `text`.
pub(super) fn parse(text: &str) -> Result<tree::ParseResult, ParseFault> {
    let input = CString::new(text).map_err(|_| ParseFault::Nul)?;
    let guard = ONE_AT_A_TIME.lock();
    // SAFETY: `input` is a NUL-terminated string that outlives the call; the function keeps no reference to it.
    let result = Owned(unsafe { pg_query_parse_protobuf_opts(input.as_ptr(), OPTIONS_DEFAULT) });
    drop(guard);
    if let Some(fault) = result.fault() {
        return Err(fault);
    }
    if is_deeper_than(result.tree(), MESSAGE_DEPTH_MAX) {
        return Err(ParseFault::TooDeep);
    }
    tree::ParseResult::decode(result.tree()).map_err(|_| ParseFault::Undecodable)
}

/// Deepest nesting of messages that is read back; two or three of them make one level of SQL.
///
/// The C side checks its own stack. Reading the tree, walking and dropping it recurse too, unchecked: in an unoptimised
/// build the worst shape (`ARRAY[[[[…`) was measured to need 18 KB a message, 36 of a parser thread's 64 MB.
const MESSAGE_DEPTH_MAX: usize = 2_000;

/// Whether messages may be nested deeper than `max`, without recursion. Any length-delimited field counts
/// as a message: the answer may be yes for a text that only looks like one, never no for a deeper tree.
fn is_deeper_than(bytes: &[u8], max: usize) -> bool {
    let mut at = 0;
    let mut ends = vec![bytes.len()];
    while let Some(&end) = ends.last() {
        if at >= end {
            ends.pop();
            continue;
        }
        match length_delimited(bytes, &mut at, end) {
            Some(Some(payload_end)) => ends.push(payload_end),
            Some(None) => {}
            // No message: a string or packed numbers.
            None => {
                at = end;
                ends.pop();
            }
        }
        if ends.len() > max {
            return true;
        }
    }
    false
}

/// Reads one field's head at `at`, and its value unless it is length-delimited: then says where that ends.
fn length_delimited(bytes: &[u8], at: &mut usize, end: usize) -> Option<Option<usize>> {
    let key = varint(bytes, at, end)?;
    let skip = match key & 7 {
        0 => return varint(bytes, at, end).map(|_| None),
        1 => 8,
        2 => {
            let length = usize::try_from(varint(bytes, at, end)?).ok()?;
            return at.checked_add(length).filter(|&payload_end| payload_end <= end).map(Some);
        }
        5 => 4,
        // Groups and what protobuf does not define.
        _ => return None,
    };
    *at = at.checked_add(skip).filter(|&after| after <= end)?;
    Some(None)
}

fn varint(bytes: &[u8], at: &mut usize, end: usize) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at).filter(|_| *at < end)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// A result of the C side, freed exactly once.
struct Owned(RawResult);

impl Owned {
    fn fault(&self) -> Option<ParseFault> {
        if self.0.error.is_null() {
            return None;
        }
        // SAFETY: a non-null error points to a RawError that lives until the result is freed.
        let error = unsafe { &*self.0.error };
        let message = if error.message.is_null() {
            String::from("syntax error")
        } else {
            // SAFETY: the message is a NUL-terminated string owned by the error.
            unsafe { CStr::from_ptr(error.message) }.to_string_lossy().into_owned()
        };
        if is_depth_message(&message) {
            return Some(ParseFault::TooDeep);
        }
        Some(ParseFault::Syntax { message: message.into(), position: u32::try_from(error.cursorpos).unwrap_or(0) })
    }

    fn tree(&self) -> &[u8] {
        let Buffer { bytes, data } = self.0.parse_tree;
        if data.is_null() {
            return &[];
        }
        // SAFETY: without an error the buffer holds `bytes` initialised bytes until the result is freed.
        unsafe { std::slice::from_raw_parts(data.cast::<u8>(), bytes) }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let empty = RawResult {
            parse_tree: Buffer { bytes: 0, data: std::ptr::null_mut() },
            stderr_buffer: std::ptr::null_mut(),
            error: std::ptr::null_mut(),
        };
        let result = std::mem::replace(&mut self.0, empty);
        // SAFETY: the result came from the C side and is given back once; what stays behind is empty.
        unsafe { pg_query_free_protobuf_parse_result(result) };
    }
}

/// The words of `check_stack_depth`, of bison's full stack, and of libpg_query's tree encoder.
fn is_depth_message(message: &str) -> bool {
    ["stack depth limit exceeded", "memory exhausted", "parse tree is nested too deeply"]
        .iter()
        .any(|start| message.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_syntax_error_has_its_position_in_characters() {
        let fault = parse("SELECT 'é' FROM FROM").unwrap_err();
        assert_eq!(fault, ParseFault::Syntax { message: "syntax error at or near \"FROM\"".into(), position: 17 });
    }

    #[test]
    fn a_text_of_nothing_has_no_statements() {
        assert!(parse("  -- only a comment\n;;").unwrap().stmts.is_empty());
    }

    #[test]
    fn depth_is_counted_without_recursion() {
        let text = format!("SELECT {}true", "NOT ".repeat(50));
        let tree = parse(&text).unwrap();
        let bytes = tree.encode_to_vec();
        assert!(is_deeper_than(&bytes, 100));
        assert!(!is_deeper_than(&bytes, 150));
    }

    #[test]
    fn nul_is_refused() {
        assert_eq!(parse("SELECT 1\0").unwrap_err(), ParseFault::Nul);
    }
}
