-- Runs in front of install.sql, which brings any earlier version up to date: the schema has to be there, and tables stay sealed
-- all the while. Functions are replaced in one transaction; transactions under way go on with the ones they began with.
do $$
begin
  if pg_catalog.to_regprocedure('tenantgate.version()') is null then
    raise exception 'tenantgate is not installed in this database' using hint = 'Install it with "tenantgate sql install".';
  end if;
end $$;
