//! Lines joined to acts as they go by, in memory that does not grow with the ledger.
//!
//! An act is given out when its outcome comes: what is kept is what is open. Records that come much later (`reconciled`,
//! `review`) are looked for in a first pass ([`Late`]), so that an act has them when it is given out.
//!
//! Owns: the joining, its bounds. Does not own: files, which acts are wanted.

use std::collections::{HashMap, VecDeque};

use memchr::memmem;

use super::deed::{Deed, Told, read};

/// Most transactions that are open at the same time; the driver lets no more wait for their intents.
const OPEN_MAX: usize = 100_000;

/// Most transactions with late records that are kept: some hundred MiB at worst.
const LATE_MAX: usize = 500_000;

/// How late records are told from others without reading all of each line: a quote within a text has a backslash before it.
const KINDS: [&[u8]; 2] = [br#""kind":"review""#, br#""kind":"reconciled""#];

/// What came long after its transaction.
#[derive(Debug, Default)]
pub struct Late {
    told: HashMap<String, Vec<Told>>,
    /// Transactions whose late records found no room.
    pub left_out: usize,
}

impl Late {
    /// A line of the first pass.
    pub fn take(&mut self, line: &[u8]) {
        if !KINDS.iter().any(|kind| memmem::find(line, kind).is_some()) {
            return;
        }
        let Some(told) = read(line) else { return };
        let about = match &told {
            Told::Reconciled { id, .. } => id.clone(),
            Told::Review(mark) => mark.about.clone().unwrap_or_default(),
            Told::Intent(_) | Told::Precommit(_) | Told::Outcome(_) | Told::Alone(_) | Told::Boot | Told::OfLedger => {
                return;
            }
        };
        if self.told.len() >= LATE_MAX && !self.told.contains_key(&about) {
            self.left_out += 1;
            return;
        }
        self.told.entry(about).or_default().push(told);
    }

    fn put(&self, act: &mut Deed) {
        for told in self.told.get(&act.id).into_iter().flatten() {
            act.add(told);
        }
    }
}

/// The joining.
#[derive(Debug, Default)]
pub struct Joiner {
    open: HashMap<String, Deed>,
    late: Late,
    /// Lines that are no records: a torn one after a crash.
    pub broken: usize,
}

impl Joiner {
    /// With what the first pass has found.
    #[must_use]
    pub fn new(late: Late) -> Self {
        Self { open: HashMap::new(), late, broken: 0 }
    }

    /// A line; acts that are complete with it go to `out`, those of one instant in the order of their numbers.
    pub fn take(&mut self, line: &[u8], out: &mut dyn FnMut(Deed)) {
        if line.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        match read(line) {
            None => self.broken += 1,
            Some(Told::Intent(act)) => {
                if self.open.len() >= OPEN_MAX {
                    self.let_go(out);
                }
                self.open.insert(act.id.clone(), *act);
            }
            Some(Told::Precommit(part)) => {
                let told = Told::Precommit(part.clone());
                self.open.entry(part.id.clone()).or_insert(*part).add(&told);
            }
            Some(Told::Outcome(end)) => {
                let mut act = self.open.remove(&end.id).unwrap_or_else(|| (*end).clone());
                act.add(&Told::Outcome(end));
                self.give(act, out);
            }
            Some(Told::Alone(act) | Told::Review(act)) => self.give(*act, out),
            // The first pass has put it where it belongs.
            Some(Told::Reconciled { .. } | Told::OfLedger) => {}
            Some(Told::Boot) => self.let_go(out),
        }
    }

    /// The end of the last file: what is open has no outcome.
    pub fn end(mut self, out: &mut dyn FnMut(Deed)) -> usize {
        self.let_go(out);
        self.broken
    }

    fn give(&self, mut act: Deed, out: &mut dyn FnMut(Deed)) {
        self.late.put(&mut act);
        out(act);
    }

    fn let_go(&mut self, out: &mut dyn FnMut(Deed)) {
        let mut open: Vec<Deed> = self.open.drain().map(|(_, act)| act).collect();
        open.sort_by_key(|act| act.seq);
        open.into_iter().for_each(|act| self.give(act, out));
    }
}

/// The last acts of a ledger, joined as it grows: what the review page shows.
#[derive(Debug)]
pub struct Shelf {
    acts: VecDeque<Deed>,
    places: HashMap<String, u64>,
    /// How many were taken off the front.
    taken_off: u64,
    acts_max: usize,
    /// Lines that are no records.
    pub broken: usize,
}

impl Shelf {
    /// For so many.
    #[must_use]
    pub fn new(acts_max: usize) -> Self {
        Self { acts: VecDeque::new(), places: HashMap::new(), taken_off: 0, acts_max, broken: 0 }
    }

    /// A line.
    pub fn take(&mut self, line: &[u8]) {
        match read(line) {
            None => self.broken += 1,
            Some(Told::Intent(act) | Told::Alone(act)) => self.put(*act),
            Some(Told::Precommit(part)) => self.add_or_put(Told::Precommit(part.clone()), *part),
            Some(Told::Outcome(end)) => self.add_or_put(Told::Outcome(end.clone()), *end),
            Some(Told::Review(mark)) => {
                if let Some(act) = mark.about.clone().and_then(|about| self.of(&about)) {
                    act.add(&Told::Review(mark.clone()));
                }
                self.put(*mark);
            }
            Some(told @ Told::Reconciled { .. }) => {
                let Told::Reconciled { id, .. } = &told else { return };
                if let Some(act) = self.of(&id.clone()) {
                    act.add(&told);
                }
            }
            Some(Told::Boot | Told::OfLedger) => {}
        }
    }

    /// The latest first.
    pub fn latest(&self) -> impl Iterator<Item = &Deed> {
        self.acts.iter().rev()
    }

    /// One of them.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<&Deed> {
        self.acts.get(self.place(id)?)
    }

    /// How many older ones are not here any more.
    #[must_use]
    pub const fn taken_off(&self) -> u64 {
        self.taken_off
    }

    fn place(&self, id: &str) -> Option<usize> {
        let place = self.places.get(id)?.checked_sub(self.taken_off)?;
        usize::try_from(place).ok()
    }

    fn of(&mut self, id: &str) -> Option<&mut Deed> {
        let place = self.place(id)?;
        self.acts.get_mut(place)
    }

    fn add_or_put(&mut self, told: Told, alone: Deed) {
        if self.place(&alone.id).is_none() {
            self.put(alone.clone());
        }
        if let Some(act) = self.of(&alone.id) {
            act.add(&told);
        }
    }

    fn put(&mut self, act: Deed) {
        if self.acts.len() >= self.acts_max
            && let Some(oldest) = self.acts.pop_front()
        {
            self.taken_off += 1;
            // Unless a later one bears the same name.
            if self.places.get(&oldest.id).is_some_and(|place| *place < self.taken_off) {
                self.places.remove(&oldest.id);
            }
        }
        self.places.insert(act.id.clone(), self.taken_off + self.acts.len() as u64);
        self.acts.push_back(act);
    }
}

#[cfg(test)]
#[path = "joining_tests.rs"]
mod tests;
