//! Follows the frames of one direction of an HTTP/2 connection by their headers (RFC 9113 section
//! 4.1): which stream they belong to, and at which byte of the connection they end. It watches and
//! judges nothing: the `h2` crate does that.

/// What a client says before its first frame.
pub(in crate::proxy) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The length of a frame's header.
const HEADER: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A frame that has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    /// 0: the connection.
    pub(super) stream: u32,
    pub(super) what: What,
    /// The position of the connection behind it.
    pub(super) at: u64,
    /// Its length, header included.
    pub(super) len: usize,
}

/// What of a frame is of interest. Of others nothing is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// The header of a HEADERS frame has passed, its fields are still to come.
    Begun,
    /// A HEADERS or CONTINUATION frame; whether it was the last of its block, and of its side of
    /// the stream.
    Fields { last: bool, end: bool },
    /// A DATA frame; its payload, and whether it was the last frame of its side of the stream.
    Data { payload: usize, end: bool },
    /// The stream is reset for this reason.
    Reset(u32),
    /// No stream behind `last` is or will be dealt with, for this reason.
    GoAway { last: u32, reason: u32 },
}

/// Where one direction stands.
#[derive(Debug)]
pub(super) struct Frames {
    /// Bytes that come before the next frame.
    skip: usize,
    header: [u8; HEADER],
    /// How much of the header has passed.
    have: usize,
    /// The first bytes of the payload, of those frames that say something there.
    said: [u8; 8],
    /// How much of the payload has passed.
    passed: usize,
    /// The block under way ends its side of the stream.
    ends: bool,
    at: u64,
}

impl Frames {
    /// Of a direction that begins with the preface, or with a frame.
    pub(super) fn new(preface: bool) -> Self {
        Self {
            skip: if preface { PREFACE.len() } else { 0 },
            header: [0; HEADER],
            have: 0,
            said: [0; 8],
            passed: 0,
            ends: false,
            at: 0,
        }
    }

    /// Bytes that have passed.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Takes the next bytes that have passed. How they are cut changes nothing.
    pub(super) fn take(&mut self, mut bytes: &[u8], tell: &mut Vec<Seen>) {
        while !bytes.is_empty() {
            let n = if self.skip > 0 {
                let n = self.skip.min(bytes.len());
                self.skip -= n;
                n
            } else if let (0, Some(header)) = (self.have, bytes.first_chunk()) {
                self.header = *header;
                self.have = HEADER;
                HEADER
            } else if self.have < HEADER {
                let n = (HEADER - self.have).min(bytes.len());
                self.header[self.have..self.have + n].copy_from_slice(&bytes[..n]);
                self.have += n;
                n
            } else {
                let n = (self.payload() - self.passed).min(bytes.len());
                if self.passed < self.said.len() && matches!(self.header[3], RST_STREAM | GOAWAY) {
                    let kept = n.min(self.said.len() - self.passed);
                    self.said[self.passed..self.passed + kept].copy_from_slice(&bytes[..kept]);
                }
                self.passed += n;
                n
            };
            self.at += n as u64;
            bytes = &bytes[n..];
            if self.have < HEADER {
                continue;
            }
            if self.passed == 0 && self.header[3] == HEADERS {
                self.ends = self.header[4] & END_STREAM != 0;
                tell.push(self.seen(What::Begun));
            }
            if self.passed == self.payload() {
                if let Some(what) = self.what() {
                    tell.push(self.seen(what));
                }
                (self.have, self.passed) = (0, 0);
            }
        }
    }

    fn payload(&self) -> usize {
        let [a, b, c, ..] = self.header;
        usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)
    }

    fn what(&self) -> Option<What> {
        let flags = self.header[4];
        let word = |at: usize| {
            let [a, b, c, d] = [0, 1, 2, 3].map(|n| self.said[at + n]);
            u32::from_be_bytes([a, b, c, d])
        };
        Some(match self.header[3] {
            DATA => What::Data {
                payload: self.payload(),
                end: flags & END_STREAM != 0,
            },
            HEADERS | CONTINUATION => {
                let last = flags & END_HEADERS != 0;
                What::Fields {
                    last,
                    end: last && self.ends,
                }
            }
            RST_STREAM if self.payload() >= 4 => What::Reset(word(0)),
            GOAWAY if self.payload() >= 8 => What::GoAway {
                last: word(0) & !(1 << 31),
                reason: word(4),
            },
            _ => return None,
        })
    }

    fn seen(&self, what: What) -> Seen {
        let [.., a, b, c, d] = self.header;
        Seen {
            stream: u32::from_be_bytes([a, b, c, d]) & !(1 << 31),
            what,
            at: self.at,
            len: HEADER + self.payload(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let len = (payload.len() as u32).to_be_bytes();
        let mut out = vec![len[1], len[2], len[3], kind, flags];
        out.extend_from_slice(&stream.to_be_bytes());
        out.extend_from_slice(payload);
        out
    }

    fn all(preface: bool, bytes: &[u8], cuts: &[usize]) -> Vec<Seen> {
        let (mut frames, mut seen) = (Frames::new(preface), Vec::new());
        let mut from = 0;
        for cut in cuts.iter().copied().chain([bytes.len()]) {
            let to = cut.clamp(from, bytes.len());
            frames.take(&bytes[from..to], &mut seen);
            from = to;
        }
        assert_eq!(frames.at(), bytes.len() as u64);
        seen
    }

    #[test]
    fn frames_are_told_with_their_stream_and_place() {
        let mut bytes = PREFACE.to_vec();
        bytes.extend(frame(4, 0, 0, &[0; 6]));
        bytes.extend(frame(HEADERS, END_STREAM, 1, b"abc"));
        bytes.extend(frame(CONTINUATION, END_HEADERS, 1, b""));
        bytes.extend(frame(DATA, 0, 1 << 31 | 3, b"hello"));
        bytes.extend(frame(DATA, END_STREAM, 3, b""));
        bytes.extend(frame(RST_STREAM, 0, 3, &8u32.to_be_bytes()));
        bytes.extend(frame(GOAWAY, 0, 0, &[0, 0, 0, 7, 0, 0, 0, 11, 1, 2, 3]));
        let seen = all(true, &bytes, &[]);
        let told: Vec<_> = seen.iter().map(|s| (s.stream, s.what, s.len)).collect();
        let data = |payload, end| What::Data { payload, end };
        let (reset, away) = (
            What::Reset(8),
            What::GoAway {
                last: 7,
                reason: 11,
            },
        );
        let fields = |last, end| What::Fields { last, end };
        assert_eq!(
            told,
            [
                (1, What::Begun, 12),
                (1, fields(false, false), 12),
                (1, fields(true, true), 9),
                (3, data(5, false), 14),
                (3, data(0, true), 9),
                (3, reset, 13),
                (0, away, 20),
            ]
        );
        assert_eq!(seen[0].at, 24 + 15 + 9, "behind the header alone");
        assert_eq!(seen.last().unwrap().at, bytes.len() as u64);
    }

    fn some_frames() -> impl Strategy<Value = Vec<u8>> {
        let payload = prop::collection::vec(any::<u8>(), 0..40);
        let one = (0u8..12, any::<u8>(), any::<u32>(), payload);
        prop::collection::vec(one, 0..12).prop_map(|frames| {
            let bytes = |(kind, flags, stream, payload): (u8, u8, u32, Vec<u8>)| {
                frame(kind, flags, stream, &payload)
            };
            frames.into_iter().flat_map(bytes).collect()
        })
    }

    proptest! {
        #[test]
        fn how_bytes_are_cut_changes_nothing(
            bytes in some_frames(),
            mut cuts in prop::collection::vec(0usize..600, 0..30),
        ) {
            cuts.sort_unstable();
            let whole = all(false, &bytes, &[]);
            prop_assert_eq!(&whole, &all(false, &bytes, &cuts));
            let single: Vec<_> = (0..bytes.len()).collect();
            prop_assert_eq!(&whole, &all(false, &bytes, &single));
        }

        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..300), preface: bool) {
            all(preface, &bytes, &[7, 100]);
        }
    }
}
