//! Ordinary drivers hold an ordinary session, with their default settings.
//!
//! Each session runs once directly and once through TenantGate; what it prints must be the same. A second, short one
//! shows what the driver makes of TenantGate's refusals (`refusals.txt` beside it). A driver that is not installed fails
//! its test by name: `make setup` (or `.ci/setup drivers`) installs all of them.

use super::tokio_session;
use crate::support::alone;
use crate::support::cluster::{self, Cluster};
use crate::support::proxy::{Proxy, Wish};
use std::io::Write;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub const DATABASE: &str = "drivers";
const SCHEMA: &str = include_str!("../scripts/schema.sql");
const MORE_SCHEMA: &str = include_str!("../drivers/schema.sql");
const ROWS: &str = include_str!("../scripts/rows.sql");
const TENANT: &str = "00000000-0000-0000-0000-00000000000a";

/// The drivers log in by password, here as there, and are offered TLS.
const LOGIN: &str = r#"
[logins.scram_user]
password = "geheim"
[logins.scram_user.tenant]
from = ["suffix", "startup"]
"#;

fn prepare(cluster: &Cluster) {
    let mut admin = cluster.admin(DATABASE);
    admin.run("SET lock_timeout = '5s'");
    admin.run("GRANT app_user TO scram_user");
    // As it is by default: drivers turn it off for their own queries, and on again.
    admin.run(&format!("ALTER DATABASE {DATABASE} SET jit = on"));
    admin.run("DROP SCHEMA IF EXISTS public CASCADE");
    admin.run(SCHEMA);
    admin.run(ROWS);
    admin.run(MORE_SCHEMA);
    admin.bye();
}

/// Where a session goes.
pub struct Place {
    pub port: u16,
    pub user: String,
    /// libpq's, and those of drivers that know them.
    pub options: String,
}

fn direct(cluster: &Cluster) -> Place {
    let options = format!("-c app.tenant_id={TENANT}");
    Place { port: cluster.address.port(), user: "scram_user".to_owned(), options }
}

fn proxied(proxy: &Proxy) -> Place {
    Place { port: proxy.address.port(), user: format!("scram_user.{TENANT}"), options: String::new() }
}

fn proxy(cluster: &Cluster) -> Proxy {
    let tls = certificate();
    let more = format!(
        "[tls]\nmode = \"allow\"\ncertificate = \"{0}/proxy.crt\"\nkey = \"{0}/proxy.key\"\n{LOGIN}",
        tls.display()
    );
    Proxy::start(&Wish { cluster, database: DATABASE, pool_size: 3, mutant: None, more: &more })
}

/// A folder with a self-signed certificate for TLS towards clients.
fn certificate() -> &'static Path {
    static FOLDER: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    FOLDER.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let folder = std::env::temp_dir().join(format!("tenantgate-{}-drivers", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        crate::support::watchdog::remove_later(&folder);
        std::fs::write(folder.join("proxy.crt"), made.cert.pem()).unwrap();
        let key = folder.join("proxy.key");
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        folder
    })
}

/// Runs a session to its end: what it printed, and how it ended.
fn run(name: &str, mut command: Command, place: &Place, input: &str) -> String {
    command.env("PGHOST", "127.0.0.1").env("PGPORT", place.port.to_string()).env("PGDATABASE", DATABASE);
    command.env("PGUSER", &place.user).env("PGPASSWORD", "geheim").env("PGCONNECT_TIMEOUT", "10").env("TENANT", TENANT);
    if !place.options.is_empty() {
        command.env("PGOPTIONS", &place.options);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{said}\n-- errors\n{complained}\n-- {}", output.status)
}

/// Runs the same session in both places and compares what it printed.
fn same_session(cluster: &Cluster, name: &str, session: &dyn Fn() -> Command, input: &str) {
    same(cluster, name, &|place| {
        let said = run(name, session(), place, input);
        if said.ends_with("exit status: 0") { Ok(said) } else { Err(said) }
    });
}

/// The same of whatever holds a session: what it saw, or what it saw until it failed.
fn same(cluster: &Cluster, name: &str, hold: &dyn Fn(&Place) -> Result<String, String>) {
    let proxy = proxy(cluster);
    let [direct, proxied] = [direct(cluster), proxied(&proxy)].map(|place| {
        prepare(cluster);
        hold(&place)
    });
    let version = cluster.version;
    let direct = direct.unwrap_or_else(|said| panic!("{name} directly to PostgreSQL {version}:\n{said}"));
    let proxied = proxied.unwrap_or_else(|said| said);
    let different: Vec<String> = direct
        .lines()
        .zip(proxied.lines())
        .filter(|(left, right)| left != right)
        .map(|(left, right)| format!("PG {left}\nTG {right}"))
        .collect();
    assert!(
        direct == proxied,
        "{name} on PostgreSQL {version} is told something else by TenantGate:\n{}\n-- all:\n{proxied}\n-- the proxy:\n{}",
        different.join("\n"),
        proxy.log_tail()
    );
}

/// What the driver makes of refusals must be what `refusals.txt` in its folder says.
fn refusals(cluster: &Cluster, name: &str, mut session: Command) {
    let proxy = proxy(cluster);
    prepare(cluster);
    session.env("REFUSALS", "1");
    let said = run(name, session, &proxied(&proxy), "");
    let (said, end) = said.split_once("\n-- errors").unwrap_or((&said, ""));
    are_as_written(&proxy, name, said);
    assert_eq!(end, "\n\n-- exit status: 0", "{name} after\n{said}");
}

/// Compares what a driver said of refusals with `refusals.txt` in its folder.
fn are_as_written(proxy: &Proxy, name: &str, said: &str) {
    let wanted = file(name).join("refusals.txt");
    if std::env::var_os("TENANTGATE_UPDATE").is_some() {
        std::fs::write(&wanted, said).unwrap();
    }
    let wanted = std::fs::read_to_string(&wanted).unwrap_or_default();
    assert!(said == wanted, "{name} says of refusals:\n{said}\n-- wanted:\n{wanted}\n{}", proxy.log_tail());
}

/// Both proofs of a driver whose session is a file in its folder, on every version.
fn holds_a_session(name: &str, session: &dyn Fn() -> Command) {
    on_every_cluster(|cluster| {
        same_session(cluster, name, session, "");
        refusals(cluster, name, session());
    });
}

fn on_every_cluster(proof: impl Fn(&'static Cluster)) {
    let _turn = alone();
    for cluster in cluster::every() {
        cluster.create_database(DATABASE);
        proof(cluster);
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn file(name: &str) -> PathBuf {
    root().join("tests/drivers").join(name)
}

/// A command without anything inherited that a driver would read.
fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    for (variable, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
        command.env_remove(variable);
    }
    command
}

#[test]
fn psql_holds_a_session() {
    on_every_cluster(|cluster| {
        let script = std::fs::read_to_string(file("psql/session.psql")).unwrap();
        same_session(cluster, "psql", &|| psql(cluster), &script);
    });
}

fn psql(cluster: &Cluster) -> Command {
    let mut command = cluster.program("psql");
    command.args(["-X", "-v", "ON_ERROR_STOP=0", "-P", "pager=off"]).current_dir(std::env::temp_dir());
    command
}

/// A Python that has these modules.
pub fn python(modules: &str) -> PathBuf {
    let has_modules = |python: &Path| {
        let import = format!("import {modules}");
        Command::new(python).args(["-c", &import]).output().is_ok_and(|output| output.status.success())
    };
    [root().join(".tools/venv/bin/python"), PathBuf::from("python3")]
        .into_iter()
        .find(|python| has_modules(python))
        .unwrap_or_else(|| panic!("no Python with {modules}: run `.ci/setup drivers`"))
}

fn python_session(modules: &str, session: &str) -> impl Fn() -> Command {
    let (python, session) = (python(modules), file(session));
    move || {
        let mut command = command(&python);
        command.arg(&session);
        command
    }
}

#[test]
fn psycopg_holds_a_session() {
    holds_a_session("psycopg", &python_session("psycopg, psycopg_pool", "psycopg/session.py"));
}

#[test]
fn asyncpg_holds_a_session() {
    holds_a_session("asyncpg", &python_session("asyncpg", "asyncpg/session.py"));
}

#[test]
fn sqlalchemy_holds_a_session() {
    holds_a_session("sqlalchemy", &python_session("sqlalchemy, psycopg, asyncpg, greenlet", "sqlalchemy/session.py"));
}

/// Node with a package in `.tools/node`, or wherever it is found by itself.
fn node_session(package: &str, session: &str) -> impl Fn() -> Command {
    let (modules, session) = (root().join(".tools/node/node_modules"), file(session));
    let node = move || {
        let mut node = command("node");
        // Their texts hold process ids.
        node.arg("--no-deprecation");
        node.env("NODE_PATH", &modules);
        node
    };
    let found = node().args(["-e", &format!("require({package:?})")]).output();
    assert!(
        found.is_ok_and(|output| output.status.success()),
        "no Node with the package {package}: run `.ci/setup drivers`"
    );
    move || {
        let mut node = node();
        node.arg(&session);
        node
    }
}

#[test]
fn node_postgres_holds_a_session() {
    holds_a_session("node-postgres", &node_session("pg", "node-postgres/session.js"));
}

#[test]
fn postgres_js_holds_a_session() {
    holds_a_session("postgresjs", &node_session("postgres", "postgresjs/session.mjs"));
}

/// Where Debian's libpostgresql-jdbc-java puts the driver; `$TENANTGATE_JDBC` says another place.
const JDBC: &str = "/usr/share/java/postgresql.jar";

#[test]
fn jdbc_holds_a_session() {
    let driver = std::env::var_os("TENANTGATE_JDBC").map_or_else(|| PathBuf::from(JDBC), PathBuf::from);
    let has_java = Command::new("java").arg("-version").output().is_ok_and(|output| output.status.success());
    assert!(has_java, "no Java: run `.ci/setup drivers`");
    assert!(driver.exists(), "no JDBC driver at {}: run `.ci/setup drivers`", driver.display());
    holds_a_session("jdbc", &|| {
        let mut java = command("java");
        java.arg("-cp").arg(&driver).arg("-Duser.timezone=UTC").arg(file("jdbc/Session.java"));
        java
    });
}

/// Where Debian's golang-github-jackc-pgx-v4-dev puts the driver; `$TENANTGATE_GOPATH` says another place.
const GOPATH: &str = "/usr/share/gocode";

#[test]
fn pgx_holds_a_session() {
    let (session, target) = (root().join(".tools/pgx/session"), root().join(".tools"));
    let sources = std::env::var_os("TENANTGATE_GOPATH").map_or_else(|| PathBuf::from(GOPATH), PathBuf::from);
    assert!(
        sources.join("src/github.com/jackc/pgx").exists(),
        "no pgx in {}: run `.ci/setup drivers`",
        sources.display()
    );
    let mut build = command("go");
    build.args(["build", "-o"]).arg(&session).arg(".").current_dir(file("pgx"));
    build
        .env("GO111MODULE", "off")
        .env("GOPATH", &sources)
        .env("GOCACHE", target.join("go-cache"))
        .env_remove("GOFLAGS");
    let built = build.output().unwrap_or_else(|error| panic!("no Go ({error}): run `.ci/setup drivers`"));
    assert!(built.status.success(), "pgx: {}", String::from_utf8_lossy(&built.stderr));
    holds_a_session("pgx", &|| command(&session));
}

#[test]
fn tokio_postgres_holds_a_session() {
    on_every_cluster(|cluster| {
        let in_words = |fault: tokio_postgres::Error| format!("{fault}: {:?}", fault.as_db_error());
        same(cluster, "tokio-postgres", &|place| tokio_session::hold(cluster, place).map_err(in_words));
        let proxy = proxy(cluster);
        prepare(cluster);
        let said = tokio_session::refusals(&proxied(&proxy)).unwrap();
        are_as_written(&proxy, "tokio-postgres", &said);
    });
}
