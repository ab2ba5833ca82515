//! Counters and histograms that the proxy keeps of itself.
//!
//! ```text
//! session: Tally (plain numbers) ──┐
//! driver: Meter (times of a lease) ┴─ at check-in ─▶ Traffic (per database, sharded atomics) ─▶ Totals ─▶ text
//!                                                 └▶ TenantShare (per tenant, the busiest K shown by name)
//! ```
//!
//! Owns: what is counted, as plain atomics, its bounds, and the text Prometheus reads. Does not own: who
//! counts, clocks, or the socket it is published on.

mod exposition;
mod histogram;
mod meter;
mod period;
mod registry;
mod tally;
mod tenants;
mod traffic;
mod words;

pub use exposition::{ClientGauge, EncodeFault, Gauges, METRICS, MetricKind, MetricRow, PoolGauge, render};
pub use histogram::{BUCKETS, Histogram, HistogramSnapshot, Writers, bound_micros};
pub use meter::Meter;
pub use period::{Averages, DatabaseStatistics, averages};
pub use registry::{Metrics, MetricsSettings};
pub use tally::{Count, Tally};
pub use tenants::{OTHER, TENANTS_SHOWN_MAX, TenantCounts, TenantFigures, TenantShare, Tenants};
pub use traffic::{ShardNumber, Totals, Traffic};
pub use words::WordCounts;
