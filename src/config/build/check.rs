//! `[check]`: what is looked at in databases.

use std::sync::Arc;

use super::{Builder, pick};
use crate::config::raw::{Placed, Section};
use crate::config::settings::{CheckSettings, OnGap, ScopeSettings};
use crate::tenant::TenantKind;

const ALLOW_OR_REFUSE: [(&str, bool); 2] = [("allow", false), ("refuse", true)];
const PROBE_UUIDS: [&str; 2] = ["00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b"];
const PROBE_TEXTS: [&str; 2] = ["tenantgate-probe-a", "tenantgate-probe-b"];

impl Builder<'_> {
    /// `[check]`
    pub fn check(&mut self, root: &Section, scope: Option<&ScopeSettings>) -> Option<CheckSettings> {
        let section = root.table("check");
        let inspector = match section.text("inspector") {
            Some(value) => {
                Some(self.reference(root, "roles", &Placed { place: section.place_of("inspector"), value })?)
            }
            None => None,
        };
        let tenant_columns = section.texts("tenant_columns")?.into_iter().map(|text| text.value).collect();
        let on_gaps = [("off", OnGap::Off), ("warn", OnGap::Warn), ("refuse", OnGap::Refuse)];
        Some(CheckSettings {
            inspector,
            tenant_columns,
            on_gap: pick(&section, "on_gap", &on_gaps)?,
            refuses_uncovered: pick(&section, "uncovered_tables", &ALLOW_OR_REFUSE)?,
            denies_executors: pick(&section, "executors", &ALLOW_OR_REFUSE)?,
            exceptions: section.text("exceptions").map(|path| self.environment.locate(&path)),
            probe_tenants: self.probe_tenants(&section, scope?.tenant_kind)?,
        })
    }

    fn probe_tenants(&mut self, section: &Section, kind: TenantKind) -> Option<[Arc<str>; 2]> {
        if !section.has("probe_tenants") {
            let default = match kind {
                TenantKind::Uuid => PROBE_UUIDS,
                TenantKind::Text => PROBE_TEXTS,
            };
            return Some(default.map(Arc::from));
        }
        let texts = section.texts("probe_tenants")?;
        let [one, other] = texts.as_slice() else {
            self.problems.error(&section.place_of("probe_tenants"), "two tenants are needed");
            return None;
        };
        let mut tenant = |text: &Placed<String>| self.tenant(&text.place, &text.value, kind);
        let (one, other) = (tenant(one), tenant(other));
        Some([one?.as_str().into(), other?.as_str().into()])
    }
}
