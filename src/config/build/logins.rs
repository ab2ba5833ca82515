//! Logins and the tenants they may act for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Builder, pick};
use crate::auth::DatabaseList;
use crate::config::problem::Place;
use crate::config::raw::{Placed, Section, TenantsText};
use crate::config::settings::{EmergencyUse, LoginEntry, LoginGuard, LoginSecret, ScopeSettings};
use crate::guard::{Keeping, Preset};
use crate::scope::Lifetime;
use crate::tenant::{
    AllowedTenants, Claiming, Glob, Origin, Separator, TenantId, TenantKind, TenantPolicy, TenantSource,
};

/// What a login is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// Statements, as the preset allows them.
    Data(Preset),
    /// The console and nothing else.
    Console,
}

const PRESETS: [(&str, Purpose); 5] = [
    ("tenant", Purpose::Data(Preset::Tenant)),
    ("application", Purpose::Data(Preset::Application)),
    ("migration", Purpose::Data(Preset::Migration)),
    ("bypass", Purpose::Data(Preset::Bypass)),
    ("console", Purpose::Console),
];

impl Builder<'_> {
    /// `[logins.*]`
    pub fn logins(&mut self, root: &Section, scope: Option<&ScopeSettings>) -> BTreeMap<Arc<str>, LoginEntry> {
        let table = root.table("logins");
        self.at_least_one(&table, "logins.app_user");
        let logins =
            table.named_tables().filter_map(|(name, section)| self.login(root, name, section, scope)).collect();
        self.check_suffixes_are_unambiguous(&table, &logins);
        self.check_claims_end_with_transactions(&table, &logins, scope);
        logins
    }

    fn login(
        &mut self,
        root: &Section,
        name: &str,
        section: &Section,
        scope: Option<&ScopeSettings>,
    ) -> Option<(Arc<str>, LoginEntry)> {
        let kind = scope.map(|scope| scope.tenant_kind);
        let key = self.name(&section.place, name);
        let secret = self.required_secret(root, name, section);
        let databases = self.login_databases(root, section);
        let role = section.text("role").map(|value| {
            let place = section.place_of("role");
            self.reference(root, "roles", &Placed { place, value })
        });
        let purpose = pick(section, "preset", &PRESETS);
        if purpose == Some(Purpose::Console) {
            return self.console_login(section, key?, secret);
        }
        let preset = purpose.map(|purpose| match purpose {
            Purpose::Data(preset) => preset,
            Purpose::Console => Preset::Tenant,
        });
        let tenant = match preset {
            Some(Preset::Bypass) => self.no_tenant(section),
            Some(Preset::Tenant | Preset::Application | Preset::Migration) | None => {
                self.tenant_policy(section, kind, preset.unwrap_or_default()).map(Some)
            }
        };
        if preset.is_some_and(Preset::is_recorded) && !section.has("role") {
            let hint = "it needs a server role of its own, which sees more than the tenants' role";
            self.problems.error_with_hint(&section.place.key("role"), "is missing", hint);
        }
        let keeping = self.keeping(section, preset.unwrap_or_default());
        let guard = self.login_guard(&section.table("guard"), scope);
        let emergencies = self.emergencies(section, preset.unwrap_or_default());
        let claimed_bypass = self.claimed_bypass(section, scope);
        // A role that is given and wrong has been reported.
        let role = role.flatten();
        Some((
            key?,
            LoginEntry {
                secret,
                databases: databases?,
                role,
                preset: preset?,
                keeping: keeping?,
                emergencies: emergencies?,
                guard: guard?,
                tenant: tenant?,
                claimed_bypass: claimed_bypass?,
            },
        ))
    }

    /// `pool_mode` and `session_state`. With session pooling there is nothing to refuse.
    fn keeping(&mut self, section: &Section, preset: Preset) -> Option<Keeping> {
        let mode = pick(section, "pool_mode", &[("transaction", false), ("session", true)])?;
        let state = match section.has("session_state") {
            true => pick(section, "session_state", &[("refuse", Keeping::Refuse), ("pin", Keeping::Pin)])?,
            false => preset.default_keeping(),
        };
        if mode && section.has("session_state") {
            let message = "has no meaning beside pool_mode = \"session\", which keeps the server anyway";
            self.problems.error(&section.place_of("session_state"), message);
            return None;
        }
        Some(if mode { Keeping::Session } else { state })
    }

    /// A login that sees no database at all; `[console]` says what it may do.
    fn console_login(
        &mut self,
        section: &Section,
        name: Arc<str>,
        secret: Option<LoginSecret>,
    ) -> Option<(Arc<str>, LoginEntry)> {
        let tables = [section.table("tenant"), section.table("guard"), section.table("claimed_bypass")];
        let keys = ["role", "databases", "pool_mode", "session_state", "claims", "emergencies"]
            .into_iter()
            .filter(|key| section.has(key))
            .map(|key| section.place_of(key));
        let tables = tables.into_iter().filter(|table| table.is_present).map(|table| table.place.clone());
        for place in keys.chain(tables) {
            self.problems.error(&place, "has no meaning for a login that is for the console only");
        }
        let databases = DatabaseList::Only(BTreeSet::new());
        Some((
            name,
            LoginEntry {
                secret,
                databases,
                role: None,
                preset: Preset::Tenant,
                keeping: Keeping::Refuse,
                emergencies: EmergencyUse::default(),
                guard: LoginGuard::default(),
                tenant: None,
                claimed_bypass: None,
            },
        ))
    }

    /// `Some(None)`: a bypass login has none, and that is right.
    fn no_tenant(&mut self, section: &Section) -> Option<Option<TenantPolicy>> {
        let table = section.table("tenant");
        if section.has("claims") {
            let message = "has no meaning for a bypass login, which sees every tenant's rows";
            self.problems.error(&section.place_of("claims"), message);
            return None;
        }
        if table.is_present {
            self.problems.error(&table.place, "has no meaning for a bypass login, which sees every tenant's rows");
            return None;
        }
        Some(None)
    }

    /// Only a login that a rule lets in without a password may have none.
    fn required_secret(&mut self, root: &Section, name: &str, section: &Section) -> Option<LoginSecret> {
        let has_any = ["password", "password_env", "password_file", "scram"].iter().any(|form| section.has(form));
        if !has_any && !needs_no_password_somewhere(root, name) {
            let hint = "give password, password_env, password_file or scram, or let it in by a rule with method = \"cert\" or \"trust\"";
            self.problems.error_with_hint(&section.place, "has no password", hint);
        }
        self.login_secret(section)
    }

    fn login_databases(&mut self, root: &Section, section: &Section) -> Option<DatabaseList> {
        if !section.has("databases") {
            return Some(DatabaseList::All);
        }
        let texts = section.texts("databases")?;
        if texts.is_empty() {
            self.problems.error(&section.place_of("databases"), "lists no database; leave the key out to allow all");
        }
        let names = texts.iter().filter_map(|text| self.reference(root, "databases", text));
        Some(DatabaseList::Only(names.map(|name| name.to_string()).collect()))
    }

    fn tenant_policy(&mut self, login: &Section, kind: Option<TenantKind>, preset: Preset) -> Option<TenantPolicy> {
        let section = &login.table("tenant");
        let claiming = self.claiming(login, preset)?;
        let policy = match (section.has("fixed"), section.has("from")) {
            (true, true) => {
                self.problems.error(&section.place_of("from"), "a tenant is either fixed or comes from the client");
                None
            }
            (false, false) if claiming.is_allowed() => {
                let allowed = self.allowed_tenants(section, kind?)?;
                let source = TenantSource::Named { from: Vec::new(), separator: Separator::default() };
                Some(TenantPolicy { source, allowed, claiming })
            }
            (false, false) => {
                let hint = "give fixed = \"<tenant>\", or from = [\"suffix\", \"startup\"], or let the login claim it (claims)";
                self.problems.error_with_hint(&section.place, "does not say where the tenant comes from", hint);
                None
            }
            (true, false) => self.fixed_tenant(section, kind?),
            (false, true) => self.named_tenant(section, kind?),
        };
        Some(TenantPolicy { claiming, ..policy? })
    }

    /// `claims`: whether the client may name its tenant by SQL.
    fn claiming(&mut self, login: &Section, preset: Preset) -> Option<Claiming> {
        let words = [("none", Claiming::None), ("transaction", Claiming::Transaction), ("session", Claiming::Session)];
        let claiming = pick(login, "claims", &words)?;
        if claiming.is_allowed() && preset.is_recorded() {
            let message = "is not for logins whose transactions are recorded: each record names its tenant beforehand";
            self.problems.error(&login.place_of("claims"), message);
            return None;
        }
        Some(claiming)
    }

    fn fixed_tenant(&mut self, section: &Section, kind: TenantKind) -> Option<TenantPolicy> {
        for key in ["separator", "allowed"] {
            if section.has(key) {
                self.problems.error(&section.place_of(key), "has no meaning beside a fixed tenant");
            }
        }
        let text = section.text("fixed")?;
        let fixed = self.tenant(&section.place_of("fixed"), &text, kind)?;
        Some(TenantPolicy {
            source: TenantSource::Fixed(fixed),
            allowed: AllowedTenants::Any,
            claiming: Claiming::None,
        })
    }

    fn named_tenant(&mut self, section: &Section, kind: TenantKind) -> Option<TenantPolicy> {
        // A word that is none of these has been reported.
        let origin = |word: &Placed<String>| match word.value.as_str() {
            "suffix" => Some(Origin::Suffix),
            "startup" => Some(Origin::Startup),
            _ => None,
        };
        let from: Option<Vec<Origin>> = section.texts("from").and_then(|words| words.iter().map(origin).collect());
        if from.as_ref().is_some_and(Vec::is_empty) {
            self.problems.error(&section.place_of("from"), "names no source");
        }
        let separator =
            section.text("separator").and_then(|text| self.separator(&section.place_of("separator"), &text));
        let allowed = self.allowed_tenants(section, kind);
        let source = TenantSource::Named { from: from?, separator: separator? };
        Some(TenantPolicy { source, allowed: allowed?, claiming: Claiming::None })
    }

    fn separator(&mut self, place: &Place, text: &str) -> Option<Separator> {
        let parsed = Separator::parse(text);
        parsed.map_err(|fault| self.problems.error(place, fault.to_string())).ok()
    }

    fn allowed_tenants(&mut self, section: &Section, kind: TenantKind) -> Option<AllowedTenants> {
        match section.tenants("allowed")? {
            TenantsText::Any => Some(AllowedTenants::Any),
            TenantsText::Pattern(pattern) => self.pattern(&pattern, kind).map(AllowedTenants::Pattern),
            TenantsText::Listed(texts) => {
                if texts.is_empty() {
                    self.problems.error(&section.place_of("allowed"), "lists no tenant");
                }
                let tenants: BTreeSet<_> =
                    texts.iter().filter_map(|text| self.tenant(&text.place, &text.value, kind)).collect();
                Some(AllowedTenants::List(tenants))
            }
        }
    }

    /// Tenants are compared in their canonical form, so a pattern in any other would never match.
    fn pattern(&mut self, text: &Placed<String>, kind: TenantKind) -> Option<Glob> {
        let is_uuid_part = |c: char| matches!(c, '0'..='9' | 'a'..='f' | '-' | '*');
        if kind == TenantKind::Uuid && !text.value.chars().all(is_uuid_part) {
            let hint = "use lower-case hexadecimal digits, hyphens and *";
            self.problems.error_with_hint(&text.place, "this pattern fits no UUID", hint);
            return None;
        }
        let parsed = Glob::parse(&text.value);
        parsed.map_err(|fault| self.problems.error(&text.place, fault.to_string())).ok()
    }

    /// One tenant of the configured type.
    pub fn tenant(&mut self, place: &Place, text: &str, kind: TenantKind) -> Option<TenantId> {
        match TenantId::parse(kind, text) {
            Ok(tenant) => Some(tenant),
            Err(fault) => {
                self.problems.error(place, format!("{fault} (scope.tenant_type decides what a tenant looks like)"));
                None
            }
        }
    }

    /// A tenant that stays on a server is put there in front of a lease: a claim comes behind it.
    fn check_claims_end_with_transactions(
        &mut self,
        table: &Section,
        logins: &BTreeMap<Arc<str>, LoginEntry>,
        scope: Option<&ScopeSettings>,
    ) {
        if scope.is_none_or(|scope| scope.lifetime == Lifetime::Transaction) {
            return;
        }
        let may_claim = |entry: &LoginEntry| entry.tenant.as_ref().is_some_and(|tenant| tenant.claiming.is_allowed());
        for (name, _) in logins.iter().filter(|(_, entry)| may_claim(entry)) {
            let place = table.table(name).place_of("claims");
            self.problems
                .error(&place, "does not go with scope.lifetime = \"lease\", where a server has its tenant beforehand");
        }
    }

    /// `app.user` as a login and as tenant `user` of login `app` must not be the same user name.
    fn check_suffixes_are_unambiguous(&mut self, table: &Section, logins: &BTreeMap<Arc<str>, LoginEntry>) {
        for (name, login) in logins {
            let Some(separator) = login.tenant.as_ref().and_then(TenantPolicy::suffix_separator) else { continue };
            let prefix = format!("{name}{}", separator.as_str());
            if let Some((other, _)) = logins.iter().find(|(other, _)| other.starts_with(&prefix)) {
                let message = format!("could also be the login {name:?} with a tenant as suffix");
                let hint = format!("rename one of them, or give {name:?} another separator");
                self.problems.error_with_hint(&table.table(other).place, message, hint);
            }
        }
    }
}

fn needs_no_password_somewhere(root: &Section, login: &str) -> bool {
    root.table("rules").elements().iter().any(|rule| {
        rule.text("method").is_some_and(|method| method == "trust" || method == "cert")
            && rule.text("login").is_some_and(|name| name == "*" || name == login)
    })
}
