//! Every kind of node the parser knows, decided.
//!
//! Owns: two tables over the whole set: what a kind means inside an allowed statement, and which class of
//! statement it is at the top. They are total: a kind that a newer parser adds does not compile until it is
//! put somewhere, and `Strange` / `NotAStatement` are refused.

use super::facts::StatementClass;
use super::parser::Kind;

/// What a node is to the walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A clause or a nested statement.
    Clause,
    /// Something in FROM.
    Source,
    /// An expression that names things.
    Expression,
    /// An expression of fixed syntax.
    Construct,
    /// An XML or JSON expression.
    Document,
    /// A JSON constructor or aggregate.
    JsonConstructor,
    /// Nothing below it, and nothing to note.
    Leaf,
    /// No allowed statement holds it.
    Strange,
}

macro_rules! roles {
    ($($role:ident { $($kind:ident)+ })+) => {
        /// The role of a node.
        pub(super) fn role_of(kind: &Kind) -> Role {
            match kind { $($( Kind::$kind(_) => Role::$role, )+)+ }
        }

        /// The name of a node's kind.
        pub(super) fn name_of(kind: &Kind) -> &'static str {
            match kind { $($( Kind::$kind(_) => stringify!($kind), )+)+ }
        }
    };
}

macro_rules! classes {
    ($($class:ident { $($kind:ident)+ })+) => {
        /// The class of a statement, as far as its kind tells; `statement` refines it.
        pub(super) fn class_of(kind: &Kind) -> StatementClass {
            match kind { $($( Kind::$kind(_) => StatementClass::$class, )+)+ }
        }
    };
}

roles! {
    Clause {
        SelectStmt InsertStmt UpdateStmt DeleteStmt MergeStmt RawStmt WithClause CommonTableExpr CtesearchClause
        CtecycleClause InferClause IndexElem OnConflictClause MergeWhenClause ReturningClause LockingClause
        GroupingSet SortBy WindowDef ResTarget MultiAssignRef
    }
    Source {
        RangeVar RangeSubselect RangeFunction RangeTableFunc RangeTableFuncCol RangeTableSample JoinExpr ColumnDef
        JsonTable JsonTableColumn JsonTablePathSpec
    }
    Expression {
        FuncCall ColumnRef AExpr TypeCast TypeName CollateClause AIndices AIndirection AArrayExpr NamedArgExpr List
    }
    Construct {
        BoolExpr SubLink NullTest BooleanTest CaseExpr CaseWhen CoalesceExpr MinMaxExpr RowExpr GroupingFunc
    }
    Document {
        XmlExpr XmlSerialize JsonOutput JsonArgument JsonFuncExpr JsonKeyValue JsonValueExpr JsonBehavior
        JsonIsPredicate
    }
    JsonConstructor {
        JsonParseExpr JsonScalarExpr JsonSerializeExpr JsonObjectConstructor JsonArrayConstructor
        JsonArrayQueryConstructor JsonAggConstructor JsonObjectAgg JsonArrayAgg
    }
    Leaf {
        Alias ReturningOption SetToDefault CurrentOfExpr ParamRef AConst AStar SqlvalueFunction MergeSupportFunc
        JsonFormat JsonReturning Integer Float Boolean String BitString
    }
    Strange {
        TableFunc IntoClause Var Param Aggref WindowFunc WindowFuncRunCondition SubscriptingRef FuncExpr OpExpr
        DistinctExpr NullIfExpr ScalarArrayOpExpr SubPlan AlternativeSubPlan FieldSelect FieldStore RelabelType
        CoerceViaIo ArrayCoerceExpr ConvertRowtypeExpr CollateExpr CaseTestExpr ArrayExpr RowCompareExpr
        JsonConstructorExpr JsonExpr JsonTablePath JsonTablePathScan JsonTableSiblingJoin MergeAction
        CoerceToDomain CoerceToDomainValue NextValueExpr InferenceElem ReturningExpr TargetEntry RangeTblRef
        FromExpr OnConflictExpr Query RoleSpec TableLikeClause DefElem PartitionElem PartitionSpec
        PartitionBoundSpec PartitionRangeDatum PartitionCmd RangeTblEntry RtepermissionInfo RangeTblFunction
        TableSampleClause WithCheckOption SortGroupClause WindowClause RowMarkClause TriggerTransition
        SetOperationStmt ReturnStmt PlassignStmt CreateSchemaStmt AlterTableStmt AlterTableCmd AtalterConstraint
        ReplicaIdentityStmt AlterCollationStmt AlterDomainStmt GrantStmt ObjectWithArgs AccessPriv GrantRoleStmt
        AlterDefaultPrivilegesStmt CopyStmt VariableSetStmt VariableShowStmt CreateStmt Constraint
        CreateTableSpaceStmt DropTableSpaceStmt AlterTableSpaceOptionsStmt AlterTableMoveAllStmt
        CreateExtensionStmt AlterExtensionStmt AlterExtensionContentsStmt CreateFdwStmt AlterFdwStmt
        CreateForeignServerStmt AlterForeignServerStmt CreateForeignTableStmt CreateUserMappingStmt
        AlterUserMappingStmt DropUserMappingStmt ImportForeignSchemaStmt CreatePolicyStmt AlterPolicyStmt
        CreateAmStmt CreateTrigStmt CreateEventTrigStmt AlterEventTrigStmt CreatePlangStmt CreateRoleStmt
        AlterRoleStmt AlterRoleSetStmt DropRoleStmt CreateSeqStmt AlterSeqStmt DefineStmt CreateDomainStmt
        CreateOpClassStmt CreateOpClassItem CreateOpFamilyStmt AlterOpFamilyStmt DropStmt TruncateStmt CommentStmt
        SecLabelStmt DeclareCursorStmt ClosePortalStmt FetchStmt IndexStmt CreateStatsStmt StatsElem AlterStatsStmt
        CreateFunctionStmt FunctionParameter AlterFunctionStmt DoStmt InlineCodeBlock CallStmt CallContext
        RenameStmt AlterObjectDependsStmt AlterObjectSchemaStmt AlterOwnerStmt AlterOperatorStmt AlterTypeStmt
        RuleStmt NotifyStmt ListenStmt UnlistenStmt TransactionStmt CompositeTypeStmt CreateEnumStmt
        CreateRangeStmt AlterEnumStmt ViewStmt LoadStmt CreatedbStmt AlterDatabaseStmt AlterDatabaseRefreshCollStmt
        AlterDatabaseSetStmt DropdbStmt AlterSystemStmt ClusterStmt VacuumStmt VacuumRelation ExplainStmt
        CreateTableAsStmt RefreshMatViewStmt CheckPointStmt DiscardStmt LockStmt ConstraintsSetStmt ReindexStmt
        CreateConversionStmt CreateCastStmt CreateTransformStmt PrepareStmt ExecuteStmt DeallocateStmt
        DropOwnedStmt ReassignOwnedStmt AlterTsdictionaryStmt AlterTsconfigurationStmt PublicationTable
        PublicationObjSpec CreatePublicationStmt AlterPublicationStmt CreateSubscriptionStmt AlterSubscriptionStmt
        DropSubscriptionStmt IntList OidList
    }
}

classes! {
    Select {
        SelectStmt
    }
    Insert {
        InsertStmt
    }
    Update {
        UpdateStmt
    }
    Delete {
        DeleteStmt
    }
    Merge {
        MergeStmt
    }
    CopyServer {
        CopyStmt
    }
    DeclareCursor {
        DeclareCursorStmt
    }
    Fetch {
        FetchStmt
    }
    CloseCursor {
        ClosePortalStmt
    }
    Transaction {
        TransactionStmt
    }
    SetConstraints {
        ConstraintsSetStmt
    }
    Setting {
        VariableSetStmt
    }
    Show {
        VariableShowStmt
    }
    Discard {
        DiscardStmt
    }
    Deallocate {
        DeallocateStmt
    }
    Listen {
        ListenStmt
    }
    Unlisten {
        UnlistenStmt
    }
    Notify {
        NotifyStmt
    }
    Prepare {
        PrepareStmt
    }
    Execute {
        ExecuteStmt
    }
    Explain {
        ExplainStmt
    }
    Lock {
        LockStmt
    }
    Truncate {
        TruncateStmt
    }
    Call {
        CallStmt
    }
    Do {
        DoStmt
    }
    Load {
        LoadStmt
    }
    CreateTableAs {
        CreateTableAsStmt
    }
    Definition {
        CreateStmt ViewStmt CreateSeqStmt CreateSchemaStmt AlterTableStmt AlterCollationStmt AlterDomainStmt
        DefineStmt CreateDomainStmt CreateOpClassStmt CreateOpFamilyStmt AlterOpFamilyStmt DropStmt CommentStmt
        IndexStmt CreateStatsStmt AlterStatsStmt CreateFunctionStmt AlterFunctionStmt RenameStmt
        AlterObjectDependsStmt AlterObjectSchemaStmt AlterOperatorStmt AlterTypeStmt RuleStmt CompositeTypeStmt
        CreateEnumStmt CreateRangeStmt AlterEnumStmt CreateConversionStmt CreateCastStmt CreateTransformStmt
        AlterTsdictionaryStmt AlterTsconfigurationStmt CreateTrigStmt CreateAmStmt AlterSeqStmt
        CreateForeignTableStmt AlterTableMoveAllStmt
    }
    Privileges {
        GrantStmt AlterDefaultPrivilegesStmt AlterOwnerStmt SecLabelStmt
    }
    Roles {
        GrantRoleStmt CreateRoleStmt AlterRoleStmt AlterRoleSetStmt DropRoleStmt DropOwnedStmt ReassignOwnedStmt
    }
    Policies {
        CreatePolicyStmt AlterPolicyStmt
    }
    Maintenance {
        ClusterStmt VacuumStmt ReindexStmt
    }
    Refresh {
        RefreshMatViewStmt
    }
    Checkpoint {
        CheckPointStmt
    }
    Administration {
        CreateTableSpaceStmt DropTableSpaceStmt AlterTableSpaceOptionsStmt CreateExtensionStmt AlterExtensionStmt
        AlterExtensionContentsStmt CreateFdwStmt AlterFdwStmt CreateForeignServerStmt AlterForeignServerStmt
        CreateUserMappingStmt AlterUserMappingStmt DropUserMappingStmt ImportForeignSchemaStmt CreateEventTrigStmt
        AlterEventTrigStmt CreatePlangStmt CreatedbStmt AlterDatabaseStmt AlterDatabaseRefreshCollStmt
        AlterDatabaseSetStmt DropdbStmt AlterSystemStmt CreatePublicationStmt AlterPublicationStmt
        CreateSubscriptionStmt AlterSubscriptionStmt DropSubscriptionStmt
    }
    NotAStatement {
        Alias RangeVar TableFunc IntoClause Var Param Aggref GroupingFunc WindowFunc WindowFuncRunCondition
        MergeSupportFunc SubscriptingRef FuncExpr NamedArgExpr OpExpr DistinctExpr NullIfExpr ScalarArrayOpExpr
        BoolExpr SubLink SubPlan AlternativeSubPlan FieldSelect FieldStore RelabelType CoerceViaIo ArrayCoerceExpr
        ConvertRowtypeExpr CollateExpr CaseExpr CaseWhen CaseTestExpr ArrayExpr RowExpr RowCompareExpr CoalesceExpr
        MinMaxExpr SqlvalueFunction XmlExpr JsonFormat JsonReturning JsonValueExpr JsonConstructorExpr
        JsonIsPredicate JsonBehavior JsonExpr JsonTablePath JsonTablePathScan JsonTableSiblingJoin NullTest
        BooleanTest MergeAction CoerceToDomain CoerceToDomainValue SetToDefault CurrentOfExpr NextValueExpr
        InferenceElem ReturningExpr TargetEntry RangeTblRef JoinExpr FromExpr OnConflictExpr Query TypeName
        ColumnRef ParamRef AExpr TypeCast CollateClause RoleSpec FuncCall AStar AIndices AIndirection AArrayExpr
        ResTarget MultiAssignRef SortBy WindowDef RangeSubselect RangeFunction RangeTableFunc RangeTableFuncCol
        RangeTableSample ColumnDef TableLikeClause IndexElem DefElem LockingClause XmlSerialize PartitionElem
        PartitionSpec PartitionBoundSpec PartitionRangeDatum PartitionCmd RangeTblEntry RtepermissionInfo
        RangeTblFunction TableSampleClause WithCheckOption SortGroupClause GroupingSet WindowClause RowMarkClause
        WithClause InferClause OnConflictClause CtesearchClause CtecycleClause CommonTableExpr MergeWhenClause
        ReturningOption ReturningClause TriggerTransition JsonOutput JsonArgument JsonFuncExpr JsonTablePathSpec
        JsonTable JsonTableColumn JsonKeyValue JsonParseExpr JsonScalarExpr JsonSerializeExpr JsonObjectConstructor
        JsonArrayConstructor JsonArrayQueryConstructor JsonAggConstructor JsonObjectAgg JsonArrayAgg RawStmt
        SetOperationStmt ReturnStmt PlassignStmt AlterTableCmd AtalterConstraint ReplicaIdentityStmt ObjectWithArgs
        AccessPriv Constraint CreateOpClassItem StatsElem FunctionParameter InlineCodeBlock CallContext
        VacuumRelation PublicationTable PublicationObjSpec Integer Float Boolean String BitString List IntList
        OidList AConst
    }
}
