//! Message heads: one type byte and a length that counts itself.

use super::limits::MESSAGE_BYTES_MAX;

/// Bytes of a head.
pub const HEAD_BYTES: usize = 5;

/// The head of a typed message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The message type.
    pub tag: u8,
    /// Bytes of the body (the length field less its own four).
    pub body_bytes: usize,
}

impl Head {
    /// Bytes of the whole message.
    #[must_use]
    pub const fn frame_bytes(self) -> usize {
        self.body_bytes.saturating_add(HEAD_BYTES)
    }

    /// Reads the head in front of `bytes`; `None` while fewer than five have come.
    ///
    /// # Errors
    /// A length below four or above PostgreSQL's own limit.
    pub fn read(bytes: &[u8]) -> Result<Option<Self>, HeadFault> {
        let Some((&[tag, a, b, c, d], _)) = bytes.split_first_chunk::<HEAD_BYTES>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        match length.checked_sub(4) {
            Some(body_bytes) if body_bytes <= MESSAGE_BYTES_MAX => Ok(Some(Self { tag, body_bytes })),
            _ => Err(HeadFault { tag, length }),
        }
    }
}

/// A length that no message can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("message type {tag:#04x} with impossible length {length}")]
pub struct HeadFault {
    /// The message type.
    pub tag: u8,
    /// The length field as sent.
    pub length: usize,
}

/// Cuts the first whole message off `bytes`: its head and body, and where the next one begins.
///
/// # Errors
/// As [`Head::read`].
pub fn cut(bytes: &[u8]) -> Result<Option<(Head, &[u8])>, HeadFault> {
    let Some(head) = Head::read(bytes)? else { return Ok(None) };
    Ok(bytes.get(HEAD_BYTES..head.frame_bytes()).map(|body| (head, body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_needs_five_bytes() {
        assert_eq!(Head::read(b"Q\0\0\0"), Ok(None));
        assert_eq!(Head::read(b"S\0\0\0\x04"), Ok(Some(Head { tag: b'S', body_bytes: 0 })));
    }

    #[test]
    fn impossible_lengths_are_faults() {
        assert!(Head::read(b"Q\0\0\0\x03").is_err());
        assert!(Head::read(b"Q\xff\xff\xff\xff").is_err());
        assert!(Head::read(b"Q\x80\0\0\0").is_err());
    }

    #[test]
    fn a_frame_is_cut_only_when_whole() {
        assert_eq!(cut(b"Z\0\0\0\x05").unwrap(), None);
        let (head, body) = cut(b"Z\0\0\0\x05Irest").unwrap().unwrap();
        assert_eq!((head.tag, head.frame_bytes(), body), (b'Z', 6, &b"I"[..]));
    }
}
