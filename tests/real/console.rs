//! The console and the metrics of a running proxy, as tools see them: psql, psycopg, tokio-postgres, curl's protocol,
//! Debian's prometheus-pgbouncer-exporter.

use crate::support::cluster::{self, Cluster, free_port};
use crate::support::message::Message;
use crate::support::proxy::{Proxy, Wish};
use crate::support::raw::{Client, Target};
use crate::support::watchdog;
use crate::support::{alone, skip};
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const DATABASE: &str = "console";
const ACME: &str = "00000000-0000-0000-0000-00000000000a";

/// A proxy with a console and metrics.
struct Bench {
    proxy: Proxy,
    cluster: &'static Cluster,
    http: SocketAddr,
}

fn bench(more: &str) -> Bench {
    let cluster = cluster::fifteen();
    cluster.create_filled_database(DATABASE);
    let http = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let more = format!(
        "[metrics]\naddress = \"{http}\"\n[console]\nadmins = [\"ops\"]\nstats = [\"watcher\"]\n\
         [logins.ops]\npassword = \"demo\"\npreset = \"console\"\n\
         [logins.watcher]\npassword = \"demo\"\ntenant.fixed = \"{ACME}\"\n{more}"
    );
    let proxy = Proxy::start(&Wish { cluster, database: DATABASE, pool_size: 3, mutant: None, more: &more });
    Bench { proxy, cluster, http }
}

impl Bench {
    fn enter(&self, login: &str) -> Client {
        Client::connect(&Target::new(self.proxy.address, login, "pgbouncer").password("demo"))
    }

    /// A table's rows, by column.
    fn show(&self, table: &str) -> Vec<BTreeMap<String, String>> {
        named(&self.enter("watcher").run(&format!("SHOW {table}")))
    }

    fn get(&self, path: &str) -> String {
        let mut tcp = TcpStream::connect(self.http).unwrap();
        tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(tcp, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).unwrap();
        answer
    }

    /// A series of `/metrics`; absent: 0.
    fn metric(&self, series: &str) -> f64 {
        let text = self.get("/metrics");
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }
}

fn named(replies: &[crate::support::reply::Reply]) -> Vec<BTreeMap<String, String>> {
    let head = replies.iter().find(|reply| reply.tag == b'T').expect("a row description");
    let names = column_names(&head.body);
    let rows = replies.iter().filter(|reply| reply.tag == b'D');
    rows.map(|row| names.iter().cloned().zip(row.row().into_iter().map(Option::unwrap_or_default)).collect()).collect()
}

fn column_names(body: &[u8]) -> Vec<String> {
    let mut rest = &body[2..];
    let mut names = Vec::new();
    while let Some(end) = rest.iter().position(|byte| *byte == 0) {
        names.push(String::from_utf8(rest[..end].to_vec()).unwrap());
        rest = &rest[end + 1 + 18..];
    }
    names
}

#[test]
fn what_clients_do_is_seen_on_the_console_and_in_the_metrics() {
    let _turn = alone();
    let bench = bench("");
    let mut client = Client::connect(&bench.proxy.target(ACME));
    for _ in 0..5 {
        client.run("SELECT count(*) FROM items");
    }
    client.run("BEGIN");
    client.run("SELECT count(*) FROM items");
    let row = bench.show("CLIENTS").into_iter().find(|row| row["user"] == "app_user").unwrap();
    assert_eq!((&*row["state"], &*row["tenant"], &*row["database"]), ("active", ACME, DATABASE));
    let server = bench.show("SERVERS").into_iter().find(|row| row["state"] == "active").unwrap();
    assert_eq!((&server["link"], &server["ptr"]), (&row["ptr"], &row["link"]));
    let pool = bench.show("POOLS").into_iter().find(|row| row["user"] == "app_user" && row["database"] == DATABASE);
    assert_eq!(pool.map(|row| (row["cl_active"].clone(), row["sv_active"].clone())), Some(("1".into(), "1".into())));
    client.run("COMMIT");
    let names = ["a", "a", "b"];
    for name in names {
        client.send(&Message::parse(name, "SELECT count(*) FROM items WHERE id > $1"));
        client.send(&Message::bind(name, &["0"])).send(&Message::execute()).send(&Message::Sync);
        client.flush().unwrap();
        client.replies_to(b'Z');
    }
    client.query("SELECT 1/0");
    client.query("SET ROLE postgres");
    let stats = bench.show("STATS").into_iter().find(|row| row["database"] == DATABASE).unwrap();
    let stat = |name: &str| stats[name].parse::<u64>().unwrap();
    // Five, three in a block, two Executes and an error; the name that was taken is the proxy's own refusal.
    assert_eq!(stat("total_query_count"), 5 + 3 + 2 + 1);
    assert_eq!((stat("total_xact_count"), stat("total_server_assignment_count")), (5 + 1 + 3 + 1, 5 + 1 + 3 + 1));
    // The Bind behind the Parse that failed was sent, and skipped by the server.
    assert_eq!((stat("total_client_parse_count"), stat("total_bind_count")), (2, 3));
    assert_eq!(stat("total_server_parse_count"), 1);
    assert_eq!(stat("total_requests"), stat("total_query_count"));
    assert!(stat("total_received") > 200 && stat("total_sent") > 200);
    assert!(stat("total_xact_time") >= stat("total_query_time") && stat("total_query_time") > 0);
    let label = format!("{{database=\"{DATABASE}\"}}");
    assert_eq!(bench.metric(&format!("tenantgate_transactions_total{label}")), 10.0);
    assert_eq!(bench.metric(&format!("tenantgate_transaction_seconds_count{label}")), 10.0);
    assert_eq!(bench.metric(&format!("tenantgate_scope_seconds_count{label}")), stat("total_scope_count") as f64);
    assert_eq!(bench.metric("tenantgate_refusals_total{code=\"TG012\"}"), 1.0);
    assert_eq!(bench.metric(&format!("tenantgate_tenant_transactions_total{{tenant=\"{ACME}\"}}")), 10.0);
    assert_eq!(bench.metric(&format!("tenantgate_tenant_refusals_total{{tenant=\"{ACME}\"}}")), 1.0);
    assert_eq!(bench.metric("tenantgate_server_connects_total{outcome=\"connected\"}"), 1.0);
    let denial = bench.show("DENIALS").remove(0);
    let seen = ["login", "tenant", "code", "class"].map(|name| denial[name].clone());
    assert_eq!(seen, ["app_user", ACME, "TG012", "setting"]);
    assert!(!bench.get("/metrics").contains(" NaN"));
}

#[test]
fn whoever_is_not_listed_gets_no_console_and_stats_may_only_look() {
    let _turn = alone();
    let bench = bench("");
    for (login, database) in [("acme_app", "pgbouncer"), ("acme_app", "tenantgate")] {
        let client = Client::try_connect(&Target::new(bench.proxy.address, login, database).password("demo")).unwrap();
        assert_eq!(client.startup.last().map(|reply| reply.fields()[&'C'].clone()).as_deref(), Some("3D000"));
    }
    // A login for the console only sees no database.
    let data = Client::try_connect(&Target::new(bench.proxy.address, "ops", DATABASE).password("demo")).unwrap();
    assert_eq!(data.startup.last().map(|reply| reply.fields()[&'C'].clone()).as_deref(), Some("3D000"));
    let wrong = Client::try_connect(&Target::new(bench.proxy.address, "ops", "pgbouncer").password("wrong")).unwrap();
    assert_eq!(wrong.startup.last().map(|reply| reply.fields()[&'C'].clone()).as_deref(), Some("28P01"));
    let mut watcher = bench.enter("watcher");
    for command in ["PAUSE", "RELOAD", "SHUTDOWN", "KILL_CLIENT 1", "FREEZE TENANT 'x' REASON 'y'"] {
        let replies = watcher.query(command);
        assert_eq!(replies[0].fields()[&'C'], "42501", "{command}");
    }
    let config = named(&watcher.run("SHOW CONFIG"));
    let password = config.iter().find(|row| row["key"] == "logins.ops.password").unwrap();
    assert_eq!(password["value"], "<masked>");
    assert!(!config.iter().any(|row| row["value"].contains("demo") && row["key"].contains("password")));
    let refused = bench.show("DENIALS").into_iter().find(|row| row["code"] == "TG040").unwrap();
    assert_eq!((&*refused["login"], &*refused["class"]), ("ops", "login"));
    assert_eq!(bench.metric("tenantgate_refusals_total{code=\"TG045\"}"), 3.0);
}

#[test]
fn an_admin_gets_in_when_all_places_are_taken() {
    let _turn = alone();
    let bench = bench("");
    let clients: Vec<_> = (0..2000).map(|_| Client::connect(&bench.proxy.target(ACME))).collect();
    let refused = Client::try_connect(&bench.proxy.target(ACME)).unwrap();
    assert_eq!(refused.startup.last().map(|reply| reply.fields()[&'C'].clone()).as_deref(), Some("53300"));
    let lists = bench.show("LISTS");
    assert!(lists.iter().any(|row| row["list"] == "used_clients" && row["items"] == "2001"), "{lists:?}");
    drop(clients);
}

#[test]
fn an_admin_pauses_resumes_and_drops_clients() {
    let _turn = alone();
    let bench = bench("");
    let mut ops = bench.enter("ops");
    let mut client = Client::connect(&bench.proxy.target(ACME));
    client.run("SELECT 1");
    ops.run(&format!("PAUSE {DATABASE};"));
    client.send(&Message::Query("SELECT 2".to_owned())).flush().unwrap();
    let paused = named(&ops.run("SHOW DATABASES")).into_iter().find(|row| row["name"] == DATABASE).unwrap();
    assert_eq!(paused["paused"], "1");
    ops.run("RESUME");
    assert!(client.replies_to(b'Z').1.is_none());
    let id = named(&ops.run("SHOW CLIENTS")).into_iter().find(|row| row["user"] == "app_user").unwrap()["id"].clone();
    ops.run(&format!("KILL_CLIENT {id}"));
    let (replies, _) = client.replies_to(b'E');
    assert_eq!(replies.last().map(|reply| reply.fields()[&'C'].clone()).as_deref(), Some("57P01"));
    let mut other = bench.enter("ops");
    let mine = named(&other.run("SHOW CLIENTS"));
    assert_eq!(mine.iter().filter(|row| row["database"] == "pgbouncer").count(), 2);
    let error = ops.query("KILL_CLIENT 2147483647").remove(0);
    assert_eq!(error.fields()[&'C'], "55000");
    // Itself last: nothing behind that is carried out.
    let consoles = mine.iter().filter(|row| row["database"] == "pgbouncer");
    let mut ids: Vec<u32> = consoles.map(|row| row["id"].parse().unwrap()).collect();
    ids.sort_unstable();
    for id in ids {
        other.send(&Message::Query(format!("KILL_CLIENT {id}")));
    }
    other.flush().unwrap();
    for console in [&mut ops, &mut other] {
        assert!(console.replies_to(b'E').1.is_none(), "an admin may be dropped, too");
    }
}

#[test]
fn a_cancel_ends_the_wait_for_a_pause() {
    let _turn = alone();
    let bench = bench("");
    let mut client = Client::connect(&bench.proxy.target(ACME));
    client.run("BEGIN");
    client.run("SELECT count(*) FROM items");
    let mut ops = bench.enter("ops");
    ops.send(&Message::Query("PAUSE".to_owned())).flush().unwrap();
    let deadline = Instant::now() + Duration::from_secs(15);
    while bench.show("DATABASES").iter().any(|row| row["name"] == DATABASE && row["paused"] == "0") {
        assert!(Instant::now() < deadline, "the pause does not begin");
    }
    ops.cancel();
    assert_eq!(ops.replies_to(b'Z').0[0].fields()[&'C'], "57014");
    ops.run("RESUME");
    client.run("COMMIT");
}

/// Sends RELOAD with a PAUSE right behind it: what is said until one of the answers is an error, and whether the
/// pause began.
fn reload_and_pause(bench: &Bench) -> (Vec<crate::support::reply::Reply>, bool) {
    let mut ops = bench.enter("ops");
    for command in ["RELOAD".to_owned(), format!("PAUSE {DATABASE}")] {
        ops.send(&Message::Query(command));
    }
    ops.flush().unwrap();
    let mut replies = ops.replies_to(b'Z').0;
    let next = ops.reply().unwrap();
    replies.push(next);
    let databases = bench.show("DATABASES");
    (replies, databases.iter().any(|row| row["name"] == DATABASE && row["paused"] == "1"))
}

#[test]
fn commands_behind_the_reload_that_takes_the_right_away_are_not_carried_out() {
    let _turn = alone();
    let tags = |replies: &[crate::support::reply::Reply]| -> String {
        replies.iter().map(|reply| char::from(reply.tag)).collect()
    };
    for (from, to) in [
        ("admins = [\"ops\"]\nstats = [\"watcher\"]", "admins = []\nstats = [\"watcher\", \"ops\"]"),
        ("[logins.ops]\npassword = \"demo\"", "[logins.ops]\npassword = \"other\""),
        // Commands would name tenants of the old type.
        ("[guard]", "[scope]\ntenant_type = \"text\"\n[guard]"),
    ] {
        let bench = bench("");
        bench.proxy.edit(from, to);
        let (replies, is_paused) = reload_and_pause(&bench);
        assert_eq!((tags(&replies).as_str(), is_paused), ("CZE", false), "{to}");
        let fields = replies[2].fields();
        assert!(fields[&'V'] == "FATAL" && fields[&'M'].starts_with("TG070"), "{to}: {fields:?}");
    }
    // A reload that leaves the right alone ends nobody.
    let (replies, is_paused) = reload_and_pause(&bench(""));
    assert_eq!((tags(&replies).as_str(), is_paused), ("CZC", true));
}

#[test]
fn a_login_that_a_reload_overtakes_opens_no_console() {
    let _turn = alone();
    let bench = bench("");
    let target = Target::new(bench.proxy.address, "ops", "pgbouncer").password("demo");
    let client = Client::try_connect_during(&target, || {
        bench.proxy.edit("[logins.ops]\npassword = \"demo\"", "[logins.ops]\npassword = \"other\"");
        assert!(bench.proxy.reload(), "{}", bench.proxy.log_tail());
    });
    let startup = client.unwrap().startup;
    let last = startup.last().unwrap();
    assert!(last.tag == b'E' && last.fields()[&'M'].starts_with("TG070"), "{startup:?}");
}

#[test]
fn health_is_one_thing_and_readiness_another() {
    let _turn = alone();
    // Nobody listens on port 1.
    let bench = bench(
        "[servers.gone]\nhost = \"127.0.0.1\"\nport = 1\ntls.mode = \"disable\"\n\
         [databases.gone]\nserver = \"gone\"\nrole = \"app\"\n",
    );
    assert!(bench.get("/healthz").starts_with("HTTP/1.1 200"));
    assert!(bench.get("/readyz").ends_with("\r\n\r\nready\n"));
    let target = Target::new(bench.proxy.address, "acme_app", "gone").password("demo");
    let refused = Client::try_connect(&target).unwrap();
    assert_eq!(refused.startup.last().map(|reply| reply.tag), Some(b'E'));
    let answer = bench.get("/readyz");
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("pool gone/gone/app: the server cannot be reached"), "{answer}");
    assert_eq!(bench.metric("tenantgate_pool_failing{pool=\"gone/gone/app\"}"), 1.0);
    assert_eq!(bench.metric("tenantgate_ready"), 0.0);
    assert!(bench.get("/healthz").starts_with("HTTP/1.1 200"));
}

#[test]
fn psql_and_psycopg_read_the_console() {
    let _turn = alone();
    let bench = bench("");
    let mut psql = bench.cluster.program("psql");
    psql.args(["-X", "-h", "127.0.0.1", "-U", "ops", "-d", "pgbouncer", "-c", "\\x", "-c", "SHOW POOLS"]);
    psql.args(["-c", "show help", "-c", "RELOAD", "-p"]).arg(bench.proxy.address.port().to_string());
    let output = psql.env("PGPASSWORD", "demo").current_dir(std::env::temp_dir()).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    for piece in
        ["load_balance_hosts", "pool_mode", "| statement", "NOTICE:  Console usage", "\tFREEZE {TENANT", "\nRELOAD"]
    {
        assert!(said.contains(piece), "{piece:?}\n{said}");
    }
    let url = format!("host=127.0.0.1 port={} user=ops password=demo dbname=tenantgate", bench.proxy.address.port());
    let script = "import sys, psycopg\n\
        with psycopg.connect(sys.argv[1], autocommit=True) as c:\n\
        \x20   print(c.execute('SHOW VERSION').fetchone()[0])\n\
        \x20   print(dict(c.execute('SHOW LISTS', prepare=True).fetchall())['databases'])\n\
        \x20   print([type(v).__name__ for v in c.execute('SHOW STATS', binary=True).fetchall()[0]][:3])\n";
    let output = Command::new(super::drivers::python("psycopg")).args(["-c", script, &url]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let wanted = format!(
        "TenantGate {} (console as PgBouncer 1.25)\n3\n['str', 'Decimal', 'Decimal']\n",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(said, wanted, "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn tokio_postgres_reads_the_console_in_binary() {
    let _turn = alone();
    let bench = bench("");
    let url = format!("host=127.0.0.1 port={} user=ops password=demo dbname=pgbouncer", bench.proxy.address.port());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        let rows = client.query("SHOW LISTS", &[]).await.unwrap();
        let lists: BTreeMap<String, i32> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        assert_eq!((lists["databases"], lists["used_clients"]), (3, 1));
        assert_eq!(client.execute("RELOAD", &[]).await.unwrap(), 0);
        let error = client.query("SELECT 1", &[]).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "42601");
        drop(client);
        connection.await.unwrap().unwrap();
    });
}

/// The exporter's program and its Python, as `.ci/setup exporter` leaves them.
fn exporter() -> Option<(PathBuf, PathBuf, PathBuf)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/exporter");
    let found = (
        root.join("venv/bin/python"),
        root.join("usr/bin/prometheus-pgbouncer-exporter"),
        root.join("usr/lib/python3/dist-packages"),
    );
    (found.0.exists() && found.1.exists()).then_some(found)
}

#[test]
fn debians_exporter_runs_unchanged() {
    let Some((python, program, packages)) = exporter() else {
        skip("debians_exporter_runs_unchanged: prometheus-pgbouncer-exporter is missing (.ci/setup exporter)");
        return;
    };
    let _turn = alone();
    let bench = bench("");
    let mut client = Client::connect(&bench.proxy.target(ACME));
    (0..7).for_each(|_| drop(client.run("SELECT 1")));
    let port = free_port();
    let mut command = Command::new(python);
    command.arg(program).args(["--host", "127.0.0.1", "--port", &port.to_string()]);
    command.args(["--pgbouncer-host", "127.0.0.1", "--pgbouncer-user", "watcher", "--pgbouncer-port"]);
    command.arg(bench.proxy.address.port().to_string()).env("PYTHONPATH", packages).env("PGPASSWORD", "demo");
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    watchdog::end_later(child.id());
    let text = scrape(SocketAddr::from(([127, 0, 0, 1], port)));
    drop(child.kill());
    let mut complaints = String::new();
    child.stderr.take().unwrap().read_to_string(&mut complaints).unwrap();
    child.wait().unwrap();
    watchdog::has_ended(child.id());
    let value = |series: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series}\n{text}\n{complaints}")).parse::<f64>().unwrap()
    };
    let of = |name: &str| format!("pgbouncer_{name}{{database=\"{DATABASE}\"}}");
    assert_eq!(value(&of("requests_total")), 7.0);
    assert!(value(&of("received_bytes_total")) > 0.0 && value(&of("sent_bytes_total")) > 0.0);
    assert!(value(&of("query_microseconds_total")) > 0.0);
    assert_eq!(value(&format!("pgbouncer_active_clients{{database=\"{DATABASE}\",user=\"app_user\"}}")), 1.0);
    assert_eq!(value(&format!("pgbouncer_waiting_clients{{database=\"{DATABASE}\",user=\"app_user\"}}")), 0.0);
    assert_eq!((value("pgbouncer_databases"), value("pgbouncer_used_clients")), (3.0, 2.0));
    assert_eq!((value("pgbouncer_free_clients"), value("pgbouncer_dns_pending")), (0.0, 0.0));
}

/// The exporter's metrics, when it has started.
fn scrape(address: SocketAddr) -> String {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Ok(mut tcp) = TcpStream::connect(address) {
            tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            tcp.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
            let mut answer = String::new();
            tcp.read_to_string(&mut answer).unwrap();
            return answer;
        }
        assert!(Instant::now() < deadline, "the exporter does not listen");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn transactions_in_the_ledger_and_the_ledger_itself_are_counted() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    cluster::fifteen().admin("postgres").run(
        "DO $$ BEGIN CREATE ROLE app_counted LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
         DO $$ BEGIN CREATE ROLE app_deploys LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;",
    );
    let bench = bench(&format!(
        "[roles.counted]\nuser = \"app_counted\"\n[roles.deploys]\nuser = \"app_deploys\"\n[logins.support]\npassword = \"demo\"\npreset = \"bypass\"\nrole = \"counted\"\n\
         [logins.deploy]\npassword = \"demo\"\npreset = \"migration\"\nrole = \"deploys\"\ntenant.fixed = \"{ACME}\"\n\
         [ledger]\npath = \"{}\"\n",
        inner.join("ledger.jsonl").display()
    ));
    let target = |login: &str| Target::new(bench.proxy.address, login, DATABASE).password("demo");
    assert!((bench.metric("tenantgate_ledger_writable") - 1.0).abs() < 0.1);
    let mut support = Client::connect(&target("support").with("tenantgate.reason", "a test of the console"));
    let mut deploy = Client::connect(&target("deploy"));
    support.run("SELECT 1");
    support.query("SELECT 1 / 0");
    deploy.run("BEGIN");
    deploy.run("SELECT 1");
    deploy.run("ROLLBACK");
    for (series, wanted) in [
        ("bypass_transactions_total{outcome=\"committed\"}", 1.0),
        ("bypass_transactions_total{outcome=\"failed\"}", 1.0),
        ("migration_transactions_total{outcome=\"rolled_back\"}", 1.0),
        ("migration_transactions_total{outcome=\"committed\"}", 0.0),
    ] {
        let found = bench.metric(&format!("tenantgate_{series}"));
        assert!((found - wanted).abs() < 0.1, "{series}: {found}");
    }
    std::fs::remove_dir_all(&inner).unwrap();
    support.query("SELECT 1");
    assert!(bench.metric("tenantgate_ledger_writable") < 0.1);
    assert!(bench.get("/metrics").contains("\ntenantgate_ledger_writable 0\n"));
}
