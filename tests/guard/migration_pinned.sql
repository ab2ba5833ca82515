A migration whose login has `session_state = "pin"`: what is defined runs later, on servers that do not stay.

-- allow select
SELECT pg_advisory_lock(1)

-- allow declare_cursor
DECLARE c CURSOR FOR SELECT pg_try_advisory_lock(id) FROM invoices

-- deny TG017 pg_advisory_lock
CREATE VIEW v AS SELECT pg_advisory_lock(1)

-- deny TG017 pg_try_advisory_lock
CREATE OR REPLACE VIEW v AS SELECT * FROM invoices WHERE pg_try_advisory_lock(id)

-- deny TG017 pg_advisory_lock
CREATE MATERIALIZED VIEW v AS SELECT pg_advisory_lock(1)

-- deny TG017 pg_advisory_lock
CREATE TABLE t AS SELECT pg_advisory_lock(1)

-- deny TG017 pg_advisory_lock_shared
CREATE TABLE t (id int DEFAULT pg_advisory_lock_shared(1)::text::int)

-- deny TG017 pg_try_advisory_lock
CREATE TABLE t (id int CHECK (pg_try_advisory_lock(id)))

-- deny TG017 pg_try_advisory_lock
ALTER TABLE t ADD CONSTRAINT c CHECK (pg_try_advisory_lock(id))

-- deny TG017 pg_try_advisory_lock
ALTER TABLE t ALTER COLUMN id SET DEFAULT pg_try_advisory_lock(1)::int

-- deny TG017 pg_try_advisory_lock
CREATE DOMAIN d AS int CHECK (pg_try_advisory_lock(value))

-- deny TG017 pg_advisory_lock
CREATE FUNCTION f() RETURNS void LANGUAGE sql BEGIN ATOMIC SELECT pg_advisory_lock(1); END

-- deny TG017 pg_try_advisory_lock
CREATE INDEX i ON t (id) WHERE pg_try_advisory_lock(1)

-- deny TG017 pg_try_advisory_lock
CREATE TEMP VIEW v AS SELECT pg_try_advisory_lock(1)

-- deny TG017 pg_try_advisory_lock
PREPARE p AS SELECT pg_try_advisory_lock(1)

-- allow create_temporary
CREATE TEMP VIEW v AS SELECT * FROM orders

-- allow create_temporary
CREATE VIEW pg_temp.v AS SELECT * FROM orders JOIN lines USING (id)

-- deny TG065 security_invoker
CREATE VIEW v AS SELECT * FROM orders

-- deny TG011
CREATE TEMP VIEW v AS SELECT set_config('app.tenant_id', id::text, true) FROM orders
