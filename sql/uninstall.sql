-- Takes the schema and, where no other database of the cluster has it, the role away. As the owner of the database, with
-- CREATEROLE. Tables have to be unprotected first: their sealed policies would go with the functions, and with them every row.
begin;
set local client_min_messages = warning;
set local search_path = pg_catalog, pg_temp;
do $$
declare
  sealed text;
  users text;
begin
  select string_agg(c.oid::regclass::text, ', ') into sealed
    from pg_class c
   where exists (select from pg_policy p where p.polrelid = c.oid and p.polname in ('tenantgate_tenant', 'tenantgate_bypass'));
  if sealed is not null then
    raise exception 'these tables are sealed: %', sealed using hint = 'Take their policies away first: SELECT tenantgate.unprotect(''table'').';
  end if;
  -- Policies under other names, views, defaults: they would go with what they call, and a table might open.
  select string_agg(distinct o.kind || ' ' || o.identity, ', ') into users
    from pg_depend d, pg_identify_object(d.classid, d.objid, d.objsubid) as o(kind, schema, name, identity)
   where d.deptype = 'n'
     and ((d.refclassid = 'pg_proc'::regclass
           and exists (select from pg_proc p where p.oid = d.refobjid and p.pronamespace = to_regnamespace('tenantgate')))
       or (d.refclassid = 'pg_class'::regclass
           and exists (select from pg_class c where c.oid = d.refobjid and c.relnamespace = to_regnamespace('tenantgate'))))
     and o.schema is distinct from 'tenantgate' and o.identity not like '% on tenantgate.%' and o.identity not like 'for tenantgate.%';
  if users is not null then
    raise exception 'what the schema "tenantgate" has is used elsewhere: %', users using hint = 'Drop or change that first.';
  end if;
  if not exists (select from pg_roles where rolname = 'tenantgate_vault') then
    return;
  end if;
  if not (select rolsuper from pg_roles where rolname = current_user) then
    execute format('grant tenantgate_vault to %I', current_user);
  end if;
  set local role tenantgate_vault;
  if to_regnamespace('tenantgate') is not null then
    drop schema tenantgate cascade;
  end if;
  reset role;
  begin
    drop role tenantgate_vault;
  exception when dependent_objects_still_exist then
    -- Another database has it, too.
    if not (select rolsuper from pg_roles where rolname = current_user) then
      execute format('revoke tenantgate_vault from %I', current_user);
    end if;
  end;
end $$;
commit;
