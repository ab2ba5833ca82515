//! What the guard costs: warm texts, texts that differ in literals, cold texts.
//!
//! `cargo bench --bench guard`; no framework, medians of several rounds.

#![expect(clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;
use std::time::Instant;

use tenantgate::guard::{FactsCache, Limits, Policy, PolicySettings, inspect};

const ROUNDS: usize = 9;

fn nanoseconds(rounds_of: u32, mut work: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let started = Instant::now();
            (0..rounds_of).for_each(|_| work());
            started.elapsed().as_nanos() as f64 / f64::from(rounds_of)
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[ROUNDS / 2]
}

fn texts() -> Vec<(&'static str, String)> {
    let join = "SELECT o.id, o.created_at, c.name, sum(l.amount * l.price) AS total FROM orders o JOIN customers c \
        ON c.id = o.customer_id JOIN order_lines l ON l.order_id = o.id WHERE o.tenant_id = '0000' AND o.status IN ('open', \
        'paid') AND o.created_at > now() - interval '7 days' AND c.country = 'DE' GROUP BY o.id, o.created_at, c.name HAVING \
        sum(l.amount) > 10 ORDER BY total DESC, o.id LIMIT 20 OFFSET 40";
    vec![
        ("pgbench select", "SELECT abalance FROM pgbench_accounts WHERE aid = 4711;".into()),
        (
            "pgbench insert",
            "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (7, 1, 471, -12, CURRENT_TIMESTAMP);"
                .into(),
        ),
        ("join of 450 bytes", join.into()),
        ("prepared", "SELECT abalance FROM pgbench_accounts WHERE aid = $1".into()),
    ]
}

fn main() {
    let policy =
        Policy::new(&PolicySettings { scope_settings: vec!["app.tenant_id".into()], ..PolicySettings::default() });
    let limits = Limits::default();
    let cache = FactsCache::default();
    // Some company in the cache.
    for number in 0..5_000 {
        let sql = format!("SELECT a{number} FROM t WHERE b = $1");
        cache.insert(sql.as_bytes(), &inspect(sql.as_bytes(), &limits));
    }
    for (name, sql) in texts() {
        let cold = nanoseconds(300, || drop(black_box(inspect(black_box(sql.as_bytes()), &limits))));
        cache.insert(sql.as_bytes(), &inspect(sql.as_bytes(), &limits));
        let warm = nanoseconds(200_000, || drop(black_box(cache.lookup(black_box(sql.as_bytes())))));
        let facts = cache.lookup(sql.as_bytes()).unwrap().unwrap();
        let judge = nanoseconds(200_000, || policy.judge(black_box(&facts)).unwrap());
        println!(
            "{name} ({} bytes): cold {:.1} µs, lookup {warm:.0} ns, judge {judge:.1} ns",
            sql.len(),
            cold / 1_000.0
        );
    }
}
