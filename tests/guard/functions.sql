-- Functions with effects beyond the rows of the tenant.

-- deny TG016
SELECT query_to_xml('select 1', true, true, '')

-- deny TG016
SELECT pg_catalog.query_to_xmlschema('x', true, true, '')

-- deny TG016
SELECT query_to_xml_and_xmlschema('x', true, true, '')

-- deny TG016
SELECT cursor_to_xml('c', 1, true, true, '')

-- deny TG016
SELECT cursor_to_xmlschema('c', true, true, '')

-- deny TG016
SELECT table_to_xml('pg_stat_activity', true, true, '')

-- deny TG016
SELECT schema_to_xml('public', true, true, '')

-- deny TG016
SELECT database_to_xml(true, true, '')

-- deny TG016
SELECT ts_rewrite('a'::tsquery, 'select x, y from z')

-- deny TG016
SELECT * FROM ts_stat('select set_config(''a'', ''b'', true)')

-- deny TG016
SELECT * FROM dblink('host=x', 'select 1') AS t(a int)

-- deny TG016
SELECT dblink_connect('x')

-- deny TG016
SELECT public.dblink_exec('update t set a = 1')

-- deny TG016
SELECT dblink_send_query('c', 'x')

-- deny TG016
SELECT * FROM crosstab('select 1') AS t(a int)

-- deny TG016
SELECT crosstab2('x')

-- deny TG016
SELECT * FROM connectby('t', 'a', 'b', 'c', 0) AS x(a int)

-- deny TG016
SELECT * FROM xpath_table('a', 'b', 'c', 'd', 'e') AS x(a int)

-- deny TG016
SELECT pg_background_launch('vacuum')

-- deny TG016
SELECT run_command_on_workers('x')

-- deny TG016
SELECT cron.schedule('* * * * *', 'delete from t')

-- deny TG016
SELECT ('select 1'::text).ts_stat

-- deny TG016
SELECT t.ts_stat FROM unnest(ARRAY['select 1']) t

-- deny TG016
SELECT query_to_xml(a, b, c, d) FROM t

-- deny TG016
DO $$ BEGIN EXECUTE 'set_' || 'config' ; END $$

-- deny TG016
DO LANGUAGE plpgsql 'begin end'

-- deny TG017
SELECT pg_advisory_lock(1)

-- deny TG017
SELECT pg_catalog.pg_try_advisory_lock(1, 2)

-- deny TG017
SELECT pg_advisory_lock_shared(1)

-- deny TG017
SELECT pg_try_advisory_lock_shared(1)

-- deny TG017
SELECT pg_advisory_unlock(1)

-- deny TG017
SELECT pg_advisory_unlock_shared(1)

-- deny TG017
SELECT pg_advisory_unlock_all(), 1

-- deny TG017
SELECT pg_advisory_unlock_all() AS x

-- deny TG017
SELECT pg_advisory_unlock_all() FROM t

-- deny TG017
SELECT pg_advisory_unlock_all() WHERE true

-- deny TG017
SELECT DISTINCT pg_advisory_unlock_all()

-- deny TG017
SELECT public.pg_advisory_unlock_all()

-- deny TG017
SELECT pg_advisory_unlock_all(1)

-- deny TG017
SELECT (SELECT pg_advisory_unlock_all())

-- deny TG017
SELECT * FROM pg_advisory_unlock_all()

-- deny TG017
SELECT pg_advisory_unlock_all() LIMIT 1

-- deny TG017
SELECT pg_advisory_unlock_all() UNION SELECT 1

-- deny TG017
SELECT pg_advisory_unlock_all() INTO t

-- deny TG017
SELECT pg_advisory_unlock_all() OVER ()

-- deny TG017
SELECT currval('s')

-- deny TG017
SELECT lastval()

-- deny TG017
SELECT setseed(0.5)

-- deny TG017
SELECT pg_export_snapshot()

-- deny TG017
SELECT pg_listening_channels()

-- deny TG017
SELECT (1::bigint).pg_advisory_lock

-- deny TG017
SELECT t.pg_advisory_lock FROM generate_series(1, 2) t

-- deny TG015 pg_temp
SELECT pg_temp.f()

-- deny TG015 pg_temp
SELECT * FROM pg_temp.f()

-- deny TG017
SELECT 1 OPERATOR(pg_temp.+) 2

-- deny TG017
SELECT 'x'::pg_temp.t

-- deny TG017
WITH x AS (SELECT 1) SELECT pg_advisory_unlock_all()

-- deny TG017
SELECT 1 WHERE pg_try_advisory_lock(1)

-- deny TG017
INSERT INTO t VALUES (lastval())

-- deny TG017
SELECT pg_advisory_unlock_all() FOR UPDATE

-- deny TG017
VALUES (pg_advisory_unlock_all())

-- deny TG015
SELECT pg_sleep(1)

-- deny TG015
SELECT pg_sleep_for('1 min')

-- deny TG015
SELECT pg_sleep_until(now())

-- deny TG015
SELECT (2::float8).pg_sleep

-- deny TG015
SELECT (123).pg_terminate_backend

-- deny TG015
SELECT pg_terminate_backend(1)

-- deny TG015
SELECT pg_cancel_backend(1)

-- deny TG015
SELECT pg_reload_conf()

-- deny TG015
SELECT pg_rotate_logfile()

-- deny TG015
SELECT pg_promote()

-- deny TG015
SELECT pg_log_backend_memory_contexts(1)

-- deny TG015
SELECT pg_read_file('/etc/passwd')

-- deny TG015
SELECT pg_read_binary_file('x')

-- deny TG015
SELECT * FROM pg_ls_dir('.')

-- deny TG015
SELECT pg_stat_file('x')

-- deny TG015
SELECT * FROM pg_ls_waldir()

-- deny TG015
SELECT pg_current_logfile()

-- deny TG015
SELECT lo_import('/etc/passwd')

-- deny TG015
SELECT lo_export(1, '/tmp/x')

-- deny TG015
SELECT lo_create(0)

-- deny TG015
SELECT lo_get(1)

-- deny TG015
SELECT lo_put(1, 0, 'x')

-- deny TG015
SELECT lo_from_bytea(0, 'x')

-- deny TG015
SELECT lo_unlink(1)

-- deny TG015
SELECT lo_open(1, 1)

-- deny TG015
SELECT loread(1, 2)

-- deny TG015
SELECT lowrite(1, 'x')

-- deny TG015
SELECT lo_manage()

-- deny TG015
SELECT pg_notify('c', 'x')

-- deny TG015
SELECT pg_logical_emit_message(true, 'a', 'b')

-- deny TG015
SELECT pg_create_logical_replication_slot('a', 'b')

-- deny TG015
SELECT pg_switch_wal()

-- deny TG015
SELECT pg_current_wal_lsn()

-- deny TG015
SELECT pg_backup_start('x')

-- deny TG015
SELECT pg_create_restore_point('x')

-- deny TG015
SELECT pg_replication_origin_session_setup('x')

-- deny TG015
SELECT * FROM pg_stat_get_activity(NULL)

-- deny TG015
SELECT pg_stat_get_live_tuples(1)

-- deny TG015
SELECT pg_stat_get_backend_activity(1)

-- deny TG015
SELECT pg_stat_reset()

-- deny TG015
SELECT pg_lock_status()

-- deny TG015
SELECT pg_blocking_pids(1)

-- deny TG015
SELECT pg_prepared_statement()

-- deny TG015
SELECT pg_show_all_file_settings()

-- deny TG015
SELECT pg_hba_file_rules()

-- deny TG015
SELECT pg_sequence_last_value('s'::regclass)

-- deny TG015
SELECT setval('s', 1)

-- deny TG015
SELECT binary_upgrade_set_next_pg_type_oid(1)

-- deny TG015
SELECT brin_summarize_new_values('i')

-- deny TG015
SELECT gin_clean_pending_list('i')

-- deny TG015
SELECT pg_import_system_collations('x')

-- deny TG015
SELECT pg_get_shmem_allocations()

-- deny TG015
SELECT pg_control_system()

-- deny TG015
SELECT fmgr_sql_validator(1)

-- deny TG015
SELECT plpgsql_call_handler()

-- deny TG015
SELECT pg_made_up_function()

-- deny TG015
SELECT pg_catalog.made_up_function()

-- deny TG015
SELECT public.pg_read_file('x')

-- deny TG015
SELECT pg_toast.f()

-- deny TG015
SELECT pg_stat_statements_reset()

-- deny TG015
SELECT pg_buffercache_pages()

-- deny TG015
SELECT pg_stat_force_next_flush()

-- deny TG015
SELECT pg_notification_queue_usage()

-- deny TG015
SELECT pg_last_committed_xact()

-- deny TG015
SELECT 1 FROM t ORDER BY pg_sleep(1)

-- deny TG015
UPDATE t SET a = pg_sleep(1)::text::int

-- deny TG015
DELETE FROM t WHERE pg_terminate_backend(1)

-- deny TG015
INSERT INTO t SELECT pg_read_file('x')

-- allow select
SELECT ts_rewrite('a'::tsquery, 'b', 'c')

-- allow select
SELECT xmlcomment('x')

-- allow select
SELECT pg_get_keywords()

-- allow select
SELECT pg_input_is_valid('1', 'int4')

-- allow select
SELECT pg_relation_size('t'), pg_database_size('x')

-- allow select
SELECT lower(upper('x'))

-- allow select
SELECT information_schema._pg_truetypid(a, b) FROM t

-- allow select
SELECT pg_table_is_visible(1), pg_encoding_to_char(6), pg_get_userbyid(10)

-- allow select
SELECT app.notify('x')

-- allow select
SELECT public.schedule('x')

-- allow select
SELECT json_populate_record(NULL::t, '{}')

-- allow select
SELECT hashtext('x'), width_bucket(1, 2, 3, 4)

-- allow select
SELECT pg_options_to_table(ARRAY['a=b'])

-- deny TG016
SELECT dbms_sql.execute(1)

-- deny TG015
SELECT dbms_pipe.send_message('x')

-- deny TG015
SELECT utl_file.fopen('/tmp', 'x', 'r')

-- allow select
SELECT SYSTEM_USER, COLLATION FOR ('a'), ('a', 'b') OVERLAPS ('c', 'd')

-- deny TG015 pg_stat_statements
SELECT (true).pg_stat_statements

-- deny TG015 pg_stat_statements
SELECT b.pg_stat_statements FROM unnest(ARRAY[true]) AS b

-- deny TG015 pg_stat_statements
SELECT (SELECT b.pg_stat_statements) FROM generate_series(1, 2), ROWS FROM (unnest(ARRAY[true])) b(x)

-- deny TG015 pg_visibility
SELECT generate_series.pg_visibility FROM generate_series(1, 2)

-- allow select
SELECT pg_catalog.pg_class.relname, pg_class.oid, pg_catalog.pg_type.* FROM pg_catalog.pg_class, pg_catalog.pg_type

-- deny TG017 set_limit
SELECT set_limit(0.9)

-- deny TG017 isn_weak
SELECT isn_weak(true)

-- deny TG017 pgv_set
SELECT pgv_set('a', 'b', 1)

-- deny TG017
SELECT postgres_fdw_disconnect_all()

-- deny TG016 pgr_dijkstra
SELECT * FROM pgr_dijkstra('SELECT set_config(''app.tenant_id'', ''x'', true)', 1, 2)

-- deny TG016
SELECT * FROM cypher('g', 'MATCH (n) RETURN n') AS (v text)

-- deny TG016
SELECT duckdb.raw_query('select 1')

-- deny TG015 pg_foo
SELECT "current_user".pg_foo FROM current_user

-- allow select
SELECT l.pg_rating FROM films l, current_user AS c

-- deny TG015 replication
SELECT pg_start_backup('of PostgreSQL 14')

-- deny TG015 replication
SELECT pg_stop_backup(), pg_backup_start_time(), pg_is_in_backup()
