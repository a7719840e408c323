//! The fields that framing and the connection depend on.
//!
//! Owns their values: what is well-formed, and what is too many. What they mean for a request or an
//! answer is `head.rs`.

use httparse::Header;

use super::Refusal;

/// What the fields say about framing and the connection.
#[derive(Default)]
pub(super) struct Fields {
    pub(super) length: Option<u64>,
    pub(super) coding: Option<Coding>,
    pub(super) hosts: usize,
    pub(super) close: bool,
    pub(super) stay: bool,
    pub(super) upgrade: bool,
    pub(super) expects_continue: bool,
}

/// What Transfer-Encoding names.
#[derive(Clone, Copy)]
pub(super) struct Coding {
    /// `chunked` is the last coding.
    pub(super) chunked: bool,
    /// There are others, all of them known.
    pub(super) others: bool,
}

impl Fields {
    pub(super) fn read(headers: &[Header<'_>]) -> Result<Self, Refusal> {
        let mut fields = Self::default();
        for header in headers {
            // Lengths first: nearly every field is dismissed by its own.
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            match header.name.len() {
                4 if is("host") => fields.hosts += 1,
                6 if is("expect") => {
                    fields.expects_continue |=
                        items(header.value).any(|item| item.eq_ignore_ascii_case(b"100-continue"));
                }
                7 if is("upgrade") => fields.upgrade = true,
                10 if is("connection") => {
                    for item in items(header.value) {
                        fields.close |= item.eq_ignore_ascii_case(b"close");
                        fields.stay |= item.eq_ignore_ascii_case(b"keep-alive");
                    }
                }
                14 if is("content-length") => {
                    if fields.length.is_some() {
                        return Err(Refusal::RepeatedLength);
                    }
                    fields.length = Some(length(header.value)?);
                }
                17 if is("transfer-encoding") => {
                    if fields.coding.is_some() {
                        return Err(Refusal::RepeatedCoding);
                    }
                    fields.coding = Some(coding(header.value)?);
                }
                _ => {}
            }
        }
        if fields.length.is_some() && fields.coding.is_some() {
            return Err(Refusal::LengthAndCoding);
        }
        Ok(fields)
    }

    /// RFC 9112 section 9.3.
    pub(super) fn keep_alive(&self, version_minor: u8) -> bool {
        !self.close && (version_minor == 1 || self.stay)
    }
}

/// The elements of a list, without the white space around them.
fn items(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

fn length(value: &[u8]) -> Result<u64, Refusal> {
    if value.contains(&b',') {
        return Err(Refusal::RepeatedLength);
    }
    if value.is_empty() {
        return Err(Refusal::ContentLength);
    }
    value
        .iter()
        .try_fold(0u64, |sum, byte| match byte {
            b'0'..=b'9' => sum.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
            _ => None,
        })
        .ok_or(Refusal::ContentLength)
}

/// The codings that RFC 9112 section 7 registers, and their old names. `identity` is no longer
/// among them, and a coding with a parameter never was: parsers differ over both.
fn coding(value: &[u8]) -> Result<Coding, Refusal> {
    const KNOWN: [&[u8]; 5] = [b"gzip", b"x-gzip", b"deflate", b"compress", b"x-compress"];
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(Coding {
            chunked: true,
            others: false,
        });
    }
    let (mut chunked, mut unknown) = (false, false);
    for item in items(value) {
        if chunked || item.is_empty() {
            return Err(Refusal::TransferEncoding);
        }
        chunked = item.eq_ignore_ascii_case(b"chunked");
        unknown |= !chunked && !KNOWN.iter().any(|known| item.eq_ignore_ascii_case(known));
    }
    match (chunked, unknown) {
        (true, true) => Err(Refusal::UnsupportedCoding),
        (false, true) => Err(Refusal::TransferEncoding),
        (chunked, false) => Ok(Coding {
            chunked,
            others: true,
        }),
    }
}
