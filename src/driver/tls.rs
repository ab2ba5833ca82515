//! TLS on both sides, by rustls with aws-lc-rs: TLS 1.2 and 1.3, its safe defaults.
//!
//! Owns: turning certificates and modes into rustls configurations. Does not own: reading PEM files (the
//! configuration does), nor when TLS is used (the startup dialogue and [`super::connect`] do).

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};

use crate::config::{ClientAuthority, TlsIdentity, TrustedRoots};
use crate::startup::ALPN;

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsFault {
    /// rustls does not take them: the key does not fit the certificate, is of an unknown kind …
    #[error("the TLS certificate or key cannot be used: {0}")]
    Rustls(#[from] rustls::Error),
    /// A root certificate is malformed.
    #[error("root certificate {number} cannot be used: {reason}")]
    Root {
        /// Which one, from 1.
        number: usize,
        /// What rustls says.
        reason: rustls::Error,
    },
    /// No root certificate at all.
    #[error("there are no root certificates to verify the other side with{0}")]
    NoRoots(String),
    /// The verifier cannot be built.
    #[error("certificates could not be verified with these roots and revocation lists: {0}")]
    Verifier(#[from] rustls::client::VerifierBuilderError),
}

/// TLS towards clients. With `authority`, they are asked for a certificate.
///
/// Sessions are not resumed, as in PostgreSQL: a resumed one would bring along a certificate that was checked some
/// time ago, and tickets cost every short connection two writes.
///
/// # Errors
/// Certificate and key do not go together, or nothing can be verified by that authority.
pub fn client_side(identity: &TlsIdentity, authority: Option<&ClientAuthority>) -> Result<Arc<ServerConfig>, TlsFault> {
    let verifier = authority.map(client_verifier).transpose()?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier.unwrap_or_else(WebPkiClientVerifier::no_client_auth))
        .with_single_cert(identity.chain.clone(), identity.key.clone_key())?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// A certificate that is shown has to be good, whether or not one is needed. With revocation lists, as PostgreSQL
/// reads them: the whole chain is looked up, and a list that is missing or has expired is as bad as an entry in it.
///
/// # Errors
/// Nothing can be verified by that authority.
pub fn client_verifier(authority: &ClientAuthority) -> Result<Arc<dyn ClientCertVerifier>, TlsFault> {
    let roots = Arc::new(root_store(&TrustedRoots::Given(authority.roots.clone()))?);
    let mut builder = WebPkiClientVerifier::builder_with_provider(roots, provider());
    if !authority.revocations.is_empty() {
        builder = builder.with_crls(authority.revocations.clone()).enforce_revocation_expiration();
    }
    if !authority.is_required {
        builder = builder.allow_unauthenticated();
    }
    Ok(builder.build()?)
}

/// How a server's certificate is checked; libpq's words for it in brackets.
#[derive(Clone, Debug)]
pub enum Verification {
    /// Not at all (`prefer`, `require`): keeps listeners out, but not somebody in the middle.
    Unverified,
    /// Signed by a trusted root, whatever its name (`verify-ca`).
    Authority(TrustedRoots),
    /// Signed by a trusted root and made out to the host (`verify-full`).
    Full(TrustedRoots),
}

/// TLS towards servers. `identity` is shown to servers that ask for a certificate.
///
/// # Errors
/// There are no usable root certificates, or the identity cannot be used.
pub fn server_side(verification: &Verification, identity: Option<&TlsIdentity>) -> Result<Arc<ClientConfig>, TlsFault> {
    let provider = provider();
    let verifier: Arc<dyn ServerCertVerifier> = match verification {
        Verification::Unverified => Arc::new(Unverified { algorithms: provider.signature_verification_algorithms }),
        Verification::Authority(roots) => Arc::new(AuthorityOnly {
            roots: root_store(roots)?,
            algorithms: provider.signature_verification_algorithms,
        }),
        Verification::Full(roots) => {
            let roots = Arc::new(root_store(roots)?);
            WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build()?
        }
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        Some(identity) => builder.with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn root_store(roots: &TrustedRoots) -> Result<RootCertStore, TlsFault> {
    let mut store = RootCertStore::empty();
    match roots {
        TrustedRoots::Given(certificates) => {
            for (index, certificate) in certificates.iter().enumerate() {
                let root = |reason| TlsFault::Root { number: index + 1, reason };
                store.add(certificate.clone()).map_err(root)?;
            }
            if store.is_empty() { Err(TlsFault::NoRoots(String::new())) } else { Ok(store) }
        }
        TrustedRoots::System => {
            let found = rustls_native_certs::load_native_certs();
            // A system's store may hold certificates that webpki does not take; one good one suffices.
            let (added, _ignored) = store.add_parsable_certificates(found.certs);
            let why = found.errors.first().map(|error| format!(": {error}")).unwrap_or_default();
            if added == 0 { Err(TlsFault::NoRoots(why)) } else { Ok(store) }
        }
    }
}

/// Takes any certificate; the handshake's signatures are checked all the same.
#[derive(Debug)]
struct Unverified {
    algorithms: WebPkiSupportedAlgorithms,
}

/// Takes a certificate of a trusted authority for any name.
#[derive(Debug)]
struct AuthorityOnly {
    roots: RootCertStore,
    algorithms: WebPkiSupportedAlgorithms,
}

macro_rules! check_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            verify_tls12_signature(message, certificate, signed, &self.algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            verify_tls13_signature(message, certificate, signed, &self.algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.algorithms.supported_schemes()
        }
    };
}

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    check_signatures!();
}

impl ServerCertVerifier for AuthorityOnly {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        let algorithms = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    check_signatures!();
}
