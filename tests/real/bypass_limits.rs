//! What a bypass may do by its rules, and that being over a limit ends it, rolled back and recorded.

use super::support::cluster::{self, Cluster, every};
use super::support::message::Message;
use super::support::proxy::{Proxy, Wish, login_of_its_own};
use super::support::raw::{Client, Target};
use super::support::reply::Reply;
use serde_json::Value;
use std::path::PathBuf;

const SCHEMA: &str = "
CREATE TABLE orders (id bigint, note text);
INSERT INTO orders SELECT n, 'note ' || n FROM generate_series(1, 10) n;
CREATE TABLE secrets (id bigint);
INSERT INTO secrets VALUES (1);
CREATE FUNCTION writes() RETURNS bigint LANGUAGE sql VOLATILE AS 'INSERT INTO secrets VALUES (2) RETURNING id';
CREATE FUNCTION reads() RETURNS bigint LANGUAGE sql AS 'SELECT max(id) FROM secrets';
GRANT ALL ON orders, secrets TO app_bypass;
";

const RULES: &str = r#"
[[bypass.rules]]
login = "ops"
reason = "looking at .*"
read_only = true

[[bypass.rules]]
login = "ops"
reason = "orders .*"
tables = ["public.orders", "orders"]
rows = 5
statements = 3

[[bypass.rules]]
login = "ops"
reason = "brief .*"
duration = "300ms"

[[bypass.rules]]
login = "ops"
reason = "elsewhere .*"
addresses = ["10.0.0.0/8"]

[[bypass.rules]]
login = "ops"
reason = "past .*"
expires = "2020-01-01"

[[bypass.rules]]
login = "ops"
reason = "with ticket.*"
ticket = "OPS-[0-9]+"
"#;

pub struct Place {
    pub proxy: Proxy,
    pub database: String,
    ledger: PathBuf,
    cluster: &'static Cluster,
    more: String,
    _folder: tempfile::TempDir,
}

/// A database of its own and a proxy in front of it, with this beside a bypass login.
pub fn place(cluster: &'static Cluster, name: &str, more: &str) -> Place {
    static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    cluster
        .admin("postgres")
        .run("DO $$ BEGIN CREATE ROLE app_bypass LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;");
    drop(one);
    let database = format!("limits_{name}");
    cluster.create_database(&database);
    cluster.admin(&database).run(SCHEMA);
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("ledger.jsonl");
    let logins = login_of_its_own("ops", "bypass", "app_bypass");
    let more = format!("{logins}{more}\n[ledger]\npath = {ledger:?}\n[state]\nfolder = {:?}\n", folder.path());
    let proxy = Proxy::start(&Wish { cluster, database: &database, pool_size: 4, mutant: None, more: &more });
    Place { proxy, database, ledger, cluster, more, _folder: folder }
}

impl Place {
    pub fn target(&self, login: &str) -> Target {
        Target::new(self.proxy.address, login, &self.database).password("demo")
    }

    pub fn ops(&self, reason: &str) -> Client {
        Client::connect(&self.target("ops").with("tenantgate.reason", reason))
    }

    /// The database itself.
    pub fn admin(&self) -> Client {
        self.cluster.admin(&self.database)
    }

    /// Another proxy in this one's place.
    pub fn restart(&mut self) {
        self.proxy.signal("TERM");
        self.proxy.wait_until_it_ends(std::time::Duration::from_secs(20)).unwrap();
        let (cluster, more) = (self.cluster, self.more.as_str());
        self.proxy = Proxy::start(&Wish { cluster, database: &self.database, pool_size: 4, mutant: None, more });
    }

    /// `tenantgate.reason` and what became of it, in order.
    pub fn results(&self) -> Vec<String> {
        let records = self.records();
        let reason =
            |id: &Value| records.iter().find(|it| it["kind"] == "intent" && it["id"] == *id).unwrap()["reason"].clone();
        let outcomes = records.iter().filter(|record| record["kind"] == "outcome");
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        outcomes
            .map(|it| format!("{}: {} {}", text(&reason(&it["id"])), text(&it["result"]), text(&it["sqlstate"])))
            .collect()
    }

    pub fn records(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.ledger).unwrap_or_default();
        text.split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Waits until so many transactions have an outcome.
    pub fn wait_for_outcomes(&self, count: usize) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while self.results().len() < count {
            assert!(std::time::Instant::now() < deadline, "{:?}", self.records());
            std::thread::yield_now();
        }
    }
}

pub fn error(replies: &[Reply]) -> String {
    replies.iter().find(|reply| reply.tag == b'E').map(|reply| reply.line(&mut vec![])).unwrap_or_default()
}

fn count(replies: &[Reply], tag: u8) -> usize {
    replies.iter().filter(|reply| reply.tag == tag).count()
}

fn extended(client: &mut Client, sql: &str) -> Vec<Reply> {
    client.send_all(&[Message::parse("", sql), Message::bind("", &[]), Message::execute(), Message::Sync]);
    client.flush().unwrap();
    client.replies_to(b'Z').0
}

#[test]
fn a_rule_that_only_reads_is_kept_by_the_server_too() {
    for cluster in every() {
        let place = place(cluster, "read_only", RULES);
        let mut client = place.ops("looking at orders");
        assert_eq!(client.value("SELECT count(*) FROM orders"), "10");
        assert_eq!(client.value("SHOW transaction_read_only"), "off", "between transactions");
        assert!(error(&client.query("UPDATE orders SET note = ''")).contains("TG178"));
        assert!(error(&client.query("SELECT 1; DELETE FROM orders")).contains("TG178"));
        assert!(error(&extended(&mut client, "DELETE FROM orders")).contains("TG178"));
        // What the proxy cannot see.
        for sql in ["SELECT writes()", "BEGIN; SELECT writes()", "SAVEPOINT a; SELECT writes()"] {
            let told = error(&client.query(sql));
            assert!(told.contains("25006") || told.contains("25P01"), "{sql}: {told}");
            client.query("ROLLBACK");
        }
        assert!(error(&extended(&mut client, "SELECT writes()")).contains("25006"));
        client.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ WRITE");
        assert!(error(&extended(&mut client, "SELECT writes()")).contains("25006"));
        client.run("ROLLBACK");
        // Neither way out of it works.
        for way in ["SET TRANSACTION READ WRITE", "SET transaction_read_only = off"] {
            client.run("BEGIN");
            client.run("SAVEPOINT a");
            assert!(error(&client.query(way)).contains("TG178"), "{way}");
            client.run("ROLLBACK TO a");
            assert!(error(&client.query("SELECT writes()")).contains("25006"), "{way}");
            client.run("ROLLBACK");
        }
        // Another reason is another rule, on the same server.
        client.run("SET tenantgate.reason = 'with ticket OPS-1'");
        assert_eq!(client.value("SELECT writes()"), "2");
        assert_eq!(cluster.admin(&place.database).value("SELECT count(*) FROM secrets"), "2");
        client.bye();
    }
}

#[test]
fn tables_rows_and_statements_end_a_bypass_that_is_over() {
    for cluster in every() {
        let place = place(cluster, "tables", RULES);
        let mut client = place.ops("orders of last week");
        assert_eq!(count(&client.query("SELECT * FROM orders LIMIT 5"), b'D'), 5);
        for sql in
            ["SELECT * FROM secrets", "SELECT reads()", "SELECT * FROM orders, secrets", "TABLE pg_catalog.pg_class"]
        {
            assert!(error(&client.query(sql)).contains("TG177"), "{sql}");
            assert!(error(&extended(&mut client, sql)).contains("TG177"), "{sql}");
        }
        // A name without a schema is what the database says, not the client.
        client.run("SET search_path = pg_catalog");
        assert!(error(&client.query("SELECT * FROM orders")).contains("TG177"));
        client.run("SELECT id FROM public.orders LIMIT 1");
        // Statements.
        client.run("BEGIN");
        for _ in 0..3 {
            client.run("SELECT 1");
        }
        let told = error(&client.query("SELECT 1"));
        assert!(told.contains("TG179") && told.contains("statements"), "{told}");
        client.run("ROLLBACK");
        // Rows that are read: none of those over it arrives, and what was written before is gone.
        let mut client = place.ops("orders with too many rows");
        client.run("BEGIN");
        client.run("UPDATE orders SET note = 'changed' WHERE id = 1");
        let replies = client.query_to_the_end("SELECT * FROM orders");
        let told = error(&replies);
        assert_eq!(count(&replies, b'D'), 4, "{told}");
        assert!(told.contains("FATAL") && told.contains("TG179") && told.contains("rows"), "{told}");
        // Rows that are written.
        let mut client = place.ops("orders with too many writes");
        let told = error(&client.query_to_the_end("UPDATE orders SET note = 'changed'"));
        assert!(told.contains("TG179") && told.contains("this would be 10"), "{told}");
        // A COMMIT behind them comes too late, in whatever form.
        let mut client = place.ops("orders with a commit");
        let told = error(&client.query_to_the_end("BEGIN; UPDATE orders SET note = 'changed'; COMMIT"));
        assert!(told.contains("TG179"), "{told}");
        let mut client = place.ops("orders with a pipeline");
        for sql in ["BEGIN", "UPDATE orders SET note = 'changed'", "COMMIT"] {
            client.send_all(&[Message::parse("", sql), Message::bind("", &[]), Message::execute()]);
        }
        client.send(&Message::Sync);
        client.flush().unwrap();
        assert!(client.last_words().contains("TG179"));
        let mut client = place.ops("orders copied out");
        assert!(error(&client.query_to_the_end("COPY orders TO STDOUT")).contains("TG179"));
        let changed = cluster.admin(&place.database).value("SELECT count(*) FROM orders WHERE note = 'changed'");
        assert_eq!(changed, "0");
        place.wait_for_outcomes(15);
        let results = place.results();
        for reason in [
            "orders with too many rows",
            "orders with too many writes",
            "orders copied out",
            "orders with a commit",
            "orders with a pipeline",
        ] {
            assert!(results.contains(&format!("{reason}: failed 53400")), "{reason} in {results:?}");
        }
        assert!(results.contains(&"orders of last week: failed 42501".to_owned()), "{results:?}");
        // What was tried is in the record.
        let text = std::fs::read_to_string(&place.ledger).unwrap();
        assert!(text.contains("SELECT * FROM secrets"), "{text}");
    }
}

#[test]
fn time_ends_a_bypass_and_circumstances_keep_one_from_beginning() {
    for cluster in every() {
        let place = place(cluster, "time", RULES);
        let mut client = place.ops("brief look");
        client.run("BEGIN");
        client.run("UPDATE orders SET note = 'changed'");
        // The client is silent until it is told.
        assert!(client.last_words().contains("TG179"), "the client idles");
        let mut client = place.ops("brief statement");
        assert!(error(&client.query_to_the_end("SELECT pg_sleep(60)")).contains("TG179"));
        for (reason, code) in [
            ("elsewhere than here", "TG176"),
            ("past its time", "TG176"),
            ("with ticket, without number", "TG176"),
            ("something else", "TG175"),
            ("orders", "TG061"),
            ("oooooooooooo", "TG061"),
        ] {
            let mut client = place.ops(reason);
            let told = error(&client.query("SELECT 1"));
            assert!(told.contains(code), "{reason}: {told}");
            assert!(error(&extended(&mut client, "SELECT 1")).contains(code), "{reason}");
        }
        place.wait_for_outcomes(2);
        assert_eq!(place.results(), ["brief look: failed 53400", "brief statement: failed 53400"]);
        let changed = cluster.admin(&place.database).value("SELECT count(*) FROM orders WHERE note = 'changed'");
        assert_eq!(changed, "0");
        // The proxy serves on.
        assert_eq!(place.ops("with ticket OPS-7").value("SELECT count(*) FROM orders"), "10");
    }
}

#[test]
fn wrong_rules_are_told_with_key_and_line() {
    let _ = cluster::fifteen();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tenantgate.toml");
    let text = "[servers.main]\nhost = \"/tmp\"\n[roles.app]\nuser = \"app\"\n[roles.ops]\nuser = \"ops\"\n\
        [databases.demo]\nserver = \"main\"\nrole = \"app\"\n[logins.ops]\npassword = \"x\"\npreset = \"bypass\"\nrole = \"ops\"\n\
        [ledger]\npath = \"l\"\n[[bypass.rules]]\nlogin = \"nobody\"\nreason = \"(\"\nhours = [\"always\"]\ntables = [\"a.b.c\"]\n\
        expires = \"soon\"\naddresses = [\"here\"]\ndatabases = [\"none\"]\nrows = -1\n[[bypass.rules]]\n[[bypass.rules]]\nlogin = \"ops\"\n";
    std::fs::write(&file, text).unwrap();
    let output =
        std::process::Command::new(super::support::proxy::binary()).arg("check-config").arg(&file).output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{told}");
    for (key, line) in [
        ("login", 17),
        ("reason", 18),
        ("hours[0]", 19),
        ("tables[0]", 20),
        ("expires", 21),
        ("addresses[0]", 22),
        ("databases[0]", 23),
        ("rows", 24),
    ] {
        let found = told
            .lines()
            .any(|it| it.contains(&format!("bypass.rules[0].{key}")) && it.contains(&format!("(line {line})")));
        assert!(found, "{key} in line {line}:\n{told}");
    }
}

/// One rule for each limit that the issue names.
fn one_rule_for_each_limit() -> String {
    // Neither today nor a day beside it, so that midnight does not matter.
    let days = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let today = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() / 86_400;
    let far = days[usize::try_from((today + 3) % 7).unwrap()];
    let rule =
        |name: &str, limit: &str| format!("[[bypass.rules]]\nlogin = \"ops\"\nreason = \"limit {name}\"\n{limit}\n");
    [
        rule("databases", "databases = [\"by_scram\"]"),
        rule("tables", "tables = [\"public.orders\"]"),
        rule("read_only", "read_only = true"),
        rule("duration", "duration = \"200ms\""),
        rule("rows", "rows = 1"),
        rule("statements", "statements = 1"),
        rule("expires", "expires = \"2020-01-01\""),
        rule("ticket", "ticket = \"OPS-[0-9]+\""),
        rule("addresses", "addresses = [\"10.0.0.0/8\"]"),
        rule("hours", &format!("hours = [\"{far} 00:00-24:00\"]")),
    ]
    .concat()
}

#[test]
fn each_limit_has_a_key_a_refusal_and_a_record() {
    let place = place(cluster::fifteen(), "each", &one_rule_for_each_limit());
    let (before, within) = ("refused", "outcome");
    let limits = [
        ("databases", "SELECT 1", "TG176", before),
        ("tables", "SELECT * FROM public.secrets", "TG177", within),
        ("read_only", "DELETE FROM orders", "TG178", within),
        ("duration", "SELECT pg_sleep(60)", "TG179", within),
        ("rows", "SELECT * FROM orders", "TG179", within),
        ("statements", "SELECT 1; SELECT 2", "TG179", within),
        ("expires", "SELECT 1", "TG176", before),
        ("ticket", "SELECT 1", "TG176", before),
        ("addresses", "SELECT 1", "TG176", before),
        ("hours", "SELECT 1", "TG176", before),
    ];
    for (name, sql, code, _) in limits {
        let told = error(&place.ops(&format!("limit {name}")).query_to_the_end(sql));
        assert!(told.contains(code) && told.contains(&format!("limit is {name}")), "{name}: {told}");
    }
    place.wait_for_outcomes(5);
    let record_of = |name: &str, kind: &str| {
        let records = place.records();
        let reason = Value::from(format!("limit {name}"));
        let intent = records.iter().find(|it| it["kind"] == "intent" && it["reason"] == reason);
        let is_it = |it: &&Value| {
            it["kind"] == kind && (it["reason"] == reason || intent.is_some_and(|intent| intent["id"] == it["id"]))
        };
        records.iter().find(is_it).cloned()
    };
    for (name, _, code, kind) in limits {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        let record = loop {
            assert!(std::time::Instant::now() < deadline, "{name}: {:?}", place.records());
            if let Some(record) = record_of(name, kind) {
                break record;
            }
        };
        assert_eq!(record["code"], code, "{record}");
        assert!(kind == before || record["result"] == "failed", "{record}");
    }
    // By the code they are found, those that had begun and those that had not.
    for (code, kind, count) in [("TG176", "refused", 5), ("tg179", "transaction", 3), ("TG177", "transaction", 1)] {
        let mut command = std::process::Command::new(super::support::proxy::binary());
        command.args(["ledger", "list", "--json", "--code", code, "--kind", kind, "--ledger"]).arg(&place.ledger);
        let listed = String::from_utf8(command.output().unwrap().stdout).unwrap();
        assert_eq!(listed.lines().count(), count, "{code}: {listed}");
    }
}

/// What an earlier transaction has made on a server that stays with its client stands in front of the database's tables.
#[test]
fn a_temporary_view_hides_no_table() {
    const MORE: &str = r#"
[logins.kept]
password = "demo"
preset = "bypass"
role = "ops"
session_state = "pin"

[[bypass.rules]]
login = "kept"
reason = "build .*"

[[bypass.rules]]
login = "kept"
reason = "orders .*"
tables = ["public.orders", "orders"]
"#;
    for cluster in every() {
        let place = place(cluster, "hidden", MORE);
        place.admin().run(
            "CREATE FUNCTION hides() RETURNS void LANGUAGE sql AS 'CREATE TEMP VIEW orders AS SELECT id, ''secret'' AS note FROM public.secrets'",
        );
        for way in
            ["CREATE TEMP VIEW orders AS SELECT id, 'secret' AS note FROM public.secrets", "LISTEN x; SELECT hides()"]
        {
            let mut client = Client::connect(&place.target("kept").with("tenantgate.reason", "orders of last week"));
            assert_eq!(client.value("SELECT count(*) FROM orders"), "10");
            client.run("SET tenantgate.reason = 'build what hides'");
            client.run(way);
            assert_eq!(client.value("SELECT min(note) FROM orders"), "secret");
            client.run("SET tenantgate.reason = 'orders of last week'");
            for replies in [client.query("SELECT * FROM orders"), extended(&mut client, "SELECT * FROM orders")] {
                let told = error(&replies);
                assert!(told.contains("TG177") && told.contains("stays with the client"), "{way}: {told}");
            }
            assert_eq!(client.value("SELECT count(*) FROM public.orders"), "10");
            // Once nothing stays, the name is the database's again.
            client.run("SET tenantgate.reason = 'build what hides'");
            client.run("DISCARD ALL");
            client.run("SET tenantgate.reason = 'orders of last week'");
            assert_eq!(client.value("SELECT count(*) FROM orders"), "10", "{way}");
        }
    }
}
