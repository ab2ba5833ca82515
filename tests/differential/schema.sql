-- What generated sessions find. All tenants share the tables, so that all clients share texts and servers; a tenant's
-- rows are put back before each side of each session (see `rows` in tests/real/differential/arena.rs).
CREATE TABLE items (
    tenant_id uuid NOT NULL DEFAULT NULLIF(current_setting('app.tenant_id', true), '')::uuid,
    id int NOT NULL,
    name text,
    qty int NOT NULL DEFAULT 0 CHECK (qty >= 0),
    PRIMARY KEY (tenant_id, id)
);
CREATE TABLE parents (LIKE items INCLUDING DEFAULTS, PRIMARY KEY (tenant_id, id));
CREATE TABLE children (
    tenant_id uuid NOT NULL DEFAULT NULLIF(current_setting('app.tenant_id', true), '')::uuid,
    id int NOT NULL,
    parent int,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, parent) REFERENCES parents DEFERRABLE INITIALLY DEFERRED
);
CREATE TABLE uniq (
    tenant_id uuid NOT NULL DEFAULT NULLIF(current_setting('app.tenant_id', true), '')::uuid,
    v int,
    UNIQUE (tenant_id, v) DEFERRABLE INITIALLY DEFERRED
);
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['items', 'parents', 'children', 'uniq'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY own ON %I USING (tenant_id = NULLIF(current_setting(''app.tenant_id'', true), '''')::uuid)', name);
    END LOOP;
END $$;

-- No row-level security: COPY FROM works here. The default shows which tenant a row was written for.
CREATE TABLE plain (id int, note text, writer text DEFAULT current_setting('app.tenant_id', true));
CREATE INDEX ON plain (writer);

-- The same names in two schemas: search_path decides.
CREATE SCHEMA north;
CREATE SCHEMA south;
CREATE TABLE north.things AS SELECT g AS id, 'north ' || g AS place FROM generate_series(1, 3) AS g;
CREATE TABLE south.things AS SELECT g AS id, 'south ' || g AS place FROM generate_series(1, 2) AS g;
CREATE TABLE public.things AS SELECT 0 AS id, 'public' AS place;

CREATE FUNCTION shout(what text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RAISE NOTICE 'heard %', what USING DETAIL = 'a detail', HINT = 'a hint';
    RETURN upper(what);
END $$;
CREATE FUNCTION warns(what text) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    RAISE WARNING 'careful: %', what;
    RAISE INFO 'by the way: %', what;
    RETURN 1;
END $$;
CREATE FUNCTION fails(what text) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    RAISE NOTICE 'about to fail';
    RAISE EXCEPTION 'failed: %', what USING ERRCODE = 'P0001', DETAIL = 'in a function';
END $$;
CREATE FUNCTION caught() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.items (id, name) VALUES (1, 'again');
    RETURN 'never';
EXCEPTION WHEN unique_violation THEN
    RETURN 'caught as ' || current_setting('app.tenant_id', true);
END $$;
-- Rows of nobody who asks: they must not be seen.
INSERT INTO items SELECT format('99999999-0000-0000-0000-%s', lpad(g::text, 12, '0'))::uuid, g, 'foreign', g
    FROM generate_series(1, 20) AS g;
GRANT USAGE ON SCHEMA north, south TO app_user;
GRANT ALL ON ALL TABLES IN SCHEMA public, north, south TO app_user;
