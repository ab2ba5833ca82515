//! The one clock of the process, and the time of day for records.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::time::{Moment, TimeOfDay};

/// Reads the monotonic clock as [`Moment`]s since the process's start.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    /// Microseconds from 1970 to the start, by the machine's clock of that moment.
    epoch_micros: i64,
}

impl Clock {
    /// A clock that starts now.
    #[must_use]
    pub fn start() -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start: Instant::now(), epoch_micros: i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX) }
    }

    /// What has to be added to a [`Moment`]'s microseconds to get those since 1970.
    #[must_use]
    pub const fn epoch_micros(&self) -> i64 {
        self.epoch_micros
    }

    /// What time it is.
    #[must_use]
    pub fn now(&self) -> Moment {
        Moment::from_micros(u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX))
    }
}

/// The time of day for tickets: by the machine's clock of now, which is set right while the process runs.
#[must_use]
pub fn now_of_day() -> TimeOfDay {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    TimeOfDay::from_unix_micros(i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX))
}

/// The time of day for records, as RFC 3339 in UTC with whole seconds.
#[must_use]
pub fn time_of_day() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
