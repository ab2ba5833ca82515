//! Emergencies: for a while a login may bypass beyond its rules.
//!
//! ```text
//!  open ──▶ Emergency ── its time is over, an administrator, FREEZE BYPASS ──▶ Closed
//! ```
//!
//! They live as long as the proxy: a restart ends them all, which is the safe side.
//!
//! Owns: which are open, and until when. Does not own: records of them, sessions under them, clocks.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::time::TimeOfDay;

/// Most at a time: each is a person's decision.
pub const OPEN_MAX: usize = 100;

/// An emergency's name in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmergencyId(pub Uuid);

impl std::fmt::Display for EmergencyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// One that is open, or was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emergency {
    /// Its name.
    pub id: EmergencyId,
    /// Whose transactions it is about.
    pub login: Arc<str>,
    /// When it ends.
    pub until: TimeOfDay,
    /// Why.
    pub reason: Arc<str>,
    /// Who has opened it.
    pub by: Arc<str>,
    /// Where from.
    pub address: Arc<str>,
    /// When.
    pub at: TimeOfDay,
}

/// Why it is not open any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// Its time is over.
    InTime,
    /// An administrator said so.
    ByOrder,
    /// All bypasses were frozen.
    ByFreeze,
    /// Another one of the same login took its place.
    Replaced,
    /// Its record was written, or may be, and it was not opened.
    NeverOpen,
}

impl Closed {
    /// The reason in the ledger.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Closed::InTime => "its time is over",
            Closed::ByOrder => "closed by an administrator",
            Closed::ByFreeze => "all bypasses were frozen",
            Closed::Replaced => "another emergency of the login took its place",
            Closed::NeverOpen => "it was not opened after all",
        }
    }
}

/// Why one is not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EmergencyFault {
    /// It would last too long.
    #[error("an emergency lasts {} s at most ([bypass] emergency_max)", .0.as_secs())]
    TooLong(Duration),
    /// There are too many.
    #[error("{OPEN_MAX} emergencies are open")]
    TooMany,
}

/// Those that are open; one for each login.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Emergencies {
    open: Vec<Arc<Emergency>>,
}

impl Emergencies {
    /// With one more; and the one of the same login, if there is one, is closed.
    ///
    /// # Errors
    /// It would last longer than `longest`, or there are too many.
    pub fn with(
        &self,
        emergency: Emergency,
        longest: Duration,
    ) -> Result<(Self, Option<Arc<Emergency>>), EmergencyFault> {
        let micros = emergency.until.unix_micros().saturating_sub(emergency.at.unix_micros());
        if u128::try_from(micros).unwrap_or(0) > longest.as_micros() {
            return Err(EmergencyFault::TooLong(longest));
        }
        let mut next = self.clone();
        let replaced = next.take(|open| open.login == emergency.login);
        if next.open.len() >= OPEN_MAX {
            return Err(EmergencyFault::TooMany);
        }
        next.open.push(Arc::new(emergency));
        Ok((next, replaced))
    }

    /// Without the one of this name, or of this login.
    #[must_use]
    pub fn without(&self, name: &str) -> Option<(Self, Arc<Emergency>)> {
        let mut next = self.clone();
        let taken = next.take(|open| open.id.to_string() == name || *open.login == *name)?;
        Some((next, taken))
    }

    /// Without those whose time is over; those.
    #[must_use]
    pub fn expired(&self, now: TimeOfDay) -> Option<(Self, Vec<Arc<Emergency>>)> {
        let is_over = |open: &Arc<Emergency>| open.until <= now;
        if !self.open.iter().any(is_over) {
            return None;
        }
        let (over, open) = self.open.iter().cloned().partition(is_over);
        Some((Self { open }, over))
    }

    /// The login's.
    #[must_use]
    pub fn of(&self, login: &str) -> Option<&Arc<Emergency>> {
        self.open.iter().find(|open| *open.login == *login)
    }

    /// All of them, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Emergency>> {
        self.open.iter()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    fn take(&mut self, is_it: impl Fn(&Emergency) -> bool) -> Option<Arc<Emergency>> {
        let at = self.open.iter().position(|open| is_it(open))?;
        Some(self.open.remove(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> TimeOfDay {
        TimeOfDay::from_unix_micros(seconds * 1_000_000)
    }

    fn one(id: u128, login: &str, until: i64) -> Emergency {
        let words = || Arc::<str>::from("x");
        Emergency {
            id: EmergencyId(Uuid::from_u128(id)),
            login: login.into(),
            until: at(until),
            reason: words(),
            by: words(),
            address: words(),
            at: at(0),
        }
    }

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn a_login_has_one_and_it_ends_in_time() {
        let (first, none) = Emergencies::default().with(one(1, "ops", 60), HOUR).unwrap();
        assert_eq!(none, None);
        let (second, replaced) = first.with(one(2, "ops", 90), HOUR).unwrap();
        assert_eq!(replaced.unwrap().id, EmergencyId(Uuid::from_u128(1)));
        assert_eq!((second.iter().count(), second.expired(at(89))), (1, None));
        let (left, over) = second.expired(at(90)).unwrap();
        assert_eq!((left.is_empty(), over.len()), (true, 1));
        let id = Uuid::from_u128(2).to_string();
        assert!(second.without(&id).is_some() && second.without("ops").is_some() && second.without("c").is_none());
    }

    #[test]
    fn none_is_longer_than_allowed_and_not_too_many() {
        assert_eq!(Emergencies::default().with(one(1, "ops", 3_601), HOUR), Err(EmergencyFault::TooLong(HOUR)));
        let mut all = Emergencies::default();
        for number in 0..OPEN_MAX {
            all = all.with(one(3, &format!("login {number}"), 5), HOUR).unwrap().0;
        }
        assert_eq!(all.with(one(3, "more", 5), HOUR), Err(EmergencyFault::TooMany));
        // In place of one there is room.
        assert!(all.with(one(3, "login 7", 5), HOUR).is_ok());
    }
}
