//! Sealed databases and the ledger name bypass transactions alike: `tenantgate ledger reconcile` finds out by the row in the
//! database what the ledger does not know, and where the two differ.

use super::sealed::{configured, owner, prepare};
use super::support::cluster::{Cluster, every};
use super::support::eventually;
use super::support::proxy::{self, Proxy, ledger, login_of_its_own};
use super::support::raw::{Client, Target};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

const VERIFY: &str = include_str!("../../sql/verify.sql");
const DATABASE: &str = "ledger_sealed";

/// A ledger in front of a sealed database, whose proxy is gone.
struct Left {
    cluster: &'static Cluster,
    folder: tempfile::TempDir,
}

fn records_of(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn word(record: &Value, name: &str) -> String {
    record[name].as_str().unwrap_or_else(|| panic!("no {name}: {record}")).to_owned()
}

impl Left {
    fn ledger(&self) -> PathBuf {
        self.folder.path().join("ledger.jsonl")
    }

    fn of_kind(&self, kind: &str) -> Vec<Value> {
        records_of(&self.ledger()).into_iter().filter(|record| record["kind"] == kind).collect()
    }

    /// The exit status of the command, and what it said.
    fn reconcile(&self) -> (Option<i32>, String) {
        let mut command = Command::new(proxy::binary());
        let file = self.folder.path().join("tenantgate.toml");
        let output = command.args(["ledger", "reconcile", "--config"]).arg(file).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    }

    /// As a crash in front of the last outcome would have left the file. The transaction's name.
    fn forget_last_outcome(&self) -> String {
        let text = std::fs::read_to_string(self.ledger()).unwrap();
        let mut lines: Vec<&str> = text.lines().collect();
        while !lines.last().is_some_and(|line| line.contains("\"kind\":\"precommit\"")) {
            assert!(lines.pop().is_some(), "no pre-commit record: {text}");
        }
        std::fs::write(self.ledger(), lines.join("\n") + "\n").unwrap();
        word(&serde_json::from_str(lines.last().unwrap()).unwrap(), "id")
    }

    /// The last end that was found out.
    fn found_out(&self) -> (String, String, String, String) {
        let record = self.of_kind("reconciled").pop().unwrap();
        (word(&record, "id"), word(&record, "result"), word(&record, "evidence"), word(&record, "xid"))
    }
}

/// Three bypass transactions: two that commit, one that does not.
fn work(cluster: &'static Cluster) -> Left {
    prepare(cluster, DATABASE);
    let mut admin = cluster.admin(DATABASE);
    drop(admin.query("CREATE ROLE ledger_sealed LOGIN"));
    admin.run("GRANT SELECT, INSERT, UPDATE, DELETE ON notes TO ledger_sealed");
    admin.run("GRANT SELECT ON tenantgate.bypass TO ledger_sealed");
    owner(cluster, DATABASE)
        .run("SELECT tenantgate.allow('ledger_sealed', 'bypass'), tenantgate.protect('notes', 'tenant')");
    let left = Left { cluster, folder: tempfile::tempdir().unwrap() };
    let proxy = Proxy::start_with(DATABASE, None, |address, _| {
        let login = login_of_its_own("ops", "bypass", "ledger_sealed");
        let ledger = ledger(&left.ledger());
        let text =
            format!("{}\n{login}databases = [\"{DATABASE}\"]\n{ledger}", configured(cluster, DATABASE, 1, address));
        std::fs::write(left.folder.path().join("tenantgate.toml"), &text).unwrap();
        text
    });
    let target = Target::new(proxy.address, "ops", DATABASE).password("demo");
    let mut ops = Client::connect(&target.with("tenantgate.reason", "a test"));
    ops.run("UPDATE notes SET note = note");
    ops.run("BEGIN; UPDATE notes SET note = note; ROLLBACK");
    ops.run("BEGIN");
    ops.run("INSERT INTO notes (id, tenant, note) VALUES (9, 'b', 'one more')");
    ops.run("COMMIT");
    eventually("three outcomes", || left.of_kind("outcome").len() == 3);
    left
}

/// The rows that bypasses have left: their names and transaction ids.
fn rows(cluster: &Cluster) -> BTreeMap<String, String> {
    let rows = cluster.admin(DATABASE).rows("SELECT audit, xid FROM tenantgate.bypass");
    rows.into_iter().map(|row| (row[0].clone().unwrap(), row[1].clone().unwrap())).collect()
}

#[test]
fn the_row_of_a_sealed_bypass_tells_how_it_ended() {
    for cluster in every() {
        let left = work(cluster);
        let committed: BTreeMap<String, String> = left
            .of_kind("outcome")
            .iter()
            .filter(|outcome| outcome["result"] == "committed")
            .map(|outcome| (word(outcome, "id"), word(outcome, "xid")))
            .collect();
        assert_eq!((committed.len(), &committed), (2, &rows(cluster)), "on {}", cluster.version);
        let (status, said) = left.reconcile();
        assert!(status == Some(0) && said.contains("0 outcomes were unknown"), "{status:?} {said}");
        // The end of the last one was not written any more.
        let last = left.forget_last_outcome();
        let (status, said) = left.reconcile();
        assert!(status == Some(0) && said.contains("1 outcomes were unknown, 0 of them still are"), "{said}");
        assert_eq!(left.found_out(), (last.clone(), "committed".into(), "row".into(), committed[&last].clone()));
        // Once it is known it is not asked for again.
        let (status, said) = left.reconcile();
        assert!(status == Some(0) && said.contains("0 outcomes were unknown"), "{status:?} {said}");
        // What cannot be looked at does not agree.
        let mut admin = left.cluster.admin(DATABASE);
        admin.run("REVOKE SELECT ON tenantgate.bypass FROM ledger_sealed");
        let (status, said) = left.reconcile();
        assert!(status == Some(2) && said.contains("its rows cannot be read"), "{status:?} {said}");
        admin.run("GRANT SELECT ON tenantgate.bypass TO ledger_sealed");
        differences_are_named(&left, &last);
        // Whoever has removed a row has not undone what it tells of: the id is the transaction's as long as it is known.
        assert_eq!(left.forget_last_outcome(), last);
        let (status, said) = left.reconcile();
        assert!(said.contains("1 outcomes were unknown, 0 of them still are"), "{status:?} {said}");
        assert!(said.contains(&format!("recorded as committed, without a row: 1\n  {DATABASE} {last}\n")), "{said}");
        let (id, result, evidence, _) = left.found_out();
        assert_eq!((id, &*result, &*evidence), (last, "committed", "xact_status"), "on {}", cluster.version);
    }
}

/// Bypass roles may read rows, and nothing else; nobody else may.
#[test]
fn rows_are_read_by_bypass_roles_alone() {
    const READERS: &str = "sealed_readers";
    for cluster in every() {
        prepare(cluster, READERS);
        let mut admin = cluster.admin(READERS);
        for role in ["sealed_reader", "sealed_nobody"] {
            drop(admin.query(&format!("CREATE ROLE {role} LOGIN")));
        }
        owner(cluster, READERS).run("SELECT tenantgate.allow('sealed_reader', 'bypass')");
        for (role, right, is_well) in [
            ("sealed_reader", "SELECT ON tenantgate.bypass", true),
            ("sealed_reader", "SELECT ON tenantgate.key", false),
            ("sealed_reader", "INSERT ON tenantgate.bypass", false),
            ("sealed_reader", "UPDATE (at) ON tenantgate.bypass", false),
            ("app_user", "SELECT ON tenantgate.bypass", false),
            ("app_user", "SELECT (at) ON tenantgate.bypass", false),
            ("sealed_nobody", "SELECT ON tenantgate.bypass", false),
        ] {
            admin.run(&format!("GRANT {right} TO {role}"));
            let mut client = Client::connect(&Target::new(cluster.address, role, READERS));
            client.run("SET search_path = pg_catalog, pg_temp");
            let problems: Vec<String> = client.rows(VERIFY).into_iter().flatten().flatten().collect();
            let is_told = problems.iter().any(|problem| problem.contains("has rights on tenantgate."));
            assert_eq!(is_told, !is_well, "{right} TO {role} on {}: {problems:?}", cluster.version);
            admin.run(&format!("REVOKE {right} FROM {role}"));
        }
    }
}

/// A commit that no ledger knows, and a record whose row somebody has removed.
fn differences_are_named(left: &Left, last: &str) {
    let mut admin = left.cluster.admin(DATABASE);
    let foreign = admin.value("INSERT INTO tenantgate.bypass (audit) VALUES (gen_random_uuid()) RETURNING audit");
    let (status, said) = left.reconcile();
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains(&format!("committed without a record: 1\n  {DATABASE} {foreign}\n")), "{said}");
    assert!(said.contains("recorded as committed, without a row: 0\n"), "{said}");
    admin.run(&format!("DELETE FROM tenantgate.bypass WHERE audit IN ('{foreign}', '{last}')"));
    let (status, said) = left.reconcile();
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains(&format!("recorded as committed, without a row: 1\n  {DATABASE} {last}\n")), "{said}");
    assert!(said.contains("committed without a record: 0\n"), "{said}");
}
