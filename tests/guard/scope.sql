-- Changing the tenant, the role or the way texts are read.

-- deny TG011
SET app.tenant_id = 'x'

-- deny TG011
SET LOCAL app.tenant_id = 'x'

-- deny TG011
SET SESSION app.tenant_id TO 'x'

-- deny TG011
SET "app.tenant_id" = 'x'

-- deny TG011
SET "APP.Tenant_ID" = 'x'

-- deny TG011
SET APP.TENANT_ID = x

-- deny TG011
set app . tenant_id = 'x'

-- deny TG011
SET U&"app.tenant\005fid" = 'x'

-- deny TG011
SET app.tenant_id TO DEFAULT

-- deny TG011
SET LOCAL app.tenant_id TO DEFAULT

-- deny TG011
RESET app.tenant_id

-- deny TG011
RESET "app.tenant_id"

-- deny TG011
SET app.tenant_id = 'a', 'b'

-- deny TG011
SET app.tenant_id = 5

-- deny TG011
COMMIT; SET app.tenant_id = 'x'; SELECT 1

-- deny TG011
SELECT 1; RESET app.tenant_id

-- deny TG011
BEGIN; SET LOCAL app.tenant_id = 'x'; COMMIT

-- deny TG011
SELECT set_config('app.tenant_id', 'x', false)

-- allow setting
SELECT set_config('timezone', 'UTC', false)

-- allow setting
SELECT
    current_setting('jit') AS cur,
    set_config('jit', 'off', false) AS new

-- allow setting
SELECT set_config('jit', $1, false)

-- allow setting
SELECT pg_catalog.set_config('search_path', '', false)

-- allow setting
SELECT set_config('statement_timeout', '5s', true), set_config('lock_timeout', '1s', true), 1, current_setting('x', true)

-- deny TG014 temporary
SELECT set_config('search_path', 'pg_temp', false)

-- deny TG014 UTF8
SELECT set_config('client_encoding', 'SJIS', true)

-- deny TG014 standard_conforming_strings
SELECT set_config('STANDARD_conforming_strings', 'off', true)

-- deny TG013 work_mem
SELECT set_config('work_mem', '1GB', false)

-- deny TG013 work_mem
SELECT set_config('work_mem', $1, false)

-- deny TG012 role
SELECT set_config('role', 'postgres', false)

-- deny TG012 row_security
SELECT set_config('timezone', 'UTC', true), set_config('row_security', 'off', true)

-- deny TG013 session_preload
SELECT set_config('session_preload_libraries', 'x', true)

-- deny TG011 app.tenant_id
SELECT set_config('timezone', 'UTC', true), set_config('App.Tenant_Id', 'x', true)

-- deny TG011 app.tenant_id
SELECT set_config('app.tenant_id', $1, true)

-- deny TG011 set_config
SELECT set_config('timezone', NULL, true)

-- deny TG011 set_config
SELECT set_config('timezone', 'UTC', $1)

-- deny TG011 set_config
SELECT set_config('timezone', 'UTC', 'false')

-- deny TG011 set_config
SELECT set_config('timezone', 'U' || 'TC', false)

-- deny TG011 set_config
SELECT set_config('timezone', $1::text, false)

-- deny TG011 set_config
SELECT set_config('timezone', 'UTC', false) FROM t

-- deny TG011 set_config
SELECT set_config('timezone', 'UTC', false) WHERE true

-- deny TG011 set_config
SELECT set_config('timezone', 'UTC', false) LIMIT 0

-- deny TG011 set_config
SELECT DISTINCT set_config('timezone', 'UTC', false)

-- deny TG011 set_config
SELECT set_config('timezone', 'UTC', false) UNION SELECT 'x'

-- deny TG011 set_config
VALUES (set_config('timezone', 'UTC', false))

-- deny TG011 set_config
WITH a AS (SELECT 1) SELECT set_config('timezone', 'UTC', false)

-- deny TG011 set_config
SELECT upper(set_config('timezone', 'UTC', false))

-- deny TG011 set_config
SELECT set_config('timezone', 'UTC', false), generate_series(1, 2)

-- deny TG011 set_config
SELECT set_config('timezone', 'UTC', false), f()

-- deny TG011 set_config
SELECT set_config('timezone', 'UTC', false), $1

-- deny TG011 set_config
SELECT public.set_config('timezone', 'UTC', false)

-- deny TG011 set_config
SELECT db.pg_catalog.set_config('timezone', 'UTC', false)

-- deny TG011 set_config
SELECT set_config('timezone', 'UTC', false) FILTER (WHERE true)

-- deny TG011 set_config
SELECT set_config('timezone', 'UTC', false) OVER ()

-- deny TG011 set_config
SELECT set_config(setting_name => 'timezone', new_value => 'UTC', is_local => false)

-- deny TG011 set_config
SELECT set_config('time zone', 'UTC', false)

-- deny TG011 set_config
SELECT (set_config('timezone', 'UTC', false))[1]

-- deny TG011 set_config
SELECT set_config('timezone', 'UTC', false) INTO t

-- deny TG011 set_config
SELECT set_config('timezone', 'UTC', false) FOR UPDATE

-- deny TG011 set_config
COPY (SELECT set_config('timezone', 'UTC', false)) TO STDOUT

-- deny TG011 set_config
DECLARE c CURSOR FOR SELECT set_config('timezone', 'UTC', false)

-- deny TG011 set_config
EXPLAIN ANALYZE SELECT set_config('timezone', 'UTC', false)

-- deny TG011 set_config
PREPARE p AS SELECT set_config('timezone', 'UTC', false)

-- deny TG011 set_config
INSERT INTO t SELECT set_config('timezone', 'UTC', false)

-- deny TG011
SELECT set_config($1, $2, $3)

-- deny TG011
SELECT pg_catalog.set_config('app.' || 'tenant_id', 'x', true)

-- deny TG011
EXPLAIN ANALYZE SELECT set_config('a', 'b', true)

-- deny TG011
EXPLAIN SELECT set_config('a', 'b', true)

-- deny TG011
PREPARE p AS SELECT set_config('a', 'b', true)

-- deny TG011
EXECUTE p(set_config('a', 'b', true))

-- deny TG011
CALL f(set_config('a', 'b', true))

-- deny TG011
CREATE TABLE t AS SELECT set_config('a', 'b', true)

-- deny TG011
CREATE MATERIALIZED VIEW m AS SELECT set_config('a', 'b', true)

-- deny TG011
SELECT set_config('a', 'b', true) INTO t

-- deny TG011
DECLARE c CURSOR WITH HOLD FOR SELECT set_config('a', 'b', true)

-- deny TG011
COPY (SELECT set_config('a', 'b', true)) TO '/tmp/x'

-- deny TG011
SELECT (x).set_config FROM t x

-- deny TG011
SELECT t.set_config FROM t

-- deny TG011
SELECT s.t.set_config FROM s.t

-- deny TG011
SELECT (ROW(1)).set_config

-- deny TG011
UPDATE pg_settings SET setting = 'x' WHERE name = 'app.tenant_id'

-- deny TG011
UPDATE pg_catalog.pg_settings SET setting = 'x'

-- deny TG011
WITH x AS (UPDATE pg_settings SET setting = 'x' RETURNING 1) SELECT * FROM x

-- deny TG011
DELETE FROM pg_settings

-- deny TG011
INSERT INTO pg_settings DEFAULT VALUES

-- deny TG011
MERGE INTO pg_settings USING t ON true WHEN MATCHED THEN DELETE

-- deny TG011
COPY pg_settings FROM STDIN

-- deny TG012
SET ROLE postgres

-- deny TG012
SET ROLE 'postgres'

-- deny TG012
SET ROLE NONE

-- deny TG012
SET LOCAL ROLE x

-- deny TG012
SET SESSION ROLE x

-- deny TG012
RESET ROLE

-- deny TG012
SET role TO x

-- deny TG012
SET "role" = x

-- deny TG012
SET SESSION AUTHORIZATION postgres

-- deny TG012
SET SESSION AUTHORIZATION DEFAULT

-- deny TG012
RESET SESSION AUTHORIZATION

-- deny TG012
SET session_authorization = x

-- deny TG012
SET row_security = off

-- deny TG012
SET LOCAL row_security TO off

-- deny TG012
RESET row_security

-- deny TG012
SET ROW_SECURITY TO DEFAULT

-- deny TG013
SET app.bypass_rls = 'true'

-- deny TG013
SET app.current_user_id = '1'

-- deny TG013
SET myapp.x = 1

-- deny TG013
SET work_mem = '1GB'

-- allow setting
SET enable_seqscan = off

-- deny TG013
SET session_replication_role = replica

-- deny TG013
SET lo_compat_privileges = on

-- deny TG013
SET default_tablespace = x

-- deny TG013
SET temp_tablespaces = a, b

-- deny TG013
SET session_preload_libraries = 'x'

-- deny TG013
SET local_preload_libraries TO x

-- deny TG013
SET log_statement = 'none'

-- deny TG013
SET tcp_keepalives_idle = 1

-- deny TG013
SET idle_session_timeout = 1

-- deny TG013
SET backslash_quote = on

-- deny TG013
SET transform_null_equals = on

-- deny TG013
SET check_function_bodies = off

-- deny TG013
SET made_up_setting = 1

-- deny TG013
SET is_superuser = on

-- deny TG013
SET server_version = 1

-- deny TG013
SET max_parallel_workers = 8

-- deny TG013
SET plpgsql.extra_errors = 'all'

-- deny TG013
RESET work_mem

-- deny TG013
SET work_mem TO DEFAULT

-- deny TG013
SET password_encryption = md5

-- deny TG013
SET exit_on_error = on

-- deny TG013
SET seed = 0.5

-- deny TG013
RESET transaction_isolation

-- deny TG013
SET dynamic_library_path = '/tmp'

-- deny TG013
SET tenantgate.reason = 'x'

-- deny TG014
SET client_encoding = 'SJIS'

-- deny TG014
SET NAMES 'GBK'

-- deny TG014
SET client_encoding TO latin1

-- deny TG014
SET client_encoding = ''

-- deny TG014
SET standard_conforming_strings = off

-- deny TG014
SET standard_conforming_strings TO 0

-- deny TG014
SET LOCAL standard_conforming_strings = 'no'

-- deny TG014
SET search_path = pg_temp

-- deny TG014
SET search_path = public, pg_temp

-- deny TG014
SET search_path = "pg_temp", public

-- deny TG014
SET search_path = pg_temp_3

-- deny TG014
SET search_path = evil, pg_catalog

-- deny TG014
SET LOCAL search_path TO evil, "pg_catalog"

-- deny TG014
SET SCHEMA 'pg_temp'

-- allow setting
SET TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE

-- allow setting
SET TIME ZONE INTERVAL '+00:00' HOUR TO MINUTE

-- allow setting
SET TIME ZONE INTERVAL '5:30'

-- deny TG014
SET TIME ZONE INTERVAL '5' HOUR

-- deny TG014
SET TIME ZONE INTERVAL '1 day'

-- deny TG014
SET TIME ZONE INTERVAL '00:00''; DROP TABLE t' HOUR TO MINUTE

-- deny TG014
SET TIME ZONE INTERVAL(3) '05:00'

-- deny TG014
SET timezone FROM CURRENT

-- deny TG014
SET statement_timeout = 1, 2

-- deny TG014
SET timezone = 'a', 'b'

-- allow setting
SET search_path = 'evil, pg_catalog'

-- allow setting
SET search_path = "PG_TEMP"

-- allow setting
SET search_path = 'a"b', c

-- allow show
SHOW role

-- allow show
SHOW session_authorization

-- allow show
SHOW row_security

-- deny TG014 client_min_messages
SET client_min_messages = log

-- deny TG014 client_min_messages
SET LOCAL client_min_messages TO DEBUG5

-- deny TG014 extension
SET search_path = public, "cron"; SELECT schedule('* * * * *', 'select 1')

-- deny TG011
SET app.tenant_id FROM CURRENT
