//! The proxy as a whole: built from a configuration, and what all sessions share.
//!
//! Owns: sessions from their admission on, and the parts they share. Does not own: one client (`client`), one
//! pool (`pool`), what an operator does (`control`, `reload`), the end (`shutdown`).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::rand;
use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{Instant, interval, timeout};

use super::build::{self, PoolKey};
use super::bypasses::Bypasses;
use super::client::{ClientTask, Surroundings};
use super::clock::Clock;
use super::connect::send_cancel_to;
use super::control::Holds;
use super::freeze::{FreezeFault, Freezer};
use super::gauge::{Gauge, SessionGauge};
use super::generation::Generation;
use super::handshake::{Arrival, ClientPermit, HandshakeFault};
use super::http::HttpListener;
use super::ledger::{Ledger, SessionLedger};
use super::listener::{Entrance, ListenFault, Listener, Reception};
use super::notify;
use super::parser::Parsers;
use super::pool::{PoolParts, Seat, ServerPool};
use super::reconcile;
use super::registry::{ClientFacts, Clients, Registration, ServerKin, Servers, Shown};
use super::reload::{self, Hooks};
use super::review::ReviewListener;
use super::signal::{Signal, Stage};
use super::stream::{FAREWELL_TIMEOUT, Stream};
use super::surfaces::Surfaces;
use super::tls::TlsFault;
use crate::admin::{Denial, ShutdownMode};
use crate::audit::Actor;
use crate::auth::{PeerAddress, ProcessSecret};
use crate::config::Config;
use crate::fault::{Code, Fault};
use crate::guard::{FactsCache, Preset, REASON_SETTING};
use crate::pool::{Admission, Fairness, Membership};
use crate::scope::Injection;
use crate::session::{Claimant, Recording, Session, SessionRules};
use crate::startup::{AuthenticatedClient, Purpose};
use crate::tenant::TenantId;
use crate::upstream::outdated::Definitions;
use crate::upstream::{Parameters, Settings};
use crate::wire::backend;
use crate::wire::frontend::PROTOCOL_3_2;

/// How often waits, ages and pauses of the pools are looked at; time limits are as exact as this.
const SWEEP_INTERVAL: Duration = Duration::from_millis(100);

/// Threads that parse SQL: cold texts are rare, and each costs well under a millisecond.
const PARSER_THREADS: usize = 2;

/// The pool itself ends a wait, unless it is on hold: this much later the session is given up.
const GREETING_MARGIN: Duration = Duration::from_secs(1);

/// What cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartFault {
    /// An address is taken.
    #[error(transparent)]
    Listen(#[from] ListenFault),
    /// Certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsFault),
    /// It is not known which tenants are frozen.
    #[error(transparent)]
    Freeze(#[from] FreezeFault),
    /// The system gives no threads or random bytes.
    #[error("the system refuses: {0}")]
    System(#[from] std::io::Error),
    /// A database with `seal = true` does not hold tenants apart.
    #[error("database {database:?} is not sealed as it should be, as role {role:?} sees it (TG160):\n  {}", .problems.join("\n  "))]
    Unsealed {
        /// Its name on the server.
        database: String,
        /// The role's key.
        role: String,
        /// What is wrong.
        problems: Vec<String>,
    },
    /// The configuration contradicts itself in a way that only shows here.
    #[error("{0}")]
    Configuration(String),
}

/// A database of a server group: both names.
type DatabaseKey = (Arc<str>, Arc<str>);

/// What all sessions share.
pub struct Proxy {
    pub(super) generation: ArcSwap<Generation>,
    pub(super) pools: Mutex<HashMap<PoolKey, Arc<ServerPool>>>,
    /// Pools that the configuration has no place for any more, until their last server is gone.
    pub(super) closing_pools: Mutex<Vec<Arc<ServerPool>>>,
    /// How often definitions have changed, by server group and database: as many as configurations have named.
    definitions: Mutex<HashMap<DatabaseKey, Arc<Definitions>>>,
    pub(super) holds: Mutex<Holds>,
    pub(super) entrance: Arc<Entrance>,
    pub(super) clients: Arc<Clients>,
    pub(super) servers: Arc<Servers>,
    pub(super) freezer: Freezer,
    pub(super) bypasses: Bypasses,
    /// Where transactions of bypass and migration logins are recorded.
    ledger: Mutex<Option<Arc<Ledger>>>,
    /// What tenants and logins have taken.
    pub(super) admission: Arc<Admission>,
    pub(super) secret: ProcessSecret,
    pub(super) hooks: Hooks,
    /// One reload at a time.
    pub(super) reloading: tokio::sync::Mutex<()>,
    /// Where orders to end go.
    pub(super) endings: mpsc::Sender<ShutdownMode>,
    facts: Arc<FactsCache>,
    parsers: Parsers,
    signal: Signal,
    clock: Clock,
    pub(super) gauge: Gauge,
    next_server: Arc<AtomicU64>,
    next_process_id: AtomicI32,
    /// Held by every session, so that the end of the last one is seen; taken away when the end begins.
    pub(super) alive: Mutex<Option<mpsc::Sender<()>>>,
    #[cfg(feature = "mutants")]
    previous_tenant: Mutex<Option<TenantId>>,
}

/// A proxy that is running.
pub struct RunningServer {
    pub(super) proxy: Arc<Proxy>,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) listening: JoinHandle<()>,
    pub(super) sweeping: JoinHandle<()>,
    pub(super) surfaces: Surfaces,
    pub(super) ended: mpsc::Receiver<()>,
    pub(super) endings: mpsc::Receiver<ShutdownMode>,
}

/// What a session gets of the newest generation.
pub struct Renewed {
    /// The generation.
    pub generation: Arc<Generation>,
    /// Where its servers come from.
    pub pool: Arc<ServerPool>,
    /// Its rules.
    pub rules: Arc<SessionRules>,
}

/// Starts a proxy that cannot be reloaded. Must be called within a tokio runtime.
///
/// # Errors
/// As [`start_with`].
pub fn start(config: Config) -> Result<RunningServer, StartFault> {
    start_with(config, Hooks::default())
}

/// Starts a proxy. Must be called within a tokio runtime.
///
/// # Errors
/// Says what cannot be had; nothing is left running then.
pub fn start_with(config: Config, hooks: Hooks) -> Result<RunningServer, StartFault> {
    let clock = Clock::start();
    let generation = Generation::first(config);
    let config = &generation.config;
    let facts = Arc::new(FactsCache::default());
    let parsers = Parsers::start(PARSER_THREADS, &facts)?;
    let no_random_bytes = |_| std::io::Error::other("no random bytes");
    let (mut secret, mut first) = ([0_u8; 32], [0_u8; 4]);
    rand::fill(&mut secret).map_err(no_random_bytes)?;
    rand::fill(&mut first).map_err(no_random_bytes)?;
    let secret = ProcessSecret::new(&secret);
    let ledger =
        config.ledger.as_ref().map(|ledger| Ledger::start(ledger.clone(), build::ledger_sync(&hooks))).transpose()?;
    let freezer = Freezer::open(config.state_folder.as_deref(), config.scope.tenant_kind)?;
    let bypasses = Bypasses::open(config.state_folder.as_deref())?;
    let handshake = build::handshake(config, generation.policies.clone(), secret.clone(), generation.number)?;
    let pools = reload::pools(&generation, clock)?;
    let listener = Listener::bind(&config.listen.addresses, config.listen.unix.as_ref())?;
    let (clients_max, logins_max) = (config.listen.client_connections_max, config.listen.login_connections_max);
    let entrance = Arc::new(Entrance::new(handshake, clients_max, logins_max, clock));
    let gauge = Gauge::new(config.metrics.counted, clock);
    let http = config.metrics.address.map(HttpListener::bind).transpose()?;
    let review = config.review.address.map(ReviewListener::bind).transpose()?;
    let (alive, ended) = mpsc::channel(1);
    let (endings, ending_orders) = mpsc::channel(1);
    let signal = Signal::default();
    signal.set_generation(generation.number);
    let admission = Admission::new(config.limits.clone());
    let proxy = Arc::new(Proxy {
        generation: ArcSwap::from_pointee(generation),
        pools: Mutex::default(),
        closing_pools: Mutex::default(),
        definitions: Mutex::default(),
        holds: Mutex::default(),
        entrance: Arc::clone(&entrance),
        clients: Arc::default(),
        servers: Arc::default(),
        freezer,
        bypasses,
        ledger: Mutex::new(ledger),
        admission,
        secret,
        hooks,
        reloading: tokio::sync::Mutex::default(),
        endings,
        facts,
        parsers,
        signal,
        clock,
        gauge,
        next_server: Arc::new(AtomicU64::new(1)),
        next_process_id: AtomicI32::new(i32::from_ne_bytes(first) & i32::MAX),
        alive: Mutex::new(Some(alive)),
        #[cfg(feature = "mutants")]
        previous_tenant: Mutex::default(),
    });
    proxy.add_pools(&proxy.generation.load(), pools, &proxy.holds.lock());
    let addresses = listener.addresses();
    let listening = tokio::spawn(listener.serve(entrance, Arc::new(Door(Arc::clone(&proxy)))));
    let sweeping = tokio::spawn(sweep(Arc::clone(&proxy)));
    drop(tokio::spawn(reconcile::keep_reconciling(Arc::downgrade(&proxy))));
    let surfaces = Surfaces::start(&proxy, http, review);
    Ok(RunningServer { proxy, addresses, listening, sweeping, surfaces, ended, endings: ending_orders })
}

/// If dropped: time limits are not kept any more, and the service manager thinks the proxy dead.
async fn sweep(proxy: Arc<Proxy>) {
    let mut ticks = interval(SWEEP_INTERVAL);
    let watchdog = notify::watchdog_interval();
    let mut told_at = Instant::now();
    loop {
        ticks.tick().await;
        proxy.all_pools().iter().for_each(ServerPool::sweep);
        proxy.closing_pools.lock().retain(|pool| {
            pool.sweep();
            !pool.is_empty()
        });
        proxy.expire_emergencies();
        proxy.entrance.clients.settle();
        proxy.entrance.logins.settle();
        if watchdog.is_some_and(|interval| told_at.elapsed() >= interval) {
            told_at = Instant::now();
            notify::alive();
        }
    }
}

impl Proxy {
    /// Where texts are parsed.
    #[must_use]
    pub const fn parsers(&self) -> &Parsers {
        &self.parsers
    }

    /// What all sessions have to notice.
    #[must_use]
    pub const fn signal(&self) -> &Signal {
        &self.signal
    }

    /// The clock.
    #[must_use]
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Every pool that is in use.
    #[must_use]
    pub fn all_pools(&self) -> Vec<Arc<ServerPool>> {
        self.pools.lock().values().cloned().collect()
    }

    pub(super) fn move_to(&self, stage: Stage) {
        self.signal.advance(stage);
        self.clients.wake_all();
    }

    pub(super) fn new_pool(
        &self,
        key: &PoolKey,
        limits: crate::pool::PoolLimits,
        fairness: Fairness,
        way: super::pool::Way,
    ) -> Arc<ServerPool> {
        let kin = ServerKin {
            group: Arc::clone(&key.server),
            user: way.identity.user.as_str().into(),
            database: Arc::clone(&key.database),
        };
        ServerPool::new(PoolParts {
            name: format!("{}/{}/{}", key.server, key.database, key.role),
            limits,
            fairness,
            way,
            kin,
            servers: Arc::clone(&self.servers),
            definitions: self.definitions_of(key),
            clock: self.clock,
            next_server: Arc::clone(&self.next_server),
            metrics: Arc::clone(&self.gauge.metrics),
        })
    }

    /// The roles of a database share its definitions; a configuration that has it no more may have it again.
    fn definitions_of(&self, key: &PoolKey) -> Arc<Definitions> {
        let place = (Arc::clone(&key.server), Arc::clone(&key.database));
        Arc::clone(self.definitions.lock().entry(place).or_default())
    }

    /// What a client's session works with under the newest generation.
    ///
    /// # Errors
    /// It may not go on under it.
    pub fn renewed(&self, client: &ClientFacts) -> Result<Renewed, Fault> {
        let mut generation = self.generation.load_full();
        let pool = loop {
            generation.check(client)?;
            let key = generation.pool_key(client);
            let pool = key.and_then(|key| self.pools.lock().get(&key).cloned());
            let newest = self.generation.load_full();
            // A reload may have closed the pool of the generation before.
            match pool {
                None if newest.number != generation.number => generation = newest,
                found => break found,
            }
        };
        let (Some(pool), Some(rules)) = (pool, self.rules(&generation, client)) else {
            return Err(Fault::of(Code::DatabaseUnknown));
        };
        Ok(Renewed { generation, pool, rules: Arc::new(rules) })
    }

    /// `None` for a client that is here for something else than a session.
    fn rules(&self, generation: &Generation, client: &ClientFacts) -> Option<SessionRules> {
        let preset = generation.preset_of(client);
        let (scope, bypass) = (&generation.config.scope, &generation.config.bypass);
        let seal = generation.seal_of(client).map(Arc::clone);
        let is_sealed = seal.is_some();
        let injection = match (&client.purpose, seal) {
            (Purpose::Tenant(tenant), None) => {
                Injection::new(&scope.template, &self.tenant_to_inject(tenant), scope.lifetime)
            }
            (Purpose::Tenant(tenant), Some(key)) => {
                Injection::sealed(&scope.template, &self.tenant_to_inject(tenant), key)
            }
            // Whom it claims to act for decides.
            (Purpose::Claims(_), _) => Injection::vacant(),
            (Purpose::Bypass, None) => Injection::fixed(&bypass.template),
            (Purpose::Bypass, Some(key)) => Injection::sealed_bypass(&bypass.template, key),
            (Purpose::Console, _) => return None,
        };
        let claims = match &client.purpose {
            Purpose::Claims(base) => {
                let rules = Arc::clone(generation.claim_rules(client)?);
                Some(Claimant { rules, base: base.clone(), seal: generation.seal_of(client).map(Arc::clone) })
            }
            Purpose::Tenant(_) | Purpose::Bypass | Purpose::Console => None,
        };
        let claimed = claims.as_ref().and_then(|claimant| claimant.rules.bypass.as_ref());
        let recorded = match claimed {
            Some(bypass) => Some((bypass.reason.is_none(), true)),
            None => (is_sealed || preset.is_recorded()).then_some((preset == Preset::Bypass, preset.is_recorded())),
        };
        let recording = recorded.map(|(needs_reason, is_written)| {
            let ledger = generation.config.ledger.as_ref().filter(|_| is_written);
            let parameter_key = ledger.and_then(|ledger| ledger.parameter_key.clone());
            Recording { needs_reason, is_written, parameter_key }
        });
        let policy = Arc::clone(generation.policies_of(&client.database).of(&client.login));
        Some(SessionRules {
            injection,
            policy,
            facts: Arc::clone(&self.facts),
            claims,
            bypass: generation.terms_of(client),
            recording,
            #[cfg(feature = "mutants")]
            mutant: build::mutant(&self.hooks),
        })
    }

    /// Where a session's transactions are recorded, if they are.
    pub(super) fn session_ledger(
        &self,
        generation: &Generation,
        client: &ClientFacts,
        process_id: i32,
    ) -> Option<SessionLedger> {
        let preset = generation.recorded_as(client)?;
        let ledger = self.ledger()?;
        let role = &generation.pool_key(client)?.role;
        let actor = Actor {
            login: Arc::clone(&client.login),
            method: client.proof.method(),
            address: client.address.to_string().into(),
            database: Arc::clone(&client.database),
            role: Arc::clone(&generation.config.roles.get(role)?.user),
            preset,
            tenant: client.tenant().map(|tenant| tenant.as_str().into()),
            client: process_id,
            config: Arc::clone(&generation.config.digest),
        };
        Some(SessionLedger::new(ledger, actor))
    }

    /// The ledger, if there is one.
    #[must_use]
    pub fn ledger(&self) -> Option<Arc<Ledger>> {
        self.ledger.lock().clone()
    }

    /// Starts the ledger that a reload has brought; without it what needs it is refused.
    pub(super) fn start_ledger(&self, config: &Config) {
        let mut ledger = self.ledger.lock();
        if let (None, Some(settings)) = (&*ledger, &config.ledger) {
            match Ledger::start(settings.clone(), build::ledger_sync(&self.hooks)) {
                Ok(started) => *ledger = Some(started),
                Err(error) => tracing::error!(%error, "the ledger cannot be started"),
            }
        }
    }

    #[cfg(feature = "mutants")]
    pub(super) fn has_mutant(&self, mutant: crate::session::Mutant) -> bool {
        build::mutant(&self.hooks) == Some(mutant)
    }

    #[cfg(not(feature = "mutants"))]
    fn tenant_to_inject(&self, tenant: &TenantId) -> TenantId {
        tenant.clone()
    }

    #[cfg(feature = "mutants")]
    fn tenant_to_inject(&self, tenant: &TenantId) -> TenantId {
        let previous = self.previous_tenant.lock().replace(tenant.clone());
        match (build::mutant(&self.hooks), previous) {
            (Some(crate::session::Mutant::PreviousTenant), Some(previous)) => previous,
            _ => tenant.clone(),
        }
    }

    /// What the session rests on, as far as it does not change with a reload.
    pub(super) fn facts_of(&self, stream: &Stream, client: &AuthenticatedClient, logged_in_at: u64) -> ClientFacts {
        let generation = self.generation.load();
        let (login, database) = (client.login(), client.database());
        let known = generation.config.databases.get_key_value(database);
        let name = client.parameters().iter().find(|(name, _)| name == "application_name");
        ClientFacts {
            login: Arc::clone(login),
            database: known.map_or_else(|| database.into(), |(name, _)| Arc::clone(name)),
            purpose: client.purpose().clone(),
            address: client.address(),
            local: stream.local_address(),
            tls: stream.tls_facts(),
            shown: client.certificate().map(|shown| {
                let (certificate, user) = (shown.clone(), client.user().into());
                Arc::new(Shown { certificate, chain: stream.client_chain(), user })
            }),
            proof: client.proof(),
            generation: logged_in_at,
            application_name: name.map_or("", |(_, value)| value).into(),
            connected_at: self.clock.now(),
        }
    }

    /// Registers a client under a new cancel key.
    pub(super) fn register(&self, protocol: i32, facts: ClientFacts) -> Result<Registration, Fault> {
        let wish = self.next_process_id.fetch_add(1, Ordering::Relaxed);
        let mut secret = [0_u8; 32];
        // Protocol 3.0 has four bytes of secret, 3.2 as many as we like.
        let secret = if protocol >= PROTOCOL_3_2 { &mut secret[..] } else { &mut secret[..4] };
        rand::fill(secret).map_err(|_| Fault::of(Code::Internal))?;
        #[cfg(feature = "mutants")]
        if self.has_mutant(crate::session::Mutant::SharedCancelKey) {
            secret.fill(7);
        }
        Ok(self.clients.register(wish, secret, facts))
    }

    /// A seat in the pool, and the pool's greeting; where a reload closes the pool meanwhile, its successor's.
    async fn greeting(
        &self,
        client: &ClientFacts,
        membership: &Arc<Membership>,
        base: &Settings,
    ) -> Result<(Renewed, Arc<Seat>, Arc<Parameters>), Fault> {
        // A hold has no end of its own, and here nobody would notice a client that is gone.
        let mut renewed = self.renewed(client)?;
        let limit = renewed.pool.limits().wait_timeout + GREETING_MARGIN;
        let greeting = async {
            loop {
                let seat = renewed.pool.join(Arc::clone(membership));
                match seat.greeting(base).await {
                    Ok(greeting) => return Ok((renewed, seat, greeting)),
                    Err(_) if renewed.pool.is_closed() && self.signal.read().0 == Stage::Serving => {}
                    Err(refused) => return Err(refused.fatal()),
                }
                yield_now().await;
                renewed = self.renewed(client)?;
            }
        };
        timeout(limit, greeting).await.unwrap_or_else(|_| Err(Fault::of(Code::WaitTimeout).fatal()))
    }

    /// Begins one client's session.
    async fn begin(self: &Arc<Self>, stream: &Stream, client: &AuthenticatedClient, at: u64) -> Result<Begun, Fault> {
        let facts = self.facts_of(stream, client, at);
        let base: Settings = Arc::new(
            client.parameters().iter().map(|(name, value)| (name.as_str().into(), value.as_str().into())).collect(),
        );
        let membership = Arc::new(self.admission.admit(facts.tenant(), &facts.login)?);
        let reported = reported(&base);
        let (renewed, seat, greeting) = self.greeting(&facts, &membership, &reported).await?;
        let registration = self.register(client.protocol(), facts)?;
        // First into the registry, then this look: a freeze that comes between finds the client there.
        if registration.slot().facts().tenant().is_some_and(|tenant| self.freezer.has(tenant)) {
            return Err(Fault::of(Code::TenantFrozen));
        }
        let Renewed { generation, pool, rules } = renewed;
        let base = if base.len() == reported.len() { pool.shared(base) } else { base };
        let ledger = self.session_ledger(&generation, registration.slot().facts(), registration.process_id());
        let mut session = Session::new(rules, base, &greeting, registration.process_id(), registration.secret());
        session.limit_statements(generation.config.client_statements);
        let gauge = SessionGauge::new(&self.gauge, registration.slot().facts());
        let around = Surroundings { proxy: Arc::clone(self), generation, pool: seat, home: None, gauge, ledger };
        Ok(Begun { session, around, registration })
    }

    /// Makes the task that serves a client.
    async fn open(self: &Arc<Self>, arrival: Box<Arrival>) -> Result<Opened, Box<Unopened>> {
        let Arrival { stream, client, input, unsent, permit, generation, accepted_at } = *arrival;
        let Some(alive) = self.alive.lock().clone() else {
            return Err(Box::new(Unopened { stream, fault: Fault::of(Code::ShuttingDown), unsent }));
        };
        let Begun { session, around, registration } = match self.begin(&stream, &client, generation).await {
            Ok(begun) => begun,
            Err(fault) => return Err(Box::new(Unopened { stream, fault, unsent })),
        };
        self.gauge.logged_in(accepted_at);
        tracing::debug!(
            client = registration.process_id(), login = %client.login(), tenant = ?client.tenant(),
            address = %client.address(), "session begins"
        );
        let process_id = registration.process_id();
        let task = ClientTask::new(stream, session, around, registration, unsent);
        Ok(Opened { task, input, process_id, _permit: permit, _alive: alive })
    }

    /// Runs one client's session. What its beginning needs is boxed apart: it is not to be kept, for each client, as
    /// long as the session lasts.
    async fn serve(self: &Arc<Self>, arrival: Box<Arrival>) {
        let who = Box::new(Denial::of(arrival.client.login(), arrival.client.tenant(), arrival.client.address()));
        match Box::pin(self.open(arrival)).await {
            Ok(opened) => {
                drop(who);
                let reason = opened.task.run(opened.input).await;
                tracing::debug!(client = opened.process_id, reason = reason.words(), "session ends");
            }
            Err(unopened) => {
                if let Some(code) = unopened.fault.code {
                    self.gauge.refused(code, *who, "login");
                }
                Box::pin(unopened.turn_away()).await;
            }
        }
    }
}

/// The settings that servers may report. The reason is none of them, and each is another.
fn reported(base: &Settings) -> Settings {
    if !base.contains_key(REASON_SETTING) {
        return Arc::clone(base);
    }
    let others = base.iter().filter(|(name, _)| ***name != *REASON_SETTING);
    Arc::new(others.map(|(name, value)| (name.clone(), value.clone())).collect())
}

/// A client's task, and what it holds as long as it runs.
struct Opened {
    task: Box<ClientTask>,
    input: BytesMut,
    process_id: i32,
    _permit: ClientPermit,
    _alive: mpsc::Sender<()>,
}

/// A client that gets no session.
struct Unopened {
    stream: Stream,
    fault: Fault,
    unsent: BytesMut,
}

impl Unopened {
    /// Says why. If dropped: the connection is closed without.
    async fn turn_away(self: Box<Self>) {
        let Self { mut stream, fault, mut unsent } = *self;
        tracing::info!(code = fault.code.map_or("", |code| code.row().name), "no session: {fault}");
        backend::put_error(&mut unsent, &fault);
        if let Err(error) = stream.say_farewell(&unsent, FAREWELL_TIMEOUT).await {
            tracing::debug!(%error, "a refused client was gone before it could be told");
        }
    }
}

/// A session that has begun, and what its task needs.
struct Begun {
    session: Session,
    around: Surroundings,
    registration: Registration,
}

/// The proxy as the listener sees it.
pub struct Door(Arc<Proxy>);

impl Reception for Door {
    /// If dropped: the client's connection is closed.
    async fn receive(&self, arrival: Box<Arrival>) {
        if *arrival.client.purpose() == Purpose::Console {
            return Box::pin(self.0.serve_console(*arrival)).await;
        }
        self.0.serve(arrival).await;
    }

    fn turned_away(&self, fault: &HandshakeFault, address: PeerAddress) {
        self.0.gauge.turned_away(fault, address);
    }

    /// If dropped: the request may or may not be carried out.
    async fn cancel(&self, process_id: i32, secret: Vec<u8>) {
        if let Some(cancelling) = self.0.clients.begin_cancel(process_id, &secret) {
            send_cancel_to(cancelling.target()).await;
        }
    }
}
