//! The process's own secret, and what is derived from it: salts for plain passwords, and verifiers for
//! users that do not exist.
//!
//! An unknown user goes through the same exchange as a known one. For that its salt has to stay the
//! same from one attempt to the next, and its iteration count has to look like everybody's.

use std::num::NonZeroU32;

use aws_lc_rs::hmac;
use secrecy::{ExposeSecret as _, SecretString};

use super::scram::{ITERATIONS_DEFAULT, SALT_BYTES, Verifier};

/// 32 random bytes, made once per process and kept across reloads: a salt that changed would tell
/// known users from unknown ones.
#[derive(Clone)]
pub struct ProcessSecret(hmac::Key);

impl std::fmt::Debug for ProcessSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ProcessSecret(…)")
    }
}

/// What an observer sees of a verifier: its iteration count and the length of its salt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VerifierShape {
    /// Iterations of PBKDF2.
    pub iterations: NonZeroU32,
    /// Bytes of the salt.
    pub salt_bytes: usize,
}

impl VerifierShape {
    /// The shape of verifiers made here and by PostgreSQL.
    pub const DEFAULT: Self = Self { iterations: ITERATIONS_DEFAULT, salt_bytes: SALT_BYTES };

    /// The shape of one verifier.
    #[must_use]
    pub fn of(verifier: &Verifier) -> Self {
        Self { iterations: verifier.iterations(), salt_bytes: verifier.salt().len() }
    }
}

impl ProcessSecret {
    /// From random bytes.
    #[must_use]
    pub fn new(random: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, random))
    }

    /// The verifier of a configured plain password. The salt depends on login and password, so that it
    /// stays the same across reloads and changes with the password.
    #[must_use]
    pub fn verifier(&self, login: &str, password: &SecretString) -> Verifier {
        let password = password.expose_secret();
        let salt = self.bytes(&["password salt", login, password]);
        let salt = salt.get(..SALT_BYTES).unwrap_or(&salt);
        Verifier::derive(password, salt, ITERATIONS_DEFAULT)
    }

    /// A verifier for a user that does not exist; always the same one for the same name. `shapes` are
    /// those of the configured logins, so that the unknown are spread like the known.
    #[must_use]
    pub fn mock(&self, user: &str, shapes: &[VerifierShape]) -> Verifier {
        let choice = self.bytes(&["mock shape", user]);
        let index = u64::from_be_bytes(std::array::from_fn(|i| choice.get(i).copied().unwrap_or(0)));
        let count = u64::try_from(shapes.len()).unwrap_or(u64::MAX).max(1);
        let shape = usize::try_from(index % count).ok().and_then(|index| shapes.get(index).copied());
        let shape = shape.unwrap_or(VerifierShape::DEFAULT);
        let stored_key = self.bytes(&["mock stored key", user]);
        let server_key = self.bytes(&["mock server key", user]);
        Verifier::mock(shape.iterations, self.mock_salt(user, shape.salt_bytes), stored_key, server_key)
    }

    fn mock_salt(&self, user: &str, salt_bytes: usize) -> Vec<u8> {
        let mut salt = Vec::with_capacity(salt_bytes);
        for block in 0_u8..=255 {
            if salt.len() >= salt_bytes {
                break;
            }
            salt.extend_from_slice(&self.bytes(&["mock salt", user, &block.to_string()]));
        }
        salt.truncate(salt_bytes);
        salt
    }

    /// HMAC over the parts, each with its length in front so that no two lists read the same.
    fn bytes(&self, parts: &[&str]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            context.update(part.as_bytes());
        }
        let tag = context.sign();
        std::array::from_fn(|i| tag.as_ref().get(i).copied().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_user_always_meets_the_same_salt() {
        let secret = ProcessSecret::new(&[3; 32]);
        let shapes = [VerifierShape { iterations: NonZeroU32::new(9000).unwrap(), salt_bytes: 40 }];
        let first = secret.mock("nobody", &shapes);
        assert_eq!(first.salt(), secret.mock("nobody", &shapes).salt());
        assert_ne!(first.salt(), secret.mock("nobody2", &shapes).salt());
        assert_ne!(first.salt(), ProcessSecret::new(&[4; 32]).mock("nobody", &shapes).salt());
        assert_eq!((first.salt().len(), first.iterations().get()), (40, 9000));
        assert_eq!(VerifierShape::of(&secret.mock("nobody", &[])), VerifierShape::DEFAULT);
    }

    #[test]
    fn a_plain_password_keeps_its_salt_across_reloads() {
        let secret = ProcessSecret::new(&[3; 32]);
        let a = secret.verifier("app", &"demo".into());
        assert_eq!(a.salt(), secret.verifier("app", &"demo".into()).salt());
        assert_ne!(a.salt(), secret.verifier("app2", &"demo".into()).salt());
        assert_ne!(a.salt(), secret.verifier("app", &"demo2".into()).salt());
    }
}
