//! A command's text as words, by SQL's rules of quoting.
//!
//! `word`, `"quoted ""name"""`, `'text''s'`, `=`, `,`; comments are skipped; one command, with any number of semicolons
//! behind it. Words keep their spelling: names of databases and tenants are taken as they are written.

/// Longer texts are no commands: the longest holds a tenant and a reason.
pub(super) const COMMAND_BYTES_MAX: usize = 4096;

/// One word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// As it stands.
    Bare(String),
    /// From double quotes.
    Name(String),
    /// From single quotes.
    Text(String),
    /// `=` or `,`.
    Sign(char),
}

/// Why a text is no sequence of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum WordsFault {
    #[error("the command is longer than {COMMAND_BYTES_MAX} bytes")]
    TooLong,
    #[error("a quote or comment is not closed")]
    Unclosed,
    #[error("the character {0:?} means nothing here")]
    Character(char),
    #[error("only one command at a time")]
    SecondCommand,
}

/// Cuts a text into words.
pub(super) fn cut(text: &str) -> Result<Vec<Word>, WordsFault> {
    if text.len() > COMMAND_BYTES_MAX {
        return Err(WordsFault::TooLong);
    }
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    let mut has_ended = false;
    while let Some(first) = rest.chars().next() {
        if let Some(comment) = rest.strip_prefix("--") {
            rest = comment.split_once('\n').map_or("", |(_, after)| after).trim_start();
            continue;
        }
        if let Some(comment) = rest.strip_prefix("/*") {
            rest = comment.split_once("*/").ok_or(WordsFault::Unclosed)?.1.trim_start();
            continue;
        }
        if first == ';' {
            has_ended = !words.is_empty();
            rest = rest.get(1..).unwrap_or_default().trim_start();
            continue;
        }
        if has_ended {
            return Err(WordsFault::SecondCommand);
        }
        let (word, after) = match first {
            '\'' => quoted(rest, '\'').map(|(text, after)| (Word::Text(text), after))?,
            '"' => quoted(rest, '"').map(|(name, after)| (Word::Name(name), after))?,
            '=' | ',' => (Word::Sign(first), rest.get(1..).unwrap_or_default()),
            _ => bare(rest)?,
        };
        words.push(word);
        rest = after.trim_start();
    }
    Ok(words)
}

fn bare(rest: &str) -> Result<(Word, &str), WordsFault> {
    let is_part = |c: char| c.is_alphanumeric() || "_-.$:/+@".contains(c);
    let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
    // A comment may begin right behind a word.
    let end = rest.find("--").map_or(end, |comment| end.min(comment));
    let (word, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
    match (word.is_empty(), rest.chars().next()) {
        (true, Some(c)) => Err(WordsFault::Character(c)),
        _ => Ok((Word::Bare(word.to_owned()), after)),
    }
}

/// From a quote to its end; a doubled quote is one character.
fn quoted(rest: &str, quote: char) -> Result<(String, &str), WordsFault> {
    let mut text = String::new();
    let mut characters = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = characters.next() {
        if c != quote {
            text.push(c);
        } else if characters.next_if(|(_, next)| *next == quote).is_some() {
            text.push(quote);
        } else {
            return Ok((text, rest.get(at + 1..).unwrap_or_default()));
        }
    }
    Err(WordsFault::Unclosed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bare(word: &str) -> Word {
        Word::Bare(word.to_owned())
    }

    #[test]
    fn quotes_comments_and_semicolons_are_those_of_sql() {
        let words = cut(" FREEZE /* now */ TENANT 'it''s' REASON 'a;b -- c'; ; -- done").unwrap();
        let text = |text: &str| Word::Text(text.to_owned());
        assert_eq!(words, [bare("FREEZE"), bare("TENANT"), text("it's"), bare("REASON"), text("a;b -- c")]);
        assert_eq!(cut("pause \"a\"\"b\"").unwrap(), [bare("pause"), Word::Name("a\"b".to_owned())]);
        assert_eq!(cut("set a=b--c\n, d").unwrap().len(), 6);
        assert_eq!(cut(" ;; -- ping").unwrap(), []);
        assert_eq!(cut("a-b-1 c").unwrap(), [bare("a-b-1"), bare("c")]);
    }

    #[test]
    fn what_is_no_command_is_said() {
        assert_eq!(cut("PAUSE 'a"), Err(WordsFault::Unclosed));
        assert_eq!(cut("PAUSE 'a''"), Err(WordsFault::Unclosed));
        assert_eq!(cut("/* PAUSE"), Err(WordsFault::Unclosed));
        assert_eq!(cut("SHOW STATS; SHOW POOLS"), Err(WordsFault::SecondCommand));
        assert_eq!(cut("SHOW (a)"), Err(WordsFault::Character('(')));
        assert_eq!(cut("SHOW \u{1}"), Err(WordsFault::Character('\u{1}')));
        assert_eq!(cut(&"x".repeat(COMMAND_BYTES_MAX + 1)), Err(WordsFault::TooLong));
    }

    #[test]
    fn any_text_ends() {
        for text in ["'", "\"", "-", "--", "/*", "é'é", "'é", "\u{feff}", "a\"", "=;,", "💥", "--\n--\n;"] {
            drop(cut(text));
        }
    }
}
