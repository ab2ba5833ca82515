//! A tenant's identity, validated before it goes anywhere.

use std::fmt;
use std::sync::Arc;

/// Longest text tenant, in bytes: fits an identifier's 63 bytes with room for prefixes, and a log line.
pub const TEXT_TENANT_BYTES_MAX: usize = 200;

/// The configured type of tenant identities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TenantKind {
    /// A UUID in any of PostgreSQL's input forms; kept as lower-case text with hyphens.
    #[default]
    Uuid,
    /// Bounded printable text, compared byte by byte: no normalisation, so no two spellings of one tenant.
    Text,
}

/// A tenant. The only way to one is [`TenantId::parse`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(Arc<str>);

/// Why a text is no tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TenantFault {
    /// Nothing was given.
    #[error("the tenant is empty")]
    Empty,
    /// Not a UUID.
    #[error("the tenant is not a UUID")]
    NotUuid,
    /// Longer than allowed.
    #[error("the tenant is longer than {TEXT_TENANT_BYTES_MAX} bytes")]
    TooLong,
    /// Holds a character that is not allowed.
    #[error("the tenant holds a character that is not printable, a backslash, or outer white space")]
    BadCharacter,
}

impl TenantId {
    /// Validates `text` as a tenant of the configured kind.
    ///
    /// # Errors
    /// Says what is wrong; never echoes the text.
    pub fn parse(kind: TenantKind, text: &str) -> Result<Self, TenantFault> {
        if text.is_empty() {
            return Err(TenantFault::Empty);
        }
        match kind {
            TenantKind::Uuid => parse_uuid(text),
            TenantKind::Text => parse_text(text),
        }
    }

    /// The canonical text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Only ASCII hexadecimal digits with the usual hyphens (or none), in any case: `uuid` also takes URN
/// and brace forms, which no server setting or user name should hold.
fn parse_uuid(text: &str) -> Result<TenantId, TenantFault> {
    if text.len() != 36 && text.len() != 32 {
        return Err(TenantFault::NotUuid);
    }
    let uuid = uuid::Uuid::try_parse(text).map_err(|_| TenantFault::NotUuid)?;
    Ok(TenantId(uuid.hyphenated().to_string().into()))
}

/// Control characters could forge log lines; a backslash would end a literal where
/// `standard_conforming_strings` is off; format characters (bidirectional marks, zero-width) make two
/// tenants look alike; outer white space is lost in configuration files.
fn parse_text(text: &str) -> Result<TenantId, TenantFault> {
    if text.len() > TEXT_TENANT_BYTES_MAX {
        return Err(TenantFault::TooLong);
    }
    let is_bad = |c: char| c.is_control() || c == '\\' || is_invisible(c);
    if text.trim() != text || text.chars().any(is_bad) {
        return Err(TenantFault::BadCharacter);
    }
    Ok(TenantId(text.into()))
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TenantId({:?})", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_have_one_spelling() {
        let a = TenantId::parse(TenantKind::Uuid, "0000000A-0000-0000-0000-00000000000B").unwrap();
        let b = TenantId::parse(TenantKind::Uuid, "0000000a00000000000000000000000b").unwrap();
        assert_eq!(a, b);
        assert_eq!(a.as_str(), "0000000a-0000-0000-0000-00000000000b");
        for bad in [
            "",
            "x",
            "{0000000a-0000-0000-0000-00000000000b}",
            " 000000a-0000-0000-0000-00000000000b",
            "urn:uuid:0000000a-0000-0000-0000-00000000000b",
            "0000000a-0000-0000-0000-00000000000b\0",
        ] {
            assert!(TenantId::parse(TenantKind::Uuid, bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn text_tenants_are_printable_and_bounded() {
        assert_eq!(TenantId::parse(TenantKind::Text, "O'Brien & Söhne").unwrap().as_str(), "O'Brien & Söhne");
        for bad in ["a\\b", "a\nb", "a\0b", " a", "a ", "a\u{200b}b", "a\u{202e}b"] {
            assert_eq!(TenantId::parse(TenantKind::Text, bad), Err(TenantFault::BadCharacter), "{bad:?}");
        }
        assert_eq!(TenantId::parse(TenantKind::Text, &"x".repeat(201)), Err(TenantFault::TooLong));
    }
}
