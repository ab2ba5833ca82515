//! What was exported, and what was erased: two files in JSON.
//!
//! Owns: their forms. Does not own: digests (the command computes them), files.

use serde::{Deserialize, Serialize};

use super::plan::{Plan, Table};

/// Of both forms: 1 had rows in any order, and no names of records.
pub const VERSION: u32 = 2;

/// One file of an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exported {
    /// The table.
    pub table: Table,
    /// The file's name, in the same folder.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
}

/// What an export holds; written last, so that an export without one is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The form's version.
    pub version: u32,
    /// The tenant.
    pub tenant: String,
    /// The database, as clients name it.
    pub database: String,
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// The transaction that has read it, by its name in the ledger.
    pub transaction: Option<String>,
    /// Each table.
    pub tables: Vec<Exported>,
}

impl Manifest {
    /// All rows in it.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.tables.iter().fold(0, |sum, it| sum.saturating_add(it.table.rows))
    }

    /// What is not in the export as it is in the database now, in a sentence. By numbers: only the digests of rows say whether
    /// they are the same.
    #[must_use]
    pub fn difference(&self, plan: &Plan, database: &str) -> Option<String> {
        if self.version != VERSION {
            return Some(format!("the export has version {}, and {VERSION} is known", self.version));
        }
        if self.tenant != plan.tenant || self.database != database {
            return Some(format!("the export is tenant {}'s in database {}", self.tenant, self.database));
        }
        let exported = |table: &Table| self.tables.iter().find(|it| it.table.full_name() == table.full_name());
        plan.tables.iter().find_map(|table| match exported(table) {
            None => Some(format!("{} is not in the export", table.full_name())),
            Some(it) if it.table.rows != table.rows || it.table.column != table.column => {
                Some(format!("{} has {} rows, and {} in the export", table.full_name(), table.rows, it.table.rows))
            }
            Some(_) => None,
        })
    }
}

/// One table of a proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvenTable {
    /// Schema and name.
    pub table: String,
    /// The tenant's column.
    pub column: Option<String>,
    /// Rows that were erased.
    pub erased: u64,
    /// Rows that were counted afterwards, in a transaction of its own.
    pub left: u64,
}

/// A transaction, or a freeze, that the ledger has a record of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// What for: `freeze`, `thaw`, or what its reason says.
    pub step: String,
    /// Its name in the ledger.
    pub id: String,
    /// When it began, as the ledger says.
    pub at: String,
    /// How it ended.
    pub result: Option<String>,
    /// Its id on the server.
    pub xid: Option<String>,
    /// Rows it has written, of those that the server counts: not what is erased in a `WITH`, together with what it refers to.
    pub rows: u64,
}

/// What was erased. Its digest is in the reason of a recorded transaction, and so in the ledger's chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The form's version.
    pub version: u32,
    /// The tenant.
    pub tenant: String,
    /// The database, as clients name it.
    pub database: String,
    /// When it was proven, RFC 3339 in UTC.
    pub at: String,
    /// The transaction that has erased, by its id on the server; none where an earlier run had erased.
    pub xid: Option<String>,
    /// The SHA-256 of the export's manifest, hexadecimal; none without an export.
    pub manifest_sha256: Option<String>,
    /// All that the ledger knows to have been done for this, earlier runs' as well, oldest first.
    pub transactions: Vec<Recorded>,
    /// Each table.
    pub tables: Vec<ProvenTable>,
}

impl Proof {
    /// Whether nothing is left.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.tables.iter().all(|table| table.left == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_of_another_state_is_told_apart() {
        let table =
            |rows| Table { schema: "s".into(), name: "t".into(), column: Some("c".into()), is_hidden: false, rows };
        let exported = Exported { table: table(3), file: "s.t.csv".into(), bytes: 1, sha256: String::new() };
        let manifest = Manifest {
            version: VERSION,
            tenant: "x".into(),
            database: "d".into(),
            at: String::new(),
            transaction: None,
            tables: vec![exported],
        };
        let plan = |tenant: &str, rows| Plan::new(tenant, vec![table(rows)], &[], false);
        assert_eq!(manifest.difference(&plan("x", 3), "d"), None);
        for (plan, database) in [(plan("x", 4), "d"), (plan("y", 3), "d"), (plan("x", 3), "e")] {
            assert!(manifest.difference(&plan, database).is_some(), "{plan:?} {database}");
        }
        let two = Plan::new("x", vec![table(3), Table { name: "u".into(), ..table(0) }], &[], false);
        assert!(manifest.difference(&two, "d").unwrap().contains("s.u is not in"));
    }
}
