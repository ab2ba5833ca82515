//! `tenantgate attack` through a guarded and a sealed proxy, and where there is none to hold it.

use std::process::Command;

use super::sealed;
use super::upheaval::certificate;
use crate::support::cluster::{self, Cluster};
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
    assert!(said.contains("455 attempts"), "each in five forms, COPY's too: {said}");
    let (status, said) =
        attack(cluster, database, [String::new(), String::new()].map(|_| "host=127.0.0.1 port=1".into()));
    assert_eq!(status, Some(2), "{said}");
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
