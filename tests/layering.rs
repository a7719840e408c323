//! Who may know whom: a module imports only from rows below its own (see ARCHITECTURE.md).
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The rows of ARCHITECTURE.md, from the ground.
const ROWS: &[&[&str]] = &[
    &["operation", "seed", "clock", "units", "url", "rare"],
    &["rules", "protocol", "faults", "tls"],
    &["state", "config", "evidence", "metrics", "wire", "dial"],
    &["pipeline", "otlp"],
    &["proxy"],
    &["control"],
    &["drill", "client"],
    &["serve"],
    &["main", "cli", "demo"],
];

/// Neighbours in a row that may know each other, one way.
const ALLOWED: &[(&str, &str)] = &[
    // A rule holds its fault.
    ("rules", "faults"),
    // An edge holds what its TLS is made of.
    ("rules", "tls"),
    // A metric's label and a record's word are one.
    ("metrics", "evidence"),
    // A drill's promises speak of classes and findings.
    ("config", "evidence"),
    // A drill works over the API alone.
    ("drill", "client"),
    // The commands print what the demo says.
    ("cli", "demo"),
    ("main", "cli"),
];

/// Words that only the proxy's own folder may not know: it carries out actions, whatever the kind.
const KINDS: &[&str] = &["delay", "drop", "response_loss", "duplicate", "abort"];

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn sources() -> Vec<(String, String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    files(&src, &mut found);
    let read = |path: &PathBuf| {
        let name = path
            .strip_prefix(&src)
            .unwrap()
            .to_string_lossy()
            .into_owned();
        let module = name
            .split('/')
            .next()
            .unwrap()
            .trim_end_matches(".rs")
            .to_owned();
        (module, name, std::fs::read_to_string(path).unwrap())
    };
    found.iter().map(read).collect()
}

/// The modules that a file names as `crate::module`, in a `use` or in a path; groups included.
fn imports(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for keyword in ["crate::", "firedrill::"] {
        for (at, _) in text.match_indices(keyword) {
            let rest = &text[at + keyword.len()..];
            let list = match rest.strip_prefix('{') {
                Some(group) => group.split('}').next().unwrap(),
                None => rest,
            };
            let parts: Vec<_> = if list.len() < rest.len() {
                list.split(',').collect()
            } else {
                vec![list]
            };
            for part in parts {
                let word: String = part
                    .trim()
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                found.insert(word);
            }
        }
    }
    found
}

fn row(module: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&module))
}

#[test]
fn modules_import_only_from_rows_below_their_own() {
    let mut wrong = Vec::new();
    let sources = sources();
    assert!(sources.len() > 50, "the sources were found");
    for (module, name, text) in &sources {
        if module == "lib" {
            continue;
        }
        let own = row(module).unwrap_or_else(|| panic!("{name}: `{module}` stands in no row"));
        for import in imports(text) {
            let Some(theirs) = row(&import) else { continue };
            let allowed = ALLOWED.contains(&(module.as_str(), import.as_str()));
            if import != *module && theirs >= own && !allowed {
                wrong.push(format!(
                    "{name} (row {own}) imports `{import}` (row {theirs})"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_ground_floor_reads_the_clock_and_only_the_proxy_opens_sockets() {
    let mut wrong = Vec::new();
    for (module, name, text) in sources() {
        let code = text.split("#[cfg(test)]").next().unwrap();
        let rules: [(&str, &[&str]); 4] = [
            ("time::sleep", &["clock"]),
            ("Instant::now()", &["clock"]),
            ("SystemTime::now()", &["clock"]),
            ("TcpStream::connect", &["proxy", "dial", "demo", "drill"]),
        ];
        for (word, homes) in rules {
            if code.contains(word) && !homes.contains(&module.as_str()) && !name.contains("tests") {
                wrong.push(format!("{name} has `{word}`"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_data_path_knows_no_fault_kind_by_name() {
    for (module, name, text) in sources() {
        if module == "proxy" || module == "pipeline" {
            for kind in KINDS {
                let quoted = format!("\"{kind}\"");
                assert!(!text.contains(&quoted), "{name} names the kind {quoted}");
            }
        }
    }
}

#[test]
fn architecture_md_shows_these_rows() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md");
    let text = std::fs::read_to_string(path).unwrap();
    let quoted = |text: &str| -> Vec<String> {
        let inside = text.split('`').skip(1).step_by(2);
        inside.map(str::to_owned).collect()
    };
    let table = text.split("| row | modules |").nth(1).unwrap();
    let mut shown: Vec<_> = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(quoted)
        .collect();
    shown.reverse();
    assert_eq!(shown, ROWS);
    let neighbours = text.lines().filter(|line| line.contains(" may know `"));
    let mut shown: Vec<_> = neighbours.map(quoted).collect();
    let mut allowed: Vec<_> = ALLOWED.iter().map(|(a, b)| vec![*a, *b]).collect();
    shown.sort();
    allowed.sort();
    assert_eq!(shown, allowed);
}
