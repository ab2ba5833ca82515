//! A PostgreSQL small enough to be run a million times an hour: it reads what a session sends to its server, answers
//! in order as PostgreSQL does, and remembers under which tenant each statement ran.
//!
//! Owns: transaction state, portals, statements, copy-in, skipping to Sync, the tenant of a transaction. Does not know
//! rows, types or plans: a text that holds `nope` fails in analysis, one that holds `fails` when it runs, one that
//! holds `deferred` at its transaction's COMMIT.

use std::collections::HashMap;

use bytes::BytesMut;
use tenantgate::guard::{ConfiguredValue, Control, Facts, Limits, Policy, SettingValue, Statement, StatementClass};
use tenantgate::wire::frame::cut;
use tenantgate::wire::frontend::{
    BindNames, Parse, Target, bound_value, put_message, read_execute, read_query, read_target,
};
use tenantgate::wire::{TransactionStatus, backend};

/// How SQL is read here: once a text, since fuzzers repeat themselves.
pub type Reads = fn(&[u8], &Limits) -> tenantgate::guard::Inspected;

#[derive(Clone)]
struct Portal {
    sql: Vec<u8>,
    value: Option<Vec<u8>>,
    is_suspended: bool,
    is_done: bool,
    /// How many savepoints there were when it was made: it ends when one of them is gone back to.
    depth: usize,
}

/// A COPY FROM STDIN that takes data.
enum Copy {
    Execute,
    /// Of a Query, whose statements from this one on are still to run.
    Query(Vec<u8>, usize),
}

/// The server.
pub struct World {
    policy: Policy,
    read: Reads,
    /// It refuses what the policy refuses: for comparison with a session in front of one that does not.
    judges: bool,
    status: TransactionStatus,
    /// In a transaction that no BEGIN opened.
    is_implicit: bool,
    statements: HashMap<Vec<u8>, Vec<u8>>,
    portals: HashMap<Vec<u8>, Portal>,
    /// The tenant of this transaction, and what it was at each savepoint.
    tenant: Option<Vec<u8>>,
    savepoints: Vec<(String, Option<Vec<u8>>)>,
    fails_at_commit: bool,
    is_skipping: bool,
    /// Something came since the last Sync or Query.
    is_open: bool,
    copy: Option<Copy>,
    input: BytesMut,
    out: BytesMut,
    /// It has ended the connection.
    pub is_dead: bool,
    /// Statements that ran, with the tenant they ran under, if they need one.
    pub ran: Vec<(String, Option<Vec<u8>>)>,
}

struct Failed(&'static str);

impl World {
    /// A server that has answered its prelude.
    pub fn new(policy: Policy, read: Reads) -> Self {
        let prelude: [(&str, &str); 5] = [
            ("tg_scope", "SELECT WHERE pg_catalog.set_config('app.tenant_id', $1, true) IS NULL"),
            ("tg_begin", "BEGIN ISOLATION LEVEL READ COMMITTED"),
            ("tg_set", "SELECT WHERE pg_catalog.set_config($1, $2, false) IS NULL"),
            ("tg_commit", "COMMIT"),
            ("tg_block", "BEGIN"),
        ];
        Self {
            policy,
            read,
            judges: false,
            status: TransactionStatus::Idle,
            is_implicit: false,
            statements: prelude.iter().map(|(name, sql)| (name.as_bytes().to_vec(), sql.as_bytes().to_vec())).collect(),
            portals: HashMap::new(),
            tenant: None,
            savepoints: Vec::new(),
            fails_at_commit: false,
            is_skipping: false,
            is_open: false,
            copy: None,
            input: BytesMut::new(),
            out: BytesMut::new(),
            is_dead: false,
            ran: Vec::new(),
        }
    }

    /// One without a prelude, which refuses by itself what the policy refuses.
    pub fn judging(policy: Policy, read: Reads) -> Self {
        Self { judges: true, statements: HashMap::new(), ..Self::new(policy, read) }
    }

    /// Whether it is between transactions and owes nothing.
    pub fn is_at_rest(&self) -> bool {
        self.status == TransactionStatus::Idle
            && !self.is_implicit
            && !self.is_skipping
            && self.copy.is_none()
            && self.input.is_empty()
    }

    /// Whether messages came behind which no Sync has come yet.
    pub fn has_open_segment(&self) -> bool {
        self.is_open || self.copy.is_some()
    }

    /// Whether a COPY FROM STDIN waits for data.
    pub fn is_in_copy(&self) -> bool {
        self.copy.is_some()
    }

    /// Reads bytes; gives the answers.
    pub fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.input.extend_from_slice(bytes);
        while !self.is_dead {
            let input = std::mem::take(&mut self.input);
            let Ok(Some((head, body))) = cut(&input) else {
                assert!(cut(&input).is_ok(), "the session sent a malformed message");
                self.input = input;
                break;
            };
            self.message(head.tag, body);
            self.input = BytesMut::from(&input[head.frame_bytes()..]);
        }
        self.out.split().to_vec()
    }

    fn put(&mut self, tag: u8, body: &[u8]) {
        put_message(&mut self.out, tag, |out| out.extend_from_slice(body));
    }

    fn error(&mut self, sqlstate: &str) {
        self.put(b'E', format!("SERROR\0VERROR\0C{sqlstate}\0Mno\0\0").as_bytes());
        if self.status == TransactionStatus::InBlock {
            self.status = TransactionStatus::Failed;
        }
        if self.status == TransactionStatus::Idle {
            self.end_transaction();
        }
    }

    fn end_transaction(&mut self) {
        self.status = TransactionStatus::Idle;
        self.is_implicit = false;
        self.tenant = None;
        self.savepoints.clear();
        self.portals.clear();
        self.fails_at_commit = false;
    }

    fn ready(&mut self) {
        if self.is_implicit {
            if std::mem::take(&mut self.fails_at_commit) {
                self.error("23503");
            }
            self.end_transaction();
        }
        let status = self.status;
        backend::put_ready(&mut self.out, status);
    }

    fn message(&mut self, tag: u8, body: &[u8]) {
        self.is_open = !matches!(tag, b'S' | b'Q');
        if self.copy.is_some() {
            return self.copy_message(tag, body);
        }
        if self.is_skipping && !matches!(tag, b'S' | b'X') {
            if tag == b'B' {
                self.forget_portal(body);
            }
            return;
        }
        match tag {
            b'Q' => {
                let sql = read_query(body).expect("a Query").to_vec();
                self.portals.remove(&b""[..]);
                self.statements.remove(&b""[..]);
                self.query(&sql, 0);
            }
            b'S' => {
                self.is_skipping = false;
                self.ready();
            }
            b'H' => {}
            b'X' => self.is_dead = true,
            b'd' | b'c' | b'f' => {}
            b'P' | b'B' | b'D' | b'E' | b'C' => {
                if let Err(Failed(sqlstate)) = self.extended(tag, body) {
                    self.error(sqlstate);
                    self.is_skipping = true;
                }
            }
            tag => panic!("the session sent a message {:?}", char::from(tag)),
        }
    }

    fn copy_message(&mut self, tag: u8, _body: &[u8]) {
        match tag {
            b'd' | b'H' | b'S' => {}
            b'c' | b'f' => {
                let copy = self.copy.take();
                if tag == b'c' {
                    self.put(b'C', b"COPY 0\0");
                } else {
                    self.error("57014");
                }
                match copy {
                    Some(Copy::Query(sql, next)) if tag == b'c' => self.query(&sql, next),
                    Some(Copy::Query(..)) => self.ready(),
                    Some(Copy::Execute) => self.is_skipping = tag == b'f',
                    None => {}
                }
            }
            _ => {
                self.put(b'E', b"SFATAL\0VFATAL\0C08P01\0Munexpected message\0\0");
                self.is_dead = true;
            }
        }
    }

    fn read(&self, sql: &[u8]) -> Result<std::sync::Arc<Facts>, Failed> {
        let limits = Limits { text_bytes_max: 1 << 20, ..Limits::default() };
        match (self.read)(sql, &limits) {
            _ if contains(sql, "tenantgate: refused\"") => Err(Failed("42704")),
            Ok(facts) if self.judges && self.policy.judge(&facts).is_err() => Err(Failed("42501")),
            Ok(facts) => Ok(facts),
            Err(_) => Err(Failed("42601")),
        }
    }

    /// A Query's statements from one on.
    fn query(&mut self, sql: &[u8], from: usize) {
        let outcome = match (self.read)(sql, &Limits { text_bytes_max: 1 << 20, ..Limits::default() }) {
            Err(_) => Err(Failed("42601")),
            Ok(facts) if self.judges && self.policy.judge(&facts).is_err() => Err(Failed("42501")),
            Ok(facts) if facts.statements.is_empty() => {
                self.put(b'I', b"");
                Ok(true)
            }
            Ok(facts) => self.query_statements(sql, &facts, from),
        };
        match outcome {
            Err(Failed(sqlstate)) => self.error(sqlstate),
            Ok(true) => {}
            // A COPY waits.
            Ok(false) => return,
        }
        self.ready();
    }

    fn query_statements(&mut self, sql: &[u8], facts: &Facts, from: usize) -> Result<bool, Failed> {
        for (index, statement) in facts.statements.iter().enumerate().skip(from) {
            let text = &sql[statement.range(sql.len())];
            self.analyse(text, Some(statement))?;
            if statement.class == StatementClass::Select {
                self.put(b'T', &[0, 0]);
            }
            let is_last = index + 1 == facts.statements.len();
            let is_over = self.run(statement, text, None, is_last)?;
            if !is_over {
                self.copy = Some(Copy::Query(sql.to_vec(), index + 1));
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What PostgreSQL finds out before a statement runs.
    fn analyse(&self, text: &[u8], statement: Option<&Statement>) -> Result<(), Failed> {
        let is_exit = |control: &Control| {
            matches!(control, Control::Commit { .. } | Control::Rollback { .. } | Control::RollbackTo(_))
        };
        if self.status == TransactionStatus::Failed && !statement.is_some_and(|statement| is_exit(&statement.control)) {
            return Err(Failed("25P02"));
        }
        if contains(text, "tenantgate: refused\"") {
            return Err(Failed("42704"));
        }
        if contains(text, "nope") { Err(Failed("42703")) } else { Ok(()) }
    }

    fn extended(&mut self, tag: u8, body: &[u8]) -> Result<(), Failed> {
        match tag {
            b'P' => self.parse(body),
            b'B' => self.bind(body),
            b'D' => {
                let (target, name) = read_target(body).expect("a Describe");
                let (sql, has_parameters) = match target {
                    Target::Statement => (self.statements.get(name).cloned().ok_or(Failed("26000"))?, true),
                    Target::Portal => {
                        (self.portals.get(name).map(|portal| portal.sql.clone()).ok_or(Failed("34000"))?, false)
                    }
                };
                // PostgreSQL describes what returns no rows all the same; where a server has to be told of the statement
                // first, it cannot be (tests/support/differences.rs, describe-in-failed-block).
                let facts = self.read(&sql)?;
                self.analyse(b"", facts.statements.first())?;
                if has_parameters {
                    self.put(b't', &[0, 0]);
                }
                let has_rows =
                    facts.statements.first().is_some_and(|statement| statement.class == StatementClass::Select);
                if has_rows {
                    self.put(b'T', &[0, 0])
                } else {
                    self.put(b'n', b"")
                }
                Ok(())
            }
            b'C' => {
                let (target, name) = read_target(body).expect("a Close");
                match target {
                    Target::Statement => drop(self.statements.remove(name)),
                    Target::Portal => drop(self.portals.remove(name)),
                }
                self.put(b'3', b"");
                Ok(())
            }
            _ => self.execute(body),
        }
    }

    fn parse(&mut self, body: &[u8]) -> Result<(), Failed> {
        let parse = Parse::read(body).expect("a Parse");
        if parse.name.is_empty() {
            self.statements.remove(&b""[..]);
        }
        let facts = self.read(parse.sql)?;
        if facts.statements.len() > 1 {
            return Err(Failed("42601"));
        }
        if !facts.statements.is_empty() {
            self.analyse(parse.sql, facts.statements.first())?;
        }
        if !parse.name.is_empty() && self.statements.contains_key(parse.name) {
            return Err(Failed("42P05"));
        }
        self.begin_implicit();
        self.statements.insert(parse.name.to_vec(), parse.sql.to_vec());
        self.put(b'1', b"");
        Ok(())
    }

    fn bind(&mut self, body: &[u8]) -> Result<(), Failed> {
        let bound = self.bind_portal(body);
        if bound.is_err() {
            self.forget_portal(body);
        }
        bound
    }

    /// In a failed block PostgreSQL keeps the portal that a Bind which fails or is skipped would have replaced: it can be
    /// described if it has no rows, and executed if its text is empty. The proxy forgets it; so does this server.
    fn forget_portal(&mut self, body: &[u8]) {
        if self.status == TransactionStatus::Failed {
            let names = BindNames::read(body).expect("a Bind");
            self.portals.remove(names.portal);
        }
    }

    fn bind_portal(&mut self, body: &[u8]) -> Result<(), Failed> {
        let names = BindNames::read(body).expect("a Bind");
        let sql = self.statements.get(names.statement).cloned().ok_or(Failed("26000"))?;
        let facts = self.read(&sql)?;
        if !facts.statements.is_empty() {
            self.analyse(&sql, facts.statements.first())?;
        }
        if !names.portal.is_empty() && self.portals.contains_key(names.portal) {
            return Err(Failed("42P03"));
        }
        self.begin_implicit();
        let value = bound_value(&body[names.prefix_bytes..], 1).ok().flatten().map(<[u8]>::to_vec);
        // Planning evaluates functions.
        if !names.statement.starts_with(b"tg_") {
            for statement in &facts.statements {
                self.note(statement, &sql);
            }
        }
        let portal = Portal { sql, value, is_suspended: false, is_done: false, depth: self.savepoints.len() };
        self.portals.insert(names.portal.to_vec(), portal);
        self.put(b'2', b"");
        Ok(())
    }

    fn execute(&mut self, body: &[u8]) -> Result<(), Failed> {
        let (name, rows) = read_execute(body).expect("an Execute");
        let portal = self.portals.get(name).cloned().ok_or(Failed("34000"))?;
        let facts = self.read(&portal.sql)?;
        let Some(statement) = facts.statements.first() else {
            self.put(b'I', b"");
            return Ok(());
        };
        self.analyse(&portal.sql, Some(statement))?;
        if portal.is_done {
            return Err(Failed("55000"));
        }
        if statement.class == StatementClass::Select && rows > 0 && !portal.is_suspended {
            self.note(statement, &portal.sql);
            if contains(&portal.sql, "fails") {
                return Err(Failed("22012"));
            }
            if let Some(portal) = self.portals.get_mut(name) {
                portal.is_suspended = true;
            }
            self.put(b'D', &[0, 0]);
            self.put(b's', b"");
            return Ok(());
        }
        self.begin_implicit();
        let is_over = self.run(statement, &portal.sql, portal.value.as_deref(), false)?;
        if let Some(portal) = self.portals.get_mut(name) {
            portal.is_done = statement.class != StatementClass::Select;
        }
        if !is_over {
            self.copy = Some(Copy::Execute);
        }
        Ok(())
    }

    fn begin_implicit(&mut self) {
        self.is_implicit |= self.status == TransactionStatus::Idle;
    }

    /// Notes under which tenant a statement runs that needs one.
    fn note(&mut self, statement: &Statement, text: &[u8]) {
        if self.policy.needs_scope(statement) {
            self.ran.push((String::from_utf8_lossy(text).into_owned(), self.tenant.clone()));
        }
    }

    /// Runs one statement; `false` if it is a COPY that waits for data. The last one of a Query outside a block commits
    /// before its tag is sent.
    fn run(&mut self, statement: &Statement, text: &[u8], value: Option<&[u8]>, is_last: bool) -> Result<bool, Failed> {
        if contains(text, "'app.tenant_id', $1, true) IS NULL") {
            self.tenant = value.map(<[u8]>::to_vec);
            self.put(b'C', b"SELECT 0\0");
            return Ok(true);
        }
        if contains(text, "set_config($1, $2, false) IS NULL") {
            self.put(b'C', b"SELECT 0\0");
            return Ok(true);
        }
        if contains(text, "pg_current_xact_id_if_assigned") {
            // The id, where the write-ahead log ends, since when statistics are kept: a transaction that has written nothing.
            let no_more = [0xff; 16];
            self.put(b'D', &[&b"\0\x07\xff\xff\xff\xff\0\0\0\x090/15A3B48\0\0\0\x011"[..], &no_more].concat());
            self.put(b'C', b"SELECT 1\0");
            return Ok(true);
        }
        self.begin_implicit();
        let is_local_scope = self.takes_scope(&statement.control);
        if !is_local_scope && !contains(text, "set_config($1, $2, false)") {
            self.note(statement, text);
        }
        if contains(text, "fails") {
            return Err(Failed("22012"));
        }
        self.fails_at_commit |= contains(text, "deferred");
        if statement.copy_in {
            self.put(b'G', &[0, 0, 0]);
            return Ok(false);
        }
        if statement.class == StatementClass::CopyOut {
            self.put(b'H', &[0, 0, 0]);
            self.put(b'd', b"x");
            self.put(b'c', b"");
        }
        let tag = self.control(statement)?;
        if tag.starts_with("SELECT") {
            self.put(b'D', &[0, 0]);
        }
        if is_last && self.is_implicit && std::mem::take(&mut self.fails_at_commit) {
            return Err(Failed("23503"));
        }
        self.put(b'C', format!("{tag}\0").as_bytes());
        Ok(true)
    }

    /// `SET LOCAL app.tenant_id = …`.
    fn takes_scope(&mut self, control: &Control) -> bool {
        let Control::Set { name, value, local: true } = control else { return false };
        let is_scope = &**name == "app.tenant_id";
        if is_scope {
            self.tenant = text_of(value);
        }
        is_scope
    }

    fn control(&mut self, statement: &Statement) -> Result<&'static str, Failed> {
        match &statement.control {
            Control::Begin => {
                self.status = TransactionStatus::InBlock;
                self.is_implicit = false;
                Ok("BEGIN")
            }
            Control::Commit { chain } => self.end(*chain, true),
            Control::Rollback { chain } => self.end(*chain, false),
            Control::Savepoint(name) => self.in_block().map(|()| {
                self.savepoints.push((name.to_string(), self.tenant.clone()));
                "SAVEPOINT"
            }),
            Control::Release(name) => {
                self.in_block()?;
                let at = self.savepoint(name)?;
                self.savepoints.truncate(at);
                Ok("RELEASE")
            }
            Control::RollbackTo(name) => {
                if self.status == TransactionStatus::Idle {
                    return Err(Failed("25P01"));
                }
                let at = self.savepoint(name)?;
                self.savepoints.truncate(at + 1);
                self.tenant = self.savepoints.last().and_then(|(_, tenant)| tenant.clone());
                self.status = TransactionStatus::InBlock;
                self.portals.retain(|_, portal| portal.depth <= at);
                Ok("ROLLBACK")
            }
            Control::Set { .. } | Control::SetTransaction | Control::SetCharacteristics(_) => Ok("SET"),
            Control::Reset { .. } | Control::ResetAll => Ok("RESET"),
            Control::Claim(claim) => panic!("the server knows no claims: {claim:?}"),
            Control::Configure(list) => {
                // Whatever the session forwards, it is not the tenant.
                let is_scope = list.iter().any(|configuration| &*configuration.name == "app.tenant_id");
                assert!(!is_scope || list.iter().all(|it| matches!(it.value, ConfiguredValue::Parameter(_))));
                Ok("SELECT 1")
            }
            Control::DiscardAll | Control::DiscardPlans | Control::DiscardSequences | Control::DiscardTemp => {
                Ok("DISCARD")
            }
            Control::UnlistenAll | Control::Unlisten(_) => Ok("UNLISTEN"),
            Control::CloseAll | Control::CloseCursor(_) => Ok("CLOSE CURSOR"),
            Control::DeallocateAll => {
                // The unnamed one stays.
                self.statements.retain(|name, _| name.is_empty());
                Ok("DEALLOCATE ALL")
            }
            Control::Deallocate(name) => match self.statements.remove(name.as_bytes()) {
                Some(_) => Ok("DEALLOCATE"),
                None => Err(Failed("26000")),
            },
            Control::Show(_) => Ok("SHOW"),
            Control::AdvisoryUnlockAll => Ok("SELECT 1"),
            Control::None => Ok(match statement.class {
                StatementClass::Select => "SELECT 1",
                StatementClass::Insert => "INSERT 0 1",
                StatementClass::CopyOut => "COPY 1",
                _ => "DONE",
            }),
        }
    }

    fn in_block(&self) -> Result<(), Failed> {
        // In an implicit block of several statements PostgreSQL says the same.
        if self.status == TransactionStatus::Idle { Err(Failed("25P01")) } else { Ok(()) }
    }

    fn savepoint(&self, name: &str) -> Result<usize, Failed> {
        self.savepoints.iter().rposition(|(known, _)| known == name).ok_or(Failed("3B001"))
    }

    fn end(&mut self, chain: bool, is_commit: bool) -> Result<&'static str, Failed> {
        if chain && self.status == TransactionStatus::Idle {
            return Err(Failed("25P01"));
        }
        let is_failed = self.status == TransactionStatus::Failed;
        if is_commit && !is_failed && std::mem::take(&mut self.fails_at_commit) {
            // The transaction is over all the same.
            self.end_transaction();
            return Err(Failed("23503"));
        }
        self.end_transaction();
        if chain {
            self.status = TransactionStatus::InBlock;
        }
        Ok(if is_commit && !is_failed { "COMMIT" } else { "ROLLBACK" })
    }
}

fn text_of(value: &SettingValue) -> Option<Vec<u8>> {
    Some(value.as_bytes().to_vec())
}

/// Whether a text holds another.
pub fn contains(text: &[u8], part: &str) -> bool {
    text.windows(part.len()).any(|window| window == part.as_bytes())
}
