A tenant whose login has `session_state = "pin"`: what has no name space in common with other tenants.

-- allow create_temporary
CREATE TEMP TABLE t (id int)

-- allow select
SELECT * FROM pg_temp.t

-- allow declare_cursor
DECLARE c CURSOR WITH HOLD FOR SELECT 1

-- allow prepare
PREPARE a AS SELECT 1

-- allow execute
EXECUTE a

-- deny TG010 proxy's
EXECUTE tg_scope ('x')

-- deny TG017
LISTEN jobs

-- deny TG010
NOTIFY jobs

-- deny TG015
SELECT pg_notify('jobs', '')

-- deny TG017
SELECT pg_advisory_lock(1)

-- deny TG017
SELECT pg_listening_channels()

-- deny TG017
SELECT lastval()

-- deny TG025
EXPLAIN SELECT 1

-- deny TG019
CREATE TABLE t (id int)

-- allow create_temporary
CREATE TEMP VIEW v AS SELECT * FROM orders

-- allow create_temporary
CREATE OR REPLACE VIEW pg_temp.v WITH (security_barrier) AS SELECT * FROM orders

-- deny TG011
CREATE TEMP VIEW v AS SELECT *, set_config('app.tenant_id', 'x', true) FROM orders
