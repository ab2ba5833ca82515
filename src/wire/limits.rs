//! Every bound on what a peer may send, with its reason.

/// Longest startup packet, PostgreSQL's own `MAX_STARTUP_PACKET_LENGTH`.
pub const STARTUP_PACKET_BYTES_MAX: usize = 10_000;

/// Longest message of a client before it has logged in: a SASL response or password fits easily.
pub const LOGIN_MESSAGE_BYTES_MAX: usize = 8 * 1024;

/// Longest message PostgreSQL itself accepts (`PQ_LARGE_MESSAGE_LIMIT`, 1 GiB less 1).
pub const MESSAGE_BYTES_MAX: usize = 0x3fff_ffff;

/// Longest small message PostgreSQL accepts (`PQ_SMALL_MESSAGE_LIMIT`): Execute, Describe, Close, Sync ….
pub const SMALL_MESSAGE_BYTES_MAX: usize = 10_000;

/// Longest statement or portal name. PostgreSQL has no bound but its message limits; drivers use under 64.
pub const NAME_BYTES_MAX: usize = 1_024;

/// Longest server message that is looked at as a whole (ReadyForQuery, CommandComplete, ErrorResponse …).
/// Longer errors are streamed without rewriting; anything else of this length is no PostgreSQL.
pub const INSPECTED_BYTES_MAX: usize = 1024 * 1024;
