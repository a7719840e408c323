//! The files for containers: Kubernetes' manifests are what Kubernetes takes, and what they and the
//! compose file tell Firedrill is what it understands.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use firedrill::config::{self, Config, Given};
use firedrill::rules::Protocol;
use serde_json::Value;

use support::python;

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn manifests() -> Vec<Value> {
    let files = fs::read_dir(root("configs/kubernetes")).unwrap();
    let mut files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 2);
    let mut check = Command::new(python());
    check.arg(root("tests/python/manifests.py")).args(files);
    let said = check.output().unwrap();
    let refused = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success(), "{refused}");
    let lines = String::from_utf8(said.stdout).unwrap();
    let lines = lines.lines();
    lines.map(|l| serde_json::from_str(l).unwrap()).collect()
}

fn one<'m>(manifests: &'m [Value], kind: &str, name: &str) -> &'m Value {
    let mut found = manifests
        .iter()
        .filter(|m| m["kind"] == kind && m["metadata"]["name"] == name);
    found.next().unwrap()
}

#[test]
fn kubernetes_takes_the_manifests_and_firedrill_what_they_say() {
    let all = manifests();
    assert_eq!(all.len(), 4);
    let file = one(&all, "ConfigMap", "firedrill")["data"]["firedrill.yaml"].clone();
    let config = config::parse(file.as_str().unwrap(), "firedrill.yaml").unwrap();
    let outbound = &config.proxies[0];
    assert!(outbound.is_transparent());
    let pod = &one(&all, "Deployment", "shop")["spec"]["template"]["spec"];
    let [sidecar, redirect] = &pod["initContainers"].as_array().unwrap()[..] else {
        panic!("{pod:#}");
    };
    // What is redirected arrives, and what Firedrill sends on is left alone.
    let args = redirect["args"].as_array().unwrap().iter();
    let args: Vec<_> = args.map(|arg| arg.as_str().unwrap()).collect();
    let port = outbound.listen.rsplit_once(':').unwrap().1;
    let user = sidecar["securityContext"]["runAsUser"].to_string();
    assert_eq!(args, ["up", "--to", port, "--uid", &user]);
    assert_ne!(
        pod["containers"][0]["securityContext"]["runAsUser"].to_string(),
        user
    );
    let metrics = config.metrics.unwrap().listen;
    let scraped = sidecar["ports"][0]["containerPort"].to_string();
    assert_eq!(metrics.rsplit_once(':').unwrap().1, scraped);

    let edge = &one(&all, "Deployment", "firedrill-payment")["spec"]["template"]["spec"];
    let args = edge["containers"][0]["args"].as_array().unwrap().iter();
    let args: Vec<_> = args.map(|arg| arg.as_str().unwrap()).collect();
    let ["serve", "--proxy", proxy, metrics, drain] = args[..] else {
        panic!("{args:?}");
    };
    let given = Given {
        proxies: vec![proxy.to_owned()],
        metrics: metrics.strip_prefix("--metrics=").map(str::to_owned),
        drain: drain.strip_prefix("--drain=").map(str::to_owned),
        ..Given::default()
    };
    let config = config::load_with(None, &given).unwrap();
    let edge = &config.proxies[0];
    assert_eq!(
        (edge.name.as_str(), edge.from.as_str()),
        ("payment", "shop")
    );
    assert_eq!(edge.protocol, Protocol::Http);
    let service = one(&all, "Service", "payment");
    let port = service["spec"]["ports"][0]["port"].to_string();
    assert_eq!(edge.listen, format!("0.0.0.0:{port}"));
}

#[test]
fn the_stack_has_a_proxy_for_every_name_that_it_calls() {
    let Config {
        proxies, metrics, ..
    } = config::load(&root("configs/compose/firedrill.yaml")).unwrap();
    let names: Vec<_> = proxies.iter().map(|edge| edge.name.as_str()).collect();
    assert_eq!(names, ["shop", "payment", "redis", "postgres"]);
    let scrape = fs::read_to_string(root("configs/compose/prometheus/prometheus.yml")).unwrap();
    let port = metrics.unwrap().listen;
    let port = port.rsplit_once(':').unwrap().1.to_owned();
    assert!(scrape.contains(&format!("firedrill:{port}")));
}
