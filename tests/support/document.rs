//! Documents, and tables in them that the code writes.

use std::path::{Path, PathBuf};

pub const REFERENCE: &str = "docs/reference.md";

pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

pub fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Compares what stands between two markers with what should, or writes it there.
pub fn generated(marker: &str, expected: &str) {
    let text = read(REFERENCE);
    let (begin, end) = (
        format!("<!-- {marker} -->\n"),
        format!("<!-- /{marker} -->"),
    );
    let from = text.find(&begin).expect("the marker is there") + begin.len();
    let to = text.find(&end).expect("the end marker is there");
    if std::env::var_os("UPDATE_DOCS").is_some_and(|v| v == "1") {
        let new = format!("{}{expected}{}", &text[..from], &text[to..]);
        std::fs::write(path(REFERENCE), new).unwrap();
        return;
    }
    let differs = text[from..to].lines().zip(expected.lines());
    for (stands, should) in differs {
        assert_eq!(stands, should, "{marker} in {REFERENCE}");
    }
    assert_eq!(
        &text[from..to],
        expected,
        "{marker} in {REFERENCE} is not what the code says; UPDATE_DOCS=1 rewrites it"
    );
}
