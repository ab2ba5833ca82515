//! What a client of the storm does: one act is one to a few transactions, with every reply checked.

use crate::support::dice::Dice;
use crate::support::message::Message;
use crate::support::raw::{Client, Target};
use crate::support::reply::Reply;
use std::time::Duration;

/// How many transactions an act was, or what was wrong.
pub type Done = Result<u64, String>;

/// One client that acts, vanishes and comes back.
pub struct Actor {
    target: Target,
    tenant: String,
    dice: Dice,
    client: Option<Client>,
    /// Whether this connection has its named statement.
    is_prepared: bool,
    /// Straight to PostgreSQL, where nothing is refused.
    is_direct: bool,
    serial: u64,
}

const SLOW: &str = "SELECT count(*) FROM generate_series(1, 600) a, generate_series(1, 600) b";

fn simple(sql: &str) -> Message {
    Message::Query(sql.to_owned())
}

/// Parse, Bind, Describe, Execute of one statement, unnamed, without Sync.
fn unnamed(sql: &str, values: &[&str]) -> Vec<Message> {
    vec![Message::parse("", sql), Message::bind("", values), Message::execute()]
}

impl Actor {
    /// A client that will connect when it first acts.
    pub fn new(mut target: Target, tenant: &str, seed: u64) -> Self {
        let is_direct = target.parameters.iter().any(|(name, _)| name == "tenantless.direct");
        target.parameters.retain(|(name, _)| name != "tenantless.direct");
        let (tenant, dice) = (tenant.to_owned(), Dice::new(seed));
        Self { target, tenant, dice, client: None, is_prepared: false, is_direct, serial: 0 }
    }

    /// Does one thing, chosen by the dice.
    pub fn act(&mut self) -> Done {
        self.serial += 1;
        if self.client.is_none() {
            self.connect()?;
        }
        match self.dice.below(100) {
            0..15 => self.select(),
            15..25 => self.write(),
            25..33 => self.block(),
            33..43 => self.several_statements(),
            43..51 => self.unnamed_statement(),
            51..61 => self.named_statement(),
            61..69 => self.pipeline(),
            69..75 => self.pipelined_block(),
            75..80 => self.savepoint(),
            80..84 => self.chain(),
            84..87 => self.error(),
            87..90 => self.batch_with_commit(),
            90..92 => self.copy_out(),
            92..94 => self.copy_in(),
            94 => self.settings(),
            95 => self.portal(),
            96 => self.refused(),
            97 => self.deferred_flush(),
            98 => self.cancelled(),
            _ => self.vanish(),
        }
    }

    fn connect(&mut self) -> Result<(), String> {
        let mut client = Client::try_connect(&self.target).map_err(|error| format!("cannot connect: {error}"))?;
        if let Some(error) = client.startup.iter().find(|reply| reply.tag == b'E') {
            return Err(format!("login refused: {}", error.line(&mut vec![])));
        }
        client.patience(Duration::from_secs(60));
        self.client = Some(client);
        self.is_prepared = false;
        Ok(())
    }

    fn client(&mut self) -> &mut Client {
        self.client.as_mut().expect("act() has connected")
    }

    /// Sends all as one packet, reads to so many ReadyForQuery, checks that every tenant read is the own one.
    fn exchange(&mut self, messages: &[Message], ends: usize) -> Result<Vec<Reply>, String> {
        let client = self.client();
        client.send_all(messages);
        client.flush().map_err(|error| format!("cannot send {messages:?}: {error}"))?;
        let mut all = Vec::new();
        for _ in 0..ends {
            let (replies, silence) = client.replies_to(b'Z');
            all.extend(replies);
            if let Some(silence) = silence {
                return Err(format!("{silence:?} after {messages:?}, replies {}", told(&all)));
            }
        }
        self.all_is_own(&all).map_err(|why| format!("{why} in {messages:?}"))?;
        Ok(all)
    }

    fn all_is_own(&self, replies: &[Reply]) -> Result<(), String> {
        for reply in replies {
            let values: Vec<String> = match reply.tag {
                b'D' => reply.row().into_iter().flatten().collect(),
                b'd' => String::from_utf8_lossy(&reply.body).split_whitespace().map(str::to_owned).collect(),
                _ => continue,
            };
            let foreign = |value: &&String| value.len() == 36 && value.contains('-') && **value != self.tenant;
            if let Some(value) = values.iter().find(foreign) {
                return Err(format!("READ ANOTHER TENANT'S {value}, being {}", self.tenant));
            }
        }
        Ok(())
    }

    /// Like `exchange`, and the replies must have this shape.
    fn expect(&mut self, messages: &[Message], wanted: &str) -> Result<Vec<Reply>, String> {
        let outside = wanted.split('(').map(|part| part.rsplit(')').next().unwrap_or(part));
        let ends = outside.flat_map(str::chars).filter(|letter| matches!(letter, 'I' | 'T' | 'F')).count();
        // `T` is a RowDescription as well as "in a block": shapes write RowDescription as `t`, failed as `F`.
        let replies = self.exchange(messages, ends)?;
        let got = spelled(&replies);
        if got == wanted {
            Ok(replies)
        } else {
            Err(format!("{got} instead of {wanted} for {messages:?}: {}", told(&replies)))
        }
    }

    fn query(&mut self, sql: &str, wanted: &str) -> Result<Vec<Reply>, String> {
        self.expect(&[simple(sql)], wanted)
    }

    /// A statement that reads the own rows and probes once even if there are none.
    fn reading(&self) -> String {
        format!(
            "SELECT probe('{}') UNION ALL SELECT r.writer FROM (SELECT writer FROM rows ORDER BY id DESC LIMIT 3) r \
             UNION ALL SELECT tenant_id::text FROM (SELECT tenant_id FROM rows LIMIT 2) s",
            self.tenant
        )
    }

    fn writing(&self) -> String {
        format!("INSERT INTO rows (writer, n) VALUES (probe('{}'), {}) RETURNING tenant_id", self.tenant, self.serial)
    }

    /// Fails when it runs, after the probe.
    fn failing(&self) -> String {
        format!("SELECT 1/(length(probe('{}')) - 36)", self.tenant)
    }

    fn updating(&self) -> String {
        format!(
            "UPDATE rows SET n = n + 1 WHERE id = (SELECT min(id) FROM rows) RETURNING probe('{}'), tenant_id",
            self.tenant
        )
    }

    fn deleting(&self) -> String {
        format!(
            "DELETE FROM rows WHERE n > 0 AND id = (SELECT max(id) FROM rows) AND writer = probe('{}') RETURNING tenant_id",
            self.tenant
        )
    }

    fn some_statement(&mut self) -> String {
        match self.dice.below(6) {
            0 => self.writing(),
            1 => self.updating(),
            2 => self.deleting(),
            _ => self.reading(),
        }
    }

    fn select(&mut self) -> Done {
        let replies = self.query(&self.reading(), "tCI")?;
        self.has_rows(&replies, 4)
    }

    fn has_rows(&self, replies: &[Reply], least: usize) -> Done {
        let rows = replies.iter().filter(|reply| reply.tag == b'D').count();
        if rows < least { Err(format!("{rows} rows only, {least} expected")) } else { Ok(1) }
    }

    fn write(&mut self) -> Done {
        let sql = if self.dice.once_in(2) { self.writing() } else { self.updating() };
        self.query(&sql, "tCI")?;
        Ok(1)
    }

    fn block(&mut self) -> Done {
        let sql = self.one_of(&["BEGIN", "START TRANSACTION", "BEGIN ISOLATION LEVEL READ COMMITTED"]);
        self.query(sql, "CT")?;
        for _ in 0..self.dice.below(4) {
            let sql = self.some_statement();
            self.query(&sql, "tCT")?;
        }
        if self.dice.once_in(4) {
            self.query(&self.failing(), "tE(22012)F")?;
            self.query("SELECT 1", "E(25P02)F")?;
        }
        let sql = self.one_of(&["COMMIT", "ROLLBACK", "END"]);
        self.query(sql, "CI")?;
        Ok(1)
    }

    fn one_of(&mut self, choices: &[&'static str]) -> &'static str {
        let count = u64::try_from(choices.len()).expect("few choices");
        choices[usize::try_from(self.dice.below(count)).expect("a small number")]
    }

    fn several_statements(&mut self) -> Done {
        let (read, write, bad) = (self.reading(), self.writing(), self.failing());
        match self.dice.below(7) {
            0 => self.query(&format!("BEGIN; {write}; COMMIT; {read}"), "CtCCtCI").map(|_| 2),
            1 => self.query(&format!("{read}; COMMIT; {write}; ROLLBACK; {read}"), "tCCtCCtCI").map(|_| 3),
            2 => self.query(&format!("{read}; {write}"), "tCtCI").map(|_| 1),
            3 => self
                .query(&format!("BEGIN; {read}; ROLLBACK; BEGIN; {write}; COMMIT; {read}"), "CtCCCtCCtCI")
                .map(|_| 3),
            4 => self.query(&format!("{write}; COMMIT; {read}; {bad}; {read}"), "tCCtCtE(22012)I").map(|_| 2),
            5 => {
                self.query(&format!("BEGIN; {bad}; COMMIT; {read}"), "CtE(22012)F")?;
                self.query(&format!("ROLLBACK; {read}"), "CtCI").map(|_| 2)
            }
            _ => {
                self.query(&format!("{read}; BEGIN; {write}"), "tCCtCT")?;
                self.query(&format!("COMMIT; {read}"), "CtCI").map(|_| 2)
            }
        }
    }

    fn unnamed_statement(&mut self) -> Done {
        let sql = "SELECT probe($1) UNION ALL SELECT writer FROM (SELECT writer FROM rows ORDER BY id DESC LIMIT 3) r";
        let tenant = self.tenant.clone();
        let mut messages = unnamed(sql, &[&tenant]);
        messages.insert(2, Message::DescribePortal(String::new()));
        messages.push(Message::Sync);
        let replies = self.expect(&messages, "12tCI")?;
        self.has_rows(&replies, 2)
    }

    /// The name differs from client to client and its text too: a shared server must keep them apart.
    fn named_statement(&mut self) -> Done {
        let tenant = self.tenant.clone();
        if !self.is_prepared {
            let sql = format!(
                "SELECT probe($1), '{tenant}' UNION ALL SELECT tenant_id::text, writer FROM (SELECT * FROM rows LIMIT 3) r"
            );
            self.expect(
                &[Message::parse("s1", &sql), Message::DescribeStatement("s1".to_owned()), Message::Sync],
                "1ptI",
            )?;
            self.is_prepared = true;
        }
        if self.dice.once_in(20) {
            self.is_prepared = false;
            self.expect(&[Message::CloseStatement("s1".to_owned()), Message::Sync], "3I")?;
            return Ok(1);
        }
        let replies = self.expect(&[Message::bind("s1", &[&tenant]), Message::execute(), Message::Sync], "2CI")?;
        self.has_rows(&replies, 2)
    }

    fn pipeline(&mut self) -> Done {
        let mut messages = Vec::new();
        let mut wanted = String::new();
        let segments = self.dice.below(4) + 2;
        for _ in 0..segments {
            match self.dice.below(5) {
                0 => {
                    messages.push(simple(&self.reading()));
                    wanted.push_str("tCI");
                    continue;
                }
                1 => {
                    messages.extend(unnamed(&self.failing(), &[]));
                    wanted.push_str("12E(22012)I");
                }
                2 => {
                    messages.extend(unnamed("SELECT nosuch", &[]));
                    wanted.push_str("E(42703)I");
                }
                _ => {
                    let sql = self.some_statement();
                    messages.extend(unnamed(&sql, &[]));
                    wanted.push_str("12CI");
                }
            }
            messages.push(Message::Sync);
        }
        self.expect(&messages, &wanted)?;
        Ok(segments)
    }

    fn pipelined_block(&mut self) -> Done {
        let (read, write, bad, fails) = (self.reading(), self.writing(), self.failing(), self.dice.once_in(2));
        let mut messages = Vec::new();
        for sql in ["BEGIN", write.as_str(), if fails { bad.as_str() } else { read.as_str() }, "COMMIT", read.as_str()]
        {
            messages.extend(unnamed(sql, &[]));
            messages.push(Message::Sync);
        }
        self.expect(&messages, if fails { "12CT12CT12E(22012)F12CI12CI" } else { "12CT12CT12CT12CI12CI" })?;
        Ok(2)
    }

    fn savepoint(&mut self) -> Done {
        self.query("BEGIN", "CT")?;
        if self.dice.once_in(2) {
            self.query(&self.writing(), "tCT")?;
        }
        self.query("SAVEPOINT a", "CT")?;
        if self.dice.once_in(2) {
            self.query(&self.failing(), "tE(22012)F")?;
        } else {
            self.query(&self.writing(), "tCT")?;
        }
        self.query("ROLLBACK TO a", "CT")?;
        self.query(&self.reading(), "tCT")?;
        let sql = self.one_of(&["COMMIT", "ROLLBACK"]);
        self.query(sql, "CI")?;
        Ok(1)
    }

    fn chain(&mut self) -> Done {
        self.query("BEGIN", "CT")?;
        self.query(&self.writing(), "tCT")?;
        self.query("COMMIT AND CHAIN", "CT")?;
        self.query(&self.reading(), "tCT")?;
        self.query("ROLLBACK AND CHAIN", "CT")?;
        self.query(&self.writing(), "tCT")?;
        self.query("COMMIT", "CI")?;
        Ok(3)
    }

    /// What the unnamed statement is must not be taken from a Parse that the server skipped.
    fn skipped_parse(&mut self) -> Done {
        let read = self.reading();
        self.expect(&[Message::parse("", &read), Message::Sync], "1I")?;
        let skipped = [Message::bind("nosuch", &[]), Message::parse("", "SHOW timezone"), Message::Sync];
        self.expect(&skipped, "E(26000)I")?;
        let replies = self.expect(&[Message::bind("", &[]), Message::execute(), Message::Sync], "2CI")?;
        self.has_rows(&replies, 4)
    }

    fn error(&mut self) -> Done {
        if self.dice.once_in(4) {
            return self.skipped_parse();
        }
        match self.dice.below(3) {
            0 => self.query(&self.failing(), "tE(22012)I")?,
            1 => self.query("SELECT nosuch FROM rows", "E(42703)I")?,
            _ => {
                let sql = format!(
                    "INSERT INTO rows (writer, tenant_id) VALUES (probe('{}'), '00000000-0000-0000-0000-0000000fffff')",
                    self.tenant
                );
                self.query(&sql, "E(42501)I")?
            }
        };
        Ok(1)
    }

    fn batch_with_commit(&mut self) -> Done {
        let (read, write) = (self.reading(), self.writing());
        let mut messages = Vec::new();
        for sql in ["BEGIN", write.as_str(), "COMMIT", read.as_str()] {
            messages.extend(unnamed(sql, &[]));
        }
        messages.push(Message::Sync);
        self.expect(&messages, "12C12C12C12CI")?;
        Ok(2)
    }

    fn copy_out(&mut self) -> Done {
        let sql = format!("COPY ({}) TO STDOUT", self.reading());
        self.query(&sql, "HcCI")?;
        Ok(1)
    }

    fn copy_in(&mut self) -> Done {
        let line = format!("{}\t{}\n", self.serial, self.tenant);
        let copy = simple("COPY copies (n, writer) FROM STDIN");
        let data = Message::CopyData(line.repeat(3).into_bytes());
        match self.dice.below(4) {
            0 => self.expect(&[copy, data, Message::CopyFail("no".to_owned())], "GE(57014)I")?,
            1 => {
                self.expect(&[copy, Message::CopyData(b"bad\tx\n".to_vec()), data, Message::CopyDone], "GE(22P02)I")?
            }
            _ => self.expect(&[copy, data, Message::CopyDone], "GCI")?,
        };
        Ok(1)
    }

    fn settings(&mut self) -> Done {
        let name = format!("app {} {}", self.tenant, self.serial);
        self.query(&format!("SET application_name = '{name}'"), "CI")?;
        let replies = self.query("SHOW application_name", "tCI")?;
        let shown = replies.iter().find(|reply| reply.tag == b'D').map(Reply::row);
        if shown != Some(vec![Some(name.clone())]) {
            return Err(format!("application_name is {shown:?} instead of {name}"));
        }
        self.query("RESET application_name", "CI")?;
        Ok(3)
    }

    fn portal(&mut self) -> Done {
        self.query("BEGIN", "CT")?;
        let read = self.reading();
        let some = |rows_max| Message::Execute { portal: "p".to_owned(), rows_max };
        let bind =
            Message::Bind { portal: "p".to_owned(), statement: String::new(), values: vec![], binary_results: false };
        self.expect(&[Message::parse("", &read), bind, some(1), Message::Sync], "12sT")?;
        self.expect(&[some(1), Message::Sync], "sT")?;
        self.expect(&[some(0), Message::Sync], "CT")?;
        self.query("COMMIT", "CI")?;
        Ok(1)
    }

    fn refused(&mut self) -> Done {
        if self.is_direct {
            return self.select();
        }
        let other = "SET app.tenant_id = '00000000-0000-0000-0000-0000000fffff'";
        if self.dice.once_in(2) {
            self.query(other, "E(42501)I")?;
            return Ok(1);
        }
        self.query("BEGIN", "CT")?;
        self.query(&self.writing(), "tCT")?;
        self.query(other, "E(42501)F")?;
        self.query("ROLLBACK", "CI")?;
        Ok(1)
    }

    /// Parse and Describe first, Bind only when their answer is there, all with Flush.
    fn deferred_flush(&mut self) -> Done {
        let sql = self.reading();
        let client = self.client();
        client.send(&Message::parse("", &sql)).send(&Message::DescribeStatement(String::new())).send(&Message::Flush);
        client.flush().map_err(|error| error.to_string())?;
        let (replies, silence) = client.replies_to(b'T');
        if silence.is_some() || spelled(&replies) != "1pt" {
            return Err(format!("{silence:?} {} after Parse, Describe, Flush", told(&replies)));
        }
        self.expect(&[Message::bind("", &[]), Message::execute(), Message::Sync], "2CI")?;
        Ok(1)
    }

    /// A slow statement and its cancel; sometimes the cancel comes too late and must then hit nobody.
    fn cancelled(&mut self) -> Done {
        if self.dice.once_in(2) {
            self.client().cancel();
            return self.select();
        }
        let late = self.dice.below(30);
        let canceller = self.client().canceller();
        self.client().send(&simple(SLOW)).flush().map_err(|error| error.to_string())?;
        std::thread::sleep(Duration::from_millis(late));
        canceller.cancel();
        let (replies, silence) = self.client().replies_to(b'Z');
        match spelled(&replies).as_str() {
            // Cancelled before or while it ran, or finished before.
            "E(57014)I" | "tE(57014)I" | "tCI" if silence.is_none() => Ok(1),
            // The statement may have waited for a server when the cancel came: then it runs on.
            other => Err(format!("{silence:?} {other} after a cancel: {}", told(&replies))),
        }
    }

    /// Leaves at an awkward moment, without a word.
    fn vanish(&mut self) -> Done {
        let (read, write) = (self.reading(), self.writing());
        let how = self.dice.below(7);
        // What is answered in time is looked at: it may be another client's answer.
        match how {
            0 => drop(self.query("BEGIN", "CT")?),
            1 => drop(self.query(&format!("BEGIN; {write}"), "CtCT")?),
            _ => {}
        }
        let mut client = self.client.take().expect("act() has connected");
        match how {
            0 => {}
            1 => drop(client.send(&simple(&read))),
            2 => drop(client.send(&simple("SELECT g, repeat('x', 1000) FROM generate_series(1, 3000) g"))),
            3 => {
                client.send(&simple("COPY copies (n, writer) FROM STDIN"));
                client.send(&Message::CopyData(format!("1\t{}\n", self.tenant).into_bytes()));
            }
            4 => drop(client.send(&Message::Raw(simple(&read).bytes()[..20].to_vec()))),
            5 => {
                for sql in ["BEGIN", write.as_str(), "COMMIT", read.as_str()] {
                    client.send_all(&unnamed(sql, &[]));
                    client.send(&Message::Sync);
                }
            }
            _ => {
                client.send_all(&unnamed(&read, &[]));
                client.send(&Message::Flush);
            }
        }
        // Whether it still leaves does not matter to one who vanishes.
        drop(client.flush());
        if self.dice.once_in(2) {
            std::thread::sleep(Duration::from_millis(self.dice.below(5)));
        }
        Ok(1)
    }
}

/// The replies as a word: a letter each (`t` RowDescription, `p` ParameterDescription, `e` EmptyQuery; the state
/// instead of ReadyForQuery, a failed block as `F`), errors with their SQLSTATE, rows and notices left out.
fn spelled(replies: &[Reply]) -> String {
    replies
        .iter()
        .map(|reply| match reply.tag {
            b'D' | b'd' | b'N' | b'S' => String::new(),
            b'T' => "t".to_owned(),
            b't' => "p".to_owned(),
            b'I' => "e".to_owned(),
            b'E' => format!("E({})", reply.fields().get(&'C').map_or("", String::as_str)),
            b'Z' if reply.status() == Some('E') => "F".to_owned(),
            b'Z' => reply.status().unwrap_or('?').to_string(),
            tag => char::from(tag).to_string(),
        })
        .collect()
}

fn told(replies: &[Reply]) -> String {
    replies.iter().map(|reply| reply.line(&mut vec![])).collect::<Vec<_>>().join(" / ")
}
