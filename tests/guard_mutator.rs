//! Every refused statement of `tests/guard/threats.sql` and `techniques.sql`, written in many other ways: all stay refused.
//!
//! A mutant says the same in another spelling (case, blanks, nested comments, quoted and Unicode-escaped names, `pg_catalog` in
//! front, other forms of strings) or in another place (CTE, subquery, COPY, RETURNING, EXPLAIN, PREPARE, a cursor, between other
//! statements). It is judged under a policy that lets these places be, so that not the place is what is refused.
//!
//! | variable | says |
//! |---|---|
//! | `TENANTGATE_SEED` | where to begin; a failure prints the seed of its mutant |
//! | `TENANTGATE_MUTANTS` | mutants of each statement, 60 if not said |

#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::HashSet;
use std::fmt::Write;
use std::path::Path;

use tenantgate::guard::{Keeping, Limits, Lists, Policy, PolicySettings, Preset, Sides, StatementClass, inspect};

/// A small generator: the same numbers on every machine.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn pick<'p>(&mut self, from: &[&'p str]) -> &'p str {
        from[self.below(from.len())]
    }
}

/// What the mutator tells apart.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Blank,
    Word(String),
    /// `'…'` without prefix: its value.
    Text(String),
    /// Everything else, as it is written.
    Other(String),
}

fn tokens(sql: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let length = length_of_token(rest, first);
        let (token, behind) = rest.split_at(length);
        rest = behind;
        tokens.push(match first {
            _ if token.trim().is_empty() => Token::Blank,
            '\'' => Token::Text(token[1..token.len() - 1].replace("''", "'")),
            'a'..='z' | 'A'..='Z' | '_' if token.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') => {
                Token::Word(token.to_owned())
            }
            _ => Token::Other(token.to_owned()),
        });
    }
    tokens
}

fn length_of_token(rest: &str, first: char) -> usize {
    let word = rest.find(|byte: char| !(byte.is_alphanumeric() || byte == '_')).unwrap_or(rest.len());
    let quoted = |from: usize, quote: char| {
        let mut at = from + 1;
        loop {
            at += rest[at..].find(quote).map_or(rest.len() - at, |found| found + 1);
            if !rest[at.min(rest.len())..].starts_with(quote) {
                return at.min(rest.len());
            }
            at += 1;
        }
    };
    match first {
        ' ' | '\n' | '\t' => rest.find(|byte: char| !byte.is_whitespace()).unwrap_or(rest.len()),
        '\'' => quoted(0, '\''),
        '"' => quoted(0, '"'),
        '$' => {
            let tag = rest[1..]
                .find('$')
                .map(|at| &rest[..at + 2])
                .filter(|tag| tag[1..tag.len() - 1].chars().all(char::is_alphabetic));
            tag.and_then(|tag| rest[tag.len()..].find(tag).map(|at| at + 2 * tag.len())).unwrap_or(1)
        }
        'U' | 'u' if rest[1..].starts_with("&\"") => quoted(2, '"'),
        'U' | 'u' if rest[1..].starts_with("&'") => quoted(2, '\''),
        'E' | 'e' | 'X' | 'x' | 'B' | 'b' if rest[1..].starts_with('\'') => quoted(1, '\''),
        'a'..='z' | 'A'..='Z' | '_' => word,
        _ => first.len_utf8(),
    }
}

struct Mutator<'f> {
    functions: &'f HashSet<&'static str>,
    dice: Dice,
}

impl Mutator<'_> {
    fn blank(&mut self) -> &'static str {
        self.dice.pick(&[
            " ",
            "  ",
            "\n",
            "\t",
            "\r\n",
            "\u{c}",
            " /**/ ",
            "/* ; */",
            "/* a /* b' */ \" */",
            " -- '\n",
            "--\n",
            "/*$$*/",
        ])
    }

    /// Every token, perhaps in another spelling.
    fn respell(&mut self, sql: &str) -> String {
        let tokens = tokens(sql);
        let mut out = String::new();
        for (at, token) in tokens.iter().enumerate() {
            match token {
                Token::Blank if self.dice.one_in(2) => out.push_str(self.blank()),
                Token::Blank => out.push(' '),
                Token::Word(word) => {
                    let is_call = matches!(tokens.get(at + 1), Some(Token::Other(mark)) if mark == "(");
                    let is_qualified = at > 0 && matches!(&tokens[at - 1], Token::Other(mark) if mark == ".");
                    if is_call && self.functions.contains(word.to_ascii_lowercase().as_str()) {
                        self.function(&mut out, word, is_qualified);
                    } else {
                        let spelled = self.recase(word);
                        out.push_str(&spelled);
                    }
                }
                Token::Text(value) => {
                    let spelled = self.text(value);
                    out.push_str(&spelled);
                }
                Token::Other(text) => out.push_str(text),
            }
        }
        out
    }

    fn recase(&mut self, word: &str) -> String {
        match self.dice.below(4) {
            0 => word.to_ascii_uppercase(),
            1 => word.chars().map(|it| if self.dice.one_in(2) { it.to_ascii_uppercase() } else { it }).collect(),
            _ => word.to_owned(),
        }
    }

    fn function(&mut self, out: &mut String, name: &str, is_qualified: bool) {
        if !is_qualified && self.dice.one_in(3) {
            out.push_str(self.dice.pick(&[
                "pg_catalog.",
                "\"pg_catalog\".",
                "PG_Catalog . ",
                "pg_catalog/**/./**/",
                "U&\"pg\\005fcatalog\".",
            ]));
        }
        let name = name.to_ascii_lowercase();
        match self.dice.below(5) {
            0 => write!(out, "\"{name}\"").unwrap(),
            1 => write!(out, "U&\"{}\"", self.escaped(&name, '\\')).unwrap(),
            2 => write!(out, "U&\"{}\" UESCAPE '!'", self.escaped(&name, '!')).unwrap(),
            _ => out.push_str(&self.recase(&name)),
        }
        if self.dice.one_in(3) {
            out.push_str(self.blank());
        }
    }

    fn escaped(&mut self, text: &str, escape: char) -> String {
        let mut out = String::new();
        for letter in text.chars() {
            let code = u32::from(letter);
            match self.dice.below(4) {
                0 => write!(out, "{escape}{code:04x}").unwrap(),
                1 => write!(out, "{escape}+{code:06X}").unwrap(),
                _ if letter == escape || letter == '"' || letter == '\'' => write!(out, "{escape}{code:04x}").unwrap(),
                _ => out.push(letter),
            }
        }
        out
    }

    fn text(&mut self, value: &str) -> String {
        let plain = format!("'{}'", value.replace('\'', "''"));
        match self.dice.below(6) {
            0 if !value.is_empty() => {
                let letters = value.chars().map(|letter| match (letter, self.dice.below(4)) {
                    (_, 0) => format!("\\u{:04x}", u32::from(letter)),
                    (_, 1) if letter.is_ascii() => format!("\\x{:02x}", u32::from(letter)),
                    (_, 2) if letter.is_ascii() => format!("\\{:03o}", u32::from(letter)),
                    ('\'' | '\\', _) => format!("\\{letter}"),
                    _ => letter.to_string(),
                });
                format!("E'{}'", letters.collect::<String>())
            }
            1 => format!("U&'{}'", self.escaped(value, '\\')),
            2 if !value.contains('$') => format!("$mutant${value}$mutant$"),
            // Strings with a line end between are one.
            3 if value.len() > 1 && value.is_char_boundary(1) && !value.starts_with('\'') => {
                format!("'{}'\n'{}'", &value[..1], value[1..].replace('\'', "''"))
            }
            _ => plain,
        }
    }

    /// The statement in another place, where it may stand there.
    fn nest(&mut self, sql: &str) -> String {
        let word = sql.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
        let is_one = !sql.contains(';');
        let places: &[&str] = match word.as_str() {
            "SELECT" | "TABLE" | "VALUES" if is_one => &[
                "SELECT * FROM ({q}) AS m",
                "WITH m AS ({q}) SELECT 1 FROM m",
                "WITH m AS MATERIALIZED (({q})) SELECT 1",
                "SELECT EXISTS ({q})",
                "SELECT 1 FROM t WHERE 1 IN (SELECT 1 FROM ({q}) AS m)",
                "COPY ({q}) TO STDOUT",
                "EXPLAIN ANALYZE {q}",
                "EXPLAIN (ANALYZE, VERBOSE) ({q})",
                "PREPARE m AS {q}",
                "DECLARE m CURSOR FOR {q}",
                "INSERT INTO m SELECT 1 FROM ({q}) AS n",
                "INSERT INTO m VALUES (1) RETURNING EXISTS ({q})",
                "UPDATE m SET a = 1 WHERE EXISTS ({q})",
                "DELETE FROM m WHERE EXISTS ({q})",
                "({q}) UNION ALL ({q})",
                "SELECT ARRAY(SELECT 1 FROM ({q}) AS m)",
                "SELECT coalesce(1, (SELECT 1 FROM ({q}) AS m))",
                "SELECT count(*) FILTER (WHERE EXISTS ({q})) FROM t",
            ],
            "INSERT" | "UPDATE" | "DELETE" | "MERGE" if is_one && !sql.contains("RETURNING") => {
                &["WITH m AS ({q} RETURNING 1) SELECT 1 FROM m", "EXPLAIN ANALYZE {q}", "PREPARE m AS {q}"]
            }
            _ => &[],
        };
        let place = if places.is_empty() || self.dice.one_in(3) { "{q}" } else { self.dice.pick(places) };
        place.replace("{q}", sql)
    }

    /// The statement between others, or between comments.
    fn surround(&mut self, sql: &str) -> String {
        let forms = [
            "{q}",
            "{q}",
            "{q};",
            ";;{q}",
            "SELECT 1; {q}",
            "BEGIN; {q}; COMMIT",
            "/* a */ {q} /* b */",
            "-- a'\n{q}\n-- b",
        ];
        self.dice.pick(&forms).replace("{q}", sql)
    }
}

/// Refused statements of a table, without the comments between them.
fn refused_statements(file: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guard").join(file);
    let text = std::fs::read_to_string(path).unwrap();
    let blocks = text.split("\n-- deny ").skip(1);
    let statement = |block: &str| {
        let lines = block.lines().skip(1).take_while(|line| !line.starts_with("--"));
        lines.collect::<Vec<_>>().join("\n").trim().to_owned()
    };
    blocks.map(statement).collect()
}

fn code(policy: &Policy, sql: &str) -> Option<&'static str> {
    let judged = inspect(sql.as_bytes(), &Limits::default()).map(|facts| policy.judge(&facts));
    let fault = match judged {
        Ok(Ok(())) => return None,
        Ok(Err(fault)) => fault,
        Err(fault) => (*fault).clone(),
    };
    Some(fault.code.unwrap().row().name)
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What a tenant may do at most: the places that mutants stand in are allowed.
fn loose_policy() -> Policy {
    Policy::new(&PolicySettings {
        preset: Preset::Tenant,
        keeping: Keeping::Pin,
        scope_settings: vec!["app.tenant_id".into()],
        lists: Lists {
            statements: Sides { allowed: vec![StatementClass::Explain], denied: Vec::new() },
            ..Lists::default()
        },
        ..PolicySettings::default()
    })
}

fn functions() -> HashSet<&'static str> {
    let lines = include_str!("../src/guard/tables/functions.txt").lines();
    let names = lines.filter(|line| !line.starts_with(['#', '['])).flat_map(str::split_whitespace);
    let keywords: HashSet<_> = include_str!("../src/guard/tables/keywords.txt").split_whitespace().collect();
    names.filter(|name| !keywords.contains(name)).collect()
}

#[test]
fn what_is_refused_stays_refused_in_every_other_spelling_and_place() {
    let thread = std::thread::Builder::new().stack_size(64 * 1024 * 1024).spawn(|| {
        let strict =
            Policy::new(&PolicySettings { scope_settings: vec!["app.tenant_id".into()], ..PolicySettings::default() });
        let loose = loose_policy();
        let (seed, mutants) = (number("TENANTGATE_SEED", 1), number("TENANTGATE_MUTANTS", 60));
        let functions = functions();
        let mut statements = refused_statements("threats.sql");
        let named = statements.len();
        statements.extend(refused_statements("techniques.sql"));
        assert!(named >= 80 && statements.len() - named >= 150, "{named}, {}", statements.len());
        let (mut made, mut unparsable, mut wrong) = (0, 0, String::new());
        for (at, sql) in statements.iter().enumerate() {
            assert!(code(&strict, sql).is_some(), "{sql}");
            // What only the session's state or EXPLAIN makes refused is allowed there.
            let policy = if code(&loose, sql).is_some() { &loose } else { &strict };
            for number in 0..mutants {
                let own_seed =
                    seed.wrapping_mul(1_000_003).wrapping_add(at as u64).wrapping_mul(1_009).wrapping_add(number);
                let mut mutator = Mutator { functions: &functions, dice: Dice(own_seed) };
                let nested = mutator.nest(sql);
                let respelled = mutator.respell(&nested);
                let mutant = mutator.surround(&respelled);
                made += 1;
                match code(policy, &mutant) {
                    Some("TG021") if code(policy, sql) != Some("TG021") => unparsable += 1,
                    Some(_) => {}
                    None => {
                        writeln!(wrong, "seed {seed}, mutant {number} of\n  {sql}\nis allowed:\n  {mutant}").unwrap()
                    }
                }
            }
        }
        println!("{made} mutants of {} statements, {unparsable} of them no SQL", statements.len());
        assert!(wrong.is_empty(), "\n{wrong}");
        assert!(unparsable * 10 < made, "{unparsable} of {made} mutants are no SQL: the mutator does not do its work");
    });
    if let Err(panic) = thread.unwrap().join() {
        std::panic::resume_unwind(panic);
    }
}
