//! Our login to real PostgreSQL 15 and 18: methods, TLS modes, sockets, refusals, cancel requests.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod login_support;

use std::time::{Duration, Instant};

use login_support::{Authority, Cluster, clusters};
use tenantgate::config::{ServerAddress, ServerHost, TrustedRoots};
use tenantgate::driver::clock::Clock;
use tenantgate::driver::connect::{ConnectFault, Connected, ServerTarget, TargetTls, connect, send_cancel};
use tenantgate::driver::tls::{Verification, client_side, server_side};
use tenantgate::upstream::hosts::SessionAttributes;
use tenantgate::upstream::login::{
    AllowedMethods, BindingPolicy, Identity, PasswordAllowed, ServerLoginFault, ServerRefusal,
};
use tenantgate::wire::frontend::{PROTOCOL_3_0, PROTOCOL_3_2, put_query};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::{TlsAcceptor, TlsConnector};

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

/// Every way to a cluster: TCP in the clear, TLS, unix socket.
fn ways(cluster: &Cluster) -> [ServerTarget; 3] {
    [
        address(cluster, TargetTls::Disable),
        address(cluster, require(&Verification::Unverified)),
        target(cluster, ServerHost::UnixFolder(cluster.folder.clone()), TargetTls::Disable),
    ]
}

#[tokio::test]
async fn methods_that_give_the_password_away_are_used_only_where_allowed() {
    for cluster in clusters() {
        let none = AllowedMethods::default();
        let md5 = AllowedMethods { md5: true, ..none };
        let protected = AllowedMethods { password: PasswordAllowed::Protected, ..none };
        let anywhere = AllowedMethods { password: PasswordAllowed::Anywhere, ..none };
        for (user, methods, fine) in [
            //                            in the clear, TLS, unix
            ("clear_user", none, [false, false, false]),
            ("clear_user", md5, [false, false, false]),
            ("clear_user", protected, [false, true, true]),
            ("clear_user", anywhere, [true, true, true]),
            ("md5_user", none, [false, false, false]),
            ("md5_user", anywhere, [false, false, false]),
            ("md5_user", md5, [true, true, true]),
        ] {
            for (target, fine) in ways(cluster).iter().zip(fine) {
                let found = connect(target, Identity { methods, ..identity(user) }).await;
                match found {
                    Ok(_) => assert!(fine, "{user} {methods:?} {target:?}"),
                    Err(fault) => {
                        let is_ours = matches!(fault, ConnectFault::Login(ServerLoginFault::MethodRefused(_)));
                        assert!(is_ours && !fine, "{user} {methods:?} {target:?}: {fault}");
                        assert!(fault.fault().message.starts_with("TG093"), "{:?}", fault.fault());
                    }
                }
            }
        }
        let wrong = Identity { methods: md5, password: Some("wrong".into()), ..identity("md5_user") };
        let fault = refused(&address(cluster, TargetTls::Disable), wrong).await;
        assert!(matches!(fault, ConnectFault::Login(ServerLoginFault::Refused { .. })), "{fault}");
        let only_md5 = AllowedMethods { scram: false, ..md5 };
        let fault =
            refused(&address(cluster, TargetTls::Disable), Identity { methods: only_md5, ..identity("app") }).await;
        assert!(matches!(fault, ConnectFault::Login(ServerLoginFault::MethodRefused("SCRAM-SHA-256"))), "{fault}");
    }
}

#[tokio::test]
async fn logins_are_bound_to_the_connection_as_the_group_says() {
    for cluster in clusters() {
        for binding in [BindingPolicy::Disable, BindingPolicy::Prefer, BindingPolicy::Require] {
            for mut target in ways(cluster) {
                target.binding = binding;
                let has_tls = matches!(target.tls, TargetTls::Require(_));
                match connect(&target, identity("app")).await {
                    Ok(_) => assert!(has_tls || binding != BindingPolicy::Require, "{target:?}"),
                    Err(ConnectFault::Login(ServerLoginFault::BindingMissing)) => {
                        assert!(!has_tls && binding == BindingPolicy::Require, "{target:?}");
                    }
                    Err(fault) => panic!("{target:?}: {fault}"),
                }
            }
        }
        // A server that asks for no proof, or for another one, is not bound.
        let mut target = address(cluster, require(&Verification::Unverified));
        target.binding = BindingPolicy::Require;
        let fault = refused(&target, identity("trusted")).await;
        assert!(matches!(fault, ConnectFault::Login(ServerLoginFault::BindingMissing)), "{fault}");
        let all = AllowedMethods { scram: true, md5: true, password: PasswordAllowed::Anywhere };
        for user in ["clear_user", "md5_user"] {
            let fault = refused(&target, Identity { methods: all, ..identity(user) }).await;
            assert!(matches!(fault, ConnectFault::Login(ServerLoginFault::MethodRefused(_))), "{fault}");
        }
    }
}

/// Somebody between who ends TLS with a certificate of his own and passes everything on; `strip`: he takes the offer
/// of channel binding out of the list.
async fn between(cluster: &Cluster, strip: bool) -> ServerTarget {
    let stranger = Authority::new().issue(&["localhost"]).tls();
    let acceptor = TlsAcceptor::from(client_side(&stranger, None).unwrap());
    let connector = TlsConnector::from(server_side(&Verification::Unverified, None).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, server_port) = (listener.local_addr().unwrap().port(), cluster.port);
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut request = [0; 8];
        client.read_exact(&mut request).await.unwrap();
        client.write_all(b"S").await.unwrap();
        let mut client = acceptor.accept(client).await.unwrap();
        let mut server = TcpStream::connect(("127.0.0.1", server_port)).await.unwrap();
        server.write_all(&request).await.unwrap();
        server.read_exact(&mut request[..1]).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let mut server = connector.connect(name, server).await.unwrap();
        if strip {
            let mut bytes = vec![0; 1024];
            let count = client.read(&mut bytes).await.unwrap();
            server.write_all(&bytes[..count]).await.unwrap();
            // 18 negotiates nothing with us; 15 sends NegotiateProtocolVersion first.
            let offer = b"R\0\0\0\x2a\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";
            let mut seen = Vec::new();
            while !seen.ends_with(offer) {
                let count = server.read(&mut bytes).await.unwrap();
                assert_ne!(count, 0, "{seen:?}");
                seen.extend_from_slice(&bytes[..count]);
            }
            seen.truncate(seen.len() - offer.len());
            seen.extend_from_slice(b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0");
            client.write_all(&seen).await.unwrap();
        }
        // However it ends: the client knows.
        drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
    });
    to(vec![local(port)], require(&Verification::Unverified), Duration::from_secs(20))
}

#[tokio::test]
async fn somebody_between_is_noticed_by_one_side_or_the_other() {
    for cluster in clusters() {
        for strip in [false, true] {
            for binding in [BindingPolicy::Prefer, BindingPolicy::Require] {
                let mut target = between(cluster, strip).await;
                target.binding = binding;
                let fault = refused(&target, identity("app")).await;
                match (&fault, strip, binding) {
                    (ConnectFault::Login(ServerLoginFault::BindingMissing), true, BindingPolicy::Require) => {}
                    (ConnectFault::Login(ServerLoginFault::Refused { message, .. }), _, _) => {
                        assert!(message.contains("channel binding"), "{strip} {binding:?}: {message}");
                    }
                    _ => panic!("{strip} {binding:?}: {fault}"),
                }
            }
        }
        let mut target = between(cluster, false).await;
        target.binding = BindingPolicy::Disable;
        drop(logged_in(&target, "app").await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_can_begin_with_the_first_byte() {
    for cluster in clusters() {
        let roots = Verification::Full(roots(cluster.authority.as_deref().unwrap()));
        let target = localhost(cluster, TargetTls::Direct(server_side(&roots, None).unwrap()));
        if cluster.version < 17 {
            assert!(matches!(refused(&target, identity("app")).await, ConnectFault::Tls(_)));
            continue;
        }
        let mut connected = logged_in(&target, "tls_only").await;
        assert!(contains(
            &query(&mut connected, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").await,
            "\x01t"
        ));
        // Its cancel requests go the same way.
        let (reached, key) = (connected.reached.clone(), connected.logged_in.clone());
        let sleeper = tokio::spawn(async move { query(&mut connected, "SELECT pg_sleep(30)").await });
        until_it_sleeps(cluster, key.process_id()).await;
        send_cancel(&target, &reached, key.process_id(), key.secret()).await.unwrap();
        assert!(contains(&sleeper.await.unwrap(), "57014"));
    }
    // TLS that does not agree on the protocol may lead anywhere.
    let identity_of_another = Authority::new().issue(&["localhost"]).tls();
    let mut config = (*client_side(&identity_of_another, None).unwrap()).clone();
    config.alpn_protocols = vec![];
    let acceptor = TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut tls = acceptor.accept(tcp).await.unwrap();
        assert_eq!(tls.read(&mut [0; 16]).await.unwrap_or(0), 0, "something was said to a stranger");
    });
    let direct = TargetTls::Direct(server_side(&Verification::Unverified, None).unwrap());
    let fault = refused(&to(vec![local(port)], direct, Duration::from_secs(20)), identity("app")).await;
    assert!(matches!(fault, ConnectFault::AlpnMissing), "{fault}");
}

/// Waits until the statement of this process sleeps.
async fn until_it_sleeps(cluster: &Cluster, process_id: i32) {
    let sleeping = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {process_id} AND wait_event = 'PgSleep'");
    let deadline = Instant::now() + Duration::from_secs(20);
    while tokio::task::block_in_place(|| cluster.psql(&sleeping)).unwrap() == "0" {
        assert!(Instant::now() < deadline, "process {process_id} does not sleep");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_proxy_shows_its_own_certificate() {
    for cluster in clusters() {
        let roots = Verification::Full(roots(cluster.authority.as_deref().unwrap()));
        let with = |shown: &tenantgate::config::TlsIdentity| {
            localhost(cluster, TargetTls::Require(server_side(&roots, Some(shown)).unwrap()))
        };
        let keyless = || Identity { password: None, ..identity("cert_user") };
        let good = cluster.clients.issue_to_client("cert_user", 1).tls();
        assert!(connect(&with(&good), keyless()).await.is_ok());
        let another = cluster.clients.issue_to_client("app", 2).tls();
        let fault = refused(&with(&another), keyless()).await;
        assert!(matches!(fault, ConnectFault::Login(ServerLoginFault::Refused { .. })), "{fault}");
        let fault = refused(&localhost(cluster, require(&roots)), keyless()).await;
        assert!(matches!(fault, ConnectFault::Login(ServerLoginFault::Refused { .. })), "{fault}");
        // One of another authority: in TLS 1.3 the refusal comes after the handshake.
        let strange = Authority::new().issue_to_client("cert_user", 1).tls();
        let fault = refused(&with(&strange), keyless()).await;
        assert!(matches!(fault, ConnectFault::Tls(_) | ConnectFault::Io(_) | ConnectFault::Closed), "{fault}");
    }
}

/// A server that accepts, and never says a word.
async fn silent() -> (ServerAddress, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    (local(listener.local_addr().unwrap().port()), listener)
}

#[tokio::test]
async fn the_next_host_is_tried_where_one_fails() {
    let cluster = &clusters()[0];
    let (mute, listener) = silent().await;
    let nobody = local(TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port());
    let folder = ServerAddress { host: ServerHost::UnixFolder("/nonexistent".into()), port: 1 };
    let name = ServerAddress { host: ServerHost::Name("no-such-host.invalid".into()), port: 1 };
    let good = local(cluster.port);
    let hosts = vec![mute.clone(), nobody.clone(), folder, name, good];
    let target = to(hosts, TargetTls::Disable, Duration::from_millis(500));
    let connected = logged_in(&target, "app").await;
    assert_eq!(connected.reached.to_string(), format!("127.0.0.1:{}", cluster.port));
    // What failed is tried last now: the silent one was asked once, and would cost its time limit each time.
    assert!(futures_util::FutureExt::now_or_never(listener.accept()).is_some());
    for _ in 0..3 {
        drop(logged_in(&target, "app").await);
    }
    assert!(futures_util::FutureExt::now_or_never(listener.accept()).is_none());
    // Nobody at all: what the last one said.
    let none = to(vec![mute, nobody], TargetTls::Disable, Duration::from_millis(200));
    assert!(matches!(refused(&none, identity("app")).await, ConnectFault::Connect(_)));
    assert!(matches!(
        refused(&to(vec![], TargetTls::Disable, Duration::from_secs(1)), identity("app")).await,
        ConnectFault::NoHost
    ));
}

#[tokio::test]
async fn a_refused_login_is_not_tried_at_the_other_hosts() {
    let cluster = &clusters()[0];
    let (witness, listener) = silent().await;
    let target = to(vec![local(cluster.port), witness], TargetTls::Disable, Duration::from_secs(5));
    let wrong = Identity { password: Some("wrong".into()), ..identity("app") };
    let fault = refused(&target, wrong).await;
    assert!(matches!(fault, ConnectFault::Login(ServerLoginFault::Refused { .. })), "{fault}");
    // A connection would have been accepted by the kernel already.
    let asked = futures_util::FutureExt::now_or_never(listener.accept());
    assert!(asked.is_none(), "the other host was asked, too");
}

#[tokio::test]
async fn a_server_of_the_wrong_kind_is_left_alone() {
    for cluster in clusters() {
        let mut target = address(cluster, TargetTls::Disable);
        for (wanted, fine) in [
            (SessionAttributes::ReadWrite, true),
            (SessionAttributes::Primary, true),
            (SessionAttributes::PreferStandby, true),
            (SessionAttributes::Standby, false),
            (SessionAttributes::ReadOnly, false),
        ] {
            target.wanted = wanted;
            match connect(&target, identity("app")).await {
                Ok(_) => assert!(fine, "{wanted:?}"),
                Err(fault) => {
                    assert!(!fine && matches!(fault, ConnectFault::Unsuitable { .. }), "{wanted:?}: {fault}");
                    assert!(fault.fault().message.starts_with("TG094"));
                }
            }
        }
        cluster.psql("ALTER ROLE read_only SET default_transaction_read_only = on").unwrap();
        target.wanted = SessionAttributes::ReadWrite;
        assert!(matches!(refused(&target, identity("read_only")).await, ConnectFault::Unsuitable { .. }));
        target.wanted = SessionAttributes::ReadOnly;
        drop(logged_in(&target, "read_only").await);
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

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_request_stops_the_statement() {
    for cluster in clusters() {
        let tls = require(&Verification::Full(roots(cluster.authority.as_deref().unwrap())));
        let unix = target(cluster, ServerHost::UnixFolder(cluster.folder.clone()), TargetTls::Disable);
        for target in [address(cluster, TargetTls::Disable), localhost(cluster, tls), unix] {
            let mut connected = logged_in(&target, "app").await;
            let (reached, key) = (connected.reached.clone(), connected.logged_in.clone());
            let sleeper = tokio::spawn(async move { query(&mut connected, "SELECT pg_sleep(30)").await });
            until_it_sleeps(cluster, key.process_id()).await;
            // A wrong secret is answered just the same, and does nothing.
            send_cancel(&target, &reached, key.process_id(), &vec![0; key.secret().len()]).await.unwrap();
            until_it_sleeps(cluster, key.process_id()).await;
            send_cancel(&target, &reached, key.process_id(), key.secret()).await.unwrap();
            assert!(contains(&sleeper.await.unwrap(), "57014"));
        }
    }
}

/// A way to the cluster; its second connection, a cancel request's, is kept open until it is let go.
async fn cancels_stay_open(cluster: &Cluster) -> (ServerTarget, oneshot::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, server_port) = (listener.local_addr().unwrap().port(), cluster.port);
    let (let_go, is_let_go) = oneshot::channel();
    tokio::spawn(async move {
        let to_server = || async { TcpStream::connect(("127.0.0.1", server_port)).await.unwrap() };
        let (mut client, _) = listener.accept().await.unwrap();
        let mut server = to_server().await;
        // However it ends: the client knows.
        tokio::spawn(async move { drop(tokio::io::copy_bidirectional(&mut client, &mut server).await) });
        let (mut canceller, _) = listener.accept().await.unwrap();
        let mut server = to_server().await;
        let mut request = [0; 1024];
        let bytes = canceller.read(&mut request).await.unwrap();
        server.write_all(&request[..bytes]).await.unwrap();
        is_let_go.await.unwrap();
    });
    (to(vec![local(port)], TargetTls::Disable, Duration::from_secs(20)), let_go)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_request_lasts_until_the_server_closes_it() {
    for cluster in clusters() {
        let (target, let_go) = cancels_stay_open(cluster).await;
        let mut connected = logged_in(&target, "app").await;
        let (reached, key) = (connected.reached.clone(), connected.logged_in.clone());
        let process_id = key.process_id();
        let sleeper = tokio::spawn(async move { query(&mut connected, "SELECT pg_sleep(30)").await });
        until_it_sleeps(cluster, process_id).await;
        let request = async move { send_cancel(&target, &reached, process_id, key.secret()).await };
        let request = tokio::spawn(request);
        assert!(contains(&sleeper.await.unwrap(), "57014"));
        assert!(!request.is_finished(), "the server has not closed the connection");
        let_go.send(()).unwrap();
        request.await.unwrap().unwrap();
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
