//! Which acts a command is about, as arguments; the same words as on the review page.

use clap::{Args, ValueEnum};

use crate::audit::Filter;

/// How acts are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// A table for people.
    #[default]
    Table,
    /// One JSON object a line.
    Json,
    /// Comma-separated values with a header (RFC 4180).
    Csv,
}

/// Which acts.
#[derive(Debug, Args)]
pub struct FilterArguments {
    /// Only those that began at or after this time: 2026-11-23, 2026-11-23T09:00 (UTC) or 2026-11-23T09:00:00Z.
    #[arg(long, visible_alias = "from", value_name = "TIME")]
    since: Option<String>,
    /// Only those that began before this time; a day is meant with its end.
    #[arg(long, visible_alias = "to", value_name = "TIME")]
    until: Option<String>,
    /// Only those of this login.
    #[arg(long, value_name = "LOGIN")]
    login: Option<String>,
    /// Only those with this text in login, address, application or whom it acted for.
    #[arg(long, value_name = "TEXT")]
    actor: Option<String>,
    /// Only those with this text in their reason.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Only those that name this table.
    #[arg(long, value_name = "TABLE")]
    table: Option<String>,
    /// Only those that ended like this: committed, rolled_back, failed, unknown, refused …, or none.
    #[arg(long, value_name = "RESULT")]
    outcome: Option<String>,
    /// Only those that were refused, or ended by a limit, with this code.
    #[arg(long, value_name = "TG…")]
    code: Option<String>,
    /// Only those that delivered and wrote so many rows at least.
    #[arg(long, value_name = "COUNT")]
    rows_min: Option<String>,
    /// Only those of logins with this preset.
    #[arg(long, value_name = "PRESET")]
    preset: Option<String>,
    /// Only those of this kind: transaction, refused, freeze, review …; without it all but reviews.
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// Only those of this tenant: migrations, freezes.
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// Only those that somebody has reviewed, or nobody.
    #[arg(long, value_name = "yes|no")]
    reviewed: Option<String>,
}

impl FilterArguments {
    /// As a filter.
    pub fn filter(&self) -> Result<Filter, String> {
        let mut filter = Filter::default();
        for (name, text) in [
            ("since", &self.since),
            ("until", &self.until),
            ("login", &self.login),
            ("actor", &self.actor),
            ("reason", &self.reason),
            ("table", &self.table),
            ("outcome", &self.outcome),
            ("code", &self.code),
            ("rows_min", &self.rows_min),
            ("preset", &self.preset),
            ("kind", &self.kind),
            ("tenant", &self.tenant),
            ("reviewed", &self.reviewed),
        ] {
            if let Some(text) = text {
                filter.set(name, text)?;
            }
        }
        Ok(filter)
    }
}
