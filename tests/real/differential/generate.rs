//! A client's session from a seed: pieces of messages, and where the client waits.
//!
//! What PostgreSQL itself answers must depend on the messages alone. Left out is what nobody promises: a Parse while an
//! INSERT or UPDATE is suspended (whether it moves the command counter), a COPY FROM whose Execute is repeated behind its
//! segment (the Sync is swallowed), and the differences of more than one line in `tests/support/differences.rs`.

use super::texts::{BOUND, CONTROL, CURSOR, LITERALS, ODD, RELEASE, SETTINGS, WORK, state_of};
use crate::scripts::Login;
use crate::support::dice::Dice;
use crate::support::message::{Message, Value};
use crate::support::script::{Action, Script, Step};

/// Messages that belong together, and whether the client waits for all answers after them.
#[derive(Clone)]
pub struct Piece {
    pub steps: Vec<Step>,
    pub waits: bool,
}

/// The number of the advisory lock that is held by a superuser during a session: whoever wants it waits.
pub const LOCK_BASE: u32 = 4_000;

fn send(message: Message) -> Step {
    act(Action::Send(message))
}

fn act(action: Action) -> Step {
    Step { connection: 'A', refused: None, action }
}

fn query_of(sql: &str) -> Step {
    send(Message::Query(sql.to_owned()))
}

fn at<T: Copy>(dice: &mut Dice, from: &[T]) -> T {
    from[usize::try_from(dice.below(from.len() as u64)).expect("a short list")]
}

/// What a client holds in mind while it talks.
struct Mind {
    dice: Dice,
    /// The text below each statement name, as far as the client believes.
    names: [Option<usize>; 5],
    lock: u32,
    /// What leaves state behind; empty where that is refused.
    state: &'static [&'static str],
    /// Nothing that a login refuses whose transactions are recorded, and nothing that only it does not refuse.
    is_recorded: bool,
}

const NAMES: [&str; 5] = ["", "s1", "s2", "s3", "literal"];
/// The name of statements that are never used again.
const ONCE: usize = 4;

impl Mind {
    fn statement(&mut self) -> &'static str {
        if !self.state.is_empty() && self.dice.once_in(3) {
            return at(&mut self.dice, self.state);
        }
        let from = match self.dice.below(20) {
            0..8 => WORK,
            8..13 => CONTROL,
            13..17 => SETTINGS,
            17 => CURSOR,
            _ => ODD,
        };
        let mut sql = at(&mut self.dice, from);
        while self.is_recorded && sql.ends_with("AND CHAIN") {
            sql = at(&mut self.dice, from);
        }
        sql
    }

    /// One Query of one or several statements.
    fn query(&mut self) -> Vec<Step> {
        self.names[0] = None;
        if self.dice.once_in(25) && !self.is_recorded {
            let refused = [
                ("TG011", "SET app.tenant_id = 'x'"),
                ("TG019", "CREATE TABLE t (a int)"),
                ("TG012", "SET ROLE postgres"),
            ];
            let (code, sql) = at(&mut self.dice, &refused);
            let mut step = query_of(sql);
            step.refused = Some(code.to_owned());
            return vec![step];
        }
        let count = at(&mut self.dice, &[1, 1, 1, 1, 2, 3, 4, 6]);
        let sql: Vec<&str> = (0..count).map(|_| self.statement()).collect();
        vec![query_of(&sql.join(at(&mut self.dice, &["; ", ";", ";\n"])))]
    }

    /// A whole transaction by single Queries, each waited for or not.
    fn block(&mut self) -> Vec<Step> {
        self.names[0] = None;
        let count = 1 + self.dice.below(5);
        let mut steps =
            vec![query_of(at(&mut self.dice, &["BEGIN", "BEGIN", "BEGIN ISOLATION LEVEL REPEATABLE READ"]))];
        for _ in 0..count {
            let sql = if self.dice.once_in(4) { at(&mut self.dice, CURSOR) } else { self.statement() };
            steps.push(query_of(sql));
        }
        steps.push(query_of(at(&mut self.dice, &["COMMIT", "COMMIT", "ROLLBACK"])));
        steps
    }

    fn copy_in(&mut self) -> Vec<Step> {
        let sql = at(
            &mut self.dice,
            &[
                "COPY plain (id, note) FROM STDIN",
                "COPY plain (id, note) FROM STDIN WITH (FORMAT csv)",
                "COPY items (id, name) FROM STDIN",
                "COPY nosuch FROM STDIN",
            ],
        );
        let data = at(&mut self.dice, &["1\tx\n2\ty\n", "1\tx\n2\ty\n", "", "bad\tx\n", "1,x\n", "3\tcut in", "\\.\n"]);
        let end = if self.dice.once_in(4) { Message::CopyFail("no".to_owned()) } else { Message::CopyDone };
        let copy = [Message::CopyData(data.into()), Message::CopyData(b"\n4\tz\n".to_vec()), end];
        let mut messages = vec![];
        match self.dice.below(3) {
            0 => messages.push(Message::Query(sql.to_owned())),
            1 => {
                let front = if self.dice.once_in(2) { self.statement() } else { "SELECT 1" };
                let back = self.statement();
                messages.push(Message::Query(format!("{front}; {sql}; {back}")));
            }
            _ => {
                // A name of its own: bound again by a later segment, copy-in would swallow that segment's Sync.
                messages.push(Message::CloseStatement("copying".to_owned()));
                messages.extend([Message::parse("copying", sql), Message::bind("copying", &[]), Message::execute()]);
            }
        }
        let is_simple = matches!(messages[0], Message::Query(_));
        if is_simple {
            self.names[0] = None;
        }
        messages.extend(copy);
        if !is_simple {
            messages.push(Message::Sync);
        }
        messages.into_iter().map(send).collect()
    }

    /// A name, and its text if it is to be prepared now.
    fn prepare(&mut self, steps: &mut Vec<Step>) -> (usize, Prepared) {
        if self.dice.once_in(12) {
            steps.push(send(Message::CloseStatement(NAMES[ONCE].to_owned())));
            steps.push(send(Message::parse(NAMES[ONCE], at(&mut self.dice, LITERALS))));
            return (ONCE, Prepared::default());
        }
        let slot = at(&mut self.dice, &[0, 0, 1, 2, 3]);
        if self.names[slot].is_some() && !self.dice.once_in(3) {
            return (slot, Prepared::of(self.names[slot]));
        }
        let name = NAMES[slot].to_owned();
        if slot == 0 || !self.dice.once_in(8) {
            steps.extend((slot != 0).then(|| send(Message::CloseStatement(name.clone()))));
        } else {
            // A name that may be taken, and a text that may be wrong.
            steps.push(send(Message::parse(
                &name,
                at(&mut self.dice, &[WORK[0], "SELECT nosuch", "SELECT 1/0", "COMMIT"]),
            )));
            return (slot, Prepared::default());
        }
        if self.dice.once_in(30) && !self.is_recorded {
            let mut step = send(Message::parse(&name, "SELECT set_config('app.tenant_id', 'x', true)"));
            step.refused = Some("TG011".to_owned());
            steps.push(step);
            self.names[slot] = None;
            return (slot, Prepared::default());
        }
        if self.dice.once_in(3) {
            let index = usize::try_from(self.dice.below(BOUND.len() as u64)).expect("a short list");
            let bound = &BOUND[index];
            let (sql, types) = (bound.sql.to_owned(), bound.types.to_vec());
            steps.push(send(Message::Parse { name, sql, types }));
            self.names[slot] = Some(index);
        } else {
            let mut sql = self.statement();
            while LITERALS.contains(&sql) {
                sql = self.statement();
            }
            steps.push(send(Message::parse(&name, sql)));
            self.names[slot] = Some(BOUND.len() + usize::from(!is_pausable(sql)));
        }
        (slot, Prepared::of(self.names[slot]))
    }

    fn values(&mut self, prepared: &Prepared) -> Vec<Value> {
        let Some(index) = prepared.bound else { return vec![] };
        let lists = BOUND[index].values;
        let list = if self.dice.once_in(4) { at(&mut self.dice, lists) } else { lists[0] };
        list.iter().map(|value| value.map_or(Value::Null, |text| Value::Text(text.to_owned()))).collect()
    }

    /// One segment of the extended protocol: up to a few statements with what belongs to them, then Sync.
    fn segment(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        for _ in 0..=self.dice.below(3) {
            let (slot, prepared) = self.prepare(&mut steps);
            self.use_of(&mut steps, NAMES[slot], &prepared);
            if self.dice.once_in(8) {
                // Described or not, all answers so far are awaited before the rest is sent.
                steps.push(send(Message::Flush));
                steps.push(act(Action::Answers(0)));
            }
        }
        steps.push(send(Message::Sync));
        steps
    }

    fn use_of(&mut self, steps: &mut Vec<Step>, name: &str, prepared: &Prepared) {
        let is_fresh = matches!(steps.last().map(|step| &step.action), Some(Action::Send(Message::Parse { .. })));
        if self.dice.once_in(4) && (is_fresh || prepared.may_pause) {
            steps.push(send(Message::DescribeStatement(name.to_owned())));
        }
        if self.dice.once_in(10) {
            steps.push(send(Message::Flush));
        }
        if self.dice.once_in(12) && name != NAMES[ONCE] {
            // As asyncpg and tokio-postgres do: prepared in one segment, used in the next.
            steps.push(send(Message::Sync));
        }
        if self.dice.once_in(25) {
            steps.push(send(Message::CloseStatement(name.to_owned())));
        }
        let portal = at(&mut self.dice, &["", "", "", "p1", "p2"]).to_string();
        // A name that is bound twice is left to the scripts: what it stands for is in doubt then (portal-in-failed-block).
        if !portal.is_empty() {
            steps.push(send(Message::ClosePortal(portal.clone())));
        }
        let statement = if self.dice.once_in(30) { "nosuch".to_owned() } else { name.to_owned() };
        let (values, binary_results) = (self.values(prepared), self.dice.once_in(4));
        steps.push(send(Message::Bind { portal: portal.clone(), statement, values, binary_results }));
        if self.dice.once_in(3) {
            steps.push(send(Message::DescribePortal(portal.clone())));
        }
        let limit = u32::try_from(1 + self.dice.below(3)).expect("a small number");
        let rows_max = if prepared.may_pause && self.dice.once_in(3) { limit } else { 0 };
        steps.push(send(Message::Execute { portal: portal.clone(), rows_max }));
        if rows_max > 0 && self.dice.once_in(2) {
            // An unnamed portal that was never bound is PostgreSQL's own weakness; see `paused` for those that were.
            if !portal.is_empty() && self.dice.once_in(2) {
                steps.push(send(Message::Sync));
            }
            steps.push(send(Message::Execute { portal: portal.clone(), rows_max: limit }));
        }
        if self.dice.once_in(12) {
            let portal = at(&mut self.dice, &["", "p1", "p2", "nosuch", "c"]).to_string();
            steps.push(send(Message::Execute { portal, rows_max: 0 }));
        }
        if self.dice.once_in(10) {
            steps.push(send(Message::ClosePortal(portal)));
        }
    }

    /// A block with a portal that is read in parts, across segments and other statements.
    fn paused(&mut self) -> Vec<Step> {
        self.names[0] = None;
        let portal = at(&mut self.dice, &["", "", "p1"]).to_owned();
        let sql = "SELECT g, repeat('p', g) FROM generate_series(1, 9) AS g";
        let (values, binary_results) = (vec![], self.dice.once_in(3));
        let mut steps = vec![query_of("ROLLBACK"), query_of("BEGIN")];
        steps.push(send(Message::parse("", sql)));
        steps.push(send(Message::Bind { portal: portal.clone(), statement: String::new(), values, binary_results }));
        for _ in 0..1 + self.dice.below(5) {
            let rows_max = u32::try_from(self.dice.below(5)).expect("a small number");
            steps.push(send(Message::Execute { portal: portal.clone(), rows_max }));
            let between: &[Message] = match self.dice.below(6) {
                0 => &[Message::Flush],
                1 => &[Message::parse("s1", "SELECT 1"), Message::DescribeStatement("s1".to_owned())],
                2 if !portal.is_empty() => {
                    &[Message::parse("", WORK[0]), Message::bind("", &[]), Message::execute(), Message::Sync]
                }
                3 => &[Message::DescribePortal(portal.clone())],
                4 => &[],
                _ => &[Message::Sync],
            };
            steps.extend(between.iter().cloned().map(send));
        }
        steps.push(send(Message::Sync));
        self.names[1] = None;
        steps.push(query_of(at(&mut self.dice, &["COMMIT", "ROLLBACK", "SELECT 1"])));
        steps
    }

    /// A statement that can only wait, with others around it, and its cancellation.
    fn cancel(&mut self) -> Vec<Step> {
        let waits = format!("SELECT pg_advisory_xact_lock({})", self.lock);
        let mut steps = vec![query_of("ROLLBACK"), query_of("RESET default_transaction_read_only")];
        // What stands in front must not fail, or nothing waits.
        let safe = [
            "SELECT id FROM public.items ORDER BY id",
            "INSERT INTO public.plain (id) VALUES (50)",
            "SHOW timezone",
            "SET LOCAL timezone = 'CET'",
        ];
        if self.dice.once_in(2) {
            steps.push(query_of("BEGIN"));
            steps.extend(self.dice.once_in(2).then(|| query_of("SAVEPOINT a")));
        }
        let front = at(&mut self.dice, &safe);
        self.names[0] = None;
        match self.dice.below(3) {
            0 => steps.push(query_of(&waits)),
            1 => steps.push(query_of(&format!("{front}; {waits}; SELECT 1"))),
            _ => {
                // A name that nothing else uses: left as the unnamed statement it would be executed again.
                let name = "waiting";
                steps.push(send(Message::CloseStatement(name.to_owned())));
                steps.extend([Message::parse("", front), Message::bind("", &[]), Message::execute()].map(send));
                steps.extend([Message::parse(name, &waits), Message::bind(name, &[]), Message::execute()].map(send));
                steps.extend(
                    [Message::parse("", front), Message::bind("", &[]), Message::execute(), Message::Sync].map(send),
                );
            }
        }
        // Nothing is in the pipeline behind it: the postmaster signals the process and its group, and the second of the two
        // signals may come late enough for the next statement.
        steps.push(act(Action::Blocked(self.lock)));
        steps.push(act(Action::Cancel));
        steps
    }

    /// The same, ended by the client's own lock_timeout.
    fn times_out(&mut self) -> Vec<Step> {
        self.names[0] = None;
        let sql = format!("SET LOCAL lock_timeout = '1ms'; SELECT pg_advisory_xact_lock({})", self.lock);
        let mut steps = vec![];
        steps.extend(self.dice.once_in(2).then(|| query_of("BEGIN")));
        steps.push(query_of(&sql));
        steps.extend(self.dice.once_in(2).then(|| query_of("ROLLBACK")));
        steps
    }

    /// Back to the pool: the block ended, then what the pool sends.
    fn release(&mut self) -> Vec<Step> {
        self.names[0] = None;
        let sql = at(&mut self.dice, RELEASE);
        if sql.starts_with("D") {
            self.names = [None; 5];
        }
        vec![query_of("ROLLBACK"), query_of(sql)]
    }

    fn connect(&mut self) -> Step {
        const CHOICES: &[(&str, &str)] = &[
            ("timezone", "Asia/Tokyo"),
            ("TimeZone", "America/New_York"),
            ("datestyle", "SQL, DMY"),
            ("application_name", "generated"),
            ("client_encoding", "UTF8"),
            ("extra_float_digits", "2"),
            ("intervalstyle", "sql_standard"),
            ("search_path", "north, public"),
            ("default_transaction_isolation", "repeatable read"),
            ("options", "-c statement_timeout=1h -c datestyle=German"),
            ("options", "-c search_path=south,\\ public"),
            ("client_min_messages", "warning"),
        ];
        let mut parameters: Vec<(String, String)> = Vec::new();
        for _ in 0..self.dice.below(4) {
            let (name, value) = at(&mut self.dice, CHOICES);
            if parameters.iter().all(|(known, _)| !known.eq_ignore_ascii_case(name)) {
                parameters.push((name.to_owned(), value.to_owned()));
            }
        }
        act(Action::Connect(parameters))
    }
}

/// What a client may do with a prepared statement.
#[derive(Default)]
struct Prepared {
    bound: Option<usize>,
    may_pause: bool,
}

impl Prepared {
    fn of(text: Option<usize>) -> Self {
        let bound = text.filter(|index| *index < BOUND.len());
        let may_pause = bound.map_or(text == Some(BOUND.len()), |index| is_pausable(BOUND[index].sql));
        Self { bound, may_pause }
    }
}

/// A suspended UPDATE or INSERT and a Parse: the command counter tells a repeated Parse from none.
fn is_pausable(sql: &str) -> bool {
    sql.starts_with("SELECT") || sql.starts_with("VALUES")
}

/// The session of a seed.
pub fn pieces(seed: u64, lock: u32, login: Login) -> Vec<Piece> {
    let state = if login.keeps_state() { state_of(lock) } else { &[] };
    let mut mind = Mind { dice: Dice::new(seed), names: [None; 5], lock, state, is_recorded: login == Login::Recorded };
    let mut pieces = vec![Piece { steps: vec![mind.connect(), act(Action::Startup)], waits: false }];
    // Some sessions are pipelines, some wait for everything.
    let hurry = at(&mut mind.dice, &[2, 3, 3, 8]);
    // Some ask which server they have got, to show that servers change.
    let asks = mind.dice.once_in(4);
    for _ in 0..4 + mind.dice.below(9) {
        let steps = match mind.dice.below(33) {
            0..10 => mind.query(),
            10..13 => mind.block(),
            13..24 => mind.segment(),
            24..27 => mind.copy_in(),
            27..29 => mind.release(),
            29 => mind.cancel(),
            30 | 31 => mind.times_out(),
            _ => mind.paused(),
        };
        let waits = !mind.dice.once_in(hurry) || steps.iter().any(|step| matches!(step.action, Action::Cancel));
        pieces.push(Piece { steps, waits });
        if asks {
            let steps = vec![query_of("SELECT pg_backend_pid() AS server")];
            pieces.push(Piece { steps, waits: true });
        }
    }
    // A cancellation begins with nothing owed, or it might hit what is in front of it.
    for index in 1..pieces.len() {
        if pieces[index].steps.iter().any(|step| matches!(step.action, Action::Cancel)) {
            pieces[index - 1].waits = true;
        }
    }
    pieces
}

/// The pieces as a script: a wait for every ReadyForQuery that is owed, and for answers where the client wants them.
pub fn script(pieces: &[Piece], title: &str) -> Script {
    let mut steps = Vec::new();
    let (mut owed, mut answers) = (0, 0);
    for (index, piece) in pieces.iter().enumerate() {
        for step in &piece.steps {
            match &step.action {
                Action::Send(Message::Query(_) | Message::Sync) => (owed, answers) = (owed + 1, 0),
                Action::Send(Message::Flush | Message::CopyData(_) | Message::CopyDone | Message::CopyFail(_)) => {}
                Action::Send(_) => answers += 1,
                Action::Answers(_) => {
                    steps.extend((owed > 0).then(|| act(Action::Wait(b'Z', owed))));
                    steps.push(act(Action::Answers(answers)));
                    (owed, answers) = (0, 0);
                    continue;
                }
                _ => {}
            }
            steps.push(step.clone());
        }
        if owed > 0 && (piece.waits || index + 1 == pieces.len()) {
            steps.push(act(Action::Wait(b'Z', owed)));
            owed = 0;
        }
    }
    Script {
        title: title.to_owned(),
        place: "generated".to_owned(),
        setup: vec![],
        steps,
        versions: (0, 99),
        differs: vec![],
        keeps_state: false,
    }
}
