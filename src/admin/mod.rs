//! The console's commands and the tables it shows, as values.
//!
//! Owns: what an administrator may ask for and what it looks like. Does not own: the state that is shown or
//! changed: an [`Operations`] gives snapshots of it and carries commands out.

mod operations;
mod snapshot;

pub use operations::{Actor, Command, Operations, ShutdownMode};
pub use snapshot::{
    ClientRow, ClientState, ConfigRow, DatabaseRow, FrozenRow, PoolRow, ServerRow, ServerState, TenantRow, UserRow,
};
