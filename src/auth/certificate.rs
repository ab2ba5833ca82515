//! X.509 certificates as far as logging in needs them: whom a client's is made out to, and what a TLS
//! connection's certificate binds a SCRAM exchange to.
//!
//! Owns: names in a certificate, the hash of RFC 5929. Does not own: whether a certificate is trusted (rustls
//! has checked its chain before anybody asks here).

use aws_lc_rs::digest::{self, SHA224, SHA256, SHA384, SHA512, SHA512_256};
use x509_cert::Certificate;
use x509_cert::der::asn1::{Any, ContextSpecific, ObjectIdentifier};
use x509_cert::der::{Decode as _, SliceReader, Tag, TagNumber, Tagged as _};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::spki::AlgorithmIdentifierOwned;

/// Why a certificate cannot be used here, though TLS took it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    /// Not X.509 in DER.
    #[error("the certificate cannot be read")]
    Form,
    /// The subject has several common names: which one counts would be a guess.
    #[error("the certificate has several common names")]
    SeveralNames,
    /// The common name is in an encoding nobody needs any more, or holds a zero byte.
    #[error("the certificate's common name is no plain text")]
    NameText,
}

/// A client's certificate whose chain has been verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    subject: String,
    common_name: Option<String>,
    alternative_names: Vec<AlternativeName>,
}

/// A name beside the subject's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlternativeName {
    /// A DNS name.
    Dns(String),
    /// An e-mail address.
    Email(String),
    /// A URI, such as a SPIFFE identity.
    Uri(String),
}

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

impl ClientCertificate {
    /// Reads a certificate (DER).
    ///
    /// # Errors
    /// It does not say clearly whom it is made out to.
    pub fn read(der: &[u8]) -> Result<Self, CertificateFault> {
        let certificate = Certificate::from_der(der).map_err(|_| CertificateFault::Form)?;
        let content = certificate.tbs_certificate();
        let mut names = content.subject().iter().filter(|attribute| attribute.oid == COMMON_NAME);
        let common_name = names.next().map(|attribute| plain_text(&attribute.value)).transpose()?;
        if names.next().is_some() {
            return Err(CertificateFault::SeveralNames);
        }
        let alternatives = content.get_extension::<SubjectAltName>().map_err(|_| CertificateFault::Form)?;
        let alternative_names = alternatives.map(|(_, SubjectAltName(names))| names).unwrap_or_default();
        Ok(Self {
            subject: content.subject().to_string(),
            common_name,
            alternative_names: alternative_names.into_iter().filter_map(alternative_name).collect(),
        })
    }

    /// The subject as RFC 4514 writes it.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The subject's common name.
    #[must_use]
    pub fn common_name(&self) -> Option<&str> {
        self.common_name.as_deref()
    }

    /// Names beside the subject's, in the certificate's order.
    #[must_use]
    pub fn alternative_names(&self) -> &[AlternativeName] {
        &self.alternative_names
    }

    /// Whether it is made out to `name`: by its common name, compared byte by byte as PostgreSQL does, or, where it
    /// has none, by a DNS name or e-mail address among its alternative names. A common name always counts alone: a
    /// certificate never stands for more than its subject says.
    #[must_use]
    pub fn is_made_out_to(&self, name: &str) -> bool {
        match &self.common_name {
            Some(common_name) => common_name == name,
            None => self.alternative_names.iter().any(|alternative| match alternative {
                AlternativeName::Dns(text) | AlternativeName::Email(text) => text == name,
                AlternativeName::Uri(_) => false,
            }),
        }
    }
}

fn plain_text(value: &Any) -> Result<String, CertificateFault> {
    if !matches!(value.tag(), Tag::Utf8String | Tag::PrintableString | Tag::Ia5String) {
        return Err(CertificateFault::NameText);
    }
    match std::str::from_utf8(value.value()) {
        Ok(text) if !text.contains('\0') => Ok(text.to_owned()),
        Ok(_) | Err(_) => Err(CertificateFault::NameText),
    }
}

fn alternative_name(name: GeneralName) -> Option<AlternativeName> {
    match name {
        GeneralName::DnsName(text) => Some(AlternativeName::Dns(text.as_str().to_owned())),
        GeneralName::Rfc822Name(text) => Some(AlternativeName::Email(text.as_str().to_owned())),
        GeneralName::UniformResourceIdentifier(text) => Some(AlternativeName::Uri(text.as_str().to_owned())),
        // Nobody is called an address or a registered number.
        _ => None,
    }
}

/// What binds a SCRAM exchange to the TLS connection it runs over: the hash of the server's certificate,
/// `tls-server-end-point` of RFC 5929. Whoever ends the TLS connection on the way has another certificate.
#[derive(Clone, PartialEq, Eq)]
pub struct EndPoint(Box<[u8]>);

impl EndPoint {
    /// Of a TLS server's certificate (DER); `None` where its signature has no hash of its own (Ed25519), for which
    /// RFC 5929 defines nothing and PostgreSQL refuses, or one that is unknown here.
    #[must_use]
    pub fn of(der: &[u8]) -> Option<Self> {
        let certificate = Certificate::from_der(der).ok()?;
        let algorithm = signature_hash(certificate.signature_algorithm())?;
        Some(Self(digest::digest(algorithm, der).as_ref().into()))
    }

    /// The hash.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Not secret, but not worth a line of hexadecimal either.
impl std::fmt::Debug for EndPoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EndPoint({} bytes)", self.0.len())
    }
}

type Algorithm = &'static digest::Algorithm;

/// Signature algorithms and their hash. MD5 and SHA-1 are replaced by SHA-256, as RFC 5929 says.
const SIGNATURES: [(&str, Algorithm); 15] = [
    ("1.2.840.113549.1.1.4", &SHA256),      // md5WithRSAEncryption
    ("1.2.840.113549.1.1.5", &SHA256),      // sha1WithRSAEncryption
    ("1.2.840.113549.1.1.14", &SHA224),     // sha224WithRSAEncryption
    ("1.2.840.113549.1.1.11", &SHA256),     // sha256WithRSAEncryption
    ("1.2.840.113549.1.1.12", &SHA384),     // sha384WithRSAEncryption
    ("1.2.840.113549.1.1.13", &SHA512),     // sha512WithRSAEncryption
    ("1.2.840.113549.1.1.16", &SHA512_256), // sha512-256WithRSAEncryption
    ("1.2.840.10045.4.1", &SHA256),         // ecdsa-with-SHA1
    ("1.2.840.10045.4.3.1", &SHA224),       // ecdsa-with-SHA224
    ("1.2.840.10045.4.3.2", &SHA256),       // ecdsa-with-SHA256
    ("1.2.840.10045.4.3.3", &SHA384),       // ecdsa-with-SHA384
    ("1.2.840.10045.4.3.4", &SHA512),       // ecdsa-with-SHA512
    ("1.2.840.10040.4.3", &SHA256),         // dsa-with-sha1
    ("2.16.840.1.101.3.4.3.1", &SHA224),    // dsa-with-sha224
    ("2.16.840.1.101.3.4.3.2", &SHA256),    // dsa-with-sha256
];

/// Hashes by themselves, for RSASSA-PSS.
const HASHES: [(&str, Algorithm); 6] = [
    ("1.3.14.3.2.26", &SHA256), // SHA-1
    ("2.16.840.1.101.3.4.2.4", &SHA224),
    ("2.16.840.1.101.3.4.2.1", &SHA256),
    ("2.16.840.1.101.3.4.2.2", &SHA384),
    ("2.16.840.1.101.3.4.2.3", &SHA512),
    ("2.16.840.1.101.3.4.2.6", &SHA512_256),
];

/// RSASSA-PSS names its hash in its parameters.
const RSASSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");

fn signature_hash(algorithm: &AlgorithmIdentifierOwned) -> Option<Algorithm> {
    if algorithm.oid == RSASSA_PSS {
        return pss_hash(algorithm.parameters.as_ref()?);
    }
    look_up(&SIGNATURES, algorithm.oid)
}

/// `RSASSA-PSS-params`: the hash is the first, optional element; SHA-1 if it is absent.
fn pss_hash(parameters: &Any) -> Option<Algorithm> {
    let mut reader = SliceReader::new(parameters.value()).ok()?;
    let hash = ContextSpecific::<AlgorithmIdentifierOwned>::decode_explicit(&mut reader, TagNumber(0)).ok()?;
    hash.map_or(Some(&SHA256), |hash| look_up(&HASHES, hash.value.oid))
}

fn look_up(table: &[(&str, Algorithm)], oid: ObjectIdentifier) -> Option<Algorithm> {
    let text = oid.to_string();
    table.iter().find(|(known, _)| *known == text).map(|(_, algorithm)| *algorithm)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair, SanType, SignatureAlgorithm};

    fn certificate(common_names: &[&str], alternatives: Vec<SanType>) -> Vec<u8> {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for name in common_names {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        params.distinguished_name.push(DnType::OrganizationName, "Acme, Inc.");
        params.subject_alt_names = alternatives;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn dns(name: &str) -> SanType {
        SanType::DnsName(name.try_into().unwrap())
    }

    #[test]
    fn the_common_name_counts_alone() {
        let read = ClientCertificate::read(&certificate(&["app_user"], vec![dns("admin")])).unwrap();
        assert!(read.is_made_out_to("app_user"));
        for other in ["admin", "APP_USER", "app_user ", "app_use", ""] {
            assert!(!read.is_made_out_to(other), "{other:?}");
        }
        assert_eq!(read.common_name(), Some("app_user"));
        assert_eq!(read.alternative_names(), [AlternativeName::Dns("admin".into())]);
        assert!(read.subject().contains("CN=app_user") && read.subject().contains("O=Acme\\, Inc."), "{read:?}");
    }

    #[test]
    fn without_common_name_the_alternatives_count() {
        let mail = SanType::Rfc822Name("a@example.com".try_into().unwrap());
        let uri = SanType::URI("spiffe://x/app".try_into().unwrap());
        let read = ClientCertificate::read(&certificate(&[], vec![dns("app_user"), mail, uri])).unwrap();
        assert!(read.is_made_out_to("app_user") && read.is_made_out_to("a@example.com"));
        assert!(!read.is_made_out_to("spiffe://x/app") && !read.is_made_out_to(""));
        assert_eq!(read.alternative_names().len(), 3);
        let nobody = ClientCertificate::read(&certificate(&[], vec![])).unwrap();
        assert!(!nobody.is_made_out_to(""));
    }

    #[test]
    fn doubtful_names_are_refused() {
        let read = |der: &[u8]| ClientCertificate::read(der).err();
        assert_eq!(read(b""), Some(CertificateFault::Form));
        assert_eq!(read(&certificate(&["a"], vec![])[1..]), Some(CertificateFault::Form));
        assert_eq!(read(&certificate(&["app\0.evil"], vec![])), Some(CertificateFault::NameText));
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        let wide = rcgen::string::BmpString::try_from("app").unwrap();
        params.distinguished_name.push(DnType::CommonName, DnValue::BmpString(wide));
        let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
        assert_eq!(read(&der), Some(CertificateFault::NameText));
    }

    #[test]
    fn the_end_points_hash_is_that_of_the_signature() {
        let end_point = |algorithm: &'static SignatureAlgorithm| {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            let der = params.self_signed(&key).unwrap().der().to_vec();
            (EndPoint::of(&der).map(|end_point| end_point.as_bytes().to_vec()), der)
        };
        let (found, der) = end_point(&rcgen::PKCS_ECDSA_P256_SHA256);
        assert_eq!(found.unwrap(), digest::digest(&SHA256, &der).as_ref());
        let (found, der) = end_point(&rcgen::PKCS_ECDSA_P384_SHA384);
        assert_eq!(found.unwrap(), digest::digest(&SHA384, &der).as_ref());
        // RFC 5929 has no answer for a signature without a hash of its own.
        assert_eq!(end_point(&rcgen::PKCS_ED25519).0, None);
        assert_eq!(EndPoint::of(b"no certificate"), None);
    }

    #[test]
    fn the_hash_of_rsassa_pss_is_in_its_parameters() {
        // SEQUENCE { [0] { SEQUENCE { OID sha384 } } }, and without the element.
        let sha384 = [0x30, 0x0f, 0xa0, 0x0d, 0x30, 0x0b, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2];
        assert_eq!(pss_hash(&Any::from_der(&sha384).unwrap()), Some(&SHA384));
        assert_eq!(pss_hash(&Any::from_der(&[0x30, 0]).unwrap()), Some(&SHA256));
        assert_eq!(pss_hash(&Any::from_der(&[0x30, 2, 0xa0, 0]).unwrap()), None);
    }
}
