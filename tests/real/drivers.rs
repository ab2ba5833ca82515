//! Ordinary drivers hold an ordinary session: psql, psycopg 3, tokio-postgres.
//!
//! psql and psycopg run one session directly and one through TenantGate; what they print must be the same.

use crate::support::alone;
use crate::support::cluster::{self, Cluster};
use crate::support::proxy::{Proxy, Wish};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const DATABASE: &str = "drivers";
const SCHEMA: &str = include_str!("../scripts/schema.sql");
const ROWS: &str = include_str!("../scripts/rows.sql");
const TENANT: &str = "00000000-0000-0000-0000-00000000000a";

fn prepare(cluster: &Cluster) {
    let mut admin = cluster.admin(DATABASE);
    admin.run("SET lock_timeout = '5s'");
    admin.run(SCHEMA);
    admin.run(ROWS);
    admin.bye();
}

/// Where a session goes, in libpq's words.
struct Place {
    port: u16,
    user: String,
    options: String,
}

fn places(cluster: &Cluster, proxy: &Proxy) -> [Place; 2] {
    let direct = Place {
        port: cluster.address.port(),
        user: "app_user".to_owned(),
        options: format!("-c app.tenant_id={TENANT}"),
    };
    [direct, Place { port: proxy.address.port(), user: format!("app_user.{TENANT}"), options: String::new() }]
}

/// Runs the same session in both places and compares what it printed.
fn same_session(cluster: &Cluster, name: &str, session: &dyn Fn(&Place) -> Command, input: &str) {
    let proxy = Proxy::start(&Wish { cluster, database: DATABASE, pool_size: 3, mutant: None, more: "" });
    let [direct, proxied] = places(cluster, &proxy).map(|place| {
        prepare(cluster);
        let mut command = session(&place);
        command.env("PGHOST", "127.0.0.1").env("PGPORT", place.port.to_string()).env("PGDATABASE", DATABASE);
        command.env("PGUSER", &place.user).env("PGCONNECT_TIMEOUT", "10");
        if !place.options.is_empty() {
            command.env("PGOPTIONS", &place.options);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        format!("{said}\n-- errors\n{complained}\n-- {}", output.status)
    });
    let version = cluster.version;
    assert!(direct.ends_with("exit status: 0"), "{name} directly to PostgreSQL {version}:\n{direct}");
    let different: Vec<String> = direct
        .lines()
        .zip(proxied.lines())
        .filter(|(left, right)| left != right)
        .map(|(left, right)| format!("PG {left}\nTG {right}"))
        .collect();
    assert!(
        direct == proxied,
        "{name} on PostgreSQL {version} is told something else by TenantGate:\n{}\n-- all:\n{proxied}\n-- the proxy:\n{}",
        different.join("\n"),
        proxy.log_tail()
    );
}

fn on_every_cluster(proof: impl Fn(&'static Cluster)) {
    let _turn = alone();
    for cluster in cluster::every() {
        cluster.create_database(DATABASE);
        proof(cluster);
    }
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/drivers").join(name)
}

#[test]
fn psql_holds_a_session() {
    on_every_cluster(|cluster| {
        let script = std::fs::read_to_string(file("session.psql")).unwrap();
        same_session(cluster, "psql", &|_| psql(cluster), &script);
    });
}

fn psql(cluster: &Cluster) -> Command {
    let mut command = cluster.program("psql");
    command.args(["-X", "-v", "ON_ERROR_STOP=0", "-P", "pager=off"]).current_dir(std::env::temp_dir());
    command
}

/// A Python that has psycopg 3.
pub fn python() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/venv/bin/python");
    let has_psycopg = |python: &Path| {
        Command::new(python).args(["-c", "import psycopg"]).output().is_ok_and(|output| output.status.success())
    };
    [own, PathBuf::from("python3")]
        .into_iter()
        .find(|python| has_psycopg(python))
        .unwrap_or_else(|| panic!("no Python with psycopg 3: run `make setup` (or `pip install 'psycopg[binary]'`)"))
}

#[test]
fn psycopg_holds_a_session() {
    let python = python();
    on_every_cluster(|cluster| {
        let session = |_: &Place| {
            let mut command = Command::new(&python);
            command.arg(file("psycopg_session.py"));
            command
        };
        same_session(cluster, "psycopg", &session, "");
    });
}

#[test]
fn tokio_postgres_holds_a_session() {
    on_every_cluster(|cluster| {
        let proxy = Proxy::start(&Wish { cluster, database: DATABASE, pool_size: 2, mutant: None, more: "" });
        prepare(cluster);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let url = format!("host=127.0.0.1 port={} user=app_user.{TENANT} dbname={DATABASE}", proxy.address.port());
        runtime.block_on(tokio_session::hold(&url));
    });
}

mod tokio_session {
    use super::TENANT;
    use futures_util::{SinkExt, StreamExt, TryStreamExt, pin_mut};
    use tokio_postgres::{AsyncMessage, Client, NoTls, SimpleQueryMessage};

    /// Connects; notices come through the channel.
    async fn connect(url: &str) -> (Client, tokio::sync::mpsc::UnboundedReceiver<String>) {
        let (client, mut connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut messages = futures_util::stream::poll_fn(move |context| connection.poll_message(context));
            while let Some(Ok(message)) = messages.next().await {
                if let AsyncMessage::Notice(notice) = message {
                    // Nobody may listen any more.
                    drop(sender.send(notice.message().to_owned()));
                }
            }
        });
        (client, receiver)
    }

    pub async fn hold(url: &str) {
        let (mut client, mut notices) = connect(url).await;
        statements(&client).await;
        transactions(&mut client).await;
        copies(&client).await;
        cancel(&client).await;
        pipeline(&client).await;
        client.query("SELECT shout('hello')", &[]).await.unwrap();
        assert_eq!(notices.recv().await.as_deref(), Some("heard hello"));
        large(&client).await;
    }

    async fn statements(client: &Client) {
        let statement =
            client.prepare("SELECT id, name, tenant_id::text FROM items WHERE id >= $1 ORDER BY id").await.unwrap();
        for _ in 0..3 {
            let rows = client.query(&statement, &[&2]).await.unwrap();
            assert_eq!(rows.iter().map(|row| row.get::<_, i32>(0)).collect::<Vec<_>>(), [2, 3]);
            assert_eq!(rows[0].get::<_, &str>(2), TENANT);
        }
        let error = client.query("SELECT nosuch", &[]).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "42703");
        let error = client.execute("INSERT INTO items (id) VALUES (1)", &[]).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "23505");
        let messages = client.simple_query("SELECT 1; SELECT 2 AS b").await.unwrap();
        assert_eq!(messages.iter().filter(|message| matches!(message, SimpleQueryMessage::Row(_))).count(), 2);
    }

    async fn transactions(client: &mut Client) {
        let mut transaction = client.transaction().await.unwrap();
        transaction.execute("INSERT INTO items (id, name) VALUES ($1, 'tokio')", &[&50]).await.unwrap();
        let savepoint = transaction.savepoint("a").await.unwrap();
        savepoint.query("SELECT 1/0", &[]).await.unwrap_err();
        savepoint.rollback().await.unwrap();
        let portal = transaction.bind("SELECT id FROM items ORDER BY id", &[]).await.unwrap();
        assert_eq!(transaction.query_portal(&portal, 2).await.unwrap().len(), 2);
        assert_eq!(transaction.query_portal(&portal, 2).await.unwrap().len(), 2);
        transaction.commit().await.unwrap();
        let dropped = client.transaction().await.unwrap();
        dropped.execute("DELETE FROM items", &[]).await.unwrap();
        drop(dropped);
        let count: i64 = client.query_one("SELECT count(*) FROM items", &[]).await.unwrap().get(0);
        assert_eq!(count, 4);
    }

    async fn copies(client: &Client) {
        let sink = client.copy_in::<_, bytes::Bytes>("COPY plain (id, note) FROM STDIN").await.unwrap();
        pin_mut!(sink);
        sink.send(bytes::Bytes::from_static(b"1\tone\n2\ttwo\n")).await.unwrap();
        assert_eq!(sink.finish().await.unwrap(), 2);
        let failing = client.copy_in::<_, bytes::Bytes>("COPY plain (id, note) FROM STDIN").await.unwrap();
        pin_mut!(failing);
        failing.send(bytes::Bytes::from_static(b"bad\tone\n")).await.unwrap();
        assert_eq!(failing.finish().await.unwrap_err().code().unwrap().code(), "22P02");
        let data: Vec<bytes::Bytes> =
            client.copy_out("COPY plain (id, writer) TO STDOUT").await.unwrap().try_collect().await.unwrap();
        assert_eq!(data.concat(), format!("1\t{TENANT}\n2\t{TENANT}\n").into_bytes());
    }

    async fn cancel(client: &Client) {
        let token = client.cancel_token();
        let slow = client.query("SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100000) b", &[]);
        let stop = async {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            token.cancel_query(NoTls).await.unwrap();
        };
        let (slow, ()) = tokio::join!(slow, stop);
        assert_eq!(slow.unwrap_err().code().unwrap().code(), "57014");
    }

    async fn pipeline(client: &Client) {
        let one = client.prepare("SELECT $1::int4").await.unwrap();
        let queries = (0..50_i32).map(|number| {
            let one = &one;
            async move { client.query_one(one, &[&number]).await.unwrap().get::<_, i32>(0) }
        });
        let numbers = futures_util::future::join_all(queries).await;
        assert_eq!(numbers, (0..50).collect::<Vec<_>>());
    }

    async fn large(client: &Client) {
        let rows = client.query("SELECT g, repeat('x', 1000) FROM generate_series(1, 5000) g", &[]).await.unwrap();
        assert_eq!(rows.len(), 5000);
        let row = client.query_one("SELECT repeat('y', 5000000)", &[]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0).len(), 5_000_000);
    }
}
