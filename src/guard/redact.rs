//! A statement's text without its literals, for the ledger.
//!
//! Owns: a tokenizer over PostgreSQL's lexical rules that keeps names, keywords and operators and drops values and
//! comments. Does not own: whether a text is SQL: it is asked only about texts the parser has taken.
//!
//! What it does not understand has no redacted text at all: personal data in a ledger cannot be taken back.

use super::facts::StatementClass;

/// What stands in a literal's place.
const PLACE: &str = "?";

/// Longest word or name that is written: PostgreSQL's own are cut at 63 bytes.
const TOKEN_BYTES_MAX: usize = 256;

/// The statement without literals and comments, cut at about `bytes_max`; `None` where that cannot be done for certain.
/// The flag says that it was cut.
#[must_use]
pub fn redacted(sql: &str, class: StatementClass, bytes_max: usize) -> Option<(String, bool)> {
    let mut redactor = Redactor { rest: sql, out: String::new(), wants_space: false, is_cut: false };
    let mut watch = SetWatch::new(class);
    loop {
        redactor.skip_blanks_and_comments()?;
        if redactor.rest.is_empty() {
            break;
        }
        if redactor.out.len() > bytes_max {
            redactor.is_cut = true;
            break;
        }
        let token = redactor.token()?;
        if watch.is_value(&token) {
            redactor.wants_space = true;
            redactor.put(&Token::Literal);
            break;
        }
        redactor.put(&token);
    }
    Some((redactor.out, redactor.is_cut))
}

enum Token<'t> {
    Word(&'t str),
    Quoted(&'t str),
    Mark(&'t str),
    Parameter(&'t str),
    Literal,
}

/// Outside of DML, what follows `SET name =` is a value even where it looks like a name.
struct SetWatch {
    is_on: bool,
    state: SetState,
}

/// Where in a SET a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SetState {
    /// In none.
    Outside,
    /// Behind SET.
    Set,
    /// Behind LOCAL, SESSION or TIME, which may be the first part of a name, too.
    Modifier,
    /// Behind a word that takes a value without `=`, as `SET TIME ZONE x`; or it is the first part of a name.
    Taker,
    /// Behind a part of a name.
    Name,
    /// Behind a dot: whatever comes is a part of a name.
    Dot,
    /// Behind `=` or TO.
    Value,
}

impl SetWatch {
    fn new(class: StatementClass) -> Self {
        use StatementClass as Class;
        let is_dml = matches!(class, Class::Insert | Class::Update | Class::Delete | Class::Merge | Class::Select);
        Self { is_on: !is_dml, state: SetState::Outside }
    }

    /// Whether a value begins with this token.
    fn is_value(&mut self, token: &Token<'_>) -> bool {
        use SetState as State;
        if !self.is_on {
            return false;
        }
        let word = match token {
            Token::Word(word) => word.to_ascii_lowercase(),
            Token::Mark(mark) => (*mark).to_owned(),
            Token::Quoted(_) | Token::Parameter(_) | Token::Literal => String::new(),
        };
        self.state = match (self.state, word.as_str()) {
            (State::Value, _) => return true,
            (State::Dot, _) => State::Name,
            (State::Modifier | State::Taker | State::Name, ".") => State::Dot,
            (State::Modifier | State::Taker | State::Name, "=" | "to") => State::Value,
            (State::Taker, _) => return true,
            (State::Outside | State::Name, "set") => State::Set,
            (State::Outside | State::Name, _) => State::Outside,
            (State::Set | State::Modifier, "local" | "session" | "time") => State::Modifier,
            (State::Set | State::Modifier, "names" | "role" | "schema" | "zone" | "authorization") => State::Taker,
            (State::Set | State::Modifier, "(") => State::Outside,
            (State::Set | State::Modifier, _) => State::Name,
        };
        false
    }
}

struct Redactor<'t> {
    rest: &'t str,
    out: String,
    wants_space: bool,
    /// Something was left out for its length.
    is_cut: bool,
}

impl<'t> Redactor<'t> {
    fn put(&mut self, token: &Token<'_>) {
        let text = match token {
            Token::Word(text) | Token::Quoted(text) | Token::Mark(text) | Token::Parameter(text) => text,
            Token::Literal => PLACE,
        };
        let is_long = text.len() > TOKEN_BYTES_MAX;
        let text = if is_long { PLACE } else { text };
        self.is_cut |= is_long;
        if self.wants_space && !self.out.is_empty() {
            self.out.push(' ');
        }
        self.out.push_str(text);
        self.wants_space = false;
    }

    fn take(&mut self, bytes: usize) -> Option<&'t str> {
        let (taken, rest) = (self.rest.get(..bytes)?, self.rest.get(bytes..)?);
        self.rest = rest;
        Some(taken)
    }

    fn skip_blanks_and_comments(&mut self) -> Option<()> {
        loop {
            let trimmed = self.rest.trim_start_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
            self.wants_space |= trimmed.len() < self.rest.len();
            self.rest = trimmed;
            if let Some(comment) = trimmed.strip_prefix("--") {
                self.rest = comment.find(['\n', '\r']).and_then(|end| comment.get(end..)).unwrap_or_default();
            } else if trimmed.starts_with("/*") {
                self.rest = after_block_comment(trimmed)?;
                self.wants_space = true;
            } else {
                return Some(());
            }
        }
    }

    fn token(&mut self) -> Option<Token<'t>> {
        let first = self.rest.chars().next()?;
        match first {
            '\'' => self.string(false),
            '"' => self.quoted(),
            '$' => self.dollar(),
            '0'..='9' => self.number(),
            '.' if self.rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit) => self.number(),
            _ if is_word_start(first) => self.word(),
            _ => self.mark(),
        }
    }

    fn word(&mut self) -> Option<Token<'t>> {
        let end = self.rest.find(|c| !is_word_part(c)).unwrap_or(self.rest.len());
        let (word, behind) = (self.rest.get(..end)?, self.rest.get(end..)?);
        let is_prefix = |letters: &str| word.len() == 1 && letters.contains(&word.to_ascii_lowercase());
        if behind.starts_with('\'') && is_prefix("ebxn") {
            self.take(end)?;
            return self.string(is_prefix("e"));
        }
        if is_prefix("u") && (behind.starts_with("&'") || behind.starts_with("&\"")) {
            // U&'…' is a string; U&"…" is a name, but an escaped one: no use to a reader.
            self.take(end + 1)?;
            return if self.rest.starts_with('\'') {
                self.string(false)
            } else {
                self.quoted().map(|_| Token::Literal)
            };
        }
        self.take(end).map(Token::Word)
    }

    /// A string and its continuations; a quote is doubled inside, and in `E''` also escaped.
    fn string(&mut self, has_escapes: bool) -> Option<Token<'t>> {
        let mut bytes = self.rest.as_bytes().iter().enumerate().skip(1).peekable();
        let mut end = None;
        while let Some((at, byte)) = bytes.next() {
            match byte {
                b'\\' if has_escapes => drop(bytes.next()?),
                b'\'' if bytes.peek().is_some_and(|(_, next)| **next == b'\'') => drop(bytes.next()),
                b'\'' => {
                    end = Some(at + 1);
                    break;
                }
                _ => {}
            }
        }
        self.take(end?)?;
        // `'a' <newline> 'b'` is one string: the second is a literal of its own here, and as gone, but in `E''` its escapes
        // would have to be read.
        let next = self.rest.trim_start_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
        if has_escapes && (next.starts_with('\'') || next.starts_with("--")) {
            return None;
        }
        Some(Token::Literal)
    }

    fn quoted(&mut self) -> Option<Token<'t>> {
        let mut at = 1;
        loop {
            at += self.rest.get(at..)?.find('"')? + 1;
            if !self.rest.get(at..)?.starts_with('"') {
                return self.take(at).map(Token::Quoted);
            }
            at += 1;
        }
    }

    /// `$1`, `$$…$$`, `$tag$…$tag$`.
    fn dollar(&mut self) -> Option<Token<'t>> {
        let behind = self.rest.get(1..)?;
        let digits = behind.find(|c: char| !c.is_ascii_digit()).unwrap_or(behind.len());
        if digits > 0 {
            return self.take(digits + 1).map(Token::Parameter);
        }
        let tag_end = behind.find('$')?;
        let tag = behind.get(..tag_end)?;
        if !tag.chars().all(|c| is_word_part(c) && c != '$') {
            return None;
        }
        let delimiter = self.rest.get(..tag_end + 2)?;
        let body = self.rest.get(delimiter.len()..)?;
        let end = body.find(delimiter)?;
        self.take(delimiter.len() * 2 + end)?;
        Some(Token::Literal)
    }

    /// Digits with fractions, exponents, `0x…`, `1_000`: what may belong to a number, all of it.
    fn number(&mut self) -> Option<Token<'t>> {
        let bytes = self.rest.as_bytes();
        let mut end = 0;
        while let Some(&byte) = bytes.get(end) {
            let is_exponent_sign = matches!(byte, b'+' | b'-')
                && end > 0
                && matches!(bytes.get(end - 1), Some(b'e' | b'E'))
                && !self.rest.starts_with("0x")
                && !self.rest.starts_with("0X")
                && bytes.get(end + 1).is_some_and(u8::is_ascii_digit);
            let is_range = byte == b'.' && bytes.get(end + 1) == Some(&b'.');
            let is_part = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.') || byte >= 0x80;
            if is_range || !(is_part || is_exponent_sign) {
                break;
            }
            end += 1;
        }
        self.take(end)?;
        Some(Token::Literal)
    }

    fn mark(&mut self) -> Option<Token<'t>> {
        for long in ["::", ":=", "=>", "<>", "<=", ">=", "!=", "||", "->>", "->", "#>>", "#>"] {
            if self.rest.starts_with(long) {
                return self.take(long.len()).map(Token::Mark);
            }
        }
        let first = self.rest.chars().next()?;
        first.is_ascii_punctuation().then(|| self.take(1).map(Token::Mark))?
    }
}

fn after_block_comment(text: &str) -> Option<&str> {
    let mut depth = 0_usize;
    let mut rest = text;
    loop {
        if let Some(behind) = rest.strip_prefix("/*") {
            depth += 1;
            rest = behind;
        } else if let Some(behind) = rest.strip_prefix("*/") {
            depth -= 1;
            rest = behind;
            if depth == 0 {
                return Some(rest);
            }
        } else {
            let mut chars = rest.chars();
            chars.next()?;
            rest = chars.as_str();
        }
    }
}

fn is_word_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

fn is_word_part(c: char) -> bool {
    is_word_start(c) || c.is_ascii_digit() || c == '$'
}

#[cfg(test)]
mod tests {
    use super::super::statement::facts_of;
    use super::super::text::Limits;
    use super::*;

    fn of(sql: &str) -> String {
        let facts = facts_of(sql.as_bytes(), &Limits::default()).unwrap();
        redacted(sql, facts.statements[0].class, 4096).unwrap().0
    }

    #[test]
    fn names_stay_and_values_go() {
        for (sql, wanted) in [
            ("SELECT a, 'x''y' FROM t WHERE b = 42", "SELECT a, ? FROM t WHERE b = ?"),
            (
                "select  *\nfrom \"A b\".c -- 'secret'\nwhere d=E'a\\'b' /* x /* y */ */ and e=$1",
                "select * from \"A b\".c where d=? and e=$1",
            ),
            ("SELECT f(1.5e-3, .5, 0x1F, 1_000)", "SELECT f(?, ?, ?, ?)"),
            ("SELECT U&'\\0061', B'1', x'ff', N'a', $$b$$, $t$c $$ d$t$", "SELECT ?, ?, ?, ?, ?, ?"),
            ("SELECT 'a'\n'b', date '2020-01-01'", "SELECT ? ?, date ?"),
            ("SELECT a[1:2], b::int, c->>'k'", "SELECT a[?:?], b::int, c->>?"),
            ("SET application_name = secret", "SET application_name = ?"),
            ("SET LOCAL app.name TO secret, more", "SET LOCAL app.name TO ?"),
            ("SET TIME ZONE secret", "SET TIME ZONE ?"),
            ("ALTER ROLE r SET app.x TO secret", "ALTER ROLE r SET app.x TO ?"),
            ("ALTER ROLE r SET app.time TO secret", "ALTER ROLE r SET app.time TO ?"),
            ("SET myapp.session = secret", "SET myapp.session = ?"),
            ("SET local.x = secret", "SET local.x = ?"),
            ("SET LOCAL local.session.time = secret", "SET LOCAL local.session.time = ?"),
            ("SET session.local TO secret", "SET session.local TO ?"),
            ("SET time.zone = secret", "SET time.zone = ?"),
            ("SET zone . role TO secret, more", "SET zone . role TO ?"),
            ("SET role.names = secret", "SET role.names = ?"),
            ("SET names = secret", "SET names = ?"),
            ("SET role = secret", "SET role = ?"),
            ("SET ROLE secret", "SET ROLE ?"),
            ("SET SESSION AUTHORIZATION secret", "SET SESSION AUTHORIZATION ?"),
            ("SET app.set = secret", "SET app.set = ?"),
            ("SET \"a\".\"set\" = secret", "SET \"a\".\"set\" = ?"),
            ("SET LOCAL transaction_isolation = secret", "SET LOCAL transaction_isolation = ?"),
            ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"),
            (
                "CREATE FUNCTION f() RETURNS int SET time.x = secret RETURN 1",
                "CREATE FUNCTION f() RETURNS int SET time.x = ?",
            ),
            (
                "ALTER TABLE t ALTER c SET NOT NULL, ALTER d SET DEFAULT x",
                "ALTER TABLE t ALTER c SET NOT NULL, ALTER d SET DEFAULT x",
            ),
            ("ALTER ROLE r PASSWORD 'secret'", "ALTER ROLE r PASSWORD ?"),
            ("ALTER TABLE t SET (fillfactor = 70)", "ALTER TABLE t SET (fillfactor = ?)"),
            ("UPDATE t SET a = b, c = 'x' WHERE d", "UPDATE t SET a = b, c = ? WHERE d"),
            ("DO $x$ begin secret; end $x$", "DO ?"),
        ] {
            assert_eq!(of(sql), wanted, "{sql}");
        }
    }

    #[test]
    fn no_literal_of_the_guards_own_tables_survives() {
        for sql in [
            "COPY t FROM STDIN WITH (DELIMITER 'geheim')",
            "INSERT INTO t VALUES ('geheim', E'geheim\\\\', $$geheim$$)",
        ] {
            assert!(!of(sql).contains("geheim"), "{sql}");
        }
    }

    const FRONTS: [&str; 10] = [
        "SET",
        "set  LOCAL",
        "SET SESSION",
        "ALTER ROLE r SET",
        "ALTER ROLE ALL IN DATABASE d SET",
        "ALTER DATABASE d SET",
        "ALTER FUNCTION set() SET",
        "ALTER SYSTEM SET",
        "ALTER FUNCTION f() STABLE SET",
        "CREATE FUNCTION f() RETURNS int SET",
    ];
    const PARTS: [&str; 24] = [
        "app",
        "time",
        "zone",
        "local",
        "session",
        "names",
        "role",
        "schema",
        "authorization",
        "set",
        "\"to\"",
        "\"=\"",
        "xml",
        "transaction",
        "characteristics",
        "ä",
        "a$1",
        "\"a.b\"",
        "\"A \"\" b\"",
        "_",
        "search_path",
        "value",
        "option",
        "reset",
    ];
    const BLANKS: [&str; 5] = ["", " ", "\n", " /* = TO . */ ", " -- to\n"];
    const SIGNS: [&str; 5] = ["=", " TO ", " to ", "= ", " = "];
    const VALUES: [&str; 9] = [
        "geheim",
        "geheim, x",
        "x, geheim",
        "'geheim'",
        "\"geheim\"",
        "E'geheim'",
        "$$geheim$$",
        "-5, geheim",
        "on, \"geheim\"",
    ];

    /// SET in random forms, with a word as its value that must not be seen again.
    #[test]
    fn no_value_of_any_set_survives() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut below = |bound: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(seed >> 33).unwrap() % bound
        };
        let (mut seen, mut kept) = (0, 0);
        for _ in 0..40_000 {
            let mut name = PARTS[below(PARTS.len())].to_owned();
            for _ in 0..below(3) {
                name = [&name, BLANKS[below(5)], ".", BLANKS[below(5)], PARTS[below(PARTS.len())]].concat();
            }
            let front = FRONTS[below(FRONTS.len())];
            let (gap, sign, value) = (BLANKS[1 + below(4)], SIGNS[below(5)], VALUES[below(VALUES.len())]);
            let sql = format!("{front}{gap}{name}{}{sign}{}{value}", BLANKS[below(5)], BLANKS[below(5)]);
            let Ok(facts) = facts_of(sql.as_bytes(), &Limits::default()) else { continue };
            seen += 1;
            let Some((text, _)) = redacted(&sql, facts.statements[0].class, 4096) else { continue };
            kept += 1;
            assert!(!text.contains("geheim"), "{sql}\n{text}");
        }
        assert!(seen > 15_000 && kept > seen * 9 / 10, "{seen} {kept}");
    }

    #[test]
    fn no_word_or_name_is_longer_than_its_bound() {
        let long = "x".repeat(100_000);
        for sql in [
            format!("SELECT {long} FROM t"),
            format!("SELECT \"{long}\" FROM t"),
            format!("SELECT ${} FROM t", "1".repeat(100_000)),
        ] {
            let (text, is_cut) = redacted(&sql, StatementClass::Select, 4096).unwrap();
            assert_eq!((text.as_str(), is_cut), ("SELECT ? FROM t", true));
        }
        let name = "x".repeat(TOKEN_BYTES_MAX);
        let (text, is_cut) = redacted(&format!("SELECT {name}"), StatementClass::Select, 4096).unwrap();
        assert!(text.contains(&name) && !is_cut);
    }

    #[test]
    fn what_is_long_is_cut_and_what_is_strange_has_no_text() {
        let long = format!("SELECT {}1", "a, ".repeat(5000));
        let (text, is_cut) = redacted(&long, StatementClass::Select, 100).unwrap();
        assert!(is_cut && text.len() < 200);
        assert_eq!(redacted("SELECT 'a", StatementClass::Select, 100), None);
        assert_eq!(redacted("SELECT E'a'\n'b\\'c'", StatementClass::Select, 100), None);
        assert_eq!(redacted("SELECT /* x", StatementClass::Select, 100), None);
    }
}
