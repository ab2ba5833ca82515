//! Memory under what clients may send and refuse to read: large values, endless pipelines, readers that do not read.
//!
//! The proxy's peak (VmHWM) is compared with what it was before. The bounds are generous; a proxy that kept what passes
//! through it would need several times as much.

use crate::support::cluster;
use crate::support::message::Message;
use crate::support::proxy::{Proxy, Wish};
use crate::support::raw::Client;
use crate::support::{alone, eventually, number};
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const DATABASE: &str = "bounds";
const ACME: &str = "00000000-0000-0000-0000-00000000000a";
const PIPELINE: usize = 100_000;

fn start(pool_size: u32, more: &str) -> Proxy {
    let cluster = cluster::fifteen();
    cluster.create_filled_database(DATABASE);
    Proxy::start(&Wish { cluster, database: DATABASE, pool_size, mutant: None, more })
}

fn client(proxy: &Proxy) -> Client {
    let mut client = Client::connect(&proxy.target(ACME));
    client.patience(Duration::from_secs(60));
    client.run("SELECT 1");
    client
}

fn has_grown_less_than(proxy: &Proxy, before: u64, mib_max: u64, what: &str) {
    let grown = proxy.memory_kib_max().saturating_sub(before) / 1024;
    eprintln!("{what}: the proxy grew by {grown} MiB of {mib_max}");
    assert!(grown < mib_max, "{what}: the proxy grew by {grown} MiB");
}

/// A frame's head with a body of that length.
fn head(tag: u8, body_bytes: usize) -> Vec<u8> {
    let length = u32::try_from(body_bytes + 4).expect("a length that fits").to_be_bytes();
    [&[tag][..], &length].concat()
}

#[test]
fn large_values_pass_without_being_kept() {
    let _turn = alone();
    let proxy = start(1, "");
    let mut client = client(&proxy);
    let before = proxy.memory_kib_max();
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
    has_grown_less_than(&proxy, before, 24, "large values");
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
    let _turn = alone();
    let proxy = start(1, "");
    let mut client = client(&proxy);
    client.send(&Message::parse("s", "SELECT $1")).send(&Message::Sync).flush().expect("it leaves");
    assert_eq!(client.replies_to(b'Z').1, None);
    let before = proxy.memory_kib_max();
    let collect = |each: &dyn Fn(usize) -> Vec<u8>, last: &[u8]| {
        let mut bytes: Vec<u8> = (0..PIPELINE).flat_map(each).collect();
        bytes.extend_from_slice(last);
        bytes
    };
    let (execute, sync) = (Message::execute().bytes(), Message::Sync.bytes());
    let bind = |number: usize| Message::bind("s", &[&number.to_string()]).bytes();
    let segments = collect(&|number| [bind(number), execute.clone(), sync.clone()].concat(), b"");
    pipeline(&mut client, segments, PIPELINE, PIPELINE);
    has_grown_less_than(&proxy, before, 24, "100,000 segments");
    let one_segment = collect(&|number| [bind(number), execute.clone()].concat(), &sync);
    pipeline(&mut client, one_segment, PIPELINE, 1);
    has_grown_less_than(&proxy, before, 24, "100,000 statements in one segment");
}

#[test]
fn many_clients_that_do_not_read_cost_a_fixed_amount_each_and_stop_nobody() {
    // Whoever reads nothing of what it asked for keeps its server meanwhile.
    const CLIENTS: usize = 40;
    const RESULTS: usize = 20;
    const PIPELINED: usize = 5_000;
    let _turn = alone();
    let proxy = start(u32::try_from(CLIENTS + 1).expect("few"), "");
    let mut other = client(&proxy);
    let before = proxy.memory_kib_max();
    let written: std::sync::Arc<AtomicU64> = std::sync::Arc::default();
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| client(&proxy)).collect();
    // Half of them ask for 10 MB each and read nothing; the others ask for as much one by one, in a pipeline.
    let queries: Vec<u8> =
        (0..PIPELINED).flat_map(|_| Message::Query("SELECT repeat('y', 2000)".to_owned()).bytes()).collect();
    let queries = std::sync::Arc::new(queries);
    let mut writing = Vec::new();
    for (number, client) in clients.iter_mut().enumerate() {
        if number < RESULTS {
            let sql = "SELECT repeat('x', 1000) FROM generate_series(1, 10000)".to_owned();
            client.send(&Message::Query(sql)).flush().expect("it leaves");
            continue;
        }
        let (mut writer, written, queries) = (client.writer(), written.clone(), queries.clone());
        writing.push(std::thread::spawn(move || {
            for piece in queries.chunks(4096) {
                writer.write_all(piece).expect("a piece leaves, in the end");
                written.fetch_add(piece.len() as u64, Ordering::SeqCst);
            }
        }));
    }
    // It has come to rest when nothing more is taken while somebody else is served a hundred times.
    let (mut seen, mut times) = (0, 0);
    eventually("it comes to rest", || {
        assert_eq!(other.value("SELECT count(*) FROM items"), "3");
        let now = written.load(Ordering::SeqCst);
        times = if now == seen { times + 1 } else { 0 };
        seen = now;
        times >= 100
    });
    // 64 KiB each way and a read of 32 KiB, doubled by growing buffers.
    has_grown_less_than(&proxy, before, 48, "40 clients that do not read");
    for client in clients.iter_mut().take(RESULTS) {
        let passed = client.pass_to(b'Z');
        assert_eq!(passed.iter().filter(|(tag, _)| *tag == b'D').count(), 10_000);
    }
    for client in clients.iter_mut().skip(RESULTS) {
        for _ in 0..PIPELINED {
            assert!(client.pass_to(b'Z').iter().all(|(tag, _)| *tag != b'E'));
        }
    }
    writing.into_iter().for_each(|writer| writer.join().expect("the writer ends"));
    has_grown_less_than(&proxy, before, 48, "40 clients that read late");
}
