//! One administrator's side of the protocol.
//!
//! ```text
//!            Query / Execute of a table ──▶ answered at once
//!   ready ──────────────────────────────────────────────────▶ ready
//!     │      … of what must be done ──▶ Performing ──performed()──┘
//!     │ error in the extended protocol
//!     ▼
//!   skipping to Sync
//! ```
//!
//! Simple and extended protocol, one command each, without parameters. There are no transactions: every ReadyForQuery
//! says idle. Owns: messages in, messages out, prepared commands and portals. Does not own: sockets, nor waiting for what must be done.

use std::collections::{HashMap, VecDeque};

use bytes::{Buf as _, BufMut as _, BytesMut};

use super::command::{Request, Right, parse};
use super::operations::{Actor, Command, Operations};
use super::rows::{View, help};
use super::table::{Column, ColumnKind, ColumnOrigin, Shown, Table, Value};
use super::words::COMMAND_BYTES_MAX;
use crate::fault::{Code, Fault};
use crate::tenant::TenantKind;
use crate::wire::TransactionStatus;
use crate::wire::backend;
use crate::wire::frame::{HEAD_BYTES, Head};
use crate::wire::frontend::{self, Parse, Target, put_cstr, put_message};
use crate::wire::reader::{Malformed, Reader};

/// A message holds one command and a few names.
const MESSAGE_BYTES_MAX: usize = COMMAND_BYTES_MAX + 1024;

/// Prepared commands and portals an administrator may hold, each.
const NAMES_MAX: usize = 64;

/// What the driver has to do next. What is in `out` has to be sent first, in every case.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Read more bytes.
    Read,
    /// Carry this out and call [`Console::performed`].
    Perform(Command),
    /// Close the connection.
    Close,
}

/// How a command came, which is how it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Simple,
    Extended,
}

/// A portal: what was bound, and rows that have not been fetched yet.
#[derive(Debug)]
struct Portal {
    request: Request,
    /// For each column whether its values are binary; one for all, or none: text.
    formats: Vec<bool>,
    rows: Option<(Vec<Column>, VecDeque<Vec<Value>>)>,
}

/// One administrator's console.
#[derive(Debug)]
pub struct Console {
    actor: Actor,
    right: Right,
    kind: TenantKind,
    prepared: HashMap<Vec<u8>, Request>,
    portals: HashMap<Vec<u8>, Portal>,
    is_skipping: bool,
    performing: Option<(Form, &'static str)>,
}

/// Why a message ends the session.
struct Fatal(Fault);

impl From<Malformed> for Fatal {
    fn from(malformed: Malformed) -> Self {
        Fatal(Fault::of(Code::ProtocolViolation).with_detail(malformed.to_string()))
    }
}

impl Console {
    /// For an administrator with these rights; tenants in commands are of this kind.
    #[must_use]
    pub fn new(actor: Actor, right: Right, kind: TenantKind) -> Self {
        let (prepared, portals) = (HashMap::new(), HashMap::new());
        Self { actor, right, kind, prepared, portals, is_skipping: false, performing: None }
    }

    /// Who it is.
    #[must_use]
    pub const fn actor(&self) -> &Actor {
        &self.actor
    }

    /// What a client is told behind AuthenticationOk.
    pub fn greet(out: &mut BytesMut, process_id: i32, secret: &[u8]) {
        // Beginning like PgBouncer's version, since tools that know it ask for features by it.
        let version = concat!("1.25.0/tenantgate-", env!("CARGO_PKG_VERSION"));
        for (name, value) in [
            ("server_version", version),
            ("client_encoding", "UTF8"),
            ("server_encoding", "UTF8"),
            ("DateStyle", "ISO"),
            ("TimeZone", "UTC"),
            ("integer_datetimes", "on"),
            ("standard_conforming_strings", "on"),
            ("is_superuser", "on"),
        ] {
            backend::put_parameter_status(out, name.as_bytes(), value.as_bytes());
        }
        backend::put_backend_key(out, process_id, secret);
        backend::put_ready(out, TransactionStatus::Idle);
    }

    /// Takes whole messages off `input` until there is something to do; replies go to `out`.
    pub fn handle_bytes<O: Operations>(
        &mut self,
        input: &mut BytesMut,
        out: &mut BytesMut,
        view: &View<'_, O>,
    ) -> Step {
        loop {
            let head = match Head::read(input) {
                Ok(Some(head)) => head,
                Ok(None) => return Step::Read,
                Err(fault) => return end(Fault::of(Code::ProtocolViolation).with_detail(fault.to_string()), out),
            };
            if head.body_bytes > MESSAGE_BYTES_MAX {
                return end(Fault::of(Code::MessageTooLong), out);
            }
            let Some(body) = input.get(HEAD_BYTES..head.frame_bytes()) else { return Step::Read };
            let done = self.handle_message(head.tag, body, out, view);
            input.advance(head.frame_bytes());
            match done {
                Ok(None) => {}
                Ok(Some(step)) => return step,
                Err(Fatal(fault)) => return end(fault, out),
            }
        }
    }

    /// What was asked for by [`Step::Perform`] is done, or failed.
    pub fn performed(&mut self, result: Result<(), Fault>, out: &mut BytesMut) {
        let Some((form, tag)) = self.performing.take() else { return };
        match result {
            Ok(()) => backend::put_command_complete(out, tag.as_bytes()),
            Err(fault) => self.fail(form, fault, out),
        }
        if form == Form::Simple {
            backend::put_ready(out, TransactionStatus::Idle);
        }
    }

    fn handle_message<O: Operations>(
        &mut self,
        tag: u8,
        body: &[u8],
        out: &mut BytesMut,
        view: &View<'_, O>,
    ) -> Result<Option<Step>, Fatal> {
        match tag {
            b'X' => return Ok(Some(Step::Close)),
            b'S' => {
                self.is_skipping = false;
                self.portals.clear();
                backend::put_ready(out, TransactionStatus::Idle);
                return Ok(None);
            }
            // Copy data behind a copy that never began is dropped, as PostgreSQL does.
            b'H' | b'd' | b'c' | b'f' => return Ok(None),
            b'Q' | b'P' | b'B' | b'D' | b'E' | b'C' | b'F' => {}
            _ => return Err(Fatal(Fault::of(Code::ProtocolViolation))),
        }
        if tag == b'Q' {
            return self.on_query(frontend::read_query(body)?, out, view);
        }
        if tag == b'F' {
            self.fail(Form::Simple, unsupported("There are no functions to call."), out);
            backend::put_ready(out, TransactionStatus::Idle);
            return Ok(None);
        }
        if self.is_skipping {
            return Ok(None);
        }
        let done = match tag {
            b'P' => self.on_parse(body, out)?,
            b'B' => self.on_bind(body, out)?,
            b'D' => self.on_describe(body, out)?,
            b'C' => self.on_close(body, out)?,
            _ => return self.on_execute(body, out, view),
        };
        if let Err(fault) = done {
            self.fail(Form::Extended, fault, out);
        }
        Ok(None)
    }

    /// An error; in the extended protocol what comes before the next Sync is ignored.
    fn fail(&mut self, form: Form, fault: Fault, out: &mut BytesMut) {
        backend::put_error(out, &fault);
        self.is_skipping = form == Form::Extended;
    }

    fn read(&self, text: &[u8]) -> Result<Request, Fault> {
        let text = std::str::from_utf8(text).map_err(|_| Fault::of(Code::NotUtf8))?;
        parse(text, self.right, self.kind)
    }

    fn on_query<O: Operations>(
        &mut self,
        text: &[u8],
        out: &mut BytesMut,
        view: &View<'_, O>,
    ) -> Result<Option<Step>, Fatal> {
        self.is_skipping = false;
        match self.read(text) {
            Err(fault) => self.fail(Form::Simple, fault, out),
            Ok(Request::Empty) => put_message(out, b'I', |_| {}),
            Ok(Request::Perform(command)) => return Ok(Some(self.begin(Form::Simple, command))),
            Ok(request) => {
                if let Some(shown) = answer(&request, view, out) {
                    put_row_description(out, &shown.columns, &[]);
                    shown.rows.iter().for_each(|row| put_row(out, &shown.columns, row, &[]));
                }
                backend::put_command_complete(out, request.tag().as_bytes());
            }
        }
        backend::put_ready(out, TransactionStatus::Idle);
        Ok(None)
    }

    fn begin(&mut self, form: Form, command: Command) -> Step {
        let request = Request::Perform(command);
        self.performing = Some((form, request.tag()));
        match request {
            Request::Perform(command) => Step::Perform(command),
            Request::Empty | Request::Show(_) | Request::ShowSetting(..) | Request::Set => Step::Read,
        }
    }

    fn on_parse(&mut self, body: &[u8], out: &mut BytesMut) -> Result<Result<(), Fault>, Fatal> {
        let message = Parse::read(body)?;
        if !message.name.is_empty() && self.prepared.contains_key(message.name) {
            return Ok(Err(Fault::native(b"42P05", "prepared statement already exists")));
        }
        if self.prepared.len() >= NAMES_MAX && !self.prepared.contains_key(message.name) {
            return Ok(Err(Fault::of(Code::TooManyNames)));
        }
        Ok(self.read(message.sql).map(|request| {
            self.prepared.insert(message.name.to_vec(), request);
            backend::put_parse_complete(out);
        }))
    }

    fn on_bind(&mut self, body: &[u8], out: &mut BytesMut) -> Result<Result<(), Fault>, Fatal> {
        let bind = Bind::read(body)?;
        if bind.parameters > 0 {
            return Ok(Err(unsupported("Commands have no parameters.")));
        }
        let Some(request) = self.prepared.get(bind.statement) else {
            return Ok(Err(Fault::native(b"26000", "prepared statement does not exist")));
        };
        if !bind.portal.is_empty() && self.portals.contains_key(bind.portal) {
            return Ok(Err(Fault::native(b"42P03", "portal already exists")));
        }
        if self.portals.len() >= NAMES_MAX && !self.portals.contains_key(bind.portal) {
            return Ok(Err(Fault::of(Code::TooManyNames)));
        }
        let portal = Portal { request: request.clone(), formats: bind.formats, rows: None };
        self.portals.insert(bind.portal.to_vec(), portal);
        put_message(out, b'2', |_| {});
        Ok(Ok(()))
    }

    fn on_describe(&self, body: &[u8], out: &mut BytesMut) -> Result<Result<(), Fault>, Fatal> {
        let (target, name) = frontend::read_target(body)?;
        let (request, formats) = match target {
            Target::Statement => match self.prepared.get(name) {
                Some(request) => {
                    put_message(out, b't', |out| out.put_i16(0));
                    (request, &[][..])
                }
                None => return Ok(Err(Fault::native(b"26000", "prepared statement does not exist"))),
            },
            Target::Portal => match self.portals.get(name) {
                Some(portal) => (&portal.request, portal.formats.as_slice()),
                None => return Ok(Err(Fault::native(b"34000", "portal does not exist"))),
            },
        };
        match columns_of(request) {
            Some(columns) => put_row_description(out, &columns, formats),
            None => put_message(out, b'n', |_| {}),
        }
        Ok(Ok(()))
    }

    fn on_close(&mut self, body: &[u8], out: &mut BytesMut) -> Result<Result<(), Fault>, Fatal> {
        let (target, name) = frontend::read_target(body)?;
        match target {
            Target::Statement => drop(self.prepared.remove(name)),
            Target::Portal => drop(self.portals.remove(name)),
        }
        backend::put_close_complete(out);
        Ok(Ok(()))
    }

    fn on_execute<O: Operations>(
        &mut self,
        body: &[u8],
        out: &mut BytesMut,
        view: &View<'_, O>,
    ) -> Result<Option<Step>, Fatal> {
        let (name, rows_max) = frontend::read_execute(body)?;
        let Some(portal) = self.portals.get_mut(name) else {
            self.fail(Form::Extended, Fault::native(b"34000", "portal does not exist"), out);
            return Ok(None);
        };
        match &portal.request {
            Request::Empty => put_message(out, b'I', |_| {}),
            Request::Perform(command) => {
                let command = command.clone();
                return Ok(Some(self.begin(Form::Extended, command)));
            }
            Request::Show(_) | Request::ShowSetting(..) | Request::Set => portal.fetch(rows_max, out, view),
        }
        Ok(None)
    }
}

impl Portal {
    /// As many rows as are wanted; none or fewer than none means all.
    fn fetch<O: Operations>(&mut self, rows_max: i32, out: &mut BytesMut, view: &View<'_, O>) {
        let formats = &self.formats;
        let (columns, rows) = self.rows.get_or_insert_with(|| {
            let shown = answer(&self.request, view, out);
            shown.map_or_else(Default::default, |shown| (shown.columns, shown.rows.into()))
        });
        let wanted = usize::try_from(rows_max).ok().filter(|wanted| *wanted > 0).unwrap_or(usize::MAX);
        for row in rows.drain(..wanted.min(rows.len())) {
            put_row(out, columns, &row, formats);
        }
        if rows.is_empty() {
            backend::put_command_complete(out, self.request.tag().as_bytes());
        } else {
            put_message(out, b's', |_| {});
        }
    }
}

/// What of a Bind matters here.
struct Bind<'a> {
    portal: &'a [u8],
    statement: &'a [u8],
    parameters: i16,
    formats: Vec<bool>,
}

impl<'a> Bind<'a> {
    fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let portal = reader.cstr("portal")?;
        let statement = reader.cstr("statement")?;
        for _ in 0..reader.i16("format count")? {
            reader.i16("parameter format")?;
        }
        let parameters = reader.i16("parameter count")?;
        let mut formats = Vec::new();
        if parameters <= 0 {
            for _ in 0..reader.i16("result format count")? {
                formats.push(reader.i16("result format")? == 1);
            }
        }
        Ok(Self { portal, statement, parameters, formats })
    }
}

fn end(fault: Fault, out: &mut BytesMut) -> Step {
    backend::put_error(out, &fault.fatal());
    Step::Close
}

fn unsupported(detail: &'static str) -> Fault {
    Fault::of(Code::ConsoleUnsupported).with_detail(detail)
}

/// The rows a request is answered with; SHOW HELP has none and writes its notice.
fn answer<O: Operations>(request: &Request, view: &View<'_, O>, out: &mut BytesMut) -> Option<Shown> {
    match request {
        Request::Show(Table::Help) => {
            put_help(out);
            None
        }
        Request::Show(table) => Some(view.show(*table)),
        Request::ShowSetting(name, value) => {
            Some(Shown { columns: vec![setting_column(name)], rows: vec![vec![(*value).into()]] })
        }
        Request::Empty | Request::Set | Request::Perform(_) => None,
    }
}

fn columns_of(request: &Request) -> Option<Vec<Column>> {
    match request {
        Request::Show(Table::Help) | Request::Empty | Request::Set | Request::Perform(_) => None,
        Request::Show(table) => Some(table.columns().to_vec()),
        Request::ShowSetting(name, _) => Some(vec![setting_column(name)]),
    }
}

const fn setting_column(name: &'static str) -> Column {
    Column { name, kind: ColumnKind::Text, origin: ColumnOrigin::PgBouncer }
}

fn put_help(out: &mut BytesMut) {
    put_message(out, b'N', |out| {
        for (field, text) in [(b'S', "NOTICE"), (b'V', "NOTICE"), (b'C', "00000"), (b'M', "Console usage")] {
            out.put_u8(field);
            put_cstr(out, text.as_bytes());
        }
        out.put_u8(b'D');
        put_cstr(out, help().as_bytes());
        out.put_u8(0);
    });
}

/// Whether the values of a column are binary.
fn is_binary(formats: &[bool], column: usize) -> bool {
    match formats {
        [all] => *all,
        each => each.get(column).copied().unwrap_or(false),
    }
}

fn count(length: usize) -> i16 {
    i16::try_from(length).unwrap_or(i16::MAX)
}

fn put_row_description(out: &mut BytesMut, columns: &[Column], formats: &[bool]) {
    put_message(out, b'T', |out| {
        out.put_i16(count(columns.len()));
        for (at, column) in columns.iter().enumerate() {
            put_cstr(out, column.name.as_bytes());
            out.put_i32(0);
            out.put_i16(0);
            out.put_i32(column.kind.oid());
            out.put_i16(column.kind.size());
            out.put_i32(-1);
            out.put_i16(i16::from(is_binary(formats, at)));
        }
    });
}

fn put_row(out: &mut BytesMut, columns: &[Column], row: &[Value], formats: &[bool]) {
    put_message(out, b'D', |out| {
        out.put_i16(count(row.len()));
        for (at, (value, column)) in row.iter().zip(columns).enumerate() {
            put_value(out, column.kind, value, is_binary(formats, at));
        }
    });
}

fn put_value(out: &mut BytesMut, kind: ColumnKind, value: &Value, is_binary: bool) {
    let mut bytes = BytesMut::new();
    match value {
        Value::Null => return out.put_i32(-1),
        Value::Text(text) => bytes.extend_from_slice(text.as_bytes()),
        Value::Number(number) => match kind {
            ColumnKind::Int4 if is_binary => bytes.put_i32(int4(*number)),
            ColumnKind::Int4 => bytes.extend_from_slice(int4(*number).to_string().as_bytes()),
            ColumnKind::Numeric if is_binary => put_numeric(&mut bytes, *number),
            ColumnKind::Numeric | ColumnKind::Text => bytes.extend_from_slice(number.to_string().as_bytes()),
        },
    }
    out.put_i32(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
    out.extend_from_slice(&bytes);
}

fn int4(number: u64) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// A whole number as PostgreSQL's binary numeric: digits to the base of 10,000, the most significant first
/// (numeric_send in numeric.c).
fn put_numeric(out: &mut BytesMut, mut number: u64) {
    let mut digits = VecDeque::new();
    while number > 0 {
        digits.push_front(i16::try_from(number % 10_000).unwrap_or_default());
        number /= 10_000;
    }
    let (sign, scale) = (0, 0);
    for head in [count(digits.len()), count(digits.len().saturating_sub(1)), sign, scale] {
        out.put_i16(head);
    }
    digits.iter().for_each(|digit| out.put_i16(*digit));
}

#[cfg(test)]
#[path = "console_tests.rs"]
mod tests;
