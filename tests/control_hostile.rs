//! Who means ill by the control port, and who is only slow: they are refused or give way, `heal` is
//! answered all the while, and the traffic does not notice.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use firedrill::client::{Client, ClientError, Roots, Trust};
use firedrill::tls;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use support::pki::Pki;
use support::process::{Firedrill, Process, output, program};
use support::programs::proxy;
use support::{Server, soon, until};

/// How soon `heal` is to be answered.
/// What is not optimised takes ten times as long, and shares its processors with the clients.
const SOON: Duration = Duration::from_millis(if cfg!(debug_assertions) { 500 } else { 50 });

fn control(firedrill: &Firedrill) -> SocketAddr {
    let url = firedrill.url.trim_start_matches("http://");
    url.parse().unwrap()
}

async fn slow_rule(firedrill: &Firedrill) {
    let rule =
        json!({ "name": "slow", "ttl": "forever", "fault": { "delay": { "latency": "1ms" } } });
    firedrill.api.create_rule(&rule).await.unwrap();
}

async fn read_all(mut socket: TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = soon("an answer", socket.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// How late the machine itself wakes this process, at worst: what no program can do better than.
struct Stalls {
    stop: Arc<AtomicBool>,
    worst: std::thread::JoinHandle<Duration>,
}

impl Stalls {
    fn watch() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let worst = std::thread::spawn(move || {
            let mut worst = Duration::ZERO;
            while !stopped.load(Ordering::Relaxed) {
                let began = Instant::now();
                std::thread::sleep(Duration::from_millis(1));
                worst = worst.max(began.elapsed());
            }
            worst
        });
        Self { stop, worst }
    }

    fn worst(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        self.worst.join().unwrap()
    }
}

/// Small messages there and back over one connection, until told to stop: how long each took.
struct Traffic {
    stop: Arc<AtomicBool>,
    running: JoinHandle<Vec<Duration>>,
}

impl Traffic {
    async fn start(addr: SocketAddr) -> Self {
        let mut socket = TcpStream::connect(addr).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let running = tokio::spawn(async move {
            let mut took = Vec::new();
            let mut buffer = [0; 64];
            while !stopped.load(Ordering::Relaxed) {
                let began = Instant::now();
                socket.write_all(&[7; 64]).await.unwrap();
                socket.read_exact(&mut buffer).await.unwrap();
                took.push(began.elapsed());
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            took
        });
        Self { stop, running }
    }

    /// The median, and how many there were.
    async fn end(self) -> (Duration, usize) {
        self.stop.store(true, Ordering::Relaxed);
        let mut took = self.running.await.unwrap();
        took.sort();
        (took[took.len() / 2], took.len())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_slow_clients_keep_nobody_from_healing() {
    const CLIENTS: usize = 10_000;
    // All of them stay, as far as they can tell.
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).unwrap();
    let echo = Server::echo().await;
    let (firedrill, addr) = proxy(echo.addr, "tcp", "").await;
    let control = control(&firedrill);
    let before = firedrill.idle_descriptors;

    let traffic = Traffic::start(addr).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (alone, n) = traffic.end().await;
    assert!(n > 100, "{n}");

    let stalls = Stalls::watch();
    let traffic = Traffic::start(addr).await;
    let mut slow = Vec::new();
    let mut heals = Vec::new();
    let whole = format!("POST /v1/heal HTTP/1.1\r\nHost: {control}\r\nContent-Length: 9\r\n\r\n");
    while slow.len() < CLIENTS {
        for _ in 0..100 {
            let mut socket = TcpStream::connect(control).await.unwrap();
            // Nothing; a part of a head; one byte now and another later; a head without its body.
            let said = match slow.len() % 4 {
                0 => "",
                1 => &whole[..40],
                2 => "P",
                _ => &whole.replace("/v1/heal", "/v1/rules"),
            };
            // It may have had to go already.
            let _ = socket.write_all(said.as_bytes()).await;
            if let Some(earlier) = slow.len().checked_sub(50) {
                let earlier: &TcpStream = &slow[earlier];
                let _ = earlier.try_write(b"O");
            }
            slow.push(socket);
        }
        let began = Instant::now();
        firedrill.api.heal().await.unwrap();
        heals.push(began.elapsed());
    }
    let (crowded, n) = traffic.end().await;
    let stalled = stalls.worst();
    heals.sort();
    let (usual, worst) = (heals[heals.len() * 9 / 10], heals[heals.len() - 1]);
    println!(
        "{CLIENTS} slow clients: heal took {worst:?} at worst, {usual:?} nine times in ten of {}, the machine stalled {stalled:?}; \
         a message took {crowded:?} (median of {n}), {alone:?} without them",
        heals.len()
    );
    assert!(usual < SOON, "{usual:?}");
    // An answer takes several turns of both processes, and each may have to wait so long.
    assert!(worst < SOON + stalled * 4, "{worst:?}, {stalled:?}");
    // The clients share these processors, so some of it is theirs.
    assert!(
        crowded < alone * 3 + Duration::from_millis(1),
        "{crowded:?}, {alone:?}"
    );
    assert!(n > 100, "{n}");
    let held = support::process::descriptors(firedrill.process.pid());
    assert!(held < before + 300, "{held} descriptors, {before} before");
    drop(slow);
    firedrill.quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_megabytes_are_refused_unread() {
    const HUGE: usize = 100_000_000;
    let echo = Server::echo().await;
    let (firedrill, _) = proxy(echo.addr, "tcp", "").await;
    let control = control(&firedrill);
    let generation = firedrill.api.status().await.unwrap().generation;
    for length in [
        format!("Content-Length: {HUGE}"),
        "Transfer-Encoding: chunked".to_owned(),
    ] {
        let socket = TcpStream::connect(control).await.unwrap();
        let head = format!("POST /v1/rules HTTP/1.1\r\nHost: {control}\r\n{length}\r\n\r\n");
        let (reading, mut writing) = socket.into_split();
        let sending = tokio::spawn(async move {
            let mut sent = 0;
            if writing.write_all(head.as_bytes()).await.is_err() {
                return sent;
            }
            let piece = [b' '; 1 << 16];
            while sent < HUGE {
                let size = format!("{:x}\r\n", piece.len());
                let parts: [&[u8]; 3] = if length.starts_with('C') {
                    [b"", &piece, b""]
                } else {
                    [size.as_bytes(), &piece, b"\r\n"]
                };
                for part in parts {
                    if writing.write_all(part).await.is_err() {
                        return sent;
                    }
                }
                sent += piece.len();
            }
            sent
        });
        let mut reading = reading;
        let mut answer = vec![0; 1 << 12];
        // It can be lost, where the connection is closed on what is still being sent.
        let n = soon("an answer", reading.read(&mut answer))
            .await
            .unwrap_or(0);
        let answer = String::from_utf8_lossy(&answer[..n]).into_owned();
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 413 "),
            "{answer}"
        );
        let sent = soon("it is cut off", sending).await.unwrap();
        // What systems keep between two processes, and a mebibyte.
        assert!(sent < 30_000_000, "{sent} bytes were taken");
        let began = Instant::now();
        firedrill.api.heal().await.unwrap();
        println!(
            "refused after {sent} bytes; heal took {:?}",
            began.elapsed()
        );
    }
    assert!(firedrill.api.rules().await.unwrap().items.is_empty());
    assert!(firedrill.api.status().await.unwrap().generation <= generation + 2);
    firedrill.quiet().await;
}

#[tokio::test]
async fn it_heals_when_the_process_has_no_descriptors_left() {
    let echo = Server::echo().await;
    let (firedrill, addr) = proxy(echo.addr, "tcp", "").await;
    slow_rule(&firedrill).await;
    firedrill.limit_descriptors(8);
    let mut crowd = Vec::new();
    for _ in 0..50 {
        crowd.push(TcpStream::connect(addr).await.unwrap());
    }
    until("none is left", || {
        let held = support::process::descriptors(firedrill.process.pid());
        (held >= firedrill.idle_descriptors + 8).then_some(())
    })
    .await;
    for _ in 0..20 {
        firedrill.api.heal().await.unwrap();
    }
    assert!(!firedrill.rule("slow").await.enabled);
    drop(crowd);
    firedrill.quiet().await;
}

#[tokio::test]
async fn those_who_follow_take_no_place_and_are_bounded() {
    let echo = Server::echo().await;
    let firedrill = Firedrill::start_with(
        "max_connections: 4",
        &format!(
            "proxies: [{{ name: p, listen: 127.0.0.1:0, upstream: {} }}]",
            echo.addr
        ),
    )
    .await;
    let filter = firedrill::evidence::Filter::default();
    let mut following = Vec::new();
    for _ in 0..64 {
        following.push(firedrill.api.follow(&filter).await.unwrap());
    }
    let refused = firedrill.api.follow(&filter).await.unwrap_err();
    assert!(
        matches!(&refused, ClientError::Api { status: 503, code, .. } if code == "busy"),
        "{refused}"
    );
    firedrill.api.heal().await.unwrap();
    drop(following.pop());
    support::process::eventually("its place is free", async || {
        firedrill.api.follow(&filter).await.ok()
    })
    .await;
}

/// Has a real browser visit a page of another site that tries all that a page can on this port:
/// what the page could tell of it.
async fn visited(port: u16) -> Vec<String> {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/hostile.html");
    let page = fs::read_to_string(page).unwrap();
    let page = page.replace("PORT", &port.to_string());
    let site = Server::http_with(move |line| {
        if line.starts_with("GET / ") {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length:";
            format!("{head} {}\r\n\r\n{page}", page.len())
        } else {
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned()
        }
    })
    .await;
    let home = tempfile::tempdir().unwrap();
    let mut chromium: Command = program("chromium", "chromium");
    chromium
        .args(["--headless", "--no-sandbox", "--disable-gpu"])
        .args([
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--no-proxy-server",
        ])
        .arg("--disable-background-networking")
        // A name of the attacker's, pointed at this machine.
        .arg("--host-resolver-rules=MAP rebound.example 127.0.0.1")
        .arg(format!("--user-data-dir={}", home.path().display()))
        .arg("--remote-debugging-port=0")
        .arg(format!("http://127.0.0.1:{}/", site.addr.port()))
        .env("HOME", home.path())
        .stdout(Stdio::null());
    let mut browser = Process::spawn(&mut chromium);
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let seen = site.seen();
        let told = seen.iter().find_map(|said| said.split_once("/told?"));
        if let Some((_, told)) = told {
            // All of it, not what was read so far.
            if let Some((told, _)) = told.split_once(' ') {
                return told.split('&').map(str::to_owned).collect();
            }
        }
        assert!(browser.ended().is_none(), "{}", browser.log());
        assert!(Instant::now() < deadline, "{seen:?}\n{}", browser.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_another_site_changes_and_reads_nothing() {
    // Who does not defend himself gets it all.
    let naive = Server::http().await;
    let told = visited(naive.addr.port()).await;
    for outcome in [
        "heal-without-asking=sent",
        "make-a-rule=sent",
        "rebound-without-asking=sent",
    ] {
        assert!(told.iter().any(|one| one == outcome), "{outcome}: {told:?}");
    }
    let heals = naive.requests("POST /v1/heal");
    assert!(heals >= 3, "{heals}: {:?}", naive.seen());
    assert_eq!(naive.requests("POST /v1/rules"), 1);

    let echo = Server::echo().await;
    let (firedrill, _) = proxy(echo.addr, "tcp", "").await;
    slow_rule(&firedrill).await;
    let before = firedrill.api.status().await.unwrap().generation;
    let told = visited(control(&firedrill).port()).await;
    for outcome in [
        "heal-without-asking=blocked",
        "heal-by-json=blocked",
        "heal-with-a-token=blocked",
        "heal-by-a-form=sent",
        "make-a-rule=blocked",
        "read-the-status=blocked",
        "evidence-as-a-picture=error",
        "evidence-as-a-script=error",
        "websocket=error",
        "rebound=blocked",
        "rebound-without-asking=blocked",
    ] {
        assert!(told.iter().any(|one| one == outcome), "{outcome}: {told:?}");
    }
    let status = firedrill.api.status().await.unwrap();
    assert_eq!(status.generation, before, "nothing was done");
    assert!(status.rules.len() == 1 && status.rules[0].enabled);
}

#[tokio::test]
async fn over_tls_with_the_clients_certificate_and_from_the_command_line() {
    let pki = Pki::make();
    let path = |name: &str| pki.path(name).display().to_string();
    let section = |more: &str| format!("tls: {{ ca: {}{more} }}", path("ca"));
    let firedrill = Firedrill::start_with(&section(""), "").await;
    assert!(firedrill.url.starts_with("https://"), "{}", firedrill.url);
    // Not a word of it to whom it is not known.
    let unknown = firedrill.run(&["heal"]).await;
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(
        !unknown.status.success() && said.contains("--cacert"),
        "{said}"
    );
    let ca = path("ca/ca.pem");
    for trusted in [&["--cacert", &ca][..], &["--insecure"]] {
        let out = firedrill.run(&[&["heal"], trusted].concat()).await;
        assert!(out.status.success(), "{out:?}");
    }
    // Who speaks no TLS is not answered, and does no harm.
    let mut plain = TcpStream::connect(firedrill.url.trim_start_matches("https://"))
        .await
        .unwrap();
    plain
        .write_all(b"POST /v1/heal HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    assert!(!read_all(plain).await.contains("HTTP/1.1 200"));

    // Several, one of them over TLS.
    let other = Firedrill::start("").await;
    let mut both = support::process::firedrill();
    both.args([
        "heal",
        "--url",
        &format!("{},{}", firedrill.url, other.url),
        "--cacert",
        &ca,
    ]);
    let both = output(both).await;
    assert!(both.status.success(), "{both:?}");

    let demanding = section(&format!(", client_ca: {}", path("trust.pem")));
    let demanding = Firedrill::start_with(&demanding, "").await;
    let out = demanding.run(&["heal", "--cacert", &ca]).await;
    assert!(!out.status.success(), "{out:?}");
    let (cert, key) = (path("caller.pem"), path("caller.key"));
    let shown = ["heal", "--cacert", &ca, "--cert", &cert, "--key", &key];
    let out = demanding.run(&shown).await;
    assert!(out.status.success(), "{out:?}");
    let roots = tls::trusted(tls::certificates(&fs::read(&ca).unwrap()).unwrap()).unwrap();
    let own = tls::certificates(&fs::read(&cert).unwrap()).unwrap();
    let own = tls::identity(own, &fs::read(&key).unwrap()).unwrap();
    let trust = Trust {
        roots: Roots::These(roots),
        own: Some(own),
    };
    let client = Client::trusting(&demanding.url, None, trust).unwrap();
    client.status().await.unwrap();
}
