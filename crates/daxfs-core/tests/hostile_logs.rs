// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protects: an entry that makes no sense where it stands is refused by replay and proof alike,
//! and the error says which entry it is.

mod common;

use common::base::{BASE_TXT, DIR, EMPTYDIR, VICTIM};
use common::{Log, findings, image, view};
use daxfs_core::error::Error;
use daxfs_core::format::{SetattrBody, entry, mode, setattr};
use daxfs_core::view::Links;

const ROOT: u64 = 1;

/// The last entry of `log` is refused, and nothing before it.
fn refused(log: Log, expected: &str) {
    let entry = *log.starts.last().unwrap();
    let bytes = image(&[("main", 0, &log)]);
    let log_at = common::open(&bytes).unwrap().branches().unwrap()[0].log.at;
    let error = view(&bytes, "main").unwrap_err();
    let text = error.to_string();
    let Error::Corrupt { offset, .. } = error else { panic!("{text}") };
    assert_eq!(offset, log_at + entry as u64, "{text}");
    assert!(text.contains(expected), "{text}, without {expected:?}");
    let findings = findings(&bytes).unwrap();
    assert_eq!(findings.errors(), 1, "{:?}", findings.list());
}

fn log() -> Log {
    Log::default().mkdir(ROOT, 100, "made").create(100, 101, "file")
}

#[test]
fn unknown_inodes() {
    for ino in [0, 17, 99, u64::MAX] {
        refused(log().write(ino, 0, b"x"), "expected one that exists");
        refused(log().truncate(ino, 0), "expected one that exists");
        refused(log().set_attr(ino, SetattrBody::zeroed()), "expected one that exists");
        refused(log().create(ino, 200, "name"), "expected one that exists");
        refused(log().delete(ino, 101, "file"), "expected one that exists");
        refused(log().rename(101, (100, "file"), (ino, "file")), "expected one that exists");
        refused(log().rename(ino, (100, "file"), (ROOT, "file")), "a name of inode");
    }
}

#[test]
fn names_that_do_not_exist() {
    refused(log().delete(100, 101, "other"), "nobody's");
    refused(log().delete(ROOT, VICTIM, "base.txt"), "inode 8's");
    refused(log().delete(100, 101, "file").delete(100, 101, "file"), "nobody's");
    refused(log().rename(101, (100, "other"), (100, "new")), "nobody's");
    refused(log().delete(ROOT, VICTIM, "victim.txt").delete(ROOT, VICTIM, "victim.txt"), "nobody");
}

#[test]
fn names_that_exist() {
    refused(log().create(100, 200, "file"), "one not in use, found file");
    refused(log().create(ROOT, 200, "victim.txt"), "one not in use, found victim.txt");
    refused(log().symlink(ROOT, 200, "made", "x"), "one not in use, found made");
}

#[test]
fn numbers_in_use() {
    for ino in [0, ROOT, VICTIM, 16, 100, 101] {
        refused(log().create(ROOT, ino, "new"), "one not in use");
    }
    // A removed inode's number is not free either.
    refused(log().delete(100, 101, "file").create(100, 101, "file"), "one not in use");
    refused(log().mkdir(300, 300, "own"), "inode 300 itself");
}

#[test]
fn parents_that_are_no_directories() {
    refused(log().create(101, 200, "below"), "a directory");
    refused(log().create(BASE_TXT, 200, "below"), "a directory");
    refused(log().rename(101, (100, "file"), (BASE_TXT, "below")), "a directory");
    refused(log().delete(ROOT, EMPTYDIR, "emptydir").create(EMPTYDIR, 200, "in"), "a directory");
}

#[test]
fn directories_moved_below_themselves() {
    refused(log().rename(100, (ROOT, "made"), (100, "loop")), "outside the moved one");
    let deep = log().mkdir(100, 102, "a").mkdir(102, 103, "b");
    refused(deep.clone().rename(100, (ROOT, "made"), (103, "loop")), "outside the moved one");
    let tree = view(&common::vector("branching.daxfs"), "main").unwrap();
    let sub = tree.resolve(b"dir/sub", Links::Keep).unwrap().ino;
    // A directory of the base, through one of its own.
    refused(Log::default().rename(DIR, (ROOT, "dir"), (sub, "loop")), "outside the moved one");
    refused(
        deep.rename(DIR, (ROOT, "dir"), (103, "dir")).rename(100, (ROOT, "made"), (sub, "loop")),
        "outside the moved one",
    );
}

#[test]
fn directories_too_deep() {
    let deep = (0..3000).fold(log(), |log, at| {
        let parent = if at == 0 { 100 } else { 1000 + at - 1 };
        log.mkdir(parent, 1000 + at, "d")
    });
    refused(deep.rename(DIR, (ROOT, "dir"), (3999, "dir")), "at most 2048 directories deep");
}

#[test]
fn directories_that_are_not_empty() {
    refused(log().delete(ROOT, 100, "made"), "with 1 names in it");
    refused(log().delete(ROOT, DIR, "dir"), "an empty one");
    refused(log().rename(EMPTYDIR, (ROOT, "emptydir"), (ROOT, "made")), "an empty one");
}

#[test]
fn replacing_another_kind() {
    refused(log().rename(101, (100, "file"), (ROOT, "emptydir")), "the same kind");
    refused(log().rename(EMPTYDIR, (ROOT, "emptydir"), (100, "file")), "the same kind");
}

#[test]
fn operations_on_the_wrong_kind() {
    refused(log().write(100, 0, b"x"), "a regular file");
    refused(log().truncate(100, 0), "a regular file");
    refused(log().symlink(100, 102, "link", "file").write(102, 0, b"x"), "a regular file");
    let mode = (mode::DIRECTORY | 0o755).into();
    let body = SetattrBody { mode, valid: setattr::MODE.into(), ..SetattrBody::zeroed() };
    refused(log().set_attr(101, body), "type 0o100000");
    refused(log().make(100, 102, mode::SYMLINK | 0o777, "link"), "a file's or device's");
    refused(log().make(100, 102, 0o644, "nothing"), "a file's or device's");
}

#[test]
fn sizes_out_of_range() {
    refused(log().truncate(101, 1 << 63), "at most 9223372036854775807");
    refused(log().write(101, u64::MAX, b"xx"), "an overflow");
    refused(log().write(101, (1 << 63) - 1, b"x"), "found 9223372036854775808");
}

#[test]
fn names_that_are_none() {
    let long = "n".repeat(129);
    refused(log().create(100, 200, &long), "at most 128");
    for name in ["", ".", "..", "a/b", "a\0b"] {
        refused(log().create(100, 200, name), "neither . nor ..");
        refused(log().rename(101, (100, "file"), (100, name)), "neither . nor ..");
        refused(log().delete(100, 101, name), "neither . nor ..");
    }
}

#[test]
fn targets_that_are_none() {
    refused(log().symlink(100, 200, "link", ""), "1 to 4095");
    refused(log().symlink(100, 200, "link", &"t".repeat(4096)), "1 to 4095");
    refused(log().symlink(100, 200, "link", "a\0b"), "one NUL, at the end");
}

#[test]
fn entries_that_do_not_fit() {
    refused(log().entry(9, 101, &[]), "1 to 8");
    refused(log().entry(0, 101, &[]), "1 to 8");
    for kind in entry::WRITE..=entry::SYMLINK {
        refused(log().entry(kind, 101, &[&[0; 7]]), "found room for 7");
    }
    // A length that reaches past the entry, into bytes that are there.
    let mut log_bytes = log().write(101, 0, b"short");
    let at = log_bytes.starts.last().unwrap() + 24 + 8;
    log_bytes.bytes[at] = 6;
    refused(log_bytes, "6 bytes inside the log entry");
    for size in [0u32, 23, 4096, u32::MAX] {
        let mut log_bytes = log().truncate(101, 0);
        let at = log_bytes.starts.last().unwrap() + 4;
        log_bytes.bytes[at..at + 4].copy_from_slice(&size.to_le_bytes());
        refused(log_bytes, "the rest of the log");
    }
}
