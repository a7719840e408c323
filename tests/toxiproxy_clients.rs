//! Toxiproxy's client libraries, as they are, against the real binary: each goes through its steps,
//! and what every toxic does is measured on a real connection.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::process::{Firedrill, Process, program, without_proxies};
use support::raw::stream;
use support::{Client, Server, here, soon, until};
use tokio::io::AsyncReadExt;

/// What scheduling may add here; a toxic adds clearly more.
const SLACK: Duration = Duration::from_millis(100);

/// Sends `text` and reads it back; how long that took.
async fn echoed(client: &mut Client, text: &[u8]) -> Duration {
    let began = Instant::now();
    client.send(text).await;
    client.expect(text).await;
    began.elapsed()
}

/// What the connections of one client's steps have in common.
#[derive(Default)]
struct Measure {
    kept: Option<Client>,
}

impl Measure {
    async fn step(&mut self, name: &str, addr: SocketAddr) {
        if name == "down" {
            assert_eq!(self.kept.take().unwrap().rest().await.0, "", "it is closed");
            let connecting =
                tokio::task::spawn_blocking(move || std::net::TcpStream::connect(addr));
            assert!(connecting.await.unwrap().is_err(), "nobody listens");
            return;
        }
        if let Some(mut kept) = self.kept.take() {
            match name {
                "released" => kept.expect("held").await,
                "closed" => assert_eq!(kept.rest().await, (String::new(), true)),
                "kept" => {
                    let took = echoed(&mut kept, b"x").await;
                    assert!(took < SLACK, "{took:?}");
                }
                other => panic!("{other} needs no connection from before"),
            }
            return;
        }
        let mut client = Client::connect(addr).await;
        let began = Instant::now();
        match name {
            "plain" => {
                // A busy machine may be late once.
                let mut least = Duration::MAX;
                for _ in 0..3 {
                    least = least.min(echoed(&mut client, b"ping").await);
                }
                assert!(least < SLACK, "{least:?}");
            }
            "latency" => {
                let took = echoed(&mut client, b"ping").await;
                let wanted = Duration::from_millis(200);
                assert!(took >= wanted && took < wanted + 2 * SLACK, "{took:?}");
            }
            "bandwidth" => {
                // At 100 kB/s.
                let took = echoed(&mut client, &stream(0, 50_000)).await;
                let wanted = Duration::from_millis(500);
                assert!(took > wanted * 9 / 10 && took < wanted * 2, "{took:?}");
            }
            "slow_close" => {
                echoed(&mut client, b"ping").await;
                let began = Instant::now();
                client.fin().await;
                assert_eq!(client.rest().await, (String::new(), true));
                let took = began.elapsed();
                let wanted = Duration::from_millis(300);
                assert!(took >= wanted && took < wanted + 2 * SLACK, "{took:?}");
            }
            "timeout" => {
                client.send("lost").await;
                assert_eq!(client.rest().await, (String::new(), true));
                let took = began.elapsed();
                assert!(
                    took >= Duration::from_millis(100) && took < 3 * SLACK,
                    "{took:?}"
                );
            }
            "reset_peer" => {
                client.send("x").await;
                let (_, fin) = client.rest().await;
                assert!(!fin, "a RST");
                let took = began.elapsed();
                assert!(
                    took > Duration::from_millis(90) && took < 3 * SLACK,
                    "{took:?}"
                );
            }
            "slicer" => {
                // Ten slices, 50 ms apart.
                let sent = stream(0, 100);
                client.send(&sent).await;
                let (mut got, mut slices) = (Vec::new(), 0);
                while got.len() < sent.len() {
                    let mut buffer = [0; 100];
                    let n = soon("a slice", client.0.read(&mut buffer)).await.unwrap();
                    assert!(n > 0);
                    got.extend_from_slice(&buffer[..n]);
                    slices += 1;
                }
                assert_eq!(got, sent);
                let took = began.elapsed();
                assert!(slices > 5, "{slices}");
                assert!(took >= Duration::from_millis(440), "{took:?}");
            }
            "limit_data" => {
                client.send(stream(0, 1000)).await;
                let mut got = Vec::new();
                soon("the end", client.0.read_to_end(&mut got))
                    .await
                    .unwrap();
                assert_eq!(got, stream(0, 100));
            }
            // Each segment is lost, and sent again, and lost.
            "packet_loss" => {
                client.send("x").await;
                client.silent_for(Duration::from_millis(300)).await;
            }
            "held" => {
                client.send("held").await;
                client.silent().await;
                self.kept = Some(client);
            }
            "keep" => {
                echoed(&mut client, b"x").await;
                self.kept = Some(client);
            }
            other => panic!("no such step: {other}"),
        }
    }
}

/// Runs a client to its end; answers the names of its steps.
async fn drive(mut command: Command) -> Vec<String> {
    let upstream = Server::echo().await;
    let firedrill = Firedrill::start("").await;
    let control = firedrill.url.trim_start_matches("http://");
    command.args([control, &upstream.addr.to_string()]);
    without_proxies(&mut command);
    let mut client = Process::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
    let mut measure = Measure::default();
    let mut steps = Vec::new();
    loop {
        let line = until("its next step", || {
            let line = client.said().lines().nth(steps.len()).map(str::to_owned);
            let ended = client.ended().is_some_and(|ended| !ended.success());
            assert!(!ended, "after {steps:?}:\n{}", client.log());
            line
        })
        .await;
        let (name, addr) = line.split_once(' ').unwrap();
        steps.push(name.to_owned());
        if name == "done" {
            assert!(client.end().await.success());
            return steps;
        }
        measure.step(name, addr.parse().unwrap()).await;
        client.tell("");
    }
}

/// Whether each of these was measured.
fn has(steps: &[String], wanted: &[&str]) {
    for name in wanted {
        assert!(steps.iter().any(|step| step == name), "{name}");
    }
}

const ALL: &[&str] = &[
    "plain",
    "latency",
    "bandwidth",
    "slow_close",
    "timeout",
    "slicer",
    "limit_data",
    "held",
    "released",
    "closed",
    "keep",
    "down",
];

#[tokio::test]
async fn the_python_client_works_as_it_is() {
    let mut command = Command::new(support::python());
    command.arg(here("tests/python/toxiproxy_client.py"));
    let steps = drive(command).await;
    has(&steps, ALL);
    has(&steps, &["reset_peer", "packet_loss", "kept"]);
}

#[tokio::test]
async fn the_node_client_works_as_it_is() {
    let mut command = program("node", "nodejs");
    command.env("NODE_PATH", here("target/node/node_modules"));
    command.arg(here("tests/node/toxiproxy.js"));
    let steps = drive(command).await;
    has(&steps, ALL);
    has(&steps, &["reset_peer", "packet_loss", "kept"]);
}

#[tokio::test]
async fn the_rust_client_works_as_it_is() {
    let steps = drive(Command::new(here("target/rust-client/debug/toxiproxy"))).await;
    has(&steps, ALL);
}
