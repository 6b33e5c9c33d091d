// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protects: a full image can always be emptied, whatever filled it, and what commits left behind
//! comes back when it is wanted.

mod branching;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use branching::ops::{self, Kind, Op, Path};
use daxfs_core::branch::handle::Branch;
use daxfs_core::error::{Error, Result};
use daxfs_core::format::{BLOCK_SIZE, BranchRecord, ROOT_INO, Superblock};
use daxfs_core::region::{Access, Region};
use daxfs_core::session::Session;
use daxfs_core::view::Links;
use daxfs_core::write::SetAttr;

const HEAP: u64 = 4 << 20;

fn path(name: &str) -> Path {
    vec![name.as_bytes().to_vec()]
}

fn put(branch: &Branch, name: &str, len: usize) -> Result<()> {
    match ops::apply(branch, &Op::Make(path(name), Kind::File)) {
        Ok(()) | Err(Error::FileExists { .. }) => {}
        Err(error) => return Err(error),
    }
    ops::apply(branch, &Op::Truncate(path(name), 0))?;
    ops::apply(branch, &Op::Write(path(name), 0, vec![1; len]))
}

fn full(done: &Result<()>) -> bool {
    match done {
        Ok(()) => false,
        Err(Error::NoSpace { .. }) => true,
        Err(error) => panic!("{error}"),
    }
}

/// The image takes most of its heap again.
fn is_empty_again(region: &Arc<Region>, session: &Arc<Session>) {
    session.collect().expect("maintained");
    let branch = session.open_branch("main", Access::Write).expect("nobody else's");
    put(&branch, "last", HEAP as usize / 2).expect("room again");
    drop(branch);
    branching::expect_clean(region);
}

#[test]
fn a_size_that_somebody_made_up_takes_no_room() {
    let (region, session) = branching::fresh(HEAP);
    let branch = session.create("b", "main").expect("a branch");
    put(&branch, "f", 1).expect("room");
    branch.release().expect("let go");
    let size = BLOCK_SIZE + std::mem::offset_of!(BranchRecord, delta_log_size) as u64;
    region.store(size, u64::MAX).expect("main's record");
    put(&branch, "f", 1).expect("as much as its tree leaves");
}

#[test]
fn files_that_fill_main_are_removed_in_a_branch() {
    let (region, session) = branching::fresh(HEAP);
    let branch = session.create("fill", "main").expect("a branch");
    let names: Vec<String> = (0..)
        .map(|number| format!("file {number}"))
        .take_while(|name| !full(&put(&branch, name, 2000)))
        .collect();
    assert!(names.len() > 500, "{} files", names.len());
    branch.commit().expect("committed");
    drop(branch);
    let branch = session.create("empty", "main").expect("a branch");
    for name in &names {
        ops::apply(&branch, &Op::Unlink(path(name))).expect("removed");
    }
    branch.commit().expect("committed");
    drop(branch);
    is_empty_again(&region, &session);
}

#[test]
fn names_that_fill_main_are_removed_from_it() {
    for heap in [1, 2, 3, 4, 6].map(|size| size << 20) {
        let (region, session) = branching::fresh(heap);
        let main = session.open_branch("main", Access::Write).expect("nobody else's");
        for round in 0..2 {
            let make = |name: &String| ops::apply(&main, &Op::Make(path(name), Kind::File));
            let names: Vec<String> = (0..)
                .map(|number| format!("{number}"))
                .take_while(|name| !full(&make(name)))
                .collect();
            assert!(names.len() > 2000, "{} files", names.len());
            for name in &names {
                ops::apply(&main, &Op::Unlink(path(name)))
                    .unwrap_or_else(|error| panic!("{heap}, {round}, {name}: {error}"));
            }
        }
        drop(main);
        branching::expect_clean(&region);
    }
}

#[test]
fn who_reads_for_a_moment_keeps_no_write_from_its_space() {
    let (_region, session) = branching::fresh(HEAP);
    let main = session.open_branch("main", Access::Write).expect("nobody else's");
    let fill = |name: &str| {
        put(&main, name, 1).expect("room");
        let write = |at| Op::Write(path(name), at * BLOCK_SIZE, vec![2; BLOCK_SIZE as usize]);
        (0..).take_while(|at| !full(&ops::apply(&main, &write(*at)))).count()
    };
    let first = fill("first");
    ops::apply(&main, &Op::Unlink(path("first"))).expect("removed");
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        // As a mount does, which has a look at its tree every 10 ms.
        scope.spawn(|| {
            for _ in (0..1000).take_while(|_| !over.load(Relaxed)) {
                let view = main.view();
                thread::sleep(Duration::from_millis(10));
                drop(view);
            }
        });
        let second = fill("second");
        over.store(true, Relaxed);
        assert!(second > first / 10 * 9, "{second} of {first} blocks");
    });
}

#[test]
fn a_branch_full_of_its_own_history_is_emptied_and_committed() {
    let (region, session) = branching::fresh(HEAP);
    let branch = session.create("churn", "main").expect("a branch");
    let rounds = (0..100_000).take_while(|_| !full(&put(&branch, "file", 100))).count();
    assert!(rounds > 10_000, "{rounds} rounds");
    // Going on trying does not use up what is left.
    for _ in 0..500 {
        full(&put(&branch, "file", 100));
    }
    ops::apply(&branch, &Op::Unlink(path("file"))).expect("removed");
    branch.commit().expect("committed");
    drop(branch);
    is_empty_again(&region, &session);
}

#[test]
fn generations_take_no_more_than_two_of_them() {
    let (region, session) = branching::fresh(HEAP);
    for generation in 0..30 {
        let branch = session.create("next", "main").expect("a branch");
        for name in ["a", "b", "c", "d"] {
            put(&branch, name, 256 << 10).unwrap_or_else(|error| panic!("{generation}: {error}"));
        }
        branch.commit().expect("committed");
    }
    branching::expect_clean(&region);
}

#[test]
fn main_is_rewritten_for_as_long_as_one_likes() {
    let (region, session) = branching::fresh(HEAP);
    let main = session.open_branch("main", Access::Write).expect("nobody else's");
    for round in 0..15_000 {
        put(&main, ["a", "b", "c"][round % 3], 100_000)
            .unwrap_or_else(|error| panic!("{round}: {error}"));
    }
    drop(main);
    branching::expect_clean(&region);
}

#[test]
fn main_is_not_begun_anew_under_a_mapping() {
    let (region, session) = branching::fresh(HEAP);
    let main = session.open_branch("main", Access::Write).expect("nobody else's");
    put(&main, "mapped", 100_000).expect("room");
    let view = main.view().expect("alive");
    let root = view.inode(ROOT_INO).expect("a root");
    let ino = view.lookup(&root, b"mapped").expect("readable").expect("it exists").ino;
    drop(view);
    let mapping = main.map(ino, 0, 100_000).expect("mapped");
    session.collect().expect("it does what can be done");
    // Nor does it keep a write from finding room.
    for round in 0..200 {
        put(&main, "other", 100_000).unwrap_or_else(|error| panic!("{round}: {error}"));
    }
    drop((mapping, main));
    branching::expect_clean(&region);
}

#[test]
fn a_write_that_finds_no_space_changes_nothing() {
    const BLOCK: u64 = BLOCK_SIZE;
    let (_region, session) = branching::fresh(1 << 20);
    let branch = session.create("full", "main").expect("a branch");
    put(&branch, "file", BLOCK as usize).expect("room");
    put(&branch, "filling", 1).expect("room");
    let fill = |at| {
        let write = Op::Write(path("filling"), at * BLOCK, vec![2; BLOCK as usize]);
        !full(&ops::apply(&branch, &write))
    };
    let filled = (0..).take_while(|at| fill(*at)).count() as u64;
    let dump = || branching::dump(&branch.view().expect("alive")).expect("readable");
    // A write replaces what is there, goes on behind it, and wants blocks besides. What is given
    // back meanwhile is now too little for those, now for the log.
    let mut left = (0..filled).rev();
    for round in 0_usize.. {
        let before = dump();
        let start = [0, 100, BLOCK][round % 3];
        let write = Op::Write(path("file"), start, vec![round as u8; 2 * BLOCK as usize]);
        if full(&ops::apply(&branch, &write)) {
            assert_eq!(before, dump(), "round {round}");
            let Some(left) = left.next() else { break };
            ops::apply(&branch, &Op::Truncate(path("filling"), left * BLOCK)).expect("cut");
        } else {
            ops::apply(&branch, &Op::Truncate(path("file"), BLOCK + 50)).expect("cut");
        }
    }
    assert!(filled > 100, "{filled} blocks");
}

#[test]
fn a_full_branch_takes_files_cut_where_they_end() {
    let (region, session) = branching::fresh(1 << 20);
    let branch = session.create("full", "main").expect("a branch");
    let file = |name: &str| {
        put(&branch, name, 0).expect("room");
        let view = branch.view().expect("alive");
        view.resolve(name.as_bytes(), Links::Follow).expect("it is there")
    };
    let (empty, ahead) = (file("empty"), file("ahead"));
    branch.allocate(ahead.ino, 0, 64 * BLOCK_SIZE, true).expect("room");
    put(&branch, "filling", 1).expect("room");
    let fill = |at| Op::Write(path("filling"), at * BLOCK_SIZE, vec![2; BLOCK_SIZE as usize]);
    let _ = (0..).take_while(|at| !full(&ops::apply(&branch, &fill(*at)))).count();
    let _ = (0..).take_while(|at| !full(&put(&branch, &format!("{at}"), 0))).count();
    let cut = |ino| branch.set_attr(ino, &SetAttr { size: Some(0), ..SetAttr::default() });
    let before = branch.free_blocks().expect("counted");
    let same = cut(empty.ino).expect("no space is needed");
    assert!(same.mtime > empty.mtime, "{} and {}", same.mtime, empty.mtime);
    assert_eq!(same.ctime, same.mtime);
    // What was allocated behind the end goes.
    cut(ahead.ino).expect("the reserve is there for it");
    let after = branch.free_blocks().expect("counted");
    assert!(after >= before + 60, "{before} and {after}");
    drop(branch);
    branching::expect_clean(&region);
    let again = session.open_branch("full", Access::Read).expect("alive").view().expect("alive");
    assert_eq!(again.resolve(b"empty", Links::Follow).expect("it is there").mtime, same.mtime);
}

#[test]
fn who_holds_a_branch_and_does_nothing_keeps_nothing_of_before() {
    let (region, session) = branching::fresh(HEAP);
    let others = branching::session(&region).expect("it opens");
    let fill = |generation: &str| {
        for name in ["a", "b", "c"] {
            let branch = session.create(&format!("{generation} {name}"), "main").expect("a branch");
            put(&branch, "file", HEAP as usize / 5).expect("room");
        }
    };
    fill("first");
    session.commit("first a").expect("committed");
    let held = others.create("held", "main").expect("a branch");
    fill("second");
    put(&held, "file", 1).expect("room");
    drop(held);
    branching::expect_clean(&region);
}

#[test]
fn who_finds_no_space_that_somebody_keeps_is_told() {
    let (region, session) = branching::fresh(HEAP);
    let others = branching::session(&region).expect("it opens");
    let held = others.create("held", "main").expect("a branch");
    let dropped = session.create("dropped", "main").expect("a branch");
    put(&dropped, "file", HEAP as usize / 4 * 3).expect("room");
    dropped.abort().expect("aborted");
    let branch = session.create("next", "main").expect("a branch");
    let error = put(&branch, "file", HEAP as usize / 2).expect_err("it is kept").to_string();
    assert!(error.contains("`daxfs-branch gc` names it"), "{error}");
    put(&held, "file", 1).expect("it moves on");
    put(&branch, "file", HEAP as usize / 2).expect("room");
    drop((held, branch));
    branching::expect_clean(&region);
}

#[test]
fn a_write_waits_for_what_another_is_about_to_give_back() {
    let region = branching::slowable(HEAP);
    let session = branching::session(&region).expect("it opens");
    for number in 0..6 {
        let branch = session.create(&number.to_string(), "main").expect("a branch");
        put(&branch, "file", HEAP as usize / 7).expect("room");
    }
    session.commit("0").expect("committed");
    let branch = session.open_branch("main", Access::Write).expect("nobody else's");
    put(&branch, "new", 1).expect("room");
    let maint = std::mem::offset_of!(Superblock, maint) as u64;
    thread::scope(|scope| {
        scope.spawn(|| {
            branching::slow_down();
            let session = branching::session(&region).expect("it opens");
            session.maintain().expect("maintained");
        });
        while region.load(maint).expect("memory") == 0 {
            thread::yield_now();
        }
        put(&branch, "new", HEAP as usize / 2).expect("room");
    });
    drop(branch);
    branching::expect_clean(&region);
}
