//! docs/ledger-record.schema.json, and whether a record is what it says.
//!
//! Checked are the words that the schema uses: `oneOf`, `$ref`, `type`, `const`, `enum`, `pattern`, `properties`, `required`,
//! `additionalProperties`, `items`, `minimum`, `maxItems`; a word that is none of these and no remark fails the test.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use regex::Regex;
use serde_json::Value;

pub fn schema() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ledger-record.schema.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn is_type(value: &Value, name: &str) -> bool {
    match name {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        other => panic!("no such type: {other}"),
    }
}

/// Each pattern is compiled once.
fn is_like(text: &str, pattern: &str) -> bool {
    static COMPILED: Mutex<BTreeMap<String, Regex>> = Mutex::new(BTreeMap::new());
    let mut compiled = COMPILED.lock().unwrap();
    compiled.entry(pattern.to_owned()).or_insert_with(|| Regex::new(pattern).unwrap()).is_match(text)
}

/// What is wrong with a value.
pub fn check(root: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    for (word, rule) in schema.as_object().unwrap() {
        let is_kept = match word.as_str() {
            "$schema" | "title" | "description" | "$defs" | "required" | "additionalProperties" => true,
            "pattern" => value.as_str().is_none_or(|text| is_like(text, rule.as_str().unwrap())),
            "oneOf" => {
                let fits = |one: &&Value| check(root, one, value, at).is_ok();
                rule.as_array().unwrap().iter().filter(fits).count() == 1
            }
            "$ref" => {
                let path = rule.as_str().unwrap().trim_start_matches('#');
                return check(root, root.pointer(path).unwrap(), value, at);
            }
            "type" if rule.is_array() => rule.as_array().unwrap().iter().any(|it| is_type(value, it.as_str().unwrap())),
            "type" => is_type(value, rule.as_str().unwrap()),
            "const" => value == rule,
            "enum" => rule.as_array().unwrap().contains(value),
            "minimum" => value.as_u64() >= rule.as_u64(),
            "maxItems" => value.as_array().is_none_or(|items| items.len() as u64 <= rule.as_u64().unwrap()),
            "items" => {
                let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
                items.iter().try_for_each(|item| check(root, rule, item, &format!("{at}[]")))?;
                true
            }
            "properties" => return check_object(root, schema, value, at),
            other => panic!("a word that this test does not know: {other}"),
        };
        if !is_kept {
            return Err(format!("{at}: {value} against {word} {rule}"));
        }
    }
    Ok(())
}

fn check_object(root: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let names = |value: &Value| value.as_object().map(|it| it.keys().cloned().collect::<BTreeSet<_>>());
    let (known, there) = (names(&schema["properties"]), names(value));
    if known != there {
        return Err(format!("{at}: the schema has {known:?}, the line {there:?}"));
    }
    let properties = schema["properties"].as_object().unwrap();
    properties.iter().try_for_each(|(name, rule)| check(root, rule, &value[name], &format!("{at}.{name}")))
}

/// Each record that a proxy has written must be one.
pub fn expect_records(records: &[Value]) {
    let root = schema();
    for record in records {
        let kind = &root["$defs"][record["kind"].as_str().unwrap_or_default()];
        check(&root, kind, record, "record").unwrap_or_else(|fault| panic!("{fault}: {record}"));
    }
}
