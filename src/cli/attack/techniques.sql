-- What a client may try as tenant A. One technique a paragraph: its name, then a Query a line; `!` marks the line that must not help.
-- {t}: the probe table. {s}: the tenant's setting. {o}, {m}: the other tenant's and the own one, as literals. No other table is written to.

-- the other tenant's rows by name
! SELECT note FROM {t} WHERE tenant = {o}

-- a row for the other tenant
! INSERT INTO {t} (tenant, note) VALUES ({o}, 'from a')

-- a row given to the other tenant
! UPDATE {t} SET tenant = {o}, note = 'from a' RETURNING note

-- the other tenant's rows changed
! UPDATE {t} SET note = 'from a' WHERE tenant = {o}

-- the other tenant's rows deleted
! DELETE FROM {t} WHERE tenant = {o}

-- an upsert over the key
! INSERT INTO {t} (id, tenant, note) VALUES (2, {m}, 'from a') ON CONFLICT (id) DO UPDATE SET note = 'from a' RETURNING note

-- MERGE over the key
! MERGE INTO {t} x USING (VALUES (2)) v(id) ON x.id = v.id WHEN MATCHED THEN UPDATE SET note = 'from a' WHEN NOT MATCHED THEN DO NOTHING

-- SET
! SET {s} = {o}
! SELECT note FROM {t}

-- SET LOCAL
BEGIN
! SET LOCAL {s} = {o}
! SELECT note FROM {t}

-- SET behind a statement
BEGIN
SELECT count(*) FROM {t}
! SET LOCAL {s} = {o}
! SELECT note FROM {t}

-- RESET
! RESET {s}
! SELECT note FROM {t}

-- SET TO DEFAULT
! SET {s} TO DEFAULT
! SELECT note FROM {t}

-- RESET ALL
RESET ALL
! SELECT note FROM {t} WHERE tenant = {o}

-- DISCARD ALL
DISCARD ALL
! SELECT note FROM {t} WHERE tenant = {o}

-- set_config
! SELECT set_config('{s}', {o}::text, false)
! SELECT note FROM {t}

-- set_config in the same statement
! SELECT set_config('{s}', {o}::text, true), (SELECT string_agg(note, ',') FROM {t})

-- set_config in a CTE
! WITH x AS MATERIALIZED (SELECT set_config('{s}', {o}::text, true) AS c) SELECT note FROM {t}, x WHERE c IS NOT NULL

-- set_config in a WHERE
! SELECT note FROM {t} WHERE set_config('{s}', {o}::text, true) IS NOT NULL

-- set_config in a JOIN
! SELECT note FROM {t} JOIN LATERAL (SELECT set_config('{s}', {o}::text, true)) c ON true

-- set_config in VALUES
! VALUES (set_config('{s}', {o}::text, true))
! SELECT note FROM {t}

-- set_config in ORDER BY
! SELECT note FROM {t} ORDER BY set_config('{s}', {o}::text, true)

-- set_config in an aggregate
! SELECT max(set_config('{s}', {o}::text, true)) FROM generate_series(1, 2)
! SELECT note FROM {t}

-- set_config in a window
! SELECT first_value(set_config('{s}', {o}::text, true)) OVER () FROM generate_series(1, 2)
! SELECT note FROM {t}

-- set_config in RETURNING
BEGIN
! INSERT INTO {t} (tenant, note) VALUES ({m}, 'x') RETURNING set_config('{s}', {o}::text, true)
! SELECT note FROM {t}

-- set_config in COPY
! COPY (SELECT set_config('{s}', {o}::text, false)) TO STDOUT
! SELECT note FROM {t}

-- set_config by Unicode escapes
! SELECT U&"\0073et_config"('{s}', {o}::text, false)
! SELECT note FROM {t}

-- set_config by its schema
! SELECT pg_catalog . "set_config" ('{s}', {o}::text, false)
! SELECT note FROM {t}

-- set_config with a name that is computed
! SELECT set_config(lower(upper('{s}')), {o}::text, false)
! SELECT note FROM {t}

-- set_config by named arguments
! SELECT set_config(is_local => false, new_value => {o}::text, setting_name => '{s}')
! SELECT note FROM {t}

-- set_config in EXPLAIN ANALYZE
! EXPLAIN ANALYZE SELECT set_config('{s}', {o}::text, false)
! SELECT note FROM {t}

-- set_config in a prepared statement
! PREPARE tg_attack AS SELECT set_config('{s}', {o}::text, false)
! EXECUTE tg_attack
! SELECT note FROM {t}

-- set_config in a cursor
BEGIN
! DECLARE c CURSOR FOR SELECT set_config('{s}', {o}::text, true)
! FETCH ALL FROM c
! SELECT note FROM {t}

-- the settings' view
! UPDATE pg_settings SET setting = {o}::text WHERE name = '{s}'
! SELECT note FROM {t}

-- behind a COMMIT
! SELECT 1; COMMIT; SET {s} = {o}; SELECT note FROM {t}

-- behind a ROLLBACK
BEGIN
! ROLLBACK; SELECT set_config('{s}', {o}::text, false); SELECT note FROM {t}

-- COMMIT AND CHAIN
BEGIN
SELECT count(*) FROM {t}
COMMIT AND CHAIN
! SELECT note FROM {t} WHERE tenant = {o}

-- ROLLBACK AND CHAIN
BEGIN
SELECT count(*) FROM {t}
ROLLBACK AND CHAIN
! SELECT note FROM {t} WHERE tenant = {o}

-- a savepoint gone back to
BEGIN
SAVEPOINT s
SELECT count(*) FROM {t}
ROLLBACK TO s
! SELECT note FROM {t} WHERE tenant = {o}

-- a failed block
BEGIN
SELECT 1/0
! SELECT note FROM {t}
ROLLBACK
! SELECT note FROM {t} WHERE tenant = {o}

-- READ ONLY
BEGIN READ ONLY
! SELECT note FROM {t} WHERE tenant = {o}

-- row_security off
! SET row_security = off
! SELECT note FROM {t}

-- another role
! SET ROLE postgres
! SELECT note FROM {t}

-- another session user
! SET SESSION AUTHORIZATION postgres
! SELECT note FROM {t}

-- no role
! SET ROLE NONE
! SELECT note FROM {t} WHERE tenant = {o}

-- a search path in front of PostgreSQL's own
! SET search_path = pg_temp, public, pg_catalog
! SELECT note FROM {t} WHERE tenant = {o}

-- strings read otherwise
! SET standard_conforming_strings = off
! SELECT '\'; SELECT set_config(''{s}'', {o}::text, false); --'
! SELECT note FROM {t}

-- another encoding
! SET client_encoding = 'SJIS'
! SELECT note FROM {t} WHERE tenant = {o}

-- an anonymous block
! DO $$ BEGIN EXECUTE 'SET {s} = ' || quote_literal({o}::text); END $$
! SELECT note FROM {t}

-- an anonymous block that commits
! DO $$ BEGIN COMMIT; PERFORM set_config('{s}', {o}::text, false); END $$
! SELECT note FROM {t}

-- query_to_xml
! SELECT query_to_xml('SELECT set_config(''{s}'', ' || quote_literal({o}::text) || ', false)', true, true, '')
! SELECT note FROM {t}

-- query_to_xml over the table
! SELECT query_to_xml('SELECT note FROM {t}', true, true, '')

-- table_to_xml
! SELECT table_to_xml('{t}', true, true, '')

-- ts_stat
! SELECT * FROM ts_stat('SELECT to_tsvector(set_config(''{s}'', ' || quote_literal({o}::text) || ', false))')
! SELECT note FROM {t}

-- a function of one's own
! CREATE FUNCTION pg_temp.f() RETURNS text LANGUAGE sql AS $$ SELECT set_config('{s}', {o}::text, false) $$
! SELECT pg_temp.f()
! SELECT note FROM {t}

-- an aggregate of one's own
! CREATE AGGREGATE pg_temp.g(text, text, bool) (sfunc = set_config, stype = text)
! SELECT note FROM {t} WHERE tenant = {o}

-- a function that sees rows first
! CREATE FUNCTION pg_temp.peek(text) RETURNS bool LANGUAGE plpgsql COST 0.0000001 AS $$ BEGIN RAISE NOTICE '%', $1; RETURN true; END $$
! SELECT note FROM {t} WHERE pg_temp.peek(note)

-- an error that says a value
! SELECT note::int FROM {t} WHERE tenant = {o}

-- a view of one's own
! CREATE TEMP VIEW tg_attack AS SELECT note FROM {t}
! SELECT * FROM tg_attack WHERE note IS NOT NULL

-- a table in front of the table
! CREATE TEMP TABLE notes (LIKE {t})
! SELECT note FROM {t} WHERE tenant = {o}

-- a cursor WITH HOLD
! DECLARE tg_attack CURSOR WITH HOLD FOR SELECT note FROM {t}
! FETCH ALL FROM tg_attack

-- policies switched off
! ALTER TABLE {t} DISABLE ROW LEVEL SECURITY
! SELECT note FROM {t}

-- a policy of one's own
! CREATE POLICY tg_attack ON {t} USING (true)
! SELECT note FROM {t}

-- policies not for the owner
! ALTER TABLE {t} NO FORCE ROW LEVEL SECURITY
! SELECT note FROM {t} WHERE tenant = {o}

-- the rows' counts
! EXPLAIN (ANALYZE, TIMING off) SELECT note FROM {t}

-- statistics
! SELECT most_common_vals::text FROM pg_stats WHERE tablename = 'notes'

-- statistics' table
! SELECT stavalues1::text FROM pg_statistic

-- other sessions
! SELECT query FROM pg_stat_activity

-- statements of others
! SELECT query FROM pg_stat_statements

-- a lock
BEGIN
! LOCK TABLE {t} IN ACCESS EXCLUSIVE MODE

-- TABLESAMPLE
! SELECT note FROM {t} TABLESAMPLE SYSTEM (100) WHERE tenant = {o}

-- a row's place
! SELECT note FROM {t} WHERE ctid = '(0,2)'

-- a whole row
! SELECT x FROM {t} x WHERE id = 2

-- FOR UPDATE
! SELECT note FROM {t} WHERE id = 2 FOR UPDATE

-- a large object
! SELECT lo_from_bytea(0, 'x')

-- a file
! COPY {t} TO '/tmp/tenantgate_attack'

-- a program
! COPY {t} TO PROGRAM 'cat'

-- the table copied out
! COPY {t} (note) TO STDOUT

-- a query copied out
! COPY (SELECT note FROM {t} WHERE tenant = {o}) TO STDOUT

-- dblink
! SELECT * FROM dblink('', 'SELECT note FROM {t}') AS x(note text)

-- a prepared transaction
BEGIN
INSERT INTO {t} (tenant, note) VALUES ({m}, 'prepared')
! PREPARE TRANSACTION 'tg_attack'

-- generic plans
SET plan_cache_mode = force_generic_plan
! SELECT note FROM {t} WHERE tenant = {o}

-- parallel workers
SET max_parallel_workers_per_gather = 4
SET parallel_setup_cost = 0
! SELECT count(*), max(note) FROM {t} WHERE tenant = {o}

-- the seal's keys
! SELECT * FROM tenantgate.key

-- a ticket of nobody's
BEGIN
! SELECT tenantgate.tenant_id()

-- the seal's settings
SET tenantgate.tenant = 'x'
! SET tenantgate.seal = '0'
! SELECT note FROM {t} WHERE tenant = {o}

-- the seal's settings in the transaction
BEGIN
SELECT count(*) FROM {t}
! SELECT set_config('tenantgate.tenant', {o}::text, true)
! SELECT note FROM {t}

-- the seal's latch
! SELECT setval('tenantgate.latch', 1)
! SELECT nextval('tenantgate.latch')

-- the vault
! SET ROLE tenantgate_vault
! SELECT * FROM tenantgate.key

-- a bypass setting
! SET app.bypass_rls = 'true'
! SELECT note FROM {t}

-- a bypass by set_config
! SELECT set_config('app.bypass_rls', 'true', false)
! SELECT note FROM {t}

-- the table emptied
! TRUNCATE {t}

-- every row changed, none looked at
! UPDATE {t} SET note = 'from a'

-- every row given away, none looked at
! UPDATE {t} SET tenant = {o}, note = 'from a'

-- every row deleted, none looked at
! DELETE FROM {t}
