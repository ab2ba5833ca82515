//! What a configuration allows and denies beside a preset's own rules: settings, functions, classes of statements.
//!
//! Owns: the lists, for everybody and for one login, and what their entries match. A denial holds against every allowance.
//! Does not own: what a preset allows (`policy`), or which entries a configuration may have (`config`).

use std::collections::HashSet;

use super::facts::{FunctionUse, Statement, StatementClass, attribute_key};
use super::policy::{at, qualified};
use super::settings;
use crate::fault::{Code, Fault};

/// Lists as configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lists {
    /// Settings: names, or prefixes as `myapp.*`.
    pub settings: Sides<String>,
    /// Functions: `name` or `schema.name`.
    pub functions: Sides<String>,
    /// Classes of statements.
    pub statements: Sides<StatementClass>,
    /// Definitions that migration logins may make beside what they may make anyway.
    pub definitions_allowed: Vec<Definition>,
}

/// A definition that lets others read more than the tables' own policies do, and its own author no more: which a
/// configuration may leave to migration logins, and `check` looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Definition {
    /// A view that reads tables with its owner's rights.
    OwnersView,
    /// A table that is made as a part of another, whose policies it does not have.
    Partition,
}

/// What of a kind is allowed, and what is denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sides<T> {
    /// Allowed beside what is allowed anyway.
    pub allowed: Vec<T>,
    /// Denied, whatever else allows it.
    pub denied: Vec<T>,
}

impl<T> Default for Sides<T> {
    fn default() -> Self {
        Self { allowed: Vec::new(), denied: Vec::new() }
    }
}

/// Lists, ready to be asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Listed {
    settings_allowed: Names,
    settings_denied: Names,
    functions_allowed: HashSet<Box<str>>,
    functions_denied: Vec<DeniedFunction>,
    statements_allowed: Vec<StatementClass>,
    statements_denied: Vec<StatementClass>,
    definitions_allowed: Vec<Definition>,
}

#[derive(Clone, Debug)]
struct DeniedFunction {
    schema: Option<Box<str>>,
    name: Box<str>,
    /// The name behind a dot.
    key: u64,
}

impl DeniedFunction {
    fn new(text: &str) -> Self {
        let (schema, name) = text.rsplit_once('.').map_or((None, text), |(schema, name)| (Some(schema), name));
        Self { schema: schema.map(Into::into), name: name.into(), key: attribute_key(name) }
    }

    /// Without a schema on either side it may be that function.
    fn is(&self, function: &FunctionUse) -> bool {
        let is_of_the_schema = match (&self.schema, &function.schema) {
            (Some(one), Some(another)) => one == another,
            (None, _) | (_, None) => true,
        };
        self.name == function.name && is_of_the_schema
    }
}

impl Listed {
    /// All of several lists.
    pub fn new(lists: &[&Lists]) -> Self {
        let names = |side: fn(&Lists) -> &Vec<String>| Names::new(lists.iter().flat_map(|list| side(list)));
        let functions =
            |side: fn(&Sides<String>) -> &Vec<String>| lists.iter().flat_map(move |list| side(&list.functions));
        let classes =
            |side: fn(&Lists) -> &Vec<StatementClass>| lists.iter().flat_map(|list| side(list)).copied().collect();
        Self {
            settings_allowed: names(|list| &list.settings.allowed),
            settings_denied: names(|list| &list.settings.denied),
            functions_allowed: functions(|it| &it.allowed).map(|name| name.as_str().into()).collect(),
            functions_denied: functions(|it| &it.denied).map(|name| DeniedFunction::new(name)).collect(),
            statements_allowed: classes(|list| &list.statements.allowed),
            statements_denied: classes(|list| &list.statements.denied),
            definitions_allowed: lists.iter().flat_map(|list| &list.definitions_allowed).copied().collect(),
        }
    }

    /// Whether statements have to be looked at for what is denied.
    pub const fn has_denied(&self) -> bool {
        !(self.functions_denied.is_empty() && self.statements_denied.is_empty())
    }

    /// Whether a setting (canonical name) is denied.
    pub fn denies_setting(&self, name: &str) -> bool {
        self.settings_denied.has(name)
    }

    /// Whether a setting (canonical name) is allowed.
    pub fn allows_setting(&self, name: &str) -> bool {
        self.settings_allowed.has(name)
    }

    /// Whether a function is allowed.
    pub fn allows_function(&self, function: &FunctionUse) -> bool {
        !self.functions_allowed.is_empty()
            && (self.functions_allowed.contains(&function.name)
                || self.functions_allowed.contains(&*qualified(function.schema.as_deref(), &function.name)))
    }

    /// Whether a class of statements is allowed.
    pub fn allows_class(&self, class: StatementClass) -> bool {
        self.statements_allowed.contains(&class)
    }

    /// Whether migration logins may make a definition of this kind.
    pub fn allows_definition(&self, kind: Definition) -> bool {
        self.definitions_allowed.contains(&kind)
    }

    /// Judges a statement by what is denied: its class, the classes that write inside of it, functions it calls or may call.
    pub fn judge(&self, statement: &Statement) -> Result<(), Fault> {
        let classes = std::iter::once(&statement.class).chain(&statement.writes);
        if let Some(class) = classes.copied().find(|class| self.statements_denied.contains(class)) {
            return Err(denial(format!("The statement is, or holds, one of the class {}.", class.name()), 0));
        }
        for denied in &self.functions_denied {
            if let Some(function) = statement.functions.iter().find(|function| denied.is(function)) {
                let name = qualified(function.schema.as_deref(), &function.name);
                return Err(denial(format!("The function is {name}."), function.position));
            }
            if statement.attributes.contains(&denied.key) {
                return Err(denial(format!("x.{} may call the function {}.", denied.name, denied.name), 0));
            }
        }
        Ok(())
    }
}

fn denial(detail: String, position: u32) -> Fault {
    at(Fault::of(Code::ConfiguredDenial).with_detail(detail), position)
}

/// Names of settings, and prefixes of such.
#[derive(Clone, Debug, Default)]
struct Names {
    whole: HashSet<Box<str>>,
    prefixes: Vec<Box<str>>,
}

impl Names {
    fn new<'n>(names: impl Iterator<Item = &'n String>) -> Self {
        let mut all = Self::default();
        for name in names.map(|name| settings::canonical_name(name)) {
            if let Some(prefix) = name.strip_suffix('*').filter(|prefix| prefix.ends_with('.')) {
                all.prefixes.push(prefix.into());
            }
            all.whole.insert(name);
        }
        all
    }

    fn has(&self, name: &str) -> bool {
        self.whole.contains(name) || self.prefixes.iter().any(|prefix| name.starts_with(&**prefix))
    }
}
