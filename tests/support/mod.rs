//! What the proofs against real PostgreSQL share: clusters, the proxy as a process, a raw client, scripts.
//!
//! Owns: starting and stopping processes, speaking the protocol byte by byte. Does not own: what is proved.

pub mod cluster;
pub mod dice;
pub mod differences;
pub mod inside;
pub mod message;
pub mod proxy;
pub mod raw;
pub mod relay;
pub mod reply;
pub mod schema;
pub mod script;
pub mod skips;
pub mod tls;
pub mod transcript;
pub mod watchdog;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Heavy proofs run one after the other: two at a time would only measure each other.
pub fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says that a proof was skipped and why: at once, and in the file that `make test` prints at its end, as what a test that
/// passes prints is not shown.
pub fn skip(what: &str) {
    eprintln!("skipped: {what}");
    skips::note(what);
}

/// A number from the environment, or the default.
pub fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable}={text:?} is not a number")),
        Err(_) => default,
    }
}

/// Looks until it is so; the limit only ends a test that would hang.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "it never is so: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until a server works on a statement with this text in that database. Others of this task go on meanwhile.
/// Parse and Bind show the text as well: what has lasted for some time is being executed.
pub async fn until_it_runs(cluster: &cluster::Cluster, database: &str, text: &str) {
    // Other tests use the same cluster, and have long statements of their own.
    let running = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%{text}%' AND \
         clock_timestamp() - query_start > '20 ms' AND datname = '{database}'"
    );
    let mut admin = cluster.admin("postgres");
    let deadline = Instant::now() + Duration::from_secs(30);
    while admin.value(&running) == "0" {
        assert!(Instant::now() < deadline, "nothing with {text:?} runs in {database}");
        tokio::task::yield_now().await;
    }
}
