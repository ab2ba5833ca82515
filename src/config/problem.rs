//! What is wrong with a configuration, in words an operator can act on.
//!
//! Owns: the form of one problem and the order of many. Does not own: what counts as one.

use std::fmt;

/// How grave a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gravity {
    /// The configuration cannot be used.
    Error,
    /// It can be used, but somebody should look at it.
    Warning,
}

/// One thing that is wrong. Never holds a secret: values of password keys are not echoed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How grave.
    pub gravity: Gravity,
    /// Where: `databases.demo.role`. Empty for the file as a whole.
    pub key_path: String,
    /// 1-based line in the file, where there is one.
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Problem {
    /// Whether the configuration cannot be used because of it.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.gravity == Gravity::Error
    }
}

/// `databases.demo.role (line 31): no [roles.ap]; did you mean "app"?`
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.gravity == Gravity::Warning {
            f.write_str("warning: ")?;
        }
        match (self.key_path.as_str(), self.line) {
            ("", None) => {}
            ("", Some(line)) => write!(f, "line {line}: ")?,
            (path, None) => write!(f, "{path}: ")?,
            (path, Some(line)) => write!(f, "{path} (line {line}): ")?,
        }
        f.write_str(&self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

/// Where something stands in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The key path.
    pub path: String,
    /// The line, where the thing is in the file.
    pub line: Option<usize>,
}

impl Place {
    /// A key below this place, which is missing and so has only its table's line.
    #[must_use]
    pub fn key(&self, name: &str) -> Place {
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
        Place { path, line: self.line }
    }
}

/// Everything that is wrong, collected before anything is reported.
#[derive(Debug, Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Adds an error.
    pub fn error(&mut self, place: &Place, message: impl Into<String>) {
        self.push(Gravity::Error, place, message.into(), None);
    }

    /// Adds an error with advice.
    pub fn error_with_hint(&mut self, place: &Place, message: impl Into<String>, hint: impl Into<String>) {
        self.push(Gravity::Error, place, message.into(), Some(hint.into()));
    }

    /// Adds an error and, where one of `candidates` is close to `given`, asks whether that was meant.
    pub fn error_suggesting<'a>(
        &mut self,
        place: &Place,
        message: impl Into<String>,
        given: &str,
        candidates: impl IntoIterator<Item = &'a str>,
    ) {
        let hint = closest(given, candidates).map(|name| format!("did you mean \"{name}\"?"));
        self.push(Gravity::Error, place, message.into(), hint);
    }

    /// Adds a warning.
    pub fn warn(&mut self, place: &Place, message: impl Into<String>, hint: impl Into<String>) {
        self.push(Gravity::Warning, place, message.into(), Some(hint.into()));
    }

    /// Whether there is an error among them.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(Problem::is_error)
    }

    /// All of them in the order of the file.
    #[must_use]
    pub fn into_sorted(mut self) -> Vec<Problem> {
        self.0.sort_by(|a, b| {
            (a.gravity, a.line.unwrap_or(usize::MAX), &a.key_path).cmp(&(
                b.gravity,
                b.line.unwrap_or(usize::MAX),
                &b.key_path,
            ))
        });
        self.0
    }

    fn push(&mut self, gravity: Gravity, place: &Place, message: String, hint: Option<String>) {
        self.0.push(Problem { gravity, key_path: place.path.clone(), line: place.line, message, hint });
    }
}

/// The candidate that differs least from `given`, if it differs little.
fn closest<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distance_max = (given.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (edit_distance(given, candidate), candidate))
        .filter(|(distance, _)| *distance <= distance_max)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, replacements and swaps of neighbours between two names.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for row in 1..=a.len() {
        let mut current = vec![row];
        for column in 1..=b.len() {
            let replaced = rows[row - 1][column - 1] + usize::from(a[row - 1] != b[column - 1]);
            let mut least = replaced.min(rows[row - 1][column] + 1).min(current[column - 1] + 1);
            if row > 1 && column > 1 && a[row - 1] == b[column - 2] && a[row - 2] == b[column - 1] {
                least = least.min(rows[row - 2][column - 2] + 1);
            }
            current.push(least);
        }
        rows.push(current);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_name_is_suggested_and_a_far_one_is_not() {
        assert_eq!(closest("ap", ["app", "reporting"]), Some("app"));
        assert_eq!(closest("xyz", ["app", "reporting"]), None);
        assert_eq!(closest("mian", ["main"]), Some("main"));
        assert_eq!(edit_distance("kitten", "sitting"), 3);
    }

    #[test]
    fn a_problem_reads_as_one_line_with_path_and_line() {
        let mut problems = Problems::default();
        let place = Place { path: "databases.demo.role".into(), line: Some(31) };
        problems.error_suggesting(&place, "no [roles.ap]", "ap", ["app"]);
        let text: Vec<String> = problems.into_sorted().iter().map(ToString::to_string).collect();
        assert_eq!(text, ["databases.demo.role (line 31): no [roles.ap]; did you mean \"app\"?"]);
    }
}
