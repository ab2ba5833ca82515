-- Session statements of drivers and ORMs, as their sources have them.

-- allow setting
SET extra_float_digits = 3

-- allow setting
SET application_name = 'PostgreSQL JDBC Driver'

-- allow setting
SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY

-- allow setting
SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ

-- allow setting
SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE READ WRITE NOT DEFERRABLE

-- allow setting
SET client_min_messages TO 'warning'

-- allow setting
SET client_min_messages = 'panic'

-- allow setting
SET standard_conforming_strings = on

-- allow setting
SET intervalstyle = iso_8601

-- allow setting
SET SESSION timezone TO 'UTC'

-- allow setting
SET SESSION intervalstyle = 'iso_8601'

-- allow setting
SET TIME ZONE 'UTC'

-- allow setting
SET TIME ZONE 'America/New_York'

-- allow setting
SET TIME ZONE DEFAULT

-- allow setting
SET TIME ZONE LOCAL

-- allow setting
SET TIME ZONE -7

-- allow setting
SET TIME ZONE 5.5

-- allow setting
SET TIME ZONE utc

-- allow setting
SET TimeZone = 'Europe/Berlin'

-- allow setting
SET "TimeZone" TO 'UTC'

-- allow setting
SET NAMES 'UTF8'

-- allow setting
SET NAMES 'utf8'

-- allow setting
set client_encoding to 'UTF8'

-- allow setting
SET client_encoding TO 'utf-8'

-- allow setting
SET client_encoding = unicode

-- allow setting
SET NAMES

-- allow setting
SET datestyle TO ISO

-- allow setting
SET DateStyle = 'ISO, MDY'

-- allow setting
SET datestyle = iso, dmy

-- allow setting
SET bytea_output = 'hex'

-- allow setting
SET search_path TO tenant_a, public

-- allow setting
SET search_path = ''

-- allow setting
SET search_path TO "$user", public

-- allow setting
SET search_path TO 'public'

-- allow setting
SET SCHEMA 'public'

-- allow setting
SET search_path TO pg_catalog, public

-- allow setting
SET LOCAL search_path = shop

-- allow setting
SET statement_timeout = 5000

-- allow setting
SET statement_timeout TO '5s'

-- allow setting
SET LOCAL statement_timeout = '30s'

-- allow setting
SET lock_timeout = '1s'

-- allow setting
SET idle_in_transaction_session_timeout = 60000

-- allow setting
SET transaction_timeout = '1min'

-- allow setting
SET default_transaction_isolation TO 'repeatable read'

-- allow setting
SET default_transaction_read_only = on

-- allow setting
SET default_transaction_deferrable = off

-- allow setting
SET synchronous_commit TO off

-- allow setting
SET jit = off

-- allow setting
SET plan_cache_mode = force_custom_plan

-- allow setting
SET xmloption = document

-- allow setting
SET XML OPTION CONTENT

-- allow setting
SET lc_time = 'de_DE.UTF-8'

-- allow setting
SET escape_string_warning = off

-- allow setting
RESET statement_timeout

-- allow setting
RESET ALL

-- allow setting
RESET TIME ZONE

-- allow setting
RESET search_path

-- allow setting
SET statement_timeout TO DEFAULT

-- allow setting
SET LOCAL timezone TO DEFAULT

-- allow setting
RESET client_encoding

-- allow setting
RESET application_name

-- allow select
SELECT t.oid, t.typname, t.typsend, t.typreceive, t.typoutput, t.typinput, coalesce(d.typelem, t.typelem), coalesce(r.rngsubtype, 0), ARRAY (SELECT a.atttypid FROM pg_attribute AS a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum) FROM pg_type AS t LEFT JOIN pg_type AS d ON t.typbasetype = d.oid LEFT JOIN pg_range AS r ON r.rngtypid = t.oid WHERE t.oid > 10000

-- allow select
SELECT t.typname, t.typtype, t.typelem, r.rngsubtype, t.typbasetype, n.nspname, t.typrelid FROM pg_catalog.pg_type t LEFT OUTER JOIN pg_catalog.pg_range r ON r.rngtypid = t.oid INNER JOIN pg_catalog.pg_namespace n ON t.typnamespace = n.oid WHERE t.oid = $1

-- allow select
SELECT typname, oid, typarray, oid::regtype::text AS regtype, typdelim AS delim FROM pg_type t WHERE t.oid = to_regtype($1) ORDER BY t.oid

-- allow select
select pg_catalog.version()

-- allow select
select current_schema()

-- allow select
SELECT 1

-- allow select
SELECT pg_catalog.pg_class.relname FROM pg_catalog.pg_class JOIN pg_catalog.pg_namespace ON pg_catalog.pg_namespace.oid = pg_catalog.pg_class.relnamespace WHERE pg_catalog.pg_class.relkind = ANY (ARRAY['r', 'p']) AND pg_catalog.pg_class.relpersistence != 't' AND pg_catalog.pg_table_is_visible(pg_catalog.pg_class.oid)

-- allow select
SELECT a.attname, format_type(a.atttypid, a.atttypmod), pg_get_expr(d.adbin, d.adrelid), a.attnotnull, a.atttypid, a.atttypmod, c.collname, col_description(a.attrelid, a.attnum) AS comment, attidentity AS identity, attgenerated as attgenerated FROM pg_attribute a LEFT JOIN pg_attrdef d ON a.attrelid = d.adrelid AND a.attnum = d.adnum LEFT JOIN pg_type t ON a.atttypid = t.oid LEFT JOIN pg_collation c ON a.attcollation = c.oid AND a.attcollation <> t.typcollation WHERE a.attrelid = '"users"'::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum

-- allow select
SELECT t.oid, t.typname, t.typelem, t.typdelim, t.typinput, r.rngsubtype, t.typtype, t.typbasetype FROM pg_type as t LEFT JOIN pg_range as r ON oid = rngtypid WHERE t.typname IN ('int2', 'int4')

-- allow select
SELECT c.relname, CASE WHEN c.relispartition THEN 'p' WHEN c.relkind IN ('m', 'v') THEN 'v' ELSE 't' END, obj_description(c.oid, 'pg_class') FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('f', 'm', 'p', 'r', 'v') AND n.nspname NOT IN ('pg_catalog', 'pg_toast') AND pg_catalog.pg_table_is_visible(c.oid)

-- allow select
SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'

-- allow select
SELECT ns.nspname, t.oid, t.typname, t.typtype, t.typnotnull, t.elemtypoid FROM (SELECT typ.oid, typ.typnamespace, typ.typname, typ.typtype, typ.typrelid, typ.typnotnull, typ.relkind, elemtyp.oid AS elemtypoid FROM (SELECT typ.*, typ.oid, cls.relkind, CASE WHEN proc.proname='array_recv' THEN 'a' ELSE typ.typtype END AS typtype FROM pg_type AS typ LEFT JOIN pg_class AS cls ON (cls.oid = typ.typrelid) LEFT JOIN pg_proc AS proc ON proc.oid = typ.typreceive) AS typ LEFT JOIN pg_type AS elemtyp ON elemtyp.oid = typ.typelem) AS t JOIN pg_namespace AS ns ON (ns.oid = typnamespace)

-- allow select
SELECT e.enumlabel FROM pg_enum e JOIN pg_type t ON e.enumtypid = t.oid

-- allow select
SELECT name, setting FROM pg_settings WHERE name = 'TimeZone'

-- allow select
SELECT rolname FROM pg_roles

-- allow select
SELECT extname, extversion FROM pg_extension

-- allow select
SELECT TRUE FROM pg_available_extensions WHERE name = 'hstore'

-- allow select
SELECT policyname, qual FROM pg_policies

-- allow select
SELECT n.nspname FROM pg_namespace n WHERE n.nspname !~ '^pg_'

-- allow select
SELECT conname, pg_get_constraintdef(c.oid) FROM pg_constraint c WHERE contype = 'f'

-- allow select
SELECT indexdef FROM pg_indexes WHERE tablename = 'x'

-- allow select
SELECT inhparent FROM pg_inherits

-- allow select
SELECT tablename FROM pg_tables

-- allow select
SELECT viewname FROM pg_views

-- allow select
SELECT pg_get_viewdef('v'::regclass, true), pg_get_indexdef(1), pg_get_functiondef(2)

-- allow select
SELECT description FROM pg_description

-- allow select
SELECT * FROM information_schema.role_table_grants

-- allow select
SELECT datname FROM pg_database

-- allow select
SELECT pubname FROM pg_publication

-- allow select
SELECT stxname FROM pg_statistic_ext

-- allow select
SELECT collname FROM pg_collation

-- allow select
SELECT name FROM pg_timezone_names

-- allow select
SELECT tgname FROM pg_trigger

-- allow select
SELECT name FROM pg_cursors

-- allow select
SELECT prosrc FROM pg_proc

-- allow select
SELECT amname FROM pg_am

-- allow select
SELECT oid FROM pg_opclass

-- allow show
SHOW TIMEZONE

-- allow show
SHOW max_identifier_length

-- allow show
SHOW standard_conforming_strings

-- allow show
show transaction isolation level

-- allow show
SHOW server_version_num

-- allow setting setting
SET client_encoding TO 'UTF8'; SET datestyle TO 'ISO'

-- allow setting setting setting setting
SET standard_conforming_strings = on;SET client_min_messages = warning;SET timezone TO 'UTC';SET intervalstyle = iso_8601

-- allow transaction select transaction
BEGIN; SELECT pg_advisory_xact_lock(5); COMMIT

-- allow setting setting
SET client_min_messages TO warning;SET TIME ZONE INTERVAL '+00:00' HOUR TO MINUTE;

-- allow setting
SELECT set_config('TimeZone', 'Europe/Berlin', false)

-- allow setting
SELECT
                        current_setting('jit') AS cur,
                        set_config('jit', 'off', false) AS new

-- allow setting
SELECT
                    set_config('jit', $1, false)

-- allow advisory_unlock_all close_cursor unlisten setting
SELECT pg_advisory_unlock_all();
CLOSE ALL;
UNLISTEN *;
RESET ALL;

-- deny TG017 lastval
SELECT LASTVAL()

-- deny TG017 currval
SELECT CURRVAL($1)

-- deny TG017 WITH HOLD
DECLARE _django_curs_1 NO SCROLL CURSOR WITH HOLD FOR SELECT 1

-- deny TG017 pg_try_advisory_lock
SELECT pg_try_advisory_lock(2525890210245)

-- deny TG018 pg_statio_all_tables
SELECT st.relid FROM pg_catalog.pg_statio_all_tables AS st
