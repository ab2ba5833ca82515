//! Who may log in: rules by login, database, address, TLS and certificate; SCRAM on both sides; what proves a
//! login.
//!
//! Owns: the decision that a peer is who it says it is. Does not own: the dialogue that asks for the
//! proof ([`crate::startup`] towards clients, [`crate::upstream`] towards servers), nor where a secret
//! is read from (the configuration).

mod certificate;
mod login;
mod rules;
pub mod scram;
mod secrets;

pub use certificate::{AlternativeName, CertificateFault, ClientCertificate, EndPoint};
pub use login::{Access, DatabaseList, IsReal, Login, Logins, LoginsFault, Match};
pub use rules::{
    AddressPattern, CertificateNeed, Cidr, CidrFault, Decision, Facts, Method, PeerAddress, Proof, Refusal, Rule,
    Rules, TlsNeed,
};
pub use secrets::{ProcessSecret, VerifierShape};
