//! Claims: a client's own statements name its tenant, and everything else is as in PostgreSQL itself.

use crate::scripts::{DATABASE as SCRIPTS, Shuffler, play, superuser};
use crate::sealed;
use crate::support::cluster::{Cluster, every, fifteen};
use crate::support::dice::Dice;
use crate::support::inside::Inside;
use crate::support::message::Message;
use crate::support::proxy::{Proxy, Wish};
use crate::support::raw::{Client, Pace, Target};
use crate::support::reply::Reply;
use crate::support::script;
use crate::support::transcript::Side;
use crate::support::{alone, eventually, number, skip};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::time::Duration;
use tenantgate::admin::{Command, Operations as _};
use tenantgate::tenant::{FreezeReason, TenantId, TenantKind};

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

/// What differs from PostgreSQL itself.
fn differences(cluster: &Cluster, login: &str, mutant: Option<&str>, paces: &[Pace]) -> Vec<String> {
    let admin = superuser(cluster);
    let proxy = Proxy::start(&Wish { cluster, database: SCRIPTS, pool_size: 2, mutant, more: LOGINS });
    differences_of(cluster, admin, &proxy, login, paces)
}

/// The same over a sealed database.
fn differences_where_sealed(cluster: &Cluster, login: &str, paces: &[Pace]) -> Vec<String> {
    let mut admin = superuser(cluster);
    sealed::seal(&mut admin, SCRIPTS);
    let wish = Wish { cluster, database: SCRIPTS, pool_size: 2, mutant: None, more: LOGINS };
    differences_of(cluster, admin, &sealed::start_sealing(&wish), login, paces)
}

fn differences_of(cluster: &Cluster, mut admin: Client, proxy: &Proxy, login: &str, paces: &[Pace]) -> Vec<String> {
    let natively = |_: char| Target::new(cluster.address, "app_user", SCRIPTS);
    let proxied = |_: char| Target::new(proxy.address, login, SCRIPTS).password("demo");
    let mut found = Vec::new();
    let wanted = std::env::var("TENANTGATE_SCRIPT").unwrap_or_default();
    let scripts = script::all(&file("tests/claims"));
    for script in scripts.iter().filter(|script| script.title.contains(&wanted)) {
        let left = play(&mut admin, script, &Side::native(&natively, PATIENCE));
        for pace in paces {
            let right = play(&mut admin, script, &Side::proxy(&proxied, PATIENCE, *pace));
            if let Some(columns) = script.complaint(&left, &right) {
                let place = format!("{} {login} PostgreSQL {} {pace:?}", script.place, cluster.version);
                eprintln!("DIFFERENT {place}: {}\n{columns}", script.title);
                found.push(format!("{place}: {}", script.title));
            }
        }
    }
    eprintln!("{} scripts over {login} on {}, {} differ", scripts.len(), cluster.version, found.len());
    found
}

fn compare(cluster: &Cluster, login: &str, paces: &[Pace]) {
    let found = differences(cluster, login, None, paces);
    assert!(found.is_empty(), "{} differ:\n{}", found.len(), found.join("\n"));
}

#[cfg(feature = "mutants")]
mod mutants {
    use super::*;

    #[test]
    fn planted_defects_of_claims_are_found() {
        let _turn = alone();
        for mutant in
            ["claim_survives_rollback", "claim_bleeds", "claim_outlives_transaction", "claim_survives_savepoint"]
        {
            assert!(
                !differences(fifteen(), "claims", Some(mutant), &[Pace::Burst]).is_empty(),
                "{mutant} is not found"
            );
        }
    }
}

#[test]
fn scripts_with_claims_get_the_same_replies() {
    let _turn = alone();
    for cluster in every() {
        compare(cluster, "claims", &[Pace::Burst, Pace::Trickle]);
    }
    compare(fifteen(), "claims_pinned", &[Pace::Burst]);
    compare(fifteen(), "claims_whole", &[Pace::Burst]);
}

#[test]
fn scripts_with_claims_get_the_same_replies_where_tickets_are_shown() {
    let _turn = alone();
    for cluster in every() {
        let found = differences_where_sealed(cluster, "claims", &[Pace::Burst, Pace::Trickle]);
        assert!(found.is_empty(), "{} differ:\n{}", found.len(), found.join("\n"));
    }
}

/// The first users' shape: text columns in camel case under a setting of another name.
const THINGS: &str = r#"
DROP SCHEMA IF EXISTS public CASCADE; CREATE SCHEMA public; GRANT USAGE ON SCHEMA public TO app_user;
CREATE TABLE things (id serial PRIMARY KEY, "tenantId" text NOT NULL, name text);
INSERT INTO things ("tenantId", name)
    SELECT '00000000-0000-0000-0000-' || lpad((n % 100)::text, 12, '0'), 'first' FROM generate_series(0, 299) n;
ALTER TABLE things ENABLE ROW LEVEL SECURITY;
ALTER TABLE things FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON things USING ("tenantId" = current_setting('app.current_tenant_id', true));
GRANT ALL ON things, things_id_seq TO app_user;
"#;
const UNITS: &str = "claims_units";
const CURRENT: &str = "[scope.settings]\n\"app.current_tenant_id\" = \"{tenant}\"\n";

fn things(cluster: &Cluster) {
    cluster.create_database(UNITS);
    cluster.admin(UNITS).run(THINGS);
}

fn environment(command: &mut Process, address: SocketAddr, user: &str) {
    command.env("PGHOST", "127.0.0.1").env("PGPORT", address.port().to_string()).env("PGDATABASE", UNITS);
    command.env("PGUSER", user).env("PGPASSWORD", "demo");
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Runs the units and gives what they saw.
fn units(modules: &Path, kind: &str, count: u32, address: SocketAddr, user: &str) -> serde_json::Value {
    let mut node = Process::new("node");
    node.arg(file("tests/drivers/claims/units.js")).args([kind, &count.to_string()]).env("NODE_PATH", modules);
    environment(&mut node, address, user);
    let output = node.output().expect("node");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{kind}: {said}\n{}", String::from_utf8_lossy(&output.stderr));
    eprintln!("{kind}: {}", said.trim());
    serde_json::from_str(said.trim()).unwrap()
}

fn counts(seen: &serde_json::Value) -> [u64; 7] {
    ["units", "foreign", "wrong_count", "missing", "invalid", "checked", "again"].map(|key| seen[key].as_u64().unwrap())
}

/// A thousand units of a hundred tenants at once, over eight servers.
fn thousand_units(modules: &Path, kind: &str) {
    let _turn = alone();
    for cluster in every() {
        things(cluster);
        let more = format!("{LOGINS}{CURRENT}");
        let proxy = Proxy::start(&Wish { cluster, database: UNITS, pool_size: 8, mutant: None, more: &more });
        let seen = units(modules, kind, 1_000, proxy.address, "local");
        assert_eq!(seen["other"], serde_json::json!([]), "{}", proxy.log_tail());
        assert_eq!(counts(&seen), [700, 0, 0, 100, 100, 100, 700], "{seen}");
        let kept = cluster.admin(UNITS).value("SELECT count(*) FROM things WHERE name = 'written'");
        assert_eq!(kept, "700");
    }
}

#[test]
fn a_thousand_units_of_node_postgres_see_their_own_rows() {
    thousand_units(&file(".tools/node/node_modules"), "pg");
}

#[test]
fn a_thousand_units_of_prisma_see_their_own_rows() {
    let modules = file(".tools/prisma/node_modules");
    if !modules.join(".prisma/client").exists() {
        return skip("Prisma not found (`.ci/setup prisma`)");
    }
    thousand_units(&modules, "prisma");
}

#[test]
fn a_session_s_tenant_at_checkout_meets_nobody_else() {
    let _turn = alone();
    for cluster in every() {
        things(cluster);
        let more = format!("{LOGINS}{CURRENT}");
        let proxy = Proxy::start(&Wish { cluster, database: UNITS, pool_size: 5, mutant: None, more: &more });
        let seen = units(&file(".tools/node/node_modules"), "sessions", 400, proxy.address, "claims");
        assert_eq!(counts(&seen)[..3], [1_600, 0, 0], "{seen}");
    }
}

#[test]
fn psycopg_and_psql_claim_as_they_do_without_the_proxy() {
    let _turn = alone();
    for cluster in every() {
        things(cluster);
        let more = format!("{LOGINS}{CURRENT}");
        let proxy = Proxy::start(&Wish { cluster, database: UNITS, pool_size: 3, mutant: None, more: &more });
        let venv = file(".tools/venv/bin/python");
        let mut python = Process::new(if venv.exists() { venv } else { "python3".into() });
        python.arg(file("tests/drivers/claims/session.py"));
        environment(&mut python, proxy.address, "local");
        let output = python.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(said, "True\n".repeat(20), "{}", String::from_utf8_lossy(&output.stderr));
        let mut psql = Process::new(cluster.programs.join("psql"));
        if !cluster.programs.join("psql").exists() {
            psql = Process::new("psql");
        }
        let sql = "BEGIN; SET LOCAL app.current_tenant_id = '00000000-0000-0000-0000-000000000007';
             SELECT count(*), min(\"tenantId\") FROM things; COMMIT;
             SELECT count(*) FROM things;";
        psql.args(["-XAtq", "-c", "\\conninfo", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        environment(&mut psql, proxy.address, "claims");
        let mut child = psql.spawn().unwrap();
        child.stdin.take().unwrap().write_all(sql.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("3|00000000-0000-0000-0000-000000000007") && said.contains("TG130"), "{said}");
    }
}

const ACME: &str = "00000000-0000-0000-0000-00000000000a";
const GLOBEX: &str = "00000000-0000-0000-0000-00000000000b";

fn inside(pool_size: u32, more: &str) -> Inside {
    fifteen().create_filled_database(SCRIPTS);
    let more = format!("{LOGINS}{more}");
    Inside::start(&Wish { cluster: fifteen(), database: SCRIPTS, pool_size, mutant: None, more: &more })
}

fn client(proxy: &Inside, login: &str) -> Client {
    Client::connect(&proxy.login(login, "demo"))
}

fn words(replies: &[Reply]) -> String {
    let error = replies.iter().find(|reply| reply.tag == b'E').unwrap_or_else(|| panic!("no error in {replies:?}"));
    error.fields()[&'M'].clone()
}

fn tenants(proxy: &Inside) -> Vec<Option<String>> {
    proxy
        .operations()
        .clients()
        .iter()
        .map(|row| row.tenant.as_ref().map(|tenant| tenant.as_str().to_owned()))
        .collect()
}

#[test]
fn a_client_counts_as_its_tenant_s_from_its_claim_to_the_end_of_its_transaction() {
    let _turn = alone();
    let proxy = inside(3, "");
    let mut one = client(&proxy, "claims");
    eventually("it counts as nobody's", || tenants(&proxy) == [None]);
    one.run("BEGIN");
    eventually("it counts as nobody's", || tenants(&proxy) == [None]);
    one.run(&format!("SET LOCAL app.tenant_id = '{ACME}'"));
    eventually("it counts as its tenant\'s", || tenants(&proxy) == [Some(ACME.to_owned())]);
    one.run("COMMIT");
    eventually("it is nobody's again", || tenants(&proxy) == [None]);
    one.run(&format!("SET app.tenant_id = '{GLOBEX}'"));
    eventually("it counts as its tenant\'s", || tenants(&proxy) == [Some(GLOBEX.to_owned())]);
    one.run(&format!("BEGIN; SET LOCAL app.tenant_id = '{ACME}'; SELECT 1; COMMIT"));
    eventually("the other tenant's transaction is over", || tenants(&proxy) == [None]);
    assert_eq!(one.value("SELECT min(id) FROM items"), "11");
    eventually("it counts as its tenant\'s", || tenants(&proxy) == [Some(GLOBEX.to_owned())]);
    one.run("DISCARD ALL");
    eventually("it counts as nobody's", || tenants(&proxy) == [None]);
}

#[test]
fn a_frozen_tenant_cannot_be_claimed_and_loses_who_acts_for_it() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    let proxy = inside(3, &format!("[state]\nfolder = {:?}\n", folder.path()));
    let mut acting = client(&proxy, "claims");
    let mut other = client(&proxy, "claims");
    let mut later = client(&proxy, "claims");
    acting.run(&format!("SET app.tenant_id = '{ACME}'"));
    other.run(&format!("SET app.tenant_id = '{GLOBEX}'"));
    let tenant = TenantId::parse(TenantKind::Uuid, ACME).unwrap();
    let reason = FreezeReason::parse("a leak").unwrap();
    proxy.perform(Command::Freeze { tenant, reason }).unwrap();
    assert!(acting.last_words().starts_with("TG072"));
    assert_eq!(other.value("SELECT min(id) FROM items"), "11");
    let refused = later.query(&format!("SET app.tenant_id = '{ACME}'"));
    assert!(words(&refused).starts_with("TG072"));
    assert_eq!(refused.last().unwrap().tag, b'Z', "its session goes on");
    later.run("BEGIN");
    assert!(words(&later.query(&format!("SELECT set_config('app.tenant_id', '{ACME}', true)"))).starts_with("TG072"));
    assert!(words(&later.query("SELECT 1")).contains("current transaction is aborted"));
    later.run("ROLLBACK");
    later.run(&format!("BEGIN; SET LOCAL app.tenant_id = '{GLOBEX}'; SELECT 1; COMMIT"));
}

#[test]
fn a_frozen_tenant_s_transaction_ends_though_another_is_claimed_behind_it() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    let proxy = inside(3, &format!("[state]\nfolder = {:?}\n", folder.path()));
    let mut keeper = fifteen().admin(SCRIPTS);
    let claim =
        |tenant: &str| format!("BEGIN; SET LOCAL app.tenant_id = '{tenant}'; SELECT count(*) FROM items; COMMIT");
    let mut client = client(&proxy, "local");
    keeper.run("BEGIN; LOCK TABLE items IN ACCESS EXCLUSIVE MODE");
    client.send(&Message::Query(format!("{}; {}", claim(ACME), claim(GLOBEX))));
    client.flush().unwrap();
    eventually("the second tenant is claimed, the first one's statement waits", || {
        tenants(&proxy) == [Some(GLOBEX.to_owned())]
            && proxy.operations().pools().iter().any(|pool| pool.servers.leased == 1)
    });
    let tenant = TenantId::parse(TenantKind::Uuid, ACME).unwrap();
    proxy.perform(Command::Freeze { tenant, reason: FreezeReason::parse("a leak").unwrap() }).unwrap();
    assert!(client.last_words().starts_with("TG072"), "its transaction goes on");
    keeper.run("ROLLBACK");
}

#[test]
fn a_tenant_s_servers_count_from_its_claim() {
    let _turn = alone();
    let proxy = inside(4, "[limits.tenant]\nleases_max = 1\n");
    let (mut one, mut two) = (client(&proxy, "local"), client(&proxy, "local"));
    // Nobody's, so far.
    one.run("BEGIN");
    two.run("BEGIN");
    let claim = format!("SET LOCAL app.tenant_id = '{ACME}'");
    one.run(&claim);
    assert!(words(&two.query(&claim)).starts_with("TG084"));
    two.run("ROLLBACK");
    one.run("COMMIT");
    two.run("BEGIN");
    two.run(&claim);
    assert_eq!(two.value("SELECT min(id) FROM items"), "1");
    two.run("COMMIT");
    for _ in 0..50 {
        one.run(&format!("BEGIN; {claim}; COMMIT"));
        two.run(&format!("BEGIN; SET LOCAL app.tenant_id = '{GLOBEX}'; COMMIT"));
    }
    eventually("all are back", || proxy.operations().pools().iter().all(|pool| pool.servers.leased == 0));
}

#[test]
fn a_reload_takes_a_tenant_from_a_login() {
    let _turn = alone();
    let proxy = inside(2, "");
    let mut one = client(&proxy, "local");
    let claim = |tenant: &str| format!("BEGIN; SET LOCAL app.tenant_id = '{tenant}'; SELECT 1; COMMIT");
    one.run(&claim(ACME));
    proxy.reload_with("{ pattern = \"00000000-*\" }", &format!("[\"{GLOBEX}\"]"));
    assert!(words(&one.query(&claim(ACME))).starts_with("TG132"));
    one.run("ROLLBACK");
    one.run(&claim(GLOBEX));
    assert!(words(&one.query(&format!("SET app.tenant_id = '{GLOBEX}'"))).starts_with("TG134"));
    proxy.reload_with("claims = \"transaction\"", "tenant.from = [\"suffix\"]");
    assert!(one.last_words().starts_with("TG070"));
}

/// The tenant named at the start is one reset away, whoever is claimed meanwhile.
#[test]
fn a_reload_takes_the_tenant_of_the_start_too() {
    let _turn = alone();
    let both = format!("[\"{ACME}\", \"{GLOBEX}\"]");
    let login = "[logins.based]\npassword = \"demo\"\nclaims = \"session\"\ntenant.from = [\"startup\"]\n";
    let proxy = inside(2, &format!("{login}tenant.allowed = {both}\n"));
    let mut one = Client::connect(&proxy.login("based", "demo").with("app.tenant_id", ACME));
    assert_eq!(one.value("SELECT min(id) FROM items"), "1");
    one.run(&format!("SET app.tenant_id = '{GLOBEX}'"));
    proxy.reload_with(&both, &format!("[\"{GLOBEX}\"]"));
    assert!(one.last_words().starts_with("TG070"));
}

/// Says who it is, or fails as the proxy does where it is nobody.
const WHO: &str = "
DROP SCHEMA IF EXISTS public CASCADE; CREATE SCHEMA public; GRANT USAGE ON SCHEMA public TO app_user;
CREATE FUNCTION who() RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF coalesce(current_setting('app.tenant_id', true), '') = '' THEN
        RAISE EXCEPTION 'nobody' USING ERRCODE = '42501';
    END IF;
    RETURN current_setting('app.tenant_id', true);
END $$;";

/// The same, of a role that shows tickets: what the setting says is not asked. (Directly, nobody has any.)
const WHO_BY_TICKET: &str = "
CREATE OR REPLACE FUNCTION who() RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF coalesce(current_setting('app.tenant_id', true), '') = '' THEN
        RAISE EXCEPTION 'nobody' USING ERRCODE = '42501';
    END IF;
    IF current_setting('tenantless.direct', true) = 'on' THEN
        RETURN current_setting('app.tenant_id', true);
    END IF;
    RETURN tenantgate.tenant_id();
END $$;";

/// One statement of a generated session, and how far the next ones go with it.
struct Walker {
    dice: Dice,
    is_in_block: bool,
    /// Whom this transaction claims, and nobody else: what is another's is refused, where PostgreSQL goes along.
    tenant: &'static str,
    session: Option<&'static str>,
}

impl Walker {
    fn claim(&mut self) -> String {
        let tenant = self.tenant;
        match self.dice.below(6) {
            0 => format!("SET LOCAL app.tenant_id = '{tenant}'"),
            1 | 2 => format!("SELECT set_config('app.tenant_id', '{tenant}', true)"),
            3 => format!("SET app.tenant_id TO '{tenant}'"),
            4 => format!("SET SESSION app.tenant_id = '{tenant}'"),
            _ => format!("SELECT set_config('app.tenant_id', '{tenant}', false) AS x"),
        }
    }

    fn next(&mut self, into: &mut Vec<String>) {
        if !self.is_in_block && self.dice.below(3) > 0 {
            // Behind other statements the block is of their transaction.
            if into.is_empty() {
                self.tenant = if self.dice.below(2) == 0 { ACME } else { GLOBEX };
            }
            self.is_in_block = true;
            into.push("BEGIN".to_owned());
            // Before anything runs for the session's own.
            let claim = self.claim();
            if self.session.is_none_or(|session| session != self.tenant)
                && (self.session.is_some() || self.dice.below(2) == 0)
            {
                into.push(claim);
            }
            return;
        }
        let statement = match self.dice.below(14) {
            0..=4 => "SELECT who()".to_owned(),
            5 | 6 if self.is_in_block => self.claim(),
            5 => format!("SET app.tenant_id = '{}'", self.tenant),
            7 => "SAVEPOINT a".to_owned(),
            8 => "ROLLBACK TO a".to_owned(),
            9 => "RELEASE a".to_owned(),
            10 => "RESET app.tenant_id".to_owned(),
            11 => "SHOW timezone".to_owned(),
            _ if self.is_in_block => {
                self.is_in_block = false;
                let ends = ["COMMIT", "ROLLBACK", "COMMIT", "END"];
                ends[usize::try_from(self.dice.below(4)).unwrap()].to_owned()
            }
            _ => "RESET ALL".to_owned(),
        };
        into.push(statement);
    }
}

/// What a session of generated claims saw.
fn walk(client: &mut Client, seed: u64) -> Vec<String> {
    let mut walker = Walker { dice: Dice::new(seed), is_in_block: false, tenant: ACME, session: None };
    let mut lines = Vec::new();
    for _ in 0..12 {
        let mut group = Vec::new();
        let length = usize::try_from(1 + walker.dice.below(7)).unwrap();
        let is_end = |sql: &String| matches!(sql.as_str(), "COMMIT" | "ROLLBACK" | "END");
        while group.len() < length && !group.last().is_some_and(is_end) {
            walker.next(&mut group);
        }
        let how = walker.dice.below(4);
        let count = send_group(client, &group, how);
        lines.push(format!("-- {how}: {}", group.join("; ")));
        for _ in 0..count {
            let (replies, silence) = client.replies_to(b'Z');
            let is_failed = lines.last().is_some_and(|line| line == "Z E");
            // A Bind that is refused in a block that has failed meanwhile is refused all the same.
            let said = replies.iter().filter_map(heard);
            lines.extend(
                said.map(|line| if is_failed && how == 3 && line.starts_with('E') { "E".into() } else { line }),
            );
            assert!(silence.is_none(), "seed {seed}: {silence:?}\n{}", lines.join("\n"));
        }
        // A group ends with its transaction: what it has claimed is known then from PostgreSQL itself.
        let is_idle = lines.last().is_some_and(|line| line == "Z I");
        if !is_idle {
            lines.extend(client.query("ROLLBACK").iter().filter_map(heard));
        }
        walker.is_in_block = false;
        let now = client.query("SHOW app.tenant_id");
        let own = now.iter().find(|reply| reply.tag == b'D').and_then(|reply| reply.row()[0].clone());
        walker.session = [ACME, GLOBEX].into_iter().find(|tenant| own.as_deref() == Some(*tenant));
        walker.tenant = walker.session.unwrap_or(ACME);
        lines.push(format!("session {:?}", walker.session));
    }
    lines
}

/// Sends a group in one of four ways; how many ReadyForQuery come.
fn send_group(client: &mut Client, group: &[String], how: u64) -> usize {
    let extended = |sql: &String| {
        let parse = Message::Parse { name: String::new(), sql: sql.clone(), types: vec![] };
        [parse, Message::bind("", &[]), Message::Execute { portal: String::new(), rows_max: 0 }]
    };
    match how {
        0 => client.send_all(&[Message::Query(group.join("; "))]),
        1 => client.send_all(&group.iter().map(|sql| Message::Query(sql.clone())).collect::<Vec<_>>()),
        2 => {
            group.iter().for_each(|sql| client.send_all(&extended(sql)));
            client.send(&Message::Sync);
        }
        _ => group.iter().for_each(|sql| {
            client.send_all(&extended(sql));
            client.send(&Message::Sync);
        }),
    }
    client.flush().unwrap();
    if how == 0 || how == 2 { 1 } else { group.len() }
}

/// A reply as far as it has to be the same.
fn heard(reply: &Reply) -> Option<String> {
    match reply.tag {
        b'D' => Some(format!("D {:?}", reply.row())),
        b'C' => Some(format!("C {}", String::from_utf8_lossy(&reply.body).trim_end_matches('\0'))),
        b'E' | b'N' => Some(format!("{} {}", char::from(reply.tag), reply.fields()[&'C'])),
        b'Z' => Some(format!("Z {}", char::from(reply.body[0]))),
        _ => None,
    }
}

#[test]
fn generated_claims_are_as_in_postgresql_itself() {
    generated(400, |cluster| {
        cluster.admin(UNITS).run(WHO);
        Proxy::start(&Wish { cluster, database: UNITS, pool_size: 2, mutant: None, more: LOGINS })
    });
}

/// Who it is says the ticket; without the proxy, the setting.
#[test]
fn generated_claims_are_as_in_postgresql_itself_where_tickets_are_shown() {
    generated(200, |cluster| {
        let mut admin = cluster.admin(UNITS);
        admin.run(WHO);
        sealed::seal(&mut admin, UNITS);
        admin.run(WHO_BY_TICKET);
        sealed::start_sealing(&Wish { cluster, database: UNITS, pool_size: 2, mutant: None, more: LOGINS })
    });
}

fn generated(sessions: u64, start: impl Fn(&'static Cluster) -> Proxy) {
    let _turn = alone();
    let (first, count) = (number("TENANTGATE_SEED", 1), number("TENANTGATE_SESSIONS", sessions));
    for cluster in every() {
        cluster.create_database(UNITS);
        let proxy = start(cluster);
        let disturbers: Vec<_> = [ACME, GLOBEX].map(|tenant| Shuffler::start(proxy.target(tenant))).into();
        for seed in first..first + count {
            let direct = Target::new(cluster.address, "app_user", UNITS).with("tenantless.direct", "on");
            let mut native = Client::connect(&direct);
            let mut proxied = Client::connect(&Target::new(proxy.address, "claims", UNITS).password("demo"));
            let (left, right) = (walk(&mut native, seed), walk(&mut proxied, seed));
            let at = left.iter().zip(&right).position(|(left, right)| left != right);
            if let Some(at) = at.or((left.len() != right.len()).then_some(0)) {
                let version = cluster.version;
                panic!(
                    "seed {seed} on {version}, line {at}:\nPostgreSQL\n{}\n\nTenantGate\n{}",
                    left[..=at].join("\n"),
                    right[..=at].join("\n")
                );
            }
            native.bye();
            proxied.bye();
        }
        drop(disturbers);
    }
}
