//! What is counted as the text Prometheus reads.
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>
//!
//! Owns: the table of metrics ([`METRICS`]; `docs/metrics.md` is compared with it) and their series. Does not own: HTTP.

use std::collections::BTreeMap;
use std::sync::Arc;

use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder as _, TextEncoder};

use super::histogram::{BUCKETS, HistogramSnapshot, bound_micros};
use super::registry::Metrics;
use super::tally::Count;
use super::tenants::{OTHER, TenantFigures};
use super::traffic::Totals;

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Durations by bucket, with sum and count.
    Histogram,
}

impl MetricKind {
    /// Prometheus's word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct MetricRow {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: MetricKind,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it means, with its unit.
    pub meaning: &'static str,
}

/// Declares metrics with the names the code uses for them.
macro_rules! metrics {
    ($( $name:ident = $text:literal, $kind:ident, $labels:expr, $meaning:literal; )*) => {
        $( const $name: MetricRow =
            MetricRow { name: $text, kind: MetricKind::$kind, labels: &$labels, meaning: $meaning }; )*
        /// Every metric, in the order in which it is published.
        pub const METRICS: &[MetricRow] = &[ $( $name, )* ];
    };
}

metrics! {
    BUILD = "tenantgate_build_info", Gauge, ["version"], "Always 1.";
    UPTIME = "tenantgate_uptime_seconds", Gauge, [], "Seconds since the proxy started.";
    READY = "tenantgate_ready", Gauge, [], "1 if /readyz says so, else 0.";
    TRANSACTIONS = "tenantgate_transactions_total", Counter, ["database"], "Transactions that ended; a statement outside a block is one.";
    STATEMENTS = "tenantgate_statements_total", Counter, ["database"], "Statements answered by servers: completed, suspended or failed.";
    RECEIVED = "tenantgate_received_bytes_total", Counter, ["database"], "Bytes received from clients.";
    SENT = "tenantgate_sent_bytes_total", Counter, ["database"], "Bytes sent to clients.";
    BUSY = "tenantgate_busy_seconds_total", Counter, ["database"], "Seconds in which servers on loan owed answers.";
    CLIENT_PARSES = "tenantgate_client_parses_total", Counter, ["database"], "Prepared statements made by clients (named and unnamed).";
    SERVER_PARSES = "tenantgate_server_parses_total", Counter, ["database"], "Prepared statements made on servers.";
    BINDS = "tenantgate_binds_total", Counter, ["database"], "Prepared statements bound by clients.";
    SCOPES = "tenantgate_scopes_total", Counter, ["database"], "Tenants put on a server transaction and confirmed by the server.";
    TRANSACTION = "tenantgate_transaction_seconds", Histogram, ["database"], "How long a server was on loan: one transaction, unless the client pipelines several.";
    WAIT = "tenantgate_wait_seconds", Histogram, ["database"], "How long a client waited for a server, each time it got one; a free server is a wait of 0.";
    SCOPE = "tenantgate_scope_seconds", Histogram, ["database"], "From a server's lending until it confirmed the tenant. The tenant travels in front of the client's statement, in the same packet, so this holds a round trip and, where the server answers both at once, the statement's own time.";
    LOGIN = "tenantgate_login_seconds", Histogram, [], "From accepting a connection to the beginning of its session.";
    LOGGING_IN = "tenantgate_logging_in", Gauge, [], "Connections that have not logged in yet.";
    REFUSALS = "tenantgate_refusals_total", Counter, ["code"], "Refusals, by the stable code of docs/refusals.md; logins that were refused included.";
    OBSERVED = "tenantgate_observed_refusals_total", Counter, ["code"], "What would have been refused where refusals are only observed (mode = observe), by the code.";
    OBSERVING = "tenantgate_observing_logins", Gauge, [], "Logins whose refusals are only observed: hostile SQL of theirs is not held off.";
    ENDINGS = "tenantgate_sessions_ended_total", Counter, ["reason"], "Sessions that ended, by reason.";
    DISCARDS = "tenantgate_servers_discarded_total", Counter, ["reason"], "Servers on loan that were closed instead of being used again, by reason.";
    CONNECTS = "tenantgate_server_connects_total", Counter, ["outcome"], "Attempts to connect a server: connected or failed.";
    BYPASSES = "tenantgate_bypass_transactions_total", Counter, ["outcome"], "Transactions of bypass logins, by the outcome in the ledger: committed, rolled_back, failed or unknown.";
    MIGRATIONS = "tenantgate_migration_transactions_total", Counter, ["outcome"], "Transactions of migration logins, by the outcome in the ledger.";
    LEDGER_WRITABLE = "tenantgate_ledger_writable", Gauge, [], "1 if the last attempt to write the ledger succeeded, else 0; absent without a ledger.";
    LEDGER_COMPRESSIONS = "tenantgate_ledger_compressions_total", Counter, ["result"], "Closed files of the ledger that were compressed (done), and attempts that failed (failed); absent without [ledger] compress.";
    EMERGENCIES = "tenantgate_emergencies_open", Gauge, [], "Emergencies that are open: bypass logins beyond their rules.";
    BYPASS_FROZEN = "tenantgate_bypass_frozen", Gauge, [], "1 while all bypasses are frozen, else 0.";
    POOL_SERVERS = "tenantgate_pool_servers", Gauge, ["pool", "state"], "Servers of a pool (server group/database/role): idle, leased or connecting.";
    POOL_PINNED = "tenantgate_pool_pinned_servers", Gauge, ["pool"], "Servers of a pool that stay with their clients beyond a transaction; they count as leased, too.";
    POOL_SIZE = "tenantgate_pool_size", Gauge, ["pool"], "Servers of a pool at most.";
    POOL_WAITING = "tenantgate_pool_waiting", Gauge, ["pool"], "Clients that wait for a server of the pool.";
    POOL_FAILING = "tenantgate_pool_failing", Gauge, ["pool"], "1 while the pool's last attempt to connect a server failed, else 0.";
    CLIENTS = "tenantgate_clients", Gauge, ["database", "login", "state"], "Clients: active (has a server), waiting or idle.";
    TENANT_TRANSACTIONS = "tenantgate_tenant_transactions_total", Counter, ["tenant"], "Transactions of a tenant.";
    TENANT_STATEMENTS = "tenantgate_tenant_statements_total", Counter, ["tenant"], "Statements of a tenant.";
    TENANT_LEASE = "tenantgate_tenant_lease_seconds_total", Counter, ["tenant"], "Seconds in which a tenant had servers.";
    TENANT_WAIT = "tenantgate_tenant_wait_seconds_total", Counter, ["tenant"], "Seconds in which a tenant's clients waited for a server.";
    TENANT_REFUSALS = "tenantgate_tenant_refusals_total", Counter, ["tenant"], "Statements of a tenant that were refused.";
    TENANT_CLIENTS = "tenantgate_tenant_clients", Gauge, ["tenant"], "Clients of a tenant.";
}

/// A pool's state.
#[derive(Clone, Debug, Default)]
pub struct PoolGauge {
    /// Server group, database and role.
    pub name: String,
    /// Servers not in use.
    pub idle: usize,
    /// Servers on loan.
    pub leased: usize,
    /// Of these, servers that stay with their clients.
    pub pinned: usize,
    /// Servers being connected.
    pub connecting: usize,
    /// Clients that wait.
    pub waiting: usize,
    /// Servers at most.
    pub size: usize,
    /// Whether the last attempt to connect failed.
    pub is_failing: bool,
}

/// Clients of a (database, login).
#[derive(Clone, Debug)]
pub struct ClientGauge {
    /// The database asked for.
    pub database: Arc<str>,
    /// The login.
    pub login: Arc<str>,
    /// With a server.
    pub active: usize,
    /// Waiting for one.
    pub waiting: usize,
    /// Neither.
    pub idle: usize,
}

/// What is not counted but looked at.
#[derive(Clone, Debug, Default)]
pub struct Gauges {
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// Whether the proxy is ready.
    pub is_ready: bool,
    /// Connections that have not logged in yet.
    pub logging_in: usize,
    /// Logins whose refusals are only observed.
    pub observing: usize,
    /// Whether the ledger can be written, if there is one.
    pub is_ledger_writable: Option<bool>,
    /// Closed files of the ledger that were compressed, and attempts that failed, if there is compression.
    pub ledger_compressions: Option<(u64, u64)>,
    /// Emergencies that are open.
    pub emergencies: usize,
    /// Whether all bypasses are frozen.
    pub is_bypass_frozen: bool,
    /// All pools.
    pub pools: Vec<PoolGauge>,
    /// All clients.
    pub clients: Vec<ClientGauge>,
}

/// The text cannot be written: a series contradicts the table of metrics.
#[derive(Debug, thiserror::Error)]
#[error("metrics cannot be encoded: {0}")]
pub struct EncodeFault(#[from] prometheus::Error);

/// The text of `/metrics`.
///
/// # Errors
/// A defect of this file.
pub fn render(metrics: &Metrics, gauges: &Gauges) -> Result<Vec<u8>, EncodeFault> {
    let mut text = Vec::new();
    let families: Vec<_> = families(metrics, gauges).into_iter().filter(|it| !it.get_metric().is_empty()).collect();
    TextEncoder::new().encode(&families, &mut text)?;
    Ok(text)
}

fn families(metrics: &Metrics, gauges: &Gauges) -> Vec<MetricFamily> {
    let mut families = vec![
        family(BUILD, [series(BUILD, &[env!("CARGO_PKG_VERSION")], 1.0)]),
        family(UPTIME, [series(UPTIME, &[], number(gauges.uptime_seconds))]),
        family(READY, [series(READY, &[], f64::from(u8::from(gauges.is_ready)))]),
    ];
    families.extend(database_families(&metrics.totals()));
    families.push(family(LOGIN, [histogram(&[], LOGIN, &metrics.login())]));
    families.push(family(LOGGING_IN, [series(LOGGING_IN, &[], count(gauges.logging_in))]));
    let refusals = metrics.refusals();
    families.push(family(
        REFUSALS,
        refusals.iter().map(|(code, times)| series(REFUSALS, &[code.row().name], number(*times))),
    ));
    let observed = metrics.observations();
    families.push(family(
        OBSERVED,
        observed.iter().map(|(code, times)| series(OBSERVED, &[code.row().name], number(*times))),
    ));
    families.push(family(OBSERVING, [series(OBSERVING, &[], count(gauges.observing))]));
    families.push(by_word(ENDINGS, &metrics.endings.snapshot()));
    families.push(by_word(DISCARDS, &metrics.discards.snapshot()));
    families.push(by_word(CONNECTS, &metrics.connects.snapshot()));
    families.push(by_word(BYPASSES, &metrics.bypasses.snapshot()));
    families.push(by_word(MIGRATIONS, &metrics.migrations.snapshot()));
    let writable = gauges.is_ledger_writable.map(|it| series(LEDGER_WRITABLE, &[], f64::from(u8::from(it))));
    families.push(family(LEDGER_WRITABLE, writable));
    let compressions = gauges.ledger_compressions.map(|(done, failed)| [("done", done), ("failed", failed)]);
    families.push(family(
        LEDGER_COMPRESSIONS,
        compressions.into_iter().flatten().map(|(result, times)| series(LEDGER_COMPRESSIONS, &[result], number(times))),
    ));
    families.push(family(EMERGENCIES, [series(EMERGENCIES, &[], count(gauges.emergencies))]));
    let is_frozen = f64::from(u8::from(gauges.is_bypass_frozen));
    families.push(family(BYPASS_FROZEN, [series(BYPASS_FROZEN, &[], is_frozen)]));
    families.extend(pool_families(&gauges.pools));
    families.push(family(CLIENTS, gauges.clients.iter().flat_map(client_series)));
    families.extend(tenant_families(&metrics.tenant_figures()));
    families
}

fn database_families(totals: &BTreeMap<Arc<str>, Totals>) -> Vec<MetricFamily> {
    let counted = |row: MetricRow, what: Count| {
        let value = move |totals: &Totals| match what {
            Count::BusyMicros => seconds(totals.read(what)),
            Count::Transactions
            | Count::Statements
            | Count::Received
            | Count::Sent
            | Count::ClientParses
            | Count::ServerParses
            | Count::Binds
            | Count::Scopes => number(totals.read(what)),
        };
        family(row, totals.iter().map(|(name, totals)| series(row, &[name], value(totals))))
    };
    let timed = |row: MetricRow, pick: fn(&Totals) -> &HistogramSnapshot| {
        family(row, totals.iter().map(|(name, totals)| histogram(&[name], row, pick(totals))))
    };
    vec![
        counted(TRANSACTIONS, Count::Transactions),
        counted(STATEMENTS, Count::Statements),
        counted(RECEIVED, Count::Received),
        counted(SENT, Count::Sent),
        counted(BUSY, Count::BusyMicros),
        counted(CLIENT_PARSES, Count::ClientParses),
        counted(SERVER_PARSES, Count::ServerParses),
        counted(BINDS, Count::Binds),
        counted(SCOPES, Count::Scopes),
        timed(TRANSACTION, |totals| &totals.transaction),
        timed(WAIT, |totals| &totals.wait),
        timed(SCOPE, |totals| &totals.scope),
    ]
}

fn pool_families(pools: &[PoolGauge]) -> Vec<MetricFamily> {
    let servers = |pool: &PoolGauge| {
        let states = [("idle", pool.idle), ("leased", pool.leased), ("connecting", pool.connecting)];
        states.map(|(state, servers)| series(POOL_SERVERS, &[&pool.name, state], count(servers)))
    };
    let one = |row: MetricRow, pick: fn(&PoolGauge) -> usize| {
        family(row, pools.iter().map(|pool| series(row, &[&pool.name], count(pick(pool)))))
    };
    vec![
        family(POOL_SERVERS, pools.iter().flat_map(servers)),
        one(POOL_PINNED, |pool| pool.pinned),
        one(POOL_SIZE, |pool| pool.size),
        one(POOL_WAITING, |pool| pool.waiting),
        one(POOL_FAILING, |pool| usize::from(pool.is_failing)),
    ]
}

fn client_series(clients: &ClientGauge) -> [Metric; 3] {
    let states = [("active", clients.active), ("waiting", clients.waiting), ("idle", clients.idle)];
    states.map(|(state, number)| series(CLIENTS, &[&clients.database, &clients.login, state], count(number)))
}

fn tenant_families(figures: &[TenantFigures]) -> Vec<MetricFamily> {
    let one = |row: MetricRow, pick: fn(&TenantFigures) -> f64| {
        let name =
            |figures: &TenantFigures| figures.tenant.as_ref().map_or(OTHER.to_owned(), |it| it.as_str().to_owned());
        family(row, figures.iter().map(|figures| series(row, &[&name(figures)], pick(figures))))
    };
    vec![
        one(TENANT_TRANSACTIONS, |it| number(it.counts.transactions())),
        one(TENANT_STATEMENTS, |it| number(it.counts.statements())),
        one(TENANT_LEASE, |it| seconds(it.counts.lease_micros())),
        one(TENANT_WAIT, |it| seconds(it.counts.wait_micros())),
        one(TENANT_REFUSALS, |it| number(it.counts.refusals())),
        one(TENANT_CLIENTS, |it| count(it.clients)),
    ]
}

fn by_word(row: MetricRow, counts: &[(&'static str, u64)]) -> MetricFamily {
    family(row, counts.iter().map(|(word, times)| series(row, &[word], number(*times))))
}

fn family(row: MetricRow, series: impl IntoIterator<Item = Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(row.name.to_owned());
    family.set_help(row.meaning.to_owned());
    family.set_field_type(match row.kind {
        MetricKind::Counter => MetricType::COUNTER,
        MetricKind::Gauge => MetricType::GAUGE,
        MetricKind::Histogram => MetricType::HISTOGRAM,
    });
    family.set_metric(series.into_iter().collect());
    family
}

fn labelled(row: MetricRow, values: &[&str]) -> Metric {
    let pair = |(name, value): (&&str, &&str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    Metric::from_label(row.labels.iter().zip(values).map(pair).collect())
}

fn series(row: MetricRow, values: &[&str], value: f64) -> Metric {
    let mut metric = labelled(row, values);
    match row.kind {
        MetricKind::Counter => {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        }
        MetricKind::Gauge | MetricKind::Histogram => {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
    }
    metric
}

fn histogram(values: &[&str], row: MetricRow, snapshot: &HistogramSnapshot) -> Metric {
    let mut metric = labelled(row, values);
    let mut below = 0;
    let bucket = |(at, times): (usize, &u64)| {
        below += times;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(seconds(bound_micros(at)));
        bucket.set_cumulative_count(below);
        bucket
    };
    let mut histogram = Histogram::default();
    histogram.set_bucket(snapshot.counts.iter().take(BUCKETS).enumerate().map(bucket).collect());
    histogram.set_sample_count(snapshot.count());
    histogram.set_sample_sum(seconds(snapshot.sum_micros));
    metric.set_histogram(histogram);
    metric
}

/// Prometheus knows one kind of number; above 2⁵³ its last digits are lost, which no rate shows.
#[expect(clippy::cast_precision_loss, reason = "Prometheus's numbers are floating")]
const fn number(value: u64) -> f64 {
    value as f64
}

fn count(value: usize) -> f64 {
    number(u64::try_from(value).unwrap_or(u64::MAX))
}

fn seconds(micros: u64) -> f64 {
    number(micros) / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Code;
    use crate::metrics::{MetricsSettings, ShardNumber, Tally};
    use crate::tenant::{TenantId, TenantKind};
    use crate::time::Moment;

    fn full() -> (Metrics, Gauges) {
        let metrics = Metrics::new(MetricsSettings { tenants_shown_max: 2 }, Moment::START);
        let traffic = metrics.database(&Arc::from("demo"));
        let mut tally = Tally::default();
        tally.add(Count::Transactions, 3);
        tally.add(Count::BusyMicros, 1_500_000);
        traffic.add(ShardNumber::SHARED, &mut tally);
        traffic.observe_lease(ShardNumber::SHARED, 33, 0, None);
        metrics.refused(Code::Internal);
        metrics.observed(Code::Internal);
        metrics.logged_in(5_000);
        metrics.endings.count("terminated by client");
        metrics.discards.count("shutdown");
        metrics.connects.count("failed");
        metrics.bypasses.count("committed");
        metrics.migrations.count("rolled_back");
        drop(metrics.tenants().join(&TenantId::parse(TenantKind::Text, "a{c}me").unwrap()));
        let pool =
            PoolGauge { name: "main/demo/app".to_owned(), idle: 1, size: 20, is_failing: true, ..PoolGauge::default() };
        let clients =
            ClientGauge { database: Arc::from("demo"), login: Arc::from("app"), active: 1, waiting: 2, idle: 3 };
        let gauges = Gauges {
            uptime_seconds: 7,
            is_ready: true,
            logging_in: 4,
            observing: 0,
            is_ledger_writable: Some(false),
            ledger_compressions: Some((3, 1)),
            emergencies: 1,
            is_bypass_frozen: true,
            pools: vec![pool],
            clients: vec![clients],
        };
        (metrics, gauges)
    }

    #[test]
    fn every_metric_of_the_table_is_published_and_no_other() {
        let (metrics, gauges) = full();
        let families = families(&metrics, &gauges);
        let found: Vec<_> = families.iter().map(|family| family.name().to_owned()).collect();
        let wanted: Vec<_> = METRICS.iter().map(|row| row.name.to_owned()).collect();
        assert_eq!(found, wanted);
        assert!(families.iter().all(|family| !family.get_metric().is_empty()));
    }

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let (metrics, gauges) = full();
        let text = String::from_utf8(render(&metrics, &gauges).unwrap()).unwrap();
        for line in [
            "tenantgate_transactions_total{database=\"demo\"} 3",
            "tenantgate_busy_seconds_total{database=\"demo\"} 1.5",
            "tenantgate_transaction_seconds_bucket{database=\"demo\",le=\"0.000032\"} 0",
            "tenantgate_transaction_seconds_bucket{database=\"demo\",le=\"0.000064\"} 1",
            "tenantgate_transaction_seconds_bucket{database=\"demo\",le=\"+Inf\"} 1",
            "tenantgate_transaction_seconds_count{database=\"demo\"} 1",
            "tenantgate_refusals_total{code=\"TG059\"} 1",
            "tenantgate_login_seconds_sum 0.005",
            "tenantgate_bypass_transactions_total{outcome=\"committed\"} 1",
            "tenantgate_migration_transactions_total{outcome=\"rolled_back\"} 1",
            "tenantgate_ledger_writable 0",
            "tenantgate_ledger_compressions_total{result=\"failed\"} 1",
            "tenantgate_pool_servers{pool=\"main/demo/app\",state=\"idle\"} 1",
            "tenantgate_clients{database=\"demo\",login=\"app\",state=\"waiting\"} 2",
            "tenantgate_tenant_clients{tenant=\"a{c}me\"} 0",
            "tenantgate_tenant_clients{tenant=\"other\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    #[test]
    fn names_have_their_unit_and_counters_say_total() {
        for row in METRICS {
            assert_eq!(row.kind == MetricKind::Counter, row.name.ends_with("_total"), "{}", row.name);
            assert!(row.name.starts_with("tenantgate_") && row.meaning.ends_with('.'), "{}", row.name);
        }
    }
}
