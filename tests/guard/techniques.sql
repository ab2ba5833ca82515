What THREATS.md does not name: other ways to the same ends. tests/guard_mutator.rs writes each of them in many other ways.

-- set_config where names are looked up late, or written otherwise --------

-- deny TG011
SELECT set_config('APP.TENANT_ID', 'x', true) FROM t

-- deny TG011
SELECT pg_catalog."set_config"('app.tenant_id', 'x', false), 1 AS a FROM t

-- deny TG011
SELECT a.set_config FROM (SELECT 'app.tenant_id'::text) AS a

-- deny TG011
SELECT ('app.tenant_id'::text).set_config

-- deny TG011
SELECT set_config(name, 'x', true) FROM pg_settings WHERE name LIKE 'app%'

-- deny TG011
SELECT set_config(convert_from('\x6170702e74656e616e745f6964', 'UTF8'), 'x', true)

-- deny TG011
SELECT set_config(lower('APP.TENANT_ID'), 'x', true)

-- deny TG011
SELECT set_config(reverse('di_tnanet.ppa'), 'x', true)

-- deny TG011
SELECT set_config(CASE WHEN true THEN 'app.tenant_id' END, 'x', true)

-- deny TG011
SELECT set_config(coalesce(NULL, 'app.tenant_id'), 'x', true)

-- deny TG011
SELECT set_config(('{app.tenant_id}'::text[])[1], 'x', true)

-- deny TG011
SELECT set_config('{"a":"app.tenant_id"}'::json ->> 'a', 'x', true)

-- deny TG011
SELECT set_config(E'app\x2etenant_id', 'x', true)

-- deny TG011
SELECT set_config(U&'app\002Etenant_id', 'x', true)

-- deny TG011
SELECT set_config($$app.tenant_id$$, 'x', true)

-- deny TG011
SELECT set_config('app.' 
  'tenant_id', 'x', true)

-- deny TG011
SELECT set_config(setting_name := 'app.tenant_id', new_value := 'x', is_local := true)

-- deny TG011
SELECT set_config(VARIADIC ARRAY['app.tenant_id', 'x', 'true'])

-- deny TG011
SELECT DISTINCT set_config('app.tenant_id', 'x', true)

-- deny TG011
SELECT set_config('app.tenant_id', 'x', true) LIMIT 1

-- deny TG011
SELECT set_config('app.tenant_id', 'x', true) UNION SELECT 'b'

-- deny TG011
SELECT set_config('app.tenant_id', 'x', true)::text

-- deny TG011
SELECT length(set_config('app.tenant_id', 'x', true))

-- deny TG011
SELECT ARRAY[set_config('app.tenant_id', 'x', true)]

-- deny TG011
SELECT ROW(set_config('app.tenant_id', 'x', true))

-- deny TG011
SELECT (ROW(set_config('app.tenant_id', 'x', true))).f1

-- deny TG011
SELECT set_config('app.tenant_id', 'x', true) IS NULL

-- deny TG011
SELECT set_config('app.tenant_id', 'x', true) COLLATE "C"

-- deny TG011
SELECT set_config('app.tenant_id', 'x', true) BETWEEN 'a' AND 'b'

-- deny TG011
SELECT 'a' LIKE set_config('app.tenant_id', 'x', true)

-- deny TG011
SELECT 'a' IN ('b', set_config('app.tenant_id', 'x', true))

-- deny TG011
SELECT NULLIF(set_config('app.tenant_id', 'x', true), 'a')

-- deny TG011
SELECT GREATEST(set_config('app.tenant_id', 'x', true), 'a')

-- deny TG011
SELECT count(*) FILTER (WHERE set_config('app.tenant_id', 'x', true) = 'x') FROM t

-- deny TG011
SELECT string_agg(a, ',' ORDER BY set_config('app.tenant_id', 'x', true)) FROM t

-- deny TG011
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY length(set_config('app.tenant_id', 'x', true))) FROM t

-- deny TG011
SELECT sum(1) OVER (PARTITION BY set_config('app.tenant_id', 'x', true)) FROM t

-- deny TG011
SELECT sum(1) OVER w FROM t WINDOW w AS (ORDER BY set_config('app.tenant_id', 'x', true))

-- deny TG011
SELECT 1 GROUP BY set_config('app.tenant_id', 'x', true)

-- deny TG011
SELECT 1 GROUP BY GROUPING SETS ((set_config('app.tenant_id', 'x', true)))

-- deny TG011
SELECT count(*) FROM t HAVING set_config('app.tenant_id', 'x', true) = 'x'

-- deny TG011
SELECT 1 ORDER BY set_config('app.tenant_id', 'x', true)

-- deny TG011
SELECT 1 LIMIT length(set_config('app.tenant_id', 'x', true))

-- deny TG011
SELECT 1 OFFSET length(set_config('app.tenant_id', 'x', true))

-- deny TG011
SELECT 1 FROM t FETCH FIRST length(set_config('app.tenant_id', 'x', true)) ROWS ONLY

-- deny TG011
SELECT DISTINCT ON (set_config('app.tenant_id', 'x', true)) 1

-- deny TG011
SELECT * FROM set_config('app.tenant_id', 'x', true)

-- deny TG011
SELECT * FROM ROWS FROM (set_config('app.tenant_id', 'x', true), generate_series(1, 2)) AS r(a, b)

-- deny TG011
SELECT * FROM t, LATERAL set_config('app.tenant_id', t.a, true)

-- deny TG011
SELECT * FROM t JOIN u ON set_config('app.tenant_id', 'x', true) = t.a

-- deny TG011
SELECT * FROM t TABLESAMPLE bernoulli (length(set_config('app.tenant_id', 'x', true)))

-- deny TG011
SELECT * FROM XMLTABLE('/a' PASSING xmlparse(content set_config('app.tenant_id', 'x', true)) COLUMNS b text)

-- deny TG011
SELECT * FROM JSON_TABLE(set_config('app.tenant_id', 'x', true)::jsonb, '$' COLUMNS (a text PATH '$'))

-- deny TG011
SELECT JSON_OBJECT('a': set_config('app.tenant_id', 'x', true))

-- deny TG011
SELECT JSON_ARRAY(set_config('app.tenant_id', 'x', true))

-- deny TG011
SELECT JSON_ARRAYAGG(set_config('app.tenant_id', 'x', true)) FROM t

-- deny TG011
SELECT JSON_VALUE(set_config('app.tenant_id', '1', true)::jsonb, '$')

-- deny TG011
SELECT JSON_QUERY('{}'::jsonb, '$' PASSING set_config('app.tenant_id', 'x', true) AS a)

-- deny TG011
SELECT set_config('app.tenant_id', 'x', true) IS JSON

-- deny TG011
SELECT xmlelement(name a, xmlattributes(set_config('app.tenant_id', 'x', true) AS b))

-- deny TG011
SELECT xmlforest(set_config('app.tenant_id', 'x', true) AS a)

-- deny TG011
SELECT xmlserialize(content xmlparse(content set_config('app.tenant_id', 'x', true)) AS text)

-- deny TG011
SELECT now() AT TIME ZONE set_config('app.tenant_id', 'UTC', true)

-- deny TG011
SELECT overlay(set_config('app.tenant_id', 'x', true) PLACING 'a' FROM 1)

-- deny TG011
SELECT (ARRAY[1, 2])[length(set_config('app.tenant_id', 'x', true))]

-- deny TG011
SELECT extract(epoch FROM now()) + length(set_config('app.tenant_id', 'x', true))

-- deny TG011
UPDATE t SET a = set_config('app.tenant_id', 'x', true)

-- deny TG011
UPDATE t SET (a, b) = (SELECT set_config('app.tenant_id', 'x', true), 1)

-- deny TG011
UPDATE t SET a[length(set_config('app.tenant_id', 'x', true))] = 1

-- deny TG011
UPDATE t SET a = 1 FROM (SELECT set_config('app.tenant_id', 'x', true)) AS s

-- deny TG011
DELETE FROM t USING set_config('app.tenant_id', 'x', true) AS s

-- deny TG011
DELETE FROM t WHERE a = ANY (ARRAY[set_config('app.tenant_id', 'x', true)])

-- deny TG011
DELETE FROM t RETURNING set_config('app.tenant_id', 'x', true)

-- deny TG011
INSERT INTO t SELECT set_config('app.tenant_id', 'x', true)

-- deny TG011
INSERT INTO t VALUES (1) ON CONFLICT ((set_config('app.tenant_id', 'x', true))) DO NOTHING

-- deny TG011
INSERT INTO t AS x VALUES (1) ON CONFLICT (a) DO UPDATE SET b = 1 WHERE set_config('app.tenant_id', 'x', true) = 'x'

-- deny TG011
MERGE INTO t USING u ON t.a = set_config('app.tenant_id', 'x', true) WHEN MATCHED THEN DO NOTHING

-- deny TG011
MERGE INTO t USING u ON t.a = u.a WHEN MATCHED AND set_config('app.tenant_id', 'x', true) = 'x' THEN DELETE

-- deny TG011
MERGE INTO t USING (SELECT set_config('app.tenant_id', 'x', true) AS a) AS u ON t.a = u.a WHEN NOT MATCHED THEN INSERT VALUES (u.a)

-- deny TG011
MERGE INTO t USING u ON t.a = u.a WHEN NOT MATCHED THEN INSERT VALUES (set_config('app.tenant_id', 'x', true))

-- deny TG011
WITH RECURSIVE r AS (SELECT set_config('app.tenant_id', 'x', true) UNION ALL SELECT * FROM r) SELECT * FROM r LIMIT 1

-- deny TG011
WITH w AS MATERIALIZED (INSERT INTO t VALUES (set_config('app.tenant_id', 'x', true)) RETURNING *) SELECT 1

-- deny TG011
COPY (INSERT INTO t VALUES (1) RETURNING set_config('app.tenant_id', 'x', true)) TO STDOUT

-- deny TG011
COPY t FROM STDIN WHERE set_config('app.tenant_id', 'x', true) = 'x'

-- deny TG011
EXECUTE p(set_config('app.tenant_id', 'x', true))

-- deny TG011
CALL p(set_config('app.tenant_id', 'x', true))

-- deny TG011
EXPLAIN (ANALYZE, VERBOSE, FORMAT json) UPDATE t SET a = set_config('app.tenant_id', 'x', true)

-- deny TG011
BEGIN; SELECT set_config('app.tenant_id', 'x', false), 1 FROM t; COMMIT

-- deny TG011
SELECT 1; ; ; SELECT set_config('app.tenant_id', 'x', true)

-- settings --------

-- deny TG011
SET "app.tenant_id" TO x

-- deny TG011
SET APP.TENANT_ID TO x

-- deny TG011
SET app . tenant_id = 'x'

-- deny TG011
SET U&"app.tenant\005fid" = 'x'

-- deny TG011
SET app.tenant_id FROM CURRENT

-- deny TG011
SET LOCAL app.tenant_id TO DEFAULT

-- deny TG011
RESET "App.Tenant_Id"

-- deny TG011
SET TIME ZONE LOCAL; SET app.tenant_id = 'x'

-- deny TG011
SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY; SET app.tenant_id = 'x'

-- deny TG012
SET SESSION SESSION AUTHORIZATION DEFAULT

-- deny TG012
SET LOCAL SESSION AUTHORIZATION 'postgres'

-- deny TG012
SET LOCAL ROLE NONE

-- deny TG012
SET role = 'postgres'

-- deny TG012
SET "role" TO postgres

-- deny TG012
RESET ROLE

-- deny TG012
RESET SESSION AUTHORIZATION

-- deny TG012
SELECT set_config('role', 'postgres', false)

-- deny TG012
SELECT set_config('session_authorization', 'postgres', false)

-- deny TG012
SELECT set_config('row_security', 'off', false)

-- deny TG012
SET row_security TO DEFAULT

-- deny TG014
SET search_path TO DEFAULT; SET search_path = "pg_temp"

-- deny TG014
SET SCHEMA 'pg_temp'

-- deny TG014
SELECT set_config('search_path', 'pg_temp,public', false)

-- deny TG014
SET search_path = pg_temp_3

-- deny TG014
SET search_path = cron

-- deny TG013
SET session_replication_role = replica

-- deny TG013
SET local_preload_libraries = 'x'

-- deny TG013
SET session_preload_libraries = 'x'

-- deny TG013
SET dynamic_library_path = '/tmp'

-- deny TG013
SET log_statement = 'none'

-- deny TG013
SET log_min_messages = panic

-- deny TG013
SET default_tablespace = 'x'

-- deny TG013
SET temp_tablespaces = 'x'

-- deny TG013
SET lo_compat_privileges = on

-- deny TG013
SET transform_null_equals = on

-- deny TG013
SET backslash_quote = on

-- deny TG013
SET allow_system_table_mods = on

-- deny TG013
SET zero_damaged_pages = on

-- deny TG013
SET ignore_checksum_failure = on

-- deny TG013
SET plan_cache_mode = 'x'; SET work_mem = '64GB'

-- deny TG013
SET max_parallel_workers_per_gather = 1000

-- deny TG014
SET client_min_messages = debug5

-- deny TG013
SET debug_print_plan = on

-- deny TG013
SET auto_explain.log_analyze = on

-- deny TG013
SET pg_stat_statements.track = 'none'

-- deny TG013
SET plpgsql.variable_conflict = 'use_column'

-- deny TG013
SET tenantgate.reason = 'x'

-- deny TG019
ALTER SYSTEM SET app.tenant_id = 'x'

-- deny TG019
ALTER ROLE app SET app.tenant_id = 'x'

-- deny TG019
ALTER ROLE ALL SET search_path = pg_temp

-- deny TG019
ALTER DATABASE shop SET app.tenant_id = 'x'

-- deny TG019
ALTER ROLE CURRENT_USER BYPASSRLS

-- deny TG011
UPDATE pg_catalog.pg_settings SET setting = 'x' WHERE name = 'app.tenant_id'

-- deny TG011
UPDATE ONLY pg_settings AS s SET setting = 'x'

-- deny TG011
INSERT INTO pg_settings (name, setting) VALUES ('app.tenant_id', 'x')

-- deny TG011
DELETE FROM pg_settings

-- deny TG011
MERGE INTO pg_settings s USING (SELECT 1) x ON s.name = 'app.tenant_id' WHEN MATCHED THEN UPDATE SET setting = 'x'

-- deny TG011
WITH u AS (UPDATE pg_settings SET setting = 'x' RETURNING *) SELECT * FROM u

-- strings that run --------

-- deny TG016
DO LANGUAGE plpgsql 'BEGIN END'

-- deny TG016
DO $a$ BEGIN PERFORM set_config('app.tenant_id', 'x', false); END $a$

-- deny TG016
SELECT table_to_xml('invoices', true, true, '')

-- deny TG016
SELECT table_to_xml_and_xmlschema('invoices', true, true, '')

-- deny TG016
SELECT schema_to_xml('public', true, true, '')

-- deny TG016
SELECT schema_to_xml_and_xmlschema('public', true, true, '')

-- deny TG016
SELECT database_to_xml(true, true, '')

-- deny TG016
SELECT database_to_xmlschema(true, true, '')

-- deny TG016
SELECT cursor_to_xmlschema('c', true, true, '')

-- deny TG016
SELECT (query_to_xml('select 1', true, true, ''))::text

-- deny TG016
SELECT xpath('/a', query_to_xml('select 1', true, true, ''))

-- deny TG016
SELECT * FROM ts_stat('select 1', 'a')

-- deny TG016
SELECT ('select to_tsvector(1)'::text).ts_stat

-- deny TG016
SELECT ts_rewrite('a', 'select $$a$$::tsquery, $$b$$::tsquery')

-- deny TG016
SELECT dblink_connect('c', 'host=/tmp'), dblink_send_query('c', 'select 1')

-- deny TG016
SELECT public.dblink_open('c', 'select 1')

-- deny TG016
SELECT * FROM crosstab4('select 1, 2, 3')

-- deny TG016
SELECT * FROM crosstabn('select 1')

-- deny TG016
SELECT cron.schedule('* * * * *', 'select 1')

-- deny TG016
SELECT * FROM cypher('g', $$ RETURN 1 $$) AS (a int)

-- deny TG016
SELECT pg_background_launch('select 1')

-- deny TG016
SELECT run_command_on_workers('select 1')

-- deny TG016
SELECT * FROM pgr_dijkstra('select 1', 1, 2)

-- deny TG016
PREPARE p(text) AS SELECT query_to_xml($1, true, true, '')

-- deny TG017
EXECUTE p('select 1')

-- deny TG019
CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS 'BEGIN END'

-- deny TG019
CREATE OR REPLACE FUNCTION f() RETURNS void LANGUAGE sql AS 'SELECT 1'

-- deny TG019
CREATE PROCEDURE p() LANGUAGE sql AS 'SELECT 1'

-- deny TG019
ALTER FUNCTION f() SET search_path = pg_temp

-- deny TG019
CREATE TRIGGER t BEFORE INSERT ON invoices FOR EACH ROW EXECUTE FUNCTION f()

-- deny TG019
CREATE EVENT TRIGGER e ON ddl_command_start EXECUTE FUNCTION f()

-- deny TG019
CREATE LANGUAGE plpython3u

-- deny TG019
CREATE EXTENSION dblink

-- deny TG019
CREATE TRANSFORM FOR int LANGUAGE sql (FROM SQL WITH FUNCTION f(internal), TO SQL WITH FUNCTION f(internal))

-- deny TG019
CREATE OPERATOR CLASS o FOR TYPE int USING btree AS FUNCTION 1 f(int, int)

-- deny TG019
CREATE CONVERSION c FOR 'UTF8' TO 'LATIN1' FROM f

-- deny TG019
CREATE TEXT SEARCH TEMPLATE t (lexize = f)

-- deny TG019
CREATE ACCESS METHOD a TYPE INDEX HANDLER f

-- deny TG019
CREATE FOREIGN DATA WRAPPER w HANDLER f

-- deny TG019
IMPORT FOREIGN SCHEMA s FROM SERVER r INTO public

-- deny TG019
CREATE SUBSCRIPTION s CONNECTION 'host=/tmp' PUBLICATION p

-- deny TG010
CALL anything()

-- what stays behind --------

-- deny TG017
CREATE TEMPORARY SEQUENCE s

-- deny TG017
CREATE LOCAL TEMP TABLE t (a int) ON COMMIT PRESERVE ROWS

-- deny TG019
CREATE UNLOGGED TABLE t (a int)

-- deny TG017
CREATE TEMP TABLE t AS TABLE invoices

-- deny TG017
CREATE TABLE pg_temp.t AS SELECT 1

-- deny TG019
SELECT * INTO t FROM invoices

-- deny TG019
SELECT * INTO TEMPORARY t FROM invoices

-- deny TG019
WITH a AS (SELECT 1) SELECT * INTO t FROM a

-- deny TG017
CREATE TEMP RECURSIVE VIEW v (a) AS SELECT 1

-- deny TG019
CREATE MATERIALIZED VIEW m AS SELECT * FROM invoices

-- deny TG019
REFRESH MATERIALIZED VIEW CONCURRENTLY m

-- deny TG017
INSERT INTO pg_temp.t VALUES (1)

-- deny TG018
SELECT * FROM pg_temp_3.invoices

-- deny TG015
SELECT pg_temp.f()

-- deny TG017
SELECT a OPERATOR(pg_temp.+) 1 FROM t

-- deny TG017
SELECT 'x'::pg_temp.t

-- deny TG019
DROP TABLE pg_temp.t

-- deny TG017
DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT 1

-- deny TG017
PREPARE tg_scope AS SELECT 1

-- deny TG017
DEALLOCATE tg_scope; PREPARE p AS SELECT 1

-- deny TG017
SELECT pg_advisory_lock(1, 2)

-- deny TG017
SELECT pg_try_advisory_lock_shared(1) FROM t

-- deny TG017
SELECT pg_advisory_unlock_shared(1), 1

-- deny TG017
SELECT setseed(0.5)

-- deny TG017
SELECT nextval('s'), lastval()

-- deny TG017
SELECT pg_export_snapshot()

-- deny TG026
SET TRANSACTION SNAPSHOT '00000003-0000001B-1'

-- deny TG017
LISTEN "c"

-- deny TG017
LISTEN tenantgate

-- deny TG017
UNLISTEN a; LISTEN b

-- deny TG010
NOTIFY c

-- deny TG026
PREPARE TRANSACTION 'x'

-- deny TG026
COMMIT PREPARED 'x'

-- deny TG026
ROLLBACK PREPARED 'x'

-- deny TG017
SELECT set_limit(0.9)

-- deny TG017
SELECT pgv_set('a', 'b', 1)

-- deny TG017
SELECT isn_weak(true)

-- deny TG017
SELECT postgres_fdw_disconnect_all()

-- other sessions, files, counts, the server --------

-- deny TG015
SELECT pg_cancel_backend(pid) FROM generate_series(1, 100000) AS pid

-- deny TG015
SELECT pg_reload_conf()

-- deny TG015
SELECT pg_rotate_logfile()

-- deny TG015
SELECT pg_promote()

-- deny TG015
SELECT pg_log_backend_memory_contexts(1)

-- deny TG015
SELECT pg_stat_get_activity(NULL)

-- deny TG015
SELECT (pg_stat_get_activity(NULL)).query

-- deny TG015
SELECT pg_stat_get_backend_activity(1)

-- deny TG015
SELECT pg_blocking_pids(1)

-- deny TG015
SELECT pg_safe_snapshot_blocking_pids(1)

-- deny TG015
SELECT * FROM pg_lock_status()

-- deny TG015
SELECT * FROM pg_prepared_statement()

-- deny TG018
SELECT * FROM pg_prepared_xacts

-- deny TG018
SELECT * FROM pg_stat_progress_copy

-- deny TG018
SELECT * FROM pg_stat_replication

-- deny TG018
SELECT * FROM pg_stat_user_tables

-- deny TG018
SELECT n_live_tup FROM pg_catalog.pg_stat_all_tables

-- deny TG018
SELECT * FROM pg_statio_user_tables

-- deny TG018
SELECT * FROM pg_statistic

-- deny TG018
SELECT * FROM pg_stats_ext

-- deny TG018
SELECT * FROM pg_statistic_ext_data

-- deny TG015
SELECT pg_stat_get_live_tuples('invoices'::regclass)

-- deny TG015
SELECT pg_stat_get_tuples_inserted(1)

-- deny TG015
SELECT pg_stat_reset()

-- deny TG018
SELECT s.reltuples FROM (SELECT * FROM pg_class) AS s

-- deny TG018
TABLE pg_class

-- deny TG018
SELECT x.q FROM pg_class AS x(a, b, c, d, e, f, g, h, i, j, q)

-- deny TG018
SELECT to_jsonb(pg_class) FROM pg_class

-- deny TG018
SELECT (c).reltuples FROM pg_class AS c

-- deny TG018
SELECT (j).* FROM (pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace) AS j

-- deny TG018
INSERT INTO t SELECT c.reltuples FROM pg_catalog.pg_class c

-- deny TG018
SELECT * FROM pg_authid

-- deny TG018
SELECT passwd FROM pg_shadow

-- deny TG018
SELECT * FROM pg_user_mapping

-- deny TG018
SELECT * FROM pg_hba_file_rules

-- deny TG018
SELECT * FROM pg_file_settings

-- deny TG018
SELECT * FROM pg_largeobject_metadata

-- deny TG018
SELECT * FROM pg_replication_slots

-- deny TG018
SELECT * FROM pg_backend_memory_contexts

-- deny TG018
SELECT * FROM pg_shmem_allocations

-- deny TG015
SELECT pg_read_file('postgresql.conf')

-- deny TG015
SELECT pg_read_binary_file('PG_VERSION')

-- deny TG015
SELECT * FROM pg_ls_dir('.')

-- deny TG015
SELECT * FROM pg_stat_file('postgresql.conf')

-- deny TG015
SELECT pg_current_logfile()

-- deny TG015
SELECT lo_import('/etc/passwd')

-- deny TG015
SELECT lo_export(1, '/tmp/x')

-- deny TG015
SELECT lo_from_bytea(0, 'x')

-- deny TG015
SELECT loread(lo_open(1, 131072), 100)

-- deny TG020
COPY (SELECT 1) TO PROGRAM 'sh -c id'

-- deny TG018
COPY pg_authid TO STDOUT

-- deny TG020
COPY t FROM PROGRAM 'cat /etc/passwd'

-- deny TG020
COPY t (a) FROM '/etc/passwd' WITH (FORMAT csv)

-- deny TG015
SELECT pg_create_restore_point('x')

-- deny TG015
SELECT pg_switch_wal()

-- deny TG015
SELECT pg_backup_start('x')

-- deny TG015
SELECT pg_start_backup('x')

-- deny TG015
SELECT pg_create_logical_replication_slot('s', 'test_decoding')

-- deny TG015
SELECT * FROM pg_logical_slot_get_changes('s', NULL, NULL)

-- deny TG015
SELECT pg_replication_origin_create('x')

-- deny TG015
SELECT pg_sleep_for('1 hour')

-- deny TG015
SELECT pg_sleep_until(now() + interval '1 day')

-- deny TG015
SELECT count(*) FROM t WHERE pg_sleep(1) IS NULL

-- deny TG015
SELECT pg_notification_queue_usage()

-- deny TG015
SELECT pg_nextoid('pg_class', 'oid', 'pg_class_oid_index')

-- deny TG015
SELECT binary_upgrade_set_next_pg_type_oid(1)

-- deny TG015
SELECT pg_of_a_later_release()

-- deny TG015
SELECT lo_of_a_later_release(1)

-- deny TG015
SELECT pg_catalog.not_known(1)

-- deny TG018
SELECT * FROM pg_of_a_later_release

-- deny TG018
SELECT * FROM pg_catalog.not_known

-- deny TG018
SELECT * FROM pg_toast.pg_toast_1260

-- deny TG019
UPDATE pg_class SET relrowsecurity = false WHERE relname = 'invoices'

-- deny TG019
DELETE FROM pg_policy

-- deny TG019
INSERT INTO pg_proc VALUES (1)

-- deny TG019
COPY pg_class FROM STDIN

-- deny TG025
EXPLAIN (COSTS off) SELECT 1

-- deny TG025
EXPLAIN EXECUTE p

-- deny TG010
TRUNCATE TABLE ONLY invoices RESTART IDENTITY CASCADE

-- deny TG010
LOCK invoices

-- deny TG010
LOCK TABLE ONLY invoices IN SHARE MODE NOWAIT

-- deny TG019
VACUUM FULL invoices

-- deny TG019
ANALYZE

-- deny TG019
CLUSTER invoices

-- deny TG019
REINDEX TABLE CONCURRENTLY invoices

-- deny TG019
CHECKPOINT

-- deny TG019
ALTER TABLE invoices DISABLE ROW LEVEL SECURITY

-- deny TG019
ALTER TABLE invoices NO FORCE ROW LEVEL SECURITY

-- deny TG019
DROP POLICY p ON invoices

-- deny TG019
CREATE POLICY p ON invoices USING (true)

-- deny TG019
ALTER POLICY p ON invoices USING (true)

-- deny TG019
GRANT ALL ON invoices TO PUBLIC

-- deny TG019
REVOKE ALL ON invoices FROM app

-- deny TG019
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC

-- deny TG019
ALTER TABLE invoices OWNER TO app

-- deny TG019
REASSIGN OWNED BY a TO b

-- deny TG019
DROP OWNED BY app

-- deny TG019
CREATE ROLE r BYPASSRLS

-- deny TG019
GRANT postgres TO app

-- deny TG019
SECURITY LABEL ON TABLE invoices IS 'x'

-- deny TG019
COMMENT ON TABLE invoices IS 'x'

-- deny TG019
CREATE VIEW v AS SELECT * FROM invoices

-- deny TG019
CREATE INDEX ON invoices (id)

-- deny TG019
CREATE STATISTICS s ON a, b FROM invoices

-- deny TG019
CREATE PUBLICATION p FOR ALL TABLES

-- deny TG019
CREATE DATABASE d

-- deny TG019
DROP TABLE invoices

-- deny TG019
ALTER TABLE invoices ADD COLUMN x int DEFAULT 1

-- deny TG019
CREATE SCHEMA s

-- deny TG019
CREATE TYPE t AS (a int)

-- deny TG019
CREATE DOMAIN d AS int CHECK (value > 0)

-- deny TG019
ALTER SEQUENCE s RESTART
