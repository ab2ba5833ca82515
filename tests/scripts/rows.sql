-- What the tables of schema.sql hold when a script begins.
DROP SCHEMA IF EXISTS other CASCADE;
TRUNCATE items, plain, parents, children, uniq;
INSERT INTO items VALUES
    (1, '00000000-0000-0000-0000-00000000000a', 'anvil', 10), (2, '00000000-0000-0000-0000-00000000000a', 'axe', 20),
    (3, '00000000-0000-0000-0000-00000000000a', 'awl', 30), (11, '00000000-0000-0000-0000-00000000000b', 'bolt', 1),
    (12, '00000000-0000-0000-0000-00000000000b', 'bit', 2), (21, '00000000-0000-0000-0000-00000000000c', 'cog', 5);
INSERT INTO parents VALUES (1), (2);
INSERT INTO uniq VALUES (1), (2);
