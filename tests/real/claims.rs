//! Claims: a client's own statements name its tenant, and everything else is as in PostgreSQL itself.

use crate::scripts::{DATABASE as SCRIPTS, play, superuser};
use crate::support::alone;
use crate::support::cluster::{Cluster, every, fifteen};
use crate::support::proxy::{Proxy, Wish};
use crate::support::raw::{Pace, Target};
use crate::support::script;
use crate::support::transcript::Side;
use std::path::Path;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(8);

/// Logins that may claim: trusted code that keeps what it may, a tenant's, and one of transactions only.
const LOGINS: &str = r#"
[logins.claims]
password = "demo"
claims = "session"

[logins.claims_pinned]
password = "demo"
preset = "application"
claims = "session"

[logins.claims_whole]
password = "demo"
pool_mode = "session"
claims = "session"

[logins.local]
password = "demo"
claims = "transaction"
tenant.allowed = { pattern = "00000000-*" }
"#;

fn compare(cluster: &Cluster, login: &str) {
    let mut admin = superuser(cluster);
    let proxy = Proxy::start(&Wish { cluster, database: SCRIPTS, pool_size: 2, mutant: None, more: LOGINS });
    let natively = |_: char| Target::new(cluster.address, "app_user", SCRIPTS);
    let proxied = |_: char| Target::new(proxy.address, login, SCRIPTS).password("demo");
    let mut failures = Vec::new();
    let wanted = std::env::var("TENANTGATE_SCRIPT").unwrap_or_default();
    let scripts = script::all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/claims"));
    for script in scripts.iter().filter(|script| script.title.contains(&wanted)) {
        let left = play(&mut admin, script, &Side::native(&natively, PATIENCE));
        for pace in [Pace::Burst, Pace::Trickle] {
            let right = play(&mut admin, script, &Side::proxy(&proxied, PATIENCE, pace));
            if let Some(columns) = script.complaint(&left, &right) {
                eprintln!(
                    "DIFFERENT {} {login} PostgreSQL {} {pace:?}: {}\n{columns}",
                    script.place, cluster.version, script.title
                );
                failures.push(format!("{} {pace:?} {}", script.place, script.title));
            }
        }
    }
    if !failures.is_empty() {
        eprintln!("the proxy's last words:\n{}", proxy.log_tail());
    }
    assert!(failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
    eprintln!("{} scripts over {login} on {}", scripts.len(), cluster.version);
}

#[test]
fn scripts_with_claims_get_the_same_replies() {
    let _turn = alone();
    for cluster in every() {
        compare(cluster, "claims");
    }
    compare(fifteen(), "claims_pinned");
    compare(fifteen(), "claims_whole");
}
