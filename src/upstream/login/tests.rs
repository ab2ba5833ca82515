//! Transcripts of server logins, whole and byte by byte, and garbage.

use super::*;
use crate::auth::EndPoint;
use crate::auth::scram::server::{BindingOffer, Outcome, ServerExchange};
use crate::auth::scram::{ITERATIONS_DEFAULT, Verifier};
use crate::fault::Fault;
use crate::wire::backend::{put_backend_key, put_error, put_negotiate, put_parameter_status, put_ready};
use crate::wire::frame::cut;

fn identity() -> Identity {
    Identity {
        user: "app".into(),
        database: "demo".into(),
        password: Some("pencil".into()),
        methods: AllowedMethods::default(),
    }
}

fn channel(way: Way, binding: BindingPolicy) -> Channel {
    Channel { way, binding }
}

fn clear() -> Channel {
    channel(Way::Clear, BindingPolicy::Prefer)
}

fn end_point() -> EndPoint {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    EndPoint::of(params.self_signed(&key).unwrap().der()).unwrap()
}

struct Login {
    login: ServerLogin,
    input: BytesMut,
    out: BytesMut,
    bytewise: bool,
}

impl Login {
    fn with(identity: Identity) -> Self {
        Self::over(clear(), identity)
    }

    fn over(channel: Channel, identity: Identity) -> Self {
        let mut out = BytesMut::new();
        let login = ServerLogin::start(identity, channel, [1; NONCE_BYTES], &mut out);
        assert_eq!(&out[4..8], PROTOCOL_3_2.to_be_bytes());
        out.clear();
        Self { login, input: BytesMut::new(), out, bytewise: false }
    }

    fn new() -> Self {
        Self::with(identity())
    }

    fn send(&mut self, bytes: &[u8]) -> Result<Option<LoggedIn>, ServerLoginFault> {
        if !self.bytewise {
            self.input.extend_from_slice(bytes);
            return self.login.handle_bytes(&mut self.input, &mut self.out);
        }
        let mut logged_in = None;
        for byte in bytes {
            assert_eq!(logged_in, None);
            self.input.extend_from_slice(&[*byte]);
            logged_in = self.login.handle_bytes(&mut self.input, &mut self.out)?;
        }
        Ok(logged_in)
    }

    fn reply(&mut self) -> BytesMut {
        let (head, _) = cut(&self.out).unwrap().expect("a reply");
        assert_eq!((head.tag, head.frame_bytes()), (b'p', self.out.len()));
        self.out.split().split_off(5)
    }

    fn scram(&mut self, stored: &str) -> Result<Option<LoggedIn>, ServerLoginFault> {
        self.send(&authentication(10, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"))?;
        let verifier = Verifier::derive(stored, b"0123456789abcdef", ITERATIONS_DEFAULT);
        let exchange = ServerExchange::new(verifier, [2; NONCE_BYTES], BindingOffer::None);
        let exchange = exchange.select(MECHANISM.as_bytes()).unwrap();
        let initial = self.reply();
        let first = initial.strip_prefix(b"SCRAM-SHA-256\0\0\0\0\x20").expect("32 bytes of client-first-message");
        let (challenged, server_first) = exchange.handle_client_first(first).unwrap();
        self.send(&authentication(11, server_first.as_bytes()))?;
        let server_final = match challenged.handle_client_final(&self.reply()).unwrap() {
            Outcome::Proven(proven) => proven.server_final,
            Outcome::Refused => "v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".to_owned(),
        };
        self.send(&authentication(12, server_final.as_bytes()))
    }
}

fn authentication(code: i32, data: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    put_message(&mut out, b'R', |out| {
        out.extend_from_slice(&code.to_be_bytes());
        out.extend_from_slice(data);
    });
    out
}

fn parameters(changed: &[(&str, Option<&str>)]) -> BytesMut {
    let mut all = std::collections::BTreeMap::from([
        ("server_version", Some("15.14 (Debian 15.14-0+deb12u1)")),
        ("standard_conforming_strings", Some("on")),
        ("client_encoding", Some("UTF8")),
        ("integer_datetimes", Some("on")),
    ]);
    all.extend(changed.iter().copied());
    let mut out = BytesMut::new();
    for (name, value) in all {
        if let Some(value) = value {
            put_parameter_status(&mut out, name.as_bytes(), value.as_bytes());
        }
    }
    out
}

fn ending(changed: &[(&str, Option<&str>)]) -> BytesMut {
    let mut out = authentication(0, b"");
    out.extend_from_slice(&parameters(changed));
    put_backend_key(&mut out, 77, &[9; 32]);
    put_ready(&mut out, TransactionStatus::Idle);
    out
}

fn fault_of(login: &mut Login, bytes: &[u8]) -> ServerLoginFault {
    login.send(bytes).expect_err("a fault")
}

#[test]
fn a_login_with_scram_ends_in_what_is_known_about_the_server() {
    for bytewise in [false, true] {
        let mut login = Login { bytewise, ..Login::new() };
        assert_eq!(login.scram("pencil"), Ok(None));
        let logged_in = login.send(&ending(&[])).unwrap().expect("a login");
        assert_eq!((logged_in.process_id(), logged_in.secret()), (77, &[9; 32][..]));
        assert_eq!((logged_in.protocol(), logged_in.version_num()), (PROTOCOL_3_2, 150_014));
        assert_eq!(logged_in.parameter("client_encoding"), Some("UTF8"));
        assert_eq!(logged_in.parameters().len(), 4);
        assert!(!format!("{logged_in:?}").contains("9, 9"));
    }
}

#[test]
fn servers_before_14_are_refused_and_later_ones_are_not() {
    let version = |text| {
        let mut login = Login::new();
        login.scram("pencil").expect("a proof");
        login.send(&ending(&[("server_version", Some(text))])).map(|logged_in| logged_in.map(|it| it.version_num()))
    };
    for text in ["13.99", "9.6.24", "10devel", "13beta1 (Vendor 15.2)", "8.4"] {
        assert_eq!(version(text), Err(ServerLoginFault::TooOld(text.to_owned())));
    }
    let known =
        [("14.0", 140_000), ("14beta1", 140_000), ("14.5.0 (X)", 140_005), ("18.6", 180_006), ("19devel", 190_000)];
    for (text, number) in known {
        assert_eq!(version(text), Ok(Some(number)), "{text}");
    }
    for text in ["", "devel", "PostgreSQL 15"] {
        assert_eq!(version(text), Err(ServerLoginFault::Version(text.to_owned())));
    }
}

#[test]
fn what_comes_behind_ready_for_query_is_left() {
    let mut login = Login::new();
    let mut bytes = ending(&[]);
    bytes.extend_from_slice(b"S\0\0\0\x08a\0b\0");
    assert!(login.send(&bytes).unwrap().is_some());
    assert_eq!(&login.input[..], b"S\0\0\0\x08a\0b\0");
}

#[test]
fn an_older_server_negotiates_down() {
    let mut login = Login::new();
    let mut bytes = BytesMut::new();
    put_negotiate(&mut bytes, PROTOCOL_3_0, &[]);
    bytes.extend_from_slice(&ending(&[]));
    assert_eq!(login.send(&bytes).unwrap().unwrap().protocol(), PROTOCOL_3_0);
    for (version, options) in [(PROTOCOL_3_2, vec![]), (PROTOCOL_3_2 + 1, vec![]), (2 << 16, vec![]), (0, vec![])]
        .into_iter()
        .chain([(PROTOCOL_3_0, vec!["_pq_.x".to_owned()])])
    {
        let mut bytes = BytesMut::new();
        put_negotiate(&mut bytes, version, &options);
        assert_eq!(fault_of(&mut Login::new(), &bytes), ServerLoginFault::Protocol(version));
    }
}

#[test]
fn a_server_that_does_not_know_the_password_is_refused() {
    let fault = Login::new().scram("pencils").expect_err("a fault");
    assert_eq!(fault, ServerLoginFault::Scram(ServerScramFault::Signature));
}

#[test]
fn passwords_are_not_given_away() {
    let cleartext = authentication(3, b"");
    assert_eq!(fault_of(&mut Login::new(), &cleartext), ServerLoginFault::MethodRefused("clear text"));
    let md5 = authentication(5, b"salt");
    assert_eq!(fault_of(&mut Login::new(), &md5), ServerLoginFault::MethodRefused("MD5"));
    for code in [2, 6, 7, 9, 13, -1] {
        let fault = fault_of(&mut Login::new(), &authentication(code, b""));
        assert_eq!(fault, ServerLoginFault::MethodUnsupported(code));
    }
    let all = AllowedMethods { scram: true, md5: true, password: PasswordAllowed::Anywhere };
    let mut login = Login::with(Identity { methods: all, ..identity() });
    assert_eq!(login.send(&cleartext), Ok(None));
    assert_eq!(&login.reply()[..], b"pencil\0");
    for password in [authentication(10, b"SCRAM-SHA-256\0\0"), cleartext] {
        let identity = Identity { password: None, methods: all, ..identity() };
        assert_eq!(fault_of(&mut Login::with(identity), &password), ServerLoginFault::NoPassword);
    }
    let other = authentication(10, b"OAUTHBEARER\0\0");
    assert_eq!(fault_of(&mut Login::new(), &other), ServerLoginFault::Mechanism);
    assert!(matches!(
        fault_of(&mut Login::new(), &authentication(10, b"SCRAM-SHA-256\0")),
        ServerLoginFault::Malformed(_)
    ));
}

#[test]
fn an_exchange_cannot_be_cut_short() {
    let mut login = Login::new();
    login.send(&authentication(10, b"SCRAM-SHA-256\0\0")).unwrap();
    assert_eq!(fault_of(&mut login, &authentication(0, b"")), ServerLoginFault::OutOfOrder("Authentication"));
    for (code, data) in [(11, &b"r=x"[..]), (12, b"v="), (0, b"x")] {
        let fault = fault_of(&mut Login::new(), &authentication(code, data));
        assert_eq!(fault, ServerLoginFault::OutOfOrder("Authentication"), "{code}");
    }
    let mut again = Login::new();
    again.send(&authentication(10, b"SCRAM-SHA-256\0\0")).unwrap();
    let fault = fault_of(&mut again, &authentication(10, b"SCRAM-SHA-256\0\0"));
    assert_eq!(fault, ServerLoginFault::OutOfOrder("Authentication"));
}

#[test]
fn refusals_are_told_apart() {
    for (sqlstate, expected) in [
        (b"28P01", ServerRefusal::Authentication),
        (b"28000", ServerRefusal::Authentication),
        (b"53300", ServerRefusal::TooManyConnections),
        (b"57P03", ServerRefusal::NotNow),
        (b"3D000", ServerRefusal::DatabaseMissing),
        (b"XX000", ServerRefusal::Error),
    ] {
        let mut bytes = BytesMut::new();
        put_error(&mut bytes, &Fault::native(sqlstate, "no\nway").fatal());
        let ServerLoginFault::Refused { refusal, sqlstate: found, message } = fault_of(&mut Login::new(), &bytes)
        else {
            panic!("not refused")
        };
        assert_eq!((refusal, &found.0, &*message), (expected, sqlstate, "no way"));
    }
}

#[test]
fn a_server_that_reads_sql_differently_is_refused() {
    for (name, value) in [
        ("standard_conforming_strings", Some("off")),
        ("standard_conforming_strings", None),
        ("client_encoding", Some("SJIS")),
        ("integer_datetimes", None),
    ] {
        let fault = fault_of(&mut Login::new(), &ending(&[(name, value)]));
        assert!(matches!(fault, ServerLoginFault::Setting { name: found, .. } if found == name), "{fault}");
    }
    let fault = fault_of(&mut Login::new(), &ending(&[("server_version", Some("new"))]));
    assert_eq!(fault, ServerLoginFault::Version("new".into()));
}

#[test]
fn versions_are_numbers() {
    for (text, number) in [
        ("15.14 (Debian 15.14-0+deb12u1)", Some(150_014)),
        ("18.6", Some(180_006)),
        ("18beta1", Some(180_000)),
        ("19devel", Some(190_000)),
        ("9.6.3", Some(90_603)),
        ("", None),
        ("x", None),
        ("99999999999", None),
    ] {
        assert_eq!(version_num(text), number, "{text}");
    }
}

#[test]
fn hostile_servers_are_bounded() {
    assert_eq!(fault_of(&mut Login::new(), b"R\0\0\xff\xff"), ServerLoginFault::MessageLength(65_536));
    assert_eq!(fault_of(&mut Login::new(), b"R\0\0\0\x03"), ServerLoginFault::MessageLength(3));
    assert_eq!(fault_of(&mut Login::new(), b"T\0\0\0\x04"), ServerLoginFault::UnexpectedMessage(b'T'));
    assert_eq!(fault_of(&mut Login::new(), b"Z\0\0\0\x05I"), ServerLoginFault::OutOfOrder("ReadyForQuery"));
    let notices = b"N\0\0\0\x05\0".repeat(SERVER_LOGIN_MESSAGES_MAX + 1);
    assert_eq!(fault_of(&mut Login::new(), &notices), ServerLoginFault::TooManyMessages);
    let mut keys = authentication(0, b"");
    put_backend_key(&mut keys, 1, &[1; 4]);
    put_backend_key(&mut keys, 1, &[1; 4]);
    assert_eq!(fault_of(&mut Login::new(), &keys), ServerLoginFault::OutOfOrder("BackendKeyData"));
    let mut keyless = authentication(0, b"");
    keyless.extend_from_slice(&parameters(&[]));
    put_ready(&mut keyless, TransactionStatus::Idle);
    assert_eq!(fault_of(&mut Login::new(), &keyless), ServerLoginFault::NoCancelKey);
    let mut busy = authentication(0, b"");
    put_ready(&mut busy, TransactionStatus::InBlock);
    assert_eq!(fault_of(&mut Login::new(), &busy), ServerLoginFault::NotIdle);
}

/// Transcripts with bytes changed: no panic, no unbounded output.
#[test]
fn garbage_is_survived() {
    let mut good = BytesMut::new();
    put_negotiate(&mut good, PROTOCOL_3_0, &[]);
    good.extend_from_slice(&authentication(10, b"SCRAM-SHA-256\0\0"));
    good.extend_from_slice(&authentication(11, b"r=AQEBAQEBAQEBAQEBAQEBAQEBAQEBx,s=AAAA,i=1"));
    good.extend_from_slice(&authentication(12, b"v=AAAA"));
    let trusting = ending(&[]);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut roll = |sides: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % sides as u64).unwrap()
    };
    for round in 0..20_000 {
        let mut bytes = if round % 2 == 0 { good.to_vec() } else { trusting.to_vec() };
        for _ in 0..=roll(4) {
            let at = roll(bytes.len());
            bytes[at] = u8::try_from(roll(256)).unwrap();
        }
        let mut login = Login::new();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(1 + roll(rest.len()));
            rest = behind;
            if !matches!(login.send(piece), Ok(None)) {
                break;
            }
        }
        assert!(login.out.len() < 1024);
    }
}

#[test]
fn methods_are_used_only_where_they_are_allowed() {
    let protected = AllowedMethods { scram: false, md5: true, password: PasswordAllowed::Protected };
    let over = |way, binding| Login::over(channel(way, binding), Identity { methods: protected, ..identity() });
    let cleartext = authentication(3, b"");
    let md5 = authentication(5, &[0x93, 0x2e, 0x01, 0x5a]);
    let fault = fault_of(&mut over(Way::Clear, BindingPolicy::Prefer), &cleartext);
    assert_eq!(fault, ServerLoginFault::MethodRefused("clear text"));
    for way in [Way::Local, Way::Tls(None), Way::Tls(Some(end_point()))] {
        assert_eq!(over(way.clone(), BindingPolicy::Prefer).send(&cleartext), Ok(None), "{way:?}");
        for message in [&cleartext, &md5] {
            let fault = fault_of(&mut over(way.clone(), BindingPolicy::Require), message);
            assert!(matches!(fault, ServerLoginFault::MethodRefused(_)), "{way:?} {fault}");
        }
    }
    // Computed with another program's MD5, by the formula in PostgreSQL's documentation.
    let mut login = over(Way::Clear, BindingPolicy::Prefer);
    assert_eq!(login.send(&md5), Ok(None));
    assert_eq!(&login.reply()[..], b"md58072a318addf6a9d97ddf1d9813ad89e\0");
    for salt in [&b""[..], b"123", b"12345"] {
        let fault = fault_of(&mut over(Way::Clear, BindingPolicy::Prefer), &authentication(5, salt));
        assert!(matches!(fault, ServerLoginFault::Malformed(_)), "{fault}");
    }
    let fault = fault_of(&mut over(Way::Clear, BindingPolicy::Prefer), &authentication(10, b"SCRAM-SHA-256\0\0"));
    assert_eq!(fault, ServerLoginFault::MethodRefused("SCRAM-SHA-256"));
}

#[test]
fn what_is_said_about_channel_binding_follows_channel_offer_and_policy() {
    const BOTH: &[u8] = b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";
    const PLAIN: &[u8] = b"SCRAM-SHA-256\0\0";
    const PLUS: &[u8] = b"SCRAM-SHA-256-PLUS\0\0";
    use BindingPolicy::{Disable, Prefer, Require};
    let tls = || Way::Tls(Some(end_point()));
    let bare: fn() -> Way = || Way::Tls(None);
    for (way, policy, offer, expected) in [
        (tls(), Prefer, BOTH, Ok("SCRAM-SHA-256-PLUS p=tls-server-end-point,,")),
        (tls(), Prefer, PLUS, Ok("SCRAM-SHA-256-PLUS p=tls-server-end-point,,")),
        (tls(), Require, BOTH, Ok("SCRAM-SHA-256-PLUS p=tls-server-end-point,,")),
        // Somebody may have taken the offer away: the server, if it made one, will refuse `y`.
        (tls(), Prefer, PLAIN, Ok("SCRAM-SHA-256 y,,")),
        (tls(), Require, PLAIN, Err(ServerLoginFault::BindingMissing)),
        (tls(), Disable, BOTH, Ok("SCRAM-SHA-256 n,,")),
        (tls(), Disable, PLUS, Err(ServerLoginFault::Mechanism)),
        (bare(), Prefer, BOTH, Ok("SCRAM-SHA-256 n,,")),
        (bare(), Require, BOTH, Err(ServerLoginFault::BindingMissing)),
        (Way::Clear, Prefer, BOTH, Ok("SCRAM-SHA-256 n,,")),
        (Way::Local, Require, BOTH, Err(ServerLoginFault::BindingMissing)),
    ] {
        let case = format!("{way:?} {policy:?} {}", String::from_utf8_lossy(offer));
        let mut login = Login::over(channel(way, policy), identity());
        match (login.send(&authentication(10, offer)), expected) {
            (Ok(None), Ok(start)) => {
                let reply = login.reply();
                let (mechanism, flag) = start.split_once(' ').unwrap();
                let (found, rest) = reply.split_at(mechanism.len());
                assert_eq!(found, mechanism.as_bytes(), "{case}");
                assert_eq!(&rest[..1], b"\0", "{case}");
                assert!(rest[5..].starts_with(flag.as_bytes()), "{case}: {reply:?}");
            }
            (found, expected) => assert_eq!(found.err(), expected.err(), "{case}"),
        }
    }
}

#[test]
fn a_server_that_asks_for_no_proof_is_not_bound() {
    for way in [Way::Clear, Way::Tls(Some(end_point()))] {
        let mut login = Login::over(channel(way, BindingPolicy::Require), identity());
        assert_eq!(fault_of(&mut login, &authentication(0, b"")), ServerLoginFault::BindingMissing);
    }
}
