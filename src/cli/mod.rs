//! The command line: serve, attack, check, check-config, explain, ledger, emergency, offboard, sql, demo.
//!
//! Owns: arguments, exit statuses, and giving the configuration its files and variables. Does not own: what
//! the commands do with a configuration (see `driver`).

mod attack;
mod check;
mod check_config;
mod demo;
mod emergency;
mod environment;
mod explain;
mod ledger;
mod log;
mod offboard;
mod secure;
mod serve;
mod sql;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Something was found wrong, or refused.
const EXIT_WRONG: u8 = 1;
/// Nothing could be found out: an unreadable file, unusable arguments.
const EXIT_UNUSABLE: u8 = 2;

/// A pooling proxy for PostgreSQL that makes tenant isolation by row-level security hold for any client.
#[derive(Debug, Parser)]
#[command(name = "tenantgate", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy until SIGTERM or SIGINT.
    Serve {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Report every problem of a configuration file; exit status 0: usable, 1: problems, 2: unreadable.
    CheckConfig {
        /// The configuration file.
        file: PathBuf,
    },
    /// Look at the databases: does their schema keep tenants apart? Exit status 0: nothing from --fail-on on, 1: findings, 2: unusable.
    Check(check::CheckArguments),
    /// Say what the guard thinks of a statement; exit status 0: allowed, 1: refused, 2: unusable.
    ///
    /// A text that PostgreSQL's parser refuses is refused (1), as the proxy refuses it. Unusable are a text without a
    /// statement, an input that cannot be read or is longer than 64 MiB, and a configuration with problems.
    Explain {
        /// The statement, or several. Without it, or as `-`: those of standard input, each judged as sent by itself.
        sql: Option<String>,
        /// How the answer is written.
        #[arg(long, value_enum, default_value_t)]
        format: explain::ExplainFormat,
        /// What kind of login sends it.
        #[arg(long, value_enum, default_value_t)]
        preset: explain::ExplainPreset,
        /// Whether that login may leave state on a server; if not said, as the preset has it.
        #[arg(long, value_enum)]
        session_state: Option<explain::ExplainState>,
        /// Whether that login may name its tenant in SQL.
        #[arg(long, value_enum, default_value_t)]
        claims: explain::ExplainClaims,
        /// Use the [guard] and [scope] of this configuration instead of the defaults.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Or which login of it.
        #[command(flatten)]
        named: explain::Named,
    },
    /// Look at the ledger of bypass and migration logins.
    Ledger {
        /// What to do.
        #[command(subcommand)]
        command: Box<ledger::LedgerCommand>,
    },
    /// Let a bypass login go beyond its rules for a while; recorded, and closed by itself (docs/bypass.md).
    Emergency(emergency::EmergencyArguments),
    /// Export and erase a tenant's rows, through the proxy, with a proof (docs/offboarding.md).
    Offboard(offboard::OffboardArguments),
    /// Install, verify or take away what a sealed database needs (docs/sealed.md).
    Sql {
        /// What to do.
        #[command(subcommand)]
        command: sql::SqlCommand,
    },
    /// Try, through the proxy, what one tenant may try to get at another's rows; exit status 1 if anything escapes.
    Attack(attack::AttackArguments),
    /// Start a throw-away PostgreSQL and the proxy in front of it, and show what holds.
    Demo(demo::DemoArguments),
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    match Arguments::parse().command {
        Command::Serve { config } => serve::run(&config),
        Command::Check(arguments) => check::run(&arguments),
        Command::CheckConfig { file } => check_config::run(&file),
        Command::Explain { sql, format, preset, session_state, claims, config, named } => {
            let sender = explain::Sender::new(preset, session_state, claims);
            explain::run_command(sql.as_deref(), format, sender, config.as_deref(), &named)
        }
        Command::Ledger { command } => ledger::run(&command),
        Command::Emergency(arguments) => emergency::run(&arguments),
        Command::Offboard(arguments) => offboard::run(&arguments),
        Command::Sql { command } => sql::run(&command),
        Command::Attack(arguments) => attack::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
