//! How true the generator is to its schedule, and its latency to what who waits would say.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use firedrill::config::drill::{HttpLoad, Source};
use firedrill::config::parse_drill;
use firedrill::drill::load::{Generator, Zero};
use firedrill::drill::sample::{Outcome, Sent, Window};
use firedrill::drill::verdict::latency;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A server that answers at once, but for the time in which it stands still; and when requests came.
struct Server {
    addr: SocketAddr,
    still: watch::Sender<bool>,
    came: Arc<Mutex<Vec<Instant>>>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        socket2::SockRef::from(&listener).listen(8192).unwrap();
        let addr = listener.local_addr().unwrap();
        let (still, standing) = watch::channel(false);
        let came = Arc::<Mutex<Vec<Instant>>>::default();
        let log = Arc::clone(&came);
        tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    continue;
                };
                tokio::spawn(answer(stream, standing.clone(), Arc::clone(&log)));
            }
        });
        Self { addr, still, came }
    }
}

/// Requests without a body, one after the other.
async fn answer(
    mut stream: TcpStream,
    mut standing: watch::Receiver<bool>,
    came: Arc<Mutex<Vec<Instant>>>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = [0; 4096];
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        while let Some(end) = buffer[..filled]
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
        {
            buffer.copy_within(end + 4..filled, 0);
            filled -= end + 4;
            came.lock().unwrap().push(Instant::now());
            let _ = standing.wait_for(|still| !still).await;
            stream.write_all(ANSWER).await?;
        }
    }
}

fn load(text: &str) -> HttpLoad {
    let text = format!(
        "promise: p\nload: {{ http: {{ url: 'http://h/', {text} }} }}\ntimeline: [{{ for: 1s, rule: {{ name: r, fault: {{ drop: {{}} }} }} }}]\n"
    );
    let drill = parse_drill(&text, "d.yaml").unwrap_or_else(|problems| panic!("{problems}"));
    match drill.load.source {
        Source::Http(load) => *load,
        other => panic!("{other:?}"),
    }
}

/// Thousands of connections at a time, of both sides.
fn many_descriptors() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(20_000, |most| most.min(20_000));
    assert!(
        wanted >= 6_000,
        "this test needs 6000 descriptors: ulimit -Hn"
    );
    let limit = Rlimit {
        current: Some(wanted),
        maximum,
    };
    setrlimit(Resource::Nofile, limit).unwrap();
}

/// Sends for so long, with a moment of standing still in between, and answers what was sent, and when
/// it stood still.
async fn send(
    server: &Server,
    load: &HttpLoad,
    lasts: Duration,
    still: Option<(f64, f64)>,
) -> (Vec<Sent>, (i64, i64)) {
    let zero = Zero(firedrill::clock::now());
    let authority = server.addr.to_string();
    let generator = Generator::start(load, (false, &authority), "run", 7, zero).unwrap();
    let began = Instant::now();
    let mut stood = (0, 0);
    if let Some((from, lasts)) = still {
        tokio::time::sleep(Duration::from_secs_f64(from)).await;
        server.still.send_replace(true);
        stood.0 = zero.now();
        tokio::time::sleep(Duration::from_secs_f64(lasts)).await;
        stood.1 = zero.now();
        server.still.send_replace(false);
    }
    tokio::time::sleep(lasts.saturating_sub(began.elapsed())).await;
    let log = Arc::clone(&generator.log);
    generator.finish().await;
    let sent = log.sent().clone();
    (sent, stood)
}

fn percentile(sorted: &[i64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted[rank.max(1) - 1] as f64 / 1e3
}

/// 2,000 a second for 5 s, and the server stands still for a second. Whoever would have come then is
/// charged from when he would have come: as `wrk2` has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_schedule_is_held_while_a_server_stands_still() {
    many_descriptors();
    const RATE: f64 = 2_000.0;
    let server = Server::start().await;
    let load = load("rate: 2000/s, in_flight: 6000, timeout: 10s");
    let lasts = Duration::from_secs(5);
    let (sent, (from, to)) = send(&server, &load, lasts, Some((2.0, 1.0))).await;

    let good = sent
        .iter()
        .filter(|s| s.outcome == Outcome::Status(200))
        .count();
    assert_eq!(good, sent.len(), "all are answered in the end");
    let asked = RATE * 5.0;
    assert!(
        (sent.len() as f64 - asked).abs() < asked * 0.01,
        "{} of {asked}",
        sent.len()
    );
    // When they were due is the schedule, to the microsecond.
    let mut due: Vec<_> = sent.iter().map(|s| s.due).collect();
    due.sort_unstable();
    assert!(
        due.windows(2).all(|two| (two[1] - two[0] - 500).abs() <= 1),
        "every 500 µs"
    );
    // How far it was sent from that.
    let mut late: Vec<_> = sent.iter().map(|s| s.began.unwrap() - s.due).collect();
    late.sort_unstable();
    assert!(late[0] >= 0, "never early");
    let (half, most) = (percentile(&late, 0.5), percentile(&late, 0.99));
    eprintln!("sent late: median {half:.3}ms, 99 of 100 {most:.3}ms");
    assert!(half < 5.0, "{half}ms late at the median");
    // What was sent is what came: none was kept back because others waited.
    assert_eq!(server.came.lock().unwrap().len(), sent.len());

    // The truth: who was due while it stood still waited until it went on, the others hardly.
    let truth = |s: &Sent| {
        let stood = (from..to).contains(&s.due);
        if stood { to - s.due } else { 0 }
    };
    let off = sent.iter().map(|s| s.ended.unwrap() - s.due - truth(s));
    let mut off: Vec<_> = off.collect();
    off.sort_unstable();
    let (half, most) = (percentile(&off, 0.5), percentile(&off, 0.95));
    eprintln!("waited longer than the schedule says: median {half:.1}ms, 95 of 100 {most:.1}ms");
    assert!(
        off[0] > -100_000 && half < 20.0 && most < 500.0,
        "{} {half} {most}",
        off[0]
    );
    let ops: Vec<_> = sent.iter().map(Sent::op).collect();
    let all = Window {
        from: i64::MIN,
        to: i64::MAX,
    };
    let measured = latency(&ops, all);
    let mut truths: Vec<_> = sent.iter().map(truth).collect();
    truths.sort_unstable();
    for share in [0.85, 0.9, 0.95, 0.99, 0.999] {
        let (is, truth) = (measured.at(share * 100.0), percentile(&truths, share));
        eprintln!(
            "p{:.1}: {is:.1}ms, the schedule says {truth:.1}ms",
            share * 100.0
        );
        assert!(
            (is - truth).abs() < 400.0,
            "p{}: {is} {truth}",
            share * 100.0
        );
    }
    // Who waits for an answer before he asks again would have seen one slow request in thousands: a
    // 99th percentile of next to nothing.
    assert!(percentile(&truths, 0.99) > 800.0 && measured.at(99.0) > 700.0);
}

/// What comes by chance comes as often as it should, and is spread as it should be, where it arrives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_chance_is_as_poisson_has_it_where_it_arrives() {
    many_descriptors();
    let server = Server::start().await;
    let load = load("rate: 500/s, arrivals: poisson");
    let (sent, _) = send(&server, &load, Duration::from_secs(6), None).await;
    let came = server.came.lock().unwrap().clone();
    assert_eq!(came.len(), sent.len());
    let n = came.len() as f64;
    assert!((n - 3_000.0).abs() < 5.0 * 3_000f64.sqrt(), "{n}");
    // Counts in slices of 100 ms: their variance is their mean, where an even rate has none.
    let first = came[0];
    let mut slices = vec![0f64; 58];
    for at in came {
        if let Some(slice) = slices.get_mut((at.duration_since(first).as_millis() / 100) as usize) {
            *slice += 1.0;
        }
    }
    let mean = slices.iter().sum::<f64>() / slices.len() as f64;
    let variance = slices.iter().map(|c| (c - mean).powi(2)).sum::<f64>() / slices.len() as f64;
    eprintln!("in 100ms: mean {mean:.1}, variance {variance:.1}");
    assert!((0.4..2.5).contains(&(variance / mean)), "{variance} {mean}");
}

/// Past what may be under way nothing is started, and it is said.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_under_way_is_counted() {
    let server = Server::start().await;
    server.still.send_replace(true);
    let load = load("rate: 200/s, in_flight: 10, timeout: 400ms");
    let (sent, _) = send(&server, &load, Duration::from_secs(1), None).await;
    let count = |outcome| sent.iter().filter(|s| s.outcome == outcome).count();
    let (timeouts, not_started) = (count(Outcome::Timeout), count(Outcome::NotStarted));
    // Ten at a time, each for 400 ms: three rounds at the most.
    assert!((10..=40).contains(&timeouts), "{timeouts}");
    assert_eq!(timeouts + not_started, sent.len());
    assert!((150..=201).contains(&sent.len()), "{}", sent.len());
    assert!(sent.iter().all(|s| !s.good));
    assert!(server.came.lock().unwrap().len() <= timeouts);
}
