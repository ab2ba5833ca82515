//! Random message scripts, made from a seed: PostgreSQL and TenantGate must answer them alike.
//!
//! `TENANTGATE_SEED` repeats a run, `TENANTGATE_RANDOM_SCRIPTS` scales it. A script that differs is made
//! smaller as long as it still differs, then printed in the form of `tests/scripts`.

use crate::scripts::{DATABASE, Login, direct, play, superuser};
use crate::support::cluster::{self, Cluster};
use crate::support::dice::Dice;
use crate::support::message::Message;
use crate::support::proxy::{Proxy, Wish};
use crate::support::raw::{Client, Pace, Target};
use crate::support::script::{Action, Script, Step};
use crate::support::transcript::{Side, difference};
use crate::support::{alone, number};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(3);
/// For making scripts smaller, and after the first difference for finding more: a report that comes is better.
const BUDGET: Duration = Duration::from_secs(90);

/// Messages that belong together, and whether the client waits for all answers after them.
#[derive(Clone)]
struct Piece {
    steps: Vec<Step>,
    waits: bool,
}

const CONTROL: &[&str] = &[
    "BEGIN",
    "BEGIN",
    "START TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "COMMIT",
    "COMMIT",
    "ROLLBACK",
    "COMMIT AND CHAIN",
    "ROLLBACK AND CHAIN",
    "SAVEPOINT a",
    "ROLLBACK TO a",
    "RELEASE a",
    "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
];
const WORK: &[&str] = &[
    "SELECT id FROM items ORDER BY id",
    "SELECT current_setting('app.tenant_id', true) AS tenant, count(*) FROM items",
    "INSERT INTO plain (id) VALUES (1)",
    "UPDATE items SET qty = qty + 1 WHERE id = 1 RETURNING qty",
    "SELECT shout('x')",
    // What it means is decided when it is parsed: under whose time zone?
    "SELECT '2020-01-01 00:00:00'::timestamptz AT TIME ZONE 'UTC'",
    "INSERT INTO children (id, parent) SELECT count(*), 1 FROM children RETURNING writer",
];
const SETTINGS: &[&str] = &[
    "SET timezone = 'Asia/Tokyo'",
    "SET timezone = 'Europe/Berlin'",
    "SHOW timezone",
    "RESET timezone",
    "SET LOCAL timezone = 'Europe/Paris'",
    "SET LOCAL work_mem = '2MB'",
    "SHOW work_mem",
    "SET application_name = 'random'",
    "SELECT set_config('TimeZone', 'America/Lima', false)",
    "SELECT current_setting('timezone'), set_config('TimeZone', 'Asia/Kolkata', true)",
    "SELECT set_config('TimeZone', 'nowhere', false)",
    "SET TIME ZONE INTERVAL '+05:00' HOUR TO MINUTE",
];
const ODD: &[&str] = &[
    "",
    "SELECT nosuch",
    "SELECT 1/0",
    "SELECT 1/(id - 2) FROM items ORDER BY id",
    "INSERT INTO uniq VALUES (1)",
    "INSERT INTO items (id, name) VALUES (1, 'again')",
    "SET CONSTRAINTS ALL IMMEDIATE",
];
/// What pools send when a client gives a connection back. Answered by the proxy, so it takes no snapshot and ends no
/// portal there: these come alone and between transactions, where pools send them.
const RELEASE: &[&str] = &[
    "DEALLOCATE ALL",
    "UNLISTEN *",
    "RESET ALL",
    "DISCARD ALL",
    "SELECT pg_advisory_unlock_all()",
    "CLOSE ALL",
    "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL",
];

fn send(message: Message) -> Step {
    Step { connection: 'A', refused: None, action: Action::Send(message) }
}

fn pick<'a>(dice: &mut Dice, from: &[&'a str]) -> &'a str {
    from[usize::try_from(dice.below(from.len() as u64)).expect("a short list")]
}

fn statement(dice: &mut Dice) -> &'static str {
    match dice.below(10) {
        0..4 => pick(dice, WORK),
        4..7 => pick(dice, CONTROL),
        7 | 8 => pick(dice, SETTINGS),
        _ => pick(dice, ODD),
    }
}

fn query(dice: &mut Dice) -> Vec<Step> {
    let count = [1, 1, 1, 2, 3, 4][usize::try_from(dice.below(6)).expect("below six")];
    let sql: Vec<&str> = (0..count).map(|_| statement(dice)).collect();
    let mut step = send(Message::Query(sql.join("; ")));
    if dice.once_in(15) {
        step = send(Message::Query("SET app.tenant_id = 'x'".to_owned()));
        step.refused = Some("TG011".to_owned());
    }
    vec![step]
}

fn copy(dice: &mut Dice) -> Vec<Step> {
    let sql = "COPY plain (id, note) FROM STDIN".to_owned();
    let data = if dice.once_in(4) { "bad\tx\n" } else { "1\tx\n" };
    let end = if dice.once_in(5) { Message::CopyFail("no".to_owned()) } else { Message::CopyDone };
    let mut messages = vec![];
    let is_simple = dice.once_in(2);
    if is_simple {
        messages.push(Message::Query(sql));
    } else {
        // A name of its own: bound again by a later segment, copy-in would swallow that segment's Sync.
        let name = "copying";
        messages.push(Message::CloseStatement(name.to_owned()));
        messages.extend([Message::parse(name, &sql), Message::bind(name, &[]), Message::execute()]);
    }
    messages.extend([Message::CopyData(data.into()), Message::CopyData(b"2\ty\n".to_vec()), end]);
    if !is_simple {
        messages.push(Message::Sync);
    }
    messages.into_iter().map(send).collect()
}

/// One segment of the extended protocol: up to a few statements, then Sync.
fn segment(dice: &mut Dice) -> Vec<Step> {
    let mut steps = Vec::new();
    for _ in 0..=dice.below(3) {
        let name = pick(dice, &["", "", "s1", "s2"]).to_owned();
        let portal = pick(dice, &["", "", "", "p1"]).to_owned();
        // A suspended UPDATE or INSERT and the same text again: the command counter tells a repeated Parse from none.
        let mut may_suspend = false;
        if !dice.once_in(3) {
            // A name that is taken and a text that is wrong: which error comes first is nobody's promise.
            if !name.is_empty() {
                steps.push(send(Message::CloseStatement(name.clone())));
            }
            let sql = statement(dice);
            may_suspend = sql.starts_with("SELECT");
            steps.push(send(Message::parse(&name, sql)));
            if dice.once_in(20) {
                let step = steps.last_mut().expect("one was just put");
                step.refused = Some("TG011".to_owned());
                step.action = Action::Send(Message::parse(&name, "SELECT set_config('app.tenant_id', 'x', true)"));
            }
        }
        if dice.once_in(4) {
            steps.push(send(Message::DescribeStatement(name.clone())));
        }
        if dice.once_in(6) {
            steps.push(send(Message::Flush));
        }
        if dice.once_in(8) {
            steps.push(send(Message::CloseStatement(name.clone())));
        }
        let (values, binary_results) = (vec![], dice.once_in(4));
        steps.push(send(Message::Bind { portal: portal.clone(), statement: name, values, binary_results }));
        if dice.once_in(3) {
            steps.push(send(Message::DescribePortal(portal.clone())));
        }
        let rows_max = u32::from(may_suspend && dice.once_in(2));
        steps.push(send(Message::Execute { portal: portal.clone(), rows_max }));
        if dice.once_in(6) {
            steps.push(send(Message::Execute { portal: portal.clone(), rows_max: 0 }));
        }
        if dice.once_in(8) {
            steps.push(send(Message::ClosePortal(portal)));
        }
    }
    steps.push(send(Message::Sync));
    steps
}

/// Back to the pool: the block ended, then what the pool sends.
fn release(dice: &mut Dice) -> Vec<Step> {
    ["ROLLBACK", pick(dice, RELEASE)].map(|sql| send(Message::Query(sql.to_owned()))).to_vec()
}

/// Another tenant's client in between, so that servers change hands.
fn neighbour() -> Vec<Step> {
    let sql = "SELECT current_setting('app.tenant_id', true) AS tenant, count(*) FROM items".to_owned();
    let literal = "SELECT '2020-01-01 00:00:00'::timestamptz AT TIME ZONE 'UTC'";
    let messages = [
        Message::Query(sql),
        Message::Query("SHOW timezone".to_owned()),
        Message::CloseStatement("s1".to_owned()),
        Message::parse("s1", literal),
        Message::bind("s1", &[]),
        Message::execute(),
        Message::Sync,
    ];
    let mut steps: Vec<Step> = messages.into_iter().map(send).collect();
    steps.push(Step { action: Action::Wait(b'Z', 3), ..send(Message::Sync) });
    steps.iter_mut().for_each(|step| step.connection = 'B');
    steps
}

fn pieces(dice: &mut Dice) -> Vec<Piece> {
    let count = 3 + dice.below(8);
    (0..count)
        .map(|_| {
            let steps = match dice.below(20) {
                0..9 => query(dice),
                9..15 => segment(dice),
                15..17 => copy(dice),
                17 => release(dice),
                _ => neighbour(),
            };
            Piece { steps, waits: !dice.once_in(3) }
        })
        .collect()
}

/// The pieces as a script: a wait for every ReadyForQuery that is owed.
fn script(pieces: &[Piece], title: &str) -> Script {
    let mut steps = Vec::new();
    let mut owed = 0;
    for (index, piece) in pieces.iter().enumerate() {
        let ends = |step: &&Step| {
            step.connection == 'A' && matches!(step.action, Action::Send(Message::Query(_) | Message::Sync))
        };
        owed += piece.steps.iter().filter(ends).count();
        steps.extend(piece.steps.iter().cloned());
        if owed > 0 && (piece.waits || index + 1 == pieces.len()) {
            steps.push(Step { action: Action::Wait(b'Z', owed), ..send(Message::Sync) });
            owed = 0;
        }
    }
    Script { title: title.to_owned(), place: "random".to_owned(), setup: vec![], steps, versions: (0, 99) }
}

/// Both sides of a comparison.
struct Pair<'a> {
    admin: Client,
    native: &'a dyn Fn(char) -> Target,
    proxied: &'a dyn Fn(char) -> Target,
    is_rehearsal: bool,
    login: Login,
    /// When the search ends, once there is a difference.
    deadline: Instant,
}

impl Pair<'_> {
    fn differs(&mut self, pieces: &[Piece]) -> Option<String> {
        let script = script(pieces, "random");
        if self.login.leaves_out(&script) {
            return None;
        }
        let left = play(
            &mut self.admin,
            &script,
            &Side { is_proxy: false, pace: Pace::Burst, patience: PATIENCE, target: self.native },
        );
        // Possible while a script is made smaller: a COPY without its end. Nothing to compare then.
        if left.iter().any(|line| line.ends_with("TIMEOUT")) {
            return None;
        }
        let side = Side { is_proxy: !self.is_rehearsal, pace: Pace::Burst, patience: PATIENCE, target: self.proxied };
        let right = play(&mut self.admin, &script, &side);
        // In the proxy's block PostgreSQL does not warn that there is none.
        let warns = |line: &String| self.login == Login::Recorded && line.contains(" N C=\"25P01\"");
        let silent = |lines: Vec<String>| lines.into_iter().filter(|line| !warns(line)).collect::<Vec<_>>();
        difference(&silent(left), &silent(right), script.has_refusals())
    }

    /// Leaves out whatever is not needed for a difference: pieces first, then single messages, Sync and Query apart.
    /// Returns the rest and how it differed last: some differences depend on the moment.
    fn smallest(&mut self, mut pieces: Vec<Piece>, mut columns: String) -> (Vec<Piece>, String) {
        let mut index = 0;
        while index < pieces.len() && Instant::now() < self.deadline {
            let mut fewer = pieces.clone();
            fewer.remove(index);
            match self.differs(&fewer).filter(|_| !fewer.is_empty()) {
                Some(now) => (pieces, columns) = (fewer, now),
                None => index += 1,
            }
        }
        for piece in 0..pieces.len() {
            let mut index = 0;
            while index + 1 < pieces[piece].steps.len() && Instant::now() < self.deadline {
                let mut fewer = pieces.clone();
                fewer[piece].steps.remove(index);
                let is_copy = matches!(fewer[piece].steps[index].action, Action::Send(Message::CopyData(_)));
                match self.differs(&fewer).filter(|_| !is_copy) {
                    Some(now) => (pieces, columns) = (fewer, now),
                    None => index += 1,
                }
            }
        }
        (pieces, columns)
    }
}

fn random_scripts(cluster: &Cluster, login: Login, share: u64) {
    let _turn = alone();
    let is_rehearsal = number("TENANTGATE_REHEARSAL", 0) == 1;
    let seed = number("TENANTGATE_SEED", 1);
    let count = number("TENANTGATE_RANDOM_SCRIPTS", 300) / share;
    let admin = superuser(cluster);
    let folder = tempfile::tempdir().expect("a folder for a ledger");
    let more = login.more(&folder.path().join("ledger.jsonl"));
    let wish = Wish { cluster, database: DATABASE, pool_size: 2, mutant: None, more: &more };
    let proxy = (!is_rehearsal).then(|| Proxy::start(&wish));
    let native = |connection: char| direct(cluster, login, connection);
    let proxied = |connection: char| match &proxy {
        Some(proxy) => login.proxied(proxy, connection),
        None => native(connection),
    };
    let mut pair = Pair { admin, native: &native, proxied: &proxied, is_rehearsal, login, deadline: Instant::now() };
    let mut failures = Vec::new();
    for index in 0..count {
        let pieces = pieces(&mut Dice::new(seed.wrapping_mul(1_000_003).wrapping_add(index)));
        let Some(columns) = pair.differs(&pieces) else { continue };
        if failures.is_empty() {
            pair.deadline = Instant::now() + BUDGET;
        }
        let (smallest, columns) = pair.smallest(pieces, columns);
        let lines: Vec<String> = script(&smallest, "").steps.iter().map(Step::to_string).collect();
        failures.push(format!("== seed {seed} script {index}\n{}\n\n{columns}", lines.join("\n")));
        if failures.len() >= 10 || Instant::now() > pair.deadline {
            break;
        }
    }
    eprintln!("{count} random scripts of seed {seed} on PostgreSQL {}", cluster.version);
    let log = proxy.as_ref().map(Proxy::log_tail).unwrap_or_default();
    assert!(failures.is_empty(), "{} differ:\n{}\nthe proxy:\n{log}", failures.len(), failures.join("\n"));
}

#[test]
fn random_scripts_get_the_same_replies_on_15() {
    random_scripts(cluster::fifteen(), Login::Tenant, 1);
}

#[test]
fn random_scripts_get_the_same_replies_on_18() {
    if let Some(cluster) = cluster::eighteen() {
        random_scripts(cluster, Login::Tenant, 1);
    }
}

#[test]
fn random_scripts_over_recorded_sessions_get_the_same_replies() {
    for cluster in cluster::every() {
        random_scripts(cluster, Login::Recorded, 2);
    }
}
