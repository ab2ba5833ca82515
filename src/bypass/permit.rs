//! What one transaction may do, and whether it is over it.
//!
//! Owns: the limits of a running transaction. Does not own: counting (the record's account counts), ending it (`session`).

use std::sync::Arc;
use std::time::Duration;

use super::emergency::Emergency;
use super::rule::Rule;
use super::tables::Doubt;
use crate::fault::{Code, Fault};
use crate::guard::{Control, Statement, StatementClass};
use crate::time::TimeOfDay;

/// How bypasses stand at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// What time it is.
    pub now: TimeOfDay,
    /// None runs, for this reason.
    pub frozen: Option<Arc<str>>,
    /// The login's open emergency.
    pub emergency: Option<Arc<Emergency>>,
}

/// What a transaction has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Statements sent.
    pub statements: u64,
    /// Why names without a schema may mislead.
    pub doubt: Option<Doubt>,
}

/// The limits that a transaction can be over, by their keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitName {
    /// `duration`
    Duration,
    /// `expires`
    Expires,
    /// `hours`
    Hours,
    /// The end of an emergency.
    Emergency,
}

impl LimitName {
    /// The key, as in the file.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            LimitName::Duration => "duration",
            LimitName::Expires => "expires",
            LimitName::Hours => "hours",
            LimitName::Emergency => "the emergency's end",
        }
    }
}

/// What one transaction may do.
#[derive(Clone, Debug, Default)]
pub struct Permit(Ground);

#[derive(Clone, Debug, Default)]
enum Ground {
    /// The login has no rules.
    #[default]
    Unlimited,
    /// This rule of its.
    Rule(Arc<[Rule]>, usize),
    /// An emergency.
    Emergency(Arc<Emergency>),
}

impl Permit {
    pub(super) const fn unlimited() -> Self {
        Self(Ground::Unlimited)
    }

    pub(super) const fn of_rule(rules: Arc<[Rule]>, at: usize) -> Self {
        Self(Ground::Rule(rules, at))
    }

    pub(super) const fn emergency(emergency: Arc<Emergency>) -> Self {
        Self(Ground::Emergency(emergency))
    }

    /// The rule under which it runs.
    #[must_use]
    pub fn rule(&self) -> Option<&Rule> {
        match &self.0 {
            Ground::Rule(rules, at) => rules.get(*at),
            Ground::Unlimited | Ground::Emergency(_) => None,
        }
    }

    /// The emergency under which it runs.
    #[must_use]
    pub const fn of_emergency(&self) -> Option<&Arc<Emergency>> {
        match &self.0 {
            Ground::Emergency(emergency) => Some(emergency),
            Ground::Unlimited | Ground::Rule(..) => None,
        }
    }

    /// Whether its transaction has to be one that cannot write.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.rule().is_some_and(|rule| rule.read_only)
    }

    /// How long it may go on, and what ends it then.
    #[must_use]
    pub fn remaining(&self, now: TimeOfDay) -> Option<(Duration, LimitName)> {
        let until = |end: TimeOfDay| micros(end.unix_micros().saturating_sub(now.unix_micros()));
        if let Some(emergency) = self.of_emergency() {
            return Some((until(emergency.until), LimitName::Emergency));
        }
        let rule = self.rule()?;
        let duration = rule.duration.map(|limit| (limit, LimitName::Duration));
        let expires = rule.expires.map(|end| (until(end), LimitName::Expires));
        let left = rule.hours.as_ref().map(|hours| hours.remaining_micros(now).unwrap_or(0));
        let hours = left.map(|left| (micros(left), LimitName::Hours));
        [duration, expires, hours].into_iter().flatten().min_by_key(|(left, _)| *left)
    }

    /// Whether a statement may be sent, behind what was used.
    ///
    /// # Errors
    /// The fault that the client is to see.
    pub fn judge(&self, statement: &Statement, usage: Usage) -> Result<(), Fault> {
        let Some(rule) = self.rule() else { return Ok(()) };
        if ends_a_transaction(&statement.control) {
            return Ok(());
        }
        if rule.read_only && (!is_reading(statement) || statement.control == Control::SetTransaction) {
            let detail = format!("{} The class is {}.", self.words("read_only"), statement.class.name());
            return Err(Fault::of(Code::BypassReadOnly).with_detail(detail));
        }
        if let Some(Err(what)) = rule.tables.as_ref().map(|tables| tables.judge(statement, usage.doubt)) {
            let detail = format!("{} {what}", self.words("tables"));
            return Err(Fault::of(Code::BypassTable).with_detail(detail));
        }
        if rule.rows.is_some() && !counts_its_rows(statement) {
            let detail = format!("{} The server does not say how many rows this statement writes.", self.words("rows"));
            return Err(Fault::of(Code::BypassOverLimit).with_detail(detail));
        }
        match rule.statements.filter(|most| usage.statements >= *most) {
            Some(most) => Err(self.over("statements", most, usage.statements.saturating_add(1))),
            None => Ok(()),
        }
    }

    /// Whether a statement may be sent as the first one of its transaction, by a client that has changed nothing.
    ///
    /// # Errors
    /// The fault that the client is to see.
    pub fn judge_alone(&self, statement: &Statement) -> Result<(), Fault> {
        self.judge(statement, Usage::default())
    }

    /// Why it cannot go on with so many rows.
    #[must_use]
    pub fn over_rows(&self, rows: u64) -> Option<Fault> {
        let most = self.rule()?.rows.filter(|most| rows > *most)?;
        Some(self.over("rows", most, rows))
    }

    /// Why it cannot go on now.
    #[must_use]
    pub fn over_time(&self, limit: LimitName) -> Fault {
        match (limit, self.rule().and_then(|rule| rule.duration)) {
            (LimitName::Emergency, _) => Fault::of(Code::EmergencyOver),
            (LimitName::Duration, Some(most)) => {
                let detail = format!("{} It is {} ms.", self.words("duration"), most.as_millis());
                Fault::of(Code::BypassOverLimit).with_detail(detail)
            }
            (LimitName::Duration | LimitName::Expires | LimitName::Hours, _) => {
                Fault::of(Code::BypassOverLimit).with_detail(self.words(limit.word()))
            }
        }
    }

    /// Why it cannot go on as bypasses stand now.
    #[must_use]
    pub fn revoked(&self, standing: &Standing) -> Option<Fault> {
        if let Some(why) = &standing.frozen {
            return Some(Fault::of(Code::BypassFrozen).with_detail(format!("The reason given is: {why}")));
        }
        let own = self.of_emergency()?;
        let is_open = standing.emergency.as_ref().is_some_and(|open| open.id == own.id) && own.until > standing.now;
        (!is_open).then(|| Fault::of(Code::EmergencyOver))
    }

    fn over(&self, limit: &str, most: u64, used: u64) -> Fault {
        let detail = format!("{} It is {most}; this would be {used}.", self.words(limit));
        Fault::of(Code::BypassOverLimit).with_detail(detail)
    }

    fn words(&self, limit: &str) -> String {
        match &self.0 {
            Ground::Rule(_, at) => format!("The limit is {limit} (rule {} of the login).", at + 1),
            Ground::Unlimited | Ground::Emergency(_) => format!("The limit is {limit}."),
        }
    }
}

/// Not before its time.
fn micros(left: i64) -> Duration {
    Duration::from_micros(u64::try_from(left).unwrap_or(0))
}

/// What a client has to be able to say in any state.
const fn ends_a_transaction(control: &Control) -> bool {
    matches!(control, Control::Commit { .. } | Control::Rollback { .. } | Control::RollbackTo(_) | Control::Release(_))
}

/// Whether the server's answer says how many rows a statement has written.
fn counts_its_rows(statement: &Statement) -> bool {
    use StatementClass as Class;
    match statement.class {
        Class::Explain => statement.writes.is_empty(),
        Class::Truncate | Class::Do | Class::Call | Class::CreateTableAs | Class::Definition | Class::Refresh => false,
        Class::Select
        | Class::Insert
        | Class::Update
        | Class::Delete
        | Class::Merge
        | Class::CopyIn
        | Class::CopyOut
        | Class::CopyServer
        | Class::DeclareCursor
        | Class::Fetch
        | Class::CloseCursor
        | Class::Transaction
        | Class::TwoPhase
        | Class::SetConstraints
        | Class::Setting
        | Class::Claim
        | Class::Show
        | Class::Discard
        | Class::Deallocate
        | Class::Listen
        | Class::Unlisten
        | Class::Notify
        | Class::AdvisoryUnlockAll
        | Class::Prepare
        | Class::Execute
        | Class::Lock
        | Class::Load
        | Class::CreateTemporary
        | Class::DropTemporary
        | Class::Privileges
        | Class::Roles
        | Class::Policies
        | Class::Maintenance
        | Class::Checkpoint
        | Class::Administration
        | Class::NotAStatement => !statement.writes_in_with,
    }
}

/// Whether a statement of this kind may stand in a transaction that only reads. The server has the last word: the transaction
/// is `READ ONLY` there.
fn is_reading(statement: &Statement) -> bool {
    use StatementClass as Class;
    let reads = match statement.class {
        Class::Select
        | Class::CopyOut
        | Class::DeclareCursor
        | Class::Fetch
        | Class::CloseCursor
        | Class::Transaction
        | Class::SetConstraints
        | Class::Setting
        | Class::Show
        | Class::Discard
        | Class::Deallocate
        | Class::Unlisten
        | Class::AdvisoryUnlockAll
        | Class::Prepare
        | Class::Execute
        | Class::Explain => true,
        Class::Insert
        | Class::Update
        | Class::Delete
        | Class::Merge
        | Class::CopyIn
        | Class::CopyServer
        | Class::TwoPhase
        | Class::Claim
        | Class::Listen
        | Class::Notify
        | Class::Lock
        | Class::Truncate
        | Class::Call
        | Class::Do
        | Class::Load
        | Class::CreateTableAs
        | Class::CreateTemporary
        | Class::DropTemporary
        | Class::Definition
        | Class::Privileges
        | Class::Roles
        | Class::Policies
        | Class::Maintenance
        | Class::Refresh
        | Class::Checkpoint
        | Class::Administration
        | Class::NotAStatement => false,
    };
    reads && statement.writes.is_empty() && !statement.functions.iter().any(|one| writes_large_objects(&one.name))
}

/// Functions that write large objects: before 16 PostgreSQL lets them do so in a transaction that is `READ ONLY`.
fn writes_large_objects(name: &str) -> bool {
    matches!(
        name,
        "lo_creat"
            | "lo_create"
            | "lo_from_bytea"
            | "lo_import"
            | "lo_put"
            | "lo_truncate"
            | "lo_truncate64"
            | "lo_unlink"
            | "lowrite"
    )
}

#[cfg(test)]
mod tests {
    use super::super::hours::Hours;
    use super::*;
    use crate::guard::{Limits, inspect};

    fn permit(rule: Rule) -> Permit {
        Permit::of_rule(Arc::new([rule]), 0)
    }

    fn judge(permit: &Permit, sql: &str, statements: u64) -> Option<Code> {
        let facts = inspect(sql.as_bytes(), &Limits::default()).unwrap();
        let usage = Usage { statements, ..Usage::default() };
        let judged = facts.statements.iter().try_for_each(|statement| permit.judge(statement, usage));
        judged.err().and_then(|fault| fault.code)
    }

    #[test]
    fn what_only_reads_names_no_write() {
        let permit = permit(Rule { read_only: true, ..Rule::default() });
        for sql in [
            "SELECT 1",
            "COPY a TO STDOUT",
            "SHOW all",
            "SET timezone = 'UTC'",
            "COMMIT",
            "ROLLBACK",
            "EXPLAIN SELECT 1",
        ] {
            assert_eq!(judge(&permit, sql, 0), None, "{sql}");
        }
        for sql in [
            "INSERT INTO a VALUES (1)",
            "WITH x AS (DELETE FROM a RETURNING *) SELECT * FROM x",
            "EXPLAIN ANALYZE UPDATE a SET b = 1",
            "COPY a FROM STDIN",
            "TRUNCATE a",
            "LOCK TABLE a",
            "CREATE TABLE a (b int)",
            "SET TRANSACTION READ WRITE",
            "SET transaction_read_only = off",
            "VACUUM a",
            "SELECT pg_catalog.lo_create(0)",
            "SELECT lowrite(0, 'a')",
            "DECLARE c CURSOR FOR SELECT lo_unlink(1)",
        ] {
            assert_eq!(judge(&permit, sql, 0), Some(Code::BypassReadOnly), "{sql}");
        }
    }

    #[test]
    fn the_last_statement_may_be_sent_and_the_end_always() {
        let permit = permit(Rule { statements: Some(2), ..Rule::default() });
        assert_eq!(judge(&permit, "SELECT 1", 1), None);
        assert_eq!(judge(&permit, "SELECT 1", 2), Some(Code::BypassOverLimit));
        assert_eq!(judge(&permit, "ROLLBACK", 2), None);
    }

    #[test]
    fn the_last_row_may_pass() {
        let permit = permit(Rule { rows: Some(2), ..Rule::default() });
        assert_eq!(permit.over_rows(2), None);
        let told = permit.over_rows(3).unwrap().detail.unwrap();
        assert!(told.contains("rows (rule 1") && told.contains("It is 2; this would be 3"), "{told}");
        assert_eq!(Permit::unlimited().over_rows(u64::MAX), None);
    }

    #[test]
    fn rows_that_no_tag_counts_are_none_where_rows_are_limited() {
        let limited = permit(Rule { rows: Some(2), ..Rule::default() });
        for sql in [
            "WITH x AS (UPDATE a SET b = 1) SELECT 1",
            "WITH x AS (UPDATE a SET b = 1) UPDATE a SET b = 1 WHERE false",
            "SELECT * FROM (WITH x AS (SELECT 1) SELECT * FROM x) y UNION ALL (WITH z AS (DELETE FROM a RETURNING 1) SELECT 1)",
            "COPY (WITH x AS (INSERT INTO a SELECT 1) SELECT 1) TO STDOUT",
            "EXPLAIN ANALYZE DELETE FROM a",
            "TRUNCATE a",
        ] {
            assert_eq!(judge(&limited, sql, 0), Some(Code::BypassOverLimit), "{sql}");
            assert_eq!(judge(&permit(Rule::default()), sql, 0), None, "{sql}");
        }
        for sql in [
            "WITH x AS (SELECT 1) UPDATE a SET b = 1",
            "INSERT INTO a SELECT 1 ON CONFLICT (b) DO UPDATE SET b = 1",
            "EXPLAIN SELECT 1",
            "COPY (DELETE FROM a RETURNING b) TO STDOUT",
        ] {
            assert_eq!(judge(&limited, sql, 0), None, "{sql}");
        }
    }

    #[test]
    fn the_first_end_counts() {
        // A Monday.
        let now = TimeOfDay::from_unix_micros(1_795_392_000_000_000);
        let later = |seconds: i64| TimeOfDay::from_unix_micros(now.unix_micros() + seconds * 1_000_000);
        let rule = |duration, expires| {
            let hours = Some(Hours::parse(["Mon 00:00-01:00"]).unwrap());
            permit(Rule {
                duration: Some(Duration::from_secs(duration)),
                expires: Some(later(expires)),
                hours,
                ..Rule::default()
            })
        };
        assert_eq!(rule(5, 6).remaining(now), Some((Duration::from_secs(5), LimitName::Duration)));
        assert_eq!(rule(7, 6).remaining(now), Some((Duration::from_secs(6), LimitName::Expires)));
        assert_eq!(rule(9_000, 8_000).remaining(now), Some((Duration::from_secs(3_600), LimitName::Hours)));
        assert_eq!(Permit::unlimited().remaining(now), None);
    }
}
