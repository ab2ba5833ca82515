//! PostgreSQL's releases, as far as they are known.
//!
//! Owns: the table and its date. A server that is newer than the table is never called old.

use jiff::civil::{Date, date};

use super::facts::Server;
use super::finding::Finding;
use super::rule::Rule;

/// When the table was made.
pub const KNOWN_ON: Date = date(2026, 11, 23);

/// Major release, newest minor release seen by then, end of support
/// (<https://www.postgresql.org/support/versioning/>).
const RELEASES: [(u32, u32, Date); 5] = [
    (14, 23, date(2026, 11, 12)),
    (15, 20, date(2027, 11, 11)),
    (16, 14, date(2028, 11, 9)),
    (17, 10, date(2029, 11, 8)),
    (18, 6, date(2030, 11, 14)),
];

/// Findings about the server's release.
pub fn judge(server: &Server, today: Date, found: &mut Vec<Finding>) {
    let (major, minor) = (server.major(), server.minor());
    let object = format!("server {major}.{minor}");
    let Some((_, newest, ends)) = RELEASES.iter().find(|(known, ..)| *known == major) else {
        let detail = format!("The known releases are 14 to 18 (as of {KNOWN_ON}).");
        found.push(Finding::of(Rule::VersionUnsupported, object).with_detail(detail));
        return;
    };
    if today > *ends {
        let detail = format!("Support of PostgreSQL {major} ended on {ends}.");
        found.push(Finding::of(Rule::VersionUnsupported, &object).with_detail(detail));
    }
    if minor < *newest {
        let detail = format!("{major}.{newest} was released by {KNOWN_ON}.");
        let mend = format!("-- install PostgreSQL {major}.{newest} or later and restart the server");
        found.push(Finding::of(Rule::VersionBehind, object).with_detail(detail).mended_by(mend));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(version: u32, today: Date) -> Vec<Rule> {
        let mut found = Vec::new();
        judge(&Server { version, ..Server::default() }, today, &mut found);
        found.into_iter().map(|finding| finding.rule).collect()
    }

    #[test]
    fn old_releases_are_told_and_newer_ones_than_the_table_are_not() {
        assert_eq!(rules(180_006, KNOWN_ON), []);
        assert_eq!(rules(180_099, KNOWN_ON), []);
        assert_eq!(rules(150_018, KNOWN_ON), [Rule::VersionBehind]);
        assert_eq!(rules(140_023, KNOWN_ON), [Rule::VersionUnsupported]);
        assert_eq!(rules(150_020, date(2028, 1, 1)), [Rule::VersionUnsupported]);
        assert_eq!(rules(130_001, KNOWN_ON), [Rule::VersionUnsupported]);
    }
}
