//! What generated sessions say: statements whose answers depend on nothing but the session.
//!
//! No clocks, no numbers of transactions or processes, every set of rows in an order. SERIALIZABLE is left to the
//! scripts: sessions share tables, and PostgreSQL may find conflicts where none are.

use std::collections::BTreeMap;
use std::sync::Mutex;

/// Transaction control.
pub const CONTROL: &[&str] = &[
    "BEGIN",
    "BEGIN",
    "BEGIN",
    "START TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "BEGIN READ ONLY",
    "begin transaction isolation level read committed, read write",
    "COMMIT",
    "COMMIT",
    "COMMIT",
    "END",
    "ROLLBACK",
    "ABORT",
    "COMMIT AND CHAIN",
    "ROLLBACK AND CHAIN",
    "SAVEPOINT a",
    "SAVEPOINT a",
    "SAVEPOINT b",
    "ROLLBACK TO a",
    "ROLLBACK TO SAVEPOINT b",
    "RELEASE a",
    "RELEASE SAVEPOINT b",
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "SET TRANSACTION READ ONLY",
    "SET CONSTRAINTS ALL IMMEDIATE",
    "SET CONSTRAINTS ALL DEFERRED",
];

/// Reading and writing.
pub const WORK: &[&str] = &[
    "SELECT id FROM items ORDER BY id",
    "SELECT id, name, qty FROM items ORDER BY id",
    "SELECT current_setting('app.tenant_id', true) AS tenant, count(*) FROM items",
    "INSERT INTO plain (id, note) VALUES (1, 'one')",
    "INSERT INTO plain (id) SELECT count(*) FROM plain WHERE writer = current_setting('app.tenant_id', true) RETURNING id, writer",
    "SELECT count(*) FROM plain WHERE writer = current_setting('app.tenant_id', true)",
    "UPDATE items SET qty = qty + 1 WHERE id = 1 RETURNING qty",
    "DELETE FROM items WHERE id = 3 RETURNING name",
    "INSERT INTO items (id, name) VALUES (7, 'new') ON CONFLICT (tenant_id, id) DO UPDATE SET qty = items.qty + 5 RETURNING id, qty",
    "SELECT shout('x')",
    "SELECT warns('y')",
    "SELECT caught()",
    LITERALS[0],
    LITERALS[1],
    LITERALS[2],
    LITERALS[3],
    "INSERT INTO children (id, parent) SELECT count(*) + 10, 1 FROM children RETURNING id",
    "INSERT INTO uniq (v) SELECT max(v) + 1 FROM uniq RETURNING v",
    "SELECT g, repeat('y', g) FROM generate_series(1, 7) AS g",
    "VALUES (1, 'a'), (2, NULL), (3, '')",
    "WITH moved AS (UPDATE items SET name = name || '!' WHERE id = 2 RETURNING id, name) SELECT * FROM moved",
    "SELECT repeat('z', 20000) AS long",
    "SELECT id, place FROM things ORDER BY id",
    "SELECT name FROM items WHERE id = 1 FOR UPDATE",
    "SHOW transaction_isolation",
    "SHOW transaction_read_only",
    "COPY (SELECT id, name FROM items ORDER BY id) TO STDOUT",
];

/// What they mean is decided when they are parsed: under whose settings? Prepared, they are used at once and never again
/// (the difference prepared-under-other-settings).
pub const LITERALS: &[&str] = &[
    "SELECT '2020-01-01 00:00:00'::timestamptz AT TIME ZONE 'UTC'",
    "SELECT '2020-06-01 12:00:00+00'::timestamptz",
    "SELECT '02/03/2004'::date",
    "SELECT '1 day 2 hours 3 min'::interval, 0.1::float8 + 0.2, '\\x41ff'::bytea",
];

/// Settings of the session and of the transaction.
pub const SETTINGS: &[&str] = &[
    "SET timezone = 'Asia/Tokyo'",
    "SET timezone TO 'Europe/Berlin'",
    "SHOW timezone",
    "RESET timezone",
    "SET timezone TO DEFAULT",
    "SET LOCAL timezone = 'Europe/Paris'",
    "SET TIME ZONE INTERVAL '+05:00' HOUR TO MINUTE",
    "SET TIME ZONE LOCAL",
    "SET LOCAL work_mem = '2MB'",
    "SET work_mem = '3MB'",
    "SHOW work_mem",
    "SET application_name = 'random'",
    "SET SESSION application_name TO 'it''s \"quoted\"'",
    "SHOW application_name",
    "SET datestyle = 'German'",
    "SET datestyle = 'ISO, DMY'",
    "RESET datestyle",
    "SHOW datestyle",
    "SET intervalstyle = 'iso_8601'",
    "SET extra_float_digits = 0",
    "SET bytea_output = 'escape'",
    "SET client_min_messages = 'warning'",
    "SET LOCAL client_min_messages = 'error'",
    "RESET client_min_messages",
    "SET search_path = north, public",
    "SET search_path TO south, public",
    "SET LOCAL search_path = 'south', public",
    "SET search_path = nowhere",
    "RESET search_path",
    "SHOW search_path",
    "SET default_transaction_isolation = 'repeatable read'",
    "RESET default_transaction_isolation",
    "SET default_transaction_read_only = on",
    "RESET default_transaction_read_only",
    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "SET lock_timeout = '1min'",
    "SHOW lock_timeout",
    "SET client_encoding = 'UTF8'",
    "SET NAMES 'utf-8'",
    "SET standard_conforming_strings = on",
    "SELECT set_config('TimeZone', 'America/Lima', false)",
    "SELECT set_config('application_name', 'configured', true)",
    "SELECT current_setting('timezone'), set_config('TimeZone', 'Asia/Kolkata', true)",
    // These fail.
    "SELECT set_config('TimeZone', 'nowhere', false)",
    "SET timezone = 'nowhere'",
    "SET datestyle = 'nonsense'",
    "SET work_mem = 'much'",
];

/// What fails, and what is nothing.
pub const ODD: &[&str] = &[
    "",
    ";",
    "/* nothing */",
    "SELECT nosuch",
    "SELECT 1/0",
    "SELECT 1/(id - 2) FROM items ORDER BY id",
    "SELECT fails('here')",
    "SELECT * FROM nosuch",
    "SELECT 'x'::int",
    "SELEC 1",
    // Refused at the end of the transaction, or at once if so set.
    "INSERT INTO uniq (v) VALUES (1)",
    "INSERT INTO children (id, parent) VALUES (1, 99)",
    "INSERT INTO items (id, name) VALUES (1, 'again')",
    "UPDATE items SET qty = -1 WHERE id = 2",
    "COPY (SELECT 1 / (2 - g) FROM generate_series(1, 4) AS g) TO STDOUT",
    "INSERT INTO items (tenant_id, id) VALUES ('99999999-0000-0000-0000-000000000001', 100)",
    "FETCH 1 FROM nosuch",
    "SAVEPOINT a; SELECT 1",
    "SELECT lock_timeout FROM (SELECT 1) AS x",
];

/// Cursors of a block, in the order in which they are of use.
pub const CURSOR: &[&str] = &[
    "DECLARE c CURSOR FOR SELECT id FROM items ORDER BY id",
    "FETCH 1 FROM c",
    "FETCH 2 FROM c",
    "MOVE 1 IN c",
    "FETCH ALL FROM c",
    "CLOSE c",
];

/// What pools send when a client gives a connection back. Answered by the proxy, so it takes no snapshot and ends no
/// portal there: these come alone and between transactions, where pools send them.
pub const RELEASE: &[&str] = &[
    "DEALLOCATE ALL",
    "UNLISTEN *",
    "RESET ALL",
    "RESET ALL",
    "DISCARD ALL",
    "DISCARD ALL",
    "DISCARD PLANS",
    "DEALLOCATE s1",
    "SELECT pg_advisory_unlock_all()",
    "CLOSE ALL",
    "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL",
];

/// With parameters: the text, types named at Parse, and lists of values, the first of which fits.
pub struct Bound {
    pub sql: &'static str,
    pub types: &'static [u32],
    pub values: &'static [&'static [Option<&'static str>]],
}

pub const BOUND: &[Bound] = &[
    Bound {
        sql: "SELECT $1::int + 1 AS next",
        types: &[],
        values: &[&[Some("41")], &[Some("x")], &[None], &[], &[Some("1"), Some("2")]],
    },
    Bound { sql: "SELECT $1 AS same", types: &[25], values: &[&[Some("text")], &[Some("")], &[None]] },
    Bound { sql: "SELECT $1 AS same", types: &[23], values: &[&[Some("7")], &[Some("seven")]] },
    Bound {
        sql: "SELECT id, name FROM items WHERE id >= $1 ORDER BY id",
        types: &[],
        values: &[&[Some("1")], &[Some("2")], &[Some("99")], &[None]],
    },
    Bound {
        sql: "INSERT INTO plain (id, note) VALUES ($1, $2) RETURNING id, note, writer",
        types: &[],
        values: &[&[Some("5"), Some("five")], &[Some("6"), None], &[Some("six"), None]],
    },
    Bound {
        sql: "UPDATE items SET qty = $2 WHERE id = $1",
        types: &[23, 23],
        values: &[&[Some("1"), Some("100")], &[Some("2"), Some("-1")], &[Some("77"), Some("1")]],
    },
    // Divided by what planning does not know.
    Bound {
        sql: "SELECT 10 / (id - $1::int) FROM items WHERE id = 2",
        types: &[],
        values: &[&[Some("1")], &[Some("2")], &[None]],
    },
    Bound { sql: "SELECT $1::timestamptz", types: &[], values: &[&[Some("2021-02-03 04:05:06")], &[Some("never")]] },
    Bound {
        sql: "SELECT set_config('application_name', $1, false)",
        types: &[],
        values: &[&[Some("bound")], &[Some("")]],
    },
];

/// [`STATE`] for one player: channels and locks are everybody's, so each has its own.
pub fn state_of(player: u32) -> &'static [&'static str] {
    static TEXTS: Mutex<BTreeMap<u32, &'static [&'static str]>> = Mutex::new(BTreeMap::new());
    let mut texts = TEXTS.lock().expect("no player has failed");
    texts.entry(player).or_insert_with(|| {
        let own = |text: &&str| -> &'static str {
            let text =
                text.replace("channel_N", &format!("channel_{player}")).replace("9000N", &format!("9000{player}"));
            Box::leak(text.into_boxed_str())
        };
        Box::leak(STATE.iter().map(own).collect::<Vec<_>>().into_boxed_slice())
    })
}

/// What stays in a session, and what releases it.
const STATE: &[&str] = &[
    "CREATE TEMP TABLE tt AS SELECT 1 AS v",
    "CREATE TEMP TABLE tt (v int, w text)",
    "CREATE TEMP TABLE short ON COMMIT DROP AS SELECT 2 AS v",
    // In front of the table of that name.
    "CREATE TEMP TABLE plain (id float8, note text DEFAULT 'temporary', writer text)",
    "CREATE TEMP TABLE uniq (v numeric)",
    "INSERT INTO tt VALUES (2), (3)",
    "INSERT INTO tt SELECT count(*) FROM tt RETURNING v",
    "SELECT v FROM tt ORDER BY v",
    "SELECT v FROM tt ORDER BY v",
    "DROP TABLE pg_temp.tt",
    "DROP TABLE IF EXISTS pg_temp.plain, pg_temp.uniq",
    "DISCARD TEMP",
    "DECLARE held CURSOR WITH HOLD FOR SELECT g, repeat('h', g) FROM generate_series(1, 9) AS g",
    "DECLARE held SCROLL CURSOR WITH HOLD FOR SELECT id, name FROM items ORDER BY id",
    "FETCH 2 FROM held",
    "FETCH ALL FROM held",
    "MOVE 1 FROM held",
    "CLOSE held",
    "CLOSE ALL",
    "PREPARE sq AS SELECT 41 + 1 AS answer",
    "PREPARE sq (int) AS SELECT id FROM items WHERE id = $1",
    "EXECUTE sq",
    "EXECUTE sq (1)",
    "DEALLOCATE sq",
    "LISTEN channel_N",
    "NOTIFY channel_N, 'told'",
    "NOTIFY channel_N",
    "UNLISTEN channel_N",
    "UNLISTEN *",
    "SELECT pg_advisory_lock(9000N)",
    "SELECT pg_try_advisory_lock_shared(9000N)",
    "SELECT pg_advisory_unlock(9000N)",
    "SELECT pg_advisory_unlock_all()",
    "DISCARD ALL",
];
