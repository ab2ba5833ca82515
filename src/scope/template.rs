//! Which settings carry the tenant: names and value templates.

use crate::tenant::TenantId;

/// The placeholder for the tenant.
const TENANT: &str = "{tenant}";

/// A name and a value.
type Setting = (Box<str>, Box<str>);

/// The settings that a server transaction gets, in order; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeTemplate {
    settings: Vec<Setting>,
}

/// Why a template is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateFault {
    /// No setting at all.
    #[error("at least one scope setting is needed")]
    Empty,
    /// Not `prefix.name` (or `search_path`).
    #[error("\"{0}\" is no custom setting: a name of the form prefix.name is needed (or search_path)")]
    Name(String),
    /// The same name twice, in whatever case.
    #[error("\"{0}\" is named twice")]
    Duplicate(String),
    /// The value names something unknown in braces.
    #[error("\"{0}\" holds a placeholder other than {{tenant}}")]
    Placeholder(String),
    /// No value names the tenant.
    #[error("no value holds {{tenant}}")]
    NoTenant,
}

impl Default for ScopeTemplate {
    fn default() -> Self {
        Self { settings: vec![("app.tenant_id".into(), TENANT.into())] }
    }
}

impl ScopeTemplate {
    /// From names and value templates.
    ///
    /// # Errors
    /// Says which entry is wrong.
    pub fn new(settings: &[(String, String)]) -> Result<Self, TemplateFault> {
        let checked = check(settings)?;
        match checked.iter().any(|(_, value)| value.contains(TENANT)) {
            _ if checked.is_empty() => Err(TemplateFault::Empty),
            false => Err(TemplateFault::NoTenant),
            true => Ok(Self { settings: checked }),
        }
    }

    /// Plain values for a login without a tenant; possibly none.
    ///
    /// # Errors
    /// Says which entry is wrong.
    pub fn fixed(settings: &[(String, String)]) -> Result<Self, TemplateFault> {
        match settings.iter().find(|(_, value)| value.contains(TENANT)) {
            Some((_, value)) => Err(TemplateFault::Placeholder(value.clone())),
            None => Ok(Self { settings: check(settings)? }),
        }
    }

    /// The names, canonical (lower case).
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.settings.iter().map(|(name, _)| &**name)
    }

    /// The names of the settings whose value is the tenant itself: where a client may name it.
    pub fn tenant_settings(&self) -> impl Iterator<Item = &str> {
        self.settings.iter().filter(|(_, value)| &**value == TENANT).map(|(name, _)| &**name)
    }

    /// How many settings there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.settings.len()
    }

    /// Whether there is none: only where there is no tenant.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.settings.is_empty()
    }

    /// Names with their values as they are written.
    pub fn fixed_values(&self) -> impl Iterator<Item = (&str, String)> {
        self.settings.iter().map(|(name, value)| (&**name, value.to_string()))
    }

    /// Names with the values for one tenant.
    pub fn values(&self, tenant: &TenantId) -> impl Iterator<Item = (&str, String)> {
        self.settings.iter().map(|(name, value)| (&**name, fill(name, value, tenant)))
    }
}

/// What can be said of each entry alone.
fn check(settings: &[(String, String)]) -> Result<Vec<Setting>, TemplateFault> {
    let mut checked: Vec<Setting> = Vec::with_capacity(settings.len());
    for (name, value) in settings {
        let canonical = name.to_ascii_lowercase();
        if !is_setting_name(&canonical) {
            return Err(TemplateFault::Name(name.clone()));
        }
        if checked.iter().any(|(known, _)| **known == *canonical) {
            return Err(TemplateFault::Duplicate(name.clone()));
        }
        if value.replace(TENANT, "").contains(['{', '}', '\0']) {
            return Err(TemplateFault::Placeholder(value.clone()));
        }
        checked.push((canonical.into(), value.as_str().into()));
    }
    Ok(checked)
}

/// In `search_path` each element that names the tenant is one quoted identifier.
fn fill(name: &str, template: &str, tenant: &TenantId) -> String {
    if name != "search_path" {
        return template.replace(TENANT, tenant.as_str());
    }
    let quoted = |element: &str| match element.trim() {
        plain if !plain.contains(TENANT) => plain.to_owned(),
        named => {
            let inner = named.trim_matches('"').replace(TENANT, tenant.as_str());
            format!("\"{}\"", inner.replace('"', "\"\""))
        }
    };
    template.split(',').map(quoted).collect::<Vec<_>>().join(", ")
}

/// Whether a setting of this (lower-case) name can carry the tenant: `prefix.name`, or `search_path`.
#[must_use]
pub fn is_setting_name(name: &str) -> bool {
    let is_part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    name == "search_path" || (name.len() < 64 && name.contains('.') && name.split('.').all(is_part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenant::TenantKind;

    fn template(pairs: &[(&str, &str)]) -> Result<ScopeTemplate, TemplateFault> {
        ScopeTemplate::new(&pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect::<Vec<_>>())
    }

    #[test]
    fn several_settings_and_a_schema_per_tenant() {
        let template = template(&[("App.Tenant_Id", "{tenant}"), ("search_path", "tenant_{tenant}, public")]).unwrap();
        let tenant = TenantId::parse(TenantKind::Text, "a\"c").unwrap();
        let values: Vec<_> = template.values(&tenant).collect();
        assert_eq!(
            values,
            [("app.tenant_id", "a\"c".to_owned()), ("search_path", "\"tenant_a\"\"c\", public".to_owned())]
        );
    }

    #[test]
    fn wrong_templates_are_named() {
        assert_eq!(template(&[]), Err(TemplateFault::Empty));
        assert_eq!(template(&[("a.b", "x")]), Err(TemplateFault::NoTenant));
        assert!(matches!(template(&[("a.b", "{tenant}{x}")]), Err(TemplateFault::Placeholder(_))));
        assert!(matches!(template(&[("work_mem", "{tenant}")]), Err(TemplateFault::Name(_))));
        for bad in ["a.b;c", "app.", ".x", "app.1x", "app.tenant id", "app.tenant-id", "app.é"] {
            assert_eq!(template(&[(bad, "{tenant}")]), Err(TemplateFault::Name(bad.to_owned())));
        }
        assert!(template(&[("a.b.c", "{tenant}")]).is_ok());
        assert!(matches!(template(&[("a.b", "{tenant}"), ("A.b", "{tenant}")]), Err(TemplateFault::Duplicate(_))));
    }
}
