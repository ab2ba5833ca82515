//! Who is next: examples, and a model that any order of events must agree with.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::tenant::{TenantId, TenantKind};

type Server = u32;
/// Whose it is and which of theirs.
type Client = (usize, u32);

struct World {
    pool: Pool<Server, Client>,
    admission: Arc<Admission>,
    members: Vec<(Membership, Seat)>,
    /// Servers on loan, and to which member.
    lent: Vec<(usize, Server)>,
    granted: Vec<Client>,
    refused: Vec<(Client, Fault)>,
    now: Moment,
    next_server: Server,
    next_client: u32,
}

fn pool_limits(size: usize) -> PoolLimits {
    PoolLimits {
        pins_max: None,
        size,
        size_min: 0,
        wait_timeout: Duration::from_secs(30),
        waiting_max: 10_000,
        server_lifetime: Duration::from_secs(3600),
        server_idle_timeout: Duration::from_secs(600),
        server_check_delay: Duration::from_secs(30),
        connect_backoff_max: Duration::from_secs(1),
    }
}

fn tenant(number: usize) -> TenantId {
    TenantId::parse(TenantKind::Text, &format!("t{number}")).unwrap()
}

impl World {
    fn new(size: usize, limits: Limits) -> Self {
        Self {
            pool: Pool::new(pool_limits(size), limits.fairness),
            admission: Admission::new(limits),
            members: Vec::new(),
            lent: Vec::new(),
            granted: Vec::new(),
            refused: Vec::new(),
            now: Moment::from_micros(1),
            next_server: 1,
            next_client: 0,
        }
    }

    /// A client of this tenant and login; its number as a member.
    fn member(&mut self, of: usize, login: &str) -> usize {
        let membership = self.admission.admit(Some(&tenant(of)), &login.into()).unwrap();
        let seat = self.pool.join(&membership);
        self.members.push((membership, seat));
        self.members.len() - 1
    }

    /// Asks for a server; the ticket if it has to wait.
    fn ask(&mut self, member: usize) -> Option<Ticket> {
        self.next_client += 1;
        let client = (member, self.next_client);
        let requested = self.pool.request(self.members[member].1, self.now, || client);
        let ticket = match requested {
            Requested::Granted { pooled, .. } => {
                self.lent.push((member, pooled.server));
                self.granted.push(client);
                None
            }
            Requested::Queued(ticket) => Some(ticket),
            Requested::Refused(fault) => {
                self.refused.push((client, fault));
                None
            }
        };
        self.act();
        ticket
    }

    /// Asks so many times.
    fn flood(&mut self, member: usize, times: usize) {
        for _ in 0..times {
            self.ask(member);
        }
    }

    fn give_back(&mut self, at: usize) {
        let (member, server) = self.lent.swap_remove(at);
        let pooled = Pooled { server, connected_at: self.now };
        self.pool.check_in(self.members[member].1, pooled, self.now);
        self.act();
    }

    /// Gives back a server of this member's.
    fn end(&mut self, member: usize) {
        let at = self.lent.iter().position(|(lent_to, _)| *lent_to == member).unwrap();
        self.give_back(at);
    }

    fn act(&mut self) {
        while let Some(action) = self.pool.poll_action() {
            match action {
                Action::Grant { waiter, pooled, .. } => {
                    self.lent.push((waiter.0, pooled.server));
                    self.granted.push(waiter);
                }
                Action::Refuse { waiter, fault } => self.refused.push((waiter, fault)),
                Action::Connect => {
                    let server = self.next_server;
                    self.next_server += 1;
                    self.pool.connected(Pooled { server, connected_at: self.now }, self.now);
                }
                Action::Close(_) => {}
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
        self.pool.sweep(self.now);
        self.act();
    }

    fn servers_of(&self, member: usize) -> usize {
        self.lent.iter().filter(|(lent_to, _)| *lent_to == member).count()
    }

    /// The member whose client was granted last.
    fn last(&self) -> usize {
        self.granted.last().unwrap().0
    }
}

fn of_tenants(quota: Quota) -> Limits {
    Limits { tenant: quota, ..Limits::default() }
}

#[test]
fn the_first_of_another_tenant_is_next_however_many_wait() {
    let mut world = World::new(4, Limits::default());
    let (flood, quiet) = (world.member(0, "app"), world.member(1, "app"));
    world.flood(flood, 504);
    assert_eq!((world.servers_of(flood), world.pool.counts().waiting), (4, 500));
    world.ask(quiet);
    world.end(flood);
    assert_eq!((world.last(), world.servers_of(flood)), (quiet, 3));
}

#[test]
fn without_fairness_it_is_first_come_first_served() {
    let mut world = World::new(2, Limits { fairness: Fairness::Off, ..Limits::default() });
    let (flood, quiet) = (world.member(0, "app"), world.member(1, "app"));
    world.flood(flood, 5);
    world.ask(quiet);
    for _ in 0..3 {
        world.end(flood);
        assert_eq!(world.last(), flood);
    }
    world.end(flood);
    assert_eq!(world.last(), quiet);
}

#[test]
fn a_server_stays_free_for_a_tenant_that_has_just_used_one() {
    let mut world = World::new(4, Limits::default());
    let (flood, quiet) = (world.member(0, "app"), world.member(1, "app"));
    world.flood(flood, 100);
    world.ask(quiet);
    world.end(flood);
    for _ in 0..10 {
        world.end(quiet);
        assert_eq!((world.servers_of(flood), world.servers_of(quiet)), (3, 0));
        world.pass(Duration::from_millis(300));
        assert_eq!(world.ask(quiet), None, "the quiet tenant had to wait");
    }
    world.end(quiet);
    world.pass(Duration::from_secs(11));
    assert_eq!(world.servers_of(flood), 4, "nobody else has asked for long");
}

#[test]
fn what_others_need_at_once_stays_free_for_them_up_to_their_share() {
    let mut world = World::new(8, Limits::default());
    let (flood, other) = (world.member(0, "app"), world.member(1, "app"));
    world.flood(flood, 100);
    world.flood(other, 6);
    (0..4).for_each(|_| world.end(flood));
    assert_eq!((world.servers_of(flood), world.servers_of(other)), (4, 4));
    world.end(flood);
    assert_eq!(world.last(), flood, "among equals it is the other's turn");
    (0..4).for_each(|_| world.end(other));
    assert_eq!(world.servers_of(flood) + world.servers_of(other), 6);
    (0..2).for_each(|_| world.end(other));
    assert_eq!((world.servers_of(flood), world.servers_of(other)), (4, 0));
    assert_eq!(world.pool.counts().idle, 4);
}

#[test]
fn a_tenant_at_its_maximum_waits_and_blocks_nobody() {
    let mut world = World::new(4, of_tenants(Quota { leases_max: Some(1), ..Quota::default() }));
    let (one, other) = (world.member(0, "app"), world.member(1, "app"));
    world.flood(one, 3);
    assert_eq!((world.servers_of(one), world.pool.counts().waiting), (1, 2));
    assert_eq!(world.pool.counts().idle, 0, "no server is connected for those who may have none");
    world.ask(other);
    assert_eq!(world.servers_of(other), 1);
    world.end(one);
    assert_eq!((world.servers_of(one), world.pool.counts().waiting), (1, 1));
    world.admission.set_limits(Limits::default());
    world.pass(Duration::from_millis(100));
    assert_eq!((world.servers_of(one), world.pool.counts().waiting), (2, 0));
}

#[test]
fn a_login_at_its_maximum_is_shared_by_its_tenants_in_turn() {
    let logins = [("app".into(), Quota { leases_max: Some(1), ..Quota::default() })].into();
    let mut world = World::new(4, Limits { logins, ..Limits::default() });
    let members: Vec<usize> = (0..3).map(|of| world.member(of, "app")).collect();
    let other = world.member(0, "other");
    for _ in 0..2 {
        members.iter().for_each(|member| world.flood(*member, 1));
    }
    assert_eq!(world.lent.len(), 1);
    world.ask(other);
    assert_eq!(world.servers_of(other), 1, "another login of the same tenant has room");
    world.end(other);
    let order: Vec<usize> = (0..5)
        .map(|_| {
            world.give_back(0);
            assert_eq!(world.lent.len(), 1);
            world.last()
        })
        .collect();
    assert_eq!(order, [1, 2, 0, 1, 2]);
}

#[test]
fn so_many_wait_and_no_more() {
    let tenant = Quota { waiting_max: Some(2), ..Quota::default() };
    let login = Quota { waiting_max: Some(3), ..Quota::default() };
    let mut world = World::new(1, Limits { tenant, login, ..Limits::default() });
    let (a, b) = (world.member(0, "app"), world.member(1, "app"));
    let holder = world.member(2, "ops");
    world.ask(holder);
    let ticket = world.ask(a);
    world.flood(a, 2);
    world.flood(b, 2);
    let codes: Vec<_> = world.refused.iter().map(|(_, fault)| fault.code.unwrap()).collect();
    assert_eq!(codes, [Code::TenantWaiting, Code::LoginWaiting]);
    assert_eq!(world.refused[0].1.detail.as_deref(), Some("2 of 2 wait already."));
    world.pool.give_up(ticket.unwrap());
    assert!(world.ask(b).is_some());
}

#[test]
fn whoever_waited_in_vain_is_told_which_limit_it_was() {
    let mut world = World::new(2, of_tenants(Quota { leases_max: Some(1), ..Quota::default() }));
    let (a, b) = (world.member(0, "app"), world.member(1, "app"));
    for member in [a, a, b, b] {
        world.ask(member);
    }
    let free = world.member(2, "app");
    world.ask(free);
    world.pass(Duration::from_secs(30));
    let codes: Vec<_> = world.refused.iter().map(|(client, fault)| (client.0, fault.code.unwrap())).collect();
    assert_eq!(codes, [(a, Code::TenantLeases), (b, Code::TenantLeases), (free, Code::WaitTimeout)]);
    assert_eq!(world.refused[0].1.detail.as_deref(), Some("1 of 1 servers are in use by it."));
}

#[test]
fn a_tenant_that_comes_and_goes_keeps_its_share() {
    let mut world = World::new(2, Limits::default());
    let flood = world.member(0, "app");
    world.flood(flood, 10);
    for round in 0..5 {
        let quiet = world.member(1, "app");
        assert_eq!(world.ask(quiet).is_some(), round == 0);
        if round == 0 {
            world.end(flood);
        }
        world.end(quiet);
        let seat = world.members[quiet].1;
        world.pool.leave(seat);
        world.pass(Duration::from_secs(1));
    }
    assert_eq!(world.servers_of(flood), 1);
}

/// Numbers from a seed, so that a failure can be had again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

/// Any order of requests, returns, give-ups, time and changed limits: counts are conserved, no maximum is
/// exceeded, nobody who may have an idle server waits, and a tenant without servers is passed over only by
/// tenants without servers whose turn began earlier.
#[test]
fn any_order_of_events_keeps_the_rules() {
    for seed in 1..60 {
        storm(seed, 400);
    }
}

const TENANTS: usize = 5;

fn storm(seed: u64, steps: usize) {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let quota = Quota { leases_max: Some(1 + dice.below(4)), ..Quota::default() };
    let limits = if seed.is_multiple_of(3) { Limits::default() } else { of_tenants(quota) };
    let mut world = World::new(1 + dice.below(6), limits);
    world.pool.limits.wait_timeout = Duration::from_secs(86_400);
    let members: Vec<usize> =
        (0..TENANTS * 2).map(|at| world.member(at % TENANTS, ["app", "web"][at / TENANTS])).collect();
    // Tickets of those who wait, and since which step their tenant's turn lasts.
    let mut waiting: BTreeMap<u32, (usize, Ticket)> = BTreeMap::new();
    for step in 0..steps {
        let known = world.granted.len();
        match dice.below(8) {
            0..=3 => {
                let bound = if dice.below(3) == 0 { members.len() } else { 2 };
                let member = members[dice.below(bound)];
                if let Some(ticket) = world.ask(member) {
                    waiting.insert(world.next_client, (member, ticket));
                }
            }
            4..=5 if !world.lent.is_empty() => {
                let at = dice.below(world.lent.len());
                world.give_back(at);
            }
            6 => {
                let at = dice.below(waiting.len().max(1));
                if let Some((client, (_, ticket))) = waiting.iter().nth(at).map(|(client, rest)| (*client, *rest)) {
                    waiting.remove(&client);
                    assert!(world.pool.give_up(ticket).is_some());
                }
            }
            7 if dice.below(8) == 0 => {
                // Another size and other maxima; nobody loses what it has.
                let leases_max = Some(2 + dice.below(4));
                let login = Quota { leases_max: Some(4 + dice.below(4)), ..Quota::default() };
                let limits = Limits { tenant: Quota { leases_max, ..Quota::default() }, login, ..Limits::default() };
                world.admission.set_limits(limits);
                let size = 1 + dice.below(6);
                world.pool.set_limits(PoolLimits { size, ..world.pool.limits.clone() }, Fairness::Tenants, world.now);
                world.act();
            }
            _ => world.pass(Duration::from_millis(u64::try_from(dice.below(500)).unwrap())),
        }
        for (member, client) in &world.granted[known..] {
            waiting.remove(client);
            let (membership, _) = &world.members[*member];
            for account in [membership.party_account(), membership.login_account()] {
                assert!(account.counts().leases <= account.leases_max(), "seed {seed}, step {step}: beyond a maximum");
            }
        }
        check(&world, &waiting, &format!("seed {seed}, step {step}"));
    }
    drain(&mut world, &waiting);
}

fn check(world: &World, waiting: &BTreeMap<u32, (usize, Ticket)>, place: &str) {
    world.pool.queue.check_invariants();
    let counts = world.pool.counts();
    assert_eq!((counts.leased, counts.waiting), (world.lent.len(), waiting.len()), "{place}");
    let mut leases = [0; TENANTS];
    world.lent.iter().for_each(|(member, _)| leases[member % TENANTS] += 1);
    let mut waits = [0; TENANTS];
    waiting.values().for_each(|(member, _)| waits[member % TENANTS] += 1);
    for (of, (has, wait)) in leases.iter().zip(waits).enumerate() {
        let (membership, _) = &world.members[of];
        let account = membership.party_account().counts();
        assert_eq!((account.leases, account.waiting), (*has, wait), "{place}");
    }
    for (member, _) in waiting.values() {
        let has_room = world.members[*member].0.login_account().lease_room() > 0;
        let is_entitled = leases[member % TENANTS] == 0 && has_room;
        assert!(!is_entitled || counts.idle == 0, "{place}: {member} waits beside an idle server");
    }
}

/// Everybody who waits is served in the end, a tenant without servers within as many grants as there are tenants.
fn drain(world: &mut World, waiting: &BTreeMap<u32, (usize, Ticket)>) {
    let start = world.granted.len();
    let mut rounds = 0;
    let mut passed_over = [0_usize; TENANTS];
    let mut waits = [0_usize; TENANTS];
    waiting.values().for_each(|(member, _)| waits[member % TENANTS] += 1);
    while world.granted.len() < start + waiting.len() {
        let before = world.granted.len();
        if !world.lent.is_empty() {
            world.give_back(0);
        }
        world.pass(Duration::from_millis(500));
        for (member, _) in world.granted[before..].iter().copied() {
            let of = member % TENANTS;
            waits[of] -= 1;
            for other in 0..TENANTS {
                let has_none = world.lent.iter().all(|(member, _)| member % TENANTS != other);
                passed_over[other] =
                    if other != of && waits[other] > 0 && has_none { passed_over[other] + 1 } else { 0 };
                assert!(passed_over[other] < TENANTS, "tenant {other} starves");
            }
        }
        rounds += 1;
        assert!(rounds < 5000, "somebody is never served");
    }
    while !world.lent.is_empty() {
        world.give_back(0);
    }
    let counts = world.pool.counts();
    assert_eq!((counts.leased, counts.waiting), (0, 0));
    for (membership, seat) in std::mem::take(&mut world.members) {
        world.pool.leave(seat);
        let account = membership.party_account().counts();
        assert_eq!((account.leases, account.waiting), (0, 0));
    }
    assert_eq!(world.admission.accounts().0, 0);
    world.pass(Duration::from_secs(20));
    assert!(world.pool.queue.is_forgotten(), "lines and tenants outlive their clients");
}
