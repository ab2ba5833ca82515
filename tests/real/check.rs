//! `tenantgate check` against real databases: every hole of a schema is found, nothing is found where there is none, and
//! `serve` keeps statements off what is not covered.

use crate::support::cluster::{self, Cluster, free_port};
use crate::support::proxy::{Proxy, binary};
use crate::support::raw::{Client, Target};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const FIRST_USERS: &str = include_str!("../check/first_users.sql");
const THREATS: &str = include_str!("../check/threats.sql");

fn every_release() -> Vec<&'static Cluster> {
    cluster::every().into_iter().chain(cluster::others()).collect()
}

/// A database with a schema, and its roles.
fn create(cluster: &Cluster, database: &str, roles: &[&str], schema: &str) {
    cluster.create_database(database);
    let mut admin = cluster.admin(database);
    for role in roles {
        // Other proofs of the same cluster may have made them.
        let known = admin.rows(&format!("SELECT 1 FROM pg_roles WHERE rolname = '{role}'"));
        if known.is_empty() {
            admin.run(&format!("CREATE ROLE {role} LOGIN"));
        }
    }
    admin.run(&format!("REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC"));
    admin.run(schema);
}

fn configuration(cluster: &Cluster, database: &str, user: &str, more: &str) -> String {
    format!(
        "[servers.main]\nhost = \"127.0.0.1\"\nport = {port}\ntls.mode = \"disable\"\n\
         [roles.app]\nuser = {user:?}\n[databases.{database}]\nserver = \"main\"\nrole = \"app\"\n\
         [logins.app]\npassword = \"demo\"\ntenant.from = [\"suffix\"]\n{more}\n",
        port = cluster.address.port(),
    )
}

const FIRST_USERS_SCOPE: &str = "[scope]\ntenant_type = \"text\"\n\
    [scope.settings]\n\"app.current_tenant_id\" = \"{tenant}\"\n";

struct Checked {
    status: Option<i32>,
    out: String,
    errors: String,
}

fn check(folder: &Path, configuration: &str, arguments: &[&str]) -> Checked {
    let file = folder.join("tenantgate.toml");
    std::fs::write(&file, configuration).unwrap();
    let mut command = Command::new(binary());
    let Output { status, stdout, stderr } =
        command.arg("check").arg("--config").arg(&file).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Checked { status: status.code(), out: text(stdout), errors: text(stderr) }
}

/// Codes with their objects, and the whole report.
fn found(configuration: &str, arguments: &[&str]) -> (BTreeMap<String, BTreeSet<String>>, Value) {
    let folder = TempDir::new().unwrap();
    let mut all = vec!["--format", "json"];
    all.extend(arguments);
    let checked = check(folder.path(), configuration, &all);
    let report: Value = serde_json::from_str(&checked.out).unwrap_or_else(|_| panic!("{}", checked.errors));
    let database = report["databases"][0].clone();
    let mut codes: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for finding in database["findings"].as_array().unwrap() {
        let text = |key: &str| finding[key].as_str().unwrap().to_owned();
        codes.entry(text("code")).or_default().insert(text("object"));
    }
    (codes, database)
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

const WITHOUT_RLS: [&str; 13] = [
    "public.dashboards",
    "public.exports",
    "public.form_fields",
    "public.forms",
    "public.imports",
    "public.reports",
    "public.signatures",
    "public.submissions",
    "public.templates",
    "public.webhook_deliveries",
    "public.webhooks",
    "public.workflow_runs",
    "public.workflow_steps",
];

#[test]
fn the_first_users_gaps_holes_and_bypasses_are_found() {
    for cluster in every_release() {
        let database = "check_first_users";
        create(cluster, database, &["shop_owner", "shop_app"], FIRST_USERS);
        let text = configuration(cluster, database, "shop_app", FIRST_USERS_SCOPE);
        let folder = TempDir::new().unwrap();
        let shown = check(folder.path(), &text, &[]);
        assert_eq!(shown.out.lines().next(), Some("50 of 67 tenant tables covered"), "{}", shown.errors);
        assert_eq!(shown.status, Some(1));
        let (codes, report) = found(&text, &[]);
        // The 17 gaps.
        assert_eq!(codes["CK101"], set(&WITHOUT_RLS));
        assert_eq!(codes["CK103"], set(&["public.documents", "public.folders"]));
        assert_eq!(codes["CK106"], set(&["public.attachments/everybody", "public.comments/everybody"]));
        assert_eq!(report["uncovered_tables"].as_array().unwrap().len(), 17);
        // Both holes, and the OR-bypass.
        assert_eq!(codes["CK107"].len(), 47, "the escape for postgres");
        assert!(codes["CK107"].contains("public.users/tenant_isolation"));
        let shared = ["public.categories", "public.tags", "public.tax_rates"];
        assert_eq!(
            codes["CK109"],
            set(&shared.map(|table| format!("{table}/tenant_isolation")).each_ref().map(|it| &**it))
        );
        assert_eq!(codes["CK105"], set(&shared));
        let bypassed = ["customers", "invoices", "orders"].map(|table| format!("public.{table}/bypass"));
        assert_eq!(codes["CK108"], set(&bypassed.each_ref().map(|it| &**it)));
        // And what their keys tell.
        assert!(codes["CK123"].contains("public.users/users_email_key"), "{:?}", codes["CK123"]);
        assert_eq!(codes["CK124"], set(&["public.order_lines/order_lines_orderId_fkey"]));
        assert_eq!(codes["CK122"], set(&["public.dashboards"]));
        // Nothing of it could not be read, and nothing is said of a role that is as it should be.
        assert_eq!(codes["CK104"], codes["CK106"], "they may be written, too");
        for absent in ["CK001", "CK002", "CK003", "CK004", "CK005", "CK102", "CK111", "CK305", "CK307", "CK901"] {
            assert!(!codes.contains_key(absent), "{absent}: {:?}", codes[absent]);
        }
    }
}

/// The proxy scopes that schema by configuration alone, and keeps statements off its gaps when told so.
#[test]
fn the_first_users_schema_is_scoped_by_configuration_alone() {
    for cluster in cluster::every() {
        let database = "check_first_users_scoped";
        create(cluster, database, &["shop_owner", "shop_app"], FIRST_USERS);
        let more = format!("{FIRST_USERS_SCOPE}[check]\non_gap = \"warn\"\nuncovered_tables = \"refuse\"\n");
        let proxy = Proxy::start_with(database, None, |address, _| {
            format!("listen.addresses = [\"{address}\"]\n{}", configuration(cluster, database, "shop_app", &more))
        });
        let connect = |tenant: &str| {
            Client::connect(&Target::new(proxy.address, &format!("app.{tenant}"), database).password("demo"))
        };
        let (mut acme, mut globex) = (connect("acme"), connect("globex"));
        for (client, name) in [(&mut acme, "acme"), (&mut globex, "globex")] {
            assert_eq!(client.value("SELECT count(*) FROM orders WHERE name LIKE 'order %'"), "10");
            assert_eq!(client.value("SELECT DISTINCT \"tenantId\" FROM orders"), name);
            assert_eq!(client.value("SELECT count(*) FROM tags"), "2", "its own and the shared one");
        }
        assert_eq!(acme.value("SELECT count(*) FROM countries"), "1", "no tenant's table");
        for sql in ["SELECT * FROM webhooks", "SELECT * FROM public.webhooks", "SELECT 1 FROM orders, comments"] {
            let replies = acme.query(sql);
            let fields = replies.iter().find(|reply| reply.tag == b'E').expect("a refusal").fields();
            assert!(fields[&'M'].starts_with("TG150"), "{sql}: {fields:?}");
        }
        assert!(proxy.log().contains("50 of 67 tenant tables covered"), "{}", proxy.log_tail());
        // Mended and reloaded, the table may be used.
        cluster.admin(database).run(
            "ALTER TABLE webhooks ENABLE ROW LEVEL SECURITY; ALTER TABLE webhooks FORCE ROW LEVEL SECURITY; \
             CREATE POLICY tenant ON webhooks USING (\"tenantId\" = current_setting('app.current_tenant_id', true))",
        );
        assert!(proxy.reload(), "{}", proxy.log_tail());
        assert_eq!(acme.value("SELECT count(*) FROM webhooks"), "1");
        assert!(proxy.log().contains("51 of 67 tenant tables covered"), "{}", proxy.log_tail());
        // Refused altogether, the proxy keeps what is in force.
        proxy.edit("on_gap = \"warn\"", "on_gap = \"refuse\"");
        assert!(!proxy.reload());
        assert_eq!(acme.value("SELECT count(*) FROM webhooks"), "1");
    }
}

#[test]
fn serve_does_not_start_over_gaps_that_are_refused() {
    let cluster = cluster::fifteen();
    let database = "check_refused";
    create(cluster, database, &["shop_owner", "shop_app"], FIRST_USERS);
    let folder = TempDir::new().unwrap();
    let start = |more: &str| {
        let file = folder.path().join("tenantgate.toml");
        let text = configuration(cluster, database, "shop_app", &format!("{FIRST_USERS_SCOPE}[check]\n{more}"));
        std::fs::write(&file, format!("listen.addresses = [\"127.0.0.1:{}\"]\n{text}", free_port())).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new(binary());
        let mut child =
            command.arg("serve").arg("--config").arg(&file).stderr(log).stdout(Stdio::null()).spawn().unwrap();
        // One that starts anyway is ended, and has no status of its own.
        let deadline = Instant::now() + Duration::from_secs(30);
        while child.try_wait().unwrap().is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(child.kill());
        let status = child.wait().unwrap();
        (status.code(), std::fs::read_to_string(folder.path().join("log")).unwrap())
    };
    let (status, words) = start("on_gap = \"refuse\"\n");
    assert_eq!(status, Some(1), "{words}");
    assert!(words.contains("50 of 67 tenant tables covered"), "{words}");
    // What cannot be looked at cannot be kept off: it does not start either.
    let (status, words) = start("uncovered_tables = \"refuse\"\nexceptions = \"missing.toml\"\n");
    assert!(status == Some(1) && words.contains("missing.toml"), "{words}");
}

/// Each line of the list of threats that only the schema can stop, by the object that stands for it.
const THREAT_LINES: &[(&str, &str)] = &[
    ("CK002", "role threat_bypass"),
    ("CK004", "role threat_app"),
    ("CK005", "role threat_app"),
    ("CK101", "shop.bare"),
    ("CK102", "shop.unforced"),
    ("CK103", "shop.silent"),
    ("CK104", "shop.unchecked/writing"),
    ("CK105", "shop.shared"),
    ("CK106", "shop.opened/everybody"),
    ("CK107", "shop.escaped/tenant"),
    ("CK108", "shop.switched/bypass"),
    ("CK109", "shop.shared/tenant"),
    ("CK110", "shop.unset/tenant"),
    ("CK111", "shop.shared/tenant"),
    ("CK112", "shop.frozen/tenant"),
    ("CK113", "shop.tell(text)"),
    ("CK114", "shop.elsewhere/tenant"),
    ("CK120", "shop.child"),
    ("CK121", "shop.parted_2026"),
    ("CK101", "shop.inherited"),
    ("CK122", "shop.shared"),
    ("CK123", "shop.parent/parent_slug_key"),
    ("CK123", "shop.parent/parent_number"),
    ("CK124", "shop.cascading/cascading_parent_slug_fkey"),
    ("CK201", "shop.good_view"),
    ("CK201", "shop.view_of_view"),
    ("CK201", "shop.superuser_view"),
    ("CK202", "shop.good_copy"),
    ("CK203", "shop.count_all()"),
    ("CK204", "shop.run(text)"),
    ("CK206", "shop.become(text)"),
    ("CK206", "shop.as_xml(text)"),
    ("CK301", "shop.good"),
    ("CK302", "shop.good"),
    ("CK303", "shop.good"),
    ("CK305", "database check_threats"),
    ("CK306", "database check_threats"),
    ("CK307", "schema shop"),
    ("CK401", "role threat_app"),
    ("CK402", "database check_threats"),
    ("CK503", "publication everything"),
];

fn create_threats(cluster: &Cluster, database: &str) {
    let roles = ["threat_owner", "threat_app", "threat_boss", "threat_bypass", "threat_spy"];
    create(cluster, database, &roles, THREATS);
    cluster.admin(database).run(
        "ALTER ROLE threat_boss BYPASSRLS; ALTER ROLE threat_bypass BYPASSRLS; GRANT threat_boss TO threat_app; \
         GRANT pg_read_all_data TO threat_app",
    );
}

/// Functions of contrib modules that run strings, as far as the modules are there.
fn string_executors(cluster: &Cluster, database: &str) -> Vec<&'static str> {
    let mut admin = cluster.admin(database);
    let modules = [("dblink", "dblink"), ("tablefunc", "crosstab"), ("xml2", "xpath_table")];
    let is_there = |module: &str, admin: &mut Client| {
        let sql = format!("SELECT 1 FROM pg_available_extensions WHERE name = '{module}'");
        !admin.rows(&sql).is_empty() && admin.query(&format!("CREATE EXTENSION {module} SCHEMA shop")).len() > 1
    };
    let there: Vec<_> = modules.into_iter().filter(|(module, _)| is_there(module, &mut admin)).collect();
    // An extension may be listed and its library missing: then it has not been made.
    let mut is_made = |(module, _): &(&str, &str)| {
        !admin.rows(&format!("SELECT 1 FROM pg_extension WHERE extname = '{module}'")).is_empty()
    };
    there.into_iter().filter(|it| is_made(it)).map(|(_, function)| function).collect()
}

#[test]
fn every_threat_that_only_the_schema_can_stop_is_reported() {
    for cluster in every_release() {
        create_threats(cluster, "check_threats");
        let text = configuration(cluster, "check_threats", "threat_app", "");
        let extensions = string_executors(cluster, "check_threats");
        // The inspector has no rights of its own.
        let url = format!("postgres://threat_spy@127.0.0.1:{}", cluster.address.port());
        let (codes, report) = found(&text, &["--inspector", &url, "--role", "threat_app", "--role", "threat_bypass"]);
        for extension in &extensions {
            assert!(
                codes["CK204"].iter().any(|object| object.starts_with(&format!("shop.{extension}("))),
                "{extension}"
            );
        }
        let missing: Vec<_> = THREAT_LINES
            .iter()
            .filter(|(code, object)| !codes.get(*code).is_some_and(|objects| objects.contains(*object)))
            .collect();
        assert!(missing.is_empty(), "PostgreSQL {}: {missing:?} in {codes:#?}", cluster.version);
        assert!(!codes.contains_key("CK901"), "{:?}", codes["CK901"]);
        for (code, objects) in &codes {
            let is_clean = !objects.iter().any(|object| object.starts_with("shop.good/") || object == "shop.good");
            assert!(is_clean || matches!(&**code, "CK301" | "CK302" | "CK303"), "{code}: {objects:?}");
        }
        let executors: Vec<&str> =
            report["executors"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
        assert!(executors.contains(&"shop.count_all") && executors.contains(&"shop.run"), "{executors:?}");
        assert_eq!(executors.contains(&"shop.dblink"), extensions.contains(&"dblink"), "{executors:?}");
    }
}

/// What a probe sees is what the catalogue promises.
#[test]
fn probes_see_what_the_catalogue_says_and_leave_nothing() {
    for cluster in cluster::every() {
        let database = "check_probes";
        create(cluster, database, &["shop_owner", "shop_app"], FIRST_USERS);
        let text = configuration(cluster, database, "shop_app", FIRST_USERS_SCOPE);
        let (codes, _) = found(&text, &["--probe"]);
        assert_eq!(codes.get("CK911"), None);
        assert_eq!(codes.get("CK913"), None);
        assert_eq!(codes.get("CK914"), None);
        // The shared tag is visible without a tenant.
        assert_eq!(codes["CK912"], set(&["public.tags"]));
        assert_eq!(cluster.admin(database).value("SELECT count(*) FROM customers"), "0");
        // A policy that the catalogue's reader takes for good and that is none.
        cluster.admin(database).run(
            "CREATE FUNCTION lie() RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN \
             PERFORM current_setting('app.current_tenant_id', true); RETURN 'globex'; END $$; \
             ALTER POLICY tenant_isolation ON orders USING (\"tenantId\" = lie()); \
             CREATE FUNCTION several() RETURNS text[] LANGUAGE sql STABLE AS $$ SELECT CASE \
             WHEN current_setting('app.current_tenant_id', true) <> '' THEN ARRAY['acme', 'tenantgate-probe-b'] END $$; \
             ALTER POLICY tenant_isolation ON users USING (\"tenantId\" = ANY (several()));",
        );
        let (codes, _) = found(&text, &["--probe"]);
        assert!(codes["CK911"].contains("public.orders"), "{codes:?}");
        assert!(codes["CK912"].contains("public.orders"), "{codes:?}");
        // Wrong only with a tenant, and for writing, too: NOT NULL alone stopped the row.
        assert!(codes["CK911"].contains("public.users") && !codes["CK912"].contains("public.users"), "{codes:?}");
        assert_eq!(codes["CK913"], set(&["public.users"]));
    }
}

#[test]
fn exceptions_thresholds_and_sarif_fit_a_pipeline() {
    let cluster = cluster::fifteen();
    let database = "check_pipeline";
    create(cluster, database, &["shop_owner", "shop_app"], FIRST_USERS);
    let text = configuration(cluster, database, "shop_app", FIRST_USERS_SCOPE);
    let folder = TempDir::new().unwrap();
    let row = |code: &str, object: &str, until: &str| {
        format!("[[exceptions]]\ncode = {code:?}\nobject = {object:?}\nreason = \"a test says so\"\n{until}\n")
    };
    let all: String =
        ["CK101", "CK103", "CK104", "CK106", "CK107", "CK124"].iter().map(|code| row(code, "*", "")).collect();
    let file = folder.path().join("exceptions.toml");
    std::fs::write(&file, &all).unwrap();
    let path = file.to_str().unwrap();
    let checked = check(folder.path(), &text, &["--exceptions", path, "--fail-on", "high"]);
    assert_eq!(checked.status, Some(0), "{}{}", checked.out, checked.errors);
    assert_eq!(check(folder.path(), &text, &["--exceptions", path, "--fail-on", "medium"]).status, Some(1));
    std::fs::write(&file, row("CK101", "*", "until = \"2026-01-01\"")).unwrap();
    let expired = check(folder.path(), &text, &["--exceptions", path]);
    assert!(expired.status == Some(1) && expired.out.contains("CK902"), "{}", expired.out);
    std::fs::write(&file, "[[exceptions]]\ncode = \"CK000\"\n").unwrap();
    assert_eq!(check(folder.path(), &text, &["--exceptions", path]).status, Some(2));
    assert_eq!(check(folder.path(), &text, &["--database", "nobody"]).status, Some(2));
    assert_eq!(check(folder.path(), &text.replace("shop_app", "no_such_role"), &[]).status, Some(2));

    // Who looks proves it, too; what it proves it with is nobody's to read.
    let looker = |password: &str| format!("postgres://scram_user:{password}@{}", cluster.address);
    assert_eq!(check(folder.path(), &text, &["--inspector", &looker("geheim")]).status, Some(1));
    let refused = check(folder.path(), &text, &["--inspector", &looker("falsch")]);
    assert!(refused.status == Some(2) && !refused.errors.contains("falsch"), "{}", refused.errors);

    let log: Value = serde_json::from_str(&check(folder.path(), &text, &["--format", "sarif"]).out).unwrap();
    assert_eq!((&log["version"], log["runs"].as_array().unwrap().len()), (&Value::from("2.1.0"), 1));
    let rules = log["runs"][0]["tool"]["driver"]["rules"].as_array().unwrap();
    let ids: BTreeSet<&str> = rules.iter().map(|rule| rule["id"].as_str().unwrap()).collect();
    let results = log["runs"][0]["results"].as_array().unwrap();
    assert!(results.len() > 60, "{}", results.len());
    for result in results {
        assert!(ids.contains(result["ruleId"].as_str().unwrap()), "{result}");
        assert!(result["message"]["text"].is_string() && result["locations"][0]["logicalLocations"].is_array());
    }
}

/// Functions that run strings are refused to tenants, and nobody else.
#[test]
fn executors_are_refused_when_told_so() {
    let cluster = cluster::fifteen();
    let database = "check_executors";
    create_threats(cluster, database);
    let more = "[check]\nexecutors = \"refuse\"\n";
    let proxy = Proxy::start_with(database, None, |address, _| {
        format!("listen.addresses = [\"{address}\"]\n{}", configuration(cluster, database, "threat_app", more))
    });
    let user = "app.00000000-0000-0000-0000-00000000000a";
    let mut client = Client::connect(&Target::new(proxy.address, user, database).password("demo"));
    for sql in ["SELECT shop.run('SELECT 1')", "SELECT shop.count_all()"] {
        let replies = client.query(sql);
        let fields = replies.iter().find(|reply| reply.tag == b'E').expect("a refusal").fields();
        assert!(fields[&'M'].starts_with("TG151"), "{sql}: {fields:?}");
    }
    assert_eq!(client.value("SELECT count(*) FROM shop.good"), "0");
    assert_eq!(client.value("SELECT count(*) FROM shop.bare"), "0", "tables are allowed unless told otherwise");
}
