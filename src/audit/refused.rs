//! Records of bypasses that were refused: somebody has tried.
//!
//! Owns: the record. Does not own: what is refused, or the transaction around it, which has records of its own.

use std::sync::Arc;

use serde_json::json;
use uuid::Uuid;

use super::act::{Act, Fields};
use super::line::put_actor;
use super::record::Actor;
use crate::fault::Code;

/// Longest part of a reason that is kept, in characters: the reason itself may be what was wrong.
const REASON_CHARS_MAX: usize = 500;

/// One refusal.
#[derive(Debug)]
pub struct Refusal {
    id: Uuid,
    actor: Arc<Actor>,
    code: Code,
    class: &'static str,
    reason: Option<Box<str>>,
}

impl Refusal {
    /// A statement of this class was refused to somebody who gave this reason, or none.
    #[must_use]
    pub fn new(id: Uuid, actor: Arc<Actor>, code: Code, class: &'static str, reason: Option<&str>) -> Self {
        let reason = reason.map(|text| text.chars().take(REASON_CHARS_MAX).collect::<String>().into());
        Self { id, actor, code, class, reason }
    }
}

impl Act for Refusal {
    fn kind(&self) -> &'static str {
        "refused"
    }

    fn id(&self) -> Uuid {
        self.id
    }

    /// Nobody waits for it, so it is not kept where it cannot be written: who may log in could fill the memory with them.
    fn is_ahead(&self) -> bool {
        true
    }

    fn put(&self, fields: &mut Fields<'_>) {
        put_actor(fields.0, &self.actor);
        let row = self.code.row();
        fields.put("code", json!(row.name));
        fields.put("sqlstate", json!(String::from_utf8_lossy(row.sqlstate)));
        fields.put("class", json!(self.class));
        fields.put("reason", json!(self.reason));
    }
}
