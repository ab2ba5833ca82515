-- A schema in the first users' style: an ORM's tables in double quotes, tenants as text in "tenantId", policies on
-- app.current_tenant_id. 67 tables have a tenant column; 50 are covered. Written for tests/real/check.rs, which says what
-- must be found in it. Run by a superuser in an empty database; the roles shop_owner and shop_app must exist.

GRANT USAGE ON SCHEMA public TO shop_app;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
ALTER SCHEMA public OWNER TO shop_owner;
SET ROLE shop_owner;

-- -- tables
CREATE TABLE "users" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text, email text NOT NULL UNIQUE);
CREATE INDEX ON "users" ("tenantId");
CREATE TABLE "roles" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "roles" ("tenantId");
CREATE TABLE "permissions" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "permissions" ("tenantId");
CREATE TABLE "memberships" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "memberships" ("tenantId");
CREATE TABLE "invitations" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "invitations" ("tenantId");
CREATE TABLE "sessions" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "sessions" ("tenantId");
CREATE TABLE "api_keys" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "api_keys" ("tenantId");
CREATE TABLE "audit_events" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "audit_events" ("tenantId");
CREATE TABLE "customers" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "customers" ("tenantId");
CREATE TABLE "contacts" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "contacts" ("tenantId");
CREATE TABLE "addresses" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "addresses" ("tenantId");
CREATE TABLE "companies" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "companies" ("tenantId");
CREATE TABLE "leads" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "leads" ("tenantId");
CREATE TABLE "deals" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "deals" ("tenantId");
CREATE TABLE "pipelines" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "pipelines" ("tenantId");
CREATE TABLE "stages" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "stages" ("tenantId");
CREATE TABLE "activities" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "activities" ("tenantId");
CREATE TABLE "notes" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "notes" ("tenantId");
CREATE TABLE "tags" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text, name text);
CREATE INDEX ON "tags" ("tenantId");
CREATE TABLE "taggings" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "taggings" ("tenantId");
CREATE TABLE "products" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "products" ("tenantId");
CREATE TABLE "categories" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text, name text);
CREATE INDEX ON "categories" ("tenantId");
CREATE TABLE "prices" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "prices" ("tenantId");
CREATE TABLE "price_lists" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "price_lists" ("tenantId");
CREATE TABLE "warehouses" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "warehouses" ("tenantId");
CREATE TABLE "stock_levels" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "stock_levels" ("tenantId");
CREATE TABLE "stock_moves" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "stock_moves" ("tenantId");
CREATE TABLE "suppliers" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "suppliers" ("tenantId");
CREATE TABLE "purchase_orders" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "purchase_orders" ("tenantId");
CREATE TABLE "purchase_lines" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "purchase_lines" ("tenantId");
CREATE TABLE "orders" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "orders" ("tenantId");
CREATE TABLE "order_lines" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text, "orderId" bigint NOT NULL REFERENCES "orders" (id) ON DELETE CASCADE);
CREATE INDEX ON "order_lines" ("tenantId");
CREATE TABLE "shipments" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "shipments" ("tenantId");
CREATE TABLE "carriers" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "carriers" ("tenantId");
CREATE TABLE "returns" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "returns" ("tenantId");
CREATE TABLE "invoices" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "invoices" ("tenantId");
CREATE TABLE "invoice_lines" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "invoice_lines" ("tenantId");
CREATE TABLE "payments" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "payments" ("tenantId");
CREATE TABLE "refunds" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "refunds" ("tenantId");
CREATE TABLE "credit_notes" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "credit_notes" ("tenantId");
CREATE TABLE "tax_rates" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text, name text);
CREATE INDEX ON "tax_rates" ("tenantId");
CREATE TABLE "ledgers" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "ledgers" ("tenantId");
CREATE TABLE "journal_entries" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "journal_entries" ("tenantId");
CREATE TABLE "journal_lines" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "journal_lines" ("tenantId");
CREATE TABLE "budgets" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "budgets" ("tenantId");
CREATE TABLE "projects" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "projects" ("tenantId");
CREATE TABLE "tasks" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "tasks" ("tenantId");
CREATE TABLE "milestones" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "milestones" ("tenantId");
CREATE TABLE "time_entries" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "time_entries" ("tenantId");
CREATE TABLE "comments" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "comments" ("tenantId");
CREATE TABLE "attachments" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "attachments" ("tenantId");
CREATE TABLE "documents" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "documents" ("tenantId");
CREATE TABLE "folders" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "folders" ("tenantId");
CREATE TABLE "templates" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "templates" ("tenantId");
CREATE TABLE "signatures" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "signatures" ("tenantId");
CREATE TABLE "forms" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "forms" ("tenantId");
CREATE TABLE "form_fields" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "form_fields" ("tenantId");
CREATE TABLE "submissions" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "submissions" ("tenantId");
CREATE TABLE "workflows" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "workflows" ("tenantId");
CREATE TABLE "workflow_steps" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "workflow_steps" ("tenantId");
CREATE TABLE "workflow_runs" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "workflow_runs" ("tenantId");
CREATE TABLE "webhooks" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "webhooks" ("tenantId");
CREATE TABLE "webhook_deliveries" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "webhook_deliveries" ("tenantId");
CREATE TABLE "exports" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "exports" ("tenantId");
CREATE TABLE "imports" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "imports" ("tenantId");
CREATE TABLE "reports" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);
CREATE INDEX ON "reports" ("tenantId");
CREATE TABLE "dashboards" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tenantId" text NOT NULL, name text);

-- -- row-level security, as their migrations write it
CREATE FUNCTION protect(tables text[], condition text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE one text;
BEGIN
    FOREACH one IN ARRAY tables LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', one);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', one);
        EXECUTE format('CREATE POLICY tenant_isolation ON %I USING (%s)', one, condition);
    END LOOP;
END $$;

-- The escape of their jobs: postgres without a tenant sees everything.
SELECT protect(ARRAY[
    'users', 'roles', 'permissions', 'memberships', 'invitations', 'sessions', 'api_keys', 'audit_events',
    'customers', 'contacts', 'addresses', 'companies', 'leads', 'deals', 'pipelines', 'stages', 'activities',
    'notes', 'taggings', 'products', 'prices', 'price_lists', 'warehouses', 'stock_levels', 'stock_moves',
    'suppliers', 'purchase_orders', 'purchase_lines', 'orders', 'order_lines', 'shipments', 'carriers',
    'returns', 'invoices', 'invoice_lines', 'payments', 'refunds', 'credit_notes', 'ledgers',
    'journal_entries', 'journal_lines', 'budgets', 'projects', 'tasks', 'milestones', 'time_entries',
    'workflows'],
    $$"tenantId" = current_setting('app.current_tenant_id', true)
      OR (current_user = 'postgres' AND current_setting('app.current_tenant_id', true) = '')$$);

-- Rows without a tenant are everybody's.
SELECT protect(ARRAY[
    'tags', 'categories', 'tax_rates'],
    $$"tenantId" = current_setting('app.current_tenant_id', true) OR "tenantId" IS NULL$$);

-- What is switched on for support, as a second permissive policy.
CREATE POLICY bypass ON "customers" USING (current_setting('app.bypass_rls', true) = 'true');
CREATE POLICY bypass ON "orders" USING (current_setting('app.bypass_rls', true) = 'true');
CREATE POLICY bypass ON "invoices" USING (current_setting('app.bypass_rls', true) = 'true');

-- -- the gaps: 10 without anything, 3 whose policies were never switched on, 2 without a policy, 2 open ones
CREATE POLICY tenant_isolation ON "templates" USING ("tenantId" = current_setting('app.current_tenant_id', true));
CREATE POLICY tenant_isolation ON "signatures" USING ("tenantId" = current_setting('app.current_tenant_id', true));
CREATE POLICY tenant_isolation ON "forms" USING ("tenantId" = current_setting('app.current_tenant_id', true));
ALTER TABLE "documents" ENABLE ROW LEVEL SECURITY;
ALTER TABLE "documents" FORCE ROW LEVEL SECURITY;
ALTER TABLE "folders" ENABLE ROW LEVEL SECURITY;
ALTER TABLE "folders" FORCE ROW LEVEL SECURITY;
ALTER TABLE "comments" ENABLE ROW LEVEL SECURITY;
ALTER TABLE "comments" FORCE ROW LEVEL SECURITY;
ALTER TABLE "attachments" ENABLE ROW LEVEL SECURITY;
ALTER TABLE "attachments" FORCE ROW LEVEL SECURITY;
CREATE POLICY everybody ON "comments" USING (true) WITH CHECK (true);
CREATE POLICY everybody ON "attachments" USING (true) WITH CHECK (true);

DROP FUNCTION protect(text[], text);
CREATE TABLE countries (code text PRIMARY KEY, name text);
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO shop_app;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO shop_app;
RESET ROLE;

-- -- rows of two tenants, as a superuser writes them
INSERT INTO "orders" ("tenantId", name)
    SELECT t, 'order ' || n FROM unnest(ARRAY['acme', 'globex']) t, generate_series(1, 10) n;
INSERT INTO "users" ("tenantId", name, email)
    SELECT t, 'user', t || '@example.com' FROM unnest(ARRAY['acme', 'globex']) t;
INSERT INTO "tags" ("tenantId", name) VALUES ('acme', 'own'), ('globex', 'own'), (NULL, 'shared');
INSERT INTO "webhooks" ("tenantId", name) VALUES ('acme', 'hook'), ('globex', 'hook');
INSERT INTO countries VALUES ('NL', 'Netherlands');
