"""A session of SQLAlchemy over psycopg and over asyncpg: ORM, pool, reflection.

Prints what it sees; run directly and through TenantGate it must print the same.
"""

import asyncio
import os
import threading

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

TENANT = os.environ["TENANT"]
TENANTS = [f"00000000-0000-0000-0000-00000000000{letter}" for letter in "abc"]


def show(title, value):
    print(f"{title}: {value}")


def url(driver, tenant=TENANT):
    user = os.environ["PGUSER"].split(".")[0]
    query = {"options": f"-c app.tenant_id={tenant}"} if driver == "psycopg" else {}
    return sa.URL.create(
        f"postgresql+{driver}", user, os.environ["PGPASSWORD"], os.environ["PGHOST"], int(os.environ["PGPORT"]),
        os.environ["PGDATABASE"], query,
    )


def error_of(action):
    try:
        action()
        return "no error"
    except sa.exc.DBAPIError as error:
        # asyncpg's errors come wrapped in their class's name.
        text = str(error.orig).split("\n")[0].split(">: ")[-1]
        return f"{type(error).__name__} {getattr(error.orig, 'sqlstate', None)} {text}"


class Base(orm.DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "items"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str]
    qty: orm.Mapped[int] = orm.mapped_column(default=0)
    orders: orm.Mapped[list["Order"]] = orm.relationship(back_populates="of")


class Order(Base):
    __tablename__ = "orders"
    id: orm.Mapped[int] = orm.mapped_column(sa.Identity(), primary_key=True)
    item: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("items.id"))
    note: orm.Mapped[str | None]
    of: orm.Mapped[Item] = orm.relationship(back_populates="orders")


def work(session, driver):
    """One unit of work of the ORM, and what goes wrong in one."""
    show("items", session.scalars(sa.select(Item.name).order_by(Item.id)).all())
    item = session.get(Item, 1)
    item.orders = [Order(note="first"), Order(note="second"), Order(note=None)]
    session.flush()
    show("identity", all(order.id for order in item.orders))
    session.commit()
    rows = session.execute(sa.select(Item.name, Order.note).join(Order.of).order_by(Order.id)).all()
    show("joined", rows)
    try:
        with session.begin_nested():
            session.add(Item(id=2, name="again"))
            session.flush()
    except sa.exc.IntegrityError as error:
        show("savepoint", type(error.orig).__name__ if driver == "psycopg" else "IntegrityError")
    show("still", session.scalar(sa.select(sa.func.count()).select_from(Item)))
    session.execute(sa.update(Item).where(Item.qty > 10).values(qty=Item.qty + 1))
    session.rollback()
    show("rolled back", session.scalars(sa.select(Item.qty).order_by(Item.id)).all())
    session.bulk_insert_mappings(Item, [{"id": 100 + number, "name": f"bulk {number}"} for number in range(300)])
    session.commit()
    show("bulk", session.scalar(sa.select(sa.func.count()).select_from(Item)))
    session.execute(sa.delete(Item).where(Item.id >= 100))
    session.execute(sa.delete(Order))
    session.commit()
    streamed = session.execute(sa.select(Item.id).order_by(Item.id).execution_options(yield_per=2))
    show("streamed", streamed.scalars().all())
    session.rollback()


def reflect(connection):
    """Everything the inspector asks of the catalogue."""
    inspector = sa.inspect(connection)
    show("dialect", connection.dialect.server_version_info[0])
    show("schemas", [name for name in inspector.get_schema_names() if name != "other"])
    show("tables", sorted(inspector.get_table_names()))
    show("views", inspector.get_view_names())
    show("materialized", inspector.get_materialized_view_names())
    show("temporary", inspector.get_temp_table_names())
    show("sequences", sorted(inspector.get_sequence_names()))
    show("definition", inspector.get_view_definition("own_items"))
    show("enums", inspector.get_enums())
    show("domains", inspector.get_domains())
    for table in sorted(inspector.get_table_names()):
        show(f"columns of {table}", [(it["name"], str(it["type"]), it["nullable"], it["default"]) for it in inspector.get_columns(table)])
        show(f"key of {table}", inspector.get_pk_constraint(table))
        show(f"foreign keys of {table}", inspector.get_foreign_keys(table))
        show(f"indexes of {table}", inspector.get_indexes(table))
        show(f"unique of {table}", inspector.get_unique_constraints(table))
        show(f"checks of {table}", inspector.get_check_constraints(table))
        show(f"comment of {table}", inspector.get_table_comment(table))
    show("has", (inspector.has_table("items"), inspector.has_table("nosuch"), inspector.has_sequence("tickets")))
    metadata = sa.MetaData()
    metadata.reflect(connection, views=True)
    show("reflected", sorted(metadata.tables))


def isolation(engine):
    with engine.connect().execution_options(isolation_level="SERIALIZABLE") as connection:
        show("isolation", connection.scalar(sa.text("SHOW transaction_isolation")))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        show("autocommit", connection.scalar(sa.text("SELECT count(*) FROM items")))
    with engine.connect() as connection:
        show("default", connection.scalar(sa.text("SHOW transaction_isolation")))
        show("error", error_of(lambda: connection.execute(sa.text("SELECT nosuch"))))


def pools():
    """Three tenants at once, four threads each; every row must be the tenant's own."""
    engines = {tenant: sa.create_engine(url("psycopg", tenant), pool_size=4, pool_pre_ping=True) for tenant in TENANTS}
    wrong = []

    def run(tenant):
        for _ in range(25):
            with orm.Session(engines[tenant]) as session:
                owners = set(session.scalars(sa.text("SELECT tenant_id::text FROM items")))
                if owners != {tenant}:
                    wrong.append((tenant, owners))
                session.execute(sa.text("INSERT INTO plain (note) VALUES (:tenant)"), {"tenant": tenant})
                session.commit()

    threads = [threading.Thread(target=run, args=(tenant,)) for tenant in TENANTS for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    show("wrong", wrong)
    with engines[TENANT].connect() as connection:
        show("written as", connection.scalar(sa.text("SELECT count(*) FROM plain WHERE writer = note")))
    for engine in engines.values():
        engine.dispose()


async def asynchronous():
    engine = create_async_engine(url("asyncpg"), connect_args={"server_settings": {"app.tenant_id": TENANT}})
    async with async_sessionmaker(engine)() as session:
        await session.run_sync(work, "asyncpg")
    async with engine.connect() as connection:
        await connection.run_sync(reflect)
    async with engine.connect() as connection:
        connection = await connection.execution_options(isolation_level="REPEATABLE READ")
        show("isolation", await connection.scalar(sa.text("SHOW transaction_isolation")))

    async def one(number):
        async with engine.connect() as connection:
            return await connection.scalar(sa.text("SELECT CAST(:number AS int) + 1"), {"number": number})

    show("gathered", sum(await asyncio.gather(*(one(number) for number in range(60)))))
    await engine.dispose()


def main():
    engine = sa.create_engine(url("psycopg"))
    with orm.Session(engine) as session:
        work(session, "psycopg")
    with engine.connect() as connection:
        reflect(connection)
    isolation(engine)
    engine.dispose()
    asyncio.run(asynchronous())
    pools()


def refusals():
    engine = sa.create_engine(url("psycopg"))
    for statement in ("LISTEN channel", "CREATE TABLE mine (id int)", "SELECT currval('tickets')", "LOCK TABLE items"):
        with engine.connect() as connection:
            show(statement, error_of(lambda: connection.execute(sa.text(statement))))
    with engine.connect() as connection:
        show("create_all", error_of(lambda: sa.Table("made", sa.MetaData(), sa.Column("id", sa.Integer)).create(connection)))
    with engine.connect() as connection:
        show("alive", connection.scalar(sa.text("SELECT count(*) FROM items")))


refusals() if os.environ.get("REFUSALS") else main()
