//! The walk over what data definition embeds: columns, constraints, partitions, options, parameters, bodies.
//!
//! Owns: visiting every expression and query inside of a definition, so that nothing is stored in the database that
//! could not be said as a statement. Does not own: expressions and queries themselves (`walk`), or which
//! definition may be made (`definition`).
//!
//! Like `walk`, it takes every structure apart field by field without `..`, and what it does not know is refused.

use super::facts::Access;
use super::parser::{Kind, tree};
use super::walk::Walk;

impl Walk<'_> {
    pub fn elements(&mut self, nodes: &[tree::Node]) {
        for node in nodes {
            self.element_node(node);
        }
    }

    pub fn element_maybe(&mut self, node: &Option<Box<tree::Node>>) {
        if let Some(node) = node {
            self.element_node(node);
        }
    }

    fn element_node(&mut self, node: &tree::Node) {
        if let Some(kind) = &node.node {
            self.element(kind);
        }
    }

    /// A part of a definition. What is none is an expression or a query, or strange.
    fn element(&mut self, kind: &Kind) {
        if let Kind::ColumnDef(column) = kind {
            self.column_of_table(column);
        } else if let Kind::Constraint(constraint) = kind {
            self.constraint(constraint);
        } else if let Kind::DefElem(option) = kind {
            self.option(option);
        } else if let Kind::List(list) = kind {
            self.elements(&list.items);
        } else if let Kind::FunctionParameter(parameter) = kind {
            let tree::FunctionParameter { name: _, arg_type, mode: _, defexpr, location: _ } = &**parameter;
            self.type_maybe(arg_type);
            self.maybe(defexpr);
        } else if let Kind::ReturnStmt(body) = kind {
            let tree::ReturnStmt { returnval } = &**body;
            self.maybe(returnval);
        } else if let Kind::StatsElem(element) = kind {
            let tree::StatsElem { name: _, expr } = &**element;
            self.maybe(expr);
        } else if !self.part_of_table(kind) {
            self.kind(kind);
        }
    }

    /// Parts that have to do with other tables, or with none; `false` if it is not one.
    fn part_of_table(&mut self, kind: &Kind) -> bool {
        if let Kind::PartitionElem(element) = kind {
            let tree::PartitionElem { name: _, expr, collation, opclass, location: _ } = &**element;
            self.maybe(expr);
            self.nodes(collation);
            self.nodes(opclass);
        } else if let Kind::PartitionRangeDatum(datum) = kind {
            let tree::PartitionRangeDatum { kind: _, value, location: _ } = &**datum;
            self.maybe(value);
        } else if let Kind::PartitionCmd(command) = kind {
            let tree::PartitionCmd { name, bound, concurrent: _ } = command;
            self.target(name.as_ref());
            self.bound(bound.as_ref());
        } else if let Kind::TableLikeClause(like) = kind {
            let tree::TableLikeClause { relation, options: _, relation_oid: _ } = like;
            if let Some(relation) = relation {
                self.relation(relation, Access::Read);
            }
        } else if let Kind::RangeVar(relation) = kind {
            self.target(Some(relation));
        } else if let Kind::AtalterConstraint(_) | Kind::ReplicaIdentityStmt(_) = kind {
            // Names and flags.
        } else {
            return false;
        }
        true
    }

    fn column_of_table(&mut self, column: &tree::ColumnDef) {
        let tree::ColumnDef {
            colname: _,
            type_name,
            compression: _,
            inhcount: _,
            is_local: _,
            is_not_null: _,
            is_from_type: _,
            storage: _,
            storage_name: _,
            raw_default,
            cooked_default,
            identity: _,
            identity_sequence,
            generated: _,
            coll_clause,
            coll_oid: _,
            constraints,
            fdwoptions,
            location: _,
        } = column;
        self.type_maybe(type_name);
        self.maybe(raw_default);
        self.maybe(cooked_default);
        self.target(identity_sequence.as_ref());
        if let Some(collate) = coll_clause {
            self.collate(collate);
        }
        self.elements(constraints);
        self.elements(fdwoptions);
    }

    fn constraint(&mut self, constraint: &tree::Constraint) {
        let tree::Constraint {
            contype: _,
            conname: _,
            deferrable: _,
            initdeferred: _,
            is_enforced: _,
            skip_validation: _,
            initially_valid: _,
            is_no_inherit: _,
            raw_expr,
            cooked_expr: _,
            generated_when: _,
            generated_kind: _,
            nulls_not_distinct: _,
            keys,
            without_overlaps: _,
            including,
            exclusions,
            options,
            indexname: _,
            indexspace: _,
            reset_default_tblspc: _,
            access_method: _,
            where_clause,
            pktable,
            fk_attrs,
            pk_attrs,
            fk_with_period: _,
            pk_with_period: _,
            fk_matchtype: _,
            fk_upd_action: _,
            fk_del_action: _,
            fk_del_set_cols,
            old_conpfeqop,
            old_pktable_oid: _,
            location: _,
        } = constraint;
        self.maybe(raw_expr);
        self.maybe(where_clause);
        for nodes in [keys, including, exclusions, options, fk_attrs, pk_attrs, fk_del_set_cols, old_conpfeqop] {
            self.elements(nodes);
        }
        if let Some(referenced) = pktable {
            self.relation(referenced, Access::Read);
        }
    }

    /// An option's value is a constant, a name, or a list of such.
    fn option(&mut self, option: &tree::DefElem) {
        let tree::DefElem { defnamespace: _, defname: _, arg, defaction: _, location: _, arg_location: _ } = option;
        let value = arg.as_ref().and_then(|arg| arg.node.as_ref());
        // SET of a function is judged by its name (`definition`), and its values are constants.
        if let Some(Kind::VariableSetStmt(set)) = value {
            return self.nodes(&set.args);
        }
        self.element_maybe(arg);
    }

    pub fn bound(&mut self, bound: Option<&tree::PartitionBoundSpec>) {
        let Some(bound) = bound else { return };
        let tree::PartitionBoundSpec {
            strategy: _,
            is_default: _,
            modulus: _,
            remainder: _,
            listdatums,
            lowerdatums,
            upperdatums,
            location: _,
        } = bound;
        for nodes in [listdatums, lowerdatums, upperdatums] {
            self.elements(nodes);
        }
    }

    pub fn table(&mut self, create: &tree::CreateStmt) {
        let tree::CreateStmt {
            relation: _,
            table_elts,
            inh_relations,
            partbound,
            partspec,
            of_typename,
            constraints,
            nnconstraints,
            options,
            oncommit: _,
            tablespacename: _,
            access_method: _,
            if_not_exists: _,
        } = create;
        for nodes in [table_elts, constraints, nnconstraints, options] {
            self.elements(nodes);
        }
        for parent in inh_relations {
            if let Some(Kind::RangeVar(parent)) = &parent.node {
                self.relation(parent, Access::Read);
            }
        }
        self.bound(partbound.as_ref());
        self.type_maybe(of_typename);
        if let Some(tree::PartitionSpec { strategy: _, part_params, location: _ }) = partspec {
            self.elements(part_params);
        }
    }

    pub fn index(&mut self, index: &tree::IndexStmt) {
        let tree::IndexStmt {
            idxname: _,
            relation,
            access_method: _,
            table_space: _,
            index_params,
            index_including_params,
            options,
            where_clause,
            exclude_op_names,
            idxcomment: _,
            index_oid: _,
            old_number: _,
            old_create_subid: _,
            old_first_relfilelocator_subid: _,
            unique: _,
            nulls_not_distinct: _,
            primary: _,
            isconstraint: _,
            iswithoutoverlaps: _,
            deferrable: _,
            initdeferred: _,
            transformed: _,
            concurrent: _,
            if_not_exists: _,
            reset_default_tblspc: _,
        } = index;
        self.target(relation.as_ref());
        for nodes in [index_params, index_including_params, options, exclude_op_names] {
            self.elements(nodes);
        }
        self.maybe(where_clause);
    }

    pub fn trigger(&mut self, trigger: &tree::CreateTrigStmt) {
        let tree::CreateTrigStmt {
            replace: _,
            isconstraint: _,
            trigname: _,
            relation,
            funcname,
            args,
            row: _,
            timing: _,
            events: _,
            columns,
            when_clause,
            // Names of the trigger's own.
            transition_rels: _,
            deferrable: _,
            initdeferred: _,
            constrrel,
        } = trigger;
        self.target(relation.as_ref());
        self.named_function(funcname);
        self.elements(args);
        self.elements(columns);
        self.maybe(when_clause);
        if let Some(referenced) = constrrel {
            self.relation(referenced, Access::Read);
        }
    }
}
