//! The latest refusals, for SHOW DENIALS.
//!
//! Owns: a ring of bounded length. A denial says who was refused what kind of thing, and by which rule; never the
//! statement, whose literals are the tenant's data.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::fault::Code;
use crate::tenant::TenantId;
use crate::time::Moment;

/// Denials kept: what an operator can read. Each is some 100 bytes.
const KEPT_MAX: usize = 1000;

/// Who was refused: what of a denial stays the same for a session.
#[derive(Clone, Debug)]
pub struct Denial {
    /// The login, as far as it was known.
    pub login: Arc<str>,
    /// Its tenant, if it had one.
    pub tenant: Option<TenantId>,
    /// Where it came from.
    pub address: Arc<str>,
}

impl Denial {
    /// From what is known of a client.
    #[must_use]
    pub fn of(login: &Arc<str>, tenant: Option<&TenantId>, address: impl ToString) -> Self {
        Self { login: Arc::clone(login), tenant: tenant.cloned(), address: address.to_string().into() }
    }
}

/// One refusal.
#[derive(Clone, Debug)]
pub struct DenialRow {
    /// When.
    pub at: Moment,
    /// To whom.
    pub who: Denial,
    /// Why.
    pub code: Code,
    /// What was refused: a statement's class, `login`, `session`.
    pub class: &'static str,
}

/// The latest refusals.
#[derive(Debug, Default)]
pub struct Denials(Mutex<VecDeque<DenialRow>>);

impl Denials {
    /// Remembers one and forgets the oldest, if there are too many.
    pub fn push(&self, row: DenialRow) {
        let mut ring = self.0.lock();
        if ring.len() >= KEPT_MAX {
            ring.pop_front();
        }
        ring.push_back(row);
    }

    /// All that are remembered, the latest first.
    #[must_use]
    pub fn recent(&self) -> Vec<DenialRow> {
        self.0.lock().iter().rev().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten() {
        let denials = Denials::default();
        let who = Denial { login: Arc::from("app"), tenant: None, address: Arc::from("127.0.0.1") };
        for micros in 0..1500 {
            let at = Moment::from_micros(micros);
            denials.push(DenialRow { at, who: who.clone(), code: Code::Internal, class: "SELECT" });
        }
        let recent = denials.recent();
        assert_eq!((recent.len(), recent[0].at.as_micros(), recent[999].at.as_micros()), (1000, 1499, 500));
    }
}
