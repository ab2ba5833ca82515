//! The server side of the exchange: what we ask of our clients.
//!
//! Each state is its own type and the step consumes it, so a proof is checked exactly once and only
//! after a challenge: [`ServerExchange`] → [`Selected`] → [`Challenged`] → [`Proven`].

use base64::Engine as _;

use super::{
    BASE64, BOUND_HEADER, Key, MECHANISM, MECHANISM_PLUS, NONCE_BYTES, Verifier, attribute, hash, is_nonce, nonce_text,
    parse_key, sign,
};
use crate::auth::EndPoint;

/// How a client's message deviates from the exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScramFault {
    /// A mechanism that was not offered.
    #[error("the client selected an invalid SASL mechanism")]
    Mechanism,
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
    /// The mechanism with channel binding, and no binding data.
    #[error("the client selected SCRAM-SHA-256-PLUS, but the SCRAM message does not include channel binding data")]
    BindingMissing,
    /// Another kind of binding than `tls-server-end-point`.
    #[error("unsupported SCRAM channel binding type")]
    BindingType,
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

/// What the second message has to repeat, before base64.
#[derive(Debug)]
enum Binding {
    /// The header alone.
    Unbound(BindingFlag),
    /// The header and the connection's own end point.
    Bound(EndPoint),
}

impl Binding {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Binding::Unbound(BindingFlag::NotSupported) => b"n,,".to_vec(),
            Binding::Unbound(BindingFlag::BelievedNotOffered) => b"y,,".to_vec(),
            Binding::Bound(end_point) => [BOUND_HEADER.as_bytes(), end_point.as_bytes()].concat(),
        }
    }
}

/// Whether `SCRAM-SHA-256-PLUS` is among the mechanisms offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindingOffer {
    /// It is not: no TLS, or a certificate that nothing can be bound to.
    None,
    /// It is, and this is what the exchange has to be bound to.
    EndPoint(EndPoint),
}

impl BindingOffer {
    /// The mechanisms offered, the best one first.
    #[must_use]
    pub const fn mechanisms(&self) -> &'static [&'static str] {
        match self {
            BindingOffer::None => &[MECHANISM],
            BindingOffer::EndPoint(_) => &[MECHANISM_PLUS, MECHANISM],
        }
    }
}

/// Has made its offer and waits for the client's choice.
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

    /// The client has selected a mechanism.
    ///
    /// # Errors
    /// It was not offered.
    pub fn select(self, mechanism: &[u8]) -> Result<Selected, ScramFault> {
        let Self { verifier, nonce, offer } = self;
        let choice = match offer {
            BindingOffer::None if mechanism == MECHANISM.as_bytes() => Choice::NotOffered,
            BindingOffer::EndPoint(_) if mechanism == MECHANISM.as_bytes() => Choice::Declined,
            BindingOffer::EndPoint(end_point) if mechanism == MECHANISM_PLUS.as_bytes() => Choice::Bound(end_point),
            BindingOffer::None | BindingOffer::EndPoint(_) => return Err(ScramFault::Mechanism),
        };
        Ok(Selected { verifier, nonce, choice })
    }
}

/// What offer and choice together say about channel binding.
#[derive(Debug)]
enum Choice {
    NotOffered,
    Declined,
    Bound(EndPoint),
}

/// Waits for the client's first message.
#[derive(Debug)]
pub struct Selected {
    verifier: Verifier,
    nonce: [u8; NONCE_BYTES],
    choice: Choice,
}

impl Selected {
    /// Takes client-first-message; gives server-first-message.
    ///
    /// The user name in it is ignored, as in PostgreSQL: the startup packet's counts.
    ///
    /// # Errors
    /// The message is not one.
    pub fn handle_client_first(self, message: &[u8]) -> Result<(Challenged, String), ScramFault> {
        let message = std::str::from_utf8(message).map_err(|_| ScramFault::NotUtf8)?;
        let (binding, bare) = read_gs2_header(message, self.choice)?;
        let client_nonce = read_client_first_bare(bare)?;
        let nonce = format!("{client_nonce}{}", nonce_text(&self.nonce));
        let salt = BASE64.encode(self.verifier.salt());
        let server_first = format!("r={nonce},s={salt},i={}", self.verifier.iterations());
        let auth_message_front = format!("{bare},{server_first},");
        Ok((Challenged { verifier: self.verifier, binding, nonce, auth_message_front }, server_first))
    }
}

/// Splits `<flag>,<authzid>,<client-first-message-bare>`.
///
/// `y` where binding was offered means that somebody took the offer out of the list on its way to the client.
fn read_gs2_header(message: &str, choice: Choice) -> Result<(Binding, &str), ScramFault> {
    let (flag, rest) = message.split_once(',').ok_or(ScramFault::Flag)?;
    let binding = match (flag, choice) {
        ("n", Choice::NotOffered | Choice::Declined) => Binding::Unbound(BindingFlag::NotSupported),
        ("y", Choice::NotOffered) => Binding::Unbound(BindingFlag::BelievedNotOffered),
        ("y", Choice::Declined) => return Err(ScramFault::BindingDowngraded),
        ("n" | "y", Choice::Bound(_)) => return Err(ScramFault::BindingMissing),
        ("p=tls-server-end-point", Choice::Bound(end_point)) => Binding::Bound(end_point),
        (flag, Choice::Bound(_)) if flag.starts_with("p=") => return Err(ScramFault::BindingType),
        (flag, _) if flag.starts_with("p=") => return Err(ScramFault::BindingNotOffered),
        _ => return Err(ScramFault::Flag),
    };
    let (authorization_identity, bare) = rest.split_once(',').ok_or(ScramFault::Form)?;
    if !authorization_identity.is_empty() {
        return Err(ScramFault::AuthorizationIdentity);
    }
    Ok((binding, bare))
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
    binding: Binding,
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
        if binding != BASE64.encode(self.binding.bytes()) {
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
    use crate::auth::scram::client::{ClientBinding, ClientExchange};

    fn verifier() -> Verifier {
        Verifier::derive("pencil", b"0123456789abcdef", ITERATIONS_DEFAULT)
    }

    fn exchange() -> Selected {
        ServerExchange::new(verifier(), [7; NONCE_BYTES], BindingOffer::None).select(MECHANISM.as_bytes()).unwrap()
    }

    /// An end point of some certificate; each number another one.
    fn end_point(serial: u64) -> EndPoint {
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.serial_number = Some(serial.into());
        let key = rcgen::KeyPair::generate().unwrap();
        EndPoint::of(params.self_signed(&key).unwrap().der()).unwrap()
    }

    fn offered(end_point: &EndPoint, mechanism: &str) -> Selected {
        let offer = BindingOffer::EndPoint(end_point.clone());
        ServerExchange::new(verifier(), [7; NONCE_BYTES], offer).select(mechanism.as_bytes()).unwrap()
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
            binding: Binding::Unbound(BindingFlag::NotSupported),
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
        let client = ClientExchange::new([9; NONCE_BYTES], ClientBinding::NotPossible);
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
        let client = ClientExchange::new([9; NONCE_BYTES], ClientBinding::NotPossible);
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
    #[test]
    fn only_what_was_offered_can_be_selected() {
        assert_eq!(BindingOffer::None.mechanisms(), ["SCRAM-SHA-256"]);
        let exchange = |offer| ServerExchange::new(verifier(), [7; NONCE_BYTES], offer);
        for (offer, mechanism, is_fine) in [
            (BindingOffer::None, MECHANISM, true),
            (BindingOffer::None, MECHANISM_PLUS, false),
            (BindingOffer::EndPoint(end_point(1)), MECHANISM, true),
            (BindingOffer::EndPoint(end_point(1)), MECHANISM_PLUS, true),
            (BindingOffer::EndPoint(end_point(1)), "scram-sha-256", false),
            (BindingOffer::EndPoint(end_point(1)), "", false),
        ] {
            assert_eq!(exchange(offer.clone()).select(mechanism.as_bytes()).is_ok(), is_fine, "{offer:?} {mechanism}");
        }
    }

    #[test]
    fn no_flag_slips_past_the_offer() {
        let bound = end_point(1);
        for (mechanism, flag, fault) in [
            (MECHANISM, "n", None),
            (MECHANISM, "y", Some(ScramFault::BindingDowngraded)),
            (MECHANISM, "p=tls-server-end-point", Some(ScramFault::BindingNotOffered)),
            (MECHANISM_PLUS, "p=tls-server-end-point", None),
            (MECHANISM_PLUS, "p=tls-unique", Some(ScramFault::BindingType)),
            (MECHANISM_PLUS, "p=", Some(ScramFault::BindingType)),
            (MECHANISM_PLUS, "n", Some(ScramFault::BindingMissing)),
            (MECHANISM_PLUS, "y", Some(ScramFault::BindingMissing)),
            (MECHANISM_PLUS, "x", Some(ScramFault::Flag)),
        ] {
            let message = format!("{flag},,n=,r=abc");
            let found = offered(&bound, mechanism).handle_client_first(message.as_bytes()).err();
            assert_eq!(found, fault, "{mechanism} {flag}");
        }
    }

    #[test]
    fn a_proof_is_good_for_its_own_connection_only() {
        let (ours, theirs) = (end_point(1), end_point(2));
        let run = |seen_by_client: &EndPoint| {
            let binding = ClientBinding::Bound(seen_by_client.clone());
            let client = ClientExchange::new([9; NONCE_BYTES], binding);
            let first = client.client_first();
            let (challenged, server_first) =
                offered(&ours, MECHANISM_PLUS).handle_client_first(first.as_bytes()).unwrap();
            let (waiting, last) = client.handle_server_first(server_first.as_bytes(), "pencil").unwrap();
            challenged.handle_client_final(last.as_bytes()).map(|outcome| (waiting, outcome))
        };
        let (waiting, Outcome::Proven(proven)) = run(&ours).unwrap() else { panic!("refused") };
        waiting.handle_server_final(proven.server_final.as_bytes()).unwrap();
        assert_eq!(run(&theirs).err(), Some(ScramFault::BindingMismatch));
    }
}
