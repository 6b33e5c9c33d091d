// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protects what the handles and threads of one party do with the same branches at the same time:
//! a thread stops before any of its accesses to shared memory, and others, and other parties, do as
//! much as they like meanwhile.

mod branching;

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use branching::interrupt::{happen, interrupted, step, stop};
use branching::ops::{self, Kind, Op};
use branching::script::path;
use daxfs_core::branch::handle::Branch;
use daxfs_core::error::{Error, Result};
use daxfs_core::region::{Access, Region};
use daxfs_core::session::Session;

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

/// Starts a thread, and waits for its end unless that waits for who waits here.
fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
    let thread = thread::spawn(work);
    give_time(&thread);
    thread
}

/// Waits for the end of a thread, unless that waits for who waits here.
fn give_time<T>(thread: &thread::JoinHandle<T>) {
    let end = Instant::now() + Duration::from_millis(20);
    while !thread.is_finished() && Instant::now() < end {
        thread::yield_now();
    }
}

fn read(branch: &Branch, name: &str) -> Result<Vec<u8>> {
    let view = branch.view()?;
    let inode = view.lookup(&view.inode(1)?, name.as_bytes())?.expect("it exists");
    let mut bytes = vec![0; inode.size as usize];
    view.read(&inode, 0, &mut bytes)?;
    Ok(bytes)
}

fn fill(branch: &Branch, byte: u8, len: usize) -> Result<()> {
    ops::apply(branch, &Op::Write(path("f"), 0, vec![byte; len]))
}

/// Another party commits and takes the blocks of those that lost, while one thread writes to such a
/// one, and another finds out that it has ended.
fn lose_while(work: fn(&Branch)) {
    const LEN: usize = 40_000;
    let (image, _) = branching::image(320 << 10);
    for number in 0.. {
        let region = Arc::new(Region::interleaved(&image, step).expect("memory"));
        let [here, there] = [(); 2].map(|()| branching::session(&region).expect("it opens"));
        let lost = here.create("lost", "main").expect("a branch");
        ops::apply(&lost, &Op::Make(path("f"), Kind::File)).expect("made");
        fill(&lost, 1, 10_000).expect("written");
        let winner = there.create("winner", "main").expect("a branch");
        ops::apply(&winner, &Op::Make(path("f"), Kind::File)).expect("made");
        let (writer, reader, memory) = (lost.clone(), lost, Arc::clone(&region));
        let stopped = interrupted(
            number,
            move || work(&writer),
            move || {
                if winner.commit().is_err() {
                    return;
                }
                beside(move || reader.view().map(drop));
                for _ in 0..2 {
                    there.maintain().expect("maintained");
                }
                // It takes the first slot that is free.
                let third = branching::session(&memory).expect("it opens");
                let next = third.create("next", "main").expect("a branch");
                fill(&next, 2, LEN).expect("written");
            },
        );
        if !stopped {
            return;
        }
        branching::expect_clean(&region);
        let session = branching::session(&region).expect("it opens");
        // Who was not lost yet may have been first.
        let Ok(next) = session.open_branch("next", Access::Read) else { continue };
        let whole = read(&next, "f").expect("readable") == vec![2; LEN];
        assert!(whole, "stopped at {number}");
    }
}

#[test]
fn a_write_to_what_was_lost_harms_nobody() {
    lose_while(|branch| {
        let _ = ops::apply(branch, &Op::Write(path("f"), 4096, vec![3; 8000]));
    });
    lose_while(|branch| {
        let _ = ops::apply(branch, &Op::Write(path("f"), 0, vec![3; 8000]));
    });
}

#[test]
fn zeroes_in_what_was_lost_harm_nobody() {
    lose_while(|branch| {
        let view = branch.view().and_then(|view| view.lookup(&view.inode(1)?, b"f"));
        if let Ok(Some(file)) = view {
            let _ = branch.zero_range(file.ino, 0, 5000, false);
        }
    });
}

#[test]
fn who_commits_or_aborts_what_was_lost_harms_nobody() {
    lose_while(|branch| drop(branch.commit()));
    lose_while(|branch| drop(branch.abort()));
}

#[test]
fn who_takes_a_branch_keeps_it_while_the_hold_of_the_dead_is_broken() {
    const DEAD: u64 = 256;
    let (image, _) = branching::image(320 << 10);
    for number in 0.. {
        let region = Arc::new(Region::interleaved(&image, step).expect("memory"));
        let session: Arc<Session> = branching::session(&region).expect("it opens");
        let branch = session.create("b", "main").expect("a branch");
        let owner = 4096 + (branch.id() - 1) % 256 * 128 + 88;
        drop(branch);
        assert!(region.compare_exchange(owner, 0, DEAD).expect("a word"));
        let (taken, got) = channel();
        let (keeper, writer) = (Arc::clone(&session), Arc::clone(&session));
        let stopped = interrupted(
            number,
            move || {
                keeper.maintain().expect("maintained");
            },
            move || {
                let take = move || writer.open_branch("b", Access::Write).expect("of the dead");
                taken.send(beside(take)).expect("it is waited for");
            },
        );
        if !stopped {
            return;
        }
        let branch = got.recv().expect("begun").join().expect("taken");
        let word = region.load(owner).expect("a word");
        assert_eq!(word, session.id(), "stopped at {number}");
        drop(branch);
    }
}

#[test]
fn who_makes_a_branch_is_not_kept_from_it_by_those_who_write_to_what_it_is_made_of() {
    let (image, _) = branching::image(320 << 10);
    let region = Arc::new(Region::interleaved(&image, step).expect("memory"));
    let session = branching::session(&region).expect("it opens");
    let parent = session.create("parent", "main").expect("a branch");
    ops::apply(&parent, &Op::Make(path("f"), Kind::File)).expect("made");
    let writer = parent.clone();
    let mut writing: Option<thread::JoinHandle<_>> = None;
    happen(1, move || {
        // One write after another.
        writing.as_ref().inspect(|thread| give_time(thread));
        if writing.as_ref().is_none_or(thread::JoinHandle::is_finished) {
            let writer = writer.clone();
            writing = Some(beside(move || fill(&writer, 1, 10)));
        }
    });
    let child = session.create("child", "parent");
    stop();
    child.expect("a branch");
}
