//! Times of the week, in UTC: `Mon-Fri 08:00-18:00`.
//!
//! Owns: their form and what lies in them. Does not own: what time it is.

use crate::time::TimeOfDay;

const MINUTE: i64 = 60_000_000;
const DAY_MINUTES: i64 = 24 * 60;
const WEEK_MINUTES: i64 = 7 * DAY_MINUTES;
/// The first of January 1970 was a Thursday; weeks begin on Mondays.
const EPOCH_MINUTES: i64 = 3 * DAY_MINUTES;
/// Stretches that one transaction can run through without a gap: more than a week of days.
const STRETCHES_MAX: usize = 8;

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Stretches of the week.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hours {
    stretches: Vec<Stretch>,
}

/// Minutes since the beginning of the week; it may go over the week's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    start: i64,
    minutes: i64,
}

/// Why a text is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HoursFault {
    /// Not `[days ]HH:MM-HH:MM`.
    #[error("expected days and times in UTC, like \"Mon-Fri 08:00-18:00\", \"Sat,Sun 10:00-12:00\" or \"22:00-06:00\"")]
    Form,
    /// `08:00-08:00`.
    #[error("begins when it ends; for whole days write 00:00-24:00")]
    Empty,
}

impl Hours {
    /// From texts of the form `[days ]HH:MM-HH:MM`; a time that ends before it begins goes on into the next day.
    ///
    /// # Errors
    /// Says what is wrong with the first that is none, and which it is.
    pub fn parse<'t>(texts: impl IntoIterator<Item = &'t str>) -> Result<Self, (usize, HoursFault)> {
        let mut stretches = Vec::new();
        for (index, text) in texts.into_iter().enumerate() {
            stretches.extend(read(text).map_err(|fault| (index, fault))?);
        }
        Ok(Self { stretches })
    }

    /// For how many microseconds from `now` on it goes on without a gap; `None` where `now` does not lie in it.
    #[must_use]
    pub fn remaining_micros(&self, now: TimeOfDay) -> Option<i64> {
        let within = now.unix_micros().rem_euclid(MINUTE);
        let now = now.unix_micros().div_euclid(MINUTE).saturating_add(EPOCH_MINUTES).rem_euclid(WEEK_MINUTES);
        let first = self.remaining_minutes(now)?;
        let mut minutes = first;
        for _ in 0..STRETCHES_MAX {
            match self.remaining_minutes(now.saturating_add(minutes).rem_euclid(WEEK_MINUTES)) {
                Some(more) => minutes = minutes.saturating_add(more),
                None => break,
            }
        }
        Some(minutes.saturating_mul(MINUTE).saturating_sub(within))
    }

    fn remaining_minutes(&self, now: i64) -> Option<i64> {
        let left = |stretch: &Stretch| stretch.minutes - (now - stretch.start).rem_euclid(WEEK_MINUTES);
        self.stretches.iter().map(left).filter(|left| *left > 0).max()
    }
}

fn read(text: &str) -> Result<Vec<Stretch>, HoursFault> {
    let (days, times) = match text.trim().rsplit_once(' ') {
        Some((days, times)) => (read_days(days.trim())?, times),
        None => (vec![0, 1, 2, 3, 4, 5, 6], text.trim()),
    };
    let (from, to) = times.split_once('-').ok_or(HoursFault::Form)?;
    let (from, to) = (read_time(from)?, read_time(to)?);
    if from == to || from == DAY_MINUTES {
        return Err(HoursFault::Empty);
    }
    let minutes = if to > from { to - from } else { to - from + DAY_MINUTES };
    Ok(days.into_iter().map(|day| Stretch { start: day * DAY_MINUTES + from, minutes }).collect())
}

fn read_days(text: &str) -> Result<Vec<i64>, HoursFault> {
    let mut days = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.trim().split_once('-').unwrap_or((part.trim(), part.trim()));
        let (first, last) = (day(first)?, day(last)?);
        // Fri-Mon goes over the end of the week.
        days.extend((0..=(last - first).rem_euclid(7)).map(|step| (first + step) % 7));
    }
    Ok(days)
}

fn day(text: &str) -> Result<i64, HoursFault> {
    let at = DAYS.iter().position(|day| day.eq_ignore_ascii_case(text.trim())).ok_or(HoursFault::Form)?;
    i64::try_from(at).map_err(|_| HoursFault::Form)
}

/// `HH:MM`, up to 24:00.
fn read_time(text: &str) -> Result<i64, HoursFault> {
    let (hours, minutes) = text.trim().split_once(':').ok_or(HoursFault::Form)?;
    let number = |digits: &str| match digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        true => digits.parse::<i64>().map_err(|_| HoursFault::Form),
        false => Err(HoursFault::Form),
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let time = hours * 60 + minutes;
    if minutes < 60 && time <= DAY_MINUTES { Ok(time) } else { Err(HoursFault::Form) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Monday the 23rd of November 2026, 00:00 UTC.
    const MONDAY: i64 = 1_795_392_000;

    fn at(day: i64, hour: i64, minute: i64) -> TimeOfDay {
        TimeOfDay::from_unix_micros((MONDAY + day * 86_400 + hour * 3_600 + minute * 60) * 1_000_000)
    }

    fn left(texts: &[&str], now: TimeOfDay) -> Option<i64> {
        Hours::parse(texts.iter().copied()).unwrap().remaining_micros(now).map(|micros| micros / MINUTE)
    }

    #[test]
    fn a_time_of_the_week_ends_at_its_minute() {
        let office = ["Mon-Fri 08:00-18:00"];
        assert_eq!(left(&office, at(0, 8, 0)), Some(600));
        assert_eq!(left(&office, at(4, 17, 59)), Some(1));
        for closed in [at(0, 7, 59), at(4, 18, 0), at(5, 9, 0), at(6, 9, 0), at(-1, 9, 0)] {
            assert_eq!(left(&office, closed), None);
        }
        let half = TimeOfDay::from_unix_micros(at(0, 17, 59).unix_micros() + 30_000_000);
        let hours = Hours::parse(office).unwrap();
        assert_eq!(hours.remaining_micros(half), Some(30_000_000));
    }

    #[test]
    fn nights_and_weeks_go_over_their_ends() {
        assert_eq!(left(&["Sun 22:00-06:00"], at(7, 5, 0)), Some(60));
        assert_eq!(left(&["Sun 22:00-06:00"], at(7, 6, 0)), None);
        assert_eq!(left(&["22:00-06:00"], at(2, 1, 0)), Some(300));
        assert_eq!(left(&["Fri-Mon 10:00-11:00"], at(6, 10, 0)), Some(60));
        assert_eq!(left(&["Fri-Mon 10:00-11:00"], at(1, 10, 0)), None);
        assert_eq!(left(&["sat,SUN 10:00-11:00"], at(5, 10, 30)), Some(30));
        // What follows without a gap is one.
        assert_eq!(left(&["Mon 00:00-24:00", "Tue 00:00-01:00"], at(0, 23, 0)), Some(120));
        assert!(left(&["00:00-24:00"], at(0, 23, 0)).unwrap() > 1_440);
    }

    #[test]
    fn what_is_no_time_of_the_week_is_told_by_its_place() {
        for bad in ["", "Mon", "8:00-18:00", "08:00", "08:00-25:00", "08:60-09:00", "Mo 08:00-09:00", "24:01-01:00"] {
            assert_eq!(Hours::parse(["08:00-09:00", bad]), Err((1, HoursFault::Form)), "{bad:?}");
        }
        assert_eq!(Hours::parse(["08:00-08:00"]), Err((0, HoursFault::Empty)));
    }
}
