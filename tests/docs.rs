//! What the documents say is what the code does: generated tables, examples that load, names that
//! exist. `UPDATE_DOCS=1 cargo test --test docs` writes the generated tables anew.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::BTreeSet;

use clap::Parser as _;
use firedrill::config::{self, ControlConfig, EvidenceConfig, LimitsConfig};
use firedrill::evidence::Record;
use firedrill::evidence::findings::{About, FINDERS, Finding};
use firedrill::faults::{Directions, KINDS, Kind};
use firedrill::metrics::{Defined, Metrics};
use firedrill::rules::Edge;
use firedrill::tls::NewAuthority;
use firedrill::wire::{ErrorBody, Healed, List, PartitionItem, ProxyItem, RuleItem, Status};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tempfile::TempDir;

#[path = "support/document.rs"]
mod document;

use document::{REFERENCE, generated, path, read};

const DOCUMENTS: [&str; 6] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "docs/sidecar.md",
    "docs/toxiproxy.md",
    REFERENCE,
];

/// The fenced blocks of a document: the word after the fence, the line before it, the text.
fn blocks(text: &str) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    let mut open: Option<(String, String, String)> = None;
    let mut before = "";
    for line in text.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(word)) => open = Some((word.to_owned(), before.to_owned(), String::new())),
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some((.., body)), None) => *body += &format!("{line}\n"),
            (None, None) => {}
        }
        before = line;
    }
    assert!(open.is_none(), "a fence is not closed");
    found
}

fn blocks_of(language: &str) -> Vec<(&'static str, String, String)> {
    let all = DOCUMENTS.iter().flat_map(|name| {
        let blocks = blocks(&read(name)).into_iter();
        let wanted = blocks.filter(|(word, ..)| word == language);
        wanted.map(|(_, before, body)| (*name, before, body))
    });
    all.collect()
}

/// One writer at a time: all tables stand in one file.
#[test]
fn the_generated_tables_are_what_the_code_says() {
    generated("faults", &faults_table());
    generated("metrics", &metrics_table());
    generated("findings", &findings_table());
}

fn faults_table() -> String {
    let mut out = "| kind | acts on | what happens | when the rule is lifted |\n\
                   | --- | --- | --- | --- |\n"
        .to_owned();
    for kind in KINDS {
        out += &format!(
            "| `{}` | {}; {} | {} | {} |\n",
            kind.name,
            kind.layers
                .iter()
                .map(|layer| layer.as_str())
                .collect::<Vec<_>>()
                .join(", "),
            direction(kind),
            kind.summary,
            kind.lifted.unwrap_or("nothing waits"),
        );
    }
    out +=
        "\n| kind | parameter | what it is | value | default |\n| --- | --- | --- | --- | --- |\n";
    for kind in KINDS {
        for param in kind.params {
            out += &format!(
                "| `{}` | `{}` | {} | {} | {} |\n",
                kind.name,
                param.name,
                param.help,
                param.ty.describe(),
                param
                    .default
                    .map_or("(needed)".to_owned(), |default| format!("`{default}`")),
            );
        }
    }
    out
}

/// All of them, and then what each judges.
fn findings_table() -> String {
    let mut out = "| finding | about | `yes` says |\n| --- | --- | --- |\n".to_owned();
    for finder in FINDERS {
        let about = match finder.about {
            About::Caller => "the caller",
            About::Called => "the called service",
        };
        let (name, summary) = (finder.name, finder.summary);
        out += &format!("| `{name}` | {about} | {summary} |\n");
    }
    for finder in FINDERS {
        out += &format!("\n#### `{}`\n\n{}\n", finder.name, finder.definition);
    }
    out
}

fn direction(kind: &Kind) -> String {
    match kind.directions {
        Directions::Fixed(direction) => format!("{direction} only"),
        Directions::Either { message } => {
            format!("either direction; unless said, bytes both ways, messages {message}")
        }
    }
}

/// Every metric of ours, from what a scrape says of it.
fn metrics_table() -> String {
    let metrics = Metrics::new().unwrap();
    drop(metrics.proxy("p"));
    metrics.selected("p", "r", "drop");
    metrics.cut("p", "s");
    drop(metrics.spans());
    metrics.retain(&Defined {
        proxies: vec!["p".to_owned()],
        rules: vec![("r".to_owned(), "drop", true)],
        partitions: vec![("s".to_owned(), true)],
        evidence_dropped: 0,
    });
    let text = String::from_utf8(metrics.encode().unwrap().0).unwrap();
    let mut out =
        "| metric | type | labels | what it counts |\n| --- | --- | --- | --- |\n".to_owned();
    let mut rows = 0;
    for line in text.lines() {
        let Some((name, help)) = line
            .strip_prefix("# HELP ")
            .and_then(|rest| rest.split_once(' '))
            .filter(|(name, _)| name.starts_with("firedrill_"))
        else {
            continue;
        };
        let kind = text
            .lines()
            .find_map(|l| l.strip_prefix(&format!("# TYPE {name} ")));
        out += &format!(
            "| `{name}` | {} | {} | {help} |\n",
            kind.unwrap(),
            labels(&text, name)
        );
        rows += 1;
    }
    assert!(rows > 10, "{text}");
    out
}

fn labels(text: &str, metric: &str) -> String {
    let series = text.lines().find(|line| {
        let rest = line.strip_prefix(metric);
        rest.is_some_and(|rest| rest.starts_with(['{', ' ']) || rest.starts_with("_bucket{"))
    });
    let inside = series.unwrap().split_once('{').map(|(_, rest)| rest);
    let names: BTreeSet<String> = inside
        .into_iter()
        .flat_map(|rest| rest.split("\","))
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, _)| format!("`{name}`"))
        .filter(|name| name != "`le`")
        .collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}

#[test]
fn every_yaml_example_loads() {
    let examples = blocks_of("yaml");
    assert!(examples.len() >= 3, "{}", examples.len());
    let folder = folder();
    for (name, _, text) in examples {
        let file = folder.path().join("firedrill.yaml");
        std::fs::write(&file, &text).unwrap();
        if let Err(problems) = config::load_any(&file) {
            panic!("{name}: {problems}\nin\n{text}");
        }
    }
}

/// One with the files that the examples name.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let ca = NewAuthority::make().unwrap();
    std::fs::create_dir(folder.path().join("firedrill-ca")).unwrap();
    for (name, text) in [("ca.pem", &ca.certificate), ("ca.key", &ca.key)] {
        put(&format!("firedrill-ca/{name}"), text);
        put(name, text);
    }
    put("otlp-token", "Bearer secret");
    let key = rcgen::KeyPair::generate().unwrap();
    let site = rcgen::CertificateParams::new(["site.example".to_owned()]).unwrap();
    put("site.pem", &site.self_signed(&key).unwrap().pem());
    put("site.key", &key.serialize_pem());
    folder
}

#[test]
fn the_shipped_files_load_and_change_nothing_by_themselves() {
    let mut files: Vec<_> = std::fs::read_dir(path("configs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|file| file.extension().is_some_and(|e| e == "yaml"))
        .collect();
    files.sort();
    assert!(files.len() >= 2, "{files:?}");
    for file in files {
        let config = config::load(&file).unwrap_or_else(|problems| panic!("{problems}"));
        let name = file.display();
        assert!(!config.proxies.is_empty(), "{name}");
        assert!(config.rules.iter().all(|rule| !rule.enabled), "{name}");
        assert!(config.partitions.iter().all(|p| !p.enabled), "{name}");
    }
}

#[test]
fn the_shipped_drills_load() {
    let files = std::fs::read_dir(path("configs/drills")).unwrap();
    let files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() >= 5, "{files:?}");
    for file in files {
        let drill = config::load_drill(&file).unwrap_or_else(|problems| panic!("{problems}"));
        assert!(drill.seed.is_some() && !drill.worksheet.unknowns.is_empty());
    }
}

#[test]
fn the_commented_file_shows_the_defaults() {
    let config = config::load(&path("configs/firedrill.yaml")).unwrap();
    assert_eq!(config.control, ControlConfig::default());
    assert_eq!(config.evidence, EvidenceConfig::default());
    assert_eq!(config.limits, LimitsConfig::default());
    let edge = &config.proxies[0];
    let default = Edge::new(&edge.name, &edge.listen, &edge.upstream);
    assert_eq!((&edge.from, &edge.to), (&default.from, &default.to));
    assert_eq!(edge.connect_timeout, default.connect_timeout);
    assert_eq!(edge.max_connections, default.max_connections);
}

/// `<!-- shape: NAME -->` before a block says what it is.
#[test]
fn every_json_example_is_what_it_is_said_to_be() {
    let examples = blocks_of("json");
    let mut shapes = BTreeSet::new();
    for (name, before, text) in &examples {
        let value: Value = serde_json::from_str(text)
            .unwrap_or_else(|error| panic!("{name}: {error}\nin\n{text}"));
        let Some(shape) = before
            .strip_prefix("<!-- shape: ")
            .and_then(|rest| rest.strip_suffix(" -->"))
        else {
            continue;
        };
        let back = match shape {
            "record" => back::<Record>(&value),
            "rule" => back::<RuleItem>(&value),
            "partition" => back::<PartitionItem>(&value),
            "proxies" => back::<List<ProxyItem>>(&value),
            "status" => back::<Status>(&value),
            "healed" => back::<Healed>(&value),
            "error" => back::<ErrorBody>(&value),
            "findings" => back::<List<Finding>>(&value),
            other => panic!("{name}: there is no shape `{other}`"),
        };
        assert_eq!(back, value, "{name}: {shape} has keys too many or too few");
        shapes.insert(shape.to_owned());
    }
    let all = [
        "error",
        "findings",
        "healed",
        "partition",
        "proxies",
        "record",
        "rule",
        "status",
    ];
    assert_eq!(shapes, all.map(str::to_owned).into(), "one example a shape");
}

fn back<T: DeserializeOwned + Serialize>(value: &Value) -> Value {
    let item: T = serde_json::from_value(value.clone()).unwrap_or_else(|e| panic!("{e}\n{value}"));
    serde_json::to_value(item).unwrap()
}

#[test]
fn commands_and_bodies_in_the_documents_are_ones_that_exist() {
    let (mut commands, mut bodies) = (0, 0);
    for (name, _, text) in blocks_of("sh").into_iter().chain(blocks_of("console")) {
        for line in text.lines() {
            let line = line.strip_prefix("$ ").unwrap_or(line);
            let words = words(line.split(" #").next().unwrap());
            if words.first().is_some_and(|word| word == "firedrill") {
                commands += 1;
                let parsed = firedrill::cli::Cli::try_parse_from(&words);
                let help = |e: &clap::Error| !e.use_stderr();
                if let Err(error) = parsed
                    .as_ref()
                    .map(drop)
                    .or_else(|e| if help(e) { Ok(()) } else { Err(e) })
                {
                    panic!("{name}: {line}\n{error}");
                }
            }
            if words.first().is_some_and(|word| word == "curl")
                && let Some(at) = words.iter().position(|word| word == "-d")
            {
                bodies += 1;
                let body = serde_json::from_str::<Value>(&words[at + 1]);
                assert!(body.is_ok(), "{name}: {line}");
            }
        }
    }
    assert!(commands > 10 && bodies > 3, "{commands} {bodies}");
}

/// Splits a line as a shell does, as far as the documents need it.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = None;
    let mut begun = false;
    for c in line.chars() {
        match (quoted, c) {
            (Some(quote), c) if c == quote => quoted = None,
            (None, '\'' | '"') => (quoted, begun) = (Some(c), true),
            (None, ' ') => {
                if std::mem::take(&mut begun) {
                    words.push(std::mem::take(&mut word));
                }
            }
            (_, c) => {
                word.push(c);
                begun = true;
            }
        }
    }
    if begun {
        words.push(word);
    }
    words
}

/// Keys of the file, from its schema.
#[test]
fn every_key_of_the_file_is_in_the_reference() {
    let mut keys = BTreeSet::new();
    properties(&config::schema(), &mut keys);
    assert!(keys.len() > 40, "{keys:?}");
    let reference = read(REFERENCE);
    let missing: Vec<_> = keys
        .iter()
        .filter(|key| {
            ["`", "."]
                .iter()
                .all(|c| !reference.contains(&format!("{c}{key}`")))
        })
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

fn properties(schema: &Value, keys: &mut BTreeSet<String>) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::Object(properties)) = map.get("properties") {
                keys.extend(properties.keys().cloned());
            }
            map.values().for_each(|value| properties(value, keys));
        }
        Value::Array(list) => list.iter().for_each(|value| properties(value, keys)),
        _ => {}
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut links = 0;
    for name in DOCUMENTS {
        let text = read(name);
        let folder = path(name).parent().unwrap().to_owned();
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split(')').next().unwrap();
            let file = target.split('#').next().unwrap();
            if file.is_empty() || target.contains("://") {
                continue;
            }
            links += 1;
            assert!(folder.join(file).exists(), "{name}: {target}");
        }
    }
    assert!(links > 5, "{links}");
}
