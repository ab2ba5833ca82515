//! In which way the proxy may prove itself to a server, given what protects the connection.
//!
//! Owns: what is allowed over what, channel binding towards servers, the answer to an MD5 challenge. Does not own:
//! the dialogue.

use md5::{Digest as _, Md5};
use secrecy::{ExposeSecret as _, SecretString};

use super::ServerLoginFault;
use crate::auth::EndPoint;
use crate::auth::scram::client::ClientBinding;

/// What protects the connection to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// Nothing: TCP in the clear.
    Clear,
    /// The kernel: a unix socket.
    Local,
    /// TLS. What a proof can be bound to, unless the server's certificate has nothing to bind to.
    Tls(Option<EndPoint>),
}

/// Whether proofs are bound to the TLS connection (`channel_binding`, as in libpq).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BindingPolicy {
    /// Never.
    Disable,
    /// Where both sides can.
    #[default]
    Prefer,
    /// Always: nothing else lets the proxy in, not even a server that asks for no proof.
    Require,
}

/// The connection as the login sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// What protects it.
    pub way: Way,
    /// Whether proofs are bound to it.
    pub binding: BindingPolicy,
}

/// The forms in which a role may prove its password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllowedMethods {
    /// SCRAM-SHA-256: the server learns nothing it can use elsewhere.
    pub scram: bool,
    /// MD5: who sees the exchange can try passwords, who has the server's stored hash can log in with it.
    pub md5: bool,
    /// The password itself.
    pub password: PasswordAllowed,
}

/// Where the password itself may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordAllowed {
    /// Nowhere.
    Never,
    /// Over TLS and unix sockets.
    Protected,
    /// Anywhere, for everyone on the way to read.
    Anywhere,
}

impl Default for AllowedMethods {
    fn default() -> Self {
        Self { scram: true, md5: false, password: PasswordAllowed::Never }
    }
}

impl AllowedMethods {
    pub(super) fn check_scram(self) -> Result<(), ServerLoginFault> {
        if self.scram { Ok(()) } else { Err(ServerLoginFault::MethodRefused("SCRAM-SHA-256")) }
    }

    /// MD5 cannot be bound to anything.
    pub(super) fn check_md5(self, channel: &Channel) -> Result<(), ServerLoginFault> {
        let is_allowed = self.md5 && channel.binding != BindingPolicy::Require;
        if is_allowed { Ok(()) } else { Err(ServerLoginFault::MethodRefused("MD5")) }
    }

    pub(super) fn check_password(self, channel: &Channel) -> Result<(), ServerLoginFault> {
        let is_allowed = match (self.password, &channel.way) {
            (PasswordAllowed::Never, _) | (PasswordAllowed::Protected, Way::Clear) => false,
            (PasswordAllowed::Protected, Way::Local | Way::Tls(_)) | (PasswordAllowed::Anywhere, _) => {
                channel.binding != BindingPolicy::Require
            }
        };
        if is_allowed { Ok(()) } else { Err(ServerLoginFault::MethodRefused("clear text")) }
    }
}

impl Channel {
    /// What is said about channel binding to a server that offers it, or does not.
    ///
    /// # Errors
    /// It is required and cannot be had.
    pub(super) fn binding(&self, is_offered: bool) -> Result<ClientBinding, ServerLoginFault> {
        let end_point = match &self.way {
            Way::Tls(end_point) => end_point.clone(),
            Way::Clear | Way::Local => None,
        };
        match (self.binding, end_point, is_offered) {
            (BindingPolicy::Disable, _, _) => Ok(ClientBinding::NotPossible),
            (BindingPolicy::Prefer | BindingPolicy::Require, Some(end_point), true) => {
                Ok(ClientBinding::Bound(end_point))
            }
            (BindingPolicy::Require, _, _) => Err(ServerLoginFault::BindingMissing),
            (BindingPolicy::Prefer, Some(_), false) => Ok(ClientBinding::NotOffered),
            (BindingPolicy::Prefer, None, _) => Ok(ClientBinding::NotPossible),
        }
    }
}

/// `md5(md5(password + user) + salt)`, each in lower-case hexadecimal.
/// <https://www.postgresql.org/docs/current/protocol-flow.html>
pub(super) fn md5_answer(user: &str, password: &SecretString, salt: [u8; 4]) -> String {
    let stored = hexadecimal(&[password.expose_secret().as_bytes(), user.as_bytes()]);
    format!("md5{}", hexadecimal(&[stored.as_bytes(), &salt]))
}

fn hexadecimal(parts: &[&[u8]]) -> String {
    let mut hash = Md5::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
