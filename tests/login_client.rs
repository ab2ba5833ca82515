//! Real clients (psql, tokio-postgres, psycopg) and raw ones log in at the listener.
//!
//! Behind it stands a session in miniature that answers every Query with one row: who the client is.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod login_support;

use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{BufMut as _, BytesMut};
use login_support::Authority;
use rustls::pki_types::ServerName;
use tenantgate::auth::{
    Access, AddressPattern, DatabaseList, Login, Logins, Method, ProcessSecret, Rule, Rules, TlsNeed,
};
use tenantgate::config::TrustedRoots;
use tenantgate::driver::handshake::{Arrival, HandshakeSettings};
use tenantgate::driver::listener::{Entrance, Listener, Reception};
use tenantgate::driver::tls::{Verification, client_side, server_side};
use tenantgate::fault::{Code, Fault};
use tenantgate::startup::{ALPN, ConsoleAccess, Judged, StartupSettings, TlsOffer};
use tenantgate::tenant::{AllowedTenants, Glob, Origin, Separator, TenantId, TenantKind, TenantPolicy, TenantSource};
use tenantgate::wire::TransactionStatus;
use tenantgate::wire::backend::{put_backend_key, put_command_complete, put_parameter_status, put_ready};
use tenantgate::wire::frame::cut;
use tenantgate::wire::frontend::{PROTOCOL_3_0, put_message, put_ssl_request, put_startup};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_postgres::NoTls;
use tokio_rustls::{TlsAcceptor, TlsConnector};

const ACME: &str = "00000000-0000-0000-0000-00000000000a";

/// Answers queries with who asks, and remembers cancel requests.
#[derive(Default)]
struct Miniature {
    cancels: Mutex<Vec<(i32, Vec<u8>)>>,
}

impl Reception for Miniature {
    async fn receive(&self, arrival: Box<Arrival>) {
        let Arrival { mut stream, client, mut input, unsent: mut out, permit: _permit } = *arrival;
        put_parameter_status(&mut out, b"server_version", b"15.0");
        put_parameter_status(&mut out, b"client_encoding", b"UTF8");
        put_parameter_status(&mut out, b"standard_conforming_strings", b"on");
        put_backend_key(&mut out, 42, &[7; 4]);
        put_ready(&mut out, TransactionStatus::Idle);
        let who = format!(
            "{}|{}|{}|{}|{}",
            client.login(),
            client.database(),
            client.tenant().unwrap(),
            client.is_tls(),
            client.protocol() & 0xffff
        );
        loop {
            if stream.write_all(&out.split()).await.is_err() || stream.flush().await.is_err() {
                return;
            }
            while let Ok(Some((head, _))) = cut(&input) {
                match head.tag {
                    b'Q' => put_row(&mut out, &who),
                    _ => return,
                }
                let _frame = input.split_to(head.frame_bytes());
            }
            if out.is_empty() && !matches!(stream.read_buf(&mut input).await, Ok(1..)) {
                return;
            }
        }
    }

    async fn cancel(&self, process_id: i32, secret: Vec<u8>) {
        tokio::time::sleep(Duration::from_millis(50)).await;
        self.cancels.lock().unwrap().push((process_id, secret));
    }
}

fn put_row(out: &mut BytesMut, text: &str) {
    put_message(out, b'T', |out| {
        out.put_i16(1);
        out.put_slice(b"who\0");
        out.put_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 25, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]);
    });
    put_message(out, b'D', |out| {
        out.put_i16(1);
        out.put_i32(i32::try_from(text.len()).unwrap());
        out.put_slice(text.as_bytes());
    });
    put_command_complete(out, b"SELECT 1");
    put_ready(out, TransactionStatus::Idle);
}

struct Entry {
    address: SocketAddr,
    reception: Arc<Miniature>,
    authority: Authority,
    root_file: tempfile::NamedTempFile,
}

struct Options {
    tls: TlsOffer,
    rules: Rules,
    clients: usize,
    logins: usize,
    login_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tls: TlsOffer::Offered,
            rules: Rules::default(),
            clients: 100,
            logins: 100,
            login_timeout: Duration::from_secs(20),
        }
    }
}

fn judge(_login: &str, name: &str, value: &str) -> Result<Judged, Fault> {
    match name.to_ascii_lowercase().as_str() {
        "client_encoding" | "application_name" | "timezone" | "datestyle" => {
            Ok(Judged::Keep(name.to_owned(), value.to_owned()))
        }
        _ => Err(Fault::of(Code::SettingRefused)),
    }
}

fn startup_settings(tls: TlsOffer, rules: Rules) -> StartupSettings {
    let secret = ProcessSecret::new(&[5; 32]);
    let named = TenantSource::Named { from: vec![Origin::Suffix, Origin::Startup], separator: Separator::default() };
    let login = |name: &str, source: TenantSource| Login {
        name: name.into(),
        verifier: Some(secret.verifier(name, &"demo".into())),
        databases: DatabaseList::All,
        access: Access::Tenant(TenantPolicy { source, allowed: AllowedTenants::Any }),
    };
    let acme = TenantId::parse(TenantKind::Uuid, ACME).unwrap();
    let logins = [login("app_user", named), login("acme_app", TenantSource::Fixed(acme))];
    StartupSettings {
        tls,
        rules,
        logins: Logins::new(logins, secret).unwrap(),
        databases: ["demo".into()].into(),
        console: ConsoleAccess::default(),
        tenant_kind: TenantKind::Uuid,
        tenant_settings: vec!["app.tenant_id".into()],
        judge: Box::new(judge),
    }
}

fn entry(options: Options) -> Entry {
    let authority = Authority::new();
    let identity = authority.issue(&["localhost", "127.0.0.1"]);
    let acceptor = TlsAcceptor::from(client_side(identity.chain, identity.key).unwrap());
    let settings = HandshakeSettings {
        startup: Arc::new(startup_settings(options.tls, options.rules)),
        tls: (options.tls != TlsOffer::Never).then_some(acceptor),
        login_timeout: options.login_timeout,
    };
    let entrance = Arc::new(Entrance::new(settings, options.clients, options.logins));
    let listener = Listener::bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
    let address = listener.addresses()[0];
    let reception = Arc::new(Miniature::default());
    tokio::spawn(listener.serve(entrance, Arc::clone(&reception)));
    let root_file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(root_file.path(), authority.pem()).unwrap();
    Entry { address, reception, authority, root_file }
}

impl Entry {
    /// psql's answer to one query, or its complaint.
    async fn psql(&self, parameters: &str) -> Result<String, String> {
        let mut psql = Command::new("psql");
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
            psql.env_remove(name);
        }
        let target = format!("host=127.0.0.1 port={} {parameters}", self.address.port());
        psql.args(["-X", "-q", "-A", "-t", &target, "-c", "who"]).env("PGPASSWORD", "demo");
        let output = tokio::task::spawn_blocking(move || psql.output().unwrap()).await.unwrap();
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    async fn raw(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

async fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    // A reset after the last word is an end, too.
    while matches!(stream.read_buf(&mut all).await, Ok(1..)) {}
    all
}

fn says(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

fn user() -> String {
    format!("user=app_user.{ACME} dbname=demo")
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_gets_the_encryption_it_asks_for() {
    let entry = entry(Options::default());
    let root = entry.root_file.path().display();
    for (mode, tls) in [("disable", false), ("allow", false), ("prefer", true), ("require", true)] {
        let answer = entry.psql(&format!("{} sslmode={mode}", user())).await;
        assert_eq!(answer, Ok(format!("app_user|demo|{ACME}|{tls}|0")), "{mode}");
    }
    for mode in ["verify-ca", "verify-full"] {
        let answer = entry.psql(&format!("{} sslmode={mode} sslrootcert={root}", user())).await;
        assert_eq!(answer, Ok(format!("app_user|demo|{ACME}|true|0")), "{mode}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_meets_a_listener_without_tls_and_one_that_requires_it() {
    let never = entry(Options { tls: TlsOffer::Never, ..Options::default() });
    assert!(never.psql(&format!("{} sslmode=prefer", user())).await.unwrap().contains("|false|"));
    let complaint = never.psql(&format!("{} sslmode=require", user())).await.unwrap_err();
    assert!(complaint.contains("does not support SSL"), "{complaint}");
    let always = entry(Options { tls: TlsOffer::Required, ..Options::default() });
    assert!(always.psql(&format!("{} sslmode=prefer", user())).await.unwrap().contains("|true|"));
    let complaint = always.psql(&format!("{} sslmode=disable", user())).await.unwrap_err();
    assert!(complaint.contains("TG042"), "{complaint}");
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_names_its_tenant_in_every_way() {
    let entry = entry(Options::default());
    for parameters in [
        user(),
        format!("user=app_user dbname=demo options='-c app.tenant_id={ACME}'"),
        format!("user=app_user dbname=demo options='--app.tenant_id={}'", ACME.to_uppercase()),
    ] {
        assert!(entry.psql(&parameters).await.unwrap().starts_with(&format!("app_user|demo|{ACME}|")));
    }
    assert!(entry.psql("user=acme_app dbname=demo").await.unwrap().starts_with("acme_app|demo|"));
    for (parameters, code) in [
        ("user=app_user dbname=demo".to_owned(), "TG001"),
        ("user=app_user.acme dbname=demo".to_owned(), "TG002"),
        (
            "user=acme_app dbname=demo options='-c app.tenant_id=00000000-0000-0000-0000-00000000000b'".to_owned(),
            "TG003",
        ),
        (user().replace("demo", "nosuch"), "TG045"),
        (format!("{} options='-c work_mem=1MB'", user()), "TG046"),
        (format!("{} replication=database", user()), "TG031"),
        ("user=nobody dbname=demo".to_owned(), "TG040"),
        (format!("{} password=wrong", user()), "TG040"),
    ] {
        let complaint = entry.psql(&parameters).await.unwrap_err();
        assert!(complaint.contains(code), "{parameters}: {complaint}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokio_postgres_logs_in_and_cancels() {
    let entry = entry(Options::default());
    let mut config = tokio_postgres::Config::new();
    config
        .host("127.0.0.1")
        .port(entry.address.port())
        .user(format!("app_user.{ACME}"))
        .password("demo")
        .dbname("demo");
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    let rows = client.simple_query("who").await.unwrap();
    assert!(format!("{rows:?}").contains(ACME));
    client.cancel_token().cancel_query(NoTls).await.unwrap();
    // The requester's connection closes only when the request has been carried out, but this client
    // does not wait for that.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(*entry.reception.cancels.lock().unwrap(), [(42, vec![7; 4])]);
    config.password("wrong");
    let error = config.connect(NoTls).await.err().unwrap();
    assert_eq!(error.code().unwrap().code(), "28P01");
}

/// libpq 18: protocol 3.2, direct TLS. Skipped without psycopg.
#[tokio::test(flavor = "multi_thread")]
async fn psycopg_speaks_protocol_3_2_and_direct_tls() {
    const PROGRAM: &str = "
import sys, psycopg
for target in sys.argv[1:]:
    with psycopg.connect(target, password='demo', autocommit=True) as connection:
        print(connection.pgconn.exec_(b'who').get_value(0, 0).decode())
";
    let is_there = ["-c", "import psycopg; assert psycopg.pq.version() >= 180000"];
    if !Command::new("python3").args(is_there).output().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no psycopg with libpq 18");
        return;
    }
    let entry = entry(Options::default());
    let base = format!("host=localhost port={} {}", entry.address.port(), user());
    let root = entry.root_file.path().display();
    let targets = [
        format!("{base} sslmode=disable max_protocol_version=3.2"),
        format!("{base} sslmode=require max_protocol_version=latest"),
        format!("{base} sslmode=verify-full sslrootcert={root} sslnegotiation=direct channel_binding=disable"),
        format!("{base} sslmode=require sslnegotiation=direct gssencmode=disable"),
    ];
    let mut python = Command::new("python3");
    python.args(["-c", PROGRAM]).args(&targets);
    let output = tokio::task::spawn_blocking(move || python.output().unwrap()).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let endings: Vec<_> = text.lines().filter_map(|line| line.split_once(ACME)).map(|(_, ending)| ending).collect();
    assert_eq!(endings, ["|false|2", "|true|2", "|true|0", "|true|0"], "{}", String::from_utf8_lossy(&output.stderr));
}

/// `cargo test` must not hide what channel binding would change: a client that insists on it is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_insists_on_channel_binding_gets_no_session() {
    let entry = entry(Options::default());
    let complaint = entry.psql(&format!("{} sslmode=require channel_binding=require", user())).await.unwrap_err();
    assert!(complaint.contains("channel binding"), "{complaint}");
}

#[tokio::test]
async fn plaintext_behind_ssl_request_never_reaches_tls() {
    let entry = entry(Options::default());
    let mut out = BytesMut::new();
    put_ssl_request(&mut out);
    put_startup(&mut out, PROTOCOL_3_0, &[("user", "app_user")]);
    let mut stream = entry.raw().await;
    stream.write_all(&out).await.unwrap();
    let answer = read_to_end(&mut stream).await;
    assert!(answer.starts_with(b"E") && says(&answer, "TG032"), "{answer:?}");
}

#[tokio::test]
async fn direct_tls_without_the_protocols_name_is_refused() {
    let entry = entry(Options::default());
    let roots = TrustedRoots::Given(vec![entry.authority.root.clone()]);
    let mut config = (*server_side(&Verification::Full(roots)).unwrap()).clone();
    for (alpn, is_fine) in [(vec![ALPN.to_vec()], true), (vec![], false), (vec![b"http/1.1".to_vec()], false)] {
        config.alpn_protocols = alpn;
        let connector = TlsConnector::from(Arc::new(config.clone()));
        let name = ServerName::try_from("localhost").unwrap();
        let Ok(mut tls) = connector.connect(name, entry.raw().await).await else {
            assert!(!is_fine);
            continue;
        };
        let mut out = BytesMut::new();
        put_startup(&mut out, PROTOCOL_3_0, &[("user", "app_user")]);
        tls.write_all(&out).await.unwrap();
        let mut answer = BytesMut::new();
        while answer.len() < 20 && matches!(tls.read_buf(&mut answer).await, Ok(1..)) {}
        assert_eq!(says(&answer, "SCRAM-SHA-256"), is_fine, "{answer:?}");
    }
}

#[tokio::test]
async fn slow_and_silent_clients_are_timed_out() {
    let entry = entry(Options { login_timeout: Duration::from_millis(400), ..Options::default() });
    let mut startup = BytesMut::new();
    put_startup(&mut startup, PROTOCOL_3_0, &[("user", "app_user")]);
    for said in [&b""[..], b"\0\0", &startup] {
        let began = Instant::now();
        let mut stream = entry.raw().await;
        stream.write_all(said).await.unwrap();
        let answer = read_to_end(&mut stream).await;
        assert!(says(&answer, "TG044"), "{answer:?}");
        assert!(began.elapsed() < Duration::from_secs(5));
    }
    // A TLS handshake that never comes: nothing can be said, but it ends.
    let mut stream = entry.raw().await;
    let mut request = BytesMut::new();
    put_ssl_request(&mut request);
    stream.write_all(&request).await.unwrap();
    assert_eq!(read_to_end(&mut stream).await, b"S");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_and_logins_are_limited() {
    let trust = Rule {
        login: Glob::any(),
        database: Glob::any(),
        address: AddressPattern::Any,
        tls: TlsNeed::Any,
        method: Method::Trust,
    };
    let entry = entry(Options { clients: 1, logins: 2, rules: Rules::new(vec![trust]), ..Options::default() });
    let mut startup = BytesMut::new();
    put_startup(&mut startup, PROTOCOL_3_0, &[("user", "acme_app"), ("database", "demo")]);
    let mut first = entry.raw().await;
    first.write_all(&startup).await.unwrap();
    let mut greeting = BytesMut::new();
    while !greeting.ends_with(b"Z\0\0\0\x05I") {
        assert_ne!(first.read_buf(&mut greeting).await.unwrap(), 0);
    }
    let mut second = entry.raw().await;
    second.write_all(&startup).await.unwrap();
    let answer = read_to_end(&mut second).await;
    assert!(says(&answer, "TG043") && says(&answer, "53300"), "{answer:?}");

    let (_slow, _slower) = (entry.raw().await, entry.raw().await);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let answer = read_to_end(&mut entry.raw().await).await;
    assert!(says(&answer, "TG043"), "{answer:?}");

    // Who leaves makes room.
    drop((first, _slow, _slower));
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut third = entry.raw().await;
    third.write_all(&startup).await.unwrap();
    let mut answer = [0; 9];
    third.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"R\0\0\0\x08\0\0\0\0");
}

#[tokio::test]
async fn scanners_get_no_word() {
    let entry = entry(Options::default());
    for noise in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\0\0\0\0\0\0\0\0", b"\xff\xff\xff\xff"] {
        let mut stream = entry.raw().await;
        stream.write_all(noise).await.unwrap();
        assert_eq!(read_to_end(&mut stream).await, b"");
    }
}
