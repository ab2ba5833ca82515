-- The tables every script finds, made anew before each side of each script.
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
INSERT INTO items VALUES
    (1, '00000000-0000-0000-0000-00000000000a', 'anvil', 10), (2, '00000000-0000-0000-0000-00000000000a', 'axe', 20),
    (3, '00000000-0000-0000-0000-00000000000a', 'awl', 30), (11, '00000000-0000-0000-0000-00000000000b', 'bolt', 1),
    (12, '00000000-0000-0000-0000-00000000000b', 'bit', 2), (21, '00000000-0000-0000-0000-00000000000c', 'cog', 5);

-- No row-level security: COPY FROM works here. The default shows which tenant a row was written for.
CREATE TABLE plain (id int, note text, writer text DEFAULT current_setting('app.tenant_id', true));

CREATE TABLE parents (id int PRIMARY KEY);
INSERT INTO parents VALUES (1), (2);
CREATE TABLE children (
    id int PRIMARY KEY,
    parent int REFERENCES parents DEFERRABLE INITIALLY DEFERRED,
    writer text DEFAULT current_setting('app.tenant_id', true)
);
CREATE TABLE uniq (v int UNIQUE DEFERRABLE INITIALLY DEFERRED);
INSERT INTO uniq VALUES (1), (2);

CREATE FUNCTION shout(what text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RAISE NOTICE 'heard %', what USING DETAIL = 'a detail', HINT = 'a hint';
    RETURN upper(what);
END $$;
CREATE FUNCTION fails(what text) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'failed: %', what USING ERRCODE = 'P0001', DETAIL = 'in a function';
END $$;
