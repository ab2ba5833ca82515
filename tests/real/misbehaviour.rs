//! Clients and servers that vanish at any byte, talk nonsense or stand still.
//!
//! Whatever happens, the client concerned is told once or not at all, what it was told to be committed is there, the next
//! client of the pool's only server is served right, and no server stays behind.

use crate::scripts::Login;
use crate::support::cluster::{self, Cluster};
use crate::support::inside::Inside;
use crate::support::message::Message;
use crate::support::proxy::{Wish, login_of_its_own};
use crate::support::raw::{Client, Silence};
use crate::support::relay::{Fate, Relay, Way};
use crate::support::reply::Reply;
use crate::support::{alone, eventually, number};
use std::time::Duration;
use tenantgate::admin::Operations as _;

const DATABASE: &str = "misbehaviour";
const ACME: &str = "00000000-0000-0000-0000-00000000000a";
const GLOBEX: &str = "00000000-0000-0000-0000-00000000000b";
const PATIENCE: Duration = Duration::from_secs(20);

struct Stage {
    relay: Relay,
    proxy: Inside,
    /// Of those between whom the other one is served.
    login: Login,
    /// Client of another tenant and the ordinary login, which is served between any two others.
    other: Client,
    admin: Client,
    /// Of the ledger, where there is one.
    _folder: tempfile::TempDir,
}

impl Stage {
    /// A proxy with one server, behind a relay.
    fn new(cluster: &Cluster, more: &str) -> Self {
        Self::over(cluster, Login::Tenant, more)
    }

    /// The same with clients of that login.
    fn over(cluster: &Cluster, login: Login, more: &str) -> Self {
        cluster.create_filled_database(DATABASE);
        let mut admin = cluster.admin(DATABASE);
        if admin.rows("SELECT 1 FROM pg_roles WHERE rolname = 'script_recorded'").is_empty() {
            admin.run("CREATE ROLE script_recorded LOGIN IN ROLE app_user");
        }
        let folder = tempfile::tempdir().expect("a folder for a ledger");
        let more = format!("{more}{}", login.more(&folder.path().join("ledger.jsonl")));
        let relay = Relay::start(cluster.address);
        let proxy = Inside::start(&Wish { cluster, database: DATABASE, pool_size: 1, mutant: None, more: &more });
        let port = |port: u16| format!("port = {port}\n");
        proxy.reload_with(&port(cluster.address.port()), &port(relay.address.port()));
        let other = Client::connect(&proxy.target(GLOBEX));
        Self { relay, proxy, login, other, admin, _folder: folder }
    }

    fn client(&self) -> Client {
        let target = match self.login {
            Login::Tenant | Login::Lease | Login::Sealed => self.proxy.target(ACME),
            Login::Recorded => self.proxy.login(&format!("recorded.{ACME}"), "demo"),
            Login::Pinned | Login::Session => self.proxy.login(&format!("keeps.{ACME}"), "demo"),
        };
        let mut client = Client::connect(&target);
        client.patience(PATIENCE);
        client
    }

    /// The other tenant gets its own rows, and nothing else.
    fn serves_the_other(&mut self, what: &str) {
        let replies = self.other.query("SELECT name FROM items ORDER BY id");
        let rows: Vec<_> = replies.iter().filter(|reply| reply.tag == b'D').map(Reply::row).collect();
        let wanted = [[Some("bolt".to_owned())], [Some("bit".to_owned())]];
        assert_eq!(rows, wanted, "{what}: {replies:?}");
        assert_eq!(replies.len(), 5, "{what}: {replies:?}");
    }

    fn is_there(&mut self, id: usize) -> bool {
        self.admin.value(&format!("SELECT count(*) FROM plain WHERE id = {id}")) == "1"
    }

    /// Nobody has a server, and every server is idle.
    fn is_balanced(&mut self) {
        let proxy = &self.proxy;
        eventually("the pool is balanced", || {
            let rows = proxy.operations().pools();
            rows.iter().all(|row| {
                let (clients, servers) = (row.clients_active + row.clients_waiting + row.cancels, row.servers);
                clients == 0 && servers.leased == 0 && servers.waiting == 0 && servers.idle <= 1
            })
        });
        let admin = &mut self.admin;
        let busy = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app_user' AND state <> 'idle' AND \
                    datname = current_database()";
        eventually("no server is busy", || admin.value(busy) == "0");
        let connected =
            "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app_user' AND datname = current_database()";
        eventually("no server is left over", || admin.value(connected).parse::<u32>().is_ok_and(|count| count <= 1));
    }
}

fn query(sql: &str) -> Message {
    Message::Query(sql.to_owned())
}

/// A little of everything; what is to be awaited behind each step.
fn conversation(id: usize) -> Vec<(Vec<Message>, u8)> {
    let insert = "INSERT INTO plain (id, note) VALUES ($1, 'x') RETURNING id";
    let value = id.to_string();
    let copy = |words: &str| Message::CopyData(words.as_bytes().to_vec());
    vec![
        (vec![query("SET timezone = 'Asia/Tokyo'")], b'Z'),
        (
            vec![
                Message::parse("", "SELECT name FROM items WHERE id = $1"),
                Message::bind("", &["1"]),
                Message::execute(),
                Message::Sync,
            ],
            b'Z',
        ),
        (vec![query("BEGIN")], b'Z'),
        (vec![Message::parse("s", insert), Message::DescribeStatement("s".to_owned()), Message::Sync], b'Z'),
        (vec![Message::bind("s", &[&value]), Message::execute(), Message::Sync], b'Z'),
        (vec![query("COPY plain (id, note) FROM STDIN")], b'G'),
        (vec![copy("-1\tone\n"), copy("-1\ttwo\n"), Message::CopyDone], b'Z'),
        (vec![query("DELETE FROM plain WHERE id = -1; SELECT repeat('y', 300)")], b'Z'),
        (vec![query("COMMIT")], b'Z'),
    ]
}

/// What became of it.
struct Outcome {
    /// The COMMIT was answered.
    is_acknowledged: bool,
    /// Everything that came.
    replies: Vec<Reply>,
    silence: Option<Silence>,
    /// A part of a reply came last: nothing can be told in the middle of it.
    is_cut_short: bool,
}

fn converse(client: &mut Client, id: usize) -> Outcome {
    let mut replies = Vec::new();
    for (messages, awaited) in conversation(id) {
        client.send_all(&messages);
        // A peer that has gone says so when it is read.
        drop(client.flush());
        let (more, silence) = client.replies_to(awaited);
        replies.extend(more);
        if silence.is_some() {
            return Outcome { is_acknowledged: false, replies, silence, is_cut_short: client.is_in_mid_reply() };
        }
    }
    let is_acknowledged = replies.iter().any(|reply| reply.tag == b'C' && reply.body.starts_with(b"COMMIT"));
    Outcome { is_acknowledged, replies, silence: None, is_cut_short: false }
}

/// One FATAL and nothing behind it, for whoever was not told of its COMMIT; none only in the middle of a row. A server that is told nonsense says so before
/// it ends.
fn is_told_once(outcome: &Outcome, may_complain: bool, what: &str) {
    let Outcome { replies, silence, .. } = outcome;
    assert_ne!(*silence, Some(Silence::Timeout), "{what}: nobody says anything");
    let errors: Vec<_> = replies.iter().enumerate().filter(|(_, reply)| reply.tag == b'E').collect();
    assert!(errors.len() <= if may_complain { 2 } else { 1 }, "{what}: {replies:?}");
    assert!(errors.is_empty() || !outcome.is_acknowledged, "{what}: {replies:?}");
    assert!(!errors.is_empty() || outcome.is_acknowledged || outcome.is_cut_short, "{what}: not told: {replies:?}");
    if let Some(&(at, error)) = errors.last() {
        assert_eq!(error.fields()[&'V'], "FATAL", "{what}: {replies:?}");
        assert_eq!((at + 1, *silence), (replies.len(), Some(Silence::Closed)), "{what}");
    }
}

/// A client with a server that it has just used; where that may be, it has left something there.
fn warm(stage: &Stage) -> Client {
    let mut client = stage.client();
    client.run("SELECT 1");
    if stage.login.keeps_state() {
        client.run("LISTEN vanishing");
    }
    client
}

/// Cuts the server's link behind every `stride`th byte of the conversation, one way and the other.
fn servers_that_vanish(cluster: &Cluster, login: Login, stride: usize, fate: Fate) {
    let mut stage = Stage::over(cluster, login, "");
    stage.serves_the_other("at first");
    let mut client = warm(&stage);
    let before = stage.relay.carried();
    assert!(converse(&mut client, 0).is_acknowledged);
    drop(client);
    let after = stage.relay.carried();
    let (to_server, to_proxy) = (after.0 - before.0, after.1 - before.1);
    let (mut cuts, mut acknowledged, mut told) = (0, 0, 0);
    for (way, bytes) in [(Way::ToServer, to_server), (Way::ToProxy, to_proxy)] {
        let bytes = usize::try_from(bytes).expect("few");
        for after in (0..bytes).step_by(stride) {
            let what = format!("{login:?} {way:?} byte {after} of {bytes} on {}", cluster.version);
            cuts += 1;
            stage.serves_the_other(&what);
            let mut client = warm(&stage);
            stage.relay.arm(way, after, fate);
            let outcome = converse(&mut client, cuts);
            stage.relay.disarm();
            is_told_once(&outcome, fate != Fate::Cut && way == Way::ToServer, &what);
            acknowledged += usize::from(outcome.is_acknowledged);
            told += usize::from(outcome.replies.iter().any(|reply| reply.tag == b'E'));
            assert!(!outcome.is_acknowledged || stage.is_there(cuts), "{what}: lost");
            drop(client);
        }
    }
    stage.serves_the_other("in the end");
    stage.is_balanced();
    let there: usize = stage.admin.value("SELECT count(*) FROM plain WHERE id > 0").parse().expect("a count");
    eprintln!(
        "{cuts} times {fate:?} on {} over {login:?}: {acknowledged} acknowledged, {there} there, {told} told why",
        cluster.version
    );
    assert!(there >= acknowledged && cuts > 20);
}

fn stride(default: u64) -> usize {
    usize::try_from(number("TENANTGATE_CUT_STRIDE", default)).expect("a small number")
}

#[test]
fn a_server_that_vanishes_at_any_byte_harms_one_client_at_most() {
    let _turn = alone();
    servers_that_vanish(cluster::fifteen(), Login::Tenant, stride(5), Fate::Cut);
    if let Some(cluster) = cluster::eighteen() {
        servers_that_vanish(cluster, Login::Tenant, stride(13), Fate::Cut);
    }
}

#[test]
fn a_server_that_vanishes_at_any_byte_harms_one_client_at_most_over_other_logins() {
    let _turn = alone();
    for login in [Login::Lease, Login::Pinned, Login::Session, Login::Recorded] {
        servers_that_vanish(cluster::fifteen(), login, stride(17), Fate::Cut);
    }
}

#[test]
fn a_server_that_talks_nonsense_at_any_byte_harms_one_client_at_most() {
    let _turn = alone();
    // A row, a ReadyForQuery and a length that is none: at a message's boundary they answer nothing, elsewhere they are
    // the rest of one, and then the link is cut.
    let nonsense = b"D\0\0\0\x06\0\0Z\0\0\0\x05IR\0\0\0\x04?\xff\xff\xff\xff";
    servers_that_vanish(cluster::fifteen(), Login::Tenant, stride(11), Fate::Babble(nonsense));
}

#[test]
fn a_client_that_vanishes_at_any_byte_leaves_nothing() {
    let _turn = alone();
    let mut stage = Stage::new(cluster::fifteen(), "");
    let bytes = |id: usize| -> Vec<u8> {
        conversation(id).iter().flat_map(|(messages, _)| messages.iter().flat_map(Message::bytes)).collect()
    };
    // Numbers of one length, so that a byte is the same one each time.
    let first = 1_000;
    let all = bytes(first).len();
    let (mut id, mut whole) = (first, 0);
    for after in (0..=all).step_by(stride(5)).chain([all]) {
        // It goes without reading; it says that it sends no more, and reads; it talks nonsense, and reads.
        for manner in ["goes", "hangs up", "babbles"] {
            id += 1;
            let what = format!("{manner} behind byte {after} of {all}");
            let mut client = stage.client();
            let said = bytes(id);
            client.send(&Message::Raw(said[..after].to_vec()));
            if manner == "babbles" {
                client.send(&Message::Raw(b"\xff\0\0\0\x04Q\xff\xff\xff\xffS\0\0\0\x04".to_vec()));
            }
            drop(client.flush());
            if manner != "goes" {
                client.hang_up();
                let (replies, silence) = client.replies_to(0);
                assert_eq!(silence, Some(Silence::Closed), "{what}: {replies:?}");
                let is_told = |reply: &Reply| reply.tag == b'C' && reply.body.starts_with(b"COMMIT");
                if replies.iter().any(is_told) {
                    whole += 1;
                    assert!(stage.is_there(id), "{what}: lost");
                }
            }
            drop(client);
            stage.serves_the_other(&what);
        }
    }
    stage.is_balanced();
    eprintln!("{} clients vanished, {whole} were told of their COMMIT", id - first);
    assert!(whole > 0);
}

#[test]
fn a_client_that_stops_in_mid_message_keeps_no_server() {
    let _turn = alone();
    let mut stage = Stage::new(cluster::fifteen(), "");
    let long = "x".repeat(30_000);
    let messages = [
        query("SELECT name FROM items").bytes(),
        Message::parse("", "SELECT name FROM items").bytes(),
        [Message::parse("", "SELECT length($1)").bytes(), Message::Sync.bytes(), Message::bind("", &[&long]).bytes()]
            .concat(),
    ];
    let mut slow: Vec<(Client, Vec<u8>)> = Vec::new();
    for message in messages {
        let mut client = stage.client();
        let (front, rest) = message.split_at(message.len() - 7);
        client.send(&Message::Raw(front.to_vec())).flush().expect("it leaves");
        slow.push((client, rest.to_vec()));
    }
    for _ in 0..20 {
        stage.serves_the_other("while others stand still");
    }
    for (mut client, rest) in slow {
        client.send(&Message::Raw(rest)).send(&Message::Sync).flush().expect("it leaves");
        let (replies, silence) = client.replies_to(b'Z');
        assert_eq!(silence, None, "{replies:?}");
    }
    stage.is_balanced();
}

#[test]
fn a_server_that_stands_still_is_given_up_within_the_limit() {
    let _turn = alone();
    let more = "[limits.tenant]\nstatement_timeout = \"300ms\"\n";
    let mut stage = Stage::new(cluster::fifteen(), more);
    for way in [Way::ToServer, Way::ToProxy] {
        stage.serves_the_other("at first");
        let mut client = stage.client();
        client.run("SELECT 1");
        stage.relay.arm(way, 3, Fate::Stall);
        client.send(&query("SELECT name FROM items")).flush().expect("it leaves");
        let (replies, silence) = client.replies_to(0);
        assert!(stage.relay.disarm());
        assert_eq!(silence, Some(Silence::Closed), "{replies:?}");
        let words = replies.last().expect("a word").fields();
        assert!(words[&'M'].starts_with("TG088"), "{words:?}");
        stage.serves_the_other("afterwards");
    }
    stage.is_balanced();
}

fn fatal(sqlstate: &str, words: &str) -> Vec<u8> {
    let body = format!("SFATAL\0VFATAL\0C{sqlstate}\0M{words}\0\0");
    [&b"E"[..], &u32::try_from(body.len() + 4).expect("short").to_be_bytes(), body.as_bytes()].concat()
}

#[test]
fn a_server_that_is_starting_up_or_has_no_room_is_one_error_and_then_it_is_back() {
    let _turn = alone();
    for (sqlstate, words) in [
        ("57P03", "the database system is starting up"),
        ("57P03", "the database system is not yet accepting connections"),
        ("53300", "sorry, too many clients already"),
        ("57P01", "terminating connection due to administrator command"),
    ] {
        let mut stage = Stage::new(cluster::fifteen(), "");
        stage.serves_the_other("at first");
        let mut client = stage.client();
        stage.relay.refuse(Some(fatal(sqlstate, words)));
        stage.admin.run(
            "SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity WHERE usename = 'app_user' AND \
             datname = current_database()",
        );
        client.send(&query("SELECT name FROM items")).flush().expect("it leaves");
        let (replies, silence) = client.replies_to(b'Z');
        let error = replies.iter().find(|reply| reply.tag == b'E').unwrap_or_else(|| panic!("{replies:?}")).fields();
        assert!(error[&'M'].starts_with("TG052") && !error[&'D'].is_empty(), "{error:?}");
        assert!(silence.is_none_or(|silence| silence == Silence::Closed));
        stage.relay.refuse(None);
        let target = stage.proxy.target(GLOBEX);
        eventually("the server is back", || {
            let back = Client::try_connect(&target);
            back.is_ok_and(|mut client| {
                client.startup.iter().all(|reply| reply.tag != b'E')
                    && client.query_to_the_end("SELECT name FROM items").iter().any(|reply| reply.tag == b'D')
            })
        });
        stage.other = Client::connect(&target);
        stage.serves_the_other(words);
        stage.is_balanced();
    }
}

#[test]
fn where_the_role_has_no_more_connections_others_wait_for_those_there_are() {
    let _turn = alone();
    let cluster = cluster::fifteen();
    cluster.create_filled_database(DATABASE);
    let mut admin = cluster.admin(DATABASE);
    if admin.rows("SELECT 1 FROM pg_roles WHERE rolname = 'limited'").is_empty() {
        admin.run("CREATE ROLE limited LOGIN CONNECTION LIMIT 1 IN ROLE app_user");
    }
    let login = login_of_its_own("limited", "tenant", "limited");
    let more = format!("{login}[logins.limited.tenant]\nfrom = [\"suffix\"]\n");
    let proxy = Inside::start(&Wish { cluster, database: DATABASE, pool_size: 3, mutant: None, more: &more });
    let target = |tenant: &str| proxy.login(&format!("limited.{tenant}"), "demo");
    let mut one = Client::connect(&target(ACME));
    one.run("BEGIN");
    assert_eq!(one.value("SELECT count(*) FROM items"), "3");
    let mut waiting: Vec<Client> =
        (0..3).map(|_| Client::connect_later(&target(GLOBEX), "SELECT count(*) FROM items")).collect();
    eventually("they wait", || proxy.operations().pools().iter().any(|row| row.servers.waiting == 3));
    one.run("COMMIT");
    for client in &mut waiting {
        client.patience(PATIENCE);
        let (replies, silence) = client.replies_to(b'Z');
        assert_eq!(silence, None, "{replies:?}");
        let row = replies.iter().find(|reply| reply.tag == b'D').unwrap_or_else(|| panic!("{replies:?}"));
        assert_eq!(row.row(), [Some("2".to_owned())]);
    }
}
