//! Values of `set_config` that a client binds: `SELECT set_config('jit', $1, false)`.
//!
//! Owns: reading them from the Bind, so that they are judged and recorded as if they stood in the text. Does not own:
//! which statements have the form (the guard), or recording.

use std::sync::Arc;

use super::statements::ClientStatement;
use crate::fault::{Code, Fault};
use crate::guard::Facts;
use crate::wire::frontend;

/// Types whose values reach `set_config` as the bytes that were sent: unspecified, `text`, `unknown`, `varchar`.
/// Others (`bpchar`, `name`) are changed on the way.
const TEXT_TYPES: &[u32] = &[0, 25, 705, 1043];

/// The statement's facts with what `values` (a Bind's body behind its names; `None` where it is not all there)
/// binds to settings.
pub fn facts_as_bound(statement: &ClientStatement, values: Option<&[u8]>) -> Result<Arc<Facts>, Box<Fault>> {
    if !statement.facts.configures_by_parameter() {
        return Ok(Arc::clone(&statement.facts));
    }
    let values = values.ok_or_else(|| refused("The values are too long to be those of settings."))?;
    let types = statement.key.types();
    statement.facts.with_values(|number| value(types, values, number)).map(Arc::new)
}

fn value(types: &[u8], values: &[u8], number: u16) -> Result<Box<str>, Box<Fault>> {
    let is_text = frontend::parameter_type(types, number).is_ok_and(|oid| TEXT_TYPES.contains(&oid));
    if !is_text {
        return Err(refused("The value of a setting is bound as something else than text."));
    }
    let bytes = frontend::bound_value(values, number).map_err(|fault| refused(&fault.to_string()))?;
    let bytes = bytes.ok_or_else(|| refused("The value of a setting is bound as NULL, which would reset it."))?;
    let text = std::str::from_utf8(bytes).map_err(|_| Box::new(Fault::of(Code::NotUtf8)))?;
    Ok(text.into())
}

fn refused(detail: &str) -> Box<Fault> {
    Box::new(Fault::of(Code::SettingValueRefused).with_detail(detail.to_owned()))
}
