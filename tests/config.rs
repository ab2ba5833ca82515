//! The configuration as an operator meets it: good files load, and bad ones list all that is wrong.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::collections::BTreeMap;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use tenantgate::auth::{AddressPattern, CertificateNeed, Cidr, Method, Rule, Rules, TlsNeed};
use tenantgate::config::{
    self, ClientTls, Config, EmptyEnvironment, Environment, LoginSecret, NamedFile, ServerHost, ServerTls,
    TrustedRoots, reference,
};
use tenantgate::pool::{Fairness, Party, Quota};
use tenantgate::tenant::{
    AllowedTenants, Glob, Origin, Separator, TenantClaims, TenantId, TenantKind, TenantPolicy, TenantRefusal,
    TenantSource,
};
use tenantgate::upstream::hosts::HostChoice;
use tenantgate::upstream::login::{AllowedMethods, PasswordAllowed};
use zeroize::Zeroizing;

#[derive(Default)]
struct World {
    variables: BTreeMap<&'static str, &'static str>,
    files: BTreeMap<&'static str, (Vec<u8>, bool)>,
}

impl Environment for World {
    fn variable(&self, name: &str) -> Option<SecretString> {
        self.variables.get(name).map(|value| SecretString::from(*value))
    }

    fn read_file(&self, path: &str) -> Result<NamedFile, String> {
        let (bytes, readable_by_all) = self.files.get(path).cloned().ok_or("No such file or directory")?;
        Ok(NamedFile { bytes: Zeroizing::new(bytes), readable_by_all })
    }
}

const BASE: &str = r#"
[servers.main]
host = "127.0.0.1"
tls.mode = "disable"
[roles.app]
user = "app_user"
[databases.demo]
server = "main"
role = "app"
[logins.app_user]
password = "hunter2"
tenant.from = ["suffix"]
"#;

fn load(text: &str) -> Config {
    config::load(text, &EmptyEnvironment).map_err(|problems| lines(&problems)).unwrap().config
}

fn lines(problems: &[config::Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

/// What is wrong with the base plus `more`.
fn problems_with(more: &str) -> Vec<String> {
    problems_of(&format!("{BASE}{more}"))
}

fn problems_of(text: &str) -> Vec<String> {
    match config::load(text, &EmptyEnvironment) {
        Ok(_) => Vec::new(),
        Err(problems) => lines(&problems),
    }
}

#[track_caller]
fn assert_only_problem(more: &str, part: &str) {
    let found = problems_with(more);
    assert!(found.len() == 1 && found[0].contains(part), "wanted only {part:?}, found {found:#?}");
}

#[test]
fn the_base_loads_with_the_defaults_of_the_table() {
    let config = load(BASE);
    assert_eq!(config.listen.addresses, ["127.0.0.1:6432".parse().unwrap()]);
    assert_eq!(config.listen.login_timeout, Duration::from_secs(15));
    assert!(matches!(config.tls, ClientTls::Disable));
    assert_eq!(config.servers["main"].hosts[0].port, 5432);
    assert!(matches!(config.servers["main"].hosts[0].host, ServerHost::Address(_)));
    let demo = &config.databases["demo"];
    assert_eq!((&*demo.server, &*demo.name, &*demo.role), ("main", "demo", "app"));
    assert_eq!((demo.pool.size, demo.pool.waiting_max, demo.prepared_statements.entries_max), (20, 10_000, 200));
    assert_eq!(config.guard.policy.scope_settings, ["app.tenant_id"]);
    assert_eq!(config.scope.template.names().collect::<Vec<_>>(), ["app.tenant_id"]);
    assert!(config.rules == Rules::default() && config.runtime.threads.is_none());
    assert_eq!(config.guard.policy.text_bytes_max, 65_536);
    let source = TenantSource::Named { from: vec![Origin::Suffix], separator: Separator::default() };
    assert_eq!(
        config.logins["app_user"].tenant,
        Some(TenantPolicy { source, allowed: AllowedTenants::Any, claiming: tenantgate::tenant::Claiming::None })
    );
}

#[test]
fn a_database_overrides_the_pool_key_by_key() {
    let config = load(&format!("{BASE}[pool]\nsize = 7\nwait_timeout = \"2s\"\n[databases.demo.pool]\nsize = 3\n"));
    let pool = &config.databases["demo"].pool;
    assert_eq!((pool.size, pool.wait_timeout), (3, Duration::from_secs(2)));
}

#[test]
fn limits_of_one_tenant_or_login_go_over_the_general_ones_key_by_key() {
    let acme = "00000000-0000-0000-0000-00000000000a";
    let config = load(&format!(
        "{BASE}limits.leases_max = 5\nlimits.waiting_max = 0\n[limits.tenant]\nconnections_max = 7\n\
         idle_in_transaction_timeout = \"1m\"\n[limits.login]\nwaiting_max = 9\nstatement_timeout = \"2s\"\n\
         [[limits.tenants]]\ntenant = \"{acme}\"\nconnections_max = 70\n"
    ));
    let limits = &config.limits;
    assert_eq!(limits.fairness, Fairness::Tenants);
    let acme = Party::Tenant(TenantId::parse(TenantKind::Uuid, acme).unwrap());
    let globex = Party::Tenant(TenantId::parse(TenantKind::Uuid, "00000000-0000-0000-0000-00000000000b").unwrap());
    let minute = Some(Duration::from_secs(60));
    let of_acme = limits.of_party(&acme);
    assert_eq!((of_acme.connections_max, of_acme.times.idle_in_transaction), (Some(70), minute));
    let of_globex = limits.of_party(&globex);
    assert_eq!((of_globex.connections_max, of_globex.leases_max), (Some(7), None));
    let of_app = limits.of_login("app_user");
    assert_eq!((of_app.leases_max, of_app.waiting_max), (Some(5), None));
    assert_eq!((of_app.times.statement, of_app.times.transaction), (Some(Duration::from_secs(2)), None));
    assert_eq!(limits.of_party(&Party::Login("ops".into())), Quota::default());
    assert_eq!(load(BASE).limits.of_login("app_user"), Quota::default());
}

#[test]
fn all_problems_come_at_once_in_the_order_of_the_file() {
    let text = r#"
[listen]
addresses = ["127.0.0.1:6432", "0.0.0.0:6432", "localhost:1"]
login_timeout = "15"
[tls]
mode = "prefered"
[servers.main]
host = "db.example.com:5432"
[servers.main.tls]
mode = "verify-fll"
[roles.app]
user = "app_user"
password = "a"
password_env = "B"
[databases.demo]
server = "mian"
role = "ap"
[databases.demo.pool]
size = 0
[pool]
waiting_maximum = 3
[scope.settings]
"tenant_id" = "{tenant}"
[logins.app_user]
password = 5
databases = ["dmeo"]
[logins.app_user.tenant]
fixed = "acme"
[[rules]]
address = "10.0.0.1/8"
method = "scram"
"#;
    assert_eq!(
        problems_of(text),
        [
            "listen.addresses[1] (line 3): 0.0.0.0:6432 and 127.0.0.1:6432 cannot both be listened on",
            "listen.addresses[2] (line 3): \"localhost:1\" is no address with port; write \"127.0.0.1:6432\", \"[::1]:6432\" or \"0.0.0.0:6432\"",
            "listen.login_timeout (line 4): \"15\" is not a duration; write a number and a unit, like \"250ms\", \"15s\", \"10m\", \"1h\" or \"2d\"",
            "tls.mode (line 6): \"prefered\" is not one of disable, allow, prefer, require; did you mean \"prefer\"?",
            "servers.main.host (line 8): \"db.example.com:5432\" is no host name, IP address or absolute path of a folder; the port has a key of its own",
            "servers.main.tls.mode (line 10): \"verify-fll\" is not one of disable, prefer, require, verify-ca, verify-full; did you mean \"verify-full\"?",
            "roles.app.password_env (line 14): only one of password, password_env may be given",
            "databases.demo.server (line 16): no [servers.mian]; did you mean \"main\"?",
            "databases.demo.role (line 17): no [roles.ap]; did you mean \"app\"?",
            "databases.demo.pool.size (line 19): must be a whole number from 1 to 10000",
            "pool.waiting_maximum (line 21): there is no such key; did you mean \"waiting_max\"?",
            "scope.settings.tenant_id (line 23): is no custom setting (prefix.name); use a name like \"app.tenant_id\", in quotes",
            "logins.app_user.password (line 25): expected text, found a whole number",
            "logins.app_user.databases[0] (line 26): no [databases.dmeo]; did you mean \"demo\"?",
            "rules[0].address (line 30): \"10.0.0.1/8\": the address has bits set behind its prefix; write \"10.0.0.0/8\", \"::1/128\", a single address, \"local\" or \"*\"",
            "rules[0].method (line 31): \"scram\" is not one of scram-sha-256, cert, trust, reject",
        ]
    );
}

#[test]
fn a_syntax_error_is_reported_alone_with_its_line() {
    let found = problems_of("[listen]\nnonsense = 1\naddresses = \n[servers]\nnonsense = 1\n");
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].starts_with("line 3:"), "{found:#?}");
    assert!(problems_of("[pool]\nsize = 1\nsize = 2\n")[0].starts_with("line 3:"));
}

#[test]
fn an_empty_file_says_what_is_needed() {
    let found = problems_of("");
    for kind in ["servers", "roles", "databases", "logins"] {
        assert!(found.iter().any(|line| line.starts_with(&format!("{kind}: none is configured"))), "{found:#?}");
    }
}

#[test]
fn impossible_values_are_refused() {
    for (more, part) in [
        ("[databases.b]\nserver = \"main\"\nrole = \"app\"\nseal = true\n", "databases.b.seal (line 16): needs a key"),
        (
            "[databases.b]\nserver = \"main\"\nrole = \"app\"\nseal = true\nseal_key = \"0f\"\n",
            "databases.b.seal_key (line 17): a key is 64 hexadecimal digits",
        ),
        (
            "[databases.b]\nserver = \"main\"\nrole = \"app\"\nseal = true\nseal_key = \
             \"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\"\n[scope]\nlifetime = \"lease\"\n",
            "databases.b.seal (line 16): a database with scope.lifetime = \"lease\" cannot be sealed",
        ),
        ("[pool]\nsize_min = 21\n", "pool.size_min (line 14): size_min 21 is larger than size 20"),
        ("[databases.demo.pool]\nsize = 1\n[pool]\nsize_min = 2\n", "databases.demo.pool.size (line 14)"),
        ("[listen]\naddresses = []\n", "at least one address"),
        ("[listen]\nclient_connections_max = 0\n", "from 1 to"),
        ("[listen]\nclient_connections_max = -1\n", "from 1 to"),
        ("[listen]\nclient_connections_max = 1.5\n", "a number with a fraction"),
        ("[pool]\nwait_timeout = \"0s\"\n", "must be between"),
        ("[guard]\ntext_bytes_max = \"1 TB\"\n", "whole number from 1024"),
        ("[tls]\nmode = \"require\"\ncertificate = \"x.crt\"\nkey = 3\n", "tls.key (line 16): expected text"),
        ("[scope]\nlifetime = \"session\"\n", "not one of transaction, lease"),
        ("[scope.settings]\n\"app.a\" = \"x\"\n", "does not hold {tenant}"),
        ("[scope.settings]\n\"app.a\" = \"{tenant}\"\n\"APP.A\" = \"{tenant}\"\n", "named twice"),
        ("[scope]\nsettings = {}\n", "at least one scope setting"),
        ("[guard]\nsettings_allowed = [\"App.Tenant_Id\"]\n", "only the proxy sets it"),
        ("[guard]\nsettings_allowed = [\"role\"]\n", "can never be allowed"),
        ("[guard]\nfunctions_allowed = [\"pg_catalog.set_config\"]\n", "can never be allowed"),
        ("[guard]\nstartup_parameters_ignored = [\"options\"]\n", "cannot be ignored"),
        ("[[rules]]\nmethod = \"reject\"\nlogin = \"app_usr\"\n", "did you mean \"app_user\"?"),
        ("[[rules]]\nlogin = \"*\"\n", "rules[0].method (line 13): is missing"),
        ("[[rules]]\nmethod = \"reject\"\ntls = \"required\"\n", "no client can have TLS"),
        ("[[rules]]\nmethod = \"reject\"\naddress = \"1.2.3\"\n", "expected an address"),
        ("[logins.b]\ntenant.from = [\"startup\"]\n", "logins.b (line 13): has no password"),
        ("[logins.b]\npassword = \"\"\ntenant.from = [\"startup\"]\n", "must not be empty"),
        ("[logins.b]\nscram = \"md5abc\"\ntenant.from = [\"startup\"]\n", "is not a SCRAM-SHA-256 verifier"),
        (
            "[logins.b]\nscram = \"SCRAM-SHA-256$0:YQ==$YQ==:YQ==\"\ntenant.from = [\"startup\"]\n",
            "the iteration count",
        ),
        ("[logins.b]\npassword = \"x\"\nscram = \"y\"\ntenant.from = [\"startup\"]\n", "only one of"),
        ("[logins.b]\npassword_env = \"NOPE\"\ntenant.from = [\"startup\"]\n", "\"NOPE\" is not set"),
        ("[logins.b]\npassword_file = \"nope\"\ntenant.from = [\"startup\"]\n", "cannot read \"nope\""),
        ("[logins.b]\npassword = \"x\"\n", "logins.b.tenant (line 13): does not say where"),
        ("[logins.b]\npassword = \"x\"\ntenant.fixed = \"acme\"\n", "the tenant is not a UUID"),
        ("[logins.b]\npassword = \"x\"\ntenant.from = []\n", "names no source"),
        ("[logins.b]\npassword = \"x\"\ntenant.from = [\"sufix\"]\n", "did you mean \"suffix\"?"),
        ("[logins.b]\npassword = \"x\"\ntenant.from = [\"suffix\", \"suffix\"]\n", "listed twice"),
        ("[logins.b]\npassword = \"x\"\ntenant.from = [\"suffix\"]\ntenant.separator = \"x\"\n", "punctuation"),
        ("[logins.b]\npassword = \"x\"\ntenant.from = [\"suffix\"]\ntenant.separator = \"¦\"\n", "ASCII punctuation"),
        ("[logins.b]\npassword = \"x\"\ntenant.from = [\"suffix\"]\ntenant.allowed = \"all\"\n", "\"any\""),
        ("[logins.b]\npassword = \"x\"\ntenant.from = [\"suffix\"]\ntenant.allowed = []\n", "lists no tenant"),
        ("[logins.b]\npassword = \"x\"\ntenant.from = [\"suffix\"]\ntenant.allowed = {patern = \"*\"}\n", "pattern"),
        (
            "[logins.b]\npassword = \"x\"\ntenant.from = [\"suffix\"]\ntenant.allowed = {pattern = \"A*\"}\n",
            "fits no UUID",
        ),
        ("[logins.b]\npassword = \"x\"\nrole = \"ap\"\ntenant.from = [\"suffix\"]\n", "no [roles.ap]; did you mean"),
        ("[logins.b]\npassword = \"x\"\ndatabases = []\ntenant.from = [\"suffix\"]\n", "lists no database"),
        ("[logins.\"app_user.x\"]\npassword = \"x\"\ntenant.from = [\"startup\"]\n", "could also be the login"),
        ("[databases.b]\nserver = \"main\"\nrole = \"app\"\nname = \"demo\"\npool.size = 2\n", "pool settings differ"),
        ("[servers.b]\nhost = \"/tmp\"\ntls.mode = \"require\"\n", "no TLS on unix sockets"),
        ("[servers.b]\nhost = \"h\"\ntls.mode = \"require\"\ntls.ca = \"x\"\n", "is not looked at"),
        ("[servers.b]\nhost = \"h\"\ntls.ca = \"x\"\n", "cannot read \"x\""),
        ("[servers]\nb = 3\n", ""),
        ("[limits]\nfairness = \"of\"\n", "did you mean \"off\"?"),
        ("[limits.tenant]\nleases_max = -1\n", "from 0 to"),
        ("[limits.login]\nstatement_timeout = 5\n", "limits.login.statement_timeout (line 14): expected a duration"),
        ("[[limits.tenants]]\nleases_max = 1\n", "limits.tenants[0].tenant (line 13): is missing"),
        ("[[limits.tenants]]\ntenant = \"acme\"\n", "limits.tenants[0].tenant (line 14): the tenant is not a UUID"),
        (
            "[scope]\ntenant_type = \"text\"\n[[limits.tenants]]\ntenant = \"a\"\n[[limits.tenants]]\ntenant = \"a\"\n",
            "limits.tenants[1].tenant (line 18): has limits already",
        ),
        ("[nonsense]\nx = 1\n", "nonsense (line 13): there is no such key"),
        ("[log]\nlevel = \"verbose\"\n", "one of error, warn"),
        ("[runtime]\nthreads = 0\n", "from 1 to 1024"),
    ] {
        let found = problems_with(more);
        let has_it = found.iter().any(|line| line.contains(part));
        assert!(has_it && found.len() <= 3, "wanted {part:?} for {more:?}, found {found:#?}");
    }
}

#[test]
fn one_mistake_is_one_problem() {
    assert_only_problem("[pool]\nsize = 0\n", "pool.size");
    assert_only_problem("[logins.b]\npassword = \"x\"\ntenant.allowed = \"any\"\n", "does not say where the tenant");
    assert_only_problem("\"pool.size\" = 3\n", "there is no such key");
}

#[test]
fn secrets_come_from_text_variable_or_file_and_are_never_printed() {
    let world = World {
        variables: BTreeMap::from([("APP_PASSWORD", "from-variable")]),
        files: BTreeMap::from([("login.password", (b"from-file\n".to_vec(), true))]),
    };
    let text = BASE
        .replace("user = \"app_user\"", "user = \"app_user\"\npassword_env = \"APP_PASSWORD\"")
        .replace("password = \"hunter2\"", "password_file = \"login.password\"");
    let loaded = config::load(&text, &world).unwrap();
    assert_eq!(loaded.config.roles["app"].password.as_ref().unwrap().expose_secret(), "from-variable");
    let Some(LoginSecret::Plain(password)) = &loaded.config.logins["app_user"].secret else { panic!("no password") };
    assert_eq!(password.expose_secret(), "from-file");
    assert_eq!(
        lines(&loaded.warnings),
        [
            "warning: logins.app_user.password_file (line 12): every user may read \"login.password\"; run chmod o-r on it"
        ]
    );
    let debug = format!("{:?}", loaded.config);
    assert!(!debug.contains("from-variable") && !debug.contains("from-file"));
    let problems = problems_with("[logins.b]\npassword = [\"hunter3\"]\ntenant.from = [\"suffix\"]\n").join("\n");
    assert!(!problems.is_empty() && !problems.contains("hunter"), "{problems}");
}

#[test]
fn tls_files_are_read_and_checked_for_form() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let world = World {
        variables: BTreeMap::new(),
        files: BTreeMap::from([
            ("server.crt", (made.cert.pem().into_bytes(), false)),
            ("server.key", (made.signing_key.serialize_pem().into_bytes(), false)),
            ("junk.pem", (b"no certificate".to_vec(), false)),
        ]),
    };
    let tls = "[tls]\nmode = \"require\"\ncertificate = \"server.crt\"\nkey = \"server.key\"\n";
    let ca = "[servers.b]\nhost = \"db.example.com\"\ntls.ca = \"server.crt\"\n";
    let config = config::load(&format!("{BASE}{tls}{ca}"), &world).unwrap().config;
    assert!(
        matches!(&config.tls, ClientTls::Require(made) if made.identity.chain.len() == 1 && made.authority.is_none())
    );
    assert!(matches!(&config.servers["b"].tls, ServerTls::VerifyFull(TrustedRoots::Given(roots)) if roots.len() == 1));
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let mut mismatched = world.files.clone();
    mismatched.insert("server.key", (other.signing_key.serialize_pem().into_bytes(), false));
    mismatched.insert("root.crt", (b"-----BEGIN CERTIFICATE-----\nYWJj\n-----END CERTIFICATE-----\n".to_vec(), false));
    let world_of_others = World { variables: BTreeMap::new(), files: mismatched };
    let bad_ca = ca.replace("server.crt", "root.crt");
    let problems = lines(&config::load(&format!("{BASE}{tls}{bad_ca}"), &world_of_others).unwrap_err());
    assert!(problems[0].starts_with("tls.key (line 16): cannot be used with the certificate"), "{problems:#?}");
    assert!(problems[1].contains("certificate 1 of \"root.crt\" cannot be a root"), "{problems:#?}");
    let swapped = tls.replace("server.crt", "junk.pem").replace("server.key", "server.crt");
    let problems = config::load(&format!("{BASE}{swapped}"), &world).unwrap_err();
    let text = lines(&problems).join("\n");
    assert!(text.contains("holds no certificate") && text.contains("holds no private key"), "{text}");
}

#[test]
fn servers_are_verified_unless_the_file_says_otherwise() {
    let config =
        load(&format!("{BASE}[servers.b]\nhost = \"db\"\n[servers.c]\nhost = \"::1\"\n[servers.d]\nhost = \"/run\"\n"));
    assert!(matches!(config.servers["b"].tls, ServerTls::VerifyFull(TrustedRoots::System)));
    assert!(matches!(config.servers["c"].tls, ServerTls::VerifyFull(TrustedRoots::System)));
    assert!(matches!(config.servers["d"].tls, ServerTls::Disable));
    assert_eq!(config.servers["d"].hosts[0].host, ServerHost::UnixFolder("/run".into()));
}

#[test]
fn a_public_listener_without_tls_is_a_warning() {
    let loaded = config::load(&format!("{BASE}[listen]\naddresses = [\"0.0.0.0:6432\"]\n"), &EmptyEnvironment).unwrap();
    assert!(lines(&loaded.warnings)[0].contains("clients reach this address without TLS"));
}

#[test]
fn rules_keep_their_order_and_a_trusted_login_needs_no_password() {
    let config = load(&format!(
        "{BASE}[logins.local]\ntenant.from = [\"startup\"]\n\
         [[rules]]\nlogin = \"local\"\naddress = \"127.0.0.1\"\nmethod = \"trust\"\n[[rules]]\nmethod = \"reject\"\n"
    ));
    let local = Rule {
        login: Glob::exact("local"),
        database: Glob::any(),
        address: AddressPattern::Block(Cidr::parse("127.0.0.1/32").unwrap()),
        tls: TlsNeed::Any,
        certificate: CertificateNeed::None,
        method: Method::Trust,
    };
    let others = Rule { login: Glob::any(), address: AddressPattern::Any, method: Method::Reject, ..local.clone() };
    assert_eq!(config.rules, Rules::new(vec![local, others]));
    assert!(config.logins["local"].secret.is_none());
}

#[test]
fn text_tenants_have_lists_and_patterns() {
    let config = load(&format!(
        "{BASE}[scope]\ntenant_type = \"text\"\n\
         [logins.b]\npassword = \"x\"\ntenant = {{ from = [\"startup\"], allowed = [\"acme\", \"globex\"] }}\n\
         [logins.c]\npassword = \"x\"\ntenant = {{ from = [\"suffix\"], separator = \"@\", allowed = {{ pattern = \"acme-*\" }} }}\n\
         [logins.d]\npassword = \"x\"\ntenant.fixed = \"initech\"\n"
    ));
    let resolve = |login: &str, suffix, startup: Option<&'static str>| {
        let claims = TenantClaims { suffix, startup: startup.into_iter().collect() };
        config.logins[login].tenant.as_ref().unwrap().resolve(TenantKind::Text, &claims)
    };
    let tenant = |text| TenantId::parse(TenantKind::Text, text).unwrap();
    assert_eq!(resolve("b", None, Some("acme")), Ok(tenant("acme")));
    assert_eq!(resolve("b", None, Some("initech")), Err(TenantRefusal::NotAllowed));
    assert_eq!(resolve("b", Some("acme"), None), Err(TenantRefusal::OriginNotAccepted));
    assert_eq!(resolve("c", Some("acme-1"), None), Ok(tenant("acme-1")));
    assert_eq!(resolve("c", Some("acme"), None), Err(TenantRefusal::NotAllowed));
    assert_eq!(resolve("d", None, None), Ok(tenant("initech")));
    assert_eq!(resolve("d", None, Some("acme")), Err(TenantRefusal::NotFixed));
}

#[test]
fn the_shipped_files_load() {
    let world = World {
        variables: BTreeMap::from([("TENANTGATE_APP_PASSWORD", "x"), ("TENANTGATE_LOGIN_PASSWORD", "y")]),
        files: BTreeMap::new(),
    };
    for path in ["config/minimal.toml", "config/reference.toml"] {
        let text = std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let loaded = config::load(&text, &world);
        assert!(loaded.as_ref().is_ok_and(|loaded| loaded.warnings.is_empty()), "{path}: {loaded:?}");
    }
}

/// `TENANTGATE_UPDATE=1 cargo test --test config` writes the two files anew.
#[test]
fn reference_file_and_page_are_what_the_key_table_prints() {
    for (path, wanted) in
        [("config/reference.toml", reference::render_toml()), ("docs/configuration.md", reference::render_markdown())]
    {
        let full = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("TENANTGATE_UPDATE").is_some() {
            std::fs::write(&full, &wanted).unwrap();
        }
        let found = std::fs::read_to_string(&full).unwrap_or_default();
        assert!(found == wanted, "{path} differs from src/config/reference.rs; run with TENANTGATE_UPDATE=1");
    }
}

const RECORDED: &str = "\
[servers.main]
host = \"127.0.0.1\"
[servers.main.tls]
mode = \"disable\"
[roles.app]
user = \"app_user\"
[roles.bypass]
user = \"app_bypass\"
[databases.demo]
server = \"main\"
role = \"app\"
[logins.app_user]
password = \"demo\"
[logins.app_user.tenant]
from = [\"suffix\"]
[logins.ops]
password = \"demo\"
preset = \"bypass\"
role = \"bypass\"
[ledger]
";

#[test]
fn a_bypass_login_needs_a_role_of_its_own_and_a_ledger() {
    let problems = |text: &str| match config::load(text, &EmptyEnvironment) {
        Ok(_) => String::new(),
        Err(problems) => problems.iter().map(|problem| format!("{problem}\n")).collect(),
    };
    let loaded = config::load(RECORDED, &EmptyEnvironment).unwrap();
    assert_eq!(loaded.config.logins["ops"].preset, tenantgate::guard::Preset::Bypass);
    assert_eq!(loaded.config.logins["ops"].tenant, None);
    assert_eq!(loaded.config.ledger.unwrap().path, std::path::Path::new("ledger.jsonl"));
    for (from, to, wanted) in [
        ("[ledger]\n", "", "logins.ops.preset"),
        ("[ledger]\n", "[ledger]\npath = \"ledger.gz\"\n", "ledger.path"),
        ("[ledger]\n", "[ledger]\ncompress = \"zstd\"\n", "ledger.compress"),
        ("role = \"bypass\"\n", "", "logins.ops.role"),
        ("role = \"bypass\"\n", "role = \"app\"\n", "logins.ops.role"),
        ("user = \"app_bypass\"", "user = \"app_user\"", "logins.ops.role"),
        ("[ledger]", "[logins.ops.tenant]\nfixed = \"a\"\n[ledger]", "logins.ops.tenant"),
        ("[ledger]", "[bypass.settings]\n\"app.x\" = \"{tenant}\"\n[ledger]", "bypass.settings"),
        ("[ledger]", "[bypass.settings]\nwork_mem = \"1\"\n[ledger]", "bypass.settings"),
        ("[ledger]", "[guard]\nsettings_allowed = [\"tenantgate.reason\"]\n[ledger]", "guard.settings_allowed"),
        ("preset = \"bypass\"", "preset = \"bypas\"", "did you mean \"bypass\""),
    ] {
        let said = problems(&RECORDED.replacen(from, to, 1));
        assert!(said.contains(wanted), "{to}: {said}");
    }
}
#[test]
fn a_claimed_bypass_is_off_unless_its_setting_is_given_and_every_value_is_one_of_two() {
    let base =
        RECORDED.replacen("[ledger]\n", "[logins.web]\npassword = \"x\"\nclaims = \"transaction\"\n[ledger]\n", 1);
    let with = |keys: &str| {
        let text = base.replacen("[ledger]", &format!("[logins.web.claimed_bypass]\n{keys}\n[ledger]"), 1);
        config::load(&text, &EmptyEnvironment)
            .map(|loaded| loaded.config.logins["web"].claimed_bypass.clone())
            .map_err(|problems| problems.iter().map(|problem| format!("{problem}\n")).collect::<String>())
    };
    assert_eq!(with(""), Ok(None));
    let bypass = with("setting = \"App.Bypass_RLS\"").unwrap().unwrap();
    assert_eq!((&*bypass.setting, &*bypass.value, bypass.reason.as_deref()), ("app.bypass_rls", "true", None));
    assert_eq!([bypass.means("true"), bypass.means("false"), bypass.means("on")], [Some(true), Some(false), None]);
    let bypass = with("setting = \"app.x\"\nvalue = \"on\"\nreason = \"report\"").unwrap().unwrap();
    assert_eq!(
        (bypass.means("on"), bypass.means("true"), bypass.reason.as_deref()),
        (Some(true), None, Some("report"))
    );
    for (keys, wanted) in [
        ("value = \"true\"", "does not say by which setting"),
        ("setting = \"app.tenant_id\"", "names the tenant"),
        ("setting = \"row_security\"", "is no custom setting"),
        ("setting = \"search_path\"", "is no custom setting"),
        ("setting = \"tenantgate.x\"", "belongs to the proxy"),
        ("setting = \"app.x\"\nvalue = \"off\"", "stands for no bypass"),
        ("setting = \"app.x\"\nvalue = \"a\\\\b\"", "must be a plain value"),
        ("setting = \"app.x\"\nreason = \" \"", "reason is empty"),
        ("setting = \"app.x\"\n[guard]\nsettings_allowed = [\"app.x\"]", "is allowed as a setting, too"),
    ] {
        let said = with(keys).unwrap_err();
        assert!(said.contains(wanted), "{keys}: {said}");
    }
    let said = config::load(
        &base.replacen("claims = \"transaction\"", "tenant.from = [\"suffix\"]\nclaimed_bypass.setting = \"a.b\"", 1),
        &EmptyEnvironment,
    );
    assert!(said.unwrap_err().iter().any(|problem| problem.to_string().contains("only for logins that may claim")));
}

#[test]
fn a_unix_socket_takes_the_first_addresses_port() {
    let unix = |more: &str| load(&format!("{BASE}[listen]\nunix_folder = \"/run/tg\"\n{more}")).listen.unix.unwrap();
    assert_eq!((unix("").path.to_str(), unix("").mode), (Some("/run/tg/.s.PGSQL.6432"), 0o777));
    let other = unix("unix_port = 5433\nunix_mode = \"0770\"\naddresses = []\n");
    assert_eq!((other.path.to_str(), other.mode), (Some("/run/tg/.s.PGSQL.5433"), 0o770));
    assert!(load(BASE).listen.unix.is_none());
    let long = "x".repeat(100);
    for (more, part) in [
        ("unix_folder = \"run\"\n".to_owned(), "is no absolute path"),
        ("unix_folder = \"@abstract\"\n".to_owned(), "is no absolute path"),
        (format!("unix_folder = \"/{long}\"\n"), "the socket's path would have 115 bytes"),
        ("unix_folder = \"/run\"\naddresses = []\n".to_owned(), "no address has a port to take"),
        ("unix_folder = \"/run\"\naddresses = [\"127.0.0.1:0\"]\n".to_owned(), "no address has a port to take"),
        ("unix_folder = \"/run\"\nunix_mode = \"rwx\"\n".to_owned(), "are no permissions"),
        ("unix_folder = \"/run\"\nunix_mode = \"+777\"\n".to_owned(), "are no permissions"),
        ("unix_folder = \"/run\"\nunix_mode = \"4777\"\n".to_owned(), "are no permissions"),
    ] {
        assert_only_problem(&format!("[listen]\n{more}"), part);
    }
    assert!(problems_with("[listen]\naddresses = []\n")[0].contains("at least one address or a unix_folder"));
}

#[test]
fn hosts_have_ports_of_their_own_and_are_listed_once() {
    let group = |text: &str| problems_of(&BASE.replace("host = \"127.0.0.1\"", text));
    let config = load(&BASE.replace(
        "host = \"127.0.0.1\"",
        "port = 5433\nhosts = [\"db1\", \"db2:1\", \"::1\", \"[::1]:2\", \"[::2]\", \"10.0.0.1:3\", \"/run\", \"/run:4\"]\n\
         target_session_attrs = \"read-write\"\nchoice = \"round-robin\"",
    ));
    let main = &config.servers["main"];
    let shown: Vec<String> = main.hosts.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        ["db1:5433", "db2:1", "[::1]:5433", "[::1]:2", "[::2]:5433", "10.0.0.1:3", "/run:5433", "/run:4"]
    );
    assert_eq!((main.session_attributes.word(), main.choice), ("read-write", HostChoice::RoundRobin));
    let long = format!("host = \"/{}\"", "x".repeat(92));
    for (text, part) in [
        (&*long, "may have 92 bytes, and this has 93"),
        ("hosts = []", "must list 1 to 16 hosts"),
        ("hosts = [\"a\"]\nhost = \"b\"", "give either host or hosts"),
        ("hosts = [\"a\", \"a\"]", "\"a\" is listed twice"),
        ("hosts = [\"a\", \"a:5432\"]", "a:5432 is listed twice"),
        ("hosts = [\"a:0\"]", "\"0\" is no port"),
        ("hosts = [\"a:+1\"]", "\"+1\" is no port"),
        ("hosts = [\"a:b:c\"]", "\"c\" is no port"),
        ("hosts = [\"@abstract\"]", "is no host name"),
    ] {
        let found = group(text);
        assert!(found.iter().any(|line| line.contains(part)), "{text}: {found:#?}");
    }
}

#[test]
fn what_needs_tls_towards_servers_says_so() {
    for key in ["negotiation = \"direct\"", "channel_binding = \"require\""] {
        for mode in ["disable", "prefer"] {
            let text = BASE.replace("tls.mode = \"disable\"", &format!("tls = {{ mode = \"{mode}\", {key} }}"));
            let found = problems_of(&text);
            assert!(found.len() == 1 && found[0].contains("needs TLS at every host"), "{mode} {key}: {found:#?}");
        }
        load(&BASE.replace("tls.mode = \"disable\"", &format!("tls = {{ mode = \"require\", {key} }}")));
    }
    let half = BASE.replace("tls.mode = \"disable\"", "tls = { mode = \"require\", certificate = \"a.crt\" }");
    assert!(problems_of(&half)[0].contains("one of them is missing"));
}

#[test]
fn roles_prove_their_password_as_they_are_allowed_to() {
    let methods = |list: &str| {
        load(&BASE.replace("user = \"app_user\"", &format!("user = \"a\"\nauth_allowed = {list}"))).roles["app"].methods
    };
    assert_eq!(load(BASE).roles["app"].methods, AllowedMethods::default());
    let all = methods("[\"md5\", \"password\"]");
    assert_eq!(all, AllowedMethods { scram: false, md5: true, password: PasswordAllowed::Protected });
    assert_eq!(methods("[\"password-unencrypted\"]").password, PasswordAllowed::Anywhere);
    let none = problems_of(&BASE.replace("user = \"app_user\"", "user = \"a\"\nauth_allowed = []"));
    assert!(none[0].contains("allows nothing"), "{none:?}");
    for (mode, is_warned) in [("require", true), ("prefer", true), ("verify-full", false), ("disable", false)] {
        let text = BASE.replace("\"disable\"", &format!("{mode:?}"));
        let text = text.replace("user = \"app_user\"", "user = \"a\"\nauth_allowed = [\"password\"]");
        let warnings = lines(&config::load(&text, &EmptyEnvironment).unwrap().warnings);
        let found = warnings.iter().any(|line| line.contains("a server that nobody has verified"));
        assert_eq!(found, is_warned, "{mode}: {warnings:?}");
    }
}

#[test]
fn certificates_are_demanded_only_where_clients_are_asked_for_them() {
    let rule = |more: &str| format!("[[rules]]\nmethod = \"scram-sha-256\"\n{more}");
    assert_only_problem(&rule("certificate = \"verify-ca\"\n"), "clients are asked for no certificate");
    assert_only_problem("[[rules]]\nmethod = \"cert\"\n", "clients are asked for no certificate");
    assert_only_problem("[tls]\nclient_ca = \"x\"\n", "no client can show a certificate without TLS");
    assert!(problems_with("[tls]\nmode = \"prefer\"\nclient_crl = \"x\"\n").join("\n").contains("without client_ca"));
    let local = load(&format!("{BASE}[[rules]]\naddress = \"local\"\nmethod = \"trust\"\n"));
    let expected = Rule {
        login: Glob::any(),
        database: Glob::any(),
        address: AddressPattern::Local,
        tls: TlsNeed::Any,
        certificate: CertificateNeed::None,
        method: Method::Trust,
    };
    assert_eq!(local.rules, Rules::new(vec![expected]));
}

#[test]
fn the_console_is_for_listed_logins_and_metrics_have_an_address() {
    use tenantgate::config::ConsoleRight;
    let quiet = load(BASE);
    assert_eq!((quiet.metrics.address, quiet.console.right_of("app_user")), (None, None));
    let more = "[logins.ops]\npassword = \"x\"\ntenant.from = [\"suffix\"]\n[console]\nadmins = [\"ops\"]\n\
                stats = [\"app_user\"]\n[metrics]\naddress = \"127.0.0.1:9127\"\ntenants_max = 7\n";
    let both = load(&format!("{BASE}{more}"));
    assert_eq!(both.console.right_of("ops"), Some(ConsoleRight::Admin));
    assert_eq!(both.console.right_of("app_user"), Some(ConsoleRight::Stats));
    assert_eq!(both.metrics.address, Some("127.0.0.1:9127".parse().unwrap()));
    assert_eq!(both.metrics.counted.tenants_shown_max, 7);
    assert_only_problem("[console]\nadmins = [\"nobody\"]", "no [logins.nobody]");
    assert_only_problem(
        "[console]\nadmins = [\"app_user\"]\nstats = [\"app_user\"]",
        "is an admin of the console already",
    );
    assert_only_problem("[metrics]\naddress = \"9127\"", "is no address with port");
    let only = load(&format!("{BASE}[logins.c]\npassword = \"x\"\npreset = \"console\"\n[console]\nadmins = [\"c\"]"));
    assert_eq!(only.logins["c"].access(), tenantgate::auth::Access::Console);
    let meaningless = "[logins.c]\npassword = \"x\"\npreset = \"console\"\n";
    assert_only_problem(
        &format!("{meaningless}tenant.from = [\"suffix\"]\n[console]\nadmins = [\"c\"]"),
        "for the console only",
    );
    assert_only_problem(&format!("{meaningless}role = \"app\"\n[console]\nadmins = [\"c\"]"), "for the console only");
    let unlisted = config::load(&format!("{BASE}{meaningless}"), &EmptyEnvironment).unwrap();
    assert!(lines(&unlisted.warnings)[0].contains("may not even enter"), "{:?}", unlisted.warnings);
    let taken = "[databases.pgbouncer]\nserver = \"main\"\nrole = \"app\"\n";
    assert!(config::load(&format!("{BASE}{taken}"), &EmptyEnvironment).is_ok());
    assert_only_problem(&format!("{taken}[console]\nstats = [\"app_user\"]"), "is the console's name");
    let public = config::load(&format!("{BASE}[metrics]\naddress = \"0.0.0.0:9127\""), &EmptyEnvironment).unwrap();
    assert!(lines(&public.warnings).iter().any(|line| line.contains("reads the names")), "{:?}", public.warnings);
}

#[test]
fn what_is_checked_in_databases_is_off_unless_asked_for() {
    let check = load(BASE).check;
    assert_eq!(check.tenant_columns, ["tenant_id", "tenantId"]);
    assert!(!check.is_asked_at_start() && !check.refuses() && check.inspector.is_none());
    let asked =
        load(&format!("{BASE}[check]\non_gap = \"warn\"\ninspector = \"app\"\ntenant_columns = [\"org\"]\n")).check;
    assert!(asked.is_asked_at_start() && !asked.refuses());
    assert_eq!((asked.inspector.as_deref(), asked.tenant_columns), (Some("app"), vec!["org".to_owned()]));
    for key in ["on_gap", "uncovered_tables", "executors"] {
        assert!(load(&format!("{BASE}[check]\n{key} = \"refuse\"\n")).check.refuses(), "{key}");
    }
    assert_only_problem("[check]\ninspector = \"nobody\"\n", "no [roles.nobody]");
    assert_only_problem("[check]\nprobe_tenants = [\"00000000-0000-4000-8000-00000000000a\"]\n", "two tenants");
    assert_only_problem("[check]\nprobe_tenants = [\"x\", \"00000000-0000-4000-8000-00000000000a\"]\n", "UUID");
}

#[test]
fn a_login_that_claims_needs_no_origin_and_a_scope_that_ends_with_transactions() {
    let login = "[logins.web]\npassword = \"x\"\nclaims = \"transaction\"\n";
    let loaded = config::load(&format!("{BASE}{login}"), &EmptyEnvironment).unwrap();
    let tenant = loaded.config.logins["web"].tenant.clone().unwrap();
    assert_eq!(tenant.claiming, tenantgate::tenant::Claiming::Transaction);
    let problems = |more: &str| problems_with(more).join("\n");
    assert!(problems(&format!("{login}[scope]\nlifetime = \"lease\"\n")).contains("logins.web.claims"));
    for more in ["preset = \"migration\"\n", "preset = \"console\"\n"] {
        assert!(problems(&format!("{login}{more}")).contains("logins.web.claims"), "{more}");
    }
    assert!(problems(&format!("{login}claimed_bypass.setting = \"app.bypass_rls\"\n")).contains("needs a ledger"));
    // Tenants are claimed on sealed databases, too; a bypass is not: their roles act for tenants or past them.
    let key = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    let sealed = format!("[databases.b]\nserver = \"main\"\nrole = \"app\"\nseal = true\nseal_key = \"{key}\"\n");
    assert_eq!(problems(&format!("{sealed}{login}")), "");
    let bypass = "claimed_bypass.setting = \"app.bypass_rls\"\n[ledger]\npath = \"ledger.jsonl\"\n";
    assert!(problems(&format!("{sealed}{login}{bypass}")).contains("does not go with databases.b, which is sealed"));
    assert!(problems("[logins.web]\npassword = \"x\"\nclaims = \"always\"\n").contains("logins.web.claims"));
    assert!(problems("[logins.web]\npassword = \"x\"\n").contains("logins.web.tenant"));
}

#[test]
fn the_review_page_needs_a_ledger_reviewers_and_a_way_without_listeners() {
    let page = |more: &str| format!("[ledger]\n[review]\naddress = \"127.0.0.1:1\"\n{more}");
    let rita = "[review.reviewers.rita]\npassword = \"x\"\n";
    let config = load(&format!("{BASE}{}", page(rita))).review;
    assert_eq!((config.address.unwrap().port(), config.idle_timeout), (1, Duration::from_secs(1800)));
    assert!(config.reviewers.contains_key("rita") && load(BASE).review.address.is_none());
    assert_only_problem(&page(""), "nobody may see the review page");
    assert_only_problem(&page("[review.reviewers.rita]\n"), "a reviewer needs a password");
    assert_only_problem(&format!("[review]\naddress = \"127.0.0.1:1\"\n{rita}"), "needs a ledger");
    let open = |origin: &str| page(&format!("{origin}{rita}")).replace("127.0.0.1:1", "0.0.0.0:1");
    assert_only_problem(&open(""), "passwords would cross the network without TLS");
    assert_only_problem(
        &open("origin = \"http://review.example.com\"\n"),
        "passwords would cross the network without TLS",
    );
    for wrong in ["review.example.com", "https://", "https://Review.example.com", "https://review.example.com/"] {
        assert_only_problem(&page(&format!("origin = \"{wrong}\"\n{rita}")), "is no origin");
    }
    let loaded = config::load(&format!("{BASE}{}", open("origin = \"https://r.example:8443\"\n")), &EmptyEnvironment);
    let loaded = loaded.map_err(|problems| lines(&problems)).unwrap();
    assert!(lines(&loaded.warnings).iter().any(|line| line.contains("without TLS")), "{:?}", loaded.warnings);
}
