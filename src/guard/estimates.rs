//! Reading the planner's estimates out of `pg_class`: counts over all tenants' rows.
//!
//! `pg_class` describes the schema, and every tool reads it; a few of its columns count rows. They are found by their names,
//! and where no names are written: `*` over `pg_class`, a row of it as a whole, its columns under other names.
//!
//! Owns: noticing that while a statement is walked. Does not own: who may read them (`policy`).

use std::collections::HashSet;

use super::parser::{Kind, tree};

/// Counts of rows and pages.
const COLUMNS: [&str; 4] = ["relallfrozen", "relallvisible", "relpages", "reltuples"];

/// What a statement has shown so far.
#[derive(Default)]
pub(super) struct Estimates {
    /// The names under which rows of `pg_class` can be written.
    names: HashSet<Box<str>>,
    /// Words that are a row of `pg_class` if it is called so, or a column of it; and where.
    mentioned: Vec<(Box<str>, i32)>,
    /// Shown whatever the names are.
    certain: Option<Box<str>>,
}

impl Estimates {
    /// `pg_class` is read, or something that holds its columns, under an alias or its own name.
    pub fn on_class(&mut self, alias: Option<&tree::Alias>) {
        self.names.insert(alias.map_or("pg_class", |alias| &alias.aliasname).into());
        if alias.is_some_and(|alias| !alias.colnames.is_empty()) {
            self.certain = Some("A column by another name".into());
        }
    }

    /// A name, with what is written before it.
    pub fn on_column(&mut self, parts: &[&str], fields: &[tree::Node], location: i32) {
        let is_star = fields.last().is_some_and(is_star);
        let word = match parts {
            // `c.*`
            [.., relation] if is_star => relation,
            [.., name] if COLUMNS.contains(name) => name,
            // `c` as a row.
            [name] => name,
            [] | [_, ..] => return,
        };
        self.mentioned.push(((*word).into(), location));
    }

    /// `SELECT * FROM pg_class`, also by TABLE, and `RETURNING *` beside it.
    pub fn on_select(&mut self, targets: &[tree::Node], from: &[tree::Node]) {
        if targets.iter().any(is_whole) && from.iter().any(is_of_class) {
            self.certain = Some("*".into());
        }
    }

    /// `COPY pg_class TO STDOUT`, with the columns that are named.
    pub fn on_copy(&mut self, columns: &[tree::Node]) {
        let is_estimate = |column: &tree::Node| match &column.node {
            Some(Kind::String(name)) => COLUMNS.contains(&name.sval.as_str()),
            // Fails closed: no such list names anything else.
            Some(_) | None => true,
        };
        if columns.is_empty() || columns.iter().any(is_estimate) {
            self.certain = Some("COPY".into());
        }
    }

    /// The word that shows estimates, if any does, and where it stands.
    pub fn shown(&mut self) -> Option<(Box<str>, i32)> {
        if self.names.is_empty() {
            return None;
        }
        let shows = |word: &str| COLUMNS.contains(&word) || self.names.contains(word);
        let mentioned = self.mentioned.iter().find(|(word, _)| shows(word)).cloned();
        self.certain.take().map(|word| (word, -1)).or(mentioned)
    }
}

/// Whether a part of FROM is `pg_class`, or a join of it.
pub(super) fn is_of_class(node: &tree::Node) -> bool {
    if let Some(Kind::RangeVar(relation)) = &node.node {
        relation.relname == "pg_class"
    } else if let Some(Kind::JoinExpr(join)) = &node.node {
        [&join.larg, &join.rarg].into_iter().flatten().any(|side| is_of_class(side))
    } else {
        false
    }
}

/// An unqualified `*` as a target.
fn is_whole(target: &tree::Node) -> bool {
    let Some(Kind::ResTarget(target)) = &target.node else { return false };
    let Some(Kind::ColumnRef(column)) = target.val.as_ref().and_then(|value| value.node.as_ref()) else { return false };
    matches!(column.fields.as_slice(), [only] if is_star(only))
}

fn is_star(node: &tree::Node) -> bool {
    matches!(&node.node, Some(Kind::AStar(_)))
}
