//! Whether the time of a failed login tells if the user exists: known and unknown names side by side.
//!
//! `cargo bench --bench login`; no framework, medians of several rounds. Two names that differ by more than two rounds of
//! the same name do would be an oracle.

#![expect(clippy::unwrap_used, reason = "a benchmark")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf as _, BytesMut};
use tenantgate::auth::scram::server::BindingOffer;
use tenantgate::auth::scram::{MECHANISM, NONCE_BYTES};
use tenantgate::auth::{Access, DatabaseList, Login, Logins, PeerAddress, ProcessSecret, Rules};
use tenantgate::fault::Fault;
use tenantgate::startup::{ConsoleAccess, Judged, Startup, StartupSettings, Step, TlsOffer};
use tenantgate::tenant::{AllowedTenants, Origin, Separator, TenantKind, TenantPolicy, TenantSource};
use tenantgate::wire::frontend::{PROTOCOL_3_0, put_cstr, put_message, put_startup};

const ROUNDS: usize = 3;
const LOGINS: usize = 2_000;

fn settings() -> StartupSettings {
    let secret = ProcessSecret::new(&[5; 32]);
    let source = TenantSource::Named { from: vec![Origin::Suffix], separator: Separator::default() };
    let login = Login {
        name: "app_user".into(),
        verifier: Some(secret.verifier("app_user", &"demo".into())),
        databases: DatabaseList::All,
        access: Access::Tenant(TenantPolicy {
            source,
            allowed: AllowedTenants::Any,
            claiming: tenantgate::tenant::Claiming::None,
        }),
    };
    let judge = |_: &str, _: &str, _: &str| -> Result<Judged, Fault> { Ok(Judged::Ignore) };
    StartupSettings {
        tls: TlsOffer::Never,
        binding: BindingOffer::None,
        rules: Rules::default(),
        logins: Logins::new([login], secret).unwrap(),
        databases: ["demo".into()].into(),
        console: ConsoleAccess::default(),
        tenant_kind: TenantKind::Uuid,
        tenant_settings: vec!["app.tenant_id".into()],
        judge: Box::new(judge),
    }
}

fn password_message(body: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    put_message(&mut out, b'p', |out| out.extend_from_slice(body));
    out
}

fn initial(client_first: &[u8]) -> BytesMut {
    let mut body = BytesMut::new();
    put_cstr(&mut body, MECHANISM.as_bytes());
    body.extend_from_slice(&u32::try_from(client_first.len()).unwrap().to_be_bytes());
    body.extend_from_slice(client_first);
    password_message(&body)
}

/// One login with a wrong proof, up to its refusal.
fn refused(settings: &Arc<StartupSettings>, user: &str) -> Duration {
    let began = Instant::now();
    let address = PeerAddress::Tcp(([127, 0, 0, 1], 5).into());
    let mut startup = Startup::new(Arc::clone(settings), address, [8; NONCE_BYTES]);
    let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
    put_startup(&mut input, PROTOCOL_3_0, &[("user", user), ("database", "demo")]);
    assert!(matches!(startup.handle_bytes(&mut input, &mut out), Step::Read));
    out.clear();
    input.extend_from_slice(&initial(b"n,,n=,r=abc"));
    assert!(matches!(startup.handle_bytes(&mut input, &mut out), Step::Read));
    // 'R', its length and its code stand in front of server-first-message: r=<nonce>,s=…
    out.advance(9);
    let first = String::from_utf8(out.split().to_vec()).unwrap();
    let nonce = first.strip_prefix("r=").unwrap().split(',').next().unwrap();
    let last = format!("c=biws,r={nonce},p={}=", "A".repeat(43));
    input.extend_from_slice(&password_message(last.as_bytes()));
    assert!(matches!(startup.handle_bytes(&mut input, &mut out), Step::Close(_)));
    began.elapsed()
}

fn main() {
    let settings = Arc::new(settings());
    for round in 1..=ROUNDS {
        for user in ["app_user", "app_usex"] {
            let mut times: Vec<Duration> = (0..LOGINS).map(|_| refused(&settings, user)).collect();
            times.sort_unstable();
            println!("round {round}  {user}  p10 {:?}  median {:?}", times[LOGINS / 10], times[LOGINS / 2]);
        }
    }
}
