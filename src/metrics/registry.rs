//! Everything that is counted, in one place.
//!
//! Bounded: databases are those of the configuration, codes and reasons those of the program's text, tenants
//! as [`super::tenants`] says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::histogram::{Histogram, HistogramSnapshot, Writers};
use super::period::{DatabaseStatistics, Periods, Reading, averages};
use super::tenants::{TenantFigures, Tenants};
use super::traffic::{Totals, Traffic};
use super::words::WordCounts;
use crate::fault::Code;
use crate::time::Moment;

/// What can be configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricsSettings {
    /// Tenants that have series of their own.
    pub tenants_shown_max: usize,
}

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    databases: Mutex<BTreeMap<Arc<str>, Arc<Traffic>>>,
    periods: Mutex<Periods>,
    refusals: CodeCounts,
    observed: CodeCounts,
    login: Histogram,
    tenants: Arc<Tenants>,
    /// Sessions that ended, by reason.
    pub endings: WordCounts,
    /// Servers that were closed instead of being used again, by reason.
    pub discards: WordCounts,
    /// Attempts to connect a server, by outcome.
    pub connects: WordCounts,
    /// Transactions of bypass logins, by outcome.
    pub bypasses: WordCounts,
    /// Transactions of migration logins, by outcome.
    pub migrations: WordCounts,
}

impl Metrics {
    /// Nothing counted yet.
    #[must_use]
    pub fn new(settings: MetricsSettings, now: Moment) -> Self {
        let begin = Reading { at: now, totals: BTreeMap::new() };
        Self {
            databases: Mutex::default(),
            periods: Mutex::new(Periods { older: begin.clone(), newer: begin }),
            refusals: std::array::from_fn(|_| AtomicU64::new(0)),
            observed: std::array::from_fn(|_| AtomicU64::new(0)),
            login: Histogram::default(),
            tenants: Tenants::new(settings.tenants_shown_max),
            endings: WordCounts::default(),
            discards: WordCounts::default(),
            connects: WordCounts::default(),
            bypasses: WordCounts::default(),
            migrations: WordCounts::default(),
        }
    }

    /// The counts of a configured database.
    #[must_use]
    pub fn database(&self, name: &Arc<str>) -> Arc<Traffic> {
        Arc::clone(self.databases.lock().entry(Arc::clone(name)).or_default())
    }

    /// Counts by tenant.
    #[must_use]
    pub const fn tenants(&self) -> &Arc<Tenants> {
        &self.tenants
    }

    /// Something was refused.
    pub fn refused(&self, code: Code) {
        count_code(&self.refusals, code);
    }

    /// Something was not refused, as refusals are only observed.
    pub fn observed(&self, code: Code) {
        count_code(&self.observed, code);
    }

    /// A client's session began so long after it had connected.
    pub fn logged_in(&self, micros: u64) {
        self.login.observe(micros, Writers::Many);
    }

    /// How long logins took.
    #[must_use]
    pub fn login(&self) -> HistogramSnapshot {
        self.login.snapshot()
    }

    /// Refusals by code; those that never happened are absent.
    #[must_use]
    pub fn refusals(&self) -> Vec<(Code, u64)> {
        counts_by_code(&self.refusals)
    }

    /// What would have been refused by code; what never happened is absent.
    #[must_use]
    pub fn observations(&self) -> Vec<(Code, u64)> {
        counts_by_code(&self.observed)
    }

    /// Counts by database.
    #[must_use]
    pub fn totals(&self) -> BTreeMap<Arc<str>, Totals> {
        let databases: Vec<_> =
            self.databases.lock().iter().map(|(name, traffic)| (Arc::clone(name), Arc::clone(traffic))).collect();
        databases.into_iter().map(|(name, traffic)| (name, traffic.totals())).collect()
    }

    /// Counts by tenant.
    #[must_use]
    pub fn tenant_figures(&self) -> Vec<TenantFigures> {
        self.tenants.figures()
    }

    /// A period is over: averages and the choice of tenants begin anew.
    pub fn turn_period(&self, now: Moment) {
        let totals = self.totals();
        self.periods.lock().turn(Reading { at: now, totals });
        self.tenants.choose();
    }

    /// Rows of SHOW STATS.
    #[must_use]
    pub fn statistics(&self, now: Moment) -> Vec<DatabaseStatistics> {
        let totals = self.totals();
        let periods = self.periods.lock();
        let micros = now.as_micros().saturating_sub(periods.older.at.as_micros());
        let row = |(database, totals): (Arc<str>, Totals)| {
            let nothing = Totals::default();
            let earlier = periods.older.totals.get(&database).unwrap_or(&nothing);
            DatabaseStatistics { averages: averages(earlier, &totals, micros), database, totals }
        };
        totals.into_iter().map(row).collect()
    }

    /// All databases as one.
    #[must_use]
    pub fn overall(&self, now: Moment) -> DatabaseStatistics {
        let mut all = Totals::default();
        self.totals().values().for_each(|totals| all.add(totals));
        let periods = self.periods.lock();
        let mut earlier = Totals::default();
        periods.older.totals.values().for_each(|totals| earlier.add(totals));
        let micros = now.as_micros().saturating_sub(periods.older.at.as_micros());
        DatabaseStatistics { database: Arc::from(""), averages: averages(&earlier, &all, micros), totals: all }
    }
}

type CodeCounts = [AtomicU64; Code::ALL.len()];

fn count_code(counts: &CodeCounts, code: Code) {
    let place = Code::ALL.iter().position(|known| *known == code);
    if let Some(count) = place.and_then(|at| counts.get(at)) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

fn counts_by_code(counts: &CodeCounts) -> Vec<(Code, u64)> {
    let counts = counts.iter().map(|count| count.load(Ordering::Relaxed));
    Code::ALL.iter().copied().zip(counts).filter(|(_, count)| *count > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Count, ShardNumber, Tally};

    #[test]
    fn averages_reach_back_between_one_and_two_periods() {
        let metrics = Metrics::new(MetricsSettings { tenants_shown_max: 1 }, Moment::START);
        let traffic = metrics.database(&Arc::from("demo"));
        let work = |count| {
            let mut tally = Tally::default();
            tally.add(Count::Statements, count);
            traffic.add(ShardNumber::SHARED, &mut tally);
        };
        let average =
            |seconds: u64| metrics.statistics(Moment::from_micros(seconds * 1_000_000))[0].averages.statements;
        work(600);
        assert_eq!(average(10), 60);
        metrics.turn_period(Moment::from_micros(60_000_000));
        assert_eq!(average(60), 10);
        metrics.turn_period(Moment::from_micros(120_000_000));
        assert_eq!(average(120), 0);
        work(60);
        assert_eq!(average(120), 1);
        assert_eq!(metrics.overall(Moment::from_micros(120_000_000)).totals.read(Count::Statements), 660);
    }

    #[test]
    fn refusals_are_counted_by_code() {
        let metrics = Metrics::new(MetricsSettings { tenants_shown_max: 1 }, Moment::START);
        metrics.refused(Code::Internal);
        metrics.refused(Code::Internal);
        assert_eq!(metrics.refusals(), [(Code::Internal, 2)]);
    }
}
