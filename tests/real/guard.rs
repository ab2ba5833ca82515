//! The guard beside real servers: its tables are theirs, what it refuses is SQL to them, and what `observe` lets pass.

use crate::support::alone;
use crate::support::cluster::{self, Cluster};
use crate::support::inside::Inside;
use crate::support::message::Message;
use crate::support::proxy::Wish;
use crate::support::raw::{Client, Target};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const DATABASE: &str = "guarded";
const ACME: &str = "00000000-0000-0000-0000-00000000000a";

fn every_release() -> Vec<&'static Cluster> {
    cluster::every().into_iter().chain(cluster::others()).collect()
}

/// Names of a table of classes.
fn table(text: &str) -> BTreeSet<&str> {
    text.lines().filter(|line| !line.starts_with(['#', '['])).flat_map(str::split_whitespace).collect()
}

/// What every release has of a kind, asked with `sql`, is in the table; what is in the table is in one of them.
fn has_every_name(text: &str, sql: &str) {
    let table = table(text);
    let releases = every_release();
    let mut known_to_servers = BTreeSet::new();
    for cluster in &releases {
        let rows = cluster.admin("postgres").rows(sql);
        let names: BTreeSet<String> = rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect();
        assert!(names.len() > 100, "PostgreSQL {} has {}", cluster.version, names.len());
        let missing: Vec<_> = names.iter().filter(|name| !table.contains(name.as_str())).collect();
        assert!(missing.is_empty(), "PostgreSQL {} has without a class (classify.py): {missing:?}", cluster.version);
        known_to_servers.extend(names);
    }
    if releases.len() == 5 {
        let vanished: Vec<_> = table.iter().filter(|name| !known_to_servers.contains(**name)).collect();
        assert!(vanished.is_empty(), "no release has {vanished:?}");
    }
}

#[test]
fn every_function_of_every_release_has_a_class_and_no_other_has() {
    has_every_name(
        include_str!("../../src/guard/tables/functions.txt"),
        "SELECT DISTINCT proname FROM pg_catalog.pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace",
    );
}

/// `x.lastval` gives the function one argument, and there is none that takes it.
#[test]
fn what_takes_several_arguments_or_none_takes_one_in_no_release() {
    let names = table(include_str!("../../src/guard/tables/several.txt"));
    let list: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
    let takes_one = |name: &str| {
        format!(
            "SELECT DISTINCT proname FROM pg_catalog.pg_proc WHERE proname IN ({name}) \
             AND pronargs - pronargdefaults <= 1 AND (pronargs >= 1 OR provariadic <> 0)"
        )
    };
    for cluster in every_release() {
        let found = cluster.admin("postgres").rows(&takes_one(&list.join(", ")));
        assert!(found.is_empty(), "PostgreSQL {}: {found:?}", cluster.version);
        assert_eq!(cluster.admin("postgres").rows(&takes_one("'currval', 'lastval'")).len(), 1, "the question is good");
    }
}

#[test]
fn every_relation_of_every_release_has_a_class_and_no_other_has() {
    has_every_name(
        include_str!("../../src/guard/tables/relations.txt"),
        "SELECT relname FROM pg_catalog.pg_class \
         WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind IN ('r', 'v', 'm', 'f', 'p')",
    );
}

/// Refused statements of a table that stand alone.
fn refused_statements(file: &str) -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guard").join(file);
    let text = std::fs::read_to_string(path).unwrap();
    let block = |block: &str| {
        let (code, rest) = block.split_once('\n').unwrap();
        let lines = rest.lines().take_while(|line| !line.starts_with("--"));
        (code.split_whitespace().next().unwrap().to_owned(), lines.collect::<Vec<_>>().join("\n").trim().to_owned())
    };
    let all = text.split("\n-- deny ").skip(1).map(block);
    all.filter(|(code, sql)| code != "TG021" && !sql.contains(';')).collect()
}

/// What is refused is no nonsense: the server's grammar takes it, and mostly the catalog, too.
#[test]
fn what_the_tables_refuse_is_sql_to_the_newest_server() {
    let Some(cluster) = cluster::eighteen() else { return };
    let _turn = alone();
    cluster.create_database(DATABASE);
    let mut client = Client::connect(&Target::new(cluster.address, "app_user", DATABASE));
    let mut answers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut statements = refused_statements("threats.sql");
    statements.extend(refused_statements("techniques.sql"));
    for (_, sql) in &statements {
        client.send_all(&[Message::parse("", sql), Message::Sync]);
        client.flush().unwrap();
        let (replies, _) = client.replies_to(b'Z');
        let error = replies.iter().find(|reply| reply.tag == b'E').map(|reply| reply.fields()[&'C'].clone());
        answers.entry(error.unwrap_or_else(|| "taken".to_owned())).or_default().push(sql.clone());
    }
    for (answer, statements) in &answers {
        println!("{answer}: {}", statements.len());
    }
    assert!(statements.len() > 350, "{}", statements.len());
    assert_eq!(answers.get("42601"), None, "a syntax error there");
    assert!(answers["taken"].len() * 2 > statements.len(), "{answers:?}");
}

fn refusal(client: &mut Client, sql: &str) -> String {
    let replies = client.query(sql);
    let error = replies.iter().find(|reply| reply.tag == b'E').expect("a refusal");
    error.fields()[&'M'].chars().take(5).collect()
}

fn observing_lets_pass_what_the_isolation_does_not_rest_on(cluster: &Cluster) {
    let _turn = alone();
    cluster.create_filled_database(DATABASE);
    let more = format!(
        "[logins.watched]\npassword = \"demo\"\n[logins.watched.tenant]\nfixed = \"{ACME}\"\n\
         [logins.watched.guard]\nmode = \"observe\"\nfunctions_denied = [\"abs\"]\n\
         [logins.reader]\npassword = \"demo\"\n[logins.reader.tenant]\nfixed = \"{ACME}\"\n\
         [logins.reader.guard]\nstatements_denied = [\"insert\", \"update\", \"delete\"]\nstatements_allowed = [\"explain\"]\n\
         [console]\nadmins = [\"acme_app\"]\n"
    );
    let proxy = Inside::start(&Wish { cluster, database: DATABASE, pool_size: 1, mutant: None, more: &more });
    let mut client = Client::connect(&proxy.login("watched", "demo"));
    let backend = client.value("SELECT pg_backend_pid()");
    assert_eq!(client.value("SELECT pg_backend_pid()"), backend);
    client.run("SELECT pg_sleep(0), 'secret'");
    let next = client.value("SELECT pg_backend_pid()");
    assert_ne!(next, backend, "the server is closed behind it");
    client.run("BEGIN; LISTEN observed; COMMIT");
    let third = client.value("SELECT pg_backend_pid()");
    assert_ne!(third, next);
    // Through the extended protocol, where Bind counts.
    client.send_all(&[Message::parse("", "SELECT abs(-1)"), Message::bind("", &[]), Message::execute(), Message::Sync]);
    client.flush().unwrap();
    let (replies, _) = client.replies_to(b'Z');
    assert!(replies.iter().any(|reply| reply.tag == b'D'), "{replies:?}");
    assert_ne!(client.value("SELECT pg_backend_pid()"), third);
    client.run("SELECT pg_sleep(0), 'other'");
    for (sql, code) in [
        ("SET app.tenant_id = 'x'", "TG011"),
        ("SELECT pg_sleep(0), set_config('app.tenant_id', 'x', true)", "TG011"),
        ("SET ROLE postgres", "TG012"),
        ("SET client_encoding = 'SJIS'", "TG014"),
        ("SELEC 1", "TG021"),
        ("PREPARE TRANSACTION 'x'", "TG026"),
    ] {
        assert_eq!(refusal(&mut client, sql), code, "{sql}");
    }
    assert_eq!(client.value("SELECT count(*) FROM items"), "3", "the tenant is there as ever");
    let mut reader = Client::connect(&proxy.login("reader", "demo"));
    assert_eq!(refusal(&mut reader, "WITH gone AS (DELETE FROM items RETURNING 1) SELECT * FROM gone"), "TG140");
    assert_eq!(refusal(&mut reader, "SELECT pg_sleep(0)"), "TG015");
    reader.run("EXPLAIN SELECT 1");
    let mut console = Client::connect(&Target::new(proxy.address, "acme_app", "tenantgate").password("demo"));
    let rows = console.rows("SHOW OBSERVED");
    let counted: BTreeSet<_> = rows.iter().map(|row| [0, 1, 4].map(|at| row[at].clone().unwrap()).join(" ")).collect();
    let wanted = ["watched TG015 2", "watched TG017 1", "watched TG140 1"].map(str::to_owned);
    assert_eq!(counted, BTreeSet::from(wanted), "{rows:?}");
    assert!(!format!("{rows:?}").contains("secret"), "{rows:?}");
}

#[test]
fn observing_lets_pass_what_the_isolation_does_not_rest_on_15() {
    observing_lets_pass_what_the_isolation_does_not_rest_on(cluster::fifteen());
}

#[test]
fn observing_lets_pass_what_the_isolation_does_not_rest_on_18() {
    if let Some(cluster) = cluster::eighteen() {
        observing_lets_pass_what_the_isolation_does_not_rest_on(cluster);
    }
}
