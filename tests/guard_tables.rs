//! Decision tables: statements, one block each, with the verdict that the preset `tenant` gives them; in
//! `migration.sql`, `bypass.sql` and `application.sql` that of the preset of that name, in `pinned.sql` and `session.sql` that
//! of tenants whose login keeps session state, in `migration_pinned.sql` and `bypass_session.sql` that of those logins, in
//! `migration_defining.sql` and `application_defining.sql` that where a configuration allows all definitions that it can, in `lease.sql` and `lease_application.sql` that where a tenant stays on its
//! server.
//!
//! `tests/guard/*.sql` hold blocks of the form
//!
//! ```text
//! -- allow select            (the class of every statement of the text, in order)
//! SELECT 1
//!
//! -- deny TG011              (optionally more words that the detail must hold)
//! SET app.tenant_id = 'x'
//! ```
//!
//! and run until the next such line. `places.sql` holds places: `{f}` stands for a function call.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::fmt::Write;
use std::path::Path;

use tenantgate::guard::{
    Definition, Facts, Keeping, Limits, Lists, Mode, Policy, PolicySettings, Preset, Sides, StatementClass, inspect,
};

struct Block {
    file: String,
    line: usize,
    wanted: String,
    sql: String,
}

/// The tables' blocks, in order of file and line.
fn blocks(select: impl Fn(&str) -> bool) -> Vec<Block> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guard");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut blocks: Vec<Block> = Vec::new();
    for path in files {
        let file = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !file.ends_with(".sql") || !select(&file) {
            continue;
        }
        for (number, line) in std::fs::read_to_string(&path).unwrap().lines().enumerate() {
            let heading = line.strip_prefix("-- ").filter(|rest| rest.starts_with("allow") || rest.starts_with("deny"));
            if let Some(wanted) = heading {
                let (wanted, sql) = (wanted.to_owned(), String::new());
                blocks.push(Block { file: file.clone(), line: number + 1, wanted, sql });
            } else if let Some(block) = blocks.last_mut().filter(|block| block.file == file) {
                writeln!(block.sql, "{line}").unwrap();
            }
        }
    }
    for block in &mut blocks {
        block.sql = block.sql.trim().to_owned();
    }
    blocks
}

/// A policy's settings where they are not those of its preset alone.
#[derive(Clone, Copy)]
struct Login {
    preset: Preset,
    keeping: Keeping,
    /// The tenant stays on its server, and some procedures are on the list.
    is_leased: bool,
    /// The configuration lets it define all that one may.
    may_define: bool,
}

/// Tables of what an ordinary login is told.
const TENANTS: &[&str] = &[
    "catalog.sql",
    "drivers.sql",
    "functions.sql",
    "introspection.sql",
    "ordinary.sql",
    "psql.sql",
    "scope.sql",
    "statements.sql",
    "text.sql",
    "techniques.sql",
    "threats.sql",
];

const TENANT: Login = Login { preset: Preset::Tenant, keeping: Keeping::Refuse, is_leased: false, may_define: false };

fn policy(Login { preset, keeping, is_leased, may_define }: Login) -> Policy {
    let listed: &[&str] = if is_leased { &["in_steps", "public.listed"] } else { &[] };
    Policy::new(&PolicySettings {
        preset,
        keeping,
        lists: Lists {
            functions: Sides { allowed: listed.iter().map(|name| (*name).to_owned()).collect(), denied: Vec::new() },
            definitions_allowed: if may_define {
                vec![Definition::OwnersView, Definition::Partition]
            } else {
                Vec::new()
            },
            ..Lists::default()
        },
        scope_outlives_transactions: is_leased,
        scope_settings: vec!["app.tenant_id".into()],
        ..PolicySettings::default()
    })
}

/// Runs on a deep stack, as the proxy does.
fn on_a_deep_stack(work: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(64 * 1024 * 1024).spawn(work).unwrap();
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn classes(facts: &Facts) -> String {
    facts.statements.iter().map(|statement| statement.class.name()).collect::<Vec<_>>().join(" ")
}

/// What the guard says of a text, in the words of the tables.
fn verdict(sql: &str) -> String {
    verdict_of(TENANT, sql)
}

fn verdict_of(login: Login, sql: &str) -> String {
    let facts = match inspect(sql.as_bytes(), &Limits::default()) {
        Ok(facts) => facts,
        Err(fault) => return format!("deny {} {fault}", fault.code.unwrap().row().name),
    };
    match policy(login).judge(&facts) {
        Ok(()) => format!("allow {}", classes(&facts)).trim_end().to_owned(),
        Err(fault) => {
            let row = fault.code.unwrap().row();
            assert!(fault.message.starts_with(row.name), "{fault}");
            assert!(fault.hint.is_some(), "{fault}");
            format!("deny {} {fault}", row.name)
        }
    }
}

fn agrees(wanted: &str, verdict: &str) -> bool {
    if wanted.starts_with("allow") {
        return wanted == verdict;
    }
    let mut words = wanted.split_whitespace().skip(1);
    let code = words.next().unwrap();
    verdict.starts_with(&format!("deny {code} ")) && words.all(|word| verdict.contains(word))
}

#[test]
fn every_verdict_is_the_one_the_tables_want() {
    on_a_deep_stack(|| {
        let blocks = blocks(|file| file != "places.sql");
        let mut wrong = String::new();
        for Block { file, line, wanted, sql } in &blocks {
            let login = match file.as_str() {
                "migration.sql" => Login { preset: Preset::Migration, ..TENANT },
                "bypass.sql" => Login { preset: Preset::Bypass, ..TENANT },
                "application.sql" => Login { preset: Preset::Application, keeping: Keeping::Pin, ..TENANT },
                "pinned.sql" => Login { keeping: Keeping::Pin, ..TENANT },
                "session.sql" => Login { keeping: Keeping::Session, ..TENANT },
                "migration_pinned.sql" => Login { preset: Preset::Migration, keeping: Keeping::Pin, ..TENANT },
                "migration_defining.sql" => Login { preset: Preset::Migration, may_define: true, ..TENANT },
                "application_defining.sql" => Login { preset: Preset::Application, may_define: true, ..TENANT },
                "bypass_session.sql" => Login { preset: Preset::Bypass, keeping: Keeping::Session, ..TENANT },
                "lease.sql" => Login { is_leased: true, ..TENANT },
                "lease_application.sql" => Login { preset: Preset::Application, is_leased: true, ..TENANT },
                file if TENANTS.contains(&file) => TENANT,
                other => panic!("{other}: over which login?"),
            };
            let verdict = verdict_of(login, sql);
            if !agrees(wanted, &verdict) {
                writeln!(wrong, "{file}:{line}: wanted {wanted}\n  got {verdict}\n  {sql}").unwrap();
            }
        }
        assert!(wrong.is_empty(), "\n{wrong}");
        assert!(blocks.len() >= 300, "only {} blocks", blocks.len());
    });
}

/// Spellings of functions that are refused wherever they stand, with the code that refuses them.
const REFUSED_CALLS: &[(&str, &str)] = &[
    ("set_config('app.tenant_id', 'x', true)", "TG011"),
    ("pg_catalog.set_config('app.tenant_id', 'x', true)", "TG011"),
    ("SET_CONFIG('a'||'b', c, true)", "TG011"),
    ("\"set_config\"('app.tenant_id', 'b', true)", "TG011"),
    ("U&\"\\0073et_config\"('app.tenant_id', 'b', true)", "TG011"),
    ("U&\"!0073et_config\" UESCAPE '!' ('app.tenant_id', 'b', true)", "TG011"),
    ("public.set_config('a', 'b', true)", "TG011"),
    ("pg_catalog . /* x */ \"set_config\" ('app.tenant_id', 'b', true)", "TG011"),
    ("set_config(setting_name => 'a', new_value => 'b', is_local => true)", "TG011"),
    ("set_config(VARIADIC ARRAY['a', 'b', 'c'])", "TG011"),
    ("query_to_xml('select 1', true, true, '')", "TG016"),
    ("pg_advisory_lock(1)", "TG017"),
    ("pg_sleep(1)", "TG015"),
    ("pg_made_up()", "TG015"),
    ("coalesce(null, abs(set_config('a', 'b', true)::int))", "TG011"),
    ("(SELECT set_config('a', 'b', true))", "TG011"),
    ("('x'::text).set_config", "TG011"),
    ("(1::bigint).pg_advisory_lock", "TG017"),
];

#[test]
fn a_refused_function_is_found_in_every_place() {
    on_a_deep_stack(|| {
        let places = blocks(|file| file == "places.sql");
        assert!(places.len() >= 131, "only {} places", places.len());
        let mut wrong = String::new();
        for Block { file, line, wanted, sql } in &places {
            let harmless = verdict(&sql.replace("{f}", "abs(1)"));
            if !agrees(wanted, &harmless) {
                writeln!(wrong, "{file}:{line}: with a harmless function: wanted {wanted}, got {harmless}").unwrap();
            }
            for (call, code) in REFUSED_CALLS {
                let verdict = verdict(&sql.replace("{f}", call));
                // Some grammar wants a call there and nothing else.
                let is_no_call = call.starts_with('(') || call.starts_with("coalesce");
                let fits =
                    verdict.starts_with(&format!("deny {code} ")) || (is_no_call && verdict.starts_with("deny TG021 "));
                if !fits {
                    writeln!(wrong, "{file}:{line}: {call}: got {verdict}").unwrap();
                }
            }
        }
        assert!(wrong.is_empty(), "\n{wrong}");
    });
}

/// Texts of about so many bytes, nested as deeply as they can be.
fn hostile_texts(bytes: usize) -> Vec<(&'static str, String)> {
    let nest = |before: &str, open: &str, middle: &str, close: &str| {
        let times = (bytes - before.len() - middle.len()) / (open.len() + close.len());
        format!("{before}{}{middle}{}", open.repeat(times), close.repeat(times))
    };
    vec![
        ("parentheses", nest("SELECT ", "(", "1", ")")),
        ("open parentheses", nest("SELECT ", "(", "1", "")),
        ("minus", nest("SELECT ", "- ", "1", "")),
        ("not", nest("SELECT ", "NOT ", "true", "")),
        ("and", nest("SELECT true", " AND true", "", "")),
        ("plus", nest("SELECT 1", "+1", "", "")),
        ("concatenation", nest("SELECT a", "||a", "", "")),
        ("casts", nest("SELECT 1", "::int", "", "")),
        ("subselects", nest("", "SELECT(", "SELECT 1", ")")),
        ("subselects in FROM", nest("", "SELECT*FROM(", "SELECT 1", ")a")),
        ("functions", nest("SELECT ", "f(", "1", ")")),
        ("arrays", nest("SELECT ", "ARRAY[", "1", "]")),
        ("array literals", nest("SELECT ARRAY", "[", "1", "]")),
        ("rows", nest("SELECT ", "ROW(", "1", ")")),
        ("case", nest("SELECT ", "CASE WHEN ", "a", " THEN 1 END")),
        ("joins", nest("SELECT * FROM ", "(a JOIN ", "a", " ON a)")),
        ("join chain", nest("SELECT * FROM a", ",a", "", "")),
        ("natural joins", nest("SELECT * FROM a", " NATURAL JOIN a", "", "")),
        ("unions", nest("SELECT 1", " UNION SELECT 1", "", "")),
        ("nested unions", nest("", "(SELECT 1 UNION ", "SELECT 1", ")")),
        ("common tables", nest("", "WITH a AS(", "SELECT 1", ")SELECT 1")),
        ("indirection", nest("SELECT (a)", ".a", "", "")),
        ("subscripts", nest("SELECT a", "[1]", "", "")),
        ("nested subscripts", nest("SELECT ", "a[", "1", "]")),
        ("collations", nest("SELECT a", " COLLATE \"C\"", "", "")),
        ("is null", nest("SELECT a", " IS NULL", "", "")),
        ("in", nest("SELECT ", "1 IN (", "1", ")")),
        ("explain", nest("", "EXPLAIN ", "SELECT 1", "")),
        ("grouping sets", nest("SELECT 1 GROUP BY GROUPING SETS(", "GROUPING SETS(", "a", ")") + ")"),
        ("json", nest("SELECT ", "JSON_ARRAY(", "1", ")")),
        ("xml", nest("SELECT ", "XMLCONCAT(", "1", ")")),
        ("at time zone", nest("SELECT a", " AT LOCAL", "", "")),
        ("statements", nest("", "SELECT 1;", "", "")),
        ("select list", nest("SELECT a", ",f(a)", "", "")),
        ("values", nest("VALUES (1)", ",(1)", "", "")),
        ("nested comments", nest("SELECT 1 ", "/*", "", "*/")),
        ("apart nested comments", nest("SELECT 1 ", "/* ", "", " */")),
        ("comments", nest("SELECT 1 ", "/**/", "", "")),
        ("apart comments", nest("SELECT 1 ", "/**/ ", "", "")),
        ("starry comments", nest("SELECT 1 ", "/***/", "", "")),
        ("signs", nest("SELECT 1 ", "+", "1", "")),
        ("both signs", nest("SELECT 1 <", "-+", "1", "")),
        ("schema elements", nest("CREATE SCHEMA a ", "CREATE TABLE a() ", "", "")),
        ("dollars", nest("SELECT ", "$a$", "", "")),
        ("quotes", nest("SELECT ", "''", "", "")),
        ("operators", nest("SELECT ", "@", " 1", "")),
        ("distinct functions", {
            let calls: Vec<String> = (0..bytes / 10).map(|number| format!("f{number}()")).collect();
            format!("SELECT {}", calls.join(","))
        }),
        ("no ASCII", nest("SELECT f('é')", ",f('é')", "", "")),
    ]
}

/// What this thread has worked, which a busy machine does not change; where the system does not tell, the time of day.
fn cpu_time() -> std::time::Duration {
    static BEGAN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    let worked = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = worked.and_then(|line| line.split_whitespace().next()?.parse().ok());
    nanoseconds.map_or_else(|| BEGAN.get_or_init(std::time::Instant::now).elapsed(), std::time::Duration::from_nanos)
}

/// The shorter ones are those that the parser's own limits let pass.
#[test]
fn no_text_of_the_allowed_length_overflows_the_parsers_stack_or_takes_long() {
    on_a_deep_stack(|| {
        for bytes in [65_536, 40_000, 25_000, 16_000, 12_000, 8_000, 4_000, 2_000] {
            for (name, text) in hostile_texts(bytes) {
                assert!(text.len() <= 65_536, "{name}: {}", text.len());
                let before = cpu_time();
                let outcome = inspect(text.as_bytes(), &Limits::default());
                let took = cpu_time() - before;
                let word = match &outcome {
                    Ok(facts) => format!("{} statements, {} bytes of facts", facts.statements.len(), facts.bytes),
                    Err(fault) => fault.message.chars().take(60).collect(),
                };
                println!("{bytes} bytes of {name}: {took:?} {word}");
                assert!(took.as_secs() < 2, "{name}: {took:?}");
            }
        }
    });
}

#[test]
fn ordinary_nesting_is_not_too_deep() {
    on_a_deep_stack(|| {
        let concatenation = format!("SELECT a{}", "||a".repeat(900));
        let subselects = format!("{}SELECT 1{}", "SELECT (".repeat(200), ")".repeat(200));
        let conditions = format!("SELECT 1 FROM t WHERE a=1{}", " OR a=1".repeat(5_000));
        let unions = format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(900));
        for text in [concatenation, subselects, conditions, unions] {
            assert_eq!(verdict(&text), "allow select", "{}", &text[..40]);
        }
    });
}

/// A policy of the preset `tenant` with lists of its own.
fn listing(change: impl FnOnce(&mut PolicySettings)) -> Policy {
    let mut settings = PolicySettings { scope_settings: vec!["app.tenant_id".into()], ..PolicySettings::default() };
    change(&mut settings);
    Policy::new(&settings)
}

fn code_under(policy: &Policy, sql: &str) -> Option<&'static str> {
    let facts = inspect(sql.as_bytes(), &Limits::default()).unwrap();
    policy.judge(&facts).err().map(|fault| fault.code.unwrap().row().name)
}

fn texts(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn what_is_denied_is_refused_wherever_it_stands_and_whatever_allows_it() {
    let policy = listing(|settings| {
        settings.lists.functions.denied = texts(&["public.run_report", "lower"]);
        settings.login_lists.functions.allowed = texts(&["run_report", "pg_sleep"]);
        settings.login_lists.settings.denied = texts(&["statement_timeout", "enable_seqscan", "x.*"]);
        settings.lists.settings.allowed = texts(&["x.y", "work_mem"]);
        settings.lists.statements.denied =
            vec![StatementClass::Delete, StatementClass::Update, StatementClass::CopyOut];
    });
    for sql in [
        "SELECT run_report('x')",
        "SELECT public.run_report('x')",
        "SELECT PUBLIC.\"run_report\"('x')",
        "SELECT ('x'::text).run_report",
        "SELECT t.run_report FROM t",
        "SELECT shop.t.run_report FROM shop.t",
        "SELECT U&\"run\\005freport\"('x')",
        "SELECT 1 FROM t WHERE id IN (SELECT run_report(name) FROM u)",
        "INSERT INTO t VALUES (1) RETURNING run_report('x')",
        "SELECT pg_catalog.lower('A')",
        "SET statement_timeout = 1",
        "SELECT set_config('enable_seqscan', 'off', false)",
        "RESET enable_seqscan",
        "SET x.y = 'z'",
        "DELETE FROM t",
        "WITH gone AS (DELETE FROM t RETURNING *) SELECT * FROM gone",
        "SELECT 1; WITH RECURSIVE a AS (SELECT 1), b AS (UPDATE t SET a = 1 RETURNING a) SELECT * FROM b",
        "INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 2",
        "MERGE INTO t USING u ON t.a = u.a WHEN MATCHED THEN DELETE",
        "MERGE INTO t USING u ON t.a = u.a WHEN MATCHED AND u.b THEN UPDATE SET b = 1 WHEN NOT MATCHED THEN INSERT VALUES (1)",
        "COPY t TO STDOUT",
        "COPY (WITH gone AS (DELETE FROM t RETURNING *) SELECT * FROM gone) TO STDOUT",
    ] {
        assert_eq!(code_under(&policy, sql), Some("TG140"), "{sql}");
    }
    for sql in [
        "SELECT other.run_report('x')",
        "SELECT run_reports('x'), run_report FROM t",
        "SELECT pg_sleep(1)",
        "SET work_mem = '1MB'",
        "INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING",
        "MERGE INTO t USING u ON t.a = u.a WHEN NOT MATCHED THEN INSERT VALUES (1)",
        "SELECT * FROM t FOR UPDATE",
        "COPY t FROM STDIN",
    ] {
        assert_eq!(code_under(&policy, sql), None, "{sql}");
    }
}

#[test]
fn classes_that_are_allowed_open_nothing_else() {
    let policy = listing(|settings| {
        settings.login_lists.statements.allowed =
            vec![StatementClass::Explain, StatementClass::Truncate, StatementClass::Lock, StatementClass::Notify];
    });
    for sql in ["EXPLAIN SELECT 1", "TRUNCATE t", "LOCK TABLE t", "NOTIFY c, 'x'"] {
        assert_eq!(code_under(&policy, sql), None, "{sql}");
    }
    for (sql, code) in [
        ("EXPLAIN ANALYZE SELECT set_config('app.tenant_id', 'x', true)", "TG011"),
        ("EXPLAIN ANALYZE CREATE TABLE t AS SELECT 1", "TG010"),
        ("EXPLAIN ANALYZE SELECT * FROM pg_stat_activity", "TG018"),
        ("TRUNCATE pg_temp.t", "TG017"),
        ("LISTEN c", "TG017"),
        ("SELECT pg_notify('c', 'x')", "TG015"),
        ("VACUUM", "TG019"),
    ] {
        assert_eq!(code_under(&policy, sql), Some(code), "{sql}");
    }
}

#[test]
fn observing_never_tolerates_what_the_isolation_rests_on() {
    let policy = listing(|settings| {
        settings.mode = Mode::Observe;
        settings.lists.statements.denied = vec![StatementClass::Delete];
    });
    let verdict = |sql: &str| {
        let facts = inspect(sql.as_bytes(), &Limits::default()).unwrap();
        policy
            .verdict(&facts)
            .map(|observed| observed.map(|it| it.code.row().name))
            .map_err(|it| it.code.unwrap().row().name)
    };
    assert!(policy.is_observing());
    for (sql, code) in [
        ("SELECT pg_sleep(1)", "TG015"),
        ("DO $$ BEGIN END $$", "TG016"),
        ("LISTEN c", "TG017"),
        ("CREATE TEMP TABLE t (a int)", "TG017"),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", "TG017"),
        ("SELECT * FROM pg_stat_activity", "TG018"),
        ("CREATE TABLE t (a int)", "TG019"),
        ("COPY t TO '/tmp/x'", "TG020"),
        ("EXPLAIN SELECT 1", "TG025"),
        ("TRUNCATE t", "TG010"),
        ("SET work_mem = '1GB'", "TG013"),
        ("SELECT 1; LISTEN a; EXPLAIN SELECT 2", "TG017"),
        ("DELETE FROM t", "TG140"),
    ] {
        assert_eq!(verdict(sql), Ok(Some(code)), "{sql}");
    }
    assert_eq!(verdict("SELECT 1"), Ok(None));
    for (sql, code) in [
        ("SET app.tenant_id = 'x'", "TG011"),
        ("SELECT pg_sleep(1), set_config('app.tenant_id', 'x', true)", "TG011"),
        ("LISTEN a; SET app.tenant_id = 'x'", "TG011"),
        ("UPDATE pg_settings SET setting = 'x'", "TG011"),
        ("SET ROLE x", "TG012"),
        ("SET standard_conforming_strings = off", "TG014"),
        ("SET client_encoding = 'SJIS'", "TG014"),
        ("PREPARE TRANSACTION 'x'", "TG026"),
        ("EXECUTE tg_scope('x')", "TG010"),
        ("LISTEN tenantgate", "TG010"),
        ("EXPLAIN ANALYZE CREATE TABLE t AS SELECT 1", "TG010"),
        ("SET TRANSACTION SNAPSHOT 'x'", "TG026"),
    ] {
        assert_eq!(verdict(sql), Err(code), "{sql}");
    }
}
