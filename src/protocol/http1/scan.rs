//! The search for the end of a head.
//!
//! Owns where a head begins and ends, and what can be refused before it is whole, so that a peer
//! that speaks something else is told at once instead of waited for. What the head says is
//! `head.rs`.

use std::ops::Range;

use super::{MAX_HEAD, Refusal};

/// What kind of head is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Request,
    Response,
}

/// How far the search has come. It goes on there when the same bytes are given again with more, so
/// that a head that comes byte by byte costs no more than one that comes at once.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Scan {
    /// Bytes searched.
    seen: u32,
    /// Where the line begins that has no end yet.
    line: u32,
    /// Empty lines before the head (RFC 9112 section 2.2), in bytes.
    lead: u32,
}

impl Scan {
    /// Where the head is in `input`, without the empty lines before it, once it is whole.
    pub(super) fn find(
        &mut self,
        input: &[u8],
        side: Side,
    ) -> Result<Option<Range<usize>>, Refusal> {
        let window = input.get(..MAX_HEAD).unwrap_or(input);
        if self.seen as usize > window.len() {
            // Not the bytes of last time with more behind them: start over.
            *self = Self::default();
        }
        let (mut seen, mut line, mut lead) =
            (self.seen as usize, self.line as usize, self.lead as usize);
        loop {
            if line == lead {
                side.opens(&window[lead..])?;
            }
            let Some(offset) = memchr::memchr(b'\n', &window[seen..]) else {
                break;
            };
            let feed = seen + offset;
            if feed == line || window[feed - 1] != b'\r' {
                return Err(Refusal::BareLf);
            }
            seen = feed + 1;
            if feed > line + 1 {
                if line == lead && side == Side::Request {
                    request_line(&window[line..feed - 1])?;
                }
            } else if line > lead {
                return Ok(Some(lead..seen));
            } else {
                lead = seen;
            }
            line = seen;
        }
        if window.len() == MAX_HEAD {
            return Err(match side {
                Side::Request if line == lead => Refusal::TargetTooLong,
                _ => Refusal::HeadTooLarge,
            });
        }
        // No cut: MAX_HEAD bounds them all.
        (self.seen, self.line, self.lead) = (window.len() as u32, line as u32, lead as u32);
        Ok(None)
    }

    /// No byte of a head has been seen, empty lines before it apart.
    pub(super) fn is_idle(&self) -> bool {
        self.seen == self.lead
    }

    /// Only empty lines are left over at the end of the stream.
    pub(super) fn is_blank(&self, leftover: usize) -> bool {
        self.is_idle() && leftover == self.lead as usize
    }
}

impl Side {
    /// Can a head open like this? Says the same of every longer prefix.
    fn opens(self, start: &[u8]) -> Result<(), Refusal> {
        match self {
            Self::Request => match start {
                [b'\r', next, ..] if *next != b'\n' => Err(Refusal::BareCr),
                [] | [b'\r' | b'\n', ..] => Ok(()),
                [first, ..] if super::is_token(*first) => Ok(()),
                _ => Err(Refusal::Method),
            },
            Self::Response => {
                const NAME: &[u8] = b"HTTP/1.";
                match start.iter().zip(NAME).position(|(is, should)| is != should) {
                    None => Ok(()),
                    Some(at) if at < b"HTTP/".len() => Err(Refusal::StatusLine),
                    Some(_) => Err(Refusal::Version),
                }
            }
        }
    }
}

/// Looks at a whole request line, without its end, as soon as it is there: a client of HTTP/0.9
/// sends nothing after it, and one of HTTP/2 waits for an answer.
fn request_line(line: &[u8]) -> Result<(), Refusal> {
    if line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0") {
        return Ok(());
    }
    if line == b"PRI * HTTP/2.0" {
        return Err(Refusal::Http2Preface);
    }
    let words = line.split(|byte| *byte == b' ').count();
    let last = line.rsplit(|byte| *byte == b' ').next().unwrap_or(line);
    Err(match last.strip_prefix(b"HTTP/") {
        Some([b'0'..=b'9'] | [b'0'..=b'9', b'.', b'0'..=b'9']) if words > 2 => Refusal::Version,
        None if words == 2 => Refusal::Http09,
        _ => Refusal::RequestLine,
    })
}
