//! How much a tenant or a login may take: numbers and times, as configured.
//!
//! Owns: the limits themselves. Does not own: who has taken how much ([`super::Admission`]), nor how long
//! something has lasted (the session's stopwatch).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::tenant::TenantId;

/// For whom servers are lent and between whom they are shared out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Party {
    /// Sessions that act for this tenant.
    Tenant(TenantId),
    /// Sessions of a login that acts for no tenant (bypass, migration).
    Login(Arc<str>),
}

/// How long things may last; `None` = as long as they like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeLimits {
    /// A transaction, from its first message to its end.
    pub transaction: Option<Duration>,
    /// A client that has a server and asks nothing of it.
    pub idle_in_transaction: Option<Duration>,
    /// A statement.
    pub statement: Option<Duration>,
    /// A client between transactions whose server stays with it.
    pub idle_pinned: Option<Duration>,
}

impl TimeLimits {
    /// Of each pair the shorter one: both count.
    #[must_use]
    pub fn narrowed_by(self, other: Self) -> Self {
        Self {
            transaction: shorter(self.transaction, other.transaction),
            idle_in_transaction: shorter(self.idle_in_transaction, other.idle_in_transaction),
            statement: shorter(self.statement, other.statement),
            idle_pinned: shorter(self.idle_pinned, other.idle_pinned),
        }
    }

    /// Whether nothing is limited.
    #[must_use]
    pub fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }
}

fn shorter(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (limit, None) | (None, limit) => limit,
    }
}

/// The limits of one tenant or login; `None` = no limit of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Clients logged in.
    pub connections_max: Option<usize>,
    /// Servers on loan at once, over all pools.
    pub leases_max: Option<usize>,
    /// Clients that wait for a server, over all pools.
    pub waiting_max: Option<usize>,
    /// Servers that stay with their clients beyond a transaction, over all pools.
    pub pins_max: Option<usize>,
    /// How long things may last.
    pub times: TimeLimits,
}

/// How a pool's servers are shared out among those who wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fairness {
    /// The next server goes to the tenant that has the fewest, and none takes what others are about to need.
    #[default]
    Tenants,
    /// First come, first served, whoever it is.
    Off,
}

/// All limits of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// How servers are shared out.
    pub fairness: Fairness,
    /// Of every tenant that has none of its own.
    pub tenant: Quota,
    /// Of single tenants.
    pub tenants: BTreeMap<TenantId, Quota>,
    /// Of every login that has none of its own.
    pub login: Quota,
    /// Of single logins.
    pub logins: BTreeMap<Arc<str>, Quota>,
}

impl Limits {
    /// The limits of one party. A login without a tenant has those of its login alone.
    #[must_use]
    pub fn of_party(&self, party: &Party) -> Quota {
        match party {
            Party::Tenant(tenant) => self.tenants.get(tenant).copied().unwrap_or(self.tenant),
            Party::Login(_) => Quota::default(),
        }
    }

    /// The limits of one login.
    #[must_use]
    pub fn of_login(&self, login: &str) -> Quota {
        self.logins.get(login).copied().unwrap_or(self.login)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_times_the_shorter_counts() {
        let second = Some(Duration::from_secs(1));
        let minute = Some(Duration::from_secs(60));
        let tenant =
            TimeLimits { transaction: second, idle_in_transaction: None, statement: minute, idle_pinned: second };
        let login =
            TimeLimits { transaction: minute, idle_in_transaction: minute, statement: None, idle_pinned: minute };
        let both =
            TimeLimits { transaction: second, idle_in_transaction: minute, statement: minute, idle_pinned: second };
        assert_eq!(tenant.narrowed_by(login), both);
        assert!(!both.is_unlimited() && TimeLimits::default().is_unlimited());
    }
}
