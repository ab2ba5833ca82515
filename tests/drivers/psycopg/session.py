"""A session of psycopg 3. Prints what it sees; run directly and through TenantGate it must print the same."""

import datetime
import decimal
import ipaddress
import logging
import os
import threading
import uuid

import psycopg
import psycopg.types.composite
import psycopg.types.enum
import psycopg.types.range
from psycopg import sql
from psycopg.types.json import Json, Jsonb
from psycopg_pool import ConnectionPool


def show(title, value):
    print(f"{title}: {value}")


def error_of(action):
    try:
        action()
        return "no error"
    except psycopg.Error as error:
        diag = error.diag
        return f"{type(error).__name__} {diag.sqlstate} {diag.message_primary} @{diag.statement_position}"


def statements(conn):
    show("rows", conn.execute("SELECT id, name, tenant_id FROM items ORDER BY id").fetchall())
    show("parameters", conn.execute("SELECT id FROM items WHERE id > %s AND name <> %s", (1, "x")).fetchall())
    show("status", conn.info.transaction_status.name)
    conn.commit()
    show("binary", conn.cursor(binary=True).execute("SELECT 1::int8, 2.5::float8, '{1,2}'::int[], now() IS NOT NULL").fetchone())
    conn.rollback()
    show("error", error_of(lambda: conn.execute("SELECT nosuch FROM items")))
    show("failed", conn.info.transaction_status.name)
    show("in a failed block", error_of(lambda: conn.execute("SELECT 1")))
    conn.rollback()


def transactions(conn):
    with conn.transaction():
        conn.execute("INSERT INTO items (id, name) VALUES (70, 'kept')")
        try:
            with conn.transaction():
                conn.execute("INSERT INTO items (id, name) VALUES (71, 'lost')")
                conn.execute("SELECT 1/0")
        except psycopg.errors.DivisionByZero as error:
            show("inner", error)
    show("after", conn.execute("SELECT id FROM items ORDER BY id").fetchall())
    conn.rollback()
    conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    conn.read_only = True
    show("isolation", conn.execute("SHOW transaction_isolation").fetchone())
    show("read only", error_of(lambda: conn.execute("UPDATE items SET qty = 0")))
    conn.rollback()
    conn.isolation_level = None
    conn.read_only = None


def prepared(conn, threshold):
    conn.prepare_threshold = threshold
    for number in range(8):
        row = conn.execute("SELECT %s::int + 1, count(*) FROM items", (number,)).fetchone()
        conn.commit()
        show(f"prepared {threshold} {number}", row)
    show("prepared error", error_of(lambda: conn.execute("SELECT 1 / %s::int", (0,))))
    conn.rollback()
    conn.execute("DEALLOCATE ALL")
    conn.commit()
    show("again", conn.execute("SELECT %s::int + 1, count(*) FROM items", (1,), prepare=True).fetchone())
    conn.commit()
    conn.prepare_threshold = 5


def many_statements(conn):
    conn.prepare_threshold = 0
    for number in range(130):
        conn.execute(f"SELECT {number}, %s::text", ("x",)).fetchone()
    conn.commit()
    conn.prepare_threshold = 5


def copies(conn):
    with conn.cursor() as cur:
        with cur.copy("COPY plain (id, note) FROM STDIN") as copy:
            for number in range(2000):
                copy.write_row((number, f"note {number}"))
        show("copied", cur.rowcount)
        with cur.copy("COPY (SELECT id, note, writer FROM plain ORDER BY id LIMIT 3) TO STDOUT") as copy:
            show("out", list(copy.rows()))

        def bad():
            with cur.copy("COPY plain (id, note) FROM STDIN") as copy:
                copy.write("bad\tx\n")

        show("copy error", error_of(bad))
        conn.rollback()

        def failing():
            with cur.copy("COPY plain (id, note) FROM STDIN") as copy:
                copy.write("1\tx\n")
                raise ValueError("stopped by the client")

        try:
            failing()
        except ValueError as error:
            show("stopped", error)
        conn.rollback()
        show("left", conn.execute("SELECT count(*) FROM plain").fetchone())
        conn.rollback()


def cancels(conn):
    over = threading.Event()

    def later():
        # A cancel that comes before the statement is lost.
        while not over.wait(0.5):
            conn.cancel_safe()

    thread = threading.Thread(target=later)
    thread.start()
    show("cancelled", error_of(lambda: conn.execute("SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100043) b")))
    over.set()
    thread.join()
    conn.rollback()
    show("after the cancel", conn.execute("SELECT count(*) FROM items").fetchone())
    conn.rollback()


def pipelines(conn):
    conn.commit()
    conn.autocommit = True
    with conn.pipeline():
        cursors = [conn.execute("SELECT %s::int, count(*) FROM items", (number,)) for number in range(20)]
        show("pipeline", [cur.fetchone() for cur in cursors])

    def failing():
        with conn.pipeline() as pipeline:
            conn.execute("INSERT INTO items (id, name) VALUES (80, 'lost')")
            conn.execute("SELECT nosuch")
            conn.execute("SELECT 1")
            pipeline.sync()

    # Whether the error is told by execute() or by sync() depends on when the answer comes; by execute(), sync() warns of it
    # once more.
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    show("pipeline error", error_of(failing))
    logging.getLogger("psycopg").setLevel(logging.NOTSET)
    with conn.pipeline():
        with conn.transaction():
            conn.execute("INSERT INTO items (id, name) VALUES (81, 'kept')")
            last = conn.execute("SELECT count(*) FROM items")
        show("pipelined transaction", last.fetchone())
    show("rows", conn.execute("SELECT id FROM items ORDER BY id").fetchall())
    conn.autocommit = False


def cursors(conn):
    with conn.cursor(name="server_side") as cur:
        cur.itersize = 2
        cur.execute("SELECT id FROM items ORDER BY id")
        show("server-side", [row[0] for row in cur])
    conn.commit()
    cur = conn.cursor()
    cur.executemany("INSERT INTO plain (id, note) VALUES (%s, %s)", [(5000 + number, "many") for number in range(20)])
    show("executemany", cur.rowcount)
    conn.commit()
    raw = psycopg.RawCursor(conn)
    show("raw", raw.execute("SELECT $1::text || $2::text", ["a", "b"]).fetchone())
    show("client-side", psycopg.ClientCursor(conn).execute("SELECT %s, %s", ("it's", None)).fetchone())
    composed = sql.SQL("SELECT {} FROM {} ORDER BY 1 LIMIT 1").format(sql.Identifier("id"), sql.Identifier("items"))
    show("composed", conn.execute(composed).fetchone())
    conn.commit()


def rest(conn):
    conn.add_notice_handler(lambda diag: show("notice", f"{diag.severity} {diag.message_primary} {diag.message_detail}"))
    show("shout", conn.execute("SELECT shout('psycopg')").fetchone())
    conn.commit()
    rows = conn.execute("SELECT g, repeat('x', 500) FROM generate_series(1, 5000) g").fetchall()
    show("large", (len(rows), sum(len(row[1]) for row in rows)))
    show("very large", len(conn.execute("SELECT repeat('y', 8000000)").fetchone()[0]))
    conn.commit()
    conn.execute("SET timezone = 'Asia/Tokyo'")
    conn.commit()
    show("timezone", (conn.info.parameter_status("TimeZone"), conn.execute("SHOW timezone").fetchone()))
    conn.rollback()
    show("encoding", (conn.info.encoding, conn.info.parameter_status("standard_conforming_strings")))


def types(conn):
    info = psycopg.types.enum.EnumInfo.fetch(conn, "mood")
    show("enum", (info.name, info.labels))
    place = psycopg.types.composite.CompositeInfo.fetch(conn, "place")
    psycopg.types.composite.register_composite(place, conn)
    show("composite", conn.execute("SELECT ROW('Main', 7)::place").fetchone())
    show("range", psycopg.types.TypeInfo.fetch(conn, "int4range").name)
    number = uuid.UUID("11111111-1111-1111-1111-111111111111")
    conn.execute(
        "INSERT INTO kinds (id, doc, docb, ints, texts, moment, day, price, raw, span, address, feeling, numbers, count, flag, big)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (number, Json({"a": 1}), Jsonb({"b": [1, None]}), [1, None, 3], ["x", 'y"z'],
         datetime.datetime(2026, 1, 2, 3, 4, 5, 6, datetime.timezone.utc), datetime.date(2026, 2, 3), decimal.Decimal("12.345"),
         b"\x00\xff", datetime.timedelta(days=1, seconds=2), ipaddress.ip_interface("10.0.0.1/8"), "happy",
         psycopg.types.range.Range(1, 5), 3, True, 2**40),
    )
    for binary in (False, True):
        show("kinds", conn.cursor(binary=binary).execute("SELECT * FROM kinds").fetchone())
    conn.rollback()


def pool():
    """Three tenants share what is behind; every row must be the tenant's own."""
    tenants = [f"00000000-0000-0000-0000-00000000000{letter}" for letter in "abc"]
    user = os.environ["PGUSER"].split(".")[0]
    pools = [
        ConnectionPool(kwargs={"user": user, "options": f"-c app.tenant_id={tenant}"}, min_size=1, max_size=4, open=True)
        for tenant in tenants
    ]
    wrong = []

    def work(number):
        tenant = tenants[number % 3]
        for _ in range(12):
            with pools[number % 3].connection() as conn:
                owners = {row[0] for row in conn.execute("SELECT tenant_id::text FROM items WHERE id > %s", (0,))}
                if owners != {tenant}:
                    wrong.append((tenant, owners))
                conn.execute("INSERT INTO plain (note) VALUES (%s)", (tenant,))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    show("wrong", wrong)
    with pools[0].connection() as conn:
        show("written as", conn.execute("SELECT count(*) FROM plain WHERE writer = note").fetchone())
    for one in pools:
        one.close()


def main():
    with psycopg.connect("") as conn:
        statements(conn)
        transactions(conn)
        for threshold in (5, 0, None):
            prepared(conn, threshold)
        many_statements(conn)
        copies(conn)
        cancels(conn)
        pipelines(conn)
        cursors(conn)
        types(conn)
        rest(conn)
    show("closed", conn.closed)
    pool()


def refusals():
    with psycopg.connect("", autocommit=True) as conn:
        show("tls", conn.pgconn.ssl_in_use)
        for text in ("LISTEN channel", "SET app.tenant_id = 'x'", "SELECT currval('tickets')", "SET TIME ZONE INTERVAL '1 day'"):
            show(text, error_of(lambda: conn.execute(text)))
        show("composed", error_of(lambda: conn.execute("SELECT set_config('app.tenant_id', %s, true)", ("x",))))
    with psycopg.connect("") as conn:
        show("two-phase", error_of(lambda: conn.execute("PREPARE TRANSACTION 'x'")))
        conn.rollback()
        show("hold", error_of(lambda: conn.cursor(name="held", withhold=True).execute("SELECT 1")))
        conn.rollback()
        show("alive", conn.execute("SELECT count(*) FROM items").fetchone())


refusals() if os.environ.get("REFUSALS") else main()
