//! Prepared statements under changes of the schema, and within their limits.

use crate::support::alone;
use crate::support::cluster::{self, Cluster};
use crate::support::message::Message;
use crate::support::proxy::{Proxy, Wish};
use crate::support::raw::{Client, Target};
use crate::support::reply::Reply;

const DATABASE: &str = "statements";
const ACME: &str = "00000000-0000-0000-0000-00000000000a";
const GLOBEX: &str = "00000000-0000-0000-0000-00000000000b";

fn with_proxy(more: &str, proof: impl Fn(&Cluster, &Proxy)) {
    let _turn = alone();
    for cluster in cluster::every() {
        cluster.create_filled_database(DATABASE);
        let proxy = Proxy::start(&Wish { cluster, database: DATABASE, pool_size: 2, mutant: None, more });
        proof(cluster, &proxy);
    }
}

/// What came back, in short: tags, and SQLSTATEs of errors.
fn short(replies: &[Reply]) -> String {
    let words = replies.iter().filter(|reply| !matches!(reply.tag, b'S' | b'N')).map(|reply| match reply.tag {
        b'E' => format!("E{} ", reply.fields()[&'C']),
        b'D' => format!("D{} ", reply.row().len()),
        tag => format!("{} ", char::from(tag)),
    });
    words.collect::<String>().trim_end().to_owned()
}

fn ask(client: &mut Client, messages: &[Message]) -> String {
    client.send_all(messages);
    client.send(&Message::Sync).flush().expect("it leaves");
    let (replies, silence) = client.replies_to(b'Z');
    assert_eq!(silence, None, "{}", short(&replies));
    short(&replies)
}

fn prepare(client: &mut Client, sql: &str) -> String {
    ask(client, &[Message::parse("s", sql), Message::DescribeStatement("s".to_owned())])
}

fn run(client: &mut Client, values: &[&str]) -> String {
    ask(client, &[Message::bind("s", values), Message::execute()])
}

fn prepare_anew(client: &mut Client, sql: &str, values: &[&str]) -> String {
    let messages = [
        Message::CloseStatement("s".to_owned()),
        Message::parse("s", sql),
        Message::bind("s", values),
        Message::execute(),
    ];
    ask(client, &messages)
}

/// Two clients, each of which has prepared the text; so have both servers.
fn two_that_prepared(proxy: &Proxy, sql: &str, values: &[&str]) -> (Client, Client) {
    let (mut one, mut other) = (Client::connect(&proxy.target(ACME)), Client::connect(&proxy.target(GLOBEX)));
    one.run("BEGIN");
    prepare(&mut one, sql);
    run(&mut one, values);
    prepare(&mut other, sql);
    run(&mut other, values);
    let pid = "SELECT pg_backend_pid()";
    assert_ne!(one.value(pid), other.value(pid));
    one.run("COMMIT");
    (one, other)
}

/// A client that comes now, on each server.
fn newcomers(proxy: &Proxy, sql: &str, values: &[&str]) -> [String; 2] {
    let mut holder = Client::connect(&proxy.target(ACME));
    holder.run("BEGIN");
    let mut newcomer = Client::connect(&proxy.target(GLOBEX));
    newcomer.run("BEGIN");
    assert_ne!(holder.value("SELECT pg_backend_pid()"), newcomer.value("SELECT pg_backend_pid()"));
    prepare(&mut newcomer, sql);
    prepare(&mut holder, sql);
    [run(&mut newcomer, values), run(&mut holder, values)]
}

#[test]
fn a_changed_result_type_is_the_old_clients_error_until_they_prepare_anew_and_nobody_else_s() {
    with_proxy("", |cluster, proxy| {
        let sql = "SELECT * FROM parents WHERE id = $1";
        let mut native = Client::connect(&Target::new(cluster.address, "app_user", DATABASE));
        prepare(&mut native, sql);
        assert_eq!(run(&mut native, &["1"]), "2 D1 C Z");
        let (mut one, mut other) = two_that_prepared(proxy, sql, &["1"]);
        cluster.admin(DATABASE).run("ALTER TABLE parents ADD COLUMN more text");
        for client in [&mut native, &mut one] {
            for _ in 0..3 {
                assert_eq!(run(client, &["1"]), "E0A000 Z");
            }
            // Natively the parameters' types, which have not changed, come first.
            let described = ask(client, &[Message::DescribeStatement("s".to_owned())]);
            assert!(matches!(&*described, "t E0A000 Z" | "E0A000 Z"), "{described}");
            assert_eq!(prepare_anew(client, sql, &["1"]), "3 1 2 D2 C Z");
            assert_eq!(run(client, &["1"]), "2 D2 C Z");
        }
        // Whoever connects now knows nothing of it, whichever server it gets.
        assert_eq!(newcomers(proxy, sql, &["1"]), ["2 D2 C Z", "2 D2 C Z"]);
        // Another that was there before is told, though its server has prepared the text anew meanwhile.
        assert_eq!(run(&mut other, &["1"]), "E0A000 Z");
        assert_eq!(run(&mut other, &["1"]), "E0A000 Z");
        assert_eq!(prepare_anew(&mut other, sql, &["1"]), "3 1 2 D2 C Z");
        // In a block it fails the block, as anything.
        cluster.admin(DATABASE).run("ALTER TABLE parents DROP COLUMN more");
        other.run("BEGIN");
        assert_eq!(run(&mut other, &["1"]), "E0A000 Z");
        assert_eq!(run(&mut other, &["1"]), "E25P02 Z");
        other.run("ROLLBACK");
        assert_eq!(prepare_anew(&mut other, sql, &["1"]), "3 1 2 D1 C Z");
    });
}

#[test]
fn a_type_that_was_made_anew_is_found_by_whoever_prepares_again() {
    with_proxy("", |cluster, proxy| {
        let create = "CREATE TYPE mood AS ENUM ('sad', 'merry')";
        cluster.admin(DATABASE).run(create);
        let sql = "SELECT $1::mood";
        let mut native = Client::connect(&Target::new(cluster.address, "app_user", DATABASE));
        prepare(&mut native, sql);
        assert_eq!(run(&mut native, &["sad"]), "2 D1 C Z");
        let (mut one, mut other) = two_that_prepared(proxy, sql, &["sad"]);
        cluster.admin(DATABASE).run("DROP TYPE mood");
        cluster.admin(DATABASE).run(create);
        let natively = run(&mut native, &["sad"]);
        assert!(natively.starts_with('E'), "{natively}");
        assert_eq!(run(&mut one, &["sad"]), natively);
        assert_eq!(newcomers(proxy, sql, &["merry"]), ["2 D1 C Z", "2 D1 C Z"]);
        for client in [&mut one, &mut other] {
            assert_eq!(prepare_anew(client, sql, &["merry"]), "3 1 2 D1 C Z");
        }
    });
}

#[test]
fn a_client_keeps_as_many_statements_as_the_configuration_says() {
    let more = "[limits]\nclient_prepared_statements_max = 3\nclient_prepared_statement_bytes_max = 2048\n\
                [databases.statements.pool]\nprepared_statement_bytes_max = 1024\n";
    with_proxy(more, |_, proxy| {
        let mut client = Client::connect(&proxy.target(ACME));
        let parse = |name: &str, sql: &str| Message::parse(name, sql);
        for name in ["a", "b", "c"] {
            assert_eq!(ask(&mut client, &[parse(name, &format!("SELECT '{name}'"))]), "1 Z");
        }
        assert_eq!(ask(&mut client, &[parse("d", "SELECT 4")]), "E54000 Z");
        assert_eq!(
            ask(&mut client, &[parse("", "SELECT 4"), Message::bind("", &[]), Message::execute()]),
            "1 2 D1 C Z"
        );
        assert_eq!(ask(&mut client, &[Message::CloseStatement("a".to_owned()), parse("d", "SELECT 4")]), "3 1 Z");
        client.run("DEALLOCATE ALL");
        let long = format!("SELECT {}", "1 + ".repeat(400) + "1");
        assert_eq!(ask(&mut client, &[parse("a", &long)]), "1 Z");
        assert_eq!(ask(&mut client, &[parse("b", &long)]), "E54000 Z");
        // More than a server keeps: all of it works, again and again.
        client.run("DEALLOCATE ALL");
        for name in ["a", "b", "c"] {
            assert_eq!(ask(&mut client, &[parse(name, &format!("SELECT '{}'", name.repeat(500)))]), "1 Z");
        }
        for _ in 0..3 {
            for name in ["a", "b", "c"] {
                assert_eq!(ask(&mut client, &[Message::bind(name, &[]), Message::execute()]), "2 D1 C Z");
            }
        }
    });
}
