// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What others do before an access of this thread to shared memory.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

type Event = Box<dyn FnMut()>;

thread_local! {
    /// What happens, and how many accesses of this thread to shared memory before it does.
    static NEXT: RefCell<Option<(u64, u64, Event)>> = const { RefCell::new(None) };
}

/// What a region calls before each access. What happens does not happen within itself.
pub(crate) fn step() {
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
pub(crate) fn happen(every: u64, event: impl FnMut() + 'static) {
    NEXT.set(Some((every, every, Box::new(event))));
}

/// Lets nothing happen any more.
pub(crate) fn stop() {
    NEXT.take();
}

/// Does `work`, and lets something happen once, before its access of this number; says whether it
/// had so many.
pub(crate) fn interrupted(
    number: u64,
    work: impl FnOnce(),
    event: impl FnOnce() + 'static,
) -> bool {
    let happened = Rc::new(Cell::new(false));
    let (note, mut event) = (Rc::clone(&happened), Some(event));
    happen(number, move || {
        note.set(true);
        event.take().into_iter().for_each(|event| event());
    });
    work();
    stop();
    happened.get()
}
