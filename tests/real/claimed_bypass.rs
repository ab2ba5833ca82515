//! A bypass by a claim, in a schema of the first users' style: policies on `app.current_tenant_id`, and others on
//! `app.bypass_rls`, over one login and one role.

use super::support::alone;
use super::support::cluster::{Cluster, every, fifteen};
use super::support::inside::Inside;
use super::support::message::Message;
use super::support::proxy::{Proxy, Wish};
use super::support::raw::{Client, Target};
use super::support::reply::Reply;
use serde_json::Value;
use std::path::PathBuf;
use tenantgate::admin::Operations as _;

pub const DATABASE: &str = "claimed_bypass";
pub const ACME: &str = "00000000-0000-0000-0000-00000000000a";

const SCHEMA: &str = r#"
DROP SCHEMA IF EXISTS public CASCADE; CREATE SCHEMA public; GRANT USAGE ON SCHEMA public TO app_user;
CREATE TABLE things (id serial PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE TABLE notes (id serial PRIMARY KEY, "tenantId" text, note text);
INSERT INTO things ("tenantId", name) SELECT '00000000-0000-0000-0000-00000000000' || (ARRAY['a', 'b', 'c'])[1 + n % 3], 'first'
    FROM generate_series(0, 29) n;
INSERT INTO notes ("tenantId", note) SELECT "tenantId", name FROM things;
ALTER TABLE things ENABLE ROW LEVEL SECURITY; ALTER TABLE things FORCE ROW LEVEL SECURITY;
ALTER TABLE notes ENABLE ROW LEVEL SECURITY; ALTER TABLE notes FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON things USING ("tenantId" = current_setting('app.current_tenant_id', true));
CREATE POLICY bypass ON things USING (current_setting('app.bypass_rls', true) = 'true');
CREATE POLICY either ON notes USING ("tenantId" = current_setting('app.current_tenant_id', true)
    OR current_setting('app.bypass_rls', true)::text = 'true');
CREATE TABLE ledgers (id int, thing int REFERENCES things DEFERRABLE INITIALLY DEFERRED);
GRANT ALL ON ALL TABLES IN SCHEMA public TO app_user;
GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO app_user;
"#;

const SCOPE: &str = "[scope.settings]\n\"app.current_tenant_id\" = \"{tenant}\"\n";
const LOGIN: &str = "[logins.web]\npassword = \"demo\"\nclaims = \"transaction\"\n";
pub const RIGHT: &str = "[logins.web.claimed_bypass]\nsetting = \"app.bypass_rls\"\nreason = \"nightly report\"\n";
pub const ON: &str = "SELECT set_config('app.bypass_rls', 'true', true)";

/// A proxy in front of the schema, and its ledger.
pub struct Place {
    pub proxy: Proxy,
    ledger: PathBuf,
    _folder: tempfile::TempDir,
}

impl Place {
    pub fn new(cluster: &Cluster, more: &str) -> Self {
        cluster.create_database(DATABASE);
        cluster.admin(DATABASE).run(SCHEMA);
        let folder = tempfile::tempdir().unwrap();
        let ledger = folder.path().join("ledger.jsonl");
        let more = format!("{LOGIN}{more}{SCOPE}[ledger]\npath = {ledger:?}\n");
        let proxy = Proxy::start(&Wish { cluster, database: DATABASE, pool_size: 2, mutant: None, more: &more });
        Self { proxy, ledger, _folder: folder }
    }

    pub fn client(&self) -> Client {
        Client::connect(&Target::new(self.proxy.address, "web", DATABASE).password("demo"))
    }

    /// What the ledger has of transactions.
    pub fn records(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.ledger).unwrap_or_default();
        let all = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        all.filter(|record| matches!(record["kind"].as_str(), Some("intent" | "outcome"))).collect()
    }
}

pub fn words(replies: &[Reply]) -> String {
    let error = replies.iter().find(|reply| reply.tag == b'E').unwrap_or_else(|| panic!("no error in {replies:?}"));
    error.fields()[&'M'].clone()
}

pub fn tenant(client: &mut Client) {
    client.run("BEGIN");
    client.run(&format!("SELECT set_config('app.current_tenant_id', '{ACME}', true)"));
}

/// A reason that the client gives is read as that of any bypass.
#[test]
fn a_client_s_own_reason_says_something() {
    let _turn = alone();
    let right = "[logins.web.claimed_bypass]\nsetting = \"app.bypass_rls\"\n[bypass]\nreason_chars_min = 12\n";
    let place = Place::new(fifteen(), right);
    let mut client = place.client();
    for (reason, told) in [
        ("nightly run", "TG061"),
        ("xxxxxxxxxxxxxxx", "TG061"),
        ("           a       ", "TG061"),
        ("\u{200b}\u{200b}\u{200b}\u{200b}\u{200b}nightly run", "TG061"),
        ("nightly run 31", ""),
    ] {
        client.run("BEGIN");
        client.run(&format!("SET LOCAL tenantgate.reason = '{reason}'"));
        let replies = client.query(ON);
        let error = replies.iter().find(|reply| reply.tag == b'E').map(|reply| reply.line(&mut vec![]));
        assert!(error.as_deref().unwrap_or_default().contains(told), "{reason:?}: {replies:?}");
        assert_eq!(error.is_none(), told.is_empty(), "{reason:?}: {replies:?}");
        client.run("ROLLBACK");
    }
    let records = place.records();
    let reasons: Vec<_> = records.iter().filter(|it| it["kind"] == "intent").map(|it| &it["reason"]).collect();
    assert_eq!(reasons, ["nightly run 31"], "{records:?}");
}

#[test]
fn rows_of_all_tenants_under_the_claim_recorded_and_none_without_it() {
    let _turn = alone();
    for cluster in every() {
        let place = Place::new(cluster, RIGHT);
        let mut client = place.client();
        tenant(&mut client);
        assert_eq!(client.value("SELECT count(*) FROM things"), "10");
        client.run("COMMIT");
        assert_eq!(place.records().len(), 0, "what keeps to its tenant is not recorded");
        client.run("BEGIN");
        client.run(ON);
        // The intent is in the file by now.
        assert_eq!(place.records().len(), 1);
        assert_eq!(client.value("SELECT count(*) FROM things"), "30");
        assert_eq!(client.value("SELECT count(*) FROM notes"), "30");
        client.run("UPDATE things SET name = 'geheim' WHERE id <= 3");
        client.run("COMMIT");
        let records = place.records();
        let [intent, outcome] = &records[..] else { panic!("{records:?}") };
        let said = |record: &Value, key: &str| record[key].as_str().unwrap_or("-").to_owned();
        let intended = ["preset", "role", "reason", "tenant"].map(|key| said(intent, key));
        assert_eq!(intended, ["claimed_bypass", "app_user", "nightly report", "-"]);
        assert_eq!(said(outcome, "result"), "committed");
        assert_eq!((outcome["rows_affected"].as_u64(), outcome["rows_delivered"].as_u64()), (Some(3), Some(3)));
        assert!(!outcome.to_string().contains("geheim"));
        // Nothing is left, on this server or on the other.
        for _ in 0..4 {
            assert!(words(&client.query("SELECT count(*) FROM things")).starts_with("TG130"));
            tenant(&mut client);
            assert_eq!(client.value("SELECT count(*) FROM things"), "10");
            assert_eq!(client.value("SELECT count(*) FROM notes"), "10");
            client.run("ROLLBACK");
        }
        assert_eq!(place.records().len(), 2);
    }
}

#[test]
fn without_the_right_it_is_refused_as_before() {
    let _turn = alone();
    for cluster in every().into_iter().take(1) {
        let place = Place::new(cluster, "");
        let mut client = place.client();
        for sql in [ON, "SET LOCAL app.bypass_rls = 'true'", "SET app.bypass_rls = 'true'"] {
            client.run("BEGIN");
            assert!(words(&client.query(sql)).starts_with("TG013"), "{sql}");
            client.run("ROLLBACK");
        }
        assert_eq!(place.records().len(), 0);
        // With it, it is no other login's.
        let other = "[logins.other]\npassword = \"demo\"\nclaims = \"transaction\"\n";
        let place = Place::new(cluster, &format!("{RIGHT}{other}"));
        let mut other = Client::connect(&Target::new(place.proxy.address, "other", DATABASE).password("demo"));
        other.run("BEGIN");
        assert!(words(&other.query(ON)).starts_with("TG011"));
    }
}

/// The extended protocol, as an ORM's driver speaks it: prepared with `$1`, described, in one pipeline or message by message.
#[test]
fn a_driver_claims_by_the_extended_protocol() {
    let _turn = alone();
    let statement = |sql: &str, values: &[&str]| {
        let parse = Message::Parse { name: String::new(), sql: sql.to_owned(), types: vec![] };
        let bind = Message::bind("", values);
        [parse, bind, Message::DescribePortal(String::new()), Message::Execute { portal: String::new(), rows_max: 0 }]
    };
    let bypass = "SELECT set_config('app.bypass_rls', $1, true)";
    for cluster in every() {
        let place = Place::new(cluster, RIGHT);
        let mut client = place.client();
        for is_pipelined in [true, false] {
            let texts: [(&str, &[&str]); 4] =
                [("BEGIN", &[]), (bypass, &["true"]), ("SELECT count(*)::text FROM things", &[]), ("COMMIT", &[])];
            let mut rows = Vec::new();
            for (index, (sql, values)) in texts.iter().enumerate() {
                client.send_all(&statement(sql, values));
                if !is_pipelined || index == 3 {
                    client.send(&Message::Sync);
                    client.flush().unwrap();
                    let (replies, silence) = client.replies_to(b'Z');
                    assert!(silence.is_none(), "{silence:?} {replies:?}");
                    rows.extend(replies.iter().filter(|reply| reply.tag == b'D').map(Reply::row));
                    assert!(replies.iter().all(|reply| reply.tag != b'E'), "{replies:?}");
                }
            }
            assert_eq!(rows, [vec![Some("true".to_owned())], vec![Some("30".to_owned())]]);
        }
        client.send_all(&statement(bypass, &["false"]));
        client.send(&Message::Sync);
        client.flush().unwrap();
        client.replies_to(b'Z');
        let results: Vec<_> =
            place.records().iter().filter_map(|record| Some(record["result"].as_str()?.to_owned())).collect();
        assert_eq!(results, ["committed", "committed"]);
    }
}

/// What was opened in front of the claim is read with the bypass behind it; what stands behind the transaction in the same
/// Query is not.
#[test]
fn a_record_has_what_was_opened_before_it_and_nothing_that_comes_after() {
    let _turn = alone();
    let place = Place::new(fifteen(), RIGHT);
    let mut client = place.client();
    let texts = |place: &Place| {
        let records = place.records();
        let statements = records.last().unwrap()["statements"].as_array().unwrap().clone();
        statements.iter().map(|one| (one["text"].to_string(), one["rows"].as_u64())).collect::<Vec<_>>()
    };
    let text = |text: &str, rows: Option<u64>| (format!("{text:?}"), rows);

    // A portal.
    tenant(&mut client);
    let sql = "SELECT name FROM things".to_owned();
    let bind = Message::Bind { portal: "p".into(), statement: String::new(), values: vec![], binary_results: false };
    client.send_all(&[Message::Parse { name: String::new(), sql, types: vec![] }, bind, Message::Sync]);
    client.flush().unwrap();
    client.replies_to(b'Z');
    client.run(ON);
    client.send_all(&[Message::Execute { portal: "p".into(), rows_max: 0 }, Message::Sync]);
    client.flush().unwrap();
    let (replies, _) = client.replies_to(b'Z');
    assert_eq!(replies.iter().filter(|reply| reply.tag == b'D').count(), 30);
    client.run("COMMIT");
    let claim = text("SELECT set_config(?, ?, true)", Some(1));
    assert_eq!(texts(&place), [claim.clone(), text("SELECT name FROM things", Some(30)), text("COMMIT", None)]);

    // A cursor; and one of a transaction that is over is not in the next one's record.
    tenant(&mut client);
    client.run("DECLARE gone CURSOR FOR SELECT id FROM notes");
    client.run("ROLLBACK");
    tenant(&mut client);
    client.run("DECLARE c CURSOR FOR SELECT name FROM things");
    client.run(ON);
    client.run("FETCH ALL FROM c");
    client.run("COMMIT");
    let declared = text("DECLARE c CURSOR FOR SELECT name FROM things", None);
    assert_eq!(texts(&place), [declared, claim.clone(), text("FETCH ALL FROM c", Some(30)), text("COMMIT", None)]);
    assert_eq!(place.records().last().unwrap()["tables"][0], "things");

    // What follows in the same Query.
    for (end, result) in [("COMMIT", "committed"), ("ROLLBACK", "rolled_back")] {
        let next = format!("SELECT set_config('app.current_tenant_id', '{ACME}', true)");
        let replies = client.run(&format!("BEGIN; {ON}; {end}; BEGIN; {next}; SELECT count(*) FROM notes; COMMIT"));
        assert!(replies.iter().any(|reply| reply.tag == b'D' && reply.row() == [Some("10".to_owned())]), "{replies:?}");
        assert_eq!(texts(&place), [text("BEGIN", None), claim.clone(), text(end, None)]);
        assert_eq!(place.records().last().unwrap()["result"], result);
    }
}

/// What PostgreSQL does with the same statements is what a client sees here, but for its refusals.
#[test]
fn savepoints_failures_and_taking_back_are_as_in_postgresql_itself() {
    let _turn = alone();
    const COUNT: &str =
        "SELECT (SELECT count(*) FROM things) || ' ' || coalesce(current_setting('app.bypass_rls', true), '')";
    let units: &[&[&str]] = &[
        &["BEGIN", "TENANT", "SAVEPOINT a", ON, COUNT, "ROLLBACK TO a", COUNT, "COMMIT"],
        &[
            "BEGIN",
            "TENANT",
            ON,
            "SAVEPOINT a",
            "SET LOCAL app.bypass_rls = 'false'",
            COUNT,
            "ROLLBACK TO a",
            COUNT,
            "COMMIT",
        ],
        &["BEGIN", ON, "TENANT", COUNT, "SAVEPOINT a", "SELECT 1/0", "ROLLBACK TO a", COUNT, "COMMIT"],
        &["BEGIN", "SAVEPOINT a", ON, "RELEASE a", COUNT, "SELECT 1/0", ON, "COMMIT"],
        &["BEGIN", ON, "INSERT INTO ledgers VALUES (1, 999)", "COMMIT"],
        &["BEGIN", "SET LOCAL app.bypass_rls TO 'true'", COUNT, "ROLLBACK"],
        &["BEGIN", "SET LOCAL app.bypass_rls = 'false'", "TENANT", COUNT, ON, ON, COUNT, "END"],
        &["BEGIN", "TENANT", ON, COUNT, "RESET app.bypass_rls", "SELECT count(*) FROM things", "COMMIT"],
        &["SET LOCAL app.bypass_rls = 'true'"],
        &[ON],
    ];
    for cluster in every() {
        let place = Place::new(cluster, RIGHT);
        for unit in units {
            let mut native = Client::connect(&Target::new(cluster.address, "app_user", DATABASE));
            let mut proxied = place.client();
            for sql in *unit {
                let sql = match *sql {
                    "TENANT" => format!("SELECT set_config('app.current_tenant_id', '{ACME}', true)"),
                    other => other.to_owned(),
                };
                let said =
                    |client: &mut Client| -> Vec<String> { client.query(&sql).iter().filter_map(heard).collect() };
                assert_eq!(said(&mut native), said(&mut proxied), "{sql} of {unit:?} on {}", cluster.version);
            }
        }
        let records = place.records();
        let of = |kind: &str| records.iter().filter(|record| record["kind"] == *kind).count();
        assert_eq!((of("intent"), of("outcome")), (8, 8));
        let failed = records.iter().filter(|record| record["result"] == "failed").count();
        assert_eq!(failed, 2, "{records:?}");
    }
}

/// A reply as far as it has to be the same.
fn heard(reply: &Reply) -> Option<String> {
    match reply.tag {
        b'D' => Some(format!("D {:?}", reply.row())),
        b'C' => Some(format!("C {}", String::from_utf8_lossy(&reply.body).trim_end_matches('\0'))),
        b'E' | b'N' => Some(format!("{} {}", char::from(reply.tag), reply.fields()[&'C'])),
        b'Z' => Some(format!("Z {}", char::from(reply.body[0]))),
        _ => None,
    }
}

#[test]
fn a_ledger_that_cannot_be_written_refuses_the_bypass_and_tenants_go_on() {
    let _turn = alone();
    for cluster in every().into_iter().take(1) {
        let place = Place::new(cluster, RIGHT);
        let mut client = place.client();
        // A folder stands where the file was: it can be neither written on nor opened anew.
        let moved = place.ledger.with_extension("moved");
        std::fs::rename(&place.ledger, moved).unwrap();
        std::fs::create_dir(&place.ledger).unwrap();
        client.run("BEGIN");
        assert!(words(&client.query(ON)).starts_with("TG062"));
        client.run("ROLLBACK");
        tenant(&mut client);
        assert_eq!(client.value("SELECT count(*) FROM things"), "10");
        client.run("COMMIT");
        std::fs::remove_dir(&place.ledger).unwrap();
        client.run("BEGIN");
        client.run(ON);
        assert_eq!(client.value("SELECT count(*) FROM things"), "30");
        client.run("COMMIT");
    }
}

#[test]
fn a_reload_gives_the_right_and_takes_it_and_the_console_shows_what_was_done_with_it() {
    let _turn = alone();
    fifteen().create_database(DATABASE);
    fifteen().admin(DATABASE).run(SCHEMA);
    let folder = tempfile::tempdir().unwrap();
    let more = format!("{LOGIN}{SCOPE}[ledger]\npath = {:?}\n", folder.path().join("ledger.jsonl"));
    let proxy =
        Inside::start(&Wish { cluster: fifteen(), database: DATABASE, pool_size: 2, mutant: None, more: &more });
    let mut client = Client::connect(&proxy.login("web", "demo"));
    let refused = |client: &mut Client| {
        client.run("BEGIN");
        assert!(words(&client.query(ON)).starts_with("TG013"));
        client.run("ROLLBACK");
    };
    refused(&mut client);
    proxy.reload_with(SCOPE, &format!("{RIGHT}{SCOPE}"));
    client.run("BEGIN");
    client.run(ON);
    assert_eq!(client.value("SELECT count(*) FROM things"), "30");
    client.run("COMMIT");
    let shown = proxy.operations().bypasses();
    let [row] = &shown[..] else { panic!("{shown:?}") };
    assert_eq!((&*row.preset, &*row.outcome, &*row.reason), ("claimed_bypass", "committed", "nightly report"));
    proxy.reload_with(&format!("{RIGHT}{SCOPE}"), SCOPE);
    refused(&mut client);
    tenant(&mut client);
    assert_eq!(client.value("SELECT count(*) FROM things"), "10");
    client.run("COMMIT");
}
