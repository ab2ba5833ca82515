//! What the dialogue proves about a client.

use std::sync::Arc;

use crate::auth::{ClientCertificate, PeerAddress, Proof};
use crate::tenant::TenantId;

/// What a client is here for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The rows of this tenant.
    Tenant(TenantId),
    /// Those of whichever tenant it claims; of this one where it claims none.
    Claims(Option<TenantId>),
    /// All rows, with a record of every transaction.
    Bypass,
    /// The console.
    Console,
}

/// A client that has proven who it is and has a tenant. Made only by [`super::Startup`].
#[must_use = "the client waits for its session"]
#[derive(Debug)]
pub struct AuthenticatedClient {
    pub(super) login: Arc<str>,
    pub(super) user: String,
    pub(super) database: String,
    pub(super) purpose: Purpose,
    pub(super) parameters: Vec<(String, String)>,
    pub(super) protocol: i32,
    pub(super) tls: bool,
    pub(super) proof: Proof,
    pub(super) address: PeerAddress,
    pub(super) certificate: Option<Box<ClientCertificate>>,
}

impl AuthenticatedClient {
    /// The configured login.
    #[must_use]
    pub const fn login(&self) -> &Arc<str> {
        &self.login
    }

    /// The user name as sent: the login, perhaps with a tenant behind it.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The database asked for; the login's name if none was.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.database
    }

    /// What it is here for.
    #[must_use]
    pub const fn purpose(&self) -> &Purpose {
        &self.purpose
    }

    /// Whose rows it may see; `None` over bypass logins and on the console.
    #[must_use]
    pub const fn tenant(&self) -> Option<&TenantId> {
        match &self.purpose {
            Purpose::Tenant(tenant) => Some(tenant),
            Purpose::Claims(tenant) => tenant.as_ref(),
            Purpose::Bypass | Purpose::Console => None,
        }
    }

    /// The settings it starts with, each name once, as the guard's policy wrote them.
    #[must_use]
    pub fn parameters(&self) -> &[(String, String)] {
        &self.parameters
    }

    /// The protocol version spoken: at most the one asked for, at most 3.2.
    #[must_use]
    pub const fn protocol(&self) -> i32 {
        self.protocol
    }

    /// How it has proven who it is.
    #[must_use]
    pub const fn proof(&self) -> Proof {
        self.proof
    }

    /// Whether the connection is encrypted.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        self.tls
    }

    /// Where it comes from.
    #[must_use]
    pub const fn address(&self) -> PeerAddress {
        self.address
    }

    /// The certificate it has shown, whatever its rule asked for; its chain has been verified.
    #[must_use]
    pub fn certificate(&self) -> Option<&ClientCertificate> {
        self.certificate.as_deref()
    }
}
