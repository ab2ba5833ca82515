Tenants where the tenant stays on its server (`scope.lifetime = "lease"`), with `functions_allowed = ["in_steps", "public.listed"]`.

-- allow call
CALL in_steps(1)

-- allow call
CALL billing.in_steps(now()::date)

-- allow call
CALL public.listed()

-- deny TG010 call
CALL other()

-- deny TG010 call
CALL in_steps(other())

-- deny TG011
CALL in_steps(set_config('app.tenant_id', 'x', false))

-- deny TG011
CALL set_config('app.tenant_id', 'x', false)

-- deny TG015
CALL pg_catalog.pg_sleep(1)

-- deny TG016
DO $$ BEGIN COMMIT; END $$

-- deny TG019
VACUUM invoices

-- deny TG011
SET app.tenant_id = 'x'
