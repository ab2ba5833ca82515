//! `tenantgate explain "<sql>"`: what the guard says of a text.
//!
//! A text given as an argument is judged as one Query: what cannot be parsed refuses all of it. Standard input is judged
//! as a file that psql reads: if it cannot be taken as a whole, statement by statement.
//!
//! Exit status: 0 if every statement is allowed, 1 if any is refused (unparsable ones are), 2 if there is nothing to
//! explain or it could not be read.

use std::io::{Read as _, Write};
use std::path::Path;
use std::process::ExitCode;

use super::environment::{LoadFailure, load_file};
use super::{EXIT_UNUSABLE, EXIT_WRONG};
use crate::config::ScopeTemplate;
use crate::driver::build;
use crate::driver::law::Law;
use crate::guard::{Claiming, Explained, Keeping, Policy, PolicySettings, Preset, Statement, explain_by, explain_file};

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ExplainState {
    /// `session_state = "refuse"`.
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

impl Sender {
    /// A login of a preset, with that preset's own habits where nothing is said of them.
    #[must_use]
    pub fn new(preset: ExplainPreset, state: Option<ExplainState>, claims: ExplainClaims) -> Self {
        let preset = Preset::from(preset);
        let keeping = state.map_or_else(|| preset.default_keeping(), Keeping::from);
        Self { preset, keeping, claiming: claims.into() }
    }
}

/// Which login of a configuration it comes from, and why.
#[derive(Debug, clap::Args)]
pub struct Named {
    /// This login of the configuration sends it: its preset, lists and claims count, and the rules of its bypasses ([[bypass.rules]]).
    #[arg(long, value_name = "LOGIN", requires = "config", conflicts_with_all = ["preset", "session_state", "claims"])]
    login: Option<String>,
    /// The reason of its bypass, by which a rule is chosen.
    #[arg(long, value_name = "TEXT", requires = "login")]
    reason: Option<String>,
}

/// The parser recurses: see `driver::parser`.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// Longest standard input: what fits into memory on any machine, and more than any file of statements.
const INPUT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What is explained.
enum Input {
    /// One Query.
    Text(String),
    /// Statements that are sent one by one.
    File(Vec<u8>),
}

/// Explains `sql`, or standard input, under the policy of a configuration, or under the default one.
pub fn run_command(
    sql: Option<&str>,
    format: ExplainFormat,
    sender: Sender,
    config: Option<&Path>,
    named: &Named,
) -> ExitCode {
    let input = match sql {
        Some(text) if text != "-" => Input::Text(text.into()),
        Some(_) | None => match read_input() {
            Ok(bytes) => Input::File(bytes),
            Err(reason) => return unusable(&format!("standard input cannot be read: {reason}")),
        },
    };
    let Some(path) = config else { return run(&input, format, &Law::of_policy(default_policy(sender))) };
    let Sender { preset, keeping, claiming } = sender;
    match load_file(path) {
        Ok(loaded) => {
            let law = match &named.login {
                Some(login) => Law::of_login(&loaded.config, login, named.reason.as_deref()),
                None => Ok(Law::of_policy(build::policy(&loaded.config, preset, keeping, claiming))),
            };
            match law {
                Ok(law) => run(&input, format, &law),
                Err(reason) => unusable(&reason),
            }
        }
        Err(LoadFailure::Unreadable(reason)) => unusable(&format!("{} cannot be read: {reason}", path.display())),
        Err(LoadFailure::Wrong(problems)) => {
            problems.iter().for_each(|problem| eprintln!("{problem}"));
            ExitCode::from(EXIT_UNUSABLE)
        }
    }
}

fn unusable(reason: &str) -> ExitCode {
    eprintln!("tenantgate: {reason}");
    ExitCode::from(EXIT_UNUSABLE)
}

fn read_input() -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(INPUT_BYTES_MAX + 1).read_to_end(&mut bytes);
    match read {
        Ok(length) if length as u64 > INPUT_BYTES_MAX => Err(format!("it is longer than {INPUT_BYTES_MAX} bytes")),
        Ok(_) => Ok(bytes),
        Err(error) => Err(error.to_string()),
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

/// Explains the input under `law` to standard output.
fn run(input: &Input, format: ExplainFormat, law: &Law) -> ExitCode {
    let Some(explained) = explain_on_a_deep_stack(input, law) else {
        return unusable("the text could not be examined");
    };
    if explained.is_empty() {
        return unusable("the text holds no statement");
    }
    let mut text = String::new();
    for statement in &explained {
        match write_statement(statement, format) {
            Ok(line) => text.push_str(&line),
            Err(error) => return unusable(&format!("cannot write as JSON: {error}")),
        }
        text.push('\n');
    }
    if let Err(error) = std::io::stdout().lock().write_all(text.as_bytes()) {
        return unusable(&format!("cannot write: {error}"));
    }
    if explained.iter().all(Explained::is_allowed) { ExitCode::SUCCESS } else { ExitCode::from(EXIT_WRONG) }
}

fn explain_on_a_deep_stack(input: &Input, law: &Law) -> Option<Vec<Explained>> {
    let also = |statement: &Statement| law.judge(statement);
    let work = || match input {
        Input::Text(text) => explain_by(text.as_bytes(), law.policy(), &also),
        Input::File(bytes) => explain_file(bytes, law.policy(), &also),
    };
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().name("parser".into()).stack_size(STACK_BYTES);
        builder.spawn_scoped(scope, work).ok()?.join().ok()
    })
}

fn write_statement(statement: &Explained, format: ExplainFormat) -> Result<String, serde_json::Error> {
    match format {
        ExplainFormat::Json => serde_json::to_string(&statement.line()),
        ExplainFormat::Text => Ok(write_text(statement)),
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
