// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protects: what is made of a deep tree takes memory for its names, not for a path of each.
//!
//! A file of its own, as the memory that a process has had is that of all its tests.

#[path = "common/trees.rs"]
mod common;

use std::os::fd::OwnedFd;
use std::path::Path;

use common::build_image;
use daxfs_core::build::{BuildOptions, Input, Output, build};
use daxfs_core::diff::{DiffOptions, compare};
use daxfs_core::extract::{ExtractOptions, to_directory, to_tar};
use daxfs_core::format::ROOT_INO;
use daxfs_core::progress::Progress;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, mkdirat, openat};
use tempfile::TempDir;

/// Directories on the way down.
const DEPTH: usize = 200;
/// Directories, files, and further names of these, at its end.
const COUNT: usize = 1500;
/// Their paths would be thrice 37 MiB.
const MEMORY: u64 = 32 << 20;

/// The most memory that this process has had at once. An emulator of processors counts, too.
fn most_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    most.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
}

fn make_tree(root: &Path) {
    let open = |at: &OwnedFd, name: &str, flags| openat(at, name, flags, Mode::RWXU).unwrap();
    let mut at = openat(CWD, root, OFlags::DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..DEPTH {
        let name = "d".repeat(128);
        mkdirat(&at, &name, Mode::RWXU).unwrap();
        at = open(&at, &name, OFlags::DIRECTORY);
    }
    for number in 0..COUNT {
        mkdirat(&at, format!("{number}"), Mode::RWXU).unwrap();
        let (one, other) = (format!("{number}a"), format!("{number}b"));
        open(&at, &one, OFlags::CREATE);
        linkat(&at, one, &at, other, AtFlags::empty()).unwrap();
    }
}

#[test]
fn paths_are_not_kept() {
    let (tree, out) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    make_tree(tree.path());
    let before = most_memory();
    let memory = || most_memory() - before;
    let view = build_image(Input::Directory(tree.path().into()), out.path().join("image"));
    let (top, progress) = (view.inode(ROOT_INO).unwrap(), Progress::default());
    assert!(memory() < MEMORY, "{} bytes to build it", memory());

    let differences = compare(&view, &top, tree.path(), DiffOptions::default(), &progress).unwrap();
    assert_eq!(differences, []);
    assert!(memory() < MEMORY, "{} bytes to compare it", memory());

    let copy = out.path().join("copy");
    let done = to_directory(&view, &top, &copy, ExtractOptions::default(), &progress).unwrap();
    assert_eq!(done.directories as usize, 1 + DEPTH + COUNT);
    assert!(memory() < MEMORY, "{} bytes to extract it", memory());

    let done = to_tar(&view, &top, &mut std::io::sink(), "none".as_ref(), &progress).unwrap();
    assert_eq!(done.entries as usize, 1 + DEPTH + 3 * COUNT);
    assert!(memory() < MEMORY, "{} bytes to archive it", memory());

    let output = Output::File(out.path().join("again"));
    let again = BuildOptions::new(Input::Image(view.into()), output);
    assert_eq!(build(&again, &progress).unwrap().directories as usize, 1 + DEPTH + COUNT);
    assert!(memory() < MEMORY, "{} bytes to build it again", memory());
}
