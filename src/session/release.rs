//! What pools send when they take a connection back, and other statements answered from the client's own
//! state: `DISCARD ALL`, `RESET ALL`, `UNLISTEN *`, `CLOSE ALL`, `DEALLOCATE …`, `pg_advisory_unlock_all()`.
//!
//! On a shared server these would destroy what belongs to the proxy (its prepared statements, the settings
//! of other clients), so they are never forwarded. Where the client holds no server they are answered at
//! once; elsewhere a harmless statement stands in, so that order, errors and transaction state stay the
//! server's own.

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};

use super::settings::ClientSettings;
use crate::fault::Fault;
use crate::guard::{Control, DemandKind, Facts, Statement, StatementClass};
use crate::upstream::settings::SettingStep;
use crate::wire::backend;
use crate::wire::frontend::{put_cstr, put_message};

/// Does nothing in any state a statement may run in, needs no snapshot, and no client can listen.
pub const NOTHING: &str = "UNLISTEN tenantgate";

/// Has the result of `pg_advisory_unlock_all()` and calls nothing.
const VOID_ROW: &str = "SELECT ''::pg_catalog.void AS pg_advisory_unlock_all";

/// A statement that stands in for a client's.
#[derive(Debug, PartialEq, Eq)]
pub struct Substitute {
    /// Its text.
    pub sql: Cow<'static, str>,
    /// The command tag the client expects, if it differs from the server's.
    pub tag: Option<&'static str>,
}

/// What stands in for a statement of this kind; `None` if it is sent as it is. `keeps_state`: the client may have left
/// what it releases on the server.
#[must_use]
pub fn substitute(control: &Control, text: &str, settings: &ClientSettings, keeps_state: bool) -> Option<Substitute> {
    let nothing = |tag| Some(Substitute { sql: Cow::Borrowed(NOTHING), tag: Some(tag) });
    match control {
        Control::DiscardSequences
        | Control::DiscardTemp
        | Control::UnlistenAll
        | Control::Unlisten(_)
        | Control::CloseAll
        | Control::AdvisoryUnlockAll
            if keeps_state =>
        {
            None
        }
        Control::ResetAll => nothing("RESET"),
        Control::DiscardAll => nothing("DISCARD ALL"),
        Control::DiscardPlans => nothing("DISCARD PLANS"),
        Control::DiscardSequences => nothing("DISCARD SEQUENCES"),
        Control::DiscardTemp => nothing("DISCARD TEMP"),
        Control::UnlistenAll | Control::Unlisten(_) => nothing("UNLISTEN"),
        Control::CloseAll => nothing("CLOSE CURSOR ALL"),
        Control::DeallocateAll => nothing("DEALLOCATE ALL"),
        Control::Deallocate(_) => nothing("DEALLOCATE"),
        Control::AdvisoryUnlockAll => Some(Substitute { sql: Cow::Borrowed(VOID_ROW), tag: None }),
        Control::Reset { name, local } => {
            let value = settings.base(name)?;
            let is_reset = text.trim_start().get(..5).is_some_and(|word| word.eq_ignore_ascii_case("reset"));
            Some(Substitute { sql: Cow::Owned(set_statement(name, value, *local)), tag: is_reset.then_some("RESET") })
        }
        Control::Claim(claim) => Some(super::claims::stand_in(claim)),
        Control::None
        | Control::Begin
        | Control::SetTransaction
        | Control::Commit { .. }
        | Control::Rollback { .. }
        | Control::Savepoint(_)
        | Control::Release(_)
        | Control::RollbackTo(_)
        | Control::Set { .. }
        | Control::Configure(_)
        | Control::SetCharacteristics(_)
        | Control::CloseCursor(_)
        | Control::Show(_) => None,
    }
}

/// `SET name TO value` with the effect of `set_config(name, value, local)`. The names of a `search_path` are each
/// quoted: as a value, a bare name may hold anything but commas and blanks, SQL too.
#[must_use]
pub fn set_statement(name: &str, value: &str, local: bool) -> String {
    let local = if local { "LOCAL " } else { "" };
    match crate::guard::quoted_list(value).filter(|list| name == "search_path" && !list.is_empty()) {
        Some(list) => format!("SET {local}search_path TO {list}"),
        None => format!("SET {local}{name} TO '{}'", value.replace('\'', "''")),
    }
}

/// The statement that takes one step towards other settings.
#[must_use]
pub fn step_statement(step: &SettingStep) -> String {
    match step {
        SettingStep::Set(name, value) => set_statement(name, value, false),
        SettingStep::Reset(name) => format!("RESET {name}"),
    }
}

/// Whether a text is only made of statements that are answered from the client's state when it is not in
/// a transaction. `DISCARD ALL` must be alone.
#[must_use]
pub fn is_release(facts: &Facts) -> bool {
    let is_alone = facts.statements.len() == 1;
    !facts.statements.is_empty()
        && facts.statements.iter().all(|statement| match &statement.control {
            Control::DiscardAll | Control::DiscardPlans | Control::DiscardSequences | Control::DiscardTemp => is_alone,
            Control::ResetAll
            | Control::UnlistenAll
            | Control::Unlisten(_)
            | Control::CloseAll
            | Control::DeallocateAll
            | Control::AdvisoryUnlockAll => true,
            Control::None
            | Control::Begin
            | Control::SetTransaction
            | Control::Commit { .. }
            | Control::Rollback { .. }
            | Control::Savepoint(_)
            | Control::Release(_)
            | Control::RollbackTo(_)
            | Control::Set { .. }
            | Control::Configure(_)
            | Control::SetCharacteristics(_)
            | Control::Reset { .. }
            | Control::Claim(_)
            | Control::CloseCursor(_)
            | Control::Deallocate(_)
            | Control::Show(_) => false,
        })
}

/// The answer to one release statement outside a transaction.
pub fn put_answer(out: &mut BytesMut, control: &Control, settings: &ClientSettings) {
    if *control == Control::AdvisoryUnlockAll {
        put_void_row(out);
    } else if let Some(tag) = substitute(control, "", settings, false).and_then(|substitute| substitute.tag) {
        backend::put_command_complete(out, tag.as_bytes());
    }
}

/// RowDescription, DataRow and CommandComplete of `SELECT pg_advisory_unlock_all()` (type void, oid 2278).
fn put_void_row(out: &mut BytesMut) {
    put_message(out, b'T', |out| {
        out.put_i16(1);
        put_cstr(out, b"pg_advisory_unlock_all");
        out.put_i32(0);
        out.put_i16(0);
        out.put_i32(2278);
        out.put_i16(4);
        out.put_i32(-1);
        out.put_i16(0);
    });
    put_message(out, b'D', |out| {
        out.put_i16(1);
        out.put_i32(0);
    });
    backend::put_command_complete(out, b"SELECT 1");
}

/// PostgreSQL's own refusal of DISCARD ALL inside a transaction.
#[must_use]
pub fn discard_all_in_block() -> Fault {
    Fault::native(b"25001", "DISCARD ALL cannot run inside a transaction block")
}

/// PostgreSQL's own refusal of DISCARD ALL behind another Execute of its segment.
#[must_use]
pub fn discard_all_in_pipeline() -> Fault {
    Fault::native(b"25001", "DISCARD ALL cannot be executed within a pipeline")
}

/// Whether PostgreSQL runs the statement in a failed block.
#[must_use]
pub const fn ends_failed_block(statement: &Statement) -> bool {
    matches!(statement.control, Control::Commit { .. } | Control::Rollback { .. } | Control::RollbackTo(_))
}

/// Whether PostgreSQL refuses the statement outside a transaction block. An injection in front of it would
/// make a block of the two.
#[must_use]
pub fn needs_block(statement: &Statement) -> bool {
    // One WITH HOLD outlives its transaction, and so needs no block.
    let is_held = statement.demands.iter().any(|demand| demand.kind == DemandKind::HoldCursor);
    statement.class == StatementClass::DeclareCursor && !is_held
}

/// PostgreSQL's own refusal of a statement that, alone, runs only in a transaction block.
#[must_use]
#[expect(clippy::wildcard_enum_match_arm, reason = "whatever else, PostgreSQL itself refuses")]
pub fn outside_block(statement: &Statement) -> Option<Fault> {
    match statement.class {
        StatementClass::DeclareCursor if needs_block(statement) => Some(declare_outside_block()),
        StatementClass::Lock => Some(block_needed("LOCK TABLE")),
        _ => outside_any_block(statement),
    }
}

/// The same of those that PostgreSQL refuses in a Query of several statements, too.
#[must_use]
#[expect(clippy::wildcard_enum_match_arm, reason = "whatever else, PostgreSQL itself refuses")]
pub fn outside_any_block(statement: &Statement) -> Option<Fault> {
    match statement.control {
        Control::Savepoint(_) => Some(block_needed("SAVEPOINT")),
        Control::Release(_) => Some(block_needed("RELEASE SAVEPOINT")),
        Control::RollbackTo(_) => Some(block_needed("ROLLBACK TO SAVEPOINT")),
        Control::Commit { chain: true } => Some(block_needed("COMMIT AND CHAIN")),
        Control::Rollback { chain: true } => Some(block_needed("ROLLBACK AND CHAIN")),
        _ => None,
    }
}

fn block_needed(what: &str) -> Fault {
    Fault::native(b"25P01", format!("{what} can only be used in transaction blocks"))
}

/// PostgreSQL's own refusal of DECLARE outside a transaction block.
#[must_use]
pub fn declare_outside_block() -> Fault {
    Fault::native(b"25P01", "DECLARE CURSOR can only be used in transaction blocks")
}

/// PostgreSQL's own error for a prepared statement that is not there.
#[must_use]
pub fn unknown_statement(name: &[u8]) -> Fault {
    if name.is_empty() {
        return Fault::native(b"26000", "unnamed prepared statement does not exist");
    }
    Fault::native(b"26000", format!("prepared statement \"{}\" does not exist", String::from_utf8_lossy(name)))
}

/// PostgreSQL's own error for a statement whose columns have changed since it was prepared.
#[must_use]
pub fn result_type_changed() -> Fault {
    Fault::native(b"0A000", "cached plan must not change result type")
}

/// PostgreSQL's own error for a portal that is not there.
#[must_use]
pub fn unknown_portal(name: &[u8]) -> Fault {
    Fault::native(b"34000", format!("portal \"{}\" does not exist", String::from_utf8_lossy(name)))
}

/// PostgreSQL's own error for a name in use.
#[must_use]
pub fn duplicate_statement(name: &[u8]) -> Fault {
    Fault::native(b"42P05", format!("prepared statement \"{}\" already exists", String::from_utf8_lossy(name)))
}
