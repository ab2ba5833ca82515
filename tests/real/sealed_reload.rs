//! A reload that seals a database, or changes one that is sealed, asks the database first, as `serve` does.

use crate::sealed::{KEY, configured, prepare, said};
use crate::support::cluster;
use crate::support::proxy::Proxy;
use crate::support::raw::Client;

const DATABASE: &str = "sealed_reload";
const GRANT: &str = "GRANT TEMP ON DATABASE sealed_reload TO app_user";
const REVOKE: &str = "REVOKE TEMP ON DATABASE sealed_reload FROM app_user";

#[test]
fn a_reload_that_seals_what_does_not_hold_is_refused() {
    for cluster in cluster::every() {
        prepare(cluster, DATABASE);
        let mut admin = cluster.admin(DATABASE);
        let sealed = format!("seal = true\nseal_key = \"{KEY}\"");
        let proxy = Proxy::start_with(DATABASE, None, |address, _| {
            configured(cluster, DATABASE, 2, address).replace(&sealed, "seal = false")
        });
        let mut client = Client::connect(&proxy.target("a"));
        // Its ticket is missed: what serves it is the unsealed configuration.
        let is_unsealed = |client: &mut Client| said(&client.query("SELECT note FROM notes")).contains("no tenant");
        assert!(is_unsealed(&mut client));

        admin.run(GRANT);
        proxy.edit("seal = false", &sealed);
        assert!(!proxy.reload(), "on {}", cluster.version);
        let log = proxy.log();
        assert!(log.contains("TG160") && log.contains("may create temporary objects"), "{log}");
        assert!(is_unsealed(&mut client), "the old configuration stays, on {}", cluster.version);

        admin.run(REVOKE);
        assert!(proxy.reload(), "{}", proxy.log_tail());
        let mut client = Client::connect(&proxy.target("a"));
        assert_eq!(client.value("SELECT note FROM notes"), "a-note");

        // Another role of a sealed database is asked as itself.
        proxy.edit("[roles.app]\nuser = \"app_user\"", "[roles.app]\nuser = \"postgres\"");
        assert!(!proxy.reload(), "on {}", cluster.version);
        assert_eq!(proxy.log().matches("TG160").count(), 2, "{}", proxy.log_tail());
        proxy.edit("[roles.app]\nuser = \"postgres\"", "[roles.app]\nuser = \"app_user\"");
        assert_eq!(client.value("SELECT note FROM notes"), "a-note");

        // What has nothing to do with the seal is not held up by a database that has ceased to hold: no server of it is used.
        admin.run(GRANT);
        proxy.edit("\"work_mem\"", "\"work_mem\", \"geqo\"");
        assert!(proxy.reload(), "{}", proxy.log_tail());
        admin.run(REVOKE);
    }
}
