//! Texts with a unit: lengths of time and sizes.
//!
//! Owns: how they are written. Does not own: limits (see `reference`).

use std::time::Duration;

/// `1h30m`, `250ms`, `15 s`; every part has a unit.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, after_number) = split_where(rest, |c| !c.is_ascii_digit());
        let (unit, after_unit) = split_where(after_number.trim_start(), |c| !c.is_ascii_alphabetic());
        let count: u64 = number.parse().ok()?;
        let milliseconds = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        total = total.checked_add(Duration::from_millis(count.checked_mul(milliseconds)?))?;
        rest = after_unit.trim_start();
    }
    Some(total)
}

/// `65536`, `64KiB`, `1 MB`.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let (number, unit) = split_where(text.trim(), |c| !c.is_ascii_digit());
    let factor = match unit.trim() {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

fn split_where(text: &str, at: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(at).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_in_every_part() {
        assert_eq!(parse_duration("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(parse_duration("250 ms"), Some(Duration::from_millis(250)));
        for bad in ["", "5", "s", "-1s", "1.5s", "1 week", "1h5", "99999999999999999999s", "18446744073709551615d"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_may_have_a_unit() {
        assert_eq!(parse_bytes("64KiB"), Some(65_536));
        assert_eq!(parse_bytes("1 MB"), Some(1_000_000));
        for bad in ["", "KiB", "-1", "1.5MB", "1 mib", "18446744073709551615GiB"] {
            assert_eq!(parse_bytes(bad), None, "{bad}");
        }
    }
}
