//! Operations: two clients of different tenants over servers that they hand to each other, with messages of any kind
//! cut anywhere, and answers that come in pieces, late.
//!
//! Must hold: every statement that needs a tenant runs under its own client's; a server is given back only at rest, with
//! nothing owed and nothing half said; an honest server is never taken for a hostile one; each client gets
//! exactly the messages that a server without the proxy would have given it, refusals standing as errors in their
//! place; nothing panics.

use std::collections::HashMap;
use std::sync::LazyLock;

use bytes::BytesMut;
use tenantgate::guard::Preset;
use tenantgate::scope::{CleanServer, DiscardReason};
use tenantgate::session::{CloseReason, Input};
use tenantgate::wire::frame::cut;
use tenantgate::wire::frontend::{self, Target, put_message};

use super::draw::Draw;
use super::play::{Played, TENANTS, policy, read};
use super::world::World;

/// What clients send as texts. The last ones are refused to tenants.
const TEXTS: [&str; 36] = [
    "SELECT v FROM invoices",
    "SELECT 1",
    "INSERT INTO invoices VALUES (1)",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "SELECT nope",
    "SELECT fails FROM t",
    "INSERT INTO deferred VALUES (1)",
    "SAVEPOINT s",
    "ROLLBACK TO s",
    "RELEASE s",
    "BEGIN; SELECT 1",
    "SELECT 1; COMMIT; SELECT 2",
    "COMMIT; SELECT 1",
    "ROLLBACK; SELECT 1; BEGIN",
    "SELECT 1; SELECT fails FROM t; SELECT 2",
    "SELECT 1; SELECT 2",
    "",
    "COMMIT AND CHAIN",
    "ROLLBACK AND CHAIN",
    "COPY notes FROM STDIN",
    "SELECT 1; COPY notes FROM STDIN; SELECT 2",
    "COPY notes TO STDOUT",
    "BEGIN; INSERT INTO deferred VALUES (1); COMMIT",
    "SET timezone = 'CET'",
    "SET LOCAL timezone = 'CET'",
    "RESET timezone",
    "DEALLOCATE ALL",
    "DEALLOCATE a",
    "BEGIN; SAVEPOINT s; SELECT fails FROM t",
    "SELECT FROM WHERE",
    "SET app.tenant_id = 'globex'",
    "SELECT set_config('app.tenant_id', 'globex', true)",
    "LISTEN c",
    "TRUNCATE invoices",
];

/// See the module.
pub fn run(data: &[u8]) {
    let mut draw = Draw::new(data);
    let choice = draw.byte();
    let preset = if choice & 3 == 3 { Preset::Migration } else { Preset::Tenant };
    let statements_max = 1 + usize::from(choice >> 2 & 3);
    let mut stage = Stage::new(preset, statements_max);
    for _ in 0..48 {
        if draw.is_empty() {
            break;
        }
        stage.step(&mut draw);
    }
    stage.finish();
}

fn written(write: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
    let mut out = BytesMut::new();
    write(&mut out);
    out.to_vec()
}

/// One message of a client's.
fn message(draw: &mut Draw<'_>) -> Vec<u8> {
    let names: [&[u8]; 3] = [b"", b"a", b"b"];
    let (name, other) = (draw.one_of(&names), draw.one_of(&names));
    let target = if draw.flag() { Target::Statement } else { Target::Portal };
    written(|out| match draw.below(10) {
        0 | 1 => frontend::put_query(out, draw.one_of(&TEXTS).as_bytes()),
        2 | 3 => frontend::put_parse(out, name, draw.one_of(&TEXTS).as_bytes(), &[]),
        4 => frontend::put_bind_text(out, name, other, &[]),
        5 => put_message(out, b'E', |out| {
            frontend::put_cstr(out, name);
            out.extend_from_slice(&i32::from(draw.byte() & 1).to_be_bytes());
        }),
        6 => frontend::put_describe(out, target, name),
        7 => frontend::put_close(out, target, name),
        8 => frontend::put_sync(out),
        _ => frontend::put_flush(out),
    })
}

/// A whole segment, as drivers send it.
fn segment(draw: &mut Draw<'_>) -> Vec<u8> {
    let names: [&[u8]; 3] = [b"", b"a", b"b"];
    let name = draw.one_of(&names);
    written(|out| {
        frontend::put_parse(out, name, draw.one_of(&TEXTS).as_bytes(), &[]);
        frontend::put_bind_text(out, b"", name, &[]);
        frontend::put_describe(out, Target::Portal, b"");
        frontend::put_execute(out, b"");
        frontend::put_sync(out);
    })
}

/// What a client sends while the server takes COPY data.
fn copy_message(draw: &mut Draw<'_>) -> Vec<u8> {
    written(|out| match draw.below(5) {
        0 | 1 => put_message(out, b'd', |out| out.extend_from_slice(b"1\ta\n")),
        2 => put_message(out, b'f', |out| frontend::put_cstr(out, b"no")),
        3 => frontend::put_sync(out),
        _ => put_message(out, b'c', |_| {}),
    })
}

/// A client, its session, and the server that it would have without the proxy.
struct Client {
    played: Played,
    native: World,
    wanted: Vec<u8>,
    /// Sent by the client and not read by the proxy yet.
    pending: Vec<u8>,
}

/// A server, and what it has said that has not arrived yet.
struct Server {
    world: World,
    replies: Vec<u8>,
}

struct Stage {
    preset: Preset,
    clients: Vec<Client>,
    servers: HashMap<u64, Server>,
    at_rest: Vec<CleanServer>,
    next_server: u64,
}

impl Stage {
    fn new(preset: Preset, statements_max: usize) -> Self {
        let client = |tenant| Client {
            played: Played::new(preset, tenant, statements_max),
            native: World::judging(policy(preset), read),
            wanted: Vec::new(),
            pending: Vec::new(),
        };
        Self {
            preset,
            clients: (0..TENANTS.len()).map(client).collect(),
            servers: HashMap::new(),
            at_rest: Vec::new(),
            next_server: 0,
        }
    }

    fn step(&mut self, draw: &mut Draw<'_>) {
        let act = draw.byte();
        let who = usize::from(act & 1);
        match act >> 1 & 7 {
            0..=2 => self.say(who, draw, message),
            3 | 4 => self.say(who, draw, segment),
            5 => {
                let count = 1 + usize::from(draw.byte());
                self.read_client(who, count);
            }
            6 => {
                self.read_client(who, usize::MAX);
                self.carry(who, 1 + usize::from(draw.byte()));
            }
            _ => {
                self.read_client(who, usize::MAX);
                self.carry(who, usize::MAX);
            }
        }
    }

    /// The client sends something; natively it is answered at once.
    fn say(&mut self, who: usize, draw: &mut Draw<'_>, ordinary: fn(&mut Draw<'_>) -> Vec<u8>) {
        let client = &mut self.clients[who];
        let bytes = if client.native.is_in_copy() { copy_message(draw) } else { ordinary(draw) };
        let replies = client.native.take(&bytes);
        trace(who, "client says", &bytes);
        trace(who, "    natively told", &replies);
        client.wanted.extend_from_slice(&replies);
        client.pending.extend_from_slice(&bytes);
    }

    /// The proxy reads so many bytes of the client's.
    fn read_client(&mut self, who: usize, count: usize) {
        if !self.clients[who].played.session.wants_client_bytes() {
            return;
        }
        let pending = &mut self.clients[who].pending;
        let bytes: Vec<u8> = pending.drain(..count.min(pending.len())).collect();
        self.give(who, Input::ClientBytes(&bytes));
    }

    fn give(&mut self, who: usize, input: Input<'_>) {
        let played = &mut self.clients[who].played;
        let (before, given_back, discarded) = (played.leased, played.given_back, played.discarded.len());
        played.at_rest = std::mem::take(&mut self.at_rest);
        played.next_server = self.next_server;
        let told = played.told.len();
        played.give(input);
        trace(who, "    told", &played.told[told..]);
        self.at_rest = std::mem::take(&mut played.at_rest);
        self.next_server = played.next_server;
        if played.given_back > given_back
            && let Some(server) = before.and_then(|number| self.servers.get(&number))
        {
            assert!(server.replies.is_empty(), "given back with replies on their way");
            assert!(server.world.is_at_rest(), "given back in the middle of something");
        }
        for reason in &played.discarded[discarded..] {
            assert!(
                matches!(reason, DiscardReason::QueryBehindExecute | DiscardReason::ClientLeft),
                "an honest server was discarded: {reason:?}"
            );
        }
        let is_fine = matches!(played.closed, None | Some(CloseReason::ClientGone | CloseReason::ClientDone));
        assert!(is_fine || !played.discarded.is_empty(), "ended: {:?}", played.closed);
    }

    /// The client's server reads what it was sent, and so many bytes of its answers arrive; whether any did.
    fn carry(&mut self, who: usize, count: usize) -> bool {
        let Some(number) = self.clients[who].played.leased else { return false };
        let preset = self.preset;
        let new = || Server { world: World::new(policy(preset), read), replies: Vec::new() };
        let server = self.servers.entry(number).or_insert_with(new);
        let sent = self.clients[who].played.sent();
        let said = server.world.take(&sent);
        trace(who, "        server is sent", &sent);
        trace(who, "        server answers", &said);
        server.replies.extend_from_slice(&said);
        for (text, tenant) in server.world.ran.drain(..) {
            assert_eq!(tenant.as_deref(), Some(TENANTS[who].as_bytes()), "the tenant under which {text:?} ran");
        }
        let arrived: Vec<u8> = server.replies.drain(..count.min(server.replies.len())).collect();
        let is_dead = server.world.is_dead && server.replies.is_empty();
        if !sent.is_empty() {
            self.give(who, Input::ServerWritten);
        }
        if !arrived.is_empty() && self.clients[who].played.leased == Some(number) {
            self.give(who, Input::ServerBytes(&arrived));
        }
        if is_dead && self.clients[who].played.leased == Some(number) {
            self.give(who, Input::ServerGone);
        }
        !(sent.is_empty() && arrived.is_empty())
    }

    /// Everything arrives; then each client must have what it is due.
    fn finish(&mut self) {
        for who in 0..self.clients.len() {
            for round in 0.. {
                assert!(round < 1_000, "client and server never come to rest");
                let is_read = self.clients[who].pending.is_empty();
                self.read_client(who, usize::MAX);
                if !self.carry(who, usize::MAX) && is_read {
                    break;
                }
            }
            self.compare(who);
            let number = self.clients[who].played.leased;
            let at_rest = number.and_then(|number| self.servers.get(&number));
            let is_done = at_rest.is_some_and(|server| server.world.is_at_rest());
            assert!(!is_done || self.has_open_end(who), "a server at rest is kept");
            self.give(who, Input::ClientGone);
            while self.carry(who, usize::MAX) {}
            assert!(self.clients[who].played.closed.is_some(), "the client is gone and the session is not");
        }
    }

    /// Half a message, or a segment that no Sync has ended yet, keeps a server.
    fn has_open_end(&self, who: usize) -> bool {
        self.clients[who].native.has_open_segment()
    }

    fn compare(&self, who: usize) {
        let client = &self.clients[who];
        if !client.played.discarded.is_empty() {
            return;
        }
        let (told, wanted) = (heads(&client.played.told), heads(&client.wanted));
        assert_eq!(told, wanted, "what client {who} is told, and what it would be told without the proxy");
    }
}

static IS_TRACED: LazyLock<bool> = LazyLock::new(|| std::env::var_os("FUZZ_TRACE").is_some());

/// With `FUZZ_TRACE` set, prints every message: to understand a finding.
fn trace(who: usize, what: &str, bytes: &[u8]) {
    if *IS_TRACED && !bytes.is_empty() {
        let mut rest = bytes;
        while let Ok(Some((head, body))) = cut(rest) {
            eprintln!("{who} {what} {} {}", char::from(head.tag), body.escape_ascii());
            rest = &rest[head.frame_bytes()..];
        }
        if !rest.is_empty() {
            eprintln!("{who} {what} part of a message: {}", rest.escape_ascii());
        }
    }
}

/// The messages by type, ReadyForQuery with its status; without those that may come at any time.
fn heads(bytes: &[u8]) -> String {
    let (mut found, mut rest) = (String::new(), bytes);
    while let Ok(Some((head, body))) = cut(rest) {
        match head.tag {
            b'N' | b'S' => {}
            b'Z' => found.extend([' ', 'Z', char::from(body[0]), ' ']),
            tag => found.push(char::from(tag)),
        }
        rest = &rest[head.frame_bytes()..];
    }
    found
}
