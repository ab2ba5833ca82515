//! TenantGate as a process of its own, with a configuration written for one proof.

use super::cluster::{Cluster, free_port};
use super::raw::Target;
use super::watchdog;
use std::fmt::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What the log says of reloads.
const RELOADED: &str = "the new configuration is in force";
const NOT_RELOADED: &str = "configuration not reloaded";

/// What a proof wants of the proxy.
pub struct Wish<'a> {
    pub cluster: &'a Cluster,
    pub database: &'a str,
    pub pool_size: u32,
    /// Name of a planted defect; needs a binary built with the feature `mutants`.
    pub mutant: Option<&'a str>,
    /// More configuration, appended as it is.
    pub more: &'a str,
}

/// A running proxy; dropped, it ends.
pub struct Proxy {
    pub address: SocketAddr,
    pub pid: u32,
    database: String,
    child: Child,
    folder: TempDir,
}

/// The binary under test: the one cargo built, or `$TENANTGATE_BIN`.
pub fn binary() -> PathBuf {
    std::env::var_os("TENANTGATE_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_tenantgate")), PathBuf::from)
}

/// The configuration of a wish.
pub fn configuration(wish: &Wish<'_>, address: SocketAddr) -> String {
    let mut text = String::new();
    write!(
        text,
        r#"
[listen]
addresses = ["{address}"]
client_connections_max = 2000
login_connections_max = 1000

{tls}
[servers.main]
host = "127.0.0.1"
port = {port}
[servers.main.tls]
mode = "disable"

[roles.app]
user = "app_user"

[roles.scram]
user = "scram_user"
password = "geheim"

[databases.{database}]
server = "main"
role = "app"

[databases.by_scram]
server = "main"
name = "{database}"
role = "scram"

[pool]
size = {pool_size}
wait_timeout = "20s"

[logins.app_user]
password = "demo"
[logins.app_user.tenant]
from = ["suffix", "startup"]
separator = "."
allowed = "any"

[logins.acme_app]
password = "demo"
[logins.acme_app.tenant]
fixed = "00000000-0000-0000-0000-00000000000a"

[logins.picky]
password = "demo"
[logins.picky.tenant]
from = ["suffix"]
allowed = ["00000000-0000-0000-0000-00000000000a"]

[[rules]]
login = "app_user"
database = "{database}"
address = "127.0.0.1/32"
method = "trust"

[[rules]]
login = "*"
database = "*"
address = "127.0.0.1/32"
method = "scram-sha-256"

[guard]
settings_allowed = ["work_mem"]

[log]
level = "info"

{more}
"#,
        tls = if wish.more.contains("[tls]") { "" } else { "[tls]\nmode = \"disable\"\n" },
        port = wish.cluster.address.port(),
        database = wish.database,
        pool_size = wish.pool_size,
        more = wish.more,
    )
    .expect("a string takes everything");
    text
}

/// Configuration of a login with a server role and a preset of its own, by the password `demo`.
pub fn login_of_its_own(name: &str, preset: &str, user: &str) -> String {
    format!(
        "[roles.{name}]\nuser = \"{user}\"\n\
         [logins.{name}]\npassword = \"demo\"\npreset = \"{preset}\"\nrole = \"{name}\"\n"
    )
}

/// Configuration of a ledger, in front of which any reason is good.
pub fn ledger(path: &Path) -> String {
    format!("[bypass]\nreason_chars_min = 1\n[ledger]\npath = {path:?}\n")
}

/// What a process is started with, beside its configuration.
struct Start<'a> {
    database: &'a str,
    mutant: Option<&'a str>,
    environment: &'a [(&'a str, &'a str)],
}

impl Proxy {
    /// Starts a proxy and waits until it accepts.
    pub fn start(wish: &Wish<'_>) -> Self {
        Self::start_in(wish, &[])
    }

    /// The same with variables in its environment.
    pub fn start_in(wish: &Wish<'_>, environment: &[(&str, &str)]) -> Self {
        let start = Start { database: wish.database, mutant: wish.mutant, environment };
        Self::start_as(start, |address, _| configuration(wish, address))
    }

    /// The same with a configuration of one's own; told the address to listen on and the folder it is in.
    pub fn start_with(
        database: &str,
        mutant: Option<&str>,
        configuration: impl FnOnce(SocketAddr, &Path) -> String,
    ) -> Self {
        Self::start_as(Start { database, mutant, environment: &[] }, configuration)
    }

    fn start_as(start: Start<'_>, configuration: impl FnOnce(SocketAddr, &Path) -> String) -> Self {
        let Start { database, mutant, environment } = start;
        let folder = TempDir::with_prefix("tenantgate-proxy-").expect("a folder for the proxy");
        watchdog::remove_later(folder.path());
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let file = folder.path().join("tenantgate.toml");
        std::fs::write(&file, configuration(address, folder.path())).expect("the configuration can be written");
        let log = std::fs::File::create(folder.path().join("proxy.log")).expect("a log file");
        let mut command = Command::new(binary());
        command.arg("serve").arg("--config").arg(&file).stdin(Stdio::null()).envs(environment.iter().copied());
        command.stdout(log.try_clone().expect("the log file twice")).stderr(log);
        if let Some(mutant) = mutant {
            command.env("TENANTGATE_MUTANT", mutant);
        }
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {}: {error}", binary().display()));
        let pid = child.id();
        watchdog::end_later(pid);
        let mut proxy = Self { address, pid, database: database.to_owned(), child, folder };
        proxy.wait_until_it_accepts();
        proxy
    }

    fn wait_until_it_accepts(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(15);
        while TcpStream::connect_timeout(&self.address, Duration::from_secs(1)).is_err() {
            let ended = self.child.try_wait().expect("the proxy can be asked").is_some();
            assert!(!ended && Instant::now() < deadline, "the proxy does not start:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Where its configuration is.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A client of this proxy with the tenant in the user name.
    pub fn target(&self, tenant: &str) -> Target {
        Target::new(self.address, &format!("app_user.{tenant}"), &self.database)
    }

    /// What the proxy has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("proxy.log")).unwrap_or_default()
    }

    /// The log's last lines, for a failure's message.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }

    /// Replaces a part of the configuration file, which must be there.
    pub fn edit(&self, from: &str, to: &str) {
        let file = self.folder.path().join("tenantgate.toml");
        let text = std::fs::read_to_string(&file).expect("the configuration is there");
        assert!(text.contains(from), "{from:?} is not in the configuration");
        std::fs::write(file, text.replacen(from, to, 1)).expect("the configuration can be written");
    }

    /// Sends SIGHUP and waits for its outcome: whether the new configuration is in force.
    pub fn reload(&self) -> bool {
        let count = |words: &str| self.log().matches(words).count();
        let before = [count(RELOADED), count(NOT_RELOADED)];
        self.signal("HUP");
        let deadline = Instant::now() + Duration::from_secs(15);
        loop {
            if count(RELOADED) > before[0] {
                return true;
            }
            if count(NOT_RELOADED) > before[1] {
                return false;
            }
            assert!(Instant::now() < deadline, "SIGHUP has no outcome:\n{}", self.log_tail());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends the process a signal, by name.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.pid.to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()), "kill -{name} {}", self.pid);
    }

    /// Waits until the process has ended by itself.
    pub fn wait_until_it_ends(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("the proxy can be asked") {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }

    /// The most memory the process has had, in KiB.
    pub fn memory_kib_max(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("the process can be looked at");
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a high-water mark");
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number of KiB")
    }

    /// Whether the process still runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("the proxy can be asked").is_none()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if self.is_alive() {
            // It is ours and not yet waited for, so the number cannot be another's.
            drop(self.child.kill());
        }
        drop(self.child.wait());
        watchdog::has_ended(self.pid);
    }
}
