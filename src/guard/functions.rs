//! What is known of functions, by name.
//!
//! Owns: the class of every function name of `pg_catalog` of PostgreSQL 14 to 18 (`tables/functions.txt`), and of the
//! extensions' functions that run strings. Does not own: which classes a login may call (`policy`).
//!
//! Names decide, not overloads (except where the number of arguments tells two apart): a user's function
//! that bears the name of a refused one is refused with it, whatever its schema.

use std::collections::HashMap;
use std::sync::LazyLock;

macro_rules! function_classes {
    ($( $(#[$doc:meta])* $variant:ident = $name:literal; )*) => {
        /// What a function may do.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum FunctionClass { $( $(#[$doc])* $variant, )* }

        impl FunctionClass {
            /// Every class.
            pub const ALL: &'static [FunctionClass] = &[ $( FunctionClass::$variant, )* ];

            /// The class's name, as the table and `explain` have it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( FunctionClass::$variant => $name, )* }
            }
        }
    };
}

function_classes! {
    /// Of `pg_catalog`, and without effects beyond what its caller may do anyway.
    Plain = "plain";
    /// Not of `pg_catalog`: the schema's owner decides what it does.
    User = "user";
    /// Changes a setting.
    Scope = "scope";
    /// Runs a string as SQL.
    StringExecutor = "string_executor";
    /// Leaves something in the server's session, or reads what others left.
    SessionState = "session_state";
    /// Shows what other sessions do.
    OtherSessions = "other_sessions";
    /// Shows counts over all tenants' rows.
    Statistics = "statistics";
    /// Signals other sessions or the server.
    Signal = "signal";
    /// Reads or writes files of the server.
    Files = "files";
    /// Large objects: no row-level security.
    LargeObject = "large_object";
    /// Replication, WAL, backup.
    Replication = "replication";
    /// Waits.
    Sleep = "sleep";
    /// Sends or measures notifications.
    Notify = "notify";
    /// Sets a sequence, which all tenants share.
    Sequence = "sequence";
    /// Maintenance and repair.
    Administration = "administration";
    /// Not meant to be called by SQL.
    Internal = "internal";
    /// Named like a system function (`pg_…`, `lo_…`) and not in the table.
    Unknown = "unknown";
}

/// How a function is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notation {
    /// `f(x)`.
    Call,
    /// `x.f`, which may also be a column.
    Attribute,
}

static TABLE: LazyLock<HashMap<&'static str, FunctionClass, foldhash::fast::FixedState>> = LazyLock::new(|| {
    let mut table = HashMap::default();
    let mut class = FunctionClass::Unknown;
    for line in include_str!("tables/functions.txt").lines().filter(|line| !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            // A class that nobody knows stays `Unknown`, which is refused; a test sees to it that there is none.
            class =
                FunctionClass::ALL.iter().copied().find(|class| class.name() == name).unwrap_or(FunctionClass::Unknown);
        } else {
            table.extend(line.split_whitespace().map(|name| (name, class)));
        }
    }
    table
});

/// Whether no function of that name can be called as `x.f`, which gives it one argument.
fn is_of_several(name: &str) -> bool {
    let lines = include_str!("tables/several.txt").lines().filter(|line| !line.starts_with('#'));
    lines.flat_map(str::split_whitespace).any(|known| known == name)
}

/// Functions of contributed and other common extensions that run strings, sorted; prefixes come on top.
const EXTENSION_STRING_EXECUTORS: &[&str] = &[
    "connectby",
    "create_immv",
    "cypher",
    "oracle_execute",
    "pg_background_launch",
    "pg_background_launch_v2",
    "run_command_on_all_nodes",
    "run_command_on_colocated_placements",
    "run_command_on_coordinator",
    "run_command_on_placements",
    "run_command_on_shards",
    "run_command_on_workers",
    "xpath_table",
];

/// dblink, tablefunc, pgRouting.
const EXTENSION_STRING_EXECUTOR_PREFIXES: &[&str] = &["_pgr_", "crosstab", "dblink", "pgr_"];

/// pg_variables; connections that a server keeps for all its clients.
const EXTENSION_SESSION_STATE_PREFIXES: &[&str] = &["pgv_", "postgres_fdw_"];

/// Schemas of extensions (pg_cron, orafce, pg_duckdb) that hold nothing else. No `search_path` may name them, or their
/// functions could be called without.
pub(super) fn class_of_extension_schema(schema: &str) -> Option<FunctionClass> {
    match schema {
        "cron" | "dbms_sql" | "duckdb" => Some(FunctionClass::StringExecutor),
        "dbms_pipe" | "dbms_alert" => Some(FunctionClass::Notify),
        "utl_file" => Some(FunctionClass::Files),
        // Everybody else's.
        _ => None,
    }
}

/// What is known of the function `schema.name` called with so many arguments.
pub(super) fn class_of(schema: Option<&str>, name: &str, arguments: u16, notation: Notation) -> FunctionClass {
    let class = match TABLE.get(name) {
        // `ts_rewrite(query, target, substitute)` is plain; `ts_rewrite(query, select)` runs its second argument.
        Some(FunctionClass::Plain) if name == "ts_rewrite" && arguments < 3 => FunctionClass::StringExecutor,
        Some(&class) => class,
        None => outside_the_catalog(schema, name, notation),
    };
    match (notation, class) {
        // A column may be called like anything harmless or uncallable; `t.system` calls nothing.
        (Notation::Attribute, FunctionClass::Plain | FunctionClass::Internal) => FunctionClass::User,
        // (A definition that names a function by itself says nothing of arguments.)
        (Notation::Attribute, FunctionClass::SessionState | FunctionClass::Sequence)
            if arguments == 1 && is_of_several(name) =>
        {
            FunctionClass::User
        }
        (Notation::Attribute | Notation::Call, class) => class,
    }
}

fn outside_the_catalog(schema: Option<&str>, name: &str, notation: Notation) -> FunctionClass {
    let has_prefix = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    let runs_strings =
        has_prefix(EXTENSION_STRING_EXECUTOR_PREFIXES) || EXTENSION_STRING_EXECUTORS.binary_search(&name).is_ok();
    if runs_strings {
        return FunctionClass::StringExecutor;
    }
    // pg_trgm's threshold and isn's mode outlive the transaction: the next tenant had them.
    if matches!(name, "set_limit" | "isn_weak") || has_prefix(EXTENSION_SESSION_STATE_PREFIXES) {
        return FunctionClass::SessionState;
    }
    if let Some(class) = schema.and_then(class_of_extension_schema) {
        return class;
    }
    let is_named_like_system = name.starts_with("pg_") || name.starts_with("lo_");
    let is_system = match schema {
        Some("information_schema") => !name.starts_with("_pg_"),
        Some(schema) => schema == "pg_catalog" || schema.starts_with("pg_"),
        None => false,
    };
    match notation {
        // `(true).pg_stat_statements` calls as well.
        Notation::Attribute if name.starts_with("pg_") => FunctionClass::Unknown,
        Notation::Call if is_system || is_named_like_system => FunctionClass::Unknown,
        Notation::Call | Notation::Attribute => FunctionClass::User,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(name: &str) -> FunctionClass {
        class_of(None, name, 1, Notation::Call)
    }

    #[test]
    fn every_class_of_the_table_is_known_and_every_name_has_one() {
        let unknown: Vec<_> = TABLE.iter().filter(|(_, class)| **class == FunctionClass::Unknown).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
        assert!(TABLE.len() > 2_700, "{}", TABLE.len());
        assert!(EXTENSION_STRING_EXECUTORS.is_sorted());
    }

    #[test]
    fn the_ones_that_matter_have_the_class_they_should() {
        for (name, wanted) in [
            ("count", FunctionClass::Plain),
            ("current_setting", FunctionClass::Plain),
            ("nextval", FunctionClass::Plain),
            ("pg_advisory_xact_lock", FunctionClass::Plain),
            ("pg_is_in_recovery", FunctionClass::Plain),
            ("pg_backend_pid", FunctionClass::Plain),
            ("has_table_privilege", FunctionClass::Plain),
            ("set_config", FunctionClass::Scope),
            ("query_to_xml", FunctionClass::StringExecutor),
            ("ts_stat", FunctionClass::StringExecutor),
            ("dblink_exec", FunctionClass::StringExecutor),
            ("lastval", FunctionClass::SessionState),
            ("pg_advisory_lock", FunctionClass::SessionState),
            ("pg_stat_get_activity", FunctionClass::OtherSessions),
            ("pg_stat_get_live_tuples", FunctionClass::Statistics),
            ("pg_terminate_backend", FunctionClass::Signal),
            ("pg_read_file", FunctionClass::Files),
            ("lo_get", FunctionClass::LargeObject),
            ("pg_logical_emit_message", FunctionClass::Replication),
            ("pg_sleep_for", FunctionClass::Sleep),
            ("pg_notify", FunctionClass::Notify),
            ("setval", FunctionClass::Sequence),
            ("pg_of_tomorrow", FunctionClass::Unknown),
            ("charge_customer", FunctionClass::User),
        ] {
            assert_eq!(class(name), wanted, "{name}");
        }
    }

    #[test]
    fn ts_rewrite_depends_on_its_arguments() {
        assert_eq!(class_of(None, "ts_rewrite", 3, Notation::Call), FunctionClass::Plain);
        assert_eq!(class_of(None, "ts_rewrite", 2, Notation::Call), FunctionClass::StringExecutor);
    }

    #[test]
    fn a_schema_makes_no_refused_name_harmless() {
        assert_eq!(class_of(Some("public"), "set_config", 3, Notation::Call), FunctionClass::Scope);
        assert_eq!(class_of(Some("pg_catalog"), "made_up", 0, Notation::Call), FunctionClass::Unknown);
        assert_eq!(class_of(Some("billing"), "made_up", 0, Notation::Call), FunctionClass::User);
    }
}
