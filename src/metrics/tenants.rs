//! Counts by tenant: the busiest K by name, everybody else together.
//!
//! There may be a hundred thousand tenants and Prometheus keeps a series for every name it has ever seen, so
//! only K have one. A tenant with a client has counters of its own (as many as clients, so bounded by their
//! limit); which of them are *shown* is decided once a period: a tenant that did more than twice as much as a
//! shown one takes its place. Counts of a tenant that is not shown go to [`OTHER`], those of a shown one to its own series from
//! the moment on at which it was first shown: no series ever falls but by a tenant's leaving the circle, and
//! all of them together are exact.
//!
//! Owns: the choice, and that nothing is counted twice. Does not own: who counts.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::tally::{Count, Tally};
use crate::tenant::TenantId;

/// The name of everybody else's series. A tenant of that very name is never shown by itself.
pub const OTHER: &str = "other";

/// Most tenants shown by name, whatever the configuration says: six series each.
pub const TENANTS_SHOWN_MAX: usize = 10_000;

const FIGURES: usize = 5;

/// One tenant's counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TenantCounts([u64; FIGURES]);

impl TenantCounts {
    /// Transactions that ended.
    #[must_use]
    pub const fn transactions(&self) -> u64 {
        self.0[0]
    }
    /// Statements answered.
    #[must_use]
    pub const fn statements(&self) -> u64 {
        self.0[1]
    }
    /// Microseconds in which it had a server.
    #[must_use]
    pub const fn lease_micros(&self) -> u64 {
        self.0[2]
    }
    /// Microseconds in which it waited for one.
    #[must_use]
    pub const fn wait_micros(&self) -> u64 {
        self.0[3]
    }
    /// Statements refused.
    #[must_use]
    pub const fn refusals(&self) -> u64 {
        self.0[4]
    }

    fn since(&self, earlier: &Self) -> Self {
        let mut out = *self;
        out.0.iter_mut().zip(earlier.0).for_each(|(count, before)| *count = count.saturating_sub(before));
        out
    }

    fn add(&mut self, more: &Self) {
        self.0.iter_mut().zip(more.0).for_each(|(count, more)| *count += more);
    }
}

/// What all sessions of a tenant add to; alone on its cache lines.
#[derive(Debug)]
#[repr(align(64))]
struct Live {
    tenant: TenantId,
    counts: [AtomicU64; FIGURES],
    clients: AtomicUsize,
}

impl Live {
    fn new(tenant: &TenantId) -> Arc<Self> {
        Arc::new(Self { tenant: tenant.clone(), counts: Default::default(), clients: AtomicUsize::new(0) })
    }

    fn read(&self) -> TenantCounts {
        let mut counts = TenantCounts::default();
        counts.0.iter_mut().zip(&self.counts).for_each(|(into, from)| *into = from.load(Ordering::Relaxed));
        counts
    }
}

#[derive(Debug)]
struct Entry {
    live: Arc<Live>,
    is_shown: bool,
    /// Counted elsewhere: in `other` while it was not shown, or nowhere any more.
    base: TenantCounts,
    /// What it had at the last choice.
    at_choice: u64,
}

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<TenantId, Entry>,
    shown: usize,
    other: TenantCounts,
}

/// All tenants' counts.
#[derive(Debug)]
pub struct Tenants {
    table: Mutex<Table>,
    shown_max: usize,
}

/// One session's part in its tenant's counts; the tenant is known as long as there is one.
#[derive(Debug)]
pub struct TenantShare {
    live: Arc<Live>,
    tenants: Arc<Tenants>,
}

/// A shown tenant, or `None` for everybody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantFigures {
    /// Who; `None`: everybody who is not shown.
    pub tenant: Option<TenantId>,
    /// Its counts since it was first shown.
    pub counts: TenantCounts,
    /// Its clients now.
    pub clients: usize,
}

impl Tenants {
    /// Shows at most so many by name.
    #[must_use]
    pub fn new(shown_max: usize) -> Arc<Self> {
        Arc::new(Self { table: Mutex::default(), shown_max: shown_max.min(TENANTS_SHOWN_MAX) })
    }

    /// A session of this tenant begins. While there is room, a newcomer is shown at once.
    #[must_use]
    pub fn join(self: &Arc<Self>, tenant: &TenantId) -> TenantShare {
        let mut table = self.table.lock();
        let may_show = table.shown < self.shown_max && tenant.as_str() != OTHER;
        let is_new = !table.entries.contains_key(tenant);
        let entry = table.entries.entry(tenant.clone()).or_insert_with(|| Entry {
            live: Live::new(tenant),
            is_shown: may_show,
            base: TenantCounts::default(),
            at_choice: 0,
        });
        entry.live.clients.fetch_add(1, Ordering::Relaxed);
        let live = Arc::clone(&entry.live);
        if is_new && may_show {
            table.shown += 1;
        }
        TenantShare { live, tenants: Arc::clone(self) }
    }

    fn leave(&self, tenant: &TenantId) {
        let mut table = self.table.lock();
        let Some(entry) = table.entries.get_mut(tenant) else { return };
        let clients = entry.live.clients.fetch_sub(1, Ordering::Relaxed).saturating_sub(1);
        if clients == 0 && !entry.is_shown {
            let rest = entry.live.read().since(&entry.base);
            table.entries.remove(tenant);
            table.other.add(&rest);
        }
    }

    /// A period is over: chooses anew who is shown. Who is shown stays so unless somebody was more
    /// than twice as busy, so that two equals do not take turns.
    pub fn choose(&self) {
        let mut table = self.table.lock();
        table.forget_the_idle(self.shown_max);
        let mut busy: Vec<(u64, bool, TenantId)> = Vec::with_capacity(table.entries.len());
        for (tenant, entry) in &mut table.entries {
            let transactions = entry.live.read().transactions();
            let recent = transactions.saturating_sub(entry.at_choice);
            entry.at_choice = transactions;
            if tenant.as_str() != OTHER {
                busy.push((
                    if entry.is_shown { recent.saturating_mul(2) } else { recent },
                    entry.is_shown,
                    tenant.clone(),
                ));
            }
        }
        busy.sort_unstable_by(|a, b| (b.0, b.1, a.2.as_str()).cmp(&(a.0, a.1, b.2.as_str())));
        for (at, (_, _, tenant)) in busy.iter().enumerate() {
            table.show(tenant, at < self.shown_max);
        }
    }

    /// Who is shown, by name, and everybody else last.
    #[must_use]
    pub fn figures(&self) -> Vec<TenantFigures> {
        let mut table = self.table.lock();
        let mut figures = Vec::with_capacity(table.shown + 1);
        let (mut rest, mut rest_clients) = (TenantCounts::default(), 0);
        for (tenant, entry) in &mut table.entries {
            let (counts, clients) = (entry.live.read(), entry.live.clients.load(Ordering::Relaxed));
            if entry.is_shown {
                let counts = counts.since(&entry.base);
                figures.push(TenantFigures { tenant: Some(tenant.clone()), counts, clients });
            } else {
                rest.add(&counts.since(&entry.base));
                entry.base = counts;
                rest_clients += clients;
            }
        }
        table.other.add(&rest);
        figures.sort_unstable_by(|a, b| {
            a.tenant.as_ref().map(TenantId::as_str).cmp(&b.tenant.as_ref().map(TenantId::as_str))
        });
        figures.push(TenantFigures { tenant: None, counts: table.other, clients: rest_clients });
        figures
    }

    /// How many tenants are known: shown, or with a client.
    #[must_use]
    pub fn known(&self) -> usize {
        self.table.lock().entries.len()
    }
}

impl Table {
    fn show(&mut self, tenant: &TenantId, is_shown: bool) {
        let Some(entry) = self.entries.get_mut(tenant) else { return };
        if entry.is_shown == is_shown {
            return;
        }
        let counts = entry.live.read();
        if is_shown {
            // What it did before belongs to the others.
            let before = counts.since(&entry.base);
            self.other.add(&before);
            self.shown += 1;
        } else {
            self.shown = self.shown.saturating_sub(1);
        }
        entry.base = counts;
        entry.is_shown = is_shown;
        if !is_shown && entry.live.clients.load(Ordering::Relaxed) == 0 {
            self.entries.remove(tenant);
        }
    }

    /// Where somebody waits for a place, those who did nothing and have no client give theirs up.
    fn forget_the_idle(&mut self, shown_max: usize) {
        if self.shown < shown_max {
            return;
        }
        let is_idle = |entry: &Entry| {
            let recent = entry.live.read().transactions().saturating_sub(entry.at_choice);
            entry.is_shown && recent == 0 && entry.live.clients.load(Ordering::Relaxed) == 0
        };
        let idle: Vec<_> =
            self.entries.iter().filter(|(_, entry)| is_idle(entry)).map(|(tenant, _)| tenant.clone()).collect();
        idle.iter().for_each(|tenant| self.show(tenant, false));
    }
}

impl TenantShare {
    /// Adds a session's counts, and the times of a lease.
    pub fn add(&self, tally: &Tally, lease_micros: u64, wait_micros: u64) {
        let amounts = [tally.read(Count::Transactions), tally.read(Count::Statements), lease_micros, wait_micros];
        for (into, amount) in self.live.counts.iter().zip(amounts) {
            if amount > 0 {
                into.fetch_add(amount, Ordering::Relaxed);
            }
        }
    }

    /// A statement was refused.
    pub fn refused(&self) {
        let [.., refusals] = &self.live.counts;
        refusals.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for TenantShare {
    fn drop(&mut self) {
        self.tenants.leave(&self.live.tenant);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenant::TenantKind;

    fn tenant(name: &str) -> TenantId {
        TenantId::parse(TenantKind::Text, name).unwrap()
    }

    fn work(share: &TenantShare, transactions: u64) {
        let mut tally = Tally::default();
        tally.add(Count::Transactions, transactions);
        share.add(&tally, 0, 0);
    }

    fn shown(tenants: &Tenants) -> Vec<(String, u64)> {
        let name = |figures: &TenantFigures| figures.tenant.as_ref().map_or(OTHER, TenantId::as_str).to_owned();
        tenants.figures().iter().map(|figures| (name(figures), figures.counts.transactions())).collect()
    }

    fn row(name: &str, transactions: u64) -> (String, u64) {
        (name.to_owned(), transactions)
    }

    #[test]
    fn the_first_k_are_shown_and_a_busier_one_takes_a_place() {
        let tenants = Tenants::new(2);
        let shares: Vec<_> = ["a", "b", "c"].map(|name| tenants.join(&tenant(name))).into();
        shares.iter().for_each(|share| work(share, 10));
        assert_eq!(shown(&tenants), [row("a", 10), row("b", 10), row(OTHER, 10)]);
        tenants.choose();
        work(&shares[0], 5);
        work(&shares[2], 100);
        tenants.choose();
        work(&shares[2], 1);
        // b did nothing: c has its place, from that moment on.
        assert_eq!(shown(&tenants), [row("a", 15), row("c", 1), row(OTHER, 110)]);
    }

    #[test]
    fn an_equal_does_not_take_a_place() {
        let tenants = Tenants::new(1);
        let (a, b) = (tenants.join(&tenant("a")), tenants.join(&tenant("b")));
        for _ in 0..3 {
            work(&a, 10);
            work(&b, 12);
            tenants.choose();
        }
        assert_eq!(shown(&tenants), [row("a", 30), row(OTHER, 36)]);
    }

    #[test]
    fn a_hundred_thousand_tenants_leave_nothing_behind_but_their_sum() {
        let tenants = Tenants::new(3);
        for number in 0..100_000 {
            work(&tenants.join(&tenant(&format!("t{number}"))), 1);
        }
        assert_eq!(tenants.known(), 3);
        let figures = shown(&tenants);
        assert_eq!(figures.len(), 4);
        assert_eq!(figures.iter().map(|(_, count)| count).sum::<u64>(), 100_000);
    }

    #[test]
    fn places_of_those_who_have_left_are_given_on() {
        let tenants = Tenants::new(1);
        work(&tenants.join(&tenant("gone")), 50);
        let b = tenants.join(&tenant("b"));
        work(&b, 1);
        tenants.choose();
        tenants.choose();
        work(&b, 1);
        assert_eq!(shown(&tenants), [row("b", 1), row(OTHER, 1)]);
        assert_eq!(tenants.known(), 1);
    }

    #[test]
    fn a_tenant_called_other_is_among_the_others() {
        let tenants = Tenants::new(5);
        let share = tenants.join(&tenant(OTHER));
        work(&share, 2);
        share.refused();
        tenants.choose();
        let figures = tenants.figures();
        assert_eq!((figures.len(), figures[0].counts.transactions(), figures[0].counts.refusals()), (1, 2, 1));
    }
}
