//! The shape of a text: the text with its literals left out.
//!
//! Over the simple protocol an application's statements differ in nothing but literals. Their facts do not depend on
//! these, so that one parse may serve them all: facts are kept by shape too, if they are ordinary.
//!
//! Owns: a tokenizer that is exact for the texts it accepts and gives up at everything else. It must hold that
//! *two texts of one shape have the same facts, if those of one of them are ordinary*; the tests below prove it against the
//! real parser. Does not own: the cache.
//!
//! A literal is an unsigned `12` or `1.5`, or a plain `'…'`. Which of the scanner's two numeric kinds (what fits 32
//! bits, and the rest) belongs to the shape, for the grammar tells them apart: `varchar(10)` is SQL, `varchar(9999999999)`
//! is not. What else the grammar asks of a literal's value is the precision of `float(n)`: that word makes it
//! give up. Strings are never asked for their value in an ordinary statement.

/// Longest text that has a shape.
const TEXT_BYTES_MAX: usize = 4 * 1024;

// Placeholders: no accepted text holds these bytes.
const SMALL_INTEGER: u8 = 1;
const OTHER_NUMBER: u8 = 2;
const STRING: u8 = 3;

/// What a byte may begin.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    /// Gives up.
    Strange,
    Blank,
    Word,
    Digit,
    Quote,
    DoubleQuote,
    /// An operator or punctuation.
    Mark,
    Semicolon,
}

const STARTS: [Start; 256] = starts();

const fn starts() -> [Start; 256] {
    let mut table = [Start::Strange; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        table[byte as usize] = match byte {
            b' ' | b'\t' | b'\n' | b'\r' => Start::Blank,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => Start::Word,
            b'0'..=b'9' => Start::Digit,
            b'\'' => Start::Quote,
            b'"' => Start::DoubleQuote,
            b'(' | b')' | b',' | b'.' | b'[' | b']' | b':' => Start::Mark,
            b'*' | b'=' | b'<' | b'>' | b'!' | b'+' | b'-' | b'/' | b'%' | b'|' | b'&' | b'^' | b'~' | b'#' | b'@'
            | b'?' => Start::Mark,
            b';' => Start::Semicolon,
            // Whatever else: no shape.
            _ => Start::Strange,
        };
        byte += 1;
    }
    table
}

const fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

/// Writes the shape of `sql` into `key`. `None` if it has none, or no literal to leave out.
pub(super) fn of<'k>(sql: &[u8], key: &'k mut Vec<u8>) -> Option<&'k [u8]> {
    if sql.len() > TEXT_BYTES_MAX {
        return None;
    }
    key.clear();
    let mut scan = Scan { sql, at: 0, written: 0, after_string: false };
    while let Some(&byte) = sql.get(scan.at) {
        scan.token(byte, key)?;
    }
    if scan.written == 0 {
        return None;
    }
    key.extend_from_slice(&sql[scan.written..]);
    Some(key)
}

struct Scan<'t> {
    sql: &'t [u8],
    at: usize,
    /// What is before this is in the key.
    written: usize,
    /// Nothing but blanks since the last string: a second one may be its continuation.
    after_string: bool,
}

impl Scan<'_> {
    fn token(&mut self, byte: u8, key: &mut Vec<u8>) -> Option<()> {
        let start = STARTS[byte as usize];
        match start {
            Start::Strange => return None,
            Start::Blank => self.at += 1,
            Start::Word => self.word()?,
            Start::Digit => self.number(key)?,
            Start::Quote => self.string(key)?,
            Start::DoubleQuote => self.quoted_identifier()?,
            Start::Mark => self.mark(byte)?,
            Start::Semicolon => self.semicolon()?,
        }
        self.after_string = start == Start::Quote || (self.after_string && start == Start::Blank);
        Some(())
    }

    fn peek(&self, at: usize) -> u8 {
        self.sql.get(at).copied().unwrap_or(b' ')
    }

    /// The byte before the token.
    fn before(&self) -> u8 {
        self.at.checked_sub(1).map_or(b' ', |at| self.peek(at))
    }

    fn end_of(&self, from: usize, is_part: impl Fn(u8) -> bool) -> usize {
        self.sql[from..].iter().position(|&byte| !is_part(byte)).map_or(self.sql.len(), |length| from + length)
    }

    /// A dollar or another alphabet behind it begins no token that is accepted.
    fn word(&mut self) -> Option<()> {
        let end = self.end_of(self.at, |byte| matches!(STARTS[byte as usize], Start::Word | Start::Digit));
        let word = &self.sql[self.at..end];
        // A prefix of a literal (`E'`, `U&'`, `X'`, `date'`); a touching literal before.
        let is_prefix = matches!(self.peek(end), b'\'' | b'"') || (self.peek(end) == b'&' && word.len() == 1);
        let is_float = word.len() == 5 && word.eq_ignore_ascii_case(b"float");
        if is_prefix || is_float || matches!(self.before(), b'\'' | b'"') {
            return None;
        }
        self.at = end;
        Some(())
    }

    fn number(&mut self, key: &mut Vec<u8>) -> Option<()> {
        if matches!(self.before(), b'\'' | b'"') {
            return None;
        }
        let mut end = self.end_of(self.at, |byte| byte.is_ascii_digit());
        let mut kind = if is_small(&self.sql[self.at..end]) { SMALL_INTEGER } else { OTHER_NUMBER };
        if self.peek(end) == b'.' {
            let fraction = end + 1;
            end = self.end_of(fraction, |byte| byte.is_ascii_digit());
            if end == fraction {
                return None;
            }
            kind = OTHER_NUMBER;
        }
        let next = self.peek(end);
        if is_word_byte(next) || matches!(next, b'.' | b'\'' | b'"') {
            return None;
        }
        self.literal(kind, end, key);
        Some(())
    }

    fn string(&mut self, key: &mut Vec<u8>) -> Option<()> {
        // `&'` may end `U&'`. A second string may continue the first.
        if self.after_string || self.before() == b'&' {
            return None;
        }
        let mut end = self.at + 1;
        let mut is_ascii = true;
        loop {
            match *self.sql.get(end)? {
                b'\'' if self.peek(end + 1) == b'\'' => end += 2,
                b'\'' => break,
                0 | b'\\' => return None,
                byte => {
                    is_ascii &= byte < 0x80;
                    end += 1;
                }
            }
        }
        if !is_ascii && std::str::from_utf8(&self.sql[self.at..end]).is_err() {
            return None;
        }
        let next = self.peek(end + 1);
        if is_word_byte(next) || next == b'"' {
            return None;
        }
        self.literal(STRING, end + 1, key);
        Some(())
    }

    fn literal(&mut self, kind: u8, end: usize, key: &mut Vec<u8>) {
        key.extend_from_slice(&self.sql[self.written..self.at]);
        key.push(kind);
        self.written = end;
        self.at = end;
    }

    /// Names belong to the shape: copied, quotes and all.
    fn quoted_identifier(&mut self) -> Option<()> {
        let before = self.before();
        if before == b'&' || is_word_byte(before) || matches!(before, b'\'' | b'"') {
            return None;
        }
        let end = self.end_of(self.at + 1, |byte| byte != b'"' && byte >= b' ');
        let is_closed = self.peek(end) == b'"' && end > self.at + 1;
        let name = &self.sql[self.at..end];
        if !is_closed || self.peek(end + 1) == b'"' || !(name.is_ascii() || std::str::from_utf8(name).is_ok()) {
            return None;
        }
        self.at = end + 1;
        Some(())
    }

    fn mark(&mut self, byte: u8) -> Option<()> {
        let next = self.peek(self.at + 1);
        // Comments; `.5`.
        let is_strange = matches!((byte, next), (b'-', b'-') | (b'/', b'*') | (b'.', b'0'..=b'9'));
        if is_strange {
            return None;
        }
        self.at += 1;
        Some(())
    }

    /// Only at the end.
    fn semicolon(&mut self) -> Option<()> {
        let end = self.end_of(self.at + 1, |byte| STARTS[byte as usize] == Start::Blank);
        if end < self.sql.len() {
            return None;
        }
        self.at = end;
        Some(())
    }
}

/// Whether digits make a number that the scanner takes for a 32-bit integer.
fn is_small(digits: &[u8]) -> bool {
    let value =
        digits.iter().fold(0_u64, |value, digit| value.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
    value <= 2_147_483_647
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::facts::Facts;
    use super::super::statement::facts_of;
    use super::super::text::Limits;
    use super::*;

    fn shape(sql: &str) -> Option<Vec<u8>> {
        of(sql.as_bytes(), &mut Vec::new()).map(<[u8]>::to_vec)
    }

    #[test]
    fn literals_are_left_out() {
        let shape = |sql| String::from_utf8(shape(sql).unwrap()).unwrap();
        assert_eq!(shape("SELECT a1 FROM t WHERE b = 42 AND c='x''y'"), "SELECT a1 FROM t WHERE b = \x01 AND c=\x03");
        assert_eq!(shape("SELECT -1.5, 2147483648 ; "), "SELECT -\x02, \x02 ; ");
        assert_eq!(shape("SELECT \"a 1\".\"é\" WHERE x=0007"), "SELECT \"a 1\".\"é\" WHERE x=\x01");
        assert_eq!(shape("SELECT 'é'::text"), "SELECT \x03::text");
    }

    #[test]
    fn anything_unusual_has_no_shape() {
        for sql in [
            "SELECT a",
            "SELECT $1, 1",
            "SELECT 1 -- x",
            "SELECT 1 /* x */",
            "SELECT E'a'",
            "SELECT U&'a'",
            "SELECT u&\"a\", 1",
            "SELECT B'1'",
            "SELECT date'x'",
            "SELECT 'a\\b'",
            "SELECT 'a' 'b'",
            "SELECT 'a'\n'b'",
            "SELECT 'a",
            "SELECT 'a'b",
            "SELECT \"a, 1",
            "SELECT \"\", 1",
            "SELECT \"a\"\"b\", 1",
            "SELECT 1.",
            "SELECT .5",
            "SELECT 1..2",
            "SELECT 1.2.3",
            "SELECT 1e5",
            "SELECT 0x1F",
            "SELECT 1_000",
            "SELECT 1a",
            "SELECT 1; SELECT 2",
            "SELECT 1;;",
            "SELECT $$x$$, 1",
            "SELECT a$1, 1",
            "SELECT é, 1",
            "SELECT 1::float(3)",
            "SELECT 1\0",
            "SELECT 'a\0'",
            "SELECT 1\u{b}",
            "SELECT t.5",
            "SELECT 5\"x\"",
            "SELECT 1'a'",
            "SELECT 'a'1",
        ] {
            assert_eq!(shape(sql), None, "{sql}");
        }
        assert_eq!(of(b"SELECT '\xff'", &mut Vec::new()), None);
        assert_eq!(shape(&format!("SELECT 1 {}", " ".repeat(4096))), None);
    }

    /// Facts without what a shape leaves out; `None` where no shape may keep them.
    fn shared_facts(sql: &str) -> Option<Facts> {
        facts_of(sql.as_bytes(), &Limits::default()).ok().and_then(|facts| facts.for_the_shape(sql.len()))
    }

    /// A generator of its own: the same texts in every run.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, sides: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % sides as u64) as usize
        }

        fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
            from[self.roll(from.len())]
        }
    }

    const INTEGERS: &[&str] = &["0", "1", "53", "54", "4711", "0000", "0000000000000000001", "2147483647", "999999999"];
    const NUMBERS: &[&str] =
        &["2147483648", "9223372036854775808", "1.5", "0.0", "00.10", "123456789012345678901234567890"];
    const STRINGS: &[&str] = &[
        "''",
        "'a'",
        "'it''s'",
        "''''",
        "'set_config(1)'",
        "'-- '",
        "'/*'",
        "'*/'",
        "'\"'",
        "'$$'",
        "'1 day'",
        "'é'",
        "';'",
        "'pg_temp'",
        "'a\n b'",
        "'U&'",
        "'%'",
        "'$.a'",
        "'2020-01-01'",
        "'e'",
        "'0'",
    ];

    /// A text of the shape, with literals of the dice's choice.
    fn filled(shape: &[u8], dice: &mut Dice) -> String {
        let mut sql = Vec::new();
        for &byte in shape {
            match byte {
                SMALL_INTEGER => sql.extend_from_slice(dice.pick(INTEGERS).as_bytes()),
                OTHER_NUMBER => sql.extend_from_slice(dice.pick(NUMBERS).as_bytes()),
                STRING => sql.extend_from_slice(dice.pick(STRINGS).as_bytes()),
                byte => sql.push(byte),
            }
        }
        String::from_utf8(sql).unwrap()
    }

    /// The theorem for one text: whatever its literals, its shape and its facts are the same.
    fn check(sql: &str, dice: &mut Dice, fillings: usize) -> bool {
        let Some(shape_of_it) = shape(sql) else { return false };
        let Some(facts) = shared_facts(sql) else { return false };
        for _ in 0..fillings {
            let other = filled(&shape_of_it, dice);
            assert_eq!(shape(&other).as_deref(), Some(&*shape_of_it), "{sql}\n{other}");
            assert_eq!(shared_facts(&other).as_ref(), Some(&facts), "{sql}\n{other}");
        }
        true
    }

    /// The texts of the decision tables.
    fn corpus() -> Vec<String> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/guard");
        let mut texts = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let table = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            let blocks = table.split("\n-- ").filter_map(|block| block.split_once('\n'));
            texts.extend(blocks.map(|(_, sql)| sql.trim().replace("{f}", "abs(1)")));
        }
        assert!(texts.len() > 900, "{}", texts.len());
        texts
    }

    #[test]
    fn texts_of_one_shape_have_the_same_facts() {
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
        let shared = corpus().iter().filter(|sql| check(sql, &mut dice, 20)).count();
        assert!(shared > 250, "only {shared} texts of the corpus have a shape and ordinary facts");
    }

    /// What may turn one thing into another: pieces of words, numbers, quotes, comments and casts.
    const PIECES: &[&str] = &[
        "1",
        "2.5",
        "9999999999",
        "'a'",
        "'b''c'",
        "'é'",
        " ",
        "\n",
        ".",
        "..",
        "-",
        "--",
        "/",
        "*",
        "/*",
        "*/",
        "'",
        "''",
        "\"",
        "\"a\"",
        "\"b\"",
        "e",
        "E",
        "U&",
        "u&",
        "x",
        "b",
        "N",
        "$",
        "$$",
        "$1",
        "$a$",
        "\\",
        ";",
        "::",
        ":",
        ",",
        "(",
        ")",
        "[",
        "]",
        "_",
        "0x",
        "1e",
        "e5",
        "_1",
        "a",
        "é",
        "+",
        "&",
        "|",
        "=",
        "<",
        ">",
        "!",
        "@",
        "#",
        "%",
        "?",
        "~",
        "^",
        " float",
        " float(3)",
        " varchar(10)",
        "interval ",
        "date ",
        "::numeric(10,2)",
        " UESCAPE ",
        " COLLATE ",
        " AS ",
        " LIMIT 5",
        " FETCH FIRST 3 ROWS ONLY",
        " ESCAPE '\\'",
        "\t",
        "\r\n",
        "interval '1' day",
        "interval(3) '1'",
        "time(3) ",
        "bit(3) '101'",
        "char(1)",
        "[1:2]",
        " IS NULL",
        " UNION SELECT ",
        "CURRENT_TIME(2)",
        "\u{b}",
        "\0",
        "\u{c}",
    ];

    /// Puts pieces of all kinds somewhere into a text.
    fn mutated(sql: &str, dice: &mut Dice) -> String {
        let mut characters: Vec<char> = sql.chars().collect();
        for _ in 0..=dice.roll(3) {
            let at = dice.roll(characters.len() + 1);
            let until = (at + dice.roll(4)).min(characters.len());
            characters.splice(at..until, dice.pick(PIECES).chars());
        }
        characters.into_iter().collect()
    }

    #[test]
    fn mutated_texts_of_one_shape_have_the_same_facts() {
        let mut dice = Dice(0x2545_f491_4f6c_dd1d);
        let corpus: Vec<_> = corpus().into_iter().filter(|sql| sql.len() < 400).collect();
        let mut shared = 0;
        for _ in 0..60_000 {
            let sql = mutated(&corpus[dice.roll(corpus.len())], &mut dice);
            shared += usize::from(check(&sql, &mut dice, 3));
        }
        assert!(shared > 1_000, "only {shared}");
    }

    /// Random soup of what makes scanners stumble: rarely SQL, so that what counts is that the scanner sees the
    /// same tokens.
    #[test]
    fn soups_of_one_shape_have_the_same_facts() {
        const PIECES: &[&str] = &[
            "1",
            "2",
            "2.5",
            "'a'",
            "'b'",
            "a",
            "e",
            "U",
            "&",
            ".",
            "-",
            "+",
            "*",
            "/",
            " ",
            " ",
            ",",
            "(",
            ")",
            "||",
            "::int",
            "::varchar(3)",
            "\"q\"",
            "=",
            "\n",
            "[",
            "]",
            " IN ",
            " AND ",
            " a ",
            "f(",
        ];
        let mut dice = Dice(0x1234_5678_9abc_def1);
        let mut by_shape: HashMap<Vec<u8>, Option<Facts>> = HashMap::new();
        for _ in 0..60_000 {
            let mut sql = String::from("SELECT ");
            for _ in 0..=dice.roll(7) {
                sql.push_str(dice.pick(PIECES));
            }
            check(&sql, &mut dice, 1);
            if let Some(key) = shape(&sql) {
                let facts = shared_facts(&sql);
                let known = by_shape.entry(key).or_insert_with(|| facts.clone());
                assert_eq!(*known, facts, "{sql}");
            }
        }
    }
}
