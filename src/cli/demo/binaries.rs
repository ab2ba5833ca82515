//! Finds PostgreSQL's server programs on this machine.
//!
//! Owns: where to look. Installs nothing: `make demo` does that, where it may.

use std::path::{Path, PathBuf};

use anyhow::bail;

/// Names the folder of the programs, before any other place.
pub const VARIABLE: &str = "TENANTGATE_PG_BIN";
const PROGRAMS: [&str; 3] = ["initdb", "postgres", "pg_ctl"];
/// Folders that hold one folder for each version, and what is between that and the programs.
const VERSIONED: [(&str, &str, &str); 6] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/opt/homebrew/opt", "postgresql", "bin"),
    ("/usr/local/opt", "postgresql", "bin"),
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/usr/local", "pgsql", "bin"),
];

/// The folder of the programs: `$TENANTGATE_PG_BIN`, else PATH, else the newest installed one.
///
/// # Errors
/// Says in one line how to get them.
pub fn find() -> anyhow::Result<PathBuf> {
    if let Some(folder) = std::env::var_os(VARIABLE).map(PathBuf::from) {
        if has_programs(&folder) {
            return Ok(folder);
        }
        bail!("{VARIABLE} = {} has no initdb, postgres and pg_ctl", folder.display());
    }
    let on_path = std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    let found = [on_path, versioned_folders()].into_iter().flatten().find_map(|folder: PathBuf| resolve(&folder));
    match found {
        Some(folder) => Ok(folder),
        None => bail!(
            "no PostgreSQL server programs found: install them (Debian: apt-get install postgresql; \
             macOS: brew install postgresql@17) or name their folder in {VARIABLE}"
        ),
    }
}

/// A folder of links is followed to the folder that also has the others.
fn resolve(folder: &Path) -> Option<PathBuf> {
    if !folder.join("postgres").exists() {
        return None;
    }
    let real = folder.join("postgres").canonicalize().ok()?.parent()?.to_path_buf();
    [real, folder.to_path_buf()].into_iter().find(|folder| has_programs(folder))
}

fn has_programs(folder: &Path) -> bool {
    PROGRAMS.iter().all(|program| folder.join(program).is_file())
}

/// Newest version first.
fn versioned_folders() -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for (parent, prefix, programs) in VERSIONED {
        for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(prefix) {
                found.push((version_of(&name), entry.path().join(programs)));
            }
        }
    }
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, folder)| folder).collect()
}

/// The first number in a name: `15`, `postgresql@17`, `pgsql-16`.
fn version_of(name: &str) -> u32 {
    let digits: String = name.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers_in_names() {
        assert_eq!(["15", "postgresql@17", "pgsql-16", "postgresql"].map(version_of), [15, 17, 16, 0]);
    }
}
