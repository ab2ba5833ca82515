//! `[check]` as ready values.

use std::path::PathBuf;
use std::sync::Arc;

/// What is done at start-up about tenant tables that policies do not cover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnGap {
    /// Nothing is looked at.
    #[default]
    Off,
    /// It is logged.
    Warn,
    /// The proxy does not start.
    Refuse,
}

/// What is looked at, and what comes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckSettings {
    /// Key of the server role that looks; without one, each database's own role does.
    pub inspector: Option<Arc<str>>,
    /// Columns that hold a tenant, by their names.
    pub tenant_columns: Vec<String>,
    /// At start-up.
    pub on_gap: OnGap,
    /// Statements that touch uncovered tenant tables are refused.
    pub refuses_uncovered: bool,
    /// Functions that run strings, or run with others' rights, are refused.
    pub denies_executors: bool,
    /// The file of justified exceptions.
    pub exceptions: Option<PathBuf>,
    /// Two tenants that exist for probes only.
    pub probe_tenants: [Arc<str>; 2],
}

impl CheckSettings {
    /// Whether something is refused, so that the proxy must know.
    #[must_use]
    pub const fn refuses(&self) -> bool {
        matches!(self.on_gap, OnGap::Refuse) || self.refuses_uncovered || self.denies_executors
    }

    /// Whether the proxy has to look at its databases before it starts.
    #[must_use]
    pub const fn is_asked_at_start(&self) -> bool {
        !matches!(self.on_gap, OnGap::Off) || self.refuses_uncovered || self.denies_executors
    }
}
