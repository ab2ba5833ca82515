//! `tenantgate explain "<sql>"`: what the guard says of a text.
//!
//! Exit status: 0 if every statement is allowed, 1 if any is refused, 2 if there is nothing to explain.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use super::EXIT_UNUSABLE;
use super::environment::{LoadFailure, load_file};
use crate::config::ScopeTemplate;
use crate::driver::build;
use crate::guard::{Claiming, Explained, Keeping, Policy, PolicySettings, Preset, explain};

/// How the answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ExplainFormat {
    /// For people.
    #[default]
    Text,
    /// One object per statement and line.
    Json,
}

/// What kind of login a statement comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ExplainPreset {
    /// Its tenant's rows.
    #[default]
    Tenant,
    /// EXPLAIN and notifications, too.
    Application,
    /// Data definition, too.
    Migration,
    /// Every row.
    Bypass,
}

impl From<ExplainPreset> for Preset {
    fn from(preset: ExplainPreset) -> Self {
        match preset {
            ExplainPreset::Tenant => Preset::Tenant,
            ExplainPreset::Application => Preset::Application,
            ExplainPreset::Migration => Preset::Migration,
            ExplainPreset::Bypass => Preset::Bypass,
        }
    }
}

/// Whether the login may leave state on a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ExplainState {
    /// `session_state = "refuse"`.
    #[default]
    Refuse,
    /// `session_state = "pin"`.
    Pin,
    /// `pool_mode = "session"`.
    Session,
}

impl From<ExplainState> for Keeping {
    fn from(state: ExplainState) -> Self {
        match state {
            ExplainState::Refuse => Keeping::Refuse,
            ExplainState::Pin => Keeping::Pin,
            ExplainState::Session => Keeping::Session,
        }
    }
}

/// Whether the login may name its tenant by SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ExplainClaims {
    /// `claims = "none"`.
    #[default]
    None,
    /// `claims = "transaction"`.
    Transaction,
    /// `claims = "session"`.
    Session,
}

impl From<ExplainClaims> for Claiming {
    fn from(claims: ExplainClaims) -> Self {
        match claims {
            ExplainClaims::None => Claiming::None,
            ExplainClaims::Transaction => Claiming::Transaction,
            ExplainClaims::Session => Claiming::Session,
        }
    }
}

/// What kind of login a statement comes from.
#[derive(Clone, Copy, Debug)]
pub struct Sender {
    /// What it may do.
    pub preset: Preset,
    /// What it may leave.
    pub keeping: Keeping,
    /// Whether it may name its tenant.
    pub claiming: Claiming,
}

/// The parser recurses: see `driver::parser`.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// Explains `sql` under the policy of a configuration, or under the default one.
pub fn run_command(sql: &str, format: ExplainFormat, sender: Sender, config: Option<&Path>) -> ExitCode {
    let Some(path) = config else { return run(sql, format, &default_policy(sender)) };
    let Sender { preset, keeping, claiming } = sender;
    match load_file(path) {
        Ok(loaded) => run(sql, format, &build::policy(&loaded.config, preset, keeping, claiming)),
        Err(LoadFailure::Unreadable(reason)) => {
            eprintln!("tenantgate: {} cannot be read: {reason}", path.display());
            ExitCode::from(EXIT_UNUSABLE)
        }
        Err(LoadFailure::Wrong(problems)) => {
            problems.iter().for_each(|problem| eprintln!("{problem}"));
            ExitCode::from(EXIT_UNUSABLE)
        }
    }
}

/// What counts where a configuration says nothing: the default scope setting, nothing allowed beside the
/// built-in lists.
fn default_policy(Sender { preset, keeping, claiming }: Sender) -> Policy {
    Policy::new(&PolicySettings {
        preset,
        keeping,
        claiming,
        claim_settings: ScopeTemplate::default().tenant_settings().map(str::to_owned).collect(),
        scope_settings: ScopeTemplate::default().names().map(str::to_owned).collect(),
        ..PolicySettings::default()
    })
}

/// Explains `sql` under `policy` to standard output.
#[must_use]
pub fn run(sql: &str, format: ExplainFormat, policy: &Policy) -> ExitCode {
    let Some(explained) = explain_on_a_deep_stack(sql, policy) else {
        eprintln!("tenantgate: the text could not be examined");
        return ExitCode::from(2);
    };
    if explained.is_empty() {
        eprintln!("tenantgate: the text holds no statement");
        return ExitCode::from(2);
    }
    let lines: Vec<String> = explained.iter().map(|statement| write_statement(statement, format)).collect();
    if let Err(error) = writeln!(std::io::stdout().lock(), "{}", lines.join("\n")) {
        eprintln!("tenantgate: cannot write: {error}");
        return ExitCode::from(2);
    }
    if explained.iter().all(Explained::is_allowed) { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

fn explain_on_a_deep_stack(sql: &str, policy: &Policy) -> Option<Vec<Explained>> {
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().name("parser".into()).stack_size(STACK_BYTES);
        builder.spawn_scoped(scope, || explain(sql.as_bytes(), policy)).ok()?.join().ok()
    })
}

fn write_statement(statement: &Explained, format: ExplainFormat) -> String {
    match format {
        ExplainFormat::Json => {
            serde_json::to_string(statement).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
        }
        ExplainFormat::Text => write_text(statement),
    }
}

fn write_text(statement: &Explained) -> String {
    let mut lines = vec![if statement.is_allowed() {
        format!("allow  {}", statement.class)
    } else {
        format!("deny   {}  {}  {}", statement.class, statement.code.unwrap_or_default(), statement.reason)
    }];
    let mut add = |name: &str, value: &str| {
        if !value.is_empty() {
            lines.push(format!("  {name:<10} {value}"));
        }
    };
    add("statement", &statement.statement.split_whitespace().collect::<Vec<_>>().join(" "));
    add("detail", statement.detail.as_deref().unwrap_or_default());
    add("hint", statement.hint.as_deref().unwrap_or_default());
    add("position", &statement.position.map(|position| position.to_string()).unwrap_or_default());
    add("tables", &statement.tables.join(", "));
    add("functions", &statement.functions.join(", "));
    add("scope", if statement.needs_scope { "the tenant is set first" } else { "not needed" });
    lines.join("\n")
}
