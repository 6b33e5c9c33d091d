// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protects: an image that healthy parties write to all the time is sound for everybody who comes,
//! and what they list is there.

mod branching;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use branching::ops::{self, Kind, Op};
use daxfs_core::format::{MAIN_NAME, OPENER_CLAIMED, OPENER_ENTRIES, OpenerEntry, Superblock};
use daxfs_core::region::{Access, Region, Source};

const HEAP: u64 = 8 << 20;
const GENERATIONS: usize = 3000;

#[test]
fn branches_come_and_go_while_others_look() {
    let (bytes, _) = branching::image(HEAP);
    let region = Arc::new(Region::from_bytes(&bytes).expect("memory"));
    let done = AtomicBool::new(false);
    let write = |party: &str| {
        let session = branching::session(&region).expect("it opens");
        for generation in 0..GENERATIONS {
            // The other one's commit may be in the way.
            let Ok(branch) = session.create(party, MAIN_NAME) else { continue };
            let file = vec![format!("{party} {}", generation % 10).into_bytes()];
            let _ = ops::apply(&branch, &Op::Make(file.clone(), Kind::File));
            let _ = ops::apply(&branch, &Op::Write(file, 0, vec![1; 5000]));
            if generation % 3 > 0 && branch.commit().is_ok() {
                continue;
            }
            let _ = branch.abort();
        }
    };
    let prove = || {
        while !done.load(Ordering::Relaxed) {
            branching::expect_clean(&region);
        }
    };
    let list = || {
        let session = branching::session(&region).expect("it opens");
        while !done.load(Ordering::Relaxed) {
            let branches = session.branches().expect("a list");
            assert_eq!(branches[0].name, MAIN_NAME);
        }
    };
    thread::scope(|scope| {
        let lookers = [scope.spawn(prove), scope.spawn(list)];
        let writers = ["one", "two"].map(|party| scope.spawn(move || write(party)));
        let wrote = writers.map(|writer| writer.join());
        done.store(true, Ordering::Relaxed);
        for thread in lookers {
            thread.join().expect("nothing is wrong");
        }
        wrote.into_iter().for_each(|wrote| wrote.expect("it writes"));
    });
    branching::expect_clean(&region);
}

#[test]
fn a_branch_is_made_of_main_while_its_committer_still_holds_it() {
    let region = branching::slowable(HEAP);
    let maker = branching::session(&region).expect("it opens");
    let head = || region.load(std::mem::offset_of!(Superblock, head) as u64).expect("memory");
    for round in 0..5 {
        let before = head();
        let branch = maker.create("next", MAIN_NAME).expect("a branch");
        branch.release().expect("released");
        drop(branch);
        thread::scope(|scope| {
            scope.spawn(|| {
                let session = branching::session(&region).expect("it opens");
                branching::slow_down();
                session.commit("next").expect("committed");
            });
            while head() == before {
                thread::yield_now();
            }
            let branch = maker.create("other", MAIN_NAME);
            branch.unwrap_or_else(|error| panic!("{round}: {error}")).abort().expect("alive");
        });
    }
    branching::expect_clean(&region);
}

#[test]
fn places_of_those_who_died_as_they_came_are_given_away() {
    let (mut bytes, _) = branching::image(HEAP);
    let region = Region::from_bytes(&bytes).expect("memory");
    let superblock: Superblock = region.read(0).expect("a superblock");
    let table = superblock.opener_table_offset.get() as usize;
    for slot in 0..u64::from(OPENER_ENTRIES) {
        let at = table + slot as usize * size_of::<OpenerEntry>();
        bytes[at..at + 8].copy_from_slice(&(OPENER_CLAIMED | (slot + 1)).to_le_bytes());
    }
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(&file, bytes).expect("written");
    let source = Source::Path(file.path().into());
    let region = Arc::new(Region::open(&source, Access::Write).expect("mapped"));
    branching::session(&region).expect("it opens").create("b", MAIN_NAME).expect("a branch");
}
