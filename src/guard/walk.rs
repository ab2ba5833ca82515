//! The walk over a statement's whole tree.
//!
//! Owns: visiting every node, and noting every function, relation and oddity on the way. Does not own:
//! what a statement is (`statement`) or what is allowed (`policy`).
//!
//! It is an allow-list twice over: a node kind that no allowed statement holds becomes a
//! [`DemandKind::StrangeNode`], and every visited structure is taken apart field by field without `..`, so that a
//! new kind or a new field of the parser does not compile until someone has decided what it means.

use std::collections::{BTreeSet, HashSet};

use super::estimates::{Estimates, is_of_class};
use super::facts::{Access, Demand, DemandKind, FunctionUse, RelationUse, StatementClass, attribute_key};
use super::functions::{self, FunctionClass, Notation};
use super::nodes::{self, Role};
use super::parser::{Kind, tree};
use super::relations::{self, RelationClass};
use super::text::Positions;

/// What a walk has found.
#[derive(Default)]
pub(super) struct Found {
    pub functions: Vec<FunctionUse>,
    pub relations: Vec<RelationUse>,
    pub demands: Vec<Demand>,
    /// Classes that write rows, each once.
    pub writes: Vec<StatementClass>,
    /// One of them stands in a WITH.
    pub writes_in_with: bool,
    /// Names behind dots, as keys.
    pub attributes: BTreeSet<u64>,
}

type FunctionKey = (Option<Box<str>>, Box<str>, u16);
type RelationKey = (Option<Box<str>>, Box<str>, Access, RelationClass, bool);

/// A walk under way.
pub(super) struct Walk<'t> {
    positions: &'t Positions<'t>,
    found: Found,
    functions_seen: HashSet<FunctionKey>,
    relations_seen: HashSet<RelationKey>,
    /// The CTEs that can be seen from here.
    common_tables: Vec<Box<str>>,
    /// Aliases of functions in FROM: each may stand for a scalar.
    function_aliases: HashSet<Box<str>>,
    /// There is one whose alias is not known.
    has_nameless_function: bool,
    /// `a.pg_f`, which is a column unless `a` is one of those.
    doubtful_columns: Vec<DoubtfulColumn>,
    /// What may show estimates of `pg_class`.
    estimates: Estimates,
}

struct DoubtfulColumn {
    qualifier: Box<str>,
    name: Box<str>,
    location: i32,
}

/// Visits every field named, by its shape.
macro_rules! visit {
    ($walk:ident: $($method:ident($field:expr)),+ $(,)?) => { $( $walk.$method($field); )+ };
}

impl<'t> Walk<'t> {
    pub fn new(positions: &'t Positions<'t>) -> Self {
        Self {
            positions,
            found: Found::default(),
            functions_seen: HashSet::new(),
            relations_seen: HashSet::new(),
            common_tables: Vec::new(),
            function_aliases: HashSet::new(),
            has_nameless_function: false,
            doubtful_columns: Vec::new(),
            estimates: Estimates::default(),
        }
    }

    /// Ends the walk.
    pub fn finish(mut self) -> Found {
        if let Some((what, location)) = self.estimates.shown() {
            self.demand(DemandKind::Estimates, &what, location);
        }
        for DoubtfulColumn { qualifier, name, location } in std::mem::take(&mut self.doubtful_columns) {
            if self.has_nameless_function || self.function_aliases.contains(&qualifier) {
                self.function(None, &name, 1, Notation::Attribute, location);
            }
        }
        self.found
    }

    /// Notes something beyond names.
    pub fn demand(&mut self, kind: DemandKind, detail: &str, location: i32) {
        let position = self.positions.of(location);
        self.found.demands.push(Demand { kind, detail: detail.into(), position });
    }

    /// A relation that is copied out, all of its columns where none is named.
    pub fn copied(&mut self, relation: &tree::RangeVar, columns: &[tree::Node]) {
        self.relation(relation, Access::Read);
        if relation.relname == "pg_class" {
            self.estimates.on_copy(columns);
        }
    }

    /// Notes the relation a statement writes to.
    pub fn target(&mut self, relation: Option<&tree::RangeVar>) {
        if let Some(relation) = relation {
            self.relation(relation, Access::Write);
        }
    }

    pub fn relation(&mut self, relation: &tree::RangeVar, access: Access) {
        let tree::RangeVar { catalogname: _, schemaname, relname, inh: _, relpersistence: _, alias, location } =
            relation;
        let schema = (!schemaname.is_empty()).then(|| Box::<str>::from(schemaname.as_str()));
        let name: Box<str> = relname.as_str().into();
        let mut class = relations::class_of(schema.as_deref(), &name);
        let is_common = schema.is_none() && access == Access::Read && self.common_tables.contains(&name);
        if is_common && class == RelationClass::Unknown {
            class = RelationClass::User;
        }
        // Each time it is read: it may have another alias.
        if class == RelationClass::Readable && relname == "pg_class" {
            self.estimates.on_class(alias.as_ref());
        }
        if !self.relations_seen.insert((schema.clone(), name.clone(), access, class, is_common)) {
            return;
        }
        if schemaname == "pg_temp" {
            self.demand(DemandKind::TemporaryRelation, schemaname, *location);
        } else if schema.as_deref().is_some_and(is_temporary) {
            self.demand(DemandKind::TemporarySchema, schemaname, *location);
        }
        let position = self.positions.of(*location);
        self.found.relations.push(RelationUse { schema, name, access, class, is_common, position });
    }

    fn function(&mut self, schema: Option<&str>, name: &str, arguments: usize, notation: Notation, location: i32) {
        let arguments = u16::try_from(arguments).unwrap_or(u16::MAX);
        let class = functions::class_of(schema, name, arguments, notation);
        if notation == Notation::Attribute {
            self.found.attributes.insert(attribute_key(name));
            if class == FunctionClass::User {
                return;
            }
        }
        if !self.functions_seen.insert((schema.map(Into::into), name.into(), arguments)) {
            return;
        }
        if schema.is_some_and(is_temporary) {
            self.demand(DemandKind::TemporarySchema, name, location);
        }
        let position = self.positions.of(location);
        let (schema, name) = (schema.map(Into::into), name.into());
        self.found.functions.push(FunctionUse { schema, name, arguments, class, position });
    }

    /// Notes a function that is named and not called: by an aggregate, say, that will call it.
    pub fn named_function(&mut self, name: &[tree::Node]) {
        match name_parts(name).as_slice() {
            [.., schema, name] => self.function(Some(schema), name, 0, Notation::Attribute, -1),
            [name] => self.function(None, name, 0, Notation::Attribute, -1),
            [] => {}
        }
    }

    /// Notes that rows are written.
    fn writes(&mut self, class: StatementClass) {
        if !self.found.writes.contains(&class) {
            self.found.writes.push(class);
        }
    }

    /// How many relations have been noted.
    pub fn relations_count(&self) -> usize {
        self.found.relations.len()
    }

    // -- shapes of fields

    pub fn nodes(&mut self, nodes: &[tree::Node]) {
        for node in nodes {
            self.node(node);
        }
    }

    pub fn maybe(&mut self, node: &Option<Box<tree::Node>>) {
        if let Some(node) = node {
            self.node(node);
        }
    }

    pub fn node(&mut self, node: &tree::Node) {
        // An absent oneof is PostgreSQL's NULL element (`a[:]`, an empty list item).
        if let Some(kind) = &node.node {
            self.kind(kind);
        }
    }

    pub fn kind(&mut self, kind: &Kind) {
        match nodes::role_of(kind) {
            Role::Clause => self.clause(kind),
            Role::Source => self.source(kind),
            Role::Expression => self.expression(kind),
            Role::Construct => self.construct(kind),
            Role::Document => self.document(kind),
            Role::JsonConstructor => self.json_constructor(kind),
            Role::Leaf => {}
            Role::Strange => self.strange(kind),
        }
    }

    /// A node in a place where nothing allowed has it.
    pub fn strange(&mut self, kind: &Kind) {
        self.demand(DemandKind::StrangeNode, nodes::name_of(kind), -1);
    }

    // -- clauses and nested statements

    #[expect(clippy::wildcard_enum_match_arm, reason = "what is not listed is strange, and refused")]
    fn clause(&mut self, kind: &Kind) {
        match kind {
            Kind::SelectStmt(select) => self.select(select),
            Kind::InsertStmt(insert) => self.insert(insert),
            Kind::UpdateStmt(update) => self.update(update),
            Kind::DeleteStmt(delete) => self.delete(delete),
            Kind::MergeStmt(merge) => self.merge(merge),
            Kind::RawStmt(raw) => self.maybe(&raw.stmt),
            // Only ever fields of statements, which open and close their scope.
            Kind::WithClause(_) | Kind::CommonTableExpr(_) => self.strange(kind),
            Kind::CtesearchClause(search) => self.search_clause(search),
            Kind::CtecycleClause(cycle) => self.cycle_clause(cycle),
            Kind::InferClause(infer) => self.infer(infer),
            Kind::IndexElem(element) => self.index_element(element),
            Kind::OnConflictClause(conflict) => self.on_conflict(conflict),
            Kind::MergeWhenClause(when) => self.merge_when(when),
            Kind::ReturningClause(returning) => self.returning(returning),
            Kind::LockingClause(locking) => self.locking(locking),
            Kind::GroupingSet(set) => self.nodes(&set.content),
            Kind::SortBy(sort) => self.sort(sort),
            Kind::WindowDef(window) => self.window(window),
            Kind::ResTarget(target) => self.result_target(target),
            Kind::MultiAssignRef(assign) => self.maybe(&assign.source),
            other => self.strange(other),
        }
    }

    pub fn select(&mut self, select: &tree::SelectStmt) {
        let tree::SelectStmt {
            distinct_clause,
            into_clause,
            target_list,
            from_clause,
            where_clause,
            group_clause,
            group_distinct: _,
            having_clause,
            window_clause,
            values_lists,
            sort_clause,
            limit_offset,
            limit_count,
            limit_option: _,
            locking_clause,
            with_clause,
            op: _,
            all: _,
            larg,
            rarg,
        } = select;
        if let Some(into) = into_clause {
            let location = into.rel.as_ref().map_or(-1, |relation| relation.location);
            self.demand(DemandKind::SelectInto, "SELECT … INTO", location);
        }
        self.estimates.on_select(target_list, from_clause);
        let outside = self.open_scope(with_clause);
        visit!(self: nodes(distinct_clause), nodes(target_list), nodes(from_clause), maybe(where_clause));
        visit!(self: nodes(group_clause), maybe(having_clause), nodes(window_clause), nodes(values_lists));
        visit!(self: nodes(sort_clause), maybe(limit_offset), maybe(limit_count), nodes(locking_clause));
        for side in [larg, rarg].into_iter().flatten() {
            self.select(side);
        }
        self.close_scope(outside);
    }

    fn insert(&mut self, insert: &tree::InsertStmt) {
        let tree::InsertStmt {
            relation,
            cols,
            select_stmt,
            on_conflict_clause,
            returning_clause,
            with_clause,
            r#override: _,
        } = insert;
        self.writes(StatementClass::Insert);
        let outside = self.open_scope(with_clause);
        self.target(relation.as_ref());
        visit!(self: nodes(cols), maybe(select_stmt));
        if let Some(conflict) = on_conflict_clause {
            self.on_conflict(conflict);
        }
        self.returning_maybe(returning_clause, &[]);
        self.close_scope(outside);
    }

    fn update(&mut self, update: &tree::UpdateStmt) {
        let tree::UpdateStmt { relation, target_list, where_clause, from_clause, returning_clause, with_clause } =
            update;
        self.writes(StatementClass::Update);
        let outside = self.open_scope(with_clause);
        self.target(relation.as_ref());
        visit!(self: nodes(target_list), nodes(from_clause), maybe(where_clause));
        self.returning_maybe(returning_clause, from_clause);
        self.close_scope(outside);
    }

    fn delete(&mut self, delete: &tree::DeleteStmt) {
        let tree::DeleteStmt { relation, using_clause, where_clause, returning_clause, with_clause } = delete;
        self.writes(StatementClass::Delete);
        let outside = self.open_scope(with_clause);
        self.target(relation.as_ref());
        visit!(self: nodes(using_clause), maybe(where_clause));
        self.returning_maybe(returning_clause, using_clause);
        self.close_scope(outside);
    }

    fn merge(&mut self, merge: &tree::MergeStmt) {
        let tree::MergeStmt {
            relation,
            source_relation,
            join_condition,
            merge_when_clauses,
            returning_clause,
            with_clause,
        } = merge;
        self.writes(StatementClass::Merge);
        let outside = self.open_scope(with_clause);
        self.target(relation.as_ref());
        visit!(self: maybe(source_relation), maybe(join_condition), nodes(merge_when_clauses));
        let source = source_relation.as_deref().map_or(&[][..], std::slice::from_ref);
        self.returning_maybe(returning_clause, source);
        self.close_scope(outside);
    }

    fn merge_when(&mut self, when: &tree::MergeWhenClause) {
        let tree::MergeWhenClause { match_kind: _, command_type: _, r#override: _, condition, target_list, values } =
            when;
        match when.command_type() {
            tree::CmdType::CmdInsert => self.writes(StatementClass::Insert),
            tree::CmdType::CmdUpdate => self.writes(StatementClass::Update),
            tree::CmdType::CmdDelete => self.writes(StatementClass::Delete),
            tree::CmdType::CmdNothing | tree::CmdType::CmdSelect | tree::CmdType::CmdMerge => {}
            // The grammar makes none of them.
            tree::CmdType::CmdUnknown | tree::CmdType::CmdUtility | tree::CmdType::Undefined => {
                self.demand(DemandKind::StrangeNode, "an action of MERGE that is none", -1);
            }
        }
        visit!(self: maybe(condition), nodes(target_list), nodes(values));
    }

    /// Visits WITH, whose names can be seen until [`Walk::close_scope`]: each by those behind it, or by all of
    /// them if RECURSIVE. Seen from elsewhere the same name is the system's relation.
    fn open_scope(&mut self, with: &Option<tree::WithClause>) -> usize {
        let outside = self.common_tables.len();
        let Some(tree::WithClause { ctes, recursive, location: _ }) = with else { return outside };
        let names = |node: &tree::Node| match &node.node {
            Some(Kind::CommonTableExpr(common)) => Some(Box::<str>::from(common.ctename.as_str())),
            // Fails closed: `common_node` refuses it.
            _ => None,
        };
        if *recursive {
            self.common_tables.extend(ctes.iter().filter_map(names));
        }
        for node in ctes {
            self.common_node(node);
            if !*recursive {
                self.common_tables.extend(names(node));
            }
        }
        outside
    }

    fn close_scope(&mut self, outside: usize) {
        self.common_tables.truncate(outside);
    }

    fn common_node(&mut self, node: &tree::Node) {
        match &node.node {
            Some(Kind::CommonTableExpr(common)) => self.common_table(common),
            // The grammar makes nothing else.
            _ => self.demand(DemandKind::StrangeNode, "a WITH of something else than queries", -1),
        }
    }

    fn common_table(&mut self, common: &tree::CommonTableExpr) {
        let tree::CommonTableExpr {
            ctename: _,
            aliascolnames,
            ctematerialized: _,
            ctequery,
            search_clause,
            cycle_clause,
            location: _,
            cterecursive: _,
            cterefcount: _,
            ctecolnames,
            ctecoltypes,
            ctecoltypmods,
            ctecolcollations,
        } = common;
        self.found.writes_in_with |= ctequery.as_ref().and_then(|query| query.node.as_ref()).is_some_and(is_write);
        visit!(self: nodes(aliascolnames), maybe(ctequery), nodes(ctecolnames), nodes(ctecoltypes));
        visit!(self: nodes(ctecoltypmods), nodes(ctecolcollations));
        if let Some(search) = search_clause {
            self.search_clause(search);
        }
        if let Some(cycle) = cycle_clause {
            self.cycle_clause(cycle);
        }
    }

    fn search_clause(&mut self, search: &tree::CteSearchClause) {
        let tree::CteSearchClause { search_col_list, search_breadth_first: _, search_seq_column: _, location: _ } =
            search;
        self.nodes(search_col_list);
    }

    fn cycle_clause(&mut self, cycle: &tree::CteCycleClause) {
        let tree::CteCycleClause {
            cycle_col_list,
            cycle_mark_column: _,
            cycle_mark_value,
            cycle_mark_default,
            cycle_path_column: _,
            location: _,
            cycle_mark_type: _,
            cycle_mark_typmod: _,
            cycle_mark_collation: _,
            cycle_mark_neop: _,
        } = cycle;
        visit!(self: nodes(cycle_col_list), maybe(cycle_mark_value), maybe(cycle_mark_default));
    }

    fn on_conflict(&mut self, conflict: &tree::OnConflictClause) {
        let tree::OnConflictClause { action: _, infer, target_list, where_clause, location: _ } = conflict;
        if let Some(infer) = infer {
            self.infer(infer);
        }
        if !target_list.is_empty() {
            self.writes(StatementClass::Update);
        }
        visit!(self: nodes(target_list), maybe(where_clause));
    }

    fn infer(&mut self, infer: &tree::InferClause) {
        let tree::InferClause { index_elems, where_clause, conname: _, location: _ } = infer;
        visit!(self: nodes(index_elems), maybe(where_clause));
    }

    fn index_element(&mut self, element: &tree::IndexElem) {
        let tree::IndexElem {
            name: _,
            expr,
            indexcolname: _,
            collation,
            opclass,
            opclassopts,
            ordering: _,
            nulls_ordering: _,
        } = element;
        visit!(self: maybe(expr), nodes(collation), nodes(opclass));
        // `siglen = 32`: constants.
        self.elements(opclassopts);
    }

    /// `from`: what stands beside the statement's own relation, all of whose columns `RETURNING *` has, too.
    fn returning_maybe(&mut self, returning: &Option<tree::ReturningClause>, from: &[tree::Node]) {
        if let Some(returning) = returning {
            self.estimates.on_select(&returning.exprs, from);
            self.returning(returning);
        }
    }

    fn returning(&mut self, returning: &tree::ReturningClause) {
        let tree::ReturningClause { options, exprs } = returning;
        visit!(self: nodes(options), nodes(exprs));
    }

    /// The relations of FOR UPDATE OF are aliases of the statement's own FROM, not relations read anew.
    fn locking(&mut self, locking: &tree::LockingClause) {
        let tree::LockingClause { locked_rels: _, strength: _, wait_policy: _ } = locking;
    }

    fn sort(&mut self, sort: &tree::SortBy) {
        let tree::SortBy { node, sortby_dir: _, sortby_nulls: _, use_op, location: _ } = sort;
        visit!(self: maybe(node), nodes(use_op));
    }

    fn window(&mut self, window: &tree::WindowDef) {
        let tree::WindowDef {
            name: _,
            refname: _,
            partition_clause,
            order_clause,
            frame_options: _,
            start_offset,
            end_offset,
            location: _,
        } = window;
        visit!(self: nodes(partition_clause), nodes(order_clause), maybe(start_offset), maybe(end_offset));
    }

    /// The indirection of a target (`SET a.b[1] = …`) names a field to assign, never a function, but
    /// its subscripts are expressions.
    fn result_target(&mut self, target: &tree::ResTarget) {
        let tree::ResTarget { name: _, indirection, val, location: _ } = target;
        visit!(self: nodes(indirection), maybe(val));
    }

    // -- what FROM holds

    #[expect(clippy::wildcard_enum_match_arm, reason = "what is not listed is strange, and refused")]
    fn source(&mut self, kind: &Kind) {
        match kind {
            Kind::RangeVar(relation) => self.relation(relation, Access::Read),
            Kind::RangeSubselect(subselect) => {
                let tree::RangeSubselect { lateral: _, subquery, alias: _ } = &**subselect;
                self.maybe(subquery);
            }
            Kind::RangeFunction(function) => {
                let tree::RangeFunction { lateral: _, ordinality: _, is_rowsfrom: _, functions, alias, coldeflist } =
                    function;
                self.function_alias(alias.as_ref(), functions);
                visit!(self: nodes(functions), nodes(coldeflist));
            }
            Kind::RangeTableFunc(table) => self.xml_table(table),
            Kind::RangeTableFuncCol(column) => self.xml_table_column(column),
            Kind::RangeTableSample(sample) => {
                let tree::RangeTableSample { relation, method, args, repeatable, location: _ } = &**sample;
                visit!(self: maybe(relation), nodes(method), nodes(args), maybe(repeatable));
            }
            Kind::JoinExpr(join) => self.join(join),
            Kind::ColumnDef(column) => self.column_definition(column),
            Kind::JsonTable(table) => self.json_table(table),
            Kind::JsonTableColumn(column) => self.json_table_column(column),
            Kind::JsonTablePathSpec(path) => self.json_path(path),
            other => self.strange(other),
        }
    }

    /// Without an alias the function's name serves as one.
    fn function_alias(&mut self, alias: Option<&tree::Alias>, functions: &[tree::Node]) {
        match alias {
            Some(alias) => {
                self.function_aliases.insert(alias.aliasname.as_str().into());
            }
            None => {
                let names: Option<Vec<_>> = functions.iter().map(name_of_call).collect();
                self.has_nameless_function |= names.is_none();
                self.function_aliases.extend(names.unwrap_or_default());
            }
        }
    }

    fn xml_table(&mut self, table: &tree::RangeTableFunc) {
        let tree::RangeTableFunc { lateral: _, docexpr, rowexpr, namespaces, columns, alias: _, location: _ } = table;
        visit!(self: maybe(docexpr), maybe(rowexpr), nodes(namespaces), nodes(columns));
    }

    fn xml_table_column(&mut self, column: &tree::RangeTableFuncCol) {
        let tree::RangeTableFuncCol {
            colname: _,
            type_name,
            for_ordinality: _,
            is_not_null: _,
            colexpr,
            coldefexpr,
            location: _,
        } = column;
        visit!(self: type_maybe(type_name), maybe(colexpr), maybe(coldefexpr));
    }

    fn join(&mut self, join: &tree::JoinExpr) {
        let tree::JoinExpr {
            jointype: _,
            is_natural: _,
            larg,
            rarg,
            using_clause,
            join_using_alias: _,
            quals,
            alias,
            rtindex: _,
        } = join;
        if let Some(alias) = alias
            && [larg, rarg].into_iter().flatten().any(|side| is_of_class(side))
        {
            self.estimates.on_class(Some(alias));
        }
        visit!(self: maybe(larg), maybe(rarg), nodes(using_clause), maybe(quals));
    }

    fn column_definition(&mut self, column: &tree::ColumnDef) {
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
        visit!(self: type_maybe(type_name), maybe(raw_default), maybe(cooked_default), target(identity_sequence.as_ref()));
        visit!(self: nodes(constraints), nodes(fdwoptions));
        if let Some(collate) = coll_clause {
            self.collate(collate);
        }
    }

    fn json_table(&mut self, table: &tree::JsonTable) {
        let tree::JsonTable { context_item, pathspec, passing, columns, on_error, alias: _, lateral: _, location: _ } =
            table;
        visit!(self: json_value_maybe(context_item), json_path_maybe(pathspec), nodes(passing), nodes(columns));
        self.json_behavior_maybe(on_error);
    }

    fn json_table_column(&mut self, column: &tree::JsonTableColumn) {
        let tree::JsonTableColumn {
            coltype: _,
            name: _,
            type_name,
            pathspec,
            format: _,
            wrapper: _,
            quotes: _,
            columns,
            on_empty,
            on_error,
            location: _,
        } = column;
        visit!(self: type_maybe(type_name), json_path_maybe(pathspec), nodes(columns));
        visit!(self: json_behavior_maybe(on_empty), json_behavior_maybe(on_error));
    }

    fn json_path_maybe(&mut self, path: &Option<Box<tree::JsonTablePathSpec>>) {
        if let Some(path) = path {
            self.json_path(path);
        }
    }

    fn json_path(&mut self, path: &tree::JsonTablePathSpec) {
        let tree::JsonTablePathSpec { string, name: _, name_location: _, location: _ } = path;
        self.maybe(string);
    }

    // -- expressions

    #[expect(clippy::wildcard_enum_match_arm, reason = "what is not listed is strange, and refused")]
    fn expression(&mut self, kind: &Kind) {
        match kind {
            Kind::FuncCall(call) => self.call(call),
            Kind::ColumnRef(column) => self.column(column),
            Kind::AExpr(expression) => self.operator(expression),
            Kind::TypeCast(cast) => self.cast(cast),
            Kind::TypeName(name) => self.type_name(name),
            Kind::CollateClause(collate) => self.collate(collate),
            Kind::AIndices(indices) => {
                let tree::AIndices { is_slice: _, lidx, uidx } = &**indices;
                visit!(self: maybe(lidx), maybe(uidx));
            }
            Kind::AIndirection(indirection) => self.indirection(indirection),
            Kind::AArrayExpr(array) => self.nodes(&array.elements),
            Kind::NamedArgExpr(argument) => {
                let tree::NamedArgExpr { xpr, arg, name: _, argnumber: _, location: _ } = &**argument;
                visit!(self: maybe(xpr), maybe(arg));
            }
            Kind::List(list) => self.nodes(&list.items),
            other => self.strange(other),
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "what is not listed is strange, and refused")]
    fn construct(&mut self, kind: &Kind) {
        match kind {
            Kind::BoolExpr(expression) => {
                let tree::BoolExpr { xpr, boolop: _, args, location: _ } = &**expression;
                visit!(self: maybe(xpr), nodes(args));
            }
            Kind::SubLink(link) => {
                let tree::SubLink {
                    xpr,
                    sub_link_type: _,
                    sub_link_id: _,
                    testexpr,
                    oper_name,
                    subselect,
                    location: _,
                } = &**link;
                visit!(self: maybe(xpr), maybe(testexpr), nodes(oper_name), maybe(subselect));
            }
            Kind::NullTest(test) => {
                let tree::NullTest { xpr, arg, nulltesttype: _, argisrow: _, location: _ } = &**test;
                visit!(self: maybe(xpr), maybe(arg));
            }
            Kind::BooleanTest(test) => {
                let tree::BooleanTest { xpr, arg, booltesttype: _, location: _ } = &**test;
                visit!(self: maybe(xpr), maybe(arg));
            }
            Kind::CaseExpr(case) => {
                let tree::CaseExpr { xpr, casetype: _, casecollid: _, arg, args, defresult, location: _ } = &**case;
                visit!(self: maybe(xpr), maybe(arg), nodes(args), maybe(defresult));
            }
            Kind::CaseWhen(when) => {
                let tree::CaseWhen { xpr, expr, result, location: _ } = &**when;
                visit!(self: maybe(xpr), maybe(expr), maybe(result));
            }
            Kind::CoalesceExpr(coalesce) => {
                let tree::CoalesceExpr { xpr, coalescetype: _, coalescecollid: _, args, location: _ } = &**coalesce;
                visit!(self: maybe(xpr), nodes(args));
            }
            Kind::MinMaxExpr(extreme) => {
                let tree::MinMaxExpr { xpr, minmaxtype: _, minmaxcollid: _, inputcollid: _, op: _, args, location: _ } =
                    &**extreme;
                visit!(self: maybe(xpr), nodes(args));
            }
            Kind::RowExpr(row) => {
                let tree::RowExpr { xpr, args, row_typeid: _, row_format: _, colnames, location: _ } = &**row;
                visit!(self: maybe(xpr), nodes(args), nodes(colnames));
            }
            Kind::GroupingFunc(grouping) => {
                let tree::GroupingFunc { xpr, args, refs, agglevelsup: _, location: _ } = &**grouping;
                visit!(self: maybe(xpr), nodes(args), nodes(refs));
            }
            other => self.strange(other),
        }
    }

    pub fn call(&mut self, call: &tree::FuncCall) {
        let tree::FuncCall {
            funcname,
            args,
            agg_order,
            agg_filter,
            over,
            agg_within_group: _,
            agg_star: _,
            agg_distinct: _,
            func_variadic: _,
            funcformat: _,
            location,
        } = call;
        let parts = name_parts(funcname);
        if parts.len() != funcname.len() {
            self.demand(DemandKind::StrangeNode, "a function name of other parts than names", *location);
        }
        match parts.as_slice() {
            [name] => self.function(None, name, args.len(), Notation::Call, *location),
            // catalog.schema.name: PostgreSQL takes it only for the current database.
            [schema, name] | [_, schema, name] => {
                self.function(Some(schema), name, args.len(), Notation::Call, *location)
            }
            // Fails closed.
            _ => self.demand(DemandKind::StrangeNode, "a function name of that many parts", *location),
        }
        visit!(self: nodes(args), nodes(agg_order), maybe(agg_filter));
        if let Some(window) = over {
            self.window(window);
        }
    }

    /// `a.f` calls the function `f` where the row `a` has no column of that name, and `a` may stand for a scalar
    /// (`FROM generate_series(1, 2) AS a`). Only the last name can be one: those before it name the relation.
    fn column(&mut self, column: &tree::ColumnRef) {
        let tree::ColumnRef { fields, location } = column;
        self.estimates.on_column(&name_parts(fields), fields, *location);
        let [.., qualifier, last] = fields.as_slice() else { return };
        match (&qualifier.node, &last.node) {
            (Some(Kind::String(qualifier)), Some(Kind::String(name))) if is_doubtful(&name.sval) => {
                let (qualifier, name): (_, Box<str>) = (qualifier.sval.as_str().into(), name.sval.as_str().into());
                self.found.attributes.insert(attribute_key(&name));
                self.doubtful_columns.push(DoubtfulColumn { qualifier, name, location: *location });
            }
            // Fails closed: whatever is known decides, and what is no name calls nothing.
            _ => self.attribute(last, *location),
        }
    }

    /// `(x).f` calls `f(x)` where the value `x` has no field of that name, whatever its type.
    fn indirection(&mut self, indirection: &tree::AIndirection) {
        let tree::AIndirection { arg, indirection } = indirection;
        self.maybe(arg);
        for step in indirection {
            self.attribute(step, -1);
            self.node(step);
        }
    }

    fn attribute(&mut self, field: &tree::Node, location: i32) {
        if let Some(Kind::String(name)) = &field.node {
            self.estimates.on_column(&["", &name.sval], &[], location);
            self.function(None, &name.sval, 1, Notation::Attribute, location);
        }
    }

    fn operator(&mut self, expression: &tree::AExpr) {
        let tree::AExpr { kind: _, name, lexpr, rexpr, rexpr_list_start: _, rexpr_list_end: _, location } = expression;
        if let [schema, _] = name_parts(name).as_slice()
            && is_temporary(schema)
        {
            self.demand(DemandKind::TemporarySchema, schema, *location);
        }
        visit!(self: maybe(lexpr), maybe(rexpr));
    }

    fn cast(&mut self, cast: &tree::TypeCast) {
        let tree::TypeCast { arg, type_name, location: _ } = cast;
        visit!(self: maybe(arg), type_maybe(type_name));
    }

    pub fn collate(&mut self, collate: &tree::CollateClause) {
        let tree::CollateClause { arg, collname, location: _ } = collate;
        visit!(self: maybe(arg), nodes(collname));
    }

    pub fn type_maybe(&mut self, name: &Option<tree::TypeName>) {
        if let Some(name) = name {
            self.type_name(name);
        }
    }

    fn type_name(&mut self, name: &tree::TypeName) {
        let tree::TypeName { names, type_oid: _, setof: _, pct_type: _, typmods, typemod: _, array_bounds, location } =
            name;
        if let [schema, _] = name_parts(names).as_slice()
            && is_temporary(schema)
        {
            self.demand(DemandKind::TemporarySchema, schema, *location);
        }
        visit!(self: nodes(typmods), nodes(array_bounds));
    }

    // -- XML and JSON

    #[expect(clippy::wildcard_enum_match_arm, reason = "what is not listed is strange, and refused")]
    fn document(&mut self, kind: &Kind) {
        match kind {
            Kind::XmlExpr(xml) => self.xml(xml),
            Kind::XmlSerialize(xml) => {
                let tree::XmlSerialize { xmloption: _, expr, type_name, indent: _, location: _ } = &**xml;
                visit!(self: maybe(expr), type_maybe(type_name));
            }
            Kind::JsonOutput(output) => self.json_output(output),
            Kind::JsonArgument(argument) => {
                let tree::JsonArgument { val, name: _ } = &**argument;
                self.json_value_maybe(val);
            }
            Kind::JsonFuncExpr(function) => self.json_function(function),
            Kind::JsonKeyValue(pair) => self.json_pair(pair),
            Kind::JsonValueExpr(value) => self.json_value(value),
            Kind::JsonBehavior(behavior) => self.json_behavior(behavior),
            Kind::JsonIsPredicate(predicate) => {
                let tree::JsonIsPredicate { expr, format: _, item_type: _, unique_keys: _, location: _ } = &**predicate;
                self.maybe(expr);
            }
            other => self.strange(other),
        }
    }

    fn xml(&mut self, xml: &tree::XmlExpr) {
        let tree::XmlExpr {
            xpr,
            op: _,
            name: _,
            named_args,
            arg_names,
            args,
            xmloption: _,
            indent: _,
            r#type: _,
            typmod: _,
            location: _,
        } = xml;
        visit!(self: maybe(xpr), nodes(named_args), nodes(arg_names), nodes(args));
    }

    fn json_function(&mut self, function: &tree::JsonFuncExpr) {
        let tree::JsonFuncExpr {
            op: _,
            column_name: _,
            context_item,
            pathspec,
            passing,
            output,
            on_empty,
            on_error,
            wrapper: _,
            quotes: _,
            location: _,
        } = function;
        visit!(self: json_value_maybe(context_item), maybe(pathspec), nodes(passing), json_output_maybe(output));
        visit!(self: json_behavior_maybe(on_empty), json_behavior_maybe(on_error));
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "what is not listed is strange, and refused")]
    fn json_constructor(&mut self, kind: &Kind) {
        match kind {
            Kind::JsonParseExpr(parse) => {
                let tree::JsonParseExpr { expr, output, unique_keys: _, location: _ } = &**parse;
                visit!(self: json_value_maybe(expr), json_output_maybe(output));
            }
            Kind::JsonScalarExpr(scalar) => {
                let tree::JsonScalarExpr { expr, output, location: _ } = &**scalar;
                visit!(self: maybe(expr), json_output_maybe(output));
            }
            Kind::JsonSerializeExpr(serialize) => {
                let tree::JsonSerializeExpr { expr, output, location: _ } = &**serialize;
                visit!(self: json_value_maybe(expr), json_output_maybe(output));
            }
            Kind::JsonObjectConstructor(object) => {
                let tree::JsonObjectConstructor { exprs, output, absent_on_null: _, unique: _, location: _ } = object;
                visit!(self: nodes(exprs), json_output_maybe(output));
            }
            Kind::JsonArrayConstructor(array) => {
                let tree::JsonArrayConstructor { exprs, output, absent_on_null: _, location: _ } = array;
                visit!(self: nodes(exprs), json_output_maybe(output));
            }
            Kind::JsonArrayQueryConstructor(array) => {
                let tree::JsonArrayQueryConstructor { query, output, format: _, absent_on_null: _, location: _ } =
                    &**array;
                visit!(self: maybe(query), json_output_maybe(output));
            }
            Kind::JsonAggConstructor(aggregate) => self.json_aggregate(aggregate),
            Kind::JsonObjectAgg(aggregate) => {
                let tree::JsonObjectAgg { constructor, arg, absent_on_null: _, unique: _ } = &**aggregate;
                self.json_aggregate_maybe(constructor);
                if let Some(pair) = arg {
                    self.json_pair(pair);
                }
            }
            Kind::JsonArrayAgg(aggregate) => {
                let tree::JsonArrayAgg { constructor, arg, absent_on_null: _ } = &**aggregate;
                visit!(self: json_aggregate_maybe(constructor), json_value_maybe(arg));
            }
            other => self.strange(other),
        }
    }

    fn json_aggregate_maybe(&mut self, aggregate: &Option<Box<tree::JsonAggConstructor>>) {
        if let Some(aggregate) = aggregate {
            self.json_aggregate(aggregate);
        }
    }

    fn json_aggregate(&mut self, aggregate: &tree::JsonAggConstructor) {
        let tree::JsonAggConstructor { output, agg_filter, agg_order, over, location: _ } = aggregate;
        visit!(self: json_output_maybe(output), maybe(agg_filter), nodes(agg_order));
        if let Some(window) = over {
            self.window(window);
        }
    }

    fn json_pair(&mut self, pair: &tree::JsonKeyValue) {
        let tree::JsonKeyValue { key, value } = pair;
        visit!(self: maybe(key), json_value_maybe(value));
    }

    fn json_value_maybe(&mut self, value: &Option<Box<tree::JsonValueExpr>>) {
        if let Some(value) = value {
            self.json_value(value);
        }
    }

    fn json_value(&mut self, value: &tree::JsonValueExpr) {
        let tree::JsonValueExpr { raw_expr, formatted_expr, format: _ } = value;
        visit!(self: maybe(raw_expr), maybe(formatted_expr));
    }

    fn json_output_maybe(&mut self, output: &Option<tree::JsonOutput>) {
        if let Some(output) = output {
            self.json_output(output);
        }
    }

    fn json_output(&mut self, output: &tree::JsonOutput) {
        let tree::JsonOutput { type_name, returning: _ } = output;
        self.type_maybe(type_name);
    }

    fn json_behavior_maybe(&mut self, behavior: &Option<Box<tree::JsonBehavior>>) {
        if let Some(behavior) = behavior {
            self.json_behavior(behavior);
        }
    }

    fn json_behavior(&mut self, behavior: &tree::JsonBehavior) {
        let tree::JsonBehavior { btype: _, expr, coerce: _, location: _ } = behavior;
        self.maybe(expr);
    }
}

/// The parts of a qualified name.
pub(super) fn name_parts(nodes: &[tree::Node]) -> Vec<&str> {
    nodes
        .iter()
        .filter_map(|node| match &node.node {
            Some(Kind::String(part)) => Some(part.sval.as_str()),
            // The grammar makes names of strings alone; `call` refuses a function's name that is not.
            _ => None,
        })
        .collect()
}

/// Whether `a.name` is refused only if it calls a function.
fn is_doubtful(name: &str) -> bool {
    functions::class_of(None, name, 1, Notation::Attribute) == FunctionClass::Unknown
}

/// The last name of the first function of an item of `ROWS FROM`, which are lists of a call and its columns.
fn name_of_call(item: &tree::Node) -> Option<Box<str>> {
    match &item.node {
        Some(Kind::List(list)) => list.items.first().and_then(name_of_call),
        Some(Kind::FuncCall(call)) => name_parts(&call.funcname).last().map(|&name| name.into()),
        // CURRENT_USER and such.
        _ => None,
    }
}

/// Whether a relation is temporary when it is made.
pub(super) fn is_made_temporary(relation: &tree::RangeVar) -> bool {
    relation.relpersistence == "t" || is_temporary(&relation.schemaname)
}

/// Whether a schema is one of those that only temporary objects live in.
pub(super) fn is_temporary(schema: &str) -> bool {
    schema == "pg_temp" || schema.starts_with("pg_temp_") || schema.starts_with("pg_toast_temp")
}

/// A statement that writes rows and gives how many by its tag, where it stands alone.
const fn is_write(kind: &Kind) -> bool {
    matches!(kind, Kind::InsertStmt(_) | Kind::UpdateStmt(_) | Kind::DeleteStmt(_) | Kind::MergeStmt(_))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::parser;
    use super::super::statement::facts_of;
    use super::super::text::Limits;
    use super::super::{Control, Facts, Policy, PolicySettings, Preset};

    /// Every structure of a name anywhere in a tree, found through serde: it knows no structure and misses none.
    fn structures<'v>(name: &str, value: &'v Value, found: &mut Vec<&'v Value>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| structures(name, item, found)),
            Value::Object(fields) => {
                for (key, field) in fields {
                    // Aliases of the statement's own relations, not relations.
                    if key == "locked_rels" {
                        continue;
                    }
                    if key == name || (name == "RangeVar" && key == "relation") {
                        found.push(field);
                    }
                    structures(name, field, found);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn last_name(call: &Value) -> String {
        let parts = call["funcname"].as_array().unwrap();
        parts.last().unwrap()["node"]["String"]["sval"].as_str().unwrap().to_owned()
    }

    fn names(facts: &Facts) -> (Vec<&str>, Vec<&str>) {
        let statements = || facts.statements.iter();
        let functions = statements().flat_map(|statement| statement.functions.iter().map(|function| &*function.name));
        let relations = statements().flat_map(|statement| statement.relations.iter().map(|relation| &*relation.name));
        (functions.collect(), relations.collect())
    }

    #[test]
    fn the_walk_sees_every_function_and_relation_that_is_in_the_tree() {
        let policy = |preset| Policy::new(&PolicySettings { preset, ..PolicySettings::default() });
        // What any login may say: data definition, too.
        let policies = [Preset::Tenant, Preset::Migration, Preset::Bypass].map(policy);
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/guard");
        let (mut calls_seen, mut relations_seen) = (0, 0);
        for entry in std::fs::read_dir(folder).unwrap() {
            let table = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            for (_, sql) in table.split("\n-- ").filter_map(|block| block.split_once('\n')) {
                let sql = sql.trim().replace("{f}", "f_in_place(g_in_place(1))");
                let Ok(facts) = facts_of(sql.as_bytes(), &Limits::default()) else { continue };
                // The release form and set_config's are known as a whole.
                let is_known = sql.contains("pg_advisory_unlock_all")
                    || facts.statements.iter().any(|statement| matches!(statement.control, Control::Configure(_)));
                if policies.iter().all(|policy| policy.judge(&facts).is_err()) || is_known {
                    continue;
                }
                let (functions, relations) = names(&facts);
                let tree = serde_json::to_value(parser::parse(&sql).unwrap()).unwrap();
                let (mut calls, mut ranges) = (Vec::new(), Vec::new());
                structures("FuncCall", &tree, &mut calls);
                structures("RangeVar", &tree, &mut ranges);
                for call in calls {
                    assert!(functions.contains(&&*last_name(call)), "{sql}\n{call}");
                    calls_seen += 1;
                }
                let ranges = ranges.iter().filter(|_| !sql.starts_with("SET CONSTRAINTS"));
                for relation in ranges.filter_map(|range| range["relname"].as_str()) {
                    assert!(relations.contains(&relation), "{sql}\n{relation}");
                    relations_seen += 1;
                }
            }
        }
        assert!(calls_seen > 800 && relations_seen > 500, "{calls_seen} {relations_seen}");
    }
}
