//! The one clock of the process.

use std::time::Instant;

use crate::time::Moment;

/// Reads the monotonic clock as [`Moment`]s since the process's start.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts now.
    #[must_use]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// What time it is.
    #[must_use]
    pub fn now(&self) -> Moment {
        Moment::from_micros(u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX))
    }
}
