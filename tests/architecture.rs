//! The repository read as text: the import matrix of `lib.rs`, banned words, the shape of files and functions,
//! and documentation that must keep up with tables in the code.
//!
//! Owns: what a compiler and clippy do not check. Runs in milliseconds.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use tenantgate::check::Rule;
use tenantgate::fault::Code;

/// Modules that every folder may import.
const OPEN_TO_ALL: [&str; 2] = ["time", "fault"];
/// Where waiting, files and clocks are.
const IMPURE: [&str; 2] = ["driver", "cli"];
/// A set that can grow must not be swallowed here (STYLE.md, "Code" 1).
const EXHAUSTIVE: [&str; 4] = ["guard", "scope", "session", "upstream"];
/// What makes code depend on more than its arguments, and why it is banned.
const BANNED: [(&str, &str); 24] = [
    ("tokio", "waiting belongs to the driver"),
    (".await", "waiting belongs to the driver"),
    ("async fn", "waiting belongs to the driver"),
    ("TcpStream", "sockets belong to the driver"),
    ("TcpListener", "sockets belong to the driver"),
    ("UdpSocket", "sockets belong to the driver"),
    ("UnixStream", "sockets belong to the driver"),
    ("socket2", "sockets belong to the driver"),
    ("std::fs", "files belong to the driver and the command line"),
    ("File::open", "files belong to the driver and the command line"),
    ("std::env", "the environment belongs to the command line"),
    ("std::process", "processes belong to the command line"),
    ("Instant::now", "time is an argument"),
    ("SystemTime::now", "time is an argument"),
    ("thread::sleep", "waiting belongs to the driver"),
    ("thread::spawn", "threads belong to the driver"),
    ("thread::Builder", "threads belong to the driver"),
    ("SystemRandom", "randomness is an argument"),
    ("rand::", "randomness is an argument"),
    ("new_v4", "randomness is an argument"),
    ("now_v7", "randomness is an argument"),
    ("println!", "only the command line prints"),
    ("static mut", "no globals"),
    ("anyhow", "errors below the command line are enums"),
];
/// Banned everywhere, comments included. Spelt in two halves so that this file passes its own test.
const UNFINISHED: [&str; 4] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:"), concat!("HA", "CK")];
const FUNCTION_LINES_MAX: usize = 70;
const TOP_LEVEL: [&str; 16] = [
    "Cargo.toml",
    "Cargo.lock",
    "clippy.toml",
    "rustfmt.toml",
    "src",
    "sql",
    "config",
    "benches",
    "fuzz",
    "tests",
    "docs",
    "README.md",
    "Makefile",
    "LICENSE",
    "CHANGELOG.md",
    "target",
];

/// One file of `src`.
struct Source {
    /// Relative to the repository.
    path: String,
    /// `wire`; empty for files directly in `src`.
    folder: String,
    /// How many modules below the folder's own the file is.
    depth: usize,
    text: String,
    /// Comments, and what is inside strings, replaced by spaces; lines stay where they are.
    code: String,
    /// First line of the file's own tests.
    tests_begin: usize,
}

impl Source {
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate().map(|(at, line)| (at + 1, line))
    }

    fn lines_before_tests(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines().take_while(|(number, _)| *number < self.tests_begin)
    }

    fn is_in(&self, folders: &[&str]) -> bool {
        folders.contains(&self.folder.as_str())
    }
}

fn root() -> PathBuf {
    PathBuf::from(std::env::var_os("TENANTGATE_ROOT").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into()))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_default()
}

fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    collect(&root().join("src"), &mut found);
    found.sort();
    found.iter().map(|path| source(path)).collect()
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn source(path: &Path) -> Source {
    let text = std::fs::read_to_string(path).unwrap();
    let code = blank_out(&text);
    let relative = path.strip_prefix(root()).unwrap();
    let parts: Vec<String> = relative.iter().skip(1).map(|part| part.to_string_lossy().into_owned()).collect();
    let is_folder_module = parts.last().is_some_and(|name| name == "mod.rs");
    let is_tests_file = parts.last().is_some_and(|name| name == "tests.rs" || name.ends_with("_tests.rs"));
    let tests_at = code.lines().position(|line| line.trim() == "#[cfg(test)]").map_or(usize::MAX, |at| at + 1);
    Source {
        path: relative.to_string_lossy().into_owned(),
        folder: if parts.len() > 1 { parts[0].clone() } else { String::new() },
        depth: parts.len().saturating_sub(if is_folder_module { 2 } else { 1 }),
        tests_begin: if is_tests_file { 0 } else { tests_at },
        text,
        code,
    }
}

/// Replaces comments and the insides of strings by spaces.
fn blank_out(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = skipped_length(rest, out.chars().next_back());
        let (skipped, kept) = if length > 0 { (length, false) } else { (first.len_utf8(), true) };
        let (piece, after) = rest.split_at(skipped);
        out.extend(piece.chars().map(|c| if kept || c == '\n' { c } else { ' ' }));
        rest = after;
    }
    out
}

/// Length of the comment, string or character literal at the start of `rest`, or 0.
fn skipped_length(rest: &str, before: Option<char>) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return rest.find("*/").map_or(rest.len(), |at| at + 2);
    }
    let is_word_before = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if !is_word_before && let Some(length) = raw_string_length(rest) {
        return length;
    }
    match rest.chars().next() {
        Some('"') => quoted_length(rest, '"'),
        Some('\'') if is_character(rest) => quoted_length(rest, '\''),
        _ => 0,
    }
}

fn raw_string_length(rest: &str) -> Option<usize> {
    let after_prefix = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'))?;
    let hashes = after_prefix.chars().take_while(|c| *c == '#').count();
    after_prefix[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let start = rest.len() - after_prefix.len() + hashes + 1;
    Some(rest[start..].find(&end).map_or(rest.len(), |at| start + at + end.len()))
}

/// `'x'` or `'\n'`, not a lifetime.
fn is_character(rest: &str) -> bool {
    let mut characters = rest.chars().skip(1);
    matches!((characters.next(), characters.next()), (Some('\\'), _) | (Some(_), Some('\'')))
}

fn quoted_length(rest: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

/// Folder and what it may import, from the table in `lib.rs`.
fn matrix() -> BTreeMap<String, BTreeSet<String>> {
    let lib = read("src/lib.rs");
    let rows: Vec<(String, String)> = lib
        .lines()
        .filter_map(|line| line.strip_prefix("//! | [`"))
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            (cells[0].trim_end_matches("`]").to_owned(), cells[2].to_owned())
        })
        .collect();
    let names: Vec<String> = rows.iter().map(|(name, _)| name.clone()).collect();
    rows.iter()
        .enumerate()
        .map(|(at, (name, allowed))| {
            let allowed: BTreeSet<String> = match allowed.as_str() {
                "–" => BTreeSet::new(),
                "all above" => names[..at].iter().cloned().collect(),
                "settings types of the domain folders" => {
                    names.iter().filter(|name| !IMPURE.contains(&name.as_str())).cloned().collect()
                }
                list => list.split(',').map(|name| name.trim().to_owned()).collect(),
            };
            (name.clone(), allowed)
        })
        .collect()
}

/// The modules of this crate that a line of code names.
fn imported(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        let rest = &code[at + "crate::".len()..];
        let names = if let Some(group) = rest.strip_prefix('{') { group_heads(group) } else { vec![word(rest)] };
        found.extend(names.into_iter().filter(|name| !name.is_empty()).map(|name| (line, name)));
    }
    found
}

/// `a::b, c::{d, e}}` → a, c
fn group_heads(group: &str) -> Vec<String> {
    let mut heads = vec![word(group.trim_start())];
    let mut depth = 1;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => heads.push(word(group[at + 1..].trim_start())),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    heads
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

#[track_caller]
fn assert_none(what: &str, mut found: Vec<String>) {
    found.sort();
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

#[test]
fn folders_import_only_what_the_matrix_allows() {
    let matrix = matrix();
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| !source.folder.is_empty()) {
        let Some(allowed) = matrix.get(&source.folder) else { continue };
        for (line, name) in imported(&source.code) {
            let is_module = matrix.contains_key(&name);
            let is_allowed = name == source.folder || OPEN_TO_ALL.contains(&name.as_str()) || allowed.contains(&name);
            if is_module && !is_allowed {
                found.push(format!("{}:{line}: {} may not import {name}", source.path, source.folder));
            }
        }
    }
    assert_none("imports against the matrix in src/lib.rs", found);
}

/// `super::super::wire` from two modules down names a folder as well as `crate::wire` does.
#[test]
fn nobody_leaves_a_folder_by_super() {
    let matrix = matrix();
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| !source.folder.is_empty()) {
        for (number, line) in source.lines() {
            let Some(at) = line.find("super::") else { continue };
            let rest = line[at..].trim_start_matches("super::");
            let chain = (line.len() - at - rest.len()) / "super::".len();
            let name = word(rest);
            if chain > source.depth && name != source.folder && matrix.contains_key(&name) {
                found.push(format!("{}:{number}: reaches {name} by super", source.path));
            }
        }
    }
    assert_none("paths around the matrix", found);
}

#[test]
fn the_map_names_every_folder() {
    let folders: BTreeSet<String> = sources().into_iter().map(|s| s.folder).filter(|f| !f.is_empty()).collect();
    let mapped: BTreeSet<String> = matrix().into_keys().collect();
    let open: BTreeSet<String> = OPEN_TO_ALL.iter().map(|name| (*name).to_owned()).collect();
    let unmapped: Vec<_> = folders.difference(&mapped).filter(|name| !open.contains(*name)).cloned().collect();
    assert_none("folders without a row in src/lib.rs", unmapped);
    assert_none("rows without a folder", mapped.difference(&folders).cloned().collect());
}

#[test]
fn only_driver_and_command_line_touch_the_world() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| !source.is_in(&IMPURE) && source.path != "src/main.rs") {
        for (number, line) in source.lines_before_tests() {
            for (banned, reason) in BANNED.iter().filter(|(banned, _)| line.contains(banned)) {
                found.push(format!("{}:{number}: {banned:?}: {reason}", source.path));
            }
        }
    }
    assert_none("impure words in pure folders", found);
}

/// Clippy knows which matches are over enums; this makes sure that it looks.
#[test]
fn wildcards_over_enums_are_denied_where_a_set_may_grow() {
    let lib = read("src/lib.rs");
    let denies = |folder: &str| lib.contains(&format!("#[deny(clippy::wildcard_enum_match_arm)]\npub mod {folder};"));
    let lacking = EXHAUSTIVE.into_iter().filter(|folder| !denies(folder)).map(str::to_owned);
    assert_none("folders without the lint", lacking.collect());
}

#[test]
fn no_file_is_unfinished_or_silences_a_lint() {
    let mut found = Vec::new();
    for source in sources() {
        for (at, line) in source.text.lines().enumerate() {
            let is_silenced = line.contains("#[allow(") || line.contains("#![allow(");
            if is_silenced || UNFINISHED.iter().any(|word| line.contains(word)) {
                found.push(format!("{}:{}: {}", source.path, at + 1, line.trim()));
            }
        }
    }
    assert_none("unfinished or silenced", found);
}

#[test]
fn every_file_says_what_it_owns() {
    let is_silent = |source: &Source| source.tests_begin > 0 && !source.text.starts_with("//! ");
    assert_none("files that do not begin with //!", sources().into_iter().filter(is_silent).map(|s| s.path).collect());
}

#[test]
fn functions_are_short() {
    let mut found = Vec::new();
    for source in sources() {
        let lines: Vec<&str> = source.code.lines().collect();
        for (number, line) in source.lines_before_tests() {
            if !is_function_head(line) {
                continue;
            }
            let length = function_length(&lines[number - 1..]);
            if length > FUNCTION_LINES_MAX {
                found.push(format!("{}:{number}: {length} lines", source.path));
            }
        }
    }
    assert_none("functions longer than 70 lines", found);
}

fn is_function_head(line: &str) -> bool {
    let mut words = line.split_whitespace().skip_while(|word| {
        matches!(*word, "const" | "async" | "unsafe" | "extern" | "pub") || word.starts_with("pub(")
    });
    words.next() == Some("fn")
}

/// From its first line to its closing brace; a declaration without body is one line.
fn function_length(lines: &[&str]) -> usize {
    let mut depth = 0_i64;
    for (at, line) in lines.iter().enumerate() {
        for c in line.chars() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ';' if depth == 0 => return at + 1,
                _ => {}
            }
            if c == '}' && depth == 0 {
                return at + 1;
            }
        }
    }
    lines.len()
}

#[test]
fn the_top_level_is_as_designed() {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && !TOP_LEVEL.contains(&name.as_str()) {
            found.push(name);
        }
    }
    assert_none("unexpected at the top level", found);
}

/// The sections of `docs/refusals.md` by code.
fn refusal_sections() -> BTreeMap<String, String> {
    read("docs/refusals.md")
        .split("\n## ")
        .skip(1)
        .map(|section| (word(section), section.to_owned()))
        .filter(|(name, _)| name.starts_with("TG"))
        .collect()
}

#[test]
fn every_refusal_is_explained() {
    let sections = refusal_sections();
    let mut found = Vec::new();
    for code in Code::ALL {
        let row = code.row();
        let state = String::from_utf8_lossy(row.sqlstate);
        let Some(section) = sections.get(row.name) else {
            found.push(format!("{}: no section", row.name));
            continue;
        };
        for wanted in [row.message, &format!("{} {state}", row.severity.word()), "**Why.**", "**Instead.**"] {
            if !section.contains(wanted) {
                found.push(format!("{}: does not say {wanted:?}", row.name));
            }
        }
    }
    let known: BTreeSet<&str> = Code::ALL.iter().map(|code| code.row().name).collect();
    found.extend(
        sections.keys().filter(|name| !known.contains(name.as_str())).map(|name| format!("{name}: no such code")),
    );
    assert_none("docs/refusals.md", found);
}

#[test]
fn every_rule_of_check_is_explained() {
    let page = read("docs/check.md");
    let sections: BTreeMap<String, &str> = page
        .split("\n## ")
        .skip(1)
        .map(|section| (word(section), section))
        .filter(|(name, _)| name.starts_with("CK"))
        .collect();
    let mut found = Vec::new();
    for rule in Rule::ALL {
        let row = rule.row();
        let Some(section) = sections.get(row.code) else {
            found.push(format!("{}: no section", row.code));
            continue;
        };
        let severity = format!("`{}`", row.severity.word());
        for wanted in [row.name, row.what, row.why, &severity, "**Mend.**"] {
            if !section.contains(wanted) {
                found.push(format!("{}: does not say {wanted:?}", row.code));
            }
        }
    }
    let known: BTreeSet<&str> = Rule::ALL.iter().map(|rule| rule.row().code).collect();
    found.extend(
        sections.keys().filter(|name| !known.contains(name.as_str())).map(|name| format!("{name}: no such rule")),
    );
    assert_none("docs/check.md", found);
}

/// Links of a page to files of the repository, without their anchors.
fn links(page: &str) -> Vec<String> {
    let targets = page.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    targets.filter(|target| !target.is_empty() && !target.contains("://")).map(str::to_owned).collect()
}

#[test]
fn every_link_of_the_documentation_leads_somewhere() {
    let files = std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = files.filter(|file| file.extension().is_some_and(|extension| extension == "md"));
    let pages: Vec<_> = pages.chain(["README.md", "CHANGELOG.md"].map(|name| root().join(name))).collect();
    let mut dead = Vec::new();
    for page in &pages {
        let text = std::fs::read_to_string(page).unwrap();
        let folder = page.parent().unwrap();
        let missing = links(&text).into_iter().filter(|link| !folder.join(link).exists());
        dead.extend(missing.map(|link| format!("{}: {link}", page.display())));
    }
    assert_none("dead links", dead);
}

#[test]
fn the_reader_of_this_file_sees_code_only() {
    let text = "let a = \"crate::x\"; // crate::y\nlet b = 'c'; /* { */ fn f<'a>(x: &'a str) { r#\"}\"#; } use crate::{p::q, r};";
    let code = blank_out(text);
    assert_eq!(imported(&code), [(2, "p".to_owned()), (2, "r".to_owned())]);
    assert_eq!(code.matches(['{', '}']).count(), 4);
    assert_eq!(code.len(), text.len());
}
