//! What a claimed bypass must not leave behind for later, what its record says of why and for whom, and FREEZE BYPASS over one
//! that runs.

use super::claimed_bypass::{ACME, DATABASE, ON, Place, RIGHT, tenant, words};
use super::support::cluster::fifteen;
use super::support::message::Message;
use super::support::raw::{Client, Target};
use super::support::reply::Reply;
use super::support::{alone, eventually};

/// Trusted code whose session state pins its server, and one whose server stays whatever it sends.
const KEEPERS: &str = r#"
[logins.keeper]
password = "demo"
preset = "application"
claims = "transaction"
claimed_bypass = { setting = "app.bypass_rls" }

[logins.whole]
password = "demo"
preset = "application"
pool_mode = "session"
claims = "transaction"
claimed_bypass = { setting = "app.bypass_rls", reason = "nightly report" }

[logins.watched]
password = "demo"
claims = "transaction"
claimed_bypass = { setting = "app.bypass_rls", reason = "nightly report" }
guard.mode = "observe"

[logins.root]
password = "demo"
preset = "console"

[console]
admins = ["root"]
"#;

const NAMES: &str = "SELECT name FROM things";
const COUNT: &str = "SELECT count(*) FROM things";

fn connect(place: &Place, login: &str) -> Client {
    let mut client = Client::connect(&Target::new(place.proxy.address, login, DATABASE).password("demo"));
    if login == "keeper" {
        client.run("SET tenantgate.reason = 'a good reason'");
    }
    client
}

fn refused(replies: &[Reply], sql: &str) {
    assert!(words(replies).starts_with("TG064"), "{sql}: {replies:?}");
}

#[test]
fn nothing_that_a_claimed_bypass_shows_is_kept_for_later() {
    let _turn = alone();
    for cluster in [fifteen()] {
        let place = Place::new(cluster, &format!("{RIGHT}{KEEPERS}"));
        for login in ["keeper", "whole"] {
            let keeping = [
                format!("CREATE TEMP TABLE kept AS {NAMES}"),
                "CREATE TEMP TABLE kept (name text)".to_owned(),
                format!("DECLARE kept CURSOR WITH HOLD FOR {NAMES}"),
            ];
            for sql in &keeping {
                // (Where the server stays whatever is sent, nobody asks it in between what was rolled back.)
                let mut client = connect(&place, login);
                // Under it, in either protocol, and in the claim's own Query.
                client.run("BEGIN");
                client.run(ON);
                refused(&client.query(sql), sql);
                client.run("ROLLBACK");
                client.run("BEGIN");
                client.run(ON);
                client.send_all(&[Message::parse("", sql), Message::bind("", &[]), Message::execute(), Message::Sync]);
                client.flush().unwrap();
                refused(&client.replies_to(b'Z').0, sql);
                client.run("ROLLBACK");
                refused(&client.query(&format!("BEGIN; {ON}; {sql}; COMMIT")), sql);
                client.run("ROLLBACK");
                client = connect(&place, login);
                // In front of it: what is there is filled, or run when the transaction commits.
                let acts = format!("SELECT set_config('app.current_tenant_id', '{ACME}', true)");
                refused(&client.query(&format!("BEGIN; {acts}; {sql}; {ON}; COMMIT")), sql);
                client.run("ROLLBACK");
                client = connect(&place, login);
                tenant(&mut client);
                client.run(sql);
                refused(&client.query(ON), sql);
                client.run("ROLLBACK");
                // Bound in front of it, and executed behind it.
                client = connect(&place, login);
                tenant(&mut client);
                let bind = |portal: &str| Message::Bind {
                    portal: portal.to_owned(),
                    statement: String::new(),
                    values: vec![],
                    binary_results: false,
                };
                let execute = |portal: &str| Message::Execute { portal: portal.to_owned(), rows_max: 0 };
                let segment = [Message::parse("", sql), bind("k"), Message::parse("", ON), bind("c"), execute("c")];
                client.send_all(&segment);
                client.send_all(&[execute("k"), Message::Sync]);
                client.flush().unwrap();
                refused(&client.replies_to(b'Z').0, sql);
                client.run("ROLLBACK");
            }
            // A table that is there already would take rows up.
            let mut client = connect(&place, login);
            tenant(&mut client);
            client.run("CREATE TEMP TABLE kept (name text)");
            client.run("COMMIT");
            client.run("BEGIN");
            refused(&client.query(ON), "a table of another transaction");
            client.run("ROLLBACK");
            if login == "keeper" {
                tenant(&mut client);
                client.run("DROP TABLE pg_temp.kept");
                client.run("COMMIT");
                client.run("BEGIN");
                client.run(ON);
                client.run(&format!("CREATE TEMP TABLE gone ON COMMIT DROP AS {NAMES}"));
                assert_eq!(client.value("SELECT count(*) FROM gone"), "30");
                client.run("COMMIT");
                // Behind it anything may be kept again, in the same Query, too.
                let acts = format!("SELECT set_config('app.current_tenant_id', '{ACME}', true)");
                client.run(&format!(
                    "BEGIN; {ON}; {COUNT}; COMMIT; BEGIN; {acts}; CREATE TEMP TABLE kept AS {NAMES}; COMMIT"
                ));
                tenant(&mut client);
                assert_eq!(client.value("SELECT count(*) FROM kept"), "10");
                client.run("COMMIT");
            }
        }
    }
}

#[test]
fn a_record_has_the_reason_and_the_person_of_its_transaction() {
    let _turn = alone();
    let place = Place::new(fifteen(), &format!("{RIGHT}{KEEPERS}"));
    let last = || {
        let records = place.records();
        let intent = records.iter().rev().find(|record| record["kind"] == "intent").unwrap().clone();
        ["reason", "on_behalf_of"].map(|key| intent[key].as_str().unwrap_or("-").to_owned())
    };
    let mut client = connect(&place, "keeper");
    let bypass = |client: &mut Client, front: &str| {
        client.run("BEGIN");
        if !front.is_empty() {
            client.run(front);
        }
        client.run(ON);
        client.run("COMMIT");
    };
    bypass(&mut client, "SET LOCAL tenantgate.on_behalf_of = 'carol'");
    assert_eq!(last(), ["a good reason", "carol"]);
    bypass(&mut client, "");
    assert_eq!(last(), ["a good reason", "-"], "carol's transaction is over");
    bypass(&mut client, "SELECT set_config('tenantgate.on_behalf_of', 'dave', true)");
    assert_eq!(last(), ["a good reason", "dave"]);
    client.run(&format!(
        "BEGIN; SET LOCAL tenantgate.on_behalf_of = 'erin'; SET LOCAL tenantgate.reason = 'hers alone'; {ON}; COMMIT"
    ));
    assert_eq!(last(), ["hers alone", "erin"], "in one Query");
    client.run("SET tenantgate.on_behalf_of = 'frank'");
    client.run("BEGIN");
    client.run("SAVEPOINT s");
    client.run("SET LOCAL tenantgate.on_behalf_of = 'grace'");
    client.run("ROLLBACK TO s");
    client.run(ON);
    client.run("COMMIT");
    assert_eq!(last(), ["a good reason", "frank"], "what was taken back was not said");
    // Where the configuration says why, no client does: not even one that is only watched.
    let mut client = connect(&place, "whole");
    assert!(words(&client.query("SET tenantgate.reason = 'mine alone'")).starts_with("TG013"));
    let mut client = connect(&place, "watched");
    client.run("SET tenantgate.reason = 'mine alone'");
    bypass(&mut client, "SET LOCAL tenantgate.reason = 'mine, too'");
    assert_eq!(last(), ["nightly report", "-"]);
}

#[test]
fn freeze_bypass_ends_a_claimed_one_that_runs_and_lets_none_begin() {
    let _turn = alone();
    let place = Place::new(fifteen(), &format!("{RIGHT}{KEEPERS}"));
    let mut root = Client::connect(&Target::new(place.proxy.address, "root", "pgbouncer").password("demo"));
    let (mut idle, mut running, mut other) = (place.client(), place.client(), place.client());
    running.run("BEGIN");
    running.run(ON);
    running.run("UPDATE things SET name = 'changed'");
    root.run("FREEZE BYPASS REASON 'a leak'");
    assert!(running.last_words().contains("TG180"));
    let last = || place.records().pop().unwrap();
    eventually("it has its outcome", || last()["kind"] == "outcome");
    assert_eq!(last()["result"], "failed", "{}", last());
    idle.run("BEGIN");
    assert!(words(&idle.query(ON)).starts_with("TG180"));
    idle.run("ROLLBACK");
    // Who acts for a tenant is not meant.
    tenant(&mut other);
    assert_eq!(other.value("SELECT count(*) FROM things WHERE name = 'first'"), "10");
    other.run("COMMIT");
    root.run("THAW BYPASS REASON 'it is mended'");
    idle.run("BEGIN");
    idle.run(ON);
    assert_eq!(idle.value("SELECT count(*) FROM things WHERE name = 'first'"), "30");
    idle.run("COMMIT");
}
