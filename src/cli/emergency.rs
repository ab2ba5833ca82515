//! `tenantgate emergency`: lets a bypass login go beyond its rules for a while, through the console of the running proxy.
//!
//! Exit status: 0 if it is open (or closed), 1 if the proxy refuses, 2 if it cannot be asked.
//!
//! Owns: finding the console, and the command's text. Does not own: who may give it, and what it does (`admin`, `driver`).

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use secrecy::ExposeSecret as _;
use tokio_postgres::Config;

use super::environment::{LoadFailure, load_file};
use super::secure::{Secure, words};
use super::{EXIT_UNUSABLE, EXIT_WRONG};
use crate::config::{Config as Configuration, LoginSecret};

/// Arguments of `emergency`.
#[derive(Debug, clap::Args)]
pub struct EmergencyArguments {
    /// The bypass login that it is for.
    #[arg(long, value_name = "LOGIN")]
    login: String,
    /// For how long, like 30m.
    #[arg(long = "for", value_name = "TIME", required_unless_present = "close")]
    duration: Option<String>,
    /// Why; it is in the ledger.
    #[arg(long, value_name = "TEXT", required_unless_present = "close")]
    reason: Option<String>,
    /// Close the one that is open for the login.
    #[arg(long, conflicts_with_all = ["duration", "reason"])]
    close: bool,
    /// How to reach the console.
    #[command(flatten)]
    way: ConsoleWay,
    /// How to reach it otherwise.
    #[command(flatten)]
    road: Road,
}

/// Where the proxy of a configuration is, and how its certificate is looked at.
#[derive(Debug, clap::Args)]
pub struct Road {
    /// Where the proxy is, if not at its unix socket or first address: host:port.
    #[arg(long, value_name = "ADDRESS", requires = "config")]
    proxy: Option<String>,
    /// Roots (PEM) that the proxy's certificate must be signed by, made out to its host. Without it TLS is used where it is
    /// offered, and the certificate is not looked at.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

impl Road {
    /// How connections are made secure.
    ///
    /// # Errors
    /// The roots cannot be used, in words.
    pub fn secure(&self) -> Result<Secure, String> {
        Secure::new(self.ca.as_deref())
    }

    /// Leads to the proxy that runs with a configuration.
    fn lead(&self, config: &Configuration, to: &mut Config) -> Result<(), String> {
        if let Some(place) = &self.proxy {
            let (host, port) = place.rsplit_once(':').ok_or("--proxy: host:port is needed")?;
            let port = port.parse().map_err(|_| "--proxy: the port is no number".to_owned())?;
            to.host(host.trim_matches(['[', ']'])).port(port);
            return Ok(());
        }
        match (&config.listen.unix, config.listen.addresses.first()) {
            // A unix socket has no TLS.
            (Some(unix), address) if self.ca.is_none() || address.is_none() => {
                let port = unix.path.extension().and_then(|port| port.to_str()).and_then(|port| port.parse().ok());
                to.host_path(unix.path.parent().unwrap_or(&unix.path)).port(port.unwrap_or(6432));
            }
            (_, Some(address)) => {
                let ip = address.ip();
                let ip = if ip.is_unspecified() { std::net::Ipv4Addr::LOCALHOST.into() } else { ip };
                to.host(ip.to_string()).port(address.port());
            }
            (Some(_) | None, None) => return Err("the configuration listens nowhere".to_owned()),
        }
        Ok(())
    }
}

/// Where the console is, and as whom.
#[derive(Debug, clap::Args)]
#[group(required = true)]
pub struct ConsoleWay {
    /// The running proxy's configuration: its first address, and the first of [console] admins whose password is in it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The console itself, as postgres://admin@host:6432/pgbouncer or in the form host=… user=…; PGPASSWORD holds the password.
    #[arg(long, value_name = "WHERE")]
    connect: Option<String>,
}

/// Runs the command.
pub fn run(arguments: &EmergencyArguments) -> ExitCode {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let login = quoted(&arguments.login);
    let command = match (&arguments.duration, &arguments.reason) {
        (Some(duration), Some(reason)) => {
            format!("EMERGENCY OPEN {login} FOR {} REASON {}", quoted(duration), quoted(reason))
        }
        (Some(_), None) | (None, Some(_)) | (None, None) => format!("EMERGENCY CLOSE {login}"),
    };
    match arguments.settings().map(|(settings, secure)| give(&settings, &secure, &command)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(Failure::Refused(words))) => {
            eprintln!("tenantgate: {words}");
            ExitCode::from(EXIT_WRONG)
        }
        Ok(Err(Failure::Unusable(words))) | Err(words) => {
            eprintln!("tenantgate: {words}");
            ExitCode::from(EXIT_UNUSABLE)
        }
    }
}

/// Why it was not done.
enum Failure {
    Unusable(String),
    Refused(String),
}

impl EmergencyArguments {
    fn settings(&self) -> Result<(Config, Secure), String> {
        let mut settings = match (&self.way.config, &self.way.connect) {
            (_, Some(text)) => text.parse::<Config>().map_err(|error| format!("--connect: {error}"))?,
            (Some(file), None) => of_configuration(file, &self.road)?,
            (None, None) => return Err("--config or --connect is needed".to_owned()),
        };
        if settings.get_password().is_none()
            && let Ok(password) = std::env::var("PGPASSWORD")
        {
            settings.password(password);
        }
        if settings.get_dbname().is_none() {
            settings.dbname("pgbouncer");
        }
        settings.application_name("tenantgate emergency");
        Ok((settings, self.road.secure()?))
    }
}

/// The console of the proxy that runs with a configuration.
///
/// # Errors
/// It has none that can be reached so, in words.
pub fn of_configuration(file: &Path, road: &Road) -> Result<Config, String> {
    let config = match load_file(file) {
        Ok(loaded) => loaded.config,
        Err(LoadFailure::Unreadable(reason)) => return Err(format!("{} cannot be read: {reason}", file.display())),
        Err(LoadFailure::Wrong(problems)) => {
            return Err(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
        }
    };
    let mut settings = Config::new();
    road.lead(&config, &mut settings)?;
    let password = |login: &str| match config.logins.get(login).and_then(|entry| entry.secret.as_ref()) {
        Some(LoginSecret::Plain(password)) => Some(password.expose_secret().to_owned()),
        Some(LoginSecret::Scram(_)) | None => None,
    };
    let admins = config.console.admins.iter();
    let (admin, password) = admins
        .map(|login| (login.to_string(), password(login)))
        .find(|(_, password)| password.is_some() || std::env::var_os("PGPASSWORD").is_some())
        .ok_or("no login of [console] admins has its password in the configuration; use --connect")?;
    settings.user(admin);
    if let Some(password) = password {
        settings.password(password);
    }
    Ok(settings)
}

fn give(settings: &Config, secure: &Secure, command: &str) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Unusable(error.to_string()))?;
    runtime.block_on(async {
        let connected = secure.log_in(settings).await;
        let (client, connection) = connected.map_err(|error| Failure::Unusable(format!("the console: {error}")))?;
        let talking = tokio::spawn(connection);
        let done = client.simple_query(command).await.map(drop);
        drop(client);
        drop(talking.await);
        done.map_err(|error| Failure::Refused(words(&error)))
    })
}
