-- Texts that are no SQL, or not surely the SQL that a server would read.

-- deny TG021
SELEC 1

-- deny TG021
SELECT FROM WHERE

-- deny TG021
SELECT 'unterminated

-- deny TG021
SELECT "unterminated

-- deny TG021
SELECT $$unterminated

-- deny TG021
SELECT 1 /* unterminated

-- deny TG021
SELECT (1

-- deny TG021
SELECT 1)

-- deny TG021
SELECT 1 SELECT 2

-- deny TG021
BEGIN; SELEC 1

-- deny TG021
SELECT 'a' 'b'

-- deny TG021
SELECT U&'\zzzz'

-- deny TG021
SELECT E'\xZZ' ''

-- deny TG021
\d

-- deny TG021
GRANT

-- deny TG021
SELECT 1a

-- deny TG021
SELECT 'it\'s'

-- deny TG021
a := 1

-- deny TG021
RETURN 1

-- deny TG021
SET app.tenant_id

-- deny TG021
SET = 1

-- deny TG021
SELECT 0xZ

-- deny TG021
COPY t FROM STDIN; \.

-- allow select
SELECT 'a\', set_config AS "b ' || ' c"

-- allow select
SELECT 'backslash \ is plain'

-- allow select
SELECT E'it\'s'

-- allow select
SELECT 'é', '日本語', 'emoji 🎉'

-- allow select
SELECT "spalte_ä" FROM "größe"

-- allow select
SELECT 1 /* /* nested */ */ + 1

-- allow select
SELECT '/*' , '*/' , '/*', '--'

-- allow select
SELECT $a$ $b$ ; set_config( $b$ $a$
