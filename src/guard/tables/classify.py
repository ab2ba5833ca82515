#!/usr/bin/env python3
"""Regenerates functions.txt and relations.txt from running servers.

usage: classify.py "<psql arguments for one server>" ...      (one argument per server, 14 to 18)

A name that is already in a table keeps its class. A new one gets a proposal from the rules below, printed on
standard error: look at each before committing. A name is never dropped: older servers may have it.
"""
import pathlib
import re
import shlex
import subprocess
import sys
import textwrap

HERE = pathlib.Path(__file__).parent

FUNCTIONS = """
select proname, bool_and('internal'::regtype = any(proargtypes::oid[]) or prorettype::regtype::text in ('internal',
  'trigger', 'event_trigger', 'language_handler', 'fdw_handler', 'index_am_handler', 'table_am_handler', 'tsm_handler'))
from pg_catalog.pg_proc where pronamespace = 'pg_catalog'::regnamespace group by 1
"""
RELATIONS = """
select relname from pg_catalog.pg_class
where relnamespace = 'pg_catalog'::regnamespace and relkind in ('r', 'v', 'm', 'f', 'p')
"""

# First match wins.
FUNCTION_RULES = [
    ("scope", r"set_config"),
    ("string_executor", r"(query|cursor|table|schema|database)_to_xml\w*|ts_stat"),
    ("session_state", r"pg_(try_)?advisory_(lock|unlock)\w*|currval|lastval|setseed|pg_export_snapshot"
                      r"|pg_listening_channels"),
    ("sleep", r"pg_sleep\w*"),
    ("notify", r"pg_notify|pg_notification_queue_usage"),
    ("signal", r"pg_(cancel|terminate)_backend|pg_log_backend_memory_contexts|pg_reload_conf|pg_rotate_logfile\w*"
               r"|pg_promote"),
    ("files", r"pg_ls_\w+|pg_read_\w+|pg_stat_file|pg_current_logfile|pg_hba_file_rules|pg_ident_file_mappings"
              r"|pg_show_all_file_settings|pg_file_\w+"),
    ("large_object", r"lo_\w+|loread|lowrite|be_lo\w+"),
    ("replication", r"pg_(logical|replication|wal|backup)_\w+|pg_(start|stop|is_in)_backup|pg_(create|drop|copy|get|sync)_\w*replication\w*"
                    r"|pg_\w*wal\w*|pg_create_restore_point|pg_show_replication_origin_status|pg_log_standby_snapshot"
                    r"|pg_last_xact_replay_timestamp|pg_is_wal_\w+|pg_get_publication_effective\w*"),
    ("other_sessions", r"pg_lock_status|pg_prepared_statement|pg_prepared_xact|pg_\w*blocking_pids|pg_isolation_test\w*"
                       r"|pg_get_multixact_members|pg_last_committed_xact|pg_get_backend_memory_contexts|pg_get_aios"
                       r"|pg_stat_get_backend\w*|pg_stat_get_activity|pg_stat_get_progress_info"),
    ("statistics", r"pg_stat_get_\w+|pg_stat_have_stats|pg_sequence_last_value|pg_get_sequence_data"
                   r"|pg_stats_ext_mcvlist_items|pg_mcv_list_items"),
    ("administration", r"binary_upgrade_\w+|pg_stat_\w+|pg_(clear|restore)_\w+_stats|brin_(de)?summarize\w+"
                       r"|gin_clean_pending_list|pg_import_system_collations|pg_nextoid|pg_stop_making_pinned_objects"
                       r"|pg_extension_config_dump|pg_config|pg_control_\w+|pg_get_shmem_allocations\w*"
                       r"|pg_get_loaded_modules|pg_set_\w+"),
    ("sequence", r"setval"),
    ("internal", r"pg_event_trigger_\w+|fmgr_\w+_validator|plpgsql_\w+|currtid\w*|\w+_handler"),
]
RELATION_RULES = [
    ("settings", r"pg_settings"),
    ("sequences", r"pg_sequences"),
    ("other_sessions", r"pg_locks|pg_prepared_\w+|pg_stat_activity|pg_stat_ssl|pg_stat_gssapi|pg_stat_progress_\w+"
                       r"|pg_backend_memory_contexts|pg_aios|pg_stat_replication\w*|pg_stat_wal_receiver"),
    ("statistics", r"pg_stat(io)?_\w+|pg_statistic|pg_statistic_ext_data|pg_stats\w*|pg_shmem_\w+"),
    ("secret", r"pg_authid|pg_shadow|pg_user_mappings?|pg_largeobject\w*|pg_subscription\w*|pg_hba_file_rules"
               r"|pg_ident_file_mappings|pg_file_settings|pg_config|pg_db_role_setting|pg_replication_\w+"),
]
NOT_STATISTICS = {"pg_statistic_ext"}


def ask(server, sql):
    out = subprocess.run(["psql", *shlex.split(server), "-XAtF ", "-c", sql], check=True, text=True, capture_output=True)
    return [line.split() for line in out.stdout.splitlines()]


def load(path):
    table, group = {}, None
    for line in path.read_text().splitlines() if path.exists() else []:
        if line.startswith("["):
            group = line.strip("[]")
        elif line and not line.startswith("#"):
            table.update((name, group) for name in line.split())
    return table


def propose(name, rules, default):
    if name in NOT_STATISTICS:
        return default
    return next((group for group, rule in rules if re.fullmatch(rule, name)), default)


def save(path, head, table):
    groups = {}
    for name, group in table.items():
        groups.setdefault(group, []).append(name)
    lines = [head]
    for group in sorted(groups):
        lines += [f"[{group}]", textwrap.fill(" ".join(sorted(groups[group])), 118, break_on_hyphens=False), ""]
    path.write_text("\n".join(lines))


def merge(table, names, rules, kind):
    for name, default in sorted(names.items()):
        if name not in table:
            table[name] = propose(name, rules, default)
            print(f"{kind} {name}: {table[name]}", file=sys.stderr)


def main():
    functions, relations = load(HERE / "functions.txt"), load(HERE / "relations.txt")
    names, tables = {}, {}
    for server in sys.argv[1:]:
        names.update((name, "internal" if internal == "t" else "plain") for name, internal in ask(server, FUNCTIONS))
        tables.update((name, "readable") for (name,) in ask(server, RELATIONS))
    merge(functions, names, FUNCTION_RULES, "function")
    merge(relations, tables, RELATION_RULES, "relation")
    save(HERE / "functions.txt", "# Every function name of pg_catalog, by class (classify.py; functions.rs says what they mean).\n", functions)
    save(HERE / "relations.txt", "# Every relation name of pg_catalog, by class (classify.py; relations.rs says what they mean).\n", relations)


main()
