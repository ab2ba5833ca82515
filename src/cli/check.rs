//! `tenantgate check`: does the schema keep tenants apart?
//!
//! Owns: arguments, files, exit statuses. Does not own: looking (`driver::inspect`), judging and writing (`check`).

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr as _;
use std::sync::Arc;

use clap::Args;
use secrecy::SecretString;

use super::environment::{LoadFailure, load_file, read_text};
use super::{EXIT_UNUSABLE, EXIT_WRONG};
use crate::check::{Exceptions, Format, Report, Severity, as_json, as_sarif, as_text};
use crate::config::{Config, Loaded, ServerAddress, ServerHost};
use crate::driver::inspect::{Examined, Examiner, Looker, Order, apply};

/// What is checked, and how it is told.
#[derive(Debug, Args)]
pub struct CheckArguments {
    /// The configuration file: servers, databases, logins, [scope] and [check].
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Only this database of the configuration.
    #[arg(long, value_name = "NAME")]
    database: Option<String>,
    /// Who looks: postgres://user[:password]@[host[:port]] (the password also from PGPASSWORD). Without a host the
    /// database's own server group is used; without this, [check] inspector or the database's own role looks.
    #[arg(long, value_name = "URL")]
    inspector: Option<String>,
    /// Examine this role of the server (may be given several times) instead of those of the logins.
    #[arg(long, value_name = "ROLE")]
    role: Vec<String>,
    /// How the report is written.
    #[arg(long, value_enum, default_value_t)]
    format: CheckFormat,
    /// A file of justified exceptions, instead of [check] exceptions.
    #[arg(long, value_name = "FILE")]
    exceptions: Option<PathBuf>,
    /// Try it, too: as the logins' roles, in transactions that are rolled back.
    #[arg(long)]
    probe: bool,
    /// Exit status 1 from this severity on.
    #[arg(long, value_enum, default_value_t)]
    fail_on: CheckSeverity,
}

/// How a report is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum CheckFormat {
    /// For people.
    #[default]
    Table,
    /// One JSON object.
    Json,
    /// SARIF 2.1.0.
    Sarif,
}

impl From<CheckFormat> for Format {
    fn from(format: CheckFormat) -> Self {
        match format {
            CheckFormat::Table => Format::Table,
            CheckFormat::Json => Format::Json,
            CheckFormat::Sarif => Format::Sarif,
        }
    }
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum CheckSeverity {
    /// Isolation does not hold.
    Critical,
    /// Lets rows through in a case that can happen.
    High,
    /// Tells about other tenants, or needs one more mistake.
    #[default]
    Medium,
    /// Costs speed, or tells little.
    Low,
    /// Anything.
    Info,
}

impl From<CheckSeverity> for Severity {
    fn from(severity: CheckSeverity) -> Self {
        match severity {
            CheckSeverity::Critical => Severity::Critical,
            CheckSeverity::High => Severity::High,
            CheckSeverity::Medium => Severity::Medium,
            CheckSeverity::Low => Severity::Low,
            CheckSeverity::Info => Severity::Info,
        }
    }
}

/// Runs the command: 0: nothing from the threshold on, 1: findings, 2: nothing could be found out.
pub fn run(arguments: &CheckArguments) -> ExitCode {
    match check(arguments) {
        Ok(reports) => {
            let worst = reports.iter().filter_map(Report::worst).max();
            let is_bad = worst.is_some_and(|worst| worst >= arguments.fail_on.into());
            if is_bad { ExitCode::from(EXIT_WRONG) } else { ExitCode::SUCCESS }
        }
        Err(reason) => {
            eprintln!("tenantgate: {reason}");
            ExitCode::from(EXIT_UNUSABLE)
        }
    }
}

fn check(arguments: &CheckArguments) -> Result<Vec<Report>, String> {
    let config = load_file(&arguments.config).map_err(|failure| words(&arguments.config, failure))?.config;
    let exceptions = exceptions(arguments.exceptions.as_deref().or(config.check.exceptions.as_deref()))?;
    let order = Order {
        database: arguments.database.as_deref().map(Arc::from),
        looker: arguments.inspector.as_deref().map(looker).transpose()?,
        roles: arguments.role.clone(),
        exceptions,
        probes: arguments.probe,
        today: today(),
        config: Arc::new(config),
    };
    let examiner = Examiner::start().map_err(|error| error.to_string())?;
    let examined = examiner.examine(order).map_err(|fault| fault.to_string())?;
    let reports: Vec<Report> = examined.into_iter().map(|examined| examined.report).collect();
    let text = match Format::from(arguments.format) {
        Format::Table => reports.iter().map(as_text).collect::<Vec<_>>().join("\n"),
        Format::Json => format!("{:#}\n", as_json(&reports)),
        Format::Sarif => {
            let artifact = arguments.config.to_string_lossy();
            format!("{:#}\n", as_sarif(&reports, env!("CARGO_PKG_VERSION"), &artifact))
        }
    };
    std::io::stdout().lock().write_all(text.as_bytes()).map_err(|error| format!("cannot write: {error}"))?;
    Ok(reports)
}

fn words(path: &Path, failure: LoadFailure) -> String {
    match failure {
        LoadFailure::Unreadable(reason) => format!("{} cannot be read: {reason}", path.display()),
        LoadFailure::Wrong(problems) => problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
    }
}

fn exceptions(path: Option<&Path>) -> Result<Exceptions, String> {
    let Some(path) = path else { return Ok(Exceptions::default()) };
    let wrong = |reason: String| format!("{}: {reason}", path.display());
    let text = read_text(path).map_err(wrong)?;
    Exceptions::parse(&text).map_err(|fault| wrong(fault.to_string()))
}

/// In UTC: exceptions end on the same day everywhere.
fn today() -> jiff::civil::Date {
    jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date()
}

/// A URL as libpq takes it. Its database is the configuration's, always.
fn looker(url: &str) -> Result<Looker, String> {
    // The URL may hold a password: nothing of it is echoed.
    let parsed = tokio_postgres::Config::from_str(url).map_err(|_| "--inspector is no postgres:// URL".to_owned())?;
    let user = parsed.get_user().ok_or("--inspector names no user")?.to_owned();
    let written = parsed.get_password().map(|password| String::from_utf8_lossy(password).into_owned());
    let password = written.or_else(|| std::env::var("PGPASSWORD").ok()).map(SecretString::from);
    let port = parsed.get_ports().first().copied().unwrap_or(5432);
    let host = match parsed.get_hosts() {
        [] => None,
        [tokio_postgres::config::Host::Tcp(name)] => Some(match name.parse() {
            Ok(address) => ServerHost::Address(address),
            Err(_) => ServerHost::Name(name.as_str().into()),
        }),
        [tokio_postgres::config::Host::Unix(folder)] => Some(ServerHost::UnixFolder(folder.clone())),
        _ => return Err("--inspector names several hosts".to_owned()),
    };
    Ok(Looker { user, password, address: host.map(|host| ServerAddress { host, port }) })
}

/// What `serve` looks at before it starts, and again at every reload.
#[derive(Clone, Debug, Default)]
pub struct StartCheck {
    examiner: Option<Examiner>,
}

impl StartCheck {
    /// Looks, if the configuration asks for it, and puts what was found into it. What somebody should know is logged.
    ///
    /// # Errors
    /// Why the configuration must not come into force.
    pub fn look(&mut self, loaded: &mut Loaded) -> Result<(), Vec<String>> {
        let config = &mut loaded.config;
        if !config.check.is_asked_at_start() {
            return Ok(());
        }
        let examined = match self.examine(config) {
            Ok(examined) => examined,
            // Nothing is refused yet, and a server that is down must not keep the proxy down.
            Err(reason) if !config.check.refuses() => {
                tracing::error!("check: {reason}");
                return Ok(());
            }
            Err(reason) => return Err(vec![format!("check: {reason}")]),
        };
        for line in apply(config, &examined)? {
            tracing::warn!("check: {line}");
        }
        Ok(())
    }

    fn examine(&mut self, config: &Config) -> Result<Vec<Examined>, String> {
        let examiner = match &self.examiner {
            Some(examiner) => examiner.clone(),
            None => Examiner::start().map_err(|error| error.to_string())?,
        };
        self.examiner = Some(examiner.clone());
        let order = Order {
            config: Arc::new(config.clone()),
            database: None,
            looker: None,
            roles: Vec::new(),
            exceptions: exceptions(config.check.exceptions.as_deref())?,
            probes: false,
            today: today(),
        };
        examiner.examine(order).map_err(|fault| fault.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_looker_is_read_from_a_url() {
        let found = looker("postgres://spy:se%40cret@127.0.0.1:6000/other").unwrap();
        let address = found.address.unwrap();
        assert_eq!((&*found.user, address.to_string()), ("spy", "127.0.0.1:6000".to_owned()));
        assert!(found.password.is_some());
        assert!(looker("postgres://spy@").unwrap().address.is_none());
        assert!(!looker("postgres://se:cret@[").unwrap_err().contains("cret"));
    }
}
