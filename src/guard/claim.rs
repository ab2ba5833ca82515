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

/// A statement that names the tenant, or asks to go past the tenants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// What is claimed.
    pub subject: ClaimSubject,
    /// The setting's name, lower case.
    pub setting: Box<str>,
    /// Who, or whether.
    pub value: ClaimedValue,
    /// For how long.
    pub span: ClaimSpan,
    /// What the client has written, and so what it expects for an answer.
    pub form: ClaimForm,
}

/// What a claim is about: its setting says so, by the login's policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClaimSubject {
    /// The tenant.
    #[default]
    Tenant,
    /// That the rest of the transaction sees every tenant's rows.
    Bypass,
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
        subject: ClaimSubject::Tenant,
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
            Some(_) | None => None,
        },
        // Fails closed: anything else is no claim, and refused by the setting's name.
        Some(_) | None => None,
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
        Some(_) | None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::text::Limits;
    use super::super::{Control, Policy, PolicySettings, inspect};
    use super::*;
    use crate::fault::Code;
    use crate::tenant::Claiming;

    fn policy(claiming: Claiming) -> Policy {
        let names = || vec!["app.tenant_id".to_owned()];
        let scope_settings = vec!["app.tenant_id".to_owned(), "app.schema".to_owned()];
        Policy::new(&PolicySettings { claiming, claim_settings: names(), scope_settings, ..PolicySettings::default() })
    }

    /// The claim, or the code of the refusal.
    fn read(sql: &str, claiming: Claiming) -> Result<Claim, Option<Code>> {
        let (facts, policy) = (inspect(sql.as_bytes(), &Limits::default()).unwrap(), policy(claiming));
        let facts = policy.with_claims(&facts);
        policy.judge(&facts).map_err(|fault| fault.code)?;
        let [statement] = &*facts.statements else { return Err(None) };
        let Control::Claim(claim) = &statement.control else { return Err(None) };
        if policy.needs_scope(statement) { Err(None) } else { Ok(Claim::clone(claim)) }
    }

    #[test]
    fn the_forms_of_applications_are_claims() {
        let text = |text: &str| ClaimedValue::Text(text.into());
        let bound = |number, is_cast| ClaimedValue::Parameter { number, is_cast };
        let column = |name: &str| ClaimForm::Select(name.into());
        let (local, session) = (ClaimSpan::Transaction, ClaimSpan::Session);
        for (sql, value, span, form) in [
            ("SET LOCAL app.tenant_id = 'x'", text("x"), local, ClaimForm::Set),
            ("set APP.Tenant_Id to 'x'", text("x"), session, ClaimForm::Set),
            ("SET SESSION app.tenant_id = x", text("x"), session, ClaimForm::Set),
            ("SET app.tenant_id = 5", text("5"), session, ClaimForm::Set),
            ("SET LOCAL app.tenant_id = ''", text(""), local, ClaimForm::Set),
            ("RESET app.tenant_id", ClaimedValue::Default, session, ClaimForm::Reset),
            ("SET app.tenant_id TO DEFAULT", ClaimedValue::Default, session, ClaimForm::Set),
            ("SELECT set_config('app.tenant_id', 'x', true)", text("x"), local, column("set_config")),
            ("SELECT set_config('App.Tenant_Id', $1, false) AS \"T\"", bound(1, false), session, column("T")),
            (
                "SELECT pg_catalog.set_config('app.tenant_id', $2::text, $1)",
                bound(2, true),
                ClaimSpan::Parameter(1),
                column("set_config"),
            ),
            (
                "SELECT set_config('app.tenant_id'::text, $1::varchar, $2::boolean) t",
                bound(1, true),
                ClaimSpan::Parameter(2),
                column("t"),
            ),
            ("SELECT set_config('app.tenant_id', NULL, true)", ClaimedValue::Null, local, column("set_config")),
        ] {
            assert_eq!(
                read(sql, Claiming::Session),
                Ok(Claim { subject: ClaimSubject::Tenant, setting: "app.tenant_id".into(), value, span, form }),
                "{sql}"
            );
            assert!(read(sql, Claiming::None).is_err(), "{sql}");
        }
    }

    #[test]
    fn every_other_form_is_refused_by_the_setting_s_name() {
        for sql in [
            "SELECT set_config('app.tenant_id', 'x', true), 1",
            "SELECT set_config('app.tenant_id', 'x', true), set_config('jit', 'off', true)",
            "SELECT set_config('app.tenant_id', 'x' || 'y', true)",
            "SELECT set_config('app.tenant_id', (SELECT 'x'), true)",
            "SELECT set_config('app.tenant_id', $1::uuid::text, true)",
            "SELECT set_config('app.tenant_id', $1::varchar(3), true)",
            "SELECT set_config('app.tenant_id', $1, now() IS NULL)",
            "SELECT set_config($1, 'x', true)",
            "SELECT set_config('app.' || 'tenant_id', 'x', true)",
            "SELECT set_config('app.tenant_id', 'x', true) FROM t",
            "SELECT set_config('app.tenant_id', 'x', true) WHERE false",
            "SELECT set_config('app.tenant_id', 'x', true) LIMIT 0",
            "SELECT DISTINCT set_config('app.tenant_id', 'x', true)",
            "SELECT set_config('app.tenant_id', 'x', true) UNION SELECT 'a'",
            "SELECT public.set_config('app.tenant_id', 'x', true)",
            "SELECT set_config('app.tenant_id', 'x', true) OVER ()",
            "SELECT set_config(VARIADIC ARRAY['app.tenant_id', 'x', 'true'])",
            "SELECT upper(set_config('app.tenant_id', 'x', true))",
            "SELECT (SELECT set_config('app.tenant_id', 'x', true))",
            "VALUES (set_config('app.tenant_id', 'x', true))",
            "WITH x AS (SELECT set_config('app.tenant_id', 'x', true)) SELECT 1 FROM x",
            "PREPARE p AS SELECT set_config('app.tenant_id', 'x', true)",
            "EXPLAIN ANALYZE SELECT set_config('app.tenant_id', 'x', true)",
            "COPY (SELECT set_config('app.tenant_id', 'x', true)) TO STDOUT",
            "SET app.tenant_id FROM CURRENT",
            "SET app.schema = 'x'",
            "SELECT set_config('app.schema', 'x', true)",
            "RESET app.schema",
            "SET role = 'x'",
        ] {
            let refused = read(sql, Claiming::Session);
            assert!(matches!(refused, Err(Some(_))), "{sql}: {refused:?}");
        }
    }

    #[test]
    fn a_login_of_transactions_claims_for_no_session() {
        for sql in ["SET app.tenant_id = 'x'", "SELECT set_config('app.tenant_id', 'x', false)"] {
            assert_eq!(read(sql, Claiming::Transaction), Err(Some(Code::ClaimOfSession)), "{sql}");
        }
        for sql in
            ["SET LOCAL app.tenant_id = 'x'", "RESET app.tenant_id", "SELECT set_config('app.tenant_id', $1, $2)"]
        {
            assert!(read(sql, Claiming::Transaction).is_ok(), "{sql}");
        }
    }
}
