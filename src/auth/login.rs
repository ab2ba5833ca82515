//! Logins: the configured identities, and which of them a user name means.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::scram::Verifier;
use super::secrets::{ProcessSecret, VerifierShape};
use crate::tenant::{Separator, TenantPolicy};

/// A configured identity.
#[derive(Clone, Debug)]
pub struct Login {
    /// Its name, as clients send it (perhaps with a tenant behind it).
    pub name: Arc<str>,
    /// What proves it; without one only a `trust` rule lets it in.
    pub verifier: Option<Verifier>,
    /// Databases it may ask for.
    pub databases: DatabaseList,
    /// Whose rows it may see.
    pub access: Access,
}

/// Whose rows a login may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Those of one tenant, found like this.
    Tenant(TenantPolicy),
    /// All rows: every transaction is recorded.
    Bypass,
    /// None: it is for the console only.
    Console,
}

impl Access {
    /// The separator between the login and a tenant in a user name, if that form is accepted.
    #[must_use]
    pub fn suffix_separator(&self) -> Option<&Separator> {
        match self {
            Access::Tenant(policy) => policy.suffix_separator(),
            Access::Bypass | Access::Console => None,
        }
    }
}

/// Databases, as clients name them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseList {
    /// Every configured one.
    All,
    /// These.
    Only(BTreeSet<String>),
}

impl DatabaseList {
    /// Whether the list has the database.
    #[must_use]
    pub fn has(&self, database: &str) -> bool {
        match self {
            DatabaseList::All => true,
            DatabaseList::Only(names) => names.contains(database),
        }
    }
}

/// A login that a user name means, with what stands behind it.
#[derive(Clone, Copy, Debug)]
pub struct Match<'logins, 'user> {
    /// The login.
    pub login: &'logins Login,
    /// The text behind the separator, if the name is more than the login's.
    pub suffix: Option<&'user str>,
}

/// All logins.
#[derive(Clone, Debug)]
pub struct Logins {
    by_name: HashMap<Arc<str>, Login>,
    name_bytes_max: usize,
    /// Every separator in use, each once.
    separators: Vec<String>,
    secret: ProcessSecret,
    shapes: Vec<VerifierShape>,
}

/// Why logins do not go together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginsFault {
    /// Two of one name.
    #[error("login {0:?} is configured twice")]
    Twice(Arc<str>),
    /// One without a name.
    #[error("a login has no name")]
    Nameless,
}

impl Logins {
    /// All configured logins. `secret` is the process's and stays the same across reloads.
    ///
    /// # Errors
    /// Two have the same name, or one has none.
    pub fn new(logins: impl IntoIterator<Item = Login>, secret: ProcessSecret) -> Result<Self, LoginsFault> {
        let mut by_name = HashMap::new();
        for login in logins {
            if login.name.is_empty() {
                return Err(LoginsFault::Nameless);
            }
            if let Some(twice) = by_name.insert(Arc::clone(&login.name), login) {
                return Err(LoginsFault::Twice(twice.name));
            }
        }
        let name_bytes_max = by_name.keys().map(|name| name.len()).max().unwrap_or(0);
        let mut shapes: Vec<_> =
            by_name.values().filter_map(|login| login.verifier.as_ref()).map(VerifierShape::of).collect();
        shapes.sort_unstable();
        let separators: BTreeSet<_> = by_name
            .values()
            .filter_map(|login| login.access.suffix_separator())
            .map(|s| s.as_str().to_owned())
            .collect();
        Ok(Self { by_name, name_bytes_max, separators: separators.into_iter().collect(), secret, shapes })
    }

    /// The login of exactly this name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Login> {
        self.by_name.get(name)
    }

    /// The login a user name means: the one of exactly that name, else the longest one that is followed
    /// by its own separator. Looks at every possibility whatever it finds, so that the time it takes
    /// depends on the name alone and not on who exists.
    #[must_use]
    pub fn find<'user>(&self, user: &'user str) -> Option<Match<'_, 'user>> {
        let exact = self.by_name.get(user).map(|login| Match { login, suffix: None });
        let longest = self.name_bytes_max.min(user.len());
        let suffixed = (1..=longest).filter_map(|end| self.suffixed(user.split_at_checked(end)?));
        let longest_match = suffixed.fold(None, |_, longer| Some(longer));
        exact.or(longest_match)
    }

    fn suffixed<'user>(&self, (name, rest): (&str, &'user str)) -> Option<Match<'_, 'user>> {
        let login = self.by_name.get(name)?;
        let suffix = rest.strip_prefix(login.access.suffix_separator()?.as_str())?;
        Some(Match { login, suffix: Some(suffix) })
    }

    /// What to check a proof against, and whether a good proof counts.
    ///
    /// A login answers with one salt whatever tenant stands behind its name. So do names that are no
    /// login's: everything behind the first separator is left out, and where the rest is a login that
    /// takes no suffix, its verifier is used, though no proof counts against it. The mock verifier is
    /// made in every case, so that all take the same time. Only the names of logins that hold a
    /// separator themselves can be told from unknown ones, by comparing salts of their front parts.
    #[must_use]
    pub fn verifier(&self, user: &str, login: Option<&Login>) -> (Verifier, IsReal) {
        let front = self.front(user);
        let mock = self.secret.mock(front, &self.shapes);
        let neighbour = self.by_name.get(front).and_then(|login| login.verifier.as_ref());
        match login.and_then(|login| login.verifier.as_ref()) {
            Some(verifier) => (verifier.clone(), IsReal(true)),
            None => (neighbour.cloned().unwrap_or(mock), IsReal(false)),
        }
    }

    /// What stands before the first separator of any login.
    fn front<'user>(&self, user: &'user str) -> &'user str {
        let first = self.separators.iter().filter_map(|separator| user.find(separator.as_str())).min();
        first.and_then(|end| user.get(..end)).unwrap_or(user)
    }
}

/// Whether a verifier belongs to a login. Against a mock no proof counts, not even a good one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IsReal(pub bool);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenant::{AllowedTenants, Origin, TenantSource};

    fn login(name: &str, separator: Option<&str>) -> Login {
        let from = if separator.is_some() { vec![Origin::Suffix] } else { vec![Origin::Startup] };
        let separator = separator.map_or_else(Separator::default, |text| Separator::parse(text).unwrap());
        Login {
            name: name.into(),
            verifier: None,
            databases: DatabaseList::All,
            access: Access::Tenant(TenantPolicy {
                claiming: crate::tenant::Claiming::None,
                source: TenantSource::Named { from, separator },
                allowed: AllowedTenants::Any,
            }),
        }
    }

    fn logins(list: &[(&str, Option<&str>)]) -> Logins {
        let list = list.iter().map(|(name, separator)| login(name, *separator));
        Logins::new(list, ProcessSecret::new(&[1; 32])).unwrap()
    }

    fn find<'a>(logins: &'a Logins, user: &'a str) -> Option<(&'a str, Option<&'a str>)> {
        logins.find(user).map(|found| (&*found.login.name, found.suffix))
    }

    #[test]
    fn an_exact_name_wins_over_a_suffix() {
        let logins = logins(&[("app", Some(".")), ("app.admin", None)]);
        assert_eq!(find(&logins, "app.admin"), Some(("app.admin", None)));
        assert_eq!(find(&logins, "app.acme"), Some(("app", Some("acme"))));
        assert_eq!(find(&logins, "app.admin.x"), Some(("app", Some("admin.x"))));
    }

    #[test]
    fn the_longest_login_before_its_own_separator_is_meant() {
        let logins = logins(&[("a", Some(".")), ("a.b", Some(".")), ("a.b.c", Some("/"))]);
        assert_eq!(find(&logins, "a.b.c.d"), Some(("a.b", Some("c.d"))));
        assert_eq!(find(&logins, "a.b.c/d"), Some(("a.b.c", Some("d"))));
        assert_eq!(find(&logins, "a."), Some(("a", Some(""))));
        assert_eq!(find(&logins, "a"), Some(("a", None)));
    }

    #[test]
    fn names_are_compared_byte_by_byte() {
        let logins = logins(&[("app", Some(".")), ("é", Some("."))]);
        for stranger in ["", ".", "App", "app ", " app", "ap", "apps.x", "ap\u{ad}p.x", "e\u{301}", "app\u{ff0e}x"] {
            assert_eq!(find(&logins, stranger), None, "{stranger:?}");
        }
        assert_eq!(find(&logins, "é.x"), Some(("é", Some("x"))));
    }

    #[test]
    fn a_login_without_suffix_origin_has_no_suffix() {
        assert_eq!(find(&logins(&[("app", None)]), "app.acme"), None);
    }

    #[test]
    fn salts_do_not_tell_which_logins_exist() {
        let secret = || ProcessSecret::new(&[1; 32]);
        let with_password =
            |login: Login| Login { verifier: Some(secret().verifier(&login.name, &"demo".into())), ..login };
        let list = [login("app", Some(".")), login("fixed", None), login("slash", Some("/"))].map(with_password);
        let logins = Logins::new(list, secret()).unwrap();
        let salt = |user: &str| {
            let (verifier, _) = logins.verifier(user, logins.find(user).map(|found| found.login));
            verifier.salt().to_vec()
        };
        for name in ["app", "fixed", "slash", "nobody", "Nobody"] {
            for suffix in [".", ".a", ".a.b", "/", "/a", "/a.b"] {
                assert_eq!(salt(name), salt(&format!("{name}{suffix}")), "{name} {suffix}");
            }
        }
        assert_ne!(salt("nobody"), salt("nobody2"));
        // A neighbour's verifier is lent for its looks only.
        for (user, is_real) in
            [("app.x", true), ("fixed", true), ("fixed.x", false), ("app/x", false), ("nobody", false)]
        {
            assert_eq!(logins.verifier(user, logins.find(user).map(|found| found.login)).1, IsReal(is_real), "{user}");
        }
    }

    #[test]
    fn a_name_is_configured_once() {
        let twice = Logins::new([login("a", None), login("a", None)], ProcessSecret::new(&[1; 32]));
        assert_eq!(twice.err(), Some(LoginsFault::Twice("a".into())));
    }
}
