// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protects those who are slow: who waits, and is not given a processor for long, is not told that
//! what he could have had is not there.

mod branching;

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use daxfs_core::format::BRANCH_RECORDS;
use daxfs_core::region::{Access, Region};

type Event = Box<dyn FnMut()>;

thread_local! {
    /// What happens, and how many accesses of this thread to shared memory before it does.
    static NEXT: RefCell<Option<(u64, u64, Event)>> = const { RefCell::new(None) };
}

/// What happens does not happen within itself.
fn step() {
    let Some((left, every, mut event)) = NEXT.take() else { return };
    let left = match left.checked_sub(1) {
        Some(left) => left,
        None => {
            event();
            every
        }
    };
    NEXT.set(Some((left, every, event)));
}

/// Lets something happen time and again, `every` so many accesses of this thread.
fn happen(every: u64, event: impl FnMut() + 'static) {
    NEXT.set(Some((every, every, Box::new(event))));
}

fn image(delta: u64) -> Arc<Region> {
    Arc::new(Region::interleaved(&branching::image(delta).0, step).expect("memory"))
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
    let mut stop = Some(Duration::from_secs(1));
    happen(3000, move || stop.take().into_iter().for_each(std::thread::sleep));
    let next = session.create("next", "main");
    NEXT.take();
    next.expect("all others are dead");
    drop(main);
}
