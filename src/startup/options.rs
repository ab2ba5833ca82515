//! The `options` startup parameter: a command line in one string.
//!
//! Split and read as PostgreSQL does (`pg_split_opts`, `process_postgres_switches`, `ParseLongOption`),
//! but only settings (`-c name=value`, `-cname=value`, `--name=value`) are accepted: the other switches
//! are for developers.

/// How the text deviates.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsFault {
    /// A switch that sets nothing, or no switch at all.
    #[error("only settings (-c name=value, --name=value) are accepted in options")]
    NotASetting,
    /// A setting without `=`.
    #[error("a setting in options has no value")]
    NoValue,
    /// `-c` at the end.
    #[error("-c in options has no argument")]
    NoArgument,
}

/// The settings in the text, in order.
///
/// # Errors
/// It holds anything else.
pub fn read(text: &str) -> Result<Vec<(String, String)>, OptionsFault> {
    let mut words = split(text).into_iter();
    let mut settings = Vec::new();
    while let Some(word) = words.next() {
        let setting = if word == "-c" {
            words.next().ok_or(OptionsFault::NoArgument)?
        } else {
            let setting = word.strip_prefix("--").or_else(|| word.strip_prefix("-c"));
            setting.filter(|setting| !setting.is_empty()).ok_or(OptionsFault::NotASetting)?.to_owned()
        };
        let (name, value) = setting.split_once('=').ok_or(OptionsFault::NoValue)?;
        if name.is_empty() {
            return Err(OptionsFault::NotASetting);
        }
        settings.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(settings)
}

/// Splits at white space; a backslash takes the next character as it is.
fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' | '\u{b}' | '\u{c}' | '\r' => words.extend(word.take()),
            '\\' => word.get_or_insert_default().extend(chars.next()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Result<Vec<(String, String)>, OptionsFault> {
        read(text)
    }

    #[test]
    fn every_form_of_a_setting_is_read() {
        for text in ["-c a.b=x", "-ca.b=x", "--a.b=x", "  -c   a.b=x ", "-c\ta.b=x\n"] {
            assert_eq!(pairs(text), Ok(vec![("a.b".into(), "x".into())]), "{text:?}");
        }
        assert_eq!(pairs(""), Ok(vec![]));
        assert_eq!(
            pairs("-c a=1 --b-c=2 -c a="),
            Ok(vec![("a".into(), "1".into()), ("b_c".into(), "2".into()), ("a".into(), String::new())])
        );
    }

    #[test]
    fn blanks_and_backslashes_can_be_escaped() {
        assert_eq!(pairs(r"-c a=x\ y\\z"), Ok(vec![("a".into(), r"x y\z".into())]));
        assert_eq!(pairs(r"-c a=x\"), Ok(vec![("a".into(), "x".into())]));
        assert_eq!(pairs(r"-c\ a=1"), Ok(vec![(" a".into(), "1".into())]));
        assert_eq!(pairs("-c a=b=c"), Ok(vec![("a".into(), "b=c".into())]));
    }

    #[test]
    fn anything_else_is_refused() {
        for (text, fault) in [
            ("x", OptionsFault::NotASetting),
            ("-e", OptionsFault::NotASetting),
            ("-ecapp.x=1", OptionsFault::NotASetting),
            ("-S 5", OptionsFault::NotASetting),
            ("--", OptionsFault::NotASetting),
            ("-", OptionsFault::NotASetting),
            ("-c", OptionsFault::NoArgument),
            ("-c a", OptionsFault::NoValue),
            ("--a", OptionsFault::NoValue),
            ("-c =x", OptionsFault::NotASetting),
            (r"\", OptionsFault::NotASetting),
        ] {
            assert_eq!(pairs(text), Err(fault), "{text:?}");
        }
    }
}
