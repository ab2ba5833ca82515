//! Drives one client's startup dialogue over its connection.
//!
//! Owns: reading, writing, TLS, the deadline, the permit of a logged-in client. Does not own: any
//! decision of the dialogue ([`crate::startup`]), nor what happens after it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::listener::Entrance;
use super::stream::{FAREWELL_TIMEOUT, Stream};
use crate::auth::scram::NONCE_BYTES;
use crate::auth::{ClientCertificate, PeerAddress};
use crate::fault::{Code, Fault};
use crate::startup::{AuthenticatedClient, Purpose, Startup, StartupFault, StartupSettings, Step};
use crate::time::Moment;
use crate::wire::backend::put_error;

/// Bytes read at once during the dialogue.
const READ_BYTES: usize = 4 * 1024;

/// First byte of a TLS handshake record: no length of a startup packet begins so.
const TLS_HANDSHAKE_RECORD: u8 = 0x16;

/// What the handshake needs to know; replaced as a whole on reload.
pub struct HandshakeSettings {
    /// The dialogue's.
    pub startup: Arc<StartupSettings>,
    /// TLS towards clients; present unless [`crate::startup::TlsOffer::Never`].
    pub tls: Option<TlsAcceptor>,
    /// From accept to the end of the dialogue.
    pub login_timeout: Duration,
    /// Which generation of the configuration this is.
    pub generation: u64,
}

/// A logged-in client has its place as long as this lives: against `client_connections_max`, an administrator among the
/// consoles.
#[must_use]
#[derive(Debug)]
pub struct ClientPermit(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// A client whose session may begin.
#[must_use]
#[derive(Debug)]
pub struct Arrival {
    /// Its connection.
    pub stream: Stream,
    /// Who it is.
    pub client: AuthenticatedClient,
    /// Bytes it has sent already: the session's first input.
    pub input: BytesMut,
    /// Bytes not sent yet (SCRAM's last message and AuthenticationOk): the session's first output goes
    /// behind them, in one write.
    pub unsent: BytesMut,
    /// Its place among the clients.
    pub permit: ClientPermit,
    /// The generation of the configuration under which it logged in.
    pub generation: u64,
    /// When it had connected.
    pub accepted_at: Moment,
}

/// How a dialogue ended well.
#[derive(Debug)]
pub enum Greeting {
    /// A client.
    Client(Box<Arrival>),
    /// A cancel request. The stream is kept open until it has been carried out: its close is the answer.
    Cancel {
        /// Process id as the client learned it.
        process_id: i32,
        /// Secret as the client learned it.
        secret: Vec<u8>,
        /// The connection it came on.
        stream: Stream,
    },
}

/// How it ended otherwise. The client has been told what it may know.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeFault {
    /// The client left without a word, or in the middle.
    #[error("the client closed the connection")]
    Left,
    /// The connection broke.
    #[error("the connection failed: {0}")]
    Io(io::Error),
    /// TLS could not be agreed on.
    #[error("TLS with the client failed: {0}")]
    Tls(io::Error),
    /// The dialogue refused it.
    #[error(transparent)]
    Refused(#[from] Box<StartupFault>),
    /// It took too long.
    #[error("the login took longer than {0:?}")]
    Timeout(Duration),
    /// There are as many clients as there may be.
    #[error("too many clients")]
    TooManyClients,
    /// No randomness for a nonce.
    #[error("the system gives no random bytes")]
    Random,
}

/// If dropped: the connection is closed.
///
/// Carries on the dialogue until it ends, within the time limit.
///
/// # Errors
/// The client gets no session.
pub async fn handshake(
    stream: Stream,
    address: PeerAddress,
    settings: &HandshakeSettings,
    entrance: &Entrance,
) -> Result<Greeting, HandshakeFault> {
    let accepted_at = entrance.clock.now();
    let mut nonce = [0_u8; NONCE_BYTES];
    rand::fill(&mut nonce).map_err(|_| HandshakeFault::Random)?;
    let startup = Startup::new(Arc::clone(&settings.startup), address, nonce);
    let mut dialogue = Dialogue {
        startup,
        stream: Some(stream),
        input: BytesMut::new(),
        out: BytesMut::new(),
        tls: settings.tls.as_ref(),
        generation: settings.generation,
        accepted_at,
    };
    let end = match timeout(settings.login_timeout, dialogue.run()).await {
        Ok(end) => end?,
        Err(_) => {
            dialogue.bid_farewell(Some(Fault::of(Code::LoginTimeout))).await;
            return Err(HandshakeFault::Timeout(settings.login_timeout));
        }
    };
    match end {
        End::Cancel { process_id, secret } => {
            Ok(Greeting::Cancel { process_id, secret, stream: dialogue.stream.ok_or(HandshakeFault::Left)? })
        }
        End::Client(client) => dialogue.admit(client, entrance).await,
        End::Close(fault) => {
            dialogue.bid_farewell(None).await;
            Err(fault.into())
        }
    }
}

enum End {
    Client(Box<AuthenticatedClient>),
    Cancel { process_id: i32, secret: Vec<u8> },
    Close(Box<StartupFault>),
}

/// What a TLS handshake has shown.
struct Agreed {
    /// The protocol agreed on in ALPN.
    alpn: Option<Vec<u8>>,
    /// The client's certificate; its chain has been verified.
    certificate: Option<ClientCertificate>,
}

struct Dialogue<'a> {
    startup: Startup,
    /// Gone while a TLS handshake has it; for ever, if that fails.
    stream: Option<Stream>,
    input: BytesMut,
    out: BytesMut,
    tls: Option<&'a TlsAcceptor>,
    generation: u64,
    accepted_at: Moment,
}

impl Dialogue<'_> {
    /// If dropped: the stream is still in `self`, unless a TLS handshake was under way.
    async fn run(&mut self) -> Result<End, HandshakeFault> {
        if self.begins_with_tls().await? {
            let agreed = self.upgrade().await?;
            if let Err(fault) = self.startup.on_direct_tls(agreed.alpn.as_deref(), agreed.certificate) {
                if let Some(reply) = fault.reply() {
                    put_error(&mut self.out, &reply);
                }
                return Ok(End::Close(Box::new(fault)));
            }
        }
        loop {
            match self.startup.handle_bytes(&mut self.input, &mut self.out) {
                Step::Read => {
                    self.flush().await?;
                    self.read().await?;
                }
                Step::UpgradeTls => {
                    self.flush().await?;
                    let agreed = self.upgrade().await?;
                    self.startup.on_tls(agreed.certificate);
                }
                Step::Cancel { process_id, secret } => return Ok(End::Cancel { process_id, secret }),
                Step::Authenticated(client) => return Ok(End::Client(client)),
                Step::Close(fault) => return Ok(End::Close(fault)),
            }
        }
    }

    fn stream(&mut self) -> Result<&mut Stream, HandshakeFault> {
        self.stream.as_mut().ok_or(HandshakeFault::Left)
    }

    /// Whether the first byte, left where it is, begins a TLS handshake.
    async fn begins_with_tls(&mut self) -> Result<bool, HandshakeFault> {
        if !self.startup.may_start_with_tls() {
            return Ok(false);
        }
        let Stream::Tcp(tcp) = self.stream()? else { return Ok(false) };
        let mut first = [0_u8; 1];
        match tcp.peek(&mut first).await.map_err(HandshakeFault::Io)? {
            0 => Err(HandshakeFault::Left),
            _ => Ok(first == [TLS_HANDSHAKE_RECORD]),
        }
    }

    /// Does the TLS handshake.
    async fn upgrade(&mut self) -> Result<Agreed, HandshakeFault> {
        let (Some(Stream::Tcp(tcp)), Some(acceptor)) = (self.stream.take(), self.tls) else {
            return Err(HandshakeFault::Tls(io::Error::other("TLS is not configured")));
        };
        let tls = acceptor.accept(tcp).await.map_err(HandshakeFault::Tls)?;
        let (_, connection) = tls.get_ref();
        let alpn = connection.alpn_protocol().map(<[u8]>::to_vec);
        let shown = connection.peer_certificates().and_then(<[_]>::first);
        let certificate = shown.map(|leaf| ClientCertificate::read(leaf)).transpose();
        let certificate = certificate.map_err(|fault| HandshakeFault::Tls(io::Error::other(fault)))?;
        self.stream = Some(Stream::ClientTls(Box::new(tls)));
        Ok(Agreed { alpn, certificate })
    }

    async fn read(&mut self) -> Result<(), HandshakeFault> {
        self.input.reserve(READ_BYTES);
        let stream = self.stream.as_mut().ok_or(HandshakeFault::Left)?;
        match stream.read_buf(&mut self.input).await.map_err(HandshakeFault::Io)? {
            0 => Err(HandshakeFault::Left),
            _ => Ok(()),
        }
    }

    async fn flush(&mut self) -> Result<(), HandshakeFault> {
        if self.out.is_empty() {
            return Ok(());
        }
        let out = self.out.split();
        let stream = self.stream()?;
        stream.write_all(&out).await.map_err(HandshakeFault::Io)?;
        stream.flush().await.map_err(HandshakeFault::Io)
    }

    /// If dropped: the connection is closed.
    async fn admit(
        mut self,
        client: Box<AuthenticatedClient>,
        entrance: &Entrance,
    ) -> Result<Greeting, HandshakeFault> {
        let is_console = *client.purpose() == Purpose::Console;
        let places = if is_console { &entrance.consoles } else { &entrance.clients };
        let Some(permit) = places.take() else {
            self.bid_farewell(Some(Fault::of(Code::TooManyClients))).await;
            return Err(HandshakeFault::TooManyClients);
        };
        let stream = self.stream.ok_or(HandshakeFault::Left)?;
        let (input, unsent, permit, generation) = (self.input, self.out, ClientPermit(permit), self.generation);
        let accepted_at = self.accepted_at;
        Ok(Greeting::Client(Box::new(Arrival {
            stream,
            client: *client,
            input,
            unsent,
            permit,
            generation,
            accepted_at,
        })))
    }

    /// Sends what is left to say, and a last fault, and closes: nothing more can be done about a client that has left.
    async fn bid_farewell(&mut self, fault: Option<Fault>) {
        if let Some(fault) = fault {
            put_error(&mut self.out, &fault);
        }
        if let Some(mut stream) = self.stream.take()
            && let Err(error) = stream.say_farewell(&self.out, FAREWELL_TIMEOUT).await
        {
            tracing::debug!(%error, "the last message did not reach the client");
        }
    }
}
