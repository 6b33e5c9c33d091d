// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Instructions that operations on branches take, counted by callgrind: the same on every machine
//! of an architecture and at any load. `make bench-instructions` installs what it needs.

#![allow(missing_docs, reason = "the macros make public modules")]

#[path = "../tests/branching/mod.rs"]
mod branching;

use std::hint::black_box;
use std::sync::Arc;

use daxfs_core::branch::handle::Branch;
use daxfs_core::format::mode;
use daxfs_core::region::{Access, Region};
use daxfs_core::session::Session;
use daxfs_core::view::View;
use daxfs_core::write::NewInode;
use gungraun::{library_benchmark, library_benchmark_group, main};

const FILE: NewInode = NewInode { mode: mode::REGULAR | 0o644, uid: 0, gid: 0, rdev: 0 };
const PAGE: usize = 4096;

/// A party on an image with so many files in a branch, one page each.
fn filled(files: u64) -> (Arc<Session>, Branch) {
    let (bytes, _) = branching::image((files * 8192).max(4 << 20));
    let region = Arc::new(Region::from_bytes(&bytes).expect("memory"));
    let session = branching::session(&region).expect("an image with branches");
    let branch = session.create("filled", "main").expect("a branch");
    for number in 0..files {
        let inode = branch.mknod(1, format!("file-{number}").as_bytes(), &FILE).expect("made");
        branch.write(inode.ino, 0, &[7; PAGE]).expect("written");
    }
    (session, branch)
}

/// The same, and so many branches beside it.
fn crowded(branches: u64) -> (Arc<Session>, Vec<Branch>) {
    let (session, branch) = filled(1);
    let create = |number| session.create(&format!("b{number}"), "main").expect("a branch");
    let others = (0..branches).map(create).collect::<Vec<_>>();
    (session, others.into_iter().chain([branch]).collect())
}

/// A branch so many branches deep over one with a file, and the file.
fn deep(depth: u64) -> (Arc<Session>, View, u64) {
    let (session, branch) = filled(100);
    let mut at = branch;
    for level in 0..depth {
        at = session.create(&format!("level-{level}"), at.name()).expect("a branch");
        at.mknod(1, format!("of-{level}").as_bytes(), &FILE).expect("made");
    }
    let view = at.view().expect("alive");
    let found = view.lookup(&view.inode(1).expect("a root"), b"file-50").expect("readable");
    (session, view, found.expect("it exists").ino)
}

fn file((session, branch): (Arc<Session>, Branch), size: usize) -> (Arc<Session>, Branch, u64) {
    let inode = branch.mknod(1, b"written", &FILE).expect("made");
    branch.write(inode.ino, 0, &vec![1; size]).expect("written");
    (session, branch, inode.ino)
}

#[library_benchmark]
#[bench::first(crowded(0))]
#[bench::of_250(crowded(250))]
fn create((session, others): (Arc<Session>, Vec<Branch>)) -> (Arc<Session>, Vec<Branch>, Branch) {
    let branch = black_box(session.create("new", "main").expect("a branch"));
    (session, others, branch)
}

#[library_benchmark]
#[bench::files_1(filled(1))]
#[bench::files_10000(filled(10_000))]
fn commit((session, branch): (Arc<Session>, Branch)) -> (Arc<Session>, Branch) {
    branch.commit().expect("committed");
    (session, branch)
}

#[library_benchmark]
#[bench::files_1(filled(1))]
#[bench::files_10000(filled(10_000))]
fn abort((session, branch): (Arc<Session>, Branch)) -> (Arc<Session>, Branch) {
    branch.abort().expect("aborted");
    (session, branch)
}

#[library_benchmark]
#[bench::page(file(filled(1), 0))]
fn first_write((session, branch, ino): (Arc<Session>, Branch, u64)) -> (Arc<Session>, Branch, u64) {
    branch.write(ino, 0, black_box(&[2; PAGE])).expect("written");
    (session, branch, ino)
}

#[library_benchmark]
#[bench::page(file(filled(1), PAGE))]
fn rewrite((session, branch, ino): (Arc<Session>, Branch, u64)) -> (Arc<Session>, Branch, u64) {
    branch.write(ino, 0, black_box(&[2; PAGE])).expect("written");
    (session, branch, ino)
}

#[library_benchmark]
#[bench::among_1(filled(1))]
#[bench::among_10000(filled(10_000))]
fn make((session, branch): (Arc<Session>, Branch)) -> (Arc<Session>, Branch) {
    black_box(branch.mknod(1, b"made", &FILE).expect("made"));
    (session, branch)
}

#[library_benchmark]
#[bench::depth_1(deep(1))]
#[bench::depth_64(deep(64))]
fn look_up_and_read(
    (session, view, ino): (Arc<Session>, View, u64),
) -> (Arc<Session>, View, u64, [u8; PAGE]) {
    let root = view.inode(1).expect("a root");
    let found = view.lookup(&root, b"file-50").expect("readable").expect("it exists");
    let mut page = [0; PAGE];
    view.read(&found, 0, &mut page).expect("readable");
    (session, view, ino, page)
}

/// A region with a long log, on which nobody has looked yet.
fn unread(files: u64) -> Arc<Region> {
    let (session, branch) = filled(files);
    let region = Arc::clone(session.image().region());
    drop((branch, session));
    region
}

#[library_benchmark]
#[bench::files_10000(unread(10_000))]
fn open_and_replay(region: Arc<Region>) -> (Arc<Session>, Branch) {
    let session = branching::session(&region).expect("an image with branches");
    let branch = session.open_branch("filled", Access::Read).expect("alive");
    (session, branch)
}

library_benchmark_group!(
    name = branches,
    benchmarks =
        [create, commit, abort, first_write, rewrite, make, look_up_and_read, open_and_replay,]
);
main!(library_benchmark_groups = branches);
