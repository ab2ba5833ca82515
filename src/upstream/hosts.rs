//! Several hosts of one server group: which is tried next, and whether the server found there is of the wanted
//! kind (`target_session_attrs`, as in libpq).
//! <https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-MULTIPLE-HOSTS>
//!
//! Owns: order, what is remembered of failures, the comparison of wanted and found. Does not own: names, addresses,
//! time limits, connecting. Nothing is asked of a server: since version 14 it reports what it is by itself.
//!
//! ```text
//! search ─▶ attempt ──suits──────────────▶ reached
//!             ▲  │ unsuitable, unreachable
//!             └──┘ next host; after the last one, prefer-standby begins anew with any reachable host
//! ```

use std::time::Duration;

use crate::time::Moment;

/// A host that failed, or was not of the wanted kind, is tried after the others for so long: long enough that a
/// pool which fills up does not run into it each time, short enough that a repaired first choice is soon used.
const FAILURE_REMEMBERED: Duration = Duration::from_secs(30);

/// Which servers are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SessionAttributes {
    /// All.
    #[default]
    Any,
    /// Those that take writes: no standby, and not read-only by default.
    ReadWrite,
    /// Those that do not.
    ReadOnly,
    /// Those that are not in recovery.
    Primary,
    /// Those that are.
    Standby,
    /// A standby if there is one, else any.
    PreferStandby,
}

impl SessionAttributes {
    /// The word used in configuration and log lines.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            SessionAttributes::Any => "any",
            SessionAttributes::ReadWrite => "read-write",
            SessionAttributes::ReadOnly => "read-only",
            SessionAttributes::Primary => "primary",
            SessionAttributes::Standby => "standby",
            SessionAttributes::PreferStandby => "prefer-standby",
        }
    }

    /// Whether a server is of this kind. One that does not say what it is suits nobody who asks.
    #[must_use]
    pub fn suits(self, kind: ServerKind) -> bool {
        let ServerKind { in_hot_standby, read_only } = kind;
        match self {
            SessionAttributes::Any | SessionAttributes::PreferStandby => true,
            SessionAttributes::ReadWrite => in_hot_standby == Some(false) && read_only == Some(false),
            SessionAttributes::ReadOnly => in_hot_standby == Some(true) || read_only == Some(true),
            SessionAttributes::Primary => in_hot_standby == Some(false),
            SessionAttributes::Standby => in_hot_standby == Some(true),
        }
    }
}

/// What a server reports of itself at login.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerKind {
    /// `in_hot_standby`.
    pub in_hot_standby: Option<bool>,
    /// `default_transaction_read_only`.
    pub read_only: Option<bool>,
}

impl ServerKind {
    /// From its reports (ParameterStatus).
    pub fn of<'a>(parameter: impl Fn(&str) -> Option<&'a str>) -> Self {
        let is_on = |name| match parameter(name) {
            Some("on") => Some(true),
            Some("off") => Some(false),
            Some(_) | None => None,
        };
        Self { in_hot_standby: is_on("in_hot_standby"), read_only: is_on("default_transaction_read_only") }
    }
}

/// Where a search begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostChoice {
    /// With the first: the others are for when it fails.
    #[default]
    Ordered,
    /// With the one after the last search's.
    RoundRobin,
}

/// What is remembered of a group's hosts: for each, when it failed last.
#[derive(Debug)]
pub struct HostLedger {
    choice: HostChoice,
    next: usize,
    failed_at: Vec<Option<Moment>>,
}

impl HostLedger {
    /// Of so many hosts.
    #[must_use]
    pub fn new(hosts: usize, choice: HostChoice) -> Self {
        Self { choice, next: 0, failed_at: vec![None; hosts] }
    }

    /// Begins a search.
    pub fn search(&mut self, wanted: SessionAttributes, now: Moment) -> HostSearch {
        let count = self.failed_at.len();
        let first = match self.choice {
            HostChoice::Ordered => 0,
            HostChoice::RoundRobin => {
                let first = self.next;
                self.next = (first + 1) % count.max(1);
                first
            }
        };
        let all = (0..count).map(|step| (first + step) % count.max(1));
        let (late, order): (Vec<_>, Vec<_>) = all.partition(|host| self.failed_lately(*host, now));
        let order = order.into_iter().chain(late).collect();
        HostSearch { wanted, order, position: 0, is_second_round: false, unreachable: vec![false; count] }
    }

    /// A host could not be reached, or was not of the wanted kind.
    pub fn failed(&mut self, host: usize, now: Moment) {
        if let Some(failed_at) = self.failed_at.get_mut(host) {
            *failed_at = Some(now);
        }
    }

    /// A host was reached and is of the wanted kind.
    pub fn reached(&mut self, host: usize) {
        if let Some(failed_at) = self.failed_at.get_mut(host) {
            *failed_at = None;
        }
    }

    fn failed_lately(&self, host: usize, now: Moment) -> bool {
        let failed_at = self.failed_at.get(host).copied().flatten();
        failed_at.is_some_and(|at| now.since(at) < FAILURE_REMEMBERED)
    }
}

/// One host to be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Its place in the list.
    pub host: usize,
    /// What it has to be.
    pub wanted: SessionAttributes,
}

/// One search for a server: every host once, or twice for prefer-standby.
#[derive(Debug)]
pub struct HostSearch {
    wanted: SessionAttributes,
    order: Vec<usize>,
    position: usize,
    is_second_round: bool,
    unreachable: Vec<bool>,
}

impl HostSearch {
    /// The next host; `None` after the last.
    pub fn next_attempt(&mut self) -> Option<Attempt> {
        loop {
            let Some(host) = self.order.get(self.position).copied() else {
                if self.wanted != SessionAttributes::PreferStandby || self.is_second_round {
                    return None;
                }
                (self.is_second_round, self.position) = (true, 0);
                continue;
            };
            self.position += 1;
            if self.unreachable.get(host) == Some(&true) {
                continue;
            }
            let wanted = match (self.wanted == SessionAttributes::PreferStandby, self.is_second_round) {
                (true, true) => SessionAttributes::Any,
                (true, false) => SessionAttributes::Standby,
                (false, _) => self.wanted,
            };
            return Some(Attempt { host, wanted });
        }
    }

    /// A host could not be reached: the second round leaves it out.
    pub fn leave_out(&mut self, host: usize) {
        if let Some(unreachable) = self.unreachable.get_mut(host) {
            *unreachable = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::START.after(Duration::from_secs(seconds))
    }

    fn order(ledger: &mut HostLedger, seconds: u64) -> Vec<usize> {
        let mut search = ledger.search(SessionAttributes::Any, at(seconds));
        std::iter::from_fn(|| search.next_attempt()).map(|attempt| attempt.host).collect()
    }

    #[test]
    fn kinds_are_compared_as_libpq_compares_them() {
        use SessionAttributes::{Any, PreferStandby, Primary, ReadOnly, ReadWrite, Standby};
        let kind = |standby, read_only| ServerKind { in_hot_standby: standby, read_only };
        for (found, suited) in [
            (kind(Some(false), Some(false)), vec![Any, ReadWrite, Primary, PreferStandby]),
            (kind(Some(false), Some(true)), vec![Any, ReadOnly, Primary, PreferStandby]),
            (kind(Some(true), Some(false)), vec![Any, ReadOnly, Standby, PreferStandby]),
            (kind(None, None), vec![Any, PreferStandby]),
        ] {
            for wanted in [Any, ReadWrite, ReadOnly, Primary, Standby, PreferStandby] {
                assert_eq!(wanted.suits(found), suited.contains(&wanted), "{wanted:?} {found:?}");
            }
        }
        let reported = |name: &str| (name == "in_hot_standby").then_some("on");
        assert_eq!(ServerKind::of(reported), kind(Some(true), None));
        assert_eq!(ServerKind::of(|_| Some("maybe")), kind(None, None));
    }

    #[test]
    fn ordered_begins_with_the_first_and_round_robin_goes_on() {
        let mut ordered = HostLedger::new(3, HostChoice::Ordered);
        assert_eq!((order(&mut ordered, 0), order(&mut ordered, 0)), (vec![0, 1, 2], vec![0, 1, 2]));
        let mut robin = HostLedger::new(3, HostChoice::RoundRobin);
        let found: Vec<_> = (0..4).map(|_| order(&mut robin, 0)).collect();
        assert_eq!(found, [vec![0, 1, 2], vec![1, 2, 0], vec![2, 0, 1], vec![0, 1, 2]]);
        assert_eq!(order(&mut HostLedger::new(0, HostChoice::RoundRobin), 0), Vec::<usize>::new());
    }

    #[test]
    fn a_host_that_failed_lately_is_tried_last_and_not_for_ever() {
        let mut ledger = HostLedger::new(3, HostChoice::Ordered);
        ledger.failed(0, at(100));
        assert_eq!(order(&mut ledger, 100), [1, 2, 0]);
        assert_eq!(order(&mut ledger, 129), [1, 2, 0]);
        assert_eq!(order(&mut ledger, 130), [0, 1, 2]);
        ledger.failed(0, at(200));
        ledger.failed(1, at(200));
        ledger.failed(2, at(200));
        assert_eq!(order(&mut ledger, 201), [0, 1, 2]);
        ledger.reached(1);
        assert_eq!(order(&mut ledger, 201), [1, 0, 2]);
        ledger.failed(9, at(201));
    }

    #[test]
    fn prefer_standby_takes_any_reachable_host_in_the_end() {
        let mut ledger = HostLedger::new(3, HostChoice::Ordered);
        let mut search = ledger.search(SessionAttributes::PreferStandby, at(0));
        let mut seen = Vec::new();
        while let Some(attempt) = search.next_attempt() {
            if attempt.host == 1 {
                search.leave_out(1);
            }
            seen.push((attempt.host, attempt.wanted));
        }
        use SessionAttributes::{Any, Standby};
        assert_eq!(seen, [(0, Standby), (1, Standby), (2, Standby), (0, Any), (2, Any)]);
    }
}
