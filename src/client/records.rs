//! Records as a stream of JSON Lines.

use super::ClientError;
use super::lines::Lines;
use crate::evidence::Record;

/// Records as they come in.
#[derive(Debug)]
pub struct Records(pub(super) Lines);

impl Records {
    /// The next record; `None`: there are no more. Cancel-safe.
    ///
    /// # Errors
    /// When the connection breaks, or what comes is no record.
    pub async fn next(&mut self) -> Result<Option<Record>, ClientError> {
        let Some(line) = self.0.next().await? else {
            return Ok(None);
        };
        let record = serde_json::from_slice(line);
        record.map(Some).map_err(|error| self.0.wrong(&error))
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
