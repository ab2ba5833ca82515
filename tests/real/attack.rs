//! `tenantgate attack` through a guarded and a sealed proxy, and where there is none to hold it.

use std::process::{Command, Stdio};

use super::sealed;
use super::upheaval::certificate;
use crate::support::cluster::{self, Cluster};
use crate::support::eventually;
use crate::support::proxy::{self, Proxy, Wish};

const A: &str = "00000000-0000-0000-0000-00000000000a";
const B: &str = "00000000-0000-0000-0000-00000000000b";

fn attack(cluster: &Cluster, database: &str, through: [String; 2]) -> (Option<i32>, String) {
    let [a, b] = through;
    run(cluster, database, &["--as-a", &a, "--as-b", &b, "--tenant-a", A, "--tenant-b", B])
}

fn run(cluster: &Cluster, database: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let owner = format!("host=127.0.0.1 port={} user=postgres dbname={database}", cluster.address.port());
    let mut command = Command::new(proxy::binary());
    command.args(["attack", "--owner", &owner]).args(arguments).env_remove("PGPASSWORD");
    let output = command.output().expect("the tool runs");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code(), said)
}

fn of(proxy: &Proxy, database: &str) -> [String; 2] {
    let port = proxy.address.port();
    [A, B].map(|tenant| format!("host=127.0.0.1 port={port} user=app_user.{tenant} dbname={database}"))
}

#[test]
fn nothing_escapes_a_guarded_or_a_sealed_database() {
    for cluster in cluster::every() {
        let database = "attacked";
        cluster.create_database(database);
        // One server: what is left on it meets the other tenant.
        let wish = Wish { cluster, database, pool_size: 1, mutant: None, more: "" };
        let guarded = Proxy::start(&wish);
        let (status, said) = attack(cluster, database, of(&guarded, database));
        assert_eq!(status, Some(0), "{said}");
        assert!(said.contains("on a guarded database") && said.contains(" 0 escaped"), "{said}");
        drop(guarded);
        let mut admin = cluster.admin(database);
        assert_eq!(admin.rows("SELECT nspname FROM pg_namespace WHERE nspname = 'tenantgate_attack'").len(), 0);
        sealed::seal(&mut admin, database);
        let proxy = sealed::start_sealing(&wish);
        let (status, said) = by_configuration(cluster, database, &proxy);
        assert_eq!(status, Some(0), "{said}");
        assert!(said.contains("on a sealed database") && said.contains(" 0 escaped"), "{said}");
    }
}

/// The configuration says where the proxy is and how its login names tenants, who are made up; it is reached by TLS alone.
fn by_configuration(cluster: &Cluster, database: &str, proxy: &Proxy) -> (Option<i32>, String) {
    let (file, folder) = (proxy.folder().join("tenantgate.toml"), proxy.folder());
    certificate(folder);
    let tls = format!(
        "[tls]\nmode = \"require\"\ncertificate = \"{0}/server.crt\"\nkey = \"{0}/server.key\"\n",
        folder.display()
    );
    proxy.edit("[tls]\nmode = \"disable\"\n", &tls);
    assert!(proxy.reload(), "{}", proxy.log_tail());
    let (file, ca) = (file.display().to_string(), folder.join("server.crt").display().to_string());
    let there = format!("localhost:{}", proxy.address.port());
    let arguments = ["--config", &file, "--database", database, "--login", "app_user", "--ca", &ca, "--proxy"];
    // By its address: the certificate is somebody else's.
    let (status, said) = run(cluster, database, &[&arguments[..], &[&proxy.address.to_string()]].concat());
    assert!(status == Some(2) && said.contains("--as-a"), "{said}");
    for (login, wanted) in [("nobody", "there is no logins.nobody"), ("acme_app", "from the user name")] {
        let (status, said) = run(cluster, database, &["--config", &file, "--database", database, "--login", login]);
        assert!(status == Some(2) && said.contains(wanted), "{said}");
    }
    run(cluster, database, &[&arguments[..], &[&there]].concat())
}

/// The same tenants without a proxy: a tool that finds nothing there finds nothing anywhere.
#[test]
fn without_a_proxy_tenants_escape() {
    let cluster = cluster::fifteen();
    let database = "attacked_directly";
    cluster.create_database(database);
    let port = cluster.address.port();
    let direct = [A, B].map(|tenant| {
        format!("host=127.0.0.1 port={port} user=app_user dbname={database} options='-c app.tenant_id={tenant}'")
    });
    let (status, said) = attack(cluster, database, direct);
    assert_eq!(status, Some(1), "{said}");
    for technique in ["SET LOCAL", "set_config in COPY", "set_config in a CTE", "an anonymous block", "query_to_xml"] {
        let line = said.lines().find(|line| line.trim_start().starts_with(technique) && line.contains("ESCAPED"));
        assert!(line.is_some(), "{technique}: {said}");
    }
    assert!(said.contains("470 attempts"), "each in five forms, COPY's too: {said}");
    let (status, said) =
        attack(cluster, database, [String::new(), String::new()].map(|_| "host=127.0.0.1 port=1".into()));
    assert_eq!(status, Some(2), "{said}");
}

/// What each kind of hole lets through is reported as that, and a technique that could not be tried is not a refusal.
#[test]
fn planted_holes_are_reported_as_escapes() {
    let cluster = cluster::fifteen();
    let database = "attacked_holes";
    cluster.create_database(database);
    let proxy = Proxy::start(&Wish { cluster, database, pool_size: 2, mutant: None, more: "" });
    let mut admin = cluster.admin(database);
    let [a, b] = of(&proxy, database);
    let tenants = ["--as-a", &a, "--as-b", &b, "--tenant-a", A, "--tenant-b", B];
    let try_it = |only: &str| run(cluster, database, &[&tenants[..], &["--only", only]].concat());
    for (hole, technique) in [
        (
            "CREATE POLICY hole ON tenantgate_attack.notes FOR SELECT USING (tenant IS NOT NULL OR true)",
            "a plain SELECT",
        ),
        ("ALTER TABLE tenantgate_attack.notes OWNER TO app_user, NO FORCE ROW LEVEL SECURITY", "a plain SELECT"),
        ("ALTER TABLE tenantgate_attack.notes DISABLE ROW LEVEL SECURITY", "a plain SELECT"),
        ("CREATE POLICY hole ON tenantgate_attack.notes FOR INSERT WITH CHECK (true)", "a row for the other tenant"),
        (
            "CREATE POLICY hole ON tenantgate_attack.notes FOR UPDATE USING (true) WITH CHECK (true)",
            "every row changed",
        ),
        (
            "CREATE POLICY hole ON tenantgate_attack.notes FOR UPDATE USING (false) WITH CHECK (true)",
            "every row given away",
        ),
        ("CREATE POLICY hole ON tenantgate_attack.notes FOR DELETE USING (true)", "every row deleted"),
    ] {
        // It is made as soon as the probe table has its own policy.
        admin.run(&format!(
            "CREATE OR REPLACE FUNCTION plant() RETURNS event_trigger LANGUAGE plpgsql AS $$
             BEGIN IF current_setting('x.planted', true) IS NOT NULL THEN RETURN; END IF;
             PERFORM set_config('x.planted', 'yes', true); {hole}; END $$"
        ));
        admin.run("DROP EVENT TRIGGER IF EXISTS plant; CREATE EVENT TRIGGER plant ON ddl_command_end WHEN TAG IN ('CREATE POLICY') EXECUTE FUNCTION plant()");
        let (status, said) = try_it(if technique.starts_with("a plain") { "SET LOCAL" } else { technique });
        assert_eq!(status, Some(1), "{hole}: {said}");
        let is_told = |line: &str| line.trim_start().starts_with(technique) && line.contains("ESCAPED");
        assert!(said.lines().any(is_told), "{hole}: {said}");
        assert_eq!(admin.rows("SELECT FROM pg_namespace WHERE nspname = 'tenantgate_attack'").len(), 0);
    }
    admin.run("DROP EVENT TRIGGER plant");
    let (status, said) = try_it("dblink");
    assert!(status == Some(0) && said.contains("1 refused") && said.contains("0 could not be tried"), "{said}");
    let (status, said) = try_it("no such technique");
    assert!(status == Some(2) && said.contains("--only"), "{said}");
    // Where no guard refuses it, it cannot be tried at all.
    let port = cluster.address.port();
    let direct = [A, B].map(|tenant| {
        format!("host=127.0.0.1 port={port} user=app_user dbname={database} options='-c app.tenant_id={tenant}'")
    });
    let tenants = ["--as-a", &direct[0], "--as-b", &direct[1], "--tenant-a", A, "--tenant-b", B, "--only", "dblink"];
    let (status, said) = run(cluster, database, &tenants);
    assert!(status == Some(0) && said.contains("NOT TRIED") && said.contains("0 refused"), "{said}");
}

/// Its table does not outlive a signal.
#[test]
fn a_signal_ends_it_and_takes_its_table_away() {
    let cluster = cluster::fifteen();
    let database = "attacked_signal";
    cluster.create_database(database);
    let proxy = Proxy::start(&Wish { cluster, database, pool_size: 2, mutant: None, more: "" });
    let [a, b] = of(&proxy, database);
    let mut admin = cluster.admin(database);
    let owner = format!("host=127.0.0.1 port={} user=postgres dbname={database}", cluster.address.port());
    for signal in ["-INT", "-TERM"] {
        let mut command = Command::new(proxy::binary());
        command.args(["attack", "--owner", &owner, "--as-a", &a, "--as-b", &b, "--tenant-a", A, "--tenant-b", B]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut is_there =
            || admin.value("SELECT count(*) FROM pg_namespace WHERE nspname = 'tenantgate_attack'") == "1";
        eventually("its table is there", &mut is_there);
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains("ended by a signal"), "{signal}: {output:?}");
        assert!(!is_there(), "{said}");
    }
}

/// What has that name and is not the tool's stays.
#[test]
fn a_schema_that_was_there_is_not_dropped() {
    let cluster = cluster::fifteen();
    let database = "attacked_before";
    cluster.create_database(database);
    let mut admin = cluster.admin(database);
    admin.run("CREATE SCHEMA tenantgate_attack; CREATE TABLE tenantgate_attack.precious (v int)");
    let port = cluster.address.port();
    let through = || format!("host=127.0.0.1 port={port} user=app_user dbname={database}");
    let (status, said) = attack(cluster, database, [through(), through()]);
    assert!(status == Some(2) && said.contains("already exists"), "{said}");
    assert_eq!(admin.rows("SELECT to_regclass('tenantgate_attack.precious') IS NOT NULL"), [[Some("t".to_owned())]]);
}
