-- Places where a function call may stand: {f} is replaced by a harmless call (which must give the verdict
-- named) and by every refused one (which must be refused). See tests/guard_tables.rs.

-- allow select
SELECT {f}

-- allow select
SELECT {f} AS x

-- allow select
SELECT ALL {f}

-- allow select
SELECT DISTINCT {f}

-- allow select
SELECT DISTINCT ON ({f}) a FROM t

-- allow select
SELECT 1, {f}, 2

-- allow select
SELECT -{f}::int

-- allow select
SELECT +({f})::int

-- allow select
SELECT NOT {f}::bool

-- allow select
SELECT 1 + {f}::int

-- allow select
SELECT {f} || 'x'

-- allow select
SELECT 'x' || {f}

-- allow select
SELECT a FROM t WHERE {f} IS NULL

-- allow select
SELECT a FROM t WHERE {f} IS NOT NULL

-- allow select
SELECT a FROM t WHERE a = {f}

-- allow select
SELECT a FROM t WHERE a = 1 OR b = {f}

-- allow select
SELECT a FROM t WHERE a = 1 AND NOT (b = {f})

-- allow select
SELECT a FROM t WHERE a IN (1, {f})

-- allow select
SELECT a FROM t WHERE {f} IN (1, 2)

-- allow select
SELECT a FROM t WHERE a NOT IN ({f})

-- allow select
SELECT a FROM t WHERE a BETWEEN {f} AND 2

-- allow select
SELECT a FROM t WHERE a BETWEEN 1 AND {f}

-- allow select
SELECT a FROM t WHERE a BETWEEN SYMMETRIC {f} AND 2

-- allow select
SELECT a FROM t WHERE a NOT BETWEEN 1 AND {f}

-- allow select
SELECT a FROM t WHERE a LIKE {f}

-- allow select
SELECT a FROM t WHERE {f} LIKE 'x'

-- allow select
SELECT a FROM t WHERE a LIKE 'x' ESCAPE {f}

-- allow select
SELECT a FROM t WHERE a ILIKE {f}

-- allow select
SELECT a FROM t WHERE a NOT ILIKE 'x' ESCAPE {f}

-- allow select
SELECT a FROM t WHERE a SIMILAR TO {f}

-- allow select
SELECT a FROM t WHERE a SIMILAR TO 'x' ESCAPE {f}

-- allow select
SELECT a FROM t WHERE a ~ {f}

-- allow select
SELECT a FROM t WHERE a = ANY ({f})

-- allow select
SELECT a FROM t WHERE a = ALL (ARRAY[{f}])

-- allow select
SELECT a FROM t WHERE {f} = ANY (SELECT 1)

-- allow select
SELECT a FROM t WHERE a = ANY (SELECT {f})

-- allow select
SELECT a FROM t WHERE a LIKE ANY (ARRAY[{f}])

-- allow select
SELECT a FROM t WHERE EXISTS (SELECT {f})

-- allow select
SELECT a FROM t WHERE EXISTS (SELECT 1 WHERE {f} IS NULL)

-- allow select
SELECT a FROM t WHERE (a, b) = (1, {f})

-- allow select
SELECT a FROM t WHERE (a, {f}) IN (SELECT 1, 2)

-- allow select
SELECT a FROM t WHERE (a, b) OVERLAPS ({f}, c)

-- allow select
SELECT a FROM t WHERE ROW(a, {f}) IS NULL

-- allow select
SELECT a FROM t WHERE {f} IS DISTINCT FROM 1

-- allow select
SELECT a FROM t WHERE 1 IS NOT DISTINCT FROM {f}

-- allow select
SELECT a FROM t WHERE ({f})::bool IS TRUE

-- allow select
SELECT a FROM t WHERE ({f})::bool IS NOT UNKNOWN

-- allow select
SELECT a FROM t WHERE ({f})::text IS NORMALIZED

-- allow select
SELECT a FROM t WHERE ({f})::xml IS DOCUMENT

-- allow select
SELECT a FROM t WHERE ({f})::text IS JSON OBJECT

-- allow select
SELECT a FROM t GROUP BY {f}

-- allow select
SELECT a FROM t GROUP BY ROLLUP (a, {f})

-- allow select
SELECT a FROM t GROUP BY CUBE ({f}, a)

-- allow select
SELECT a FROM t GROUP BY GROUPING SETS ((a), ({f}))

-- allow select
SELECT a FROM t GROUP BY DISTINCT a, {f}

-- allow select
SELECT GROUPING({f}) FROM t GROUP BY 1

-- allow select
SELECT a FROM t GROUP BY a HAVING {f} IS NULL

-- allow select
SELECT a FROM t ORDER BY {f}

-- allow select
SELECT a FROM t ORDER BY a, {f} DESC NULLS LAST

-- allow select
SELECT a FROM t ORDER BY {f} USING <

-- allow select
SELECT a FROM t LIMIT {f}

-- allow select
SELECT a FROM t OFFSET {f}

-- allow select
SELECT a FROM t FETCH FIRST ({f}) ROWS ONLY

-- allow select
SELECT a FROM t ORDER BY a FETCH FIRST ({f}) ROWS WITH TIES

-- allow select
SELECT a FROM t OFFSET ({f}) ROWS

-- allow select
SELECT a FROM t UNION SELECT {f}

-- allow select
SELECT {f} UNION ALL SELECT a FROM t

-- allow select
SELECT a FROM t INTERSECT SELECT {f}

-- allow select
SELECT a FROM t EXCEPT ALL SELECT {f}

-- allow select
(SELECT {f}) UNION (SELECT a FROM t) ORDER BY 1

-- allow select
(SELECT a FROM t ORDER BY {f} LIMIT 1) UNION SELECT 1

-- allow select
SELECT 1 UNION SELECT 2 ORDER BY {f}

-- allow select
SELECT 1 UNION SELECT 2 LIMIT {f}

-- allow select
SELECT a FROM t FOR UPDATE OF t, t LIMIT {f}

-- allow select
SELECT a FROM (SELECT {f} AS a) s FOR SHARE SKIP LOCKED

-- allow select
VALUES ({f})

-- allow select
VALUES (1), ({f})

-- allow select
SELECT * FROM (VALUES (1, {f})) v (a, b)

-- allow select
WITH c AS (SELECT {f}) SELECT * FROM c

-- allow select
WITH c AS MATERIALIZED (SELECT {f}) SELECT 1

-- allow select
WITH c AS (SELECT 1), d AS (SELECT {f} FROM c) SELECT * FROM d

-- allow select
WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT {f} FROM c) SELECT * FROM c

-- allow select
WITH RECURSIVE c(n) AS (SELECT 1 UNION SELECT n + 1 FROM c WHERE {f} IS NULL) SELECT n FROM c

-- allow select
WITH RECURSIVE c(n) AS (SELECT {f} UNION ALL SELECT n FROM c) SEARCH DEPTH FIRST BY n SET o SELECT * FROM c

-- allow select
WITH c AS (INSERT INTO t VALUES ({f}) RETURNING a) SELECT * FROM c

-- allow select
WITH c AS (INSERT INTO t VALUES (1) RETURNING {f}) SELECT * FROM c

-- allow select
WITH c AS (UPDATE t SET a = {f} RETURNING a) SELECT * FROM c

-- allow select
WITH c AS (DELETE FROM t WHERE {f} IS NULL RETURNING a) SELECT * FROM c

-- allow select
WITH c AS (MERGE INTO t USING u ON {f} IS NULL WHEN MATCHED THEN DELETE RETURNING t.a) SELECT * FROM c

-- allow select
SELECT * FROM {f}

-- allow select
SELECT * FROM {f} AS g

-- allow select
SELECT * FROM {f} WITH ORDINALITY

-- allow select
SELECT * FROM LATERAL {f} AS x

-- allow select
SELECT * FROM ROWS FROM ({f}, abs(2)) AS g

-- allow select
SELECT * FROM ROWS FROM (abs(2) , {f}) WITH ORDINALITY

-- allow select
SELECT * FROM t, {f} g

-- allow select
SELECT * FROM t CROSS JOIN LATERAL (SELECT {f}) s

-- allow select
SELECT * FROM generate_series(1, ({f})::int) g

-- allow select
SELECT * FROM unnest(ARRAY[{f}]) u

-- allow select
SELECT * FROM t JOIN u ON {f} IS NULL

-- allow select
SELECT * FROM t LEFT JOIN (SELECT {f} AS b) s ON true

-- allow select
SELECT * FROM (t JOIN u ON t.a = {f}) AS j

-- allow select
SELECT * FROM t FULL JOIN u USING (a) WHERE {f} IS NULL

-- allow select
SELECT * FROM t TABLESAMPLE bernoulli ({f})

-- allow select
SELECT * FROM t TABLESAMPLE system (1) REPEATABLE ({f})

-- allow select
SELECT * FROM (SELECT * FROM (SELECT {f}) a) b

-- allow select
SELECT (SELECT {f})

-- allow select
SELECT ARRAY(SELECT {f})

-- allow select
SELECT ARRAY[1, {f}]

-- allow select
SELECT ARRAY[[1], [{f}]]

-- allow select
SELECT (ARRAY[1, 2])[{f}]

-- allow select
SELECT (ARRAY[1, 2])[{f}:2]

-- allow select
SELECT (ARRAY[1, 2])[1:{f}]

-- allow select
SELECT a[{f}] FROM t

-- allow select
SELECT (a).b[{f}].c FROM t

-- allow select
SELECT ROW(1, {f})

-- allow select
SELECT (1, {f})

-- allow select
SELECT ({f}, 1)::comp

-- allow select
SELECT CASE WHEN {f} IS NULL THEN 1 END

-- allow select
SELECT CASE WHEN true THEN {f} END

-- allow select
SELECT CASE {f} WHEN 1 THEN 2 END

-- allow select
SELECT CASE 1 WHEN {f} THEN 2 END

-- allow select
SELECT CASE 1 WHEN 2 THEN 3 ELSE {f} END

-- allow select
SELECT COALESCE(a, {f}) FROM t

-- allow select
SELECT NULLIF(1, {f})

-- allow select
SELECT GREATEST(1, {f})

-- allow select
SELECT LEAST({f}, 1)

-- allow select
SELECT CAST({f} AS text)

-- allow select
SELECT {f}::text COLLATE "C"

-- allow select
SELECT {f} AT TIME ZONE 'UTC'

-- allow select
SELECT now() AT TIME ZONE {f}

-- allow select
SELECT EXTRACT(day FROM {f})

-- allow select
SELECT OVERLAY({f} PLACING 'x' FROM 1)

-- allow select
SELECT OVERLAY('abc' PLACING 'x' FROM {f} FOR 1)

-- allow select
SELECT POSITION({f} IN 'x')

-- allow select
SELECT POSITION('x' IN {f})

-- allow select
SELECT SUBSTRING('abc' FROM {f})

-- allow select
SELECT SUBSTRING('abc' FROM 1 FOR {f})

-- allow select
SELECT SUBSTRING('abc' SIMILAR {f} ESCAPE '#')

-- allow select
SELECT TRIM(LEADING {f} FROM 'x')

-- allow select
SELECT TRIM({f})

-- allow select
SELECT TREAT({f} AS text)

-- allow select
SELECT NORMALIZE({f}, NFC)

-- allow select
SELECT COLLATION FOR ({f})

-- allow select
SELECT abs({f})

-- allow select
SELECT abs(abs(abs({f})))

-- allow select
SELECT f(a => {f})

-- allow select
SELECT f(a := {f})

-- allow select
SELECT f(VARIADIC {f})

-- allow select
SELECT f(1, VARIADIC ARRAY[{f}])

-- allow select
SELECT count({f}) FROM t

-- allow select
SELECT count(DISTINCT {f}) FROM t

-- allow select
SELECT array_agg(a ORDER BY {f}) FROM t

-- allow select
SELECT count(*) FILTER (WHERE {f} IS NULL) FROM t

-- allow select
SELECT percentile_cont({f}) WITHIN GROUP (ORDER BY a) FROM t

-- allow select
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY {f}) FROM t

-- allow select
SELECT sum({f}) OVER () FROM t

-- allow select
SELECT sum(a) OVER (PARTITION BY {f}) FROM t

-- allow select
SELECT sum(a) OVER (ORDER BY {f}) FROM t

-- allow select
SELECT sum(a) OVER (ORDER BY a ROWS BETWEEN {f} PRECEDING AND CURRENT ROW) FROM t

-- allow select
SELECT sum(a) OVER (ORDER BY a RANGE BETWEEN 1 PRECEDING AND {f} FOLLOWING) FROM t

-- allow select
SELECT sum(a) OVER w FROM t WINDOW w AS (PARTITION BY {f})

-- allow select
SELECT sum(a) OVER w FROM t WINDOW v AS (), w AS (v ORDER BY {f})

-- allow select
SELECT sum(a) FILTER (WHERE {f} IS NULL) OVER () FROM t

-- allow select
SELECT xmlelement(name x, {f})

-- allow select
SELECT xmlelement(name x, xmlattributes({f} AS y))

-- allow select
SELECT xmlforest({f} AS x)

-- allow select
SELECT xmlconcat({f}, '<a/>')

-- allow select
SELECT xmlparse(CONTENT {f})

-- allow select
SELECT xmlpi(name x, {f})

-- allow select
SELECT xmlroot({f}, VERSION '1.0')

-- allow select
SELECT xmlroot('<a/>', VERSION {f})

-- allow select
SELECT xmlserialize(CONTENT {f} AS text)

-- allow select
SELECT xmlexists({f} PASSING '<a/>')

-- allow select
SELECT xmlexists('x' PASSING {f})

-- allow select
SELECT xmlagg({f}) FROM t

-- allow select
SELECT * FROM XMLTABLE({f} PASSING '<a/>' COLUMNS b int)

-- allow select
SELECT * FROM XMLTABLE('/a' PASSING {f} COLUMNS b int)

-- allow select
SELECT * FROM XMLTABLE('/a' PASSING '<a/>' COLUMNS b int PATH {f})

-- allow select
SELECT * FROM XMLTABLE('/a' PASSING '<a/>' COLUMNS b int DEFAULT {f})

-- allow select
SELECT * FROM XMLTABLE(XMLNAMESPACES({f} AS x), '/a' PASSING '<a/>' COLUMNS b int)

-- allow select
SELECT JSON_OBJECT('a' : {f})

-- allow select
SELECT JSON_OBJECT({f} : 1)

-- allow select
SELECT JSON_OBJECT('a' VALUE {f} ABSENT ON NULL RETURNING jsonb)

-- allow select
SELECT JSON_ARRAY(1, {f})

-- allow select
SELECT JSON_ARRAY(SELECT {f})

-- allow select
SELECT JSON_ARRAYAGG({f}) FROM t

-- allow select
SELECT JSON_ARRAYAGG(a ORDER BY {f}) FROM t

-- allow select
SELECT JSON_ARRAYAGG(a) FILTER (WHERE {f} IS NULL) FROM t

-- allow select
SELECT JSON_ARRAYAGG(a) OVER (PARTITION BY {f}) FROM t

-- allow select
SELECT JSON_OBJECTAGG('k' : {f}) FROM t

-- allow select
SELECT JSON_OBJECTAGG({f} : 1) FROM t

-- allow select
SELECT JSON({f})

-- allow select
SELECT JSON_SCALAR({f})

-- allow select
SELECT JSON_SERIALIZE({f})

-- allow select
SELECT JSON_VALUE({f}, '$.a')

-- allow select
SELECT JSON_VALUE(a, '$.a' PASSING {f} AS x) FROM t

-- allow select
SELECT JSON_VALUE(a, {f}) FROM t

-- allow select
SELECT JSON_VALUE(a, '$' DEFAULT {f} ON EMPTY) FROM t

-- allow select
SELECT JSON_VALUE(a, '$' DEFAULT {f} ON ERROR) FROM t

-- allow select
SELECT JSON_QUERY({f}, '$')

-- allow select
SELECT JSON_EXISTS({f}, '$')

-- allow select
SELECT JSON_QUERY(a, '$' RETURNING text DEFAULT {f} ON ERROR) FROM t

-- allow select
SELECT * FROM JSON_TABLE({f}, '$' COLUMNS (a int PATH '$.a'))

-- allow select
SELECT * FROM JSON_TABLE(j, '$' PASSING {f} AS x COLUMNS (a int))

-- allow select
SELECT * FROM JSON_TABLE(j, '$' COLUMNS (a int PATH '$' DEFAULT {f} ON EMPTY))

-- allow select
SELECT * FROM JSON_TABLE(j, '$' COLUMNS (NESTED PATH '$.b' COLUMNS (c int DEFAULT {f} ON ERROR)))

-- allow select
SELECT interval '1 day' * {f}::int

-- allow select
SELECT t.a, {f} FROM only t

-- allow select
SELECT (f({f})).a FROM t

-- allow select
SELECT ({f}).a

-- allow select
SELECT (({f})).a.b

-- allow select
SELECT ({f})[1]

-- allow select
SELECT {f} = ANY (ARRAY[1])

-- allow select
SELECT {f} OPERATOR(pg_catalog.+) 1

-- allow select
SELECT 1 OPERATOR(pg_catalog.+) {f}::int

-- allow select
SELECT a FROM t WHERE {f} IS NULL FOR NO KEY UPDATE NOWAIT

-- allow insert
INSERT INTO t VALUES ({f})

-- allow insert
INSERT INTO t VALUES (1), ({f})

-- allow insert
INSERT INTO t (a) SELECT {f}

-- allow insert
INSERT INTO t (a[{f}]) VALUES (1)

-- allow insert
INSERT INTO t VALUES (1) RETURNING {f}

-- allow insert
INSERT INTO t VALUES (1) RETURNING *, {f} AS x

-- allow insert
INSERT INTO t VALUES (1) RETURNING WITH (OLD AS o, NEW AS n) o.a, {f}

-- allow insert
INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET a = {f}

-- allow insert
INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 1 WHERE {f} IS NULL

-- allow insert
INSERT INTO t VALUES (1) ON CONFLICT (({f})) DO NOTHING

-- allow insert
INSERT INTO t VALUES (1) ON CONFLICT (a) WHERE {f} IS NULL DO NOTHING

-- allow insert
INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET (a, b) = (SELECT 1, {f})

-- allow insert
WITH c AS (SELECT {f}) INSERT INTO t SELECT * FROM c

-- allow insert
INSERT INTO t OVERRIDING SYSTEM VALUE VALUES ({f})

-- allow insert
INSERT INTO t SELECT 1 WHERE {f} IS NULL ORDER BY {f}

-- allow update
UPDATE t SET a = {f}

-- allow update
UPDATE t SET (a, b) = (1, {f})

-- allow update
UPDATE t SET (a, b) = (SELECT 1, {f})

-- allow update
UPDATE t SET (a, b) = ROW(1, {f})

-- allow update
UPDATE t SET a[{f}] = 1

-- allow update
UPDATE t SET a = 1 WHERE {f} IS NULL

-- allow update
UPDATE t SET a = 1 FROM {f} AS g

-- allow update
UPDATE t SET a = u.a FROM u WHERE u.b = {f}

-- allow update
UPDATE t SET a = 1 RETURNING {f}

-- allow update
WITH c AS (SELECT {f}) UPDATE t SET a = 1 FROM c

-- allow update
UPDATE ONLY t AS x SET a = DEFAULT, b = {f}

-- allow delete
DELETE FROM t WHERE {f} IS NULL

-- allow delete
DELETE FROM t USING {f} AS g

-- allow delete
DELETE FROM t USING u WHERE t.a = u.a AND u.b = {f}

-- allow delete
DELETE FROM t RETURNING {f}

-- allow delete
WITH c AS (SELECT {f}) DELETE FROM t USING c

-- allow merge
MERGE INTO t USING u ON {f} IS NULL WHEN MATCHED THEN DO NOTHING

-- allow merge
MERGE INTO t USING (SELECT {f} AS a) u ON true WHEN MATCHED THEN DELETE

-- allow merge
MERGE INTO t USING u ON true WHEN MATCHED AND {f} IS NULL THEN DELETE

-- allow merge
MERGE INTO t USING u ON true WHEN MATCHED THEN UPDATE SET a = {f}

-- allow merge
MERGE INTO t USING u ON true WHEN NOT MATCHED THEN INSERT VALUES ({f})

-- allow merge
MERGE INTO t USING u ON true WHEN NOT MATCHED THEN INSERT (a) VALUES (1 + {f}::int)

-- allow merge
MERGE INTO t USING u ON true WHEN NOT MATCHED BY SOURCE AND {f} IS NULL THEN DELETE

-- allow merge
MERGE INTO t USING u ON true WHEN MATCHED THEN DELETE RETURNING {f}

-- allow merge
WITH c AS (SELECT {f}) MERGE INTO t USING c ON true WHEN MATCHED THEN DELETE

-- allow copy_out
COPY (SELECT {f}) TO STDOUT

-- allow copy_out
COPY (SELECT a FROM t WHERE {f} IS NULL) TO STDOUT (FORMAT csv)

-- allow copy_out
COPY (INSERT INTO t VALUES (1) RETURNING {f}) TO STDOUT

-- allow copy_out
COPY (WITH c AS (SELECT {f}) SELECT * FROM c) TO STDOUT

-- allow copy_in
COPY t FROM STDIN WHERE {f} IS NULL

-- allow declare_cursor
DECLARE c CURSOR FOR SELECT {f}

-- allow declare_cursor
DECLARE c NO SCROLL CURSOR FOR SELECT a FROM t WHERE {f} IS NULL

-- allow select select
SELECT 1; SELECT {f}

-- allow select select
SELECT {f}; SELECT 1

-- allow select select
SELECT 1 /* ; */; SELECT {f};;

-- allow transaction select transaction
BEGIN; SELECT {f}; COMMIT

-- allow transaction setting select
COMMIT; SET timezone = 'UTC'; SELECT {f}
