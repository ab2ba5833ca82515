What THREATS.md lists as the guard's, in its order: each line of it as statements.

-- Changing the tenant in plain sight --------

-- SET [LOCAL|SESSION] app.tenant_id
-- deny TG011
SET app.tenant_id = 'x'

-- deny TG011
SET LOCAL app.tenant_id = 'x'

-- deny TG011
SET SESSION app.tenant_id = 'x'

-- SET … TO DEFAULT
-- deny TG011
SET app.tenant_id TO DEFAULT

-- RESET
-- deny TG011
RESET app.tenant_id

-- RESET ALL (emulated, never forwarded)
-- allow setting
RESET ALL

-- DISCARD ALL (emulated, never forwarded)
-- allow discard
DISCARD ALL

-- set_config(…) in a CTE
-- deny TG011
WITH a AS (SELECT set_config('app.tenant_id', 'x', true)) SELECT * FROM a

-- … in a subquery
-- deny TG011
SELECT (SELECT set_config('app.tenant_id', 'x', true))

-- deny TG011
SELECT * FROM invoices WHERE id IN (SELECT set_config('app.tenant_id', 'x', true)::int)

-- … in COPY (query)
-- deny TG011
COPY (SELECT set_config('app.tenant_id', 'x', true)) TO STDOUT

-- … in RETURNING
-- deny TG011
INSERT INTO invoices VALUES (1) RETURNING set_config('app.tenant_id', 'x', true)

-- … in ON CONFLICT
-- deny TG011
INSERT INTO invoices VALUES (1) ON CONFLICT (id) DO UPDATE SET note = set_config('app.tenant_id', 'x', true)

-- … in DEFAULT
-- deny TG011
CREATE TABLE t (a text DEFAULT set_config('app.tenant_id', 'x', true))

-- … in VALUES
-- deny TG011
VALUES (set_config('app.tenant_id', 'x', true))

-- … as an aggregate's or window's argument
-- deny TG011
SELECT max(set_config('app.tenant_id', 'x', true)) FROM invoices

-- deny TG011
SELECT lag(id) OVER (ORDER BY set_config('app.tenant_id', 'x', true)) FROM invoices

-- … in the body of PREPARE
-- deny TG011
PREPARE p AS SELECT set_config('app.tenant_id', 'x', true)

-- … in a cursor
-- deny TG011
DECLARE c CURSOR FOR SELECT set_config('app.tenant_id', 'x', true)

-- … in EXPLAIN ANALYZE
-- deny TG011
EXPLAIN ANALYZE SELECT set_config('app.tenant_id', 'x', true)

-- … in the body of CREATE VIEW, RULE, FUNCTION
-- deny TG011
CREATE VIEW v AS SELECT set_config('app.tenant_id', 'x', true)

-- deny TG011
CREATE RULE r AS ON INSERT TO t DO ALSO SELECT set_config('app.tenant_id', 'x', true)

-- deny TG011
CREATE FUNCTION f() RETURNS text LANGUAGE sql BEGIN ATOMIC SELECT set_config('app.tenant_id', 'x', true); END

-- U&"\0073et_config"
-- deny TG011
SELECT U&"\0073et_config"('app.tenant_id', 'x', true) FROM invoices

-- quoted, schema-qualified, mixed case
-- deny TG011
SELECT "set_config"('app.tenant_id', 'x', true) FROM invoices

-- deny TG011
SELECT pg_catalog.set_config('app.tenant_id', 'x', true) FROM invoices

-- deny TG011
SELECT Set_CONFIG('app.tenant_id', 'x', true) FROM invoices

-- a non-constant first argument
-- deny TG011
SELECT set_config('app.' || 'tenant_id', 'x', true)

-- deny TG011
SELECT set_config($1, 'x', true)

-- SET ROLE
-- deny TG012
SET ROLE postgres

-- SET SESSION AUTHORIZATION
-- deny TG012
SET SESSION AUTHORIZATION postgres

-- SET row_security
-- deny TG012
SET row_security = off

-- SET search_path naming pg_temp, or moving pg_catalog back
-- deny TG014
SET search_path = pg_temp, public

-- deny TG014
SET search_path = public, pg_catalog

-- COMMIT; SET …; SELECT … in one Query
-- deny TG011
COMMIT; SET app.tenant_id = 'x'; SELECT * FROM invoices

-- COMMIT AND CHAIN: followed, the tenant is put on the next transaction (allowed)
-- allow transaction
COMMIT AND CHAIN

-- a bypass setting: not on the list
-- deny TG013
SET app.bypass_rls = 'true'

-- Changing it where a parser cannot see --------

-- DO $$ … EXECUTE … $$
-- deny TG016
DO $$ BEGIN EXECUTE 'SELECT set_' || 'config(''app.tenant_id'', ''x'', true)'; END $$

-- query_to_xml
-- deny TG016
SELECT query_to_xml('select 1', true, true, '')

-- query_to_xmlschema
-- deny TG016
SELECT query_to_xmlschema('select 1', true, true, '')

-- query_to_xml_and_xmlschema
-- deny TG016
SELECT query_to_xml_and_xmlschema('select 1', true, true, '')

-- cursor_to_xml
-- deny TG016
SELECT cursor_to_xml('c', 1, true, true, '')

-- ts_stat
-- deny TG016
SELECT * FROM ts_stat('select to_tsvector(note) from invoices')

-- two-argument ts_rewrite
-- deny TG016
SELECT ts_rewrite('a'::tsquery, 'select t, s from aliases')

-- CREATE AGGREGATE/FUNCTION/OPERATOR/CAST in pg_temp
-- deny TG011
CREATE AGGREGATE pg_temp.a(text, text, bool) (sfunc = set_config, stype = text)

-- deny TG019
CREATE FUNCTION pg_temp.f() RETURNS text LANGUAGE sql AS $$ SELECT 1 $$

-- deny TG011
CREATE OPERATOR pg_temp.@@@ (function = set_config, leftarg = text, rightarg = text)

-- deny TG019
CREATE CAST (text AS int) WITH FUNCTION pg_temp.f(text)

-- dblink
-- deny TG016
SELECT * FROM dblink('host=/tmp', 'select 1') AS t(a int)

-- deny TG016
SELECT dblink_exec('host=/tmp', 'select 1')

-- crosstab
-- deny TG016
SELECT * FROM crosstab('select 1, 2, 3') AS t(a int, b int)

-- connectby
-- deny TG016
SELECT * FROM connectby('t', 'a', 'b', 'x', 0) AS t(a text, b text, c int)

-- xpath_table
-- deny TG016
SELECT * FROM xpath_table('id', 'doc', 't', '/a', 'true') AS t(a int, b text)

-- UPDATE pg_settings
-- deny TG011
UPDATE pg_settings SET setting = 'x' WHERE name = 'app.tenant_id'

-- standard_conforming_strings = off
-- deny TG014
SET standard_conforming_strings = off

-- a client_encoding with 0x5C trail bytes
-- deny TG014
SET client_encoding = 'SJIS'

-- deny TG014
SET NAMES 'GBK'

-- deny TG014
SELECT set_config('client_encoding', 'BIG5', false)

-- statements the parser rejects
-- deny TG021
SELEC set_config('app.tenant_id', 'x', true)

-- Leaving something for the next tenant --------

-- temp tables and views
-- deny TG017
CREATE TEMP TABLE invoices (id int)

-- deny TG017
CREATE TEMP VIEW v AS SELECT 1

-- deny TG017
CREATE TABLE pg_temp.invoices (id int)

-- deny TG019
SELECT 1 AS id INTO TEMP invoices

-- temp functions and triggers
-- deny TG019
CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql RETURN 1

-- deny TG019
CREATE TRIGGER t AFTER INSERT ON pg_temp.invoices FOR EACH ROW EXECUTE FUNCTION pg_temp.f()

-- DECLARE … WITH HOLD
-- deny TG017
DECLARE c CURSOR WITH HOLD FOR SELECT * FROM invoices

-- SQL PREPARE
-- deny TG017
PREPARE p AS SELECT 1

-- session SET of what is not tracked
-- deny TG013
SET work_mem = '1GB'

-- pg_advisory_lock
-- deny TG017
SELECT pg_advisory_lock(1)

-- LISTEN/NOTIFY
-- deny TG017
LISTEN c

-- deny TG010
NOTIFY c, 'x'

-- deny TG015
SELECT pg_notify('c', 'x')

-- currval/lastval
-- deny TG017
SELECT currval('s')

-- deny TG017
SELECT lastval()

-- LOAD
-- deny TG010
LOAD 'auto_explain'

-- Looking around the fence --------

-- EXPLAIN [ANALYZE]
-- deny TG025
EXPLAIN SELECT * FROM invoices

-- deny TG025
EXPLAIN ANALYZE SELECT * FROM invoices

-- pg_stat_activity
-- deny TG018
SELECT * FROM pg_stat_activity

-- pg_terminate_backend
-- deny TG015
SELECT pg_terminate_backend(1)

-- pg_locks
-- deny TG018
SELECT * FROM pg_locks

-- pg_stat_statements
-- deny TG018
SELECT * FROM pg_stat_statements

-- deny TG015
SELECT * FROM pg_stat_statements(true)

-- pg_prepared_statements
-- deny TG018
SELECT * FROM pg_prepared_statements

-- pg_stats
-- deny TG018
SELECT * FROM pg_stats

-- reltuples
-- deny TG018
SELECT reltuples FROM pg_class WHERE relname = 'invoices'

-- deny TG018
SELECT c.relpages FROM pg_catalog.pg_class AS c

-- deny TG018
SELECT * FROM pg_class

-- deny TG018
SELECT c.* FROM pg_class c

-- deny TG018
SELECT row_to_json(c) FROM pg_class c

-- sequences
-- deny TG018
SELECT * FROM pg_sequences

-- deny TG015
SELECT pg_sequence_last_value('s'::regclass)

-- deny TG015
SELECT setval('s', 1)

-- LOCK TABLE
-- deny TG010
LOCK TABLE invoices IN ACCESS EXCLUSIVE MODE

-- pg_sleep
-- deny TG015
SELECT pg_sleep(1000)

-- large objects
-- deny TG015
SELECT lo_create(0)

-- deny TG015
SELECT lo_get(1)

-- deny TG018
SELECT * FROM pg_largeobject

-- pg_logical_emit_message
-- deny TG015
SELECT pg_logical_emit_message(true, 'p', 'x')

-- TRUNCATE
-- deny TG010
TRUNCATE invoices

-- COPY … PROGRAM and files
-- deny TG020
COPY invoices TO PROGRAM 'cat'

-- deny TG020
COPY invoices FROM '/etc/passwd'

-- deny TG020
COPY invoices TO '/tmp/x'
