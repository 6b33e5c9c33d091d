// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protects those who are slow: others do what they like while somebody looks or waits, and he is
//! neither told that what merely changes is wrong, nor that what he could have had is not there.

mod branching;

use std::mem::offset_of;
use std::sync::Arc;
use std::time::Duration;

use branching::interrupt::{happen, interrupted, step, stop};
use branching::ops::{self, Op};
use branching::script::path;
use daxfs_core::branch::handle::Branch;
use daxfs_core::error::{Error, Result};
use daxfs_core::format::{BRANCH_RECORDS, BranchRecord};
use daxfs_core::history;
use daxfs_core::image::Image;
use daxfs_core::region::{Access, Region};
use daxfs_core::session::Session;
use daxfs_core::validate::{Depth, validate};
use daxfs_core::view::View;

fn image(delta: u64) -> Arc<Region> {
    Arc::new(Region::interleaved(&branching::image(delta).0, step).expect("memory"))
}

/// A change of main that leaves nothing of what main was but its content.
fn move_on(session: &Arc<Session>) {
    let branch = session.create("next", "main").expect("a branch");
    ops::apply(&branch, &Op::Append(path("base"), vec![1])).expect("written");
    branch.commit().expect("nobody else commits");
    for _ in 0..3 {
        session.maintain_to(0).expect("maintained");
    }
}

#[test]
fn what_changes_all_the_time_is_not_wrong() {
    let region = image(320 << 10);
    let session = branching::session(&region).expect("an image with branches");
    move_on(&session);
    happen(60, move || move_on(&session));
    let proof = validate(&region, Depth::Metadata);
    stop();
    match proof {
        Err(Error::ImageBusy { .. }) => {}
        proof => assert_eq!(proof.expect("an image").findings.errors(), 0),
    }
    branching::expect_clean(&region);
}

/// Others wait for main while somebody writes to it, and would take it at the first moment at which it
/// is nobody's.
#[test]
fn main_is_held_while_its_log_is_begun_anew() {
    let region = image(320 << 10);
    let [writer, other] =
        [(); 2].map(|()| branching::session(&region).expect("an image with branches"));
    let main = writer.open_branch("main", Access::Write).expect("nobody's");
    ops::apply(&main, &Op::Append(path("base"), vec![1])).expect("written");
    let id = writer.id();
    happen(0, move || {
        let branches = other.branches().expect("readable");
        assert_eq!(branches[0].owner.map(|owner| owner.id), Some(id));
    });
    assert!(main.renew().expect("held"));
    stop();
}

/// Lets somebody look at an image who is not registered, interrupted once, by others who move on:
/// before the first of its accesses to the memory, then before the second, and so on.
fn while_others_move_on(look: impl Fn(&Arc<Image>)) {
    for accesses in 0.. {
        let region = image(1 << 20);
        let others = branching::session(&region).expect("an image with branches");
        move_on(&others);
        let image = branching::open(&region).expect("an image");
        if !interrupted(accesses, || look(&image), move || move_on(&others)) {
            assert!(accesses > BRANCH_RECORDS.into(), "every record is looked at");
            return;
        }
    }
}

#[test]
fn what_others_change_meanwhile_is_looked_at_again() {
    while_others_move_on(|image| {
        let live = image.branches().expect("the image is sound");
        assert!(live.iter().any(|branch| branch.name == "main"), "{live:?}");
    });
    while_others_move_on(|image| {
        View::open(Arc::clone(image), "main").expect("the image is sound");
    });
    while_others_move_on(|image| {
        let events = history::log(image, "main").expect("the image is sound");
        assert!(events.iter().all(|event| event.path.as_deref() == Some(b"/base")), "{events:?}");
        assert!(!events.is_empty());
    });
}

#[test]
fn main_is_opened_beside_commits() {
    for every in 1..200 {
        let region = image(1 << 20);
        let session = branching::session(&region).expect("an image with branches");
        let others = branching::session(&region).expect("an image with branches");
        let mut left = 12;
        happen(every, move || {
            let held = others.branches().expect("a list")[0].owner.is_some();
            if left > 0 && !held {
                left -= 1;
                move_on(&others);
            }
        });
        let main = session.open_branch("main", Access::Write);
        stop();
        main.expect("it is there, and nobody has it");
    }
}

#[test]
fn a_record_that_can_be_had_is_waited_for() {
    let region = image(320 << 10);
    let session = branching::session(&region).expect("an image with branches");
    let names = (0..).map(|number| format!("b{number}"));
    let made = names.map_while(|name| session.create(&name, "main").ok().map(drop)).count();
    assert!(made + 2 >= BRANCH_RECORDS as usize - 2, "only {made}");
    session.commit("b0").expect("it wins");
    let main = session.open_branch("main", Access::Write).expect("nobody has it");
    // Longer than anybody is waited for by the clock.
    let mut pause = Some(Duration::from_secs(1));
    happen(3000, move || pause.take().into_iter().for_each(std::thread::sleep));
    let next = session.create("next", "main");
    stop();
    next.expect("all others are dead");
    drop(main);
}

/// Whatever moment of making a branch somebody else commits at.
#[test]
fn a_branch_is_made_beside_commits() {
    for moment in (0..400).step_by(3) {
        let region = image(320 << 10);
        let (maker, other) =
            [(); 2].map(|()| branching::session(&region).expect("it opens")).into();
        let rival = other.create("rival", "main").expect("a branch");
        let mut rival = Some(rival);
        happen(moment, move || {
            rival.take().into_iter().for_each(|rival| rival.commit().expect("alone"))
        });
        let made = maker.create("made", "main");
        stop();
        made.unwrap_or_else(|error| panic!("{moment}: {error}"));
    }
}

/// Whatever moment it ends at that somebody else has main, as who ends the hold of a dead writer has.
#[test]
fn a_hold_that_ends_is_outlasted() {
    type Taking = fn(&Arc<Session>) -> Result<Branch>;
    let takings: [(&str, Taking); 2] = [
        ("opened", |session| session.open_branch("main", Access::Write)),
        ("made", |session| session.create("made", "main")),
    ];
    for (what, take) in takings {
        for moment in (0..400).step_by(3) {
            let region = image(320 << 10);
            let (taker, other) =
                [(); 2].map(|()| branching::session(&region).expect("it opens")).into();
            let mut held = Some(other.open_branch("main", Access::Write).expect("nobody has it"));
            happen(moment, move || drop(held.take()));
            let taken = take(&taker);
            stop();
            taken.unwrap_or_else(|error| panic!("{what}, {moment}: {error}"));
        }
    }
}

#[test]
fn what_cannot_be_made_leaves_nothing() {
    let region = image(320 << 10);
    let session = branching::session(&region).expect("it opens");
    let main = session.open_branch("main", Access::Write).expect("nobody has it");
    ops::apply(&main, &Op::Append(path("base"), vec![1])).expect("written");
    drop((main, session));
    let image = branching::open(&region).expect("an image");
    let record = image.branches().expect("a table")[0].clone();
    // The type of the first entry.
    region.write(record.log.at, &[0xff; 4]).expect("writable");
    let session = branching::session(&region).expect("it opens");
    session.create("made", "main").expect_err("its tree cannot be read");
    let left = session.branches().expect("a table");
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn a_record_that_cannot_be_filled_is_let_go() {
    let region = image(320 << 10);
    let superblock = *branching::open(&region).expect("an image").superblock();
    let record = superblock.branch_table_offset.get() + size_of::<BranchRecord>() as u64;
    let id = record + offset_of!(BranchRecord, branch_id) as u64;
    region.write(id, &u64::MAX.to_le_bytes()).expect("writable");
    let session = branching::session(&region).expect("it opens");
    session.create("made", "main").expect_err("no id is left");
    let owner = region.load(record + offset_of!(BranchRecord, owner) as u64);
    assert_eq!(owner.expect("readable"), 0);
}
