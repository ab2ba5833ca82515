A migration login whose configuration has `definitions_allowed = ["owner_views", "partitions"]`: what others may read more by, and no more.

-- allow definition
CREATE VIEW v AS SELECT * FROM orders

-- allow definition
CREATE OR REPLACE VIEW v WITH (security_barrier) AS SELECT * FROM orders

-- allow definition
CREATE SCHEMA s CREATE VIEW v AS SELECT * FROM orders

-- allow definition
CREATE TABLE orders_2026 PARTITION OF orders FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')

-- deny TG011
CREATE VIEW v AS SELECT * FROM orders, LATERAL (SELECT set_config('app.tenant_id', 'x', true)) s

-- deny TG018
CREATE VIEW v AS SELECT * FROM pg_authid

-- deny TG065
ALTER VIEW v SET (security_invoker = false)

-- deny TG065
ALTER VIEW v OWNER TO other

-- deny TG065
ALTER TABLE orders ATTACH PARTITION o FOR VALUES IN (1)

-- deny TG065
ALTER TABLE orders DETACH PARTITION o

-- deny TG065
CREATE TABLE y () INHERITS (orders)

-- deny TG065
CREATE RULE r AS ON INSERT TO orders DO INSTEAD NOTHING

-- deny TG065
CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'

-- deny TG065
GRANT SELECT ON v TO other

-- deny TG017
CREATE TEMP VIEW v AS SELECT * FROM orders
