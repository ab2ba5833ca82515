//! A session of tokio-postgres, and what it sees as text: directly and through TenantGate it must be the same.

use super::drivers::Place;
use crate::support::cluster::Cluster;
use crate::support::until_it_runs;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _, TryStreamExt as _, future::join_all, pin_mut};
use std::error::Error as StdError;
use std::fmt::{Debug, Write as _};
use std::pin::pin;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_postgres::binary_copy::{BinaryCopyInWriter, BinaryCopyOutStream};
use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, Config, Error, IsolationLevel, NoTls, Row, SimpleQueryMessage};

/// Clients at once, of three tenants; more than the proxy has servers.
const CLIENTS: usize = 12;

/// What was seen.
#[derive(Default)]
struct Transcript(String);

impl Transcript {
    fn show(&mut self, title: &str, value: impl Debug) {
        writeln!(self.0, "{title}: {value:?}").expect("a string takes everything");
    }
}

/// A value of any type, by the name of its type and its bytes.
struct Raw(String);

impl<'a> FromSql<'a> for Raw {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self(format!("{} {}", kind.name(), raw.escape_ascii())))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

fn values(row: &Row) -> Vec<Option<String>> {
    (0..row.len()).map(|column| row.get::<_, Option<Raw>>(column).map(|raw| raw.0)).collect()
}

fn rows(rows: &[Row]) -> Vec<Vec<Option<String>>> {
    rows.iter().map(values).collect()
}

/// What came of something that may fail.
fn told<T: Debug>(result: Result<T, Error>) -> String {
    let error = match result {
        Ok(value) => return format!("{value:?}"),
        Err(error) => error,
    };
    match error.as_db_error() {
        Some(told) => {
            let (severity, code, message) = (told.severity(), told.code().code(), told.message());
            format!("{severity} {code} {message} {:?} {:?} @{:?}", told.detail(), told.hint(), told.position())
        }
        None => error.to_string(),
    }
}

/// Who connects where.
fn config(place: &Place) -> Config {
    let mut config = Config::new();
    config.host("127.0.0.1").port(place.port).user(&place.user).password("geheim").dbname(super::drivers::DATABASE);
    if !place.options.is_empty() {
        config.options(&place.options);
    }
    config
}

/// Connects; notices come through the channel.
async fn connect(config: &Config, said: &mut Transcript) -> Result<(Client, UnboundedReceiver<String>), Error> {
    let (client, mut connection) = config.connect(NoTls).await?;
    for name in ["client_encoding", "DateStyle", "standard_conforming_strings", "TimeZone"] {
        said.show(name, connection.parameter(name));
    }
    let (sender, receiver) = unbounded_channel();
    tokio::spawn(async move {
        let mut messages = futures_util::stream::poll_fn(move |context| connection.poll_message(context));
        while let Some(Ok(message)) = messages.next().await {
            if let AsyncMessage::Notice(notice) = message {
                // Nobody may listen any more.
                drop(sender.send(format!("{} {:?} {:?}", notice.message(), notice.detail(), notice.hint())));
            }
        }
    });
    Ok((client, receiver))
}

fn run<T>(session: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(session)
}

/// An ordinary session; then several tenants at once.
pub fn hold(cluster: &Cluster, place: &Place) -> Result<String, Error> {
    run(async {
        let mut said = Transcript::default();
        let (mut client, mut notices) = connect(&config(place), &mut said).await?;
        statements(&client, &mut said).await?;
        prepared(&client, &mut said).await?;
        transactions(&mut client, &mut said).await?;
        copies(&client, &mut said).await?;
        cancel(cluster, &client, &mut said).await;
        pipeline(&client, &mut said).await?;
        types(&client, &mut said).await?;
        said.show("shout", values(&client.query_one("SELECT shout('hello')", &[]).await?));
        said.show("notice", notices.recv().await);
        large(&client, &mut said).await?;
        tenants(place, &mut said).await?;
        Ok(said.0)
    })
}

async fn statements(client: &Client, said: &mut Transcript) -> Result<(), Error> {
    let all = "SELECT id, name, tenant_id FROM items WHERE id >= $1 ORDER BY id";
    said.show("rows", rows(&client.query(all, &[&2]).await?));
    said.show("typed", rows(&client.query_typed(all, &[(&2, Type::INT4)]).await?));
    said.show("none", client.query_opt(all, &[&99]).await?.is_none());
    said.show("error", told(client.query("SELECT nosuch FROM items", &[]).await));
    said.show("duplicate", told(client.execute("INSERT INTO items (id) VALUES (1)", &[]).await));
    said.show("of another", client.execute("UPDATE items SET qty = 0 WHERE id = $1", &[&11]).await?);
    for message in client.simple_query("SELECT 1; SELECT id AS b FROM items; UPDATE items SET qty = qty").await? {
        match message {
            SimpleQueryMessage::Row(row) => said.show("simple row", (row.columns()[0].name(), row.get(0))),
            SimpleQueryMessage::CommandComplete(count) => said.show("simple end", count),
            _ => {}
        }
    }
    said.show("batch error", told(client.batch_execute("INSERT INTO plain (id) VALUES (7); SELECT 1/0").await));
    said.show("nothing stays", values(&client.query_one("SELECT count(*) FROM plain", &[]).await?));
    client.batch_execute("SET timezone = 'Asia/Tokyo'").await?;
    said.show("setting", values(&client.query_one("SHOW timezone", &[]).await?));
    client.batch_execute("RESET timezone").await
}

async fn prepared(client: &Client, said: &mut Transcript) -> Result<(), Error> {
    let kept = client.prepare("SELECT $1::int4 + 1, count(*) FROM items").await?;
    for number in 0..130 {
        // Each has a name of its own and is closed when it is dropped.
        let statement = client.prepare(&format!("SELECT {number}, $1::text")).await?;
        let columns: Vec<_> = statement.columns().iter().map(|column| column.type_().name().to_owned()).collect();
        let row = client.query_one(&statement, &[&"x"]).await?;
        if number % 50 == 0 {
            said.show("prepared", (columns, values(&row)));
        }
    }
    said.show("kept", values(&client.query_one(&kept, &[&1_i32]).await?));
    client.batch_execute("DEALLOCATE ALL").await?;
    // Its message has a name that counts over the whole process.
    let gone = client.query_one(&kept, &[&1_i32]).await;
    said.show("gone", gone.err().and_then(|error| error.code().map(|code| code.code().to_owned())));
    said.show("failing", told(client.query("SELECT 1 / $1::int4", &[&0_i32]).await));
    Ok(())
}

async fn transactions(client: &mut Client, said: &mut Transcript) -> Result<(), Error> {
    let mut transaction = client.transaction().await?;
    transaction.execute("INSERT INTO items (id, name) VALUES ($1, 'tokio')", &[&50]).await?;
    let savepoint = transaction.savepoint("a").await?;
    said.show("inner", told(savepoint.query("SELECT 1/0", &[]).await));
    said.show("failed block", told(savepoint.query("SELECT 1", &[]).await));
    savepoint.rollback().await?;
    let portal = transaction.bind("SELECT id FROM items ORDER BY id", &[]).await?;
    for _ in 0..3 {
        said.show("portal", rows(&transaction.query_portal(&portal, 2).await?));
    }
    transaction.commit().await?;
    let dropped = client.transaction().await?;
    dropped.execute("DELETE FROM items", &[]).await?;
    drop(dropped);
    said.show("after", rows(&client.query("SELECT id FROM items ORDER BY id", &[]).await?));
    let reader = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    let reader = reader.start().await?;
    said.show("isolation", values(&reader.query_one("SHOW transaction_isolation", &[]).await?));
    said.show("read only", told(reader.execute("UPDATE items SET qty = 0", &[]).await));
    reader.rollback().await
}

async fn copies(client: &Client, said: &mut Transcript) -> Result<(), Error> {
    let copy = "COPY plain (id, note) FROM STDIN";
    let sink = client.copy_in::<_, Bytes>(copy).await?;
    pin_mut!(sink);
    for number in 0..2000 {
        sink.feed(Bytes::from(format!("{number}\tnote {number}\n"))).await?;
    }
    said.show("copied", sink.finish().await?);
    let failing = client.copy_in::<_, Bytes>(copy).await?;
    pin_mut!(failing);
    failing.send(Bytes::from_static(b"bad\tone\n")).await?;
    said.show("copy error", told(failing.finish().await));
    // Dropped in the middle: the driver says that it fails.
    drop(client.copy_in::<_, Bytes>(copy).await?);
    let binary = client.copy_in(&format!("{copy} BINARY")).await?;
    let writer = BinaryCopyInWriter::new(binary, &[Type::INT4, Type::TEXT]);
    pin_mut!(writer);
    writer.as_mut().write(&[&9000, &"binary"]).await?;
    said.show("binary", writer.finish().await?);
    let out = "COPY (SELECT id, writer FROM plain ORDER BY id DESC LIMIT 2) TO STDOUT";
    let text: Vec<Bytes> = client.copy_out(out).await?.try_collect().await?;
    said.show("out", String::from_utf8_lossy(&text.concat()));
    let binary = client.copy_out(&format!("{out} BINARY")).await?;
    let found: Vec<_> = BinaryCopyOutStream::new(binary, &[Type::INT4, Type::TEXT]).try_collect().await?;
    for row in &found {
        said.show("binary out", (row.get::<i32>(0), row.get::<&str>(1)));
    }
    said.show("left", values(&client.query_one("SELECT count(*) FROM plain", &[]).await?));
    Ok(())
}

async fn cancel(cluster: &Cluster, client: &Client, said: &mut Transcript) {
    let token = client.cancel_token();
    let mut slow =
        pin!(client.query("SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100003) b", &[]));
    let mut stopped = None;
    // No other driver counts so far: theirs run in the same database. PostgreSQL loses a cancel that comes between two
    // messages, so it is sent until it has hit.
    let slow = loop {
        let attempt = async {
            until_it_runs(cluster, super::drivers::DATABASE, "generate_series(1, 100003) b").await;
            token.cancel_query(NoTls).await
        };
        tokio::select! {
            biased;
            slow = &mut slow => break slow,
            told = attempt => stopped = Some(told),
        }
    };
    said.show("cancel", stopped.map(told));
    said.show("cancelled", told(slow));
}

async fn pipeline(client: &Client, said: &mut Transcript) -> Result<(), Error> {
    let divide = &client.prepare("SELECT 100 / $1::int4, count(*) FROM items").await?;
    let queries = (-10..40_i32).map(|number| async move { client.query_one(divide, &[&number]).await });
    for answer in join_all(queries).await {
        said.show("pipelined", told(answer.map(|row| values(&row))));
    }
    let mut stream = Box::pin(client.query_raw::<_, i32, _>("SELECT generate_series(1, $1::int4)", [5000]).await?);
    said.show("first of a stream", stream.try_next().await?.map(|row| values(&row)));
    drop(stream);
    // The rest is thrown away by the driver, and what comes behind it is answered.
    said.show("behind it", values(&client.query_one("SELECT count(*) FROM items", &[]).await?));
    Ok(())
}

/// The driver looks up what it does not know in the catalogue: enumerations, composites, ranges, domains.
async fn types(client: &Client, said: &mut Transcript) -> Result<(), Error> {
    let insert = "INSERT INTO kinds (id, doc, docb, ints, texts, moment, local, day, price, ratio, raw, span, address, \
                  feeling, home, numbers, count, flag, big) VALUES ('11111111-1111-1111-1111-111111111111', \
                  '{\"a\": 1}', '{\"b\": [1, null]}', $1, $2, '2026-01-02 03:04:05.000006+00', '2026-01-02 03:04:05', \
                  '2026-02-03', 12.345, $3, $4, '1 day 2 seconds', '10.0.0.1/8', 'happy', ROW('Main', 7), '[1,5)', 3, \
                  $5, $6)";
    let (ints, texts, raw) = (vec![Some(1_i32), None, Some(3)], vec!["x", "y\"z"], b"\0\xff".as_slice());
    let count = client.execute(insert, &[&ints, &texts, &2.5_f64, &raw, &true, &(1_i64 << 40)]).await?;
    said.show("inserted", count);
    let all = client.prepare("SELECT * FROM kinds").await?;
    for column in all.columns() {
        said.show(column.name(), (column.type_().kind(), column.type_().schema()));
    }
    said.show("kinds", rows(&client.query(&all, &[]).await?));
    let feelings = "SELECT id FROM kinds WHERE feeling = $1 AND home = ANY ($2)";
    let asked: Vec<_> = client.prepare(feelings).await?.params().iter().map(|kind| kind.name().to_owned()).collect();
    said.show("parameters", asked);
    Ok(())
}

async fn large(client: &Client, said: &mut Transcript) -> Result<(), Error> {
    let many = client.query("SELECT g, repeat('x', 1000) FROM generate_series(1, 5000) g", &[]).await?;
    said.show("large", (many.len(), many.iter().map(|row| row.get::<_, &str>(1).len()).sum::<usize>()));
    let one = client.query_one("SELECT repeat('y', 8000000)", &[]).await?;
    said.show("very large", one.get::<_, &str>(0).len());
    let (long, length) = ("z".repeat(1_000_000), "SELECT length($1::text)");
    said.show("sent", values(&client.query_one(length, &[&long]).await?));
    Ok(())
}

/// Three tenants share what is behind; every row must be the tenant's own.
async fn tenants(place: &Place, said: &mut Transcript) -> Result<(), Error> {
    let tenants = ["a", "b", "c"].map(|letter| format!("00000000-0000-0000-0000-00000000000{letter}"));
    let user = place.user.split('.').next().unwrap_or_default();
    let mut clients = Vec::new();
    for tenant in tenants.iter().cycle().take(CLIENTS) {
        let options = format!("-c app.tenant_id={tenant}");
        let (place, mut quiet) = (Place { user: user.to_owned(), options, ..*place }, Transcript::default());
        clients.push((connect(&config(&place), &mut quiet).await?.0, tenant));
    }
    let work = clients.iter().map(|(client, tenant)| async move {
        let mut wrong = Vec::new();
        for round in 0..12 {
            let owners = "SELECT DISTINCT tenant_id::text FROM items WHERE id > $1";
            let row: [&(dyn ToSql + Sync); 2] = [&round, tenant];
            let (found, written) = tokio::join!(
                client.query(owners, &[&0_i32]),
                client.execute("INSERT INTO plain (id, note) VALUES ($1, $2)", &row),
            );
            let found: Vec<String> = found?.iter().map(|row| row.get(0)).collect();
            if (found.as_slice(), written?) != (std::slice::from_ref(*tenant), 1) {
                wrong.push((round, found));
            }
        }
        Ok::<_, Error>(wrong)
    });
    let wrong: Result<Vec<_>, Error> = join_all(work).await.into_iter().collect();
    said.show("wrong", wrong?.concat());
    let written = "SELECT note, count(*) FROM plain WHERE writer = note GROUP BY 1 ORDER BY 1";
    said.show("written as", rows(&clients[0].0.query(written, &[]).await?));
    Ok(())
}

/// What the driver makes of refusals.
pub fn refusals(place: &Place) -> Result<String, Error> {
    run(async {
        let mut said = Transcript::default();
        let (client, _notices) = connect(&config(place), &mut Transcript::default()).await?;
        for sql in ["LISTEN channel", "SET app.tenant_id = 'x'", "SELECT lastval()", "CREATE TEMP TABLE t (id int)"] {
            said.show(sql, told(client.execute(sql, &[]).await));
            said.show("as a simple query", told(client.batch_execute(sql).await));
        }
        let by_function = client.query("SELECT set_config('app.tenant_id', $1, true)", &[&"x"]).await;
        said.show("by function", told(by_function));
        said.show("alive", values(&client.query_one("SELECT count(*) FROM items", &[]).await?));
        Ok(said.0)
    })
}
