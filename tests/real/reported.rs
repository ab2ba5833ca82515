//! Reported settings that change on the server while nobody asked, by a reload or by ALTER ROLE: every client is told what
//! its server does, and keeps what it has set itself.

use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::inside::Inside;
use crate::support::proxy::Wish;
use crate::support::raw::{Client, Target};
use crate::support::reply::Reply;
use std::collections::BTreeMap;
use tenantgate::admin::Command;

const DATABASE: &str = "reported";
const ACME: &str = "00000000-0000-0000-0000-00000000000a";
const GLOBEX: &str = "00000000-0000-0000-0000-00000000000b";
const LOGIN: &str = "[logins.app]\npassword = \"demo\"\npreset = \"application\"\nsession_state = \"pin\"\ntenant.from = [\"suffix\"]\n";
const SHOWN: [&str; 4] = ["TimeZone", "DateStyle", "IntervalStyle", "standard_conforming_strings"];

/// A client that keeps what it is told, as drivers do to read dates.
struct Told {
    client: Client,
    parameters: BTreeMap<String, String>,
}

impl Told {
    fn connect(target: &Target) -> Self {
        let client = Client::connect(target);
        let parameters = client.startup.iter().filter(|reply| reply.tag == b'S').map(Reply::parameter).collect();
        Self { client, parameters }
    }

    fn run(&mut self, sql: &str) -> Vec<Reply> {
        let replies = self.client.run(sql);
        self.parameters.extend(replies.iter().filter(|reply| reply.tag == b'S').map(Reply::parameter));
        replies
    }

    /// What its server does, which at the end of the same answer is what it has been told.
    fn server(&mut self) -> Vec<String> {
        let columns = SHOWN.map(|name| format!("current_setting('{name}')")).join(", ");
        let replies = self.run(&format!("SELECT {columns}"));
        let row = replies.iter().find(|reply| reply.tag == b'D').expect("a row").row();
        let row: Vec<String> = row.into_iter().map(|value| value.expect("it is set")).collect();
        let told: Vec<String> = SHOWN.iter().map(|name| self.parameters[*name].clone()).collect();
        assert_eq!(told, row, "told, and what is so");
        row
    }

    fn zone(&mut self) -> String {
        self.server().swap_remove(0)
    }
}

fn on_servers_of_its_own(name: &str, proof: impl Fn(&Cluster, &Inside)) {
    for version in [15, 18] {
        let cluster = match version {
            15 => Some(crate::support::cluster::private(name)),
            _ => crate::support::cluster::private_eighteen(&format!("{name}18")),
        };
        let Some(cluster) = cluster else { continue };
        cluster.create_filled_database(DATABASE);
        for lifetime in ["", "[scope]\nlifetime = \"lease\"\n"] {
            let more = format!("{LOGIN}{lifetime}");
            proof(
                &cluster,
                &Inside::start(&Wish {
                    cluster: &cluster,
                    database: DATABASE,
                    pool_size: 4,
                    mutant: None,
                    more: &more,
                }),
            );
        }
    }
}

fn reload_with(cluster: &Cluster, setting: &str) {
    let mut admin = cluster.admin(DATABASE);
    admin.run(&format!("ALTER SYSTEM SET {setting}"));
    admin.run("SELECT pg_reload_conf()");
}

fn app(proxy: &Inside, tenant: &str) -> Target {
    proxy.login(&format!("app.{tenant}"), "demo")
}

#[test]
fn a_reload_of_the_server_reaches_everybody_but_those_who_have_set_it_themselves() {
    on_servers_of_its_own("reloaded", |cluster, proxy| {
        let mut plain: Vec<Told> =
            [ACME, GLOBEX].into_iter().cycle().take(4).map(|tenant| Told::connect(&proxy.target(tenant))).collect();
        let mut own = Told::connect(&proxy.target(ACME));
        own.run("SET TimeZone = 'Asia/Tokyo'; SET DateStyle = 'German'");
        let mut startup = Told::connect(&proxy.target(GLOBEX).with("TimeZone", "Europe/Paris"));
        let mut inside = Told::connect(&app(proxy, ACME));
        let mut pinned = Told::connect(&app(proxy, GLOBEX));
        pinned.run("CREATE TEMP TABLE t AS SELECT 1 AS v; SET IntervalStyle = 'iso_8601'");
        for (zone, style) in [("America/New_York", "SQL, DMY"), ("Asia/Kolkata", "ISO, YMD"), ("UTC", "ISO, MDY")] {
            inside.run("BEGIN");
            let begun_with = inside.zone();
            assert_ne!(begun_with, zone);
            reload_with(cluster, &format!("TimeZone = '{zone}'"));
            reload_with(cluster, &format!("DateStyle = '{style}'"));
            // A new setting of that server's own that the guard and the parser rely on would be one that counts.
            reload_with(cluster, "standard_conforming_strings = off");
            eventually("it has come to all of them", || {
                let mut have_it = 0;
                for client in plain.iter_mut().chain([&mut inside]) {
                    have_it += usize::from(client.server()[..2] == [zone, style]);
                }
                let server = pinned.server();
                assert_eq!(server[2], "iso_8601", "its own");
                have_it += usize::from(server[..2] == [zone, style]);
                assert_eq!(own.server()[..2], ["Asia/Tokyo", "German, DMY"], "its own");
                assert_eq!(startup.zone(), "Europe/Paris", "its own");
                have_it == 6
            });
            assert!(plain.iter_mut().all(|client| client.server()[3] == "on"));
            inside.run("COMMIT");
            assert_eq!(pinned.client.value("SELECT v FROM t"), "1");
            // All servers that knew another default are gone by now: who comes is told the new one at once.
            let newcomer = Told::connect(&proxy.target(ACME));
            assert_eq!(
                (newcomer.parameters["TimeZone"].as_str(), newcomer.parameters["DateStyle"].as_str()),
                (zone, style)
            );
            let newcomer = Told::connect(&proxy.target(ACME).with("IntervalStyle", "iso_8601"));
            assert_eq!(newcomer.parameters["TimeZone"], zone);
            let client = &mut plain[0];
            client.run("SET TimeZone = 'Asia/Tokyo'");
            client.run("RESET ALL");
            assert_eq!(client.parameters["TimeZone"], zone, "told at once");
            assert_eq!(client.zone(), zone);
        }
    });
}

/// New servers have other defaults than those that are there: whoever gets the one or the other is told so.
#[test]
fn another_default_of_the_role_reaches_whoever_gets_a_new_server() {
    on_servers_of_its_own("altered", |cluster, proxy| {
        let mut admin = cluster.admin(DATABASE);
        admin.run("ALTER ROLE app_user SET TimeZone = 'UTC'");
        let mut plain: Vec<Told> =
            [ACME, GLOBEX].into_iter().cycle().take(4).map(|tenant| Told::connect(&proxy.target(tenant))).collect();
        let mut own = Told::connect(&proxy.target(ACME));
        own.run("SET TimeZone = 'Asia/Tokyo'");
        // Two servers of the old kind.
        plain[0].run("BEGIN");
        assert_eq!((plain[1].zone(), plain[0].zone()), ("UTC".to_owned(), "UTC".to_owned()));
        plain[0].run("COMMIT");
        admin.run("ALTER ROLE app_user SET TimeZone = 'Asia/Kolkata'");
        assert!(plain.iter_mut().all(|client| client.zone() == "UTC"), "servers keep what they began with");
        let one = "SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity WHERE usename = 'app_user' AND \
                   datname = 'reported' ORDER BY backend_start LIMIT 1";
        admin.run(one);
        let mut seen = std::collections::BTreeSet::new();
        for round in 0..20 {
            // Somebody holds one server, so that the others get another.
            plain[round % 4].run("BEGIN");
            for client in &mut plain {
                seen.insert(client.zone());
            }
            assert_eq!(own.zone(), "Asia/Tokyo");
            plain[round % 4].run("COMMIT");
        }
        assert_eq!(seen.iter().map(String::as_str).collect::<Vec<_>>(), ["Asia/Kolkata", "UTC"], "both kinds serve");
        proxy.perform(Command::Reconnect(None)).unwrap();
        eventually("all have the new one", || plain.iter_mut().all(|client| client.zone() == "Asia/Kolkata"));
        assert_eq!(own.zone(), "Asia/Tokyo");
        assert_eq!(Told::connect(&proxy.target(ACME)).parameters["TimeZone"], "Asia/Kolkata");
        own.run("RESET ALL");
        assert_eq!(own.zone(), "Asia/Kolkata");
        admin.run("ALTER ROLE app_user RESET TimeZone");
    });
}
