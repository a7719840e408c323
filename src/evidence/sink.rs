//! Finished records, appended to a file as JSON Lines.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, oneshot};
use tokio::task::JoinHandle;

use super::{Entry, Ledger};

/// When a file has become too large, and what becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// No file gets larger, but by a line that is.
    pub size: u64,
    /// Older files that are kept: `FILE.1` is the one before, `FILE.2` the one before that.
    pub keep: usize,
}

/// A file that every record that finishes is appended to. What it can't keep up with is counted
/// as dropped.
#[derive(Debug)]
pub struct Sink {
    stop: oneshot::Sender<()>,
    writing: JoinHandle<()>,
}

impl Sink {
    /// Opens the file, and follows the ledger from now on. `rotation`: `None`, it grows for ever.
    ///
    /// # Errors
    /// The file can't be opened for appending.
    pub fn open(ledger: &Arc<Ledger>, path: &Path, rotation: Option<Rotation>) -> io::Result<Self> {
        let mut out = Lines::open(path, rotation)?;
        let (stop, mut stopped) = oneshot::channel();
        let mut records = ledger.follow();
        let ledger = Arc::clone(ledger);
        let writing = tokio::spawn(async move {
            loop {
                tokio::select! {
                    record = records.recv() => match record {
                        Ok(entry) => out.write(&ledger, &entry),
                        Err(RecvError::Lagged(lost)) => ledger.count_dropped(lost),
                        Err(RecvError::Closed) => break,
                    },
                    _ = &mut stopped => break,
                }
                out.rest(&ledger, &mut records);
            }
            out.rest(&ledger, &mut records);
        });
        Ok(Self { stop, writing })
    }

    /// Writes what has finished so far, and ends.
    pub async fn close(self) {
        let _ = self.stop.send(());
        let _ = self.writing.await;
    }
}

/// The file, a line a record.
#[derive(Debug)]
struct Lines {
    path: PathBuf,
    rotation: Option<Rotation>,
    out: BufWriter<File>,
    /// Bytes in the file, those on their way to it included.
    size: u64,
    /// The line under way.
    line: Vec<u8>,
    /// It has been said that the file can't be written; not said again until it can.
    failing: bool,
}

impl Lines {
    fn open(path: &Path, rotation: Option<Rotation>) -> io::Result<Self> {
        let file = File::options().create(true).append(true).open(path)?;
        Ok(Self {
            path: path.to_owned(),
            rotation,
            size: file.metadata()?.len(),
            out: BufWriter::new(file),
            line: Vec::new(),
            failing: false,
        })
    }

    /// Writes all that is there, then lets it reach the file.
    fn rest(&mut self, ledger: &Ledger, records: &mut broadcast::Receiver<Arc<Entry>>) {
        loop {
            match records.try_recv() {
                Ok(entry) => self.write(ledger, &entry),
                Err(TryRecvError::Lagged(lost)) => ledger.count_dropped(lost),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        let flushed = self.out.flush();
        self.note(flushed);
    }

    fn write(&mut self, ledger: &Ledger, entry: &Entry) {
        self.line.clear();
        let line = serde_json::to_writer(&mut self.line, &*entry.lock());
        self.line.push(b'\n');
        let written = line.map_err(io::Error::other).and_then(|()| self.append());
        if !self.note(written) {
            ledger.count_dropped(1);
        }
    }

    fn append(&mut self) -> io::Result<()> {
        let len = self.line.len() as u64;
        if let Some(Rotation { size, keep }) = self.rotation
            && self.size > 0
            && self.size + len > size
        {
            self.rotate(keep)?;
        }
        self.out.write_all(&self.line)?;
        self.size += len;
        Ok(())
    }

    /// Moves each file one place on, the last one out, and begins a new one.
    fn rotate(&mut self, keep: usize) -> io::Result<()> {
        self.out.flush()?;
        for n in (1..keep).rev() {
            moved(&self.numbered(n), &self.numbered(n + 1))?;
        }
        match keep {
            0 => fs::remove_file(&self.path)?,
            _ => moved(&self.path, &self.numbered(1))?,
        }
        let new = Self::open(&self.path, self.rotation)?;
        (self.out, self.size) = (new.out, new.size);
        Ok(())
    }

    fn numbered(&self, n: usize) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(format!(".{n}"));
        name.into()
    }

    /// Whether it went well. What does not is said once, until something goes well again.
    fn note(&mut self, done: io::Result<()>) -> bool {
        match &done {
            Err(error) if !self.failing => {
                let file = self.path.display();
                tracing::warn!(%error, "can't write evidence to {file}: it is dropped and counted");
            }
            _ => {}
        }
        self.failing = done.is_err();
        done.is_ok()
    }
}

fn moved(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::super::{Record, Room};
    use super::*;

    fn ledger() -> Arc<Ledger> {
        let (records, bytes) = (10, usize::MAX);
        Arc::new(Ledger::new(Some(Room { records, bytes })))
    }

    fn finish(ledger: &Ledger) {
        let mut r = record();
        r.id = ledger.next_id();
        ledger.finish(&ledger.begin(r), 0);
    }

    fn ids(path: &Path) -> Vec<u64> {
        let text = fs::read_to_string(path).unwrap_or_default();
        let record = |line| serde_json::from_str::<Record>(line).unwrap();
        text.lines().map(|line| record(line).id.n).collect()
    }

    #[tokio::test]
    async fn files_are_moved_on_at_the_end_of_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("e.jsonl");
        let mut first = record();
        first.close();
        let first = serde_json::to_string(&first).unwrap() + "\n";
        let one = first.len() as u64;
        let rotation = Rotation {
            size: 3 * one + 50,
            keep: 2,
        };
        // A file that is there is gone on with.
        fs::write(&path, &first).unwrap();
        let ledger = ledger();
        let sink = Sink::open(&ledger, &path, Some(rotation)).unwrap();
        for _ in 0..10 {
            finish(&ledger);
        }
        sink.close().await;
        let numbered = |n: &str| dir.path().join(format!("e.jsonl{n}"));
        assert_eq!(ids(&numbered("")), [9, 10]);
        assert_eq!(ids(&numbered(".1")), [6, 7, 8]);
        assert_eq!(ids(&numbered(".2")), [3, 4, 5]);
        assert!(!numbered(".3").exists());
        assert_eq!(ledger.dropped(), 0);
    }

    #[tokio::test]
    async fn what_can_not_be_written_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("e.jsonl");
        let rotation = Rotation { size: 1, keep: 1 };
        let ledger = ledger();
        let sink = Sink::open(&ledger, &path, Some(rotation)).unwrap();
        // Where the older one is to go there is a folder.
        fs::create_dir_all(dir.path().join("e.jsonl.1/x")).unwrap();
        for _ in 0..3 {
            finish(&ledger);
        }
        sink.close().await;
        assert_eq!((ids(&path), ledger.dropped()), (vec![1], 2));
    }
}
