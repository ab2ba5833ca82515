//! Cancel requests: which server a client's key stands for right now.
//!
//! A request may only hit the statement of the client that it names. The server signals its process by
//! number, so a request that is on its way while the server goes on to the next client would hit that one:
//! a server is given back only when the server has closed every cancel connection for it, or that was given up after its
//! time limit. One that is discarded serves nobody else, and nobody waits.
//!
//! Owns: one key and the cancels that are on their way. Does not own: who has which key (`registry`), the
//! connection to the server (`connect`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use subtle::ConstantTimeEq as _;
use tokio::sync::Notify;

use super::connect::{ReachedServer, ServerTarget};
use crate::upstream::ServerKey;

/// Which process of which server a cancel is for.
#[derive(Clone, Debug)]
pub struct CancelTarget {
    /// The backend's process and secret.
    pub key: Arc<ServerKey>,
    /// The server.
    pub reached: Arc<ReachedServer>,
    /// How it is reached.
    pub target: Arc<ServerTarget>,
}

/// The cancels of one lease that are on their way.
#[derive(Debug, Default)]
pub struct InFlight {
    count: AtomicUsize,
    settled: Notify,
}

impl InFlight {
    /// Waits until no cancel is on its way any more. If dropped: nothing happens.
    pub async fn settled(&self) {
        loop {
            let notified = self.settled.notified();
            if self.count.load(Ordering::Acquire) == 0 {
                return;
            }
            notified.await;
        }
    }
}

#[derive(Debug, Default)]
struct State {
    target: Option<Arc<CancelTarget>>,
    /// Counted for each lease by itself: a client that never stops cancelling must not keep the servers it
    /// has given back.
    in_flight: Option<Arc<InFlight>>,
}

/// One client's cancel key, and what it stands for now.
#[derive(Debug)]
pub struct CancelSlot {
    secret: Box<[u8]>,
    state: Mutex<State>,
}

impl CancelSlot {
    /// A key that stands for nothing yet.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self { secret: secret.into(), state: Mutex::default() }
    }

    /// The secret the client is told.
    #[must_use]
    pub fn secret(&self) -> &[u8] {
        &self.secret
    }

    /// Whether this is the secret; in constant time, so that it cannot be guessed byte by byte.
    #[must_use]
    pub fn has_secret(&self, secret: &[u8]) -> bool {
        self.secret.len() == secret.len() && bool::from(self.secret.ct_eq(secret))
    }

    /// The client leases this server.
    pub fn set(&self, target: Arc<CancelTarget>) {
        *self.state.lock() = State { target: Some(target), in_flight: None };
    }

    /// The client is done with its server: from now on no cancel begins. Those that are on their way, if any.
    #[must_use]
    pub fn clear(&self) -> Option<Arc<InFlight>> {
        let mut state = self.state.lock();
        state.target = None;
        state.in_flight.take().filter(|in_flight| in_flight.count.load(Ordering::Acquire) > 0)
    }

    /// The client's server, which nobody uses after it: what it is doing is to be cancelled.
    #[must_use]
    pub fn take_target(&self) -> Option<Arc<CancelTarget>> {
        let mut state = self.state.lock();
        state.in_flight = None;
        state.target.take()
    }

    /// How many cancels are on their way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        let state = self.state.lock();
        state.in_flight.as_ref().map_or(0, |in_flight| in_flight.count.load(Ordering::Acquire))
    }

    /// A cancel of what the client's server is doing, if it has one.
    pub fn begin(&self) -> Option<Cancelling> {
        let mut state = self.state.lock();
        let target = state.target.clone()?;
        let in_flight = Arc::clone(state.in_flight.get_or_insert_with(Arc::default));
        in_flight.count.fetch_add(1, Ordering::AcqRel);
        Some(Cancelling { in_flight, target })
    }
}

/// A cancel on its way; the server stays with its client until this is dropped.
#[must_use]
#[derive(Debug)]
pub struct Cancelling {
    in_flight: Arc<InFlight>,
    target: Arc<CancelTarget>,
}

impl Cancelling {
    /// Where to.
    #[must_use]
    pub fn target(&self) -> &CancelTarget {
        &self.target
    }
}

impl Drop for Cancelling {
    fn drop(&mut self) {
        self.in_flight.count.fetch_sub(1, Ordering::AcqRel);
        self.in_flight.settled.notify_waiters();
    }
}
