//! The rows that bypasses leave in sealed databases: nobody but `enter_bypass` writes one, no ROLLBACK TO takes one from its
//! transaction's work, and whoever has installed the schema forgets old ones.

use super::sealed::{KEY, enter_bypass, key, owner, prepare, process_id};
use super::support::cluster::every;
use super::support::raw::{Client, Target};
use super::support::reply::Reply;

const DATABASE: &str = "sealed_rows";

fn sqlstate(replies: &[Reply]) -> String {
    let error = replies.iter().find(|reply| reply.tag == b'E');
    error.map_or_else(String::new, |error| error.fields()[&'C'].clone())
}

#[test]
fn a_bypass_s_row_is_nobody_s_to_write_and_goes_with_its_work_alone() {
    for cluster in every() {
        prepare(cluster, DATABASE);
        let mut admin = cluster.admin(DATABASE);
        drop(admin.query("CREATE ROLE rows_bypass LOGIN"));
        admin.run("GRANT SELECT, UPDATE ON notes TO rows_bypass");
        let mut installer = owner(cluster, DATABASE);
        installer.run("SELECT tenantgate.allow('rows_bypass', 'bypass'), tenantgate.protect('notes', 'tenant')");
        admin.run("GRANT SELECT ON tenantgate.bypass TO rows_bypass");
        let as_role = |role: &str| Client::connect(&Target::new(cluster.address, role, DATABASE));
        let mut client = as_role("rows_bypass");
        let (key, process) = (key(KEY), process_id(&mut client));
        let rows = |admin: &mut Client| admin.value("SELECT count(*) FROM tenantgate.bypass");
        // Behind a savepoint the row would go and what the ticket has set could be set again by hand.
        client.run("BEGIN");
        client.run("SAVEPOINT s");
        assert_eq!(sqlstate(&client.query(&enter_bypass(&key, process))), "55000");
        client.run("ROLLBACK TO s");
        assert_eq!(sqlstate(&client.query("SELECT note FROM notes")), "28000");
        client.run("ROLLBACK");
        assert_eq!(rows(&mut admin), "0");
        // In front of one it stays, with the work; and there is one only.
        client.run("BEGIN");
        client.run(&enter_bypass(&key, process));
        client.run("SAVEPOINT s");
        client.run("UPDATE notes SET note = note");
        client.run("ROLLBACK TO s");
        client.run("UPDATE notes SET note = note");
        client.run("SAVEPOINT t");
        assert_eq!(sqlstate(&client.query(&enter_bypass(&key, process))), "55000");
        client.run("ROLLBACK TO t");
        client.run("COMMIT");
        assert_eq!(rows(&mut admin), "1", "on {}", cluster.version);
        client.run("BEGIN");
        assert_eq!(sqlstate(&client.query(&enter_bypass(&key, process))), "23505", "the same ticket once again");
        client.run("ROLLBACK");
        for role in ["rows_bypass", "app_user"] {
            let mut client = as_role(role);
            for sql in [
                "INSERT INTO tenantgate.bypass (audit, at) VALUES (gen_random_uuid(), 'yesterday')",
                "UPDATE tenantgate.bypass SET at = 'yesterday'",
                "DELETE FROM tenantgate.bypass",
                "TRUNCATE tenantgate.bypass",
                "SELECT audit FROM tenantgate.bypass FOR UPDATE",
                "ALTER TABLE tenantgate.bypass ENABLE ROW LEVEL SECURITY",
                "CREATE TRIGGER t BEFORE INSERT ON tenantgate.bypass EXECUTE FUNCTION suppress_redundant_updates_trigger()",
                "CREATE RULE r AS ON INSERT TO tenantgate.bypass DO INSTEAD NOTHING",
                "DROP TABLE tenantgate.bypass",
                "BEGIN; LOCK TABLE tenantgate.bypass IN SHARE MODE",
                "SELECT tenantgate.forget_bypasses('-infinity')",
            ] {
                assert_eq!(sqlstate(&client.query(sql)), "42501", "{role}: {sql} on {}", cluster.version);
                client.run("ROLLBACK");
            }
        }
        // Who has installed it forgets old ones, and nothing of the last day.
        for recent in ["now()", "'infinity'", "NULL", "now() - interval '23 hours'"] {
            let sql = format!("SELECT tenantgate.forget_bypasses({recent})");
            assert_eq!(sqlstate(&installer.query(&sql)), "22023", "{sql}");
        }
        let old = "SELECT tenantgate.forget_bypasses(now() - interval '2 days')";
        assert_eq!(installer.value(old), "0");
        admin.run("UPDATE tenantgate.bypass SET at = now() - interval '3 days'");
        assert_eq!((installer.value(old), rows(&mut admin)), ("1".to_owned(), "0".to_owned()));
    }
}
