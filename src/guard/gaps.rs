//! What `check` has found in a database that statements must keep off.
//!
//! Owns: the comparison of a statement's names with it. A name without a schema fits one of any schema: what a
//! `search_path` makes of it is not known here.
//!
//! Does not own: what is found (`check`), and whom it concerns (`policy`).

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{Statement, attribute_key};
use super::policy::{at, qualified};
use crate::fault::{Code, Fault};

/// Names by schema: for each name, the schemas that have it.
type Names = BTreeMap<Box<str>, BTreeSet<Box<str>>>;

/// Tables that keep nobody out, and functions that do what nobody sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gaps {
    tables: Names,
    functions: Names,
    /// The functions' names as `x.name` calls them.
    attributes: BTreeSet<u64>,
}

impl Gaps {
    /// Of tables and functions, by schema and name.
    #[must_use]
    pub fn new<'n>(
        tables: impl IntoIterator<Item = &'n (String, String)>,
        functions: impl IntoIterator<Item = &'n (String, String)>,
    ) -> Self {
        let functions = collect(functions);
        let attributes = functions.keys().map(|name| attribute_key(name)).collect();
        Self { tables: collect(tables), functions, attributes }
    }

    /// Whether there is nothing to keep off.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.functions.is_empty()
    }

    /// Judges the names of a statement.
    pub(super) fn judge(&self, statement: &Statement) -> Result<(), Fault> {
        for relation in &statement.relations {
            if has(&self.tables, relation.schema.as_deref(), &relation.name) {
                let detail = format!("The table is {}.", qualified(relation.schema.as_deref(), &relation.name));
                return Err(at(Fault::of(Code::TableUncovered).with_detail(detail), relation.position));
            }
        }
        for function in &statement.functions {
            if has(&self.functions, function.schema.as_deref(), &function.name) {
                let detail = format!("The function is {}.", qualified(function.schema.as_deref(), &function.name));
                return Err(at(Fault::of(Code::ExecutorDenied).with_detail(detail), function.position));
            }
        }
        // Which of them it is, only the text says: its key is all that is kept.
        if statement.attributes.iter().any(|key| self.attributes.contains(key)) {
            let detail = "It is called as a column of a row would be read.";
            return Err(Fault::of(Code::ExecutorDenied).with_detail(detail));
        }
        Ok(())
    }
}

fn collect<'n>(names: impl IntoIterator<Item = &'n (String, String)>) -> Names {
    let mut collected = Names::new();
    for (schema, name) in names {
        collected.entry(name.as_str().into()).or_default().insert(schema.as_str().into());
    }
    collected
}

fn has(names: &Names, schema: Option<&str>, name: &str) -> bool {
    names.get(name).is_some_and(|schemas| schema.is_none_or(|schema| schemas.contains(schema)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::guard::{Limits, Policy, PolicySettings, Preset, inspect};

    fn verdict(sql: &str, preset: Preset) -> Option<Code> {
        let pair = |schema: &str, name: &str| (schema.to_owned(), name.to_owned());
        let gaps = Gaps::new(&[pair("public", "audit"), pair("shop", "Odd Name")], &[pair("public", "run")]);
        let policy = Policy::new(&PolicySettings { preset, gaps: Arc::new(gaps), ..PolicySettings::default() });
        policy.judge(&inspect(sql.as_bytes(), &Limits::default()).unwrap()).err().and_then(|fault| fault.code)
    }

    #[test]
    fn a_statement_that_touches_an_uncovered_table_is_refused_wherever_the_name_stands() {
        for sql in [
            "SELECT * FROM audit",
            "SELECT * FROM public.audit",
            "WITH x AS (DELETE FROM audit RETURNING 1) SELECT * FROM x",
            "INSERT INTO audit VALUES (1)",
            "COPY audit TO STDOUT",
            "SELECT 1 WHERE EXISTS (SELECT FROM shop.\"Odd Name\")",
            "TABLE Audit",
            "DECLARE c CURSOR FOR SELECT * FROM audit",
            "EXPLAIN SELECT * FROM audit",
            "PREPARE p AS SELECT * FROM audit",
            "UPDATE orders SET a = 1 FROM audit",
            "MERGE INTO audit USING orders ON true WHEN MATCHED THEN DELETE",
        ] {
            assert_eq!(verdict(sql, Preset::Tenant), Some(Code::TableUncovered), "{sql}");
            assert_ne!(verdict(sql, Preset::Bypass), Some(Code::TableUncovered), "{sql}");
        }
        for sql in ["CREATE VIEW v AS SELECT * FROM audit", "CREATE TABLE t AS TABLE audit", "TRUNCATE audit"] {
            assert_eq!(verdict(sql, Preset::Migration), Some(Code::TableUncovered), "{sql}");
        }
        for sql in ["SELECT * FROM shop.audit", "SELECT audit FROM orders", "SELECT * FROM \"Audit\""] {
            assert_eq!(verdict(sql, Preset::Tenant), None, "{sql}");
        }
    }

    #[test]
    fn a_function_that_runs_strings_is_refused_to_tenants() {
        assert_eq!(verdict("SELECT run('x')", Preset::Tenant), Some(Code::ExecutorDenied));
        assert_eq!(verdict("SELECT public.run('x')", Preset::Application), Some(Code::ExecutorDenied));
        assert_eq!(verdict("SELECT o.run FROM orders o", Preset::Tenant), Some(Code::ExecutorDenied));
        assert_eq!(verdict("SELECT (o).run FROM orders o", Preset::Tenant), Some(Code::ExecutorDenied));
        assert_eq!(verdict("SELECT o.run FROM orders o", Preset::Bypass), None);
        assert_eq!(verdict("SELECT other.run('x')", Preset::Tenant), None);
        assert_eq!(verdict("SELECT run('x')", Preset::Bypass), None);
    }
}
