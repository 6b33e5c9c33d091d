// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protects an image whose writer died anywhere from those who then come to put it in order, all at
//! once: what was there stays, and nothing of the dead does.

mod branching;

use std::collections::HashSet;
use std::sync::Arc;

use branching::ops::Op;
use branching::schedule::{expect_lost, explore, party, schedules, wait_for};
use branching::script::{Shown, Step, bury, file, path, run, show, write};
use daxfs_core::region::trace::Event;
use daxfs_core::region::{Access, Durability, Region};

/// Before these, nobody dies.
const HISTORY: usize = 6;

fn steps() -> Vec<Step> {
    let mut steps = Vec::new();
    for (name, byte) in [("one", 1), ("two", 2)] {
        steps.push(Step::Create(name, "main"));
        steps.push(Step::Operate(name, write("base", u64::from(byte) * 4096, byte, 4096)));
        steps.push(Step::Commit(name));
    }
    assert_eq!(steps.len(), HISTORY);
    steps.extend([
        Step::Maintain(0),
        Step::Operate("main", file("gone")),
        Step::Operate("main", write("gone", 0, b'2', 5000)),
        Step::Operate("main", Op::Unlink(path("gone"))),
        Step::Renew,
        Step::Create("a", "main"),
        Step::Create("b", "a"),
        Step::Operate("b", write("base", 0, b'b', 100)),
        Step::Create("c", "main"),
        Step::Abort("c"),
        Step::Commit("b"),
        Step::Maintain(0),
    ]);
    steps
}

/// An image as a death left it, and what it may show.
type Left = (Arc<[u8]>, Vec<Shown>);

/// Lets the writer die after each of its stores.
fn die_everywhere() -> Vec<Left> {
    let (mut image, _) = branching::image(320 << 10);
    let region = Arc::new(Region::traced(&image, Durability::Memory).expect("memory"));
    let session = branching::session(&region).expect("an image with branches");
    let mut states = vec![show(&session)];
    for (number, step) in steps().iter().enumerate() {
        run(&session, step);
        region.mark(number as u64 + 1);
        states.push(show(&session));
    }
    image.resize(region.len() as usize, 0);
    let (mut done, mut seen, mut left) = (0, HashSet::new(), Vec::new());
    for event in region.take_trace() {
        match event {
            Event::Mark(mark) => done = mark as usize,
            Event::Store { offset, bytes } => {
                image[offset as usize..][..bytes.len()].copy_from_slice(&bytes);
            }
            Event::WriteBack { .. } | Event::Fence => {}
        }
        if done >= HISTORY && done + 1 < states.len() && seen.insert(crc32c::crc32c(&image)) {
            let mut image = image.clone();
            bury(&mut image);
            left.push((image.into(), states[done..=done + 1].to_vec()));
        }
    }
    left
}

#[test]
fn many_put_it_in_order() {
    let left = die_everywhere();
    println!("{} deaths", left.len());
    for (image, allowed) in left {
        explore(&image, schedules(3), move |region| {
            let keepers = [0, 1].map(|_| {
                party(&region, |session| {
                    session.maintain_to(0).expect("maintained");
                })
            });
            let writer = party(&region, |session| {
                if let Err(error) = session.open_branch("main", Access::Write) {
                    expect_lost(&error);
                }
            });
            wait_for(keepers.into_iter().chain([writer]));
            let shown = show(&branching::session(&region).expect("it opens"));
            assert!(allowed.contains(&shown), "neither before nor after: {shown:#?}\n{allowed:#?}");
        });
    }
}
