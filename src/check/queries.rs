//! The catalogue queries: all SQL that `check` sends to look at a database.
//!
//! Each gives one JSON object a row (`row_to_json`), works on PostgreSQL 14 to 18 with nothing but the rights everybody
//! has, names `pg_catalog` everywhere and ends at a number of rows. The session's `search_path` is `pg_catalog` alone,
//! so that `pg_get_expr` qualifies every name that is not the system's.
//!
//! Owns: the SQL. Does not own: how it is sent (`driver::inspect`), what the rows mean.

use super::facts::literal;

/// Rows of one query that are read; a schema with more is not examined as a whole, and the report says so.
pub const ROWS_MAX: usize = 100_000;

/// Longest function text that is searched.
const SOURCE_CHARACTERS_MAX: usize = 100_000;

macro_rules! sections {
    ($( $variant:ident = $words:literal; )*) => {
        /// A part of the catalogue.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "the words are the documentation")]
        pub enum Section { $( $variant, )* }

        impl Section {
            /// All of them, in the order they are read.
            pub const ALL: &'static [Section] = &[ $( Section::$variant, )* ];

            /// What it holds.
            #[must_use]
            pub const fn words(self) -> &'static str {
                match self { $( Section::$variant => $words, )* }
            }
        }
    };
}

sections! {
    Server = "the server and the database";
    Roles = "roles";
    Memberships = "memberships of roles";
    Settings = "settings of roles and databases";
    Schemas = "schemas";
    Relations = "tables and views";
    Columns = "columns";
    Policies = "policies";
    Constraints = "keys and references";
    Indexes = "indexes";
    ViewReads = "what views read";
    Functions = "functions";
    Publications = "publications";
}

/// What is sent before the queries. Nothing is written, nothing is waited for long, and nothing of the session's
/// settings decides how names are read.
pub const BEGIN: [&str; 5] = [
    "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY",
    "SET LOCAL client_encoding = 'UTF8'",
    "SET LOCAL search_path = pg_catalog",
    "SET LOCAL statement_timeout = '60s'",
    "SET LOCAL lock_timeout = '5s'",
];

/// The query of a section for a release (`server_version_num`), asking about these roles.
#[must_use]
pub fn query(section: Section, version: u32, roles: &[String]) -> String {
    let inner = match section {
        Section::Server => server(roles),
        Section::Roles => "SELECT oid::bigint, rolname AS name, rolsuper AS superuser, rolbypassrls AS bypassrls, \
                           rolcreaterole AS createrole, rolreplication AS replication FROM pg_catalog.pg_roles"
            .to_owned(),
        Section::Memberships => memberships(version),
        Section::Settings => SETTINGS.to_owned(),
        Section::Schemas => schemas(roles),
        Section::Relations => relations(version, roles),
        Section::Columns => columns(),
        Section::Policies => POLICIES.to_owned(),
        Section::Constraints => CONSTRAINTS.to_owned(),
        Section::Indexes => INDEXES.to_owned(),
        Section::ViewReads => VIEW_READS.to_owned(),
        Section::Functions => functions(roles),
        Section::Publications => publications(version),
    };
    format!("SELECT pg_catalog.row_to_json(q) FROM ({inner}) q LIMIT {}", ROWS_MAX + 1)
}

/// Schemas that are PostgreSQL's own.
const IS_OWN_SCHEMA: &str = "(n.nspname = 'information_schema' OR n.nspname LIKE 'pg\\_%')";

/// The examined roles as a table.
fn subjects(roles: &[String]) -> String {
    let names: Vec<String> = roles.iter().map(|role| literal(role)).collect();
    let list = if names.is_empty() { "NULL".to_owned() } else { names.join(", ") };
    format!("(SELECT oid, rolname FROM pg_catalog.pg_roles WHERE rolname IN ({list})) s")
}

/// What each examined role may do with an object, as JSON; `has` asks about role `s.oid` and privilege `p.name`.
fn grants(roles: &[String], has: &str, privileges: &[&str]) -> String {
    let list: Vec<String> = privileges.iter().map(|privilege| literal(privilege)).collect();
    format!(
        "(SELECT COALESCE(pg_catalog.json_agg(pg_catalog.json_build_object('role', s.oid::bigint, 'privileges', \
         COALESCE((SELECT pg_catalog.json_agg(p.name) FROM pg_catalog.unnest(ARRAY[{}]::text[]) p(name) \
         WHERE {has}), '[]'::json))), '[]'::json) FROM {})",
        list.join(", "),
        subjects(roles)
    )
}

fn server(roles: &[String]) -> String {
    let grants = grants(roles, "pg_catalog.has_database_privilege(s.oid, d.oid, p.name)", &["CREATE", "TEMPORARY"]);
    format!(
        "SELECT pg_catalog.current_setting('server_version_num')::int AS version, d.datname AS database, \
         CURRENT_USER AS inspector, d.datdba::bigint AS owner, {grants} AS grants \
         FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()"
    )
}

/// Before 16, INHERIT was the member's and SET came with every membership.
fn memberships(version: u32) -> String {
    let (inherit, set) =
        if version >= 160_000 { ("m.inherit_option", "m.set_option") } else { ("r.rolinherit", "true") };
    format!(
        "SELECT m.roleid::bigint AS role, m.member::bigint AS member, m.admin_option AS admin, {inherit} AS inherit, \
         {set} AS set FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles r ON r.oid = m.member"
    )
}

const SETTINGS: &str = "SELECT s.setdatabase::bigint AS database, s.setrole::bigint AS role, \
    pg_catalog.lower(pg_catalog.split_part(c.line, '=', 1)) AS name, \
    pg_catalog.substr(c.line, pg_catalog.strpos(c.line, '=') + 1) AS value \
    FROM pg_catalog.pg_db_role_setting s, pg_catalog.unnest(s.setconfig) c(line) \
    WHERE s.setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))";

fn schemas(roles: &[String]) -> String {
    let grants = grants(roles, "pg_catalog.has_schema_privilege(s.oid, n.oid, p.name)", &["CREATE", "USAGE"]);
    format!("SELECT n.nspname AS name, {grants} AS grants FROM pg_catalog.pg_namespace n WHERE NOT {IS_OWN_SCHEMA}")
}

const TABLE_PRIVILEGES: [&str; 7] = ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"];

fn relations(version: u32, roles: &[String]) -> String {
    let mut privileges = TABLE_PRIVILEGES.to_vec();
    if version >= 170_000 {
        privileges.push("MAINTAIN");
    }
    // A privilege on one column is one on rows, too.
    let has = "CASE WHEN p.name IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES') \
               THEN pg_catalog.has_any_column_privilege(s.oid, c.oid, p.name) \
               ELSE pg_catalog.has_table_privilege(s.oid, c.oid, p.name) END";
    let grants = grants(roles, has, &privileges);
    format!(
        "SELECT c.oid::bigint, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind, \
         c.relowner::bigint AS owner, c.relrowsecurity AS rls, c.relforcerowsecurity AS force, \
         c.relispartition AS partition, \
         COALESCE((SELECT pg_catalog.bool_or(o.option_value IN ('on', 'true', 'yes', '1')) \
         FROM pg_catalog.pg_options_to_table(c.reloptions) o WHERE o.option_name = 'security_invoker'), false) \
         AS invoker, {grants} AS grants \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm') AND c.relpersistence <> 't' AND NOT {IS_OWN_SCHEMA} \
         ORDER BY n.nspname, c.relname"
    )
}

/// Of tables, views and foreign tables. Made values: identities, sequences, random UUIDs.
fn columns() -> String {
    format!(
        "SELECT a.attrelid::bigint AS relation, a.attnum AS number, a.attname AS name, \
         pg_catalog.format_type(a.atttypid, a.atttypmod) AS kind, a.attnotnull AS not_null, \
         (a.attidentity <> '' OR COALESCE(pg_catalog.pg_get_expr(d.adbin, d.adrelid) ~ \
         '(nextval|gen_random_uuid|uuid_generate_v|uuidv[47])', false)) AS made \
         FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
         WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't' \
         AND NOT {IS_OWN_SCHEMA}"
    )
}

const POLICIES: &str = "SELECT p.polrelid::bigint AS relation, p.polname AS name, p.polpermissive AS permissive, \
    (SELECT pg_catalog.json_agg(r.oid::bigint) FROM pg_catalog.unnest(p.polroles) r(oid)) AS roles, \
    p.polcmd::text AS command, pg_catalog.pg_get_expr(p.polqual, p.polrelid) AS using, \
    pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid) AS check FROM pg_catalog.pg_policy p ORDER BY p.polname";

const CONSTRAINTS: &str = "SELECT k.conrelid::bigint AS relation, k.conname AS name, k.contype::text AS kind, \
    COALESCE(k.conkey, '{}') AS columns, k.confrelid::bigint AS references, COALESCE(k.confkey, '{}') AS referenced, \
    k.confdeltype::text AS on_delete, k.confupdtype::text AS on_update \
    FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_namespace n ON n.oid = k.connamespace \
    WHERE k.contype IN ('p', 'u', 'x', 'f') AND k.conrelid <> 0 AND k.conparentid = 0 \
    AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%' ORDER BY k.conname";

const INDEXES: &str = "SELECT i.indrelid::bigint AS relation, c.relname AS name, i.indisunique AS unique, \
    EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x')) \
    AS of_constraint, i.indpred IS NOT NULL AS partial, i.indisvalid AS valid, \
    (SELECT COALESCE(pg_catalog.json_agg(k.number ORDER BY k.place), '[]'::json) \
    FROM pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY k(number, place) WHERE k.place <= i.indnkeyatts) \
    AS columns FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%' ORDER BY c.relname";

const VIEW_READS: &str = "SELECT DISTINCT w.ev_class::bigint AS view, d.refobjid::bigint AS relation \
    FROM pg_catalog.pg_rewrite w JOIN pg_catalog.pg_depend d ON d.objid = w.oid \
    JOIN pg_catalog.pg_class c ON c.oid = w.ev_class \
    WHERE d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass \
    AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid <> w.ev_class \
    AND c.relkind IN ('v', 'm')";

/// How texts of procedural languages run strings: EXECUTE, and the languages' own calls.
const EXECUTES: &str = r"'\m(execute\M|spi_|plpy[.]|plv8[.])'";

/// How a text changes settings, or hands strings to functions of `pg_catalog` that run them.
const CHANGES: &str = r#"'\m(set_config|query_to_xml\w*|cursor_to_xml\w*|ts_stat|ts_rewrite)\s*\(|\mset\s+(local|session)\s+|\m(set|reset)\s+("?\w+"?[.]|role\M|all\M)'"#;

/// Settings that a text reads by a constant name.
const READS: &str = r"'current_setting\s*\(\s*''([^'']+)'''";

/// Whoever may call it: EXECUTE on the function and USAGE of its schema.
fn functions(roles: &[String]) -> String {
    format!(
        "SELECT n.nspname AS schema, p.proname AS name, pg_catalog.oidvectortypes(p.proargtypes) AS arguments, \
         p.proowner::bigint AS owner, p.prosecdef AS definer, p.proleakproof AS leakproof, \
         p.provolatile::text AS volatility, l.lanname AS language, \
         (l.lanpltrusted OR l.lanname = 'sql') AS trusted, \
         p.prorettype IN ('pg_catalog.trigger'::pg_catalog.regtype, 'pg_catalog.event_trigger'::pg_catalog.regtype) \
         AS trigger, \
         EXISTS (SELECT FROM pg_catalog.unnest(p.proconfig) o(line) WHERE o.line LIKE 'search\\_path=%') AS pinned, \
         (SELECT e.extname FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid \
         WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid AND d.deptype = 'e' \
         AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass LIMIT 1) AS extension, \
         (l.lanname NOT IN ('sql', 'c', 'internal') AND p.prosrc ~* {EXECUTES}) AS executes, \
         (t.text ~* {CHANGES} OR EXISTS (SELECT FROM pg_catalog.unnest(p.proconfig) o(line) \
         WHERE pg_catalog.split_part(o.line, '=', 1) LIKE '%.%')) AS changes, \
         COALESCE((SELECT pg_catalog.json_agg(DISTINCT pg_catalog.lower(m.found[1])) \
         FROM pg_catalog.regexp_matches(t.text, {READS}, 'gi') m(found)), '[]'::json) AS settings, \
         COALESCE((SELECT pg_catalog.json_agg(s.oid::bigint) FROM {subjects} \
         WHERE pg_catalog.has_function_privilege(s.oid, p.oid, 'EXECUTE') \
         AND pg_catalog.has_schema_privilege(s.oid, p.pronamespace, 'USAGE')), '[]'::json) AS callers \
         FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
         JOIN pg_catalog.pg_language l ON l.oid = p.prolang, \
         LATERAL (SELECT pg_catalog.left(CASE WHEN l.lanname IN ('c', 'internal') THEN '' \
         ELSE COALESCE(pg_catalog.pg_get_functiondef(p.oid), '') END, {SOURCE_CHARACTERS_MAX}) AS text) t \
         WHERE p.prokind IN ('f', 'p') AND NOT {IS_OWN_SCHEMA} ORDER BY n.nspname, p.proname",
        subjects = subjects(roles)
    )
}

/// Publications of whole schemas came with 15.
fn publications(version: u32) -> String {
    let schemas = if version >= 150_000 {
        "COALESCE((SELECT pg_catalog.json_agg(n.nspname) FROM pg_catalog.pg_publication_namespace m \
         JOIN pg_catalog.pg_namespace n ON n.oid = m.pnnspid WHERE m.pnpubid = p.oid), '[]'::json)"
    } else {
        "'[]'::json"
    };
    format!(
        "SELECT p.pubname AS name, p.puballtables AS all, \
         COALESCE((SELECT pg_catalog.json_agg(r.prrelid::bigint) FROM pg_catalog.pg_publication_rel r \
         WHERE r.prpubid = p.oid), '[]'::json) AS relations, {schemas} AS schemas FROM pg_catalog.pg_publication p"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_query_ends_somewhere_and_names_its_schema() {
        for version in [140_000, 150_000, 160_000, 170_000, 180_000] {
            for section in Section::ALL {
                let sql = query(*section, version, &["app".to_owned()]);
                assert!(sql.ends_with(&format!("LIMIT {}", ROWS_MAX + 1)), "{section:?}");
                let relations = sql.split_whitespace().zip(sql.split_whitespace().skip(1));
                for (word, next) in relations.filter(|(word, _)| matches!(*word, "FROM" | "JOIN")) {
                    let is_good = next.starts_with("pg_catalog.") || next.starts_with('(');
                    assert!(is_good, "{section:?}: {word} {next}");
                }
            }
        }
    }

    #[test]
    fn a_role_with_a_quote_in_its_name_stays_a_text() {
        assert!(query(Section::Schemas, 150_000, &["a'b".to_owned()]).contains("IN ('a''b')"));
    }
}
