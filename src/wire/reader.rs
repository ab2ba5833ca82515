//! A bounds-checked reader over a message body.

/// A body that does not hold what its type promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("message body ends before {0}")]
pub struct Malformed(pub &'static str);

/// Reads a body from front to back.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Over a whole body.
    #[must_use]
    pub const fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    /// What has not been read yet.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether all has been read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn bytes(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or(Malformed(what))?;
        self.rest = rest;
        Ok(head)
    }

    /// One byte.
    ///
    /// # Errors
    /// None is left.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, Malformed> {
        let (&byte, rest) = self.rest.split_first().ok_or(Malformed(what))?;
        self.rest = rest;
        Ok(byte)
    }

    /// A big-endian 16-bit integer.
    ///
    /// # Errors
    /// Fewer than two bytes are left.
    pub fn i16(&mut self, what: &'static str) -> Result<i16, Malformed> {
        let (head, rest) = self.rest.split_first_chunk::<2>().ok_or(Malformed(what))?;
        self.rest = rest;
        Ok(i16::from_be_bytes(*head))
    }

    /// A big-endian 32-bit integer.
    ///
    /// # Errors
    /// Fewer than four bytes are left.
    pub fn i32(&mut self, what: &'static str) -> Result<i32, Malformed> {
        let (head, rest) = self.rest.split_first_chunk::<4>().ok_or(Malformed(what))?;
        self.rest = rest;
        Ok(i32::from_be_bytes(*head))
    }

    /// A NUL-terminated string, without its NUL.
    ///
    /// # Errors
    /// There is no NUL.
    pub fn cstr(&mut self, what: &'static str) -> Result<&'a [u8], Malformed> {
        let end = self.rest.iter().position(|&byte| byte == 0).ok_or(Malformed(what))?;
        let text = self.bytes(end, what)?;
        self.u8(what)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_in_order_and_stops_at_the_end() {
        let mut reader = Reader::new(b"ab\0\x00\x02\x00\x00\x00\x07z");
        assert_eq!(reader.cstr("name"), Ok(&b"ab"[..]));
        assert_eq!(reader.i16("count"), Ok(2));
        assert_eq!(reader.i32("oid"), Ok(7));
        assert_eq!(reader.cstr("text"), Err(Malformed("text")));
        assert_eq!(reader.rest(), b"z");
        assert_eq!(reader.u8("byte"), Ok(b'z'));
        assert!(reader.is_empty() && reader.u8("more").is_err());
    }
}
