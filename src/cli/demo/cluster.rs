//! A throw-away PostgreSQL cluster in a temporary folder, reached by unix socket only.
//!
//! Owns: the folder, the server process and the end of both. PostgreSQL refuses to run as root; then the
//! server runs as `postgres` or `nobody`.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

/// The socket's file name ends in it; nothing listens on TCP.
pub const PORT: u16 = 5432;
/// The superuser of the throw-away cluster.
pub const ADMIN: &str = "demo_admin";
const START_TIMEOUT: Duration = Duration::from_secs(60);
const ROOT: u32 = 0;

/// A running cluster. [`Cluster::stop`] ends it; so does dropping it, less politely.
#[derive(Debug)]
pub struct Cluster {
    folder: TempDir,
    server: Child,
    programs: PathBuf,
    account: Option<Account>,
    admin_password: String,
}

/// An unprivileged user of this machine.
#[derive(Clone, Copy, Debug)]
struct Account {
    uid: u32,
    gid: u32,
}

impl Cluster {
    /// Creates and starts a cluster with the programs of a folder.
    ///
    /// # Errors
    /// With the server's own words where it has any. Nothing is left behind.
    pub async fn start(programs: &Path) -> anyhow::Result<Self> {
        let folder = TempDir::with_prefix("tenantgate-demo-").context("a temporary folder")?;
        let account = account_for(folder.path())?;
        // The server's user must get through to its own folder below.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711))?;
        let admin_password = uuid::Uuid::new_v4().simple().to_string();
        create(programs, folder.path(), account, &admin_password)?;
        let server = launch(programs, folder.path(), account)?;
        let mut cluster = Self { folder, server, programs: programs.to_path_buf(), account, admin_password };
        cluster.wait_until_ready().await?;
        Ok(cluster)
    }

    /// The folder of everything, removed at the end.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The folder of the unix socket.
    pub fn sockets(&self) -> PathBuf {
        self.folder.path().join("sockets")
    }

    /// A superuser's connection, past the proxy.
    ///
    /// # Errors
    /// If the server does not let it in.
    pub async fn admin(&self, database: &str) -> anyhow::Result<Client> {
        let mut settings = tokio_postgres::Config::new();
        settings.host_path(self.sockets()).port(PORT).user(ADMIN).password(&self.admin_password).dbname(database);
        let (client, connection) = settings.connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Stops the server and removes the folder.
    ///
    /// # Errors
    /// If either is still there.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.stop_server()?;
        let path = self.folder.path().to_path_buf();
        std::fs::remove_dir_all(&path).with_context(|| format!("cannot remove {}", path.display()))
    }

    fn stop_server(&mut self) -> anyhow::Result<()> {
        if self.server.try_wait()?.is_some() {
            return Ok(());
        }
        let mut stop = command(&self.programs, "pg_ctl", self.account);
        stop.arg("stop").args(["-m", "immediate", "-w", "-t", "20", "-s", "-D"]).arg(self.folder.path().join("data"));
        let is_stopped = stop.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        if !is_stopped {
            self.server.kill()?;
        }
        self.server.wait()?;
        Ok(())
    }

    async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let last = match self.admin("postgres").await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            let has_ended = self.server.try_wait()?.is_some();
            if has_ended || Instant::now() > deadline {
                let log = std::fs::read_to_string(self.folder.path().join("postgres.log")).unwrap_or_default();
                bail!("PostgreSQL does not start: {last:#}\n{log}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The last resort, for errors on the way: whoever succeeds calls [`Cluster::stop`].
impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(error) = self.stop_server() {
            eprintln!("tenantgate demo: PostgreSQL could not be stopped: {error:#}");
        }
    }
}

fn create(programs: &Path, folder: &Path, account: Option<Account>, password: &str) -> anyhow::Result<()> {
    for name in ["data", "sockets"] {
        std::fs::DirBuilder::new().mode(0o700).create(folder.join(name))?;
        give(&folder.join(name), account)?;
    }
    let password_file = folder.join("admin.password");
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&password_file)?;
    writeln!(file, "{password}")?;
    give(&password_file, account)?;
    let mut initdb = command(programs, "initdb", account);
    initdb.arg("-D").arg(folder.join("data")).arg("--pwfile").arg(&password_file);
    initdb.args(["-U", ADMIN, "-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync"]);
    let output = initdb.output().context("initdb cannot be run")?;
    ensure!(output.status.success(), "initdb failed:\n{}", String::from_utf8_lossy(&output.stderr));
    std::fs::remove_file(&password_file)?;
    Ok(())
}

fn launch(programs: &Path, folder: &Path, account: Option<Account>) -> anyhow::Result<Child> {
    let log = File::create(folder.join("postgres.log"))?;
    let mut postgres = command(programs, "postgres", account);
    postgres.arg("-D").arg(folder.join("data")).arg("-k").arg(folder.join("sockets"));
    for setting in ["listen_addresses=", "unix_socket_permissions=0700", "fsync=off", "max_connections=60"] {
        postgres.args(["-c", setting]);
    }
    postgres.args(["-p", &PORT.to_string()]);
    postgres.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    postgres.spawn().context("postgres cannot be run")
}

/// In a process group of its own, so that Ctrl-C in the terminal reaches us alone and we end things in order.
fn command(programs: &Path, program: &str, account: Option<Account>) -> Command {
    let mut command = Command::new(programs.join(program));
    command.process_group(0).current_dir("/");
    if let Some(Account { uid, gid }) = account {
        command.uid(uid).gid(gid);
    }
    command
}

fn give(path: &Path, account: Option<Account>) -> std::io::Result<()> {
    match account {
        Some(Account { uid, gid }) => std::os::unix::fs::chown(path, Some(uid), Some(gid)),
        None => Ok(()),
    }
}

/// Who owns a folder we just made is who we are.
fn account_for(own_folder: &Path) -> anyhow::Result<Option<Account>> {
    if std::fs::metadata(own_folder)?.uid() != ROOT {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd").context("looking for an unprivileged user")?;
    let account = ["postgres", "nobody"].iter().find_map(|name| find_account(&users, name));
    account.map(Some).context("PostgreSQL does not run as root, and there is no user postgres or nobody")
}

/// `name:password:uid:gid:…`
fn find_account(users: &str, name: &str) -> Option<Account> {
    let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut numbers = line.split(':').skip(2).map(str::parse);
    let account = Account { uid: numbers.next()?.ok()?, gid: numbers.next()?.ok()? };
    (account.uid != ROOT).then_some(account)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_their_whole_name() {
        let users = "root:x:0:0::/:/bin/sh\npostgresql:x:7:7::/:\npostgres:x:101:103::/:\n";
        assert!(find_account(users, "postgres").is_some_and(|account| (account.uid, account.gid) == (101, 103)));
        assert!(find_account(users, "root").is_none() && find_account(users, "nobody").is_none());
    }
}
