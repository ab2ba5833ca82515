//! How often somebody may try to log in.
//!
//! A name has a few attempts from one address, and more from all addresses together, but whoever has lately logged in under it from
//! an address is not kept out by what others try elsewhere. Names of nobody are counted alike, and neither answer nor time tells
//! which of all this a login has failed by (the driver sees to that): nobody finds out names by trying them.
//!
//! Owns: the counts, their bounds. Does not own: passwords, names (`gate`), where a client is (`request`).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use crate::audit::Digest;
use crate::time::Moment;

/// Attempts at once, of a name from one address, and how long it takes until there is one more.
const PAIR_BURST: u32 = 5;
const PAIR_PAUSE: Duration = Duration::from_secs(10);

/// Of a name from all addresses together: a guesser with many addresses gets no further than some 17,000 a day.
const NAME_BURST: u32 = 20;
const NAME_PAUSE: Duration = Duration::from_secs(5);

/// Names and addresses that are counted: some hundred KiB. Beyond that the one that was tried longest ago is forgotten; a
/// reviewer's count over all addresses never is.
const PAIRS_MAX: usize = 4_096;

/// Places that somebody has logged in from: more than there are sessions.
const PLACES_MAX: usize = 400;

/// Attempts that are left.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: u32,
    since: Moment,
}

impl Bucket {
    /// Takes one, if there is one.
    fn take(&mut self, now: Moment, burst: u32, pause: Duration) -> bool {
        let pause = u64::try_from(pause.as_micros()).unwrap_or(u64::MAX).max(1);
        let passed = now.as_micros().saturating_sub(self.since.as_micros()) / pause;
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        if passed > 0 {
            self.left = self.left.saturating_add(passed).min(burst);
            self.since = now;
        }
        let is_left = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_left
    }
}

/// The counts.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    /// By digests: a name that somebody sends may be as long as a form.
    pairs: HashMap<[u8; 32], Bucket>,
    /// Of reviewers alone.
    names: HashMap<Arc<str>, Bucket>,
    /// From where reviewers have logged in, and when last.
    places: HashMap<(Arc<str>, IpAddr), Moment>,
}

impl Attempts {
    /// Whether one more may be made of this name, a reviewer's or nobody's; it counts.
    pub fn take(&mut self, name: &str, reviewer: Option<&Arc<str>>, from: IpAddr, now: Moment) -> bool {
        let from = network(from);
        let key = pair(name, from);
        if self.pairs.len() >= PAIRS_MAX && !self.pairs.contains_key(&key) {
            let oldest = self.pairs.iter().min_by_key(|(_, bucket)| bucket.since).map(|(key, _)| *key);
            oldest.map(|key| self.pairs.remove(&key));
        }
        let bucket = self.pairs.entry(key).or_insert(Bucket { left: PAIR_BURST, since: now });
        if !bucket.take(now, PAIR_BURST, PAIR_PAUSE) {
            return false;
        }
        let Some(reviewer) = reviewer else { return true };
        if self.places.contains_key(&(Arc::clone(reviewer), from)) {
            return true;
        }
        let bucket = self.names.entry(Arc::clone(reviewer)).or_insert(Bucket { left: NAME_BURST, since: now });
        bucket.take(now, NAME_BURST, NAME_PAUSE)
    }

    /// A reviewer has shown the password.
    pub fn succeed(&mut self, reviewer: &Arc<str>, from: IpAddr, now: Moment) {
        let from = network(from);
        self.pairs.remove(&pair(reviewer, from));
        let place = (Arc::clone(reviewer), from);
        if self.places.len() >= PLACES_MAX && !self.places.contains_key(&place) {
            let oldest = self.places.iter().min_by_key(|(_, at)| **at).map(|(place, _)| place.clone());
            oldest.map(|place| self.places.remove(&place));
        }
        self.places.insert(place, now);
    }

    /// What is counted of reviewers that are no more, or have another password, is forgotten.
    pub fn retain(&mut self, is_kept: impl Fn(&Arc<str>) -> bool) {
        self.names.retain(|name, _| is_kept(name));
        self.places.retain(|(name, _), _| is_kept(name));
    }
}

/// An address, or of version 6 the network that one customer has.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => {
            let [a, b, c, d, ..] = six.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        four @ IpAddr::V4(_) => four,
    }
}

fn pair(name: &str, from: IpAddr) -> [u8; 32] {
    *Digest::of(format!("{from} {name}").as_bytes()).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::from_micros(seconds * 1_000_000)
    }

    fn from(number: u32) -> IpAddr {
        IpAddr::V4((0x0a00_0000 + number).into())
    }

    struct Counted {
        attempts: Attempts,
        rita: Arc<str>,
    }

    impl Counted {
        fn new() -> Self {
            Self { attempts: Attempts::default(), rita: "rita".into() }
        }

        /// How many of so many tries are let through.
        fn rita(&mut self, tries: u32, place: impl Fn(u32) -> IpAddr, now: u64) -> usize {
            let Self { attempts, rita } = self;
            (0..tries).filter(|number| attempts.take("rita", Some(rita), place(*number), at(now))).count()
        }
    }

    #[test]
    fn a_name_from_an_address_has_a_few_attempts_whosever_it_is() {
        let mut counted = Counted::new();
        assert_eq!(counted.rita(100, |_| from(1), 0), 5);
        let nobodys = (0..100).filter(|_| counted.attempts.take("otto", None, from(1), at(0))).count();
        assert_eq!(nobodys, 5, "names of nobody are told apart");
        assert_eq!(counted.rita(1, |_| from(1), 9), 0);
        assert_eq!(counted.rita(9, |_| from(1), 10), 1);
        // Elsewhere nobody is kept out by that.
        assert_eq!(counted.rita(1, |_| from(2), 10), 1);
    }

    #[test]
    fn many_addresses_do_not_keep_out_who_was_here_before() {
        let mut counted = Counted::new();
        let rita = Arc::clone(&counted.rita);
        counted.attempts.succeed(&rita, from(7), at(0));
        assert_eq!(counted.rita(1_000, |number| from(100 + number), 0), 20);
        assert_eq!(counted.rita(1, |_| from(8), 0), 0);
        assert_eq!(counted.rita(1, |_| from(7), 0), 1);
        counted.attempts.retain(|_| false);
        assert!(counted.attempts.places.is_empty() && counted.attempts.names.is_empty());
    }

    #[test]
    fn counts_are_bounded_and_a_reviewers_is_not_flushed_out() {
        let mut counted = Counted::new();
        assert_eq!(counted.rita(30, from, 0), 20);
        for number in 0..2 * PAIRS_MAX {
            counted.attempts.take(&format!("n{number}"), None, from(1), at(1));
        }
        assert_eq!(counted.attempts.pairs.len(), PAIRS_MAX);
        assert_eq!(counted.rita(30, from, 1), 0);
        let rita = Arc::clone(&counted.rita);
        (0..1_000).for_each(|number| counted.attempts.succeed(&rita, from(number), at(u64::from(number))));
        assert_eq!(counted.attempts.places.len(), PLACES_MAX);
        assert!(counted.attempts.places.contains_key(&(rita, from(999))));
    }

    #[test]
    fn a_network_of_version_6_is_one_address() {
        let mut counted = Counted::new();
        let six = |number: u32| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, u16::try_from(number).unwrap()));
        assert_eq!(counted.rita(100, six, 0), 5);
        assert_eq!(network("::ffff:10.0.0.1".parse().unwrap()), from(1));
    }
}
