//! The bytes that put a tenant on a transaction, built once per session.
//!
//! Extended protocol: Bind and Execute of a statement that every server got at its login. It answers
//! `2 C(SELECT 0)` and no row, and takes the tenant as a bound parameter.
//! Simple protocol: `SET LOCAL …;` in front of the first statement of each transaction that needs scope,
//! inside the client's own Query. As a utility statement it takes no snapshot, so isolation levels,
//! deferred constraints and COPY stay as they are without the proxy.
//! On a sealed database there is the extended form alone: the statement takes a ticket, made for each transaction, in front
//! of the settings.
//! Under [`Lifetime::Lease`] there is one form: Bind and Execute of the same statement, which then sets for
//! the session of the server, inside a transaction of the proxy's own (see `replay`).

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::template::ScopeTemplate;
use super::ticket::{Holder, SealKey};
use crate::tenant::TenantId;
use crate::time::TimeOfDay;
use crate::wire::frontend::{self, Target};

/// For how long a server has the tenant that is put on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lifetime {
    /// For one transaction: nothing is left behind, whatever runs in it.
    #[default]
    Transaction,
    /// Until it is put on for another tenant: in front of a lease, and only if the server does not carry it already.
    Lease,
}

/// The scope statement's name on every server.
const SCOPE: &[u8] = b"tg_scope";
/// `BEGIN` of the settings replay.
pub const BEGIN: &[u8] = b"tg_begin";
/// `set_config` for the session of the settings replay.
pub const SET: &[u8] = b"tg_set";
/// `BEGIN` of the block around a recorded transaction.
pub const BLOCK: &[u8] = b"tg_block";
/// `COMMIT` of the settings replay.
pub const COMMIT: &[u8] = b"tg_commit";
/// What makes a transaction one that cannot write.
const READ_ONLY: &[u8] = b"tg_read_only";
/// The same in the simple protocol.
pub const SET_READ_ONLY: &str = "SET TRANSACTION READ ONLY;";
/// Portal of an injection while the client's unnamed portal must survive.
const PORTAL: &[u8] = b"tg_portal";

/// How many statements the prelude prepares.
pub const PRELUDE_STATEMENTS: usize = 6;

/// What every server is sent right after its login: the statements that injections and replays use.
#[derive(Clone, Debug)]
pub struct Prelude {
    /// Parse messages and a Sync; the answer is `1` for each statement, then `Z(I)`.
    pub bytes: Bytes,
    /// For how long the scope statement sets.
    pub lifetime: Lifetime,
    /// A Query to be asked first: each row of its answer is a reason not to use the server.
    pub verification: Option<&'static str>,
}

/// What is wrong with a sealed database.
const VERIFY: &str = include_str!("../../sql/verify.sql");

/// Which function of a sealed database takes the tickets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// None: the database is not sealed.
    Open,
    /// The one for tenants.
    Tenants,
    /// The one for what goes past them.
    Bypass,
}

impl Gate {
    /// Its call, which gives true or fails, and how many parameters that has.
    const fn call(self) -> (Option<&'static str>, usize) {
        match self {
            Gate::Open => (None, 0),
            Gate::Tenants => (Some("tenantgate.enter($1, $2, $3, $4, $5) IS NULL"), 5),
            Gate::Bypass => (Some("tenantgate.enter_bypass($1, $2, $3, $4, $5) IS NULL"), 5),
        }
    }
}

impl Prelude {
    /// For the settings of one configuration.
    #[must_use]
    pub fn new(template: &ScopeTemplate, lifetime: Lifetime) -> Self {
        Self::of(&scope_sql(template, lifetime, Gate::Open), lifetime)
    }

    /// The same on a sealed database.
    #[must_use]
    pub fn sealed(template: &ScopeTemplate, gate: Gate) -> Self {
        let sql = scope_sql(template, Lifetime::Transaction, gate);
        Self { verification: Some(VERIFY), ..Self::of(&sql, Lifetime::Transaction) }
    }

    fn of(scope_sql: &str, lifetime: Lifetime) -> Self {
        let mut out = BytesMut::new();
        frontend::put_parse(&mut out, SCOPE, scope_sql.as_bytes(), &[]);
        // An explicit level: a plain BEGIN waits for a safe snapshot under
        // default_transaction_deferrable with serializable and read only.
        frontend::put_parse(&mut out, BEGIN, b"BEGIN ISOLATION LEVEL READ COMMITTED", &[]);
        frontend::put_parse(&mut out, SET, b"SELECT WHERE pg_catalog.set_config($1, $2, false) IS NULL", &[]);
        frontend::put_parse(&mut out, COMMIT, b"COMMIT", &[]);
        // As a client's own BEGIN: with the client's default isolation level.
        frontend::put_parse(&mut out, BLOCK, b"BEGIN", &[]);
        frontend::put_parse(&mut out, READ_ONLY, b"SET TRANSACTION READ ONLY", &[]);
        frontend::put_sync(&mut out);
        Self { bytes: out.freeze(), lifetime, verification: None }
    }

    /// A question for a server that may carry a tenant beyond a transaction: whether the process that answers is the
    /// one that let the proxy in. Behind another pooler it is not, and the next transaction may be a third one's.
    /// The answer is `1 2 C(SELECT 0) Z(I)`; any other means that the server cannot be used. `None` where nothing
    /// outlives a transaction.
    #[must_use]
    pub fn question(&self, process_id: i32) -> Option<Bytes> {
        if self.lifetime == Lifetime::Transaction {
            return None;
        }
        let mut out = BytesMut::new();
        let sql = format!("SELECT WHERE pg_catalog.pg_backend_pid() <> ({process_id})");
        frontend::put_parse(&mut out, b"", sql.as_bytes(), &[]);
        frontend::put_bind_text(&mut out, b"", b"", &[]);
        frontend::put_execute(&mut out, b"");
        frontend::put_sync(&mut out);
        Some(out.freeze())
    }

    /// Whether a server that was sent this one serves injections made for the other.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let is_shared = self.bytes.as_ptr() == other.bytes.as_ptr() && self.bytes.len() == other.bytes.len();
        is_shared || self.bytes == other.bytes
    }
}

/// Schema-qualified, since a search_path may put another `set_config` first. Each call gives text that is
/// never NULL, so OR evaluates every one and no row comes.
fn scope_sql(template: &ScopeTemplate, lifetime: Lifetime, gate: Gate) -> String {
    let is_local = lifetime == Lifetime::Transaction;
    let (enter, taken) = gate.call();
    let settings = template
        .names()
        .enumerate()
        .map(|(index, name)| format!("pg_catalog.set_config('{name}', ${}, {is_local}) IS NULL", taken + index + 1));
    let calls: Vec<String> = enter.map(str::to_owned).into_iter().chain(settings).collect();
    if calls.is_empty() {
        return "SELECT WHERE false".to_owned();
    }
    format!("SELECT WHERE {}", calls.join(" OR "))
}

/// One session's injections.
#[derive(Clone, Debug)]
pub struct Injection {
    lifetime: Lifetime,
    /// One of the settings is `search_path`, which PostgreSQL 18 reports.
    sets_search_path: bool,
    bind_execute: Bytes,
    /// These are empty under [`Lifetime::Lease`], which has no use for them.
    bind_execute_close: Bytes,
    set_local: Box<str>,
    set_local_statements: usize,
    is_looked_up_by: bool,
    /// There is no tenant: nothing can be injected, and nothing that needs scope may be sent.
    is_vacant: bool,
    /// On a sealed database; then the bytes above are empty.
    seal: Option<Arc<Seal>>,
}

/// What a session's tickets are made of.
#[derive(Debug)]
struct Seal {
    key: Arc<SealKey>,
    /// `None`: the session goes past the tenants.
    tenant: Option<TenantId>,
    /// Values of the settings.
    values: Vec<String>,
}

impl Injection {
    /// For a session that acts for nobody yet. Whatever needs scope is not sent with it.
    #[must_use]
    pub fn vacant() -> Self {
        Self { is_vacant: true, ..Self::of_values(&[]) }
    }

    /// For one tenant under one template.
    #[must_use]
    pub fn new(template: &ScopeTemplate, tenant: &TenantId, lifetime: Lifetime) -> Self {
        let values: Vec<_> = template.values(tenant).collect();
        match lifetime {
            Lifetime::Transaction => Self::of_values(&values),
            Lifetime::Lease => Self::of_leases(&values),
        }
    }

    /// For a login without a tenant: the template's own values. They are those of a bypass, which ends with its
    /// transaction.
    #[must_use]
    pub fn fixed(template: &ScopeTemplate) -> Self {
        Self::of_values(&template.fixed_values().collect::<Vec<_>>())
    }

    /// For one tenant on a sealed database.
    #[must_use]
    pub fn sealed(template: &ScopeTemplate, tenant: &TenantId, key: Arc<SealKey>) -> Self {
        Self::of_seal(&template.values(tenant).collect::<Vec<_>>(), Some(tenant.clone()), key)
    }

    /// For a login without a tenant on a sealed database.
    #[must_use]
    pub fn sealed_bypass(template: &ScopeTemplate, key: Arc<SealKey>) -> Self {
        Self::of_seal(&template.fixed_values().collect::<Vec<_>>(), None, key)
    }

    fn of_seal(values: &[(&str, String)], tenant: Option<TenantId>, key: Arc<SealKey>) -> Self {
        let seal = Seal { key, tenant, values: values.iter().map(|(_, value)| value.clone()).collect() };
        Self {
            lifetime: Lifetime::Transaction,
            sets_search_path: sets_search_path(values),
            bind_execute: Bytes::new(),
            bind_execute_close: Bytes::new(),
            set_local: Box::default(),
            set_local_statements: 0,
            is_looked_up_by: sets_search_path(values),
            is_vacant: false,
            seal: Some(Arc::new(seal)),
        }
    }

    /// Whether it takes a ticket, and so has no form in the simple protocol.
    #[must_use]
    pub const fn is_sealed(&self) -> bool {
        self.seal.is_some()
    }

    /// Whether what it enters leaves a row in `tenantgate.bypass`.
    #[must_use]
    pub fn leaves_row(&self) -> bool {
        self.seal.as_ref().is_some_and(|seal| seal.tenant.is_none())
    }

    /// Bind and Execute with a ticket for one transaction of this server process; with a portal of the proxy's own, and its
    /// Close, where the client's unnamed one is still to be executed.
    pub(super) fn put_sealed(&self, out: &mut BytesMut, of: Sealing, keep_portal: bool) {
        let Some(seal) = &self.seal else { return };
        let audit = of.transaction.unwrap_or_else(|| seal.key.audit_id(of.process_id, of.now));
        let holder = match &seal.tenant {
            Some(tenant) => Holder::Tenant(tenant.as_str()),
            None => Holder::Bypass(&audit),
        };
        let ticket = seal.key.ticket(holder, of.process_id, of.is_pinned, of.now);
        let mut parameters: Vec<&[u8]> = vec![holder.bytes(), &ticket.flags, &ticket.expires, &ticket.key, &ticket.mac];
        parameters.extend(seal.values.iter().map(String::as_bytes));
        let portal = if keep_portal { PORTAL } else { b"" };
        frontend::put_bind_binary(out, portal, SCOPE, &parameters);
        frontend::put_execute(out, portal);
        if keep_portal {
            frontend::put_close(out, Target::Portal, PORTAL);
        }
    }

    fn of_leases(values: &[(&str, String)]) -> Self {
        let parameters: Vec<&[u8]> = values.iter().map(|(_, value)| value.as_bytes()).collect();
        let mut out = BytesMut::new();
        frontend::put_bind_text(&mut out, b"", SCOPE, &parameters);
        frontend::put_execute(&mut out, b"");
        Self {
            lifetime: Lifetime::Lease,
            sets_search_path: sets_search_path(values),
            bind_execute: Bytes::copy_from_slice(&out),
            bind_execute_close: Bytes::new(),
            set_local: Box::default(),
            set_local_statements: 0,
            is_looked_up_by: false,
            is_vacant: false,
            seal: None,
        }
    }

    fn of_values(values: &[(&str, String)]) -> Self {
        let parameters: Vec<&[u8]> = values.iter().map(|(_, value)| value.as_bytes()).collect();
        let mut plain = BytesMut::new();
        frontend::put_bind_text(&mut plain, b"", SCOPE, &parameters);
        frontend::put_execute(&mut plain, b"");
        let mut named = BytesMut::new();
        frontend::put_bind_text(&mut named, PORTAL, SCOPE, &parameters);
        frontend::put_execute(&mut named, PORTAL);
        frontend::put_close(&mut named, Target::Portal, PORTAL);
        let set_local = values.iter().map(|(name, value)| set_local(name, value)).collect::<String>();
        Self {
            lifetime: Lifetime::Transaction,
            sets_search_path: sets_search_path(values),
            // Copied to their lengths: there is one of these for each client.
            bind_execute: Bytes::copy_from_slice(&plain),
            bind_execute_close: Bytes::copy_from_slice(&named),
            set_local: set_local.into(),
            set_local_statements: values.len(),
            is_looked_up_by: sets_search_path(values),
            is_vacant: false,
            seal: None,
        }
    }

    /// Whether there is nothing to inject.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        match self.lifetime {
            Lifetime::Transaction => self.set_local_statements == 0 && self.seal.is_none() && !self.is_vacant,
            Lifetime::Lease => false,
        }
    }

    /// Whether there is no tenant.
    #[must_use]
    pub const fn is_vacant(&self) -> bool {
        self.is_vacant
    }

    /// Whether one of its settings is `search_path`.
    #[must_use]
    pub const fn sets_search_path(&self) -> bool {
        self.sets_search_path
    }

    /// Whether names in a text are looked up by what is injected (a schema per tenant): then a Parse needs it, too.
    #[must_use]
    pub const fn is_looked_up_by(&self) -> bool {
        self.is_looked_up_by
    }

    /// What a server has to carry under [`Lifetime::Lease`]: the Bind and Execute that put it there. Equal bytes mean
    /// equal values of the same settings, since the statement is the same on every server that the session may get.
    #[must_use]
    pub const fn carried(&self) -> Option<&Bytes> {
        match self.lifetime {
            Lifetime::Transaction => None,
            Lifetime::Lease => Some(&self.bind_execute),
        }
    }

    /// Bind and Execute over the unnamed portal.
    pub(super) fn bind_execute(&self) -> &[u8] {
        &self.bind_execute
    }

    /// Bind, Execute and Close over a portal of the proxy's own, for when the client's unnamed portal is
    /// still to be executed.
    pub(super) fn bind_execute_close(&self) -> &[u8] {
        &self.bind_execute_close
    }

    /// `SET LOCAL …;`, one per setting: goes in front of the first statement that needs scope.
    #[must_use]
    pub fn set_local(&self) -> &str {
        &self.set_local
    }

    /// How many CommandCompletes [`Injection::set_local`] causes.
    #[must_use]
    pub const fn set_local_statements(&self) -> usize {
        self.set_local_statements
    }
}

/// What a ticket is made for, beside its holder.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sealing {
    /// The server process.
    pub process_id: i32,
    /// Whether the server stays with its client.
    pub is_pinned: bool,
    /// What time it is.
    pub now: TimeOfDay,
    /// The name that the transaction has in the ledger, if it is recorded.
    pub transaction: Option<[u8; 16]>,
}

fn sets_search_path(values: &[(&str, String)]) -> bool {
    values.iter().any(|(name, _)| *name == "search_path")
}

/// Bind and Execute of the BEGIN of a recorded transaction's block; with a portal of the proxy's own where the client's
/// unnamed one is still to be executed.
pub(super) fn begin_block(keep_portal: bool) -> BytesMut {
    run(BLOCK, keep_portal)
}

/// The same of what makes the running transaction one that cannot write. It takes no snapshot.
pub(super) fn read_only(keep_portal: bool) -> BytesMut {
    run(READ_ONLY, keep_portal)
}

fn run(statement: &[u8], keep_portal: bool) -> BytesMut {
    let portal = if keep_portal { PORTAL } else { b"" };
    let mut bytes = BytesMut::new();
    frontend::put_bind_text(&mut bytes, portal, statement, &[]);
    frontend::put_execute(&mut bytes, portal);
    if keep_portal {
        frontend::put_close(&mut bytes, Target::Portal, PORTAL);
    }
    bytes
}

/// The value is a validated tenant in a configured template; standard_conforming_strings is pinned on and
/// the tenant holds no backslash, so doubling the quote is enough. `search_path` is a list: there the text
/// is already identifier-quoted.
fn set_local(name: &str, value: &str) -> String {
    match name {
        "search_path" => format!("SET LOCAL search_path TO {value};"),
        _ => format!("SET LOCAL {name}='{}';", value.replace('\'', "''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenant::TenantKind;

    #[test]
    fn the_simple_form_is_quoted() {
        let template = ScopeTemplate::default();
        let tenant = TenantId::parse(TenantKind::Text, "O'Brien").unwrap();
        let injection = Injection::new(&template, &tenant, Lifetime::Transaction);
        assert_eq!(injection.set_local(), "SET LOCAL app.tenant_id='O''Brien';");
        assert_eq!(injection.set_local_statements(), 1);
    }

    #[test]
    fn the_scope_statement_is_qualified_and_gives_no_row() {
        assert_eq!(
            scope_sql(&ScopeTemplate::default(), Lifetime::Transaction, Gate::Open),
            "SELECT WHERE pg_catalog.set_config('app.tenant_id', $1, true) IS NULL"
        );
    }

    #[test]
    fn a_sealed_scope_enters_first_and_has_no_simple_form() {
        let template = ScopeTemplate::default();
        assert_eq!(
            scope_sql(&template, Lifetime::Transaction, Gate::Tenants),
            "SELECT WHERE tenantgate.enter($1, $2, $3, $4, $5) IS NULL \
             OR pg_catalog.set_config('app.tenant_id', $6, true) IS NULL"
        );
        let tenant = TenantId::parse(TenantKind::Text, "acme").unwrap();
        let key = Arc::new(SealKey::parse(&"0f".repeat(32)).unwrap());
        let injection = Injection::sealed(&template, &tenant, key);
        assert!(injection.is_sealed() && !injection.is_empty() && injection.set_local().is_empty());
        let bytes = |process_id, seconds: i64| {
            let now = TimeOfDay::from_unix_micros(seconds * 1_000_000);
            let mut out = BytesMut::new();
            injection.put_sealed(&mut out, Sealing { process_id, is_pinned: false, now, transaction: None }, false);
            out
        };
        assert_eq!(bytes(1, 1), bytes(1, 1));
        assert_ne!(bytes(1, 1), bytes(2, 1));
        assert_ne!(bytes(1, 1), bytes(1, 2));
        assert!(bytes(1, 1).windows(4).filter(|window| window == b"acme").count() == 2);
    }

    #[test]
    fn a_scope_that_outlives_transactions_has_one_form_and_another_prelude() {
        let template = ScopeTemplate::default();
        let of = |tenant: &str| {
            let tenant = TenantId::parse(TenantKind::Text, tenant).unwrap();
            Injection::new(&template, &tenant, Lifetime::Lease)
        };
        assert_eq!((of("a").set_local(), of("a").is_empty()), ("", false));
        assert_eq!(of("a").carried(), of("a").carried());
        assert_ne!(of("a").carried(), of("b").carried());
        let preludes = [Lifetime::Transaction, Lifetime::Lease].map(|lifetime| Prelude::new(&template, lifetime));
        assert!(!preludes[0].is_same(&preludes[1]));
        assert!(preludes[0].question(7).is_none() && preludes[1].question(7).is_some());
    }
}
