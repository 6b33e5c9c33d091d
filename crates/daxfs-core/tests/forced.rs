// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protects a branch that was taken by force from a process of which nobody can tell whether it lives:
//! what that one published stays, and no two write behind it.

mod branching;

use std::mem::offset_of;

use branching::ops;
use branching::script::{file, show};
use daxfs_core::error::Error;
use daxfs_core::format::{MAIN_NAME, OpenerEntry, Superblock};
use daxfs_core::region::{Access, Region};

const HEAP: u64 = 8 << 20;

/// Changes a number in the entry of who opened an image first.
fn set_first(region: &Region, field: usize, value: u64) {
    let superblock: Superblock = region.read(0).expect("a superblock");
    let at = superblock.opener_table_offset.get() + field as u64;
    region.write(at, &value.to_le_bytes()).expect("memory");
}

#[test]
fn it_is_read_and_committed_and_not_written() {
    let (region, session) = branching::fresh(HEAP);
    let theirs = session.create("b", MAIN_NAME).expect("a branch");
    ops::apply(&theirs, &file("kept")).expect("made");
    set_first(&region, offset_of!(OpenerEntry, pid_namespace), 1);

    let ours = branching::session(&region).expect("it opens");
    assert!(matches!(ours.release("b", false), Err(Error::Busy { .. })));
    assert!(ours.release("b", true).expect("taken"));
    assert!(!ours.release("b", true).expect("nobody has it"));
    assert!(ours.branches().expect("a list")[1].quarantined);

    // Its owner finds out by the next use.
    let refused = ops::apply(&theirs, &file("late"));
    assert!(matches!(refused, Err(Error::ReadOnly { .. })), "{refused:?}");
    for session in [&session, &ours] {
        assert!(matches!(session.abort("b"), Err(Error::Busy { .. })));
    }
    let child = ours.create("c", "b").expect("a branch");
    ops::apply(&child, &file("more")).expect("made");
    child.abort().expect("alive");

    // That the owner is dead after all does not make it one that can be written.
    set_first(&region, offset_of!(OpenerEntry, start_time), 1);
    set_first(&region, offset_of!(OpenerEntry, boot), 0);
    let before = show(&ours);
    ours.maintain().expect("maintained");
    assert_eq!(show(&ours), before);
    let Err(Error::ReadOnly { why, .. }) = ours.open_branch("b", Access::Write) else {
        panic!("it is written");
    };
    assert!(why.ends_with("; commit it, or branch from it"), "{why}");
    ours.commit("b").expect("alive");
    assert!(show(&ours)[MAIN_NAME].contains("/kept/"));
    branching::expect_clean(&region);
}
