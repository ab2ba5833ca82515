//! Certificates and keys from PEM files.
//!
//! Owns: that a file holds what its key says. Does not own: whether a certificate is valid today.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::Builder;
use crate::config::environment::NamedFile;
use crate::config::problem::Place;
use crate::config::settings::TlsIdentity;

impl Builder<'_> {
    /// The certificates of a PEM file; at least one.
    pub fn certificates(&mut self, place: &Place, path: &str) -> Option<Vec<CertificateDer<'static>>> {
        let file = self.file(place, path)?;
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&file.bytes).collect();
        match certificates {
            Ok(certificates) if !certificates.is_empty() => Some(certificates),
            Ok(_) => {
                self.problems.error(place, format!("{path:?} holds no certificate in PEM form"));
                None
            }
            Err(_) => {
                self.problems.error(place, format!("{path:?} is not a PEM file"));
                None
            }
        }
    }

    /// The certificates of a PEM file, each fit to be trusted as a root.
    pub fn root_certificates(&mut self, place: &Place, path: &str) -> Option<Vec<CertificateDer<'static>>> {
        let certificates = self.certificates(place, path)?;
        let mut are_good = true;
        for (index, certificate) in certificates.iter().enumerate() {
            if let Err(fault) = RootCertStore::empty().add(certificate.clone()) {
                let message = format!("certificate {} of {path:?} cannot be a root: {fault}", index + 1);
                self.problems.error(place, message);
                are_good = false;
            }
        }
        are_good.then_some(certificates)
    }

    /// The revocation lists of a PEM file; at least one.
    pub fn revocation_lists(
        &mut self,
        place: &Place,
        path: &str,
    ) -> Option<Vec<CertificateRevocationListDer<'static>>> {
        let file = self.file(place, path)?;
        let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&file.bytes).collect();
        match lists {
            Ok(lists) if !lists.is_empty() => Some(lists),
            Ok(_) | Err(_) => {
                self.problems.error(place, format!("{path:?} holds no revocation list in PEM form"));
                None
            }
        }
    }

    /// A chain and a key that belong together.
    pub fn identity(&mut self, place: &Place, identity: TlsIdentity) -> Option<TlsIdentity> {
        let provider = aws_lc_rs::default_provider();
        match CertifiedKey::from_der(identity.chain.clone(), identity.key.clone_key(), &provider) {
            Ok(_) => Some(identity),
            Err(fault) => {
                self.problems.error(place, format!("cannot be used with the certificate: {fault}"));
                None
            }
        }
    }

    /// The private key of a PEM file.
    pub fn private_key(&mut self, place: &Place, path: &str) -> Option<Arc<PrivateKeyDer<'static>>> {
        let file = self.file(place, path)?;
        self.warn_if_public(place, path, &file);
        match PrivateKeyDer::from_pem_slice(&file.bytes) {
            Ok(key) => Some(Arc::new(key)),
            Err(_) => {
                let hint = "an encrypted key cannot be used: decrypt it with `openssl pkey`";
                self.problems.error_with_hint(place, format!("{path:?} holds no private key in PEM form"), hint);
                None
            }
        }
    }

    /// A file, or a problem with the system's words.
    pub fn file(&mut self, place: &Place, path: &str) -> Option<NamedFile> {
        match self.environment.read_file(path) {
            Ok(file) => Some(file),
            Err(reason) => {
                self.problems.error(place, format!("cannot read {path:?}: {reason}"));
                None
            }
        }
    }

    /// A secret that every user of the machine may read is not one.
    pub fn warn_if_public(&mut self, place: &Place, path: &str, file: &NamedFile) {
        if file.readable_by_all {
            self.problems.warn(place, format!("every user may read {path:?}"), "run chmod o-r on it");
        }
    }
}
