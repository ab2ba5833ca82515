//! How many may be inside at once, where the number may change while they are.
//!
//! Owns: the count. Does not own: what is said to those who find it full.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A number of places. A smaller number counts as those inside leave: see [`Quota::settle`].
#[derive(Debug)]
pub struct Quota {
    places: Arc<Semaphore>,
    size: Mutex<Size>,
}

#[derive(Debug)]
struct Size {
    places: usize,
    /// Places that are still taken and go when they come free.
    surplus: usize,
}

impl Quota {
    /// So many places.
    #[must_use]
    pub fn new(places: usize) -> Self {
        let places = places.min(Semaphore::MAX_PERMITS);
        Self { places: Arc::new(Semaphore::new(places)), size: Mutex::new(Size { places, surplus: 0 }) }
    }

    /// A place, if there is one; free again when dropped.
    #[must_use]
    pub fn take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// How many are inside now.
    #[must_use]
    pub fn taken(&self) -> usize {
        let size = self.size.lock();
        (size.places + size.surplus).saturating_sub(self.places.available_permits())
    }

    /// Another number of places.
    pub fn resize(&self, places: usize) {
        let places = places.min(Semaphore::MAX_PERMITS);
        let mut size = self.size.lock();
        if places >= size.places {
            let more = places - size.places;
            let kept = more.min(size.surplus);
            size.surplus -= kept;
            self.places.add_permits(more - kept);
        } else {
            size.surplus += size.places - places;
        }
        size.places = places;
        drop(size);
        self.settle();
    }

    /// Takes away surplus places that have come free. Called now and then: whoever gets one meanwhile is let in.
    pub fn settle(&self) {
        let mut size = self.size.lock();
        if size.surplus > 0 {
            size.surplus -= self.places.forget_permits(size.surplus);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_smaller_number_counts_as_places_come_free() {
        let quota = Quota::new(3);
        let inside: Vec<_> = (0..3).map(|_| quota.take().unwrap()).collect();
        quota.resize(1);
        assert!(quota.take().is_none());
        drop(inside);
        quota.settle();
        let one = quota.take().unwrap();
        assert!(quota.take().is_none());
        quota.resize(2);
        let two = quota.take().unwrap();
        assert!(quota.take().is_none());
        drop((one, two));
        quota.resize(1);
        quota.resize(3);
        let all: Vec<_> = std::iter::from_fn(|| quota.take()).collect();
        assert_eq!(all.len(), 3);
    }

    #[test]
    fn a_number_that_grows_back_keeps_those_inside() {
        let quota = Quota::new(4);
        let inside: Vec<_> = (0..4).map(|_| quota.take().unwrap()).collect();
        quota.resize(2);
        quota.resize(3);
        drop(inside);
        quota.settle();
        assert_eq!(std::iter::from_fn(|| quota.take()).collect::<Vec<_>>().len(), 3);
    }
}
