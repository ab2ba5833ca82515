//! `tenantgate check-config`: everything that is wrong with a configuration file, at once.

use std::path::Path;
use std::process::ExitCode;

use super::environment::{LoadFailure, load_file};
use super::{EXIT_UNUSABLE, EXIT_WRONG};
use crate::config::{Config, Problem};
use crate::driver;

/// Prints one line for each problem.
pub fn run(path: &Path) -> ExitCode {
    match load_file(path) {
        Ok(loaded) => {
            print_problems(&loaded.warnings);
            if let Err(fault) = driver::check(&loaded.config) {
                println!("{fault}\n{}: 1 problem", path.display());
                return ExitCode::from(EXIT_WRONG);
            }
            println!("{}: usable ({})", path.display(), summary(&loaded.config));
            ExitCode::SUCCESS
        }
        Err(LoadFailure::Wrong(problems)) => {
            print_problems(&problems);
            println!("{}: {}", path.display(), count(&problems));
            ExitCode::from(EXIT_WRONG)
        }
        Err(LoadFailure::Unreadable(reason)) => {
            eprintln!("{}: cannot be read: {reason}", path.display());
            ExitCode::from(EXIT_UNUSABLE)
        }
    }
}

fn print_problems(problems: &[Problem]) {
    for problem in problems {
        println!("{problem}");
    }
}

/// `3 problems`, warnings apart.
pub fn count(problems: &[Problem]) -> String {
    let errors = problems.iter().filter(|problem| problem.is_error()).count();
    let warnings = match problems.len() - errors {
        0 => String::new(),
        number => format!(", {}", plural(number, "warning")),
    };
    format!("{}{warnings}", plural(errors, "problem"))
}

fn summary(config: &Config) -> String {
    [
        plural(config.servers.len(), "server group"),
        plural(config.databases.len(), "database"),
        plural(config.logins.len(), "login"),
    ]
    .join(", ")
}

fn plural(number: usize, word: &str) -> String {
    if number == 1 { format!("1 {word}") } else { format!("{number} {word}s") }
}
