//! Records that belong to no transaction: what operators, or the proxy itself, have done.
//!
//! A new kind is a type with [`Act`] and its row in docs/bypass.md; the writer takes any of them.
//!
//! Owns: the trait, freezes and thaws of tenants. Does not own: lines (`line`), other kinds (each has its own file).

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::tenant::TenantId;

/// A record's own fields, behind those that every line has.
#[derive(Debug)]
pub struct Fields<'f>(pub(super) &'f mut Map<String, Value>);

impl Fields<'_> {
    /// Puts one field.
    pub fn put(&mut self, name: &str, value: impl Into<Value>) {
        drop(self.0.insert(name.to_owned(), value.into()));
    }
}

/// What was, or is to be, done outside of transactions.
pub trait Act: fmt::Debug + Send {
    /// The word in `kind`.
    fn kind(&self) -> &'static str;

    /// Its own name in the ledger.
    fn id(&self) -> Uuid;

    /// Whether it is not done unless it can be written; else it has happened, and its record is kept until it can.
    fn is_ahead(&self) -> bool;

    /// Puts its fields.
    fn put(&self, fields: &mut Fields<'_>);
}

/// What an administrator does to a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TenantAct {
    /// Nobody works for it any more.
    Freeze,
    /// The end of that.
    Thaw,
}

impl TenantAct {
    /// The kind of its record.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            TenantAct::Freeze => "freeze",
            TenantAct::Thaw => "thaw",
        }
    }
}

/// A record of what was done to a tenant.
#[derive(Clone, Debug)]
pub struct TenantRecord {
    /// Its own name in the ledger.
    pub id: Uuid,
    /// What.
    pub act: TenantAct,
    /// Whose login did it.
    pub login: Arc<str>,
    /// Where from.
    pub address: Arc<str>,
    /// To whom.
    pub tenant: TenantId,
    /// Why.
    pub reason: Arc<str>,
}

impl Act for TenantRecord {
    fn kind(&self) -> &'static str {
        self.act.kind()
    }

    fn id(&self) -> Uuid {
        self.id
    }

    fn is_ahead(&self) -> bool {
        self.act == TenantAct::Thaw
    }

    fn put(&self, fields: &mut Fields<'_>) {
        let Self { id: _, act: _, login, address, tenant, reason } = self;
        fields.put("login", json!(**login));
        fields.put("address", json!(**address));
        fields.put("tenant", json!(tenant.as_str()));
        fields.put("reason", json!(**reason));
    }
}
