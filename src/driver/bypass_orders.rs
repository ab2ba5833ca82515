//! FREEZE and THAW BYPASS, and EMERGENCY: carried out, recorded, and told to those who run.
//!
//! What lets more through (an emergency, a thaw) is recorded first and refused if it cannot be; what lets less through counts at
//! once, and its record follows when it can.
//!
//! Owns: the order of these steps. Does not own: the state (`bypasses`), what a running transaction makes of it (`session`).

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::timeout;
use uuid::Uuid;

use super::bypasses::BypassFreeze;
use super::clock::{now_of_day, time_of_day};
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

    /// If dropped: as it was, though the record may say otherwise.
    pub(super) async fn thaw_bypass(&self, reason: &Arc<str>, actor: &Actor) -> Result<(), Fault> {
        if self.bypasses.freeze().is_none() {
            return self.bypasses.thaw_all();
        }
        self.record_ahead(self.order_record(Uuid::now_v7(), BypassAct::Thaw, actor, reason)).await?;
        self.bypasses.thaw_all()?;
        tracing::warn!(%reason, login = %actor.login, address = %actor.address, "bypasses thawed");
        Ok(())
    }

    /// If dropped: none is open, though the record may say otherwise.
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
        let act = BypassAct::EmergencyOpen { login: Arc::clone(login), until: words(emergency.until) };
        self.record_ahead(self.order_record(emergency.id.0, act, actor, reason)).await?;
        let until = words(emergency.until);
        match self.bypasses.open_emergency(emergency.clone(), longest) {
            Ok(replaced) => {
                replaced.iter().for_each(|before| self.note_closed(before, Closed::Replaced, actor));
                self.tell_bypasses();
                tracing::warn!(%login, %until, %reason, by = %actor.login, address = %actor.address, "emergency opened");
                Ok(())
            }
            Err(fault) => {
                // It was recorded, and is not open after all.
                self.note_closed(&emergency, Closed::ByFreeze, actor);
                Err(fault)
            }
        }
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

    /// If dropped: it may be written all the same.
    async fn record_ahead(&self, record: BypassRecord) -> Result<(), Fault> {
        let unwritten = || Fault::of(Code::LedgerUnavailable);
        let ledger = self.ledger().ok_or_else(unwritten)?;
        match timeout(RECORD_TIMEOUT, ledger.record_act(Box::new(record))).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(_)) | Err(_)) | Err(_) => Err(unwritten()),
        }
    }
}

fn words(at: TimeOfDay) -> Arc<str> {
    let at = Timestamp::from_microsecond(at.unix_micros()).unwrap_or_default();
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into()
}
