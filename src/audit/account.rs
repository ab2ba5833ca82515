//! What a running transaction has done so far, within bounds.

use super::chain::Digest;
use super::record::{Conclusion, Done, Outcome, StatementNote, Xid};
use crate::fault::SqlState;
use crate::guard::{RelationUse, Statement, redacted};

/// Most statements of a transaction that are written down; more are counted. A reader sees what it was about.
const STATEMENTS_MAX: usize = 100;

/// Most bytes of their texts together: with escapes and names a line stays well under 256 KiB.
const TEXT_BYTES_MAX: usize = 16 * 1024;

/// Most bytes of one text.
const STATEMENT_BYTES_MAX: usize = 4 * 1024;

/// Most tables that are named.
const TABLES_MAX: usize = 200;

/// Most bytes of the names of tables, of all together and of those of each statement again: as escapes, six times that.
const NAMED_BYTES_MAX: usize = 8 * 1024;

/// Most digests of parameters; of 32 letters each. More are counted out as truncated.
pub(super) const PARAMETERS_MAX: usize = 400;

/// The account of one transaction.
#[derive(Clone, Debug, Default)]
pub struct Account {
    done: Done,
    text_bytes: usize,
    table_bytes: usize,
    named_bytes: usize,
    parameters: usize,
    /// Statements that were answered, of those that are written down.
    answered: usize,
    /// What the pre-commit record said.
    xid: Option<Xid>,
}

impl Account {
    /// A statement is sent; `text` is its own, `parameters` the digests of its parameters' values.
    pub fn note_statement(&mut self, statement: &Statement, text: &str, parameters: Option<Vec<Option<Box<str>>>>) {
        self.done.statements_total = self.done.statements_total.saturating_add(1);
        self.note_tables(statement);
        if self.done.statements.len() >= STATEMENTS_MAX {
            self.done.is_truncated = true;
            return;
        }
        let verb = verb(text);
        let room = STATEMENT_BYTES_MAX.min(TEXT_BYTES_MAX.saturating_sub(self.text_bytes));
        let (text, fingerprint) = match redacted(text, statement.class, room) {
            Some((text, is_cut)) => {
                self.done.is_truncated |= is_cut;
                let fingerprint = (!is_cut).then(|| fingerprint(&text));
                ((room > 0).then_some(text), fingerprint)
            }
            None => (None, None),
        };
        self.text_bytes = self.text_bytes.saturating_add(text.as_ref().map_or(0, String::len));
        let tables = self.tables_of(statement);
        let parameters = self.take_parameters(parameters);
        self.done.statements.push(StatementNote {
            class: statement.class,
            verb,
            text: text.map(Into::into),
            fingerprint,
            tables,
            rows: None,
            sqlstate: None,
            parameters,
        });
    }

    /// Something of what was sent is not written down.
    pub const fn note_untold(&mut self) {
        self.done.is_truncated = true;
    }

    /// A statement that was sent before the record began, and answered: what it has opened may be read behind that.
    pub fn note_earlier(&mut self, statement: &Statement, text: &str) {
        self.note_statement(statement, text, None);
        self.answered = self.answered.max(self.done.statements.len());
    }

    fn tables_of(&mut self, statement: &Statement) -> Vec<Box<str>> {
        let mut tables: Vec<Box<str>> = Vec::new();
        for relation in &statement.relations {
            let name = name_of(relation);
            if tables.contains(&name) {
                continue;
            }
            self.named_bytes = self.named_bytes.saturating_add(name.len());
            if self.named_bytes > NAMED_BYTES_MAX {
                self.done.is_truncated = true;
                break;
            }
            tables.push(name);
        }
        tables
    }

    fn take_parameters(&mut self, parameters: Option<Vec<Option<Box<str>>>>) -> Option<Vec<Option<Box<str>>>> {
        let mut parameters = parameters?;
        let room = PARAMETERS_MAX.saturating_sub(self.parameters);
        self.done.is_truncated |= parameters.len() > room;
        parameters.truncate(room);
        self.parameters = self.parameters.saturating_add(parameters.len());
        Some(parameters)
    }

    fn note_tables(&mut self, statement: &Statement) {
        for relation in statement.relations.iter().filter(|relation| !relation.is_common) {
            let name = name_of(relation);
            if self.done.tables.contains(&name) {
                continue;
            }
            self.table_bytes = self.table_bytes.saturating_add(name.len());
            if self.done.tables.len() >= TABLES_MAX || self.table_bytes > NAMED_BYTES_MAX {
                self.done.is_truncated = true;
                return;
            }
            self.done.tables.push(name);
        }
    }

    /// A row (or a line of COPY data) is on its way to the client.
    pub const fn note_row(&mut self) {
        self.done.rows_delivered = self.done.rows_delivered.saturating_add(1);
    }

    /// A CommandComplete came; `is_copy_in` says that COPY counts rows written.
    pub fn note_tag(&mut self, tag: &[u8], is_copy_in: bool) {
        let Ok(tag) = std::str::from_utf8(tag) else { return };
        let mut words = tag.split(' ');
        let verb = words.next().unwrap_or_default();
        let writes = match verb {
            "INSERT" | "UPDATE" | "DELETE" | "MERGE" => true,
            "COPY" => is_copy_in,
            _ => false,
        };
        let rows = words.next_back().and_then(|word| word.parse::<u64>().ok());
        if let Some(rows) = rows.filter(|_| writes) {
            self.done.rows_affected = self.done.rows_affected.saturating_add(rows);
        }
        self.answer(|note| note.rows = rows);
    }

    /// A statement has failed. What was sent behind it is skipped, and never answered.
    pub fn note_failure(&mut self, sqlstate: SqlState) {
        self.answer(|note| note.sqlstate = Some(sqlstate));
        self.answered = self.answered.max(self.done.statements.len());
    }

    /// What was sent is not executed once each in its order: from here on nobody can say whose an answer is, and only the
    /// transaction's sums are told.
    pub const fn lose_order(&mut self) {
        self.answered = usize::MAX;
    }

    /// Servers answer in order: the first statement that was not answered.
    fn answer(&mut self, with: impl FnOnce(&mut StatementNote)) {
        if let Some(note) = self.done.statements.get_mut(self.answered) {
            with(note);
            self.answered = self.answered.saturating_add(1);
        }
    }

    /// What has been done so far, and how many rows that has been.
    #[must_use]
    pub const fn done(&self) -> &Done {
        &self.done
    }

    /// The pre-commit record has said this.
    pub const fn note_xid(&mut self, xid: Option<Xid>) {
        self.xid = xid;
    }

    /// How many statements were sent.
    #[must_use]
    pub const fn statements_total(&self) -> u64 {
        self.done.statements_total
    }

    /// How many rows were delivered and written.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.done.rows_delivered.saturating_add(self.done.rows_affected)
    }

    /// Ends the account.
    #[must_use]
    pub fn conclude(self, conclusion: Conclusion, sqlstate: Option<SqlState>) -> Outcome {
        Outcome { conclusion, sqlstate, code: None, xid: self.xid, duration_micros: None, done: self.done }
    }
}

fn name_of(relation: &RelationUse) -> Box<str> {
    match &relation.schema {
        Some(schema) => format!("{schema}.{}", relation.name).into(),
        None => relation.name.to_string().into(),
    }
}

/// The first word of a statement; none of a text that begins with a comment.
fn verb(text: &str) -> Box<str> {
    let letters: String =
        text.trim_start().chars().take_while(char::is_ascii_alphabetic).take(VERB_CHARS_MAX).collect();
    letters.to_ascii_uppercase().into()
}

/// Longest verb.
const VERB_CHARS_MAX: usize = 16;

fn fingerprint(text: &str) -> u64 {
    let mut bytes = [0; 8];
    bytes.iter_mut().zip(Digest::of(text.as_bytes()).as_bytes()).for_each(|(to, from)| *to = *from);
    u64::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::{Limits, inspect};

    fn note(account: &mut Account, sql: &str) {
        let facts = inspect(sql.as_bytes(), &Limits::default()).unwrap();
        for statement in &facts.statements {
            account.note_statement(statement, &sql[statement.range(sql.len())], None);
        }
    }

    #[test]
    fn statements_and_tables_are_bounded() {
        let mut account = Account::default();
        for number in 0..300 {
            note(&mut account, &format!("SELECT 'geheim', {} FROM s.t{number}", "a, ".repeat(100) + "b"));
        }
        let outcome = account.conclude(Conclusion::Committed, None).done;
        assert_eq!((outcome.statements.len(), outcome.statements_total, outcome.tables.len()), (100, 300, 200));
        assert!(outcome.is_truncated);
        let bytes: usize = outcome.statements.iter().filter_map(|note| note.text.as_ref()).map(|text| text.len()).sum();
        assert!(bytes < TEXT_BYTES_MAX + STATEMENT_BYTES_MAX, "{bytes}");
        assert!(!format!("{outcome:?}").contains("geheim"));
    }

    #[test]
    fn each_statement_has_its_own_answer() {
        let mut account = Account::default();
        note(&mut account, "SELECT 1 FROM a; INSERT INTO s.b VALUES (2); /* c */ SELECT 1 FROM a");
        account.note_tag(b"SELECT 7", false);
        account.note_failure(SqlState(*b"23505"));
        let done = account.conclude(Conclusion::Failed, None).done;
        let rows: Vec<_> =
            done.statements.iter().map(|note| (&*note.verb, note.rows, note.sqlstate.is_some())).collect();
        assert_eq!(rows, [("SELECT", Some(7), false), ("INSERT", None, true), ("SELECT", None, false)]);
        assert_eq!(*done.statements[1].tables, ["s.b".into()]);
        let print = |index: usize| done.statements[index].fingerprint.unwrap();
        assert!(print(0) == print(2) && print(0) != print(1));
    }

    #[test]
    fn an_answer_is_nobodys_where_the_order_is_lost_or_the_statement_was_skipped() {
        let mut account = Account::default();
        note(&mut account, "SELECT 1; SELECT 2");
        account.note_failure(SqlState(*b"22012"));
        note(&mut account, "UPDATE t SET a = 1");
        account.note_tag(b"UPDATE 3", false);
        note(&mut account, "SELECT 4; SELECT 5");
        account.lose_order();
        account.note_tag(b"SELECT 7", false);
        let notes = account.conclude(Conclusion::Committed, None).done.statements;
        assert_eq!(notes.iter().map(|it| it.rows).collect::<Vec<_>>(), [None, None, Some(3), None, None]);
        assert!(notes[0].sqlstate.is_some() && notes[1].sqlstate.is_none());
    }

    #[test]
    fn rows_are_counted_by_the_servers_words() {
        let mut account = Account::default();
        for (tag, is_copy_in) in
            [("INSERT 0 5", false), ("UPDATE 2", false), ("SELECT 9", false), ("COPY 3", true), ("COPY 4", false)]
        {
            account.note_tag(tag.as_bytes(), is_copy_in);
        }
        account.note_row();
        let outcome = account.conclude(Conclusion::Committed, None).done;
        assert_eq!((outcome.rows_affected, outcome.rows_delivered), (10, 1));
    }
}
