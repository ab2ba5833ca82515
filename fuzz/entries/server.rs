//! Hostile servers: any bytes as answers to a session in a drawn state, or to the proxy's own login.
//!
//! Must hold: a server that has said what answers nothing is not given back with anything owed; the client is told
//! only messages that servers send to sessions; nothing of it grows beyond what was said; a login that succeeds has what
//! the proxy depends on, however its bytes are cut, and gives the password to nobody who may not have it; nothing panics.

use bytes::BytesMut;
use tenantgate::auth::scram::NONCE_BYTES;
use tenantgate::guard::Preset;
use tenantgate::session::Input;
use tenantgate::upstream::login::{
    AllowedMethods, BindingPolicy, Channel, Identity, PasswordAllowed, ServerLogin, Way,
};
use tenantgate::wire::frontend::{self, put_message};

use super::draw::Draw;
use super::play::{Played, policy, read};
use super::startup::end_point;
use super::world::{World, contains};

/// See the module.
pub fn run(data: &[u8]) {
    let mut draw = Draw::new(data);
    match draw.byte() {
        200..=255 => login(&mut draw),
        kind => session(kind, &mut draw),
    }
}

const TEXTS: [&str; 14] = [
    "SELECT v FROM invoices",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "BEGIN; SELECT 1; COMMIT; SELECT 2",
    "COPY notes FROM STDIN",
    "COPY notes TO STDOUT",
    "SET timezone = 'CET'",
    "SELECT set_config('timezone', 'CET', false)",
    "DEALLOCATE ALL",
    "SAVEPOINT s; SELECT 1",
    "DROP TABLE x",
    "DISCARD ALL",
    "",
];

fn written(write: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
    let mut out = BytesMut::new();
    write(&mut out);
    out.to_vec()
}

/// A client's act.
fn act(draw: &mut Draw<'_>) -> Vec<u8> {
    let names: [&[u8]; 3] = [b"", b"a", b"b"];
    let (text, name) = (draw.one_of(&TEXTS).as_bytes(), draw.one_of(&names));
    match draw.below(8) {
        0 | 1 => written(|out| frontend::put_query(out, text)),
        2 => written(|out| {
            frontend::put_parse(out, name, text, &[]);
            frontend::put_bind_text(out, name, name, &[]);
            frontend::put_describe(out, frontend::Target::Portal, name);
            frontend::put_execute(out, name);
        }),
        3 => written(frontend::put_sync),
        4 => written(frontend::put_flush),
        5 => written(|out| {
            frontend::put_close(out, frontend::Target::Statement, name);
            frontend::put_bind_text(out, b"", name, &[]);
            frontend::put_execute(out, b"");
            frontend::put_sync(out);
        }),
        6 => written(|out| put_message(out, b'd', |out| out.extend_from_slice(b"data"))),
        _ => written(|out| put_message(out, b'c', |_| {})),
    }
}

fn session(kind: u8, draw: &mut Draw<'_>) {
    let preset = if kind % 4 == 3 { Preset::Migration } else { Preset::Tenant };
    let mut played = Played::new(preset, 0, 4);
    // An honest server, as long as it lasts: what brings a session into its states.
    let mut honest = Honest::new(preset);
    let mut is_honest = true;
    let mut said = 0;
    for _ in 0..24 {
        if draw.is_empty() || played.closed.is_some() {
            break;
        }
        match draw.below(8) {
            0..=2 => played.give(Input::ClientBytes(&act(draw))),
            3 | 4 if is_honest => honest.answer(&mut played),
            5 => {
                let bytes = draw.chunk(600);
                is_honest = false;
                said += bytes.len();
                drop(played.sent());
                played.give(Input::ServerBytes(bytes));
            }
            6 => {
                // One message of a drawn type.
                let (tag, body) = (draw.one_of(b"123TtnDCIsENSZGHdcAKRvW"), draw.chunk(60));
                let bytes = written(|out| put_message(out, tag, |out| out.extend_from_slice(body)));
                is_honest = false;
                said += bytes.len();
                drop(played.sent());
                played.give(Input::ServerBytes(&bytes));
            }
            7 => {
                drop(played.sent());
                is_honest = false;
                match draw.below(4) {
                    0 => played.give(Input::ServerWritten),
                    1 => played.give(Input::Cancelled),
                    2 => played.give(Input::ClientDone),
                    _ => played.give(Input::ServerGone),
                }
            }
            _ => {}
        }
        // Every lease of a dishonest server ends with it.
        if played.leased.is_none() && !is_honest {
            is_honest = true;
            played.at_rest.clear();
        }
    }
    let messages = played.messages();
    // What the proxy says itself is short, and at most a few for each act.
    assert!(played.told.len() <= said + 24 * 16 * 1024, "{} bytes are told", played.told.len());
    assert!(messages.iter().all(|(tag, _)| *tag != b'K' && *tag != b'A'), "passed on what is not the client's");
    played.give(Input::ClientGone);
}

/// A server that answers as PostgreSQL does.
pub struct Honest {
    pub preset: Preset,
    pub world: World,
    /// Which new server of the session it is.
    pub number: Option<u64>,
}

impl Honest {
    /// For the session's first server.
    pub fn new(preset: Preset) -> Self {
        Self { preset, world: World::new(policy(preset), read), number: None }
    }

    /// Answers until it has nothing more to say.
    pub fn answer(&mut self, played: &mut Played) {
        // More rounds than any act of a client needs.
        for _ in 0..256 {
            if played.leased.is_some() && self.number != played.leased {
                self.number = played.leased;
                self.world = World::new(policy(self.preset), read);
            }
            let sent = played.sent();
            if sent.is_empty() {
                return;
            }
            let replies = self.world.take(&sent);
            played.give(Input::ServerWritten);
            if !replies.is_empty() {
                played.give(Input::ServerBytes(&replies));
            }
            if self.world.is_dead && played.leased.is_some() {
                played.give(Input::ServerGone);
            }
        }
        panic!("client and server never come to rest");
    }
}

fn login(draw: &mut Draw<'_>) {
    let choice = draw.byte();
    let (pieces, bytes) = {
        let mut pieces = Vec::new();
        while !draw.is_empty() {
            pieces.push(draw.chunk(4096).to_vec());
        }
        let bytes = pieces.concat();
        (pieces, bytes)
    };
    // A million iterations are allowed, and slow.
    if bytes.windows(6).any(|window| window.starts_with(b",i=") && window[3..].iter().all(u8::is_ascii_digit)) {
        return;
    }
    let whole = log_in(choice, std::slice::from_ref(&bytes));
    assert_eq!(whole, log_in(choice, &pieces), "cut otherwise the same is another");
    let single: Vec<Vec<u8>> = bytes.iter().map(|&byte| vec![byte]).collect();
    assert_eq!(whole, log_in(choice, &single), "cut into bytes the same is another");
}

/// The outcome in words and everything sent.
fn log_in(choice: u8, pieces: &[Vec<u8>]) -> (String, Vec<u8>) {
    let methods = [
        AllowedMethods::default(),
        AllowedMethods { scram: true, md5: true, password: PasswordAllowed::Protected },
        AllowedMethods { scram: false, md5: true, password: PasswordAllowed::Anywhere },
    ];
    let ways = [Way::Clear, Way::Tls(Some(end_point())), Way::Tls(None), Way::Local];
    let policies = [BindingPolicy::Prefer, BindingPolicy::Require, BindingPolicy::Disable];
    let choice = usize::from(choice);
    let methods = methods[choice % 3];
    let channel = Channel { way: ways[choice / 3 % 4].clone(), binding: policies[choice / 12 % 3] };
    let is_clear = channel.way == Way::Clear;
    let identity = Identity { user: "app".into(), database: "demo".into(), password: Some("pencil".into()), methods };
    let is_required = channel.binding == BindingPolicy::Require;
    let mut sent = BytesMut::new();
    let mut login = ServerLogin::start(identity, channel, [1; NONCE_BYTES], &mut sent);
    let mut input = BytesMut::new();
    let mut outcome = String::new();
    for piece in pieces {
        input.extend_from_slice(piece);
        match login.handle_bytes(&mut input, &mut sent) {
            Ok(None) => {}
            Ok(Some(logged_in)) => {
                assert!(!is_required, "let in by a server that has proven nothing");
                for (name, value) in
                    [("standard_conforming_strings", "on"), ("client_encoding", "UTF8"), ("integer_datetimes", "on")]
                {
                    assert_eq!(logged_in.parameter(name), Some(value));
                }
                assert!((4..=256).contains(&logged_in.secret().len()));
                outcome = format!("{logged_in:?} {:?}", logged_in.parameters());
                break;
            }
            Err(fault) => {
                outcome = format!("{fault:?}");
                break;
            }
        }
    }
    let may_be_told = match methods.password {
        PasswordAllowed::Never => false,
        PasswordAllowed::Protected => !is_clear,
        PasswordAllowed::Anywhere => true,
    };
    assert!(may_be_told || !contains(&sent, "pencil"), "the password was given away");
    assert!(sent.len() < 4096, "{} bytes are sent", sent.len());
    (outcome, sent.to_vec())
}
