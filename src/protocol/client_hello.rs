//! The host that a TLS client asks for, read from the first bytes of its stream.
//!
//! A ClientHello says it in the clear (RFC 8446 section 4.1.2, RFC 6066 section 3; under Encrypted
//! ClientHello it is the outer name). It is no framer: it says one thing, once, of bytes that go on
//! as they came. Nothing else of TLS is judged here.

use std::borrow::Cow;

/// The most bytes that are looked at: a ClientHello that has not ended by then names no host.
pub const MOST: usize = 16 * 1024;

/// What the first bytes of a stream say. Once it is something other than [`Hello::More`], more
/// bytes do not change it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hello {
    /// They may be the beginning of a ClientHello.
    More,
    /// They are no ClientHello; or it names no host, more than one, or none that could be one.
    Nameless,
    /// The host, in lower case.
    Named(Box<str>),
}

/// Reads a stream's first bytes.
#[must_use]
pub fn read(bytes: &[u8]) -> Hello {
    let seen = bytes.get(..MOST).unwrap_or(bytes);
    match message(seen) {
        Message::Begun if seen.len() < MOST => Hello::More,
        Message::Whole(body) => host(&body).map_or(Hello::Nameless, Hello::Named),
        Message::Begun | Message::Other => Hello::Nameless,
    }
}

/// The content type of a record that carries handshake messages.
const HANDSHAKE: u8 = 22;
/// The major version in every TLS record and ClientHello so far.
const MAJOR: u8 = 3;
/// The length of a record's head.
const RECORD: usize = 5;
/// The longest fragment that a record may carry.
const MOST_FRAGMENT: usize = 1 << 14;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;
/// The longest name that DNS has.
const MOST_NAME: usize = 255;

/// The first handshake message.
enum Message<'a> {
    /// It may be a ClientHello, and is not whole.
    Begun,
    /// The body of a ClientHello.
    Whole(Cow<'a, [u8]>),
    /// Anything else.
    Other,
}

/// Puts the first message together from the records that carry it.
fn message(mut bytes: &[u8]) -> Message<'_> {
    let mut gathered = Cow::Borrowed(&bytes[..0]);
    loop {
        let begins = [HANDSHAKE, MAJOR];
        if bytes.iter().zip(begins).any(|(byte, is)| *byte != is) {
            return Message::Other;
        }
        let &[_, _, _, high, low, ref rest @ ..] = bytes else {
            return Message::Begun;
        };
        let len = usize::from(u16::from_be_bytes([high, low]));
        if len == 0 || len > MOST_FRAGMENT {
            return Message::Other;
        }
        let fragment = rest.get(..len).unwrap_or(rest);
        if gathered.is_empty() {
            gathered = Cow::Borrowed(fragment);
        } else {
            gathered.to_mut().extend_from_slice(fragment);
        }
        if gathered.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Message::Other;
        }
        if let [_, a, b, c, body @ ..] = &*gathered {
            let len = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            if len > MOST {
                return Message::Other;
            }
            if body.len() >= len {
                let range = 4..4 + len;
                return Message::Whole(match gathered {
                    Cow::Borrowed(all) => Cow::Borrowed(&all[range]),
                    Cow::Owned(all) => Cow::Owned(all[range].to_vec()),
                });
            }
        }
        match bytes.get(RECORD + len..) {
            Some(next) => bytes = next,
            None => return Message::Begun,
        }
    }
}

/// The one host that a ClientHello names, if all of it is as it must be.
fn host(body: &[u8]) -> Option<Box<str>> {
    let mut hello = Fields(body);
    let version = hello.take(2)?;
    let _random = hello.take(32)?;
    let _session = hello.short()?;
    let _ciphers = hello.long()?;
    let _compressions = hello.short()?;
    let mut extensions = Fields(hello.long()?);
    if version[0] != MAJOR || !hello.is_empty() {
        return None;
    }
    let mut names = None;
    while !extensions.is_empty() {
        let kind = extensions.number()?;
        let data = extensions.long()?;
        if kind == SERVER_NAME && names.replace(data).is_some() {
            return None;
        }
    }
    let mut names = Fields(names?);
    let mut list = Fields(names.long()?);
    if !names.is_empty() {
        return None;
    }
    let mut host = None;
    while !list.is_empty() {
        let kind = list.take(1)?[0];
        let name = list.long()?;
        if kind == HOST_NAME && host.replace(name).is_some() {
            return None;
        }
    }
    let host = std::str::from_utf8(host?).ok()?;
    let fits = (1..=MOST_NAME).contains(&host.len());
    let plain = host.bytes().all(|byte| byte.is_ascii_graphic());
    (fits && plain).then(|| host.to_ascii_lowercase().into())
}

/// What is left of a structure.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        let bytes = self.take(2)?;
        Some(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// Bytes behind their length in one byte.
    fn short(&mut self) -> Option<&'a [u8]> {
        let len = self.take(1)?[0];
        self.take(len.into())
    }

    /// Bytes behind their length in two bytes.
    fn long(&mut self) -> Option<&'a [u8]> {
        let len = self.number()?;
        self.take(len.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn short(bytes: &[u8]) -> Vec<u8> {
        [&[bytes.len() as u8], bytes].concat()
    }

    fn long(bytes: &[u8]) -> Vec<u8> {
        [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
    }

    fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &long(data)].concat()
    }

    fn names(list: &[(u8, &[u8])]) -> Vec<u8> {
        let entries = list
            .iter()
            .map(|(kind, name)| [&[*kind][..], &long(name)].concat());
        extension(0, &long(&entries.collect::<Vec<_>>().concat()))
    }

    /// A ClientHello with these extensions, as a handshake message.
    fn hello(extensions: &[Vec<u8>]) -> Vec<u8> {
        let body = [
            vec![3, 3],
            vec![7; 32],
            short(&[9; 32]),
            long(&[0x13, 1, 0x13, 2]),
            short(&[0]),
            long(&extensions.concat()),
        ]
        .concat();
        message_of(1, &body)
    }

    fn message_of(kind: u8, body: &[u8]) -> Vec<u8> {
        let len = (body.len() as u32).to_be_bytes();
        [&[kind], &len[1..], body].concat()
    }

    /// The message in records whose fragments have at most these lengths, the last one repeated.
    fn records(message: &[u8], lengths: &[usize]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut rest = message;
        let mut lengths = lengths.iter().copied();
        let mut len = MOST_FRAGMENT;
        while !rest.is_empty() {
            len = lengths.next().unwrap_or(len).clamp(1, MOST_FRAGMENT);
            let (fragment, left) = rest.split_at(len.min(rest.len()));
            out.extend([&[22, 3, 1][..], &long(fragment)].concat());
            rest = left;
        }
        out
    }

    fn whole(extensions: &[Vec<u8>]) -> Hello {
        read(&records(&hello(extensions), &[]))
    }

    fn named(name: &str) -> Hello {
        Hello::Named(name.into())
    }

    #[test]
    fn a_name_among_other_extensions() {
        let other = extension(16, &long(&short(b"h2")));
        let name = names(&[(0, b"Pay.Example.COM")]);
        for extensions in [
            vec![name.clone()],
            vec![other.clone(), name.clone()],
            vec![name.clone(), other.clone()],
        ] {
            assert_eq!(whole(&extensions), named("pay.example.com"));
        }
        let unknown = names(&[(9, b"\0\xff"), (0, b"a.example")]);
        assert_eq!(whole(&[unknown]), named("a.example"));
    }

    #[test]
    fn what_names_no_host_or_not_one_alone() {
        let name = names(&[(0, b"a.example")]);
        for extensions in [
            vec![],
            vec![extension(16, &long(&short(b"h2")))],
            vec![name.clone(), name.clone()],
            vec![names(&[(0, b"a.example"), (0, b"b.example")])],
            vec![names(&[])],
            vec![names(&[(9, b"a.example")])],
            vec![names(&[(0, b"")])],
            vec![names(&[(0, b"a\0.example")])],
            vec![names(&[(0, b"a b")])],
            vec![names(&[(0, "ä.example".as_bytes())])],
            vec![names(&[(0, &[b'a'; 256])])],
            vec![extension(0, b"")],
            vec![extension(0, &[0, 99, 0])],
            vec![name, vec![0]],
        ] {
            assert_eq!(whole(&extensions), Hello::Nameless, "{extensions:?}");
        }
    }

    #[test]
    fn what_is_no_client_hello() {
        let message = hello(&[names(&[(0, b"a.example")])]);
        assert_eq!(read(&records(&message, &[])), named("a.example"));
        let mut of_server = message.clone();
        of_server[0] = 2;
        assert_eq!(read(&records(&of_server, &[])), Hello::Nameless);
        let mut old = message.clone();
        old[4] = 2;
        assert_eq!(read(&records(&old, &[])), Hello::Nameless);
        let trailing = message_of(1, &[&message[4..], &[0]].concat());
        assert_eq!(read(&records(&trailing, &[])), Hello::Nameless);
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"\x16GET",
            b"\x16\x03\x01\x00\x00",
            b"\x16\x03\x01\x40\x01",
            b"\x15\x03\x01\x00\x02\x01\x00",
            b"\x16\x03\x01\x00\x04\x01\x00\x40\x01",
        ] {
            assert_eq!(read(bytes), Hello::Nameless, "{bytes:?}");
        }
        for bytes in [&b""[..], b"\x16", b"\x16\x03\x03\x02"] {
            assert_eq!(read(bytes), Hello::More, "{bytes:?}");
        }
    }

    /// The bound holds however the bytes are cut, and however little each record carries.
    #[test]
    fn what_is_too_long_is_given_up() {
        let name = names(&[(0, b"a.example")]);
        let fits = hello(&[extension(21, &vec![0; 16_000]), name.clone()]);
        let fits = records(&fits, &[]);
        assert!(fits.len() < MOST);
        assert_eq!(read(&fits), named("a.example"));
        let long = hello(&[extension(21, &vec![0; 16_280]), name.clone()]);
        let long = records(&long, &[8_000]);
        assert!(long.len() > MOST);
        assert_eq!(read(&long[..MOST - 1]), Hello::More);
        assert_eq!(read(&long[..MOST]), Hello::Nameless);
        assert_eq!(read(&long), Hello::Nameless);
        let longer = records(&hello(&[extension(21, &vec![0; 20_000])]), &[]);
        assert_eq!(read(&longer[..20]), Hello::Nameless, "as its head says");
        let crumbs = records(&hello(&[extension(21, &vec![0; 4_000]), name]), &[1]);
        assert!(crumbs.len() > MOST);
        assert_eq!(read(&crumbs), Hello::Nameless);
    }

    /// A ClientHello as clients make them, and the name in it.
    fn generated() -> impl Strategy<Value = (Vec<u8>, Hello)> {
        let name = prop::option::of("[a-zA-Z0-9.-]{1,60}");
        let others = prop::collection::vec(
            (1u16..100, prop::collection::vec(any::<u8>(), 0..80)),
            0..12,
        );
        let lengths = prop::collection::vec(1usize..300, 0..20);
        (name, others, any::<prop::sample::Index>(), lengths).prop_map(
            |(name, others, at, lengths)| {
                let others = others.iter().map(|(kind, data)| extension(*kind, data));
                let mut extensions: Vec<_> = others.collect();
                if let Some(name) = &name {
                    let at = at.index(extensions.len() + 1);
                    extensions.insert(at, names(&[(0, name.as_bytes())]));
                }
                let expected = name.map_or(Hello::Nameless, |n| named(&n.to_ascii_lowercase()));
                (records(&hello(&extensions), &lengths), expected)
            },
        )
    }

    proptest! {
        #[test]
        fn only_the_whole_tells_and_what_follows_changes_nothing(
            (bytes, expected) in generated(),
            cut in any::<prop::sample::Index>(),
            more in prop::collection::vec(any::<u8>(), 0..50),
        ) {
            prop_assert_eq!(read(&bytes), expected.clone());
            prop_assert_eq!(read(&bytes[..cut.index(bytes.len())]), Hello::More);
            prop_assert_eq!(read(&[bytes, more].concat()), expected);
        }

        /// However it is cut: what was said of a part stands.
        #[test]
        fn what_was_said_stands(
            (bytes, _) in generated(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            let mut bytes = bytes;
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let mut said = Hello::More;
            for len in 0..=bytes.len() {
                let now = read(&bytes[..len]);
                prop_assert!(said == Hello::More || said == now, "at {}", len);
                said = now;
            }
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), tls in any::<bool>()) {
            let mut bytes = bytes;
            if tls {
                bytes.splice(0..0, [22, 3, 1, 1, 0, 1, 0, 0]);
            }
            let _ = read(&bytes);
        }
    }
}
