//! FunctionCall: PostgreSQL's own numbers for large objects, inside of blocks of recorded logins that may call them.

use std::collections::BTreeMap;

use super::support::cluster::{self, every};
use super::support::message::Message;
use super::support::proxy::{self, Proxy, Wish, login_of_its_own};
use super::support::raw::{Client, Target};
use super::support::reply::Reply;
use tenantgate::guard::call_of_number;

const ACME: &str = "00000000-0000-0000-0000-00000000000a";
const LO_CREATE: u32 = 715;
const LO_OPEN: u32 = 952;
const LOREAD: u32 = 954;
const LOWRITE: u32 = 955;
const LO_UNLINK: u32 = 964;

/// Replies as a client sees them: results with their bytes, errors by their codes.
fn shown(replies: &[Reply]) -> Vec<String> {
    let show = |reply: &Reply| match reply.tag {
        b'E' => format!("E {}", reply.fields()[&'C']),
        tag => format!("{} {:?}", char::from(tag), String::from_utf8_lossy(&reply.body)),
    };
    replies.iter().map(show).collect()
}

fn call(client: &mut Client, function: u32, values: &[&str]) -> Vec<String> {
    let values = values.iter().map(|value| (*value).to_owned()).collect();
    client.send_all(&[Message::FunctionCall { function, values }]);
    client.flush().unwrap();
    shown(&client.replies_to(b'Z').0)
}

fn refusal(replies: &[Reply]) -> String {
    let error = replies.iter().find(|reply| reply.tag == b'E').expect("a refusal");
    error.fields()[&'M'].chars().take(5).collect()
}

/// A large object's life, and every way to fail.
fn session(client: &mut Client) -> Vec<String> {
    let mut seen = Vec::new();
    let query = |client: &mut Client, sql: &str| shown(&client.query(sql));
    seen.extend(query(client, "BEGIN"));
    seen.extend(call(client, LO_CREATE, &["4711"]));
    seen.extend(call(client, LO_OPEN, &["4711", "393216"]));
    seen.extend(call(client, LOWRITE, &["0", "some bytes"]));
    seen.extend(query(client, "SELECT current_setting('app.tenant_id'), lo_lseek(0, 5, 0)"));
    seen.extend(call(client, LOREAD, &["0", "100"]));
    seen.extend(query(client, "COMMIT"));
    // The descriptor went with its transaction; what fails in a block fails all of it.
    seen.extend(query(client, "BEGIN"));
    seen.extend(call(client, LOREAD, &["0", "100"]));
    seen.extend(call(client, LO_OPEN, &["4711", "393216"]));
    seen.extend(query(client, "ROLLBACK"));
    seen.extend(query(client, "BEGIN"));
    seen.extend(call(client, LO_OPEN, &["not a number", "393216"]));
    seen.extend(query(client, "ROLLBACK"));
    seen.extend(query(client, "BEGIN"));
    seen.extend(call(client, LO_OPEN, &["4711"]));
    seen.extend(query(client, "COMMIT"));
    seen.extend(query(client, "BEGIN"));
    seen.extend(call(client, LO_UNLINK, &["4711"]));
    seen.extend(query(client, "COMMIT"));
    seen
}

#[test]
fn every_number_is_the_same_function_in_every_release() {
    for cluster in every().into_iter().chain(cluster::others()) {
        let rows = cluster.admin("postgres").rows("SELECT oid, proname FROM pg_catalog.pg_proc WHERE oid < 16384");
        let cell = |cell: &Option<String>| cell.clone().unwrap();
        let functions: BTreeMap<u32, String> =
            rows.iter().map(|row| (cell(&row[0]).parse().unwrap(), cell(&row[1]))).collect();
        let known: Vec<_> = (0..16384).filter_map(|number| Some((number, call_of_number(number)?))).collect();
        assert_eq!(known.len(), 13);
        for (number, text) in known {
            assert!(text.starts_with(&format!("SELECT pg_catalog.{}(", functions[&number])), "{number} {text}");
        }
    }
}

#[test]
fn a_call_by_number_is_answered_as_by_postgresql_and_recorded() {
    for cluster in every() {
        let database = "called";
        cluster.create_database(database);
        cluster
            .admin("postgres")
            .run("DO $$ BEGIN CREATE ROLE app_calling LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;");
        let folder = tempfile::tempdir().unwrap();
        let ledger = folder.path().join("ledger.jsonl");
        let tenant = |login: &str| format!("[logins.{login}.tenant]\nfixed = \"{ACME}\"\n");
        let more = login_of_its_own("deploy", "migration", "app_calling")
            + &tenant("deploy")
            + &login_of_its_own("other", "migration", "app_calling")
            + &tenant("other")
            + "[logins.deploy.guard]\nfunctions_allowed = [\"lo_create\", \"lo_open\", \"lowrite\", \"loread\", \"lo_lseek\", \"lo_unlink\"]\n"
            + &proxy::ledger(&ledger);
        let proxy = Proxy::start(&Wish { cluster, database, pool_size: 2, mutant: None, more: &more });
        let target = |login: &str| Target::new(proxy.address, login, database).password("demo");

        let options = format!("-c app.tenant_id={ACME}");
        let direct = Target::new(cluster.address, "app_calling", database).with("options", &options);
        let wanted = session(&mut Client::connect(&direct));
        let mut deploy = Client::connect(&target("deploy"));
        assert_eq!(session(&mut deploy), wanted, "PostgreSQL {}", cluster.version);
        let texts = std::fs::read_to_string(&ledger).unwrap();
        let outcome = texts.lines().find(|line| line.contains("\"kind\":\"outcome\"")).unwrap();
        for function in ["lo_create($1)", "lo_open($1, $2)", "lowrite($1, $2)", "loread($1, $2)"] {
            assert_eq!(outcome.matches(&format!("SELECT pg_catalog.{function}")).count(), 1, "{outcome}");
        }
        // Each with its own answer, the statement of SQL between them, too.
        assert_eq!(outcome.matches("\"rows\":1,").count(), 5, "{outcome}");

        // Outside of a block, of a function that is not on the list, of one without a name, over a tenant's login.
        assert_eq!(call(&mut deploy, LO_OPEN, &["1", "2"]), ["E 0A000", "Z \"I\""]);
        drop(deploy.query("BEGIN"));
        assert_eq!(call(&mut deploy, 2078, &["app.tenant_id", "x", "f"]), ["E 0A000", "Z \"E\""]);
        drop(deploy.query("ROLLBACK"));
        let mut other = Client::connect(&target("other"));
        drop(other.query("BEGIN"));
        other.send_all(&[Message::FunctionCall { function: LO_CREATE, values: vec!["1".to_owned()] }]);
        other.flush().unwrap();
        assert_eq!(refusal(&other.replies_to(b'Z').0), "TG015");
        drop(other.query("ROLLBACK"));
        let mut tenants = Client::connect(&target("app_user").with("app.tenant_id", ACME));
        drop(tenants.query("BEGIN"));
        tenants.send_all(&[Message::FunctionCall { function: LO_CREATE, values: vec!["1".to_owned()] }]);
        tenants.flush().unwrap();
        assert_eq!(refusal(&tenants.replies_to(b'Z').0), "TG030");
    }
}
