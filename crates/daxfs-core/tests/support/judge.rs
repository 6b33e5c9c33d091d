// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The second opinion: a reader of plain v3 that shares no code with the engine.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::change::Change;

/// Whose trees are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trees {
    /// The base image's.
    Base,
    /// Those of the active branches too.
    Branches,
}

/// Asks the independent reader about each change of `image`; gives its complaints, each with the
/// change it is about.
pub(crate) fn complaints(image: &[u8], trees: Trees, changes: &[Change]) -> Vec<String> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests");
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(image).expect("write");
    let mut lines = String::new();
    for Change(stores) in changes {
        for (offset, bytes) in stores {
            write!(lines, "{offset}:").expect("memory");
            for byte in bytes {
                write!(lines, "{byte:02x}").expect("memory");
            }
            lines.push(' ');
        }
        lines.push('\n');
    }
    let mut judge = Command::new("python3")
        .args(["-m", "support.v3judge"])
        .arg(file.path())
        .args((trees == Trees::Branches).then_some("branches"))
        .current_dir(tests)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start python3");
    // It reads everything before it answers, so neither side waits for the other for ever.
    judge.stdin.take().expect("piped").write_all(lines.as_bytes()).expect("ask the judge");
    let output = judge.wait_with_output().expect("an answer");
    assert!(output.status.success(), "the judge failed: {}", output.status);
    let text = String::from_utf8(output.stdout).expect("text");
    let judged: usize = text.lines().next().and_then(|n| n.parse().ok()).expect("a count");
    assert_eq!(judged, changes.len(), "the judge left something out");
    text.lines().skip(1).map(str::to_owned).collect()
}
