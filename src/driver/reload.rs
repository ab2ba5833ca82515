//! Another configuration for a proxy that runs.
//!
//! Everything that can fail comes first: the file and all it names are read and checked, certificates and the
//! ways to servers are made. Then the new generation counts for every new client, pools take their new limits,
//! and each session takes the new rules up when it has no server. If anything is wrong, nothing is changed.
//!
//! ```text
//!  load ─▶ keep what needs a restart ─▶ build ─▶ ask databases that are newly sealed ─▶ put in force (see `put_in_force`)
//!    │ problems                           │ fault    │ it does not hold
//!    ▼                                    ▼          ▼
//!  all of them in the log and to the console; the old generation stays
//! ```
//!
//! Owns: that order. Does not own: what a session does with a new generation (`client`).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::build::{self, PoolKey};
use super::clock::Clock;
use super::control::Holds;
use super::generation::Generation;
use super::handshake::HandshakeSettings;
use super::ledger::LedgerSync;
use super::notify;
use super::pool::{ServerPool, Way};
use super::proxy::{Proxy, StartFault};
use super::sealing::verify_pools;
use crate::admin::Actor;
use crate::audit::RightsChange;
use crate::auth::ProcessSecret;
use crate::config::reload::{keep_fixed, rights_changed};
use crate::config::{Config, Loaded, LogSettings, Problem};
use crate::fault::{Code, Fault};
use crate::pool::PoolLimits;
use uuid::Uuid;

/// Longest list of problems in one reply to the console; the log has all of them.
const DETAIL_PROBLEMS_MAX: usize = 20;

/// Reads the configuration again.
pub type Loader = dyn Fn() -> Result<Loaded, Vec<Problem>> + Send + Sync;

/// Changes what is logged from now on.
pub type LogSwitch = dyn Fn(LogSettings) -> Result<(), String> + Send + Sync;

/// What the proxy needs of the process around it.
#[derive(Clone, Default)]
pub struct Hooks {
    /// Where a configuration comes from; without one there is no reload.
    pub load: Option<Arc<Loader>>,
    /// How the log's level is changed; without one it stays.
    pub log: Option<Arc<LogSwitch>>,
    /// How the ledger's file is made durable; without one by `fdatasync`. A proof holds it back.
    pub sync: Option<Arc<LedgerSync>>,
    /// A planted defect, for tests that must find it.
    #[cfg(feature = "mutants")]
    pub mutant: Option<crate::session::Mutant>,
}

/// A generation with everything that could have failed.
struct Prepared {
    generation: Generation,
    handshake: HandshakeSettings,
    pools: HashMap<PoolKey, (PoolLimits, Way)>,
    /// What somebody should know.
    warnings: Vec<String>,
}

/// A pool that stays, and what it shall be.
pub(super) type Staying = (PoolKey, Arc<ServerPool>, PoolLimits, Way);

impl Proxy {
    /// Reads the configuration again and puts it in force as a whole. If dropped: it may or may not be in force.
    ///
    /// # Errors
    /// All problems; nothing has changed then.
    pub async fn reload(&self, actor: &Actor) -> Result<(), Fault> {
        let _turn = self.reloading.lock().await;
        tracing::info!(login = %actor.login, address = %actor.address, "reload");
        let told = notify::reloading();
        let (load, in_force, secret) = (self.hooks.load.clone(), self.generation.load_full(), self.secret.clone());
        let clock = *self.clock();
        // Reading files and deriving keys from passwords takes a while: not on a thread that serves clients.
        let prepared = tokio::task::spawn_blocking(move || prepare(load.as_deref(), &in_force, secret, clock)).await;
        let prepared = prepared.unwrap_or_else(|_| Err(vec!["the proxy is ending".to_owned()]));
        let checked = match prepared.and_then(|prepared| self.check_frozen(prepared)) {
            Ok(prepared) => self.check_seals(prepared).await,
            Err(problems) => Err(problems),
        };
        let outcome = match checked {
            Ok(prepared) => {
                let before = self.generation.load_full();
                self.put_in_force(prepared);
                self.record_rights(&before.config, &self.generation.load().config, actor);
                Ok(())
            }
            Err(problems) => {
                for problem in &problems {
                    tracing::error!("configuration not reloaded: {problem}");
                }
                Err(Fault::of(Code::ReloadFailed).with_detail(detail(&problems)))
            }
        };
        drop(told);
        outcome
    }

    /// The frozen tenants have to be understood at the next start, too.
    fn check_frozen(&self, prepared: Prepared) -> Result<Prepared, Vec<String>> {
        match self.freezer.fits(prepared.generation.config.scope.tenant_kind) {
            true => Ok(prepared),
            false => Err(vec!["scope.tenant_type: tenants are frozen that are not of this type; thaw them".to_owned()]),
        }
    }

    /// A database that is to be sealed from now on has to hold, as at the start. If dropped: nothing has changed.
    async fn check_seals(&self, prepared: Prepared) -> Result<Prepared, Vec<String>> {
        let before = self.generation.load_full();
        match verify_pools(&prepared.generation.config, Some(&before.config)).await {
            Ok(()) => Ok(prepared),
            Err(fault) => Err(vec![fault.to_string()]),
        }
    }

    /// The order matters: whatever a session of either generation looks for is there at every moment.
    ///
    /// 1. Pools that are new are added. Nobody is led to them yet.
    /// 2. The generation is swapped: sessions that look for it from now on get the new one.
    /// 3. Pools that stay take their new limits and ways. A session that still has the old rules and meets a server
    ///    of the new way looks for the new rules first (`ClientTask::take_server`).
    /// 4. Pools that go are closed. Who asks or waits there is refused, looks for the new generation and finds
    ///    another pool (`ClientTask::on_refused`).
    /// 5. Logins are checked by the new settings. One that began before is checked again when its session begins.
    /// 6. The number is raised and everybody is woken.
    fn put_in_force(&self, prepared: Prepared) {
        let Prepared { generation, handshake, pools, warnings } = prepared;
        for warning in &warnings {
            tracing::warn!("configuration: {warning}");
        }
        let next = Arc::new(generation);
        // Nobody pauses or kills what is half changed.
        let holds = self.holds.lock();
        let staying = self.add_pools(&next, pools, &holds);
        self.admission.set_limits(next.config.limits.clone());
        self.start_ledger(&next.config);
        let before = self.generation.swap(Arc::clone(&next));
        let stay: HashSet<PoolKey> = build::pool_keys(&next.config).into_keys().collect();
        for (key, pool, limits, way) in staying {
            let is_other_way = !is_same_way(&before.config, &next.config, &key) || !pool.serves(&way);
            pool.reconfigure(limits, next.config.limits.fairness, way, is_other_way);
        }
        self.close_pools(&stay);
        drop(holds);
        let listen = &next.config.listen;
        self.entrance.clients.resize(listen.client_connections_max);
        self.entrance.logins.resize(listen.login_connections_max);
        self.entrance.settings.store(Arc::new(handshake));
        self.switch_log(next.config.log);
        self.signal().set_generation(next.number);
        self.clients.wake_all();
        tracing::info!(generation = next.number, "the new configuration is in force");
    }

    /// Another text may have other secrets even where no key that is shown differs.
    fn record_rights(&self, before: &Config, after: &Config, actor: &Actor) {
        let changes = rights_changed(before, after);
        let Some(ledger) = self.ledger().filter(|_| !changes.is_empty() || before.digest != after.digest) else {
            return;
        };
        let change = RightsChange {
            id: Uuid::now_v7(),
            login: Arc::clone(&actor.login),
            address: Arc::clone(&actor.address),
            before: Arc::clone(&before.digest),
            after: Arc::clone(&after.digest),
            changes,
        };
        drop(ledger.record_act(Box::new(change)));
    }

    /// Adds what is new; gives what is there already, and what it shall be.
    pub(super) fn add_pools(
        &self,
        next: &Generation,
        wanted: HashMap<PoolKey, (PoolLimits, Way)>,
        holds: &Holds,
    ) -> Vec<Staying> {
        let mut staying = Vec::new();
        for (key, (limits, way)) in wanted {
            let known = self.pools.lock().get(&key).cloned();
            match known {
                Some(pool) => staying.push((key, pool, limits, way)),
                None => {
                    let pool = self.new_pool(&key, limits, next.config.limits.fairness, way);
                    self.pools.lock().insert(key, pool);
                }
            }
        }
        self.hold_again(holds, next);
        staying
    }

    fn close_pools(&self, stay: &HashSet<PoolKey>) {
        let gone: Vec<Arc<ServerPool>> =
            self.pools.lock().extract_if(|key, _| !stay.contains(key)).map(|(_, pool)| pool).collect();
        for pool in gone {
            pool.close();
            self.closing_pools.lock().push(pool);
        }
    }

    fn switch_log(&self, settings: LogSettings) {
        let switched = self.hooks.log.as_ref().map_or(Ok(()), |switch| switch(settings));
        if let Err(reason) = switched {
            tracing::warn!("log.level: {reason}");
        }
    }
}

/// Whatever may fail, and nothing that changes anything.
fn prepare(
    load: Option<&Loader>,
    in_force: &Generation,
    secret: ProcessSecret,
    clock: Clock,
) -> Result<Prepared, Vec<String>> {
    let load = load.ok_or_else(|| vec!["there is no configuration file to read again".to_owned()])?;
    let Loaded { mut config, warnings } =
        load().map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let mut warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    for key in keep_fixed(&in_force.config, &mut config) {
        warnings.push(format!("{key}: the new value needs a restart; the old one stays in force"));
    }
    let generation = in_force.next(config);
    let policies = generation.policies.clone();
    let handshake = build::handshake(&generation.config, policies, secret, generation.number);
    match (handshake, pools(&generation, clock)) {
        (Ok(handshake), Ok(pools)) => Ok(Prepared { generation, handshake, pools, warnings }),
        (handshake, pools) => {
            let faults = [handshake.err(), pools.err()];
            Err(faults.into_iter().flatten().map(|fault| fault.to_string()).collect())
        }
    }
}

/// Limits and ways of every pool of a generation.
///
/// # Errors
/// Certificates that cannot be used.
pub(super) fn pools(generation: &Generation, clock: Clock) -> Result<HashMap<PoolKey, (PoolLimits, Way)>, StartFault> {
    let mut pools = HashMap::new();
    for (key, entry) in build::pool_keys(&generation.config) {
        let (prelude, statements) = (generation.prelude_in(entry, &key.role), entry.prepared_statements);
        let way = build::way(&generation.config, &key, prelude, statements, clock)?;
        pools.insert(key, (entry.pool.clone(), way));
    }
    Ok(pools)
}

/// Whether servers that were connected under one configuration are what the other one wants.
pub(super) fn is_same_way(before: &Config, now: &Config, key: &PoolKey) -> bool {
    let is_same_role = match (before.roles.get(&key.role), now.roles.get(&key.role)) {
        (Some(one), Some(another)) => one.is_same(another),
        (_, _) => false,
    };
    is_same_role && before.servers.get(&key.server) == now.servers.get(&key.server)
}

fn detail(problems: &[String]) -> String {
    let mut lines: Vec<&str> = problems.iter().take(DETAIL_PROBLEMS_MAX).map(String::as_str).collect();
    if problems.len() > DETAIL_PROBLEMS_MAX {
        lines.push("… and more: see the proxy's log");
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;
    use crate::admin::{Command, Operations as _};
    use crate::config::{EmptyEnvironment, load};
    use crate::driver::proxy::start;
    use crate::pool::Hold;

    /// Two databases in one pool, or two pools, by their roles.
    fn text(one: &str, other: &str) -> String {
        format!(
            "listen.addresses = [\"127.0.0.1:0\"]\n[servers.main]\nhost = \"/none\"\n\
             [roles.app]\nuser = \"app\"\n[roles.more]\nuser = \"more\"\n\
             [databases.one]\nserver = \"main\"\nname = \"demo\"\nrole = \"{one}\"\n\
             [databases.other]\nserver = \"main\"\nname = \"demo\"\nrole = \"{other}\"\n\
             [logins.a]\npassword = \"x\"\ntenant.from = [\"suffix\"]\n"
        )
    }

    fn begin(text: &str) -> Arc<Proxy> {
        let running = start(load(text, &EmptyEnvironment).unwrap().config).unwrap();
        Arc::clone(&running.proxy)
    }

    fn prepared(proxy: &Proxy, text: &str) -> Prepared {
        let text = text.to_owned();
        let load = move || load(&text, &EmptyEnvironment);
        prepare(Some(&load), &proxy.generation.load(), proxy.secret.clone(), *proxy.clock()).unwrap()
    }

    fn holds(proxy: &Proxy) -> Vec<Hold> {
        proxy.all_pools().iter().map(|pool| pool.hold()).collect()
    }

    fn actor() -> Actor {
        Actor { login: "ops".into(), address: "test".into() }
    }

    #[tokio::test]
    async fn a_pause_beside_a_reload_misses_no_pool() {
        let proxy = begin(&text("app", "app"));
        for round in 0..400 {
            let role = if round % 2 == 0 { "more" } else { "app" };
            let prepared = prepared(&proxy, &text(role, role));
            let (start, runtime) = (Barrier::new(2), tokio::runtime::Handle::current());
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let _context = runtime.enter();
                    start.wait();
                    proxy.put_in_force(prepared);
                });
                start.wait();
                proxy.hold(Some("one"), Hold::Paused).unwrap();
            });
            assert_eq!(holds(&proxy), [Hold::Paused], "round {round}");
            proxy.resume(None).unwrap();
        }
    }

    #[tokio::test]
    async fn what_is_known_of_hosts_outlives_a_reload_that_does_not_concern_them() {
        let proxy = begin(&text("app", "app"));
        let target = || proxy.all_pools()[0].target();
        let first = target();
        proxy.put_in_force(prepared(&proxy, &format!("{}[limits]\n", text("app", "app"))));
        assert!(Arc::ptr_eq(&first, &target()));
        proxy.put_in_force(prepared(&proxy, &text("app", "app").replace("/none", "/other")));
        assert!(!Arc::ptr_eq(&first, &target()));
    }

    #[tokio::test]
    async fn whoever_resumes_a_pool_resumes_it_for_all_its_databases() {
        let proxy = begin(&text("app", "app"));
        proxy.perform(Command::Pause(Some("one".into())), actor()).await.unwrap();
        proxy.perform(Command::Resume(Some("other".into())), actor()).await.unwrap();
        proxy.put_in_force(prepared(&proxy, &text("more", "more")));
        assert_eq!(holds(&proxy), [Hold::None], "the pause is over");
        // Databases that share nothing do not concern each other.
        proxy.put_in_force(prepared(&proxy, &text("app", "more")));
        proxy.perform(Command::Pause(Some("one".into())), actor()).await.unwrap();
        let fault = proxy.perform(Command::Resume(Some("other".into())), actor()).await.unwrap_err();
        assert_eq!(fault.code, Some(Code::CommandRefused));
        proxy.put_in_force(prepared(&proxy, &text("app", "app")));
        assert_eq!(holds(&proxy), [Hold::Paused]);
        // A database that is gone is not on hold when it comes back: everything was resumed.
        let gone = text("app", "app").replace("[databases.one]", "[databases.third]");
        proxy.put_in_force(prepared(&proxy, &gone));
        proxy.perform(Command::Resume(None), actor()).await.unwrap();
        proxy.put_in_force(prepared(&proxy, &text("more", "app")));
        assert_eq!(holds(&proxy), [Hold::None, Hold::None]);
    }
}
