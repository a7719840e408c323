//! Upstreams that tell how each connection ended, and bytes whose place in a stream is known.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};

use super::{soon, until};

/// How one side saw a connection end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Fin,
    Rst,
}

/// One connection as an upstream saw it.
#[derive(Debug, Clone, Default)]
pub struct Saw {
    pub bytes: Vec<u8>,
    pub ended: Option<Ended>,
    /// When each read gave something, and how much.
    pub reads: Vec<(Instant, usize)>,
}

/// What a [`Watched`] upstream does with its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Does {
    /// Sends everything back; closes when the client does.
    Echo,
    /// Reads, and says nothing; closes when the client does.
    Listen,
    /// Sends [`stream`] without end from the first byte that it gets.
    Pour,
}

/// An upstream that watches its connections.
#[derive(Clone)]
pub struct Watched {
    pub addr: SocketAddr,
    saw: Arc<Mutex<Vec<Saw>>>,
}

impl Watched {
    pub async fn start(does: Does) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        socket2::SockRef::from(&listener).listen(4096).unwrap();
        let this = Self {
            addr: listener.local_addr().unwrap(),
            saw: Arc::default(),
        };
        let saw = Arc::clone(&this.saw);
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let index = {
                    let mut saw = saw.lock().unwrap();
                    saw.push(Saw::default());
                    saw.len() - 1
                };
                tokio::spawn(serve(socket, does, Arc::clone(&saw), index));
            }
        });
        this
    }

    pub async fn echo() -> Self {
        Self::start(Does::Echo).await
    }

    /// What each connection has seen so far.
    pub fn saw(&self) -> Vec<Saw> {
        self.saw.lock().unwrap().clone()
    }

    /// Waits until the `n`-th connection (from 0) has ended, and answers what it saw.
    pub async fn ended(&self, n: usize) -> Saw {
        until("the upstream sees the end", || {
            self.saw().get(n).filter(|saw| saw.ended.is_some()).cloned()
        })
        .await
    }
}

async fn serve(socket: TcpStream, does: Does, saw: Arc<Mutex<Vec<Saw>>>, index: usize) {
    socket.set_nodelay(true).unwrap();
    let (mut read, write) = socket.into_split();
    let mut write = Some(write);
    // Of two who read and write, only one is told of a RST.
    let broken = Arc::new(AtomicBool::new(false));
    let mut buffer = vec![0; 64 * 1024];
    let ended = loop {
        let n = match read.read(&mut buffer).await {
            Ok(0) if broken.load(SeqCst) => break Ended::Rst,
            Ok(0) => break Ended::Fin,
            Ok(n) => n,
            Err(_) => break Ended::Rst,
        };
        {
            let mut all = saw.lock().unwrap();
            all[index].bytes.extend_from_slice(&buffer[..n]);
            all[index].reads.push((Instant::now(), n));
        }
        match (does, &mut write) {
            // Whether it could be said is seen by the next read.
            (Does::Echo, Some(write)) => drop(write.write_all(&buffer[..n]).await),
            (Does::Pour, write) => {
                if let Some(write) = write.take() {
                    tokio::spawn(pour(write, Arc::clone(&broken)));
                }
            }
            _ => {}
        }
    };
    saw.lock().unwrap()[index].ended = Some(ended);
    if let Some(mut write) = write {
        // The other side may have gone already.
        let _ = write.shutdown().await;
    }
}

async fn pour(mut write: OwnedWriteHalf, broken: Arc<AtomicBool>) {
    let mut position = 0;
    loop {
        let bytes = stream(position, 16 * 1024);
        if let Err(error) = write.write_all(&bytes).await {
            broken.store(error.kind() == ErrorKind::ConnectionReset, SeqCst);
            return;
        }
        position += bytes.len();
    }
}

/// After so many bytes they begin anew. A prime: no buffer's size is a multiple of it.
const PERIOD: usize = 65_521;

/// At most so many of the bytes at this place.
fn run(position: usize, most: usize) -> &'static [u8] {
    static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mixed = |n: u64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 53;
        (0..PERIOD).map(|n| mixed(n as u64) as u8).collect()
    });
    let from = position % PERIOD;
    &BYTES[from..PERIOD.min(from + most)]
}

/// Bytes of a stream whose every place has a value of its own within a few thousand: what is lost,
/// repeated, or out of order shows.
pub fn stream(from: usize, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        bytes.extend_from_slice(run(from + bytes.len(), len - bytes.len()));
    }
    bytes
}

pub fn byte_at(position: usize) -> u8 {
    run(position, 1)[0]
}

/// Checks that these bytes are those of [`stream`] at this place.
pub fn check(from: usize, bytes: &[u8]) {
    let mut at = 0;
    while at < bytes.len() {
        let expected = run(from + at, bytes.len() - at);
        let got = &bytes[at..at + expected.len()];
        if got != expected {
            let same = got.iter().zip(expected).take_while(|(a, b)| a == b);
            let wrong = from + at + same.count();
            panic!("another byte at {wrong} of {}", from + bytes.len());
        }
        at += expected.len();
    }
}

/// Reads to the end: the bytes, and how it ended.
pub async fn read_to_end(socket: &mut TcpStream) -> (Vec<u8>, Ended) {
    let mut got = Vec::new();
    let ended = match soon("the end", socket.read_to_end(&mut got)).await {
        Ok(_) => Ended::Fin,
        Err(_) => Ended::Rst,
    };
    (got, ended)
}
