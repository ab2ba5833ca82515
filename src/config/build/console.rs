//! Where operators look: metrics over HTTP and the console.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use super::Builder;
use crate::config::raw::{Placed, Section};
use crate::config::settings::{ConsoleSettings, HttpSettings};
use crate::metrics::MetricsSettings;

impl Builder<'_> {
    /// `[metrics]`
    pub fn metrics(&mut self, root: &Section) -> Option<HttpSettings> {
        let section = root.table("metrics");
        let counted = MetricsSettings { tenants_shown_max: section.number("tenants_max")? };
        let Some(text) = section.text("address") else {
            return Some(HttpSettings { address: None, counted });
        };
        let place = section.place_of("address");
        let Ok(address) = text.parse::<SocketAddr>() else {
            let hint = "write \"127.0.0.1:9127\" or \"[::1]:9127\"";
            self.problems.error_with_hint(&place, format!("{text:?} is no address with port"), hint);
            return None;
        };
        if !address.ip().is_loopback() {
            let message = "whoever reaches this address reads the names of databases, logins and tenants";
            self.problems.warn(&place, message, "keep it on 127.0.0.1, or behind a firewall");
        }
        Some(HttpSettings { address: Some(address), counted })
    }

    /// `[console]`
    pub fn console(&mut self, root: &Section) -> Option<ConsoleSettings> {
        let section = root.table("console");
        let (admins, stats) = (section.texts("admins")?, section.texts("stats")?);
        let settings =
            ConsoleSettings { admins: self.console_logins(root, &admins), stats: self.console_logins(root, &stats) };
        for twice in stats.iter().filter(|text| settings.admins.contains(text.value.as_str())) {
            self.problems.error(&twice.place, "is an admin of the console already");
        }
        let names = root.table("databases");
        let taken = names.named_tables().find(|(name, _)| ["tenantgate", "pgbouncer"].contains(name));
        if let (Some((name, section)), false) = (taken, admins.is_empty() && stats.is_empty()) {
            self.problems
                .error(&section.place, format!("{name:?} is the console's name as long as [console] lists logins"));
        }
        for (name, login) in root.table("logins").named_tables() {
            let is_console = login.text("preset").is_some_and(|preset| preset == "console");
            if is_console && settings.right_of(name).is_none() {
                let hint = "list it in [console] admins or stats";
                self.problems.warn(&login.place_of("preset"), "this login may not even enter the console", hint);
            }
        }
        Some(settings)
    }

    fn console_logins(&mut self, root: &Section, texts: &[Placed<String>]) -> BTreeSet<Arc<str>> {
        texts.iter().filter_map(|text| self.reference(root, "logins", text)).collect()
    }
}
