//! What a database's catalogue says, as typed rows.
//!
//! Owns: the rows of every catalogue query (`queries`) and their reading. Does not own: what they mean (`judge`).

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::queries::{ROWS_MAX, Section};

/// An object's number.
pub type Oid = u32;

/// Everything that was read, and what could not be.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// The server.
    pub server: Server,
    /// Roles.
    pub roles: Vec<Role>,
    /// Who is a member of whom.
    pub memberships: Vec<Membership>,
    /// `ALTER ROLE/DATABASE … SET`.
    pub settings: Vec<SettingOf>,
    /// Schemas.
    pub schemas: Vec<Schema>,
    /// Tables, views and the like.
    pub relations: Vec<Relation>,
    /// Columns of tables.
    pub columns: Vec<Column>,
    /// Row-level security policies.
    pub policies: Vec<Policy>,
    /// Keys and references.
    pub constraints: Vec<Constraint>,
    /// Indexes.
    pub indexes: Vec<Index>,
    /// What views read.
    pub reads: Vec<ViewRead>,
    /// Functions outside of `pg_catalog`.
    pub functions: Vec<Function>,
    /// Publications.
    pub publications: Vec<Publication>,
    /// What could not be read, with the reason.
    pub unread: Vec<(Section, String)>,
}

/// The server and the database.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Server {
    /// `server_version_num`
    pub version: u32,
    /// The database.
    pub database: String,
    /// Who looks.
    pub inspector: String,
    /// The database's owner.
    pub owner: Oid,
    /// What roles may do in the database.
    pub grants: Vec<Grant>,
}

impl Server {
    /// 15 of 15.20.
    #[must_use]
    pub const fn major(&self) -> u32 {
        self.version / 10_000
    }

    /// 20 of 15.20.
    #[must_use]
    pub const fn minor(&self) -> u32 {
        self.version % 10_000
    }
}

/// What one of the examined roles may do with something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Grant {
    /// The role.
    pub role: Oid,
    /// Privileges, in PostgreSQL's words.
    pub privileges: Vec<String>,
}

/// A role.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Role {
    /// Its number.
    pub oid: Oid,
    /// Its name.
    pub name: String,
    /// SUPERUSER
    pub superuser: bool,
    /// BYPASSRLS
    pub bypassrls: bool,
    /// CREATEROLE
    pub createrole: bool,
    /// REPLICATION
    pub replication: bool,
}

/// A membership.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Membership {
    /// What is granted.
    pub role: Oid,
    /// To whom.
    pub member: Oid,
    /// It may grant it on.
    pub admin: bool,
    /// It has its privileges without further ado.
    pub inherit: bool,
    /// It may SET ROLE to it.
    pub set: bool,
}

/// A setting that a session begins with.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct SettingOf {
    /// 0: in every database.
    pub database: Oid,
    /// 0: of every role.
    pub role: Oid,
    /// Its name, lower case.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// A schema.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Schema {
    /// Its name.
    pub name: String,
    /// What roles may do in it.
    pub grants: Vec<Grant>,
}

/// A table, view or the like.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Relation {
    /// Its number.
    pub oid: Oid,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// `relkind`: r, p, f, v or m.
    pub kind: String,
    /// Its owner.
    pub owner: Oid,
    /// ENABLE ROW LEVEL SECURITY
    pub rls: bool,
    /// FORCE ROW LEVEL SECURITY
    pub force: bool,
    /// It is a partition.
    pub partition: bool,
    /// `security_invoker`
    pub invoker: bool,
    /// What roles may do with it.
    pub grants: Vec<Grant>,
}

impl Relation {
    /// Rows are kept in it, or below it.
    #[must_use]
    pub fn is_table(&self) -> bool {
        matches!(&*self.kind, "r" | "p")
    }

    /// Schema and name.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// Schema and name as SQL.
    #[must_use]
    pub fn sql_name(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }
}

/// A column.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Column {
    /// Its table.
    pub relation: Oid,
    /// `attnum`
    pub number: i16,
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: String,
    /// NOT NULL
    pub not_null: bool,
    /// Its values are made by the server, so that nobody guesses or chooses one.
    pub made: bool,
}

/// A policy.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Policy {
    /// Its table.
    pub relation: Oid,
    /// Its name.
    pub name: String,
    /// PERMISSIVE
    pub permissive: bool,
    /// For whom; 0 is PUBLIC.
    pub roles: Vec<Oid>,
    /// `polcmd`: r, a, w, d or *.
    pub command: String,
    /// USING
    pub using: Option<String>,
    /// WITH CHECK
    pub check: Option<String>,
}

/// A key or reference.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Constraint {
    /// Its table.
    pub relation: Oid,
    /// Its name.
    pub name: String,
    /// `contype`: p, u, x or f.
    pub kind: String,
    /// Its columns; empty where they are expressions.
    pub columns: Vec<i16>,
    /// What it references.
    pub references: Oid,
    /// The columns there.
    pub referenced: Vec<i16>,
    /// `confdeltype`
    pub on_delete: String,
    /// `confupdtype`
    pub on_update: String,
}

/// An index.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Index {
    /// Its table.
    pub relation: Oid,
    /// Its name.
    pub name: String,
    /// UNIQUE
    pub unique: bool,
    /// It belongs to a constraint.
    pub of_constraint: bool,
    /// It has a WHERE.
    pub partial: bool,
    /// It can be used.
    pub valid: bool,
    /// Its key columns; 0 is an expression.
    pub columns: Vec<i16>,
}

/// A view reads a relation.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ViewRead {
    /// The view.
    pub view: Oid,
    /// What it reads.
    pub relation: Oid,
}

/// A function.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Function {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Its arguments' types.
    pub arguments: String,
    /// Its owner.
    pub owner: Oid,
    /// SECURITY DEFINER
    pub definer: bool,
    /// LEAKPROOF
    pub leakproof: bool,
    /// `provolatile`
    pub volatility: String,
    /// Its language.
    pub language: String,
    /// The language is TRUSTED, or SQL.
    pub trusted: bool,
    /// It returns a trigger: nobody calls it.
    pub trigger: bool,
    /// It has a `search_path` of its own.
    pub pinned: bool,
    /// The extension it belongs to.
    pub extension: Option<String>,
    /// Its text runs strings as SQL.
    pub executes: bool,
    /// Its text, or a setting of its own, changes settings, or hands strings to functions that run them.
    pub changes: bool,
    /// Settings its text reads by a constant name.
    pub settings: Vec<String>,
    /// It executes what its callers may not: roles that may call it.
    pub callers: Vec<Oid>,
}

impl Function {
    /// `schema.name(types)`
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{}.{}({})", self.schema, self.name, self.arguments)
    }

    /// The same as SQL.
    #[must_use]
    pub fn sql_name(&self) -> String {
        format!("{}.{}({})", quoted(&self.schema), quoted(&self.name), self.arguments)
    }
}

/// A publication.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Publication {
    /// Its name.
    pub name: String,
    /// FOR ALL TABLES
    pub all: bool,
    /// Its tables.
    pub relations: Vec<Oid>,
    /// Its schemas.
    pub schemas: Vec<String>,
}

impl Catalogue {
    /// Takes a query's rows, each one JSON object. Rows that are none, and too many of them, are noted as unread.
    pub fn take(&mut self, section: Section, rows: &[String]) {
        if rows.len() > ROWS_MAX {
            self.unread.push((section, format!("there are more than {ROWS_MAX} rows; the rest was not looked at")));
        }
        let rows = rows.get(..ROWS_MAX).unwrap_or(rows);
        let taken = match section {
            Section::Server => read(rows).map(|rows: Vec<Server>| {
                if let Some(server) = rows.into_iter().next() {
                    self.server = server;
                }
            }),
            Section::Roles => read(rows).map(|rows| self.roles = rows),
            Section::Memberships => read(rows).map(|rows| self.memberships = rows),
            Section::Settings => read(rows).map(|rows| self.settings = rows),
            Section::Schemas => read(rows).map(|rows| self.schemas = rows),
            Section::Relations => read(rows).map(|rows| self.relations = rows),
            Section::Columns => read(rows).map(|rows| self.columns = rows),
            Section::Policies => read(rows).map(|rows| self.policies = rows),
            Section::Constraints => read(rows).map(|rows| self.constraints = rows),
            Section::Indexes => read(rows).map(|rows| self.indexes = rows),
            Section::ViewReads => read(rows).map(|rows| self.reads = rows),
            Section::Functions => read(rows).map(|rows| self.functions = rows),
            Section::Publications => read(rows).map(|rows| self.publications = rows),
        };
        if let Err(reason) = taken {
            self.unread.push((section, reason));
        }
    }

    /// A role by its name.
    #[must_use]
    pub fn role(&self, name: &str) -> Option<&Role> {
        self.roles.iter().find(|role| role.name == name)
    }

    /// A role's name; its number where it has none.
    #[must_use]
    pub fn role_name(&self, oid: Oid) -> String {
        self.roles.iter().find(|role| role.oid == oid).map_or_else(|| oid.to_string(), |role| role.name.clone())
    }

    /// Relations by number.
    #[must_use]
    pub fn relations_by_oid(&self) -> BTreeMap<Oid, &Relation> {
        self.relations.iter().map(|relation| (relation.oid, relation)).collect()
    }

    /// Columns of each table.
    #[must_use]
    pub fn columns_by_relation(&self) -> BTreeMap<Oid, Vec<&Column>> {
        let mut columns: BTreeMap<Oid, Vec<&Column>> = BTreeMap::new();
        for column in &self.columns {
            columns.entry(column.relation).or_default().push(column);
        }
        columns
    }

    /// Everything a view reads, through other views too.
    #[must_use]
    pub fn read_by(&self, view: Oid) -> BTreeSet<Oid> {
        let (mut found, mut next) = (BTreeSet::new(), vec![view]);
        while let Some(one) = next.pop() {
            let read = self.reads.iter().filter(|read| read.view == one && read.relation != view);
            next.extend(read.map(|read| read.relation).filter(|relation| found.insert(*relation)));
        }
        found
    }
}

fn read<T: DeserializeOwned>(rows: &[String]) -> Result<Vec<T>, String> {
    rows.iter()
        .map(|row| serde_json::from_str(row).map_err(|error| format!("a row that is not understood: {error}")))
        .collect()
}

/// An identifier as SQL.
#[must_use]
pub fn quoted(name: &str) -> String {
    let is_plain = name.chars().next().is_some_and(|c| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if is_plain && !RESERVED.contains(&name) {
        return name.to_owned();
    }
    if name.chars().any(char::is_control) {
        // A line's end must not end a comment or a line of a report.
        let escaped: String = name
            .chars()
            .map(|c| match c {
                '\\' => "\\\\".to_owned(),
                '"' => "\"\"".to_owned(),
                c if c.is_control() => format!("\\{:04X}", u32::from(c)),
                c => c.to_string(),
            })
            .collect();
        return format!("U&\"{escaped}\"");
    }
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Words that tables and columns are named by and that SQL does not take without quotes.
const RESERVED: [&str; 20] = [
    "all", "analyze", "and", "any", "array", "as", "case", "check", "column", "default", "desc", "end", "from",
    "grant", "group", "order", "select", "table", "user", "where",
];

/// A text as SQL.
#[must_use]
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts_are_quoted_for_sql() {
        assert_eq!((quoted("orders"), quoted("order")), ("orders".into(), "\"order\"".into()));
        assert_eq!((quoted("tenantId"), quoted("a\"b")), ("\"tenantId\"".into(), "\"a\"\"b\"".into()));
        assert_eq!(quoted("a\n\"b\\"), "U&\"a\\000A\"\"b\\\\\"");
        assert_eq!(literal("it's"), "'it''s'");
    }

    #[test]
    fn a_row_that_is_not_understood_is_noted_and_not_passed_over() {
        let mut catalogue = Catalogue::default();
        catalogue.take(Section::Roles, &["{\"oid\": 1}".to_owned()]);
        assert!(matches!(&*catalogue.unread, [(Section::Roles, reason)] if reason.contains("name")));
    }

    #[test]
    fn more_rows_than_are_read_are_noted() {
        let row = r#"{"view": 1, "relation": 2}"#.to_owned();
        let mut catalogue = Catalogue::default();
        catalogue.take(Section::ViewReads, &vec![row; ROWS_MAX + 1]);
        assert_eq!((catalogue.reads.len(), catalogue.unread.len()), (ROWS_MAX, 1));
    }

    #[test]
    fn views_over_views_read_their_tables() {
        let read = |view, relation| ViewRead { view, relation };
        let catalogue =
            Catalogue { reads: vec![read(1, 2), read(2, 3), read(3, 2), read(1, 1)], ..Catalogue::default() };
        assert_eq!(catalogue.read_by(1), BTreeSet::from([2, 3]));
    }
}
