-- The tables every script finds; rows.sql fills them before each side of each script.
DROP SCHEMA IF EXISTS public, other CASCADE;
CREATE SCHEMA public;
GRANT USAGE ON SCHEMA public TO app_user;

CREATE TABLE items (
    id int PRIMARY KEY,
    tenant_id uuid NOT NULL DEFAULT NULLIF(current_setting('app.tenant_id', true), '')::uuid,
    name text,
    qty int NOT NULL DEFAULT 0 CHECK (qty >= 0)
);
ALTER TABLE items ENABLE ROW LEVEL SECURITY;
ALTER TABLE items FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON items
    USING (tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid)
    WITH CHECK (tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid);

-- No row-level security: COPY FROM works here. The default shows which tenant a row was written for.
CREATE TABLE plain (id int, note text, writer text DEFAULT current_setting('app.tenant_id', true));

CREATE TABLE parents (id int PRIMARY KEY);
CREATE TABLE children (
    id int PRIMARY KEY,
    parent int REFERENCES parents DEFERRABLE INITIALLY DEFERRED,
    writer text DEFAULT current_setting('app.tenant_id', true)
);
CREATE TABLE uniq (v int UNIQUE DEFERRABLE INITIALLY DEFERRED);

CREATE FUNCTION shout(what text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RAISE NOTICE 'heard %', what USING DETAIL = 'a detail', HINT = 'a hint';
    RETURN upper(what);
END $$;
CREATE FUNCTION fails(what text) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'failed: %', what USING ERRCODE = 'P0001', DETAIL = 'in a function';
END $$;

GRANT ALL ON ALL TABLES IN SCHEMA public TO app_user;
