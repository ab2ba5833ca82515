//! A session with its driver played: servers are leased at once, texts inspected at once, records durable at once.
//!
//! Owns: the effects, and what must hold of them whoever speaks. Does not own: what client and server say.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use tenantgate::guard::{FactsCache, Inspected, Limits, Policy, PolicySettings, Preset, inspect};
use tenantgate::scope::{CleanServer, DiscardReason, Injection, Lifetime, ScopeTemplate};
use tenantgate::session::{CloseReason, Effect, Input, Recording, Session, SessionRules};
use tenantgate::tenant::{TenantId, TenantKind};
use tenantgate::upstream::{Parameters, Replies, Server, ServerId, ServerKey, Settings};

/// The tenants of sessions.
pub const TENANTS: [&str; 2] = ["acme", "globex"];

/// Messages that a session may give to a client.
const TO_CLIENTS: &[u8] = b"123TtnDCIsENSZKGHdcA";

thread_local! {
    static READ: RefCell<HashMap<Vec<u8>, Inspected>> = RefCell::new(HashMap::new());
}

/// Inspects a text, or remembers what was found: fuzzers repeat themselves.
pub fn read(sql: &[u8], limits: &Limits) -> Inspected {
    if let Some(known) = READ.with_borrow(|known| known.get(sql).cloned()) {
        return known;
    }
    let found = inspect(sql, limits);
    READ.with_borrow_mut(|known| {
        if known.len() > 5_000 {
            known.clear();
        }
        known.insert(sql.to_vec(), found.clone());
    });
    found
}

/// The policy of a preset.
pub fn policy(preset: Preset) -> Policy {
    Policy::new(&PolicySettings { preset, scope_settings: vec!["app.tenant_id".into()], ..PolicySettings::default() })
}

fn rules(preset: Preset, tenant: &str) -> Arc<SessionRules> {
    let tenant = TenantId::parse(TenantKind::Text, tenant).expect("a tenant");
    Arc::new(SessionRules {
        recording: preset.is_recorded().then_some(Recording {
            needs_reason: false,
            is_written: true,
            parameter_key: None,
        }),
        claims: None,
        bypass: None,
        injection: Injection::new(&ScopeTemplate::default(), &tenant, Lifetime::Transaction),
        policy: Arc::new(policy(preset)),
        facts: Arc::new(FactsCache::new(1024 * 1024)),
        #[cfg(feature = "mutants")]
        mutant: None,
    })
}

fn parameters() -> Arc<Parameters> {
    let pairs = [("TimeZone", "UTC"), ("client_encoding", "UTF8"), ("standard_conforming_strings", "on")];
    Arc::new(pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
}

fn new_server(number: u64, statements_max: usize) -> CleanServer {
    let key = Arc::new(ServerKey { process_id: 99, secret: Box::from(*b"1234") });
    let server = Server::new(ServerId(number), key, 150_000, parameters(), statements_max);
    CleanServer::fresh(server, Replies::<()>::default().quiet().expect("a new server owes nothing"))
}

/// A session and what its driver has done.
pub struct Played {
    pub session: Session,
    statements_max: usize,
    /// Servers given back, oldest first: the next lease gets the oldest.
    pub at_rest: Vec<CleanServer>,
    /// Which server is leased.
    pub leased: Option<u64>,
    /// The number that the next new server gets.
    pub next_server: u64,
    pub closed: Option<CloseReason>,
    pub discarded: Vec<DiscardReason>,
    pub given_back: usize,
    /// Everything said to the client since its greeting.
    pub told: Vec<u8>,
}

impl Played {
    /// Of one of the tenants, with room for so many prepared statements on a server.
    pub fn new(preset: Preset, tenant: usize, statements_max: usize) -> Self {
        let session = Session::new(rules(preset, TENANTS[tenant]), Settings::default(), &parameters(), 7, b"abcd");
        let mut played = Self {
            session,
            statements_max,
            at_rest: Vec::new(),
            leased: None,
            next_server: 0,
            closed: None,
            discarded: Vec::new(),
            given_back: 0,
            told: Vec::new(),
        };
        played.session.client_out().clear();
        played
    }

    fn lease(&mut self) -> CleanServer {
        assert!(self.leased.is_none(), "two servers for one client");
        if self.at_rest.is_empty() {
            self.at_rest.push(new_server(self.next_server, self.statements_max));
            self.next_server += 1;
        }
        let server = self.at_rest.remove(0);
        self.leased = Some(server.server().id.0);
        server
    }

    /// Gives an input and carries out what it leads to.
    pub fn give(&mut self, input: Input<'_>) {
        assert!(!self.session.is_closed() || self.closed.is_some());
        self.session.handle(input);
        while let Some(effect) = self.session.poll_effect() {
            assert!(self.closed.is_none(), "an effect behind the end: {effect:?}");
            match effect {
                // It has stayed with the client.
                Effect::Lease if self.leased.is_some() => self.session.handle(Input::Resumed),
                Effect::Pin => self.session.handle(Input::Pinned(Ok(()))),
                Effect::Lease => {
                    let server = self.lease();
                    self.session.handle(Input::Leased(server));
                }
                Effect::Inspect(sql) => self.session.handle(Input::Inspected(read(&sql, &Limits::default()))),
                Effect::Record(_) => self.session.handle(Input::Recorded(Ok(()))),
                Effect::Close(reason) => self.closed = Some(reason),
                Effect::CheckIn(server) => {
                    assert!(self.leased.take().is_some(), "given back what was not leased");
                    let parameters = &server.server().parameters;
                    let encoding = parameters.get("client_encoding").map(|value| &**value);
                    assert!(matches!(encoding, Some("UTF8" | "UNICODE")), "given back with {encoding:?}");
                    assert_eq!(parameters.get("standard_conforming_strings").map(|value| &**value), Some("on"));
                    self.given_back += 1;
                    self.at_rest.push(server);
                }
                Effect::Discard(reason) => {
                    assert!(self.leased.take().is_some(), "discarded what was not leased");
                    self.discarded.push(reason);
                }
                Effect::Cancel
                | Effect::Refused(_)
                | Effect::Observed(..)
                | Effect::Rest
                | Effect::Limit(_)
                | Effect::Claim(_)
                | Effect::Unclaim => {}
            }
        }
        assert!(self.closed.is_none() || self.leased.is_none(), "ended with a server");
        let said = self.session.client_out().split();
        self.told.extend_from_slice(&said);
    }

    /// What the server has been sent since the last look.
    pub fn sent(&mut self) -> Vec<u8> {
        self.session.server_out().map(|out| out.split().to_vec()).unwrap_or_default()
    }

    /// The messages the client has been given, whole ones, as (type, body).
    pub fn messages(&self) -> Vec<(u8, Vec<u8>)> {
        let (mut found, mut rest) = (Vec::new(), &self.told[..]);
        while let Ok(Some((head, body))) = tenantgate::wire::frame::cut(rest) {
            assert!(TO_CLIENTS.contains(&head.tag), "the client is told {:?}", char::from(head.tag));
            found.push((head.tag, body.to_vec()));
            rest = &rest[head.frame_bytes()..];
        }
        found
    }
}
