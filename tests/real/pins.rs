//! Session state: it stays with its client, meets nobody else, and is gone when the client is.

use crate::support::cluster::{Cluster, every};
use crate::support::inside::Inside;
use crate::support::message::Message;
use crate::support::proxy::{Wish, ledger, login_of_its_own};
use crate::support::raw::{Client, Target};
use crate::support::reply::Reply;
use crate::support::{alone, eventually};
use tenantgate::admin::{Command, Operations as _, ShutdownMode};

const DATABASE: &str = "pins";
const ACME: &str = "00000000-0000-0000-0000-00000000000a";
const GLOBEX: &str = "00000000-0000-0000-0000-00000000000b";

/// Three logins over one pool: a tenant's that pins, an application's, one with session pooling.
const LOGINS: &str = r#"
[logins.keeper]
password = "demo"
session_state = "pin"
tenant.from = ["suffix"]

[logins.app]
password = "demo"
preset = "application"
tenant.from = ["suffix"]

[logins.whole]
password = "demo"
preset = "application"
pool_mode = "session"
tenant.from = ["suffix"]
"#;

fn start(cluster: &Cluster, pool_size: u32, more: &str) -> Inside {
    cluster.create_filled_database(DATABASE);
    let more = format!("{LOGINS}{more}");
    Inside::start(&Wish { cluster, database: DATABASE, pool_size, mutant: None, more: &more })
}

fn on_every_server(pool_size: u32, more: &str, proof: impl Fn(&Cluster, &mut Inside)) {
    let _turn = alone();
    // A tenant that stays on its server composes with what stays there of its client's.
    for lifetime in ["", "[scope]\nlifetime = \"lease\"\n"] {
        for cluster in every() {
            proof(cluster, &mut start(cluster, pool_size, &format!("{lifetime}{more}")));
        }
    }
}

fn target(proxy: &Inside, login: &str, tenant: &str) -> Target {
    proxy.login(&format!("{login}.{tenant}"), "demo")
}

fn connect(proxy: &Inside, login: &str, tenant: &str) -> Client {
    Client::connect(&target(proxy, login, tenant))
}

fn pid(client: &mut Client) -> String {
    client.value("SELECT pg_backend_pid()")
}

fn sqlstate(replies: &[Reply]) -> String {
    let error = replies.iter().find(|reply| reply.tag == b'E').unwrap_or_else(|| panic!("no error in {replies:?}"));
    error.fields()[&'C'].clone()
}

fn words(replies: &[Reply]) -> String {
    let error = replies.iter().find(|reply| reply.tag == b'E').unwrap_or_else(|| panic!("no error in {replies:?}"));
    error.fields()[&'M'].clone()
}

/// How many servers stay with their clients.
fn pinned(proxy: &Inside) -> usize {
    proxy.operations().clients().iter().filter(|row| row.pinned.is_some()).count()
}

fn kinds(proxy: &Inside) -> Vec<String> {
    proxy.operations().clients().iter().filter_map(|row| row.pinned.as_deref().map(str::to_owned)).collect()
}

/// The channel and payload of the next message, which is a notification.
fn notification(client: &mut Client) -> (String, String) {
    let reply = client.reply().expect("a notification");
    assert_eq!(char::from(reply.tag), 'A', "{reply:?}");
    let texts: Vec<_> = reply.body[4..].split(|byte| *byte == 0).collect();
    (String::from_utf8_lossy(texts[0]).into_owned(), String::from_utf8_lossy(texts[1]).into_owned())
}

/// A tag for each kind of state: each statement leaves one.
const MAKE: [(&str, &str); 5] = [
    ("CREATE TEMP TABLE t AS SELECT 1 AS v", "temporary"),
    ("LISTEN jobs", "channels"),
    ("DECLARE c CURSOR WITH HOLD FOR SELECT generate_series(1, 9)", "cursors"),
    ("PREPARE a (int) AS SELECT $1 + 1", "prepared"),
    ("SELECT pg_advisory_lock(42)", "locks"),
];

/// The types of these replies.
fn tags_of(replies: &[Reply]) -> String {
    replies.iter().map(|reply| char::from(reply.tag)).collect()
}

#[test]
fn every_kind_of_state_stays_over_transactions_and_ends_when_it_is_released() {
    on_every_server(2, "", |_, proxy| {
        let releases =
            ["DROP TABLE pg_temp.t", "UNLISTEN jobs", "CLOSE c", "DEALLOCATE a", "SELECT pg_advisory_unlock(42)"];
        let uses = ["SELECT v FROM t", "SELECT pg_listening_channels()", "FETCH c", "EXECUTE a (1)", "SELECT 1"];
        let mut client = connect(proxy, "app", ACME);
        let mut other = connect(proxy, "app", GLOBEX);
        for (((make, kind), using), release) in MAKE.iter().zip(uses).zip(releases) {
            client.run(make);
            eventually("it is pinned", || kinds(proxy) == [*kind]);
            let own = pid(&mut client);
            for _ in 0..3 {
                assert_ne!(pid(&mut other), own, "another client works on the pinned server");
                client.run(using);
                assert_eq!(pid(&mut client), own);
            }
            client.run(release);
            eventually("it is not pinned any more", || pinned(proxy) == 0);
        }
        assert_eq!(proxy.operations().servers().len(), 2, "no server had to be closed");
    });
}

/// Asks by the extended protocol: in one segment, or with the statement prepared by name in one before.
fn extended(client: &mut Client, sql: &str, name: &str) -> Vec<Reply> {
    client.send(&Message::parse(name, sql));
    if !name.is_empty() {
        client.send(&Message::Sync).flush().unwrap();
        assert_eq!(client.replies_to(b'Z').1, None, "{sql}");
    }
    client.send(&Message::bind(name, &[])).send(&Message::execute());
    if !name.is_empty() {
        client.send(&Message::CloseStatement(name.to_owned()));
    }
    client.send(&Message::Sync).flush().unwrap();
    let (replies, silence) = client.replies_to(b'Z');
    assert_eq!(silence, None, "{sql}: {replies:?}");
    if let Some(error) = replies.iter().find(|reply| reply.tag == b'E') {
        panic!("{sql:?}: {}", error.line(&mut vec![]));
    }
    replies
}

/// What drivers send: the same by the extended protocol, unnamed and by name.
#[test]
fn state_made_and_released_by_the_extended_protocol_stays_alike() {
    on_every_server(2, "", |cluster, proxy| {
        let releases =
            ["DROP TABLE pg_temp.t", "UNLISTEN jobs", "CLOSE c", "DEALLOCATE a", "SELECT pg_advisory_unlock(42)"];
        let uses = ["SELECT v FROM t", "SELECT pg_listening_channels()", "FETCH c", "EXECUTE a (1)", "SELECT 1"];
        for name in ["", "s"] {
            let mut client = connect(proxy, "app", ACME);
            let mut other = connect(proxy, "app", GLOBEX);
            for (((make, kind), using), release) in MAKE.iter().zip(uses).zip(releases) {
                extended(&mut client, make, name);
                eventually("it is pinned", || kinds(proxy) == [*kind]);
                let own = pid(&mut client);
                for _ in 0..3 {
                    assert_ne!(pid(&mut other), own, "another client works on the pinned server");
                    let replies = extended(&mut client, using, name);
                    assert!(replies.iter().any(|reply| reply.tag == b'D'), "{using}: {replies:?}");
                }
                if *kind == "channels" {
                    extended(&mut other, "NOTIFY jobs, 'one'", name);
                    assert_eq!(notification(&mut client).1, "one");
                }
                extended(&mut client, release, name);
                eventually("it is not pinned any more", || pinned(proxy) == 0);
            }
            // In a block by the extended protocol, and undone.
            for sql in ["BEGIN", MAKE[0].0, "LISTEN jobs", "ROLLBACK"] {
                extended(&mut client, sql, name);
            }
            eventually("nothing is pinned", || pinned(proxy) == 0);
            MAKE.iter().for_each(|(make, _)| drop(extended(&mut client, make, name)));
            eventually("all is pinned", || kinds(proxy) == ["temporary,channels,cursors,prepared,locks"]);
            drop(client);
            drop(other);
            eventually("nothing is pinned", || pinned(proxy) == 0);
            assert_nothing_left(cluster, proxy, GLOBEX);
        }
        assert_eq!(proxy.operations().servers().len(), 2, "no server had to be closed");
    });
}

#[test]
fn what_is_undone_pins_nothing() {
    on_every_server(1, "", |_, proxy| {
        let mut client = connect(proxy, "app", ACME);
        let own = pid(&mut client);
        for undone in [
            "BEGIN; CREATE TEMP TABLE t (v int); LISTEN jobs; ROLLBACK",
            "CREATE TEMP TABLE t AS SELECT 1 / 0",
            "BEGIN; SAVEPOINT s; CREATE TEMP TABLE t (v int); ROLLBACK TO s; COMMIT",
            "CREATE TEMP TABLE t ON COMMIT DROP AS SELECT 1",
            "SELECT pg_advisory_lock(1); SELECT pg_advisory_unlock(1)",
            "PREPARE a AS SELECT 1; DEALLOCATE a",
            "CREATE TEMP TABLE t (v int); DROP TABLE pg_temp.t",
        ] {
            client.query(undone);
            eventually(&format!("nothing is pinned: {undone}"), || pinned(proxy) == 0);
            // The only server serves somebody else.
            assert_eq!(pid(&mut connect(proxy, "keeper", GLOBEX)), own, "{undone}");
        }
    });
}

#[test]
fn release_statements_of_pools_really_release() {
    on_every_server(1, "", |_, proxy| {
        let mut client = connect(proxy, "app", ACME);
        let own = pid(&mut client);
        let parse = |sql: &str| {
            [
                Message::Parse { name: String::new(), sql: sql.to_owned(), types: vec![] },
                Message::Bind {
                    portal: String::new(),
                    statement: String::new(),
                    values: vec![],
                    binary_results: false,
                },
                Message::Execute { portal: String::new(), rows_max: 0 },
                Message::Sync,
            ]
        };
        for sql in ["DISCARD ALL", "all by itself"] {
            for is_extended in [false, true] {
                MAKE.iter().for_each(|(make, _)| drop(client.run(make)));
                eventually("all is pinned", || kinds(proxy) == ["temporary,channels,cursors,prepared,locks"]);
                if is_extended {
                    client.send_all(&parse("DISCARD ALL"));
                    client.flush().unwrap();
                    let (replies, silence) = client.replies_to(b'Z');
                    assert_eq!(silence, None, "{replies:?}");
                    let tags: String = replies.iter().map(|reply| char::from(reply.tag)).collect();
                    assert_eq!(tags, "12CZ");
                } else if sql == "DISCARD ALL" {
                    let replies = client.run(sql);
                    assert_eq!(replies.iter().map(|reply| char::from(reply.tag)).collect::<String>(), "CZ");
                } else {
                    let replies = client.run(
                        "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL; DISCARD TEMP; DEALLOCATE ALL",
                    );
                    assert_eq!(replies.iter().map(|reply| char::from(reply.tag)).collect::<String>(), "TDCCCCCCZ");
                }
                eventually("nothing is pinned", || pinned(proxy) == 0);
                assert_eq!(sqlstate(&client.query("EXECUTE a (1)")), "26000");
                assert_eq!(sqlstate(&client.query("SELECT v FROM t")), "42P01");
                assert_eq!(pid(&mut connect(proxy, "app", GLOBEX)), own, "the server was closed");
            }
        }
    });
}

/// What a server carries, as far as its own session can tell.
fn assert_nothing_left(cluster: &Cluster, proxy: &Inside, tenant: &str) {
    let mut other = connect(proxy, "app", tenant);
    let pid = pid(&mut other);
    assert_eq!(other.value("SELECT count(*) FROM pg_listening_channels()"), "0");
    assert_eq!(other.value("SELECT count(*) FROM pg_cursors WHERE is_holdable"), "0");
    assert_eq!(sqlstate(&other.query("EXECUTE a (1)")), "26000");
    assert_eq!(sqlstate(&other.query("SELECT v FROM t")), "42P01");
    let locks = format!("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = {pid}");
    assert_eq!(cluster.admin(DATABASE).value(&locks), "0");
}

#[test]
fn nothing_is_left_when_the_client_leaves_in_whatever_way() {
    on_every_server(1, "", |cluster, proxy| {
        for login in ["app", "whole"] {
            for way in ["terminate", "vanish", "in a block", "killed"] {
                let mut client = connect(proxy, login, ACME);
                MAKE.iter().for_each(|(make, _)| drop(client.run(make)));
                let before = pid(&mut client);
                match way {
                    "terminate" => client.bye(),
                    "vanish" => drop(client),
                    "in a block" => {
                        client.run("BEGIN; INSERT INTO t VALUES (2)");
                        drop(client);
                    }
                    _ => {
                        let id =
                            proxy.operations().clients().iter().find(|row| row.pinned.is_some()).unwrap().process_id;
                        proxy.perform(Command::KillClient(id)).unwrap();
                        assert!(client.last_words().starts_with("TG071"));
                    }
                }
                eventually("nothing is pinned", || pinned(proxy) == 0);
                assert_nothing_left(cluster, proxy, GLOBEX);
                let after = pid(&mut connect(proxy, "keeper", GLOBEX));
                assert_eq!(after == before, way != "killed", "{way}: cleaned with proof, or closed");
            }
        }
    });
}

#[test]
fn notifications_reach_the_listener_while_it_is_idle_and_nobody_else() {
    on_every_server(3, "", |cluster, proxy| {
        let mut listener = connect(proxy, "app", ACME);
        let mut sender = connect(proxy, "app", GLOBEX);
        let mut other = connect(proxy, "app", GLOBEX);
        listener.run("LISTEN jobs");
        sender.run("NOTIFY jobs, 'one'");
        assert_eq!(notification(&mut listener), ("jobs".to_owned(), "one".to_owned()));
        cluster.admin(DATABASE).run("SELECT pg_notify('jobs', 'two')");
        assert_eq!(notification(&mut listener), ("jobs".to_owned(), "two".to_owned()));
        // In a transaction it comes behind it, as from PostgreSQL.
        listener.run("BEGIN; SELECT 1");
        sender.run("SELECT pg_notify('jobs', 'three')");
        listener.run("SELECT 2");
        let tags = tags_of(&listener.run("COMMIT"));
        assert!(tags == "CAZ" || { tags == "CZ" && notification(&mut listener).1 == "three" }, "{tags}");
        let own = listener.run("NOTIFY jobs, 'own'");
        assert_eq!(tags_of(&own), "CAZ");
        let number = own[1].body.first_chunk().map(|number| i32::from_be_bytes(*number));
        assert_eq!(number, Some(listener.process_id()), "the number that the client was told as its own");
        // A server tells of what was committed before it answers what comes behind.
        assert_eq!(tags_of(&other.run("SELECT 1")), "TDCZ");
        assert_eq!(tags_of(&other.run("SELECT 1")), "TDCZ");
        listener.run("UNLISTEN jobs");
        eventually("nothing is pinned", || pinned(proxy) == 0);
        sender.run("NOTIFY jobs, 'four'");
        assert_eq!(tags_of(&listener.run("SELECT 1")), "TDCZ");
        assert_eq!(tags_of(&listener.run("SELECT 1")), "TDCZ");
    });
}

#[test]
fn the_end_of_its_server_reaches_an_idle_pinned_client_in_postgresqls_words() {
    on_every_server(2, "", |cluster, proxy| {
        let mut client = connect(proxy, "app", ACME);
        client.run("LISTEN jobs");
        let own = pid(&mut client);
        cluster.admin(DATABASE).run(&format!("SELECT pg_terminate_backend({own})"));
        assert_eq!(client.last_words(), "terminating connection due to administrator command");
        eventually("nothing is pinned", || pinned(proxy) == 0);
        // One that has left nothing does not hear of it.
        let mut plain = connect(proxy, "app", ACME);
        let own = pid(&mut plain);
        let mut admin = cluster.admin(DATABASE);
        admin.run(&format!("SELECT pg_terminate_backend({own})"));
        let count = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {own}");
        eventually("it has ended", || admin.value(&count) == "0");
        plain.run("SELECT 1");
    });
}

#[test]
fn with_session_pooling_the_server_stays_until_the_client_leaves() {
    on_every_server(2, "", |_, proxy| {
        let mut client = connect(proxy, "whole", ACME);
        let own = pid(&mut client);
        assert_eq!(client.value("SELECT current_setting('app.tenant_id')"), ACME);
        client.run("SET work_mem = '5MB'");
        assert_eq!((pid(&mut client), client.value("SHOW work_mem")), (own.clone(), "5MB".to_owned()));
        assert_eq!(sqlstate(&client.query("SET app.tenant_id = 'x'")), "42501");
        assert_eq!(pinned(proxy), 1);
        client.bye();
        eventually("nothing is pinned", || pinned(proxy) == 0);
        let mut other = connect(proxy, "whole", GLOBEX);
        assert_eq!((pid(&mut other), other.value("SHOW work_mem")), (own, "4MB".to_owned()));
        assert_eq!(other.value("SELECT count(*) FROM items"), "2");
    });
}

#[test]
fn the_last_value_of_a_sequence_is_the_sessions_own() {
    on_every_server(1, "", |cluster, proxy| {
        cluster.admin(DATABASE).run("CREATE SEQUENCE s; GRANT ALL ON s TO app_user");
        let mut plain = connect(proxy, "app", GLOBEX);
        plain.run("SELECT nextval('s')");
        let mut client = connect(proxy, "whole", ACME);
        assert_eq!(sqlstate(&client.query("SELECT lastval()")), "55000");
        assert_eq!(client.value("SELECT nextval('s')"), "2");
        assert_eq!(client.value("SELECT lastval()"), "2");
        assert_eq!(client.value("SELECT currval('s')"), "2");
    });
}

#[test]
fn so_many_servers_may_stay_and_no_more() {
    for (more, code) in [
        ("[limits.tenant]\npins_max = 1\n", "TG110"),
        ("[limits.login]\npins_max = 1\n", "TG111"),
        ("[databases.pins.pool]\npins_max = 1\n", "TG112"),
    ] {
        on_every_server(3, more, |_, proxy| {
            let mut first = connect(proxy, "app", ACME);
            let mut second = connect(proxy, "app", ACME);
            first.run("LISTEN jobs");
            let refused = second.query("LISTEN jobs");
            assert_eq!((sqlstate(&refused).as_str(), &words(&refused)[..5]), ("53300", code));
            second.run("BEGIN; SELECT 1");
            assert_eq!(sqlstate(&second.query("CREATE TEMP TABLE t (v int)")), "53300");
            assert_eq!(sqlstate(&second.query("SELECT 1")), "25P02");
            second.run("ROLLBACK");
            let mut whole = connect(proxy, "whole", ACME);
            assert_eq!(whole.query("SELECT 1").iter().any(|reply| reply.tag == b'E'), code != "TG111");
            whole.bye();
            first.run("UNLISTEN jobs");
            eventually("the place is free", || second.query("LISTEN jobs").iter().all(|reply| reply.tag != b'E'));
        });
    }
}

#[test]
fn a_client_that_keeps_a_server_without_using_it_is_ended_in_time() {
    on_every_server(1, "[limits.tenant]\nidle_pinned_timeout = \"200ms\"\n", |cluster, proxy| {
        let mut client = connect(proxy, "app", ACME);
        client.run("LISTEN jobs");
        assert!(client.last_words().starts_with("TG113"));
        assert_nothing_left(cluster, proxy, GLOBEX);
    });
}

#[test]
fn an_operator_gets_every_server_in_the_end() {
    on_every_server(2, "", |_, proxy| {
        let mut client = connect(proxy, "app", ACME);
        client.run("CREATE TEMP TABLE t AS SELECT 1 AS v");
        proxy.perform(Command::Reconnect(None)).unwrap();
        assert_eq!(client.value("SELECT v FROM t"), "1");
        assert!(proxy.operations().servers().iter().any(|row| row.close_needed));
        let pause = proxy.begin(Command::Pause(None));
        eventually("the pause begins", || proxy.operations().pools().iter().any(|row| row.is_paused));
        assert_eq!(client.value("SELECT v FROM t"), "1", "a pause waits for those who keep a server");
        assert!(!pause.is_finished());
        client.bye();
        proxy.outcome(pause).unwrap();
        proxy.perform(Command::Resume(None)).unwrap();
        let mut client = connect(proxy, "app", ACME);
        client.run("LISTEN jobs");
        proxy.signal(ShutdownMode::WaitForServers);
        assert!(client.last_words().starts_with("TG054"));
        proxy.wait_until_it_ends();
    });
}

#[test]
fn a_reload_counts_for_pinned_clients_between_their_transactions() {
    on_every_server(2, "", |_, proxy| {
        let mut client = connect(proxy, "app", ACME);
        client.run("CREATE TEMP TABLE t AS SELECT 1 AS v");
        proxy.reload_with("settings_allowed = [\"work_mem\"]", "settings_allowed = []");
        assert_eq!(sqlstate(&client.query("SET work_mem = '5MB'")), "42501");
        assert_eq!(client.value("SELECT v FROM t"), "1");
        proxy.reload_with("[guard]", "[scope.settings]\n\"app.other\" = \"{tenant}\"\n[guard]");
        assert!(client.last_words().starts_with("TG070"), "its server has another scope statement");
    });
}

#[test]
fn a_cancel_that_comes_late_takes_nothing_from_a_pinned_client() {
    on_every_server(1, "", |_, proxy| {
        let mut client = connect(proxy, "app", ACME);
        client.run("CREATE TEMP TABLE t AS SELECT 1 AS v");
        for _ in 0..20 {
            client.run("INSERT INTO t VALUES (2)");
            client.run("BEGIN; CREATE TEMP TABLE u (v int); ROLLBACK");
            client.cancel();
        }
        assert_eq!(client.value("SELECT count(*) FROM t"), "21");
    });
}

/// Two tenants make and release state at random on two servers: neither ever sees anything of the other's.
#[test]
fn clients_of_two_tenants_never_meet_each_others_state() {
    on_every_server(2, "", |cluster, proxy| {
        let mut dice = crate::support::dice::Dice::new(7);
        let mut clients: Vec<(Client, &str)> =
            [ACME, GLOBEX].into_iter().map(|tenant| (connect(proxy, "app", tenant), tenant)).collect();
        for round in 0..150 {
            let at = usize::try_from(dice.below(2)).unwrap();
            let (client, tenant) = &mut clients[at];
            let tenant = *tenant;
            match dice.below(7) {
                0 => drop(client.query(&format!("CREATE TEMP TABLE t AS SELECT '{tenant}'::text AS owner"))),
                1 => drop(client.query(&format!("PREPARE a AS SELECT '{tenant}'::text"))),
                2 => drop(client.query(&format!(
                    "BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT '{tenant}'::text FROM generate_series(1, 50); COMMIT"
                ))),
                3 => drop(client.query("DISCARD ALL")),
                4 => drop(client.query("BEGIN; CREATE TEMP TABLE t (owner text); ROLLBACK")),
                5 => drop(client.query("DROP TABLE IF EXISTS pg_temp.t")),
                _ => *client = connect(proxy, "app", tenant),
            }
            for sql in ["SELECT owner FROM t", "EXECUTE a", "FETCH c"] {
                let replies = client.query(sql);
                client.query("ROLLBACK");
                let seen: Vec<_> = replies.iter().filter(|reply| reply.tag == b'D').map(Reply::row).collect();
                assert!(seen.iter().flatten().flatten().all(|owner| owner == tenant), "{round} {sql}: {seen:?}");
            }
            assert_eq!(client.value("SELECT current_setting('app.tenant_id')"), tenant);
        }
        drop(clients);
        eventually("nothing is pinned", || pinned(proxy) == 0);
        assert_nothing_left(cluster, proxy, GLOBEX);
    });
}

/// Migration tools lock against each other by advisory locks.
#[test]
fn a_login_whose_transactions_are_recorded_keeps_its_state_too() {
    let folder = tempfile::TempDir::with_prefix("tenantgate-pins-").unwrap();
    for (at, mode) in ["session_state = \"pin\"\n", "pool_mode = \"session\"\n"].into_iter().enumerate() {
        let _turn = alone();
        for cluster in every() {
            cluster
                .admin("postgres")
                .run("DO $$ BEGIN CREATE ROLE app_migration LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;");
            let path = folder.path().join(format!("ledger-{at}-{}", cluster.version));
            let login = login_of_its_own("deploy", "migration", "app_migration") + mode;
            let more = format!("{login}[logins.deploy.tenant]\nfixed = \"{ACME}\"\n{}", ledger(&path));
            let proxy = start(cluster, 1, &more);
            let mut client = Client::connect(&proxy.login("deploy", "demo"));
            client.run("SELECT pg_advisory_lock(42)");
            let own = pid(&mut client);
            MAKE.iter().for_each(|(make, _)| drop(client.run(make)));
            client.run("BEGIN; INSERT INTO t VALUES (2)");
            client.run("ROLLBACK");
            assert_eq!((client.value("SELECT count(*) FROM t"), pid(&mut client)), ("1".to_owned(), own.clone()));
            assert_eq!((client.value("EXECUTE a (1)"), client.value("FETCH c")), ("2".to_owned(), "1".to_owned()));
            cluster.admin(DATABASE).run("NOTIFY jobs, 'one'");
            assert_eq!(notification(&mut client).1, "one");
            client.run("DISCARD ALL");
            // With session pooling nobody asks before the end.
            eventually("it is released", || at == 1 || pinned(&proxy) == 0);
            client.run("SELECT pg_advisory_lock(42)");
            client.bye();
            eventually("nothing is pinned", || pinned(&proxy) == 0);
            let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = \
                         (SELECT oid FROM pg_database WHERE datname = current_database())";
            assert_eq!(cluster.admin(DATABASE).value(locks), "0");
            assert_eq!(pid(&mut Client::connect(&proxy.login("deploy", "demo"))), own, "cleaned, not closed");
            let recorded = std::fs::read_to_string(&path).unwrap();
            assert!(recorded.contains("INSERT INTO t") && recorded.contains("pg_advisory_lock"), "{recorded}");
        }
    }
}

#[test]
fn a_tenant_keeps_what_has_no_name_in_common_with_others() {
    on_every_server(2, "", |_, proxy| {
        let mut client = connect(proxy, "keeper", ACME);
        client.run("CREATE TEMP TABLE t AS SELECT id FROM items");
        assert_eq!(client.value("SELECT count(*) FROM t"), client.value("SELECT count(*) FROM items"));
        for refused in ["LISTEN jobs", "SELECT pg_advisory_lock(1)"] {
            let replies = client.query(refused);
            assert_eq!(&words(&replies)[..5], "TG017");
            let hint = replies.iter().find(|reply| reply.tag == b'E').unwrap().fields()[&'H'].clone();
            assert!(hint.contains("application"), "{hint}");
        }
        assert_eq!(client.value("SELECT count(*) FROM pg_temp.t"), "3");
    });
}
