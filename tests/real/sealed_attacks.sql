-- What a client may try on a sealed database, as tenant `a`, with any SQL. One technique a paragraph; each line is one Query.
-- @enter: the proxy's ticket for this transaction. @foreign, @expired, @forged, @pinned, @bypass: tickets that are none.
-- No line may show a row of `b` or change one; no ticket that is none may be taken; what says @no must fail.

-- nothing at all
@no SELECT note FROM notes
@no INSERT INTO notes (tenant, note) VALUES ('b', 'from a')
@no UPDATE notes SET note = 'from a'
@no DELETE FROM notes

-- the settings themselves
BEGIN
@enter
SET LOCAL tenantgate.tenant = 'b'
@no SELECT note FROM notes

-- the settings for the session
SET tenantgate.tenant = 'b'
SET tenantgate.seal = '0'
SET tenantgate.signed = '0'
@no SELECT note FROM notes
BEGIN
@no @enter
@no SELECT note FROM notes

-- set_config
BEGIN
@enter
SELECT set_config('tenantgate.tenant', 'b', true)
@no SELECT note FROM notes

-- a seal of one's own under another name
BEGIN
@enter
SELECT set_config('tenantgate.signed', current_setting('tenantgate.seal'), true), set_config('tenantgate.seal', '', true), set_config('tenantgate.tenant', 'b', true)
@no SELECT note FROM notes

-- the computed seal without the latch
BEGIN
@enter
SELECT set_config('tenantgate.seal', encode(sha256(int8send(n) || timestamptz_send(transaction_timestamp()) || textsend('b')), 'hex'), true) FROM generate_series(0, 10) n
SELECT set_config('tenantgate.tenant', 'b', true)
@no SELECT note FROM notes

-- the latch read
BEGIN
@enter
@no SELECT currval('tenantgate.latch')

-- the latch's relation
BEGIN
@enter
@no SELECT last_value FROM tenantgate.latch

-- the latch set
BEGIN
@enter
@no SELECT setval('tenantgate.latch', 1)

-- the latch moved on
BEGIN
@enter
@no SELECT nextval('tenantgate.latch')

-- the latch by its functions
BEGIN
@enter
SELECT pg_sequence_last_value('tenantgate.latch'::regclass)
@show SELECT last_value FROM pg_sequences WHERE schemaname = 'tenantgate'

-- lastval
BEGIN
@enter
@no SELECT lastval()

-- the latch forgotten
BEGIN
@enter
DISCARD SEQUENCES
@no SELECT note FROM notes

-- the keys
@no SELECT * FROM tenantgate.key

-- the seal's key
@no SELECT * FROM tenantgate.seal

-- keys by row
@no SELECT tenantgate.key FROM tenantgate.key

-- keys copied out
@no COPY tenantgate.key TO STDOUT

-- keys through statistics
@show SELECT * FROM pg_stats WHERE schemaname = 'tenantgate'

-- keys through the planner's statistics
@no SELECT * FROM pg_statistic WHERE starelid = 'tenantgate.key'::regclass

-- keys through XML
@no SELECT query_to_xml('SELECT * FROM tenantgate.key', true, true, '')

-- keys through a table's function
@no SELECT tenantgate.keys()

-- a key added
@no SELECT tenantgate.add_key('\x0000000000000000000000000000000000000000000000000000000000000000')

-- keys retired
@no SELECT tenantgate.retire_keys_except(0)

-- a key through the role
@no SET ROLE tenantgate_vault

-- the vault's session
@no SET SESSION AUTHORIZATION tenantgate_vault

-- the vault given away
@no GRANT tenantgate_vault TO app_user

-- rights given away
@no SELECT tenantgate.allow('app_user', 'bypass')

-- a function replaced
@no CREATE OR REPLACE FUNCTION tenantgate.tenant_id() RETURNS text LANGUAGE sql AS $$ SELECT 'b' $$

-- a function's options
@no ALTER FUNCTION tenantgate.tenant_id() RESET ALL

-- a function made invoker
@no ALTER FUNCTION tenantgate.tenant_id() SECURITY INVOKER

-- policies
@no ALTER TABLE notes DISABLE ROW LEVEL SECURITY

-- a policy of one's own
@no CREATE POLICY mine ON notes USING (true)

-- row_security
SET row_security = off
BEGIN
@enter
@no SELECT note FROM notes

-- the signature, asked for
BEGIN
@enter
@no SELECT tenantgate.signature('\x74', 'b')

-- what says why
@no SELECT tenantgate.refuse_ticket(0, now(), 0)

-- the part for no sequences
BEGIN
@enter
@no SELECT tenantgate.signed_tenant()

-- a ticket for another process
BEGIN
@no @foreign

-- a ticket that has expired
BEGIN
@no @expired

-- a ticket without a key
BEGIN
@no @forged

-- a ticket for a pinned server, said not to be
BEGIN
@no @pinned

-- a bypass with a tenant's rights
BEGIN
@no @bypass

-- twice in a transaction
BEGIN
@enter
@no @enter

-- twice, the first forgotten
BEGIN
@enter
SELECT set_config('tenantgate.seal', '', true)
@enter
SELECT note FROM notes

-- once more in the next one
BEGIN
@enter
COMMIT
@no SELECT note FROM notes
BEGIN
@again
SELECT note FROM notes

-- a context kept for the next transaction
BEGIN
@enter
SELECT set_config('x.seal', current_setting('tenantgate.seal'), false)
COMMIT
SELECT set_config('tenantgate.seal', current_setting('x.seal'), false), set_config('tenantgate.tenant', 'a', false)
@no SELECT note FROM notes

-- AND CHAIN
BEGIN
@enter
SELECT note FROM notes
COMMIT AND CHAIN
@no SELECT note FROM notes

-- ROLLBACK AND CHAIN
BEGIN
@enter
ROLLBACK AND CHAIN
@no SELECT note FROM notes

-- COMMIT in the same Query
BEGIN
@enter
@no COMMIT; SELECT note FROM notes

-- a savepoint in front
BEGIN
SAVEPOINT s
@enter
ROLLBACK TO s
@no SELECT note FROM notes

-- a savepoint behind
BEGIN
@enter
SAVEPOINT s
SET LOCAL tenantgate.tenant = 'b'
ROLLBACK TO s
SELECT note FROM notes

-- READ ONLY
BEGIN READ ONLY
@enter
SELECT note FROM notes
@no @enter
ROLLBACK
@no SELECT note FROM notes

-- READ ONLY, the tenant changed
BEGIN READ ONLY
@enter
SELECT set_config('tenantgate.tenant', 'b', true)
@no SELECT note FROM notes

-- READ ONLY, the signature kept
BEGIN READ ONLY
@enter
SELECT set_config('x.signed', current_setting('tenantgate.signed'), false)
COMMIT
BEGIN READ ONLY
SELECT set_config('tenantgate.signed', current_setting('x.signed'), true), set_config('tenantgate.tenant', 'a', true)
@no SELECT note FROM notes

-- READ ONLY afterwards
BEGIN
@enter
SET TRANSACTION READ ONLY
SELECT note FROM notes
@no @enter

-- DISCARD ALL
BEGIN
@enter
COMMIT
DISCARD ALL
@no SELECT note FROM notes

-- RESET ALL
BEGIN
@enter
RESET ALL
@no SELECT note FROM notes

-- a prepared transaction
BEGIN
@enter
INSERT INTO notes (tenant, note) VALUES ('a', 'prepared')
PREPARE TRANSACTION 'p'
@no SELECT note FROM notes
BEGIN
@enter
SELECT note FROM notes
ROLLBACK
ROLLBACK PREPARED 'p'

-- a generic plan
SET plan_cache_mode = force_generic_plan
PREPARE p AS SELECT note FROM notes
BEGIN
@enter
EXECUTE p
COMMIT
@no EXECUTE p

-- a custom plan
SET plan_cache_mode = force_custom_plan
BEGIN
@enter
SELECT note FROM notes
SELECT set_config('tenantgate.tenant', 'b', true)
@no SELECT note FROM notes

-- plans shown
SET client_min_messages = log
SET debug_print_plan = on
SET debug_print_parse = on
SET debug_print_rewritten = on
BEGIN
@enter
SELECT note FROM notes

-- parallel workers
SET debug_parallel_query = on
SET force_parallel_mode = on
SET max_parallel_workers_per_gather = 4
SET parallel_setup_cost = 0
SET parallel_tuple_cost = 0
SET min_parallel_table_scan_size = 0
BEGIN
@enter
SELECT note FROM notes
SELECT count(*) FROM notes
SELECT set_config('tenantgate.tenant', 'b', true)
@no SELECT count(*) FROM notes

-- operators of one's own
@no CREATE FUNCTION pg_temp.t(text, text) RETURNS bool LANGUAGE sql AS 'SELECT true'

-- an operator in a schema of one's own
GRANT USAGE ON SCHEMA mine TO PUBLIC
SET search_path = mine, pg_catalog, public
CREATE FUNCTION mine.yes(text, text) RETURNS bool LANGUAGE sql AS 'SELECT true'
CREATE OPERATOR mine.= (LEFTARG = text, RIGHTARG = text, FUNCTION = mine.yes)
CREATE FUNCTION mine.yes(bytea, bytea) RETURNS bool LANGUAGE sql AS 'SELECT true'
CREATE OPERATOR mine.= (LEFTARG = bytea, RIGHTARG = bytea, FUNCTION = mine.yes)
CREATE FUNCTION mine.current_setting(text, bool) RETURNS text LANGUAGE sql AS $$ SELECT 'b'::text $$
CREATE FUNCTION mine.sha256(bytea) RETURNS bytea LANGUAGE sql AS $$ SELECT ''::bytea $$
CREATE FUNCTION mine.currval(regclass) RETURNS bigint LANGUAGE sql AS $$ SELECT 1::bigint $$
@no SELECT tenantgate.tenant_id()
BEGIN
@enter
SELECT note FROM public.notes
SELECT set_config('tenantgate.tenant', 'b', true)
@no SELECT note FROM public.notes
@no SELECT tenantgate.tenant_id()

-- a function that changes its mind
GRANT USAGE ON SCHEMA mine TO PUBLIC
SET search_path = mine, pg_catalog, public
CREATE OR REPLACE FUNCTION mine.current_setting(text, bool) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_catalog.set_config('x.calls', (('0' || coalesce(pg_catalog.current_setting('x.calls', true), ''))::int + 1)::text, false); IF $1 OPERATOR(pg_catalog.=) 'tenantgate.tenant' AND pg_catalog.current_setting('x.calls')::int % 2 OPERATOR(pg_catalog.=) 0 THEN RETURN 'b'; END IF; RETURN pg_catalog.current_setting($1, $2); END $$
BEGIN
@enter
SELECT note FROM public.notes
SELECT note FROM public.notes

-- types of one's own
SET search_path = mine, pg_catalog, public
CREATE DOMAIN mine.text AS pg_catalog.text CHECK (set_config('x.y', VALUE, false) IS NOT NULL)
CREATE DOMAIN mine.bytea AS pg_catalog.bytea
CREATE DOMAIN mine.regclass AS pg_catalog.regclass
CREATE DOMAIN mine.bool AS pg_catalog.bool
BEGIN
@enter
SELECT note FROM public.notes
ROLLBACK
DROP DOMAIN mine.text, mine.bytea, mine.regclass, mine.bool

-- a function that is cheap and sees rows first
CREATE FUNCTION mine.peek(text) RETURNS bool LANGUAGE plpgsql COST 0.0000001 AS $$ BEGIN RAISE NOTICE 'seen %', $1; RETURN true; END $$
BEGIN
@enter
SELECT note FROM notes WHERE mine.peek(note)

-- dynamic SQL
BEGIN
@enter
DO $$ BEGIN EXECUTE 'SET LOCAL tenantgate.tenant = ''b'''; END $$
@no SELECT note FROM notes

-- a procedure that commits
@no DO $$ BEGIN COMMIT; PERFORM note FROM notes; END $$

-- a procedure that tries the last context
BEGIN
@enter
SELECT set_config('x.seal', current_setting('tenantgate.seal'), false)
COMMIT
@no DO $$ BEGIN PERFORM set_config('tenantgate.seal', current_setting('x.seal'), false), set_config('tenantgate.tenant', 'a', false); COMMIT; PERFORM note FROM notes; END $$

-- an exception's subtransaction
BEGIN
@enter
DO $$ BEGIN PERFORM set_config('tenantgate.tenant', 'b', true); PERFORM 1/0; EXCEPTION WHEN OTHERS THEN NULL; END $$
SELECT note FROM notes

-- a cursor over the end
BEGIN
@enter
DECLARE c CURSOR WITH HOLD FOR SELECT note FROM notes
COMMIT
FETCH ALL FROM c
@no SELECT note FROM notes

-- a view of one's own
CREATE VIEW mine.v AS SELECT note FROM public.notes
@no SELECT * FROM mine.v
BEGIN
@enter
SELECT * FROM mine.v
ROLLBACK
DROP VIEW mine.v

-- writing as another
BEGIN
@enter
@no INSERT INTO notes (tenant, note) VALUES ('b', 'from a')

-- moving a row to another
BEGIN
@enter
@no UPDATE notes SET tenant = 'b'

-- on conflict
BEGIN
@enter
@no INSERT INTO notes (id, tenant, note) VALUES (2, 'a', 'x') ON CONFLICT (id) DO UPDATE SET note = 'from a'

-- MERGE
BEGIN
@enter
@no MERGE INTO notes n USING (VALUES (2)) v(id) ON n.id = v.id WHEN MATCHED THEN UPDATE SET note = 'from a' WHEN NOT MATCHED THEN INSERT (id, tenant, note) VALUES (2, 'b', 'from a')

-- COPY in
BEGIN
@enter
@no COPY notes FROM '/dev/null'

-- TRUNCATE
BEGIN
@enter
@no TRUNCATE notes

-- a partition asked directly
BEGIN
@enter
SELECT note FROM parts_b
SELECT note FROM parts_default
SELECT note FROM parts

-- columns of type uuid and bigint
BEGIN
@enter
@no SELECT note FROM numbers
ROLLBACK
BEGIN
@enter
@no SELECT note FROM ids

-- the tenant asked for in other types
BEGIN
@enter
@no SELECT tenantgate.tenant_bigint()

-- the oracle of EXPLAIN
BEGIN
@enter
EXPLAIN (VERBOSE) SELECT note FROM notes

-- the plan's numbers of one's own seal
BEGIN
@enter
SELECT pg_get_functiondef('tenantgate.tenant_id()'::regprocedure)

-- a trigger of one's own
@no CREATE TRIGGER t BEFORE INSERT ON notes EXECUTE FUNCTION mine.f()

-- a rule of one's own
@no CREATE RULE r AS ON INSERT TO notes DO ALSO NOTIFY x

-- large parameters
BEGIN
@no SELECT tenantgate.enter(repeat('b', 1000000), 0, now() + interval '1 day', 0, repeat('b', 1000)::bytea)

-- nulls
BEGIN
@no SELECT tenantgate.enter(NULL, NULL, NULL, NULL, NULL)

-- other transactions' time
SET timezone = 'Asia/Tokyo'
SET datestyle = 'SQL, DMY'
SET intervalstyle = 'sql_standard'
SET extra_float_digits = 0
SET bytea_output = 'escape'
BEGIN
@enter
SELECT note FROM notes

-- another encoding
SET client_encoding = 'LATIN1'
BEGIN
@enter
SELECT note FROM notes

-- a statement's time limit in the middle
SET statement_timeout = 1
@no SELECT pg_sleep(1)
SET statement_timeout = 0
BEGIN
@enter
SELECT note FROM notes
