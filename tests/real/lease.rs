//! A tenant that stays on its server (`scope.lifetime = "lease"`), on real PostgreSQL: what could take it away or leave
//! it to another.

use crate::load::tenant;
use crate::scripts::Shuffler;
use crate::support::cluster::{self, Cluster};
use crate::support::dice::Dice;
use crate::support::message::Message;
use crate::support::proxy::{self, Proxy, Wish, login_of_its_own};
use crate::support::raw::{Client, Target};
use crate::support::reply::Reply;
use crate::support::{alone, eventually, number};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const SCHEMA: &str = include_str!("load.sql");
const LEASE: &str = "[scope]\nlifetime = \"lease\"\n";

/// Procedures that end transactions, and who may call them.
const PROCEDURES: &str = "
CREATE TABLE steps (step int, seen text DEFAULT current_setting('app.tenant_id', true));
GRANT SELECT, INSERT, DELETE ON steps TO app_user;
CREATE PROCEDURE in_steps() LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO steps (step) VALUES (1);
    COMMIT;
    INSERT INTO steps (step) VALUES (2);
    ROLLBACK;
    INSERT INTO steps (step) VALUES (3);
END $$;
CREATE PROCEDURE other() LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$;";

fn prepare(cluster: &Cluster, database: &str, tenants: u64) {
    cluster.create_database(database);
    let mut admin = cluster.admin(database);
    admin.run(SCHEMA);
    for index in 1..=tenants {
        let tenant = tenant(index);
        admin.run(&format!(
            "INSERT INTO rows (tenant_id, writer) SELECT '{tenant}', '{tenant}' FROM generate_series(1, 3)"
        ));
    }
    admin.bye();
}

fn start(cluster: &Cluster, database: &str, pool_size: u32, more: &str) -> Proxy {
    Proxy::start(&Wish { cluster, database, pool_size, mutant: None, more: &format!("{LEASE}{more}") })
}

/// How often the recorder saw no tenant, and a wrong one.
fn faults(cluster: &Cluster, database: &str) -> [String; 2] {
    let mut admin = cluster.admin(database);
    ["unscoped", "wrong"].map(|what| admin.value(&format!("SELECT last_value - 1 FROM watch.{what}")))
}

fn sqlstates(replies: &[Reply]) -> Vec<String> {
    replies.iter().filter(|reply| reply.tag == b'E').map(|reply| reply.fields()[&'C'].clone()).collect()
}

/// Whatever a client does to its transactions and settings: its next statement has its tenant, and so has the next
/// client's.
#[test]
fn nothing_a_client_says_takes_its_tenant_away() {
    for cluster in cluster::every() {
        let database = "lease_acts";
        prepare(cluster, database, 3);
        let proxy = start(cluster, database, 1, "");
        let (own, other) = (tenant(1), tenant(2));
        let (mut client, mut stranger) = (Client::connect(&proxy.target(&own)), Client::connect(&proxy.target(&other)));
        let seen = "SELECT min(tenant_id::text), current_setting('app.tenant_id') FROM rows";
        for said in [
            "BEGIN; SELECT 1; ROLLBACK",
            "BEGIN; SAVEPOINT s; SELECT nothing; ROLLBACK TO s; COMMIT",
            "SAVEPOINT s",
            "BEGIN; SAVEPOINT s; SELECT 1; ROLLBACK TO s; RELEASE s; COMMIT",
            "BEGIN; SELECT 1/0",
            "BEGIN; SAVEPOINT s; SELECT 1",
            "BEGIN; SELECT 1; COMMIT AND CHAIN; SELECT 2; ROLLBACK AND CHAIN; COMMIT",
            "SELECT 1; COMMIT; SELECT 2",
            "BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE; SELECT 1; COMMIT",
            "SET default_transaction_isolation = 'serializable'; SET default_transaction_read_only = on",
            "SET default_transaction_deferrable = on",
            "RESET ALL",
            "SET timezone = 'CET'; RESET timezone",
            "DISCARD ALL",
            "SET LOCAL app.tenant_id = 'x'",
            "RESET app.tenant_id",
            "SELECT set_config('app.tenant_id', 'x', false)",
            "BEGIN; SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1; COMMIT",
        ] {
            // On a server that the stranger has just had, and on one that is the client's own.
            for is_others in [true, false] {
                if is_others {
                    assert_eq!(stranger.value("SHOW app.tenant_id"), other);
                }
                let status = client.query(said).last().and_then(Reply::status);
                if status != Some('I') {
                    client.run("ROLLBACK");
                }
                let row = client.rows(seen);
                let wanted = vec![vec![Some(own.clone()), Some(own.clone())]];
                assert_eq!(row, wanted, "after {said:?} on {}", cluster.version);
                let statement = vec![
                    Message::parse("", "SELECT count(*) FROM rows WHERE tenant_id::text = $1"),
                    Message::bind("", &[&own]),
                    Message::execute(),
                    Message::Sync,
                ];
                client.send_all(&statement);
                client.flush().unwrap();
                let (replies, _) = client.replies_to(b'Z');
                let count = replies.iter().find(|reply| reply.tag == b'D').map(Reply::row);
                assert_eq!(count, Some(vec![Some("3".to_owned())]), "after {said:?}: {replies:?}");
            }
        }
    }
}

#[test]
fn procedures_that_commit_keep_their_tenant_where_they_are_listed() {
    for cluster in cluster::every() {
        let database = "lease_procedures";
        prepare(cluster, database, 2);
        cluster.admin(database).run(PROCEDURES);
        // The [guard] table is there already.
        let trusted = "[logins.trusted]\npassword = \"demo\"\npreset = \"application\"\ntenant.from = [\"suffix\"]\n";
        let wish = Wish { cluster, database, pool_size: 1, mutant: None, more: &format!("{LEASE}{trusted}") };
        let proxy = Proxy::start_with(database, None, |address, _| {
            let listed = "settings_allowed = [\"work_mem\"]\nfunctions_allowed = [\"in_steps\"]";
            proxy::configuration(&wish, address).replace("settings_allowed = [\"work_mem\"]", listed)
        });
        let (own, other) = (tenant(1), tenant(2));
        let (mut client, mut stranger) = (Client::connect(&proxy.target(&own)), Client::connect(&proxy.target(&other)));
        for is_extended in [false, true] {
            stranger.run("SELECT 1");
            if is_extended {
                client.send_all(&[
                    Message::parse("", "CALL in_steps()"),
                    Message::bind("", &[]),
                    Message::execute(),
                    Message::Sync,
                ]);
                client.flush().unwrap();
                let (replies, silence) = client.replies_to(b'Z');
                assert_eq!((sqlstates(&replies), silence), (vec![], None), "on {}", cluster.version);
            } else {
                client.run("CALL in_steps()");
            }
            let seen = client.rows("SELECT step::text, seen FROM steps ORDER BY step");
            let wanted = ["1", "3"].map(|step| vec![Some(step.to_owned()), Some(own.clone())]);
            assert_eq!(seen, wanted, "extended: {is_extended}, on {}", cluster.version);
            client.run("DELETE FROM steps");
        }
        // To trusted code all procedures, and VACUUM.
        let trusted = |tenant: &str| {
            Client::connect(&Target::new(proxy.address, &format!("trusted.{tenant}"), database).password("demo"))
        };
        let (mut code, mut others) = (trusted(&own), trusted(&other));
        for said in ["CALL other()", "CALL in_steps()", "VACUUM steps", "ANALYZE steps", "DELETE FROM steps"] {
            others.run("SELECT 1");
            code.run(said);
            assert_eq!(code.value("SHOW app.tenant_id"), own, "after {said}");
        }
        assert_eq!(sqlstates(&code.query("DO $$ BEGIN COMMIT; END $$")), ["42501"]);
        assert_eq!(sqlstates(&client.query("CALL other()")), ["42501"], "it is not listed");
        assert_eq!(sqlstates(&client.query("DO $$ BEGIN COMMIT; END $$")), ["42501"]);
    }
}

#[test]
fn migrations_maintain_tables_under_their_tenant() {
    for cluster in cluster::every() {
        let database = "lease_migration";
        prepare(cluster, database, 2);
        let mut admin = cluster.admin(database);
        if admin.rows("SELECT 1 FROM pg_roles WHERE rolname = 'lease_migration'").is_empty() {
            admin.run("CREATE ROLE lease_migration LOGIN");
        }
        // An index whose expression is evaluated for each row says what it was built under.
        admin.run(
            "CREATE FUNCTION watched(n int, owner text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS \
             $$ BEGIN PERFORM public.probe(owner); RETURN n; END $$; \
             CREATE TABLE mine (n int, owner text); ALTER TABLE mine OWNER TO lease_migration;
             GRANT CREATE ON SCHEMA public TO lease_migration; GRANT SELECT ON rows TO lease_migration",
        );
        let folder = tempfile::tempdir().unwrap();
        let logins = login_of_its_own("deploy", "migration", "lease_migration")
            + "[logins.deploy.tenant]\nfrom = [\"suffix\"]\n"
            + &proxy::ledger(&folder.path().join("ledger.jsonl"));
        let proxy = start(cluster, database, 1, &logins);
        let connect = |tenant: &str| {
            Client::connect(&Target::new(proxy.address, &format!("deploy.{tenant}"), database).password("demo"))
        };
        let (own, other) = (tenant(1), tenant(2));
        let (mut client, mut stranger) = (connect(&own), connect(&other));
        client.run(&format!("INSERT INTO mine VALUES (1, '{own}')"));
        for said in [
            "CREATE INDEX CONCURRENTLY by_watched ON mine (watched(n, owner))",
            "REINDEX INDEX CONCURRENTLY by_watched",
            "VACUUM (ANALYZE) mine",
        ] {
            for is_others in [true, false] {
                if is_others {
                    assert_eq!(stranger.value("SHOW app.tenant_id"), other);
                }
                client.run(said);
                assert_eq!(client.value("SHOW app.tenant_id"), own);
                if said.starts_with("CREATE") {
                    client.run("DROP INDEX CONCURRENTLY by_watched");
                }
            }
            if said.starts_with("CREATE") {
                client.run(said);
            }
        }
        assert_eq!(faults(cluster, database), ["0", "0"], "on {}", cluster.version);
        assert_ne!(admin.value("SELECT last_value - 1 FROM watch.probes"), "0");
    }
}

/// A tenant that changes while it is at work must not be on the next server, nor stay on the old one.
#[test]
fn a_reload_of_template_or_lifetime_leaves_no_server_behind() {
    let cluster = cluster::fifteen();
    let database = "lease_reload";
    prepare(cluster, database, 2);
    let proxy = start(cluster, database, 2, "");
    let (own, other) = (tenant(1), tenant(2));
    let mut clients = [own.as_str(), other.as_str()].map(|tenant| Client::connect(&proxy.target(tenant)));
    let mut look = |wanted: [&str; 2]| {
        for _ in 0..5 {
            for (client, wanted) in clients.iter_mut().zip(wanted) {
                let seen = client.value("SELECT coalesce(current_setting('app.tenant_id', true), 'none')");
                assert_eq!(seen, wanted);
            }
        }
    };
    look([&own, &other]);
    let prefixed = [format!("t-{own}"), format!("t-{other}")];
    let plain = "lifetime = \"lease\"\n";
    proxy.edit(plain, &format!("{plain}settings = {{ \"app.tenant_id\" = \"t-{{tenant}}\" }}\n"));
    assert!(proxy.reload());
    look([&prefixed[0], &prefixed[1]]);
    proxy.edit("lifetime = \"lease\"", "lifetime = \"transaction\"");
    assert!(proxy.reload());
    look([&prefixed[0], &prefixed[1]]);
    // What was put there for a session is not on any server of now: where nothing needs a tenant, there is none.
    proxy.edit("\"app.tenant_id\" = \"t-{tenant}\"", "\"app.renamed\" = \"{tenant}\"");
    assert!(proxy.reload());
    look(["", ""].map(|_| "none"));
    proxy.edit("lifetime = \"transaction\"", "lifetime = \"lease\"");
    proxy.edit("\"app.renamed\" = \"{tenant}\"", "\"app.tenant_id\" = \"{tenant}\"");
    assert!(proxy.reload());
    look([&own, &other]);
}

/// PostgreSQL 18 reports `search_path`: a tenant's own is no reason to give a server up. What is prepared is looked up in
/// the tenant's schema, whether the tenant stays or comes with each transaction.
#[test]
fn a_schema_per_tenant_stays_on_its_server_and_the_server_in_its_pool() {
    for cluster in cluster::every() {
        for (database, lifetime) in [("lease_schemas", "lease"), ("transaction_schemas", "transaction")] {
            schema_per_tenant(cluster, database, lifetime);
        }
    }
}

fn schema_per_tenant(cluster: &'static Cluster, database: &'static str, lifetime: &str) {
    cluster.create_database(database);
    let mut admin = cluster.admin(database);
    for tenant in ["acme", "globex"] {
        admin.run(&format!(
            "CREATE SCHEMA tenant_{tenant}; CREATE TABLE tenant_{tenant}.names (name text); \
             INSERT INTO tenant_{tenant}.names VALUES ('{tenant}'); \
             GRANT USAGE ON SCHEMA tenant_{tenant} TO app_user; GRANT SELECT ON tenant_{tenant}.names TO app_user"
        ));
    }
    // Its fixed tenants are UUIDs.
    let more = format!(
        "[scope]\nlifetime = \"{lifetime}\"\ntenant_type = \"text\"\n[scope.settings]\n\
         \"app.tenant_id\" = \"{{tenant}}\"\nsearch_path = \"tenant_{{tenant}}, public\"\n"
    );
    let wish = Wish { cluster, database, pool_size: 1, mutant: None, more: &more };
    let proxy = Proxy::start_with(database, None, |address, _| proxy::configuration(&wish, address));
    let mut clients = ["acme", "globex"].map(|tenant| (Client::connect(&proxy.target(tenant)), tenant));
    let pids = format!(
        "SELECT string_agg(pid::text, ' ') FROM pg_stat_activity WHERE datname = '{database}' AND usename = 'app_user'"
    );
    let before = admin.value(&pids);
    for round in 0..3 {
        for (client, tenant) in &mut clients {
            assert_eq!(client.value("SELECT name FROM names"), *tenant);
            let named = format!("s{round}");
            let prepare = [
                Message::parse(&named, "SELECT name FROM names"),
                Message::DescribeStatement(named.clone()),
                Message::Sync,
            ];
            let run = [Message::bind(&named, &[]), Message::execute(), Message::Sync];
            let at_once = [
                Message::parse("", "SELECT name FROM names"),
                Message::bind("", &[]),
                Message::execute(),
                Message::Sync,
            ];
            for (messages, has_row) in [(&prepare[..], false), (&run[..], true), (&at_once[..], true)] {
                client.send_all(messages);
                client.flush().unwrap();
                let (replies, _) = client.replies_to(b'Z');
                assert!(replies.iter().all(|reply| reply.tag != b'E'), "{lifetime}: {replies:?}");
                let row = replies.iter().find(|reply| reply.tag == b'D').map(Reply::row);
                assert_eq!(row, has_row.then(|| vec![Some((*tenant).to_owned())]), "{replies:?}");
            }
            assert_eq!(client.value("SHOW search_path").replace('"', ""), format!("tenant_{tenant}, public"));
        }
    }
    assert_eq!(admin.value(&pids), before, "{lifetime}: the one server is the first one on {}", cluster.version);
}

/// Stands between proxy and server as a pooler does: the process it names at the login is none of the server's.
fn pooler_in_between(cluster: &Cluster) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, server) = (listener.local_addr().unwrap().port(), cluster.address);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, mut server) = (client.unwrap(), TcpStream::connect(server).unwrap());
            let (mut back, mut forth) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut client, &mut forth));
            std::thread::spawn(move || {
                let mut bytes = [0_u8; 16 * 1024];
                while let Ok(count @ 1..) = server.read(&mut bytes) {
                    let at = bytes[..count].windows(5).position(|window| matches!(window, [b'K', 0, 0, 0, 12 | 40]));
                    if let Some(at) = at {
                        bytes[at + 8] ^= 1;
                    }
                    back.write_all(&bytes[..count]).unwrap();
                }
            });
        }
    });
    port
}

#[test]
fn a_server_behind_another_pooler_is_refused() {
    for cluster in cluster::every() {
        let database = "lease_pooler";
        prepare(cluster, database, 1);
        let between = pooler_in_between(cluster);
        let server = format!("port = {}", cluster.address.port());
        let behind = |lifetime: &str| {
            let scope = format!("[scope]\nlifetime = \"{lifetime}\"\n");
            let wish = Wish { cluster, database, pool_size: 2, mutant: None, more: &scope };
            Proxy::start_with(database, None, |address, _| {
                proxy::configuration(&wish, address).replace(&server, &format!("port = {between}"))
            })
        };
        let proxy = behind("lease");
        let client = Client::try_connect(&proxy.target(&tenant(1))).unwrap();
        let fields = client.startup.last().unwrap().fields();
        assert!(fields[&'M'].starts_with("TG115"), "{fields:?}\n{}", proxy.log_tail());
        assert!(proxy.log().contains("another pooler stands between"), "{}", proxy.log_tail());
        // For a transaction it is all the same.
        let proxy = behind("transaction");
        assert_eq!(Client::connect(&proxy.target(&tenant(1))).value("SHOW app.tenant_id"), tenant(1));
    }
}

/// Who cancels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// The clients, through the proxy: also while they wait for a server.
    Clients,
    /// A superuser, on the server: also while a tenant is put on, and what belongs to nobody.
    Superuser,
}

/// A storm of cancels.
struct Storm {
    by: By,
    cancels: u64,
    sent: AtomicU64,
    hits: AtomicU64,
    stop: AtomicBool,
}

/// Cancels at any time, most of all while a tenant is being put on: no row of another tenant, no statement without.
#[test]
fn cancels_at_random_times_leave_no_server_with_the_wrong_tenant() {
    let _turn = alone();
    for cluster in cluster::every() {
        for by in [By::Clients, By::Superuser] {
            let cancels = number("TENANTGATE_CANCELS", 3_000);
            cancel_storm(
                cluster,
                &Storm { by, cancels, sent: AtomicU64::new(0), hits: AtomicU64::new(0), stop: AtomicBool::new(false) },
            );
        }
    }
}

fn cancel_storm(cluster: &Cluster, storm: &Storm) {
    let database = "lease_cancels";
    prepare(cluster, database, 4);
    // Many settings, so that putting them on takes as long as what the clients do.
    let more: Vec<String> = (1..=12).map(|number| format!("\"app.more{number}\" = \"{{tenant}}\"")).collect();
    let more = format!("settings = {{ \"app.tenant_id\" = \"{{tenant}}\", {} }}\n", more.join(", "));
    let proxy = start(cluster, database, 2, &more);
    let before = own_cancelled(cluster);
    let complaints: Vec<String> = std::thread::scope(|scope| {
        let client = |index| {
            let target = proxy.target(&tenant(index));
            move || storm_client(&target, &tenant(index), storm)
        };
        let clients: Vec<_> = (1..=4).map(|index| scope.spawn(client(index))).collect();
        if storm.by == By::Superuser {
            cancel_backends(cluster, database, storm);
        }
        clients.into_iter().filter_map(|client| client.join().unwrap().err()).collect()
    });
    let (sent, hits) = (storm.sent.load(Ordering::Relaxed), storm.hits.load(Ordering::Relaxed));
    let own = own_cancelled(cluster) - before;
    eprintln!(
        "PostgreSQL {}: {sent} cancels by {:?}, {hits} statements cancelled, {own} in the proxy's own transaction",
        cluster.version, storm.by
    );
    assert!(complaints.is_empty(), "{complaints:#?}\n{}", proxy.log_tail());
    assert_eq!(faults(cluster, database), ["0", "0"]);
    assert!(hits > 0, "no cancel hit anything");
}

/// Statements of the proxy's own transaction that the server has cancelled.
fn own_cancelled(cluster: &Cluster) -> usize {
    let log = cluster.log();
    let of = |text: &str| log.matches(&format!("STATEMENT:  {text}\n")).count();
    of("BEGIN ISOLATION LEVEL READ COMMITTED")
        + of("COMMIT")
        + log.matches("STATEMENT:  SELECT WHERE pg_catalog.set_config('app.tenant_id', $1, false)").count()
}

fn cancel_backends(cluster: &Cluster, database: &str, storm: &Storm) {
    let mut admin = cluster.admin("postgres");
    let all = format!(
        "SELECT count(pg_cancel_backend(pid)), count(pg_sleep(random() / 1000)) \
         FROM generate_series(1, 20), pg_stat_activity WHERE datname = '{database}' AND usename = 'app_user'"
    );
    while !storm.stop.load(Ordering::Relaxed) {
        let count: u64 = admin.value(&all).parse().unwrap();
        if storm.sent.fetch_add(count, Ordering::Relaxed) >= storm.cancels {
            storm.stop.store(true, Ordering::Relaxed);
        }
    }
}

/// One client, with a thread that cancels it. Every row it reads is checked.
fn storm_client(target: &Target, own: &str, storm: &Storm) -> Result<(), String> {
    let mut client = Client::connect(target);
    let canceller = client.canceller();
    let seed: u64 = own.bytes().map(u64::from).sum();
    std::thread::scope(|scope| {
        if storm.by == By::Clients {
            scope.spawn(|| {
                let mut dice = Dice::new(seed + 1);
                while !storm.stop.load(Ordering::Relaxed) {
                    // Nothing depends on it but where the cancel hits.
                    std::thread::sleep(Duration::from_micros(dice.below(4_000)));
                    canceller.cancel();
                    if storm.sent.fetch_add(1, Ordering::Relaxed) >= storm.cancels {
                        storm.stop.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
        let outcome = work_in_a_storm(&mut client, own, &mut Dice::new(seed), storm);
        if outcome.is_err() {
            storm.stop.store(true, Ordering::Relaxed);
        }
        outcome
    })
}

fn work_in_a_storm(client: &mut Client, own: &str, dice: &mut Dice, storm: &Storm) -> Result<(), String> {
    let select = format!("SELECT probe('{own}'), (SELECT min(tenant_id::text) || max(tenant_id::text) FROM rows)");
    let is_own = |row: &Vec<Option<String>>| {
        row[0].as_deref() == Some(own) && row.get(1).is_none_or(|of| *of == Some(format!("{own}{own}")))
    };
    while !storm.stop.load(Ordering::Relaxed) {
        for _ in 0..put_work(client, &select, dice) {
            let (replies, silence) = client.replies_to(b'Z');
            let states = sqlstates(&replies);
            let hits = states.iter().filter(|state| *state == "57014").count();
            storm.hits.fetch_add(hits as u64, Ordering::Relaxed);
            let rows = replies.iter().filter(|reply| reply.tag == b'D').map(Reply::row);
            let wrong: Vec<_> = rows.filter(|row| !is_own(row)).collect();
            if !wrong.is_empty() || silence.is_some() || states.len() > hits {
                return Err(format!("{own}: {wrong:?} {states:?} {silence:?}"));
            }
        }
    }
    Ok(())
}

/// Sends one of the forms in which work comes; how many ReadyForQuery answer it.
fn put_work(client: &mut Client, select: &str, dice: &mut Dice) -> usize {
    let query = |sql: &str| Message::Query(sql.to_owned());
    let extended = [Message::parse("", select), Message::bind("", &[]), Message::execute(), Message::Sync];
    let rollback = [Message::parse("", "ROLLBACK"), Message::bind("", &[]), Message::execute(), Message::Sync];
    let (work, ends) = match dice.below(10) {
        0 => (vec![query(select)], 1),
        1 => (extended.to_vec(), 1),
        // Behind a failed block a ROLLBACK would end it, and what follows would run for another tenant.
        2 => (vec![query(select), query("ROLLBACK"), query(select)], 3),
        3 => ([&extended[..], &rollback, &extended].concat(), 3),
        4 => (vec![query(&format!("{select}; ROLLBACK; {select}")), query(select)], 2),
        // Next to nothing, so that most of the time goes into putting tenants on.
        _ => (vec![query("SHOW app.tenant_id")], 1),
    };
    client.send_all(&work);
    client.flush().unwrap();
    ends
}

/// Clients that vanish at every byte of what they say, while a tenant is being put on for them.
#[test]
fn clients_that_vanish_at_any_byte_leave_their_tenant_to_nobody() {
    let _turn = alone();
    for cluster in cluster::every() {
        let database = "lease_vanish";
        prepare(cluster, database, 3);
        let proxy = start(cluster, database, 2, "");
        let (own, other) = (tenant(1), tenant(2));
        let select = format!("SELECT probe('{own}')");
        let says: Vec<u8> = [
            vec![Message::Query(select.clone()), Message::Query("BEGIN".to_owned()), Message::Query(select.clone())],
            vec![
                Message::parse("", &select),
                Message::bind("", &[]),
                Message::execute(),
                Message::Sync,
                Message::Query("ROLLBACK".to_owned()),
            ],
        ]
        .concat()
        .iter()
        .flat_map(Message::bytes)
        .collect();
        let shuffler = Shuffler::start(proxy.target(&tenant(3)));
        let mut witness = Client::connect(&proxy.target(&other));
        for cut in 1..=says.len() {
            let client = Client::connect(&proxy.target(&own));
            let mut stream: TcpStream = client.into_stream();
            stream.write_all(&says[..cut]).unwrap();
            drop(stream);
            let seen = witness.rows(&format!("SELECT probe('{other}'), current_setting('app.tenant_id')"));
            assert_eq!(seen, [vec![Some(other.clone()), Some(other.clone())]], "cut at {cut}");
        }
        drop(shuffler);
        let mut admin = cluster.admin("postgres");
        let busy = format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}' AND state <> 'idle'");
        eventually("all servers are at rest", || admin.value(&busy) == "0");
        assert_eq!(faults(cluster, database), ["0", "0"], "on {}", cluster.version);
    }
}
