//! The intent is on the disk before the transaction begins, with a disk that takes its time: a process that is killed
//! leaves the page cache behind, so that kills alone would not miss an `fdatasync`.

use crate::support::cluster::{self, Cluster};
use crate::support::inside::Inside;
use crate::support::message::Message;
use crate::support::proxy::{Wish, ledger, login_of_its_own};
use crate::support::raw::Client;
use crate::support::{alone, eventually};
use std::fs::File;
use std::io;
use std::sync::{Arc, Condvar, Mutex};
use tenantgate::driver::Hooks;

const DATABASE: &str = "durable";
const ACME: &str = "00000000-0000-0000-0000-00000000000a";

/// A disk whose syncs end when the test lets them.
#[derive(Default)]
pub struct Disk {
    state: Mutex<DiskState>,
    changed: Condvar,
}

#[derive(Default)]
struct DiskState {
    is_held: bool,
    waiting: usize,
}

impl Disk {
    pub fn sync(&self, file: &File) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        state.waiting += 1;
        state = self.changed.wait_while(state, |state| state.is_held).unwrap();
        state.waiting -= 1;
        file.sync_data()
    }

    pub fn hold(&self, is_held: bool) {
        self.state.lock().unwrap().is_held = is_held;
        self.changed.notify_all();
    }

    fn is_asked(&self) -> bool {
        self.state.lock().unwrap().waiting > 0
    }
}

/// Ends the hold however the test ends: the ledger's thread would wait for ever.
pub struct Held(pub Arc<Disk>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.hold(false);
    }
}

/// What a bypass transaction had done on the server while its intent was not durable.
#[derive(Debug, PartialEq, Eq)]
struct Early {
    is_intent_written: bool,
    is_begun: bool,
}

/// The settings replay goes ahead of the intent; it has ended, and touches no table.
fn begun(cluster: &Cluster) -> bool {
    let begun = "SELECT (SELECT count(*) FROM work) + (SELECT count(*) FROM pg_stat_activity WHERE datname = \
                 current_database() AND usename = 'app_durable' AND (xact_start IS NOT NULL OR query LIKE '%INTO work%'))";
    cluster.admin(DATABASE).value(begun) != "0"
}

fn transaction_on_a_slow_disk(hooks: Hooks) -> Early {
    let _turn = alone();
    let cluster = cluster::fifteen();
    cluster.create_database(DATABASE);
    cluster.admin(DATABASE).run(
        "DO $$ BEGIN CREATE ROLE app_durable LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
         CREATE TABLE work (token text); GRANT ALL ON work TO app_durable",
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.jsonl");
    let more = login_of_its_own("careful", "bypass", "app_durable") + &ledger(&path);
    let disk = Arc::new(Disk::default());
    let slow = Arc::clone(&disk);
    let hooks = Hooks { sync: Some(Arc::new(move |file: &File| slow.sync(file))), ..hooks };
    let wish = Wish { cluster, database: DATABASE, pool_size: 2, mutant: None, more: &more };
    let proxy = Inside::start_hooked(&wish, hooks);
    let mut tenant = Client::connect(&proxy.target(ACME));
    let mut client = Client::connect(&proxy.login("careful", "demo").with("tenantgate.reason", "a test"));
    let held = Held(Arc::clone(&disk));
    disk.hold(true);
    client.send(&Message::Query("INSERT INTO work VALUES ('one')".to_owned())).flush().unwrap();
    let written = || std::fs::read_to_string(&path).unwrap_or_default().lines().count() > 1;
    eventually("the intent is on its way to the disk", || written() && (disk.is_asked() || begun(cluster)));
    // Tenants go on, and a bypass that did would have had all the time there is.
    for _ in 0..100 {
        tenant.run("SELECT 1");
    }
    let early = Early { is_intent_written: written(), is_begun: begun(cluster) };
    drop(held);
    let (replies, silence) = client.replies_to(b'Z');
    assert!(silence.is_none() && replies.iter().all(|reply| reply.tag != b'E'), "{replies:?}");
    assert_eq!(cluster.admin(DATABASE).value("SELECT count(*) FROM work"), "1");
    early
}

#[test]
fn no_transaction_begins_before_its_intent_is_on_the_disk() {
    let early = transaction_on_a_slow_disk(Hooks::default());
    assert_eq!(early, Early { is_intent_written: true, is_begun: false });
}

/// A planted defect must be found, or the slow disk proves nothing.
#[cfg(feature = "mutants")]
mod mutants {
    use super::*;
    use tenantgate::session::Mutant;

    fn begins_early_with(mutant: Mutant) -> bool {
        transaction_on_a_slow_disk(Hooks { mutant: Some(mutant), ..Hooks::default() }).is_begun
    }

    #[test]
    fn a_session_that_does_not_wait_for_its_intent_is_found() {
        assert!(begins_early_with(Mutant::IntentNotAwaited));
    }

    #[test]
    fn a_ledger_that_answers_before_the_disk_is_found() {
        assert!(begins_early_with(Mutant::RecordsNotSynced));
    }
}
