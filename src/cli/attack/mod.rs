//! `tenantgate attack`: tries, through the running proxy, what a tenant may try to get at another's rows.
//!
//! It makes a schema `tenantgate_attack` with one table over a direct connection (`--owner`), puts a row of each of two
//! tenants there, and takes it away at the end. Each technique is said in several forms over a connection of tenant A;
//! then tenant B's row must be as it was, seen by B alone. Where nothing refuses them, some techniques read the system's own
//! views, write a file of the server's, or prepare a transaction (docs/attack.md); no table of anybody else's is touched.
//!
//! | verdict | means |
//! |---|---|
//! | not tried | it could not be: a name that is not there, a syntax that the server does not know, no answer in time |
//! | refused | what had to fail has failed |
//! | harmless | something of it ran, and neither showed nor changed anything of the other tenant's |
//! | **escaped** | the other tenant's row was shown or changed |
//!
//! What shows the other tenant's row without any technique has escaped, too. SIGINT and SIGTERM end it and take the schema away.
//!
//! Exit status: 0 nothing escaped, 1 something did, 2 it could not be tried, or not to its end.
//!
//! Owns: the techniques (`techniques.sql`), their forms, the verdict. Does not own: the connections (tokio-postgres).

mod secure;
mod stage;
mod talk;
mod target;

use std::process::ExitCode;

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::stage::Stage;
use self::talk::{Form, Said};
pub use self::target::AttackArguments;
use self::target::Target;
use super::{EXIT_UNUSABLE, EXIT_WRONG};

const TECHNIQUES: &str = include_str!("techniques.sql");

/// What came of a technique; the worst of its forms counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    /// It proves nothing: never counted as refused.
    NotTried,
    Refused,
    Harmless,
    Escaped,
}

/// A paragraph of `techniques.sql`.
#[derive(Debug)]
struct Technique {
    name: String,
    /// Each Query, and whether it is one that must not help.
    lines: Vec<(bool, String)>,
}

/// Runs the command.
pub fn run(arguments: &AttackArguments) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return unusable(&error.to_string()),
    };
    match runtime.block_on(attack(arguments)) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(EXIT_WRONG),
        Err(reason) => unusable(&reason),
    }
}

fn unusable(reason: &str) -> ExitCode {
    eprintln!("tenantgate: {reason}");
    ExitCode::from(EXIT_UNUSABLE)
}

/// A technique's name, and what came of each of its forms.
type Row = (String, Vec<(Form, Verdict)>);

/// What needs no technique.
const NOTHING_AT_ALL: &str = "a plain SELECT, before anything else";

/// How many techniques escaped.
async fn attack(arguments: &AttackArguments) -> Result<usize, String> {
    let mut signals = Signals::listen()?;
    let stage = Stage::set(Target::of(arguments)?).await?;
    let mut rows = Vec::new();
    let done = tokio::select! {
        done = try_all(arguments, &stage, &mut rows) => done,
        signal = signals.come() => Err(signal),
    };
    // Whatever has happened.
    let struck = stage.strike().await;
    let escaped = report(stage.is_sealed, &rows);
    match done.and(struck) {
        Ok(()) => Ok(escaped),
        // What has escaped counts, however the rest ended.
        Err(reason) if escaped > 0 => {
            eprintln!("tenantgate: {reason}");
            Ok(escaped)
        }
        Err(reason) => Err(reason),
    }
}

/// The signals that end the tool: once they are listened for, one that comes earlier is not lost.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> Result<Self, String> {
        let of = |kind| signal(kind).map_err(|error| format!("signals cannot be listened for: {error}"));
        Ok(Self { interrupt: of(SignalKind::interrupt())?, terminate: of(SignalKind::terminate())? })
    }

    /// Waits for one. If dropped: nothing.
    async fn come(&mut self) -> String {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        "ended by a signal".to_owned()
    }
}

async fn try_all(arguments: &AttackArguments, stage: &Stage, rows: &mut Vec<Row>) -> Result<(), String> {
    if stage.is_open().await? {
        println!("-- {NOTHING_AT_ALL}: tenant A sees its own row and tenant B's");
        rows.push((NOTHING_AT_ALL.to_owned(), vec![(Form::Simple, Verdict::Escaped)]));
        return Ok(());
    }
    stage.sees_what_it_should().await?;
    let wanted = |technique: &Technique| arguments.only.iter().any(|word| technique.name.contains(word.as_str()));
    let mut all = techniques(|text| stage.fill_in(text));
    all.retain(|technique| arguments.only.is_empty() || wanted(technique));
    if all.is_empty() {
        return Err("--only: no technique has that in its name".to_owned());
    }
    for technique in all {
        rows.push((technique.name.clone(), Vec::new()));
        for form in Form::ALL {
            let said = talk::say(&stage.as_a, &technique.lines, form).await?;
            let verdict = judge(stage, &said).await?;
            if arguments.verbose || verdict == Verdict::Escaped {
                println!("-- {} ({form:?}): {verdict:?}\n{}", technique.name, said.heard);
            }
            if let Some((_, verdicts)) = rows.last_mut() {
                verdicts.push((form, verdict));
            }
            if verdict == Verdict::Escaped {
                stage.put_back().await?;
            }
        }
    }
    Ok(())
}

async fn judge(stage: &Stage, said: &Said) -> Result<Verdict, String> {
    if said.heard.contains(&stage.secret) || !stage.is_untouched().await? {
        return Ok(Verdict::Escaped);
    }
    Ok(match (said.has_helped, said.was_refused) {
        (true, _) => Verdict::Harmless,
        (false, true) => Verdict::Refused,
        (false, false) => Verdict::NotTried,
    })
}

fn report(is_sealed: bool, verdicts: &[Row]) -> usize {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["technique", "verdict", "forms"]);
    let mut counts = [0_usize; 4];
    for (name, forms) in verdicts {
        let worst = forms.iter().map(|(_, verdict)| *verdict).max().unwrap_or(Verdict::NotTried);
        let (place, word) = match worst {
            Verdict::NotTried => (0, "NOT TRIED"),
            Verdict::Refused => (1, "refused"),
            Verdict::Harmless => (2, "harmless"),
            Verdict::Escaped => (3, "ESCAPED"),
        };
        counts[place] += 1;
        let of_it: Vec<String> =
            forms.iter().filter(|(_, verdict)| *verdict == worst).map(|(form, _)| form.word().to_owned()).collect();
        let which = if of_it.len() == forms.len() { "all".to_owned() } else { of_it.join(", ") };
        table.add_row([name.as_str(), word, which.as_str()]);
    }
    println!("{table}");
    let [not_tried, refused, harmless, escaped] = counts;
    let level = if is_sealed { "sealed" } else { "guarded" };
    println!(
        "{} techniques, {} attempts on a {level} database: {refused} refused, {harmless} harmless, {escaped} escaped, {not_tried} could not be tried",
        verdicts.len(),
        verdicts.iter().map(|(_, forms)| forms.len()).sum::<usize>()
    );
    escaped
}

fn techniques(fill_in: impl Fn(&str) -> String) -> Vec<Technique> {
    TECHNIQUES.split("\n\n").skip(1).filter_map(|paragraph| read(paragraph, &fill_in)).collect()
}

fn read(paragraph: &str, fill_in: &impl Fn(&str) -> String) -> Option<Technique> {
    let mut lines = paragraph.lines();
    let name = lines.next()?.strip_prefix("-- ")?.to_owned();
    let line = |text: &str| match text.strip_prefix("! ") {
        Some(text) => (true, fill_in(text)),
        None => (false, fill_in(text)),
    };
    Some(Technique { name, lines: lines.map(line).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_technique_has_a_name_and_a_line_that_must_not_help() {
        let all = techniques(str::to_owned);
        assert!(all.len() > 90, "{}", all.len());
        for technique in &all {
            assert!(technique.lines.iter().any(|(must_not_help, _)| *must_not_help), "{technique:?}");
        }
        let names: std::collections::BTreeSet<_> = all.iter().map(|technique| &technique.name).collect();
        assert_eq!(names.len(), all.len(), "a name twice");
    }
}
