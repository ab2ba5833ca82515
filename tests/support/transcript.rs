//! Runs a script on one side and writes down what came back; compares two such transcripts.

use super::differences::{Allowed, Uses};
use super::message::Message;
use super::raw::{Client, Pace, Silence, Target};
use super::reply::Reply;
use super::script::{Action, Script, Step};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tenantgate::fault::Code;

/// How to reach one side: a connection's name and more startup parameters give a target.
pub struct Side<'a> {
    pub is_proxy: bool,
    pub pace: Pace,
    /// How long a wait may take.
    pub patience: Duration,
    pub target: &'a dyn Fn(char) -> Target,
    /// The servers met, where a column named `server` said so.
    pub servers: RefCell<BTreeSet<String>>,
}

impl<'a> Side<'a> {
    /// PostgreSQL itself.
    pub fn native(target: &'a dyn Fn(char) -> Target, patience: Duration) -> Self {
        Side { is_proxy: false, pace: Pace::Burst, patience, target, servers: RefCell::default() }
    }

    /// The proxy.
    pub fn proxy(target: &'a dyn Fn(char) -> Target, patience: Duration, pace: Pace) -> Self {
        Side { is_proxy: true, pace, patience, target, servers: RefCell::default() }
    }
}

/// A connection of a script, with what it takes to write its replies down.
struct Voice {
    client: Client,
    tables: Vec<i32>,
    closed: bool,
    /// An error came since the last ReadyForQuery: the rest of the segment is not answered.
    failed: bool,
    /// The rows that come say which server it is.
    names_server: bool,
}

struct Run<'a> {
    side: &'a Side<'a>,
    /// A superuser in the same database.
    admin: &'a mut Client,
    voices: BTreeMap<char, Voice>,
    lines: Vec<String>,
}

/// What came back on one side, one line per reply.
pub fn of(script: &Script, side: &Side<'_>, admin: &mut Client) -> Vec<String> {
    let mut run = Run { side, admin, voices: BTreeMap::new(), lines: Vec::new() };
    for step in &script.steps {
        run.step(step);
    }
    run.finish();
    run.lines
}

impl Run<'_> {
    fn step(&mut self, step: &Step) {
        let name = step.connection;
        match &step.action {
            Action::Connect(parameters) => self.connect(name, parameters),
            Action::Sleep(ms) => {
                self.leave(name);
                std::thread::sleep(Duration::from_millis(*ms));
            }
            Action::Runs(text) => {
                self.leave(name);
                self.wait_until_it_runs(name, text);
            }
            Action::Send(message) => {
                let message = match &step.refused {
                    Some(code) if !self.side.is_proxy => stand_in(message, code),
                    _ => message.clone(),
                };
                self.voice(name).client.send(&message);
            }
            Action::Wait(tag, count) => {
                self.leave(name);
                (0..*count).for_each(|_| self.wait(name, *tag));
            }
            Action::WaitClosed => {
                self.leave(name);
                self.wait(name, 0);
            }
            Action::Answers(count) => {
                self.leave(name);
                self.answers(name, *count);
            }
            Action::Blocked(number) => {
                self.leave(name);
                self.wait_until_blocked(name, *number);
            }
            Action::Admin(sql) => {
                self.leave(name);
                self.admin(name, sql);
            }
            Action::Cancel => {
                self.leave(name);
                self.voice(name).client.cancel();
            }
            Action::Disconnect => {
                self.leave(name);
                self.voices.remove(&name);
            }
            Action::Startup => self.startup(name),
        }
    }

    /// Its error fails the script: neither side's transcript has this line by rights.
    fn admin(&mut self, name: char, sql: &str) {
        let replies = self.admin.query(sql);
        if let Some(error) = replies.iter().find(|reply| reply.tag == b'E') {
            let side = if self.side.is_proxy { "proxy" } else { "PostgreSQL" };
            self.lines.push(format!("{name} admin {sql:?} beside the {side}: {}", error.line(&mut vec![])));
        }
    }

    fn connect(&mut self, name: char, parameters: &[(String, String)]) {
        let mut target = (self.side.target)(name);
        for (key, value) in parameters {
            match target.parameters.iter_mut().find(|(known, _)| known == key) {
                Some((_, known)) if key == "options" => *known = format!("{known} {value}"),
                Some((_, known)) => value.clone_into(known),
                None => target = target.with(key, value),
            }
        }
        let client = match Client::try_connect(&target) {
            Ok(client) => client,
            Err(error) => return self.lines.push(format!("{name} cannot connect: {error}")),
        };
        let mut voice = Voice { client, tables: vec![], closed: false, failed: false, names_server: false };
        voice.client.patience(self.side.patience);
        voice.client.set_pace(self.side.pace);
        if let Some(error) = voice.client.startup.iter().find(|reply| reply.tag == b'E') {
            self.lines.push(format!("{name} {}", normal(error, &mut vec![])));
            voice.closed = true;
        }
        self.voices.insert(name, voice);
    }

    fn voice(&mut self, name: char) -> &mut Voice {
        if !self.voices.contains_key(&name) {
            self.connect(name, &[]);
        }
        self.voices.get_mut(&name).expect("a connection that was just made")
    }

    /// Everything put so far leaves as one packet.
    fn leave(&mut self, name: char) {
        // A peer that closed says so when its replies are read.
        drop(self.voice(name).client.flush());
    }

    fn wait(&mut self, name: char, tag: u8) {
        while self.read(name).is_some_and(|read| read != tag) {}
    }

    /// The answers to so many messages of a segment whose Sync has not been sent. An error is the last of them.
    fn answers(&mut self, name: char, count: usize) {
        let mut count = count;
        while count > 0 && self.voices.get(&name).is_some_and(|voice| !voice.failed) {
            match self.read(name) {
                Some(b'1' | b'2' | b'3' | b'n' | b'T' | b'C' | b's' | b'I') => count -= 1,
                Some(_) => {}
                None => return,
            }
        }
    }

    /// Writes the next reply down, with ParameterStatus in front of it in the order of names: PostgreSQL's own order
    /// differs from version to version.
    fn read(&mut self, name: char) -> Option<u8> {
        let voice = self.voices.get_mut(&name).expect("a connection to wait for");
        if voice.closed {
            return None;
        }
        let mut told = Vec::new();
        let (line, tag) = loop {
            match voice.client.reply() {
                Ok(reply) if reply.tag == b'S' => told.push(reply.line(&mut voice.tables)),
                Ok(reply) => {
                    match reply.tag {
                        b'E' => voice.failed = true,
                        b'Z' => voice.failed = false,
                        b'C' => voice.names_server = false,
                        b'T' => voice.names_server = reply.names_column("server"),
                        _ => {}
                    }
                    if reply.tag == b'D' && voice.names_server {
                        self.side.servers.borrow_mut().extend(reply.row().into_iter().flatten());
                        break ("D (the server)".to_owned(), Some(reply.tag));
                    }
                    break (normal(&reply, &mut voice.tables), Some(reply.tag));
                }
                Err(silence) => {
                    voice.closed = true;
                    break (if silence == Silence::Closed { "closed" } else { "TIMEOUT" }.to_owned(), None);
                }
            }
        };
        told.sort();
        told.push(line);
        self.lines.extend(told.into_iter().map(|line| format!("{name} {line}")));
        tag
    }

    /// Exact where `runs` is not: the statement can only wait.
    fn wait_until_blocked(&mut self, name: char, number: u32) {
        let waits = format!(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = {number} AND \
             database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        );
        let deadline = Instant::now() + self.side.patience;
        while self.admin.value(&waits) == "0" {
            if Instant::now() > deadline {
                return self.lines.push(format!("{name} blocked {number}: TIMEOUT"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Parse and Bind show the text as well: what has lasted for some time is being executed.
    fn wait_until_it_runs(&mut self, name: char, text: &str) {
        let running = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND strpos(query, $${text}$$) > 0 AND \
             clock_timestamp() - query_start > '20 ms' AND pid <> pg_backend_pid() AND datname = current_database()"
        );
        let deadline = Instant::now() + self.side.patience;
        while self.admin.value(&running) == "0" {
            if Instant::now() > deadline {
                return self.lines.push(format!("{name} runs {text:?}: TIMEOUT"));
            }
        }
    }

    fn startup(&mut self, name: char) {
        let mut tables = vec![];
        let startup = self.voice(name).client.startup.clone();
        let mut lines: Vec<String> = startup.iter().map(|reply| reply.line(&mut tables)).collect();
        lines.sort();
        self.lines.extend(lines.into_iter().map(|line| format!("{name} {line}")));
    }

    /// A last Sync on every connection: whatever was left over comes to light in front of its answer.
    fn finish(&mut self) {
        let names: Vec<char> = self.voices.keys().copied().collect();
        for name in names {
            if !self.voice(name).closed {
                self.lines.push(format!("{name} -- end"));
                self.voice(name).client.send(&Message::Sync);
                self.leave(name);
                self.wait(name, b'Z');
            }
            if let Some(voice) = self.voices.remove(&name) {
                voice.client.bye();
            }
        }
    }
}

/// What the server is sent in place of a message the proxy would refuse: it must fail, and in the same place.
fn stand_in(message: &Message, code: &str) -> Message {
    let sql = format!("SELECT refused_{code}");
    match message {
        Message::Query(_) => Message::Query(sql),
        Message::Parse { name, .. } => Message::Parse { name: name.clone(), sql, types: vec![] },
        Message::FunctionCall { .. } => Message::FunctionCall { function: u32::MAX, values: vec![] },
        other => panic!("a refusal of {other:?} has no stand-in"),
    }
}

fn normal(reply: &Reply, tables: &mut Vec<i32>) -> String {
    let fields = reply.fields();
    let said = fields.get(&'M').map_or("", String::as_str);
    if reply.tag != b'E' {
        return reply.line(tables);
    }
    if let Some(code) = said.split("refused_tg").nth(1).and_then(|rest| rest.get(..3)) {
        return format!("E refused TG{code}");
    }
    if said.contains("function with OID 4294967295") {
        return "E refused TG030".to_owned();
    }
    match Code::ALL.iter().find(|code| said.starts_with(&format!("{}: ", code.row().name))) {
        Some(Code::SyntaxError) => format!("E syntax error at {:?}", fields.get(&'P')),
        Some(code) => refusal(*code, &fields),
        None if fields.get(&'C').is_some_and(|state| state == "42601") => format!("{} ", reply.line(tables)),
        None => reply.line(tables),
    }
}

fn refusal(code: Code, fields: &BTreeMap<char, String>) -> String {
    let row = code.row();
    let mut line = format!("E refused {}", row.name);
    let state = String::from_utf8_lossy(row.sqlstate);
    if fields.get(&'C').map(String::as_str) != Some(&*state) {
        line.push_str(" WITH ANOTHER SQLSTATE");
    }
    if fields.get(&'S').map(String::as_str) != Some(row.severity.word()) {
        line.push_str(" WITH ANOTHER SEVERITY");
    }
    if !fields.contains_key(&'D') {
        line.push_str(" WITHOUT DETAIL");
    }
    if !fields.contains_key(&'H') {
        line.push_str(" WITHOUT HINT");
    }
    line
}

/// Which differences were let pass if both sides said the same otherwise, else both in two columns.
pub fn compare(left: &[String], right: &[String], allowed: Allowed<'_>) -> Result<Uses, String> {
    let pairs = alignment(left, right, allowed);
    let mut uses = Uses::new();
    let (mut lost, mut found): (Vec<&str>, Vec<&str>) = Default::default();
    let mut count = |name: Option<&'static str>| name.map(|name| *uses.entry(name).or_default() += 1);
    for pair in pairs.iter().map(Some).chain([None]) {
        match pair {
            Some((Some(row), None)) => lost.push(row),
            Some((None, Some(column))) => found.push(column),
            Some((Some(_), Some(_))) | None if !lost.is_empty() || !found.is_empty() => {
                let excuse = allowed.excuse_lines(&lost, &found);
                count(excuse).ok_or_else(|| columns(&pairs))?;
                (lost, found) = Default::default();
            }
            _ => {}
        }
        if let Some((Some(row), Some(column))) = pair.filter(|(row, column)| row != column) {
            count(allowed.excuse(row, column));
        }
    }
    Ok(uses)
}

type Pair<'a> = (Option<&'a str>, Option<&'a str>);

/// What each side said beside what the other said: a longest common subsequence.
fn alignment<'a>(left: &'a [String], right: &'a [String], allowed: Allowed<'_>) -> Vec<Pair<'a>> {
    let pair = |(left, right): (&'a String, &'a String)| (Some(&**left), Some(&**right));
    if left.len() == right.len() && left.iter().zip(right).all(|(left, right)| allowed.is_same(left, right)) {
        return left.iter().zip(right).map(pair).collect();
    }
    let mut common = vec![vec![0_u32; right.len() + 1]; left.len() + 1];
    for (row, line) in left.iter().enumerate().rev() {
        for (column, other) in right.iter().enumerate().rev() {
            common[row][column] = match allowed.is_same(line, other) {
                true => common[row + 1][column + 1] + 1,
                false => common[row + 1][column].max(common[row][column + 1]),
            };
        }
    }
    let (mut row, mut column, mut pairs) = (0, 0, vec![]);
    while row < left.len() || column < right.len() {
        let has_both = row < left.len() && column < right.len();
        if has_both && allowed.is_same(&left[row], &right[column]) {
            (row, column) = (row + 1, column + 1);
            pairs.push(pair((&left[row - 1], &right[column - 1])));
        } else if column == right.len() || (has_both && common[row + 1][column] >= common[row][column + 1]) {
            row += 1;
            pairs.push((Some(&left[row - 1]), None));
        } else {
            column += 1;
            pairs.push((None, Some(&right[column - 1])));
        }
    }
    pairs
}

/// Both sides in one column, lines of one side only marked.
fn columns(pairs: &[Pair<'_>]) -> String {
    let line = |pair: &Pair<'_>| match pair {
        (Some(left), Some(_)) => format!("     {left}\n"),
        (Some(left), None) => format!("  PG {left}\n"),
        (None, right) => format!("  TG {}\n", right.unwrap_or_default()),
    };
    pairs.iter().map(line).collect()
}

/// What the tables hold afterwards, and whether a server was left in a transaction.
pub fn aftermath(admin: &mut Client) -> Vec<String> {
    let deadline = Instant::now() + Duration::from_secs(5);
    let busy = "SELECT coalesce(string_agg(concat_ws(' ', pid, state, query), '; '), '') FROM pg_stat_activity \
                WHERE usename IN ('app_user', 'scram_user') AND state <> 'idle' AND datname = current_database()";
    let mut left = admin.value(busy);
    while !left.is_empty() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
        left = admin.value(busy);
    }
    if !left.is_empty() {
        // It is told below; the next script must not suffer for it.
        admin.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename IN ('app_user', 'scram_user') AND datname = current_database()");
    }
    let mut lines = if left.is_empty() { vec![] } else { vec![format!("STUCK {left}")] };
    for table in ["items", "plain", "parents", "children", "uniq"] {
        for row in admin.rows(&format!("SELECT t::text FROM {table} t ORDER BY 1 LIMIT 100")) {
            lines.push(format!("{table} {}", row[0].as_deref().unwrap_or("")));
        }
    }
    lines
}
