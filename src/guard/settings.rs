//! Settings: what SET means in `set_config`'s words, which settings every tenant may change, and to what.
//!
//! Owns: the flattening of a SET's arguments, the built-in allow-list, the check of values that would put the proxy
//! and the server at odds. Does not own: who may set what (`policy`), or replaying it (the session).

use std::borrow::Cow;

use super::parser::{Kind, tree};

/// Settings that each client may change for itself, sorted. They change how values are written, how long something
/// may take, what the planner believes, or how the client's own transactions run; none reaches beyond the client's own
/// statements. Not here: what lets one tenant take the server's memory or its other processes (`work_mem`,
/// `join_collapse_limit` and `geqo`, `max_parallel_workers_per_gather`).
pub(super) const BUILT_IN_ALLOWED: &[&str] = &[
    "application_name",
    "array_nulls",
    "bytea_output",
    "client_encoding",
    "client_min_messages",
    "constraint_exclusion",
    "cpu_index_tuple_cost",
    "cpu_operator_cost",
    "cpu_tuple_cost",
    "cursor_tuple_fraction",
    "datestyle",
    "default_text_search_config",
    "default_transaction_deferrable",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "effective_cache_size",
    "enable_async_append",
    "enable_bitmapscan",
    "enable_distinct_reordering",
    "enable_gathermerge",
    "enable_group_by_reordering",
    "enable_hashagg",
    "enable_hashjoin",
    "enable_incremental_sort",
    "enable_indexonlyscan",
    "enable_indexscan",
    "enable_material",
    "enable_memoize",
    "enable_mergejoin",
    "enable_nestloop",
    "enable_parallel_append",
    "enable_parallel_hash",
    "enable_partition_pruning",
    "enable_partitionwise_aggregate",
    "enable_partitionwise_join",
    "enable_presorted_aggregate",
    "enable_self_join_elimination",
    "enable_seqscan",
    "enable_sort",
    "enable_tidscan",
    "escape_string_warning",
    "extra_float_digits",
    "gin_fuzzy_search_limit",
    "idle_in_transaction_session_timeout",
    "intervalstyle",
    "jit",
    "jit_above_cost",
    "jit_inline_above_cost",
    "jit_optimize_above_cost",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "lock_timeout",
    "parallel_leader_participation",
    "parallel_setup_cost",
    "parallel_tuple_cost",
    "plan_cache_mode",
    "quote_all_identifiers",
    "random_page_cost",
    "search_path",
    "seq_page_cost",
    "standard_conforming_strings",
    "statement_timeout",
    "synchronize_seqscans",
    "synchronous_commit",
    "timezone",
    "transaction_timeout",
    "xmlbinary",
    "xmloption",
];

/// What definitions and dumps (`pg_dump`, migration tools) set beside those, sorted: for logins whose transactions are
/// recorded.
pub(super) const DEFINITION_ALLOWED: &[&str] = &[
    "check_function_bodies",
    "default_table_access_method",
    "default_tablespace",
    "default_toast_compression",
    "default_with_oids",
    "from_collapse_limit",
    "geqo",
    "join_collapse_limit",
    "maintenance_work_mem",
    "max_parallel_maintenance_workers",
    "max_parallel_workers_per_gather",
    "work_mem",
];

/// The setting in which a client of a bypass or migration login gives the reason for what it does.
pub const REASON_SETTING: &str = "tenantgate.reason";

/// The setting in which it says for whom.
pub const ON_BEHALF_SETTING: &str = "tenantgate.on_behalf_of";

/// Longest reason: a sentence or a ticket's title, not a document.
pub const REASON_BYTES_MAX: usize = 1024;

/// Longest name of somebody for whom a client acts.
const ON_BEHALF_BYTES_MAX: usize = 256;

/// Whether a setting tells the ledger something.
#[must_use]
pub fn is_for_the_ledger(name: &str) -> bool {
    name == REASON_SETTING || name == ON_BEHALF_SETTING
}

/// What is wrong with the name of somebody for whom a client acts; empty for nobody.
///
/// # Errors
/// Says so in a sentence.
pub fn check_on_behalf(text: &str) -> Result<(), &'static str> {
    if text.len() > ON_BEHALF_BYTES_MAX {
        return Err("The name is longer than 256 bytes.");
    }
    if text.chars().any(char::is_control) {
        return Err("The name holds control characters.");
    }
    Ok(())
}

/// What is wrong with a reason.
///
/// # Errors
/// Says so in a sentence.
pub fn check_reason(text: &str) -> Result<(), &'static str> {
    if text.trim().is_empty() {
        return Err("The reason is empty.");
    }
    if text.len() > REASON_BYTES_MAX {
        return Err("The reason is longer than 1024 bytes.");
    }
    if text.chars().any(char::is_control) {
        return Err("The reason holds control characters.");
    }
    Ok(())
}

/// Settings that say who the session is.
pub(super) fn is_identity(name: &str) -> bool {
    matches!(name, "role" | "session_authorization" | "row_security")
}

/// Settings of the running transaction: SET of one is SET TRANSACTION.
pub(super) fn is_of_the_transaction(name: &str) -> bool {
    matches!(name, "transaction_isolation" | "transaction_read_only" | "transaction_deferrable")
}

/// A setting's name as PostgreSQL compares it: without regard to ASCII case.
pub(super) fn canonical_name(name: &str) -> Box<str> {
    name.to_ascii_lowercase().into()
}

/// A value that must not reach the server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ValueFault {
    #[error("client_encoding must be UTF8: the statements of any other encoding cannot be checked")]
    Encoding,
    #[error("standard_conforming_strings must be on: with it off, literals end elsewhere than checked")]
    Strings,
    #[error("search_path must not name a temporary schema")]
    TemporarySchema,
    #[error(
        "search_path may name pg_catalog only in the first place: functions before it could stand for the system's"
    )]
    CatalogBehind,
    #[error("search_path must not name the schema of an extension whose functions run strings or reach files")]
    ExtensionSchema,
    #[error("search_path is not a list of names")]
    NotAList,
    #[error(
        "client_min_messages must be notice or above: below, the server's log comes along, with plans of auto_explain and \
         the rows that policies filtered out"
    )]
    ServerLog,
    #[error("the value holds a NUL byte")]
    Nul,
}

/// Checks a value, and gives it the spelling that the server reports.
pub(super) fn check_value<'v>(name: &str, value: &'v str) -> Result<Cow<'v, str>, ValueFault> {
    if value.contains('\0') {
        return Err(ValueFault::Nul);
    }
    match name {
        // The one other spelling that PostgreSQL keeps as it is.
        "client_encoding" if value == "UNICODE" => Ok(Cow::Borrowed(value)),
        "client_encoding" if is_utf8_spelling(value) => Ok(Cow::Borrowed("UTF8")),
        "client_encoding" => Err(ValueFault::Encoding),
        "standard_conforming_strings" if is_true(value) => Ok(Cow::Borrowed("on")),
        "standard_conforming_strings" => Err(ValueFault::Strings),
        "search_path" => check_search_path(value).map(|()| Cow::Borrowed(value)),
        "client_min_messages" if hides_the_log(value) => Ok(Cow::Borrowed(value)),
        "client_min_messages" => Err(ValueFault::ServerLog),
        // Only these could put the proxy and the server at odds, or show other tenants' rows; the server checks the rest.
        _ => Ok(Cow::Borrowed(value)),
    }
}

/// PostgreSQL compares encoding names by their letters and digits alone.
fn is_utf8_spelling(value: &str) -> bool {
    let clean: String = value.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    // "auto" asks libpq for the locale's encoding and never reaches a server as such.
    matches!(clean.as_str(), "utf8" | "unicode") && value.is_ascii()
}

/// The prefixes that PostgreSQL's `parse_bool` takes for true.
fn is_true(value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    let is_prefix = |word: &str| !value.is_empty() && word.starts_with(&value);
    is_prefix("true") || is_prefix("yes") || value == "on" || value == "1"
}

/// A `search_path` value as the list that SET takes, each name quoted: as a value, a bare name may hold anything
/// but commas and spaces, semicolons too. `None` where the value is no list.
#[must_use]
pub fn quoted_list(value: &str) -> Option<String> {
    let quoted = |name: &String| format!("\"{}\"", name.replace('"', "\"\""));
    Some(split_identifiers(value)?.iter().map(quoted).collect::<Vec<_>>().join(", "))
}

/// The levels above `LOG` and the debugging ones.
fn hides_the_log(value: &str) -> bool {
    ["info", "notice", "warning", "error", "fatal", "panic"].iter().any(|level| level.eq_ignore_ascii_case(value))
}

fn check_search_path(value: &str) -> Result<(), ValueFault> {
    let schemas = split_identifiers(value).ok_or(ValueFault::NotAList)?;
    if schemas.iter().any(|schema| super::walk::is_temporary(schema)) {
        return Err(ValueFault::TemporarySchema);
    }
    if schemas.iter().any(|schema| super::functions::class_of_extension_schema(schema).is_some()) {
        return Err(ValueFault::ExtensionSchema);
    }
    if schemas.iter().skip(1).any(|schema| schema == "pg_catalog") {
        return Err(ValueFault::CatalogBehind);
    }
    Ok(())
}

/// The names of a comma-separated list, as PostgreSQL's `SplitIdentifierString` reads it: quoted ones as they are,
/// others folded. `None` where it would refuse. Names are compared after truncation to 63 bytes there; a
/// longer one is none of those compared here.
fn split_identifiers(list: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut rest = list.trim_start_matches(is_space);
    if rest.is_empty() {
        return Some(names);
    }
    loop {
        let (name, after) =
            if let Some(quoted) = rest.strip_prefix('"') { quoted_identifier(quoted)? } else { bare_identifier(rest)? };
        names.push(name);
        rest = after.trim_start_matches(is_space);
        match rest.strip_prefix(',') {
            Some(next) => rest = next.trim_start_matches(is_space),
            None => return rest.is_empty().then_some(names),
        }
    }
}

fn quoted_identifier(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut rest = text;
    loop {
        let end = rest.find('"')?;
        name.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(next) => {
                name.push('"');
                rest = next;
            }
            None => return Some((name, rest)),
        }
    }
}

fn bare_identifier(text: &str) -> Option<(String, &str)> {
    let end = text.find(|c| c == ',' || is_space(c)).unwrap_or(text.len());
    (end > 0).then(|| (text[..end].to_ascii_lowercase(), &text[end..]))
}

/// `scanner_isspace`.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

/// Why a SET cannot be said by `set_config`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unflattened(pub &'static str);

/// The value that `set_config` takes for what SET was given, as PostgreSQL's `flatten_set_variable_args` makes it.
pub(super) fn flatten(name: &str, arguments: &[tree::Node]) -> Result<Box<str>, Unflattened> {
    let style = list_style(name);
    if arguments.is_empty() {
        return Err(Unflattened("SET without a value"));
    }
    if arguments.len() > 1 && style == ListStyle::Single {
        return Err(Unflattened("SET of this setting takes only one argument"));
    }
    let mut flat = String::new();
    for argument in arguments {
        if !flat.is_empty() {
            flat.push_str(", ");
        }
        if let (Some(Kind::TypeCast(cast)), "timezone") = (&argument.node, name) {
            flat.push_str(&zone_interval(cast)?);
            continue;
        }
        match argument_text(argument)? {
            Argument::Number(text) => flat.push_str(&text),
            Argument::Text(text) if style == ListStyle::Quoted => push_identifier(&mut flat, text),
            Argument::Text(text) => flat.push_str(text),
        }
    }
    Ok(flat.into())
}

enum Argument<'t> {
    Number(Cow<'t, str>),
    Text(&'t str),
}

fn argument_text(argument: &tree::Node) -> Result<Argument<'_>, Unflattened> {
    use tree::a_const::Val;
    let constant = match &argument.node {
        Some(Kind::AConst(constant)) => constant,
        // Fails closed: only constants can be said by `set_config`.
        _ => return Err(Unflattened("SET with something else than constants")),
    };
    match &constant.val {
        Some(Val::Ival(number)) => Ok(Argument::Number(number.ival.to_string().into())),
        Some(Val::Fval(number)) => Ok(Argument::Number(number.fval.as_str().into())),
        Some(Val::Boolval(value)) => Ok(Argument::Text(if value.boolval { "true" } else { "false" })),
        Some(Val::Sval(text)) => Ok(Argument::Text(&text.sval)),
        Some(Val::Bsval(_)) => Err(Unflattened("SET to a bit string")),
        None => Err(Unflattened("SET to NULL")),
    }
}

/// `SET TIME ZONE INTERVAL '+02:00' HOUR TO MINUTE` (Sequelize): PostgreSQL makes the text `INTERVAL '02:00:00'` of
/// it. Of what an interval may look like, hours and minutes are read here.
fn zone_interval(cast: &tree::TypeCast) -> Result<String, Unflattened> {
    /// `INTERVAL_MASK(HOUR) | INTERVAL_MASK(MINUTE)`.
    const HOUR_TO_MINUTE: i32 = (1 << 10) | (1 << 11);
    const OTHER: Unflattened = Unflattened("SET TIME ZONE INTERVAL of something else than hours and minutes");
    let (Some(argument), Some(cast_to)) = (&cast.arg, &cast.type_name) else { return Err(OTHER) };
    let is_interval = super::walk::name_parts(&cast_to.names) == ["pg_catalog", "interval"];
    let fields = match cast_to.typmods.as_slice() {
        [] => Some(HOUR_TO_MINUTE),
        [one] => whole_number(one),
        _ => None,
    };
    match argument_text(argument)? {
        Argument::Text(text) if is_interval && fields == Some(HOUR_TO_MINUTE) => {
            let (sign, hours, minutes) = hours_and_minutes(text).ok_or(OTHER)?;
            Ok(format!("INTERVAL '{sign}{hours:02}:{minutes:02}:00'"))
        }
        Argument::Text(_) | Argument::Number(_) => Err(OTHER),
    }
}

fn whole_number(node: &tree::Node) -> Option<i32> {
    match &node.node {
        Some(Kind::AConst(constant)) => match &constant.val {
            Some(tree::a_const::Val::Ival(number)) => Some(number.ival),
            _ => None,
        },
        _ => None,
    }
}

/// `[+-]h[h]:mm`.
fn hours_and_minutes(text: &str) -> Option<(&'static str, u8, u8)> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (hours, minutes) = digits.split_once(':')?;
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let has_form = matches!(hours.len(), 1 | 2) && minutes.len() == 2 && is_number(hours) && is_number(minutes);
    let minutes = minutes.parse().ok().filter(|minutes| *minutes < 60)?;
    has_form.then_some((sign, hours.parse().ok()?, minutes))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ListStyle {
    Single,
    Plain,
    Quoted,
}

/// `GUC_LIST_INPUT` and `GUC_LIST_QUOTE` of the settings that may be in an allow-list at all.
fn list_style(name: &str) -> ListStyle {
    match name {
        "search_path" | "temp_tablespaces" | "local_preload_libraries" | "session_preload_libraries" => {
            ListStyle::Quoted
        }
        "datestyle" | "createrole_self_grant" | "wal_consistency_checking" => ListStyle::Plain,
        // Fails closed: a list for a setting that is none here is refused.
        _ => ListStyle::Single,
    }
}

/// `quote_identifier`.
fn push_identifier(out: &mut String, name: &str) {
    let mut bytes = name.bytes();
    let starts_well = bytes.next().is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let is_plain = starts_well && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if is_plain && !is_keyword(name) {
        out.push_str(name);
        return;
    }
    out.push('"');
    out.push_str(&name.replace('"', "\"\""));
    out.push('"');
}

fn is_keyword(name: &str) -> bool {
    include_str!("tables/keywords.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(str::split_whitespace)
        .any(|keyword| keyword == name)
}

/// `SET [SESSION CHARACTERISTICS AS] TRANSACTION` options as (setting, value).
pub(super) fn transaction_options(options: &[tree::Node]) -> Result<Vec<(&str, &str)>, Unflattened> {
    options.iter().map(transaction_option).collect()
}

fn transaction_option(option: &tree::Node) -> Result<(&str, &str), Unflattened> {
    const STRANGE: Unflattened = Unflattened("a transaction option of another form");
    let Some(Kind::DefElem(element)) = &option.node else { return Err(STRANGE) };
    let name = match element.defname.as_str() {
        name if is_of_the_transaction(name) => name,
        // Fails closed.
        _ => return Err(STRANGE),
    };
    let argument = element.arg.as_ref().ok_or(STRANGE)?;
    match argument_text(argument)? {
        Argument::Text(text) => Ok((name, text)),
        Argument::Number(number) => Ok((name, if number == "0" { "off" } else { "on" })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_sorted() {
        assert!(BUILT_IN_ALLOWED.is_sorted() && DEFINITION_ALLOWED.is_sorted());
    }

    #[test]
    fn encodings_are_utf8_in_any_spelling_or_refused() {
        for good in ["UTF8", "utf-8", "Unicode", "utf_8"] {
            assert_eq!(check_value("client_encoding", good).as_deref(), Ok("UTF8"), "{good}");
        }
        assert_eq!(check_value("client_encoding", "UNICODE").as_deref(), Ok("UNICODE"));
        for bad in ["SJIS", "LATIN1", "", "utf16", "ütf8", "SQL_ASCII"] {
            assert_eq!(check_value("client_encoding", bad), Err(ValueFault::Encoding), "{bad}");
        }
    }

    /// With auto_explain loaded, `log` showed a tenant "Rows Removed by Filter: 21": everybody else's rows.
    #[test]
    fn the_servers_log_is_not_for_clients() {
        for good in ["notice", "WARNING", "error", "panic", "info"] {
            assert!(check_value("client_min_messages", good).is_ok(), "{good}");
        }
        for bad in ["log", "LOG", "debug", "debug1", "debug5", "", " log"] {
            assert_eq!(check_value("client_min_messages", bad), Err(ValueFault::ServerLog), "{bad}");
        }
    }

    #[test]
    fn strings_conform() {
        for good in ["on", "ON", "t", "tr", "true", "yes", "y", "1"] {
            assert_eq!(check_value("standard_conforming_strings", good).as_deref(), Ok("on"), "{good}");
        }
        for bad in ["off", "o", "0", "", "false", "no", "onn"] {
            assert!(check_value("standard_conforming_strings", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn search_paths_keep_the_catalogue_first() {
        for good in
            ["", "public", "a, b", "pg_catalog, a", "\"$user\", public", "\"PG_TEMP\"", "\"a\"\"b\", c", "  x  "]
        {
            assert!(check_value("search_path", good).is_ok(), "{good}");
        }
        for bad in [
            "pg_temp",
            "a, pg_temp",
            "PG_TEMP",
            "\"pg_temp\"",
            "pg_temp_3",
            "a, pg_catalog",
            "a,\"pg_catalog\"",
            "a, PG_Catalog",
            "public, cron",
        ] {
            assert!(check_value("search_path", bad).is_err(), "{bad}");
        }
        for bad in [",", "a,", "a b", "\"a", "a,,b"] {
            assert_eq!(check_value("search_path", bad), Err(ValueFault::NotAList), "{bad}");
        }
    }
}
