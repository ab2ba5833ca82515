//! Cancel requests: the proxy's own keys, and which server a key stands for right now.
//!
//! A request may only hit the statement of the client that it names. The server signals its process by
//! number, so a request that is on its way while the server goes on to the next client would hit that one:
//! a server is given back only when every cancel connection for it has been closed by the server.
//!
//! Owns: the registry. Does not own: the connection to the server (`connect`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Waker;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
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
    target: Option<CancelTarget>,
    /// Counted for each lease by itself: a client that never stops cancelling must not keep the servers it
    /// has given back.
    in_flight: Option<Arc<InFlight>>,
}

/// One client's place in the registry.
#[derive(Debug)]
pub struct CancelSlot {
    secret: Box<[u8]>,
    state: Mutex<State>,
    waker: Mutex<Option<Waker>>,
    /// A cancel came: the client may be waiting for a server, or for the ledger.
    is_cancelled: AtomicBool,
}

impl CancelSlot {
    /// The client leases this server.
    pub fn set(&self, target: CancelTarget) {
        *self.state.lock() = State { target: Some(target), in_flight: None };
    }

    /// The client is done with its server: from now on no cancel begins. Those that are on their way, if any.
    #[must_use]
    pub fn clear(&self) -> Option<Arc<InFlight>> {
        let mut state = self.state.lock();
        state.target = None;
        state.in_flight.take().filter(|in_flight| in_flight.count.load(Ordering::Acquire) > 0)
    }

    /// Whether a cancel came; asked once.
    #[must_use]
    pub fn take_cancel(&self) -> bool {
        self.is_cancelled.load(Ordering::Relaxed) && self.is_cancelled.swap(false, Ordering::AcqRel)
    }

    /// How the client's task is woken when the proxy as a whole changes what it does.
    pub fn set_waker(&self, waker: Waker) {
        *self.waker.lock() = Some(waker);
    }

    fn begin(&self) -> Option<Cancelling> {
        let mut state = self.state.lock();
        self.is_cancelled.store(true, Ordering::Release);
        if let Some(waker) = self.waker.lock().as_ref() {
            waker.wake_by_ref();
        }
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
    target: CancelTarget,
}

impl Cancelling {
    /// Where to.
    #[must_use]
    pub const fn target(&self) -> &CancelTarget {
        &self.target
    }
}

impl Drop for Cancelling {
    fn drop(&mut self) {
        self.in_flight.count.fetch_sub(1, Ordering::AcqRel);
        self.in_flight.settled.notify_waiters();
    }
}

/// All clients' cancel keys.
#[derive(Debug, Default)]
pub struct CancelRegistry {
    slots: DashMap<i32, Arc<CancelSlot>>,
}

/// A client's registration; it ends when this is dropped.
#[derive(Debug)]
pub struct CancelRegistration {
    registry: Arc<CancelRegistry>,
    process_id: i32,
    slot: Arc<CancelSlot>,
}

impl CancelRegistration {
    /// The process id the client is told.
    #[must_use]
    pub const fn process_id(&self) -> i32 {
        self.process_id
    }

    /// The secret the client is told.
    #[must_use]
    pub fn secret(&self) -> &[u8] {
        &self.slot.secret
    }

    /// The client's place.
    #[must_use]
    pub const fn slot(&self) -> &Arc<CancelSlot> {
        &self.slot
    }
}

impl Drop for CancelRegistration {
    fn drop(&mut self) {
        self.registry.slots.remove(&self.process_id);
    }
}

impl CancelRegistry {
    /// Registers a client under a free process id near `wish` with a secret of random bytes.
    #[must_use]
    pub fn register(self: &Arc<Self>, wish: i32, secret: &[u8]) -> CancelRegistration {
        let slot = Arc::new(CancelSlot {
            secret: secret.into(),
            state: Mutex::default(),
            waker: Mutex::default(),
            is_cancelled: AtomicBool::new(false),
        });
        let mut process_id = wish & i32::MAX;
        loop {
            process_id = process_id.checked_add(1).unwrap_or(1);
            if let Entry::Vacant(place) = self.slots.entry(process_id) {
                place.insert(Arc::clone(&slot));
                return CancelRegistration { registry: Arc::clone(self), process_id, slot };
            }
        }
    }

    /// Wakes every client's task.
    pub fn wake_all(&self) {
        for slot in &self.slots {
            if let Some(waker) = slot.waker.lock().as_ref() {
                waker.wake_by_ref();
            }
        }
    }

    /// Begins a cancel, if the key is right and the client has a server. The secret is compared in
    /// constant time, so that it cannot be guessed byte by byte.
    #[must_use]
    pub fn begin(&self, process_id: i32, secret: &[u8]) -> Option<Cancelling> {
        let slot = self.slots.get(&process_id).map(|slot| Arc::clone(&slot))?;
        let is_right = slot.secret.len() == secret.len() && bool::from(slot.secret.ct_eq(secret));
        is_right.then(|| slot.begin()).flatten()
    }
}
