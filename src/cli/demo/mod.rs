//! `tenantgate demo`: a throw-away PostgreSQL with a small SaaS schema, the proxy in front of it, and a tour
//! in which every step is checked against what really came back.
//!
//! Owns: the order of things and the clean end. Does not own: the cluster, the tour's steps (own files).

mod binaries;
mod cluster;
mod operator;
mod reviewer;
mod show;
mod tour;

use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use secrecy::ExposeSecret as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use zeroize::Zeroizing;

use super::log::{self, LogTarget};
use super::{EXIT_WRONG, serve};
use crate::audit::SigningKey;
use crate::config::{Config, LogFormat, LogLevel, LogSettings, RuntimeSettings};
use crate::driver::{self, Hooks, RunningServer};
use cluster::Cluster;
use operator::Outlook;

const SCHEMA: &str = include_str!("schema.sql");
const DEFAULT_PORT: u16 = 6432;

/// What the demo is asked for.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct DemoArguments {
    /// Run the tour and end; exit status 0 only if every step held.
    #[arg(long, conflicts_with = "hold")]
    once: bool,
    /// Port for clients [default: 6432, or a free one if that is taken; 0: a free one].
    #[arg(long)]
    port: Option<u16>,
    /// Skip the tour and stay up.
    #[arg(long)]
    hold: bool,
    /// Server connections at most.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=50))]
    pool_size: u16,
}

/// Signals that end the demo; caught from the beginning, so that whatever was started is ended.
struct Ending {
    interrupt: Signal,
    terminate: Signal,
}

impl Ending {
    /// Dropped, it has no effect.
    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Runs the demo.
pub fn run(arguments: &DemoArguments) -> ExitCode {
    // A thread beside the proxy's: the demo starts and stops PostgreSQL and waits for it.
    let settings = RuntimeSettings { threads: Some(2), shutdown_timeout: std::time::Duration::from_secs(5) };
    let ended =
        serve::runtime(settings).map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(demo(arguments)));
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_WRONG),
        Err(error) => {
            eprintln!("tenantgate demo: {error:#}");
            ExitCode::from(EXIT_WRONG)
        }
    }
}

/// Whether everything held. Dropped, the cluster's own `Drop` ends the server and its folder goes.
async fn demo(arguments: &DemoArguments) -> anyhow::Result<bool> {
    let mut ending =
        Ending { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? };
    let programs = binaries::find()?;
    println!("Starting a throw-away PostgreSQL with the programs in {}", programs.display());
    let cluster = Cluster::start(&programs).await?;
    let outcome = tokio::select! {
        outcome = with_cluster(&cluster, arguments) => outcome.map(Some),
        () = ending.wait() => Ok(None),
    };
    let outcome = match outcome {
        Ok(Some((proxy, held))) => {
            if !arguments.once {
                ending.wait().await;
                println!("\nStopping.");
            }
            proxy.shutdown().await;
            Ok(held)
        }
        Ok(None) => Ok(false),
        Err(error) => Err(error),
    };
    let folder = cluster.folder().to_path_buf();
    let stopped = cluster.stop();
    let held = outcome?;
    stopped?;
    println!("PostgreSQL is stopped and {} is removed.", folder.display());
    Ok(held)
}

/// Everything between the server's start and its end. Dropped, the proxy's connections are closed.
async fn with_cluster(cluster: &Cluster, arguments: &DemoArguments) -> anyhow::Result<(RunningServer, bool)> {
    let app_password = uuid::Uuid::new_v4().simple().to_string();
    cluster.admin("postgres").await?.batch_execute("CREATE DATABASE demo").await?;
    let admin = cluster.admin("demo").await?;
    admin.batch_execute(&SCHEMA.replace("{app_password}", &app_password)).await.context("loading the schema")?;

    let outlook = Outlook {
        ledger: cluster.folder().join("ledger.jsonl"),
        metrics: free_address()?,
        review: free_address()?,
        public_key: write_signing_key(cluster.folder())?,
    };
    let file = write_configuration(cluster, arguments, &app_password, &outlook)?;
    let log_file = cluster.folder().join("tenantgate.log");
    log::start(
        LogSettings { format: LogFormat::Text, level: LogLevel::Info },
        LogTarget::File(File::create(&log_file)?),
    )?;
    let proxy = start(&file).context("starting the proxy")?;
    let address = *proxy.local_addresses().first().context("the proxy listens nowhere")?;
    println!("TenantGate listens on {address}; its configuration: {}; its log: {}", file.display(), log_file.display());

    let held = if arguments.hold { true } else { tour::run(&admin, address, arguments.pool_size, &outlook).await? };
    if !arguments.once {
        show::connection_strings(address, &outlook);
    }
    Ok((proxy, held))
}

/// The proxy, which reads its file again when it is told to.
fn start(file: &Path) -> anyhow::Result<RunningServer> {
    let again = file.to_path_buf();
    let hooks = Hooks { load: Some(Arc::new(move || serve::load_again(&again))), ..Hooks::default() };
    Ok(driver::start_with(load(file)?, hooks)?)
}

fn load(file: &Path) -> anyhow::Result<Config> {
    serve::load_again(file).map(|loaded| loaded.config).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        anyhow!("the demo's own configuration is wrong:\n{}", lines.join("\n"))
    })
}

/// The configuration has to name the port before the proxy has it.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

fn write_configuration(
    cluster: &Cluster,
    arguments: &DemoArguments,
    app_password: &str,
    outlook: &Outlook,
) -> anyhow::Result<PathBuf> {
    let address = SocketAddr::from(([127, 0, 0, 1], listen_port(arguments.port)));
    let text = configuration(address, cluster.folder(), &cluster.sockets(), arguments.pool_size, app_password, outlook);
    std::fs::create_dir(cluster.folder().join("state"))?;
    let path = cluster.folder().join("tenantgate.toml");
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&path)?;
    file.write_all(text.as_bytes())?;
    Ok(path)
}

/// The key that signs the ledger's checkpoints; gives its public half.
fn write_signing_key(folder: &Path) -> anyhow::Result<String> {
    let mut seed = Zeroizing::new([0_u8; 32]);
    aws_lc_rs::rand::fill(seed.as_mut_slice()).map_err(|_| anyhow!("the system gives no random bytes"))?;
    let key = SigningKey::from_seed("demo", &seed).map_err(|reason| anyhow!(reason))?;
    let text = SigningKey::file_text("demo", &seed).context("the key cannot be written")?;
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(folder.join("ledger.key"))?;
    file.write_all(text.expose_secret().as_bytes())?;
    Ok(key.public().to_string())
}

/// Without `--port`, a taken 6432 (a PgBouncer, another demo) is no reason to fail.
fn listen_port(asked: Option<u16>) -> u16 {
    asked.unwrap_or_else(|| {
        let is_free = std::net::TcpListener::bind(("127.0.0.1", DEFAULT_PORT)).is_ok();
        if is_free { DEFAULT_PORT } else { 0 }
    })
}

fn configuration(
    address: SocketAddr,
    folder: &Path,
    sockets: &Path,
    pool_size: u16,
    app_password: &str,
    outlook: &Outlook,
) -> String {
    let (host, server_port) = (sockets.display(), cluster::PORT);
    let acme = tour::ACME;
    let operators = operators(folder, outlook);
    format!(
        r#"# Made by `tenantgate demo` for its throw-away cluster.

[listen]
addresses = ["{address}"]

[servers.main]
host = "{host}"
port = {server_port}

[roles.app]
user = "app_user"
password = "{app_password}"

[roles.bypass]
user = "app_bypass"
password = "{app_password}"

[databases.demo]
server = "main"
role = "app"

[pool]
size = {pool_size}

# The tenant comes with the user name (app_user.<tenant>) or the startup options.
[logins.app_user]
password = "demo"
[logins.app_user.tenant]
from = ["suffix", "startup"]

# Always the same tenant.
[logins.acme_app]
password = "demo"
[logins.acme_app.tenant]
fixed = "{acme}"

{operators}
# An open transaction in some psql should not hold up the end.
[runtime]
shutdown_timeout = "2s"
"#
    )
}

/// The part of the configuration that operators and reviewers need.
fn operators(folder: &Path, outlook: &Outlook) -> String {
    let folder = folder.display();
    let Outlook { metrics, review, .. } = outlook;
    let (reviewer, password) = reviewer::REVIEWER;
    format!(
        r#"# Sees all tenants, with a reason, and every transaction leaves its records.
[logins.ops]
password = "demo"
preset = "bypass"
role = "bypass"

[ledger]
path = "{folder}/ledger.jsonl"
signing_key_file = "{folder}/ledger.key"
# Few are written here, and signed all the same.
checkpoint_records = 4

# Reviewers read it in a browser.
[review]
address = "{review}"
[review.reviewers.{reviewer}]
password = "{password}"

[logins.admin]
password = "demo"
preset = "console"

[console]
admins = ["admin"]

[metrics]
address = "{metrics}"

# Frozen tenants stay frozen.
[state]
folder = "{folder}/state"
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demos_configuration_has_no_problems() {
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        let folder = tempfile::tempdir().unwrap();
        let public_key = write_signing_key(folder.path()).unwrap();
        let ledger = folder.path().join("ledger.jsonl");
        let outlook = Outlook { ledger, metrics: address, review: address, public_key };
        let text = configuration(address, folder.path(), &folder.path().join("sockets"), 1, "secret", &outlook);
        let file = folder.path().join("demo.toml");
        std::fs::write(&file, text).unwrap();
        let loaded = serve::load_again(&file).unwrap();
        assert!(loaded.warnings.is_empty() && loaded.config.databases["demo"].pool.size == 1);
    }
}
