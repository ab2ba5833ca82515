//! The console against a proxy made of paper.

use std::sync::Arc;

use super::*;
use crate::admin::snapshot::{
    BypassRow, ClientRow, ClientState, ConfigRow, DatabaseRow, EmergencyRow, FrozenRow, PoolRow, ServerRow,
    ServerState, TenantRow, UserRow,
};
use crate::admin::{Denial, DenialRow, Denials, Observations};
use crate::guard::{Observed, StatementClass};
use crate::metrics::{Count, Metrics, MetricsSettings, ShardNumber, Tally};
use crate::pool::PoolCounts;
use crate::tenant::{FreezeReason, TenantId};
use crate::time::Moment;

struct Paper;

fn tenant() -> TenantId {
    TenantId::parse(TenantKind::Text, "acme").unwrap()
}

fn word(text: &str) -> Arc<str> {
    Arc::from(text)
}

fn client(process_id: i32, database: &str, tenant: Option<TenantId>, state: ClientState) -> ClientRow {
    ClientRow {
        process_id,
        login: word("app"),
        database: word(database),
        tenant,
        state,
        address: word("127.0.0.1"),
        port: 5000,
        local_address: word("127.0.0.1"),
        local_port: 6432,
        connected_at: Moment::from_micros(1_000_000),
        requested_at: Moment::from_micros(2_000_000),
        waiting_since: Some(Moment::from_micros(500_000)),
        server: Some(3),
        application_name: word("psql"),
        tls: word(""),
        prepared_statements: 2,
        pinned: (process_id == 7).then(|| word("locks")),
    }
}

impl Operations for Paper {
    fn clients(&self) -> Vec<ClientRow> {
        vec![client(7, "demo", Some(tenant()), ClientState::Active), client(8, "pgbouncer", None, ClientState::Idle)]
    }
    fn servers(&self) -> Vec<ServerRow> {
        vec![ServerRow {
            id: 3,
            group: word("main"),
            user: word("app_user"),
            database: word("demo"),
            state: ServerState::Active,
            address: word("127.0.0.1"),
            port: 5432,
            connected_at: Moment::START,
            requested_at: Moment::START,
            process_id: 4711,
            client: Some(7),
            close_needed: true,
            tls: word(""),
            prepared_statements: 5,
        }]
    }
    fn pools(&self) -> Vec<PoolRow> {
        vec![PoolRow {
            database: word("demo"),
            login: word("app"),
            clients_active: 1,
            clients_waiting: 2,
            clients_idle: 3,
            clients_pinned: 6,
            pool_mode: "transaction",
            cancels: 0,
            servers: PoolCounts { idle: 4, leased: 1, pinned: 0, connecting: 0, waiting: 2 },
            wait_longest_micros: 2_500_000,
            is_paused: false,
        }]
    }
    fn databases(&self) -> Vec<DatabaseRow> {
        vec![DatabaseRow {
            name: word("demo"),
            host: word("127.0.0.1"),
            port: 5432,
            server_database: word("demo"),
            user: word("app_user"),
            pool_size: 20,
            pool_size_min: 0,
            servers: 5,
            clients: 6,
            clients_max: 0,
            is_paused: false,
            is_disabled: false,
            server_lifetime_seconds: 3600,
        }]
    }
    fn users(&self) -> Vec<UserRow> {
        vec![UserRow {
            name: word("app"),
            clients: 6,
            clients_max: 0,
            leases_max: 0,
            preset: "tenant",
            pool_mode: "transaction",
        }]
    }
    fn tenants(&self) -> Vec<TenantRow> {
        vec![TenantRow { tenant: tenant(), clients: 6, active: 1, waiting: 2, pinned: 0, is_frozen: false }]
    }
    fn frozen(&self) -> Vec<FrozenRow> {
        vec![FrozenRow { tenant: tenant(), reason: word("why"), by: word("ops"), at: word("2026-11-23T09:00:00Z") }]
    }
    fn emergencies(&self) -> Vec<EmergencyRow> {
        let (at, until) = (word("2026-11-23T09:00:00Z"), word("2026-11-23T09:30:00Z"));
        let (id, login, reason) = (word("1"), word("ops"), word("fire"));
        vec![EmergencyRow { id, login, until, reason, by: word("root"), address: word("::1"), at }]
    }
    fn bypass_freeze(&self) -> Option<[std::sync::Arc<str>; 3]> {
        None
    }
    fn bypasses(&self) -> Vec<BypassRow> {
        vec![BypassRow { login: word("ops"), rows: 9, ..BypassRow::default() }]
    }
    fn config(&self) -> Vec<ConfigRow> {
        vec![ConfigRow {
            key: word("logins.app.password"),
            value: word("<masked>"),
            default: word(""),
            is_changeable: true,
        }]
    }
    fn state(&self) -> &'static str {
        "active"
    }
    async fn perform(&self, _: Command, _: Actor) -> Result<(), Fault> {
        Ok(())
    }
}

/// A console with its proxy.
struct Bench {
    console: Console,
    metrics: Metrics,
    denials: Denials,
    observations: Observations,
}

impl Bench {
    fn new(right: Right) -> Self {
        let metrics = Metrics::new(MetricsSettings { tenants_shown_max: 1 }, Moment::START);
        let mut tally = Tally::default();
        tally.add(Count::Statements, 12_345_678);
        metrics.database(&word("demo")).add(ShardNumber::SHARED, &mut tally);
        let observations = Observations::default();
        let observed = Observed { code: Code::FunctionRefused, class: StatementClass::Select };
        observations.count(&Arc::from("app"), observed, b"SELECT pg_sleep(1)", Moment::START);
        let denials = Denials::default();
        let who = Denial { login: word("app"), tenant: Some(tenant()), address: word("127.0.0.1") };
        denials.push(DenialRow { at: Moment::START, who, code: Code::RoleChange, class: "SET" });
        let actor = Actor { login: word("ops"), address: word("127.0.0.1") };
        Self { console: Console::new(actor, right, TenantKind::Text), metrics, denials, observations }
    }

    fn view(&self) -> View<'_, Paper> {
        view(&self.metrics, &self.denials, &self.observations)
    }
}

fn view<'v>(metrics: &'v Metrics, denials: &'v Denials, observations: &'v Observations) -> View<'v, Paper> {
    View {
        operations: &Paper,
        metrics,
        denials,
        observations,
        now: Moment::from_micros(3_000_000),
        epoch_micros: 1_700_000_000_000_000,
        logging_in: 2,
        console_databases: &["tenantgate", "pgbouncer"],
    }
}

impl Bench {
    fn feed(&mut self, bytes: &[u8]) -> (Step, Vec<String>) {
        let (mut input, mut out) = (BytesMut::from(bytes), BytesMut::new());
        let view = view(&self.metrics, &self.denials, &self.observations);
        let step = self.console.handle_bytes(&mut input, &mut out, &view);
        (step, words(&out))
    }

    fn ask(&mut self, sql: &str) -> (Step, Vec<String>) {
        let mut bytes = BytesMut::new();
        frontend::put_query(&mut bytes, sql.as_bytes());
        self.feed(&bytes)
    }
}

/// Messages as short texts: `T a b`, `D 1 2`, `C SHOW`, `E 42501`, `Z`.
fn words(mut out: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    while let Some(head) = Head::read(out).unwrap() {
        let body = &out[HEAD_BYTES..head.frame_bytes()];
        found.push(said(head.tag, body));
        out = &out[head.frame_bytes()..];
    }
    assert!(out.is_empty());
    found
}

fn said(tag: u8, body: &[u8]) -> String {
    let mut reader = Reader::new(body);
    let mut parts = vec![char::from(tag).to_string()];
    match tag {
        b'T' => {
            for _ in 0..reader.i16("").unwrap() {
                parts.push(String::from_utf8(reader.cstr("").unwrap().to_vec()).unwrap());
                reader.bytes(18, "").unwrap();
            }
        }
        b'D' => {
            for _ in 0..reader.i16("").unwrap() {
                let length = reader.i32("").unwrap();
                parts.push(match usize::try_from(length) {
                    Err(_) => "NULL".to_owned(),
                    Ok(length) => String::from_utf8_lossy(reader.bytes(length, "").unwrap()).into_owned(),
                });
            }
        }
        b'C' => parts.push(String::from_utf8_lossy(reader.cstr("").unwrap()).into_owned()),
        b'E' => parts.push(backend::Fields::new(body).sqlstate().unwrap().as_str().to_owned()),
        _ => {}
    }
    parts.join(" ")
}

#[test]
fn every_table_has_as_many_values_as_columns_and_names_them() {
    for table in Table::ALL.iter().copied().filter(|table| *table != Table::Help) {
        let mut bench = Bench::new(Right::Stats);
        let shown = bench.view().show(table);
        assert!(!shown.rows.is_empty(), "{table:?} shows nothing");
        for row in &shown.rows {
            assert_eq!(row.len(), shown.columns.len(), "{table:?}: {row:?}");
        }
        let (step, said) = bench.ask(&format!("SHOW {};", table.name()));
        let names: Vec<_> = table.columns().iter().map(|column| column.name).collect();
        assert_eq!(step, Step::Read);
        assert_eq!(said[0], format!("T {}", names.join(" ")));
        assert_eq!(said[said.len() - 2..], ["C SHOW", "Z"]);
    }
}

#[test]
fn facts_stand_in_their_columns() {
    let mut bench = Bench::new(Right::Stats);
    let rows = |bench: &mut Bench, sql| bench.ask(sql).1;
    assert_eq!(rows(&mut bench, "SHOW POOLS")[1], "D demo app 4 2 0 0 1 0 0 4 0 0 0 2 500000 transaction NULL 0 6");
    assert_eq!(rows(&mut bench, "SHOW POOLS")[2], "D pgbouncer pgbouncer 1 0 0 0 0 0 0 0 0 0 0 0 0 statement NULL 0 0");
    let clients = "D C app demo none active 127.0.0.1 5000 127.0.0.1 6432 2023-11-14 22:13:21 UTC \
                   2023-11-14 22:13:22 UTC 2 500000 0 c7 s3 0  psql 2 7 acme locks";
    assert_eq!(rows(&mut bench, "SHOW CLIENTS")[1], clients);
    assert!(rows(&mut bench, "SHOW SERVERS")[1].ends_with("0 0 1 s3 c7 4711  psql 5 3 main locks"));
    assert_eq!(rows(&mut bench, "SHOW DENIALS")[1], "D 2023-11-14 22:13:20 UTC app acme 127.0.0.1 TG012 SET");
    assert_eq!(rows(&mut bench, "SHOW CONFIG")[1], "D logins.app.password <masked>  yes");
    assert_eq!(rows(&mut bench, "SHOW STATE")[1..3], ["D active yes", "D paused no"]);
    assert!(rows(&mut bench, "SHOW STATS")[1].starts_with("D demo 0 0 12345678 0"));
    assert!(rows(&mut bench, "SHOW LISTS").contains(&"D login_clients 2".to_owned()));
    assert_eq!(rows(&mut bench, "SHOW HELP"), ["N", "C SHOW", "Z"]);
    assert_eq!(rows(&mut bench, "SHOW client_encoding;"), ["T client_encoding", "D UTF8", "C SHOW", "Z"]);
    assert_eq!(rows(&mut bench, "SET extra_float_digits = 3"), ["C SET", "Z"]);
    assert_eq!(rows(&mut bench, "-- ping"), ["I", "Z"]);
}

#[test]
fn a_command_is_done_between_its_message_and_its_answer() {
    let mut bench = Bench::new(Right::Admin);
    let (step, said) = bench.ask("PAUSE demo");
    assert_eq!((step, said.len()), (Step::Perform(Command::Pause(Some(word("demo")))), 0));
    let mut out = BytesMut::new();
    bench.console.performed(Ok(()), &mut out);
    assert_eq!(words(&out), ["C PAUSE", "Z"]);
    assert_eq!(bench.ask("RELOAD").0, Step::Perform(Command::Reload));
    let mut out = BytesMut::new();
    bench.console.performed(Err(Fault::native(b"F0000", "line 3")), &mut out);
    assert_eq!(words(&out), ["E F0000", "Z"]);
    let mut out = BytesMut::new();
    bench.console.performed(Ok(()), &mut out);
    assert!(out.is_empty());
}

#[test]
fn a_stats_login_may_look_and_nothing_else() {
    let mut bench = Bench::new(Right::Stats);
    for sql in ["PAUSE", "KILL_CLIENT 7", "SHUTDOWN", "FREEZE TENANT acme REASON 'x'", "kill_client nonsense"] {
        let (step, said) = bench.ask(sql);
        assert_eq!((step, said), (Step::Read, vec!["E 42501".to_owned(), "Z".to_owned()]), "{sql}");
    }
    let mut bytes = BytesMut::new();
    frontend::put_parse(&mut bytes, b"", b"PAUSE", &[0, 0]);
    assert_eq!(bench.feed(&bytes).1, ["E 42501"]);
}

fn put_bind(out: &mut BytesMut, formats: &[i16]) {
    put_message(out, b'B', |out| {
        out.extend_from_slice(&[0, 0, 0, 0, 0, 0]);
        out.put_i16(count(formats.len()));
        formats.iter().for_each(|format| out.put_i16(*format));
    });
}

#[test]
fn the_extended_protocol_shows_tables_and_does_commands() {
    let mut bench = Bench::new(Right::Admin);
    let mut bytes = BytesMut::new();
    frontend::put_parse(&mut bytes, b"", b"SHOW LISTS", &[0, 0]);
    frontend::put_describe(&mut bytes, Target::Statement, b"");
    put_bind(&mut bytes, &[1]);
    frontend::put_describe(&mut bytes, Target::Portal, b"");
    put_message(&mut bytes, b'E', |out| out.extend_from_slice(&[0, 0, 0, 0, 2]));
    frontend::put_execute(&mut bytes, b"");
    frontend::put_sync(&mut bytes);
    let (step, said) = bench.feed(&bytes);
    assert_eq!(step, Step::Read);
    assert_eq!(said[..5], ["1", "t", "T list items", "2", "T list items"]);
    assert_eq!(said[5], "D databases \0\0\0\u{2}");
    assert_eq!(said[7], "s");
    assert_eq!(said.len(), 5 + 16 + 1 + 2);
    let mut bytes = BytesMut::new();
    frontend::put_parse(&mut bytes, b"", b"RELOAD", &[0, 0]);
    put_bind(&mut bytes, &[]);
    frontend::put_execute(&mut bytes, b"");
    frontend::put_sync(&mut bytes);
    let mut out = BytesMut::new();
    let step = bench.feed_into(&mut bytes, &mut out);
    assert_eq!(step, Step::Perform(Command::Reload));
    bench.console.performed(Ok(()), &mut out);
    assert_eq!(bench.feed_into(&mut bytes, &mut out), Step::Read);
    assert_eq!(words(&out), ["1", "2", "C RELOAD", "Z"]);
}

impl Bench {
    fn feed_into(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Step {
        let view = view(&self.metrics, &self.denials, &self.observations);
        self.console.handle_bytes(input, out, &view)
    }
}

#[test]
fn an_error_skips_to_sync_and_names_are_bounded() {
    let mut bench = Bench::new(Right::Admin);
    let mut bytes = BytesMut::new();
    frontend::put_parse(&mut bytes, b"", b"SELECT 1", &[0, 0]);
    put_bind(&mut bytes, &[]);
    frontend::put_execute(&mut bytes, b"");
    frontend::put_sync(&mut bytes);
    put_bind(&mut bytes, &[]);
    frontend::put_sync(&mut bytes);
    frontend::put_execute(&mut bytes, b"nosuch");
    frontend::put_sync(&mut bytes);
    assert_eq!(bench.feed(&bytes).1, ["E 42601", "Z", "E 26000", "Z", "E 34000", "Z"]);
    let mut bytes = BytesMut::new();
    for number in 0..=NAMES_MAX {
        frontend::put_parse(&mut bytes, format!("s{number}").as_bytes(), b"SHOW STATE", &[0, 0]);
    }
    frontend::put_parse(&mut bytes, b"s0", b"SHOW STATE", &[0, 0]);
    frontend::put_sync(&mut bytes);
    let said = bench.feed(&bytes).1;
    assert_eq!(said[NAMES_MAX..], ["E 54000", "Z"]);
    let mut bytes = BytesMut::new();
    put_message(&mut bytes, b'B', |out| out.extend_from_slice(&[0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]));
    frontend::put_sync(&mut bytes);
    put_message(&mut bytes, b'F', |_| {});
    assert_eq!(bench.feed(&bytes).1, ["E 0A000", "Z", "E 0A000", "Z"]);
}

#[test]
fn hostile_bytes_end_the_session_or_give_an_error() {
    let mut bench = Bench::new(Right::Admin);
    assert_eq!(bench.feed(b"Q\0\0\0\x03").1, ["E 08P01"]);
    assert_eq!(bench.feed(b"Q\x7f\xff\xff\xff").1, ["E 08P01"]);
    assert_eq!(bench.feed(b"p\0\0\0\x04"), (Step::Close, vec!["E 08P01".to_owned()]));
    // A text with a NUL inside is no string of the protocol.
    assert_eq!(bench.feed(b"Q\0\0\0\x09SH\0W\0").0, Step::Close);
    assert_eq!(bench.feed(b"Q\0\0\0\x07\xff\xfe\0").1, ["E 22021", "Z"]);
    assert_eq!(bench.ask(&"x".repeat(COMMAND_BYTES_MAX + 1)).1, ["E 42601", "Z"]);
    assert_eq!(bench.ask(&"y".repeat(MESSAGE_BYTES_MAX)).0, Step::Close);
    assert_eq!(bench.ask("FREEZE TENANT '''''''' REASON ''''''''").0, {
        let tenant = TenantId::parse(TenantKind::Text, "'''").unwrap();
        Step::Perform(Command::Freeze { tenant, reason: FreezeReason::parse("'''").unwrap() })
    });
    assert_eq!(bench.feed(b"X\0\0\0\x04").0, Step::Close);
    for length in 0..40 {
        for tag in 0..=255_u8 {
            let mut bytes = BytesMut::new();
            put_message(&mut bytes, tag, |out| out.put_bytes(0xff, length));
            let step = Bench::new(Right::Stats).feed(&bytes).0;
            assert!(matches!(step, Step::Read | Step::Close));
        }
    }
}

#[test]
fn numbers_in_binary_are_postgresqls() {
    let binary = |kind, number| {
        let mut out = BytesMut::new();
        put_value(&mut out, kind, &Value::Number(number), true);
        out.to_vec()
    };
    assert_eq!(binary(ColumnKind::Int4, 258), [0, 0, 0, 4, 0, 0, 1, 2]);
    assert_eq!(binary(ColumnKind::Int4, u64::MAX), [0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff]);
    assert_eq!(binary(ColumnKind::Numeric, 0), [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(binary(ColumnKind::Numeric, 1_0002), [0, 0, 0, 12, 0, 2, 0, 1, 0, 0, 0, 0, 0, 1, 0, 2]);
}
