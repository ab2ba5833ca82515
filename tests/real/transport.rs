//! The ways to the proxy and from it, through the whole program: unix sockets, TLS with all that goes over it, several
//! hosts and a fail-over.

use crate::support::cluster::{self, Cluster};
use crate::support::proxy::Proxy;
use crate::support::raw::{Client, Target};
use crate::support::reply::Reply;
use crate::support::{alone, until_it_runs};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const DATABASE: &str = "transport";
const ACME: &str = "00000000-0000-0000-0000-00000000000a";
const TENANT_SHOWN: &str = "SELECT current_setting('app.tenant_id', true)";

/// What all configurations here share.
const COMMON: &str = r#"
[roles.app]
user = "app_user"
[pool]
size = 2
wait_timeout = "20s"
connect_backoff_max = "200ms"
[logins.app_user]
password = "demo"
tenant.from = ["suffix"]
"#;

/// A group of hosts and a database of the same name that leads there.
fn group(name: &str, hosts: &[String], more: &str) -> String {
    format!(
        "[servers.{name}]\nhosts = {hosts:?}\n{more}\ntls.mode = \"disable\"\n\
         [databases.{name}]\nserver = \"{name}\"\nname = \"{DATABASE}\"\nrole = \"app\"\n"
    )
}

/// A client of one of the groups.
fn target(proxy: &Proxy, database: &str) -> Target {
    Target::new(proxy.address, &format!("app_user.{ACME}"), database).password("demo")
}

fn error(replies: &[Reply]) -> Option<String> {
    replies.iter().find(|reply| reply.tag == b'E').map(|reply| reply.fields()[&'M'].clone())
}

/// What one query says first, over a connection of its own: a value, or why there is none.
fn ask(proxy: &Proxy, database: &str, sql: &str) -> Result<String, String> {
    let mut client = Client::try_connect(&target(proxy, database)).map_err(|error| error.to_string())?;
    if let Some(error) = error(&client.startup) {
        return Err(error);
    }
    let replies = client.query_to_the_end(sql);
    match error(&replies) {
        Some(error) => Err(error),
        None => Ok(replies
            .iter()
            .find(|reply| reply.tag == b'D')
            .map_or_else(String::new, |row| row.row().first().cloned().flatten().unwrap_or_default())),
    }
}

/// Asks until the answer is as wanted.
fn ask_until(proxy: &Proxy, database: &str, sql: &str, wanted: impl Fn(&Result<String, String>) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = ask(proxy, database, sql);
        if wanted(&answer) {
            return;
        }
        assert!(Instant::now() < deadline, "{database}: {sql}: still {answer:?}\n{}", proxy.log_tail());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn port(cluster: &Cluster) -> String {
    cluster.address.port().to_string()
}

const PORT: &str = "SELECT current_setting('port')";

#[test]
fn a_group_follows_the_primary_through_a_fail_over() {
    let _turn = alone();
    let mut primary = Cluster::own(15, "primary");
    primary.create_database(DATABASE);
    primary.admin(DATABASE).run("CREATE TABLE marks (n int); GRANT SELECT, INSERT ON marks TO app_user");
    let standby = primary.standby("standby");
    let hosts = [&standby, &primary].map(|cluster| cluster.address.to_string());
    let proxy = Proxy::start_with(DATABASE, None, |address, _| {
        [
            format!("[listen]\naddresses = [\"{address}\"]\n{COMMON}"),
            group("writers", &hosts, "target_session_attrs = \"read-write\""),
            group("readers", &hosts, "target_session_attrs = \"standby\""),
            group("reports", &hosts, "target_session_attrs = \"prefer-standby\""),
            group("anyone", &hosts, "choice = \"round-robin\""),
        ]
        .concat()
    });
    for (database, expected) in
        [("writers", &primary), ("readers", &standby), ("reports", &standby), ("writers", &primary)]
    {
        assert_eq!(ask(&proxy, database, PORT), Ok(port(expected)), "{database}");
    }
    assert_eq!(ask(&proxy, "writers", "INSERT INTO marks VALUES (1)"), Ok(String::new()));
    assert!(ask(&proxy, "readers", "INSERT INTO marks VALUES (2)").is_err());
    // Two servers at once: one on each host.
    let mut both = [Client::connect(&target(&proxy, "anyone")), Client::connect(&target(&proxy, "anyone"))];
    let mut ports = both.each_mut().map(|client| {
        client.run("BEGIN");
        client.value(PORT)
    });
    ports.sort();
    let mut expected = [port(&primary), port(&standby)];
    expected.sort();
    assert_eq!(ports, expected);

    // What is not on the standby yet would be lost with the primary.
    let mut watcher = standby.admin(DATABASE);
    while watcher.value("SELECT count(*) FROM marks") == "0" {
        std::thread::yield_now();
    }
    // The primary dies in the middle of a transaction.
    let mut writer = Client::connect(&target(&proxy, "writers"));
    writer.run("BEGIN; INSERT INTO marks VALUES (3)");
    primary.stop_at_once();
    let replies = writer.query_to_the_end("INSERT INTO marks VALUES (4)");
    assert!(error(&replies).is_some(), "{replies:?}");
    // Until somebody promotes the standby, nobody takes writes, and that is said.
    ask_until(&proxy, "writers", PORT, |answer| answer.as_ref().is_err_and(|error| error.starts_with("TG094")));
    assert_eq!(ask(&proxy, "readers", PORT), Ok(port(&standby)));
    standby.admin("postgres").run("SELECT pg_promote()");
    ask_until(&proxy, "writers", "INSERT INTO marks VALUES (5)", Result::is_ok);
    assert_eq!(ask(&proxy, "writers", PORT), Ok(port(&standby)));
    // The readers' pooled servers say that they are no standbys any more, and are not used again.
    ask_until(&proxy, "readers", PORT, |answer| answer.as_ref().is_err_and(|error| error.starts_with("TG094")));
    assert_eq!(ask(&proxy, "reports", PORT), Ok(port(&standby)), "no standby is left: any will do");
    assert_eq!(standby.admin(DATABASE).value("SELECT string_agg(n::text, ',' ORDER BY n) FROM marks"), "1,5");
}

#[test]
fn a_read_only_server_is_left_when_it_says_so() {
    let _turn = alone();
    let cluster = Cluster::own(15, "read-only");
    cluster.create_database(DATABASE);
    let hosts = [cluster.address.to_string()];
    let proxy = Proxy::start_with(DATABASE, None, |address, _| {
        let writers = group("writers", &hosts, "target_session_attrs = \"read-write\"");
        format!("[listen]\naddresses = [\"{address}\"]\n{COMMON}{writers}")
    });
    assert_eq!(ask(&proxy, "writers", PORT), Ok(port(&cluster)));
    let mut admin = cluster.admin("postgres");
    admin.run("ALTER SYSTEM SET default_transaction_read_only = on");
    admin.run("SELECT pg_reload_conf()");
    ask_until(&proxy, "writers", PORT, |answer| answer.as_ref().is_err_and(|error| error.starts_with("TG094")));
    admin.run("SET default_transaction_read_only = off");
    admin.run("ALTER SYSTEM RESET default_transaction_read_only");
    admin.run("SELECT pg_reload_conf()");
    ask_until(&proxy, "writers", PORT, Result::is_ok);
}

#[test]
fn unix_sockets_on_both_sides_carry_sessions_and_cancels() {
    let _turn = alone();
    let cluster = cluster::fifteen();
    cluster.create_database(DATABASE);
    let proxy = Proxy::start_with(DATABASE, None, |address, folder| {
        let local = group("local", &[format!("{}:{}", cluster.folder.display(), cluster.address.port())], "");
        format!(
            "[listen]\naddresses = [\"{address}\"]\nunix_folder = {folder:?}\nunix_port = 6432\nunix_mode = \"0700\"\n\
             {COMMON}{local}[[rules]]\naddress = \"local\"\nmethod = \"scram-sha-256\"\n"
        )
    });
    let socket = proxy.folder().join(".s.PGSQL.6432");
    assert!(socket.exists());
    assert!(ask(&proxy, "local", TENANT_SHOWN).unwrap_err().starts_with("TG041"), "TCP has no rule");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut config = tokio_postgres::Config::new();
        config.host_path(proxy.folder()).port(6432).user(format!("app_user.{ACME}")).password("demo").dbname("local");
        let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        let tenant: String = client.query_one(TENANT_SHOWN, &[]).await.unwrap().get(0);
        assert_eq!(tenant, ACME);
        let token = client.cancel_token();
        let slow = "SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100153) b";
        let slow = client.prepare(slow).await.unwrap();
        let slow = client.query(&slow, &[]);
        let stop = async {
            until_it_runs(cluster, DATABASE, "generate_series(1, 100153) b").await;
            token.cancel_query(tokio_postgres::NoTls).await.unwrap();
        };
        let (slow, ()) = tokio::join!(slow, stop);
        assert_eq!(slow.unwrap_err().code().unwrap().code(), "57014");
        drop(client);
        connection.await.unwrap().unwrap();
    });
    // A second proxy does not take the place of a living one; the next one takes that of a dead one.
    let second = Command::new(crate::support::proxy::binary())
        .args(["serve", "--config"])
        .arg(proxy.folder().join("tenantgate.toml"))
        .output()
        .unwrap();
    assert!(!second.status.success() && socket.exists());
    let mut proxy = proxy;
    proxy.signal("TERM");
    assert!(proxy.wait_until_it_ends(Duration::from_secs(60)).is_some());
    assert!(!socket.exists(), "the socket's file stays behind");
}

fn write_pem(folder: &Path, name: &str, certificate: &str, key: Option<&str>) {
    std::fs::write(folder.join(format!("{name}.crt")), certificate).unwrap();
    if let Some(key) = key {
        let path = folder.join(format!("{name}.key"));
        std::fs::write(&path, key).unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, private).unwrap();
    }
}

/// The proxy's certificate, the clients' authority and two certificates of it.
fn write_certificates(folder: &Path) {
    Certifier::write(folder, &[("app_user", "app_user"), ("stranger", "stranger")]);
}

#[test]
fn certificates_and_channel_binding_work_from_the_configuration_on() {
    let _turn = alone();
    let cluster = cluster::fifteen();
    cluster.create_database(DATABASE);
    let proxy = Proxy::start_with(DATABASE, None, |address, folder| {
        write_certificates(folder);
        let main = group("main", &[cluster.address.to_string()], "");
        format!(
            "[listen]\naddresses = [\"{address}\"]\n\
             [tls]\nmode = \"require\"\ncertificate = \"proxy.crt\"\nkey = \"proxy.key\"\nclient_ca = \"clients.crt\"\n\
             {COMMON}{main}[logins.by_password]\npassword = \"demo\"\ntenant.from = [\"suffix\"]\n\
             [[rules]]\nlogin = \"app_user\"\nmethod = \"cert\"\n[[rules]]\nmethod = \"scram-sha-256\"\n"
        )
    });
    let folder = proxy.folder().display().to_string();
    let psql = |words: &str| {
        let mut psql = cluster.program("psql");
        let target = format!("host=localhost port={} dbname=main {words}", proxy.address.port());
        psql.args(["-X", "-A", "-t", &target, "-c", TENANT_SHOWN]).env("PGPASSWORD", "demo");
        let output = psql.current_dir(std::env::temp_dir()).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&said).trim().to_owned()
    };
    let by_certificate = |name: &str| {
        psql(&format!(
            "user=app_user.{ACME} sslmode=verify-full sslrootcert={folder}/proxy.crt \
             sslcert={folder}/{name}.crt sslkey={folder}/{name}.key"
        ))
    };
    assert_eq!(by_certificate("app_user"), ACME);
    assert!(by_certificate("stranger").contains("TG091"));
    assert!(psql(&format!("user=app_user.{ACME} sslmode=require sslcert=/none")).contains("TG090"));
    let bound = format!("user=by_password.{ACME} sslmode=require channel_binding=require sslcert=/none");
    assert_eq!(psql(&bound), ACME, "{}", proxy.log_tail());
    assert!(psql(&format!("user=by_password.{ACME} sslmode=disable")).contains("TG042"));
}

/// psql in the middle of its session.
struct Psql {
    child: std::process::Child,
    said: std::io::BufReader<std::process::ChildStdout>,
}

impl Psql {
    fn start(cluster: &Cluster, target: &str) -> Self {
        let mut psql = cluster.program("psql");
        psql.args(["-X", "-A", "-t", target]).env("PGPASSWORD", "demo").current_dir(std::env::temp_dir());
        psql.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut child = psql.stderr(std::process::Stdio::piped()).spawn().unwrap();
        let said = std::io::BufReader::new(child.stdout.take().unwrap());
        Self { child, said }
    }

    /// The first line of what a statement is answered with; empty if the session is over.
    fn ask(&mut self, sql: &str) -> String {
        use std::io::{BufRead as _, Write as _};
        let mut line = String::new();
        // What it has to say of an end it has written to its errors.
        drop(self.child.stdin.as_mut().unwrap().write_all(format!("{sql};\n").as_bytes()));
        self.said.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    fn complaints(self) -> String {
        String::from_utf8_lossy(&self.child.wait_with_output().unwrap().stderr).into_owned()
    }
}

/// An authority that has certified `names` under the numbers from 1 on, and the folder in which all that lies.
struct Certifier(rcgen::Issuer<'static, rcgen::KeyPair>);

impl Certifier {
    fn write(folder: &Path, names: &[(&str, &str)]) -> Self {
        use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair};
        let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        write_pem(folder, "proxy", &own.cert.pem(), Some(&own.signing_key.serialize_pem()));
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "clients");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        write_pem(folder, "clients", &params.self_signed(&key).unwrap().pem(), None);
        let issuer = Issuer::new(params, key);
        for (number, (file, name)) in (1_u64..).zip(names) {
            let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, *name);
            params.serial_number = Some(number.into());
            let key = KeyPair::generate().unwrap();
            let certificate = params.signed_by(&key, &issuer).unwrap();
            write_pem(folder, file, &certificate.pem(), Some(&key.serialize_pem()));
        }
        let certifier = Self(issuer);
        certifier.revoke(folder, None);
        certifier
    }

    fn revoke(&self, folder: &Path, number: Option<u64>) {
        let revoked = number.map(|number| rcgen::RevokedCertParams {
            serial_number: number.into(),
            revocation_time: rcgen::date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let list = rcgen::CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2020, 1, 1),
            next_update: rcgen::date_time_ymd(2100, 1, 1),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: revoked.into_iter().collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        std::fs::write(folder.join("clients.crl"), list.signed_by(&self.0).unwrap().pem().unwrap()).unwrap();
    }
}

#[test]
fn a_reload_ends_the_sessions_whose_certificate_is_revoked_and_no_others() {
    let _turn = alone();
    let cluster = cluster::fifteen();
    cluster.create_database(DATABASE);
    let mut certifier = None;
    let proxy = Proxy::start_with(DATABASE, None, |address, folder| {
        certifier = Some(Certifier::write(folder, &[("one", "app_user"), ("two", "app_user")]));
        let main = group("main", &[cluster.address.to_string()], "");
        format!(
            "[listen]\naddresses = [\"{address}\"]\n[tls]\nmode = \"require\"\ncertificate = \"proxy.crt\"\n\
             key = \"proxy.key\"\nclient_ca = \"clients.crt\"\nclient_crl = \"clients.crl\"\n\
             {COMMON}{main}[logins.by_password]\npassword = \"demo\"\ntenant.from = [\"suffix\"]\n\
             [[rules]]\nlogin = \"app_user\"\nmethod = \"cert\"\n[[rules]]\nmethod = \"scram-sha-256\"\n"
        )
    });
    let certifier = certifier.unwrap();
    let target = |user: &str, file: &str| {
        let (folder, port) = (proxy.folder().display(), proxy.address.port());
        format!(
            "host=localhost port={port} dbname=main user={user}.{ACME} sslmode=require \
             sslcert={folder}/{file}.crt sslkey={folder}/{file}.key"
        )
    };
    let start = |user, file| Psql::start(cluster, &target(user, file));
    let mut sessions =
        [start("app_user", "one"), start("app_user", "two"), start("by_password", "one"), start("by_password", "none")];
    for session in &mut sessions {
        assert_eq!(session.ask(TENANT_SHOWN), ACME);
    }
    certifier.revoke(proxy.folder(), Some(1));
    assert!(proxy.reload(), "{}", proxy.log_tail());
    let [mut revoked, mut good, mut with_password, mut bare] = sessions;
    assert_eq!(revoked.ask(TENANT_SHOWN), "");
    let complaints = revoked.complaints();
    assert!(complaints.contains("TG070") && complaints.contains("certificate is not good"), "{complaints}");
    for session in [&mut good, &mut with_password, &mut bare] {
        assert_eq!(session.ask(TENANT_SHOWN), ACME);
    }
    // Another way to prove oneself: who has only shown a certificate has to log in again.
    proxy.edit("method = \"cert\"", "method = \"scram-sha-256\"");
    assert!(proxy.reload(), "{}", proxy.log_tail());
    assert_eq!(good.ask(TENANT_SHOWN), "");
    assert!(good.complaints().contains("TG070"));
    for session in [&mut with_password, &mut bare] {
        assert_eq!(session.ask(TENANT_SHOWN), ACME);
    }
}

/// Puts TLS on a cluster of one's own: its certificate, for localhost, and the clients' authority.
fn give_tls(cluster: &Cluster, folder: &Path) {
    let data = cluster.folder.join("data");
    let owner = std::fs::metadata(&data).unwrap();
    let (uid, gid) = (std::os::unix::fs::MetadataExt::uid(&owner), std::os::unix::fs::MetadataExt::gid(&owner));
    for (from, to) in [("proxy.crt", "server.crt"), ("proxy.key", "server.key"), ("clients.crt", "clients.crt")] {
        std::fs::copy(folder.join(from), data.join(to)).unwrap();
        std::os::unix::fs::chown(data.join(to), Some(uid), Some(gid)).unwrap();
    }
    let rules = "local all all trust\nhostssl all app_user all cert\nhostssl all scram_user all scram-sha-256\n\
                 hostssl all clear_user all password\nhost all postgres all trust\n";
    std::fs::write(data.join("pg_hba.conf"), rules).unwrap();
    let mut admin = cluster.admin("postgres");
    admin.run("CREATE ROLE clear_user LOGIN PASSWORD 'geheim'");
    for setting in ["ssl = on", "ssl_ca_file = 'clients.crt'"] {
        admin.run(&format!("ALTER SYSTEM SET {setting}"));
    }
    admin.run("SELECT pg_reload_conf()");
    while cluster.admin("postgres").value("SHOW ssl") != "on" {
        std::thread::yield_now();
    }
}

/// A group with TLS, and a database of its name for each of these roles.
fn tls_group(name: &str, cluster: &Cluster, more: &str, role: &str) -> String {
    let port = cluster.address.port();
    format!(
        "[servers.{name}]\nhost = \"localhost\"\nport = {port}\n[servers.{name}.tls]\nca = \"proxy.crt\"\n{more}\n\
         [databases.{name}]\nserver = \"{name}\"\nname = \"{DATABASE}\"\nrole = \"{role}\"\n"
    )
}

#[test]
fn tls_towards_servers_works_from_the_configuration_on() {
    let _turn = alone();
    let cluster = Cluster::own(15, "tls");
    cluster.create_database(DATABASE);
    let proxy = Proxy::start_with(DATABASE, None, |address, folder| {
        write_certificates(folder);
        give_tls(&cluster, folder);
        let shown = |name: &str| format!("certificate = \"{name}.crt\"\nkey = \"{name}.key\"");
        [
            format!("[listen]\naddresses = [\"{address}\"]\n{COMMON}"),
            "[roles.scram]\nuser = \"scram_user\"\npassword = \"geheim\"\n".to_owned(),
            "[roles.clear]\nuser = \"clear_user\"\npassword = \"geheim\"\nauth_allowed = [\"password\"]\n".to_owned(),
            "[roles.strict]\nuser = \"clear_user\"\npassword = \"geheim\"\n".to_owned(),
            tls_group("bound", &cluster, "channel_binding = \"require\"", "scram"),
            tls_group("shown", &cluster, &shown("app_user"), "app"),
            tls_group("strange", &cluster, &shown("stranger"), "app"),
            tls_group("clear", &cluster, "", "clear"),
            tls_group("strict", &cluster, "", "strict"),
            tls_group("direct", &cluster, "negotiation = \"direct\"", "scram"),
        ]
        .concat()
    });
    for (database, expected) in
        [("bound", Ok("scram_user")), ("shown", Ok("app_user")), ("clear", Ok("clear_user")), ("strict", Err("TG093"))]
    {
        let answer = ask(&proxy, database, "SELECT current_user");
        match expected {
            Ok(user) => assert_eq!(answer.as_deref(), Ok(user), "{database}: {}", proxy.log_tail()),
            Err(code) => assert!(answer.as_ref().is_err_and(|error| error.starts_with(code)), "{database}: {answer:?}"),
        }
    }
    // The certificate of another role, and a server that knows nothing of direct TLS.
    for database in ["strange", "direct"] {
        let answer = ask(&proxy, database, "SELECT 1");
        assert!(answer.as_ref().is_err_and(|error| error.starts_with("TG052")), "{database}: {answer:?}");
    }
    let mut client = Client::connect(&target(&proxy, "bound"));
    let sleeping = client.canceller();
    let slow = std::thread::spawn(move || {
        client.query_to_the_end("SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100169) b")
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(until_it_runs(&cluster, DATABASE, "generate_series(1, 100169) b"));
    sleeping.cancel();
    let replies = slow.join().unwrap();
    assert!(error(&replies).is_some_and(|error| error.contains("canceling statement")), "{replies:?}");
}
