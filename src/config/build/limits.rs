//! Limits of tenants and logins: the general ones, with those of single tenants and logins over them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Builder, pick};
use crate::config::raw::Section;
use crate::config::settings::ScopeSettings;
use crate::pool::{Fairness, Limits, Quota, TimeLimits};
use crate::tenant::{TenantId, TenantKind};
use crate::upstream::StatementLimits;

impl Builder<'_> {
    /// `[limits]` and `[logins.*.limits]`
    pub fn limits(&mut self, root: &Section, scope: Option<&ScopeSettings>) -> Option<Limits> {
        let section = root.table("limits");
        let fairness = pick(&section, "fairness", &[("tenants", Fairness::Tenants), ("off", Fairness::Off)]);
        let (of_tenant, of_login) = (section.table("tenant"), section.table("login"));
        let tenants = self.limited_tenants(&section.table("tenants"), &of_tenant, scope?.tenant_kind);
        let table = root.table("logins");
        let logins = table.named_tables().filter_map(|(name, login)| {
            let quota = quota(&of_login, &login.table("limits"))?;
            Some((Arc::from(name), quota))
        });
        Some(Limits {
            fairness: fairness?,
            logins: logins.collect(),
            tenants,
            tenant: quota(&of_tenant, &of_tenant)?,
            login: quota(&of_login, &of_login)?,
        })
    }

    fn limited_tenants(&mut self, list: &Section, general: &Section, kind: TenantKind) -> BTreeMap<TenantId, Quota> {
        let mut tenants = BTreeMap::new();
        for section in list.elements() {
            let Some(text) = section.text("tenant") else {
                if !section.has("tenant") {
                    self.problems.error(&section.place_of("tenant"), "is missing");
                }
                continue;
            };
            let Some(tenant) = self.tenant(&section.place_of("tenant"), &text, kind) else { continue };
            let Some(quota) = quota(general, section) else { continue };
            if tenants.insert(tenant, quota).is_some() {
                self.problems.error(&section.place_of("tenant"), "has limits already, further up");
            }
        }
        tenants
    }
}

/// Prepared statements of one client.
pub fn client_statements(root: &Section) -> Option<StatementLimits> {
    let section = root.table("limits");
    Some(StatementLimits {
        entries_max: section.number("client_prepared_statements_max")?,
        bytes_max: section.number("client_prepared_statement_bytes_max")?,
    })
}

/// The limits of `own`, and where it is silent those of `general`. 0 means none.
fn quota(general: &Section, own: &Section) -> Option<Quota> {
    let holder = |key: &str| if own.has(key) { own } else { general };
    let number = |key: &str| holder(key).number(key).map(|number| (number > 0).then_some(number));
    let duration = |key: &str| {
        let value = holder(key).duration(key)?;
        Some((value > Duration::ZERO).then_some(value))
    };
    Some(Quota {
        connections_max: number("connections_max")?,
        leases_max: number("leases_max")?,
        waiting_max: number("waiting_max")?,
        pins_max: number("pins_max")?,
        times: TimeLimits {
            transaction: duration("transaction_timeout")?,
            idle_in_transaction: duration("idle_in_transaction_timeout")?,
            statement: duration("statement_timeout")?,
            idle_pinned: duration("idle_pinned_timeout")?,
        },
    })
}
