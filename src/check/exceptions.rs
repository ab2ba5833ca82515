//! Justified exceptions: findings that somebody has decided to live with, in a file under review.
//!
//! ```toml
//! [[exceptions]]
//! code = "CK123"                      # or its name
//! object = "public.users/users_email_key"   # `*` stands for any text
//! reason = "one account per address across all tenants, by decision of 2026-10-02"
//! until = "2027-04-01"                # may be left out
//! ```
//!
//! Owns: the file's form, and which findings it excuses. Expired and unused exceptions are findings themselves.

use std::collections::BTreeSet;

use jiff::civil::Date;
use serde::Deserialize;

use super::finding::{Excused, Finding, Report};
use super::rule::Rule;
use crate::tenant::Glob;

/// Each is compared with each finding.
const EXCEPTIONS_MAX: usize = 1_000;
/// A reason that says nothing is none.
const REASON_CHARACTERS_MIN: usize = 8;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    exceptions: Vec<Row>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    code: String,
    object: String,
    reason: String,
    until: Option<String>,
}

/// One exception.
#[derive(Clone, Debug)]
struct Exception {
    rule: Rule,
    text: String,
    object: Glob,
    reason: String,
    until: Option<Date>,
}

/// Exceptions of a file.
#[derive(Clone, Debug, Default)]
pub struct Exceptions {
    rows: Vec<Exception>,
}

/// What is wrong with the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExceptionsFault {
    /// It is not of the form.
    #[error("{0}")]
    Form(String),
    /// There is no such rule.
    #[error("exception {number}: {code:?} is no code of check")]
    Code {
        /// Which one, from 1.
        number: usize,
        /// What is written.
        code: String,
    },
    /// A value that is none.
    #[error("exception {number}: {what}")]
    Value {
        /// Which one, from 1.
        number: usize,
        /// What is wrong.
        what: String,
    },
    /// Too many.
    #[error("there are more than {EXCEPTIONS_MAX} exceptions")]
    TooMany,
}

impl Exceptions {
    /// Reads a file's text.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse(text: &str) -> Result<Self, ExceptionsFault> {
        let file: File =
            toml::from_str(text).map_err(|error| ExceptionsFault::Form(error.message().replace('\n', ", ")))?;
        if file.exceptions.len() > EXCEPTIONS_MAX {
            return Err(ExceptionsFault::TooMany);
        }
        let rows = file.exceptions.into_iter().enumerate().map(|(at, row)| exception(at + 1, row));
        Ok(Self { rows: rows.collect::<Result<_, _>>()? })
    }

    /// Takes what is excused out of a report.
    pub fn apply(&self, report: &mut Report, today: Date) {
        let mut uses = vec![0_usize; self.rows.len()];
        let mut kept = Vec::new();
        let mut released = BTreeSet::new();
        for finding in report.findings.drain(..) {
            let found = self.rows.iter().position(|row| row.is_in_force(today) && row.fits(&finding));
            match found.and_then(|at| Some((uses.get_mut(at)?, self.rows.get(at)?))) {
                Some((uses, row)) => {
                    *uses += 1;
                    released.extend(uncovered_by(&finding).map(str::to_owned));
                    let until = row.until.map(|until| until.to_string()).unwrap_or_default();
                    report.excused.push(Excused { finding, reason: row.reason.clone(), until });
                }
                None => kept.push(finding),
            }
        }
        // A table that another finding uncovers, or may, stays uncovered.
        for table in kept.iter().filter_map(held_by) {
            released.remove(table);
        }
        report.uncovered.retain(|(schema, name)| !released.contains(&format!("{schema}.{name}")));
        report.findings = kept;
        for (row, uses) in self.rows.iter().zip(uses) {
            let object = format!("{} {}", row.rule.row().code, row.text);
            if !row.is_in_force(today) {
                let detail = format!("It ended on {}: {}", row.until.unwrap_or_default(), row.reason);
                report.findings.push(Finding::of(Rule::ExceptionExpired, object).with_detail(detail));
            } else if uses == 0 {
                report.findings.push(Finding::of(Rule::ExceptionUnused, object).with_detail(row.reason.clone()));
            }
        }
        report.sort();
    }
}

/// The table that a finding uncovers: excused, it may be used as it is.
fn uncovered_by(finding: &Finding) -> Option<&str> {
    match finding.rule {
        Rule::RlsMissing | Rule::ChildUncovered | Rule::PartUncovered | Rule::PolicyMissing => Some(&finding.object),
        Rule::PolicyOpen | Rule::CheckMissing | Rule::PolicyOtherSetting => {
            finding.object.split_once('/').map(|(table, _)| table)
        }
        _ => None,
    }
}

/// The table that a finding may keep uncovered.
fn held_by(finding: &Finding) -> Option<&str> {
    match finding.rule {
        Rule::PolicyIdentity | Rule::PolicySwitch | Rule::PolicyImmutable | Rule::PolicyUnreadable => {
            finding.object.split_once('/').map(|(table, _)| table)
        }
        _ => uncovered_by(finding),
    }
}

impl Exception {
    fn is_in_force(&self, today: Date) -> bool {
        self.until.is_none_or(|until| today <= until)
    }

    fn fits(&self, finding: &Finding) -> bool {
        self.rule == finding.rule && self.object.matches(&finding.object)
    }
}

fn exception(number: usize, row: Row) -> Result<Exception, ExceptionsFault> {
    let wrong = |what: String| ExceptionsFault::Value { number, what };
    let rule = Rule::find(&row.code).ok_or(ExceptionsFault::Code { number, code: row.code })?;
    if row.reason.trim().chars().count() < REASON_CHARACTERS_MIN {
        return Err(wrong(format!("a reason of at least {REASON_CHARACTERS_MIN} characters is needed")));
    }
    let object = Glob::parse(&row.object).map_err(|fault| wrong(format!("object: {fault}")))?;
    let until = row.until.map(|until| until.parse::<Date>()).transpose();
    let until = until.map_err(|_| wrong("until: write a date as \"2027-04-01\"".to_owned()))?;
    Ok(Exception { rule, text: row.object, object, reason: row.reason, until })
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    fn report() -> Report {
        Report {
            findings: vec![Finding::of(Rule::RlsMissing, "public.a"), Finding::of(Rule::RlsMissing, "public.b")],
            uncovered: ["a", "b"].map(|name| ("public".to_owned(), name.to_owned())).into(),
            ..Report::default()
        }
    }

    fn applied(text: &str) -> Report {
        let mut report = report();
        Exceptions::parse(text).unwrap().apply(&mut report, date(2026, 11, 23));
        report
    }

    fn row(code: &str, object: &str, until: &str) -> String {
        format!("[[exceptions]]\ncode = {code:?}\nobject = {object:?}\nreason = \"decided by the team\"\n{until}\n")
    }

    fn rules(report: &Report) -> Vec<(Rule, &str)> {
        report.findings.iter().map(|finding| (finding.rule, &*finding.object)).collect()
    }

    #[test]
    fn what_is_justified_is_kept_apart_and_may_be_used() {
        let report = applied(&row("CK101", "public.a", "until = \"2026-11-23\""));
        assert_eq!(rules(&report), [(Rule::RlsMissing, "public.b")]);
        assert_eq!((report.excused.len(), &*report.excused[0].until), (1, "2026-11-23"));
        assert_eq!(report.uncovered, [("public".to_owned(), "b".to_owned())].into());
        assert!(applied(&row("rls-missing", "public.*", "")).findings.is_empty());
    }

    #[test]
    fn a_table_that_another_finding_uncovers_stays_so() {
        let findings = |others: &[(Rule, &str)]| Report {
            findings: others.iter().map(|(rule, object)| Finding::of(*rule, *object)).collect(),
            uncovered: [("public".to_owned(), "a".to_owned())].into(),
            ..Report::default()
        };
        let excused = row("CK106", "public.a/one", "");
        for (other, is_left) in [
            (Rule::PolicyOpen, true),
            (Rule::PolicyIdentity, true),
            (Rule::PolicySwitch, true),
            (Rule::PolicyCast, false),
        ] {
            let mut report = findings(&[(Rule::PolicyOpen, "public.a/one"), (other, "public.a/two")]);
            Exceptions::parse(&excused).unwrap().apply(&mut report, date(2026, 11, 23));
            assert_eq!(!report.uncovered.is_empty(), is_left, "{other:?}");
        }
    }

    #[test]
    fn expired_and_unused_exceptions_are_findings() {
        let expired = applied(&row("CK101", "public.a", "until = \"2026-11-22\""));
        assert_eq!(rules(&expired)[2], (Rule::ExceptionExpired, "CK101 public.a"));
        assert_eq!(expired.uncovered.len(), 2);
        let unused = applied(&row("CK123", "public.a", ""));
        assert_eq!(rules(&unused)[2], (Rule::ExceptionUnused, "CK123 public.a"));
    }

    #[test]
    fn a_file_that_is_wrong_says_how() {
        let fault = |text: &str| Exceptions::parse(text).unwrap_err().to_string();
        assert!(fault(&row("CK999", "x", "")).contains("is no code"));
        assert!(fault(&row("CK101", "x", "until = \"soon\"")).contains("write a date"));
        assert!(fault("[[exceptions]]\ncode = \"CK101\"\nobject = \"x\"\nreason = \"x\"\n").contains("reason"));
        assert!(fault(&row("CK101", "x", "why = 1")).contains("unknown field"));
        assert!(Exceptions::parse("").unwrap().rows.is_empty());
    }
}
