//! Records of configurations that change what somebody may do.
//!
//! Owns: the record. Does not own: which keys are about rights (`config`).

use std::sync::Arc;

use serde_json::json;
use uuid::Uuid;

use super::act::{Act, Fields};

/// Most keys that are named; more are counted. A line stays under its bound.
const CHANGES_MAX: usize = 200;

/// A reload that changed rights.
#[derive(Debug)]
pub struct RightsChange {
    /// Its name in the ledger.
    pub id: Uuid,
    /// Who asked for the reload; `SIGHUP` and its like where a signal did.
    pub login: Arc<str>,
    /// Where from.
    pub address: Arc<str>,
    /// The configuration that was in force, as intents name it.
    pub before: Arc<str>,
    /// The one that is.
    pub after: Arc<str>,
    /// The keys, without their values: `[section]` for one whose secret has changed.
    pub changes: Vec<String>,
}

impl Act for RightsChange {
    fn kind(&self) -> &'static str {
        "config"
    }

    fn id(&self) -> Uuid {
        self.id
    }

    /// It is in force when it is told.
    fn is_ahead(&self) -> bool {
        false
    }

    fn put(&self, fields: &mut Fields<'_>) {
        fields.put("login", json!(*self.login));
        fields.put("address", json!(*self.address));
        fields.put("before", json!(*self.before));
        fields.put("after", json!(*self.after));
        fields.put("changes", json!(self.changes.get(..CHANGES_MAX).unwrap_or(&self.changes)));
        fields.put("changes_total", json!(self.changes.len()));
    }
}
