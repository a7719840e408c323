//! Altering the head of an HTTP/1 message, and nothing else of it: lines that are not meant stay as
//! they came.

use crate::faults::Edit;

/// What tells where a body ends; given anew when the body is replaced.
const FRAMING: [&str; 3] = ["content-length", "transfer-encoding", "trailer"];

/// The head with these edits, in their order. `body`: the length of the body that replaces the one
/// that the head announces.
///
/// `head` is whole, as the framer has accepted it: a first line, fields of one line each, an empty
/// line.
pub(super) fn head<'a>(
    head: &[u8],
    edits: impl IntoIterator<Item = &'a Edit>,
    body: Option<usize>,
) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = head
        .split_inclusive(|b| *b == b'\n')
        .map(<[u8]>::to_vec)
        .collect();
    // Lines before the first are empty ones that the framer lets pass; those behind it are fields.
    let first = lines.iter().position(|line| !is_empty(line)).unwrap_or(0);
    let mut fields = lines.split_off((first + 1).min(lines.len()));
    let end = fields.pop().unwrap_or_else(|| b"\r\n".to_vec());
    for edit in edits {
        if edit.skew != 0 {
            for line in &mut fields {
                skew(line, edit.skew);
            }
        }
        fields.retain(|line| !edit.remove.iter().any(|name| is_named(line, name)));
        for (name, value) in &edit.set {
            set(&mut fields, name, value);
        }
    }
    if let Some(length) = body {
        fields.retain(|line| !FRAMING.iter().any(|name| is_named(line, name)));
        fields.push(format!("content-length: {length}\r\n").into_bytes());
    }
    lines.extend(fields);
    lines.push(end);
    lines.concat()
}

fn is_empty(line: &[u8]) -> bool {
    line.iter().all(|b| matches!(b, b'\r' | b'\n'))
}

fn is_named(line: &[u8], name: &str) -> bool {
    let colon = line.iter().position(|b| *b == b':');
    colon.is_some_and(|at| line[..at].eq_ignore_ascii_case(name.as_bytes()))
}

/// Puts a field in the place of the first of its name and takes the others away; behind all fields
/// if there is none.
fn set(fields: &mut Vec<Vec<u8>>, name: &str, value: &str) {
    let line = format!("{name}: {value}\r\n").into_bytes();
    let Some(at) = fields.iter().position(|line| is_named(line, name)) else {
        fields.push(line);
        return;
    };
    fields[at] = line;
    let mut n = 0;
    fields.retain(|line| {
        n += 1;
        n <= at + 1 || !is_named(line, name)
    });
}

fn skew(line: &mut Vec<u8>, seconds: i64) {
    if !is_named(line, "date") {
        return;
    }
    let text = std::str::from_utf8(line).unwrap_or_default();
    let value = text.split_once(':').map_or("", |(_, value)| value.trim());
    if let Some(date) = shifted(value, seconds) {
        *line = format!("date: {date}\r\n").into_bytes();
    }
}

/// An HTTP date (RFC 9110, section 5.6.7) moved by so many seconds. `None`: it is none, or falls out
/// of the calendar.
pub(super) fn shifted(date: &str, seconds: i64) -> Option<String> {
    let zoned = jiff::fmt::rfc2822::parse(date).ok()?;
    let moved = zoned
        .timestamp()
        .checked_add(jiff::SignedDuration::from_secs(seconds))
        .ok()?;
    let mut out = String::new();
    jiff::fmt::rfc2822::DateTimePrinter::new()
        .print_timestamp_rfc9110(&moved, &mut out)
        .ok()?;
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nServer: x\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nX-A: 1\r\nx-a:2\r\nContent-Length: 5\r\n\r\n";

    fn edited(edit: &Edit, body: Option<usize>) -> String {
        String::from_utf8(head(HEAD, [edit], body)).unwrap()
    }

    #[test]
    fn without_an_edit_it_stays_as_it_came() {
        assert_eq!(head(HEAD, [], None), HEAD);
        assert_eq!(head(b"GET / HTTP/1.1\n\n", [], None), b"GET / HTTP/1.1\n\n");
    }

    #[test]
    fn fields_are_set_in_place_removed_and_added() {
        let edit = Edit {
            remove: vec!["SERVER".into()],
            set: vec![("x-a".into(), "9".into()), ("x-b".into(), "new".into())],
            ..Edit::default()
        };
        assert_eq!(
            edited(&edit, None),
            "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nx-a: 9\r\nContent-Length: 5\r\nx-b: new\r\n\r\n"
        );
    }

    #[test]
    fn a_clock_is_skewed() {
        let edit = Edit {
            skew: -600,
            ..Edit::default()
        };
        assert!(
            edited(&edit, None).contains("\r\ndate: Sun, 6 Nov 1994 08:39:37 GMT\r\n")
                || edited(&edit, None).contains("\r\ndate: Sun, 06 Nov 1994 08:39:37 GMT\r\n")
        );
        assert_eq!(shifted("yesterday", 1), None);
        assert_eq!(shifted("Sun, 06 Nov 1994 08:49:37 GMT", i64::MAX), None);
    }

    #[test]
    fn a_new_body_is_framed_anew() {
        let edit = Edit {
            body: Some(Bytes::from_static(b"ab")),
            ..Edit::default()
        };
        let text = edited(&edit, Some(2));
        assert!(text.ends_with("\r\ncontent-length: 2\r\n\r\n"), "{text}");
        assert!(!text.contains("Content-Length: 5"), "{text}");
    }
}
