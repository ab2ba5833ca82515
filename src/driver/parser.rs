//! The threads on which SQL is parsed.
//!
//! Owns: a fixed number of threads with deep stacks, and the bounded queue before them. Does not own: what
//! is found (`guard`), or the cache that makes most texts skip this.
//!
//! Why threads of their own: the parser recurses as deeply as a text nests, far beyond a runtime's stacks; and each
//! thread that ever parsed holds one of the process's few thread-specific keys for ever, so that a pool
//! that grows and shrinks would run out of them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::fault::{Code, Fault};
use crate::guard::{FactsCache, Inspected, Limits, inspect};

/// Holds any text of the default length, whatever its nesting (measured: see `tests/guard_tables.rs`).
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// Texts that may wait; who comes later waits for a place.
const QUEUE_LENGTH: usize = 256;

struct Job {
    sql: Bytes,
    limits: Limits,
    reply: oneshot::Sender<Inspected>,
}

/// A handle to the parser threads; they end when the last handle is dropped.
#[derive(Clone, Debug)]
pub struct Parsers {
    queue: mpsc::Sender<Job>,
}

impl Parsers {
    /// Starts `threads` parser threads (at least one), which fill the cache.
    ///
    /// # Errors
    /// The operating system's, if a thread cannot be started.
    pub fn start(threads: usize, cache: &Arc<FactsCache>) -> std::io::Result<Self> {
        let (queue, jobs) = mpsc::channel(QUEUE_LENGTH);
        let jobs = Arc::new(Mutex::new(jobs));
        for number in 0..threads.max(1) {
            let (jobs, cache) = (Arc::clone(&jobs), Arc::clone(cache));
            let builder = std::thread::Builder::new().name(format!("parser-{number}")).stack_size(STACK_BYTES);
            builder.spawn(move || work(&jobs, &cache))?;
        }
        Ok(Self { queue })
    }

    /// Has a text parsed and cached, and the outcome sent to `reply`. Waits while the queue is full; if
    /// dropped then, nothing is parsed and `reply` is dropped unsent.
    pub async fn submit(&self, sql: Bytes, limits: Limits, reply: oneshot::Sender<Inspected>) {
        if let Err(mpsc::error::SendError(job)) = self.queue.send(Job { sql, limits, reply }).await {
            // No thread is left to answer.
            answer(job.reply, Err(lost()));
        }
    }
}

fn work(jobs: &Mutex<mpsc::Receiver<Job>>, cache: &FactsCache) {
    loop {
        // The lock is held while waiting: the others wait for the lock instead of the queue.
        let Some(Job { sql, limits, reply }) = jobs.lock().blocking_recv() else { return };
        let inspected = parse(&sql, &limits, cache);
        answer(reply, inspected);
    }
}

/// A panic of the parser's Rust side costs its text, never the process or the thread; such an outcome is not cached.
fn parse(sql: &[u8], limits: &Limits, cache: &FactsCache) -> Inspected {
    if let Some(inspected) = cache.lookup(sql) {
        return inspected;
    }
    if sql.len() > limits.text_bytes_max {
        // Refused by its length: found out again sooner than looked up, and not worth its place.
        return inspect(sql, limits);
    }
    let Ok(inspected) = catch_unwind(AssertUnwindSafe(|| inspect(sql, limits))) else {
        return Err(Arc::new(Fault::of(Code::Internal).with_detail("The statement could not be checked.")));
    };
    cache.insert(sql, &inspected);
    inspected
}

fn answer(reply: oneshot::Sender<Inspected>, inspected: Inspected) {
    if reply.send(inspected).is_err() {
        tracing::trace!("the client of a parsed statement is gone");
    }
}

fn lost() -> Arc<Fault> {
    Arc::new(Fault::of(Code::Internal).with_detail("The parser threads are gone."))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn inspected(parsers: &Parsers, sql: impl Into<Bytes>) -> Inspected {
        let (reply, answer) = oneshot::channel();
        parsers.submit(sql.into(), Limits::default(), reply).await;
        answer.await.unwrap()
    }

    #[tokio::test]
    async fn texts_are_parsed_and_cached() {
        let cache = Arc::new(FactsCache::default());
        let parsers = Parsers::start(2, &cache).unwrap();
        let facts = inspected(&parsers, "SELECT 1; SELECT 2").await.unwrap();
        assert_eq!(facts.statements.len(), 2);
        assert!(cache.lookup(b"SELECT 1; SELECT 2").is_some());
        let fault = inspected(&parsers, "SELEC").await.unwrap_err();
        assert_eq!(fault.code, Some(Code::SyntaxError));
    }

    #[tokio::test]
    async fn many_callers_are_all_answered() {
        let parsers = Parsers::start(1, &Arc::new(FactsCache::default())).unwrap();
        let asked: Vec<_> = (0..1000)
            .map(|number| {
                let parsers = parsers.clone();
                tokio::spawn(async move { inspected(&parsers, format!("SELECT a{number}")).await })
            })
            .collect();
        for task in asked {
            assert!(task.await.unwrap().is_ok());
        }
    }
}
