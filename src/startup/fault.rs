//! Every way in which the dialogue ends without a session, and what the client is told.

use super::options::OptionsFault;
use super::packet::PacketFault;
use crate::auth::Refusal;
use crate::auth::scram::server::ScramFault;
use crate::fault::{Code, Fault};
use crate::tenant::TenantRefusal;

/// Why a client gets no session. The text is for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartupFault {
    /// A packet before the first message.
    #[error("{0}")]
    Packet(#[from] PacketFault),
    /// Bytes that came behind a request for encryption and before its answer: somebody between could
    /// have put them there (CVE-2021-23214 and its kin).
    #[error("unencrypted data after {0}")]
    PlaintextAfter(&'static str),
    /// A request for encryption where none may come.
    #[error("unexpected {0}")]
    UnexpectedRequest(&'static str),
    /// Direct TLS without the protocol's name in ALPN.
    #[error("direct TLS without ALPN \"postgresql\"")]
    AlpnMissing,
    /// No user name.
    #[error("no user name in the startup packet")]
    NoUser,
    /// A replication connection.
    #[error("a replication connection was asked for")]
    Replication,
    /// The listener takes encrypted connections only.
    #[error("the listener requires TLS")]
    TlsRequired,
    /// The rules refuse.
    #[error("refused by the rules for user {user:?}: {refusal:?}")]
    Rules {
        /// What they say.
        refusal: Refusal,
        /// The user name as sent.
        user: String,
    },
    /// A message that is not a password message.
    #[error("expected a SASL response, got message type {0:#04x}")]
    MessageType(u8),
    /// A message that is too long, or has an impossible length.
    #[error("a message of {0} bytes during login")]
    MessageLength(usize),
    /// A password message that does not hold what it promises.
    #[error("malformed SASL message: {0}")]
    Sasl(&'static str),
    /// A deviation in the exchange itself.
    #[error("{0}")]
    Scram(#[from] ScramFault),
    /// The proof is wrong.
    #[error("wrong password for user {0:?}")]
    PasswordWrong(String),
    /// There is no such login, or it has no password.
    #[error("no login with a password for user {0:?}")]
    LoginUnknown(String),
    /// The database is not configured, or not for this login.
    #[error("database {0:?} is not configured for this login")]
    DatabaseUnknown(String),
    /// No tenant.
    #[error("no tenant: {0:?}")]
    Tenant(TenantRefusal),
    /// A bypass client that names a tenant.
    #[error("a bypass login with a tenant among its startup parameters")]
    BypassNamesTenant,
    /// `options` that cannot be read.
    #[error("{0}")]
    Options(#[from] OptionsFault),
    /// A setting that the policy does not allow.
    #[error("startup parameter {name:?} refused: {:?}", .reason.message)]
    Setting {
        /// Its name as sent.
        name: String,
        /// What the policy says.
        reason: Box<Fault>,
    },
    /// More settings than anybody needs.
    #[error("{0} startup parameters")]
    TooManySettings(usize),
    /// The dialogue was driven on after its end: a defect of the driver.
    #[error("the dialogue was driven on after its end")]
    Ended,
}

impl StartupFault {
    /// The user name as sent, where the fault is about it.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        match self {
            StartupFault::Rules { user, .. } | StartupFault::PasswordWrong(user) | StartupFault::LoginUnknown(user) => {
                Some(user)
            }
            StartupFault::Packet(_)
            | StartupFault::PlaintextAfter(_)
            | StartupFault::UnexpectedRequest(_)
            | StartupFault::AlpnMissing
            | StartupFault::NoUser
            | StartupFault::Replication
            | StartupFault::TlsRequired
            | StartupFault::MessageType(_)
            | StartupFault::MessageLength(_)
            | StartupFault::Sasl(_)
            | StartupFault::Scram(_)
            | StartupFault::DatabaseUnknown(_)
            | StartupFault::Tenant(_)
            | StartupFault::BypassNamesTenant
            | StartupFault::Options(_)
            | StartupFault::Setting { .. }
            | StartupFault::TooManySettings(_)
            | StartupFault::Ended => None,
        }
    }

    /// What the client is told; `None` = nothing, as PostgreSQL does with peers that do not speak its
    /// protocol at all.
    #[must_use]
    pub fn reply(&self) -> Option<Fault> {
        match self {
            StartupFault::Packet(fault) => packet_reply(fault),
            StartupFault::NoUser => {
                Some(Fault::native(b"28000", "no PostgreSQL user name specified in startup packet").fatal())
            }
            StartupFault::Replication => Some(Fault::of(Code::ReplicationRefused)),
            StartupFault::TlsRequired => Some(Fault::of(Code::TlsRequired)),
            StartupFault::Rules { refusal, .. } => Some(rules_reply(*refusal)),
            StartupFault::MessageLength(_) => Some(Fault::of(Code::MessageTooLong)),
            StartupFault::PasswordWrong(user) | StartupFault::LoginUnknown(user) => {
                let message = format!("password authentication failed for user \"{user}\"");
                Some(Fault::saying(Code::PasswordRefused, message))
            }
            StartupFault::DatabaseUnknown(database) => {
                let message = format!("database \"{database}\" is not configured for this login");
                Some(Fault::saying(Code::DatabaseUnknown, message))
            }
            StartupFault::Tenant(refusal) => Some(refusal.fault()),
            StartupFault::BypassNamesTenant => Some(Fault::of(Code::BypassNamesTenant)),
            StartupFault::Options(fault) => {
                Some(Fault::of(Code::StartupParameterRefused).with_detail(fault.to_string()))
            }
            StartupFault::Setting { name, reason } => Some(setting_reply(name, reason)),
            StartupFault::TooManySettings(_) => {
                Some(Fault::saying(Code::StartupParameterRefused, "too many startup parameters"))
            }
            StartupFault::Ended => Some(Fault::of(Code::Internal)),
            StartupFault::PlaintextAfter(_)
            | StartupFault::UnexpectedRequest(_)
            | StartupFault::AlpnMissing
            | StartupFault::MessageType(_)
            | StartupFault::Sasl(_) => Some(violation(self)),
            StartupFault::Scram(fault) => Some(scram_reply(*fault)),
        }
    }
}

fn violation(fault: &impl ToString) -> Fault {
    Fault::of(Code::ProtocolViolation).with_detail(fault.to_string())
}

/// A proof that belongs to another connection, or an offer that did not arrive: more than a clumsy client.
fn scram_reply(fault: ScramFault) -> Fault {
    match fault {
        ScramFault::BindingMismatch | ScramFault::BindingDowngraded => {
            Fault::of(Code::ChannelBindingFailed).with_detail(fault.to_string())
        }
        ScramFault::Mechanism
        | ScramFault::NotUtf8
        | ScramFault::Flag
        | ScramFault::BindingNotOffered
        | ScramFault::BindingMissing
        | ScramFault::BindingType
        | ScramFault::AuthorizationIdentity
        | ScramFault::Extension
        | ScramFault::Nonce
        | ScramFault::NonceMismatch
        | ScramFault::Form
        | ScramFault::Proof => violation(&fault),
    }
}

fn packet_reply(fault: &PacketFault) -> Option<Fault> {
    match fault {
        PacketFault::Length(_) | PacketFault::Cancel => None,
        PacketFault::Protocol(_) => Some(Fault::native(b"0A000", fault.to_string()).fatal()),
        PacketFault::EncryptionRequest | PacketFault::Layout(_) | PacketFault::NotUtf8 | PacketFault::Twice(_) => {
            Some(violation(fault))
        }
    }
}

fn rules_reply(refusal: Refusal) -> Fault {
    match refusal {
        Refusal::TlsRequired => Fault::of(Code::TlsRequired),
        Refusal::CertificateMissing => Fault::of(Code::CertificateRequired),
        Refusal::CertificateOfAnother => Fault::of(Code::CertificateOfAnother),
        // One reply for both: which rule it was is in the log.
        Refusal::Rejected | Refusal::NoRule => Fault::of(Code::NoRule),
    }
}

fn setting_reply(name: &str, reason: &Fault) -> Fault {
    if reason.code == Some(Code::ReasonRefused) {
        return reason.clone().fatal();
    }
    let message = format!("the startup parameter \"{name}\" is not allowed");
    let detail = match &reason.detail {
        Some(detail) => format!("{} {detail}", reason.message),
        None => reason.message.clone().into_owned(),
    };
    Fault::saying(Code::StartupParameterRefused, message).with_detail(detail)
}
