//! What a schema lets through beside policies: keys, references, views, functions, privileges, publications.
//!
//! Owns: those findings. Does not own: row-level security itself (`tables`, `policies`), roles (`reach`).

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{Catalogue, Column, Constraint, Function, Grant, Oid, Relation, quoted};
use super::finding::{Finding, TableName};
use super::rule::{Rule, Severity};
use super::tables::{Subject, TenantTable};

/// What the findings here are made of.
#[derive(Clone, Copy, Debug)]
pub struct Ground<'a> {
    /// The catalogue.
    pub catalogue: &'a Catalogue,
    /// The examined roles.
    pub subjects: &'a [Subject<'a>],
    /// Tables with rows of tenants, by number.
    pub tables: &'a BTreeMap<Oid, TenantTable<'a>>,
    /// Columns of every table.
    pub columns: &'a BTreeMap<Oid, Vec<&'a Column>>,
}

impl Ground<'_> {
    fn column_names(&self, table: Oid, numbers: &[i16]) -> Vec<String> {
        let of_table = self.columns.get(&table).map(Vec::as_slice).unwrap_or_default();
        let name = |number: &i16| {
            of_table.iter().find(|column| column.number == *number).map_or("an expression", |column| &column.name)
        };
        numbers.iter().map(|number| name(number).to_owned()).collect()
    }

    /// Nobody chooses or guesses these values.
    fn are_made(&self, table: Oid, numbers: &[i16]) -> bool {
        let of_table = self.columns.get(&table).map(Vec::as_slice).unwrap_or_default();
        let is_made = |number: &i16| of_table.iter().any(|column| column.number == *number && column.made);
        !numbers.is_empty() && numbers.iter().any(is_made)
    }

    /// Examined roles with a privilege among `grants`.
    fn holders<'g>(&'g self, grants: &'g [Grant], privilege: &'g str) -> impl Iterator<Item = &'g Subject<'g>> {
        self.subjects.iter().filter(move |subject| {
            let is_theirs = |grant: &&Grant| grant.role == subject.role.oid;
            grants.iter().filter(is_theirs).any(|grant| grant.privileges.iter().any(|it| it == privilege))
        })
    }

    /// Whether policies do not hold for what runs with a role's rights.
    fn is_above(&self, owner: Oid, read: &BTreeSet<Oid>) -> bool {
        let is_above = |role: &&super::facts::Role| role.oid == owner && (role.superuser || role.bypassrls);
        let owns = |table: &Oid| {
            self.tables.get(table).is_some_and(|table| table.relation.owner == owner && !table.relation.force)
        };
        self.catalogue.roles.iter().any(|role| is_above(&role)) || read.iter().any(owns)
    }
}

/// Keys, references and indexes of one table.
pub fn keys(ground: &Ground<'_>, table: &TenantTable<'_>, found: &mut Vec<Finding>) {
    let relation = table.relation;
    let Some(tenant) = table.column.filter(|_| table.is_counted) else { return };
    let catalogue = ground.catalogue;
    for key in catalogue.constraints.iter().filter(|key| key.relation == relation.oid) {
        match &*key.kind {
            "f" => reference(ground, table, key, found),
            "p" => unique(ground, relation, tenant, (&key.name, &key.columns, Some("PRIMARY KEY")), found),
            _ => unique(ground, relation, tenant, (&key.name, &key.columns, Some("UNIQUE")), found),
        }
    }
    let indexes = || catalogue.indexes.iter().filter(|index| index.relation == relation.oid);
    for index in indexes().filter(|index| index.unique && !index.of_constraint) {
        unique(ground, relation, tenant, (&index.name, &index.columns, None), found);
    }
    let leads = indexes().any(|index| index.valid && !index.partial && index.columns.first() == Some(&tenant.number));
    if !leads {
        let (name, column) = (relation.sql_name(), quoted(&tenant.name));
        let mend = format!("CREATE INDEX CONCURRENTLY ON {name} ({column});");
        found.push(Finding::of(Rule::IndexMissing, relation.full_name()).mended_by(mend));
    }
}

fn unique(
    ground: &Ground<'_>,
    relation: &Relation,
    tenant: &Column,
    (key, columns, constraint): (&str, &[i16], Option<&str>),
    found: &mut Vec<Finding>,
) {
    if columns.contains(&tenant.number) {
        return;
    }
    let names = ground.column_names(relation.oid, columns);
    let is_made = ground.are_made(relation.oid, columns);
    let detail = match is_made {
        true => format!(
            "{} ({}): its values are made by the server, so that nobody can ask for one.",
            key,
            names.join(", ")
        ),
        false => format!("{} ({})", key, names.join(", ")),
    };
    let listed: Vec<String> = std::iter::once(&tenant.name).chain(&names).map(|name| quoted(name)).collect();
    let table = relation.sql_name();
    let mend = if let Some(kind) = constraint {
        format!("ALTER TABLE {table} DROP CONSTRAINT {}, ADD {kind} ({});", quoted(key), listed.join(", "))
    } else {
        format!(
            "DROP INDEX {}.{}; CREATE UNIQUE INDEX ON {table} ({});",
            quoted(&relation.schema),
            quoted(key),
            listed.join(", ")
        )
    };
    let severity = if is_made { Severity::Info } else { Severity::Medium };
    let object = format!("{}/{key}", relation.full_name());
    found.push(Finding::of(Rule::UniqueAcross, object).at(severity).with_detail(detail).mended_by(mend));
}

/// A reference holds the tenant if both tenant columns are a pair of it.
fn reference(ground: &Ground<'_>, table: &TenantTable<'_>, key: &Constraint, found: &mut Vec<Finding>) {
    let Some(other) = ground.tables.get(&key.references) else { return };
    let (Some(own), Some(theirs)) = (table.number(), other.number()) else { return };
    if key.columns.iter().zip(&key.referenced).any(|pair| pair == (&own, &theirs)) {
        return;
    }
    let does = |action: &str| matches!(action, "c" | "n" | "d");
    let cascades = does(&key.on_delete) || does(&key.on_update);
    let names = ground.column_names(key.relation, &key.columns);
    let target = ground.column_names(key.references, &key.referenced);
    let mut detail =
        format!("({}) references {} ({})", names.join(", "), other.relation.full_name(), target.join(", "));
    if cascades {
        detail.push_str("; what is done there is done to rows of any tenant here");
    }
    let with_tenant = |tenant: Option<&Column>, names: &[String]| {
        let tenant = tenant.map(|column| column.name.clone());
        tenant.iter().chain(names).map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
    };
    let mend = format!(
        "ALTER TABLE {} DROP CONSTRAINT {}, ADD FOREIGN KEY ({}) REFERENCES {} ({}); -- needs a unique key there",
        table.relation.sql_name(),
        quoted(&key.name),
        with_tenant(table.column, &names),
        other.relation.sql_name(),
        with_tenant(other.column, &target),
    );
    let severity = if cascades { Severity::High } else { Severity::Medium };
    let object = format!("{}/{}", table.relation.full_name(), key.name);
    found.push(Finding::of(Rule::ReferenceAcross, object).at(severity).with_detail(detail).mended_by(mend));
}

/// Privileges on one table that policies have no say in.
pub fn privileges(ground: &Ground<'_>, relation: &Relation, found: &mut Vec<Finding>) {
    const RULES: [(&str, Rule); 4] = [
        ("TRUNCATE", Rule::PrivilegeTruncate),
        ("REFERENCES", Rule::PrivilegeReferences),
        ("TRIGGER", Rule::PrivilegeTrigger),
        ("MAINTAIN", Rule::PrivilegeMaintain),
    ];
    for (privilege, rule) in RULES {
        // Owners and superusers have all of them: that is a finding of its own.
        let holders = ground.holders(&relation.grants, privilege);
        let granted = holders.filter(|it| !it.role.superuser && !it.reach.has.contains(&relation.owner));
        for subject in granted {
            let mend = format!("REVOKE {privilege} ON {} FROM {};", relation.sql_name(), quoted(&subject.role.name));
            let detail = format!("{} has {privilege}, itself, by membership or as PUBLIC.", subject.role.name);
            found.push(Finding::of(rule, relation.full_name()).with_detail(detail).mended_by(mend));
        }
    }
}

/// Tenant tables that examined roles own.
pub fn ownership(ground: &Ground<'_>, found: &mut Vec<Finding>) {
    const NAMED_MAX: usize = 5;
    for subject in ground.subjects.iter().filter(|subject| !subject.role.superuser) {
        let owned: Vec<&Relation> = ground
            .tables
            .values()
            .map(|table| table.relation)
            .filter(|relation| subject.reach.has.contains(&relation.owner))
            .collect();
        if owned.is_empty() {
            continue;
        }
        let names: Vec<String> = owned.iter().take(NAMED_MAX).map(|relation| relation.full_name()).collect();
        let more = if owned.len() > NAMED_MAX { ", …" } else { "" };
        let message = format!("{} has the owner's rights over {} tenant tables", subject.role.name, owned.len());
        let alter = |relation: &&Relation| format!("ALTER TABLE {} OWNER TO <another role>;", relation.sql_name());
        let mend = owned.iter().map(alter).collect::<Vec<_>>().join("\n");
        let finding = Finding::of(Rule::RoleOwnsTable, format!("role {}", subject.role.name)).saying(message);
        found.push(finding.with_detail(format!("{}{more}", names.join(", "))).mended_by(mend));
    }
}

/// Views, materialized views and foreign tables.
pub fn views(ground: &Ground<'_>, found: &mut Vec<Finding>) {
    let catalogue = ground.catalogue;
    for relation in &catalogue.relations {
        let readers: Vec<&Subject<'_>> = ["SELECT", "INSERT", "UPDATE", "DELETE"]
            .iter()
            .flat_map(|privilege| ground.holders(&relation.grants, privilege))
            .collect();
        let Some(reader) = readers.first() else { continue };
        let name = relation.sql_name();
        let revoke = format!("REVOKE ALL ON {name} FROM {};", quoted(&reader.role.name));
        match &*relation.kind {
            "f" if foreign_column(ground, relation).is_some() => {
                found.push(Finding::of(Rule::ForeignTable, relation.full_name()).mended_by(revoke));
            }
            "v" | "m" => {
                let read = catalogue.read_by(relation.oid);
                let tenants: BTreeSet<Oid> = read.into_iter().filter(|oid| ground.tables.contains_key(oid)).collect();
                if tenants.is_empty() || (relation.kind == "v" && relation.invoker) {
                    continue;
                }
                found.push(view(ground, relation, &tenants, revoke));
            }
            _ => {}
        }
    }
}

fn foreign_column<'a>(ground: &Ground<'a>, relation: &Relation) -> Option<&'a Column> {
    let names: BTreeSet<&str> =
        ground.tables.values().filter_map(|table| table.column.map(|column| &*column.name)).collect();
    let names_tenant = |column: &&&Column| names.contains(&*column.name);
    ground.columns.get(&relation.oid)?.iter().find(names_tenant).copied()
}

fn view(ground: &Ground<'_>, relation: &Relation, tenants: &BTreeSet<Oid>, revoke: String) -> Finding {
    let names: Vec<String> =
        tenants.iter().filter_map(|oid| ground.tables.get(oid)).map(|table| table.relation.full_name()).collect();
    let reads = format!("It reads {}.", names.join(", "));
    if relation.kind == "m" {
        return Finding::of(Rule::MaterializedView, relation.full_name()).with_detail(reads).mended_by(revoke);
    }
    let owner = ground.catalogue.role_name(relation.owner);
    let (severity, detail) = if ground.is_above(relation.owner, tenants) {
        (Severity::Critical, format!("{reads} Policies do not hold for its owner, {owner}."))
    } else {
        (Severity::Medium, format!("{reads} Policies are applied to its owner, {owner}."))
    };
    let mend = match ground.catalogue.server.major() {
        ..15 => revoke,
        _ => format!("ALTER VIEW {} SET (security_invoker = true);", relation.sql_name()),
    };
    Finding::of(Rule::ViewDefiner, relation.full_name()).at(severity).with_detail(detail).mended_by(mend)
}

/// Functions of extensions that run strings as SQL, by the beginnings of their names.
const EXECUTORS: [(&str, &[&str]); 4] = [
    ("dblink", &["dblink"]),
    ("tablefunc", &["crosstab", "connectby"]),
    ("xml2", &["xpath_table"]),
    ("pg_cron", &["schedule"]),
];

/// Schema of the seal's own functions, which run with their owner's rights by design.
const SEAL_SCHEMA: &str = "tenantgate";

/// Functions that examined roles may call; gives those that run strings or have others' rights.
pub fn functions(ground: &Ground<'_>, found: &mut Vec<Finding>) -> BTreeSet<TableName> {
    let mut executors = BTreeSet::new();
    for function in ground.catalogue.functions.iter().filter(|function| !function.callers.is_empty()) {
        let before = found.len();
        if function.schema != SEAL_SCHEMA {
            definer(ground, function, found);
        }
        executor(function, found);
        if function.schema != SEAL_SCHEMA {
            changer(function, found);
        }
        if found.len() > before && !function.trigger {
            executors.insert((function.schema.clone(), function.name.clone()));
        }
        let is_own = function.extension.is_none();
        if function.leakproof {
            let mend = format!("ALTER FUNCTION {} NOT LEAKPROOF;", function.sql_name());
            found.push(Finding::of(Rule::FunctionLeakproof, function.full_name()).mended_by(mend));
        }
        if !function.trusted && is_own {
            let detail = format!("Its language is {}.", function.language);
            let finding = Finding::of(Rule::UntrustedFunction, function.full_name()).with_detail(detail);
            found.push(finding.mended_by(revoked(function)));
        }
    }
    executors
}

fn revoked(function: &Function) -> String {
    format!("REVOKE EXECUTE ON FUNCTION {} FROM PUBLIC; -- and from the role", function.sql_name())
}

fn definer(ground: &Ground<'_>, function: &Function, found: &mut Vec<Finding>) {
    if !function.definer {
        return;
    }
    let owner = ground.catalogue.role_name(function.owner);
    let all: BTreeSet<Oid> = ground.tables.keys().copied().collect();
    let severity = if ground.is_above(function.owner, &all) { Severity::High } else { Severity::Medium };
    let path =
        if function.pinned { "" } else { " It has no search_path of its own: its caller's decides what names mean." };
    let detail = format!("Its owner is {owner}.{path}");
    let mend = format!("ALTER FUNCTION {} SECURITY INVOKER; -- or: {}", function.sql_name(), revoked(function));
    let (severity, detail) = match function.trigger {
        // Nobody calls it; what it does in statements is its author's intent.
        true => (Severity::Low, format!("It runs in triggers. {detail}")),
        false => (severity, detail),
    };
    let finding = Finding::of(Rule::DefinerFunction, function.full_name()).at(severity);
    found.push(finding.with_detail(detail).mended_by(mend));
}

fn executor(function: &Function, found: &mut Vec<Finding>) {
    let is_listed = EXECUTORS.iter().any(|(extension, names)| {
        function.extension.as_deref() == Some(extension) && names.iter().any(|name| function.name.starts_with(name))
    });
    if !is_listed && !function.executes {
        return;
    }
    let finding = Finding::of(Rule::StringExecutor, function.full_name()).mended_by(revoked(function));
    found.push(match (&function.extension, function.trigger) {
        (Some(extension), _) => finding
            .at(if is_listed { Severity::High } else { Severity::Medium })
            .with_detail(format!("It belongs to the extension {extension}.")),
        (None, true) => finding.at(Severity::Medium).with_detail(format!(
            "Its {} text has EXECUTE; it runs in triggers, on what statements write.",
            function.language
        )),
        (None, false) => finding.with_detail(format!("Its {} text has EXECUTE.", function.language)),
    });
}

/// Whoever wrote `set_tenant()` for the application wrote it for tenants, too.
fn changer(function: &Function, found: &mut Vec<Finding>) {
    if !function.changes {
        return;
    }
    let finding = Finding::of(Rule::ScopeFunction, function.full_name()).mended_by(revoked(function));
    let detail = "Its text calls set_config, has SET or RESET, or hands strings to functions that run them.";
    found.push(match (&function.extension, function.trigger) {
        (Some(extension), _) => {
            finding.at(Severity::Medium).with_detail(format!("It belongs to the extension {extension}. {detail}"))
        }
        (None, true) => finding.at(Severity::Medium).with_detail(format!("It runs in triggers. {detail}")),
        (None, false) => finding.with_detail(detail),
    });
}

/// TEMPORARY and CREATE.
pub fn creation(ground: &Ground<'_>, found: &mut Vec<Finding>) {
    let server = &ground.catalogue.server;
    let database = quoted(&server.database);
    for (privilege, rule) in [("TEMPORARY", Rule::DatabaseTemporary), ("CREATE", Rule::DatabaseCreate)] {
        for subject in ground.holders(&server.grants, privilege).filter(|subject| !subject.role.superuser) {
            let role = quoted(&subject.role.name);
            let mend = format!("REVOKE {privilege} ON DATABASE {database} FROM PUBLIC, {role};");
            let object = format!("database {}", server.database);
            found.push(
                Finding::of(rule, object)
                    .with_detail(format!("{} has {privilege}.", subject.role.name))
                    .mended_by(mend),
            );
        }
    }
    for schema in &ground.catalogue.schemas {
        for subject in ground.holders(&schema.grants, "CREATE").filter(|subject| !subject.role.superuser) {
            let mend = format!(
                "REVOKE CREATE ON SCHEMA {} FROM PUBLIC, {};",
                quoted(&schema.name),
                quoted(&subject.role.name)
            );
            let object = format!("schema {}", schema.name);
            let detail = format!("{} has CREATE.", subject.role.name);
            found.push(Finding::of(Rule::SchemaCreate, object).with_detail(detail).mended_by(mend));
        }
    }
}

/// Publications of tenant tables.
pub fn publications(ground: &Ground<'_>, found: &mut Vec<Finding>) {
    for publication in &ground.catalogue.publications {
        let is_published = |table: &&TenantTable<'_>| {
            publication.all
                || publication.relations.contains(&table.relation.oid)
                || publication.schemas.contains(&table.relation.schema)
        };
        let count = ground.tables.values().filter(is_published).count();
        if count > 0 {
            let all = if publication.all { " (FOR ALL TABLES)" } else { "" };
            let mend = format!("DROP PUBLICATION {}; -- or leave tenant tables out of it", quoted(&publication.name));
            let finding = Finding::of(Rule::Published, format!("publication {}", publication.name));
            found.push(finding.with_detail(format!("It holds {count} tenant tables{all}.")).mended_by(mend));
        }
    }
}

/// Settings of roles and databases that the proxy relies on.
const RELIED_ON: [(&str, Severity, &str); 11] = [
    ("row_security", Severity::High, "with off, statements that policies would filter fail"),
    ("role", Severity::High, "sessions run as another role than the proxy knows"),
    ("session_authorization", Severity::High, "sessions run as another role than the proxy knows"),
    ("session_replication_role", Severity::High, "triggers and references are not checked"),
    ("standard_conforming_strings", Severity::High, "texts are read otherwise than the guard has read them"),
    ("backslash_quote", Severity::High, "texts are read otherwise than the guard has read them"),
    ("client_encoding", Severity::Medium, "texts are read otherwise than the guard has read them"),
    ("default_transaction_isolation", Severity::Medium, "a snapshot is taken where the proxy sets the tenant"),
    ("default_transaction_deferrable", Severity::Medium, "transactions may wait where the proxy sets the tenant"),
    ("default_transaction_read_only", Severity::Medium, "clients meet read-only transactions they did not ask for"),
    ("search_path", Severity::Low, "names are found elsewhere than in other sessions"),
];

/// `ALTER ROLE … SET` and `ALTER DATABASE … SET`.
pub fn settings(ground: &Ground<'_>, own: &BTreeSet<String>, found: &mut Vec<Finding>) {
    let catalogue = ground.catalogue;
    for setting in &catalogue.settings {
        let is_theirs = ground.subjects.iter().any(|subject| subject.role.oid == setting.role);
        if setting.role != 0 && !is_theirs {
            continue;
        }
        let database = quoted(&catalogue.server.database);
        let role = quoted(&catalogue.role_name(setting.role));
        let (object, alter) = match (setting.role, setting.database) {
            (0, 0) => ("every role".to_owned(), "ALTER ROLE ALL".to_owned()),
            (0, _) => (format!("database {}", catalogue.server.database), format!("ALTER DATABASE {database}")),
            (_, 0) => (format!("role {}", catalogue.role_name(setting.role)), format!("ALTER ROLE {role}")),
            (..) => (
                format!("role {}", catalogue.role_name(setting.role)),
                format!("ALTER ROLE {role} IN DATABASE {database}"),
            ),
        };
        let mend = format!("{alter} RESET {};", setting.name);
        let is_path_of_danger = setting.name == "search_path" && setting.value.contains("pg_temp");
        if own.contains(&setting.name) {
            let detail = format!("{} is set.", setting.name);
            found.push(Finding::of(Rule::SettingScope, object).with_detail(detail).mended_by(mend));
        } else if let Some((_, severity, does)) = RELIED_ON.iter().find(|(name, ..)| *name == setting.name) {
            let severity = if is_path_of_danger { Severity::High } else { *severity };
            let detail = format!("{} = {}: {does}.", setting.name, setting.value);
            let finding = Finding::of(Rule::SettingFights, object).at(severity);
            found.push(finding.with_detail(detail).mended_by(mend));
        }
    }
}
