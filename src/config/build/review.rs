//! `[review]`: the ledger in a browser.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::Builder;
use crate::config::problem::Place;
use crate::config::raw::Section;
use crate::config::settings::{LoginSecret, ReviewSettings};

/// Most bytes of a reviewer's name: it stands in records and on every page.
const NAME_BYTES_MAX: usize = 64;

impl Builder<'_> {
    /// `[review]`
    pub fn review(&mut self, section: &Section, has_ledger: bool) -> Option<ReviewSettings> {
        let reviewers = self.reviewers(&section.table("reviewers"));
        let origin = match section.text("origin") {
            Some(origin) => Some(self.origin(&section.place_of("origin"), origin)?),
            None => None,
        };
        let idle_timeout = section.duration("idle_timeout")?;
        let address = match section.text("address") {
            Some(text) => Some(self.review_address(&section.place_of("address"), &text, origin.as_deref())?),
            None => None,
        };
        let place = section.place_of("address");
        if address.is_some() && !has_ledger {
            self.problems.error_with_hint(&place, "needs a ledger, and there is none", "give [ledger]");
        }
        if address.is_some() && reviewers.is_empty() && !section.table("reviewers").is_present {
            let hint = "give [review.reviewers.NAME] a password";
            self.problems.error_with_hint(&place, "nobody may see the review page", hint);
        }
        Some(ReviewSettings { address, origin, idle_timeout, reviewers })
    }

    fn reviewers(&mut self, section: &Section) -> BTreeMap<Arc<str>, LoginSecret> {
        let mut reviewers = BTreeMap::new();
        for (name, table) in section.named_tables() {
            if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
                let message = format!("a reviewer's name has 1 to {NAME_BYTES_MAX} bytes, and no control characters");
                self.problems.error(&table.place, message);
                continue;
            }
            let forms = ["password", "password_env", "password_file", "scram"];
            let is_given = forms.iter().any(|form| table.has(form));
            if !is_given {
                let hint = "give password, password_env, password_file or scram";
                self.problems.error_with_hint(&table.place, "a reviewer needs a password", hint);
            }
            if let Some(secret) = self.login_secret(table) {
                reviewers.insert(name.into(), secret);
            }
        }
        reviewers
    }

    /// Browsers compare origins letter by letter: no path, no slash at the end.
    fn origin(&mut self, place: &Place, text: String) -> Option<String> {
        let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let is_host = |host: &str| {
            let is_fit =
                |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | ':' | '[' | ']');
            !host.is_empty() && host.chars().all(is_fit)
        };
        if host.is_some_and(is_host) {
            return Some(text);
        }
        let hint =
            "write \"https://review.example.com\": scheme and host in small letters, a port if it is not the usual one";
        self.problems.error_with_hint(place, format!("{text:?} is no origin"), hint);
        None
    }

    fn review_address(&mut self, place: &Place, text: &str, origin: Option<&str>) -> Option<SocketAddr> {
        let Ok(address) = text.parse::<SocketAddr>() else {
            let hint = "write \"127.0.0.1:9128\" or \"[::1]:9128\"";
            self.problems.error_with_hint(place, format!("{text:?} is no address with port"), hint);
            return None;
        };
        if address.ip().is_loopback() {
            return Some(address);
        }
        if origin.is_some_and(|origin| origin.starts_with("https://")) {
            let message = "passwords and records come to this address without TLS";
            self.problems.warn(place, message, "let nobody reach it but the proxy that has TLS");
            return Some(address);
        }
        let hint = "keep it on 127.0.0.1, or put a proxy with TLS in front and name it: origin = \"https://…\"";
        self.problems.error_with_hint(place, "passwords would cross the network without TLS", hint);
        None
    }
}
