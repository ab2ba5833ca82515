//! What there is of a tenant, and how it can be erased.
//!
//! Owns: obstacles, the statements' texts. Does not own: where tables and keys are read.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::order::order;

/// How values are written, whatever the role, the database or the server are set to: for the transaction in which rows are copied.
pub const FORMS: &str = "SET LOCAL DateStyle = 'ISO, YMD'; SET LOCAL TimeZone = 'UTC'; SET LOCAL IntervalStyle = 'iso_8601'; \
     SET LOCAL extra_float_digits = 1; SET LOCAL bytea_output = 'hex'";

/// A table with rows of the tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Which column holds the tenant; none where its rows belong to tenants by a reference.
    pub column: Option<String>,
    /// Whether policies may hide rows of it from the bypass login.
    pub is_hidden: bool,
    /// How many rows of it are the tenant's.
    pub rows: u64,
}

impl Table {
    /// Schema and name, for people.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    fn sql_name(&self) -> String {
        format!("{}.{}", quoted_name(&self.schema), quoted_name(&self.name))
    }
}

/// What a foreign key does when the row that it refers to goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It must be gone, too, by the end of the statement.
    None,
    /// It must be gone before.
    Restrict,
    /// It goes along.
    Cascade,
    /// Its reference goes.
    Set,
}

impl Action {
    /// From `pg_constraint.confdeltype`.
    #[must_use]
    pub fn of(letter: &str) -> Self {
        match letter {
            "a" => Action::None,
            "c" => Action::Cascade,
            "n" | "d" => Action::Set,
            _ => Action::Restrict,
        }
    }
}

/// A foreign key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name.
    pub name: String,
    /// Schema and name of the table that refers.
    pub child: (String, String),
    /// Schema and name of the one that is referred to.
    pub parent: (String, String),
    /// What it does.
    pub action: Action,
    /// How rows of both fit together, as SQL, of `c` and `p`.
    pub join: String,
}

impl Key {
    /// Counts rows of other tenants that refer to this one's; none where one of the tables is no tenant table.
    #[must_use]
    pub fn count_strays(&self, tenant: &str, tables: &[Table]) -> Option<String> {
        let find = |name: &(String, String)| tables.iter().find(|it| (&it.schema, &it.name) == (&name.0, &name.1));
        let (child, parent) = (find(&self.child)?, find(&self.parent)?);
        let (of_child, of_parent) = (child.column.as_ref()?, parent.column.as_ref()?);
        let tenant = quoted_literal(tenant);
        Some(format!(
            "SELECT count(*) FROM {} c JOIN {} p ON {} WHERE p.{} = {tenant} AND c.{} IS DISTINCT FROM {tenant}",
            child.sql_name(),
            parent.sql_name(),
            self.join,
            quoted_name(of_parent),
            quoted_name(of_child),
        ))
    }
}

/// Why nothing may be erased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle(pub String);

/// All of it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The tenant.
    pub tenant: String,
    /// The tables.
    pub tables: Vec<Table>,
    /// In which order: numbers of `tables`.
    pub groups: Vec<Vec<usize>>,
    /// What stands in the way.
    pub obstacles: Vec<Obstacle>,
}

impl Plan {
    /// From what was found. Policies of the tables in `trusted` are known to show all rows.
    #[must_use]
    pub fn new(tenant: &str, tables: Vec<Table>, keys: &[Key], is_trusted: bool) -> Self {
        let number = |name: &(String, String)| {
            tables.iter().position(|table| (&table.schema, &table.name) == (&name.0, &name.1))
        };
        let mut edges = BTreeSet::new();
        let mut obstacles = Vec::new();
        for key in keys {
            match (number(&key.child), number(&key.parent)) {
                (Some(child), Some(parent)) => drop(edges.insert((child, parent))),
                (None, Some(parent)) => obstacles.extend(outside(key, tables.get(parent))),
                (Some(_) | None, None) => {}
            }
        }
        let with_column = |at: &usize| tables.get(*at).is_some_and(|table| table.column.is_some());
        let groups: Vec<Vec<usize>> = order(tables.len(), &edges)
            .into_iter()
            .map(|group| group.into_iter().filter(with_column).collect::<Vec<_>>())
            .filter(|group| !group.is_empty())
            .collect();
        for group in &groups {
            let both = |key: &&Key| {
                let ends = [number(&key.child), number(&key.parent)];
                ends.iter().all(|end| end.is_some_and(|end| group.contains(&end)))
            };
            let restricting = keys.iter().filter(both).filter(|key| key.action == Action::Restrict);
            obstacles.extend(
                restricting.map(|key| {
                    Obstacle(format!("{} is ON DELETE RESTRICT within a cycle: make it NO ACTION", key.name))
                }),
            );
        }
        for table in &tables {
            if table.column.is_none() {
                obstacles.push(Obstacle(format!(
                    "{} belongs to tenants by a reference and has no tenant column: erase its rows first, or give it one",
                    table.full_name()
                )));
            }
            if table.is_hidden && !is_trusted {
                obstacles.push(Obstacle(format!(
                    "policies of {} may hide rows from this login: a policy USING (true) for its role would not",
                    table.full_name()
                )));
            }
        }
        Self { tenant: tenant.to_owned(), tables, groups, obstacles }
    }

    /// All rows there are.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.tables.iter().fold(0, |sum, table| sum.saturating_add(table.rows))
    }

    /// Counts a table's rows.
    #[must_use]
    pub fn count(&self, table: &Table) -> String {
        format!("SELECT count(*) FROM {}{}", table.sql_name(), self.condition(table))
    }

    /// Writes a table's rows as CSV, in an order that is the same each time: by all that is in them, byte by byte. Rows that are
    /// equal by that are equal lines. It says the same only under [`FORMS`].
    #[must_use]
    pub fn copy(&self, table: &Table) -> String {
        let (name, condition) = (table.sql_name(), self.condition(table));
        let rows = format!("SELECT whole.* FROM {name} AS whole{condition} ORDER BY CAST(whole AS text) COLLATE \"C\"");
        format!("COPY ({rows}) TO STDOUT (FORMAT csv, HEADER true, FORCE_QUOTE *)")
    }

    /// One statement for each group, and whose rows its command tag counts, or each of its values where they are several.
    #[must_use]
    pub fn erasures(&self) -> Vec<(String, Vec<usize>)> {
        self.groups.iter().map(|group| (self.erasure(group), group.clone())).collect()
    }

    fn erasure(&self, group: &[usize]) -> String {
        if let [one] = group
            && let Some(table) = self.tables.get(*one)
        {
            // So that the record of the transaction has its rows.
            return format!("DELETE FROM {}{}", table.sql_name(), self.condition(table));
        }
        let tables = group.iter().filter_map(|at| self.tables.get(*at));
        let parts: Vec<String> = tables
            .enumerate()
            .map(|(at, table)| {
                format!("erased_{at} AS (DELETE FROM {}{} RETURNING 1)", table.sql_name(), self.condition(table))
            })
            .collect();
        let counts: Vec<String> = (0..parts.len()).map(|at| format!("(SELECT count(*) FROM erased_{at})")).collect();
        format!("WITH {} SELECT {}", parts.join(", "), counts.join(", "))
    }

    /// A table without a column is never asked for rows.
    fn condition(&self, table: &Table) -> String {
        match &table.column {
            Some(column) => format!(" WHERE {} = {}", quoted_name(column), quoted_literal(&self.tenant)),
            None => " WHERE false".to_owned(),
        }
    }
}

/// A table that is nobody's and refers to a tenant's rows.
fn outside(key: &Key, parent: Option<&Table>) -> Option<Obstacle> {
    let parent = parent?;
    let child = format!("{}.{}", key.child.0, key.child.1);
    match key.action {
        Action::Cascade | Action::Set => Some(Obstacle(format!(
            "{child} would change with {} ({}), and its rows are nobody's: decide about them first",
            parent.full_name(),
            key.name
        ))),
        Action::None | Action::Restrict => {
            Some(Obstacle(format!("{child} refers to {} ({}), and is no tenant table", parent.full_name(), key.name)))
        }
    }
}

/// A name as SQL quotes it.
#[must_use]
pub fn quoted_name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as SQL quotes it, under `standard_conforming_strings`.
#[must_use]
pub fn quoted_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str, column: Option<&str>) -> Table {
        Table { schema: "public".into(), name: name.into(), column: column.map(Into::into), is_hidden: false, rows: 2 }
    }

    fn key(child: &str, parent: &str, action: Action) -> Key {
        let name = |table: &str| ("public".to_owned(), table.to_owned());
        Key { name: format!("{child}_{parent}"), child: name(child), parent: name(parent), action, join: String::new() }
    }

    fn told(plan: &Plan) -> String {
        plan.obstacles.iter().map(|obstacle| obstacle.0.as_str()).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn statements_quote_and_count() {
        let plan = Plan::new("o'neil", vec![table("or\"ders", Some("tenant id"))], &[], false);
        let sql = &plan.erasures()[0].0;
        assert_eq!(sql, "DELETE FROM \"public\".\"or\"\"ders\" WHERE \"tenant id\" = 'o''neil'");
        assert_eq!(
            plan.copy(&plan.tables[0]),
            "COPY (SELECT whole.* FROM \"public\".\"or\"\"ders\" AS whole WHERE \"tenant id\" = 'o''neil' \
             ORDER BY CAST(whole AS text) COLLATE \"C\") TO STDOUT (FORMAT csv, HEADER true, FORCE_QUOTE *)"
        );
        assert_eq!((plan.rows(), plan.obstacles.len()), (2, 0));
    }

    #[test]
    fn a_cycle_is_one_statement_and_restrict_in_it_an_obstacle() {
        let tables = vec![table("a", Some("t")), table("b", Some("t")), table("c", Some("t"))];
        let keys = [key("a", "b", Action::None), key("b", "a", Action::None), key("c", "a", Action::Restrict)];
        let plan = Plan::new("x", tables.clone(), &keys, false);
        assert_eq!((plan.groups.clone(), told(&plan)), (vec![vec![2], vec![0, 1]], String::new()));
        assert!(
            plan.erasures()[1].0.ends_with("SELECT (SELECT count(*) FROM erased_0), (SELECT count(*) FROM erased_1)")
        );
        let keys = [key("a", "b", Action::Restrict), key("b", "a", Action::None), key("c", "c", Action::Restrict)];
        let plan = Plan::new("x", tables, &keys, false);
        assert!(told(&plan).contains("a_b is ON DELETE RESTRICT") && told(&plan).contains("c_c"), "{}", told(&plan));
    }

    #[test]
    fn what_would_be_left_or_taken_along_is_an_obstacle() {
        let tables = vec![table("a", Some("t")), table("b", None), Table { is_hidden: true, ..table("c", Some("t")) }];
        let keys =
            [key("log", "a", Action::Cascade), key("audit", "a", Action::None), key("a", "countries", Action::None)];
        let plan = Plan::new("x", tables.clone(), &keys, false);
        let told = told(&plan);
        for what in ["public.log would change", "public.audit refers", "public.b belongs", "policies of public.c"] {
            assert!(told.contains(what), "{what} in {told}");
        }
        assert_eq!(plan.obstacles.len(), 4);
        assert_eq!(Plan::new("x", tables, &[], true).obstacles.len(), 1);
    }
}
