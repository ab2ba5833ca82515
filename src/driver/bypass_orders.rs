//! FREEZE and THAW BYPASS, and EMERGENCY: carried out, recorded, and told to those who run.
//!
//! What lets more through (an emergency, a thaw) is recorded first and refused if it cannot be; what lets less through counts at
//! once, and its record follows when it can.
//!
//! ```text
//!  record is durable ─▶ done ─▶ kept
//!        │ late, or          │ cannot be done any more (a freeze came meanwhile)
//!        ▼ nobody waits      ▼
//!      a record behind it takes it back: whatever becomes of the first one, the last one is true
//! ```
//!
//! Owns: the order of these steps. Does not own: the state (`bypasses`), what a running transaction makes of it (`session`).

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::timeout;
use uuid::Uuid;

use super::bypasses::{BypassFreeze, not_frozen};
use super::clock::{now_of_day, time_of_day};
use super::ledger::Ledger;
use super::proxy::Proxy;
use super::registry::Order;
use crate::admin::{Actor, EmergencyRow};
use crate::audit::{BypassAct, BypassRecord};
use crate::auth::Access;
use crate::bypass::{Closed, Emergency, EmergencyId, check_quality};
use crate::config::EmergencyUse;
use crate::fault::{Code, Fault};
use crate::time::TimeOfDay;

/// How long an order waits for its record.
const RECORD_TIMEOUT: Duration = Duration::from_secs(5);

/// The reason of a freeze that takes back the record of a thaw.
const NOT_THAWED: &str = "the thaw before this was not carried out";

/// Who closes what nobody closes.
const PROXY: &str = "proxy";

impl Proxy {
    /// If dropped: the freeze is in force, or nothing has happened.
    pub(super) async fn freeze_bypass(&self, reason: &Arc<str>, actor: &Actor) -> Result<(), Fault> {
        let (by, at) = (actor.login.to_string(), time_of_day());
        let (closed, kept) = self.bypasses.freeze_all(BypassFreeze { reason: reason.to_string(), by, at });
        let count = self.tell_bypasses();
        tracing::warn!(%reason, login = %actor.login, address = %actor.address, clients = count, "bypasses frozen");
        if let Err(fault) = &kept {
            tracing::warn!(%fault, "bypasses are frozen, but only until the proxy ends");
        }
        let record = self.order_record(Uuid::now_v7(), BypassAct::Freeze, actor, reason);
        self.submit(record);
        closed.iter().for_each(|emergency| self.note_closed(emergency, Closed::ByFreeze, actor));
        match kept {
            Err(fault) if fault.code == Some(Code::StateUnwritten) => Err(fault),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Ends the freeze that is in force now: one that is given meanwhile stays. If dropped: as it was, and the ledger says so.
    pub(super) async fn thaw_bypass(&self, reason: &Arc<str>, actor: &Actor) -> Result<(), Fault> {
        let frozen = self.bypasses.freeze().ok_or_else(not_frozen)?;
        let record = self.order_record(Uuid::now_v7(), BypassAct::Thaw, actor, reason);
        let stays = self.order_record(Uuid::now_v7(), BypassAct::Freeze, actor, NOT_THAWED);
        let recorded = self.record_ahead(record, stays).await?;
        let thawed = self.bypasses.thaw(&frozen);
        if thawed.is_ok() || self.bypasses.freeze().is_none() {
            // Or somebody else's THAW was first: the record is as true as that one's.
            recorded.keep();
        }
        thawed?;
        tracing::warn!(%reason, login = %actor.login, address = %actor.address, "bypasses thawed");
        Ok(())
    }

    /// If dropped: none is open, and the ledger says so.
    pub(super) async fn open_emergency(
        &self,
        login: &Arc<str>,
        duration: Duration,
        reason: &Arc<str>,
        actor: &Actor,
    ) -> Result<(), Fault> {
        let longest = self.may_open_emergency(login, reason)?;
        let at = now_of_day();
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        let emergency = Emergency {
            id: EmergencyId(Uuid::now_v7()),
            login: Arc::clone(login),
            until: TimeOfDay::from_unix_micros(at.unix_micros().saturating_add(micros)),
            reason: Arc::clone(reason),
            by: Arc::clone(&actor.login),
            address: Arc::clone(&actor.address),
            at,
        };
        self.bypasses.could_open(&emergency, longest)?;
        let until = words(emergency.until);
        let act = BypassAct::EmergencyOpen { login: Arc::clone(login), until: Arc::clone(&until) };
        let close = BypassAct::EmergencyClose { login: Arc::clone(login), until: Arc::clone(&until) };
        let record = self.order_record(emergency.id.0, act, actor, reason);
        let closed = self.order_record(emergency.id.0, close, actor, Closed::NeverOpen.words());
        let recorded = self.record_ahead(record, closed).await?;
        let replaced = self.bypasses.open_emergency(emergency, longest)?;
        recorded.keep();
        replaced.iter().for_each(|before| self.note_closed(before, Closed::Replaced, actor));
        self.tell_bypasses();
        tracing::warn!(%login, %until, %reason, by = %actor.login, address = %actor.address, "emergency opened");
        Ok(())
    }

    /// How long one for this login may last. Its reason is read as those of the transactions under it are.
    fn may_open_emergency(&self, login: &str, reason: &str) -> Result<Duration, Fault> {
        let generation = self.generation.load();
        let refused = |detail: &'static str| Err(Fault::of(Code::CommandRefused).with_detail(detail));
        match generation.config.logins.get(login) {
            Some(entry) if entry.access() != Access::Bypass => refused("The login has not preset = \"bypass\"."),
            Some(entry) if entry.emergencies == EmergencyUse::Never => {
                refused("The login has emergencies = \"never\".")
            }
            Some(_) => {
                check_quality(reason, generation.config.bypass.reason_chars_min)?;
                Ok(generation.config.bypass.emergency_max)
            }
            None => refused("There is no such login."),
        }
    }

    pub(super) fn close_emergency(&self, name: &str, actor: &Actor) -> Result<(), Fault> {
        let Some(closed) = self.bypasses.close_emergency(name) else {
            return Err(Fault::of(Code::CommandRefused).with_detail("No such emergency is open."));
        };
        self.note_closed(&closed, Closed::ByOrder, actor);
        self.tell_bypasses();
        Ok(())
    }

    /// Closes those whose time is over.
    pub(super) fn expire_emergencies(&self) {
        let over = self.bypasses.expire(now_of_day());
        if over.is_empty() {
            return;
        }
        let proxy = Actor { login: PROXY.into(), address: PROXY.into() };
        over.iter().for_each(|emergency| self.note_closed(emergency, Closed::InTime, &proxy));
        self.tell_bypasses();
    }

    pub(super) fn emergency_rows(&self) -> Vec<EmergencyRow> {
        let row = |emergency: &Arc<Emergency>| EmergencyRow {
            id: emergency.id.to_string().into(),
            login: Arc::clone(&emergency.login),
            until: words(emergency.until),
            reason: Arc::clone(&emergency.reason),
            by: Arc::clone(&emergency.by),
            address: Arc::clone(&emergency.address),
            at: words(emergency.at),
        };
        self.bypasses.emergencies().iter().map(row).collect()
    }

    /// Has everybody who bypasses look at how bypasses stand now.
    fn tell_bypasses(&self) -> usize {
        let generation = self.generation.load_full();
        self.clients.order_all(Order::Standing, |slot| generation.terms_of(slot.facts()).is_some())
    }

    fn note_closed(&self, emergency: &Emergency, why: Closed, actor: &Actor) {
        tracing::warn!(login = %emergency.login, id = %emergency.id, by = %actor.login, "emergency closed: {}", why.words());
        let act = BypassAct::EmergencyClose { login: Arc::clone(&emergency.login), until: words(emergency.until) };
        self.submit(self.order_record(emergency.id.0, act, actor, why.words()));
    }

    fn order_record(&self, id: Uuid, act: BypassAct, actor: &Actor, reason: &str) -> BypassRecord {
        let (by, address) = (Arc::clone(&actor.login), Arc::clone(&actor.address));
        BypassRecord { id, act, by, address, reason: reason.into() }
    }

    /// Has it written, behind what waits already.
    fn submit(&self, record: BypassRecord) {
        match self.ledger() {
            Some(ledger) => drop(ledger.record_act(Box::new(record))),
            None => tracing::warn!(?record, "there is no ledger"),
        }
    }

    /// Has it written, and waits for that. If dropped, or if what comes back is dropped and not kept: `back` is written behind it.
    async fn record_ahead(&self, record: BypassRecord, back: BypassRecord) -> Result<Recorded, Fault> {
        let unwritten = || Fault::of(Code::LedgerUnavailable);
        let ledger = self.ledger().ok_or_else(unwritten)?;
        let answer = ledger.record_act(Box::new(record));
        let recorded = Recorded { ledger, back: Some(back) };
        match timeout(RECORD_TIMEOUT, answer).await {
            Ok(Ok(Ok(()))) => Ok(recorded),
            // The ledger itself says that there is none.
            Ok(Ok(Err(_)) | Err(_)) => {
                recorded.keep();
                Err(unwritten())
            }
            Err(_) => Err(unwritten()),
        }
    }
}

/// An order whose record is on its way to the ledger. Unless it is kept, it is taken back there.
struct Recorded {
    ledger: Arc<Ledger>,
    back: Option<BypassRecord>,
}

impl Recorded {
    /// It was done, or there is no record: nothing is to be taken back.
    fn keep(mut self) {
        self.back = None;
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        if let Some(back) = self.back.take() {
            tracing::warn!(
                ?back,
                "an order was recorded, or may be yet, and is not carried out: a record takes it back"
            );
            drop(self.ledger.record_act(Box::new(back)));
        }
    }
}

fn words(at: TimeOfDay) -> Arc<str> {
    let at = Timestamp::from_microsecond(at.unix_micros()).unwrap_or_default();
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into()
}
