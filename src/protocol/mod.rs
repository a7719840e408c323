//! Framers: where messages begin and end in a stream of bytes.
//!
//! A framer *watches* bytes on their way from one peer to the other. It owns the knowledge of one
//! protocol's framing and the few bytes of state that this takes between reads. It does not own the
//! bytes: it never copies, changes or keeps one, so what passes is what came. It does no I/O, reads
//! no clock, logs nothing, and no input makes it panic.
//!
//! What two parties could read in two ways is refused, never guessed; that refusal is the
//! protocol's own type (for HTTP/1.x [`http1::Refusal`]).
//!
//! [`client_hello`] is no framer: it reads the one thing that a TLS stream says in the clear. Nor is
//! [`proxy_header`], which comes before any of them, nor [`first_bytes`], which tells which is needed.
//!
//! Every framer speaks in [`Event`]s and is driven the same way:
//!
//! ```
//! use firedrill::protocol::{Event, http1};
//!
//! let mut framer = http1::RequestFramer::default();
//! let buf: &[u8] = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HT";
//! let mut scratch = http1::scratch();
//! let (mut pos, mut paths) = (0, Vec::new());
//! loop {
//!     match framer.next(&buf[pos..], &mut scratch)? {
//!         Event::Head { len, head } => {
//!             pos += len;
//!             paths.push(head.path);
//!         }
//!         Event::Body { len, .. } => pos += len,
//!         Event::End => {}
//!         // Keep `buf[pos..]`: it comes again with what follows it.
//!         Event::More | Event::Held => break,
//!         Event::Tunnel => break,
//!     }
//! }
//! assert_eq!(paths, ["/a"]);
//! assert_eq!(&buf[pos..], b"GET /b HT");
//! # Ok::<(), http1::Refusal>(())
//! ```

pub mod client_hello;
pub mod first_bytes;
pub mod http1;
pub mod proxy_header;

/// What a framer sees at the front of its input.
///
/// `H` is what the protocol tells of a message's head; it borrows from the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<H> {
    /// The first `len` bytes of the input are a whole head.
    Head {
        /// Bytes of the head, more than 0, with its empty line and what may come before it.
        len: usize,
        /// What the head says.
        head: H,
    },
    /// The next `len` bytes belong to the message that has begun.
    Body {
        /// Bytes of this run, more than 0. A body may be seen in any number of runs.
        len: usize,
        /// `false` for what only carries the body: chunk-size lines, the line ends after chunks,
        /// trailers.
        content: bool,
    },
    /// The message is over. Comes once a message, after its last byte, right after the head when
    /// there is no body. A body that lasts until its sender closes has no `End`: see [`Eof`].
    End,
    /// Nothing more can be said without more bytes. What is left of the input (none, within a
    /// body) is an unfinished head, and must be given again with what follows it.
    More,
    /// There are more bytes, but the message before them asked for another protocol, and until the
    /// answer is known they may be that protocol or the next message. Nothing is consumed: they
    /// must be given again once the framer has been told.
    Held,
    /// Every byte from here on is opaque. A framer says so for good.
    Tunnel,
}

/// What it means that the stream ends here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eof {
    /// No message is cut. Whether an answer is still owed is for the caller to know.
    Clean,
    /// The end of the stream is the end of the message, as its head announced.
    EndsMessage,
    /// A message has begun and is not whole.
    Truncated,
    /// Bytes are held ([`Event::Held`]): ask again once the framer has been told what they are.
    Undecided,
}
