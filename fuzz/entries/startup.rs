//! The dialogue with a client: packets and messages, drawn or honest, over several kinds of settings.
//!
//! Must hold: nobody is let in but by a rule that trusts it or by its password; its tenant is one that its login may
//! have; the outcome does not depend on how bytes are cut; what is answered is well-formed, and nothing follows an error;
//! nothing panics.

use std::num::NonZeroU32;
use std::sync::{Arc, LazyLock};

use bytes::BytesMut;
use tenantgate::auth::scram::client::{ClientBinding, ClientExchange};
use tenantgate::auth::scram::server::BindingOffer;
use tenantgate::auth::scram::{MECHANISM, MECHANISM_PLUS, NONCE_BYTES, Verifier};
use tenantgate::auth::{
    Access, AddressPattern, CertificateNeed, DatabaseList, EndPoint, Login, Logins, Method, PeerAddress, ProcessSecret,
    Proof, Rule, Rules, TlsNeed,
};
use tenantgate::fault::{Code, Fault};
use tenantgate::startup::{
    AuthenticatedClient, ConsoleAccess, Judged, Packet, Purpose, Startup, StartupSettings, Step, TlsOffer, cut_packet,
};
use tenantgate::tenant::{AllowedTenants, Glob, Origin, Separator, TenantId, TenantKind, TenantPolicy, TenantSource};
use tenantgate::wire::frame::cut;
use tenantgate::wire::frontend::{PROTOCOL_3_2, put_cstr, put_message, put_startup};

use super::draw::Draw;

const PASSWORD: &str = "demo";

/// What a proof over TLS is bound to.
pub fn end_point() -> EndPoint {
    EndPoint::of(include_bytes!("localhost.der")).expect("a certificate")
}

static SETTINGS: LazyLock<Vec<Arc<StartupSettings>>> = LazyLock::new(|| {
    let kinds = [
        (TlsOffer::Never, Method::ScramSha256, TlsNeed::Any),
        (TlsOffer::Offered, Method::ScramSha256, TlsNeed::Any),
        (TlsOffer::Required, Method::ScramSha256, TlsNeed::Any),
        (TlsOffer::Offered, Method::ScramSha256, TlsNeed::Required),
        (TlsOffer::Offered, Method::Trust, TlsNeed::Any),
        (TlsOffer::Offered, Method::Certificate, TlsNeed::Required),
        (TlsOffer::Never, Method::Reject, TlsNeed::Any),
    ];
    kinds.map(|(tls, method, need)| Arc::new(settings(tls, method, need))).into()
});

fn settings(tls: TlsOffer, method: Method, need: TlsNeed) -> StartupSettings {
    let rule = Rule {
        login: Glob::any(),
        database: Glob::any(),
        address: AddressPattern::Any,
        tls: need,
        certificate: CertificateNeed::None,
        method,
    };
    StartupSettings {
        tls,
        binding: BindingOffer::EndPoint(end_point()),
        rules: Rules::new(vec![rule]),
        logins: logins(),
        databases: ["demo".into(), "other".into()].into(),
        console: ConsoleAccess { logins: ["console".into()].into() },
        tenant_kind: TenantKind::Text,
        tenant_settings: vec!["app.tenant_id".into()],
        judge: Box::new(judge),
    }
}

fn tenant(text: &str) -> TenantId {
    TenantId::parse(TenantKind::Text, text).expect("a tenant")
}

fn logins() -> Logins {
    let named = || TenantSource::Named { from: vec![Origin::Suffix, Origin::Startup], separator: Separator::default() };
    let login = |name: &str, access| Login {
        name: name.into(),
        verifier: Some(Verifier::derive(PASSWORD, b"0123456789abcdef", NonZeroU32::MIN)),
        databases: DatabaseList::All,
        access,
    };
    let of = |source, allowed| {
        Access::Tenant(TenantPolicy { source, allowed, claiming: tenantgate::tenant::Claiming::None })
    };
    let all = [
        login("app_user", of(named(), AllowedTenants::Any)),
        login("picky", of(named(), AllowedTenants::List([tenant("acme")].into()))),
        login("fixed", of(TenantSource::Fixed(tenant("acme")), AllowedTenants::Any)),
        login("ops", Access::Bypass),
        login("console", Access::Console),
    ];
    Logins::new(all, ProcessSecret::new(&[5; 32])).expect("logins")
}

fn judge(_login: &str, name: &str, value: &str) -> Result<Judged, Fault> {
    match name {
        "TimeZone" | "client_encoding" | "application_name" => Ok(Judged::Keep(name.to_owned(), value.to_owned())),
        "extra_float_digits" => Ok(Judged::Ignore),
        _ => Err(Fault::of(Code::SettingRefused)),
    }
}

/// See the module.
pub fn run(data: &[u8]) {
    if let Ok(Some((body, packet_bytes))) = cut_packet(data) {
        assert_eq!(body.len() + 4, packet_bytes);
        drop(Packet::read(body));
    }
    let mut draw = Draw::new(data);
    let (kind, choice) = (draw.below(SETTINGS.len()), draw.byte());
    let rest = draw.rest();
    let mut peer = Peer::new(kind, choice);
    peer.play(&mut Draw::new(rest), false);
    if !peer.has_asked_for_encryption {
        let mut again = Peer::new(kind, choice);
        again.play(&mut Draw::new(rest), true);
        assert_eq!(peer.outcome, again.outcome, "cut into bytes the same is another");
        assert_eq!(peer.all_out, again.all_out);
    }
}

struct Peer {
    startup: Startup,
    kind: usize,
    input: BytesMut,
    all_out: Vec<u8>,
    /// How it ended, in words.
    outcome: Option<String>,
    has_tls: bool,
    has_asked_for_encryption: bool,
    is_honest: bool,
}

impl Peer {
    fn new(kind: usize, choice: u8) -> Self {
        let address = match choice & 1 {
            0 => PeerAddress::Unix,
            _ => PeerAddress::Tcp("127.0.0.1:5".parse().expect("an address")),
        };
        let startup = Startup::new(Arc::clone(&SETTINGS[kind]), address, [8; NONCE_BYTES]);
        let mut peer = Self {
            startup,
            kind,
            input: BytesMut::new(),
            all_out: Vec::new(),
            outcome: None,
            has_tls: false,
            has_asked_for_encryption: false,
            is_honest: false,
        };
        if choice & 2 == 2 && peer.startup.may_start_with_tls() {
            let alpn: Option<&[u8]> = if choice & 4 == 4 { Some(b"postgresql") } else { None };
            match peer.startup.on_direct_tls(alpn, None) {
                Ok(()) => peer.has_tls = true,
                Err(fault) => peer.outcome = Some(format!("{fault:?}")),
            }
        }
        peer
    }

    fn play(&mut self, draw: &mut Draw<'_>, bytewise: bool) {
        for _ in 0..12 {
            if self.outcome.is_some() {
                self.stays_ended();
                return;
            }
            if draw.is_empty() {
                return;
            }
            match draw.below(5) {
                0..=2 => self.send(draw.chunk(600), bytewise),
                3 => self.start(draw, bytewise),
                _ => self.prove(draw.byte(), bytewise),
            }
        }
    }

    fn start(&mut self, draw: &mut Draw<'_>, bytewise: bool) {
        let users =
            ["app_user", "app_user.acme", "picky.acme", "picky.globex", "fixed", "fixed.x", "ops", "console", "no"];
        let databases = ["demo", "other", "tenantgate", "pgbouncer", "none", ""];
        let names = ["options", "app.tenant_id", "TimeZone", "replication", "_pq_.x", "client_encoding", "work_mem"];
        let values = ["acme", "globex", "-c app.tenant_id=acme", "UTC", "on", "", "-c\\ x=1 --a-b=c", "a.b"];
        let mut parameters = vec![("user", draw.one_of(&users)), ("database", draw.one_of(&databases))];
        for _ in 0..draw.below(4) {
            parameters.push((draw.one_of(&names), draw.one_of(&values)));
        }
        let mut packet = BytesMut::new();
        put_startup(&mut packet, PROTOCOL_3_2 - 2 + i32::from(draw.byte() % 5), &parameters);
        self.send(&packet, bytewise);
    }

    /// Proves the password, or another one, as an honest client does.
    fn prove(&mut self, choice: u8, bytewise: bool) {
        let is_bound = choice & 1 == 1;
        let password = if choice & 6 == 6 { "wrong" } else { PASSWORD };
        let binding = if is_bound { ClientBinding::Bound(end_point()) } else { ClientBinding::NotPossible };
        let exchange = ClientExchange::new([1; NONCE_BYTES], binding);
        let mut first = BytesMut::new();
        put_message(&mut first, b'p', |out| {
            put_cstr(out, if is_bound { MECHANISM_PLUS } else { MECHANISM }.as_bytes());
            let text = exchange.client_first();
            out.extend_from_slice(&u32::try_from(text.len()).expect("short").to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        });
        let told = self.all_out.len();
        self.send(&first, bytewise);
        let Some(Ok(Some((head, body)))) = self.all_out.get(told..).map(cut) else { return };
        if head.tag != b'R' || !body.starts_with(&[0, 0, 0, 11]) {
            return;
        }
        let Ok((_, client_final)) = exchange.handle_server_first(&body[4..], password) else { return };
        let mut last = BytesMut::new();
        put_message(&mut last, b'p', |out| out.extend_from_slice(client_final.as_bytes()));
        self.is_honest = password == PASSWORD;
        self.send(&last, bytewise);
    }

    fn send(&mut self, bytes: &[u8], bytewise: bool) {
        let size = if bytewise { 1 } else { bytes.len().max(1) };
        for piece in bytes.chunks(size) {
            if self.outcome.is_some() {
                return;
            }
            self.input.extend_from_slice(piece);
            self.step();
        }
    }

    fn step(&mut self) {
        loop {
            let mut out = BytesMut::new();
            let step = self.startup.handle_bytes(&mut self.input, &mut out);
            self.has_asked_for_encryption |= out.starts_with(b"N") || out.starts_with(b"S");
            self.all_out.extend_from_slice(&out);
            match step {
                Step::Read => return,
                Step::UpgradeTls => {
                    self.startup.on_tls(None);
                    self.has_tls = true;
                    self.all_out.clear();
                }
                Step::Cancel { secret, .. } => {
                    assert!((4..=256).contains(&secret.len()));
                    return self.end("cancel".to_owned());
                }
                Step::Authenticated(client) => return self.admitted(&client),
                Step::Close(fault) => {
                    self.has_asked_for_encryption |= format!("{fault:?}").contains("PlaintextAfter");
                    self.check_last_word(&out);
                    return self.end(format!("{fault:?}"));
                }
            }
        }
    }

    fn end(&mut self, outcome: String) {
        self.outcome = Some(outcome);
    }

    /// An error is the last thing said.
    fn check_last_word(&self, out: &[u8]) {
        let mut rest = out.strip_prefix(b"N").unwrap_or(out);
        while let Some((head, _)) = cut(rest).expect("well-formed answers") {
            rest = &rest[head.frame_bytes()..];
            assert!(head.tag != b'E' || rest.is_empty(), "something behind the last word");
        }
        assert!(rest.is_empty(), "half an answer");
    }

    fn admitted(&mut self, client: &AuthenticatedClient) {
        match client.proof() {
            Proof::Password => assert!(self.is_honest, "a password was accepted that nobody knows"),
            Proof::Trusted => assert_eq!(self.kind, 4, "trusted without a rule"),
            Proof::Certificate => panic!("a certificate was accepted that nobody has shown"),
        }
        let needs_tls = matches!(self.kind, 2 | 3 | 5) && client.address() != PeerAddress::Unix;
        assert!(!needs_tls || self.has_tls, "let in in the clear");
        assert_eq!(client.is_tls(), self.has_tls);
        match (&**client.login(), client.purpose()) {
            (_, Purpose::Console) => assert_eq!(&**client.login(), "console"),
            (login, Purpose::Bypass) => assert_eq!(login, "ops"),
            ("picky" | "fixed", Purpose::Tenant(tenant)) => assert_eq!(tenant.as_str(), "acme"),
            (login, Purpose::Tenant(_)) => assert_eq!(login, "app_user"),
            (login, Purpose::Claims(_)) => panic!("{login} may not claim"),
        }
        assert!(client.parameters().iter().all(|(name, _)| name != "app.tenant_id"));
        self.end(format!("{client:?}"));
    }

    /// Whoever has ended, or has been let in, is not served by the dialogue again.
    fn stays_ended(&mut self) {
        if self.outcome.as_deref() == Some("cancel") {
            return;
        }
        let mut out = BytesMut::new();
        let step = self.startup.handle_bytes(&mut BytesMut::from(&b"p\0\0\0\x05x"[..]), &mut out);
        assert!(matches!(step, Step::Close(_)), "served after its end");
    }
}
