//! The proxy as a whole: built from a configuration, started, drained.
//!
//! Owns: what all sessions share, and its life. Does not own: one client (`client`), one pool (`pool`).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::rand;
use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{interval, timeout};

use super::build::{self, Policies, PoolKey};
use super::cancel::CancelRegistry;
use super::client::{ClientTask, SharedStage, Stage, Surroundings};
use super::clock::Clock;
use super::connect::send_cancel;
use super::handshake::Arrival;
use super::ledger::{Ledger, SessionLedger};
use super::listener::{Entrance, ListenFault, Listener, Reception};
use super::parser::Parsers;
use super::pool::ServerPool;
use super::stream::Stream;
use super::tls::TlsFault;
use crate::audit::Actor;
use crate::auth::ProcessSecret;
use crate::config::Config;
use crate::fault::{Code, Fault};
use crate::guard::{FactsCache, Preset, REASON_SETTING};
use crate::scope::Injection;
use crate::session::{Recording, Session, SessionRules};
use crate::startup::{AuthenticatedClient, Purpose};
use crate::tenant::TenantId;
use crate::upstream::Settings;
use crate::wire::backend;
use crate::wire::frontend::PROTOCOL_3_2;

/// How often waits, ages and pauses of the pools are looked at; time limits are as exact as this.
const SWEEP_INTERVAL: Duration = Duration::from_millis(100);

/// Threads that parse SQL: cold texts are rare, and each costs well under a millisecond.
const PARSER_THREADS: usize = 2;

/// After the drain's time limit: how long sessions get to say good-bye.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// What cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartFault {
    /// An address is taken.
    #[error(transparent)]
    Listen(#[from] ListenFault),
    /// Certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsFault),
    /// The system gives no threads or random bytes.
    #[error("the system refuses: {0}")]
    System(#[from] std::io::Error),
    /// The configuration contradicts itself in a way that only shows here.
    #[error("{0}")]
    Configuration(String),
}

/// What all sessions share.
pub struct Proxy {
    config: Config,
    policies: Policies,
    ledger: Option<Arc<Ledger>>,
    facts: Arc<FactsCache>,
    parsers: Parsers,
    pools: Mutex<HashMap<PoolKey, Arc<ServerPool>>>,
    cancels: Arc<CancelRegistry>,
    stage: Arc<SharedStage>,
    clock: Clock,
    next_server: Arc<AtomicU64>,
    next_process_id: AtomicI32,
    /// Held by every session, so that the end of the last one is seen.
    alive: mpsc::Sender<()>,
    #[cfg(feature = "mutants")]
    previous_tenant: Mutex<Option<TenantId>>,
}

/// A proxy that is running.
pub struct RunningServer {
    proxy: Arc<Proxy>,
    addresses: Vec<SocketAddr>,
    listening: JoinHandle<()>,
    sweeping: JoinHandle<()>,
    ended: mpsc::Receiver<()>,
}

/// Starts a proxy. Must be called within a tokio runtime.
///
/// # Errors
/// Says what cannot be had; nothing is left running then.
pub fn start(config: Config) -> Result<RunningServer, StartFault> {
    let facts = Arc::new(FactsCache::default());
    let parsers = Parsers::start(PARSER_THREADS, Arc::clone(&facts))?;
    let policies = Policies::new(&config);
    let no_random_bytes = |_| std::io::Error::other("no random bytes");
    let mut secret = [0_u8; 32];
    rand::fill(&mut secret).map_err(no_random_bytes)?;
    let handshake = build::handshake(&config, policies.clone(), ProcessSecret::new(&secret))?;
    let listener = Listener::bind(&config.listen.addresses)?;
    let entrance =
        Arc::new(Entrance::new(handshake, config.listen.client_connections_max, config.listen.login_connections_max));
    let (alive, ended) = mpsc::channel(1);
    let mut first = [0_u8; 4];
    rand::fill(&mut first).map_err(no_random_bytes)?;
    let ledger = config.ledger.as_ref().map(|ledger| Ledger::start(ledger.path.clone())).transpose()?;
    let proxy = Arc::new(Proxy {
        policies,
        ledger,
        facts,
        parsers,
        pools: Mutex::default(),
        cancels: Arc::default(),
        stage: Arc::default(),
        clock: Clock::start(),
        next_server: Arc::new(AtomicU64::new(1)),
        next_process_id: AtomicI32::new(i32::from_ne_bytes(first) & i32::MAX),
        alive,
        config,
        #[cfg(feature = "mutants")]
        previous_tenant: Mutex::default(),
    });
    proxy.open_pools()?;
    let addresses = listener.addresses();
    let listening = tokio::spawn(listener.serve(entrance, Arc::clone(&proxy)));
    let sweeping = tokio::spawn(sweep(Arc::clone(&proxy)));
    Ok(RunningServer { proxy, addresses, listening, sweeping, ended })
}

impl RunningServer {
    /// Where it listens.
    #[must_use]
    pub fn local_addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Accepts nobody any more, lets transactions end within the configured time, then ends the rest. If
    /// dropped: everything goes on without a listener.
    pub async fn shutdown(self) {
        let Self { proxy, listening, sweeping, mut ended, .. } = self;
        listening.abort();
        let limit = proxy.config.runtime.shutdown_timeout;
        proxy.move_to(Stage::Draining);
        let pools: Vec<_> = proxy.pools.lock().values().cloned().collect();
        let ledger = proxy.ledger.clone();
        let (stage, cancels) = (Arc::clone(&proxy.stage), Arc::clone(&proxy.cancels));
        // The proxy itself holds one sender: without it, the channel ends with the last session.
        sweeping.abort();
        drop(sweeping.await);
        drop(listening.await);
        drop(proxy);
        if timeout(limit, ended.recv()).await.is_err() {
            tracing::warn!("sessions are still in transactions after {limit:?}: ending them");
            stage.set(Stage::Stopping);
            cancels.wake_all();
            if timeout(STOP_TIMEOUT, ended.recv()).await.is_err() {
                tracing::warn!("some sessions did not end in time");
            }
        }
        pools.iter().for_each(ServerPool::close);
        if let Some(ledger) = ledger
            && timeout(STOP_TIMEOUT, ledger.settle()).await.is_err()
        {
            tracing::error!("the ledger did not take the last records in time");
        }
    }
}

/// If dropped: time limits are not kept any more.
async fn sweep(proxy: Arc<Proxy>) {
    let mut ticks = interval(SWEEP_INTERVAL);
    loop {
        ticks.tick().await;
        let pools: Vec<_> = proxy.pools.lock().values().cloned().collect();
        pools.iter().for_each(ServerPool::sweep);
    }
}

impl Proxy {
    fn move_to(&self, stage: Stage) {
        self.stage.set(stage);
        self.cancels.wake_all();
    }

    /// Every pool that the configuration can lead to.
    fn open_pools(&self) -> Result<(), StartFault> {
        for (database, entry) in &self.config.databases {
            let logins = self.config.logins.values().filter(|login| login.databases.has(database));
            let roles = logins.filter_map(|login| login.role.clone());
            for role in std::iter::once(Arc::clone(&entry.role)).chain(roles) {
                let key = PoolKey { server: Arc::clone(&entry.server), database: Arc::clone(&entry.name), role };
                if !self.pools.lock().contains_key(&key) {
                    let prelude = build::prelude(&self.config, &key.role);
                    let pool = build::pool(&self.config, &key, entry, &prelude, self.clock, &self.next_server)?;
                    self.pools.lock().insert(key, pool);
                }
            }
        }
        Ok(())
    }

    fn pool_of(&self, client: &AuthenticatedClient) -> Option<Arc<ServerPool>> {
        let entry = self.config.databases.get(client.database())?;
        let login = self.config.logins.get(client.login())?;
        let role = login.role.clone().unwrap_or_else(|| Arc::clone(&entry.role));
        let key = PoolKey { server: Arc::clone(&entry.server), database: Arc::clone(&entry.name), role };
        self.pools.lock().get(&key).cloned()
    }

    /// `None` for a client that is here for something else than a session.
    fn rules(&self, client: &AuthenticatedClient) -> Option<SessionRules> {
        let preset = self.preset_of(client);
        let injection = match client.purpose() {
            Purpose::Tenant(tenant) => Injection::new(&self.config.scope.template, &self.tenant_to_inject(tenant)),
            Purpose::Bypass => Injection::fixed(&self.config.bypass.template),
            Purpose::Console => return None,
        };
        let policy = Arc::clone(self.policies.of(preset));
        Some(SessionRules {
            injection,
            text_bytes_max: policy.limits().text_bytes_max,
            policy,
            facts: Arc::clone(&self.facts),
            recording: preset.is_recorded().then_some(Recording { needs_reason: preset == Preset::Bypass }),
            #[cfg(feature = "mutants")]
            mutant: build::mutant(),
        })
    }

    fn preset_of(&self, client: &AuthenticatedClient) -> Preset {
        self.config.logins.get(client.login()).map(|login| login.preset).unwrap_or_default()
    }

    /// Where the session's transactions are recorded, if they are.
    fn session_ledger(&self, client: &AuthenticatedClient, process_id: i32) -> Option<SessionLedger> {
        let preset = self.preset_of(client);
        let ledger = self.ledger.as_ref().filter(|_| preset.is_recorded())?;
        let role = self.config.logins.get(client.login())?.role.as_ref()?;
        let actor = Actor {
            login: Arc::clone(client.login()),
            address: client.address().to_string().into(),
            database: client.database().into(),
            role: Arc::clone(&self.config.roles.get(role)?.user),
            preset: preset.name(),
            tenant: client.tenant().map(|tenant| tenant.as_str().into()),
            client: process_id,
        };
        Some(SessionLedger::new(Arc::clone(ledger), actor))
    }

    #[cfg(not(feature = "mutants"))]
    fn tenant_to_inject(&self, tenant: &TenantId) -> TenantId {
        tenant.clone()
    }

    #[cfg(feature = "mutants")]
    fn tenant_to_inject(&self, tenant: &TenantId) -> TenantId {
        let previous = self.previous_tenant.lock().replace(tenant.clone());
        match (build::mutant(), previous) {
            (Some(crate::session::Mutant::PreviousTenant), Some(previous)) => previous,
            _ => tenant.clone(),
        }
    }

    /// Runs one client's session.
    async fn serve(&self, arrival: Arrival) -> Result<(), (Stream, Fault, BytesMut)> {
        let Arrival { stream, client, input, unsent, permit } = arrival;
        let _alive = self.alive.clone();
        let (Some(pool), Some(rules)) = (self.pool_of(&client), self.rules(&client)) else {
            return Err((stream, Fault::of(Code::DatabaseUnknown), unsent));
        };
        let parameters =
            || client.parameters().iter().map(|(name, value)| (name.as_str().into(), value.as_str().into()));
        let base: Settings = Arc::new(parameters().collect());
        // No server reports the reason, and each is another.
        let reported: Settings =
            Arc::new(parameters().filter(|(name, _): &(Box<str>, _)| **name != *REASON_SETTING).collect());
        let greeting = match pool.greeting(&reported).await {
            Ok(greeting) => greeting,
            Err(fault) => return Err((stream, fault.fatal(), unsent)),
        };
        let wish = self.next_process_id.fetch_add(1, Ordering::Relaxed);
        let mut secret = [0_u8; 32];
        // Protocol 3.0 has four bytes of secret, 3.2 as many as we like.
        let secret = if client.protocol() >= PROTOCOL_3_2 { &mut secret[..] } else { &mut secret[..4] };
        if rand::fill(secret).is_err() {
            return Err((stream, Fault::of(Code::Internal), unsent));
        }
        let cancel = self.cancels.register(wish, secret);
        let session = Session::new(Arc::new(rules), base, &greeting, cancel.process_id(), cancel.secret());
        tracing::debug!(
            client = cancel.process_id(), login = %client.login(), tenant = client.tenant().map_or("", TenantId::as_str),
            address = %client.address(), "session begins"
        );
        let around = Surroundings {
            pool,
            parsers: self.parsers.clone(),
            limits: *self.policies.of(Preset::Tenant).limits(),
            ledger: self.session_ledger(&client, cancel.process_id()),
            stage: Arc::clone(&self.stage),
        };
        let process_id = cancel.process_id();
        let reason = ClientTask::new(stream, session, around, cancel, unsent).run(input).await;
        tracing::debug!(client = process_id, reason = reason.words(), "session ends");
        drop(permit);
        Ok(())
    }
}

impl Reception for Proxy {
    /// If dropped: the client's connection is closed.
    async fn receive(&self, arrival: Arrival) {
        if let Err((mut stream, fault, mut unsent)) = self.serve(arrival).await {
            tracing::info!(code = fault.code.map_or("", |code| code.row().name), "no session: {fault}");
            backend::put_error(&mut unsent, &fault);
            let said = async {
                stream.write_all(&unsent).await?;
                stream.shutdown().await
            };
            if let Err(error) = said.await {
                tracing::debug!(%error, "a refused client was gone before it could be told");
            }
        }
    }

    /// If dropped: the request may or may not be carried out.
    async fn cancel(&self, process_id: i32, secret: Vec<u8>) {
        let Some(cancelling) = self.cancels.begin(process_id, &secret) else { return };
        let target = cancelling.target();
        let sent = send_cancel(&target.target, &target.reached, target.key.process_id, &target.key.secret).await;
        if let Err(fault) = sent {
            tracing::warn!(%fault, "a cancel request could not be passed on");
        }
    }
}

/// Runs a proxy until SIGTERM or SIGINT, then drains it; a second signal ends the drain. If dropped:
/// everything ends at once.
///
/// # Errors
/// As [`start`].
pub async fn serve(config: Config) -> Result<(), StartFault> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let running = start(config)?;
    for address in running.local_addresses() {
        tracing::info!(%address, "listening");
    }
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: draining"),
        _ = interrupt.recv() => tracing::info!("SIGINT: draining"),
    }
    tokio::select! {
        () = running.shutdown() => tracing::info!("all sessions have ended"),
        _ = terminate.recv() => tracing::warn!("second SIGTERM: not waiting"),
        _ = interrupt.recv() => tracing::warn!("second SIGINT: not waiting"),
    }
    Ok(())
}
