//! What a head says: its parts, and how it delimits the body (RFC 9112 section 6).
//!
//! Owns the reading of a whole head. Where the head ends is found by `scan.rs`; what single fields say
//! is `fields.rs`; what follows the head is counted by `progress.rs`.

use httparse::Header;

use super::{
    Refusal, Scratch, blame,
    fields::{Coding, Fields},
};

/// How the end of a message's body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// There is none.
    None,
    /// This many bytes follow, more than 0.
    Length(u64),
    /// Chunks follow.
    Chunked,
    /// It lasts until its sender closes. Answers only.
    UntilClose,
    /// The message is over, and what follows is no HTTP any more. Answers only.
    Tunnel,
}

/// What must be known of a request to tell where its answer ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked {
    /// The method is HEAD: the answer has no body, whatever it announces.
    pub head: bool,
    /// The method is CONNECT: a 2xx answer opens a tunnel.
    pub connect: bool,
    /// The request asks for another protocol: 101 may answer it.
    pub upgrade: bool,
}

/// The head of a request. Borrows from the input.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'b, 's> {
    /// The method, as sent: its case matters.
    pub method: &'b str,
    /// The whole request target, as sent.
    pub target: &'b str,
    /// 0 or 1.
    pub version_minor: u8,
    /// The fields in their order and case, white space around the values left out.
    pub headers: &'s [Header<'b>],
    /// The path of a target in origin or absolute form, without the query; any other target (`*`,
    /// the authority of CONNECT) as it is.
    pub path: &'b str,
    /// What follows the first `?` of a target in origin or absolute form.
    pub query: Option<&'b str>,
    /// The client would send another request on this connection (RFC 9112 section 9.3).
    pub keep_alive: bool,
    /// At least one byte of a body, or of its framing, follows.
    pub has_body: bool,
    /// The client may wait for 100 (Continue) before it sends the body (RFC 9110 section 10.1.1).
    pub expects_continue: bool,
    /// The request asks for another protocol on this connection (RFC 9110 section 7.8).
    pub upgrade: bool,
    /// The value of Content-Length.
    pub content_length: Option<u64>,
    /// The body comes in chunks.
    pub chunked: bool,
}

/// The head of an answer, or of an interim one. Borrows from the input.
#[derive(Debug, Clone, Copy)]
pub struct ResponseHead<'b, 's> {
    /// 100 to 599.
    pub status: u16,
    /// The reason phrase; empty if there is none, or if it is not ASCII.
    pub reason: &'b str,
    /// 0 or 1.
    pub version_minor: u8,
    /// The fields in their order and case, white space around the values left out.
    pub headers: &'s [Header<'b>],
    /// 1xx other than 101: no `End` follows, but another head of the same answer.
    pub interim: bool,
    /// The server would answer another request on this connection.
    pub keep_alive: bool,
    /// How the body is delimited.
    pub body: Body,
    /// The value of Content-Length. In answers to HEAD and in 304 it is not the length of a body.
    pub content_length: Option<u64>,
}

impl<'b> RequestHead<'b, '_> {
    /// The value of the first field of this name, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'b [u8]> {
        first(self.headers, name)
    }

    /// What [`ResponseFramer::next`](super::ResponseFramer::next) needs to know of this request.
    #[must_use]
    pub fn asked(&self) -> Asked {
        Asked {
            head: self.method == "HEAD",
            connect: self.method == "CONNECT",
            upgrade: self.upgrade,
        }
    }

    /// The host, and mostly a port, where the target itself names them.
    #[must_use]
    pub fn authority(&self) -> Option<&'b str> {
        if self.target.starts_with('/') {
            return None;
        }
        if self.method == "CONNECT" {
            return Some(self.target);
        }
        let (_, rest) = self.target.split_once("://")?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        Some(&rest[..end])
    }

    /// How the body is delimited.
    #[must_use]
    pub fn body(&self) -> Body {
        match self.content_length {
            _ if self.chunked => Body::Chunked,
            Some(length) if length > 0 => Body::Length(length),
            _ => Body::None,
        }
    }
}

impl<'b> ResponseHead<'b, '_> {
    /// The value of the first field of this name, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'b [u8]> {
        first(self.headers, name)
    }
}

fn first<'b>(headers: &[Header<'b>], name: &str) -> Option<&'b [u8]> {
    headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case(name))
        .map(|header| header.value)
}

/// Reads a request's head. `head` is all of it and nothing else.
pub(super) fn request<'b, 's>(
    head: &'b [u8],
    scratch: &'s mut Scratch<'b>,
) -> Result<RequestHead<'b, 's>, Refusal> {
    let mut parsed = httparse::Request::new(&mut []);
    let end = parsed
        .parse_with_uninit_headers(head, scratch)
        .map_err(|error| match error {
            httparse::Error::Token => blame::request_line(head),
            // The line is known to end with a version: so there is a space in the target.
            httparse::Error::Version => Refusal::Target,
            error => blame::head(head, error),
        })?;
    let (Some(method), Some(target), Some(version_minor)) =
        (parsed.method, parsed.path, parsed.version)
    else {
        return Err(Refusal::Malformed);
    };
    whole(end, head)?;
    let headers: &'s [Header<'b>] = parsed.headers;
    let fields = Fields::read(headers)?;
    if fields.hosts > 1 {
        return Err(Refusal::RepeatedHost);
    }
    if fields.coding.is_some() && version_minor == 0 {
        return Err(Refusal::CodingInHttp10);
    }
    let chunked = match fields.coding {
        None => false,
        Some(Coding {
            chunked: true,
            others: false,
        }) => true,
        // RFC 9112 section 6.1 allows `gzip, chunked`. No client sends it, servers differ over it.
        Some(Coding {
            chunked: true,
            others: true,
        }) => return Err(Refusal::UnsupportedCoding),
        // A server could not tell where the body ends (RFC 9112 section 6.3).
        Some(Coding { chunked: false, .. }) => return Err(Refusal::TransferEncoding),
    };
    let has_body = chunked || fields.length.is_some_and(|length| length > 0);
    if has_body && method == "CONNECT" {
        return Err(Refusal::ConnectBody);
    }
    let (path, query) = split_target(method, target);
    Ok(RequestHead {
        method,
        target,
        version_minor,
        headers,
        path,
        query,
        keep_alive: fields.keep_alive(version_minor),
        has_body,
        // A server ignores both in HTTP/1.0 (RFC 9110 sections 7.8 and 10.1.1).
        expects_continue: fields.expects_continue && version_minor == 1,
        upgrade: fields.upgrade && version_minor == 1,
        content_length: fields.length,
        chunked,
    })
}

/// Reads an answer's head. `head` is all of it and nothing else.
pub(super) fn response<'b, 's>(
    head: &'b [u8],
    scratch: &'s mut Scratch<'b>,
    asked: Asked,
) -> Result<ResponseHead<'b, 's>, Refusal> {
    let mut parsed = httparse::Response::new(&mut []);
    let end = httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut parsed, head, scratch)
        .map_err(|error| match error {
            httparse::Error::Version => Refusal::Version,
            error => blame::head(head, error),
        })?;
    let (Some(status), Some(reason), Some(version_minor)) =
        (parsed.code, parsed.reason, parsed.version)
    else {
        return Err(Refusal::Malformed);
    };
    whole(end, head)?;
    if !(100..=599).contains(&status) {
        return Err(Refusal::Status);
    }
    if status == 101 && !asked.upgrade {
        return Err(Refusal::UnaskedSwitch);
    }
    let headers: &'s [Header<'b>] = parsed.headers;
    let fields = Fields::read(headers)?;
    if fields.coding.is_some() && version_minor == 0 {
        return Err(Refusal::CodingInHttp10);
    }
    let tunnel = status == 101 || asked.connect && (200..300).contains(&status);
    let body = if tunnel || status < 200 || status == 204 {
        // The RFC has these end with the head, whatever it says; but not everyone does, and then
        // what follows is a body to one party and an answer to another. No harm in a length of 0.
        if fields.coding.is_some() || fields.length.is_some_and(|length| length > 0) {
            return Err(Refusal::UnexpectedBody);
        }
        if tunnel { Body::Tunnel } else { Body::None }
    } else if asked.head || status == 304 {
        Body::None
    } else {
        match (fields.coding, fields.length) {
            (Some(Coding { chunked: true, .. }), _) => Body::Chunked,
            (None, Some(0)) => Body::None,
            (None, Some(length)) => Body::Length(length),
            (Some(_), _) | (None, None) => Body::UntilClose,
        }
    };
    Ok(ResponseHead {
        status,
        reason,
        version_minor,
        headers,
        interim: status < 200 && !tunnel,
        keep_alive: fields.keep_alive(version_minor)
            && !matches!(body, Body::UntilClose | Body::Tunnel),
        body,
        content_length: fields.length,
    })
}

fn split_target<'b>(method: &str, target: &'b str) -> (&'b str, Option<&'b str>) {
    let rest = if method == "CONNECT" {
        None
    } else if target.starts_with('/') {
        Some(target)
    } else {
        target
            .split_once("://")
            .filter(|(scheme, _)| {
                scheme
                    .bytes()
                    .all(|byte| b"+-.".contains(&byte) || byte.is_ascii_alphanumeric())
            })
            .map(|(_, rest)| rest.find(['/', '?']).map_or("/", |path| &rest[path..]))
    };
    match rest.map(|rest| (rest, rest.split_once('?'))) {
        None => (target, None),
        Some((path, None)) => (path, None),
        Some((_, Some(("", query)))) => ("/", Some(query)),
        Some((_, Some((path, query)))) => (path, Some(query)),
    }
}

/// The search and httparse must agree on where the head ends.
fn whole(end: httparse::Status<usize>, head: &[u8]) -> Result<(), Refusal> {
    if end == httparse::Status::Complete(head.len()) {
        Ok(())
    } else {
        Err(Refusal::Malformed)
    }
}
