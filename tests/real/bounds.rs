//! Memory under what clients may send and refuse to read: large values, endless pipelines, readers that do not read.
//!
//! The proxy's peak (VmHWM) is compared with what it was before. The bounds are generous; a proxy that kept what passes
//! through it would need several times as much.

use crate::support::cluster::{self, Cluster};
use crate::support::message::Message;
use crate::support::proxy::{Proxy, Wish};
use crate::support::raw::Client;
use crate::support::tls::TlsLink;
use crate::support::{alone, number};
use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const DATABASE: &str = "bounds";
const ACME: &str = "00000000-0000-0000-0000-00000000000a";
const PIPELINE: usize = 100_000;

/// A proxy, and where clients connect: to it, or to what speaks TLS with it for them.
struct Stage {
    proxy: Proxy,
    address: SocketAddr,
    way: &'static str,
    _link: Option<TlsLink>,
    _folder: TempDir,
}

fn start(cluster: &Cluster, pool_size: u32, is_tls: bool) -> Stage {
    cluster.create_filled_database(DATABASE);
    let folder = TempDir::with_prefix("tenantgate-bounds-").expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    std::fs::write(path("proxy.crt"), own.cert.pem()).expect("it can be written");
    std::fs::write(path("proxy.key"), own.signing_key.serialize_pem()).expect("it can be written");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(path("proxy.key"), private).expect("it can be made private");
    let (certificate, key) = (path("proxy.crt"), path("proxy.key"));
    let more = format!("[tls]\nmode = \"require\"\ncertificate = {certificate:?}\nkey = {key:?}\n");
    let more = if is_tls { more } else { String::new() };
    let proxy = Proxy::start(&Wish { cluster, database: DATABASE, pool_size, mutant: None, more: &more });
    let link = is_tls.then(|| TlsLink::start(proxy.address));
    let address = link.as_ref().map_or(proxy.address, |link| link.address);
    let way = if is_tls { " over TLS" } else { "" };
    Stage { proxy, address, way, _link: link, _folder: folder }
}

/// The same in clear text and over TLS.
fn either_way(proof: impl Fn(bool)) {
    let _turn = alone();
    [false, true].into_iter().for_each(proof);
}

fn client(stage: &Stage) -> Client {
    let mut target = stage.proxy.target(ACME);
    target.address = stage.address;
    let mut client = Client::connect(&target);
    client.patience(Duration::from_secs(60));
    client.run("SELECT 1");
    client
}

fn has_grown_less_than(stage: &Stage, before: u64, mib_max: u64, what: &str) {
    let now = stage.proxy.memory_kib_max();
    let (grown, what) = (now.saturating_sub(before) / 1024, format!("{what}{}", stage.way));
    eprintln!("{what}: the proxy grew by {grown} MiB of {mib_max}, to {} MiB", now / 1024);
    assert!(grown < mib_max, "{what}: the proxy grew by {grown} MiB");
}

/// A frame's head with a body of that length.
fn head(tag: u8, body_bytes: usize) -> Vec<u8> {
    let length = u32::try_from(body_bytes + 4).expect("a length that fits").to_be_bytes();
    [&[tag][..], &length].concat()
}

#[test]
fn large_values_pass_without_being_kept() {
    either_way(large_values);
}

fn large_values(is_tls: bool) {
    let stage = start(cluster::fifteen(), 1, is_tls);
    let mut client = client(&stage);
    let before = stage.proxy.memory_kib_max();
    // By default as much as a busy machine passes on in a few seconds; `tests/session_state.rs` has the whole of it.
    let value = usize::try_from(number("TENANTGATE_VALUE_BYTES", 100_000_000)).expect("it fits");

    client.send(&Message::Query(format!("SELECT repeat('x', {value})"))).flush().expect("it leaves");
    let passed = client.pass_to(b'Z');
    assert!(passed.iter().any(|(tag, bytes)| *tag == b'D' && *bytes > value), "{passed:?}");

    // Bind: no portal name, no statement name, no formats, one value; no result formats.
    let front = [&b"\0\0\0\0\0\x01"[..], &u32::try_from(value).expect("it fits").to_be_bytes()].concat();
    client.send(&Message::parse("", "SELECT length($1)"));
    client.send(&Message::Raw([head(b'B', front.len() + value + 2), front].concat()));
    client.flush().expect("it leaves");
    let piece = vec![b'y'; 1_000_000];
    for _ in 0..value / piece.len() {
        client.send(&Message::Raw(piece.clone())).flush().expect("a piece leaves");
    }
    client.send(&Message::Raw(vec![0, 0])).send(&Message::execute()).send(&Message::Sync).flush().expect("it leaves");
    let (replies, silence) = client.replies_to(b'Z');
    assert_eq!(silence, None, "{replies:?}");
    let row = replies.iter().find(|reply| reply.tag == b'D').unwrap_or_else(|| panic!("{replies:?}")).row();
    assert_eq!(row, [Some(value.to_string())]);

    // COPY of one line that is no value of the column: PostgreSQL takes it all, then refuses.
    client.send(&Message::Query("COPY plain (note) FROM STDIN".to_owned())).flush().expect("it leaves");
    assert_eq!(client.replies_to(b'G').1, None);
    for _ in 0..100 {
        client.send(&Message::CopyData(piece.clone())).flush().expect("a piece leaves");
    }
    client.send(&Message::CopyFail("enough".to_owned())).flush().expect("it leaves");
    let (replies, silence) = client.replies_to(b'Z');
    assert!(silence.is_none() && replies[0].tag == b'E', "{replies:?}");
    has_grown_less_than(&stage, before, 24, "large values");
}

/// Sends all of it while somebody reads.
fn pipeline(client: &mut Client, bytes: Vec<u8>, rows: usize, readies: usize) {
    let mut writer = client.writer();
    let writing = std::thread::spawn(move || writer.write_all(&bytes).expect("all of it leaves"));
    let (mut seen, mut ready) = (0, 0);
    while ready < readies {
        let reply = client.reply().expect("it is answered");
        match reply.tag {
            b'D' => {
                assert_eq!(reply.row(), [Some(seen.to_string())], "in order");
                seen += 1;
            }
            b'Z' => ready += 1,
            b'E' => panic!("{:?}", reply.fields()),
            _ => {}
        }
    }
    assert_eq!(seen, rows);
    writing.join().expect("the writer ends");
}

#[test]
fn a_hundred_thousand_statements_in_flight_are_answered_in_order_and_not_kept() {
    either_way(statements_in_flight);
}

fn statements_in_flight(is_tls: bool) {
    let stage = start(cluster::fifteen(), 1, is_tls);
    let mut client = client(&stage);
    client.send(&Message::parse("s", "SELECT $1")).send(&Message::Sync).flush().expect("it leaves");
    assert_eq!(client.replies_to(b'Z').1, None);
    let before = stage.proxy.memory_kib_max();
    let collect = |each: &dyn Fn(usize) -> Vec<u8>, last: &[u8]| {
        let mut bytes: Vec<u8> = (0..PIPELINE).flat_map(each).collect();
        bytes.extend_from_slice(last);
        bytes
    };
    let (execute, sync) = (Message::execute().bytes(), Message::Sync.bytes());
    let bind = |number: usize| Message::bind("s", &[&number.to_string()]).bytes();
    let segments = collect(&|number| [bind(number), execute.clone(), sync.clone()].concat(), b"");
    pipeline(&mut client, segments, PIPELINE, PIPELINE);
    has_grown_less_than(&stage, before, 24, "100,000 segments");
    let one_segment = collect(&|number| [bind(number), execute.clone()].concat(), &sync);
    pipeline(&mut client, one_segment, PIPELINE, 1);
    has_grown_less_than(&stage, before, 24, "100,000 statements in one segment");
}

/// How many there are by default: `TENANTGATE_STALLED_CLIENTS` for more, in a cluster of their own.
const STALLED: u64 = 40;

#[test]
fn many_clients_that_do_not_read_cost_a_fixed_amount_each_and_stop_nobody() {
    let clients = usize::try_from(number("TENANTGATE_STALLED_CLIENTS", STALLED)).expect("it fits");
    either_way(|is_tls| {
        if clients <= 200 {
            return do_not_read(cluster::fifteen(), clients, is_tls);
        }
        let mut cluster = cluster::private(if is_tls { "bounds-tls" } else { "bounds" });
        cluster.admin("postgres").run(&format!("ALTER SYSTEM SET max_connections = {}", clients + 100));
        cluster.restart();
        do_not_read(&cluster, clients, is_tls);
    });
}

/// Half of them ask for 10 MB each and read nothing; the others ask for as much one by one, in a pipeline. Whoever reads
/// nothing of what it asked for keeps its server meanwhile.
fn do_not_read(cluster: &Cluster, clients: usize, is_tls: bool) {
    const PIPELINED: usize = 5_000;
    let stage = start(cluster, u32::try_from(clients + 1).expect("few"), is_tls);
    let mut other = client(&stage);
    let before = stage.proxy.memory_kib_max();
    let written: std::sync::Arc<AtomicU64> = std::sync::Arc::default();
    let (many, results) = (clients, clients / 2);
    let mut clients: Vec<Client> = (0..clients).map(|_| client(&stage)).collect();
    let queries: Vec<u8> =
        (0..PIPELINED).flat_map(|_| Message::Query("SELECT repeat('y', 2000)".to_owned()).bytes()).collect();
    let queries = std::sync::Arc::new(queries);
    let mut writing = Vec::new();
    for (number, client) in clients.iter_mut().enumerate() {
        if number < results {
            let sql = "SELECT repeat('x', 1000) FROM generate_series(1, 10000)".to_owned();
            client.send(&Message::Query(sql)).flush().expect("it leaves");
            continue;
        }
        let (mut writer, written, queries) = (client.writer(), written.clone(), queries.clone());
        writing.push(std::thread::spawn(move || {
            // Those who never read are closed in the end, with some of it unwritten.
            queries.chunks(4096).all(|piece| {
                written.fetch_add(piece.len() as u64, Ordering::SeqCst);
                writer.write_all(piece).is_ok()
            })
        }));
    }
    // It has come to rest when nothing more is taken while somebody else is served a hundred times.
    let (mut seen, mut times) = (0, 0);
    let deadline = Instant::now() + Duration::from_secs(300);
    while times < 100 {
        assert!(Instant::now() < deadline, "it never comes to rest");
        assert_eq!(other.value("SELECT count(*) FROM items"), "3");
        let now = written.load(Ordering::SeqCst);
        times = if now == seen { times + 1 } else { 0 };
        seen = now;
    }
    // 64 KiB each way and a read of 32 KiB, doubled by growing buffers; with TLS its records.
    let mib_max = u64::try_from(many).expect("few") * if is_tls { 16 } else { 12 } / 10;
    has_grown_less_than(&stage, before, mib_max, &format!("{many} clients that do not read"));
    if many > 200 {
        // It would be gigabytes to read.
        return;
    }
    for client in clients.iter_mut().take(results) {
        let passed = client.pass_to(b'Z');
        assert_eq!(passed.iter().filter(|(tag, _)| *tag == b'D').count(), 10_000);
    }
    for client in clients.iter_mut().skip(results) {
        for _ in 0..PIPELINED {
            assert!(client.pass_to(b'Z').iter().all(|(tag, _)| *tag != b'E'));
        }
    }
    assert!(writing.into_iter().all(|writer| writer.join().expect("the writer ends")), "all of it leaves");
    has_grown_less_than(&stage, before, mib_max, &format!("{many} clients that read late"));
}
