Trusted code where the tenant stays on its server (`scope.lifetime = "lease"`).

-- allow call
CALL other()

-- allow maintenance
VACUUM (ANALYZE) invoices

-- allow maintenance
ANALYZE invoices

-- deny TG016
DO $$ BEGIN COMMIT; END $$

-- deny TG019
CREATE INDEX CONCURRENTLY i ON invoices (id)

-- deny TG011
CALL other(set_config('app.tenant_id', 'x', false))

-- deny TG011
RESET app.tenant_id

-- deny TG019
REFRESH MATERIALIZED VIEW totals

-- deny TG019
CHECKPOINT
