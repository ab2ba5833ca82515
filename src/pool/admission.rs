//! Who has how many connections, leases and places in queues, over all pools of the proxy.
//!
//! Every client counts twice: for its tenant and for its login. A count is a plain atomic, so that a lease
//! costs two additions and no lock; the table of counts is touched only when a client comes or leaves.
//!
//! Owns: the counts, the limits in force. Does not own: the order of those who wait ([`super::queue`]).
//! Bounded: an account exists only while a client of its tenant or login is there.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::quota::{Limits, Party, Quota, TimeLimits};
use crate::fault::{Code, Fault};
use crate::tenant::TenantId;

/// The value of a maximum that is none.
const NO_LIMIT: usize = usize::MAX;

/// The value of a time limit that is none.
const NO_TIME_LIMIT: u64 = u64::MAX;

/// A count and its maximum.
#[derive(Debug)]
struct Gauge {
    now: AtomicUsize,
    max: AtomicUsize,
}

impl Gauge {
    fn new(max: Option<usize>) -> Self {
        Self { now: AtomicUsize::new(0), max: AtomicUsize::new(max.unwrap_or(NO_LIMIT)) }
    }

    fn set_max(&self, max: Option<usize>) {
        self.max.store(max.unwrap_or(NO_LIMIT), Ordering::Relaxed);
    }

    fn read(&self) -> usize {
        self.now.load(Ordering::Relaxed)
    }

    fn max(&self) -> usize {
        self.max.load(Ordering::Relaxed)
    }

    fn room(&self) -> usize {
        self.max().saturating_sub(self.read())
    }

    fn try_add(&self) -> bool {
        let max = self.max();
        let add = |now: usize| (now < max).then(|| now.saturating_add(1));
        self.now.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }

    fn subtract(&self) {
        let subtract = |now: usize| now.checked_sub(1);
        let has_been_there = self.now.fetch_update(Ordering::Relaxed, Ordering::Relaxed, subtract).is_ok();
        debug_assert!(has_been_there, "a count went below zero");
    }
}

/// What one tenant or login has at this moment, and what it may have.
#[derive(Debug)]
pub struct Account {
    connections: Gauge,
    leases: Gauge,
    waiting: Gauge,
    pins: Gauge,
    transaction_micros: AtomicU64,
    idle_micros: AtomicU64,
    statement_micros: AtomicU64,
    pinned_micros: AtomicU64,
}

/// The counts of an account, for SHOW and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccountCounts {
    /// Clients logged in.
    pub connections: usize,
    /// Servers on loan.
    pub leases: usize,
    /// Clients that wait for a server.
    pub waiting: usize,
    /// Servers that stay with their clients.
    pub pins: usize,
}

impl Account {
    fn new(quota: &Quota) -> Self {
        let account = Self {
            connections: Gauge::new(None),
            leases: Gauge::new(None),
            waiting: Gauge::new(None),
            pins: Gauge::new(None),
            transaction_micros: AtomicU64::new(NO_TIME_LIMIT),
            idle_micros: AtomicU64::new(NO_TIME_LIMIT),
            statement_micros: AtomicU64::new(NO_TIME_LIMIT),
            pinned_micros: AtomicU64::new(NO_TIME_LIMIT),
        };
        account.set(quota);
        account
    }

    fn set(&self, quota: &Quota) {
        self.connections.set_max(quota.connections_max);
        self.leases.set_max(quota.leases_max);
        self.waiting.set_max(quota.waiting_max);
        self.pins.set_max(quota.pins_max);
        self.transaction_micros.store(micros(quota.times.transaction), Ordering::Relaxed);
        self.idle_micros.store(micros(quota.times.idle_in_transaction), Ordering::Relaxed);
        self.statement_micros.store(micros(quota.times.statement), Ordering::Relaxed);
        self.pinned_micros.store(micros(quota.times.idle_pinned), Ordering::Relaxed);
    }

    /// The counts now.
    #[must_use]
    pub fn counts(&self) -> AccountCounts {
        AccountCounts {
            connections: self.connections.read(),
            leases: self.leases.read(),
            waiting: self.waiting.read(),
            pins: self.pins.read(),
        }
    }

    /// The time limits in force.
    #[must_use]
    pub fn times(&self) -> TimeLimits {
        TimeLimits {
            transaction: duration(&self.transaction_micros),
            idle_in_transaction: duration(&self.idle_micros),
            statement: duration(&self.statement_micros),
            idle_pinned: duration(&self.pinned_micros),
        }
    }

    /// Servers on loan at most; `usize::MAX` = no limit.
    pub(super) fn leases_max(&self) -> usize {
        self.leases.max()
    }

    /// How many more servers may be lent.
    pub(super) fn lease_room(&self) -> usize {
        self.leases.room()
    }

    pub(super) fn try_lease(&self) -> bool {
        self.leases.try_add()
    }

    pub(super) fn end_lease(&self) {
        self.leases.subtract();
    }

    pub(super) fn try_wait(&self) -> bool {
        self.waiting.try_add()
    }

    pub(super) fn end_wait(&self) {
        self.waiting.subtract();
    }

    /// Which limit was reached, for a refusal's detail.
    pub(super) fn waiting_detail(&self) -> String {
        format!("{} of {} wait already.", self.waiting.read(), self.waiting.max())
    }

    fn pins_detail(&self) -> String {
        format!("{} of {} servers stay with its clients already.", self.pins.read(), self.pins.max())
    }

    /// The same of leases.
    pub(super) fn leases_detail(&self) -> String {
        format!("{} of {} servers are in use by it.", self.leases.read(), self.leases.max())
    }
}

fn micros(limit: Option<Duration>) -> u64 {
    limit.map_or(NO_TIME_LIMIT, |limit| u64::try_from(limit.as_micros()).unwrap_or(NO_TIME_LIMIT))
}

fn duration(micros: &AtomicU64) -> Option<Duration> {
    Some(micros.load(Ordering::Relaxed)).filter(|micros| *micros != NO_TIME_LIMIT).map(Duration::from_micros)
}

#[derive(Debug, Default)]
struct Table {
    limits: Limits,
    parties: HashMap<Party, Arc<Account>>,
    logins: HashMap<Arc<str>, Arc<Account>>,
}

/// The accounts of all tenants and logins that have a client.
#[derive(Debug, Default)]
pub struct Admission {
    table: Mutex<Table>,
}

impl Admission {
    /// Nobody is there.
    #[must_use]
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { table: Mutex::new(Table { limits, ..Table::default() }) })
    }

    /// A client has logged in. It counts until the membership is dropped.
    ///
    /// # Errors
    /// Its tenant or its login has as many clients as it may.
    pub fn admit(self: &Arc<Self>, tenant: Option<&TenantId>, login: &Arc<str>) -> Result<Membership, Fault> {
        let party = tenant.map_or_else(|| Party::Login(Arc::clone(login)), |tenant| Party::Tenant(tenant.clone()));
        let mut table = self.table.lock();
        let Table { limits, parties, logins } = &mut *table;
        let of_party = match parties.entry(party.clone()) {
            Entry::Occupied(found) => Arc::clone(found.get()),
            Entry::Vacant(place) => Arc::clone(place.insert(Arc::new(Account::new(&limits.of_party(&party))))),
        };
        let of_login = match logins.entry(Arc::clone(login)) {
            Entry::Occupied(found) => Arc::clone(found.get()),
            Entry::Vacant(place) => Arc::clone(place.insert(Arc::new(Account::new(&limits.of_login(login))))),
        };
        let refused = if !of_party.connections.try_add() {
            Some((Code::TenantConnections, &of_party))
        } else if !of_login.connections.try_add() {
            of_party.connections.subtract();
            Some((Code::LoginConnections, &of_login))
        } else {
            None
        };
        if let Some((code, account)) = refused {
            let detail = format!("{} of {} are connected.", account.connections.read(), account.connections.max());
            table.forget_empty(&party, login);
            return Err(Fault::of(code).with_detail(detail));
        }
        drop(table);
        let admission = Arc::clone(self);
        Ok(Membership { admission, party, login: Arc::clone(login), of_party, of_login, is_claim: false })
    }

    /// A client acts for a tenant from now on, until this is dropped. For its login it is there already.
    ///
    /// # Errors
    /// The tenant has as many clients as it may.
    pub fn admit_claim(self: &Arc<Self>, tenant: &TenantId, own: &Membership) -> Result<Membership, Fault> {
        let party = Party::Tenant(tenant.clone());
        let mut table = self.table.lock();
        let Table { limits, parties, logins: _ } = &mut *table;
        let of_party = match parties.entry(party.clone()) {
            Entry::Occupied(found) => Arc::clone(found.get()),
            Entry::Vacant(place) => Arc::clone(place.insert(Arc::new(Account::new(&limits.of_party(&party))))),
        };
        if !of_party.connections.try_add() {
            let detail = format!("{} of {} are there.", of_party.connections.read(), of_party.connections.max());
            table.forget_empty(&party, &own.login);
            return Err(Fault::of(Code::TenantConnections).with_detail(detail));
        }
        drop(table);
        let (admission, login, of_login) = (Arc::clone(self), Arc::clone(&own.login), Arc::clone(&own.of_login));
        Ok(Membership { admission, party, login, of_party, of_login, is_claim: true })
    }

    /// Other limits count from now on: clients that are over them stay, and no more come.
    pub fn set_limits(&self, limits: Limits) {
        let mut table = self.table.lock();
        table.limits = limits;
        for (party, account) in &table.parties {
            account.set(&table.limits.of_party(party));
        }
        for (login, account) in &table.logins {
            account.set(&table.limits.of_login(login));
        }
    }

    /// How many accounts of tenants and bypass logins there are, and how many of logins.
    #[cfg(test)]
    pub(super) fn accounts(&self) -> (usize, usize) {
        let table = self.table.lock();
        (table.parties.len(), table.logins.len())
    }
}

impl Table {
    fn forget_empty(&mut self, party: &Party, login: &str) {
        if self.parties.get(party).is_some_and(|account| account.connections.read() == 0) {
            self.parties.remove(party);
        }
        if self.logins.get(login).is_some_and(|account| account.connections.read() == 0) {
            self.logins.remove(login);
        }
    }
}

/// A client's place in the accounts of its tenant and its login; it ends when this is dropped, which is after
/// every server it had is given back.
#[must_use]
#[derive(Debug)]
pub struct Membership {
    admission: Arc<Admission>,
    party: Party,
    login: Arc<str>,
    of_party: Arc<Account>,
    of_login: Arc<Account>,
    /// It is one client's second: its login counts it once.
    is_claim: bool,
}

impl Membership {
    /// Between whom servers are shared out.
    #[must_use]
    pub const fn party(&self) -> &Party {
        &self.party
    }

    /// The login.
    #[must_use]
    pub const fn login(&self) -> &Arc<str> {
        &self.login
    }

    /// The account of its tenant (of its login alone, where it has none).
    #[must_use]
    pub const fn party_account(&self) -> &Arc<Account> {
        &self.of_party
    }

    /// The account of its login.
    #[must_use]
    pub const fn login_account(&self) -> &Arc<Account> {
        &self.of_login
    }

    /// One of its servers is to stay with it beyond a transaction.
    ///
    /// # Errors
    /// Its tenant or its login has as many as it may.
    pub fn pin(&self) -> Result<(), Fault> {
        if !self.of_party.pins.try_add() {
            return Err(Fault::of(Code::TenantPins).with_detail(self.of_party.pins_detail()));
        }
        if !self.of_login.pins.try_add() {
            self.of_party.pins.subtract();
            return Err(Fault::of(Code::LoginPins).with_detail(self.of_login.pins_detail()));
        }
        Ok(())
    }

    /// It does not stay any more.
    pub fn unpin(&self) {
        self.of_party.pins.subtract();
        self.of_login.pins.subtract();
    }

    /// The time limits in force for this client.
    #[must_use]
    pub fn times(&self) -> TimeLimits {
        self.of_party.times().narrowed_by(self.of_login.times())
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut table = self.admission.table.lock();
        self.of_party.connections.subtract();
        if !self.is_claim {
            self.of_login.connections.subtract();
        }
        table.forget_empty(&self.party, &self.login);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenant::TenantKind;

    fn tenant(name: &str) -> TenantId {
        TenantId::parse(TenantKind::Text, name).unwrap()
    }

    fn code(refused: Result<Membership, Fault>) -> (Option<Code>, Option<String>) {
        let fault = refused.unwrap_err();
        (fault.code, fault.detail.map(std::borrow::Cow::into_owned))
    }

    fn two_each() -> Limits {
        let two = Quota { connections_max: Some(2), ..Quota::default() };
        let three = Quota { connections_max: Some(3), ..Quota::default() };
        Limits { tenant: two, login: three, ..Limits::default() }
    }

    #[test]
    fn a_tenant_and_a_login_have_so_many_connections_and_no_more() {
        let admission = Admission::new(two_each());
        let login: Arc<str> = "app".into();
        let (a, b) = (tenant("a"), tenant("b"));
        let first = admission.admit(Some(&a), &login).unwrap();
        let _second = admission.admit(Some(&a), &login).unwrap();
        let full = code(admission.admit(Some(&a), &login));
        assert_eq!(full, (Some(Code::TenantConnections), Some("2 of 2 are connected.".to_owned())));
        let _third = admission.admit(Some(&b), &login).unwrap();
        let full = code(admission.admit(Some(&b), &login));
        assert_eq!(full, (Some(Code::LoginConnections), Some("3 of 3 are connected.".to_owned())));
        drop(first);
        assert!(admission.admit(Some(&a), &login).is_ok());
    }

    #[test]
    fn accounts_exist_only_while_somebody_is_there() {
        let admission = Admission::new(two_each());
        let login: Arc<str> = "app".into();
        let places: Vec<_> = ["a", "b"].iter().map(|name| admission.admit(Some(&tenant(name)), &login)).collect();
        let bypass = admission.admit(None, &"ops".into()).unwrap();
        assert_eq!(admission.accounts(), (3, 2));
        drop((places, bypass));
        assert_eq!(admission.accounts(), (0, 0));
        let none = Quota { connections_max: Some(0), ..Quota::default() };
        admission.set_limits(Limits { tenant: none, ..Limits::default() });
        assert!(admission.admit(Some(&tenant("a")), &login).is_err());
        assert_eq!(admission.accounts(), (0, 0));
    }

    #[test]
    fn limits_change_under_those_who_are_there() {
        let admission = Admission::new(two_each());
        let login: Arc<str> = "app".into();
        let a = tenant("a");
        let place = admission.admit(Some(&a), &login).unwrap();
        let one = Quota { connections_max: Some(1), ..Quota::default() };
        let long = TimeLimits { statement: Some(Duration::from_secs(7)), ..TimeLimits::default() };
        let mut limits = Limits { tenants: [(a.clone(), one)].into(), ..two_each() };
        limits.logins.insert(Arc::clone(&login), Quota { times: long, ..Quota::default() });
        admission.set_limits(limits);
        assert_eq!(code(admission.admit(Some(&a), &login)).0, Some(Code::TenantConnections));
        assert_eq!(place.times(), long);
        admission.set_limits(Limits::default());
        assert!(admission.admit(Some(&a), &login).is_ok());
        assert!(place.times().is_unlimited());
    }
}
