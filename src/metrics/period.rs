//! Averages over the last period of counting, as PgBouncer's SHOW STATS has them.
//!
//! Two earlier readings are kept, the older of them between one and two periods old: averages are from that one till
//! now, so they are there at once and never over less than a period (but for the first).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::tally::Count;
use super::traffic::Totals;
use crate::time::Moment;

/// All databases' counts at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Reading {
    pub at: Moment,
    pub totals: BTreeMap<Arc<str>, Totals>,
}

/// The two earlier readings.
#[derive(Debug, Default)]
pub(super) struct Periods {
    pub older: Reading,
    pub newer: Reading,
}

impl Periods {
    /// A period is over.
    pub fn turn(&mut self, reading: Reading) {
        self.older = std::mem::replace(&mut self.newer, reading);
    }
}

/// One database's row of SHOW STATS.
#[derive(Clone, Debug)]
pub struct DatabaseStatistics {
    /// Its name among clients.
    pub database: Arc<str>,
    /// Since the proxy started.
    pub totals: Totals,
    /// Lately.
    pub averages: Averages,
}

/// Averages: counts and bytes per second, times per transaction, statement and lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Averages {
    /// Leases per second.
    pub leases: u64,
    /// Transactions per second.
    pub transactions: u64,
    /// Statements per second.
    pub statements: u64,
    /// Bytes from clients per second.
    pub received: u64,
    /// Bytes to clients per second.
    pub sent: u64,
    /// Microseconds of a server per transaction.
    pub transaction_micros: u64,
    /// Microseconds of a busy server per statement.
    pub statement_micros: u64,
    /// Microseconds of waiting per lease.
    pub wait_micros: u64,
    /// Prepared statements of clients per second.
    pub client_parses: u64,
    /// Prepared statements on servers per second.
    pub server_parses: u64,
    /// Binds per second.
    pub binds: u64,
}

/// What happened between two readings so many microseconds apart, on average.
#[must_use]
pub fn averages(earlier: &Totals, later: &Totals, micros: u64) -> Averages {
    let grown = |count| later.read(count).saturating_sub(earlier.read(count));
    let per_second = |count| ratio(u128::from(grown(count)) * 1_000_000, micros);
    let leases = later.leases().saturating_sub(earlier.leases());
    let lease_micros = later.transaction.sum_micros.saturating_sub(earlier.transaction.sum_micros);
    let wait_micros = later.wait.sum_micros.saturating_sub(earlier.wait.sum_micros);
    Averages {
        leases: ratio(u128::from(leases) * 1_000_000, micros),
        transactions: per_second(Count::Transactions),
        statements: per_second(Count::Statements),
        received: per_second(Count::Received),
        sent: per_second(Count::Sent),
        transaction_micros: ratio(u128::from(lease_micros), grown(Count::Transactions)),
        statement_micros: ratio(u128::from(grown(Count::BusyMicros)), grown(Count::Statements)),
        wait_micros: ratio(u128::from(wait_micros), leases),
        client_parses: per_second(Count::ClientParses),
        server_parses: per_second(Count::ServerParses),
        binds: per_second(Count::Binds),
    }
}

fn ratio(amount: u128, of: u64) -> u64 {
    amount.checked_div(u128::from(of)).map_or(0, |ratio| u64::try_from(ratio).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{ShardNumber, Tally, Traffic};

    #[test]
    fn counts_are_per_second_and_times_per_thing() {
        let traffic = Traffic::default();
        let earlier = traffic.totals();
        let mut tally = Tally::default();
        tally.add(Count::Transactions, 120);
        traffic.observe_lease(ShardNumber::SHARED, 1_200, 0, None);
        tally.add(Count::Sent, 6_000);
        traffic.add(ShardNumber::SHARED, &mut tally);
        let found = averages(&earlier, &traffic.totals(), 60_000_000);
        assert_eq!((found.transactions, found.sent, found.transaction_micros), (2, 100, 10));
        assert_eq!((found.statements, found.statement_micros, found.wait_micros), (0, 0, 0));
        assert_eq!(averages(&earlier, &earlier, 0), Averages::default());
    }
}
