// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protects those who only read, and whom nobody waits for: they see one state, or hear that it is
//! gone, and never bytes that serve something else by now.

mod branching;

use std::sync::Arc;

use branching::interrupt::{interrupted, step};
use branching::ops::{self, Kind, Op};
use daxfs_core::error::Error;
use daxfs_core::region::trace::Event;
use daxfs_core::region::{Access, Durability, Region};
use daxfs_core::session::Session;
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

fn commit(session: &Arc<Session>, file: &str) {
    let branch = session.create(file, "main").expect("a branch");
    ops::apply(&branch, &Op::Make(name(file), Kind::File)).expect("made");
    branch.commit().expect("nobody else commits");
}

/// While the table is looked through, a record that had ended is given back, and a fold that takes
/// its slot becomes main's: no epoch comes of that before the layers under it go.
#[test]
fn a_record_is_not_taken_for_the_next_one_in_its_slot() {
    let (bytes, _) = branching::image(320 << 10);
    let region = Arc::new(Region::traced(&bytes, Durability::Memory).expect("memory"));
    let all = || region.read_vec(0, region.len()).expect("all of it");
    let session = branching::session(&region).expect("it opens");
    let reader = branching::session(&region).expect("it opens");
    let main = reader.open_branch("main", Access::Read).expect("it is there");
    let view = main.view().expect("alive");
    session.create("ended", "main").expect("a branch").abort().expect("its own");
    commit(&session, "one");
    commit(&session, "two");
    let before = all();

    drop((view, main));
    session.maintain_to(100).expect("maintained");
    region.take_trace();
    let mut after = all();
    let tip = region.load(1024).expect("head");
    let parent = 4096 + (tip - 1) % 256 * 128 + 8;
    branching::session(&region).expect("it opens").maintain_to(0).expect("folded");
    for event in region.take_trace() {
        let Event::Store { offset, bytes } = event else { continue };
        after[offset as usize..][..bytes.len()].copy_from_slice(&bytes);
        if offset == parent {
            break;
        }
    }
    assert_eq!(before[1088..1096], after[1088..1096], "the epoch is the same");

    let show = |region: &Arc<Region>| {
        let view = View::open(branching::open(region).expect("an image"), "main");
        branching::dump(&view.expect("it is there")).expect("readable")
    };
    let expected = show(&Arc::new(Region::from_bytes(&before).expect("memory")));
    assert_eq!(show(&Arc::new(Region::from_bytes(&after).expect("memory"))), expected);
    for number in 0.. {
        let region = Arc::new(Region::interleaved(&before, step).expect("memory"));
        let (memory, left) = (Arc::clone(&region), after.clone());
        let changed = interrupted(
            number,
            || assert_eq!(show(&region), expected, "changed at {number}"),
            move || memory.write(0, &left).expect("the whole image"),
        );
        if !changed {
            return;
        }
    }
}
