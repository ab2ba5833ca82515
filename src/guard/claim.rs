//! Claims: the statements by which an application names the tenant of what follows.
//!
//! `SET [SESSION|LOCAL] app.tenant_id = '…'`, `RESET app.tenant_id`, `SELECT set_config('app.tenant_id', $1, true)`. The
//! forms are facts about a text; that a setting is one in which this login may claim is its policy's matter. Everywhere
//! else, and in every other form, the same setting is refused by its name.
//!
//! Owns: what a claim says, and recognising the form with `set_config`. Does not own: whether the tenant may be
//! claimed (`tenant`), or what becomes of it (the session).

use super::configure::{is_plain_call, is_plain_select, setting_name};
use super::parser::{Kind, tree};
use super::walk;

/// A statement that names the tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The setting's name, lower case.
    pub setting: Box<str>,
    /// Who.
    pub value: ClaimedValue,
    /// For how long.
    pub span: ClaimSpan,
    /// What the client has written, and so what it expects for an answer.
    pub form: ClaimForm,
}

/// The tenant of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimedValue {
    /// In the text, or bound by now.
    Text(Box<str>),
    /// `NULL`, which is no tenant.
    Null,
    /// `$n` (from 1), known when the client binds it. With a cast to `text` it may be bound as another type.
    Parameter {
        /// Its number.
        number: u16,
        /// `$n::text`.
        is_cast: bool,
    },
    /// None any more: `RESET`, `SET … TO DEFAULT`.
    Default,
}

/// For how long a claim is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimSpan {
    /// Until the client says something else.
    Session,
    /// Until the transaction ends.
    Transaction,
    /// As `$n` (from 1) says: `is_local` of `set_config`.
    Parameter(u16),
}

/// How a claim is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimForm {
    /// `SET`.
    Set,
    /// `RESET`.
    Reset,
    /// `SELECT set_config(…)`: one row with one column of this name.
    Select(Box<str>),
}

impl Claim {
    /// Whether a bound value decides what is claimed, so that Bind must be read.
    #[must_use]
    pub const fn is_bound(&self) -> bool {
        matches!(self.value, ClaimedValue::Parameter { .. }) || matches!(self.span, ClaimSpan::Parameter(_))
    }
}

/// The claim that a SELECT would make, if its setting is one for claims: one call of `set_config` and nothing else.
pub(super) fn of_select(select: &tree::SelectStmt) -> Option<Box<Claim>> {
    let [target] = select.target_list.as_slice() else { return None };
    let Some(Kind::ResTarget(target)) = &target.node else { return None };
    let tree::ResTarget { name, indirection, val, location: _ } = &**target;
    let Some(Kind::FuncCall(call)) = val.as_ref()?.node.as_ref() else { return None };
    let parts = walk::name_parts(&call.funcname);
    let is_set_config =
        matches!(parts.as_slice(), ["set_config"] | ["pg_catalog", "set_config"]) && parts.len() == call.funcname.len();
    let [setting, value, local] = call.args.as_slice() else { return None };
    if !(is_set_config && indirection.is_empty() && is_plain_call(call) && is_plain_select(select)) {
        return None;
    }
    let column = if name.is_empty() { "set_config" } else { name.as_str() };
    Some(Box::new(Claim {
        setting: setting_name(text(setting)?)?,
        value: value_of(value)?,
        span: span(local)?,
        form: ClaimForm::Select(column.into()),
    }))
}

fn value_of(node: &tree::Node) -> Option<ClaimedValue> {
    let (inner, is_cast) = match uncast(node, &["text", "varchar"]) {
        Some(inner) => (inner, true),
        None => (node, false),
    };
    if let Some(Kind::ParamRef(parameter)) = &inner.node {
        let number = u16::try_from(parameter.number).ok().filter(|number| *number > 0)?;
        return Some(ClaimedValue::Parameter { number, is_cast });
    }
    let Some(Kind::AConst(constant)) = &inner.node else { return None };
    match &constant.val {
        Some(tree::a_const::Val::Sval(text)) => Some(ClaimedValue::Text(text.sval.as_str().into())),
        None if constant.isnull => Some(ClaimedValue::Null),
        // PostgreSQL refuses numbers there.
        Some(_) | None => None,
    }
}

fn span(node: &tree::Node) -> Option<ClaimSpan> {
    let inner = uncast(node, &["bool"]).unwrap_or(node);
    match &inner.node {
        Some(Kind::ParamRef(parameter)) => {
            u16::try_from(parameter.number).ok().filter(|number| *number > 0).map(ClaimSpan::Parameter)
        }
        Some(Kind::AConst(constant)) => match &constant.val {
            Some(tree::a_const::Val::Boolval(value)) if value.boolval => Some(ClaimSpan::Transaction),
            Some(tree::a_const::Val::Boolval(_)) => Some(ClaimSpan::Session),
            _ => None,
        },
        // Fails closed: anything else is no claim, and refused by the setting's name.
        _ => None,
    }
}

/// What is cast to one of these types, without a length.
fn uncast<'t>(node: &'t tree::Node, types: &[&str]) -> Option<&'t tree::Node> {
    let Some(Kind::TypeCast(cast)) = &node.node else { return None };
    let cast_to = cast.type_name.as_ref()?;
    let parts = walk::name_parts(&cast_to.names);
    let name = match parts.as_slice() {
        [name] | ["pg_catalog", name] if parts.len() == cast_to.names.len() => *name,
        _ => return None,
    };
    let is_plain = cast_to.typmods.is_empty() && cast_to.array_bounds.is_empty() && !cast_to.setof && !cast_to.pct_type;
    if is_plain && types.contains(&name) { cast.arg.as_deref() } else { None }
}

fn text(node: &tree::Node) -> Option<&str> {
    let node = uncast(node, &["text"]).unwrap_or(node);
    let Some(Kind::AConst(constant)) = &node.node else { return None };
    match &constant.val {
        Some(tree::a_const::Val::Sval(text)) => Some(&text.sval),
        _ => None,
    }
}
