//! SCRAM-SHA-256 (RFC 5802, RFC 7677) as PostgreSQL speaks it, for both sides.
//! <https://www.postgresql.org/docs/current/sasl-authentication.html>
//!
//! Owns: verifiers, the messages of the exchange, every comparison of a secret. Does not own: nonces
//! (arguments), the protocol messages around the exchange, whether a user exists.
//!
//! Channel binding is `tls-server-end-point` alone, as in PostgreSQL. Every way of leaving it out where both sides
//! could have it is noticed by one of them: the flag a client sends is part of what its proof signs.

pub mod client;
pub mod server;

use std::num::NonZeroU32;

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize, Zeroizing};

/// The mechanism without channel binding.
pub const MECHANISM: &str = "SCRAM-SHA-256";

/// The mechanism with channel binding; offered over TLS only.
pub const MECHANISM_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// The GS2 header of an exchange with the only kind of channel binding there is.
pub(crate) const BOUND_HEADER: &str = "p=tls-server-end-point,,";

/// Bytes of every key and proof.
pub const KEY_BYTES: usize = 32;

/// Bytes of randomness in a nonce of ours, as in PostgreSQL (`SCRAM_RAW_NONCE_LEN`).
pub const NONCE_BYTES: usize = 18;

/// Bytes of a salt of ours, as in PostgreSQL (`SCRAM_DEFAULT_SALT_LEN`).
pub const SALT_BYTES: usize = 16;

/// Iterations of a verifier of ours, as in PostgreSQL (`SCRAM_SHA_256_DEFAULT_ITERATIONS`).
pub const ITERATIONS_DEFAULT: NonZeroU32 = NonZeroU32::MIN.saturating_add(4095);

/// Most iterations accepted, from a verifier or from a server: a hostile server must not keep us busy
/// (a million take about a quarter of a second).
pub const ITERATIONS_MAX: u32 = 1_000_000;

/// Longest salt accepted.
pub const SALT_BYTES_MAX: usize = 256;

/// Longest nonce accepted from a peer.
pub const NONCE_CHARS_MAX: usize = 512;

/// One key of the exchange; wiped when dropped, never shown.
#[derive(Clone)]
pub struct Key(Zeroizing<[u8; KEY_BYTES]>);

impl Key {
    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// In constant time.
    fn equals(&self, other: &Key) -> bool {
        bool::from(self.0.ct_eq(&*other.0))
    }

    fn xor(&self, other: &Key) -> Key {
        let mut bytes = *self.0;
        for (byte, mask) in bytes.iter_mut().zip(other.0.iter()) {
            *byte ^= mask;
        }
        Key::from_bytes(bytes)
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

/// What the server side keeps of a password: enough to check a proof, not enough to make one.
#[derive(Clone, Debug)]
pub struct Verifier {
    iterations: NonZeroU32,
    salt: Vec<u8>,
    stored_key: Key,
    server_key: Key,
}

/// Why a text is no verifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifierFault {
    /// Not of the form at all.
    #[error("expected SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>")]
    Form,
    /// The iteration count is not a number from 1 to the maximum.
    #[error("the iteration count must be a number from 1 to {ITERATIONS_MAX}")]
    Iterations,
    /// The salt is not base64, empty, or too long.
    #[error("the salt must be base64 of 1 to {SALT_BYTES_MAX} bytes")]
    Salt,
    /// A key is not base64 of 32 bytes.
    #[error("both keys must be base64 of {KEY_BYTES} bytes")]
    Key,
}

impl Verifier {
    /// From the text PostgreSQL keeps in `pg_authid.rolpassword`.
    ///
    /// # Errors
    /// Says which part is wrong; never echoes the text.
    pub fn parse(text: &str) -> Result<Self, VerifierFault> {
        let rest = text.strip_prefix(MECHANISM).and_then(|rest| rest.strip_prefix('$')).ok_or(VerifierFault::Form)?;
        let (front, keys) = rest.split_once('$').ok_or(VerifierFault::Form)?;
        let (iterations, salt) = front.split_once(':').ok_or(VerifierFault::Form)?;
        let (stored_key, server_key) = keys.split_once(':').ok_or(VerifierFault::Form)?;
        Ok(Self {
            iterations: parse_iterations(iterations).ok_or(VerifierFault::Iterations)?,
            salt: parse_salt(salt).ok_or(VerifierFault::Salt)?,
            stored_key: parse_key(stored_key).ok_or(VerifierFault::Key)?,
            server_key: parse_key(server_key).ok_or(VerifierFault::Key)?,
        })
    }

    /// Whether both are the same in every part.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        (self.iterations, &self.salt) == (other.iterations, &other.salt)
            && self.stored_key.equals(&other.stored_key)
            && self.server_key.equals(&other.server_key)
    }

    /// From a plain password. Slow by design: once per configured login, never per client.
    #[must_use]
    pub fn derive(password: &str, salt: &[u8], iterations: NonZeroU32) -> Self {
        let keys = Keys::derive(password, salt, iterations);
        Self { iterations, salt: salt.to_vec(), stored_key: keys.stored_key(), server_key: keys.server_key }
    }

    /// A verifier that no proof fits except by breaking SHA-256: its keys are hashes of nothing known.
    #[must_use]
    pub(super) fn mock(iterations: NonZeroU32, salt: Vec<u8>, stored_key: [u8; 32], server_key: [u8; 32]) -> Self {
        Self { iterations, salt, stored_key: Key::from_bytes(stored_key), server_key: Key::from_bytes(server_key) }
    }

    /// The iteration count.
    #[must_use]
    pub const fn iterations(&self) -> NonZeroU32 {
        self.iterations
    }

    /// The salt.
    #[must_use]
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }
}

fn parse_iterations(text: &str) -> Option<NonZeroU32> {
    let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let count = text.parse::<NonZeroU32>().ok()?;
    (is_digits && count.get() <= ITERATIONS_MAX).then_some(count)
}

fn parse_salt(text: &str) -> Option<Vec<u8>> {
    if text.len() > SALT_BYTES_MAX * 2 {
        return None;
    }
    BASE64.decode(text).ok().filter(|salt| !salt.is_empty() && salt.len() <= SALT_BYTES_MAX)
}

fn parse_key(text: &str) -> Option<Key> {
    if text.len() > KEY_BYTES * 2 {
        return None;
    }
    let mut bytes = BASE64.decode(text).ok()?;
    let key = <[u8; KEY_BYTES]>::try_from(bytes.as_slice()).ok().map(Key::from_bytes);
    bytes.zeroize();
    key
}

/// The keys a password yields with one salt and iteration count. Who holds the client key can log in:
/// it is what a pass-through login would keep.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Proves the password to a server.
    pub client_key: Key,
    /// Proves the server to a client.
    pub server_key: Key,
}

impl Keys {
    /// PBKDF2 over the prepared password.
    #[must_use]
    pub fn derive(password: &str, salt: &[u8], iterations: NonZeroU32) -> Self {
        let prepared = prepare(password);
        let mut salted = Zeroizing::new([0_u8; KEY_BYTES]);
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, prepared.as_bytes(), &mut *salted);
        Self { client_key: sign(&salted, b"Client Key"), server_key: sign(&salted, b"Server Key") }
    }

    fn stored_key(&self) -> Key {
        hash(&self.client_key)
    }
}

/// SASLprep (RFC 4013). PostgreSQL takes a password it cannot prepare as it is, so that any bytes may
/// be a password; so do we.
fn prepare(password: &str) -> Zeroizing<String> {
    match stringprep::saslprep(password) {
        Ok(prepared) => Zeroizing::new(prepared.into_owned()),
        Err(_) => Zeroizing::new(password.to_owned()),
    }
}

fn sign(key: &[u8; KEY_BYTES], text: &[u8]) -> Key {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text);
    first_bytes(tag.as_ref())
}

fn hash(key: &Key) -> Key {
    first_bytes(digest::digest(&digest::SHA256, key.as_bytes()).as_ref())
}

/// SHA-256 always gives [`KEY_BYTES`] bytes.
fn first_bytes(output: &[u8]) -> Key {
    let mut bytes = [0_u8; KEY_BYTES];
    for (byte, from) in bytes.iter_mut().zip(output) {
        *byte = *from;
    }
    Key::from_bytes(bytes)
}

/// A nonce of ours as text: base64 holds no comma.
fn nonce_text(nonce: &[u8; NONCE_BYTES]) -> String {
    BASE64.encode(nonce)
}

/// RFC 5802 `printable`: visible ASCII without the comma.
fn is_nonce(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= NONCE_CHARS_MAX
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
}

/// The value of an attribute `<name>=<value>`.
fn attribute(part: Option<&str>, name: char) -> Option<&str> {
    part?.strip_prefix(name)?.strip_prefix('=')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_is_read_strictly() {
        let text = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
        let verifier = Verifier::parse(text).unwrap();
        assert_eq!((verifier.iterations().get(), verifier.salt().len()), (4096, 16));
        for (bad, fault) in [
            ("", VerifierFault::Form),
            ("md5abc", VerifierFault::Form),
            ("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==", VerifierFault::Form),
            ("SCRAM-SHA-256$0:AA==$AA==:AA==", VerifierFault::Iterations),
            ("SCRAM-SHA-256$+5:AA==$AA==:AA==", VerifierFault::Iterations),
            ("SCRAM-SHA-256$9999999:AA==$AA==:AA==", VerifierFault::Iterations),
            ("SCRAM-SHA-256$4096:$AA==:AA==", VerifierFault::Salt),
            ("SCRAM-SHA-256$4096:AA==$AA==:AA==", VerifierFault::Key),
        ] {
            assert_eq!(Verifier::parse(bad).err(), Some(fault), "{bad}");
        }
    }

    /// The text is what PostgreSQL 15 stored for the password `pencil` with this salt (RFC 7677's).
    #[test]
    fn a_derived_verifier_is_the_one_postgresql_stores() {
        let stored = Verifier::parse("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=").unwrap();
        let derived = Verifier::derive("pencil", stored.salt(), stored.iterations());
        assert!(derived.stored_key.equals(&stored.stored_key));
        assert!(derived.server_key.equals(&stored.server_key));
    }

    #[test]
    fn passwords_are_prepared_as_postgresql_prepares_them() {
        // RFC 4013, section 3: a soft hyphen maps to nothing, a Roman numeral to its letters.
        assert_eq!(&*prepare("I\u{ad}X"), "IX");
        assert_eq!(&*prepare("\u{2168}"), "IX");
        // Prohibited (a control character): taken as it is.
        assert_eq!(&*prepare("a\u{7}\u{ad}"), "a\u{7}\u{ad}");
    }

    #[test]
    fn secrets_are_not_shown() {
        let verifier = Verifier::derive("pencil", b"salt", NonZeroU32::MIN);
        let shown = format!("{verifier:?}");
        assert!(shown.contains("stored_key: Key(…)"), "{shown}");
    }
}
