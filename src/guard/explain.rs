//! What the guard says of a text, statement by statement, for people.
//!
//! Owns: the words of `tenantgate explain`. Does not own: printing them, or deciding anything.

use serde::Serialize;

use super::facts::{Facts, Statement};
use super::policy::Policy;
use super::split::split;
use super::statement::inspect;
use crate::fault::Fault;

const ALLOW: &str = "allow";
const DENY: &str = "deny";

/// The verdict on one statement, as `--format json` writes it: exactly these keys, in this order, on one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExplainedLine<'e> {
    /// `allow` or `deny`.
    pub verdict: &'static str,
    /// The statement's class; `none` for a text that was refused as a whole.
    pub class: &'static str,
    /// The stable code of the refusal; null if it is allowed.
    pub code: Option<&'static str>,
    /// Why: the refusal's message with its detail, or what allows it.
    pub reason: String,
    /// Relations it names.
    pub tables: &'e [String],
    /// Functions it calls.
    pub functions: &'e [String],
}

/// The verdict on one statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// `allow` or `deny`.
    pub verdict: &'static str,
    /// The statement's class; `none` for a text that has no statements because it was refused as a whole.
    pub class: &'static str,
    /// The stable code of the refusal.
    pub code: Option<&'static str>,
    /// The SQLSTATE of the refusal.
    pub sqlstate: Option<String>,
    /// Why, in words.
    pub reason: String,
    /// What exactly.
    pub detail: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// 1-based character position of what is refused, in the whole text.
    pub position: Option<u32>,
    /// Whether the tenant is put on the server before it.
    pub needs_scope: bool,
    /// Relations it names.
    pub tables: Vec<String>,
    /// Functions it calls.
    pub functions: Vec<String>,
    /// The statement's own text.
    pub statement: String,
}

impl Explained {
    /// Whether it may run.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.verdict == ALLOW
    }

    /// As a line of JSON.
    #[must_use]
    pub fn line(&self) -> ExplainedLine<'_> {
        let Self { verdict, class, code, reason, detail, tables, functions, .. } = self;
        let reason = detail.as_ref().map_or_else(|| reason.clone(), |detail| format!("{reason}: {detail}"));
        ExplainedLine { verdict, class, code: *code, reason, tables, functions }
    }
}

/// What else is asked of each statement that the policy allows: the rules of a bypass.
pub type Also<'a> = dyn Fn(&Statement) -> Result<(), Fault> + Sync + 'a;

/// Explains statements that are sent one by one, as psql sends a file: as one text if it can be taken so, otherwise each
/// as a text of its own, so that one that cannot be parsed does not hide the others. Needs a deep stack, as [`inspect`] does.
#[must_use]
pub fn explain_file(sql: &[u8], policy: &Policy, also: &Also<'_>) -> Vec<Explained> {
    match (inspect(sql, policy.limits()), std::str::from_utf8(sql)) {
        (Ok(facts), _) => explain_facts(&policy.with_claims(&facts), sql, policy, also),
        (Err(_), Ok(text)) => split(text).iter().flat_map(|piece| explain_by(piece.as_bytes(), policy, also)).collect(),
        (Err(fault), Err(_)) => vec![of_text(&fault, sql)],
    }
}

/// Explains every statement of a text; nothing for a text without any. Needs a deep stack, as [`inspect`] does.
#[must_use]
pub fn explain(sql: &[u8], policy: &Policy) -> Vec<Explained> {
    explain_by(sql, policy, &|_| Ok(()))
}

/// The same, and of what the policy allows something else may refuse a part. Needs a deep stack, as [`inspect`] does.
#[must_use]
pub fn explain_by(sql: &[u8], policy: &Policy, also: &Also<'_>) -> Vec<Explained> {
    match inspect(sql, policy.limits()) {
        Ok(facts) => explain_facts(&policy.with_claims(&facts), sql, policy, also),
        Err(fault) => vec![of_text(&fault, sql)],
    }
}

fn explain_facts(facts: &Facts, sql: &[u8], policy: &Policy, also: &Also<'_>) -> Vec<Explained> {
    facts.statements.iter().map(|statement| of_statement(statement, sql, policy, also)).collect()
}

fn of_statement(statement: &Statement, sql: &[u8], policy: &Policy, also: &Also<'_>) -> Explained {
    let own_text = sql.get(statement.range(sql.len())).unwrap_or_default();
    let base = Explained {
        class: statement.class.name(),
        needs_scope: policy.needs_scope(statement),
        reason: format!("allowed by the preset {}", policy.preset().name()),
        tables: distinct(statement.relations.iter().map(|relation| (relation.schema.as_deref(), &*relation.name))),
        functions: distinct(statement.functions.iter().map(|function| (function.schema.as_deref(), &*function.name))),
        ..allowed(own_text)
    };
    match policy.judge_statement(statement).and_then(|()| also(statement)) {
        Ok(()) => base,
        Err(fault) => refused(base, &fault),
    }
}

fn of_text(fault: &Fault, sql: &[u8]) -> Explained {
    refused(Explained { class: "none", ..allowed(sql) }, fault)
}

fn allowed(text: &[u8]) -> Explained {
    Explained {
        verdict: ALLOW,
        class: "none",
        code: None,
        sqlstate: None,
        reason: "allowed by the preset tenant".into(),
        detail: None,
        hint: None,
        position: None,
        needs_scope: false,
        tables: Vec::new(),
        functions: Vec::new(),
        statement: String::from_utf8_lossy(text).trim().into(),
    }
}

fn refused(base: Explained, fault: &Fault) -> Explained {
    let row = fault.code.map(|code| code.row());
    let prefix = row.map_or(String::new(), |row| format!("{}: ", row.name));
    let reason = fault.message.strip_prefix(&*prefix).unwrap_or(&fault.message);
    Explained {
        verdict: DENY,
        code: row.map(|row| row.name),
        sqlstate: Some(fault.sqlstate.as_str().into()),
        reason: reason.into(),
        detail: fault.detail.as_deref().map(Into::into),
        hint: fault.hint.as_deref().map(Into::into),
        position: fault.position,
        ..base
    }
}

fn distinct<'n>(names: impl Iterator<Item = (Option<&'n str>, &'n str)>) -> Vec<String> {
    let mut list: Vec<String> = Vec::new();
    for (schema, name) in names {
        let name = schema.map_or_else(|| name.to_owned(), |schema| format!("{schema}.{name}"));
        if !list.contains(&name) {
            list.push(name);
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::super::PolicySettings;
    use super::*;

    #[test]
    fn statements_are_explained_one_by_one() {
        let policy =
            Policy::new(&PolicySettings { scope_settings: vec!["app.tenant_id".into()], ..PolicySettings::default() });
        let all = explain(b"SELECT lower(a) FROM shop.t, t2; SET app.tenant_id = 'x'", &policy);
        let [first, second] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!((first.verdict, first.class), ("allow", "select"));
        assert_eq!((&*first.tables.join(" "), &*first.functions.join(" ")), ("shop.t t2", "lower"));
        assert!(first.needs_scope && first.is_allowed());
        assert_eq!((second.verdict, second.class, second.code), ("deny", "setting", Some("TG011")));
        assert_eq!(second.statement, "SET app.tenant_id = 'x'");
        assert!(!second.reason.starts_with("TG"));
        let broken = explain(b"SELEC 1", &policy);
        assert_eq!((broken[0].code, broken[0].position), (Some("TG021"), Some(1)));
        assert!(explain(b" ; ", &policy).is_empty());
    }

    #[test]
    fn a_line_of_json_has_exactly_the_promised_keys() {
        let policy = Policy::new(&PolicySettings::default());
        let all = explain(b"SELECT lower(a) FROM shop.t; LISTEN c", &policy);
        let lines: Vec<_> = all.iter().map(|it| serde_json::to_string(&it.line()).unwrap()).collect();
        let [allowed, denied] = lines.as_slice() else { panic!("{lines:?}") };
        assert_eq!(
            allowed,
            r#"{"verdict":"allow","class":"select","code":null,"reason":"allowed by the preset tenant","tables":["shop.t"],"functions":["lower"]}"#
        );
        assert!(denied.starts_with(r#"{"verdict":"deny","class":"listen","code":"TG017","reason":"#), "{denied}");
        assert!(denied.ends_with(r#","tables":[],"functions":[]}"#), "{denied}");
    }

    #[test]
    fn a_file_is_judged_statement_by_statement() {
        let policy = Policy::new(&PolicySettings::default());
        let codes = |sql: &[u8]| explain_file(sql, &policy, &|_| Ok(())).iter().map(|it| it.code).collect::<Vec<_>>();
        assert_eq!(codes(b"SELECT 1; SELEC 1; SELECT ';'; SET ROLE x"), [None, Some("TG021"), None, Some("TG012")]);
        let long = format!("SELECT 1;\n{}", "SELECT 'a long enough statement' FROM t;\n".repeat(5_000));
        let all = explain_file(long.as_bytes(), &policy, &|_| Ok(()));
        assert_eq!((all.len(), all.iter().all(Explained::is_allowed)), (5_001, true));
        assert_eq!(codes(b"SELECT '"), [Some("TG021")]);
        assert_eq!(codes(b"SELECT \xff"), [Some("TG024")]);
    }
}
