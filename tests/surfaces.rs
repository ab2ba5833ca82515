//! The pages on the console and on metrics say what the tables in the code say.

use std::collections::BTreeMap;

use tenantgate::admin::{COMMANDS, ColumnOrigin, Right, Table};
use tenantgate::metrics::METRICS;

fn page(name: &str) -> String {
    std::fs::read_to_string(format!("{}/docs/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap_or_default()
}

/// The rows of a page's tables under each of its headers.
fn rows(page: &str) -> BTreeMap<String, Vec<Vec<String>>> {
    let mut rows: BTreeMap<String, Vec<Vec<String>>> = BTreeMap::new();
    let mut header = String::new();
    for line in page.lines() {
        if let Some(found) = line.strip_prefix("## ") {
            header = found.to_owned();
            rows.insert(header.clone(), Vec::new());
        }
        let cells = line.strip_prefix("| `").map(|rest| rest.replace("\\|", "\u{1}"));
        if let (Some(rest), Some(found)) = (cells, rows.get_mut(&header)) {
            let cells = rest.trim_end_matches(" |").split(" | ");
            found.push(cells.map(|cell| cell.trim_matches('`').replace('\u{1}', "|")).collect());
        }
    }
    rows
}

#[test]
fn the_console_page_has_every_table_with_its_columns_in_order() {
    let found = rows(&page("console.md"));
    let mut wanted = BTreeMap::new();
    for table in Table::ALL {
        let columns = table.columns().iter().map(|column| {
            let whose = match column.origin {
                ColumnOrigin::PgBouncer => "PgBouncer",
                ColumnOrigin::Ours => "ours",
            };
            vec![column.name.to_owned(), format!("{:?}", column.kind).to_lowercase(), whose.to_owned()]
        });
        wanted.insert(format!("SHOW {}", table.name()), columns.collect::<Vec<_>>());
    }
    let shown: BTreeMap<_, Vec<_>> = found
        .iter()
        .filter(|(header, _)| header.starts_with("SHOW "))
        .map(|(header, rows)| (header.clone(), rows.iter().map(|row| row[..3].to_vec()).collect()))
        .collect();
    assert_eq!(shown, wanted);
    assert!(found.values().flatten().all(|row| row.iter().all(|cell| cell != "?")), "a column without a meaning");
}

#[test]
fn the_console_page_has_every_command_with_its_right() {
    let found = rows(&page("console.md")).remove("Commands").unwrap_or_default();
    let right = |right| if right == Right::Admin { "admin" } else { "stats" };
    let wanted: Vec<_> = COMMANDS
        .iter()
        .map(|row| vec![row.syntax.to_owned(), right(row.right).to_owned(), row.meaning.to_owned()])
        .collect();
    assert_eq!(found, wanted);
}

#[test]
fn the_metrics_page_has_every_metric() {
    let found = rows(&page("metrics.md")).remove("Every metric").unwrap_or_default();
    let wanted: Vec<_> = METRICS
        .iter()
        .map(|row| {
            let labels: Vec<_> = row.labels.iter().map(|label| format!("`{label}`")).collect();
            let labels = if labels.is_empty() { "–".to_owned() } else { labels.join(", ") };
            let labels = labels.trim_matches('`').to_owned();
            vec![row.name.to_owned(), row.kind.word().to_owned(), labels, row.meaning.to_owned()]
        })
        .collect();
    assert_eq!(found, wanted);
}

/// PgBouncer 1.25's columns, as its sources write them (tag pgbouncer_1_25_2): what an exporter goes by.
#[test]
fn pgbouncers_columns_come_first_and_in_its_order() {
    for (table, wanted) in [
        (
            Table::Pools,
            "database user cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req sv_active sv_active_cancel \
             sv_being_canceled sv_idle sv_used sv_tested sv_login maxwait maxwait_us pool_mode load_balance_hosts",
        ),
        (
            Table::Clients,
            "type user database replication state addr port local_addr local_port connect_time request_time wait wait_us \
             close_needed ptr link remote_pid tls application_name prepared_statements id",
        ),
        (
            Table::Databases,
            "name host port database force_user pool_size min_pool_size reserve_pool_size server_lifetime pool_mode \
             load_balance_hosts max_connections current_connections max_client_connections current_client_connections \
             paused disabled",
        ),
        (
            Table::Users,
            "name pool_size reserve_pool_size pool_mode max_user_connections current_connections \
             max_user_client_connections current_client_connections",
        ),
        (
            Table::Stats,
            "database total_server_assignment_count total_xact_count total_query_count total_received total_sent \
             total_xact_time total_query_time total_wait_time total_client_parse_count total_server_parse_count \
             total_bind_count avg_server_assignment_count avg_xact_count avg_query_count avg_recv avg_sent avg_xact_time \
             avg_query_time avg_wait_time avg_client_parse_count avg_server_parse_count avg_bind_count",
        ),
        (
            Table::StatsTotals,
            "database server_assignment_count xact_count query_count bytes_received bytes_sent xact_time query_time \
             wait_time client_parse_count server_parse_count bind_count",
        ),
        (
            Table::StatsAverages,
            "database server_assignment_count xact_count query_count bytes_received bytes_sent xact_time query_time \
             wait_time avg_client_parse_count avg_server_parse_count avg_bind_count",
        ),
        (Table::Totals, "name value"),
        (Table::Lists, "list items"),
        (Table::Config, "key value default changeable"),
        (Table::State, "key value"),
        (Table::Version, "version"),
    ] {
        let theirs = |table: Table| -> Vec<&str> {
            let columns = table.columns().iter();
            columns.filter(|column| column.origin == ColumnOrigin::PgBouncer).map(|column| column.name).collect()
        };
        let wanted: Vec<_> = wanted.split_whitespace().collect();
        assert_eq!(theirs(table), wanted, "{table:?}");
        let first: Vec<_> = table.columns().iter().take(wanted.len()).map(|column| column.name).collect();
        assert_eq!(first, wanted, "{table:?}");
    }
    assert_eq!(Table::Servers.columns()[..21], Table::Clients.columns()[..21]);
}
