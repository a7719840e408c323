//! Real programs on both sides: curl and nginx, redis-cli and redis-server, nc; and a gibibyte.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use firedrill::evidence::{Class, Outcome};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use support::process::{Process, eventually, output, program};
use support::programs::*;
use support::{Server, soon};

fn curl(args: &[&str]) -> Command {
    let mut command = program("curl", "curl");
    // -q: not what the user's own file says.
    command.args(["-q", "-sS", "--noproxy", "*", "--max-time", "20"]);
    command.args(args);
    command
}

/// A TLS server that answers with each line reversed.
async fn openssl() -> Program {
    Program::start(|dir, addr| {
        let mut made = program("openssl", "openssl");
        made.args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "1"])
            .args(["-pkeyopt", "ec_paramgen_curve:prime256v1"])
            .args(["-subj", "/CN=localhost", "-keyout", "key", "-out", "cert"])
            .current_dir(dir);
        let made = made.output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let mut server = program("openssl", "openssl");
        server
            .args(["s_server", "-accept", &addr.to_string(), "-rev"])
            .args(["-key", "key", "-cert", "cert"])
            .current_dir(dir);
        server
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_and_nginx() {
    let nginx = Program::nginx("").await;
    let (firedrill, addr) = proxy(nginx.addr, "http", "").await;
    let url = |path: &str| format!("http://{addr}{path}");

    let got = output(curl(&[&url("/hello.txt")])).await;
    assert_eq!(text(&got), "hello from nginx");
    let head = text(&output(curl(&["-I", &url("/hello.txt")])).await);
    assert!(
        head.starts_with("HTTP/1.1 200 OK") && head.contains("Content-Length: 17"),
        "{head}"
    );
    let range = output(curl(&[
        "-r",
        "5-8",
        "-w",
        " %{http_code}",
        &url("/digits.txt"),
    ]))
    .await;
    assert_eq!(text(&range), "5678 206");
    let none = output(curl(&[
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        &url("/none"),
    ]))
    .await;
    assert_eq!(text(&none), "404");
    let posted = curl(&[
        "-d",
        "a=b",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        &url("/hello.txt"),
    ]);
    assert_eq!(
        text(&output(posted).await),
        "405",
        "nginx's word, not the proxy's"
    );

    let records = firedrill.closed(5).await;
    let seen: Vec<_> = records
        .iter()
        .map(|r| {
            (
                r.request.method.as_deref().unwrap(),
                r.client.status.unwrap(),
                r.class,
            )
        })
        .collect();
    let acknowledged = |method, status| (method, status, Class::Acknowledged);
    assert_eq!(
        seen,
        [
            ("GET", 200),
            ("HEAD", 200),
            ("GET", 206),
            ("GET", 404),
            ("POST", 405)
        ]
        .map(|(method, status)| acknowledged(method, status))
    );
    firedrill.quiet().await;
    let log = fs::read_to_string(nginx.dir.path().join("access.log")).unwrap();
    assert_eq!(log.lines().count(), 5, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_urls_in_one_curl_use_one_connection_on_both_sides() {
    let nginx = Program::nginx("").await;
    let (firedrill, addr) = proxy(nginx.addr, "http", "").await;
    let (one, two) = (
        format!("http://{addr}/hello.txt"),
        format!("http://{addr}/digits.txt"),
    );
    let got = output(curl(&["-w", "[%{num_connects}]", &one, &two])).await;
    let got = text(&got);
    assert!(got.contains("nginx\n[1]") && got.ends_with("[0]"), "{got}");
    assert_eq!(firedrill.closed(2).await.len(), 2);
    assert_eq!(
        firedrill.metric("firedrill_connections_total", &[]).await,
        1
    );
    let log = eventually("both are logged", async || {
        let log = fs::read_to_string(nginx.dir.path().join("access.log")).unwrap();
        (log.lines().count() == 2).then_some(log)
    })
    .await;
    let connections: Vec<_> = log.lines().map(|l| l.split(' ').next().unwrap()).collect();
    assert_eq!(connections[0], connections[1], "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_sees_faults_as_such() {
    let nginx = Program::nginx("").await;
    let (firedrill, addr) = proxy(nginx.addr, "http", "").await;
    let url = format!("http://{addr}/hello.txt");
    // curl's own exit codes: 52 an empty answer, 56 a reset, 28 a timeout.
    for (kind, params, code) in [
        ("response_loss", "then=close", 52),
        ("response_loss", "then=reset", 56),
        ("response_loss", "then=hang", 28),
        ("drop", "then=close", 52),
        ("drop", "then=reset", 56),
    ] {
        firedrill
            .stdout(&["inject", "p", kind, params, "--name", "fault"])
            .await;
        let met = output(curl(&["--max-time", "0.5", &url])).await;
        assert_eq!(met.status.code(), Some(code), "{kind} {params}: {met:?}");
        firedrill.stdout(&["rule", "rm", "fault"]).await;
    }
    let fine = output(curl(&[&url])).await;
    assert_eq!(text(&fine), "hello from nginx");
    firedrill.quiet().await;
    let log = fs::read_to_string(nginx.dir.path().join("access.log")).unwrap();
    assert_eq!(
        log.lines().count(),
        4,
        "three lost answers and one that came: {log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_of_nginx_is_the_same_through_both_modes() {
    let nginx = Program::nginx("").await;
    let file = noise(64 << 20);
    fs::write(nginx.dir.path().join("root/noise.bin"), &file).unwrap();
    for protocol in ["http", "tcp"] {
        let (firedrill, addr) = proxy(nginx.addr, protocol, "").await;
        let got = nginx.dir.path().join("got.bin");
        let url = format!("http://{addr}/noise.bin");
        let ended = output(curl(&["-o", got.to_str().unwrap(), &url])).await;
        assert!(ended.status.success(), "{ended:?}");
        assert!(fs::read(&got).unwrap() == file);
        let record = firedrill.closed(1).await.remove(0);
        assert_eq!(record.class, Class::Acknowledged);
        assert!(record.client.bytes > 64 << 20);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_and_an_increment_whose_answer_is_lost() {
    let redis = Program::redis().await;
    let (firedrill, addr) = proxy(redis.addr, "tcp", "").await;
    let ask = async |args: &[&str]| text(&output(redis_cli(addr, args)).await);
    let truth = async |args: &[&str]| text(&output(redis_cli(redis.addr, args)).await);
    assert_eq!(ask(&["SET", "colour", "blue"]).await, "OK");
    assert_eq!(ask(&["GET", "colour"]).await, "blue");
    assert_eq!(ask(&["INCR", "n"]).await, "1");

    firedrill
        .stdout(&["inject", "p", "response_loss", "--name", "lost"])
        .await;
    let mut waiting = Process::spawn(redis_cli(addr, &["INCR", "n"]).stdout(Stdio::piped()));
    eventually("the server has counted", async || {
        (truth(&["GET", "n"]).await == "2").then_some(())
    })
    .await;
    eventually("the answer is lost", async || {
        (firedrill.rule("lost").await.standing.injected == 1).then_some(())
    })
    .await;
    assert_eq!(waiting.ended(), None, "the client sees no answer");
    firedrill.stdout(&["heal"]).await;
    assert!(!waiting.end().await.success(), "its connection is closed");
    assert_eq!(
        ask(&["GET", "n"]).await,
        "2",
        "done once, and nobody was told"
    );

    let unseen = firedrill
        .stdout(&["evidence", "--class", "unseen", "--json"])
        .await;
    assert_eq!(unseen.lines().count(), 1);
    let records = firedrill.closed(5).await;
    let outcomes: Vec<_> = records.iter().map(|r| r.client.outcome).collect();
    let (told, lost) = (Outcome::Answered, Outcome::Closed);
    assert_eq!(outcomes, [told, told, told, lost, told]);
    firedrill.quiet().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_of_redis() {
    const KEYS: usize = 20_000;
    let redis = Program::redis().await;
    let (firedrill, addr) = proxy(redis.addr, "tcp", "").await;
    let mut commands = tempfile::tempfile().unwrap();
    for n in 0..KEYS {
        write!(commands, "SET key-{n} value-{n}\r\n").unwrap();
    }
    std::io::Seek::rewind(&mut commands).unwrap();
    let mut pipe = redis_cli(addr, &["--pipe"]);
    pipe.stdin(commands);
    let said = output(pipe).await;
    assert!(
        text(&said).contains(&format!("errors: 0, replies: {KEYS}")),
        "{said:?}"
    );
    assert_eq!(
        text(&output(redis_cli(addr, &["DBSIZE"])).await),
        KEYS.to_string()
    );
    let last = format!("key-{}", KEYS - 1);
    assert_eq!(
        text(&output(redis_cli(addr, &["GET", &last])).await),
        format!("value-{}", KEYS - 1)
    );
    firedrill.quiet().await;
}

/// What a TLS client that asks for this host gets for a line.
async fn reversed(addr: SocketAddr, host: &str) -> String {
    let mut client = program("openssl", "openssl");
    client
        .args(["s_client", "-connect", &addr.to_string(), "-quiet"])
        .args(["-servername", host])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let asking = tokio::task::spawn_blocking(move || {
        let mut client = client.spawn().unwrap();
        // It stays open: at its end the client would leave.
        let mut input = client.stdin.take().unwrap();
        input.write_all(b"live\n").unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(client.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        client.kill().unwrap();
        client.wait().unwrap();
        line
    });
    soon("an answer, or an end", asking).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_to_one_host_is_reset_and_to_others_passes() {
    let server = openssl().await;
    let (firedrill, addr) = proxy(server.addr, "tcp", "").await;
    let inject = "inject p reset --name hosts --sni *.Example.com --client 127.0.0.0/8 --limit 1";
    let made = firedrill
        .stdout(&inject.split(' ').collect::<Vec<_>>())
        .await;
    assert!(made.starts_with("hosts: reset on p, until "), "{made}");
    for (host, answer) in [
        ("example.org", "evil\n"),
        ("pay.example.com", ""),
        // The limit is reached.
        ("pay.example.com", "evil\n"),
    ] {
        assert_eq!(reversed(addr, host).await, answer, "{host}");
    }
    let records = firedrill.closed(3).await;
    let seen: Vec<_> = records
        .iter()
        .map(|r| (r.class, r.client.outcome, r.faults.len()))
        .collect();
    assert_eq!(seen[1], (Class::NeverDelivered, Outcome::Reset, 1));
    assert!(seen[0].2 == 0 && seen[2].2 == 0, "{seen:?}");
    let rule = firedrill.rule("hosts").await;
    assert_eq!((rule.standing.selected, rule.standing.injected), (1, 1));
}

/// `nc -N` sends a FIN after its input, and still wants the answer.
#[tokio::test(flavor = "multi_thread")]
async fn the_half_close_of_nc() {
    let server = Server::start(|mut c| async move {
        let mut all = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            match c.read(&mut buffer).await? {
                0 => break,
                n => all.extend_from_slice(&buffer[..n]),
            }
        }
        all.reverse();
        c.socket.write_all(&all).await
    })
    .await;
    let (firedrill, addr) = proxy(server.addr, "tcp", "").await;
    let mut nc = program("nc", "netcat-openbsd");
    nc.args(["-N", "-w", "10", "127.0.0.1", &addr.port().to_string()]);
    let mut input = tempfile::tempfile().unwrap();
    input.write_all(b"madam, I'm adam").unwrap();
    std::io::Seek::rewind(&mut input).unwrap();
    nc.stdin(input);
    let said = output(nc).await;
    assert!(said.status.success(), "{said:?}");
    assert_eq!(text(&said), "mada m'I ,madam");
    let record = firedrill.closed(1).await.remove(0);
    assert_eq!(
        (record.class, record.client.outcome),
        (Class::Acknowledged, Outcome::Answered)
    );
    firedrill.quiet().await;
}

/// A block of the gibibyte: random bytes, and which block it is.
fn stamp(block: &mut [u8], n: u64) {
    block[..8].copy_from_slice(&n.to_le_bytes());
}

const BLOCK: usize = 1 << 20;
const BLOCKS: u64 = 1024;

#[tokio::test(flavor = "multi_thread")]
async fn a_gibibyte_is_the_same_to_the_last_byte() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n";
    let server = Server::start(|mut c| async move {
        c.request().await?;
        c.socket.write_all(HEAD.as_bytes()).await?;
        let mut block = noise(BLOCK);
        for n in 0..BLOCKS {
            stamp(&mut block, n);
            c.socket.write_all(&block).await?;
        }
        Ok(())
    })
    .await;
    for protocol in ["http", "tcp"] {
        let (firedrill, addr) = proxy(server.addr, protocol, "").await;
        let began = Instant::now();
        let mut client = TcpStream::connect(addr).await.unwrap();
        client
            .write_all(b"GET /all HTTP/1.1\r\nHost: p\r\n\r\n")
            .await
            .unwrap();
        let mut head = [0; HEAD.len()];
        client.read_exact(&mut head).await.unwrap();
        assert_eq!(head, HEAD.as_bytes());
        let (mut expected, mut got) = (noise(BLOCK), vec![0; BLOCK]);
        for n in 0..BLOCKS {
            soon("a block", client.read_exact(&mut got)).await.unwrap();
            stamp(&mut expected, n);
            assert!(got == expected, "{protocol}: block {n} differs");
        }
        let took = began.elapsed();
        drop(client);
        let record = firedrill.closed(1).await.remove(0);
        assert_eq!(record.class, Class::Acknowledged, "{record:?}");
        let whole = BLOCKS * BLOCK as u64 + HEAD.len() as u64;
        assert_eq!(
            (record.client.bytes, record.upstream[0].bytes),
            (whole, whole)
        );
        let label = "direction=\"downstream\"";
        assert_eq!(
            firedrill.metric("firedrill_bytes_total", &[label]).await,
            whole
        );
        firedrill.quiet().await;
        assert!(took < Duration::from_secs(60), "{took:?}");
        println!("{protocol}: 1 GiB in {took:?}");
    }
}
