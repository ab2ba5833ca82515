//! The rules of `check`: a stable code for everything that it reports.
//!
//! Owns: codes, names, ordinary severities, what each means and why it matters; `docs/check.md` is compared with this
//! table by a test. Does not own: when a rule is broken (`judge`, `policies`, `schema`, `reach`).

/// How bad a finding is, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Somebody should know.
    Info,
    /// Costs speed, or tells little.
    Low,
    /// Tells about other tenants, or needs one more mistake.
    Medium,
    /// Lets rows through in a case that can happen.
    High,
    /// Isolation does not hold.
    Critical,
}

impl Severity {
    /// All of them, the worst first.
    pub const ALL: [Severity; 5] =
        [Severity::Critical, Severity::High, Severity::Medium, Severity::Low, Severity::Info];

    /// As it is written.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Low => "low",
            Severity::Medium => "medium",
            Severity::High => "high",
            Severity::Critical => "critical",
        }
    }

    /// SARIF's word.
    #[must_use]
    pub const fn level(self) -> &'static str {
        match self {
            Severity::Critical | Severity::High => "error",
            Severity::Medium => "warning",
            Severity::Low | Severity::Info => "note",
        }
    }

    /// SARIF's `security-severity`, which code hosts sort by.
    #[must_use]
    pub const fn score(self) -> &'static str {
        match self {
            Severity::Critical => "9.5",
            Severity::High => "8.0",
            Severity::Medium => "5.5",
            Severity::Low => "3.0",
            Severity::Info => "0.0",
        }
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct RuleRow {
    /// `CK` and three digits, never reused for anything else.
    pub code: &'static str,
    /// The same in words.
    pub name: &'static str,
    /// Its ordinary severity; a finding may be better or worse for a reason in its detail.
    pub severity: Severity,
    /// What is found.
    pub what: &'static str,
    /// Why it matters.
    pub why: &'static str,
}

macro_rules! rules {
    ($( $variant:ident = $code:literal, $name:literal, $severity:ident, $what:literal, $why:literal; )*) => {
        /// A rule.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "the table's rows are the documentation")]
        pub enum Rule { $( $variant, )* }

        impl Rule {
            /// Every rule, in the table's order.
            pub const ALL: &'static [Rule] = &[ $( Rule::$variant, )* ];

            /// This rule's row.
            #[must_use]
            pub const fn row(self) -> RuleRow {
                match self {
                    $( Rule::$variant => RuleRow {
                        code: $code, name: $name, severity: Severity::$severity, what: $what, why: $why,
                    }, )*
                }
            }
        }
    };
}

rules! {
    RoleSuperuser = "CK001", "role-superuser", Critical,
        "The role that tenants' statements run as is a superuser.",
        "Row-level security does not apply to superusers, whatever FORCE says.";
    RoleBypassesRls = "CK002", "role-bypassrls", Critical,
        "The role that tenants' statements run as has BYPASSRLS.",
        "Row-level security does not apply to it.";
    RoleOwnsTable = "CK003", "role-owns-table", High,
        "The role owns a tenant table, or has its owner's privileges.",
        "An owner is outside of row-level security without FORCE, and can turn it off, drop policies and truncate.";
    RoleReaches = "CK004", "role-reaches", Critical,
        "By membership the role can become a superuser, a role with BYPASSRLS, or an owner of tenant tables.",
        "SET ROLE, or a membership it may grant itself, takes it out of row-level security.";
    RolePredefined = "CK005", "role-predefined", High,
        "The role is a member of a predefined role with more than its tenants' rows.",
        "Predefined roles read or write every table, run programs, read files, or see other sessions.";
    RoleAttributes = "CK006", "role-attributes", High,
        "The role has CREATEROLE or REPLICATION.",
        "Up to 15, CREATEROLE may grant nearly any role to itself; REPLICATION streams every tenant's changes.";
    RoleMissing = "CK007", "role-missing", High,
        "The role does not exist in this server.",
        "Nothing can be said of what it may do.";

    RlsMissing = "CK101", "rls-missing", Critical,
        "A table with a tenant column has row-level security turned off.",
        "Every tenant sees every row of it.";
    RlsNotForced = "CK102", "rls-not-forced", Medium,
        "Row-level security is on, but not forced.",
        "It does not apply to the table's owner, nor to anything that runs with the owner's rights: views, SECURITY DEFINER functions, migrations.";
    PolicyMissing = "CK103", "policy-missing", Medium,
        "Row-level security is on, and no permissive policy applies to the role.",
        "Nobody sees a row; sooner or later somebody mends that with USING (true).";
    CheckMissing = "CK104", "with-check-missing", Critical,
        "A policy lets rows be written that need not belong to the tenant.",
        "A tenant can write rows into another tenant's data, or move its own there.";
    TenantNullable = "CK105", "tenant-column-nullable", Medium,
        "The tenant column takes NULL.",
        "Rows without a tenant belong to nobody, or to everybody where a policy treats them as shared.";
    PolicyOpen = "CK106", "policy-does-not-constrain", Critical,
        "A permissive policy does not compare the tenant column with the tenant's setting.",
        "Permissive policies are joined by OR: this one lets other tenants' rows through, whatever the others say.";
    PolicyIdentity = "CK107", "policy-identity-escape", High,
        "A policy lets a role through without a tenant.",
        "Whoever runs as that role, or inside one of its SECURITY DEFINER functions, sees every row as soon as no tenant is set.";
    PolicySwitch = "CK108", "policy-or-bypass", Medium,
        "A policy lets everybody through who sets another setting.",
        "Whoever can set it sees every row; and the OR keeps PostgreSQL from using the tenant index (0.07 ms became 177 ms on a million rows).";
    PolicyShared = "CK109", "policy-shared-rows", Medium,
        "A policy shows rows to every tenant that have no tenant, or a fixed one.",
        "Whatever lands there by mistake is everybody's to read, and where writing is allowed, to change.";
    PolicyUnset = "CK110", "policy-open-when-unset", High,
        "A policy lets every row through when no tenant is set.",
        "A forgotten tenant then shows everything instead of nothing: on direct connections, in migrations, in jobs.";
    PolicyCast = "CK111", "policy-unsafe-cast", Medium,
        "A policy casts the setting without NULLIF.",
        "A custom setting is the empty string for ever after its first use in a session, and ''::uuid is an error: statements fail on reused connections.";
    PolicyImmutable = "CK112", "policy-immutable-function", Critical,
        "A policy calls an IMMUTABLE function.",
        "PostgreSQL computes it once while it plans: a prepared statement on a shared server gave one tenant's rows to the next.";
    FunctionLeakproof = "CK113", "leakproof-function", High,
        "A function outside of pg_catalog is marked LEAKPROOF and the role may call it.",
        "PostgreSQL runs it on rows before policies have filtered them: it can show what it is given.";
    PolicyOtherSetting = "CK114", "policy-other-setting", Critical,
        "A policy compares the tenant column with a setting that the proxy does not set, or with a function that reads none.",
        "The proxy's tenant decides nothing there; whoever can set that setting chooses the tenant.";
    PolicyUnreadable = "CK115", "policy-unreadable", High,
        "A policy's expression could not be read.",
        "Nothing can be said of what it lets through.";

    ChildUncovered = "CK120", "child-without-tenant", High,
        "A table without a tenant column references a tenant table, and row-level security is not on.",
        "Its rows belong to tenants as much as their parents do, and everybody sees them.";
    PartUncovered = "CK121", "part-uncovered", High,
        "A partition or child of a tenant table is not protected itself, and the role may use it directly.",
        "Policies of a parent do not count where a partition or child is named in a statement.";
    IndexMissing = "CK122", "tenant-index-missing", Low,
        "No index of the table begins with the tenant column.",
        "Every statement of every tenant reads all tenants' rows to filter them.";
    UniqueAcross = "CK123", "unique-across-tenants", Medium,
        "A unique key does not hold the tenant column.",
        "Its violation tells one tenant what another one has.";
    ReferenceAcross = "CK124", "reference-across-tenants", Medium,
        "A reference between tenant tables does not hold the tenant column.",
        "Referential checks do not see policies: they tell what exists, and one tenant's DELETE can cascade into another's rows.";
    ForeignTable = "CK125", "foreign-table", High,
        "A foreign table has a tenant column.",
        "Row-level security does not exist for foreign tables.";

    ViewDefiner = "CK201", "view-without-security-invoker", High,
        "A view over tenant tables runs with its owner's rights.",
        "Policies are applied to the view's owner, and not at all where that is a superuser, has BYPASSRLS or owns a table that does not force them.";
    MaterializedView = "CK202", "materialized-view", High,
        "The role may read a materialized view over tenant tables.",
        "It holds rows of every tenant that its last refresh saw; there are no policies on it.";
    DefinerFunction = "CK203", "definer-function", High,
        "The role may call a SECURITY DEFINER function.",
        "It runs with its owner's rights: what it shows or changes is not limited to the caller's tenant.";
    StringExecutor = "CK204", "string-executor", High,
        "The role may call a function that runs strings as SQL.",
        "What it is given runs unseen by the guard: set_config, temporary tables, anything the role may do.";
    UntrustedFunction = "CK205", "untrusted-function", Medium,
        "The role may call a function in an untrusted language.",
        "It can do whatever the server's process can; PostgreSQL's rights do not bind it.";

    ScopeFunction = "CK206", "setting-function", Critical,
        "The role may call a function that changes settings.",
        "SELECT of such a function can set another tenant where the guard reads only the function's name.";

    PrivilegeTruncate = "CK301", "privilege-truncate", High,
        "The role may TRUNCATE a tenant table.",
        "TRUNCATE does not ask policies: it empties every tenant's rows.";
    PrivilegeReferences = "CK302", "privilege-references", Medium,
        "The role may make references to a tenant table.",
        "A reference of one's own asks whether any tenant's row exists.";
    PrivilegeTrigger = "CK303", "privilege-trigger", High,
        "The role may make triggers on a tenant table.",
        "A trigger runs in other tenants' statements, with their rows.";
    PrivilegeMaintain = "CK304", "privilege-maintain", Medium,
        "The role may maintain a tenant table (VACUUM, LOCK, REINDEX …).",
        "LOCK TABLE and CLUSTER stop every tenant.";
    DatabaseTemporary = "CK305", "database-temporary", High,
        "The role may make temporary objects.",
        "On a shared server one tenant's temporary table stands in front of the next one's real table: an INSERT landed in it.";
    DatabaseCreate = "CK306", "database-create", Medium,
        "The role may make schemas in the database.",
        "A schema of one's own holds functions and tables that others' statements may meet.";
    SchemaCreate = "CK307", "schema-create", High,
        "The role may make objects in a schema.",
        "Functions and tables of one's own are found by other tenants' statements, and hide what they do from the guard.";

    SettingScope = "CK401", "setting-scope", Critical,
        "ALTER ROLE or ALTER DATABASE sets a scope or bypass setting.",
        "Every session begins as that tenant, or with everybody's rows, and RESET goes back to it.";
    SettingFights = "CK402", "setting-fights-the-proxy", Medium,
        "ALTER ROLE or ALTER DATABASE changes a setting the proxy relies on.",
        "Names are found elsewhere, transactions begin otherwise, or texts are read otherwise than the guard has read them.";

    VersionBehind = "CK501", "server-behind", Medium,
        "The server's minor release is not the newest known one.",
        "Minor releases mend security holes, also of row-level security.";
    VersionUnsupported = "CK502", "server-unsupported", High,
        "The server's major release is not supported by PostgreSQL any more, or not known.",
        "Holes in it stay.";
    Published = "CK503", "published", Low,
        "A publication holds tenant tables.",
        "Its subscribers get every tenant's rows.";

    Unread = "CK901", "unread", High,
        "A part of the catalogue could not be read.",
        "What was not looked at may be wrong: nothing is passed over.";
    ExceptionExpired = "CK902", "exception-expired", High,
        "A justified exception has expired.",
        "It does not count any more: decide again, or mend.";
    ExceptionUnused = "CK903", "exception-unused", Low,
        "A justified exception fits no finding.",
        "It would hide the next one without anybody having decided it.";

    ProbeForeignRows = "CK911", "probe-foreign-rows", Critical,
        "As one tenant, rows of another were visible.",
        "Isolation does not hold: this was seen, not inferred.";
    ProbeUnscopedRows = "CK912", "probe-unscoped-rows", High,
        "Without a tenant, rows were visible.",
        "A forgotten tenant shows rows instead of an error or nothing.";
    ProbeForeignWrite = "CK913", "probe-foreign-write", Critical,
        "As one tenant, a row of another was not refused by a policy.",
        "A tenant can write into another's data.";
    ProbeFailed = "CK914", "probe-failed", Medium,
        "A probe could not be made.",
        "Nothing is known of how the table behaves.";
}

impl Rule {
    /// A rule by its code or name.
    #[must_use]
    pub fn find(text: &str) -> Option<Rule> {
        Rule::ALL.iter().copied().find(|rule| rule.row().code == text || rule.row().name == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_names_are_unique_and_in_form() {
        let mut seen = std::collections::BTreeSet::new();
        for rule in Rule::ALL {
            let row = rule.row();
            let digits = row.code.strip_prefix("CK").unwrap_or_default();
            assert!(digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit()), "{}", row.code);
            assert!(seen.insert(row.code) && seen.insert(row.name), "{} twice", row.code);
            assert_eq!((Rule::find(row.code), Rule::find(row.name)), (Some(*rule), Some(*rule)));
        }
    }
}
