//! PostgreSQL protocol v3: bytes ↔ messages.
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>
//!
//! Owns: framing, bounds-checked reading, encoding. Does not own: what a message means in a dialogue.
//! Nothing here panics on, or allocates in proportion to, a length a peer merely claims.

pub mod backend;
pub mod frame;
pub mod frontend;
pub mod limits;
pub mod reader;

pub use frame::{Head, HeadFault};
pub use reader::{Malformed, Reader};

/// A server's transaction status, as ReadyForQuery reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransactionStatus {
    /// `I`: not in a transaction block.
    Idle,
    /// `T`: in a transaction block.
    InBlock,
    /// `E`: in a failed transaction block.
    Failed,
}

impl TransactionStatus {
    /// The status byte.
    #[must_use]
    pub const fn byte(self) -> u8 {
        match self {
            TransactionStatus::Idle => b'I',
            TransactionStatus::InBlock => b'T',
            TransactionStatus::Failed => b'E',
        }
    }

    /// From the status byte; `None` if PostgreSQL has no such status.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            b'I' => Some(TransactionStatus::Idle),
            b'T' => Some(TransactionStatus::InBlock),
            b'E' => Some(TransactionStatus::Failed),
            _ => None,
        }
    }
}
