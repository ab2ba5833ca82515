//! The same messages to PostgreSQL directly and through TenantGate must bring the same replies.

use crate::support::cluster::{self, Cluster};
use crate::support::proxy::{Proxy, Wish};
use crate::support::raw::{Client, Pace, Target};
use crate::support::script::{self, Script};
use crate::support::transcript::{self, Side, aftermath, difference};
use crate::support::{alone, number};
use std::path::Path;
use std::time::Duration;

pub const DATABASE: &str = "scripts";
const PATIENCE: Duration = Duration::from_secs(8);
const SCHEMA: &str = include_str!("../scripts/schema.sql");
const ROWS: &str = include_str!("../scripts/rows.sql");

pub fn tenant(connection: char) -> String {
    format!("00000000-0000-0000-0000-00000000000{}", connection.to_ascii_lowercase())
}

fn selected() -> Vec<Script> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let wanted = std::env::var("TENANTGATE_SCRIPT").unwrap_or_default();
    let mut scripts = script::all(&folder);
    scripts.retain(|script| script.title.contains(&wanted) || script.place.starts_with(&wanted));
    scripts
}

/// A superuser in a database with the schema.
pub fn superuser(cluster: &Cluster) -> Client {
    cluster.create_database(DATABASE);
    let mut admin = cluster.admin(DATABASE);
    admin.run(SCHEMA);
    admin.run("SET lock_timeout = '5s'");
    admin
}

fn prepare(admin: &mut Client, script: &Script) {
    admin.run(ROWS);
    script.setup.iter().for_each(|sql| drop(admin.run(sql)));
    if !script.setup.is_empty() {
        admin.run("GRANT ALL ON ALL TABLES IN SCHEMA other TO app_user");
    }
}

pub fn direct(cluster: &Cluster, connection: char) -> Target {
    let options = format!("-c app.tenant_id={}", tenant(connection));
    Target::new(cluster.address, "app_user", DATABASE).with("options", &options)
}

/// The transcript of one side, with what the tables hold afterwards.
pub fn play(admin: &mut Client, script: &Script, side: &Side<'_>) -> Vec<String> {
    prepare(admin, script);
    let mut lines = transcript::of(script, side);
    lines.push("-- afterwards".to_owned());
    lines.extend(aftermath(admin));
    lines
}

fn compare(cluster: &Cluster, scripts: &[Script]) -> Vec<String> {
    let mut admin = superuser(cluster);
    // Only to try the scripts out while there is no proxy: both sides are PostgreSQL.
    let rehearsal = number("TENANTGATE_REHEARSAL", 0) == 1;
    let proxy =
        (!rehearsal).then(|| Proxy::start(&Wish { cluster, database: DATABASE, pool_size: 2, mutant: None, more: "" }));
    let natively = |connection: char| direct(cluster, connection);
    let proxied = |connection: char| match &proxy {
        Some(proxy) => proxy.target(&tenant(connection)),
        None => natively(connection),
    };
    let mut failures = Vec::new();
    for script in scripts.iter().filter(|script| (script.versions.0..=script.versions.1).contains(&cluster.version)) {
        let left = play(
            &mut admin,
            script,
            &Side { is_proxy: false, pace: Pace::Burst, patience: PATIENCE, target: &natively },
        );
        if std::env::var_os("TENANTGATE_SHOW").is_some() {
            eprintln!("== {} ({})\n   {}", script.title, script.place, left.join("\n   "));
        }
        if left.iter().any(|line| line.ends_with("TIMEOUT") || line.contains("cannot connect")) {
            failures.push(format!("{}: PostgreSQL {} itself: {left:#?}", script.place, cluster.version));
        }
        for pace in [Pace::Burst, Pace::Trickle] {
            let right =
                play(&mut admin, script, &Side { is_proxy: !rehearsal, pace, patience: PATIENCE, target: &proxied });
            if let Some(columns) = difference(&left, &right, script.has_refusals()) {
                let place = format!("{} PostgreSQL {} {pace:?}", script.place, cluster.version);
                eprintln!("DIFFERENT {place}: {}\n{columns}", script.title);
                failures.push(format!("{place}: {}", script.title));
            }
        }
    }
    if let Some(proxy) = proxy.filter(|_| !failures.is_empty()) {
        eprintln!("the proxy's last words:\n{}", proxy.log_tail());
    }
    failures
}

fn same_replies(cluster: &Cluster) {
    let _turn = alone();
    let scripts = selected();
    let failures = compare(cluster, &scripts);
    eprintln!("{} scripts on PostgreSQL {}, {} comparisons differ", scripts.len(), cluster.version, failures.len());
    assert!(failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn scripts_get_the_same_replies_on_15() {
    same_replies(cluster::fifteen());
}

#[test]
fn scripts_get_the_same_replies_on_18() {
    if let Some(cluster) = cluster::eighteen() {
        same_replies(cluster);
    }
}
