//! Real clients (psql, tokio-postgres, psycopg) and raw ones log in at the listener.
//!
//! Behind it stands a session in miniature that answers every Query with one row: who the client is.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod login_support;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{BufMut as _, BytesMut};
use login_support::{Authority, Identity};
use rustls::pki_types::{CertificateRevocationListDer, ServerName};
use tenantgate::auth::scram::server::BindingOffer;
use tenantgate::auth::{
    Access, AddressPattern, CertificateNeed, DatabaseList, EndPoint, Login, Logins, Method, ProcessSecret, Rule, Rules,
    TlsNeed,
};
use tenantgate::config::{ClientAuthority, TrustedRoots, UnixSocketSettings};
use tenantgate::driver::clock::Clock;
use tenantgate::driver::handshake::{Arrival, HandshakeSettings};
use tenantgate::driver::listener::{Entrance, Listener, Reception};
use tenantgate::driver::tls::{Verification, client_side, server_side};
use tenantgate::fault::{Code, Fault};
use tenantgate::startup::{ALPN, ConsoleAccess, Judged, StartupSettings, TlsOffer};
use tenantgate::tenant::{AllowedTenants, Glob, Origin, Separator, TenantId, TenantKind, TenantPolicy, TenantSource};
use tenantgate::wire::TransactionStatus;
use tenantgate::wire::backend::{put_backend_key, put_command_complete, put_parameter_status, put_ready};
use tenantgate::wire::frame::cut;
use tenantgate::wire::frontend::{PROTOCOL_3_0, put_cancel_request, put_message, put_ssl_request, put_startup};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_postgres::NoTls;
use tokio_rustls::{TlsAcceptor, TlsConnector};

const ACME: &str = "00000000-0000-0000-0000-00000000000a";

/// Answers queries with who asks, and remembers cancel requests.
struct Miniature {
    cancels: Mutex<Vec<(i32, Vec<u8>)>>,
    /// One permit for each cancel request that has come.
    come: Semaphore,
    /// One for each that may be over.
    may_end: Semaphore,
}

impl Miniature {
    fn new() -> Self {
        Self { cancels: Mutex::default(), come: Semaphore::new(0), may_end: Semaphore::new(0) }
    }
}

impl Reception for Miniature {
    async fn receive(&self, arrival: Box<Arrival>) {
        let Arrival { mut stream, client, mut input, unsent: mut out, permit: _permit, .. } = *arrival;
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
        self.cancels.lock().unwrap().push((process_id, secret));
        self.come.add_permits(1);
        self.may_end.acquire().await.unwrap().forget();
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
    entrance: Arc<Entrance>,
    authority: Authority,
    /// Certificates, keys and sockets.
    folder: tempfile::TempDir,
}

struct Options {
    tls: TlsOffer,
    rules: Rules,
    clients: usize,
    logins: usize,
    login_timeout: Duration,
    /// How the proxy's certificate is signed.
    algorithm: &'static rcgen::SignatureAlgorithm,
    /// Who vouches for clients.
    clients_authority: Option<ClientAuthority>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tls: TlsOffer::Offered,
            rules: Rules::default(),
            clients: 100,
            logins: 100,
            login_timeout: Duration::from_secs(20),
            algorithm: &rcgen::PKCS_ECDSA_P256_SHA256,
            clients_authority: None,
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

fn startup_settings(tls: TlsOffer, binding: BindingOffer, rules: Rules) -> StartupSettings {
    let secret = ProcessSecret::new(&[5; 32]);
    let named = TenantSource::Named { from: vec![Origin::Suffix, Origin::Startup], separator: Separator::default() };
    let login = |name: &str, source: TenantSource| Login {
        name: name.into(),
        verifier: Some(secret.verifier(name, &"demo".into())),
        databases: DatabaseList::All,
        access: Access::Tenant(TenantPolicy {
            source,
            allowed: AllowedTenants::Any,
            claiming: tenantgate::tenant::Claiming::None,
        }),
    };
    let acme = TenantId::parse(TenantKind::Uuid, ACME).unwrap();
    let logins = [login("app_user", named), login("acme_app", TenantSource::Fixed(acme))];
    StartupSettings {
        tls,
        binding,
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
    let authority = Authority::with(options.algorithm);
    let identity = authority.issue(&["localhost", "127.0.0.1"]).tls();
    let binding = EndPoint::of(&identity.chain[0]).map_or(BindingOffer::None, BindingOffer::EndPoint);
    let acceptor = TlsAcceptor::from(client_side(&identity, options.clients_authority.as_ref()).unwrap());
    let settings = HandshakeSettings {
        startup: Arc::new(startup_settings(options.tls, binding, options.rules)),
        tls: (options.tls != TlsOffer::Never).then_some(acceptor),
        login_timeout: options.login_timeout,
        generation: 1,
    };
    let folder = tempfile::tempdir().unwrap();
    let unix = UnixSocketSettings { path: folder.path().join(".s.PGSQL.6432"), mode: 0o777 };
    let entrance = Arc::new(Entrance::new(settings, options.clients, options.logins, Clock::start()));
    let listener = Listener::bind(&["127.0.0.1:0".parse().unwrap()], Some(&unix)).unwrap();
    let address = listener.addresses()[0];
    let reception = Arc::new(Miniature::new());
    tokio::spawn(listener.serve(Arc::clone(&entrance), Arc::clone(&reception)));
    std::fs::write(folder.path().join("root.crt"), authority.pem()).unwrap();
    Entry { address, reception, entrance, authority, folder }
}

impl Entry {
    fn root(&self) -> String {
        self.folder.path().join("root.crt").display().to_string()
    }

    /// libpq's words for a client's certificate.
    fn certificate(&self, identity: &Identity) -> String {
        let place = |name: &str| self.folder.path().join(format!("{:p}.{name}", identity));
        std::fs::write(place("crt"), &identity.chain_pem).unwrap();
        std::fs::write(place("key"), &identity.key_pem).unwrap();
        std::fs::set_permissions(place("key"), std::fs::Permissions::from_mode(0o600)).unwrap();
        format!("sslcert={} sslkey={}", place("crt").display(), place("key").display())
    }

    /// What libpq 18 is answered at each of these targets, or why not.
    async fn psycopg(&self, targets: &[String]) -> Vec<String> {
        const PROGRAM: &str = "
import sys, psycopg
for target in sys.argv[1:]:
    try:
        with psycopg.connect(target, password='demo', autocommit=True, connect_timeout=10) as connection:
            print(connection.pgconn.exec_(b'who').get_value(0, 0).decode())
    except Exception as error:
        print(repr(str(error)))
";
        let mut python = Command::new(login_support::python());
        python.args(["-c", PROGRAM]).args(targets);
        let output = tokio::task::spawn_blocking(move || python.output().unwrap()).await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
    }

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

    /// What comes back for bytes that are no startup packet, until the connection is closed.
    async fn scanner(&self, noise: &[u8]) -> Vec<u8> {
        let mut stream = self.raw().await;
        stream.write_all(noise).await.unwrap();
        read_to_end(&mut stream).await
    }

    /// Waits until so many connections are logging in, and so many clients are logged in.
    async fn until_inside(&self, logins: usize, clients: usize) {
        let inside = || (self.entrance.logins.taken(), self.entrance.clients.taken());
        let wait = async {
            while inside() != (logins, clients) {
                tokio::task::yield_now().await;
            }
        };
        if tokio::time::timeout(HANGS, wait).await.is_err() {
            panic!("{:?} are logging in and logged in, not {:?}", inside(), (logins, clients));
        }
    }
}

/// Only ends a test that hangs.
const HANGS: Duration = Duration::from_secs(20);

async fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    // A reset after the last word is an end, too.
    let read = async { while matches!(stream.read_buf(&mut all).await, Ok(1..)) {} };
    assert!(tokio::time::timeout(HANGS, read).await.is_ok(), "the connection stays open, after {all:?}");
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
    let root = entry.root();
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
    // This client does not wait for its request to be carried out.
    entry.reception.come.acquire().await.unwrap().forget();
    assert_eq!(*entry.reception.cancels.lock().unwrap(), [(42, vec![7; 4])]);
    config.password("wrong");
    let error = config.connect(NoTls).await.err().unwrap();
    assert_eq!(error.code().unwrap().code(), "28P01");
}

#[tokio::test]
async fn a_cancel_request_s_connection_is_closed_when_it_has_been_carried_out() {
    let entry = entry(Options::default());
    let mut out = BytesMut::new();
    put_cancel_request(&mut out, 42, &[7; 4]);
    let mut canceller = entry.raw().await;
    canceller.write_all(&out).await.unwrap();
    entry.reception.come.acquire().await.unwrap().forget();
    // A connection that was made and has ended after it: it would have been closed by now.
    assert_eq!(entry.scanner(b"GET / HTTP/1.1\r\n\r\n").await, b"");
    let early = canceller.try_read(&mut [0; 1]).map_err(|error| error.kind());
    assert_eq!(early, Err(std::io::ErrorKind::WouldBlock));
    entry.reception.may_end.add_permits(1);
    assert_eq!(read_to_end(&mut canceller).await, b"");
}

/// libpq 18: protocol 3.2, direct TLS, channel binding.
#[tokio::test(flavor = "multi_thread")]
async fn libpq_18_speaks_protocol_3_2_direct_tls_and_channel_binding() {
    let entry = entry(Options::default());
    let base = format!("host=localhost port={} {}", entry.address.port(), user());
    let root = entry.root();
    let answers = entry
        .psycopg(&[
            format!("{base} sslmode=disable max_protocol_version=3.2"),
            format!("{base} sslmode=require max_protocol_version=latest"),
            format!("{base} sslmode=verify-full sslrootcert={root} sslnegotiation=direct channel_binding=disable"),
            format!("{base} sslmode=require sslnegotiation=direct gssencmode=disable"),
            format!("{base} sslmode=require channel_binding=require"),
            format!("{base} sslmode=verify-full sslrootcert={root} sslnegotiation=direct channel_binding=require"),
            format!("{base} sslmode=require channel_binding=require require_auth=scram-sha-256"),
        ])
        .await;
    let ending =
        |answer: &String| answer.split_once(ACME).map_or_else(|| answer.clone(), |(_, ending)| ending.to_owned());
    let endings: Vec<_> = answers.iter().map(ending).collect();
    assert_eq!(endings, ["|false|2", "|true|2", "|true|0", "|true|0", "|true|0", "|true|0", "|true|0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_15_binds_its_login_to_the_connection() {
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384] {
        let entry = entry(Options { algorithm, ..Options::default() });
        let answer = entry.psql(&format!("{} sslmode=require channel_binding=require", user())).await;
        assert_eq!(answer, Ok(format!("app_user|demo|{ACME}|true|0")), "{algorithm:?}");
        let complaint = entry.psql(&format!("{} sslmode=disable channel_binding=require", user())).await.unwrap_err();
        assert!(complaint.contains("channel binding"), "{complaint}");
        let wrong = format!("{} sslmode=require channel_binding=require password=wrong", user());
        assert!(entry.psql(&wrong).await.unwrap_err().contains("TG040"));
    }
}

/// RFC 5929 has no hash for Ed25519: libpq would give up if binding were offered.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_without_a_hash_of_its_own_offers_no_binding() {
    let entry = entry(Options { algorithm: &rcgen::PKCS_ED25519, ..Options::default() });
    let answer = entry.psql(&format!("{} sslmode=require", user())).await;
    assert_eq!(answer, Ok(format!("app_user|demo|{ACME}|true|0")));
    let complaint = entry.psql(&format!("{} sslmode=require channel_binding=require", user())).await.unwrap_err();
    assert!(complaint.contains("channel binding"), "{complaint}");
}

/// Somebody who ends the TLS connection with a certificate of his own, and passes everything on.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_passed_on_by_somebody_between_is_refused() {
    let entry = entry(Options::default());
    let stranger = Authority::new().issue(&["localhost", "127.0.0.1"]).tls();
    let acceptor = TlsAcceptor::from(client_side(&stranger, None).unwrap());
    let config = server_side(&Verification::Unverified, None).unwrap();
    let between = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = between.local_addr().unwrap().port();
    let target = entry.address;
    tokio::spawn(async move {
        while let Ok((mut client, _)) = between.accept().await {
            let (acceptor, connector) = (acceptor.clone(), TlsConnector::from(Arc::clone(&config)));
            tokio::spawn(async move {
                let mut request = [0; 8];
                client.read_exact(&mut request).await.unwrap();
                client.write_all(b"S").await.unwrap();
                let mut client = acceptor.accept(client).await.unwrap();
                let mut server = TcpStream::connect(target).await.unwrap();
                server.write_all(&request).await.unwrap();
                server.read_exact(&mut request[..1]).await.unwrap();
                let name = ServerName::try_from("localhost").unwrap();
                let mut server = connector.connect(name, server).await.unwrap();
                // However it ends: the client says what it was told.
                drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
            });
        }
    });
    let base = format!("host=127.0.0.1 port={port} {} sslmode=require", user());
    let answers = entry
        .psycopg(&[
            format!("{base} channel_binding=prefer"),
            format!("{base} channel_binding=require"),
            format!("{base} channel_binding=disable"),
        ])
        .await;
    assert!(answers[0].contains("TG092") && answers[1].contains("TG092"), "{answers:?}");
    // Without binding nobody notices: that is what it is for.
    assert!(answers[2].contains(ACME), "{answers:?}");
}

fn rule(certificate: CertificateNeed, method: Method) -> Rules {
    let (login, database) = (Glob::any(), Glob::any());
    Rules::new(vec![Rule { login, database, address: AddressPattern::Any, tls: TlsNeed::Any, certificate, method }])
}

fn authority_of(authority: &Authority, revocations: Vec<CertificateRevocationListDer<'static>>) -> ClientAuthority {
    ClientAuthority { roots: vec![authority.root.clone()], revocations, is_required: false }
}

#[tokio::test(flavor = "multi_thread")]
async fn client_certificates_are_checked_as_the_rule_says() {
    let clients = Authority::new();
    let (good, other) = (clients.issue_to_client("app_user", 1), clients.issue_to_client("acme_app", 2));
    let strange = Authority::new().issue_to_client("app_user", 1);
    use CertificateNeed::{None, VerifyCa, VerifyFull};
    for (need, method, expected) in [
        //                               app_user's, another's, none, a stranger's
        (None, Method::ScramSha256, ["", "", "", "SSL"]),
        (VerifyCa, Method::ScramSha256, ["", "", "TG090", "SSL"]),
        (VerifyFull, Method::ScramSha256, ["", "TG091", "TG090", "SSL"]),
        (None, Method::Certificate, ["", "TG091", "TG090", "SSL"]),
        (VerifyCa, Method::Trust, ["", "", "TG090", "SSL"]),
    ] {
        let clients_authority = Some(authority_of(&clients, vec![]));
        let entry = entry(Options { rules: rule(need, method), clients_authority, ..Options::default() });
        let shown = [
            entry.certificate(&good),
            entry.certificate(&other),
            "sslcert=/nonexistent".to_owned(),
            entry.certificate(&strange),
        ];
        for (shown, expected) in shown.iter().zip(expected) {
            let answer = entry.psql(&format!("{} sslmode=require {shown}", user())).await;
            match expected {
                "" => assert_eq!(answer, Ok(format!("app_user|demo|{ACME}|true|0")), "{need:?} {method:?} {shown}"),
                code => {
                    let complaint = answer.unwrap_err();
                    assert!(complaint.contains(code), "{need:?} {method:?} {shown}: {complaint}");
                }
            }
        }
        if (need, method) != (None, Method::ScramSha256) {
            let complaint = entry.psql(&format!("{} sslmode=disable", user())).await.unwrap_err();
            assert!(complaint.contains("TG090"), "{complaint}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_certificates_and_expired_lists_are_refused() {
    let clients = Authority::new();
    let (good, revoked) = (clients.issue_to_client("app_user", 1), clients.issue_to_client("app_user", 2));
    let stranger = Authority::new();
    for (list, good_is_fine) in [
        (clients.revoke(&[2], 2100), true),
        (clients.revoke(&[2], 2021), false),
        // No list of the right authority: nobody can say that the certificate is good.
        (stranger.revoke(&[], 2100), false),
    ] {
        let clients_authority = Some(authority_of(&clients, vec![list]));
        let rules = rule(CertificateNeed::None, Method::Certificate);
        let entry = entry(Options { rules, clients_authority, ..Options::default() });
        let connect =
            async |identity| entry.psql(&format!("{} sslmode=require {}", user(), entry.certificate(identity))).await;
        assert_eq!(connect(&good).await.is_ok(), good_is_fine);
        assert!(connect(&revoked).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_required_certificate_is_asked_for_before_any_login() {
    let clients = Authority::new();
    let authority = ClientAuthority { is_required: true, ..authority_of(&clients, vec![]) };
    let entry = entry(Options { clients_authority: Some(authority), ..Options::default() });
    let shown = entry.certificate(&clients.issue_to_client("whoever", 1));
    assert!(entry.psql(&format!("{} sslmode=require {shown}", user())).await.is_ok());
    let complaint = entry.psql(&format!("{} sslmode=require sslcert=/nonexistent", user())).await.unwrap_err();
    assert!(complaint.contains("SSL") || complaint.contains("certificate"), "{complaint}");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_on_this_machine_come_by_unix_socket() {
    let local = Rule {
        login: Glob::any(),
        database: Glob::any(),
        address: AddressPattern::Local,
        tls: TlsNeed::Any,
        certificate: CertificateNeed::None,
        method: Method::ScramSha256,
    };
    let nobody = Rule { method: Method::Reject, address: AddressPattern::Any, ..local.clone() };
    let rules = Rules::new(vec![local, nobody]);
    let entry = entry(Options { tls: TlsOffer::Required, rules, ..Options::default() });
    let folder = entry.folder.path().display();
    let complaint = entry.psql(&format!("{} sslmode=require", user())).await.unwrap_err();
    assert!(complaint.contains("TG041"), "{complaint}");
    for mode in ["disable", "prefer"] {
        let answer = entry.psql(&format!("{} host={folder} port=6432 sslmode={mode}", user())).await;
        assert_eq!(answer, Ok(format!("app_user|demo|{ACME}|false|0")), "{mode}");
    }
    let complaint = entry.psql(&format!("{} host={folder} port=6432 password=wrong", user())).await.unwrap_err();
    assert!(complaint.contains("TG040"), "{complaint}");
    // SSLRequest is answered, and the dialogue goes on.
    let mut stream = tokio::net::UnixStream::connect(entry.folder.path().join(".s.PGSQL.6432")).await.unwrap();
    let mut out = BytesMut::new();
    put_ssl_request(&mut out);
    stream.write_all(&out).await.unwrap();
    let mut answer = [0; 1];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"N");
    // A TLS record instead is no packet at all.
    stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await.unwrap();
    assert_eq!(stream.read(&mut answer).await.unwrap(), 0);
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
    let mut config = (*server_side(&Verification::Full(roots), None).unwrap()).clone();
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
        let mut stream = entry.raw().await;
        stream.write_all(said).await.unwrap();
        let answer = read_to_end(&mut stream).await;
        assert!(says(&answer, "TG044"), "{answer:?}");
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
        certificate: CertificateNeed::None,
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

    entry.until_inside(0, 1).await;
    let (slow, slower) = (entry.raw().await, entry.raw().await);
    entry.until_inside(2, 1).await;
    let answer = read_to_end(&mut entry.raw().await).await;
    assert!(says(&answer, "TG043"), "{answer:?}");

    // Who leaves makes room.
    drop((first, slow, slower));
    entry.until_inside(0, 0).await;
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
        assert_eq!(entry.scanner(noise).await, b"");
    }
}
