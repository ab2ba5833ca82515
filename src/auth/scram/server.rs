//! The server side of the exchange: what we ask of our clients.
//!
//! Each state is its own type and the step consumes it, so a proof is checked exactly once and only
//! after a challenge: [`ServerExchange`] → [`Challenged`] → [`Proven`].

use base64::Engine as _;

use super::{BASE64, Key, NONCE_BYTES, Verifier, attribute, hash, is_nonce, nonce_text, parse_key, sign};

/// How a client's message deviates from the exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScramFault {
    /// Not UTF-8.
    #[error("the SCRAM message is not UTF-8")]
    NotUtf8,
    /// The channel binding flag is none of `n`, `y`, `p=`.
    #[error("the SCRAM message has no valid channel binding flag")]
    Flag,
    /// Channel binding data for a mechanism without.
    #[error(
        "the client selected SCRAM-SHA-256 without channel binding, but the SCRAM message includes channel binding data"
    )]
    BindingNotOffered,
    /// `y`: the client supports channel binding and believes that we do not, though we offered it.
    #[error("the client believes that channel binding is not offered, but it is")]
    BindingDowngraded,
    /// An authorization identity, which PostgreSQL does not support either.
    #[error("the client uses authorization identity, but it is not supported")]
    AuthorizationIdentity,
    /// A mandatory extension.
    #[error("the client requires an unsupported SCRAM extension")]
    Extension,
    /// The nonce is missing or holds what no nonce may hold.
    #[error("the SCRAM message has no valid nonce")]
    Nonce,
    /// The second message does not repeat both nonces.
    #[error("the SCRAM response does not match the nonce")]
    NonceMismatch,
    /// The second message does not repeat the channel binding header.
    #[error("the SCRAM channel binding check failed")]
    BindingMismatch,
    /// The message lacks an attribute, or has them in another order.
    #[error("the SCRAM message is malformed")]
    Form,
    /// The proof is not base64 of a key.
    #[error("the SCRAM proof is malformed")]
    Proof,
}

/// What the client says about channel binding in its GS2 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BindingFlag {
    /// `n`: the client does not support it.
    NotSupported,
    /// `y`: the client does, and believes that we do not.
    BelievedNotOffered,
}

impl BindingFlag {
    const fn header(self) -> &'static str {
        match self {
            BindingFlag::NotSupported => "n,,",
            BindingFlag::BelievedNotOffered => "y,,",
        }
    }
}

/// Whether `SCRAM-SHA-256-PLUS` was among the mechanisms offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindingOffer {
    /// It was not.
    None,
}

/// Waits for the client's first message.
#[derive(Debug)]
pub struct ServerExchange {
    verifier: Verifier,
    nonce: [u8; NONCE_BYTES],
    offer: BindingOffer,
}

impl ServerExchange {
    /// With the verifier to check against and a fresh random nonce.
    #[must_use]
    pub const fn new(verifier: Verifier, nonce: [u8; NONCE_BYTES], offer: BindingOffer) -> Self {
        Self { verifier, nonce, offer }
    }

    /// Takes client-first-message; gives server-first-message.
    ///
    /// The user name in it is ignored, as in PostgreSQL: the startup packet's counts.
    ///
    /// # Errors
    /// The message is not one.
    pub fn handle_client_first(self, message: &[u8]) -> Result<(Challenged, String), ScramFault> {
        let message = std::str::from_utf8(message).map_err(|_| ScramFault::NotUtf8)?;
        let (flag, bare) = read_gs2_header(message, self.offer)?;
        let client_nonce = read_client_first_bare(bare)?;
        let nonce = format!("{client_nonce}{}", nonce_text(&self.nonce));
        let salt = BASE64.encode(self.verifier.salt());
        let server_first = format!("r={nonce},s={salt},i={}", self.verifier.iterations());
        let auth_message_front = format!("{bare},{server_first},");
        Ok((Challenged { verifier: self.verifier, flag, nonce, auth_message_front }, server_first))
    }
}

/// Splits `<flag>,<authzid>,<client-first-message-bare>`.
fn read_gs2_header(message: &str, offer: BindingOffer) -> Result<(BindingFlag, &str), ScramFault> {
    let (flag, rest) = message.split_once(',').ok_or(ScramFault::Flag)?;
    let flag = match (flag, offer) {
        ("n", _) => BindingFlag::NotSupported,
        ("y", BindingOffer::None) => BindingFlag::BelievedNotOffered,
        (flag, BindingOffer::None) if flag.starts_with("p=") => return Err(ScramFault::BindingNotOffered),
        _ => return Err(ScramFault::Flag),
    };
    let (authorization_identity, bare) = rest.split_once(',').ok_or(ScramFault::Form)?;
    if !authorization_identity.is_empty() {
        return Err(ScramFault::AuthorizationIdentity);
    }
    Ok((flag, bare))
}

/// `n=<user>,r=<nonce>[,<extensions>]`; optional extensions are ignored, mandatory ones (`m=`) refused.
fn read_client_first_bare(bare: &str) -> Result<&str, ScramFault> {
    let mut parts = bare.split(',');
    let user = parts.next();
    if attribute(user, 'm').is_some() {
        return Err(ScramFault::Extension);
    }
    attribute(user, 'n').ok_or(ScramFault::Form)?;
    let nonce = attribute(parts.next(), 'r').ok_or(ScramFault::Form)?;
    if parts.any(|part| !is_extension(part)) {
        return Err(ScramFault::Form);
    }
    if is_nonce(nonce) { Ok(nonce) } else { Err(ScramFault::Nonce) }
}

fn is_extension(part: &str) -> bool {
    matches!(part.as_bytes(), [letter, b'=', ..] if letter.is_ascii_alphabetic() && *letter != b'm')
}

/// Waits for the client's proof.
#[derive(Debug)]
pub struct Challenged {
    verifier: Verifier,
    flag: BindingFlag,
    nonce: String,
    auth_message_front: String,
}

/// The outcome of a well-formed proof.
#[derive(Debug)]
pub enum Outcome {
    /// The proof fits the verifier.
    Proven(Proven),
    /// It does not.
    Refused,
}

/// A client that knows the password.
#[must_use = "the server's own proof has to be sent"]
#[derive(Debug)]
pub struct Proven {
    /// server-final-message.
    pub server_final: String,
    /// Logs in to a server that holds the same verifier: kept by nobody yet, for pass-through later.
    pub client_key: Key,
}

impl Challenged {
    /// Takes client-final-message; checks the proof in constant time.
    ///
    /// # Errors
    /// The message is not one.
    pub fn handle_client_final(self, message: &[u8]) -> Result<Outcome, ScramFault> {
        let message = std::str::from_utf8(message).map_err(|_| ScramFault::NotUtf8)?;
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(ScramFault::Form)?;
        self.check_without_proof(without_proof)?;
        let proof = parse_key(proof).ok_or(ScramFault::Proof)?;
        let auth_message = format!("{}{without_proof}", self.auth_message_front);
        let client_key = proof.xor(&sign(self.verifier.stored_key.as_bytes(), auth_message.as_bytes()));
        let signature = sign(self.verifier.server_key.as_bytes(), auth_message.as_bytes());
        if !hash(&client_key).equals(&self.verifier.stored_key) {
            return Ok(Outcome::Refused);
        }
        let server_final = format!("v={}", BASE64.encode(signature.as_bytes()));
        Ok(Outcome::Proven(Proven { server_final, client_key }))
    }

    /// `c=<channel binding>,r=<nonce>[,<extensions>]`.
    fn check_without_proof(&self, text: &str) -> Result<(), ScramFault> {
        let mut parts = text.split(',');
        let binding = attribute(parts.next(), 'c').ok_or(ScramFault::Form)?;
        if binding != BASE64.encode(self.flag.header()) {
            return Err(ScramFault::BindingMismatch);
        }
        if attribute(parts.next(), 'r').ok_or(ScramFault::Form)? != self.nonce {
            return Err(ScramFault::NonceMismatch);
        }
        if parts.all(is_extension) { Ok(()) } else { Err(ScramFault::Form) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::scram::ITERATIONS_DEFAULT;
    use crate::auth::scram::client::ClientExchange;

    fn verifier() -> Verifier {
        Verifier::derive("pencil", b"0123456789abcdef", ITERATIONS_DEFAULT)
    }

    fn exchange() -> ServerExchange {
        ServerExchange::new(verifier(), [7; NONCE_BYTES], BindingOffer::None)
    }

    /// RFC 7677, section 3, with its nonces put in place.
    #[test]
    fn the_vector_of_rfc_7677_is_accepted() {
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let verifier = Verifier::derive("pencil", &salt, ITERATIONS_DEFAULT);
        let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let server_first = format!("r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
        let challenged = Challenged {
            verifier,
            flag: BindingFlag::NotSupported,
            nonce: nonce.to_owned(),
            auth_message_front: format!("n=user,r=rOprNGfwEbeRWgbNEkqO,{server_first},"),
        };
        let message = format!("c=biws,r={nonce},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
        let Outcome::Proven(proven) = challenged.handle_client_final(message.as_bytes()).unwrap() else {
            panic!("the proof was refused")
        };
        assert_eq!(proven.server_final, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn our_own_client_is_accepted_and_accepts() {
        let client = ClientExchange::new([9; NONCE_BYTES]);
        let (challenged, server_first) = exchange().handle_client_first(client.client_first().as_bytes()).unwrap();
        let (waiting, client_final) = client.handle_server_first(server_first.as_bytes(), "pencil").unwrap();
        let Outcome::Proven(proven) = challenged.handle_client_final(client_final.as_bytes()).unwrap() else {
            panic!("refused")
        };
        waiting.handle_server_final(proven.server_final.as_bytes()).unwrap();
        let expected = crate::auth::scram::Keys::derive("pencil", b"0123456789abcdef", ITERATIONS_DEFAULT).client_key;
        assert!(proven.client_key.equals(&expected));
    }

    #[test]
    fn a_wrong_password_is_refused() {
        let client = ClientExchange::new([9; NONCE_BYTES]);
        let (challenged, server_first) = exchange().handle_client_first(client.client_first().as_bytes()).unwrap();
        let (_, client_final) = client.handle_server_first(server_first.as_bytes(), "pencils").unwrap();
        assert!(matches!(challenged.handle_client_final(client_final.as_bytes()), Ok(Outcome::Refused)));
    }

    #[test]
    fn every_deviation_of_the_first_message_has_its_fault() {
        for (message, fault) in [
            ("", ScramFault::Flag),
            ("x,,n=,r=a", ScramFault::Flag),
            ("p=tls-server-end-point,,n=,r=a", ScramFault::BindingNotOffered),
            ("n", ScramFault::Flag),
            ("n,", ScramFault::Form),
            ("n,a=admin,n=,r=a", ScramFault::AuthorizationIdentity),
            ("n,,m=x,n=,r=a", ScramFault::Extension),
            ("n,,n=,", ScramFault::Form),
            ("n,,r=a", ScramFault::Form),
            ("n,,n=,r=", ScramFault::Nonce),
            ("n,,n=,r=a b", ScramFault::Nonce),
            ("n,,n=,r=a,junk", ScramFault::Form),
            ("n,,n=,r=a,m=x", ScramFault::Form),
        ] {
            assert_eq!(exchange().handle_client_first(message.as_bytes()).err(), Some(fault), "{message}");
        }
        assert_eq!(exchange().handle_client_first(b"n,,n=\xff,r=a").err(), Some(ScramFault::NotUtf8));
        assert!(exchange().handle_client_first(b"y,,n=ignored,r=a,x=y").is_ok());
    }

    #[test]
    fn every_deviation_of_the_second_message_has_its_fault() {
        let step = |message: &dyn Fn(&str) -> String| {
            let (challenged, server_first) = exchange().handle_client_first(b"n,,n=,r=abc").unwrap();
            let nonce = server_first.split(',').next().unwrap().strip_prefix("r=").unwrap().to_owned();
            challenged.handle_client_final(message(&nonce).as_bytes()).err()
        };
        let proof = BASE64.encode([1_u8; 32]);
        assert_eq!(step(&|n| format!("c=biws,r={n},p={proof}")), None);
        assert_eq!(step(&|n| format!("c=biws,r={n}")), Some(ScramFault::Form));
        assert_eq!(step(&|n| format!("c=eSws,r={n},p={proof}")), Some(ScramFault::BindingMismatch));
        assert_eq!(step(&|n| format!("c=biws,r={n}x,p={proof}")), Some(ScramFault::NonceMismatch));
        assert_eq!(step(&|_| format!("c=biws,r=abc,p={proof}")), Some(ScramFault::NonceMismatch));
        assert_eq!(step(&|n| format!("r={n},c=biws,p={proof}")), Some(ScramFault::Form));
        assert_eq!(step(&|n| format!("c=biws,r={n},p=AAAA")), Some(ScramFault::Proof));
        assert_eq!(step(&|n| format!("c=biws,r={n},p=!")), Some(ScramFault::Proof));
    }
}
