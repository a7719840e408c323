//! Durations, sizes, rates: how users write them, and how they are printed back.
//!
//! Owns the notation and nothing else. Every parser here is total: any text gives a value or a
//! [`UnitError`] that names what was expected.

use std::time::Duration;

/// Why a text is not a quantity. The message is meant for the end of a sentence:
/// "expected a duration such as `150ms`, found …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found `{found}`")]
pub struct UnitError {
    /// What would have been right, with an example.
    pub expected: &'static str,
    /// What stood there.
    pub found: String,
}

/// The longest duration accepted: a hundred years. It keeps deadline arithmetic far from overflow.
pub const MAX_DURATION: Duration = Duration::from_secs(100 * 365 * 86_400);

const A_DURATION: &str = "a duration such as `150ms`, `2s` or `1m30s`";
const A_SIZE: &str = "a size such as `512`, `64KiB` or `1MB`";
const A_FREQUENCY: &str = "a frequency such as `10/s`, `100/min` or `5/h`";
const AN_OFFSET: &str = "an offset in time such as `-5m` or `+30s`";
const A_RATE: &str = "a rate such as `1MB/s` or `64KiB/s`";

fn wrong(expected: &'static str, found: &str) -> UnitError {
    UnitError {
        expected,
        found: found.to_owned(),
    }
}

/// Splits `12.5ms` into its number and its unit.
fn number_and_unit(text: &str) -> Option<(f64, &str)> {
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let number: f64 = text.get(..end)?.parse().ok()?;
    Some((number, text.get(end..)?.trim_start()))
}

/// Reads a duration: one or more of `<number><unit>`, units `ns us µs ms s m h d`; `0` needs none.
///
/// ```
/// use std::time::Duration;
/// assert_eq!(firedrill::units::parse_duration("1m30s"), Ok(Duration::from_secs(90)));
/// assert_eq!(firedrill::units::parse_duration("1.5ms"), Ok(Duration::from_micros(1500)));
/// ```
///
/// # Errors
/// A text that is no duration, is negative, or is longer than [`MAX_DURATION`].
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let err = || wrong(A_DURATION, text);
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(err());
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let (number, tail) = number_and_unit(rest).ok_or_else(err)?;
        let unit_len = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, next) = tail.split_at(unit_len);
        let nanos = match unit.trim() {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" | "min" => 60e9,
            "h" => 3_600e9,
            "d" => 86_400e9,
            _ => return Err(err()),
        };
        let secs = number * nanos / 1e9;
        let part = Duration::try_from_secs_f64(secs).map_err(|_| err())?;
        total = total.checked_add(part).ok_or_else(err)?;
        if total > MAX_DURATION {
            return Err(err());
        }
        rest = next.trim_start();
    }
    Ok(total)
}

/// Prints a duration so that [`parse_duration`] reads the same back: `150ms`, `1m30s`, `10µs`.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let nanos = duration.subsec_nanos();
    let mut out = String::new();
    let mut secs = duration.as_secs();
    for (unit, len) in [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)] {
        if secs >= len {
            out.push_str(&format!("{}{unit}", secs / len));
            secs %= len;
        }
    }
    for (unit, len) in [("ms", 1_000_000), ("µs", 1_000), ("ns", 1)] {
        let part = nanos / len % 1_000;
        if part > 0 {
            out.push_str(&format!("{part}{unit}"));
        }
    }
    if out.is_empty() { "0s".to_owned() } else { out }
}

fn size_unit(unit: &str) -> Option<f64> {
    Some(match unit {
        "" | "B" => 1.0,
        "kB" | "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "KiB" => 1024.0,
        "MiB" => 1_048_576.0,
        "GiB" => 1_073_741_824.0,
        _ => return None,
    })
}

/// Reads a size in bytes: a number with `B kB KB MB GB` (powers of ten) or `KiB MiB GiB`.
///
/// # Errors
/// A text that is no size, or one past 2⁵³ bytes.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let err = || wrong(A_SIZE, text);
    let (number, unit) = number_and_unit(text.trim()).ok_or_else(err)?;
    let bytes = number * size_unit(unit).ok_or_else(err)?;
    if !(0.0..=9_007_199_254_740_992.0).contains(&bytes) {
        return Err(err());
    }
    Ok(bytes.round() as u64)
}

/// Prints a size so that [`parse_size`] reads the same back.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    for (unit, len) in [
        ("GiB", 1u64 << 30),
        ("GB", 1_000_000_000),
        ("MiB", 1 << 20),
        ("MB", 1_000_000),
        ("KiB", 1 << 10),
        ("kB", 1_000),
    ] {
        if bytes >= len && bytes.is_multiple_of(len) {
            return format!("{}{unit}", bytes / len);
        }
    }
    format!("{bytes}B")
}

/// Reads a rate in bytes a second: a size followed by `/s`; `0` needs no unit.
///
/// # Errors
/// A text that is no rate.
pub fn parse_rate(text: &str) -> Result<u64, UnitError> {
    let err = || wrong(A_RATE, text);
    if text.trim() == "0" {
        return Ok(0);
    }
    let size = text.trim().strip_suffix("/s").ok_or_else(err)?;
    parse_size(size.trim_end()).map_err(|_| err())
}

/// Prints a rate so that [`parse_rate`] reads the same back.
#[must_use]
pub fn format_rate(bytes_per_second: u64) -> String {
    format!("{}/s", format_size(bytes_per_second))
}

/// Reads how often something may happen: a whole number a second, minute or hour.
///
/// # Errors
/// A text that is no frequency, or one of 0.
pub fn parse_frequency(text: &str) -> Result<(u64, Duration), UnitError> {
    let err = || wrong(A_FREQUENCY, text);
    let (number, unit) = text.split_once('/').ok_or_else(err)?;
    let number: u64 = number.trim().parse().map_err(|_| err())?;
    let per = match unit.trim() {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3_600,
        _ => return Err(err()),
    };
    if number == 0 || number > 1_000_000_000 {
        return Err(err());
    }
    Ok((number, Duration::from_secs(per)))
}

/// Prints a frequency so that [`parse_frequency`] reads the same back.
#[must_use]
pub fn format_frequency(number: u64, per: Duration) -> String {
    let unit = match per.as_secs() {
        1 => "s",
        60 => "min",
        _ => "h",
    };
    format!("{number}/{unit}")
}

/// Reads a time with a sign, in whole seconds; without a sign it lies ahead.
///
/// # Errors
/// A text that is no offset.
pub fn parse_offset(text: &str) -> Result<i64, UnitError> {
    let err = || wrong(AN_OFFSET, text);
    let text = text.trim();
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let time = parse_duration(rest).map_err(|_| err())?;
    let seconds = i64::try_from(time.as_secs()).map_err(|_| err())?;
    Ok(sign * seconds)
}

/// Prints an offset so that [`parse_offset`] reads the same back.
#[must_use]
pub fn format_offset(seconds: i64) -> String {
    let sign = if seconds < 0 { '-' } else { '+' };
    format!(
        "{sign}{}",
        format_duration(Duration::from_secs(seconds.unsigned_abs()))
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_as_users_write_them() {
        for (text, nanos) in [
            ("150ms", 150_000_000),
            ("0", 0),
            ("0s", 0),
            ("1.5s", 1_500_000_000),
            ("1m30s", 90_000_000_000),
            ("10us", 10_000),
            ("10µs", 10_000),
            (" 2 s ", 2_000_000_000),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_nanos(nanos)),
                "{text}"
            );
        }
        for text in [
            "",
            "s",
            "5",
            "-1s",
            "1x",
            "1s2",
            "1e400s",
            "inf",
            "999999999999d",
            "..s",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_and_rates() {
        assert_eq!(parse_size("64KiB"), Ok(65_536));
        assert_eq!(parse_size("1MB"), Ok(1_000_000));
        assert_eq!(parse_size("512"), Ok(512));
        assert_eq!(parse_rate("1MB/s"), Ok(1_000_000));
        assert_eq!(parse_rate("0"), Ok(0));
        for text in ["", "-1", "1XB", "KiB", "99999999999GB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
        assert!(parse_rate("1MB").is_err());
    }

    #[test]
    fn frequencies_and_offsets() {
        for text in ["10/s", "100/min", "5/h"] {
            let (number, per) = parse_frequency(text).unwrap();
            assert_eq!(format_frequency(number, per), text);
        }
        for text in ["", "10", "0/s", "-1/s", "1/d", "1.5/s", "/s"] {
            assert!(parse_frequency(text).is_err(), "{text}");
        }
        assert_eq!(parse_offset("-5m"), Ok(-300));
        assert_eq!(parse_offset("30s"), Ok(30));
        assert_eq!(parse_offset("+1h"), Ok(3_600));
        for text in ["", "-", "+-5m", "5", "--1s"] {
            assert!(parse_offset(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(nanos in 0u64..3_000_000_000_000_000_000, bytes in 0u64..1 << 53) {
            let duration = Duration::from_nanos(nanos);
            let back = parse_duration(&format_duration(duration));
            prop_assert_eq!(back, Ok(duration));
            prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
            let seconds = (nanos / 1_000_000_000) as i64;
            prop_assert_eq!(parse_offset(&format_offset(-seconds)), Ok(-seconds));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = parse_duration(&text);
            let _ = parse_size(&text);
            let _ = parse_rate(&text);
            let _ = parse_frequency(&text);
            let _ = parse_offset(&text);
        }
    }
}
