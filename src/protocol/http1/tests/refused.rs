//! What is refused: shapes that two parties could read in two ways, one named case each.

use super::*;
use Refusal::*;

/// Whole and byte by byte, this is refused for this reason, and ever after.
#[track_caller]
fn refuses<W: Watch>(name: &str, new: impl Fn() -> W, bytes: &[u8], refusal: Refusal) {
    for (how, size) in [("at once", bytes.len()), ("byte by byte", 1)] {
        let mut watcher = new();
        let trace = watch(&mut watcher, bytes.chunks(size));
        assert_eq!(trace.stop, Stop::Refused(refusal), "{name}, {how}");
        assert!(
            !trace.seen.contains(&Seen::End),
            "{name}, {how}: a message has ended"
        );
        for more in [
            &b""[..],
            b"\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n",
        ] {
            assert_eq!(
                watcher.step(more),
                Err(refusal),
                "{name}, {how}: not for good"
            );
        }
        assert_eq!(watcher.eof(0), Eof::Truncated, "{name}, {how}");
    }
}

#[track_caller]
fn refuses_request(name: &str, bytes: impl AsRef<[u8]>, refusal: Refusal) {
    refuses(name, RequestFramer::default, bytes.as_ref(), refusal);
}

#[track_caller]
fn refuses_response(name: &str, asked: Asked, bytes: impl AsRef<[u8]>, refusal: Refusal) {
    refuses(name, || answers(&[asked]), bytes.as_ref(), refusal);
}

#[test]
fn fields_that_are_refused_in_both_directions() {
    #[rustfmt::skip] // One case a line.
    let cases: &[(&str, &str, Refusal)] = &[
        ("CL.TE", "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", LengthAndCoding),
        ("TE.CL", "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n", LengthAndCoding),
        ("CL 0 and TE", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", LengthAndCoding),
        ("two equal CL", "Content-Length: 5\r\nContent-Length: 5\r\n", RepeatedLength),
        ("two CL", "Content-Length: 5\r\nX: y\r\ncontent-length: 6\r\n", RepeatedLength),
        ("list of CL", "Content-Length: 5, 5\r\n", RepeatedLength),
        ("list with a hole", "Content-Length: ,5\r\n", RepeatedLength),
        ("CL with a sign", "Content-Length: +5\r\n", ContentLength),
        ("negative CL", "Content-Length: -5\r\n", ContentLength),
        ("hexadecimal CL", "Content-Length: 0x5\r\n", ContentLength),
        ("empty CL", "Content-Length:\r\n", ContentLength),
        ("blank CL", "Content-Length:   \r\n", ContentLength),
        ("CL with a space", "Content-Length: 1 2\r\n", ContentLength),
        ("CL with a fraction", "Content-Length: 5.0\r\n", ContentLength),
        ("CL with a separator", "Content-Length: 1_0\r\n", ContentLength),
        ("quoted CL", "Content-Length: \"5\"\r\n", ContentLength),
        ("CL of 2^64", "Content-Length: 18446744073709551616\r\n", ContentLength),
        ("CL in other digits", "Content-Length: \u{665}\r\n", ContentLength),
        ("two TE", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", RepeatedCoding),
        ("TE split over lines", "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", RepeatedCoding),
        ("unknown TE", "Transfer-Encoding: xchunked\r\n", TransferEncoding),
        ("identity", "Transfer-Encoding: identity\r\n", TransferEncoding),
        ("empty TE", "Transfer-Encoding:\r\n", TransferEncoding),
        ("quoted TE", "Transfer-Encoding: \"chunked\"\r\n", TransferEncoding),
        ("TE with a parameter", "Transfer-Encoding: chunked;q=1\r\n", TransferEncoding),
        ("chunked twice", "Transfer-Encoding: chunked, chunked\r\n", TransferEncoding),
        ("chunked not last", "Transfer-Encoding: chunked, gzip\r\n", TransferEncoding),
        ("trailing comma", "Transfer-Encoding: chunked,\r\n", TransferEncoding),
        ("leading comma", "Transfer-Encoding: ,chunked\r\n", TransferEncoding),
        ("chunked identity", "Transfer-Encoding: chunked identity\r\n", TransferEncoding),
        ("identity, chunked", "Transfer-Encoding: identity, chunked\r\n", UnsupportedCoding),
        ("TE with a vertical tab", "Transfer-Encoding: \x0bchunked\r\n", ControlByte),
        ("TE with a NUL", "Transfer-Encoding: chunked\0\r\n", ControlByte),
        ("folded TE", "Transfer-Encoding:\r\n chunked\r\n", ObsFold),
        ("folded field", "X: y\r\n\tz\r\n", ObsFold),
        ("folded first field", " X: y\r\n", ObsFold),
        ("space before the colon", "Content-Length : 5\r\n", SpaceBeforeColon),
        ("tab before the colon", "Transfer-Encoding\t: chunked\r\n", SpaceBeforeColon),
        ("a name with a space", "Content Length: 5\r\n", SpaceBeforeColon),
        ("no name", ": x\r\n", FieldName),
        ("no colon", "X\r\n", FieldName),
        ("a name with a NUL", "X\0: y\r\n", FieldName),
        ("a name with a letter beyond ASCII", "X\u{e9}: y\r\n", FieldName),
        ("NUL in a value", "X: a\0b\r\n", ControlByte),
        ("DEL in a value", "X: a\x7fb\r\n", ControlByte),
        ("bare CR in a value", "X: a\rContent-Length: 5\r\n", BareCr),
        ("CR before the line end", "X: a\r\r\n", BareCr),
        ("CR in a name", "X\rY: a\r\n", BareCr),
        ("bare LF after a value", "X: a\nContent-Length: 5\r\n", BareLf),
        ("bare LF as the empty line", "X: a\r\n\n", BareLf),
        ("bare LF at the start of a field", "\nX: a\r\n", BareLf),
    ];
    for (name, fields, refusal) in cases {
        let rest = "\r\n0\r\n\r\n";
        refuses_request(
            name,
            format!("POST / HTTP/1.1\r\nHost: x\r\n{fields}{rest}"),
            *refusal,
        );
        refuses_response(
            name,
            GET,
            format!("HTTP/1.1 200 OK\r\n{fields}{rest}"),
            *refusal,
        );
    }
}

#[test]
fn chunks_that_are_refused_in_both_directions() {
    let extension = format!("5;{}\r\nhello", "x".repeat(MAX_CHUNK_LINE + 1));
    let trailers = format!("0\r\nX: {}\r\n\r\n", "x".repeat(MAX_HEAD));
    #[rustfmt::skip] // One case a line.
    let cases: &[(&str, &str, Refusal)] = &[
        ("no size", "\r\nhello", ChunkSize),
        ("only an extension", ";a\r\nhello", ChunkSize),
        ("no digits", "g\r\n", ChunkSize),
        ("hexadecimal prefix", "0x5\r\nhello", ChunkSize),
        ("sign", "+5\r\nhello", ChunkSize),
        ("negative size", "-1\r\n", ChunkSize),
        ("space before", " 5\r\nhello", ChunkSize),
        ("space after", "5 \r\nhello", ChunkSize),
        ("space before the extension", "5 ;a\r\nhello", ChunkSize),
        ("separator in the size", "1_0\r\nhello", ChunkSize),
        ("NUL after the size", "5\0\r\nhello", ChunkSize),
        ("overflow", "10000000000000005\r\nhello", ChunkSizeOverflow),
        ("seventeen zeros", "00000000000000000\r\n\r\n", ChunkSizeOverflow),
        ("bare LF after the size", "5\nhello", BareLf),
        ("bare CR after the size", "5\rhello", BareCr),
        ("bare LF first", "\n5\r\nhello", ChunkSize),
        ("bare LF in an extension", "5;a\nhello", BareLf),
        ("bare CR in an extension", "5;a\rb\r\nhello", BareCr),
        ("NUL in an extension", "5;a\0\r\nhello", ChunkExtension),
        ("long extension", &extension, ChunkLineTooLong),
        ("data longer than its size", "5\r\nhello!\r\n", ChunkEnd),
        ("data shorter than its size", "6\r\nhello\r\n0\r\n\r\n", ChunkEnd),
        ("bare LF after the data", "5\r\nhello\n0\r\n\r\n", ChunkEnd),
        ("bare CR after the data", "5\r\nhello\r0\r\n\r\n", ChunkEnd),
        ("no line end after the data", "5\r\nhello0\r\n\r\n", ChunkEnd),
        ("bare LF after the last chunk", "0\r\n\n", BareLf),
        ("bare CR after the last chunk", "0\r\n\rX", BareCr),
        ("folded trailer", "0\r\nX: y\r\n z\r\n\r\n", ObsFold),
        ("space before a trailer's colon", "0\r\nX : y\r\n\r\n", SpaceBeforeColon),
        ("trailer without a name", "0\r\n: y\r\n\r\n", FieldName),
        ("trailer without a colon", "0\r\nX\r\n\r\n", FieldName),
        ("request line as a trailer", "0\r\nGET / HTTP/1.1\r\n\r\n", SpaceBeforeColon),
        ("NUL in a trailer", "0\r\nX: \0\r\n\r\n", ControlByte),
        ("bare LF in a trailer", "0\r\nX: y\n\r\n", BareLf),
        ("bare CR in a trailer", "0\r\nX: y\rz\r\n\r\n", BareCr),
        ("long trailers", &trailers, TrailersTooLarge),
    ];
    for (name, body, refusal) in cases {
        let fields = "Transfer-Encoding: chunked\r\n\r\n";
        refuses_request(name, format!("POST / HTTP/1.1\r\n{fields}{body}"), *refusal);
        refuses_response(
            name,
            GET,
            format!("HTTP/1.1 200 OK\r\n{fields}{body}"),
            *refusal,
        );
    }
}

#[test]
fn requests_that_are_refused() {
    #[rustfmt::skip] // One case a line.
    let cases: &[(&str, &[u8], Refusal)] = &[
        ("preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Http2Preface),
        ("HTTP/2 by name", b"GET / HTTP/2.0\r\n", Version),
        ("HTTP/2 without a minor", b"GET / HTTP/2\r\n", Version),
        ("HTTP/1.2", b"GET / HTTP/1.2\r\n", Version),
        ("HTTP/0.9", b"GET /\r\n", Http09),
        ("HTTP/0.9 spelt out", b"GET / HTTP/0.9\r\n", Version),
        ("version in small letters", b"GET / http/1.1\r\n", RequestLine),
        ("version of two digits", b"GET / HTTP/1.10\r\n", RequestLine),
        ("space after the version", b"GET / HTTP/1.1 \r\n", RequestLine),
        ("tab after the version", b"GET / HTTP/1.1\t\r\n", RequestLine),
        ("version twice", b"GET / HTTP/1.1 HTTP/1.1\r\n\r\n", RequestLine),
        ("one word", b"GET\r\n", RequestLine),
        ("no target", b"GET HTTP/1.1\r\n\r\n", RequestLine),
        ("two spaces before the target", b"GET  / HTTP/1.1\r\n\r\n", RequestLine),
        ("two spaces after the target", b"GET /  HTTP/1.1\r\n\r\n", Target),
        ("tab for a space", b"GET\t/ HTTP/1.1\r\n\r\n", Method),
        ("space in the target", b"GET /a b HTTP/1.1\r\n\r\n", Target),
        ("tab in the target", b"GET /a\tb HTTP/1.1\r\n\r\n", Target),
        ("NUL in the target", b"GET /a\0 HTTP/1.1\r\n\r\n", Target),
        ("DEL in the target", b"GET /a\x7f HTTP/1.1\r\n\r\n", Target),
        ("bare CR in the target", b"GET /a\rb HTTP/1.1\r\n\r\n", Target),
        ("target that is not UTF-8", b"GET /\xff HTTP/1.1\r\n\r\n", Target),
        ("method with a colon", b"GE:T / HTTP/1.1\r\n\r\n", Method),
        ("space before the method", b" GET / HTTP/1.1\r\n\r\n", Method),
        ("TLS", b"\x16\x03\x01\x02\x00\x01", Method),
        ("NUL first", b"\0", Method),
        ("bare LF first", b"\nGET / HTTP/1.1\r\n\r\n", BareLf),
        ("bare CR first", b"\rGET / HTTP/1.1\r\n\r\n", BareCr),
        ("bare LF after the request line", b"GET / HTTP/1.1\nHost: x\r\n\r\n", BareLf),
        ("CR before the line end", b"GET / HTTP/1.1\r\r\n", RequestLine),
        ("two Hosts", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", RepeatedHost),
        ("two equal Hosts", b"GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", RepeatedHost),
        ("TE in HTTP/1.0", b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", CodingInHttp10),
        ("two codings", b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", UnsupportedCoding),
        ("a coding without an end", b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", TransferEncoding),
        ("CONNECT with a length", b"CONNECT x:1 HTTP/1.1\r\nContent-Length: 1\r\n\r\n", ConnectBody),
        ("CONNECT with chunks", b"CONNECT x:1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", ConnectBody),
    ];
    for (name, bytes, refusal) in cases {
        refuses_request(name, bytes, *refusal);
    }
}

#[test]
fn answers_that_are_refused() {
    let chunked = "Transfer-Encoding: chunked";
    #[rustfmt::skip] // One case a line.
    let cases: &[(&str, Asked, &str, Refusal)] = &[
        ("no HTTP", GET, "SSH-2.0", StatusLine),
        ("empty line first", GET, "\r\nHTTP/1.1 200 OK\r\n\r\n", StatusLine),
        ("leftover of a body", GET, "xHTTP/1.1 200 OK\r\n\r\n", StatusLine),
        ("HTTP/2", GET, "HTTP/2 200\r\n\r\n", Version),
        ("HTTP/1.2", GET, "HTTP/1.2 200 OK\r\n\r\n", Version),
        ("two spaces", GET, "HTTP/1.1  200 OK\r\n\r\n", StatusLine),
        ("no status", GET, "HTTP/1.1 OK\r\n\r\n", StatusLine),
        ("status of two digits", GET, "HTTP/1.1 20 OK\r\n\r\n", StatusLine),
        ("status of four digits", GET, "HTTP/1.1 2000 OK\r\n\r\n", StatusLine),
        ("status below", GET, "HTTP/1.1 099 OK\r\n\r\n", Status),
        ("status above", GET, "HTTP/1.1 600 OK\r\n\r\n", Status),
        ("NUL in the reason", GET, "HTTP/1.1 200 O\0K\r\n\r\n", StatusLine),
        ("bare CR in the reason", GET, "HTTP/1.1 200 O\rK\r\n\r\n", BareCr),
        ("bare LF after the status line", GET, "HTTP/1.1 200 OK\n\r\n", BareLf),
        ("TE in HTTP/1.0", GET, &format!("HTTP/1.0 200 OK\r\n{chunked}\r\n\r\n"), CodingInHttp10),
        ("204 with TE", GET, &format!("HTTP/1.1 204 No\r\n{chunked}\r\n\r\n"), UnexpectedBody),
        ("204 with CL", GET, "HTTP/1.1 204 No\r\nContent-Length: 1\r\n\r\n", UnexpectedBody),
        ("100 with TE", GET, &format!("HTTP/1.1 100 C\r\n{chunked}\r\n\r\n"), UnexpectedBody),
        ("103 with CL", GET, "HTTP/1.1 103 H\r\nContent-Length: 9\r\n\r\n", UnexpectedBody),
        ("101 with CL", UPGRADE, "HTTP/1.1 101 S\r\nContent-Length: 9\r\n\r\n", UnexpectedBody),
        ("tunnel with CL", CONNECT, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", UnexpectedBody),
        ("tunnel with TE", CONNECT, &format!("HTTP/1.1 200 OK\r\n{chunked}\r\n\r\n"), UnexpectedBody),
        ("101 unasked", GET, "HTTP/1.1 101 Switching\r\n\r\n", UnaskedSwitch),
        ("101 to CONNECT", CONNECT, "HTTP/1.1 101 Switching\r\n\r\n", UnaskedSwitch),
        ("both lengths to HEAD", HEAD, &format!("HTTP/1.1 200 OK\r\n{chunked}\r\nContent-Length: 1\r\n\r\n"), LengthAndCoding),
        ("two lengths in 304", GET, "HTTP/1.1 304 N\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", RepeatedLength),
        ("until close with a length", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nContent-Length: 1\r\n\r\n", LengthAndCoding),
    ];
    for (name, asked, text, refusal) in cases {
        refuses_response(name, *asked, text, *refusal);
    }
}

#[test]
fn an_answer_to_nothing_is_refused() {
    refuses(
        "unasked",
        || answers(&[]),
        b"HTTP/1.1 408 Request Timeout\r\n\r\n",
        Unsolicited,
    );

    let mut watcher = answers(&[GET]);
    let twice = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".repeat(2);
    let trace = at_once(&mut watcher, twice.as_bytes());
    assert_eq!(trace.seen, [head("200 None"), Seen::End]);
    assert_eq!(trace.stop, Stop::Refused(Unsolicited));

    assert_eq!(
        answers(&[]).step(b""),
        Ok(Event::More),
        "silence is no answer"
    );
}

#[test]
fn a_head_has_bounds() {
    let start = "GET / HTTP/1.1\r\nX: ";
    let end = "\r\n\r\n";
    let fill = MAX_HEAD - start.len() - end.len();
    let longest = format!("{start}{}{end}", "x".repeat(fill));
    let trace = byte_by_byte(&mut RequestFramer::default(), longest.as_bytes());
    assert_eq!(trace.seen, [head("GET / None"), Seen::End]);

    let longer = format!("{start}{}{end}", "x".repeat(fill + 1));
    refuses_request("head", longer, HeadTooLarge);
    refuses_request(
        "target",
        format!("GET /{}", "x".repeat(MAX_HEAD)),
        TargetTooLong,
    );
    refuses_request("empty lines", "\r\n".repeat(MAX_HEAD), TargetTooLong);
    refuses_response(
        "head",
        GET,
        format!("HTTP/1.1 200 {}", "x".repeat(MAX_HEAD)),
        HeadTooLarge,
    );

    let fields = |count: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(count));
    let trace = at_once(
        &mut RequestFramer::default(),
        fields(MAX_HEADERS).as_bytes(),
    );
    assert_eq!(trace.seen, [head("GET / None"), Seen::End]);
    refuses_request("fields", fields(MAX_HEADERS + 1), TooManyHeaders);
}

#[test]
fn a_refusal_has_a_code_a_sentence_and_a_status() {
    let cases = [
        (
            HeadTooLarge,
            "head-too-large",
            431,
            "the head is longer than 65536 bytes",
        ),
        (
            TargetTooLong,
            "target-too-long",
            414,
            "the request line is longer than 65536 bytes",
        ),
        (
            LengthAndCoding,
            "length-and-coding",
            400,
            "the head has both Content-Length and Transfer-Encoding",
        ),
        (
            UnsupportedCoding,
            "unsupported-coding",
            501,
            "Transfer-Encoding names a coding other than chunked that is not supported",
        ),
        (
            Version,
            "version",
            505,
            "the version is neither HTTP/1.0 nor HTTP/1.1",
        ),
        (
            Unsolicited,
            "unsolicited",
            502,
            "the server sent bytes that no request asked for",
        ),
    ];
    for (refusal, code, status, sentence) in cases {
        assert_eq!((refusal.code(), refusal.status()), (code, status));
        assert_eq!(refusal.to_string(), sentence);
    }
}
