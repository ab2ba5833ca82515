A bypass login with `pool_mode = "session"`: it keeps everything, except for what others would run.

-- allow select
SELECT currval('s'), lastval(), setseed(0.5)

-- deny TG017 currval
CREATE TABLE t (id int DEFAULT currval('s'))

-- deny TG017 currval
CREATE VIEW v AS SELECT currval('s')

-- deny TG017 pg_try_advisory_lock
CREATE POLICY p ON t USING (pg_try_advisory_lock(1))

-- deny TG017 pg_try_advisory_lock
ALTER POLICY p ON t USING (true) WITH CHECK (pg_try_advisory_lock(1))

-- deny TG017 pg_advisory_lock
CREATE RULE r AS ON INSERT TO t DO ALSO SELECT pg_advisory_lock(1)

-- deny TG017 setseed
CREATE MATERIALIZED VIEW m AS SELECT setseed(1)
