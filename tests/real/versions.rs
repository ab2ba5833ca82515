//! Releases and protocol versions, byte by byte: what a client may ask for, what it is told, and what the proxy asks of
//! servers.

use crate::scripts;
use crate::support::cluster::{self, Cluster};
use crate::support::message::{self, Message};
use crate::support::proxy::{self, Proxy, Wish};
use crate::support::raw::Client;
use crate::support::{eventually, until_it_runs};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SSL: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
const GSSENC: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];

/// One that takes long and needs nothing.
const SLOW: &str = "SELECT count(*) FROM generate_series(1, 20000) a, generate_series(1, 20000) b";

fn every_release() -> Vec<&'static Cluster> {
    cluster::every().into_iter().chain(cluster::others()).collect()
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// A startup packet of a version.
fn startup(minor: u32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let named: Vec<_> = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let mut packet = message::startup(&named);
    packet[4..8].copy_from_slice(&(3 << 16 | minor).to_be_bytes());
    packet
}

/// The next message: type and body. `None` at the end.
fn next(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    stream.read_exact(&mut head).ok()?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize - 4;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((head[0], body))
}

/// What a login is answered, up to ReadyForQuery: what was negotiated, and the cancel key.
#[derive(Debug, PartialEq, Eq)]
struct Answered {
    negotiated: Vec<Vec<u8>>,
    process_id: u32,
    secret: Vec<u8>,
}

fn log_in(stream: &mut TcpStream, packet: &[u8]) -> Answered {
    stream.write_all(packet).unwrap();
    let mut answered = Answered { negotiated: Vec::new(), process_id: 0, secret: Vec::new() };
    loop {
        match next(stream).expect("a login that is not refused") {
            (b'v', body) => answered.negotiated.push(body),
            (b'K', body) => {
                answered.process_id = u32::from_be_bytes(body[..4].try_into().unwrap());
                answered.secret = body[4..].to_vec();
            }
            (b'Z', _) => return answered,
            (b'E', body) => panic!("{}", String::from_utf8_lossy(&body)),
            (b'R' | b'S' | b'N', _) => {}
            (tag, _) => panic!("message {:?} during a login", char::from(tag)),
        }
    }
}

fn in_front_of(cluster: &Cluster, database: &str) -> Proxy {
    cluster.create_filled_database(database);
    Proxy::start(&Wish { cluster, database, pool_size: 2, mutant: None, more: "" })
}

/// As PostgreSQL 18 answers, whatever the server is: exactly one NegotiateProtocolVersion where something is not known,
/// with every unknown option in it, in order.
#[test]
fn what_is_negotiated_is_what_postgresql_18_negotiates() {
    let database = "versions_client";
    let asked: [(u32, &[&str]); 9] = [
        (0, &[]),
        (1, &[]),
        (2, &[]),
        (3, &[]),
        // libpq 19 asks for these to see that servers take it.
        (9999, &["_pq_.test_protocol_negotiation"]),
        (9999, &[]),
        (0, &["_pq_.a"]),
        (2, &["_pq_.b", "_pq_.a", "_pq_.b"]),
        (9999, &["_pq_.a", "_pq_."]),
    ];
    let ask = |address: SocketAddr, user: &str, (minor, options): (u32, &[&str])| {
        let mut parameters = vec![("user", user), ("database", database)];
        parameters.extend(options.iter().map(|option| (*option, "1")));
        log_in(&mut connect(address), &startup(minor, &parameters))
    };
    for cluster in every_release() {
        let proxy = in_front_of(cluster, database);
        let user = format!("app_user.{}", scripts::tenant('a'));
        for case in asked {
            let ours = ask(proxy.address, &user, case);
            let length = if case.0 >= 2 { 32 } else { 4 };
            assert_eq!(ours.secret.len(), length, "{case:?}");
            assert!(ours.negotiated.len() <= 1, "{case:?}");
            if cluster.version == 18 {
                let native = ask(cluster.address, "app_user", case);
                assert_eq!((ours.negotiated, ours.secret.len()), (native.negotiated, native.secret.len()), "{case:?}");
            } else {
                let is_known = case.0 <= 2 && case.1.is_empty();
                assert_eq!(ours.negotiated.is_empty(), is_known, "{case:?}");
            }
        }
    }
}

/// A cancel by this key: the statement ends, or goes on where the key is not the one.
fn cancel(address: SocketAddr, process_id: u32, secret: &[u8]) {
    let mut stream = connect(address);
    stream.write_all(&message::cancel(process_id, secret)).unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"", "a cancel is never answered");
}

#[tokio::test]
async fn short_and_long_keys_cancel_on_every_release_and_others_do_not() {
    let database = "versions_cancel";
    for cluster in every_release() {
        let proxy = in_front_of(cluster, database);
        for minor in [0, 2] {
            let user = format!("app_user.{}", scripts::tenant('a'));
            let mut stream = connect(proxy.address);
            let key = log_in(&mut stream, &startup(minor, &[("user", &user), ("database", database)]));
            stream.write_all(&Message::Query(SLOW.to_owned()).bytes()).unwrap();
            until_it_runs(cluster, database, "generate_series(1, 20000)").await;
            let mut wrong = key.secret.clone();
            *wrong.last_mut().unwrap() ^= 1;
            let longer = [&key.secret[..], b"\0"].concat();
            let (start, padded) = (&key.secret[..4], [&key.secret[..4], &[0; 28]].concat());
            cancel(proxy.address, key.process_id, &wrong);
            cancel(proxy.address, key.process_id, &longer);
            cancel(proxy.address, key.process_id ^ 1, &key.secret);
            if minor == 2 {
                cancel(proxy.address, key.process_id, start);
                cancel(proxy.address, key.process_id, &padded);
            }
            stream.set_nonblocking(true).unwrap();
            let waits = stream.read(&mut [0; 1]).expect_err("it still runs");
            assert_eq!(waits.kind(), std::io::ErrorKind::WouldBlock);
            stream.set_nonblocking(false).unwrap();
            cancel(proxy.address, key.process_id, &key.secret);
            let answers = std::iter::from_fn(|| next(&mut stream)).find(|(tag, _)| *tag != b'T');
            let (tag, body) = answers.expect("an answer");
            assert!(tag == b'E' && body.windows(5).any(|window| window == b"57014"), "{}", cluster.version);
            assert_eq!(next(&mut stream), Some((b'Z', vec![b'I'])));
        }
    }
}

/// With its own secret a client cancels another client's statement, whose process id everybody can guess, or does not.
async fn anothers_cancel(mutant: Option<&str>, hits: bool) {
    let (cluster, database) = (cluster::fifteen(), "versions_keys");
    cluster.create_filled_database(database);
    let proxy = Proxy::start(&Wish { cluster, database, pool_size: 2, mutant, more: "" });
    let logged_in = |minor: u32, letter: char| {
        let user = format!("app_user.{}", scripts::tenant(letter));
        let mut stream = connect(proxy.address);
        let key = log_in(&mut stream, &startup(minor, &[("user", &user), ("database", database)]));
        (stream, key)
    };
    for minor in [0, 2] {
        let ((mut stream, own), (_other, others)) = (logged_in(minor, 'a'), logged_in(minor, 'b'));
        stream.write_all(&Message::Query(SLOW.to_owned()).bytes()).unwrap();
        until_it_runs(cluster, database, "generate_series(1, 20000)").await;
        cancel(proxy.address, own.process_id, &others.secret);
        let mut admin = cluster.admin(database);
        let is_running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND datname = current_database() \
                          AND pid <> pg_backend_pid()";
        if hits {
            eventually("it hits", || admin.value(is_running) == "0");
        }
        assert_ne!(admin.value(is_running) == "1", hits);
        // What it finds if the other has hit is nothing.
        cancel(proxy.address, own.process_id, &own.secret);
        assert!(std::iter::from_fn(|| next(&mut stream)).any(|(tag, _)| tag == b'Z'));
    }
}

#[tokio::test]
async fn no_client_cancels_another() {
    anothers_cancel(None, false).await;
}

/// A planted defect must be found.
#[cfg(feature = "mutants")]
#[tokio::test]
async fn mutants_that_share_a_cancel_key_are_found() {
    anothers_cancel(Some("shared_cancel_key"), true).await;
}

/// What passes between proxy and server at a login: what it asks for, the answer's NegotiateProtocolVersion and key.
#[derive(Debug, Default)]
struct Overheard {
    asked: Vec<u8>,
    answered: Vec<u8>,
    /// Cancel requests, whole.
    cancels: Vec<Vec<u8>>,
}

/// Passes everything on to the server, and listens.
fn listen_in(server: SocketAddr, heard: &Arc<Mutex<Overheard>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, heard) = (listener.local_addr().unwrap().port(), Arc::clone(heard));
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server) = (client.unwrap(), TcpStream::connect(server).unwrap());
            let (back, forth) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            let (asked, answered) = (Arc::clone(&heard), Arc::clone(&heard));
            let mut is_first = true;
            pass_on(client, forth, move |bytes| {
                let mut heard = asked.lock().unwrap();
                if std::mem::take(&mut is_first) && bytes[4..8] == 80_877_102_u32.to_be_bytes() {
                    heard.cancels.push(bytes.to_vec());
                } else if heard.asked.is_empty() {
                    heard.asked = bytes.to_vec();
                }
            });
            pass_on(server, back, move |bytes| answered.lock().unwrap().answered.extend_from_slice(bytes));
        }
    });
    port
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, mut look: impl FnMut(&[u8]) + Send + 'static) {
    std::thread::spawn(move || {
        let mut bytes = [0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            look(&bytes[..count]);
            if to.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        // The other direction may have ended first.
        drop(to.shutdown(std::net::Shutdown::Both));
    });
}

#[tokio::test]
async fn servers_are_asked_for_3_2_and_their_own_key_is_what_cancels() {
    let database = "versions_server";
    for cluster in every_release() {
        cluster.create_filled_database(database);
        let heard = Arc::default();
        let between = listen_in(cluster.address, &heard);
        let wish = Wish { cluster, database, pool_size: 1, mutant: None, more: "" };
        let server = format!("port = {}", cluster.address.port());
        let proxy = Proxy::start_with(database, None, |address, _| {
            proxy::configuration(&wish, address).replace(&server, &format!("port = {between}"))
        });
        let mut client = Client::connect(&proxy.target(&scripts::tenant('a')));
        client.send(&Message::Query(SLOW.to_owned())).flush().unwrap();
        until_it_runs(cluster, database, "generate_series(1, 20000)").await;
        client.cancel();
        assert!(client.replies_to(b'Z').0.iter().any(|reply| reply.tag == b'E' && reply.fields()[&'C'] == "57014"));
        let heard = heard.lock().unwrap();
        assert_eq!(heard.asked[4..8], [0, 3, 0, 2], "3.2 is asked for");
        let (secret_bytes, is_negotiated) = if cluster.version >= 18 { (32, false) } else { (4, true) };
        // The first message: NegotiateProtocolVersion to 3.0 with no option, or AuthenticationOk at once.
        let down = [b'v', 0, 0, 0, 12, 0, 3, 0, 0, 0, 0, 0, 0];
        assert_eq!(heard.answered.starts_with(&down), is_negotiated, "{}", cluster.version);
        let head = [b'K', 0, 0, 0, 8 + secret_bytes];
        let at = heard.answered.windows(5).position(|window| window == head).expect("a key of that length");
        let key = &heard.answered[at + 5..at + 9 + usize::from(secret_bytes)];
        let cancel = &heard.cancels[..];
        assert_eq!(cancel.len(), 1);
        assert_eq!(cancel[0], message::cancel(u32::from_be_bytes(key[..4].try_into().unwrap()), &key[4..]));
    }
}

/// What is answered to requests for encryption, one after the other, and the connection. A server that is built with
/// GSSAPI (Debian's) says `G` and goes on with that.
fn requested(address: SocketAddr, requests: &[&[u8]]) -> (Vec<u8>, TcpStream) {
    let mut stream = connect(address);
    let mut answers = Vec::new();
    for request in requests {
        stream.write_all(request).unwrap();
        let mut answer = [0];
        stream.read_exact(&mut answer).unwrap();
        answers.push(answer[0]);
        if answer == *b"G" {
            break;
        }
    }
    (answers, stream)
}

/// SQLSTATE and severity of the error that ends a connection.
fn last_error(stream: &mut TcpStream) -> String {
    let (tag, body) = next(stream).expect("an error");
    assert_eq!(tag, b'E');
    assert_eq!(next(stream), None, "and then the end");
    let fields: Vec<_> = body.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    let field = |kind: char| fields.iter().find_map(|field| field.strip_prefix(kind)).unwrap_or_default().to_owned();
    format!("{} {}", field('V'), field('C'))
}

#[test]
fn requests_for_encryption_are_answered_in_any_order_and_once() {
    let database = "versions_encryption";
    for cluster in every_release() {
        let proxy = in_front_of(cluster, database);
        let tenant = scripts::tenant('a');
        let sides = [(cluster.address, "app_user".to_owned()), (proxy.address, format!("app_user.{tenant}"))];
        for (address, user) in sides {
            let packet = startup(2, &[("user", &user), ("database", database)]);
            for requests in
                [vec![&GSSENC[..], &SSL], vec![&SSL[..], &GSSENC], vec![&GSSENC[..]], vec![&SSL[..]], vec![]]
            {
                let (answers, mut stream) = requested(address, &requests);
                if address == cluster.address && answers.contains(&b'G') {
                    continue;
                }
                assert!(answers.iter().all(|answer| *answer == b'N'), "{answers:?}");
                log_in(&mut stream, &packet);
            }
            // Twice is once too often, whatever stands between.
            for requests in [[SSL, GSSENC, SSL], [GSSENC, SSL, GSSENC], [SSL; 3], [GSSENC; 3]] {
                let mut stream = connect(address);
                let mut answers = Vec::new();
                for request in requests {
                    let mut answer = [0];
                    // Once it has been refused, nobody may be there to write to.
                    let is_answered = stream.write_all(&request).is_ok() && stream.read_exact(&mut answer).is_ok();
                    if !is_answered || answer != *b"N" {
                        break;
                    }
                    answers.push(answer[0]);
                }
                assert!(answers.len() < 3, "{answers:?}");
            }
            // What comes in the same packet could be somebody else's.
            for request in [SSL, GSSENC] {
                let mut stream = connect(address);
                stream.write_all(&[&request[..], &packet].concat()).unwrap();
                let mut answer = [0];
                stream.read_exact(&mut answer).unwrap();
                if address == cluster.address && answer == *b"G" {
                    continue;
                }
                if answer == *b"N" {
                    assert_eq!(last_error(&mut stream), "FATAL 08P01", "{address} on {}", cluster.version);
                } else {
                    // Before the answer, so that the error's first byte is what was read.
                    assert_eq!(answer, *b"E");
                }
            }
        }
    }
}
