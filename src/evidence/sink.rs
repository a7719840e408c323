//! Finished records, appended to a file as JSON Lines.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, oneshot};
use tokio::task::JoinHandle;

use super::{Entry, Ledger};

/// A file that every record that finishes is appended to. What it can't keep up with is counted
/// as dropped.
#[derive(Debug)]
pub struct Sink {
    stop: oneshot::Sender<()>,
    writing: JoinHandle<()>,
}

impl Sink {
    /// Opens the file, and follows the ledger from now on.
    ///
    /// # Errors
    /// The file can't be opened for appending.
    pub fn open(ledger: &Arc<Ledger>, file: &Path) -> io::Result<Self> {
        let file = File::options().create(true).append(true).open(file)?;
        let (stop, mut stopped) = oneshot::channel();
        let mut records = ledger.follow();
        let ledger = Arc::clone(ledger);
        let mut out = BufWriter::new(file);
        let writing = tokio::spawn(async move {
            loop {
                tokio::select! {
                    record = records.recv() => match record {
                        Ok(entry) => write(&ledger, &mut out, &entry),
                        Err(RecvError::Lagged(lost)) => ledger.count_dropped(lost),
                        Err(RecvError::Closed) => break,
                    },
                    _ = &mut stopped => break,
                }
                rest(&ledger, &mut out, &mut records);
            }
            rest(&ledger, &mut out, &mut records);
        });
        Ok(Self { stop, writing })
    }

    /// Writes what has finished so far, and ends.
    pub async fn close(self) {
        let _ = self.stop.send(());
        let _ = self.writing.await;
    }
}

/// Writes all that is there, then lets it reach the file.
fn rest(ledger: &Ledger, out: &mut BufWriter<File>, records: &mut broadcast::Receiver<Arc<Entry>>) {
    loop {
        match records.try_recv() {
            Ok(entry) => write(ledger, out, &entry),
            Err(TryRecvError::Lagged(lost)) => ledger.count_dropped(lost),
            Err(TryRecvError::Empty | TryRecvError::Closed) => break,
        }
    }
    if let Err(error) = out.flush() {
        tracing::warn!(%error, "can't write evidence to its file");
    }
}

fn write(ledger: &Ledger, out: &mut BufWriter<File>, entry: &Entry) {
    let line = serde_json::to_vec(&*entry.lock());
    let written = line
        .map_err(io::Error::other)
        .and_then(|line| out.write_all(&line))
        .and_then(|()| out.write_all(b"\n"));
    if let Err(error) = written {
        tracing::warn!(%error, "can't write evidence to its file");
        ledger.count_dropped(1);
    }
}
