//! What a container gives `serve`: flags, an environment, a file with variables; and what it asks
//! of it: to be ready, to say so, to log in its own way. The real binary.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::fs;
use std::process::{Command, Output};

use firedrill::evidence::Class;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use support::process::{Firedrill, Process, eventually, firedrill, output};
use support::{Client, Server, get, soon, until};

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

async fn run(args: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = firedrill();
    command.args(args).envs(environment.iter().copied());
    output(command).await
}

/// `firedrill serve`, in a directory in which there is no file.
fn serve(args: &[&str]) -> (Command, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let mut serve = firedrill();
    serve.arg("serve").args(args).current_dir(&dir);
    (serve, dir)
}

#[tokio::test]
async fn a_proxy_by_a_flag_alone_starts_before_its_upstream() {
    // A port of one's own on which nobody listens yet.
    let later = TcpSocket::new_v4().unwrap();
    later.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let upstream = later.local_addr().unwrap();
    let spec = format!("pay=127.0.0.1:0->{upstream}?protocol=http&from=shop");
    let (mut serve, dir) = serve(&["--control", "127.0.0.1:0", "--proxy", &spec]);
    let mut firedrill = Firedrill::start_by(&mut serve, dir).await;
    let url = firedrill.url.clone();
    let health = run(&["health", "--url", &url], &[]).await;
    assert_eq!(text(&health.stdout), "ready\n");
    assert_eq!(health.status.code(), Some(0));

    let proxy = firedrill.proxy("pay").await;
    let mut early = Client::connect(proxy).await;
    early.send(get("/early")).await;
    let records = firedrill.closed(1).await;
    assert_eq!(records[0].class, Class::NeverDelivered);
    let ends = (&*records[0].from, &*records[0].to);
    assert_eq!(ends, ("shop", "pay"));

    let later = later.listen(16).unwrap();
    let mut client = Client::connect(proxy).await;
    client.send(get("/late")).await;
    let (mut served, _) = soon("the proxy dials", later.accept()).await.unwrap();
    let mut head = [0; 512];
    let n = served.read(&mut head).await.unwrap();
    assert!(head[..n].starts_with(b"GET /late HTTP/1.1\r\n"));
    served
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        .await
        .unwrap();
    assert!(client.answer().await.contains("200 OK"));
    drop((client, served));

    firedrill.process.signal(Signal::TERM);
    assert_eq!(firedrill.process.end().await.code(), Some(0));
    let health = run(&["health", "--url", &url], &[]).await;
    assert_eq!(health.status.code(), Some(1), "{health:?}");
    assert!(text(&health.stderr).starts_with("error: can't connect to"));
}

#[tokio::test]
async fn an_environment_alone_says_what_runs() {
    let server = Server::http().await;
    let (mut serve, dir) = serve(&[]);
    let token = dir.path().join("token");
    fs::write(&token, "a-token-that-is-long-enough\n").unwrap();
    let proxies = format!(
        "\n  a=127.0.0.1:0->{0}\n  b=127.0.0.1:0->{0}?protocol=http\n",
        server.addr
    );
    serve
        .env("FIREDRILL_PROXY", proxies)
        .env("FIREDRILL_CONTROL", "0.0.0.0:0")
        .env("FIREDRILL_TOKEN_FILE", &token)
        .env("FIREDRILL_METRICS", "127.0.0.1:0")
        .env("FIREDRILL_DRAIN", "1s");
    let firedrill = Firedrill::start_by(&mut serve, dir).await;
    let url = firedrill.url.replace("0.0.0.0", "127.0.0.1");
    // Who asks whether it is well needs no token; all else does.
    let health = run(&["health", "--url", &url], &[]).await;
    assert_eq!(health.status.code(), Some(0), "{health:?}");
    let refused = run(&["status", "--url", &url], &[]).await;
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let here = [("FIREDRILL_TOKEN_FILE", token.to_str().unwrap())];
    let status = run(&["status", "--json", "--url", &url], &here).await;
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    let names = status["proxies"].as_array().unwrap().iter();
    let names: Vec<_> = names.map(|p| (&p["name"], &p["protocol"])).collect();
    assert_eq!(
        serde_json::json!(names),
        serde_json::json!([["a", "tcp"], ["b", "http"]])
    );
}

#[tokio::test]
async fn the_command_line_beats_the_environment_and_an_empty_one_says_nothing() {
    let (mut serve, dir) = serve(&["--control", "127.0.0.1:0", "--proxy", "a=127.0.0.1:0->x:1"]);
    serve
        .env("FIREDRILL_CONTROL", "nonsense")
        .env("FIREDRILL_PROXY", "b=127.0.0.1:0->x:1")
        .env("FIREDRILL_METRICS", "")
        .env("FIREDRILL_DRAIN", "")
        .env("FIREDRILL_WITHOUT_TOKEN", "false");
    let firedrill = Firedrill::start_by(&mut serve, dir).await;
    let proxies = firedrill.api.proxies().await.unwrap().items;
    assert_eq!(proxies.len(), 1);
    assert_eq!(proxies[0].name, "a");
}

#[tokio::test]
async fn variables_in_the_file_come_from_the_environment() {
    let (mut serve, dir) = serve(&[]);
    let file = "\
control: { listen: \"127.0.0.1:${CONTROL_PORT}\" }
proxies:
  - name: ${NAME:-payment}
    listen: 127.0.0.1:0
    upstream: ${UPSTREAM}
";
    fs::write(dir.path().join("firedrill.yaml"), file).unwrap();
    let refused = output({
        let mut serve = firedrill();
        serve
            .arg("serve")
            .current_dir(&dir)
            .env("CONTROL_PORT", "0");
        serve
    })
    .await;
    assert_eq!(refused.status.code(), Some(2));
    assert_eq!(
        text(&refused.stderr),
        "firedrill.yaml:5:15: proxies[0].upstream: the variable `UPSTREAM` is not set\n  \
         hint: set it, or give it a default: `${UPSTREAM:-default}`\n"
    );
    serve
        .env("CONTROL_PORT", "0")
        .env("UPSTREAM", "payment.internal:8080");
    let firedrill = Firedrill::start_by(&mut serve, dir).await;
    let proxy = firedrill.api.proxy("payment").await.unwrap();
    assert_eq!(proxy.upstream, "payment.internal:8080");
    // Read again, it says the same.
    let reloaded = firedrill.api.reload().await.unwrap();
    assert!(reloaded.changed.is_empty() && reloaded.restart.is_empty());
}

/// The lines of a log, each of them an object.
fn objects(log: &str) -> Vec<Value> {
    let lines = log.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

#[tokio::test]
async fn a_log_as_json_is_nothing_but_json() {
    let args = [
        "--control",
        "127.0.0.1:0",
        "--proxy",
        "a=127.0.0.1:0->127.0.0.1:1",
    ];
    let (mut serve, _dir) = serve(&args);
    serve.env("FIREDRILL_LOG_FORMAT", "json");
    let process = Process::spawn(&mut serve);
    let url = until("the control API is up", || {
        let log = process.log();
        let all = objects(&log);
        let said = all.iter().filter_map(|line| line["message"].as_str());
        let mut said = said.filter_map(|line| line.strip_prefix("control API on "));
        Some(said.next_back()?.split(',').next()?.to_owned())
    })
    .await;
    let api = firedrill::client::Client::new(&url, None).unwrap();
    let listen = api.proxy("a").await.unwrap().listen;
    let _client = Client::connect(listen.parse().unwrap()).await;
    let failed = eventually("a dial fails", async || {
        let lines = objects(&process.log());
        lines.into_iter().find(|line| line["level"] == "WARN")
    })
    .await;
    assert_eq!(failed["proxy"], "a");
    assert_eq!(failed["upstream"], "127.0.0.1:1");
    assert!(failed["timestamp"].as_str().unwrap().ends_with('Z'));
    process.signal(Signal::TERM);
    let ended = process.finish().await;
    assert_eq!(ended.code, Some(0));
    assert_eq!(ended.said, "");
    let said = objects(&ended.log);
    let stopping = "stopping; a second signal ends it at once";
    assert!(said.iter().any(|line| line["message"] == stopping));
}

#[tokio::test]
async fn what_ends_it_is_said_in_the_log_s_own_way() {
    let (mut serve, dir) = serve(&["--log-format", "json"]);
    fs::write(dir.path().join("firedrill.yaml"), "seed: x\nsede: 1\n").unwrap();
    let refused = output({
        serve.current_dir(&dir);
        serve
    })
    .await;
    assert_eq!(refused.status.code(), Some(2));
    let problems = objects(text(&refused.stderr));
    let places = problems
        .iter()
        .map(|p| (&p["file"], &p["line"], &p["column"], &p["path"]));
    let places: Vec<_> = places.collect();
    assert_eq!(
        serde_json::json!(places),
        serde_json::json!([
            ["firedrill.yaml", 1, 7, "seed"],
            ["firedrill.yaml", 2, 1, "sede"]
        ])
    );
    assert!(problems.iter().all(|p| p["level"] == "ERROR"));

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap().to_string();
    let args = [
        "serve",
        "--log-format=json",
        "--control",
        &at,
        "--proxy",
        "a=127.0.0.1:0->a:1",
    ];
    let refused = run(&args, &[]).await;
    assert_eq!(refused.status.code(), Some(1));
    let said = objects(text(&refused.stderr)).pop().unwrap();
    let message = said["message"].as_str().unwrap();
    assert!(
        message.starts_with("control.listen: can't listen on"),
        "{message}"
    );
    assert!(said["hint"].is_string());
}
