-- System relations that show other sessions, other tenants or secrets.

-- deny TG018
SELECT * FROM pg_stat_activity

-- deny TG018
SELECT * FROM pg_catalog.pg_stat_activity

-- deny TG018
SELECT * FROM "pg_stat_activity"

-- deny TG018
SELECT * FROM PG_STAT_ACTIVITY

-- deny TG018
SELECT * FROM public.pg_stat_activity

-- deny TG018
SELECT * FROM pg_stat_all_tables

-- deny TG018
SELECT * FROM pg_stat_user_tables

-- deny TG018
SELECT * FROM pg_stat_database

-- deny TG018
SELECT * FROM pg_stat_replication

-- deny TG018
SELECT * FROM pg_stat_ssl

-- deny TG018
SELECT * FROM pg_stat_progress_copy

-- deny TG018
SELECT * FROM pg_statio_user_tables

-- deny TG018
SELECT * FROM pg_stat_statements

-- deny TG018
SELECT * FROM public.pg_stat_statements

-- deny TG018
SELECT * FROM pg_statistic

-- deny TG018
SELECT * FROM pg_stats

-- deny TG018
SELECT * FROM pg_stats_ext

-- deny TG018
SELECT * FROM pg_statistic_ext_data

-- deny TG018
SELECT * FROM pg_locks

-- deny TG018
SELECT * FROM pg_prepared_statements

-- deny TG018
SELECT * FROM pg_prepared_xacts

-- deny TG018
SELECT * FROM pg_authid

-- deny TG018
SELECT * FROM pg_shadow

-- deny TG018
SELECT * FROM pg_user_mapping

-- deny TG018
SELECT * FROM pg_user_mappings

-- deny TG018
SELECT * FROM pg_largeobject

-- deny TG018
SELECT * FROM pg_largeobject_metadata

-- deny TG018
SELECT * FROM pg_hba_file_rules

-- deny TG018
SELECT * FROM pg_file_settings

-- deny TG018
SELECT * FROM pg_ident_file_mappings

-- deny TG018
SELECT * FROM pg_replication_slots

-- deny TG018
SELECT * FROM pg_replication_origin_status

-- deny TG018
SELECT * FROM pg_subscription

-- deny TG018
SELECT * FROM pg_backend_memory_contexts

-- deny TG018
SELECT * FROM pg_shmem_allocations

-- deny TG018
SELECT * FROM pg_config

-- deny TG018
SELECT * FROM pg_sequences

-- deny TG018
SELECT * FROM pg_db_role_setting

-- deny TG018
SELECT * FROM pg_stat_io

-- deny TG018
SELECT * FROM pg_aios

-- deny TG018
SELECT * FROM pg_toast.pg_toast_1234

-- deny TG018
SELECT * FROM pg_temp_1.x

-- deny TG018
SELECT * FROM pg_made_up

-- deny TG018
SELECT * FROM pg_buffercache

-- deny TG018
SELECT * FROM information_schema.user_mapping_options

-- deny TG018
SELECT * FROM pg_catalog.made_up

-- deny TG018
TABLE pg_locks

-- deny TG018
COPY pg_authid TO STDOUT

-- deny TG018
COPY (SELECT * FROM pg_stats) TO STDOUT

-- deny TG018
SELECT 1 WHERE EXISTS (SELECT 1 FROM pg_locks)

-- deny TG018
WITH x AS (SELECT * FROM pg_stat_activity) SELECT * FROM x

-- deny TG018
WITH pg_stat_activity AS (SELECT 1) SELECT * FROM pg_stat_activity

-- deny TG018
INSERT INTO t SELECT query FROM pg_stat_activity

-- deny TG018
DELETE FROM t USING pg_locks

-- deny TG018
UPDATE t SET a = 1 FROM pg_locks

-- deny TG018
MERGE INTO t USING pg_locks l ON true WHEN MATCHED THEN DELETE

-- deny TG018
DECLARE c CURSOR FOR TABLE pg_stat_activity

-- deny TG018
SELECT (SELECT query FROM pg_stat_activity LIMIT 1)

-- deny TG018
SELECT a FROM t JOIN LATERAL (SELECT * FROM pg_stat_activity) x ON true

-- deny TG018
DELETE FROM pg_statistic

-- deny TG018
SELECT * FROM mydb.pg_catalog.pg_stat_activity

-- deny TG018
SELECT 1 UNION SELECT pid FROM pg_locks

-- deny TG018
SELECT * FROM ONLY pg_locks

-- deny TG018
SELECT * FROM pg_stat_activity TABLESAMPLE system (1)

-- deny TG019
UPDATE pg_class SET relname = 'x'

-- deny TG019
DELETE FROM pg_catalog.pg_proc

-- deny TG019
INSERT INTO pg_type DEFAULT VALUES

-- deny TG019
UPDATE information_schema.sql_features SET comments = 'x'

-- deny TG019
COPY pg_class FROM STDIN

-- allow select
SELECT c.oid, a.*, s.* FROM pg_class AS c, pg_attribute AS a, pg_settings AS s

-- deny TG018 estimates
SELECT * FROM pg_class, pg_attribute, pg_settings

-- allow select
SELECT * FROM information_schema.tables

-- allow select
SELECT 'pg_stat_activity'::text

-- allow select
SELECT pg_stat_activity FROM t

-- allow select
SELECT * FROM t pg_locks

-- allow select
SELECT a AS pg_locks FROM t

-- deny TG018 pg_stat_statements
SELECT query FROM pg_stat_statements WHERE EXISTS (WITH pg_stat_statements AS (SELECT 1) SELECT 1)

-- deny TG018 pg_stat_statements
WITH a AS (SELECT query FROM pg_stat_statements), pg_stat_statements AS (SELECT 1) SELECT * FROM a

-- deny TG018 user_mapping_options
SET search_path = information_schema; SELECT * FROM user_mapping_options

-- allow select
WITH RECURSIVE pg_numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM pg_numbers WHERE n < 3) SELECT n FROM pg_numbers

-- allow select
WITH pg_a AS (SELECT 1), b AS (SELECT * FROM pg_a) SELECT * FROM b WHERE EXISTS (SELECT FROM pg_a)

-- deny TG018 pg_a
WITH b AS (WITH pg_a AS (SELECT 1) SELECT * FROM pg_a) SELECT * FROM b, pg_a

-- deny TG018 pg_a
SELECT (WITH pg_a AS (SELECT 1) SELECT count(*) FROM pg_a) FROM public.pg_a

-- deny TG018 pg_a
WITH pg_a AS (SELECT * FROM pg_a) SELECT * FROM pg_a

-- estimates behind a second look at pg_class, and without SELECT

-- deny TG018
SELECT b.* FROM pg_class a, pg_class b

-- deny TG018
SELECT to_jsonb(b) FROM pg_class a, pg_class b

-- deny TG018
SELECT b.c11 FROM pg_class a, pg_class b(c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11)

-- deny TG018
INSERT INTO t SELECT b.* FROM pg_class a, pg_class b

-- deny TG018
COPY pg_class TO STDOUT

-- deny TG018
COPY pg_class (oid, reltuples) TO STDOUT

-- deny TG018
UPDATE t SET a = 1 FROM pg_class RETURNING *

-- deny TG018
DELETE FROM t USING pg_class c JOIN x ON true RETURNING *

-- deny TG018
MERGE INTO t USING pg_class c ON c.relname = t.name WHEN MATCHED THEN DO NOTHING RETURNING *

-- allow copy_out
COPY pg_class (oid, relname) TO STDOUT

-- allow update
UPDATE t SET a = 1 FROM pg_class c WHERE c.relname = t.name RETURNING t.*
