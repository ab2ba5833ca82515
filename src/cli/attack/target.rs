//! Whom the tool attacks: the proxy of a configuration with a pair of probe tenants, or connections that are given.
//!
//! Owns: what the arguments come to. Does not own: connecting (`talk`), the probe table (`stage`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::Args;
use tokio_postgres::Config;
use uuid::Uuid;

use crate::cli::environment::{LoadFailure, load_file};
use crate::cli::secure::Secure;
use crate::config::Config as Configuration;

/// The setting that is used where no configuration names another.
const DEFAULT_SETTING: &str = "app.tenant_id";

/// Whom to attack.
#[derive(Debug, Args)]
pub struct AttackArguments {
    /// The proxy's configuration: where it listens, how a login names its tenant, which setting holds it.
    #[arg(long, value_name = "FILE", required_unless_present = "as_a", requires_all = ["database", "login"])]
    config: Option<PathBuf>,
    /// The database's key in [databases].
    #[arg(long, value_name = "NAME", requires = "config")]
    database: Option<String>,
    /// The login that both tenants use; its password is PGPASSWORD.
    #[arg(long, value_name = "NAME", requires = "config")]
    login: Option<String>,
    /// Where the proxy is, if not at its first address: host:port.
    #[arg(long, value_name = "ADDRESS", requires = "config")]
    proxy: Option<String>,
    /// Through the proxy as tenant A, without a configuration: postgres://app_user.<tenant>@proxy:6432/app, or "host=… user=…".
    #[arg(long, value_name = "URL", conflicts_with = "config", requires_all = ["as_b", "tenant_a"])]
    as_a: Option<String>,
    /// Through the proxy as tenant B.
    #[arg(long, value_name = "URL", requires = "as_a")]
    as_b: Option<String>,
    /// Straight to PostgreSQL as a role that may create a schema and, where the database is sealed, protect a table.
    #[arg(long, value_name = "URL")]
    owner: String,
    /// The tenant of --as-a, or one for the login. Without it two probe tenants are made up.
    #[arg(long, value_name = "TENANT", requires = "tenant_b")]
    tenant_a: Option<String>,
    /// The tenant of --as-b, or another one for the login.
    #[arg(long, value_name = "TENANT", requires = "tenant_a")]
    tenant_b: Option<String>,
    /// The setting that the proxy puts the tenant into.
    #[arg(long, value_name = "NAME")]
    setting: Option<String>,
    /// Roots (PEM) that the proxy's certificate must be signed by, made out to its host. Without it TLS is used where it is
    /// offered, and the certificate is not looked at.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Only techniques with this in their name; once more for each of several.
    #[arg(long, value_name = "TEXT")]
    pub only: Vec<String>,
    /// Print what every attempt was told.
    #[arg(long)]
    pub verbose: bool,
}

/// A connection, and how it is made secure.
#[derive(Clone)]
pub struct Way {
    /// Where to, and as whom.
    pub config: Config,
    /// Its TLS.
    pub secure: Secure,
}

/// What the arguments come to.
pub struct Target {
    /// Through the proxy.
    pub as_a: Way,
    /// As the other tenant.
    pub as_b: Way,
    /// Past it.
    pub owner: Way,
    /// Their tenants.
    pub tenants: [String; 2],
    /// What holds them in a guarded database.
    pub setting: String,
}

impl Target {
    /// # Errors
    /// What is wrong with the arguments, or with the configuration.
    pub fn of(arguments: &AttackArguments) -> Result<Self, String> {
        let secure = Secure::new(arguments.ca.as_deref())?;
        let owner = Way { config: parse(&arguments.owner, "--owner")?, secure: Secure::new(None)? };
        let given = arguments.tenant_a.clone().zip(arguments.tenant_b.clone());
        let (configs, tenants, setting) = match (&arguments.as_a, &arguments.as_b, given) {
            (Some(a), Some(b), Some((tenant_a, tenant_b))) => {
                ([parse(a, "--as-a")?, parse(b, "--as-b")?], [tenant_a, tenant_b], DEFAULT_SETTING.to_owned())
            }
            (_, _, given) => {
                let tenants = given.map_or_else(probe_tenants, |(a, b)| [a, b]);
                let (configs, setting) = configured(arguments, &tenants)?;
                (configs, tenants, setting)
            }
        };
        let [as_a, as_b] = configs.map(|config| Way { config, secure: secure.clone() });
        Ok(Self { as_a, as_b, owner, tenants, setting: arguments.setting.clone().unwrap_or(setting) })
    }
}

fn parse(text: &str, flag: &str) -> Result<Config, String> {
    text.parse::<Config>().map_err(|error| format!("{flag}: {error}"))
}

/// UUIDs are tenants of both types; nobody has these.
fn probe_tenants() -> [String; 2] {
    [Uuid::new_v4(), Uuid::new_v4()].map(|tenant| tenant.hyphenated().to_string())
}

fn configured(arguments: &AttackArguments, tenants: &[String; 2]) -> Result<([Config; 2], String), String> {
    let missing = || "--config, --database and --login go together".to_owned();
    let file = arguments.config.as_deref().ok_or_else(missing)?;
    let (database, login) = arguments.database.as_deref().zip(arguments.login.as_deref()).ok_or_else(missing)?;
    let config = load_file(file).map_err(|failure| words(file, failure))?.config;
    if !config.databases.contains_key(database) {
        return Err(format!("{}: there is no databases.{database}", file.display()));
    }
    let entry = config.logins.get(login).ok_or_else(|| format!("{}: there is no logins.{login}", file.display()))?;
    let policy = entry.tenant.as_ref().ok_or_else(|| format!("logins.{login} has no tenant"))?;
    let separator = policy.suffix_separator().ok_or_else(|| {
        format!("logins.{login} does not take its tenant from the user name: give --as-a, --as-b and their tenants")
    })?;
    let (host, port) = place(arguments, &config)?;
    let of = |tenant: &String| {
        let mut to = Config::new();
        to.host(&host).port(port).dbname(database).user(format!("{login}{}{tenant}", separator.as_str()));
        if let Ok(password) = std::env::var("PGPASSWORD") {
            to.password(password);
        }
        to
    };
    let setting = config.scope.template.tenant_settings().next().unwrap_or(DEFAULT_SETTING).to_owned();
    Ok((tenants.each_ref().map(of), setting))
}

/// Where the proxy listens, as somebody on its machine reaches it.
fn place(arguments: &AttackArguments, config: &Configuration) -> Result<(String, u16), String> {
    if let Some(text) = &arguments.proxy {
        let (host, port) = text.rsplit_once(':').ok_or("--proxy: host:port is needed")?;
        let port = port.parse().map_err(|_| "--proxy: the port is no number".to_owned())?;
        return Ok((host.trim_matches(['[', ']']).to_owned(), port));
    }
    if let Some(address) = config.listen.addresses.first() {
        return Ok((reachable(*address).to_string(), address.port()));
    }
    let socket = config.listen.unix.as_ref().ok_or("the proxy listens nowhere")?;
    let folder = socket.path.parent().unwrap_or(&socket.path).display().to_string();
    let port = socket.path.extension().and_then(|port| port.to_str()?.parse().ok());
    Ok((folder, port.ok_or("the unix socket has no port")?))
}

fn reachable(address: SocketAddr) -> IpAddr {
    match address.ip() {
        IpAddr::V4(all) if all.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(all) if all.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        one => one,
    }
}

fn words(file: &Path, failure: LoadFailure) -> String {
    match failure {
        LoadFailure::Unreadable(reason) => format!("{} cannot be read: {reason}", file.display()),
        LoadFailure::Wrong(problems) => problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
    }
}
