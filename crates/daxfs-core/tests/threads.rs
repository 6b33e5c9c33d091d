// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protects what the handles and threads of one party do with the same branches.

mod branching;

use branching::ops::{self, Kind, Op};
use branching::script::path;
use daxfs_core::error::Error;
use daxfs_core::region::Access;

#[test]
fn a_branch_that_was_committed_is_not_taken_for_main() {
    let (_region, session) = branching::fresh(320 << 10);
    let old = session.create("b", "main").expect("a branch");
    old.commit().expect("nobody else commits");
    let main = session.open_branch("main", Access::Write).expect("free to take");
    ops::apply(&main, &Op::Make(path("f"), Kind::File)).expect("made");
    ops::apply(&main, &Op::Write(path("f"), 0, vec![1; 4096])).expect("written");
    let view = main.view().expect("alive");
    let ino = view.lookup(&view.inode(1).expect("a root"), b"f").expect("x").expect("x").ino;
    drop(view);
    let window = main.map(ino, 0, 4096).expect("mapped");
    let made = session.create("c", "main").map(drop);
    assert!(matches!(made, Err(Error::Busy { .. })), "{made:?}");
    drop(window);
    let child = session.create("c", "main").expect("a branch");
    assert!(matches!(
        ops::apply(&main, &Op::Write(path("f"), 0, vec![2; 10])),
        Err(Error::ReadOnly { .. })
    ));
    drop((child, old));
}
