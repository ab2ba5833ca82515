//! A configuration as lines of key and value, for people to look at.
//!
//! Owns: what every key's value in force is, in words, secrets masked. Does not own: which keys a reload can
//! change (see `reload`).

use super::{Section, Value, join, spell};
use crate::config::reference::{self, KeyRow, Kind, Shown};
use crate::config::settings::ShownKey;

/// What stands in place of a secret.
const MASKED: &str = "<masked>";

impl Section {
    /// Every key with a value: those of the file, and defaults.
    pub fn shown(&self) -> Vec<ShownKey> {
        let mut keys = Vec::new();
        self.show(&mut keys);
        keys
    }

    fn show(&self, keys: &mut Vec<ShownKey>) {
        for section in &self.elements {
            section.show(keys);
        }
        if reference::find(&self.pattern).is_some_and(|row| row.kind == Kind::Named) {
            self.show_named(keys);
            return;
        }
        for (name, row) in reference::children(&self.pattern) {
            match row.kind {
                Kind::Table | Kind::Named | Kind::TableList => self.table(name).show(keys),
                Kind::Text
                | Kind::Secret
                | Kind::Flag
                | Kind::Choice(_)
                | Kind::Number { .. }
                | Kind::Bytes { .. }
                | Kind::Duration { .. }
                | Kind::TextList
                | Kind::ChoiceList(_)
                | Kind::Tenants => keys.extend(self.show_key(name, row)),
            }
        }
    }

    fn show_named(&self, keys: &mut Vec<ShownKey>) {
        for section in self.tables.values() {
            section.show(keys);
        }
        if let Some(row) = reference::find(&join(&self.pattern, "*")) {
            keys.extend(self.values.keys().filter_map(|name| self.show_key(name, row)));
        }
    }

    /// Lines of `values`: not `table`, which would give an absent one its defaults.
    fn show_key(&self, name: &str, row: &KeyRow) -> Option<ShownKey> {
        let default = match row.shown {
            Shown::Default(text) => text.trim_matches('"'),
            Shown::Example(_) | Shown::Alternative(_) | Shown::Header => "",
        };
        let is_default_known = matches!(row.shown, Shown::Default(_));
        let value = match self.values.get(name) {
            Some(found) => words(&found.value),
            None if is_default_known => default.to_owned(),
            None => return None,
        };
        let path = self.place.key(&spell(name)).path;
        Some(ShownKey { path, pattern: row.path, value, default: default.to_owned() })
    }
}

fn words(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        Value::Secret(_) => MASKED.to_owned(),
        Value::Flag(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Duration(duration) => format!("{duration:?}"),
        Value::Texts(texts) => {
            let quoted: Vec<String> = texts.iter().map(|text| format!("{:?}", text.value)).collect();
            format!("[{}]", quoted.join(", "))
        }
        Value::Pattern(pattern) => format!("{{ pattern = {pattern:?} }}"),
        Value::Bad => String::new(),
    }
}
