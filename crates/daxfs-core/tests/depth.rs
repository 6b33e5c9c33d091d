// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protects directories that lie deeper than any path can name: what is moved about above them,
//! and folded, still shows.

mod branching;

use std::fs;
use std::sync::Arc;

use daxfs_core::branch::handle::Branch;
use daxfs_core::build::{BuildOptions, Input, Output, build};
use daxfs_core::format::mode;
use daxfs_core::layout::Shape;
use daxfs_core::progress::Progress;
use daxfs_core::region::{Access, Region};
use daxfs_core::write::{NewInode, Rename};

const ROOT: u64 = 1;

fn directory(branch: &Branch, parent: u64, name: &[u8]) -> u64 {
    let new = NewInode { mode: mode::DIRECTORY | 0o755, uid: 0, gid: 0, rdev: 0 };
    branch.mknod(parent, name, &new).expect("made").ino
}

/// A directory in the root with `depth` others below, one in the other; the last of them.
fn chain(branch: &Branch, name: &[u8], depth: usize) -> u64 {
    (0..depth).fold(directory(branch, ROOT, name), |parent, _| directory(branch, parent, b"d"))
}

#[test]
fn what_lies_too_deep_to_be_moved_there_outlives_a_fold() {
    let folder = tempfile::tempdir().expect("a folder");
    let (source, output) = (folder.path().join("source"), folder.path().join("image"));
    fs::create_dir_all(source.join("moved/inner")).expect("a folder");
    let mut options = BuildOptions::new(Input::Directory(source), Output::File(output.clone()));
    options.shape = Shape { branches: true, delta_size: Some(4 << 20), size: None };
    build(&options, &Progress::default()).expect("an image");
    let bytes = fs::read(&output).expect("an image");
    let region = Arc::new(Region::from_bytes(&bytes).expect("memory"));
    let session = branching::session(&region).expect("it opens");

    let branch = session.create("deep", "main").expect("a branch");
    let (below, above) = (chain(&branch, b"below", 1500), chain(&branch, b"above", 1500));
    branch.rename(ROOT, b"moved", below, b"moved", Rename::NoReplace).expect("moved");
    branch.rename(ROOT, b"below", above, b"below", Rename::NoReplace).expect("moved");
    branch.commit().expect("nobody else commits");
    let empty = session.create("empty", "main").expect("a branch");
    empty.commit().expect("nobody else commits");
    let main = session.open_branch("main", Access::Read).expect("it is there");
    let shown = branching::dump(&main.view().expect("alive")).expect("readable");

    session.maintain_to(0).expect("maintained");
    branching::expect_clean(&region);
    let later = branching::session(&region).expect("it opens");
    let main = later.open_branch("main", Access::Read).expect("readable");
    assert_eq!(branching::dump(&main.view().expect("alive")).expect("readable"), shown);
}
