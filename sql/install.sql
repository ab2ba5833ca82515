-- TenantGate's sealed scope: which tenant a transaction acts for, as only the proxy can say it.
--
-- Run it as the owner of the database with CREATEROLE (no superuser is needed). It may be run again at any time.
-- PostgreSQL 15 to 18; on 14 every transaction takes the slower form that READ ONLY transactions take elsewhere.
--
-- What holds it together:
--   * tenantgate_vault owns everything here and nobody logs in as it. Roles that clients' statements run as may execute what
--     `allow` grants them, and nothing else.
--   * Every function that decides is SECURITY DEFINER with a pinned search_path, and names functions, types and operators
--     with their schema all the same. pg_temp comes last: where it is not named it is searched first.
--   * Keys are in one table; what is computed from them stays inside the statement that reads them, since with
--     debug_print_plan a client sees the constants of plans.
--   * In a read-write transaction `enter` leaves a secret in a sequence: what currval() gives is this session's own, and only
--     the owner may ask for it or set it. In READ ONLY transactions and on hot standbys no sequence can be set: there the
--     context is signed with a key of the database's own.
--   * Both forms cover the start of the transaction, so that neither outlives it.

begin;
set local client_min_messages = warning;
set local search_path = pg_catalog, pg_temp;

do $$
begin
  if pg_catalog.current_setting('server_version_num')::int < 140000 then
    raise exception 'tenantgate needs PostgreSQL 14 or later';
  end if;
  if not exists (select from pg_catalog.pg_roles where rolname = 'tenantgate_vault') then
    create role tenantgate_vault nologin;
  end if;
  if not (select rolsuper from pg_catalog.pg_roles where rolname = current_user) then
    -- To create what belongs to the vault. Taken back below.
    begin
      execute pg_catalog.format('grant tenantgate_vault to %I', current_user);
    exception when insufficient_privilege then
      -- From 16 on only who has made it, for another database of this cluster.
      raise exception 'role % may not administer tenantgate_vault', current_user
        using hint = pg_catalog.format('Whoever has installed it first has to run: GRANT tenantgate_vault TO %I WITH ADMIN OPTION.', current_user);
    end;
  end if;
  if pg_catalog.to_regnamespace('tenantgate') is null then
    create schema tenantgate authorization tenantgate_vault;
  end if;
  if (select nspowner <> 'tenantgate_vault'::regrole from pg_catalog.pg_namespace where nspname = 'tenantgate') then
    raise exception 'the schema "tenantgate" belongs to somebody else' using hint = 'Rename or drop it.';
  end if;
end $$;

do $$
declare
  installed int := 0;
begin
  if pg_catalog.to_regprocedure('tenantgate.version()') is not null then
    execute 'select tenantgate.version()' into installed;
  end if;
  if installed > 1 then
    raise exception 'version % of the schema "tenantgate" is installed, which is later than this one', installed
      using hint = 'Use the tenantgate that belongs to it.';
  end if;
  perform pg_catalog.set_config('tenantgate.installer', current_user, true);
end $$;

set local role tenantgate_vault;

create or replace function tenantgate.version() returns pg_catalog.int4
language sql immutable parallel safe
as $$ select 1 $$;

-- Keys the proxies sign tickets with, as the two constants of HMAC. `secret` never leaves the database.
create table if not exists tenantgate.key (
  id pg_catalog.int4 primary key,
  ipad pg_catalog.bytea not null,
  opad pg_catalog.bytea not null,
  secret pg_catalog.bytea not null,
  can_latch pg_catalog.bool not null,
  added pg_catalog.timestamptz not null default pg_catalog.now()
);
-- One row: what signs the context where no sequence can be set.
create table if not exists tenantgate.seal (
  is_only pg_catalog.bool primary key default true check (is_only),
  ipad pg_catalog.bytea not null,
  opad pg_catalog.bytea not null
);
-- Statistics hold values of columns: of these none.
alter table tenantgate.key alter ipad set statistics 0, alter opad set statistics 0, alter secret set statistics 0;
alter table tenantgate.seal alter ipad set statistics 0, alter opad set statistics 0;

-- One row for each transaction that went past the tenants and wrote or could have written.
create table if not exists tenantgate.bypass (
  audit pg_catalog.uuid primary key,
  at pg_catalog.timestamptz not null default pg_catalog.clock_timestamp(),
  xid pg_catalog.xid8 not null default pg_catalog.pg_current_xact_id(),
  pid pg_catalog.int4 not null default pg_catalog.pg_backend_pid(),
  session_role pg_catalog.text not null default session_user
);

-- Unlogged: setting one writes no WAL and assigns no transaction id. Before 15 there are none, and they stay unused.
do $$
declare
  kind text := case when pg_catalog.current_setting('server_version_num')::int < 150000 then '' else 'unlogged' end;
  latch text;
begin
  foreach latch in array array['latch', 'bypass_latch'] loop
    if pg_catalog.to_regclass('tenantgate.' || latch) is null then
      execute pg_catalog.format('create %s sequence tenantgate.%I minvalue -9223372036854775808 start 1', kind, latch);
    elsif kind = 'unlogged' and (select relpersistence = 'p' from pg_catalog.pg_class where oid = pg_catalog.to_regclass('tenantgate.' || latch)) then
      -- Made by 14, before pg_upgrade. Transactions that are under way have it; nobody waits long behind this.
      perform pg_catalog.set_config('lock_timeout', '5s', true);
      execute pg_catalog.format('alter sequence tenantgate.%I set unlogged', latch);
    end if;
  end loop;
  update tenantgate.key set can_latch = (kind = 'unlogged') where can_latch is distinct from (kind = 'unlogged');
end $$;

-- HMAC's two constants for a key.
create or replace function tenantgate.pads(p_key pg_catalog.bytea, out ipad pg_catalog.bytea, out opad pg_catalog.bytea)
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
begin
  ipad := pg_catalog.decode(pg_catalog.repeat('36', 64), 'hex');
  opad := pg_catalog.decode(pg_catalog.repeat('5c', 64), 'hex');
  for i in 0 .. 31 loop
    ipad := pg_catalog.set_byte(ipad, i, 54 # pg_catalog.get_byte(p_key, i));
    opad := pg_catalog.set_byte(opad, i, 92 # pg_catalog.get_byte(p_key, i));
  end loop;
end $$;

-- 32 bytes that nobody knows.
create or replace function tenantgate.random_key() returns pg_catalog.bytea
language sql volatile
set search_path = pg_catalog, pg_temp as $$
  select pg_catalog.sha256(pg_catalog.uuid_send(pg_catalog.gen_random_uuid())
    || pg_catalog.uuid_send(pg_catalog.gen_random_uuid()) || pg_catalog.uuid_send(pg_catalog.gen_random_uuid()))
$$;

insert into tenantgate.seal (ipad, opad)
  select ipad, opad from tenantgate.pads(tenantgate.random_key())
  on conflict do nothing;

-- Makes a key known beside the present one; gives its number. Doing it again does nothing.
create or replace function tenantgate.add_key(p_key pg_catalog.bytea) returns pg_catalog.int4
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
declare
  number int := ('x' || pg_catalog.left(pg_catalog.encode(pg_catalog.sha256('tenantgate key'::bytea || p_key), 'hex'), 8))::bit(32)::int;
begin
  if pg_catalog.length(p_key) is distinct from 32 then
    raise exception 'a key has 32 bytes' using errcode = '22023';
  end if;
  lock table tenantgate.key in share row exclusive mode;
  if exists (select from tenantgate.key where id = number) then
    return number;
  end if;
  if (select pg_catalog.count(*) from tenantgate.key) > 1 then
    raise exception 'two keys are in use already' using errcode = '55000', hint = 'Retire the old one first.';
  end if;
  insert into tenantgate.key (id, ipad, opad, secret, can_latch)
    select number, ipad, opad, tenantgate.random_key(), pg_catalog.current_setting('server_version_num')::int >= 150000
    from tenantgate.pads(p_key);
  return number;
end $$;

-- Forgets every key but this one; gives how many. Tickets signed with them are refused from the commit on.
create or replace function tenantgate.retire_keys_except(p_id pg_catalog.int4) returns pg_catalog.int4
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
declare
  gone int;
begin
  lock table tenantgate.key in share row exclusive mode;
  if not exists (select from tenantgate.key where id = p_id) then
    raise exception 'there is no such key' using errcode = '55000';
  end if;
  delete from tenantgate.key where id <> p_id;
  get diagnostics gone = row_count;
  return gone;
end $$;

-- Forgets the rows of bypasses that began before a time; gives how many. The ledger keeps its records of them.
create or replace function tenantgate.forget_bypasses(p_before pg_catalog.timestamptz) returns pg_catalog.int8
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
declare
  gone int8;
begin
  if p_before is null or p_before > pg_catalog.now() - interval '1 day' then
    raise exception 'rows of the last day stay' using errcode = '22023',
      hint = 'Outcomes that the ledger does not know are found out by them.';
  end if;
  delete from tenantgate.bypass where at < p_before;
  get diagnostics gone = row_count;
  return gone;
end $$;

-- Which keys there are.
create or replace function tenantgate.keys(out id pg_catalog.int4, out added pg_catalog.timestamptz)
returns setof record
language sql stable security definer
set search_path = pg_catalog, pg_temp as $$
  select id, added from tenantgate.key order by added, id
$$;

-- Puts a tenant on this transaction.
--
-- The ticket: HMAC-SHA256 over 'tg1t', process id, expiry, flags and tenant, the numbers as PostgreSQL sends them in binary.
-- Flag 1: the server stays with its client, so that a temporary schema is its own.
create or replace function tenantgate.enter(
  p_tenant pg_catalog.text, p_flags pg_catalog.int4, p_expires pg_catalog.timestamptz, p_key pg_catalog.int4, p_mac pg_catalog.bytea
) returns pg_catalog.bool
language plpgsql volatile security definer parallel unsafe
set search_path = pg_catalog, pg_temp as $$
declare
  is_latched pg_catalog.bool;
begin
  select case
      when k.can_latch and pg_catalog.current_setting('transaction_read_only') operator(pg_catalog.=) 'off'
      then pg_catalog.set_config('tenantgate.tenant', p_tenant, true) is not null
        and pg_catalog.set_config('tenantgate.seal', pg_catalog.encode(pg_catalog.sha256(
          pg_catalog.int8send(pg_catalog.setval('tenantgate.latch'::pg_catalog.regclass,
            pg_catalog.hashtextextended(pg_catalog.encode(pg_catalog.sha256(k.secret operator(pg_catalog.||) p_mac), 'hex'), 0)))
          operator(pg_catalog.||) pg_catalog.timestamptz_send(pg_catalog.transaction_timestamp())
          operator(pg_catalog.||) pg_catalog.textsend(p_tenant)), 'hex'), true) is not null
      else false end
    into is_latched
    from tenantgate.key k
   where k.id operator(pg_catalog.=) p_key
     and p_expires operator(pg_catalog.>) pg_catalog.transaction_timestamp()
     and coalesce(pg_catalog.current_setting('tenantgate.seal', true), '') operator(pg_catalog.=) ''
     and (pg_catalog.pg_my_temp_schema() operator(pg_catalog.=) 0::pg_catalog.oid
       or (p_flags operator(pg_catalog.&) 1) operator(pg_catalog.=) 1)
     and pg_catalog.sha256(k.opad operator(pg_catalog.||) pg_catalog.sha256(k.ipad
       operator(pg_catalog.||) '\x74673174'::pg_catalog.bytea
       operator(pg_catalog.||) pg_catalog.int4send(pg_catalog.pg_backend_pid())
       operator(pg_catalog.||) pg_catalog.timestamptz_send(p_expires)
       operator(pg_catalog.||) pg_catalog.int4send(p_flags)
       operator(pg_catalog.||) pg_catalog.textsend(p_tenant))) operator(pg_catalog.=) p_mac;
  if is_latched then
    return true;
  elsif is_latched is null then
    perform tenantgate.refuse_ticket(p_flags, p_expires, p_key);
  end if;
  -- No sequence can be set.
  if coalesce(pg_catalog.current_setting('tenantgate.signed', true), '') operator(pg_catalog.<>) '' then
    raise exception 'tenantgate: the transaction has a tenant already' using errcode = '55000';
  end if;
  return pg_catalog.set_config('tenantgate.tenant', p_tenant, true) is not null
    and pg_catalog.set_config('tenantgate.signed', tenantgate.signature('\x74'::pg_catalog.bytea, p_tenant), true) is not null;
end $$;

-- Says why a ticket is refused. Never succeeds.
create or replace function tenantgate.refuse_ticket(
  p_flags pg_catalog.int4, p_expires pg_catalog.timestamptz, p_key pg_catalog.int4
) returns void
language plpgsql volatile security definer parallel unsafe
set search_path = pg_catalog, pg_temp as $$
begin
  if pg_catalog.pg_my_temp_schema() operator(pg_catalog.<>) 0::pg_catalog.oid
     and (p_flags operator(pg_catalog.&) 1) operator(pg_catalog.=) 0 then
    raise exception 'tenantgate: the session has temporary objects of another' using errcode = '55000';
  elsif coalesce(pg_catalog.current_setting('tenantgate.seal', true), '') operator(pg_catalog.<>) ''
     or coalesce(pg_catalog.current_setting('tenantgate.bypass_seal', true), '') operator(pg_catalog.<>) '' then
    raise exception 'tenantgate: the transaction has a tenant already' using errcode = '55000';
  elsif not exists (select from tenantgate.key k where k.id operator(pg_catalog.=) p_key) then
    raise exception 'tenantgate: no such key' using errcode = '28000',
      hint = 'Make the proxy''s key known with "tenantgate sql rotate-key".';
  elsif p_expires operator(pg_catalog.>) pg_catalog.transaction_timestamp() then
    raise exception 'tenantgate: the ticket is not valid' using errcode = '28000';
  end if;
  raise exception 'tenantgate: the ticket has expired' using errcode = '28000',
    hint = 'The clocks of the proxy and of the database may differ.';
end $$;

-- What stands for a context where no sequence can be set.
create or replace function tenantgate.signature(p_kind pg_catalog.bytea, p_of pg_catalog.text) returns pg_catalog.text
language plpgsql stable security definer parallel restricted
set search_path = pg_catalog, pg_temp as $$
declare
  signed pg_catalog.text;
begin
  select pg_catalog.encode(pg_catalog.sha256(k.opad operator(pg_catalog.||) pg_catalog.sha256(k.ipad
      operator(pg_catalog.||) p_kind
      operator(pg_catalog.||) pg_catalog.int4send(pg_catalog.pg_backend_pid())
      operator(pg_catalog.||) pg_catalog.timestamptz_send(pg_catalog.transaction_timestamp())
      operator(pg_catalog.||) pg_catalog.textsend(p_of))), 'hex')
    into strict signed from tenantgate.seal k;
  return signed;
end $$;

-- The tenant, where it is signed; an error where it is not.
create or replace function tenantgate.signed_tenant() returns pg_catalog.text
language plpgsql stable security definer parallel restricted
set search_path = pg_catalog, pg_temp as $$
declare
  tenant pg_catalog.text;
begin
  -- As in `signature`, of which there would be one call more in each table's way.
  select pg_catalog.current_setting('tenantgate.tenant', true) into tenant from tenantgate.seal k
   where pg_catalog.encode(pg_catalog.sha256(k.opad operator(pg_catalog.||) pg_catalog.sha256(k.ipad
      operator(pg_catalog.||) '\x74'::pg_catalog.bytea
      operator(pg_catalog.||) pg_catalog.int4send(pg_catalog.pg_backend_pid())
      operator(pg_catalog.||) pg_catalog.timestamptz_send(pg_catalog.transaction_timestamp())
      operator(pg_catalog.||) pg_catalog.textsend(pg_catalog.current_setting('tenantgate.tenant', true)))), 'hex')
     operator(pg_catalog.=) pg_catalog.current_setting('tenantgate.signed', true);
  if tenant is not null then
    return tenant;
  end if;
  raise exception 'no tenant in this transaction' using errcode = '28000', hint = 'Connect through TenantGate.';
end $$;

-- The tenant that this transaction acts for, or an error. In policies: `column = (SELECT tenantgate.tenant_id())`.
create or replace function tenantgate.tenant_id() returns pg_catalog.text
language plpgsql stable security definer parallel restricted
set search_path = pg_catalog, pg_temp as $$
begin
  return case
    when coalesce(pg_catalog.current_setting('tenantgate.seal', true), '') operator(pg_catalog.<>) ''
     and pg_catalog.encode(pg_catalog.sha256(
        pg_catalog.int8send(pg_catalog.currval('tenantgate.latch'::pg_catalog.regclass))
        operator(pg_catalog.||) pg_catalog.timestamptz_send(pg_catalog.transaction_timestamp())
        operator(pg_catalog.||) pg_catalog.textsend(pg_catalog.current_setting('tenantgate.tenant', true))), 'hex')
      operator(pg_catalog.=) pg_catalog.current_setting('tenantgate.seal', true)
    then pg_catalog.current_setting('tenantgate.tenant', true)
    else tenantgate.signed_tenant() end;
end $$;

-- The same for columns of type uuid.
create or replace function tenantgate.tenant_uuid() returns pg_catalog.uuid
language plpgsql stable security definer parallel restricted
set search_path = pg_catalog, pg_temp as $$
begin
  return case
    when coalesce(pg_catalog.current_setting('tenantgate.seal', true), '') operator(pg_catalog.<>) ''
     and pg_catalog.encode(pg_catalog.sha256(
        pg_catalog.int8send(pg_catalog.currval('tenantgate.latch'::pg_catalog.regclass))
        operator(pg_catalog.||) pg_catalog.timestamptz_send(pg_catalog.transaction_timestamp())
        operator(pg_catalog.||) pg_catalog.textsend(pg_catalog.current_setting('tenantgate.tenant', true))), 'hex')
      operator(pg_catalog.=) pg_catalog.current_setting('tenantgate.seal', true)
    then pg_catalog.current_setting('tenantgate.tenant', true)
    else tenantgate.signed_tenant() end::pg_catalog.uuid;
end $$;

-- The same for columns of type bigint.
create or replace function tenantgate.tenant_bigint() returns pg_catalog.int8
language plpgsql stable security definer parallel restricted
set search_path = pg_catalog, pg_temp as $$
begin
  return case
    when coalesce(pg_catalog.current_setting('tenantgate.seal', true), '') operator(pg_catalog.<>) ''
     and pg_catalog.encode(pg_catalog.sha256(
        pg_catalog.int8send(pg_catalog.currval('tenantgate.latch'::pg_catalog.regclass))
        operator(pg_catalog.||) pg_catalog.timestamptz_send(pg_catalog.transaction_timestamp())
        operator(pg_catalog.||) pg_catalog.textsend(pg_catalog.current_setting('tenantgate.tenant', true))), 'hex')
      operator(pg_catalog.=) pg_catalog.current_setting('tenantgate.seal', true)
    then pg_catalog.current_setting('tenantgate.tenant', true)
    else tenantgate.signed_tenant() end::pg_catalog.int8;
end $$;

-- Lets this transaction past the tenants. The ticket: as `enter`'s, over 'tg1b' and the record's id in the tenant's place.
create or replace function tenantgate.enter_bypass(
  p_audit pg_catalog.uuid, p_flags pg_catalog.int4, p_expires pg_catalog.timestamptz, p_key pg_catalog.int4, p_mac pg_catalog.bytea
) returns pg_catalog.bool
language plpgsql volatile security definer parallel unsafe
set search_path = pg_catalog, pg_temp as $$
declare
  is_latched pg_catalog.bool;
  is_whole pg_catalog.bool;
begin
  select case
      when k.can_latch and pg_catalog.current_setting('transaction_read_only') operator(pg_catalog.=) 'off'
      then pg_catalog.set_config('tenantgate.audit', p_audit::pg_catalog.text, true) is not null
        and pg_catalog.set_config('tenantgate.bypass_seal', pg_catalog.encode(pg_catalog.sha256(
          pg_catalog.int8send(pg_catalog.setval('tenantgate.bypass_latch'::pg_catalog.regclass,
            pg_catalog.hashtextextended(pg_catalog.encode(pg_catalog.sha256(k.secret operator(pg_catalog.||) p_mac), 'hex'), 0)))
          operator(pg_catalog.||) pg_catalog.timestamptz_send(pg_catalog.transaction_timestamp())
          operator(pg_catalog.||) pg_catalog.uuid_send(p_audit)), 'hex'), true) is not null
      else false end
    into is_latched
    from tenantgate.key k
   where k.id operator(pg_catalog.=) p_key
     and p_expires operator(pg_catalog.>) pg_catalog.transaction_timestamp()
     and coalesce(pg_catalog.current_setting('tenantgate.bypass_seal', true), '') operator(pg_catalog.=) ''
     and (pg_catalog.pg_my_temp_schema() operator(pg_catalog.=) 0::pg_catalog.oid
       or (p_flags operator(pg_catalog.&) 1) operator(pg_catalog.=) 1)
     and pg_catalog.sha256(k.opad operator(pg_catalog.||) pg_catalog.sha256(k.ipad
       operator(pg_catalog.||) '\x74673162'::pg_catalog.bytea
       operator(pg_catalog.||) pg_catalog.int4send(pg_catalog.pg_backend_pid())
       operator(pg_catalog.||) pg_catalog.timestamptz_send(p_expires)
       operator(pg_catalog.||) pg_catalog.int4send(p_flags)
       operator(pg_catalog.||) pg_catalog.uuid_send(p_audit))) operator(pg_catalog.=) p_mac;
  if is_latched is null then
    perform tenantgate.refuse_ticket(p_flags, p_expires, p_key);
  end if;
  if pg_catalog.current_setting('transaction_read_only') operator(pg_catalog.=) 'off' then
    -- The row lives and dies with the transaction's work. A ROLLBACK TO would take it away alone: what it has put into settings
    -- anybody may put back, and sequences know no rollback.
    insert into tenantgate.bypass (audit) values (p_audit)
      returning xmin operator(pg_catalog.=) pg_catalog.pg_current_xact_id()::pg_catalog.xid into is_whole;
    if not is_whole then
      raise exception 'tenantgate: a bypass begins in front of savepoints' using errcode = '55000';
    end if;
  end if;
  if is_latched then
    return true;
  end if;
  return pg_catalog.set_config('tenantgate.audit', p_audit::pg_catalog.text, true) is not null
    and pg_catalog.set_config('tenantgate.bypass_signed', tenantgate.signature('\x62'::pg_catalog.bytea, p_audit::pg_catalog.text), true) is not null;
end $$;

-- Whether this transaction was let past the tenants: true, or an error. Only in policies for roles with that right.
create or replace function tenantgate.is_bypass() returns pg_catalog.bool
language plpgsql stable security definer parallel restricted
set search_path = pg_catalog, pg_temp as $$
begin
  if coalesce(pg_catalog.current_setting('tenantgate.bypass_seal', true), '') operator(pg_catalog.<>) ''
     and pg_catalog.encode(pg_catalog.sha256(
        pg_catalog.int8send(pg_catalog.currval('tenantgate.bypass_latch'::pg_catalog.regclass))
        operator(pg_catalog.||) pg_catalog.timestamptz_send(pg_catalog.transaction_timestamp())
        operator(pg_catalog.||) pg_catalog.uuid_send(pg_catalog.current_setting('tenantgate.audit', true)::pg_catalog.uuid)), 'hex')
      operator(pg_catalog.=) pg_catalog.current_setting('tenantgate.bypass_seal', true) then
    return true;
  end if;
  if tenantgate.signature('\x62'::pg_catalog.bytea, pg_catalog.current_setting('tenantgate.audit', true))
     operator(pg_catalog.=) pg_catalog.current_setting('tenantgate.bypass_signed', true) then
    return true;
  end if;
  raise exception 'no bypass in this transaction' using errcode = '28000', hint = 'Connect through TenantGate.';
end $$;

-- Lets a role act for tenants (`tenant`) or past them (`bypass`), as far as the proxy signs tickets for it.
create or replace function tenantgate.allow(p_role pg_catalog.regrole, p_mode pg_catalog.text) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
begin
  if p_mode is null or p_mode not in ('tenant', 'bypass') then
    raise exception 'the mode is "tenant" or "bypass"' using errcode = '22023';
  end if;
  execute pg_catalog.format('grant usage on schema tenantgate to %s', p_role);
  if p_mode = 'tenant' then
    execute pg_catalog.format('grant execute on function tenantgate.enter(text, int4, timestamptz, int4, bytea), '
      'tenantgate.tenant_id(), tenantgate.tenant_uuid(), tenantgate.tenant_bigint(), tenantgate.version() to %s', p_role);
  else
    execute pg_catalog.format('grant execute on function tenantgate.enter_bypass(uuid, int4, timestamptz, int4, bytea), '
      'tenantgate.is_bypass(), tenantgate.version() to %s', p_role);
  end if;
end $$;

-- Takes it back.
create or replace function tenantgate.disallow(p_role pg_catalog.regrole) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
begin
  execute pg_catalog.format('revoke all on all functions in schema tenantgate from %s', p_role);
  execute pg_catalog.format('revoke all on schema tenantgate from %s', p_role);
end $$;

-- The roles that may act for tenants, or past them.
create or replace function tenantgate.roles(p_mode pg_catalog.text) returns setof pg_catalog.regrole
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select a.grantee::regrole
    from pg_proc p, aclexplode(p.proacl) a
   where p.oid = case p_mode when 'tenant' then 'tenantgate.enter(text, int4, timestamptz, int4, bytea)'::regprocedure
                             when 'bypass' then 'tenantgate.enter_bypass(uuid, int4, timestamptz, int4, bytea)'::regprocedure end
     and a.privilege_type = 'EXECUTE' and a.grantee <> p.proowner and a.grantee <> 0
   order by a.grantee::regrole::text
$$;

-- The condition of a tenant's policy on a column.
create or replace function tenantgate.condition(p_table pg_catalog.regclass, p_column pg_catalog.name) returns pg_catalog.text
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  kind regtype;
  reader text;
begin
  select atttypid into kind from pg_attribute where attrelid = p_table and attname = p_column and attnum > 0 and not attisdropped;
  if kind is null then
    raise exception 'table % has no column "%"', p_table, p_column using errcode = '42703';
  end if;
  reader := case kind
    when 'uuid'::regtype then 'tenant_uuid'
    when 'int8'::regtype then 'tenant_bigint'
    when 'int4'::regtype then 'tenant_bigint'
    when 'text'::regtype then 'tenant_id'
    when 'varchar'::regtype then 'tenant_id' end;
  if reader is null then
    raise exception 'column "%" of table % is of type %', p_column, p_table, kind
      using errcode = '42804', hint = 'It may be uuid, bigint, integer, text or varchar.';
  end if;
  return format('(%I = (SELECT tenantgate.%I()))', p_column, reader);
end $$;

-- What `protect` runs for a table, without its partitions and children.
create or replace function tenantgate.protection(p_table pg_catalog.regclass, p_column pg_catalog.name, p_instead_of pg_catalog.name[])
returns setof pg_catalog.text
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  condition text := tenantgate.condition(p_table, p_column);
  tenants text := (select string_agg(r::text, ', ') from tenantgate.roles('tenant') r);
  bypasses text := (select string_agg(r::text, ', ') from tenantgate.roles('bypass') r);
  replaced name;
begin
  if tenants is null then
    raise exception 'no role may act for tenants' using errcode = '55000', hint = 'Name it first: SELECT tenantgate.allow(''app_user'', ''tenant'').';
  end if;
  for replaced in
    select polname from pg_policy
     where polrelid = p_table and (polname in ('tenantgate_tenant', 'tenantgate_bypass') or polname = any (p_instead_of))
     order by polname
  loop
    return next format('DROP POLICY %I ON %s', replaced, p_table);
  end loop;
  return next format('CREATE POLICY tenantgate_tenant ON %s FOR ALL TO %s USING %s WITH CHECK %s', p_table, tenants, condition, condition);
  if bypasses is not null then
    return next format('CREATE POLICY tenantgate_bypass ON %s FOR ALL TO %s USING ((SELECT tenantgate.is_bypass())) '
      'WITH CHECK ((SELECT tenantgate.is_bypass()))', p_table, bypasses);
  end if;
  return next format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', p_table);
end $$;

-- A table with its partitions and children.
create or replace function tenantgate.family(p_table pg_catalog.regclass) returns setof pg_catalog.regclass
language sql stable
set search_path = pg_catalog, pg_temp as $$
  with recursive member(relation) as (
    select p_table::oid
    union
    select i.inhrelid from pg_inherits i join member m on i.inhparent = m.relation
  )
  select relation::regclass from member join pg_class c on c.oid = relation where c.relkind in ('r', 'p') order by relation
$$;

-- Runs statements that take a short exclusive lock: waits for it briefly, and tries again rather than hold others up.
create or replace function tenantgate.run_briefly(p_statements pg_catalog.text[]) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp set lock_timeout = '200ms' as $$
declare
  statement text;
begin
  for attempt in 1 .. 50 loop
    begin
      foreach statement in array p_statements loop
        execute statement;
      end loop;
      return;
    exception when lock_not_available then
      if attempt = 50 then
        raise;
      end if;
      perform pg_sleep(0.05 + random() * 0.15);
    end;
  end loop;
end $$;

-- Seals a table, its partitions and children, as their owner; gives the statements. With p_dry_run it only gives them.
-- p_instead_of: policies that the sealed ones replace, in the same transaction: how a table moves from policies on a setting
-- while traffic runs, once every proxy has `seal = true`.
create or replace function tenantgate.protect(
  p_table pg_catalog.regclass, p_column pg_catalog.name, p_instead_of pg_catalog.name[] default '{}', p_dry_run pg_catalog.bool default false
) returns setof pg_catalog.text
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
declare
  statements text[];
begin
  select array_agg(s order by f.n, s.n) into statements
    from tenantgate.family(p_table) with ordinality f(relation, n),
         tenantgate.protection(f.relation, p_column, p_instead_of) with ordinality s(s, n);
  if not p_dry_run then
    perform tenantgate.run_briefly(statements);
  end if;
  return query select unnest(statements);
end $$;

-- Takes the sealed policies away again. Row-level security stays on: what no policy allows is refused.
create or replace function tenantgate.unprotect(p_table pg_catalog.regclass, p_dry_run pg_catalog.bool default false)
returns setof pg_catalog.text
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
declare
  statements text[];
begin
  select array_agg(format('DROP POLICY %I ON %s', p.polname, f.relation) order by f.n, p.polname) into statements
    from tenantgate.family(p_table) with ordinality f(relation, n)
    join pg_policy p on p.polrelid = f.relation and p.polname in ('tenantgate_tenant', 'tenantgate_bypass');
  if statements is not null and not p_dry_run then
    perform tenantgate.run_briefly(statements);
  end if;
  return query select unnest(statements);
end $$;

-- How each table stands that a tenant's role can reach: `sealed`, `setting` (policies on a setting), `other` (other policies), `open`.
-- `problem` says what is wrong with it.
create or replace function tenantgate.coverage(
  out relation pg_catalog.regclass, out state pg_catalog.text, out problem pg_catalog.text
) returns setof record
language sql stable
set search_path = pg_catalog, pg_temp as $$
  with reached as (
    select c.oid, c.relrowsecurity, c.relforcerowsecurity, array_agg(r.r::oid) as roles,
           bool_or(has_table_privilege(r.r, c.oid, 'TRUNCATE')) as may_truncate,
           bool_or(pg_has_role(r.r, c.relowner, 'MEMBER')) as is_owner
      from pg_class c
      join pg_namespace n on n.oid = c.relnamespace
     cross join tenantgate.roles('tenant') r(r)
     where c.relkind in ('r', 'p') and n.nspname not in ('pg_catalog', 'information_schema', 'tenantgate') and n.nspname not like 'pg\_%'
       and (has_table_privilege(r.r, c.oid, 'SELECT, INSERT, UPDATE, DELETE') or has_any_column_privilege(r.r, c.oid, 'SELECT, INSERT, UPDATE'))
     group by c.oid
  ), policy as (
    select t.oid, p.polname, p.polpermissive,
           pg_get_expr(p.polqual, p.polrelid) as used, pg_get_expr(p.polwithcheck, p.polrelid) as checked,
           p.polname = 'tenantgate_tenant' as is_ours,
           p.polcmd = '*' and p.polpermissive and p.polroles @> t.roles
             and pg_get_expr(p.polqual, p.polrelid) ~ '^\(\(?("([^"]|"")*"|[a-z_0-9]+)\)?(::text)? = \( SELECT tenantgate\.(tenant_id|tenant_uuid|tenant_bigint)\(\) AS \4\)\)$'
             and pg_get_expr(p.polqual, p.polrelid) = pg_get_expr(p.polwithcheck, p.polrelid) as is_right,
           p.polroles && (t.roles || 0::oid) or exists (select from unnest(p.polroles) g, unnest(t.roles) r where g <> 0 and pg_has_role(r, g, 'MEMBER')) as applies
      from reached t join pg_policy p on p.polrelid = t.oid
  )
  select t.oid::regclass,
         case when exists (select from policy p where p.oid = t.oid and p.is_ours) then 'sealed'
              when not t.relrowsecurity then 'open'
              when exists (select from policy p where p.oid = t.oid and p.used ~ 'current_setting') then 'setting'
              else 'other' end,
         nullif(concat_ws('; ',
           case when not t.relrowsecurity then 'row-level security is off' end,
           case when t.relrowsecurity and not t.relforcerowsecurity then 'the owner is not bound (FORCE)' end,
           case when t.is_owner then 'a tenant''s role is a member of its owner' end,
           case when t.may_truncate then 'a tenant''s role may TRUNCATE it' end,
           case when exists (select from policy p where p.oid = t.oid and p.is_ours and not p.is_right) then 'the policy tenantgate_tenant was changed' end,
           (select 'beside it counts ' || string_agg(quote_ident(p.polname), ', ') from policy p
             where p.oid = t.oid and not p.is_ours and p.applies and p.polpermissive
               and exists (select from policy o where o.oid = t.oid and o.is_ours))), '')
    from reached t
   order by 1
$$;

revoke all on all tables in schema tenantgate from public;
revoke all on all sequences in schema tenantgate from public;
revoke all on all functions in schema tenantgate from public;
-- The installer's part.
do $$
declare
  installer text := pg_catalog.current_setting('tenantgate.installer');
begin
  execute pg_catalog.format('grant usage on schema tenantgate to %I', installer);
  execute pg_catalog.format('grant execute on function tenantgate.version(), tenantgate.add_key(bytea), tenantgate.retire_keys_except(int4), '
    'tenantgate.keys(), tenantgate.forget_bypasses(timestamptz), tenantgate.allow(regrole, text), tenantgate.disallow(regrole), tenantgate.roles(text), '
    'tenantgate.condition(regclass, name), tenantgate.protection(regclass, name, name[]), tenantgate.family(regclass), '
    'tenantgate.run_briefly(text[]), tenantgate.protect(regclass, name, name[], bool), tenantgate.unprotect(regclass, bool), '
    'tenantgate.coverage() to %I', installer);
end $$;

reset role;
do $$
begin
  if not (select rolsuper from pg_catalog.pg_roles where rolname = current_user) then
    execute pg_catalog.format('revoke tenantgate_vault from %I', current_user);
  end if;
end $$;
commit;
