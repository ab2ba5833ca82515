//! Which acts are wanted.
//!
//! Owns: the filters, how they are written, what fits. Does not own: where acts come from, what becomes of them.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

use super::deed::Deed;

/// Most bytes of what is looked for.
const WORD_BYTES_MAX: usize = 1_024;

/// All that is given must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// At or after this time.
    pub since: Option<Timestamp>,
    /// Before this time.
    pub until: Option<Timestamp>,
    /// Of exactly this login.
    pub login: Option<String>,
    /// Has this in the login, in whom it acted for, in its address or application, whatever the case of letters.
    pub actor: Option<String>,
    /// Has this in its reason, whatever the case of letters.
    pub reason: Option<String>,
    /// Names this table, with its schema or without.
    pub table: Option<String>,
    /// Ended like this; `none` for those without an outcome.
    pub outcome: Option<String>,
    /// Refused, or ended by a limit, with this code (TG…).
    pub code: Option<String>,
    /// Delivered and wrote so many rows at least.
    pub rows_min: Option<u64>,
    /// Of logins with this preset.
    pub preset: Option<String>,
    /// Of this kind; without it all but reviews.
    pub kind: Option<String>,
    /// Of this tenant.
    pub tenant: Option<String>,
    /// Reviewed, or not.
    pub reviewed: Option<bool>,
}

impl Filter {
    /// The names of all filters, as `set` takes them.
    pub const NAMES: [&str; 13] = [
        "since", "until", "login", "actor", "reason", "table", "outcome", "code", "rows_min", "preset", "kind",
        "tenant", "reviewed",
    ];

    /// Puts one; an empty text is none.
    ///
    /// # Errors
    /// Says in words what is wrong with it.
    pub fn set(&mut self, name: &str, text: &str) -> Result<(), String> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(());
        }
        if text.len() > WORD_BYTES_MAX {
            return Err(format!("{name}: at most {WORD_BYTES_MAX} bytes"));
        }
        let word = Some(text.to_owned());
        match name {
            "since" => self.since = Some(parse_time(text, Edge::Since)?),
            "until" => self.until = Some(parse_time(text, Edge::Until)?),
            "login" => self.login = word,
            "actor" => self.actor = word,
            "reason" => self.reason = word,
            "table" => self.table = word,
            "outcome" => self.outcome = word,
            "code" => self.code = word.map(|word| word.to_ascii_uppercase()),
            "rows_min" => self.rows_min = Some(text.parse().map_err(|_| format!("{text:?} is no number of rows"))?),
            "preset" => self.preset = word,
            "kind" => self.kind = word,
            "tenant" => self.tenant = word,
            "reviewed" => self.reviewed = Some(parse_flag(text)?),
            _ => return Err(format!("there is no filter {name:?}")),
        }
        Ok(())
    }

    /// Whether an act is wanted. A time that cannot be read is shown rather than hidden.
    #[must_use]
    pub fn fits(&self, act: &Deed) -> bool {
        self.is_in_time(act)
            && same(self.login.as_ref(), &act.login)
            && same(self.preset.as_ref(), &act.preset)
            && self.tenant.as_ref().is_none_or(|tenant| act.tenant.as_ref() == Some(tenant))
            && self.kind.as_ref().map_or(act.kind != "review", |kind| *kind == act.kind)
            && self.rows_min.is_none_or(|rows| act.rows() >= rows)
            && self.reviewed.is_none_or(|reviewed| reviewed == (act.reviews > 0))
            && self.outcome.as_ref().is_none_or(|outcome| is_outcome(outcome, act))
            && self.code.as_ref().is_none_or(|code| act.code.as_ref() == Some(code))
            && self.table.as_ref().is_none_or(|table| act.tables.iter().any(|other| is_table(table, other)))
            && self.reason.as_ref().is_none_or(|reason| has(act.reason.as_deref(), reason))
            && self.actor.as_ref().is_none_or(|actor| is_actor(actor, act))
    }

    fn is_in_time(&self, act: &Deed) -> bool {
        if self.since.is_none() && self.until.is_none() {
            return true;
        }
        let Ok(at) = act.at.parse::<Timestamp>() else { return true };
        self.since.is_none_or(|since| at >= since) && self.until.is_none_or(|until| at < until)
    }
}

fn same(wanted: Option<&String>, found: &str) -> bool {
    wanted.is_none_or(|wanted| wanted == found)
}

fn has(text: Option<&str>, wanted: &str) -> bool {
    text.is_some_and(|text| text.to_lowercase().contains(&wanted.to_lowercase()))
}

fn is_actor(wanted: &str, act: &Deed) -> bool {
    let texts = [Some(act.login.as_str()), act.on_behalf_of.as_deref(), Some(&act.address), act.application.as_deref()];
    texts.into_iter().any(|text| has(text, wanted))
}

fn is_outcome(wanted: &str, act: &Deed) -> bool {
    match &act.result {
        Some(result) => result == wanted,
        None => wanted == "none",
    }
}

fn is_table(wanted: &str, found: &str) -> bool {
    found == wanted || found.strip_suffix(wanted).is_some_and(|schema| schema.ends_with('.'))
}

fn parse_flag(text: &str) -> Result<bool, String> {
    match text {
        "yes" | "true" => Ok(true),
        "no" | "false" => Ok(false),
        _ => Err(format!("{text:?} is neither yes nor no")),
    }
}

/// Which end of a day a date means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// Its beginning.
    Since,
    /// Its end.
    Until,
}

/// A time with its zone, without one in UTC, or a day in UTC.
///
/// # Errors
/// It is none.
pub fn parse_time(text: &str, edge: Edge) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let none = |_| format!("{text:?} is no time: write 2026-11-23, 2026-11-23T09:00 or 2026-11-23T09:00:00Z, in UTC");
    let local = match text.parse::<Date>() {
        Ok(day) if !text.contains(['T', 't', ' ']) => match edge {
            Edge::Since => day.to_datetime(jiff::civil::Time::midnight()),
            Edge::Until => day.checked_add(1.day()).map_err(none)?.to_datetime(jiff::civil::Time::midnight()),
        },
        _ => text.parse::<DateTime>().map_err(none)?,
    };
    local.to_zoned(TimeZone::UTC).map(|zoned| zoned.timestamp()).map_err(none)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn act() -> Deed {
        Deed {
            kind: "transaction".into(),
            at: "2026-11-23T09:00:00.000000Z".into(),
            login: "ops".into(),
            address: "10.0.0.7:4".into(),
            on_behalf_of: Some("Maria".into()),
            reason: Some("Ticket 4711: totals".into()),
            tables: vec!["public.orders".into(), "customers".into()],
            result: Some("committed".into()),
            code: Some("TG179".into()),
            rows_delivered: 3,
            rows_affected: 2,
            preset: "bypass".into(),
            ..Deed::default()
        }
    }

    #[test]
    fn each_filter_lets_through_what_fits_and_nothing_else() {
        for (name, fitting, other) in [
            ("since", "2026-11-23", "2026-11-24"),
            ("since", "2026-11-23T09:00", "2026-11-23T09:00:01Z"),
            ("until", "2026-11-23", "2026-11-22"),
            ("until", "2026-11-23T09:00:00.000001Z", "2026-11-23T09:00:00Z"),
            ("login", "ops", "op"),
            ("actor", "maria", "mario"),
            ("actor", "10.0.0.7", "10.0.0.8"),
            ("reason", "ticket 47", "4712"),
            ("table", "orders", "rders"),
            ("table", "public.orders", "private.orders"),
            ("outcome", "committed", "none"),
            ("code", "tg179", "TG178"),
            ("rows_min", "5", "6"),
            ("preset", "bypass", "migration"),
            ("kind", "transaction", "freeze"),
            ("reviewed", "no", "yes"),
            ("tenant", "", "acme"),
        ] {
            for (text, wanted) in [(fitting, true), (other, false)] {
                let mut filter = Filter::default();
                filter.set(name, text).unwrap();
                assert_eq!(filter.fits(&act()), wanted, "{name} = {text}");
            }
        }
        assert!(Filter { outcome: Some("none".into()), ..Filter::default() }.fits(&Deed { result: None, ..act() }));
        assert!(!Filter::default().fits(&Deed { kind: "review".into(), ..act() }));
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_words() {
        for (name, text) in [("since", "soon"), ("rows_min", "-1"), ("reviewed", "perhaps"), ("colour", "red")] {
            assert!(Filter::default().set(name, text).is_err(), "{name} = {text}");
        }
        assert!(Filter::NAMES.iter().all(|name| Filter::default().set(name, "").is_ok()));
    }
}
