//! `tenantgate sql install|upgrade|verify|uninstall|rotate-key`: the database's side of sealed databases.
//!
//! Each prints its SQL with `--print`, for psql or a migration tool; else it runs it over `--connect`. That connection has no
//! TLS: it is for a unix socket or the machine itself. Exit status: 0 done and nothing wrong, 1 the database refuses or
//! `verify` has found something, 2 unusable arguments.
//!
//! Owns: which script is run, and the key's way into the database. Does not own: the scripts (sql/).

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::environment::{LoadFailure, load_file};
use super::{EXIT_UNUSABLE, EXIT_WRONG};

const INSTALL: &str = include_str!("../../sql/install.sql");
const UPGRADE: &str = include_str!("../../sql/upgrade.sql");
const VERIFY: &str = include_str!("../../sql/verify.sql");
const UNINSTALL: &str = include_str!("../../sql/uninstall.sql");

/// What is done with a database's schema `tenantgate`.
#[derive(Debug, Subcommand)]
pub enum SqlCommand {
    /// Install it, as the owner of the database with CREATEROLE. Again: nothing changes.
    Install(Way),
    /// Bring an installed one up to date.
    Upgrade(Way),
    /// Say what is wrong with it, as the role of a pool.
    Verify(Way),
    /// Take it away; tables have to be unprotected first.
    Uninstall(Way),
    /// Make the configured key known to the database; then, with every proxy on it, retire the others.
    RotateKey(KeyArguments),
}

/// How the SQL gets to the database.
#[derive(Debug, Args)]
pub struct Way {
    /// Print it instead of running it.
    #[arg(long)]
    print: bool,
    /// Where to: "host=/var/run/postgresql user=owner dbname=app", or postgres://…
    #[arg(long, value_name = "URL", required_unless_present = "print")]
    connect: Option<String>,
}

/// Which key.
#[derive(Debug, Args)]
pub struct KeyArguments {
    /// The configuration that has the new key.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The database's key in [databases].
    #[arg(long, value_name = "NAME")]
    database: String,
    /// Forget every other key. Proxies that still sign with one are refused from then on.
    #[arg(long)]
    retire: bool,
    /// How it gets there. Printed, the key stands in the text.
    #[command(flatten)]
    way: Way,
}

/// Why it was not done.
enum Failure {
    /// Nothing could be tried.
    Unusable(String),
    /// It was, and refused.
    Refused(String),
}

/// Runs a command.
pub fn run(command: &SqlCommand) -> ExitCode {
    let done = match command {
        SqlCommand::Install(way) => run_script(way, &[INSTALL]),
        SqlCommand::Upgrade(way) => run_script(way, &[UPGRADE, INSTALL]),
        SqlCommand::Verify(way) => return report(verify(way)),
        SqlCommand::Uninstall(way) => run_script(way, &[UNINSTALL]),
        SqlCommand::RotateKey(arguments) => rotate(arguments),
    };
    report(done.map(|()| true))
}

fn report(done: Result<bool, Failure>) -> ExitCode {
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_WRONG),
        Err(Failure::Unusable(reason)) => {
            eprintln!("tenantgate: {reason}");
            ExitCode::from(EXIT_UNUSABLE)
        }
        Err(Failure::Refused(reason)) => {
            eprintln!("tenantgate: {reason}");
            ExitCode::from(EXIT_WRONG)
        }
    }
}

fn run_script(way: &Way, scripts: &[&str]) -> Result<(), Failure> {
    if way.print {
        scripts.iter().for_each(|script| println!("{script}"));
        return Ok(());
    }
    with_client(way, async |client| {
        for script in scripts {
            client.batch_execute(script).await?;
        }
        Ok(())
    })
}

/// Whether nothing is wrong.
fn verify(way: &Way) -> Result<bool, Failure> {
    if way.print {
        println!("{VERIFY}");
        return Ok(true);
    }
    let answers = with_client(way, async |client| client.simple_query(VERIFY).await)?;
    let problem = |answer: &SimpleQueryMessage| match answer {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    };
    let problems: Vec<String> = answers.iter().filter_map(problem).collect();
    problems.iter().for_each(|problem| println!("{problem}"));
    Ok(problems.is_empty())
}

fn rotate(arguments: &KeyArguments) -> Result<(), Failure> {
    let config = match load_file(&arguments.config) {
        Ok(loaded) => loaded.config,
        Err(LoadFailure::Unreadable(reason)) => {
            return Err(Failure::Unusable(format!("{} cannot be read: {reason}", arguments.config.display())));
        }
        Err(LoadFailure::Wrong(problems)) => {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            return Err(Failure::Unusable(problems.join("\n")));
        }
    };
    let entry = config.databases.get(&*arguments.database);
    let no_key = || Failure::Unusable(no_key(&arguments.config, &arguments.database));
    let key = entry.and_then(|entry| entry.seal.as_ref()).ok_or_else(no_key)?;
    if arguments.way.print {
        let digits: String = key.expose_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        println!("SELECT tenantgate.add_key('\\x{digits}');");
        if arguments.retire {
            println!("SELECT tenantgate.retire_keys_except({});", key.id());
        }
        return Ok(());
    }
    let retired = with_client(&arguments.way, async |client| {
        // Bound: a statement's text may be logged, and others see it.
        client.query_one("SELECT tenantgate.add_key($1)", &[&&key.expose_bytes()[..]]).await?;
        if !arguments.retire {
            return Ok(None);
        }
        let row = client.query_one("SELECT tenantgate.retire_keys_except($1)", &[&key.id()]).await?;
        Ok(Some(row.get::<_, i32>(0)))
    })?;
    match retired {
        None => println!("key {} is known to the database", key.id()),
        Some(count) => println!("key {} is the only one now; {count} retired", key.id()),
    }
    Ok(())
}

fn no_key(config: &Path, database: &str) -> String {
    format!("{}: databases.{database} has no seal = true with a key", config.display())
}

fn with_client<T>(
    way: &Way,
    work: impl AsyncFnOnce(&Client) -> Result<T, tokio_postgres::Error>,
) -> Result<T, Failure> {
    let text = way.connect.as_deref().unwrap_or_default();
    let settings: tokio_postgres::Config =
        text.parse().map_err(|error| Failure::Unusable(format!("--connect: {error}")))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Unusable(error.to_string()))?;
    runtime.block_on(async {
        let (client, connection) = settings
            .connect(NoTls)
            .await
            .map_err(|error| Failure::Unusable(format!("cannot connect: {}", words(&error))))?;
        let talking = tokio::spawn(connection);
        let done = work(&client).await.map_err(|error| Failure::Refused(words(&error)));
        drop(client);
        drop(talking.await);
        done
    })
}

/// What the database said; never a parameter's value.
fn words(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => match said.hint() {
            Some(hint) => format!("{} ({hint})", said.message()),
            None => said.message().to_owned(),
        },
        None => error.to_string(),
    }
}
