//! What data definition names and demands: tables, ownership, row-level security, definer's rights.
//!
//! Owns: which tables a definition touches (for the ledger and the policy), what of it only a bypass login may
//! do, and what PostgreSQL runs only outside a transaction block. Does not own: whether a class is allowed at all.

use super::facts::{Access, DemandKind, StatementClass};
use super::nodes;
use super::parser::{Kind, tree};
use super::settings;
use super::walk::{self, Walk};

/// Notes the tables, expressions and demands of a statement of data definition or maintenance.
///
/// A kind that is put into one of these classes and not into one of the lists below is refused.
pub(super) fn note(kind: &Kind, walk: &mut Walk<'_>) {
    use StatementClass as Class;
    match nodes::class_of(kind) {
        Class::Definition | Class::CreateTableAs | Class::Policies | Class::Privileges => {
            let is_known =
                tables(kind, walk) || rules(kind, walk) || programs(kind, walk) || types(kind, walk) || is_plain(kind);
            if !is_known {
                walk.strange(kind);
            }
        }
        Class::Maintenance | Class::Refresh | Class::Checkpoint | Class::Truncate | Class::Lock => {
            if !maintenance(kind, walk) {
                walk.strange(kind);
            }
        }
        // No expression is in them.
        Class::Roles => {}
        // Refused to everybody.
        Class::Administration | Class::NotAStatement => {}
        // No kind is: `statement` makes them of a definition, which is noted above.
        Class::CreateTemporary | Class::DropTemporary => {}
        // `statement` reads them.
        Class::Select | Class::Insert | Class::Update | Class::Delete | Class::Merge => {}
        Class::CopyIn | Class::CopyOut | Class::CopyServer | Class::DeclareCursor | Class::Fetch => {}
        Class::CloseCursor | Class::Transaction | Class::TwoPhase | Class::SetConstraints | Class::Setting => {}
        Class::Claim | Class::Show => {}
        Class::Discard | Class::Deallocate | Class::Listen | Class::Unlisten | Class::Notify => {}
        Class::AdvisoryUnlockAll | Class::Prepare | Class::Execute | Class::Explain => {}
        Class::Call | Class::Do | Class::Load => {}
    }
}

/// Whether PostgreSQL runs the statement only outside a transaction block. What else cannot run in one, PostgreSQL
/// itself refuses there.
pub(super) fn runs_outside_blocks(kind: &Kind) -> bool {
    if let Kind::VacuumStmt(vacuum) = kind {
        vacuum.is_vacuumcmd
    } else if let Kind::IndexStmt(index) = kind {
        index.concurrent
    } else if let Kind::DropStmt(drop) = kind {
        drop.concurrent
    } else if let Kind::ReindexStmt(reindex) = kind {
        let is_concurrent = reindex.params.iter().any(|option| is_on(option, "concurrently"));
        is_concurrent || reindex.relation.is_none()
    } else {
        false
    }
}

/// Tables, indexes, views and what becomes of them.
fn tables(kind: &Kind, walk: &mut Walk<'_>) -> bool {
    if let Kind::AlterTableStmt(alter) = kind {
        alter_table(alter, walk);
    } else if let Kind::CreateStmt(create) = kind {
        create_table(create, walk);
    } else if let Kind::CreateForeignTableStmt(foreign) = kind {
        create_foreign_table(foreign, walk);
    } else if let Kind::CreateTableAsStmt(create) = kind {
        walk.maybe(&create.query);
        if let Some(into) = &create.into {
            walk.elements(&into.options);
        }
    } else if let Kind::ViewStmt(view) = kind {
        create_view(view, walk);
    } else if let Kind::IndexStmt(index) = kind {
        walk.index(index);
    } else if let Kind::CreateStatsStmt(statistics) = kind {
        walk.elements(&statistics.exprs);
        targets(&statistics.relations, walk);
    } else if let Kind::DropStmt(drop) = kind {
        drop_objects(drop, walk);
    } else if let Kind::RenameStmt(rename) = kind {
        walk.target(rename.relation.as_ref());
        if matches!(rename.rename_type(), tree::ObjectType::ObjectPolicy | tree::ObjectType::ObjectRole) {
            walk.demand(DemandKind::NeedsBypass, "RENAME of a policy or role", -1);
        }
    } else if let Kind::AlterObjectSchemaStmt(alter) = kind {
        walk.target(alter.relation.as_ref());
    } else if let Kind::CreateSeqStmt(sequence) = kind {
        walk.elements(&sequence.options);
    } else if let Kind::AlterSeqStmt(sequence) = kind {
        walk.target(sequence.sequence.as_ref());
        walk.elements(&sequence.options);
    } else if let Kind::CreateSchemaStmt(schema) = kind {
        create_schema(schema, walk);
    } else {
        return false;
    }
    true
}

/// Triggers, rules, policies, privileges.
fn rules(kind: &Kind, walk: &mut Walk<'_>) -> bool {
    if let Kind::CreateTrigStmt(trigger) = kind {
        walk.trigger(trigger);
    } else if let Kind::RuleStmt(rule) = kind {
        // What its actions read is read with its owner's rights.
        walk.demand(DemandKind::NeedsBypass, "CREATE RULE", -1);
        walk.target(rule.relation.as_ref());
        walk.maybe(&rule.where_clause);
        walk.elements(&rule.actions);
    } else if let Kind::CreatePolicyStmt(policy) = kind {
        walk.target(policy.table.as_ref());
        walk.maybe(&policy.qual);
        walk.maybe(&policy.with_check);
    } else if let Kind::AlterPolicyStmt(policy) = kind {
        walk.target(policy.table.as_ref());
        walk.maybe(&policy.qual);
        walk.maybe(&policy.with_check);
    } else if let Kind::GrantStmt(grant) = kind {
        targets(&grant.objects, walk);
    } else {
        return false;
    }
    true
}

/// Functions, and what calls them under another name.
fn programs(kind: &Kind, walk: &mut Walk<'_>) -> bool {
    if let Kind::CreateFunctionStmt(function) = kind {
        create_function(function, walk);
    } else if let Kind::AlterFunctionStmt(function) = kind {
        function_options(&function.actions, walk);
    } else if let Kind::DefineStmt(define) = kind {
        define_object(define, walk);
    } else if let Kind::CreateCastStmt(cast) = kind {
        bound_functions([cast.func.as_ref()], "CREATE CAST", walk);
    } else if let Kind::CreateTransformStmt(transform) = kind {
        bound_functions([transform.fromsql.as_ref(), transform.tosql.as_ref()], "CREATE TRANSFORM", walk);
    } else if let Kind::CreateOpClassStmt(class) = kind {
        bound_functions(class.items.iter().map(operator_class_item), "CREATE OPERATOR CLASS", walk);
    } else if let Kind::AlterOpFamilyStmt(family) = kind {
        bound_functions(family.items.iter().map(operator_class_item), "ALTER OPERATOR FAMILY", walk);
    } else if let Kind::CreateConversionStmt(conversion) = kind {
        walk.demand(DemandKind::NeedsBypass, "CREATE CONVERSION", -1);
        walk.named_function(&conversion.func_name);
    } else if let Kind::CreateAmStmt(method) = kind {
        walk.demand(DemandKind::NeedsBypass, "CREATE ACCESS METHOD", -1);
        walk.named_function(&method.handler_name);
    } else if let Kind::AlterOperatorStmt(operator) = kind {
        walk.demand(DemandKind::NeedsBypass, "ALTER OPERATOR", -1);
        named_options(&operator.options, walk);
    } else if let Kind::AlterTypeStmt(alter) = kind {
        walk.demand(DemandKind::NeedsBypass, "ALTER TYPE SET", -1);
        named_options(&alter.options, walk);
    } else {
        return false;
    }
    true
}

/// Types and domains.
fn types(kind: &Kind, walk: &mut Walk<'_>) -> bool {
    if let Kind::CreateDomainStmt(domain) = kind {
        walk.type_maybe(&domain.type_name);
        walk.elements(&domain.constraints);
        if let Some(collate) = &domain.coll_clause {
            walk.collate(collate);
        }
    } else if let Kind::AlterDomainStmt(domain) = kind {
        walk.element_maybe(&domain.def);
    } else if let Kind::CompositeTypeStmt(composite) = kind {
        walk.elements(&composite.coldeflist);
    } else if let Kind::CreateRangeStmt(range) = kind {
        if range.params.iter().any(|option| is_named(option, "canonical") || is_named(option, "subtype_diff")) {
            walk.demand(DemandKind::NeedsBypass, "CREATE TYPE AS RANGE with functions", -1);
        }
        named_options(&range.params, walk);
    } else {
        return false;
    }
    true
}

/// Names and constants only.
const fn is_plain(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::AlterCollationStmt(_)
            | Kind::CreateOpFamilyStmt(_)
            | Kind::CommentStmt(_)
            | Kind::AlterStatsStmt(_)
            | Kind::AlterObjectDependsStmt(_)
            | Kind::CreateEnumStmt(_)
            | Kind::AlterEnumStmt(_)
            | Kind::AlterTsdictionaryStmt(_)
            | Kind::AlterTsconfigurationStmt(_)
            | Kind::AlterTableMoveAllStmt(_)
            | Kind::AlterDefaultPrivilegesStmt(_)
            | Kind::AlterOwnerStmt(_)
            | Kind::SecLabelStmt(_)
    )
}

fn maintenance(kind: &Kind, walk: &mut Walk<'_>) -> bool {
    if let Kind::TruncateStmt(truncate) = kind {
        targets(&truncate.relations, walk);
    } else if let Kind::LockStmt(lock) = kind {
        targets(&lock.relations, walk);
    } else if let Kind::VacuumStmt(vacuum) = kind {
        for relation in &vacuum.rels {
            if let Some(Kind::VacuumRelation(relation)) = &relation.node {
                walk.target(relation.relation.as_ref());
            }
        }
    } else if let Kind::ReindexStmt(reindex) = kind {
        walk.target(reindex.relation.as_ref());
    } else if let Kind::ClusterStmt(cluster) = kind {
        walk.target(cluster.relation.as_ref());
    } else if let Kind::RefreshMatViewStmt(refresh) = kind {
        walk.target(refresh.relation.as_ref());
    } else {
        return matches!(kind, Kind::CheckPointStmt(_));
    }
    true
}

fn targets(nodes: &[tree::Node], walk: &mut Walk<'_>) {
    for node in nodes {
        if let Some(Kind::RangeVar(relation)) = &node.node {
            walk.target(Some(relation));
        }
    }
}

/// What is read through a parent is read under the parent's policies, and what is read of a part directly under its
/// own: whoever joins tables or parts them changes who sees their rows.
fn create_table(create: &tree::CreateStmt, walk: &mut Walk<'_>) {
    walk.table(create);
    if create.partbound.is_some() {
        walk.demand(DemandKind::Partition, "PARTITION OF", -1);
    } else if !create.inh_relations.is_empty() {
        walk.demand(DemandKind::NeedsBypass, "INHERITS", -1);
    }
}

/// No policy binds what is behind it.
fn create_foreign_table(foreign: &tree::CreateForeignTableStmt, walk: &mut Walk<'_>) {
    let tree::CreateForeignTableStmt { base_stmt, servername: _, options } = foreign;
    walk.demand(DemandKind::NeedsBypass, "CREATE FOREIGN TABLE", -1);
    walk.elements(options);
    if let Some(table) = base_stmt {
        walk.table(table);
        walk.target(table.relation.as_ref());
    }
}

/// A view reads tables with its owner's rights, whom their policies may not bind, unless it is told not to.
///
/// A temporary one may: it belongs to the role that its session acts as anyway, no other session can name it, and it is
/// gone before the server is anybody else's. So whoever reads it reads what its query would have read.
fn create_view(view: &tree::ViewStmt, walk: &mut Walk<'_>) {
    let tree::ViewStmt { view, aliases: _, query, replace: _, options, with_check_option: _ } = view;
    let before = walk.relations_count();
    walk.maybe(query);
    walk.elements(options);
    let is_invokers = options.iter().any(|option| is_surely_on(option, "security_invoker"));
    let is_temporary = view.as_ref().is_some_and(walk::is_made_temporary);
    if walk.relations_count() > before && !is_invokers && !is_temporary {
        walk.demand(DemandKind::OwnersView, "A view of tables without security_invoker", -1);
    }
}

fn alter_table(alter: &tree::AlterTableStmt, walk: &mut Walk<'_>) {
    walk.target(alter.relation.as_ref());
    for command in &alter.cmds {
        let Some(Kind::AlterTableCmd(command)) = &command.node else {
            walk.demand(DemandKind::StrangeNode, "ALTER TABLE of something else than commands", -1);
            continue;
        };
        let tree::AlterTableCmd {
            subtype: _,
            name: _,
            num: _,
            newowner: _,
            def,
            behavior: _,
            missing_ok: _,
            recurse: _,
        } = &**command;
        walk.element_maybe(def);
        match step_of(command) {
            Step::Plain => {}
            Step::NeedsBypass(what) => walk.demand(DemandKind::NeedsBypass, what, -1),
            Step::Strange => walk.demand(DemandKind::StrangeNode, "an ALTER TABLE that no text says", -1),
        }
    }
}

/// What one step of an ALTER TABLE is.
enum Step {
    /// Leaves who may see what as it is.
    Plain,
    NeedsBypass(&'static str),
    /// Only PostgreSQL makes it, after parsing.
    Strange,
}

fn step_of(command: &tree::AlterTableCmd) -> Step {
    use tree::AlterTableType as Type;
    match command.subtype() {
        Type::AtChangeOwner => Step::NeedsBypass("OWNER TO"),
        Type::AtEnableRowSecurity | Type::AtDisableRowSecurity => Step::NeedsBypass("ROW LEVEL SECURITY"),
        Type::AtForceRowSecurity | Type::AtNoForceRowSecurity => Step::NeedsBypass("ROW LEVEL SECURITY"),
        Type::AtAddInherit | Type::AtDropInherit => Step::NeedsBypass("INHERIT"),
        Type::AtAttachPartition => Step::NeedsBypass("ATTACH PARTITION"),
        Type::AtDetachPartition | Type::AtDetachPartitionFinalize => Step::NeedsBypass("DETACH PARTITION"),
        // A trigger may be what puts the tenant into a row.
        Type::AtEnableTrig | Type::AtEnableAlwaysTrig | Type::AtEnableReplicaTrig | Type::AtDisableTrig => {
            Step::NeedsBypass("TRIGGER")
        }
        Type::AtEnableTrigAll | Type::AtDisableTrigAll | Type::AtEnableTrigUser | Type::AtDisableTrigUser => {
            Step::NeedsBypass("TRIGGER")
        }
        Type::AtEnableRule | Type::AtEnableAlwaysRule | Type::AtEnableReplicaRule | Type::AtDisableRule => {
            Step::NeedsBypass("RULE")
        }
        Type::AtSetRelOptions | Type::AtResetRelOptions if names_security(command) => {
            Step::NeedsBypass("An option of a view's security")
        }
        // Which table of the other server it is, say.
        Type::AtGenericOptions | Type::AtAlterColumnGenericOptions => Step::NeedsBypass("OPTIONS of a foreign table"),
        Type::AtAddColumn | Type::AtColumnDefault | Type::AtDropNotNull | Type::AtSetNotNull => Step::Plain,
        Type::AtSetExpression | Type::AtDropExpression | Type::AtSetStatistics | Type::AtSetOptions => Step::Plain,
        Type::AtResetOptions | Type::AtSetStorage | Type::AtSetCompression | Type::AtDropColumn => Step::Plain,
        Type::AtAddIndex | Type::AtAddConstraint | Type::AtAlterConstraint | Type::AtValidateConstraint => Step::Plain,
        Type::AtAddIndexConstraint | Type::AtDropConstraint | Type::AtAlterColumnType => Step::Plain,
        Type::AtClusterOn | Type::AtDropCluster | Type::AtSetLogged | Type::AtSetUnLogged => Step::Plain,
        Type::AtDropOids | Type::AtSetAccessMethod | Type::AtSetTableSpace => Step::Plain,
        Type::AtSetRelOptions | Type::AtResetRelOptions | Type::AtAddOf | Type::AtDropOf => Step::Plain,
        Type::AtReplicaIdentity | Type::AtAddIdentity | Type::AtSetIdentity | Type::AtDropIdentity => Step::Plain,
        Type::AtAddColumnToView | Type::AtCookedColumnDefault | Type::AtReAddIndex => Step::Strange,
        Type::AtReAddConstraint | Type::AtReAddDomainConstraint | Type::AtReAddComment => Step::Strange,
        Type::AtReplaceRelOptions | Type::AtReAddStatistics | Type::Undefined => Step::Strange,
    }
}

fn names_security(command: &tree::AlterTableCmd) -> bool {
    let Some(Kind::List(options)) = command.def.as_ref().and_then(|def| def.node.as_ref()) else { return true };
    options.items.iter().any(|option| match &option.node {
        Some(Kind::DefElem(option)) => option.defname.starts_with("security_"),
        Some(_) | None => true,
    })
}

fn drop_objects(drop: &tree::DropStmt, walk: &mut Walk<'_>) {
    use tree::ObjectType as Type;
    let is_policy = drop.remove_type() == Type::ObjectPolicy;
    // Like its being disabled.
    for (kind, what) in
        [(Type::ObjectPolicy, "DROP POLICY"), (Type::ObjectTrigger, "DROP TRIGGER"), (Type::ObjectRule, "DROP RULE")]
    {
        if drop.remove_type() == kind {
            walk.demand(DemandKind::NeedsBypass, what, -1);
        }
    }
    let is_relation = matches!(
        drop.remove_type(),
        Type::ObjectTable
            | Type::ObjectIndex
            | Type::ObjectView
            | Type::ObjectMatview
            | Type::ObjectSequence
            | Type::ObjectForeignTable
            | Type::ObjectTrigger
            | Type::ObjectRule
    );
    for object in drop.objects.iter().filter(|_| is_relation || is_policy) {
        let Some(Kind::List(names)) = &object.node else { continue };
        let mut names = walk::name_parts(&names.items);
        if matches!(drop.remove_type(), Type::ObjectPolicy | Type::ObjectTrigger | Type::ObjectRule) {
            // The last is the policy's, trigger's or rule's own.
            names.pop();
        }
        let (schema, name) = match names.as_slice() {
            [.., schema, name] => (*schema, *name),
            [name] => ("", *name),
            [] => continue,
        };
        let relation =
            tree::RangeVar { schemaname: schema.into(), relname: name.into(), location: -1, ..Default::default() };
        walk.relation(&relation, Access::Write);
    }
}

/// Whether all that a DROP drops are relations of the session's own temporary schema, by their names.
pub(super) fn drops_temporary(drop: &tree::DropStmt) -> bool {
    use tree::ObjectType as Type;
    let is_relation =
        matches!(drop.remove_type(), Type::ObjectTable | Type::ObjectIndex | Type::ObjectView | Type::ObjectSequence);
    let is_temporary = |object: &tree::Node| match &object.node {
        Some(Kind::List(names)) => matches!(walk::name_parts(&names.items).as_slice(), ["pg_temp", _]),
        Some(_) | None => false,
    };
    let is_restricted = drop.behavior() != tree::DropBehavior::DropCascade;
    is_relation && is_restricted && !drop.objects.is_empty() && drop.objects.iter().all(is_temporary)
}

fn create_schema(schema: &tree::CreateSchemaStmt, walk: &mut Walk<'_>) {
    if schema.authrole.is_some() {
        walk.demand(DemandKind::NeedsBypass, "AUTHORIZATION", -1);
    }
    for element in schema.schema_elts.iter().filter_map(|element| element.node.as_ref()) {
        note(element, walk);
        walk.target(created(element));
        if nodes::class_of(element) != StatementClass::Definition {
            walk.demand(DemandKind::NeedsBypass, nodes::name_of(element), -1);
        }
    }
}

/// The relation that an element of a CREATE SCHEMA makes.
fn created(element: &Kind) -> Option<&tree::RangeVar> {
    if let Kind::CreateStmt(create) = element {
        create.relation.as_ref()
    } else if let Kind::ViewStmt(view) = element {
        view.view.as_ref()
    } else if let Kind::CreateSeqStmt(sequence) = element {
        sequence.sequence.as_ref()
    } else {
        None
    }
}

fn create_function(function: &tree::CreateFunctionStmt, walk: &mut Walk<'_>) {
    let tree::CreateFunctionStmt { is_procedure: _, replace, funcname: _, parameters, return_type, options, sql_body } =
        function;
    if *replace {
        // A policy may call it.
        walk.demand(DemandKind::NeedsBypass, "OR REPLACE of a function", -1);
    }
    if sql_body.is_none() || options.iter().any(|option| is_named(option, "as")) {
        walk.demand(DemandKind::NeedsBypass, "A function whose body is a string, which cannot be read,", -1);
    }
    walk.elements(parameters);
    walk.type_maybe(return_type);
    walk.element_maybe(sql_body);
    function_options(options, walk);
}

/// `SECURITY DEFINER` runs with its owner's rights, whom policies may not bind; what is leak-proof sees rows before
/// policies do.
fn function_options(options: &[tree::Node], walk: &mut Walk<'_>) {
    for (name, what) in [("security", "SECURITY DEFINER"), ("leakproof", "LEAKPROOF")] {
        if options.iter().any(|option| is_on(option, name)) {
            walk.demand(DemandKind::NeedsBypass, what, -1);
        }
    }
    for option in options {
        let Some(Kind::DefElem(option)) = &option.node else {
            walk.demand(DemandKind::StrangeNode, "an option that is none", -1);
            continue;
        };
        match option.arg.as_ref().and_then(|arg| arg.node.as_ref()) {
            Some(Kind::VariableSetStmt(set)) => function_setting(set, walk),
            Some(Kind::List(names)) if option.defname == "support" => {
                walk.demand(DemandKind::NeedsBypass, "SUPPORT", -1);
                walk.named_function(&names.items);
            }
            Some(_) | None => {}
        }
    }
    walk.elements(options);
}

/// `SET` and `RESET` of a function.
fn function_setting(set: &tree::VariableSetStmt, walk: &mut Walk<'_>) {
    use tree::VariableSetKind as Form;
    match set.kind() {
        Form::VarSetValue | Form::VarSetDefault | Form::VarSetCurrent | Form::VarReset => {
            walk.demand(DemandKind::FunctionSetting, &settings::canonical_name(&set.name), -1);
        }
        Form::VarResetAll => {}
        Form::VarSetMulti | Form::Undefined => walk.demand(DemandKind::SettingForm, "SET of a function", -1),
    }
    walk.demand(DemandKind::NeedsBypass, "SET of a function", -1);
}

/// `CREATE AGGREGATE`, `OPERATOR`, `TYPE`, `COLLATION`, `TEXT SEARCH …`.
fn define_object(define: &tree::DefineStmt, walk: &mut Walk<'_>) {
    use tree::ObjectType as Type;
    let tree::DefineStmt { kind: _, oldstyle: _, defnames: _, args, definition, if_not_exists: _, replace: _ } = define;
    let is_harmless =
        matches!(define.kind(), Type::ObjectCollation | Type::ObjectTsconfiguration | Type::ObjectTsdictionary);
    if !is_harmless {
        walk.demand(DemandKind::NeedsBypass, "What calls functions under another name", -1);
    }
    walk.elements(args);
    named_options(definition, walk);
}

/// Options that may name functions, which the grammar takes for types.
fn named_options(options: &[tree::Node], walk: &mut Walk<'_>) {
    for option in options {
        if let Some(Kind::DefElem(option)) = &option.node
            && let Some(Kind::TypeName(name)) = option.arg.as_ref().and_then(|arg| arg.node.as_ref())
        {
            walk.named_function(&name.names);
        }
    }
    walk.elements(options);
}

fn operator_class_item(item: &tree::Node) -> Option<&tree::ObjectWithArgs> {
    match &item.node {
        Some(Kind::CreateOpClassItem(item)) => item.name.as_ref(),
        Some(_) | None => None,
    }
}

/// Functions that run where nobody reads their names.
fn bound_functions<'f>(
    functions: impl IntoIterator<Item = Option<&'f tree::ObjectWithArgs>>,
    what: &str,
    walk: &mut Walk<'_>,
) {
    walk.demand(DemandKind::NeedsBypass, what, -1);
    for function in functions.into_iter().flatten() {
        walk.named_function(&function.objname);
    }
}

fn is_named(option: &tree::Node, name: &str) -> bool {
    matches!(&option.node, Some(Kind::DefElem(option)) if option.defname == name)
}

/// Whether an option is given, and not as false.
fn is_on(option: &tree::Node, name: &str) -> bool {
    is_named(option, name) && worth(option) != Worth::Off
}

/// Whether an option is given, and as true beyond doubt.
fn is_surely_on(option: &tree::Node, name: &str) -> bool {
    is_named(option, name) && worth(option) == Worth::On
}

/// What an option's value says.
#[derive(PartialEq, Eq)]
enum Worth {
    On,
    Off,
    /// Something else, or an abbreviation.
    Doubtful,
}

fn worth(option: &tree::Node) -> Worth {
    let Some(Kind::DefElem(option)) = &option.node else { return Worth::Doubtful };
    let Some(value) = option.arg.as_ref().and_then(|arg| arg.node.as_ref()) else { return Worth::On };
    let word = if let Kind::Boolean(value) = value {
        value.boolval.to_string()
    } else if let Kind::String(value) = value {
        value.sval.to_ascii_lowercase()
    } else if let Kind::Integer(value) = value {
        value.ival.to_string()
    } else {
        return Worth::Doubtful;
    };
    match word.as_str() {
        "on" | "true" | "yes" | "1" => Worth::On,
        "off" | "false" | "no" | "0" => Worth::Off,
        _ => Worth::Doubtful,
    }
}
