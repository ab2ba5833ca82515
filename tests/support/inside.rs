//! TenantGate inside the test's own process: what an operator does to it is a call.

use super::cluster::free_port;
use super::proxy::{Wish, configuration};
use super::raw::Target;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;
use tenantgate::admin::{Actor, Command, Operations, ShutdownMode};
use tenantgate::config::{self, EmptyEnvironment};
use tenantgate::driver::{self, Hooks, StartFault};
use tenantgate::fault::Fault;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// A running proxy; dropped, it ends.
pub struct Inside {
    runtime: Runtime,
    running: Option<JoinHandle<()>>,
    signals: mpsc::Sender<ShutdownMode>,
    operations: Arc<driver::Proxy>,
    pub address: SocketAddr,
    database: String,
    file: PathBuf,
    _folder: TempDir,
}

fn actor() -> Actor {
    Actor { login: "ops".into(), address: "test".into() }
}

fn load(file: &Path) -> Result<config::Loaded, Vec<config::Problem>> {
    config::load(&std::fs::read_to_string(file).expect("the configuration is there"), &EmptyEnvironment)
}

impl Inside {
    /// Starts a proxy.
    pub fn start(wish: &Wish<'_>) -> Self {
        Self::try_start(wish).unwrap_or_else(|fault| panic!("the proxy does not start: {fault}"))
    }

    /// Starts a proxy with a process of its own around it; its configuration can always be read again.
    pub fn start_hooked(wish: &Wish<'_>, hooks: Hooks) -> Self {
        Self::try_start_hooked(wish, hooks).unwrap_or_else(|fault| panic!("the proxy does not start: {fault}"))
    }

    /// Starts a proxy, or says why not.
    pub fn try_start(wish: &Wish<'_>) -> Result<Self, StartFault> {
        Self::try_start_hooked(wish, Hooks::default())
    }

    fn try_start_hooked(wish: &Wish<'_>, hooks: Hooks) -> Result<Self, StartFault> {
        let folder = TempDir::with_prefix("tenantgate-inside-").expect("a folder");
        let file = folder.path().join("tenantgate.toml");
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        std::fs::write(&file, configuration(wish, address)).expect("the configuration can be written");
        let loaded = load(&file).unwrap_or_else(|problems| panic!("{problems:?}"));
        let again = file.clone();
        let hooks = Hooks { load: Some(Arc::new(move || load(&again))), ..hooks };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let running = runtime.block_on(async { driver::start_with(loaded.config, hooks) })?;
        let operations = running.operations();
        let (signals, orders) = mpsc::channel(4);
        let running = runtime.spawn(running.run(orders));
        Ok(Self {
            runtime,
            running: Some(running),
            signals,
            operations,
            address,
            database: wish.database.to_owned(),
            file,
            _folder: folder,
        })
    }

    /// What the console would ask.
    pub fn operations(&self) -> &driver::Proxy {
        &self.operations
    }

    /// Gives a command and waits until it is carried out.
    pub fn perform(&self, command: Command) -> Result<(), Fault> {
        self.runtime.block_on(self.operations.perform(command, actor()))
    }

    /// Gives a command; its outcome comes later.
    pub fn begin(&self, command: Command) -> JoinHandle<Result<(), Fault>> {
        let operations = Arc::clone(&self.operations);
        self.runtime.spawn(async move { operations.perform(command, actor()).await })
    }

    /// The outcome of a command that was begun.
    pub fn outcome(&self, begun: JoinHandle<Result<(), Fault>>) -> Result<(), Fault> {
        self.runtime.block_on(begun).expect("the command did not panic")
    }

    /// Replaces a part of the configuration file, which must be there.
    pub fn edit(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(&self.file).expect("the configuration is there");
        assert!(text.contains(from), "{from:?} is not in the configuration");
        std::fs::write(&self.file, text.replacen(from, to, 1)).expect("the configuration can be written");
    }

    /// Replaces a part of the configuration file and reloads.
    pub fn reload_with(&self, from: &str, to: &str) {
        self.edit(from, to);
        self.perform(Command::Reload).unwrap_or_else(|fault| panic!("{fault}"));
    }

    /// A client with the tenant in the user name, let in without a password.
    pub fn target(&self, tenant: &str) -> Target {
        Target::new(self.address, &format!("app_user.{tenant}"), &self.database)
    }

    /// A client with its own login and password.
    pub fn login(&self, user: &str, password: &str) -> Target {
        Target::new(self.address, user, &self.database).password(password)
    }

    /// As a signal of that meaning would.
    pub fn signal(&self, mode: ShutdownMode) {
        self.signals.blocking_send(mode).expect("the proxy runs");
    }

    /// Waits until the proxy has ended by itself.
    pub fn wait_until_it_ends(&mut self) {
        let running = self.running.take().expect("the proxy runs");
        self.runtime.block_on(running).expect("the proxy did not panic");
    }

    /// Whether it still runs.
    pub fn is_running(&self) -> bool {
        self.running.as_ref().is_some_and(|running| !running.is_finished())
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            // It may have been told to end already.
            self.signals.try_send(ShutdownMode::Now).ok();
            drop(self.runtime.block_on(running));
        }
    }
}
