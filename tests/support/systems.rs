//! Systems to drill on: a gateway and a backend, with a Firedrill between them and before them. What
//! they do, and its parameters, only they know.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use firedrill::clock::Timestamp;
use firedrill::drill::report::Report;
use firedrill::seed::Draw;
use http_body_util::{BodyExt, Empty, Full};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::process::{Firedrill, Process, firedrill};

/// Numbers for one run of a test, drawn from a seed that is printed where it fails.
pub struct Chance(Draw);

impl Chance {
    pub fn new(seed: u64, run: u64) -> Self {
        Self(Draw::new(seed, "systems", 0, run))
    }

    pub fn between(&mut self, least: f64, most: f64) -> f64 {
        least + (most - least) * self.0.unit()
    }

    pub fn one_of<'t>(&mut self, all: &[&'t str]) -> &'t str {
        all[(self.0.unit() * all.len() as f64) as usize]
    }
}

/// Serves HTTP: `answer` says the status. Who has gone does not stop what he has asked for.
pub async fn serve<F, A>(answer: F) -> SocketAddr
where
    F: Fn(String) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = u16> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    socket2::SockRef::from(&listener).listen(4096).unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                continue;
            };
            let answer = answer.clone();
            let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                let working = tokio::spawn(answer(request.uri().path().to_owned()));
                async move {
                    let status = working.await.unwrap_or(500);
                    let mut response = Response::new(Full::new(Bytes::from_static(b"{}")));
                    *response.status_mut() = status.try_into().unwrap();
                    Ok::<_, std::convert::Infallible>(response)
                }
            });
            tokio::spawn(async move {
                let mut server = hyper::server::conn::http1::Builder::new();
                // It ends as its client likes.
                let _ = server
                    .half_close(true)
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    addr
}

/// Asks once, on a connection of its own; `None`: there was no answer in time.
pub async fn ask(addr: SocketAddr, path: &str, patience: Duration) -> Option<u16> {
    let asking = async {
        let stream = TcpStream::connect(addr).await.ok()?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .ok()?;
        let mut carrying = tokio::task::JoinSet::new();
        carrying.spawn(connection);
        let request = Request::get(path).header("host", addr.to_string());
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let answer = sender.send_request(request).await.ok()?;
        let status = answer.status().as_u16();
        answer.into_body().collect().await.ok()?;
        Some(status)
    };
    tokio::time::timeout(patience, asking).await.ok().flatten()
}

/// The way to the backend, once it is known.
pub type Way = Arc<OnceLock<SocketAddr>>;

/// A gateway and a backend, and the Firedrill on both edges.
pub struct System {
    pub firedrill: Firedrill,
    pub dir: TempDir,
}

impl System {
    /// `gateway` answers for the front, and calls the backend over `way`.
    pub async fn start<G, GA, B, BA>(way: Way, gateway: G, backend: B) -> Self
    where
        G: Fn(String) -> GA + Clone + Send + Sync + 'static,
        GA: Future<Output = u16> + Send + 'static,
        B: Fn(String) -> BA + Clone + Send + Sync + 'static,
        BA: Future<Output = u16> + Send + 'static,
    {
        let (gateway, backend) = (serve(gateway).await, serve(backend).await);
        let firedrill = Firedrill::start(&format!(
            "proxies:
  - {{ name: front, from: client, to: gateway, listen: 127.0.0.1:0, upstream: {gateway}, protocol: http }}
  - {{ name: back, from: gateway, to: backend, listen: 127.0.0.1:0, upstream: {backend}, protocol: http }}
"
        ))
        .await;
        way.set(firedrill.proxy("back").await).unwrap();
        let dir = tempfile::tempdir().unwrap();
        Self { firedrill, dir }
    }

    /// A drill's file with this timeline and whatever else.
    pub fn file(&self, timeline: &str, more: &str) -> PathBuf {
        let file = self.dir.path().join("drill.yaml");
        let text = format!(
            "promise: it works
seed: 7
load: {{ http: {{ proxy: front, path: '/{{{{id}}}}', rate: 20/s, timeout: 3s }} }}
steady_state: {{ warm_up: 500ms, for: 3s }}
timeline:
{timeline}
{more}
"
        );
        std::fs::write(&file, text).unwrap();
        file
    }

    /// Begins a drill.
    pub fn begin(&self, file: &PathBuf) -> Process {
        let mut command = firedrill();
        command
            .args(["drill", "run", "--json"])
            .arg(file)
            .env("FIREDRILL_URL", &self.firedrill.url)
            .current_dir(self.dir.path())
            .stdout(std::process::Stdio::piped());
        Process::spawn(&mut command)
    }

    /// Runs a drill to its end: its exit code, and its report.
    pub async fn drill(&self, timeline: &str, more: &str) -> (i32, Report) {
        let file = self.file(timeline, more);
        let ended = self.begin(&file).finish_within(90).await;
        let report = serde_json::from_str(&ended.said);
        let report = report.unwrap_or_else(|error| panic!("{error}: {} {}", ended.said, ended.log));
        (ended.code.unwrap(), report)
    }
}

/// When a report says that all was lifted.
pub fn healed(report: &Report) -> Timestamp {
    let after = report.phases.iter().find(|p| p.name == "after").unwrap();
    report
        .started
        .plus(Duration::from_secs_f64(after.from_ms / 1e3))
}

/// One that can do so much a second; the rest waits, and is served whether or not anyone is there.
pub struct Till {
    free: Semaphore,
    service: Duration,
    waiting: AtomicUsize,
}

impl Till {
    pub fn new(a_second: f64) -> Arc<Self> {
        Arc::new(Self {
            free: Semaphore::new(1),
            service: Duration::from_secs_f64(1.0 / a_second),
            waiting: AtomicUsize::new(0),
        })
    }

    pub async fn work(&self) -> u16 {
        if self.waiting.load(SeqCst) > 300 {
            return 503;
        }
        self.waiting.fetch_add(1, SeqCst);
        let turn = self.free.acquire().await.unwrap();
        self.waiting.fetch_sub(1, SeqCst);
        tokio::time::sleep(self.service).await;
        drop(turn);
        200
    }
}

/// Calls the backend again and again at once: a metastable system, where the backend has a [`Till`].
pub async fn hasty(way: Way, tries: u64, patience: Duration) -> u16 {
    for _ in 0..tries {
        if ask(*way.get().unwrap(), "/work", patience).await == Some(200) {
            return 200;
        }
    }
    503
}

/// A system that was hurt, and takes its time once its backend is back.
pub struct Slow {
    way: Way,
    takes: Duration,
    hurt: AtomicBool,
    /// When it was well again, by its own clock.
    pub well: Mutex<Option<Timestamp>>,
}

impl Slow {
    pub fn new(way: Way, takes: Duration) -> Arc<Self> {
        Arc::new(Self {
            way,
            takes,
            hurt: AtomicBool::new(false),
            well: Mutex::new(None),
        })
    }

    pub async fn answer(self: Arc<Self>) -> u16 {
        if self.hurt.load(SeqCst) {
            return 503;
        }
        let patience = Duration::from_secs(2);
        if ask(*self.way.get().unwrap(), "/work", patience).await == Some(200) {
            return 200;
        }
        if !self.hurt.swap(true, SeqCst) {
            tokio::spawn(Arc::clone(&self).mend());
        }
        503
    }

    async fn mend(self: Arc<Self>) {
        let patience = Duration::from_secs(1);
        while ask(*self.way.get().unwrap(), "/look", patience).await != Some(200) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(self.takes).await;
        *self.well.lock().unwrap() = Some(Timestamp::now());
        self.hurt.store(false, SeqCst);
    }
}
