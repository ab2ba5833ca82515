//! The console: commands, tables, and its side of the protocol, as values.
//!
//! ```text
//! bytes ─▶ Console ─▶ words ─▶ COMMANDS (what, and the least right) ─┬─ a table: rows of an Operations' snapshots ─▶ bytes
//!                                                                    └─ Step::Perform ─▶ the driver ─▶ performed()
//! ```
//!
//! Owns: what an administrator may ask for, who may, and what it looks like. Does not own: the state that is shown or
//! changed: an [`Operations`] gives snapshots of it and carries commands out.

mod command;
mod console;
mod denials;
mod observations;
mod operations;
mod rows;
mod snapshot;
mod table;
mod words;

pub use command::{COMMANDS, CommandRow, Request, Right, parse};
pub use console::{Console, Step};
pub use denials::{Denial, DenialRow, Denials};
pub use observations::{ObservationRow, Observations};
pub use operations::{Actor, Command, Operations, ShutdownMode};
pub use rows::View;
pub use snapshot::{
    BypassRow, ClientRow, ClientState, ConfigRow, DatabaseRow, EmergencyRow, FrozenRow, PoolRow, ServerRow,
    ServerState, TenantRow, UserRow,
};
pub use table::{Column, ColumnKind, ColumnOrigin, Shown, Table, Value};
