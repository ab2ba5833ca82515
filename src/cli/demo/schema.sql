-- A small SaaS: three tenants, their invoices, one table for all of them.
-- Run by the cluster's superuser; {app_password} is replaced by a random one.

CREATE ROLE saas_owner NOLOGIN;
CREATE ROLE app_user LOGIN PASSWORD '{app_password}' NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE;
-- Who may see all tenants, over bypass logins only. No BYPASSRLS: policies of its own say what it sees.
CREATE ROLE app_bypass LOGIN PASSWORD '{app_password}' NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE;

-- The pool's role may leave nothing behind for the next tenant.
REVOKE ALL ON DATABASE demo FROM PUBLIC;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT CONNECT ON DATABASE demo TO app_user, app_bypass;
GRANT USAGE ON SCHEMA public TO app_user, app_bypass;
GRANT USAGE, CREATE ON SCHEMA public TO saas_owner;

SET ROLE saas_owner;

CREATE TABLE tenants (
    id   uuid PRIMARY KEY,
    name text NOT NULL
);

CREATE TABLE invoices (
    id        bigint GENERATED ALWAYS AS IDENTITY,
    tenant_id uuid NOT NULL DEFAULT NULLIF(current_setting('app.tenant_id', true), '')::uuid REFERENCES tenants,
    customer  text NOT NULL,
    amount    numeric NOT NULL,
    PRIMARY KEY (tenant_id, id)
);

INSERT INTO tenants VALUES
    ('00000000-0000-0000-0000-00000000000a', 'acme'),
    ('00000000-0000-0000-0000-00000000000b', 'globex'),
    ('00000000-0000-0000-0000-00000000000c', 'initech');

INSERT INTO invoices (tenant_id, customer, amount) VALUES
    ('00000000-0000-0000-0000-00000000000a', 'Ada Lovelace',    1200.00),
    ('00000000-0000-0000-0000-00000000000b', 'Blaise Pascal',    310.50),
    ('00000000-0000-0000-0000-00000000000a', 'Alan Turing',       99.90),
    ('00000000-0000-0000-0000-00000000000c', 'Carl Gauss',      5000.00),
    ('00000000-0000-0000-0000-00000000000b', 'Barbara Liskov',    42.00),
    ('00000000-0000-0000-0000-00000000000b', 'Bernhard Riemann', 777.77),
    ('00000000-0000-0000-0000-00000000000a', 'Alonzo Church',    640.00);

ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenants FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON tenants TO app_user
    USING      (id = NULLIF(current_setting('app.tenant_id', true), '')::uuid)
    WITH CHECK (id = NULLIF(current_setting('app.tenant_id', true), '')::uuid);

ALTER TABLE invoices ENABLE ROW LEVEL SECURITY;
ALTER TABLE invoices FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON invoices TO app_user
    USING      (tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid)
    WITH CHECK (tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid);

CREATE POLICY every_tenant ON tenants TO app_bypass USING (true) WITH CHECK (true);
CREATE POLICY every_row ON invoices TO app_bypass USING (true) WITH CHECK (true);

GRANT SELECT ON tenants TO app_user, app_bypass;
GRANT SELECT, INSERT, UPDATE, DELETE ON invoices TO app_user, app_bypass;

RESET ROLE;
ANALYZE;
