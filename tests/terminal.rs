//! The command line on a terminal and in real shells: the live view, and completion that knows the
//! running instance.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::net::TcpListener;

use support::process::{Firedrill, firedrill, output, program};

const PROXIES: &str = "\
proxies:
  - { name: payment, from: checkout, to: payment, listen: 127.0.0.1:0, upstream: 127.0.0.1:1, protocol: http }
  - { name: db, from: payment, to: db, listen: 127.0.0.1:0, upstream: 127.0.0.1:1 }
";

/// Runs a program on a terminal of its own; see `tests/python/terminal.py`.
async fn on_terminal(url: &str, steps: &Value, line: &[&str]) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/terminal.py");
    let mut command = program("python3", "python3");
    command.arg(script).arg(steps.to_string()).args(line);
    // So that what a shell finds under our name is what was built.
    let bin = Path::new(env!("CARGO_BIN_EXE_firedrill")).parent().unwrap();
    let path = std::env::var("PATH").unwrap();
    command
        .env("PATH", format!("{}:{path}", bin.display()))
        .env("FIREDRILL_URL", url)
        .env_remove("FIREDRILL_TOKEN");
    let ran = tokio::task::spawn_blocking(move || command.output().unwrap());
    let ran = ran.await.unwrap();
    let stderr = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{line:?}: {stderr}");
    serde_json::from_slice(&ran.stdout).unwrap()
}

#[tokio::test]
async fn a_live_view_is_drawn_in_place_and_leaves_the_terminal_as_it_was() {
    let fire = Firedrill::start(PROXIES).await;
    let steps = json!([
        ["size", 60, 7],
        ["until", "generation"],
        ["until", "\u{1b}[H"],
        ["type", "\u{3}"],
    ]);
    let binary = env!("CARGO_BIN_EXE_firedrill");
    let line = [binary, "status", "--watch", "--every", "100ms"];
    let ended = on_terminal(&fire.url, &steps, &line).await;
    assert_eq!(ended["code"], 0, "{ended}");
    assert_eq!(ended["same"], true);
    let said = ended["said"].as_str().unwrap();
    assert!(said.starts_with("\u{1b}[?1049h\u{1b}[?25l"), "{said:?}");
    assert!(said.ends_with("\u{1b}[?25h\u{1b}[?1049l"), "{said:?}");
    let frames: Vec<_> = said.split("\u{1b}[H").skip(1).collect();
    assert!(frames.len() > 1);
    // The size may have come after the first.
    let last = frames.last().unwrap();
    assert!(last.contains("checkout -> payment"), "{last}");
    assert!(last.contains("OP/S"), "{last}");
    assert!(last.contains("more lines"), "{last}");
    for line in last.split("\r\n") {
        let text = line.split('\u{1b}').next().unwrap();
        assert!(text.chars().count() <= 60, "{text}");
    }
    assert!(last.split("\r\n").count() <= 7, "{last}");
}

#[tokio::test]
async fn without_a_terminal_it_is_printed_again_and_again() {
    let mut fire = Firedrill::start(PROXIES).await;
    let mut command = firedrill();
    command
        .args(["status", "--watch", "--every", "100ms", "--json"])
        .env("FIREDRILL_URL", &fire.url)
        .stdout(std::process::Stdio::piped());
    let watch = support::process::Process::spawn(&mut command);
    support::until("three lines", || {
        (watch.said().lines().count() >= 3).then_some(())
    })
    .await;
    fire.process.signal(rustix::process::Signal::KILL);
    fire.process.end().await;
    let ended = watch.finish().await;
    assert_eq!(ended.code, Some(1), "{}", ended.log);
    assert!(ended.log.contains("hint: "), "{}", ended.log);
    for line in ended.said.lines() {
        let status: Value = serde_json::from_str(line).unwrap();
        assert_eq!(status["proxies"][0]["name"], "payment");
    }
}

/// In two parts: the line that says it is not the prompt.
const PROMPT: &str = "PS1='REA''DY> '";

/// What a shell says that begins to edit a line.
const EDITS: &str = "\u{1b}[?2004h";

/// What is typed is what would run: so the rule and the partition say whether it was completed.
async fn shell_completes(line: &[&str], ready: &str, setup: &str) {
    let fire = Firedrill::start(PROXIES).await;
    let steps = json!([
        // It reads what is typed: before that it may throw it away.
        ["until", ready],
        ["type", format!("{setup}\r")],
        ["until", "READY> "],
        [
            "type",
            "firedrill inj\tpay\tdela\tlat\t5ms dist\tnor\t--prob\t0.5\r"
        ],
        ["until", "payment-delay: "],
        ["until", "READY> "],
        ["type", "firedrill partition che\tpay\t\r"],
        ["until", "checkout-payment: "],
        ["until", "READY> "],
        ["type", "firedrill rule of\tpayment-\t\r"],
        ["until", "payment-delay: off"],
        ["until", "READY> "],
        ["type", "exit\r"],
    ]);
    let ended = on_terminal(&fire.url, &steps, line).await;
    let rule = fire.api.rule("payment-delay").await.unwrap();
    let rule = serde_json::to_value(rule).unwrap();
    assert_eq!(
        rule["fault"],
        json!({ "delay": { "latency": "5ms", "distribution": "normal" } }),
        "{ended}"
    );
    assert_eq!(rule["probability"], 0.5);
    assert_eq!(rule["enabled"], false);
    let partition = fire.api.partition("checkout-payment").await.unwrap();
    assert!(partition.enabled);
}

#[tokio::test]
async fn bash_completes_what_the_instance_knows() {
    let line = ["bash", "--norc", "--noprofile", "-i"];
    let setup = format!("{PROMPT}; source <(firedrill completions bash)");
    shell_completes(&line, EDITS, &setup).await;
}

#[tokio::test]
async fn zsh_completes_what_the_instance_knows() {
    program("zsh", "zsh");
    let load = "autoload -U compinit; compinit -u -D; source <(firedrill completions zsh)";
    shell_completes(&["zsh", "-f", "-i"], EDITS, &format!("{PROMPT}; {load}")).await;
}

#[tokio::test]
async fn fish_completes_what_the_instance_knows() {
    program("fish", "fish");
    let prompt = "function fish_prompt; echo -n 'READY> '; end";
    let line = [
        "fish",
        "--no-config",
        "--init-command",
        prompt,
        "--interactive",
    ];
    shell_completes(&line, "READY> ", "firedrill completions fish | source").await;
}

/// What a shell is answered where the line stands so.
fn asking(url: &str, line: &str) -> Command {
    let mut command = firedrill();
    command
        .env("FIREDRILL_COMPLETE", "bash")
        .env("FIREDRILL_COMPLETE_LINE", line)
        .env("FIREDRILL_URL", url)
        .args(["--", "firedrill"]);
    command
}

async fn completed(url: &str, line: &str) -> Vec<String> {
    let answer = output(asking(url, line)).await;
    assert_eq!(String::from_utf8_lossy(&answer.stderr), "", "{line}");
    let text = String::from_utf8(answer.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn what_can_stand_there_is_offered_and_nothing_else() {
    let fire = Firedrill::start(PROXIES).await;
    fire.stdout(&["inject", "payment", "drop"]).await;
    fire.stdout(&["partition", "checkout", "payment"]).await;
    let url = &fire.url;
    for (line, offered) in [
        ("firedrill inject ", &["db", "payment"][..]),
        ("firedrill inject payment response_", &["response_loss"]),
        ("firedrill inject payment response_loss then=h", &["hang"]),
        ("firedrill inject payment delay lat", &["latency="]),
        ("firedrill rule off ", &["payment-drop"]),
        ("firedrill partition rm ", &["checkout-payment"]),
        (
            "firedrill evidence --rule ",
            &["checkout-payment", "payment-drop"],
        ),
        ("firedrill evidence --class ack", &["acknowledged"]),
        (
            "firedrill partition --isolate checkout,",
            &["checkout,db", "checkout,payment"],
        ),
        ("firedrill partition db ", &["checkout", "payment"]),
        ("firedrill schema o", &["openapi"]),
        ("firedrill status --w", &["--watch"]),
    ] {
        assert_eq!(completed(url, line).await, offered, "{line}");
    }
    let named = format!("firedrill --url {url} inject p");
    assert_eq!(completed("http://127.0.0.1:1", &named).await, ["payment"]);
}

#[tokio::test]
async fn an_instance_that_is_not_there_or_says_nothing_keeps_nobody_waiting() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    for url in ["http://127.0.0.1:1", &silent, "nonsense://"] {
        let began = Instant::now();
        assert_eq!(
            completed(url, "firedrill inject pay").await,
            [""; 0],
            "{url}"
        );
        // Far below the client's own patience, on a machine that has other things to do.
        assert!(began.elapsed() < Duration::from_secs(3), "{url}");
    }
}

/// Each page of the manual has a name, and neither of two readers finds fault with it.
#[tokio::test]
async fn manual_pages_are_read_without_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = firedrill();
    command.arg("man").arg("--out").arg(dir.path());
    let written = output(command).await;
    assert!(written.status.success());
    let written = String::from_utf8(written.stdout).unwrap();
    let pages: Vec<_> = written.lines().collect();
    assert!(pages.len() > 20, "{written}");
    for name in [
        "firedrill.1",
        "firedrill-inject.1",
        "firedrill-partition-ls.1",
    ] {
        let path = dir.path().join(name);
        assert!(pages.contains(&path.to_str().unwrap()), "{name}");
    }
    for page in pages {
        let mut lint = program("mandoc", "mandoc");
        lint.args(["-T", "lint", "-W", "warning", page]);
        let lint = output(lint).await;
        let said = String::from_utf8_lossy(&lint.stdout);
        // A date would make two builds of one source differ.
        let wrong = said.lines().find(|line| !line.contains("missing date"));
        assert_eq!(wrong, None, "{page}");
    }
    let mut one = firedrill();
    one.args(["man", "inject"]);
    let one = output(one).await;
    assert_eq!(
        String::from_utf8(one.stdout).unwrap(),
        std::fs::read_to_string(dir.path().join("firedrill-inject.1")).unwrap()
    );
}
