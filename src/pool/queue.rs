//! Who waits for a server of one pool, and who is next.
//!
//! Clients wait in *lines*, one for each pair of tenant and login. In a line it is first come, first served.
//! Between lines the next server goes to the tenant that has the fewest servers now, among equals to the one
//! that has waited longest for its turn. So a tenant is passed over only by tenants that have fewer servers, or
//! as many and an earlier turn: one that has none is served after at most as many grants as there were
//! tenants waiting when it came, however many clients the others have.
//!
//! ```text
//!              first waits                 a maximum is reached
//!   empty line ───────────▶ ready (by rank) ───────────────────▶ parked at the tenant or login
//!       ▲                     │   ▲                                  │
//!       └──── last served ────┘   └──── one of its servers is back ──┘
//! ```
//!
//! A line whose tenant or login has all the servers it may have is parked there, so that nobody looks at it in
//! vain: every step costs the logarithm of the lines. Where nobody waits, a lease costs a few additions.
//!
//! Owns: lines, their order, how much of the pool each tenant has. Does not own: servers ([`super::Pool`]),
//! counts over several pools ([`super::Admission`]).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::Ticket;
use super::admission::{Account, Membership};
use super::quota::{Fairness, Party};
use super::share::{ACTIVE, Share, Use, share_of};
use super::table::Table;
use crate::fault::{Code, Fault};
use crate::time::Moment;

/// Tenants without clients are forgotten, and shares corrected for changed limits, this often.
const REVIEW: Duration = Duration::from_secs(1);

/// A client's place in a pool: its line. Valid from [`super::Pool::join`] to [`super::Pool::leave`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Seat(usize);

/// The order of lines: fewest servers, then the earliest turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    leases: usize,
    turn: u64,
    line: usize,
}

/// Where a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Nobody waits in it.
    Empty,
    /// Among those that may be next.
    Ready(Rank),
    /// Its tenant (or login) has reached a maximum.
    Parked(Owner, Rank),
}

/// One of the two that a line belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Tenant,
    Login,
}

#[derive(Debug)]
struct Line {
    tenant: usize,
    login: usize,
    seats: usize,
    tickets: BTreeSet<u64>,
    place: Place,
}

#[derive(Debug)]
struct Tenant {
    party: Party,
    account: Arc<Account>,
    seats: usize,
    lines: Vec<usize>,
    parked: BTreeSet<Rank>,
    /// Its clients that wait, parked or not.
    queued: usize,
    turn: u64,
    now: Use,
    asked_at: Moment,
    is_active: bool,
}

#[derive(Debug)]
struct Login {
    name: Arc<str>,
    account: Arc<Account>,
    seats: usize,
    parked: BTreeSet<Rank>,
}

#[derive(Debug)]
struct Waiting<W> {
    line: usize,
    waiter: W,
    since: Moment,
}

/// The lines of one pool.
#[derive(Debug)]
pub(super) struct Queue<W> {
    fairness: Fairness,
    size: usize,
    tenants: Table<Tenant>,
    logins: Table<Login>,
    lines: Table<Line>,
    tenant_numbers: HashMap<Party, usize>,
    login_numbers: HashMap<Arc<str>, usize>,
    ready: BTreeSet<Rank>,
    /// By ticket, and so by arrival.
    waiting: BTreeMap<u64, Waiting<W>>,
    ready_count: usize,
    next_number: u64,
    share: Share,
    active: usize,
    reviewed_at: Moment,
}

impl<W> Queue<W> {
    pub(super) fn new(size: usize, fairness: Fairness) -> Self {
        Self {
            fairness,
            size,
            tenants: Table::default(),
            logins: Table::default(),
            lines: Table::default(),
            tenant_numbers: HashMap::new(),
            login_numbers: HashMap::new(),
            ready: BTreeSet::new(),
            waiting: BTreeMap::new(),
            ready_count: 0,
            next_number: 0,
            share: Share::new(size),
            active: 0,
            reviewed_at: Moment::START,
        }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// How many wait that no maximum of their own holds back.
    pub(super) const fn ready_count(&self) -> usize {
        self.ready_count
    }

    /// A client comes.
    pub(super) fn join(&mut self, membership: &Membership) -> Seat {
        let tenant = self.join_tenant(membership);
        let login = self.join_login(membership);
        let lines = self.tenants.get(tenant).map_or(&[][..], |tenant| &tenant.lines);
        let known = lines.iter().copied().find(|line| self.lines.get(*line).is_some_and(|line| line.login == login));
        let line = known.unwrap_or_else(|| {
            let fresh = Line { tenant, login, seats: 0, tickets: BTreeSet::new(), place: Place::Empty };
            let line = self.lines.insert(fresh);
            if let Some(tenant) = self.tenants.get_mut(tenant) {
                tenant.lines.push(line);
            }
            line
        });
        if let Some(line) = self.lines.get_mut(line) {
            line.seats += 1;
        }
        Seat(line)
    }

    fn join_tenant(&mut self, membership: &Membership) -> usize {
        let account = Arc::clone(membership.party_account());
        let number = self.tenant_numbers.get(membership.party()).copied();
        if let Some((number, tenant)) = number.and_then(|number| Some((number, self.tenants.get_mut(number)?))) {
            tenant.seats += 1;
            tenant.account = account;
            return number;
        }
        let number = self.tenants.insert(Tenant {
            party: membership.party().clone(),
            account,
            seats: 1,
            lines: Vec::new(),
            parked: BTreeSet::new(),
            queued: 0,
            turn: 0,
            now: Use { leases_max: usize::MAX, ..Use::default() },
            asked_at: Moment::START,
            is_active: false,
        });
        self.tenant_numbers.insert(membership.party().clone(), number);
        number
    }

    fn join_login(&mut self, membership: &Membership) -> usize {
        let number = self.login_numbers.get(membership.login()).copied();
        if let Some((number, login)) = number.and_then(|number| Some((number, self.logins.get_mut(number)?))) {
            login.seats += 1;
            return number;
        }
        let (name, account) = (Arc::clone(membership.login()), Arc::clone(membership.login_account()));
        let number = self.logins.insert(Login { name, account, seats: 1, parked: BTreeSet::new() });
        self.login_numbers.insert(Arc::clone(membership.login()), number);
        number
    }

    /// A client leaves; it has given up its waits and given back its servers. Its tenant is remembered until the
    /// next review, so that one that comes and goes for every transaction keeps its share.
    pub(super) fn leave(&mut self, seat: Seat) {
        let Some(line) = self.lines.get_mut(seat.0) else { return };
        line.seats = line.seats.saturating_sub(1);
        let (tenant, login, is_last) = (line.tenant, line.login, line.seats == 0);
        debug_assert!(!is_last || line.tickets.is_empty());
        if let Some(tenant) = self.tenants.get_mut(tenant) {
            tenant.seats = tenant.seats.saturating_sub(1);
            if is_last {
                tenant.lines.retain(|line| *line != seat.0);
            }
        }
        if is_last {
            self.lines.remove(seat.0);
        }
        let Some(found) = self.logins.get_mut(login) else { return };
        found.seats = found.seats.saturating_sub(1);
        if found.seats == 0
            && let Some(gone) = self.logins.remove(login)
        {
            self.login_numbers.remove(&gone.name);
        }
    }

    /// Counts a server as lent to a client that has just asked, if it may have one now that so many are free.
    pub(super) fn try_take(&mut self, seat: Seat, free: usize, now: Moment) -> bool {
        let Some(line) = self.lines.get(seat.0) else { return false };
        let (tenant, login) = (line.tenant, line.login);
        if !line.tickets.is_empty() {
            return false;
        }
        self.note_active(tenant, now);
        if !self.is_within(tenant, free) || self.charge(tenant, login).is_err() {
            return false;
        }
        self.change(tenant, |now| now.leases += 1);
        self.rank_again(tenant);
        true
    }

    /// A client waits.
    ///
    /// # Errors
    /// As many of its tenant or login wait as may.
    pub(super) fn push(&mut self, seat: Seat, waiter: impl FnOnce() -> W, now: Moment) -> Result<Ticket, Fault> {
        let Some(line) = self.lines.get(seat.0) else { return Err(Fault::of(Code::Internal)) };
        let tenant = line.tenant;
        let (of_tenant, of_login) = self.accounts(line).ok_or_else(|| Fault::of(Code::Internal))?;
        if !of_tenant.try_wait() {
            return Err(Fault::of(Code::TenantWaiting).with_detail(of_tenant.waiting_detail()));
        }
        if !of_login.try_wait() {
            let fault = Fault::of(Code::LoginWaiting).with_detail(of_login.waiting_detail());
            of_tenant.end_wait();
            return Err(fault);
        }
        self.note_active(tenant, now);
        let ticket = self.number();
        if let Some(tenant) = self.tenants.get_mut(tenant) {
            // A turn begins with waiting; one that is being waited for already goes on.
            if tenant.queued == 0 {
                tenant.turn = ticket;
            }
            tenant.queued += 1;
        }
        self.waiting.insert(ticket, Waiting { line: seat.0, waiter: waiter(), since: now });
        let is_first = self.lines.get(seat.0).is_some_and(|line| line.tickets.is_empty());
        let place = if is_first { self.full_owner(seat.0) } else { self.pull(seat.0) };
        if let Some(line) = self.lines.get_mut(seat.0) {
            line.tickets.insert(ticket);
        }
        self.put(seat.0, place);
        Ok(Ticket(ticket))
    }

    /// A client gives up waiting.
    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<W> {
        self.take_ticket(ticket.0).map(|waiting| waiting.waiter)
    }

    /// The one that came first, if it has waited for at least so long (time before `from` not counted), and what it is
    /// told if it is its own fault.
    pub(super) fn pop_late(&mut self, now: Moment, limit: Duration, from: Moment) -> Option<(W, Option<Fault>)> {
        let (ticket, first) = self.waiting.first_key_value()?;
        if now.since(first.since.max(from)) < limit {
            return None;
        }
        let (ticket, reason) = (*ticket, self.held_back(first.line));
        self.take_ticket(ticket).map(|waiting| (waiting.waiter, reason))
    }

    /// Whoever came first, whatever the reason.
    pub(super) fn pop_any(&mut self) -> Option<W> {
        let ticket = *self.waiting.first_key_value()?.0;
        self.take_ticket(ticket).map(|waiting| waiting.waiter)
    }

    /// Who gets one of so many free servers. It counts as lent.
    pub(super) fn pop_next(&mut self, free: usize) -> Option<W> {
        loop {
            let rank = *self.ready.first()?;
            let line = self.lines.get(rank.line)?;
            let (tenant, login) = (line.tenant, line.login);
            // Those behind have at least as many servers, so they are beyond their shares, too.
            if !self.is_within(tenant, free) {
                return None;
            }
            if let Err(owner) = self.charge(tenant, login) {
                self.pull(rank.line);
                self.put(rank.line, Some(owner));
                continue;
            }
            let first = *self.lines.get(rank.line)?.tickets.first()?;
            let waiting = self.take_ticket(first)?;
            let turn = self.number();
            if let Some(tenant) = self.tenants.get_mut(tenant) {
                tenant.turn = turn;
            }
            self.change(tenant, |now| now.leases += 1);
            self.rank_again(tenant);
            return Some(waiting.waiter);
        }
    }

    /// A server that was lent to this client is back, or closed.
    pub(super) fn release(&mut self, seat: Seat) {
        let Some(line) = self.lines.get(seat.0) else { return };
        let (tenant, login) = (line.tenant, line.login);
        if let Some((of_tenant, of_login)) = self.accounts(line) {
            of_tenant.end_lease();
            of_login.end_lease();
        }
        self.change(tenant, |now| now.leases = now.leases.saturating_sub(1));
        self.rank_again(tenant);
        self.unpark(Owner::Tenant, tenant, 1);
        self.unpark(Owner::Login, login, 1);
    }

    /// A server that was lent over one line counts as lent over another of the same login from now on.
    ///
    /// # Errors
    /// The other tenant has as many as it may.
    pub(super) fn transfer(&mut self, from: Seat, to: Seat, now: Moment) -> Result<(), Fault> {
        let tenants = self.lines.get(from.0).zip(self.lines.get(to.0)).map(|(from, to)| (from.tenant, to.tenant));
        let Some((from, to)) = tenants else { return Err(Fault::of(Code::Internal)) };
        if from == to {
            return Ok(());
        }
        self.note_active(to, now);
        let Some(account) = self.tenants.get(to).map(|tenant| Arc::clone(&tenant.account)) else {
            return Err(Fault::of(Code::Internal));
        };
        if !account.try_lease() {
            return Err(Fault::of(Code::TenantLeases).with_detail(account.leases_detail()));
        }
        if let Some(tenant) = self.tenants.get(from) {
            tenant.account.end_lease();
        }
        self.change(from, |now| now.leases = now.leases.saturating_sub(1));
        self.rank_again(from);
        self.unpark(Owner::Tenant, from, 1);
        self.change(to, |now| now.leases += 1);
        self.rank_again(to);
        Ok(())
    }

    /// Time has passed: what was needed is forgotten, and limits that are counted over several pools, or were
    /// changed, are looked at again.
    pub(super) fn sweep(&mut self, now: Moment) {
        self.share.forget(now);
        if self.waiting.len() > self.ready_count {
            self.unpark_where_there_is_room();
        }
        if now.since(self.reviewed_at) >= REVIEW {
            self.reviewed_at = now;
            self.review(now);
        }
    }

    /// The pool has another size, or other rules.
    pub(super) fn set(&mut self, size: usize, fairness: Fairness) {
        self.size = size;
        self.fairness = fairness;
        self.restate();
        for tenant in self.tenants.numbers() {
            self.rank_again(tenant);
        }
        self.unpark_where_there_is_room();
    }

    fn number(&mut self) -> u64 {
        self.next_number = self.next_number.wrapping_add(1);
        self.next_number
    }

    fn accounts(&self, line: &Line) -> Option<(&Account, &Account)> {
        Some((&*self.tenants.get(line.tenant)?.account, &*self.logins.get(line.login)?.account))
    }

    /// Whether a tenant may have one of so many free servers, for all that others need.
    fn is_within(&self, tenant: usize, free: usize) -> bool {
        let Some(tenant) = self.tenants.get(tenant) else { return false };
        match self.fairness {
            Fairness::Off => true,
            Fairness::Tenants => tenant.now.leases < self.share.each() || self.share.may_exceed(free),
        }
    }

    /// Counts one more lease, or says whose maximum forbids it.
    fn charge(&self, tenant: usize, login: usize) -> Result<(), Owner> {
        let (Some(tenant), Some(login)) = (self.tenants.get(tenant), self.logins.get(login)) else {
            return Err(Owner::Tenant);
        };
        if !tenant.account.try_lease() {
            return Err(Owner::Tenant);
        }
        if !login.account.try_lease() {
            tenant.account.end_lease();
            return Err(Owner::Login);
        }
        Ok(())
    }

    fn note_active(&mut self, tenant: usize, now: Moment) {
        let Some(tenant) = self.tenants.get_mut(tenant) else { return };
        tenant.asked_at = now;
        if !std::mem::replace(&mut tenant.is_active, true) {
            tenant.now.leases_max = tenant.account.leases_max();
            let each = self.share.each();
            self.active += 1;
            // There are few different shares, so this is rare however many tenants come.
            if share_of(self.size, self.active) != each {
                self.restate();
            }
        }
    }

    fn restate(&mut self) {
        self.share.restate(self.size, self.active, self.tenants.iter().map(|tenant| tenant.now));
    }

    /// Changes what a tenant has and wants, and the shares with it.
    fn change(&mut self, tenant: usize, change: impl FnOnce(&mut Use)) {
        let Some(tenant) = self.tenants.get_mut(tenant) else { return };
        let before = tenant.now;
        change(&mut tenant.now);
        self.share.on_change(before, tenant.now);
    }

    /// Takes one out of its line.
    fn take_ticket(&mut self, ticket: u64) -> Option<Waiting<W>> {
        let waiting = self.waiting.remove(&ticket)?;
        let number = waiting.line;
        let place = self.pull(number);
        if let Some(line) = self.lines.get_mut(number) {
            line.tickets.remove(&ticket);
        }
        self.put(number, place);
        let line = self.lines.get(number)?;
        if let Some((of_tenant, of_login)) = self.accounts(line) {
            of_tenant.end_wait();
            of_login.end_wait();
        }
        let tenant = line.tenant;
        if let Some(tenant) = self.tenants.get_mut(tenant) {
            tenant.queued = tenant.queued.saturating_sub(1);
        }
        Some(waiting)
    }

    /// Whose maximum stands in a line's way at this moment.
    fn full_owner(&self, number: usize) -> Option<Owner> {
        let (of_tenant, of_login) = self.lines.get(number).and_then(|line| self.accounts(line))?;
        match (of_tenant.lease_room(), of_login.lease_room()) {
            (0, _) => Some(Owner::Tenant),
            (_, 0) => Some(Owner::Login),
            _ => None,
        }
    }

    /// What a client that waited in vain is told if a maximum of its own held it back.
    fn held_back(&self, number: usize) -> Option<Fault> {
        let line = self.lines.get(number)?;
        let (of_tenant, of_login) = self.accounts(line)?;
        match line.place {
            Place::Parked(Owner::Tenant, _) => {
                Some(Fault::of(Code::TenantLeases).with_detail(of_tenant.leases_detail()))
            }
            Place::Parked(Owner::Login, _) => Some(Fault::of(Code::LoginLeases).with_detail(of_login.leases_detail())),
            Place::Empty | Place::Ready(_) => None,
        }
    }

    /// Takes a line out of the order; says at whom it was parked.
    fn pull(&mut self, number: usize) -> Option<Owner> {
        let line = self.lines.get_mut(number)?;
        let (tenant, login, count) = (line.tenant, line.login, line.tickets.len());
        match std::mem::replace(&mut line.place, Place::Empty) {
            Place::Empty => None,
            Place::Ready(rank) => {
                self.ready.remove(&rank);
                self.ready_count = self.ready_count.saturating_sub(count);
                self.change(tenant, |now| now.waiting = now.waiting.saturating_sub(count));
                None
            }
            Place::Parked(owner, rank) => {
                if let Some(parked) = self.parked_at(owner, tenant, login) {
                    parked.remove(&rank);
                }
                Some(owner)
            }
        }
    }

    /// Puts a line into the order again, by its rank of now; an empty one stays out.
    fn put(&mut self, number: usize, parked_at: Option<Owner>) {
        let Some(line) = self.lines.get(number) else { return };
        let (tenant, login, count) = (line.tenant, line.login, line.tickets.len());
        let (Some(first), Some(found)) = (line.tickets.first().copied(), self.tenants.get(tenant)) else { return };
        let rank = match self.fairness {
            Fairness::Tenants => Rank { leases: found.now.leases, turn: found.turn, line: number },
            Fairness::Off => Rank { leases: 0, turn: first, line: number },
        };
        let place = match parked_at {
            None => {
                self.ready.insert(rank);
                self.ready_count = self.ready_count.saturating_add(count);
                self.change(tenant, |now| now.waiting = now.waiting.saturating_add(count));
                Place::Ready(rank)
            }
            Some(owner) => {
                if let Some(parked) = self.parked_at(owner, tenant, login) {
                    parked.insert(rank);
                }
                Place::Parked(owner, rank)
            }
        };
        if let Some(line) = self.lines.get_mut(number) {
            line.place = place;
        }
    }

    fn parked_at(&mut self, owner: Owner, tenant: usize, login: usize) -> Option<&mut BTreeSet<Rank>> {
        match owner {
            Owner::Tenant => self.tenants.get_mut(tenant).map(|tenant| &mut tenant.parked),
            Owner::Login => self.logins.get_mut(login).map(|login| &mut login.parked),
        }
    }

    /// A tenant has more or fewer servers, or had its turn: its lines are elsewhere in the order.
    fn rank_again(&mut self, tenant: usize) {
        let waiting = self.tenants.get(tenant).filter(|tenant| tenant.queued > 0);
        let count = waiting.map_or(0, |tenant| tenant.lines.len());
        for at in 0..count {
            let Some(line) = self.tenants.get(tenant).and_then(|tenant| tenant.lines.get(at).copied()) else { return };
            let place = self.pull(line);
            self.put(line, place);
        }
    }

    /// A tenant or login may have so many more servers: as many of the lines parked there are ready, the first
    /// in the order first.
    fn unpark(&mut self, owner: Owner, number: usize, room: usize) {
        for _ in 0..room {
            let Some(rank) = self.parked_at(owner, number, number).and_then(|parked| parked.first().copied()) else {
                return;
            };
            self.pull(rank.line);
            self.put(rank.line, None);
        }
    }

    fn unpark_where_there_is_room(&mut self) {
        for number in self.tenants.numbers() {
            let room = self.tenants.get(number).map_or(0, |tenant| tenant.account.lease_room());
            self.unpark(Owner::Tenant, number, room);
        }
        for number in self.logins.numbers() {
            let room = self.logins.get(number).map_or(0, |login| login.account.lease_room());
            self.unpark(Owner::Login, number, room);
        }
    }

    /// Forgets tenants that are gone, and those that have not asked for long do not share any more.
    fn review(&mut self, now: Moment) {
        for number in self.tenants.numbers() {
            let Some(tenant) = self.tenants.get_mut(number) else { continue };
            tenant.now.leases_max = tenant.account.leases_max();
            let is_quiet = tenant.now.leases == 0 && tenant.queued == 0;
            if tenant.is_active && is_quiet && now.since(tenant.asked_at) > ACTIVE {
                tenant.is_active = false;
                self.active = self.active.saturating_sub(1);
            }
            if tenant.seats == 0
                && !tenant.is_active
                && let Some(gone) = self.tenants.remove(number)
            {
                self.tenant_numbers.remove(&gone.party);
            }
        }
        self.restate();
    }

    /// What must hold between any two events.
    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        let mut places = (0, 0, 0);
        for number in self.lines.numbers() {
            let Some(line) = self.lines.get(number) else { continue };
            let (Some(tenant), Some(login)) = (self.tenants.get(line.tenant), self.logins.get(line.login)) else {
                panic!("line {number} belongs to nobody");
            };
            let rank = match (self.fairness, line.tickets.first()) {
                (_, None) => {
                    assert_eq!(line.place, Place::Empty);
                    continue;
                }
                (Fairness::Tenants, Some(_)) => Rank { leases: tenant.now.leases, turn: tenant.turn, line: number },
                (Fairness::Off, Some(first)) => Rank { leases: 0, turn: *first, line: number },
            };
            places.0 += line.tickets.len();
            match line.place {
                Place::Empty => panic!("line {number} is nowhere"),
                Place::Ready(at) => {
                    places.1 += line.tickets.len();
                    assert!(at == rank && self.ready.contains(&at));
                }
                Place::Parked(Owner::Tenant, at) => assert!(at == rank && tenant.parked.contains(&at)),
                Place::Parked(Owner::Login, at) => assert!(at == rank && login.parked.contains(&at)),
            }
            places.2 += 1;
        }
        let parked = self.tenants.iter().map(|tenant| tenant.parked.len()).sum::<usize>();
        let parked = parked + self.logins.iter().map(|login| login.parked.len()).sum::<usize>();
        assert_eq!((places.0, places.1), (self.waiting.len(), self.ready_count));
        assert_eq!(places.2, self.ready.len() + parked);
        assert_eq!(self.active, self.tenants.iter().filter(|tenant| tenant.is_active).count());
        let uses: Vec<Use> = self.tenants.iter().map(|tenant| tenant.now).collect();
        self.share.check_invariants(self.active, &uses);
    }

    /// Whether nothing is kept of anybody.
    #[cfg(test)]
    pub(super) fn is_forgotten(&self) -> bool {
        let has_none = self.tenants.iter().count() + self.logins.iter().count() + self.lines.iter().count() == 0;
        has_none && self.tenant_numbers.is_empty() && self.login_numbers.is_empty() && self.active == 0
    }
}
