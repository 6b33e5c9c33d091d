// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What branches cost: create, commit, abort, write, and how that depends on the size of the
//! image, the changes and the history. On tmpfs; writes beside tmpfs's own.

#![allow(unsafe_code)]

#[path = "../tests/branching/mod.rs"]
mod branching;

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::ptr::null_mut;
use std::sync::Arc;
use std::time::Instant;

use daxfs_core::branch::handle::Branch;
use daxfs_core::format::mode;
use daxfs_core::region::{Access, Region, Source};
use daxfs_core::session::Session;
use daxfs_core::write::NewInode;
use rustix::mm::{MapFlags, ProtFlags};

const FILE: NewInode = NewInode { mode: mode::REGULAR | 0o644, uid: 0, gid: 0, rdev: 0 };
const PAGE: usize = 4096;

/// A session on an image in tmpfs with so many bytes for branches.
fn session(folder: &Path, delta: u64) -> Arc<Session> {
    let path = folder.join("image");
    let (bytes, _) = branching::image(delta);
    std::fs::write(&path, bytes).expect("an image");
    reopen(&path)
}

fn reopen(path: &Path) -> Arc<Session> {
    let region = Region::open(&Source::Path(path.into()), Access::Write).expect("an image");
    branching::session(&Arc::new(region)).expect("an image with branches")
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").expect("tmpfs")
}

/// Median of many, in microseconds.
fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2] * 1e6
}

fn timed<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let start = Instant::now();
    let result = black_box(work());
    (start.elapsed().as_secs_f64(), result)
}

fn row(what: &str, microseconds: f64) {
    println!("{what:56} {microseconds:10.2} µs");
}

fn fill(branch: &Branch, files: u64, bytes: &[u8]) {
    for number in 0..files {
        let inode = branch.mknod(1, format!("file-{number:07}").as_bytes(), &FILE).expect("made");
        branch.write(inode.ino, 0, bytes).expect("written");
    }
}

/// Creating, with so many branches there already.
fn create() {
    let folder = folder();
    let session = session(folder.path(), 64 << 20);
    let mut all = Vec::new();
    let mut times = Vec::new();
    for number in 0..250 {
        let name = format!("branch-{number}");
        let (time, branch) = timed(|| session.create(&name, "main").expect("a branch"));
        all.push(branch);
        times.push(time);
    }
    row("create, branches 1 to 10", median(times[..10].to_vec()));
    row("create, branches 100 to 150", median(times[100..150].to_vec()));
    row("create, branches 200 to 250", median(times[200..].to_vec()));
    let aborts = all.iter().map(|branch| timed(|| branch.abort().expect("aborted")).0).collect();
    row("abort", median(aborts));
}

/// Committing so many changed files, of so many bytes; and creating over what was committed.
fn commit(files: u64, bytes: usize, delta: u64) {
    let (mut commits, mut creates) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let folder = folder();
        let session = session(folder.path(), delta);
        let branch = session.create("b", "main").expect("a branch");
        fill(&branch, files, &vec![7; bytes]);
        commits.push(timed(|| branch.commit().expect("committed")).0);
        creates.push(timed(|| session.create("next", "main").expect("a branch")).0);
    }
    row(&format!("commit, {files} files of {bytes} bytes"), median(commits));
    row("  create after it", median(creates));
}

/// Commits one after the other, with folding when it is due.
fn history() {
    let folder = folder();
    let session = session(folder.path(), 256 << 20);
    let (mut commits, mut folds) = (Vec::new(), Vec::new());
    for round in 0..1000 {
        let branch = session.create("b", "main").expect("a branch");
        let name = format!("round-{round}");
        let inode = branch.mknod(1, name.as_bytes(), &FILE).expect("made");
        branch.write(inode.ino, 0, &[1; 100]).expect("written");
        commits.push(timed(|| branch.commit().expect("committed")).0);
        drop(branch);
        folds.push(timed(|| session.maintain().expect("maintained")).0);
    }
    row("commit, history of 1 to 100", median(commits[..100].to_vec()));
    row("commit, history of 900 to 1000", median(commits[900..].to_vec()));
    let mean = folds.iter().sum::<f64>() / folds.len() as f64;
    row("maintenance and folding, mean of 1000 commits", mean * 1e6);
}

/// Pages written for the first time and again, beside tmpfs and memcpy.
fn write() {
    const PAGES: u64 = 16384;
    let folder = folder();
    let session = session(folder.path(), 256 << 20);
    let branch = session.create("b", "main").expect("a branch");
    let ino = branch.mknod(1, b"file", &FILE).expect("made").ino;
    let peer = File::create_new(folder.path().join("peer")).expect("a file");
    let page = [5; PAGE];
    let per_page = |time: f64| time / PAGES as f64 * 1e6;
    let offsets = || (0..PAGES).map(|at| at * PAGE as u64);
    let target = mapped(&peer, PAGES as usize * PAGE);
    let ours = || timed(|| offsets().for_each(|at| branch.write(ino, at, &page).expect("room"))).0;
    let tmpfs = || timed(|| offsets().for_each(|at| peer.write_all_at(&page, at).expect("room"))).0;
    let mut copy = || {
        let pages = target.chunks_exact_mut(PAGE);
        timed(|| pages.for_each(|to| black_box(to).copy_from_slice(black_box(&page)))).0
    };
    let compare = |what: &str, ours: f64, tmpfs: f64| {
        row(what, ours);
        println!("{:56} {:10.2} of tmpfs pwrite ({tmpfs:.2} µs)", "", ours / tmpfs);
    };
    compare("first write of a page", per_page(ours()), per_page(tmpfs()));
    copy();
    // Side by side, since another program disturbs each of them now and then.
    let again: Vec<_> = (0..9).map(|_| [ours(), tmpfs(), copy()]).collect();
    let middle =
        |which: usize| median(again.iter().map(|times| times[which] / PAGES as f64).collect());
    compare("rewrite of a page", middle(0), middle(1));
    row("memcpy of a page", middle(2));
}

/// A file's bytes as memory, as an image's are.
fn mapped(file: &File, len: usize) -> &'static mut [u8] {
    let (all, shared) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
    // SAFETY: the file has as many bytes, nobody else maps it, and it is never unmapped.
    unsafe {
        let start = rustix::mm::mmap(null_mut(), len, all, shared, file, 0).expect("mapped");
        std::slice::from_raw_parts_mut(start.cast(), len)
    }
}

/// Opening an image with a million entries, and looking up in it.
fn reopen_million() {
    let folder = folder();
    let session = session(folder.path(), 512 << 20);
    let branch = session.create("b", "main").expect("a branch");
    for number in 0..1_000_000 {
        let name = format!("file-{number:07}");
        branch.mknod(1, name.as_bytes(), &FILE).expect("made");
    }
    branch.commit().expect("committed");
    drop((branch, session));
    let (time, main) = timed(|| {
        let session = reopen(&folder.path().join("image"));
        session.open_branch("main", Access::Read).expect("main")
    });
    row("reopen with 1,000,000 entries", time * 1e6);
    black_box(main);
}

/// Look-up and read through chains of branches.
fn depth() {
    let folder = folder();
    let session = session(folder.path(), 64 << 20);
    let first = session.create("depth-1", "main").expect("a branch");
    fill(&first, 1000, &[3; PAGE]);
    let mut all = vec![first];
    for depth in 2..=64 {
        let child = session.create(&format!("depth-{depth}"), &format!("depth-{}", depth - 1));
        let child = child.expect("a branch");
        let name = format!("own-{depth}");
        child.mknod(1, name.as_bytes(), &FILE).expect("made");
        all.push(child);
    }
    let mut times = Vec::new();
    for branch in [&all[0], &all[63]] {
        let round = || {
            let mut buffer = [0; PAGE];
            for number in 0..1000 {
                let view = branch.view().expect("alive");
                let root = view.inode(1).expect("a root");
                let name = format!("file-{number:07}");
                let inode = view.lookup(&root, name.as_bytes()).expect("sound").expect("there");
                view.read(&inode, 0, &mut buffer).expect("readable");
                black_box(&buffer);
            }
        };
        round();
        times.push(median((0..9).map(|_| timed(round).0 / 1000.0).collect()));
    }
    row("look-up and 4 KiB read, depth 1", times[0]);
    row("look-up and 4 KiB read, depth 64", times[1]);
    println!("{:56} {:10.2} of depth 1", "", times[1] / times[0]);
}

fn main() {
    create();
    for (files, bytes, delta) in [
        (1, 100, 64 << 20),
        (1000, 100, 64 << 20),
        (100_000, 100, 1 << 30),
        (1024, 1 << 20, 2 << 30),
    ] {
        commit(files, bytes, delta);
    }
    history();
    write();
    depth();
    reopen_million();
}
