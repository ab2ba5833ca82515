//! A model PostgreSQL: one backend, from its greeting to its end, as a state machine over bytes.
//!
//! Owns: the protocol, transactions, settings, prepared statements, portals, COPY, cancels. Written from the protocol's
//! documentation and `POSTGRES-FACTS.md`. It is used twice: behind the proxy, and alone with one client's bytes, to say
//! what that client should have been told. Does not own: the text of statements (`sql`), who connects to it (`world`).

use crate::ledger::Commit;
use crate::sql::{Kind, Parsed, Sql, Value, parse};
use bytes::{BufMut, BytesMut};
use std::collections::{BTreeMap, BTreeSet};
use tenantgate::time::Moment;
use tenantgate::wire::frame::{HEAD_BYTES, Head};
use tenantgate::wire::frontend::{self, Parse, Target, put_cstr, put_message};

/// What all backends share: how many notes each client has committed, and the last transaction's id.
#[derive(Debug, Default)]
pub struct Database {
    pub notes: BTreeMap<String, i64>,
    xid: u64,
    /// What has been notified: channel and payload.
    notified: Vec<(String, String)>,
}

/// What the checkers want to know of.
#[derive(Debug)]
pub enum Event {
    /// A statement of that sender ran under this tenant; its message began at that byte of what was received.
    Statement { mark: String, tenant: String, at: u64 },
    /// A transaction is committed, or fails at that.
    Commit(Commit),
    /// A notification goes out to whoever listens.
    Notified(String),
    /// A cancel has hit the message that began at that byte.
    CancelHit { at: u64 },
    /// COPY data came outside of a COPY.
    Stray { at: u64 },
    /// Something that must never reach or happen on a server of a pool.
    Violation(String),
}

type Settings = BTreeMap<String, String>;
type Reply<T> = Result<T, PgError>;

/// An ErrorResponse.
#[derive(Clone, Debug)]
pub struct PgError {
    pub state: &'static str,
    pub message: String,
    pub position: Option<u32>,
    pub is_fatal: bool,
}

fn error(state: &'static str, message: impl Into<String>) -> PgError {
    PgError { state, message: message.into(), position: None, is_fatal: false }
}

#[derive(Clone, Debug)]
struct Prepared {
    /// `None` for an empty text.
    parsed: Option<Parsed>,
}

#[derive(Clone, Debug)]
struct Portal {
    parsed: Option<Parsed>,
    parameters: Vec<String>,
    /// What it gives, once it has run.
    rows: Option<Vec<String>>,
    given: usize,
    level: usize,
}

/// What a client leaves on its server beyond its transactions.
#[derive(Clone, Debug, Default)]
struct Kept {
    /// What goes with a roll-back.
    undoable: Undoable,
    prepared: BTreeMap<String, Sql>,
    locks: usize,
    /// How much of what was notified has been looked at.
    heard: usize,
}

#[derive(Clone, Debug, Default)]
struct Undoable {
    tables: BTreeSet<String>,
    channels: BTreeSet<String>,
    /// What is notified at the end.
    notices: Vec<(String, String)>,
}

/// What a transaction or savepoint goes back to.
#[derive(Clone, Debug)]
struct Frame {
    kept: Undoable,
    name: String,
    session: Settings,
    local: Settings,
    notes: BTreeMap<String, i64>,
    fails_at_commit: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    None,
    /// That of a Query of several statements.
    Implicit,
    Begun,
    Failed,
}

#[derive(Debug)]
struct QueryRun {
    list: Vec<Parsed>,
    next: usize,
}

#[derive(Debug)]
struct CopyIn {
    is_extended: bool,
    data: Vec<u8>,
    rows: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sleep {
    Not,
    Until(Moment),
    Over,
}

/// An error in a reply's place.
#[derive(Clone, Debug)]
pub struct Failure {
    pub state: &'static str,
    pub message: String,
    /// It comes before the message has done anything.
    pub is_early: bool,
}

/// By the number of the reply.
pub type Failures = BTreeMap<usize, Failure>;

/// One backend.
#[derive(Debug)]
pub struct Backend {
    version: u32,
    /// Alone with one client: no proxy is between.
    is_alone: bool,
    /// A tenant is set for the session, and stays until another is.
    pub keeps_tenant: bool,
    /// The tenant is claimed: by the proxy in its client's place, or, alone, by the client itself.
    pub has_claims: bool,
    pub events: Vec<Event>,
    input: BytesMut,
    consumed: u64,
    /// Where the message under way began.
    at: u64,
    buffered: BytesMut,
    pub out: BytesMut,
    defaults: Settings,
    session: Settings,
    local: Settings,
    reported: Settings,
    block: Block,
    kept: Kept,
    process_id: i32,
    frames: Vec<Frame>,
    notes: BTreeMap<String, i64>,
    fails_at_commit: bool,
    has_snapshot: bool,
    /// The transaction's id, once it has written something.
    xid: Option<u64>,
    /// Statements of somebody have run in it.
    is_used: bool,
    /// Something came since the last Sync.
    is_segment_open: bool,
    /// Statements run in this transaction.
    executed: usize,
    statements: BTreeMap<Vec<u8>, Prepared>,
    portals: BTreeMap<Vec<u8>, Portal>,
    is_skipping: bool,
    copy: Option<CopyIn>,
    query: Option<QueryRun>,
    sleep: Sleep,
    is_cancelled: bool,
    pub is_closed: bool,
    /// Replies given so far, and those in whose place an error of that SQLSTATE comes.
    emitted: usize,
    pub failures: Failures,
}

/// Settings there are, with their defaults.
const KNOWN: &[(&str, &str)] = &[
    ("application_name", ""),
    ("client_encoding", "UTF8"),
    ("datestyle", "ISO, MDY"),
    ("extra_float_digits", "1"),
    ("intervalstyle", "postgres"),
    ("jit", "on"),
    ("search_path", "\"$user\", public"),
    ("standard_conforming_strings", "on"),
    ("statement_timeout", "0"),
    ("tenantgate.reason", ""),
    ("timezone", "UTC"),
];

/// What is reported, under the name in which it is.
const REPORTED: &[(&str, &str)] = &[
    ("application_name", "application_name"),
    ("client_encoding", "client_encoding"),
    ("datestyle", "DateStyle"),
    ("intervalstyle", "IntervalStyle"),
    ("standard_conforming_strings", "standard_conforming_strings"),
    ("timezone", "TimeZone"),
];

pub const TENANT: &str = "app.tenant_id";

/// Between the columns of a row or of its description.
const COLUMN: char = '\u{1f}';
/// A column without a value.
const NULL: &str = "\u{1e}";

impl Backend {
    /// A backend whose client gave these startup parameters.
    pub fn new(version: u32, is_alone: bool, parameters: &[(&str, &str)]) -> Self {
        let all = KNOWN.iter().chain(parameters).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut backend = Self {
            version,
            is_alone,
            keeps_tenant: false,
            has_claims: false,
            events: Vec::new(),
            input: BytesMut::new(),
            consumed: 0,
            at: 0,
            buffered: BytesMut::new(),
            out: BytesMut::new(),
            defaults: all.collect(),
            session: Settings::new(),
            local: Settings::new(),
            reported: Settings::new(),
            block: Block::None,
            kept: Kept::default(),
            process_id: 0,
            frames: Vec::new(),
            notes: BTreeMap::new(),
            fails_at_commit: false,
            has_snapshot: false,
            xid: None,
            is_used: false,
            is_segment_open: false,
            executed: 0,
            statements: BTreeMap::new(),
            portals: BTreeMap::new(),
            is_skipping: false,
            copy: None,
            query: None,
            sleep: Sleep::Not,
            is_cancelled: false,
            is_closed: false,
            emitted: 0,
            failures: Failures::new(),
        };
        backend.reported = backend.to_report();
        backend
    }

    /// What it says at a login without a password.
    pub fn greet(&mut self, process_id: i32) {
        self.process_id = process_id;
        put_message(&mut self.out, b'R', |out| out.put_i32(0));
        for (name, value) in &self.greeting() {
            tenantgate::wire::backend::put_parameter_status(&mut self.out, name.as_bytes(), value.as_bytes());
        }
        tenantgate::wire::backend::put_backend_key(&mut self.out, process_id, b"abcd");
        self.out.put_slice(b"Z\0\0\0\x05I");
    }

    /// What is reported at a login.
    pub fn greeting(&self) -> Settings {
        let mut greeting = self.reported.clone();
        greeting.insert("server_version".to_owned(), format!("{}.4", self.version / 10_000));
        greeting.insert("integer_datetimes".to_owned(), "on".to_owned());
        greeting
    }

    /// What is reported, as it is now.
    fn to_report(&self) -> Settings {
        REPORTED.iter().map(|(name, shown)| ((*shown).to_owned(), self.value(name))).collect()
    }

    pub fn receive(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// The other side has closed.
    pub fn hang_up(&mut self) {
        self.abort();
        self.is_closed = true;
    }

    /// What is set for the session beyond the defaults, and for the transaction alone.
    pub fn settings(&self) -> (&Settings, &Settings) {
        (&self.session, &self.local)
    }

    /// Why it is not at rest, if it is not.
    pub fn unrest(&self, on_the_way: &[u8]) -> Option<String> {
        let stray = |tag: u8| matches!(tag, b'd' | b'c' | b'f' | b'H');
        let bytes = [&self.input[..], on_the_way].concat();
        let mut rest = &bytes[..];
        while let Ok(Some(head)) = Head::read(rest) {
            if !stray(head.tag) || rest.len() < head.frame_bytes() {
                break;
            }
            rest = &rest[head.frame_bytes()..];
        }
        let is_quiet = self.buffered.is_empty() && self.query.is_none() && self.copy.is_none() && !self.is_skipping;
        if self.block != Block::None || !self.frames.is_empty() {
            return Some(format!("it is in a transaction ({:?})", self.block));
        }
        if !rest.is_empty() || !is_quiet {
            return Some(format!("it has work to do ({} bytes not read)", rest.len()));
        }
        (!self.local.is_empty()).then(|| "settings of a transaction are left".to_owned())
    }

    /// Whether it waits for the first message of a segment, outside of any transaction.
    pub fn is_between_segments(&self) -> bool {
        let is_at_rest = self.unrest(b"").is_none() && self.input.is_empty() && self.out.is_empty();
        is_at_rest && !self.is_segment_open && !self.is_closed
    }

    /// How many statements are prepared under a name.
    pub fn prepared(&self) -> usize {
        self.statements.keys().filter(|name| !name.is_empty()).count()
    }

    /// A cancel request has come: it hits what runs, or what is about to; nothing, if nothing is.
    pub fn cancel(&mut self) {
        let is_busy = matches!(self.sleep, Sleep::Until(_)) || self.query.is_some() || self.has_frame();
        self.is_cancelled |= is_busy && self.copy.is_none() && !self.is_closed;
    }

    /// When it goes on by itself.
    pub fn wakes_at(&self) -> Option<Moment> {
        if let Sleep::Until(at) = self.sleep { Some(at) } else { None }
    }

    fn has_frame(&self) -> bool {
        Head::read(&self.input).is_ok_and(|head| head.is_some_and(|head| self.input.len() >= head.frame_bytes()))
    }

    /// Does one thing; whether there was one.
    pub fn step(&mut self, database: &mut Database, now: Moment) -> bool {
        if self.is_closed {
            return false;
        }
        if let Sleep::Until(at) = self.sleep {
            if now < at && !self.is_cancelled {
                return false;
            }
            self.sleep = Sleep::Over;
        }
        if self.query.is_some() && self.copy.is_none() {
            self.go_on_with_query(database, now);
            return true;
        }
        let head = match Head::read(&self.input) {
            Ok(Some(head)) if self.input.len() >= head.frame_bytes() => head,
            Ok(_) => {
                self.is_cancelled = false;
                if self.has_news(database) {
                    self.tell_notified(database);
                }
                return false;
            }
            Err(fault) => {
                self.violated(format!("not a message: {fault}"));
                self.hang_up();
                return true;
            }
        };
        if head.tag == b'E' && self.copy.is_none() && self.falls_asleep(head, now) {
            return true;
        }
        let frame = self.input.split_to(head.frame_bytes());
        self.is_segment_open = match head.tag {
            b'S' | b'Q' => false,
            b'P' | b'B' | b'D' | b'E' | b'C' | b'H' => true,
            _ => self.is_segment_open,
        };
        // A COPY's data is the COPY's.
        self.at = if self.copy.is_some() { self.at } else { self.consumed };
        if self.copy.is_some() {
            self.take_copy(head.tag, &frame[HEAD_BYTES..], database);
        } else {
            self.take(head.tag, &frame[HEAD_BYTES..], database, now);
        }
        self.consumed += frame.len() as u64;
        // One that finds nothing to hit is forgotten with the next command that is read.
        self.is_cancelled &= self.query.is_some();
        true
    }

    fn falls_asleep(&mut self, head: Head, now: Moment) -> bool {
        let body = &self.input[HEAD_BYTES..head.frame_bytes()];
        let Ok((name, _)) = frontend::read_execute(body) else { return false };
        let Some(portal) = self.portals.get(name) else { return false };
        let Some(Parsed { sql: Sql::Slow(_, millis), .. }) = portal.parsed else { return false };
        self.begin_sleep(millis, now)
    }

    /// Whether it has to wait before a slow statement runs.
    fn begin_sleep(&mut self, millis: u64, now: Moment) -> bool {
        let begins = self.sleep == Sleep::Not && !self.is_alone && !self.is_skipping && self.block != Block::Failed;
        if begins {
            self.sleep = Sleep::Until(now.after(std::time::Duration::from_millis(millis)));
        }
        begins
    }

    fn violated(&mut self, what: String) {
        if !self.is_alone {
            self.events.push(Event::Violation(what));
        }
    }

    fn take(&mut self, tag: u8, body: &[u8], database: &mut Database, now: Moment) {
        if self.is_skipping && !matches!(tag, b'S' | b'X') {
            return;
        }
        let is_early = self.failures.get(&self.emitted).is_some_and(|failure| failure.is_early);
        if tag == b'P' && body.first() == Some(&0) && !is_early {
            // Whatever becomes of the new one.
            self.statements.remove(&b""[..]);
        }
        if matches!(tag, b'P' | b'B' | b'D' | b'E')
            && let Err(fault) = self.check_refusal()
        {
            return self.fail(fault, true);
        }
        let done = match tag {
            b'Q' => return self.on_query(body, database, now),
            b'P' => self.on_parse(body),
            b'B' => self.on_bind(body),
            b'D' => self.on_describe(body),
            b'E' => self.on_execute(body, database),
            b'C' => self.on_close(body),
            b'S' => return self.on_sync(database),
            b'H' => return self.flush(),
            b'X' => {
                self.flush();
                return self.hang_up();
            }
            b'd' | b'c' | b'f' => return self.events.push(Event::Stray { at: self.at }),
            _ => {
                self.violated(format!("a message of type {:?}", char::from(tag)));
                return self.hang_up();
            }
        };
        if let Err(fault) = done {
            self.fail(fault, true);
        }
    }

    // -- replies

    fn flush(&mut self) {
        let buffered = self.buffered.split();
        self.out.extend_from_slice(&buffered);
    }

    /// A reply, unless an error takes its place.
    fn emit(&mut self, tag: u8, write: impl FnOnce(&mut BytesMut)) -> Reply<()> {
        self.may_emit()?;
        self.emitted += 1;
        put_message(&mut self.buffered, tag, write);
        Ok(())
    }

    fn may_emit(&self) -> Reply<()> {
        match self.failures.get(&self.emitted) {
            Some(failure) => Err(error(failure.state, failure.message.clone())),
            None => Ok(()),
        }
    }

    /// A refusal comes before anything is done; a cancel, in the middle of it.
    fn check_refusal(&self) -> Reply<()> {
        let refused = self.failures.get(&self.emitted).filter(|failure| failure.state != "57014");
        refused.map_or(Ok(()), |_| self.may_emit())
    }

    fn emit_tag(&mut self, tag: &str) -> Reply<()> {
        self.emit(b'C', |out| put_cstr(out, tag.as_bytes()))
    }

    fn emit_columns(&mut self, sql: &Sql) -> Reply<()> {
        match sql.columns() {
            None => Ok(()),
            Some(column) => self.emit(b'T', |out| {
                let columns = column.split(COLUMN).filter(|column| !column.is_empty());
                out.put_i16(i16::try_from(columns.clone().count()).unwrap_or(0));
                for column in columns {
                    put_cstr(out, column.as_bytes());
                    let is_void = column == "pg_advisory_unlock_all";
                    out.put_slice(&[0, 0, 0, 0, 0, 0, 0, 0]);
                    out.put_slice(if is_void { &[8, 230, 0, 4] } else { &[0, 25, 255, 255] });
                    out.put_slice(&[255, 255, 255, 255, 0, 0]);
                }
            }),
        }
    }

    fn emit_row(&mut self, row: &str) -> Reply<()> {
        self.emit(b'D', |out| {
            out.put_i16(i16::try_from(row.split(COLUMN).count()).unwrap_or(0));
            for value in row.split(COLUMN) {
                if value == NULL {
                    out.put_i32(-1);
                    continue;
                }
                out.put_i32(i32::try_from(value.len()).unwrap_or(0));
                out.put_slice(value.as_bytes());
            }
        })
    }

    fn say(&mut self, tag: u8, severity: &str, fault: &PgError) {
        self.emitted += 1;
        put_message(&mut self.buffered, tag, |out| {
            for (kind, value) in [(b'S', severity), (b'V', severity), (b'C', fault.state), (b'M', &fault.message)] {
                out.put_u8(kind);
                put_cstr(out, value.as_bytes());
            }
            if let Some(position) = fault.position {
                out.put_u8(b'P');
                put_cstr(out, position.to_string().as_bytes());
            }
            out.put_u8(0);
        });
        self.flush();
    }

    fn warn(&mut self, state: &'static str, message: &str) {
        self.say(b'N', "WARNING", &error(state, message));
    }

    fn fail(&mut self, fault: PgError, is_extended: bool) {
        self.say(b'E', if fault.is_fatal { "FATAL" } else { "ERROR" }, &fault);
        (self.query, self.copy, self.sleep) = (None, None, Sleep::Not);
        if fault.is_fatal {
            return self.hang_up();
        }
        if matches!(self.block, Block::Begun | Block::Failed) {
            if self.block == Block::Begun {
                self.block = Block::Failed;
                if let Some(frame) = self.frames.last().cloned() {
                    (self.session, self.local) = (frame.session, frame.local);
                    self.kept.undoable = frame.kept;
                }
            }
        } else {
            self.abort();
        }
        if is_extended {
            self.is_skipping = true;
        } else {
            self.ready();
        }
    }

    fn ready(&mut self) {
        let now = self.to_report();
        for (name, value) in now.iter().filter(|(name, value)| self.reported.get(*name) != Some(value)) {
            self.emitted += 1;
            tenantgate::wire::backend::put_parameter_status(&mut self.buffered, name.as_bytes(), value.as_bytes());
        }
        self.reported = now;
        let status = match self.block {
            Block::None | Block::Implicit => b'I',
            Block::Begun => b'T',
            Block::Failed => b'E',
        };
        self.emitted += 1;
        self.buffered.put_slice(&[b'Z', 0, 0, 0, 5, status]);
        self.flush();
    }

    // -- transactions

    fn start(&mut self) {
        if self.frames.is_empty() {
            let name = String::new();
            let frame = self.frame(name);
            self.frames.push(frame);
        }
    }

    fn frame(&self, name: String) -> Frame {
        Frame {
            kept: self.kept.undoable.clone(),
            name,
            session: self.session.clone(),
            local: self.local.clone(),
            notes: self.notes.clone(),
            fails_at_commit: self.fails_at_commit,
        }
    }

    fn end(&mut self) {
        self.frames.clear();
        self.notes.clear();
        self.portals.clear();
        self.local.clear();
        self.fails_at_commit = false;
        self.has_snapshot = false;
        (self.xid, self.is_used) = (None, false);
        self.executed = 0;
        self.block = Block::None;
    }

    fn abort(&mut self) {
        if let Some(frame) = self.frames.first().cloned() {
            (self.session, self.local) = (frame.session, frame.local);
            self.kept.undoable = frame.kept;
        }
        self.end();
    }

    fn commit(&mut self, database: &mut Database) -> Reply<()> {
        let fails = self.fails_at_commit;
        self.events.push(Event::Commit(Commit { at: self.at, xid: self.xid, is_used: self.is_used, fails }));
        if fails {
            self.abort();
            return Err(error("23503", "a deferred constraint is violated"));
        }
        let was_deaf = self.frames.first().is_none_or(|frame| frame.kept.channels.is_empty());
        if was_deaf {
            self.kept.heard = database.notified.len();
        }
        database.notified.append(&mut self.kept.undoable.notices);
        for (mark, count) in std::mem::take(&mut self.notes) {
            *database.notes.entry(mark).or_default() += count;
        }
        self.end();
        Ok(())
    }

    /// Ends what is no block of the client's.
    fn finish(&mut self, database: &mut Database) -> Reply<()> {
        let is_open = !self.frames.is_empty() && matches!(self.block, Block::None | Block::Implicit);
        if is_open { self.commit(database) } else { Ok(()) }
    }

    // -- the simple protocol

    fn on_query(&mut self, body: &[u8], database: &mut Database, now: Moment) {
        self.statements.remove(&b""[..]);
        self.portals.remove(&b""[..]);
        let text = String::from_utf8_lossy(body.strip_suffix(b"\0").unwrap_or(body)).into_owned();
        self.start();
        match parse(&text) {
            Err(_) => self.fail(error("42601", "syntax error"), false),
            Ok(list) if list.is_empty() => {
                let done = self.emit(b'I', |_| {}).and_then(|()| self.finish(database));
                match done {
                    Ok(()) => self.ready(),
                    Err(fault) => self.fail(fault, false),
                }
            }
            Ok(list) => {
                self.query = Some(QueryRun { list, next: 0 });
                self.go_on_with_query(database, now);
            }
        }
    }

    fn go_on_with_query(&mut self, database: &mut Database, now: Moment) {
        let Some(run) = self.query.as_mut() else { return };
        let Some(parsed) = run.list.get(run.next).cloned() else {
            self.query = None;
            return self.ready();
        };
        let (is_single, is_last) = (run.list.len() == 1, run.next + 1 == run.list.len());
        if let Sql::Slow(_, millis) = parsed.sql
            && self.begin_sleep(millis, now)
        {
            return;
        }
        self.start();
        if !is_single && self.block == Block::None {
            self.block = Block::Implicit;
        }
        if let Err(fault) = self.run_of_query(&parsed, is_last, database) {
            self.fail(fault, false);
        }
    }

    fn run_of_query(&mut self, parsed: &Parsed, is_last: bool, database: &mut Database) -> Reply<()> {
        self.check_cancel()?;
        self.check_block(&parsed.sql)?;
        self.check_tenant(&parsed.sql)?;
        self.analyse(parsed)?;
        if let Sql::Execute(name) = &parsed.sql {
            self.find_prepared(name)?;
        }
        if parsed.sql == Sql::CopyIn {
            return self.begin_copy(false);
        }
        self.emit_columns(&parsed.sql)?;
        let (rows, tag) = self.run(&parsed.sql, &[], false, database)?;
        self.emit_rows(&parsed.sql, &rows)?;
        self.end_of_statement(&tag, is_last, database)
    }

    fn end_of_statement(&mut self, tag: &str, is_last: bool, database: &mut Database) -> Reply<()> {
        self.sleep = Sleep::Not;
        self.may_emit()?;
        if is_last {
            self.finish(database)?;
        }
        self.emit_tag(tag)?;
        if let Some(run) = self.query.as_mut() {
            run.next += 1;
        }
        Ok(())
    }

    fn emit_rows(&mut self, sql: &Sql, rows: &[String]) -> Reply<()> {
        if let Sql::CopyOut(..) = sql {
            self.emit(b'H', |out| out.put_slice(&[0, 0, 1, 0, 0]))?;
            for row in rows {
                self.emit(b'd', |out| out.put_slice(format!("{row}\n").as_bytes()))?;
            }
            return self.emit(b'c', |_| {});
        }
        rows.iter().try_for_each(|row| self.emit_row(row))
    }

    fn check_cancel(&mut self) -> Reply<()> {
        self.may_emit()?;
        if !self.is_cancelled {
            return Ok(());
        }
        self.is_cancelled = false;
        self.events.push(Event::CancelHit { at: self.at });
        Err(error("57014", "canceling statement due to user request"))
    }

    /// Alone it refuses what the proxy refuses: what needs a tenant that nobody has claimed.
    fn check_tenant(&self, sql: &Sql) -> Reply<()> {
        let is_claim = matches!(sql, Sql::Configure { name: Value::Text(name), .. } if name == TENANT);
        let is_needed =
            sql.takes_snapshot() || matches!(sql, Sql::Missing(_)) || matches!(sql, Sql::Show(name) if name == TENANT);
        let is_missing = self.value(TENANT).is_empty();
        if self.is_alone && self.has_claims && is_needed && !is_claim && is_missing {
            return Err(error("42501", "nobody"));
        }
        Ok(())
    }

    fn check_block(&self, sql: &Sql) -> Reply<()> {
        if self.block == Block::Failed && !sql.is_exit() {
            return Err(in_failed_block());
        }
        Ok(())
    }

    // -- the extended protocol

    fn on_parse(&mut self, body: &[u8]) -> Reply<()> {
        let Ok(parse_message) = Parse::read(body) else { return Err(malformed()) };
        let Parse { name, sql, .. } = parse_message;
        self.check_cancel()?;
        self.start();
        let mut list = parse(&String::from_utf8_lossy(sql)).map_err(|_| error("42601", "syntax error"))?;
        if list.len() > 1 {
            return Err(error("42601", "cannot insert multiple commands into a prepared statement"));
        }
        let parsed = list.pop();
        if let Some(parsed) = &parsed {
            self.check_block(&parsed.sql)?;
            self.analyse(parsed)?;
        }
        if !name.is_empty() && self.statements.contains_key(name) {
            let name = String::from_utf8_lossy(name);
            return Err(error("42P05", format!("prepared statement \"{name}\" already exists")));
        }
        self.emit(b'1', |_| {})?;
        self.statements.insert(name.to_vec(), Prepared { parsed });
        Ok(())
    }

    fn find_statement(&self, name: &[u8]) -> Reply<Prepared> {
        self.statements.get(name).cloned().ok_or_else(|| match name {
            b"" => error("26000", "unnamed prepared statement does not exist"),
            name => error("26000", format!("prepared statement \"{}\" does not exist", String::from_utf8_lossy(name))),
        })
    }

    fn on_bind(&mut self, body: &[u8]) -> Reply<()> {
        let Ok(names) = frontend::BindNames::read(body) else { return Err(malformed()) };
        let prepared = self.find_statement(names.statement)?;
        self.check_cancel()?;
        self.start();
        if let Some(parsed) = prepared.parsed.as_ref().filter(|_| self.block != Block::Failed) {
            self.check_tenant(&parsed.sql)?;
        }
        let count = prepared.parsed.as_ref().map_or(0, |parsed| parsed.sql.parameters());
        let values = body.get(names.prefix_bytes..).unwrap_or_default();
        let mut parameters = Vec::new();
        for number in 1..=count {
            let value = u16::try_from(number).ok().and_then(|number| frontend::bound_value(values, number).ok());
            let Some(Some(value)) = value else { return Err(error("08P01", "wrong number of parameters")) };
            parameters.push(String::from_utf8_lossy(value).into_owned());
        }
        if self.block == Block::Failed && !prepared.parsed.as_ref().is_some_and(|parsed| parsed.sql.is_exit()) {
            return Err(in_failed_block());
        }
        if !names.portal.is_empty() && self.portals.contains_key(names.portal) {
            let name = String::from_utf8_lossy(names.portal);
            return Err(error("42P03", format!("cursor \"{name}\" already exists")));
        }
        // Planning takes a snapshot.
        self.has_snapshot |= prepared.parsed.as_ref().is_some_and(|parsed| parsed.sql.takes_snapshot());
        self.emit(b'2', |_| {})?;
        let level = self.frames.len();
        let portal = Portal { parsed: prepared.parsed, parameters, rows: None, given: 0, level };
        self.portals.insert(names.portal.to_vec(), portal);
        Ok(())
    }

    fn find_portal(&self, name: &[u8]) -> Reply<Portal> {
        let missing = || error("34000", format!("portal \"{}\" does not exist", String::from_utf8_lossy(name)));
        self.portals.get(name).cloned().ok_or_else(missing)
    }

    fn on_describe(&mut self, body: &[u8]) -> Reply<()> {
        let Ok((target, name)) = frontend::read_target(body) else { return Err(malformed()) };
        self.start();
        let parsed = match target {
            Target::Statement => self.find_statement(name)?.parsed,
            Target::Portal => self.find_portal(name)?.parsed,
        };
        let columns = parsed.as_ref().filter(|parsed| parsed.sql.columns().is_some());
        if self.block == Block::Failed && columns.is_some() {
            return Err(in_failed_block());
        }
        if target == Target::Statement {
            let count = parsed.as_ref().map_or(0, |parsed| parsed.sql.parameters());
            self.emit(b't', |out| {
                out.put_i16(i16::try_from(count).unwrap_or(0));
                (0..count).for_each(|_| out.put_i32(25));
            })?;
        }
        match columns {
            Some(parsed) => self.emit_columns(&parsed.sql),
            None => self.emit(b'n', |_| {}),
        }
    }

    fn on_execute(&mut self, body: &[u8], database: &mut Database) -> Reply<()> {
        let Ok((name, limit)) = frontend::read_execute(body) else { return Err(malformed()) };
        let mut portal = self.find_portal(name)?;
        self.start();
        let Some(parsed) = portal.parsed.clone() else { return self.emit(b'I', |_| {}) };
        self.check_cancel()?;
        self.check_block(&parsed.sql)?;
        if parsed.sql == Sql::CopyIn {
            return self.begin_copy(true);
        }
        let has_run = portal.rows.is_some();
        if has_run && parsed.sql.columns().is_none() {
            return Err(error("55000", format!("portal \"{}\" cannot be run", String::from_utf8_lossy(name))));
        }
        let mut tag = String::new();
        if !has_run {
            let (rows, run_tag) = self.run(&parsed.sql, &portal.parameters, true, database)?;
            (portal.rows, tag) = (Some(rows), run_tag);
        }
        self.sleep = Sleep::Not;
        self.executed += usize::from(!parsed.sql.is_transaction_control());
        if self.portals.contains_key(name) {
            self.portals.insert(name.to_vec(), portal.clone());
        }
        if parsed.sql.columns().is_none() {
            self.emit_rows(&parsed.sql, portal.rows.as_deref().unwrap_or_default())?;
            return self.emit_tag(&tag);
        }
        self.give_rows(name, &parsed.sql, portal, usize::try_from(limit).unwrap_or(0))
    }

    fn give_rows(&mut self, name: &[u8], sql: &Sql, mut portal: Portal, limit: usize) -> Reply<()> {
        let rows = portal.rows.clone().unwrap_or_default();
        let left = rows.get(portal.given..).unwrap_or_default();
        let count = if limit == 0 { left.len() } else { limit.min(left.len()) };
        left[..count].iter().try_for_each(|row| self.emit_row(row))?;
        portal.given += count;
        if self.portals.contains_key(name) {
            self.portals.insert(name.to_vec(), portal);
        }
        match sql {
            _ if limit > 0 && count == limit => self.emit(b's', |_| {}),
            Sql::Show(_) => self.emit_tag("SHOW"),
            _ => self.emit_tag(&format!("SELECT {count}")),
        }
    }

    fn on_close(&mut self, body: &[u8]) -> Reply<()> {
        let Ok((target, name)) = frontend::read_target(body) else { return Err(malformed()) };
        match target {
            Target::Statement => drop(self.statements.remove(name)),
            Target::Portal => drop(self.portals.remove(name)),
        }
        self.emit(b'3', |_| {})
    }

    fn on_sync(&mut self, database: &mut Database) {
        self.is_skipping = false;
        let is_open = !self.frames.is_empty() && self.block == Block::None;
        let refused = self.failures.get(&self.emitted).filter(|failure| is_open && !failure.is_early);
        let done = match refused.map(|failure| error(failure.state, failure.message.clone())) {
            Some(fault) => {
                // Its commit was refused.
                self.abort();
                Err(fault)
            }
            None => self.finish(database),
        };
        if let Err(fault) = done {
            self.say(b'E', "ERROR", &fault);
        }
        self.ready();
    }

    // -- COPY FROM STDIN

    fn begin_copy(&mut self, is_extended: bool) -> Reply<()> {
        self.has_snapshot = true;
        self.emit(b'G', |out| out.put_slice(&[0, 0, 1, 0, 0]))?;
        self.flush();
        self.copy = Some(CopyIn { is_extended, data: Vec::new(), rows: Vec::new() });
        Ok(())
    }

    fn take_copy(&mut self, tag: u8, body: &[u8], database: &mut Database) {
        let Some(mut copy) = self.copy.take() else { return };
        let is_extended = copy.is_extended;
        let done = match tag {
            b'd' => {
                copy.data.extend_from_slice(body);
                let done = self.take_lines(&mut copy);
                self.copy = Some(copy);
                done
            }
            b'c' => self.end_copy(&copy, database),
            b'f' => {
                let said = String::from_utf8_lossy(body.strip_suffix(b"\0").unwrap_or(body)).into_owned();
                Err(error("57014", format!("COPY from stdin failed: {said}")))
            }
            b'H' | b'S' => {
                self.copy = Some(copy);
                Ok(())
            }
            b'X' => return self.hang_up(),
            _ => Err(PgError { is_fatal: true, ..error("08P01", "unexpected message during COPY from stdin") }),
        };
        if let Err(fault) = done {
            self.fail(fault, is_extended);
        }
    }

    fn take_lines(&mut self, copy: &mut CopyIn) -> Reply<()> {
        while let Some(end) = copy.data.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = copy.data.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let Some((mark, _)) = line.split_once('\t') else {
                return Err(error("22P04", "missing data for column \"value\""));
            };
            self.touch(mark);
            copy.rows.push(mark.to_owned());
        }
        Ok(())
    }

    fn end_copy(&mut self, copy: &CopyIn, database: &mut Database) -> Reply<()> {
        self.assign(database);
        for mark in &copy.rows {
            *self.notes.entry(mark.clone()).or_default() += 1;
        }
        let tag = format!("COPY {}", copy.rows.len());
        self.executed += 1;
        if copy.is_extended {
            return self.emit_tag(&tag);
        }
        let is_last = self.query.as_ref().is_none_or(|run| run.next + 1 == run.list.len());
        self.end_of_statement(&tag, is_last, database)
    }

    // -- statements

    fn value(&self, name: &str) -> String {
        let found = self.local.get(name).or_else(|| self.session.get(name)).or_else(|| self.defaults.get(name));
        found.cloned().unwrap_or_default()
    }

    /// A statement of that sender runs.
    fn touch(&mut self, mark: &str) {
        self.is_used = true;
        let (mark, tenant) = (mark.to_owned(), self.value(TENANT));
        self.events.push(Event::Statement { mark, tenant, at: self.at });
    }

    fn is_in_block(&self, is_extended: bool) -> bool {
        // Older servers do not take what stands behind an Execute for one of several.
        self.block != Block::None || (is_extended && self.executed > 0 && self.version >= 180_000)
    }

    /// What it gives, and its tag.
    fn run(
        &mut self,
        sql: &Sql,
        parameters: &[String],
        is_extended: bool,
        database: &mut Database,
    ) -> Reply<(Vec<String>, String)> {
        self.has_snapshot |= sql.takes_snapshot();
        let text = |value: &Value| match value {
            Value::Text(text) => text.clone(),
            Value::Parameter(number) => parameters.get(number - 1).cloned().unwrap_or_default(),
        };
        let rows = match sql {
            Sql::Probe(mark, _) | Sql::Slow(mark, _) | Sql::Warn(mark) | Sql::Fail(mark) => {
                self.probe(&text(mark), sql)?
            }
            Sql::Rows(mark, count) | Sql::CopyOut(mark, count) => {
                let mark = text(mark);
                self.touch(&mark);
                let tenant = self.value(TENANT);
                (1..=*count).map(|number| format!("{mark} {number} {tenant}")).collect()
            }
            Sql::Wide(mark, bytes) => {
                let mark = text(mark);
                self.touch(&mark);
                vec![mark.repeat(bytes / mark.len().max(1))]
            }
            Sql::Count(mark) => {
                let mark = text(mark);
                self.touch(&mark);
                let count = database.notes.get(&mark).unwrap_or(&0) + self.notes.get(&mark).unwrap_or(&0);
                vec![count.to_string()]
            }
            Sql::Insert(mark) | Sql::Later(mark) => {
                let mark = text(mark);
                self.touch(&mark);
                self.assign(database);
                *self.notes.entry(mark).or_default() += 1;
                self.fails_at_commit |= matches!(sql, Sql::Later(_));
                Vec::new()
            }
            Sql::Configure { name, value, local, hidden } => {
                let (name, value) = (text(name), text(value));
                self.set(&name, &value, *local)?;
                if *hidden { Vec::new() } else { vec![value] }
            }
            Sql::Literal(value, _) => vec![text(value)],
            Sql::FromTemp(mark, name) => {
                if !self.kept.undoable.tables.contains(name) {
                    return Err(error("42P01", format!("relation \"{name}\" does not exist")));
                }
                let mark = text(mark);
                self.touch(&mark);
                vec![format!("{mark} {name} {}", self.value(TENANT))]
            }
            Sql::Lock(_) => {
                self.kept.locks += 1;
                vec!["t".to_owned()]
            }
            Sql::UnlockAll(hidden) => {
                self.kept.locks = 0;
                if *hidden { Vec::new() } else { vec![String::new()] }
            }
            Sql::NothingUnlocked => vec![String::new()],
            Sql::IsLeft(kind) if self.has_left(*kind) => vec![String::new()],
            Sql::IsLeft(_) => Vec::new(),
            Sql::Execute(name) => {
                let inner = self.find_prepared(name)?;
                return self.run(&inner, &[], is_extended, database);
            }
            Sql::Standing => {
                let xid = self.xid.map_or_else(|| NULL.to_owned(), |xid| xid.to_string());
                let rest = ["0/15A3B48", "7", "0/15A3B48", "00000001", "7611", NULL];
                vec![rest.into_iter().fold(xid, |row, value| format!("{row}{COLUMN}{value}"))]
            }
            Sql::Show(name) => {
                self.known(name)?;
                vec![self.value(name)]
            }
            _ => {
                return self.run_control(sql, is_extended, database).map(|tag| (Vec::new(), tag.to_owned()));
            }
        };
        let tag = match sql {
            Sql::Insert(_) | Sql::Later(_) => "INSERT 0 1".to_owned(),
            Sql::CopyOut(..) => format!("COPY {}", rows.len()),
            Sql::Show(_) => "SHOW".to_owned(),
            _ => format!("SELECT {}", rows.len()),
        };
        Ok((rows, tag))
    }

    /// The transaction writes.
    fn assign(&mut self, database: &mut Database) {
        if self.xid.is_none() {
            database.xid += 1;
            self.xid = Some(database.xid);
        }
    }

    fn probe(&mut self, mark: &str, sql: &Sql) -> Reply<Vec<String>> {
        self.touch(mark);
        match sql {
            Sql::Warn(_) => self.warn("01000", &format!("warning of {mark}")),
            Sql::Fail(_) => return Err(error("22012", "division by zero")),
            Sql::Probe(_, number) => return Ok(vec![format!("{mark} {number} {}", self.value(TENANT))]),
            _ => {}
        }
        Ok(vec![format!("{mark} {}", self.value(TENANT))])
    }

    fn known(&self, name: &str) -> Reply<()> {
        if name == TENANT || self.defaults.contains_key(name) {
            return Ok(());
        }
        Err(error("42704", format!("unrecognized configuration parameter \"{name}\"")))
    }

    fn set(&mut self, name: &str, value: &str, local: bool) -> Reply<()> {
        self.known(name)?;
        if value == "nowhere" {
            return Err(error("22023", format!("invalid value for parameter \"{name}\": \"{value}\"")));
        }
        if name == TENANT {
            self.check_scope(local);
        }
        if local {
            self.local.insert(name.to_owned(), value.to_owned());
        } else {
            self.session.insert(name.to_owned(), value.to_owned());
            self.local.remove(name);
        }
        Ok(())
    }

    /// What a sealed scope would refuse, and what would not hold.
    fn check_scope(&mut self, local: bool) {
        if local == self.keeps_tenant {
            self.violated(format!("a tenant was set, {}", if local { "SET LOCAL" } else { "SET" }));
        }
        if self.has_claims {
            // Where and how often a client claims is its own affair.
            return;
        }
        if self.local.contains_key(TENANT) {
            self.violated("a tenant was put twice on one transaction".to_owned());
        }
        if self.frames.len() > 1 {
            self.violated("a tenant was put behind a savepoint, which may undo it".to_owned());
        }
    }

    fn run_control(&mut self, sql: &Sql, is_extended: bool, database: &mut Database) -> Reply<&'static str> {
        match sql {
            Sql::Begin(_) | Sql::SetTransaction | Sql::Set { .. } | Sql::Reset(_) | Sql::ResetAll => {
                self.run_setting(sql, is_extended)
            }
            Sql::Commit(chain) | Sql::Rollback(chain) => self.run_end(matches!(sql, Sql::Commit(_)), *chain, database),
            Sql::Savepoint(name) => {
                self.needs_block("SAVEPOINT")?;
                // It takes none, but no isolation level can be set behind it either.
                self.has_snapshot = true;
                let frame = self.frame(name.clone());
                self.frames.push(frame);
                Ok("SAVEPOINT")
            }
            Sql::Release(name) => {
                self.needs_block("RELEASE SAVEPOINT")?;
                let at = self.savepoint(name)?;
                self.frames.truncate(at);
                Ok("RELEASE")
            }
            Sql::RollbackTo(name) => {
                self.needs_block("ROLLBACK TO SAVEPOINT")?;
                let at = self.savepoint(name)?;
                self.frames.truncate(at + 1);
                let frame = self.frames[at].clone();
                (self.session, self.local, self.notes) = (frame.session, frame.local, frame.notes);
                self.kept.undoable = frame.kept;
                self.fails_at_commit = frame.fails_at_commit;
                self.block = Block::Begun;
                self.portals.retain(|_, portal| portal.level <= at);
                Ok("ROLLBACK")
            }
            Sql::DiscardAll => self.run_discard(is_extended),
            Sql::DeallocateAll => {
                self.violated("DEALLOCATE ALL reached a server".to_owned());
                self.statements.retain(|name, _| name.is_empty());
                self.kept.prepared.clear();
                Ok("DEALLOCATE ALL")
            }
            Sql::UnlistenNothing => Ok("UNLISTEN"),
            _ => self.run_kept(sql),
        }
    }

    /// What leaves something beyond the transaction, or takes it away.
    fn run_kept(&mut self, sql: &Sql) -> Reply<&'static str> {
        let kept = &mut self.kept;
        let missing = |name: &str| error("26000", format!("prepared statement \"{name}\" does not exist"));
        Ok(match sql {
            Sql::CreateTemp(name) => {
                if !kept.undoable.tables.insert(name.clone()) {
                    return Err(error("42P07", format!("relation \"{name}\" already exists")));
                }
                "CREATE TABLE"
            }
            Sql::Listen(channel) => {
                kept.undoable.channels.insert(channel.clone());
                "LISTEN"
            }
            Sql::Unlisten(channel) => {
                kept.undoable.channels.retain(|known| channel.as_ref().is_some_and(|channel| channel != known));
                "UNLISTEN"
            }
            Sql::Notify(channel, payload) => {
                kept.undoable.notices.push((channel.clone(), payload.clone()));
                "NOTIFY"
            }
            Sql::Prepare(name, inner) => {
                if kept.prepared.contains_key(name) {
                    return Err(error("42P05", format!("prepared statement \"{name}\" already exists")));
                }
                kept.prepared.insert(name.clone(), (**inner).clone());
                "PREPARE"
            }
            Sql::Deallocate(name) => {
                kept.prepared.remove(name).ok_or_else(|| missing(name))?;
                "DEALLOCATE"
            }
            Sql::DiscardTemp => {
                kept.undoable.tables.clear();
                "DISCARD TEMP"
            }
            Sql::DiscardSequences => "DISCARD SEQUENCES",
            Sql::CloseAll => "CLOSE CURSOR ALL",
            _ => return Err(error("XX000", "no such statement in the model")),
        })
    }

    fn analyse(&self, parsed: &Parsed) -> Reply<()> {
        let fault = match &parsed.sql {
            Sql::Missing(state) => error(state, "there is no such thing"),
            Sql::FromTemp(_, name) if !self.kept.undoable.tables.contains(name) => {
                error("42P01", format!("relation \"{name}\" does not exist"))
            }
            _ => return Ok(()),
        };
        Err(PgError { position: Some(parsed.position), ..fault })
    }

    fn find_prepared(&self, name: &str) -> Reply<Sql> {
        let missing = || error("26000", format!("prepared statement \"{name}\" does not exist"));
        self.kept.prepared.get(name).cloned().ok_or_else(missing)
    }

    /// Whether it is about to tell something that was notified.
    pub fn has_news(&self, database: &Database) -> bool {
        let is_idle = self.block == Block::None && self.frames.is_empty() && !self.is_segment_open && !self.is_closed;
        is_idle && !self.kept.undoable.channels.is_empty() && self.kept.heard < database.notified.len()
    }

    /// What of a kind is left on it.
    fn has_left(&self, kind: Kind) -> bool {
        match kind {
            Kind::Temporary => !self.kept.undoable.tables.is_empty(),
            Kind::Channels => !self.kept.undoable.channels.is_empty(),
            Kind::Cursors => false,
            Kind::Prepared => !self.kept.prepared.is_empty(),
            Kind::Locks => self.kept.locks > 0,
        }
    }

    /// What a client has left, if anything.
    pub fn leftovers(&self) -> Option<String> {
        let kinds = [Kind::Temporary, Kind::Channels, Kind::Cursors, Kind::Prepared, Kind::Locks];
        let left: Vec<Kind> = kinds.into_iter().filter(|kind| self.has_left(*kind)).collect();
        (!left.is_empty()).then(|| format!("{left:?} are left on it"))
    }

    /// Outside of transactions it tells what it listens to.
    fn tell_notified(&mut self, database: &Database) {
        for (channel, payload) in database.notified.iter().skip(self.kept.heard) {
            if self.kept.undoable.channels.contains(channel) && !self.is_alone {
                self.events.push(Event::Notified(payload.clone()));
                put_message(&mut self.buffered, b'A', |out| {
                    out.put_i32(self.process_id);
                    put_cstr(out, channel.as_bytes());
                    put_cstr(out, payload.as_bytes());
                });
            }
        }
        self.kept.heard = database.notified.len();
        self.flush();
    }

    fn needs_block(&self, what: &str) -> Reply<()> {
        if matches!(self.block, Block::Begun | Block::Failed) {
            return Ok(());
        }
        Err(error("25P01", format!("{what} can only be used in transaction blocks")))
    }

    fn savepoint(&self, name: &str) -> Reply<usize> {
        let at = self.frames.iter().skip(1).rposition(|frame| frame.name == *name);
        at.map(|at| at + 1).ok_or_else(|| error("3B001", format!("savepoint \"{name}\" does not exist")))
    }

    fn run_setting(&mut self, sql: &Sql, is_extended: bool) -> Reply<&'static str> {
        let is_in_block = self.is_in_block(is_extended);
        match sql {
            Sql::Begin(has_level) => {
                if matches!(self.block, Block::None | Block::Implicit) {
                    self.block = Block::Begun;
                } else {
                    self.warn("25001", "there is already a transaction in progress");
                }
                if *has_level && self.has_snapshot {
                    return Err(late_isolation_level());
                }
                Ok("BEGIN")
            }
            Sql::SetTransaction => {
                if !is_in_block {
                    self.warn("25P01", "SET TRANSACTION can only be used in transaction blocks");
                }
                if self.has_snapshot { Err(late_isolation_level()) } else { Ok("SET") }
            }
            Sql::Set { name, value, local } => {
                if *local && !is_in_block {
                    self.warn("25P01", "SET LOCAL can only be used in transaction blocks");
                }
                self.set(name, value, *local)?;
                Ok("SET")
            }
            Sql::Reset(name) => {
                self.known(name)?;
                self.session.remove(name);
                self.local.remove(name);
                Ok("RESET")
            }
            _ => {
                self.violated("RESET ALL reached a server".to_owned());
                self.session.clear();
                self.local.clear();
                Ok("RESET")
            }
        }
    }

    fn run_end(&mut self, is_commit: bool, chain: bool, database: &mut Database) -> Reply<&'static str> {
        let was = self.block;
        let is_outside = matches!(was, Block::None | Block::Implicit);
        if is_outside && chain {
            let what = if is_commit { "COMMIT" } else { "ROLLBACK" };
            return Err(error("25P01", format!("{what} AND CHAIN can only be used in transaction blocks")));
        }
        if is_outside {
            self.warn("25P01", "there is no transaction in progress");
        }
        let commits = is_commit && was != Block::Failed;
        if commits {
            self.commit(database)?;
        } else {
            self.abort();
        }
        if chain {
            self.start();
            self.block = Block::Begun;
        }
        Ok(if commits { "COMMIT" } else { "ROLLBACK" })
    }

    fn run_discard(&mut self, is_extended: bool) -> Reply<&'static str> {
        self.violated("DISCARD ALL reached a server".to_owned());
        if self.is_in_block(false) || (is_extended && self.executed > 0) {
            return Err(error("25001", "DISCARD ALL cannot run inside a transaction block"));
        }
        self.session.clear();
        self.local.clear();
        self.statements.retain(|name, _| name.is_empty());
        self.portals.clear();
        self.kept = Kept { heard: self.kept.heard, ..Kept::default() };
        if let Some(frame) = self.frames.first_mut() {
            (frame.session, frame.local) = (Settings::new(), Settings::new());
            frame.kept = Undoable::default();
        }
        Ok("DISCARD ALL")
    }
}

fn in_failed_block() -> PgError {
    error("25P02", "current transaction is aborted, commands ignored until end of transaction block")
}

fn late_isolation_level() -> PgError {
    error("25001", "SET TRANSACTION ISOLATION LEVEL must be called before any query")
}

fn malformed() -> PgError {
    PgError { is_fatal: true, ..error("08P01", "a malformed message") }
}

impl Backend {
    /// All that it has said, whether it was asked for it or not.
    pub fn everything(&self) -> Vec<u8> {
        [&self.out[..], &self.buffered[..]].concat()
    }
}

impl Backend {
    /// Whether it has nothing to do now.
    pub fn is_at_leisure(&self, now: Moment) -> bool {
        match self.sleep {
            Sleep::Until(at) if now < at && !self.is_cancelled => true,
            Sleep::Until(_) | Sleep::Over | Sleep::Not => {
                let is_running = self.query.is_some() && self.copy.is_none();
                !(is_running || self.has_frame() || self.is_cancelled) && self.out.is_empty() && self.events.is_empty()
            }
        }
    }
}
