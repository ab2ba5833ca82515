-- What a migration login may: data definition under its tenant, nothing that changes who may see what.

-- allow setting
SET tenantgate.reason = 'ticket 1'

-- allow setting
SET LOCAL tenantgate.reason TO ticket

-- allow setting
RESET tenantgate.reason

-- allow show
SHOW tenantgate.reason

-- allow setting
SET statement_timeout = '1s'

-- allow setting
SET check_function_bodies = false

-- allow setting
SET maintenance_work_mem = '1GB'

-- allow setting
SET enable_seqscan = off

-- allow transaction transaction
BEGIN; COMMIT

-- allow transaction
ROLLBACK TO a

-- allow select
SELECT * FROM orders

-- allow insert
INSERT INTO orders VALUES (1)

-- allow update
UPDATE orders SET a = 1

-- allow delete
DELETE FROM orders

-- allow copy_in
COPY orders FROM STDIN

-- allow copy_out
COPY orders TO STDOUT

-- allow explain
EXPLAIN ANALYZE SELECT * FROM orders

-- allow truncate
TRUNCATE orders

-- allow lock
LOCK TABLE orders

-- allow definition
CREATE TABLE x (a int DEFAULT 1, CHECK (a > 0))

-- allow definition
ALTER TABLE x ADD COLUMN b int

-- allow definition
DROP TABLE x, y CASCADE

-- allow definition
CREATE INDEX CONCURRENTLY ON x (a)

-- allow definition
DROP INDEX CONCURRENTLY i

-- allow create_table_as
CREATE TABLE y AS SELECT * FROM x

-- allow definition
CREATE VIEW v AS SELECT 1

-- deny TG065 string
CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'

-- deny TG065 string
CREATE FUNCTION f() RETURNS int LANGUAGE sql SECURITY INVOKER AS 'SELECT 1'

-- allow definition
CREATE SCHEMA s

-- allow definition
CREATE SCHEMA s CREATE TABLE t (a int)

-- allow definition
ALTER TABLE x RENAME TO z

-- allow definition
COMMENT ON TABLE x IS 'y'

-- allow definition
CREATE TRIGGER t BEFORE INSERT ON x FOR EACH ROW EXECUTE FUNCTION f()

-- allow maintenance
VACUUM ANALYZE x

-- allow maintenance
REINDEX TABLE CONCURRENTLY x

-- allow maintenance
ANALYZE

-- allow refresh
REFRESH MATERIALIZED VIEW m

-- deny TG019
ALTER TABLE pg_class ADD COLUMN x int

-- deny TG065
CREATE POLICY p ON x USING (true)

-- deny TG065
ALTER POLICY p ON x USING (true)

-- deny TG065
DROP POLICY p ON x

-- deny TG065
ALTER POLICY p ON x RENAME TO q

-- deny TG065
ALTER TABLE x ENABLE ROW LEVEL SECURITY

-- deny TG065
ALTER TABLE x ADD COLUMN c int, NO FORCE ROW LEVEL SECURITY

-- deny TG065
ALTER TABLE x DISABLE ROW LEVEL SECURITY

-- deny TG065
ALTER TABLE x FORCE ROW LEVEL SECURITY

-- deny TG065
ALTER TABLE x OWNER TO y

-- deny TG065
ALTER FUNCTION f() OWNER TO y

-- deny TG065
ALTER SCHEMA s OWNER TO y

-- deny TG065
GRANT SELECT ON x TO y

-- deny TG065
REVOKE ALL ON x FROM PUBLIC

-- deny TG065
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO y

-- deny TG065
GRANT a TO b

-- deny TG065
CREATE ROLE r

-- deny TG065
ALTER ROLE r BYPASSRLS

-- deny TG065
ALTER ROLE r SET app.tenant_id = 'x'

-- deny TG065
DROP OWNED BY r

-- deny TG065
REASSIGN OWNED BY r TO s

-- deny TG065
ALTER ROLE r RENAME TO s

-- deny TG065
CREATE FUNCTION f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'

-- deny TG065
ALTER FUNCTION f() SECURITY DEFINER

-- deny TG065
CREATE SCHEMA s AUTHORIZATION r

-- deny TG065
CREATE SCHEMA s CREATE TABLE t (a int) GRANT SELECT ON t TO r

-- deny TG064 CHAIN
COMMIT AND CHAIN

-- deny TG064 CHAIN
ROLLBACK AND CHAIN

-- deny TG064
PREPARE TRANSACTION 'x'

-- deny TG064
COMMIT PREPARED 'x'

-- deny TG064 DO
DO $$ BEGIN COMMIT; END $$

-- deny TG064 CALL
CALL p()

-- deny TG064
SELECT 1; COMMIT AND CHAIN

-- deny TG012
SET ROLE postgres

-- deny TG012
SET SESSION AUTHORIZATION postgres

-- deny TG012
RESET ROLE

-- deny TG012
SET row_security = off

-- deny TG011
SET app.tenant_id = 'x'

-- deny TG011
RESET app.tenant_id

-- deny TG011
SELECT set_config('app.tenant_id', 'x', true)

-- allow setting
SELECT set_config('tenantgate.reason', 'x', true)

-- deny TG061
SELECT set_config('tenantgate.reason', ' ', true)

-- deny TG011
SELECT set_config('tenantgate.reason', a, true) FROM t

-- deny TG011
UPDATE pg_settings SET setting = 'x'

-- deny TG013
SET session_replication_role = replica

-- deny TG017
CREATE TEMP TABLE x ()

-- deny TG017
LISTEN x

-- deny TG017
PREPARE s AS SELECT 1

-- deny TG017
EXECUTE s

-- deny TG017
SELECT pg_advisory_lock(1)

-- deny TG017
DECLARE c CURSOR WITH HOLD FOR SELECT 1

-- deny TG010
NOTIFY x

-- deny TG010
LOAD 'x'

-- deny TG020
COPY t TO '/tmp/x'

-- deny TG020
COPY t FROM PROGRAM 'x'

-- deny TG016
SELECT query_to_xml('select 1', true, true, '')

-- deny TG015
SELECT pg_read_file('x')

-- deny TG015
SELECT lo_import('x')

-- deny TG015
SELECT pg_terminate_backend(1)

-- deny TG018
SELECT * FROM pg_authid

-- deny TG019
ALTER SYSTEM SET work_mem = '1GB'

-- deny TG019
CREATE DATABASE x

-- deny TG019
CREATE EXTENSION x

-- deny TG019
CREATE SUBSCRIPTION s CONNECTION 'x' PUBLICATION p

-- deny TG019
CREATE TABLESPACE x LOCATION '/x'

-- deny TG061
SET tenantgate.reason = ''

-- deny TG061
SET LOCAL tenantgate.reason = '  '

-- deny TG061
SET tenantgate.reason = E'a\nb'

-- deny TG018
SELECT * FROM pg_stat_activity

-- deny TG015
SELECT pg_sleep(1)

-- What definitions embed is judged as in any other statement.

-- deny TG011
CREATE VIEW v AS SELECT set_config('app.tenant_id', 'x', true)

-- deny TG011
CREATE OR REPLACE VIEW v WITH (security_invoker) AS SELECT * FROM orders, LATERAL (SELECT set_config('a.b', 'x', true)) s

-- deny TG011
CREATE RECURSIVE VIEW v (a) WITH (security_invoker) AS SELECT 1 UNION ALL SELECT length(set_config('a.b', 'x', true)) FROM v

-- deny TG018
CREATE VIEW v WITH (security_invoker = true) AS SELECT * FROM pg_authid

-- deny TG011
CREATE MATERIALIZED VIEW m AS SELECT set_config('app.tenant_id', 'x', true)

-- deny TG011
CREATE TABLE y AS SELECT set_config('app.tenant_id', 'x', true)

-- deny TG011
CREATE TABLE x (a text DEFAULT set_config('app.tenant_id', 'x', true))

-- deny TG011
CREATE TABLE x (a text, b text GENERATED ALWAYS AS (set_config('app.tenant_id', a, true)) STORED)

-- deny TG011
CREATE TABLE x (a text CHECK (set_config('app.tenant_id', a, true) = a))

-- deny TG011
CREATE TABLE x (a text, CHECK (set_config('app.tenant_id', a, true) = a))

-- deny TG011
CREATE TABLE x (a text, EXCLUDE USING gist (set_config('app.tenant_id', a, true) WITH =))

-- deny TG011
CREATE TABLE x (a text, EXCLUDE USING gist (a WITH =) WHERE (set_config('app.tenant_id', a, true) = a))

-- deny TG011
CREATE TABLE x (a text) PARTITION BY LIST (set_config('app.tenant_id', a, true))

-- deny TG011
CREATE TABLE x PARTITION OF y FOR VALUES IN (set_config('app.tenant_id', 'x', true))

-- deny TG011
CREATE TABLE x PARTITION OF y FOR VALUES FROM (set_config('app.tenant_id', 'x', true)) TO ('b')

-- deny TG011
ALTER TABLE x ADD COLUMN b text DEFAULT set_config('app.tenant_id', 'x', true)

-- deny TG011
ALTER TABLE x ALTER COLUMN a SET DEFAULT set_config('app.tenant_id', 'x', true)

-- deny TG011
ALTER TABLE x ALTER COLUMN a TYPE text USING set_config('app.tenant_id', a, true)

-- deny TG011
ALTER TABLE x ALTER COLUMN a SET EXPRESSION AS (set_config('app.tenant_id', b, true))

-- deny TG011
ALTER TABLE x ADD CONSTRAINT c CHECK (set_config('app.tenant_id', a, true) = a) NOT VALID

-- deny TG011
ALTER TABLE y ATTACH PARTITION x FOR VALUES IN (set_config('app.tenant_id', 'x', true))

-- deny TG011
ALTER VIEW v ALTER COLUMN a SET DEFAULT set_config('app.tenant_id', 'x', true)

-- deny TG011
CREATE INDEX ON x (set_config('app.tenant_id', a, true))

-- deny TG011
CREATE INDEX ON x (a) WHERE set_config('app.tenant_id', a, true) = a

-- deny TG011
CREATE STATISTICS s ON set_config('app.tenant_id', a, true), b FROM x

-- deny TG011
CREATE RULE r AS ON INSERT TO x DO ALSO SELECT set_config('app.tenant_id', 'x', true)

-- deny TG011
CREATE RULE r AS ON INSERT TO x DO ALSO (INSERT INTO y VALUES (1); UPDATE y SET a = set_config('app.tenant_id', 'x', true))

-- deny TG011
CREATE RULE r AS ON UPDATE TO x WHERE set_config('app.tenant_id', 'x', true) = '' DO INSTEAD NOTHING

-- deny TG011
CREATE TRIGGER t BEFORE INSERT ON x FOR EACH ROW WHEN (set_config('app.tenant_id', 'x', true) = '') EXECUTE FUNCTION f()

-- deny TG011
CREATE TRIGGER t BEFORE INSERT ON x EXECUTE FUNCTION set_config('app.tenant_id', 'x', 'true')

-- deny TG011
CREATE POLICY p ON x USING (set_config('app.tenant_id', 'x', true) = '')

-- deny TG011
CREATE POLICY p ON x FOR INSERT WITH CHECK (set_config('app.tenant_id', 'x', true) = '')

-- deny TG011
ALTER POLICY p ON x USING (set_config('app.tenant_id', 'x', true) = '')

-- deny TG011
ALTER POLICY p ON x WITH CHECK (set_config('app.tenant_id', 'x', true) = '')

-- deny TG011
CREATE DOMAIN d AS text DEFAULT set_config('app.tenant_id', 'x', true)

-- deny TG011
CREATE DOMAIN d AS text CHECK (set_config('app.tenant_id', VALUE, true) = '')

-- deny TG011
ALTER DOMAIN d SET DEFAULT set_config('app.tenant_id', 'x', true)

-- deny TG011
ALTER DOMAIN d ADD CHECK (set_config('app.tenant_id', VALUE, true) = '')

-- deny TG011
CREATE FUNCTION f() RETURNS text RETURN set_config('app.tenant_id', 'x', true)

-- deny TG011
CREATE FUNCTION f() RETURNS text BEGIN ATOMIC SELECT 1; SELECT set_config('app.tenant_id', 'x', true); END

-- deny TG011
CREATE FUNCTION f(a text DEFAULT set_config('app.tenant_id', 'x', true)) RETURNS text RETURN a

-- deny TG011
CREATE PROCEDURE f() BEGIN ATOMIC UPDATE x SET a = set_config('app.tenant_id', 'x', true); END

-- deny TG011
CREATE SCHEMA s CREATE VIEW v AS SELECT set_config('app.tenant_id', 'x', true)

-- deny TG011
CREATE SCHEMA s CREATE TABLE t (a text DEFAULT set_config('app.tenant_id', 'x', true))

-- deny TG011
CREATE AGGREGATE g (text, boolean) (SFUNC = set_config, STYPE = text, INITCOND = 'app.tenant_id')

-- deny TG011
CREATE AGGREGATE g (text, boolean) (SFUNC = pg_catalog.set_config, STYPE = text, INITCOND = 'app.tenant_id')

-- deny TG011
CREATE CAST (a AS text) WITH FUNCTION set_config(text, text, boolean)

-- deny TG011
CREATE OPERATOR ### (FUNCTION = set_config, LEFTARG = text)

-- deny TG011
CREATE OPERATOR CLASS c FOR TYPE text USING btree AS FUNCTION 1 set_config(text, text, boolean)

-- Functions: what cannot be read, and settings of their own.

-- allow definition
CREATE FUNCTION f(a int DEFAULT 1) RETURNS int LANGUAGE sql STABLE PARALLEL SAFE COST 10 RETURN a + 1

-- allow definition
CREATE PROCEDURE p() BEGIN ATOMIC INSERT INTO orders VALUES (1); DELETE FROM x; END

-- deny TG065 string
CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$

-- deny TG065 string
CREATE PROCEDURE p() LANGUAGE plpgsql AS 'BEGIN END'

-- deny TG065 string
CREATE FUNCTION f() RETURNS int LANGUAGE c AS 'x', 'y'

-- deny TG065 REPLACE
CREATE OR REPLACE FUNCTION current_tenant() RETURNS uuid RETURN NULL::uuid

-- deny TG011
CREATE FUNCTION f() RETURNS int SET app.tenant_id = 'x' RETURN 1

-- deny TG011
CREATE FUNCTION f() RETURNS int SET App.Tenant_ID FROM CURRENT RETURN 1

-- deny TG011
ALTER FUNCTION f() SET app.tenant_id TO 'x'

-- deny TG011
ALTER FUNCTION f() SET app.tenant_id TO DEFAULT

-- deny TG011
ALTER PROCEDURE f() RESET app.tenant_id

-- deny TG012
ALTER ROUTINE f() SET role = 'postgres'

-- deny TG012
ALTER FUNCTION f() SET ROLE postgres

-- deny TG012
ALTER FUNCTION f() SET row_security = off

-- deny TG012
CREATE FUNCTION f() RETURNS int SET row_security TO off RETURN 1

-- deny TG012
ALTER FUNCTION f() SET SESSION AUTHORIZATION postgres

-- deny TG013
ALTER FUNCTION f() SET session_replication_role = replica

-- deny TG013
ALTER FUNCTION f() SET tenantgate.reason = 'x'

-- deny TG065
ALTER FUNCTION f() SET search_path = evil, pg_catalog

-- deny TG065
ALTER FUNCTION f() RESET ALL

-- deny TG065
CREATE FUNCTION f() RETURNS int SET search_path = '' RETURN 1

-- allow definition
ALTER FUNCTION f() STABLE COST 5

-- deny TG065 LEAKPROOF
ALTER FUNCTION f() LEAKPROOF

-- deny TG065
ALTER FUNCTION f() SUPPORT g

-- deny TG065
CREATE AGGREGATE g (int) (SFUNC = int4pl, STYPE = int)

-- deny TG065
CREATE OPERATOR ### (FUNCTION = f, LEFTARG = int)

-- deny TG065
CREATE CAST (a AS b) WITH FUNCTION f(a)

-- deny TG065
CREATE TYPE r AS RANGE (SUBTYPE = text, SUBTYPE_DIFF = f)

-- allow definition
CREATE TYPE r AS RANGE (SUBTYPE = text)

-- Views read with their owner's rights, unless told not to.

-- allow definition
CREATE VIEW v WITH (security_invoker) AS SELECT * FROM orders

-- allow definition
CREATE VIEW v WITH (security_invoker = TRUE) AS SELECT * FROM orders

-- allow definition
CREATE OR REPLACE VIEW v WITH (security_barrier, security_invoker = on) AS SELECT * FROM orders

-- deny TG065 security_invoker
CREATE VIEW v AS SELECT * FROM orders

-- deny TG065
CREATE VIEW v WITH (security_invoker = false) AS SELECT * FROM orders

-- deny TG065
CREATE VIEW v WITH (security_invoker = off) AS SELECT (SELECT count(*) FROM orders)

-- deny TG065
CREATE VIEW v WITH (security_barrier) AS SELECT * FROM orders

-- deny TG065
CREATE SCHEMA s CREATE VIEW v AS SELECT * FROM orders

-- deny TG065
ALTER VIEW v SET (security_invoker = false)

-- deny TG065
ALTER VIEW v RESET (security_invoker)

-- deny TG065
ALTER TABLE v SET (security_barrier = false)

-- allow definition
ALTER TABLE x SET (fillfactor = 70, toast.autovacuum_enabled = off)

-- allow definition
ALTER TABLE x RESET (fillfactor)

-- Whose policies rows are read under.

-- deny TG065
ALTER TABLE orders INHERIT x

-- deny TG065
ALTER TABLE orders NO INHERIT x

-- deny TG065
ALTER TABLE x ATTACH PARTITION orders DEFAULT

-- deny TG065
ALTER TABLE x DETACH PARTITION orders CONCURRENTLY

-- deny TG065
ALTER TABLE x DETACH PARTITION orders FINALIZE

-- deny TG065
CREATE TABLE x () INHERITS (orders)

-- deny TG065
CREATE TABLE x PARTITION OF orders FOR VALUES IN (1, 2)

-- deny TG065
CREATE TABLE x PARTITION OF orders FOR VALUES FROM (MINVALUE) TO (10)

-- deny TG065
CREATE FOREIGN TABLE x (a int) SERVER s OPTIONS (table_name 'y')

-- deny TG065
ALTER FOREIGN TABLE x OPTIONS (SET table_name 'z')

-- deny TG065
CREATE RULE r AS ON INSERT TO x DO ALSO INSERT INTO y VALUES (1)

-- deny TG065
CREATE RULE r AS ON DELETE TO x DO INSTEAD NOTHING

-- deny TG065
DROP RULE r ON x

-- deny TG065
DROP TRIGGER t ON x

-- deny TG065
ALTER TABLE x DISABLE TRIGGER t

-- deny TG065
ALTER TABLE x DISABLE TRIGGER ALL

-- deny TG065
ALTER TABLE x ENABLE REPLICA TRIGGER t

-- deny TG065
ALTER TABLE x ENABLE ALWAYS TRIGGER t

-- deny TG065
ALTER TABLE x ENABLE TRIGGER USER

-- deny TG065
ALTER TABLE x DISABLE RULE r

-- deny TG065
ALTER TABLE x ENABLE REPLICA RULE r

-- What migrations are made of goes on.

-- allow definition
CREATE TABLE IF NOT EXISTS s.x (a bigint GENERATED BY DEFAULT AS IDENTITY (START 5 INCREMENT BY 2) PRIMARY KEY, b uuid DEFAULT gen_random_uuid() NOT NULL, c timestamptz DEFAULT now(), d text COLLATE "C" UNIQUE, e bigint REFERENCES orders (id) ON DELETE CASCADE, f numeric(10, 2) CHECK (f > 0), LIKE y INCLUDING ALL, CONSTRAINT g FOREIGN KEY (d, e) REFERENCES z (d, e) MATCH FULL, UNIQUE NULLS NOT DISTINCT (b) INCLUDE (c), EXCLUDE USING gist (d WITH =, tstzrange(c, c) WITH &&) WHERE (e > 1)) PARTITION BY RANGE (a, lower(d)) WITH (fillfactor = 70) TABLESPACE t

-- allow definition
ALTER TABLE x ADD COLUMN b int NOT NULL DEFAULT 1 CHECK (b > 0), DROP COLUMN c CASCADE, ALTER COLUMN d TYPE text USING d::text, ALTER e SET NOT NULL, ALTER f DROP DEFAULT, ALTER g SET DEFAULT now(), ADD CONSTRAINT h UNIQUE (a), VALIDATE CONSTRAINT i, DROP CONSTRAINT j, ALTER k SET STATISTICS 100, ALTER l SET STORAGE EXTERNAL, ALTER m SET (n_distinct = 5), SET TABLESPACE n, CLUSTER ON o, SET LOGGED, REPLICA IDENTITY USING INDEX p, ALTER CONSTRAINT q DEFERRABLE, ADD PRIMARY KEY USING INDEX r, ALTER s ADD GENERATED ALWAYS AS IDENTITY (START 2), ALTER t SET GENERATED BY DEFAULT SET START 5, ALTER u DROP IDENTITY

-- allow definition
ALTER TABLE x OF t

-- allow definition
CREATE UNIQUE INDEX i ON ONLY x USING btree (lower(a) text_pattern_ops DESC NULLS LAST, (b + 1)) INCLUDE (c) WITH (fillfactor = 70) WHERE d IS NULL

-- allow definition
CREATE STATISTICS s (dependencies) ON a, (b + 1) FROM x

-- allow definition
CREATE CONSTRAINT TRIGGER t AFTER UPDATE OF a, b ON x FROM y DEFERRABLE FOR EACH ROW WHEN (old.a IS DISTINCT FROM new.a) EXECUTE FUNCTION s.f('x', 1)

-- allow definition
CREATE TRIGGER t BEFORE UPDATE ON x FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()

-- allow definition
CREATE SEQUENCE s AS bigint START 5 OWNED BY x.a

-- allow definition
ALTER SEQUENCE s OWNED BY NONE RESTART

-- allow definition
CREATE DOMAIN d AS text COLLATE "C" DEFAULT 'x' NOT NULL CHECK (VALUE <> '')

-- allow definition
ALTER DOMAIN d ADD CONSTRAINT c CHECK (length(VALUE) > 1)

-- allow definition
CREATE TYPE e AS ENUM ('a', 'b')

-- allow definition
ALTER TYPE e ADD VALUE 'c' AFTER 'b'

-- allow definition
CREATE TYPE c AS (a int, b text COLLATE "C")

-- allow definition
ALTER TYPE c ADD ATTRIBUTE d int CASCADE

-- allow definition
CREATE COLLATION c (provider = icu, locale = 'de')

-- allow definition
CREATE TEXT SEARCH CONFIGURATION c (COPY = german)

-- allow definition
ALTER INDEX i SET (fillfactor = 50)

-- allow definition
ALTER MATERIALIZED VIEW m SET SCHEMA s

-- allow create_table_as
CREATE MATERIALIZED VIEW m WITH (fillfactor = 70) AS SELECT a, count(*) FROM orders GROUP BY a WITH NO DATA

-- allow create_table_as
CREATE TABLE y (a) WITH (fillfactor = 70) AS VALUES (1), (2)

-- allow definition
CREATE INDEX i ON invoices USING gist (note gist_trgm_ops(siglen = 32))

-- allow definition
CREATE INDEX i ON invoices USING brin (at timestamptz_minmax_multi_ops(values_per_range = 16))

-- deny TG011
CREATE INDEX i ON invoices USING gist (set_config('app.tenant_id', 'x', true) gist_trgm_ops(siglen = 32))

-- allow select
SELECT setval('invoices_id_seq', 1000)

-- allow select
SELECT sequencename, start_value, increment_by FROM pg_sequences WHERE schemaname = ANY (ARRAY['public'])
