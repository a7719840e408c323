//! A small payment service that keeps a log of its own, and clients that tell what they met.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

/// An upstream that logs each whole request and answers with its key.
///
/// `/slow…` is answered once the [`Upstream::gate`] is open, `/never…` not at all.
pub struct Upstream {
    pub addr: SocketAddr,
    pub log: Arc<Mutex<Vec<String>>>,
    gate: watch::Sender<bool>,
    serving: AbortHandle,
}

impl Upstream {
    pub async fn start() -> Self {
        Self::on("127.0.0.1:0".parse().unwrap()).await
    }

    pub async fn on(addr: SocketAddr) -> Self {
        let listener = TcpListener::bind(addr).await.unwrap();
        // Hundreds may come at once, and none of them shall wait for a second SYN.
        socket2::SockRef::from(&listener).listen(4096).unwrap();
        let addr = listener.local_addr().unwrap();
        let log = Arc::<Mutex<Vec<String>>>::default();
        let (gate, opened) = watch::channel(false);
        let serving = tokio::spawn(serve(listener, Arc::clone(&log), opened)).abort_handle();
        Self {
            addr,
            log,
            gate,
            serving,
        }
    }

    /// What came, request by request: the key, or the path where there was none.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// How often each came.
    pub fn counts(&self) -> HashMap<String, u32> {
        let mut counts = HashMap::new();
        for key in self.log() {
            *counts.entry(key).or_default() += 1;
        }
        counts
    }

    /// Lets slow answers go.
    pub fn open_gate(&self) {
        self.gate.send_replace(true);
    }

    /// Ends like a process that is killed: the listener and every connection at once.
    pub fn kill(&self) {
        self.serving.abort();
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn serve(listener: TcpListener, log: Arc<Mutex<Vec<String>>>, opened: watch::Receiver<bool>) {
    // Dropped with this task, it ends all connections.
    let mut connections = JoinSet::new();
    loop {
        if let Ok((socket, _)) = listener.accept().await {
            connections.spawn(converse(socket, Arc::clone(&log), opened.clone()));
        }
    }
}

async fn converse(
    mut socket: TcpStream,
    log: Arc<Mutex<Vec<String>>>,
    mut opened: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut buffer = Vec::new();
    while let Some(head) = message(&mut socket, &mut buffer).await? {
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let key = header(&head, "idempotency-key").unwrap_or_else(|| path.clone());
        log.lock().unwrap().push(key.clone());
        if path.starts_with("/never") {
            std::future::pending::<()>().await;
        }
        if path.starts_with("/slow") && opened.wait_for(|open| *open).await.is_err() {
            return Ok(());
        }
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{key}",
            key.len()
        );
        socket.write_all(answer.as_bytes()).await?;
    }
    Ok(())
}

/// Reads one message by its Content-Length: head and body as text. `None` at a clean end.
async fn message(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<String>> {
    loop {
        let end = buffer.windows(4).position(|w| w == b"\r\n\r\n");
        if let Some(end) = end {
            let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
            let length = header(&head, "content-length").map_or(0, |n| n.parse().unwrap());
            let whole = end + 4 + length;
            if buffer.len() >= whole {
                let rest = buffer.split_off(whole);
                let text = String::from_utf8_lossy(&std::mem::replace(buffer, rest)).into_owned();
                return Ok(Some(text));
            }
        }
        if socket.read_buf(buffer).await? == 0 {
            return match buffer.is_empty() {
                true => Ok(None),
                false => Err(io::ErrorKind::UnexpectedEof.into()),
            };
        }
    }
}

fn header(head: &str, name: &str) -> Option<String> {
    head.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found.eq_ignore_ascii_case(name)).then(|| value.trim().to_owned())
    })
}

/// What a client met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Met {
    /// A whole answer: its status and body.
    Answered(u16, String),
    /// Nothing within its patience.
    Timeout,
    /// A FIN, before any byte of an answer.
    Closed,
    /// A RST, or no connection at all.
    Reset,
    /// Something that no server should do.
    Garbled(String),
}

/// A client of HTTP/1.1 that keeps its connection while it can, and never sends anything twice.
pub struct Caller {
    pub addr: SocketAddr,
    pub patience: Duration,
    socket: Option<TcpStream>,
}

impl Caller {
    pub fn new(addr: SocketAddr, patience: Duration) -> Self {
        Self {
            addr,
            patience,
            socket: None,
        }
    }

    /// Sends a request and waits for its answer.
    pub async fn ask(&mut self, request: &str) -> Met {
        let met = match tokio::time::timeout(self.patience, self.exchange(request)).await {
            Err(_) => Met::Timeout,
            Ok(Ok(met)) => met,
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Met::Garbled("an answer that does not end".to_owned())
            }
            Ok(Err(_)) => Met::Reset,
        };
        if !matches!(met, Met::Answered(..)) {
            self.socket = None;
        }
        met
    }

    async fn exchange(&mut self, request: &str) -> io::Result<Met> {
        if self.socket.is_none() {
            self.socket = Some(TcpStream::connect(self.addr).await?);
        }
        let socket = self.socket.as_mut().unwrap();
        socket.write_all(request.as_bytes()).await?;
        let mut buffer = Vec::new();
        let Some(text) = message(socket, &mut buffer).await? else {
            return Ok(Met::Closed);
        };
        if !buffer.is_empty() {
            return Ok(Met::Garbled(format!("more than an answer: {buffer:?}")));
        }
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
        let says_close = header(head, "connection").is_some_and(|v| v == "close");
        if says_close {
            self.socket = None;
        }
        Ok(match status {
            Some(status) => Met::Answered(status, body.to_owned()),
            None => Met::Garbled(text),
        })
    }
}
