//! A model ledger: it makes records durable late or not at all, and answers late, never, or with a refusal.
//!
//! What must hold between it and what servers do is looked at as it happens, and once more at the end: a statement of a
//! recorded login was sent behind its durable intent, a COMMIT behind its durable pre-commit record with the transaction's
//! own id, and no record says of a transaction what did not become of it.
//!
//! Owns: records, when they are durable, these checks. Does not own: how long a client waits (`world`, as
//! `driver/client.rs`), transactions on servers (`backend`).

use crate::dice::Dice;
use std::time::Duration;
use tenantgate::audit::{Conclusion, Entry};
use tenantgate::time::Moment;

/// How the disk does in this run.
#[derive(Clone, Copy, Debug)]
pub struct Disk {
    /// Longest time until a record is durable, and until that is said, in milliseconds.
    slow_millis: u64,
    /// Once in so many records is refused; 0 is never.
    refused_once_in: u64,
    /// Once in so many is never answered; 0 is never.
    lost_once_in: u64,
    /// From then on nothing is answered.
    gone_at: Option<Moment>,
}

impl Disk {
    /// One drawn from the dice.
    pub fn drawn(dice: &mut Dice) -> Self {
        let mut pick = |list: [u64; 3]| list[usize::try_from(dice.below(3)).unwrap_or(0)];
        let (slow_millis, refused_once_in, lost_once_in) = (pick([0, 20, 200]), pick([0, 0, 12]), pick([0, 0, 16]));
        let gone_at = dice.once_in(12).then(|| Moment::from_micros(dice.below(1_000_000)));
        Self { slow_millis, refused_once_in, lost_once_in, gone_at }
    }
}

/// A recorded transaction, by what its records say and by what servers have done of it.
#[derive(Debug)]
struct Transaction {
    client: usize,
    link: usize,
    /// Bytes for the server from this one on are the transaction's.
    from: u64,
    intent: Written,
    announced: Vec<(Option<u64>, Written)>,
    outcome: Option<Conclusion>,
    /// Its client was told that there is no intent: it is not to be.
    is_refused: bool,
    /// The session has given up the server before the end was answered.
    is_lost: bool,
    commits: usize,
}

/// How much had been sent to the transaction's server when a record was durable.
type Written = Option<u64>;

/// A record on its way to the disk.
#[derive(Debug)]
struct Writing {
    transaction: usize,
    /// The intent, or the pre-commit record of that number.
    announcement: Option<usize>,
    durable_at: Option<Moment>,
}

/// What a client waits for.
#[derive(Debug)]
pub struct Awaited {
    pub is_intent: bool,
    pub is_outcome: bool,
    /// When it is answered, and whether the record was taken.
    pub answer: Option<(Moment, bool)>,
    /// Until when somebody waits for that.
    pub limit: Moment,
}

/// The ledger of one run.
pub struct Ledger {
    dice: Dice,
    disk: Disk,
    write_timeout: Duration,
    /// A planted defect: it answers before anything is durable.
    pub answers_early: bool,
    transactions: Vec<Transaction>,
    writings: Vec<Writing>,
}

/// Where a client's server is, when it asks for a record.
#[derive(Clone, Copy, Debug)]
pub struct Where {
    pub link: usize,
    pub process_id: i32,
    /// Bytes that were sent to it or wait to be.
    pub sent: u64,
}

/// A COMMIT that a server carries out.
#[derive(Clone, Copy, Debug)]
pub struct Commit {
    pub at: u64,
    pub xid: Option<u64>,
    /// Statements of somebody have run in it.
    pub is_used: bool,
    /// It fails, and nothing is committed.
    pub fails: bool,
}

impl Ledger {
    pub fn new(mut dice: Dice, disk: Disk) -> Self {
        let millis = [150, 600][usize::try_from(dice.below(2)).unwrap_or(0)];
        Self {
            dice,
            disk,
            write_timeout: Duration::from_millis(millis),
            answers_early: false,
            transactions: Vec::new(),
            writings: Vec::new(),
        }
    }

    /// A session asks for a record.
    pub fn take(&mut self, client: usize, entry: &Entry, place: Option<Where>, now: Moment) -> Result<Awaited, String> {
        let announcement = match entry {
            Entry::Intent(intent) => {
                let place = place.ok_or("an intent without a server")?;
                if intent.server != place.link as u64 + 1 || intent.server_process != place.process_id {
                    return Err(format!("an intent names server {}, not {}", intent.server, place.link + 1));
                }
                if self.open(client).is_some() {
                    return Err("an intent while a transaction is open".to_owned());
                }
                self.transactions.push(Transaction {
                    client,
                    link: place.link,
                    from: place.sent,
                    intent: None,
                    announced: Vec::new(),
                    outcome: None,
                    is_refused: false,
                    is_lost: false,
                    commits: 0,
                });
                None
            }
            Entry::PreCommit(record) => {
                let open = self.open(client).ok_or("a pre-commit record without an intent")?;
                let announced = &mut self.transactions[open].announced;
                announced.push((record.standing.xid.map(|xid| xid.0), None));
                Some(announced.len() - 1)
            }
            Entry::Outcome(outcome) => {
                let open = self.open(client).ok_or("an outcome without an intent")?;
                self.transactions[open].outcome = Some(outcome.conclusion);
                return Ok(self.awaited(false, true, None, now));
            }
        };
        let transaction = self.transactions.iter().rposition(|it| it.client == client).unwrap_or(0);
        // What is refused or not answered may be on the disk all the same.
        let is_kept = self.dice.once_in(2);
        let durable_at = now.after(self.delay());
        let awaited = self.awaited(announcement.is_none(), false, Some(durable_at), now);
        let is_durable = is_kept || awaited.answer.is_some_and(|(_, is_taken)| is_taken);
        self.writings.push(Writing { transaction, announcement, durable_at: is_durable.then_some(durable_at) });
        Ok(awaited)
    }

    fn delay(&mut self) -> Duration {
        match self.disk.slow_millis {
            0 => Duration::ZERO,
            most => Duration::from_millis(self.dice.below(most)),
        }
    }

    fn awaited(&mut self, is_intent: bool, is_outcome: bool, durable_at: Option<Moment>, now: Moment) -> Awaited {
        let happens = |dice: &mut Dice, times: u64| times > 0 && dice.once_in(times);
        let is_refused = happens(&mut self.dice, self.disk.refused_once_in);
        let is_lost = happens(&mut self.dice, self.disk.lost_once_in);
        let durable_at = durable_at.filter(|_| !self.answers_early && !is_refused).unwrap_or(now);
        let answer_at = durable_at.after(self.delay());
        let is_gone = self.disk.gone_at.is_some_and(|gone| gone <= answer_at);
        let answer = (!is_lost && !is_gone).then_some((answer_at, !is_refused));
        Awaited { is_intent, is_outcome, answer, limit: now.after(self.write_timeout) }
    }

    /// Whatever is durable by now, is.
    pub fn advance(&mut self, now: Moment, written: impl Fn(usize) -> u64) {
        let transactions = &mut self.transactions;
        self.writings.retain(|writing| {
            let is_due = writing.durable_at.is_some_and(|at| at <= now);
            if is_due {
                let transaction = &mut transactions[writing.transaction];
                let written = Some(written(transaction.link));
                match writing.announcement {
                    None => transaction.intent = written,
                    Some(number) => transaction.announced[number].1 = written,
                }
            }
            !is_due && writing.durable_at.is_some()
        });
    }

    /// When something becomes durable next.
    pub fn wakes_at(&self) -> Option<Moment> {
        self.writings.iter().filter_map(|writing| writing.durable_at).min()
    }

    /// The client is told that its record could not be written.
    pub fn refused(&mut self, client: usize, is_intent: bool) {
        if let Some(open) = self.open(client).filter(|_| is_intent) {
            self.transactions[open].is_refused = true;
        }
    }

    /// The session has given up its server.
    pub fn lost(&mut self, client: usize, link: usize) {
        let last = self.transactions.iter_mut().rfind(|it| it.client == client && it.link == link);
        if let Some(last) = last.filter(|last| last.outcome == Some(Conclusion::Unknown)) {
            last.is_lost = true;
        }
    }

    fn open(&self, client: usize) -> Option<usize> {
        let last = self.transactions.iter().rposition(|it| it.client == client)?;
        let is_open = self.transactions[last].outcome.is_none() && !self.transactions[last].is_refused;
        is_open.then_some(last)
    }

    fn find(&mut self, client: usize, link: usize, at: u64) -> Option<&mut Transaction> {
        self.transactions.iter_mut().rfind(|it| it.client == client && it.link == link && it.from <= at)
    }

    // -- what must hold

    /// A statement of a recorded client runs.
    pub fn on_statement(&mut self, client: usize, link: usize, at: u64) -> Result<(), String> {
        let found = self.find(client, link, at).ok_or("a recorded statement runs without an intent")?;
        match found.intent {
            _ if found.is_refused => Err("a recorded statement runs whose intent was refused".to_owned()),
            Some(durable) if durable <= at && found.commits == 0 => Ok(()),
            Some(durable) if durable <= at => Err("a recorded statement runs behind its transaction's end".to_owned()),
            Some(_) => Err("a recorded statement was sent before its intent was durable".to_owned()),
            None => Err("a recorded statement runs and its intent is not durable".to_owned()),
        }
    }

    /// A recorded client's COMMIT is carried out.
    pub fn on_commit(&mut self, client: usize, link: usize, commit: Commit) -> Result<(), String> {
        let Some(found) = self.find(client, link, commit.at) else {
            return if commit.is_used { Err("a recorded COMMIT without an intent".to_owned()) } else { Ok(()) };
        };
        let is_over = found.is_refused || found.outcome.is_some_and(|outcome| outcome != Conclusion::Unknown);
        let announced: Vec<_> = found.announced.iter().filter(|(xid, _)| *xid == commit.xid).collect();
        if !commit.is_used && (is_over || found.commits > 0 || announced.is_empty()) {
            // Nothing of the client's: its settings on their way to the server, an empty block, a COMMIT without one.
            return Ok(());
        }
        if is_over && !commit.fails {
            return Err(format!("a recorded transaction commits, and its outcome is {:?}", found.outcome));
        }
        if announced.is_empty() {
            return Err(format!("no pre-commit record announces {:?}, but {:?}", commit.xid, found.announced));
        }
        if !announced.iter().any(|(_, durable)| durable.is_some_and(|durable| durable <= commit.at)) {
            return Err("a COMMIT was sent before its pre-commit record was durable".to_owned());
        }
        found.commits += usize::from(!commit.fails);
        Ok(())
    }

    /// Whether something happens that does once in so many times.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.dice.once_in(times)
    }

    /// All is over: whether the records say what has become of each transaction.
    pub fn settle(&self) -> Vec<String> {
        self.transactions.iter().filter_map(|it| it.wrong().map(|what| format!("c{}: {what}", it.client))).collect()
    }
}

impl Transaction {
    fn wrong(&self) -> Option<String> {
        match (self.commits, self.outcome) {
            _ if self.is_refused => None,
            (0 | 1, Some(Conclusion::Unknown)) if self.is_lost => None,
            (1, Some(Conclusion::Committed)) | (0, Some(Conclusion::RolledBack | Conclusion::Failed)) => None,
            (0 | 1, None) => Some("a transaction has no outcome".to_owned()),
            (commits, outcome) => Some(format!("{commits} COMMITs of a transaction, and its outcome is {outcome:?}")),
        }
    }
}
