//! Records as a stream of JSON Lines.

use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::{Client, ClientError};
use crate::evidence::Record;

/// The longest line that a record may be.
const MAX_LINE: usize = 16 << 20;

/// Records as they come in.
#[derive(Debug)]
pub struct Records {
    client: Client,
    body: Incoming,
    buffer: Vec<u8>,
    /// Where in the buffer the next line begins.
    start: usize,
}

impl Records {
    pub(super) fn new(client: Client, body: Incoming) -> Self {
        Self {
            client,
            body,
            buffer: Vec::new(),
            start: 0,
        }
    }

    /// The next record; `None`: there are no more. Cancel-safe.
    ///
    /// # Errors
    /// When the connection breaks, or what comes is no record.
    pub async fn next(&mut self) -> Result<Option<Record>, ClientError> {
        // How much of the buffer is known to hold no line's end.
        let mut searched = self.start;
        loop {
            let rest = &self.buffer[searched..];
            if let Some(end) = rest.iter().position(|b| *b == b'\n') {
                let line = &self.buffer[self.start..searched + end];
                let record = serde_json::from_slice(line);
                self.start = searched + end + 1;
                return record.map(Some).map_err(|e| self.client.protocol(&e));
            }
            self.buffer.drain(..self.start);
            self.start = 0;
            searched = self.buffer.len();
            if searched > MAX_LINE {
                return Err(self.client.protocol(&"a line does not end"));
            }
            match self.body.frame().await {
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(self.client.protocol(&"it broke off within a record")),
                Some(Err(error)) => return Err(self.client.protocol(&error)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }

    /// All that come until the end.
    ///
    /// # Errors
    /// As [`Records::next`].
    pub async fn collect(mut self) -> Result<Vec<Record>, ClientError> {
        let mut all = Vec::new();
        while let Some(record) = self.next().await? {
            all.push(record);
        }
        Ok(all)
    }
}
