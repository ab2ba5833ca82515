//! Records of emergencies, and of all bypasses being frozen.

use std::sync::Arc;

use serde_json::json;
use uuid::Uuid;

use super::act::{Act, Fields};

/// What is done to bypasses as such.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BypassAct {
    /// None runs any more.
    Freeze,
    /// They run again.
    Thaw,
    /// A login may go beyond its rules.
    EmergencyOpen {
        /// Whose.
        login: Arc<str>,
        /// Until when, RFC 3339 in UTC.
        until: Arc<str>,
    },
    /// It may not any more.
    EmergencyClose {
        /// Whose.
        login: Arc<str>,
        /// Until when it was meant to, RFC 3339 in UTC.
        until: Arc<str>,
    },
}

/// A record of it.
#[derive(Clone, Debug)]
pub struct BypassRecord {
    /// Its name in the ledger: of an emergency that of the emergency.
    pub id: Uuid,
    /// What.
    pub act: BypassAct,
    /// Who did it; `proxy` where nobody did.
    pub by: Arc<str>,
    /// Where from.
    pub address: Arc<str>,
    /// Why.
    pub reason: Arc<str>,
}

impl Act for BypassRecord {
    fn kind(&self) -> &'static str {
        match self.act {
            BypassAct::Freeze => "bypass_freeze",
            BypassAct::Thaw => "bypass_thaw",
            BypassAct::EmergencyOpen { .. } => "emergency_open",
            BypassAct::EmergencyClose { .. } => "emergency_close",
        }
    }

    fn id(&self) -> Uuid {
        self.id
    }

    /// What lets more through is not done without its record; what lets less through is.
    fn is_ahead(&self) -> bool {
        matches!(self.act, BypassAct::Thaw | BypassAct::EmergencyOpen { .. })
    }

    fn put(&self, fields: &mut Fields<'_>) {
        match &self.act {
            BypassAct::Freeze | BypassAct::Thaw => fields.put("login", json!(*self.by)),
            BypassAct::EmergencyOpen { login, until } | BypassAct::EmergencyClose { login, until } => {
                fields.put("login", json!(**login));
                fields.put("by", json!(*self.by));
                fields.put("until", json!(**until));
            }
        }
        fields.put("address", json!(*self.address));
        fields.put("reason", json!(*self.reason));
    }
}
