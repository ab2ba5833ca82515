No list gives definitions to a login whose transactions are not recorded.

-- deny TG019
CREATE VIEW v AS SELECT * FROM orders

-- deny TG019
CREATE VIEW v AS SELECT 1

-- deny TG019
CREATE TABLE orders_2026 PARTITION OF orders DEFAULT
