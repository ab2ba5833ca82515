-- What applications, drivers and ORMs send every day: must never be refused.

-- allow select
SELECT 1

-- allow select
select

-- allow select
SELECT 1;

-- allow select
  -- a comment
 SELECT 1 /* trailing */ ;  

-- allow select
TABLE orders

-- allow select
VALUES (1, 'a'), (2, 'b')

-- allow select
SELECT * FROM orders WHERE tenant_id = $1 AND id = $2

-- allow select
SELECT abalance FROM pgbench_accounts WHERE aid = 4711

-- allow select
SELECT o.id, c.name FROM orders o JOIN customers c ON c.id = o.customer_id WHERE o.created_at > now() - interval '7 days' ORDER BY o.id DESC LIMIT 20 OFFSET 40

-- allow select
SELECT count(*), sum(amount), avg(amount)::numeric(10,2) FROM invoices GROUP BY customer HAVING count(*) > 1

-- allow select
SELECT * FROM orders FOR UPDATE

-- allow select
SELECT * FROM jobs ORDER BY id FOR UPDATE SKIP LOCKED LIMIT 1

-- allow select
SELECT 1 FROM orders WHERE id = 1 FOR KEY SHARE NOWAIT

-- allow select
SELECT now(), current_timestamp, clock_timestamp(), statement_timestamp(), localtime

-- allow select
SELECT gen_random_uuid(), random(), md5('x'), encode(sha256('x'), 'hex')

-- allow select
SELECT jsonb_build_object('a', 1) -> 'a', '{"a":1}'::jsonb @> '{}'

-- allow select
SELECT jsonb_path_query(doc, '$.a[*]') FROM docs

-- allow select
SELECT to_tsvector('english', body) @@ plainto_tsquery('x') FROM docs

-- allow select
SELECT ts_rewrite('a & b'::tsquery, 'a'::tsquery, 'c'::tsquery)

-- allow select
SELECT nextval('orders_id_seq')

-- allow select
SELECT nextval('public.orders_id_seq'::regclass) FROM generate_series(1, 10)

-- allow select
SELECT current_setting('app.tenant_id')

-- allow select
SELECT current_setting('app.tenant_id', true)

-- allow select
SELECT current_setting('server_version_num')::int

-- allow select
SELECT version()

-- allow select
SELECT current_database(), current_schema(), current_user, session_user, user

-- allow select
SELECT current_schemas(true)

-- allow select
SELECT pg_backend_pid()

-- allow select
SELECT pg_is_in_recovery()

-- allow select
SELECT pg_advisory_xact_lock(1)

-- allow select
SELECT pg_try_advisory_xact_lock(hashtext('job'), 2)

-- allow select
SELECT pg_catalog.pg_advisory_xact_lock_shared(1)

-- allow select
SELECT txid_current(), pg_current_xact_id(), pg_current_snapshot()

-- allow select
SELECT inet_client_addr(), inet_server_port()

-- allow select
SELECT pg_size_pretty(pg_total_relation_size('orders'))

-- allow select
SELECT pg_typeof(1), pg_column_size('x')

-- allow select
SELECT to_regclass('public.orders')

-- allow select
SELECT has_table_privilege('orders', 'SELECT'), row_security_active('orders')

-- allow select
SELECT pg_get_serial_sequence('orders', 'id')

-- allow select
SELECT billing.charge(1)

-- allow select
SELECT my_function(a, b => 2) FROM t

-- allow select
SELECT uuid_generate_v4(), similarity('a', 'b'), st_distance(a, b) FROM t

-- allow select
SELECT crypt('secret', gen_salt('bf'))

-- allow select
SELECT * FROM my_srf($1) AS x(a int, b text)

-- allow select
WITH RECURSIVE tree AS (SELECT id FROM nodes WHERE parent IS NULL UNION ALL SELECT n.id FROM nodes n JOIN tree ON n.parent = tree.id) SELECT * FROM tree

-- allow select
WITH moved AS (DELETE FROM a RETURNING *) SELECT * FROM moved

-- allow select
WITH pg_numbers AS (SELECT 1 AS n) SELECT n FROM pg_numbers

-- allow select
SELECT a.system, b.exec, c.plain, d.execute FROM t a, t b, t c, t d

-- allow select
SELECT l.lo_orderkey, l.pg_note FROM lineorder l

-- allow select
SELECT (address).city, (address).zip.code FROM people

-- allow select
SELECT t.count, t.name, t.version FROM t

-- allow select
SELECT max(x) OVER (PARTITION BY y ORDER BY z ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM t

-- allow select
SELECT * FROM t TABLESAMPLE system (10)

-- allow select
SELECT DISTINCT ON (a) a, b FROM t ORDER BY a, b

-- allow select
SELECT a FROM t UNION SELECT b FROM u EXCEPT SELECT c FROM v

-- allow select
SELECT E'a\nb', U&'\0061', $$x$$, $tag$y$tag$, B'101', X'1F', 1e10, 0x1F, 1_000

-- allow select
SELECT 'it''s'
'x'

-- allow select
SELECT '/* not a comment */', '-- nor this'

-- allow select
SELECT array_agg(x ORDER BY y) FILTER (WHERE z) FROM t

-- allow select
SELECT string_agg(a, ',') FROM t

-- allow select
SELECT a[1], a[2:3], (array[1,2])[1] FROM t

-- allow select
SELECT CASE WHEN a THEN 1 ELSE 2 END FROM t

-- allow select
SELECT EXTRACT(epoch FROM created_at), date_trunc('day', created_at) FROM t

-- allow select
SELECT a AT TIME ZONE 'UTC', overlay('x' placing 'y' from 1), position('a' in 'b'), substring('abc' from 2 for 1), trim(both ' ' from a) FROM t

-- allow select
SELECT xmlelement(name a, 'b')

-- allow select
SELECT JSON_OBJECT('a': 1), JSON_ARRAY(1, 2)

-- allow select
SELECT GROUPING(a) FROM t GROUP BY CUBE (a)

-- allow select
SELECT 1 WHERE current_user = 'x'

-- allow select
SELECT "Mixed"."Case" FROM "Schema"."Mixed"

-- allow select
SELECT * FROM tenant_schema.orders, public.orders o2

-- allow select
SELECT * FROM pg_catalog.generate_series(1, 3)

-- allow select
SELECT pg_catalog.lower('A')

-- allow select
SELECT 1 AS set_config, 2 AS "pg_sleep"

-- allow select
SELECT set_config FROM t WHERE pg_sleep = 1

-- allow select
SELECT 'set_config(''a'',''b'',true)'

-- allow select
SELECT $1::int + $2

-- allow select
SELECT ARRAY(SELECT x FROM t)

-- allow select
SELECT EXISTS (SELECT 1)

-- allow select
SELECT * FROM t WHERE a IN (SELECT b FROM u)

-- allow select
SELECT * FROM (SELECT 1) AS s (x), LATERAL (SELECT x + 1) l

-- allow select
SELECT * FROM ROWS FROM (generate_series(1,2), unnest(ARRAY[3,4])) AS x(a, b)

-- allow select
SELECT COALESCE(a, 0), NULLIF(b, 1), GREATEST(1, 2) FROM t

-- allow


-- allow
;

-- allow
 ; ; 

-- allow
-- only a comment

-- allow
/* nothing */

-- allow insert
INSERT INTO orders (id, name) VALUES ($1, $2) RETURNING id

-- allow insert
INSERT INTO orders DEFAULT VALUES

-- allow insert
INSERT INTO a SELECT * FROM b

-- allow insert
INSERT INTO orders VALUES (1) ON CONFLICT (id) DO UPDATE SET name = excluded.name WHERE orders.name <> excluded.name

-- allow insert
INSERT INTO orders VALUES (1, DEFAULT, 'x'), (2, DEFAULT, 'y') ON CONFLICT DO NOTHING

-- allow insert
INSERT INTO orders OVERRIDING SYSTEM VALUE VALUES (1)

-- allow insert
WITH x AS (SELECT 1 AS a) INSERT INTO t SELECT a FROM x RETURNING *, xmax = 0 AS inserted

-- allow insert
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 2, 3, -4, CURRENT_TIMESTAMP)

-- allow insert
INSERT INTO t VALUES (nextval('s'), current_setting('app.tenant_id')::uuid)

-- allow update
UPDATE orders SET name = $1 WHERE id = $2

-- allow update
UPDATE pgbench_accounts SET abalance = abalance + -1234 WHERE aid = 99

-- allow update
UPDATE a SET (x, y) = (SELECT 1, 2) FROM b WHERE a.id = b.id RETURNING a.*

-- allow update
UPDATE t SET a[1] = 2, b.c = 3, d = DEFAULT

-- allow update
UPDATE t SET a = 1 WHERE CURRENT OF c

-- allow update
WITH x AS (SELECT 1) UPDATE t SET a = 1

-- allow delete
DELETE FROM orders WHERE id = $1

-- allow delete
DELETE FROM a USING b WHERE a.id = b.id RETURNING *

-- allow delete
DELETE FROM ONLY t

-- allow merge
MERGE INTO a USING b ON a.id = b.id WHEN MATCHED AND b.x THEN UPDATE SET y = b.y WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (id) VALUES (b.id)

-- allow merge
MERGE INTO a USING b ON a.id = b.id WHEN NOT MATCHED BY SOURCE THEN DELETE RETURNING merge_action(), a.*

-- allow copy_in
COPY orders FROM STDIN

-- allow copy_in
COPY orders (id, name) FROM STDIN WITH (FORMAT csv, HEADER true)

-- allow copy_in
copy orders from stdin csv header

-- allow copy_in
COPY orders FROM STDIN WHERE id > 3

-- allow copy_in
COPY orders FROM STDIN BINARY

-- allow copy_out
COPY orders TO STDOUT

-- allow copy_out
COPY (SELECT * FROM orders) TO STDOUT WITH (FORMAT csv)

-- allow copy_out
COPY orders (id) TO STDOUT (FORMAT binary)

-- allow copy_out
COPY pg_namespace TO STDOUT

-- allow declare_cursor
DECLARE c CURSOR FOR SELECT * FROM orders

-- allow declare_cursor
DECLARE c BINARY SCROLL CURSOR WITHOUT HOLD FOR SELECT 1

-- allow declare_cursor
DECLARE "curs@1" CURSOR FOR SELECT 1

-- allow fetch
FETCH 100 FROM c

-- allow fetch
FETCH ALL IN c

-- allow fetch
FETCH FORWARD 5 FROM c

-- allow fetch
MOVE 1 IN c

-- allow fetch
MOVE ABSOLUTE 3 c

-- allow fetch
FETCH BACKWARD ALL FROM c

-- allow close_cursor
CLOSE c

-- allow close_cursor
CLOSE ALL

-- allow transaction
BEGIN

-- allow transaction
begin;

-- allow transaction
BEGIN WORK

-- allow transaction
BEGIN TRANSACTION

-- allow transaction
START TRANSACTION

-- allow transaction
BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE

-- allow transaction
START TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ WRITE

-- allow transaction
COMMIT

-- allow transaction
COMMIT WORK

-- allow transaction
END

-- allow transaction
END TRANSACTION

-- allow transaction
COMMIT AND CHAIN

-- allow transaction
ROLLBACK

-- allow transaction
ABORT

-- allow transaction
ROLLBACK AND CHAIN

-- allow transaction
ROLLBACK AND NO CHAIN

-- allow transaction
SAVEPOINT a

-- allow transaction
SAVEPOINT "pgjdbc_AUTOSAVE"

-- allow transaction
RELEASE a

-- allow transaction
RELEASE SAVEPOINT a

-- allow transaction
ROLLBACK TO a

-- allow transaction
ROLLBACK TRANSACTION TO SAVEPOINT a

-- allow transaction
SET TRANSACTION ISOLATION LEVEL SERIALIZABLE

-- allow transaction
SET LOCAL TRANSACTION READ ONLY

-- allow transaction
SET TRANSACTION READ WRITE, NOT DEFERRABLE

-- allow transaction
SET transaction_isolation = 'serializable'

-- allow transaction
SET LOCAL transaction_read_only = on

-- allow transaction
SET transaction_deferrable TO false

-- allow transaction select transaction
BEGIN; SELECT 1; COMMIT

-- allow transaction select transaction
BEGIN;SELECT 1;ROLLBACK;

-- allow select select
SELECT 1; SELECT 2

-- allow select select
SELECT ';' ; SELECT 2;

-- allow transaction select transaction select
BEGIN; SELECT 1; COMMIT; SELECT 2

-- allow set_constraints
SET CONSTRAINTS ALL DEFERRED

-- allow set_constraints
SET CONSTRAINTS a, b IMMEDIATE

-- allow show
SHOW timezone

-- allow show
SHOW TIME ZONE

-- allow show
SHOW TRANSACTION ISOLATION LEVEL

-- allow show
show standard_conforming_strings

-- allow show
SHOW server_version

-- allow show
SHOW max_identifier_length

-- allow show
SHOW search_path

-- allow show
SHOW ALL

-- allow show
SHOW app.tenant_id

-- allow show
SHOW transaction_read_only

-- allow show
SHOW is_superuser

-- allow discard
DISCARD ALL

-- allow discard
DISCARD PLANS

-- allow discard
DISCARD SEQUENCES

-- allow discard
DISCARD TEMP

-- allow discard
DISCARD TEMPORARY

-- allow unlisten
UNLISTEN *

-- allow unlisten
UNLISTEN channel

-- allow deallocate
DEALLOCATE ALL

-- allow deallocate
DEALLOCATE PREPARE ALL

-- allow deallocate
DEALLOCATE s1

-- allow deallocate
DEALLOCATE "_pg3_0"

-- allow advisory_unlock_all
SELECT pg_advisory_unlock_all()

-- allow advisory_unlock_all
select pg_catalog.pg_advisory_unlock_all();

-- allow advisory_unlock_all close_cursor unlisten setting
SELECT pg_advisory_unlock_all();
CLOSE ALL;
UNLISTEN *;
RESET ALL;

-- allow setting discard
RESET ALL; DISCARD ALL

-- allow discard transaction
DISCARD ALL; BEGIN

-- allow select
SELECT s.lastval, s.setval FROM s WHERE s.lastval > 5

-- allow update
UPDATE s SET lastval = s.lastval + 1 RETURNING (s).lastval
