//! What a running transaction has done so far, within bounds.

use super::record::{Conclusion, Outcome, StatementNote};
use crate::fault::SqlState;
use crate::guard::{Statement, redacted};

/// Most statements of a transaction that are written down; more are counted. A reader sees what it was about.
const STATEMENTS_MAX: usize = 100;

/// Most bytes of their texts together: with escapes and names a line stays well under 256 KiB.
const TEXT_BYTES_MAX: usize = 16 * 1024;

/// Most bytes of one text.
const STATEMENT_BYTES_MAX: usize = 4 * 1024;

/// Most tables that are named.
const TABLES_MAX: usize = 200;

/// The account of one transaction.
#[derive(Clone, Debug, Default)]
pub struct Account {
    statements: Vec<StatementNote>,
    statements_total: u64,
    text_bytes: usize,
    tables: Vec<Box<str>>,
    rows_delivered: u64,
    rows_affected: u64,
    is_truncated: bool,
}

impl Account {
    /// A statement is sent; `text` is its own.
    pub fn note_statement(&mut self, statement: &Statement, text: &str) {
        self.statements_total = self.statements_total.saturating_add(1);
        self.note_tables(statement);
        if self.statements.len() >= STATEMENTS_MAX {
            self.is_truncated = true;
            return;
        }
        let room = STATEMENT_BYTES_MAX.min(TEXT_BYTES_MAX.saturating_sub(self.text_bytes));
        let text = match redacted(text, statement.class, room) {
            Some((text, is_cut)) => {
                self.is_truncated |= is_cut;
                (room > 0).then_some(text)
            }
            None => None,
        };
        self.text_bytes = self.text_bytes.saturating_add(text.as_ref().map_or(0, String::len));
        self.statements.push(StatementNote { class: statement.class, text: text.map(Into::into) });
    }

    fn note_tables(&mut self, statement: &Statement) {
        for relation in statement.relations.iter().filter(|relation| !relation.is_common) {
            let name = match &relation.schema {
                Some(schema) => format!("{schema}.{}", relation.name),
                None => relation.name.to_string(),
            };
            if self.tables.iter().any(|known| **known == *name) {
                continue;
            }
            if self.tables.len() >= TABLES_MAX {
                self.is_truncated = true;
                return;
            }
            self.tables.push(name.into());
        }
    }

    /// A row (or a line of COPY data) is on its way to the client.
    pub const fn note_row(&mut self) {
        self.rows_delivered = self.rows_delivered.saturating_add(1);
    }

    /// A CommandComplete came; `is_copy_in` says that COPY counts rows written.
    pub fn note_tag(&mut self, tag: &[u8], is_copy_in: bool) {
        let Ok(tag) = std::str::from_utf8(tag) else { return };
        let mut words = tag.split(' ');
        let writes = match words.next() {
            Some("INSERT" | "UPDATE" | "DELETE" | "MERGE") => true,
            Some("COPY") => is_copy_in,
            _ => false,
        };
        let rows = words.next_back().and_then(|word| word.parse::<u64>().ok());
        if let Some(rows) = rows.filter(|_| writes) {
            self.rows_affected = self.rows_affected.saturating_add(rows);
        }
    }

    /// How many statements were sent.
    #[must_use]
    pub const fn statements_total(&self) -> u64 {
        self.statements_total
    }

    /// How many rows were delivered and written.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.rows_delivered.saturating_add(self.rows_affected)
    }

    /// Ends the account.
    #[must_use]
    pub fn conclude(self, conclusion: Conclusion, sqlstate: Option<SqlState>) -> Outcome {
        let Self { statements, statements_total, tables, rows_delivered, rows_affected, is_truncated, text_bytes: _ } =
            self;
        Outcome {
            conclusion,
            sqlstate,
            statements,
            statements_total,
            tables,
            rows_delivered,
            rows_affected,
            is_truncated,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::{Limits, inspect};

    fn note(account: &mut Account, sql: &str) {
        let facts = inspect(sql.as_bytes(), &Limits::default()).unwrap();
        for statement in &facts.statements {
            account.note_statement(statement, &sql[statement.range(sql.len())]);
        }
    }

    #[test]
    fn statements_and_tables_are_bounded() {
        let mut account = Account::default();
        for number in 0..300 {
            note(&mut account, &format!("SELECT 'geheim', {} FROM s.t{number}", "a, ".repeat(100) + "b"));
        }
        let outcome = account.conclude(Conclusion::Committed, None);
        assert_eq!((outcome.statements.len(), outcome.statements_total, outcome.tables.len()), (100, 300, 200));
        assert!(outcome.is_truncated);
        let bytes: usize = outcome.statements.iter().filter_map(|note| note.text.as_ref()).map(|text| text.len()).sum();
        assert!(bytes < TEXT_BYTES_MAX + STATEMENT_BYTES_MAX, "{bytes}");
        assert!(!format!("{outcome:?}").contains("geheim"));
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
        let outcome = account.conclude(Conclusion::Committed, None);
        assert_eq!((outcome.rows_affected, outcome.rows_delivered), (10, 1));
    }
}
