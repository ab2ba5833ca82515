//! What an operator does to a running proxy: pause, kill, reconnect, freeze, end.

use crate::support::cluster::{self, Cluster};
use crate::support::inside::Inside;
use crate::support::message::Message;
use crate::support::proxy::{Proxy, Wish};
use crate::support::raw::{Client, Target};
use crate::support::{alone, eventually};
use std::fmt::Write as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;
use tenantgate::admin::{ClientState, Command, Operations as _, ShutdownMode};
use tenantgate::driver::StartFault;
use tenantgate::fault::Code;
use tenantgate::tenant::{FreezeReason, TenantId, TenantKind};

const DATABASE: &str = "operations";
const ACME: &str = "00000000-0000-0000-0000-00000000000a";
const GLOBEX: &str = "00000000-0000-0000-0000-00000000000b";

/// Runs for seconds, and leaves rows if it is not stopped.
const LONG: &str =
    "INSERT INTO plain (id) SELECT count(*) FROM generate_series(1, 20000) a, generate_series(1, 20000) b";

fn wish<'w>(cluster: &'w Cluster, pool_size: u32, more: &'w str) -> Wish<'w> {
    Wish { cluster, database: DATABASE, pool_size, mutant: None, more }
}

fn with_proxy(pool_size: u32, proof: impl FnOnce(&Cluster, &mut Inside)) {
    let _turn = alone();
    let cluster = cluster::fifteen();
    cluster.create_filled_database(DATABASE);
    proof(cluster, &mut Inside::start(&wish(cluster, pool_size, "")));
}

fn database() -> Option<std::sync::Arc<str>> {
    Some(DATABASE.into())
}

fn tenant(text: &str) -> TenantId {
    TenantId::parse(TenantKind::Uuid, text).unwrap()
}

/// The code of the FATAL that ends a session, which nothing follows.
fn last_words(client: &mut Client) -> String {
    client.last_words().chars().take(5).collect()
}

fn refusal(target: &Target) -> String {
    let client = Client::try_connect(target).expect("a refusal is said");
    let error = client.startup.iter().find(|reply| reply.tag == b'E').expect("a refusal");
    error.fields()[&'M'].chars().take(5).collect()
}

fn is_waiting(proxy: &Inside, tenant: &TenantId) -> bool {
    let rows = proxy.operations().clients();
    rows.iter().any(|row| row.tenant.as_ref() == Some(tenant) && row.state == ClientState::Waiting)
}

/// Connections of the proxy, as the server sees them.
fn server_processes(cluster: &Cluster) -> Vec<String> {
    let sql = "SELECT pid FROM pg_stat_activity WHERE usename = 'app_user' AND datname = current_database() ORDER BY 1";
    cluster.admin(DATABASE).rows(sql).into_iter().map(|row| row[0].clone().unwrap()).collect()
}

#[test]
fn a_pause_waits_for_transactions_closes_servers_and_fails_nobody() {
    with_proxy(2, |cluster, proxy| {
        let mut busy = Client::connect(&proxy.target(ACME));
        let mut idle = Client::connect(&proxy.target(GLOBEX));
        idle.run("SELECT 1");
        busy.run("BEGIN; INSERT INTO plain (id) VALUES (1)");
        let pause = proxy.begin(Command::Pause(database()));
        eventually("the pause begins", || proxy.operations().pools().iter().any(|row| row.is_paused));
        let mut waiting = Client::connect_later(&proxy.target(GLOBEX), "SELECT count(*) FROM items");
        eventually("a client waits", || is_waiting(proxy, &tenant(GLOBEX)));
        assert!(!pause.is_finished());
        busy.run("INSERT INTO plain (id) VALUES (2)");
        busy.run("COMMIT");
        proxy.outcome(pause).unwrap();
        eventually("no server is left", || server_processes(cluster).is_empty());
        assert!(proxy.operations().servers().is_empty());
        assert!(proxy.operations().databases().iter().any(|row| row.is_paused && &*row.name == DATABASE));
        assert!(is_waiting(proxy, &tenant(GLOBEX)));
        proxy.perform(Command::Resume(database())).unwrap();
        let (replies, silence) = waiting.replies_to(b'Z');
        assert_eq!(silence, None, "{replies:?}");
        assert!(replies.iter().all(|reply| reply.tag != b'E'), "{replies:?}");
        assert_eq!(busy.value("SELECT count(*) FROM plain"), "2");
        let again = proxy.perform(Command::Resume(database())).unwrap_err();
        assert_eq!(again.code, Some(Code::CommandRefused));
        let unknown = proxy.perform(Command::Pause(Some("nowhere".into()))).unwrap_err();
        assert_eq!(unknown.code, Some(Code::DatabaseUnknown));
    });
}

#[test]
fn a_pause_that_is_ended_early_is_not_confirmed() {
    with_proxy(1, |_, proxy| {
        let mut busy = Client::connect(&proxy.target(ACME));
        busy.run("BEGIN; SELECT 1");
        let pause = proxy.begin(Command::Pause(None));
        eventually("the pause begins", || proxy.operations().state() == "paused");
        proxy.perform(Command::Resume(None)).unwrap();
        assert_eq!(proxy.outcome(pause).unwrap_err().code, Some(Code::CommandRefused));
        assert_eq!(proxy.operations().state(), "active");
        busy.run("COMMIT");
    });
}

/// A reload opens a pool for a database that is on hold: it is on hold, too.
#[test]
fn a_pause_outlasts_a_reload() {
    with_proxy(1, |_, proxy| {
        let mut client = Client::connect(&proxy.target(ACME));
        proxy.perform(Command::Pause(database())).unwrap();
        proxy.edit("[roles.app]", "[roles.second]\nuser = \"app_user\"\n[roles.app]");
        proxy.reload_with("server = \"main\"\nrole = \"app\"", "server = \"main\"\nrole = \"second\"");
        client.send(&Message::Query("SELECT 1".to_owned())).flush().unwrap();
        eventually("the client waits", || is_waiting(proxy, &tenant(ACME)));
        proxy.perform(Command::Resume(database())).unwrap();
        let (replies, silence) = client.replies_to(b'Z');
        assert_eq!(silence, None);
        assert!(replies.iter().all(|reply| reply.tag != b'E'), "{replies:?}");
    });
}

#[test]
fn a_kill_drops_everybody_and_newcomers_wait() {
    with_proxy(3, |cluster, proxy| {
        let mut idle = Client::connect(&proxy.target(ACME));
        let mut busy = Client::connect(&proxy.target(ACME));
        busy.run("BEGIN; INSERT INTO plain (id) VALUES (1)");
        let mut long = Client::connect_later(&proxy.target(GLOBEX), LONG);
        eventually("the long one runs", || server_runs(cluster, "INSERT INTO plain"));
        proxy.perform(Command::Kill(database())).unwrap();
        for client in [&mut idle, &mut busy, &mut long] {
            assert_eq!(last_words(client), "TG071");
        }
        eventually("what ran was cancelled", || server_processes(cluster).is_empty());
        let mut newcomer = Client::connect_later(&proxy.target(ACME), "SELECT count(*) FROM plain");
        eventually("the newcomer waits", || is_waiting(proxy, &tenant(ACME)));
        proxy.perform(Command::Resume(None)).unwrap();
        let (replies, silence) = newcomer.replies_to(b'Z');
        assert_eq!(silence, None);
        let row = replies.iter().find(|reply| reply.tag == b'D').unwrap();
        assert_eq!(row.row(), [Some("0".to_owned())], "what was open was rolled back");
    });
}

fn server_runs(cluster: &Cluster, sql: &str) -> bool {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND datname = current_database() AND \
         query LIKE '%{sql}%'"
    );
    // This very statement is one of them.
    cluster.admin(DATABASE).value(&sql) == "2"
}

/// Whoever waits gets an idle server when the one it waited for is gone; that one may have died meanwhile, too.
#[test]
fn a_dead_server_is_noticed_by_whoever_waited_as_well() {
    let _turn = alone();
    let cluster = cluster::fifteen();
    cluster.create_filled_database(DATABASE);
    let proxy = Inside::start(&wish(cluster, 2, "[limits.tenant]\nleases_max = 1\n"));
    let mut holder = Client::connect(&proxy.target(ACME));
    let mut rival = Client::connect(&proxy.target(ACME));
    let mut other = Client::connect(&proxy.target(GLOBEX));
    holder.run("BEGIN");
    let busy = holder.value("SELECT pg_backend_pid()");
    let idle = other.value("SELECT pg_backend_pid()");
    assert_ne!(busy, idle);
    rival.send(&Message::Query("SELECT count(*) FROM items".to_owned())).flush().unwrap();
    eventually("the rival waits", || is_waiting(&proxy, &tenant(ACME)));
    for process in [&idle, &busy] {
        cluster.admin(DATABASE).run(&format!("SELECT pg_terminate_backend({process})"));
        eventually("the server is gone", || !server_processes(cluster).contains(process));
    }
    let (replies, silence) = rival.replies_to(b'Z');
    assert_eq!(silence, None, "{replies:?}");
    let row = replies.iter().find(|reply| reply.tag == b'D').unwrap_or_else(|| panic!("{replies:?}"));
    assert_eq!(row.row(), [Some("3".to_owned())]);
}

#[test]
fn one_client_is_killed_and_no_other() {
    with_proxy(2, |_, proxy| {
        let mut acme = Client::connect(&proxy.target(ACME));
        let mut globex = Client::connect(&proxy.target(GLOBEX));
        acme.run("BEGIN; SELECT 1");
        let rows = proxy.operations().clients();
        let row = rows.iter().find(|row| row.tenant == Some(tenant(ACME))).unwrap();
        assert_eq!((row.state, &*row.login, &*row.database), (ClientState::Active, "app_user", DATABASE));
        assert!(row.server.is_some() && row.port > 0 && row.local_port == proxy.address.port());
        proxy.perform(Command::KillClient(row.process_id)).unwrap();
        assert_eq!(last_words(&mut acme), "TG071");
        globex.run("SELECT 1");
        let gone = || proxy.perform(Command::KillClient(row.process_id)).is_err();
        eventually("the client has left the registry", gone);
    });
}

#[test]
fn servers_are_replaced_when_they_are_free() {
    with_proxy(2, |cluster, proxy| {
        let mut busy = Client::connect(&proxy.target(ACME));
        let mut other = Client::connect(&proxy.target(GLOBEX));
        busy.run("BEGIN; INSERT INTO plain (id) VALUES (1)");
        other.run("SELECT 1");
        let before = server_processes(cluster);
        assert_eq!(before.len(), 2);
        proxy.perform(Command::Reconnect(None)).unwrap();
        other.run("SELECT 1");
        let servers = proxy.operations().servers();
        assert_eq!(servers.iter().filter(|row| row.close_needed).count(), 1, "{servers:?}");
        busy.run("COMMIT");
        busy.run("SELECT 1");
        eventually("all are new", || server_processes(cluster).iter().all(|process| !before.contains(process)));
    });
}

// -- freeze

fn reason(text: &str) -> FreezeReason {
    FreezeReason::parse(text).unwrap()
}

fn freeze(proxy: &Inside, whom: &str) {
    proxy.perform(Command::Freeze { tenant: tenant(whom), reason: reason("a leak") }).unwrap();
}

fn state(folder: &Path) -> String {
    format!("[state]\nfolder = \"{}\"\n", folder.display())
}

#[test]
fn a_freeze_ends_a_tenant_at_once_and_survives_a_restart() {
    let _turn = alone();
    let cluster = cluster::fifteen();
    cluster.create_filled_database(DATABASE);
    let folder = tempfile::tempdir().unwrap();
    let more = state(folder.path());
    let proxy = Inside::start(&wish(cluster, 3, &more));
    let mut idle = Client::connect(&proxy.target(ACME));
    let mut busy = Client::connect(&proxy.target(ACME));
    let mut other = Client::connect(&proxy.target(GLOBEX));
    busy.run("BEGIN; INSERT INTO plain (id) VALUES (1)");
    let mut long = Client::connect_later(&proxy.target(ACME), LONG);
    eventually("the long one runs", || server_runs(cluster, "INSERT INTO plain"));
    other.run("BEGIN; INSERT INTO plain (id) VALUES (3)");
    // A second proxy would overwrite what this one has frozen.
    let second = Inside::try_start(&wish(cluster, 1, &more)).err().map(|fault| fault.to_string());
    assert!(second.as_ref().is_some_and(|said| said.contains("another proxy uses it")), "{second:?}");
    freeze(&proxy, ACME);
    for client in [&mut idle, &mut busy, &mut long] {
        assert_eq!(last_words(client), "TG072");
    }
    other.run("COMMIT");
    assert_eq!(refusal(&proxy.target(ACME)), "TG072");
    assert_eq!(refusal(&proxy.login("acme_app", "demo")), "TG072");
    // A client has heard its last words a moment before its task is gone.
    eventually("nobody of it is left", || proxy.operations().tenants().iter().all(|row| !row.is_frozen));
    eventually("what ran was cancelled", || !server_runs(cluster, "INSERT INTO plain"));
    assert_eq!(other.value("SELECT count(*) FROM plain"), "1");
    drop(proxy);

    let proxy = Inside::start(&wish(cluster, 2, &more));
    assert_eq!(refusal(&proxy.target(ACME)), "TG072");
    Client::connect(&proxy.target(GLOBEX)).run("SELECT 1");
    let frozen = proxy.operations().frozen();
    assert_eq!((frozen.len(), &*frozen[0].reason, &*frozen[0].by), (1, "a leak", "ops"));
    assert!(frozen[0].at.ends_with('Z') && frozen[0].at.len() == 20, "{}", frozen[0].at);
    let again = |command| proxy.perform(command).unwrap_err().code;
    assert_eq!(again(Command::Thaw { tenant: tenant(GLOBEX), reason: reason("x") }), Some(Code::CommandRefused));
    proxy.perform(Command::Thaw { tenant: tenant(ACME), reason: reason("it was nothing") }).unwrap();
    Client::connect(&proxy.target(ACME)).run("SELECT 1");
    drop(proxy);
    Client::connect(&Inside::start(&wish(cluster, 2, &more)).target(ACME)).run("SELECT 1");
}

/// The ledger's lines, after checking that they are numbered without a gap: kind, tenant, reason of each.
fn acts(ledger: &Path) -> Vec<(String, String, String)> {
    let text = std::fs::read_to_string(ledger).unwrap_or_default();
    // Those about the ledger itself have the proxy's version.
    let acts = text.lines().filter(|line| !line.contains("\"version\"")).map(|line| {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        let word = |name: &str| record[name].as_str().unwrap().to_owned();
        assert_eq!((word("login").as_str(), record["v"].as_u64()), ("ops", Some(3)), "{line}");
        assert!(!word("address").is_empty() && word("at").ends_with('Z') && word("id").len() == 36, "{line}");
        (word("kind"), word("tenant"), word("reason"))
    });
    acts.collect()
}

#[test]
fn a_freeze_and_a_thaw_are_in_the_ledger() {
    let _turn = alone();
    let cluster = cluster::fifteen();
    cluster.create_filled_database(DATABASE);
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    let ledger = inner.join("ledger.jsonl");
    let more = format!("{}[ledger]\npath = \"{}\"\n", state(folder.path()), ledger.display());
    let frozen = ("freeze".to_owned(), ACME.to_owned(), "a leak".to_owned());
    let thaw = |tenant_of: &str, why: &str| Command::Thaw { tenant: tenant(tenant_of), reason: reason(why) };

    let proxy = Inside::start(&wish(cluster, 2, &more));
    freeze(&proxy, ACME);
    assert_eq!(acts(&ledger), std::slice::from_ref(&frozen));
    // What is not done is not recorded.
    assert_eq!(proxy.perform(thaw(GLOBEX, "x")).unwrap_err().code, Some(Code::CommandRefused));
    assert_eq!(acts(&ledger).len(), 1);
    assert!(proxy.operations().bypasses().is_empty());
    drop(proxy);

    // A ledger that cannot be written keeps nobody from freezing, and everybody from thawing.
    let kept = std::fs::read(&ledger).unwrap();
    let proxy = Inside::start(&wish(cluster, 2, &more));
    std::fs::remove_dir_all(&inner).unwrap();
    assert_eq!(proxy.perform(thaw(ACME, "new keys")).unwrap_err().code, Some(Code::LedgerUnavailable));
    assert_eq!(refusal(&proxy.target(ACME)), "TG072");
    freeze(&proxy, GLOBEX);
    assert_eq!(refusal(&proxy.target(GLOBEX)), "TG072");
    std::fs::create_dir(&inner).unwrap();
    std::fs::write(&ledger, kept).unwrap();
    proxy.perform(thaw(ACME, "new keys")).unwrap();
    Client::connect(&proxy.target(ACME)).run("SELECT 1");
    // The freeze that could not be written is, as soon as it can.
    let late = ("freeze".to_owned(), GLOBEX.to_owned(), "a leak".to_owned());
    let thawed = ("thaw".to_owned(), ACME.to_owned(), "new keys".to_owned());
    assert_eq!(acts(&ledger), [frozen, late, thawed]);
    drop(proxy);

    let proxy = Inside::start(&wish(cluster, 2, &more));
    assert_eq!(refusal(&proxy.target(GLOBEX)), "TG072");
    proxy.perform(thaw(GLOBEX, "it was 'nothing'")).unwrap();
    let numbers = std::fs::read_to_string(&ledger).unwrap();
    let numbers: Vec<_> = numbers.lines().map(|line| line.split("\"seq\":").nth(1).unwrap().as_bytes()[0]).collect();
    // 3, the record of a start, was lost with the folder: the numbers say so.
    assert_eq!(numbers, b"1245678");
    assert_is_listed(&ledger);
}

fn assert_is_listed(ledger: &Path) {
    let list = |more: &[&str]| {
        let mut command = std::process::Command::new(crate::support::proxy::binary());
        let output =
            command.args(["ledger", "list", "--ledger"]).arg(ledger).args(more).env("COLUMNS", "400").output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let table = list(&[]);
    for wanted in ["frozen", "thawed", "a leak", "FREEZE TENANT", "THAW TENANT", "ops", ACME] {
        assert!(table.contains(wanted), "{wanted} in\n{table}");
    }
    let rows = list(&["--json"]);
    let last: serde_json::Value = serde_json::from_str(rows.lines().last().unwrap()).unwrap();
    assert_eq!((&last["kind"], &last["tenant"]), (&"thaw".into(), &GLOBEX.into()), "{last}");
    assert_eq!(rows.lines().count(), 4);
}

#[test]
fn nobody_is_let_in_on_a_guess_about_who_is_frozen() {
    let _turn = alone();
    let cluster = cluster::fifteen();
    cluster.create_filled_database(DATABASE);
    let folder = tempfile::tempdir().unwrap();
    let more = state(folder.path());
    let proxy = Inside::start(&wish(cluster, 1, &more));
    freeze(&proxy, ACME);
    drop(proxy);
    let file = folder.path().join("frozen-tenants.json");
    let whole = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    assert!(matches!(Inside::try_start(&wish(cluster, 1, &more)), Err(StartFault::Freeze(_))));
    let proxy = Inside::start(&wish(cluster, 1, ""));
    let fault = proxy.perform(Command::Freeze { tenant: tenant(ACME), reason: reason("a leak") }).unwrap_err();
    assert_eq!(fault.code, Some(Code::StateMissing));
    Client::connect(&proxy.target(ACME)).run("SELECT 1");
}

// -- the end

#[test]
fn the_registry_leaves_nothing_behind() {
    with_proxy(2, |cluster, proxy| {
        for round in 0..60 {
            let mut client = Client::connect(&proxy.target(if round % 2 == 0 { ACME } else { GLOBEX }));
            match round % 4 {
                0 => drop(client),
                1 => client.bye(),
                2 => drop(Client::connect_later(&proxy.target(ACME), LONG.replace("20000", "300").as_str())),
                _ => {
                    client.run("BEGIN; SELECT 1");
                    proxy.perform(Command::Kill(database())).unwrap();
                    assert_eq!(last_words(&mut client), "TG071");
                    proxy.perform(Command::Resume(database())).unwrap();
                }
            }
        }
        eventually("all clients are gone", || proxy.operations().clients().is_empty());
        proxy.perform(Command::Pause(None)).unwrap();
        eventually("all servers are gone", || proxy.operations().servers().is_empty());
        eventually("PostgreSQL sees none either", || server_processes(cluster).is_empty());
        let rows = proxy.operations().pools();
        assert!(rows.iter().all(|row| row.servers == Default::default() && row.clients_idle == 0), "{rows:?}");
    });
}

#[test]
fn an_end_may_wait_for_clients_and_be_hurried() {
    with_proxy(2, |_, proxy| {
        let mut busy = Client::connect(&proxy.target(ACME));
        let mut idle = Client::connect(&proxy.target(GLOBEX));
        idle.run("SELECT 1");
        busy.run("BEGIN; INSERT INTO plain (id) VALUES (1)");
        proxy.perform(Command::Shutdown(ShutdownMode::WaitForClients)).unwrap();
        eventually("the door is closed", || proxy.operations().state() == "draining");
        idle.run("SELECT 1");
        proxy.signal(ShutdownMode::WaitForServers);
        assert_eq!(last_words(&mut idle), "TG054");
        busy.run("SELECT 1");
        assert!(proxy.is_running());
        proxy.signal(ShutdownMode::WaitForServers);
        assert_eq!(last_words(&mut busy), "TG054");
        proxy.wait_until_it_ends();
        assert_eq!(cluster::fifteen().admin(DATABASE).value("SELECT count(*) FROM plain"), "0");
    });
}

#[test]
fn an_end_that_waits_for_clients_comes_with_the_last_one() {
    with_proxy(2, |_, proxy| {
        let mut client = Client::connect(&proxy.target(ACME));
        proxy.perform(Command::Shutdown(ShutdownMode::WaitForClients)).unwrap();
        client.run("BEGIN; INSERT INTO plain (id) VALUES (1)");
        client.run("COMMIT");
        client.bye();
        proxy.wait_until_it_ends();
    });
}

#[test]
fn sigquit_does_not_wait_and_systemd_is_told_everything() {
    let _turn = alone();
    let cluster = cluster::fifteen();
    cluster.create_filled_database(DATABASE);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    let next = || {
        let mut buffer = [0; 512];
        let count = socket.recv(&mut buffer).expect("the service manager is told something");
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    };
    let until = |wanted: &str| {
        let mut told = next();
        for _ in 0..100 {
            if told.trim() != "WATCHDOG=1" || told.trim() == wanted {
                break;
            }
            told = next();
        }
        told
    };
    let environment = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "400000")];
    let mut console =
        "[console]\nadmins = [\"ops\"]\n[logins.ops]\npassword = \"demo\"\npreset = \"console\"\n".to_owned();
    // Keys are derived from passwords: a reload takes long enough to be cancelled.
    for number in 0..40 {
        write!(console, "[logins.extra{number}]\npassword = \"demo\"\ntenant.fixed = \"{ACME}\"\n").unwrap();
    }
    let mut proxy = Proxy::start_in(&wish(cluster, 1, &console), &environment);
    assert_eq!(until("READY=1").trim(), "READY=1");
    assert_eq!(until("WATCHDOG=1").trim(), "WATCHDOG=1");
    assert!(proxy.reload());
    let reloading = until("RELOADING=1");
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(until("READY=1").trim(), "READY=1");
    // A reload that is cancelled is over, too.
    for _ in 0..10 {
        let mut console = Client::connect(&Target::new(proxy.address, "ops", "tenantgate").password("demo"));
        console.send(&Message::Query("RELOAD".into())).flush().unwrap();
        assert!(until("RELOADING=1").starts_with("RELOADING=1"));
        console.cancel();
        assert_eq!(until("READY=1").trim(), "READY=1");
    }
    let mut busy = Client::connect(&proxy.target(ACME));
    busy.run("BEGIN; INSERT INTO plain (id) VALUES (1)");
    proxy.signal("QUIT");
    assert_eq!(until("STOPPING=1").trim(), "STOPPING=1");
    assert_eq!(last_words(&mut busy), "TG054");
    assert!(proxy.wait_until_it_ends(Duration::from_secs(10)).is_some_and(|status| status.success()));
}
