//! With no rule on, nobody can tell: the clients of the ecosystem see the same of an origin directly
//! and through Firedrill, to the last header, error and byte.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use firedrill::evidence::Class;
use support::process::{Process, eventually, output};
use support::programs::{proxy, text};

/// A script of `tests/python`, run by the Python that `tests/run` sets up.
fn python(script: &str) -> Command {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/python/bin/python");
    assert!(
        python.exists(),
        "there is no target/python: run tests/run, or\n\
         python3 -m venv target/python && target/python/bin/pip install -r tests/python/requirements.txt"
    );
    let mut command = Command::new(python);
    command.arg(root.join("tests/python").join(script));
    for name in [
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
    ] {
        command.env_remove(name);
    }
    command
}

/// A server in Python, and the address that it prints.
struct Origin {
    addr: SocketAddr,
    _process: Process,
}

impl Origin {
    async fn start(script: &str) -> Self {
        let mut process = Process::spawn(python(script).stdout(Stdio::piped()));
        let port: u16 = eventually("its port is printed", async || {
            let ended = process.ended();
            assert!(ended.is_none(), "{ended:?}: {}", process.log());
            process.said().trim().parse().ok()
        })
        .await;
        Self {
            addr: SocketAddr::from(([127, 0, 0, 1], port)),
            _process: process,
        }
    }
}

/// What the clients of a kind say that they saw at an address, a line a case.
async fn seen(kind: &str, addr: SocketAddr) -> Vec<String> {
    let mut clients = python("clients.py");
    clients.args([kind, &addr.to_string()]);
    let output = output(clients).await;
    assert!(output.status.success(), "{output:?}");
    text(&output).lines().map(str::to_owned).collect()
}

/// Compares both ways to an origin, case by case; answers how many there were.
async fn same(kind: &str, direct: SocketAddr, through: SocketAddr) -> usize {
    let (direct, through) = (seen(kind, direct).await, seen(kind, through).await);
    for (direct, through) in direct.iter().zip(&through) {
        assert_eq!(direct, through);
    }
    assert_eq!(direct.len(), through.len());
    direct.len()
}

/// curl, `http.client`, requests, urllib3, httpx and aiohttp: every method, status, framing, header
/// and way to fail that the origin knows.
#[tokio::test(flavor = "multi_thread")]
async fn http_clients() {
    let origin = Origin::start("origin.py").await;
    let (firedrill, addr) = proxy(origin.addr, "http", "").await;
    let cases = same("http", origin.addr, addr).await;
    assert!(cases > 150, "{cases}");
    firedrill.quiet().await;
    let records = firedrill.closed(cases).await;
    let unclear: Vec<_> = records
        .iter()
        .filter(|r| r.class != Class::Acknowledged)
        .filter(|r| !["/cut", "/break", "/nothing"].contains(&r.request.path.as_deref().unwrap()))
        .collect();
    assert!(unclear.is_empty(), "{unclear:#?}");
    assert!(records.iter().all(|r| r.faults.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket() {
    let origin = Origin::start("origin.py").await;
    let (firedrill, addr) = proxy(origin.addr, "http", "").await;
    assert_eq!(same("websocket", origin.addr, addr).await, 7);
    firedrill.quiet().await;
    let record = firedrill.closed(1).await.remove(0);
    assert_eq!(record.client.status, Some(101));
    assert_eq!(record.class, Class::Acknowledged);
}
