//! What the console needs of the proxy.
//!
//! Owns: the commands, and the interface through which they are carried out. Does not own: who may give
//! them, nor how they are carried out.

use std::sync::Arc;
use std::time::Duration;

use super::snapshot::{
    BypassRow, ClientRow, ConfigRow, DatabaseRow, EmergencyRow, FrozenRow, PoolRow, ServerRow, TenantRow, UserRow,
};
use crate::fault::Fault;
use crate::tenant::{FreezeReason, TenantId};

/// Who gives a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The login; `SIGHUP` and its like where a signal did it.
    pub login: Arc<str>,
    /// Where from; `signal` where there is no address.
    pub address: Arc<str>,
}

/// How to shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownMode {
    /// At once: every connection is closed.
    Now,
    /// Sessions end between transactions; `[runtime] shutdown_timeout` bounds it.
    WaitForServers,
    /// Nobody new is accepted; ends when the last client has left by itself.
    WaitForClients,
}

/// What changes something. Databases are the names that clients use; `None` = all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// No server is lent any more; done when none is on loan.
    Pause(Option<Arc<str>>),
    /// Ends a pause or a kill.
    Resume(Option<Arc<str>>),
    /// Every server is replaced when it is next free.
    Reconnect(Option<Arc<str>>),
    /// Clients and servers of the database are dropped at once and newcomers wait until Resume.
    Kill(Option<Arc<str>>),
    /// One client is dropped, by the number of SHOW CLIENTS.
    KillClient(i32),
    /// Reads the configuration file again.
    Reload,
    /// Ends the proxy.
    Shutdown(ShutdownMode),
    /// A tenant's sessions end and nobody logs in for it any more, also after a restart.
    Freeze {
        /// Whose.
        tenant: TenantId,
        /// Why, in the administrator's words.
        reason: FreezeReason,
    },
    /// Every bypass ends, none begins, and emergencies are closed, also after a restart.
    FreezeBypass {
        /// Why.
        reason: FreezeReason,
    },
    /// Ends that.
    ThawBypass {
        /// Why.
        reason: FreezeReason,
    },
    /// A bypass login goes beyond its rules for a while.
    OpenEmergency {
        /// Whose.
        login: Arc<str>,
        /// For how long.
        duration: Duration,
        /// Why.
        reason: FreezeReason,
    },
    /// Ends that.
    CloseEmergency {
        /// Its id, or its login.
        name: Arc<str>,
    },
    /// Ends a freeze.
    Thaw {
        /// Whose.
        tenant: TenantId,
        /// Why.
        reason: FreezeReason,
    },
}

/// The proxy, as the console sees it. Snapshots are consistent per row, not between rows.
pub trait Operations: Send + Sync + 'static {
    /// Every client that is logged in, the console's own included.
    fn clients(&self) -> Vec<ClientRow>;
    /// Every server.
    fn servers(&self) -> Vec<ServerRow>;
    /// Every pool, once for each (database, login) that uses it.
    fn pools(&self) -> Vec<PoolRow>;
    /// Every configured database.
    fn databases(&self) -> Vec<DatabaseRow>;
    /// Every configured login.
    fn users(&self) -> Vec<UserRow>;
    /// Every tenant with a client now.
    fn tenants(&self) -> Vec<TenantRow>;
    /// Every tenant that is frozen.
    fn frozen(&self) -> Vec<FrozenRow>;
    /// Every emergency that is open.
    fn emergencies(&self) -> Vec<EmergencyRow>;
    /// That all bypasses are frozen: reason, by whom, since when.
    fn bypass_freeze(&self) -> Option<[Arc<str>; 3]>;
    /// The latest transactions that crossed tenants, the latest first.
    fn bypasses(&self) -> Vec<BypassRow>;
    /// The configuration in force, secrets masked.
    fn config(&self) -> Vec<ConfigRow>;
    /// The proxy's state in PgBouncer's words: `active`, `paused`, `suspended`, and ours: `draining`.
    fn state(&self) -> &'static str;
    /// If dropped: the command may or may not have been carried out.
    ///
    /// Carries out a command.
    ///
    /// # Errors
    /// What went wrong, in words for an administrator; the proxy is as it was then.
    fn perform(&self, command: Command, actor: Actor) -> impl Future<Output = Result<(), Fault>> + Send;
}
