//! What is known of relations, by name.
//!
//! Owns: the class of every relation of `pg_catalog` of PostgreSQL 14 to 18 (`tables/relations.txt`) and of
//! `information_schema`. Does not own: which classes a login may read (`policy`).
//!
//! An unqualified name counts as the system's if the system has one: `pg_catalog` comes first in every
//! `search_path` that the guard lets pass.

use std::collections::HashMap;
use std::sync::LazyLock;

macro_rules! relation_classes {
    ($( $(#[$doc:meta])* $variant:ident = $name:literal; )*) => {
        /// What a relation shows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum RelationClass { $( $(#[$doc])* $variant, )* }

        impl RelationClass {
            /// Every class.
            pub const ALL: &'static [RelationClass] = &[ $( RelationClass::$variant, )* ];

            /// The class's name, as the table and `explain` have it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( RelationClass::$variant => $name, )* }
            }
        }
    };
}

relation_classes! {
    /// No system relation.
    User = "user";
    /// Describes the schema.
    Readable = "readable";
    /// `pg_settings`: reading it is harmless, an UPDATE of it is a SET.
    Settings = "settings";
    /// Shows what other sessions do.
    OtherSessions = "other_sessions";
    /// Describes sequences, and shows how far all tenants together have come.
    Sequences = "sequences";
    /// Shows counts or samples over all tenants' rows.
    Statistics = "statistics";
    /// Holds secrets, or data outside of row-level security.
    Secret = "secret";
    /// Named like a system relation (`pg_…`) and not in the table.
    Unknown = "unknown";
}

static TABLE: LazyLock<HashMap<&'static str, RelationClass, foldhash::fast::FixedState>> = LazyLock::new(|| {
    let mut table = HashMap::default();
    let mut class = RelationClass::Unknown;
    for line in include_str!("tables/relations.txt").lines().filter(|line| !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            // A class that nobody knows stays `Unknown`, which is refused; a test sees to it that there is none.
            class =
                RelationClass::ALL.iter().copied().find(|class| class.name() == name).unwrap_or(RelationClass::Unknown);
        } else {
            table.extend(line.split_whitespace().map(|name| (name, class)));
        }
    }
    table
});

/// What is known of the relation `schema.name`.
pub(super) fn class_of(schema: Option<&str>, name: &str) -> RelationClass {
    match schema {
        // Whatever the schema: `search_path` may hold information_schema, too.
        _ if matches!(name, "user_mapping_options" | "_pg_user_mappings") => RelationClass::Secret,
        // The standard's views show what their reader may use, and nothing of the rows.
        Some("information_schema") => RelationClass::Readable,
        // The session's own, which has no system relation.
        Some("pg_temp") => RelationClass::User,
        // Toast tables hold everybody's long values, out of reach of policies.
        Some(schema) if schema.starts_with("pg_") && schema != "pg_catalog" => RelationClass::Secret,
        schema => match TABLE.get(name) {
            Some(&class) => class,
            None if name.starts_with("pg_") || schema == Some("pg_catalog") => RelationClass::Unknown,
            None => RelationClass::User,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_of_the_table_is_known() {
        let unknown: Vec<_> = TABLE.iter().filter(|(_, class)| **class == RelationClass::Unknown).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
        assert!(TABLE.len() >= 144, "{}", TABLE.len());
    }

    #[test]
    fn qualified_or_not_a_system_relation_is_one() {
        for schema in [None, Some("pg_catalog"), Some("public")] {
            assert_eq!(class_of(schema, "pg_stat_activity"), RelationClass::OtherSessions);
            assert_eq!(class_of(schema, "pg_of_tomorrow"), RelationClass::Unknown);
        }
        for schema in [None, Some("information_schema"), Some("public")] {
            assert_eq!(class_of(schema, "user_mapping_options"), RelationClass::Secret);
        }
        assert_eq!(class_of(None, "pg_class"), RelationClass::Readable);
        assert_eq!(class_of(Some("pg_toast"), "pg_toast_16400"), RelationClass::Secret);
        assert_eq!(class_of(Some("information_schema"), "tables"), RelationClass::Readable);
        assert_eq!(class_of(Some("shop"), "orders"), RelationClass::User);
    }
}
