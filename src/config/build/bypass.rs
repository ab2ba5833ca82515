//! `[[bypass.rules]]` and `logins.*.emergencies`: what bypass logins may do.
//!
//! Owns: from texts to rules, and rules that can mean nothing. Does not own: what rules do (`bypass`).

use std::collections::BTreeSet;

use jiff::tz::TimeZone;

use super::{Builder, pick};
use crate::auth::AddressPattern;
use crate::bypass::{Hours, Pattern, PatternFault, Rule, Tables};
use crate::config::raw::{Placed, Section};
use crate::config::settings::{BypassRule, EmergencyUse};
use crate::guard::Preset;
use crate::tenant::Glob;
use crate::time::TimeOfDay;

impl Builder<'_> {
    /// `[[bypass.rules]]`
    pub fn bypass_rules(&mut self, root: &Section) -> Option<Vec<BypassRule>> {
        let list = root.table("bypass").table("rules");
        let rules: Vec<_> = list.elements().iter().map(|section| self.bypass_rule(root, section)).collect();
        let rules: Vec<BypassRule> = rules.into_iter().collect::<Option<_>>()?;
        self.warn_of_unreached(list.elements(), &rules);
        Some(rules)
    }

    /// `logins.*.emergencies`
    pub fn emergencies(&mut self, login: &Section, preset: Preset) -> Option<EmergencyUse> {
        if login.has("emergencies") && preset != Preset::Bypass {
            self.problems
                .error(&login.place_of("emergencies"), "has a meaning for logins with preset = \"bypass\" only");
            return None;
        }
        let words = [("allowed", EmergencyUse::Allowed), ("only", EmergencyUse::Only), ("never", EmergencyUse::Never)];
        pick(login, "emergencies", &words)
    }

    fn bypass_rule(&mut self, root: &Section, section: &Section) -> Option<BypassRule> {
        let login = self.bypass_login(root, section);
        let reason = self.bypass_pattern(section, "reason", Pattern::whole);
        let ticket = self.bypass_pattern(section, "ticket", Pattern::part);
        let databases = self.given_texts(section, "databases", |builder, texts| {
            let names: Vec<_> = texts.iter().map(|text| builder.reference(root, "databases", text)).collect();
            names.into_iter().collect::<Option<BTreeSet<_>>>()
        });
        let tables = self.given_texts(section, "tables", |builder, texts| {
            let parsed = Tables::parse(texts.iter().map(|text| text.value.as_str()));
            parsed.map_err(|(at, fault)| builder.wrong_at(texts, at, &fault.to_string())).ok()
        });
        let hours = self.given_texts(section, "hours", |builder, texts| {
            let parsed = Hours::parse(texts.iter().map(|text| text.value.as_str()));
            parsed.map_err(|(at, fault)| builder.wrong_at(texts, at, &fault.to_string())).ok()
        });
        let addresses = self.given_texts(section, "addresses", |builder, texts| {
            let read: Vec<_> = texts.iter().map(|text| builder.bypass_address(text)).collect();
            read.into_iter().collect::<Option<Vec<_>>>()
        });
        let expires = self.bypass_expiry(section);
        let rows = self.given_value(section, "rows", Section::number);
        let statements = self.given_value(section, "statements", Section::number);
        let duration = self.given_value(section, "duration", Section::duration);
        let rule = Rule {
            reason: reason?,
            databases: databases?,
            tables: tables?,
            read_only: section.flag("read_only")?,
            duration: duration?,
            rows: rows?.map(|rows| rows as u64),
            statements: statements?.map(|statements| statements as u64),
            expires: expires?,
            ticket: ticket?,
            addresses: addresses?,
            hours: hours?,
        };
        Some(BypassRule { login: login?, rule })
    }

    /// A rule for a login that never bypasses would protect nothing.
    fn bypass_login(&mut self, root: &Section, section: &Section) -> Option<Glob> {
        let value = section.text("login")?;
        if value == "*" {
            return Some(Glob::any());
        }
        let place = section.place_of("login");
        let name = self.reference(root, "logins", &Placed { place: place.clone(), value })?;
        let preset = root.table("logins").table(&name).text("preset");
        if preset.as_deref() != Some("bypass") {
            self.problems.error(&place, format!("{:?} is no login with preset = \"bypass\"", &*name));
            return None;
        }
        Some(Glob::exact(&name))
    }

    fn bypass_pattern(
        &mut self,
        section: &Section,
        key: &str,
        compile: fn(&str) -> Result<Pattern, PatternFault>,
    ) -> Option<Option<Pattern>> {
        if !section.has(key) {
            return Some(None);
        }
        let text = section.text(key)?;
        match compile(&text) {
            Ok(pattern) => Some(Some(pattern)),
            Err(fault) => {
                let message = format!("{text:?} is no regular expression: {fault}");
                self.problems.error(&section.place_of(key), message);
                None
            }
        }
    }

    fn bypass_address(&mut self, text: &Placed<String>) -> Option<AddressPattern> {
        self.address(&text.place, &text.value)
    }

    /// A day counts to its end.
    fn bypass_expiry(&mut self, section: &Section) -> Option<Option<TimeOfDay>> {
        if !section.has("expires") {
            return Some(None);
        }
        let text = section.text("expires")?;
        let end_of_day = |day: jiff::civil::Date| {
            let next = day.tomorrow().ok()?.to_zoned(TimeZone::UTC).ok()?;
            Some(next.timestamp())
        };
        // A time without an offset is nobody's.
        let day = (text.len() == 10).then(|| text.parse::<jiff::civil::Date>().ok()).flatten();
        let time = day.and_then(end_of_day).or_else(|| text.parse::<jiff::Timestamp>().ok());
        if time.is_none() {
            let hint = "write a day, \"2030-12-31\", or a time with its offset, \"2030-12-31T18:00:00Z\"";
            self.problems.error_with_hint(&section.place_of("expires"), format!("{text:?} is no date"), hint);
        }
        time.map(|time| Some(TimeOfDay::from_unix_micros(time.as_microsecond())))
    }

    /// `Some(None)`: the file does not have it; `None`: it is wrong, and that is reported.
    fn given_value<T>(&self, section: &Section, key: &str, read: fn(&Section, &str) -> Option<T>) -> Option<Option<T>> {
        if section.has(key) { read(section, key).map(Some) } else { Some(None) }
    }

    /// A list that is there and empty would let nothing through: nobody means that.
    fn given_texts<T>(
        &mut self,
        section: &Section,
        key: &str,
        build: impl FnOnce(&mut Self, &[Placed<String>]) -> Option<T>,
    ) -> Option<Option<T>> {
        if !section.has(key) {
            return Some(None);
        }
        let texts = section.texts(key)?;
        if texts.is_empty() {
            self.problems.error(&section.place_of(key), "lists nothing; leave the key out to allow all");
            return None;
        }
        build(self, &texts).map(Some)
    }

    fn wrong_at(&mut self, texts: &[Placed<String>], at: usize, message: &str) {
        if let Some(text) = texts.get(at) {
            self.problems.error(&text.place, format!("{:?}: {message}", text.value));
        }
    }

    /// Behind a rule for every reason no other of the same login is ever asked.
    fn warn_of_unreached(&mut self, sections: &[Section], rules: &[BypassRule]) {
        let covers = |one: &BypassRule, other: &BypassRule| one.login == Glob::any() || one.login == other.login;
        for (at, (section, rule)) in sections.iter().zip(rules).enumerate() {
            let before = rules.iter().take(at).any(|one| one.rule.reason.is_none() && covers(one, rule));
            if before {
                let hint = "put it in front of the rule for every reason, or give that one a reason";
                self.problems.warn(&section.place, "is never asked: a rule before it fits every reason", hint);
            }
        }
    }
}
