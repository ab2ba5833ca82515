//! Our login to real PostgreSQL 15 and 18: methods, TLS modes, sockets, refusals, cancel requests.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod login_support;

use std::time::{Duration, Instant};

use login_support::{Authority, Cluster, clusters};
use tenantgate::config::{ServerAddress, ServerHost, TrustedRoots};
use tenantgate::driver::clock::Clock;
use tenantgate::driver::connect::{ConnectFault, Connected, ServerTarget, TargetTls, connect, send_cancel};
use tenantgate::driver::tls::{Verification, server_side};
use tenantgate::upstream::login::{AllowedMethods, Identity, PasswordAllowed, ServerLoginFault, ServerRefusal};
use tenantgate::wire::frontend::{PROTOCOL_3_0, PROTOCOL_3_2, put_query};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

fn identity(user: &str) -> Identity {
    Identity {
        user: user.into(),
        database: "postgres".into(),
        password: Some("sekrit".into()),
        methods: AllowedMethods::default(),
    }
}

fn target(cluster: &Cluster, host: ServerHost, tls: TargetTls) -> ServerTarget {
    to(vec![ServerAddress { host, port: cluster.port }], tls, Duration::from_secs(20))
}

fn to(hosts: Vec<ServerAddress>, tls: TargetTls, limit: Duration) -> ServerTarget {
    ServerTarget::new(hosts, tls, limit, Clock::start())
}

fn local(port: u16) -> ServerAddress {
    ServerAddress { host: ServerHost::Address([127, 0, 0, 1].into()), port }
}

fn localhost(cluster: &Cluster, tls: TargetTls) -> ServerTarget {
    target(cluster, ServerHost::Name("localhost".into()), tls)
}

fn address(cluster: &Cluster, tls: TargetTls) -> ServerTarget {
    target(cluster, ServerHost::Address([127, 0, 0, 1].into()), tls)
}

fn require(verification: &Verification) -> TargetTls {
    TargetTls::Require(server_side(verification, None).unwrap())
}

fn roots(authority: &Authority) -> TrustedRoots {
    TrustedRoots::Given(vec![authority.root.clone()])
}

async fn logged_in(target: &ServerTarget, user: &str) -> Connected {
    connect(target, identity(user)).await.unwrap_or_else(|fault| panic!("{user} on {target:?}: {fault}"))
}

async fn refused(target: &ServerTarget, identity: Identity) -> ConnectFault {
    connect(target, identity).await.err().unwrap_or_else(|| panic!("not refused: {target:?}"))
}

/// What one query answers, as raw bytes up to and with ReadyForQuery.
async fn query(connected: &mut Connected, sql: &str) -> Vec<u8> {
    let mut out = bytes::BytesMut::new();
    put_query(&mut out, sql.as_bytes());
    connected.stream.write_all(&out).await.unwrap();
    connected.stream.flush().await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"Z\0\0\0\x05I") {
        assert_ne!(connected.stream.read_buf(&mut answer).await.unwrap(), 0, "server gone");
    }
    answer
}

fn contains(answer: &[u8], text: &str) -> bool {
    answer.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn scram_over_every_kind_of_socket() {
    for cluster in clusters() {
        let unix = target(cluster, ServerHost::UnixFolder(cluster.folder.clone()), TargetTls::Disable);
        for target in [unix, address(cluster, TargetTls::Disable), localhost(cluster, TargetTls::Disable)] {
            let connected = logged_in(&target, "app").await;
            assert!(!connected.stream.is_tls());
            assert_eq!(connected.logged_in.version_num() / 10_000, cluster.version);
            let (protocol, secret_bytes) = if cluster.version >= 18 { (PROTOCOL_3_2, 32) } else { (PROTOCOL_3_0, 4) };
            assert_eq!(connected.logged_in.protocol(), protocol);
            assert_eq!(connected.logged_in.secret().len(), secret_bytes);
            assert!(connected.leftover.is_empty());
        }
    }
}

#[tokio::test]
async fn reset_does_not_lose_the_pinned_settings() {
    for cluster in clusters() {
        let mut connected = logged_in(&address(cluster, TargetTls::Disable), "app").await;
        query(&mut connected, "SET standard_conforming_strings = off; SET client_encoding = 'LATIN1'; DISCARD ALL")
            .await;
        let answer = query(&mut connected, "SHOW standard_conforming_strings").await;
        assert!(contains(&answer, "\x02on"), "{answer:?}");
        assert!(contains(&query(&mut connected, "SHOW client_encoding").await, "UTF8"));
        // A role's own default does not win over the startup parameter either.
        assert_eq!(
            logged_in(&address(cluster, TargetTls::Disable), "sloppy")
                .await
                .logged_in
                .parameter("standard_conforming_strings"),
            Some("on")
        );
    }
}

#[tokio::test]
async fn passwords_are_prepared_like_postgresqls() {
    for cluster in clusters() {
        let odd = Identity { password: Some("I\u{ad}X\u{2168} p\u{e4}ss".into()), ..identity("odd") };
        let prepared = Identity { password: Some("IXIX p\u{e4}ss".into()), ..identity("odd") };
        for identity in [odd, prepared] {
            connect(&address(cluster, TargetTls::Disable), identity).await.unwrap().stream.shutdown().await.unwrap();
        }
    }
}

#[tokio::test]
async fn refusals_have_their_kinds() {
    for cluster in clusters() {
        let target = address(cluster, TargetTls::Disable);
        for (identity, expected, sqlstate) in [
            (Identity { password: Some("wrong".into()), ..identity("app") }, ServerRefusal::Authentication, "28P01"),
            (identity("nobody"), ServerRefusal::Authentication, "28P01"),
            (Identity { database: "nosuch".into(), ..identity("app") }, ServerRefusal::DatabaseMissing, "3D000"),
            (identity("full"), ServerRefusal::TooManyConnections, "53300"),
            (identity("tls_only"), ServerRefusal::Authentication, "28000"),
        ] {
            let who = format!("{identity:?}");
            let ConnectFault::Login(ServerLoginFault::Refused { refusal, sqlstate: found, .. }) =
                refused(&target, identity).await
            else {
                panic!("{who}: not a refusal by the server")
            };
            assert_eq!((refusal, found.as_str()), (expected, sqlstate), "{who}");
        }
        let fault = refused(&target, Identity { password: None, ..identity("app") }).await;
        assert!(matches!(fault, ConnectFault::Login(ServerLoginFault::NoPassword)), "{fault}");
    }
}

#[tokio::test]
async fn methods_that_give_the_password_away_are_refused() {
    for cluster in clusters() {
        let target = address(cluster, TargetTls::Disable);
        for user in ["clear_user", "md5_user"] {
            let fault = refused(&target, identity(user)).await;
            assert!(matches!(fault, ConnectFault::Login(ServerLoginFault::MethodRefused(_))), "{fault}");
        }
        let anywhere = AllowedMethods { scram: true, md5: false, password: PasswordAllowed::Anywhere };
        let allowed = Identity { methods: anywhere, ..identity("clear_user") };
        assert!(connect(&target, allowed).await.is_ok());
    }
}

#[tokio::test]
async fn tls_is_verified_as_the_mode_says() {
    for cluster in clusters() {
        let authority = cluster.authority.as_deref().unwrap();
        let stranger = Authority::new();
        let full = Verification::Full(roots(authority));
        let ca = Verification::Authority(roots(authority));
        let accepted = [
            localhost(cluster, require(&full)),
            localhost(cluster, require(&ca)),
            address(cluster, require(&ca)),
            address(cluster, require(&Verification::Unverified)),
            address(cluster, TargetTls::Prefer(server_side(&Verification::Unverified, None).unwrap())),
        ];
        for target in accepted {
            let mut connected = logged_in(&target, "tls_only").await;
            assert!(connected.stream.is_tls());
            let answer = query(&mut connected, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").await;
            assert!(contains(&answer, "\x01t"), "{answer:?}");
        }
        let refused_targets = [
            // The certificate is for `localhost`, not for the address.
            address(cluster, require(&full)),
            localhost(cluster, require(&Verification::Full(roots(&stranger)))),
            localhost(cluster, require(&Verification::Authority(roots(&stranger)))),
        ];
        for target in refused_targets {
            let fault = refused(&target, identity("tls_only")).await;
            assert!(matches!(fault, ConnectFault::Tls(_)), "{fault}");
        }
    }
}

#[tokio::test]
async fn a_cancel_request_stops_the_statement_and_waits_for_the_server() {
    for cluster in clusters() {
        let tls = require(&Verification::Full(roots(cluster.authority.as_deref().unwrap())));
        for target in [address(cluster, TargetTls::Disable), localhost(cluster, tls)] {
            let mut connected = logged_in(&target, "app").await;
            let (reached, key) = (connected.reached.clone(), connected.logged_in.clone());
            let began = Instant::now();
            let sleeper = tokio::spawn(async move { query(&mut connected, "SELECT pg_sleep(30)").await });
            tokio::time::sleep(Duration::from_millis(300)).await;
            send_cancel(&target, &reached, key.process_id(), key.secret()).await.unwrap();
            assert!(contains(&sleeper.await.unwrap(), "57014"));
            assert!(began.elapsed() < Duration::from_secs(20));
            // A wrong secret is answered just the same, and does nothing.
            send_cancel(&target, &reached, key.process_id(), &vec![0; key.secret().len()]).await.unwrap();
        }
    }
}

/// A server that answers whatever connects with these bytes, once it has said something.
async fn puppet(answer: &'static [u8]) -> ServerTarget {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let mut heard = [0; 1024];
        assert_ne!(tcp.read(&mut heard).await.unwrap(), 0);
        tcp.write_all(answer).await.unwrap();
        while tcp.read(&mut heard).await.is_ok_and(|count| count > 0) {}
    });
    let config = server_side(&Verification::Unverified, None).unwrap();
    to(vec![local(port)], TargetTls::Prefer(config), Duration::from_secs(2))
}

#[tokio::test]
async fn hostile_answers_end_the_attempt() {
    let fault = refused(&puppet(b"SX").await, identity("app")).await;
    assert!(matches!(fault, ConnectFault::TlsAnswer), "{fault}");
    let fault = refused(&puppet(b"NR\0\0\0\x08\0\0\0\0").await, identity("app")).await;
    assert!(matches!(fault, ConnectFault::TlsAnswer), "{fault}");
    let fault = refused(&puppet(b"E").await, identity("app")).await;
    assert!(matches!(fault, ConnectFault::TlsAnswer), "{fault}");
    let fault = refused(&puppet(b"S").await, identity("app")).await;
    assert!(matches!(fault, ConnectFault::Timeout(_)), "{fault}");

    let mut required = puppet(b"N").await;
    required.tls = require(&Verification::Unverified);
    let fault = refused(&required, identity("app")).await;
    assert!(matches!(fault, ConnectFault::TlsMissing), "{fault}");

    let mut plain = puppet(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    plain.tls = TargetTls::Disable;
    let fault = refused(&plain, identity("app")).await;
    assert!(matches!(fault, ConnectFault::Login(ServerLoginFault::MessageLength(_))), "{fault}");
}

#[tokio::test]
async fn nobody_listening_is_told_apart_from_nobody_found() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let limit = Duration::from_secs(5);
    let nowhere = to(vec![local(port)], TargetTls::Disable, limit);
    assert!(matches!(refused(&nowhere, identity("app")).await, ConnectFault::Connect(_)));
    let folder = ServerAddress { host: ServerHost::UnixFolder("/nonexistent".into()), port };
    let folder = to(vec![folder], TargetTls::Disable, limit);
    assert!(matches!(refused(&folder, identity("app")).await, ConnectFault::Connect(_)));
}
