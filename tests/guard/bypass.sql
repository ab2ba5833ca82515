-- What a bypass login may: everything that its record can tell.

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

-- allow definition
CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'

-- allow definition
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

-- allow policies
CREATE POLICY p ON x USING (true)

-- allow policies
ALTER POLICY p ON x USING (true)

-- allow definition
DROP POLICY p ON x

-- allow definition
ALTER POLICY p ON x RENAME TO q

-- allow definition
ALTER TABLE x ENABLE ROW LEVEL SECURITY

-- allow definition
ALTER TABLE x ADD COLUMN c int, NO FORCE ROW LEVEL SECURITY

-- allow definition
ALTER TABLE x DISABLE ROW LEVEL SECURITY

-- allow definition
ALTER TABLE x FORCE ROW LEVEL SECURITY

-- allow definition
ALTER TABLE x OWNER TO y

-- allow privileges
ALTER FUNCTION f() OWNER TO y

-- allow privileges
ALTER SCHEMA s OWNER TO y

-- allow privileges
GRANT SELECT ON x TO y

-- allow privileges
REVOKE ALL ON x FROM PUBLIC

-- allow privileges
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO y

-- allow roles
GRANT a TO b

-- allow roles
CREATE ROLE r

-- allow roles
ALTER ROLE r BYPASSRLS

-- allow roles
ALTER ROLE r SET app.tenant_id = 'x'

-- allow roles
DROP OWNED BY r

-- allow roles
REASSIGN OWNED BY r TO s

-- allow definition
ALTER ROLE r RENAME TO s

-- allow definition
CREATE FUNCTION f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'

-- allow definition
ALTER FUNCTION f() SECURITY DEFINER

-- allow definition
CREATE SCHEMA s AUTHORIZATION r

-- allow definition
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

-- allow select
SELECT * FROM pg_stat_activity

-- allow select
SELECT pg_sleep(1)

-- allow select
SELECT * FROM pg_stat_user_tables

-- What definitions embed is judged as in any other statement; what cannot be read is this login's to answer for.

-- deny TG011
CREATE VIEW v AS SELECT set_config('app.tenant_id', 'x', true)

-- deny TG011
CREATE FUNCTION f() RETURNS text RETURN set_config('app.tenant_id', 'x', true)

-- deny TG011
CREATE AGGREGATE g (text, boolean) (SFUNC = set_config, STYPE = text, INITCOND = 'app.tenant_id')

-- deny TG011
CREATE POLICY p ON x USING (set_config('app.tenant_id', 'x', true) = '')

-- deny TG011
ALTER FUNCTION f() SET app.tenant_id TO 'x'

-- deny TG012
ALTER FUNCTION f() SET row_security = off

-- deny TG012
CREATE FUNCTION f() RETURNS int LANGUAGE sql SET role = 'x' AS 'SELECT 1'

-- deny TG013
ALTER FUNCTION f() SET session_replication_role = replica

-- allow definition
CREATE OR REPLACE FUNCTION f() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN new; END $$

-- allow definition
ALTER FUNCTION f() RESET ALL

-- allow definition
CREATE VIEW v AS SELECT * FROM orders

-- allow definition
CREATE RULE r AS ON INSERT TO x DO ALSO INSERT INTO y VALUES (new.a)

-- allow definition
ALTER TABLE x ATTACH PARTITION orders FOR VALUES FROM (1) TO (MAXVALUE)

-- allow definition
CREATE TABLE x PARTITION OF orders (a DEFAULT 1) FOR VALUES WITH (MODULUS 4, REMAINDER 1)

-- allow definition
ALTER TABLE x DISABLE TRIGGER ALL

-- allow definition
CREATE AGGREGATE g (int) (SFUNC = int4pl, STYPE = int, INITCOND = '0', PARALLEL = safe)

-- allow definition
CREATE FOREIGN TABLE x (a int OPTIONS (column_name 'b')) SERVER s OPTIONS (table_name 'y')
