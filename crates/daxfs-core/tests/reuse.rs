// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protects the life of a branch: what its writer removes or overwrites makes room for more, and
//! nobody who can still read it ever sees other bytes there.

mod branching;

use std::sync::Arc;

use branching::ops::{self, Kind, Op};
use daxfs_core::branch::handle::Branch;
use daxfs_core::delta::FILE_SIZE_MAX;
use daxfs_core::error::Error;
use daxfs_core::format::{BLOCK_SIZE, ROOT_INO};
use daxfs_core::region::{Access, Region};
use daxfs_core::session::Session;

const HEAP: u64 = 512 << 10;
/// Most of the heap.
const BIG: usize = 256 << 10;

struct Party {
    region: Arc<Region>,
    session: Arc<Session>,
    branch: Branch,
}

/// A region and a party that writes to a branch.
fn party() -> Party {
    let (region, session) = branching::fresh(HEAP);
    let branch = session.create("b", "main").expect("a branch");
    Party { region, session, branch }
}

fn path(name: &str) -> ops::Path {
    vec![name.as_bytes().to_vec()]
}

fn make(branch: &Branch, name: &str) {
    ops::apply(branch, &Op::Make(path(name), Kind::File)).expect("made");
}

fn write(branch: &Branch, name: &str, byte: u8, len: usize) -> Result<(), Error> {
    ops::apply(branch, &Op::Write(path(name), 0, vec![byte; len]))
}

fn remove(branch: &Branch, name: &str) {
    ops::apply(branch, &Op::Unlink(path(name))).expect("removed");
}

fn ino(branch: &Branch, name: &str) -> u64 {
    let view = branch.view().expect("alive");
    let root = view.inode(ROOT_INO).expect("a root");
    view.lookup(&root, name.as_bytes()).expect("readable").expect("it exists").ino
}

/// The only byte that a file consists of.
fn content(branch: &Branch, ino: u64) -> Result<u8, Error> {
    let view = branch.view()?;
    let inode = view.inode(ino)?;
    let mut bytes = vec![0; inode.size as usize];
    view.read(&inode, 0, &mut bytes)?;
    assert!(bytes.iter().all(|byte| *byte == bytes[0]), "it is of two files");
    Ok(bytes[0])
}

#[test]
fn a_branch_takes_many_times_its_space() {
    let Party { region, session, branch } = party();
    make(&branch, "stays");
    write(&branch, "stays", b's', 20_000).expect("room");
    for round in 0..40_u8 {
        make(&branch, "big");
        write(&branch, "big", round, BIG).expect("room again");
        assert_eq!(content(&branch, ino(&branch, "big")).expect("readable"), round);
        match round % 3 {
            0 => remove(&branch, "big"),
            1 => {
                ops::apply(&branch, &Op::Truncate(path("big"), 0)).expect("cut");
                remove(&branch, "big");
            }
            _ => {
                make(&branch, "other");
                ops::apply(&branch, &Op::Rename(path("other"), path("big"))).expect("replaced");
                remove(&branch, "big");
            }
        }
        branching::expect_clean(&region);
    }
    assert_eq!(content(&branch, ino(&branch, "stays")).expect("readable"), b's');
    // All of it replays, for a party of its own as for those that come after the commit.
    let other = branching::session(&region).expect("it opens");
    let seen = other.open_branch("b", Access::Read).expect("alive");
    let dump = |branch: &Branch| branching::dump(&branch.view().expect("alive")).expect("a dump");
    assert_eq!(dump(&seen), dump(&branch));
    let before = dump(&branch);
    branch.commit().expect("committed");
    session.maintain_to(0).expect("maintained");
    branching::expect_clean(&region);
    let main = other.open_branch("main", Access::Read).expect("it exists");
    assert_eq!(dump(&main), before);
}

#[test]
fn a_full_branch_says_what_it_has_room_for() {
    let Party { branch, .. } = party();
    let free = |branch: &Branch| branch.free_blocks().expect("a count");
    make(&branch, "big");
    let before = free(&branch);
    write(&branch, "big", 1, BIG).expect("room");
    let blocks = BIG as u64 / BLOCK_SIZE;
    assert_eq!(free(&branch), before - blocks);
    make(&branch, "more");
    let refused = write(&branch, "more", 2, BIG);
    assert!(matches!(refused, Err(Error::NoSpace { .. })), "{refused:?}");
    remove(&branch, "big");
    assert!(free(&branch) >= before - 2, "{} of {before}", free(&branch));
    write(&branch, "more", 2, BIG).expect("room again");
}

/// Nor does it wait for those who read.
#[test]
fn asking_for_the_room_again_does_nothing() {
    let Party { region, branch, .. } = party();
    make(&branch, "big");
    write(&branch, "big", 1, BIG).expect("room");
    let kept = branch.keep(ino(&branch, "big"));
    remove(&branch, "big");
    let free = || branch.free_blocks().expect("a count");
    let before = free();
    drop(kept);
    assert_eq!(free(), before + BIG as u64 / BLOCK_SIZE);
    let bytes = || region.read_vec(0, region.len()).expect("readable");
    let (before, memory) = (free(), bytes());
    assert_eq!(free(), before);
    assert!(bytes() == memory);
}

/// Whose reading keeps the room is waited for once: others want to write meanwhile.
#[test]
fn asking_for_room_that_is_kept_does_nothing() {
    let Party { region, branch, .. } = party();
    make(&branch, "big");
    write(&branch, "big", 1, BIG).expect("room");
    let reader = branching::session(&region).expect("it opens");
    let view = reader.open_branch("b", Access::Read).and_then(|branch| branch.view());
    remove(&branch, "big");
    let free = || branch.free_blocks().expect("a count");
    let bytes = || region.read_vec(0, region.len()).expect("readable");
    let (before, memory) = (free(), bytes());
    assert_eq!(free(), before);
    assert!(bytes() == memory);
    drop(view);
    assert_eq!(free(), before + BIG as u64 / BLOCK_SIZE);
}

#[test]
fn who_takes_the_branch_over_finds_the_room() {
    let Party { region, session, branch } = party();
    make(&branch, "big");
    write(&branch, "big", 1, BIG).expect("room");
    remove(&branch, "big");
    drop((branch, session));
    let session = branching::session(&region).expect("it opens");
    let branch = session.open_branch("b", Access::Write).expect("free to take");
    make(&branch, "big");
    write(&branch, "big", 2, BIG).expect("room again");
    branching::expect_clean(&region);
}

#[test]
fn a_file_in_use_outlives_its_name() {
    let Party { branch, .. } = party();
    make(&branch, "used");
    write(&branch, "used", b'u', BIG).expect("room");
    let used = ino(&branch, "used");
    let kept = [branch.keep(used), branch.keep(used)];
    remove(&branch, "used");
    make(&branch, "next");
    for kept in kept {
        let refused = write(&branch, "next", b'n', BIG);
        assert!(matches!(refused, Err(Error::NoSpace { .. })), "{refused:?}");
        assert_eq!(content(&branch, used).expect("in use"), b'u');
        branch.write(used, 5, b"u").expect("in use");
        drop(kept);
    }
    write(&branch, "next", b'n', BIG).expect("room now");
    assert!(matches!(content(&branch, used), Err(Error::NotFound { .. })));
    assert!(matches!(branch.write(used, 0, b"x"), Err(Error::NotFound { .. })));
}

#[test]
fn what_is_being_read_stays() {
    let Party { region, branch, .. } = party();
    make(&branch, "read");
    write(&branch, "read", b'r', BIG).expect("room");
    let ino = ino(&branch, "read");
    let other = branching::session(&region).expect("it opens");
    let seen = other.open_branch("b", Access::Read).expect("alive");
    // One of this party, and one of another.
    for view in [branch.view(), seen.view()].map(|view| view.expect("alive")) {
        let inode = view.inode(ino).expect("it exists");
        let window = view.contiguous(&inode, 0, BLOCK_SIZE).expect("readable").expect("in place");
        if inode.nlink > 0 && branch.view().expect("alive").inode(ino).expect("there").nlink > 0 {
            remove(&branch, "read");
            make(&branch, "next");
        }
        let refused = write(&branch, "next", b'n', BIG);
        assert!(matches!(refused, Err(Error::NoSpace { .. })), "{refused:?}");
        let mut bytes = vec![0; BIG];
        view.read(&inode, 0, &mut bytes).expect("readable");
        assert!(bytes.iter().all(|byte| *byte == b'r'));
        drop(window);
    }
    // The other party's handle is open still, but it reads nothing now.
    drop(seen.view().expect("alive"));
    write(&branch, "next", b'n', BIG).expect("room now");
    assert!(matches!(content(&seen, ino), Err(Error::NotFound { .. })), "it is another's now");
}

/// Layers below main's tip have no writer who could give their blocks back one by one.
#[test]
fn main_tells_the_room_of_what_it_has_removed_from_layers_below() {
    let (region, session) = branching::fresh(HEAP);
    let branch = session.create("b", "main").expect("a branch");
    make(&branch, "big");
    make(&branch, "stays");
    write(&branch, "big", 1, BIG).expect("room");
    write(&branch, "stays", 2, BLOCK_SIZE as usize).expect("room");
    branch.commit().expect("committed");
    session.create("c", "main").and_then(|above| above.commit()).expect("committed");
    let main = session.open_branch("main", Access::Write).expect("nobody's");
    let free = || main.free_blocks().expect("a count");
    let before = free();
    remove(&main, "big");
    let room = before + BIG as u64 / BLOCK_SIZE - 2;
    assert!(free() >= room, "{} of {room}", free());
    // Asked again, with little to be had, it begins nothing anew.
    remove(&main, "stays");
    free();
    let record = main.id();
    make(&main, "more");
    assert!(free() >= room - 1, "{} of {room}", free());
    assert_eq!(main.id(), record);
    write(&main, "more", 3, BIG + BIG / 4).expect("as much as was told");
    branching::expect_clean(&region);
}

/// Where a search for free blocks begins, a run of them may lie on both sides.
#[test]
fn adjacent_blocks_are_found_wherever_they_lie() {
    const PART: usize = 24;
    let Party { branch, .. } = party();
    let blocks = |count: usize| count * BLOCK_SIZE as usize;
    for name in ["first", "second"] {
        make(&branch, name);
        write(&branch, name, 1, blocks(PART)).expect("room");
    }
    make(&branch, "rest");
    while ops::apply(&branch, &Op::Append(path("rest"), vec![2; blocks(1)])).is_ok() {}
    make(&branch, "both");
    for name in ["first", "second"] {
        remove(&branch, name);
        branch.free_blocks().expect("a count");
    }
    let size = blocks(2 * PART - 8) as u64;
    ops::apply(&branch, &Op::Truncate(path("both"), size)).expect("room");
    branch.map(ino(&branch, "both"), 0, size).expect("in one piece");
}

/// The records of a branch that has ended go, and a mount that shows it still asks.
#[test]
fn a_branch_that_has_ended_tells_no_free_space() {
    let Party { region, branch, .. } = party();
    let other = branching::session(&region).expect("it opens");
    other.create("c", "main").and_then(|winner| winner.commit()).expect("committed");
    let stale = branch.view();
    assert!(matches!(stale, Err(Error::Stale { .. })), "{stale:?}");
    assert_eq!(other.maintain().expect("maintained").records, 1);
    let free = branch.free_blocks();
    assert!(matches!(free, Err(Error::Stale { .. })), "{free:?}");
}

/// Space behind a file's end is there for what comes, and what comes makes the file larger.
#[test]
fn a_file_grows_into_the_space_that_it_was_given() {
    let party = party();
    make(&party.branch, "file");
    let ino = ino(&party.branch, "file");
    party.branch.allocate(ino, 0, 16 * BLOCK_SIZE, true).expect("room");
    let free = party.branch.free_blocks().expect("readable");
    let size = || party.branch.view().expect("alive").inode(ino).expect("there").size;
    assert_eq!(size(), 0);
    party.branch.append(ino, &[1; 100]).expect("written");
    assert_eq!(size(), 100);
    party.branch.append(ino, &[1; 5000]).expect("written");
    party.branch.write(ino, 7 * BLOCK_SIZE + 9, &[1; 10]).expect("written");
    assert_eq!(size(), 7 * BLOCK_SIZE + 19);
    // None of it took a block.
    assert_eq!(party.branch.free_blocks().expect("readable"), free);
    let mut expected = vec![1; 5100];
    expected.resize(7 * BLOCK_SIZE as usize + 9, 0);
    expected.resize(7 * BLOCK_SIZE as usize + 19, 1);
    let read = |session: &Arc<Session>| {
        let branch = session.open_branch("b", Access::Read).expect("a branch");
        let view = branch.view().expect("alive");
        let mut bytes = vec![7; expected.len() + 1];
        let len = view.read(&view.inode(ino).expect("there"), 0, &mut bytes).expect("readable");
        bytes.truncate(len);
        bytes
    };
    assert!(read(&party.session) == expected);
    // And whoever replays the log finds the same.
    let other = branching::session(&party.region).expect("it opens");
    assert!(read(&other) == expected);
}

/// The largest file ends within a page.
#[test]
fn the_last_page_that_a_file_can_have_is_allocated() {
    let party = party();
    make(&party.branch, "file");
    let ino = ino(&party.branch, "file");
    let last = FILE_SIZE_MAX - BLOCK_SIZE + 1;
    for keep_size in [true, false] {
        party.branch.allocate(ino, last, BLOCK_SIZE - 1, keep_size).expect("room");
        party.branch.zero_range(ino, last - 1, BLOCK_SIZE, keep_size).expect("room");
    }
    party.branch.write(ino, FILE_SIZE_MAX - 3, b"end").expect("written");
    let beyond = party.branch.allocate(ino, last, BLOCK_SIZE, true);
    assert!(matches!(beyond, Err(Error::FileTooBig { .. })), "{beyond:?}");
    // Also as whoever replays the log finds it.
    for session in [&party.session, &branching::session(&party.region).expect("it opens")] {
        let branch = session.open_branch("b", Access::Read).expect("a branch");
        let view = branch.view().expect("alive");
        let inode = view.inode(ino).expect("there");
        assert_eq!((inode.size, view.blocks(&inode)), (FILE_SIZE_MAX, 16));
        let mut bytes = [7; 5];
        assert_eq!(view.read(&inode, FILE_SIZE_MAX - 4, &mut bytes).expect("readable"), 4);
        assert_eq!(&bytes, b"\0end\x07");
    }
}

/// What has blocks already needs none, and what finds none leaves everything as it was.
#[test]
fn a_range_becomes_zeroes_as_a_whole_or_stays() {
    let party = party();
    let branch = &party.branch;
    let size = BIG as u64;
    let parts = |name: &str| {
        let view = branch.view().expect("alive");
        let inode = view.inode(ino(branch, name)).expect("there");
        let mut bytes = vec![7; 3 * BIG];
        let len = view.read(&inode, 0, &mut bytes).expect("readable");
        bytes.truncate(len);
        let mut parts: Vec<(u8, usize)> = Vec::new();
        for byte in bytes {
            match parts.last_mut() {
                Some((last, count)) if *last == byte => *count += 1,
                _ => parts.push((byte, 1)),
            }
        }
        parts
    };
    make(branch, "file");
    write(branch, "file", 1, BIG).expect("room");
    let ino = ino(branch, "file");
    let free = branch.free_blocks().expect("readable");
    branch.zero_range(ino, 100, 5000, false).expect("in place");
    branch.zero_range(ino, size - 100, 100, true).expect("in place");
    assert_eq!(branch.free_blocks().expect("readable"), free);
    let begun = [(1, 100), (0, 5000), (1, BIG - 5200), (0, 100)];
    assert_eq!(parts("file"), begun);
    let refused = branch.zero_range(ino, 8000, 100 * size, false);
    assert!(matches!(refused, Err(Error::NoSpace { .. })), "{refused:?}");
    assert_eq!(parts("file"), begun);
    branch.zero_range(ino, 8000, size, false).expect("room");
    assert_eq!(parts("file"), [(1, 100), (0, 5000), (1, 2900), (0, BIG)]);
    assert_eq!(branch.free_blocks().expect("readable"), free - 2);
    // What the base image has of a file cannot be changed where it lies.
    let of_base = self::ino(branch, "base");
    branch.zero_range(of_base, 10, 5000, false).expect("room");
    let byte = branching::BASE[0];
    assert_eq!(parts("base"), [(byte, 10), (0, 5000), (byte, branching::BASE.len() - 5010)]);
}

#[test]
fn a_branch_gets_the_room_of_one_that_was_aborted() {
    let Party { region, session, branch } = party();
    make(&branch, "big");
    write(&branch, "big", 1, BIG).expect("room");
    let sibling = session.create("sibling", "main").expect("a branch");
    make(&sibling, "big");
    assert!(matches!(write(&sibling, "big", 2, BIG), Err(Error::NoSpace { .. })));
    branch.abort().expect("aborted");
    drop(branch);
    write(&sibling, "big", 2, BIG).expect("room now");
    assert_eq!(content(&sibling, ino(&sibling, "big")).expect("readable"), 2);
    drop(sibling);
    branching::expect_clean(&region);
}

#[test]
fn main_takes_many_times_the_entries_that_there_is_room_for() {
    let (region, session) = branching::fresh(HEAP);
    let reader = branching::session(&region).expect("it opens");
    let follows = reader.open_branch("main", Access::Read).expect("main");
    let main = session.open_branch("main", Access::Write).expect("main");
    make(&main, "stays");
    write(&main, "stays", b's', 9000).expect("room");
    let mut records = std::collections::HashSet::new();
    for round in 0..10_000_u32 {
        make(&main, "comes");
        write(&main, "comes", round as u8, 100).expect("room again");
        if round % 500 == 0 {
            assert_eq!(content(&follows, ino(&follows, "comes")).expect("there"), round as u8);
        }
        remove(&main, "comes");
        records.insert(main.id());
    }
    // Entries of some 300 bytes a round would fill the heap six times.
    assert!(records.len() > 6, "{}", records.len());
    assert_eq!(content(&main, ino(&main, "stays")).expect("there"), b's');
    let text = |branch: &Branch| branching::dump(&branch.view().expect("alive")).expect("readable");
    assert_eq!(text(&main), text(&follows));
    assert_eq!(session.branches().expect("a list").len(), 1);
    drop((main, follows, session, reader));
    branching::expect_clean(&region);
    let session = branching::session(&region).expect("it opens");
    let main = session.open_branch("main", Access::Write).expect("main");
    assert_eq!(content(&main, ino(&main, "stays")).expect("there"), b's');
}

#[test]
fn a_file_in_use_without_a_name_survives_until_the_log_can_be_begun_anew() {
    let (region, session) = branching::fresh(HEAP);
    let main = session.open_branch("main", Access::Write).expect("main");
    make(&main, "open");
    write(&main, "open", b'o', 9000).expect("room");
    let number = ino(&main, "open");
    let kept = main.keep(number);
    remove(&main, "open");
    assert!(!main.renew().expect("tried"));
    for round in 0..600 {
        make(&main, "comes");
        write(&main, "comes", round as u8, 5000).expect("room");
        remove(&main, "comes");
    }
    assert_eq!(content(&main, number).expect("there"), b'o');
    drop(kept);
    assert!(main.renew().expect("tried"));
    assert!(!main.renew().expect("tried"), "there is nothing to begin anew");
    drop(main);
    branching::expect_clean(&region);
}

#[test]
fn files_that_came_and_went_are_forgotten_with_the_log() {
    let (region, session) = branching::fresh(HEAP);
    let main = session.open_branch("main", Access::Write).expect("main");
    make(&main, "stays");
    write(&main, "stays", b's', 5000).expect("room");
    make(&main, "goes");
    let number = ino(&main, "goes");
    remove(&main, "goes");
    let known = || main.view().expect("a view").inode(number);
    assert_eq!(known().expect("known without a name").nlink, 0);
    assert!(main.renew().expect("tried"));
    assert!(known().is_err());
    // What is there is there, for it and for others.
    assert_eq!(content(&main, ino(&main, "stays")).expect("there"), b's');
    make(&main, "new");
    let other = branching::session(&region).expect("it opens");
    let seen = other.open_branch("main", Access::Read).expect("main");
    assert_eq!(content(&seen, ino(&seen, "stays")).expect("there"), b's');
    assert_eq!(ino(&seen, "new"), ino(&main, "new"));
    drop((main, seen));
    branching::expect_clean(&region);
}

#[test]
fn who_gives_room_back_holds_nothing_afterwards() {
    let (region, session) = branching::fresh(HEAP);
    session.create("b", "main").expect("a branch").release().expect("let go");
    let _readers = ["main", "b"].map(|name| session.open_branch(name, Access::Read).expect("it"));
    session.collect().expect("collected");
    let other = branching::session(&region).expect("it opens");
    other.open_branch("b", Access::Write).expect("nobody holds it").abort().expect("aborted");
    session.collect().expect("collected");
    let main = other.open_branch("main", Access::Write).expect("nobody holds it");
    make(&main, "file");
    // Who holds it goes on doing so.
    other.collect().expect("collected");
    assert!(matches!(session.open_branch("main", Access::Write), Err(Error::Busy { .. })));
}

#[test]
fn who_reads_lets_go_of_nothing() {
    let Party { region, session, branch } = party();
    session.open_branch("b", Access::Read).expect("it is there").release().expect("nothing");
    let other = branching::session(&region).expect("it opens");
    assert!(matches!(other.open_branch("b", Access::Write), Err(Error::Busy { .. })));
    make(&branch, "file");
}

#[test]
fn the_last_that_writes_lets_go() {
    let (region, session) = branching::fresh(HEAP);
    let other = branching::session(&region).expect("it opens");
    let _reader = session.open_branch("main", Access::Read).expect("it is there");
    let first = session.open_branch("main", Access::Write).expect("nobody holds it");
    let second = session.open_branch("main", Access::Write).expect("it is ours");
    make(&first, "file");
    drop(first);
    assert!(matches!(other.open_branch("main", Access::Write), Err(Error::Busy { .. })));
    drop(second.clone());
    make(&second, "other");
    drop(second);
    let main = other.open_branch("main", Access::Write).expect("nobody holds it");
    let view = main.view().expect("a tree");
    for name in ["file", "other"] {
        assert!(
            view.lookup(&view.inode(1).expect("root"), name.as_bytes()).expect("read").is_some()
        );
    }
}
