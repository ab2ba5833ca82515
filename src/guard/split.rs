//! Cutting a file of statements at its semicolons, for `explain`.
//!
//! Nothing is left out: joined with `;` the pieces are the text again, so that what is cut wrongly is refused as a syntax
//! error and never overlooked.
//!
//! Owns: where a semicolon ends a statement, as psql sees it (not in quotes, comments, parentheses or `BEGIN ATOMIC … END`).
//! Does not own: what the pieces mean. No proxied statement passes here.

/// The pieces of `text` between the semicolons that end statements.
pub(super) fn split(text: &str) -> Vec<&str> {
    let mut cut = Cut { text: text.as_bytes(), at: 0, parentheses: 0, atomic: 0, word_before: Word::Other };
    let mut pieces = Vec::new();
    let mut start = 0;
    while cut.at < cut.text.len() {
        let at = cut.at;
        if cut.token() {
            pieces.push(text.get(start..at).unwrap_or_default());
            start = at + 1;
            (cut.parentheses, cut.atomic) = (0, 0);
        }
    }
    pieces.push(text.get(start..).unwrap_or_default());
    pieces
}

/// The words that count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Begin,
    Other,
}

struct Cut<'t> {
    text: &'t [u8],
    at: usize,
    parentheses: usize,
    /// How many of BEGIN ATOMIC, and of CASE within, await their END.
    atomic: usize,
    word_before: Word,
}

impl Cut<'_> {
    /// Passes one token; `true` if it was a semicolon that ends a statement.
    fn token(&mut self) -> bool {
        let (byte, next) = (self.peek(0), self.peek(1));
        match (byte, next) {
            (b'-', b'-') => self.at = self.find(b"\n", self.at),
            (b'/', b'*') => self.comment(),
            (b'\'', _) => self.quoted(b'\'', self.is_behind_e()),
            (b'"', _) => self.quoted(b'"', false),
            (b'$', _) => self.dollar(),
            (b'(' | b')', _) => {
                self.parentheses = if byte == b'(' { self.parentheses + 1 } else { self.parentheses.saturating_sub(1) };
                self.at += 1;
            }
            (b';', _) => {
                self.at += 1;
                return self.parentheses == 0 && self.atomic == 0;
            }
            _ if is_word(byte) => self.word(),
            _ => self.at += 1,
        }
        false
    }

    fn peek(&self, ahead: usize) -> u8 {
        self.text.get(self.at + ahead).copied().unwrap_or(0)
    }

    /// Where `what` begins, or the end.
    fn find(&self, what: &[u8], from: usize) -> usize {
        let rest = self.text.get(from..).unwrap_or_default();
        rest.windows(what.len()).position(|window| window == what).map_or(self.text.len(), |at| from + at)
    }

    fn comment(&mut self) {
        let mut depth = 0_usize;
        loop {
            match (self.peek(0), self.peek(1)) {
                _ if self.at >= self.text.len() => return,
                (b'/', b'*') => (depth, self.at) = (depth + 1, self.at + 2),
                (b'*', b'/') => (depth, self.at) = (depth - 1, self.at + 2),
                _ => self.at += 1,
            }
            if depth == 0 {
                return;
            }
        }
    }

    fn is_behind_e(&self) -> bool {
        let byte = |back| self.at.checked_sub(back).and_then(|at| self.text.get(at)).copied().unwrap_or(b' ');
        matches!(byte(1), b'e' | b'E') && !is_word(byte(2))
    }

    /// A doubled quote ends one token and begins the next, which comes to the same.
    fn quoted(&mut self, quote: u8, has_escapes: bool) {
        self.at += 1;
        while self.at < self.text.len() && self.peek(0) != quote {
            self.at += if has_escapes && self.peek(0) == b'\\' { 2 } else { 1 };
        }
        self.at += 1;
    }

    /// `$tag$ … $tag$`, or the `$` of a parameter.
    fn dollar(&mut self) {
        let rest = self.text.get(self.at + 1..).unwrap_or_default();
        let length = rest.iter().position(|&byte| !is_word(byte)).unwrap_or(rest.len());
        let is_tag = rest.get(length) == Some(&b'$') && !rest.first().is_some_and(u8::is_ascii_digit);
        if !is_tag {
            self.at += 1;
            return;
        }
        let tag = self.text.get(self.at..self.at + length + 2).unwrap_or_default().to_vec();
        self.at = self.find(&tag, self.at + tag.len()) + tag.len();
    }

    fn word(&mut self) {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|&byte| !(is_word(byte) || byte == b'$')).unwrap_or(rest.len());
        let word = rest.get(..length).unwrap_or_default();
        let is = |wanted: &str| word.eq_ignore_ascii_case(wanted.as_bytes());
        if is("atomic") && self.word_before == Word::Begin {
            self.atomic = 1;
        } else if self.atomic > 0 && is("case") {
            self.atomic += 1;
        } else if self.atomic > 0 && is("end") {
            self.atomic -= 1;
        }
        self.word_before = if is("begin") { Word::Begin } else { Word::Other };
        self.at += length;
    }
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_semicolons_between_statements_cut() {
        for whole in [
            "SELECT ';', 'it''s;', E'a\\';b', \"c;d\", $$;$$, $a$;$b$;$a$, $1",
            "SELECT 1 -- ;\n",
            "SELECT /* ; /* ; */ ; */ 1",
            "CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2)",
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END",
            "SELECT 'open; SELECT 2",
            "SELECT $q$ open; SELECT 2",
            "SELECT /* open; SELECT 2",
        ] {
            assert_eq!(split(whole), [whole], "{whole}");
        }
        assert_eq!(split("a;b;;c"), ["a", "b", "", "c"]);
        assert_eq!(split("SELECT note';' ; BEGIN; SELECT 1"), ["SELECT note';' ", " BEGIN", " SELECT 1"]);
        assert_eq!(split("SELECT 'a\\'; SELECT 'b'"), ["SELECT 'a\\'", " SELECT 'b'"]);
    }

    #[test]
    fn nothing_is_left_out() {
        let tokens =
            ["'", "\"", "$", "$$", ";", "(", ")", "E'", "\\", "--", "\n", "/*", "*/", "a", "é", "begin atomic ", "end"];
        let mut seed = 7_u64;
        for _ in 0..5_000 {
            let mut text = String::new();
            for _ in 0..12 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                text.push_str(tokens[(seed >> 33) as usize % tokens.len()]);
            }
            assert_eq!(split(&text).join(";"), text);
        }
    }
}
