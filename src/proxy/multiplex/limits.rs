//! How much of an HTTP/2 connection is taken in, and how much of it may be nonsense. What is past
//! these the `h2` crate refuses.

/// Bytes of a stream's body that may be on their way or held, each way.
pub(super) const STREAM_WINDOW: u32 = 1 << 20;
/// Bytes of all bodies of a connection together, each way.
pub(super) const WINDOW: u32 = 4 << 20;
/// Bytes of a stream that the other side has room for and that were not written.
pub(super) const UNSENT: usize = 256 << 10;
/// The longest frame that is read.
pub(super) const FRAME: u32 = 64 << 10;
/// The longest fields of a message together, counted as RFC 9113 section 6.5.2 does.
pub(super) const FIELDS: u32 = crate::protocol::http1::MAX_HEAD as u32;
/// Requests of a connection at the same time; past it they are refused.
pub(super) const STREAMS: u32 = 1000;
/// Streams that were reset and that frames may still come for, and those that the client has reset
/// before they were looked at.
pub(super) const RESET_STREAMS: usize = 200;
/// Messages of one connection that may be refused before it is.
pub(super) const REFUSED: usize = 100;
/// What frames with little content may take up, each counted as 256 bytes at least.
pub(super) const SMALL_FRAMES: usize = 4 << 20;
