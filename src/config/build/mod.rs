//! From sections of single values to a [`Config`] that holds together.
//!
//! Owns: references between sections and values that are impossible together. Does not own: keys, types
//! and limits of single values (see `reference` and `raw`).
//!
//! Every part is built even if another one failed, so that all problems are found; `None` means that the
//! reason has been reported.

mod bypass;
mod check;
mod claimed;
mod clients;
mod console;
mod guard;
mod ledger;
mod limits;
mod logins;
mod names;
mod pem;
mod pools;
mod review;
mod rules;
mod scope;
mod secrets;
mod servers;

use super::environment::Environment;
use super::problem::Problems;
use super::raw::Section;
use super::settings::{Config, LogFormat, LogLevel, LogSettings, RuntimeSettings};

/// What every part needs.
pub struct Builder<'b> {
    /// Variables and files.
    pub environment: &'b dyn Environment,
    /// Where problems go.
    pub problems: &'b mut Problems,
}

/// Builds all parts.
pub fn build(root: &Section, environment: &dyn Environment, problems: &mut Problems) -> Option<Config> {
    let mut builder = Builder { environment, problems };
    let listen = builder.listen(&root.table("listen"));
    let tls = builder.client_tls(&root.table("tls"));
    let servers = builder.servers(&root.table("servers"));
    let roles = builder.roles(&root.table("roles"));
    let databases = builder.databases(root);
    let scope = builder.scope(&root.table("scope"));
    let logins = builder.logins(root, scope.as_ref());
    let rules = builder.rules(root);
    let ledger_section = root.table("ledger");
    let has_ledger = ledger_section.is_present;
    let ledger = if ledger_section.is_present { Some(builder.ledger(&ledger_section)) } else { None };
    let bypass = builder.bypass(root);
    let check = builder.check(root, scope.as_ref());
    let guard = builder.guard(&root.table("guard"), scope.as_ref());
    let limits = builder.limits(root, scope.as_ref());
    let client_statements = limits::client_statements(root);
    let log = log(&root.table("log"));
    let metrics = builder.metrics(root);
    let review = builder.review(&root.table("review"), has_ledger);
    let console = builder.console(root);
    let runtime = runtime(&root.table("runtime"));
    let state_folder = root.table("state").text("folder").map(|folder| builder.environment.locate(&folder));
    let config = Config {
        listen: listen?,
        tls: tls?,
        servers,
        roles,
        databases,
        scope: scope?,
        logins,
        rules,
        guard: guard?,
        ledger: match ledger {
            Some(ledger) => Some(ledger?),
            None => None,
        },
        // Filled in by who has the text.
        digest: "".into(),
        bypass: bypass?,
        check: check?,
        gaps: std::collections::BTreeMap::new(),
        limits: limits?,
        client_statements: client_statements?,
        log: log?,
        metrics: metrics?,
        review: review?,
        console: console?,
        runtime: runtime?,
        state_folder,
        // A default stands for something only where its table is there.
        shown: root.shown().into_iter().filter(|line| has_ledger || !line.pattern.starts_with("ledger.")).collect(),
    };
    if !builder.problems.has_errors() {
        builder.check_pools_agree(root, &config);
        builder.check_seals(root, &config);
        builder.check_listeners_are_private(root, &config);
        builder.check_recorded_logins(root, &config);
        builder.check_claimed_bypasses(root, &config);
        builder.check_passwords_reach_their_server(root, &config);
    }
    Some(config)
}

fn log(section: &Section) -> Option<LogSettings> {
    let format = pick(section, "format", &[("text", LogFormat::Text), ("json", LogFormat::Json)])?;
    let levels = [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace];
    let level = pick(section, "level", &levels.map(|level| (level.word(), level)))?;
    Some(LogSettings { format, level })
}

fn runtime(section: &Section) -> Option<RuntimeSettings> {
    Some(RuntimeSettings {
        threads: section.number("threads"),
        shutdown_timeout: section.duration("shutdown_timeout")?,
    })
}

/// The value a word stands for; `raw` has refused all other words.
fn pick<T: Copy>(section: &Section, key: &str, words: &[(&str, T)]) -> Option<T> {
    let text = section.text(key)?;
    words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value)
}
