//! Where the proxy shows itself: metrics and health over HTTP, the console, and the minute's tick of both.
//!
//! Owns: putting them together, and what "ready" means. Does not own: HTTP (`http`), the console's socket
//! (`console`), what is shown and done (`control`).

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::interval;

use super::console::{ConsoleParts, Told, serve_console};
use super::control::Activity;
use super::handshake::Arrival;
use super::http::{HttpListener, Published};
use super::pool::ServerPool;
use super::proxy::Proxy;
use super::registry::{ClientFacts, ClientSlot, Order, Registration};
use super::review::ReviewListener;
use super::signal::Stage;
use super::stream::FAREWELL_TIMEOUT;
use crate::admin::{Actor, Console, Operations as _};
use crate::config::ConsoleRight;
use crate::fault::{Code, Fault};
use crate::metrics::{ClientGauge, EncodeFault, Gauges, render};
use crate::tenant::TenantKind;
use crate::wire::backend;

/// Averages are over this time, as PgBouncer's default (`stats_period`).
const STATS_PERIOD: Duration = Duration::from_secs(60);

/// What runs beside the clients' listener.
pub struct Surfaces {
    ticking: JoinHandle<()>,
    http: Option<JoinHandle<()>>,
    review: Option<JoinHandle<()>>,
}

impl Surfaces {
    /// Starts them. Must be called within a tokio runtime.
    #[must_use]
    pub fn start(proxy: &Arc<Proxy>, http: Option<HttpListener>, review: Option<ReviewListener>) -> Self {
        let view = Arc::new(PublishedProxy(Arc::clone(proxy)));
        if let Some(address) = http.as_ref().and_then(HttpListener::address) {
            tracing::info!(%address, "metrics and health over HTTP");
        }
        // Every configured database has its row and its series from the beginning.
        proxy.databases().iter().for_each(|row| drop(proxy.gauge.metrics.database(&row.name)));
        let http = http.map(|listener| tokio::spawn(listener.serve(view)));
        if let Some(address) = review.as_ref().and_then(ReviewListener::address) {
            tracing::info!(%address, "the review page over HTTP");
        }
        let review = review.map(|listener| tokio::spawn(listener.serve(Arc::clone(proxy))));
        Self { ticking: tokio::spawn(tick(Arc::clone(proxy))), http, review }
    }

    /// Ends them. Who was accepted is still answered.
    pub fn end(self) {
        self.ticking.abort();
        self.http.iter().chain(&self.review).for_each(JoinHandle::abort);
    }
}

/// If dropped: averages and the choice of tenants stay as they are.
async fn tick(proxy: Arc<Proxy>) {
    let mut ticks = interval(STATS_PERIOD);
    // The first tick is at once.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        proxy.gauge.metrics.turn_period(proxy.clock().now());
    }
}

/// The proxy as it is published.
struct PublishedProxy(Arc<Proxy>);

impl Published for PublishedProxy {
    fn metrics(&self) -> Result<Vec<u8>, EncodeFault> {
        let proxy = &self.0;
        let clients = proxy.pools().into_iter().map(|row| ClientGauge {
            database: row.database,
            login: row.login,
            active: row.clients_active,
            waiting: row.clients_waiting,
            idle: row.clients_idle,
        });
        let gauges = Gauges {
            uptime_seconds: proxy.clock().now().as_micros() / 1_000_000,
            is_ready: self.unready().is_empty(),
            logging_in: proxy.entrance.logins.taken(),
            observing: proxy.generation.load().policies.observing(),
            is_ledger_writable: proxy.ledger().map(|ledger| ledger.is_writable()),
            ledger_compressions: proxy.ledger().and_then(|ledger| ledger.compressions()),
            emergencies: proxy.bypasses.emergencies().len(),
            is_bypass_frozen: proxy.bypasses.freeze().is_some(),
            pools: proxy.all_pools().iter().map(|pool| ServerPool::gauge(pool)).collect(),
            clients: clients.collect(),
        };
        render(&proxy.gauge.metrics, &gauges)
    }

    /// Ready is who accepts clients and could serve them: not ending, and no pool without any server whose last attempt to
    /// connect failed. A paused database is the administrator's will and no reason.
    fn unready(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.0.activity() == Activity::Draining {
            reasons.push("shutting down".to_owned());
        }
        let pools = self.0.all_pools();
        let failing = pools.iter().map(|pool| pool.gauge()).filter(|it| it.is_failing && it.idle + it.leased == 0);
        reasons.extend(failing.map(|pool| format!("pool {}: the server cannot be reached", pool.name)));
        reasons
    }
}

impl Proxy {
    /// One administrator's connection, from login to end. If dropped: it is closed.
    pub(super) async fn serve_console(self: &Arc<Self>, arrival: Arrival) {
        let Arrival { mut stream, client, input, mut unsent, permit, generation, accepted_at } = arrival;
        let facts = self.facts_of(&stream, &client, generation);
        let (terms, registration) = match self.admit_to_console(client.protocol(), facts) {
            Ok(admitted) => admitted,
            Err(fault) => {
                backend::put_error(&mut unsent, &fault.fatal());
                if let Err(error) = stream.say_farewell(&unsent, FAREWELL_TIMEOUT).await {
                    tracing::debug!(%error, "a refused administrator was gone before it could be told");
                }
                return;
            }
        };
        self.gauge.logged_in(accepted_at);
        let actor = Actor { login: Arc::clone(client.login()), address: client.address().to_string().into() };
        tracing::info!(login = %actor.login, address = %actor.address, right = ?terms.right, "console opened");
        let console = Console::new(actor, terms.right, terms.tenant_kind);
        Console::greet(&mut unsent, registration.process_id(), registration.secret());
        let parts = ConsoleParts {
            operations: Arc::clone(self),
            gauge: self.gauge.clone(),
            logging_in: Box::new({
                let proxy = Arc::clone(self);
                move || proxy.entrance.logins.taken()
            }),
            told: Box::new({
                let (proxy, slot) = (Arc::clone(self), Arc::clone(registration.slot()));
                move |context| proxy.tell_console(&slot, terms, context)
            }),
        };
        if let Err(fault) = serve_console(stream, console, &parts, input, unsent).await {
            tracing::debug!(%fault, "console closed");
        }
        drop((registration, permit));
    }

    /// An administrator's place, under the rules that are in force now: a reload may have come since its login.
    fn admit_to_console(&self, protocol: i32, facts: ClientFacts) -> Result<(ConsoleTerms, Registration), Fault> {
        let generation = self.generation.load_full();
        generation.check(&facts)?;
        let right = generation.config.console.right_of(&facts.login);
        let right = right.ok_or_else(|| Fault::of(Code::DatabaseUnknown))?;
        let terms = ConsoleTerms { right, tenant_kind: generation.config.scope.tenant_kind };
        Ok((terms, self.register(protocol, facts)?))
    }

    /// What others want of an administrator's connection: the waker first, so that nothing comes between.
    fn tell_console(&self, slot: &ClientSlot, terms: ConsoleTerms, context: &Context<'_>) -> Poll<Told> {
        slot.set_waker(context.waker().clone());
        let orders = slot.take_orders();
        if orders.has(Order::Kill) {
            return Poll::Ready(Told::Ended(Fault::of(Code::Killed)));
        }
        if self.signal().read().0 == Stage::Stopping {
            return Poll::Ready(Told::Ended(Fault::of(Code::ShuttingDown)));
        }
        if self.is_shut_out(slot.facts(), terms) {
            return Poll::Ready(Told::Ended(Fault::of(Code::NoLongerAdmitted)));
        }
        if orders.has(Order::Cancel) { Poll::Ready(Told::Cancelled) } else { Poll::Pending }
    }

    /// Whether a reload took the login, its secret or its right away, or made tenants of another type than its commands
    /// are read by.
    fn is_shut_out(&self, facts: &ClientFacts, terms: ConsoleTerms) -> bool {
        let generation = self.generation.load();
        generation.number > facts.generation
            && (generation.check(facts).is_err()
                || generation.config.console.right_of(&facts.login) != Some(terms.right)
                || generation.config.scope.tenant_kind != terms.tenant_kind)
    }
}

/// What a console was opened with. A reload that changes any of it ends it.
#[derive(Clone, Copy, Debug)]
struct ConsoleTerms {
    right: ConsoleRight,
    tenant_kind: TenantKind,
}
