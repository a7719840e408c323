//! Random faults come and go over random clients and upstreams that are killed at random, in the
//! real binary. A minute, in quarters: after each all is lifted and everyone gone, and the process
//! stands where it stood before. Ten minutes, and `SOAK_SEED` for the same dice again:
//! `SOAK_SECONDS=600 cargo test --release --test soak -- --nocapture`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs
)]

mod support;

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use firedrill::faults::{self, Kind};
use serde_json::json;
use support::process::{Firedrill, descriptors};
use support::soon;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const CLIENTS: usize = 24;

/// The first of these is for what is made once: threads' stacks and buffers, the ledger, the
/// allocator's arenas.
const QUARTERS: u64 = 4;

/// Memory that the last quarter may end with above the first, in KiB: what the allocator keeps.
const SLACK: u64 = 8 * 1024;

fn env(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |n| n.parse().unwrap())
}

/// Numbers that a seed gives again (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % n
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

/// An upstream that speaks plain bytes, or HTTP where it is asked so, and breaks now and then.
async fn upstream(seed: u64, http: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    socket2::SockRef::from(&listener).listen(4096).unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut dice = Dice(seed);
        while let Ok((socket, _)) = listener.accept().await {
            let dies_after = match dice.below(3) {
                0 => dice.below(20_000) as usize,
                _ => usize::MAX,
            };
            let by_reset = dice.below(2) == 0;
            tokio::spawn(answer(socket, http, dies_after, by_reset));
        }
    });
    addr
}

async fn answer(mut socket: TcpStream, http: bool, dies_after: usize, by_reset: bool) {
    let mut buffer = vec![0; 16 * 1024];
    let mut left = dies_after;
    let mut tail = Vec::new();
    loop {
        let n = match socket.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(n) => n,
        };
        if n > left {
            if by_reset {
                let _ = socket.set_zero_linger();
            }
            return;
        }
        left -= n;
        let mut out = Vec::new();
        if http {
            // Requests without bodies end with an empty line.
            for byte in &buffer[..n] {
                tail.push(*byte);
                if tail.ends_with(b"\r\n\r\n") {
                    tail.clear();
                    out.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                }
            }
        } else {
            out.extend_from_slice(&buffer[..n]);
        }
        if socket.write_all(&out).await.is_err() {
            return;
        }
    }
}

/// Says something a few times, of any size, and leaves as it likes.
async fn client(addr: SocketAddr, http: bool, dice: &mut Dice) {
    // Refused at once, as a fault may have it.
    let Ok(mut socket) = TcpStream::connect(addr).await else {
        return;
    };
    for _ in 0..dice.below(8) {
        let text = match http {
            true => b"GET /soak HTTP/1.1\r\nHost: p\r\n\r\n".to_vec(),
            false => vec![b'x'; dice.one(&[1, 100, 5000, 100_000])],
        };
        let patience = Duration::from_millis(dice.below(60));
        let (mut read, mut write) = socket.split();
        let mut buffer = [0; 4096];
        let mut got = 0;
        let talking = async {
            let writing = write.write_all(&text);
            let reading = async {
                while got < text.len().min(38) {
                    match read.read(&mut buffer).await {
                        Ok(0) | Err(_) => return false,
                        Ok(n) => got += n,
                    }
                }
                true
            };
            let (wrote, read) = tokio::join!(writing, reading);
            wrote.is_ok() && read
        };
        match tokio::time::timeout(patience, talking).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(_) => break,
        }
    }
    match dice.below(3) {
        0 => socket.set_zero_linger().unwrap(),
        1 => {
            // A half-close, and a little patience for what is still to come.
            let _ = socket.shutdown().await;
            let mut rest = Vec::new();
            let rest = socket.read_to_end(&mut rest);
            let _ = tokio::time::timeout(Duration::from_millis(50), rest).await;
        }
        _ => {}
    }
}

/// The kinds that can act here: nothing speaks TLS.
fn kinds() -> Vec<&'static Kind> {
    let kinds = faults::KINDS.iter().copied();
    kinds.filter(|kind| kind.name != "tls").collect()
}

/// A rule of each kind, off.
fn rules() -> Vec<serde_json::Value> {
    let kinds = kinds();
    kinds
        .iter()
        .map(|kind| {
            let fault = match kind.name {
                "delay" => json!({"latency": "20ms", "jitter": "20ms", "distribution": "pareto"}),
                "drop" | "response_loss" | "refuse" | "timeout" => json!({}),
                "duplicate" => json!({"copies": 2, "gap": "10ms"}),
                "abort" => json!({"status": 503}),
                "reset" => json!({"after": "2KiB", "side": "both"}),
                "close" => json!({"after": "10ms", "side": "upstream"}),
                "slow_connect" | "slow_close" => json!({"delay": "30ms"}),
                "bandwidth" => json!({"rate": "200KB/s", "per": "proxy"}),
                "slice" => json!({"size": "100B", "variation": "50B", "gap": "1ms"}),
                "limit_data" => json!({"bytes": "3KiB"}),
                "corrupt" => json!({"bytes": 10}),
                "packet_loss" => json!({"rate": 0.1}),
                "reorder" => json!({"hold": "20ms"}),
                "late" | "truncate" | "garbage" | "empty" | "h2_reset" | "h2_goaway" => json!({}),
                "rewrite" => json!({"set_headers": {"x-drill": "yes"}, "clock": "-5m"}),
                "throttle" => json!({"rate": "500/s", "burst": 10}),
                "overload" => json!({"concurrency": 4, "queue": 20, "service_time": "5ms"}),
                "stale" => json!({"age": "5ms"}),
                name => panic!("`{name}` has no rule here"),
            };
            json!({
                "name": kind.name,
                "enabled": false,
                "probability": 0.5,
                "ttl": "forever",
                "fault": { kind.name: fault },
            })
        })
        .collect()
}

/// What a process takes up when nobody is connected.
#[derive(Debug)]
struct Idle {
    descriptors: usize,
    threads: u64,
    /// KiB.
    resident: u64,
}

impl Idle {
    fn of(pid: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let figure = |key: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(key)).unwrap();
            let figure = line.trim().trim_end_matches(" kB");
            figure.parse().unwrap()
        };
        Self {
            descriptors: descriptors(pid),
            threads: figure("Threads:"),
            resident: figure("VmRSS:"),
        }
    }
}

struct Soak {
    firedrill: Firedrill,
    proxies: [(SocketAddr, bool); 2],
    dice: Dice,
    /// What the next client's dice begin with.
    round: Arc<AtomicU64>,
}

impl Soak {
    /// Clients come and go, and faults with them, for so long; then all is lifted and everyone gone.
    /// Answers how many of both there were.
    async fn run(&mut self, time: Duration) -> (usize, usize) {
        let stop = Arc::new(AtomicBool::new(false));
        let connected = Arc::new(AtomicUsize::new(0));
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let (stop, connected) = (Arc::clone(&stop), Arc::clone(&connected));
            let round = Arc::clone(&self.round);
            let proxies = self.proxies;
            clients.spawn(async move {
                while !stop.load(Relaxed) {
                    let mut dice = Dice(round.fetch_add(1, Relaxed));
                    let (addr, http) = dice.one(&proxies);
                    client(addr, http, &mut dice).await;
                    connected.fetch_add(1, Relaxed);
                }
            });
        }
        let dice = &mut self.dice;
        let mut switched = 0;
        let api = &self.firedrill.api;
        let end = Instant::now() + time;
        let kinds = kinds();
        while Instant::now() < end {
            if dice.below(20) == 0 {
                api.heal().await.unwrap();
            } else if dice.below(10) == 0 {
                let on = json!({"enabled": dice.below(2) == 0});
                api.patch_partition("split", &on).await.unwrap();
            } else {
                let kind = dice.one(&kinds);
                // More are off than on, or nothing is heard any more.
                let on = json!({"enabled": dice.below(3) == 0});
                api.patch_rule(kind.name, &on).await.unwrap();
            }
            switched += 1;
            tokio::time::sleep(Duration::from_millis(dice.below(20))).await;
        }
        api.heal().await.unwrap();
        stop.store(true, Relaxed);
        while let Some(ended) = soon("every client has gone", clients.join_next()).await {
            ended.unwrap();
        }
        // No connection, no open record, no descriptor more than before anyone came.
        self.firedrill.quiet().await;
        (connected.load(Relaxed), switched)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_returns_to_where_it_began() {
    let time = Duration::from_secs(env("SOAK_SECONDS", 60));
    let seed = env("SOAK_SEED", 42);
    let (tcp, http) = tokio::join!(upstream(seed, false), upstream(seed, true));
    // The ledger is full before memory is looked at.
    let firedrill = Firedrill::start(&format!(
        "seed: {seed}
evidence: {{ capacity: 500 }}
limits: {{ linger: 500ms }}
proxies:
  - {{ name: bytes, listen: 127.0.0.1:0, upstream: '{tcp}' }}
  - {{ name: web, listen: 127.0.0.1:0, upstream: '{http}', protocol: http }}
partitions:
  - {{ name: split, between: [[client], [bytes, web]], enabled: false }}
"
    ))
    .await;
    for rule in rules() {
        firedrill.api.create_rule(&rule).await.unwrap();
    }
    let proxies = [
        (firedrill.proxy("bytes").await, false),
        (firedrill.proxy("web").await, true),
    ];
    let mut soak = Soak {
        firedrill,
        proxies,
        dice: Dice(seed),
        round: Arc::new(AtomicU64::new(seed)),
    };
    println!("seconds | clients | changes | injected | descriptors | threads | resident, KiB");
    let mut quarters = Vec::new();
    for n in 1..=QUARTERS {
        let (clients, changes) = soak.run(time / QUARTERS as u32).await;
        let idle = Idle::of(soak.firedrill.process.pid());
        let injected = soak
            .firedrill
            .metric("firedrill_faults_injected_total", &[])
            .await;
        println!(
            "{:7} | {clients:7} | {changes:7} | {injected:8} | {:11} | {:7} | {:7}",
            time.as_secs() * n / QUARTERS,
            idle.descriptors,
            idle.threads,
            idle.resident,
        );
        assert!(clients > 100 && changes > 50, "something happened");
        quarters.push(idle);
    }
    let (first, last) = (&quarters[0], &quarters[QUARTERS as usize - 1]);
    assert_eq!(first.descriptors, last.descriptors);
    assert_eq!(first.threads, last.threads);
    assert!(last.resident <= first.resident + SLACK, "{quarters:#?}");
    // Its clients speak HTTP/1.
    let met = |kind: &&Kind| !kind.name.starts_with("h2_");
    for kind in kinds().into_iter().filter(met) {
        let (rule, labels) = (kind.name, [format!("rule=\"{}\"", kind.name)]);
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        let count = soak
            .firedrill
            .metric("firedrill_faults_injected_total", &labels)
            .await;
        assert!(count > 0, "`{rule}` never acted");
    }
    let log = soak.firedrill.process.log();
    assert!(!log.contains("panicked"), "{log}");
}
