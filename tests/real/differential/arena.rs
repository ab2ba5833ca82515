//! Where generated sessions meet: one database, a proxy with fewer servers than clients, and other clients about.
//!
//! Owns: the tenants' rows, both sides of one session, making a session smaller. Does not own: what a session says, or
//! how many there are.

use super::generate::{LOCK_BASE, Piece, pieces, script};
use crate::scripts::Login;
use crate::support::cluster::Cluster;
use crate::support::differences::{Allowed, Uses};
use crate::support::message::Message;
use crate::support::proxy::{Proxy, Wish};
use crate::support::raw::{Client, Pace, Target};
use crate::support::script::{Action, Script};
use crate::support::transcript::{self, Side, compare};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

pub const DATABASE: &str = "differential";
/// Only sessions that hang wait so long, and then both sides are shown.
const PATIENCE: Duration = Duration::from_secs(30);
const SCHEMA: &str = include_str!("../../differential/schema.sql");
/// Fewer than clients: a session meets another server in its next transaction, and another client has used it.
const SERVERS: u32 = 3;
/// Where a server may stay with its client for long: still fewer than clients.
const SERVERS_KEPT: u32 = 5;

/// One database of one cluster, and the proxy in front of it.
pub struct Arena<'a> {
    pub cluster: &'a Cluster,
    pub login: Login,
    pub proxy: Option<Proxy>,
    /// Of the ledger, where there is one.
    _folder: tempfile::TempDir,
}

impl<'a> Arena<'a> {
    /// `mutant` is a planted defect, `is_rehearsal` leaves the proxy out.
    pub fn new(cluster: &'a Cluster, login: Login, mutant: Option<&str>, is_rehearsal: bool) -> Self {
        cluster.create_database(DATABASE);
        let mut admin = cluster.admin(DATABASE);
        if admin.rows("SELECT 1 FROM pg_roles WHERE rolname = 'script_recorded'").is_empty() {
            admin.run("CREATE ROLE script_recorded LOGIN IN ROLE app_user");
        }
        admin.run(SCHEMA);
        if login == Login::Sealed {
            crate::sealed::seal(&mut admin, DATABASE);
        }
        admin.bye();
        let folder = tempfile::tempdir().expect("a folder for a ledger");
        let more = login.more(&folder.path().join("ledger.jsonl"));
        let pool_size = if login.keeps_state() { SERVERS_KEPT } else { SERVERS };
        let wish = Wish { cluster, database: DATABASE, pool_size, mutant, more: &more };
        let proxy = (!is_rehearsal).then(|| login.start(&wish));
        Self { cluster, login, proxy, _folder: folder }
    }

    fn native(&self, tenant: &str) -> Target {
        let options = format!("-c app.tenant_id={tenant}");
        Target::new(self.cluster.address, self.login.role(), DATABASE).with("options", &options)
    }

    fn proxied(&self, login: Login, tenant: &str) -> Target {
        match &self.proxy {
            Some(proxy) => login.proxied_to(proxy, tenant, DATABASE),
            None => self.native(tenant),
        }
    }
}

/// How one session came out on both sides.
pub enum Comparison {
    /// What the login refuses by design is in it.
    LeftOut,
    /// With how often which difference was let pass.
    Same(Uses),
    Different(String),
}

/// One who plays sessions, with a tenant and a superuser of its own.
pub struct Player<'a> {
    arena: &'a Arena<'a>,
    number: u32,
    tenant: String,
    admin: Client,
    patience: Duration,
    /// Over the ordinary login, whatever the arena's is.
    is_plain: bool,
    /// How many servers each session met that asked for it.
    pub servers_met: Vec<usize>,
}

impl<'a> Player<'a> {
    pub fn new(arena: &'a Arena<'a>, number: u32) -> Self {
        let mut admin = arena.cluster.admin(DATABASE);
        admin.run(&format!("SELECT pg_advisory_lock({})", LOCK_BASE + number));
        admin.run("SET lock_timeout = '20s'");
        let tenant = format!("00000000-0000-0000-0000-{:012x}", number + 1);
        Self { arena, number, tenant, admin, patience: PATIENCE, is_plain: false, servers_met: vec![] }
    }

    pub fn pieces(&self, seed: u64) -> Vec<Piece> {
        pieces(seed, LOCK_BASE + self.number, self.arena.login)
    }

    /// The tenant's rows as every session finds them.
    fn rows(&mut self) {
        // While a session is made smaller, one may be left that waits for ever.
        self.admin.run(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = {} AND \
             database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            LOCK_BASE + self.number
        ));
        let tenant = &self.tenant;
        self.admin.run(&format!(
            "DELETE FROM children WHERE tenant_id = '{tenant}'; DELETE FROM parents WHERE tenant_id = '{tenant}'; \
             DELETE FROM items WHERE tenant_id = '{tenant}'; DELETE FROM uniq WHERE tenant_id = '{tenant}'; \
             DELETE FROM plain WHERE writer = '{tenant}'; \
             INSERT INTO items VALUES ('{tenant}', 1, 'anvil', 10), ('{tenant}', 2, 'axe', 20), ('{tenant}', 3, 'awl', 30); \
             INSERT INTO parents VALUES ('{tenant}', 1), ('{tenant}', 2); INSERT INTO uniq VALUES ('{tenant}', 1), ('{tenant}', 2)"
        ));
    }

    fn rows_left(&mut self) -> Vec<String> {
        let tenant = &self.tenant;
        let rows = self.admin.rows(&format!(
            "SELECT concat_ws(' ', 'items', t) FROM items t WHERE tenant_id = '{tenant}' \
             UNION ALL SELECT concat_ws(' ', 'children', t) FROM children t WHERE tenant_id = '{tenant}' \
             UNION ALL SELECT concat_ws(' ', 'uniq', t) FROM uniq t WHERE tenant_id = '{tenant}' \
             UNION ALL SELECT concat_ws(' ', 'plain', t) FROM plain t WHERE writer = '{tenant}' ORDER BY 1"
        ));
        rows.into_iter().map(|row| row[0].clone().unwrap_or_default()).collect()
    }

    /// The transcript of one side, with what the tables hold afterwards.
    fn play(&mut self, script: &Script, is_proxy: bool, pace: Pace) -> Vec<String> {
        self.rows();
        let login = if self.is_plain { Login::Tenant } else { self.arena.login };
        let target =
            |_| if is_proxy { self.arena.proxied(login, &self.tenant) } else { self.arena.native(&self.tenant) };
        let mut side = Side::proxy(&target, self.patience, pace);
        side.is_proxy = is_proxy && self.arena.proxy.is_some();
        let mut lines = transcript::of(script, &side, &mut self.admin);
        let met = side.servers.borrow().len();
        if side.is_proxy && met > 0 {
            self.servers_met.push(met);
        }
        lines.push("-- afterwards".to_owned());
        lines.extend(self.rows_left());
        lines
    }

    /// The proxy's side alone, for others to meet.
    pub fn disturb(&mut self, seed: u64) {
        // Next to those who keep state there are those who may not, on the same servers.
        let is_plain = self.arena.login.keeps_state() && self.number.is_multiple_of(2);
        let said = if is_plain { pieces(seed, LOCK_BASE + self.number, Login::Tenant) } else { self.pieces(seed) };
        self.is_plain = is_plain;
        drop(self.play(&script(&said, "disturbs"), true, Pace::Burst));
    }

    /// Both sides, for showing.
    pub fn both(&mut self, pieces: &[Piece], pace: Pace) -> [Vec<String>; 2] {
        let script = script(pieces, "generated");
        [self.play(&script, false, Pace::Burst), self.play(&script, true, pace)]
    }

    /// How the sides differ, if they do.
    pub fn differs(&mut self, pieces: &[Piece], pace: Pace) -> Option<String> {
        match self.compare(pieces, pace) {
            Comparison::LeftOut | Comparison::Same(_) => None,
            Comparison::Different(columns) => Some(columns),
        }
    }

    pub fn compare(&mut self, pieces: &[Piece], pace: Pace) -> Comparison {
        let script = script(pieces, "generated");
        let login = self.arena.login;
        if login.leaves_out_generated(&script) {
            return Comparison::LeftOut;
        }
        let left = self.play(&script, false, Pace::Burst);
        // Possible while a session is made smaller: a COPY without its end. Nothing to compare then.
        if left.iter().any(|line| line.ends_with("TIMEOUT")) {
            return match self.patience == PATIENCE {
                true => Comparison::Different(format!("PostgreSQL itself does not answer:\n{}", left.join("\n"))),
                false => Comparison::LeftOut,
            };
        }
        let right = self.play(&script, true, pace);
        let is_recorded = login == Login::Recorded;
        let allowed = Allowed { refusals: script.has_refusals(), names: None, is_recorded };
        match compare(&left, &right, allowed) {
            Ok(uses) => Comparison::Same(uses),
            Err(columns) => Comparison::Different(columns),
        }
    }

    /// Leaves out whatever is not needed for a difference: pieces first, then single messages. Returns the rest and how
    /// it differed last.
    pub fn smallest(
        &mut self,
        mut pieces: Vec<Piece>,
        mut columns: String,
        pace: Pace,
        budget: Duration,
    ) -> (Vec<Piece>, String) {
        let deadline = Instant::now() + budget;
        self.patience = Duration::from_secs(2);
        let mut index = 0;
        while index < pieces.len() && Instant::now() < deadline {
            let mut fewer = pieces.clone();
            fewer.remove(index);
            match self.differs(&fewer, pace).filter(|_| !fewer.is_empty()) {
                Some(now) => (pieces, columns) = (fewer, now),
                None => index += 1,
            }
        }
        for piece in 0..pieces.len() {
            let mut index = 0;
            while index < pieces[piece].steps.len() && pieces[piece].steps.len() > 1 && Instant::now() < deadline {
                let mut fewer = pieces.clone();
                let removed = fewer[piece].steps.remove(index);
                // Without them COPY FROM, a statement that waits, or a segment would have no end.
                let is_needed = matches!(
                    removed.action,
                    Action::Send(Message::CopyDone | Message::CopyFail(_) | Message::Sync)
                        | Action::Blocked(_)
                        | Action::Cancel
                );
                match (!is_needed).then(|| self.differs(&fewer, pace)).flatten() {
                    Some(now) => (pieces, columns) = (fewer, now),
                    None => index += 1,
                }
            }
        }
        self.patience = PATIENCE;
        (pieces, columns)
    }
}

/// Median and most of a list.
pub fn median_and_most(mut numbers: Vec<usize>) -> (usize, usize) {
    numbers.sort_unstable();
    let distinct: BTreeSet<usize> = numbers.iter().copied().collect();
    (numbers.get(numbers.len() / 2).copied().unwrap_or(0), distinct.last().copied().unwrap_or(0))
}
