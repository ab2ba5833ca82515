//! The statements that the model server understands: what the guard lets pass, and what the proxy writes itself.
//!
//! Owns: text → statement. Does not own: what a statement does (`backend`).

/// A value in a statement's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Text(String),
    /// `$1` is 1.
    Parameter(usize),
}

/// What a session may leave on its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Temporary,
    Channels,
    Cursors,
    Prepared,
    Locks,
}

/// One statement of the model's language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sql {
    /// `SELECT probe(mark, 7)`: one row of the mark and the tenant in force.
    Probe(Value, String),
    /// `SELECT probe(mark, i) FROM generate_series(1, 7) i`
    Rows(Value, u32),
    /// `SELECT slow(mark, 500)`
    Slow(Value, u64),
    /// `SELECT warn(mark)`: a notice in front of the row.
    Warn(Value),
    /// `SELECT fail(mark)`: fails when it runs.
    Fail(Value),
    /// `SELECT wide(mark, 20000)`: one long row.
    Wide(Value, usize),
    /// `SELECT count(*) FROM notes WHERE mark = …`
    Count(Value),
    /// `INSERT INTO notes VALUES (mark, 7)`
    Insert(Value),
    /// `INSERT INTO later VALUES (mark)`: fails when it is committed.
    Later(Value),
    /// `COPY notes FROM STDIN`: lines of a mark and something.
    CopyIn,
    /// `COPY (SELECT probe(mark, i) FROM generate_series(1, 3) i) TO STDOUT`
    CopyOut(Value, u32),
    /// Fails in analysis, with a position.
    Missing(&'static str),
    /// `true` with an isolation level.
    Begin(bool),
    SetTransaction,
    Commit(bool),
    Rollback(bool),
    Savepoint(String),
    Release(String),
    RollbackTo(String),
    Set {
        name: String,
        value: String,
        local: bool,
    },
    /// `SELECT set_config(…)`; `hidden`: in the form that gives no row.
    Configure {
        name: Value,
        value: Value,
        local: bool,
        hidden: bool,
    },
    Reset(String),
    ResetAll,
    Show(String),
    DiscardAll,
    DeallocateAll,
    UnlistenNothing,
    /// `CREATE TEMP TABLE t1 (a text)`
    CreateTemp(String),
    /// `SELECT probe(mark, i) FROM t1 i`: one row, if that client has such a table.
    FromTemp(Value, String),
    /// `SELECT pg_try_advisory_lock(7)`
    Lock(u32),
    /// `SELECT pg_advisory_unlock_all()`; `true`: in the proxy's form, without a row.
    UnlockAll(bool),
    /// Its result alone, as the proxy writes it in its place.
    NothingUnlocked,
    Listen(String),
    /// `None` is `*`.
    Unlisten(Option<String>),
    Notify(String, String),
    /// `PREPARE q1 AS …`
    Prepare(String, Box<Sql>),
    Execute(String),
    Deallocate(String),
    DiscardTemp,
    DiscardSequences,
    CloseAll,
    /// The proxy's question whether any state of a kind is left.
    IsLeft(Kind),
    /// The proxy's question how a recorded transaction stands: its id and six more columns.
    Standing,
    /// `SELECT 'x'::pg_catalog.text AS "name"`, as the proxy writes it in a claim's place.
    Literal(Value, String),
}

impl Sql {
    /// Whether it runs in a failed block.
    pub fn is_exit(&self) -> bool {
        matches!(self, Sql::Commit(_) | Sql::Rollback(_) | Sql::RollbackTo(_))
    }

    /// Whether PostgreSQL ends the current command's transaction state behind it, so that nothing is pipelined yet.
    pub fn is_transaction_control(&self) -> bool {
        self.is_exit() || matches!(self, Sql::Begin(_) | Sql::Savepoint(_) | Sql::Release(_))
    }

    /// Whether it takes a snapshot.
    pub fn takes_snapshot(&self) -> bool {
        self.columns().is_some_and(|_| !matches!(self, Sql::Show(_)))
            || matches!(self, Sql::Insert(_) | Sql::Later(_) | Sql::CopyIn | Sql::CopyOut(..))
    }

    /// Its result's column, if it has rows.
    pub fn columns(&self) -> Option<&str> {
        Some(match self {
            Sql::Probe(..) | Sql::Rows(..) | Sql::FromTemp(..) => "probe",
            // Nothing else is prepared.
            Sql::Execute(_) => "probe",
            Sql::Lock(_) => "pg_try_advisory_lock",
            Sql::UnlockAll(false) | Sql::NothingUnlocked => "pg_advisory_unlock_all",
            Sql::UnlockAll(true) | Sql::IsLeft(_) => "",
            Sql::Slow(..) => "slow",
            Sql::Warn(_) => "warn",
            Sql::Fail(_) => "fail",
            Sql::Wide(..) => "wide",
            Sql::Count(_) => "count",
            Sql::Configure { hidden: false, .. } => "set_config",
            Sql::Configure { hidden: true, .. } => "",
            Sql::Standing => "xid\u{1f}wal\u{1f}era\u{1f}flushed\u{1f}timeline\u{1f}system\u{1f}set",
            Sql::Show(name) | Sql::Literal(_, name) => name,
            _ => return None,
        })
    }

    /// How many parameters it has.
    pub fn parameters(&self) -> usize {
        let number = |value: &Value| if let Value::Parameter(number) = value { *number } else { 0 };
        match self {
            Sql::Probe(mark, _)
            | Sql::Rows(mark, _)
            | Sql::FromTemp(mark, _)
            | Sql::Slow(mark, _)
            | Sql::Warn(mark)
            | Sql::Fail(mark)
            | Sql::Wide(mark, _)
            | Sql::Count(mark)
            | Sql::Insert(mark)
            | Sql::Later(mark)
            | Sql::CopyOut(mark, _)
            | Sql::Literal(mark, _) => number(mark),
            Sql::Configure { name, value, .. } => number(name).max(number(value)),
            _ => 0,
        }
    }
}

/// A statement and where it begins, in characters from 0.
#[derive(Clone, Debug)]
pub struct Parsed {
    pub sql: Sql,
    /// Position of what an error in analysis points at, from 1.
    pub position: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Text(String),
    Sign(char),
}

/// What PostgreSQL says of a text that it cannot parse.
#[derive(Debug)]
pub struct SyntaxError;

/// The statements of a text.
pub fn parse(text: &str) -> Result<Vec<Parsed>, SyntaxError> {
    let tokens = tokens(text)?;
    let mut found = Vec::new();
    for part in tokens.split(|(token, _)| *token == Token::Sign(';')) {
        if !part.is_empty() {
            found.push(statement(part)?);
        }
    }
    Ok(found)
}

fn tokens(text: &str) -> Result<Vec<(Token, u32)>, SyntaxError> {
    let characters: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(&c) = characters.get(at) {
        let start = at;
        at += 1;
        let token = match c {
            _ if c.is_whitespace() => continue,
            '/' if characters.get(at) == Some(&'*') => {
                while characters.get(at..at + 2) != Some(&['*', '/']) {
                    at += 1;
                    if at >= characters.len() {
                        return Err(SyntaxError);
                    }
                }
                at += 2;
                continue;
            }
            '\'' | '"' => Token::Text(quoted(&characters, &mut at, c)?),
            _ if is_word(c) => {
                while characters.get(at).is_some_and(|c| is_word(*c)) {
                    at += 1;
                }
                Token::Word(characters[start..at].iter().collect())
            }
            _ => Token::Sign(c),
        };
        found.push((token, u32::try_from(start).map_err(|_| SyntaxError)? + 1));
    }
    Ok(found)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '$')
}

fn quoted(characters: &[char], at: &mut usize, quote: char) -> Result<String, SyntaxError> {
    let mut text = String::new();
    loop {
        let c = *characters.get(*at).ok_or(SyntaxError)?;
        *at += 1;
        if c == quote {
            if characters.get(*at) != Some(&quote) {
                return Ok(text);
            }
            *at += 1;
        }
        text.push(c);
    }
}

/// Walks over the tokens of one statement.
struct Walk<'a> {
    tokens: &'a [(Token, u32)],
    at: usize,
}

impl Walk<'_> {
    fn is(&mut self, words: &str) -> bool {
        let wanted: Vec<&str> = words.split(' ').collect();
        let found = wanted.iter().enumerate().all(|(offset, wanted)| {
            self.tokens.get(self.at + offset).is_some_and(|(token, _)| match token {
                Token::Word(word) => word.eq_ignore_ascii_case(wanted),
                Token::Sign(sign) => *wanted == sign.to_string(),
                Token::Text(_) => false,
            })
        });
        if found {
            self.at += wanted.len();
        }
        found
    }

    /// A quoted name of that text: in this language a text, too.
    fn is_text(&mut self, wanted: &str) -> bool {
        let found = matches!(self.tokens.get(self.at), Some((Token::Text(text), _)) if text == wanted);
        self.at += usize::from(found);
        found
    }

    fn must(&mut self, words: &str) -> Result<(), SyntaxError> {
        if self.is(words) { Ok(()) } else { Err(SyntaxError) }
    }

    fn name(&mut self) -> Result<String, SyntaxError> {
        match self.tokens.get(self.at) {
            Some((Token::Word(word), _)) => {
                self.at += 1;
                Ok(word.to_ascii_lowercase())
            }
            _ => Err(SyntaxError),
        }
    }

    fn value(&mut self) -> Result<Value, SyntaxError> {
        let value = match self.tokens.get(self.at) {
            Some((Token::Text(text), _)) => Value::Text(text.clone()),
            Some((Token::Word(word), _)) => match word.strip_prefix('$').map(str::parse) {
                Some(number) => Value::Parameter(number.map_err(|_| SyntaxError)?),
                None => Value::Text(word.clone()),
            },
            _ => return Err(SyntaxError),
        };
        self.at += 1;
        Ok(value)
    }

    fn number<T: std::str::FromStr>(&mut self) -> Result<T, SyntaxError> {
        match self.value()? {
            Value::Text(text) => text.parse().map_err(|_| SyntaxError),
            Value::Parameter(_) => Err(SyntaxError),
        }
    }

    fn is_done(&self) -> bool {
        self.at == self.tokens.len()
    }

    fn position(&self, back: usize) -> u32 {
        self.tokens.get(self.at.saturating_sub(back)).map_or(1, |(_, position)| *position)
    }
}

fn statement(tokens: &[(Token, u32)]) -> Result<Parsed, SyntaxError> {
    let mut walk = Walk { tokens, at: 0 };
    let mut position = 1;
    let sql = if walk.is("select") { select(&mut walk, &mut position)? } else { command(&mut walk)? };
    if walk.is_done() { Ok(Parsed { sql, position }) } else { Err(SyntaxError) }
}

fn select(walk: &mut Walk<'_>, position: &mut u32) -> Result<Sql, SyntaxError> {
    if walk.is("* from missing") {
        *position = walk.position(1);
        return Ok(Sql::Missing("42P01"));
    }
    if walk.is("nope") {
        *position = walk.position(1);
        return Ok(Sql::Missing("42703"));
    }
    if walk.is_text("tenantgate: refused") {
        *position = walk.position(1);
        return Ok(Sql::Missing("42703"));
    }
    if walk.is("null : : pg_catalog.") {
        *position = walk.position(1);
        walk.value()?;
        return Ok(Sql::Missing("42704"));
    }
    if walk.is("pg_catalog.pg_current_xact_id_if_assigned (") {
        walk.at = walk.tokens.len();
        return Ok(Sql::Standing);
    }
    if walk.is("count ( * ) from notes where mark =") {
        return Ok(Sql::Count(walk.value()?));
    }
    if walk.is("where pg_catalog.pg_advisory_unlock_all ( ) is null") {
        return Ok(Sql::UnlockAll(true));
    }
    if walk.is("where exists (") {
        return left(walk);
    }
    if walk.is("pg_advisory_unlock_all ( )") {
        return Ok(Sql::UnlockAll(false));
    }
    if walk.is("pg_try_advisory_lock (") {
        let number = walk.number()?;
        walk.must(")")?;
        return Ok(Sql::Lock(number));
    }
    if walk.is("where pg_catalog.set_config (") {
        let configure = configure(walk, true)?;
        walk.must("is null")?;
        return Ok(configure);
    }
    if walk.is("set_config (") {
        return configure(walk, false);
    }
    if let Some(literal) = literal(walk)? {
        return Ok(literal);
    }
    let function = walk.name()?;
    walk.must("(")?;
    let mark = walk.value()?;
    let sql = match function.as_str() {
        "probe" => {
            walk.must(",")?;
            if walk.is("i") {
                walk.must(") from")?;
                if !walk.is("generate_series ( 1 ,") {
                    *position = walk.position(0);
                    let name = walk.name()?;
                    walk.must("i")?;
                    return Ok(Sql::FromTemp(mark, name));
                }
                let count = walk.number()?;
                walk.must(") i")?;
                return Ok(Sql::Rows(mark, count));
            }
            Sql::Probe(mark, walk.number()?)
        }
        "slow" => {
            walk.must(",")?;
            Sql::Slow(mark, walk.number()?)
        }
        "wide" => {
            walk.must(",")?;
            Sql::Wide(mark, walk.number()?)
        }
        "warn" => Sql::Warn(mark),
        "fail" => Sql::Fail(mark),
        _ => return Err(SyntaxError),
    };
    walk.must(")")?;
    Ok(sql)
}

fn left(walk: &mut Walk<'_>) -> Result<Sql, SyntaxError> {
    let kinds = [
        ("pg_catalog.pg_depend", Kind::Temporary),
        ("pg_catalog.pg_listening_channels", Kind::Channels),
        ("pg_catalog.pg_cursors", Kind::Cursors),
        ("pg_catalog.pg_prepared_statements", Kind::Prepared),
        ("pg_catalog.pg_locks", Kind::Locks),
    ];
    walk.must("select from")?;
    let table = walk.name()?;
    walk.at = walk.tokens.len();
    kinds.into_iter().find(|(name, _)| **name == *table).map(|(_, kind)| Sql::IsLeft(kind)).ok_or(SyntaxError)
}

fn literal(walk: &mut Walk<'_>) -> Result<Option<Sql>, SyntaxError> {
    let start = walk.at;
    let value = walk.value()?;
    if walk.is(": : pg_catalog.void as pg_advisory_unlock_all") {
        return Ok(Some(Sql::NothingUnlocked));
    }
    if !walk.is(": : pg_catalog.text as") {
        walk.at = start;
        return Ok(None);
    }
    match walk.value()? {
        Value::Text(name) => Ok(Some(Sql::Literal(value, name))),
        Value::Parameter(_) => Err(SyntaxError),
    }
}

fn configure(walk: &mut Walk<'_>, hidden: bool) -> Result<Sql, SyntaxError> {
    let name = walk.value()?;
    walk.must(",")?;
    let value = walk.value()?;
    walk.must(",")?;
    let local = walk.is("true");
    if !local {
        walk.must("false")?;
    }
    walk.must(")")?;
    Ok(Sql::Configure { name, value, local, hidden })
}

fn command(walk: &mut Walk<'_>) -> Result<Sql, SyntaxError> {
    let is_chained = |walk: &mut Walk<'_>| walk.is("and chain");
    Ok(if walk.is("begin") {
        let has_level = walk.is("isolation level");
        if has_level {
            walk.at = walk.tokens.len();
        }
        Sql::Begin(has_level)
    } else if walk.is("set transaction read only") {
        // Prepared by the proxy everywhere, run for bypass logins alone.
        Sql::SetTransaction
    } else if walk.is("set transaction isolation level") {
        walk.at = walk.tokens.len();
        Sql::SetTransaction
    } else if walk.is("commit") {
        Sql::Commit(is_chained(walk))
    } else if walk.is("rollback to") {
        Sql::RollbackTo(walk.name()?)
    } else if walk.is("rollback") {
        Sql::Rollback(is_chained(walk))
    } else if walk.is("savepoint") {
        Sql::Savepoint(walk.name()?)
    } else if walk.is("release") {
        Sql::Release(walk.name()?)
    } else if walk.is("reset all") {
        Sql::ResetAll
    } else if walk.is("reset") {
        Sql::Reset(walk.name()?)
    } else if walk.is("show") {
        Sql::Show(walk.name()?)
    } else if walk.is("discard all") {
        Sql::DiscardAll
    } else if walk.is("deallocate all") {
        Sql::DeallocateAll
    } else if walk.is("unlisten tenantgate") {
        Sql::UnlistenNothing
    } else if let Some(kept) = kept(walk)? {
        kept
    } else if walk.is("set") {
        return set(walk);
    } else {
        return data(walk);
    })
}

/// What leaves something on a server, or takes it away.
fn kept(walk: &mut Walk<'_>) -> Result<Option<Sql>, SyntaxError> {
    let text = |value: Value| if let Value::Text(text) = value { Ok(text) } else { Err(SyntaxError) };
    Ok(Some(if walk.is("create temp table") {
        let name = walk.name()?;
        walk.must("( a text )")?;
        Sql::CreateTemp(name)
    } else if walk.is("listen") {
        Sql::Listen(walk.name()?)
    } else if walk.is("unlisten *") {
        Sql::Unlisten(None)
    } else if walk.is("unlisten") {
        Sql::Unlisten(Some(walk.name()?))
    } else if walk.is("notify") {
        let channel = walk.name()?;
        walk.must(",")?;
        Sql::Notify(channel, text(walk.value()?)?)
    } else if walk.is("prepare") {
        let name = walk.name()?;
        walk.must("as select")?;
        Sql::Prepare(name, Box::new(select(walk, &mut 1)?))
    } else if walk.is("execute") {
        Sql::Execute(walk.name()?)
    } else if walk.is("deallocate") {
        Sql::Deallocate(text(walk.value()?)?)
    } else if walk.is("discard temp") {
        Sql::DiscardTemp
    } else if walk.is("discard sequences") {
        Sql::DiscardSequences
    } else if walk.is("close all") {
        Sql::CloseAll
    } else {
        return Ok(None);
    }))
}

fn set(walk: &mut Walk<'_>) -> Result<Sql, SyntaxError> {
    let local = walk.is("local");
    let name = walk.name()?;
    if !walk.is("to") {
        walk.must("=")?;
    }
    match walk.value()? {
        Value::Text(value) => Ok(Sql::Set { name, value, local }),
        Value::Parameter(_) => Err(SyntaxError),
    }
}

fn data(walk: &mut Walk<'_>) -> Result<Sql, SyntaxError> {
    let sql = if walk.is("insert into notes values (") {
        let mark = walk.value()?;
        walk.must(",")?;
        walk.value()?;
        Sql::Insert(mark)
    } else if walk.is("insert into later values (") {
        Sql::Later(walk.value()?)
    } else if walk.is("copy notes from stdin") {
        return Ok(Sql::CopyIn);
    } else if walk.is("copy ( select probe (") {
        let mark = walk.value()?;
        walk.must(", i ) from generate_series ( 1 ,")?;
        let count = walk.number()?;
        walk.must(") i ) to stdout")?;
        return Ok(Sql::CopyOut(mark, count));
    } else {
        return Err(SyntaxError);
    };
    walk.must(")")?;
    Ok(sql)
}
