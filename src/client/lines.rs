//! The lines of an answer's body, as they come in.

use std::ops::Range;

use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::{Client, ClientError};

/// The longest line that there may be.
const MAX_LINE: usize = 16 << 20;

/// Lines of a body that may never end.
#[derive(Debug)]
pub(super) struct Lines {
    client: Client,
    body: Incoming,
    buffer: Vec<u8>,
    /// Where in the buffer the next line begins.
    start: usize,
}

impl Lines {
    pub(super) fn new(client: Client, body: Incoming) -> Self {
        Self {
            client,
            body,
            buffer: Vec::new(),
            start: 0,
        }
    }

    /// The next line, without its end; `None`: there are no more. Cancel-safe.
    ///
    /// # Errors
    /// When the connection breaks, or a line has no end.
    pub(super) async fn next(&mut self) -> Result<Option<&[u8]>, ClientError> {
        Ok(self.range().await?.map(|line| &self.buffer[line]))
    }

    /// As an error of this connection.
    pub(super) fn wrong(&self, reason: &impl ToString) -> ClientError {
        self.client.protocol(reason)
    }

    async fn range(&mut self) -> Result<Option<Range<usize>>, ClientError> {
        // How much of the buffer is known to hold no line's end.
        let mut searched = self.start;
        loop {
            let rest = &self.buffer[searched..];
            if let Some(end) = rest.iter().position(|b| *b == b'\n') {
                let line = self.start..searched + end;
                self.start = line.end + 1;
                return Ok(Some(line));
            }
            self.buffer.drain(..self.start);
            self.start = 0;
            searched = self.buffer.len();
            if searched > MAX_LINE {
                return Err(self.wrong(&"a line does not end"));
            }
            match self.body.frame().await {
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(self.wrong(&"it broke off within a line")),
                Some(Err(error)) => return Err(self.wrong(&error)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}
