//! Values of parameters as digests under a key: whether two transactions had the same value can be seen, the value cannot.
//!
//! A digest without a key would be no secret: there are few values to try. HMAC-SHA256 under the key of
//! `parameter_key_file`; without that file nobody can compare, or try, any more.
//!
//! Owns: the key and the digests. Does not own: which values (`session`), the file.

use std::fmt;

use aws_lc_rs::hmac;

use super::account::PARAMETERS_MAX;
use super::chain::Digest;

/// Bytes of the digest that are written down: 128 bits, in hexadecimal.
const DIGEST_BYTES: usize = 16;

/// Shortest key: as long as what it keys.
const KEY_BYTES_MIN: usize = 32;

/// Longest key: a file that is none is refused.
const KEY_BYTES_MAX: usize = 1024;

/// The key. It is never printed.
pub struct ParameterKey {
    key: hmac::Key,
    /// Tells keys apart.
    identity: Digest,
}

impl ParameterKey {
    /// From its bytes.
    ///
    /// # Errors
    /// Says in a sentence what is wrong with them.
    pub fn new(bytes: &[u8]) -> Result<Self, &'static str> {
        if bytes.len() < KEY_BYTES_MIN {
            return Err("it has less than 32 bytes");
        }
        if bytes.len() > KEY_BYTES_MAX {
            return Err("it has more than 1024 bytes");
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, bytes);
        Ok(Self { identity: Digest::of(hmac::sign(&key, b"tenantgate parameter key").as_ref()), key })
    }

    /// The digest of a value as the client has bound it: of its bytes, and of the format that they are in.
    #[must_use]
    pub fn digest(&self, is_binary: bool, value: &[u8]) -> Box<str> {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&[u8::from(is_binary)]);
        context.update(value);
        let tag = context.sign();
        let bytes = tag.as_ref().iter().take(DIGEST_BYTES);
        bytes.map(|byte| format!("{byte:02x}")).collect::<String>().into()
    }
}

/// Digests of the values of one statement's parameters; `None` for NULL.
pub type ParameterDigests = Vec<Option<Box<str>>>;

impl ParameterKey {
    /// The digests of a statement's values, of each with its format (whether it is binary). Of more than a transaction's
    /// record has room for, one more than that: so it is seen that some are left out.
    #[must_use]
    pub fn digests(&self, values: &[(bool, Option<&[u8]>)]) -> ParameterDigests {
        let kept = values.iter().take(PARAMETERS_MAX.saturating_add(1));
        kept.map(|(is_binary, value)| value.map(|value| self.digest(*is_binary, value))).collect()
    }
}

impl PartialEq for ParameterKey {
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity
    }
}

impl Eq for ParameterKey {}

impl fmt::Debug for ParameterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParameterKey").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_of_a_statement_are_bounded() {
        let key = ParameterKey::new(&[7; 32]).unwrap();
        let digests = key.digests(&[(false, None), (true, Some(b"carol")), (false, Some(b""))]);
        assert_eq!(digests, [None, Some(key.digest(true, b"carol")), Some(key.digest(false, b""))]);
        assert_eq!(key.digests(&vec![(false, None); 2 * PARAMETERS_MAX]).len(), PARAMETERS_MAX + 1);
    }

    #[test]
    fn a_digest_is_of_the_value_its_format_and_the_key() {
        let key = ParameterKey::new(&[7; 32]).unwrap();
        let other = ParameterKey::new(&[8; 32]).unwrap();
        assert_eq!(key.digest(false, b"carol"), key.digest(false, b"carol"));
        assert_ne!(key.digest(false, b"carol"), key.digest(true, b"carol"));
        assert_ne!(key.digest(false, b"carol"), key.digest(false, b"karol"));
        assert_ne!(key.digest(false, b"carol"), other.digest(false, b"carol"));
        assert_eq!(key.digest(false, b"").len(), 32);
        assert!(key == ParameterKey::new(&[7; 32]).unwrap() && key != other);
        assert!(ParameterKey::new(&[7; 31]).is_err() && ParameterKey::new(&[7; 1025]).is_err());
        assert!(!format!("{key:?}").contains('7'));
    }
}
