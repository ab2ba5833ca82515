//! What the guard costs: warm texts, texts that differ in literals, cold texts, and the costliest texts it takes.
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
    // The parser recurses: as on the proxy's parser threads.
    let thread = std::thread::Builder::new().stack_size(64 * 1024 * 1024).spawn(measure).unwrap();
    thread.join().unwrap();
}

fn measure() {
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
    let held = cache.size();
    println!("cache: {} texts in {} bytes", held.0, held.1);
    for (name, sql) in longest_texts() {
        let before = resident_max_kib();
        let started = Instant::now();
        let is_taken = black_box(inspect(sql.as_bytes(), &limits)).is_ok();
        let took = started.elapsed();
        println!(
            "{name} ({} bytes, {}): {:.1} ms, the process's peak {} KiB more",
            sql.len(),
            if is_taken { "taken" } else { "refused" },
            took.as_secs_f64() * 1_000.0,
            resident_max_kib().saturating_sub(before)
        );
    }
}

/// The costliest shapes known, of the longest length that is parsed at all; and one that is longer.
fn longest_texts() -> Vec<(&'static str, String)> {
    let repeated =
        |start: &str, part: &str, bytes: usize| start.to_owned() + &part.repeat((bytes - start.len()) / part.len());
    let cap = Limits::default().text_bytes_max;
    vec![
        ("conditions", repeated("SELECT true", " AND true", cap)),
        ("values", repeated("VALUES (1)", ",(1)", cap)),
        ("select list", repeated("SELECT a", ",f(a)", cap)),
        ("statements", repeated("", "SELECT 1;", cap)),
        ("nested comments", repeated("SELECT 1 ", "/*", cap)),
        ("parentheses", repeated("SELECT ", "(", cap)),
        ("a megabyte", repeated("SELECT true", " AND true", 1024 * 1024)),
    ]
}

/// What the process has occupied at most; 0 where the system does not tell.
fn resident_max_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
