//! Orders that let more through, while the ledger's disk hangs: whatever becomes of their records, the last ones are true.

use super::ledger_faults::{Disk, Healed, Mood, Place, error};
use super::support::eventually;
use super::support::inside::Inside;
use super::support::message::Message;
use super::support::raw::{Client, Target};
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;
use tenantgate::driver::Hooks;

const ACME: &str = "00000000-0000-0000-0000-00000000000a";

fn start(place: &Place) -> (Inside, Arc<Disk>) {
    let disk = Arc::new(Disk::default());
    let hanging = Arc::clone(&disk);
    let hooks = Hooks { sync: Some(Arc::new(move |file: &File| hanging.sync(file))), ..Hooks::default() };
    let more = format!(
        "[logins.root]\npassword = \"demo\"\npreset = \"console\"\n[console]\nadmins = [\"root\"]\n[state]\nfolder = {:?}\n",
        place.folder.path()
    );
    (place.with_wish(&more, |wish| Inside::start_hooked(wish, hooks)), disk)
}

fn console(proxy: &Inside) -> Client {
    let address = proxy.login("root", "demo").address;
    let mut client = Client::connect(&Target::new(address, "root", "pgbouncer").password("demo"));
    client.patience(Duration::from_secs(30));
    client
}

fn say(client: &mut Client, command: &str) {
    client.send(&Message::Query(command.to_owned()));
    client.flush().unwrap();
}

fn answer(client: &mut Client) -> String {
    error(&client.replies_to(b'Z').0)
}

fn kinds(place: &Place) -> Vec<String> {
    let records = place.records().into_iter();
    let kinds = records.map(|record| record["kind"].as_str().unwrap().to_owned());
    kinds.filter(|kind| !["boot", "reopen", "checkpoint"].contains(&kind.as_str())).collect()
}

fn hang(place: &Place, disk: &Disk, kind: &'static str, client: &mut Client, command: &str) {
    disk.set(Mood::Hangs(kind));
    say(client, command);
    eventually("its record is with the disk", || kinds(place).last().is_some_and(|last| last == kind));
}

#[test]
fn an_order_whose_record_is_late_is_taken_back_behind_it() {
    let place = Place::new("late_orders");
    let (proxy, disk) = start(&place);
    let healed = Healed(Arc::clone(&disk));
    let (mut one, mut two, mut three) = (console(&proxy), console(&proxy), console(&proxy));
    // One whom nobody waits for any more.
    hang(&place, &disk, "emergency_open", &mut one, "EMERGENCY OPEN ops FOR '1h' REASON 'the house is on fire'");
    one.cancel();
    assert!(answer(&mut one).contains("57014"));
    disk.set(Mood::Well);
    eventually("it is taken back", || kinds(&place) == ["emergency_open", "emergency_close"]);
    // And those that have waited for as long as they do.
    hang(&place, &disk, "emergency_open", &mut one, "EMERGENCY OPEN ops FOR '1h' REASON 'the house is on fire'");
    assert_eq!(error(&two.query("FREEZE BYPASS REASON 'a leak'")), "");
    say(&mut two, "THAW BYPASS REASON 'mended'");
    for client in [&mut one, &mut two] {
        assert!(answer(client).contains("TG062"));
    }
    assert!(three.rows("SHOW EMERGENCIES").is_empty());
    assert_eq!(three.rows("SHOW FROZEN")[0][1].as_deref(), Some("a leak"));
    drop(healed);
    eventually("they are taken back", || kinds(&place).len() == 7);
    let mut found = kinds(&place).split_off(2);
    // Whichever of the two was given up first.
    found[3..].sort_unstable();
    assert_eq!(found, ["emergency_open", "bypass_freeze", "bypass_thaw", "bypass_freeze", "emergency_close"]);
    let records = place.records();
    let of = |kind: &str| records.iter().rfind(|record| record["kind"] == kind).unwrap();
    assert_eq!(of("emergency_open")["id"], of("emergency_close")["id"]);
    assert_eq!(of("emergency_close")["reason"], "it was not opened after all");
    assert_eq!(of("bypass_freeze")["reason"], "the thaw before this was not carried out");
}

#[test]
fn a_freeze_that_is_given_meanwhile_outlives_a_thaw() {
    let place = Place::new("newer_freezes");
    let (proxy, disk) = start(&place);
    let healed = Healed(Arc::clone(&disk));
    let (mut one, mut two) = (console(&proxy), console(&proxy));
    one.run("FREEZE BYPASS REASON 'a leak'");
    one.run(&format!("FREEZE TENANT '{ACME}' REASON 'a leak'"));
    hang(&place, &disk, "bypass_thaw", &mut one, "THAW BYPASS REASON 'mended'");
    two.run("FREEZE BYPASS REASON 'another leak'");
    disk.set(Mood::Well);
    let told = answer(&mut one);
    assert!(told.contains("TG076") && told.contains("another leak"), "{told}");
    // A tenant's thaw has its turn, and the freeze the next one.
    hang(&place, &disk, "thaw", &mut one, &format!("THAW TENANT '{ACME}' REASON 'mended'"));
    say(&mut two, &format!("FREEZE TENANT '{ACME}' REASON 'another leak'"));
    drop(healed);
    assert_eq!((answer(&mut one), answer(&mut two)), (String::new(), String::new()));
    let frozen = two.rows("SHOW FROZEN");
    let reasons: Vec<_> = frozen.iter().map(|row| row[1].as_deref()).collect();
    assert_eq!(reasons, [Some("another leak"); 2]);
    let wanted = ["bypass_freeze", "freeze", "bypass_thaw", "bypass_freeze", "bypass_freeze", "thaw", "freeze"];
    eventually("all is recorded", || kinds(&place) == wanted);
}
