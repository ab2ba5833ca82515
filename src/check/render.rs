//! A report as people, programs and code hosts read it.
//!
//! Owns: the text, the JSON and the SARIF 2.1.0 of a report. Does not own: where it goes.
//! <https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::finding::{Finding, Report};
use super::rule::{Rule, Severity};

/// How a report is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// One object.
    Json,
    /// For code hosts and editors.
    Sarif,
}

/// Where the codes are explained.
const PAGE: &str = "docs/check.md";

/// Controls in names and texts of a database must not steer a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// For people: coverage first, then findings by severity and rule, each with what mends it.
#[must_use]
pub fn as_text(report: &Report) -> String {
    let mut text = format!("{}\n", report.coverage);
    let roles = if report.roles.is_empty() { "none".to_owned() } else { report.roles.join(", ") };
    // A string takes everything.
    let _written =
        writeln!(text, "database {}, PostgreSQL {}, roles: {roles}", printable(&report.database), report.version);
    let _written = writeln!(text, "{}", summary(report));
    for severity in Severity::ALL {
        let mut by_rule: BTreeMap<Rule, Vec<&Finding>> = BTreeMap::new();
        for finding in report.of_severity(severity) {
            by_rule.entry(finding.rule).or_default().push(finding);
        }
        for (rule, findings) in by_rule {
            put_rule(&mut text, severity, rule, &findings);
        }
    }
    if !report.excused.is_empty() {
        text.push_str("\nJustified exceptions\n");
    }
    for excused in &report.excused {
        let until = if excused.until.is_empty() { String::new() } else { format!(" (until {})", excused.until) };
        let (code, object) = (excused.finding.rule.row().code, printable(&excused.finding.object));
        let _written = writeln!(text, "  {code}  {object}: {}{until}", printable(&excused.reason));
    }
    text
}

fn put_rule(text: &mut String, severity: Severity, rule: Rule, findings: &[&Finding]) {
    let row = rule.row();
    let _written = writeln!(text, "\n{:<8}  {}  {}: {}", severity.word().to_uppercase(), row.code, row.name, row.what);
    for finding in findings {
        let message = if finding.message == row.what { String::new() } else { format!("{}. ", finding.message) };
        let more = format!("{message}{}", finding.detail);
        let more = if more.is_empty() { more } else { format!("  {}", printable(more.trim_end())) };
        let _written = writeln!(text, "  {}{more}", printable(&finding.object));
        for line in finding.mend.lines() {
            let _written = writeln!(text, "      {}", printable(line));
        }
    }
}

/// `3 critical, 1 low; 2 justified`
fn summary(report: &Report) -> String {
    let counted = Severity::ALL.into_iter().filter_map(|severity| {
        let count = report.of_severity(severity).count();
        (count > 0).then(|| format!("{count} {}", severity.word()))
    });
    let counted: Vec<String> = counted.collect();
    let found = if counted.is_empty() { "no findings".to_owned() } else { counted.join(", ") };
    if report.excused.is_empty() { found } else { format!("{found}; {} justified", report.excused.len()) }
}

/// Reports as one JSON object.
#[must_use]
pub fn as_json(reports: &[Report]) -> Value {
    json!({ "databases": reports.iter().map(json_report).collect::<Vec<_>>() })
}

fn json_report(report: &Report) -> Value {
    let names = |names: &std::collections::BTreeSet<(String, String)>| {
        names.iter().map(|(schema, name)| format!("{schema}.{name}")).collect::<Vec<_>>()
    };
    json!({
        "database": report.database,
        "server_version": report.version,
        "roles": report.roles,
        "coverage": report.coverage,
        "findings": report.findings.iter().map(json_finding).collect::<Vec<_>>(),
        "excused": report.excused.iter().map(|excused| {
            let mut value = json_finding(&excused.finding);
            value["reason"] = json!(excused.reason);
            value["until"] = json!(excused.until);
            value
        }).collect::<Vec<_>>(),
        "uncovered_tables": names(&report.uncovered),
        "executors": names(&report.executors),
    })
}

fn json_finding(finding: &Finding) -> Value {
    let row = finding.rule.row();
    json!({
        "code": row.code, "rule": row.name, "severity": finding.severity.word(), "object": finding.object,
        "message": finding.message, "detail": finding.detail, "mend": finding.mend,
    })
}

/// Reports as one SARIF log. There are no files in a database: places are logical ones. Code hosts insist on a file, so
/// that each result is also at the beginning of `artifact`, the configuration that led there.
#[must_use]
pub fn as_sarif(reports: &[Report], version: &str, artifact: &str) -> Value {
    let rules: Vec<Value> = Rule::ALL.iter().map(|rule| sarif_rule(*rule)).collect();
    let results: Vec<Value> = reports.iter().flat_map(|report| sarif_results(report, artifact)).collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "tenantgate check",
                "version": version,
                "rules": rules,
            } },
            "results": results,
            "properties": { "coverage": reports.iter().map(|report| report.coverage.to_string()).collect::<Vec<_>>() },
        }],
    })
}

fn sarif_rule(rule: Rule) -> Value {
    let row = rule.row();
    json!({
        "id": row.code,
        "name": row.name,
        "shortDescription": { "text": row.what },
        "fullDescription": { "text": row.why },
        "help": { "text": format!("{} {} See {PAGE}.", row.what, row.why) },
        "defaultConfiguration": { "level": row.severity.level() },
        "properties": { "security-severity": row.severity.score() },
    })
}

fn sarif_results(report: &Report, artifact: &str) -> Vec<Value> {
    let open = report.findings.iter().map(|finding| sarif_result(report, finding, None, artifact));
    let excused = report.excused.iter().map(|it| sarif_result(report, &it.finding, Some(&it.reason), artifact));
    open.chain(excused).collect()
}

fn sarif_result(report: &Report, finding: &Finding, reason: Option<&str>, artifact: &str) -> Value {
    let row = finding.rule.row();
    let parts = [&finding.message, ": ", &finding.object, ". ", &finding.detail];
    let mut text: String = parts.concat();
    if !finding.mend.is_empty() {
        text.push_str("\nMend: ");
        text.push_str(&finding.mend);
    }
    let mut result = json!({
        "ruleId": row.code,
        "ruleIndex": Rule::ALL.iter().position(|rule| *rule == finding.rule),
        "level": finding.severity.level(),
        "message": { "text": text },
        "locations": [{
            "physicalLocation": { "artifactLocation": { "uri": artifact }, "region": { "startLine": 1 } },
            "logicalLocations": [{
                "name": finding.object,
                "fullyQualifiedName": format!("{}/{}", report.database, finding.object),
                "kind": "resource",
            }],
        }],
        // The same finding of tomorrow is the same to a code host.
        "partialFingerprints": { "object/v1": format!("{}/{}/{}", row.code, report.database, finding.object) },
        "properties": { "severity": finding.severity.word() },
    });
    if let Some(reason) = reason {
        result["suppressions"] = json!([{ "kind": "external", "justification": reason }]);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::finding::{Coverage, Excused};

    fn report() -> Report {
        Report {
            database: "shop".into(),
            version: "15.20".into(),
            roles: vec!["app".into()],
            coverage: Coverage { covered: 50, total: 67 },
            findings: vec![
                Finding::of(Rule::RlsMissing, "public.a").mended_by("ALTER TABLE a;\nALTER TABLE b;"),
                Finding::of(Rule::IndexMissing, "public.\u{1b}[2J"),
            ],
            excused: vec![Excused {
                finding: Finding::of(Rule::UniqueAcross, "public.u/k"),
                reason: "decided".into(),
                until: "2027-01-01".into(),
            }],
            ..Report::default()
        }
    }

    #[test]
    fn people_read_the_coverage_first_and_no_escape_sequences() {
        let text = as_text(&report());
        assert!(text.starts_with("50 of 67 tenant tables covered\n"), "{text}");
        assert!(text.contains("1 critical, 1 low; 1 justified"), "{text}");
        assert!(text.contains("CRITICAL  CK101") && text.contains("      ALTER TABLE b;"), "{text}");
        assert!(text.contains("CK123  public.u/k: decided (until 2027-01-01)"), "{text}");
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn sarif_has_the_shape_that_code_hosts_ask_for() {
        let log = as_sarif(&[report()], "0.1.0", "tenantgate.toml");
        assert_eq!(log["version"], "2.1.0");
        let run = &log["runs"][0];
        let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
        assert_eq!(rules.len(), Rule::ALL.len());
        let results = run["results"].as_array().unwrap();
        assert_eq!(results.len(), 3);
        for result in results {
            let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
            assert_eq!(rules[index]["id"], result["ruleId"]);
            assert!(["error", "warning", "note"].contains(&result["level"].as_str().unwrap()));
            assert!(!result["message"]["text"].as_str().unwrap().is_empty());
            assert!(result["locations"][0]["logicalLocations"][0]["fullyQualifiedName"].is_string());
            assert_eq!(result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"], "tenantgate.toml");
        }
        assert_eq!(results[2]["suppressions"][0]["justification"], "decided");
        assert!(results[0].get("suppressions").is_none());
    }

    #[test]
    fn programs_read_everything() {
        let value = as_json(&[report()]);
        let database = &value["databases"][0];
        assert_eq!(database["coverage"], json!({ "covered": 50, "total": 67 }));
        assert_eq!(database["findings"][0]["code"], "CK101");
        assert_eq!(database["excused"][0]["reason"], "decided");
    }
}
