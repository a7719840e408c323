//! What the first bytes of a connection say it is: HTTP, or something else.
//!
//! No framer: it looks at no more than the first line, and keeps none of it. HTTP/1 is told by a
//! whole request line, `METHOD SP target SP HTTP/x.y`, so that a protocol whose commands look
//! alike (`GET key`) is not taken for it; HTTP/2 by its preface, which begins with such a line.

use super::http1::MAX_HEAD;

/// A method is not longer; the longest that is registered has 17 letters.
const LONGEST_METHOD: usize = 32;

/// What the first bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Words {
    /// Too few have come to say it.
    More,
    /// A request of HTTP, 1 or 2.
    Http,
    /// Nothing that could become one.
    Other,
}

/// Reads a client's first bytes, however they are cut into pieces.
#[derive(Debug, Clone, Default)]
pub struct FirstBytes {
    read: usize,
    part: Part,
}

/// The part of a request line that the next byte belongs to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Part {
    #[default]
    Method,
    /// The first byte of the target.
    Target,
    Rest,
    /// So many bytes of the version were there.
    Version(usize),
    Known(Words),
}

impl FirstBytes {
    /// Takes the next bytes. What it has answered once, but for [`Words::More`], it answers for ever.
    pub fn take(&mut self, bytes: &[u8]) -> Words {
        for byte in bytes {
            if let Part::Known(words) = self.part {
                return words;
            }
            self.part = self.after(*byte);
            self.read += 1;
            if self.read >= MAX_HEAD && !matches!(self.part, Part::Known(_)) {
                self.part = Part::Known(Words::Other);
            }
        }
        match self.part {
            Part::Known(words) => words,
            _ => Words::More,
        }
    }

    fn after(&self, byte: u8) -> Part {
        /// `0` stands for any digit.
        const VERSION: &[u8] = b"HTTP/0.0";
        let visible = byte > b' ' && byte != 0x7f;
        match self.part {
            Part::Method if is_letter(byte) && self.read < LONGEST_METHOD => Part::Method,
            Part::Method if byte == b' ' && self.read > 0 => Part::Target,
            Part::Target | Part::Rest if visible => Part::Rest,
            Part::Rest if byte == b' ' => Part::Version(0),
            Part::Version(n) => match VERSION.get(n) {
                Some(b'0') if byte.is_ascii_digit() => Part::Version(n + 1),
                Some(letter) if *letter != b'0' && *letter == byte => Part::Version(n + 1),
                None if matches!(byte, b'\r' | b'\n') => Part::Known(Words::Http),
                _ => Part::Known(Words::Other),
            },
            known @ Part::Known(_) => known,
            _ => Part::Known(Words::Other),
        }
    }
}

/// A letter of a method. More would be allowed (RFC 9110, section 5.6.2); all that are in use or
/// registered have these.
fn is_letter(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte == b'-'
}

/// The bytes of a frame's head of HTTP/2.
pub const FRAME_HEAD: usize = 9;

/// Whether an upstream's first bytes are, as far as they go, those that a server of HTTP/2 may send
/// before its client has said anything: the head of SETTINGS.
#[must_use]
pub fn is_settings(bytes: &[u8]) -> bool {
    let ids = |len: u8| len.is_multiple_of(6);
    bytes.iter().zip(0..FRAME_HEAD).all(|(byte, at)| match at {
        // No more settings than fit into 256 bytes are to be expected.
        2 => ids(*byte),
        3 => *byte == 4,
        _ => *byte == 0,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(bytes: &[u8]) -> Words {
        FirstBytes::default().take(bytes)
    }

    #[test]
    fn a_whole_request_line_is_http() {
        for line in [
            "GET / HTTP/1.1\r\n",
            "GET / HTTP/1.0\n",
            "OPTIONS * HTTP/1.1\r",
            "CONNECT example.com:443 HTTP/1.1\r\n",
            "GET http://example.com/ HTTP/1.1\r\n",
            "M-SEARCH * HTTP/1.1\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ] {
            assert_eq!(words(line.as_bytes()), Words::Http, "{line:?}");
            let line = line.split(['\r', '\n']).next().unwrap();
            for len in 0..=line.len() {
                assert_eq!(words(&line.as_bytes()[..len]), Words::More, "{line:?}");
            }
        }
    }

    #[test]
    fn what_only_begins_like_one_is_not() {
        for (line, told_at) in [
            ("PING\r\n", 5),
            ("*1\r\n$4\r\nPING\r\n", 1),
            ("get / HTTP/1.1\r\n", 1),
            ("Hello", 2),
            ("GET /key\r\n", 9),
            ("GET  / HTTP/1.1\r\n", 5),
            ("GET / HTTP/1.1 \r\n", 15),
            ("GET / http/1.1\r\n", 7),
            ("OPTIONS rtsp://x RTSP/1.0\r\n", 18),
            ("\r\nGET / HTTP/1.1\r\n", 1),
            (" / HTTP/1.1\r\n", 1),
            ("\u{16}\u{3}\u{1}", 1),
            ("GET /\u{0} HTTP/1.1\r\n", 6),
            ("GET / HTTP/1.1\u{0}", 15),
            ("GET / HTTP/x.1\r\n", 12),
        ] {
            assert_eq!(
                words(&line.as_bytes()[..told_at - 1]),
                Words::More,
                "{line:?}"
            );
            assert_eq!(words(&line.as_bytes()[..told_at]), Words::Other, "{line:?}");
            assert_eq!(words(line.as_bytes()), Words::Other, "{line:?}");
        }
        assert_eq!(words(&[b'A'; LONGEST_METHOD]), Words::More);
        assert_eq!(words(&[b'A'; LONGEST_METHOD + 1]), Words::Other);
        let mut endless = b"GET /".to_vec();
        endless.resize(MAX_HEAD - 1, b'a');
        assert_eq!(words(&endless), Words::More);
        endless.push(b'a');
        assert_eq!(words(&endless), Words::Other);
    }

    #[test]
    fn settings_come_first() {
        for whole in [[0, 0, 0, 4, 0, 0, 0, 0, 0], [0, 0, 18, 4, 0, 0, 0, 0, 0]] {
            for len in 0..=FRAME_HEAD {
                assert!(is_settings(&whole[..len]));
            }
        }
        assert!(!is_settings(b"220 ready"));
        assert!(!is_settings(&[0, 0, 5, 4, 0, 0, 0, 0, 0]));
        assert!(!is_settings(&[0, 0, 0, 4, 1, 0, 0, 0, 0]));
    }

    proptest! {
        #[test]
        fn pieces_change_nothing(
            bytes in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..64),
                "[A-Z]{0,8} [/*a-z]{0,8} HTTP/[0-9x.]{0,4}[\r\n ]{0,3}".prop_map(String::into_bytes),
            ],
            cuts in proptest::collection::vec(0..64_usize, 0..8),
        ) {
            let mut pieces = FirstBytes::default();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.sort_unstable();
            cuts.push(bytes.len());
            let (mut from, mut known) = (0, Words::More);
            for to in cuts {
                let now = pieces.take(&bytes[from..to]);
                prop_assert!(known == Words::More || now == known, "it was told");
                (from, known) = (to, now);
            }
            prop_assert_eq!(known, words(&bytes));
        }
    }
}
