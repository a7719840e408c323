//! Names what httparse stumbled over.
//!
//! Runs only for a head that is refused already, so it may look twice.

use super::Refusal;

/// Which part of the request line httparse stumbled over.
pub(super) fn request_line(head: &[u8]) -> Refusal {
    let method = head.split(|byte| *byte == b' ').next().unwrap_or(head);
    if !method.iter().all(|byte| super::is_token(*byte)) {
        return Refusal::Method;
    }
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or(head);
    match line.get(method.len() + 1..) {
        // Two spaces after the method, or one word and the version.
        None | Some([] | [b' ', ..]) => Refusal::RequestLine,
        Some(rest) if !rest.contains(&b' ') => Refusal::RequestLine,
        Some(_) => Refusal::Target,
    }
}

/// Gives httparse's error the name of what is wrong. Off the path of any good message.
pub(super) fn head(head: &[u8], error: httparse::Error) -> Refusal {
    if error == httparse::Error::TooManyHeaders {
        return Refusal::TooManyHeaders;
    }
    if head
        .windows(2)
        .any(|pair| pair[0] == b'\r' && pair[1] != b'\n')
    {
        return Refusal::BareCr;
    }
    match error {
        httparse::Error::HeaderName => field_name(head),
        httparse::Error::HeaderValue => Refusal::ControlByte,
        httparse::Error::Status => Refusal::StatusLine,
        // After the version of a request line: something else than its end.
        httparse::Error::NewLine => Refusal::RequestLine,
        _ => Refusal::Malformed,
    }
}

fn field_name(head: &[u8]) -> Refusal {
    let fields = head.split(|byte| *byte == b'\n').skip(1);
    for line in fields.take_while(|line| *line != b"\r") {
        if let [b' ' | b'\t', ..] = line {
            return Refusal::ObsFold;
        }
        let mut rest = line.iter().skip_while(|byte| super::is_token(**byte));
        match rest.next() {
            Some(b':') if !line.starts_with(b":") => {}
            Some(b' ' | b'\t') if line.contains(&b':') => return Refusal::SpaceBeforeColon,
            _ => return Refusal::FieldName,
        }
    }
    Refusal::FieldName
}
