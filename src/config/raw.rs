//! A configuration file as sections of typed values, each with its place in the file.
//!
//! Owns: TOML, unknown keys, types and limits of single keys, defaults; all of it driven by the table in
//! `reference`. Does not own: what keys mean together (see `build`).

mod shown;

use std::collections::BTreeMap;
use std::time::Duration;

use secrecy::SecretString;
use serde_spanned::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::problem::{Place, Problems};
use super::reference::{self, Kind, Shown};
use super::units::{parse_bytes, parse_duration};

/// A value and where it stands.
#[derive(Clone, Debug)]
pub struct Placed<T> {
    /// Where.
    pub place: Place,
    /// What.
    pub value: T,
}

#[derive(Clone, Debug)]
enum Value {
    Text(String),
    Secret(SecretString),
    Flag(bool),
    Number(u64),
    Duration(Duration),
    Texts(Vec<Placed<String>>),
    Pattern(String),
    /// Present, wrong and already reported.
    Bad,
}

/// One table of the file. A table that is absent is an empty section: defaults still apply.
#[derive(Clone, Debug, Default)]
pub struct Section {
    /// Where.
    pub place: Place,
    /// Whether the file has it.
    pub is_present: bool,
    pattern: String,
    values: BTreeMap<String, Placed<Value>>,
    tables: BTreeMap<String, Section>,
    elements: Vec<Section>,
}

/// `logins.*.tenant.allowed` as it is written.
#[derive(Clone, Debug)]
pub enum TenantsText {
    /// `"any"`
    Any,
    /// A list.
    Listed(Vec<Placed<String>>),
    /// `{ pattern = "…" }`
    Pattern(Placed<String>),
}

/// Reads a file's text. A syntax error is the only problem reported then, since all others would be guesses.
pub fn read(text: &str, problems: &mut Problems) -> Option<Section> {
    let lines = Lines::of(text);
    match DeTable::parse(text) {
        Ok(table) => {
            let root = Place::default();
            Some(Reader { lines, problems }.table(table.get_ref(), root, ""))
        }
        Err(error) => {
            let line = error.span().map(|span| lines.at(span.start));
            problems.error(&Place { path: String::new(), line }, error.message().trim().replace('\n', ", "));
            None
        }
    }
}

impl Section {
    /// Whether the file has the key, even if its value is wrong.
    pub fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// Where a key is, or where it would be.
    pub fn place_of(&self, key: &str) -> Place {
        self.values.get(key).map_or_else(|| self.place.key(key), |found| found.place.clone())
    }

    /// Text or word; `None` if absent without default, or wrong (and reported).
    pub fn text(&self, key: &str) -> Option<String> {
        match self.value(key)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Text that is never echoed.
    pub fn secret(&self, key: &str) -> Option<SecretString> {
        match self.value(key)? {
            Value::Secret(secret) => Some(secret),
            _ => None,
        }
    }

    /// True or false.
    pub fn flag(&self, key: &str) -> Option<bool> {
        match self.value(key)? {
            Value::Flag(flag) => Some(flag),
            _ => None,
        }
    }

    /// A whole number or number of bytes, which fits the table's limits.
    pub fn number(&self, key: &str) -> Option<usize> {
        match self.value(key)? {
            Value::Number(number) => usize::try_from(number).ok(),
            _ => None,
        }
    }

    /// A length of time.
    pub fn duration(&self, key: &str) -> Option<Duration> {
        match self.value(key)? {
            Value::Duration(duration) => Some(duration),
            _ => None,
        }
    }

    /// A list of texts.
    pub fn texts(&self, key: &str) -> Option<Vec<Placed<String>>> {
        match self.value(key)? {
            Value::Texts(texts) => Some(texts),
            _ => None,
        }
    }

    /// Which tenants.
    pub fn tenants(&self, key: &str) -> Option<TenantsText> {
        let place = self.place_of(key);
        match self.value(key)? {
            Value::Text(_) => Some(TenantsText::Any),
            Value::Texts(texts) => Some(TenantsText::Listed(texts)),
            Value::Pattern(value) => Some(TenantsText::Pattern(Placed { place, value })),
            _ => None,
        }
    }

    /// A table below this one.
    pub fn table(&self, key: &str) -> Section {
        self.tables.get(key).cloned().unwrap_or_else(|| Section {
            place: self.place.key(key),
            pattern: join(&self.pattern, key),
            ..Section::default()
        })
    }

    /// The tables below this one, by the names the operator chose.
    pub fn named_tables(&self) -> impl Iterator<Item = (&str, &Section)> {
        self.tables.iter().map(|(name, section)| (name.as_str(), section))
    }

    /// The texts below this one, by the names the operator chose, in the file's order.
    pub fn named_texts(&self) -> Vec<(String, Placed<String>)> {
        let mut texts: Vec<_> = self
            .values
            .iter()
            .filter_map(|(name, found)| match &found.value {
                Value::Text(text) => Some((name.clone(), Placed { place: found.place.clone(), value: text.clone() })),
                _ => None,
            })
            .collect();
        texts.sort_by_key(|(_, text)| text.place.line);
        texts
    }

    /// The elements of a list of tables.
    pub fn elements(&self) -> &[Section] {
        &self.elements
    }

    fn value(&self, key: &str) -> Option<Value> {
        match self.values.get(key) {
            Some(found) => Some(found.value.clone()),
            None => default_value(&join(&self.pattern, key)),
        }
    }
}

/// A key's default, read exactly as if it stood in the file.
fn default_value(pattern: &str) -> Option<Value> {
    let row = reference::find(pattern)?;
    let Shown::Default(text) = row.shown else {
        return None;
    };
    let parsed = DeValue::parse(text).ok()?;
    let mut problems = Problems::default();
    let value = Reader { lines: Lines::of(text), problems: &mut problems }.leaf(&parsed, row.kind, &Place::default());
    (!problems.has_errors()).then_some(value)
}

/// The row of a key in a table: the operator's own names all share one, and no other name holds a dot.
fn row_of(pattern: &str, name: &str) -> Option<&'static reference::KeyRow> {
    match reference::find(pattern).map(|row| row.kind) {
        Some(Kind::Named) => reference::find(&join(pattern, "*")),
        _ if name.contains(['.', '*']) => None,
        _ => reference::find(&join(pattern, name)),
    }
}

fn join(parent: &str, key: &str) -> String {
    if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") }
}

/// A key as it is written in a path.
fn spell(key: &str) -> String {
    let is_bare = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if is_bare { key.to_owned() } else { format!("{key:?}") }
}

/// Offsets at which lines begin.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect())
    }

    fn at(&self, offset: usize) -> usize {
        self.0.partition_point(|start| *start <= offset)
    }
}

struct Reader<'p> {
    lines: Lines,
    problems: &'p mut Problems,
}

impl Reader<'_> {
    fn table(&mut self, table: &DeTable<'_>, place: Place, pattern: &str) -> Section {
        let mut section = Section { place, is_present: true, pattern: pattern.to_owned(), ..Section::default() };
        for (key, value) in table.iter() {
            let name = key.get_ref().as_ref();
            let mut place = section.place.key(&spell(name));
            place.line = Some(self.lines.at(key.span().start));
            self.entry(&mut section, name, value, place);
        }
        section
    }

    fn entry(&mut self, section: &mut Section, name: &str, value: &Spanned<DeValue<'_>>, place: Place) {
        let Some(row) = row_of(&section.pattern, name) else {
            let known: Vec<_> = reference::children(&section.pattern).map(|(known, _)| known).collect();
            self.problems.error_suggesting(&place, "there is no such key", name, known);
            return;
        };
        match (row.kind, value.get_ref()) {
            (Kind::Table | Kind::Named, DeValue::Table(table)) => {
                let below = self.table(table, place, row.path);
                section.tables.insert(name.to_owned(), below);
            }
            (Kind::TableList, DeValue::Array(array)) => {
                let below = self.list(array.iter(), place, row.path);
                section.tables.insert(name.to_owned(), below);
            }
            (Kind::Table | Kind::Named | Kind::TableList, found) => self.wrong_type(&place, row.kind, found),
            (kind, _) => {
                let leaf = self.leaf(value, kind, &place);
                section.values.insert(name.to_owned(), Placed { place, value: leaf });
            }
        }
    }

    fn list<'v, 'i: 'v>(
        &mut self,
        values: impl Iterator<Item = &'v Spanned<DeValue<'i>>>,
        place: Place,
        pattern: &str,
    ) -> Section {
        let mut section = Section { place, is_present: true, pattern: pattern.to_owned(), ..Section::default() };
        for (index, value) in values.enumerate() {
            let place = self.element_place(&section.place, index, value);
            match value.get_ref() {
                DeValue::Table(table) => section.elements.push(self.table(table, place, &join(pattern, "*"))),
                found => self.wrong_type(&place, Kind::Table, found),
            }
        }
        section
    }

    fn element_place(&self, list: &Place, index: usize, value: &Spanned<DeValue<'_>>) -> Place {
        Place { path: format!("{}[{index}]", list.path), line: Some(self.lines.at(value.span().start)) }
    }

    fn wrong_type(&mut self, place: &Place, kind: Kind, found: &DeValue<'_>) {
        self.problems.error(place, format!("expected {}, found {}", kind.words(), type_words(found)));
    }

    fn leaf(&mut self, value: &Spanned<DeValue<'_>>, kind: Kind, place: &Place) -> Value {
        let read = match (kind, value.get_ref()) {
            (Kind::Text, DeValue::String(text)) => self.text(text, place),
            (Kind::Secret, DeValue::String(text)) => Some(Value::Secret(SecretString::from(text.as_ref()))),
            (Kind::Flag, DeValue::Boolean(flag)) => Some(Value::Flag(*flag)),
            (Kind::Choice(words), DeValue::String(text)) => self.choice(text, words, place),
            (Kind::Number { min, max }, DeValue::Integer(number)) => {
                self.number(parse_integer(number), min, max, place)
            }
            (Kind::Bytes { min, max }, DeValue::Integer(number)) => self.number(parse_integer(number), min, max, place),
            (Kind::Bytes { min, max }, DeValue::String(text)) => self.number(parse_bytes(text), min, max, place),
            (Kind::Duration { min_ms, max_ms }, DeValue::String(text)) => self.duration(text, min_ms, max_ms, place),
            (Kind::TextList | Kind::Tenants, DeValue::Array(array)) => self.texts(array.iter(), None, place),
            (Kind::ChoiceList(words), DeValue::Array(array)) => self.texts(array.iter(), Some(words), place),
            (Kind::Tenants, DeValue::String(text)) => self.choice(text, &["any"], place),
            (Kind::Tenants, DeValue::Table(table)) => self.pattern(table, place),
            (_, found) => {
                self.wrong_type(place, kind, found);
                None
            }
        };
        read.unwrap_or(Value::Bad)
    }

    fn text(&mut self, text: &str, place: &Place) -> Option<Value> {
        if text.is_empty() || text.contains('\0') {
            self.problems.error(place, "must not be empty or hold a zero byte");
            return None;
        }
        Some(Value::Text(text.to_owned()))
    }

    fn choice(&mut self, text: &str, words: &[&str], place: &Place) -> Option<Value> {
        if words.contains(&text) {
            return Some(Value::Text(text.to_owned()));
        }
        let message = format!("{text:?} is not {}", Words(words));
        self.problems.error_suggesting(place, message, text, words.iter().copied());
        None
    }

    fn number(&mut self, number: Option<u64>, min: u64, max: u64, place: &Place) -> Option<Value> {
        let Some(number) = number.filter(|number| (min..=max).contains(number)) else {
            self.problems.error(place, format!("must be a whole number from {min} to {max}"));
            return None;
        };
        Some(Value::Number(number))
    }

    fn duration(&mut self, text: &str, min_ms: u64, max_ms: u64, place: &Place) -> Option<Value> {
        let Some(duration) = parse_duration(text) else {
            let hint = "write a number and a unit, like \"250ms\", \"15s\", \"10m\", \"1h\" or \"2d\"";
            self.problems.error_with_hint(place, format!("{text:?} is not a duration"), hint);
            return None;
        };
        let (min, max) = (Duration::from_millis(min_ms), Duration::from_millis(max_ms));
        if !(min..=max).contains(&duration) {
            self.problems.error(place, format!("must be between {min:?} and {max:?}"));
            return None;
        }
        Some(Value::Duration(duration))
    }

    fn texts<'v, 'i: 'v>(
        &mut self,
        values: impl Iterator<Item = &'v Spanned<DeValue<'i>>>,
        words: Option<&[&str]>,
        place: &Place,
    ) -> Option<Value> {
        let mut texts: Vec<Placed<String>> = Vec::new();
        let mut is_good = true;
        for (index, value) in values.enumerate() {
            let place = self.element_place(place, index, value);
            let kind = words.map_or("text".to_owned(), |words| format!("{}", Words(words)));
            match value.get_ref() {
                DeValue::String(text) if words.is_none_or(|words| words.contains(&text.as_ref())) => {
                    if texts.iter().any(|before| before.value == text.as_ref()) {
                        self.problems.error(&place, format!("{text:?} is listed twice"));
                        is_good = false;
                    }
                    texts.push(Placed { place, value: text.to_string() });
                }
                DeValue::String(text) => {
                    let message = format!("{text:?} is not {kind}");
                    self.problems.error_suggesting(&place, message, text, words.unwrap_or_default().iter().copied());
                    is_good = false;
                }
                found => {
                    self.problems.error(&place, format!("expected {kind}, found {}", type_words(found)));
                    is_good = false;
                }
            }
        }
        is_good.then_some(Value::Texts(texts))
    }

    fn pattern(&mut self, table: &DeTable<'_>, place: &Place) -> Option<Value> {
        let mut found = None;
        for (key, value) in table.iter() {
            match (key.get_ref().as_ref(), value.get_ref()) {
                ("pattern", DeValue::String(text)) if !text.is_empty() => {
                    found = Some(Value::Pattern(text.to_string()))
                }
                ("pattern", _) => self.problems.error(&place.key("pattern"), "expected text that is not empty"),
                (name, _) => {
                    self.problems.error_suggesting(&place.key(&spell(name)), "there is no such key", name, ["pattern"]);
                }
            }
        }
        if table.get("pattern").is_none() {
            self.problems.error(place, format!("expected {}", Kind::Tenants.words()));
        }
        found
    }
}

/// `one of a, b, c`, or the only word in quotes.
struct Words<'w>(&'w [&'w str]);

impl std::fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            [only] => write!(f, "{only:?}"),
            words => write!(f, "one of {}", words.join(", ")),
        }
    }
}

fn parse_integer(number: &DeInteger<'_>) -> Option<u64> {
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}

fn type_words(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_of_its_own_type() {
        for row in reference::rows() {
            if matches!(row.shown, Shown::Default(_)) {
                assert!(!matches!(default_value(row.path), None | Some(Value::Bad)), "{}", row.path);
            }
        }
    }

    #[test]
    fn lines_count_from_one() {
        let lines = Lines::of("a\nb\n\nc");
        assert_eq!([0, 1, 2, 4, 5].map(|offset| lines.at(offset)), [1, 1, 2, 3, 4]);
    }
}
