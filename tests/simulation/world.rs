//! One simulated run: clients, sessions, the pool and model servers, moved one small step at a time by dice.
//!
//! The session, the guard, the scope and the pool are the real ones. What the driver decides beside them is mirrored
//! here, as little of it as there is: whom an idle server is refused because it has said something, that a server on
//! which a cancel is under way is given back only when the cancel has arrived, what a cancel does to a client that
//! waits, and when more is read from either side (`driver/client.rs`, `driver/cancel.rs`, `driver/pool.rs`).
//!
//! Owns: order, time, bytes on their way, faults, what must hold at each step. Does not own: what clients say
//! (`script`), what servers do (`backend`), what a client should have heard (`check`).

use crate::backend::{Backend, Database, Event, TENANT};
use crate::check::{Message, OUT_OF_THE_BLUE, Story, Tap, judge, messages, request_words};
use crate::dice::Dice;
use crate::ledger::{Awaited, Disk, Ledger, Where};
use crate::script::{Burst, Style, Wishes, message, write};
use bytes::{Bytes, BytesMut};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tenantgate::audit::Entry;
use tenantgate::fault::{Code, Fault};
use tenantgate::guard::{FactsCache, Keeping, Policy, PolicySettings, Preset, inspect};
use tenantgate::pool::{
    Action as PoolAction, Admission, Check, Fairness, Hold, Limits, Membership, Pool, PoolCounts, PoolLimits, Pooled,
    Quota, Requested, Seat, Ticket, TimeLimits,
};
use tenantgate::scope::{CleanServer, DiscardReason, Injection, Lifetime, PRELUDE_STATEMENTS, Prelude, ScopeTemplate};
use tenantgate::session::{
    ClaimRules, Claimant, CloseReason, Effect, Input, Recording, Session, SessionRules, Standing, Stopwatch,
};
use tenantgate::tenant::{AllowedTenants, Claiming, Separator, TenantId, TenantKind, TenantPolicy, TenantSource};
use tenantgate::time::Moment;
use tenantgate::upstream::login::{AllowedMethods, BindingPolicy, Channel, Identity, ServerLogin, Way};
use tenantgate::upstream::{Expect, Parameters, Received, Replies, Server, ServerId, ServerKey, Settings};
use tenantgate::wire::backend::{put_parameter_status, read_ready};
use tenantgate::wire::frontend;

/// A planted defect, or none.
#[cfg(feature = "mutants")]
pub type Defect = Option<tenantgate::session::Mutant>;
#[cfg(not(feature = "mutants"))]
pub type Defect = Option<std::convert::Infallible>;

/// Room for the facts of some hundred texts.
const FACTS_BYTES_MAX: u64 = 1 << 20;
/// Steps with faults in them; after so many nothing bad happens any more.
const STORM_STEPS: usize = 6_000;
/// By then everybody has finished.
const STEPS_MAX: usize = 150_000;
/// So often may nothing move but time.
const WAITS_MAX: usize = 2_000;
/// While more waits to be written to one side, nothing is read from the other: the driver's bound.
const BACKLOG_BYTES_MAX: usize = 64 * 1024;
/// What a session may have for its client beyond that: one read of the server's and the proxy's own words.
const CLIENT_BYTES_MAX: usize = BACKLOG_BYTES_MAX + 64 * 1024;

/// What may go wrong in this run.
#[derive(Clone, Copy, Debug, Default)]
struct Weather {
    clients_vanish: bool,
    clients_half_close: bool,
    servers_vanish: bool,
    servers_end: bool,
    servers_babble: bool,
    servers_notify: bool,
    stalls: bool,
    connects_fail: bool,
    cancels: bool,
    kills: bool,
    drains: bool,
}

/// A cancel on its way to a server.
#[derive(Debug)]
struct Cancel {
    link: usize,
    client: usize,
    lease: u64,
    /// The proxy's own, for a statement that was among these bytes.
    own_until: Option<u64>,
    due: Moment,
}

#[derive(Debug)]
enum Pending {
    Nothing,
    Lease(Ticket),
    Inspection(Bytes),
}

struct Client {
    mark: String,
    tenant: String,
    has_claims: bool,
    /// Its transactions are, and it acts for no tenant.
    is_recorded: bool,
    rules: Arc<SessionRules>,
    generation: u64,
    /// What an operator wants of it.
    order: Option<Code>,
    /// The pool counts its server among those that stay.
    is_pinned: bool,
    /// What its servers have sent it of notifications.
    notified: Vec<String>,
    /// The record that is being written.
    record: Option<Awaited>,
    base: Vec<(&'static str, &'static str)>,
    seat: Seat,
    membership: Membership,
    watch: Stopwatch,
    session: Session,
    bursts: Vec<Burst>,
    next: usize,
    /// ReadyForQuery that have to come before the next burst.
    awaited: usize,
    heard: usize,
    /// Said, but not sent.
    saying: BytesMut,
    /// All that was sent.
    sent: Vec<u8>,
    /// On its way to the proxy.
    wire: BytesMut,
    received: Vec<u8>,
    link: Option<usize>,
    pending: Pending,
    taps: Taps,
    is_own_cancel_under_way: bool,
    has_said_goodbye: bool,
    has_left: bool,
    is_half_closed: bool,
    deaf_until: Moment,
    end: Option<CloseReason>,
    may_end_early: bool,
    excused: BTreeMap<String, usize>,
}

struct Link {
    backend: Backend,
    process_id: i32,
    to_server: BytesMut,
    to_proxy: BytesMut,
    written: u64,
    /// From which byte on whose lease it was.
    owners: Vec<(u64, usize, u64)>,
    is_leased: bool,
    /// The connection is broken, or the server has ended it.
    is_cut: bool,
    /// The proxy has closed it.
    is_dropped: bool,
    /// It has said what no server says.
    has_babbled: bool,
    stalled_until: Moment,
    /// Given back, but a cancel is on its way.
    parked: Option<(usize, Pooled<Tender>)>,
    heard: Taps,
    last_cancel: Option<(usize, Option<u64>)>,
}

/// Both directions of a connection, for the trace.
#[derive(Default)]
struct Taps {
    requests: Tap,
    replies: Tap,
}

/// What the pool holds of a server.
struct Tender {
    clean: CleanServer,
    link: usize,
}

#[derive(Clone, Copy, Debug)]
enum Move {
    Say(usize),
    ReadClient(usize),
    WriteServer(usize),
    ReadServer(usize),
    WriteClient(usize),
    Inspect(usize),
    Connect,
    Deliver(usize),
    Answer(usize),
    Obey(usize),
    Renew(usize),
    CarryToServer(usize),
    Serve(usize),
    Wait,
}

/// One run.
pub struct World {
    dice: Dice,
    /// Who claims; `None` where nobody does. Dice of its own, so that other runs are as they were without claims.
    claimants: Option<Dice>,
    /// Who is recorded, in the same way.
    recorded: Option<Dice>,
    ledger: Ledger,
    /// Who holds, reloads, freezes and ends, in the same way.
    operator: Option<Dice>,
    generation: u64,
    /// A planted defect: a reload counts in the middle of a transaction.
    renews_early: bool,
    /// Who may leave state on servers, in the same way.
    keepers: Option<Dice>,
    now: Moment,
    version: u32,
    lifetime: Lifetime,
    statements_max: usize,
    piece_max: u64,
    weather: Weather,
    clients: Vec<Client>,
    links: Vec<Link>,
    pool: Pool<Tender, usize>,
    prelude: Prelude,
    /// This run's own: whether a text is known must not depend on other runs.
    facts: Arc<FactsCache>,
    /// What any run has found of a text.
    inspected: Arc<FactsCache>,
    database: Database,
    cancels: Vec<Cancel>,
    /// A planted defect: nobody waits for an intent.
    skips_intents: bool,
    connecting: usize,
    leases: u64,
    granted: usize,
    returned: usize,
    discarded: usize,
    moves: Vec<Move>,
    steps: usize,
    waits: usize,
    keeps_trace: bool,
    pub trace: Vec<String>,
    pub violations: Vec<String>,
}

macro_rules! note {
    ($world:expr, $($words:tt)*) => {
        if $world.keeps_trace {
            let line = format!($($words)*);
            $world.trace.push(format!("{:>6} {:>9} {line}", $world.steps, $world.now.as_micros() / 1000));
        }
    };
}

/// Shown bytes: types of whole messages, with what matters of them.
fn shown(bytes: &[u8]) -> String {
    let (found, is_cut) = messages(bytes);
    let words: Vec<String> = found.iter().map(Message::words).collect();
    let rest = if is_cut { " …" } else { "" };
    format!("{} bytes: {}{rest}", bytes.len(), words.join(" "))
}

const TENANTS: [&str; 4] = ["acme", "globex", "it's", "initech"];

impl World {
    pub fn new(seed: u64, defect: Defect, inspected: &Arc<FactsCache>, keeps_trace: bool) -> Self {
        let mut dice = Dice::new(seed);
        let size = 1 + usize::try_from(dice.below(3)).unwrap_or(0);
        let is_tight = dice.once_in(4);
        let limits = PoolLimits {
            size,
            size_min: 0,
            wait_timeout: Duration::from_millis(if is_tight { 150 } else { 60_000 }),
            waiting_max: if is_tight { 2 } else { 100 },
            server_lifetime: Duration::from_secs(if dice.once_in(4) { 1 } else { 3600 }),
            server_idle_timeout: Duration::from_secs(60),
            server_check_delay: Duration::from_secs(3600),
            connect_backoff_max: Duration::from_secs(1),
            pins_max: None,
        };
        let fairness = if dice.once_in(3) { Fairness::Off } else { Fairness::Tenants };
        let is_calm = dice.once_in(3);
        let lifetime = if dice.once_in(4) { Lifetime::Lease } else { Lifetime::Transaction };
        let mut claimants = Dice::new(seed ^ 0x00c1_a145);
        let has_claimants = lifetime == Lifetime::Transaction && claimants.once_in(4);
        let mut recorded = Dice::new(seed ^ 0x001e_d6e2);
        let has_recorded = lifetime == Lifetime::Transaction && !has_claimants && recorded.once_in(2);
        let mut keepers = Dice::new(seed ^ 0x9199_ed00);
        let has_keepers = lifetime == Lifetime::Transaction && !has_claimants && !has_recorded && keepers.once_in(2);
        let limits = PoolLimits {
            pins_max: (has_keepers && keepers.once_in(2)).then(|| 1 + usize::from(keepers.once_in(2))),
            ..limits
        };
        let mut operator = Dice::new(seed ^ 0x0b05_5e55);
        let mut disk = Dice::new(recorded.roll());
        let drawn = Disk::drawn(&mut disk);
        let mut world = Self {
            claimants: has_claimants.then_some(claimants),
            operator: operator.once_in(3).then_some(operator),
            generation: 0,
            renews_early: false,
            keepers: has_keepers.then_some(keepers),
            recorded: has_recorded.then_some(recorded),
            ledger: Ledger::new(disk, drawn),
            now: Moment::from_micros(1),
            version: if dice.once_in(2) { 150_004 } else { 180_004 },
            lifetime,
            statements_max: if dice.once_in(2) { 2 } else { 20 },
            piece_max: [3, 40, 400, 100_000][usize::try_from(dice.below(4)).unwrap_or(0)],
            weather: if is_calm { Weather::default() } else { weather(&mut dice) },
            clients: Vec::new(),
            links: Vec::new(),
            pool: Pool::new(limits, fairness),
            prelude: Prelude::new(&ScopeTemplate::default(), lifetime),
            facts: Arc::new(FactsCache::new(FACTS_BYTES_MAX)),
            inspected: Arc::clone(inspected),
            database: Database::default(),
            cancels: Vec::new(),
            skips_intents: false,
            connecting: 0,
            leases: 0,
            granted: 0,
            returned: 0,
            discarded: 0,
            moves: Vec::new(),
            steps: 0,
            waits: 0,
            keeps_trace,
            trace: Vec::new(),
            violations: Vec::new(),
            dice,
        };
        note!(world, "seed {seed}: PostgreSQL {}, {size} servers, {lifetime:?}, {:?}", world.version, world.weather);
        world.plant(defect);
        world.invite(defect, is_calm);
        world
    }

    /// What is not the session's is broken here.
    #[cfg_attr(
        not(feature = "mutants"),
        expect(clippy::unused_self, clippy::needless_pass_by_ref_mut, reason = "as below")
    )]
    fn plant(&mut self, defect: Defect) {
        #[cfg(feature = "mutants")]
        {
            use tenantgate::session::Mutant;
            self.renews_early = defect == Some(Mutant::RulesInTransaction);
            self.skips_intents = defect == Some(Mutant::IntentNotAwaited);
            self.ledger.answers_early = defect == Some(Mutant::RecordsNotSynced);
        }
        #[cfg(not(feature = "mutants"))]
        let _: Defect = defect;
    }

    fn invite(&mut self, defect: Defect, is_calm: bool) {
        let has_limits = !is_calm && self.dice.once_in(2);
        let limit = |millis| has_limits.then_some(Duration::from_millis(millis));
        let times = TimeLimits {
            transaction: limit(3000),
            idle_in_transaction: limit(1500),
            statement: limit(100),
            idle_pinned: None,
        };
        let quota = Quota { times, ..Quota::default() };
        let admission = Admission::new(Limits { tenant: quota, ..Limits::default() });
        let count = 2 + self.dice.below(4);
        let mut before = None;
        for number in 0..count {
            let client = self.client(number, &admission, defect, &mut before, is_calm);
            let labels: Vec<&str> = client.bursts.iter().map(|burst| burst.label.as_str()).collect();
            note!(self, "{} of {} ({:?}) will say: {}", client.mark, client.tenant, client.base, labels.join(" | "));
            self.clients.push(client);
        }
    }

    fn client(
        &mut self,
        number: u64,
        admission: &Arc<Admission>,
        defect: Defect,
        before: &mut Option<String>,
        is_calm: bool,
    ) -> Client {
        let mark = format!("c{number}");
        let named = TENANTS[usize::try_from(self.dice.below(4)).unwrap_or(0)];
        let is_recorded = self.recorded.as_mut().is_some_and(|dice| !dice.once_in(3));
        let tenant = if is_recorded { String::new() } else { named.to_owned() };
        let has_claims = self.claimants.as_mut().is_some_and(|dice| !dice.once_in(3));
        let keeping = match self.keepers.as_mut().map(|dice| dice.below(6)) {
            None | Some(0) => Keeping::Refuse,
            Some(1) => Keeping::Session,
            Some(_) => Keeping::Pin,
        };
        let style = [Style::Simple, Style::Extended, Style::Mixed][usize::try_from(self.dice.below(3)).unwrap_or(0)];
        let wishes = Wishes {
            style,
            acts: 2 + self.dice.below(7),
            slow_once_in: if is_calm { 0 } else { [4, 20][usize::try_from(self.dice.below(2)).unwrap_or(0)] },
            has_wide: self.piece_max > 1000,
            pipelined_once_in: [2, 4, 1_000_000][usize::try_from(self.dice.below(3)).unwrap_or(0)],
            is_recorded,
            keeps: self.keepers.as_ref().map(|_| keeping != Keeping::Refuse),
            claims: has_claims.then_some(named),
        };
        let mut base: Vec<(&str, &str)> = match self.dice.below(3) {
            0 => vec![("application_name", "mine")],
            1 => vec![("application_name", "mine"), ("timezone", "CET")],
            _ => Vec::new(),
        };
        let bursts = write(&mut self.dice, &mark, wishes);
        let ((session, rules), membership) = if is_recorded {
            base.push(("tenantgate.reason", "a simulation"));
            let membership = admission.admit(None, &"report".into());
            (self.recorded_session(&base, defect), membership)
        } else {
            let injected = injected_tenant(defect, &tenant, before.replace(tenant.clone()));
            let injected = (!has_claims).then_some(&*injected);
            let session = self.session(&base, injected, keeping, defect);
            (session, admission.admit(Some(&tenant_id(&tenant)), &"app".into()))
        };
        let membership = membership.expect("there is no limit of clients");
        let seat = self.pool.join(&membership);
        Client {
            mark,
            tenant,
            has_claims,
            is_recorded,
            rules,
            generation: 0,
            order: None,
            is_pinned: false,
            notified: Vec::new(),
            record: None,
            base,
            seat,
            membership,
            watch: Stopwatch::default(),
            session,
            bursts,
            next: 0,
            awaited: 0,
            heard: 0,
            saying: BytesMut::new(),
            sent: Vec::new(),
            wire: BytesMut::new(),
            received: Vec::new(),
            link: None,
            pending: Pending::Nothing,
            taps: Taps::default(),
            is_own_cancel_under_way: false,
            has_said_goodbye: false,
            has_left: false,
            is_half_closed: false,
            deaf_until: Moment::START,
            end: None,
            may_end_early: false,
            excused: BTreeMap::new(),
        }
    }

    #[cfg_attr(not(feature = "mutants"), expect(unused_variables, reason = "there is no defect to be planted"))]
    fn session(
        &self,
        base: &[(&'static str, &'static str)],
        tenant: Option<&str>,
        keeping: Keeping,
        defect: Defect,
    ) -> (Session, Arc<SessionRules>) {
        let names = || vec![TENANT.to_owned()];
        let claiming = if tenant.is_some() { Claiming::None } else { Claiming::Session };
        let settings =
            PolicySettings { scope_settings: names(), claim_settings: names(), claiming, ..PolicySettings::default() };
        let preset = if self.keepers.is_some() { Preset::Application } else { settings.preset };
        let settings = PolicySettings { preset, keeping, ..settings };
        let source = TenantSource::Named { from: vec![], separator: Separator::default() };
        let tenants = TenantPolicy { source, allowed: AllowedTenants::Any, claiming };
        let of_claims =
            ClaimRules { template: ScopeTemplate::default(), kind: TenantKind::Text, tenants, bypass: None };
        let claimant = Claimant { rules: Arc::new(of_claims), base: None, seal: None };
        let rules = SessionRules {
            injection: tenant.map_or_else(Injection::vacant, |tenant| {
                Injection::new(&ScopeTemplate::default(), &tenant_id(tenant), self.lifetime)
            }),
            policy: Arc::new(Policy::new(&settings)),
            facts: Arc::clone(&self.facts),
            recording: None,
            claims: tenant.is_none().then_some(claimant),
            bypass: None,
            #[cfg(feature = "mutants")]
            mutant: defect,
        };
        self.begin(base, rules)
    }

    /// A login past all tenants, whose transactions are recorded.
    #[cfg_attr(not(feature = "mutants"), expect(unused_variables, reason = "there is no defect to be planted"))]
    fn recorded_session(
        &mut self,
        base: &[(&'static str, &'static str)],
        defect: Defect,
    ) -> (Session, Arc<SessionRules>) {
        let is_migration = self.recorded.as_mut().is_some_and(|dice| dice.once_in(3));
        let preset = if is_migration { Preset::Migration } else { Preset::Bypass };
        let settings = PolicySettings { preset, scope_settings: vec![TENANT.to_owned()], ..PolicySettings::default() };
        let rules = SessionRules {
            injection: Injection::fixed(&ScopeTemplate::fixed(&[]).expect("no setting is wrong")),
            policy: Arc::new(Policy::new(&settings)),
            facts: Arc::clone(&self.facts),
            recording: Some(Recording { needs_reason: true, is_written: true, parameter_key: None }),
            claims: None,
            bypass: None,
            #[cfg(feature = "mutants")]
            mutant: defect,
        };
        self.begin(base, rules)
    }

    fn begin(&self, base: &[(&'static str, &'static str)], rules: SessionRules) -> (Session, Arc<SessionRules>) {
        let greeting = Backend::new(self.version, false, base).greeting();
        let greeting: Parameters =
            greeting.iter().map(|(name, value)| (name.as_str().into(), value.as_str().into())).collect();
        let base: Settings = Arc::new(base.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect());
        let rules = Arc::new(rules);
        (Session::new(Arc::clone(&rules), base, &Arc::new(greeting), 7, b"abcd"), rules)
    }

    /// Runs to the end, or to the first thing that is wrong.
    pub fn run(&mut self) {
        while self.violations.is_empty() && !self.is_over() {
            if self.steps >= STEPS_MAX || self.waits >= WAITS_MAX {
                let left: Vec<String> = self.clients.iter().filter(|it| it.end.is_none()).map(describe).collect();
                self.violations.push(format!("somebody never finishes: {}", left.join("; ")));
                return;
            }
            self.step();
        }
        if self.violations.is_empty() {
            self.settle();
        }
    }

    fn is_over(&self) -> bool {
        self.clients.iter().all(|client| client.end.is_some() && client.link.is_none())
            && self.cancels.is_empty()
            && self.connecting == 0
            && self.links.iter().all(|link| link.parked.is_none())
    }

    fn is_stormy(&self) -> bool {
        self.steps < STORM_STEPS
    }

    fn step(&mut self) {
        self.steps += 1;
        let links = &self.links;
        self.ledger.advance(self.now, |link| links[link].written);
        if self.is_stormy() && self.dice.once_in(60) {
            self.misfortune();
        }
        self.operate();
        self.collect_moves();
        if self.moves.is_empty() {
            return self.wait_for_something();
        }
        let at = usize::try_from(self.dice.below(self.moves.len() as u64)).unwrap_or(0);
        match self.moves[at] {
            Move::Say(client) => self.say(client),
            Move::ReadClient(client) => self.read_client(client),
            Move::WriteServer(client) => self.write_server(client),
            Move::ReadServer(client) => self.read_server(client),
            Move::WriteClient(client) => self.write_client(client),
            Move::Inspect(client) => self.inspect(client),
            Move::Connect => self.connect(),
            Move::Deliver(cancel) => self.deliver(cancel),
            Move::Answer(client) => self.answer(client),
            Move::Obey(client) => self.obey(client),
            Move::Renew(client) => self.renew(client),
            Move::CarryToServer(link) => self.carry_to_server(link),
            Move::Serve(link) => self.serve(link),
            Move::Wait => {
                let millis = 1 + self.dice.below(15);
                self.pass_time(Duration::from_millis(millis));
            }
        }
        self.look_at_watches();
    }

    fn piece(&mut self, most: usize) -> usize {
        let most = most as u64;
        usize::try_from(1 + self.dice.below(most.min(self.piece_max).max(1))).unwrap_or(1)
    }

    // -- what can move

    fn collect_moves(&mut self) {
        self.moves.clear();
        for number in 0..self.clients.len() {
            self.collect_of_client(number);
        }
        for (number, link) in self.links.iter().enumerate() {
            if link.stalled_until > self.now || link.backend.is_closed {
                continue;
            }
            if !link.to_server.is_empty() {
                self.moves.push(Move::CarryToServer(number));
            }
            self.moves.push(Move::Serve(number));
        }
        // A server that has nothing to do is no reason to go on.
        let (links, database) = (&self.links, &self.database);
        self.moves.retain(|one| {
            let is_idle = |link: &Link| link.backend.is_at_leisure(self.now) && !link.backend.has_news(database);
            !matches!(one, Move::Serve(link) if is_idle(&links[*link]))
        });
        if self.connecting > 0 {
            self.moves.push(Move::Connect);
        }
        let due = self.cancels.iter().enumerate().filter(|(_, cancel)| cancel.due <= self.now);
        self.moves.extend(due.map(|(number, _)| Move::Deliver(number)));
        if !self.moves.is_empty() && self.dice.once_in(8) {
            self.moves.push(Move::Wait);
        }
    }

    fn collect_of_client(&mut self, number: usize) {
        let client = &mut self.clients[number];
        let is_there = client.end.is_none();
        let moves = &mut self.moves;
        if is_there && !client.has_left && !client.is_half_closed && client.has_to_say() {
            moves.push(Move::Say(number));
        }
        let backlog = client.session.server_out().map_or(0, |out| out.len());
        if is_there && !client.wire.is_empty() && backlog <= BACKLOG_BYTES_MAX && client.session.wants_client_bytes() {
            moves.push(Move::ReadClient(number));
        }
        if backlog > 0 && client.link.is_some() {
            moves.push(Move::WriteServer(number));
        }
        if let Some(link) = client.link.map(|link| &self.links[link])
            && (!link.to_proxy.is_empty() || link.is_cut)
            && client.session.client_backlog() <= BACKLOG_BYTES_MAX
        {
            moves.push(Move::ReadServer(number));
        }
        if !client.session.client_out().is_empty() && client.deaf_until <= self.now && !client.has_left {
            moves.push(Move::WriteClient(number));
        }
        if matches!(client.pending, Pending::Inspection(_)) {
            moves.push(Move::Inspect(number));
        }
        if is_there && client.order.is_some() {
            moves.push(Move::Obey(number));
        }
        let may_renew = client.link.is_none() || client.session.is_resting() || self.renews_early;
        if is_there && may_renew && client.generation < self.generation {
            moves.push(Move::Renew(number));
        }
        let now = self.now;
        let is_answered = |it: &Awaited| it.limit <= now || it.answer.is_some_and(|(at, _)| at <= now);
        if is_there && client.record.as_ref().is_some_and(is_answered) {
            moves.push(Move::Answer(number));
        }
    }

    /// Nothing can move: time goes on to where something can.
    fn wait_for_something(&mut self) {
        self.waits += 1;
        if self.operator.as_mut().is_some_and(|dice| dice.once_in(8)) && self.pool.resume(self.now) {
            note!(self, "the operator lets go");
            return self.act();
        }
        let wakes = self.links.iter().filter_map(|link| link.backend.wakes_at());
        let stalls = self.links.iter().map(|link| link.stalled_until);
        let deaf = self.clients.iter().map(|client| client.deaf_until);
        let watches = self.clients.iter().filter_map(|client| client.watch.next_deadline());
        let cancels = self.cancels.iter().map(|cancel| cancel.due);
        let records = self.clients.iter().filter_map(|client| client.record.as_ref());
        let records = records.flat_map(|it| it.answer.map(|(at, _)| at).into_iter().chain([it.limit]));
        let records = records.chain(self.ledger.wakes_at());
        let next = wakes
            .chain(records)
            .chain(cancels)
            .chain(stalls)
            .chain(deaf)
            .chain(watches)
            .filter(|at| *at > self.now)
            .min();
        let pause = next.map_or(Duration::from_millis(500), |at| at.since(self.now));
        self.pass_time(pause.min(Duration::from_millis(500)));
        self.look_at_watches();
    }

    fn pass_time(&mut self, pause: Duration) {
        self.now = self.now.after(pause);
        self.pool.sweep(self.now);
        self.act();
    }

    fn look_at_watches(&mut self) {
        for number in 0..self.clients.len() {
            let client = &mut self.clients[number];
            if client.end.is_some() {
                continue;
            }
            // As driver/deadlines.rs does.
            let (pulse, watch) = (client.session.pulse(), &mut client.watch);
            if !watch.is_current(pulse) {
                if pulse.standing == Standing::Leaving {
                    watch.leave(pulse, self.now);
                } else if !watch.is_new_transaction(pulse) {
                    watch.note(pulse, self.now);
                } else if client.membership.times().is_unlimited() {
                    watch.skip(pulse);
                } else {
                    watch.begin(pulse, client.membership.times(), self.now);
                }
            }
            if let Some(overrun) = client.watch.overrun(self.now) {
                note!(self, "{}: {overrun:?}", self.clients[number].mark);
                self.clients[number].may_end_early |= !matches!(overrun, tenantgate::session::Overrun::Statement(_));
                self.feed(number, Input::Overrun(overrun));
            }
        }
    }

    // -- the operator, as driver/control.rs and driver/reload.rs

    fn operate(&mut self) {
        let is_stormy = self.is_stormy();
        let Some(dice) = self.operator.as_mut() else { return };
        if !is_stormy {
            // Whatever is held is let go in the end.
            return if self.pool.resume(self.now) {
                self.act()
            };
        }
        if !dice.once_in(120) {
            return;
        }
        let (what, rarely, tenant) = (dice.below(8), dice.once_in(5), dice.below(4));
        note!(self, "the operator does {what}");
        match what {
            0 => self.pool.pause(),
            1 | 2 => drop(self.pool.resume(self.now)),
            3 => self.pool.reconnect(self.now),
            4 if rarely => {
                self.pool.kill();
                (0..self.clients.len()).for_each(|client| self.clients[client].order = Some(Code::Killed));
            }
            5 if rarely && self.claimants.is_none() => {
                let tenant = TENANTS[usize::try_from(tenant).unwrap_or(0)];
                for client in self.clients.iter_mut().filter(|client| client.tenant == tenant) {
                    client.order = Some(Code::TenantFrozen);
                }
            }
            _ => {
                self.generation += 1;
                let limits = PoolLimits { size: 1 + usize::from(tenant > 1), ..*self.pool.limits() };
                self.pool.set_limits(limits, Fairness::Tenants, self.now);
            }
        }
        self.act();
    }

    /// Whoever is ended by the operator ends at once, and nothing more of his reaches a server.
    fn obey(&mut self, number: usize) {
        let Some(code) = self.clients[number].order.take() else { return };
        note!(self, "{} is told {}", self.clients[number].mark, code.row().name);
        self.clients[number].may_end_early = true;
        self.feed(number, Input::Expel(Fault::of(code)));
        if self.clients[number].end.is_none() || self.clients[number].link.is_some() {
            self.violate(format!("c{number} goes on behind {}", code.row().name));
        }
    }

    /// Other rules, of the same content.
    fn renew(&mut self, number: usize) {
        note!(self, "{} takes up generation {}", self.clients[number].mark, self.generation);
        self.clients[number].generation = self.generation;
        let rules = Arc::clone(&self.clients[number].rules);
        self.feed(number, Input::Rules(rules));
    }

    // -- the client's side

    fn say(&mut self, number: usize) {
        let client = &mut self.clients[number];
        if client.saying.is_empty() {
            match client.bursts.get(client.next) {
                Some(burst) => {
                    client.saying.extend_from_slice(&burst.bytes);
                    client.awaited += burst.readies;
                    client.next += 1;
                }
                None => {
                    client.saying.extend_from_slice(&message(frontend::put_terminate));
                    client.has_said_goodbye = true;
                }
            }
        }
        let most = client.saying.len();
        let count = self.piece(most);
        let client = &mut self.clients[number];
        let part = client.saying.split_to(count.min(most));
        client.sent.extend_from_slice(&part);
        client.wire.extend_from_slice(&part);
    }

    fn read_client(&mut self, number: usize) {
        let count = self.piece(self.clients[number].wire.len());
        let client = &mut self.clients[number];
        let part = client.wire.split_to(count.min(client.wire.len()));
        if self.keeps_trace {
            let words = self.clients[number].taps.requests.hear(&part, request_words);
            if !words.is_empty() {
                note!(self, "{} → proxy {words}", self.clients[number].mark);
            }
        }
        self.feed(number, Input::ClientBytes(&part));
    }

    fn write_client(&mut self, number: usize) {
        let most = self.clients[number].session.client_out().len();
        let count = self.piece(most).min(most);
        let client = &mut self.clients[number];
        let part = client.session.client_out().split_to(count);
        client.received.extend_from_slice(&part);
        client.heard =
            messages(&client.received).0.iter().filter(|message| message.tag == b'Z').count().saturating_sub(1);
        if self.keeps_trace {
            let words = self.clients[number].taps.replies.hear(&part, Message::words);
            if !words.is_empty() {
                note!(self, "proxy → {} {words}", self.clients[number].mark);
            }
        }
    }

    fn inspect(&mut self, number: usize) {
        let Pending::Inspection(sql) = std::mem::replace(&mut self.clients[number].pending, Pending::Nothing) else {
            return;
        };
        // As driver/parser.rs does.
        let inspected = self.inspected.lookup(&sql).unwrap_or_else(|| {
            let inspected = inspect(&sql, &tenantgate::guard::Limits::default());
            self.inspected.insert(&sql, &inspected);
            inspected
        });
        self.facts.insert(&sql, &inspected);
        self.feed(number, Input::Inspected(inspected));
    }

    // -- the server's side

    fn write_server(&mut self, number: usize) {
        let Some(at) = self.clients[number].link else { return };
        let most = self.clients[number].session.server_out().map_or(0, |out| out.len());
        let count = self.piece(most).min(most);
        if self.links[at].is_cut && self.dice.once_in(2) {
            note!(self, "{}: its server is gone, writing fails", self.clients[number].mark);
            self.clients[number].may_end_early = true;
            return self.feed(number, Input::ServerGone);
        }
        let Some(out) = self.clients[number].session.server_out() else { return };
        let part = out.split_to(count);
        let is_all = out.is_empty();
        if self.keeps_trace {
            let words = self.links[at].heard.requests.hear(&part, request_words);
            if !words.is_empty() {
                note!(self, "{} ⇒ server {at} {words}", self.clients[number].mark);
            }
        }
        let link = &mut self.links[at];
        link.written += part.len() as u64;
        link.to_server.extend_from_slice(&part);
        if is_all {
            self.feed(number, Input::ServerWritten);
        }
    }

    fn read_server(&mut self, number: usize) {
        let Some(at) = self.clients[number].link else { return };
        let most = self.links[at].to_proxy.len();
        if most == 0 {
            note!(self, "{}: server {at} has closed", self.clients[number].mark);
            self.clients[number].may_end_early = true;
            return self.feed(number, Input::ServerGone);
        }
        let count = self.piece(most).min(most);
        let part = self.links[at].to_proxy.split_to(count);
        self.clients[number].may_end_early |= self.links[at].has_babbled || self.links[at].is_cut;
        if self.keeps_trace {
            let words = self.links[at].heard.replies.hear(&part, Message::words);
            if !words.is_empty() {
                note!(self, "server {at} ⇒ {} {words}", self.clients[number].mark);
            }
        }
        self.feed(number, Input::ServerBytes(&part));
    }

    fn carry_to_server(&mut self, number: usize) {
        let count = self.piece(self.links[number].to_server.len());
        let link = &mut self.links[number];
        let part = link.to_server.split_to(count.min(link.to_server.len()));
        link.backend.receive(&part);
    }

    fn serve(&mut self, number: usize) {
        let link = &mut self.links[number];
        link.backend.step(&mut self.database, self.now);
        let said = link.backend.out.split();
        if !link.is_cut && !link.is_dropped {
            link.to_proxy.extend_from_slice(&said);
        }
        let is_over = link.is_dropped && link.to_server.is_empty() && link.backend.is_at_leisure(self.now);
        if is_over && link.backend.wakes_at().is_none() {
            link.backend.hang_up();
        }
        if link.backend.is_closed {
            link.is_cut = true;
        }
        let events = std::mem::take(&mut link.backend.events);
        for event in events {
            self.look_at_event(number, event);
        }
    }

    fn look_at_event(&mut self, number: usize, event: Event) {
        let owner = |at: u64| {
            let owners = &self.links[number].owners;
            owners.iter().rev().find(|(from, _, _)| *from <= at).map(|(from, client, _)| (*from, *client))
        };
        match event {
            Event::Statement { mark, tenant, at } => {
                let Some((_, client)) = owner(at) else {
                    return self.violate(format!("server {number}: a statement of {mark} without a lease"));
                };
                let number_of_client = client;
                let client = &self.clients[client];
                if client.mark != mark || client.tenant != tenant {
                    let (lessee, wanted) = (client.mark.clone(), client.tenant.clone());
                    self.violate(format!(
                        "server {number}, leased to {lessee} of {wanted}: a statement of {mark} ran as {tenant:?}"
                    ));
                } else if client.is_recorded {
                    let done = self.ledger.on_statement(number_of_client, number, at);
                    self.must(number_of_client, done);
                }
            }
            Event::Commit(commit) => {
                if let Some((_, client)) = owner(commit.at).filter(|(_, client)| self.clients[*client].is_recorded) {
                    note!(self, "server {number}: {commit:?} of c{client}");
                    let done = self.ledger.on_commit(client, number, commit);
                    self.must(client, done);
                    if self.weather.servers_vanish && self.is_stormy() && self.ledger.once_in(8) {
                        // Just when its answer matters.
                        self.cut(number);
                    }
                }
            }
            Event::Notified(payload) => match self.links[number].owners.last() {
                Some((_, client, _)) if self.links[number].is_leased => self.clients[*client].notified.push(payload),
                Some(_) | None if self.links[number].is_dropped => {}
                Some(_) | None => self.violate(format!("server {number} listens, and is nobody's")),
            },
            Event::CancelHit { at } => {
                let hit = owner(at).map(|(_, client)| client);
                note!(self, "server {number}: a cancel hits {hit:?}");
                match self.links[number].last_cancel {
                    Some((client, _)) if Some(client) != hit => {
                        self.violate(format!("server {number}: a cancel of c{client} has hit {hit:?}"));
                    }
                    Some((client, Some(until))) if at >= until => {
                        self.violate(format!("server {number}: c{client}'s time limit has hit a later statement"));
                    }
                    Some(_) => {}
                    None => self.violate(format!("server {number}: a cancel that nobody sent")),
                }
            }
            Event::Stray { at } => {
                // Behind its own failed COPY it is harmless; at the beginning of a lease it is another's.
                if owner(at).is_none_or(|(from, _)| from == at) {
                    self.violate(format!("server {number}: COPY data reached it in another lease"));
                }
            }
            Event::Violation(what) => self.violate(format!("server {number}: {what}")),
        }
    }

    fn must(&mut self, client: usize, done: Result<(), String>) {
        if let Err(what) = done {
            self.violate(format!("c{client}: {what}"));
        }
    }

    fn violate(&mut self, what: String) {
        note!(self, "WRONG: {what}");
        self.violations.push(what);
    }

    // -- the session

    fn feed(&mut self, number: usize, input: Input<'_>) {
        if self.clients[number].end.is_some() {
            return;
        }
        self.clients[number].session.handle(input);
        let mut count = 0;
        while let Some(effect) = self.clients[number].session.poll_effect() {
            count += 1;
            self.carry_out(number, effect);
        }
        if count > 1_000 {
            self.violate(format!("{count} effects of one input"));
        }
        let client = &mut self.clients[number];
        if client.session.client_backlog() > CLIENT_BYTES_MAX {
            let bytes = client.session.client_backlog();
            self.violate(format!("{bytes} bytes wait for a client"));
        }
        self.check_idle_lease(number);
    }

    /// A server at rest is not kept for an outcome, or behind a refusal.
    fn check_idle_lease(&mut self, number: usize) {
        let client = &mut self.clients[number];
        let Some(at) = client.link.filter(|_| client.is_recorded) else { return };
        let link = &self.links[at];
        let is_unsent = client.session.server_out().is_some_and(|out| !out.is_empty());
        let is_wanted = client.record.as_ref().is_some_and(|record| !record.is_outcome);
        let waits = is_wanted || client.is_own_cancel_under_way || !matches!(client.pending, Pending::Nothing);
        let is_moving = is_unsent || !link.to_server.is_empty() || !link.to_proxy.is_empty() || link.is_cut;
        let read = client.sent.len() - client.wire.len();
        // In the middle of a message nobody lets go.
        if !waits && !is_moving && link.backend.is_between_segments() && !messages(&client.sent[..read]).1 {
            let words = describe(&self.clients[number]);
            self.violate(format!("server {at} is kept at rest: {words}"));
        }
    }

    // -- the ledger, as driver/client.rs

    fn record(&mut self, number: usize, entry: &Entry) {
        note!(self, "{} records {}", self.clients[number].mark, entry_words(entry));
        let client = &mut self.clients[number];
        let unsent = client.session.server_out().map_or(0, |out| out.len() as u64);
        let place = client.link.map(|link| Where {
            link,
            process_id: self.links[link].process_id,
            sent: self.links[link].written + unsent,
        });
        match self.ledger.take(number, entry, place, self.now) {
            Ok(awaited) => {
                let is_skipped = awaited.is_intent && self.skips_intents;
                self.clients[number].record = Some(awaited);
                if is_skipped {
                    self.clients[number].record = None;
                    self.feed(number, Input::Recorded(Ok(())));
                }
            }
            Err(what) => self.violate(format!("c{number}: {what}")),
        }
    }

    /// The ledger answers, or has taken too long.
    fn answer(&mut self, number: usize) {
        let Some(awaited) = self.clients[number].record.take() else { return };
        let is_taken = match awaited.answer {
            Some((at, is_taken)) if at <= self.now => is_taken,
            Some(_) | None => false,
        };
        note!(self, "{}: its record is {}", self.clients[number].mark, if is_taken { "taken" } else { "refused" });
        if is_taken {
            return self.feed(number, Input::Recorded(Ok(())));
        }
        self.ledger.refused(number, awaited.is_intent);
        let fault = Fault::of(Code::LedgerUnavailable);
        if !awaited.is_outcome {
            *self.clients[number].excused.entry(fault.sqlstate.as_str().to_owned()).or_default() += 1;
        }
        self.feed(number, Input::Recorded(Err(fault)));
    }

    fn carry_out(&mut self, number: usize, effect: Effect) {
        match effect {
            Effect::Lease => self.lease(number),
            Effect::Inspect(sql) => self.clients[number].pending = Pending::Inspection(sql),
            Effect::Claim(tenant) if self.clients[number].has_claims => {
                if tenant.as_str() != self.clients[number].tenant {
                    self.violate(format!("c{number} is taken to act for {}", tenant.as_str()));
                }
                self.feed(number, Input::Claimed(Ok(())));
            }
            Effect::Unclaim if self.clients[number].has_claims => {}
            Effect::Pin if self.keepers.is_some() => self.pin(number),
            Effect::Rest if self.clients[number].is_pinned => self.rest(number),
            Effect::Pin | Effect::Rest | Effect::Limit(_) | Effect::Claim(_) | Effect::Unclaim => {
                self.violate("a server is to stay where nothing may be left on it".to_owned())
            }
            Effect::Record(entry) if self.clients[number].is_recorded => self.record(number, &entry),
            Effect::Record(_) => self.violate("a record where nothing is recorded".to_owned()),
            Effect::CheckIn(clean) => self.check_in(number, clean),
            Effect::Cancel => self.begin_own_cancel(number),
            Effect::Discard(reason) => self.discard(number, reason),
            Effect::Observed(observed, _) => {
                note!(self, "{}: observed, {}", self.clients[number].mark, observed.code.row().name)
            }
            Effect::Refused(code) => {
                note!(self, "{}: refused, {}", self.clients[number].mark, code.row().name);
                let client = &mut self.clients[number];
                // Whoever is recorded is not helped over a cancel that hits its settings on their way to a server.
                client.may_end_early |=
                    code == Code::SettingsFailed && client.is_recorded && client.excused.contains_key("57014");
            }
            Effect::Close(reason) => self.close(number, reason),
        }
    }

    fn close(&mut self, number: usize, reason: CloseReason) {
        note!(self, "{}: closed, {}", self.clients[number].mark, reason.words());
        if let Pending::Lease(ticket) = std::mem::replace(&mut self.clients[number].pending, Pending::Nothing) {
            self.pool.give_up(ticket);
        }
        let client = &mut self.clients[number];
        client.end = Some(reason);
        if !client.has_left {
            // The last words are written before the connection is closed.
            let words = client.session.client_out().split();
            client.received.extend_from_slice(&words);
        }
        if client.link.is_some() {
            self.violate("a session ended with a server".to_owned());
        }
    }

    fn begin_own_cancel(&mut self, number: usize) {
        let Some(at) = self.clients[number].link else { return self.feed(number, Input::CancelSettled) };
        let (lease, written) = (self.leases_of(at), self.links[at].written);
        let unsent = self.clients[number].session.server_out().map_or(0, |out| out.len() as u64);
        *self.clients[number].excused.entry("57014".to_owned()).or_default() += 1;
        self.clients[number].is_own_cancel_under_way = true;
        let due = self.soon();
        self.cancels.push(Cancel { link: at, client: number, lease, own_until: Some(written + unsent), due });
    }

    /// When what is sent now arrives.
    fn soon(&mut self) -> Moment {
        let millis = if self.dice.once_in(2) { 0 } else { self.dice.below(60) };
        self.now.after(Duration::from_millis(millis))
    }

    fn leases_of(&self, link: usize) -> u64 {
        self.links[link].owners.last().map_or(0, |(_, _, lease)| *lease)
    }

    // -- leases, as driver/client.rs and driver/pool.rs

    fn pin(&mut self, number: usize) {
        let membership = &self.clients[number].membership;
        let answer = membership.pin().and_then(|()| self.pool.pin().inspect_err(|_| membership.unpin()));
        note!(self, "{} asks to keep its server: {answer:?}", self.clients[number].mark);
        match &answer {
            Ok(()) => self.clients[number].is_pinned = true,
            Err(fault) => {
                *self.clients[number].excused.entry(fault.sqlstate.as_str().to_owned()).or_default() += 1;
            }
        }
        let pinned = self.clients.iter().filter(|client| client.is_pinned).count();
        let most = self.pool.limits().pins_max.unwrap_or(usize::MAX);
        if self.pool.counts().pinned != pinned || pinned > most {
            self.violate(format!("{pinned} servers stay, {} are counted, {most} may", self.pool.counts().pinned));
        }
        self.feed(number, Input::Pinned(answer));
    }

    fn unpin(&mut self, number: usize) {
        if std::mem::take(&mut self.clients[number].is_pinned) {
            self.pool.unpin();
            self.clients[number].membership.unpin();
        }
    }

    /// A server stays between transactions: it has nothing to do, and is its client's alone.
    fn rest(&mut self, number: usize) {
        let Some(at) = self.clients[number].link else { return self.violate("nothing rests".to_owned()) };
        note!(self, "{} keeps server {at}", self.clients[number].mark);
        let link = &self.links[at];
        if let Some(what) = link.backend.unrest(&link.to_server).filter(|_| !link.is_cut) {
            self.violate(format!("server {at}, when it rests: {what}"));
        }
    }

    fn lease(&mut self, number: usize) {
        if self.clients[number].generation < self.generation {
            self.renew(number);
        }
        if self.clients[number].end.is_some() {
            return;
        }
        if self.clients[number].link.is_some() {
            return self.feed(number, Input::Resumed);
        }
        loop {
            match self.pool.request(self.clients[number].seat, self.now, || number) {
                Requested::Granted { pooled, check } => {
                    self.granted += 1;
                    if self.take_checked(number, pooled, check) {
                        return;
                    }
                }
                Requested::Queued(ticket) if self.clients[number].session.is_client_done() => {
                    self.pool.give_up(ticket);
                    self.act();
                    return self.feed(number, Input::ClientDone);
                }
                Requested::Queued(ticket) => {
                    self.clients[number].pending = Pending::Lease(ticket);
                    return self.act();
                }
                Requested::Refused(fault) => return self.refuse(number, fault),
            }
        }
    }

    fn refuse(&mut self, number: usize, fault: Fault) {
        note!(self, "{}: no server, {}", self.clients[number].mark, fault.message);
        *self.clients[number].excused.entry(fault.sqlstate.as_str().to_owned()).or_default() += 1;
        self.clients[number].may_end_early |= fault.severity == tenantgate::fault::Severity::Fatal;
        self.feed(number, Input::LeaseRefused(fault));
    }

    /// Whether the server was there.
    fn take_checked(&mut self, number: usize, pooled: Pooled<Tender>, check: Check) -> bool {
        let link = &self.links[pooled.server.link];
        if check != Check::Nothing && (link.is_cut || !link.to_proxy.is_empty()) {
            let at = pooled.server.link;
            note!(self, "server {at} was idle and is not silent");
            self.drop_link(at);
            self.discarded += 1;
            self.pool.discarded(self.clients[number].seat, self.now);
            self.act();
            return false;
        }
        self.take(number, pooled);
        true
    }

    fn take(&mut self, number: usize, pooled: Pooled<Tender>) {
        let Pooled { server: Tender { clean, link: at }, .. } = pooled;
        self.check_clean(at, &clean, "a lease begins");
        if self.pool.hold() != Hold::None {
            self.violate(format!("server {at} is lent, and the pool is on hold"));
        }
        self.leases += 1;
        let lease = self.leases;
        note!(self, "{} leases server {at} ({lease})", self.clients[number].mark);
        let link = &mut self.links[at];
        if link.is_leased {
            return self.violate(format!("server {at} is leased twice"));
        }
        link.is_leased = true;
        link.last_cancel = None;
        link.owners.push((link.written, number, lease));
        self.clients[number].link = Some(at);
        self.feed(number, Input::Leased(clean));
    }

    /// Nothing of one client is left on a server when another gets it.
    fn check_clean(&mut self, at: usize, clean: &CleanServer, when: &str) {
        let link = &self.links[at];
        let server = clean.server();
        let mut wrong = Vec::new();
        if !link.is_cut {
            wrong.extend(link.backend.unrest(&link.to_server));
            wrong.extend(link.backend.leftovers());
            let (found, is_cut) = messages(&link.to_proxy);
            let is_asynchronous = |tag: u8| matches!(tag, b'N' | b'S' | b'A' | b'E');
            let has_replies = is_cut || found.iter().any(|message| !is_asynchronous(message.tag));
            if has_replies && !link.has_babbled {
                wrong.push(format!("replies are on their way: {}", shown(&link.to_proxy)));
            }
            let set: Vec<_> = link
                .backend
                .settings()
                .0
                .iter()
                .filter(|(name, _)| *name != TENANT)
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            let known: Vec<_> = server.settings.iter().map(|(name, value)| (&**name, &**value)).collect();
            if set != known {
                wrong.push(format!("it has the settings {set:?} and is believed to have {known:?}"));
            }
            let most = self.statements_max + PRELUDE_STATEMENTS + 2;
            if link.backend.prepared() > most {
                wrong.push(format!("{} statements are prepared, {most} may be", link.backend.prepared()));
            }
        }
        if link.has_babbled && link.to_proxy.is_empty() {
            wrong.push("it has said what no server says".to_owned());
        }
        for what in wrong {
            self.violate(format!("server {at}, when {when}: {what}"));
        }
    }

    fn check_in(&mut self, number: usize, clean: CleanServer) {
        let Some(at) = self.clients[number].link.take() else {
            return self.violate("a server came back that was not leased".to_owned());
        };
        note!(self, "{} gives back server {at}", self.clients[number].mark);
        self.unpin(number);
        self.check_clean(at, &clean, "it is given back");
        let connected_at =
            Moment::START.after(Duration::from_micros(u64::from(clean.server().key.process_id.unsigned_abs())));
        let pooled = Pooled { server: Tender { clean, link: at }, connected_at };
        self.links[at].parked = Some((number, pooled));
        self.return_if_uncancelled(at);
    }

    /// A server on which a cancel is on its way waits for it.
    fn return_if_uncancelled(&mut self, at: usize) {
        let lease = self.leases_of(at);
        if self.cancels.iter().any(|cancel| cancel.link == at && cancel.lease == lease) {
            return;
        }
        if let Some((number, pooled)) = self.links[at].parked.take() {
            self.links[at].is_leased = false;
            self.returned += 1;
            self.pool.check_in(self.clients[number].seat, pooled, self.now);
            self.act();
        }
    }

    fn discard(&mut self, number: usize, reason: DiscardReason) {
        let Some(at) = self.clients[number].link.take() else {
            return self.violate("a server was discarded that was not leased".to_owned());
        };
        note!(self, "{} discards server {at}: {}", self.clients[number].mark, reason.words());
        self.unpin(number);
        if reason.is_cancelled_first() {
            self.links[at].last_cancel = Some((number, None));
            self.links[at].backend.cancel();
        }
        self.drop_link(at);
        self.ledger.lost(number, at);
        self.discarded += 1;
        self.pool.discarded(self.clients[number].seat, self.now);
        self.act();
    }

    fn drop_link(&mut self, at: usize) {
        let link = &mut self.links[at];
        (link.is_dropped, link.is_leased) = (true, false);
        link.to_proxy.clear();
    }

    fn act(&mut self) {
        while let Some(action) = self.pool.poll_action() {
            match action {
                PoolAction::Grant { waiter, pooled, check } => {
                    self.granted += 1;
                    if !matches!(self.clients[waiter].pending, Pending::Lease(_)) {
                        // It has just given up.
                        self.returned += 1;
                        self.pool.check_in(self.clients[waiter].seat, pooled, self.now);
                        continue;
                    }
                    self.clients[waiter].pending = Pending::Nothing;
                    if !self.take_checked(waiter, pooled, check) {
                        self.lease(waiter);
                    }
                }
                PoolAction::Refuse { waiter, fault } => {
                    self.clients[waiter].pending = Pending::Nothing;
                    self.refuse(waiter, fault);
                }
                PoolAction::Connect => self.connecting += 1,
                PoolAction::Close(tender) => self.drop_link(tender.link),
            }
        }
    }

    fn connect(&mut self) {
        self.connecting -= 1;
        if self.weather.connects_fail && self.is_stormy() && self.dice.once_in(3) {
            note!(self, "connecting fails");
            self.pool.connect_failed(&Fault::of(Code::ServerUnreachable), self.now);
            return self.act();
        }
        let at = self.links.len();
        let process_id = i32::try_from(self.now.as_micros()).unwrap_or(i32::MAX);
        let mut backend = Backend::new(self.version, false, &[]);
        backend.keeps_tenant = self.lifetime == Lifetime::Lease;
        backend.has_claims = self.claimants.is_some();
        backend.greet(process_id);
        let server = self.log_in(&mut backend, ServerId(at as u64 + 1));
        let clean = self.prelude(&mut backend, server);
        note!(self, "server {at} is connected");
        self.links.push(Link {
            backend,
            process_id,
            to_server: BytesMut::new(),
            to_proxy: BytesMut::new(),
            written: self.prelude.bytes.len() as u64,
            owners: Vec::new(),
            is_leased: false,
            is_cut: false,
            is_dropped: false,
            has_babbled: false,
            stalled_until: Moment::START,
            parked: None,
            heard: Taps::default(),
            last_cancel: None,
        });
        let connected_at = Moment::from_micros(self.now.as_micros());
        self.pool.connected(Pooled { server: Tender { clean, link: at }, connected_at }, self.now);
        self.act();
    }

    /// The real login, byte by byte.
    fn log_in(&mut self, backend: &mut Backend, id: ServerId) -> Server {
        let identity =
            Identity { user: "app".into(), database: "app".into(), password: None, methods: AllowedMethods::default() };
        let channel = Channel { way: Way::Clear, binding: BindingPolicy::Prefer };
        let mut out = BytesMut::new();
        let mut login = ServerLogin::start(identity, channel, [7; 18], &mut out);
        let mut input = BytesMut::new();
        loop {
            let count = self.piece(backend.out.len()).min(backend.out.len());
            input.extend_from_slice(&backend.out.split_to(count));
            if let Some(logged_in) = login.handle_bytes(&mut input, &mut out).expect("the model lets everybody in") {
                let parameters = logged_in.parameters().iter();
                let parameters: Parameters =
                    parameters.map(|(name, value)| (name.as_str().into(), value.as_str().into())).collect();
                let key = ServerKey { process_id: logged_in.process_id(), secret: logged_in.secret().into() };
                let version = logged_in.version_num();
                return Server::new(id, Arc::new(key), version, Arc::new(parameters), self.statements_max);
            }
        }
    }

    fn prelude(&mut self, backend: &mut Backend, server: Server) -> CleanServer {
        let mut replies = Replies::default();
        for expect in std::iter::repeat_n(Expect::Parse, PRELUDE_STATEMENTS).chain([Expect::Sync]) {
            assert_eq!(replies.push(expect, ()), None);
        }
        backend.receive(&self.prelude.bytes);
        while backend.step(&mut self.database, self.now) {}
        for message in messages(&backend.out.split()).0 {
            let received = match message.tag {
                b'Z' => replies.receive_ready(read_ready(&message.body).expect("a status")),
                tag => replies.receive(tag),
            };
            assert!(matches!(received, Ok(Received::Complete(()) | Received::Ready(()))), "{received:?}");
        }
        CleanServer::fresh(server, replies.quiet().expect("the prelude is answered"))
    }

    fn deliver(&mut self, number: usize) {
        let cancel = self.cancels.swap_remove(number);
        note!(self, "a cancel of c{} reaches server {}", cancel.client, cancel.link);
        let link = &mut self.links[cancel.link];
        link.last_cancel = Some((cancel.client, cancel.own_until));
        link.backend.cancel();
        if cancel.own_until.is_some() && self.clients[cancel.client].is_own_cancel_under_way {
            self.clients[cancel.client].is_own_cancel_under_way = false;
            self.feed(cancel.client, Input::CancelSettled);
        }
        self.return_if_uncancelled(cancel.link);
    }

    // -- what goes wrong

    fn misfortune(&mut self) {
        let client = usize::try_from(self.dice.below(self.clients.len() as u64)).unwrap_or(0);
        let is_there = self.clients[client].end.is_none() && !self.clients[client].has_left;
        let link = match self.links.len() as u64 {
            0 => None,
            count => Some(usize::try_from(self.dice.below(count)).unwrap_or(0)),
        };
        let link = link.filter(|at| !self.links[*at].is_cut && !self.links[*at].is_dropped);
        let weather = self.weather;
        match (self.dice.below(11), link) {
            (0, _) if weather.clients_vanish && is_there && self.dice.once_in(3) => self.vanish(client),
            (1, _) if weather.clients_half_close && is_there && self.dice.once_in(3) => self.half_close(client),
            (2, Some(at)) if weather.servers_vanish => self.cut(at),
            (3, Some(at)) if weather.servers_end => self.end_server(at),
            (4, Some(at)) if weather.servers_babble => self.babble(at),
            (5, Some(at)) if weather.servers_notify => self.notify(at),
            (6, Some(at)) if weather.stalls => {
                self.links[at].stalled_until = self.now.after(Duration::from_millis(self.dice.below(400)));
            }
            (7, _) if weather.stalls => {
                self.clients[client].deaf_until = self.now.after(Duration::from_millis(self.dice.below(400)));
            }
            (8, _) if weather.cancels && is_there => self.cancel(client),
            (9, _) if weather.kills && is_there && self.dice.once_in(6) => {
                note!(self, "{} is killed", self.clients[client].mark);
                self.clients[client].may_end_early = true;
                self.feed(client, Input::Expel(Fault::of(Code::Killed)));
            }
            (10, _) if weather.drains && is_there && self.dice.once_in(6) => {
                note!(self, "{} is drained", self.clients[client].mark);
                self.clients[client].may_end_early = true;
                self.feed(client, Input::Drain);
            }
            _ => {}
        }
    }

    fn vanish(&mut self, number: usize) {
        note!(self, "{} vanishes", self.clients[number].mark);
        let client = &mut self.clients[number];
        client.has_left = true;
        client.saying.clear();
        client.wire.clear();
        self.feed(number, Input::ClientGone);
    }

    fn half_close(&mut self, number: usize) {
        let client = &mut self.clients[number];
        if client.is_half_closed || !client.wire.is_empty() {
            return;
        }
        note!(self, "{} says nothing more", self.clients[number].mark);
        let client = &mut self.clients[number];
        client.is_half_closed = true;
        self.feed(number, Input::ClientDone);
    }

    fn cut(&mut self, at: usize) {
        note!(self, "server {at} vanishes");
        let link = &mut self.links[at];
        let left = usize::try_from(self.dice.below(link.to_proxy.len() as u64 + 1)).unwrap_or(0);
        link.to_proxy.truncate(left);
        link.is_cut = true;
        link.backend.hang_up();
    }

    /// `pg_terminate_backend`, or a restart.
    fn end_server(&mut self, at: usize) {
        note!(self, "server {at} is ended by its administrator");
        let link = &mut self.links[at];
        let words = message(|out| {
            frontend::put_message(out, b'E', |out| {
                out.extend_from_slice(b"SFATAL\0VFATAL\0C57P01\0Mterminating connection\0\0");
            });
        });
        link.to_proxy.extend_from_slice(&words);
        link.is_cut = true;
        link.backend.hang_up();
    }

    /// Says what no PostgreSQL says.
    fn babble(&mut self, at: usize) {
        let babble: &[u8] = match self.dice.below(4) {
            0 => b"y\0\0\0\x04",
            1 => b"Z\0\0\0\x03I",
            2 => b"\0\0\0\0\0",
            _ => b"D\xff\xff\xff\xff",
        };
        note!(self, "server {at} babbles {babble:?}");
        let link = &mut self.links[at];
        link.to_proxy.extend_from_slice(babble);
        link.has_babbled = true;
    }

    fn notify(&mut self, at: usize) {
        let words = match self.dice.below(3) {
            0 => message(|out| frontend::put_message(out, b'A', |out| out.extend_from_slice(b"\0\0\0\x07c\0p\0"))),
            1 => message(|out| put_parameter_status(out, b"is_superuser", b"off")),
            _ => message(|out| {
                frontend::put_message(out, b'N', |out| {
                    out.extend_from_slice(format!("SNOTICE\0VNOTICE\0C00000\0M{OUT_OF_THE_BLUE}\0\0").as_bytes());
                });
            }),
        };
        if words[0] != b'S' {
            self.links[at].to_proxy.extend_from_slice(&words);
        }
    }

    /// A cancel request with the client's key.
    fn cancel(&mut self, number: usize) {
        let client = &mut self.clients[number];
        *client.excused.entry("57014".to_owned()).or_default() += 1;
        note!(self, "{} cancels", self.clients[number].mark);
        let client = &mut self.clients[number];
        if let Some(at) = client.link {
            let lease = self.leases_of(at);
            let due = self.soon();
            self.cancels.push(Cancel { link: at, client: number, lease, own_until: None, due });
            return self.feed(number, Input::Cancelled);
        }
        if let Pending::Lease(ticket) = client.pending {
            client.pending = Pending::Nothing;
            self.pool.give_up(ticket);
            return self.feed(number, Input::LeaseRefused(Fault::cancelled()));
        }
        self.feed(number, Input::Cancelled);
    }

    // -- the end

    fn settle(&mut self) {
        self.pool.close();
        self.act();
        let counts = self.pool.counts();
        if counts != PoolCounts::default() {
            self.violate(format!("the pool is left with {counts:?}"));
        }
        if self.granted != self.returned + self.discarded {
            let (granted, returned, discarded) = (self.granted, self.returned, self.discarded);
            self.violate(format!("{granted} servers were granted, {returned} returned, {discarded} discarded"));
        }
        let wrong = self.ledger.settle();
        self.violations.extend(wrong);
        for number in 0..self.clients.len() {
            let client = &self.clients[number];
            let story = Story {
                version: self.version,
                parameters: &client.base,
                tenant: &client.tenant,
                has_claims: client.has_claims,
                sent: &client.sent,
                received: &client.received,
                excused: client.excused.clone(),
                may_end_early: client.may_end_early || client.is_half_closed,
                may_end_silently: client.is_half_closed,
                has_left: client.has_left,
                mark: &client.mark,
                notified: &client.notified,
            };
            let mark = client.mark.clone();
            match judge(&story) {
                Err(what) => self.violate(format!("{mark}: {what}")),
                Ok(Some(count)) => {
                    let found = self.database.notes.get(&mark).copied().unwrap_or(0);
                    if found != count {
                        self.violate(format!("{mark} has committed {count} notes, and {found} are there"));
                    }
                }
                Ok(None) => {}
            }
        }
    }
}

impl Client {
    fn has_to_say(&self) -> bool {
        if !self.saying.is_empty() {
            return true;
        }
        let is_due = self.heard >= self.awaited;
        match self.bursts.get(self.next) {
            Some(burst) => is_due || burst.is_pipelined,
            None => is_due && !self.has_said_goodbye,
        }
    }
}

fn describe(client: &Client) -> String {
    format!(
        "{} has said {} of {} bursts and heard {} of {}, link {:?}, {:?}",
        client.mark,
        client.next,
        client.bursts.len(),
        client.heard,
        client.awaited,
        client.link,
        client.session.pulse(),
    )
}

fn weather(dice: &mut Dice) -> Weather {
    Weather {
        clients_vanish: dice.once_in(3),
        clients_half_close: dice.once_in(4),
        servers_vanish: dice.once_in(3),
        servers_end: dice.once_in(4),
        servers_babble: dice.once_in(6),
        servers_notify: dice.once_in(3),
        stalls: dice.once_in(2),
        connects_fail: dice.once_in(4),
        cancels: dice.once_in(2),
        kills: dice.once_in(5),
        drains: dice.once_in(6),
    }
}

fn entry_words(entry: &Entry) -> String {
    match entry {
        Entry::Intent(_) => "an intent".to_owned(),
        Entry::PreCommit(record) => format!("a pre-commit of {:?}", record.standing.xid),
        Entry::Outcome(outcome) => format!("the outcome {}", outcome.conclusion.word()),
    }
}

fn tenant_id(text: &str) -> TenantId {
    TenantId::parse(TenantKind::Text, text).expect("a valid tenant")
}

/// As the driver does under that defect.
#[cfg(feature = "mutants")]
fn injected_tenant(defect: Defect, tenant: &str, before: Option<String>) -> String {
    match before {
        Some(before) if defect == Some(tenantgate::session::Mutant::PreviousTenant) => before,
        _ => tenant.to_owned(),
    }
}

#[cfg(not(feature = "mutants"))]
fn injected_tenant(_: Defect, tenant: &str, _: Option<String>) -> String {
    tenant.to_owned()
}
