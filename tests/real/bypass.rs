//! Bypass and migration logins: refused without a reason or a ledger, every transaction recorded, nothing else changed.

use super::support::cluster::{self, Cluster, every};
use super::support::message::{self, Message};
use super::support::proxy::{self, Proxy, Wish, login_of_its_own};
use super::support::raw::{Client, Target};
use super::support::reply::Reply;
use super::support::schema::expect_records;
use serde_json::Value;
use std::path::PathBuf;

const ACME: &str = "00000000-0000-0000-0000-00000000000a";
const GLOBEX: &str = "00000000-0000-0000-0000-00000000000b";

/// Two tenants' rows, a policy for tenants, one for the bypass role, one for a setting.
const SCHEMA: &str = "
CREATE TABLE orders (id bigint, tenant_id uuid, note text);
INSERT INTO orders SELECT n, (CASE n % 2 WHEN 0 THEN '00000000-0000-0000-0000-00000000000a'
    ELSE '00000000-0000-0000-0000-00000000000b' END)::uuid, 'note ' || n FROM generate_series(1, 10) n;
CREATE TABLE parent (id bigint PRIMARY KEY);
INSERT INTO parent VALUES (1);
CREATE TABLE child (id bigint, parent bigint REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE old_style (id bigint, tenant_id uuid);
INSERT INTO old_style SELECT id, tenant_id FROM orders;
ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
ALTER TABLE orders FORCE ROW LEVEL SECURITY;
ALTER TABLE old_style ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenants ON orders TO app_user, app_migration
    USING (tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid);
CREATE POLICY everything ON orders TO app_bypass USING (true) WITH CHECK (true);
CREATE POLICY by_setting ON old_style USING (current_setting('app.bypass_rls', true) = 'true');
GRANT ALL ON orders, parent, child, old_style TO app_user, app_bypass, app_migration;
GRANT CREATE ON SCHEMA public TO app_migration;
";

const MORE: &str = r#"
[logins.deploy.tenant]
fixed = "00000000-0000-0000-0000-00000000000a"

[bypass.settings]
"app.bypass_rls" = "true"
"#;

/// A bypass and a migration login.
fn logins() -> String {
    login_of_its_own("ops", "bypass", "app_bypass") + &login_of_its_own("deploy", "migration", "app_migration") + MORE
}

/// A database of its own, a proxy in front of it, and the ledger.
struct Place {
    proxy: Proxy,
    database: String,
    ledger: PathBuf,
    more: String,
    folder: tempfile::TempDir,
}

fn roles(cluster: &Cluster) {
    static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    cluster.admin("postgres").run(
        "DO $$ BEGIN CREATE ROLE app_bypass LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
         DO $$ BEGIN CREATE ROLE app_migration LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;",
    );
}

fn place(cluster: &'static Cluster, name: &str) -> Place {
    keyed_place(cluster, name, None)
}

/// With this key for digests of bound values.
fn keyed_place(cluster: &'static Cluster, name: &str, key: Option<&[u8]>) -> Place {
    roles(cluster);
    let database = format!("bypass_{name}");
    cluster.create_database(&database);
    cluster.admin(&database).run(SCHEMA);
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("inner/ledger.jsonl");
    std::fs::create_dir(folder.path().join("inner")).unwrap();
    let mut more = logins() + &proxy::ledger(&ledger);
    if let Some(key) = key {
        let file = folder.path().join("parameter.key");
        std::fs::write(&file, key).unwrap();
        more += &format!("parameter_key_file = {file:?}\n");
    }
    let proxy = Proxy::start(&Wish { cluster, database: &database, pool_size: 4, mutant: None, more: &more });
    Place { proxy, database, ledger, more, folder }
}

impl Place {
    fn target(&self, login: &str) -> Target {
        Target::new(self.proxy.address, login, &self.database).password("demo")
    }

    /// A bypass client with this reason.
    fn ops(&self, reason: &str) -> Client {
        Client::connect(&self.target("ops").with("tenantgate.reason", reason))
    }

    /// Those of transactions.
    fn records(&self) -> Vec<Value> {
        // The first is about the ledger itself.
        self.all_records()
            .into_iter()
            .filter(|record| !matches!(record["kind"].as_str(), Some("boot" | "refused" | "config")))
            .collect()
    }

    fn all_records(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.ledger).unwrap_or_default();
        let read = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        // The last line may be on its way.
        text.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(read).collect()
    }

    /// The outcomes, after checking that each has its intent before it and that nothing is open.
    fn outcomes(&self) -> Vec<Value> {
        let mut open = std::collections::HashSet::new();
        let mut outcomes = Vec::new();
        let records = self.all_records();
        expect_records(&records);
        for (index, record) in records.into_iter().enumerate() {
            assert_eq!(record["seq"], index + 1, "{record}");
            let id = record["id"].as_str().unwrap().to_owned();
            match record["kind"].as_str() {
                Some("intent") => assert!(open.insert(id), "{record}"),
                Some("boot" | "refused") => {}
                Some("precommit") => assert!(open.contains(&id), "{record}"),
                Some("outcome") => {
                    assert!(open.remove(&id), "no intent for {record}");
                    outcomes.push(record);
                }
                _ => panic!("{record}"),
            }
        }
        assert!(open.is_empty(), "no outcome for {open:?}");
        outcomes
    }
}

fn error(replies: &[Reply]) -> String {
    replies.iter().find(|reply| reply.tag == b'E').map(|reply| reply.line(&mut vec![])).unwrap_or_default()
}

/// The tags of replies; ReadyForQuery with its status.
fn shape(replies: &[Reply]) -> String {
    let letter = |reply: &Reply| match reply.tag {
        b'Z' => format!("Z{}", char::from(reply.body[0])),
        tag => char::from(tag).to_string(),
    };
    replies.iter().filter(|reply| !matches!(reply.tag, b'S' | b'N')).map(letter).collect()
}

fn exchange(client: &mut Client, messages: &[Message]) -> Vec<Reply> {
    client.send_all(messages);
    client.flush().unwrap();
    let (replies, silence) = client.replies_to(b'Z');
    assert_eq!(silence, None, "{replies:?}");
    replies
}

fn results(outcomes: &[Value]) -> Vec<&str> {
    outcomes.iter().map(|outcome| outcome["result"].as_str().unwrap()).collect()
}

#[test]
fn a_bypass_without_a_reason_is_refused_and_leaves_no_record() {
    for cluster in every() {
        let place = place(cluster, "reason");
        let mut client = Client::connect(&place.target("ops"));
        // What reads nothing needs no reason.
        client.run("SET timezone = 'UTC'");
        assert_eq!(client.value("SHOW timezone"), "UTC");
        client.run("BEGIN");
        client.run("ROLLBACK");
        assert!(error(&client.query("SELECT count(*) FROM orders")).contains("TG060"));
        let replies = exchange(
            &mut client,
            &[Message::parse("", "SELECT 1"), Message::bind("", &[]), Message::execute(), Message::Sync],
        );
        assert!(error(&replies).contains("TG060"));
        assert_eq!(shape(&replies), "1EZI");
        for empty in ["''", "'   '", "E'a\\nb'"] {
            assert!(error(&client.query(&format!("SET tenantgate.reason = {empty}"))).contains("TG061"), "{empty}");
        }
        assert!(error(&client.query("SELECT count(*) FROM orders")).contains("TG060"));
        // A reason for one transaction is gone with it.
        assert_eq!(
            shape(&client.query("BEGIN; SET LOCAL tenantgate.reason = 'one'; SELECT count(*) FROM orders; COMMIT")),
            "CCTDCCZI"
        );
        assert!(error(&client.query("SELECT count(*) FROM orders")).contains("TG060"));
        // One that is rolled back is, too.
        client.query("BEGIN; SET tenantgate.reason = 'two'; ROLLBACK");
        assert!(error(&client.query("SELECT count(*) FROM orders")).contains("TG060"));
        client.run("SET tenantgate.reason = 'three'");
        assert_eq!(client.value("SHOW tenantgate.reason"), "three");
        assert_eq!(client.value("SELECT count(*) FROM orders"), "10");
        client.run("RESET tenantgate.reason");
        assert!(error(&client.query("SELECT count(*) FROM orders")).contains("TG060"));
        client.run("BEGIN");
        client.run("SELECT set_config('tenantgate.reason', 'four', true)");
        client.run("SELECT count(*) FROM orders");
        client.run("COMMIT");
        assert!(error(&client.query("SELECT count(*) FROM orders")).contains("TG060"));
        let bound = [
            Message::parse("", "SELECT set_config('tenantgate.reason', $1, false)"),
            Message::bind("", &["five"]),
            Message::execute(),
            Message::Sync,
        ];
        assert_eq!(shape(&exchange(&mut client, &bound)), "12DCZI");
        client.run("SELECT count(*) FROM orders");
        let records = place.records();
        let reasons: Vec<_> = records.iter().filter_map(|record| record["reason"].as_str()).collect();
        assert_eq!(reasons, ["one", "three", "four", "five"]);
        assert_eq!(results(&place.outcomes()), ["committed"; 4]);
    }
}

#[test]
fn a_reason_may_come_at_startup_in_both_forms_and_a_tenant_may_not() {
    for cluster in every() {
        let place = place(cluster, "startup");
        for (name, value) in [("tenantgate.reason", "ticket 1"), ("options", "-c tenantgate.reason=ticket\\ 1")] {
            let mut client = Client::connect(&place.target("ops").with(name, value));
            assert_eq!(client.value("SELECT count(*) FROM orders"), "10");
            assert_eq!(client.value("SELECT count(*) FROM old_style"), "10");
            // The next client of the server has it not.
            let mut other = Client::connect(&place.target("ops"));
            assert!(error(&other.query("SELECT 1")).contains("TG060"));
        }
        let refused = |target: &Target| Client::try_connect(target).unwrap().startup[0].line(&mut vec![]);
        assert!(refused(&place.target("ops").with("tenantgate.reason", " ")).contains("TG061"));
        assert!(refused(&place.target("ops").with("app.tenant_id", ACME)).contains("TG063"));
        assert!(refused(&place.target("acme_app").with("tenantgate.reason", "x")).contains("TG046"));
        let outcomes = place.outcomes();
        assert_eq!(outcomes.len(), 4);
        let record = &place.records()[0];
        assert_eq!(record["login"], "ops");
        assert_eq!(record["role"], "app_bypass");
        assert_eq!(record["reason"], "ticket 1");
        assert_eq!(outcomes[0]["tables"][0], "orders");
        assert_eq!(outcomes[0]["rows_delivered"], 1);
    }
}

#[test]
fn a_tenant_cannot_use_what_bypass_has() {
    for cluster in every() {
        let place = place(cluster, "tenant");
        let mut client = Client::connect(&place.proxy.target(ACME));
        assert_eq!(client.value("SELECT count(*) FROM orders"), "5");
        assert!(error(&client.query("SET tenantgate.reason = 'x'")).contains("TG013"));
        assert!(error(&client.query("SET app.bypass_rls = 'true'")).contains("TG011"));
        assert!(error(&client.query("CREATE TABLE x ()")).contains("TG019"));
        assert_eq!(client.value("SELECT count(*) FROM old_style"), "0");
        assert!(place.records().is_empty());
    }
}

#[test]
fn every_protocol_form_is_recorded_and_looks_as_without_the_proxy() {
    for cluster in every() {
        let place = place(cluster, "forms");
        let mut client = place.ops("forms");
        // Simple, one and several statements, DML.
        assert_eq!(shape(&client.query("SELECT id FROM orders WHERE id < 3 ORDER BY id")), "TDDCZI");
        assert_eq!(
            shape(&client.query("UPDATE orders SET note = 'secret' WHERE id = 1; DELETE FROM orders WHERE id = 99")),
            "CCZI"
        );
        assert_eq!(shape(&client.query("")), "IZI");
        assert_eq!(shape(&client.query("SELECT 1 / 0")), "EZI");
        assert_eq!(shape(&client.query("SELECT 1; SELECT 1 / 0; SELECT 2")), "TDCEZI");
        // Transactions inside of one Query.
        assert_eq!(shape(&client.query("SELECT 1; COMMIT; SELECT 2; ROLLBACK; SELECT 3")), "TDCCTDCCTDCZI");
        assert_eq!(shape(&client.query("BEGIN; SELECT 1; COMMIT; BEGIN; SELECT 2")), "CTDCCCTDCZT");
        assert_eq!(shape(&client.query("SELECT 1 / 0; COMMIT")), "EZE");
        assert_eq!(shape(&client.query("COMMIT; SELECT 4")), "CTDCZI");
        // The client's own block.
        assert_eq!(shape(&client.query("BEGIN")), "CZT");
        assert_eq!(shape(&client.query("SELECT 5")), "TDCZT");
        assert_eq!(shape(&client.query("ROLLBACK")), "CZI");
        let before = place.outcomes();
        assert_eq!(
            results(&before),
            [
                "committed",
                "committed",
                "failed",
                "failed",
                "committed",
                "rolled_back",
                "committed",
                "committed",
                "failed",
                "committed",
                "rolled_back"
            ]
        );
        // Extended: pipelined segments, a portal in pieces, Flush, an error.
        let one = [
            Message::parse("s", "SELECT id FROM orders WHERE id <= $1 ORDER BY id"),
            Message::bind("s", &["4"]),
            Message::execute(),
            Message::Sync,
        ];
        assert_eq!(shape(&exchange(&mut client, &one)), "12DDDDCZI");
        client.send_all(&[
            Message::bind("s", &["1"]),
            Message::execute(),
            Message::Sync,
            Message::bind("s", &["2"]),
            Message::execute(),
            Message::Sync,
        ]);
        client.flush().unwrap();
        assert_eq!(shape(&client.replies_to(b'Z').0), "2DCZI");
        assert_eq!(shape(&client.replies_to(b'Z').0), "2DDCZI");
        let pieces = Message::Execute { portal: String::new(), rows_max: 2 };
        let portal = [Message::bind("s", &["3"]), pieces.clone(), Message::Flush];
        client.send_all(&portal);
        client.flush().unwrap();
        assert_eq!(shape(&client.replies_to(b's').0), "2DDs");
        assert_eq!(shape(&exchange(&mut client, &[pieces, Message::Sync])), "DCZI");
        let bad =
            [Message::parse("", "SELECT 1 / $1::int"), Message::bind("", &["0"]), Message::execute(), Message::Sync];
        assert_eq!(shape(&exchange(&mut client, &bad)), "1EZI");
        // Several transactions in one segment, each behind its own record.
        let many = [
            Message::parse("b", "BEGIN"),
            Message::parse("c", "COMMIT"),
            Message::bind("b", &[]),
            Message::execute(),
            Message::bind("s", &["1"]),
            Message::execute(),
            Message::bind("c", &[]),
            Message::execute(),
            Message::bind("s", &["2"]),
            Message::execute(),
            Message::Sync,
        ];
        assert_eq!(shape(&exchange(&mut client, &many)), "112C2DC2C2DDCZI");
        let after = place.outcomes();
        assert_eq!(
            results(&after[before.len()..]),
            ["committed", "committed", "committed", "committed", "failed", "committed", "committed"]
        );
        let text = std::fs::read_to_string(&place.ledger).unwrap();
        assert!(!text.contains("secret"));
        assert!(text.contains("UPDATE orders SET note = ? WHERE id = ?"), "{text}");
        assert_eq!(before[1]["rows_affected"], 1);
        assert_eq!(before[0]["rows_delivered"], 2);
        assert_eq!(before[2]["sqlstate"], "22012");
    }
}

#[test]
fn copy_and_deferred_constraints_end_as_they_do_without_the_proxy() {
    for cluster in every() {
        let place = place(cluster, "copy");
        let mut client = place.ops("copy");
        client.send(&Message::Query("COPY parent FROM STDIN".into())).flush().unwrap();
        assert_eq!(client.replies_to(b'G').1, None);
        let data = [Message::CopyData(b"7\n8\n".to_vec()), Message::CopyDone];
        assert_eq!(shape(&exchange(&mut client, &data)), "CZI");
        client.send(&Message::Query("COPY parent FROM STDIN".into())).flush().unwrap();
        assert_eq!(client.replies_to(b'G').1, None);
        let broken = [Message::CopyData(b"geheim\n".to_vec()), Message::CopyFail("no more".into())];
        assert_eq!(shape(&exchange(&mut client, &broken)), "EZI");
        assert_eq!(shape(&client.query("COPY parent TO STDOUT")), "HdddcCZI");
        // The row is there as long as the transaction; the constraint fails at its end.
        assert_eq!(shape(&client.query("INSERT INTO child VALUES (1, 1912304711)")), "EZI");
        let extended = [
            Message::parse("", "INSERT INTO child VALUES (1, 1912304711)"),
            Message::bind("", &[]),
            Message::execute(),
            Message::Sync,
        ];
        assert_eq!(shape(&exchange(&mut client, &extended)), "12CEZI");
        assert_eq!(shape(&client.query("BEGIN; INSERT INTO child VALUES (1, 1912304711); COMMIT; SELECT 1")), "CCEZI");
        assert_eq!(shape(&client.query("INSERT INTO child VALUES (1, 7)")), "CZI");
        let outcomes = place.outcomes();
        assert_eq!(results(&outcomes), ["committed", "failed", "committed", "failed", "failed", "failed", "committed"]);
        assert_eq!(outcomes[0]["rows_affected"], 2);
        assert_eq!(outcomes[2]["rows_delivered"], 3);
        assert_eq!(outcomes[3]["sqlstate"], "23503");
        let text = std::fs::read_to_string(&place.ledger).unwrap();
        assert!(!text.contains("geheim") && !text.contains("1912304711"));
    }
}

#[test]
fn cancels_and_clients_that_vanish_have_their_outcomes() {
    for cluster in every() {
        let place = place(cluster, "vanish");
        let mut client = place.ops("cancel");
        client.send(&Message::Query("SELECT pg_sleep(60)".into())).flush().unwrap();
        let mut admin = cluster.admin(&place.database);
        wait_for(
            &mut admin,
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%SELECT pg_sleep(60)' AND state = 'active' AND \
             datname = current_database()",
            "1",
        );
        client.cancel();
        assert!(error(&client.replies_to(b'Z').0).contains("57014"));
        assert_eq!(results(&place.outcomes()), ["failed"]);
        // Gone in the middle of its own block: rolled back.
        let mut client = place.ops("vanish");
        client.run("BEGIN");
        client.run("INSERT INTO parent VALUES (100)");
        drop(client);
        wait_for_outcomes(&place, 2);
        assert_eq!(results(&place.outcomes()), ["failed", "rolled_back"]);
        assert_eq!(admin.value("SELECT count(*) FROM parent WHERE id = 100"), "0");
        // Everything was sent before it left: committed, as without the proxy.
        let mut client = place.ops("polite");
        client.send(&Message::Query("INSERT INTO parent VALUES (101)".into())).flush().unwrap();
        client.bye();
        wait_for_outcomes(&place, 3);
        assert_eq!(results(&place.outcomes()), ["failed", "rolled_back", "committed"]);
        assert_eq!(admin.value("SELECT count(*) FROM parent WHERE id = 101"), "1");
    }
}

/// Asks until the answer is the wanted one; the number of attempts bounds it.
fn wait_for(client: &mut Client, sql: &str, wanted: &str) {
    for _ in 0..20_000 {
        if client.value(sql) == wanted {
            return;
        }
        std::thread::yield_now();
    }
    panic!("{sql} never gave {wanted}");
}

fn wait_for_outcomes(place: &Place, wanted: usize) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while place.records().iter().filter(|record| record["kind"] == "outcome").count() < wanted {
        assert!(std::time::Instant::now() < deadline, "{:?}\n{}", place.records(), place.proxy.log_tail());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn what_would_leave_the_record_is_refused() {
    for cluster in every() {
        let place = place(cluster, "escape");
        let mut client = place.ops("escape");
        for (sql, code) in [
            ("DO $$ BEGIN COMMIT; END $$", "TG064"),
            ("CALL p()", "TG064"),
            ("PREPARE TRANSACTION 'x'", "TG064"),
            ("COMMIT AND CHAIN", "TG064"),
            ("ROLLBACK AND CHAIN", "TG064"),
            ("SET ROLE postgres", "TG012"),
            ("SET app.bypass_rls = 'false'", "TG011"),
            ("SET app.tenant_id = 'x'", "TG011"),
            ("SELECT set_config('app.bypass_rls', '', false)", "TG011"),
            ("CREATE TEMP TABLE x ()", "TG017"),
            ("LISTEN x", "TG017"),
            ("SELECT pg_advisory_lock(1)", "TG017"),
            ("DECLARE c CURSOR FOR SELECT 1", "25P01"),
        ] {
            let said = error(&client.query(sql));
            assert!(said.contains(code), "{sql}: {said}");
        }
        assert!(place.records().is_empty());
        // Not the owner: PostgreSQL warns, and that is all.
        assert_eq!(shape(&client.query("VACUUM parent")), "CZI");
        assert_eq!(shape(&client.query("VACUUM parent; SELECT 1")), "EZI");
        no_block_behind_a_vacuum(&mut client);
        assert_eq!(client.value("SELECT count(*) FROM pg_stat_activity WHERE pid = pg_backend_pid()"), "1");
        assert_eq!(shape(&client.query("EXPLAIN SELECT * FROM orders")).replace('D', ""), "TCZI");
    }
}

/// PostgreSQL would open a block: its statements were in the record of the VACUUM, and without a tenant.
fn no_block_behind_a_vacuum(client: &mut Client) {
    let vacuum = [Message::parse("vac", "VACUUM parent"), Message::bind("vac", &[]), Message::execute()];
    let begin = [Message::parse("beg", "BEGIN"), Message::bind("beg", &[]), Message::execute(), Message::Sync];
    let replies = exchange(client, &[&vacuum[..], &begin[..]].concat());
    assert!(error(&replies).contains("TG064"), "{}", error(&replies));
    assert_eq!(shape(&replies), "12C12EZI");
    client.send_all(&[Message::bind("vac", &[]), Message::execute(), Message::Query("BEGIN".into())]);
    client.flush().unwrap();
    let replies = client.replies_to(b'Z').0;
    assert!(error(&replies).contains("TG064"), "{}", error(&replies));
    assert_eq!(shape(&client.query("SELECT 1")), "TDCZI");
}

#[test]
fn a_ledger_that_cannot_be_written_refuses_bypass_and_nobody_else() {
    for cluster in every() {
        let place = place(cluster, "unwritable");
        let mut client = place.ops("before");
        assert_eq!(client.value("SELECT count(*) FROM orders"), "10");
        let folder = place.ledger.parent().unwrap();
        std::fs::remove_dir_all(folder).unwrap();
        for _ in 0..2 {
            assert!(error(&client.query("SELECT count(*) FROM orders")).contains("TG062"));
            let replies = exchange(
                &mut client,
                &[Message::parse("", "DELETE FROM orders"), Message::bind("", &[]), Message::execute(), Message::Sync],
            );
            assert!(error(&replies).contains("TG062"));
        }
        let mut tenant = Client::connect(&place.proxy.target(GLOBEX));
        assert_eq!(tenant.value("SELECT count(*) FROM orders"), "5");
        std::fs::create_dir(folder).unwrap();
        assert_eq!(client.value("SELECT count(*) FROM orders"), "10");
        assert_eq!(results(&place_outcomes_from(&place)), ["committed"]);
    }
}

/// The ledger was lost, so its numbers do not begin with 1.
fn place_outcomes_from(place: &Place) -> Vec<Value> {
    place.records().into_iter().filter(|record| record["kind"] == "outcome").collect()
}

#[test]
fn migrations_define_data_under_their_tenant_and_in_the_ledger() {
    for cluster in every() {
        let place = place(cluster, "migration");
        let mut client = Client::connect(&place.target("deploy"));
        client.run("CREATE TABLE invoices (id bigint, note text DEFAULT 'geheim')");
        client.run("BEGIN; ALTER TABLE invoices ADD COLUMN amount numeric; CREATE INDEX ON invoices (id); COMMIT");
        // They run outside of blocks, and are recorded all the same.
        assert_eq!(shape(&client.query("CREATE INDEX CONCURRENTLY invoices_note ON invoices (note)")), "CZI");
        assert_eq!(shape(&client.query("VACUUM invoices")), "CZI");
        let extended = [
            Message::parse("", "REINDEX INDEX CONCURRENTLY invoices_note"),
            Message::bind("", &[]),
            Message::execute(),
            Message::Sync,
        ];
        assert_eq!(shape(&exchange(&mut client, &extended)), "12CZI");
        assert_eq!(client.value("SELECT count(*) FROM orders"), "5");
        for sql in [
            "ALTER TABLE invoices ENABLE ROW LEVEL SECURITY",
            "ALTER TABLE invoices OWNER TO app_user",
            "CREATE POLICY p ON invoices USING (true)",
            "DROP POLICY everything ON orders",
            "GRANT SELECT ON invoices TO PUBLIC",
            "CREATE ROLE x",
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
            "CREATE SCHEMA s AUTHORIZATION app_user",
        ] {
            let said = error(&client.query(sql));
            assert!(said.contains("TG065"), "{sql}: {said}");
        }
        assert!(error(&client.query("SET app.tenant_id = 'x'")).contains("TG011"));
        no_definition_leaves_the_tenant(&mut client);
        let outcomes = place.outcomes();
        assert_eq!(results(&outcomes), ["committed"; 9]);
        assert_eq!(outcomes[0]["tables"][0], "invoices");
        assert_eq!(place.records()[0]["tenant"], ACME);
        assert_eq!(place.records()[0]["reason"], Value::Null);
        assert!(!std::fs::read_to_string(&place.ledger).unwrap().contains("geheim"));
    }
}

/// A view, a function or a parent that showed another tenant's rows when it was used.
fn no_definition_leaves_the_tenant(client: &mut Client) {
    let leave = format!("set_config('app.tenant_id', '{GLOBEX}', true)");
    for (sql, code) in [
        (format!("CREATE VIEW leaves AS SELECT {leave}"), "TG011"),
        (format!("CREATE TABLE leaves (a text DEFAULT {leave})"), "TG011"),
        (format!("CREATE FUNCTION leaves() RETURNS text RETURN {leave}"), "TG011"),
        (format!("CREATE FUNCTION leaves() RETURNS text LANGUAGE sql AS $$ SELECT {leave} $$"), "TG065"),
        (format!("CREATE FUNCTION leaves() RETURNS int SET app.tenant_id = '{GLOBEX}' RETURN 1"), "TG011"),
        ("CREATE VIEW leaves AS SELECT * FROM orders".to_owned(), "TG065"),
        ("ALTER TABLE orders INHERIT invoices".to_owned(), "TG065"),
    ] {
        let said = error(&client.query(&sql));
        assert!(said.contains(code), "{sql}: {said}");
    }
    // What needs none of it goes on, and shows its tenant's rows.
    client.run("CREATE VIEW own_orders WITH (security_invoker) AS SELECT * FROM orders");
    client.run("CREATE FUNCTION twice(a int) RETURNS int RETURN a * 2");
    assert_eq!(client.value("SELECT count(*) + twice(0) FROM own_orders"), "5");
}

#[test]
fn the_ledger_is_listed_as_a_table_and_as_lines() {
    let place = place(cluster::fifteen(), "list");
    let mut client = place.ops("ticket 4711");
    client.run("SELECT * FROM orders WHERE note = 'geheim'");
    client.query("SELECT 1 / 0");
    let list = |more: &[&str]| {
        let mut command = std::process::Command::new(proxy::binary());
        command.args(["ledger", "list", "--ledger"]).arg(&place.ledger).args(more).env("COLUMNS", "400");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let table = list(&[]);
    for wanted in ["ticket 4711", "committed", "failed (22012)", "orders", "ops"] {
        assert!(table.contains(wanted), "{wanted} in\n{table}");
    }
    assert!(!table.contains("geheim"));
    let json: Vec<Value> = list(&["--json"]).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(json.len(), 2);
    // The same in both: where, as what, until when, which client; a bypass has no tenant.
    let intent = &place.records()[0];
    assert_eq!((&json[0]["client"], &json[0]["tenant"]), (&intent["client"], &Value::Null));
    for name in ["database", "preset", "ended_at"] {
        assert!(table.contains(json[0][name].as_str().unwrap()), "{name} of {} in\n{table}", json[0]);
    }
    let mut deploy = Client::connect(&place.target("deploy"));
    deploy.run("SELECT 1");
    let tenant = serde_json::from_str::<Value>(list(&["--json", "--login", "deploy"]).trim()).unwrap();
    assert_eq!((&tenant["tenant"], &tenant["preset"]), (&ACME.into(), &"migration".into()));
    assert!(list(&["--login", "deploy"]).contains(ACME));
    deploy.bye();
    assert_eq!(list(&["--json", "--login", "nobody"]).trim(), "");
    assert_eq!(list(&["--json", "--since", "2999-01-01T00:00:00Z"]).trim(), "");
    // Whose proxy died has none.
    let text = std::fs::read_to_string(&place.ledger).unwrap();
    std::fs::write(&place.ledger, text.lines().take(2).collect::<Vec<_>>().join("\n")).unwrap();
    assert!(list(&[]).contains("no outcome"));
}

#[test]
fn bound_values_are_recorded_as_digests_under_the_key() {
    for cluster in every() {
        let key = [0x5a; 32];
        let place = keyed_place(cluster, "parameters", Some(&key));
        let mut client = place.ops("digests");
        let sql = "UPDATE orders SET note = $1 WHERE id = $2 OR note = $3";
        let bind = Message::Bind {
            portal: String::new(),
            statement: String::new(),
            values: vec![
                message::Value::Text("Carol Danvers".into()),
                message::Value::Text("7".into()),
                message::Value::Null,
            ],
            binary_results: false,
        };
        let messages = [Message::parse("", sql), bind, Message::execute(), Message::Sync];
        assert_eq!(shape(&exchange(&mut client, &messages)), "12CZI");
        exchange(&mut client, &[Message::Query("SELECT 'Carol Danvers'".into())]);
        let outcomes = place.outcomes();
        // HMAC-SHA256 over the format (0: text) and the value, of which 128 bits are kept.
        let hmac_key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &key);
        let digest = |value: &str| {
            let tag = aws_lc_rs::hmac::sign(&hmac_key, format!("\0{value}").as_bytes());
            tag.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        let expected = serde_json::json!([digest("Carol Danvers"), digest("7"), null]);
        assert_eq!(outcomes[0]["statements"][0]["parameters"], expected);
        assert_eq!(outcomes[1]["statements"][0]["parameters"], Value::Null, "a Query binds nothing");
        let text = std::fs::read_to_string(&place.ledger).unwrap();
        let log = place.proxy.log();
        assert!(!text.contains("Danvers") && !log.contains("Danvers"), "{text}{log}");
    }
}

/// Somebody has tried: it is in the ledger, without what the statement said.
#[test]
fn refused_bypasses_and_changed_rights_are_records() {
    for cluster in every() {
        let place = place(cluster, "tried");
        let mut silent = Client::connect(&place.target("ops"));
        assert!(error(&silent.query("SELECT 'geheim' FROM orders")).contains("TG060"));
        let mut other = place.ops("looking around");
        assert!(error(&other.query("SET ROLE postgres")).contains("TG012"));
        let mut tenant = Client::connect(&place.proxy.target(ACME));
        assert!(error(&tenant.query("SET ROLE postgres")).contains("TG012"));
        let (from, to) = (
            format!("[logins.deploy.tenant]\nfixed = \"{ACME}\""),
            format!("[logins.deploy.tenant]\nfixed = \"{GLOBEX}\""),
        );
        place.proxy.edit(&from, &to);
        assert!(place.proxy.reload());
        let of = |kind: &str| place.all_records().into_iter().filter(|it| it["kind"] == kind).collect::<Vec<_>>();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while of("config").is_empty() {
            assert!(std::time::Instant::now() < deadline, "{:?}", place.all_records());
        }
        let refused = of("refused");
        let told = |it: &Value| {
            ["login", "code", "sqlstate", "class", "reason"].map(|name| it[name].as_str().unwrap_or("-").to_owned())
        };
        assert_eq!(refused.len(), 2, "a tenant's are none: {refused:?}");
        assert_eq!(told(&refused[0]), ["ops", "TG060", "42501", "select", "-"]);
        assert_eq!(told(&refused[1])[..2], ["ops", "TG012"]);
        assert_eq!(refused[1]["reason"], "looking around");
        assert!(!std::fs::read_to_string(&place.ledger).unwrap().contains("geheim"));
        let config = &of("config")[0];
        assert_eq!(config["changes"], serde_json::json!(["logins.deploy.tenant.fixed"]));
        assert_ne!(config["before"], config["after"]);
        assert_eq!(config["login"], "SIGHUP");
        expect_records(&place.all_records());
    }
}

/// Values are forgotten with their key: another takes its place, and chain and signatures stay whole.
#[test]
fn whose_key_is_gone_nobody_can_look_for() {
    let cluster = cluster::fifteen();
    let mut place = keyed_place(cluster, "forgotten", Some(&[0x5a; 32]));
    let bind = |place: &Place| {
        let mut client = place.ops("who is carol");
        let values = vec![message::Value::Text("Carol Danvers".into())];
        let (portal, statement) = (String::new(), String::new());
        let bind = Message::Bind { portal, statement, values, binary_results: false };
        let sql = "SELECT 1 FROM orders WHERE note = $1";
        let messages = [Message::parse("", sql), bind, Message::execute(), Message::Sync];
        assert_eq!(shape(&exchange(&mut client, &messages)), "12CZI");
        client.bye();
    };
    bind(&place);
    place.proxy.signal("TERM");
    place.proxy.wait_until_it_ends(std::time::Duration::from_secs(20)).unwrap();
    std::fs::write(place.folder.path().join("parameter.key"), [0xa5; 32]).unwrap();
    let (database, more) = (place.database.as_str(), place.more.as_str());
    place.proxy = Proxy::start(&Wish { cluster, database, pool_size: 4, mutant: None, more });
    bind(&place);
    let digests: Vec<Value> = place.outcomes().iter().map(|it| it["statements"][0]["parameters"][0].clone()).collect();
    assert!(digests.len() == 2 && digests[0].is_string() && digests[0] != digests[1], "{digests:?}");
    let verify = std::process::Command::new(proxy::binary())
        .args(["ledger", "verify", "--ledger"])
        .arg(&place.ledger)
        .output()
        .unwrap();
    assert!(verify.status.success(), "{verify:?}");
}
