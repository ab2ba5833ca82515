//! Transcripts of the dialogue, whole and byte by byte, and garbage.

use super::*;
use crate::auth::scram::MECHANISM;
use crate::auth::scram::client::{ClientBinding, ClientExchange};
use crate::auth::{Access, AddressPattern, CertificateNeed, DatabaseList, Method, ProcessSecret, Rule, TlsNeed};
use crate::fault::{Code, Fault};
use crate::tenant::{AllowedTenants, Claiming, Glob, Origin, Separator, TenantId, TenantPolicy, TenantSource};
use crate::wire::backend::Fields;
use crate::wire::frontend::{PROTOCOL_3_0, put_cancel_request, put_cstr, put_ssl_request, put_startup};

const ACME: &str = "00000000-0000-0000-0000-00000000000a";
const GLOBEX: &str = "00000000-0000-0000-0000-00000000000b";

fn address() -> PeerAddress {
    PeerAddress::Tcp("127.0.0.1:5".parse().unwrap())
}

fn logins() -> Logins {
    let secret = ProcessSecret::new(&[5; 32]);
    let tenant = |text| TenantId::parse(TenantKind::Uuid, text).unwrap();
    let named = TenantSource::Named { from: vec![Origin::Suffix, Origin::Startup], separator: Separator::default() };
    let login = |name: &str, source: TenantSource, allowed| Login {
        name: name.into(),
        verifier: Some(secret.verifier(name, &"demo".into())),
        databases: DatabaseList::All,
        access: Access::Tenant(TenantPolicy { source, allowed, claiming: Claiming::None }),
    };
    let narrow = Login {
        databases: DatabaseList::Only(["other".into()].into()),
        ..login("narrow", named.clone(), AllowedTenants::Any)
    };
    let keyless = Login { verifier: None, ..login("keyless", named.clone(), AllowedTenants::Any) };
    let all = [
        login("app_user", named.clone(), AllowedTenants::Any),
        login("picky", named, AllowedTenants::List([tenant(ACME)].into())),
        login("acme_app", TenantSource::Fixed(tenant(ACME)), AllowedTenants::Any),
        narrow,
        keyless,
    ];
    Logins::new(all, secret).unwrap()
}

fn judge(_login: &str, name: &str, value: &str) -> Result<Judged, Fault> {
    match name {
        "client_encoding" | "TimeZone" | "timezone" => Ok(Judged::Keep(name.to_owned(), value.to_owned())),
        "extra_float_digits" => Ok(Judged::Ignore),
        _ => Err(Fault::of(Code::SettingRefused)),
    }
}

fn settings() -> StartupSettings {
    StartupSettings {
        tls: TlsOffer::Never,
        binding: BindingOffer::None,
        rules: Rules::default(),
        logins: logins(),
        databases: ["demo".into(), "app_user".into(), "other".into()].into(),
        console: ConsoleAccess::default(),
        tenant_kind: TenantKind::Uuid,
        tenant_settings: vec!["app.tenant_id".into()],
        judge: Box::new(judge),
    }
}

fn rule(login: &str, tls: TlsNeed, method: Method) -> Rule {
    let (login, database) = (Glob::parse(login).unwrap(), Glob::any());
    Rule { login, database, address: AddressPattern::Any, tls, certificate: CertificateNeed::None, method }
}

/// A peer: sends bytes, collects replies.
struct Peer {
    startup: Startup,
    input: BytesMut,
    out: BytesMut,
    bytewise: bool,
}

impl Peer {
    fn with(settings: StartupSettings) -> Self {
        Self::of(&Arc::new(settings))
    }

    fn of(settings: &Arc<StartupSettings>) -> Self {
        let startup = Startup::new(Arc::clone(settings), address(), [8; NONCE_BYTES]);
        Self { startup, input: BytesMut::new(), out: BytesMut::new(), bytewise: false }
    }

    fn new() -> Self {
        Self::with(settings())
    }

    /// Hands bytes over, at once or one by one; gives the last step.
    fn send(&mut self, bytes: &[u8]) -> Step {
        if !self.bytewise {
            self.input.extend_from_slice(bytes);
            return self.startup.handle_bytes(&mut self.input, &mut self.out);
        }
        let mut step = Step::Read;
        for byte in bytes {
            assert!(matches!(step, Step::Read), "{step:?} before the last byte");
            self.input.extend_from_slice(&[*byte]);
            step = self.startup.handle_bytes(&mut self.input, &mut self.out);
        }
        step
    }

    fn start(&mut self, protocol: i32, parameters: &[(&str, &str)]) -> Step {
        let mut bytes = BytesMut::new();
        put_startup(&mut bytes, protocol, parameters);
        self.send(&bytes)
    }

    fn reply(&mut self) -> (u8, BytesMut) {
        let head = Head::read(&self.out).unwrap().expect("a reply");
        let mut frame = self.out.split_to(head.frame_bytes());
        (head.tag, frame.split_off(5))
    }

    fn authentication(&mut self) -> (i32, BytesMut) {
        let (tag, mut body) = self.reply();
        assert_eq!(tag, b'R');
        (body.get_i32(), body)
    }

    fn fault(&mut self) -> (String, String, String) {
        let (tag, body) = self.reply();
        assert_eq!(tag, b'E');
        assert!(self.out.is_empty(), "something behind the last word");
        let fields = Fields::new(&body);
        assert!(fields.is_fatal());
        let text = |kind| String::from_utf8(fields.find(kind).unwrap_or_default().to_vec()).unwrap();
        (text(b'C'), text(b'M'), text(b'D'))
    }

    fn password(&mut self, password: &str) -> Step {
        assert_eq!(self.authentication(), (10, BytesMut::from(&b"SCRAM-SHA-256\0\0"[..])));
        let exchange = ClientExchange::new([1; NONCE_BYTES], ClientBinding::NotPossible);
        let step = self.send(&initial(exchange.client_first().as_bytes()));
        assert!(matches!(step, Step::Read), "{step:?}");
        let (code, server_first) = self.authentication();
        assert_eq!(code, 11);
        let (proving, client_final) = exchange.handle_server_first(&server_first, password).unwrap();
        let step = self.send(&password_message(client_final.as_bytes()));
        if matches!(Head::read(&self.out), Ok(Some(Head { tag: b'R', .. }))) {
            let (code, server_final) = self.authentication();
            assert_eq!(code, 12);
            proving.handle_server_final(&server_final).unwrap();
        }
        step
    }

    fn log_in(&mut self, parameters: &[(&str, &str)]) -> AuthenticatedClient {
        let step = self.start(PROTOCOL_3_2, parameters);
        assert!(matches!(step, Step::Read), "{step:?}");
        let Step::Authenticated(client) = self.password("demo") else { panic!("{:?}", self.fault()) };
        assert_eq!(self.authentication().0, 0);
        assert!(self.out.is_empty());
        *client
    }

    /// Logs in with the right password and is refused all the same.
    fn refused(&mut self, parameters: &[(&str, &str)]) -> (String, String, String) {
        assert!(matches!(self.start(PROTOCOL_3_2, parameters), Step::Read));
        let step = self.password("demo");
        assert!(matches!(step, Step::Close(_)), "{step:?}");
        self.fault()
    }
}

fn password_message(body: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    put_message(&mut out, b'p', |out| out.extend_from_slice(body));
    out
}

fn initial(client_first: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    put_message(&mut out, b'p', |out| {
        put_cstr(out, MECHANISM.as_bytes());
        out.extend_from_slice(&u32::try_from(client_first.len()).unwrap().to_be_bytes());
        out.extend_from_slice(client_first);
    });
    out
}

fn acme_user() -> String {
    format!("app_user.{ACME}")
}

#[test]
fn a_client_logs_in_with_its_tenant_in_the_user_name() {
    for bytewise in [false, true] {
        let mut peer = Peer { bytewise, ..Peer::new() };
        let user = acme_user();
        let client = peer.log_in(&[("user", &user), ("database", "demo"), ("TimeZone", "UTC")]);
        assert_eq!((&**client.login(), client.user(), client.database()), ("app_user", &*user, "demo"));
        assert_eq!(client.tenant().unwrap().as_str(), ACME);
        assert_eq!(client.parameters(), [("TimeZone".into(), "UTC".into())]);
        assert_eq!((client.protocol(), client.is_tls(), client.address()), (PROTOCOL_3_2, false, address()));
    }
}

#[test]
fn a_client_logs_in_with_its_tenant_in_the_startup_parameters() {
    let by_option = format!("-c app.tenant_id={ACME} --TimeZone=UTC");
    let escaped = format!(r"-c App.Tenant_ID={ACME} -c TimeZone=U\ TC");
    for (name, value) in [("app.tenant_id", ACME), ("options", &by_option), ("options", &escaped)] {
        let client = Peer::new().log_in(&[("user", "app_user"), (name, value)]);
        assert_eq!((client.tenant().unwrap().as_str(), client.database()), (ACME, "app_user"));
    }
}

#[test]
fn the_database_defaults_to_the_login_without_its_tenant() {
    assert_eq!(Peer::new().log_in(&[("user", &acme_user())]).database(), "app_user");
}

#[test]
fn unknown_user_and_wrong_password_look_the_same() {
    let transcript = |user: &str, password: &str| {
        let mut peer = Peer::new();
        assert!(matches!(peer.start(PROTOCOL_3_2, &[("user", user), ("database", "demo")]), Step::Read));
        let step = peer.password(password);
        assert!(matches!(step, Step::Close(_)));
        peer.fault()
    };
    let wrong = transcript("app_user", "wrong");
    assert_eq!(wrong.0, "28P01");
    assert_eq!(wrong.1, "TG040: password authentication failed for user \"app_user\"");
    // A login without a password, no login at all, and a name whose front part is a login that takes no
    // suffix; also where the password would be right.
    for user in ["app_usex", "keyless", "acme_app.x", "acme_app."] {
        for password in ["wrong", "demo"] {
            let unknown = transcript(user, password);
            assert_eq!(unknown, (wrong.0.clone(), wrong.1.replace("app_user", user), wrong.2.clone()));
        }
    }
}

#[test]
fn challenges_of_known_and_unknown_users_have_the_same_form_and_stay_the_same() {
    let challenge = |user: &str| {
        let mut peer = Peer::new();
        peer.start(PROTOCOL_3_2, &[("user", user)]);
        peer.authentication();
        peer.send(&initial(b"n,,n=,r=abc"));
        peer.authentication().1
    };
    assert_eq!(challenge("nobody"), challenge("nobody"));
    assert_eq!(challenge("app_user"), challenge("app_user"));
    assert_ne!(challenge("nobody"), challenge("nobody2"));
    assert_eq!(challenge("nobody").len(), challenge("app_user").len());
}

#[test]
fn nothing_is_told_before_the_proof() {
    // All of these would be refused for something else with the right password.
    for parameters in [
        vec![("user", "app_user")],
        vec![("user", "app_user.x")],
        vec![("user", "app_user"), ("database", "nosuch")],
        vec![("user", "app_user"), ("work_mem", "1GB")],
        vec![("user", "narrow"), ("database", "demo")],
    ] {
        let mut peer = Peer::new();
        assert!(matches!(peer.start(PROTOCOL_3_2, &parameters), Step::Read));
        assert!(matches!(peer.password("wrong"), Step::Close(_)));
        assert_eq!(peer.fault().0, "28P01", "{parameters:?}");
    }
}

#[test]
fn tenants_are_refused_with_three_codes() {
    for (parameters, sqlstate, code) in [
        (vec![("user", "app_user"), ("database", "demo")], "28000", "TG001"),
        (vec![("user", "app_user."), ("database", "demo")], "28000", "TG002"),
        (vec![("user", "app_user.x"), ("database", "demo")], "28000", "TG002"),
        (vec![("user", "app_user"), ("app.tenant_id", ""), ("database", "demo")], "28000", "TG002"),
        (vec![("user", "picky"), ("app.tenant_id", GLOBEX), ("database", "demo")], "28000", "TG003"),
        (vec![("user", "acme_app"), ("app.tenant_id", GLOBEX), ("database", "demo")], "28000", "TG003"),
        (vec![("user", &acme_user()), ("app.tenant_id", GLOBEX), ("database", "demo")], "28000", "TG003"),
    ] {
        let (state, message, _) = Peer::new().refused(&parameters);
        assert_eq!((&*state, message.split(':').next().unwrap()), (sqlstate, code), "{parameters:?}");
    }
}

#[test]
fn unknown_and_forbidden_databases_look_the_same() {
    let user = format!("narrow.{ACME}");
    let unknown = Peer::new().refused(&[("user", &user), ("database", "nosuch")]);
    let forbidden = Peer::new().refused(&[("user", &user), ("database", "demo")]);
    assert_eq!(unknown.0, "3D000");
    assert_eq!(unknown.1.replace("nosuch", "demo"), forbidden.1);
    assert_eq!(Peer::new().log_in(&[("user", &user), ("database", "other")]).database(), "other");
}

#[test]
fn settings_are_judged_and_the_last_of_a_name_counts() {
    let user = acme_user();
    let client = Peer::new().log_in(&[
        ("user", &user),
        ("TimeZone", "UTC"),
        ("options", "-c timezone=CET -c client_encoding=UTF8"),
        ("extra_float_digits", "3"),
    ]);
    assert_eq!(client.parameters(), [("TimeZone".into(), "UTC".into()), ("client_encoding".into(), "UTF8".into())]);
    let (state, message, detail) = Peer::new().refused(&[("user", &user), ("options", "-c work_mem=1GB")]);
    assert_eq!(state, "22023");
    assert_eq!(message, "TG046: the startup parameter \"work_mem\" is not allowed");
    assert!(detail.contains("TG013"), "{detail}");
}

#[test]
fn versions_and_options_are_negotiated_once() {
    let mut peer = Peer::new();
    peer.start(PROTOCOL_3_0 + 9999, &[("user", "u"), ("_pq_.b", "1"), ("_pq_.a", "")]);
    let (tag, body) = peer.reply();
    assert_eq!((tag, &body[..]), (b'v', &b"\0\x03\0\x02\0\0\0\x02_pq_.b\0_pq_.a\0"[..]));
    assert_eq!(peer.authentication().0, 10);
    assert!(peer.out.is_empty());
    let mut peer = Peer::new();
    peer.start(PROTOCOL_3_0, &[("user", "u"), ("_pq_.x", "1")]);
    assert_eq!(&peer.reply().1[..], &b"\0\x03\0\0\0\0\0\x01_pq_.x\0"[..]);
    for protocol in [PROTOCOL_3_0, PROTOCOL_3_2] {
        let mut peer = Peer::new();
        peer.start(protocol, &[("user", "u")]);
        assert_eq!(peer.authentication().0, 10);
    }
}

#[test]
fn other_protocols_are_refused_in_words() {
    for (protocol, named) in [(2 << 16, "2.0"), (4 << 16, "4.0"), (1234 << 16 | 5681, "1234.5681")] {
        let mut peer = Peer::new();
        assert!(matches!(peer.start(protocol, &[]), Step::Close(_)));
        let (state, message, _) = peer.fault();
        assert_eq!(state, "0A000");
        assert!(message.contains(named), "{message}");
    }
}

#[test]
fn an_ssl_request_is_answered_by_the_mode() {
    let mut request = BytesMut::new();
    put_ssl_request(&mut request);
    for bytewise in [false, true] {
        let mut peer = Peer { bytewise, ..Peer::new() };
        assert!(matches!(peer.send(&request), Step::Read));
        assert_eq!(&peer.out.split()[..], b"N");
        assert!(!peer.log_in(&[("user", &acme_user())]).is_tls());
    }
    let mut peer = Peer::with(StartupSettings { tls: TlsOffer::Required, ..settings() });
    assert!(peer.startup.may_start_with_tls());
    assert!(matches!(peer.send(&request), Step::UpgradeTls));
    assert_eq!(&peer.out.split()[..], b"S");
    peer.startup.on_tls(None);
    assert!(peer.log_in(&[("user", &acme_user())]).is_tls());
}

#[test]
fn bytes_behind_an_encryption_request_are_refused() {
    let mut startup = BytesMut::new();
    put_startup(&mut startup, PROTOCOL_3_0, &[("user", "u")]);
    for (tls, code) in [(TlsOffer::Offered, 0x2f), (TlsOffer::Never, 0x2f), (TlsOffer::Offered, 0x30)] {
        let mut peer = Peer::with(StartupSettings { tls, ..settings() });
        let step = peer.send(&[&[0, 0, 0, 8, 4, 210, 22, code], &startup[..]].concat());
        assert!(matches!(step, Step::Close(fault) if matches!(*fault, StartupFault::PlaintextAfter(_))));
        assert_eq!(peer.fault().0, "08P01");
    }
}

#[test]
fn encryption_requests_come_once_each_and_not_inside_tls() {
    let (ssl, gssenc) = (&b"\0\0\0\x08\x04\xd2\x16\x2f"[..], &b"\0\0\0\x08\x04\xd2\x16\x30"[..]);
    for (first, second) in [(ssl, gssenc), (gssenc, ssl)] {
        let mut peer = Peer::new();
        assert!(matches!(peer.send(first), Step::Read));
        assert!(matches!(peer.send(second), Step::Read));
        assert_eq!(&peer.out.split()[..], b"NN");
        assert!(matches!(peer.send(first), Step::Close(_)));
        assert_eq!(peer.fault().0, "08P01");
    }
    for request in [ssl, gssenc] {
        let mut peer = Peer::with(StartupSettings { tls: TlsOffer::Offered, ..settings() });
        peer.send(ssl);
        peer.out.clear();
        peer.startup.on_tls(None);
        assert!(matches!(peer.send(request), Step::Close(_)));
    }
}

#[test]
fn direct_tls_needs_the_protocols_name() {
    for (alpn, is_fine) in [(Some(ALPN), true), (None, false), (Some(&b"http/1.1"[..]), false)] {
        let mut peer = Peer::with(StartupSettings { tls: TlsOffer::Offered, ..settings() });
        assert_eq!(peer.startup.on_direct_tls(alpn, None).is_ok(), is_fine);
        let step = peer.start(PROTOCOL_3_0, &[("user", "u")]);
        assert_eq!(matches!(step, Step::Read), is_fine);
    }
    assert!(Peer::new().startup.on_direct_tls(Some(ALPN), None).is_err());
}

#[test]
fn a_listener_that_requires_tls_takes_nothing_else() {
    let mut peer = Peer::with(StartupSettings { tls: TlsOffer::Required, ..settings() });
    assert!(matches!(peer.start(PROTOCOL_3_0, &[("user", "u")]), Step::Close(_)));
    assert!(peer.fault().1.starts_with("TG042"));
}

#[test]
fn cancel_requests_are_passed_on_without_a_word() {
    for secret in [vec![1; 4], vec![2; 32], vec![3; 256]] {
        let mut request = BytesMut::new();
        put_cancel_request(&mut request, 77, &secret);
        let mut peer = Peer::new();
        let Step::Cancel { process_id, secret: found } = peer.send(&request) else { panic!("no cancel") };
        assert_eq!((process_id, found, peer.out.len()), (77, secret, 0));
    }
    let mut request = BytesMut::new();
    put_cancel_request(&mut request, 77, &[0; 257]);
    let mut peer = Peer::new();
    assert!(matches!(peer.send(&request), Step::Close(_)));
    assert!(peer.out.is_empty());
}

#[test]
fn rules_decide() {
    let with = |rules| Peer::with(StartupSettings { rules: Rules::new(rules), ..settings() });
    let user = acme_user();
    let mut peer = with(vec![rule("app_user", TlsNeed::Any, Method::Trust)]);
    let Step::Authenticated(client) = peer.start(PROTOCOL_3_0, &[("user", &user)]) else { panic!("not trusted") };
    assert_eq!((client.tenant().unwrap().as_str(), client.protocol()), (ACME, PROTOCOL_3_0));
    assert_eq!(peer.authentication().0, 0);

    // Trust is for logins, not for anybody.
    let mut peer = with(vec![rule("*", TlsNeed::Any, Method::Trust)]);
    assert!(matches!(peer.start(PROTOCOL_3_0, &[("user", "nobody")]), Step::Close(_)));
    assert_eq!(peer.fault().0, "28P01");

    let mut peer = with(vec![rule("*", TlsNeed::Any, Method::Reject)]);
    assert!(matches!(peer.start(PROTOCOL_3_0, &[("user", &user)]), Step::Close(_)));
    assert!(peer.fault().1.starts_with("TG041"));

    let mut peer = with(vec![rule("*", TlsNeed::Required, Method::ScramSha256)]);
    assert!(matches!(peer.start(PROTOCOL_3_0, &[("user", &user)]), Step::Close(_)));
    assert!(peer.fault().1.starts_with("TG042"));

    // A rule for somebody else: the refusal comes behind the proof.
    let (_, message, _) = with(vec![rule("picky", TlsNeed::Any, Method::ScramSha256)]).refused(&[("user", &user)]);
    assert!(message.starts_with("TG041"), "{message}");
}

#[test]
fn replication_and_missing_users_are_refused() {
    let mut peer = Peer::new();
    assert!(matches!(peer.start(PROTOCOL_3_0, &[("user", "u"), ("replication", "database")]), Step::Close(_)));
    assert!(peer.fault().1.starts_with("TG031"));
    let mut peer = Peer::new();
    assert!(matches!(peer.start(PROTOCOL_3_0, &[("database", "demo")]), Step::Close(_)));
    assert_eq!(peer.fault().0, "28000");
    let mut peer = Peer::new();
    assert!(matches!(peer.start(PROTOCOL_3_0, &[("user", "u"), ("options", "-e")]), Step::Close(_)));
    assert!(peer.fault().1.starts_with("TG046"));
}

#[test]
fn the_number_of_settings_is_limited() {
    let many: Vec<_> = [("user", "u")].into_iter().chain(std::iter::repeat_n(("TimeZone", "UTC"), 101)).collect();
    let mut peer = Peer::new();
    assert!(matches!(peer.start(PROTOCOL_3_0, &many), Step::Close(_)));
    assert!(peer.fault().1.starts_with("TG046"));
    let mut peer = Peer::new();
    assert!(matches!(peer.start(PROTOCOL_3_0, &many[..101]), Step::Read));
}

#[test]
fn the_first_sasl_message_may_be_empty() {
    let mut peer = Peer::new();
    peer.start(PROTOCOL_3_0, &[("user", &acme_user())]);
    peer.authentication();
    let mut message = BytesMut::new();
    put_message(&mut message, b'p', |out| out.extend_from_slice(b"SCRAM-SHA-256\0\xff\xff\xff\xff"));
    assert!(matches!(peer.send(&message), Step::Read));
    assert_eq!(peer.authentication(), (11, BytesMut::new()));
    let exchange = ClientExchange::new([1; NONCE_BYTES], ClientBinding::NotPossible);
    peer.send(&password_message(exchange.client_first().as_bytes()));
    let (_, server_first) = peer.authentication();
    let (_, client_final) = exchange.handle_server_first(&server_first, "demo").unwrap();
    assert!(matches!(peer.send(&password_message(client_final.as_bytes())), Step::Authenticated(_)));
}

#[test]
fn deviations_during_authentication_end_it() {
    let big = password_message(&[b'x'; LOGIN_MESSAGE_BYTES_MAX]);
    for (bytes, code) in [
        (&b"Q\0\0\0\x05\0"[..], "TG032"),
        (b"p\0\0\0\x00", "TG033"),
        (b"p\0\0\0\x04", "TG032"),
        (b"p\xff\xff\xff\xff", "TG033"),
        // Its head alone is enough.
        (&big[..5], "TG033"),
        (b"p\0\0\0\x17SCRAM-SHA-1\0\0\0\0\0xxx", "TG032"),
        (b"p\0\0\0\x16SCRAM-SHA-256\0\0\0\0\x01", "TG032"),
        (b"p\0\0\0\x16SCRAM-SHA-256\0\xff\xff\xff\xfe", "TG032"),
        (b"p\0\0\0\x17SCRAM-SHA-256\0\0\0\0\0x", "TG032"),
        (b"p\0\0\0\x09demo\0", "TG032"),
    ] {
        let mut peer = Peer::new();
        peer.start(PROTOCOL_3_0, &[("user", "app_user")]);
        peer.authentication();
        let step = peer.send(bytes);
        assert!(matches!(step, Step::Close(_)), "{bytes:?} {step:?}");
        assert!(peer.fault().1.starts_with(code), "{bytes:?}");
        // The end is the end.
        assert!(matches!(peer.send(b"p\0\0\0\x04"), Step::Close(_)));
    }
}

#[test]
fn what_comes_behind_the_proof_is_left_for_the_session() {
    let mut peer =
        Peer::with(StartupSettings { rules: Rules::new(vec![rule("*", TlsNeed::Any, Method::Trust)]), ..settings() });
    let mut bytes = BytesMut::new();
    put_startup(&mut bytes, PROTOCOL_3_0, &[("user", &acme_user())]);
    bytes.extend_from_slice(b"Q\0\0\0\x05\0");
    assert!(matches!(peer.send(&bytes), Step::Authenticated(_)));
    assert_eq!(&peer.input[..], b"Q\0\0\0\x05\0");
}

/// A small generator of our own: the sequence is the same everywhere and for ever.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// Transcripts with bytes changed, cut, doubled, in pieces of any size: no panic, no session without
/// its proof, no unbounded output.
#[test]
fn garbage_gets_no_session() {
    let mut good = Vec::new();
    put_all(&mut good);
    let settings = Arc::new(StartupSettings { tls: TlsOffer::Offered, ..settings() });
    for seed in 1..=20_000_u64 {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut bytes = good[usize::try_from(dice.roll(good.len() as u64)).unwrap()].clone();
        for _ in 0..=dice.roll(6) {
            let at = usize::try_from(dice.roll(bytes.len() as u64)).unwrap();
            match dice.roll(4) {
                0 => bytes.truncate(at.max(1)),
                1 => bytes.extend_from_within(at..),
                2 => bytes[at] = 0,
                _ => bytes[at] = u8::try_from(dice.roll(256)).unwrap(),
            }
        }
        let mut peer = Peer::of(&settings);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(usize::try_from(1 + dice.roll(rest.len() as u64)).unwrap());
            rest = behind;
            match peer.send(piece) {
                Step::Read => {}
                Step::UpgradeTls => peer.startup.on_tls(None),
                Step::Cancel { .. } | Step::Close(_) => break,
                Step::Authenticated(client) => panic!("seed {seed}: {client:?}"),
            }
        }
        assert!(peer.out.len() < 32 * 1024, "seed {seed}");
    }
}

fn put_all(good: &mut Vec<Vec<u8>>) {
    let user = acme_user();
    let parameters = [("user", &*user), ("database", "demo"), ("options", "-c TimeZone=UTC"), ("_pq_.x", "1")];
    let mut out = BytesMut::new();
    put_ssl_request(&mut out);
    good.push(out.split().to_vec());
    put_cancel_request(&mut out, 1, &[1; 32]);
    good.push(out.split().to_vec());
    put_startup(&mut out, PROTOCOL_3_2, &parameters);
    out.extend_from_slice(&initial(b"n,,n=,r=abc"));
    let proof = b"c=biws,r=abcCAgICAgICAgICAgICAgICAgICAgI,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    out.extend_from_slice(&password_message(proof));
    good.push(out.split().to_vec());
}

/// A certificate made out to this name.
fn certificate(name: &str) -> ClientCertificate {
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    let key = rcgen::KeyPair::generate().unwrap();
    ClientCertificate::read(params.self_signed(&key).unwrap().der()).unwrap()
}

fn end_point() -> crate::auth::EndPoint {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    crate::auth::EndPoint::of(params.self_signed(&key).unwrap().der()).unwrap()
}

#[test]
fn channel_binding_is_offered_over_tls_only() {
    let settings = Arc::new(StartupSettings {
        tls: TlsOffer::Offered,
        binding: BindingOffer::EndPoint(end_point()),
        ..settings()
    });
    for tls in [false, true] {
        let mut peer = Peer::of(&settings);
        if tls {
            peer.startup.on_direct_tls(Some(ALPN), None).unwrap();
        }
        peer.start(PROTOCOL_3_0, &[("user", &acme_user()), ("database", "demo")]);
        let expected: &[u8] = if tls { b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0" } else { b"SCRAM-SHA-256\0\0" };
        assert_eq!(peer.authentication(), (10, BytesMut::from(expected)));
        // A client that believes that binding is not offered, though it was, has met somebody on its way.
        let step = peer.send(&initial(b"y,,n=,r=abc"));
        assert_eq!(matches!(step, Step::Close(_)), tls, "{step:?}");
        if tls {
            let (sqlstate, message, _) = peer.fault();
            assert!(sqlstate == "28000" && message.starts_with("TG092"), "{message}");
        }
    }
}

#[test]
fn a_certificate_alone_lets_its_login_in_where_the_rule_says_so() {
    let rule = Rule { method: Method::Certificate, ..rule("*", TlsNeed::Any, Method::Reject) };
    let settings = Arc::new(StartupSettings { tls: TlsOffer::Offered, rules: Rules::new(vec![rule]), ..settings() });
    let start = |shown: Option<ClientCertificate>, user: &str| {
        let mut peer = Peer::of(&settings);
        peer.startup.on_direct_tls(Some(ALPN), shown).unwrap();
        let step = peer.start(PROTOCOL_3_0, &[("user", user), ("database", "demo")]);
        (peer, step)
    };
    let (_, step) = start(Some(certificate("app_user")), &acme_user());
    let Step::Authenticated(client) = step else { panic!("{step:?}") };
    assert_eq!(client.certificate().unwrap().subject(), "CN=app_user");
    for (shown, user, code) in [
        (None, acme_user(), "TG090"),
        (Some(certificate("picky")), acme_user(), "TG091"),
        (Some(certificate("APP_USER")), acme_user(), "TG091"),
        (Some(certificate("nobody")), "nobody".to_owned(), "TG040"),
    ] {
        let (mut peer, step) = start(shown, &user);
        assert!(matches!(step, Step::Close(_)), "{step:?}");
        assert!(peer.fault().1.starts_with(code), "{user}");
    }
    // In the clear nothing is shown, and the rule lets nobody pass to the next one.
    let mut plain = Peer::of(&settings);
    plain.start(PROTOCOL_3_0, &[("user", &acme_user()), ("database", "demo")]);
    assert!(plain.fault().1.starts_with("TG090"));
}

#[test]
fn a_unix_socket_has_no_tls_and_needs_none() {
    let settings = Arc::new(StartupSettings { tls: TlsOffer::Required, ..settings() });
    let mut peer = Peer::of(&settings);
    peer.startup = Startup::new(Arc::clone(&settings), PeerAddress::Unix, [8; NONCE_BYTES]);
    assert!(!peer.startup.may_start_with_tls());
    let mut request = BytesMut::new();
    put_ssl_request(&mut request);
    assert!(matches!(peer.send(&request), Step::Read));
    assert_eq!(&peer.out.split()[..], b"N");
    let client = peer.log_in(&[("user", &acme_user()), ("database", "demo")]);
    assert_eq!((client.address(), client.is_tls()), (PeerAddress::Unix, false));
}
