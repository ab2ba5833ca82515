//! Emergencies, and all bypasses being frozen: what begins, what ends, what is recorded.

use super::bypass_limits::{Place, error, place};
use super::support::cluster::every;
use super::support::proxy::binary;
use super::support::raw::{Client, Target};
use std::process::Output;

/// A login that bypasses in an emergency only, one with a rule, an administrator.
const MORE: &str = r#"
[logins.oncall]
password = "demo"
preset = "bypass"
role = "ops"
emergencies = "only"

[logins.never]
password = "demo"
preset = "bypass"
role = "ops"
emergencies = "never"

[logins.root]
password = "demo"
preset = "console"

[console]
admins = ["root"]

[bypass]
emergency_max = "1h"

[[bypass.rules]]
login = "ops"
read_only = true
"#;

const REASON: &str = "the house is on fire";

fn client(place: &Place, login: &str) -> Client {
    Client::connect(&place.target(login).with("tenantgate.reason", REASON))
}

fn console(place: &Place) -> Client {
    Client::connect(&Target::new(place.proxy.address, "root", "pgbouncer").password("demo"))
}

fn emergency(place: &Place, arguments: &[&str]) -> Output {
    let mut command = std::process::Command::new(binary());
    command.arg("emergency").args(arguments);
    let address = place.proxy.address;
    command.arg("--connect").arg(format!("host={} port={} user=root", address.ip(), address.port()));
    command.env("PGPASSWORD", "demo").output().unwrap()
}

fn kinds(place: &Place) -> Vec<String> {
    let records = place.records().into_iter();
    let kinds = records.map(|record| record["kind"].as_str().unwrap().to_owned());
    kinds.filter(|kind| kind.contains("emergency") || kind.contains("bypass")).collect()
}

#[test]
fn an_emergency_goes_beyond_the_rules_and_closes_by_itself() {
    for cluster in every() {
        let place = place(cluster, "emergency", MORE);
        let (mut oncall, mut ops) = (client(&place, "oncall"), client(&place, "ops"));
        assert!(error(&oncall.query("SELECT 1")).contains("TG175"));
        assert!(error(&ops.query("DELETE FROM secrets")).contains("TG178"));
        for (arguments, told) in [
            (["--login", "never", "--for", "1m", "--reason", REASON], "emergencies = \"never\""),
            (["--login", "nobody", "--for", "1m", "--reason", REASON], "no such login"),
            (["--login", "root", "--for", "1m", "--reason", REASON], "preset"),
            (["--login", "ops", "--for", "2h", "--reason", REASON], "3600 s at most"),
        ] {
            let output = emergency(&place, &arguments);
            let words = String::from_utf8(output.stderr).unwrap();
            assert!(output.status.code() == Some(1) && words.contains(told), "{arguments:?}: {words}");
        }
        assert!(kinds(&place).is_empty());
        for login in ["oncall", "ops"] {
            let output = emergency(&place, &["--login", login, "--for", "1h", "--reason", REASON]);
            assert!(output.status.success(), "{output:?}");
        }
        oncall.run("SELECT 1");
        ops.run("BEGIN");
        ops.run("DELETE FROM secrets");
        let mut root = console(&place);
        assert_eq!(root.rows("SHOW EMERGENCIES").len(), 2);
        let shown = root.rows("SHOW BYPASSES");
        assert_eq!((shown[0][5].as_deref(), shown[0][6].as_deref()), (Some("emergency"), Some(REASON)));
        root.run("RELOAD");
        assert_eq!(root.rows("SHOW EMERGENCIES").len(), 2, "it survives RELOAD");
        // Closed by name: what runs under it ends, and is rolled back.
        assert!(emergency(&place, &["--login", "ops", "--close"]).status.success());
        assert!(ops.last_words().contains("TG181"));
        let mut ops = client(&place, "ops");
        assert_eq!(ops.value("SELECT count(*) FROM secrets"), "1");
        assert!(error(&ops.query("DELETE FROM secrets")).contains("TG178"));
        // By its time, while a transaction runs under it; another one takes the first one's place.
        root.run("EMERGENCY OPEN oncall FOR '400ms' REASON 'once again on fire'");
        oncall.run("BEGIN");
        oncall.run("DELETE FROM secrets");
        assert!(oncall.last_words().contains("TG181"));
        assert!(error(&client(&place, "oncall").query("SELECT 1")).contains("TG175"));
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while kinds(&place).len() < 6 {
            assert!(std::time::Instant::now() < deadline, "{:?}", place.records());
            std::thread::yield_now();
        }
        assert!(root.rows("SHOW EMERGENCIES").is_empty());
        let [open, close] = ["emergency_open", "emergency_close"];
        assert_eq!(kinds(&place), [open, open, close, open, close, close]);
        // Which transaction ran under which.
        let records = place.records();
        let first = records.iter().find(|it| it["kind"] == open).unwrap();
        let intent = records.iter().find(|it| it["kind"] == "intent" && it["login"] == "oncall").unwrap();
        assert_eq!(
            (&intent["emergency"], &first["login"], &first["by"]),
            (&first["id"], &"oncall".into(), &"root".into())
        );
        assert_eq!(cluster.admin(&place.database).value("SELECT count(*) FROM secrets"), "1");
    }
}

#[test]
fn a_freeze_of_bypasses_ends_all_and_a_thaw_lets_them_begin_again() {
    for cluster in every() {
        let mut place = place(cluster, "freeze", MORE);
        let mut root = console(&place);
        // What opens it says at least as much as each transaction under it.
        assert!(error(&root.query("EMERGENCY OPEN oncall FOR '1h' REASON 'fire'")).contains("TG061"));
        root.run("EMERGENCY OPEN oncall FOR '1h' REASON 'the house is on fire'");
        let (mut oncall, mut ops) = (client(&place, "oncall"), client(&place, "ops"));
        oncall.run("BEGIN");
        oncall.run("DELETE FROM secrets");
        ops.run("BEGIN");
        ops.run("SELECT 1");
        let mut idle = client(&place, "ops");
        idle.run("SELECT 1");
        let mut tenant = Client::connect(&Target::new(
            place.proxy.address,
            "app_user.00000000-0000-0000-0000-00000000000a",
            &place.database,
        ));
        root.run("FREEZE BYPASS REASON 'a leak'");
        for client in [&mut oncall, &mut ops] {
            assert!(client.last_words().contains("TG180"));
        }
        // Who bypasses nothing at the moment stays, and may not begin.
        let told = error(&idle.query("SELECT 1"));
        assert!(told.contains("TG180") && told.contains("a leak"), "{told}");
        assert_eq!(tenant.value("SELECT 1"), "1");
        assert!(error(&root.query("EMERGENCY OPEN oncall FOR '1h' REASON 'the house is on fire'")).contains("TG180"));
        assert!(root.rows("SHOW EMERGENCIES").is_empty());
        let frozen = root.rows("SHOW FROZEN");
        assert_eq!((&frozen[0][0], frozen[0][1].as_deref()), (&None, Some("a leak")));
        assert_eq!(cluster.admin(&place.database).value("SELECT count(*) FROM secrets"), "1");
        // Also after a restart.
        place.restart();
        assert!(error(&client(&place, "ops").query("SELECT 1")).contains("TG180"));
        let mut root = console(&place);
        root.run("THAW BYPASS REASON 'mended'");
        assert!(error(&root.query("THAW BYPASS REASON 'mended'")).contains("TG076"));
        assert_eq!(client(&place, "ops").value("SELECT 1"), "1");
        assert!(error(&client(&place, "oncall").query("SELECT 1")).contains("TG175"), "its emergency is over");
        assert_eq!(kinds(&place), ["emergency_open", "bypass_freeze", "emergency_close", "bypass_thaw"]);
    }
}
