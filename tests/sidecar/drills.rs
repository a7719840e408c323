//! The drills that come with Firedrill, as they are, on the story's services in containers.
//!
//! `DRILLS=all cargo test --test sidecar` runs all of them; else one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use firedrill::drill::report::Report;
use firedrill::drill::verdict::{Outcome, Recovery};

use super::support::docker::{Docker, run as run_to_end};
use super::{IMAGE, healthy, root};

/// Each, and how it ends.
const DRILLS: [(&str, Outcome, Recovery); 5] = [
    ("lost-payment-response", Outcome::Held, Recovery::Recovered),
    ("slow-dependency", Outcome::Held, Recovery::Recovered),
    ("partition", Outcome::Held, Recovery::Recovered),
    ("retry-storm", Outcome::Broken, Recovery::Metastable),
    ("retry-calm", Outcome::Held, Recovery::Recovered),
];

pub(super) async fn run(docker: &Docker) {
    let folder = docker.folder("drills");
    let reports = folder.join("reports");
    fs::create_dir(&reports).unwrap();
    fs::set_permissions(&reports, fs::Permissions::from_mode(0o777)).unwrap();
    let names = [
        "firedrill",
        "drill",
        "web",
        "inventory",
        "payment",
        "orders",
        "email",
    ];
    let image = |name: &&str| format!("{name}: {{ image: {IMAGE} }}");
    let images: Vec<_> = names.iter().map(image).collect();
    let images = format!("services: {{ {} }}\n", images.join(", "));
    let ours = folder.join("images.yaml");
    fs::write(&ours, images).unwrap();
    let compose = |args: &[&str]| -> Command {
        let file = root("configs/demo/compose.yaml");
        let mut command = docker.compose("fddrills", &[file, ours.clone()]);
        command
            .env("REPORTS", &reports)
            .env("WEB_PORT", "127.0.0.1:");
        command.args(args);
        command
    };
    let up = ["up", "-d", "--no-build"];
    let how_many = match std::env::var("DRILLS").is_ok_and(|which| which == "all") {
        true => DRILLS.len(),
        false => 1,
    };
    for (name, outcome, recovery) in &DRILLS[..how_many] {
        // Each on services that have seen nothing before.
        run_to_end(compose(&up)).await.well();
        let id = run_to_end(compose(&["ps", "-q", "firedrill"])).await.well();
        healthy(docker, id.trim()).await;
        let report = drill(&compose, name).await;
        let told = format!(
            "{name}: {} {} {:?}",
            report.outcome, report.reason, report.recovery
        );
        println!("{told}");
        assert_eq!(report.outcome, *outcome, "{told}");
        let recovered = report.recovery.as_ref().unwrap();
        assert_eq!(recovered.verdict, *recovery, "{told}");
        assert!(report.faults[0].injected > 5, "{told}");
        assert_eq!(report.edges.len(), 5, "{told}");
        run_to_end(compose(&["down"])).await.well();
        let page = fs::read_to_string(reports.join("report.html")).unwrap();
        assert!(page.contains(name), "{told}");
    }
}

/// Runs one. Where this machine was too busy for it, that is said, and it is run again.
async fn drill(compose: &impl Fn(&[&str]) -> Command, name: &str) -> Report {
    let file = format!("{name}.yaml");
    let args = [
        "run", "--rm", "drill", "run", &file, "--json", "--report", "/reports",
    ];
    for _ in 0..3 {
        let ended = run_to_end(compose(&args)).await;
        let report: Report = serde_json::from_str(&ended.stdout)
            .unwrap_or_else(|error| panic!("{error}: {} {}", ended.stdout, ended.stderr));
        assert_eq!(
            ended.code,
            Some(i32::from(report.exit_code)),
            "{}",
            ended.stderr
        );
        let busy = |note: &String| note.contains("too busy");
        if report.outcome != Outcome::Inconclusive && !report.notes.iter().any(busy) {
            return report;
        }
    }
    panic!("{name}: this machine is too busy for drills");
}
