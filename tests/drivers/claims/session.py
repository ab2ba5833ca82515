"""psycopg (3) with claims: the default is to prepare by protocol, in a transaction per block. Prints what it saw."""
import os
import uuid

import psycopg

A, B = (uuid.UUID(int=number) for number in (1, 2))
SETTING = "app.current_tenant_id"
with psycopg.connect("", prepare_threshold=1) as connection:
    for tenant in (A, B, A, B, A, B):
        with connection.transaction():
            connection.execute(f"SELECT set_config('{SETTING}', %s, true)", (str(tenant),))
            rows = connection.execute('SELECT DISTINCT "tenantId" FROM things').fetchall()
            print(rows == [(str(tenant),)])
        with connection.transaction():
            connection.execute(f"SELECT set_config('{SETTING}', %s::text, true)", (tenant,))
            rows = connection.execute('SELECT DISTINCT "tenantId" FROM things').fetchall()
            print(rows == [(str(tenant),)])
        with connection.transaction():
            connection.execute(psycopg.sql.SQL("SET LOCAL app.current_tenant_id = {}").format(str(tenant)))
            with connection.transaction():
                rows = connection.execute('SELECT DISTINCT "tenantId" FROM things').fetchall()
            print(rows == [(str(tenant),)])
    try:
        with connection.transaction():
            connection.execute("SELECT 1")
    except psycopg.errors.InsufficientPrivilege as error:
        print("TG130" in str(error))
with psycopg.connect("") as connection, connection.cursor(binary=True) as cursor, connection.pipeline():
    cursor.execute("SELECT set_config('app.current_tenant_id', %b, true)", (str(A),))
    cursor.execute('SELECT DISTINCT "tenantId" FROM things')
    print(cursor.fetchall() == [(str(A),)])
