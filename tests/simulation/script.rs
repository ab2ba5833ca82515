//! What one client sends: bursts of messages drawn from its dice.
//!
//! Owns: the choice of messages. Does not own: when they are sent, cut and cancelled (`world`).

use crate::dice::Dice;
use bytes::BytesMut;
use tenantgate::wire::frontend::{self, Target};

/// Messages that are sent together.
#[derive(Debug)]
pub struct Burst {
    pub bytes: Vec<u8>,
    /// ReadyForQuery that come in any case.
    pub readies: usize,
    /// It is sent without waiting for the answers to what came before.
    pub is_pipelined: bool,
    pub label: String,
}

/// Which kinds of messages a client uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Simple,
    Extended,
    Mixed,
}

/// What a script may hold.
#[derive(Clone, Copy, Debug)]
pub struct Wishes {
    pub style: Style,
    pub acts: u64,
    /// Once in so many statements is a slow one; 0 is never.
    pub slow_once_in: u64,
    pub has_wide: bool,
    /// Once in so many bursts is pipelined.
    pub pipelined_once_in: u64,
    /// Its transactions are recorded: none begins with the end of another.
    pub is_recorded: bool,
    /// It may read what it or others have left on servers, and, `true`, leave something itself.
    pub keeps: Option<bool>,
    /// The client names this tenant by SQL.
    pub claims: Option<&'static str>,
}

/// The bursts of one client.
pub fn write(dice: &mut Dice, mark: &str, wishes: Wishes) -> Vec<Burst> {
    let (bursts, held) = (Vec::new(), Vec::new());
    let mut writer = Writer { dice, mark, wishes, bursts, held, portal: 0, savepoint: 0 };
    for _ in 0..wishes.acts {
        writer.act();
    }
    // So that the end is one: whatever is open is closed.
    writer.query("ROLLBACK");
    writer.bursts.last_mut().expect("just written").is_pipelined = false;
    writer.bursts
}

struct Writer<'a> {
    dice: &'a mut Dice,
    mark: &'a str,
    wishes: Wishes,
    bursts: Vec<Burst>,
    /// Names of statements that were prepared, with their parameters.
    held: Vec<(String, usize)>,
    portal: u64,
    savepoint: u64,
}

const SETTINGS: [(&str, &[&str]); 4] = [
    ("timezone", &["CET", "EST", "Asia/Tokyo", "nowhere"]),
    ("application_name", &["one", "two", "three"]),
    ("datestyle", &["German", "SQL"]),
    ("extra_float_digits", &["0", "3"]),
];

impl Writer<'_> {
    fn act(&mut self) {
        let is_simple = match self.wishes.style {
            Style::Simple => true,
            Style::Extended => false,
            Style::Mixed => self.dice.once_in(2),
        };
        if self.wishes.keeps.is_some() && self.dice.once_in(2) {
            return self.keep(is_simple);
        }
        match (is_simple, self.dice.below(16)) {
            (_, 12) => self.doomed_start(is_simple),
            (_, 13) => self.there_and_back(is_simple),
            (false, 14) => (0..4).for_each(|_| self.named()),
            (true, 14) => self.simple_copy(),
            (false, 15) => self.extended_copy(),
            (true, 0..=3) => self.simple(),
            (true, 4..=5) => self.several(),
            (true, 6..=8) => self.simple_block(),
            (true, 9) => self.simple_copy(),
            (true, _) => self.simple_settings(),
            (false, 0..=2) => self.unnamed(),
            (false, 3..=5) => self.named(),
            (false, 6..=7) => self.extended_block(),
            (false, 8) => self.limited(),
            (false, 9) => self.extended_copy(),
            (false, 10) => self.extended_settings(),
            (false, _) => self.mistakes(),
        }
    }

    fn push(&mut self, bytes: Vec<u8>, readies: usize, label: impl Into<String>) {
        let is_pipelined = self.dice.once_in(self.wishes.pipelined_once_in);
        self.bursts.push(Burst { bytes, readies, is_pipelined, label: label.into() });
    }

    fn query(&mut self, sql: &str) {
        let bytes = message(|out| frontend::put_query(out, sql.as_bytes()));
        self.push(bytes, 1, format!("Q {sql}"));
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[usize::try_from(self.dice.below(list.len() as u64)).unwrap_or(0)]
    }

    // -- statements

    /// A statement that reads or writes, with the mark as text or as `$1`.
    fn statement(&mut self, is_bound: bool) -> (String, usize) {
        let mark = if is_bound { "$1".to_owned() } else { format!("'{}'", self.mark) };
        let number = self.dice.below(6);
        let sql = match self.dice.below(20) {
            _ if self.wishes.slow_once_in > 0 && self.dice.once_in(self.wishes.slow_once_in) => {
                format!("SELECT slow({mark}, {})", 20 + number * 40)
            }
            0..=6 => format!("SELECT probe({mark}, {number})"),
            7..=8 => format!("SELECT probe({mark}, i) FROM generate_series(1, {}) i", number + 1),
            9..=10 => format!("SELECT count(*) FROM notes WHERE mark = {mark}"),
            11..=14 => format!("INSERT INTO notes VALUES ({mark}, {number})"),
            15 => format!("SELECT warn({mark})"),
            16 => format!("SELECT fail({mark})"),
            17 if self.wishes.has_wide => format!("SELECT wide({mark}, 20000)"),
            17 | 18 => format!("COPY (SELECT probe('{}', i) FROM generate_series(1, 3) i) TO STDOUT", self.mark),
            _ => return (self.broken(), 0),
        };
        let parameters = usize::from(sql.contains("$1"));
        (sql, parameters)
    }

    fn broken(&mut self) -> String {
        self.pick(&["SELECT * FROM missing", "/* é */ SELECT nope", "SELEC 1", "SAVEPOINT a", "SHOW no_such"])
            .to_owned()
    }

    fn plain(&mut self) -> String {
        self.statement(false).0
    }

    fn setting(&mut self) -> String {
        let (name, values) = self.pick(&SETTINGS);
        let value = self.pick(values);
        match self.dice.below(7) {
            0..=1 => format!("SET {name} TO '{value}'"),
            2 => format!("SET LOCAL {name} TO '{value}'"),
            3 => format!("SELECT set_config('{name}', '{value}', false)"),
            4 => format!("SELECT set_config('{name}', '{value}', true)"),
            5 => format!("RESET {name}"),
            _ => format!("SHOW {name}"),
        }
    }

    // -- state beyond transactions

    fn keep(&mut self, is_simple: bool) {
        let is_block = self.dice.once_in(3);
        let mut list = Vec::new();
        for _ in 0..1 + self.dice.below(4) {
            let sql = if self.dice.once_in(4) { self.plain() } else { self.state() };
            list.push(sql);
        }
        if is_block {
            list.insert(0, "BEGIN".to_owned());
            list.push(self.pick(&["COMMIT", "COMMIT", "ROLLBACK"]).to_owned());
        }
        for sql in list {
            self.one(is_simple, &sql);
        }
    }

    fn state(&mut self) -> String {
        let (mark, number) = (self.mark, self.dice.below(2));
        let channel = self.pick(&["a", "b"]);
        if self.wishes.keeps != Some(true) {
            return format!("SELECT probe('{mark}', i) FROM t{number} i");
        }
        match self.dice.below(15) {
            0..=1 => format!("CREATE TEMP TABLE t{number} (a text)"),
            2..=3 => format!("SELECT probe('{mark}', i) FROM t{number} i"),
            4..=5 => format!("LISTEN {channel}"),
            6 => format!("UNLISTEN {channel}"),
            7 => "UNLISTEN *".to_owned(),
            8..=9 => {
                self.savepoint += 1;
                format!("NOTIFY {channel}, '{mark}-{}'", self.savepoint)
            }
            10 => format!("PREPARE q{number} AS SELECT probe('{mark}', {number})"),
            11 => format!("EXECUTE q{number}"),
            12 => format!("DEALLOCATE q{number}"),
            13 => format!("SELECT pg_try_advisory_lock({})", mark.trim_start_matches('c')),
            _ => "SELECT pg_advisory_unlock_all()".to_owned(),
        }
    }

    // -- claims

    /// Whether a client that claims does so now, once in so many times; nobody else's dice are touched.
    fn claims_once_in(&mut self, times: u64) -> Option<String> {
        let tenant = self.wishes.claims?.replace('\'', "''");
        if !self.dice.once_in(times) {
            return None;
        }
        Some(match self.dice.below(8) {
            0..=1 => format!("SET LOCAL app.tenant_id = '{tenant}'"),
            2..=4 => format!("SELECT set_config('app.tenant_id', '{tenant}', true)"),
            5 => format!("SET app.tenant_id TO '{tenant}'"),
            6 => format!("SELECT set_config('app.tenant_id', '{tenant}', false)"),
            _ => "RESET app.tenant_id".to_owned(),
        })
    }

    /// A claim by the extended protocol, perhaps with its tenant bound.
    fn extended_claim(&mut self, times: u64) -> Vec<u8> {
        let Some(sql) = self.claims_once_in(times) else { return Vec::new() };
        if !sql.starts_with("SELECT") || self.dice.once_in(2) {
            return self.run_unnamed(&sql, 0);
        }
        let tenant = self.wishes.claims.unwrap_or_default();
        let sql = "SELECT set_config('app.tenant_id', $1, true)";
        let mut bytes = message(|out| frontend::put_parse(out, b"", sql.as_bytes(), &[]));
        bytes.extend(message(|out| frontend::put_bind_text(out, b"", b"", &[tenant.as_bytes()])));
        bytes.extend(message(|out| frontend::put_execute(out, b"")));
        bytes
    }

    // -- the simple protocol

    fn simple(&mut self) {
        if let Some(claim) = self.claims_once_in(4) {
            return self.query(&claim);
        }
        let sql = match self.dice.below(8) {
            0 => String::new(),
            1 => format!("{};", self.plain()),
            2 => "SHOW app.tenant_id".to_owned(),
            _ => self.plain(),
        };
        self.query(&sql);
    }

    fn several(&mut self) {
        let mut list = Vec::new();
        list.extend(self.claims_once_in(2));
        for _ in 0..2 + self.dice.below(4) {
            list.extend(self.claims_once_in(6));
            let sql = match self.dice.below(9) {
                0 => "BEGIN".to_owned(),
                1 => "COMMIT".to_owned(),
                2 => "ROLLBACK".to_owned(),
                3 => self.setting(),
                4 if self.dice.once_in(3) => format!("INSERT INTO later VALUES ('{}')", self.mark),
                _ => self.plain(),
            };
            list.push(sql);
        }
        self.query(&list.join("; "));
    }

    fn simple_block(&mut self) {
        let begin = self.pick(&["BEGIN", "BEGIN", "BEGIN ISOLATION LEVEL REPEATABLE READ"]);
        self.query(begin);
        if self.dice.once_in(4) {
            self.query("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE");
        }
        if let Some(claim) = self.claims_once_in(2) {
            self.query(&claim);
        }
        for _ in 0..1 + self.dice.below(4) {
            let sql = self.inside();
            self.query(&sql);
        }
        let end = self.ending();
        self.query(&end);
    }

    /// A block that is never opened, and what was sent in the belief that it is.
    fn doomed_start(&mut self, is_simple: bool) {
        let failing =
            self.pick(&["SELECT fail('c')", "SELECT nope", "SELECT 1/"]).replace("'c'", &format!("'{}'", self.mark));
        if is_simple {
            self.query(&format!("{failing}; BEGIN"));
        } else {
            let bytes = [self.run_unnamed(&failing, 0), self.run_unnamed("BEGIN", 0)].concat();
            self.segment(bytes, format!("P[{failing}] B E P[BEGIN] B E"));
        }
        for _ in 0..1 + self.dice.below(3) {
            self.one(is_simple, &format!("SELECT probe('{}', 7)", self.mark));
            self.bursts.last_mut().expect("just written").is_pipelined = true;
        }
        self.one(is_simple, "ROLLBACK");
    }

    /// A savepoint that is gone back to, and what runs behind it.
    fn there_and_back(&mut self, is_simple: bool) {
        self.savepoint += 1;
        let name = self.savepoint;
        let mut list = vec!["BEGIN".to_owned()];
        list.extend(self.claims_once_in(3));
        if self.dice.once_in(2) {
            list.push(self.plain());
        }
        list.push(format!("SAVEPOINT p{name}"));
        list.extend(self.claims_once_in(2));
        list.push(self.plain());
        list.push(format!("ROLLBACK TO p{name}"));
        list.push(self.plain());
        list.push("COMMIT".to_owned());
        for sql in list {
            self.one(is_simple, &sql);
        }
    }

    fn one(&mut self, is_simple: bool, sql: &str) {
        if is_simple {
            return self.query(sql);
        }
        let bytes = self.run_unnamed(sql, 0);
        self.segment(bytes, format!("P[{sql}] B E"));
    }

    fn inside(&mut self) -> String {
        if let Some(claim) = self.claims_once_in(4) {
            return claim;
        }
        match self.dice.below(12) {
            0 => self.setting(),
            1..=2 => {
                self.savepoint += 1;
                format!("SAVEPOINT p{}", self.savepoint)
            }
            3..=4 => format!("ROLLBACK TO p{}", self.savepoint),
            5 => format!("RELEASE p{}", self.savepoint),
            6 if self.dice.once_in(4) => format!("INSERT INTO later VALUES ('{}')", self.mark),
            _ => self.plain(),
        }
    }

    fn ending(&mut self) -> String {
        let end = self.pick(&[
            "COMMIT",
            "COMMIT",
            "COMMIT",
            "ROLLBACK",
            "ROLLBACK",
            "COMMIT AND CHAIN",
            "ROLLBACK AND CHAIN",
        ]);
        let (end, _) = end.split_once(" AND").filter(|_| self.wishes.is_recorded).unwrap_or((end, ""));
        end.to_owned()
    }

    fn lines(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Which of the Syncs between data are answered depends on where the COPY fails: nobody but the server knows.
        let may_fail = self.dice.once_in(2);
        let width = if may_fail && self.dice.once_in(2) { 300 } else { 10 };
        for number in 0..1 + self.dice.below(7) {
            let is_bad = may_fail && self.dice.once_in(4);
            let line = if is_bad { "bad\n".to_owned() } else { format!("{}\t{number:>width$}\n", self.mark) };
            bytes.extend(message(|out| {
                frontend::put_message(out, b'd', |out| out.extend_from_slice(line.as_bytes()));
            }));
            match self.dice.below(12) {
                // Ignored while the COPY goes on.
                0 | 2 if !may_fail => bytes.extend(message(frontend::put_sync)),
                1 => bytes.extend(message(frontend::put_flush)),
                _ => {}
            }
        }
        if may_fail && self.dice.once_in(3) {
            bytes.extend(message(|out| frontend::put_message(out, b'f', |out| frontend::put_cstr(out, b"no"))));
        } else {
            bytes.extend(message(|out| frontend::put_message(out, b'c', |_| {})));
        }
        bytes
    }

    fn simple_copy(&mut self) {
        let sql = match self.dice.below(4) {
            0 => format!("{}; COPY notes FROM STDIN; {}", self.plain(), self.plain()),
            _ => "COPY notes FROM STDIN".to_owned(),
        };
        let sql = match self.claims_once_in(2) {
            Some(claim) => format!("{claim}; {sql}"),
            None => sql,
        };
        let mut bytes = message(|out| frontend::put_query(out, sql.as_bytes()));
        if self.dice.once_in(4) {
            // The failure comes back while the client is in the middle of a long message.
            for line in ["bad\n".to_owned(), format!("{}\t{:>2000}\n", self.mark, 1)] {
                bytes.extend(message(|out| {
                    frontend::put_message(out, b'd', |out| out.extend_from_slice(line.as_bytes()));
                }));
            }
            bytes.extend(message(|out| frontend::put_message(out, b'c', |_| {})));
        } else {
            bytes.extend(self.lines());
        }
        self.push(bytes, 1, format!("Q {sql} d c"));
    }

    fn simple_settings(&mut self) {
        let sql = match self.dice.below(5) {
            0 => self.pick(&["DISCARD ALL", "RESET ALL", "DEALLOCATE ALL"]).to_owned(),
            _ => self.setting(),
        };
        if sql.starts_with('D') {
            self.held.clear();
        }
        self.query(&sql);
    }

    // -- the extended protocol

    fn segment(&mut self, mut bytes: Vec<u8>, label: impl Into<String>) {
        if self.dice.once_in(6) {
            bytes.extend(message(frontend::put_flush));
        }
        bytes.extend(message(frontend::put_sync));
        self.push(bytes, 1, label);
    }

    fn bind_execute(&mut self, statement: &str, parameters: usize) -> Vec<u8> {
        let mark = self.mark.as_bytes();
        let values: Vec<&[u8]> = std::iter::repeat_n(mark, parameters).collect();
        let mut bytes = message(|out| frontend::put_bind_text(out, b"", statement.as_bytes(), &values));
        if self.dice.once_in(3) {
            bytes.extend(message(|out| frontend::put_describe(out, Target::Portal, b"")));
        }
        bytes.extend(message(|out| frontend::put_execute(out, b"")));
        bytes
    }

    fn run_unnamed(&mut self, sql: &str, parameters: usize) -> Vec<u8> {
        let mut bytes = message(|out| frontend::put_parse(out, b"", sql.as_bytes(), &[]));
        if self.dice.once_in(4) {
            bytes.extend(message(|out| frontend::put_describe(out, Target::Statement, b"")));
        }
        bytes.extend(self.bind_execute("", parameters));
        bytes
    }

    fn unnamed(&mut self) {
        let mut bytes = self.extended_claim(2);
        let mut label = String::new();
        for _ in 0..1 + self.dice.below(3) {
            let is_bound = self.dice.once_in(2);
            let (sql, parameters) = self.statement(is_bound);
            bytes.extend(self.run_unnamed(&sql, parameters));
            label = format!("{label} P[{sql}] B E");
            if self.dice.once_in(3) {
                // Again: in a segment of its own, in which others may have had the server.
                self.segment(std::mem::take(&mut bytes), std::mem::take(&mut label));
                bytes = self.bind_execute("", parameters);
                label = " B E again".to_owned();
            }
        }
        self.segment(bytes, label);
    }

    fn named(&mut self) {
        let name = format!("s{}", self.dice.below(5));
        let known = self.held.iter().find(|(held, _)| *held == name).map(|(_, parameters)| *parameters);
        let (mut bytes, mut label) = (Vec::new(), String::new());
        let parameters = match known {
            Some(parameters) => parameters,
            None => {
                let (sql, parameters) = self.statement(true);
                bytes = message(|out| frontend::put_parse(out, name.as_bytes(), sql.as_bytes(), &[]));
                label = format!("P {name}[{sql}]");
                if !sql.starts_with("S") || !sql.contains("no") {
                    self.held.push((name.clone(), parameters));
                }
                if self.dice.once_in(3) {
                    bytes.extend(message(|out| frontend::put_describe(out, Target::Statement, name.as_bytes())));
                    self.segment(std::mem::take(&mut bytes), std::mem::take(&mut label));
                }
                parameters
            }
        };
        bytes.extend(self.extended_claim(2));
        for _ in 0..1 + self.dice.below(2) {
            bytes.extend(self.bind_execute(&name, parameters));
            label = format!("{label} B {name} E");
        }
        if self.dice.once_in(5) {
            bytes.extend(message(|out| frontend::put_close(out, Target::Statement, name.as_bytes())));
            label = format!("{label} C {name}");
            self.held.retain(|(held, _)| *held != name);
        }
        self.segment(bytes, label);
    }

    fn extended_block(&mut self) {
        let mut list = vec![self.pick(&["BEGIN", "BEGIN ISOLATION LEVEL SERIALIZABLE"]).to_owned()];
        if self.dice.once_in(4) {
            list.push("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE".to_owned());
        }
        list.extend(self.claims_once_in(2));
        for _ in 0..1 + self.dice.below(4) {
            let sql = self.inside();
            list.push(sql);
        }
        let end = self.ending();
        list.push(end);
        if self.dice.once_in(3) {
            let sql = self.plain();
            list.push(sql);
        }
        let (mut bytes, mut label) = (Vec::new(), String::new());
        for sql in list {
            bytes.extend(self.run_unnamed(&sql, 0));
            label = format!("{label} P[{sql}] B E");
            if !self.dice.once_in(3) {
                self.segment(std::mem::take(&mut bytes), std::mem::take(&mut label));
            }
        }
        self.segment(bytes, label);
    }

    /// A portal that is read in parts, perhaps over several segments of a block, and perhaps with others between.
    fn limited(&mut self) {
        let in_block = self.dice.once_in(2);
        if in_block {
            self.query("BEGIN");
            if let Some(claim) = self.claims_once_in(2) {
                self.query(&claim);
            }
        }
        self.portal += 1;
        let name = if self.dice.once_in(2) { String::new() } else { format!("c{}", self.portal) };
        let sql = format!("SELECT probe($1, i) FROM generate_series(1, {}) i", 2 + self.dice.below(4));
        let mark = self.mark.as_bytes();
        let mut bytes = message(|out| frontend::put_parse(out, b"", sql.as_bytes(), &[]));
        bytes.extend(message(|out| frontend::put_bind_text(out, name.as_bytes(), b"", &[mark])));
        let mut label = format!("P[{sql}] B {name}");
        for _ in 0..1 + self.dice.below(4) {
            let limit = self.dice.below(3);
            bytes.extend(message(|out| put_execute(out, &name, limit)));
            label = format!("{label} E{limit}");
            match self.dice.below(5) {
                0 => bytes.extend(message(frontend::put_flush)),
                1 if in_block => self.segment(std::mem::take(&mut bytes), std::mem::take(&mut label)),
                2 if in_block && !name.is_empty() => {
                    let sql = self.plain();
                    bytes.extend(self.run_unnamed(&sql, 0));
                }
                _ => {}
            }
        }
        if self.dice.once_in(3) {
            bytes.extend(message(|out| frontend::put_close(out, Target::Portal, name.as_bytes())));
        }
        self.segment(bytes, label);
        if in_block {
            self.query("COMMIT");
        }
    }

    fn extended_copy(&mut self) {
        let mut bytes = self.extended_claim(2);
        bytes.extend(self.run_unnamed("COPY notes FROM STDIN", 0));
        let mut label = "P[COPY] B E".to_owned();
        if self.dice.once_in(2) {
            bytes.extend(message(frontend::put_sync));
            label += " S";
        }
        bytes.extend(self.lines());
        self.segment(bytes, format!("{label} d c"));
    }

    fn extended_settings(&mut self) {
        let (name, values) = self.pick(&SETTINGS);
        let value = self.pick(values);
        if self.dice.once_in(2) {
            let sql = format!("SELECT set_config('{name}', $1, false)");
            let mut bytes = message(|out| frontend::put_parse(out, b"", sql.as_bytes(), &[]));
            bytes.extend(message(|out| frontend::put_bind_text(out, b"", b"", &[value.as_bytes()])));
            bytes.extend(message(|out| frontend::put_execute(out, b"")));
            return self.segment(bytes, format!("P[{sql}] B {value} E"));
        }
        let sql = match self.dice.below(8) {
            0 => "DISCARD ALL".to_owned(),
            1 => "RESET ALL".to_owned(),
            _ => self.setting(),
        };
        if sql.starts_with('D') {
            self.held.clear();
        }
        let bytes = self.run_unnamed(&sql, 0);
        self.segment(bytes, format!("P[{sql}] B E"));
    }

    /// Names that are not there, names that are there already, what cannot be prepared.
    fn mistakes(&mut self) {
        let (bytes, label) = match self.dice.below(5) {
            0 => (self.bind_execute("absent", 0), "B absent E".to_owned()),
            1 => (message(|out| frontend::put_execute(out, b"absent")), "E absent".to_owned()),
            2 => {
                let describe = message(|out| frontend::put_describe(out, Target::Statement, b"absent"));
                (describe, "D absent".to_owned())
            }
            3 => (self.run_unnamed("SELECT 1; SELECT 2", 0), "P two B E".to_owned()),
            _ => match self.held.first().cloned() {
                Some((name, _)) => {
                    let sql = self.plain();
                    let parse = message(|out| frontend::put_parse(out, name.as_bytes(), sql.as_bytes(), &[]));
                    (parse, format!("P {name}[{sql}] again"))
                }
                None => (Vec::new(), "nothing".to_owned()),
            },
        };
        self.segment(bytes, label);
    }
}

pub fn message(write: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
    let mut out = BytesMut::new();
    write(&mut out);
    out.to_vec()
}

fn put_execute(out: &mut BytesMut, portal: &str, limit: u64) {
    frontend::put_message(out, b'E', |out| {
        frontend::put_cstr(out, portal.as_bytes());
        out.extend_from_slice(&u32::try_from(limit).unwrap_or(0).to_be_bytes());
    });
}
