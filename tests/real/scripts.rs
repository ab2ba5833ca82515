//! The same messages to PostgreSQL directly and through TenantGate must bring the same replies.

use crate::sealed;
use crate::support::cluster::{self, Cluster};
use crate::support::differences::DIFFERENCES;
use crate::support::proxy::{self, Proxy, Wish, login_of_its_own};
use crate::support::raw::{Client, Pace, Target};
use crate::support::script::{self, Script};
use crate::support::transcript::{self, Side, aftermath};
use crate::support::{alone, number};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

pub const DATABASE: &str = "scripts";
const PATIENCE: Duration = Duration::from_secs(8);
const SCHEMA: &str = include_str!("../scripts/schema.sql");
const ROWS: &str = include_str!("../scripts/rows.sql");

pub fn tenant(connection: char) -> String {
    format!("00000000-0000-0000-0000-00000000000{}", connection.to_ascii_lowercase())
}

fn selected() -> Vec<Script> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let wanted = std::env::var("TENANTGATE_SCRIPT").unwrap_or_default();
    let mut scripts = script::all(&folder);
    scripts.retain(|script| script.title.contains(&wanted) || script.place.starts_with(&wanted));
    scripts
}

/// A superuser in a database with the schema.
pub fn superuser(cluster: &Cluster) -> Client {
    cluster.create_database(DATABASE);
    let mut admin = cluster.admin(DATABASE);
    admin.run(SCHEMA);
    if admin.rows("SELECT 1 FROM pg_roles WHERE rolname = 'script_recorded'").is_empty() {
        admin.run("CREATE ROLE script_recorded LOGIN IN ROLE app_user");
    }
    admin.run("SET lock_timeout = '5s'");
    admin
}

fn prepare(admin: &mut Client, script: &Script) {
    admin.run(ROWS);
    script.setup.iter().for_each(|sql| drop(admin.run(sql)));
    if !script.setup.is_empty() {
        admin.run("GRANT ALL ON ALL TABLES IN SCHEMA other TO app_user");
    }
}

pub fn direct(cluster: &Cluster, login: Login, connection: char) -> Target {
    let options = format!("-c app.tenant_id={}", tenant(connection));
    Target::new(cluster.address, login.role(), DATABASE).with("options", &options)
}

/// Over which kind of login the proxy is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    /// The ordinary one.
    Tenant,
    /// A migration login: every transaction is recorded, in a block of the proxy's.
    Recorded,
    /// The ordinary one where a tenant stays on its server, and others get that server all the time.
    Lease,
    /// One that may leave state on its server, which then stays with it.
    Pinned,
    /// One that keeps its server until it leaves.
    Session,
    /// The ordinary one in a sealed database.
    Sealed,
}

impl Login {
    /// The server's role behind it.
    pub const fn role(self) -> &'static str {
        match self {
            Login::Tenant | Login::Lease | Login::Pinned | Login::Session | Login::Sealed => "app_user",
            Login::Recorded => "script_recorded",
        }
    }

    /// Whether its clients may leave state on a server.
    pub const fn keeps_state(self) -> bool {
        matches!(self, Login::Pinned | Login::Session)
    }

    /// Fewer than clients; with session pooling each client has its own until it leaves.
    const fn servers(self) -> u32 {
        match self {
            Login::Tenant | Login::Recorded | Login::Lease | Login::Pinned | Login::Sealed => 2,
            Login::Session => 8,
        }
    }

    /// More configuration.
    pub fn more(self, ledger: &Path) -> String {
        match self {
            Login::Tenant | Login::Sealed => String::new(),
            Login::Lease => "[scope]\nlifetime = \"lease\"\n".to_owned(),
            // The ordinary logins' own role and pool: what is kept is in the way of everybody.
            Login::Pinned | Login::Session => {
                let mode = if self == Login::Pinned { "session_state = \"pin\"" } else { "pool_mode = \"session\"" };
                format!(
                    "[logins.keeps]\npassword = \"demo\"\npreset = \"application\"\n{mode}\ntenant.from = [\"suffix\"]\n"
                )
            }
            Login::Recorded => {
                let login = login_of_its_own("recorded", "migration", self.role());
                format!("{login}[logins.recorded.tenant]\nfrom = [\"suffix\"]\n{}", proxy::ledger(ledger))
            }
        }
    }

    /// Starts the proxy that the login is of.
    pub fn start(self, wish: &Wish<'_>) -> Proxy {
        match self {
            Login::Sealed => sealed::start_sealing(wish),
            Login::Tenant | Login::Recorded | Login::Lease | Login::Pinned | Login::Session => Proxy::start(wish),
        }
    }

    /// A client of the proxy.
    pub fn proxied(self, proxy: &Proxy, connection: char) -> Target {
        self.proxied_to(proxy, &tenant(connection), DATABASE)
    }

    /// A tenant's client of the proxy, of that database.
    pub fn proxied_to(self, proxy: &Proxy, tenant: &str, database: &str) -> Target {
        match self {
            Login::Tenant | Login::Lease | Login::Sealed => proxy.target(tenant),
            Login::Recorded => Target::new(proxy.address, &format!("recorded.{tenant}"), database).password("demo"),
            Login::Pinned | Login::Session => {
                Target::new(proxy.address, &format!("keeps.{tenant}"), database).password("demo")
            }
        }
    }

    /// What the proxy refuses by design where it records.
    pub fn leaves_out(self, script: &Script) -> bool {
        let is_chain = |step: &script::Step| step.to_string().to_uppercase().contains("AND CHAIN");
        match self {
            Login::Tenant | Login::Lease | Login::Sealed => script.keeps_state,
            Login::Recorded => script.keeps_state || script.has_refusals() || script.steps.iter().any(is_chain),
            // What is refused there is allowed here.
            Login::Pinned | Login::Session => script.has_refusals(),
        }
    }

    /// The same of generated sessions, whose refusals are such as every login gets that is no migration.
    pub fn leaves_out_generated(self, script: &Script) -> bool {
        matches!(self, Login::Tenant | Login::Lease | Login::Recorded | Login::Sealed) && self.leaves_out(script)
    }
}

impl Login {
    /// Where a tenant stays nothing is put into the client's transactions, and less differs; where they are recorded, all
    /// runs in the proxy's own block.
    fn excuses(self, complaint: &str) -> bool {
        let is_excused = match self {
            Login::Tenant | Login::Pinned => false,
            // One client has one server: less is prepared again.
            Login::Lease | Login::Session => true,
            // Queries have a block of their own.
            Login::Recorded | Login::Sealed => complaint.ends_with("[\"query-without-sync\"]"),
        };
        is_excused && complaint.starts_with(UNCHANGED)
    }
}

/// What is said of a script that should differ and does not.
const UNCHANGED: &str = "it does not differ";

/// The transcript of one side, with what the tables hold afterwards.
pub fn play(admin: &mut Client, script: &Script, side: &Side<'_>) -> Vec<String> {
    prepare(admin, script);
    let mut lines = transcript::of(script, side, admin);
    lines.push("-- afterwards".to_owned());
    lines.extend(aftermath(admin));
    lines
}

fn compare(cluster: &Cluster, login: Login, scripts: &[Script]) -> Vec<String> {
    let mut admin = superuser(cluster);
    if login == Login::Sealed {
        sealed::seal(&mut admin, DATABASE);
    }
    // Only to try the scripts out while there is no proxy: both sides are PostgreSQL.
    let rehearsal = number("TENANTGATE_REHEARSAL", 0) == 1;
    let folder = tempfile::tempdir().expect("a folder for a ledger");
    let more = login.more(&folder.path().join("ledger.jsonl"));
    let pool_size = login.servers();
    let proxy =
        (!rehearsal).then(|| login.start(&Wish { cluster, database: DATABASE, pool_size, mutant: None, more: &more }));
    let natively = |connection: char| direct(cluster, login, connection);
    let proxied = |connection: char| match &proxy {
        Some(proxy) => login.proxied(proxy, connection),
        None => natively(connection),
    };
    let shufflers: Vec<Shuffler> = match (&proxy, login) {
        (Some(_), Login::Lease) => ['e', 'f'].map(|other| Shuffler::start(proxied(other))).into(),
        (Some(_) | None, _) => Vec::new(),
    };
    let mut failures = Vec::new();
    let fits = |script: &&Script| (script.versions.0..=script.versions.1).contains(&cluster.version);
    for script in scripts.iter().filter(fits).filter(|script| !login.leaves_out(script)) {
        let left = play(&mut admin, script, &Side::native(&natively, PATIENCE));
        if std::env::var_os("TENANTGATE_SHOW").is_some() {
            eprintln!("== {} ({})\n   {}", script.title, script.place, left.join("\n   "));
        }
        if left.iter().any(|line| line.ends_with("TIMEOUT") || line.contains("cannot connect")) {
            failures.push(format!("{}: PostgreSQL {} itself: {left:#?}", script.place, cluster.version));
        }
        for pace in paces(cluster) {
            let mut side = Side::proxy(&proxied, PATIENCE, *pace);
            side.is_proxy = !rehearsal;
            let right = play(&mut admin, script, &side);
            let complaint = script.complaint(&left, &right).filter(|_| !rehearsal || script.differs.is_empty());
            if let Some(columns) = complaint.filter(|complaint| !login.excuses(complaint)) {
                let place = format!("{} PostgreSQL {} {pace:?}", script.place, cluster.version);
                eprintln!("DIFFERENT {place}: {}\n{columns}", script.title);
                failures.push(format!("{place}: {}", script.title));
            }
        }
    }
    drop(shufflers);
    if let Some(proxy) = proxy.filter(|_| !failures.is_empty()) {
        eprintln!("the proxy's last words:\n{}", proxy.log_tail());
    }
    failures
}

/// Where messages are torn is the proxy's own matter: byte by byte is proved on two releases.
fn paces(cluster: &Cluster) -> &'static [Pace] {
    match cluster.version {
        15 | 18 => &[Pace::Burst, Pace::Trickle],
        _ => &[Pace::Burst],
    }
}

/// A client of another tenant that uses whatever server is free, all the time.
pub struct Shuffler {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Shuffler {
    pub fn start(target: Target) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut client = Client::connect(&target);
            while !is_over.load(Ordering::Relaxed) {
                client.run("SELECT 1");
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Shuffler {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        // A second panic would hide the first.
        assert!(std::thread::panicking() || ended.is_some_and(|ended| ended.is_ok()), "a shuffler failed");
    }
}

fn same_replies(cluster: &Cluster, login: Login) {
    let _turn = alone();
    let scripts = selected();
    let failures = compare(cluster, login, &scripts);
    eprintln!("{} scripts on PostgreSQL {}, {} comparisons differ", scripts.len(), cluster.version, failures.len());
    assert!(failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn scripts_get_the_same_replies_on_15() {
    same_replies(cluster::fifteen(), Login::Tenant);
}

#[test]
fn scripts_get_the_same_replies_on_18() {
    if let Some(cluster) = cluster::eighteen() {
        same_replies(cluster, Login::Tenant);
    }
}

#[test]
fn sealed_sessions_get_the_same_replies_on_15() {
    same_replies(cluster::fifteen(), Login::Sealed);
}

#[test]
fn sealed_sessions_get_the_same_replies_on_18() {
    if let Some(cluster) = cluster::eighteen() {
        same_replies(cluster, Login::Sealed);
    }
}

#[test]
fn scripts_get_the_same_replies_on_14_16_and_17() {
    cluster::others().into_iter().for_each(|cluster| same_replies(cluster, Login::Tenant));
}

#[test]
fn sessions_whose_tenant_stays_get_the_same_replies_on_14_16_and_17() {
    cluster::others().into_iter().for_each(|cluster| same_replies(cluster, Login::Lease));
}

#[test]
fn recorded_sessions_get_the_same_replies_on_15() {
    same_replies(cluster::fifteen(), Login::Recorded);
}

#[test]
fn recorded_sessions_get_the_same_replies_on_18() {
    if let Some(cluster) = cluster::eighteen() {
        same_replies(cluster, Login::Recorded);
    }
}

#[test]
fn sessions_that_keep_their_server_get_the_same_replies() {
    for cluster in cluster::every() {
        same_replies(cluster, Login::Pinned);
        same_replies(cluster, Login::Session);
    }
}

#[test]
fn sessions_whose_tenant_stays_get_the_same_replies_on_15() {
    same_replies(cluster::fifteen(), Login::Lease);
}

#[test]
fn sessions_whose_tenant_stays_get_the_same_replies_on_18() {
    if let Some(cluster) = cluster::eighteen() {
        same_replies(cluster, Login::Lease);
    }
}

/// What is allowed to differ is shown by a script, which fails when it no longer differs.
#[test]
fn every_allowed_difference_is_shown_by_a_script() {
    let scripts = script::all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts"));
    for known in DIFFERENCES {
        let is_shown = scripts.iter().any(|script| script.differs.iter().any(|name| name == known.name));
        assert!(is_shown, "no script says `differs {}`: {}", known.name, known.reason);
    }
    assert!(scripts.len() >= 300, "{} scripts", scripts.len());
}
