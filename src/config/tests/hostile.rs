//! Texts that no one writes in good faith: an answer, soon, and no panic.

use std::io::Write;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::{GOLDEN, bad};
use crate::config::{load, parse, rule_from_json};

/// Far more than any of this takes, far less than a hang.
const SOON: Duration = Duration::from_secs(20);

fn soon(text: &str) -> String {
    let start = Instant::now();
    let problems = bad(text).to_string();
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    problems
}

#[test]
fn deep_nesting() {
    for text in [
        "[".repeat(4 << 20),
        "{a: ".repeat(1 << 20),
        "- ".repeat(1 << 20),
    ] {
        soon(&text);
    }
    for open in ["[", "{a: ", "- "] {
        let problem = soon(&format!("proxies: {}", open.repeat(400)));
        assert!(!problem.is_empty());
    }
    let closed = format!("seed: {}{}", "[".repeat(200), "]".repeat(200));
    assert!(soon(&closed).contains("recursion limit exceeded"));
    let deep = (0..200).fold(serde_json::json!(1), |below, _| serde_json::json!([below]));
    assert!(rule_from_json(&deep, &[]).is_err());
}

#[test]
fn aliases_that_multiply() {
    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..30 {
        let ten = vec![format!("*a{}", n - 1); 10].join(", ");
        laughs.push_str(&format!("a{n}: &a{n} [{ten}]\n"));
    }
    let problem = soon(&laughs);
    assert!(
        problem.contains("aliases") || problem.contains("repetition"),
        "{problem}"
    );

    let wide = format!(
        "a: &a [{}]\nb: [{}]\n",
        "0, ".repeat(50_000),
        "*a, ".repeat(50_000)
    );
    assert!(soon(&wide).contains("more than 500000 values"));
    soon("a: &a [*a]");
    soon("&a *a");
}

#[test]
fn problems_past_counting() {
    let keys: String = (0..50_000).map(|n| format!("k{n}: 1\n")).collect();
    let problems = soon(&keys);
    assert_eq!(problems.matches("unknown key").count(), 1_000);
    assert!(problems.ends_with("and 49000 more"));

    let rules = "rules:\n".to_owned() + &"- 5\n".repeat(1_001);
    assert!(soon(&rules).contains("1001 items; at most 1000 are allowed"));
    let rules = "rules:\n".to_owned() + &"- { nam: a, probability: 7 }\n".repeat(1_000);
    soon(&rules);
    let long = format!("rules: [{{ name: {} }}]", "x".repeat(1 << 20));
    assert!(
        soon(&long).len() < 1_000,
        "messages repeat a part of it only"
    );
}

#[test]
fn files_that_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let problem = |path: &std::path::Path| {
        let problems = load(path).unwrap_err().to_string();
        problems.replace(&folder.path().display().to_string(), "DIR")
    };
    let missing = problem(&folder.path().join("missing.yaml"));
    assert!(
        missing.starts_with("DIR/missing.yaml: can't be read: "),
        "{missing}"
    );
    assert!(problem(folder.path()).contains("can't be read"));

    let latin = folder.path().join("latin.yaml");
    std::fs::write(&latin, b"seed: 1\n# caf\xe9\n").unwrap();
    assert!(problem(&latin).starts_with("DIR/latin.yaml:2:6: is not UTF-8"));

    let long = folder.path().join("long.yaml");
    let mut file = std::fs::File::create(&long).unwrap();
    file.write_all(&vec![b'#'; (4 << 20) + 1]).unwrap();
    assert!(problem(&long).contains("longer than 4 MiB"));
    assert!(soon(&"#".repeat((4 << 20) + 1)).contains("longer than 4 MiB"));
}

/// A valid file with some of its characters replaced, cut out or doubled.
fn mutated() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "", " ", "\n", ":", "-", "[", "]", "{", "}", "'", "\"", "*", "&", "!", "0", "1e9", "~",
        "<<", "name: ", "\n  - ", "ä", ".nan", "-.inf", "*a", "&a ", "!x ", "|\n", "#",
    ]);
    let edits = prop::collection::vec((any::<prop::sample::Index>(), 0usize..20, pieces), 1..6);
    edits.prop_map(|edits| {
        let mut chars: Vec<char> = GOLDEN.chars().collect();
        for (at, cut, piece) in edits {
            let at = at.index(chars.len());
            let end = (at + cut).min(chars.len());
            chars.splice(at..end, piece.chars());
        }
        chars.into_iter().collect()
    })
}

proptest! {
    #[test]
    fn any_text_gets_an_answer(text in "(?s).{0,200}") {
        let _ = parse(&text, "f");
    }

    #[test]
    fn any_text_of_yaml_characters_gets_an_answer(text in "[a-c0-2 \n:\\-\\[\\]{}'\"*&!|>?,#%@~<]{0,80}") {
        let _ = parse(&text, "f");
    }

    /// Every problem of a damaged file is within it and prints in one line and a hint.
    #[test]
    fn a_damaged_file_gets_problems_with_places(text in mutated()) {
        if let Err(problems) = parse(&text, "f") {
            prop_assert!(!problems.list.is_empty());
            let lines = text.lines().count() + 1;
            for problem in &problems.list {
                prop_assert!(problem.line.is_none_or(|line| (1..=lines).contains(&line)));
                prop_assert!(!problem.message.is_empty());
                let has_place = problem.line.is_some() && problem.column.is_some();
                prop_assert!(has_place || problem.path.is_empty(), "{:?}", problem);
            }
            let hints = problems.list.iter().filter(|p| p.hint.is_some()).count();
            prop_assert_eq!(problems.to_string().lines().count(), problems.list.len() + hints);
        }
    }
}
