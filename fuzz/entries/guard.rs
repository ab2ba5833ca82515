//! The guard: any text, inspected, judged, explained, cached and redacted.
//!
//! Must hold: the same text always gives the same facts; the cache gives what an inspection would, for the text itself
//! and for every text that shares its shape; what is allowed to a tenant sets no scope setting; nothing panics.

use std::sync::LazyLock;

use tenantgate::guard::{
    Control, Facts, FactsCache, Inspected, Limits, Policy, PolicySettings, Preset, StatementClass, explain, inspect,
    redacted,
};

/// Longer texts find the same things more slowly.
const TEXT_BYTES_MAX: usize = 8 * 1024;

const SCOPE_SETTING: &str = "app.tenant_id";

static POLICIES: LazyLock<[Policy; 3]> = LazyLock::new(|| {
    [Preset::Tenant, Preset::Migration, Preset::Bypass].map(|preset| {
        Policy::new(&PolicySettings {
            preset,
            scope_settings: vec![SCOPE_SETTING.into()],
            text_bytes_max: TEXT_BYTES_MAX,
            ..PolicySettings::default()
        })
    })
});

/// See the module. Needs a deep stack.
pub fn run(data: &[u8]) {
    let limits = Limits { text_bytes_max: TEXT_BYTES_MAX, ..Limits::default() };
    let inspected = inspect(data, &limits);
    assert_eq!(of(&inspected), of(&inspect(data, &limits)), "two inspections differ");
    judge(data, &inspected);
    check_cache(data, &inspected, &limits);
}

/// What can be compared of an inspection.
fn of(inspected: &Inspected) -> Result<&Facts, String> {
    inspected.as_deref().map_err(|fault| format!("{fault:?}"))
}

fn judge(data: &[u8], inspected: &Inspected) {
    for policy in POLICIES.iter() {
        let explained = explain(data, policy);
        let Ok(facts) = inspected else {
            assert!(explained.iter().all(|explained| !explained.is_allowed()));
            continue;
        };
        let is_allowed = policy.judge(facts).is_ok();
        assert_eq!(is_allowed, explained.iter().all(|explained| explained.is_allowed()));
        if is_allowed && policy.preset() != Preset::Bypass {
            check_allowed(facts, policy);
        }
    }
    let Ok(facts) = inspected else { return };
    let text = std::str::from_utf8(data).expect("what has facts is UTF-8");
    let mut end = 0;
    for statement in &facts.statements {
        let range = statement.range(text.len());
        assert!(range.start >= end && range.start <= range.end, "statements overlap");
        end = range.end;
        let own = text.get(range).expect("a statement begins and ends between characters");
        if let Some((short, _)) = redacted(own, statement.class, 200) {
            // One token more than asked for.
            assert!(short.len() <= 200 + 512, "redacted to {} bytes", short.len());
        }
    }
}

/// What no tenant's text may do, said in another way than the guard says it.
fn check_allowed(facts: &Facts, policy: &Policy) {
    for statement in &facts.statements {
        let configured: Vec<&str> = match &statement.control {
            Control::Configure(list) => list.iter().map(|configuration| &*configuration.name).collect(),
            _ => Vec::new(),
        };
        assert!(!configured.contains(&SCOPE_SETTING), "a scope setting is set");
        let calls = |name: &str| statement.functions.iter().any(|function| &*function.name == name);
        assert!(!calls("set_config") || !configured.is_empty(), "set_config that the session does not know of");
        for name in ["query_to_xml", "pg_terminate_backend", "dblink", "lo_import", "pg_read_file", "ts_stat"] {
            assert!(!calls(name), "{name} is called");
        }
        let is_forbidden = matches!(statement.class, StatementClass::CopyServer | StatementClass::Truncate);
        assert!(!is_forbidden || policy.preset() == Preset::Migration, "{:?}", statement.class);
    }
}

fn check_cache(data: &[u8], inspected: &Inspected, limits: &Limits) {
    let cache = FactsCache::new(4 * 1024 * 1024);
    cache.insert(data, inspected);
    for text in [data.to_vec(), with_other_literals(data)] {
        let Some(found) = cache.lookup(&text) else { continue };
        let fresh = inspect(&text, limits);
        for policy in POLICIES.iter() {
            assert_eq!(verdict(&found, policy), verdict(&fresh, policy), "the cache says something else");
        }
        if let (Ok(found), Ok(fresh)) = (&found, &fresh) {
            let ranges = |facts: &Facts| -> Vec<_> {
                facts.statements.iter().map(|statement| (statement.range(text.len()), statement.class)).collect()
            };
            assert_eq!(ranges(found), ranges(fresh), "the cache finds other statements");
        }
    }
}

/// The verdict without positions, which texts of one shape do not share.
fn verdict(inspected: &Inspected, policy: &Policy) -> Result<Vec<bool>, String> {
    let facts = inspected.as_ref().map_err(|fault| format!("{:?}", fault.code))?;
    policy.judge(facts).map_err(|fault| format!("{:?}", fault.code))?;
    Ok(facts.statements.iter().map(|statement| policy.needs_scope(statement)).collect())
}

/// The text with other digits and letters inside its literals, as far as they are easily found.
fn with_other_literals(data: &[u8]) -> Vec<u8> {
    let mut is_quoted = false;
    let change = |&byte: &u8| {
        if byte == b'\'' {
            is_quoted = !is_quoted;
        }
        match byte {
            b'0'..=b'8' => byte + 1,
            b'9' => b'1',
            b'a'..=b'y' if is_quoted => byte + 1,
            _ => byte,
        }
    };
    data.iter().map(change).collect()
}
