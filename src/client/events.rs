//! Changes as a stream of server-sent events.

use super::ClientError;
use super::lines::Lines;
use crate::wire::EventItem;

/// What comes on such a stream.
#[derive(Debug, Clone)]
pub enum News {
    /// A change.
    Change(EventItem),
    /// So many are missing here: they were made before those that are kept, or faster than they
    /// were read.
    Lost(u64),
}

/// Changes as they come in.
#[derive(Debug)]
pub struct Events {
    lines: Lines,
    /// The sort of event that the lines read last begin.
    sort: Vec<u8>,
}

impl Events {
    pub(super) fn new(lines: Lines) -> Self {
        let sort = Vec::new();
        Self { lines, sort }
    }

    /// The next one; `None`: there are no more. Cancel-safe.
    ///
    /// # Errors
    /// When the connection breaks, or what comes is no event.
    pub async fn next(&mut self) -> Result<Option<News>, ClientError> {
        // Our own server puts all of an event's data on one line.
        while let Some(line) = self.lines.next().await? {
            if let Some(sort) = line.strip_prefix(b"event: ") {
                self.sort = sort.to_vec();
            } else if let Some(data) = line.strip_prefix(b"data: ") {
                let news = match &*self.sort {
                    b"change" => serde_json::from_slice(data).map(News::Change),
                    b"lost" => serde_json::from_slice(data).map(News::Lost),
                    // Of a later version.
                    _ => continue,
                };
                return news.map(Some).map_err(|error| self.lines.wrong(&error));
            }
        }
        Ok(None)
    }

    /// All that come until the end.
    ///
    /// # Errors
    /// As [`Events::next`].
    pub async fn collect(mut self) -> Result<Vec<News>, ClientError> {
        let mut all = Vec::new();
        while let Some(news) = self.next().await? {
            all.push(news);
        }
        Ok(all)
    }
}
