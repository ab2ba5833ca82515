//! What data definition names and demands: tables, ownership, row-level security, definer's rights.
//!
//! Owns: which tables a definition touches (for the ledger and the policy), what of it only a bypass login may
//! do, and what PostgreSQL runs only outside a transaction block. Does not own: whether a class is allowed at all.

use super::facts::{Access, DemandKind, StatementClass};
use super::nodes;
use super::parser::{Kind, tree};
use super::walk::{self, Walk};

/// Notes the tables and demands of a statement of data definition or maintenance.
#[expect(clippy::wildcard_enum_match_arm, reason = "the class, which every kind has, decides whether it may run")]
pub(super) fn note(kind: &Kind, walk: &mut Walk<'_>) {
    match kind {
        Kind::AlterTableStmt(alter) => alter_table(alter, walk),
        Kind::IndexStmt(index) => walk.target(index.relation.as_ref()),
        Kind::DropStmt(drop) => drop_objects(drop, walk),
        Kind::TruncateStmt(truncate) => targets(&truncate.relations, walk),
        Kind::LockStmt(lock) => targets(&lock.relations, walk),
        Kind::RenameStmt(rename) => {
            walk.target(rename.relation.as_ref());
            if matches!(rename.rename_type(), tree::ObjectType::ObjectPolicy | tree::ObjectType::ObjectRole) {
                walk.demand(DemandKind::NeedsBypass, "RENAME of a policy or role", -1);
            }
        }
        Kind::AlterObjectSchemaStmt(alter) => walk.target(alter.relation.as_ref()),
        Kind::CreateTrigStmt(trigger) => walk.target(trigger.relation.as_ref()),
        Kind::RuleStmt(rule) => walk.target(rule.relation.as_ref()),
        Kind::AlterSeqStmt(sequence) => walk.target(sequence.sequence.as_ref()),
        Kind::CreatePolicyStmt(policy) => walk.target(policy.table.as_ref()),
        Kind::AlterPolicyStmt(policy) => walk.target(policy.table.as_ref()),
        Kind::GrantStmt(grant) => targets(&grant.objects, walk),
        Kind::CreateSchemaStmt(schema) => create_schema(schema, walk),
        Kind::CreateFunctionStmt(function) => definer(&function.options, walk),
        Kind::AlterFunctionStmt(function) => definer(&function.actions, walk),
        Kind::VacuumStmt(vacuum) => vacuum.rels.iter().for_each(|relation| {
            if let Some(Kind::VacuumRelation(relation)) = &relation.node {
                walk.target(relation.relation.as_ref());
            }
        }),
        Kind::ReindexStmt(reindex) => walk.target(reindex.relation.as_ref()),
        Kind::ClusterStmt(cluster) => walk.target(cluster.relation.as_ref()),
        Kind::RefreshMatViewStmt(refresh) => walk.target(refresh.relation.as_ref()),
        _ => {}
    }
}

/// Whether PostgreSQL runs the statement only outside a transaction block.
#[expect(clippy::wildcard_enum_match_arm, reason = "whatever else cannot run in a block, PostgreSQL itself refuses")]
pub(super) fn runs_outside_blocks(kind: &Kind) -> bool {
    match kind {
        Kind::VacuumStmt(vacuum) => vacuum.is_vacuumcmd,
        Kind::IndexStmt(index) => index.concurrent,
        Kind::DropStmt(drop) => drop.concurrent,
        Kind::ReindexStmt(reindex) => {
            let is_concurrent = reindex.params.iter().any(|option| is_on(option, "concurrently"));
            is_concurrent || reindex.relation.is_none()
        }
        _ => false,
    }
}

fn targets(nodes: &[tree::Node], walk: &mut Walk<'_>) {
    for node in nodes {
        if let Some(Kind::RangeVar(relation)) = &node.node {
            walk.target(Some(relation));
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "every other change leaves who may see what as it is")]
fn alter_table(alter: &tree::AlterTableStmt, walk: &mut Walk<'_>) {
    use tree::AlterTableType as Type;
    walk.target(alter.relation.as_ref());
    for command in &alter.cmds {
        let Some(Kind::AlterTableCmd(command)) = &command.node else { continue };
        let what = match command.subtype() {
            Type::AtChangeOwner => "OWNER TO",
            Type::AtEnableRowSecurity
            | Type::AtDisableRowSecurity
            | Type::AtForceRowSecurity
            | Type::AtNoForceRowSecurity => "ROW LEVEL SECURITY",
            _ => continue,
        };
        walk.demand(DemandKind::NeedsBypass, what, -1);
    }
}

fn drop_objects(drop: &tree::DropStmt, walk: &mut Walk<'_>) {
    use tree::ObjectType as Type;
    let is_policy = drop.remove_type() == Type::ObjectPolicy;
    if is_policy {
        walk.demand(DemandKind::NeedsBypass, "DROP POLICY", -1);
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

fn create_schema(schema: &tree::CreateSchemaStmt, walk: &mut Walk<'_>) {
    if schema.authrole.is_some() {
        walk.demand(DemandKind::NeedsBypass, "AUTHORIZATION", -1);
    }
    for element in schema.schema_elts.iter().filter_map(|element| element.node.as_ref()) {
        note(element, walk);
        if nodes::class_of(element) != StatementClass::Definition {
            walk.demand(DemandKind::NeedsBypass, nodes::name_of(element), -1);
        }
    }
}

/// `SECURITY DEFINER` runs with its owner's rights, whom policies may not bind.
fn definer(options: &[tree::Node], walk: &mut Walk<'_>) {
    if options.iter().any(|option| is_on(option, "security")) {
        walk.demand(DemandKind::NeedsBypass, "SECURITY DEFINER", -1);
    }
}

/// Whether an option is given, and not as false.
fn is_on(option: &tree::Node, name: &str) -> bool {
    let Some(Kind::DefElem(option)) = &option.node else { return false };
    let value = option.arg.as_ref().and_then(|arg| arg.node.as_ref());
    let is_off = match value {
        Some(Kind::Boolean(value)) => !value.boolval,
        Some(Kind::String(value)) => matches!(value.sval.as_str(), "false" | "off"),
        Some(Kind::Integer(value)) => value.ival == 0,
        _ => false,
    };
    option.defname == name && !is_off
}
