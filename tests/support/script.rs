//! Message scripts: what they look like and how they are read. See `tests/scripts/README.md`.

use super::differences::{Allowed, DIFFERENCES};
use super::message::{Message, Value};
use super::transcript::compare;
use std::path::{Path, PathBuf};

/// One script.
#[derive(Debug)]
pub struct Script {
    pub title: String,
    pub place: String,
    /// Run by a superuser before each side.
    pub setup: Vec<String>,
    pub steps: Vec<Step>,
    /// The least and the greatest version it is meant for.
    pub versions: (u32, u32),
    /// The differences it shows, by their names in the list: it must show them.
    pub differs: Vec<String>,
    /// It leaves state behind: only for logins that may.
    pub keeps_state: bool,
}

/// One line of a script.
#[derive(Clone, Debug)]
pub struct Step {
    /// Which connection: `A`, `B` …
    pub connection: char,
    /// The code with which the proxy refuses this message.
    pub refused: Option<String>,
    pub action: Action,
}

/// What a step does.
#[derive(Clone, Debug)]
pub enum Action {
    Send(Message),
    /// Read up to so many replies of this tag.
    Wait(u8, usize),
    /// Read until the peer closes.
    WaitClosed,
    Sleep(u64),
    /// Send what was put and wait until a server works on a statement with this text.
    Runs(String),
    /// Read the answers to so many messages of a segment that is not synced yet: fewer if one of them fails.
    Answers(usize),
    /// Send what was put and wait until a server waits for the advisory lock of this number.
    Blocked(u32),
    /// A superuser does this meanwhile.
    Admin(String),
    Cancel,
    /// Connect with more startup parameters than the usual.
    Connect(Vec<(String, String)>),
    /// Vanish without a word.
    Disconnect,
    /// Show what the startup answered.
    Startup,
}

impl Script {
    /// What is wrong between two transcripts of it: a difference that it does not name, or none where it names one.
    pub fn complaint(&self, left: &[String], right: &[String]) -> Option<String> {
        // Every script may have a text that cannot be parsed.
        let names: Vec<String> = self.differs.iter().cloned().chain(["syntax-error".to_owned()]).collect();
        let compared =
            compare(left, right, Allowed { refusals: self.has_refusals(), names: Some(&names), is_recorded: false });
        let uses = match compared {
            Ok(uses) => uses,
            Err(columns) => return Some(columns),
        };
        let unseen: Vec<&String> = self.differs.iter().filter(|name| !uses.contains_key(&***name)).collect();
        (!unseen.is_empty()).then(|| format!("it does not differ, and should: {unseen:?}"))
    }

    /// Whether a message of it is refused by the proxy.
    pub fn has_refusals(&self) -> bool {
        self.steps.iter().any(|step| step.refused.is_some())
    }
}

impl std::fmt::Display for Step {
    /// As the step stands in a script.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.connection != 'A' {
            write!(f, "@{} ", self.connection)?;
        }
        if let Some(code) = &self.refused {
            write!(f, "refused {code} ")?;
        }
        match &self.action {
            Action::Send(message) => f.write_str(&written(message)),
            Action::Wait(tag, count) => write!(f, "wait {} {count}", char::from(*tag)),
            Action::WaitClosed => f.write_str("wait close"),
            Action::Sleep(ms) => write!(f, "sleep {ms}"),
            Action::Runs(text) => write!(f, "runs {text:?}"),
            Action::Answers(count) => write!(f, "answers {count}"),
            Action::Blocked(number) => write!(f, "blocked {number}"),
            Action::Admin(sql) => write!(f, "admin {sql:?}"),
            Action::Cancel => f.write_str("cancel"),
            Action::Connect(parameters) => {
                let pairs: Vec<String> = parameters.iter().map(|(name, value)| format!(" {name} {value:?}")).collect();
                write!(f, "connect{}", pairs.concat())
            }
            Action::Disconnect => f.write_str("disconnect"),
            Action::Startup => f.write_str("startup"),
        }
    }
}

/// A message as it stands in a script.
fn written(message: &Message) -> String {
    let dash = |name: &String| if name.is_empty() { "-".to_owned() } else { name.clone() };
    match message {
        Message::Query(sql) => format!("Q {sql:?}"),
        Message::Parse { name, sql, types } => {
            let types: Vec<String> = types.iter().map(u32::to_string).collect();
            let types = if types.is_empty() { String::new() } else { format!(" [{}]", types.join(" ")) };
            format!("P {} {sql:?}{types}", dash(name))
        }
        Message::Bind { portal, statement, values, binary_results } => {
            let values: Vec<String> = values.iter().map(written_value).collect();
            let binary = if *binary_results { " binary" } else { "" };
            format!("B {} {} [{}]{binary}", dash(portal), dash(statement), values.join(" "))
        }
        Message::DescribeStatement(name) => format!("D S {}", dash(name)),
        Message::DescribePortal(name) => format!("D P {}", dash(name)),
        Message::CloseStatement(name) => format!("C S {}", dash(name)),
        Message::ClosePortal(name) => format!("C P {}", dash(name)),
        Message::Execute { portal, rows_max } => format!("E {} {rows_max}", dash(portal)),
        Message::Sync => "S".to_owned(),
        Message::Flush => "H".to_owned(),
        Message::Terminate => "X".to_owned(),
        Message::CopyData(data) => format!("d {:?}", String::from_utf8_lossy(data)),
        Message::CopyDone => "c".to_owned(),
        Message::CopyFail(reason) => format!("f {reason:?}"),
        Message::FunctionCall { function, values } => format!("F {function} {values:?}"),
        Message::Raw(bytes) => format!("raw \"{}\"", hexed(bytes)),
    }
}

fn written_value(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Text(text) => format!("{text:?}"),
        Value::Binary(bytes) => format!("x{}", hexed(bytes)),
    }
}

fn hexed(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A word of a line.
#[derive(Clone, Debug, PartialEq)]
enum Word {
    Plain(String),
    Quoted(String),
    List(Vec<Word>),
}

/// Every script of the folder, in order of file name and line.
pub fn all(folder: &Path) -> Vec<Script> {
    let entries = std::fs::read_dir(folder).expect("the folder of scripts");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    files.iter().flat_map(|file| read(file)).collect()
}

fn read(file: &Path) -> Vec<Script> {
    let text = std::fs::read_to_string(file).expect("a script file");
    let name = file.file_name().expect("a file name").to_string_lossy().into_owned();
    let mut scripts: Vec<Script> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let place = format!("{name}:{}", index + 1);
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(title) = line.strip_prefix("== ") {
            let (setup, steps) = (Vec::new(), Vec::new());
            let (title, versions, differs) = (title.to_owned(), (0, 99), vec![]);
            scripts.push(Script { title, place, setup, steps, versions, differs, keeps_state: false });
            continue;
        }
        let script = scripts.last_mut().unwrap_or_else(|| panic!("{place}: a step before the first title"));
        if let Some(sql) = line.strip_prefix("setup ") {
            script.setup.push(sql.to_owned());
        } else if let Some(name) = line.strip_prefix("differs ") {
            assert!(DIFFERENCES.iter().any(|known| known.name == name), "{place}: no such difference: {name}");
            script.differs.push(name.to_owned());
        } else if line == "keeps" {
            script.keeps_state = true;
        } else if let Some(versions) = line.strip_prefix("versions ") {
            let (least, greatest) = versions.split_once("..").unwrap_or_else(|| panic!("{place}: versions N..M"));
            script.versions = (least.parse().unwrap_or(0), greatest.parse().unwrap_or(99));
        } else {
            script.steps.push(step(line).unwrap_or_else(|why| panic!("{place}: {why}: {line}")));
        }
    }
    scripts
}

fn step(line: &str) -> Result<Step, String> {
    let mut words = words(line)?;
    let mut step = Step { connection: 'A', refused: None, action: Action::Sleep(0) };
    if let Some(Word::Plain(word)) = words.first()
        && let Some(name) = word.strip_prefix('@')
    {
        step.connection = name.chars().next().ok_or("a connection's name")?;
        words.remove(0);
    }
    if words.first() == Some(&Word::Plain("refused".to_owned())) {
        step.refused = Some(plain(&words, 1)?);
        words.drain(..2);
    }
    step.action = action(&words)?;
    Ok(step)
}

fn action(words: &[Word]) -> Result<Action, String> {
    let optional = |index: usize| words.get(index).map_or(Ok(0), |_| number(words, index));
    Ok(match plain(words, 0)?.as_str() {
        "wait" => match plain(words, 1)?.as_str() {
            "close" => Action::WaitClosed,
            tag => Action::Wait(tag.bytes().next().ok_or("a tag")?, usize::try_from(optional(2)?.max(1)).unwrap_or(1)),
        },
        "sleep" => Action::Sleep(u64::from(number(words, 1)?)),
        "runs" => Action::Runs(quoted(words, 1)?),
        "answers" => Action::Answers(usize::try_from(number(words, 1)?).unwrap_or(1)),
        "blocked" => Action::Blocked(number(words, 1)?),
        "admin" => Action::Admin(quoted(words, 1)?),
        "cancel" => Action::Cancel,
        "disconnect" => Action::Disconnect,
        "startup" => Action::Startup,
        "connect" => Action::Connect(pairs(&words[1..])?),
        _ => Action::Send(message(words)?),
    })
}

fn message(words: &[Word]) -> Result<Message, String> {
    Ok(match plain(words, 0)?.as_str() {
        "Q" => Message::Query(quoted(words, 1)?),
        "P" => Message::Parse { name: name(words, 1)?, sql: quoted(words, 2)?, types: types(words.get(3))? },
        "B" => Message::Bind {
            portal: name(words, 1)?,
            statement: name(words, 2)?,
            values: values(words.get(3))?,
            binary_results: words.last() == Some(&Word::Plain("binary".to_owned())),
        },
        "D" if plain(words, 1)? == "S" => Message::DescribeStatement(name(words, 2)?),
        "D" => Message::DescribePortal(name(words, 2)?),
        "C" if plain(words, 1)? == "S" => Message::CloseStatement(name(words, 2)?),
        "C" => Message::ClosePortal(name(words, 2)?),
        "E" => {
            Message::Execute { portal: name(words, 1)?, rows_max: if words.len() > 2 { number(words, 2)? } else { 0 } }
        }
        "S" => Message::Sync,
        "H" => Message::Flush,
        "X" => Message::Terminate,
        "d" => Message::CopyData(copy_data(words)?),
        "c" => Message::CopyDone,
        "f" => Message::CopyFail(quoted(words, 1)?),
        "F" => Message::FunctionCall { function: number(words, 1)?, values: texts(words.get(2))? },
        "raw" => Message::Raw(hex(&quoted(words, 1)?)?),
        other => return Err(format!("no such step as {other:?}")),
    })
}

/// `d "text"` or `d 1000 "text"` (so many times).
fn copy_data(words: &[Word]) -> Result<Vec<u8>, String> {
    match words.get(1) {
        Some(Word::Plain(_)) => {
            let times = usize::try_from(number(words, 1)?).map_err(|error| error.to_string())?;
            Ok(quoted(words, 2)?.repeat(times).into_bytes())
        }
        _ => Ok(quoted(words, 1)?.into_bytes()),
    }
}

fn plain(words: &[Word], index: usize) -> Result<String, String> {
    match words.get(index) {
        Some(Word::Plain(word)) => Ok(word.clone()),
        other => Err(format!("a word expected at {index}, not {other:?}")),
    }
}

fn number(words: &[Word], index: usize) -> Result<u32, String> {
    plain(words, index)?.parse().map_err(|error| format!("a number expected at {index}: {error}"))
}

/// `-` is the empty name.
fn name(words: &[Word], index: usize) -> Result<String, String> {
    Ok(match plain(words, index)?.as_str() {
        "-" => String::new(),
        name => name.to_owned(),
    })
}

/// A quoted text; `{big N}` inside becomes N letters, so that scripts stay short.
fn quoted(words: &[Word], index: usize) -> Result<String, String> {
    match words.get(index) {
        Some(Word::Quoted(text)) => Ok(grown(text)),
        other => Err(format!("a quoted text expected at {index}, not {other:?}")),
    }
}

fn grown(text: &str) -> String {
    match text.split_once("{big ").and_then(|(before, rest)| Some((before, rest.split_once('}')?))) {
        Some((before, (count, after))) => {
            let count = count.parse().expect("a number after {big");
            format!("{before}{}{}", "x".repeat(count), grown(after))
        }
        None => text.to_owned(),
    }
}

fn types(word: Option<&Word>) -> Result<Vec<u32>, String> {
    match word {
        None => Ok(vec![]),
        Some(Word::List(list)) => (0..list.len()).map(|index| number(list, index)).collect(),
        Some(other) => Err(format!("a list of type oids expected, not {other:?}")),
    }
}

/// `["text" NULL x00000005]`: text, null and binary parameters.
fn values(word: Option<&Word>) -> Result<Vec<Value>, String> {
    let Some(Word::List(list)) = word else { return Ok(vec![]) };
    list.iter()
        .map(|word| match word {
            Word::Quoted(text) => Ok(Value::Text(grown(text))),
            Word::Plain(word) if word == "NULL" => Ok(Value::Null),
            Word::Plain(word) if word.starts_with('x') => Ok(Value::Binary(hex(&word[1..])?)),
            other => Err(format!("not a value: {other:?}")),
        })
        .collect()
}

fn texts(word: Option<&Word>) -> Result<Vec<String>, String> {
    let Some(Word::List(list)) = word else { return Ok(vec![]) };
    (0..list.len()).map(|index| quoted(list, index)).collect()
}

fn pairs(words: &[Word]) -> Result<Vec<(String, String)>, String> {
    words
        .chunks(2)
        .enumerate()
        .map(|(index, _)| Ok((plain(words, index * 2)?, quoted(words, index * 2 + 1)?)))
        .collect()
}

fn hex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pair = |pair: &[u8]| {
        let text = std::str::from_utf8(pair).map_err(|error| error.to_string())?;
        u8::from_str_radix(text, 16).map_err(|error| error.to_string())
    };
    digits.chunks(2).map(pair).collect()
}

fn words(line: &str) -> Result<Vec<Word>, String> {
    let mut rest = line.chars().peekable();
    let found = list(&mut rest, None)?;
    Ok(found)
}

fn list(rest: &mut std::iter::Peekable<std::str::Chars<'_>>, end: Option<char>) -> Result<Vec<Word>, String> {
    let mut found = Vec::new();
    while let Some(&next) = rest.peek() {
        match next {
            ' ' | '\t' => drop(rest.next()),
            '#' => break,
            '"' => {
                rest.next();
                found.push(Word::Quoted(quotation(rest)?));
            }
            '[' => {
                rest.next();
                found.push(Word::List(list(rest, Some(']'))?));
            }
            ']' if end == Some(']') => {
                rest.next();
                return Ok(found);
            }
            _ => {
                let mut word = String::new();
                while let Some(c) = rest.next_if(|c| !matches!(c, ' ' | '\t' | ']' | '[' | '"')) {
                    word.push(c);
                }
                found.push(Word::Plain(word));
            }
        }
    }
    if end.is_some() { Err("a list does not end".to_owned()) } else { Ok(found) }
}

fn quotation(rest: &mut impl Iterator<Item = char>) -> Result<String, String> {
    let mut text = String::new();
    loop {
        match rest.next().ok_or("a text does not end")? {
            '"' => return Ok(text),
            '\\' => text.push(match rest.next().ok_or("a text does not end")? {
                'n' => '\n',
                't' => '\t',
                other => other,
            }),
            other => text.push(other),
        }
    }
}
