//! Which tenants are frozen, why, by whom and since when; and the text that remembers it.
//!
//! Owns: the set and the form of its file. Does not own: the file, the clock, or what a freeze does to
//! sessions.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::id::{TenantFault, TenantId, TenantKind};

/// Tenants frozen at once at most: a freeze is an emergency, and the whole set is written at each change.
pub const FROZEN_MAX: usize = 10_000;

/// Longest reason, in characters: a sentence or two.
const REASON_CHARS_MAX: usize = 500;

/// The same in bytes, as the whole set is written at each change.
const REASON_BYTES_MAX: usize = 1_000;

/// The form of the file; a program that does not know it must not guess.
const VERSION: u32 = 1;

/// Why an administrator freezes or thaws a tenant: some words in one line, which go into a log line, a file and the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreezeReason(Arc<str>);

/// What is wrong with a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FreezeReasonFault {
    /// Nothing but blanks.
    #[error("the reason is empty")]
    Empty,
    /// More than a sentence or two.
    #[error("the reason is longer than {REASON_CHARS_MAX} characters or {REASON_BYTES_MAX} bytes")]
    TooLong,
    /// It is not one line of text.
    #[error("the reason holds control characters")]
    Control,
}

impl FreezeReason {
    /// Checks a text; blanks around it are dropped.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, FreezeReasonFault> {
        let text = text.trim();
        if text.is_empty() {
            return Err(FreezeReasonFault::Empty);
        }
        if text.len() > REASON_BYTES_MAX || text.chars().count() > REASON_CHARS_MAX {
            return Err(FreezeReasonFault::TooLong);
        }
        if text.chars().any(char::is_control) {
            return Err(FreezeReasonFault::Control);
        }
        Ok(Self(text.into()))
    }

    /// The text.
    #[must_use]
    pub const fn text(&self) -> &Arc<str> {
        &self.0
    }
}

/// Why a tenant is frozen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// In the administrator's words; never empty.
    pub reason: Arc<str>,
    /// The administrator's login.
    pub by: Arc<str>,
    /// When, as RFC 3339 in UTC.
    pub at: Arc<str>,
}

/// The tenants that are frozen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrozenTenants(BTreeMap<TenantId, Frozen>);

/// Why a file gives no set. Nobody is let in on a guess about who is frozen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FreezeFileFault {
    /// Not the form at all.
    #[error("it is not a list of frozen tenants: {0}")]
    Form(String),
    /// Written by another version.
    #[error("its version is {0}, not {VERSION}")]
    Version(u32),
    /// A tenant that is none under this configuration.
    #[error("entry {number}: {fault}")]
    Tenant {
        /// Which entry, from 1.
        number: usize,
        /// What is wrong with it.
        fault: TenantFault,
    },
    /// The same tenant twice.
    #[error("entry {0}: the tenant was named before")]
    Twice(usize),
    /// More than there may be.
    #[error("it holds more than {FROZEN_MAX} tenants")]
    TooMany,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    frozen: Vec<Entry>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    tenant: String,
    reason: String,
    by: String,
    at: String,
}

impl FrozenTenants {
    /// Whether nobody may work for the tenant.
    #[must_use]
    pub fn has(&self, tenant: &TenantId) -> bool {
        self.0.contains_key(tenant)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nobody is frozen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, in the tenants' order.
    pub fn iter(&self) -> impl Iterator<Item = (&TenantId, &Frozen)> {
        self.0.iter()
    }

    /// With one more, or another reason for one; `None` if there are too many.
    #[must_use]
    pub fn with(&self, tenant: &TenantId, frozen: Frozen) -> Option<Self> {
        if self.0.len() >= FROZEN_MAX && !self.has(tenant) {
            return None;
        }
        let mut next = self.clone();
        next.0.insert(tenant.clone(), frozen);
        Some(next)
    }

    /// Without one; `None` if it was not frozen.
    #[must_use]
    pub fn without(&self, tenant: &TenantId) -> Option<Self> {
        let mut next = self.clone();
        next.0.remove(tenant)?;
        Some(next)
    }

    /// From the text of a file.
    ///
    /// # Errors
    /// Whatever is not exactly as [`FrozenTenants::to_text`] writes it.
    pub fn parse(text: &str, kind: TenantKind) -> Result<Self, FreezeFileFault> {
        let file: File = serde_json::from_str(text).map_err(|error| FreezeFileFault::Form(error.to_string()))?;
        if file.version != VERSION {
            return Err(FreezeFileFault::Version(file.version));
        }
        if file.frozen.len() > FROZEN_MAX {
            return Err(FreezeFileFault::TooMany);
        }
        let mut tenants = BTreeMap::new();
        for (number, entry) in (1..).zip(file.frozen) {
            let tenant = TenantId::parse(kind, &entry.tenant);
            let tenant = tenant.map_err(|fault| FreezeFileFault::Tenant { number, fault })?;
            let frozen = Frozen { reason: entry.reason.into(), by: entry.by.into(), at: entry.at.into() };
            if tenants.insert(tenant, frozen).is_some() {
                return Err(FreezeFileFault::Twice(number));
            }
        }
        Ok(Self(tenants))
    }

    /// The text of a file.
    ///
    /// # Errors
    /// None in practice: everything in it is text.
    pub fn to_text(&self) -> Result<String, FreezeFileFault> {
        let entry = |(tenant, frozen): (&TenantId, &Frozen)| Entry {
            tenant: tenant.as_str().to_owned(),
            reason: frozen.reason.to_string(),
            by: frozen.by.to_string(),
            at: frozen.at.to_string(),
        };
        let file = File { version: VERSION, frozen: self.0.iter().map(entry).collect() };
        let mut text = serde_json::to_string_pretty(&file).map_err(|error| FreezeFileFault::Form(error.to_string()))?;
        text.push('\n');
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(text: &str) -> TenantId {
        TenantId::parse(TenantKind::Text, text).unwrap()
    }

    fn frozen(reason: &str) -> Frozen {
        Frozen { reason: reason.into(), by: "ops".into(), at: "2026-11-23T09:00:00Z".into() }
    }

    #[test]
    fn a_set_is_what_its_text_says() {
        let set = FrozenTenants::default().with(&tenant("acme"), frozen("a \"leak\"\nand more")).unwrap();
        let set = set.with(&tenant("globex"), frozen("unpaid")).unwrap();
        let again = FrozenTenants::parse(&set.to_text().unwrap(), TenantKind::Text).unwrap();
        assert_eq!(again, set);
        assert!(again.has(&tenant("acme")) && !again.has(&tenant("initech")) && again.len() == 2);
        let thawed = again.without(&tenant("acme")).unwrap();
        assert!(!thawed.has(&tenant("acme")) && thawed.without(&tenant("acme")).is_none());
        assert_eq!(
            FrozenTenants::parse("{\"version\":1,\"frozen\":[]}", TenantKind::Uuid),
            Ok(FrozenTenants::default())
        );
    }

    #[test]
    fn a_reason_is_a_sentence_or_two_in_one_line() {
        let parse = |text: &str| FreezeReason::parse(text).map(|reason| reason.text().to_string());
        assert_eq!(parse(" it's ours\u{a0}"), Ok("it's ours".to_owned()));
        for blank in ["", "  ", "\t\n", "\u{a0}"] {
            assert_eq!(parse(blank), Err(FreezeReasonFault::Empty), "{blank:?}");
        }
        for long in ["x".repeat(500), "ä".repeat(500)] {
            assert_eq!(parse(&long), Ok(long.clone()));
        }
        for long in ["x".repeat(501), "ä".repeat(501), "€".repeat(334)] {
            assert_eq!(parse(&long), Err(FreezeReasonFault::TooLong));
        }
        for control in ["a\nb", "a\0b", "a\u{85}b", "\x1b[2J"] {
            assert_eq!(parse(control), Err(FreezeReasonFault::Control), "{control:?}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let entry = |tenant: &str| format!("{{\"tenant\":\"{tenant}\",\"reason\":\"r\",\"by\":\"b\",\"at\":\"t\"}}");
        let file = |entries: &str| format!("{{\"version\":1,\"frozen\":[{entries}]}}");
        let parse = |text: &str| FrozenTenants::parse(text, TenantKind::Text);
        for torn in ["", "{", "[]", "{\"version\":1}", &file("{}"), &file(&entry("a"))[..40]] {
            assert!(matches!(parse(torn), Err(FreezeFileFault::Form(_))), "{torn}");
        }
        let more = file(&entry("a")).replace("\"by\"", "\"until\":\"x\",\"by\"");
        assert!(matches!(parse(&more), Err(FreezeFileFault::Form(_))));
        assert_eq!(parse("{\"version\":2,\"frozen\":[]}"), Err(FreezeFileFault::Version(2)));
        assert_eq!(parse(&file(&format!("{},{}", entry("a"), entry("a")))), Err(FreezeFileFault::Twice(2)));
        let malformed = FreezeFileFault::Tenant { number: 1, fault: TenantFault::NotUuid };
        assert_eq!(FrozenTenants::parse(&file(&entry("a")), TenantKind::Uuid), Err(malformed));
    }
}
