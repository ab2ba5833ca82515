//! Transactions of a bypass that are sent in one go: each has a record of its own, announced before its COMMIT.

use super::bypass_limits::{Place, place};
use super::support::cluster::every;
use super::support::message::Message;
use super::support::raw::Client;
use serde_json::Value;

fn execution(sql: &str) -> [Message; 3] {
    [Message::parse("", sql), Message::bind("", &[]), Message::execute()]
}

fn all(texts: &[&str]) -> Vec<Message> {
    texts.iter().flat_map(|sql| execution(sql)).collect()
}

/// Transactions that wrote a row, by what the database says, and those that were announced and committed, by what the ledger
/// says.
fn both(place: &Place) -> [Vec<String>; 2] {
    let rows = "SELECT DISTINCT xmin::text FROM orders WHERE id > 100 ORDER BY 1";
    let written: Vec<String> = place.admin().rows(rows).into_iter().flatten().flatten().collect();
    let records = place.records();
    let is_committed =
        |id: &Value| records.iter().any(|it| it["kind"] == "outcome" && it["id"] == *id && it["result"] == "committed");
    let announced = records.iter().filter(|it| it["kind"] == "precommit" && is_committed(&it["id"]));
    let mut announced: Vec<String> = announced.filter_map(|it| it["xid"].as_str().map(str::to_owned)).collect();
    announced.sort();
    [written, announced]
}

#[test]
fn a_transaction_behind_another_in_a_segment_has_its_own_record() {
    const PAIR: [&str; 6] =
        ["BEGIN", "INSERT INTO orders VALUES (101)", "COMMIT", "BEGIN", "INSERT INTO orders VALUES (102)", "COMMIT"];
    for cluster in every() {
        let place = place(cluster, "pipeline", "");
        let mut expected = 0;
        for (messages, transactions) in [
            ([all(&PAIR), vec![Message::Sync]].concat(), 2),
            // What stands behind an end without a Sync.
            ([all(&PAIR[..3]), vec![Message::Query(PAIR[3..].join("; "))]].concat(), 2),
            ([all(&PAIR[..3]), all(&PAIR[4..5]), vec![Message::Sync]].concat(), 2),
            ([all(&["BEGIN", PAIR[1], "ROLLBACK"]), all(&PAIR[3..]), vec![Message::Sync]].concat(), 1),
        ] {
            let mut ops: Client = place.ops("a reason for the pipeline");
            ops.send_all(&messages);
            ops.flush().unwrap();
            assert!(ops.replies_to(b'Z').1.is_none(), "{messages:?}");
            ops.bye();
            expected += transactions;
            let [written, announced] = both(&place);
            assert_eq!((&written, written.len()), (&announced, expected), "{messages:?}");
        }
    }
}

/// Nothing behind it is waited for that never comes.
#[test]
fn a_transaction_behind_a_commit_that_fails_is_skipped() {
    for cluster in every() {
        let place = place(cluster, "pipeline_failing", "");
        place.admin().run("ALTER TABLE orders ADD CONSTRAINT once UNIQUE (id) DEFERRABLE INITIALLY DEFERRED");
        let insert = "INSERT INTO orders VALUES (101), (101)";
        let mut ops = place.ops("a reason for the pipeline");
        ops.send_all(&[all(&["BEGIN", insert, "COMMIT", "BEGIN", insert, "COMMIT"]), vec![Message::Sync]].concat());
        ops.flush().unwrap();
        assert!(ops.replies_to(b'Z').1.is_none());
        assert_eq!(ops.value("SELECT 42"), "42");
        ops.bye();
        assert_eq!(place.results()[0], "a reason for the pipeline: failed 23505");
    }
}

/// What the proxy asks in front of a COMMIT has a portal of its own, in the midst of the client's.
#[test]
fn no_client_has_the_proxy_s_portals() {
    for cluster in every() {
        let place = place(cluster, "portals", "");
        for (name, is_taken) in [("mine", false), ("tg_xact", true), ("tg_restore", true), ("tg_portal", true)] {
            let mut ops = place.ops("a reason for the portal");
            let bind = Message::Bind {
                portal: name.to_owned(),
                statement: String::new(),
                values: Vec::new(),
                binary_results: false,
            };
            let named = [Message::parse("", "SELECT 1"), bind];
            let messages =
                [all(&["BEGIN", "INSERT INTO orders VALUES (101)"]), named.into(), all(&["COMMIT"])].concat();
            ops.send_all(&[messages, vec![Message::Sync]].concat());
            ops.flush().unwrap();
            let told = super::bypass_limits::error(&ops.replies_to(b'Z').0);
            assert_eq!(told.contains("TG010"), is_taken, "{name}: {told}");
            assert_eq!(told.is_empty(), !is_taken, "{name}: {told}");
            ops.query("ROLLBACK");
            // Nor by SQL.
            ops.run("BEGIN");
            let told = super::bypass_limits::error(&ops.query(&format!("DECLARE {name} CURSOR FOR SELECT 1")));
            assert_eq!(told.contains("TG010"), is_taken, "{name}: {told}");
            ops.run("ROLLBACK");
        }
        assert_eq!(place.admin().value("SELECT count(*) FROM orders WHERE id = 101"), "1");
    }
}
