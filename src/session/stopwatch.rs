//! How long a transaction, a statement and a pause of the client have lasted.
//!
//! The driver shows the session's [`Pulse`] at each wake-up, and the time only where the pulse has changed and
//! something is limited: no clock is read for a client without limits. The same timer serves all of them; it
//! is set earlier when something is due earlier, and looks again when it goes off, so nothing is paid per
//! message.
//!
//! Owns: this arithmetic. Does not own: the timer (the driver's), what happens to the session (its own).

use std::time::Duration;

use crate::bypass::LimitName;
use crate::pool::TimeLimits;
use crate::time::Moment;

/// How long a client that is gone may keep its server until what it left behind is done.
const LEAVING_LIMIT: Duration = Duration::from_secs(30);

/// How long after a cancel a server may go on before it is given up.
const CANCEL_GRACE: Duration = Duration::from_secs(3);

/// What a session's server is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// There is none.
    Free,
    /// It owes answers that will come by themselves.
    Busy,
    /// It waits for the client.
    Idle,
    /// It waits for the proxy: for a record to be durable. Neither the client is silent nor a statement slow.
    Held,
    /// It is between transactions and stays with the client.
    Pinned,
    /// It is brought to rest for a client that is gone.
    Leaving,
}

/// What of a session moves on, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// What the server is doing.
    pub standing: Standing,
    /// Which transaction it is.
    pub transaction: u64,
    /// Which answer it is.
    pub step: u64,
}

/// What has lasted too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overrun {
    /// The transaction.
    Transaction(Duration),
    /// The client's silence while it has a server.
    Idle(Duration),
    /// The client's silence while a server stays with it between transactions.
    Pinned(Duration),
    /// The statement: it is to be cancelled.
    Statement(Duration),
    /// The statement, and the cancel has not ended it.
    Unending(Duration),
    /// Bringing the server to rest for a client that is gone.
    Leaving,
    /// A bypass, for what its rule or emergency allows.
    Bypass(LimitName),
}

/// Whether this answer's statement was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cancel {
    NotYet,
    At(Moment),
}

/// One session's stopwatch.
#[derive(Debug)]
pub struct Stopwatch {
    limits: TimeLimits,
    pulse: Pulse,
    transaction_since: Moment,
    step_since: Moment,
    cancel: Cancel,
}

impl Default for Stopwatch {
    fn default() -> Self {
        Self {
            limits: TimeLimits::default(),
            pulse: Pulse { standing: Standing::Free, transaction: 0, step: 0 },
            transaction_since: Moment::START,
            step_since: Moment::START,
            cancel: Cancel::NotYet,
        }
    }
}

impl Stopwatch {
    /// Whether there is nothing to be noted. The limits of a transaction are those at its beginning.
    #[must_use]
    pub fn is_current(&self, pulse: Pulse) -> bool {
        if self.pulse.standing == Standing::Leaving || pulse.standing == Standing::Leaving {
            return self.pulse.standing == pulse.standing;
        }
        let is_same_transaction = pulse.transaction == self.pulse.transaction;
        is_same_transaction && (self.limits.is_unlimited() || pulse == self.pulse)
    }

    /// Whether it is another transaction than the one noted last: then its limits have to be asked for.
    #[must_use]
    pub const fn is_new_transaction(&self, pulse: Pulse) -> bool {
        pulse.transaction != self.pulse.transaction
    }

    /// A transaction without limits is not timed.
    pub fn skip(&mut self, pulse: Pulse) {
        self.limits = TimeLimits::default();
        self.pulse = pulse;
    }

    /// A transaction has begun.
    pub fn begin(&mut self, pulse: Pulse, limits: TimeLimits, now: Moment) {
        self.limits = limits;
        self.transaction_since = now;
        self.note(pulse, now);
    }

    /// The client is gone. What it left behind has one limit, whatever moves.
    pub fn leave(&mut self, pulse: Pulse, now: Moment) {
        self.begin(pulse, TimeLimits { transaction: Some(LEAVING_LIMIT), ..TimeLimits::default() }, now);
    }

    /// Something has moved.
    pub fn note(&mut self, pulse: Pulse, now: Moment) {
        self.pulse = pulse;
        self.step_since = now;
        self.cancel = Cancel::NotYet;
    }

    /// When [`Stopwatch::overrun`] is worth asking, at the earliest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Moment> {
        if self.pulse.standing == Standing::Pinned {
            return self.limits.idle_pinned.map(|limit| self.step_since.after(limit));
        }
        let transaction = self.limits.transaction.map(|limit| self.transaction_since.after(limit));
        let step = match (self.pulse.standing, self.cancel) {
            (Standing::Free, _) => return None,
            (Standing::Held | Standing::Pinned | Standing::Leaving, _) => None,
            (Standing::Idle, _) => self.limits.idle_in_transaction.map(|limit| self.step_since.after(limit)),
            (Standing::Busy, Cancel::NotYet) => self.limits.statement.map(|limit| self.step_since.after(limit)),
            (Standing::Busy, Cancel::At(at)) => Some(at.after(CANCEL_GRACE)),
        };
        match (transaction, step) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (deadline, None) | (None, deadline) => deadline,
        }
    }

    /// What has lasted too long by now.
    pub fn overrun(&mut self, now: Moment) -> Option<Overrun> {
        if self.pulse.standing == Standing::Free {
            return None;
        }
        let lasts = |since: Moment, limit: &Duration| now.since(since) >= *limit;
        if self.pulse.standing == Standing::Pinned {
            return self.limits.idle_pinned.filter(|limit| lasts(self.step_since, limit)).map(Overrun::Pinned);
        }
        if let Some(limit) = self.limits.transaction.filter(|limit| lasts(self.transaction_since, limit)) {
            return Some(match self.pulse.standing {
                Standing::Leaving => Overrun::Leaving,
                Standing::Free | Standing::Busy | Standing::Idle | Standing::Held | Standing::Pinned => {
                    Overrun::Transaction(limit)
                }
            });
        }
        match self.pulse.standing {
            Standing::Free | Standing::Held | Standing::Pinned | Standing::Leaving => return None,
            Standing::Idle => {
                let limit = self.limits.idle_in_transaction.filter(|limit| lasts(self.step_since, limit))?;
                return Some(Overrun::Idle(limit));
            }
            Standing::Busy => {}
        }
        let limit = self.limits.statement.filter(|limit| lasts(self.step_since, limit))?;
        match self.cancel {
            Cancel::NotYet => {
                self.cancel = Cancel::At(now);
                Some(Overrun::Statement(limit))
            }
            Cancel::At(at) => lasts(at, &CANCEL_GRACE).then_some(Overrun::Unending(limit)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u64) -> Moment {
        Moment::from_micros(seconds * 1_000_000)
    }

    fn pulse(standing: Standing, transaction: u64, step: u64) -> Pulse {
        Pulse { standing, transaction, step }
    }

    fn limits() -> TimeLimits {
        TimeLimits {
            transaction: Some(60 * SECOND),
            idle_in_transaction: Some(10 * SECOND),
            statement: Some(20 * SECOND),
            idle_pinned: Some(30 * SECOND),
        }
    }

    #[test]
    fn without_limits_only_a_new_transaction_is_looked_at() {
        let mut watch = Stopwatch::default();
        let first = pulse(Standing::Busy, 1, 1);
        assert!(!watch.is_current(first) && watch.is_new_transaction(first));
        watch.skip(first);
        assert!(watch.is_current(pulse(Standing::Idle, 1, 2)) && !watch.is_current(pulse(Standing::Busy, 2, 2)));
        assert_eq!((watch.next_deadline(), watch.overrun(at(1000))), (None, None));
    }

    #[test]
    fn a_statement_is_cancelled_once_and_given_up_in_the_end() {
        let mut watch = Stopwatch::default();
        watch.begin(pulse(Standing::Busy, 1, 1), limits(), at(0));
        assert_eq!(watch.next_deadline(), Some(at(20)));
        assert_eq!(watch.overrun(at(19)), None);
        assert_eq!(watch.overrun(at(20)), Some(Overrun::Statement(20 * SECOND)));
        assert_eq!((watch.next_deadline(), watch.overrun(at(22))), (Some(at(23)), None));
        assert_eq!(watch.overrun(at(23)), Some(Overrun::Unending(20 * SECOND)));
        watch.note(pulse(Standing::Busy, 1, 2), at(23));
        assert_eq!((watch.next_deadline(), watch.overrun(at(24))), (Some(at(43)), None));
    }

    #[test]
    fn waiting_for_the_proxy_is_only_the_transactions_time() {
        let mut watch = Stopwatch::default();
        watch.begin(pulse(Standing::Busy, 1, 1), limits(), at(0));
        watch.note(pulse(Standing::Held, 1, 1), at(1));
        assert_eq!((watch.next_deadline(), watch.overrun(at(59))), (Some(at(60)), None));
        assert_eq!(watch.overrun(at(60)), Some(Overrun::Transaction(60 * SECOND)));
        // The client's pause begins when the proxy has gone on.
        watch.note(pulse(Standing::Idle, 1, 1), at(40));
        assert_eq!(watch.next_deadline(), Some(at(50)));
    }

    #[test]
    fn a_client_that_is_gone_has_one_limit_and_nothing_prolongs_it() {
        let mut watch = Stopwatch::default();
        watch.skip(pulse(Standing::Busy, 1, 1));
        let gone = pulse(Standing::Leaving, 1, 1);
        assert!(!watch.is_current(gone), "without limits of its own, too");
        watch.leave(gone, at(5));
        assert!(watch.is_current(pulse(Standing::Leaving, 2, 9)), "its transaction's end is none of its limit");
        assert_eq!((watch.next_deadline(), watch.overrun(at(34))), (Some(at(35)), None));
        assert_eq!(watch.overrun(at(35)), Some(Overrun::Leaving));
        assert!(!watch.is_current(pulse(Standing::Free, 2, 9)));
    }

    #[test]
    fn a_pause_and_a_transaction_end_in_time() {
        let mut watch = Stopwatch::default();
        watch.begin(pulse(Standing::Busy, 1, 1), limits(), at(0));
        for second in 1..=5 {
            watch.note(pulse(Standing::Idle, 1, second), at(second * 9));
            assert_eq!(watch.overrun(at(second * 9 + 9)), None);
        }
        assert_eq!(watch.next_deadline(), Some(at(55)));
        assert_eq!(watch.overrun(at(55)), Some(Overrun::Idle(10 * SECOND)));
        watch.note(pulse(Standing::Idle, 1, 6), at(55));
        assert_eq!(watch.next_deadline(), Some(at(60)));
        assert_eq!(watch.overrun(at(60)), Some(Overrun::Transaction(60 * SECOND)));
        watch.note(pulse(Standing::Free, 1, 7), at(60));
        assert_eq!((watch.next_deadline(), watch.overrun(at(600))), (None, None));
    }
}
