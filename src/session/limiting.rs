//! What a bypass may do: asked before its intent, before each of its statements, at each of its rows, and by the clock.
//!
//! ```text
//!  intent ─▶ admitted? ── no: the message is refused, and nothing has begun
//!    │ yes: a permit
//!    ├─ a statement over it: refused in its place, so that the block has failed
//!    └─ a row, the clock, a freeze, an emergency's end: FATAL, the server is cancelled and what was written rolled back
//! ```
//!
//! Owns: when limits are asked, and what being over one does to the session. Does not own: the limits (`bypass`), counting
//! (`audit`).

use uuid::Uuid;

use super::recording::{Bound, Readiness};
use super::replies::Ended;
use super::{BypassStanding, CloseReason, Effect, Session};
use crate::audit::Reason;
use crate::bypass::{Doubt, LimitName, Permit, Usage};
use crate::fault::{Code, Fault};
use crate::guard::{Control, Statement};
use crate::scope::DiscardReason;

/// The setting by which PostgreSQL looks up names without a schema.
const SEARCH_PATH: &str = "search_path";

/// What a recorded session keeps of its limits.
#[derive(Debug, Default)]
pub(super) struct Limiting {
    standing: BypassStanding,
    permit: Option<Permit>,
    /// The client has sent something that sets `search_path`; nobody looks whether it was undone.
    is_path_changed: bool,
    /// The proxy itself has ended the transaction, for this.
    pub(super) ended_by: Option<Code>,
}

impl Limiting {
    /// What was sent has a say in how names are looked up.
    pub(super) fn note_sent(&mut self, control: &Control) {
        self.is_path_changed |= sets_search_path(control);
    }

    /// The transaction is over. Whether its time was limited.
    pub(super) fn end(&mut self) -> bool {
        self.permit.take().is_some()
    }
}

impl Session {
    /// Whether its transactions depend on how bypasses stand.
    #[must_use]
    pub fn is_bypass(&self) -> bool {
        self.rules.bypass.is_some()
    }

    /// How bypasses stand, for what begins from now on.
    pub fn tell_standing(&mut self, standing: BypassStanding) {
        if let Some(recorder) = self.recorder.as_mut() {
            recorder.limiting.standing = standing;
        }
    }

    /// How bypasses stand has changed: a running one may have to end.
    pub(super) fn on_standing(&mut self) {
        let Some(recorder) = self.recorder.as_mut().filter(|recorder| recorder.is_open()) else { return };
        let limiting = &recorder.limiting;
        if let Some(fault) = limiting.permit.as_ref().and_then(|permit| permit.revoked(&limiting.standing)) {
            self.end_bypass(fault);
        }
    }

    /// Its time is over.
    pub(super) fn on_bypass_overrun(&mut self, limit: LimitName) {
        let Some(recorder) = self.recorder.as_mut().filter(|recorder| recorder.is_open()) else { return };
        if let Some(fault) = recorder.limiting.permit.as_ref().map(|permit| permit.over_time(limit).fatal()) {
            recorder.limiting.ended_by = fault.code;
            self.end_by_limit(&fault);
        }
    }

    /// Whether a transaction may begin for this reason.
    pub(super) fn admit_bypass(&mut self, reason: Option<&Reason>) -> Result<(), Fault> {
        let (Some(terms), Some(recorder)) = (&self.rules.bypass, self.recorder.as_mut()) else { return Ok(()) };
        let limiting = &mut recorder.limiting;
        let permit = terms.admit(reason.map_or("", Reason::as_str), &limiting.standing)?;
        if let Some(lease) = self.lease.as_mut() {
            if permit.is_read_only() && !lease.scope().needs_injection() {
                // What makes it read only stands in front of the first statement, and that has gone.
                return Err(Fault::of(Code::BypassReadOnly));
            }
            lease.set_read_only(permit.is_read_only());
        }
        if let Some(limit) = permit.remaining(limiting.standing.now) {
            self.effects.push_back(Effect::Limit(Some(limit)));
        }
        limiting.ended_by = None;
        limiting.permit = Some(permit);
        Ok(())
    }

    /// The emergency under which the transaction runs, and the ticket that its rule has found in the reason.
    pub(super) fn bypass_marks(&self, reason: Option<&Reason>) -> (Option<Uuid>, Option<Box<str>>) {
        let permit = self.recorder.as_ref().and_then(|recorder| recorder.limiting.permit.as_ref());
        let emergency = permit.and_then(Permit::of_emergency).map(|emergency| emergency.id.0);
        let pattern = permit.and_then(Permit::rule).and_then(|rule| rule.ticket.as_ref());
        let ticket = pattern.zip(reason).and_then(|(pattern, reason)| pattern.find(reason.as_str()));
        (emergency, ticket.map(Box::from))
    }

    /// Whether these statements of a text may be sent. One that may not is in the record all the same.
    pub(super) fn within_limits(&mut self, statements: &[Statement], text: &str, bound: Bound<'_>) -> Readiness {
        let has_base = self.settings.current(SEARCH_PATH).is_some();
        let on_own_server = self.is_pinned().then_some(Doubt::Server);
        let Some(recorder) = self.recorder.as_mut().filter(|recorder| recorder.is_open()) else {
            return Readiness::Ready;
        };
        let (limiting, account) = (&mut recorder.limiting, &mut recorder.account);
        let parameter_key = recorder.parameter_key.as_deref();
        let Some(permit) = &limiting.permit else { return Readiness::Ready };
        let of_path = (limiting.is_path_changed || has_base).then_some(Doubt::Path);
        let mut usage = Usage { statements: account.statements_total(), doubt: of_path.or(on_own_server) };
        for statement in statements {
            if let Err(fault) = permit.judge(statement, usage) {
                let text = text.get(statement.range(text.len())).unwrap_or_default();
                bound.note_in(account, parameter_key, statement, text);
                limiting.ended_by = fault.code;
                return Readiness::Refused(fault);
            }
            usage.statements = usage.statements.saturating_add(1);
            usage.doubt = sets_search_path(&statement.control).then_some(Doubt::Path).or(usage.doubt);
        }
        Readiness::Ready
    }

    /// Whether so many rows more would be too many; then the session has ended.
    pub(super) fn check_rows(&mut self, more: u64) -> Result<(), Ended> {
        let Some(recorder) = self.recorder.as_ref().filter(|recorder| recorder.is_open()) else { return Ok(()) };
        let rows = recorder.account.rows().saturating_add(more);
        match recorder.limiting.permit.as_ref().and_then(|permit| permit.over_rows(rows)) {
            Some(fault) => {
                self.end_bypass(fault);
                Err(Ended)
            }
            None => Ok(()),
        }
    }

    /// Ends a running bypass at once: its server is cancelled and closed, and so rolls back.
    fn end_bypass(&mut self, fault: Fault) {
        if let Some(recorder) = self.recorder.as_mut() {
            recorder.limiting.ended_by = fault.code;
        }
        self.end_with(fault, DiscardReason::Expelled, CloseReason::Limit);
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "only these name a setting")]
fn sets_search_path(control: &Control) -> bool {
    match control {
        Control::Set { name, .. } | Control::Reset { name, .. } => **name == *SEARCH_PATH,
        Control::Configure(list) => list.iter().any(|one| *one.name == *SEARCH_PATH),
        _ => false,
    }
}
