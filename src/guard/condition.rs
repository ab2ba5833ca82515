//! What a row-level security policy's expression compares with what.
//!
//! Owns: turning the text of `pg_get_expr` into conditions over columns, settings and the session's identity. Does not
//! own: whether such a condition keeps tenants apart (`check`).
//!
//! What is not understood is [`Condition::Opaque`] with everything it mentions: no part of an expression is passed over.

use std::collections::BTreeSet;

use serde_json::Value;

use super::parser::{self, Kind, ParseFault, tree};
use super::text::{self, Limits};

/// Longest expression that is read: the rules of one policy, as people write them, have a few hundred bytes.
const EXPRESSION_BYTES_MAX: usize = 64 * 1024;

/// A condition, as far as it decides who sees a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// `AND`
    All(Vec<Condition>),
    /// `OR`
    Any(Vec<Condition>),
    /// `NOT`
    Not(Box<Condition>),
    /// `true` or `false`.
    Constant(bool),
    /// `a = b`, `a = ANY (b)`, `a IS NOT DISTINCT FROM b`.
    Equal(Operand, Operand),
    /// `a IS NULL`
    IsNull(Operand),
    /// `EXISTS (…)`, `a IN (SELECT …)`.
    Subquery(Mentions),
    /// Anything else.
    Opaque(Mentions),
}

/// One side of a comparison. Casts, `NULLIF(…, constant)` and `(SELECT …)` without FROM around it are seen through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operand {
    /// What it is.
    pub kind: OperandKind,
    /// Everything in it.
    pub mentions: Mentions,
}

/// What an operand is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperandKind {
    /// A column, without its table.
    Column(String),
    /// `current_setting('name' …)`, the name in lower case.
    Setting(String),
    /// `current_user` and its like.
    Identity,
    /// A constant; `None` is NULL.
    Constant(Option<String>),
    /// Settings and constants put through functions outside of `pg_catalog`, or a setting split by `string_to_array`.
    Wrapped,
    /// Anything else.
    Expression,
}

/// Everything that is named somewhere in an expression.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mentions {
    /// Columns, by their last name.
    pub columns: BTreeSet<String>,
    /// Settings read by `current_setting`, lower case.
    pub settings: BTreeSet<String>,
    /// Functions outside of `pg_catalog`, and `current_setting` of a name that is no constant.
    pub functions: BTreeSet<FunctionName>,
    /// Relations of subqueries: schema, where one is written, and name.
    pub relations: BTreeSet<(String, String)>,
    /// `current_user`, `session_user`, `pg_has_role` …
    pub identity: bool,
}

/// A function's schema, empty where none is written, and name.
pub type FunctionName = (String, String);

/// What is known of one policy's expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyExpression {
    /// Who passes.
    pub condition: Condition,
    /// Everything in it.
    pub mentions: Mentions,
    /// Settings that are cast to a type which the empty string is no value of, without NULLIF around them.
    pub unsafe_casts: BTreeSet<(String, String)>,
}

/// Reads the expression of a policy. Needs a deep stack, as all parsing does.
///
/// # Errors
/// Why it cannot be read.
pub fn policy_expression(expression: &str) -> Result<PolicyExpression, String> {
    let limits = Limits { text_bytes_max: EXPRESSION_BYTES_MAX, ..Limits::default() };
    let sql = format!("SELECT {expression}");
    let sql = text::check(sql.as_bytes(), &limits).map_err(|fault| fault.to_string())?;
    let parsed = parser::parse(sql).map_err(words)?;
    let node = only_expression(&parsed).ok_or("it is no expression")?;
    let value = json(node)?;
    let mut unsafe_casts = BTreeSet::new();
    collect_unsafe_casts(&value, &mut unsafe_casts);
    Ok(PolicyExpression { condition: condition(node)?, mentions: mentions_of(&value), unsafe_casts })
}

fn words(fault: ParseFault) -> String {
    match fault {
        ParseFault::Syntax { message, position: _ } => message.into(),
        ParseFault::TooDeep => "it is nested too deeply".to_owned(),
        ParseFault::Nul => "it holds a zero byte".to_owned(),
        ParseFault::Undecodable => "its tree cannot be read".to_owned(),
    }
}

/// The one column of `SELECT expression`.
fn only_expression(parsed: &tree::ParseResult) -> Option<&tree::Node> {
    let [statement] = &*parsed.stmts else { return None };
    select_item(statement.stmt.as_deref()?)
}

/// What a SELECT without FROM and with one column gives.
fn select_item(node: &tree::Node) -> Option<&tree::Node> {
    let Some(Kind::SelectStmt(select)) = &node.node else { return None };
    let is_plain = select.from_clause.is_empty() && select.where_clause.is_none() && select.larg.is_none();
    let [item] = &*select.target_list else { return None };
    match &item.node {
        Some(Kind::ResTarget(target)) if is_plain => target.val.as_deref(),
        Some(_) | None => None,
    }
}

fn json(node: &tree::Node) -> Result<Value, String> {
    serde_json::to_value(node).map_err(|error| error.to_string())
}

// -- conditions

fn condition(node: &tree::Node) -> Result<Condition, String> {
    if let Some(Kind::BoolExpr(expression)) = &node.node {
        return bool_condition(expression);
    }
    if let Some(Kind::AExpr(expression)) = &node.node
        && let Some(found) = comparison(expression)?
    {
        return Ok(found);
    }
    if let Some(Kind::NullTest(test)) = &node.node
        && let Some(argument) = &test.arg
    {
        let is_null = Condition::IsNull(operand(argument)?);
        let is_negated = test.nulltesttype() == tree::NullTestType::IsNotNull;
        return Ok(if is_negated { Condition::Not(Box::new(is_null)) } else { is_null });
    }
    if let Some(Kind::SubLink(link)) = &node.node {
        return sublink_condition(node, link);
    }
    if let Some(Kind::TypeCast(cast)) = &node.node
        && let Some(argument) = &cast.arg
    {
        return condition(argument);
    }
    if let Some(Kind::AConst(constant)) = &node.node {
        return Ok(constant_condition(constant));
    }
    Ok(Condition::Opaque(mentions(node)?))
}

fn bool_condition(expression: &tree::BoolExpr) -> Result<Condition, String> {
    let mut parts = expression.args.iter().map(condition).collect::<Result<Vec<_>, _>>()?;
    Ok(match expression.boolop() {
        tree::BoolExprType::AndExpr => Condition::All(parts),
        tree::BoolExprType::OrExpr => Condition::Any(parts),
        tree::BoolExprType::NotExpr | tree::BoolExprType::Undefined => {
            let inner = parts.pop().unwrap_or(Condition::Constant(true));
            Condition::Not(Box::new(inner))
        }
    })
}

/// `NULL` lets no row pass, as `false` does.
fn constant_condition(constant: &tree::AConst) -> Condition {
    let is_true = match &constant.val {
        Some(tree::a_const::Val::Boolval(value)) => value.boolval,
        Some(tree::a_const::Val::Sval(value)) => matches!(&*value.sval, "t" | "true"),
        Some(tree::a_const::Val::Ival(_) | tree::a_const::Val::Fval(_) | tree::a_const::Val::Bsval(_)) | None => false,
    };
    Condition::Constant(is_true && !constant.isnull)
}

fn comparison(expression: &tree::AExpr) -> Result<Option<Condition>, String> {
    let (Some(left), Some(right)) = (&expression.lexpr, &expression.rexpr) else { return Ok(None) };
    let is_equality = matches!(&*expression.name, [name] if string(name) == Some("="));
    let kind = expression.kind();
    let is_one = matches!(kind, tree::AExprKind::AexprOp | tree::AExprKind::AexprNotDistinct);
    let is_list = matches!(kind, tree::AExprKind::AexprOpAny | tree::AExprKind::AexprIn);
    if !is_equality || !(is_one || is_list) {
        return Ok(None);
    }
    let left = operand(left)?;
    if is_one {
        return Ok(Some(Condition::Equal(left, operand(right)?)));
    }
    let Some(elements) = elements(right) else { return Ok(Some(Condition::Equal(left, operand(right)?))) };
    let equal = |element| Ok::<_, String>(Condition::Equal(left.clone(), operand(element)?));
    Ok(Some(Condition::Any(elements.iter().map(equal).collect::<Result<_, _>>()?)))
}

/// Those of `ARRAY[…]` and `(…, …)`.
fn elements(node: &tree::Node) -> Option<&[tree::Node]> {
    if let Some(Kind::TypeCast(cast)) = &node.node {
        return elements(cast.arg.as_deref()?);
    }
    if let Some(Kind::AArrayExpr(array)) = &node.node {
        return Some(&array.elements);
    }
    if let Some(Kind::List(list)) = &node.node {
        return Some(&list.items);
    }
    None
}

fn sublink_condition(node: &tree::Node, link: &tree::SubLink) -> Result<Condition, String> {
    if let Some(item) = plain_subselect(link) {
        return condition(item);
    }
    let is_membership =
        matches!(link.sub_link_type(), tree::SubLinkType::ExistsSublink | tree::SubLinkType::AnySublink);
    let mentions = mentions(node)?;
    Ok(if is_membership { Condition::Subquery(mentions) } else { Condition::Opaque(mentions) })
}

/// `(SELECT expression)`.
fn plain_subselect(link: &tree::SubLink) -> Option<&tree::Node> {
    let is_expression = link.sub_link_type() == tree::SubLinkType::ExprSublink;
    link.subselect.as_deref().filter(|_| is_expression).and_then(select_item)
}

// -- operands

fn operand(node: &tree::Node) -> Result<Operand, String> {
    Ok(Operand { kind: operand_kind(node), mentions: mentions(node)? })
}

fn operand_kind(node: &tree::Node) -> OperandKind {
    if let Some(Kind::TypeCast(cast)) = &node.node {
        // One with a length cuts values: different ones become equal.
        let is_whole = cast.type_name.as_ref().is_some_and(|name| name.typmods.is_empty());
        return cast.arg.as_deref().filter(|_| is_whole).map_or(OperandKind::Expression, operand_kind);
    }
    if let Some(Kind::SubLink(link)) = &node.node {
        return plain_subselect(link).map_or(OperandKind::Expression, operand_kind);
    }
    if let Some(Kind::AExpr(expression)) = &node.node {
        let is_nullif = expression.kind() == tree::AExprKind::AexprNullif;
        return expression.lexpr.as_deref().filter(|_| is_nullif).map_or(OperandKind::Expression, operand_kind);
    }
    if let Some(Kind::ColumnRef(column)) = &node.node {
        let name = column.fields.last().and_then(string);
        return name.map_or(OperandKind::Expression, |name| OperandKind::Column(name.to_owned()));
    }
    if let Some(Kind::SqlvalueFunction(function)) = &node.node {
        return if is_identity(function) { OperandKind::Identity } else { OperandKind::Expression };
    }
    if let Some(Kind::AConst(constant)) = &node.node {
        return OperandKind::Constant(constant_text(constant));
    }
    if let Some(Kind::FuncCall(call)) = &node.node {
        return setting_name(call).map_or_else(|| wrapped(call), OperandKind::Setting);
    }
    OperandKind::Expression
}

/// A call whose arguments are taken as they are. What other functions of `pg_catalog`, operators and CASE make of a setting
/// may be another tenant.
fn wrapped(call: &tree::FuncCall) -> OperandKind {
    let mut name = call.funcname.iter().rev().map(string);
    let (last, schema) = (name.next().flatten(), name.next().flatten());
    let mut arguments = call.args.iter().map(operand_kind);
    let is_own = schema.is_some_and(|schema| schema != "pg_catalog");
    let is_whole = match (is_own, last) {
        (true, _) => {
            arguments.all(|it| matches!(it, OperandKind::Setting(_) | OperandKind::Constant(_) | OperandKind::Wrapped))
        }
        (false, Some("string_to_array")) => {
            matches!(arguments.next(), Some(OperandKind::Setting(_)))
                && arguments.all(|it| matches!(it, OperandKind::Constant(_)))
        }
        (false, _) => false,
    };
    if is_whole { OperandKind::Wrapped } else { OperandKind::Expression }
}

fn constant_text(constant: &tree::AConst) -> Option<String> {
    use tree::a_const::Val;
    match constant.val.as_ref().filter(|_| !constant.isnull)? {
        Val::Ival(value) => Some(value.ival.to_string()),
        Val::Fval(value) => Some(value.fval.clone()),
        Val::Boolval(value) => Some(value.boolval.to_string()),
        Val::Sval(value) => Some(value.sval.clone()),
        Val::Bsval(value) => Some(value.bsval.clone()),
    }
}

fn is_identity(function: &tree::SqlValueFunction) -> bool {
    use tree::SqlValueFunctionOp as Op;
    matches!(function.op(), Op::SvfopCurrentRole | Op::SvfopCurrentUser | Op::SvfopUser | Op::SvfopSessionUser)
}

/// The constant name that `current_setting` is called with.
fn setting_name(call: &tree::FuncCall) -> Option<String> {
    if call.funcname.last().and_then(string) != Some("current_setting") {
        return None;
    }
    match call.args.first().map(operand_kind) {
        Some(OperandKind::Constant(Some(name))) => Some(name.to_ascii_lowercase()),
        Some(_) | None => None,
    }
}

fn string(node: &tree::Node) -> Option<&str> {
    match &node.node {
        Some(Kind::String(text)) => Some(&text.sval),
        Some(_) | None => None,
    }
}

// -- mentions: found in the tree as data, which knows no structure and misses none

fn mentions(node: &tree::Node) -> Result<Mentions, String> {
    json(node).map(|value| mentions_of(&value))
}

fn mentions_of(value: &Value) -> Mentions {
    let mut mentions = Mentions::default();
    collect(value, &mut mentions);
    mentions
}

fn collect(value: &Value, into: &mut Mentions) {
    if let Value::Array(items) = value {
        items.iter().for_each(|item| collect(item, into));
    }
    let Value::Object(fields) = value else { return };
    for (name, below) in fields {
        match name.as_str() {
            "FuncCall" => collect_function(below, into),
            "ColumnRef" => into.columns.extend(names(below, "fields").pop()),
            "RangeVar" => {
                let text = |key: &str| below.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
                into.relations.insert((text("schemaname"), text("relname")));
            }
            "SqlvalueFunction" => {
                let op = below.get("op").and_then(Value::as_i64).and_then(|op| i32::try_from(op).ok());
                let function = tree::SqlValueFunction { op: op.unwrap_or_default(), ..Default::default() };
                into.identity |= is_identity(&function);
            }
            _ => {}
        }
        collect(below, into);
    }
}

/// Functions of `pg_catalog` that ask who somebody is.
const IDENTITY_FUNCTIONS: [&str; 3] = ["pg_has_role", "getpgusername", "pg_get_userbyid"];

/// With `search_path = pg_catalog`, a name without a schema is one of `pg_catalog`.
fn collect_function(call: &Value, into: &mut Mentions) {
    let mut name = names(call, "funcname");
    let Some(last) = name.pop() else { return };
    let schema = name.pop().unwrap_or_default();
    if schema != "pg_catalog" && !schema.is_empty() {
        into.functions.insert((schema, last));
        return;
    }
    into.identity |= IDENTITY_FUNCTIONS.contains(&&*last);
    if last == "current_setting" {
        match constant_argument(call) {
            Some(name) => into.settings.insert(name.to_ascii_lowercase()),
            None => into.functions.insert((schema, last)),
        };
    }
}

fn names(value: &Value, key: &str) -> Vec<String> {
    let items = value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let text = |item: &Value| item.pointer("/node/String/sval").and_then(Value::as_str).map(str::to_owned);
    items.iter().filter_map(text).collect()
}

fn constant_argument(call: &Value) -> Option<&str> {
    let mut first = call.pointer("/args/0/node")?;
    while let Some(inner) = first.pointer("/TypeCast/arg/node") {
        first = inner;
    }
    first.pointer("/AConst/val/Sval/sval").and_then(Value::as_str)
}

/// Types that take the empty string as it is.
const TEXT_TYPES: [&str; 6] = ["text", "varchar", "bpchar", "char", "name", "citext"];

fn collect_unsafe_casts(value: &Value, into: &mut BTreeSet<(String, String)>) {
    if let Value::Array(items) = value {
        items.iter().for_each(|item| collect_unsafe_casts(item, into));
    }
    let Value::Object(fields) = value else { return };
    if let Some(cast) = fields.get("TypeCast") {
        let kind = cast.get("type_name").map(|name| names(name, "names")).and_then(|mut names| names.pop());
        let call = cast.pointer("/arg/node/FuncCall");
        let is_setting =
            call.is_some_and(|call| names(call, "funcname").last().is_some_and(|it| it == "current_setting"));
        if let (Some(kind), Some(setting), true) = (kind, call.and_then(constant_argument), is_setting)
            && !TEXT_TYPES.contains(&&*kind)
        {
            into.insert((setting.to_ascii_lowercase(), kind));
        }
    }
    fields.values().for_each(|below| collect_unsafe_casts(below, into));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> PolicyExpression {
        policy_expression(text).unwrap()
    }

    fn kinds(condition: &Condition) -> (OperandKind, OperandKind) {
        let Condition::Equal(left, right) = condition else { panic!("{condition:?}") };
        (left.kind.clone(), right.kind.clone())
    }

    #[test]
    fn a_setting_is_seen_through_casts_nullif_and_subselects() {
        let column = || OperandKind::Column("tenant_id".into());
        let setting = || OperandKind::Setting("app.tenant_id".into());
        for text in [
            "(tenant_id = (NULLIF(current_setting('app.tenant_id'::text, true), ''::text))::uuid)",
            "((tenant_id)::text = current_setting('App.Tenant_Id'))",
            "tenant_id = (SELECT pg_catalog.current_setting('app.tenant_id', true)::uuid)",
            "orders.tenant_id IS NOT DISTINCT FROM current_setting('app.tenant_id')::uuid",
        ] {
            assert_eq!(kinds(&read(text).condition), (column(), setting()), "{text}");
        }
    }

    #[test]
    fn only_a_bare_cast_fails_on_the_empty_string() {
        let found = |text: &str| read(text).unsafe_casts.into_iter().collect::<Vec<_>>();
        assert_eq!(found("t = (current_setting('a.b'::text, true))::uuid"), [("a.b".into(), "uuid".into())]);
        assert_eq!(found("t = NULLIF(current_setting('a.b'::text, true), ''::text)::uuid"), []);
        assert_eq!(found("t = (current_setting('a.b'::text, true))::text"), []);
    }

    #[test]
    fn lists_are_alternatives_and_what_is_not_understood_keeps_its_mentions() {
        let Condition::Any(parts) = read("x = ANY (ARRAY['a'::text, 'b'::text])").condition else { panic!() };
        assert_eq!(parts.len(), 2);
        let Condition::Opaque(mentions) =
            read("public.visible(x, (SELECT max(y) FROM shop.orders), CURRENT_USER) > current_setting('a.b')::int")
                .condition
        else {
            panic!()
        };
        assert_eq!(mentions.columns, BTreeSet::from(["x".to_owned(), "y".to_owned()]));
        assert_eq!(mentions.functions, BTreeSet::from([("public".to_owned(), "visible".to_owned())]));
        assert_eq!(mentions.relations, BTreeSet::from([("shop".to_owned(), "orders".to_owned())]));
        assert_eq!(mentions.settings, BTreeSet::from(["a.b".to_owned()]));
        assert!(mentions.identity);
    }

    #[test]
    fn constants_and_negations_keep_their_sense() {
        assert_eq!(read("true").condition, Condition::Constant(true));
        assert_eq!(read("NULL").condition, Condition::Constant(false));
        let Condition::Not(inner) = read("tenant_id IS NOT NULL").condition else { panic!() };
        assert!(matches!(*inner, Condition::IsNull(_)));
        assert!(policy_expression("1; DROP TABLE x").is_err());
        assert!(policy_expression("tenant_id =").is_err());
    }
}
