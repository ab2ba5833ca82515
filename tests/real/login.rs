//! Who gets in, with which tenant, and what the others are told.

use crate::support::alone;
use crate::support::cluster::{self, Cluster};
use crate::support::proxy::{Proxy, Wish};
use crate::support::raw::{Client, Target};

const DATABASE: &str = "login";
const ACME: &str = "00000000-0000-0000-0000-00000000000a";
const GLOBEX: &str = "00000000-0000-0000-0000-00000000000b";
const TENANT_SHOWN: &str = "SELECT current_setting('app.tenant_id', true)";

/// Starts a proxy and hands it to the proof.
fn with_proxy(proof: impl FnOnce(&Proxy)) {
    let _turn = alone();
    let cluster = cluster::fifteen();
    cluster.create_database(DATABASE);
    let proxy = Proxy::start(&Wish { cluster, database: DATABASE, pool_size: 2, mutant: None, more: "" });
    proof(&proxy);
}

fn login(proxy: &Proxy, user: &str) -> Target {
    Target::new(proxy.address, user, DATABASE).password("demo")
}

/// The refusal's SQLSTATE, the code its message begins with, and the message.
fn refusal(target: &Target) -> (String, String, String) {
    let client = Client::try_connect(target).expect("the proxy answers");
    let last = client.startup.last().expect("an answer");
    assert_eq!(last.tag, b'E', "let in: {target:?}");
    let fields = last.fields();
    assert_eq!(fields[&'S'], "FATAL");
    assert!(fields.contains_key(&'H'), "no hint: {fields:?}");
    (fields[&'C'].clone(), fields[&'M'].split(':').next().unwrap().to_owned(), fields[&'M'].clone())
}

#[test]
fn the_tenant_comes_from_the_user_name_the_startup_or_the_login() {
    with_proxy(|proxy| {
        let by_suffix = login(proxy, &format!("app_user.{ACME}"));
        let by_parameter = login(proxy, "app_user").with("app.tenant_id", GLOBEX);
        let by_options = login(proxy, "app_user").with("options", &format!("-c app.tenant_id={GLOBEX}"));
        let fixed = login(proxy, "acme_app");
        for (target, tenant) in [(by_suffix, ACME), (by_parameter, GLOBEX), (by_options, GLOBEX), (fixed, ACME)] {
            assert_eq!(Client::connect(&target).value(TENANT_SHOWN), tenant, "{target:?}");
        }
    });
}

#[test]
fn scram_towards_clients_and_servers() {
    with_proxy(|proxy| {
        let mut target = login(proxy, &format!("app_user.{ACME}"));
        target.parameters[1].1 = "by_scram".to_owned();
        let mut client = Client::connect(&target);
        assert_eq!(client.value("SELECT current_user"), "scram_user");
        assert_eq!(client.value(TENANT_SHOWN), ACME);
    });
}

#[test]
fn no_tenant_a_malformed_and_a_forbidden_one_have_codes_of_their_own() {
    with_proxy(|proxy| {
        let missing = refusal(&login(proxy, "app_user"));
        assert_eq!((missing.0.as_str(), missing.1.as_str()), ("28000", "TG001"), "{missing:?}");
        let malformed = refusal(&login(proxy, "app_user.not-a-uuid"));
        assert_eq!((malformed.0.as_str(), malformed.1.as_str()), ("28000", "TG002"), "{malformed:?}");
        let forbidden = refusal(&login(proxy, &format!("picky.{GLOBEX}")));
        assert_eq!((forbidden.0.as_str(), forbidden.1.as_str()), ("28000", "TG003"), "{forbidden:?}");
        assert_eq!(Client::connect(&login(proxy, &format!("picky.{ACME}"))).value(TENANT_SHOWN), ACME);
    });
}

#[test]
fn an_unknown_user_and_a_wrong_password_are_told_the_same() {
    with_proxy(|proxy| {
        let wrong = refusal(&login(proxy, "acme_app").password("wrong"));
        let unknown = refusal(&login(proxy, "nobody_here").password("wrong"));
        assert_eq!(wrong.0, "28P01");
        let without_names = |said: &str| said.replace("acme_app", "x").replace("nobody_here", "x");
        assert_eq!((without_names(&wrong.2), wrong.0), (without_names(&unknown.2), unknown.0));
    });
}

#[test]
fn an_unknown_database_and_replication_are_refused() {
    with_proxy(|proxy| {
        let mut unknown = login(proxy, "acme_app");
        unknown.parameters[1].1 = "nosuch".to_owned();
        assert_eq!(refusal(&unknown).0, "3D000");
        assert_eq!(refusal(&login(proxy, "acme_app").with("replication", "database")).1, "TG031");
        assert_eq!(refusal(&login(proxy, "acme_app").with("session_replication_role", "replica")).1, "TG046");
    });
}

#[test]
fn the_pool_is_shared_by_all_tenants() {
    with_proxy(|proxy| {
        let backends: std::collections::BTreeSet<String> = (1..=20)
            .map(|number| {
                let tenant = format!("00000000-0000-0000-0000-{number:012x}");
                let mut client = Client::connect(&proxy.target(&tenant));
                let rows = client
                    .rows(&format!("SELECT pg_backend_pid(), current_setting('app.tenant_id', true) = '{tenant}'"));
                assert_eq!(rows[0][1].as_deref(), Some("t"));
                rows[0][0].clone().unwrap()
            })
            .collect();
        assert!(backends.len() <= 2, "{backends:?}");
    });
}

/// Who may log in may ask for what no server takes, as often as it likes: that costs no server.
fn refused_startup_values_cost_no_server(cluster: &Cluster) {
    let _turn = alone();
    cluster.create_database(DATABASE);
    let proxy = Proxy::start(&Wish { cluster, database: DATABASE, pool_size: 1, mutant: None, more: "" });
    let target = || login(&proxy, &format!("app_user.{ACME}"));
    let mut other = Client::connect(&target().with("TimeZone", "Asia/Tokyo"));
    let before = other.value("SELECT pg_backend_pid()");
    for attempt in 0..50 {
        // What the server takes in front of the refusal must not stay.
        let wrong = match attempt % 3 {
            0 => target().with("TimeZone", "Nowhere/Nothing"),
            1 => target().with("DateStyle", &format!("SQL, {attempt}")),
            _ => target().with("IntervalStyle", "iso_8601").with("TimeZone", "Nowhere/Nothing"),
        };
        let said = refusal_without_hint(&wrong);
        assert_eq!(said, "22023", "{wrong:?}");
    }
    let shown = "SELECT pg_backend_pid() || current_setting('TimeZone') || current_setting('IntervalStyle')";
    assert_eq!(other.value(shown), format!("{before}Asia/Tokyopostgres"), "{}", proxy.log_tail());
    let mut plain = Client::connect(&target());
    assert_eq!(plain.value("SELECT pg_backend_pid()"), before);
    assert_ne!(plain.value("SHOW TimeZone"), "Asia/Tokyo");
}

fn refusal_without_hint(target: &Target) -> String {
    let client = Client::try_connect(target).expect("the proxy answers");
    let last = client.startup.last().expect("an answer");
    assert_eq!(last.tag, b'E', "let in: {target:?}");
    last.fields()[&'C'].clone()
}

#[test]
fn refused_startup_values_cost_no_server_of_15() {
    refused_startup_values_cost_no_server(cluster::fifteen());
}

#[test]
fn refused_startup_values_cost_no_server_of_18() {
    if let Some(cluster) = cluster::eighteen() {
        refused_startup_values_cost_no_server(cluster);
    }
}
