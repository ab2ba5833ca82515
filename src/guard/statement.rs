//! From a text to the facts about its statements.
//!
//! Owns: what each kind of statement is and does (class, control, scope). Does not own: the walk over expressions
//! (`walk`) or any judgement (`policy`).

use std::sync::Arc;

use super::claim::{self, Claim};
use super::configure;
use super::definition;
use super::facts::{Access, Control, DemandKind, End, Facts, FunctionUse, RelationUse, Statement, StatementClass};
use super::functions::FunctionClass;
use super::nodes;
use super::parser::{self, Kind, ParseFault, tree};
use super::relations::RelationClass;
use super::settings;
use super::state;
use super::text::{self, InspectFault, Inspected, Limits, Positions};
use super::walk::{self, Found, Walk};
use crate::fault::Fault;

/// Finds the facts about a text.
///
/// The parser recurses: call this only on a thread with a deep stack (64 MB hold any text of the default length).
///
/// # Errors
/// The fault that a client is to see if the text cannot be checked.
pub fn inspect(sql: &[u8], limits: &Limits) -> Inspected {
    facts_of(sql, limits).map(Arc::new).map_err(|fault| Arc::new(Fault::from(fault)))
}

pub(super) fn facts_of(sql: &[u8], limits: &Limits) -> Result<Facts, InspectFault> {
    let text = text::check(sql, limits)?;
    let tree = parser::parse(text).map_err(|fault| match fault {
        ParseFault::Syntax { message, position } => InspectFault::Syntax { message, position },
        ParseFault::TooDeep => InspectFault::TooDeep,
        ParseFault::Nul => InspectFault::Nul,
        ParseFault::Undecodable => InspectFault::Defect,
    })?;
    let positions = Positions::new(text);
    let statements: Box<[Statement]> = tree.stmts.iter().map(|raw| statement(raw, &positions)).collect();
    let bytes = statements.iter().map(weight).sum();
    Ok(Facts { statements, bytes })
}

/// What a statement's facts occupy, roughly.
fn weight(statement: &Statement) -> usize {
    let functions: usize =
        statement.functions.iter().map(|function| size_of::<FunctionUse>() + function.name.len()).sum();
    let relations: usize =
        statement.relations.iter().map(|relation| size_of::<RelationUse>() + relation.name.len()).sum();
    let demands: usize = statement.demands.iter().map(|demand| 40 + demand.detail.len()).sum();
    let keys = size_of_val(&*statement.attributes) + size_of_val(&*statement.writes);
    size_of::<Statement>() + functions + relations + demands + keys
}

fn statement(raw: &tree::RawStmt, positions: &Positions<'_>) -> Statement {
    let mut draft = Draft::new(raw, positions);
    match raw.stmt.as_ref().and_then(|node| node.node.as_ref()) {
        Some(kind) => draft.read(kind),
        None => draft.class = StatementClass::NotAStatement,
    }
    draft.finish()
}

/// A statement whose facts are being gathered.
struct Draft<'t> {
    start: u32,
    end: u32,
    class: StatementClass,
    control: Control,
    walk: Walk<'t>,
    needs_scope: bool,
    outside_block: bool,
    /// A temporary object that its transaction's end drops.
    ends_with_transaction: bool,
    /// The name that SQL's PREPARE gives.
    prepares: Option<Box<str>>,
    claim: Option<Box<Claim>>,
    is_reset: bool,
}

impl<'t> Draft<'t> {
    fn new(raw: &tree::RawStmt, positions: &'t Positions<'t>) -> Self {
        let text_bytes = positions.text().len() as u32;
        let start = u32::try_from(raw.stmt_location).unwrap_or(0);
        // A length of 0 means "to the end of the text".
        let end = match u32::try_from(raw.stmt_len) {
            Ok(0) | Err(_) => text_bytes,
            Ok(length) => (start + length).min(text_bytes),
        };
        let class = StatementClass::NotAStatement;
        Self {
            start,
            end,
            class,
            control: Control::None,
            walk: Walk::new(positions),
            needs_scope: true,
            outside_block: false,
            ends_with_transaction: false,
            prepares: None,
            claim: None,
            is_reset: false,
        }
    }

    fn finish(self) -> Statement {
        let Found { functions, relations, demands, mut writes, writes_in_with, attributes } = self.walk.finish();
        writes.retain(|class| *class != self.class);
        let state = state::use_of(state::Found {
            class: self.class,
            control: &self.control,
            functions: &functions,
            demands: &demands,
            ends_with_transaction: self.ends_with_transaction,
            name: self.prepares,
        });
        let mut statement = Statement {
            start: self.start,
            end: End::At(self.end),
            copy_in: self.class == StatementClass::CopyIn,
            outside_block: self.outside_block,
            class: self.class,
            needs_scope: self.needs_scope,
            control: self.control,
            functions: functions.into(),
            relations: relations.into(),
            demands: demands.into(),
            state,
            claim: self.claim,
            is_reset: self.is_reset,
            writes: writes.into(),
            writes_in_with,
            attributes: attributes.into_iter().collect(),
            is_ordinary: false,
        };
        statement.is_ordinary = is_ordinary(&statement);
        statement
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the class, which every kind has, decides whether it may run")]
    fn read(&mut self, kind: &Kind) {
        self.class = nodes::class_of(kind);
        self.needs_scope = needs_scope(self.class);
        definition::note(kind, &mut self.walk);
        self.outside_block = definition::runs_outside_blocks(kind);
        match kind {
            Kind::SelectStmt(select) => self.select(kind, select),
            Kind::InsertStmt(_) | Kind::UpdateStmt(_) | Kind::DeleteStmt(_) | Kind::MergeStmt(_) => {
                self.walk.kind(kind)
            }
            Kind::CopyStmt(copy) => self.copy(copy),
            Kind::DeclareCursorStmt(declare) => self.declare(declare),
            Kind::TransactionStmt(transaction) => self.transaction(transaction),
            Kind::VariableSetStmt(set) => self.set(set),
            Kind::ExplainStmt(explain) => self.walk.maybe(&explain.query),
            Kind::PrepareStmt(prepare) => self.prepare(prepare),
            Kind::ExecuteStmt(execute) => {
                self.reserve(&execute.name);
                self.walk.nodes(&execute.params);
            }
            // What stands in for other statements is an UNLISTEN of this one.
            Kind::ListenStmt(listen) if listen.conditionname == "tenantgate" => {
                self.walk.demand(DemandKind::ReservedName, &listen.conditionname, -1);
            }
            Kind::DropStmt(drop) if definition::drops_temporary(drop) => self.class = StatementClass::DropTemporary,
            Kind::CallStmt(call) => {
                if let Some(call) = &call.funccall {
                    self.walk.call(call);
                }
            }
            Kind::CreateTableAsStmt(create) => {
                let into = create.into.as_ref();
                self.ends_with_transaction = into.is_some_and(|into| is_dropped(into.on_commit()));
                self.temporary(into.and_then(|into| into.rel.as_ref()));
            }
            Kind::CreateStmt(create) => {
                self.ends_with_transaction = is_dropped(create.oncommit());
                self.temporary(create.relation.as_ref());
            }
            Kind::ViewStmt(view) => self.temporary(view.view.as_ref()),
            Kind::CreateSeqStmt(sequence) => self.temporary(sequence.sequence.as_ref()),
            other => self.control = simple_control(other),
        }
    }

    fn select(&mut self, kind: &Kind, select: &tree::SelectStmt) {
        self.claim = claim::of_select(select);
        if is_advisory_unlock_all(select) {
            self.class = StatementClass::AdvisoryUnlockAll;
            self.control = Control::AdvisoryUnlockAll;
            self.needs_scope = false;
        } else if let Some(configurations) = configure::configurations(select) {
            // It may read the tenant besides, so it still needs scope.
            self.class = StatementClass::Setting;
            self.control = Control::Configure(configurations);
        } else {
            self.walk.kind(kind);
        }
    }

    fn copy(&mut self, copy: &tree::CopyStmt) {
        let tree::CopyStmt { relation, query, attlist, is_from, is_program, filename, options: _, where_clause } = copy;
        self.class = match (*is_program || !filename.is_empty(), *is_from) {
            (true, _) => StatementClass::CopyServer,
            (false, true) => StatementClass::CopyIn,
            (false, false) => StatementClass::CopyOut,
        };
        match relation {
            Some(relation) if *is_from => self.walk.relation(relation, Access::Write),
            Some(relation) => self.walk.copied(relation, attlist),
            None => {}
        }
        self.walk.maybe(query);
        self.walk.maybe(where_clause);
    }

    fn prepare(&mut self, prepare: &tree::PrepareStmt) {
        let tree::PrepareStmt { name, argtypes, query } = prepare;
        self.reserve(name);
        self.prepares = Some(name.as_str().into());
        self.walk.elements(argtypes);
        self.walk.maybe(query);
    }

    /// A name under which the proxy keeps something on every server.
    fn reserve(&mut self, name: &str) {
        if state::is_reserved(name) {
            self.walk.demand(DemandKind::ReservedName, name, -1);
        }
    }

    fn declare(&mut self, declare: &tree::DeclareCursorStmt) {
        /// `CURSOR_OPT_HOLD` of PostgreSQL's parsenodes.h.
        const HOLD: i32 = 0x0020;
        let tree::DeclareCursorStmt { portalname, options, query } = declare;
        if options & HOLD != 0 {
            self.reserve(portalname);
            self.walk.demand(DemandKind::HoldCursor, portalname, -1);
        } else if state::is_portal(portalname) {
            self.walk.demand(DemandKind::ReservedName, portalname, -1);
        }
        self.walk.maybe(query);
    }

    fn transaction(&mut self, transaction: &tree::TransactionStmt) {
        use tree::TransactionStmtKind as Step;
        let tree::TransactionStmt { kind: _, options: _, savepoint_name, gid: _, chain, location: _ } = transaction;
        let (name, chain) = (|| Box::<str>::from(savepoint_name.as_str()), *chain);
        self.control = match transaction.kind() {
            Step::TransStmtBegin | Step::TransStmtStart => Control::Begin,
            Step::TransStmtCommit => Control::Commit { chain },
            Step::TransStmtRollback => Control::Rollback { chain },
            Step::TransStmtSavepoint => Control::Savepoint(name()),
            Step::TransStmtRelease => Control::Release(name()),
            Step::TransStmtRollbackTo => Control::RollbackTo(name()),
            Step::TransStmtPrepare | Step::TransStmtCommitPrepared | Step::TransStmtRollbackPrepared => {
                self.class = StatementClass::TwoPhase;
                Control::None
            }
            Step::Undefined => {
                self.class = StatementClass::NotAStatement;
                Control::None
            }
        };
        // A savepoint is undone by ROLLBACK TO, and what is set after it with it.
        self.needs_scope = matches!(self.control, Control::Savepoint(_));
    }

    fn set(&mut self, set: &tree::VariableSetStmt) {
        use tree::VariableSetKind as Form;
        let name = settings::canonical_name(&set.name);
        let local = set.is_local;
        match set.kind() {
            Form::VarSetValue => self.set_value(name, &set.args, local),
            Form::VarSetDefault => self.control = Control::Reset { name, local },
            Form::VarReset => {
                self.control = Control::Reset { name, local: false };
                self.is_reset = true;
            }
            Form::VarResetAll => self.control = Control::ResetAll,
            Form::VarSetMulti => self.set_transaction(&set.name, &set.args),
            Form::VarSetCurrent => self.set_otherwise(name, "SET … FROM CURRENT", local),
            Form::Undefined => self.class = StatementClass::NotAStatement,
        }
    }

    fn set_value(&mut self, name: Box<str>, arguments: &[tree::Node], local: bool) {
        match settings::flatten(&name, arguments) {
            Ok(_) if settings::is_of_the_transaction(&name) => {
                self.class = StatementClass::Transaction;
                self.control = Control::SetTransaction;
            }
            Ok(value) => self.control = Control::Set { name, value, local },
            Err(settings::Unflattened(form)) => self.set_otherwise(name, form, local),
        }
    }

    /// A SET that no `set_config` can say is refused; but its name still decides first: SET of a scope setting in any
    /// form is a scope change.
    fn set_otherwise(&mut self, name: Box<str>, form: &str, local: bool) {
        self.walk.demand(DemandKind::SettingForm, form, -1);
        self.control = Control::Reset { name, local };
    }

    fn set_transaction(&mut self, what: &str, options: &[tree::Node]) {
        match what {
            "TRANSACTION" => {
                self.class = StatementClass::Transaction;
                self.control = Control::SetTransaction;
            }
            "TRANSACTION SNAPSHOT" => {
                self.class = StatementClass::Transaction;
                self.walk.demand(DemandKind::Snapshot, "SET TRANSACTION SNAPSHOT", -1);
            }
            "SESSION CHARACTERISTICS" => match settings::transaction_options(options) {
                Ok(options) => {
                    let named = |(name, value): (&str, &str)| (format!("default_{name}").into(), value.into());
                    self.control = Control::SetCharacteristics(options.into_iter().map(named).collect());
                }
                Err(settings::Unflattened(form)) => self.walk.demand(DemandKind::SettingForm, form, -1),
            },
            other => self.walk.demand(DemandKind::SettingForm, other, -1),
        }
    }

    fn temporary(&mut self, relation: Option<&tree::RangeVar>) {
        if relation.is_some_and(walk::is_made_temporary) {
            self.class = StatementClass::CreateTemporary;
        } else {
            self.walk.target(relation);
        }
    }
}

/// The controls that need nothing but the statement itself. What is not named here has none; whether it
/// may run is its class's matter.
#[expect(clippy::wildcard_enum_match_arm, reason = "the class, which every kind has, decides whether it may run")]
fn simple_control(kind: &Kind) -> Control {
    match kind {
        Kind::VariableShowStmt(show) => Control::Show(settings::canonical_name(&show.name)),
        Kind::ClosePortalStmt(close) if close.portalname.is_empty() => Control::CloseAll,
        Kind::ClosePortalStmt(close) => Control::CloseCursor(close.portalname.as_str().into()),
        Kind::DeallocateStmt(deallocate) if deallocate.isall || deallocate.name.is_empty() => Control::DeallocateAll,
        Kind::DeallocateStmt(deallocate) => Control::Deallocate(deallocate.name.as_str().into()),
        Kind::UnlistenStmt(unlisten) if unlisten.conditionname.is_empty() => Control::UnlistenAll,
        Kind::UnlistenStmt(unlisten) => Control::Unlisten(unlisten.conditionname.as_str().into()),
        Kind::DiscardStmt(discard) => match discard.target() {
            tree::DiscardMode::DiscardAll | tree::DiscardMode::Undefined => Control::DiscardAll,
            tree::DiscardMode::DiscardPlans => Control::DiscardPlans,
            tree::DiscardMode::DiscardSequences => Control::DiscardSequences,
            tree::DiscardMode::DiscardTemp => Control::DiscardTemp,
        },
        _ => Control::None,
    }
}

/// Whether a class reads or writes data or may call a function.
fn needs_scope(class: StatementClass) -> bool {
    use StatementClass as Class;
    match class {
        Class::Select | Class::Insert | Class::Update | Class::Delete | Class::Merge => true,
        Class::CopyIn | Class::CopyOut | Class::CopyServer => true,
        Class::DeclareCursor | Class::Fetch | Class::Prepare | Class::Execute | Class::Explain => true,
        Class::Truncate | Class::Call | Class::Do | Class::Load | Class::CreateTableAs | Class::CreateTemporary => true,
        Class::Definition | Class::Privileges | Class::Roles | Class::Policies | Class::DropTemporary => true,
        Class::Maintenance | Class::Refresh | Class::Checkpoint | Class::Administration => true,
        Class::NotAStatement => true,
        Class::CloseCursor | Class::Transaction | Class::TwoPhase | Class::SetConstraints | Class::Setting => false,
        Class::Claim | Class::Show => false,
        Class::Discard | Class::Deallocate | Class::Listen | Class::Unlisten | Class::Notify => false,
        Class::AdvisoryUnlockAll | Class::Lock => false,
    }
}

fn is_dropped(on_commit: tree::OnCommitAction) -> bool {
    on_commit == tree::OnCommitAction::OncommitDrop
}

/// Whether no name in it needs a look: see [`Statement::is_ordinary`].
fn is_ordinary(statement: &Statement) -> bool {
    use StatementClass as Class;
    let is_ordinary_class = matches!(
        statement.class,
        Class::Select
            | Class::Insert
            | Class::Update
            | Class::Delete
            | Class::Merge
            | Class::CopyIn
            | Class::CopyOut
            | Class::DeclareCursor
            | Class::Fetch
            | Class::CloseCursor
            | Class::SetConstraints
            | Class::Transaction
            | Class::AdvisoryUnlockAll
    );
    let is_plain = |function: &FunctionUse| matches!(function.class, FunctionClass::Plain | FunctionClass::User);
    let is_open = |relation: &RelationUse| match relation.class {
        RelationClass::User => true,
        RelationClass::Readable | RelationClass::Settings => relation.access == Access::Read,
        RelationClass::Sequences | RelationClass::OtherSessions | RelationClass::Statistics => false,
        RelationClass::Secret | RelationClass::Unknown => false,
    };
    is_ordinary_class
        && statement.demands.is_empty()
        && statement.functions.iter().all(is_plain)
        && statement.relations.iter().all(is_open)
}

/// Exactly `SELECT pg_advisory_unlock_all()`, the name optionally qualified with `pg_catalog`.
fn is_advisory_unlock_all(select: &tree::SelectStmt) -> bool {
    let [tree::Node { node: Some(Kind::ResTarget(target)) }] = select.target_list.as_slice() else { return false };
    let Some(Kind::FuncCall(call)) = target.val.as_ref().and_then(|node| node.node.as_ref()) else { return false };
    let is_the_function = matches!(
        walk::name_parts(&call.funcname).as_slice(),
        ["pg_advisory_unlock_all"] | ["pg_catalog", "pg_advisory_unlock_all"]
    );
    let plain_call = tree::FuncCall {
        funcname: call.funcname.clone(),
        funcformat: call.funcformat,
        location: call.location,
        ..tree::FuncCall::default()
    };
    let plain_target =
        tree::ResTarget { val: target.val.clone(), location: target.location, ..tree::ResTarget::default() };
    let plain_select = tree::SelectStmt {
        target_list: select.target_list.clone(),
        limit_option: select.limit_option,
        op: select.op,
        ..tree::SelectStmt::default()
    };
    is_the_function && **call == plain_call && **target == plain_target && *select == plain_select
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(sql: &str) -> Facts {
        facts_of(sql.as_bytes(), &Limits::default()).unwrap()
    }

    fn control(sql: &str) -> Control {
        facts(sql).statements[0].control.clone()
    }

    /// Each was compared on PostgreSQL 15 and 18: SHOW says the same after SET and after `set_config`.
    #[test]
    fn values_are_what_set_config_takes() {
        for (sql, wanted_name, wanted) in [
            (
                "SET search_path = a, \"B c\", \"x\"\"y\", \"select\", name",
                "search_path",
                "a, \"B c\", \"x\"\"y\", \"select\", name",
            ),
            ("SET search_path = ''", "search_path", "\"\""),
            ("SET search_path = 'a,b', c", "search_path", "\"a,b\", c"),
            ("SET search_path TO \"$user\", public", "search_path", "\"$user\", public"),
            ("SET SCHEMA 'shop'", "search_path", "shop"),
            ("SET DateStyle = 'SQL', DMY", "datestyle", "SQL, dmy"),
            ("SET TIME ZONE -7", "timezone", "-7"),
            ("SET TIME ZONE 5.5", "timezone", "5.5"),
            ("SET TIME ZONE INTERVAL '+02:00' HOUR TO MINUTE", "timezone", "INTERVAL '02:00:00'"),
            ("SET TIME ZONE INTERVAL '-5:30'", "timezone", "INTERVAL '-05:30:00'"),
            ("SET NAMES 'utf8'", "client_encoding", "utf8"),
            ("SET statement_timeout = 5000", "statement_timeout", "5000"),
            ("SET jit = TRUE", "jit", "true"),
            ("SET jit TO on", "jit", "on"),
            ("SET application_name = 'it''s'", "application_name", "it's"),
            ("SET XML OPTION DOCUMENT", "xmloption", "DOCUMENT"),
        ] {
            let Control::Set { name, value, local: false } = control(sql) else { panic!("{sql}: {:?}", control(sql)) };
            assert_eq!((&*name, &*value), (wanted_name, wanted), "{sql}");
        }
        let long = format!("SET application_name TO {}", "a".repeat(80));
        assert!(matches!(control(&long), Control::Set { value, .. } if value.len() == 63));
    }

    #[test]
    fn controls_say_what_statements_do() {
        for (sql, wanted) in [
            ("SELECT 1", Control::None),
            ("START TRANSACTION READ ONLY", Control::Begin),
            ("END AND CHAIN", Control::Commit { chain: true }),
            ("ABORT", Control::Rollback { chain: false }),
            ("SAVEPOINT \"A b\"", Control::Savepoint("A b".into())),
            ("RELEASE a", Control::Release("a".into())),
            ("ROLLBACK TO SAVEPOINT A", Control::RollbackTo("a".into())),
            ("SET LOCAL transaction_read_only = on", Control::SetTransaction),
            ("SET TIME ZONE DEFAULT", Control::Reset { name: "timezone".into(), local: false }),
            ("SET LOCAL jit TO DEFAULT", Control::Reset { name: "jit".into(), local: true }),
            ("RESET ALL", Control::ResetAll),
            ("DISCARD TEMP", Control::DiscardTemp),
            ("CLOSE ALL", Control::CloseAll),
            ("CLOSE c", Control::CloseCursor("c".into())),
            ("UNLISTEN *", Control::UnlistenAll),
            ("DEALLOCATE PREPARE s", Control::Deallocate("s".into())),
            ("SELECT pg_catalog.pg_advisory_unlock_all()", Control::AdvisoryUnlockAll),
            ("SHOW TIME ZONE", Control::Show("timezone".into())),
            ("SHOW ALL", Control::Show("all".into())),
        ] {
            assert_eq!(control(sql), wanted, "{sql}");
        }
        let Control::SetCharacteristics(options) = control(
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY, NOT DEFERRABLE",
        ) else {
            panic!()
        };
        let options: Vec<_> = options.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let wanted = [
            "default_transaction_isolation=serializable",
            "default_transaction_read_only=on",
            "default_transaction_deferrable=off",
        ];
        assert_eq!(options, wanted);
    }

    #[test]
    fn ranges_hold_each_statement_without_its_semicolon() {
        let sql = " SELECT 'é;' ; /* x; */ BEGIN;; COMMIT ";
        let facts = facts(sql);
        let texts: Vec<_> = facts.statements.iter().map(|statement| sql[statement.range(sql.len())].trim()).collect();
        assert_eq!(texts.len(), 3);
        assert_eq!(texts[0], "SELECT 'é;'");
        assert!(texts[1].ends_with("BEGIN"), "{}", texts[1]);
        assert_eq!(texts[2], "COMMIT");
    }

    #[test]
    fn scope_is_needed_by_what_reads_or_writes_or_may_call() {
        for (sql, wanted) in [
            ("SELECT 1", true),
            ("COPY t FROM STDIN", true),
            ("DECLARE c CURSOR FOR SELECT 1", true),
            ("FETCH c", true),
            ("SAVEPOINT a", true),
            ("RELEASE a", false),
            ("ROLLBACK TO a", false),
            ("BEGIN", false),
            ("COMMIT", false),
            ("SET jit = off", false),
            ("SHOW jit", false),
            ("SET CONSTRAINTS ALL DEFERRED", false),
            ("SET TRANSACTION READ ONLY", false),
            ("DISCARD ALL", false),
            ("LOCK t", false),
            ("CLOSE c", false),
        ] {
            assert_eq!(facts(sql).statements[0].needs_scope, wanted, "{sql}");
        }
        assert!(facts("COPY t FROM STDIN").statements[0].copy_in);
        assert!(!facts("COPY t TO STDOUT").statements[0].copy_in);
    }
}
