//! The differential: generated client sessions to PostgreSQL directly and through TenantGate, replies compared
//! message by message, while other clients of other tenants use the same servers.
//!
//! One seed is one session. `TENANTGATE_SESSIONS` says how many, from `TENANTGATE_SEED` on; a session that differs is
//! made smaller while it still differs and printed in the form of `tests/scripts`. Again, and shown whole (the login, in
//! small letters, is one of [`Login`]; what is printed says which):
//!
//! ```text
//! TENANTGATE_LOGIN=tenant TENANTGATE_SEED=n cargo test --test real differential::replay -- --nocapture
//! ```

mod arena;
mod generate;
mod texts;

use crate::scripts::Login;
use crate::support::cluster::{self, Cluster};
use crate::support::differences::Uses;
use crate::support::raw::Pace;
use crate::support::script::Step;
use crate::support::{alone, number};
use arena::{Arena, Comparison, Player, median_and_most};
use generate::{Piece, script};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Players that compare, each with a session at a time.
const PLAYERS: u32 = 4;
/// Players that only use the proxy, with sessions of other seeds: same names, other texts, other settings.
const DISTURBERS: u32 = 3;
/// For making one session smaller: a report that comes is better than the smallest.
const BUDGET: Duration = Duration::from_secs(60);
/// How often a session is compared that is shown.
const REPEATS: usize = 5;
/// After so many differences no more are looked for.
const ENOUGH: usize = 4;

/// What a run has found.
#[derive(Default)]
struct Findings {
    /// To their end, on both sides.
    compared: u64,
    left_out: u64,
    /// How often each difference was let pass that is allowed.
    uses: Uses,
    differences: Vec<String>,
    servers_met: Vec<usize>,
    /// Players that ended in a panic. Where a planted defect writes one tenant's rows as another's, a player's own
    /// housekeeping meets rows it did not make, or a deadlock.
    failed: usize,
}

/// The client's bytes come in one piece, and now and then in many.
const fn pace(seed: u64) -> Pace {
    if seed % 5 == 4 { Pace::Trickle } else { Pace::Burst }
}

fn told(pieces: &[Piece]) -> String {
    script(pieces, "").steps.iter().map(Step::to_string).collect::<Vec<_>>().join("\n")
}

impl Findings {
    fn add(&mut self, mut other: Findings) {
        self.compared += other.compared;
        self.left_out += other.left_out;
        self.differences.append(&mut other.differences);
        self.servers_met.append(&mut other.servers_met);
        for (name, count) in other.uses {
            *self.uses.entry(name).or_default() += count;
        }
    }
}

fn judge(player: &mut Player<'_>, login: Login, seed: u64) -> Findings {
    let pieces = player.pieces(seed);
    let columns = match player.compare(&pieces, pace(seed)) {
        Comparison::LeftOut => return Findings { left_out: 1, ..Findings::default() },
        Comparison::Same(uses) => return Findings { compared: 1, uses, ..Findings::default() },
        Comparison::Different(columns) => columns,
    };
    let again = player.differs(&pieces, pace(seed));
    let (smallest, columns) = match &again {
        Some(_) => player.smallest(pieces, columns, pace(seed), BUDGET),
        None => (pieces, columns),
    };
    let word = if again.is_some() { "made smaller" } else { "not again at once" };
    let name = format!("{login:?}").to_lowercase();
    let difference = format!(
        "== TENANTGATE_LOGIN={name} TENANTGATE_SEED={seed} cargo test --test real differential::replay -- --nocapture\n\
         == ({:?}, {word})\n{}\n\n{columns}",
        pace(seed),
        told(&smallest)
    );
    eprintln!("{difference}");
    Findings { compared: 1, differences: vec![difference], ..Findings::default() }
}

fn disturb(arena: &Arena<'_>, number: u32, over: &AtomicBool) {
    let mut player = Player::new(arena, PLAYERS + number);
    let mut seed = u64::from(number) << 40;
    while !over.load(Ordering::Relaxed) {
        player.disturb(seed);
        seed += 1;
    }
}

fn run(arena: &Arena<'_>, seeds: std::ops::Range<u64>) -> Findings {
    let next = AtomicU64::new(seeds.start);
    let over = AtomicBool::new(false);
    let findings = Mutex::new(Findings::default());
    let failed = std::thread::scope(|scope| {
        let disturbers: Vec<_> = (0..DISTURBERS)
            .map(|number| {
                let over = &over;
                scope.spawn(move || disturb(arena, number, over))
            })
            .collect();
        let players: Vec<_> = (0..PLAYERS)
            .map(|number| {
                let (next, findings, end) = (&next, &findings, seeds.end);
                scope.spawn(move || {
                    let mut player = Player::new(arena, number);
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= end || findings.lock().unwrap().differences.len() >= ENOUGH {
                            break;
                        }
                        let found = judge(&mut player, arena.login, seed);
                        findings.lock().unwrap().add(found);
                    }
                    findings.lock().unwrap().servers_met.append(&mut player.servers_met);
                })
            })
            .collect();
        let failed = players.into_iter().filter_map(|player| player.join().err()).count();
        over.store(true, Ordering::Relaxed);
        failed + disturbers.into_iter().filter_map(|disturber| disturber.join().err()).count()
    });
    Findings { failed, ..findings.into_inner().unwrap() }
}

fn same_replies(cluster: &Cluster, login: Login, share: u64) {
    let _turn = alone();
    let start = number("TENANTGATE_SEED", 1);
    let count = number("TENANTGATE_SESSIONS", 400) / share;
    let is_rehearsal = number("TENANTGATE_REHEARSAL", 0) == 1;
    let arena = Arena::new(cluster, login, None, is_rehearsal);
    let found = run(&arena, start..start + count);
    let (median, most) = median_and_most(found.servers_met);
    eprintln!(
        "{} sessions of {login:?} from seed {start} on PostgreSQL {}: {} differ, {} more left out; sessions that asked met \
         {median} servers (median), {most} at most; allowed differences met: {:?}",
        found.compared,
        cluster.version,
        found.differences.len(),
        found.left_out,
        found.uses
    );
    let log = arena.proxy.as_ref().map(|proxy| proxy.log_tail()).unwrap_or_default();
    assert!(found.differences.is_empty(), "{}\nthe proxy:\n{log}", found.differences.join("\n"));
    assert_eq!(found.failed, 0, "players have failed");
    assert_eq!(found.left_out, 0, "sessions are generated so that none is left out");
    // Else nobody was in anybody's way. With session pooling a client has one server.
    assert!(median >= 2 || login == Login::Session || is_rehearsal, "sessions met {median} servers");
}

#[test]
fn sessions_get_the_same_replies_on_15() {
    same_replies(cluster::fifteen(), Login::Tenant, 1);
}

#[test]
fn sessions_get_the_same_replies_on_18() {
    if let Some(cluster) = cluster::eighteen() {
        same_replies(cluster, Login::Tenant, 1);
    }
}

#[test]
fn recorded_sessions_get_the_same_replies() {
    for cluster in cluster::every() {
        same_replies(cluster, Login::Recorded, 4);
    }
}

#[test]
fn sessions_whose_tenant_stays_get_the_same_replies() {
    for cluster in cluster::every() {
        same_replies(cluster, Login::Lease, 2);
    }
}

#[test]
fn sessions_that_keep_their_server_get_the_same_replies() {
    for cluster in cluster::every() {
        same_replies(cluster, Login::Pinned, 2);
        same_replies(cluster, Login::Session, 4);
    }
}

#[test]
fn sealed_sessions_get_the_same_replies() {
    for cluster in cluster::every() {
        same_replies(cluster, Login::Sealed, 2);
    }
}

/// Planted defects must be found: a comparison that cannot fail shows nothing.
#[cfg(feature = "mutants")]
mod mutants {
    use super::*;

    fn is_found(mutant: &str, login: Login) {
        let _turn = alone();
        let arena = Arena::new(cluster::fifteen(), login, Some(mutant), false);
        let found = run(&arena, 1..200);
        let (differences, failed) = (found.differences.len(), found.failed);
        eprintln!("{mutant}: {differences} differences in {} sessions, {failed} players failed", found.compared);
        // Without a planted defect no player fails: `same_replies` asks for it.
        assert!(differences > 0 || failed > 0, "{mutant} is not found");
    }

    #[test]
    fn mutants_without_injection_are_found() {
        is_found("no_injection", Login::Tenant);
    }

    #[test]
    fn mutants_with_the_tenant_before_are_found() {
        is_found("previous_tenant", Login::Tenant);
    }

    #[test]
    fn mutants_without_scope_behind_commit_are_found() {
        is_found("no_reinjection_after_commit", Login::Tenant);
    }

    #[test]
    fn mutants_that_forget_what_a_statement_leaves_are_found() {
        is_found("state_forgotten", Login::Pinned);
    }

    #[test]
    fn mutants_that_clean_nothing_are_found() {
        is_found("cleaning_skipped", Login::Pinned);
    }
}

/// Shows one session whole.
#[test]
fn replay() {
    let _turn = alone();
    let seed = number("TENANTGATE_SEED", 1);
    let login = match std::env::var("TENANTGATE_LOGIN").as_deref() {
        Ok("pinned") => Login::Pinned,
        Ok("session") => Login::Session,
        Ok("recorded") => Login::Recorded,
        Ok("lease") => Login::Lease,
        Ok("sealed") => Login::Sealed,
        Ok("tenant") | Err(_) => Login::Tenant,
        Ok(other) => panic!("TENANTGATE_LOGIN={other}: tenant, recorded, lease, pinned or session"),
    };
    for cluster in cluster::every() {
        let arena = Arena::new(cluster, login, None, false);
        let over = AtomicBool::new(false);
        let difference = std::thread::scope(|scope| {
            for number in 0..DISTURBERS {
                let (arena, over) = (&arena, &over);
                scope.spawn(move || disturb(arena, number, over));
            }
            let shown = scope.spawn(|| show(&arena, seed)).join();
            over.store(true, Ordering::Relaxed);
            shown.expect("it is played to its end")
        });
        assert_eq!(difference, None);
    }
}

/// Both sides whole, and how they differ if they do.
fn show(arena: &Arena<'_>, seed: u64) -> Option<String> {
    let mut player = Player::new(arena, 0);
    let pieces = player.pieces(seed);
    eprintln!("== seed {seed} on PostgreSQL {}\n{}", arena.cluster.version, told(&pieces));
    let [left, right] = player.both(&pieces, pace(seed));
    eprintln!("\nPostgreSQL:\n{}\n\nTenantGate:\n{}", left.join("\n"), right.join("\n"));
    // Whether it differs may depend on which server comes.
    (0..REPEATS).find_map(|_| player.differs(&pieces, pace(seed)))
}
