// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protects what was acknowledged: after a loss of power at any store, with any part of what was
//! not yet written back, the image is sound, shows a state that it was in since the last
//! acknowledgement, is recovered without a trace of what went on, and can be worked with.

mod branching;

use std::sync::Arc;

use branching::crash::Memory;
use branching::ops::{self, Op};
use branching::script::{Shown, Step, bury, directory, file, path, run, show, write};
use daxfs_core::error::Error;
use daxfs_core::finding::Finding;
use daxfs_core::region::trace::Event;
use daxfs_core::region::{Access, Durability, Region};
use daxfs_core::session::Session;

/// Runs the steps, crashes everywhere, and looks at what is left.
fn crash_everywhere(what: &str, durability: Durability, steps: &[Step], recrash: bool) {
    let (image, _) = branching::image(320 << 10);
    let region = Arc::new(Region::traced(&image, durability).expect("memory"));
    let session = branching::session(&region).expect("an image with branches");
    // What each step left; handles close with their steps, so each step ends in an acknowledgement.
    let mut states = vec![show(&session)];
    for (number, step) in steps.iter().enumerate() {
        run(&session, step);
        region.mark(number as u64 + 1);
        states.push(show(&session));
    }
    let trace = region.take_trace();
    let (mut memory, mut acknowledged, mut tried, mut again) = (Memory::new(&image), 0, 0, 0);
    for event in &trace {
        memory.apply(event);
        if let Event::Mark(mark) = event {
            acknowledged = *mark as usize;
        }
        let last = (acknowledged + 1).min(states.len() - 1);
        let allowed = &states[acknowledged..=last];
        tried += memory.crash(|left| again += recover(left, allowed, recrash));
    }
    println!("{what}: {} events, {tried} crashes, {again} in recovery", trace.len());
    assert!(tried > steps.len() as u64 * 4, "hardly any crash was tried");
}

/// What must hold of an image after a crash; returns how many crashes during its recovery were
/// tried, if they were to be.
fn recover(left: &[u8], allowed: &[Shown], recrash: bool) -> u64 {
    let mut left = left.to_vec();
    bury(&mut left);
    let traced = Region::traced(&left, Durability::Memory).expect("memory");
    let region = Arc::new(traced);
    branching::expect_clean(&region);
    let session = branching::session(&region).expect("it opens");
    let shown = show(&session);
    assert!(allowed.contains(&shown), "neither before nor after: {shown:#?}\n{allowed:#?}");
    session.maintain().expect("it recovers");
    assert_eq!(show(&session), shown, "recovery changed what is there");
    // What had to be stamped again goes with the next round.
    session.maintain().expect("the rest goes");
    let done = session.maintain().expect("nothing is left to do");
    assert_eq!((done.broken_holds, done.leaked_blocks, done.records), (0, 0, 0), "{done:?}");
    let findings = branching::findings(&region);
    let unused = |finding: &&Finding| finding.what != "unused opener entry";
    assert_eq!(findings.list().iter().find(unused), None, "recovery left this");
    let mut count = 0;
    if recrash {
        // Recovery is cut short as well: nothing of it may show.
        let mut memory = Memory::new(&left);
        let trace = region.take_trace();
        for (number, event) in trace.iter().enumerate() {
            memory.apply(event);
            if number % stride() == trace.len() % stride() {
                count += memory.crash(|left| {
                    recover(left, std::slice::from_ref(&shown), false);
                });
            }
        }
    }
    match go_on_there(&session) {
        Err(Error::NoSpace { .. }) => {}
        done => done.expect("work goes on in what was left"),
    }
    let findings = branching::findings(&region);
    assert_eq!(findings.list().iter().find(unused), None, "going on left this");
    match go_on(&session) {
        // At the latest when there are no branches.
        Err(Error::NoSpace { .. }) => {
            for name in show(&session).into_keys().filter(|name| name != "main") {
                session.abort(&name).expect("aborted");
            }
            session.maintain().expect("given back");
            go_on(&session).expect("work goes on");
        }
        done => done.expect("work goes on"),
    }
    count
}

/// Writes in the branches that the crash left.
fn go_on_there(session: &Arc<Session>) -> Result<(), Error> {
    for name in show(session).into_keys() {
        let branch = match session.open_branch(&name, Access::Write) {
            // It has children.
            Err(Error::ReadOnly { .. }) => continue,
            opened => opened?,
        };
        // Gives back what the branch does not need.
        branch.free_blocks()?;
        ops::apply(&branch, &file("more"))?;
        ops::apply(&branch, &write("more", 0, b'+', 9000))?;
    }
    Ok(())
}

fn go_on(session: &Arc<Session>) -> Result<(), Error> {
    let branch = session.create("after", "main")?;
    ops::apply(&branch, &file("after"))?;
    ops::apply(&branch, &write("after", 3, b'!', 5000))?;
    branch.commit()
}

/// Of the crashes in recovery, every how-manieth is tried.
fn stride() -> usize {
    let stride = std::env::var("DAXFS_CRASH_STRIDE").ok();
    stride.and_then(|stride| stride.parse().ok()).unwrap_or(60)
}

fn in_memory(what: &str, steps: &[Step]) {
    crash_everywhere(what, Durability::Memory, steps, false);
}

#[test]
fn create_write_commit() {
    in_memory(
        "create, write, commit",
        &[
            Step::Create("b", "main"),
            Step::Operate("b", file("f")),
            Step::Operate("b", write("f", 100, b'x', 5000)),
            Step::Operate("b", Op::Append(path("f"), vec![b'y'; 30])),
            Step::Commit("b"),
        ],
    );
}

#[test]
fn names() {
    in_memory(
        "names",
        &[
            Step::Create("b", "main"),
            Step::Operate("b", directory("d")),
            Step::Operate("b", Op::Rename(path("base"), path("d/moved"))),
            Step::Operate("b", Op::Link(path("d/moved"), path("again"))),
            Step::Operate("b", file("victim")),
            Step::Operate("b", Op::Rename(path("again"), path("victim"))),
            Step::Operate("b", Op::Exchange(path("victim"), path("d"))),
            Step::Operate("b", Op::Unlink(path("victim/moved"))),
            Step::Operate("b", Op::Rmdir(path("victim"))),
            Step::Commit("b"),
        ],
    );
}

#[test]
fn sizes_and_attributes() {
    in_memory(
        "sizes and attributes",
        &[
            Step::Operate("main", write("base", 10, b'x', 8000)),
            Step::Operate("main", Op::Truncate(path("base"), 50)),
            Step::Operate("main", Op::Append(path("base"), vec![b'y'; 60])),
            Step::Operate("main", Op::Truncate(path("base"), 9000)),
            Step::Operate("main", Op::Punch(path("base"), 20, 5000)),
            Step::Operate("main", Op::Allocate(path("base"), 4000, 9000)),
            Step::Operate("main", Op::Chmod(path("base"), 0o4711)),
            Step::Operate("main", Op::SetXattr(path("base"), b"user.a".into(), vec![1; 4200])),
            Step::Operate("main", Op::RemoveXattr(path("base"), b"user.a".into())),
        ],
    );
}

#[test]
fn siblings_and_abort() {
    in_memory(
        "siblings and abort",
        &[
            Step::Create("a", "main"),
            Step::Create("b", "main"),
            Step::Create("c", "b"),
            Step::Operate("a", write("base", 0, b'a', 100)),
            Step::Operate("c", write("base", 0, b'c', 100)),
            Step::Abort("a"),
            Step::Commit("c"),
            Step::Maintain(8),
        ],
    );
}

#[test]
fn fold() {
    let mut steps = Vec::new();
    for (name, byte) in [("one", 1), ("two", 2), ("three", 3)] {
        steps.push(Step::Create(name, "main"));
        steps.push(Step::Operate(name, write("base", u64::from(byte) * 4096, byte, 4096)));
        steps.push(Step::Commit(name));
    }
    steps.push(Step::Maintain(0));
    steps.push(Step::Create("last", "main"));
    steps.push(Step::Operate("last", Op::Unlink(path("base"))));
    in_memory("fold", &steps);
    crash_everywhere("fold, behind a file", Durability::File, &steps, false);
}

#[test]
fn a_fresh_log_for_main() {
    let steps = [
        Step::Operate("main", write("base", 4096, b'1', 5000)),
        Step::Operate("main", file("gone")),
        Step::Operate("main", write("gone", 0, b'2', 5000)),
        Step::Operate("main", Op::Unlink(path("gone"))),
        Step::Renew,
        Step::Operate("main", write("base", 0, b'3', 9000)),
        Step::Operate("main", file("kept")),
        Step::Operate("main", Op::Rename(path("kept"), path("moved"))),
        Step::Renew,
        Step::Create("b", "main"),
    ];
    in_memory("a fresh log", &steps);
    crash_everywhere("a fresh log, behind a file", Durability::File, &steps, false);
    crash_everywhere("a fresh log, recovery", Durability::Memory, &steps[..6], true);
}

#[test]
fn blocks_that_are_used_again() {
    let steps = [
        Step::Create("b", "main"),
        Step::Operate("b", file("one")),
        Step::Operate("b", write("one", 0, b'1', 36 * 4096)),
        Step::Operate("b", Op::Truncate(path("one"), 5000)),
        Step::Operate("b", file("two")),
        Step::Operate("b", write("two", 0, b'2', 36 * 4096)),
        Step::Operate("b", Op::Unlink(path("two"))),
        Step::Operate("b", write("one", 8192, b'3', 36 * 4096)),
        Step::Commit("b"),
    ];
    in_memory("used again", &steps);
    crash_everywhere("used again, behind a file", Durability::File, &steps, false);
}

#[test]
fn recovery_is_interrupted() {
    let steps = [
        Step::Create("a", "main"),
        Step::Create("b", "a"),
        Step::Operate("b", write("base", 0, b'b', 100)),
        Step::Commit("b"),
        Step::Maintain(0),
    ];
    crash_everywhere("recovery", Durability::Memory, &steps, true);
}

#[test]
fn behind_a_file() {
    let steps = [
        Step::Create("b", "main"),
        Step::Operate("b", write("base", 0, b'b', 9000)),
        Step::Operate("b", Op::Rename(path("base"), path("moved"))),
        Step::Sync("b"),
        Step::Commit("b"),
        Step::Operate("main", Op::Truncate(path("moved"), 77)),
    ];
    crash_everywhere("behind a file", Durability::File, &steps, false);
}

/// A page that is rewritten may be torn; the rest of the file, and every other, may not.
#[test]
fn rewriting_in_place() {
    rewrite_behind(Durability::Memory);
    rewrite_behind(Durability::File);
}

fn rewrite_behind(durability: Durability) {
    let (image, _) = branching::image(320 << 10);
    let region = Arc::new(Region::traced(&image, durability).expect("memory"));
    let session = branching::session(&region).expect("an image with branches");
    let main = session.open_branch("main", Access::Write).expect("to be written");
    ops::apply(&main, &write("base", 0, b'1', 6000)).expect("written");
    main.sync().expect("synced");
    let before = region.take_trace();
    ops::apply(&main, &write("base", 1000, b'2', 4000)).expect("rewritten");
    main.sync().expect("synced");
    region.mark(1);
    let after = region.take_trace();
    let mut memory = Memory::new(&image);
    before.iter().for_each(|event| memory.apply(event));
    let (mut acknowledged, mut tried) = (false, 0);
    for event in &after {
        memory.apply(event);
        acknowledged |= *event == Event::Mark(1);
        tried += memory.crash(|left| {
            let mut left = left.to_vec();
            bury(&mut left);
            let region = Arc::new(Region::from_bytes(&left).expect("memory"));
            branching::expect_clean(&region);
            let session = branching::session(&region).expect("it opens");
            let view = session.open_branch("main", Access::Read).and_then(|main| main.view());
            let view = view.expect("alive");
            let inode = view.lookup(&view.inode(1).expect("a root"), b"base");
            let inode = inode.expect("readable").expect("it exists");
            let mut bytes = [0; 6000];
            assert_eq!(view.read(&inode, 0, &mut bytes).expect("readable"), bytes.len());
            for (at, byte) in bytes.iter().enumerate() {
                let rewritten = (1000..5000).contains(&at);
                let new = rewritten && *byte == b'2';
                assert!(new || *byte == b'1' && !(rewritten && acknowledged), "byte {at}: {byte}");
            }
        });
    }
    println!("rewriting, {durability:?}: {tried} crashes");
    assert!(tried > 10, "hardly any crash was tried");
}

#[test]
fn the_disk_is_waited_for_once() {
    let (image, _) = branching::image(320 << 10);
    let region = Arc::new(Region::traced(&image, Durability::File).expect("memory"));
    let session = branching::session(&region).expect("an image with branches");
    let branch = session.create("b", "main").expect("made");
    let view = branch.view().expect("alive");
    let inode = view.lookup(&view.inode(1).expect("a root"), b"base").expect("readable");
    let ino = inode.expect("it exists").ino;
    drop(view);
    let waits = || {
        region.take_trace();
        branch.sync().expect("synced");
        region.take_trace().contains(&Event::Fence)
    };
    branch.sync().expect("synced");
    // Into blocks of others, and where it is.
    for bytes in [b"one", b"two"] {
        assert!(!waits());
        branch.write(ino, 0, bytes).expect("written");
        assert!(waits());
    }
    assert!(!waits());
    // Through a window something may be stored at any time.
    let window = branch.map(ino, 0, 4096).expect("its own");
    assert!(waits() && waits());
    drop(window);
    assert!(waits() && !waits());
    // Also where there is no room for an entry that says when.
    let full = (1..).find_map(|block| branch.write(ino, block * 4096, &[1; 4096]).err());
    assert!(matches!(full, Some(Error::NoSpace { .. })), "{full:?}");
    for _ in 0..1000 {
        branch.write(ino, 0, b"three").expect("it has its place");
        assert!(waits() && !waits());
    }
}
