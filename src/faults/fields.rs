//! Headers that a fault sets: which may stand in a message that the proxy frames itself.

use super::Invalid;

/// What tells where a message ends: the proxy's own.
const FRAMING: [&str; 3] = ["content-length", "transfer-encoding", "connection"];

/// Checks the names and values of headers to be set.
pub(super) fn check(param: &'static str, headers: &[(String, String)]) -> Result<(), Invalid> {
    for (name, value) in headers {
        check_name(param, name)?;
        if value.bytes().any(|b| (b < b' ' && b != b'\t') || b == 0x7f) {
            let message = format!("the value of `{name}` has a control character");
            return Err(Invalid { param, message });
        }
    }
    Ok(())
}

/// Checks the name of a header to be set or removed.
pub(super) fn check_name(param: &'static str, name: &str) -> Result<(), Invalid> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let message = if name.is_empty() || !name.bytes().all(token) {
        format!("`{name}` is not a header's name")
    } else if FRAMING.iter().any(|f| name.eq_ignore_ascii_case(f)) {
        format!("`{name}` is set by the proxy itself")
    } else {
        return Ok(());
    };
    Err(Invalid { param, message })
}
