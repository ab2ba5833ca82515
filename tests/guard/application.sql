Trusted code for all tenants: preset `application` with `session_state = "pin"`, its default.

-- allow select
SELECT * FROM invoices

-- allow explain
EXPLAIN ANALYZE SELECT * FROM invoices

-- deny TG011
EXPLAIN ANALYZE SELECT set_config('app.tenant_id', 'x', false)

-- deny TG010
EXPLAIN ANALYZE EXECUTE a

-- allow notify
NOTIFY jobs, 'one'

-- allow select
SELECT pg_notify('jobs', 'two')

-- allow listen
LISTEN jobs

-- deny TG010 proxy's
LISTEN tenantgate

-- allow listen
LISTEN tg_jobs

-- allow unlisten
UNLISTEN jobs

-- allow select
SELECT pg_listening_channels()

-- allow create_temporary
CREATE TEMP TABLE t (id int PRIMARY KEY, v text DEFAULT upper('x'))

-- allow create_temporary
CREATE TEMP TABLE t ON COMMIT DROP AS SELECT * FROM invoices

-- allow create_temporary
CREATE TABLE pg_temp.t (id int)

-- allow create_temporary
CREATE TEMP SEQUENCE s

-- allow create_temporary
CREATE TEMP VIEW v AS SELECT * FROM invoices

-- allow create_temporary
CREATE TEMP VIEW v WITH (security_invoker = true) AS SELECT * FROM invoices

-- deny TG011
CREATE TEMP TABLE t (id int, v text DEFAULT set_config('app.tenant_id', 'x', false))

-- deny TG011
CREATE TEMP TABLE t AS SELECT set_config('app.tenant_id', 'x', false)

-- deny TG017 pg_advisory_lock
CREATE TEMP TABLE t (id int, v text DEFAULT pg_advisory_lock(1))

-- deny TG017 pg_advisory_lock
CREATE TEMP VIEW v AS SELECT pg_advisory_lock(1)

-- deny TG018
CREATE TEMP TABLE t AS SELECT * FROM pg_stat_activity

-- deny TG065
CREATE TEMP TABLE t () INHERITS (invoices)

-- allow select
SELECT * FROM pg_temp.t

-- allow insert
INSERT INTO pg_temp.t VALUES (1)

-- deny TG018
SELECT * FROM pg_temp_3.t

-- deny TG015
SELECT pg_temp.f()

-- allow drop_temporary
DROP TABLE IF EXISTS pg_temp.t, pg_temp.u

-- deny TG019
DROP TABLE pg_temp.t, invoices

-- deny TG019
DROP TABLE pg_temp.t CASCADE

-- deny TG019
DROP TABLE t

-- deny TG019
DROP FUNCTION pg_temp.f()

-- allow declare_cursor
DECLARE c CURSOR WITH HOLD FOR SELECT * FROM invoices

-- deny TG010 proxy's
DECLARE tg_portal CURSOR WITH HOLD FOR SELECT 1

-- allow prepare
PREPARE a (int) AS SELECT * FROM invoices WHERE id = $1

-- deny TG011
PREPARE a (text) AS SELECT set_config('app.tenant_id', $1, false)

-- deny TG017
PREPARE a AS SELECT pg_advisory_lock(1)

-- deny TG010 proxy's
PREPARE tg_scope (text) AS SELECT 1

-- allow execute
EXECUTE a (1)

-- deny TG011
EXECUTE a (set_config('app.tenant_id', 'x', false))

-- deny TG010 proxy's
EXECUTE tg_set ('app.tenant_id', 'x')

-- deny TG010 proxy's
EXECUTE tg_scope ('x')

-- deny TG010 proxy's
EXECUTE tg1

-- allow select
SELECT pg_advisory_lock(1)

-- allow select
SELECT pg_try_advisory_lock_shared(1, 2)

-- allow select
SELECT pg_advisory_unlock(1)

-- deny TG017
SELECT lastval()

-- deny TG017
SELECT currval('s')

-- deny TG017
SELECT setseed(0.5)

-- deny TG017
SELECT pg_export_snapshot()

-- deny TG011
SET app.tenant_id = 'x'

-- deny TG019
CREATE TABLE t (id int)

-- deny TG016
DO $$ BEGIN END $$

-- deny TG018
SELECT * FROM pg_stat_activity

-- deny TG015
SELECT pg_sleep(1)

-- allow select
SELECT reltuples::bigint AS estimate FROM pg_class WHERE relname = 'invoices'

-- allow select
SELECT setval(pg_get_serial_sequence('invoices', 'id'), coalesce(max(id), 1), max(id) IS NOT NULL) FROM invoices

-- deny TG018
SELECT n_live_tup FROM pg_stat_user_tables

-- allow create_temporary
CREATE TEMP VIEW v AS SELECT * FROM orders

-- allow create_temporary
CREATE OR REPLACE VIEW pg_temp.v WITH (security_barrier) AS SELECT * FROM orders

-- deny TG011
CREATE TEMP VIEW v AS SELECT *, set_config('app.tenant_id', 'x', true) FROM orders
