//! `[scope]`: what is set on a server for a tenant.

use std::sync::Arc;

use super::Builder;
use super::names::is_custom_setting;
use super::pick;
use crate::config::raw::{Placed, Section};
use crate::config::settings::{ScopeSettings, Template, TemplatePart};
use crate::tenant::TenantKind;

/// Used where the file has no `[scope.settings]`.
const DEFAULT_SETTING: &str = "app.tenant_id";
/// Each setting is one more call in front of every transaction.
const SETTINGS_MAX: usize = 16;

impl Builder<'_> {
    /// `[scope]`
    pub fn scope(&mut self, section: &Section) -> Option<ScopeSettings> {
        let tenant_kind = pick(section, "tenant_type", &[("uuid", TenantKind::Uuid), ("text", TenantKind::Text)]);
        let settings = self.scope_settings(&section.table("settings"));
        Some(ScopeSettings { tenant_kind: tenant_kind?, settings: settings? })
    }

    fn scope_settings(&mut self, table: &Section) -> Option<Vec<(Arc<str>, Template)>> {
        if !table.is_present {
            return Some(vec![(DEFAULT_SETTING.into(), Template(vec![TemplatePart::Tenant]))]);
        }
        let texts = table.named_texts();
        if texts.is_empty() || texts.len() > SETTINGS_MAX {
            self.problems.error(&table.place, format!("1 to {SETTINGS_MAX} settings are needed"));
            return None;
        }
        let mut settings: Vec<(Arc<str>, Template)> = Vec::new();
        for (name, text) in texts {
            let name = self.setting_name(&name, &text, &settings);
            let template = self.template(&text);
            settings.push((name?, template?));
        }
        Some(settings)
    }

    fn setting_name(&mut self, name: &str, text: &Placed<String>, before: &[(Arc<str>, Template)]) -> Option<Arc<str>> {
        let lower = name.to_ascii_lowercase();
        if !is_custom_setting(&lower) {
            let hint = "use a name like \"app.tenant_id\", in quotes";
            self.problems.error_with_hint(&text.place, "is no custom setting (prefix.name)", hint);
            return None;
        }
        if before.iter().any(|(other, _)| **other == *lower) {
            self.problems.error(&text.place, "is set twice: case makes no difference in setting names");
            return None;
        }
        Some(lower.into())
    }

    fn template(&mut self, text: &Placed<String>) -> Option<Template> {
        match parse_template(&text.value) {
            Ok(template) => Some(template),
            Err(reason) => {
                let hint = "write {tenant} where the tenant goes; {{ and }} stand for braces";
                self.problems.error_with_hint(&text.place, reason, hint);
                None
            }
        }
    }
}

fn parse_template(text: &str) -> Result<Template, &'static str> {
    if text.contains(|c: char| c.is_control() || c == '\\') {
        return Err("a template holds no control characters and no backslash");
    }
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(at);
        literal.push_str(before);
        if let Some(after) = from.strip_prefix("{{") {
            literal.push('{');
            rest = after;
        } else if let Some(after) = from.strip_prefix("}}") {
            literal.push('}');
            rest = after;
        } else if let Some(after) = from.strip_prefix("{tenant}") {
            push_literal(&mut parts, &mut literal);
            parts.push(TemplatePart::Tenant);
            rest = after;
        } else {
            return Err("has a brace that belongs to no {tenant}");
        }
    }
    literal.push_str(rest);
    push_literal(&mut parts, &mut literal);
    if parts.contains(&TemplatePart::Tenant) { Ok(Template(parts)) } else { Err("does not hold {tenant}") }
}

fn push_literal(parts: &mut Vec<TemplatePart>, literal: &mut String) {
    if !literal.is_empty() {
        parts.push(TemplatePart::Literal(std::mem::take(literal)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenant::TenantId;

    #[test]
    fn templates_put_the_tenant_where_it_says() {
        let tenant = TenantId::parse(TenantKind::Text, "acme").unwrap();
        let render = |text| parse_template(text).unwrap().render(&tenant);
        assert_eq!(render("{tenant}"), "acme");
        assert_eq!(render("t-{tenant}:{tenant}"), "t-acme:acme");
        assert_eq!(render("{{{tenant}}}"), "{acme}");
        for bad in ["", "x", "{tenant", "tenant}", "{other}{tenant}", "{{tenant}}", "a\\{tenant}", "a\n{tenant}"] {
            assert!(parse_template(bad).is_err(), "{bad}");
        }
    }
}
