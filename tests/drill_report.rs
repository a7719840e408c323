//! Reports: that they say what the JSON says, in a real browser, and that what comes from traffic is text.
#![allow(clippy::expect_used, clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use firedrill::clock::Timestamp;
use firedrill::drill::report::{
    About, Amplified, Edge, Fault, Instance, Judged, Latency, Load, Promise, Proof, Recovered,
    Report, Residue, SHAPE, Sent, Series, Step, Stories, Stretch, Teller, Told, Well, compare,
    html, junit, markdown, schema, summary,
};
use firedrill::drill::verdict::{Outcome, Recovery, Verdict};
use firedrill::evidence::RecordId;
use firedrill::evidence::findings::{self, Finding, Subject};
use serde_json::{Value, json};
use support::process::{output, program};

/// A report in which every text is this one, with a number behind it.
fn report(text: &str) -> Report {
    let mut n = 0;
    let mut t = || {
        n += 1;
        format!("{text}{n}")
    };
    let stretch = |name: &str, from_ms, to_ms| Stretch {
        name: name.to_owned(),
        from_ms,
        to_ms,
    };
    let well = |share| Well {
        operations: 100,
        share,
        goodput: 20.0 * share,
        p50_ms: 12.5,
        p99_ms: 250.0,
    };
    let wave = |n: usize| (n as f64 / 5.0).sin().abs() * 40.0;
    let steps = 80;
    let series = Series {
        step_ms: 250.0,
        from_ms: 1_000.0,
        offered: (0..steps).map(|n| 20.0 + (n % 3) as f64).collect(),
        goodput: (0..steps)
            .map(|n| if (24..48).contains(&n) { 4.0 } else { 20.0 })
            .collect(),
        errors: (0..steps)
            .map(|n| if (24..48).contains(&n) { 16.0 } else { 0.0 })
            .collect(),
        p50_ms: (0..steps).map(|n| (n % 10 != 3).then(|| wave(n))).collect(),
        p99_ms: (0..steps).map(|n| Some(wave(n) * 30.0 + 1.0)).collect(),
        retries: vec![0.0; steps],
    };
    let id = |n| RecordId { run: 0xabc, n };
    let recovered = Recovered {
        verdict: Recovery::Metastable,
        reason: t(),
        noticed: true,
        first_good_ms: Some(850.0),
        steady_ms: None,
        offered_before: 20.0,
        offered_after: 20.1,
        before: well(1.0),
        during: well(0.2),
        after: well(0.0),
        amplified: Some(Amplified {
            proxy: t(),
            before: 1.0,
            after: 3.9,
        }),
    };
    Report {
        shape: SHAPE,
        version: t(),
        drill: About {
            name: t(),
            file: t(),
            promise: t(),
            participants: vec![t(), t()],
            facts: BTreeMap::from([(t(), vec![t(), t()])]),
            unknowns: vec![t()],
            repair: vec![t()],
        },
        seed: 42,
        again: t(),
        started: Timestamp(1_700_000_000_000_000),
        ended: Timestamp(1_700_000_021_000_000),
        outcome: Outcome::Broken,
        exit_code: 1,
        reason: t(),
        instances: vec![Instance {
            url: t(),
            version: t(),
            seed: 7,
            clock_ahead_ms: 0.0,
        }],
        phases: vec![stretch("before", 1_000.0, 6_000.0)],
        steady: Judged {
            verdict: Verdict::Held,
            reason: t(),
        },
        faults: vec![Fault {
            name: t(),
            sort: "rule".to_owned(),
            kind: t(),
            definition: json!({ "name": t() }),
            on: vec![stretch(&t(), 7_000.0, 13_000.0)],
            drawn: false,
            selected: 12,
            injected: 11,
        }],
        timeline: vec![Step {
            at_ms: 7_000.0,
            what: t(),
            error: Some(t()),
        }],
        load: Load {
            source: "http".to_owned(),
            proxies: vec![t()],
            sent: Some(Sent {
                due: 400,
                not_started: 1,
                good: 300,
                outcomes: BTreeMap::from([(t(), 3)]),
                late_ms: [0.1, 2.0, 3.0],
            }),
            command: Some(t()),
            latency: vec![Latency {
                stretch: t(),
                count: 10,
                mean_ms: 1.0,
                p50_ms: 1.0,
                p75_ms: 2.0,
                p90_ms: 3.0,
                p95_ms: 4.0,
                p99_ms: 5.0,
                p99_9_ms: 1_500.0,
                max_ms: 130_000.0,
            }],
        },
        promises: [Verdict::Held, Verdict::Broken, Verdict::Inconclusive]
            .map(|verdict| Promise {
                name: t(),
                check: t(),
                when: t(),
                verdict,
                reason: t(),
                samples: 3,
                measured: Some(0.5),
                records: vec![Proof {
                    proxy: t(),
                    id: id(17),
                }],
            })
            .to_vec(),
        recovery: Some(recovered.clone()),
        edges: vec![Edge {
            proxy: t(),
            from: t(),
            to: t(),
            operations: 40,
            retries: 2,
            classes: BTreeMap::from([(t(), 40)]),
            recovery: Some(recovered),
            residue: Some(Residue {
                state: "residue".to_owned(),
                said: t(),
            }),
        }],
        series,
        operations: vec![Stories {
            id: t(),
            why: t(),
            customer: Teller {
                name: t(),
                facts: vec![Told {
                    at_ms: 1.0,
                    what: t(),
                }],
            },
            participants: vec![Teller {
                name: t(),
                facts: vec![Told {
                    at_ms: 2.0,
                    what: t(),
                }],
            }],
            faults: vec![Told {
                at_ms: 3.0,
                what: t(),
            }],
            unknown: vec![t()],
        }],
        findings: vec![Finding {
            finding: t(),
            subject: Subject {
                from: t(),
                to: t(),
                caller: None,
            },
            verdict: findings::Verdict::Yes,
            detail: json!({ t(): t(), "n": 3 }).as_object().unwrap().clone(),
            records: vec![id(3)],
        }],
        not_lifted: vec![t()],
        cleanup: Vec::new(),
        notes: vec![t()],
    }
}

/// Opens a report in Chromium, and answers what came of it.
async fn browse(report: &Report, folder: &Path) -> Value {
    let page = folder.join("report.html");
    std::fs::write(&page, html(report)).unwrap();
    let chromium = program("chromium", "chromium");
    let mut python = program("python3", "python3");
    python
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/python/browser.py"
        ))
        .arg(chromium.get_program())
        .arg(&page)
        .arg(folder);
    let running = tokio::time::timeout(std::time::Duration::from_secs(90), async {
        let running = tokio::task::spawn_blocking(move || python.output().unwrap());
        running.await.unwrap()
    });
    let ran = running.await.expect("Chromium comes to an end");
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(ran.status.success(), "{said}");
    serde_json::from_slice(&ran.stdout).unwrap()
}

/// The values that a line shows, read back from where it is drawn.
fn values(line: &Value, area: &[f64]) -> Vec<f64> {
    let number = |key: &str| line[key].as_str().unwrap().parse::<f64>().unwrap();
    let top = number("top");
    let path = line["d"].as_str().unwrap().replace("h0", "");
    let points = path.split(['M', 'L']).filter(|point| !point.is_empty());
    let value = |point: &str| {
        let (_, y) = point.split_once(' ').unwrap();
        let y: f64 = y.parse().unwrap();
        (area[3] - y) / (area[3] - area[1]) * top
    };
    points.map(value).collect()
}

#[tokio::test]
async fn a_browser_shows_what_the_json_says() {
    let folder = tempfile::tempdir().unwrap();
    let report = report("word ");
    let seen = browse(&report, folder.path()).await;
    assert_eq!(seen["console"], json!([]));
    let asked = seen["asked"].as_array().unwrap();
    assert_eq!(asked.len(), 1, "nothing but the page itself: {asked:?}");
    assert!(asked[0].as_str().unwrap().starts_with("file://"));
    let desk = &seen["desk"];
    assert_eq!((&desk["scripts"], &desk["links"]), (&json!(0), &json!(0)));

    // What a line shows is what the report has.
    let json = serde_json::to_value(&report).unwrap();
    let mut lines = BTreeSet::new();
    for plot in desk["plots"].as_array().unwrap() {
        let area = plot["area"].as_str().unwrap().split(' ');
        let area: Vec<f64> = area.map(|n| n.parse().unwrap()).collect();
        // The time in which the fault was on, in the picture's measure.
        let fault = &plot["faults"][0];
        let x = |ms: f64| area[0] + (ms - 1_000.0) / 20_000.0 * (area[2] - area[0]);
        let (from, width) = (fault[0].as_f64().unwrap(), fault[1].as_f64().unwrap());
        assert!(
            (from - x(7_000.0)).abs() < 0.1 && (from + width - x(13_000.0)).abs() < 0.1,
            "{fault}"
        );
        for line in plot["lines"].as_array().unwrap() {
            let name = line["series"].as_str().unwrap();
            let said = json["series"][name].as_array().unwrap();
            let said: Vec<f64> = said.iter().filter_map(Value::as_f64).collect();
            let drawn = values(line, &area);
            assert_eq!(drawn.len(), said.len(), "{name}");
            let top: f64 = line["top"].as_str().unwrap().parse().unwrap();
            for (drawn, said) in drawn.iter().zip(&said) {
                assert!(
                    (drawn - said).abs() <= top * 0.001,
                    "{name}: {drawn} {said}"
                );
            }
            assert!(top >= said.iter().copied().fold(0.0, f64::max), "{name}");
            lines.insert(name.to_owned());
        }
    }
    let all = [
        "errors", "goodput", "offered", "p50_ms", "p99_ms", "retries",
    ];
    assert_eq!(lines.into_iter().collect::<Vec<_>>(), all);

    // On a telephone nothing runs off, and figures can be read.
    let phone = &seen["phone"];
    assert!(
        phone["width"].as_f64() <= phone["room"].as_f64(),
        "{} {}",
        phone["width"],
        phone["room"]
    );
    assert!(phone["font"].as_f64().unwrap() >= 16.0);
    for text in phone["texts"].as_array().unwrap() {
        let edge = |n: usize| text["box"][n].as_f64().unwrap();
        assert!(edge(3) - edge(1) >= 9.0, "too small: {text}");
        assert!(edge(0) >= 0.0 && edge(2) <= 360.0, "runs off: {text}");
    }
    for part in phone["wide"].as_array().unwrap() {
        assert!(part[2].as_f64().unwrap() <= 360.5, "{part}");
    }
    // By night it is dark, on paper it is not.
    assert_eq!(desk["background"], "rgb(255, 255, 255)");
    let dark = seen["dark"]["background"].as_str().unwrap();
    assert_ne!(dark, desk["background"], "{dark}");
    assert_ne!(seen["dark"]["ink"], desk["ink"]);
    let paper = &seen["paper"];
    assert_eq!(
        (&paper["background"], &paper["ink"]),
        (&json!("rgb(255, 255, 255)"), &json!("rgb(0, 0, 0)"))
    );
    assert!(paper["width"].as_f64() <= paper["room"].as_f64());
    let lines = &paper["plots"][0]["lines"];
    assert_ne!(
        lines[0]["stroke"], lines[1]["stroke"],
        "told apart without colour"
    );
    assert!(
        (1..=8).contains(&seen["pages"].as_u64().unwrap()),
        "{}",
        seen["pages"]
    );
}

/// Whatever traffic, files and answers hold.
const HOSTILE: &str = "</title></style><script>window.touched=1</script><img src=x onerror=window.touched=2>\
    \"'><a href=javascript:window.touched=3>x</a><iframe src=//evil.example></iframe> {{x}} ]]> &amp; \u{202e}\u{0}\u{1b}[31m \n| `` ";

#[tokio::test]
async fn what_comes_from_traffic_is_text_in_a_browser() {
    let folder = tempfile::tempdir().unwrap();
    let seen = browse(&report(HOSTILE), folder.path()).await;
    assert_eq!(seen["console"], json!([]));
    assert_eq!(
        seen["asked"].as_array().unwrap().len(),
        1,
        "{}",
        seen["asked"]
    );
    let desk = &seen["desk"];
    assert_eq!(desk["touched"], "undefined");
    for nothing in ["scripts", "images", "links"] {
        assert_eq!(desk[nothing], json!(0), "{nothing}");
    }
    // It is there, word for word.
    let text = desk["text"].as_str().unwrap();
    assert!(text.contains("<script>window.touched=1</script>"), "{text}");
    assert!(desk["title"].as_str().unwrap().contains("</title>"));
    assert_eq!(desk["plots"].as_array().unwrap().len(), 4);
    let phone = &seen["phone"];
    assert!(phone["width"].as_f64() <= phone["room"].as_f64());
}

#[tokio::test]
async fn what_comes_from_traffic_is_text_in_other_forms() {
    let report = report(HOSTILE);
    // XML that a parser takes, with the promises in it.
    let xml = junit(&report);
    let mut python = program("python3", "python3");
    let count = "import sys, xml.etree.ElementTree as e; r = e.fromstring(sys.argv[1].encode()); s = r[0]; \
        print(s.get('tests'), s.get('failures'), s.get('errors'), len(s.findall('testcase')), [len(t) for t in s.findall('testcase')])";
    python.arg("-c").arg(count).arg(&xml);
    let ran = output(python).await;
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    // Steady, three promises, recovery, the whole.
    assert_eq!(said.trim(), "6 3 1 6 [0, 0, 1, 1, 1, 1]");
    // Markdown without live HTML outside of code, and a table's row on one line.
    let text = markdown(&report);
    let bare = text.replace("\\`", "").replace("\\<", "");
    for outside in bare.split('`').step_by(2) {
        assert!(
            !outside.contains("<script") && !outside.contains("<img"),
            "{outside}"
        );
    }
    assert!(!text.contains(['\u{202e}', '\u{1b}', '\0']));
    assert!(
        text.lines().filter(|l| l.starts_with("| ✗")).count() == 1,
        "{text}"
    );
    // A terminal is not steered: that is up to who prints, and JSON has it all.
    let back: Report = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
    // Numbers may differ in their last digit, texts may not.
    assert_eq!((back.version, back.drill), (report.version, report.drill));
}

#[test]
fn a_summary_says_what_matters() {
    let text = summary(&report("w"));
    for said in [
        "BROKEN: ",
        "metastable: ",
        "first good answer after 850ms",
        "✗ broken",
        "records 00000abc-17",
        "seed 42",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
}

#[test]
fn two_reports_side_by_side() {
    let (first, mut second) = (report("w"), report("w"));
    assert!(compare(&first, &second).iter().all(|d| d.same));
    second.outcome = Outcome::Held;
    second.recovery = None;
    second.promises[1].verdict = Verdict::Held;
    let all = compare(&first, &second);
    let find = |what: &str| all.iter().find(|d| d.what == what).unwrap();
    let outcome = find("outcome");
    assert_eq!(
        (outcome.first.as_deref(), outcome.second.as_deref()),
        (Some("broken"), Some("held"))
    );
    assert_eq!(find("steady after").second, None);
    assert!(find("seed").same);
}

/// Every key of the JSON is in the schema, every key that the schema needs is in the JSON.
#[test]
fn the_schema_is_that_of_the_json() {
    let schema = schema();
    let root = schema.clone();
    let find = |reference: &str| root.pointer(reference.trim_start_matches('#')).unwrap();
    fn check(value: &Value, shape: &Value, find: &dyn Fn(&str) -> Value, path: &str) {
        if let Some(reference) = shape["$ref"].as_str() {
            return check(value, &find(reference), find, path);
        }
        for many in ["oneOf", "anyOf"] {
            if let Some(options) = shape[many].as_array() {
                let fits = options
                    .iter()
                    .find(|o| o["type"] != "null" || value.is_null());
                return check(value, fits.unwrap_or(&Value::Null), find, path);
            }
        }
        match value {
            Value::Object(map) => {
                let Some(properties) = shape["properties"].as_object() else {
                    for (key, value) in map {
                        check(
                            value,
                            &shape["additionalProperties"],
                            find,
                            &format!("{path}.{key}"),
                        );
                    }
                    return;
                };
                for (key, value) in map {
                    let shape = properties.get(key);
                    let shape =
                        shape.unwrap_or_else(|| panic!("{path}.{key} is not in the schema"));
                    check(value, shape, find, &format!("{path}.{key}"));
                }
                for needed in shape["required"].as_array().into_iter().flatten() {
                    assert!(
                        map.contains_key(needed.as_str().unwrap()),
                        "{path}: {needed} is missing"
                    );
                }
            }
            Value::Array(list) => {
                assert!(
                    shape["type"] == "array" || shape["type"].as_array().is_some(),
                    "{path}: {shape}"
                );
                list.iter()
                    .for_each(|one| check(one, &shape["items"], find, &format!("{path}[]")));
            }
            _ => {}
        }
    }
    let json = serde_json::to_value(report("w")).unwrap();
    check(&json, &schema, &|reference| find(reference).clone(), "");
    assert!(!schema.to_string().contains("#/components"), "{schema}");
    assert_eq!(
        schema["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
}
