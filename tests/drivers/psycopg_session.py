"""A session of psycopg 3. Prints what it sees; run directly and through TenantGate it must print the same."""

import threading
import time

import psycopg
from psycopg import sql


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
    def later():
        time.sleep(0.3)
        conn.cancel_safe()

    thread = threading.Thread(target=later)
    thread.start()
    show("cancelled", error_of(lambda: conn.execute("SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100000) b")))
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

    show("pipeline error", error_of(failing))
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
    rest(conn)
show("closed", conn.closed)
