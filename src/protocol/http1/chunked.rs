//! The chunked transfer coding (RFC 9112 section 7.1), byte by byte.
//!
//! Owns where chunks, their size lines and the trailers begin and end. It consumes whatever it is
//! given: what it must remember of an unfinished line fits a few bytes.

use super::{MAX_CHUNK_LINE, MAX_HEAD, Refusal};

/// More digits than this would not fit 64 bits.
const MAX_DIGITS: u8 = 16;

/// How far a chunked body has come.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Chunked {
    at: At,
    /// Digits of the chunk size so far.
    digits: u8,
    /// Bytes of the chunk extension, or of the trailers, so far.
    line: u32,
    /// The chunk's size while it is read, then what is left of its data.
    left: u64,
}

/// What comes next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum At {
    #[default]
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    LastLf,
}

/// Bytes of one nature at the front of the input.
pub(super) struct Run {
    pub(super) len: usize,
    pub(super) content: bool,
    /// The body is over with this run.
    pub(super) last: bool,
}

impl Chunked {
    /// Consumes a run of data, or framing as far as it goes. `input` is not empty.
    pub(super) fn advance(&mut self, input: &[u8]) -> Result<Run, Refusal> {
        if self.at == At::Data {
            let len = super::take(&mut self.left, input.len());
            if self.left == 0 {
                self.at = At::DataCr;
            }
            return Ok(Run {
                len,
                content: true,
                last: false,
            });
        }
        // Framing is looked at byte by byte: it is short, and every byte of it matters. The line
        // end after one chunk and the size line of the next make one run.
        for (len, &byte) in (1..).zip(input) {
            let last = self.step(byte)?;
            if last || self.at == At::Data {
                return Ok(Run {
                    len,
                    content: false,
                    last,
                });
            }
        }
        Ok(Run {
            len: input.len(),
            content: false,
            last: false,
        })
    }

    /// Takes one byte of framing; true if it is the body's last.
    fn step(&mut self, byte: u8) -> Result<bool, Refusal> {
        self.at = match self.at {
            At::Size => return self.size(byte).map(|()| false),
            At::Extension => match byte {
                b'\r' => At::SizeLf,
                b'\n' => return Err(Refusal::BareLf),
                _ if !is_text(byte) => return Err(Refusal::ChunkExtension),
                _ => {
                    self.count(MAX_CHUNK_LINE, Refusal::ChunkLineTooLong)?;
                    At::Extension
                }
            },
            At::SizeLf if byte != b'\n' => return Err(Refusal::BareCr),
            At::SizeLf => {
                self.line = 0;
                if self.left == 0 {
                    At::TrailerStart
                } else {
                    At::Data
                }
            }
            At::DataCr if byte == b'\r' => At::DataLf,
            At::DataLf if byte == b'\n' => {
                *self = Self::default();
                At::Size
            }
            // `advance` takes data by its length; to end here would mean that the size was wrong.
            At::DataCr | At::DataLf | At::Data => return Err(Refusal::ChunkEnd),
            At::LastLf if byte != b'\n' => return Err(Refusal::BareCr),
            At::LastLf => return Ok(true),
            At::TrailerStart | At::TrailerName | At::TrailerValue | At::TrailerLf => {
                self.count(MAX_HEAD, Refusal::TrailersTooLarge)?;
                self.trailer(byte)?
            }
        };
        Ok(false)
    }

    fn size(&mut self, byte: u8) -> Result<(), Refusal> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ if self.digits == 0 => return Err(Refusal::ChunkSize),
            b';' => {
                self.at = At::Extension;
                return Ok(());
            }
            b'\r' => {
                self.at = At::SizeLf;
                return Ok(());
            }
            b'\n' => return Err(Refusal::BareLf),
            // White space too: the grammar has none here, and parsers differ over it.
            _ => return Err(Refusal::ChunkSize),
        };
        if self.digits == MAX_DIGITS {
            return Err(Refusal::ChunkSizeOverflow);
        }
        self.digits += 1;
        self.left = self.left << 4 | u64::from(digit);
        Ok(())
    }

    /// Trailers are held to the rules of header fields, and otherwise passed whatever they name:
    /// framing is settled by now, and who merges trailers into the head does so on his own account.
    fn trailer(&self, byte: u8) -> Result<At, Refusal> {
        Ok(match (self.at, byte) {
            (At::TrailerLf, b'\n') => At::TrailerStart,
            (At::TrailerLf, _) => return Err(Refusal::BareCr),
            (At::TrailerStart, b'\r') => At::LastLf,
            (At::TrailerStart, b' ' | b'\t') => return Err(Refusal::ObsFold),
            (At::TrailerName, b':') => At::TrailerValue,
            (At::TrailerName, b' ' | b'\t') => return Err(Refusal::SpaceBeforeColon),
            (At::TrailerStart | At::TrailerName, _) if super::is_token(byte) => At::TrailerName,
            (At::TrailerValue, b'\r') => At::TrailerLf,
            (At::TrailerStart | At::TrailerValue, b'\n') => return Err(Refusal::BareLf),
            (At::TrailerValue, _) if is_text(byte) => At::TrailerValue,
            (At::TrailerValue, _) => return Err(Refusal::ControlByte),
            _ => return Err(Refusal::FieldName),
        })
    }

    fn count(&mut self, max: usize, refusal: Refusal) -> Result<(), Refusal> {
        self.line += 1;
        if self.line as usize > max {
            Err(refusal)
        } else {
            Ok(())
        }
    }
}

/// HTAB, SP, VCHAR and obs-text: what a field value may contain (RFC 9110 section 5.5).
fn is_text(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}
