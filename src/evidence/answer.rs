//! What the head of an answer says to callers who try again.

use crate::clock::Timestamp;

/// How many seconds an answer of this status asks its client to wait before it tries again
/// (`Retry-After`, RFC 9110, section 10.2.3); `None`: it does not say. Until a date it is no longer than
/// that: who comes at that date has waited as long as asked.
#[must_use]
pub fn asks_to_wait<'a>(
    status: u16,
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> Option<u32> {
    // 413, 429, 503 and redirections: nothing that succeeds says so.
    if status < 300 {
        return None;
    }
    let mut headers = headers.into_iter();
    let (_, value) = headers.find(|(name, _)| name.eq_ignore_ascii_case("retry-after"))?;
    let value = std::str::from_utf8(value).ok()?.trim();
    if value.bytes().all(|b| b.is_ascii_digit()) {
        return value.parse().ok();
    }
    // IMF-fixdate is what RFC 2822 calls a date.
    let at = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    let at = Timestamp(u64::try_from(at.as_microsecond()).ok()?);
    u32::try_from(at.since(Timestamp::now()).as_secs()).ok()
}

/// Whether an answer says that it was given before, to the same idempotency key.
pub fn replayed<'a>(headers: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> bool {
    // `Idempotent-Replayed` is Stripe's; others have taken it up, with or without the prefix.
    const NAMES: [&str; 3] = [
        "idempotent-replayed",
        "idempotency-replayed",
        "x-idempotent-replayed",
    ];
    let is_it = |name: &str| {
        matches!(name.len(), 19..=21) && NAMES.iter().any(|n| name.eq_ignore_ascii_case(n))
    };
    let mut headers = headers.into_iter();
    headers.any(|(name, value)| is_it(name) && value.eq_ignore_ascii_case(b"true"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn header<'a>(name: &'a str, value: &'a str) -> (&'a str, &'a [u8]) {
        (name, value.as_bytes())
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let wait = |status, value| asks_to_wait(status, [header("Retry-After", value)]);
        assert_eq!(wait(503, "120"), Some(120));
        assert_eq!(wait(429, " 0 "), Some(0));
        assert_eq!(wait(200, "120"), None);
        for bad in [
            "",
            "-1",
            "1.5",
            "soon",
            "99999999999999999999",
            "Mon, 40 Nov 2026",
        ] {
            assert_eq!(wait(503, bad), None, "{bad}");
        }
        let soon = Timestamp::now().plus(Duration::from_secs(90));
        let soon = jiff::Timestamp::from_microsecond(soon.0 as i64).unwrap();
        let date = soon.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        assert!((88..=90).contains(&wait(503, &date).unwrap()), "{date}");
        assert_eq!(wait(503, "Sun, 06 Nov 1994 08:49:37 GMT"), Some(0));
        assert_eq!(asks_to_wait(503, []), None);
    }

    #[test]
    fn an_answer_that_was_given_before_says_so() {
        assert!(replayed([header("Idempotent-Replayed", "true")]));
        assert!(!replayed([header("Idempotent-Replayed", "false")]));
        assert!(!replayed([header("Content-Type", "true")]));
    }
}
