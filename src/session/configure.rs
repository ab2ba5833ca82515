//! Values of `set_config` that a client binds: `SELECT set_config('jit', $1, false)`.
//!
//! Owns: reading them from the Bind, so that they are judged and recorded as if they stood in the text. Does not own:
//! which statements have the form (the guard), or recording.

use std::sync::Arc;

use super::statements::ClientStatement;
use crate::fault::{Code, Fault};
use crate::guard::{Claim, ClaimSpan, ClaimedValue, Facts};
use crate::wire::frontend;

/// Types whose values reach `set_config` as the bytes that were sent: unspecified, `text`, `unknown`, `varchar`.
/// Others (`bpchar`, `name`) are changed on the way.
const TEXT_TYPES: &[u32] = &[0, 25, 705, 1043];

/// `uuid`, which a cast makes text of.
const UUID: u32 = 2950;

/// Types of a parameter that is a boolean.
const BOOLEAN_TYPES: &[u32] = &[0, 16, 705];

/// The statement's facts with what `values` (a Bind's body behind its names; `None` where it is not all there)
/// binds to settings, and to claims.
pub fn facts_as_bound(statement: &ClientStatement, values: Option<&[u8]>) -> Result<Arc<Facts>, Box<Fault>> {
    if let Some(claim) = statement.facts.only_claim().filter(|claim| claim.is_bound()) {
        return claim_as_bound(statement, claim, values);
    }
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

fn claim_as_bound(statement: &ClientStatement, claim: &Claim, values: Option<&[u8]>) -> Result<Arc<Facts>, Box<Fault>> {
    let values = values.ok_or_else(|| malformed("The values are too long to be those of a claim."))?;
    let types = statement.key.types();
    let value = match &claim.value {
        ClaimedValue::Parameter { number, is_cast } => tenant(types, values, *number, *is_cast)?,
        known @ (ClaimedValue::Text(_) | ClaimedValue::Null | ClaimedValue::Default) => known.clone(),
    };
    let span = match claim.span {
        ClaimSpan::Parameter(number) if is_local(types, values, number)? => ClaimSpan::Transaction,
        ClaimSpan::Parameter(_) => ClaimSpan::Session,
        known @ (ClaimSpan::Session | ClaimSpan::Transaction) => known,
    };
    Ok(Arc::new(statement.facts.with_claim(value, span)))
}

/// Text is the same in both formats. Sixteen bytes are no UUID's text, but one in binary. A UUID's text is the one that
/// PostgreSQL makes of it, however it was written.
fn tenant(types: &[u8], values: &[u8], number: u16, is_cast: bool) -> Result<ClaimedValue, Box<Fault>> {
    let oid = frontend::parameter_type(types, number).map_err(|fault| malformed(&fault.to_string()))?;
    let is_uuid = is_cast && oid == UUID;
    if !is_uuid && !TEXT_TYPES.contains(&oid) {
        return Err(malformed("It is bound as something else than text."));
    }
    let bytes = frontend::bound_value(values, number).map_err(|fault| malformed(&fault.to_string()))?;
    Ok(match bytes {
        None => ClaimedValue::Null,
        Some(bytes) => match <[u8; 16]>::try_from(bytes) {
            Ok(binary) if is_uuid => ClaimedValue::Text(uuid::Uuid::from_bytes(binary).hyphenated().to_string().into()),
            Ok(_) | Err(_) => {
                let text = std::str::from_utf8(bytes).map_err(|_| Box::new(Fault::of(Code::NotUtf8)))?;
                if is_uuid {
                    let uuid =
                        uuid::Uuid::try_parse(text).map_err(|_| malformed("It is bound as a UUID and is none."))?;
                    return Ok(ClaimedValue::Text(uuid.hyphenated().to_string().into()));
                }
                ClaimedValue::Text(text.into())
            }
        },
    })
}

/// A boolean in either format, as PostgreSQL reads it.
fn is_local(types: &[u8], values: &[u8], number: u16) -> Result<bool, Box<Fault>> {
    let unknown = || malformed("What says how long it counts is no boolean.");
    let is_boolean = frontend::parameter_type(types, number).is_ok_and(|oid| BOOLEAN_TYPES.contains(&oid));
    let bytes = frontend::bound_value(values, number).ok().flatten().filter(|_| is_boolean).ok_or_else(unknown)?;
    match bytes {
        [0] => Ok(false),
        [1] => Ok(true),
        text => {
            let text = std::str::from_utf8(text).map_err(|_| unknown())?.trim().to_ascii_lowercase();
            let is_prefix = |word: &str, least: usize| text.len() >= least && word.starts_with(&text);
            if is_prefix("true", 1) || is_prefix("yes", 1) || is_prefix("on", 2) || text == "1" {
                Ok(true)
            } else if is_prefix("false", 1) || is_prefix("no", 1) || is_prefix("off", 2) || text == "0" {
                Ok(false)
            } else {
                Err(unknown())
            }
        }
    }
}

fn refused(detail: &str) -> Box<Fault> {
    Box::new(Fault::of(Code::SettingValueRefused).with_detail(detail.to_owned()))
}

fn malformed(detail: &str) -> Box<Fault> {
    Box::new(Fault::of(Code::ClaimMalformed).with_detail(detail.to_owned()))
}
