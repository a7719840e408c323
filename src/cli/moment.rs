//! A moment as it is typed: RFC 3339, or how long ago.

use crate::clock::Timestamp;
use crate::units::parse_duration;

/// Reads `2026-01-02T03:04:05Z`, or `5m` for five minutes ago.
///
/// # Errors
/// It is neither.
pub(super) fn parse(text: &str) -> Result<Timestamp, String> {
    if let Ok(moment) = text.parse() {
        return Ok(moment);
    }
    match parse_duration(text) {
        Ok(ago) => {
            let now = Timestamp::now();
            Ok(Timestamp(now.0.saturating_sub(ago.as_micros() as u64)))
        }
        Err(_) => Err(
            "expected how long ago, such as `5m`, or a moment such as `2026-01-02T03:04:05Z`"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_or_how_long_ago() {
        assert_eq!(parse("1970-01-01T00:00:01Z"), Ok(Timestamp(1_000_000)));
        let ago = Timestamp::now().since(parse("5m").unwrap());
        assert!((299..302).contains(&ago.as_secs()), "{ago:?}");
        assert!(parse("9000h").unwrap() < parse("5m").unwrap());
        for bad in ["", "yesterday", "-5m", "5"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
