//! Why a stream is refused: one variant a reason, each with a stable code, a sentence and the
//! status that answers it. Framing decides, this file only names.

use super::{MAX_CHUNK_LINE, MAX_HEAD, MAX_HEADERS};

/// Why bytes are no HTTP/1.x message that every party would read alike.
///
/// Displayed, it says what was wrong in words for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No empty line within [`MAX_HEAD`] bytes.
    #[error("the head is longer than {MAX_HEAD} bytes")]
    HeadTooLarge,
    /// No line end at all within [`MAX_HEAD`] bytes of a request.
    #[error("the request line is longer than {MAX_HEAD} bytes")]
    TargetTooLong,
    /// More than [`MAX_HEADERS`] header fields.
    #[error("the head has more than {MAX_HEADERS} header fields")]
    TooManyHeaders,
    /// A line feed without a carriage return before it (RFC 9112 section 2.2).
    #[error("a line ends with a line feed alone, without a carriage return")]
    BareLf,
    /// A carriage return without a line feed after it (RFC 9112 section 2.2).
    #[error("a carriage return stands alone, without a line feed after it")]
    BareCr,
    /// NUL or another control byte in a field value (RFC 9110 section 5.5).
    #[error("a field value contains a control byte")]
    ControlByte,
    /// A header field continued on a second line (RFC 9112 section 5.2).
    #[error("a field line starts with white space (obsolete line folding)")]
    ObsFold,
    /// White space between a field name and its colon (RFC 9112 section 5.1).
    #[error("there is white space between a field name and its colon")]
    SpaceBeforeColon,
    /// A field line without a colon, or with a name that is no token (RFC 9110 section 5.1).
    #[error("a field line has no valid name")]
    FieldName,
    /// A request line that is not `method SP target SP version` (RFC 9112 section 3).
    #[error("the request line is not: method, target, version, with one space between")]
    RequestLine,
    /// A method that is no token (RFC 9110 section 9.1); also what is no HTTP at all, such as TLS.
    #[error("the request does not start with a method")]
    Method,
    /// A request target with a space, a control byte, or bytes that are not UTF-8.
    #[error("the request target contains a space or a byte that is not allowed there")]
    Target,
    /// A request line without a version (HTTP/0.9).
    #[error("the request line has no version (HTTP/0.9)")]
    Http09,
    /// A version other than HTTP/1.0 and HTTP/1.1.
    #[error("the version is neither HTTP/1.0 nor HTTP/1.1")]
    Version,
    /// The connection preface of HTTP/2 (RFC 9113 section 3.4).
    #[error("this is the preface of HTTP/2, and HTTP/1.x is spoken here")]
    Http2Preface,
    /// An answer that does not start with a status line (RFC 9112 section 4).
    #[error("the answer does not start with a status line of HTTP")]
    StatusLine,
    /// A status outside 100 to 599 (RFC 9110 section 15).
    #[error("the status is not between 100 and 599")]
    Status,
    /// Both ways of telling a body's length at once (RFC 9112 section 6.3).
    #[error("the head has both Content-Length and Transfer-Encoding")]
    LengthAndCoding,
    /// More than one Content-Length, be they equal or not, as lines or as a list.
    #[error("the head has more than one Content-Length")]
    RepeatedLength,
    /// A Content-Length that is not all digits, or above 2^64 - 1 (RFC 9110 section 8.6).
    #[error("Content-Length is not a whole number that fits 64 bits")]
    ContentLength,
    /// More than one Transfer-Encoding field line.
    #[error("the head has more than one Transfer-Encoding")]
    RepeatedCoding,
    /// A Transfer-Encoding from which the body's end cannot be told: `chunked` is not the last
    /// coding, comes twice, or is misspelt (RFC 9112 section 6.1).
    #[error("Transfer-Encoding does not end with chunked, named once")]
    TransferEncoding,
    /// A transfer coding that is well-formed, but not one to rely on here (RFC 9112 section 7).
    #[error("Transfer-Encoding names a coding other than chunked that is not supported")]
    UnsupportedCoding,
    /// Transfer-Encoding in HTTP/1.0, which has none (RFC 9112 section 6.1).
    #[error("a message of HTTP/1.0 has Transfer-Encoding")]
    CodingInHttp10,
    /// More than one Host (RFC 9112 section 3.2).
    #[error("the request has more than one Host")]
    RepeatedHost,
    /// CONNECT with a body, which has no meaning (RFC 9110 section 9.3.6).
    #[error("a CONNECT request announces a body")]
    ConnectBody,
    /// An answer that cannot have a body announces one: 1xx, 204, 2xx to CONNECT (RFC 9112
    /// section 6.3).
    #[error("an answer that cannot have a body announces one")]
    UnexpectedBody,
    /// A chunk size that is no hexadecimal number (RFC 9112 section 7.1).
    #[error("a chunk size is not a hexadecimal number")]
    ChunkSize,
    /// A chunk size of more than 16 digits.
    #[error("a chunk size has more than 16 digits")]
    ChunkSizeOverflow,
    /// A control byte in a chunk extension (RFC 9112 section 7.1.1).
    #[error("a chunk extension contains a control byte")]
    ChunkExtension,
    /// A chunk extension longer than [`MAX_CHUNK_LINE`].
    #[error("a chunk extension is longer than {MAX_CHUNK_LINE} bytes")]
    ChunkLineTooLong,
    /// Something other than a line end after a chunk's data (RFC 9112 section 7.1).
    #[error("a chunk's data is not followed by a line end: its size is wrong")]
    ChunkEnd,
    /// Trailers longer than [`MAX_HEAD`].
    #[error("the trailers are longer than {MAX_HEAD} bytes")]
    TrailersTooLarge,
    /// Bytes from the server while no request waits for an answer.
    #[error("the server sent bytes that no request asked for")]
    Unsolicited,
    /// 101 in answer to a request that did not ask for another protocol (RFC 9110 section 7.8).
    #[error("the server switches protocols, but the request did not ask for that")]
    UnaskedSwitch,
    /// A head that the two parsers here do not read alike, so that others may not either.
    #[error("the head is malformed")]
    Malformed,
}

impl Refusal {
    /// A short name that stays the same: for records, logs and tests.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::HeadTooLarge => "head-too-large",
            Self::TargetTooLong => "target-too-long",
            Self::TooManyHeaders => "too-many-headers",
            Self::BareLf => "bare-lf",
            Self::BareCr => "bare-cr",
            Self::ControlByte => "control-byte",
            Self::ObsFold => "obs-fold",
            Self::SpaceBeforeColon => "space-before-colon",
            Self::FieldName => "field-name",
            Self::RequestLine => "request-line",
            Self::Method => "method",
            Self::Target => "target",
            Self::Http09 => "http-0-9",
            Self::Version => "version",
            Self::Http2Preface => "http-2-preface",
            Self::StatusLine => "status-line",
            Self::Status => "status",
            Self::LengthAndCoding => "length-and-coding",
            Self::RepeatedLength => "repeated-length",
            Self::ContentLength => "content-length",
            Self::RepeatedCoding => "repeated-coding",
            Self::TransferEncoding => "transfer-encoding",
            Self::UnsupportedCoding => "unsupported-coding",
            Self::CodingInHttp10 => "coding-in-http-1-0",
            Self::RepeatedHost => "repeated-host",
            Self::ConnectBody => "connect-body",
            Self::UnexpectedBody => "unexpected-body",
            Self::ChunkSize => "chunk-size",
            Self::ChunkSizeOverflow => "chunk-size-overflow",
            Self::ChunkExtension => "chunk-extension",
            Self::ChunkLineTooLong => "chunk-line-too-long",
            Self::ChunkEnd => "chunk-end",
            Self::TrailersTooLarge => "trailers-too-large",
            Self::Unsolicited => "unsolicited",
            Self::UnaskedSwitch => "unasked-switch",
            Self::Malformed => "malformed",
        }
    }

    /// The status that answers a *request* refused for this.
    ///
    /// A refused *answer* is the upstream's fault: tell the client 502 (Bad Gateway), whatever the
    /// reason, if it has been told nothing yet.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::HeadTooLarge | Self::TooManyHeaders | Self::TrailersTooLarge => 431,
            Self::TargetTooLong => 414,
            Self::UnsupportedCoding => 501,
            Self::Http09 | Self::Version | Self::Http2Preface => 505,
            Self::StatusLine
            | Self::Status
            | Self::UnexpectedBody
            | Self::Unsolicited
            | Self::UnaskedSwitch => 502,
            _ => 400,
        }
    }
}
