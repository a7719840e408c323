//! The document of the API is one, and says of the running process what is so: a fuzzer that it
//! drives meets no answer that it does not describe.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

use support::process::{Firedrill, Process, output};
use support::programs::text;
use support::{Client, Server, get, python};

/// For the fuzzer; CI has it once.
const SECONDS: &str = "30";

/// What a program of the Python that `tests/run` sets up is called with.
fn program(name: &str) -> Command {
    let path = python().with_file_name(name);
    let mut command = Command::new(path);
    command.stdin(Stdio::null()).env("NO_COLOR", "1");
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_valid_and_the_same_from_the_command_line() {
    let firedrill = Firedrill::start("").await;
    let printed: Value =
        serde_json::from_str(&firedrill.stdout(&["schema", "openapi"]).await).unwrap();
    let file = firedrill.path("openapi.json");
    let mut curl = support::process::program("curl", "curl");
    curl.args(["-q", "-sS", "--noproxy", "*", "-o"]).arg(&file);
    curl.arg(format!("{}/v1/openapi.json", firedrill.url));
    assert!(output(curl).await.status.success());
    let served: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(printed, served);
    let mut validator = program("openapi-spec-validator");
    validator.arg(&file);
    let validated = output(validator).await;
    assert!(validated.status.success(), "{}", text(&validated));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fuzzer_finds_no_answer_that_is_not_described_and_succeeds_everywhere() {
    let upstream = Server::http().await;
    let firedrill = Firedrill::start(&format!(
        "proxies:\n\
         - {{ name: payment, from: checkout, listen: 127.0.0.1:0, upstream: {0}, protocol: http }}\n\
         - {{ name: gone, from: orders, listen: 127.0.0.1:0, upstream: 127.0.0.1:1 }}\n\
         rules:\n\
         - {{ name: late, proxies: [payment], fault: {{ delay: {{ latency: 1ms }} }} }}\n",
        upstream.addr
    ))
    .await;
    // Records of several sorts to be told of.
    let mut client = Client::connect(firedrill.proxy("payment").await).await;
    client.send(get("/authorize/1")).await;
    client.answer().await;
    drop(Client::connect(firedrill.proxy("gone").await).await);
    drop(client);
    firedrill.closed(2).await;

    // Not from where it is served: that route would be left out.
    let document = firedrill.stdout(&["schema", "openapi"]).await;
    let file = firedrill.path("openapi.json");
    fs::write(&file, &document).unwrap();
    let reached = firedrill.path("reached");
    let mut fuzzer = program("schemathesis");
    fuzzer
        .args(["run", "openapi.json", "--url", &firedrill.url])
        .args(["--checks", CHECKS, "--max-time", SECONDS, "--seed", "42"])
        .args(["--suppress-health-check", "all", "--request-timeout", "10"])
        .args(["--continue-on-failure", "--no-shrink"])
        .args(["--exclude-path", ENDLESS])
        .env("SCHEMATHESIS_HOOKS", "api_hooks")
        .env(
            "PYTHONPATH",
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python"),
        )
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("FIREDRILL_URL", &firedrill.url)
        .env("FIREDRILL_REACHED", &reached)
        .env("NO_PROXY", "*")
        // It keeps what it finds.
        .current_dir(reached.parent().unwrap())
        .stdout(Stdio::piped());
    let fuzzed = Process::spawn(&mut fuzzer).finish_within(120).await;
    assert_eq!(fuzzed.code, Some(0), "{}\n{}", fuzzed.said, fuzzed.log);
    println!("{}", fuzzed.said);

    let document: Value = serde_json::from_str(&document).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let all: BTreeSet<String> = paths
        .iter()
        .flat_map(|(path, item)| {
            let verbs = item.as_object().unwrap().keys();
            verbs.map(move |verb| format!("{} {path}", verb.to_uppercase()))
        })
        .collect();
    let reached = fs::read_to_string(reached).unwrap();
    let reached: BTreeSet<String> = reached.lines().map(str::to_owned).collect();
    let never: Vec<_> = all.difference(&reached).collect();
    assert_eq!(never, [&format!("GET {ENDLESS}")], "no success of these");
}

/// Its answer has no end, so that a fuzzer can't tell that it was right: `tests/control.rs` does.
const ENDLESS: &str = "/v1/events";

const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_headers_conformance,response_schema_conformance,\
                      unsupported_method,allow_header_conformance,lines_are_records";
