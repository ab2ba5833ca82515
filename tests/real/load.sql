-- What the storm works on. The recorder counts in sequences: nextval is not undone by a rollback.
CREATE SCHEMA watch AUTHORIZATION recorder;
CREATE SEQUENCE watch.probes MINVALUE 0 START 1;
CREATE SEQUENCE watch.unscoped MINVALUE 0 START 1;
CREATE SEQUENCE watch.wrong MINVALUE 0 START 1;
SELECT nextval('watch.probes'), nextval('watch.unscoped'), nextval('watch.wrong');
ALTER SEQUENCE watch.probes OWNER TO recorder;
ALTER SEQUENCE watch.unscoped OWNER TO recorder;
ALTER SEQUENCE watch.wrong OWNER TO recorder;

CREATE FUNCTION public.probe(sender text) RETURNS text LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog AS $$
DECLARE
    seen text := current_setting('app.tenant_id', true);
BEGIN
    PERFORM nextval('watch.probes');
    IF coalesce(seen, '') = '' THEN
        PERFORM nextval('watch.unscoped');
        RAISE LOG 'UNSCOPED statement of %: %', sender, current_query();
    ELSIF seen <> sender THEN
        PERFORM nextval('watch.wrong');
        RAISE LOG 'WRONG tenant %, the sender is %: %', seen, sender, current_query();
    END IF;
    RETURN sender;
END $$;
ALTER FUNCTION public.probe(text) OWNER TO recorder;

CREATE TABLE rows (
    id bigint GENERATED ALWAYS AS IDENTITY,
    tenant_id uuid NOT NULL DEFAULT NULLIF(current_setting('app.tenant_id', true), '')::uuid,
    writer text NOT NULL,
    n int NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, id)
);
ALTER TABLE rows ENABLE ROW LEVEL SECURITY;
ALTER TABLE rows FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON rows
    USING (tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid)
    WITH CHECK (tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid);

-- COPY FROM refuses row-level security: here the default alone says which tenant was set.
CREATE TABLE copies (n int, writer text, seen text DEFAULT current_setting('app.tenant_id', true));

GRANT SELECT, INSERT, UPDATE, DELETE ON rows, copies TO app_user;
