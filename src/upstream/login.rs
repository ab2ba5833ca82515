//! Our login to a PostgreSQL server: from StartupMessage to the first ReadyForQuery.
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP>
//!
//! Owns: version negotiation, authentication, what a server must promise before a client's bytes may
//! reach it. Does not own: sockets, TLS, time. The server is not trusted: every message has a bound, and
//! one that does not belong ends the login.

mod method;

use bytes::{Buf as _, BytesMut};
use secrecy::{ExposeSecret as _, SecretString};

pub use method::{AllowedMethods, BindingPolicy, Channel, PasswordAllowed, Way};

use crate::auth::scram::client::{ClientExchange, Proving, ServerScramFault};
use crate::auth::scram::{MECHANISM, MECHANISM_PLUS, NONCE_BYTES};
use crate::fault::SqlState;
use crate::wire::TransactionStatus;
use crate::wire::backend::{Fields, read_backend_key, read_parameter_status, read_ready};
use crate::wire::frame::{HEAD_BYTES, Head};
use crate::wire::frontend::{PROTOCOL_3_0, PROTOCOL_3_2, put_message, put_startup};
use crate::wire::reader::{Malformed, Reader};

/// Longest message of a server during login: PostgreSQL's own client stops at 30,000 bytes for errors
/// and 2,000 for requests.
pub const SERVER_LOGIN_MESSAGE_BYTES_MAX: usize = 32 * 1024;

/// Most messages of a server during login: PostgreSQL 18 sends 15 parameters.
pub const SERVER_LOGIN_MESSAGES_MAX: usize = 200;

/// Oldest release, as `server_version_num`. From 14 on a server reports by itself what
/// the choice among hosts needs (`in_hot_standby`, `default_transaction_read_only`).
pub const VERSION_NUM_MIN: u32 = 140_000;

/// What every server must report: the guard reads SQL as such a server does, and binary values of
/// date and time are integers.
const REQUIRED: [(&str, &str); 3] =
    [("standard_conforming_strings", "on"), ("client_encoding", "UTF8"), ("integer_datetimes", "on")];

/// Who the proxy is on a server.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The role.
    pub user: String,
    /// The database.
    pub database: String,
    /// Its password, unless the server trusts us.
    pub password: Option<SecretString>,
    /// The forms in which the password may be proven.
    pub methods: AllowedMethods,
}

/// A server that has let us in. What it will do is known: see [`LoggedIn::parameters`].
#[must_use = "the server waits for work"]
#[derive(Clone, PartialEq, Eq)]
pub struct LoggedIn {
    parameters: Vec<(String, String)>,
    process_id: i32,
    secret: Vec<u8>,
    protocol: i32,
    version_num: u32,
}

impl LoggedIn {
    /// Every ParameterStatus, in order, each name once.
    #[must_use]
    pub fn parameters(&self) -> &[(String, String)] {
        &self.parameters
    }

    /// One of them.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        find(&self.parameters, name)
    }

    /// Its process id.
    #[must_use]
    pub const fn process_id(&self) -> i32 {
        self.process_id
    }

    /// The secret that a cancel request needs: 4 bytes, or up to 256 in protocol 3.2.
    #[must_use]
    pub fn secret(&self) -> &[u8] {
        &self.secret
    }

    /// The protocol version spoken.
    #[must_use]
    pub const fn protocol(&self) -> i32 {
        self.protocol
    }

    /// As `server_version_num`: 150014 is 15.14.
    #[must_use]
    pub const fn version_num(&self) -> u32 {
        self.version_num
    }
}

/// Does not show the secret.
impl std::fmt::Debug for LoggedIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoggedIn")
            .field("process_id", &self.process_id)
            .field("protocol", &self.protocol)
            .field("version_num", &self.version_num)
            .finish_non_exhaustive()
    }
}

/// What a refusal by the server means for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerRefusal {
    /// Wrong password, or `pg_hba.conf` says no: trying again is no use.
    Authentication,
    /// Too many connections (53300).
    TooManyConnections,
    /// Starting up, shutting down or in recovery (57P01 to 57P03): try again.
    NotNow,
    /// The database does not exist (3D000).
    DatabaseMissing,
    /// Any other error of the server's.
    Error,
}

impl ServerRefusal {
    fn of(sqlstate: SqlState) -> Self {
        match &sqlstate.0 {
            [b'2', b'8', ..] => ServerRefusal::Authentication,
            b"53300" => ServerRefusal::TooManyConnections,
            b"57P01" | b"57P02" | b"57P03" => ServerRefusal::NotNow,
            b"3D000" => ServerRefusal::DatabaseMissing,
            // SQLSTATEs are an open set; all others mean the same to us.
            _ => ServerRefusal::Error,
        }
    }
}

/// Why a login to a server failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerLoginFault {
    /// The server said no.
    #[error("the server refused the login: {message} (SQLSTATE {})", .sqlstate.as_str())]
    Refused {
        /// What it means for us.
        refusal: ServerRefusal,
        /// Its SQLSTATE.
        sqlstate: SqlState,
        /// Its message, cut short and without control characters.
        message: String,
    },
    /// It wants a password, and none is configured.
    #[error("the server asks for a password and none is configured")]
    NoPassword,
    /// It wants the password in a form that gives it away.
    #[error("the server asks for the password by {0}, which is not allowed")]
    MethodRefused(&'static str),
    /// Channel binding is required, and the server does not offer it or lets us in without.
    #[error("channel binding is required, and the server does without it")]
    BindingMissing,
    /// It wants something else than a password.
    #[error("the server asks for an unsupported authentication method ({0})")]
    MethodUnsupported(i32),
    /// It offers SASL mechanisms, and none of ours.
    #[error("the server offers no SASL mechanism the proxy has")]
    Mechanism,
    /// A deviation in the SCRAM exchange.
    #[error("{0}")]
    Scram(#[from] ServerScramFault),
    /// A message that has no place here.
    #[error("unexpected message type {0:#04x} from the server during login")]
    UnexpectedMessage(u8),
    /// A message in the wrong order.
    #[error("the server sent {0} out of order")]
    OutOfOrder(&'static str),
    /// A message that does not hold what it promises.
    #[error("malformed message from the server: {0}")]
    Malformed(#[from] Malformed),
    /// A message that is too long, or has an impossible length.
    #[error("message of {0} bytes from the server during login")]
    MessageLength(usize),
    /// Too many messages.
    #[error("more than {SERVER_LOGIN_MESSAGES_MAX} messages from the server during login")]
    TooManyMessages,
    /// It speaks no version of the protocol that we do.
    #[error("the server wants protocol version {}.{}", .0 >> 16, .0 & 0xffff)]
    Protocol(i32),
    /// It does not have a setting that the proxy depends on.
    #[error("the server reports {name} = {value:?} and the proxy needs {needed:?}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// What it reports, if anything.
        value: Option<String>,
        /// What is needed.
        needed: &'static str,
    },
    /// Its version cannot be read.
    #[error("the server reports version {0:?}")]
    Version(String),
    /// It is older than [`VERSION_NUM_MIN`].
    #[error("the server reports version {0:?}, and PostgreSQL 14 is the oldest that is supported")]
    TooOld(String),
    /// No process id and secret: nothing could be cancelled.
    #[error("the server sent no cancel key")]
    NoCancelKey,
    /// It is in a transaction right after login.
    #[error("the server is not idle after login")]
    NotIdle,
}

/// One login, from the first byte to the last.
pub struct ServerLogin {
    identity: Identity,
    channel: Channel,
    /// Used once.
    nonce: Option<[u8; NONCE_BYTES]>,
    /// A proof bound to the channel was exchanged.
    is_bound: bool,
    state: State,
    protocol: i32,
    messages: usize,
    parameters: Vec<(String, String)>,
    key: Option<(i32, Vec<u8>)>,
}

enum State {
    /// StartupMessage is sent.
    Started,
    /// SASLInitialResponse is sent.
    Challenge(ClientExchange),
    /// The proof is sent.
    Proof(Proving),
    /// All has been said; AuthenticationOk has to follow.
    Answered,
    /// Authenticated; parameters until ReadyForQuery.
    Parameters,
}

impl ServerLogin {
    /// Begins: StartupMessage goes to `out`. `nonce` must be random and fresh.
    pub fn start(identity: Identity, channel: Channel, nonce: [u8; NONCE_BYTES], out: &mut BytesMut) -> Self {
        let parameters = [
            ("user", identity.user.as_str()),
            ("database", identity.database.as_str()),
            // As startup parameters they are reset values: RESET and DISCARD cannot lose them.
            ("client_encoding", "UTF8"),
            ("standard_conforming_strings", "on"),
        ];
        put_startup(out, PROTOCOL_3_2, &parameters);
        Self {
            identity,
            channel,
            nonce: Some(nonce),
            is_bound: false,
            state: State::Started,
            protocol: PROTOCOL_3_2,
            messages: 0,
            parameters: Vec::new(),
            key: None,
        }
    }

    /// Takes whole messages off `input` until ReadyForQuery; answers go to `out`. What is left in
    /// `input` then came after it. `None` = read more.
    ///
    /// # Errors
    /// The server refuses, or deviates. The connection has to be closed.
    pub fn handle_bytes(
        &mut self,
        input: &mut BytesMut,
        out: &mut BytesMut,
    ) -> Result<Option<LoggedIn>, ServerLoginFault> {
        while let Some((tag, body)) = take_message(input)? {
            self.messages += 1;
            if self.messages > SERVER_LOGIN_MESSAGES_MAX {
                return Err(ServerLoginFault::TooManyMessages);
            }
            if let Some(logged_in) = self.handle_message(tag, &body, out)? {
                return Ok(Some(logged_in));
            }
        }
        Ok(None)
    }

    fn handle_message(
        &mut self,
        tag: u8,
        body: &[u8],
        out: &mut BytesMut,
    ) -> Result<Option<LoggedIn>, ServerLoginFault> {
        let is_authenticated = matches!(self.state, State::Parameters);
        match tag {
            b'E' => return Err(refused(body)),
            b'N' => {}
            b'v' if matches!(self.state, State::Started) => self.on_negotiate(body)?,
            b'R' if !is_authenticated => self.on_authentication(body, out)?,
            b'S' if is_authenticated => self.on_parameter(body)?,
            b'K' if is_authenticated => self.on_key(body)?,
            b'Z' if is_authenticated => return self.on_ready(body).map(Some),
            b'v' | b'R' | b'S' | b'K' | b'Z' => return Err(ServerLoginFault::OutOfOrder(name_of(tag))),
            tag => return Err(ServerLoginFault::UnexpectedMessage(tag)),
        }
        Ok(None)
    }

    /// The server speaks an older version. We asked for no options, so it cannot miss any.
    fn on_negotiate(&mut self, body: &[u8]) -> Result<(), ServerLoginFault> {
        let mut reader = Reader::new(body);
        let protocol = reader.i32("the version of NegotiateProtocolVersion")?;
        let options = reader.i32("the options of NegotiateProtocolVersion")?;
        if !(PROTOCOL_3_0..self.protocol).contains(&protocol) || options != 0 || !reader.is_empty() {
            return Err(ServerLoginFault::Protocol(protocol));
        }
        self.protocol = protocol;
        Ok(())
    }

    fn on_authentication(&mut self, body: &[u8], out: &mut BytesMut) -> Result<(), ServerLoginFault> {
        let mut reader = Reader::new(body);
        let code = reader.i32("the code of Authentication")?;
        let state = std::mem::replace(&mut self.state, State::Answered);
        self.state = match (code, state) {
            (0, State::Started | State::Answered) if reader.is_empty() => self.on_admitted()?,
            (3, State::Started) if reader.is_empty() => self.answer_cleartext(out)?,
            (5, State::Started) => self.answer_md5(reader, out)?,
            (10, State::Started) => self.answer_sasl(reader, out)?,
            (11, State::Challenge(exchange)) => self.answer_challenge(exchange, reader.rest(), out)?,
            (12, State::Proof(proving)) => {
                proving.handle_server_final(reader.rest())?;
                State::Answered
            }
            (0 | 3 | 5 | 10 | 11 | 12, _) => return Err(ServerLoginFault::OutOfOrder("Authentication")),
            (code, _) => return Err(ServerLoginFault::MethodUnsupported(code)),
        };
        Ok(())
    }

    fn password(&self) -> Result<&SecretString, ServerLoginFault> {
        self.identity.password.as_ref().ok_or(ServerLoginFault::NoPassword)
    }

    /// A server that lets us in has proven nothing by it, unless our proof was bound to this very connection.
    fn on_admitted(&self) -> Result<State, ServerLoginFault> {
        let is_fine = self.is_bound || self.channel.binding != BindingPolicy::Require;
        if is_fine { Ok(State::Parameters) } else { Err(ServerLoginFault::BindingMissing) }
    }

    fn answer_cleartext(&self, out: &mut BytesMut) -> Result<State, ServerLoginFault> {
        self.identity.methods.check_password(&self.channel)?;
        put_password(out, self.password()?.expose_secret());
        Ok(State::Answered)
    }

    fn answer_md5(&self, reader: Reader<'_>, out: &mut BytesMut) -> Result<State, ServerLoginFault> {
        self.identity.methods.check_md5(&self.channel)?;
        let salt = reader.rest().try_into().map_err(|_| Malformed("four bytes of salt"))?;
        put_password(out, &method::md5_answer(&self.identity.user, self.password()?, salt));
        Ok(State::Answered)
    }

    fn answer_sasl(&mut self, reader: Reader<'_>, out: &mut BytesMut) -> Result<State, ServerLoginFault> {
        let offered = read_mechanisms(reader)?;
        self.identity.methods.check_scram()?;
        let binding = self.channel.binding(offered.plus)?;
        let nonce = self.nonce.take().ok_or(ServerLoginFault::OutOfOrder("AuthenticationSASL"))?;
        let exchange = ClientExchange::new(nonce, binding);
        self.is_bound = exchange.mechanism() == MECHANISM_PLUS;
        if !self.is_bound && !offered.plain {
            return Err(ServerLoginFault::Mechanism);
        }
        self.password()?;
        let first = exchange.client_first();
        put_message(out, b'p', |out| {
            out.extend_from_slice(exchange.mechanism().as_bytes());
            out.extend_from_slice(b"\0");
            out.extend_from_slice(&u32::try_from(first.len()).unwrap_or(0).to_be_bytes());
            out.extend_from_slice(first.as_bytes());
        });
        Ok(State::Challenge(exchange))
    }

    fn answer_challenge(
        &self,
        exchange: ClientExchange,
        message: &[u8],
        out: &mut BytesMut,
    ) -> Result<State, ServerLoginFault> {
        let (proving, client_final) = exchange.handle_server_first(message, self.password()?.expose_secret())?;
        put_message(out, b'p', |out| out.extend_from_slice(client_final.as_bytes()));
        Ok(State::Proof(proving))
    }

    fn on_parameter(&mut self, body: &[u8]) -> Result<(), ServerLoginFault> {
        let (name, value) = read_parameter_status(body)?;
        let (name, value) = (utf8(name)?, utf8(value)?);
        match self.parameters.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => value.clone_into(known),
            None => self.parameters.push((name.to_owned(), value.to_owned())),
        }
        Ok(())
    }

    fn on_key(&mut self, body: &[u8]) -> Result<(), ServerLoginFault> {
        let (process_id, secret) = read_backend_key(body)?;
        match self.key.replace((process_id, secret.to_vec())) {
            None => Ok(()),
            Some(_) => Err(ServerLoginFault::OutOfOrder("BackendKeyData")),
        }
    }

    fn on_ready(&mut self, body: &[u8]) -> Result<LoggedIn, ServerLoginFault> {
        if read_ready(body)? != TransactionStatus::Idle {
            return Err(ServerLoginFault::NotIdle);
        }
        for (name, needed) in REQUIRED {
            let value = find(&self.parameters, name);
            if value != Some(needed) {
                return Err(ServerLoginFault::Setting { name, value: value.map(str::to_owned), needed });
            }
        }
        let version = find(&self.parameters, "server_version").unwrap_or_default();
        let version_num = version_num(version).ok_or_else(|| ServerLoginFault::Version(printable(version)))?;
        if version_num < VERSION_NUM_MIN {
            return Err(ServerLoginFault::TooOld(printable(version)));
        }
        let (process_id, secret) = self.key.take().ok_or(ServerLoginFault::NoCancelKey)?;
        let parameters = std::mem::take(&mut self.parameters);
        Ok(LoggedIn { parameters, process_id, secret, protocol: self.protocol, version_num })
    }
}

/// Which of our mechanisms a server offers.
struct Offered {
    plain: bool,
    plus: bool,
}

fn read_mechanisms(mut reader: Reader<'_>) -> Result<Offered, ServerLoginFault> {
    let mut offered = Offered { plain: false, plus: false };
    loop {
        match reader.cstr("a SASL mechanism")? {
            b"" => break,
            mechanism => {
                offered.plain |= mechanism == MECHANISM.as_bytes();
                offered.plus |= mechanism == MECHANISM_PLUS.as_bytes();
            }
        }
    }
    if reader.is_empty() {
        return Ok(offered);
    }
    Err(Malformed("the next message: AuthenticationSASL is too long").into())
}

fn put_password(out: &mut BytesMut, text: &str) {
    put_message(out, b'p', |out| {
        out.extend_from_slice(text.as_bytes());
        out.extend_from_slice(b"\0");
    });
}

fn take_message(input: &mut BytesMut) -> Result<Option<(u8, BytesMut)>, ServerLoginFault> {
    let head = match Head::read(input) {
        Ok(Some(head)) => head,
        Ok(None) => return Ok(None),
        Err(fault) => return Err(ServerLoginFault::MessageLength(fault.length)),
    };
    if head.frame_bytes() > SERVER_LOGIN_MESSAGE_BYTES_MAX {
        return Err(ServerLoginFault::MessageLength(head.frame_bytes()));
    }
    if input.len() < head.frame_bytes() {
        return Ok(None);
    }
    let mut frame = input.split_to(head.frame_bytes());
    frame.advance(HEAD_BYTES);
    Ok(Some((head.tag, frame)))
}

const fn name_of(tag: u8) -> &'static str {
    match tag {
        b'v' => "NegotiateProtocolVersion",
        b'R' => "Authentication",
        b'S' => "ParameterStatus",
        b'K' => "BackendKeyData",
        b'Z' => "ReadyForQuery",
        // Only the five above are ever out of order; the rest have no place at all.
        _ => "a message",
    }
}

fn refused(body: &[u8]) -> ServerLoginFault {
    let fields = Fields::new(body);
    let sqlstate = fields.sqlstate().unwrap_or(SqlState(*b"XX000"));
    let message = printable(&String::from_utf8_lossy(fields.find(b'M').unwrap_or_default()));
    ServerLoginFault::Refused { refusal: ServerRefusal::of(sqlstate), sqlstate, message }
}

/// For the log: bounded, one line.
fn printable(text: &str) -> String {
    text.chars().take(500).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn utf8(bytes: &[u8]) -> Result<&str, ServerLoginFault> {
    std::str::from_utf8(bytes).map_err(|_| Malformed("a ParameterStatus in UTF-8").into())
}

fn find<'a>(parameters: &'a [(String, String)], name: &str) -> Option<&'a str> {
    parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// `15.14 (Debian …)` → 150014, `18beta1` → 180000, `9.6.3` → 90603.
fn version_num(text: &str) -> Option<u32> {
    let numeric = text.split(|c: char| !c.is_ascii_digit() && c != '.').next()?;
    let mut parts = numeric.split('.').map(|part| part.parse::<u32>().ok().filter(|&part| part < 10_000));
    let major = parts.next()??;
    let second = parts.next().flatten().unwrap_or(0);
    let third = parts.next().flatten().unwrap_or(0);
    if major >= 10 { Some(major * 10_000 + second) } else { Some(major * 10_000 + second * 100 + third) }
}

#[cfg(test)]
mod tests;
