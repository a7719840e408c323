//! Files that a file names, read while it is decoded: what is wrong with one is a problem with a
//! place.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use super::node::Node;
use super::value::quoted;

/// The most that one may have.
const MAX_BYTES: u64 = 1 << 20;

/// Reads the file that is named here.
pub(super) fn read(node: &Node<'_>, path: &Path, hint: Option<&str>) -> Option<Vec<u8>> {
    let shown = quoted(&path.display().to_string());
    let fail = |message: String| match hint {
        Some(hint) => node.problem_hint(message, hint),
        None => node.problem(message),
    };
    let mut bytes = Vec::new();
    // One that is no file, such as a pipe, might be read for ever.
    let opened = fs::metadata(path).and_then(|found| {
        if !found.is_file() {
            return Err(std::io::Error::other("it is no file"));
        }
        let mut opened = File::open(path)?.take(MAX_BYTES + 1);
        opened.read_to_end(&mut bytes)
    });
    match opened {
        Ok(_) if bytes.len() as u64 <= MAX_BYTES => Some(bytes),
        Ok(_) => {
            fail(format!("{shown} is longer than {} MiB", MAX_BYTES >> 20));
            None
        }
        Err(error) => {
            fail(format!("{shown} can't be read: {error}"));
            None
        }
    }
}
