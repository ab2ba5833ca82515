//! Every client and every server, for whoever has to find them: cancel requests, the console, a reload, a
//! freeze.
//!
//! A place costs a few hundred bytes and no lock on the way of a transaction: what changes with each lease
//! are plain atomics, written by the client's own task.
//!
//! Owns: who is there, and orders to single clients. Does not own: the cancel of a statement (`cancel`).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::Waker;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use rustls::{CipherSuite, ProtocolVersion};

use super::cancel::{CancelSlot, Cancelling};
use super::connect::ReachedServer;
use super::pool::ServerPool;
use crate::admin::{ClientRow, ClientState, ServerRow, ServerState};
use crate::auth::{ClientCertificate, PeerAddress, Proof};
use crate::guard::State;
use crate::startup::Purpose;
use crate::tenant::TenantId;
use crate::time::Moment;

/// TLS of one connection, as it was negotiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsFacts {
    /// Its version.
    pub version: ProtocolVersion,
    /// Its cipher.
    pub suite: CipherSuite,
}

impl TlsFacts {
    /// As `TLSv1_3/TLS13_AES_256_GCM_SHA384`; empty for none.
    #[must_use]
    pub fn words(facts: Option<Self>) -> Arc<str> {
        facts.map_or_else(|| "".into(), |tls| format!("{:?}/{:?}", tls.version, tls.suite).into())
    }
}

/// A client's certificate.
#[derive(Clone, Debug)]
pub struct Shown {
    /// It; its chain was verified at login.
    pub certificate: ClientCertificate,
    /// It and what came with it, as sent: a reload may bring another authority.
    pub chain: Box<[CertificateDer<'static>]>,
    /// The user name the client sent with it.
    pub user: Box<str>,
}

/// What a client is admitted for. It does not change while its session lasts.
#[derive(Clone, Debug)]
pub struct ClientFacts {
    /// Its login.
    pub login: Arc<str>,
    /// The database it asked for.
    pub database: Arc<str>,
    /// What it is here for.
    pub purpose: Purpose,
    /// Where it comes from.
    pub address: PeerAddress,
    /// Where it arrived; there is no such address over unix sockets, nor where the connection was gone already.
    pub local: Option<std::net::SocketAddr>,
    /// TLS, if any.
    pub tls: Option<TlsFacts>,
    /// The certificate it has shown, if any.
    pub shown: Option<Arc<Shown>>,
    /// How it has proven who it is.
    pub proof: Proof,
    /// The generation of the configuration under which it logged in.
    pub generation: u64,
    /// As it said at its start.
    pub application_name: Arc<str>,
    /// When it connected.
    pub connected_at: Moment,
}

impl ClientFacts {
    /// Whose rows it sees, as far as that does not change.
    #[must_use]
    pub const fn tenant(&self) -> Option<&TenantId> {
        match &self.purpose {
            Purpose::Tenant(tenant) => Some(tenant),
            Purpose::Claims(_) | Purpose::Bypass | Purpose::Console => None,
        }
    }
}

/// What somebody else wants of a client's task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Order {
    /// Its user has cancelled the wait for a server.
    Cancel = 1,
    /// End: an administrator says so.
    Kill = 2,
    /// End: the tenant is frozen.
    Freeze = 4,
    /// Its user has cancelled what may not be with the server yet that it has.
    CancelUnsent = 8,
    /// Look at how bypasses stand.
    Standing = 16,
}

/// Orders that have come since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Orders(u8);

impl Orders {
    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether this is one of them.
    #[must_use]
    pub const fn has(self, order: Order) -> bool {
        self.0 & order as u8 != 0
    }
}

/// One client's place.
#[derive(Debug)]
pub struct ClientSlot {
    /// Its cancel key and what it stands for.
    pub cancel: CancelSlot,
    facts: ClientFacts,
    /// Whom it acts for, where it says so by SQL.
    acting: Mutex<Acting>,
    orders: AtomicU8,
    waker: Mutex<Option<Waker>>,
    state: AtomicU8,
    requested_at: AtomicU64,
    server: AtomicU64,
    statements: AtomicU32,
    pinned: AtomicU8,
}

/// Whom a client with claims acts for.
#[derive(Debug, Default)]
struct Acting {
    last: Option<TenantId>,
    /// For whom something may still run. No more than one Query or pipeline names; gone with its last answer.
    before: BTreeSet<TenantId>,
}

/// States as they are stored.
const IDLE: u8 = 0;
const WAITING: u8 = 1;
const ACTIVE: u8 = 2;

/// What is stored where no server stays with the client; beside that, the kinds of state that it carries.
const UNPINNED: u8 = 128;

impl ClientSlot {
    /// What it was admitted for.
    #[must_use]
    pub const fn facts(&self) -> &ClientFacts {
        &self.facts
    }

    /// Whom it acts for now.
    #[must_use]
    pub fn tenant(&self) -> Option<TenantId> {
        match &self.facts.purpose {
            Purpose::Tenant(tenant) => Some(tenant.clone()),
            Purpose::Claims(_) => self.acting.lock().last.clone(),
            Purpose::Bypass | Purpose::Console => None,
        }
    }

    /// Whether it acts for this tenant now, or may still be working for it: one Query or pipeline may claim several, one
    /// transaction after the other.
    #[must_use]
    pub fn acts_for(&self, tenant: &TenantId) -> bool {
        match &self.facts.purpose {
            Purpose::Tenant(own) => own == tenant,
            Purpose::Claims(_) => {
                let acting = self.acting.lock();
                acting.last.as_ref() == Some(tenant) || acting.before.contains(tenant)
            }
            Purpose::Bypass | Purpose::Console => false,
        }
    }

    /// It acts for this tenant from now on; what it has sent for others may still run.
    pub fn begin_acting(&self, tenant: &TenantId) {
        let mut acting = self.acting.lock();
        let last = acting.last.replace(tenant.clone());
        acting.before.extend(last);
    }

    /// It does not act for the last one, after all. Whether nothing of what it has sent for others can run.
    pub fn take_back_acting(&self) -> bool {
        let mut acting = self.acting.lock();
        acting.last = None;
        acting.before.is_empty()
    }

    /// It acts for nobody, and nothing of what it has sent runs.
    pub fn end_acting(&self) {
        *self.acting.lock() = Acting::default();
    }

    /// Gives an order and wakes the client's task.
    pub fn give(&self, order: Order) {
        self.orders.fetch_or(order as u8, Ordering::AcqRel);
        self.wake();
    }

    /// How the client's task is woken when somebody else wants something of it.
    pub fn set_waker(&self, waker: Waker) {
        *self.waker.lock() = Some(waker);
    }

    /// Wakes the client's task.
    pub fn wake(&self) {
        if let Some(waker) = self.waker.lock().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// The orders since the last look.
    #[must_use]
    pub fn take_orders(&self) -> Orders {
        match self.orders.load(Ordering::Relaxed) {
            0 => Orders::default(),
            _ => Orders(self.orders.swap(0, Ordering::AcqRel)),
        }
    }

    /// The client asks for a server.
    pub fn on_request(&self, now: Moment) {
        self.requested_at.store(now.as_micros(), Ordering::Relaxed);
        self.state.store(WAITING, Ordering::Relaxed);
    }

    /// It has one.
    pub fn on_lease(&self, server: u64) {
        self.server.store(server, Ordering::Relaxed);
        self.state.store(ACTIVE, Ordering::Relaxed);
    }

    /// It has none and waits for none.
    pub fn on_rest(&self, statements: usize) {
        self.server.store(0, Ordering::Relaxed);
        self.state.store(IDLE, Ordering::Relaxed);
        self.pinned.store(UNPINNED, Ordering::Relaxed);
        self.statements.store(u32::try_from(statements).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// Its server stays with it between transactions, and carries state of these kinds.
    pub fn on_pinned(&self, kinds: Option<u8>, statements: usize) {
        self.state.store(ACTIVE, Ordering::Relaxed);
        self.pinned.store(kinds.unwrap_or(UNPINNED), Ordering::Relaxed);
        self.statements.store(u32::try_from(statements).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// What its server, which stays with it, carries; `None` where none does.
    #[must_use]
    pub fn pinned(&self) -> Option<State> {
        Some(self.pinned.load(Ordering::Relaxed)).filter(|kinds| *kinds != UNPINNED).map(State::from_bits)
    }

    /// What it does now.
    #[must_use]
    pub fn state(&self) -> ClientState {
        match self.state.load(Ordering::Relaxed) {
            ACTIVE => ClientState::Active,
            WAITING => ClientState::Waiting,
            _ => ClientState::Idle,
        }
    }

    /// Since when it waits, if it does.
    #[must_use]
    pub fn waiting_since(&self) -> Option<Moment> {
        (self.state() == ClientState::Waiting).then(|| self.requested_at())
    }

    /// When it last asked for a server.
    #[must_use]
    pub fn requested_at(&self) -> Moment {
        Moment::from_micros(self.requested_at.load(Ordering::Relaxed))
    }

    fn row(&self, process_id: i32) -> ClientRow {
        let facts = &self.facts;
        let (address, port) = peer_words(facts.address);
        let (local_address, local_port) = match (facts.local, facts.address) {
            (Some(local), _) => peer_words(PeerAddress::Tcp(local)),
            (None, PeerAddress::Unix) => peer_words(PeerAddress::Unix),
            (None, PeerAddress::Tcp(_)) => ("".into(), 0),
        };
        ClientRow {
            process_id,
            login: Arc::clone(&facts.login),
            database: Arc::clone(&facts.database),
            tenant: self.tenant(),
            state: self.state(),
            address,
            port,
            local_address,
            local_port,
            connected_at: facts.connected_at,
            requested_at: self.requested_at(),
            waiting_since: self.waiting_since(),
            server: Some(self.server.load(Ordering::Relaxed)).filter(|server| *server != 0),
            application_name: Arc::clone(&facts.application_name),
            tls: TlsFacts::words(facts.tls),
            prepared_statements: usize::try_from(self.statements.load(Ordering::Relaxed)).unwrap_or(usize::MAX),
            pinned: self.pinned().map(|kinds| kinds.words().into()),
        }
    }
}

/// An address for people, and its port.
#[must_use]
pub fn peer_words(address: PeerAddress) -> (Arc<str>, u16) {
    match address {
        PeerAddress::Tcp(address) => (address.ip().to_string().into(), address.port()),
        PeerAddress::Unix => ("unix".into(), 0),
    }
}

/// All clients that are logged in.
#[derive(Debug, Default)]
pub struct Clients {
    slots: DashMap<i32, Arc<ClientSlot>>,
}

/// A client's registration; it ends when this is dropped.
#[derive(Debug)]
pub struct Registration {
    clients: Arc<Clients>,
    process_id: i32,
    slot: Arc<ClientSlot>,
}

impl Registration {
    /// The process id the client is told.
    #[must_use]
    pub const fn process_id(&self) -> i32 {
        self.process_id
    }

    /// The secret the client is told.
    #[must_use]
    pub fn secret(&self) -> &[u8] {
        self.slot.cancel.secret()
    }

    /// The client's place.
    #[must_use]
    pub const fn slot(&self) -> &Arc<ClientSlot> {
        &self.slot
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.clients.slots.remove(&self.process_id);
    }
}

impl Clients {
    /// Registers a client under a free process id near `wish` with a secret of random bytes.
    #[must_use]
    pub fn register(self: &Arc<Self>, wish: i32, secret: &[u8], facts: ClientFacts) -> Registration {
        let slot = Arc::new(ClientSlot {
            cancel: CancelSlot::new(secret),
            requested_at: AtomicU64::new(facts.connected_at.as_micros()),
            facts,
            acting: Mutex::default(),
            orders: AtomicU8::new(0),
            waker: Mutex::default(),
            state: AtomicU8::new(IDLE),
            server: AtomicU64::new(0),
            statements: AtomicU32::new(0),
            pinned: AtomicU8::new(UNPINNED),
        });
        let mut process_id = wish & i32::MAX;
        loop {
            process_id = process_id.checked_add(1).unwrap_or(1);
            if let Entry::Vacant(place) = self.slots.entry(process_id) {
                place.insert(Arc::clone(&slot));
                return Registration { clients: Arc::clone(self), process_id, slot };
            }
        }
    }

    /// Wakes every client's task.
    pub fn wake_all(&self) {
        for slot in &self.slots {
            slot.wake();
        }
    }

    /// Begins a cancel, if the key is right and the client has a server; where it waits for one, it is told.
    #[must_use]
    pub fn begin_cancel(&self, process_id: i32, secret: &[u8]) -> Option<Cancelling> {
        let slot = self.slots.get(&process_id).map(|slot| Arc::clone(&slot))?;
        if !slot.cancel.has_secret(secret) {
            return None;
        }
        let cancelling = slot.cancel.begin();
        slot.give(if cancelling.is_none() { Order::Cancel } else { Order::CancelUnsent });
        cancelling
    }

    /// Gives an order to one client; whether it is there.
    pub fn order_one(&self, process_id: i32, order: Order) -> bool {
        let slot = self.slots.get(&process_id).map(|slot| Arc::clone(&slot));
        slot.is_some_and(|slot| {
            slot.give(order);
            true
        })
    }

    /// Gives an order to all that fit; how many.
    pub fn order_all(&self, order: Order, fits: impl Fn(&ClientSlot) -> bool) -> usize {
        let mut count = 0;
        for slot in self.slots.iter().filter(|slot| fits(slot)) {
            slot.give(order);
            count += 1;
        }
        count
    }

    /// Every client, as the console shows it.
    #[must_use]
    pub fn rows(&self) -> Vec<ClientRow> {
        self.slots.iter().map(|slot| slot.row(*slot.key())).collect()
    }

    /// Looks at every client.
    pub fn for_each(&self, mut look: impl FnMut(&ClientSlot)) {
        for slot in &self.slots {
            look(slot.value());
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether nobody is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

/// What the servers of one pool have in common.
#[derive(Debug)]
pub struct ServerKin {
    /// Server group.
    pub group: Arc<str>,
    /// The role's name on the server.
    pub user: Arc<str>,
    /// Its database.
    pub database: Arc<str>,
}

/// One server's place.
#[derive(Debug)]
pub struct ServerSlot {
    id: u64,
    kin: Arc<ServerKin>,
    reached: Arc<ReachedServer>,
    tls: Option<TlsFacts>,
    connected_at: Moment,
    process_id: i32,
    pool: Weak<ServerPool>,
    requested_at: AtomicU64,
    client: AtomicI32,
    statements: AtomicU32,
}

/// What is known of a server when it is connected.
#[derive(Debug)]
pub struct ServerFacts {
    /// Our number for it.
    pub id: u64,
    /// Its pool's group, user and database.
    pub kin: Arc<ServerKin>,
    /// Where it is.
    pub reached: Arc<ReachedServer>,
    /// TLS, if any.
    pub tls: Option<TlsFacts>,
    /// When connecting it began.
    pub connected_at: Moment,
    /// The process behind it.
    pub process_id: i32,
    /// Its pool.
    pub pool: Weak<ServerPool>,
}

impl ServerSlot {
    /// Our number for it.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// It was lent.
    pub fn on_lease(&self, client: i32, now: Moment) {
        self.requested_at.store(now.as_micros(), Ordering::Relaxed);
        self.client.store(client, Ordering::Relaxed);
    }

    /// It is given back.
    pub fn on_rest(&self, statements: usize) {
        self.client.store(0, Ordering::Relaxed);
        self.statements.store(u32::try_from(statements).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    fn row(&self) -> ServerRow {
        let client = Some(self.client.load(Ordering::Relaxed)).filter(|client| *client != 0);
        let (address, port) = match self.reached.socket_address() {
            Some(address) => (address.ip().to_string().into(), address.port()),
            None => (self.reached.to_string().into(), 0),
        };
        ServerRow {
            id: self.id,
            group: Arc::clone(&self.kin.group),
            user: Arc::clone(&self.kin.user),
            database: Arc::clone(&self.kin.database),
            state: if client.is_some() { ServerState::Active } else { ServerState::Idle },
            address,
            port,
            connected_at: self.connected_at,
            requested_at: Moment::from_micros(self.requested_at.load(Ordering::Relaxed)),
            process_id: self.process_id,
            client,
            close_needed: self.pool.upgrade().is_none_or(|pool| pool.is_close_needed(self.connected_at)),
            tls: TlsFacts::words(self.tls),
            prepared_statements: usize::try_from(self.statements.load(Ordering::Relaxed)).unwrap_or(usize::MAX),
        }
    }
}

/// All servers that are connected.
#[derive(Debug, Default)]
pub struct Servers {
    slots: DashMap<u64, Arc<ServerSlot>>,
}

/// A server's registration; it ends when this is dropped.
#[derive(Debug)]
pub struct ServerRegistration {
    servers: Arc<Servers>,
    slot: Arc<ServerSlot>,
}

impl ServerRegistration {
    /// The server's place.
    #[must_use]
    pub const fn slot(&self) -> &Arc<ServerSlot> {
        &self.slot
    }
}

impl Drop for ServerRegistration {
    fn drop(&mut self) {
        self.servers.slots.remove(&self.slot.id);
    }
}

impl Servers {
    /// Registers a server. Its number is used once.
    #[must_use]
    pub fn register(self: &Arc<Self>, facts: ServerFacts) -> ServerRegistration {
        let ServerFacts { id, kin, reached, tls, connected_at, process_id, pool } = facts;
        let slot = Arc::new(ServerSlot {
            id,
            kin,
            reached,
            tls,
            connected_at,
            process_id,
            pool,
            requested_at: AtomicU64::new(connected_at.as_micros()),
            client: AtomicI32::new(0),
            statements: AtomicU32::new(0),
        });
        self.slots.insert(id, Arc::clone(&slot));
        ServerRegistration { servers: Arc::clone(self), slot }
    }

    /// Every server, as the console shows it.
    #[must_use]
    pub fn rows(&self) -> Vec<ServerRow> {
        // A row asks its pool, which may be dropped by that: nothing of the map is held meanwhile.
        let slots: Vec<Arc<ServerSlot>> = self.slots.iter().map(|slot| Arc::clone(&slot)).collect();
        slots.iter().map(|slot| slot.row()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenant::TenantKind;

    fn facts(tenant: &str) -> ClientFacts {
        ClientFacts {
            login: "app".into(),
            database: "demo".into(),
            purpose: Purpose::Tenant(TenantId::parse(TenantKind::Text, tenant).unwrap()),
            address: PeerAddress::Unix,
            local: None,
            tls: None,
            shown: None,
            proof: Proof::Password,
            generation: 1,
            application_name: "".into(),
            connected_at: Moment::from_micros(5),
        }
    }

    #[test]
    fn a_place_is_small_and_leaves_nothing_behind() {
        assert!(size_of::<ClientSlot>() <= 336, "{}", size_of::<ClientSlot>());
        let clients = Arc::new(Clients::default());
        let one = clients.register(i32::MAX, b"key1", facts("acme"));
        let other = clients.register(i32::MAX, b"key2", facts("acme"));
        assert_eq!((one.process_id(), other.process_id(), clients.len()), (1, 2, 2));
        drop((one, other));
        assert!(clients.is_empty());
        assert!(!clients.order_one(1, Order::Kill));
    }

    #[test]
    fn orders_reach_those_they_are_meant_for_once() {
        let clients = Arc::new(Clients::default());
        let acme = clients.register(1, b"key1", facts("acme"));
        let globex = clients.register(2, b"key2", facts("globex"));
        let frozen = TenantId::parse(TenantKind::Text, "acme").unwrap();
        assert_eq!(clients.order_all(Order::Freeze, |slot| slot.tenant().as_ref() == Some(&frozen)), 1);
        assert!(clients.order_one(acme.process_id(), Order::Kill));
        let orders = acme.slot().take_orders();
        assert!(orders.has(Order::Freeze) && orders.has(Order::Kill) && !orders.has(Order::Cancel));
        assert!(acme.slot().take_orders().is_empty() && globex.slot().take_orders().is_empty());
        assert!(clients.begin_cancel(globex.process_id(), b"wrong").is_none());
        assert!(globex.slot().take_orders().is_empty());
        assert!(clients.begin_cancel(globex.process_id(), b"key2").is_none());
        assert!(globex.slot().take_orders().has(Order::Cancel));
    }

    #[test]
    fn rows_say_what_clients_do() {
        let clients = Arc::new(Clients::default());
        let one = clients.register(1, b"key1", facts("acme"));
        assert_eq!(clients.rows()[0].state, ClientState::Idle);
        one.slot().on_request(Moment::from_micros(9));
        let row = &clients.rows()[0];
        assert_eq!((row.state, row.waiting_since), (ClientState::Waiting, Some(Moment::from_micros(9))));
        one.slot().on_lease(7);
        let row = &clients.rows()[0];
        assert_eq!((row.state, row.server, row.waiting_since), (ClientState::Active, Some(7), None));
        one.slot().on_rest(3);
        let row = &clients.rows()[0];
        assert_eq!((row.state, row.server, row.prepared_statements), (ClientState::Idle, None, 3));
    }
}
