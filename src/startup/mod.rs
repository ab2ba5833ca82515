//! The dialogue with a client until its session begins.
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP>
//!
//! Owns: encryption requests, cancel requests, version negotiation, authentication, the tenant. Does not
//! own: sockets, deadlines, TLS itself, or anything a session says (ParameterStatus, BackendKeyData,
//! ReadyForQuery come from it).
//!
//! ```text
//! Packet ──SSLRequest──▶ Tls ──on_tls──▶ Packet ──StartupMessage──▶ Mechanism ─▶ First ─▶ Final ─▶ Authenticated
//!   │                                      │  └───────────── trust ──────────────────────────────▶
//!   └─CancelRequest─▶ Cancel               └─CancelRequest─▶ Cancel               (any deviation: Close)
//! ```
//!
//! Nothing about logins, databases or tenants is told to a peer before it has proven who it is.

mod client;
mod fault;
mod options;
mod packet;
mod parameters;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::{Buf as _, BytesMut};

pub use client::{AuthenticatedClient, Purpose};
pub use fault::StartupFault;
pub use options::OptionsFault;
pub use packet::{Packet, PacketFault, StartupPacket, cut as cut_packet};
pub use parameters::{Judged, SettingJudge};

use crate::auth::scram::NONCE_BYTES;
use crate::auth::scram::server::{BindingOffer, Challenged, Outcome, Selected, ServerExchange};
use crate::auth::{ClientCertificate, Decision, Facts, IsReal, Login, Logins, PeerAddress, Proof, Rules};
use crate::tenant::TenantKind;
use crate::wire::backend::{put_error, put_negotiate};
use crate::wire::frame::{Head, cut};
use crate::wire::frontend::{PROTOCOL_3_2, put_message};
use crate::wire::limits::LOGIN_MESSAGE_BYTES_MAX;
use crate::wire::reader::Reader;
use parameters::Asked;

/// The name of the protocol in ALPN.
pub const ALPN: &[u8] = b"postgresql";

/// Whether clients are offered TLS. PostgreSQL's client modes `allow` and `prefer` are one here: the
/// client chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsOffer {
    /// SSLRequest is answered `N`.
    Never,
    /// TLS for those who ask.
    Offered,
    /// Clients without TLS are refused.
    Required,
}

/// Everything the dialogue needs to know; shared by all clients until the next reload.
pub struct StartupSettings {
    /// Whether clients are offered TLS.
    pub tls: TlsOffer,
    /// What proofs over TLS can be bound to: the certificate that clients are shown.
    pub binding: BindingOffer,
    /// Who may come from where, and how they prove themselves.
    pub rules: Rules,
    /// The configured identities.
    pub logins: Logins,
    /// Databases, as clients name them.
    pub databases: BTreeSet<Arc<str>>,
    /// Who may enter the console.
    pub console: ConsoleAccess,
    /// The type of tenants.
    pub tenant_kind: TenantKind,
    /// Settings whose value is the tenant itself (`app.tenant_id`): where a client may name it.
    pub tenant_settings: Vec<Arc<str>>,
    /// Judges all other settings a client starts with.
    pub judge: Box<dyn SettingJudge>,
}

/// Names under which clients ask for the console: ours, and the one that tools for PgBouncer use.
pub const CONSOLE_DATABASES: [&str; 2] = ["tenantgate", "pgbouncer"];

/// Who may enter the console.
#[derive(Clone, Debug, Default)]
pub struct ConsoleAccess {
    /// Logins that may; without any there is no console.
    pub logins: BTreeSet<Arc<str>>,
}

impl ConsoleAccess {
    fn has_database(&self, database: &str) -> bool {
        !self.logins.is_empty() && CONSOLE_DATABASES.contains(&database)
    }
}

/// What the driver has to do next. What is in `out` has to be sent first, in every case.
#[derive(Debug)]
pub enum Step {
    /// Read more bytes.
    Read,
    /// Do the TLS handshake, call [`Startup::on_tls`], then read on.
    UpgradeTls,
    /// Carry out a cancel request, then close: PostgreSQL answers nothing either.
    Cancel {
        /// Process id as the client learned it.
        process_id: i32,
        /// Secret as the client learned it.
        secret: Vec<u8>,
    },
    /// The session begins. Unread bytes belong to it.
    Authenticated(Box<AuthenticatedClient>),
    /// Close the connection.
    Close(Box<StartupFault>),
}

/// One client's dialogue.
pub struct Startup {
    settings: Arc<StartupSettings>,
    connection: Connection,
    nonce: [u8; NONCE_BYTES],
    ssl_answered: bool,
    gssenc_answered: bool,
    state: State,
}

/// What the connection itself shows of a client.
struct Connection {
    address: PeerAddress,
    tls: bool,
    certificate: Option<Box<ClientCertificate>>,
}

enum State {
    /// Waits for a startup packet.
    Packet,
    /// Has agreed to TLS.
    Tls,
    /// Waits for SASLInitialResponse.
    Mechanism(Box<Asked>, ServerExchange, IsReal),
    /// Waits for client-first-message: the initial response had none.
    First(Box<Asked>, Selected, IsReal),
    /// Waits for client-final-message.
    Final(Box<Asked>, Challenged, IsReal),
    /// Is over.
    Ended,
}

impl Startup {
    /// A dialogue with a client that has just connected. `nonce` must be random and fresh.
    #[must_use]
    pub const fn new(settings: Arc<StartupSettings>, address: PeerAddress, nonce: [u8; NONCE_BYTES]) -> Self {
        let connection = Connection { address, tls: false, certificate: None };
        Self { settings, connection, nonce, ssl_answered: false, gssenc_answered: false, state: State::Packet }
    }

    /// Whether the client may begin with a TLS handshake instead of SSLRequest.
    #[must_use]
    pub fn may_start_with_tls(&self) -> bool {
        self.has_tls()
            && matches!(self.state, State::Packet)
            && !(self.connection.tls || self.ssl_answered || self.gssenc_answered)
    }

    /// On a unix socket there is no TLS, as in PostgreSQL: the kernel keeps others out.
    fn has_tls(&self) -> bool {
        self.settings.tls != TlsOffer::Never && self.connection.address != PeerAddress::Unix
    }

    /// The handshake asked for by [`Step::UpgradeTls`] is done; `certificate` is what the client has shown in it.
    pub fn on_tls(&mut self, certificate: Option<ClientCertificate>) {
        self.state = match std::mem::replace(&mut self.state, State::Ended) {
            State::Tls => State::Packet,
            State::Packet | State::Mechanism(..) | State::First(..) | State::Final(..) | State::Ended => State::Ended,
        };
        self.connection.tls = true;
        self.connection.certificate = certificate.map(Box::new);
    }

    /// The client began with a TLS handshake, which is done and agreed on `alpn`.
    ///
    /// # Errors
    /// Not on PostgreSQL: without that another protocol's bytes could be taken for ours (ALPACA).
    pub fn on_direct_tls(
        &mut self,
        alpn: Option<&[u8]>,
        certificate: Option<ClientCertificate>,
    ) -> Result<(), StartupFault> {
        if alpn == Some(ALPN) && self.may_start_with_tls() {
            self.connection.tls = true;
            self.connection.certificate = certificate.map(Box::new);
            return Ok(());
        }
        self.state = State::Ended;
        Err(StartupFault::AlpnMissing)
    }

    /// Takes whole messages off `input` until there is something to do; replies go to `out`.
    pub fn handle_bytes(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Step {
        loop {
            match self.handle_one(input, out) {
                Ok(Progress::Incomplete) => return Step::Read,
                Ok(Progress::Handled) => {}
                Ok(Progress::Step(step)) => return step,
                Err(fault) => return self.close(fault, out),
            }
        }
    }

    fn handle_one(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<Progress, StartupFault> {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Packet => self.handle_packet(input, out),
            state @ (State::Mechanism(..) | State::First(..) | State::Final(..)) => {
                let Some(message) = take_password_message(input)? else {
                    self.state = state;
                    return Ok(Progress::Incomplete);
                };
                self.handle_sasl(state, &message, out)
            }
            State::Tls | State::Ended => Err(StartupFault::Ended),
        }
    }

    fn close(&mut self, fault: StartupFault, out: &mut BytesMut) -> Step {
        self.state = State::Ended;
        if let Some(reply) = fault.reply() {
            put_error(out, &reply);
        }
        Step::Close(Box::new(fault))
    }

    // -- packets

    fn handle_packet(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<Progress, StartupFault> {
        let Some((body, packet_bytes)) = packet::cut(input)? else {
            self.state = State::Packet;
            return Ok(Progress::Incomplete);
        };
        let packet = Packet::read(body)?;
        input.advance(packet_bytes);
        match packet {
            Packet::Ssl => self.on_ssl_request(input, out),
            Packet::Gssenc => self.on_gssenc_request(input, out),
            Packet::Cancel { process_id, secret } => Ok(Progress::Step(Step::Cancel { process_id, secret })),
            Packet::Startup(packet) => self.on_startup(packet, out),
        }
    }

    fn on_ssl_request(&mut self, input: &BytesMut, out: &mut BytesMut) -> Result<Progress, StartupFault> {
        if self.connection.tls || std::mem::replace(&mut self.ssl_answered, true) {
            return Err(StartupFault::UnexpectedRequest("SSLRequest"));
        }
        if !input.is_empty() {
            return Err(StartupFault::PlaintextAfter("SSLRequest"));
        }
        if !self.has_tls() {
            out.extend_from_slice(b"N");
            self.state = State::Packet;
            return Ok(Progress::Handled);
        }
        out.extend_from_slice(b"S");
        self.state = State::Tls;
        Ok(Progress::Step(Step::UpgradeTls))
    }

    fn on_gssenc_request(&mut self, input: &BytesMut, out: &mut BytesMut) -> Result<Progress, StartupFault> {
        if self.connection.tls || std::mem::replace(&mut self.gssenc_answered, true) {
            return Err(StartupFault::UnexpectedRequest("GSSENCRequest"));
        }
        if !input.is_empty() {
            return Err(StartupFault::PlaintextAfter("GSSENCRequest"));
        }
        out.extend_from_slice(b"N");
        self.state = State::Packet;
        Ok(Progress::Handled)
    }

    fn on_startup(&mut self, packet: StartupPacket, out: &mut BytesMut) -> Result<Progress, StartupFault> {
        let protocol = packet.protocol.min(PROTOCOL_3_2);
        if packet.protocol > PROTOCOL_3_2 || !packet.protocol_options.is_empty() {
            put_negotiate(out, protocol, &packet.protocol_options);
        }
        if self.settings.tls == TlsOffer::Required && self.has_tls() && !self.connection.tls {
            return Err(StartupFault::TlsRequired);
        }
        if packet.wants_replication() {
            return Err(StartupFault::Replication);
        }
        let asked = Box::new(Asked::new(&self.settings.logins, packet, protocol)?);
        self.on_asked(asked, out)
    }

    fn on_asked(&mut self, mut asked: Box<Asked>, out: &mut BytesMut) -> Result<Progress, StartupFault> {
        let settings = Arc::clone(&self.settings);
        let login = settings.logins.find(&asked.user).map(|found| found.login);
        let facts = Facts {
            login: login.map_or(&*asked.user, |login| &login.name),
            user: &asked.user,
            database: &asked.database,
            address: self.connection.address,
            tls: self.connection.tls,
            certificate: self.connection.certificate.as_deref(),
        };
        match settings.rules.decide(&facts) {
            Decision::Refuse(refusal) => Err(StartupFault::Rules { refusal, user: asked.user }),
            Decision::Trust => self.on_admitted(*asked, Proof::Trusted, out),
            Decision::Certificate => self.on_admitted(*asked, Proof::Certificate, out),
            Decision::Password => Ok(self.ask_for_password(asked, login, out)),
            Decision::PasswordThenRefuse(refusal) => {
                asked.refusal = Some(refusal);
                Ok(self.ask_for_password(asked, login, out))
            }
        }
    }

    // -- the proof

    fn ask_for_password(&mut self, asked: Box<Asked>, login: Option<&Login>, out: &mut BytesMut) -> Progress {
        let (verifier, is_real) = self.settings.logins.verifier(&asked.user, login);
        let offer = if self.connection.tls { self.settings.binding.clone() } else { BindingOffer::None };
        let offered: Vec<u8> = offer.mechanisms().iter().flat_map(|name| [name.as_bytes(), b"\0"].concat()).collect();
        put_authentication(out, 10, &[&offered, b"\0"]);
        self.state = State::Mechanism(asked, ServerExchange::new(verifier, self.nonce, offer), is_real);
        Progress::Handled
    }

    fn handle_sasl(&mut self, state: State, message: &[u8], out: &mut BytesMut) -> Result<Progress, StartupFault> {
        match state {
            State::Mechanism(asked, exchange, is_real) => {
                let (mechanism, first) = read_initial_response(message)?;
                let selected = exchange.select(mechanism)?;
                if let Some(first) = first {
                    return self.on_client_first(asked, selected, is_real, first, out);
                }
                put_authentication(out, 11, &[]);
                self.state = State::First(asked, selected, is_real);
                Ok(Progress::Handled)
            }
            State::First(asked, selected, is_real) => self.on_client_first(asked, selected, is_real, message, out),
            State::Final(asked, challenged, is_real) => self.on_client_final(*asked, challenged, is_real, message, out),
            State::Packet | State::Tls | State::Ended => Err(StartupFault::Ended),
        }
    }

    fn on_client_first(
        &mut self,
        asked: Box<Asked>,
        selected: Selected,
        is_real: IsReal,
        message: &[u8],
        out: &mut BytesMut,
    ) -> Result<Progress, StartupFault> {
        let (challenged, server_first) = selected.handle_client_first(message)?;
        put_authentication(out, 11, &[server_first.as_bytes()]);
        self.state = State::Final(asked, challenged, is_real);
        Ok(Progress::Handled)
    }

    fn on_client_final(
        &mut self,
        asked: Asked,
        challenged: Challenged,
        is_real: IsReal,
        message: &[u8],
        out: &mut BytesMut,
    ) -> Result<Progress, StartupFault> {
        match (challenged.handle_client_final(message)?, is_real) {
            (Outcome::Proven(proven), IsReal(true)) => {
                put_authentication(out, 12, &[proven.server_final.as_bytes()]);
                self.on_admitted(asked, Proof::Password, out)
            }
            (Outcome::Refused, IsReal(true)) => Err(StartupFault::PasswordWrong(asked.user)),
            (Outcome::Proven(_) | Outcome::Refused, IsReal(false)) => Err(StartupFault::LoginUnknown(asked.user)),
        }
    }

    /// The client is who it says, or is trusted to be: only now is it told what it may not have.
    fn on_admitted(&mut self, asked: Asked, proof: Proof, out: &mut BytesMut) -> Result<Progress, StartupFault> {
        let settings = Arc::clone(&self.settings);
        let connection = Connection { certificate: self.connection.certificate.take(), ..self.connection };
        let client = asked.admit(&settings, connection, proof)?;
        put_authentication(out, 0, &[]);
        Ok(Progress::Step(Step::Authenticated(Box::new(client))))
    }
}

enum Progress {
    /// More bytes are needed.
    Incomplete,
    /// Perhaps there is more in the input.
    Handled,
    /// The driver's turn.
    Step(Step),
}

/// An AuthenticationRequest with its code and data.
fn put_authentication(out: &mut BytesMut, code: i32, data: &[&[u8]]) {
    put_message(out, b'R', |out| {
        out.extend_from_slice(&code.to_be_bytes());
        for part in data {
            out.extend_from_slice(part);
        }
    });
}

/// Takes the body of the next message, which must be a password message of bounded length: both are
/// known from its head, before the rest has come.
fn take_password_message(input: &mut BytesMut) -> Result<Option<BytesMut>, StartupFault> {
    let head = match Head::read(input) {
        Ok(Some(head)) => head,
        Ok(None) => return Ok(None),
        Err(fault) => return Err(StartupFault::MessageLength(fault.length)),
    };
    if head.tag != b'p' {
        return Err(StartupFault::MessageType(head.tag));
    }
    if head.frame_bytes() > LOGIN_MESSAGE_BYTES_MAX {
        return Err(StartupFault::MessageLength(head.frame_bytes()));
    }
    if !matches!(cut(input), Ok(Some(_))) {
        return Ok(None);
    }
    let mut frame = input.split_to(head.frame_bytes());
    frame.advance(head.frame_bytes() - head.body_bytes);
    Ok(Some(frame))
}

/// SASLInitialResponse: the mechanism, and client-first-message if it comes along.
fn read_initial_response(body: &[u8]) -> Result<(&[u8], Option<&[u8]>), StartupFault> {
    let mut reader = Reader::new(body);
    let malformed = |fault: crate::wire::Malformed| StartupFault::Sasl(fault.0);
    let mechanism = reader.cstr("the mechanism").map_err(malformed)?;
    let length = reader.i32("the length of the response").map_err(malformed)?;
    let response = match usize::try_from(length) {
        Ok(length) => Some(reader.bytes(length, "the response").map_err(malformed)?),
        Err(_) if length == -1 => None,
        Err(_) => return Err(StartupFault::Sasl("a length that can be one")),
    };
    if reader.is_empty() { Ok((mechanism, response)) } else { Err(StartupFault::Sasl("the next message")) }
}

#[cfg(test)]
mod tests;
