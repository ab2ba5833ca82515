-- Every line of the list of threats that only a schema can stop, or open: one object each, named after it.
-- tests/real/check.rs says which code must be found for which. Run by a superuser in an empty database; the roles
-- threat_owner and threat_app must exist.

CREATE SCHEMA shop;
GRANT USAGE ON SCHEMA shop TO threat_app;
ALTER SCHEMA shop OWNER TO threat_owner;
SET ROLE threat_owner;

-- The one that is as it should be.
CREATE TABLE shop.good (
    tenant_id uuid NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (tenant_id, id)
);
ALTER TABLE shop.good ENABLE ROW LEVEL SECURITY;
ALTER TABLE shop.good FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON shop.good
    USING (tenant_id = (SELECT NULLIF(current_setting('app.tenant_id', true), '')::uuid));
GRANT SELECT, INSERT, UPDATE, DELETE ON shop.good TO threat_app;

-- unique and foreign keys without the tenant column: one tenant's DELETE cascades into another's row
CREATE TABLE shop.parent (LIKE shop.good INCLUDING ALL, slug text UNIQUE, number bigint);
CREATE UNIQUE INDEX parent_number ON shop.parent (number);
CREATE TABLE shop.cascading (
    LIKE shop.good INCLUDING ALL,
    parent_slug text REFERENCES shop.parent (slug) ON DELETE CASCADE
);
-- a child without the tenant column
CREATE TABLE shop.child (
    parent_tenant uuid,
    parent_id bigint,
    FOREIGN KEY (parent_tenant, parent_id) REFERENCES shop.parent (tenant_id, id)
);
-- WITH CHECK (true)
CREATE TABLE shop.unchecked (LIKE shop.good INCLUDING ALL);
-- an IMMUTABLE policy function
CREATE TABLE shop.frozen (LIKE shop.good INCLUDING ALL);
CREATE FUNCTION shop.frozen_tenant() RETURNS uuid LANGUAGE sql IMMUTABLE AS
    $$ SELECT NULLIF(current_setting('app.tenant_id', true), '')::uuid $$;
-- nullable tenant columns treated as shared; a cast that the empty string breaks
CREATE TABLE shop.shared (tenant_id uuid, name text);
-- OR-bypass; an identity; open when unset; another setting; USING (true)
CREATE TABLE shop.switched (LIKE shop.good INCLUDING ALL);
CREATE TABLE shop.escaped (LIKE shop.good INCLUDING ALL);
CREATE TABLE shop.unset (LIKE shop.good INCLUDING ALL);
CREATE TABLE shop.elsewhere (LIKE shop.good INCLUDING ALL);
CREATE TABLE shop.opened (LIKE shop.good INCLUDING ALL);
-- no row-level security, none forced, no policy
CREATE TABLE shop.bare (LIKE shop.good INCLUDING ALL);
CREATE TABLE shop.unforced (LIKE shop.good INCLUDING ALL);
CREATE TABLE shop.silent (LIKE shop.good INCLUDING ALL);
-- partitions and children queried directly
CREATE TABLE shop.parted (tenant_id uuid NOT NULL, month date NOT NULL) PARTITION BY RANGE (month);
CREATE TABLE shop.parted_2026 PARTITION OF shop.parted FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE shop.inherited () INHERITS (shop.shared);

DO $$
DECLARE one text;
BEGIN
    FOREACH one IN ARRAY ARRAY['parent', 'cascading', 'unchecked', 'frozen', 'shared', 'switched', 'escaped', 'unset',
        'elsewhere', 'opened', 'unforced', 'silent', 'parted'] LOOP
        EXECUTE format('ALTER TABLE shop.%I ENABLE ROW LEVEL SECURITY', one);
        CONTINUE WHEN one = 'unforced';
        EXECUTE format('ALTER TABLE shop.%I FORCE ROW LEVEL SECURITY', one);
    END LOOP;
    FOREACH one IN ARRAY ARRAY['parent', 'cascading', 'switched', 'opened', 'unforced', 'parted'] LOOP
        EXECUTE format('CREATE POLICY tenant ON shop.%I USING (tenant_id = '
            '(SELECT NULLIF(current_setting(''app.tenant_id'', true), '''')::uuid))', one);
    END LOOP;
END $$;
CREATE POLICY reading ON shop.unchecked FOR SELECT
    USING (tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid);
CREATE POLICY writing ON shop.unchecked FOR INSERT WITH CHECK (true);
CREATE POLICY tenant ON shop.frozen USING (tenant_id = shop.frozen_tenant());
CREATE POLICY tenant ON shop.shared
    USING (tenant_id = current_setting('app.tenant_id', true)::uuid OR tenant_id IS NULL);
CREATE POLICY bypass ON shop.switched USING (current_setting('app.bypass_rls', true) = 'true');
CREATE POLICY everybody ON shop.opened FOR SELECT USING (true);
CREATE POLICY tenant ON shop.escaped USING (tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid
    OR (current_user = 'postgres' AND current_setting('app.tenant_id', true) = ''));
CREATE POLICY tenant ON shop.unset USING (tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid
    OR NULLIF(current_setting('app.tenant_id', true), '') IS NULL);
CREATE POLICY tenant ON shop.elsewhere USING (tenant_id = NULLIF(current_setting('app.org', true), '')::uuid);

GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA shop TO threat_app;
-- TRUNCATE, and privileges that let one build on others' tables
GRANT TRUNCATE, REFERENCES, TRIGGER ON shop.good TO threat_app;

-- views without security_invoker, materialized views
CREATE VIEW shop.good_view AS SELECT * FROM shop.good;
CREATE VIEW shop.view_of_view AS SELECT count(*) FROM shop.good_view;
CREATE MATERIALIZED VIEW shop.good_copy AS SELECT * FROM shop.good;
GRANT SELECT ON shop.good_view, shop.view_of_view, shop.good_copy TO threat_app;

-- SECURITY DEFINER, a string executor, LEAKPROOF, a view of a superuser
CREATE FUNCTION shop.count_all() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS $$ SELECT count(*) FROM shop.good $$;
CREATE FUNCTION shop.run(statement text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE statement; END $$;
-- what sets another tenant, or runs a string, behind a name of one's own
CREATE FUNCTION shop.become(tenant text) RETURNS void LANGUAGE plpgsql AS
    $$ BEGIN PERFORM set_config('app.tenant_id', tenant, true); END $$;
CREATE FUNCTION shop.as_xml(query text) RETURNS xml LANGUAGE sql AS $$ SELECT query_to_xml(query, true, false, '') $$;
RESET ROLE;
CREATE FUNCTION shop.tell(text) RETURNS boolean LANGUAGE plpgsql LEAKPROOF AS
    $$ BEGIN RAISE NOTICE '%', $1; RETURN true; END $$;
CREATE VIEW shop.superuser_view AS SELECT * FROM shop.good;
GRANT SELECT ON shop.superuser_view TO threat_app;

-- TEMP and CREATE; settings that fight the proxy
DO $$ BEGIN
    EXECUTE format('GRANT TEMPORARY, CREATE ON DATABASE %I TO threat_app', current_database());
    EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = serializable', current_database());
    EXECUTE format('ALTER ROLE threat_app IN DATABASE %I SET app.tenant_id = %L', current_database(),
        '00000000-0000-0000-0000-00000000000a');
END $$;
GRANT CREATE ON SCHEMA shop TO threat_app;

CREATE PUBLICATION everything FOR ALL TABLES;
