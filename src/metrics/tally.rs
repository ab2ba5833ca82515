//! What one session has counted since its numbers were last added to everybody's.

/// What is counted of a database's traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Count {
    /// Transactions that ended, ReadyForQuery by ReadyForQuery; a statement outside a block is one, too.
    Transactions,
    /// Statements answered by servers: completed, suspended or failed.
    Statements,
    /// Bytes from clients.
    Received,
    /// Bytes to clients.
    Sent,
    /// Microseconds in which servers on loan owed answers.
    BusyMicros,
    /// Prepared statements made by clients.
    ClientParses,
    /// Prepared statements made by the proxy on servers.
    ServerParses,
    /// Prepared statements bound by clients.
    Binds,
    /// Tenants put on a server and confirmed by it.
    Scopes,
}

impl Count {
    /// How many there are.
    pub const LEN: usize = 9;

    /// Its place in arrays.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// One session's own counts: plain numbers, so that counting costs nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally([u64; Count::LEN]);

impl Tally {
    /// Counts.
    pub fn add(&mut self, count: Count, amount: u64) {
        if let Some(place) = self.0.get_mut(count.index()) {
            *place = place.saturating_add(amount);
        }
    }

    /// What was counted.
    #[must_use]
    pub fn read(&self, count: Count) -> u64 {
        self.0.get(count.index()).copied().unwrap_or_default()
    }

    /// All counts in their order, which are zero afterwards.
    #[must_use]
    pub const fn take(&mut self) -> [u64; Count::LEN] {
        std::mem::replace(&mut self.0, [0; Count::LEN])
    }

    /// Whether nothing has been counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|count| *count == 0)
    }
}
