//! The client side of the exchange: how we prove our password to a server.
//!
//! Ours rather than a crate's because the nonce must be an argument and the iteration count a hostile
//! server may ask for must be bounded.

use base64::Engine as _;

use super::{
    BASE64, BOUND_HEADER, Key, Keys, MECHANISM, MECHANISM_PLUS, NONCE_BYTES, attribute, hash, is_nonce, nonce_text,
    parse_iterations, parse_key, parse_salt, sign,
};
use crate::auth::EndPoint;

/// How a server's message deviates from the exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerScramFault {
    /// Not of the form.
    #[error("the server's SCRAM message is malformed")]
    Form,
    /// Does not begin with our nonce, or adds nothing to it.
    #[error("the server's SCRAM nonce does not continue ours")]
    Nonce,
    /// The salt is empty, too long or no base64.
    #[error("the server's SCRAM salt is unusable")]
    Salt,
    /// The iteration count is out of bounds.
    #[error("the server asks for an unreasonable number of SCRAM iterations")]
    Iterations,
    /// The server does not know the password itself.
    #[error("the server could not prove that it knows the password")]
    Signature,
    /// The server ends the exchange with an error of its own.
    #[error("the server refused the SCRAM proof")]
    Refused,
}

/// What we say about channel binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientBinding {
    /// We do not have it: no TLS, it is not wanted, or nothing can be bound to the server's certificate.
    NotPossible,
    /// We have it and the server does not seem to: if it does, it refuses, for somebody has taken its offer out of
    /// the list.
    NotOffered,
    /// The exchange is bound to the certificate that the server has shown us.
    Bound(EndPoint),
}

impl ClientBinding {
    fn header(&self) -> &'static str {
        match self {
            ClientBinding::NotPossible => "n,,",
            ClientBinding::NotOffered => "y,,",
            ClientBinding::Bound(_) => BOUND_HEADER,
        }
    }

    fn data(&self) -> &[u8] {
        match self {
            ClientBinding::NotPossible | ClientBinding::NotOffered => b"",
            ClientBinding::Bound(end_point) => end_point.as_bytes(),
        }
    }
}

/// Has sent, or is about to send, the first message.
#[derive(Debug)]
pub struct ClientExchange {
    nonce: String,
    binding: ClientBinding,
}

impl ClientExchange {
    /// With a fresh random nonce.
    #[must_use]
    pub fn new(nonce: [u8; NONCE_BYTES], binding: ClientBinding) -> Self {
        Self { nonce: nonce_text(&nonce), binding }
    }

    /// The mechanism to be selected.
    #[must_use]
    pub const fn mechanism(&self) -> &'static str {
        match self.binding {
            ClientBinding::NotPossible | ClientBinding::NotOffered => MECHANISM,
            ClientBinding::Bound(_) => MECHANISM_PLUS,
        }
    }

    /// client-first-message. The name is empty, as libpq's: the startup packet's counts.
    #[must_use]
    pub fn client_first(&self) -> String {
        format!("{}{}", self.binding.header(), self.bare())
    }

    fn bare(&self) -> String {
        format!("n=,r={}", self.nonce)
    }

    /// Takes server-first-message; gives client-final-message.
    ///
    /// # Errors
    /// The message is not one, or asks for too much.
    pub fn handle_server_first(self, message: &[u8], password: &str) -> Result<(Proving, String), ServerScramFault> {
        let message = std::str::from_utf8(message).map_err(|_| ServerScramFault::Form)?;
        let mut parts = message.split(',');
        let nonce = attribute(parts.next(), 'r').ok_or(ServerScramFault::Form)?;
        let salt = attribute(parts.next(), 's').ok_or(ServerScramFault::Form)?;
        let iterations = attribute(parts.next(), 'i').ok_or(ServerScramFault::Form)?;
        let own = nonce.strip_prefix(self.nonce.as_str()).ok_or(ServerScramFault::Nonce)?;
        if !is_nonce(own) {
            return Err(ServerScramFault::Nonce);
        }
        let salt = parse_salt(salt).ok_or(ServerScramFault::Salt)?;
        let iterations = parse_iterations(iterations).ok_or(ServerScramFault::Iterations)?;
        let keys = Keys::derive(password, &salt, iterations);
        Ok(prove(&keys, &self.binding, &self.bare(), message, nonce))
    }
}

fn prove(
    keys: &Keys,
    binding: &ClientBinding,
    client_first_bare: &str,
    server_first: &str,
    nonce: &str,
) -> (Proving, String) {
    let bound_to = BASE64.encode([binding.header().as_bytes(), binding.data()].concat());
    let without_proof = format!("c={bound_to},r={nonce}");
    let auth_message = format!("{client_first_bare},{server_first},{without_proof}");
    let signature = sign(hash(&keys.client_key).as_bytes(), auth_message.as_bytes());
    let proof = keys.client_key.xor(&signature);
    let client_final = format!("{without_proof},p={}", BASE64.encode(proof.as_bytes()));
    (Proving { signature: sign(keys.server_key.as_bytes(), auth_message.as_bytes()) }, client_final)
}

/// Waits for the server's own proof.
#[derive(Debug)]
pub struct Proving {
    signature: Key,
}

impl Proving {
    /// Takes server-final-message; checks in constant time that the server knows the password.
    ///
    /// # Errors
    /// It does not, or the message is not one.
    pub fn handle_server_final(self, message: &[u8]) -> Result<(), ServerScramFault> {
        let message = std::str::from_utf8(message).map_err(|_| ServerScramFault::Form)?;
        let mut parts = message.split(',');
        let first = parts.next();
        if attribute(first, 'e').is_some() {
            return Err(ServerScramFault::Refused);
        }
        let signature = attribute(first, 'v').and_then(parse_key).ok_or(ServerScramFault::Form)?;
        if signature.equals(&self.signature) { Ok(()) } else { Err(ServerScramFault::Signature) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    fn step(message: &str) -> Result<(Proving, String), ServerScramFault> {
        let exchange = ClientExchange { nonce: "rOprNGfwEbeRWgbNEkqO".into(), binding: ClientBinding::NotPossible };
        exchange.handle_server_first(message.as_bytes(), "pencil")
    }

    /// RFC 7677, section 3; its client-first has `n=user`, so the last step is run with that.
    #[test]
    fn the_vector_of_rfc_7677_is_made() {
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let keys = Keys::derive("pencil", &salt, crate::auth::scram::ITERATIONS_DEFAULT);
        let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let (proving, client_final) =
            prove(&keys, &ClientBinding::NotPossible, "n=user,r=rOprNGfwEbeRWgbNEkqO", SERVER_FIRST, nonce);
        assert_eq!(client_final, format!("c=biws,r={nonce},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="));
        proving.handle_server_final(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").unwrap();
    }

    #[test]
    fn a_hostile_server_gets_nowhere() {
        assert!(step(SERVER_FIRST).is_ok());
        for (message, fault) in [
            ("", ServerScramFault::Form),
            ("e=other-error", ServerScramFault::Form),
            ("r=foreign,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", ServerScramFault::Nonce),
            ("r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", ServerScramFault::Nonce),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=,i=4096", ServerScramFault::Salt),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=AA==,i=4294967295", ServerScramFault::Iterations),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=AA==,i=0", ServerScramFault::Iterations),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=AA==,i=-1", ServerScramFault::Iterations),
        ] {
            assert_eq!(step(message).err(), Some(fault), "{message}");
        }
    }

    #[test]
    fn a_server_that_does_not_know_the_password_is_noticed() {
        for (message, fault) in [
            ("v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", ServerScramFault::Signature),
            ("v=AA==", ServerScramFault::Form),
            ("", ServerScramFault::Form),
            ("e=invalid-proof", ServerScramFault::Refused),
        ] {
            let (proving, _) = step(SERVER_FIRST).unwrap();
            assert_eq!(proving.handle_server_final(message.as_bytes()).err(), Some(fault), "{message}");
        }
    }
}
