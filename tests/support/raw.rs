//! A client that speaks the protocol message by message and byte by byte.

use super::message::{self, Message};
use super::reply::Reply;
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Where to connect and as whom.
#[derive(Clone, Debug)]
pub struct Target {
    pub address: SocketAddr,
    /// Startup parameters, `user` and `database` among them.
    pub parameters: Vec<(String, String)>,
    pub password: String,
}

impl Target {
    /// A target without a password.
    pub fn new(address: SocketAddr, user: &str, database: &str) -> Self {
        Self { address, parameters: vec![], password: String::new() }.with("user", user).with("database", database)
    }

    /// The same with one more startup parameter.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.parameters.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same with a password.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        password.clone_into(&mut self.password);
        self
    }
}

/// How bytes leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Everything up to the next wait in one write.
    Burst,
    /// In pieces of a few bytes, each its own packet.
    Trickle,
}

/// Why no more replies come.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Silence {
    /// Nothing within the time limit.
    Timeout,
    /// The peer closed.
    Closed,
}

/// One connection.
pub struct Client {
    stream: TcpStream,
    unsent: Vec<u8>,
    inbox: Vec<u8>,
    read: usize,
    pace: Pace,
    /// Everything answered before the first ReadyForQuery, that included; only an error if the login failed.
    pub startup: Vec<Reply>,
    key: (u32, Vec<u8>),
    address: SocketAddr,
}

impl Client {
    /// Connects and logs in; fails if the server refuses.
    pub fn connect(target: &Target) -> Self {
        let client =
            Self::try_connect(target).unwrap_or_else(|error| panic!("cannot connect to {}: {error}", target.address));
        if let Some(error) = client.startup.iter().find(|reply| reply.tag == b'E') {
            panic!("login refused: {}", error.line(&mut vec![]));
        }
        client
    }

    /// Connects and logs in; a refusal is in `startup`.
    pub fn try_connect(target: &Target) -> io::Result<Self> {
        Self::try_connect_during(target, || ())
    }

    /// The same; `meanwhile` runs between the server's first answer and the client's proof.
    pub fn try_connect_during(target: &Target, meanwhile: impl FnOnce()) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&target.address, Duration::from_secs(10))?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(Duration::from_secs(20)))?;
        let mut client = Self {
            stream,
            unsent: Vec::new(),
            inbox: Vec::new(),
            read: 0,
            pace: Pace::Burst,
            startup: Vec::new(),
            key: (0, Vec::new()),
            address: target.address,
        };
        client.patience(Duration::from_secs(20));
        client.stream.write_all(&message::startup(&target.parameters))?;
        client.stream.peek(&mut [0])?;
        meanwhile();
        client.log_in(&target.password)?;
        Ok(client)
    }

    fn log_in(&mut self, password: &str) -> io::Result<()> {
        let mut scram: Option<ScramSha256> = None;
        loop {
            let Ok(reply) = self.reply() else { return Err(io::ErrorKind::UnexpectedEof.into()) };
            match (reply.tag, reply.body.get(..4)) {
                (b'R', Some([0, 0, 0, 3])) => {
                    self.stream.write_all(&message::password(&[password.as_bytes(), b"\0"].concat()))?
                }
                (b'R', Some([0, 0, 0, 10])) => {
                    let start = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
                    self.stream.write_all(&message::sasl_initial("SCRAM-SHA-256", start.message()))?;
                    scram = Some(start);
                }
                (b'R', Some([0, 0, 0, 11])) => {
                    let scram = scram.as_mut().ok_or(io::ErrorKind::InvalidData)?;
                    scram.update(&reply.body[4..])?;
                    self.stream.write_all(&message::password(scram.message()))?;
                }
                (b'R', Some([0, 0, 0, 12])) => {
                    scram.as_mut().ok_or(io::ErrorKind::InvalidData)?.finish(&reply.body[4..])?
                }
                (b'K', Some(pid)) => {
                    self.key = (u32::from_be_bytes(pid.try_into().expect("four bytes")), reply.body[4..].to_vec());
                }
                _ => {
                    let last = matches!(reply.tag, b'Z' | b'E');
                    self.startup.push(reply);
                    if last {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// How long a read waits before it counts as silence.
    pub fn patience(&mut self, limit: Duration) {
        self.stream.set_read_timeout(Some(limit)).expect("a time limit can be set");
    }

    /// How bytes leave from now on.
    pub fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }

    /// Puts a message into the next packet.
    pub fn send(&mut self, message: &Message) -> &mut Self {
        self.unsent.extend_from_slice(&message.bytes());
        self
    }

    /// Puts several messages into the next packet.
    pub fn send_all(&mut self, messages: &[Message]) {
        messages.iter().for_each(|message| self.unsent.extend_from_slice(&message.bytes()));
    }

    /// Sends what was put. A peer that has closed is no error here: reading will say so.
    pub fn flush(&mut self) -> io::Result<()> {
        let bytes = std::mem::take(&mut self.unsent);
        match self.pace {
            Pace::Burst => self.stream.write_all(&bytes),
            Pace::Trickle => {
                let mut rest = bytes.as_slice();
                let mut size = 1;
                while !rest.is_empty() {
                    let (piece, after) = rest.split_at(size.min(rest.len()));
                    self.stream.write_all(piece)?;
                    rest = after;
                    // Short pieces at first, so that heads are cut; then long ones, so that bulk does not take for ever.
                    size = if bytes.len() > 4096 { size * 2 } else { size % 7 + 1 };
                }
                Ok(())
            }
        }
    }

    /// The next reply.
    pub fn reply(&mut self) -> Result<Reply, Silence> {
        loop {
            let rest = &self.inbox[self.read..];
            if let Some(head) = rest.get(..5) {
                let size =
                    usize::try_from(u32::from_be_bytes([head[1], head[2], head[3], head[4]])).expect("64 bits") + 1;
                if let Some(frame) = rest.get(..size) {
                    let reply = Reply { tag: frame[0], body: frame[5..].to_vec() };
                    self.read += size;
                    return Ok(reply);
                }
            }
            self.inbox.drain(..self.read);
            self.read = 0;
            self.fill()?;
        }
    }

    /// Whether a part of a reply has come, and not its rest.
    pub const fn is_in_mid_reply(&self) -> bool {
        self.read < self.inbox.len()
    }

    fn fill(&mut self) -> Result<(), Silence> {
        let mut piece = [0_u8; 16 * 1024];
        match self.stream.read(&mut piece) {
            Ok(0) => Err(Silence::Closed),
            Ok(count) => {
                self.inbox.extend_from_slice(&piece[..count]);
                Ok(())
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                Err(Silence::Timeout)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(_) => Err(Silence::Closed),
        }
    }

    /// Replies up to and with the next of this tag; with what came before if it never comes.
    pub fn replies_to(&mut self, tag: u8) -> (Vec<Reply>, Option<Silence>) {
        let mut replies = Vec::new();
        loop {
            match self.reply() {
                Ok(reply) => {
                    let last = reply.tag == tag;
                    replies.push(reply);
                    if last {
                        return (replies, None);
                    }
                }
                Err(silence) => return (replies, Some(silence)),
            }
        }
    }

    /// Sends a simple query and reads to ReadyForQuery; fails if that never comes.
    pub fn query(&mut self, sql: &str) -> Vec<Reply> {
        self.send(&Message::Query(sql.to_owned())).flush().expect("the query leaves");
        match self.replies_to(b'Z') {
            (replies, None) => replies,
            (replies, Some(silence)) => panic!("{silence:?} after {sql:?}, replies {replies:?}"),
        }
    }

    /// The message of the FATAL that ends the session, which nothing follows.
    pub fn last_words(&mut self) -> String {
        let (replies, silence) = self.replies_to(b'E');
        assert_eq!(silence, None, "{replies:?}");
        let fields = replies.last().expect("an error").fields();
        assert_eq!(fields[&'V'], "FATAL", "{fields:?}");
        assert_eq!(self.reply().err(), Some(Silence::Closed));
        fields[&'M'].clone()
    }

    /// Sends a simple query and reads to ReadyForQuery or the connection's end, whichever comes.
    pub fn query_to_the_end(&mut self, sql: &str) -> Vec<Reply> {
        // A connection that has ended says so when it is read.
        drop(self.send(&Message::Query(sql.to_owned())).flush());
        self.replies_to(b'Z').0
    }

    /// Like `query`, but an error fails the test.
    pub fn run(&mut self, sql: &str) -> Vec<Reply> {
        let replies = self.query(sql);
        if let Some(error) = replies.iter().find(|reply| reply.tag == b'E') {
            panic!("{sql:?}: {}", error.line(&mut vec![]));
        }
        replies
    }

    /// Connects and sends a simple query whose answer is awaited later.
    pub fn connect_later(target: &Target, sql: &str) -> Self {
        let mut client = Self::connect(target);
        client.send(&Message::Query(sql.to_owned())).flush().expect("the query leaves");
        client
    }

    /// The rows of a query that must not fail.
    pub fn rows(&mut self, sql: &str) -> Vec<Vec<Option<String>>> {
        self.run(sql).iter().filter(|reply| reply.tag == b'D').map(Reply::row).collect()
    }

    /// The first value of the first row, which must be there.
    pub fn value(&mut self, sql: &str) -> String {
        let rows = self.rows(sql);
        rows.first()
            .and_then(|row| row.first().cloned().flatten())
            .unwrap_or_else(|| panic!("{sql:?} returned no value"))
    }

    /// The server process's number, as it was said at login.
    pub fn process_id(&self) -> i32 {
        self.key.0.cast_signed()
    }

    /// Asks for this connection's statement to be cancelled, and waits until the server has taken it.
    pub fn cancel(&self) {
        self.canceller().cancel();
    }

    /// What another thread needs to cancel this connection's statement.
    pub fn canceller(&self) -> Canceller {
        Canceller { address: self.address, key: self.key.clone() }
    }

    /// Another hold on the connection, to write to it while this one reads.
    pub fn writer(&self) -> TcpStream {
        let writer = self.stream.try_clone().expect("a socket can be held twice");
        writer.set_write_timeout(None).expect("a socket has this");
        writer
    }

    /// Type and length of each reply up to the next of this tag, without keeping what they hold.
    pub fn pass_to(&mut self, tag: u8) -> Vec<(u8, usize)> {
        let mut passed = Vec::new();
        loop {
            while self.inbox.len() - self.read < 5 {
                self.inbox.drain(..self.read);
                self.read = 0;
                self.fill().unwrap_or_else(|silence| panic!("{silence:?} behind {} replies", passed.len()));
            }
            let head = &self.inbox[self.read..self.read + 5];
            let (found, size) = (head[0], u32::from_be_bytes([head[1], head[2], head[3], head[4]]));
            let size = usize::try_from(size).expect("64 bits") + 1;
            let mut left = size;
            loop {
                let here = left.min(self.inbox.len() - self.read);
                self.read += here;
                left -= here;
                if left == 0 {
                    break;
                }
                self.inbox.clear();
                self.read = 0;
                self.fill().unwrap_or_else(|silence| panic!("{silence:?} inside a reply"));
            }
            passed.push((found, size));
            if found == tag {
                return passed;
            }
        }
    }

    /// Sends nothing more, but listens.
    pub fn hang_up(&self) {
        // A peer that has closed says so when it is read.
        drop(self.stream.shutdown(std::net::Shutdown::Write));
    }

    /// The connection itself, for bytes of one's own.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Ends politely.
    pub fn bye(mut self) {
        // The peer may have closed first; then there is nobody to take leave of.
        drop(self.send(&Message::Terminate).flush());
    }
}

/// Cancels one connection's statement from anywhere.
pub struct Canceller {
    address: SocketAddr,
    key: (u32, Vec<u8>),
}

impl Canceller {
    /// The same with a secret nobody gave out.
    #[must_use]
    pub fn forged(mut self) -> Self {
        self.key.1.iter_mut().for_each(|byte| *byte = !*byte);
        self
    }

    /// Sends the request and waits until the other side has closed.
    pub fn cancel(&self) {
        let mut stream = TcpStream::connect_timeout(&self.address, Duration::from_secs(10)).expect("a cancel connects");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time limit can be set");
        stream.write_all(&message::cancel(self.key.0, &self.key.1)).expect("a cancel leaves");
        // The answer is always the end of the stream, in whatever form.
        drop(stream.read(&mut [0_u8; 16]));
    }
}
