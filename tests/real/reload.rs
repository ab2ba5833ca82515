//! A configuration that changes under running sessions: what changes, when, and what never does.

use crate::support::alone;
use crate::support::cluster::{self, Cluster};
use crate::support::inside::Inside;
use crate::support::message::Message;
use crate::support::proxy::{Proxy, Wish};
use crate::support::raw::{Client, Target};
use rustls::ClientConnection;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tenantgate::admin::{Command, Operations as _};
use tenantgate::driver::tls::{Verification, server_side};
use tenantgate::fault::Code;
use tenantgate::pool::PoolCounts;

const DATABASE: &str = "reloads";
const ACME: &str = "00000000-0000-0000-0000-00000000000a";
const GLOBEX: &str = "00000000-0000-0000-0000-00000000000b";

fn with_proxy(cluster: &Cluster, pool_size: u32, proof: impl FnOnce(&Inside)) {
    let _turn = alone();
    cluster.create_filled_database(DATABASE);
    proof(&Inside::start(&Wish { cluster, database: DATABASE, pool_size, mutant: None, more: "" }));
}

fn refusal(target: &Target) -> String {
    let client = Client::try_connect(target).expect("a refusal is said");
    let error = client.startup.iter().find(|reply| reply.tag == b'E').expect("a refusal");
    error.fields()[&'M'].clone()
}

/// The counts of the pool that `app_user` uses.
fn servers(proxy: &Inside) -> PoolCounts {
    let rows = proxy.operations().pools();
    let row = rows.iter().find(|row| &*row.database == DATABASE && &*row.login == "app_user");
    row.expect("a pool").servers
}

/// The code in front of a statement's error.
fn error_code(client: &mut Client, sql: &str) -> String {
    let replies = client.query(sql);
    let error = replies.iter().find(|reply| reply.tag == b'E').unwrap_or_else(|| panic!("{sql:?} was allowed"));
    error.fields()[&'M'].chars().take(5).collect()
}

#[test]
fn logins_come_and_go_between_transactions() {
    with_proxy(cluster::fifteen(), 4, |proxy| {
        let mut idle = Client::connect(&proxy.login("acme_app", "demo"));
        let mut busy = Client::connect(&proxy.login("acme_app", "demo"));
        let mut other = Client::connect(&proxy.target(GLOBEX));
        idle.run("SELECT 1");
        busy.run("BEGIN; INSERT INTO plain (id) VALUES (1)");
        let newcomer = "[logins.newcomer]\npassword = \"new\"\n[logins.newcomer.tenant]\nfixed = ";
        proxy.reload_with("[logins.acme_app]\npassword = \"demo\"\n[logins.acme_app.tenant]\nfixed = ", newcomer);
        assert!(idle.last_words().starts_with("TG070: "));
        busy.run("INSERT INTO plain (id) VALUES (2)");
        busy.run("COMMIT");
        assert!(busy.last_words().starts_with("TG070: "));
        assert_eq!(other.value("SELECT count(*) FROM items"), "2");
        assert!(refusal(&proxy.login("acme_app", "demo")).contains("password authentication failed"));
        let mut new = Client::connect(&proxy.login("newcomer", "new"));
        assert_eq!(new.value("SELECT count(*) FROM plain"), "2");
    });
}

#[test]
fn a_new_password_ends_the_sessions_of_the_old_one_and_no_others() {
    with_proxy(cluster::fifteen(), 4, |proxy| {
        let mut old = Client::connect(&proxy.login("acme_app", "demo"));
        let mut other = Client::connect(&proxy.login(&format!("picky.{ACME}"), "demo"));
        old.run("SELECT 1");
        let login = |password: &str| format!("[logins.acme_app]\npassword = \"{password}\"");
        proxy.reload_with(&login("demo"), &login("changed"));
        assert!(old.last_words().starts_with("TG070: "));
        assert_eq!(other.value("SELECT count(*) FROM items"), "3");
        assert!(refusal(&proxy.login("acme_app", "demo")).contains("password authentication failed"));
        let mut new = Client::connect(&proxy.login("acme_app", "changed"));
        assert_eq!(new.value("SELECT count(*) FROM items"), "3");
        // A tenant taken off the list ends its sessions, too.
        let allowed = |tenant: &str| format!("from = [\"suffix\"]\nallowed = [\"{tenant}\"]");
        proxy.reload_with(&allowed(ACME), &allowed(GLOBEX));
        assert!(other.last_words().starts_with("TG070: "));
        assert_eq!(new.value("SELECT count(*) FROM items"), "3");
    });
}

fn rules_change_between_transactions(cluster: &Cluster) {
    with_proxy(cluster, 2, |proxy| {
        let mut client = Client::connect(&proxy.target(ACME));
        client.send_all(&[Message::parse("s", "SET work_mem = '1MB'"), Message::Sync]);
        client.flush().unwrap();
        assert_eq!(client.replies_to(b'Z').1, None);
        client.run("BEGIN; SELECT 1");
        proxy.reload_with("settings_allowed = [\"work_mem\"]", "settings_allowed = [\"maintenance_work_mem\"]");
        client.run("SET LOCAL work_mem = '2MB'");
        assert_eq!(error_code(&mut client, "SET LOCAL maintenance_work_mem = 2048"), "TG013");
        client.run("ROLLBACK");
        assert_eq!(error_code(&mut client, "SET work_mem = '2MB'"), "TG013");
        client.run("SET maintenance_work_mem = 2048");
        // What was prepared under the old rules is judged again.
        client.send_all(&[Message::bind("s", &[]), Message::execute(), Message::Sync]);
        client.flush().unwrap();
        let (replies, _) = client.replies_to(b'Z');
        let error = replies.iter().find(|reply| reply.tag == b'E').expect("a refusal");
        assert!(error.fields()[&'M'].starts_with("TG013: "), "{replies:?}");
        assert_eq!(client.value("SELECT count(*) FROM items"), "3");
    });
}

#[test]
fn rules_change_between_transactions_on_15() {
    rules_change_between_transactions(cluster::fifteen());
}

#[test]
fn rules_change_between_transactions_on_18() {
    if let Some(cluster) = cluster::eighteen() {
        rules_change_between_transactions(cluster);
    }
}

/// The scope statement is prepared on every server: none that has the old one may serve the new rules.
fn another_scope_setting_counts_on_every_server(cluster: &Cluster) {
    with_proxy(cluster, 2, |proxy| {
        let mut clients: Vec<Client> = (0..4).map(|_| Client::connect(&proxy.target(ACME))).collect();
        let mut busy = Client::connect(&proxy.target(GLOBEX));
        busy.run("BEGIN; SELECT count(*) FROM items");
        for client in &mut clients {
            client.run("SELECT 1");
        }
        let settings = "[scope.settings]\n\"app.other\" = \"{tenant}\"\n\"app.tenant_id\" = \"{tenant}\"\n\n[guard]";
        proxy.reload_with("[guard]", settings);
        assert_eq!(busy.value("SELECT count(*) FROM items"), "2");
        busy.run("COMMIT");
        for client in clients.iter_mut() {
            let sql = "SELECT current_setting('app.other') || count(*) FROM items";
            assert_eq!(client.value(sql), format!("{ACME}3"));
            client.send_all(&[Message::parse("", sql), Message::bind("", &[]), Message::execute(), Message::Sync]);
            client.flush().unwrap();
            let (replies, _) = client.replies_to(b'Z');
            let row = replies.iter().find(|reply| reply.tag == b'D').unwrap_or_else(|| panic!("{replies:?}"));
            assert_eq!(row.row(), [Some(format!("{ACME}3"))]);
        }
        assert_eq!(busy.value("SELECT current_setting('app.other')"), GLOBEX);
    });
}

#[test]
fn another_scope_setting_counts_on_every_server_of_15() {
    another_scope_setting_counts_on_every_server(cluster::fifteen());
}

#[test]
fn another_scope_setting_counts_on_every_server_of_18() {
    if let Some(cluster) = cluster::eighteen() {
        another_scope_setting_counts_on_every_server(cluster);
    }
}

#[test]
fn a_pool_grows_at_once_and_shrinks_as_servers_come_free() {
    with_proxy(cluster::fifteen(), 1, |proxy| {
        let mut holder = Client::connect(&proxy.target(ACME));
        holder.run("BEGIN; SELECT 1");
        let mut waiting = Client::connect_later(&proxy.target(GLOBEX), "BEGIN; SELECT 1");
        proxy.reload_with("size = 1", "size = 2");
        assert_eq!(waiting.replies_to(b'Z').1, None);
        proxy.reload_with("size = 2", "size = 1");
        assert_eq!(servers(proxy).leased, 2);
        waiting.run("COMMIT");
        assert_eq!(servers(proxy).leased, 1);
        assert_eq!(servers(proxy).idle, 0);
        holder.run("COMMIT");
        assert_eq!(proxy.operations().servers().len(), 1);
    });
}

#[test]
fn another_role_counts_from_the_next_transaction_on() {
    with_proxy(cluster::fifteen(), 2, |proxy| {
        let mut idle = Client::connect(&proxy.target(GLOBEX));
        let mut busy = Client::connect(&proxy.target(ACME));
        assert_eq!(idle.value("SELECT current_user"), "app_user");
        busy.run("BEGIN; SELECT 1");
        proxy.reload_with("user = \"app_user\"", "user = \"scram_user\"\npassword = \"geheim\"");
        assert_eq!(idle.value("SELECT current_user"), "scram_user");
        assert_eq!(busy.value("SELECT current_user"), "app_user");
        busy.run("COMMIT");
        assert_eq!(busy.value("SELECT current_user"), "scram_user");
        let users: Vec<_> = proxy.operations().servers().iter().map(|row| row.close_needed).collect();
        assert!(users.iter().all(|close_needed| !close_needed), "{users:?}");
        // A role of the login's own: another pool, and its sessions move there.
        busy.run("BEGIN; SELECT 1");
        proxy.edit("[roles.app]", "[roles.second]\nuser = \"app_user\"\n[roles.app]");
        proxy.reload_with("[logins.app_user]", "[logins.app_user]\nrole = \"second\"");
        assert_eq!(idle.value("SELECT current_user"), "app_user");
        assert_eq!(busy.value("SELECT current_user"), "scram_user");
        busy.run("COMMIT");
        assert_eq!(busy.value("SELECT current_user"), "app_user");
    });
}

/// Clients that wait in the queue of a pool that goes away get a server of the one that comes.
#[test]
fn those_who_wait_move_to_the_pool_that_replaces_theirs() {
    with_proxy(cluster::fifteen(), 1, |proxy| {
        let mut holder = Client::connect(&proxy.target(ACME));
        holder.run("BEGIN; SELECT 1");
        let mut waiting = Client::connect_later(&proxy.target(GLOBEX), "SELECT current_user");
        proxy.edit("[roles.app]", "[roles.second]\nuser = \"scram_user\"\npassword = \"geheim\"\n[roles.app]");
        proxy.reload_with("server = \"main\"\nrole = \"app\"", "server = \"main\"\nrole = \"second\"");
        let (replies, silence) = waiting.replies_to(b'Z');
        assert_eq!(silence, None);
        let row = replies.iter().find(|reply| reply.tag == b'D').unwrap_or_else(|| panic!("{replies:?}"));
        assert_eq!(row.row(), [Some("scram_user".to_owned())]);
        assert_eq!(holder.value("SELECT current_user"), "app_user");
        holder.run("COMMIT");
        assert_eq!(holder.value("SELECT current_user"), "scram_user");
    });
}

#[test]
fn what_is_wrong_is_named_and_nothing_changes() {
    with_proxy(cluster::fifteen(), 2, |proxy| {
        let mut client = Client::connect(&proxy.target(ACME));
        proxy.edit("size = 2", "size = 0\nsise = 1");
        proxy.edit("[logins.picky]\npassword = \"demo\"", "[logins.picky]\npassword = \"other\"");
        let fault = proxy.perform(Command::Reload).unwrap_err();
        assert_eq!(fault.code, Some(Code::ReloadFailed));
        let detail = fault.detail.unwrap_or_default();
        for wanted in ["pool.size (line ", "pool.sise (line "] {
            assert!(detail.contains(wanted), "{wanted:?} is not in {detail:?}");
        }
        assert_eq!(client.value("SELECT count(*) FROM items"), "3");
        Client::connect(&proxy.login(&format!("picky.{ACME}"), "demo")).run("SELECT 1");
        // What the system has to say is a problem like others.
        proxy.edit("size = 0\nsise = 1", "size = 2");
        proxy.edit(
            "[servers.main.tls]\nmode = \"disable\"",
            "[servers.main.tls]\nmode = \"verify-full\"\nca = \"none\"",
        );
        let fault = proxy.perform(Command::Reload).unwrap_err();
        assert!(fault.detail.unwrap_or_default().contains("servers.main.tls.ca (line "));
        assert_eq!(client.value("SELECT count(*) FROM items"), "3");
        let shown = proxy.operations().config();
        let size = shown.iter().find(|row| &*row.key == "pool.size").map(|row| (&*row.value, row.is_changeable));
        assert_eq!(size, Some(("2", true)));
    });
}

#[test]
fn places_of_clients_are_resized() {
    with_proxy(cluster::fifteen(), 2, |proxy| {
        let mut clients: Vec<Client> = (0..3).map(|_| Client::connect(&proxy.target(ACME))).collect();
        proxy.reload_with("client_connections_max = 2000", "client_connections_max = 3");
        assert!(refusal(&proxy.target(ACME)).starts_with("TG043: "));
        proxy.reload_with("client_connections_max = 3", "client_connections_max = 4");
        clients.push(Client::connect(&proxy.target(GLOBEX)));
        for client in &mut clients {
            client.run("SELECT 1");
        }
        assert_eq!(proxy.operations().clients().len(), 4);
    });
}

// -- the process: SIGHUP, certificates, the log

fn certificate(folder: &Path, name: &str) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let parameters = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("a name");
    let certificate = parameters.self_signed(&key).expect("a certificate");
    std::fs::write(folder.join("server.crt"), certificate.pem()).expect("a file");
    std::fs::write(folder.join("server.key"), key.serialize_pem()).expect("a file");
}

/// The certificate a TLS client is shown.
fn shown_certificate(proxy: &Proxy) -> Vec<u8> {
    let mut tcp = TcpStream::connect(proxy.address).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    tcp.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).unwrap();
    let mut answer = [0];
    tcp.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"S");
    let config = server_side(&Verification::Unverified, None).unwrap();
    let mut tls = ClientConnection::new(Arc::clone(&config), "localhost".try_into().unwrap()).unwrap();
    while tls.is_handshaking() {
        tls.complete_io(&mut tcp).unwrap();
    }
    tls.peer_certificates().unwrap()[0].to_vec()
}

#[test]
fn sighup_swaps_certificates_and_the_log_says_what_needs_a_restart() {
    let _turn = alone();
    let cluster = cluster::fifteen();
    cluster.create_filled_database(DATABASE);
    let folder = tempfile::tempdir().unwrap();
    certificate(folder.path(), "one.example");
    let tls = format!(
        "[tls]\nmode = \"allow\"\ncertificate = \"{0}/server.crt\"\nkey = \"{0}/server.key\"\n",
        folder.path().display()
    );
    let proxy = Proxy::start(&Wish { cluster, database: DATABASE, pool_size: 2, mutant: None, more: "" });
    proxy.edit("[tls]\nmode = \"disable\"\n", &tls);
    assert!(proxy.reload(), "{}", proxy.log_tail());
    let first = shown_certificate(&proxy);
    assert_eq!(shown_certificate(&proxy), first);
    let mut client = Client::connect(&proxy.target(ACME));
    certificate(folder.path(), "two.example");
    proxy.edit("[log]\nlevel = \"info\"", "[log]\nlevel = \"debug\"\n[runtime]\nthreads = 3");
    proxy.edit("login_connections_max = 1000", "login_connections_max = 500");
    assert!(proxy.reload(), "{}", proxy.log_tail());
    let second = shown_certificate(&proxy);
    assert_ne!(second, first);
    let log = proxy.log();
    assert!(log.contains("runtime.threads: the new value needs a restart"), "{log}");
    assert_eq!(client.value("SELECT count(*) FROM items"), "3");
    assert!(proxy.log().contains("DEBUG"), "the log's level was not changed");
    // A key that does not fit its certificate.
    let own = rcgen::KeyPair::generate().unwrap();
    std::fs::write(folder.path().join("server.key"), own.serialize_pem()).unwrap();
    assert!(!proxy.reload(), "{}", proxy.log_tail());
    assert!(proxy.log().contains("tls.key (line 10): cannot be used with the certificate"), "{}", proxy.log_tail());
    assert_eq!(shown_certificate(&proxy), second);
    assert_eq!(client.value("SELECT count(*) FROM items"), "3");
}
