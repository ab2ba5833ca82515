//! Which tables a bypass may name.
//!
//! A name without a schema goes by `search_path`, and temporary tables and views come first there: it is let through only where it is
//! listed without a schema, and only while the client has left `search_path` alone and no server stays with it. `public.orders` in the list is not
//! `orders` in a statement, nor the other way round: what one of them means is the database's to say.
//!
//! What is not seen: what views, triggers, rules, operators and policies of the database read. Functions of the database are
//! refused for that.
//!
//! Owns: the list and the judgement of a statement by it. Does not own: finding names in statements (`guard`).

use crate::guard::{DemandKind, FunctionClass, RelationUse, Statement, StatementClass};

/// Most entries of a list: it is gone through for each name.
const ENTRIES_MAX: usize = 1_000;

/// Tables by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    /// `orders`, without a schema.
    Bare(Box<str>),
    /// `public.orders`
    Table(Box<str>, Box<str>),
    /// `support.*`
    Schema(Box<str>),
}

/// Why a name without a schema may be another table than the database's own search path finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// The client has had a say in `search_path`.
    Path,
    /// A server stays with the client: an earlier transaction, under another rule, may have made a temporary view on it.
    Server,
}

impl Doubt {
    const fn words(self) -> &'static str {
        match self {
            Doubt::Path => "the client has set search_path",
            Doubt::Server => "a server stays with the client, where temporary tables and views come first",
        }
    }
}

/// Why a text is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableFault {
    /// Not `table`, `schema.table` or `schema.*`.
    #[error("expected \"schema.table\", \"schema.*\" or \"table\" (which then has no schema in statements)")]
    Form,
    /// Too many.
    #[error("{ENTRIES_MAX} entries at most")]
    Many,
}

impl Tables {
    /// From texts, names as PostgreSQL folds them.
    ///
    /// # Errors
    /// Says what is wrong with the first that is none, and which it is.
    pub fn parse<'t>(texts: impl IntoIterator<Item = &'t str>) -> Result<Self, (usize, TableFault)> {
        let mut entries = Vec::new();
        for (index, text) in texts.into_iter().enumerate() {
            if index >= ENTRIES_MAX {
                return Err((index, TableFault::Many));
            }
            entries.push(Entry::parse(text).ok_or((index, TableFault::Form))?);
        }
        Ok(Self { entries })
    }

    /// Whether a statement names nothing else; `doubt`: why names without a schema may mislead.
    ///
    /// # Errors
    /// Says in a sentence what it names, or why that cannot be known.
    pub fn judge(&self, statement: &Statement, doubt: Option<Doubt>) -> Result<(), String> {
        if !names_what_it_reads(statement.class) {
            return Err(format!("What a statement of class {} touches is not known.", statement.class.name()));
        }
        if statement.demands.iter().any(|demand| demand.kind == DemandKind::SelectInto) {
            return Err("SELECT INTO makes a table.".to_owned());
        }
        if let Some(function) = statement.functions.iter().find(|function| function.class != FunctionClass::Plain) {
            return Err(format!("What the function {} touches is not known.", function.name));
        }
        // EXPLAIN EXECUTE names none.
        if statement.class == StatementClass::Explain && statement.relations.is_empty() {
            return Err("What is explained names no table.".to_owned());
        }
        let mut tables = statement.relations.iter().filter(|relation| !relation.is_common);
        tables.try_for_each(|relation| self.judge_relation(relation, doubt))
    }

    fn judge_relation(&self, relation: &RelationUse, doubt: Option<Doubt>) -> Result<(), String> {
        let name = &relation.name;
        match &relation.schema {
            Some(schema) if self.has(Some(schema), name) => Ok(()),
            Some(schema) => Err(format!("The table is {schema}.{name}.")),
            None if !self.has(None, name) => Err(format!("The table is {name}, without a schema.")),
            None => match doubt {
                Some(doubt) => Err(format!("The table is {name}, without a schema, and {}.", doubt.words())),
                None => Ok(()),
            },
        }
    }

    fn has(&self, schema: Option<&str>, name: &str) -> bool {
        self.entries.iter().any(|entry| match (entry, schema) {
            (Entry::Bare(table), None) => **table == *name,
            (Entry::Table(of, table), Some(schema)) => **of == *schema && **table == *name,
            (Entry::Schema(of), Some(schema)) => **of == *schema,
            (Entry::Bare(_), Some(_)) | (Entry::Table(..) | Entry::Schema(_), None) => false,
        })
    }
}

impl Entry {
    fn parse(text: &str) -> Option<Self> {
        let is_name = |name: &str| !name.is_empty() && !name.contains(['.', '*', '"']);
        match text.split_once('.') {
            None => is_name(text).then(|| Entry::Bare(text.into())),
            Some((schema, "*")) => is_name(schema).then(|| Entry::Schema(schema.into())),
            Some((schema, table)) => {
                (is_name(schema) && is_name(table)).then(|| Entry::Table(schema.into(), table.into()))
            }
        }
    }
}

/// Whether a statement's own text names all relations that it touches, or it touches none.
const fn names_what_it_reads(class: StatementClass) -> bool {
    use StatementClass as Class;
    match class {
        Class::Select
        | Class::Insert
        | Class::Update
        | Class::Delete
        | Class::Merge
        | Class::CopyIn
        | Class::CopyOut
        | Class::DeclareCursor
        | Class::Fetch
        | Class::CloseCursor
        | Class::Transaction
        | Class::SetConstraints
        | Class::Setting
        | Class::Show
        | Class::Discard
        | Class::Deallocate
        | Class::Unlisten
        | Class::AdvisoryUnlockAll
        | Class::Prepare
        | Class::Explain
        | Class::Lock => true,
        Class::CopyServer
        | Class::TwoPhase
        // CASCADE takes others along.
        | Class::Truncate
        | Class::Claim
        | Class::Listen
        | Class::Notify
        | Class::Execute
        | Class::Call
        | Class::Do
        | Class::Load
        | Class::CreateTableAs
        | Class::CreateTemporary
        | Class::DropTemporary
        | Class::Definition
        | Class::Privileges
        | Class::Roles
        | Class::Policies
        | Class::Maintenance
        | Class::Refresh
        | Class::Checkpoint
        | Class::Administration
        | Class::NotAStatement => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::{Limits, inspect};

    fn judge(tables: &[&str], sql: &str, doubt: Option<Doubt>) -> Result<(), String> {
        let tables = Tables::parse(tables.iter().copied()).unwrap();
        let facts = inspect(sql.as_bytes(), &Limits::default()).unwrap();
        facts.statements.iter().try_for_each(|statement| tables.judge(statement, doubt))
    }

    #[test]
    fn a_name_is_let_through_as_it_is_listed() {
        let tables = ["public.orders", "support.*", "notes"];
        for sql in [
            "SELECT * FROM public.orders",
            "SELECT * FROM support.a JOIN support.b USING (id)",
            "SELECT count(*) FROM notes",
            "WITH x AS (SELECT * FROM public.orders) SELECT * FROM x",
            "UPDATE public.orders SET a = (SELECT max(b) FROM notes)",
            "COPY support.x TO STDOUT",
            "DECLARE c CURSOR FOR SELECT * FROM notes",
            "FETCH 1 FROM c",
            "LOCK TABLE notes",
            "SELECT 1; COMMIT; SET timezone = 'UTC'; SHOW all",
            "SELECT set_config('timezone', 'UTC', true)",
        ] {
            assert_eq!(judge(&tables, sql, None), Ok(()), "{sql}");
        }
        for (sql, what) in [
            ("SELECT * FROM orders", "orders, without a schema"),
            ("SELECT * FROM public.notes", "public.notes"),
            ("SELECT * FROM public.orders, secret", "secret"),
            ("SELECT (SELECT max(id) FROM x.secret)", "x.secret"),
            ("WITH x AS (DELETE FROM secret RETURNING *) SELECT * FROM x", "secret"),
            ("INSERT INTO notes SELECT * FROM secret", "secret"),
            ("COPY (SELECT * FROM secret) TO STDOUT", "secret"),
            ("SELECT * FROM \"support.x\"", "support.x, without"),
            ("EXPLAIN ANALYZE SELECT * FROM secret", "secret"),
            ("SELECT * FROM pg_catalog.pg_class", "pg_catalog.pg_class"),
        ] {
            let told = judge(&tables, sql, None).unwrap_err();
            assert!(told.contains(what), "{sql}: {told}");
        }
    }

    #[test]
    fn what_hides_tables_is_refused() {
        for sql in [
            "SELECT f(1)",
            "SELECT my.f(1)",
            "SELECT query_to_xml('SELECT * FROM secret', true, true, '')",
            "EXECUTE p",
            "EXPLAIN ANALYZE EXECUTE p",
            "EXPLAIN ANALYZE CREATE TABLE x AS SELECT * FROM public.orders",
            "SELECT * FROM x, (WITH x AS (SELECT 1) SELECT * FROM x) y",
            "TRUNCATE public.orders CASCADE",
            "CALL p()",
            "DO 'BEGIN END'",
            "CREATE TABLE x AS SELECT 1",
            "CREATE TEMP TABLE notes (id int)",
            "SELECT 1 AS a INTO x",
            "ALTER TABLE public.orders ADD a int",
            "REFRESH MATERIALIZED VIEW public.orders",
            "VACUUM public.orders",
        ] {
            assert!(judge(&["public.orders", "notes"], sql, None).is_err(), "{sql}");
        }
    }

    #[test]
    fn a_name_without_a_schema_needs_the_databases_own_search_path() {
        for (doubt, words) in [(Doubt::Path, "search_path"), (Doubt::Server, "stays with the client")] {
            let doubt = Some(doubt);
            assert_eq!(judge(&["notes", "public.orders"], "SELECT * FROM public.orders", doubt), Ok(()));
            let told = judge(&["notes"], "SELECT * FROM notes", doubt).unwrap_err();
            assert!(told.contains(words), "{told}");
        }
    }

    #[test]
    fn entries_have_one_of_three_forms() {
        for bad in ["", "*", ".", "a.", ".a", "a.b.c", "*.a", "a.b*", "\"a\"", "a*"] {
            assert_eq!(Tables::parse(["a", bad]), Err((1, TableFault::Form)), "{bad:?}");
        }
        let many = vec!["a"; ENTRIES_MAX + 1];
        assert_eq!(Tables::parse(many), Err((ENTRIES_MAX, TableFault::Many)));
    }
}
