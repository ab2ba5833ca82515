A tenant whose login has `pool_mode = "session"`: what is the session's own is kept with it.

-- allow create_temporary
CREATE TEMP TABLE t (id int)

-- allow select
SELECT lastval(), currval('s')

-- allow select
SELECT setseed(0.5)

-- deny TG017
LISTEN jobs

-- deny TG017
SELECT pg_advisory_lock(1)

-- deny TG017
SELECT pg_export_snapshot()

-- deny TG011
SET app.tenant_id = 'x'

-- deny TG010 proxy's
EXECUTE tg_set ('app.tenant_id', 'x')
