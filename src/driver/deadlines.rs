//! One client's time limits: a timer that is set only when something is due earlier than it.
//!
//! Owns: the timer. Does not own: what is due when ([`Stopwatch`]), nor what happens then (the session).

use std::pin::Pin;
use std::task::Context;

use tokio::time::{Instant, Sleep, sleep_until};

use super::pool::Seat;
use crate::session::{Overrun, Pulse, Standing, Stopwatch};
use crate::time::Moment;

/// The time limits of one client. Without limits it holds no timer and reads no clock.
#[derive(Default)]
pub struct Deadlines {
    watch: Stopwatch,
    timer: Option<Timer>,
}

/// Goes off at or before the next deadline.
struct Timer {
    at: Moment,
    sleep: Pin<Box<Sleep>>,
}

impl Deadlines {
    /// Notes where the session stands now, and says what has lasted too long. Wakes the task when that may be so.
    pub fn poll(&mut self, pulse: Pulse, seat: &Seat, context: &mut Context<'_>) -> Option<Overrun> {
        if !self.watch.is_current(pulse) {
            self.note(pulse, seat);
        }
        loop {
            let deadline = self.watch.next_deadline();
            if let Some(at) = deadline.filter(|at| self.timer.as_ref().is_none_or(|timer| *at < timer.at)) {
                self.timer = Some(Timer { at, sleep: Box::pin(sleep_until(instant(at, seat.now()))) });
            }
            let timer = self.timer.as_mut()?;
            if timer.sleep.as_mut().poll(context).is_pending() {
                return None;
            }
            self.timer = None;
            deadline?;
            if let Some(overrun) = self.watch.overrun(seat.now()) {
                return Some(overrun);
            }
        }
    }

    fn note(&mut self, pulse: Pulse, seat: &Seat) {
        if pulse.standing == Standing::Leaving {
            return self.watch.leave(pulse, seat.now());
        }
        if !self.watch.is_new_transaction(pulse) {
            self.watch.note(pulse, seat.now());
            return;
        }
        let limits = seat.membership().times();
        if limits.is_unlimited() {
            self.watch.skip(pulse);
        } else {
            self.watch.begin(pulse, limits, seat.now());
        }
    }
}

fn instant(at: Moment, now: Moment) -> Instant {
    Instant::now() + at.since(now)
}
