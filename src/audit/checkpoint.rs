//! Checkpoints: what a key of the proxy's vouches for, in the form of signed notes.
//!
//! A note is a few lines of text, an empty line, and a line with an Ed25519 signature; keys are written as Go's `note`
//! package writes them. <https://pkg.go.dev/golang.org/x/mod/sumdb/note>, <https://c2sp.org/signed-note>
//!
//! ```text
//! tenantgate.ledger/7b0c…            which ledger
//! 4711                               the last record that it covers
//! nND/nri/U0xuHUrYSy0HtMeal2vzD9V4k/BO79C+QeI=     that record's digest
//! 2026-11-23T09:00:00.000000Z        when
//!
//! — tenantgate Az3grnmrIUEDFqHzAElI… the signature
//! ```
//!
//! Owns: notes, keys, signatures. Does not own: files, randomness (seeds are arguments), when one is due (the driver).

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;
use zeroize::{Zeroize as _, Zeroizing};

use super::chain::{Digest, Head};

/// In front of the ledger's name in a note's first line.
const ORIGIN: &str = "tenantgate.ledger/";

/// Says "Ed25519" in front of a key.
const ALGORITHM: u8 = 1;

/// Of a seed and of a public key.
const KEY_BYTES: usize = 32;

const SIGNATURE_BYTES: usize = 64;

/// Most bytes of a note: one with a few signatures has some hundred.
const NOTE_BYTES_MAX: usize = 16 * 1024;

/// What is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which ledger.
    pub ledger: Uuid,
    /// The last record that it covers.
    pub head: Head,
    /// When it was made.
    pub at: Timestamp,
}

impl Checkpoint {
    fn text(&self) -> String {
        let digest = STANDARD.encode(self.head.digest.as_bytes());
        format!("{ORIGIN}{}\n{}\n{digest}\n{:.6}\n", self.ledger, self.head.sequence, self.at)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let ledger = lines.next()?.strip_prefix(ORIGIN)?.parse().ok()?;
        let sequence = lines.next()?.parse().ok()?;
        let digest = Digest::from_bytes(&STANDARD.decode(lines.next()?).ok()?)?;
        let at = lines.next()?.parse().ok()?;
        let checkpoint = Self { ledger, head: Head { sequence, digest }, at };
        // One way of writing each: another is not what was signed.
        (checkpoint.text() == text).then_some(checkpoint)
    }
}

/// Why a note does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteFault {
    /// It is not in the form of one.
    #[error("it is no signed note")]
    Form,
    /// No key that counts has signed it.
    #[error("no signature is of the public key")]
    OtherKey,
    /// The key's signature is not of this text.
    #[error("the signature does not fit the text")]
    Wrong,
}

/// A checkpoint with its signature lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedNote {
    /// What is signed.
    pub checkpoint: Checkpoint,
    text: String,
    signed_bytes: usize,
}

impl SignedNote {
    /// Reads a note; signatures are looked at by [`SignedNote::check`].
    ///
    /// # Errors
    /// It is none.
    pub fn parse(note: &str) -> Result<Self, NoteFault> {
        if note.len() > NOTE_BYTES_MAX {
            return Err(NoteFault::Form);
        }
        let at = note.find("\n\n").ok_or(NoteFault::Form)?;
        let signed = note.get(..=at).ok_or(NoteFault::Form)?;
        let signatures = note.get(at + 2..).ok_or(NoteFault::Form)?;
        if signatures.is_empty()
            || !signatures.ends_with('\n')
            || !signatures.lines().all(|line| line.starts_with("— "))
        {
            return Err(NoteFault::Form);
        }
        let checkpoint = Checkpoint::parse(signed).ok_or(NoteFault::Form)?;
        Ok(Self { checkpoint, text: note.to_owned(), signed_bytes: signed.len() })
    }

    /// The whole note.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether one of these keys has signed it.
    ///
    /// # Errors
    /// None has, or its signature is of another text.
    pub fn check(&self, keys: &[PublicKey]) -> Result<(), NoteFault> {
        let (signed, signatures) = self.text.split_at_checked(self.signed_bytes).ok_or(NoteFault::Form)?;
        let mut fault = NoteFault::OtherKey;
        for line in signatures.lines().filter_map(|line| line.strip_prefix("— ")) {
            let Some((name, value)) = line.split_once(' ') else { return Err(NoteFault::Form) };
            let Ok(value) = STANDARD.decode(value) else { return Err(NoteFault::Form) };
            let Some((id, signature)) = value.split_at_checked(4) else { return Err(NoteFault::Form) };
            for key in keys.iter().filter(|key| key.name == name && key.id() == id) {
                if key.has_signed(signed.as_bytes(), signature) {
                    return Ok(());
                }
                fault = NoteFault::Wrong;
            }
        }
        Err(fault)
    }
}

/// What a signature is checked with: `name+id+key`.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    name: String,
    bytes: [u8; KEY_BYTES],
}

impl PublicKey {
    /// Reads `name+id+key`.
    ///
    /// # Errors
    /// Says in a sentence what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (name, id, bytes) =
            parts(text.trim()).ok_or("a public key has the form name+id+key, with an Ed25519 key")?;
        let key = Self { name: name.to_owned(), bytes: *bytes };
        if key.id_text() == id { Ok(key) } else { Err("the id in the middle is not of this name and key") }
    }

    fn id(&self) -> [u8; 4] {
        let digest = Digest::of(&[self.name.as_bytes(), b"\n", &[ALGORITHM], &self.bytes].concat());
        let mut id = [0; 4];
        id.copy_from_slice(digest.as_bytes().split_at(4).0);
        id
    }

    fn id_text(&self) -> String {
        format!("{:08x}", u32::from_be_bytes(self.id()))
    }

    fn has_signed(&self, text: &[u8], signature: &[u8]) -> bool {
        signature.len() == SIGNATURE_BYTES
            && UnparsedPublicKey::new(&ED25519, self.bytes).verify(text, signature).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = STANDARD.encode([&[ALGORITHM], self.bytes.as_slice()].concat());
        write!(f, "{}+{}+{key}", self.name, self.id_text())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `name+id+key`: the key's bytes behind the algorithm's.
fn parts(text: &str) -> Option<(&str, &str, Zeroizing<[u8; KEY_BYTES]>)> {
    let mut parts = text.splitn(3, '+');
    let (name, id, key) = (parts.next()?, parts.next()?, parts.next()?);
    if !is_name(name) {
        return None;
    }
    let key = Zeroizing::new(STANDARD.decode(key).ok()?);
    let (algorithm, key) = key.split_first()?;
    let bytes = Zeroizing::new(<[u8; KEY_BYTES]>::try_from(key).ok()?);
    (*algorithm == ALGORITHM).then_some((name, id, bytes))
}

/// A key's name stands in lines between spaces, and between plus signs.
fn is_name(name: &str) -> bool {
    const NAME_BYTES_MAX: usize = 128;
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.chars().all(|c| !c.is_whitespace() && !c.is_control() && c != '+')
}

/// In front of a signing key.
const PRIVATE: &str = "PRIVATE+KEY+";

/// The key that signs checkpoints.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl SigningKey {
    /// From 32 random bytes.
    ///
    /// # Errors
    /// The name cannot be one.
    pub fn from_seed(name: &str, seed: &[u8; KEY_BYTES]) -> Result<Self, &'static str> {
        if !is_name(name) {
            return Err("a key's name has up to 128 bytes without blanks and plus signs");
        }
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| "the seed makes no key")?;
        let bytes = pair.public_key().as_ref().try_into().map_err(|_| "the seed makes no key")?;
        Ok(Self { pair, public: PublicKey { name: name.to_owned(), bytes } })
    }

    /// Reads a key file's text.
    ///
    /// # Errors
    /// Says in a sentence what is wrong with it, and nothing of what it holds.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const FORM: &str = "a signing key has the form PRIVATE+KEY+name+id+key, as `tenantgate ledger keygen` makes it";
        let (name, id, seed) = text.trim().strip_prefix(PRIVATE).and_then(parts).ok_or(FORM)?;
        let key = Self::from_seed(name, &seed)?;
        if key.public.id_text() == id { Ok(key) } else { Err("the id in the middle is not of this name and key") }
    }

    /// A key file's text.
    #[must_use]
    pub fn file_text(name: &str, seed: &[u8; KEY_BYTES]) -> Option<SecretString> {
        let key = Self::from_seed(name, seed).ok()?;
        let mut bytes = [&[ALGORITHM], seed.as_slice()].concat();
        let mut encoded = STANDARD.encode(&bytes);
        bytes.zeroize();
        let text = format!("{PRIVATE}{name}+{}+{encoded}\n", key.public.id_text());
        encoded.zeroize();
        Some(text.into())
    }

    /// What others check its signatures with.
    #[must_use]
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs a checkpoint.
    #[must_use]
    pub fn sign(&self, checkpoint: Checkpoint) -> SignedNote {
        let signed = checkpoint.text();
        let signature = self.pair.sign(signed.as_bytes());
        let value = STANDARD.encode([&self.public.id(), signature.as_ref()].concat());
        let text = format!("{signed}\n— {} {value}\n", self.public.name);
        SignedNote { checkpoint, text, signed_bytes: signed.len() }
    }
}

impl PartialEq for SigningKey {
    fn eq(&self, other: &Self) -> bool {
        self.public == other.public
    }
}

impl Eq for SigningKey {}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SigningKey").field(&self.public).finish()
    }
}

/// Reads a key from a secret text.
///
/// # Errors
/// As [`SigningKey::parse`].
pub fn signing_key(text: &SecretString) -> Result<SigningKey, &'static str> {
    SigningKey::parse(text.expose_secret())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint() -> Checkpoint {
        let head = Head { sequence: 4711, digest: Digest::of(b"x") };
        Checkpoint { ledger: Uuid::from_u128(5), head, at: "2026-11-23T09:00:00Z".parse().unwrap() }
    }

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed("tenantgate", &[seed; 32]).unwrap()
    }

    #[test]
    fn a_note_says_what_was_signed_and_by_whom() {
        let note = key(1).sign(checkpoint());
        let read = SignedNote::parse(note.as_str()).unwrap();
        assert_eq!((&read, &read.checkpoint), (&note, &checkpoint()));
        assert_eq!(read.check(&[key(2).public().clone(), key(1).public().clone()]), Ok(()));
        assert_eq!(read.check(&[key(2).public().clone()]), Err(NoteFault::OtherKey));
        assert_eq!(read.check(&[]), Err(NoteFault::OtherKey));
    }

    #[test]
    fn no_byte_of_a_note_can_be_changed() {
        let note = key(1).sign(checkpoint());
        let keys = [key(1).public().clone()];
        for at in 0..note.as_str().len() {
            let mut bytes = note.as_str().as_bytes().to_vec();
            bytes[at] ^= 1;
            let Ok(text) = String::from_utf8(bytes) else { continue };
            let checked = SignedNote::parse(&text).and_then(|note| note.check(&keys));
            assert!(checked.is_err(), "byte {at}: {text}");
        }
        for cut in 0..note.as_str().len() {
            let Some(text) = note.as_str().get(..cut) else { continue };
            assert!(SignedNote::parse(text).and_then(|note| note.check(&keys)).is_err(), "{cut}");
        }
    }

    /// The example of Go's package: its key, its text, its signature.
    #[test]
    fn keys_are_those_of_the_note_format() {
        let public = PublicKey::parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW").unwrap();
        assert_eq!(public.to_string(), "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW");
        let text =
            "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
        let value = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=";
        let value = STANDARD.decode(value).unwrap();
        assert_eq!(public.id(), value[..4]);
        assert!(public.has_signed(text.as_bytes(), &value[4..]));
        assert!(!public.has_signed(&text.as_bytes()[1..], &value[4..]));
    }

    #[test]
    fn a_key_file_can_be_read_back_and_says_nothing_when_it_cannot() {
        let text = SigningKey::file_text("ops", &[7; 32]).unwrap();
        let read = signing_key(&text).unwrap();
        assert_eq!(read, SigningKey::from_seed("ops", &[7; 32]).unwrap());
        assert_eq!(PublicKey::parse(&read.public().to_string()).unwrap(), *read.public());
        assert!(!format!("{read:?}").contains(text.expose_secret().split('+').nth(4).unwrap()));
        let renamed = text.expose_secret().replace("+ops+", "+ops2+");
        for wrong in ["", "PRIVATE+KEY+a+b", &renamed, &text.expose_secret()[8..]] {
            assert!(SigningKey::parse(wrong).is_err(), "{wrong}");
        }
        for name in ["", "a b", "a+b", "a\nb"] {
            assert!(SigningKey::from_seed(name, &[7; 32]).is_err(), "{name:?}");
        }
    }
}
