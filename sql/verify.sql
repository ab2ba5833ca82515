-- What is wrong with a sealed database, as the role of a pool sees it: one row for each problem, none if all is well.
-- TenantGate asks this on every connection of a pool with `seal = true`, and uses none that has an answer. It reads
-- catalogues only, on standbys too. Run it as the pool's role: `tenantgate sql verify`, or psql.
begin read only;
set local search_path = pg_catalog, pg_temp;
with expected(signature, digest) as (values
  -- Made by tests/real/sealed.rs with TENANTGATE_UPDATE=1.
  ('add_key(bytea)', '5d845978a4b81d87e3455410986d387f645c130b7865ecb826d32712b07ae4a8'),
  ('allow(regrole, text)', '94b438876b9b36003baad44cf95b4ba8fef46aacbff6d131da6ada4c6196ce1f'),
  ('condition(regclass, name)', 'fc309b65312b090786dcf74b61049a3727fa248ffbc70f8da8dedc64aa5590ef'),
  ('coverage()', 'cf81624a13d506e9cc4c3b7e3c219d9ee69ab14d2543ad26ac81f16705043169'),
  ('disallow(regrole)', '24ef4fa4bda1bd3fe1118e4cd24d693f4988afd84c5d5f1a974e7ce927b5e7d4'),
  ('enter(text, integer, timestamp with time zone, integer, bytea)', '2f91fd227890973b6fb0041c3381063b41411f6b8f33dd97279cfa71d39cf8f5'),
  ('enter_bypass(uuid, integer, timestamp with time zone, integer, bytea)', '235717513c52e961d463bf2aaedc7e1f4960cda863d1bb9e5388962d2fd9b4c6'),
  ('family(regclass)', '3ba251d51f2c595e5dcc1c1795e9508f3a88a2020295ff25880afc54f794eee0'),
  ('forget_bypasses(timestamp with time zone)', '2095a4f9a30c46e963700c385703fcd4ea3528633187923ddcea3f6dd93e18da'),
  ('is_bypass()', '582b08e654089eb2c92c7ea4465acbfe0232ac29b1fdcf3297f5aa85afadf143'),
  ('keys()', 'f39d66258d7e1aea4458e258c26e202a536661fecb52d591fdc8bd16bf97473e'),
  ('pads(bytea)', 'adc8bcf435de8451c4dd07570546f74458a9249b2818cb36c59a2a991a296d91'),
  ('protect(regclass, name, name[], boolean)', 'bda727d1e027a60260b09e48675141bc6a7d5559f7a42a89e929c4447c6690e8'),
  ('protection(regclass, name, name[])', '574a806b98c25b4b16ea0c9d69d66b4280ef3438b3c9df4e63a8da5531580c94'),
  ('random_key()', '4b1240640a1f3cc31f0b79d91766d005b14e4187a1f808cdcbb0b1a3fa908cba'),
  ('refuse_ticket(integer, timestamp with time zone, integer)', 'fa5b578eae733a4de56e7cc68bf656d65022eb3cdca46d1e419c44b9877f439b'),
  ('retire_keys_except(integer)', '66da35d50bd5a24de0b18f047704e758dfd4d631fbddce0642b4bc4fddfa3782'),
  ('roles(text)', '84e6bb8e0c5a24ff19091203431603960876c429d4ada523f96b8f2e77908b8e'),
  ('run_briefly(text[])', '22ebe98aeeb2c69056db2a05a1da6ce0be1d37d818469268710316f766d4945e'),
  ('signature(bytea, text)', '59487e766f8c38c52e91644ec5bce632e80493c8fd22c77a1751890392e19029'),
  ('signed_tenant()', 'add5fcaace1097efe25a4cfa7619a253b37f1e4040a80b4cd0af9768a25949ca'),
  ('tenant_bigint()', 'dbda4080645145768297b5f10f358afc9e7f09fa7ce9cae434c2bed659a6eab7'),
  ('tenant_id()', 'c8c75ca59f3afa3b87827c02bab488271ecce92b4712e57f76ad0a5a08b0f886'),
  ('tenant_uuid()', 'c9d4902ba3e959c34751fc1430bdbfd9a9633c9dd91a8e56aead2ada6a42b054'),
  ('unprotect(regclass, boolean)', '924725d62b1d9f7a5e2d644ad7cd8abb529b6c47e66bf7da6815b398f652d901'),
  ('version()', '31befcff344a302950de57560ca0d121ace01b4c8b16d1fff4f668f045ff59c1'),
  ('', '')
), vault as (
  select oid from pg_roles where rolname = 'tenantgate_vault'
), known as (
  select p.oid, p.proname || '(' || oidvectortypes(p.proargtypes) || ')' as signature, p.proowner,
         encode(sha256(convert_to(concat_ws('|', p.prosrc, p.prosecdef, p.provolatile, p.proparallel, p.proisstrict, p.proretset,
           p.prokind, p.proconfig, p.probin, format_type(p.prorettype, null), l.lanname), 'UTF8')), 'hex') as digest
    from pg_proc p join pg_language l on l.oid = p.prolang
   where p.pronamespace = to_regnamespace('tenantgate')
), mine as (
  -- Whom SET ROLE makes of it, too: what it does not inherit is a statement away.
  select r.* from pg_roles r where pg_has_role(r.oid, 'MEMBER')
), granted as (
  select k.signature,
         k.signature like 'enter(%' or k.signature in ('tenant_id()', 'tenant_uuid()', 'tenant_bigint()') as is_tenants,
         k.signature like 'enter\_bypass(%' or k.signature = 'is_bypass()' as is_bypass
    from known k
   where k.signature <> 'version()' and exists (select from mine m where has_function_privilege(m.oid, k.oid, 'EXECUTE'))
), sealed as (
  select c.oid, c.oid::regclass as relation, c.relowner, c.relrowsecurity, c.relforcerowsecurity
    from pg_class c
   where exists (select from pg_policy p where p.polrelid = c.oid and p.polname in ('tenantgate_tenant', 'tenantgate_bypass'))
), policy as (
  select s.relation, p.polname, p.polpermissive, p.polcmd,
         pg_get_expr(p.polqual, p.polrelid) as used, pg_get_expr(p.polwithcheck, p.polrelid) as checked,
         exists (select from unnest(p.polroles) g where g = 0 or pg_has_role(g, 'MEMBER')) as applies
    from sealed s join pg_policy p on p.polrelid = s.oid
), problems(problem) as (
  select 'the schema tenantgate is not installed, or not for this role' where not exists (
    select from pg_namespace where nspname = 'tenantgate' and nspowner in (select oid from vault) and has_schema_privilege(oid, 'USAGE'))
  union all
  select format('function tenantgate.%s is missing', e.signature) from expected e
   where e.signature <> '' and not exists (select from known k where k.signature = e.signature)
  union all
  select format('function tenantgate.%s is not as it was installed', k.signature)
    from known k left join expected e using (signature)
   where e.digest is distinct from k.digest or not exists (select from vault where vault.oid = k.proowner)
  union all
  select format('role %I may execute tenantgate.%s', current_user, g.signature) from granted g where not (g.is_tenants or g.is_bypass)
  union all
  select format('role %I may act both for tenants and past them', current_user)
   where (select bool_or(is_tenants) and bool_or(is_bypass) from granted)
  union all
  select format('role %I has rights on tenantgate.%I', m.rolname, c.relname) from pg_class c, mine m
   where c.relnamespace = to_regnamespace('tenantgate') and c.relkind in ('r', 'S', 'v', 'm', 'p')
     and (has_table_privilege(m.oid, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
       or (c.relkind <> 'S' and has_any_column_privilege(m.oid, c.oid, 'INSERT, UPDATE, REFERENCES'))
       -- A bypass role may read what bypasses have left: an outcome that the ledger lacks is found there.
       or (c.relkind <> 'S' and has_any_column_privilege(m.oid, c.oid, 'SELECT')
         and not (c.relname = 'bypass' and coalesce((select bool_or(is_bypass) and not bool_or(is_tenants) from granted), false)))
       or (c.relkind = 'S' and has_sequence_privilege(m.oid, c.oid, 'USAGE, SELECT, UPDATE')))
  union all
  select format('relation tenantgate.%I belongs to another role than tenantgate_vault', c.relname) from pg_class c
   where c.relnamespace = to_regnamespace('tenantgate') and not exists (select from vault where vault.oid = c.relowner)
  union all
  select format('role tenantgate_vault may %s', word) from pg_roles r,
         lateral (values (rolcanlogin, 'log in'), (rolsuper, 'do everything'), (rolcreaterole, 'create roles'), (rolbypassrls, 'bypass policies')) v(may, word)
   where r.rolname = 'tenantgate_vault' and may
  union all
  select format('role %I is, or may become, %I, which %s', current_user, m.rolname, word) from mine m,
         lateral (values (m.rolsuper, 'is a superuser'), (m.rolbypassrls, 'has BYPASSRLS'), (m.rolcreaterole, 'has CREATEROLE'),
           (m.rolname = 'tenantgate_vault', 'owns the keys'),
           (m.rolname in ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files'), 'reaches the server''s files'),
           (m.rolname in ('pg_read_all_data', 'pg_write_all_data'), 'reaches every table')) v(is_so, word)
   where is_so and not (m.rolname = 'tenantgate_vault' and exists (select from mine s where s.rolsuper))
  union all
  select format('role %I may create temporary objects: REVOKE TEMP ON DATABASE %I FROM PUBLIC, %I', m.rolname, current_database(), m.rolname)
    from mine m where has_database_privilege(m.oid, current_database(), 'TEMP')
  union all
  select format('role %I may create schemas: REVOKE CREATE ON DATABASE %I FROM %I', m.rolname, current_database(), m.rolname)
    from mine m where has_database_privilege(m.oid, current_database(), 'CREATE')
  union all
  select format('role %I may create objects in schema %I: REVOKE CREATE ON SCHEMA %I FROM PUBLIC, %I', m.rolname, n.nspname, n.nspname, m.rolname)
    from pg_namespace n, mine m where has_schema_privilege(m.oid, n.oid, 'CREATE') and n.nspname not like 'pg\_temp\_%' and n.nspname not like 'pg\_toast\_temp\_%'
  union all
  select format('table %s: %s', s.relation, word) from sealed s,
         lateral (values (not s.relrowsecurity, 'row-level security is off'), (not s.relforcerowsecurity, 'row-level security is not forced'),
           (pg_has_role(s.relowner, 'MEMBER'), 'its owner is this role, or one this role may become')) v(is_so, word)
   where is_so
  union all
  select format('table %s: policy %I is not as it was made', p.relation, p.polname) from policy p
   where p.polname in ('tenantgate_tenant', 'tenantgate_bypass') and not coalesce(
     p.polpermissive and p.polcmd = '*' and p.used = p.checked and case p.polname
       when 'tenantgate_bypass' then p.used = '( SELECT tenantgate.is_bypass() AS is_bypass)'
       else p.used ~ '^\(\(?("([^"]|"")*"|[a-z_][a-z_0-9$]*)\)?(::text)? = \( SELECT tenantgate\.(tenant_id|tenant_uuid|tenant_bigint)\(\) AS (tenant_id|tenant_uuid|tenant_bigint)\)\)$' end, false)
  union all
  select format('table %s: policy %I lets this role past the sealed one', p.relation, p.polname) from policy p
   where p.applies and p.polpermissive and p.polname not in ('tenantgate_tenant', 'tenantgate_bypass')
)
select problem from problems order by problem limit 50;
commit;
