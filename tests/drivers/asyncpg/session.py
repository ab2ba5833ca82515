"""A session of asyncpg and of its pool. Prints what it sees; run directly and through TenantGate it must print the same."""

import asyncio
import datetime
import decimal
import json
import os
import uuid

import asyncpg

TENANT = os.environ["TENANT"]
TENANTS = [f"00000000-0000-0000-0000-00000000000{letter}" for letter in "abc"]


def show(title, value):
    print(f"{title}: {value}")


def place(tenant=None):
    """Keyword arguments; with a tenant it is named by a startup parameter, else as the user name has it."""
    user = os.environ["PGUSER"].split(".")[0] if tenant else os.environ["PGUSER"]
    settings = {} if "." in user else {"app.tenant_id": tenant or TENANT}
    return {"user": user, "server_settings": settings}


async def error_of(action):
    try:
        await action
        return "no error"
    except asyncpg.PostgresError as error:
        return f"{type(error).__name__} {error.sqlstate} {error.message}"


async def statements(conn):
    show("rows", [tuple(row.values()) for row in await conn.fetch("SELECT id, name, tenant_id FROM items ORDER BY id")])
    show("parameters", await conn.fetch("SELECT id FROM items WHERE id > $1 AND name <> $2 ORDER BY id", 1, "x"))
    show("value", await conn.fetchval("SELECT count(*) FROM items"))
    show("simple", await conn.execute("SELECT 1; SELECT 2; UPDATE items SET qty = qty + 1"))
    show("error", await error_of(conn.fetch("SELECT nosuch FROM items")))
    show("unique", await error_of(conn.execute("INSERT INTO items (id, name) VALUES (1, 'again')")))
    show("hidden", await error_of(conn.execute("INSERT INTO items VALUES (90, $1, 'theirs')", uuid.UUID(TENANTS[1]))))
    await conn.executemany("INSERT INTO plain (id, note) VALUES ($1, $2)", [(number, f"note {number}") for number in range(50)])
    show("executemany", await conn.fetchval("SELECT count(*) FROM plain WHERE writer = $1", TENANT))
    show("status", await conn.execute("DELETE FROM plain"))


async def transactions(conn):
    async with conn.transaction():
        await conn.execute("INSERT INTO items (id, name) VALUES (70, 'kept')")
        try:
            async with conn.transaction():
                await conn.execute("INSERT INTO items (id, name) VALUES (71, 'lost')")
                await conn.fetchval("SELECT 1/0")
        except asyncpg.DivisionByZeroError as error:
            show("inner", error)
        show("in the block", conn.is_in_transaction())
    try:
        async with conn.transaction(isolation="serializable", readonly=True, deferrable=True):
            show("isolation", await conn.fetchval("SHOW transaction_isolation"))
            await conn.execute("DELETE FROM items")
    except asyncpg.ReadOnlySQLTransactionError as error:
        show("read only", error)
    show("after", [row["id"] for row in await conn.fetch("SELECT id FROM items ORDER BY id")])
    async with conn.transaction():
        show("cursor", [row["id"] async for row in conn.cursor("SELECT id FROM items ORDER BY id", prefetch=2)])
        cursor = await conn.cursor("SELECT id FROM items ORDER BY id")
        await cursor.forward(1)
        show("moved", await cursor.fetch(2))


async def prepared(conn):
    statement = await conn.prepare("SELECT id, name FROM items WHERE id >= $1 ORDER BY id")
    show("types", [type.name for type in statement.get_parameters()])
    show("columns", [(column.name, column.type.name) for column in statement.get_attributes()])
    for _ in range(8):
        rows = await statement.fetch(2)
    show("prepared", rows)
    # More than fit into the driver's cache of 100 and the server's of 200.
    total = 0
    for number in range(260):
        total += await conn.fetchval(f"SELECT {number} + $1::int", 1)
    show("many", total)
    show("again", await statement.fetch(3))


async def types(conn):
    await conn.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
    number = uuid.UUID("11111111-1111-1111-1111-111111111111")
    await conn.execute(
        "INSERT INTO kinds (id, doc, docb, ints, texts, moment, local, day, price, ratio, raw, span, address, feeling, home,"
        " numbers, count, flag, big) VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17,$18,$19)",
        number, '{"a": 1}', {"b": [1, None]}, [1, None, 3], ["x", 'y"z'],
        datetime.datetime(2026, 1, 2, 3, 4, 5, 6, datetime.timezone.utc), datetime.datetime(2026, 1, 2),
        datetime.date(2026, 2, 3), decimal.Decimal("12.345"), 0.5, b"\x00\xff", datetime.timedelta(days=1, seconds=2),
        "10.0.0.1/8", "happy", ("Main", 7), asyncpg.Range(1, 5), 3, True, 2**40,
    )
    show("kinds", dict(await conn.fetchrow("SELECT * FROM kinds WHERE id = $1", number)))
    show("arrays of enums", await conn.fetchval("SELECT ARRAY['sad', 'ok']::mood[]"))
    show("composites", await conn.fetchval("SELECT ARRAY[ROW('a', 1)::place]"))
    show("domain", await error_of(conn.execute("UPDATE kinds SET count = $1", -1)))
    show("jit", await conn.fetchval("SHOW jit"))
    await conn.reload_schema_state()
    await conn.execute("DELETE FROM kinds")


async def copies(conn):
    records = [(number, f"note {number}") for number in range(3000)]
    show("copied", await conn.copy_records_to_table("plain", records=records, columns=["id", "note"]))

    async def sink(data):
        collected.append(data)

    collected = []
    show("out", await conn.copy_from_query("SELECT id, writer FROM plain WHERE id < $1 ORDER BY id", 3, output=sink))
    show("bytes", b"".join(collected))
    show("copy error", await error_of(conn.copy_records_to_table("plain", records=[(1,)], columns=["id", "nosuch"])))
    show("row security", await error_of(conn.copy_records_to_table("items", records=[(99, "x")], columns=["id", "name"])))
    await conn.execute("DELETE FROM plain")


async def cancels(conn):
    slow = "SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100019) b"
    try:
        await conn.fetchval(slow, timeout=0.3)
    except asyncio.TimeoutError:
        show("timed out", "cancelled by the driver")
    show("alive", await conn.fetchval("SELECT count(*) FROM items"))
    await conn.execute("SET statement_timeout = '100ms'")
    show("statement_timeout", await error_of(conn.fetchval(slow)))
    await conn.execute("RESET statement_timeout")


async def settings(conn):
    await conn.execute("SET timezone = 'Asia/Tokyo'")
    show("timezone", (conn.get_settings().TimeZone, await conn.fetchval("SHOW timezone")))
    await conn.fetchval("SELECT set_config('TimeZone', $1, false)", "Europe/Berlin")
    show("set_config", await conn.fetchval("SHOW timezone"))
    await conn.reset()
    show("reset", await conn.fetchval("SHOW timezone"))
    messages = []
    conn.add_log_listener(lambda _, message: messages.append(message.message))
    await conn.fetchval("SELECT shout('asyncpg')")
    show("notice", messages)
    show("server", conn.get_server_version().major)


async def pool():
    """Three tenants share what is behind; every row must be the tenant's own, every connection reset on release."""
    pools = [await asyncpg.create_pool(min_size=1, max_size=5, **place(tenant)) for tenant in TENANTS]
    expected = {tenant: [] for tenant in TENANTS}
    for tenant, own in zip(TENANTS, pools):
        expected[tenant] = [row["id"] for row in await own.fetch("SELECT id FROM items ORDER BY id")]
    show("whose", expected)

    async def work(number):
        tenant = TENANTS[number % 3]
        async with pools[number % 3].acquire() as conn:
            assert await conn.fetchval("SHOW timezone") == "UTC", "the reset of the connection before"
            await conn.execute("SET timezone = 'Asia/Tokyo'")
            async with conn.transaction():
                rows = await conn.fetch("SELECT id, tenant_id::text FROM items WHERE id > $1 ORDER BY id", 0)
                assert [row["id"] for row in rows] == expected[tenant], (tenant, rows)
                assert {row["tenant_id"] for row in rows} <= {tenant}, (tenant, rows)
                await conn.execute("INSERT INTO plain (id, note) VALUES ($1, $2)", number, tenant)
            return 1

    show("worked", sum(await asyncio.gather(*(work(number) for number in range(150)))))
    show("written as", await pools[0].fetchval("SELECT count(*) FROM plain WHERE writer = note"))
    for own in pools:
        await own.close()


async def main():
    conn = await asyncpg.connect(**place())
    await statements(conn)
    await transactions(conn)
    await prepared(conn)
    await types(conn)
    await copies(conn)
    await cancels(conn)
    await settings(conn)
    await conn.close()
    await pool()


async def refusals():
    """Only through TenantGate: what the driver makes of its refusals."""
    conn = await asyncpg.connect(**place())
    show("tls", conn._transport.get_extra_info("ssl_object") is not None)
    show("listen", await error_of(conn.add_listener("channel", print)))
    show("tenant", await error_of(conn.execute("SET app.tenant_id = 'x'")))
    show("tenant by function", await error_of(conn.fetchval("SELECT set_config('app.tenant_id', $1, false)", "x")))
    show("value", await error_of(conn.fetchval("SELECT set_config('search_path', $1, false)", "pg_temp")))
    show("null", await error_of(conn.fetchval("SELECT set_config('jit', $1, false)", None)))
    show("lastval", await error_of(conn.fetchval("SELECT lastval()")))
    show("alive", await conn.fetchval("SELECT count(*) FROM items"))
    await conn.close()


asyncio.run(refusals() if os.environ.get("REFUSALS") else main())
