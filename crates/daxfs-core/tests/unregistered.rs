// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protects those who only read, and whom nobody waits for: they see one state, or hear that it is
//! gone, and never bytes that serve something else by now.

mod branching;

use branching::ops::{self, Kind, Op};
use daxfs_core::error::Error;
use daxfs_core::view::View;

fn name(text: &str) -> Vec<Vec<u8>> {
    vec![text.as_bytes().to_vec()]
}

#[test]
fn a_reader_hears_that_space_was_given_back() {
    let (region, session) = branching::fresh(1 << 20);
    let branch = session.create("b", "main").expect("a branch");
    ops::apply(&branch, &Op::Make(name("f"), Kind::File)).expect("made");
    ops::apply(&branch, &Op::Write(name("f"), 0, vec![1; 5000])).expect("written");

    let reader = View::open(branching::open(&region).expect("an image"), "b").expect("it is there");
    let root = reader.inode(1).expect("a root");
    let file = reader.lookup(&root, b"f").expect("sound").expect("it is there");
    let base = reader.lookup(&root, b"base").expect("sound").expect("it is there");
    let mut buffer = [0; 5000];
    assert_eq!(reader.read(&file, 0, &mut buffer).expect("readable"), 5000);
    assert_eq!(buffer, [1; 5000]);
    let extent = reader.extents(&file).expect("sound")[0];
    assert!(matches!(reader.window(&extent), Err(Error::Unsupported { .. })));
    let extent = reader.extents(&base).expect("sound")[0];
    assert_eq!(reader.window(&extent).expect("the base stays").len(), branching::BASE.len());

    branch.abort().expect("aborted");
    drop(branch);
    session.maintain().expect("given back");
    let next = session.create("next", "main").expect("a branch");
    ops::apply(&next, &Op::Make(name("g"), Kind::File)).expect("made");
    ops::apply(&next, &Op::Write(name("g"), 0, vec![2; 20_000])).expect("written");
    let stale = reader.read(&file, 0, &mut buffer);
    assert!(matches!(stale, Err(Error::Stale { .. })), "{stale:?}");
    assert_eq!(reader.read(&base, 0, &mut buffer).expect("the base stays"), 5000);
    assert_eq!(buffer, branching::BASE[..5000]);
}
